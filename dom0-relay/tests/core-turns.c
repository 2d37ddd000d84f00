// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-turns.c - what must not wait for ever, because somebody else does not come: extents for their turn to change their record,
 * extents, stores and the end of a session for a donor that is back but does not take the session up again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

static u32 degraded(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return st.extents_degraded;
}

static struct session *session_here(void)
{
	return list_first(&w->core->sessions, struct session, in_core);
}

static void pass_seconds(u32 n)
{
	while (n--)
		world_pass(w, 1000);
}

/* ---- turns to change a record -------------------------------------------------------------------------------------------------- */

enum { MANY = 90 };

static void four_at_once(struct core_config *cfg)
{
	cfg->session_changes = 4;
}

static u32 waiting(void)
{
	struct list *pos;
	u32 n = 0;

	list_for_each(pos, &session_here()->later)
		n++;
	return n;
}

static void away(struct wdonor *d)
{
	d->there = false;
	wdonor_drop(d);
}

/*
 * A donor goes while the guest is paused, and comes back with its memory: those that waited for their turn need none any more.
 * Another donor goes: every extent with a copy there gets a new one, whoever stands before it.
 */
static void nobody_keeps_the_turn_of_others(void **state)
{
	struct wdonor *b, *c;
	u32 i;

	(void)state;
	w = world_new(11, 4, 120, four_at_once);
	b = &w->donor[1];
	c = &w->donor[2];
	g = wguest_new(w, 64 * MANY, 2);
	assert_true(wguest_start(g));
	for (i = 0; i < MANY; i++)
		stored(i * 64, 1);
	pass_seconds(2);
	assert_int_equal(degraded(), 0);
	g->deaf = true;
	away(b);
	pass_seconds(12);
	assert_true(b->cd->dead);
	assert_int_equal(session_here()->changing, 4);
	assert_true(waiting() > 20);
	b->there = true;
	wdonor_up(b);
	pass_seconds(3);
	assert_int_equal(degraded(), 0);
	g->deaf = false;
	pass_seconds(5);
	assert_int_equal(session_here()->changing, 0);
	assert_int_equal(waiting(), 0);
	away(c);
	pass_seconds(40);
	assert_true(c->cd->dead);
	assert_int_equal(degraded(), 0);
	for (i = 0; i < MANY; i++)
		fetched(i * 64, 1);
}

/* ---- a donor that is back, and does not take the session up again ---------------------------------------------------------------- */

static u16 refused_op;
static u32 refused_status;

static u32 refuses(struct wdonor *d, const struct memx_head *head)
{
	(void)d;
	return head->op == refused_op ? refused_status : MEMX_S_OK;
}

static void until_state(struct wdonor *d, u8 state)
{
	u32 n;

	for (n = 0; n < 100000 && session_here()->sd[d->cd->index].state != state; n++)
		if (!world_roll(w))
			world_tick(w);
	assert_int_equal(session_here()->sd[d->cd->index].state, state);
}

/* FENCE and LIST, refused for each reason that there is. */
static void each_refusal(void (*it_comes_back)(struct wdonor *b))
{
	static const u16 ops[] = { MEMX_OP_FENCE, MEMX_OP_LIST };
	static const u32 status[] = { MEMX_S_LIMIT, MEMX_S_AGAIN, MEMX_S_DENIED, MEMX_S_MISMATCH, MEMX_S_UNKNOWN, MEMX_S_INVALID };
	struct wdonor *b;
	u32 i, k;

	for (i = 0; i < sizeof(ops) / sizeof(*ops) * sizeof(status) / sizeof(*status); i++) {
		if (i)
			world_free(w);
		refused_op = ops[i & 1];
		refused_status = status[i >> 1];
		cluster(3, 2);
		for (k = 0; k < 4; k++)
			stored(k * 64, 8);
		b = holder(0, 0);
		b->refuse = refuses;
		wdonor_drop(b);
		it_comes_back(b);
		pass_seconds(20);
		assert_int_equal(degraded(), 0);
		assert_int_not_equal(state_at(0, b), MEMX_R_LIVE);
		for (k = 0; k < 4; k++)
			fetched(k * 64, 8);
	}
}

static void and_nothing_is_stored(struct wdonor *b)
{
	(void)b;
}

