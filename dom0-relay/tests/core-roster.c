// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-roster.c - donors that move, are found twice, are added and removed; what they are told to give back, and that it arrives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "world.h"
#include "world-guest.h"

static struct world *w;
static struct wguest *g;

static int teardown(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

static void cluster(u32 donors, u32 replicas)
{
	w = world_new(11, donors, 32, NULL);
	g = wguest_new(w, 256, replicas);
	assert_true(wguest_start(g));
	assert_int_equal(g->replicas, replicas);
}

static void stored(u32 slot, u32 count)
{
	assert_int_equal(wguest_do(g, wguest_store(g, slot, count)), MEMX_S_OK);
}

static void fetched(u32 slot, u32 count)
{
	assert_int_equal(wguest_do(g, wguest_fetch(g, slot, count)), MEMX_S_OK);
}

static struct wdonor *holder(u32 extent, u32 n)
{
	u32 i;

	for (i = 0; i < w->donors; i++)
		if (!memcmp(w->donor[i].id, g->record[extent].replica[n].donor, 16))
			return &w->donor[i];
	return NULL;
}

static bool has(struct wdonor *d, u32 slot, u64 version)
{
	u8 page[MEMX_PAGE_SIZE];

	wguest_page(g, slot, version, page);
	return wdonor_find(d, page);
}

static struct srv_totals totals(const struct wdonor *d)
{
	struct srv_totals t;

	srv_totals(d->srv, &t);
	return t;
}

/* ---- who is who ------------------------------------------------------------------------------------------------------------ */

/*
 * A write was confirmed by one of two donors; then both are found at each other's address. The confirmation was the donor's, not
 * the address's: the write is acknowledged only when the other one has it as well.
 */
static void a_confirmation_stays_with_its_donor(void **state)
{
	struct wdonor *a, *b;
	struct wreq *r;

	(void)state;
	cluster(2, 2);
	stored(0, 1);
	a = holder(0, 0);
	b = holder(0, 1);
	b->hung = true;
	r = wguest_store(g, 8, 1);
	world_settle(w);
	assert_false(r->done);
	assert_true(has(a, 8, 1) && !has(b, 8, 1));
	b->there = false;
	a->there = false;
	wdonor_swap(a, b);		/* `a` leads to the one that has nothing */
	b->hung = false;
	b->there = true;
	a->there = true;
	world_pass(w, 3000);
	assert_true(r->done && r->status == MEMX_S_OK);
	assert_true(has(a, 8, 1) && has(b, 8, 1));
}

/* Swapped one after the other: what looks like a second entry of one donor for a moment serves as soon as it is none. */
static void swapped_one_after_the_other(void **state)
{
	(void)state;
	cluster(2, 2);
	stored(0, 8);
	w->donor[1].there = false;
	wdonor_swap(&w->donor[0], &w->donor[1]);
	world_pass(w, 300);
	fetched(0, 8);
	w->donor[1].there = true;
	world_pass(w, 3000);
	stored(16, 4);
	assert_true(has(&w->donor[0], 16, 1) && has(&w->donor[1], 16, 1));
	w->donor[0].hung = true;
	world_pass(w, 1000);
	fetched(0, 8);
	fetched(16, 4);
}

static enum core_donor_state state_seen;

static void see_d1(const struct core_donor_info *info, void *arg)
{
	(void)arg;
	if (!strcmp(info->name, "d1"))
		state_seen = info->state;
}

static enum core_donor_state state_of_d1(void)
{
	core_each_donor(w->core, see_d1, NULL, w->now);
	return state_seen;
}

/* Two entries lead to one donor: one of them is used; when its connection ends, the other one connects anew and is. */
static void a_duplicate_takes_over(void **state)
{
	struct srv *own;
	u8 id[16];

	(void)state;
	cluster(1, 1);
	stored(0, 8);
	w->donors = 2;			/* another way to the same donor */
	own = w->donor[0].srv;
	w->donor[1] = w->donor[0];
	w->donor[1].conn = NULL;
	snprintf(w->donor[1].name, sizeof(w->donor[1].name), "d1");
	memcpy(id, w->donor[0].id, sizeof(id));
	w->donor[1].cd = core_donor_add(w->core, "d1", &w->donor[1], w->now);
	world_pass(w, 300);
	assert_int_equal(state_of_d1(), CORE_DONOR_DUPLICATE);
	w->donor[0].there = false;
	wdonor_drop(&w->donor[0]);
	world_pass(w, 300);
	assert_int_equal(state_of_d1(), CORE_DONOR_USABLE);
	fetched(0, 8);
	stored(8, 8);
	w->donor[0].there = true;	/* now that one is the second */
	world_pass(w, 300);
	fetched(8, 8);
	core_donor_remove(w->donor[0].cd, w->now);
	world_pass(w, 500);
	assert_null(w->donor[0].cd);
	fetched(0, 8);
	stored(16, 8);
	assert_int_equal(world_counters(w).extents_lost, 0);
	wdonor_drop(&w->donor[1]);
	w->donor[1].there = false;
	w->donor[1].srv = NULL;
	world_drop_conns(&w->donor[1]);
	w->donors = 1;
	w->donor[0].srv = own;
}

/* ---- whose session it is --------------------------------------------------------------------------------------------------------- */

static u16 disowned_op;
static u32 disowned_status;

static bool disowns(struct wdonor *d, struct frame *f)
{
	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != disowned_op)
		return true;
	f->hdr.status = memx_put_le32(disowned_status);
	if (disowned_op != MEMX_OP_FENCE) {
		f->len = 0;
		f->hdr.len = 0;
	}
	return true;
}

