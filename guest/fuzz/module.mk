# SPDX-License-Identifier: GPL-2.0-only
# The module's engine, in user space, under libFuzzer.

FUZZERS += fuzz-engine
fuzz-engine_SRCS := guest/fuzz/fuzz-engine.c \
	$(addprefix guest/,slots.c records.c reqs.c frames.c attach.c lane.c receive.c engine.c)
fuzz-engine_CPPFLAGS := -Itools
fuzz-engine_LDLIBS := -lxxhash -lpthread
fuzz-engine_CORPUS := guest/fuzz/corpus
fuzz-engine_RUNS := 1000
