// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-place.c - where extents go, what is admitted, who may own a session, and how sessions end.
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

static void fill(struct wguest *guest)
{
	u32 slot;

	for (slot = 0; slot + 32 <= guest->slots; slot += 32)
		assert_int_equal(wguest_do(guest, wguest_store(guest, slot, 32)), MEMX_S_OK);
}

static void read_all(struct wguest *guest)
{
	u32 slot;

	for (slot = 0; slot + 32 <= guest->slots; slot += 32)
		assert_int_equal(wguest_do(guest, wguest_fetch(guest, slot, 32)), MEMX_S_OK);
}

static u64 pages_at_donors(void)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i < w->donors; i++)
		sum += wdonor_pages(&w->donor[i]);
	return sum;
}

static u32 donor_index(const u8 id[16])
{
	return (u32)(id[0] - 0xd0);
}

/* ---- placement ---------------------------------------------------------------------------------------------------------------- */

static void never_two_on_one_donor(void **state)
{
	u32 x, i, k, seed;

	(void)state;
	for (seed = 1; seed < 20; seed++) {
		w = world_new(seed, 2 + seed % 4, 32, NULL);
		g = wguest_new(w, 512, 2);
		assert_true(wguest_start(g));
		fill(g);
		for (x = 0; x < memx_extents(g->slots, g->order); x++) {
			assert_int_equal(g->record[x].replicas, 2);
			for (i = 0; i < 2; i++)
				for (k = 0; k < i; k++)
					assert_int_not_equal(donor_index(g->record[x].replica[i].donor),
							     donor_index(g->record[x].replica[k].donor));
		}
		if (seed < 19)
			world_free(w);
	}
}

static void different_failure_domains(void **state)
{
	u32 x;

	(void)state;
	w = world_new(3, 4, 32, NULL);
	wdonor_set_domain(&w->donor[0], "rack-a");
	wdonor_set_domain(&w->donor[1], "rack-a");
	wdonor_set_domain(&w->donor[2], "rack-b");
	wdonor_set_domain(&w->donor[3], "rack-b");
	world_pass(w, 600);
	g = wguest_new(w, 1024, 2);
	assert_true(wguest_start(g));
	fill(g);
	for (x = 0; x < memx_extents(g->slots, g->order); x++)
		assert_int_not_equal(donor_index(g->record[x].replica[0].donor) / 2,
				     donor_index(g->record[x].replica[1].donor) / 2);
}

static void by_free_memory(void **state)
{
	(void)state;
	w = world_new(5, 2, 64, NULL);
	g = wguest_new(w, 1024, 1);
	assert_true(wguest_start(g));
	fill(g);
	/* 16 extents over two equal donors: chance may not put them on one. */
	assert_in_range(wdonor_pages(&w->donor[0]), 5 * 64, 11 * 64);
	assert_int_equal(pages_at_donors(), 1024);
}

/* Whatever chance chooses: what was promised at the attach can be used to the last extent. */
static void promises_can_be_used_up(void **state)
{
	u32 seed;

	(void)state;
	for (seed = 1; seed < 60; seed++) {
		u32 replicas = 1 + seed % 3;

		w = world_new(seed, 3 + seed % 3, 8 + seed % 5, NULL);
		g = wguest_new(w, 4096, replicas);
		assert_true(wguest_start(g));
		assert_in_range(g->slots, 64, 4095);	/* less than asked for */
		fill(g);
		read_all(g);
		assert_int_equal(g->errors, 0);
		if (seed < 59)
			world_free(w);
	}
}

/* ---- admission ------------------------------------------------------------------------------------------------------------------ */

static void refused(struct wguest *guest, u32 status, const char *why)
{
	assert_false(wguest_start(guest));
	assert_true(guest->alive);
	assert_int_equal(guest->attach_status, status);
	assert_int_not_equal(guest->retry_ms, 0);
	if (!strstr(guest->link->reason, why))
		fprintf(stderr, "reason \"%s\", expected \"%s\"\n", guest->link->reason, why);
	assert_non_null(strstr(guest->link->reason, why));
	world_pass(w, 1000);
}

