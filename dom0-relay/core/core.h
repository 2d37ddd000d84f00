/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * core.h - the contract between the relay's core and its edges.
 *
 * The core decides everything that has to do with guests, sessions, placement, replication and donors. It does no I/O, reads
 * no clock, keeps no globals and draws random numbers through its owner, so the same code runs in the daemon and in a
 * simulation under virtual time. The edges move bytes: vchan or shared-memory lanes on one side, TCP connections on the
 * other, and know nothing of what the frames mean beyond their headers.
 *
 * Threads: a struct relay_core and everything reached through it (links, donors, buffers) belongs to one thread. A daemon with
 * several workers has one core per worker, each with its own connections to the donors; a guest belongs to one worker.
 *
 * Time: @now is monotonic nanoseconds, the same clock in every call, and never runs backwards. An edge takes it once per
 * turn of its loop. One turn: read the clock, hand over everything that can be read (lanes of kind FETCH before those of kind
 * STORE, replies of donors before requests of guests), call core_tick() if core_next_deadline() has come, and only then flush
 * what was queued: one writev per donor, one notification per lane. core_tick() judges who was silent, which is why
 * everything that had arrived must have been handed over before.
 *
 * Re-entrancy: the core calls ops from inside its entry points. An op must not call back into the core. After
 * ops->guest_close() or ops->donor_close() the edge hands over nothing more from that connection; it tears it down when the
 * call that it is in has returned. Handles stay valid until then.
 *
 * Life of a link (one offer of one guest: a set of lanes that lives and dies as a whole):
 *	core_link_up()		all lanes are connected; the core sends HELLO on each
 *	core_link_head()/_frame()	per frame read from a lane
 *	core_link_down()	the edge lost it; or ops->guest_close(): the core wants it closed. Either ends the handle.
 *
 * Life of a donor:
 *	core_donor_add()	it is in the configuration; the edge begins to connect, and goes on trying while it is added
 *	core_donor_up()		a connection stands; the core sends HELLO
 *	core_donor_head()/_frame()
 *	core_donor_down()	it is lost, or an attempt to connect failed; or ops->donor_close(): the core wants this connection
 *				closed. The edge tries again (after connect_retry).
 *	core_donor_remove()	it is no longer in the configuration. The core keeps it while pages of guests are there, or may be
 *				(of a session whose map is with its guest), and tells it to forget what it has reserved;
 *				ops->donor_gone() says when the edge may forget it.
 */
#ifndef MEMX_RELAY_CORE_H
#define MEMX_RELAY_CORE_H

#include <memx/codec.h>

struct relay_core;
struct core_link;
struct core_donor;
struct rpool;

enum {
	CORE_MAX_DONORS		= 64,
	CORE_NAME_LEN		= 64,	/* names of guests and donors, with their NUL */
};

/* ---- buffers -------------------------------------------------------------------------------------------------------- */

/*
 * A ref-counted buffer from a bounded pool: the one staged copy of a frame's body. Not thread-safe, like the core. Only who
 * reads a body from the wire writes into it, before handing it over; from then on it is constant.
 */
struct rbuf {
	u8 *data;		/* aligned to 64 bytes */
	u32 size;		/* bytes that may be used */
	u32 refs;
	struct rpool *pool;
	struct rbuf *next;	/* in the pool's free list */
	u32 class;		/* index of the size class */
};

static inline struct rbuf *rbuf_get(struct rbuf *buf)
{
	buf->refs++;
	return buf;
}

void rbuf_put(struct rbuf *buf);	/* NULL is fine */

/*
 * A piece of a frame. With @buf set the bytes lie in it: an edge that keeps them beyond the call takes a reference. With @buf
 * NULL they are the core's, good during the call only: copy.
 */
struct core_seg {
	const void *base;
	u32 len;
	struct rbuf *buf;
};

enum {
	CORE_MAX_SEGS		= 2 * MEMX_MAX_PAGES + 4,
};

/* ---- what the core asks of the edges ---------------------------------------------------------------------------------- */

