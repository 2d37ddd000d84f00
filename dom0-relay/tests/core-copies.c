// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-copies.c - which of two guests a session belongs to: copies of a guest, and guests that go to another host and come back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

/* As memx_swap does it: from FENCED on its epoch climbs by doubling steps, until the answer is another one. */
static u32 climbs(struct wguest *who)
{
	u32 step = 1, i;

	for (i = 0; i < 20; i++) {
		if (!who->alive) {
			wguest_offer(who);
			world_settle(w);
		}
		wguest_attach(who);
		world_pass(w, 1000);
		if (who->attached)
			return MEMX_S_OK;
		if (who->attach_status != MEMX_S_FENCED)
			break;
		who->epoch += step - 1;
		step *= 2;
	}
	return who->attach_status;
}

/* What is restored, one day, from an image that was taken of the guest as it is now. */
static struct wguest *restored(u64 lineage)
{
	struct wguest *copy = wguest_new(w, g->slots, g->replicas);

	memcpy(copy->conf.vm, g->conf.vm, sizeof(copy->conf.vm));
	memcpy(copy->session, g->session, sizeof(copy->session));
	memcpy(copy->record, g->record, (g->slots >> g->order) * sizeof(*g->record));
	copy->seed = g->seed;
	copy->epoch = g->epoch;
	copy->granted_epoch = g->granted_epoch;
	copy->slots = g->slots;
	copy->order = g->order;
	copy->replicas = g->replicas;
	copy->frozen = g->frozen;
	copy->lineage[0] = lineage;
	copy->lineage[1] = g->lineage[0];
	return copy;
}

/* The guest wakes up with a new lineage, where each ATTACH before was granted. */
static void woken(u64 lineage)
{
	memmove(&g->lineage[1], &g->lineage[0], (MEMX_MAX_LINEAGE - 1) * sizeof(g->lineage[0]));
	g->lineage[0] = lineage;
}

static void there(u32 from, u32 to, bool yes)
{
	for (; from < to; from++) {
		w->donor[from].there = yes;
		if (!yes)
			wdonor_drop(&w->donor[from]);
	}
	world_pass(w, 1000);
}

static u32 sessions_at(u32 donor)
{
	struct srv_totals t;

	srv_totals(w->donor[donor].srv, &t);
	return t.sessions;
}

/*
 * A guest whose pages are at two of four donors, the only ones that its host's relay knows. It was checkpointed, went on, and
 * attached so often anew. Returns what is restored from the checkpoint.
 */
static struct wguest *copied(u32 attaches)
{
	struct wguest *copy;
	u32 i;

	w = world_new(11, 4, 32, NULL);
	there(2, 4, false);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	g->frozen = true;
	for (i = 0; i < 256; i += 32)
		stored(i, 32);
	copy = restored(2222);
	woken(1111);
	for (i = 0; i < attaches; i++) {
		world_relay_restart(w);
		world_pass(w, 1000);
		assert_true(wguest_again(g));
	}
	fetched(0, 32);
	wguest_hang_up(g);
	return copy;
}

static void other_host(void)
{
	world_relay_restart(w);
	there(0, 4, true);
}

/* A copy is refused on a host with two more donors. Then the original is migrated there. */
static void a_refused_copy_leaves_no_fence(void **state)
{
	struct wguest *copy;

	(void)state;
	copy = copied(9);
	other_host();
	assert_int_equal(climbs(copy), MEMX_S_SUPERSEDED);
	wguest_hang_up(copy);
	assert_int_equal(sessions_at(2) + sessions_at(3), 0);
	other_host();
	g->conf.domid = ++w->domids;
	woken(1112);
	assert_int_equal(climbs(g), MEMX_S_OK);
	assert_int_equal(sessions_at(2) + sessions_at(3), 2);	/* it has the use of them */
	fetched(0, 32);
	stored(0, 32);
}

/* The relay dies after each of the copy's attempts: nothing has to be taken back for the original to be served. */
static void nor_one_whose_relay_dies(void **state)
{
	struct wguest *copy;
	u32 i;

	(void)state;
	copy = copied(2);
	for (i = 0; i < 3; i++) {
		other_host();
		wguest_offer(copy);
		world_settle(w);
		wguest_attach(copy);
		while (world_counters(w).attach_refused == 0 && world_roll(w))
			assert_int_equal(sessions_at(2) + sessions_at(3), 0);
		assert_false(copy->attached);
	}
	other_host();
	woken(1112);
	assert_int_equal(climbs(g), MEMX_S_OK);
}

static void fenced_there(u32 donor, const struct wguest *who, u64 epoch)
{
	static u8 buf[SRV_REPLY_BUF];
	static struct iovec iov[SRV_REPLY_IOVS];
	struct srv_out out = { .buf = buf, .size = sizeof(buf), .iov = iov, .max_iovs = SRV_REPLY_IOVS };
	struct srv_conn *c = srv_conn_open(w->donor[donor].srv, NULL);
	struct memx_hello hello = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY };
	struct memx_fence f = { .flags = MEMX_FENCE_CREATE, .slots = memx_put_le32(who->slots), .extent_order = (u8)who->order };
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(hello), .tag = 1 };

	memcpy(f.vm, who->conf.vm, sizeof(f.vm));
	memcpy(f.session, who->session, sizeof(f.session));
	f.lineage[0] = memx_put_le64(who->lineage[0]);
	assert_int_equal(srv_frame(c, &head, &hello, &out, w->now), 0);
	head = (struct memx_head){ .op = MEMX_OP_FENCE, .len = sizeof(f), .tag = 2, .epoch = epoch };
	assert_int_equal(srv_frame(c, &head, &f, &out, w->now), 0);
	srv_conn_close(c);
}

