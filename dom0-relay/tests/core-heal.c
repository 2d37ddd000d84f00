// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-heal.c - copies that are damaged or incomplete: what the relay believes, and how they are made whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "donors.h"

/* The donor has its page of @slot damaged. */
static void rots(struct wdonor *d, u32 slot)
{
	u8 page[MEMX_PAGE_SIZE], *at;

	wguest_page(g, slot, g->slot[slot].good, page);
	at = wdonor_find(d, page);
	assert_non_null(at);
	at[1234] ^= 4;
}

static bool has(struct wdonor *d, u32 slot)
{
	u8 page[MEMX_PAGE_SIZE];

	wguest_page(g, slot, g->slot[slot].good, page);
	return wdonor_find(d, page);
}

/* A damaged copy is bypassed, and replaced where it lies. */
static void a_bad_copy_is_healed(void **state)
{
	struct wdonor *d;
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	d = holder(0, 0);
	rots(d, 3);
	rots(d, 5);
	for (i = 0; i < 200 && world_counters(w).bad_pages < 2; i++)
		fetched(0, 8);
	world_settle(w);
	assert_int_equal(world_counters(w).bad_pages, 2);
	assert_int_equal(world_counters(w).pages_healed, 2);
	assert_true(has(d, 3) && has(d, 5));
	holder(0, 1)->hung = true;
	world_pass(w, 2000);
	fetched(0, 8);
}

/* FETCH of repair or of a guest: the donor says that it holds none of it. */
static bool hides_pages(struct wdonor *d, struct frame *f)
{
	struct memx_page *page = (struct memx_page *)(f->body + MEMX_IO_LEN);
	u32 i, count;

	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != MEMX_OP_FETCH || f->len < MEMX_IO_LEN)
		return true;
	count = memx_le16(((struct memx_io *)f->body)->count);
	for (i = 0; i < count; i++) {
		memset(&page[i].trailer, 0, sizeof(page[i].trailer));
		page[i].status = memx_put_le32(MEMX_S_ABSENT);
	}
	f->hdr.status = memx_put_le32(MEMX_S_PARTIAL);
	f->len = MEMX_IO_LEN + count * (u32)sizeof(*page);
	f->hdr.len = memx_put_le32(f->len);
	return true;
}

/* What the only source listed and then has not got: the new copy is not complete, so it does not become live. */
static void repair_does_not_believe_absence(void **state)
{
	struct wdonor *lost, *left;

	(void)state;
	cluster(2, 2);
	stored(0, 32);
	left = holder(0, 0);
	lost = holder(0, 1);
	left->tamper = hides_pages;
	wdonor_restart(lost);
	world_pass(w, 10000);
	assert_int_equal(state_at(0, lost), MEMX_R_SYNCING);
	assert_int_equal(world_counters(w).replicas_repaired, 0);
	left->tamper = NULL;
	world_pass(w, 60000);
	assert_int_equal(state_at(0, lost), MEMX_R_LIVE);
	left->hung = true;
	world_pass(w, 2000);
	fetched(0, 32);
}

/* With another live copy the pages come from there. */
static void repair_asks_the_other_source(void **state)
{
	struct wdonor *lost, *liar;
	u32 i;

	(void)state;
	cluster(3, 3);
	stored(0, 32);
	liar = holder(0, 0);
	lost = holder(0, 2);
	liar->tamper = hides_pages;
	wdonor_restart(lost);
	repaired();
	for (i = 0; i < 32; i++)
		assert_true(has(lost, i));
}

/* Damage at one source: from the other, and healed. Nowhere right: not copied, not live, until the slot is stored anew. */
static void repair_never_replicates_damage(void **state)
{
	struct wdonor *lost, *bad;
	u32 i;

	(void)state;
	cluster(3, 3);
	stored(0, 32);
	bad = holder(0, 0);
	lost = holder(0, 2);
	rots(bad, 7);
	rots(bad, 31);
	wdonor_restart(lost);
	repaired();
	for (i = 0; i < 32; i++)
		assert_true(has(lost, i) && has(bad, i));
	world_free(w);

	cluster(2, 2);
	stored(0, 32);
	bad = holder(0, 0);
	lost = holder(0, 1);
	rots(bad, 7);
	wdonor_restart(lost);
	world_pass(w, 10000);
	assert_int_equal(state_at(0, lost), MEMX_R_SYNCING);
	assert_true(has(lost, 6) && has(lost, 8));
	stored(7, 1);
	world_pass(w, 60000);
	assert_int_equal(state_at(0, lost), MEMX_R_LIVE);
}

