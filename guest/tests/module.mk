# SPDX-License-Identifier: GPL-2.0-only

TESTS_C += test-engine
test-engine_SRCS := guest/tests/test-engine.c guest/slots.c guest/records.c guest/reqs.c guest/frames.c guest/attach.c \
	guest/lane.c guest/receive.c guest/engine.c
test-engine_LDLIBS := -lxxhash -lpthread
