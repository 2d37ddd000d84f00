// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-late.c - copies that alone hold up a write: which are let go, which are not, and what becomes of them. A donor is slow here
 * as one behind a narrow line is: it works through what it is sent, in order, and each thing takes its time (work_ns).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

enum {
	SOON	= 750,		/* ms: donor_timeout, and what a change of the record takes */
	SLOW	= 120,		/* ms that a slow donor takes for each frame */
};

/* It takes @ms for each frame, and gets twelve of them, all at once: stores to an extent. The last of these is returned. */
static struct wreq *busy(struct wdonor *d, u32 ms, u32 extent)
{
	struct wreq *r = NULL;
	u32 i;

	d->work_ns = ms * MS;
	for (i = 0; i < 12; i++) {
		r = wguest_store(g, extent * 64 + 2 * i, 1);
		assert_non_null(r);
	}
	world_settle(w);
	return r;
}

/* An extent that @d has a copy of, but for the first. */
static u32 another_extent(const struct wdonor *d)
{
	u32 k;

	for (k = 1; k < 3; k++)
		if (state_at(k, d) == MEMX_R_LIVE)
			break;
	assert_true(k < 3);
	return k;
}

/* Four extents of one guest, the last of which is empty. */
static void three_extents(u32 donors)
{
	u32 k;

	cluster(donors, 2);
	for (k = 0; k < 3; k++)
		stored(64 * k, 32);
}

/*
 * A donor works through what it has, which is more than others wait for: the copy goes from the record, another donor has it in its
 * place, and the donor keeps its connection, and its other copies.
 */
static void a_slow_copy_is_let_go(void **state)
{
	struct wdonor *slow;
	struct wreq *r;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	slow = holder(0, 0);
	r = busy(slow, SLOW, 0);
	assert_true(ms_until(r, 3000) < SOON);
	assert_int_equal(r->status, MEMX_S_OK);
	assert_int_equal(state_at(0, slow), MEMX_R_STALE);
	assert_int_equal(g->record[0].replicas, 3);		/* the replacement is in the same record */
	assert_int_equal(world_counters(w).late_copies, 1);
	assert_int_equal(world_counters(w).donor_losses, 0);
	slow->work_ns = 0;
	repaired();
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(world_counters(w).donor_losses, 0);
	fetched(0, 8);
	assert_int_equal(g->errors, 0);
}

/* It is the guest that says what is in force: not before it has acknowledged the record is the write acknowledged. */
static void not_before_the_record(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	g->mute_records = true;
	r = busy(holder(0, 0), SLOW, 0);
	ms_until(r, 1000);
	assert_non_null(g->held_record);
	assert_false(r->done);
	assert_int_equal(world_counters(w).late_copies, 0);
}

/* Two donors: the one that is left has the only copy, the other one gets it back, but not over and over while it is slow. */
static void of_two_one_is_left_for_a_while(void **state)
{
	struct core_status st;
	struct wdonor *slow;
	u64 records;
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	slow = holder(0, 0);
	slow->byte_ns = 4000;		/* 250 kB/s */
	records = world_counters(w).records;
	for (i = 0; i < 40; i++) {
		struct wreq *r = NULL;
		u32 k;

		for (k = 0; k < 48; k++)
			r = wguest_store(g, k, 1);
		assert_non_null(r);
		assert_true(ms_until(r, 3000) < SOON);
		assert_int_equal(r->status, MEMX_S_OK);
		assert_true(live_copies(0) >= 1);
		world_pass(w, 500);
		for (k = 0; k < W_REQS; k++)
			assert_true(!g->req[k].used || (g->req[k].done && g->req[k].status == MEMX_S_OK));
	}
	core_status(w->core, &st);
	assert_true(st.extents_degraded || live_copies(0) == 2);
	assert_int_equal(st.repair_stuck, 0);	/* it is a matter of time, and nobody has to add memory */
	assert_int_equal(world_counters(w).no_repair_room, 0);
	assert_true(world_counters(w).late_copies >= 2);
	assert_true(world_counters(w).records - records <= 16);	/* in more than twenty seconds */
	slow->byte_ns = 0;
	world_pass(w, 40000);
	repaired();
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(world_counters(w).extents_lost, 0);
}

static void narrow_window(struct core_config *cfg)
{
	cfg->donor_bytes = 1 << 20;
	cfg->staging_bytes = 32 << 20;
	cfg->repair_rate = 0;
}

/*
 * One guest has more stored than a donor can take at once. It answers within a tenth of a second all the same, and another guest's
 * write waits in the relay's queue: no copy is let go.
 */
