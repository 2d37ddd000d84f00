// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-attach.c - what attaches may cost: how often one channel may, in which extents, with how much of the relay's memory, and with
 * none of the room that repair needs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

/* Nothing is known of it any more. */
static void detached(void)
{
	wguest_detach(g);
	world_settle(w);
	wguest_new_session(g);
}

static bool attaches(void)
{
	wguest_attach(g);
	world_settle(w);
	return g->attached;
}

/* ---- how often ------------------------------------------------------------------------------------------------------------ */

/* A guest attaches, is granted, detaches, and so on over one channel: some in a row, and then no more than two a second. */
static void attaches_in_a_loop_are_slowed_down(void **state)
{
	u32 granted = 1, refused = 0, i;

	(void)state;
	cluster(2, 2);
	for (i = 0; i < 500; i++) {
		if (g->attached) {
			detached();
			assert_int_equal(g->detach_status, MEMX_S_OK);
		}
		if (attaches()) {
			granted++;
		} else {
			refused++;
			assert_int_equal(g->attach_status, MEMX_S_AGAIN);
			assert_in_range(g->retry_ms, 1, 2000);
			assert_true(g->alive);
		}
		world_pass(w, 20);
	}
	assert_in_range(granted, 15, 26);		/* 10 seconds */
	assert_true(refused > 400);
	assert_int_equal(world_counters(w).violations, 0);
}

/* Who waits as long as he is told, or swaps off and on again a few times, is not kept waiting. */
static void attaches_with_pauses_are_granted(void **state)
{
	u32 i;

	(void)state;
	cluster(2, 2);
	for (i = 0; i < 3; i++) {
		detached();
		assert_true(attaches());
	}
	for (i = 0; i < 10; i++) {
		detached();
		world_pass(w, 500);
		assert_true(attaches());
	}
	for (i = 0; g->attached; i++) {
		assert_true(i < 10);
		detached();
		attaches();
	}
	world_pass(w, g->retry_ms);
	assert_true(attaches());
}

/* So many lines of this kind while a guest that is refused asks on, a hundred times. */
static u32 lines_about(struct wguest *asking, const char *event)
{
	u64 before = world_counters(w).attach_refused;
	u32 i;

	w->watched = event;
	w->seen = 0;
	for (i = 0; i < 100; i++) {
		wguest_attach(asking);
		world_pass(w, 1000);
		assert_false(asking->attached);
	}
	assert_int_equal(world_counters(w).attach_refused - before, 100);
	return w->seen;
}

