/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lane.h - the engine: lanes over rings, from a submitted item to its end, and the session's control frames.
 *
 * An engine has store lanes and fetch lanes. An item goes to the lane of its extent (extent modulo the lanes of that kind),
 * waits there, travels in a request, and ends exactly once through ops->done(). Stores of one slot never overlap: a second
 * one waits for the first.
 *
 * Who does the work: whoever submits sends, unless somebody is sending already (tx_owner), who then sends for both. Answers
 * are read by whoever calls memx_lane_receive(): the interrupt handler within a budget, the lane's thread beyond it
 * (rx_owner). Both flags are taken and given up under the lane's lock; while one holds a flag it uses that direction of the
 * ring without the lock, so pages are copied with no lock held and interrupts on.
 *
 * Lock order: engine.lock (attach state) and the lanes' locks are never nested, but that a fetch looks at a slot under the
 * lock of the lane that stores it, holding nothing else. ops->done() is called with nothing held.
 */
#ifndef MEMX_GUEST_LANE_H
#define MEMX_GUEST_LANE_H

#include "attach.h"
#include "frames.h"
#include "records.h"
#include "reqs.h"
#include "slots.h"

/* One sentence per counter; sysfs shows each as a file of that name. */
#define MEMX_COUNTERS(X)										\
	X(stores,		"pages stored and acknowledged by the relay")				\
	X(fetches,		"pages fetched and verified")						\
	X(discards,		"slots discarded")							\
	X(same_stored,		"pages of one repeated word, kept locally")				\
	X(same_fetched,		"pages of one repeated word, filled in locally")			\
	X(store_requests,	"STORE requests sent")							\
	X(fetch_requests,	"FETCH requests sent")							\
	X(discard_requests,	"DISCARD requests sent")						\
	X(notifies,		"events sent to the relay")						\
	X(kicks,		"events received from the relay")					\
	X(nospace,		"stores that failed because the donors or the quota had no memory left")	\
	X(store_errors,		"stores that failed for any other reason")				\
	X(fetch_errors,		"fetches that failed for good")						\
	X(corrupt,		"fetched pages whose bytes did not match their check")			\
	X(retries,		"pages that were asked for, stored or discarded again after an error")	\
	X(resent,		"pages sent again after the channel was lost")				\
	X(suspended,		"stores refused because the guest was being suspended or resumed")	\
	X(expired,		"pages given up because the deadline passed")				\
	X(absent,		"fetches of slots that hold nothing")					\
	X(records,		"placement records taken")						\
	X(attaches,		"times that the session was attached")					\
	X(refusals,		"times that the relay refused to attach")				\
	X(lost,			"times that the channel to the relay was lost")				\
	X(violations,		"times that the relay broke the protocol")				\
	X(leaked,		"pages that earlier loads left to a relay that still mapped them")	\
	X(waits,		"times that a caller had to wait for a free operation")			\
	X(trimmed,		"slots found by the trimmer: freed, or whose last store stayed here or failed")

enum memx_counter {
#define MEMX_X(name, text) MEMX_C_##name,
	MEMX_COUNTERS(MEMX_X)
#undef MEMX_X
	MEMX_C_COUNT
};

struct memx_engine;

struct memx_engine_ops {
	u64 (*now)(void *ctx);					/* ns, monotonic; any context */
	u64 (*random)(void *ctx);				/* any context */
	void (*notify)(void *ctx, unsigned int lane);		/* any context */
	enum memx_vchan_client (*peer)(void *ctx, unsigned int lane);	/* any context */
	/* The end of an item: 0, or -EIO, -ENOSPC, -ENODATA (fetch of an absent slot), -ETIMEDOUT. Any context, nothing held. */
	void (*done)(void *ctx, struct memx_item *item, int err);
	void (*wake_lane)(void *ctx, unsigned int lane);	/* memx_lane_work() is due; any context */
	void (*wake_session)(void *ctx);			/* memx_engine_take() is due; any context */
	void (*count)(void *ctx, enum memx_counter what, u64 n);	/* any context */
	/* A peer broke the protocol (static text). Any context. */
	void (*violation)(void *ctx, unsigned int lane, const char *what);
	/* A page is lost or wrong for good (memx_status). Any context. */
	void (*bad_page)(void *ctx, u32 slot, u64 version, u32 status);
	/* The attachment is in another state, at @epoch. Any context, under engine.lock: only to be noted. May be NULL. */
	void (*entered)(void *ctx, enum memx_attach_state state, u64 epoch);
};