static void quota_bounds_the_first_attach(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 512, 1);
	g->conf.quota_pages = 200;
	assert_true(wguest_start(g));
	assert_int_equal(g->slots, 200);
	assert_int_equal(wguest_do(g, wguest_store(g, 192, 8)), MEMX_S_OK);	/* the last extent is a short one */
	assert_null(wguest_store(g, 196, 8));
}

static void frozen_size_beyond_the_quota(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 512, 1);
	assert_true(wguest_start(g));
	fill(g);
	wguest_hang_up(g);
	g->conf.quota_pages = 256;
	refused(g, MEMX_S_MISMATCH, "quota of this guest is 256 pages");
	assert_int_equal(pages_at_donors(), 512);	/* nothing of it is lost */
	g->conf.quota_pages = 512;
	assert_true(wguest_again(g));
	read_all(g);
}

static void nothing_left(void **state)
{
	struct wguest *late;

	(void)state;
	w = world_new(1, 2, 8, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	assert_int_equal(g->slots, 512);
	late = wguest_new(w, 256, 2);
	refused(late, MEMX_S_NOSPACE, "cannot promise 2 copies");
	fill(g);
}

/* A refusal counts those donors that could help, not one that is being emptied. */
static void refused_by_those_who_take(void **state)
{
	struct wguest *late;

	(void)state;
	w = world_new(1, 3, 8, NULL);
	assert_int_equal(core_donor_empty(w->core, "d2", true, w->now), 0);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	late = wguest_new(w, 512, 2);
	refused(late, MEMX_S_NOSPACE, "2 donors that take extents");
}

/* A guest that was promised room, and whose pages are out there, is served although others have that room by now. */
static void served_with_what_there_is(void **state)
{
	struct wguest *other;

	(void)state;
	w = world_new(1, 2, 8, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	fill(g);
	wguest_hang_up(g);
	wdonor_restart(&w->donor[1]);
	world_pass(w, 500);
	other = wguest_new(w, 512, 1);
	assert_true(wguest_start(other));
	fill(other);
	assert_true(wguest_again(g));
	read_all(g);
	read_all(other);
}

static void room_to_repair_is_kept(void **state)
{
	(void)state;
	w = world_new(1, 3, 16, NULL);		/* 3 x 1024 pages, two copies */
	g = wguest_new(w, 4096, 2);
	assert_true(wguest_start(g));
	/* All of it would be 1536; when one donor dies, its 1/3 of 2 * slots must fit into what the other two have left. */
	assert_in_range(g->slots, 900, 1024);
	fill(g);
	w->donor[1].there = false;
	wdonor_drop(&w->donor[1]);
	world_pass(w, 60000);
	{
		struct core_status st;

		core_status(w->core, &st);
		assert_int_equal(st.extents_degraded, 0);
	}
	read_all(g);
}

static u32 degraded(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return (u32)st.extents_degraded;
}

static void no_repair(struct core_config *cfg)
{
	cfg->repair_rate = 0;
}

/* A donor is dead and nothing is rebuilt yet: the room for that is not given to a guest that comes now. */
static void room_that_repair_needs_is_kept(void **state)
{
	struct core_config cfg;
	struct wguest *late;
	u32 slot;

	(void)state;
	w = world_new(1, 3, 16, no_repair);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	fill(g);
	w->donor[1].there = false;
	wdonor_drop(&w->donor[1]);
	world_pass(w, 1000);
	for (slot = 0; slot < 512; slot += 64)
		assert_int_equal(wguest_do(g, wguest_store(g, slot, 1)), MEMX_S_OK);
	assert_in_range(degraded(), 4, 8);
	late = wguest_new(w, 2048, 2);
	assert_true(wguest_start(late));
	assert_in_range(late->slots, 64, 512);
	fill(late);
	cfg = w->cfg;
	cfg.repair_rate = 64 << 20;
	core_reconfigure(w->core, &cfg, w->now);
	world_pass(w, 60000);
	assert_int_equal(degraded(), 0);
	read_all(g);
	read_all(late);
}

/* What one copy needs is not taken from the room that the copies of others are rebuilt in. */
static void one_copy_leaves_room_to_repair(void **state)
{
	struct wguest *late;

	(void)state;
	w = world_new(1, 3, 16, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	fill(g);
	late = wguest_new(w, 4096, 1);
	assert_true(wguest_start(late));
	fill(late);
	w->donor[1].there = false;
	wdonor_drop(&w->donor[1]);
	world_pass(w, 60000);
	{
		u32 x, k, live;

		for (x = 0; x < 8; x++) {
			for (k = 0, live = 0; k < g->record[x].replicas; k++)
				live += g->record[x].replica[k].state == MEMX_R_LIVE && donor_index(g->record[x].replica[k].donor) != 1;
			assert_int_equal(live, 2);
		}
	}
	read_all(g);
}

/* Nobody has room for what is missing: counted for each extent, said once, visible. */
static void no_room_to_repair_is_said(void **state)
{
	struct core_status st;
	u32 slot;

	(void)state;
	w = world_new(1, 2, 16, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	fill(g);
	w->watched = "no-repair-room";
	w->donor[1].there = false;
	wdonor_drop(&w->donor[1]);
	world_pass(w, 500);
	for (slot = 0; slot < 512; slot += 64)
		assert_int_equal(wguest_do(g, wguest_store(g, slot, 1)), MEMX_S_OK);
	world_pass(w, 5000);
	core_status(w->core, &st);
	assert_int_equal(st.counters.no_repair_room, 8);
	assert_int_equal(st.extents_degraded, 8);
	assert_int_equal(st.repair_extents, 8);
	assert_int_equal(st.repair_stuck, 8);
	assert_int_equal(st.repair_pages, 512);
	assert_int_equal(w->seen, 1);
	w->donor[1].there = true;
	world_pass(w, 10000);
	core_status(w->core, &st);
	assert_int_equal(st.repair_extents + st.repair_stuck + st.extents_degraded, 0);
}

static void more_copies_than_donors(void **state)
{
	(void)state;
	w = world_new(1, 1, 64, NULL);
	g = wguest_new(w, 128, 2);
	refused(g, MEMX_S_NOSPACE, "cannot promise 2 copies");
	g->conf.replicas = 0;			/* where nothing is said: as many as make sense */
	assert_true(wguest_again(g));
	assert_int_equal(g->replicas, 1);
}

static void no_donor_there(void **state)
{
	u32 i;

	(void)state;
	w = world_new(1, 2, 64, NULL);
	for (i = 0; i < 2; i++) {
		w->donor[i].there = false;
		wdonor_drop(&w->donor[i]);
	}
	world_pass(w, 500);
	g = wguest_new(w, 128, 1);
	refused(g, MEMX_S_AGAIN, "no donor serves");
	w->donor[0].there = w->donor[1].there = true;
	world_pass(w, 500);
	assert_true(wguest_again(g));
}

/* ---- re-attach -------------------------------------------------------------------------------------------------------------------- */

static void relay_killed(void **state)
{
	(void)state;
	w = world_new(1, 3, 64, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	fill(g);
	world_relay_restart(w);
	world_settle(w);
	assert_true(wguest_start(g));
	read_all(g);
	assert_int_equal(pages_at_donors(), 1024);
	assert_int_equal(world_counters(w).condemned, 0);
}

/* Without the id: a refusal with a name, not an endless wait. With the donor added: served. */
static void unknown_donor_in_the_map(void **state)
{
	struct wdonor *d;

	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 1);
	assert_true(wguest_start(g));
	fill(g);
	wguest_hang_up(g);
	w->donors = 1;			/* the relay starts with a configuration that lacks d1 */
	d = &w->donor[1];
	if (d->conn)
		d->conn->open = false;
	d->conn = NULL;
	d->cd = NULL;
	world_relay_restart(w);
	world_settle(w);
	refused(g, MEMX_S_NODONOR, "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1");
	w->donors = 2;
	d->cd = core_donor_add(w->core, d->name, d, w->now);
	wdonor_up(d);
	world_settle(w);
	assert_true(wguest_again(g));
	read_all(g);
}

static void donors_keep_what_the_map_names_and_nothing_else(void **state)
{
	u32 x;

	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 1);
	assert_true(wguest_start(g));
	fill(g);
	assert_int_equal(pages_at_donors(), 256);
	x = 2;
	memset(&g->record[x], 0, sizeof(g->record[x]));		/* e.g. a record that never took effect */
	assert_true(wguest_again(g));
	assert_int_equal(pages_at_donors(), 192);
	assert_int_equal(world_counters(w).condemned, 1);
	assert_int_equal(wguest_do(g, wguest_fetch(g, 0, 32)), MEMX_S_OK);
}

/* ---- fences ------------------------------------------------------------------------------------------------------------------------- */

/* Somebody else raises the fence of the guest's session at all donors. */
static void foreign_fence(u64 epoch, u64 lineage, u64 known)
{
	static u8 buf[SRV_REPLY_BUF];
	static struct iovec iov[SRV_REPLY_IOVS];
	u32 i;

	for (i = 0; i < w->donors; i++) {
		struct srv_out out = { .buf = buf, .size = sizeof(buf), .iov = iov, .max_iovs = SRV_REPLY_IOVS };
		struct srv_conn *c = srv_conn_open(w->donor[i].srv, NULL);
		struct memx_hello hello = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY };
		struct memx_fence f = { .flags = MEMX_FENCE_CREATE, .slots = memx_put_le32(g->slots), .extent_order = (u8)g->order };
		struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(hello), .tag = 1 };

		memcpy(f.vm, g->conf.vm, 16);
		memcpy(f.session, g->session, 16);
		f.lineage[0] = memx_put_le64(lineage);
		f.lineage[1] = memx_put_le64(known);
		assert_int_equal(srv_frame(c, &head, &hello, &out, w->now), 0);
		head = (struct memx_head){ .op = MEMX_OP_FENCE, .len = sizeof(f), .tag = 2, .epoch = epoch };
		assert_int_equal(srv_frame(c, &head, &f, &out, w->now), 0);
		srv_conn_close(c);
	}
}

static void a_relay_left_behind(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 128, 2);
	assert_true(wguest_start(g));
	fill(g);
	foreign_fence(g->epoch + 1, g->lineage[0], 0);
	assert_non_null(wguest_store(g, 0, 1));
	world_settle(w);
	assert_true(g->closed);			/* neither acknowledged nor waited for */
	assert_non_null(strstr(g->reason, "FENCED"));
	assert_int_equal(world_counters(w).stores, 128);
	g->epoch++;				/* the guest is here after all, and raises its epoch */
	assert_true(wguest_again(g));
	assert_int_equal(wguest_do(g, wguest_fetch(g, 32, 32)), MEMX_S_OK);
}

