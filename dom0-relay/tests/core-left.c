// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-left.c - every live copy of an extent lost its memory at once, and several others are left, each with a part of it: none of
 * them is given up before there is one that has what all of them have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"
#include "world-guest.h"

static struct wdonor *a, *b;

/* Nothing is copied before repair is to go on. */
static void slow_repair(struct core_config *cfg)
{
	cfg->repair_rate = 4096;
}

static void repair_goes_on(void)
{
	w->cfg.repair_rate = 64 << 20;
	core_reconfigure(w->core, &w->cfg, w->now);
}

/* Two copies of one extent, whose 64 pages are all stored. */
static void one_extent(u32 donors)
{
	w = world_new(11, donors, 32, slow_repair);
	g = wguest_new(w, 64, 2);
	assert_true(wguest_start(g));
	stored(0, 32);
	stored(32, 32);
}

static struct wdonor *in_state(u8 state)
{
	u32 i;

	for (i = 0; i < g->record[0].replicas; i++)
		if (g->record[0].replica[i].state == state)
			return holder(0, i);
	fail_msg("no copy is in state %u", state);
	return NULL;
}

static void goes(struct wdonor *d)
{
	d->there = false;
	wdonor_drop(d);
}

/* Its connection breaks for a moment, while some pages are written. */
static void misses(struct wdonor *d, u32 slot, u32 count)
{
	goes(d);
	stored(slot, count);
	d->there = true;
	world_pass(w, 500);
}

/* A page of it at a time: where one cannot be read, those beside it count. */
static void all_is_read(void)
{
	u32 i;

	for (i = 0; i < 64; i++)
		fetched(i, 1);
}

/* Of four copies the live one is lost: a stale one, one more that missed something, and one that has only what came last are left. */
static void what_was_left_is_kept_at_once(void **state)
{
	(void)state;
	one_extent(5);
	a = holder(0, 0);
	b = holder(0, 1);
	misses(b, 32, 16);
	misses(in_state(MEMX_R_SYNCING), 48, 8);
	assert_int_equal(g->record[0].replicas, 4);
	wdonor_restart(a);
	world_pass(w, 1000);
	all_is_read();
	assert_int_equal(world_counters(w).extents_lost, 1);
}

/* {a live, b stale, a third syncing}, and a loses its memory. */
static void two_are_left(u32 donors)
{
	one_extent(donors);
	a = holder(0, 0);
	b = holder(0, 1);
	misses(b, 5, 1);
	wdonor_restart(a);
}

static void what_was_left_is_kept_later(void **state)
{
	(void)state;
	two_are_left(4);
	repair_goes_on();
	world_pass(w, 120000);
	all_is_read();
	misses(b, 6, 1);
	world_pass(w, 120000);
	all_is_read();
}

static u32 degraded(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return (u32)st.extents_degraded;
}

/* Of two whole copies one may be lost. */
static void it_is_whole(void)
{
	repaired();
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(g->record[0].replicas, 2);
	wdonor_restart(holder(0, 0));
	world_pass(w, 500);
	all_is_read();
	repaired();
	wdonor_restart(holder(0, 0));
	world_pass(w, 500);
	all_is_read();
}

static void what_was_left_is_made_whole(void **state)
{
	(void)state;
	two_are_left(4);
	world_pass(w, 500);
	assert_int_equal(live_copies(0), 1);
	assert_int_equal(degraded(), 1);
	repair_goes_on();
	it_is_whole();
	assert_int_equal(world_counters(w).extents_lost, 1);
}

/* One of those that are left goes away before anything was copied from it: what it alone has waits for it, and it is not given up. */
static void who_is_away_is_waited_for(void **state)
{
	struct wreq *r;

	(void)state;
	two_are_left(5);
	goes(b);
	world_pass(w, 500);
	stored(7, 1);
	repair_goes_on();
	r = wguest_fetch(g, 40, 1);
	wguest_do(g, r);
	world_pass(w, 5000);
	assert_false(r->done);
	assert_int_not_equal(state_at(0, b), MEMX_R_NONE);
	assert_int_equal(live_copies(0), 1);
	b->there = true;
	world_pass(w, 5000);
	assert_true(r->done);
	assert_int_equal(r->status, MEMX_S_OK);
	all_is_read();
	it_is_whole();
}

/* The copy that the record calls live is no better than the others: where it is away another one serves. */
static void any_of_them_serves(void **state)
{
	struct wdonor *d;

	(void)state;
	two_are_left(4);
	world_pass(w, 500);
	d = in_state(MEMX_R_LIVE);
	goes(d);
	stored(9, 4);
	fetched(9, 4);
	assert_int_not_equal(state_at(0, d), MEMX_R_NONE);
	d->there = true;
	world_pass(w, 500);
	repair_goes_on();
	all_is_read();
	it_is_whole();
}

/* The next relay knows only the record. */
static void the_next_relay_loses_nothing(void **state)
{
	(void)state;
	two_are_left(4);
	world_pass(w, 500);
	world_relay_restart(w);
	world_settle(w);
	assert_true(wguest_start(g));
	all_is_read();
	repair_goes_on();
	repaired();
	all_is_read();
	misses(b, 6, 1);
	repaired();
	all_is_read();
}

/*
 * The next relay knows only the record, and of what is left that calls one live which has hardly anything. Nobody reads a page before
 * both copies count as whole: any of them may be lost then.
 */
static void both_are_whole_to_the_next_relay(void (*then)(void))
{
	two_are_left(4);
	world_pass(w, 500);
	world_relay_restart(w);
	world_settle(w);
	assert_true(wguest_start(g));
	repair_goes_on();
	repaired();
	assert_int_equal(live_copies(0), 2);
	then();
	all_is_read();
}

static void b_is_lost(void)
{
	wdonor_restart(b);
	world_pass(w, 1000);
}

static void b_is_left_out(void)
{
	goes(b);
	stored(7, 1);
	world_pass(w, 20000);
	b->there = true;
	world_pass(w, 1000);
}

static void the_next_relay_completes_the_live_one(void **state)
{
	(void)state;
	both_are_whole_to_the_next_relay(b_is_lost);
}

static void the_next_relay_gives_up_no_whole_one(void **state)
{
	(void)state;
	both_are_whole_to_the_next_relay(b_is_left_out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(what_was_left_is_kept_at_once), rule(what_was_left_is_kept_later),
		rule(what_was_left_is_made_whole), rule(who_is_away_is_waited_for), rule(any_of_them_serves),
		rule(the_next_relay_loses_nothing), rule(the_next_relay_completes_the_live_one),
		rule(the_next_relay_gives_up_no_whole_one),
	};

	return cmocka_run_group_tests_name("relay core: what is left", tests, NULL, NULL);
}