/* It goes away, and a store has another donor take its place: which one. */
static struct wdonor *replaced(struct wdonor *d)
{
	static u32 slot = 40;
	u32 i;

	d->there = false;
	wdonor_drop(d);
	assert_non_null(wguest_store(g, slot++ % 24 + 40, 1));
	world_pass(w, 1000);
	assert_int_equal(state_at(0, d), MEMX_R_STALE);
	for (i = 0; i < w->donors; i++)
		if (state_at(0, &w->donor[i]) == MEMX_R_SYNCING)
			return &w->donor[i];
	return NULL;
}

static void hears_nothing(struct wguest *guest, u32 lane, const struct frame *f)
{
	(void)guest;
	(void)lane;
	(void)f;
}

/* The live source has it damaged; a stale copy, kept as a last resort, has it. */
static void a_stale_copy_helps_repair(void **state)
{
	struct wdonor *bad, *stale;

	(void)state;
	w = world_new(11, 2, 32, no_repair);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	stored(0, 32);
	bad = holder(0, 0);
	stale = holder(0, 1);
	stale->there = false;
	wdonor_drop(stale);
	assert_non_null(wguest_store(g, 40, 1));
	world_pass(w, 1000);
	assert_int_equal(state_at(0, stale), MEMX_R_STALE);
	rots(bad, 7);
	stale->there = true;
	world_pass(w, 1000);
	fetched(0, 32);			/* the last resort serves */
	world_settle(w);
	assert_true(has(bad, 7));	/* and heals */
}

/* The third and the fourth donor come and go; the one that left first has what the only live one has damaged. */
static void a_stale_copy_is_not_given_up_for_a_lesser_one(void **state)
{
	struct wdonor *bad, *whole, *third, *last;
	u64 seed;

	(void)state;
	for (seed = 1; seed <= 16; seed++) {
		if (seed > 1)
			world_free(w);
		w = world_new(seed, 4 + (seed & 1), 32, no_repair);
		g = wguest_new(w, 256, 2);
		assert_true(wguest_start(g));
		stored(0, 32);
		bad = holder(0, 0);
		whole = holder(0, 1);
		third = replaced(whole);
		last = replaced(third);
		third->there = true;
		world_pass(w, 1000);
		assert_int_equal(g->record[0].replicas, MEMX_MAX_REPLICAS);
		assert_int_equal(state_at(0, third), MEMX_R_STALE);
		assert_ptr_equal(replaced(last), third);
		assert_int_equal(state_at(0, whole), MEMX_R_STALE);
		rots(bad, 7);
		whole->there = true;
		world_pass(w, 1000);
		fetched(0, 32);
	}
}

/* A guest asks for what nobody stored: no donor is blamed, and the log not filled. A page that one of two lacks is another matter. */
static void only_what_another_has_is_missing(void **state)
{
	struct {
		struct memx_io io;
		struct memx_want want;
	} ask = { .io = { .count = memx_put_le16(1) }, .want = { .slot = memx_put_le32(20), .version = memx_put_le64(77) } };
	struct memx_head head = { .op = MEMX_OP_FETCH, .tag = 1000001, .len = sizeof(ask) };
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	w->watched = "bad-page";
	head.epoch = g->epoch;
	g->hears = hears_nothing;
	wguest_raw(g, 1, &head, &ask);
	ask.want.slot = memx_put_le32(3);	/* stored, at another version */
	head.tag++;
	wguest_raw(g, 1, &head, &ask);
	world_settle(w);
	g->hears = NULL;
	assert_int_equal(world_counters(w).fetch_errors, 2);
	assert_int_equal(world_counters(w).bad_pages, 0);
	assert_int_equal(w->seen, 0);
	holder(0, 0)->tamper = hides_pages;
	for (i = 0; i < 200 && !world_counters(w).bad_pages; i++)
		fetched(0, 8);
	assert_in_range(world_counters(w).bad_pages, 1, 8);
	assert_in_range(w->seen, 1, 8);
}

