// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-guest.c - what the relay does with guests that break the protocol, and that it harms nobody else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

static struct world *w;
static struct wguest *g, *other;

static int setup(void **state)
{
	(void)state;
	w = world_new(7, 3, 32, NULL);
	g = wguest_new(w, 256, 2);
	other = wguest_new(w, 128, 2);
	assert_true(wguest_start(other));
	assert_int_equal(wguest_do(other, wguest_store(other, 0, 32)), MEMX_S_OK);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	/* Whatever the hostile one did: the other is served as before. */
	assert_int_equal(wguest_do(other, wguest_fetch(other, 0, 32)), MEMX_S_OK);
	assert_int_equal(wguest_do(other, wguest_store(other, 32, 4)), MEMX_S_OK);
	assert_true(other->alive && !other->errors);
	/* And the hostile one may come again. */
	memset(g->record, 0, (256 / 64 + 2) * sizeof(*g->record));
	assert_true(wguest_again(g));
	world_free(w);
	return 0;
}

static void attached(void)
{
	assert_true(wguest_start(g));
	assert_int_equal(wguest_do(g, wguest_store(g, 0, 8)), MEMX_S_OK);
}

static void closed_for(const char *why)
{
	world_settle(w);
	if (!g->closed || !strstr(g->reason, why))
		fprintf(stderr, "closed %d, reason \"%s\", expected \"%s\"\n", g->closed, g->reason, why);
	assert_true(g->closed);
	assert_non_null(strstr(g->reason, why));
	assert_int_equal(world_counters(w).violations, 1);
}

static void send_frame(u32 lane, u16 op, u64 epoch, const void *body, u32 len)
{
	struct memx_head head = { .op = op, .tag = 1000001, .epoch = epoch, .len = len };

	wguest_raw(g, lane, &head, body);
}

struct io_frame {
	struct memx_io io;
	struct memx_want want[MEMX_MAX_PAGES + 1];
};

static struct io_frame fetch_of(u32 extent, u32 count, u32 slot)
{
	struct io_frame f;
	u32 i;

	memset(&f, 0, sizeof(f));
	f.io.extent = memx_put_le32(extent);
	f.io.count = memx_put_le16((u16)count);
	for (i = 0; i < count && i <= MEMX_MAX_PAGES; i++) {
		f.want[i].slot = memx_put_le32(slot + i);
		f.want[i].version = memx_put_le64(1);
	}
	return f;
}

/* ---- out of place ------------------------------------------------------------------------------------------------------- */

static void request_before_hello(void **state)
{
	(void)state;
	wguest_offer(g);
	send_frame(0, MEMX_OP_ATTACH, 1, NULL, 0);
	closed_for("request before hello");
}

static void data_before_attach(void **state)
{
	struct io_frame f = fetch_of(0, 1, 0);

	(void)state;
	wguest_offer(g);
	world_settle(w);
	send_frame(1, MEMX_OP_FETCH, 0, &f, memx_want_len(1));
	closed_for("not attached");
}

static void fetch_on_store_lane(void **state)
{
	struct io_frame f = fetch_of(0, 1, 0);

	(void)state;
	attached();
	send_frame(0, MEMX_OP_FETCH, g->epoch, &f, memx_want_len(1));
	closed_for("lane of the other kind");
}

static void discard_on_fetch_lane(void **state)
{
	struct io_frame f = fetch_of(0, 1, 0);

	(void)state;
	attached();
	send_frame(1, MEMX_OP_DISCARD, g->epoch, &f, memx_want_len(1));
	closed_for("lane of the other kind");
}

static void other_epoch(void **state)
{
	struct io_frame f = fetch_of(0, 1, 0);

	(void)state;
	attached();
	send_frame(1, MEMX_OP_FETCH, g->epoch + 1, &f, memx_want_len(1));
	closed_for("another epoch");
}

static void attach_twice(void **state)
{
	(void)state;
	attached();
	wguest_attach(g);
	closed_for("attach while attached");
}

static void map_without_attach(void **state)
{
	struct memx_records recs = { 0 };

	(void)state;
	wguest_offer(g);
	world_settle(w);
	send_frame(0, MEMX_OP_MAP, 1, &recs, sizeof(recs));
	closed_for("map without attach");
}

