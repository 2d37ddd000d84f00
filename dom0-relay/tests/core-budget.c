// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-budget.c - what the relay allows itself: bytes per second of repair, hedges, and whom it asks for a page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

/* ---- repair ------------------------------------------------------------------------------------------------------------------ */

enum { RATE = 1 << 20 };

static void one_mib_a_second(struct core_config *cfg)
{
	cfg->repair_rate = RATE;
	cfg->balance = false;
}

static void fill(struct wguest *guest)
{
	u32 slot;

	for (slot = 0; slot + 32 <= guest->slots; slot += 32)
		assert_int_equal(wguest_do(guest, wguest_store(guest, slot, 32)), MEMX_S_OK);
}

static u64 missing(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return st.repair_pages;
}

/* Two guests' copies are rebuilt at once: the rate holds for all of it together, from the first moment, and is made use of. */
static void repair_keeps_to_its_rate(void **state)
{
	u64 began, bytes, most, ms, burst = RATE / 8 + MEMX_MAX_BODY + MEMX_MAX_PAGES * MEMX_PAGE_SIZE;
	struct wguest *other;
	u32 busiest = 0;

	(void)state;
	w = world_new(11, 3, 64, one_mib_a_second);
	g = wguest_new(w, 1024, 2);
	other = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	assert_true(wguest_start(other));
	fill(g);
	fill(other);
	world_pass(w, 1000);
	bytes = wdonor_pages(&w->donor[0]) * MEMX_PAGE_SIZE;
	assert_true(bytes >= 4 * RATE);
	wdonor_restart(&w->donor[0]);
	began = w->now;
	do {
		world_pass(w, 20);
		ms = (w->now - began) / MS;
		most = ms * RATE / 1000 + burst;
		assert_true(world_counters(w).repair_pages * MEMX_PAGE_SIZE <= most);
		if (w->core->repairing > busiest)
			busiest = w->core->repairing;
		assert_true(ms < 60000);
	} while (ms < 100 || missing());
	assert_true(world_counters(w).repair_pages * MEMX_PAGE_SIZE >= bytes);
	assert_true(ms >= (bytes - burst) / (RATE / 1000));
	assert_true(ms < bytes / (RATE / 1000) * 3 / 2 + 2000);
	assert_in_range(busiest, 2, 8);
}

/* Extents of the guest that have fewer than two live copies elsewhere than at @gone. */
static u32 lacking(const struct wguest *guest, const struct wdonor *gone)
{
	u32 i, k, n = 0;

	for (i = 0; i < guest->want_slots / 64; i++) {
		u32 live = 0;

		for (k = 0; k < guest->record[i].replicas; k++)
			live += guest->record[i].replica[k].state == MEMX_R_LIVE &&
				memcmp(guest->record[i].replica[k].donor, gone->id, sizeof(gone->id)) != 0;
		n += live < 2;
	}
	return n;
}

/* Both lack copies, and the larger one attached first: the smaller one is whole long before. */
static void no_guest_repairs_before_all_others(void **state)
{
	struct wguest *small;
	struct wdonor *gone;
	u32 turns = 0;

	(void)state;
	w = world_new(11, 4, 700, one_mib_a_second);
	g = wguest_new(w, 64 * 100, 2);
	small = wguest_new(w, 64 * 4, 2);
	assert_true(wguest_start(g));
	assert_true(wguest_start(small));
	fill(g);
	fill(small);
	gone = donor_of(small->record[0].replica[0].donor);
	gone->there = false;
	wdonor_drop(gone);
	while (lacking(small, gone)) {
		world_pass(w, 500);
		assert_true(++turns < 200);
	}
	assert_true(lacking(g, gone) > 25);
}

/* What is left to repair is known before it begins, goes down only, and comes to nothing: an estimate of the time can be made of it. */
static void what_is_left_to_repair_is_known(void **state)
{
	u64 before, left, began;

	(void)state;
	w = world_new(11, 3, 64, one_mib_a_second);
	g = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	fill(g);
	assert_int_equal(missing(), 0);
	before = wdonor_pages(&w->donor[0]);
	wdonor_restart(&w->donor[0]);
	world_settle(w);
	assert_int_equal(missing(), before);
	for (began = w->now, left = before; left; left = missing()) {
		assert_true(missing() <= left);
		assert_true(w->now - began < 60000 * MS);
		world_pass(w, 100);
	}
}

/*
 * Where fetches have the core tick every millisecond, the extents are looked through as seldom as they may. And one that lacks
 * something is found as soon.
 */
static void extents_are_looked_through_now_and_then(void **state)
{
	u32 ms, looks = 0;
	u64 at;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	world_pass(w, 1000);
	for (at = w->core->repair_look_at, ms = 0; ms < 1000; ms++) {
		w->now += MS;
		core_tick(w->core, w->now);
		looks += w->core->repair_look_at != at;
		at = w->core->repair_look_at;
	}
	assert_in_range(looks, 40, 52);
	wdonor_restart(holder(0, 0));
	for (ms = 0; !world_counters(w).replicas_repaired; ms++) {
		assert_true(ms < 100);
		world_pass(w, 1);
	}
}

