// SPDX-License-Identifier: GPL-2.0-only
/*
 * health.c - is a donor still there, how much room has it, how quick is it.
 *
 * Judging. A donor is dropped
 *	that owes an answer and has sent nothing for donor_timeout;
 *	that has answered all that was sent before some request for which a guest may wait, and does not answer this one for
 *	donor_timeout, although it answers others: it leaves it out;
 *	whose oldest answer is four times as late, although it goes on.
 * So one that is merely behind is not dropped as soon: it works through its queue, in order, and each answer moves the clock of
 * the second rule on. No clock runs through a time in which this loop itself was late.
 */
#include "internal.h"

static u64 less(u64 from, u64 by)
{
	return from > by ? from - by : 0;
}

static int stat_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct core_donor *d = dop->donor;
	struct memx_stat *st = &d->last_stat;
	bool first = !d->stat, drained;

	d->stat_out = false;
	if (status == S_LOST)
		return 0;
	if (status != MEMX_S_OK || head->len != sizeof(*st))
		return -EPROTO;
	memcpy(st, body->data, sizeof(*st));
	memcpy(d->domain, st->domain, MEMX_LABEL_LEN);
	d->domain[MEMX_LABEL_LEN] = 0;
	d->total = memx_le64(st->pages_total);
	d->reserved = memx_le64(st->pages_reserved);
	drained = d->draining;
	d->draining = memx_le32(st->flags) & MEMX_STAT_DRAINING;
	if (drained && !d->draining)
		donor_takes_again(d);
	reclaim_asked(d, less(memx_le64(st->pages_asked), d->moved - d->moved_at_stat));
	d->stat = true;
	if (first && !d->duplicate)
		donor_serves(d);
	return 0;
}

/* It is known who it is and what it has: sessions turn to it. */
void donor_serves(struct core_donor *d)
{
	struct list *pos;
	u32 i;

	d->dead = false;
	core_say(d->core, CORE_LOG_NOTICE, "donor-up", "donor=%s domain=\"%s\" pages=%llu used=%llu reserved=%llu", d->name,
		 d->domain, (unsigned long long)d->total, (unsigned long long)memx_le64(d->last_stat.pages_used),
		 (unsigned long long)d->reserved);
	for (i = 0; i < CORE_MAX_DONORS; i++)	/* before anything is placed: a donor may need it as soon as we are gone */
		if (d->core->donor[i] && donor_ok(d->core->donor[i]))
			reclaim_tell_peers(d->core->donor[i]);
	list_for_each(pos, &d->core->sessions)
		fence_donor_up(list_entry(pos, struct session, in_core), d);
}

void donor_stat(struct core_donor *d)
{
	d->stat_at = d->core->now + d->core->cfg.heartbeat_ns;
	if (d->stat_out)
		return;
	d->stat_out = true;
	d->moved_at_stat = d->moved;
	donor_queue(dop_new(d, MEMX_OP_STAT, DOP_CONTROL, stat_done));
}

static u64 max64(u64 a, u64 b)
{
	return a > b ? a : b;
}

static u64 min64(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* When the first of them was sent; NEVER: none is. */
static u64 first_sent(const struct core_donor *d, const struct list *sent)
{
	return list_empty(sent) ? NEVER : max64(list_first(sent, struct dop, in_donor)->sent_at, d->core->judge_from);
}

static void judge(struct core_donor *d)
{
	struct relay_core *core = d->core;
	u64 timeout = core->cfg.donor_timeout_ns, waited = first_sent(d, &d->sent_waited), asked, quiet, turn;

	asked = min64(waited, first_sent(d, &d->sent));
	if (asked == NEVER)
		return;
	quiet = max64(asked, d->last_rx);
	turn = waited == NEVER ? NEVER : max64(waited, d->turn_at);
	if (core->now - quiet >= timeout) {
		donor_fail(d, "silent for %llu ms", (unsigned long long)((core->now - quiet) / MS));
	} else if (turn != NEVER && core->now - turn >= timeout) {
		donor_shun(d);
		donor_fail(d, "answers others, but op %u not for %llu ms",
			   list_first(&d->sent_waited, struct dop, in_donor)->op, (unsigned long long)((core->now - turn) / MS));
	} else if (core->now - asked >= 4 * timeout) {
		donor_fail(d, "owes an answer for %llu ms", (unsigned long long)((core->now - asked) / MS));
	} else {
		core_want_tick(core, min64(turn == NEVER ? NEVER : turn + timeout, min64(quiet, asked + 3 * timeout) + timeout));
	}
}

/*
 * Away for so long that nobody waits for it any more? A connection over which it did not serve yet does not count as there, nor does
 * an entry that leads elsewhere.
 */
static void look_for_death(struct core_donor *d)
{
	struct relay_core *core = d->core;
	struct list *pos;

	if (d->dead || core->now - max64(d->down_at, core->judge_from) < core->cfg.donor_dead_ns)
		return;
	d->dead = true;
	if (d->known)
		core_say(core, CORE_LOG_WARN, "donor-dead", "donor=%s away_ms=%llu hint=\"copies there are rebuilt elsewhere\"",
			 d->name, (unsigned long long)((core->now - d->down_at) / MS));
	list_for_each(pos, &core->sessions)
		session_review_all(list_entry(pos, struct session, in_core));
}

void donor_tick(struct core_donor *d)
{
	if (!d->stat || d->duplicate)
		look_for_death(d);
	if (d->up && d->hello && d->core->now >= d->stat_at)
		donor_stat(d);
	if (d->stat && !d->duplicate)
		reclaim_tell_peers(d);
	if (d->up)
		judge(d);
	if (d->leaving)
		donor_maybe_gone(d);
}

/* ---- latency --------------------------------------------------------------------------------------------------------------- */

/* Smoothed mean and deviation as in RFC 6298, section 2: gains of 1/8 and 1/4. */
void donor_latency(struct core_donor *d, u64 sent_at)
{
	const struct relay_core *core = d->core;
	u64 ns = core->now - sent_at, off = ns > d->lat_ns ? ns - d->lat_ns : d->lat_ns - ns;

	if (sent_at < core->judge_from || core_lags(core))
		return;			/* how long it took us says nothing about the donor */
	if (!d->lat_ns) {
		d->lat_ns = ns + 1;
		d->lat_dev_ns = ns / 2;
		return;
	}
	d->lat_dev_ns = (3 * d->lat_dev_ns + off) / 4;
	d->lat_ns = (7 * d->lat_ns + ns) / 8;
}

/* An answer later than this is late. */
u64 donor_hedge_delay(const struct core_donor *d)
{
	u64 delay = d->lat_ns + 4 * d->lat_dev_ns;

	if (delay < 2 * MS)
		return 2 * MS;
	return delay > d->core->cfg.donor_timeout_ns / 2 ? d->core->cfg.donor_timeout_ns / 2 : delay;
}
