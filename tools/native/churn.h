/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * churn.h - load that knows what every slot must hold: random stores, fetches and discards, many in flight, each fetch
 * verified byte by byte against the last store that was acknowledged.
 *
 * A model of the slots belongs to the churn and outlives its running: churn_check() fetches every slot. A slot has one
 * operation at a time. The guest is threaded; operations end on its thread.
 */
#ifndef MEMX_CHURN_H
#define MEMX_CHURN_H

#include "native.h"

struct churn;

struct churn_config {
	u64 seed;
	u64 salt;
	u32 first, count;	/* slots */
	u32 depth;		/* operations in flight */
	u32 store_part;		/* of 100 operations; a tenth of the rest is discards */
	u32 max_run;		/* up to so many neighbouring slots in one submission */
	u32 rate;		/* operations per second at most; 0: as many as go */
	bool fill;		/* begin with a store to each slot, in order */
};

struct churn_stat {
	u64 stores, fetches, discards;	/* that ended well */
	u64 wrong;			/* fetches that brought other bytes, or bytes where nothing can be, or nothing where some must */
	u64 lost;			/* among the wrong: nothing where some must be */
	u64 errors;			/* operations that failed */
	u64 nospace;			/* stores among them for which there was no room */
	u64 unread;			/* fetches of pages that must be there which ended with an error: SIGBUS, in a kernel */
	u64 longest_ns;			/* from submission to end; those in flight count as if they ended now */
	u64 longest_fetch_ns;		/* the same for fetches alone */
	u64 in_flight;
	u64 oldest_ns;			/* since when the oldest of them is under way */
};

struct churn *churn_new(struct native *guest, const struct churn_config *config);
void churn_start(struct churn *c);		/* in a thread of its own */
void churn_halt(struct churn *c);		/* nothing is submitted any more when it returns */
void churn_stop(struct churn *c);		/* waits for what is in flight: for as long as that takes */
void churn_stat(struct churn *c, struct churn_stat *to, bool clear_longest);
/* Fetches every slot of the model. Returns how many are wrong or missing; @text says of the first what. */
u64 churn_check(struct churn *c, char *text, size_t size);
void churn_free(struct churn *c);

#endif /* MEMX_CHURN_H */
