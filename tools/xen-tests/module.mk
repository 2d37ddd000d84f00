# SPDX-License-Identifier: GPL-2.0-only
#
# Tests on real Xen: one testbed each. The first has all of the tests, the others what differs by kernel and kind of guest.
xen-swap-progs := memx-dom0-relay memx-server memxctl memx-pages
TESTS_XEN += xen-pv-6.1 xen-pvh-6.12 xen-pv-6.12 xen-pvh-6.1 xen-pv-7.3
xen-pv-6.1_CMD := tools/xen-tests/test-swap.py 6.1 pv
xen-pvh-6.12_CMD := tools/xen-tests/test-swap.py 6.12 pvh size_is_true fill_and_verify shmem_and_processes relay_dies_under_load swapoff_under_load
xen-pv-6.12_CMD := tools/xen-tests/test-swap.py 6.12 pv fill_and_verify swapoff_under_load leaves_nothing load_loop comes_back
xen-pvh-6.1_CMD := tools/xen-tests/test-swap.py 6.1 pvh fill_and_verify relay_dies_under_load
xen-pv-7.3_CMD := tools/xen-tests/test-swap.py 7.3 pv size_is_true fill_and_verify shmem_and_processes relay_dies_under_load swapoff_under_load
$(foreach t,xen-pv-6.1 xen-pv-6.12 xen-pv-7.3 xen-pvh-6.1 xen-pvh-6.12,$(eval $(t)_PROGS := $(xen-swap-progs))$(eval $(t)_TIMEOUT := 900))