/* Damages every page that is fetched from it, by guest or repair, and says that only the guest could tell. */
static bool claims_a_seal(struct wdonor *d, struct frame *f)
{
	struct memx_page *page = (struct memx_page *)(f->body + MEMX_IO_LEN);
	u32 i, count;

	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != MEMX_OP_FETCH || memx_le32(f->hdr.status) != MEMX_S_OK)
		return true;
	count = memx_le16(((struct memx_io *)f->body)->count);
	for (i = 0; i < count; i++) {
		page[i].trailer.flags = memx_put_le32(MEMX_T_SEALED);
		((u8 *)&page[count])[i * MEMX_PAGE_SIZE] ^= 1;
	}
	return true;
}

/* A seal that nobody agreed on makes no page good: not for the guest, and not for repair. */
static void a_seal_excuses_nothing(void **state)
{
	struct wdonor *lost, *liar;
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 32);
	liar = holder(0, 0);
	lost = holder(0, 1);
	liar->tamper = claims_a_seal;
	for (i = 0; i < 50; i++)
		fetched(0, 8);
	assert_true(world_counters(w).bad_pages > 0);
	wdonor_restart(lost);
	world_pass(w, 10000);
	assert_int_equal(state_at(0, lost), MEMX_R_SYNCING);
	liar->tamper = NULL;
	world_pass(w, 60000);
	assert_int_equal(state_at(0, lost), MEMX_R_LIVE);
	liar->hung = true;
	world_pass(w, 2000);
	fetched(0, 32);
}

/*
 * A donor comes back empty, its copy is proposed to it anew, and the guest goes before it has acknowledged that. The next record
 * names another one in its place, and of the donor only what it was: what it holds now must go all the same.
 */
