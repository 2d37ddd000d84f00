# SPDX-License-Identifier: GPL-2.0-only
# The donor's core under libFuzzer.

FUZZERS += fuzz-server
fuzz-server_SRCS := server/fuzz/fuzz-server.c
fuzz-server_LIBS := memx-server-core
fuzz-server_PKGS := libxxhash
fuzz-server_CORPUS := server/fuzz/corpus
fuzz-server_RUNS := 20000
