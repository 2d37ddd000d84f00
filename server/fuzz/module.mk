# SPDX-License-Identifier: GPL-2.0-only
# The donor under libFuzzer: its core, its control socket, its talk with another donor.

FUZZERS += fuzz-server
fuzz-server_SRCS := server/fuzz/fuzz-server.c
fuzz-server_LIBS := memx-server-core
fuzz-server_PKGS := libxxhash
fuzz-server_CORPUS := server/fuzz/corpus
fuzz-server_RUNS := 20000

FUZZERS += fuzz-server-control
fuzz-server-control_SRCS := server/fuzz/fuzz-server-control.c server/control.c
fuzz-server-control_LIBS := memx-server-core memx-user
fuzz-server-control_PKGS := libxxhash inih jansson
fuzz-server-control_CPPFLAGS := -Itools
fuzz-server-control_CORPUS := server/fuzz/corpus-control
fuzz-server-control_RUNS := 2000

FUZZERS += fuzz-holder
fuzz-holder_SRCS := server/fuzz/fuzz-holder.c
fuzz-holder_LIBS := memx-server-core memx-user
fuzz-holder_PKGS := libxxhash inih jansson
fuzz-holder_CPPFLAGS := -Itools
fuzz-holder_CORPUS := server/fuzz/corpus-holder
fuzz-holder_RUNS := 5000