static void what_was_proposed_before_goes(void **state)
{
	struct wdonor *back, *better;

	(void)state;
	cluster(2, 2);
	stored(0, 4);
	back = holder(0, 1);
	g->mute_records = true;
	wdonor_restart(back);
	world_pass(w, 3000);
	assert_non_null(g->held_record);
	assert_int_equal(wdonor_pages(back), 64);
	better = world_add_donor(w, 64);
	world_pass(w, 500);
	g->mute_records = false;
	assert_true(wguest_again(g));
	repaired();
	assert_int_equal(state_at(0, better), MEMX_R_LIVE);
	assert_int_equal(state_at(0, back), MEMX_R_NONE);
	assert_int_equal(wdonor_pages(back), 0);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------------- */

static u16 refused_op;
static u32 refused_with;

static u32 refuses(struct wdonor *d, const struct memx_head *head)
{
	(void)d;
	return head->op == refused_op ? refused_with : MEMX_S_OK;
}

/* The donor that repair copies to has no memory for it, and nobody stores there meanwhile: another one that has takes its place. */
static void a_target_without_memory_is_replaced(void **state)
{
	struct wdonor *lost, *full = NULL, *spare = NULL;
	u32 i;

	(void)state;
	cluster(4, 2);
	stored(0, 8);
	lost = holder(0, 0);
	for (i = 0; i < w->donors; i++) {
		if (state_at(0, &w->donor[i]) != MEMX_R_NONE)
			continue;
		spare = full ? &w->donor[i] : NULL;
		full = full ? full : &w->donor[i];
	}
	if (!full || !spare) {
		fail_msg("not two donors without a copy");
		return;
	}
	refused_op = MEMX_OP_STORE;
	refused_with = MEMX_S_NOSPACE;
	full->refuse = refuses;
	spare->there = false;		/* so that the full one is chosen */
	wdonor_drop(spare);
	lost->there = false;
	wdonor_drop(lost);
	world_pass(w, 14000);
	assert_int_equal(state_at(0, full), MEMX_R_SYNCING);
	spare->there = true;
	world_pass(w, 30000);
	assert_int_equal(live_copies(0), 2);
	assert_int_equal(state_at(0, spare), MEMX_R_LIVE);
	assert_true(world_counters(w).repair_refused);
	fetched(0, 8);
}

/* No donor that is left has memory for a page: they are not named by turns, two records each half second, for ever. */
static void targets_without_memory_are_left_alone(void **state)
{
	struct wdonor *lost;
	u64 records;
	u32 i;

	(void)state;
	cluster(4, 2);
	stored(0, 8);
	lost = holder(0, 0);
	refused_op = MEMX_OP_STORE;
	refused_with = MEMX_S_NOSPACE;
	for (i = 0; i < w->donors; i++)
		if (state_at(0, &w->donor[i]) == MEMX_R_NONE)
			w->donor[i].refuse = refuses;
	lost->there = false;
	wdonor_drop(lost);
	world_pass(w, 14000);
	records = world_counters(w).records;
	for (i = 0; i < 60; i++)
		world_pass(w, 1000);
	assert_true(world_counters(w).repair_refused);
	assert_in_range(world_counters(w).records - records, 0, 40);
	for (i = 0; i < w->donors; i++)
		w->donor[i].refuse = NULL;
	repaired();
	fetched(0, 8);
}

/* Of two live copies one will not be read by repair, in whatever way: what the other one has is copied all the same. */
static void a_source_that_refuses_is_done_without(void **state)
{
	static const struct { u16 op; u32 status; } ways[] = {
		{ MEMX_OP_SCAN, MEMX_S_IO }, { MEMX_OP_SCAN, MEMX_S_AGAIN }, { MEMX_OP_FETCH, MEMX_S_LIMIT },
	};
	u32 i;

	(void)state;
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct wdonor *lost;

		cluster(4, 3);
		stored(0, 8);
		lost = holder(0, 2);
		refused_op = ways[i].op;
		refused_with = ways[i].status;
		holder(0, 1)->refuse = refuses;
		lost->there = false;
		wdonor_drop(lost);
		world_pass(w, 120000);
		assert_int_equal(live_copies(0), 3);
		assert_true(world_counters(w).replicas_repaired);
		if (i + 1 < sizeof(ways) / sizeof(ways[0]))
			world_free(w);
	}
}

/* ---- words that nothing bears out --------------------------------------------------------------------------------------- */

static struct wdonor *liar;
static u32 page_says;			/* ABSENT, or VERSION: the donor has something newer, it says */
static u32 unshown;			/* answers to come in which it does not show the page */

static bool of_repair(const struct wdonor *d, const struct frame *f, u16 op)
{
	return d == liar && (memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) == op && f->len >= MEMX_IO_LEN;
}

/* SCAN lists the last slot of the extent as well, at version 7; FETCH does not show it. */
static bool lists_one_more(struct wdonor *d, struct frame *f)
{
	struct memx_want want = { .version = memx_put_le64(7) };
	struct memx_page *page = (struct memx_page *)(f->body + MEMX_IO_LEN);
	struct memx_list list;
	u32 i;
	u8 *body;

	for (i = 0; of_repair(d, f, MEMX_OP_FETCH) && i < memx_le16(((struct memx_io *)f->body)->count); i++)
		if (page[i].status == memx_put_le32(MEMX_S_ABSENT)) {
			page[i].status = memx_put_le32(page_says);
			page[i].trailer.version = memx_put_le64(page_says == MEMX_S_VERSION ? 8 : 0);
		}
	if (!of_repair(d, f, MEMX_OP_SCAN) || f->len < sizeof(list) + sizeof(want))
		return true;
	memcpy(&list, f->body, sizeof(list));
	memcpy(&want.slot, f->body + f->len - sizeof(want), sizeof(want.slot));
	if ((memx_le32(want.slot) & 63) == 63)
		return true;
	want.slot = memx_put_le32(memx_le32(want.slot) | 63);
	list.count = memx_put_le32(memx_le32(list.count) + 1);
	body = calloc(1, f->len + sizeof(want));
	assert_non_null(body);
	memcpy(body, f->body, f->len);
	memcpy(body, &list, sizeof(list));
	memcpy(body + f->len, &want, sizeof(want));
	free(f->body);
	f->body = body;
	f->len += (u32)sizeof(want);
	f->hdr.len = memx_put_le32(f->len);
	return true;
}

