# SPDX-License-Identifier: GPL-2.0-only
# User-space library of the daemons and tools.

LIBRARIES += memx-user
memx-user_SRCS := $(addprefix shared/user/,log.c text.c conf.c loop.c net.c conn.c ctl.c shm.c)
memx-user_PKGS := inih jansson

TESTS_C += test-conf
test-conf_SRCS := shared/user/tests/test-conf.c
test-conf_LIBS := memx-user
test-conf_PKGS := inih jansson

TESTS_C += test-log
test-log_SRCS := shared/user/tests/test-log.c
test-log_LIBS := memx-user
test-log_PKGS := inih jansson

TESTS_C += test-checks
test-checks_SRCS := shared/user/tests/test-checks.c shared/user/checks.c
test-checks_PKGS := libxxhash
test-checks_VARIANTS := asan opt

TESTS_C += test-loop test-shm
test-loop_SRCS := shared/user/tests/test-loop.c
test-loop_LIBS := memx-user
test-loop_PKGS := inih jansson
test-loop_VARIANTS := asan tsan

test-shm_SRCS := shared/user/tests/test-shm.c
test-shm_LIBS := memx-user
test-shm_PKGS := inih jansson
test-shm_VARIANTS := asan tsan
test-shm_TIMEOUT := 300
