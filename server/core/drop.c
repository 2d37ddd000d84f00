// SPDX-License-Identifier: GPL-2.0-only
/*
 * drop.c - a donor that drops a copy by itself, because no relay took it away in time; and the other side of that, PIN.
 *
 * The one declared exception to the number of copies. A copy is dropped only by a record that the guest has acknowledged (one
 * that is only proposed may never come to be, and the guest's then names this copy alone). Another donor, which that record
 * calls live, must have confirmed just before that it has the copy too: the same session at the same epoch, the same record, every slot at
 * the version held here or a newer one, every page good by its check. It has then pinned its own: it does not drop a pinned
 * copy. Nothing is dropped if anything changed here while it was asked: the epoch, the record, a PIN for this very copy.
 *
 * Why at least one copy stays, whoever asks whom and in whatever order: say that copies are dropped, and each drop names the
 * holder that confirmed it. A holder that confirmed at (generation, epoch) is pinned there, and has given up a drop of its own
 * that was under way; so if it drops later, it does so at a higher generation or epoch, confirmed by another holder there.
 * From drop to confirmer to its confirmer these numbers only rise, so the chain never closes; holders are finite, so it ends
 * at one that has not dropped. Of two that ask each other at the same time the one with the lower id wins.
 *
 * A pin ends with a record of a higher generation (whoever made it knows who holds what), with a newer fence (the relay
 * behind it has every donor list what it holds), and with the extent.
 *
 * Where the other holder is, relays tell (PEERS). A session's are those told by whoever fenced it: a relay that lies about
 * them, or about anything else here, harms only guests that it could as well detach. Who answers there must present the id and
 * the instance of the record. A holder that confirms what it has not got has lost a copy by its own fault, and this one
 * with it: as two failures at once.
 */
#include <stdlib.h>

#include <memx/check.h>

#include "internal.h"

/* ---- where donors are --------------------------------------------------------------------------------------------------- */

void srv_peers_put(struct srv_peers *peers)
{
	if (peers && !--peers->refs)
		free(peers);
}

void srv_peers_take(struct srv_session *s, struct srv_peers *peers)
{
	if (!peers)
		return;			/* what was told before is better than nothing: who answers there has to show who he is */
	peers->refs++;
	srv_peers_put(s->peers);
	s->peers = peers;
}

int srv_op_peers(struct srv_req *req)
{
	const struct memx_list *list = req->body;
	const struct memx_peer *peer = (const void *)(list + 1);
	struct srv_conn *conn = req->conn;
	int i, count = memx_check_peers(req->head, list);
	struct srv_peers *peers;
	u32 k;

	if (count < 0)
		return srv_violation(req, "length and count of donors do not agree");
	if (conn->role != MEMX_ROLE_RELAY)
		return srv_answer(req, MEMX_S_DENIED);
	peers = calloc(1, sizeof(*peers) + (size_t)count * sizeof(peers->peer[0]));
	if (!peers)
		return srv_answer(req, MEMX_S_AGAIN);
	peers->refs = 1;
	peers->count = (u32)count;
	for (i = 0; i < count; i++)
		peers->peer[i] = peer[i];
	srv_peers_put(conn->peers);
	conn->peers = peers;
	conn->srv->work += (u64)conn->max_handle * SRV_LOOK;
	for (k = 0; k < conn->max_handle; k++)
		if (conn->handle[k].session && conn->handle[k].session->speaker == conn->serial)
			srv_peers_take(conn->handle[k].session, peers);
	return srv_answer(req, MEMX_S_OK);
}

static const struct memx_peer *peer_of(const struct srv_session *s, const u8 id[16])
{
	u32 i;

	for (i = 0; s->peers && i < s->peers->count; i++)
		if (!memcmp(s->peers->peer[i].id, id, 16) && s->peers->peer[i].port)
			return &s->peers->peer[i];
	return NULL;
}

/* ---- PIN: another holder wants to drop its copy --------------------------------------------------------------------------- */

static bool is_pinned(const struct srv_session *s, const struct srv_extent *e)
{
	return e->pinned && e->pinned == s->epoch;
}

static bool dropping(const struct srv *srv, const struct srv_session *s, const struct srv_extent *e)
{
	const struct srv_dropping *d = &srv->drop;

	return d->session == s && d->extent == e->index;
}