static u32 degraded(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return (u32)st.extents_degraded;
}

/* One donor says of the session that it is another's, at the attach or in the middle: the others know better. */
static void one_donors_word_is_not_enough(void **state)
{
	static const u16 ops[] = { MEMX_OP_FENCE, MEMX_OP_STORE, MEMX_OP_FETCH };
	u32 i, slot;

	(void)state;
	for (i = 0; i < 6; i++) {
		struct wdonor *liar;

		cluster(3, 2);
		for (slot = 0; slot < 256; slot += 32)
			stored(slot, 32);
		liar = holder(0, 0);
		disowned_op = ops[i / 2];
		disowned_status = i & 1 ? MEMX_S_SUPERSEDED : MEMX_S_FENCED;
		liar->tamper = disowns;
		if (disowned_op == MEMX_OP_FENCE)
			assert_true(wguest_again(g));
		for (slot = 0; slot < 256; slot += 32) {
			struct wreq *s = wguest_store(g, slot, 1);

			world_pass(w, 500);
			assert_true(s->done && s->status == MEMX_S_OK);
			fetched(slot, 32);
		}
		world_pass(w, 20000);
		assert_true(g->attached && !g->closed);
		assert_true(world_counters(w).disowned >= 1);
		assert_int_equal(degraded(), 0);
		assert_int_equal(world_counters(w).extents_lost, 0);
		if (i < 5)
			world_free(w);
	}
}

/* The only one that can be heard, although there are others: the guest asks again, and does not give up for it. */
static void the_only_voice(void **state)
{
	(void)state;
	cluster(2, 2);
	stored(0, 32);
	w->donor[1].there = false;
	wdonor_drop(&w->donor[1]);
	world_pass(w, 100);
	disowned_op = MEMX_OP_FENCE;
	disowned_status = MEMX_S_SUPERSEDED;
	w->donor[0].tamper = disowns;
	wguest_hang_up(g);
	wguest_offer(g);
	world_settle(w);
	wguest_attach(g);
	world_pass(w, 2000);
	assert_false(g->attached);
	assert_int_equal(g->attach_status, MEMX_S_AGAIN);
	w->donor[1].there = true;
	world_pass(w, 200);
	wguest_attach(g);
	world_pass(w, 2000);
	assert_true(g->attached);
	fetched(0, 32);
	world_free(w);

	cluster(1, 1);			/* where there is no other, its word is all there is */
	stored(0, 32);
	w->donor[0].tamper = disowns;
	assert_false(wguest_again(g));
	assert_int_equal(g->attach_status, MEMX_S_SUPERSEDED);
}

/* A copy of a guest is refused; when the original ends, what it had is freed. */
static void a_refused_copy_leaves_the_original(void **state)
{
	struct wguest *copy;

	(void)state;
	cluster(2, 2);
	stored(0, 32);
	wguest_hang_up(g);
	copy = wguest_new(w, 256, 2);
	memcpy(copy->conf.vm, g->conf.vm, sizeof(g->conf.vm));
	memcpy(copy->session, g->session, sizeof(g->session));
	copy->epoch = g->epoch + 7;
	copy->lineage[0] = 4711;
	assert_false(wguest_start(copy));
	assert_int_equal(copy->attach_status, MEMX_S_SUPERSEDED);
	wguest_hang_up(copy);
	core_guest_gone(w->core, copy->conf.vm, copy->conf.domid, false, w->now);
	world_pass(w, 500);
	assert_true(wdonor_pages(&w->donor[0]));
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, false, w->now);
	world_pass(w, 500);
	assert_int_equal(totals(&w->donor[0]).sessions, 0);
	assert_int_equal(totals(&w->donor[1]).sessions, 0);
}

