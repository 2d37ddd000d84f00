// SPDX-License-Identifier: GPL-2.0-only
/*
 * extent.c - extents, and the generation that says which record of them is in force here: PLACE, FREE, SCAN.
 *
 * A generation only rises. A change of an extent's pages must name the held one, so that a relay which works from an older
 * record writes nothing, and giving an extent up must name one that is not older than the held one, so that freeing what an
 * older record meant cannot hit what a newer one relies on.
 */
#include <stdlib.h>

#include "internal.h"

u64 srv_extent_held(const struct srv_session *s, const struct srv_extent *e)
{
	u64 held = 0;
	u32 i;

	for (i = 0; i < e->chunks; i++)
		held += (u64)__builtin_popcountll(s->srv->store->meta[e->chunk[i]].held);
	return held;
}

/* ---- PLACE ------------------------------------------------------------------------------------------------------------ */

/* Our place in the record, NULL if it does not name us. */
static const struct memx_replica *ours(const struct srv *srv, const struct memx_record *rec)
{
	u32 i;

	for (i = 0; i < rec->replicas; i++)
		if (!memcmp(rec->replica[i].donor, srv->config.id, sizeof(srv->config.id)))
			return &rec->replica[i];
	return NULL;
}

static u32 create(struct srv_req *req, struct srv_session *s, u32 index, struct srv_extent **made)
{
	struct srv *srv = req->conn->srv;
	u32 slots = 1U << s->order, chunks;
	struct srv_extent *e;
	int ret;

	if (slots > s->slots - (index << s->order))
		slots = s->slots - (index << s->order);
	chunks = (slots + SRV_CHUNK_PAGES - 1) >> SRV_CHUNK_SHIFT;
	if (srv->draining)
		return MEMX_S_DRAINING;
	if (s->used + (u64)chunks * SRV_CHUNK_PAGES > s->reserved) {
		srv_event(srv, SRV_EVENT_NOSPACE, s, (u64)chunks * SRV_CHUNK_PAGES, req->conn);
		return MEMX_S_NOSPACE;
	}
	e = calloc(1, sizeof(*e) + chunks * sizeof(e->chunk[0]));
	if (!e)
		return MEMX_S_NOSPACE;
	ret = srv_chunks_take(srv, chunks, e->chunk);
	if (ret) {
		free(e);
		srv_event(srv, ret == -ENOMEM ? SRV_EVENT_NOMEM : SRV_EVENT_NOSPACE, s,
			  ret == -ENOMEM ? index : (u64)chunks * SRV_CHUNK_PAGES, req->conn);
		return MEMX_S_NOSPACE;
	}
	e->index = index;
	e->slots = slots;
	e->chunks = chunks;
	if (srv_extent_link(s, e)) {
		srv_chunks_give(srv, chunks, e->chunk);
		free(e);
		return MEMX_S_NOSPACE;
	}
	srv->count.extents_placed++;
	*made = e;
	return MEMX_S_OK;
}

/* May @rec follow what the extent has? An equal generation repeats the same record, or one that never took effect. */
static u32 may_follow(const struct srv_session *s, const struct srv_extent *e, const struct memx_record *rec)
{
	u64 generation = memx_le64(rec->generation);

	if (generation < e->generation)
		return MEMX_S_GENERATION;
	if (generation == e->generation && e->epoch == s->epoch && memcmp(rec, &e->record, sizeof(*rec)))
		return MEMX_S_MISMATCH;
	return MEMX_S_OK;
}

