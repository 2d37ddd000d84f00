# SPDX-License-Identifier: GPL-2.0-only
# Tests of the relay's core, over the real core of the donor.

core-world_SRCS := dom0-relay/tests/world.c dom0-relay/tests/world-guest.c

TESTS_C += relay-core-basic relay-core-guest relay-core-donor relay-core-heal relay-core-judge relay-core-lies relay-core-slow relay-core-budget relay-core-place relay-core-roster relay-core-reclaim relay-core-balance relay-core-sim
relay-core-basic_SRCS := dom0-relay/tests/core-basic.c $(core-world_SRCS)
relay-core-basic_LIBS := memx-relay-core memx-server-core
relay-core-basic_PKGS := libxxhash
relay-core-guest_SRCS := dom0-relay/tests/core-guest.c $(core-world_SRCS)
relay-core-guest_LIBS := memx-relay-core memx-server-core
relay-core-guest_PKGS := libxxhash
relay-core-donor_SRCS := dom0-relay/tests/core-donor.c dom0-relay/tests/donors.c $(core-world_SRCS)
relay-core-donor_LIBS := memx-relay-core memx-server-core
relay-core-donor_PKGS := libxxhash
relay-core-heal_SRCS := dom0-relay/tests/core-heal.c dom0-relay/tests/donors.c $(core-world_SRCS)
relay-core-heal_LIBS := memx-relay-core memx-server-core
relay-core-heal_PKGS := libxxhash
relay-core-judge_SRCS := dom0-relay/tests/core-judge.c dom0-relay/tests/donors.c $(core-world_SRCS)
relay-core-judge_LIBS := memx-relay-core memx-server-core
relay-core-judge_PKGS := libxxhash
relay-core-lies_SRCS := dom0-relay/tests/core-lies.c dom0-relay/tests/donors.c $(core-world_SRCS)
relay-core-lies_LIBS := memx-relay-core memx-server-core
relay-core-lies_PKGS := libxxhash
relay-core-slow_SRCS := dom0-relay/tests/core-slow.c dom0-relay/tests/donors.c $(core-world_SRCS)
relay-core-slow_LIBS := memx-relay-core memx-server-core
relay-core-slow_PKGS := libxxhash
relay-core-budget_SRCS := dom0-relay/tests/core-budget.c dom0-relay/tests/donors.c $(core-world_SRCS)
relay-core-budget_LIBS := memx-relay-core memx-server-core
relay-core-budget_PKGS := libxxhash
relay-core-place_SRCS := dom0-relay/tests/core-place.c $(core-world_SRCS)
relay-core-place_LIBS := memx-relay-core memx-server-core
relay-core-place_PKGS := libxxhash
relay-core-reclaim_SRCS := dom0-relay/tests/core-reclaim.c $(core-world_SRCS)
relay-core-reclaim_LIBS := memx-relay-core memx-server-core
relay-core-reclaim_PKGS := libxxhash
relay-core-roster_SRCS := dom0-relay/tests/core-roster.c $(core-world_SRCS)
relay-core-roster_LIBS := memx-relay-core memx-server-core
relay-core-roster_PKGS := libxxhash
relay-core-balance_SRCS := dom0-relay/tests/core-balance.c $(core-world_SRCS)
relay-core-balance_LIBS := memx-relay-core memx-server-core
relay-core-balance_PKGS := libxxhash
relay-core-sim_SRCS := dom0-relay/tests/core-sim.c $(core-world_SRCS)
relay-core-sim_LIBS := memx-relay-core memx-server-core
relay-core-sim_PKGS := libxxhash
relay-core-sim_VARIANTS := opt asan
relay-core-sim_TIMEOUT := 1800
relay-core-sim_COST := 200
