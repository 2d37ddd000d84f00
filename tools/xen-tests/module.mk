# SPDX-License-Identifier: GPL-2.0-only
#
# Guests on real Xen, one testbed each. The first has all of the tests; the others, which differ by kernel and kind of guest,
# those that the kernel or the kind of guest may make a difference to. The longest come first, so that none runs alone at
# the end of "make check".

TESTS_XEN += xen-pv-6.1 xen-pvh-6.12 xen-pv-6.12 xen-pv-7.3 xen-pvh-6.1
xen-pv-6.1_CMD := tools/xen-tests/test-swap.py 6.1 pv
xen-pvh-6.12_CMD := tools/xen-tests/test-swap.py 6.12 pvh size_is_true fill_and_verify shmem_and_processes \
	relay_dies_under_load swapoff_under_load
xen-pv-6.12_CMD := tools/xen-tests/test-swap.py 6.12 pv fill_and_verify swapoff_under_load leaves_nothing load_loop comes_back
xen-pvh-6.1_CMD := tools/xen-tests/test-swap.py 6.1 pvh fill_and_verify relay_dies_under_load
xen-pv-7.3_CMD := tools/xen-tests/test-swap.py 7.3 pv size_is_true fill_and_verify shmem_and_processes relay_dies_under_load \
	swapoff_under_load

$(foreach k,pv-6.1 pv-6.12 pv-7.3 pvh-6.1 pvh-6.12,\
	$(eval xen-$(k)_PROGS := memx-dom0-relay memx-server memxctl memx-pages)\
	$(eval xen-$(k)_DEPS := module-$(lastword $(subst -, ,$(k))))\
	$(eval xen-$(k)_TIMEOUT := 1500))
