// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-balance.c - donors that are added take their share, and then there is quiet; what that must not cost.
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

static void cluster(u32 donors, u32 chunks, u32 slots, u32 replicas)
{
	w = world_new(7, donors, chunks, NULL);
	g = wguest_new(w, slots, replicas);
	assert_true(wguest_start(g));
	assert_int_equal(g->slots, slots);
}

static void fill(void)
{
	u32 slot;

	for (slot = 0; slot + 32 <= g->slots; slot += 32)
		assert_int_equal(wguest_do(g, wguest_store(g, slot, 32)), MEMX_S_OK);
}

static void read_all(void)
{
	u32 slot;

	for (slot = 0; slot + 32 <= g->slots; slot += 32)
		assert_int_equal(wguest_do(g, wguest_fetch(g, slot, 32)), MEMX_S_OK);
}

static u64 reserved(u32 donor)
{
	struct srv_totals t;

	srv_totals(w->donor[donor].srv, &t);
	return t.pages_reserved;
}

static u64 reserved_in_all(void)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i < w->donors; i++)
		sum += reserved(i);
	return sum;
}

/* Nothing moves any more. */
static void quiet(void)
{
	struct core_counters was;
	u64 there = reserved(w->donors - 1);

	world_pass(w, 1000);
	was = world_counters(w);
	world_pass(w, 120000);
	assert_int_equal(world_counters(w).records, was.records);
	assert_int_equal(world_counters(w).repair_pages, was.repair_pages);
	assert_int_equal(reserved(w->donors - 1), there);
}

static void an_added_donor_takes_its_share(void **state)
{
	u32 replicas, i;

	(void)state;
	for (replicas = 1; replicas < 3; replicas++) {
		cluster(3, 64, 2048, replicas);
		fill();
		world_add_donor(w, 64);
		for (i = 0; i < 120; i++) {
			struct core_status st;

			world_pass(w, 500);
			assert_int_equal(wguest_do(g, wguest_store(g, i * 16, 1)), MEMX_S_OK);
			core_status(w->core, &st);
			assert_int_equal(st.extents_degraded, 0);	/* redundancy is never lower than before */
		}
		/* A quarter of it, give or take what is too little to be moved. */
		assert_in_range(wdonor_pages(&w->donor[3]), replicas * 2048 / 4 - 4 * 64, replicas * 2048 / 4 + 64);
		assert_in_range(reserved_in_all(), replicas * 2048, replicas * 2048 + 8 * 64);
		assert_true(world_counters(w).balanced >= replicas * 4);
		quiet();
		read_all();
		w->donor[0].hung = true;
		world_pass(w, 1000);
		if (replicas == 2)
			read_all();
		if (replicas == 1)
			world_free(w);
	}
}

/* What is promised and not used goes over without any page. */
static void promises_go_first(void **state)
{
	(void)state;
	cluster(2, 64, 2048, 1);
	assert_int_equal(wguest_do(g, wguest_store(g, 0, 8)), MEMX_S_OK);
	world_add_donor(w, 64);
	world_pass(w, 60000);
	assert_in_range(reserved(2), 2048 / 3 - 4 * 64, 2048 / 3 + 64);
	assert_in_range(reserved_in_all(), 2048, 2048 + 8 * 64);
	assert_int_equal(world_counters(w).balanced, 0);
	assert_int_equal(world_counters(w).repair_pages, 0);
	quiet();
	fill();
	assert_true(wdonor_pages(&w->donor[2]) > 0);
	assert_int_equal(g->errors, 0);
}

/* Never two copies in one failure domain, for all that is to be evened out. */
static void failure_domains_are_kept(void **state)
{
	u32 x, k, a, b;

	(void)state;
	w = world_new(7, 3, 64, NULL);
	wdonor_set_domain(&w->donor[0], "rack-a");
	wdonor_set_domain(&w->donor[1], "rack-b");
	wdonor_set_domain(&w->donor[2], "rack-b");
	world_pass(w, 600);
	g = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	fill();
	world_add_donor(w, 64);
	wdonor_set_domain(&w->donor[3], "rack-a");
	world_pass(w, 60000);
	assert_true(wdonor_pages(&w->donor[3]) > 0);
	for (x = 0; x < memx_extents(g->slots, g->order); x++) {
		assert_int_equal(g->record[x].replicas, 2);
		for (k = 0, a = 0, b = 0; k < 2; k++) {
			u32 d = (u32)(g->record[x].replica[k].donor[0] - 0xd0);

			a += d == 0 || d == 3;
			b += d == 1 || d == 2;
		}
		assert_true(a == 1 && b == 1);
	}
	quiet();
	read_all();
}

/* The donor that was to get a share dies in the middle: what was to move stays, and nothing is lost. */
static void the_new_one_dies(void **state)
{
	u32 i;

	(void)state;
	cluster(3, 64, 2048, 2);
	fill();
	world_add_donor(w, 64);
	for (i = 0; i < 100000 && world_counters(w).balanced < 3; i++)
		if (!world_roll(w))
			world_tick(w);
	w->donor[3].there = false;
	wdonor_drop(&w->donor[3]);
	world_pass(w, 60000);
	read_all();
	{
		struct core_status st;

		core_status(w->core, &st);
		assert_int_equal(st.extents_degraded, 0);
		assert_int_equal(st.moving_extents, 0);
		assert_int_equal(st.counters.extents_lost, 0);
	}
}

/* One that lost its memory and came back empty is filled again. */
static void one_that_came_back_empty(void **state)
{
	(void)state;
	cluster(3, 64, 2048, 2);
	fill();
	w->donor[1].there = false;
	wdonor_drop(&w->donor[1]);
	world_pass(w, 60000);		/* rebuilt on the other two */
	wdonor_restart(&w->donor[1]);
	w->donor[1].there = true;
	world_pass(w, 120000);
	assert_in_range(wdonor_pages(&w->donor[1]), 4096 / 3 - 10 * 64, 4096 / 3 + 64);
	assert_in_range(reserved_in_all(), 4096, 4096 + 8 * 64);
	quiet();
	read_all();
}

/* A guest is paused while its copies move: those of another one move all the same. */
static void a_paused_guest_holds_up_nobody(void **state)
{
	struct wguest *paused;
	u32 slot;

	(void)state;
	cluster(2, 64, 1024, 2);
	paused = g;
	fill();
	g = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	fill();
	paused->deaf = true;
	world_add_donor(w, 64);
	world_pass(w, 120000);
	assert_in_range(wdonor_pages(&w->donor[2]), 1024 / 2, 4096 / 3 + 64);
	read_all();
	paused->deaf = false;
	world_pass(w, 60000);
	for (slot = 0; slot + 32 <= paused->slots; slot += 32)
		assert_int_equal(wguest_do(paused, wguest_fetch(paused, slot, 32)), MEMX_S_OK);
}

#define rule(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(an_added_donor_takes_its_share), rule(promises_go_first), rule(failure_domains_are_kept), rule(the_new_one_dies),
		rule(one_that_came_back_empty), rule(a_paused_guest_holds_up_nobody),
	};

	return cmocka_run_group_tests_name("relay core: room is evened out", tests, NULL, NULL);
}
