# SPDX-License-Identifier: GPL-2.0-only
# The guest as a process: the module's engine over lanes in shared memory.

LIBRARIES += memx-native
memx-native_SRCS := $(addprefix guest/,attach.c engine.c frames.c lane.c receive.c records.c reqs.c slots.c) \
	$(addprefix tools/native/,cluster.c link.c native.c session.c)
memx-native_PKGS := jansson libxxhash
