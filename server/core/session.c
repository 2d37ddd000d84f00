// SPDX-License-Identifier: GPL-2.0-only
/*
 * session.c - sessions, the handles that connections have to them, and what concerns a session as a whole:
 * FENCE, RESERVE, RETAIN, LIST, DETACH.
 *
 * The fence: a session has an epoch, which its guest raises before every attempt to attach, and the lineage id of the guest
 * that raised it last. A higher epoch is accepted only from a guest that presents the stored lineage as its own, so that of
 * two guests restored from one image the second to speak learns that it lost. Whoever has not confirmed the newest epoch
 * through his own handle can neither read, write nor free.
 *
 * One connection speaks for a session: the one over which its fence was raised or repeated last. At one epoch that is the
 * youngest, since a relay gives an old connection up before it makes a new one: what the old one still brings, be it a fence,
 * comes too late.
 */
#include <stdlib.h>

#include <memx/check.h>

#include "internal.h"

/* ---- the table -------------------------------------------------------------------------------------------------------- */

static u64 hash_of(const struct srv *srv, const u8 vm[16], const u8 id[16])
{
	u8 key[32];

	memcpy(key, vm, 16);
	memcpy(key + 16, id, 16);
	return memx_xxh64(key, sizeof(key), srv->config.hash_seed);
}

struct srv_session *srv_session_find(struct srv *srv, const u8 vm[16], const u8 id[16])
{
	struct srv_session *s = srv->bucket[hash_of(srv, vm, id) & (srv->buckets - 1)];

	while (s && (memcmp(s->vm, vm, 16) || memcmp(s->id, id, 16)))
		s = s->hash_next;
	return s;
}

/* Twice the buckets. Without memory it stays as it is, and merely slower. */
static void grow(struct srv *srv)
{
	u32 buckets = srv->buckets * 2;
	struct srv_session **bucket = calloc(buckets, sizeof(*bucket)), *s;

	if (!bucket)
		return;
	for (s = srv->first; s; s = s->next) {
		s->hash_next = bucket[s->hash & (buckets - 1)];
		bucket[s->hash & (buckets - 1)] = s;
	}
	free(srv->bucket);
	srv->bucket = bucket;
	srv->buckets = buckets;
}

static struct srv_session *session_new(struct srv *srv, const struct memx_fence *fence, u64 epoch)
{
	struct srv_session *s = calloc(1, sizeof(*s)), **bucket;

	if (!s)
		return NULL;
	if (srv->sessions >= srv->buckets)
		grow(srv);
	s->srv = srv;
	memcpy(s->vm, fence->vm, 16);
	memcpy(s->id, fence->session, 16);
	s->hash = hash_of(srv, s->vm, s->id);
	s->check_seed = memx_session_seed(s->id);
	s->epoch = epoch;
	s->lineage = memx_le64(fence->lineage[0]);
	s->slots = memx_le32(fence->slots);
	s->order = fence->extent_order;
	s->refs = 1;
	bucket = &srv->bucket[s->hash & (srv->buckets - 1)];
	s->hash_next = *bucket;
	*bucket = s;
	s->prev = srv->last;
	*(srv->last ? &srv->last->next : &srv->first) = s;
	srv->last = s;
	srv->sessions++;
	return s;
}

void srv_session_put(struct srv_session *s)
{
	if (--s->refs)
		return;
	srv_peers_put(s->peers);
	free(s);
}

u64 srv_promise(const struct srv_session *s)
{
	return s->used > s->reserved ? s->used : s->reserved;
}

u64 srv_session_free(struct srv_session *s)
{
	struct srv *srv = s->srv;
	struct srv_session **at = &srv->bucket[s->hash & (srv->buckets - 1)];
	struct srv_extent *e, *next;
	u64 pages = s->used;

	srv->promised -= srv_promise(s) - s->used;	/* the extents take the rest with them */
	s->reserved = 0;
	for (e = srv_extent_from(s, 0); e; e = next) {
		next = srv_extent_from(s, (u64)e->index + 1);
		srv_extent_free(s, e);
	}
	free(s->branch);
	s->branch = NULL;
	s->branches = 0;
	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
	*(s->prev ? &s->prev->next : &srv->first) = s->next;
	*(s->next ? &s->next->prev : &srv->last) = s->prev;
	srv->sessions--;
	s->dead = true;
	srv_session_put(s);
	return pages;
}

