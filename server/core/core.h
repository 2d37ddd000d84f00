/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * core.h - the donor without sockets, clock or system calls.
 *
 * A frame goes in (header taken apart, body in private memory), the reply comes out. Everything that a donor promises is
 * decided in here: who may speak (sessions, epochs, lineage), what is held (extents, generations, versions per slot), and
 * how much (quotas, reservations). It is deterministic: the same frames in the same order give the same replies, so that it
 * runs unchanged behind epoll, in a simulated network and in a fuzzer. No globals; as many instances as wanted.
 *
 * A core, its connections and its store belong to one thread.
 */
#ifndef SRV_CORE_H
#define SRV_CORE_H

#include <sys/uio.h>

#include <memx/codec.h>

#include "store.h"

struct srv;
struct srv_conn;

struct srv_config {
	u8 id[16];			/* persistent id of this donor */
	u64 instance;			/* of the store: random, new whenever its content is */
	u64 hash_seed;			/* random: keeps hostile keys from clustering in the hash tables */
	char domain[MEMX_LABEL_LEN];	/* failure domain, NUL-padded */
	u64 limit_pages;		/* that may be used and promised; capped by what the store has */
	u64 session_quota;		/* pages that one session may reserve; 0: no bound but the limit */
	u32 max_sessions;
	u32 max_handles;		/* sessions that one connection may have fenced */
};

/* Events that an operator wants to know of. `number` is explained per kind. */
#define SRV_EVENT_LIST(X)									\
	X(CREATED,	"session created")			/* slots */			\
	X(FENCE,	"session fenced at a new epoch")	/* the epoch before */		\
	X(FENCED,	"fence refused: older epoch or connection")	/* the epoch held */	\
	X(SUPERSEDED,	"fence refused: foreign lineage")	/* the epoch held */		\
	X(DETACHED,	"session detached and freed")		/* pages freed */		\
	X(REMOVED,	"session freed by the admin")		/* pages freed */		\
	X(CONDEMNED,	"extents not in the guest's map freed")	/* pages freed */		\
	X(NOSPACE,	"reservation or extent refused")	/* pages wanted */		\
	X(NOMEM,	"no memory behind the limit")		/* extent */		\
	X(DROPPED,	"copy dropped, confirmed and pinned by another holder")	/* extent */

enum srv_event_kind {
#define SRV_X(name, text) SRV_EVENT_##name,
	SRV_EVENT_LIST(SRV_X)
#undef SRV_X
	SRV_EVENTS
};

struct srv_event {
	enum srv_event_kind kind;
	const u8 *vm, *session;		/* 16 bytes each, valid during the call */
	u64 epoch;
	u64 number;
	void *conn_ctx;			/* of the connection that caused it, NULL if none did */
};

struct srv_ops {
	void (*event)(void *ctx, const struct srv_event *event);	/* may be NULL */
	/*
	 * Sends a frame that answers nothing on the connection that @conn_ctx came with, behind what was answered there before;
	 * copies it. May be NULL: then nobody is asked for memory. It must not call back into the core.
	 */
	void (*send)(void *ctx, void *conn_ctx, const void *frame, u32 len);
};

/* One sentence per counter; all count since the core was made. */
#define SRV_COUNTER_LIST(X)									\
	X(frames,		"frames handled")						\
	X(stored,		"pages stored")							\
	X(fetched,		"pages fetched")						\
	X(discarded,		"slots discarded")						\
	X(repeated,		"stores and discards that were held at that version already")	\
	X(old,			"stores and discards older than what is held")			\
	X(version,		"fetches of a version that is not the held one")		\
	X(absent,		"fetches of slots that are not held")				\
	X(corrupt,		"repair pages refused because their check was wrong")		\
	X(mended,		"damaged pages replaced by a repair copy of the same version")	\
	X(generation,		"requests at another generation than the extent's")		\
	X(fenced,		"requests and fences refused as older than the fence or than its connection")	\
	X(superseded,		"fences refused for their lineage")				\
	X(nospace,		"requests refused for want of room")				\
	X(invalid,		"requests refused as not possible in their session")		\
	X(violations,		"connections ended because they broke the protocol")		\
	X(asks,			"times that a relay was asked for memory back")			\
	X(pins,			"copies that another holder asked not to drop, and that are not")	\
	X(extents_dropped,	"copies dropped without a relay")				\
	X(drops_refused,	"copies that were to be dropped without a relay, and were not")	\
	X(extents_placed,	"extents created")						\
	X(extents_freed,	"extents given up")						\
	X(chunks_scrubbed,	"pieces of 64 pages zeroed after use")

struct srv_counters {
#define SRV_X(name, text) u64 name;
	SRV_COUNTER_LIST(SRV_X)
#undef SRV_X
};

/*
 * Where replies go: headers and small bodies into `buf`, pages as references into the store, all in order in `iov`. The
 * caller provides both and starts a batch with used = iovs = bytes = 0. Before each srv_frame() there must be room for
 * one more reply: SRV_REPLY_BUF bytes and SRV_REPLY_IOVS entries.
 *
 * `refs`: some entries refer to the store. They stay good until the next call of srv_frame() with an operation for which
 * srv_changes_pages() is true, of srv_scrub(), srv_drop_end() or srv_session_remove(), on any connection: send or copy before.
 */
struct srv_out {
	u8 *buf;
	u32 size, used;
	struct iovec *iov;
	u32 max_iovs, iovs;
	u64 bytes;
	bool refs;
};

