// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-donor.c - donors that fail, come back, lie, and what must hold all the while. One rule of the design per test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

/* ---- records ----------------------------------------------------------------------------------------------------------------- */

/* A record takes effect when the guest has acknowledged it: before that no store that depends on it is acknowledged. */
static void no_store_before_its_record(void **state)
{
	struct wreq *r;
	struct frame *f;

	(void)state;
	cluster(2, 2);
	g->mute_records = true;
	r = wguest_store(g, 0, 4);
	assert_int_equal(wguest_do(g, r), ~0U);
	assert_non_null(g->held_record);
	world_pass(w, 2000);
	assert_false(r->done);
	g->mute_records = false;
	f = g->held_record;
	g->held_record = NULL;
	list_add_tail(&f->in_queue, &g->to_guest[0]);
	g->ring_used[0] += MEMX_HDR_LEN + f->len;
	world_settle(w);
	assert_true(r->done && r->status == MEMX_S_OK);
}

/* Nothing that the older record names is freed before the guest acknowledged the newer one. */
static void nothing_freed_before_its_record(void **state)
{
	struct wdonor *lost, *left;
	struct frame *f;
	u64 before;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	lost = holder(0, 0);
	left = holder(0, 1);
	g->mute_records = true;
	lost->hung = true;
	assert_non_null(wguest_store(g, 0, 1));
	world_pass(w, 1500);
	assert_non_null(g->held_record);
	lost->hung = false;
	before = wdonor_pages(lost);
	world_pass(w, 3000);
	assert_int_equal(wdonor_pages(lost), before);
	assert_int_not_equal(wdonor_pages(left), 0);
	g->mute_records = false;
	f = g->held_record;
	g->held_record = NULL;
	list_add_tail(&f->in_queue, &g->to_guest[0]);
	g->ring_used[0] += MEMX_HDR_LEN + f->len;
	world_pass(w, 3000);
	assert_int_equal(live_copies(0), 2);
	fetched(0, 8);
}

static void acknowledged_only_by_all(void **state)
{
	struct wreq *r;

	(void)state;
	cluster(2, 2);
	stored(0, 1);
	holder(0, 1)->hung = true;
	r = wguest_store(g, 0, 1);
	world_settle(w);
	assert_false(r->done);		/* one of two has it */
	world_pass(w, 1500);		/* the other is dropped by a record, which the guest acknowledged */
	assert_true(r->done && r->status == MEMX_S_OK);
	assert_int_equal(live_copies(0), 1);
}

/* ---- donors away --------------------------------------------------------------------------------------------------------------- */

static void one_copy_waits(void **state)
{
	struct wreq *s, *f;
	struct wdonor *d;

	(void)state;
	cluster(1, 1);
	stored(0, 8);
	d = holder(0, 0);
	d->there = false;
	wdonor_drop(d);
	s = wguest_store(g, 8, 2);
	f = wguest_fetch(g, 0, 8);
	world_pass(w, 60000);
	assert_false(s->done || f->done);	/* neither fails because a peer is away */
	assert_int_equal(live_copies(0), 1);	/* the last live replica is never dropped */
	d->there = true;
	world_pass(w, 500);
	assert_true(s->done && s->status == MEMX_S_OK);
	assert_true(f->done && f->status == MEMX_S_OK);
}

static void two_copies_go_on(void **state)
{
	struct wreq *s, *f;
	u64 began;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	holder(0, 0)->hung = true;
	s = wguest_store(g, 8, 2);
	f = wguest_fetch(g, 0, 8);
	began = w->now;
	while (!s->done || !f->done) {
		world_settle(w);
		if (!s->done || !f->done)
			world_tick(w);
		assert_true(w->now - began < 1000 * MS);	/* the bound of the design */
	}
	assert_int_equal(s->status, MEMX_S_OK);
	assert_int_equal(f->status, MEMX_S_OK);
	assert_int_equal(world_counters(w).replicas_dropped, 1);
}

/* The record that drops a donor names who takes its place: what is stored from then on has its copies before any repair. */
static void the_record_that_drops_adds(void **state)
{
	struct wdonor *left, *lost;
	u8 page[MEMX_PAGE_SIZE];
	u32 i, copies = 0;

	(void)state;
	w = world_new(11, 3, 32, no_repair);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	stored(0, 8);
	left = holder(0, 0);
	lost = holder(0, 1);
	lost->hung = true;
	assert_non_null(wguest_store(g, 8, 1));
	world_pass(w, 1000);
	assert_int_equal(g->busy + g->errors, 0);
	assert_int_equal(world_counters(w).records, 2);
	assert_int_equal(state_at(0, left), MEMX_R_LIVE);
	assert_int_equal(state_at(0, lost), MEMX_R_STALE);
	wguest_page(g, 8, g->slot[8].good, page);
	for (i = 0; i < w->donors; i++)
		copies += wdonor_find(&w->donor[i], page) != NULL;
	assert_int_equal(copies, 2);
}