/* An answer that this side owes: to the relay's HELLO, RECORD, PING or an unknown operation. */
struct memx_owed {
	struct memx_head head;
	u16 proto;
};

struct memx_lane {
	struct memx_engine *engine;
	struct memx_vring *ring;	/* the link's; set by memx_lane_up() */
	u8 index, kind;
	memx_lock_t lock;		/* all below but the bounce pages; for a store lane also its extents' slots and records */
	struct memx_reqs reqs;
	struct list_head parked;	/* items to be tried again at the next tick */
	struct list_head held;		/* stores and fetches of slots with a store under way */
	struct memx_owed owed[MEMX_RELAY_CREDITS + 2];
	u32 n_owed;
	bool up;			/* the ring may be used */
	bool go;			/* requests may be sent */
	bool tx_owner, tx_again;	/* somebody sends; and is to look again before he stops */
	bool rx_owner, rx_again;
	bool ctl_waits;			/* the session's worker waits for room in the ring */
	bool was_live;			/* the peer was seen */
	bool failed;			/* to be given up by the session's worker */
	void *tx_bounce, *rx_bounce;	/* the owners' */
	u32 status[MEMX_MAX_PAGES];	/* the rx owner's */
};

struct memx_engine {
	const struct memx_engine_ops *ops;
	void *ctx;
	u8 lanes, n_store, n_fetch;
	u8 store_lane[MEMX_MAX_LANES], fetch_lane[MEMX_MAX_LANES];
	struct memx_lane lane[MEMX_MAX_LANES];

	memx_lock_t lock;		/* .attach and .actions */
	struct memx_attacher attach;
	u32 actions;			/* enum memx_attach_action, to be carried out by the session's worker */

	/* Changed only while no lane goes. */
	struct memx_slots slots;
	struct memx_records_table records;
	u64 seed, epoch;
	bool sizing;			/* the tables are being changed: no record is taken, which is all that needs them then */
	bool mapped;			/* the whole map of this epoch was handed over: records are welcome */
	bool gone;			/* nothing is taken any more */
};

/* -ENOMEM, -EINVAL; may sleep. @kind: of each lane; lane 0 is a store lane, and there is a fetch lane. */
int memx_engine_init(struct memx_engine *e, const struct memx_engine_ops *ops, void *ctx, const u8 *kind, u8 lanes,
		     u32 requests);
void memx_engine_free(struct memx_engine *e);	/* every item has ended, every lane is down */

/* ---- pages: any context that may copy some pages; never sleeps, never allocates ---- */

/* Takes the items on @list (ascending slots, one kind). Each ends through ops->done(), maybe before this returns. */
void memx_engine_submit(struct memx_engine *e, struct list_head *list);

/*
 * Discards @slot if that is due (slots.h), with @item, which then ends through ops->done(). False: none is due. @freed is
 * asked under the lock under which stores of the slot are queued, so what it says holds until the discard is in its place.
 */
bool memx_engine_discard(struct memx_engine *e, u32 slot, bool (*freed)(void *arg, u32 slot), void *arg,
			 struct memx_item *item);

/* ---- lanes ---- */

/*
 * Reads at most @frames frames; a fetch lane also sends what may go now. True: there is more to do for memx_lane_work(), from
 * the lane's thread. Interrupt context or not.
 */
bool memx_lane_receive(struct memx_lane *lane, unsigned int frames);
bool memx_lane_work(struct memx_lane *lane);	/* reads and sends, a bounded while; true: call it again. Process context. */

/* ---- the session's worker: one at a time, may sleep in the caller between calls ---- */

void memx_lane_up(struct memx_lane *lane, struct memx_vring *ring);	/* offered: hello is welcome */
/* Stops the lane. False: somebody still uses its ring, call again after a while. True: all that was out is pending. */
bool memx_lane_down(struct memx_lane *lane);
void memx_engine_go(struct memx_engine *e);	/* attached: limits set, requests flow */

/*
 * Takes the actions that are due; what the time brings (an offer, asking again) only if nothing else is: with the next call. Not to
 * be called before a WITHDRAW that was taken is carried out: a lane that is up still could take the next offer back.
 */
