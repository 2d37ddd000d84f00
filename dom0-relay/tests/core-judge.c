// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-judge.c - what is made of donors that are late, that refuse, or that say not now; and what of their word alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

/* ---- refusals ---------------------------------------------------------------------------------------------------------------- */

/* Not now, for ever: the copy of such a donor is given up like that of one that is away, and the store ends. */
static void not_now_is_not_for_ever(void **state)
{
	u32 i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct wdonor *never;
		struct wreq *r;

		cluster(3, 2);
		stored(0, 8);
		never = holder(0, 0);
		odd_op = MEMX_OP_STORE;
		odd_status = i ? MEMX_S_LIMIT : MEMX_S_AGAIN;
		never->tamper = oddly;
		r = wguest_store(g, 8, 1);
		world_pass(w, 300);
		assert_false(r->done);
		assert_int_equal(world_counters(w).donor_violations, 0);
		world_pass(w, 3000);
		assert_true(r->done && r->status == MEMX_S_OK);
		assert_true(world_counters(w).donor_violations >= 1);
		fetched(0, 9);
		if (!i)
			world_free(w);
	}
}

/* One that has no copy of the extent. */
static struct wdonor *donor_beside(u32 extent)
{
	u32 i;

	for (i = 0; i < w->donors; i++)
		if (state_at(extent, &w->donor[i]) == MEMX_R_NONE)
			return &w->donor[i];
	return NULL;
}

/* It confirms the fence, and with the next answer denies it: it is hung up on, and the other copy goes on. */
static void a_fence_is_not_denied_for_ever(void **state)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_PLACE, MEMX_OP_FETCH };
	u32 i;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct wdonor *never;
		struct wreq *r, *f;

		cluster(3, 2);
		stored(0, 8);
		never = holder(0, 0);
		odd_op = ops[i];
		odd_status = i & 1 ? MEMX_S_NOFENCE : MEMX_S_UNKNOWN;
		never->tamper = oddly;
		if (i == 1) {			/* the record has to change, and a new extent to be placed */
			assert_int_equal(core_donor_empty(w->core, holder(0, 1)->name, true, w->now), 0);
			stored(64, 8);
		}
		r = wguest_store(g, 8, 1);
		f = wguest_fetch(g, 0, 8);
		world_pass(w, 3000);
		assert_true(r->done && r->status == MEMX_S_OK && f->done && f->status == MEMX_S_OK);
		if (i != 2)
			assert_true(world_counters(w).donor_violations >= 1);
		fetched(0, 9);
		if (i < 2)
			world_free(w);
	}
}

static u16 newer_op;

/* Of every write: not done, there is a newer record than that. */
static bool newer(struct wdonor *d, struct frame *f)
{
	struct memx_io io;

	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != newer_op || f->len < sizeof(io))
		return true;
	memcpy(&io, f->body, sizeof(io));
	io.generation = memx_put_le64(memx_le64(io.generation) + 1);
	memcpy(f->body, &io, sizeof(io));
	f->hdr.status = memx_put_le32(MEMX_S_GENERATION);
	f->len = sizeof(io);
	f->hdr.len = memx_put_le32(sizeof(io));
	return true;
}

/*
 * It confirms each record, and with the next write says that it has a newer one: it is hung up on, not followed for ever. The
 * other copy goes on, and the guest is not kept busy with records.
 */
static void a_newer_record_is_not_claimed_for_ever(void **state)
{
	u32 i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct wdonor *never;
		struct wreq *r;
		u64 records;

		cluster(3, 2);
		stored(0, 8);
		never = holder(0, 0);
		newer_op = i ? MEMX_OP_DISCARD : MEMX_OP_STORE;
		never->tamper = newer;
		records = world_counters(w).records;
		r = i ? wguest_discard(g, 4, 1) : wguest_store(g, 8, 1);
		world_pass(w, 3000);
		assert_true(r->done && r->status == MEMX_S_OK);
		assert_true(world_counters(w).donor_violations >= 1);
		assert_true(world_counters(w).records - records <= 32);
		fetched(0, 4);
		never->tamper = NULL;
		repaired();
		assert_int_equal(live_copies(0), 2);
		if (!i)
			world_free(w);
	}
}

