# SPDX-License-Identifier: GPL-2.0-only
# User-space library of the daemons and tools.

LIBRARIES += memx-user
memx-user_SRCS := $(addprefix shared/user/,log.c text.c conf.c loop.c net.c conn.c ctl.c)
memx-user_PKGS := inih jansson