static void refused_copies_are_made_elsewhere(void **state)
{
	(void)state;
	each_refusal(and_nothing_is_stored);
}

static void and_a_store_comes(struct wdonor *b)
{
	struct wreq *r;

	wdonor_up(b);
	until_state(b, refused_op == MEMX_OP_FENCE ? SD_FENCING : SD_LISTING);
	r = wguest_store(g, 8, 1);
	assert_non_null(r);
	while (!list_empty(&g->to_relay[0]))
		wguest_deliver_one(g, 0);
	pass_seconds(1);
	assert_true(r->done);
	assert_int_equal(r->status, MEMX_S_OK);
}

static void stores_do_not_wait_for_who_refuses(void **state)
{
	(void)state;
	each_refusal(and_a_store_comes);
}

/* Its guest detaches; the others have answered before it refuses. */
static void a_detach_does_not_wait_for_who_refuses(void **state)
{
	static const u32 status[] = { MEMX_S_LIMIT, MEMX_S_AGAIN, MEMX_S_DENIED };
	struct wdonor *b;
	u32 i;

	(void)state;
	for (i = 0; i < sizeof(status) / sizeof(*status); i++) {
		if (i)
			world_free(w);
		refused_op = MEMX_OP_FENCE;
		refused_status = status[i];
		cluster(3, 2);
		stored(0, 8);
		b = &w->donor[2];
		b->refuse = refuses;
		b->way_ns = 5 * MS;
		wdonor_drop(b);
		pass_seconds(1);
		wguest_detach(g);
		pass_seconds(1);
		assert_false(g->detaching);
		assert_int_equal(g->detach_status, MEMX_S_OK);
		assert_int_equal(wdonor_pages(&w->donor[0]) + wdonor_pages(&w->donor[1]), 0);
		b->refuse = NULL;		/* it is told later */
		pass_seconds(3);
		assert_int_equal(wdonor_pages(b), 0);
		assert_true(list_empty(&w->core->sessions));
	}
}

/* ---- a session that an admin frees at a donor ------------------------------------------------------------------------------------ */

/* Between FENCE and LIST: what was there is gone, and what waits for it learns that, with that connection. */
static void a_session_freed_before_the_listing(void **state)
{
	struct wdonor *b;
	struct wreq *r;

	(void)state;
	cluster(2, 1);
	stored(0, 8);
	b = holder(0, 0);
	wdonor_drop(b);
	wdonor_up(b);
	until_state(b, SD_LISTING);
	assert_int_equal(srv_session_remove(b->srv, g->conf.vm, g->session, true), 0);
	pass_seconds(1);
	assert_int_equal(session_here()->sd[b->cd->index].state, SD_READY);
	assert_int_equal(b->cd->losses, 1);
	r = wguest_store(g, 0, 8);
	assert_non_null(r);
	pass_seconds(1);
	assert_true(r->done);
	assert_int_equal(r->status, MEMX_S_OK);
	fetched(0, 8);
}

/* While nothing is stored: repair finds that the copy is gone, and does not ask for it for ever. */
static void a_session_freed_at_a_source(void **state)
{
	struct wdonor *b, *lost;
	u32 n;

	(void)state;
	cluster(5, 3);
	stored(0, 32);
	b = holder(0, 0);
	lost = holder(0, 1);
	away(lost);
	for (n = 0; n < 100000 && !w->core->repairing; n++)
		if (!world_roll(w))
			world_tick(w);
	assert_int_equal(srv_session_remove(b->srv, g->conf.vm, g->session, true), 0);
	for (n = 0; n < 30 && (live_copies(0) < 3 || state_at(0, lost) == MEMX_R_LIVE || !lost->cd->dead); n++)
		pass_seconds(1);
	assert_int_equal(live_copies(0), 3);
	assert_int_equal(state_at(0, lost), MEMX_R_NONE);
	for (n = 0; n < w->donors; n++)
		if (state_at(0, &w->donor[n]) == MEMX_R_LIVE)
			assert_true(srv_holds(w->donor[n].srv, g->conf.vm, g->session, 0));
	assert_int_equal(world_counters(w).donor_violations, 0);
	fetched(0, 32);
}

/* ---- a donor that tells what it has in many small answers --------------------------------------------------------------------- */