static void a_queue_of_ours_is_no_fault_of_the_donor(void **state)
{
	struct wguest *small;
	struct wreq *r;
	u32 k;

	(void)state;
	w = world_new(11, 2, 400, narrow_window);
	g = wguest_new(w, 2048, 2);
	assert_true(wguest_start(g));
	small = wguest_new(w, 256, 2);
	assert_true(wguest_start(small));
	for (k = 0; k < 2048; k += 32)
		stored(k, 32);
	assert_int_equal(wguest_do(small, wguest_store(small, 0, 8)), MEMX_S_OK);
	w->donor[0].byte_ns = 120;	/* 8 MB/s */
	for (k = 0; k < 2048; k += 32)
		wguest_store(g, k, 32);
	world_settle(w);
	r = wguest_store(small, 0, 1);
	assert_non_null(r);
	assert_true(ms_until(r, 3000) > SOON - 150);	/* it did wait */
	assert_int_equal(r->status, MEMX_S_OK);
	assert_int_equal(world_counters(w).late_copies, 0);
	assert_int_equal(world_counters(w).replicas_dropped, 0);
}

/* The last live copy is waited for, slow as it is; and so is each of two that are as slow. */
static void the_last_one_is_waited_for(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	holder(0, 1)->work_ns = SLOW * MS;
	r = busy(holder(0, 0), SLOW, 0);
	assert_true(ms_until(r, 3000) > SOON);
	assert_int_equal(r->status, MEMX_S_OK);
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(world_counters(w).late_copies, 0);
	world_free(w);

	cluster(2, 1);
	stored(0, 8);
	r = busy(holder(0, 0), SLOW, 0);
	assert_true(ms_until(r, 3000) > SOON);
	assert_int_equal(r->status, MEMX_S_OK);
	assert_int_equal(live_copies(0), 1);
}

/* Two of three copies are slow: it is not for one of them alone that the write waits. */
static void two_of_three_stay(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(4, 3);
	stored(0, 8);
	holder(0, 1)->work_ns = SLOW * MS;
	r = busy(holder(0, 0), SLOW, 0);
	ms_until(r, 3000);
	assert_true(r->done && r->status == MEMX_S_OK);
	assert_int_equal(live_copies(0), 3);
	assert_int_equal(world_counters(w).late_copies, 0);
}

/* Who takes hardly longer than the others is not slow, whatever they all take. */
static void who_is_as_slow_as_the_others_stays(void **state)
{
	struct wdonor *one, *other;
	struct wreq *r;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	one = holder(0, 0);
	other = holder(0, 1);
	one->work_ns = 70 * MS;			/* 840 ms */
	r = busy(other, 130, 0);		/* 1560 ms */
	assert_true(ms_until(r, 3000) > 1500);
	assert_int_equal(r->status, MEMX_S_OK);
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(world_counters(w).late_copies, 0);
}

/* A record has to change while one of its donors is slow: what is stored meanwhile does not wait for that one either. */
static void a_change_does_not_wait_for_it(void **state)
{
	struct wdonor *slow, *leaves;
	struct wreq *r;

	(void)state;
	three_extents(4);
	slow = holder(0, 0);
	leaves = holder(0, 1);
	busy(slow, SLOW, another_extent(slow));
	assert_int_equal(core_donor_empty(w->core, leaves->name, true, w->now), 0);
	core_tick(w->core, w->now);		/* it wants another copy, which the slow one is told of */
	r = wguest_store(g, 0, 1);
	assert_non_null(r);
	assert_true(ms_until(r, 3000) < SOON);
	assert_int_equal(r->status, MEMX_S_OK);
	assert_int_equal(state_at(0, slow), MEMX_R_STALE);
	assert_int_equal(world_counters(w).donor_losses, 0);
	slow->work_ns = 0;
	world_pass(w, 3000);
	repaired();
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(state_at(0, leaves), MEMX_R_NONE);
	fetched(0, 8);
}

/* Nor does an extent that is stored to for the first time, of which the slow donor was to have a copy. */
static void a_new_extent_does_not_wait_for_it(void **state)
{
	u32 i, k;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct wdonor *slow;

		struct wreq *r;

		cluster(2 + i, 2);
		slow = &w->donor[0];
		for (k = 0; k < w->donors; k++)		/* the others are of one failure domain: it is always chosen */
			wdonor_set_domain(&w->donor[k], k ? "b" : "a");
		world_pass(w, 600);
		for (k = 0; k < 3; k++)
			stored(64 * k, 32);
		assert_int_equal(state_at(0, slow), MEMX_R_LIVE);
		busy(slow, SLOW, 0);
		r = wguest_store(g, 64 * 3, 8);
		assert_non_null(r);
		assert_true(ms_until(r, 3000) < SOON);
		assert_int_equal(r->status, MEMX_S_OK);
		assert_int_equal(world_counters(w).donor_losses, 0);
		slow->work_ns = 0;
		world_pass(w, 10000);
		repaired();
		fetched(64 * 3, 8);
		assert_int_equal(live_copies(3), 2);
		assert_int_equal(g->errors, 0);
		if (!i)
			world_free(w);
	}
}

