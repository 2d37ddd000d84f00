/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * internal.h - the one map of the core: what it consists of and which file does what.
 *
 *   core.c     the core itself, connections, the table of operations, HELLO, PING, STAT
 *   session.c  sessions and their handles: FENCE, RESERVE, DETACH, LIST, RETAIN
 *   extent.c   extents: PLACE, FREE, SCAN
 *   reclaim.c  memory that is wanted back: ASK
 *   drop.c     copies that are dropped without a relay: PEERS, PIN
 *   io.c       pages: STORE, FETCH, DISCARD
 *   chunks.c   which chunk of the store is in use, free, or to be zeroed
 *
 * Order of a request: core.c checks what the frame alone tells (a wrong length ends the connection), session.c resolves the
 * handle and judges the epoch, then the operation checks its values against the session (wrong ones are answered with
 * INVALID) and only then changes anything.
 *
 * One thread. A session is kept by its place in the table and by each handle to it; one that was freed while handles point
 * to it is `dead` until they are gone.
 */
#ifndef SRV_INTERNAL_H
#define SRV_INTERNAL_H

#include "core.h"

enum {
	SRV_HANDLE_BITS	= 12,			/* of a handle: its place in the connection's table */
	SRV_MAX_HANDLES	= 1 << SRV_HANDLE_BITS,
	SRV_LEAF_SHIFT	= 8,			/* extents per leaf of a session's table */
	SRV_LEAF	= 1 << SRV_LEAF_SHIFT,
	SRV_BRANCH_SHIFT = 9,			/* leaves per branch */
	SRV_BRANCH	= 1 << SRV_BRANCH_SHIFT,
	/* What counts in the measure of srv_work(): a step of a walk, a look at a handle, memory got for or zeroed in a chunk. */
	SRV_STEP	= 64,
	SRV_LOOK	= 8,
	SRV_CHUNK_WORK	= 64 << 10,
};

struct srv_extent {
	u32 index;
	u32 slots;			/* the last extent of a session may be short */
	u64 generation;
	u64 epoch;			/* of the newest PLACE: RETAIN spares what the current epoch placed */
	u64 retained;			/* the RETAIN that named it last */
	struct memx_record record;	/* as placed; names the co-holders */
	u8 state;			/* our own in it */
	bool in_force;			/* it is known that the guest has acknowledged the record */
	u64 pinned;			/* at this epoch another holder relied on this copy: not to be dropped by ourselves */
	u64 refused;			/* the round in which a drop of it was refused */
	u32 chunks;
	u32 chunk[];
};

struct srv_leaf {
	u32 used;
	struct srv_extent *extent[SRV_LEAF];
};

/* So that whoever places the last extent of the largest session does not make a table for all that come before it. */
struct srv_branch {
	u32 used;
	struct srv_leaf *leaf[SRV_BRANCH];
};

/* Where donors are, as a relay told. Kept by its connection and by the sessions that were fenced over it. */
struct srv_peers {
	u32 refs, count;
	struct memx_peer peer[];
};

struct srv_session {
	struct srv *srv;
	struct srv_session *hash_next;
	struct srv_session *prev, *next;	/* in order of creation */
	u8 vm[16], id[16];
	u64 hash;
	u64 epoch, lineage;
	u64 speaker;			/* serial of the connection that raised or repeated the fence last: no other one may speak */
	u64 check_seed;
	u64 seen_ns;
	u32 slots;
	u8 order;
	bool dead;
	u32 refs;			/* handles, and one while it is in the table */
	u32 extents;
	u32 branches;			/* size of `branch` */
	struct srv_branch **branch;
	u64 used, reserved;		/* pages; what is promised is the greater of both */
	struct srv_peers *peers;	/* NULL: nobody told */
	u64 retain;			/* serial of the RETAIN that is under way or was last */
	u64 retain_owner;		/* serial of the connection whose RETAIN is under way; 0: none is */
};

struct srv_handle {
	struct srv_session *session;	/* NULL: free */
	u32 turn;			/* raised with every use of the place, so that no handle value comes twice */
};

struct srv_conn {
	struct srv *srv;
	void *ctx;
	u64 serial;			/* never 0, never comes twice */
	const char *reason;
	struct srv_conn *prev, *next;
	bool greeted;
	u8 role;
	u8 id[16];			/* as said in HELLO */
	u64 features;			/* agreed on */
	struct srv_peers *peers;
	u64 tag;			/* of the last frame that we asked on our own */
	bool asked;			/* ASK is unanswered */
	u32 handles, max_handle;	/* in use; size of `handle` */
	struct srv_handle *handle;
};

struct srv_chunks {
	u64 *used, *dirty;		/* a bit per chunk */
	u64 *paged;			/* pages are committed */
	u32 total;			/* the highest limit so far: no chunk at or above it was ever used */
	u32 in_use, waiting;		/* waiting: free, but to be zeroed first */
	u32 hint, scrub_hint;
};

/* The one copy that another holder is being asked about. */
struct srv_dropping {
	struct srv_session *session;	/* NULL: none */
	u32 extent;
	u64 generation, epoch;
	u64 serial;
	bool lost;			/* pinned meanwhile for somebody else: whatever is answered, it stays */
	void *body;			/* of the PIN: what was told of it */
};

