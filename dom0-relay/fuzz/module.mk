# SPDX-License-Identifier: GPL-2.0-only
# The relay under libFuzzer: its settings (and the server's).

FUZZERS += fuzz-conf
fuzz-conf_SRCS := dom0-relay/fuzz/fuzz-conf.c dom0-relay/edge/config.c server/settings.c
fuzz-conf_LIBS := memx-relay-core memx-user
fuzz-conf_PKGS := inih jansson libxxhash libsystemd
fuzz-conf_CPPFLAGS := -Itools
fuzz-conf_CORPUS := dom0-relay/fuzz/corpus-conf
fuzz-conf_RUNS := 10000
fuzz-conf_MAX_LEN := 2000
