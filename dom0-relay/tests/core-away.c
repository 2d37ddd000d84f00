// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-away.c - donors that are away although their address takes connections: the process hangs, a proxy before it answers in its
 * place, or something else listens there. What waits for them ends as it does with those whose address refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

enum {
	DEAD_MS		= 10000,	/* donor_dead, unless it is set */
	MARGIN_MS	= 5000,		/* in which the few pages of these tests are copied, too */
};

static u32 degraded(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return (u32)st.extents_degraded;
}

static u32 wait_ms(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return (u32)(st.repair_wait_ns / MS);
}

/* A proxy that takes what the relay says, and has nobody to pass it on to. */
static bool says_nothing(struct wdonor *d, struct frame *f)
{
	(void)d;
	(void)f;
	return false;
}

static u32 refuses_hello(struct wdonor *d, const struct memx_head *head)
{
	(void)d;
	return head->op == MEMX_OP_HELLO ? MEMX_S_PROTO : MEMX_S_OK;
}

/* Three donors, two copies of everything; a donor that has some. */
static struct wdonor *one_of_three(void)
{
	u32 i;

	cluster(3, 2);
	for (i = 0; i < g->slots; i += 32)
		stored(i, 32);
	w->reconnect_ns = 500 * MS;
	w->watched = "donor-dead";
	return holder(0, 1);
}

/* Nothing is written meanwhile: what nobody touches gets its second copy back all the same. */
static void counts_as_dead(struct wdonor *d)
{
	u32 before;

	world_pass(w, DEAD_MS / 2);
	assert_int_not_equal(degraded(), 0);
	before = wait_ms();
	assert_in_range(before, 1, DEAD_MS);
	world_pass(w, DEAD_MS / 5);
	assert_in_range(wait_ms(), 1, before - DEAD_MS / 10);
	world_pass(w, DEAD_MS - DEAD_MS / 2 - DEAD_MS / 5 + MARGIN_MS);
	assert_int_equal(w->seen, 1);
	assert_true(d->cd->dead);
	assert_int_equal(degraded(), 0);
	assert_int_equal(wait_ms(), 0);
}

static void who_hangs_counts_as_dead(void **state)
{
	struct wdonor *d;
	u32 i;

	(void)state;
	d = one_of_three();
	d->hung = true;
	counts_as_dead(d);
	w->watched = "donor-down";
	w->seen = 0;
	world_pass(w, DEAD_MS);
	assert_int_equal(w->seen, 0);		/* that was said */
	assert_true(d->cd->losses > DEAD_MS / 2000);
	d->hung = false;
	world_pass(w, MARGIN_MS);
	assert_true(donor_ok(d->cd) && !d->cd->dead);
	for (i = 0; i < g->slots; i += 32)
		fetched(i, 32);
}

static void who_takes_connections_counts_as_dead(void **state)
{
	struct wdonor *d;

	(void)state;
	d = one_of_three();
	d->tamper = says_nothing;
	wdonor_drop(d);
	counts_as_dead(d);
}

static void who_refuses_hello_counts_as_dead(void **state)
{
	struct wdonor *d;

	(void)state;
	d = one_of_three();
	d->refuse = refuses_hello;
	wdonor_drop(d);
	counts_as_dead(d);
}

/* One whose connections break again and again is there whenever it serves: it keeps what it has. */
static void who_serves_now_and_then_is_not_dead(void **state)
{
	struct wdonor *d;
	u32 i;

	(void)state;
	d = one_of_three();
	for (i = 0; i < 2 * DEAD_MS / 1000; i++) {
		wdonor_drop(d);
		world_pass(w, 1000);
	}
	assert_int_equal(w->seen, 0);
	assert_int_equal(degraded(), 0);
	assert_int_equal(world_counters(w).replicas_dropped, 0);
}

/* A new extent for which the others have no room waits for it until then, and fails. */
static void no_space_does_not_wait_for_who_hangs(void **state)
{
	struct wreq *r;
	u32 i;

	(void)state;
	w = world_new(11, 2, 6, NULL);
	g = wguest_new(w, 256, 1);
	assert_true(wguest_start(g));
	w->reconnect_ns = 500 * MS;
	w->donor[1].hung = true;
	wdonor_limit(&w->donor[0], 1);
	world_pass(w, 2000);
	i = 0;
	do {
		r = wguest_store(g, i, 32);
		i += 32;
	} while (wguest_do(g, r) == MEMX_S_OK && i < g->slots);
	assert_false(r->done);			/* it may be back in a moment */
	ms_until(r, DEAD_MS + MARGIN_MS);
	assert_true(r->done);
	assert_int_equal(r->status, MEMX_S_NOSPACE);
}

/*
 * It is back, and one round trip from being fenced: what has no room at the others waits for that, as it did for its return. It is
 * looked at in each of the moments on the way.
 */
static void no_space_waits_for_who_is_back(void **state)
{
	struct wdonor *d;
	struct wreq *r;
	u32 i, ms;

	(void)state;
	for (ms = 10; ms <= 250; ms += 10) {
		if (ms > 10)
			world_free(w);
		w = world_new(11, 2, 6, NULL);
		g = wguest_new(w, 256, 1);
		assert_true(wguest_start(g));
		d = &w->donor[1];
		for (i = 0; i < 2; i++)
			stored(64 * i, 32);
		d->way_ns = 50 * MS;
		wdonor_drop(d);
		wdonor_limit(&w->donor[0], 1);
		wdonor_up(d);
		world_pass(w, ms);
		r = wguest_store(g, 192, 32);
		assert_non_null(r);
		ms_until(r, 2000);
		assert_true(r->done);
		assert_int_equal(r->status, MEMX_S_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(who_hangs_counts_as_dead),
		rule(who_takes_connections_counts_as_dead),
		rule(who_refuses_hello_counts_as_dead),
		rule(who_serves_now_and_then_is_not_dead),
		rule(no_space_does_not_wait_for_who_hangs), rule(no_space_waits_for_who_is_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
