// SPDX-License-Identifier: GPL-2.0-only
/*
 * links.c - guests' lanes: moves whole frames between rings and the core. Owner: the data thread.
 *
 * Whether a lane is a vchan or a memfd is hidden behind struct memx_chan. What lies in a ring is the guest's: a header is
 * copied once and only the copy is used, a body is copied into the core's buffer before anybody looks at it.
 *
 * A lane is read until it is empty, then the wish to be notified is set and the ring looked at once more; until then the
 * guest has no reason to notify. What the core sends is written behind the published index, and published at the beginning
 * of a turn (what donors have answered), at its end, or when it has grown to some pages, with one notification for it and for room
 * that the guest waits for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "edge.h"

enum {
	PUBLISH_BYTES = 64 << 10,	/* shown at once, so that the guest works while the rest is on its way */
	LANE_BUDGET = 512 << 10,	/* bytes read from one lane per turn */
};

struct lane {
	struct memx_watch watch;
	struct edge_link *link;
	struct memx_chan *chan;
	unsigned int index;
	u32 pending;			/* bytes put but not published */
	bool ready;			/* notified, or held up by a lane that has not said HELLO */
	bool more;			/* not read to its end: goes on in the next round */
	bool fetch;			/* by the guest's HELLO */
	bool greeted;			/* its HELLO was read */
	bool owed;			/* the guest waits for room */
	bool have_head;
	struct memx_head head;		/* of a frame that is not whole yet */
};

struct edge_link {
	struct edge_link *next;
	struct worker *worker;
	struct core_link *core;		/* NULL: ended there */
	struct link_owner *owner;
	struct core_guest_conf conf;
	char reason[160];		/* why it is being closed; "" it is not */
	unsigned int lanes, greeted;
	struct memx_timer again;	/* a lane was not read to its end */
	struct lane lane[MEMX_MAX_LANES];
};

/* ---- the end ---- */

static void link_end(struct edge_link *link)
{
	struct edge_link **at = &link->worker->links;
	struct memx_chan *chans[MEMX_MAX_LANES];

	while (*at && *at != link)
		at = &(*at)->next;
	if (*at)
		*at = link->next;
	memx_timer_cancel(&link->again);
	for (unsigned int i = 0; i < link->lanes; i++) {
		memx_watch_del(&link->lane[i].watch);
		chans[i] = link->lane[i].chan;
	}
	link->owner->ended(link->owner, chans, link->lanes, link->reason);
	free(link);
}

void link_close(struct edge_link *link, const char *reason)
{
	if (*link->reason)
		return;
	snprintf(link->reason, sizeof(link->reason), "%s", *reason ? reason : "closed");
	link->core = NULL;
	worker_turn(link->worker);
}

/* The guest or its channel is gone: the core is told, the link ends with this turn. */
static void link_lost(struct edge_link *link, const char *reason)
{
	struct core_link *core = link->core;

	if (*link->reason)
		return;
	link_close(link, reason);
	if (core)
		core_link_down(core, reason, worker_now(link->worker));
}

void link_gone(struct edge_link *link, const char *reason)
{
	link_lost(link, reason);
	link_end(link);
}

void links_free(struct worker *w, const char *reason)
{
	while (w->links)
		link_gone(w->links, reason);
}

/* ---- reading ---- */

/*
 * Learns from the guest's HELLO which lanes are for fetches, and when all lanes have said theirs: only for the order in which
 * they are read.
 */
static void note_hello(struct lane *lane, const struct memx_head *head, const struct rbuf *body)
{
	struct memx_hello hello;

	if (head->op != MEMX_OP_HELLO || !head->reply || head->len != sizeof(hello))
		return;
	memcpy(&hello, body->data, sizeof(hello));
	lane->fetch = hello.lane_kind == MEMX_LANE_FETCH;
	if (lane->greeted)
		return;
	lane->greeted = true;
	if (++lane->link->greeted == lane->link->lanes)
		worker_turn(lane->link->worker);
}

static void lane_broken(struct lane *lane, const char *why)
{
	if (lane->link->core)
		core_link_broken(lane->link->core, lane->index, why, worker_now(lane->link->worker));
}

