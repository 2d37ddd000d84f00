/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * internal.h - the map of the relay's core.
 *
 * Everything belongs to one struct relay_core and to its one thread; there are no locks.
 *
 *	relay_core ── core_donor[]            one per configured donor: connection, queue, window, health
 *	   │      └── dop[]                   requests to donors; a tag on the wire is an index into them
 *	   ├── core_link ── lane[] ── rreq[]  a guest's channel; what the relay itself asked of the guest
 *	   │        └── greq[]                requests of the guest that are not answered yet
 *	   └── session ── sdonor[]            a swap area; its standing with each donor (fence, reservation)
 *	            └── extent[]              placement: the record that the guest acknowledged, and the one proposed
 *
 * Events and work are kept apart. What arrives (frames, losses, time) changes the state of what it is about and marks what
 * has to be looked at again; core_settle() then works through the marks until none is left, at the end of every entry
 * point. So a link or donor that dies in the middle of a call is only marked, and nobody up the stack loses the ground.
 *
 * The life of a replicated request
 *
 * A STORE or DISCARD arrives, is copied once into a buffer of the guest's pool, checked, and put at the end of its extent's
 * list of writes. If the extent has a record in effect and no change of it is under way, the request is sent to every live and
 * syncing replica; the buffer is shared. Each answer marks the replica as done. With the last of them the guest is answered.
 *
 * If there is no record yet, or a replica cannot be reached while another live one can, the extent changes its record first:
 *
 *	state		what happened				next state	what is done
 *	NONE		a write came				PLACING		donors chosen, PLACE to each
 *	STEADY		a replica was lost, or repair asked	PLACING		lost one stale, replacement syncing, PLACE to each
 *	PLACING		all placed				RECORDING	RECORD to the guest
 *	PLACING		a donor refused or was lost		PLACING		proposed again without it, higher generation
 *	PLACING		nobody is left to ask			NONE, STEADY	no room: writes fail; nobody reachable: they wait
 *	RECORDING	the guest acknowledged			STEADY		old holders freed, writes sent to who lacks them
 *
 * Writes wait while the state is PLACING or RECORDING, because donors refuse any generation but the one they hold. A write that
 * one donor had already confirmed is not sent there again. Fetches go on throughout: any live replica of the record in effect
 * may answer, since donors accept a fetch of a higher generation than theirs.
 *
 * The last live replica is never dropped: where none is reachable, requests stay in the extent's lists until one is.
 */
#ifndef MEMX_RELAY_INTERNAL_H
#define MEMX_RELAY_INTERNAL_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <memx/check.h>
#include <memx/codec.h>

#include "core.h"
#include "list.h"

#define MS 1000000ULL
#define NEVER (~0ULL)

enum {
	LINK_LANE_REQUESTS	= 256,	/* unanswered on one lane, all kinds */
	LINK_LANE_PAGES		= 2048,	/* pages in them, at most; less where staging is small */
	LINK_MAX_SESSIONS	= 8,	/* of one guest that wait to be freed at donors that are away */
	LINK_MAX_REFUSED	= 64,	/* or at donors that refuse to */
	HEDGE_MAX		= 1000,	/* hundredths of a hedged fetch that a donor may have in reserve */
	DONOR_MAX_DENIALS	= 8,	/* of a confirmed fence or record: an admin may free a session there, but not over and over */
	LIST_MAX_DENIALS	= 2,	/* the same, while what it holds is being listed */
	LISTED_AGAIN_MS		= 32000, /* so long after a listing another one may bring generations that are new to us */
	DENIAL_FORGIVEN_MS	= 10000,	/* one of them in so much time */
	RENEW_MS		= 10000,	/* a connection is made anew for the sake of a fence once in so much time */
	DONOR_MAX_RETRIES	= 3,	/* of a store that a donor found damaged on arrival */
	REFUSED_SAY_MS		= 60000, /* between two lines about a guest that goes on asking */
	RETRY_MS		= 1000,	/* after a refused attach; half of it is enforced, guests' clocks are their own */
	ATTACHES_IN_A_ROW	= 4,	/* on one channel, without that pause; as many again after so many times half of it */
	OPINION_MS		= 5000,	/* between two times that the same donor has all others asked whether it lies */
	LOST_GATHER_MS		= 100,	/* extents that are lost together are told of together */
	LOST_SAY_MS		= 10000, /* between two times that a guest is said to have lost some */
	FULL_MS			= 1000,	/* a donor that had no room for an extent is not asked again for so long */
	REFUSED_MS		= 5000,	/* nor one that had none for a page of an extent which it holds */
	NO_ROOM_SAY_MS		= 10000, /* between two complaints that nobody has room for a replacement */
	REPAIR_LATE_MS		= 100,		/* answers to repair that take so much longer than the quickest: there is too much under way */
	REPAIR_LEAST		= 4 * MEMX_PAGE_SIZE,	/* what may be under way for repair at the slowest of donors */
	REPAIR_FIRST		= 8 * MEMX_PAGE_SIZE,	/* and at one of which it is not known how quick it is now, */
	REPAIR_KNOWN_MS		= 1000,		/* because repair has had no answer from it for so long */
	OFFENCE_FORGOTTEN_MS	= 300000,	/* a donor that kept the protocol for so long has a clean record */

