/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * attach.h - from an offer in XenStore to pages that move, and back again: the session's states.
 *
 *   DOWN -offer-> OFFERED -all lanes said hello-> ATTACHING -answer OK-> ATTACHED
 *                    ^                              | ^                    |
 *                    |                       refused| |retry time          |channel lost, resume
 *                    |                              v |                    v
 *                    |                            REFUSED ------------> DOWN (withdraw, then offer again)
 *
 * beside these: DETACHING (asked to free the session, from ATTACHED) and GONE (superseded with swap on: final).
 *
 * Events and the time go in, actions come out; the caller carries them out in the order of their bits. The epoch is raised
 * before every attempt to attach. A session's identity and its epoch live here and change nowhere else.
 *
 * Locking: the caller's.
 */
#ifndef MEMX_GUEST_ATTACH_H
#define MEMX_GUEST_ATTACH_H

#include "port.h"

enum memx_attach_state {
	MEMX_A_STOPPED,		/* before start, after stop */
	MEMX_A_DOWN,		/* nothing offered; offers at retry_at */
	MEMX_A_OFFERED,		/* waits for the relay's hello on every lane */
	MEMX_A_ATTACHING,	/* ATTACH and MAP go out, the answer is awaited */
	MEMX_A_REFUSED,		/* asks again at retry_at, over the same channel */
	MEMX_A_ATTACHED,
	MEMX_A_DETACHING,	/* DETACH is out */
	MEMX_A_GONE,		/* superseded: another copy of this guest owns the session, and the pages in it */
	MEMX_A_STATES
};

enum memx_attach_action {
	MEMX_ACT_WITHDRAW	= 1 << 0,	/* stop the lanes, take the offer back, requests out are pending again */
	MEMX_ACT_OFFER		= 1 << 1,	/* offer under .offer; on failure call memx_attach_offer_failed() */
	MEMX_ACT_CONNECTED	= 1 << 2,	/* memx_link_connected() */
	MEMX_ACT_ATTACH		= 1 << 3,	/* send ATTACH and the MAP frames at .epoch */
	MEMX_ACT_SIZE		= 1 << 4,	/* (re)make the tables for .slots and .extent_order */
	MEMX_ACT_GO		= 1 << 5,	/* requests may flow, with the limits in .agreed */
	MEMX_ACT_DETACH		= 1 << 6,	/* send DETACH */
	MEMX_ACT_DETACHED	= 1 << 7,	/* the session is freed (or another copy's): a new one was drawn, its tables are void */
	MEMX_ACT_REFUSED	= 1 << 8,	/* say .status in plain words */
	MEMX_ACT_GONE		= 1 << 9,	/* say so loudly; I/O will not come back */
};

/* Those that are about one channel: void once that is lost. */
#define MEMX_ACT_CHANNEL	((u32)(MEMX_ACT_OFFER | MEMX_ACT_CONNECTED | MEMX_ACT_ATTACH | MEMX_ACT_GO | MEMX_ACT_DETACH))

struct memx_agreed {		/* host order, checked */
	u32 slots;
	u32 lane_requests, lane_pages;
	u8 extent_order, replicas, max_pages;
};

struct memx_attacher {
	enum memx_attach_state state;
	u8 lanes;
	u8 hello;		/* lanes that said it, a bit each */
	u8 kind[MEMX_MAX_LANES];
	u64 offer;		/* nonce of the current offer */
	u64 instance;		/* of this load of the module */
	u64 features;		/* in use with this relay: the same on every lane */
	u64 retry_at;		/* ns; 0: none */

	u8 session[16];
	u64 epoch;		/* of the last attempt */
	u32 stride;		/* how far the next attempt raises it: doubled by each FENCED in a row */
	u64 lineage[MEMX_MAX_LINEAGE];
	u64 known;		/* that of the last successful attach, never forgotten; 0: none yet */
	u64 known_epoch;	/* the epoch of that attach; 0: none yet */
	bool shown;		/* lineage[0] went out with an ATTACH: donors may hold it */
	u8 unsure;		/* of those before it: shown since the last success, so that donors may hold them */

	u32 slots_wanted;	/* before the first attach; 0: what the quota allows, up to slots_max */
	u32 slots_max;		/* more than this is not taken (the table would not fit into this guest) */
	u8 replicas_wanted;
	bool sized;		/* .agreed holds what the tables were made for */
	bool frozen;		/* swapon happened: sized for good */
	bool detach;		/* the session is to be freed as soon as it is attached */
	u32 status;		/* of the last refusal */
	u32 attempts;		/* that came to nothing, for the delay */
	u64 since;		/* ns; attached, or detaching, since */
	bool busy;		/* the offer failed because the client of the one before is still there ... */
	bool departed;		/* ... or has one gone since the offer was made? */
	struct memx_agreed agreed;

	u64 (*random)(void *ctx);
	void (*entered)(void *ctx, enum memx_attach_state state, u64 epoch);	/* told of each change of the state; may be NULL */
	void *ctx;
};

/* Lanes and what to ask for are set by the caller; draws the session. */
void memx_attach_init(struct memx_attacher *a, u8 lanes, const u8 *kind, u64 (*random)(void *ctx), void *ctx);

u32 memx_attach_start(struct memx_attacher *a, u64 now);
/* @busy: the client of an earlier offer is still there. Its departure is waited for, and looked for from time to time. */
u32 memx_attach_offer_failed(struct memx_attacher *a, bool busy, u64 now);
/* A client left. Where an offer waits for that, it is due now. */
void memx_attach_departed(struct memx_attacher *a, u64 now);
/* A HELLO on @lane. Negative: the channel is to be given up (call memx_attach_lost()). Else actions; the lane answers it. */
int memx_attach_hello(struct memx_attacher *a, u8 lane, const struct memx_hello *hello, u16 *proto);
/* The answer to ATTACH. @body valid where the status is OK, else its retry_ms. Negative: as above. */
int memx_attach_reply(struct memx_attacher *a, u32 status, const struct memx_attached *body, u64 epoch, u64 now);
u32 memx_attach_lost(struct memx_attacher *a, u64 now);
/* The session is to be freed, now or when a relay is there again. */
u32 memx_attach_detach(struct memx_attacher *a, u64 now);
u32 memx_attach_detached(struct memx_attacher *a, u32 status, u64 now);
/*
 * May the guest be suspended? Each resume draws a lineage. False: swap is on, and another one would drive out one that donors may
 * hold, for none of the last attempts to attach was granted; so one of them has to be first. Only memx_attach_build() can turn it
 * to false.
 */
bool memx_attach_may_suspend(const struct memx_attacher *a);
/*
 * The end of a suspend, in whichever world, also in the old one: an image of this guest may have been kept and live on beside
 * it. A new lineage, a new offer. One that was never shown to anybody gives its place to the new one.
 */
u32 memx_attach_resumed(struct memx_attacher *a, u64 now);
u32 memx_attach_tick(struct memx_attacher *a, u64 now);
void memx_attach_stop(struct memx_attacher *a);

/* The ATTACH body, which goes out now: with it the lineage counts as shown. */
void memx_attach_build(struct memx_attacher *a, u32 records, struct memx_attach *to);
void memx_attach_hello_build(const struct memx_attacher *a, u8 lane, u16 proto, struct memx_hello *to);

/* Plain words for a refusal, and for a state. */
const char *memx_attach_why(u32 status);
const char *memx_attach_state_name(enum memx_attach_state state);

#endif /* MEMX_GUEST_ATTACH_H */