static u32 denials;

static u32 denies_once(struct wdonor *d, const struct memx_head *head)
{
	(void)d;
	return head->op == MEMX_OP_STORE && !denials++ ? MEMX_S_UNKNOWN : MEMX_S_OK;
}

/* An admin frees a session there now and then, in a year: each time it is fenced anew, and no harm done. */
static void a_fence_that_is_denied_now_and_then(void **state)
{
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	holder(0, 0)->refuse = denies_once;
	for (i = 0; i < 3 * DONOR_MAX_DENIALS; i++) {
		denials = 0;
		stored(i, 1);
		assert_true(denials >= 2);
		world_pass(w, 60000);
	}
	assert_int_equal(world_counters(w).donor_violations, 0);
	assert_int_equal(world_counters(w).donor_losses, 0);
	assert_int_equal(live_copies(0), 2);
}

static const u32 no_more[] = { MEMX_S_NOSPACE, MEMX_S_CORRUPT, MEMX_S_OLD };

/* One copy does not take a store that the other one has: a third donor takes its place, and the guest notices nothing. */
static void who_refuses_a_store_is_replaced(void **state)
{
	u32 i;

	(void)state;
	for (i = 0; i < sizeof(no_more) / sizeof(no_more[0]); i++) {
		struct wdonor *never;
		struct wreq *r;

		cluster(3, 2);
		stored(0, 8);
		never = holder(0, 0);
		never->tamper = oddly;
		odd_op = MEMX_OP_STORE;
		odd_status = no_more[i];
		r = wguest_store(g, 4, 8);
		world_pass(w, 500);
		assert_true(r->done && r->status == MEMX_S_OK);
		assert_int_not_equal(state_at(0, never), MEMX_R_LIVE);
		never->tamper = NULL;
		repaired();
		assert_int_equal(live_copies(0), 2);
		wdonor_restart(never);
		world_pass(w, 500);
		fetched(0, 12);
		if (i + 1 < sizeof(no_more) / sizeof(no_more[0]))
			world_free(w);
	}
}

static u32 put_off;

static u32 puts_off_the_first(struct wdonor *d, const struct memx_head *head)
{
	(void)d;
	return head->op == MEMX_OP_STORE && !put_off++ ? MEMX_S_AGAIN : MEMX_S_OK;
}

/* A later write to the slot was quicker at one of two donors: what it says of the earlier one is true, and costs it nothing. */
static void an_old_write_may_be_called_old(void **state)
{
	struct wreq *first, *second;
	u32 i;

	(void)state;
	for (i = 0; i < 2; i++) {
		cluster(3, 2);
		stored(0, 8);
		put_off = 0;
		holder(0, 0)->refuse = puts_off_the_first;
		first = wguest_store(g, 4, 4);
		g->slot[4].busy = false;	/* it writes again without waiting, as a guest may */
		g->slot[5].busy = false;
		second = wguest_store(g, 4, 1 + i);
		if (i)
			holder(0, 1)->way_ns = 50 * MS;		/* the second is on its way yet, or was answered before */
		world_pass(w, 500);
		assert_true(second->done && second->status == MEMX_S_OK);
		assert_true(first->done && first->status == MEMX_S_PARTIAL);
		assert_int_equal(first->page_status[0], MEMX_S_OLD);
		assert_int_equal(first->page_status[3], MEMX_S_OK);
		assert_int_equal(world_counters(w).replicas_dropped, 0);
		assert_int_equal(world_counters(w).records, 1);
		g->slot[4].state = SLOT_STORED;
		g->slot[4].good = second->version[0];
		fetched(4, 1);
		if (!i)
			world_free(w);
	}
}

/* Of three copies two do not take a store, and there is one donor to replace them: not with fewer copies than before. */
static void two_that_refuse_are_not_replaced_by_one(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(4, 3);
	stored(0, 8);
	assert_int_equal(live_copies(0), 3);
	odd_op = MEMX_OP_STORE;
	odd_status = MEMX_S_NOSPACE;
	holder(0, 0)->tamper = oddly;
	holder(0, 1)->tamper = oddly;
	r = wguest_store(g, 4, 8);
	world_pass(w, 500);
	assert_true(r->done);
	assert_int_equal(r->status, MEMX_S_NOSPACE);
	assert_int_equal(live_copies(0), 3);
}

