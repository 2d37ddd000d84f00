// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-places.c - repair's eight places: a donor that is slow to answer, or breaks the protocol again and again, does not keep them
 * from the extents of others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"
#include "world-guest.h"

enum {
	MANY	= 90,
	LATE	= 2000,		/* ms that the slow donor takes for what repair asks: it may */
};

static struct wdonor *gone, *slow;

static void spread(u32 donors, u32 replicas)
{
	u32 i;

	w = world_new(11, donors, 2 * MANY, NULL);
	g = wguest_new(w, 64 * MANY, replicas);
	assert_true(wguest_start(g));
	for (i = 0; i < MANY; i++) {
		stored(i * 64, 32);
		stored(i * 64 + 32, 32);
	}
	gone = &w->donor[0];
	slow = &w->donor[1];
}

/* Extents that lack a copy, of those to which the slow donor is something, or of the others. */
static u32 lacking(bool at_slow)
{
	u32 i, n = 0;

	for (i = 0; i < MANY; i++)
		n += (state_at(i, slow) != MEMX_R_NONE) == at_slow &&
		     live_copies(i) - (state_at(i, gone) == MEMX_R_LIVE) < g->replicas;
	return n;
}

static void away(struct wdonor *d)
{
	d->there = false;
	wdonor_drop(d);
}

/* What repair asks it answers late; all else at once. */
static struct list late = { &late, &late };

static bool answers_repair_late(struct wdonor *d, struct frame *f)
{
	u16 op = memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;
	struct frame *copy;

	(void)d;
	if (op != MEMX_OP_SCAN && op != MEMX_OP_FETCH && op != MEMX_OP_STORE)
		return true;
	copy = frame_new(&f->hdr, f->body, f->len);
	copy->due = w->now + LATE * MS;
	list_add_tail(&copy->in_queue, &late);
	return false;
}

static void pass_second(void)
{
	u32 i;

	for (i = 0; i < 10; i++) {
		world_pass(w, 100);
		while (!list_empty(&late) && list_first(&late, struct frame, in_queue)->due <= w->now) {
			struct frame *f = list_first(&late, struct frame, in_queue);

			list_del(&f->in_queue);
			if (slow->conn)
				list_add_tail(&f->in_queue, &slow->conn->to_relay);
			else
				frame_free(f);
		}
	}
}

/* Seconds until the extents to which the slow donor is nothing are whole. */
static u32 others_whole(u32 most)
{
	u32 s;

	for (s = 0; s < most && (!gone->cd->dead || lacking(false)); s++)
		pass_second();
	return s;
}

static void slow_keeps_nobody_waiting(u32 replicas)
{
	u32 quick, i;

	spread(replicas + 2, replicas);
	away(gone);
	quick = others_whole(60);
	world_free(w);
	spread(replicas + 2, replicas);
	away(gone);
	slow->tamper = answers_repair_late;
	assert_true(others_whole(60) <= quick + 3);
	assert_true(lacking(true) > MANY / 10);
	for (i = 0; lacking(true) && i < 200; i++)		/* its own are made as well */
		pass_second();
	assert_int_equal(lacking(true), 0);
	assert_int_equal(slow->cd->losses, 0);
	queue_clear(&late);
}

static void who_is_slow_leaves_places_to_others(void **state)
{
	(void)state;
	slow_keeps_nobody_waiting(2);
}

static void and_so_it_is_of_three_copies(void **state)
{
	(void)state;
	slow_keeps_nobody_waiting(3);
}

/* Every extent that lacks a copy has to do with the slow donor: all places are in use. */
static void what_nobody_else_wants_is_theirs(void **state)
{
	u32 i, busiest = 0;

	(void)state;
	spread(3, 2);
	away(gone);
	slow->tamper = answers_repair_late;
	for (i = 0; i < 20; i++) {
		pass_second();
		if (w->core->repairing > busiest)
			busiest = w->core->repairing;
	}
	assert_int_equal(busiest, 8);
	assert_true(lacking(true) > 0);
	queue_clear(&late);
}

