# SPDX-License-Identifier: GPL-2.0-only

ENGINE_WORLD := guest/tests/engine-world.c \
	$(addprefix guest/,slots.c records.c reqs.c frames.c attach.c lane.c receive.c engine.c)

TESTS_C += test-engine test-engine-attach
$(foreach t,test-engine test-engine-attach,\
	$(eval $(t)_SRCS := guest/tests/$(t).c $(ENGINE_WORLD))\
	$(eval $(t)_LDLIBS := -lxxhash -lpthread))
test-engine_LDLIBS += -Wl,--wrap=pthread_mutex_unlock