/*
 * A donor wants its memory back, and the one that is to take the copy over does not take stores: both live copies have them, so the
 * newcomer goes, and no store fails. It is not tried again with each store.
 */
static void what_only_relieves_another_may_refuse(void **state)
{
	struct wdonor *beside, *asks;
	u64 records;
	u32 i;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	beside = donor_beside(0);
	asks = holder(0, 0);
	odd_op = MEMX_OP_STORE;
	odd_status = MEMX_S_NOSPACE;
	beside->tamper = oddly;
	wdonor_limit(asks, 0);
	for (i = 0; i < 400 && state_at(0, beside) != MEMX_R_SYNCING; i++)
		if (!world_roll(w))
			world_tick(w);
	assert_int_equal(state_at(0, beside), MEMX_R_SYNCING);
	world_settle(w);
	records = world_counters(w).records;
	for (i = 0; i < 200; i++) {
		struct wreq *r = wguest_store(g, i % 8, 1);

		world_pass(w, 20);
		assert_true(r->done && r->status == MEMX_S_OK);
	}
	assert_int_equal(live_copies(0), 2);
	assert_in_range(world_counters(w).records - records, 1, 4);
	beside->tamper = NULL;		/* it has room now: the copy moves after all */
	for (i = 0; i < 100 && state_at(0, asks) != MEMX_R_NONE; i++)
		world_pass(w, 200);
	assert_int_equal(state_at(0, asks), MEMX_R_NONE);
	assert_int_equal(live_copies(0), 2);
	fetched(0, 8);
}

/* With nobody to replace it the write fails: one copy fewer were not what the guest was promised. The copy stays. */
static void without_a_replacement_a_refused_store_fails(void **state)
{
	u32 i;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct wreq *r;

		cluster(i < 2 ? 2 : 3, 2);
		stored(0, 8);
		odd_op = MEMX_OP_STORE;
		odd_status = MEMX_S_NOSPACE;
		holder(0, i & 1)->tamper = oddly;
		if (i == 2)			/* the third one is full as well */
			donor_beside(0)->tamper = oddly;
		r = wguest_store(g, 8, 8);
		world_pass(w, 500);
		assert_true(r->done && r->status == MEMX_S_NOSPACE);
		for (u32 k = 0; k < w->donors; k++)
			w->donor[k].tamper = NULL;
		repaired();
		assert_int_equal(live_copies(0), 2);
		fetched(0, 8);
		stored(8, 8);
		fetched(0, 16);
		if (i < 2)
			world_free(w);
	}
}

/* A donor that says not now is not blamed for what another one said before. */
static void not_now_is_said_by_each_for_itself(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	odd_op = MEMX_OP_STORE;
	odd_status = MEMX_S_AGAIN;
	holder(0, 0)->tamper = oddly;
	holder(0, 1)->hung = true;
	r = wguest_store(g, 8, 1);
	world_pass(w, 100);
	holder(0, 0)->tamper = NULL;
	world_pass(w, 450);
	holder(0, 1)->hung = false;
	holder(0, 1)->tamper = oddly;
	world_pass(w, 150);
	holder(0, 1)->tamper = NULL;
	world_pass(w, 100);
	assert_true(r->done && r->status == MEMX_S_OK);
	assert_int_equal(world_counters(w).donor_violations, 0);
	assert_int_equal(live_copies(0), 2);
}

/* ---- time ------------------------------------------------------------------------------------------------------------------- */

/* A lag too short to be told of may be longer than what a donor has left. */
static void a_short_lag_gives_another_chance(void **state)
{
	struct wreq *f;

	(void)state;
	cluster(2, 1);
	stored(0, 4);
	world_pass(w, 5000);
	core_tick(w->core, w->now);
	f = wguest_fetch(g, 0, 4);
	wguest_deliver_one(g, 1);
	w->now += 620 * MS;
	core_tick(w->core, w->now);
	assert_int_equal(world_counters(w).lags, 0);
	assert_int_equal(world_counters(w).donor_losses, 0);
	world_settle(w);
	assert_true(f->done && f->status == MEMX_S_OK);
	/* Not for ever: one that is silent is dropped all the same. */
	holder(0, 0)->hung = true;
	assert_non_null(wguest_fetch(g, 0, 4));
	wguest_deliver_one(g, 1);
	for (u32 i = 0; i < 5; i++) {
		w->now += 500 * MS;
		core_tick(w->core, w->now);
	}
	assert_true(world_counters(w).donor_losses >= 1);
}