enum {
	SRV_REPLY_BUF	= sizeof(struct memx_hdr) + sizeof(struct memx_list) + MEMX_MAX_SCAN * sizeof(struct memx_want),
	SRV_REPLY_IOVS	= 1 + MEMX_MAX_PAGES,
};

/* @store is the caller's and must outlive the core. NULL: no memory. */
struct srv *srv_new(const struct srv_config *config, struct srv_store *store, const struct srv_ops *ops, void *ctx);
void srv_destroy(struct srv *srv);		/* all connections must be closed */

/* @ctx comes back in events. NULL: no memory. */
struct srv_conn *srv_conn_open(struct srv *srv, void *ctx);
void srv_conn_close(struct srv_conn *conn);
const char *srv_conn_reason(const struct srv_conn *conn);	/* why srv_frame() said -EPROTO */
bool srv_conn_greeted(const struct srv_conn *conn);		/* HELLO is done */
u32 srv_conn_sessions(const struct srv_conn *conn);

/*
 * Handles one frame of @conn. @head from memx_head_get() with MEMX_MAX_BODY, @body its head->len bytes, 8-aligned, in
 * memory that nobody else writes. 0: answered in @out; 1: answered, close the connection once that is sent; -EPROTO: the
 * peer broke the protocol, close at once, nothing was added to @out.
 */
int srv_frame(struct srv_conn *conn, const struct memx_head *head, const void *body, struct srv_out *out, u64 now_ns);

/* The receiver of the bytes found the stream itself broken (magic, length): counts it and sets the reason. */
void srv_conn_violation(struct srv_conn *conn, const char *reason);

/* May handling @op change or free pages that an earlier reply refers to? */
bool srv_changes_pages(u16 op);

/* Zeroes up to @chunks freed chunks, for moments of leisure. True: more are waiting. */
bool srv_scrub(struct srv *srv, u32 chunks);

/*
 * At run time. The store must be able to serve chunks up to the limit before it is raised. Lowering the limit below what is
 * used or promised frees nothing by itself: it refuses what is new, and what is used beyond it is asked back.
 */
void srv_set_limit(struct srv *srv, u64 pages);
void srv_set_quota(struct srv *srv, u64 pages);
void srv_set_domain(struct srv *srv, const char domain[MEMX_LABEL_LEN]);
void srv_set_draining(struct srv *srv, bool draining);		/* no new extents and reservations */

/*
 * Asks every relay that understands it for what is used beyond the limit, unless it owes the answer to an earlier ASK. Returns
 * the number of relays that were or are asked.
 */
u32 srv_ask(struct srv *srv);

/*
 * Dropping copies without a relay, one at a time: srv_drop_begin() finds one and the holder to be asked, who gets a PIN with
 * that epoch and body; srv_drop_end() takes the status of the answer and drops the copy if that is still right. drop.c has the rule.
 */
enum { SRV_NO_ANSWER = MEMX_S_COUNT };

struct srv_drop {
	u64 serial;			/* for srv_drop_end() */
	u8 peer[16];			/* who must answer: id ... */
	u64 instance;			/* ... and instance */
	u8 address[16];
	u16 port;
	u64 epoch;
	const void *body;		/* good until srv_drop_end() */
	u32 len;
};

/* Copies that cannot be dropped, by what is in the way. */
struct srv_drop_why {
	u32 alone;			/* no other live copy */
	u32 proposed;			/* not known whether the guest has acknowledged its record */
	u32 pinned;			/* another holder relied on this one */
	u32 unknown;			/* nobody told where the other holder is */
	u32 unreachable;		/* it does not answer */
	u32 refused;			/* it said no */
};

/*
 * @reachable: may this donor be asked now? 0; -ENOENT: nothing can be dropped, @why tells; -EBUSY: one is under way; -ENOMEM.
 */
int srv_drop_begin(struct srv *srv, bool (*reachable)(void *ctx, const u8 id[16]), void *ctx, struct srv_drop *out,
		   struct srv_drop_why *why);
u64 srv_drop_end(struct srv *srv, u64 serial, u32 status);	/* from the wire, or SRV_NO_ANSWER; pages that came free */
void srv_drop_again(struct srv *srv);				/* those that were refused may be tried again */

struct srv_totals {
	u64 pages_total, pages_used, pages_reserved;
	u64 pages_asked;			/* used beyond the limit: wanted back */
	u32 sessions, connections;
	u64 extents;
	bool draining;
};

void srv_totals(const struct srv *srv, struct srv_totals *totals);

/*
 * What was done so far that takes long and that the length of a frame does not show: pages that were checked, tables that were
 * walked, memory that the host was asked for or that was zeroed. In bytes, or as many as take as long. Whoever handles frames gives
 * others their turn by how it grows.
 */
u64 srv_work(const struct srv *srv);
const struct srv_counters *srv_counters(const struct srv *srv);

struct srv_session_info {
	u8 vm[16], session[16];
	u64 epoch, lineage, seen_ns;	/* seen_ns: last request */
	u32 slots, extents, handles;
	u8 extent_order;
	u64 pages_used, pages_reserved, pages_held;	/* held: with a page in it, of those used */
};

/* Calls @each for every session, in order of creation; it must not change anything. */
void srv_sessions(const struct srv *srv, void (*each)(void *ctx, const struct srv_session_info *info), void *ctx);

/* Is the extent here? For tests. */
bool srv_holds(const struct srv *srv, const u8 vm[16], const u8 session[16], u32 extent);

/* Frees a session by the admin's order. 0, -ENOENT, or -EBUSY: a connection has a handle to it, and @force is not set. */
int srv_session_remove(struct srv *srv, const u8 vm[16], const u8 session[16], bool force);

#endif /* SRV_CORE_H */