/* A live copy that lists what nobody stored keeps no other copy from being repaired, and none from leaving its donor. */
static void what_nobody_stored_holds_up_nothing(void **state)
{
	u32 round, i;

	(void)state;
	for (round = 0; round < 4; round++) {
		bool leaves = round & 1;
		struct wdonor *other;

		page_says = round & 2 ? MEMX_S_VERSION : MEMX_S_ABSENT;
		cluster(4, leaves ? 2 : 3);
		stored(0, 32);
		liar = holder(0, 0);
		other = holder(0, 1);
		liar->tamper = lists_one_more;
		if (leaves) {
			assert_int_equal(core_donor_empty(w->core, other->name, true, w->now), 0);
		} else {
			other->there = false;
			wdonor_drop(other);
		}
		for (i = 0; i < 40; i++)
			world_pass(w, 1000);
		assert_int_equal(state_at(0, other), MEMX_R_NONE);
		assert_int_equal(live_copies(0), leaves ? 2 : 3);
		for (i = 0; i < w->donors; i++)
			if (state_at(0, &w->donor[i]) == MEMX_R_LIVE)
				assert_true(has(&w->donor[i], 0) && has(&w->donor[i], 31));
		liar->tamper = NULL;
		liar->hung = true;
		world_pass(w, 2000);
		fetched(0, 32);
		if (round < 3)
			world_free(w);
	}
}

/* SCAN leaves the last slot out that it holds. */
static bool leaves_one_out(struct wdonor *d, struct frame *f)
{
	struct memx_list list;

	if (!of_repair(d, f, MEMX_OP_SCAN) || f->len < sizeof(list) + sizeof(struct memx_want))
		return true;
	memcpy(&list, f->body, sizeof(list));
	list.count = memx_put_le32(memx_le32(list.count) - 1);
	memcpy(f->body, &list, sizeof(list));
	f->len -= (u32)sizeof(struct memx_want);
	f->hdr.len = memx_put_le32(f->len);
	return true;
}

/* Damages the last page on its way, for a while. */
static bool damages_one(struct wdonor *d, struct frame *f)
{
	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) == MEMX_OP_FETCH && f->len > MEMX_PAGE_SIZE && unshown) {
		f->body[f->len - 1] ^= 1;
		unshown--;
	}
	return true;
}

/* One of two live copies hides a page, the answer of the other one is damaged on its way: that page is in the new copy all the same. */
static void what_one_copy_has_is_never_passed_over(void **state)
{
	struct wdonor *lost;

	(void)state;
	cluster(3, 3);
	stored(0, 32);
	liar = holder(0, 0);
	liar->tamper = leaves_one_out;
	holder(0, 1)->tamper = damages_one;
	unshown = 2;
	lost = holder(0, 2);
	wdonor_restart(lost);
	repaired();
	assert_int_equal(unshown, 0);
	assert_int_equal(state_at(0, lost), MEMX_R_LIVE);
	assert_true(has(lost, 30) && has(lost, 31));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(a_bad_copy_is_healed), rule(repair_does_not_believe_absence), rule(repair_asks_the_other_source),
		rule(repair_never_replicates_damage), rule(a_stale_copy_helps_repair),
		rule(a_stale_copy_is_not_given_up_for_a_lesser_one), rule(only_what_another_has_is_missing),
		rule(a_seal_excuses_nothing), rule(what_was_proposed_before_goes),
		rule(a_target_without_memory_is_replaced), rule(targets_without_memory_are_left_alone),
		rule(a_source_that_refuses_is_done_without),
		rule(what_nobody_stored_holds_up_nothing), rule(what_one_copy_has_is_never_passed_over),
	};

	return cmocka_run_group_tests_name("relay core: copies that are damaged or incomplete", tests, NULL, NULL);
}
