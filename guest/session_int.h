/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * session_int.h - the session as its own files see it: session.c (life), worker.c (the attachment), swapio.c (pages),
 * trim.c (freed slots), look.c (for sysfs and debugfs), swapfs.c.
 *
 * Threads: the worker carries out what the attach states ask for, alone; each lane has a thread for what its interrupt
 * handler leaves over. None is freezable, for pages move while the rest of the guest is being frozen. What they do while
 * swap is on they do with PF_MEMALLOC: should something allocate, it must not wait for reclaim, which may wait for it.
 *
 * Locks, outermost first: the swap file's inode lock (swapon, the kernel's) - work_mutex (a round of the worker; suspend) -
 * trim_mutex, or fs_mutex and in it the lock of the header's folio (swapfs.c) - engine.lock, lane locks, pool locks (see lane.h;
 * taken in interrupts, none inside another but as said there) - reason_lock. trim_mutex is also taken alone, fs_mutex also inside
 * the super block's s_umount. Whoever reads the header gives its folio back before he takes work_mutex or waits. Nothing that can
 * wait for a page is done under any of them.
 */
#ifndef MEMX_GUEST_SESSION_INT_H
#define MEMX_GUEST_SESSION_INT_H

#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "module.h"
#include "pool.h"
#include "session.h"
#include "transport.h"

enum {
	MEMX_TICK_MS		= 500,	/* pages that met an error are tried again so often */
	MEMX_TRIM_ITEMS		= 256,	/* discards under way */
	MEMX_AGAIN_MS		= 15000, /* a swapon waits so long for the session that follows a swapoff's */
#ifdef MEMX_UNSAFE_RECLAIM
	MEMX_IRQ_FRAMES		= 0,	/* see reclaim.h */
#else
	MEMX_IRQ_FRAMES		= 4,	/* frames that an interrupt handler reads before it leaves the rest to the thread */
#endif
	MEMX_REQUESTS		= 256,	/* per lane */
};

struct memx_lane_thread {
	struct task_struct *task;
	struct wait_queue_head wait;
	unsigned long due;		/* bit 0 */
	struct memx_session *session;
	u8 index;
};

struct memx_session {
	struct memx_session_config config;
	memx_session_event_fn event;
	void *event_ctx;

	struct memx_engine engine;
	struct memx_link *link;
	struct memx_pool stores, fetches, discards;
	struct memx_lane_thread lanes[MEMX_MAX_LANES];

	/* the worker */
	struct task_struct *worker;
	struct wait_queue_head work_wait;
	unsigned long work_due;		/* bit 0 */
	struct mutex work_mutex;	/* a round of the worker; the fields up to the next comment */
	bool quiescing;			/* quiesce waits: no new discards, and those that wait end */
	bool suspended;			/* between quiesce and resume: the worker leaves everything alone */
	bool renew_due;			/* grants and ports have to be renewed; tried again until that works */
	bool may_write;			/* as far as suspend and resume go; see memx_session_writes() */
	bool sending, sending_begun;	/* ATTACH and MAP are going out */
	u32 sending_next;
	bool detach_due;		/* DETACH is to be sent */
	bool attached;			/* requests flow; to tell a loss from a channel that never worked */
	bool ready;			/* MEMX_EV_READY was told for this session */
	u32 said_status;		/* refusal that is in the log already */
	unsigned long said_at;		/* jiffies */
	unsigned long next_tick;	/* jiffies */
	u64 next_retry;			/* ns; 0: nothing waits for one */

	/* read anywhere */
	atomic64_t counter[MEMX_C_COUNT];
	atomic64_t latency[MEMX_LAT_COUNT][MEMX_BUCKETS];
	atomic_t ops;			/* requests of the swap core under way: swap_enter() to swap_leave() */
	atomic_t pages;			/* their pages, and discards */
	struct wait_queue_head idle_wait;	/* ops or pages went to 0; a detach ended */
	u32 slots;			/* granted; 0 before the first attach of this session */
	u32 deadline_ms, trim_pages;
	bool writes;			/* else they fail at once; see swap_enter() */
	struct workqueue_struct *freezable;	/* for .thawed alone */
	struct work_struct thawed;	/* after a suspend, also one that was refused: allows them, and resumes where nobody did */
	bool started, stopping;
	bool gone;			/* superseded */

	/* swap */
	struct mutex trim_mutex;	/* sis, trim_next: the trimmer reads through sis only under it */
	struct swap_info_struct *sis;	/* while swap is on */
	bool swapped;			/* it was on at some time */
	bool hibernating;		/* under work_mutex: it must not come on */
	u32 trim_next;

	spinlock_t reason_lock;		/* reason */
	char reason[MEMX_REASON_MAX];
};

/* session.c */
void memx_session_wake(struct memx_session *s);
void memx_session_count(struct memx_session *s, enum memx_counter what, u64 n);
void memx_session_set_reason(struct memx_session *s, const char *reason);

/* worker.c */
int memx_worker(void *arg);
/* Both under work_mutex. They wait for whoever is in a ring, which is as long as some pages take to copy. */
void memx_worker_lanes_down(struct memx_session *s);
void memx_worker_resume(struct memx_session *s);	/* the attachment is of the time before the resume */

/* swapio.c */
extern const struct memx_engine_ops memx_session_engine_ops;
void memx_session_kick(void *ctx, unsigned int lane);
int memx_lane_thread(void *arg);

/* trim.c: looks at some slots. Called by the worker while attached. */
void memx_trim(struct memx_session *s);

/* swapfs.c: the size of the file, in pages; 0: not known (again). */
void memx_swapfs_resize(u32 slots);

#endif /* MEMX_GUEST_SESSION_INT_H */