static void an_old_epoch(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 128, 2);
	assert_true(wguest_start(g));
	fill(g);
	foreign_fence(g->epoch + 5, g->lineage[0], 0);
	wguest_hang_up(g);
	refused(g, MEMX_S_FENCED, "newer epoch");
	g->epoch += 5;
	assert_true(wguest_again(g));
	read_all(g);
}

static void a_clone_is_superseded(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 128, 2);
	assert_true(wguest_start(g));
	fill(g);
	foreign_fence(g->epoch + 1, 4711, g->lineage[0]);	/* the other copy of this guest was quicker */
	wguest_hang_up(g);
	g->epoch += 5;
	refused(g, MEMX_S_SUPERSEDED, "another copy of this guest");
	assert_int_equal(pages_at_donors(), 256);		/* and harms nothing of the winner's */
}

/* The guest comes back from a suspend, or a checkpoint. */
static void suspended(void)
{
	memmove(g->lineage + 1, g->lineage, sizeof(g->lineage) - sizeof(g->lineage[0]));
	g->lineage[0] += 1000;
	assert_true(wguest_again(g));
}

static void donors_slept_through_suspends(void **state)
{
	u32 i;

	(void)state;
	w = world_new(1, 4, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	for (i = 0; i < 2; i++) {
		w->donor[i].there = false;
		wdonor_drop(&w->donor[i]);
		world_pass(w, 60000);			/* what it held has another copy elsewhere by now */
	}
	for (i = 0; i < MEMX_MAX_LINEAGE + 1; i++)
		suspended();
	for (i = 0; i < 2; i++) {
		w->donor[i].there = true;
		wdonor_up(&w->donor[i]);
		world_pass(w, 1000);
		assert_true(g->attached);
		assert_string_equal(w->last_event, "fence-refused");
	}
	read_all(g);
	fill(g);
	/* They count for nothing at the next attach either. */
	suspended();
	read_all(g);
	foreign_fence(g->epoch + 1, 4711, g->lineage[0]);	/* but a copy that took the session over does */
	wguest_hang_up(g);
	g->epoch += 5;
	refused(g, MEMX_S_SUPERSEDED, "another copy of this guest");
}

/* ---- ends --------------------------------------------------------------------------------------------------------------------------- */

static void detach_frees_everything(void **state)
{
	(void)state;
	w = world_new(1, 3, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	wguest_detach(g);
	world_settle(w);
	assert_false(g->attached);
	assert_int_equal(pages_at_donors(), 0);
	memset(g->record, 0, 5 * sizeof(g->record[0]));
	memset(g->slot, 0, 256 * sizeof(g->slot[0]));
	g->session[3]++;		/* swapon again: a new session over the same link */
	g->seed = memx_session_seed(g->session);
	wguest_attach(g);
	world_settle(w);
	assert_true(g->attached);
	fill(g);
	read_all(g);
}

static void freed_at_donors_that_were_away(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	w->donor[1].hung = true;
	world_pass(w, 2000);
	wguest_detach(g);
	world_settle(w);
	assert_false(g->attached);		/* answered without it */
	assert_int_equal(pages_at_donors(), 256);
	w->donor[1].hung = false;
	world_pass(w, 500);
	assert_int_equal(pages_at_donors(), 0);
}

static u32 sessions_known(void)
{
	struct core_status st;

	core_status(w->core, &st);
	return st.sessions;
}

/* Its channel ends before the donors have answered: they are told all the same, and it is forgotten. */
static void hang_up_while_detaching(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	w->donor[1].hung = true;
	wguest_detach(g);
	world_settle(w);
	wguest_hang_up(g);
	world_settle(w);
	assert_int_equal(sessions_known(), 1);
	w->donor[1].hung = false;
	world_pass(w, 300);
	assert_int_equal(pages_at_donors(), 0);
	assert_int_equal(sessions_known(), 0);
}

/* Refused under one id after another: neither the relay nor a donor keeps a session for each. */
static void refused_under_many_ids(void **state)
{
	struct srv_totals totals;
	u32 i;

	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	assert_int_equal(wguest_do(g, wguest_store(g, 0, 8)), MEMX_S_OK);
	for (i = 0; i < MEMX_MAX_REPLICAS; i++)
		if (g->record[0].replica[i].state)
			g->record[0].replica[i].donor[0] ^= 0x55;	/* nobody has heard of them */
	wguest_hang_up(g);
	wguest_offer(g);
	world_settle(w);
	for (i = 0; i < 50; i++) {
		g->session[3]++;
		wguest_attach(g);
		world_settle(w);
		assert_int_equal(g->attach_status, MEMX_S_NODONOR);
		wguest_attach(g);
		world_settle(w);
		assert_int_equal(g->attach_status, MEMX_S_AGAIN);	/* it was told to wait */
		world_pass(w, RETRY_MS);
		assert_in_range(sessions_known(), 0, 2);
	}
	for (i = 0; i < 2; i++) {
		srv_totals(w->donor[i].srv, &totals);
		assert_in_range(totals.sessions, 0, 2);
	}
}

static void domain_gone(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	wguest_hang_up(g);
	world_pass(w, 100000);
	assert_int_equal(pages_at_donors(), 512);	/* merely without a relay: kept */
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, true, w->now);
	world_pass(w, 1000);
	assert_int_equal(pages_at_donors(), 512);	/* migrated or saved: kept */
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, false, w->now);
	world_settle(w);
	assert_int_equal(pages_at_donors(), 0);
}

