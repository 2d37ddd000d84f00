# SPDX-License-Identifier: GPL-2.0-only
# Tests of what kernel and user space share, in user space: codec.h and check.h against the vectors, vring.h.

TESTS_C += test-codec
test-codec_SRCS := shared/tests/test-codec.c
test-codec_PKGS := libxxhash
$(foreach v,$(VARIANTS),$($(v)_DIR)/obj/test-codec/shared/tests/test-codec.o): build/include/memx-vectors.h

TESTS_C += test-vring
test-vring_SRCS := shared/tests/test-vring.c

TESTS_C += test-vring-stress
test-vring-stress_SRCS := shared/tests/test-vring-stress.c
test-vring-stress_LDLIBS := -lpthread
test-vring-stress_VARIANTS := tsan opt
test-vring-stress_TIMEOUT := 300
