# SPDX-License-Identifier: GPL-2.0-only
# The relay under libFuzzer: its core between hostile guests and donors, its settings (and the server's).

FUZZERS += fuzz-conf
fuzz-conf_SRCS := dom0-relay/fuzz/fuzz-conf.c dom0-relay/edge/config.c server/settings.c
fuzz-conf_LIBS := memx-relay-core memx-user
fuzz-conf_PKGS := inih jansson libxxhash libsystemd
fuzz-conf_CPPFLAGS := -Itools
fuzz-conf_CORPUS := dom0-relay/fuzz/corpus-conf
fuzz-conf_RUNS := 10000
fuzz-conf_MAX_LEN := 2000

fuzz-world_SRCS := $(addprefix dom0-relay/,fuzz/invariants.c tests/world.c tests/world-old.c tests/world-guest.c tests/world-io.c)

FUZZERS += fuzz-relay-donor
fuzz-relay-donor_SRCS := dom0-relay/fuzz/fuzz-relay-donor.c $(fuzz-world_SRCS)
fuzz-relay-donor_LIBS := memx-relay-core memx-server-core
fuzz-relay-donor_PKGS := libxxhash
fuzz-relay-donor_CPPFLAGS := -Itools
fuzz-relay-donor_CORPUS := dom0-relay/fuzz/corpus-donor
fuzz-relay-donor_RUNS := 500

FUZZERS += fuzz-relay-guest
fuzz-relay-guest_SRCS := dom0-relay/fuzz/fuzz-relay-guest.c $(fuzz-world_SRCS)
fuzz-relay-guest_LIBS := memx-relay-core memx-server-core
fuzz-relay-guest_PKGS := libxxhash
fuzz-relay-guest_CPPFLAGS := -Itools
fuzz-relay-guest_CORPUS := dom0-relay/fuzz/corpus-guest
fuzz-relay-guest_RUNS := 500

FUZZERS += fuzz-control
fuzz-control_SRCS := dom0-relay/fuzz/fuzz-control.c dom0-relay/edge/control.c $(fuzz-world_SRCS)
fuzz-control_LIBS := memx-relay-core memx-server-core memx-user
fuzz-control_PKGS := libxxhash inih jansson
fuzz-control_CPPFLAGS := -Itools
fuzz-control_CORPUS := dom0-relay/fuzz/corpus-control
fuzz-control_RUNS := 100

# XenStore and the hypervisor are played: their libraries are not linked.
FUZZERS += fuzz-xenstore
fuzz-xenstore_SRCS := dom0-relay/fuzz/fuzz-xenstore.c dom0-relay/edge/config.c
fuzz-xenstore_LIBS := memx-relay-core memx-user
fuzz-xenstore_PKGS := libxxhash inih jansson
fuzz-xenstore_LDLIBS := -lpthread
fuzz-xenstore_CPPFLAGS := -Itools
fuzz-xenstore_CORPUS := dom0-relay/fuzz/corpus-xenstore
fuzz-xenstore_RUNS := 10000

# Sockets, memory and descriptors are real; links and core are played.
FUZZERS += fuzz-shmguests
fuzz-shmguests_SRCS := dom0-relay/fuzz/fuzz-shmguests.c dom0-relay/edge/config.c
fuzz-shmguests_LIBS := memx-relay-core memx-user
fuzz-shmguests_PKGS := libxxhash inih jansson
fuzz-shmguests_CPPFLAGS := -Itools
fuzz-shmguests_CORPUS := dom0-relay/fuzz/corpus-shm
fuzz-shmguests_RUNS := 2000
fuzz-shmguests_MAX_LEN := 200