/* Is every slot here, at the version told or a newer one, and every page that is here good? */
static u32 holds(const struct srv_session *s, const struct srv_extent *e, const __le64 *version)
{
	const struct srv *srv = s->srv;
	u32 at;

	for (at = 0; at < e->slots; at++) {
		const struct srv_chunk_meta *meta = srv_meta(srv, e, at);
		const struct memx_trailer *t = &meta->trailer[at & (SRV_CHUNK_PAGES - 1)];

		if (memx_le64(t->version) < memx_le64(version[at]))
			return MEMX_S_VERSION;
	}
	for (at = 0; at < e->slots; at++) {
		const struct srv_chunk_meta *meta = srv_meta(srv, e, at);
		const struct memx_trailer *t = &meta->trailer[at & (SRV_CHUNK_PAGES - 1)];

		if (!(meta->held >> (at & (SRV_CHUNK_PAGES - 1)) & 1) || memx_le32(t->flags) & MEMX_T_SEALED)
			continue;
		s->srv->work += MEMX_PAGE_SIZE;
		if (memx_check(s->check_seed, (e->index << s->order) + at, memx_le64(t->version), srv_page(srv, e, at)) !=
		    memx_le64(t->check))
			return MEMX_S_CORRUPT;
	}
	return MEMX_S_OK;
}

static u32 may_pin(const struct srv_req *req, const struct srv_session *s, const struct srv_extent *e, u32 slots)
{
	const struct memx_pin *pin = req->body;
	const struct memx_record *rec = (const void *)(pin + 1);
	u64 epoch = req->head->epoch;

	if (req->conn->srv->draining)
		return MEMX_S_DRAINING;		/* what is here goes with us: nobody may drop his own for it */
	if ((epoch || slots) && epoch != s->epoch)
		return epoch < s->epoch ? MEMX_S_FENCED : MEMX_S_NOFENCE;
	if (e->generation != memx_le64(pin->generation))
		return MEMX_S_GENERATION;
	if (e->state != MEMX_R_LIVE)
		return MEMX_S_ABSENT;
	if (!slots)
		return MEMX_S_OK;
	if (slots != e->slots)
		return MEMX_S_INVALID;
	if (memcmp(rec, &e->record, sizeof(*rec)))
		return MEMX_S_MISMATCH;
	return holds(s, e, (const void *)(rec + 1));
}

int srv_op_pin(struct srv_req *req)
{
	const struct memx_pin *pin = req->body;
	struct srv *srv = req->conn->srv;
	struct srv_session *s = srv_session_find(srv, pin->vm, pin->session);
	struct srv_extent *e = s ? srv_extent_find(s, memx_le32(pin->extent)) : NULL;
	int slots = memx_check_pin(req->head, pin);
	u32 status = MEMX_S_ABSENT;

	if (slots < 0)
		return srv_violation(req, "PIN of an impossible length, or with fields that have no meaning");
	if (e)
		status = may_pin(req, s, e, (u32)slots);
	if (status == MEMX_S_OK && dropping(srv, s, e)) {
		/* Each of the two waits for the other: the lower id goes on. */
		if (req->conn->role == MEMX_ROLE_DONOR && memcmp(req->conn->id, srv->config.id, 16) > 0)
			status = MEMX_S_AGAIN;
		else
			srv->drop.lost = true;
	}
	if (status == MEMX_S_OK) {
		e->pinned = s->epoch;
		srv->count.pins++;
	}
	return srv_answer(req, status);
}

/* ---- dropping ----------------------------------------------------------------------------------------------------------- */

/* Another live holder by the record in force here; NULL: there is none that can be asked, @why counts it. */
static const struct memx_replica *other_holder(const struct srv_session *s, const struct srv_extent *e,
					       bool (*reachable)(void *ctx, const u8 id[16]), void *ctx,
					       struct srv_drop_why *why, const struct memx_peer **at)
{
	u32 i, live = 0, known = 0;

	for (i = 0; i < e->record.replicas; i++) {
		const struct memx_replica *r = &e->record.replica[i];

		if (r->state != MEMX_R_LIVE || !memcmp(r->donor, s->srv->config.id, 16))
			continue;
		live++;
		*at = peer_of(s, r->donor);
		if (!*at)
			continue;
		known++;
		if (reachable(ctx, r->donor))
			return r;
	}
	why->alone += !live;
	why->unknown += live && !known;
	why->unreachable += known > 0;
	return NULL;
}

static struct srv_extent *candidate(const struct srv_session *s, u8 state, bool (*reachable)(void *ctx, const u8 id[16]),
				    void *ctx, struct srv_drop_why *why, const struct memx_replica **holder,
				    const struct memx_peer **at)
{
	struct srv_extent *e;

	for (e = srv_extent_from(s, 0); e; e = srv_extent_from(s, (u64)e->index + 1)) {
		if (e->state != state)
			continue;
		if (e->refused == s->srv->drop_round) {
			why->refused++;
		} else if (!e->in_force) {
			why->proposed++;
		} else if (is_pinned(s, e)) {
			why->pinned++;
		} else {
			*holder = other_holder(s, e, reachable, ctx, why, at);
			if (*holder)
				return e;
		}
	}
	return NULL;
}