static void detach_beside_control_lane(void **state)
{
	(void)state;
	attached();
	send_frame(1, MEMX_OP_DETACH, g->epoch, NULL, 0);
	closed_for("beside the first store lane");
}

/* ---- malformed ------------------------------------------------------------------------------------------------------------ */

static void bad_magic(void **state)
{
	struct frame *f;

	(void)state;
	attached();
	send_frame(1, MEMX_OP_PING, g->epoch, NULL, 0);
	f = list_first(&g->to_relay[1], struct frame, in_queue);
	f->hdr.magic = 0;
	closed_for("bad header");
}

static void too_long(void **state)
{
	static u8 body[8192];

	(void)state;
	attached();
	send_frame(1, MEMX_OP_FETCH, g->epoch, body, sizeof(body));
	closed_for("with a body of");
}

static void wrong_slots(void **state)
{
	static const struct { u32 extent, count, slot; } cases[] = {
		{ 0, 1, 64 },		/* of another extent */
		{ 4, 1, 256 },		/* behind the end */
		{ 0x3ffffff, 1, 0xffffffc0 },
		{ 0, 0, 0 },
	};
	u32 i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct io_frame f = fetch_of(cases[i].extent, cases[i].count, cases[i].slot);

		assert_true(i ? wguest_again(g) : wguest_start(g));
		send_frame(1, MEMX_OP_FETCH, g->epoch, &f, memx_want_len(cases[i].count));
		world_settle(w);
		assert_true(g->closed);
		assert_non_null(strstr(g->reason, "malformed fetch"));
		assert_int_equal(world_counters(w).violations, i + 1);
	}
}

static void same_slot_twice(void **state)
{
	struct io_frame f = fetch_of(0, 2, 0);

	(void)state;
	attached();
	f.want[1].slot = f.want[0].slot;
	send_frame(0, MEMX_OP_DISCARD, g->epoch, &f, memx_want_len(2));
	closed_for("malformed discard");
}

static void version_zero(void **state)
{
	struct io_frame f = fetch_of(0, 1, 0);

	(void)state;
	attached();
	f.want[0].version = 0;
	send_frame(0, MEMX_OP_DISCARD, g->epoch, &f, memx_want_len(1));
	closed_for("malformed discard");
}

static void count_and_length_disagree(void **state)
{
	struct io_frame f = fetch_of(0, 2, 0);

	(void)state;
	attached();
	send_frame(1, MEMX_OP_FETCH, g->epoch, &f, memx_want_len(1));
	closed_for("malformed fetch");
}

static void answer_to_nothing(void **state)
{
	struct memx_head head = { .op = MEMX_OP_RECORD, .reply = true, .tag = 4711 };

	(void)state;
	attached();
	head.epoch = g->epoch;
	wguest_raw(g, 0, &head, NULL);
	closed_for("answer to nothing");
}

static void record_answered_twice(void **state)
{
	struct memx_head head = { .op = MEMX_OP_RECORD, .reply = true };

	(void)state;
	assert_true(wguest_start(g));
	g->mute_records = true;
	assert_int_equal(wguest_do(g, wguest_store(g, 0, 1)), ~0U);
	assert_non_null(g->held_record);
	head.tag = memx_le64(g->held_record->hdr.tag);
	head.epoch = g->epoch;
	wguest_raw(g, 0, &head, NULL);
	wguest_raw(g, 0, &head, NULL);
	closed_for("answer to nothing");
	g->mute_records = false;
}

static void unknown_operation(void **state)
{
	(void)state;
	attached();
	send_frame(0, 999, g->epoch, "abcd", 4);
	world_settle(w);
	assert_true(g->alive);		/* answered, not punished: a newer guest may know more */
	assert_int_equal(world_counters(w).violations, 0);
}

/* ---- attach ----------------------------------------------------------------------------------------------------------------- */

struct attach_frame {
	struct memx_attach a;
	struct memx_records recs;
	struct memx_record rec[2];
};

static struct attach_frame good_attach(void)
{
	struct attach_frame f;

