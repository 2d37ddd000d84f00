// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-basic.c - the relay's core with honest peers: attaching, placing, storing, fetching, discarding, detaching.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

static void test_round_trip(u32 donors, u32 replicas)
{
	struct world *w = world_new(1, donors, 16, NULL);
	struct wguest *g = wguest_new(w, 256, replicas);
	u32 slot;

	assert_true(wguest_start(g));
	assert_int_equal(g->slots, 256);
	assert_int_equal(g->replicas, replicas);
	for (slot = 0; slot < 256; slot += 32)
		assert_int_equal(wguest_do(g, wguest_store(g, slot, 32)), MEMX_S_OK);
	for (slot = 0; slot < 256; slot += 16)
		assert_int_equal(wguest_do(g, wguest_fetch(g, slot, 16)), MEMX_S_OK);
	for (slot = 0; slot < 256; slot += 64)
		assert_int_equal(wguest_do(g, wguest_discard(g, slot, 8)), MEMX_S_OK);
	for (slot = 0; slot < 256; slot += 64)
		assert_int_equal(wguest_do(g, wguest_store(g, slot + 4, 3)), MEMX_S_OK);
	for (slot = 0; slot < 256; slot += 64)
		assert_int_equal(wguest_do(g, wguest_fetch(g, slot + 4, 3)), MEMX_S_OK);
	assert_int_equal(g->errors, 0);
	world_free(w);
}

static void round_trip_r1(void **state)
{
	(void)state;
	test_round_trip(1, 1);
	test_round_trip(3, 1);
}

static void round_trip_r2(void **state)
{
	(void)state;
	test_round_trip(2, 2);
	test_round_trip(4, 2);
}

static void round_trip_r3(void **state)
{
	(void)state;
	test_round_trip(4, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip_r1),
		cmocka_unit_test(round_trip_r2),
		cmocka_unit_test(round_trip_r3),
	};

	return cmocka_run_group_tests_name("relay core: basics", tests, NULL, NULL);
}