enum core_log_level {		/* syslog's numbers */
	CORE_LOG_CRIT		= 2,	/* pages are lost, or somebody must act */
	CORE_LOG_ERR		= 3,
	CORE_LOG_WARN		= 4,
	CORE_LOG_NOTICE		= 5,
	CORE_LOG_INFO		= 6,
	CORE_LOG_DEBUG		= 7,
};

struct core_ops {
	/*
	 * Writes one whole frame into the reply ring of @lane: header, then the segments (their lengths add up to hdr->len).
	 * Copies at once. 0, or -ENOSPC when the ring does not take the whole frame: nothing was written. By the rules of
	 * credit that cannot happen to a guest that keeps them, so the core closes the link. Any other error: the lane is
	 * broken; the edge calls core_link_down() later, or the core closes the link, whichever comes first.
	 */
	int (*guest_send)(void *ctx, void *link, unsigned int lane, const struct memx_hdr *hdr,
			  const struct core_seg *segs, unsigned int nsegs);

	/* Wants the link closed. @reason: one line, good during the call. See "Re-entrancy" above. */
	void (*guest_close)(void *ctx, void *link, const char *reason);

	/*
	 * Queues one whole frame behind what is queued for this donor; frames leave in this order. The core bounds what is
	 * unanswered (core_config.donor_bytes), so the queue is bounded by that and never refuses.
	 */
	void (*donor_send)(void *ctx, void *donor, const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int nsegs);

	/* Wants this connection closed (queued bytes dropped) and, while the donor is added, connected again. */
	void (*donor_close)(void *ctx, void *donor, const char *reason);

	/* The donor that was removed holds nothing any more: close, forget; the handle ends. */
	void (*donor_gone)(void *ctx, void *donor);

	/* Fills @to with random bytes (in a simulation: seeded ones). */
	void (*random)(void *ctx, void *to, size_t len);

	/*
	 * One structured event: @event is a word ("attach", "donor-down"), @fields are "key=value key=value", values with
	 * spaces quoted. Both good during the call.
	 */
	void (*log)(void *ctx, enum core_log_level level, const char *event, const char *fields);
};

/* ---- the core ---------------------------------------------------------------------------------------------------------- */

struct core_config {
	u8 relay_id[16];	/* persistent id of this host's relay */
	u64 instance;		/* of this process, random */
	u64 staging_bytes;	/* per guest: stores on their way and pages being fetched */
	u64 donor_bytes;	/* per donor: stores that may be unanswered */
	u32 donor_requests;	/* per donor: the same, counted in requests */
	u64 map_bytes;		/* for the placement of all sessions' extents together; beyond it attaches are refused */
	u8 extent_order;	/* of new sessions, log2 of slots */
	u32 session_changes;	/* extents of one session that change their record at once, urgent ones apart */
	u8 replicas;		/* copies where a guest's configuration says nothing; 0: 2, or 1 with a single failure domain */
	u64 heartbeat_ns;	/* a donor is asked for its state so often */
	u64 donor_timeout_ns;	/* a donor that owes an answer for so long is dropped */
	u64 donor_dead_ns;	/* a donor that was away for so long has its copies rebuilt elsewhere, used or not */
	u64 lag_ns;		/* a turn of the loop that took longer means that we were stopped: nobody is judged by it */
	u64 repair_rate;	/* bytes per second for all repair of this core; 0: no repair */
	bool balance;		/* move copies to donors with more room, such as those that were added */
};

/* Fills in the defaults (all but relay_id and instance). */
void core_config_init(struct core_config *cfg);

/*
 * NULL with errno ENOMEM or EINVAL. @cfg and @ops are copied. @ctx goes to every op.
 */
struct relay_core *core_new(const struct core_config *cfg, const struct core_ops *ops, void *ctx, u64 now);

/* Frees all; no ops but log are called. The edge has closed its connections, or closes them now. Buffers that an edge still holds stay good until put. */
void core_free(struct relay_core *core);

/* Takes over changed values of the configuration (all but relay_id, instance and staging of links that stand). */
void core_reconfigure(struct relay_core *core, const struct core_config *cfg, u64 now);

/* When core_tick() is wanted at the latest. Never more than a heartbeat away. May change with every call into the core. */
u64 core_next_deadline(const struct relay_core *core);
void core_tick(struct relay_core *core, u64 now);