	S_LOST			= MEMX_S_COUNT,	/* not from the wire: the connection went before the answer came */
};

/* ---- buffers (rbuf.c) ------------------------------------------------------------------------------------------------- */

struct rpool *rpool_new(u64 limit);
void rpool_close(struct rpool *pool);		/* goes with its last buffer */
struct rbuf *rpool_get(struct rpool *pool, u32 len);	/* NULL: the limit is reached */
u64 rpool_used(const struct rpool *pool);
u32 rpool_cost(u32 len);			/* what a buffer of that length counts */

void *core_zalloc(size_t size);			/* aborts when there is no memory: a relay may die at any instruction */

/* ---- requests to donors (tags.c) ---------------------------------------------------------------------------------------- */

enum dop_class {		/* in this order they leave */
	DOP_CONTROL,
	DOP_FETCH,
	DOP_STORE,
	DOP_REPAIR,
	DOP_CLASSES
};

struct dop;

/*
 * The answer to a request. @status: from the wire, known; or S_LOST, then @head is NULL. @body as long as head->len, NULL if
 * empty; take a reference to keep it. A negative return: the donor broke the protocol, its connection is closed.
 */
typedef int (*dop_done)(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body);

struct dop {
	struct list in_donor;		/* queued or sent */
	struct list in_session;
	struct list in_req;
	struct core_donor *donor;
	struct session *session;	/* NULL: none */
	struct extent *extent;
	struct greq *req;
	struct repair *repair;
	dop_done done;			/* NULL: cancelled, the answer is thrown away */
	u64 tag;			/* 0: free */
	u64 epoch;
	u64 sent_at;
	u64 turn;			/* of all that was sent to the donor, the how manieth it is */
	struct rbuf *body;		/* follows small[] */
	u32 body_off, body_len;
	u32 mask;			/* FETCH: pages of the request that this asks for; RESERVE: extents reserved before */
	u32 weight;			/* bytes in the donor's window */
	u32 share;			/* of what repair may have under way there, bytes, either way */
	u16 op, flags;
	u8 class;
	bool sent, hedge;
	u16 small_len;
	u8 small[160] __attribute__((aligned(8)));			/* fixed part of the body */
};

struct dop *dop_new(struct core_donor *donor, u16 op, enum dop_class class, dop_done done);
void dop_free(struct dop *dop);
void dop_cancel(struct dop *dop);	/* nobody waits for the answer any more */
struct dop *dop_find(struct relay_core *core, u64 tag);

/* ---- donors (donor.c, roster.c, health.c) --------------------------------------------------------------------------------------------------- */