/* ---- extents of a session --------------------------------------------------------------------------------------------- */

static struct srv_branch *branch_of(const struct srv_session *s, u32 index)
{
	u32 branch = index >> (SRV_LEAF_SHIFT + SRV_BRANCH_SHIFT);

	return branch < s->branches ? s->branch[branch] : NULL;
}

static u32 in_branch(u32 index)
{
	return index >> SRV_LEAF_SHIFT & (SRV_BRANCH - 1);
}

struct srv_extent *srv_extent_find(const struct srv_session *s, u32 index)
{
	const struct srv_branch *b = branch_of(s, index);
	const struct srv_leaf *leaf = b ? b->leaf[in_branch(index)] : NULL;

	return leaf ? leaf->extent[index & (SRV_LEAF - 1)] : NULL;
}

struct srv_extent *srv_extent_from(const struct srv_session *s, u64 index)
{
	u64 end = (u64)s->branches << (SRV_LEAF_SHIFT + SRV_BRANCH_SHIFT);

	while (index < end) {
		const struct srv_branch *b = branch_of(s, (u32)index);
		const struct srv_leaf *leaf = b ? b->leaf[in_branch((u32)index)] : NULL;

		s->srv->work += SRV_STEP;
		if (!b)
			index |= SRV_BRANCH * SRV_LEAF - 1;
		else if (!leaf)
			index |= SRV_LEAF - 1;
		else if (leaf->extent[index & (SRV_LEAF - 1)])
			return leaf->extent[index & (SRV_LEAF - 1)];
		index++;
	}
	return NULL;
}

/* The leaf in which @index has its place, made where there is none. NULL: no memory. */
static struct srv_leaf *leaf_for(struct srv_session *s, u32 index)
{
	u32 branch = index >> (SRV_LEAF_SHIFT + SRV_BRANCH_SHIFT);
	struct srv_leaf **leaf;
	struct srv_branch *b;

	if (branch >= s->branches) {
		struct srv_branch **bigger = realloc(s->branch, (branch + 1) * sizeof(struct srv_branch *));

		if (!bigger)
			return NULL;
		memset(bigger + s->branches, 0, (branch + 1 - s->branches) * sizeof(struct srv_branch *));
		s->branch = bigger;
		s->branches = branch + 1;
	}
	if (!s->branch[branch])
		s->branch[branch] = calloc(1, sizeof(struct srv_branch));
	b = s->branch[branch];
	if (!b)
		return NULL;
	leaf = &b->leaf[in_branch(index)];
	if (!*leaf) {
		*leaf = calloc(1, sizeof(**leaf));
		b->used += *leaf != NULL;
		if (!b->used) {
			free(b);
			s->branch[branch] = NULL;
			return NULL;
		}
	}
	return *leaf;
}

int srv_extent_link(struct srv_session *s, struct srv_extent *e)
{
	struct srv_leaf *leaf = leaf_for(s, e->index);

	if (!leaf)
		return -ENOMEM;
	leaf->extent[e->index & (SRV_LEAF - 1)] = e;
	leaf->used++;
	s->srv->promised -= srv_promise(s);
	s->used += srv_extent_pages(e);
	s->srv->promised += srv_promise(s);
	s->extents++;
	s->srv->extents++;
	return 0;
}

