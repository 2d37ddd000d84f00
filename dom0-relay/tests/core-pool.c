// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-pool.c - a donor's buffers are used up: what would need one waits, and goes on when there is one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

/* ---- buffers that somebody else has -------------------------------------------------------------------------------------- */

static struct {
	struct rbuf *buf[8192];
	u32 n;
} taken;

/* All of the donor's but @left bytes, and no more than these in small ones. */
static void take_buffers(struct wdonor *d, u32 left)
{
	u64 limit = (4ULL << 20) - left;
	struct rbuf *buf;

	while (rpool_used(d->cd->pool) + rpool_cost(MEMX_MAX_BODY) <= limit) {
		buf = rpool_get(d->cd->pool, MEMX_MAX_BODY);
		assert_non_null(buf);
		taken.buf[taken.n++] = buf;
	}
	while (rpool_used(d->cd->pool) + rpool_cost(1) <= limit) {
		buf = rpool_get(d->cd->pool, 1);
		assert_non_null(buf);
		taken.buf[taken.n++] = buf;
	}
}

static void give_buffers_back(void)
{
	while (taken.n)
		rbuf_put(taken.buf[--taken.n]);
}

static int over(void **state)
{
	give_buffers_back();
	return teardown(state);
}

#define tight(name) cmocka_unit_test_teardown(name, over)

/* ---- fetches ------------------------------------------------------------------------------------------------------------- */

/* Of two pages that are fetched it says that it has not got the second. */
static bool lacks_the_second(struct wdonor *d, struct frame *f)
{
	struct memx_page *page = (struct memx_page *)(f->body + MEMX_IO_LEN);

	(void)d;
	if (memx_le16(f->hdr.op) != (MEMX_OP_FETCH | MEMX_OP_REPLY) || f->len != memx_fetched_len(2, 2))
		return true;
	page[1].status = memx_put_le32(MEMX_S_VERSION);
	memset(&page[1].trailer, 0, sizeof(page[1].trailer));
	f->len = memx_fetched_len(2, 1);
	f->hdr.len = memx_put_le32(f->len);
	f->hdr.status = memx_put_le32(MEMX_S_PARTIAL);
	return true;
}

/* The one donor has one of two pages; to ask the other for the second takes a buffer. It is asked when there is one. */
static void a_fetch_waits_for_a_buffer(void **state)
{
	struct wdonor *first, *second;
	struct wreq *f;

	(void)state;
	cluster(2, 2);
	stored(0, 2);
	first = holder(0, 0);
	second = holder(0, 1);
	first->tamper = lacks_the_second;
	second->cd->lat_ns = 100 * MS;		/* it is not asked first */
	take_buffers(second, 0);
	f = wguest_fetch(g, 0, 2);
	world_settle(w);
	assert_false(f->done);
	give_buffers_back();
	world_pass(w, 50);
	assert_true(f->done);
	assert_int_equal(f->status, MEMX_S_OK);
}

/* ---- RETAIN -------------------------------------------------------------------------------------------------------------- */

enum { MANY = 3 * MEMX_MAX_EXTENTS };

static u64 pages_held(void)
{
	return wdonor_pages(&w->donor[0]) + wdonor_pages(&w->donor[1]);
}

static u32 hidden;

/* It does not list this extent: only RETAIN finds that nobody names it. */
static bool hides_one(struct wdonor *d, struct frame *f)
{
	struct memx_list *list = (struct memx_list *)f->body;
	struct memx_extent_ref *ref = (struct memx_extent_ref *)(list + 1);
	u32 i, count = memx_le16(f->hdr.op) == (MEMX_OP_LIST | MEMX_OP_REPLY) ? memx_le32(list->count) : 0;

	(void)d;
	for (i = 0; i < count; i++) {
		if (memx_le32(ref[i].extent) != hidden)
			continue;
		memmove(&ref[i], &ref[i + 1], (count - i - 1) * sizeof(*ref));
		if (!(memx_le16(f->hdr.flags) & MEMX_F_LAST)) {		/* has to be full: the first of the next one fills it */
			ref[count - 1].extent = memx_put_le32(memx_le32(ref[count - 1].extent) + 1);
			break;
		}
		list->count = memx_put_le32(count - 1);
		f->len = memx_list_len(count - 1);
		f->hdr.len = memx_put_le32(f->len);
		break;
	}
	return true;
}

