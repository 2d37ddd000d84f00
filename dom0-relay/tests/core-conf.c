// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-conf.c - a configuration that changes while guests are attached: whom it concerns, and whom not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

static u64 pages_held(void)
{
	u64 pages = 0;
	u32 i;

	for (i = 0; i < w->donors; i++)
		pages += wdonor_pages(&w->donor[i]);
	return pages;
}

/* As swapoff, rmmod, modprobe: another session, of which nothing is known yet. */
static void begin_anew(u8 id)
{
	memset(g->session, id, sizeof(g->session));
	g->seed = memx_session_seed(g->session);
	memset(g->record, 0, (256 / 64 + 2) * sizeof(*g->record));
	memset(g->slot, 0, 256 * sizeof(*g->slot));
	g->frozen = false;
	g->granted_epoch = 0;
}

static void reloaded(struct wguest *first, struct wguest *second)
{
	core_guest_conf_changed(w->core, &first->conf, w->now);
	core_guest_conf_changed(w->core, &second->conf, w->now);
}

/*
 * A restored copy runs beside its original, both have one UUID. The configuration is loaded anew, in whatever order they stand, the
 * original attaches anew on its channel, the copy is destroyed: not a page of the original's goes with it. And the original's go
 * with the original.
 */
static void a_copy_of_a_guest(bool copy_first)
{
	struct wguest *copy;
	u64 pages;

	cluster(3, 2);
	stored(0, 8);
	copy = wguest_new(w, 256, 2);
	memcpy(copy->conf.vm, g->conf.vm, sizeof(copy->conf.vm));
	assert_true(wguest_start(copy));
	if (copy_first)
		reloaded(copy, g);
	else
		reloaded(g, copy);
	wguest_detach(g);
	world_settle(w);
	world_pass(w, 1000);
	begin_anew(0x33);
	wguest_attach(g);
	world_settle(w);
	assert_true(g->attached);
	stored(0, 8);
	pages = pages_held();
	assert_true(pages);
	core_guest_gone(w->core, copy->conf.vm, copy->conf.domid, false, w->now);
	world_pass(w, 1000);
	assert_false(copy->alive);
	assert_true(g->alive);
	assert_int_equal(pages_held(), pages);
	fetched(0, 8);
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, false, w->now);
	world_pass(w, 1000);
	assert_int_equal(pages_held(), 0);
}

static void a_reload_takes_no_guest_for_its_copy(void **state)
{
	(void)state;
	a_copy_of_a_guest(false);
}

static void a_reload_takes_no_copy_for_its_original(void **state)
{
	(void)state;
	a_copy_of_a_guest(true);
}

/* What the reload is for: more, or less, with the next attach. */
static void a_reload_changes_what_a_guest_may_have(void **state)
{
	struct core_guest_conf conf;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	conf = g->conf;
	conf.quota_pages = 128;
	conf.replicas = 3;
	core_guest_conf_changed(w->core, &conf, w->now);
	world_pass(w, 100);
	assert_int_equal(g->slots, 256);
	fetched(0, 8);
	wguest_detach(g);
	world_settle(w);
	world_pass(w, 1000);
	begin_anew(0x44);
	wguest_attach(g);
	world_settle(w);
	assert_true(g->attached);
	assert_int_equal(g->slots, 128);
	assert_int_equal(g->replicas, 3);
}

/* ---- a guest that is taken out ------------------------------------------------------------------------------------------- */

static void taken_out(void)
{
	core_guest_disallowed(w->core, g->conf.vm, g->conf.domid, w->now);
}

/* What it has is served; it gets nothing new over the channel that it has, whatever it makes up. */
static void taken_out_gets_nothing_new(void **state)
{
	struct memx_record one;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	taken_out();
	fetched(0, 8);
	stored(64, 8);
	one = g->record[0];
	wguest_detach(g);
	world_pass(w, 1000);
	assert_int_equal(pages_held(), 0);
	begin_anew(0x33);
	wguest_attach(g);
	world_settle(w);
	assert_false(g->attached);
	assert_int_equal(g->attach_status, MEMX_S_DENIED);
	/* As if it had pages out there. */
	world_pass(w, 1000);
	g->record[0] = one;
	g->slots = 256;
	g->order = 6;
	g->frozen = true;
	wguest_attach(g);
	world_settle(w);
	assert_false(g->attached);
	assert_int_equal(g->attach_status, MEMX_S_DENIED);
	assert_int_equal(pages_held(), 0);
	/* And in again. */
	world_pass(w, 1000);
	begin_anew(0x34);
	core_guest_conf_changed(w->core, &g->conf, w->now);
	wguest_attach(g);
	world_settle(w);
	assert_true(g->attached);
	stored(0, 8);
}

/* The pages that it has it gets: an attach that failed is tried again over the same channel. */
static void taken_out_loses_nothing(void **state)
{
	u32 i;

	(void)state;
	cluster(2, 2);
	stored(0, 8);
	wguest_hang_up(g);
	for (i = 0; i < w->donors; i++) {
		w->donor[i].there = false;
		wdonor_drop(&w->donor[i]);
	}
	assert_false(wguest_start(g));
	world_pass(w, 2000);
	assert_false(g->attached);
	assert_true(g->alive);
	taken_out();
	for (i = 0; i < w->donors; i++)
		w->donor[i].there = true;
	world_pass(w, 5000);
	wguest_attach(g);
	world_settle(w);
	assert_true(g->attached);
	fetched(0, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(a_reload_takes_no_guest_for_its_copy),
		rule(a_reload_takes_no_copy_for_its_original),
		rule(a_reload_changes_what_a_guest_may_have), rule(taken_out_gets_nothing_new), rule(taken_out_loses_nothing),
	};

	return cmocka_run_group_tests_name("relay core: a configuration that changes", tests, NULL, NULL);
}
