/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xenstore.h - the offer of a link in XenStore, and the relay's refusal there.
 */
#ifndef MEMX_GUEST_XENSTORE_H
#define MEMX_GUEST_XENSTORE_H

#include <linux/types.h>
#include <linux/workqueue.h>
#include <xen/interface/event_channel.h>
#include <xen/interface/grant_table.h>
#include <xen/xenbus.h>

#include "transport.h"

/* Where a client finds one lane. */
struct memx_xs_lane {
	grant_ref_t ring_ref;
	evtchn_port_t port;
};

/* A watch for refusals. Filled in by memx_xs_watch(). */
struct memx_xs_refusals {
	struct xenbus_watch watch;
	struct work_struct work;
	void (*tell)(void *ctx, const char *reason);
	void *ctx;
};

int memx_xs_publish(u64 offer, const struct memx_xs_lane *lanes, unsigned int count);
void memx_xs_taken(unsigned int count);
void memx_xs_remove(void);

unsigned int memx_xs_leaked(void);
void memx_xs_add_leaked(unsigned int pages);

int memx_xs_watch(struct memx_xs_refusals *refusals,
		  void (*tell)(void *ctx, const char *reason), void *ctx);
void memx_xs_unwatch(struct memx_xs_refusals *refusals);

#endif /* MEMX_GUEST_XENSTORE_H */