static void last_live_is_never_dropped(void **state)
{
	struct wdonor *a, *b;
	struct wreq *s;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	a = holder(0, 0);
	b = holder(0, 1);
	a->hung = true;
	b->hung = true;
	s = wguest_store(g, 8, 1);
	world_pass(w, 30000);
	assert_false(s->done);
	assert_int_equal(live_copies(0), 2);
	a->hung = false;
	world_pass(w, 2000);
	assert_true(s->done && s->status == MEMX_S_OK);
	assert_int_equal(state_at(0, a), MEMX_R_LIVE);
	assert_int_equal(state_at(0, b), MEMX_R_STALE);
	fetched(0, 8);
	b->hung = false;
	world_pass(w, 3000);		/* and what came back is repaired from the other */
	assert_int_equal(live_copies(0), 2);
	a->hung = true;
	world_pass(w, 1000);
	fetched(0, 8);
	fetched(8, 1);
}

/* Bytes of an old connection that arrive when newer ones of the new connection have long taken effect change nothing. */
static void late_bytes_change_nothing(void **state)
{
	struct wreq *s, *gone;
	struct wdonor *d;
	u64 n;
	u32 i;

	(void)state;
	cluster(1, 1);
	stored(0, 4);
	d = holder(0, 0);
	d->way_ns = 5000 * MS;		/* a store and a discard get stuck on their way */
	s = wguest_store(g, 0, 2);
	gone = wguest_discard(g, 2, 2);
	for (i = 0; i < 100 && d->conn; i++)
		world_pass(w, 10);	/* silent: the relay gives that connection up */
	assert_null(d->conn);
	d->way_ns = 0;
	world_pass(w, 300);		/* and sends them again on the next one */
	assert_true(s->done && s->status == MEMX_S_OK && gone->done && gone->status == MEMX_S_OK);
	stored(0, 1);
	assert_int_equal(wguest_do(g, wguest_discard(g, 1, 1)), MEMX_S_OK);
	stored(2, 2);
	n = srv_counters(d->srv)->fenced;
	world_pass(w, 5000);		/* there they are, in the old order */
	assert_int_equal(srv_counters(d->srv)->fenced, n + 2);
	fetched(0, 1);
	fetched(2, 2);
	g->may_lose = true;
	g->slot[1].state = SLOT_STORED;	/* what was discarded is not there again */
	assert_int_equal(wguest_do(g, wguest_fetch(g, 1, 1)), MEMX_S_ABSENT);
}

static struct session *session_here(void)
{
	return list_first(&w->core->sessions, struct session, in_core);
}

/*
 * The donor leaves the configuration, is told to forget the session, and that is stuck on its way. It comes back at the same epoch,
 * everything is moved there, and then the old connection brings what it had.
 */
static void a_late_leave_frees_nothing(void **state)
{
	struct wdonor *d;
	u32 slot, n;

	(void)state;
	cluster(2, 1);
	for (slot = 0; slot < 256; slot += 32)
		stored(slot, 32);
	d = &w->donor[1];
	core_donor_remove(d->cd, w->now);
	for (n = 0; n < 100000 && d->cd && !session_here()->sd[d->cd->index].releasing; n++)
		if (!world_roll(w))
			world_tick(w);
	assert_non_null(d->cd);
	assert_true(wdonor_stuck(d, MEMX_OP_DETACH, 8000));
	assert_ptr_equal(core_donor_add(w->core, d->name, d, w->now), d->cd);
	wdonor_up(d);
	world_pass(w, 500);
	core_donor_empty(w->core, "d0", true, w->now);
	world_pass(w, 6000);
	stored(0, 32);
	assert_int_equal(wdonor_pages(d), 256);
	assert_int_equal(wdonor_pages(&w->donor[0]), 0);
	assert_int_equal(w->late_detaches, 0);
	world_pass(w, 4000);		/* there it is */
	assert_int_equal(w->late_detaches, 1);
	assert_int_equal(wdonor_pages(d), 256);
	for (slot = 0; slot < 256; slot += 32)
		fetched(slot, 32);
	assert_int_equal(world_counters(w).extents_lost, 0);
}

