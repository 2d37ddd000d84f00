// SPDX-License-Identifier: GPL-2.0-only
/*
 * worker.c - a core and its turns. Owner: the data thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "edge.h"

/* ---- what the core asks for ---- */

static int op_guest_send(void *ctx, void *link, unsigned int lane, const struct memx_hdr *hdr, const struct core_seg *segs,
			 unsigned int nsegs)
{
	(void)ctx;
	return link_send(link, lane, hdr, segs, nsegs);
}

static void op_guest_close(void *ctx, void *link, const char *reason)
{
	(void)ctx;
	link_close(link, reason);
}

static void op_donor_send(void *ctx, void *donor, const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int nsegs)
{
	(void)ctx;
	donor_send(donor, hdr, segs, nsegs);
}

static void op_donor_close(void *ctx, void *donor, const char *reason)
{
	(void)ctx;
	donor_close(donor, reason);
}

static void op_donor_gone(void *ctx, void *donor)
{
	(void)ctx;
	donor_gone(donor);
}

static void op_random(void *ctx, void *to, size_t len)
{
	(void)ctx;
	memx_random(to, len);
}

/*
 * A guest can provoke lines by offering and failing without end, a donor by coming and going. Each event has a limit for each of
 * its subjects (pace.h): fifty lines, then ten a second, those that tell of an error among them, because a guest can ask for pages
 * that nobody can have. What an operator must act upon is never held back.
 */
static void op_log(void *ctx, enum core_log_level level, const char *event, const char *fields)
{
	struct worker *w = ctx;
	uint32_t dropped = 0;

	if (level > CORE_LOG_CRIT && !memx_log_allowed(&w->limits[log_limit_of(event, fields)], 50, 100, &dropped))
		return;
	if (dropped)
		memx_log(MEMX_LOG_WARNING, "log-suppressed", "lines=%u before=%s", dropped, event);
	memx_log((enum memx_log_level)(level < CORE_LOG_ERR ? CORE_LOG_ERR : level), event, "%s", fields);
}

static const struct core_ops ops = {
	.guest_send = op_guest_send,
	.guest_close = op_guest_close,
	.donor_send = op_donor_send,
	.donor_close = op_donor_close,
	.donor_gone = op_donor_gone,
	.random = op_random,
	.log = op_log,
};

/* ---- turns ---- */

static void tick_due(struct memx_timer *timer, u64 now)
{
	struct worker *w = (struct worker *)((char *)timer - offsetof(struct worker, tick));

	(void)now;
	worker_turn(w);
}

static void run_turn(struct memx_work *work)
{
	struct worker *w = (struct worker *)((char *)work - offsetof(struct worker, turn));
	u64 next;

	w->turns++;
	links_show(w);		/* whoever waits for an answer goes on while the rest of the turn is done */
	links_turn(w, true);
	links_turn(w, false);
	if (core_next_deadline(w->core) <= worker_now(w))
		core_tick(w->core, worker_now(w));
	links_flush(w);
	next = core_next_deadline(w->core);
	if (!memx_timer_pending(&w->tick) || w->tick.at != next) {
		if (memx_timer_set(w->loop, &w->tick, next, tick_due))
			memx_err("timer-failed", "reason=\"out of memory\"");
	}
}

struct worker *worker_new(struct memx_loop *loop, struct relay_conf *conf, const u8 id[16], u64 instance)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct core_config core = conf->core;

	if (!w)
		return NULL;
	w->loop = loop;
	w->conf = relay_conf_get(conf);
	w->turn.run = run_turn;
	memcpy(core.relay_id, id, sizeof(core.relay_id));
	core.instance = instance;
	w->core = core_new(&core, &ops, w, memx_loop_now(loop));
	if (!w->core) {
		relay_conf_put(w->conf);
		free(w);
		return NULL;
	}
	if (donors_reconfigure(w, conf)) {
		worker_free(w);
		errno = ENOMEM;
		return NULL;
	}
	worker_turn(w);
	return w;
}

void worker_reconfigure(struct worker *w, struct relay_conf *conf)
{
	struct relay_conf *old = w->conf;

	w->conf = relay_conf_get(conf);
	core_reconfigure(w->core, &conf->core, worker_now(w));
	if (donors_reconfigure(w, conf))
		memx_err("reconfigure-failed", "reason=\"out of memory\"");
	links_reconfigure(w, conf);
	relay_conf_put(old);
	worker_turn(w);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	links_free(w, "relay stops");
	donors_free(w);
	memx_timer_cancel(&w->tick);
	memx_work_cancel(&w->turn);
	core_free(w->core);
	relay_conf_put(w->conf);
	free(w);
}