/* The guest has no record of the extent any more, both donors hold it, and it attaches anew. */
static void forgotten(u32 extent)
{
	memset(&g->record[extent], 0, sizeof(g->record[extent]));
	memset(&g->slot[extent * 64], 0, 64 * sizeof(g->slot[0]));
	hidden = extent;
	w->donor[0].tamper = hides_one;
	w->donor[1].tamper = hides_one;
	wguest_hang_up(g);
	world_pass(w, 10);
}

/*
 * The guest's map names more extents than there are buffers to tell the donors of: it is told in pieces, and what it does not
 * name is freed, and only that.
 */
static void a_long_map_is_told_in_pieces(void **state)
{
	u32 i;

	(void)state;
	w = world_new(11, 2, MANY + 64, no_repair);
	g = wguest_new(w, MANY * 64, 2);
	assert_true(wguest_start(g));
	assert_int_equal(g->order, 6);
	for (i = 0; i < MANY; i++)
		stored(i * 64, 1);
	assert_int_equal(pages_held(), 2 * MANY * 64);
	forgotten(1);
	take_buffers(&w->donor[0], 2 * rpool_cost(memx_list_len(MEMX_MAX_EXTENTS)));
	take_buffers(&w->donor[1], 2 * rpool_cost(memx_list_len(MEMX_MAX_EXTENTS)));
	assert_true(wguest_start(g));
	world_pass(w, 10);
	assert_int_equal(pages_held(), 2 * (MANY - 1) * 64);
	assert_int_equal(world_counters(w).condemned, 2);
	for (i = 0; i < MANY; i += 100)
		fetched(i * 64, 1);
}

/* An extent that gets its record between two pieces, behind the first of them, is not among those that are freed. */
static void what_is_placed_meanwhile_stays(void **state)
{
	u32 i;

	(void)state;
	w = world_new(11, 2, MANY + 64, no_repair);
	g = wguest_new(w, MANY * 64, 2);
	assert_true(wguest_start(g));
	for (i = 1; i < MANY; i++)
		stored(i * 64, 1);
	assert_int_equal(pages_held(), 2 * (MANY - 1) * 64);
	w->donor[0].way_ns = 20 * MS;
	forgotten(2);
	wguest_start(g);
	for (i = 0; i < 400 && !g->attached; i++)
		world_pass(w, 5);
	assert_true(g->attached);
	assert_non_null(wguest_store(g, 0, 1));
	assert_non_null(wguest_store(g, 2 * 64, 1));	/* one that an older epoch placed, and the map does not name */
	world_pass(w, 1000);
	assert_int_equal(pages_held(), 2 * MANY * 64);
	w->donor[0].way_ns = 0;
	fetched(0, 1);
	fetched(2 * 64, 1);
}

/* No buffer at all for a piece of it: it is told when there is one, on the same connection and in the same epoch. */
static void the_map_is_told_when_there_is_a_buffer(void **state)
{
	(void)state;
	cluster(2, 2);
	stored(0, 8);
	stored(64, 8);
	forgotten(1);
	take_buffers(&w->donor[0], 4096);
	take_buffers(&w->donor[1], 4096);
	assert_true(wguest_start(g));
	world_pass(w, 3000);
	assert_int_equal(pages_held(), 2 * 2 * 64);
	give_buffers_back();
	world_pass(w, 1100);
	assert_int_equal(pages_held(), 2 * 64);
	fetched(0, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tight(a_fetch_waits_for_a_buffer), tight(a_long_map_is_told_in_pieces), tight(what_is_placed_meanwhile_stays),
		tight(the_map_is_told_when_there_is_a_buffer),
	};

	return cmocka_run_group_tests_name("relay core: a donor's buffers are used up", tests, NULL, NULL);
}
