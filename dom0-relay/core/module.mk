# SPDX-License-Identifier: GPL-2.0-only
# Tests of the relay's core, over the real core of the donor.

core-world_SRCS := $(addprefix dom0-relay/tests/,world.c world-old.c world-guest.c world-io.c)

# One program for each subject; those whose donors answer as they are told, and not as they should, beside the rest.
CORE_HONEST := basic guest place reclaim roster balance
CORE_ODD := attach conf donor double heal judge lies slow late budget pool turns places away left copies
$(foreach t,$(CORE_HONEST) $(CORE_ODD),$(eval relay-core-$(t)_SRCS := dom0-relay/tests/core-$(t).c $(core-world_SRCS)))
$(foreach t,$(CORE_ODD),$(eval relay-core-$(t)_SRCS += dom0-relay/tests/donors.c))
relay-core-sim_SRCS := $(addprefix dom0-relay/tests/,core-sim.c sim-strike.c sim-judge.c) $(core-world_SRCS)

CORE_TESTS := $(addprefix relay-core-,$(CORE_HONEST) $(CORE_ODD) sim)
TESTS_C += $(CORE_TESTS)
$(foreach t,$(CORE_TESTS),$(eval $(t)_LIBS := memx-relay-core memx-server-core))
$(foreach t,$(CORE_TESTS),$(eval $(t)_PKGS := libxxhash))
relay-core-sim_VARIANTS := opt asan
relay-core-sim_TIMEOUT := 1800
relay-core-sim_COST := 200