	memset(&f, 0, sizeof(f));
	memcpy(f.a.session, g->session, 16);
	f.a.lineage[0] = memx_put_le64(1);
	f.a.slots = memx_put_le32(256);
	f.a.extent_order = 6;
	f.a.records = memx_put_le32(1);
	f.recs.count = memx_put_le32(1);
	f.rec[0].generation = memx_put_le64(1);
	f.rec[0].replicas = 1;
	memset(f.rec[0].replica[0].donor, 0xd0, 16);
	f.rec[0].replica[0].instance = memx_put_le64(100);
	f.rec[0].replica[0].state = MEMX_R_LIVE;
	f.rec[1] = f.rec[0];
	f.rec[1].extent = memx_put_le32(1);
	return f;
}

static void hears_nothing(struct wguest *guest, u32 lane, const struct frame *f)
{
	(void)guest;
	(void)lane;
	(void)f;
}

/* What cannot be granted is not made first: a guest could keep the relay busy with it. */
static void nothing_is_made_for_what_is_refused(void **state)
{
	struct memx_head map = { .op = MEMX_OP_MAP, .epoch = 7, .flags = MEMX_F_LAST, .len = memx_records_len(1) };
	struct attach_frame f;

	(void)state;
	assert_true(wguest_start(g));
	f = good_attach();
	f.a.flags = memx_put_le16(MEMX_ATTACH_FROZEN);
	f.a.slots = memx_put_le32((u32)g->conf.quota_pages + 1);
	wguest_hang_up(g);
	wguest_offer(g);
	world_settle(w);
	g->hears = hears_nothing;
	send_frame(0, MEMX_OP_ATTACH, 7, &f.a, sizeof(f.a));
	world_settle(w);
	assert_non_null(g->link->session);
	assert_int_equal(g->link->session->allocated, 0);
	f.recs.count = memx_put_le32(1);
	wguest_raw(g, 0, &map, &f.recs);
	world_settle(w);
	assert_int_equal(world_counters(w).violations, 0);
	assert_int_equal(world_counters(w).attach_refused, 1);
	/* Before its time nothing is made for one either that might be granted. */
	f.a.slots = memx_put_le32(256);
	send_frame(0, MEMX_OP_ATTACH, 8, &f.a, sizeof(f.a));
	world_settle(w);
	assert_int_equal(g->link->session->allocated, 0);
	wguest_hang_up(g);
	g->hears = NULL;
}

static void try_attach(const struct attach_frame *f, u64 epoch, u32 records, const char *why)
{
	struct memx_head head = { .op = MEMX_OP_MAP, .epoch = epoch, .flags = MEMX_F_LAST, .len = memx_records_len(records) };
	u64 before = world_counters(w).violations;

	wguest_hang_up(g);
	wguest_offer(g);
	world_settle(w);
	send_frame(0, MEMX_OP_ATTACH, epoch, &f->a, sizeof(f->a));
	wguest_raw(g, 0, &head, &f->recs);
	world_settle(w);
	if (!g->closed || !strstr(g->reason, why))
		fprintf(stderr, "closed %d, reason \"%s\", expected \"%s\"\n", g->closed, g->reason, why);
	assert_true(g->closed);
	assert_non_null(strstr(g->reason, why));
	assert_int_equal(world_counters(w).violations, before + 1);
}

static void impossible_attaches(void **state)
{
	struct attach_frame f;

	(void)state;
	f = good_attach();
	try_attach(&f, 0, 1, "epoch 0");
	memset(f.a.session, 0, 16);
	try_attach(&f, 1, 1, "without session");
	f = good_attach();
	f.a.lineage[0] = 0;
	try_attach(&f, 1, 1, "without session or lineage");
	f = good_attach();
	f.a.flags = memx_put_le16(0x80);
	try_attach(&f, 1, 1, "no meaning");
	f = good_attach();
	f.a.extent_order = 15;
	try_attach(&f, 1, 1, "order out of range");
	f = good_attach();
	f.a.records = memx_put_le32(5);
	try_attach(&f, 1, 1, "more records than extents");
	f = good_attach();
	f.a.extent_order = 0;
	try_attach(&f, 1, 1, "without slots and extent order");
}