/* Nothing is copied before the donor that is away counts as dead: whoever asks how long it takes is told of that time as well. */
static void the_wait_for_the_dead_is_told(void **state)
{
	struct core_status st;

	(void)state;
	w = world_new(11, 3, 64, NULL);
	g = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	fill(g);
	core_status(w->core, &st);
	assert_int_equal(st.repair_wait_ns, 0);
	w->donor[0].there = false;
	wdonor_drop(&w->donor[0]);
	world_pass(w, 1000);
	core_status(w->core, &st);
	assert_in_range(st.repair_wait_ns, 8500 * MS, 9100 * MS);
	assert_int_not_equal(st.repair_extents, 0);
	assert_int_equal(st.counters.repair_pages, 0);
	world_pass(w, st.repair_wait_ns / MS + 2000);
	core_status(w->core, &st);
	assert_int_equal(st.repair_wait_ns, 0);
	assert_int_not_equal(st.counters.repair_pages, 0);
}

/* ---- hedges ------------------------------------------------------------------------------------------------------------------ */

static bool never_answers_fetches(struct wdonor *d, struct frame *f)
{
	(void)d;
	return (memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != MEMX_OP_FETCH;
}

/* Sixty fetches of which none is answered by whom it is asked of: so many hedges while the donor is merely late. */
static u32 hedges_for_sixty(struct wdonor *d)
{
	struct wreq *f[60];
	u64 before = world_counters(w).hedges, later;
	u32 i;

	d->tamper = never_answers_fetches;
	for (i = 0; i < 60; i++) {
		f[i] = wguest_fetch(g, i, 1);
		assert_non_null(f[i]);
	}
	world_pass(w, 250);
	later = world_counters(w).hedges;
	world_pass(w, 700);
	for (i = 0; i < 60; i++)
		assert_true(f[i]->done && f[i]->status == MEMX_S_OK);
	d->tamper = NULL;
	world_pass(w, 200);		/* its connection was given up */
	return (u32)(later - before);
}

/* A slow cluster is not made slower by hedges: each donor takes ten in a row, and then five in a hundred. */
static void hedges_have_a_budget(void **state)
{
	struct wdonor *late;
	u32 i, before;

	(void)state;
	cluster(2, 2);
	stored(0, 32);
	stored(32, 32);
	late = holder(0, 0);
	holder(0, 1)->way_ns = MS;	/* the other one is a little slower: it is not asked first */
	for (i = 0; i < 200; i++) {
		assert_non_null(wguest_fetch(g, i % 64, 1));
		world_pass(w, 3);
	}
	before = (u32)world_counters(w).hedges;
	assert_in_range(hedges_for_sixty(late), 8, HEDGE_MAX / 100);
	assert_true(world_counters(w).hedges >= before + 55);	/* the rest when it was as late as only the silent are */
	late->cd->lat_ns = 1;		/* it is the quicker one again */
	late->cd->lat_dev_ns = 0;
	for (i = 0; i < 100; i++) {
		assert_non_null(wguest_fetch(g, i % 64, 1));
		world_pass(w, 3);
	}
	assert_in_range(hedges_for_sixty(late), 3, 8);
}

/* ---- whom to ask -------------------------------------------------------------------------------------------------------------- */

static u32 share_of(const struct wdonor *d, u32 fetches)
{
	u64 before = d->cd->fetches;
	u32 i;

	for (i = 0; i < fetches; i++) {
		struct wreq *f = wguest_fetch(g, i % 8, 1);

		assert_non_null(f);
		world_pass(w, 20);
		assert_true(f->done && f->status == MEMX_S_OK);
	}
	return (u32)(d->cd->fetches - before);
}

/* Of two copies the one at the quicker donor is read, and the other now and then, or it would not be known when that changes. */
static void the_quicker_donor_is_asked(void **state)
{
	struct wdonor *a, *b;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	a = holder(0, 0);
	b = holder(0, 1);
	a->way_ns = 1500000;
	b->way_ns = 500000;
	share_of(a, 20);
	assert_in_range(share_of(a, 300), 1, 30);
	a->way_ns = 500000;
	b->way_ns = 1500000;
	share_of(b, 300);
	assert_in_range(share_of(b, 300), 1, 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(repair_keeps_to_its_rate), rule(no_guest_repairs_before_all_others), rule(what_is_left_to_repair_is_known),
		rule(the_wait_for_the_dead_is_told), rule(hedges_have_a_budget), rule(extents_are_looked_through_now_and_then),
		rule(the_quicker_donor_is_asked),
	};

	return cmocka_run_group_tests_name("relay core: what it allows itself", tests, NULL, NULL);
}
