# SPDX-License-Identifier: GPL-2.0-only
# The guest as a process: the module's engine over lanes in shared memory.

LIBRARIES += memx-native
memx-native_SRCS := $(addprefix guest/,attach.c engine.c frames.c lane.c receive.c records.c reqs.c slots.c) \
	$(addprefix tools/native/,churn.c cluster.c link.c native.c pattern.c session.c)
memx-native_PKGS := jansson libxxhash

PROGRAMS += memx-guest
memx-guest_SRCS := tools/native/memx-guest.c
memx-guest_LIBS := memx-native memx-user
memx-guest_PKGS := jansson libxxhash inih
memx-guest_NOINSTALL := y

# What tests set against a relay: a guest that keeps no rule.
PROGRAMS += memx-hostile
memx-hostile_SRCS := $(addprefix tools/native/,hostile.c tricks-frames.c tricks-session.c)
memx-hostile_LIBS := memx-user
memx-hostile_PKGS := jansson libxxhash inih
memx-hostile_NOINSTALL := y

# And between it and its donors: one that lies.
PROGRAMS += memx-hostile-donor
memx-hostile-donor_SRCS := $(addprefix tools/native/,hostile-donor.c lies.c)
memx-hostile-donor_LIBS := memx-user
memx-hostile-donor_PKGS := libxxhash
memx-hostile-donor_NOINSTALL := y

TESTS_SCRIPT += native-hostile-donor
native-hostile-donor_CMD := tools/native/tests/hostile_donor.py
native-hostile-donor_PROGS := memx-server memx-dom0-relay memx-guest memx-hostile-donor
native-hostile-donor_TIMEOUT := 900
native-hostile-donor_COST := 100

TESTS_SCRIPT += native-data native-faults native-reclaim native-hostile
native-data_CMD := tools/native/tests/data.py
native-data_PROGS := memx-server memx-dom0-relay memx-guest
native-data_VARIANTS := asan tsan
native-data_TIMEOUT := 600
native-data_COST := 20
native-faults_CMD := tools/native/tests/faults.py
native-faults_PROGS := memx-server memx-dom0-relay memx-guest
native-faults_TIMEOUT := 900
native-faults_COST := 90
native-reclaim_CMD := tools/native/tests/reclaim.py
native-reclaim_PROGS := memx-server memx-dom0-relay memx-guest
native-reclaim_TIMEOUT := 600
native-reclaim_COST := 25
native-hostile_CMD := tools/native/tests/hostile.py
native-hostile_PROGS := memx-server memx-dom0-relay memx-guest memx-hostile
native-hostile_TIMEOUT := 600

# Plainly built, for the instructions that read a ring are to be those of the engine and no sanitizer's; and what the compiler
# makes of a copy may load some bytes twice, so it is told to call the one in watched.c.
PROGRAMS += memx-guest-watched
memx-guest-watched_SRCS := tools/native/memx-guest.c tools/native/watched.c $(memx-native_SRCS)
memx-guest-watched_LIBS := memx-user
memx-guest-watched_PKGS := jansson libxxhash inih
memx-guest-watched_CPPFLAGS := -DWATCHED -fno-builtin-memcpy -U_FORTIFY_SOURCE
memx-guest-watched_NOINSTALL := y

TESTS_SCRIPT += native-second-writer
native-second-writer_CMD := tools/native/tests/second_writer.py
native-second-writer_PROGS := memx-server memx-dom0-relay memx-guest-watched
native-second-writer_VARIANTS := opt
native-second-writer_TIMEOUT := 300
native-second-writer_COST := 5

TESTS_SCRIPT += native-limits
native-limits_CMD := tools/native/tests/limits.py
native-limits_PROGS := memx-server memx-dom0-relay memx-guest
native-limits_VARIANTS := opt
native-limits_COST := 3
