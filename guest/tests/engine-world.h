/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * engine-world.h - the guest's engine and a relay that is played, in one process and one thread, for the tests of the engine.
 *
 * The relay end of every lane is the same ring arithmetic; behind it is a table of pages by slot with versions, which may
 * lose, damage and refuse what it is asked. Virtual time: the clock moves when a test says so. Nobody does anything that he was
 * not woken for, on either side: an event or a wake-up that is forgotten is work that is never done. A test may have lanes work
 * in threads of its own.
 */
#ifndef MEMX_ENGINE_WORLD_H
#define MEMX_ENGINE_WORLD_H

#include <stdarg.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../lane.h"

enum {
	LANES		= 3,
	RING		= 1 << 19,
	SMALL		= 1 << 14,
	SLOTS		= 4096,
	ITEMS		= 512,
	ORDER		= 8,
};

struct kept {
	u64 version;
	bool there;
	struct memx_trailer trailer;
	u8 page[MEMX_PAGE_SIZE];
};

struct world {
	struct memx_engine e;
	struct memx_vring guest[LANES], relay[LANES];
	struct memx_vchan_page shr[LANES];
	u8 *left[LANES], *right[LANES];
	u32 left_size[LANES], right_size[LANES];
	u8 kind[LANES];
	u64 now, rnd;
	bool kicked[LANES];	/* the relay sent an event */
	bool relay_awake[LANES]; /* it was sent one, and has not found the ring empty since */
	bool woken_session;	/* the worker was woken */
	bool suspending;	/* the guest is about to be suspended */
	u64 counter[MEMX_C_COUNT];
	int violations, bad_pages;
	u32 actions;
	u32 woken;		/* lanes whose threads were woken, a bit each */
	bool begun, sending, detach;
	u32 next;
	/* relay */
	struct kept *kept;
	u64 epoch;
	u32 records_told, records_seen;	/* by ATTACH; and in the map behind it */
	bool hello_sent[LANES];
	bool attached, silent;
	bool away;		/* nobody comes to an offer */
	u32 stuck;		/* one more than the number of an extent whose stores are not answered; 0: none */
	u32 asked, attaches;	/* slots of the last ATTACH; and how many came */
	u32 refuse;		/* status for ATTACH */
	u32 fail_store, fail_fetch, fail_discard;	/* status for a while */
	u32 fail_left;
	bool partial, damage;
	bool gives_back;	/* gives back a byte more than it was sent, while the guest sends a store to it */
	_Alignas(8) u8 buf[MEMX_MAX_FRAME];
	_Alignas(8) u8 out[MEMX_MAX_FRAME];
	/* items */
	struct memx_item item[ITEMS];
	u8 data[ITEMS][MEMX_PAGE_SIZE];
	int err[ITEMS];
	int ended[ITEMS];
	u32 outstanding;
};

/* cmocka's set-up and end of a test: the engine offers, or is attached already. In the end every item must have ended. */
int setup(void **state);
int setup_attached(void **state);
int teardown(void **state);

u64 rnd(struct world *w);
/* Lets everything run until nothing moves any more. */
void run(struct world *w);
/* Lets time pass, with a tick at its end, and everything run. */
void pass(struct world *w, u64 ms);
/* The relay dies: its live bytes are cleared, which every lane sees. */
void crash(struct world *w);

/* What the relay says by itself. */
void relay_send(struct world *w, u8 lane, const struct memx_head *head, const void *body);
void relay_hello(struct world *w, u8 lane);
void relay_record(struct world *w, u32 extent, u64 generation);

/* Items: @i or @first is the first of the world's items to be used, @what says what is in the pages. */
void put(struct world *w, struct list_head *list, u32 i, u8 op, u32 slot);
void store(struct world *w, u32 first, u32 slot, u32 n, u64 what);
void fetch(struct world *w, u32 first, u32 slot, u32 n);
/* They ended, each once, with @err; and hold what was stored. */
void ended(struct world *w, u32 first, u32 n, int err);
void holds(struct world *w, u32 first, u32 slot, u32 n, u64 what);

#endif /* MEMX_ENGINE_WORLD_H */
