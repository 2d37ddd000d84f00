/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * native.h - a guest as a process: the module's engine over lanes in shared memory.
 *
 * The engine (slots, records, requests, frames, attach states, lanes) is compiled from guest/, the channel is that of
 * user/shm.h, and here is what session.c and the Xen transport are in the kernel. Programs get slots to store to, to fetch
 * from and to discard. A guest waits for its relay, offers its lanes, attaches, and when the relay goes away offers them
 * anew: epoch raised, map handed over, what was not acknowledged sent again.
 *
 * A guest is driven by one thread: the caller's, by native_poll() and the blocking calls, or one of its own
 * (native_start(threaded)). Operations may be submitted from any thread in the second case. Operations end through done(),
 * on whichever thread finds the answer; it may submit more, but must not wait.
 */
#ifndef MEMX_NATIVE_H
#define MEMX_NATIVE_H

#include "../../guest/lane.h"

struct native;

struct native_config {
	const char *socket;		/* the relay's */
	const char *name;		/* who we say that we are */
	u8 uuid[16];
	u32 slots;			/* wanted; 0: what the quota allows */
	u8 replicas;			/* wanted; 0: what the relay configured */
	u8 store_lanes, fetch_lanes;	/* 0: one of each */
	u8 ring_order;			/* of the large direction of a lane; 0: the largest */
	u64 deadline_ns;		/* a page that waits longer fails; 0: waits for ever */
	bool verbose;			/* events to stderr */
};

struct native_op {
	struct memx_item item;		/* op, slot and page are set by the caller */
	int err;			/* how it ended */
	bool ended;
	void (*done)(struct native_op *op);	/* may be NULL */
	void *arg;
};

/* NULL: errno. @config is copied, its strings are not. */
struct native *native_new(const struct native_config *config);
/* Begins to offer. @threaded: a thread of its own drives the guest. 0 or -errno. */
int native_start(struct native *n, bool threaded);
/*
 * Ends the guest as a domain ends: whatever the donors hold is left to the relay, which is told the reason (suspend or
 * shutdown) or nothing (a crash). Operations that have not ended end with -ECANCELED.
 */
enum native_end { NATIVE_CRASH, NATIVE_SHUTDOWN, NATIVE_SUSPEND };
void native_free(struct native *n, enum native_end end);

/* Drives a guest that has no thread of its own for one round, which waits @max_wait_ns at most. */
void native_poll(struct native *n, u64 max_wait_ns);

/*
 * Waits until the session is in @state. 0, -ETIMEDOUT, or -ECONNREFUSED where it was refused (by now; native_reason()),
 * -ESHUTDOWN where it is superseded.
 */
int native_wait(struct native *n, enum memx_attach_state state, u64 timeout_ns);
/* The last refusal in plain words, "" if there was none since the last attach. Copied to @to. */
void native_reason(struct native *n, char *to, size_t size);

enum memx_attach_state native_state(struct native *n);
u32 native_slots(struct native *n);		/* 0 before the first attach */
u64 native_epoch(struct native *n);
u64 native_counter(const struct native *n, enum memx_counter what);
u64 native_bad_pages(const struct native *n);	/* pages lost or wrong for good, by what the engine says */
void native_session(struct native *n, u8 session[16]);
struct memx_agreed native_agreed(struct native *n);
/* What it holds of the placement of @extent; generation 0: nothing. */
struct memx_record native_record(struct native *n, u32 extent);

/* Submits @count operations of one kind with ascending slots. Each ends through done(), maybe before this returns. */
void native_submit(struct native *n, struct native_op *ops, u32 count);
/* The same for a list of their items. */
void native_submit_list(struct native *n, struct list_head *list);
/* Discards a slot whose content is not needed any more, through @op. False: nothing is due, @op is not used. */
bool native_discard_submit(struct native *n, u32 slot, struct native_op *op);

/*
 * Blocking: stores to, or fetches from @count slots from @slot on. 0, or the first error. native_discard(): also 0 where none
 * was due.
 */
int native_store(struct native *n, u32 slot, const void *pages, u32 count);
int native_fetch(struct native *n, u32 slot, void *pages, u32 count);
int native_discard(struct native *n, u32 slot);

/* Frees the session at the donors, as swapoff does; the next attach is a new session's. 0, -ETIMEDOUT. */
int native_detach(struct native *n, u64 timeout_ns);
/* A resume from suspend: a new lineage, a new offer. */
void native_resume(struct native *n);

#endif /* MEMX_NATIVE_H */