struct core_donor {
	struct relay_core *core;
	char name[CORE_NAME_LEN];
	void *cookie;
	u32 index;			/* in core->donor[] */
	u8 id[16];
	u64 instance;
	u8 claimed_id[16];		/* what the present connection said; another entry may have it */
	u64 claimed_instance;
	bool known;			/* id was learned once */
	bool up;			/* a connection stands */
	bool hello;			/* and said who it is */
	bool stat;			/* and what it has */
	bool tried;			/* at least one attempt to connect ended, or an hello came */
	bool leaving, duplicate, draining;
	bool emptied;			/* by an admin's command: its copies move elsewhere */
	bool dying;			/* marked for donor_teardown() */
	bool dead;			/* away for so long that everything there is rebuilt */
	char reason[96];
	char domain[MEMX_LABEL_LEN + 1];
	struct memx_stat last_stat;
	u64 total, reserved;		/* pages; reserved follows our own requests between two STATs */
	struct list queue[DOP_CLASSES];
	struct list sent;		/* and unanswered, those first that were sent first */
	struct list sent_waited;	/* the same, of those that a guest's pages wait for */
	u64 turns, turn_at;		/* sent so far; when all before the first in sent_waited were answered */
	u64 window_bytes;		/* of stores that are sent and unanswered */
	u32 window_requests;
	u64 repair_bytes, repair_window;	/* under way there for repair, bytes either way, and how much may be */
	u64 repair_heard;		/* its last answer to repair */
	u64 repair_base_ns;		/* the quickest of its answers on this connection; 0: none yet */
	u32 unanswered;
	struct list in_dying, in_pump;
	struct rpool *pool;		/* bodies that are nobody's in particular */
	u64 last_rx, up_at, down_at;
	u64 stat_at;			/* next heartbeat */
	bool stat_out;
	u64 lat_ns, lat_dev_ns;		/* of fetches: smoothed mean and deviation (RFC 6298's estimator) */
	u64 hedge_budget;		/* hundredths of a hedge */
	u64 stores, fetches, losses;
	u64 features;			/* agreed on */
	u8 address[16];
	u16 port;			/* 0: not known */
	u64 peers_told;			/* core.peers_version of what it was told last */
	u64 asked;			/* pages that it wants back */
	u64 moved, moved_at_stat;	/* pages that it was told to free since it is known; when STAT was asked last */
	u64 asked_at, stuck_at, reclaim_at;	/* asked first; said that it cannot be done; next look */
	u32 moving;			/* copies marked to leave */
	/* Broke the protocol, or left out what it does not like: gets no new copies where another can have them until then. */
	u64 renew_at;			/* its connection is not made anew for the sake of a fence before */
	u64 offended_at, shunned_until;
	u32 offences;			/* in a row */
};

