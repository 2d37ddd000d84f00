# SPDX-License-Identifier: GPL-2.0-only
# The admin's tool for relay and server.

PROGRAMS += memxctl
memxctl_SRCS := $(addprefix tools/memxctl/,memxctl.c table.c wait.c)
memxctl_LIBS := memx-user
memxctl_PKGS := jansson
memxctl_BINDIR := bin
