// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-lies.c - donors that lie about what they hold: what it must not cost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

static u16 answer_to(const struct frame *f)
{
	return memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;
}

static void resize(struct frame *f, u32 len)
{
	u8 *body = core_zalloc(len + 8);

	memcpy(body, f->body, f->len < len ? f->len : len);
	free(f->body);
	f->body = body;
	f->len = len;
	f->hdr.len = memx_put_le32(len);
}

/* ---- extents that were cut off ------------------------------------------------------------------------------------------- */

enum { WANTED = 64 };		/* extents, twice what the donor has room for */

/* It holds the last extent that was asked for, and has no time to free it. */
static bool holds_the_last(struct wdonor *d, struct frame *f)
{
	struct memx_extent_ref ref = { .extent = memx_put_le32(WANTED - 1), .generation = memx_put_le64(1) };
	struct memx_list list = { .count = memx_put_le32(1) };

	(void)d;
	if (answer_to(f) == MEMX_OP_FENCE && f->len == sizeof(struct memx_fenced)) {
		((struct memx_fenced *)f->body)->extents = memx_put_le32(1);
	} else if (answer_to(f) == MEMX_OP_LIST) {
		resize(f, memx_list_len(1));
		memcpy(f->body, &list, sizeof(list));
		memcpy(f->body + sizeof(list), &ref, sizeof(ref));
		f->hdr.flags = memx_put_le16(MEMX_F_LAST);
	} else if (answer_to(f) == MEMX_OP_FREE) {
		f->hdr.status = memx_put_le32(MEMX_S_AGAIN);
		resize(f, 0);
	}
	return true;
}

/* Less is granted than was asked for: what a donor says of the rest concerns nobody, also when the session is gone. */
static void what_is_cut_off_leaves_nothing(void **state)
{
	(void)state;
	w = world_new(11, 1, 32, NULL);
	g = wguest_new(w, WANTED * 64, 1);
	assert_true(wguest_start(g));
	assert_true(g->slots < WANTED * 64);
	wguest_hang_up(g);
	g->frozen = false;			/* nothing was swapped to it yet: it asks for all once more */
	w->donor[0].tamper = holds_the_last;
	assert_true(wguest_start(g));
	assert_true(g->slots < WANTED * 64);
	wguest_hang_up(g);
	world_pass(w, 100);
	w->donor[0].tamper = NULL;
	assert_true(wguest_again(g));
	stored(0, 8);
	fetched(0, 8);
}

/* ---- slots that were discarded, it says ------------------------------------------------------------------------------------ */

static struct memx_want *scanned(struct frame *f, u32 *count)
{
	if (answer_to(f) != MEMX_OP_SCAN || f->len < sizeof(struct memx_list))
		return NULL;
	*count = memx_le32(((struct memx_list *)f->body)->count);
	return (struct memx_want *)(f->body + sizeof(struct memx_list));
}

static bool slot_held(struct wdonor *d, u32 slot)
{
	u8 page[MEMX_PAGE_SIZE];

	wguest_page(g, slot, 1, page);
	return wdonor_find(d, page);
}

/* Whatever it holds was discarded, at a version that no store will ever have. */
static bool all_gone_in_the_future(struct wdonor *d, struct frame *f)
{
	u32 i, count = 0;
	struct memx_want *want = scanned(f, &count);

	(void)d;
	for (i = 0; i < count; i++) {
		want[i].version = memx_put_le64(~0ULL);
		want[i].status = memx_put_le32(MEMX_S_ABSENT);
	}
	return true;
}

/* Another source has the pages: they are copied from there, and the new copy takes stores. */
static void no_single_word_discards_a_page(void **state)
{
	struct wdonor *liar, *honest, *joins;
	u32 i;

	(void)state;
	cluster(3, 2);
	stored(0, 32);
	assert_int_equal(wguest_do(g, wguest_discard(g, 30, 2)), MEMX_S_OK);
	liar = holder(0, 0);
	honest = holder(0, 1);
	liar->tamper = all_gone_in_the_future;
	assert_int_equal(core_donor_empty(w->core, honest->name, true, w->now), 0);
	for (i = 0; i < 100 && state_at(0, honest) != MEMX_R_NONE; i++)
		world_pass(w, 200);
	assert_int_equal(state_at(0, honest), MEMX_R_NONE);
	for (i = 0; i < w->donors && (&w->donor[i] == liar || &w->donor[i] == honest); i++)
		;
	joins = &w->donor[i];
	assert_int_equal(state_at(0, joins), MEMX_R_LIVE);
	stored(5, 1);
	liar->hung = true;
	world_pass(w, 2000);
	fetched(0, 30);
	stored(30, 2);
	fetched(30, 2);
}