static u16 told_in_pieces;		/* LIST or SCAN; what they list has the same size */

static bool one_by_one(struct wdonor *d, struct frame *f)
{
	u32 each = sizeof(struct memx_extent_ref);
	struct memx_list list;

	(void)d;
	if (memx_le16(f->hdr.op) != (told_in_pieces | MEMX_OP_REPLY) || f->len <= sizeof(list) + each)
		return true;
	memcpy(&list, f->body, sizeof(list));
	list.count = memx_put_le32(1);
	memcpy(f->body, &list, sizeof(list));
	f->len = sizeof(list) + each;
	f->hdr.len = memx_put_le32(f->len);
	f->hdr.flags = memx_put_le16((u16)(memx_le16(f->hdr.flags) & ~MEMX_F_LAST));
	return true;
}

static void a_listing_is_not_told_piece_by_piece(void **state)
{
	struct wdonor *b;
	struct wreq *r;
	u32 k;

	(void)state;
	w = world_new(11, 3, 400, NULL);
	g = wguest_new(w, 64 * MANY, 2);
	assert_true(wguest_start(g));
	for (k = 0; k < MANY; k++)
		stored(k * 64, 1);
	b = holder(0, 0);
	told_in_pieces = MEMX_OP_LIST;
	b->tamper = one_by_one;
	b->way_ns = 250 * MS;
	wdonor_drop(b);
	wdonor_up(b);
	until_state(b, SD_LISTING);
	r = wguest_store(g, 8, 1);
	assert_non_null(r);
	assert_true(ms_until(r, 5000) < 2000);
	assert_int_equal(r->status, MEMX_S_OK);
	assert_true(world_counters(w).donor_violations > 0);
}

/* The only source tells one slot at a time: its connection ends, and what it is asked next it answers as it should. */
static void a_scan_is_not_told_piece_by_piece(void **state)
{
	struct wdonor *b;

	(void)state;
	cluster(3, 2);
	stored(0, 32);
	b = holder(0, 0);
	told_in_pieces = MEMX_OP_SCAN;
	b->tamper = one_by_one;
	away(holder(0, 1));
	pass_seconds(15);
	assert_true(world_counters(w).donor_violations > 0);
	b->tamper = NULL;
	repaired();
	assert_int_equal(live_copies(0), 2);
	fetched(0, 32);
}

enum { LONG_ORDER = 11 };

static void long_extents(struct core_config *cfg)
{
	cfg->extent_order = LONG_ORDER;
	cfg->staging_bytes = 16 << 20;
}

static u32 scan_answers;

static bool counts_scans(struct wdonor *d, struct frame *f)
{
	(void)d;
	scan_answers += memx_le16(f->hdr.op) == (MEMX_OP_SCAN | MEMX_OP_REPLY);
	return true;
}

/* More slots than one answer has room for: an honest donor tells of them in answers that are full, to the last. */
static void a_long_extent_takes_several_scans(void **state)
{
	u32 slot, slots = 1 << LONG_ORDER;

	(void)state;
	w = world_new(11, 3, 64, long_extents);
	g = wguest_new(w, slots, 2);
	assert_true(wguest_start(g));
	assert_int_equal(g->order, LONG_ORDER);
	for (slot = 0; slot < slots; slot += 32)
		stored(slot, 32);
	scan_answers = 0;
	holder(0, 0)->tamper = counts_scans;
	away(holder(0, 1));
	pass_seconds(11);
	repaired();
	assert_true(scan_answers >= 2);
	assert_int_equal(world_counters(w).donor_violations, 0);
	for (slot = 0; slot < slots; slot += 32)
		fetched(slot, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(nobody_keeps_the_turn_of_others), rule(refused_copies_are_made_elsewhere), rule(stores_do_not_wait_for_who_refuses),
		rule(a_session_freed_before_the_listing), rule(a_session_freed_at_a_source),
		rule(a_detach_does_not_wait_for_who_refuses),
		rule(a_listing_is_not_told_piece_by_piece), rule(a_scan_is_not_told_piece_by_piece),
		rule(a_long_extent_takes_several_scans),
	};

	return cmocka_run_group_tests_name("relay core: turns", tests, NULL, NULL);
}