/* Both are there, under one UUID: the one that comes later is told no, and the other serves on over the same link. */
static void a_refused_copy_beside_the_original(void **state)
{
	struct wguest *copy;

	(void)state;
	cluster(2, 2);
	stored(0, 32);
	copy = wguest_new(w, 256, 2);
	memcpy(copy->conf.vm, g->conf.vm, sizeof(g->conf.vm));
	memcpy(copy->session, g->session, sizeof(g->session));
	copy->lineage[0] = 4711;
	copy->epoch = g->epoch;
	assert_false(wguest_start(copy));
	assert_int_equal(copy->attach_status, MEMX_S_SUPERSEDED);
	assert_true(g->alive && g->attached);
	stored(32, 32);
	assert_int_equal(wguest_do(g, wguest_fetch(g, 0, 32)), MEMX_S_OK);
	wguest_hang_up(copy);
	core_guest_gone(w->core, copy->conf.vm, copy->conf.domid, false, w->now);
	world_pass(w, 500);
	assert_true(g->alive && g->attached);
	assert_int_equal(wguest_do(g, wguest_fetch(g, 0, 32)), MEMX_S_OK);
}

/* ---- what is given back ------------------------------------------------------------------------------------------------------ */

/* The frames of @op on their way to @d never arrive, because its connection breaks. True: there was one. */
static bool lose(struct wdonor *d, u16 op)
{
	struct list *pos;

	if (!d->conn)
		return false;
	list_for_each(pos, &d->conn->to_donor) {
		if (memx_le16(list_entry(pos, struct frame, in_queue)->hdr.op) != op)
			continue;
		queue_clear(&d->conn->to_donor);
		wdonor_drop(d);
		return true;
	}
	return false;
}

/* A FREE that was lost with its connection is sent again in the same epoch. */
static void a_lost_free_is_repeated(void **state)
{
	struct wdonor *lost;
	u32 i;

	(void)state;
	cluster(3, 2);
	stored(0, 32);
	lost = holder(0, 0);
	lost->there = false;
	wdonor_drop(lost);
	stored(40, 1);
	world_pass(w, 5000);		/* rebuilt elsewhere */
	assert_int_equal(g->record[0].replicas, 2);
	assert_int_equal(wdonor_pages(lost), 64);
	lost->there = true;
	for (i = 0; i < 1000 && !lose(lost, MEMX_OP_FREE); i++)
		if (!world_roll(w))
			world_tick(w);
	assert_in_range(i, 1, 999);
	assert_int_equal(wdonor_pages(lost), 64);
	world_pass(w, 1000);
	assert_int_equal(wdonor_pages(lost), 0);
	fetched(0, 32);
}

/* A donor that was removed from the configuration keeps neither pages nor promises. */
static void a_removed_donor_keeps_nothing(void **state)
{
	struct wdonor *d;
	u32 slot;

	(void)state;
	cluster(3, 2);
	for (slot = 0; slot < 256; slot += 32)
		stored(slot, 32);
	d = &w->donor[2];
	assert_true(totals(d).pages_reserved);
	core_donor_remove(d->cd, w->now);
	world_pass(w, 20000);
	assert_null(d->cd);
	assert_int_equal(totals(d).pages_used, 0);
	assert_int_equal(totals(d).pages_reserved, 0);
	assert_int_equal(totals(d).sessions, 0);
	fetched(0, 32);
}

/* Removed, and added again before it was let go: it serves as before. */
static void removed_and_added_again(void **state)
{
	struct wdonor *d;
	u32 slot, turn;

	(void)state;
	for (turn = 0; turn < 40; turn++) {
		cluster(2, 1);
		for (slot = 0; slot < 256; slot += 32)
			stored(slot, 32);
		d = &w->donor[1];
		core_donor_remove(d->cd, w->now);
		for (slot = 0; slot < turn * 12 && d->cd; slot++)
			if (!world_roll(w))
				world_tick(w);
		if (d->cd) {
			assert_ptr_equal(core_donor_add(w->core, d->name, d, w->now) ? d->cd : NULL, d->cd);
			world_pass(w, 1000);
			core_donor_empty(w->core, "d0", true, w->now);
			world_pass(w, 10000);
			assert_int_equal(wdonor_pages(&w->donor[0]), 0);
		}
		for (slot = 0; slot < 256; slot += 32)
			fetched(slot, 32);
		if (turn < 39)
			world_free(w);
	}
}