/* Where it is left all the same: who holds nothing is no witness against who holds the pages and confirms. */
static void who_holds_nothing_is_no_witness(void **state)
{
	struct wguest *copy;
	u32 i;

	(void)state;
	for (i = 0; i < 2; i++) {
		copy = copied(2);
		other_host();
		fenced_there(2, copy, g->epoch + (i ? 20 : 1));
		fenced_there(3, copy, g->epoch + (i ? 20 : 1));
		woken(1112);
		assert_int_equal(climbs(g), MEMX_S_OK);
		fetched(0, 32);
		stored(0, 32);
		assert_int_equal(climbs(copy), MEMX_S_SUPERSEDED);
		assert_true(g->attached && g->alive);
		if (!i)
			world_free(w);
	}
}

/* One of the two that know the session is away, and the other says no: nobody is asked who cannot know, and nobody gives up. */
static void strangers_are_not_asked(void **state)
{
	struct wguest *copy;

	(void)state;
	copy = copied(2);
	other_host();
	there(1, 2, false);
	assert_int_equal(climbs(copy), MEMX_S_AGAIN);
	assert_int_equal(sessions_at(2) + sessions_at(3), 0);
	wdonor_restart(&w->donor[1]);
	there(1, 2, true);		/* without its memory: now the other one is all who can know */
	assert_int_equal(climbs(copy), MEMX_S_SUPERSEDED);
	assert_int_equal(sessions_at(1) + sessions_at(2) + sessions_at(3), 0);
	woken(1112);
	assert_int_equal(climbs(g), MEMX_S_OK);
	fetched(0, 32);
}

/* ---- there and back ------------------------------------------------------------------------------------------------------------ */

static struct relay_core *home;
static struct core_donor *known_at_home[W_DONORS];

/* Suspended: from this host to the other one; what the relay here knows of the session it keeps. */
static void away(void)
{
	u32 i;

	wguest_hang_up(g);
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, true, w->now);
	for (i = 0; i < w->donors; i++) {
		wdonor_drop(&w->donor[i]);
		known_at_home[i] = w->donor[i].cd;
	}
	home = w->core;
	world_new_relay(w);
	world_pass(w, 1000);
}

static void back(void)
{
	u32 i;

	wguest_hang_up(g);
	for (i = 0; i < w->donors; i++)
		wdonor_drop(&w->donor[i]);
	core_free(w->core);
	w->core = home;
	for (i = 0; i < w->donors; i++) {
		w->donor[i].cd = known_at_home[i];
		w->donor[i].connect_at = w->now;
	}
	world_pass(w, 1000);
}

static void filled(void)
{
	u32 i;

	cluster(3, 2);
	g->frozen = true;
	for (i = 0; i < 256; i += 32)
		stored(i, 32);
}

/* Migrated under its own number, checkpointed there so often that nothing is left of what its old host knows, and back. */
static void there_and_back_with_its_number(void **state)
{
	u32 i;

	(void)state;
	filled();
	away();
	for (i = 0; i < MEMX_MAX_LINEAGE; i++) {
		woken(2001 + i);
		assert_true(wguest_again(g));
	}
	stored(0, 32);
	back();
	woken(2010);
	assert_int_equal(climbs(g), MEMX_S_OK);
	fetched(0, 32);
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, false, w->now);
	world_pass(w, 500);
	for (i = 0; i < 3; i++)
		assert_int_equal(sessions_at(i), 0);
}

/* A copy that was taken over there comes here under that number: donors refuse it, and the original that follows loses nothing. */
static void a_copy_with_its_number(void **state)
{
	struct wguest *copy;

	(void)state;
	filled();
	away();
	woken(2001);
	assert_true(wguest_again(g));
	copy = restored(2222);
	copy->conf.domid = g->conf.domid;
	memcpy(&copy->lineage[1], g->lineage, (MEMX_MAX_LINEAGE - 1) * sizeof(g->lineage[0]));
	memset(&copy->lineage[2], 0, 2 * sizeof(g->lineage[0]));	/* what is known here it has forgotten */
	woken(2002);
	assert_true(wguest_again(g));
	back();
	assert_int_equal(climbs(copy), MEMX_S_SUPERSEDED);
	wguest_hang_up(copy);
	woken(2010);
	assert_int_equal(climbs(g), MEMX_S_OK);
	fetched(0, 32);
}

/* Who says that it was granted elsewhere, and was not, is served by no donor; what is known of the session stays known. */
static void who_was_not_there_is_refused(void **state)
{
	u32 i;

	(void)state;
	filled();
	wguest_hang_up(g);
	memset(g->lineage, 0, sizeof(g->lineage));
	g->lineage[0] = 4711;
	for (i = 0; i < 3; i++) {
		g->granted_epoch = g->epoch + 99;
		g->epoch += 99;
		there(0, 3, i != 1);
		assert_int_equal(climbs(g), MEMX_S_AGAIN);
	}
	there(0, 3, true);
	for (i = 0; i < 3; i++)
		assert_int_equal(sessions_at(i), 1);
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, false, w->now);
	world_pass(w, 500);
	for (i = 0; i < 3; i++)
		assert_int_equal(sessions_at(i), 0);
	assert_true(list_empty(&w->core->sessions));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(a_refused_copy_leaves_no_fence), rule(nor_one_whose_relay_dies), rule(who_holds_nothing_is_no_witness),
		rule(strangers_are_not_asked),
		rule(there_and_back_with_its_number), rule(a_copy_with_its_number), rule(who_was_not_there_is_refused),
	};

	return cmocka_run_group_tests_name("relay core: whose a session is", tests, NULL, NULL);
}