/* The header of the next frame, once. False: not there yet, or broken. */
static bool lane_head(struct lane *lane, int avail)
{
	struct memx_vring *ring = &lane->chan->ring;
	struct memx_hdr hdr;

	if (lane->have_head)
		return true;
	if (avail < (int)sizeof(hdr))
		return false;
	memx_vring_peek(ring, 0, &hdr, sizeof(hdr));
	if (memx_head_get(&lane->head, &hdr, MEMX_MAX_BODY)) {
		lane_broken(lane, "a header that is none");
		return false;
	}
	if (MEMX_HDR_LEN + lane->head.len > ring->rx_size) {
		lane_broken(lane, "a frame longer than its ring");
		return false;
	}
	lane->have_head = true;
	return true;
}

/* The frame at the front of the ring is whole: its body goes from the ring, where it may lie in two pieces, to @body. */
static void lane_body(struct lane *lane, struct rbuf *body)
{
	const struct memx_vring *ring = &lane->chan->ring;
	u32 at = (ring->rx_cons + MEMX_HDR_LEN) & (ring->rx_size - 1), first = ring->rx_size - at;

	if (first > lane->head.len)
		first = lane->head.len;
	core_link_body(lane->link->core, &lane->head, body, ring->rx + at, first, ring->rx);
}

/* Hands the next frame to the core. The length of what was consumed; 0: no whole frame is there, or the link is closed. */
static u32 lane_frame(struct lane *lane)
{
	struct edge_link *link = lane->link;
	struct memx_vring *ring = &lane->chan->ring;
	int avail = memx_vring_avail(ring);
	u64 now = worker_now(link->worker);
	struct rbuf *body = NULL;
	u32 len;

	if (avail < 0) {
		lane_broken(lane, "a ring index that cannot be true");
		return 0;
	}
	if (!lane_head(lane, avail))
		return 0;
	len = MEMX_HDR_LEN + lane->head.len;
	if (avail < (int)len)
		return 0;
	if (core_link_head(link->core, lane->index, &lane->head, &body, now))
		return 0;
	if (lane->head.len)
		lane_body(lane, body);
	if (memx_vring_consume(ring, len))
		lane->owed = true;
	lane->have_head = false;
	note_hello(lane, &lane->head, body);
	core_link_frame(link->core, lane->index, &lane->head, body, now);
	return len;
}

static void again_due(struct memx_timer *timer, u64 now)
{
	struct edge_link *link = (struct edge_link *)((char *)timer - offsetof(struct edge_link, again));
	unsigned int i;

	(void)now;
	for (i = 0; i < link->lanes; i++) {
		link->lane[i].ready |= link->lane[i].more;
		link->lane[i].more = false;
	}
	worker_turn(link->worker);
}

static void lane_read(struct lane *lane)
{
	struct edge_link *link = lane->link;
	u32 left = LANE_BUDGET;

	lane->ready = false;
	while (link->core) {
		u32 len;

		if (lane->greeted && link->greeted < link->lanes) {
			/* What the guest sends once all lanes are greeted must not overtake the HELLO of another lane. */
			lane->ready = true;
			return;
		}
		len = lane_frame(lane);
		if (!len && link->core) {
			/*
			 * The ring looks empty. The wish comes before the look that decides: a frame that was shown between a look and
			 * the wish was shown without a notification, and a guest that waits for its answer sends no other.
			 */
			memx_vring_want(&lane->chan->ring, MEMX_VCHAN_WRITE);
			len = lane_frame(lane);
		}
		if (!link->core)
			return;
		if (!len)
			break;
		/* An attach may cost as much as very many other frames. */
		if (len < left && lane->head.op != MEMX_OP_ATTACH) {
			left -= len;
			continue;
		}
		/*
		 * Others want their turn too. This lane goes on in the next round, not in another turn of this one: a guest that is
		 * answered at once, and as quick as we are, would keep the loop from everybody else for ever.
		 */
		lane->more = true;
		if (memx_timer_set(link->worker->loop, &link->again, worker_now(link->worker), again_due))
			lane->ready = true;
		return;
	}
	if (link->core && !memx_chan_peer_live(lane->chan))
		link_lost(link, "the guest closed the channel");
}

void links_turn(struct worker *w, bool fetch)
{
	for (struct edge_link *link = w->links; link; link = link->next)
		for (unsigned int i = 0; i < link->lanes && link->core; i++)
			if (link->lane[i].ready && link->lane[i].fetch == fetch)
				lane_read(&link->lane[i]);
}