/* A session whose guest is away may have pages there: the donor is kept until it is known. */
static void kept_for_who_is_away(void **state)
{
	(void)state;
	cluster(2, 1);
	stored(0, 32);
	stored(64, 32);
	wguest_hang_up(g);
	world_settle(w);
	core_donor_remove(w->donor[0].cd, w->now);
	core_donor_remove(w->donor[1].cd, w->now);
	world_pass(w, 20000);
	assert_non_null(w->donor[0].cd);
	assert_true(wguest_start(g));
	fetched(0, 32);
	fetched(64, 32);
}

/* Many sessions of one guest are freed at once: every donor that is there hears of each, however many wait. */
static void freed_all_at_once(void **state)
{
	u8 ids[12][16];
	u32 i;

	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 128, 2);
	for (i = 0; i < 12; i++) {
		g->session[3] = (u8)(i + 1);
		memcpy(ids[i], g->session, sizeof(ids[i]));
		g->seed = memx_session_seed(g->session);
		g->frozen = false;
		g->order = 0;
		memset(g->record, 0, 3 * sizeof(g->record[0]));
		memset(g->slot, 0, 128 * sizeof(g->slot[0]));
		g->conf.domid++;
		assert_true(wguest_start(g));
		stored(0, 8);
		wguest_hang_up(g);
		core_guest_gone(w->core, g->conf.vm, g->conf.domid, true, w->now);
	}
	wdonor_drop(&w->donor[0]);	/* the next connections must be fenced before anything is freed there */
	wdonor_drop(&w->donor[1]);
	world_pass(w, 200);
	assert_int_equal(totals(&w->donor[0]).sessions, 12);
	for (i = 0; i < 12; i++)
		assert_int_equal(core_session_free(w->core, g->conf.vm, ids[i], false, w->now), 0);
	world_pass(w, 1000);
	for (i = 0; i < 2; i++) {
		assert_int_equal(totals(&w->donor[i]).sessions, 0);
		assert_int_equal(totals(&w->donor[i]).pages_used, 0);
	}
}

/* A donor that has too much to do to take the session up at first is told to free it later. */
static u32 refusals;

static bool refuses_fences(struct wdonor *d, struct frame *f)
{
	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) == MEMX_OP_FENCE && refusals) {
		refusals--;
		f->hdr.status = memx_put_le32(MEMX_S_LIMIT);
		f->len = 0;
		f->hdr.len = 0;
	}
	return true;
}

static void freeing_is_repeated(void **state)
{
	(void)state;
	cluster(2, 2);
	stored(0, 8);
	wguest_hang_up(g);
	wdonor_drop(&w->donor[0]);
	world_pass(w, 200);
	w->donor[0].tamper = refuses_fences;
	refusals = 3;
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, false, w->now);
	world_pass(w, 200);
	assert_int_equal(totals(&w->donor[0]).sessions, 1);
	world_pass(w, 10000);
	assert_int_equal(totals(&w->donor[0]).sessions, 0);
	assert_int_equal(totals(&w->donor[1]).sessions, 0);
}

static u32 sessions_known(void)
{
	struct list *pos;
	u32 n = 0;

	list_for_each(pos, &w->core->sessions)
		n++;
	return n;
}

/*
 * A donor that is there never takes up a session that is to be freed: of a guest that comes and goes without end not more are kept
 * than there is a limit for, and those of another guest are not given up for it.
 */
static void freeing_that_is_refused_has_an_end(void **state)
{
	struct wguest *other;
	u32 i;

	(void)state;
	w = world_new(1, 3, 64, NULL);
	g = wguest_new(w, 128, 2);
	other = wguest_new(w, 128, 2);
	w->donor[0].tamper = refuses_fences;
	refusals = ~0U;
	assert_true(wguest_start(other));
	core_guest_gone(w->core, other->conf.vm, other->conf.domid, false, w->now);
	world_pass(w, 100);
	for (i = 0; i < 2 * LINK_MAX_REFUSED; i++) {
		assert_true(wguest_again(g));
		wguest_detach(g);
		world_pass(w, 20);
		wguest_new_session(g);
	}
	assert_in_range(sessions_known(), LINK_MAX_REFUSED, LINK_MAX_REFUSED + 2);
	assert_string_equal(list_first(&w->core->sessions, struct session, in_core)->name, other->conf.name);
	refusals = 0;			/* it does at last: nothing is left */
	world_pass(w, 5000);
	assert_int_equal(sessions_known(), 0);
}

