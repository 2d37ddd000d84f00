# SPDX-License-Identifier: GPL-2.0-only
#
# Guests on real Xen, one testbed each. The first has all of the tests; the others, which differ by kernel and kind of guest,
# those that the kernel or the kind of guest may make a difference to.

TESTS_XEN += xen-pv-6.1 xen-pvh-6.12 xen-pv-6.12 xen-pv-7.3 xen-pvh-6.1
xen-pv-6.1_CMD := tools/xen-tests/test-swap.py 6.1 pv
xen-pvh-6.12_CMD := tools/xen-tests/test-swap.py 6.12 pvh size_is_true fill_and_verify shmem_and_processes \
	relay_dies_under_load swapoff_under_load
xen-pv-6.12_CMD := tools/xen-tests/test-swap.py 6.12 pv fill_and_verify freed_slots_are_discarded off_and_on_again swapoff_under_load \
	leaves_nothing load_loop comes_back
xen-pvh-6.1_CMD := tools/xen-tests/test-swap.py --replicas 1 6.1 pvh size_is_true fill_and_verify relay_dies_under_load
# With as many CPUs as it takes for two store lanes.
xen-pv-7.3_CMD := tools/xen-tests/test-swap.py --vcpus 4 7.3 pv size_is_true fill_and_verify shmem_and_processes sort_in_place \
	relay_dies_under_load off_and_on_again swapoff_under_load

$(foreach k,pv-6.1 pv-6.12 pv-7.3 pvh-6.1 pvh-6.12,\
	$(eval xen-$(k)_PROGS := memx-dom0-relay memx-server memxctl memx-pages memx-sort)\
	$(eval xen-$(k)_DEPS := module-$(lastword $(subst -, ,$(k))))\
	$(eval xen-$(k)_TIMEOUT := 2400)\
	$(eval xen-$(k)_COST := 200))
xen-pv-6.1_COST := 460

# The same kernels outside Xen, where the module is not loaded.
TESTS_XEN += outside-xen
outside-xen_CMD := tools/xen-tests/test-outside.py $(KVERS)
outside-xen_DEPS := $(KVERS:%=module-%)
outside-xen_COST := 12

# The udev rule and the units, with udev and systemd.
TESTS_XEN += xen-systemd-6.1
xen-systemd-6.1_CMD := tools/xen-tests/test-systemd.py 6.1 pv
xen-systemd-6.1_PROGS := memx-dom0-relay memx-server memxctl memx-pages memx-guest
xen-systemd-6.1_DEPS := module-6.1
xen-systemd-6.1_TIMEOUT := 1500
xen-systemd-6.1_COST := 150

# A guest short of memory while donors fail, and the same without what protects it: it has to hang there.
HOGS_SECONDS ?= 600
HOGS_SEED ?= 1
TESTS_XEN += hogs-6.1 hogs-control
hogs-6.1_CMD := tools/xen-tests/test-hogs.py 6.1 128
hogs-control_CMD := tools/xen-tests/test-hogs.py --control 6.1
hogs-control_DEPS := module-6.1-unsafe-reclaim
ifneq ($(XEN_ALL),)
TESTS_XEN += hogs-6.12
endif
hogs-6.12_CMD := tools/xen-tests/test-hogs.py 6.12 256
HOGS_SUITES := $(foreach k,6.1 6.12,$(foreach m,128 256,hogs-$(m)-$(k)))
$(foreach k,6.1 6.12,\
	$(eval hogs-$(k)_DEPS := module-$(k))\
	$(foreach m,128 256,\
		$(eval hogs-$(m)-$(k)_CMD := tools/xen-tests/test-hogs.py $(k) $(m) $(HOGS_SECONDS) $(HOGS_SEED))\
		$(eval hogs-$(m)-$(k)_DEPS := module-$(k))))
$(foreach s,$(HOGS_SUITES),$(eval $(s)_TIMEOUT := $(shell echo $$(($(HOGS_SECONDS) + 1800)))))
$(foreach s,hogs-6.1 hogs-6.12 hogs-control,$(eval $(s)_TIMEOUT := 1200)$(eval $(s)_COST := 100))

# The module under a kernel that looks for mistakes.
DEBUG_SECONDS ?= 60
DEBUG_STEP ?= 8
DEBUG_SUITES := debug-pvh debug-pv
$(foreach k,pv pvh,\
	$(eval debug-$(k)_CMD := tools/xen-tests/test-debug.py $(k) $(DEBUG_SECONDS) $(DEBUG_STEP))\
	$(eval debug-$(k)_DEPS := module-debug-$(k))\
	$(eval debug-$(k)_TIMEOUT := 5400))
TESTS_XEN += debug-short
debug-short_CMD := tools/xen-tests/test-debug.py --short pvh 5 80
debug-short_DEPS := module-debug-pvh
debug-short_TIMEOUT := 1800
debug-short_COST := 220

TESTS_APART += $(HOGS_SUITES) $(DEBUG_SUITES)
$(foreach s,$(HOGS_SUITES) hogs-6.1 hogs-6.12 hogs-control debug-pv debug-pvh debug-short,\
	$(eval $(s)_PROGS := memx-dom0-relay memx-server memxctl memx-pages memx-hogs memx-failnth))