static void lane_ready(struct memx_watch *watch, uint32_t events)
{
	struct lane *lane = (struct lane *)((char *)watch - offsetof(struct lane, watch));

	(void)events;
	if (!lane->chan->edge)
		lane->chan->ops->ack(lane->chan);
	lane->ready = true;
	worker_turn(lane->link->worker);
}

/* ---- writing ---- */

/* Shows the guest what was put, tells it of that and of room that it waits for. */
static void lane_publish(struct lane *lane)
{
	bool notify = lane->owed;

	if (lane->pending && memx_vring_publish(&lane->chan->ring, lane->pending))
		notify = true;
	lane->pending = 0;
	lane->owed = false;
	if (notify)
		lane->chan->ops->notify(lane->chan);
}

int link_send(struct edge_link *link, unsigned int lane_index, const struct memx_hdr *hdr, const struct core_seg *segs,
	      unsigned int nsegs)
{
	struct lane *lane = &link->lane[lane_index];
	struct memx_vring *ring = &lane->chan->ring;
	u32 len = MEMX_HDR_LEN + memx_le32(hdr->len), at = lane->pending;
	int space;

	if (*link->reason)
		return -EPIPE;
	space = memx_vring_space(ring);
	if (space < 0)
		return space;
	if ((u64)at + len > (u64)space)
		return -ENOSPC;
	memx_vring_put(ring, at, hdr, sizeof(*hdr));
	at += MEMX_HDR_LEN;
	for (unsigned int i = 0; i < nsegs; i++) {
		memx_vring_put(ring, at, segs[i].base, segs[i].len);
		at += segs[i].len;
	}
	lane->pending = at;
	if (at >= PUBLISH_BYTES)
		lane_publish(lane);
	worker_turn(link->worker);
	return 0;
}

static void link_show(struct edge_link *link)
{
	for (unsigned int i = 0; i < link->lanes; i++)
		lane_publish(&link->lane[i]);
}

void links_show(struct worker *w)
{
	for (struct edge_link *link = w->links; link; link = link->next)
		link_show(link);
}

void links_flush(struct worker *w)
{
	struct edge_link *link, *next;

	for (link = w->links; link; link = next) {
		next = link->next;
		link_show(link);
		if (*link->reason)
			link_end(link);
	}
}

/* ---- the beginning, and changes ---- */

void links_reconfigure(struct worker *w, const struct relay_conf *conf)
{
	struct edge_link *link;

	for (link = w->links; link; link = link->next) {
		const struct conf_guest *allowed = relay_conf_guest(conf, link->conf.name, link->conf.vm);
		struct core_guest_conf guest;

		if (!allowed) {
			memx_notice("guest-disallowed", "name=%s domid=%u effect=\"what it has is served until its channel ends\"",
				    memx_quoted(link->conf.name), link->conf.domid);
			core_guest_disallowed(w->core, link->conf.vm, link->conf.domid, worker_now(w));
			continue;
		}
		relay_conf_identity(allowed, link->conf.domid, link->conf.name, link->conf.vm, &guest);
		link->conf = guest;
		core_guest_conf_changed(w->core, &guest, worker_now(w));
	}
}

struct edge_link *link_up(struct worker *w, const struct core_guest_conf *conf, u64 offer, struct memx_chan **chans,
			  unsigned int lanes, struct link_owner *owner)
{
	struct edge_link *link = calloc(1, sizeof(*link));
	int ret = 0;

	if (!link || lanes > MEMX_MAX_LANES || w->draining) {
		free(link);
		owner->ended(owner, chans, lanes, w->draining ? "the relay is shutting down" : "out of memory");
		return NULL;
	}
	link->worker = w;
	link->owner = owner;
	link->lanes = lanes;
	link->conf = *conf;
	for (unsigned int i = 0; i < lanes; i++) {
		link->lane[i] = (struct lane){
			.watch = MEMX_WATCH_INIT, .link = link, .chan = chans[i], .index = i, .ready = true,
		};
		if (!ret)
			ret = memx_watch_add(w->loop, &link->lane[i].watch, chans[i]->fd,
					     chans[i]->edge ? EPOLLIN | EPOLLET : EPOLLIN, lane_ready);
	}
	link->next = w->links;
	w->links = link;
	if (!ret)
		link->core = core_link_up(w->core, conf, offer, lanes, link, worker_now(w));
	if (!link->core && !*link->reason) {
		snprintf(link->reason, sizeof(link->reason), "out of memory");
		link_end(link);
		return NULL;
	}
	worker_turn(w);
	return link;
}
