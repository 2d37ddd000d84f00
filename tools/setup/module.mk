# SPDX-License-Identifier: GPL-2.0-only
#
# The suites that need kernel trees rather than programs of ours: the module against every kernel, and KUnit.

ifneq ($(wildcard guest/Kbuild),)
TESTS_SCRIPT += module
module_CMD := tools/setup/check-modules $(KVERS)
module_VARIANTS := opt
module_TIMEOUT := 1800
module_COST := 60
endif

ifneq ($(wildcard kunit/Kbuild),)
TESTS_SCRIPT += kunit
kunit_CMD := tools/setup/kunit-run
kunit_VARIANTS := opt
# From cold it builds its kernel, some minutes on two processors.
kunit_TIMEOUT := 2400
kunit_COST := 500
endif

TESTS_SCRIPT += tally
tally_CMD := tools/setup/tests/tally.py
tally_VARIANTS := opt

TESTS_SCRIPT += units
units_CMD := tools/setup/tests/units.py
units_PROGS = $(filter-out $(foreach p,$(PROGRAMS),$(if $($(p)_NOINSTALL),$(p))),$(PROGRAMS))
units_VARIANTS := opt
