# SPDX-License-Identifier: GPL-2.0-only
# User-space library of the daemons and tools.

LIBRARIES += memx-user
memx-user_SRCS := $(addprefix shared/user/,log.c text.c conf.c loop.c net.c conn.c ctl.c shm.c)
memx-user_PKGS := inih jansson

TESTS_C += test-conf
test-conf_SRCS := shared/user/tests/test-conf.c
test-conf_LIBS := memx-user
test-conf_PKGS := inih jansson

TESTS_C += test-loop
test-loop_SRCS := shared/user/tests/test-loop.c
test-loop_LIBS := memx-user
test-loop_PKGS := inih jansson
