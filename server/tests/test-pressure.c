// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-pressure.c - how much a donor may hold when its host is in want: steps down, floor, and the slow way up.
 */
#include "harness.h"

#include "../core/pressure.h"

#define S 1000000000ULL

static struct srv_pressure_view view_of(u64 now_s, u64 used)
{
	return (struct srv_pressure_view) {
		.now_ns = (1000 + now_s) * S, .limit = 1 << 20, .used = used, .available = SRV_NO_BOUND,
	};
}

static const struct srv_pressure calm = { .allowed = SRV_NO_BOUND };

static void nothing_happens_without_a_sign(void **state)
{
	struct srv_pressure p = calm;
	struct srv_pressure_view v = view_of(0, 5000);

	(void)state;
	assert_true(srv_pressure_step(&p, &v) == SRV_NO_BOUND);
	v.floor = 1000;
	v.available = 1000;
	assert_true(srv_pressure_step(&p, &v) == SRV_NO_BOUND);
}

static void what_lacks_is_given_at_once_and_once(void **state)
{
	struct srv_pressure p = calm;
	struct srv_pressure_view v = view_of(0, 50000);

	(void)state;
	v.floor = 10000;
	v.available = 7000;
	assert_int_equal(srv_pressure_step(&p, &v), 47000);
	/* A third of it has come back to the host: the aim is the same. */
	v = view_of(1, 49000);
	v.floor = 10000;
	v.available = 8000;
	assert_int_equal(srv_pressure_step(&p, &v), 47000);
	/* Somebody else takes more. */
	v = view_of(2, 49000);
	v.floor = 10000;
	v.available = 4000;
	assert_int_equal(srv_pressure_step(&p, &v), 43000);
	/* More than there is cannot be given. */
	v.available = 0;
	v.floor = 1 << 30;
	assert_int_equal(srv_pressure_step(&p, &v), 0);
}

static void stalls_are_steps_with_time_to_be_felt(void **state)
{
	struct srv_pressure p = calm;
	struct srv_pressure_view v = view_of(0, 500000);
	u64 step = (1 << 20) / 64;

	(void)state;
	v.stalled = true;
	assert_int_equal(srv_pressure_step(&p, &v), 500000 - step);
	v.now_ns += S;
	assert_int_equal(srv_pressure_step(&p, &v), 500000 - step);
	v.now_ns += S;
	assert_int_equal(srv_pressure_step(&p, &v), 500000 - 2 * step);
	/* Nothing is left to give. */
	v.used = 10;
	v.now_ns += 2 * S;
	assert_int_equal(srv_pressure_step(&p, &v), 0);
}

static void a_little_store_gives_little(void **state)
{
	struct srv_pressure p = calm;
	struct srv_pressure_view v = view_of(0, 8192);

	(void)state;
	v.limit = 16384;
	v.stalled = true;
	assert_int_equal(srv_pressure_step(&p, &v), 8192 - 1024);
}

static void more_is_taken_again_after_a_while_and_slowly(void **state)
{
	struct srv_pressure p = { .allowed = 100000, .hurt_ns = 1000 * S };
	struct srv_pressure_view v = view_of(SRV_CALM_S - 1, 100000);
	u64 step = (1 << 20) / 64, before;
	u32 rounds = 0;

	(void)state;
	assert_int_equal(srv_pressure_step(&p, &v), 100000);
	v.now_ns += S;
	assert_int_equal(srv_pressure_step(&p, &v), 100000 + step);
	for (before = p.allowed; p.allowed != SRV_NO_BOUND; before = p.allowed) {
		v.now_ns += S;
		v.used = p.allowed;
		srv_pressure_step(&p, &v);
		assert_true(p.allowed == SRV_NO_BOUND || p.allowed == before + step);
		assert_in_range(++rounds, 1, 60);
	}
	assert_in_range(rounds, 50, 60);
}

static void growing_leaves_half_of_what_is_free(void **state)
{
	struct srv_pressure p = { .allowed = 1000, .hurt_ns = 1000 * S };
	struct srv_pressure_view v = view_of(100, 1000);

	(void)state;
	v.floor = 5000;
	v.available = 5100;
	assert_int_equal(srv_pressure_step(&p, &v), 1050);
	/* Nothing of it was used yet: that it is still free is no reason for more. */
	v.now_ns += S;
	assert_int_equal(srv_pressure_step(&p, &v), 1050);
	v.available = 5000;
	assert_int_equal(srv_pressure_step(&p, &v), 1050);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_happens_without_a_sign),
		cmocka_unit_test(what_lacks_is_given_at_once_and_once),
		cmocka_unit_test(stalls_are_steps_with_time_to_be_felt),
		cmocka_unit_test(a_little_store_gives_little),
		cmocka_unit_test(more_is_taken_again_after_a_while_and_slowly),
		cmocka_unit_test(growing_leaves_half_of_what_is_free),
	};

	return cmocka_run_group_tests_name("pressure", tests, NULL, NULL);
}
