// SPDX-License-Identifier: GPL-2.0-only
/*
 * donors.c - what the tests about donors share: a world with one guest, and looks at its records.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

struct world *w;
struct wguest *g;

void cluster(u32 donors, u32 replicas)
{
	w = world_new(11, donors, 32, NULL);
	g = wguest_new(w, 256, replicas);
	assert_true(wguest_start(g));
	assert_int_equal(g->replicas, replicas);
}

int teardown(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

void stored(u32 slot, u32 count)
{
	assert_int_equal(wguest_do(g, wguest_store(g, slot, count)), MEMX_S_OK);
}

void fetched(u32 slot, u32 count)
{
	assert_int_equal(wguest_do(g, wguest_fetch(g, slot, count)), MEMX_S_OK);
}

u32 ms_until(const struct wreq *r, u32 most)
{
	u64 began = w->now;

	while (!r->done && w->now - began < most * MS) {
		world_settle(w);
		if (!r->done)
			world_tick(w);
	}
	return (u32)((w->now - began) / MS);
}

struct wdonor *donor_of(const u8 id[16])
{
	u32 i;

	for (i = 0; i < w->donors; i++)
		if (!memcmp(w->donor[i].id, id, 16))
			return &w->donor[i];
	return NULL;
}

struct wdonor *holder(u32 extent, u32 n)
{
	return donor_of(g->record[extent].replica[n].donor);
}

u32 live_copies(u32 extent)
{
	u32 i, n = 0;

	for (i = 0; i < g->record[extent].replicas; i++)
		n += g->record[extent].replica[i].state == MEMX_R_LIVE;
	return n;
}

u8 state_at(u32 extent, const struct wdonor *d)
{
	u32 i;

	for (i = 0; i < g->record[extent].replicas; i++)
		if (!memcmp(g->record[extent].replica[i].donor, d->id, 16))
			return g->record[extent].replica[i].state;
	return MEMX_R_NONE;
}

u16 odd_op;
u32 odd_status;

bool oddly(struct wdonor *d, struct frame *f)
{
	(void)d;
	if ((memx_le16(f->hdr.op) & ~MEMX_OP_REPLY) != odd_op)
		return true;
	f->hdr.status = memx_put_le32(odd_status);
	f->len = 0;
	f->hdr.len = 0;
	return true;
}

void no_repair(struct core_config *cfg)
{
	cfg->repair_rate = 0;
}

void repaired(void)
{
	struct core_status st;
	u32 turns = 0;

	do {
		world_pass(w, 200);
		core_status(w->core, &st);
	} while (st.extents_degraded && ++turns < 300);
	assert_int_equal(st.extents_degraded, 0);
}
