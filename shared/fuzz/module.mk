# SPDX-License-Identifier: GPL-2.0-only
# What all parts share, under libFuzzer.

FUZZERS += fuzz-vring fuzz-codec fuzz-text
fuzz-vring_SRCS := shared/fuzz/fuzz-vring.c
fuzz-vring_CPPFLAGS := -Itools
fuzz-vring_CORPUS := shared/fuzz/corpus-vring
fuzz-vring_RUNS := 20000
fuzz-codec_SRCS := shared/fuzz/fuzz-codec.c
fuzz-codec_CPPFLAGS := -Itools
fuzz-codec_CORPUS := shared/fuzz/corpus-codec
fuzz-codec_RUNS := 50000
fuzz-text_SRCS := shared/fuzz/fuzz-text.c
fuzz-text_LIBS := memx-user
fuzz-text_CPPFLAGS := -Itools
fuzz-text_CORPUS := shared/fuzz/corpus-text
fuzz-text_RUNS := 50000
fuzz-text_MAX_LEN := 400

FUZZERS += fuzz-conn
fuzz-conn_SRCS := shared/fuzz/fuzz-conn.c
fuzz-conn_LIBS := memx-user
fuzz-conn_PKGS := inih jansson
fuzz-conn_CPPFLAGS := -Itools
fuzz-conn_CORPUS := shared/fuzz/corpus-conn
fuzz-conn_RUNS := 8000
