// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-double.c - two entries of the configuration that lead to one donor, and which of their connections has the fence there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

static struct wdonor *first, *second;

/* Another way to the first's donor, on which frames take their time. */
static void double_it(u32 way_ms)
{
	second = &w->donor[w->donors++];
	*second = *first;
	second->conn = NULL;
	snprintf(second->name, sizeof(second->name), "double");
	second->way_ns = way_ms * MS;
	second->cd = core_donor_add(w->core, second->name, second, w->now);
}

/* The donor itself is the first's to free. */
static void single_it(void)
{
	wdonor_drop(second);
	second->there = false;
	world_drop_conns(second);
	w->donors--;
}

/*
 * The connection of the second entry is the older one, but it is so slow to say who is there that the first entry has the fence. Its
 * connection breaks, and the second one takes over.
 */
static void the_older_one_takes_over(bool detached_meanwhile)
{
	first = holder(0, 0);
	wdonor_drop(first);
	double_it(300);
	wdonor_up(second);
	wdonor_up(first);
	world_pass(w, 100);
	first->there = false;
	wdonor_drop(first);
	if (detached_meanwhile)
		wguest_detach(g);
	world_pass(w, 300);
	second->way_ns = 0;
}

/* That is no other owner of the session, and no copy is lost, nor made elsewhere. */
static void its_copies_stay(void **state)
{
	u32 status, fetches;
	bool is_live;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	the_older_one_takes_over(false);
	world_pass(w, 3000);
	status = wguest_do(g, wguest_store(g, 8, 8));
	fetches = wguest_do(g, wguest_fetch(g, 0, 16));
	is_live = donor_ok(second->cd) && state_at(0, second) == MEMX_R_LIVE;
	single_it();
	assert_true(is_live);
	assert_int_equal(status, MEMX_S_OK);
	assert_int_equal(fetches, MEMX_S_OK);
	assert_int_equal(world_counters(w).disowned, 0);
	assert_int_equal(world_counters(w).replicas_dropped, 0);
}

/* A session that its guest detaches meanwhile is freed there as well. */
static void what_is_detached_is_freed(void **state)
{
	u64 pages;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	the_older_one_takes_over(true);
	world_pass(w, 3000);
	pages = wdonor_pages(second);
	single_it();
	assert_int_equal(g->detach_status, MEMX_S_OK);
	assert_int_equal(pages, 0);
}

static bool fenced_it_says(struct wdonor *d, struct frame *f)
{
	(void)d;
	if (memx_le16(f->hdr.op) == (MEMX_OP_FENCE | MEMX_OP_REPLY))
		f->hdr.status = memx_put_le32(MEMX_S_FENCED);
	return true;
}

/* A donor that says so of its youngest connection is set aside, and its copies are made elsewhere. */
static void it_is_believed_once(void **state)
{
	struct wdonor *liar;

	(void)state;
	cluster(3, 2);
	stored(0, 8);
	liar = holder(0, 0);
	liar->tamper = fenced_it_says;
	wdonor_drop(liar);
	world_pass(w, 1000);
	assert_int_equal(world_counters(w).disowned, 1);
	assert_int_equal(liar->cd->losses, 2);
	world_pass(w, 4000);
	assert_int_equal(state_at(0, liar), MEMX_R_NONE);
	assert_int_equal(live_copies(0), 2);
	assert_true(g->attached && !g->closed);
	fetched(0, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(its_copies_stay), rule(what_is_detached_is_freed), rule(it_is_believed_once),
	};

	return cmocka_run_group_tests_name("relay core: two entries, one donor", tests, NULL, NULL);
}