static bool ask_for(struct srv *srv, struct srv_session *s, struct srv_extent *e, struct srv_drop *out)
{
	struct srv_dropping *d = &srv->drop;
	u32 len = memx_pin_len(e->slots), at;
	struct memx_pin *pin = calloc(1, len);
	struct memx_record *rec;
	__le64 *version;

	if (!pin)
		return false;
	rec = (void *)(pin + 1);
	version = (void *)(rec + 1);
	memcpy(pin->vm, s->vm, 16);
	memcpy(pin->session, s->id, 16);
	pin->extent = memx_put_le32(e->index);
	pin->generation = memx_put_le64(e->generation);
	*rec = e->record;
	for (at = 0; at < e->slots; at++)
		version[at] = srv_meta(srv, e, at)->trailer[at & (SRV_CHUNK_PAGES - 1)].version;
	d->session = s;
	s->refs++;
	d->extent = e->index;
	d->generation = e->generation;
	d->epoch = s->epoch;
	d->serial++;
	d->lost = false;
	d->body = pin;
	out->serial = d->serial;
	out->epoch = d->epoch;
	out->body = pin;
	out->len = len;
	return true;
}

int srv_drop_begin(struct srv *srv, bool (*reachable)(void *ctx, const u8 id[16]), void *ctx, struct srv_drop *out,
		   struct srv_drop_why *why)
{
	static const u8 order[] = { MEMX_R_SYNCING, MEMX_R_LIVE };
	const struct memx_replica *holder = NULL;
	const struct memx_peer *at = NULL;
	struct srv_session *s;
	struct srv_extent *e;
	u32 i;

	*why = (struct srv_drop_why) { 0 };
	if (srv->drop.session)
		return -EBUSY;
	if (!srv->drop_round)
		srv->drop_round = 1;
	for (i = 0; i < sizeof(order); i++) {	/* copies that are not whole yet cost nobody anything */
		for (s = srv->first; s; s = s->next) {
			e = candidate(s, order[i], reachable, ctx, why, &holder, &at);
			if (!e)
				continue;
			memcpy(out->peer, holder->donor, 16);
			out->instance = memx_le64(holder->instance);
			memcpy(out->address, at->address, 16);
			out->port = memx_le16(at->port);
			return ask_for(srv, s, e, out) ? 0 : -ENOMEM;
		}
	}
	return -ENOENT;
}

static void tell_relay(struct srv *srv, const struct srv_session *s, u32 extent, u64 generation)
{
	struct {
		struct memx_hdr hdr;
		struct memx_list list;
		struct memx_extent_ref ref;
	} frame = {
		.list = { .count = memx_put_le32(1) },
		.ref = { .extent = memx_put_le32(extent), .generation = memx_put_le64(generation) },
	};
	struct memx_head head = { .op = MEMX_OP_DROPPED, .len = sizeof(frame) - sizeof(frame.hdr) };
	struct srv_conn *conn;
	u32 i;

	for (conn = srv->conns; conn && srv->ops.send; conn = conn->next) {
		if (conn->serial != s->speaker || conn->role != MEMX_ROLE_RELAY || !(conn->features & MEMX_FEATURE_RECLAIM))
			continue;
		for (i = 0; i < conn->max_handle; i++) {
			if (conn->handle[i].session != s)
				continue;
			frame.list.session = memx_put_le32(srv_handle_value(&conn->handle[i], i));
			memx_hdr_put(&frame.hdr, &head);
			srv->ops.send(srv->ctx, conn->ctx, &frame, sizeof(frame));
		}
	}
}

u64 srv_drop_end(struct srv *srv, u64 serial, u32 status)
{
	struct srv_dropping *d = &srv->drop;
	struct srv_session *s = d->session;
	struct srv_extent *e;
	bool same;
	u64 pages = 0;

	if (!s || d->serial != serial)
		return 0;
	e = s->dead ? NULL : srv_extent_find(s, d->extent);
	same = e && e->in_force && s->epoch == d->epoch && e->generation == d->generation && !d->lost && !is_pinned(s, e) &&
	       !memcmp(&e->record, (const struct memx_pin *)d->body + 1, sizeof(e->record));
	if (same && status == MEMX_S_OK) {
		pages = srv_extent_pages(e);
		srv->count.extents_dropped++;
		srv_event(srv, SRV_EVENT_DROPPED, s, e->index, NULL);
		tell_relay(srv, s, e->index, e->generation);
		srv_extent_free(s, e);
	} else if (e && status < MEMX_S_COUNT) {
		e->refused = srv->drop_round;
		srv->count.drops_refused++;
	}
	d->session = NULL;
	srv_session_put(s);
	free(d->body);
	d->body = NULL;
	return pages;
}

void srv_drop_again(struct srv *srv)
{
	srv->drop_round++;
}
