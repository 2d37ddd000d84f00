// SPDX-License-Identifier: GPL-2.0-only
/*
 * reclaim.c - getting back what is used beyond the limit: when relays are asked, and what is told of it.
 *
 * In the moment in which more is used than may be, every relay is asked; from then on their STATs tell them how much it still
 * is. What came back is looked at four times a second until it is enough.
 */
#include "server.h"
#include "user/log.h"

#define MS 1000000ULL

enum { LOOK_MS = 250 };

static void begin(struct server *server, struct srv_totals t)
{
	struct reclaim *r = &server->reclaim;
	u32 relays = srv_ask(server->core);

	r->began_ns = memx_loop_now(server->loop);
	r->began_used = t.pages_used;
	memx_notice("reclaim", "pages=%llu used=%llu limit=%llu relays=%u", (unsigned long long)t.pages_asked,
		    (unsigned long long)t.pages_used, (unsigned long long)t.pages_total, relays);
}

static void end(struct server *server, const struct srv_totals *t)
{
	struct reclaim *r = &server->reclaim;
	u64 came_back = r->began_used > t->pages_used ? r->began_used - t->pages_used : 0;

	memx_notice("reclaim-done", "pages=%llu after_ms=%llu used=%llu limit=%llu", (unsigned long long)came_back,
		    (unsigned long long)((memx_loop_now(server->loop) - r->began_ns) / MS), (unsigned long long)t->pages_used,
		    (unsigned long long)t->pages_total);
	r->came_back += came_back;
	r->began_ns = 0;
}

static void again(struct memx_timer *timer, uint64_t now)
{
	(void)now;
	reclaim_look((struct server *)((u8 *)timer - offsetof(struct server, reclaim.timer)));
}

void reclaim_look(struct server *server)
{
	struct reclaim *r = &server->reclaim;
	struct srv_totals t;

	srv_totals(server->core, &t);
	if (!t.pages_asked) {
		if (r->began_ns)
			end(server, &t);
		memx_timer_cancel(&r->timer);
		return;
	}
	if (!r->began_ns)
		begin(server, t);
	memx_timer_set(server->loop, &r->timer, memx_loop_now(server->loop) + LOOK_MS * MS, again);
}

void reclaim_stop(struct server *server)
{
	memx_timer_cancel(&server->reclaim.timer);
}
