// SPDX-License-Identifier: GPL-2.0-only
/*
 * link.c - the native guest's lanes and their offer: what vchan.c and XenStore are to the module.
 *
 * The lanes' memory and descriptors are made once; an offer is a message on a connection to the relay's socket. As on Xen an
 * offer needs no relay: it stands until one comes. A connection that ends means that the relay's process is gone, and with
 * it its mappings, which on Xen the kernel tells by the live byte.
 *
 * Driver only, but for the two that the engine calls from anywhere.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <user/text.h>

#include "internal.h"

#define CONNECT_NS	10000000ULL	/* a missing relay is looked for so often; there is no event for a listener's birth */

enum {
	SMALL_ORDER	= 16,
};

static struct memx_vchan_page *shared(struct native *n, unsigned int lane)
{
	return n->lane[lane].chan->ring.shr;
}

enum memx_vchan_client native_link_peer(void *ctx, unsigned int lane)
{
	struct native *n = ctx;

	return memx_vchan_client(shared(n, lane));
}

void native_link_notify(void *ctx, unsigned int lane)
{
	struct native *n = ctx;
	struct memx_chan *chan = n->lane[lane].chan;

	chan->ops->notify(chan);
}

int native_link_new(struct native *n)
{
	u8 large = n->config.ring_order ? n->config.ring_order : MEMX_VCHAN_MAX_ORDER;
	int err = 0;

	for (u8 i = 0; i < n->lanes && !err; i++) {
		bool fetch = n->engine.lane[i].kind == MEMX_LANE_FETCH;

		err = memx_shm_lane_new(&n->lane[i], fetch ? large : SMALL_ORDER, fetch ? SMALL_ORDER : large);
	}
	return err;
}

void native_link_free(struct native *n)
{
	for (u8 i = 0; i < n->lanes; i++)
		if (n->lane[i].chan)
			memx_shm_lane_free(&n->lane[i]);
	if (n->sock >= 0)
		close(n->sock);
	n->sock = -1;
}

/* The eventfds are edge-triggered: every write is an edge, so they need not be read. */
int native_link_watch(struct native *n)
{
	for (u8 i = 0; i < n->lanes; i++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u32 = i };

		if (epoll_ctl(n->epoll, EPOLL_CTL_ADD, n->lane[i].chan->fd, &ev))
			return -errno;
	}
	return 0;
}

/* The relay's process is gone, with all it had mapped. */
static void relay_gone(struct native *n)
{
	for (u8 i = 0; i < n->lanes; i++) {
		u8 *live = &shared(n, i)->cli_live;

		if (memx_load_once(live) == 1)
			memx_store_once(live, 0);
		atomic_fetch_or(&n->due, 1U << i);
	}
	close(n->sock);
	n->sock = -1;
	n->offered = false;
}

static bool connect_relay(struct native *n, u64 now)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.u32 = MEMX_MAX_LANES };

	if (n->sock >= 0)
		return true;
	n->sock = memx_shm_connect(n->config.socket);
	if (n->sock >= 0 && !epoll_ctl(n->epoll, EPOLL_CTL_ADD, n->sock, &ev))
		return true;
	n->sock = -1;
	n->connect_at = now + CONNECT_NS;
	return false;
}

void native_link_offer(struct native *n, u64 now)
{
	int err;

	n->connect_at = 0;
	if (n->offered || !connect_relay(n, now))
		return;
	/* A client that still lives has not let go of what it mapped; its farewell is an event on a lane. */
	for (u8 i = 0; i < n->lanes; i++) {
		if (native_link_peer(n, i) == MEMX_VCHAN_HERE) {
			n->connect_at = now + CONNECT_NS;
			return;
		}
	}
	for (u8 i = 0; i < n->lanes; i++) {
		memx_shm_lane_reset(&n->lane[i]);
		memx_lane_up(&n->engine.lane[i], &n->lane[i].chan->ring);
	}
	err = memx_shm_offer(n->sock, n->config.name, n->config.uuid, n->engine.attach.offer, n->lane, n->lanes);
	if (err) {
		relay_gone(n);
		n->connect_at = now + CONNECT_NS;
		return;
	}
	n->offered = true;
}

void native_link_withdraw(struct native *n)
{
	n->offered = false;
	n->connect_at = 0;
	for (u8 i = 0; i < n->lanes; i++) {
		memx_store_release(&shared(n, i)->srv_live, 0);
		native_link_notify(n, i);
	}
}

void native_link_message(struct native *n)
{
	struct memx_shm_msg msg;
	int fds[MEMX_SHM_FDS], ret;

	for (;;) {
		ret = memx_shm_recv(n->sock, &msg, fds);
		if (ret == -EAGAIN)
			return;
		if (ret <= 0) {
			native_say(n, "the relay closed its socket");
			relay_gone(n);
			n->connect_at = memx_now();
			return;
		}
		memx_shm_close_fds(fds);
		if (msg.type == MEMX_SHM_REFUSED) {
			msg.name[sizeof(msg.name) - 1] = 0;
			native_refused(n, msg.name);
		}
	}
}
