/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * loop.h - an event loop on epoll: descriptors, timers, signals, deferred work, messages from other threads.
 *
 * A loop belongs to the thread that runs it. Everything here is called on that thread, or before it runs, with one exception:
 * memx_mail_post(). The structures are embedded in their owners, nothing is allocated per event. A watch, timer or work may be
 * taken away from any callback, its own included.
 *
 * One round: wait, descriptors, mail, timers, then deferred work until there is none. Work is where batches end: what a round
 * has put into output queues is flushed once, by work that the first of them queued.
 */
#ifndef MEMX_USER_LOOP_H
#define MEMX_USER_LOOP_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "user/text.h"

struct memx_loop;

struct memx_loop *memx_loop_new(void);		/* NULL: errno says why */
void memx_loop_free(struct memx_loop *loop);	/* what is still registered is forgotten, not closed */

/* Runs until memx_loop_stop(); 0 or -errno. */
int memx_loop_run(struct memx_loop *loop);
void memx_loop_stop(struct memx_loop *loop);
/* One round that waits @max_wait_ns at most (UINT64_MAX: as long as it takes), for tests and tools. 0 or -errno. */
int memx_loop_round(struct memx_loop *loop, uint64_t max_wait_ns);

/* The time at which this round began to work, CLOCK_MONOTONIC ns. */
uint64_t memx_loop_now(const struct memx_loop *loop);
/*
 * By how much this round came later than it was due, ns: what the previous round took, and how late the timer that ended
 * the wait was. A loop that was stopped, starved or emulated badly shows here; nobody is to be judged by its clock then.
 */
uint64_t memx_loop_lag(const struct memx_loop *loop);

/* ---- descriptors: level-triggered ------------------------------------------------------------------------------------ */

struct memx_watch {
	int fd;					/* -1: not registered */
	uint32_t events;
	struct memx_loop *loop;
	void (*ready)(struct memx_watch *watch, uint32_t events);
};

#define MEMX_WATCH_INIT { .fd = -1 }

int memx_watch_add(struct memx_loop *loop, struct memx_watch *watch, int fd, uint32_t events,
		   void (*ready)(struct memx_watch *watch, uint32_t events));
int memx_watch_events(struct memx_watch *watch, uint32_t events);	/* changes what is waited for */
void memx_watch_del(struct memx_watch *watch);				/* fine if not registered; does not close */

/* ---- timers: fire once ------------------------------------------------------------------------------------------------- */

struct memx_timer {
	uint64_t at;				/* ns */
	uint32_t place;				/* in the heap, from 1; 0: not set */
	struct memx_loop *loop;
	void (*fire)(struct memx_timer *timer, uint64_t now);
};

/* Sets or moves @timer to the time @at (past: next round). -ENOMEM. */
int memx_timer_set(struct memx_loop *loop, struct memx_timer *timer, uint64_t at,
		   void (*fire)(struct memx_timer *timer, uint64_t now));
void memx_timer_cancel(struct memx_timer *timer);
static inline bool memx_timer_pending(const struct memx_timer *timer)
{
	return timer->place;
}

/* ---- listening sockets ------------------------------------------------------------------------------------------------ */

struct memx_listener {
	struct memx_watch watch;
	struct memx_timer rest;
};

/* Takes over the listening socket @fd where it returns 0; or -errno. */
int memx_listener_open(struct memx_loop *loop, struct memx_listener *listener, int fd,
		       void (*ready)(struct memx_watch *watch, uint32_t events));
/*
 * accept() failed with @err (negative). Where it is not about that one connection, but for want of descriptors or memory, the socket
 * stays ready, and the loop would spin: it is left alone for a moment. False: there just was nobody.
 */
bool memx_listener_failed(struct memx_listener *listener, int err);
void memx_listener_close(struct memx_listener *listener);	/* and the socket; fine if not open */

/* ---- deferred work: at the end of this round ---------------------------------------------------------------------------- */

struct memx_work {
	struct memx_work *next, **prev;		/* prev NULL: not queued */
	struct memx_loop *loop;
	void (*run)(struct memx_work *work);
};

void memx_work_queue(struct memx_loop *loop, struct memx_work *work);	/* once, however often it is called */
void memx_work_cancel(struct memx_work *work);

/* ---- mail: from any thread to the loop's -------------------------------------------------------------------------------- */

struct memx_mail {
	struct memx_mail *next;
	void (*deliver)(struct memx_mail *mail);	/* on the loop's thread, which then owns @mail */
};

void memx_mail_post(struct memx_loop *loop, struct memx_mail *mail);

/* ---- signals ------------------------------------------------------------------------------------------------------------- */

/*
 * Blocks @set in this thread (call before others are made, they inherit it) and has @handle called with the number of each
 * that comes. Once per loop. 0 or -errno.
 */
int memx_loop_signals(struct memx_loop *loop, const sigset_t *set, void (*handle)(void *arg, int sig), void *arg);

#endif /* MEMX_USER_LOOP_H */
