# SPDX-License-Identifier: GPL-2.0-only
# The relay: its core (no I/O) and the edges around it.

LIBRARIES += memx-relay-core
memx-relay-core_SRCS := $(sort $(wildcard dom0-relay/core/*.c)) shared/user/checks.c
memx-relay-core_PKGS := libxxhash

# libxenvchan and libxenctrl belong to one release of Xen and come in a package of its name: taken in statically.
PROGRAMS += memx-dom0-relay
memx-dom0-relay_SRCS := dom0-relay/main.c $(sort $(wildcard dom0-relay/edge/*.c))
memx-dom0-relay_LIBS := memx-relay-core memx-user
memx-dom0-relay_PKGS := libsystemd inih jansson libxxhash
memx-dom0-relay_LDLIBS := -l:libxenvchan.a -l:libxenctrl.a -lxenstore -lxenevtchn -lxengnttab -lxencall -lxenforeignmemory \
	-lxendevicemodel -lxentoolcore -lxentoollog -lpthread
INSTALL_FILES += dom0-relay/relay.conf:$(docdir)/ dom0-relay/memx-dom0-relay.service:$(unitdir)/

PROGRAMS += memx-shm-probe
memx-shm-probe_SRCS := dom0-relay/tests/probe.c
memx-shm-probe_LIBS := memx-user
memx-shm-probe_PKGS := libxxhash
memx-shm-probe_NOINSTALL := y

TESTS_C += relay-edge-pace
relay-edge-pace_SRCS := dom0-relay/tests/edge-pace.c

TESTS_C += relay-edge-xenstore
relay-edge-xenstore_SRCS := dom0-relay/tests/edge-xenstore.c dom0-relay/edge/config.c
relay-edge-xenstore_LIBS := memx-relay-core memx-user
relay-edge-xenstore_PKGS := libxxhash inih jansson
relay-edge-xenstore_LDLIBS := -lpthread

TESTS_SCRIPT += relay-daemon
relay-daemon_CMD := dom0-relay/tests/daemon.py
relay-daemon_PROGS := memx-dom0-relay memx-server memxctl
relay-daemon_TIMEOUT := 600
TESTS_SCRIPT += relay-guests
relay-guests_CMD := dom0-relay/tests/guests.py
relay-guests_PROGS := memx-dom0-relay memx-server memxctl memx-shm-probe
relay-guests_TIMEOUT := 600

TESTS_XEN += relay-xen
relay-xen_CMD := dom0-relay/tests/xen.py
relay-xen_PROGS := memx-dom0-relay memx-server memxctl
relay-xen_DEPS := module-6.1
relay-xen_TIMEOUT := 1500
relay-xen_COST := 60