void srv_extent_free(struct srv_session *s, struct srv_extent *e)
{
	struct srv_branch *b = branch_of(s, e->index);
	struct srv_leaf **leaf = &b->leaf[in_branch(e->index)];

	(*leaf)->extent[e->index & (SRV_LEAF - 1)] = NULL;
	if (!--(*leaf)->used) {
		free(*leaf);
		*leaf = NULL;
		if (!--b->used) {
			s->branch[e->index >> (SRV_LEAF_SHIFT + SRV_BRANCH_SHIFT)] = NULL;
			free(b);
		}
	}
	s->srv->promised -= srv_promise(s);
	s->used -= srv_extent_pages(e);
	s->srv->promised += srv_promise(s);
	s->extents--;
	s->srv->extents--;
	s->srv->count.extents_freed++;
	srv_chunks_give(s->srv, e->chunks, e->chunk);
	free(e);
}

/* ---- handles ---------------------------------------------------------------------------------------------------------- */

u32 srv_handle_value(const struct srv_handle *h, u32 at)
{
	return h->turn << SRV_HANDLE_BITS | at;
}

static void handle_drop(struct srv_conn *conn, struct srv_handle *h)
{
	srv_session_put(h->session);
	h->session = NULL;
	conn->handles--;
}

static struct srv_handle *handle_of(struct srv_conn *conn, u32 value)
{
	u32 at = value & (SRV_MAX_HANDLES - 1);
	struct srv_handle *h;

	if (at >= conn->max_handle)
		return NULL;
	h = &conn->handle[at];
	if (!h->session || srv_handle_value(h, at) != value)
		return NULL;
	if (!h->session->dead)
		return h;
	handle_drop(conn, h);
	return NULL;
}

/* The handle of @s on @conn, a new one if there is none; its value in @value. NULL: too many, or no memory. */
static struct srv_handle *handle_for(struct srv_conn *conn, struct srv_session *s, u32 *value)
{
	struct srv_handle *h = NULL;
	u32 i, size;

	for (i = 0; i < conn->max_handle; i++) {
		conn->srv->work += SRV_LOOK;
		if (conn->handle[i].session && conn->handle[i].session->dead)
			handle_drop(conn, &conn->handle[i]);
		if (conn->handle[i].session == s) {
			*value = srv_handle_value(&conn->handle[i], i);
			return &conn->handle[i];
		}
		if (!conn->handle[i].session && !h)
			h = &conn->handle[i];
	}
	if (conn->handles >= conn->srv->config.max_handles)
		return NULL;
	if (!h) {
		size = conn->max_handle ? conn->max_handle * 2 : 8;
		if (size > SRV_MAX_HANDLES)
			return NULL;
		h = realloc(conn->handle, size * sizeof(*h));
		if (!h)
			return NULL;
		memset(h + conn->max_handle, 0, (size - conn->max_handle) * sizeof(*h));
		conn->handle = h;
		h += conn->max_handle;
		conn->max_handle = size;
	}
	/* A place serves one session after another, each under a value of its own: a late request cannot hit the next. */
	if (++h->turn > UINT32_MAX >> SRV_HANDLE_BITS)
		h->turn = 1;
	h->session = s;
	s->refs++;
	conn->handles++;
	*value = srv_handle_value(h, (u32)(h - conn->handle));
	return h;
}

void srv_conn_drop_handles(struct srv_conn *conn)
{
	u32 i;

	for (i = 0; i < conn->max_handle; i++)
		if (conn->handle[i].session)
			handle_drop(conn, &conn->handle[i]);
	free(conn->handle);
	conn->handle = NULL;
	conn->max_handle = 0;
}

struct srv_session *srv_speaks(struct srv_req *req, u32 handle, u32 *status)
{
	struct srv_handle *h = handle_of(req->conn, handle);
	struct srv_session *s;

	*status = MEMX_S_UNKNOWN;
	if (!h)
		return NULL;
	s = h->session;
	if (req->head->epoch > s->epoch)
		*status = MEMX_S_NOFENCE;
	else if (req->head->epoch < s->epoch || s->speaker != req->conn->serial)
		*status = MEMX_S_FENCED;
	else
		*status = MEMX_S_OK;
	if (*status != MEMX_S_OK)
		return NULL;
	s->seen_ns = req->now_ns;
	return s;
}