static void fetch_is_hedged(void **state)
{
	struct wreq *f;
	u64 began;
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	for (i = 0; i < 30; i++)
		fetched(0, 8);
	holder(0, 0)->hung = true;
	for (i = 0; i < 2; i++) {	/* one of them was asked of the hung one, if not by chance of the other */
		began = w->now;
		f = wguest_fetch(g, 0, 8);
		while (!f->done) {
			world_settle(w);
			if (!f->done)
				world_tick(w);
		}
		assert_true(w->now - began < 100 * MS);
	}
	holder(0, 0)->hung = false;
	holder(0, 1)->hung = true;
	f = wguest_fetch(g, 0, 8);
	world_pass(w, 50);
	assert_true(f->done);
	assert_true(world_counters(w).hedges >= 1);
	assert_int_equal(world_counters(w).donor_losses, 0);
}

static bool never_answers_fetches(struct wdonor *d, struct frame *f)
{
	(void)d;
	return (memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != MEMX_OP_FETCH;
}

/* A donor keeps every answer to a fetch to itself, and answers all else: nobody waits long for a page that another one has. */
static void no_fetch_waits_for_one_donor(void **state)
{
	struct wreq *f[40];
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 32);
	holder(0, 0)->tamper = never_answers_fetches;
	for (i = 0; i < 40; i++) {	/* more than the budget of hedges */
		f[i] = wguest_fetch(g, i % 32, 1);
		assert_non_null(f[i]);
	}
	world_pass(w, 900);
	for (i = 0; i < 40; i++)
		assert_true(f[i]->done && f[i]->status == MEMX_S_OK);
}

/* Nobody is judged while the relay's own loop lagged. */
static void lag_judges_nobody(void **state)
{
	struct wreq *f;

	(void)state;
	cluster(2, 1);
	stored(0, 4);
	f = wguest_fetch(g, 0, 4);
	w->now += 20000 * MS;		/* stopped for twenty seconds, then ticked before anything could arrive */
	core_tick(w->core, w->now);
	assert_int_equal(world_counters(w).lags, 1);
	assert_int_equal(world_counters(w).donor_losses, 0);
	world_settle(w);
	assert_true(f->done && f->status == MEMX_S_OK);
}

/* ---- memory lost ----------------------------------------------------------------------------------------------------------------- */

static void new_instance_is_not_trusted(void **state)
{
	struct wdonor *d;

	(void)state;
	cluster(3, 2);
	stored(0, 32);
	d = holder(0, 0);
	wdonor_restart(d);
	world_pass(w, 200);
	assert_int_equal(world_counters(w).donor_new_instances, 1);
	fetched(0, 32);
	world_pass(w, 3000);
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(world_counters(w).extents_lost, 0);
}

/*
 * A donor had confirmed a write, forgot everything and joined again before the write was acknowledged: its first word counts
 * no more, it must have the page once more.
 */
static void a_confirmation_dies_with_the_memory(void **state)
{
	struct wdonor *a, *b;
	struct wreq *s, *f;

	(void)state;
	w = world_new(11, 2, 32, no_repair);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	stored(0, 1);
	a = holder(0, 0);
	b = holder(0, 1);
	b->hung = true;
	s = wguest_store(g, 8, 1);
	world_settle(w);		/* a has it */
	assert_false(s->done);
	b->there = false;
	wdonor_drop(b);
	wdonor_restart(a);		/* and has it no more */
	world_pass(w, 200);
	assert_false(s->done);
	b->hung = false;
	b->there = true;
	world_pass(w, 500);
	assert_true(s->done && s->status == MEMX_S_OK);
	assert_int_equal(state_at(0, a), MEMX_R_SYNCING);
	assert_int_equal(state_at(0, b), MEMX_R_LIVE);
	b->hung = true;			/* so it must be at a now */
	f = wguest_fetch(g, 8, 1);
	world_pass(w, 2000);
	assert_true(f->done && f->status == MEMX_S_OK);
}

/* After repair, the next failure is survived as the first was. */
static void one_after_the_other(void **state)
{
	u32 i, slot;

	(void)state;
	cluster(4, 2);
	for (slot = 0; slot < 256; slot += 32)
		stored(slot, 32);
	assert_int_equal(wguest_do(g, wguest_discard(g, 5, 3)), MEMX_S_OK);
	for (i = 0; i < 12; i++) {
		wdonor_restart(&w->donor[i % 4]);
		stored(64 + i, 1);
		repaired();
	}
	for (slot = 8; slot < 256; slot += 8)
		fetched(slot, 8);
	assert_int_equal(world_counters(w).extents_lost, 0);
	assert_true(world_counters(w).replicas_repaired >= 12);
}