/* A saved guest and a fresh boot of the same UUID: the image will want its pages again. */
static void a_saved_session_outlives_a_fresh_boot(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	wguest_hang_up(g);
	core_guest_gone(w->core, g->conf.vm, g->conf.domid, true, w->now);
	{
		struct wguest *fresh = wguest_new(w, 128, 2);

		memcpy(fresh->conf.vm, g->conf.vm, sizeof(g->conf.vm));
		assert_true(wguest_start(fresh));
		fill(fresh);
		assert_int_equal(pages_at_donors(), 512 + 256);
		wguest_hang_up(fresh);
		core_guest_gone(w->core, fresh->conf.vm, fresh->conf.domid, false, w->now);
		world_settle(w);
	}
	assert_int_equal(pages_at_donors(), 512);
	g->conf.domid = 99;		/* restored */
	assert_true(wguest_start(g));
	read_all(g);
}

static void reload_replaces_the_session(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	wguest_hang_up(g);
	memset(g->record, 0, 5 * sizeof(g->record[0]));
	memset(g->slot, 0, 256 * sizeof(g->slot[0]));
	g->session[0]++;
	g->seed = memx_session_seed(g->session);
	g->frozen = false;
	g->order = 0;
	assert_true(wguest_start(g));
	assert_int_equal(pages_at_donors(), 0);
	fill(g);
	assert_int_equal(pages_at_donors(), 512);
}