/* ---- FENCE ------------------------------------------------------------------------------------------------------------ */

static int answer_fence(struct srv_req *req, u32 status, u32 handle, const struct srv_session *s)
{
	struct memx_fenced *fenced = srv_reply(req, status, 0, sizeof(*fenced));

	fenced->session = memx_put_le32(handle);
	fenced->extents = memx_put_le32(s->extents);
	fenced->epoch = memx_put_le64(s->epoch);
	fenced->pages_used = memx_put_le64(s->used);
	fenced->pages_reserved = memx_put_le64(s->reserved);
	return 0;
}

static bool presents(const struct memx_fence *fence, u64 lineage)
{
	u32 i;

	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		if (memx_le64(fence->lineage[i]) == lineage)
			return true;
	return false;
}

/* Would the session be the same size? What is held cannot be cut up anew. */
static bool agrees(const struct srv_session *s, const struct memx_fence *fence)
{
	u32 slots = memx_le32(fence->slots);

	return !slots || !s->extents || (slots == s->slots && fence->extent_order == s->order);
}

static u32 fence_judge(struct srv_req *req, const struct srv_session *s, const struct memx_fence *fence)
{
	struct srv *srv = req->conn->srv;
	u64 epoch = req->head->epoch;

	if (epoch >= s->epoch && (epoch == s->epoch ? memx_le64(fence->lineage[0]) != s->lineage : !presents(fence, s->lineage))) {
		srv->count.superseded++;
		srv_event(srv, SRV_EVENT_SUPERSEDED, s, s->epoch, req->conn);
		return MEMX_S_SUPERSEDED;
	}
	if (epoch < s->epoch || (epoch == s->epoch && req->conn->serial < s->speaker)) {
		srv->count.fenced++;
		srv_event(srv, SRV_EVENT_FENCED, s, s->epoch, req->conn);
		return MEMX_S_FENCED;
	}
	return agrees(s, fence) ? MEMX_S_OK : MEMX_S_MISMATCH;
}

static bool fence_sane(const struct srv_req *req, const struct memx_fence *fence)
{
	u32 slots = memx_le32(fence->slots);

	if (!req->head->epoch || !fence->lineage[0])
		return false;
	return !slots || (fence->extent_order >= MEMX_MIN_EXTENT_ORDER && fence->extent_order <= MEMX_MAX_EXTENT_ORDER);
}

int srv_op_fence(struct srv_req *req)
{
	const struct memx_fence *fence = req->body;
	struct srv *srv = req->conn->srv;
	struct srv_session *s = srv_session_find(srv, fence->vm, fence->session);
	struct srv_handle *h;
	bool created = false;
	u64 before = 0;
	u32 status, value;

	if (fence->flags & ~MEMX_FENCE_CREATE || fence->resv)
		return srv_violation(req, "FENCE uses fields that have no meaning");
	if (!fence_sane(req, fence))
		return srv_answer(req, MEMX_S_INVALID);
	if (s) {
		before = s->epoch;
		status = fence_judge(req, s, fence);
		if (status == MEMX_S_FENCED || status == MEMX_S_SUPERSEDED)
			return answer_fence(req, status, 0, s);
		if (status != MEMX_S_OK)
			return srv_answer(req, status);
	} else {
		if (!(fence->flags & MEMX_FENCE_CREATE))
			return srv_answer(req, MEMX_S_UNKNOWN);
		if (!fence->slots)
			return srv_answer(req, MEMX_S_INVALID);
		if (srv->sessions >= srv->config.max_sessions)
			return srv_answer(req, MEMX_S_LIMIT);
		s = session_new(srv, fence, req->head->epoch);
		if (!s)
			return srv_answer(req, MEMX_S_AGAIN);
		created = true;
	}
	h = handle_for(req->conn, s, &value);
	if (!h) {
		if (created)
			srv_session_free(s);
		return srv_answer(req, MEMX_S_LIMIT);
	}
	if (fence->slots) {
		s->slots = memx_le32(fence->slots);
		s->order = fence->extent_order;
	}
	s->epoch = req->head->epoch;
	s->lineage = memx_le64(fence->lineage[0]);
	s->seen_ns = req->now_ns;
	s->speaker = req->conn->serial;
	srv_peers_take(s, req->conn->peers);
	if (s->epoch != before) {
		s->retain_owner = 0;
		srv_event(srv, created ? SRV_EVENT_CREATED : SRV_EVENT_FENCE, s, created ? s->slots : before, req->conn);
	}
	return answer_fence(req, MEMX_S_OK, value, s);
}

