// SPDX-License-Identifier: GPL-2.0-only
/*
 * world-old.c - a relay that was left behind: its guests have gone to another one, and it does not know.
 *
 * So it is after a migration, or when a relay hangs and another is started. It keeps its connections and all that it was about,
 * reads what guests had written for it, sends and receives, is told of lost connections and connects again. What it says to
 * guests nobody hears: its rings fill up. Donors must let it do nothing from the moment on in which they know the newer epoch.
 */
#include "world-guest.h"

static int old_guest_send(void *ctx, void *link, unsigned int lane, const struct memx_hdr *hdr, const struct core_seg *segs,
			  unsigned int n)
{
	struct wold_link *l = link;
	u32 len = MEMX_HDR_LEN + memx_le32(hdr->len);

	(void)ctx;
	(void)segs;
	(void)n;
	if (l->ring_used[lane] + len > W_RING)
		return -ENOSPC;
	l->ring_used[lane] += len;
	return 0;
}

static void link_ends(struct wold_link *l)
{
	u32 i;

	l->alive = false;
	for (i = 0; i < W_LANES; i++)
		queue_clear(&l->to_relay[i]);
}

static void old_guest_close(void *ctx, void *link, const char *reason)
{
	(void)ctx;
	(void)reason;
	link_ends(link);
}

static void old_donor_send(void *ctx, void *donor, const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int n)
{
	struct wend *end = donor;

	(void)ctx;
	assert(end->conn && end->conn->open);
	list_add_tail(&frame_gather(hdr, segs, n)->in_queue, &end->conn->to_donor);
}

static void give_up(struct wend *end)
{
	if (!end->conn)
		return;
	end->conn->open = false;
	queue_clear(&end->conn->to_relay);
	end->conn->end = NULL;
	end->conn = NULL;
	end->connect_at = end->donor->w->now + end->donor->w->reconnect_ns;
}

static void old_donor_close(void *ctx, void *donor, const char *reason)
{
	(void)ctx;
	(void)reason;
	give_up(donor);
}

static void old_donor_gone(void *ctx, void *donor)
{
	struct wend *end = donor;

	(void)ctx;
	end->cd = NULL;
}

void wold_frame(struct wend *end, struct frame *f)
{
	u64 now = end->donor->w->now;
	struct memx_head head;
	struct rbuf *body = NULL;

	if (memx_head_get(&head, &f->hdr, MEMX_MAX_BODY)) {
		core_donor_broken(end->cd, "bad header", now);
	} else if (!core_donor_head(end->cd, &head, &body, now)) {
		if (body)
			memcpy(body->data, f->body, f->len);
		core_donor_frame(end->cd, &head, body, now);
	}
	frame_free(f);
}

void wold_drop(struct wdonor *d)
{
	struct wend *end = &d->w->old.end[d - d->w->donor];

	if (!d->w->old.core || !end->conn)
		return;
	give_up(end);
	core_donor_down(end->cd, "connection reset", d->w->now);
}

void wold_deliver(struct wguest *g, u32 lane)
{
	struct wold_link *l = &g->w->old.link[g - g->w->guest];

	wguest_frame_to(l->link, lane, list_entry(list_pop(&l->to_relay[lane]), struct frame, in_queue), g->w->now);
}

void wold_guest_gone(struct world *w, const struct wguest *g)
{
	struct wold_link *l = &w->old.link[g - w->guest];

	if (!w->old.core)
		return;
	if (l->alive) {
		core_link_down(l->link, "the guest went", w->now);
		link_ends(l);
	}
	core_guest_gone(w->old.core, g->conf.vm, l->domid, true, w->now);
}

void wold_tick(struct world *w)
{
	struct wold *old = &w->old;
	u32 i;

	for (i = 0; old->core && i < W_DONORS; i++) {
		struct wend *end = &old->end[i];

		if (end->conn || !end->cd || w->now < end->connect_at)
			continue;
		end->connect_at = w->now + w->reconnect_ns;
		if (end->donor->there)
			world_connect(end->donor, end);
		else
			core_donor_down(end->cd, "connection refused", w->now);
	}
	if (old->core && core_next_deadline(old->core) <= w->now)
		core_tick(old->core, w->now);
}

void world_old_relay_ends(struct world *w)
{
	struct core_status st;
	u32 i;

	if (!w->old.core)
		return;
	core_status(w->old.core, &st);
	world_add_counters(&w->old.counters, &st.counters);
	core_free(w->old.core);
	w->old.core = NULL;
	for (i = 0; i < W_DONORS; i++)
		if (w->old.end[i].donor)
			give_up(&w->old.end[i]);
	for (i = 0; i < W_GUESTS; i++)
		link_ends(&w->old.link[i]);
}

static void take_link(struct wold_link *l, struct wguest *g)
{
	u32 i;

	memset(l, 0, sizeof(*l));
	l->link = g->link;
	l->alive = g->alive;
	l->domid = g->conf.domid;
	if (g->alive)
		g->link->cookie = l;
	for (i = 0; i < W_LANES; i++) {
		list_init(&l->to_relay[i]);
		if (g->alive)
			list_splice_tail(&g->to_relay[i], &l->to_relay[i]);
		l->ring_used[i] = g->ring_used[i];
	}
}

void world_leave_relay(struct world *w)
{
	struct wold *old = &w->old;
	u32 i;

	world_old_relay_ends(w);
	old->core = w->core;
	old->core->ops.guest_send = old_guest_send;
	old->core->ops.guest_close = old_guest_close;
	old->core->ops.donor_send = old_donor_send;
	old->core->ops.donor_close = old_donor_close;
	old->core->ops.donor_gone = old_donor_gone;
	memset(old->end, 0, sizeof(old->end));
	for (i = 0; i < w->donors; i++) {
		struct wdonor *d = &w->donor[i];

		old->end[i] = (struct wend){ .donor = d, .cd = d->cd, .conn = d->conn, .connect_at = d->connect_at };
		if (d->cd)
			d->cd->cookie = &old->end[i];
		if (d->conn)
			d->conn->end = &old->end[i];
		d->cd = NULL;
		d->conn = NULL;
	}
	for (i = 0; i < W_GUESTS; i++)
		take_link(&old->link[i], &w->guest[i]);
	for (i = 0; i < w->guests; i++)
		wguest_lost(&w->guest[i]);
	world_new_relay(w);
}
