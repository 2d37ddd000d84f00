/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * internal.h - the native guest's parts for each other.
 *
 * driver: the one thread that waits, reads lanes and carries out the session's actions. What it alone touches stands under
 * "driver". Everybody else goes through the engine, whose locks lane.h describes, or through `lock`.
 */
#ifndef MEMX_NATIVE_INTERNAL_H
#define MEMX_NATIVE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <user/shm.h>

#include "native.h"

enum {
	NATIVE_SESSION	= 1U << 31,	/* in `due`: memx_engine_take() is due; bits below: memx_lane_work() of a lane */
	NATIVE_STOP	= 1U << 30,
};

struct native {
	struct native_config config;
	struct memx_engine engine;
	u8 lanes;
	struct memx_shm_lane lane[MEMX_MAX_LANES];

	/* any thread */
	_Atomic u32 due;		/* what the driver is to do */
	_Atomic bool driver_waits;	/* it must be woken for it */
	int wake;			/* eventfd */
	_Atomic u64 counters[MEMX_C_COUNT];
	_Atomic u64 bad_pages;

	pthread_mutex_t lock;		/* state, for those who wait: `changed` */
	pthread_cond_t changed;
	char reason[128];

	pthread_t thread;
	bool threaded;

	/* driver */
	int epoll;
	int sock;			/* to the relay; -1: none */
	u32 actions;			/* begun and not finished */
	bool attach_begun;
	u32 attach_next;
	bool offered;			/* the offer was sent over `sock` */
	u64 tick_at;			/* 0: none */
	u64 hurry_at;			/* 0: not attached yet */
	u64 connect_at;			/* 0: none */
};

/* link.c */
int native_link_new(struct native *n);
void native_link_free(struct native *n);
int native_link_watch(struct native *n);
void native_link_offer(struct native *n, u64 now);	/* under the nonce of the engine's; tries until the relay is there */
void native_link_withdraw(struct native *n);
void native_link_message(struct native *n);		/* the relay's socket is readable */
enum memx_vchan_client native_link_peer(void *ctx, unsigned int lane);	/* engine ops */
void native_link_notify(void *ctx, unsigned int lane);

/* session.c */
void native_session_act(struct native *n, u64 now);
void native_changed(struct native *n);
void native_say(struct native *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void native_refused(struct native *n, const char *why);

#endif /* MEMX_NATIVE_INTERNAL_H */