/* Who had to wait behind the first that was held up does not wait as long again, for another copy there. */
static void the_next_one_waits_less(void **state)
{
	struct wdonor *slow;
	struct wreq *r;

	(void)state;
	three_extents(3);
	slow = holder(0, 0);
	r = busy(slow, SLOW, 0);
	assert_true(ms_until(r, 3000) < SOON);
	r = wguest_store(g, 64 * another_extent(slow), 1);
	assert_true(ms_until(r, 3000) < SOON / 4);
	assert_int_equal(r->status, MEMX_S_OK);
	assert_int_equal(world_counters(w).donor_losses, 0);
}

/* Our own loop stood still: the time counts for nobody. */
static void a_lag_counts_for_nobody(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	r = busy(holder(0, 0), 300, 0);
	world_pass(w, 100);
	w->now += 700 * MS;
	core_tick(w->core, w->now);
	assert_int_equal(world_counters(w).lags, 1);
	world_pass(w, 500);
	assert_false(r->done);
	assert_int_equal(world_counters(w).late_copies, 0);
	world_pass(w, 200);
	assert_true(r->done && r->status == MEMX_S_OK);
}

/* It has no fence any more, it says, and does not answer when it is fenced anew. */
static bool denies(struct wdonor *d, struct frame *f)
{
	u16 op = memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;

	(void)d;
	if (op == MEMX_OP_STORE) {
		f->hdr.status = memx_put_le32(MEMX_S_NOFENCE);
		f->hdr.len = 0;
		f->len = 0;
	}
	return op != MEMX_OP_FENCE;
}

/* It cannot be let go now, for the other live copy is on its way back: that is looked at now and then, not all the time. */
static void what_cannot_be_let_go_is_no_storm(void **state)
{
	struct wdonor *slow, *other;
	u32 ticks = 0;
	u64 began;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	slow = holder(0, 0);
	other = holder(0, 1);
	busy(slow, 300, 0);
	world_pass(w, 500);
	other->tamper = denies;
	assert_non_null(wguest_store(g, 40, 1));
	world_settle(w);
	for (began = w->now; w->now - began < 500 * MS; ticks++) {
		assert_in_range(ticks, 0, 200);
		world_tick(w);
		world_settle(w);
	}
	assert_int_equal(world_counters(w).late_copies, 0);
	other->tamper = NULL;
	slow->work_ns = 0;
	repaired();
	assert_int_equal(live_copies(0), 2);
}

/* It could be done without, but the only other one takes no more: better a copy at the slow one than a write that fails. */
static void rather_slow_than_none(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(2, 2);
	stored(0, 32);
	busy(holder(0, 0), 150, 0);
	r = wguest_store(g, 64, 8);
	world_pass(w, 590);
	assert_int_equal(core_donor_empty(w->core, holder(0, 1)->name, true, w->now), 0);
	assert_true(ms_until(r, 5000) > SOON);
	assert_int_equal(r->status, MEMX_S_OK);
}

/* Repair is not what makes stores late: at a donor with a narrow line it has little under way. */
static void repair_keeps_to_the_donors_pace(void **state)
{
	struct wdonor *slow;
	u64 most = 0, began;
	u32 k;

	(void)state;
	cluster(3, 2);
	for (k = 0; k < 4; k++)
		for (u32 i = 0; i < 64; i += 16)
			stored(64 * k + i, 16);
	slow = holder(0, 0);
	slow->byte_ns = 4000;			/* 250 kB/s */
	assert_int_equal(core_donor_empty(w->core, holder(0, 1)->name, true, w->now), 0);
	for (began = w->now; w->now - began < 10000 * MS;) {
		world_tick(w);
		world_settle(w);
		if (slow->busy_until > w->now && slow->busy_until - w->now > most)
			most = slow->busy_until - w->now;
	}
	assert_true(slow->frames > 0 && world_counters(w).repair_pages > 64);
	assert_true(most < 400 * MS);
	slow->byte_ns = 0;
	repaired();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(a_slow_copy_is_let_go), rule(not_before_the_record), rule(of_two_one_is_left_for_a_while),
		rule(a_queue_of_ours_is_no_fault_of_the_donor),
		rule(the_last_one_is_waited_for), rule(two_of_three_stay), rule(who_is_as_slow_as_the_others_stays),
		rule(a_change_does_not_wait_for_it), rule(a_new_extent_does_not_wait_for_it), rule(the_next_one_waits_less),
		rule(a_lag_counts_for_nobody), rule(what_cannot_be_let_go_is_no_storm),
		rule(rather_slow_than_none), rule(repair_keeps_to_the_donors_pace),
	};

	return cmocka_run_group_tests_name("relay core: copies that alone hold up a write", tests, NULL, NULL);
}