u32 memx_engine_take(struct memx_engine *e);
void memx_engine_act(struct memx_engine *e, u32 actions);	/* adds some (from the attach_*() calls, made under e->lock) */
/* The client of some lane has left. Any context. */
void memx_engine_departed(struct memx_engine *e);

/* Sends ATTACH and MAP frames from record *@next on. 1: all sent, 0: wait for room and call again, -EPROTO. */
int memx_engine_send_attach(struct memx_engine *e, bool *begun, u32 *next);
/* 1, 0, -EPROTO as above. Ends all other sending and waits (0) for what is out, but not for ever. */
int memx_engine_send_detach(struct memx_engine *e);

/* Makes the tables for what was agreed. -ENOMEM; may sleep. No item is anywhere, lanes are not going. */
int memx_engine_size(struct memx_engine *e, u32 slots, u8 order);
void memx_engine_unsize(struct memx_engine *e);

/* Tries again what was parked; gives up what is older than @before (0: nothing). */
void memx_engine_tick(struct memx_engine *e, u64 before);

/*
 * Sends what was put off to make a larger batch (reqs.h). To be called a few times a second while there may be something: one
 * extent whose donors are away must not hold up the pages of the others.
 */
void memx_engine_hurry(struct memx_engine *e);

/*
 * Has the lanes' threads look at the rings where something is expected of the relay, as if an event had come. To be called a few
 * times a second while swap is on: an event may be held back by what waits for the very page that it is about.
 */
void memx_engine_look(struct memx_engine *e);

/* From now on every item that is submitted ends with -EIO at once (superseded, or stopping); or no longer. */
void memx_engine_gone(struct memx_engine *e, bool gone);
/* Ends every item that is here with @err. Lanes are down, so that none is out. */
void memx_engine_abandon(struct memx_engine *e, int err);

/*
 * Ends the discards that are not out, where all that the donors hold is to be freed, for then they are for nothing, or where the
 * guest is being suspended (@suspending), which must not wait for them: their slots are told of again by the trimmer. To be called
 * in each round of the worker, for those that were out may wait again: the channel was lost, or the answer said "not now".
 */
void memx_engine_drop_discards(struct memx_engine *e, bool suspending);

/* Nothing pending, out, parked or held on any lane. */
bool memx_engine_idle(struct memx_engine *e);
/* Is there anything that waits for memx_engine_tick()? */
bool memx_engine_parked(struct memx_engine *e);

/* ---- between the files of the engine ---- */

void memx_lane_send(struct memx_lane *lane);	/* sends what may go, if nobody else does */
void memx_lane_lost(struct memx_lane *lane, const char *violation);	/* gives the channel up; NULL: the peer left */
/*
 * Gives the channel up if the relay has made the indices of our own ring what they cannot be. Under the lane's lock, which it lets
 * go then. Called at an event while nobody sends, by the reader; and by who sends before he stops, for an event that came meanwhile
 * has left the look to him. Either is the owner of his side still, so this is no later channel than the one that he used.
 */
void memx_lane_tx_look(struct memx_lane *lane, unsigned long *flags);
void memx_lane_tx_broken(struct memx_lane *lane);
bool memx_lane_tx_take(struct memx_lane *lane);	/* takes the sending side of a lane that is up; false: not now */
void memx_lane_tx_give(struct memx_lane *lane);
int memx_lane_tx_owed(struct memx_lane *lane, bool *notify);	/* the tx owner's: sends what is owed; as memx_frame_small() */
u32 memx_engine_route(struct memx_engine *e, struct memx_item *item, struct list_head *done);	/* returns the lane's bit */
void memx_engine_finish(struct memx_engine *e, struct list_head *done);	/* ops->done() for each, by item->error */
void memx_engine_push(struct memx_engine *e, u32 lanes);	/* memx_lane_send() for each bit */
/* What waited for the end of a store of @slot moves to @again, to be routed anew; under the lane's lock. */
void memx_lane_release(struct memx_lane *lane, u32 slot, struct list_head *again);
struct memx_lane *memx_engine_store_lane(struct memx_engine *e, u32 extent);
struct memx_lane *memx_engine_fetch_lane(struct memx_engine *e, u32 extent);

#endif /* MEMX_GUEST_LANE_H */