/* Repair never overwrites a fresher page and never resurrects a discarded one. */
static void repair_respects_versions(void **state)
{
	u32 i, slot;

	(void)state;
	cluster(3, 2);
	for (slot = 0; slot < 64; slot += 32)
		stored(slot, 32);
	wdonor_restart(holder(0, 1));
	for (i = 0; i < 400 && live_copies(0) < 2; i++) {	/* stores and discards in the middle of it */
		if (i % 3 == 0)
			wguest_store(g, i % 32, 1);
		if (i % 5 == 0)
			wguest_discard(g, 32 + i % 32, 1);
		if (!world_roll(w) || i % 8 == 0)
			world_tick(w);
	}
	repaired();
	world_settle(w);
	holder(0, 0)->hung = true;
	world_pass(w, 1000);
	for (slot = 0; slot < 64; slot++)
		if (g->slot[slot].state == SLOT_STORED)
			fetched(slot, 1);
	g->may_lose = true;
	for (slot = 32; slot < 64; slot++)
		if (g->slot[slot].state == SLOT_DISCARDED) {
			g->slot[slot].state = SLOT_STORED;	/* the version before the discard must not be there */
			assert_int_equal(wguest_do(g, wguest_fetch(g, slot, 1)) == MEMX_S_OK, 0);
		}
}

static void all_copies_lost(void **state)
{
	(void)state;
	cluster(2, 2);
	stored(0, 4);
	stored(64, 4);
	w->watched = "extent-lost";
	wdonor_restart(&w->donor[0]);
	wdonor_restart(&w->donor[1]);
	world_pass(w, 3000);
	assert_int_equal(world_counters(w).extents_lost, 2);	/* counted each, said once, and loudly */
	assert_int_equal(w->seen, 1);
	assert_int_equal(w->seen_level, CORE_LOG_CRIT);
	g->may_lose = true;
	assert_int_equal(wguest_do(g, wguest_fetch(g, 0, 4)), MEMX_S_ABSENT);	/* an error, never zeros */
	g->may_lose = false;
	stored(0, 4);		/* and the area is of use again */
	fetched(0, 4);
}

/* ---- lies ------------------------------------------------------------------------------------------------------------------------- */

static bool damage(struct wdonor *d, struct frame *f)
{
	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) == MEMX_OP_FETCH && f->len > 2000)
		f->body[f->len - 100] ^= 0x10;
	return true;
}

static void a_bad_copy_is_not_believed(void **state)
{
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	holder(0, 0)->tamper = damage;
	for (i = 0; i < 8; i++)
		fetched(0, 8);
	assert_true(world_counters(w).bad_pages >= 1);
	assert_true(world_counters(w).fetch_retries >= 1);
}

static void the_only_copy_is_bad(void **state)
{
	(void)state;
	cluster(1, 1);
	stored(0, 2);
	holder(0, 0)->tamper = damage;
	g->may_lose = true;
	assert_int_equal(wguest_do(g, wguest_fetch(g, 0, 2)), MEMX_S_PARTIAL);
	assert_int_equal(world_counters(w).bad_pages, 1);
}

/* The second page of six is said not to be there, and the answer is as much shorter. */
static bool leave_one_out(struct wdonor *d, struct frame *f)
{
	struct memx_page *page = (struct memx_page *)(f->body + MEMX_IO_LEN);
	u8 *bytes = (u8 *)&page[6];

	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != MEMX_OP_FETCH || f->len != memx_fetched_len(6, 6))
		return true;
	page[1].status = memx_put_le32(MEMX_S_ABSENT);
	memmove(bytes + MEMX_PAGE_SIZE, bytes + 2 * MEMX_PAGE_SIZE, 4 * MEMX_PAGE_SIZE);
	f->len = memx_fetched_len(6, 5);
	f->hdr.len = memx_put_le32(f->len);
	f->hdr.status = memx_put_le32(MEMX_S_PARTIAL);
	return true;
}

static void pages_behind_a_missing_one_are_good(void **state)
{
	(void)state;
	cluster(1, 1);
	stored(0, 6);
	holder(0, 0)->tamper = leave_one_out;
	g->may_lose = true;
	assert_int_equal(wguest_do(g, wguest_fetch(g, 0, 6)), MEMX_S_PARTIAL);
	assert_int_equal(world_counters(w).bad_pages, 0);
	assert_int_equal(world_counters(w).fetch_errors, 1);
	assert_int_equal(world_counters(w).donor_violations, 0);
}