/*
 * Drain (SIGTERM): attaches are answered DRAINING, requests that come from now on are left unanswered (the guest repeats
 * them after it attached again), those under way are finished. core_idle(): all of them are; the edge then closes the links
 * and frees the core. It gives up waiting after a few seconds by itself: nothing is lost by that.
 */
void core_drain(struct relay_core *core, u64 now);
bool core_idle(const struct relay_core *core);

/* ---- guests ------------------------------------------------------------------------------------------------------------ */

/*
 * Who the guest is and what it may have, by the toolstack and Dom0's configuration and nobody else. Whether it is allowed
 * at all is decided by the edge before it maps anything.
 */
struct core_guest_conf {
	u8 vm[16];		/* UUID by the toolstack: the owner of the sessions */
	char name[CORE_NAME_LEN];
	u32 domid;		/* with the UUID: which of its lives */
	u64 quota_pages;	/* largest swap area */
	u8 replicas;		/* 0: core_config.replicas */
};

/*
 * All lanes of an offer are connected. @cookie is what ops get. The core sends HELLO on every lane before it returns.
 * A link of the same guest that still stands is closed first (ops->guest_close). NULL with errno: ENOMEM, EINVAL (no lane or
 * more than MEMX_MAX_LANES).
 */
struct core_link *core_link_up(struct relay_core *core, const struct core_guest_conf *conf, u64 offer, unsigned int lanes,
			       void *cookie, u64 now);

/*
 * A header was read from @lane and passed memx_head_get(head, hdr, MEMX_MAX_BODY); a header that does not pass is told by
 * core_link_broken(). Gives the buffer to read the body into: *body has head->len bytes of room; NULL where head->len is 0.
 * The edge then reads the body and calls core_link_frame(). Checks what a header can tell (credit among it). 0, or a
 * negative errno: the core has closed the link.
 */
int core_link_head(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf **body, u64 now);

/*
 * Copies the body from where it lies in a ring, @first_len bytes at @first and what is left at @second, into @body, as memcpy()
 * would. Pages of a STORE are checked in the same pass, which is cheaper than behind it; the rest of the edge's business is as
 * before, and an edge that reads the body in another way need not call this. Memory that the guest can write is read once.
 */
void core_link_body(struct core_link *link, const struct memx_head *head, struct rbuf *body, const void *first, u32 first_len,
		    const void *second);

/* The frame is whole. Takes the reference to @body. 0, or a negative errno: the core has closed the link. */
int core_link_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body, u64 now);

/* The edge found the stream or the ring broken (@why: "bad magic", "ring index"): counted as violation, link closed by ops. */
void core_link_broken(struct core_link *link, unsigned int lane, const char *why, u64 now);

/* The guest closed the channel, or the domain went. The handle ends here; no ops->guest_close() follows. */
void core_link_down(struct core_link *link, const char *reason, u64 now);

/*
 * The domain @domid of this UUID is gone. @suspended: its last shutdown reason was suspend (migration, save): its session is
 * kept. Otherwise the donors free what this very domain attached: another one of the same UUID (a copy, or the other half of
 * a migration within this host) keeps its own. The edge has ended its link before.
 */
void core_guest_gone(struct relay_core *core, const u8 vm[16], u32 domid, bool suspended, u64 now);

/*
 * What this very domain may have (quota_pages, replicas) changed; takes effect at its next attach. Another domain of the same UUID
 * (a copy, the other half of a migration within this host) is told of by itself.
 */
void core_guest_conf_changed(struct relay_core *core, const struct core_guest_conf *conf, u64 now);

/*
 * This very domain may have nothing any more. Over the channel that it has it is served on, so that no page of it is lost: an
 * ATTACH there is granted only for pages that donors hold already. core_guest_conf_changed() takes it back.
 */
void core_guest_disallowed(struct relay_core *core, const u8 vm[16], u32 domid, u64 now);

/* Frees a session by an admin's command. 0, -ENOENT, -EBUSY while it is attached (unless @force). */
int core_session_free(struct relay_core *core, const u8 vm[16], const u8 session[16], bool force, u64 now);

/* ---- donors ------------------------------------------------------------------------------------------------------------ */