/* One that has come later finds all places kept by a slow donor, for a guest that nobody else was beside. */
static void a_guest_that_comes_later_has_its_share(void **state)
{
	struct wguest *first;
	struct wdonor *lost;
	u32 i;

	(void)state;
	spread(3, 2);
	first = g;
	away(gone);
	slow->tamper = answers_repair_late;
	for (i = 0; i < 20; i++)
		pass_second();
	assert_int_equal(w->core->repairing, 8);
	assert_true(lacking(true) > 10);
	g = wguest_new(w, 64, 2);
	world_add_donor(w, 8);
	world_add_donor(w, 8);
	slow->cd->shunned_until = w->now + 3600 * 1000 * MS;	/* so that the new guest's copies come to others */
	assert_true(wguest_start(g));
	stored(0, 32);
	assert_int_equal(state_at(0, slow), MEMX_R_NONE);
	lost = holder(0, 0);
	assert_int_equal(core_donor_empty(w->core, lost->name, true, w->now), 0);
	for (i = 0; i < 5; i++)
		pass_second();
	assert_int_equal(state_at(0, lost), MEMX_R_NONE);
	assert_int_equal(live_copies(0), 2);
	g = first;
	assert_true(lacking(true) > 0);
	queue_clear(&late);
}

/* ---- sources that break the protocol, or hang up, whenever repair asks ---------------------------------------------------------- */

static bool breaks_it(struct wdonor *d, struct frame *f)
{
	(void)d;
	if (memx_le16(f->hdr.op) == (MEMX_OP_SCAN | MEMX_OP_REPLY))
		f->hdr.flags = 0;
	return true;
}

static bool never_answers(struct wdonor *d, struct frame *f)
{
	(void)d;
	return memx_le16(f->hdr.op) != (MEMX_OP_SCAN | MEMX_OP_REPLY);
}

/* By the guest's records each extent has three live copies, none of them at a donor that is away for good. */
static bool all_whole(u32 extents)
{
	u32 i;

	for (i = 0; i < extents; i++)
		if (live_copies(i) < 3 || state_at(i, gone) == MEMX_R_LIVE)
			return false;
	return true;
}

/*
 * It comes back each time, and does all that it is asked before repair asks. Another live copy is read in its place, and its own one
 * stays what it is.
 */
static void who_breaks_off_each_time_is_done_without(void **state)
{
	static bool (*const ways[])(struct wdonor *d, struct frame *f) = { breaks_it, never_answers };
	struct wdonor *bad;
	u32 i, k;

	(void)state;
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (i)
			world_free(w);
		cluster(5, 3);
		for (k = 0; k < 4; k++)
			stored(k * 64, 8);
		gone = holder(0, 2);
		bad = holder(0, 1);
		bad->tamper = ways[i];
		w->watched = "repair-avoids";
		w->seen = 0;
		away(gone);
		for (k = 0; k < 60 && !all_whole(4); k++)
			world_pass(w, 1000);
		assert_true(all_whole(4));
		assert_int_equal(w->seen, 1);
		assert_true(world_counters(w).repair_avoided > 0);
		bad->tamper = NULL;
		repaired();
		for (k = 0; k < 4; k++)
			fetched(k * 64, 8);
	}
}

/* The only live copy is read however often its donor broke off: when it does so no more, all is made whole. */
static void the_only_source_is_asked_again(void **state)
{
	struct wdonor *bad;
	u32 k;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	gone = holder(0, 1);
	bad = holder(0, 0);
	bad->tamper = breaks_it;
	away(gone);
	for (k = 0; k < 60; k++)
		world_pass(w, 1000);
	assert_int_equal(state_at(0, bad), MEMX_R_LIVE);
	assert_true(world_counters(w).repair_avoided > 0);
	bad->tamper = NULL;
	world_pass(w, 3000);
	repaired();
	assert_int_equal(live_copies(0), 2);
	fetched(0, 8);
}

/* One that is merely started anew in the middle of a pass, now and then, is no such source. */
static void who_merely_restarts_is_not_blamed(void **state)
{
	u32 round, k;

	(void)state;
	cluster(4, 3);
	for (k = 0; k < 4; k++)
		stored(k * 64, 32);
	for (round = 0; round < 8; round++) {
		struct wdonor *source = holder(0, 0), *target = holder(0, 1);

		wdonor_restart(target);
		for (k = 0; k < 100000 && (!w->core->repairing || list_empty(&source->conn->to_relay)); k++)
			if (!world_roll(w))
				world_tick(w);
		assert_true(w->core->repairing);
		wdonor_drop(source);
		repaired();
	}
	assert_int_equal(world_counters(w).repair_avoided, 0);
	for (k = 0; k < 4; k++)
		fetched(k * 64, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(who_is_slow_leaves_places_to_others), rule(and_so_it_is_of_three_copies),
		rule(what_nobody_else_wants_is_theirs), rule(a_guest_that_comes_later_has_its_share),
		rule(who_breaks_off_each_time_is_done_without), rule(the_only_source_is_asked_again),
		rule(who_merely_restarts_is_not_blamed),
	};

	return cmocka_run_group_tests_name("relay core: places of repair", tests, NULL, NULL);
}
