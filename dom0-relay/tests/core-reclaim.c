// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-reclaim.c - donors that ask for memory back: what moves, what stays, and what becomes of the pages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"

static struct world *w;
static struct wguest *g;

static int teardown(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

/* What is moved here is what donors ask for, and nothing to even out their room. */
static void still(struct core_config *cfg)
{
	cfg->balance = false;
}

static void begin(u32 donors, u32 chunks, u32 slots, u32 replicas)
{
	u32 slot;

	w = world_new(7, donors, chunks, still);
	g = wguest_new(w, slots, replicas);
	assert_true(wguest_start(g));
	for (slot = 0; slot + 32 <= g->slots; slot += 32)
		assert_int_equal(wguest_do(g, wguest_store(g, slot, 32)), MEMX_S_OK);
}

static void read_all(void)
{
	u32 slot;

	for (slot = 0; slot + 32 <= g->slots; slot += 32)
		assert_int_equal(wguest_do(g, wguest_fetch(g, slot, 32)), MEMX_S_OK);
}

static bool has_copy(u32 extent, const struct wdonor *d)
{
	const struct memx_record *rec = &g->record[extent];
	u32 i;

	for (i = 0; i < rec->replicas; i++)
		if (!memcmp(rec->replica[i].donor, d->id, 16))
			return true;
	return false;
}

/* Every extent has exactly so many copies, all of them live. */
static void all_live(u32 copies)
{
	u32 x, i;

	for (x = 0; x < memx_extents(g->slots, g->order); x++) {
		assert_int_equal(g->record[x].replicas, copies);
		for (i = 0; i < copies; i++)
			assert_int_equal(g->record[x].replica[i].state, MEMX_R_LIVE);
	}
}

static struct wdonor *fullest(void)
{
	struct wdonor *d = &w->donor[0];
	u32 i;

	for (i = 1; i < w->donors; i++)
		if (wdonor_pages(&w->donor[i]) > wdonor_pages(d))
			d = &w->donor[i];
	return d;
}

static void info_of(const struct core_donor_info *info, void *arg)
{
	struct core_donor_info *to = arg;

	if (!strcmp(info->name, to->name))
		*to = *info;
}

static struct core_donor_info shown(const struct wdonor *d)
{
	struct core_donor_info info = { .pages_asked = ~0ULL };

	snprintf(info.name, sizeof(info.name), "%s", d->name);
	core_each_donor(w->core, info_of, &info, w->now);
	return info;
}

/* ---- asking ----------------------------------------------------------------------------------------------------------------- */

static void what_is_asked_is_moved_and_no_more(void **state)
{
	struct wdonor *d;
	u64 before, i, rest = 0;

	(void)state;
	begin(4, 64, 2048, 2);
	d = fullest();
	before = wdonor_pages(d);
	wdonor_limit(d, (u32)(before / 64 / 2));
	world_settle(w);
	assert_int_equal(shown(d).pages_asked, before - before / 128 * 64);
	world_pass(w, 3000);
	assert_int_equal(wdonor_pages(d), before / 128 * 64);
	assert_int_equal(shown(d).pages_asked, 0);
	assert_int_equal(shown(d).moving, 0);
	assert_int_equal(world_counters(w).asks, 1);
	assert_int_equal(world_counters(w).reclaimed, (before - before / 128 * 64) / 64);
	for (i = 0; i < 4; i++)
		rest += wdonor_pages(&w->donor[i]);
	assert_int_equal(rest, 2 * 2048);
	all_live(2);
	read_all();
	assert_int_equal(world_counters(w).extents_lost + world_counters(w).bad_pages, 0);
}

static void one_copy_is_moved_as_well(void **state)
{
	struct wdonor *d;

	(void)state;
	begin(2, 64, 1024, 1);
	d = fullest();
	wdonor_limit(d, 0);
	world_pass(w, 3000);
	assert_int_equal(wdonor_pages(d), 0);
	all_live(1);
	read_all();
}

/* While it is moved, it is stored to and read. */
static void work_goes_on_meanwhile(void **state)
{
	struct wdonor *d;
	u32 round, slot;

	(void)state;
	begin(3, 64, 1024, 2);
	d = fullest();
	wdonor_limit(d, 2);
	for (round = 0; round < 60; round++) {
		for (slot = 0; slot < g->slots; slot += 97)
			assert_int_equal(wguest_do(g, wguest_store(g, slot, 1)), MEMX_S_OK);
		for (slot = 0; slot < g->slots; slot += 89)
			assert_int_equal(wguest_do(g, wguest_fetch(g, slot, 1)), MEMX_S_OK);
		world_pass(w, 30);
	}
	assert_true(wdonor_pages(d) <= 2 * 64);
	all_live(2);
	read_all();
}

static void those_that_rest_go_first(void **state)
{
	struct wdonor *d;
	u32 x, hot = 0, moved = 0;

	(void)state;
	begin(4, 64, 2048, 2);
	d = fullest();
	world_pass(w, 100);
	for (x = 0; x < 32; x += 2)
		assert_int_equal(wguest_do(g, wguest_store(g, x * 64, 1)), MEMX_S_OK);
	for (x = 0; x < 32; x++)
		hot += has_copy(x, d) && !(x & 1);
	wdonor_limit(d, hot);
	world_pass(w, 3000);
	assert_int_equal(wdonor_pages(d), hot * 64);
	for (x = 0; x < 32; x++) {
		moved += !has_copy(x, d) && (x & 1);
		assert_true((x & 1) == !has_copy(x, d) || !has_copy(x, d));
		assert_false(has_copy(x, d) && (x & 1));
	}
	assert_in_range(moved, 1, 16);
}

static void nothing_new_goes_to_one_that_asks(void **state)
{
	struct wdonor *d;
	u64 before;
	u32 slot;

	(void)state;
	w = world_new(7, 3, 64, still);
	g = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	for (slot = 0; slot < 512; slot += 32)
		assert_int_equal(wguest_do(g, wguest_store(g, slot, 32)), MEMX_S_OK);
	d = fullest();
	before = wdonor_pages(d);
	wdonor_limit(d, (u32)(before / 64) - 1);
	world_pass(w, 3000);
	for (; slot < 1024; slot += 32)
		assert_int_equal(wguest_do(g, wguest_store(g, slot, 32)), MEMX_S_OK);
	world_pass(w, 1000);
	assert_int_equal(wdonor_pages(d), before - 64);
	all_live(2);
	read_all();
}

static void without_room_it_is_said_and_nothing_happens(void **state)
{
	struct wdonor *d;
	u64 before;

	(void)state;
	begin(2, 32, 1024, 2);
	d = &w->donor[0];
	before = wdonor_pages(d);
	wdonor_limit(d, 4);
	world_pass(w, 3000);
	assert_int_equal(wdonor_pages(d), before);
	assert_int_equal(world_counters(w).reclaim_stuck, 1);
	world_pass(w, 20000);
	assert_in_range(world_counters(w).reclaim_stuck, 2, 4);
	all_live(2);
	read_all();
	wdonor_limit(d, 32);
	world_pass(w, 1000);
	assert_int_equal(shown(d).pages_asked, 0);
	all_live(2);
}

static void what_is_no_longer_asked_stays(void **state)
{
	struct wdonor *d;
	u64 before, after;

	(void)state;
	begin(4, 64, 2048, 2);
	d = fullest();
	before = wdonor_pages(d);
	wdonor_limit(d, 0);
	world_pass(w, 130);
	wdonor_limit(d, 64);
	world_pass(w, 3000);
	after = wdonor_pages(d);
	assert_true(after + 17 * 64 > before);		/* what was on its way, and a heartbeat's worth, went */
	assert_int_equal(shown(d).moving, 0);
	all_live(2);
	read_all();
}

static void domains_stay_apart(void **state)
{
	u32 x, i;

	(void)state;
	w = world_new(7, 4, 64, still);
	for (i = 0; i < 4; i++)
		wdonor_set_domain(&w->donor[i], i & 1 ? "rack1" : "rack0");
	world_pass(w, 1000);
	g = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	for (i = 0; i < 1024; i += 32)
		assert_int_equal(wguest_do(g, wguest_store(g, i, 32)), MEMX_S_OK);
	wdonor_limit(&w->donor[0], 0);
	world_pass(w, 3000);
	assert_int_equal(wdonor_pages(&w->donor[0]), 0);
	all_live(2);
	for (x = 0; x < 16; x++)
		assert_int_not_equal((g->record[x].replica[0].donor[0] - 0xd0) & 1, (g->record[x].replica[1].donor[0] - 0xd0) & 1);
	read_all();
}

static void the_relay_dies_in_the_middle(void **state)
{
	struct wdonor *d;

	(void)state;
	begin(4, 64, 2048, 2);
	d = fullest();
	wdonor_limit(d, 1);
	world_pass(w, 150);
	assert_true(wdonor_pages(d) > 64);
	world_relay_restart(w);
	assert_true(wguest_start(g));
	world_pass(w, 5000);
	assert_true(wdonor_pages(d) <= 64);
	all_live(2);
	read_all();
}

static void the_donor_dies_in_the_middle(void **state)
{
	struct wdonor *d;

	(void)state;
	begin(4, 64, 2048, 2);
	d = fullest();
	wdonor_limit(d, 1);
	world_pass(w, 150);
	wdonor_restart(d);
	world_pass(w, 8000);
	all_live(2);
	read_all();
	assert_int_equal(world_counters(w).extents_lost, 0);
}

static void a_malformed_ask_ends_the_connection(void **state)
{
	struct memx_stat stat = { .pages_asked = memx_put_le64(1) };

	(void)state;
	begin(2, 32, 256, 2);
	wdonor_says(&w->donor[0], MEMX_OP_ASK, &stat, sizeof(stat) - 8);
	world_settle(w);
	assert_int_equal(world_counters(w).donor_violations, 1);
	world_pass(w, 3000);
	read_all();
}

/* A donor says over and over that it dropped one and the same copy: heard once. */
static void what_is_dropped_twice_is_dropped_once(void **state)
{
	struct {
		struct memx_list list;
		struct memx_extent_ref ref;
	} dropped = { .list = { .count = memx_put_le32(1) } };
	struct session *s;
	struct wdonor *d;
	u64 reserved;
	u32 i;

	(void)state;
	begin(2, 64, 1024, 2);
	s = list_first(&w->core->sessions, struct session, in_core);
	d = fullest();
	g->deaf = true;			/* no record without that copy takes effect meanwhile */
	dropped.list.session = memx_put_le32(s->sd[d->cd->index].handle);
	reserved = s->sd[d->cd->index].reserved;
	assert_true(reserved >= 4 * 64);
	for (i = 0; i < 4; i++) {
		wdonor_says(d, MEMX_OP_DROPPED, &dropped, sizeof(dropped));
		world_pass(w, 10);
	}
	assert_int_equal(world_counters(w).given_up, 1);
	assert_int_equal(s->sd[d->cd->index].reserved, reserved - 64);
	g->deaf = false;
	world_pass(w, 5000);
	read_all();
}

/*
 * A guest is paused, and its pages are those that were stored to longest ago: what is asked for comes from the other one. When only
 * the paused one's are left, that is said; and once it goes on, they come, too.
 */
static void a_paused_guest_holds_up_nobody(void **state)
{
	struct wguest *b;
	struct wdonor *d;
	u32 slot;

	(void)state;
	begin(3, 200, 1024, 2);
	world_pass(w, 2000);
	b = wguest_new(w, 1024, 2);
	assert_true(wguest_start(b));
	for (slot = 0; slot + 32 <= b->slots; slot += 32)
		assert_int_equal(wguest_do(b, wguest_store(b, slot, 32)), MEMX_S_OK);
	world_pass(w, 2000);
	d = fullest();
	w->watched = "reclaim-stuck";
	g->deaf = true;
	wdonor_limit(d, 2);
	world_pass(w, 20000);
	assert_true(w->seen);
	for (slot = 0; slot < b->slots; slot += 64)
		for (u32 i = 0; i < b->record[slot / 64].replicas; i++)
			assert_memory_not_equal(b->record[slot / 64].replica[i].donor, d->id, sizeof(d->id));
	assert_int_equal(wguest_do(b, wguest_fetch(b, 0, 32)), MEMX_S_OK);
	g->deaf = false;
	world_pass(w, 20000);
	assert_in_range(wdonor_pages(d), 0, 2 * 64);
	read_all();
}

#define rule(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(what_is_asked_is_moved_and_no_more), rule(one_copy_is_moved_as_well), rule(work_goes_on_meanwhile),
		rule(those_that_rest_go_first), rule(nothing_new_goes_to_one_that_asks),
		rule(without_room_it_is_said_and_nothing_happens), rule(what_is_no_longer_asked_stays), rule(domains_stay_apart),
		rule(the_relay_dies_in_the_middle), rule(the_donor_dies_in_the_middle),
		rule(a_paused_guest_holds_up_nobody), rule(what_is_dropped_twice_is_dropped_once),
		rule(a_malformed_ask_ends_the_connection),
	};

	return cmocka_run_group_tests_name("relay core: memory wanted back", tests, NULL, NULL);
}
