// SPDX-License-Identifier: GPL-2.0-only
/*
 * tags.c - requests to donors, and the tags by which their answers find them.
 *
 * A tag is a serial number above the index of the request's slot, so an answer that comes twice, late or never asked for finds
 * nothing: the slot is free or has another serial by then. Slots come in chunks that are kept; how many are in use is bounded by
 * the credits of the guests and by what the control machines have under way.
 */
#include "internal.h"

enum {
	CHUNK_BITS	= 8,
	CHUNK		= 1 << CHUNK_BITS,
	INDEX_BITS	= 24,
	MAX_CHUNKS	= 1 << (INDEX_BITS - CHUNK_BITS),
};

/* Index of the slot while it is free; the tag's low bits while it is used. */
static void dop_grow(struct relay_core *core)
{
	struct dop *chunk;
	u32 i;

	if (!core->dop_chunk)
		core->dop_chunk = core_zalloc(MAX_CHUNKS * sizeof(*core->dop_chunk));
	if (core->dop_chunks == MAX_CHUNKS)
		abort();	/* 16 million unanswered requests: the bounds elsewhere failed */
	chunk = core_zalloc(CHUNK * sizeof(*chunk));
	core->dop_chunk[core->dop_chunks] = chunk;
	for (i = 0; i < CHUNK; i++) {
		chunk[i].sent_at = core->dop_chunks * CHUNK + i;
		list_add_tail(&chunk[i].in_donor, &core->dop_free);
	}
	core->dop_chunks++;
}

struct dop *dop_new(struct core_donor *donor, u16 op, enum dop_class class, dop_done done)
{
	struct relay_core *core = donor->core;
	struct dop *dop;
	u64 index;

	if (list_empty(&core->dop_free))
		dop_grow(core);
	dop = list_first(&core->dop_free, struct dop, in_donor);
	list_del(&dop->in_donor);
	index = dop->sent_at;
	memset(dop, 0, offsetof(struct dop, small));
	list_init(&dop->in_donor);
	list_init(&dop->in_session);
	list_init(&dop->in_req);
	dop->donor = donor;
	dop->op = op;
	dop->class = (u8)class;
	dop->done = done;
	dop->tag = ++core->dop_serial << INDEX_BITS | index;
	return dop;
}

void dop_free(struct dop *dop)
{
	struct relay_core *core = dop->donor->core;

	list_del(&dop->in_donor);
	list_del(&dop->in_session);
	list_del(&dop->in_req);
	rbuf_put(dop->body);
	dop->body = NULL;
	dop->sent_at = dop->tag & ((1ULL << INDEX_BITS) - 1);
	dop->tag = 0;
	list_add_head(&dop->in_donor, &core->dop_free);
}

void dop_cancel(struct dop *dop)
{
	if (!dop->sent) {
		dop_free(dop);
		return;
	}
	/* On its way: the tag and the place in the donor's window stay until the answer comes or the connection goes. */
	list_del(&dop->in_session);
	list_del(&dop->in_req);
	rbuf_put(dop->body);
	dop->body = NULL;
	dop->done = NULL;
	dop->session = NULL;
	dop->extent = NULL;
	dop->req = NULL;
	dop->repair = NULL;
}

struct dop *dop_find(struct relay_core *core, u64 tag)
{
	u64 index = tag & ((1ULL << INDEX_BITS) - 1);
	struct dop *dop;

	if (!tag || index >= (u64)core->dop_chunks * CHUNK)
		return NULL;
	dop = &core->dop_chunk[index >> CHUNK_BITS][index & (CHUNK - 1)];
	return dop->tag == tag && dop->sent ? dop : NULL;
}
