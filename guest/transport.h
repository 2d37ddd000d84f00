/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * transport.h - what the session needs of the channel to the relay, and what the channel tells the session.
 *
 * A link is a set of lanes that is offered as a whole and dies as a whole. Its memory (rings, grants, ports, interrupts) is
 * made once, by memx_link_create(), in a context that may allocate; offering it again after the relay went away allocates
 * nothing. The session sees each lane's ring as a struct memx_vring and serialises its two directions itself.
 *
 * Life of a link:   create -> [ offer -> connected -> withdraw ]* -> destroy
 */
#ifndef MEMX_GUEST_TRANSPORT_H
#define MEMX_GUEST_TRANSPORT_H

#include "../shared/memx/vring.h"

enum {
	MEMX_REASON_MAX = 256,		/* bytes of a reason for a refusal, terminator included */
};

struct memx_link;

struct memx_lane_spec {
	u8 kind;		/* enum memx_lane_kind */
	u8 left_order;		/* log2 bytes of the ring relay -> guest */
	u8 right_order;		/* log2 bytes of the ring guest -> relay */
};

/* Callbacks of the session. */
struct memx_link_events {
	/*
	 * Something happened on @lane: data, room, or the peer's live byte changed. Called from the lane's interrupt handler (hard
	 * interrupt context, local interrupts off). Must not sleep. None comes before the first offer.
	 */
	void (*kick)(void *ctx, unsigned int lane);
	/*
	 * The toolstack's side said why it does not serve this guest (text of data/memx/refused; never NULL, at most MEMX_REASON_MAX
	 * bytes, printable). Called from a workqueue. May sleep.
	 */
	void (*refused)(void *ctx, const char *reason);
};

/* Process context, may allocate (GFP_KERNEL). Returns the link or an ERR_PTR. Nothing is visible to anybody yet. */
struct memx_link *memx_link_create(const struct memx_lane_spec *specs, unsigned int lanes,
				   const struct memx_link_events *events, void *ctx);

/*
 * Resets the shared pages and publishes them under the nonce @offer. Process context, never on a task that reclaims for
 * somebody (XenStore has its own thread and GFP_NOIO allocations). -EBUSY: an old client still maps the rings and its live
 * byte is set: call again when it has departed, or after a while. -EIO: XenStore refused; try later.
 */
int memx_link_offer(struct memx_link *link, u64 offer);

/* All lanes said hello: takes the offer out of XenStore, so that nobody connects to it again. Process context. */
void memx_link_connected(struct memx_link *link);

/*
 * Takes the offer back: srv_live = 0 on every lane, the peer notified, XenStore nodes removed. After it no kick is
 * delivered until the next offer, except for the peer's departure. Process context. Rings keep their memory.
 */
void memx_link_withdraw(struct memx_link *link);

/*
 * Gives everything back: interrupts, ports, grants, pages, XenStore nodes. Pages that a peer still maps are leaked, and
 * counted. Process context. Returns the number of pages leaked. No kick is running or comes when it returns.
 */
unsigned int memx_link_destroy(struct memx_link *link);

/* Pages that links of earlier loads of the module have left to a peer. Process context. */
unsigned int memx_link_leaked(void);

/* Suspend and resume (see pm.c): what was granted and bound is void after a resume; rebuilds without touching page memory. */
int memx_link_resume(struct memx_link *link);

struct memx_vring *memx_link_ring(struct memx_link *link, unsigned int lane);

/* The peer of this lane (its live byte, read once), since the offer. Any context. */
enum memx_vchan_client memx_link_peer(struct memx_link *link, unsigned int lane);

/* Sends the event to the peer of @lane. Any context. Call when vring.h says that the peer is owed one. */
void memx_link_notify(struct memx_link *link, unsigned int lane);

/* What a lane has seen since it was made. */
struct memx_lane_counters {
	u64 events;		/* events that the relay sent */
	u64 spurious;		/* of them, those that had nothing behind them and went on coming */
	u64 notified;		/* events that we sent */
};

/* Any context. */
void memx_link_counters(struct memx_link *link, unsigned int lane, struct memx_lane_counters *to);

/* Pages that the link's rings take, all granted. Any context. */
unsigned int memx_link_pages(struct memx_link *link);

#endif /* MEMX_GUEST_TRANSPORT_H */