/* NULL with errno: EEXIST (name), ENOSPC (CORE_MAX_DONORS), ENOMEM, EINVAL (name). A name that is leaving comes back. */
struct core_donor *core_donor_add(struct relay_core *core, const char *name, void *cookie, u64 now);
void core_donor_remove(struct core_donor *donor, u64 now);

/* Moves all copies away from a donor (and takes no new ones there), or ends that. 0 or -ENOENT. */
int core_donor_empty(struct relay_core *core, const char *name, bool on, u64 now);

/* Where it is connected to (IPv6, or IPv4 mapped into it): what other donors are told. Before core_donor_up(). */
void core_donor_address(struct core_donor *donor, const u8 address[16], u16 port, u64 now);
void core_donor_up(struct core_donor *donor, u64 now);
int core_donor_head(struct core_donor *donor, const struct memx_head *head, struct rbuf **body, u64 now);
int core_donor_frame(struct core_donor *donor, const struct memx_head *head, struct rbuf *body, u64 now);
void core_donor_broken(struct core_donor *donor, const char *why, u64 now);	/* like core_link_broken() */
void core_donor_down(struct core_donor *donor, const char *reason, u64 now);

/* ---- what memxctl shows ------------------------------------------------------------------------------------------------- */

/* Counters, each with its sentence. Monotonic. One list per core. */
#define CORE_COUNTER_LIST(X)									\
	X(stores,		"pages stored for guests")					\
	X(fetches,		"pages fetched for guests")					\
	X(discards,		"slots discarded for guests")					\
	X(store_errors,		"pages of stores answered with an error")			\
	X(fetch_errors,		"pages of fetches answered with an error")			\
	X(discard_errors,	"slots of discards answered with an error")			\
	X(fetch_retries,	"pages asked of another replica after the first failed")	\
	X(hedges,		"fetches also sent to a second replica because the first was late")	\
	X(hedges_won,		"hedged fetches that the second replica answered first")	\
	X(bad_pages,		"pages that a donor had lost, or sent with a wrong version or check")	\
	X(pages_healed,		"good copies of such pages that their donor was given back")	\
	X(guest_corrupt,	"stores whose bytes did not match the check on arrival")	\
	X(resends,		"stores and discards sent again after a change of replicas or a reconnection")	\
	X(attaches,		"attaches granted")						\
	X(attach_refused,	"attaches refused")						\
	X(detaches,		"sessions detached by their guests")				\
	X(violations,		"links closed because the guest broke the protocol")		\
	X(overdrafts,		"violations that were an overdraft of credits")			\
	X(donor_violations,	"donor connections closed because the donor broke the protocol")	\
	X(disowned,		"times that a donor said of an attached session that somebody else owns it")	\
	X(donor_losses,		"connections to donors lost or given up")			\
	X(donor_new_instances,	"donors that came back with their memory gone")			\
	X(lags,			"turns in which the loop was late and nobody was judged")	\
	X(records,		"placement records that took effect")				\
	X(extents_placed,	"extents placed")						\
	X(replicas_dropped,	"replicas that became stale")					\
	X(late_copies,		"copies let go because they alone held up a write")		\
	X(replicas_repaired,	"replicas rebuilt by repair")					\
	X(repair_pages,		"pages copied by repair")					\
	X(repair_refused,	"times that a donor refused what repair asked of it")		\
	X(repair_avoided,	"times that repair began to do without a source that refuses or breaks off")	\
	X(extents_lost,		"extents of which no live copy was left")			\
	X(asks,			"times that a donor began to ask for memory back")		\
	X(reclaimed,		"copies moved because their donor asked for its memory")	\
	X(balanced,		"copies moved to donors with more room")			\
	X(given_up,		"copies that donors dropped by themselves, confirmed by another holder")	\
	X(reclaim_stuck,	"times that a donor asked and nothing could be moved")		\
	X(no_repair_room,	"times that no donor had room for a replacement")		\
	X(sessions_freed,	"sessions freed because their domain was gone or by command")	\
	X(condemned,		"extents that donors gave back because no map named them")