/* An old page, with the right check for what it is: versions tell. */
static u8 old_reply[MEMX_HDR_LEN + 8192];
static u32 old_len;

static bool replay(struct wdonor *d, struct frame *f)
{
	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != MEMX_OP_FETCH || f->len > 8192)
		return true;
	if (!old_len) {
		old_len = f->len;
		memcpy(old_reply, f->body, f->len);
	} else if (f->len == old_len) {
		memcpy(f->body, old_reply, f->len);
	}
	return true;
}

static void an_old_page_is_not_believed(void **state)
{
	(void)state;
	cluster(1, 1);
	stored(0, 1);
	old_len = 0;
	holder(0, 0)->tamper = replay;
	fetched(0, 1);
	stored(0, 1);
	g->may_lose = true;
	assert_int_equal(wguest_do(g, wguest_fetch(g, 0, 1)), MEMX_S_CORRUPT);
}

static u32 lie;

static bool broken_answers(struct wdonor *d, struct frame *f)
{
	u16 op = memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;

	(void)d;
	if (op != MEMX_OP_FETCH && op != MEMX_OP_STORE)
		return true;
	switch (lie) {
	case 0:			/* unknown tag */
		f->hdr.tag = memx_put_le64(memx_le64(f->hdr.tag) + (1ULL << 30));
		break;
	case 1:			/* truncated */
		f->len = 8;
		f->hdr.len = memx_put_le32(8);
		break;
	case 2:			/* other extent */
		f->body[0] ^= 1;
		f->body[4] ^= 1;
		break;
	case 3:			/* longer than anything */
		f->hdr.len = memx_put_le32(~0U);
		break;
	case 4:			/* a reply to another operation */
		f->hdr.op = memx_put_le16(MEMX_OP_PLACE | MEMX_OP_REPLY);
		break;
	case 5:			/* no magic */
		f->hdr.magic = 0;
		break;
	default:		/* a request that donors do not make */
		f->hdr.op = memx_put_le16(MEMX_OP_STORE);
		f->hdr.status = 0;
		break;
	}
	return true;
}

static void broken_answers_end_the_connection(void **state)
{
	(void)state;
	for (lie = 0; lie < 7; lie++) {
		struct wdonor *liar;
		u32 i;

		cluster(3, 2);
		stored(0, 4);
		liar = holder(0, 0);
		liar->tamper = broken_answers;
		for (i = 0; i < 4; i++) {
			struct wreq *s = wguest_store(g, 8 + i, 1), *f = wguest_fetch(g, 0, 4);

			world_pass(w, 2000);
			assert_true(s->done && s->status == MEMX_S_OK && f->done && f->status == MEMX_S_OK);
		}
		assert_true(world_counters(w).donor_violations >= 1);
		if (lie != 6)
			world_free(w);
	}
}

static bool answers_twice(struct wdonor *d, struct frame *f)
{
	struct frame *again;

	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != MEMX_OP_STORE)
		return true;
	again = core_zalloc(sizeof(*again));
	*again = *f;
	again->body = core_zalloc(f->len + 8);
	memcpy(again->body, f->body, f->len);
	list_add_tail(&again->in_queue, &d->conn->to_relay);
	return true;
}

static void a_double_answer_is_a_violation(void **state)
{
	struct wreq *s;

	(void)state;
	cluster(2, 2);
	stored(0, 4);
	holder(0, 0)->tamper = answers_twice;
	s = wguest_store(g, 4, 1);
	world_pass(w, 100);
	assert_true(world_counters(w).donor_violations >= 1);
	world_pass(w, 2000);
	assert_true(s->done && s->status == MEMX_S_OK);
}

/* ---- odd answers --------------------------------------------------------------------------------------------------------------- */

static const u32 odd[] = {
	MEMX_S_VERSION, MEMX_S_GENERATION, MEMX_S_DENIED, MEMX_S_OP, MEMX_S_INVALID, MEMX_S_DRAINING, MEMX_S_IO, MEMX_S_PROTO,
	MEMX_S_NODONOR, MEMX_S_MISMATCH, 77, MEMX_S_AGAIN, MEMX_S_LIMIT,
};

