/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * session.h - the module's one session, for those who start it, suspend it and look at it.
 *
 * The session owns the link (transport.h), the engine (lane.h), one thread per lane, one worker thread and the pools of
 * preallocated operations. main.c makes it at load and ends it at unload, pm.c stops and restarts it around a suspend,
 * sysfs.c and debugfs.c read it, swapfs.c and the hook files bring it the kernel's pages.
 *
 * Reading counters and state is wait-free and allowed in any context for as long as the session exists.
 */
#ifndef MEMX_GUEST_SESSION_H
#define MEMX_GUEST_SESSION_H

#include <linux/types.h>
#include "lane.h"

struct memx_session;
struct swap_info_struct;
struct file;
struct kiocb;
struct iov_iter;
struct device;

struct memx_session_config {
	u32 slots;		/* wanted, in pages; 0: what Dom0's quota gives */
	u8 replicas;		/* wanted; 0: what Dom0 configured */
	u8 store_lanes;		/* 1 .. */
	u8 fetch_lanes;		/* 1 ..; together at most MEMX_MAX_LANES */
	u8 ring_order;		/* log2 bytes of the large direction of each lane; 0: scaled to RAM */
	u32 deadline_ms;	/* a page that waits longer fails; 0: waits for ever */
	u32 trim_pages;		/* slots that the trimmer looks at per second, within memx_trim_looks(); 0: no trimming */
};

enum memx_session_event {
	MEMX_EV_READY,		/* first attach of this session: size is known, swapon would work. Raise the uevent. */
	MEMX_EV_ATTACHED,	/* attached again */
	MEMX_EV_LOST,		/* the relay went away; I/O waits */
	MEMX_EV_REFUSED,	/* the relay or the toolstack said no; the reason is in the log and in memx_session_reason() */
	MEMX_EV_GONE,		/* superseded: gave up for good */
};

/* Called by the session's worker (process context; may sleep, must not wait for pages). */
typedef void (*memx_session_event_fn)(void *ctx, enum memx_session_event event);

/* ---- life ---- */

/* Makes session, link, pools and threads; nothing is visible to anybody yet. ERR_PTR: -ENOMEM, -EINVAL, the link's errors. */
struct memx_session *memx_session_create(const struct memx_session_config *config, memx_session_event_fn event, void *ctx);
/* Offers the channel from now on. */
void memx_session_start(struct memx_session *s);
/*
 * Frees the session at the donors if a relay answers within @detach_ms, withdraws the offer, ends the threads. Swap must be
 * off (the module is pinned while it is on). May be called once; readers of counters are still welcome.
 */
void memx_session_stop(struct memx_session *s, unsigned int detach_ms);
/* Gives back link and memory. Returns pages leaked to a peer that still maps them. */
unsigned int memx_session_destroy(struct memx_session *s);

/* The pseudo file system "memx" with the one file "swap"; after create, before start / after stop, before destroy. */
int memx_swapfs_register(struct memx_session *s);
void memx_swapfs_unregister(void);

/* ---- suspend and resume (called from dev_pm_ops; user space is frozen) ---- */

/*
 * .freeze: new writes fail at once (their pages stay dirty), and what is in flight is waited for, at most @timeout_ms, while
 * the session goes on: a relay that comes back meanwhile is attached and answers it. -EBUSY: something is still in flight;
 * -EAGAIN: the donors may know lineages that one more would drive out (memx_attach_may_suspend()); everything is as before the
 * call, but that writes fail until the tasks are thawed.
 * 0: no store is in flight or will be, nor a discard but of a session that is to be freed as a whole (swap is off), and no lane uses
 * its ring until the session is resumed. A fetch that comes later waits for that.
 */
int memx_session_quiesce(struct memx_session *s, unsigned int timeout_ms);
/*
 * .restore and .thaw: grants and ports may be void, the domain may be another; or nothing had happened, but an image of the
 * guest was kept, which may be restored beside it. The attachment ends here and now, so that nothing more is stored in the
 * name of the old lineage. The rest is done in the background: renews what is void (memx_link_resume()), offers anew with a
 * new lineage. Works also without a quiesce before. Never waits for a relay. Writes still fail until memx_session_writes().
 */
void memx_session_resume(struct memx_session *s);
/* .complete: may writes be taken (true), or do they fail at once (false)? */
void memx_session_writes(struct memx_session *s, bool allowed);

/* Hibernation begins (true) or is over. False: it must not begin, for swap is on. Until it is over swapon is refused. */
bool memx_session_hibernates(struct memx_session *s, bool begins);
/* Is swap on? A look without promise. */
bool memx_session_swap_on(const struct memx_session *s);