static void freed_by_command(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	fill(g);
	assert_int_equal(core_session_free(w->core, g->conf.vm, g->conf.vm, false, w->now), -ENOENT);
	assert_int_equal(core_session_free(w->core, g->conf.vm, g->session, false, w->now), -EBUSY);
	wguest_hang_up(g);
	assert_int_equal(core_session_free(w->core, g->conf.vm, g->session, false, w->now), 0);
	world_settle(w);
	assert_int_equal(pages_at_donors(), 0);
}

static void note_donor(const struct core_donor_info *info, void *to)
{
	if (!strcmp(info->name, "d1"))
		memcpy(to, info, sizeof(*info));
}

static struct core_donor_info d1_now(void)
{
	struct core_donor_info info = { .name = "" };

	core_each_donor(w->core, note_donor, &info, w->now);
	assert_string_equal(info.name, "d1");
	return info;
}

static void a_donor_is_emptied(void **state)
{
	u32 had;

	(void)state;
	w = world_new(1, 3, 64, NULL);
	g = wguest_new(w, 512, 1);
	assert_true(wguest_start(g));
	fill(g);
	assert_int_not_equal(wdonor_pages(&w->donor[1]), 0);
	had = d1_now().extents;
	assert_int_equal(core_donor_empty(w->core, "d1", true, w->now), 0);
	assert_int_equal(d1_now().state, CORE_DONOR_EMPTYING);	/* whoever switches it off now loses what is there */
	assert_int_equal(d1_now().extents, had);
	world_pass(w, 10000);
	assert_int_equal(wdonor_pages(&w->donor[1]), 0);
	assert_int_equal(d1_now().state, CORE_DONOR_EMPTIED);
	assert_int_equal(d1_now().extents, 0);
	assert_int_equal(pages_at_donors(), 512);
	read_all(g);
	assert_int_equal(core_donor_empty(w->core, "nobody", true, w->now), -ENOENT);
}