/* ---- RESERVE, DETACH -------------------------------------------------------------------------------------------------- */

int srv_op_reserve(struct srv_req *req)
{
	const struct memx_reserve *want = req->body;
	struct srv *srv = req->conn->srv;
	u64 pages = memx_le64(want->pages), now, then;
	struct srv_session *s;
	u32 status;

	if (want->resv)
		return srv_violation(req, "RESERVE uses fields that have no meaning");
	s = srv_speaks(req, memx_le32(want->session), &status);
	if (!s)
		return srv_answer(req, status);
	if (pages > (u64)UINT32_MAX + 1)
		return srv_answer(req, MEMX_S_INVALID);		/* more than the slots that a session can have */
	pages = (pages + SRV_CHUNK_PAGES - 1) & ~(u64)(SRV_CHUNK_PAGES - 1);
	now = srv_promise(s);
	then = pages > s->used ? pages : s->used;
	if (then > now) {
		if (srv->draining)
			return srv_answer(req, MEMX_S_DRAINING);
		if ((srv->config.session_quota && then > srv->config.session_quota) ||
		    srv->promised - now + then > srv->limit) {
			srv_event(srv, SRV_EVENT_NOSPACE, s, pages, req->conn);
			return srv_answer(req, MEMX_S_NOSPACE);
		}
	}
	srv->promised = srv->promised - now + then;
	s->reserved = pages;
	return srv_answer(req, MEMX_S_OK);
}

int srv_op_detach(struct srv_req *req)
{
	const struct memx_list *list = req->body;
	struct srv *srv = req->conn->srv;
	struct srv_session *s;
	u32 status;

	if (list->count)
		return srv_violation(req, "DETACH with a list");
	s = srv_speaks(req, memx_le32(list->session), &status);
	if (!s)
		return srv_answer(req, status);
	srv_event(srv, SRV_EVENT_DETACHED, s, s->used, req->conn);
	srv_session_free(s);
	return srv_answer(req, MEMX_S_OK);
}

/* ---- LIST, RETAIN ----------------------------------------------------------------------------------------------------- */

int srv_op_list(struct srv_req *req)
{
	const struct memx_list *asked = req->body;
	const struct memx_extent_ref *from = (const void *)(asked + 1);
	struct memx_extent_ref ref[MEMX_MAX_EXTENTS] = { { 0 } };
	u32 count = 0, status;
	struct memx_list *list;
	struct srv_session *s;
	struct srv_extent *e;
	u64 index;

	if (memx_le32(asked->count) != 1 || from->slot)
		return srv_violation(req, "LIST that names no first extent");
	s = srv_speaks(req, memx_le32(asked->session), &status);
	if (!s)
		return srv_answer(req, status);
	for (index = memx_le32(from->extent); count < MEMX_MAX_EXTENTS; index = (u64)e->index + 1) {
		e = srv_extent_from(s, index);
		if (!e)
			break;
		ref[count].extent = memx_put_le32(e->index);
		ref[count].generation = memx_put_le64(e->generation);
		count++;
	}
	list = srv_reply(req, MEMX_S_OK, count < MEMX_MAX_EXTENTS ? MEMX_F_LAST : 0, memx_list_len(count));
	list->session = asked->session;
	list->count = memx_put_le32(count);
	memcpy(list + 1, ref, count * sizeof(ref[0]));
	return 0;
}