/* ---- looking ---- */

enum memx_attach_state memx_session_state(const struct memx_session *s);	/* names: memx_attach_state_name() */
u32 memx_session_slots(const struct memx_session *s);		/* pages granted, header included; 0 before the first attach */
u64 memx_session_epoch(const struct memx_session *s);
u64 memx_session_counter(const struct memx_session *s, enum memx_counter what);	/* names and sentences: MEMX_COUNTERS */
u32 memx_session_inflight(const struct memx_session *s);	/* pages submitted and not ended */
unsigned int memx_session_lanes(const struct memx_session *s);
/* What lane @lane (below memx_session_lanes()) is for and what its channel has seen. */
struct memx_lane_counters;
void memx_session_lane(const struct memx_session *s, unsigned int lane, u8 *kind, struct memx_lane_counters *to);
/* How it stands with a lane at one moment. Takes the lane's lock for a short while. Times are ages in ms. */
struct memx_lane_stand {
	bool up, go, failed;
	bool tx_owner, tx_again, rx_owner, rx_again;
	bool due;			/* its thread has been woken and has not begun */
	u32 pending, parked, held, owed;	/* items here; answers owed to the relay */
	u32 requests, requests_max;	/* out, and the credits for them */
	u32 pages, pages_max;
	u32 reply, reply_max;		/* bytes of the reply ring held for what is out */
	u64 pending_ms, out_ms;		/* the oldest of each; 0: none */
	/* The ring, all 0 where the lane is not up: bytes to be read by the relay and by this side, and who wants events of what. */
	u32 tx_used, tx_size, rx_ready, rx_size;
	u8 wish_own, wish_peer;
	bool live;			/* the relay has the channel open */
};
void memx_session_lane_stand(struct memx_session *s, unsigned int lane, struct memx_lane_stand *to);
size_t memx_session_memory(const struct memx_session *s);	/* bytes that the tables, pools and rings take */
void memx_session_id(struct memx_session *s, u8 id[16]);
u8 memx_session_replicas(const struct memx_session *s);	/* copies agreed on; 0 before the first attach */
u8 memx_session_extent_order(const struct memx_session *s);
/* The last refusal in plain words, "" if none; at most @len - 1 bytes. */
void memx_session_reason(const struct memx_session *s, char *to, size_t len);

/*
 * Latencies of pages, from the swap core's call to the end of the request that they came with, by powers of two of microseconds:
 * bucket b counts [2^(b-1), 2^b) us, bucket 0 less than 1.
 */
#define MEMX_BUCKETS 32
enum memx_latency {
	MEMX_LAT_STORE,
	MEMX_LAT_FETCH,
	MEMX_LAT_COUNT
};
u64 memx_session_latency(const struct memx_session *s, enum memx_latency what, unsigned int bucket);
void memx_session_latency_clear(struct memx_session *s);

/* Settings that may change at run time. */
void memx_session_set_deadline(struct memx_session *s, u32 ms);
u32 memx_session_deadline(const struct memx_session *s);
void memx_session_set_trim(struct memx_session *s, u32 pages_per_second);
u32 memx_session_trim(const struct memx_session *s);

/* ---- for swapfs.c and the hook files ---- */

/*
 * Before the header is read: is there a size? After a swapoff the session is freed at the donors and another one attaches, which
 * takes a moment: waited for here, so that "swapoff; swapon" works. Process context, sleeps, nothing locked that the worker
 * takes (no page of the swap file). 0; -EAGAIN: not yet (the log says why); -ESHUTDOWN: superseded or stopping; -EINTR: killed.
 */
int memx_session_await(struct memx_session *s);
/*
 * swapon. Waits as memx_session_await(), with its errors. -EBUSY while a swap file is active or while the guest hibernates,
 * -ESTALE where the header that was read promised more pages (sis->max, which counts the header's too) than are granted now. On
 * success the size is frozen until memx_session_swapoff(), which ends with the session freed at the donors (in the background).
 */
int memx_session_swapon(struct memx_session *s, struct swap_info_struct *sis);
void memx_session_swapoff(struct memx_session *s);
/*
 * One request of the swap core: reads or writes iov_iter_count(iter) bytes at iocb->ki_pos, ends through iocb->ki_complete().
 * Sleeps only for a free operation. Returns -EIOCBQUEUED, or -errno without having called ki_complete().
 */
int memx_session_rw(struct memx_session *s, struct kiocb *iocb, struct iov_iter *iter);

#endif /* MEMX_GUEST_SESSION_H */
