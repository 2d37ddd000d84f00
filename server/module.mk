# SPDX-License-Identifier: GPL-2.0-only
# The donor: its core without I/O as a library (simulation, tests and fuzzers link it), the daemon around it.

LIBRARIES += memx-server-core
memx-server-core_SRCS := $(addprefix server/core/,core.c session.c extent.c io.c chunks.c pressure.c reclaim.c drop.c heap_store.c) shared/user/checks.c
memx-server-core_PKGS := libxxhash

PROGRAMS += memx-server
memx-server_SRCS := $(addprefix server/,main.c settings.c home.c peer.c control.c pressure.c reclaim.c holder.c memfd_store.c)
memx-server_LIBS := memx-server-core memx-user
memx-server_PKGS := libxxhash inih jansson libsystemd

INSTALL_FILES += server/server.conf:$(docdir)/ server/memx-server.service:$(unitdir)/