struct core_counters {
#define CORE_X(name, text) u64 name;
	CORE_COUNTER_LIST(CORE_X)
#undef CORE_X
};

struct core_status {
	struct core_counters counters;
	u32 links, attached, sessions, donors, donors_up;
	u64 extents;		/* of all sessions that are attached */
	u64 extents_degraded;	/* with fewer live replicas than wanted */
	u64 extents_waiting;	/* whose last live replica is away */
	u64 repair_extents;	/* of which a copy is to be made: missing, or to leave a donor that is emptied */
	u64 repair_pages;	/* that these copies have, at most */
	u64 repair_stuck;	/* extents of these that no donor has room for */
	u64 repair_wait_ns;	/* until the last donor that is away with copies counts as dead, and they are made elsewhere */
	u64 moving_extents;	/* whose copy moves to even out the donors' room */
	bool draining;
};

void core_status(const struct relay_core *core, struct core_status *to);

/* Why a donor is not used, each with its sentence. */
#define CORE_DONOR_STATE_LIST(X)								\
	X(CONNECTING,	"connecting",	"no connection yet, or lost")				\
	X(HELLO,	"hello",	"connected; waiting for its hello")			\
	X(USABLE,	"usable",	"serves and takes new extents")				\
	X(DRAINING,	"draining",	"serves; takes no new extents by its own wish")		\
	X(EMPTYING,	"emptying",	"serves; its copies are being moved elsewhere by command")	\
	X(EMPTIED,	"emptied",	"holds no page; gets none, by command")			\
	X(LEAVING,	"leaving",	"no longer in the configuration; serves until it is empty")	\
	X(DUPLICATE,	"duplicate",	"has the id of another donor of this configuration, which is connected")

enum core_donor_state {
#define CORE_X(name, word, text) CORE_DONOR_##name,
	CORE_DONOR_STATE_LIST(CORE_X)
#undef CORE_X
};

const char *core_donor_state_word(enum core_donor_state state);
const char *core_donor_state_text(enum core_donor_state state);

struct core_donor_info {
	char name[CORE_NAME_LEN];
	u8 id[16];		/* zero: not learned yet */
	u64 instance;
	char domain[MEMX_LABEL_LEN + 1];
	enum core_donor_state state;
	char reason[96];	/* why the connection was lost last, "" never */
	u64 pages_total, pages_used, pages_reserved;
	u32 sessions;		/* that the donor counts */
	u32 unanswered;		/* requests */
	u64 latency_ns;		/* smoothed, of fetches */
	u64 stores, fetches;	/* pages */
	u64 losses;
	u64 silent_ns;		/* since the last frame */
	u32 extents;		/* replicas placed there by attached sessions */
	u32 stuck_extents;	/* of these, that have to leave and find no room elsewhere */
	u64 pages_asked;	/* that it wants back */
	u32 moving;		/* copies that move elsewhere for that */
};

struct core_guest_info {	/* one per link */
	char name[CORE_NAME_LEN];
	u8 vm[16];
	u32 domid;
	const char *state;	/* "hello", "waiting", "attaching", "attached", "detaching" */
	char reason[160];	/* of the last refusal; "" none */
	u64 quota_pages;
	unsigned int lanes;
	u64 staging_bytes;	/* in use */
	u32 unanswered;
	u8 session[16];		/* zero: none yet */
};

struct core_session_info {
	u8 vm[16];
	u8 session[16];
	char name[CORE_NAME_LEN];
	u64 epoch;
	u32 slots;
	u8 extent_order;
	u8 replicas;
	bool attached;
	bool freeing;		/* donors are being told to free it */
	u32 extents;		/* placed */
	u32 degraded, waiting;
	u64 stores, fetches, discards;	/* pages */
	u64 since_ns;		/* when it attached or lost its relay link */
};

void core_each_donor(const struct relay_core *core, void (*fn)(const struct core_donor_info *info, void *arg), void *arg, u64 now);
void core_each_guest(const struct relay_core *core, void (*fn)(const struct core_guest_info *info, void *arg), void *arg);
void core_each_session(const struct relay_core *core, void (*fn)(const struct core_session_info *info, void *arg), void *arg);

#endif /* MEMX_RELAY_CORE_H */