/* It is never called empty while it is not: neither without room for its copies, nor when their guest is not here. */
static void a_donor_that_cannot_be_emptied(void **state)
{
	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	fill(g);
	assert_int_equal(core_donor_empty(w->core, "d1", true, w->now), 0);
	world_pass(w, 10000);
	assert_int_equal(d1_now().state, CORE_DONOR_EMPTYING);
	assert_int_not_equal(d1_now().extents, 0);
	assert_int_equal(d1_now().stuck_extents, d1_now().extents);
	wguest_hang_up(g);
	world_pass(w, 2000);
	assert_int_equal(d1_now().state, CORE_DONOR_EMPTYING);
	assert_int_equal(core_donor_empty(w->core, "d1", false, w->now), 0);
	assert_int_equal(d1_now().state, CORE_DONOR_USABLE);
}

static void a_donor_is_removed(void **state)
{
	(void)state;
	w = world_new(1, 3, 64, NULL);
	g = wguest_new(w, 512, 2);
	assert_true(wguest_start(g));
	fill(g);
	core_donor_remove(w->donor[2].cd, w->now);
	assert_non_null(w->donor[2].cd);		/* not before its pages are elsewhere */
	world_pass(w, 20000);
	assert_null(w->donor[2].cd);
	read_all(g);
	wdonor_restart(&w->donor[0]);
	world_pass(w, 10000);
	read_all(g);
}

