# SPDX-License-Identifier: GPL-2.0-only
# The benchmark of the data path, beside the limits of TCP and of the ring.

PROGRAMS += memx-bench
memx-bench_SRCS := $(addprefix tools/bench/,memx-bench.c drive.c hist.c limit-ring.c limit-tcp.c measure.c)
memx-bench_LIBS := memx-native memx-user
memx-bench_PKGS := jansson libxxhash inih
memx-bench_BINDIR := bin
