/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * chan.h - one lane of the guest hop as its user sees it: a ring (memx/vring.h), a descriptor that is readable when the peer
 * has notified, and three operations. Behind it lies a vchan on Xen or the same memory layout in a memfd.
 *
 * A channel belongs to one thread at a time; opening and closing may happen on another than the one that moves bytes.
 */
#ifndef MEMX_USER_CHAN_H
#define MEMX_USER_CHAN_H

#include "memx/vring.h"

struct memx_chan;

struct memx_chan_ops {
	void (*notify)(struct memx_chan *chan);	/* tell the peer; never blocks */
	void (*ack)(struct memx_chan *chan);	/* take what made fd readable; before the ring is looked at */
	void (*close)(struct memx_chan *chan);	/* tell the peer that we are gone, unmap, free: may take long */
};

struct memx_chan {
	struct memx_vring ring;
	const struct memx_chan_ops *ops;
	int fd;
	bool edge;			/* each notification is an edge of fd: watched so, it needs no ack() */
	bool server;			/* this end offered the channel */
};

/*
 * Has the peer not closed its end? The server's byte is 1, or 2 where it waits for others after us; the client's is 2 before it
 * came.
 */
static inline bool memx_chan_peer_live(const struct memx_chan *chan)
{
	const struct memx_vchan_page *shr = chan->ring.shr;

	return chan->server ? memx_load_once(&shr->cli_live) == 1 : memx_load_once(&shr->srv_live) != 0;
}

#endif /* MEMX_USER_CHAN_H */
