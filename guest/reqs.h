/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * reqs.h - pages that wait, requests that are out, and the credits that bound them. The private truth of one lane.
 *
 * An item is one page's operation; its memory is the caller's, from submission to its end. A request is up to
 * MEMX_MAX_PAGES items of one kind and one extent with ascending slots; requests come from a table that is made once.
 *
 * Tags carry a generation besides the index, so that an answer to a request that was answered already, or never was, is
 * seen as what it is: a peer that lies. The ring is never consulted about what is outstanding.
 *
 * When to send [the rule of RFC 896, applied to pages]: a batch that is full goes at once; one that is not goes when nothing
 * is outstanding on this lane, or when an answer has come since it was put off. Fetches never wait. There is no timer here, but
 * what is out may be about an extent whose donors are all away, and be answered never: so the caller hurries what was put off,
 * from time to time (memx_reqs_hurry()).
 *
 * Locking: the caller's, one lock for all of it.
 */
#ifndef MEMX_GUEST_REQS_H
#define MEMX_GUEST_REQS_H

#include "port.h"

struct memx_item {
	struct list_head node;	/* the owner's while it is not submitted */
	u32 slot;
	u8 op;			/* MEMX_OP_STORE, _FETCH or _DISCARD */
	u8 tries;		/* definite errors so far */
	bool queued;		/* a store: its slot is BUSY for it */
	int error;		/* in passing between two steps */
	void *page;		/* MEMX_PAGE_SIZE bytes; NULL for a discard */
	u64 version;		/* as sent; a fetch: as wanted */
	u64 check;		/* store: as sent; fetch: to be verified against */
	u64 born;		/* ns, the caller's clock */
	void *owner;
};

enum memx_req_state {
	MEMX_REQ_FREE,
	MEMX_REQ_BUILT,		/* taken, being written into the ring */
	MEMX_REQ_SENT,		/* out; the only state in which an answer is welcome */
	MEMX_REQ_ENDING,	/* its answer is being read */
};

struct memx_req {
	struct memx_item *item[MEMX_MAX_PAGES];	/* NULL: given up by its owner, the answer is dropped */
	u32 slot[MEMX_MAX_PAGES];
	u64 tag;
	u64 generation;		/* of this entry */
	u32 extent;
	u32 reply_max;		/* bytes held in the reply ring for it */
	u16 count;
	u8 op;
	u8 state;		/* enum memx_req_state */
	u64 sent;		/* ns */
	struct list_head node;	/* free, or out in the order of sending */
};

struct memx_reqs {
	struct memx_req *table;
	u32 size;		/* entries, at most 65536 */
	struct list_head free;
	struct list_head out;
	struct list_head pending;	/* items, oldest first */
	u32 n_pending;
	bool answered;		/* since a batch was put off: the next partial one may go */
	bool hurried;		/* partial ones go, until there is an answer or nothing is left */

	/* What is allowed and what is used of it. */
	u8 order;		/* log2 of slots per extent */
	u32 max_pages;		/* per request */
	u32 limit_requests, limit_pages, limit_reply;
	u32 used_requests, used_pages, used_reply;
};

int memx_reqs_init(struct memx_reqs *q, u32 size);	/* -ENOMEM, -EINVAL; may sleep. No limits set: nothing can be sent. */
void memx_reqs_free(struct memx_reqs *q);

/*
 * What this attachment allows: @requests and @pages from the relay, @reply_ring bytes of the reply ring, whose reserve for
 * records is taken off here, @request_ring bytes of the other. -EPROTO: not even one page would go.
 */
int memx_reqs_limits(struct memx_reqs *q, u8 kind, u8 order, u32 max_pages, u32 requests, u32 pages, u32 reply_ring,
		     u32 request_ring);	/* @kind: enum memx_lane_kind */

void memx_reqs_queue(struct memx_reqs *q, struct memx_item *item);	/* at the end */
void memx_reqs_requeue(struct memx_reqs *q, struct memx_item *item);	/* at the front */

/* What is put off need not wait any longer for an answer to what is out. True: there is something, so look what may go. */
bool memx_reqs_hurry(struct memx_reqs *q);

/*
 * Takes the next request that may go now, or NULL: nothing is pending, the credits are used up, or a partial batch is put
 * off. Its items leave the pending list; state BUILT, credits taken, tag drawn. Looks a bounded way down the list for more
 * of the same extent.
 */
struct memx_req *memx_reqs_next(struct memx_reqs *q);
/* Undoes memx_reqs_next() (the ring has no room): the items are first in the list again, in their order. */
void memx_reqs_unget(struct memx_reqs *q, struct memx_req *r);
/* Only the first @count items of a request that is BUILT are left; the rest were taken out by the caller. */
void memx_reqs_shrink(struct memx_reqs *q, struct memx_req *r, u32 count);
void memx_reqs_sent(struct memx_reqs *q, struct memx_req *r, u64 now);

/* The request that @tag of an answer to @op names, now ENDING; NULL: no such request is out. */
struct memx_req *memx_reqs_answer(struct memx_reqs *q, u64 tag, u16 op);
/* Its answer was dealt with: the entry is free, the credits are back. */
void memx_reqs_end(struct memx_reqs *q, struct memx_req *r);

/*
 * The channel is lost: all that was out is pending again, before what was pending, in order. No request may be BUILT or ENDING.
 * Returns the pages among it that will be stored or fetched again.
 */
u32 memx_reqs_lost(struct memx_reqs *q);

/*
 * Gives up items older than @before (ns): moves them to @to, whether pending or out. What is out stays out, without them.
 */
u32 memx_reqs_expire(struct memx_reqs *q, u64 before, struct list_head *to);

bool memx_reqs_idle(const struct memx_reqs *q);		/* nothing pending, nothing out */

#endif /* MEMX_GUEST_REQS_H */