/* roster.c */
struct core_donor *donor_by_id(struct relay_core *core, const u8 id[16]);
void donor_learn(struct core_donor *d);		/* takes over what the connection claims to be */
void donors_reconsider(struct relay_core *core);	/* duplicates whose twin is gone */
void donor_takes_again(struct core_donor *d);	/* new extents: what waits for a place may have one */
/* donor.c, health.c */
void donor_serves(struct core_donor *d);
void donor_queue(struct dop *dop);		/* leaves when settled, in the order of its class */
void donor_fail(struct core_donor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void donor_violation(struct core_donor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void donor_shun(struct core_donor *d);		/* for a while, longer each time */
void donor_teardown(struct core_donor *d);
void donor_pump(struct core_donor *d);
void donor_maybe_gone(struct core_donor *d);	/* forgets it if it is leaving and nobody needs it */
void donor_stat(struct core_donor *d);		/* asks how it is */
void donor_tick(struct core_donor *d);
bool donor_ok(const struct core_donor *d);	/* serves */
bool donor_stays(const struct core_donor *d);	/* what lies there may stay there */
bool donor_takes(const struct core_donor *d);	/* takes new extents */
u64 donor_free_pages(const struct core_donor *d);	/* not reserved by anybody */
bool donor_same_domain(const struct core_donor *a, const struct core_donor *b);
void donor_destroy(struct core_donor *d);
enum core_donor_state donor_state(const struct core_donor *d);
u64 donor_hedge_delay(const struct core_donor *d);
u32 donor_repair_pages(const struct core_donor *d);	/* that one request of repair may be about */
void donor_latency(struct core_donor *d, u64 sent_at);	/* it answers now */

/* ---- placement (place.c) ------------------------------------------------------------------------------------------------ */

struct replica {
	struct core_donor *donor;	/* NULL: not known here (yet) */
	u8 id[16];
	u64 instance;
	u8 state;			/* enum memx_replica_state */
	bool bad;			/* its donor said that it has not got what it should have */
	bool seen;			/* named in the listing that is being read */
};

struct placement {
	u64 generation;			/* 0: none */
	u8 n;
	struct replica r[MEMX_MAX_REPLICAS];
};

void placement_from_wire(struct relay_core *core, struct placement *p, const struct memx_record *rec);
void placement_to_wire(const struct placement *p, u32 extent, struct memx_record *rec);
int placement_find(const struct placement *p, const struct core_donor *d);	/* index or -1 */
bool placement_names(const struct placement *p, const struct core_donor *d);	/* by id, known or not */
void placement_remove(struct placement *p, int i);
unsigned int placement_count(const struct placement *p, u8 state);

/* A donor for one more copy of @x beside those in @p, never one whose bit is in @not; NULL: none has room. */
bool place_allowed(const struct extent *x, const struct core_donor *d, const struct placement *p, u64 not);
bool place_shuns(const struct extent *x, const struct placement *p, u64 not);
struct core_donor *place_choose(struct extent *x, const struct placement *p, u64 not);

/* ---- admission (admit.c): arithmetic only --------------------------------------------------------------------------------- */

struct admit_donor {
	u32 cap;		/* extents that this session may have here, its own reservation included */
	u32 placed;		/* that it has here already */
	u32 held;		/* that are reserved for it here now */
	u32 group;		/* failure domain */
	u32 alloc;		/* result */
};

u32 admit_largest(const struct admit_donor *d, unsigned int n, u32 want, unsigned int replicas);
bool admit_spread(struct admit_donor *d, unsigned int n, u32 extents, unsigned int replicas);
bool admit_headroom(const struct admit_donor *d, unsigned int n, const u64 *free_after, const u64 *reserved_after,
		    unsigned int replicas, u64 owed);

/* What is to be left free for repair (room.c), seen by a session that asks for room. */
u8 room_most_copies(const struct session *s);
u64 room_single(const struct session *s, u32 index);
u64 room_owed(const struct session *s);

/* ---- extents (extent.c, propose.c, change.c) --------------------------------------------------------------------------------------- */

enum extent_state {
	X_NONE,			/* no record */
	X_STEADY,		/* the record in effect is what donors hold */
	X_PLACING,		/* donors are asked to hold the proposed one */
	X_RECORDING,		/* the guest is asked to acknowledge it */
};

struct extent {
	struct session *s;
	u32 index;
	u8 state;
	bool urgent;			/* a change is wanted even where nothing waits for it */
	bool want_more;			/* repair wants another copy */
	bool no_room;			/* said that no donor has room for one */
	bool lost;			/* counted in extents_lost */
	bool left;			/* several copies are left of those that were lost, and none is whole: each stays */
	bool confirmed;			/* a donor has told this relay of a live copy: not by the guest's map alone */
	struct placement cur;		/* acknowledged by the guest */
	struct placement next;		/* proposed */
	u64 gen_floor;			/* highest generation that was ever proposed or seen */
	u64 touched;			/* donors (by index) that may hold something that cur does not name */
	u64 refused;			/* donors that refused in this change */
	u32 pending;			/* PLACE unanswered */
	bool place_failed;
	struct list writes;		/* stores and discards, in the order they came */
	struct list fetches;		/* waiting for a replica to be reachable */
	struct list in_review, in_later, in_record, in_held;
	u64 proposed_at, held_at;	/* the change under way; when all but one had answered */
	u64 retry_at;
	struct repair *repair;
	u64 repair_at;			/* not looked at by repair before */
	u8 repair_fails;		/* passes in a row that found a slot without a good copy */
	u8 incomplete;			/* passes that ended while a live copy was given what it lacks */
	u64 leave;			/* donors (by index) that want their copy's memory back: it moves elsewhere */
	u64 stored_at;			/* last store or discard */
	u64 shift, shift_to;		/* donor that this copy moves off, and where to, to even out their room */
	u64 shift_until;
	u64 made_whole;			/* donor (as bit) with whose copy .left ends when the proposed record is in effect */
	u64 promote;			/* donor (as bit) whose syncing copy repair has completed */
	u64 unfit;			/* donors (by index) that refuse a write which another live copy has: to be replaced */
	u64 late;			/* donors (by index) that alone hold up a write which another live copy has: let go */
};

void extent_init(struct extent *x, struct session *s, u32 index);
void extent_relink(struct extent *x);
void extent_review(struct extent *x);		/* marks; extent_work() runs when settled */
void extent_work(struct extent *x);
void extents_go_on(struct session *s);
void extent_replica_failed(struct extent *x, struct core_donor *d, u32 status);
void extent_record_acked(struct extent *x);
void extent_free_touched(struct extent *x);
void extent_later(struct extent *x);
bool replica_takes_writes(const struct replica *r);
bool replica_away(const struct session *s, const struct replica *r);	/* neither there nor on its way back */
bool placement_live_usable(const struct session *s, const struct placement *p);
unsigned int placement_copies(const struct extent *x, const struct placement *p);
void extent_count(struct extent *x, int by);
int change_begin(struct extent *x);
struct core_donor *change_waits_for(const struct extent *x);	/* it alone has not answered PLACE */
void change_without(struct extent *x, struct core_donor *d);	/* that one is not waited for */
void extent_touch(struct extent *x, const struct replica *r);	/* it may be left with what no record names */

enum proposal {
	PROPOSED,
	PROPOSE_SAME,		/* nothing to change */
	PROPOSE_WAIT,		/* somebody who must agree cannot be asked now */
	PROPOSE_NOSPACE,
};

enum proposal extent_propose(struct extent *x, struct placement *p);
bool replica_usable(const struct session *s, const struct replica *r);
bool replica_gone(const struct replica *r);	/* its bytes exist no longer */
bool extent_wants_copy(const struct extent *x);
bool extent_rejoins(const struct extent *x);
bool extent_superfluous(const struct extent *x);
bool extent_degraded(const struct extent *x);
unsigned int extent_missing(const struct extent *x);
bool extent_waiting(const struct extent *x);
bool extent_takes_writes(const struct extent *x);
void extent_newer(struct extent *x, u64 generation);
u64 extent_fetch_generation(const struct extent *x);

/* ---- sessions (session.c), fences (fence.c) ------------------------------------------------------------------------------- */

enum sd_state {
	SD_NONE,		/* nothing confirmed */
	SD_FENCING,
	SD_LISTING,
	SD_READY,		/* fenced at the session's epoch, holdings compared */
	SD_REFUSED,		/* the donor said no; .status says why */
	SD_STRANGER,		/* it knows nothing of the session, and is not to before others have confirmed whose it is */
};

struct sdonor {
	u8 state;
	u8 status;		/* of the refusal */
	bool detached;		/* freeing: confirmed */
	bool releasing;		/* told to forget the session: the donor leaves, and has nothing of it */
	bool retained;		/* RETAIN was begun */
	bool retain_waits;	/* for a buffer */
	bool counted;		/* in session->attach_pending */
	u32 handle;
	u32 held;		/* extents, by the donor's word */
	u32 placed;		/* extents of which cur or next has a copy here */
	u64 reserved;		/* pages */
	u64 full_until;		/* said no room: not asked again until then */
	u32 list_next;		/* LISTING: first extent not heard of yet */
	u32 listed;		/* those before this one it has told of since the session was attached, or said that it has none, */
	u64 listed_at;		/* the last time then */
	u32 retain_next;	/* first extent that RETAIN has not told of yet */
	u64 retain_tag;		/* of the piece of it that is unanswered; 0: none is */
	u32 denials;		/* of the fence or a record that it had confirmed, on this connection, and not forgiven */
	u64 denied_at;
	u32 repair_refusals;	/* of what repair asked, less those passes that came through */
	u32 avoided_times;	/* in a row, that repair did without it as a source for that, */
	u64 avoided_until;	/* the last time until then */
	u64 broke_off;		/* connection (by its up_at) that ended in the middle of a pass, or for its answer to one */
	u32 fallback;		/* extents reserved before a RESERVE that may be refused */
	u64 fence_epoch;	/* what the donor told with its last answer to FENCE: the session's epoch there */
	u32 fence_extents;	/* and how many it holds of it */
	bool looking;		/* that FENCE went without CREATE */
	u64 opinion_at;		/* others are not asked before whether its word is true */
	u32 slots;		/* size that it was told */
};

enum session_state {
	SESSION_ATTACHING,
	SESSION_ATTACHED,
	SESSION_ALONE,		/* no relay link; kept for its guest to come back */
	SESSION_FREEING,	/* donors are told to free it */
};

enum attach_step {
	ATTACH_DONORS,		/* until every configured donor was tried */
	ATTACH_FENCE,
	ATTACH_RESERVE,
};

struct session {
	struct relay_core *core;
	struct list in_core, in_step;
	struct core_link *link;
	u8 vm[16], id[16];
	u32 domid;		/* of the domain that attached it last */
	char name[CORE_NAME_LEN];
	u64 epoch;
	u64 lineage[MEMX_MAX_LINEAGE];
	u64 granted_epoch, granted_lineage;	/* of the last grant to this domain, which donors have stored; 0: none */
	u64 known_epoch;	/* at which the guest was granted an ATTACH before, by whatever relay; 0: never */
	u64 seed;
	u8 state, step;
	bool frozen;
	bool vouched;		/* donors that know it have confirmed, as far as they can be heard, that it is this guest's */
	u32 slots;		/* wanted, then granted */
	u32 extents;		/* number of them in .extent */
	bool no_memory;		/* for these */
	u32 allocated;		/* that many .extent has; more than .extents where less was granted than asked for */
	u8 order, replicas;
	struct extent *extent;
	struct sdonor sd[CORE_MAX_DONORS];
	struct list dops;
	struct list later;	/* extents whose change waits for its turn */
	u32 changing;
	u32 attach_pending;
	u32 attach_rounds, attach_step_tries;
	u64 attach_until;
	u64 retry_at;		/* donors that refused are asked again */
	u64 placed;		/* extents with a record */
	u64 since, stores, fetches, discards;
	u32 repairing;			/* its extents of which a copy is being made */
	u32 repair_next;
	bool repair_waits;		/* for a place among those */
	u32 balance_next, shift_from;
	u64 shift_pages;		/* of a reservation that goes from one donor to another */
	u32 max_cap[CORE_MAX_DONORS];	/* admission: lowered by refusals of RESERVE */
};

struct session *session_find_of(struct relay_core *core, const u8 vm[16], const u8 id[16], u32 domid);
void session_take_over(struct session *s);
u32 session_disowned(const struct session *s);
bool session_confirmed(const struct session *s);
struct session *session_new(struct core_link *link, const struct memx_attach *a, u64 epoch, u32 slots, u8 order);
void session_halt(struct session *s);		/* lets go of link, extents and requests */
void session_destroy(struct session *s);
void session_free_start(struct session *s);	/* donors free it */
void session_ask_again(struct session *s);
void session_fenced(struct session *s, struct core_donor *d, u32 status);
void session_shrink(struct session *s, u32 extents);	/* to what was granted */
void session_forget(struct session *s, u32 index);	/* another donor stands at this number */
void session_relink(struct session *s);	/* replicas and donors: who is who */
void session_step(struct session *s);		/* marks for attach_work() */
void session_review_all(struct session *s);
void session_conditions(const struct session *s, u32 *placed, u32 *degraded, u32 *waiting);

void fence_open(struct session *s, struct core_donor *d);
bool fence_strangers(struct session *s);	/* true: there are donors that did not know the session, and are told now */
int fence_denied(struct session *s, struct core_donor *d);
bool fence_broken(struct session *s, const struct core_donor *d);
void fence_set_aside(struct session *s, struct core_donor *d, u32 status);
void fence_ready(struct session *s, struct core_donor *d);
void fence_retain(struct session *s, struct core_donor *d);
void fence_retain_again(struct session *s, struct core_donor *d);	/* if it waits */
void fence_donor_down(struct session *s, struct core_donor *d);
void fence_donor_up(struct session *s, struct core_donor *d);
void fence_resize(struct session *s, struct core_donor *d);
void fence_detach(struct session *s, struct core_donor *d);
bool fence_release(struct session *s, struct core_donor *d);	/* true: the donor has not confirmed it yet */
void fence_not_reserved(const struct dop *dop);
void fence_reserve(struct session *s, struct core_donor *d, u64 pages, dop_done done);

void attach_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body);
void attach_map(struct core_link *link, const struct memx_head *head, struct rbuf *body);
void attach_begin(struct core_link *link);
void attach_work(struct session *s);
void attach_refuse(struct core_link *link, u32 status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void detach_frame(struct core_link *link, unsigned int lane, const struct memx_head *head);
void detach_answered(struct session *s);

/* ---- guests (link.c) ---------------------------------------------------------------------------------------------------- */

enum link_state {
	LINK_HELLO,		/* lanes have not all said hello */
	LINK_READY,		/* waiting for ATTACH */
	LINK_MAPPING,		/* MAP frames come */
	LINK_ATTACHING,
	LINK_ATTACHED,
	LINK_DETACHING,
};

/* A request of the guest. */
struct greq {
	struct list in_link;		/* busy or free */
	struct list in_extent;		/* writes or waiting fetches */
	struct list in_fetching;	/* core->fetching: fetches that a donor was asked for */
	struct list in_held;		/* core->held_writes */
	struct list dops;
	struct core_link *link;
	struct extent *extent;
	struct rbuf *body;
	u64 tag;
	u64 at;				/* when it came */
	u64 done, out;			/* donors by index: have it; are asked */
	u64 refused;			/* donors by index: would not take it */
	u64 put_off;			/* donors by index: asked for a moment */
	u64 put_off_at;			/* when the last of them first did */
	u64 tried;			/* FETCH: donors that were asked */
	u64 hedge_at;
	u64 asked_at;			/* when a donor was asked last */
	u64 held_by, held_at;		/* donor (as bit) that alone lacks it, although a live copy has it; since when */
	u32 cost;			/* of staging */
	u32 todo;			/* FETCH: pages that nobody brought yet */
	u16 op;
	u8 lane, count, tries;
	bool hedged;
	bool patience;			/* FETCH: a donor asked for a moment */
	bool replaced;			/* who refused was to be replaced once */
	bool passed;			/* a later write to the extent was answered before */
	u8 status[MEMX_MAX_PAGES];
	u8 refusal[MEMX_MAX_PAGES];	/* STORE: what those said who refused */
	struct {
		struct rbuf *buf;
		u32 desc, page;		/* offsets into buf */
	} got[MEMX_MAX_PAGES];		/* FETCH */
	u64 wrong[MEMX_MAX_PAGES];	/* FETCH: donors whose copy was damaged */
	u64 missing[MEMX_MAX_PAGES];	/* FETCH: donors that have it not, and would have to if anybody stored it */
};

/* What the relay asked of the guest on one lane. */
struct rreq {
	u64 tag;			/* 0: free */
	u64 at;				/* when it was asked */
	u16 op;
	u32 count;
	struct extent *extent[MEMX_MAX_RECORDS];
};

struct lane {
	u8 kind;
	bool hello;
	u32 requests, pages;		/* unanswered */
	struct rreq asked[MEMX_RELAY_CREDITS];
	struct list records;		/* extents whose record waits for its turn */
};

struct core_link {
	struct relay_core *core;
	struct list in_core, in_dying;
	void *cookie;
	struct core_guest_conf conf;
	u8 state;
	bool dying, told, dead;		/* marked; the edge knows; torn down, to be freed with the next tick */
	bool greeted;			/* all lanes said hello */
	bool mapped;			/* the map was through before that */
	u64 offer;
	unsigned int lanes, stores, fetches;
	struct lane lane[MEMX_MAX_LANES];
	u8 store_lane[MEMX_MAX_LANES];
	u32 lane_requests, lane_pages;
	u64 next_tag;
	u64 staged, staged_max;
	struct rpool *pool, *fetch_pool;
	const struct rbuf *read;	/* the body that core_link_body() copied last, until its frame comes */
	u64 check[MEMX_MAX_PAGES];	/* of the pages in it, by what its descriptors say */
	struct greq *reqs;
	struct list free, busy;
	u32 unanswered;
	struct session *session;
	u32 map_left;			/* records still to come */
	u64 attach_tag, detach_tag;
	u8 attach_lane, detach_lane;
	bool disallowed;		/* gets nothing new */
	bool early;			/* this attach came before it may */
	u64 attaches_until;		/* so long it would take if all that came had been half RETRY_MS apart */
	u64 lost_say_at;		/* when what is lost is told; NEVER: nothing is */
	u64 lost_said_at;		/* last; 0: never */
	u32 lost, lost_confirmed;	/* extents, since */
	u64 refused_at;			/* the last attach that was; 0: none */
	u64 refused_said[2];		/* last line of that, and of one that came too early; 0: never */
	u32 refused_times;		/* since that line */
	char refused_for[160];		/* that line's reason */
	char reason[160];
};

void link_fail(struct core_link *link, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void link_violation(struct core_link *link, unsigned int lane, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void link_teardown(struct core_link *link);
void link_lost(struct core_link *link, const struct extent *x);	/* of which no live copy is left */
void link_tick(struct core_link *link);
bool link_silent(const struct core_link *link);	/* leaves records unanswered: paused, or it will not */
void link_destroy(struct core_link *link);
void link_reply(struct core_link *link, unsigned int lane, u16 op, u64 tag, u64 epoch, u32 status,
		const struct core_seg *segs, unsigned int nsegs);
void link_record(struct extent *x);		/* asks the guest to acknowledge x->next */
int link_ask(struct core_link *link, unsigned int lane, u16 op, u64 epoch, const void *body, u32 len, struct rreq **asked);

/* Takes a reference to @body. */
struct greq *greq_new(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body, u32 count);
void greq_forget(struct greq *req, u64 donor);	/* what was noted of it */
void greq_drop(struct greq *req);		/* gives everything back; no answer */

/*
 * A page whose check is said to be a seal, which only its guest can judge. This relay agrees on sealing with nobody, so such a
 * page is a damaged one: or who lies about a page would only have to set the flag to be believed, by repair, too.
 */
static inline bool page_sealed(const struct memx_trailer *t)
{
	return t->flags;
}

/* ---- data (store.c, fetch.c) ---------------------------------------------------------------------------------------------- */

void store_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body);
bool store_send(struct greq *req);		/* to who lacks it; false: somebody who must have it cannot be reached */
void store_recall(struct extent *x);		/* takes back what is queued and not sent */
void store_fail(struct greq *req, u32 status);	/* answers all pages with it */

void fetch_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body);
void fetch_go(struct greq *req);
void fetch_fail(struct greq *req, u32 status);
void fetch_tick(struct relay_core *core);

/* ---- copies that alone hold up a write (late.c) ---------------------------------------------------------------------------- */

void late_write(struct greq *req);
void late_change(struct extent *x);
void late_tick(struct relay_core *core);

/* ---- repair (repair.c) ---------------------------------------------------------------------------------------------------- */

void repair_tick(struct relay_core *core);
void repair_cancel(struct extent *x);

/* Sends the page, verified by the caller, to a donor whose copy of it was found missing or damaged (heal.c). */
void heal_page(struct extent *x, struct core_donor *d, const struct memx_page *page, const void *bytes);

/* ---- memory that donors want back (reclaim.c) ----------------------------------------------------------------------------- */

void reclaim_asked(struct core_donor *d, u64 pages);
void reclaim_moved(struct extent *x);
int reclaim_dropped(struct core_donor *d, const struct memx_head *head, const struct rbuf *body);
void reclaim_tell_peers(struct core_donor *d);
void reclaim_tick(struct relay_core *core);
bool replica_stays(const struct extent *x, const struct replica *r);	/* may this copy stay where it is? */

/* ---- memory that comes (balance.c) ---------------------------------------------------------------------------------------- */

bool extent_move(struct extent *x, struct core_donor *from, struct core_donor *to);
void balance_give_up(struct extent *x);
void balance_moved(struct extent *x);
void balance_tick(struct relay_core *core);

/* ---- the core (core.c) ---------------------------------------------------------------------------------------------------- */

struct relay_core {
	struct core_config cfg;
	struct core_ops ops;
	void *ctx;
	u64 now;
	struct core_counters count;
	struct list links, sessions;
	u64 map_bytes;			/* of all sessions' extents */
	struct core_donor *donor[CORE_MAX_DONORS];
	struct dop **dop_chunk;
	u32 dop_chunks;
	struct list dop_free;
	u64 dop_serial;
	u64 rng;
	struct list dying_links, dying_donors, step, review, pump;	/* the marks */
	struct list dead_links;
	struct list fetching;
	struct list held_writes, held_changes;	/* late.c */
	struct list retry;
	bool draining;
	u64 drain_until;		/* draining: not waited for longer */
	bool settling;
	u64 last_tick, judge_from, started;
	u64 tick_at;			/* next wanted tick */
	u64 peers_version;		/* raised when it changes which donors there are, or where */
	u64 repair_tokens, repair_at;
	u64 repair_look_at;		/* extents are not looked through before */
	struct list repairs;
	u32 repairing;
	u32 repair_turn;		/* which session is looked at first */
	struct list heals;
	u64 no_room_said;
	u64 balance_at;
	bool balancing;
	u32 moving;			/* copies that move to even out the donors' room */
};

void core_enter(struct relay_core *core, u64 now);
void core_settle(struct relay_core *core);
void core_want_tick(struct relay_core *core, u64 at);
bool core_lags(const struct relay_core *core);	/* this loop has not come round for too long */
u64 core_random(struct relay_core *core);
void core_say(struct relay_core *core, enum core_log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

struct hexid { char s[33]; };
struct hexid hexid(const u8 id[16]);		/* for logs */
const char *status_word(u32 status);

#define bit64(i) (1ULL << (i))

#endif /* MEMX_RELAY_INTERNAL_H */