/*
 * The guest's complete map is known: what older epochs placed here and the map does not name is nobody's any more. What the
 * current epoch placed was placed after the map was handed over, so that its absence from the map means nothing.
 */
static u32 condemn(struct srv_session *s)
{
	struct srv_extent *e, *next;
	u32 gone = 0;

	for (e = srv_extent_from(s, 0); e; e = next) {
		next = srv_extent_from(s, (u64)e->index + 1);
		if (e->epoch >= s->epoch || e->retained == s->retain)
			continue;
		srv_extent_free(s, e);
		gone++;
	}
	return gone;
}

int srv_op_retain(struct srv_req *req)
{
	const struct memx_list *list = req->body;
	const struct memx_extent_ref *ref = (const void *)(list + 1);
	u32 count = memx_le32(list->count), i, status, gone;
	struct srv *srv = req->conn->srv;
	struct srv_session *s;
	struct srv_extent *e;
	struct memx_list *answer;
	u64 before;

	if (count > MEMX_MAX_EXTENTS || req->head->len != memx_list_len(count))
		return srv_violation(req, "length and count of extents do not agree");
	s = srv_speaks(req, memx_le32(list->session), &status);
	if (!s)
		return srv_answer(req, status);
	if (req->head->flags & MEMX_F_FIRST) {
		s->retain = ++srv->retain_serial;
		s->retain_owner = req->conn->serial;
	} else if (s->retain_owner != req->conn->serial) {
		return srv_answer(req, MEMX_S_INVALID);		/* the middle of a list of which the beginning is not known */
	}
	for (i = 0; i < count; i++) {
		e = srv_extent_find(s, memx_le32(ref[i].extent));
		if (!e)
			continue;
		e->retained = s->retain;
		if (memx_le64(ref[i].generation) == e->generation)
			e->in_force = true;		/* the map is what the guest has acknowledged */
	}
	if (!(req->head->flags & MEMX_F_LAST))
		return srv_answer(req, MEMX_S_OK);
	s->retain_owner = 0;
	before = s->used;
	gone = condemn(s);
	if (gone)
		srv_event(srv, SRV_EVENT_CONDEMNED, s, before - s->used, req->conn);
	answer = srv_reply(req, MEMX_S_OK, 0, sizeof(*answer));
	answer->session = memx_put_le32(gone);
	return 0;
}

/* ---- for the admin ---------------------------------------------------------------------------------------------------- */

void srv_sessions(const struct srv *srv, void (*each)(void *ctx, const struct srv_session_info *info), void *ctx)
{
	const struct srv_session *s;
	const struct srv_extent *e;

	for (s = srv->first; s; s = s->next) {
		struct srv_session_info info = {
			.epoch = s->epoch,
			.lineage = s->lineage,
			.seen_ns = s->seen_ns,
			.slots = s->slots,
			.extents = s->extents,
			.handles = s->refs - 1,
			.extent_order = s->order,
			.pages_used = s->used,
			.pages_reserved = s->reserved,
		};

		memcpy(info.vm, s->vm, sizeof(info.vm));
		memcpy(info.session, s->id, sizeof(info.session));
		for (e = srv_extent_from(s, 0); e; e = srv_extent_from(s, (u64)e->index + 1))
			info.pages_held += srv_extent_held(s, e);
		each(ctx, &info);
	}
}

bool srv_holds(const struct srv *srv, const u8 vm[16], const u8 session[16], u32 extent)
{
	const struct srv_session *s = srv_session_find((struct srv *)srv, vm, session);

	return s && srv_extent_find(s, extent);
}

int srv_session_remove(struct srv *srv, const u8 vm[16], const u8 session[16], bool force)
{
	struct srv_session *s = srv_session_find(srv, vm, session);

	if (!s)
		return -ENOENT;
	if (s->refs > 1 && !force)
		return -EBUSY;
	srv_event(srv, SRV_EVENT_REMOVED, s, s->used, NULL);
	srv_session_free(s);
	return 0;
}