/* Whatever the only donor says of a store or discard: its copy stays in the record, and what was stored can be read again. */
static void odd_answers_cost_no_copy(void **state)
{
	u32 i;

	(void)state;
	for (i = 0; i < 2 * sizeof(odd) / sizeof(odd[0]); i++) {
		struct wreq *r;

		cluster(1, 1);
		stored(0, 8);
		odd_op = i & 1 ? MEMX_OP_DISCARD : MEMX_OP_STORE;
		odd_status = odd[i / 2];
		holder(0, 0)->tamper = oddly;
		r = i & 1 ? wguest_discard(g, 8, 1) : wguest_store(g, 8, 1);
		world_pass(w, 3000);
		assert_false(r->done);
		assert_int_equal(live_copies(0), 1);
		assert_true(world_counters(w).donor_violations >= 1);
		assert_int_equal(world_counters(w).extents_lost, 0);
		holder(0, 0)->tamper = NULL;
		world_pass(w, 1000);
		assert_true(r->done && r->status == MEMX_S_OK);
		fetched(0, 8);
		if (i + 1 < 2 * sizeof(odd) / sizeof(odd[0]))
			world_free(w);
	}
}

/* The same for a PLACE that only raises the generation of the last live copy. */
static void odd_answers_to_place_cost_no_copy(void **state)
{
	static const u32 refusals[] = { MEMX_S_NOSPACE, MEMX_S_LIMIT, MEMX_S_AGAIN };
	u32 i, n = sizeof(odd) / sizeof(odd[0]), all = n + sizeof(refusals) / sizeof(refusals[0]);

	(void)state;
	for (i = 0; i < all; i++) {
		struct wdonor *left, *lost;
		struct wreq *r;

		cluster(2, 2);
		stored(0, 8);
		left = holder(0, 0);
		lost = holder(0, 1);
		odd_op = MEMX_OP_PLACE;
		odd_status = i < n ? odd[i] : refusals[i - n];
		left->tamper = oddly;
		lost->there = false;
		wdonor_drop(lost);
		r = wguest_store(g, 8, 1);
		world_pass(w, 3000);
		assert_false(r->done);
		assert_int_equal(world_counters(w).extents_lost, 0);
		assert_int_equal(state_at(0, left), MEMX_R_LIVE);
		left->tamper = NULL;
		world_pass(w, 1000);
		assert_true(r->done && r->status == MEMX_S_OK);
		fetched(0, 8);
		if (i + 1 < all)
			world_free(w);
	}
}

/* A fetch that the only donor refuses oddly waits, too; one that it puts off is asked again. */
static void odd_answers_to_a_fetch(void **state)
{
	static const u32 status[] = { MEMX_S_INVALID, MEMX_S_DENIED, MEMX_S_AGAIN, MEMX_S_LIMIT };
	u32 i;

	(void)state;
	cluster(1, 1);
	stored(0, 8);
	for (i = 0; i < sizeof(status) / sizeof(status[0]); i++) {
		struct wreq *r;

		odd_op = MEMX_OP_FETCH;
		odd_status = status[i];
		holder(0, 0)->tamper = oddly;
		r = wguest_fetch(g, 0, 8);
		world_pass(w, 1000);
		assert_false(r->done);
		holder(0, 0)->tamper = NULL;
		world_pass(w, 1000);
		assert_true(r->done && r->status == MEMX_S_OK);
	}
	assert_int_equal(live_copies(0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(no_store_before_its_record), rule(nothing_freed_before_its_record), rule(acknowledged_only_by_all),
		rule(one_copy_waits), rule(two_copies_go_on), rule(last_live_is_never_dropped),
		rule(the_record_that_drops_adds),
		rule(late_bytes_change_nothing), rule(a_late_leave_frees_nothing), rule(fetch_is_hedged),
		rule(no_fetch_waits_for_one_donor),
		rule(lag_judges_nobody), rule(new_instance_is_not_trusted), rule(a_confirmation_dies_with_the_memory),
		rule(one_after_the_other), rule(repair_respects_versions), rule(all_copies_lost),
		rule(a_bad_copy_is_not_believed), rule(the_only_copy_is_bad), rule(pages_behind_a_missing_one_are_good),
		rule(an_old_page_is_not_believed),
		rule(broken_answers_end_the_connection), rule(a_double_answer_is_a_violation), rule(odd_answers_cost_no_copy),
		rule(odd_answers_to_place_cost_no_copy), rule(odd_answers_to_a_fetch),
	};

	return cmocka_run_group_tests_name("relay core: donors that fail and lie", tests, NULL, NULL);
}
