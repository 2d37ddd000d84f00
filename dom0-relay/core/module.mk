# SPDX-License-Identifier: GPL-2.0-only
# Tests of the relay's core, over the real core of the donor.

core-world_SRCS := dom0-relay/tests/world.c dom0-relay/tests/world-guest.c

TESTS_C += relay-core-basic relay-core-sim
relay-core-basic_SRCS := dom0-relay/tests/core-basic.c $(core-world_SRCS)
relay-core-basic_LIBS := memx-relay-core memx-server-core
relay-core-basic_PKGS := libxxhash
relay-core-sim_SRCS := dom0-relay/tests/core-sim.c $(core-world_SRCS)
relay-core-sim_LIBS := memx-relay-core memx-server-core
relay-core-sim_PKGS := libxxhash
relay-core-sim_VARIANTS := opt asan
relay-core-sim_TIMEOUT := 300
