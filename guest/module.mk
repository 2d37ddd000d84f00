# SPDX-License-Identifier: GPL-2.0-only
#
# What is installed in guests: the glue that switches the swap on. The module itself is for DKMS or a package
# of modules; "make module" builds it.

GUEST_FILES += guest/udev/memx-swapon:$(sbindir)/
GUEST_FILES += guest/udev/60-memx.rules:$(udevdir)/
GUEST_FILES += guest/udev/memx-swap.service:$(unitdir)/

# The module on real Xen against libxenvchan itself; see guest/tests/test-vchan.py.
PROGRAMS += vchan-client
vchan-client_SRCS := guest/tests/vchan-client.c
vchan-client_LDLIBS := -l:libxenvchan.a -lxenstore -lxenevtchn -lxengnttab -lxentoollog -l:libxxhash.a
vchan-client_NOINSTALL := y

TESTS_XEN += xen-vchan-pv-6.1 xen-vchan-pvh-6.12
xen-vchan-pv-6.1_CMD := guest/tests/test-vchan.py 6.1 pv
xen-vchan-pvh-6.12_CMD := guest/tests/test-vchan.py 6.12 pvh pages_through_libxenvchan hung_client_is_survived loads_leave_nothing
xen-vchan-pv-6.1_DEPS := module-6.1
xen-vchan-pvh-6.12_DEPS := module-6.12
$(foreach t,xen-vchan-pv-6.1 xen-vchan-pvh-6.12,$(eval $(t)_PROGS := vchan-client memx-pages)$(eval $(t)_TIMEOUT := 1800))

# The module with options, and over suspend, restore and checkpoint, with the real relay and donors.
TESTS_XEN += xen-suspend-pv-6.1 xen-options-pv-6.1
ifneq ($(XEN_ALL),)
TESTS_XEN += xen-suspend-pvh-6.12
endif
xen-suspend-pv-6.1_CMD := guest/tests/test-suspend.py 6.1 pv
xen-suspend-pvh-6.12_CMD := guest/tests/test-suspend.py 6.12 pvh
xen-options-pv-6.1_CMD := guest/tests/test-options.py 6.1 pv
$(foreach t,xen-suspend-pv-6.1 xen-suspend-pvh-6.12 xen-options-pv-6.1,\
	$(eval $(t)_PROGS := memx-dom0-relay memx-server memxctl memx-pages)$(eval $(t)_DEPS := module-$(lastword $(subst -, ,$(t))))\
	$(eval $(t)_TIMEOUT := 1500)$(eval $(t)_COST := 110))
xen-suspend-pv-6.1_COST := 310
xen-vchan-pv-6.1_COST := 200
xen-vchan-pvh-6.12_COST := 120