struct srv {
	struct srv_config config;
	struct srv_store *store;
	struct srv_ops ops;
	void *ctx;
	struct srv_chunks chunks;
	struct srv_counters count;
	struct srv_session **bucket;
	u32 buckets;			/* power of two */
	struct srv_session *first, *last;
	struct srv_conn *conns;
	u32 sessions, connections;
	u64 extents;
	u64 limit;			/* chunks * pages: what config.limit_pages comes to */
	u64 promised;			/* sum over the sessions of the greater of used and reserved */
	u64 retain_serial, conn_serial;
	bool draining;
	struct srv_dropping drop;
	u64 drop_round;
	u64 work;
};

/* One request on its way through the core. */
struct srv_req {
	struct srv_conn *conn;
	const struct memx_head *head;
	const void *body;
	struct srv_out *out;
	u64 now_ns;
};

/* ---- core.c: replies -------------------------------------------------------------------------------------------------- */

/* Begins a reply: header written, room for @len bytes of body behind it, which the caller fills. */
void *srv_reply(struct srv_req *req, u32 status, u16 flags, u32 len);
/* Begins a FETCH reply of @count pages of which @good follow by srv_reply_ref(). */
void *srv_reply_pages(struct srv_req *req, u32 status, u32 count, u32 good);
/* Adds @bytes of store memory to the reply just begun; the header's length covers them already. */
void srv_reply_ref(struct srv_req *req, const void *from, u32 bytes);
void srv_stat(const struct srv *srv, struct memx_stat *stat);	/* @stat is zero before */
int srv_answer(struct srv_req *req, u32 status);		/* empty body; returns 0 */
int srv_violation(struct srv_req *req, const char *reason);	/* returns -EPROTO */
void srv_event(struct srv *srv, enum srv_event_kind kind, const struct srv_session *s, u64 number, struct srv_conn *conn);

/* ---- session.c -------------------------------------------------------------------------------------------------------- */

/* The session behind a handle, if the request may speak for it; else NULL and the status in @status. */
struct srv_session *srv_speaks(struct srv_req *req, u32 handle, u32 *status);
struct srv_session *srv_session_find(struct srv *srv, const u8 vm[16], const u8 id[16]);
struct srv_extent *srv_extent_find(const struct srv_session *s, u32 index);
struct srv_extent *srv_extent_from(const struct srv_session *s, u64 index);	/* the first at @index or behind it; NULL: none */
int srv_extent_link(struct srv_session *s, struct srv_extent *e);	/* 0 or -ENOMEM */
void srv_extent_free(struct srv_session *s, struct srv_extent *e);	/* unlinks it and frees its chunks */
u64 srv_session_free(struct srv_session *s);				/* pages that were freed */
void srv_session_put(struct srv_session *s);
void srv_conn_drop_handles(struct srv_conn *conn);
u64 srv_promise(const struct srv_session *s);
u32 srv_handle_value(const struct srv_handle *h, u32 at);

int srv_op_fence(struct srv_req *req);
int srv_op_reserve(struct srv_req *req);
int srv_op_detach(struct srv_req *req);
int srv_op_list(struct srv_req *req);
int srv_op_retain(struct srv_req *req);

/* ---- extent.c --------------------------------------------------------------------------------------------------------- */

int srv_op_place(struct srv_req *req);
int srv_op_free(struct srv_req *req);
int srv_op_scan(struct srv_req *req);
u64 srv_extent_held(const struct srv_session *s, const struct srv_extent *e);	/* slots with a page */

static inline u32 srv_extent_pages(const struct srv_extent *e)
{
	return e->chunks * SRV_CHUNK_PAGES;
}

/* ---- reclaim.c -------------------------------------------------------------------------------------------------------- */

/* A reply to something that we asked. 0, or -EPROTO where we did not. */
int srv_answered(struct srv_req *req);

/* ---- drop.c ----------------------------------------------------------------------------------------------------------- */

int srv_op_pin(struct srv_req *req);
int srv_op_peers(struct srv_req *req);
void srv_peers_put(struct srv_peers *peers);
void srv_peers_take(struct srv_session *s, struct srv_peers *peers);	/* @peers may be NULL */

/* ---- io.c ------------------------------------------------------------------------------------------------------------- */

int srv_op_store(struct srv_req *req);
int srv_op_fetch(struct srv_req *req);
int srv_op_discard(struct srv_req *req);

/* ---- chunks.c --------------------------------------------------------------------------------------------------------- */

int srv_chunks_init(struct srv *srv);
void srv_chunks_fini(struct srv *srv);
/* @count chunks with their meta pages present and all zero. 0, -ENOSPC or -ENOMEM, then none was taken. */
int srv_chunks_take(struct srv *srv, u32 count, u32 *chunk);
int srv_chunks_pages(struct srv *srv, u32 chunk);	/* makes the pages present; 0 or -ENOMEM */
void srv_chunks_give(struct srv *srv, u32 count, const u32 *chunk);

static inline struct srv_chunk_meta *srv_meta(const struct srv *srv, const struct srv_extent *e, u32 at)
{
	return &srv->store->meta[e->chunk[at >> SRV_CHUNK_SHIFT]];
}

static inline u8 *srv_page(const struct srv *srv, const struct srv_extent *e, u32 at)
{
	return srv->store->pages + (u64)e->chunk[at >> SRV_CHUNK_SHIFT] * SRV_CHUNK_BYTES +
		(u64)(at & (SRV_CHUNK_PAGES - 1)) * MEMX_PAGE_SIZE;
}

#endif /* SRV_INTERNAL_H */