/* What our own lag adds to an answer is not the donor's. */
static void a_lag_makes_no_donor_slow(void **state)
{
	struct wreq *f;
	u64 before;

	(void)state;
	cluster(2, 1);
	stored(0, 4);
	fetched(0, 4);
	before = holder(0, 0)->cd->lat_ns;
	f = wguest_fetch(g, 0, 4);
	wguest_deliver_one(g, 1);
	w->now += 20000 * MS;		/* stopped; what arrived meanwhile is read before anything else */
	world_settle(w);
	assert_true(f->done && f->status == MEMX_S_OK);
	assert_true(holder(0, 0)->cd->lat_ns <= before);
	f = wguest_fetch(g, 0, 4);
	wguest_deliver_one(g, 1);
	w->now += 20000 * MS;
	core_tick(w->core, w->now);
	world_settle(w);
	assert_true(f->done && f->status == MEMX_S_OK);
	assert_true(holder(0, 0)->cd->lat_ns <= before);
}

/* ---- words ------------------------------------------------------------------------------------------------------------------ */

static u32 placed_times, fenced_times;

static bool counts(struct wdonor *d, struct frame *f)
{
	u16 op = memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;

	(void)d;
	placed_times += op == MEMX_OP_PLACE;
	fenced_times += op == MEMX_OP_FENCE;
	return true;
}

/* A donor that has all that waits hears from no store that the record took effect: it is told. */
static void who_has_it_all_is_told_of_the_record(void **state)
{
	(void)state;
	w = world_new(3, 3, 32, no_repair);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	stored(0, 8);
	holder(0, 1)->hung = true;
	assert_non_null(wguest_store(g, 8, 4));
	world_pass(w, 100);
	placed_times = 0;
	holder(0, 0)->tamper = counts;
	world_pass(w, 2000);
	assert_int_equal(state_at(0, holder(0, 1)), MEMX_R_STALE);
	assert_int_equal(g->busy, 0);
	assert_int_equal(placed_times, 2);	/* proposed, and in force */
}

static bool says_fenced(struct wdonor *d, struct frame *f)
{
	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) == MEMX_OP_FENCE)
		f->hdr.status = memx_put_le32(MEMX_S_FENCED);
	return true;
}

/* One that connects in a loop to say so again does not have all others asked each time. */
static void a_lonely_word_is_checked_now_and_then(void **state)
{
	struct wdonor *liar, *honest;
	u32 i;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	liar = holder(0, 0);
	honest = holder(0, 1);
	liar->tamper = says_fenced;
	honest->tamper = counts;
	fenced_times = 0;
	for (i = 0; i < 20; i++) {
		wdonor_drop(liar);
		wdonor_up(liar);
		world_pass(w, 50);
	}
	assert_in_range(fenced_times, 1, 2);
	assert_true(g->alive);
	fetched(0, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(not_now_is_not_for_ever), rule(a_fence_is_not_denied_for_ever), rule(a_newer_record_is_not_claimed_for_ever),
		rule(a_fence_that_is_denied_now_and_then),
		rule(not_now_is_said_by_each_for_itself), rule(who_refuses_a_store_is_replaced),
		rule(an_old_write_may_be_called_old), rule(two_that_refuse_are_not_replaced_by_one),
		rule(what_only_relieves_another_may_refuse),
		rule(without_a_replacement_a_refused_store_fails), rule(a_short_lag_gives_another_chance),
		rule(a_lag_makes_no_donor_slow), rule(who_has_it_all_is_told_of_the_record),
		rule(a_lonely_word_is_checked_now_and_then),
	};

	return cmocka_run_group_tests_name("relay core: donors that are late or refuse", tests, NULL, NULL);
}
