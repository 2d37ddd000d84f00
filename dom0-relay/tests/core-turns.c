// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-turns.c - what must not wait for ever, because somebody else does not come: extents for their turn to change their record,
 * extents and stores for a donor that is back but does not take the session up again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

static u32 degraded(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return st.extents_degraded;
}

static struct session *session_here(void)
{
	return list_first(&w->core->sessions, struct session, in_core);
}

static void pass_seconds(u32 n)
{
	while (n--)
		world_pass(w, 1000);
}

/* ---- turns to change a record -------------------------------------------------------------------------------------------------- */

enum { MANY = 90 };

static void four_at_once(struct core_config *cfg)
{
	cfg->session_changes = 4;
}

static u32 waiting(void)
{
	struct list *pos;
	u32 n = 0;

	list_for_each(pos, &session_here()->later)
		n++;
	return n;
}

static void away(struct wdonor *d)
{
	d->there = false;
	wdonor_drop(d);
}

/*
 * A donor goes while the guest is paused, and comes back with its memory: those that waited for their turn need none any more.
 * Another donor goes: every extent with a copy there gets a new one, whoever stands before it.
 */
static void nobody_keeps_the_turn_of_others(void **state)
{
	struct wdonor *b, *c;
	u32 i;

	(void)state;
	w = world_new(11, 4, 120, four_at_once);
	b = &w->donor[1];
	c = &w->donor[2];
	g = wguest_new(w, 64 * MANY, 2);
	assert_true(wguest_start(g));
	for (i = 0; i < MANY; i++)
		stored(i * 64, 1);
	pass_seconds(2);
	assert_int_equal(degraded(), 0);
	g->deaf = true;
	away(b);
	pass_seconds(12);
	assert_true(b->cd->dead);
	assert_int_equal(session_here()->changing, 4);
	assert_true(waiting() > 20);
	b->there = true;
	wdonor_up(b);
	pass_seconds(3);
	assert_int_equal(degraded(), 0);
	g->deaf = false;
	pass_seconds(5);
	assert_int_equal(session_here()->changing, 0);
	assert_int_equal(waiting(), 0);
	away(c);
	pass_seconds(40);
	assert_true(c->cd->dead);
	assert_int_equal(degraded(), 0);
	for (i = 0; i < MANY; i++)
		fetched(i * 64, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(nobody_keeps_the_turn_of_others),
	};

	return cmocka_run_group_tests_name("relay core: turns", tests, NULL, NULL);
}
