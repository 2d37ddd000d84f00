# SPDX-License-Identifier: GPL-2.0-only
# The donor's core under libFuzzer: "make fuzz" runs it for long, suite fuzz-server-short for a moment over the kept corpus.

FUZZERS += fuzz-server
fuzz-server_SRCS := server/fuzz/fuzz-server.c
fuzz-server_LIBS := memx-server-core
fuzz-server_PKGS := libxxhash
fuzz-server_CORPUS := server/fuzz/corpus

TESTS_SCRIPT += fuzz-server-short
fuzz-server-short_CMD := server/fuzz/run-short build/fuzz/bin/fuzz-server 10 server/fuzz/corpus
fuzz-server-short_DEPS := build/fuzz/bin/fuzz-server
fuzz-server-short_VARIANTS := opt
fuzz-server-short_TIMEOUT := 120