/* What all of them tell is discarded at the new copy, too. */
static void what_all_say_is_discarded(void **state)
{
	struct wdonor *lost;

	(void)state;
	cluster(3, 3);
	stored(0, 8);
	lost = holder(0, 2);
	lost->there = false;
	wdonor_drop(lost);
	assert_int_equal(wguest_do(g, wguest_discard(g, 2, 3)), MEMX_S_OK);
	assert_true(slot_held(lost, 2));
	lost->there = true;
	repaired();
	assert_int_equal(state_at(0, lost), MEMX_R_LIVE);
	assert_false(slot_held(lost, 2));
	assert_true(slot_held(lost, 5));
}

/* ---- generations that nobody proposed ----------------------------------------------------------------------------------------- */

static u64 made_up;		/* listed so far */

/* Every extent that there is, each time by a higher generation. */
static bool lists_all(struct wdonor *d, struct frame *f)
{
	u32 i, n = memx_extents(g->slots, g->order);
	struct memx_list list = { .count = memx_put_le32(n) };
	struct memx_extent_ref ref;

	(void)d;
	if (answer_to(f) == MEMX_OP_FENCE && f->len == sizeof(struct memx_fenced)) {
		((struct memx_fenced *)f->body)->extents = memx_put_le32(n);
	} else if (answer_to(f) == MEMX_OP_LIST) {
		made_up++;
		resize(f, memx_list_len(n));
		memcpy(f->body, &list, sizeof(list));
		for (i = 0; i < n; i++) {
			ref = (struct memx_extent_ref){ .extent = memx_put_le32(i), .generation = memx_put_le64(1000 * made_up) };
			memcpy(f->body + sizeof(list) + i * sizeof(ref), &ref, sizeof(ref));
		}
		f->hdr.flags = memx_put_le16(MEMX_F_LAST);
	} else if (answer_to(f) == MEMX_OP_FREE) {
		f->hdr.status = memx_put_le32(MEMX_S_UNKNOWN);	/* so it is fenced anew, and lists again */
		resize(f, 0);
	}
	return true;
}

/*
 * What a relay before this one proposed may be listed, once. A donor that lists ever higher generations, with copies of its own or
 * without, does not have the guest's records changed each time.
 */
static void generations_are_not_made_up(void **state)
{
	u32 i, k, extents;
	struct core_counters before, after;
	struct wdonor *liar;

	(void)state;
	for (i = 0; i < 2; i++) {
		w = world_new(11, 3, 64, no_repair);
		g = wguest_new(w, 1024, 2);
		liar = &w->donor[2];
		if (!i) {
			wdonor_limit(liar, 0);
			world_pass(w, 1000);
		}
		assert_true(wguest_start(g));
		for (k = 0; k < g->slots; k += 32)
			stored(k, 32);
		assert_int_equal(wdonor_pages(liar) != 0, i);
		extents = memx_extents(g->slots, g->order);
		before = world_counters(w);
		made_up = 0;
		liar->tamper = lists_all;
		for (k = 0; k < 20; k++) {
			wdonor_drop(liar);
			world_pass(w, 500);
			fetched(k * 32, 32);
		}
		assert_true(made_up > 20);
		after = world_counters(w);
		assert_true(after.records - before.records <= 2 * extents);
		assert_true(after.donor_violations - before.donor_violations > 10);
		liar->tamper = NULL;
		world_pass(w, 2000);
		assert_true(donor_ok(liar->cd));
		for (k = 0; k < g->slots; k += 32)
			stored(k, 32);
		if (!i)
			world_free(w);
	}
}

/* What a relay before this one placed at a donor that had lost its memory, and this relay's fence with that, is listed late. */
static bool lists_what_was_proposed(struct wdonor *d, struct frame *f)
{
	made_up = 0;		/* the same each time */
	return answer_to(f) == MEMX_OP_FREE || lists_all(d, f);
}

/* It may be honest, so it is believed again after a while, and its connection stands. */
static void late_listings_are_believed(void **state)
{
	struct wdonor *late;
	u64 before;
	u32 k;

	(void)state;
	w = world_new(11, 3, 64, no_repair);
	g = wguest_new(w, 1024, 2);
	late = &w->donor[2];
	assert_true(wguest_start(g));
	for (k = 0; k < g->slots; k += 32)
		stored(k, 32);
	late->tamper = lists_what_was_proposed;
	wdonor_drop(late);
	world_pass(w, 5000);
	before = world_counters(w).donor_violations;
	assert_true(before > 0);
	world_pass(w, LISTED_AGAIN_MS);
	before = world_counters(w).donor_violations;
	world_pass(w, 10000);
	assert_int_equal(world_counters(w).donor_violations, before);
	assert_true(donor_ok(late->cd));
	for (k = 0; k < g->slots; k += 32)
		stored(k, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(what_is_cut_off_leaves_nothing), rule(no_single_word_discards_a_page), rule(what_all_say_is_discarded),
		rule(generations_are_not_made_up), rule(late_listings_are_believed),
	};

	return cmocka_run_group_tests_name("relay core: donors that lie about what they hold", tests, NULL, NULL);
}