static void impossible_maps(void **state)
{
	struct attach_frame f;

	(void)state;
	f = good_attach();
	f.a.records = memx_put_le32(2);
	try_attach(&f, 1, 1, "fewer records than announced");
	f = good_attach();
	f.recs.count = memx_put_le32(2);
	try_attach(&f, 1, 2, "malformed map");
	f.a.records = memx_put_le32(2);
	f.rec[1].extent = f.rec[0].extent;
	try_attach(&f, 1, 2, "two records for one extent");
	f = good_attach();
	f.rec[0].extent = memx_put_le32(4);
	try_attach(&f, 1, 1, "cannot be true");
	f = good_attach();
	f.rec[0].generation = 0;
	try_attach(&f, 1, 1, "cannot be true");
	f = good_attach();
	f.rec[0].replica[0].state = MEMX_R_STALE;
	try_attach(&f, 1, 1, "cannot be true");
	f = good_attach();
	f.rec[0].replicas = 2;
	f.rec[0].replica[1] = f.rec[0].replica[0];
	try_attach(&f, 1, 1, "cannot be true");
	f = good_attach();
	f.rec[0].generation = memx_put_le64(~0ULL);
	try_attach(&f, 1, 1, "without successors");
}

/*
 * A map that names a donor's id with an instance that it never had: of every extent it would seem that its last copy is gone. Once
 * per attach, and with every attach anew: that is said in a few lines, none of which calls anybody out of bed.
 */
static void a_made_up_map_fills_no_log(void **state)
{
	struct memx_record one;
	u32 i, k;

	(void)state;
	world_free(w);
	w = world_new(11, 2, 512, NULL);
	other = wguest_new(w, 128, 2);
	g = wguest_new(w, 64 * 64, 2);
	assert_true(wguest_start(other));
	assert_int_equal(wguest_do(other, wguest_store(other, 0, 32)), MEMX_S_OK);
	attached();
	one = g->record[0];
	w->watched = "extent-lost";
	for (k = 0; k < 5; k++) {
		wguest_detach(g);
		world_pass(w, 1000);
		memset(g->session, 0x40 + (int)k, sizeof(g->session));
		for (i = 0; i < 64; i++) {
			g->record[i] = one;
			g->record[i].extent = memx_put_le32(i);
			g->record[i].replica[0].instance = memx_put_le64(5);
			g->record[i].replica[1].instance = memx_put_le64(6);
		}
		g->frozen = true;
		wguest_attach(g);
		world_settle(w);
		assert_true(g->attached);
	}
	world_pass(w, 500);
	assert_int_equal(w->seen, 1);
	assert_int_equal(w->seen_level, CORE_LOG_ERR);
	world_pass(w, 20000);
	assert_int_equal(w->seen, 2);
	assert_int_equal(w->seen_level, CORE_LOG_ERR);
	assert_int_equal(world_counters(w).extents_lost, 5 * 64);
	wguest_detach(g);
	world_pass(w, 1000);
	g->frozen = false;
	memset(g->record, 0, 64 * sizeof(*g->record));
}

/* ---- credit ------------------------------------------------------------------------------------------------------------------ */

static void hang_donors(bool hung)
{
	u32 i;

	for (i = 0; i < w->donors; i++)
		w->donor[i].hung = hung;
}

static void overdraft_of_requests(void **state)
{
	struct io_frame f = fetch_of(0, 1, 0);
	u32 i;

	(void)state;
	attached();
	hang_donors(true);
	for (i = 0; i <= g->lane_requests; i++)
		send_frame(1, MEMX_OP_FETCH, g->epoch, &f, memx_want_len(1));
	closed_for("overdraft");
	assert_int_equal(world_counters(w).overdrafts, 1);
	hang_donors(false);
	world_pass(w, 1000);
}

static void overdraft_of_pages(void **state)
{
	struct io_frame f = fetch_of(0, 32, 0);
	u32 i;

	(void)state;
	attached();
	hang_donors(true);
	for (i = 0; i <= g->lane_pages / 32; i++)
		send_frame(1, MEMX_OP_FETCH, g->epoch, &f, memx_want_len(32));
	closed_for("overdraft");
	assert_int_equal(world_counters(w).overdrafts, 1);
	hang_donors(false);
	world_pass(w, 1000);
}