/* Lists extents without end, each frame where the one before ended. */
static bool endless_list(struct wdonor *d, struct frame *f)
{
	static u32 next;
	struct memx_extent_ref *ref;
	u32 i;

	(void)d;
	if (memx_le16(f->hdr.op) != (MEMX_OP_LIST | MEMX_OP_REPLY))
		return true;
	f->len = memx_list_len(MEMX_MAX_EXTENTS);
	free(f->body);
	f->body = core_zalloc(f->len);
	((struct memx_list *)f->body)->count = memx_put_le32(MEMX_MAX_EXTENTS);
	ref = (struct memx_extent_ref *)(f->body + sizeof(struct memx_list));
	for (i = 0; i < MEMX_MAX_EXTENTS; i++, ref++)
		*ref = (struct memx_extent_ref){ .extent = memx_put_le32(next++), .generation = memx_put_le64(1) };
	f->hdr.len = memx_put_le32(f->len);
	f->hdr.flags = 0;
	return true;
}

/* Nobody's attach waits for a donor that lists more than a session can have. */
static void a_listing_ends_with_the_session(void **state)
{
	u64 most;

	(void)state;
	cluster(3, 2);
	stored(0, 32);
	stored(64, 32);
	holder(0, 0)->tamper = endless_list;
	wguest_hang_up(g);
	wguest_offer(g);
	world_settle(w);
	wguest_attach(g);
	for (most = w->delivered + 10000; !g->attached && w->delivered < most && world_roll(w);)
		;
	assert_true(g->attached);
	world_settle(w);
	fetched(0, 32);
	fetched(64, 32);
}

/* The same for a session that is attached: a last copy there must not wait for the next connection. */
static void refused_for_a_moment(void **state)
{
	struct wreq *f;

	(void)state;
	cluster(1, 1);
	stored(0, 8);
	w->donor[0].tamper = refuses_fences;
	refusals = 3;
	wdonor_drop(&w->donor[0]);
	world_pass(w, 200);
	f = wguest_fetch(g, 0, 8);
	world_pass(w, 10000);
	assert_true(f->done && f->status == MEMX_S_OK);
}

/* No donor takes new extents for a while: a store that needs one waits, and no longer than until one does again. */
static void a_store_waits_for_a_donor_that_takes(void **state)
{
	enum { EMPTIED, DRAINING, LEAVING, WAYS } way;
	struct wreq *r;
	u32 i;

	(void)state;
	for (way = EMPTIED; way < WAYS; way++) {
		cluster(2, 2);
		assert_int_equal(wguest_do(g, wguest_store(g, 0, 4)), MEMX_S_OK);	/* each has something to keep */
		w->cfg.repair_rate = 0;
		core_reconfigure(w->core, &w->cfg, w->now);
		for (i = 0; i < 2; i++) {
			if (way == EMPTIED)
				core_donor_empty(w->core, w->donor[i].name, true, w->now);
			else if (way == DRAINING)
				srv_set_draining(w->donor[i].srv, true);
			else
				core_donor_remove(w->donor[i].cd, w->now);
		}
		world_pass(w, 1000);
		r = wguest_store(g, 64, 4);
		world_pass(w, 1000);
		assert_false(r->done);
		for (i = 0; i < 2; i++) {
			if (way == EMPTIED)
				core_donor_empty(w->core, w->donor[i].name, false, w->now);
			else if (way == DRAINING)
				srv_set_draining(w->donor[i].srv, false);
			else
				assert_ptr_equal(core_donor_add(w->core, w->donor[i].name, &w->donor[i], w->now), w->donor[i].cd);
		}
		world_pass(w, 1000);
		assert_true(r->done && r->status == MEMX_S_OK);
		if (way + 1 < WAYS)
			world_free(w);
	}
}

#define rule(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(a_confirmation_stays_with_its_donor), rule(swapped_one_after_the_other), rule(a_duplicate_takes_over),
		rule(a_lost_free_is_repeated), rule(a_removed_donor_keeps_nothing), rule(removed_and_added_again),
		rule(one_donors_word_is_not_enough), rule(the_only_voice), rule(a_refused_copy_leaves_the_original),
		rule(a_refused_copy_beside_the_original),
		rule(a_store_waits_for_a_donor_that_takes),
		rule(kept_for_who_is_away), rule(freed_all_at_once), rule(freeing_is_repeated), rule(freeing_that_is_refused_has_an_end),
		rule(refused_for_a_moment),
		rule(a_listing_ends_with_the_session),
	};

	return cmocka_run_group_tests_name("relay core: donors that move, come and go", tests, NULL, NULL);
}
