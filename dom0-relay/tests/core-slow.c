// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-slow.c - donors that answer, but not what is waited for; and donors that have much to do: who is dropped, and how soon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

static u16 left_out;
static u32 after;		/* so many are answered before */

static bool leaves_out(struct wdonor *d, struct frame *f)
{
	(void)d;
	return (memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != left_out || (after && after--);
}

/* As much as the guest may have on its way, anywhere but in the first extent. */
static void storm(void)
{
	u32 i, slot;

	for (i = 0; i < 32; i++) {
		slot = 64 + (u32)(world_random(w) % (g->slots - 64)) / 2 * 2;
		if (i & 1 || !wguest_fetch(g, slot, 2))
			wguest_store(g, slot, 2);
	}
}

/* Its heartbeat goes on, and so does all the rest: what it leaves out is not waited for longer than it may be silent, and a little. */
static void what_is_left_out_is_not_waited_for(void **state)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_DISCARD, MEMX_OP_FETCH, MEMX_OP_PLACE, MEMX_OP_FENCE };
	u32 i, k;

	(void)state;
	for (i = 0; i < 2 * sizeof(ops) / sizeof(ops[0]); i++) {
		bool load = i & 1;
		struct wreq *r;

		cluster(3, 2);
		stored(0, 8);
		left_out = ops[i / 2];
		holder(0, 0)->tamper = leaves_out;
		for (k = 0; load && k < 3; k++)
			w->donor[k].work_ns = 2 * MS;
		if (left_out == MEMX_OP_FENCE)	/* it comes back, and is on its way to be of use, for ever */
			wdonor_drop(holder(0, 0));
		world_pass(w, 100);
		if (load)
			storm();
		if (left_out == MEMX_OP_DISCARD)
			r = wguest_discard(g, 4, 4);
		else if (left_out == MEMX_OP_FETCH)
			r = wguest_fetch(g, 0, 8);
		else
			r = wguest_store(g, left_out == MEMX_OP_PLACE ? 64 : 4, 4);
		if (left_out == MEMX_OP_PLACE && !r)		/* the storm was there first */
			r = wguest_store(g, 4, 4);
		assert_non_null(r);
		assert_true(ms_until(r, 2000) < 1000);
		assert_int_equal(r->status, MEMX_S_OK);
		world_pass(w, 1000);
		if (left_out != MEMX_OP_PLACE)
			assert_true(world_counters(w).donor_losses > (left_out == MEMX_OP_FENCE));
		for (k = 0; k < 3; k++)
			w->donor[k].tamper = NULL;
		repaired();
		assert_int_equal(live_copies(0), 2);
		r = wguest_fetch(g, 0, 4);
		assert_non_null(r);
		assert_true(ms_until(r, 1000) < 500);
		if (i + 1 < 2 * sizeof(ops) / sizeof(ops[0]))
			world_free(w);
	}
}

/* One single store it does not answer, and all others. */
static void one_that_is_left_out_is_enough(void **state)
{
	struct wdonor *d;
	struct wreq *r;
	u64 began;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	d = holder(0, 0);
	left_out = MEMX_OP_STORE;
	d->tamper = leaves_out;
	r = wguest_store(g, 8, 1);
	world_settle(w);
	d->tamper = NULL;
	assert_false(r->done);
	for (began = w->now; w->now - began < 900 * MS;) {	/* others go to it all the time */
		struct wreq *other = wguest_store(g, 16, 1);

		world_pass(w, 10);
		assert_true(other->done && other->status == MEMX_S_OK);
		if (r->done)
			break;
	}
	assert_true(r->done && r->status == MEMX_S_OK);
	assert_int_equal(state_at(0, d), MEMX_R_STALE);
}

/*
 * All donors have more to do than they can: whatever is sent waits for more than a second, heartbeats among it, and each new
 * thing behind all the others. Nobody is dropped for that.
 */
static void who_is_only_behind_stays(void **state)
{
	u64 began, frames, longest = 0;
	u32 i;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	for (i = 0; i < 3; i++)
		w->donor[i].work_ns = 25 * MS;
	began = w->now;
	frames = w->donor[0].frames;
	while (w->now - began < 20000 * MS) {
		storm();
		world_pass(w, 10);
		for (i = 0; i < 3; i++)
			if (w->donor[i].busy_until > w->now + longest)
				longest = w->donor[i].busy_until - w->now;
	}
	assert_true(longest > 900 * MS);		/* it was a storm */
	assert_true(w->donor[0].frames - frames > 700);
	assert_int_equal(world_counters(w).donor_losses, 0);
	assert_int_equal(world_counters(w).replicas_dropped, 0);
	assert_int_equal(g->errors, 0);
}

/* The same, and one of them then does nothing any more: a second from then on, whatever is before it in the queue. */
static void who_stands_still_in_a_storm_is_dropped(void **state)
{
	struct wdonor *d;
	struct wreq *r;
	u32 i;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	for (i = 0; i < 3; i++)
		w->donor[i].work_ns = 5 * MS;
	for (i = 0; i < 300; i++) {
		storm();
		world_pass(w, 10);
	}
	assert_int_equal(world_counters(w).donor_losses, 0);
	d = holder(0, 0);
	left_out = MEMX_OP_STORE;
	d->tamper = leaves_out;
	r = wguest_store(g, 8, 1);
	assert_true(ms_until(r, 2000) < 1000);
	assert_int_equal(r->status, MEMX_S_OK);
}

/* Our own loop stood still: the time counts for nobody. */
static void a_lag_counts_for_nobody(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	left_out = MEMX_OP_STORE;
	holder(0, 0)->tamper = leaves_out;
	r = wguest_store(g, 8, 1);
	world_pass(w, 400);
	w->now += 20000 * MS;
	core_tick(w->core, w->now);
	assert_int_equal(world_counters(w).lags, 1);
	world_pass(w, 500);
	assert_int_equal(world_counters(w).donor_losses, 0);
	assert_false(r->done);
	world_pass(w, 300);
	assert_int_equal(world_counters(w).donor_losses, 1);
	assert_true(r->done && r->status == MEMX_S_OK);
}

/* It is back at once, and would be the only one to take its own place: not until a while has passed, longer each time. */
static void who_leaves_something_out_gets_no_copy_at_once(void **state)
{
	struct wdonor *d;
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	d = holder(0, 0);
	left_out = MEMX_OP_STORE;
	d->tamper = leaves_out;
	assert_non_null(wguest_store(g, 8, 1));
	world_pass(w, 650);
	assert_int_equal(g->busy, 0);
	for (i = 0; i < 30; i++) {
		struct wreq *r = wguest_store(g, 8, 1);

		world_pass(w, 20);		/* nobody waits for it meanwhile */
		assert_true(r->done && r->status == MEMX_S_OK);
	}
	assert_int_equal(state_at(0, d), MEMX_R_STALE);
	assert_int_equal(world_counters(w).donor_losses, 1);
	d->tamper = NULL;
	repaired();
	assert_int_equal(live_copies(0), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(what_is_left_out_is_not_waited_for), rule(one_that_is_left_out_is_enough), rule(who_is_only_behind_stays),
		rule(who_stands_still_in_a_storm_is_dropped), rule(a_lag_counts_for_nobody),
		rule(who_leaves_something_out_gets_no_copy_at_once),
	};

	return cmocka_run_group_tests_name("relay core: donors that are slow, or leave something out", tests, NULL, NULL);
}
