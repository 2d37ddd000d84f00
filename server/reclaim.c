// SPDX-License-Identifier: GPL-2.0-only
/*
 * reclaim.c - getting back what is used beyond the limit: when relays are asked, when that has lasted too long, and what is told
 * of it.
 *
 * In the moment in which more is used than may be, every relay is asked; from then on their STATs tell them how much it still
 * is. What came back is looked at four times a second until it is enough. If nothing has come back for settings.reclaim_wait,
 * relays are hung, gone, or have no other place for it: then copies are dropped one after the other, each of them confirmed by
 * another holder (holder.c asks it, core/drop.c has the rule). What cannot be dropped is said, and tried again after a while.
 * How long it waited before it helped itself is noted: never more than settings.reclaim_wait and LOOK_MS.
 */
#include "server.h"
#include "user/log.h"

#define MS 1000000ULL

enum {
	LOOK_MS		= 250,
	AGAIN_MS	= 10000,	/* after nothing could be dropped */
};

static const char *status_word(u32 status)
{
	static const char *const words[] = {
#define MEMX_X(name, code, text) [code] = #name,
		MEMX_STATUS_LIST(MEMX_X)
#undef MEMX_X
	};

	return status < MEMX_S_COUNT ? words[status] : "none";
}

static struct server *server_of(struct memx_timer *timer)
{
	return (struct server *)((u8 *)timer - offsetof(struct server, reclaim.timer));
}

/* How much later than it was due the timer is that has not run yet, or runs now. */
static u64 late(const struct server *server)
{
	u64 now = memx_loop_now(server->loop), due = server->reclaim.timer.at;

	return now > due ? now - due : 0;
}

u64 reclaim_waited(const struct server *server)
{
	const struct reclaim *r = &server->reclaim;
	u64 now = memx_loop_now(server->loop), lasts = r->began_ns && r->waits_ns && !r->refusal[0] ? now - r->waits_ns : 0;

	lasts -= late(server) < lasts ? late(server) : lasts;
	return lasts > r->waited_ns ? lasts : r->waited_ns;
}

/* Something came back, or is done about it; @again: relays have as long once more from now on. */
static void wait_ends(struct server *server, bool again)
{
	struct reclaim *r = &server->reclaim;

	r->waited_ns = reclaim_waited(server);
	r->waits_ns = again ? memx_loop_now(server->loop) : 0;
}

/* Extents that were given up for any other reason than our own. */
static u64 freed_by_others(const struct server *server)
{
	const struct srv_counters *c = srv_counters(server->core);

	return c->extents_freed - c->extents_dropped;
}

static void begin(struct server *server, struct srv_totals t)
{
	struct reclaim *r = &server->reclaim;
	u32 relays = srv_ask(server->core);

	r->began_ns = r->moved_ns = r->waits_ns = memx_loop_now(server->loop);
	r->began_used = t.pages_used;
	r->freed = freed_by_others(server);
	r->refusal[0] = '\0';
	r->again_ns = 0;		/* what was in the way of the last one is asked anew */
	r->answer = SRV_NO_ANSWER;
	memx_notice("reclaim", "pages=%llu used=%llu limit=%llu relays=%u", (unsigned long long)t.pages_asked,
		    (unsigned long long)t.pages_used, (unsigned long long)t.pages_total, relays);
}

static void end(struct server *server, const struct srv_totals *t)
{
	struct reclaim *r = &server->reclaim;
	u64 came_back = r->began_used > t->pages_used ? r->began_used - t->pages_used : 0;

	wait_ends(server, false);
	r->took_ns = memx_loop_now(server->loop) - r->began_ns;
	memx_notice("reclaim-done", "pages=%llu dropped=%llu after_ms=%llu used=%llu limit=%llu", (unsigned long long)came_back,
		    (unsigned long long)r->dropped, (unsigned long long)(r->took_ns / MS),
		    (unsigned long long)t->pages_used, (unsigned long long)t->pages_total);
	r->came_back += came_back;
	r->began_ns = 0;
	r->dropped = 0;
	r->refusal[0] = '\0';
	holder_done(server);
}

/* ---- without a relay -------------------------------------------------------------------------------------------------- */

static void refuse(struct server *server, const struct srv_drop_why *why, u64 pages)
{
	struct reclaim *r = &server->reclaim;

	wait_ends(server, false);
	snprintf(r->refusal, sizeof(r->refusal), "%u extents have no other live copy, %u are pinned for another donor, %u are in the "
		 "middle of a change, of %u nobody told where the other copy is, of %u its donor does not answer, of %u it refused "
		 "(%s)", why->alone, why->pinned, why->proposed,
		 why->unknown, why->unreachable, why->refused, status_word(r->answer));
	server->refusals++;
	memx_log_limited(MEMX_LOG_WARNING, "reclaim-refused", "pages=%llu reason=\"%s\"", (unsigned long long)pages, r->refusal);
	r->again_ns = memx_loop_now(server->loop) + AGAIN_MS * MS;
	srv_drop_again(server->core);
}

static void drop_one(struct server *server, u64 pages)
{
	struct srv_drop_why why;
	struct srv_drop drop;

	if (memx_loop_now(server->loop) < server->reclaim.again_ns)
		return;
	switch (srv_drop_begin(server->core, holder_reachable, server, &drop, &why)) {
	case 0:
		wait_ends(server, false);
		holder_ask(server, &drop);
		break;
	case -ENOENT:
		refuse(server, &why, pages);
		break;
	case -EBUSY:
		wait_ends(server, false);	/* one is under way, whatever relays freed meanwhile */
		break;
	default:
		break;		/* no memory for it now */
	}
}

void reclaim_answered(struct server *server, u64 serial, u32 status)
{
	struct srv_totals t;
	u64 pages;

	srv_totals(server->core, &t);
	if (!t.pages_asked || !server->settings.self_drop)
		status = SRV_NO_ANSWER;		/* nothing is to be dropped any more */
	pages = srv_drop_end(server->core, serial, status);
	if (!pages && status < SRV_NO_ANSWER)
		server->reclaim.answer = status;
	server->reclaim.dropped += pages;
	server->reclaim.all_dropped += pages;
	if (pages)
		server_scrub_later(server);
	if (server->reclaim.began_ns) {
		wait_ends(server, true);
		memx_timer_set(server->loop, &server->reclaim.timer, memx_loop_now(server->loop), reclaim_timer);
	}
}

/* ---- the watch -------------------------------------------------------------------------------------------------------- */

/* Have relays been silent for too long? */
static bool overdue(struct server *server)
{
	struct reclaim *r = &server->reclaim;
	u64 now = memx_loop_now(server->loop);

	if (freed_by_others(server) != r->freed) {
		r->freed = freed_by_others(server);
		r->moved_ns = now;
		wait_ends(server, true);
	}
	/* We were stopped: what relays did meanwhile is still on its way in. */
	if (memx_loop_lag(server->loop) > 1000 * MS) {
		r->moved_ns = now;
		wait_ends(server, true);
	}
	return now - r->moved_ns >= server->settings.reclaim_wait;
}

void reclaim_timer(struct memx_timer *timer, uint64_t now)
{
	(void)now;
	reclaim_look(server_of(timer));
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
	else if (overdue(server) && server->settings.self_drop)
		drop_one(server, t.pages_asked);
	memx_timer_set(server->loop, &r->timer, memx_loop_now(server->loop) + LOOK_MS * MS, reclaim_timer);
}

void reclaim_stop(struct server *server)
{
	memx_timer_cancel(&server->reclaim.timer);
	holder_stop(server);
}