static void overdraft_of_the_ring(void **state)
{
	(void)state;
	attached();
	g->ring_used[1] = W_RING - 64;	/* it takes nothing out */
	assert_non_null(wguest_fetch(g, 0, 8));
	closed_for("no room for");
	assert_int_equal(world_counters(w).overdrafts, 1);
}

static void damaged_store(void **state)
{
	struct wreq *r;

	(void)state;
	attached();
	r = wguest_store(g, 8, 2);
	list_first(&g->to_relay[0], struct frame, in_queue)->body[5000] ^= 1;
	assert_int_equal(wguest_do(g, r), MEMX_S_CORRUPT);
	assert_int_equal(world_counters(w).guest_corrupt, 1);
	assert_true(g->alive);
	assert_int_equal(wguest_do(g, wguest_store(g, 8, 2)), MEMX_S_OK);
	assert_int_equal(wguest_do(g, wguest_fetch(g, 8, 2)), MEMX_S_OK);
}

/* The page of a slot that was never stored is an error, never zeros. */
static void absent_is_an_error(void **state)
{
	(void)state;
	attached();
	g->may_lose = true;
	g->slot[30].state = g->slot[100].state = SLOT_STORED;
	g->slot[30].good = g->slot[100].good = 5;
	assert_int_equal(wguest_do(g, wguest_fetch(g, 30, 1)), MEMX_S_ABSENT);
	assert_int_equal(wguest_do(g, wguest_fetch(g, 100, 1)), MEMX_S_ABSENT);
	g->slot[3].good = 99;
	assert_int_equal(wguest_do(g, wguest_fetch(g, 3, 1)), MEMX_S_VERSION);
	g->slot[4].good = 99;
	g->slot[3].good = 1;
	assert_int_equal(wguest_do(g, wguest_fetch(g, 3, 3)), MEMX_S_PARTIAL);
}

static u64 pages_promised(void)
{
	struct srv_totals t;
	u64 pages = 0;
	u32 i;

	for (i = 0; i < w->donors; i++) {
		srv_totals(w->donor[i].srv, &t);
		pages += t.pages_reserved;
	}
	return pages;
}

/*
 * A domain that takes its own session for another's, again and again: refused, but not forgotten. What it had reserved goes with
 * the domain.
 */
static void a_foreign_life_frees_nothing_and_keeps_nothing(void **state)
{
	u64 before = pages_promised();
	int i;

	(void)state;
	attached();
	for (i = 0; i < 3; i++) {
		memset(g->session, 0x70 + i, sizeof(g->session));
		memset(g->record, 0, (256 / 64 + 2) * sizeof(*g->record));
		g->frozen = false;
		g->order = 0;
		g->lineage[0] = 77;
		assert_true(wguest_again(g));
		g->lineage[0] = 78;
		assert_false(wguest_again(g));
		assert_int_equal(g->attach_status, MEMX_S_SUPERSEDED);
		g->lineage[0] = 77;
		g->epoch -= 3;
		assert_false(wguest_again(g));
		assert_int_equal(g->attach_status, MEMX_S_FENCED);
	}
	wguest_hang_up(g);
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, false, w->now);
	world_pass(w, 1000);
	assert_int_equal(pages_promised(), before);
}

#define hostile(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		hostile(request_before_hello), hostile(data_before_attach), hostile(fetch_on_store_lane),
		hostile(discard_on_fetch_lane), hostile(other_epoch), hostile(attach_twice), hostile(map_without_attach),
		hostile(detach_beside_control_lane), hostile(bad_magic), hostile(too_long), hostile(wrong_slots),
		hostile(same_slot_twice), hostile(version_zero), hostile(count_and_length_disagree), hostile(answer_to_nothing),
		hostile(record_answered_twice), hostile(unknown_operation), hostile(impossible_attaches),
		hostile(nothing_is_made_for_what_is_refused),
		hostile(impossible_maps), hostile(a_made_up_map_fills_no_log), hostile(overdraft_of_requests), hostile(overdraft_of_pages),
		hostile(overdraft_of_the_ring), hostile(damaged_store), hostile(absent_is_an_error),
		hostile(a_foreign_life_frees_nothing_and_keeps_nothing),
	};

	return cmocka_run_group_tests_name("relay core: guests that break the rules", tests, NULL, NULL);
}