static void drained(void **state)
{
	struct wguest *late;

	(void)state;
	w = world_new(1, 2, 64, NULL);
	g = wguest_new(w, 256, 2);
	assert_true(wguest_start(g));
	assert_non_null(wguest_store(g, 0, 8));
	assert_false(list_empty(&g->to_relay[0]));
	wguest_deliver_one(g, 0);
	assert_false(core_idle(w->core));
	core_drain(w->core, w->now);
	assert_non_null(wguest_store(g, 64, 8));
	world_settle(w);
	assert_true(core_idle(w->core));		/* the first is answered, the second left to the next relay */
	assert_int_equal(g->stores_ok, 8);
	late = wguest_new(w, 128, 1);
	assert_false(wguest_start(late));
	assert_int_equal(late->attach_status, MEMX_S_DRAINING);
}

/* What waits for a donor that does not come back is not waited for: the next relay may reach it. */
static void drained_without_the_last_copy(void **state)
{
	(void)state;
	w = world_new(1, 1, 64, NULL);
	g = wguest_new(w, 128, 1);
	assert_true(wguest_start(g));
	assert_int_equal(wguest_do(g, wguest_store(g, 0, 8)), MEMX_S_OK);
	w->donor[0].there = false;
	wdonor_drop(&w->donor[0]);
	assert_non_null(wguest_fetch(g, 0, 8));
	world_settle(w);
	core_drain(w->core, w->now);
	world_pass(w, 1000);
	assert_false(core_idle(w->core));
	world_pass(w, 5000);
	assert_true(core_idle(w->core));
}

#define rule(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(never_two_on_one_donor), rule(different_failure_domains), rule(by_free_memory), rule(promises_can_be_used_up),
		rule(quota_bounds_the_first_attach), rule(frozen_size_beyond_the_quota), rule(nothing_left),
		rule(refused_by_those_who_take),
		rule(served_with_what_there_is),
		rule(room_to_repair_is_kept), rule(room_that_repair_needs_is_kept),
		rule(one_copy_leaves_room_to_repair), rule(no_room_to_repair_is_said),
		rule(more_copies_than_donors), rule(no_donor_there), rule(relay_killed),
		rule(unknown_donor_in_the_map), rule(donors_keep_what_the_map_names_and_nothing_else), rule(a_relay_left_behind),
		rule(an_old_epoch), rule(a_clone_is_superseded), rule(donors_slept_through_suspends),
		rule(detach_frees_everything), rule(freed_at_donors_that_were_away),
		rule(hang_up_while_detaching), rule(refused_under_many_ids),
		rule(domain_gone), rule(reload_replaces_the_session), rule(a_saved_session_outlives_a_fresh_boot),
		rule(freed_by_command), rule(a_donor_is_emptied), rule(a_donor_that_cannot_be_emptied),
		rule(a_donor_is_removed), rule(drained), rule(drained_without_the_last_copy),
	};

	return cmocka_run_group_tests_name("relay core: placement, admission, sessions", tests, NULL, NULL);
}