int srv_op_place(struct srv_req *req)
{
	const struct memx_place *place = req->body;
	const struct memx_record *rec = &place->record;
	struct srv *srv = req->conn->srv;
	const struct memx_replica *own;
	struct srv_session *s;
	struct srv_extent *e;
	u32 status;

	if (memx_le32(place->flags) & ~(u32)(MEMX_PLACE_CREATE | MEMX_PLACE_IN_FORCE))
		return srv_violation(req, "PLACE uses flags that have no meaning");
	s = srv_speaks(req, memx_le32(place->session), &status);
	if (!s)
		return srv_answer(req, status);
	own = ours(srv, rec->replicas <= MEMX_MAX_REPLICAS ? rec : &(struct memx_record) { .replicas = 0 });
	if (memx_check_record(rec, memx_extents(s->slots, s->order)) || !own)
		return srv_answer(req, MEMX_S_INVALID);
	if (memx_le64(own->instance) != srv->config.instance)
		return srv_answer(req, MEMX_S_MISMATCH);

	e = srv_extent_find(s, memx_le32(rec->extent));
	if (e)
		status = may_follow(s, e, rec);
	else if (!(memx_le32(place->flags) & MEMX_PLACE_CREATE))
		status = MEMX_S_ABSENT;
	else if (own->state == MEMX_R_STALE)
		status = MEMX_S_INVALID;		/* nothing to be made for a copy that takes nothing */
	else
		status = create(req, s, memx_le32(rec->extent), &e);
	if (status != MEMX_S_OK)
		return srv_answer(req, status);
	/* A new record has been agreed by those who are alive: what an older one relied on is void. */
	if (memx_le64(rec->generation) > e->generation)
		e->pinned = 0;
	if (memcmp(rec, &e->record, sizeof(*rec)))
		e->in_force = false;
	if (memx_le32(place->flags) & MEMX_PLACE_IN_FORCE)
		e->in_force = true;
	e->generation = memx_le64(rec->generation);
	e->record = *rec;
	e->state = own->state;
	e->epoch = s->epoch;
	return srv_answer(req, MEMX_S_OK);
}

/* ---- FREE, SCAN ------------------------------------------------------------------------------------------------------- */

/* The extent that a list of one names. NULL: answered or, with *@ret = -EPROTO, the connection is to go. */
static struct srv_extent *the_one(struct srv_req *req, struct srv_session **s, int *ret)
{
	const struct memx_list *list = req->body;
	const struct memx_extent_ref *ref = (const void *)(list + 1);
	struct srv_extent *e;
	u32 status;

	*ret = 0;
	if (memx_le32(list->count) != 1) {
		*ret = srv_violation(req, "not a list of one extent");
		return NULL;
	}
	*s = srv_speaks(req, memx_le32(list->session), &status);
	if (!*s) {
		srv_answer(req, status);
		return NULL;
	}
	e = srv_extent_find(*s, memx_le32(ref->extent));
	if (!e)
		srv_answer(req, MEMX_S_ABSENT);
	return e;
}

int srv_op_free(struct srv_req *req)
{
	const struct memx_extent_ref *ref = (const void *)((const struct memx_list *)req->body + 1);
	struct srv_session *s;
	int ret;
	struct srv_extent *e = the_one(req, &s, &ret);

	if (!e)
		return ret;
	if (e->generation > memx_le64(ref->generation))
		return srv_answer(req, MEMX_S_GENERATION);
	srv_extent_free(s, e);
	return srv_answer(req, MEMX_S_OK);
}

int srv_op_scan(struct srv_req *req)
{
	const struct memx_extent_ref *ref = (const void *)((const struct memx_list *)req->body + 1);
	struct memx_want want[MEMX_MAX_SCAN];
	u32 at, first, count = 0, end;
	struct srv *srv = req->conn->srv;
	struct memx_list *list;
	struct srv_session *s;
	int ret;
	struct srv_extent *e = the_one(req, &s, &ret);

	if (!e)
		return ret;
	first = e->index << s->order;
	end = e->slots;
	at = memx_le32(ref->slot) > first ? memx_le32(ref->slot) - first : 0;
	for (; at < end && count < MEMX_MAX_SCAN; at++) {
		const struct srv_chunk_meta *meta = srv_meta(srv, e, at);
		u32 bit = at & (SRV_CHUNK_PAGES - 1);

		if (!meta->trailer[bit].version)
			continue;
		want[count].slot = memx_put_le32(first + at);
		want[count].status = memx_put_le32(meta->held >> bit & 1 ? MEMX_S_OK : MEMX_S_ABSENT);
		want[count].version = meta->trailer[bit].version;
		count++;
	}
	list = srv_reply(req, MEMX_S_OK, at < end ? 0 : MEMX_F_LAST, memx_scan_len(count));
	list->session = ((const struct memx_list *)req->body)->session;
	list->count = memx_put_le32(count);
	memcpy(list + 1, want, count * sizeof(want[0]));
	return 0;
}
