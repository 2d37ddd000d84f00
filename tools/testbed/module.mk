# SPDX-License-Identifier: GPL-2.0-only

TESTS_XEN += testbed
testbed_CMD := tools/testbed/tests/selftest.py
testbed_PROGS := memx-dom0-relay memx-server memxctl
testbed_DEPS := module-6.1
testbed_TIMEOUT := 1500
testbed_COST := 80
