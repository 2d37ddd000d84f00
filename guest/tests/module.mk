# SPDX-License-Identifier: GPL-2.0-only

ENGINE_WORLD := guest/tests/engine-world.c \
	$(addprefix guest/,slots.c records.c reqs.c frames.c attach.c lane.c receive.c engine.c)

TESTS_C += test-engine test-engine-attach
$(foreach t,test-engine test-engine-attach,\
	$(eval $(t)_SRCS := guest/tests/$(t).c $(ENGINE_WORLD))\
	$(eval $(t)_LDLIBS := -lxxhash -lpthread))

# Lanes that work at once, in threads: for the thread sanitizer.
TESTS_C += test-engine-lanes
test-engine-lanes_SRCS := guest/tests/test-engine-lanes.c $(ENGINE_WORLD)
test-engine-lanes_LDLIBS := -lxxhash -lpthread
test-engine-lanes_VARIANTS := tsan

test-engine_LDLIBS += -Wl,--wrap=pthread_mutex_unlock