/* Whoever asks every second, as he was told to, does not fill the log: once, again after a minute, and at once for another reason. */
static void a_refusal_is_told_once(void **state)
{
	struct wguest *late;

	(void)state;
	w = world_new(1, 2, 8, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	late = wguest_new(w, 256, 2);
	assert_false(wguest_start(late));
	assert_in_range(lines_about(late, "attach-refused"), 1, 2);
	assert_int_equal(lines_about(late, "session-free"), 0);
	w->donor[0].there = false;
	w->donor[1].there = false;
	wdonor_drop(&w->donor[0]);
	wdonor_drop(&w->donor[1]);
	world_pass(w, 1000);
	assert_in_range(lines_about(late, "attach-refused"), 2, 3);
}

/* ---- in which extents ----------------------------------------------------------------------------------------------------- */

static void larger_extents(struct core_config *cfg)
{
	cfg->extent_order = 8;
}

static void the_relay_chooses_the_extents(void **state)
{
	(void)state;
	w = world_new(11, 3, 64, larger_extents);
	g = wguest_new(w, 1024, 2);
	g->order = 6;			/* where nothing is out there yet it may wish for this, and for no more */
	assert_true(wguest_start(g));
	assert_int_equal(g->order, 8);
}

/* Swap is on, or pages are out there, in extents of another size than this relay's: they stay of that size. */
static void extents_stay_as_they_are(void **state)
{
	(void)state;
	cluster(3, 2);
	assert_int_equal(g->order, 6);
	stored(0, 8);
	stored(64, 8);
	w->cfg.extent_order = 8;
	world_relay_restart(w);
	assert_true(wguest_again(g));
	assert_int_equal(g->order, 6);
	fetched(0, 8);
	fetched(64, 8);
	memset(g->record, 0, (256 / 64 + 2) * sizeof(*g->record));
	memset(g->slot, 0, 256 * sizeof(*g->slot));
	assert_true(g->frozen);
	assert_true(wguest_again(g));
	assert_int_equal(g->order, 6);
	stored(0, 8);
}

/* ---- with how much memory -------------------------------------------------------------------------------------------------- */

enum { EXTENTS = 256 / 64 };

static void little_memory(struct core_config *cfg)
{
	cfg->map_bytes = (EXTENTS + 1) * sizeof(struct extent);
}

/* One guest's area is of more extents than the relay has memory for: it waits, its relay lives, and serves others. */
static void an_area_beyond_the_memory_waits(void **state)
{
	struct wguest *large;

	(void)state;
	w = world_new(11, 2, 64, little_memory);
	large = wguest_new(w, 256 + 128, 2);
	g = wguest_new(w, 256, 2);
	assert_false(wguest_start(large));
	assert_int_equal(large->attach_status, MEMX_S_AGAIN);
	assert_true(large->alive);
	assert_true(wguest_start(g));
	stored(0, 8);
	w->cfg.map_bytes *= 3;
	core_reconfigure(w->core, &w->cfg, w->now);
	world_pass(w, large->retry_ms);
	wguest_attach(large);
	world_settle(w);
	assert_true(large->attached);
}

/* All together; and what one gives back another may have, however its session ended. */
static void the_memory_is_for_all(void **state)
{
	struct wguest *other;
	u32 i;

	(void)state;
	w = world_new(11, 2, 64, little_memory);
	g = wguest_new(w, 256, 2);
	other = wguest_new(w, 256, 2);
	for (i = 0; i < 4; i++) {
		assert_true(wguest_again(g));
		assert_false(wguest_again(other));
		assert_int_equal(other->attach_status, MEMX_S_AGAIN);
		if (i & 1)
			detached();
		wguest_hang_up(g);
		assert_true(wguest_again(other));
		assert_false(wguest_again(g));
		core_guest_gone(w->core, other->conf.vm, other->conf.domid, false, w->now);
		world_settle(w);
		wguest_new_session(other);
	}
	assert_int_equal(w->core->map_bytes, 0);
}

/* ---- the room that repair needs ------------------------------------------------------------------------------------------------- */

static void one_at_once(struct core_config *cfg)
{
	cfg->session_changes = 1;
}

static u32 degraded(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return (u32)st.extents_degraded;
}

/*
 * A donor is dead, and the guest is paused, so that no record leaves its copies out yet. They are missing all the same: the room for
 * new ones is not given to a guest that comes now.
 */
static void room_for_the_copies_of_the_dead_is_kept(void **state)
{
	struct wguest *late;
	u32 slot, i;

	(void)state;
	w = world_new(1, 3, 24, one_at_once);
	g = wguest_new(w, 1152, 2);
	assert_true(wguest_start(g));
	for (slot = 0; slot < 1152; slot += 32)
		stored(slot, 32);
	g->deaf = true;
	w->donor[1].there = false;
	wdonor_drop(&w->donor[1]);
	for (i = 0; i < 15; i++)
		world_pass(w, 1000);
	assert_true(w->donor[1].cd->dead);
	late = wguest_new(w, 4096, 2);
	assert_true(wguest_start(late));
	assert_in_range(late->slots, 64, 320);
	for (slot = 0; slot + 32 <= late->slots; slot += 32)
		assert_int_equal(wguest_do(late, wguest_store(late, slot, 32)), MEMX_S_OK);
	g->deaf = false;
	for (i = 0; i < 30; i++)
		world_pass(w, 1000);
	assert_int_equal(degraded(), 0);
	assert_int_equal(world_counters(w).no_repair_room, 0);
	for (slot = 0; slot < 1152; slot += 32)
		fetched(slot, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(attaches_in_a_loop_are_slowed_down), rule(attaches_with_pauses_are_granted),
		rule(a_refusal_is_told_once),
		rule(the_relay_chooses_the_extents), rule(extents_stay_as_they_are),
		rule(an_area_beyond_the_memory_waits), rule(the_memory_is_for_all),
		rule(room_for_the_copies_of_the_dead_is_kept),
	};

	return cmocka_run_group_tests_name("relay core: what attaches may cost", tests, NULL, NULL);
}
