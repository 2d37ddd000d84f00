// SPDX-License-Identifier: GPL-2.0-only
/*
 * balance.c - memory that comes: a donor that was added, or came back empty, takes its share.
 *
 * What is even is the free room of the donors, by which admission spreads reservations, too: so a new session never sets this off.
 * Once a second the fullest donor and the roomiest are compared. Where they are too far apart (BEGIN), room is shifted from the
 * one to the other, until they are close (END). What was promised and not used yet goes first, which moves no page:
 * RESERVE there, then less here. Then copies move, a few at a time and at the rate of repair, by the machinery that empties
 * donors: extent.shift marks a copy as one that may not stay, another is made first, redundancy is never lower than before.
 *
 * Steps are an eighth of the difference, so that several relays that see the same donors do not overshoot together. Nothing is
 * shifted while copies are missing anywhere: repair comes first.
 *
 * Reservations that repair and moving left behind on donors beyond what the session was promised are given back here as well.
 */
#include "internal.h"

enum {
	BALANCE_MS	= 1000,
	BEGIN		= 8,		/* part of the roomiest donor's memory that the difference must exceed */
	END		= 32,
	BEGIN_EXTENTS	= 4,
	END_EXTENTS	= 2,
	MOVES_MAX	= 4,		/* copies under way */
	MOVE_GIVEN_UP_MS = 30000,
	SLACK_EXTENTS	= 8,		/* reserved beyond what is promised, and left alone */
};

static bool counts(const struct core_donor *d)
{
	return d && donor_takes(d) && !d->asked && d->shunned_until <= d->core->now;
}

/* ---- one extent ------------------------------------------------------------------------------------------------------------ */

/* Moves the copy that lies at @from to @to, behind the foreground work. False: this is not the time, or not the place. */
bool extent_move(struct extent *x, struct core_donor *from, struct core_donor *to)
{
	int i = placement_find(&x->cur, from), k;

	if (x->state != X_STEADY || x->leave || x->shift || x->repair || i < 0 || x->cur.r[i].state != MEMX_R_LIVE ||
	    placement_names(&x->cur, to) || x->cur.n != x->s->replicas || x->s->sd[to->index].state != SD_READY)
		return false;
	for (k = 0; k < x->cur.n; k++)
		if (x->cur.r[k].state != MEMX_R_LIVE || !replica_usable(x->s, &x->cur.r[k]) ||
		    (k != i && donor_same_domain(x->cur.r[k].donor, to) && !donor_same_domain(x->cur.r[k].donor, from)))
			return false;
	x->shift = bit64(from->index);
	x->shift_to = bit64(to->index);
	x->shift_until = x->s->core->now + MOVE_GIVEN_UP_MS * MS;
	x->want_more = true;
	extent_review(x);
	return true;
}

/* It stays where it is. */
void balance_give_up(struct extent *x)
{
	x->shift = 0;
	x->shift_to = 0;
}

/* A record took effect. */
void balance_moved(struct extent *x)
{
	struct core_donor *from;

	if (!x->shift)
		return;
	from = x->s->core->donor[__builtin_ctzll(x->shift)];
	if (from && placement_find(&x->cur, from) >= 0)
		return;
	balance_give_up(x);
	x->s->core->count.balanced++;
}

/* ---- a session -------------------------------------------------------------------------------------------------------------- */

static u64 unused(const struct session *s, const struct core_donor *d)
{
	u64 used = (u64)s->sd[d->index].placed << s->order, reserved = s->sd[d->index].reserved;

	return reserved > used ? reserved - used : 0;
}

/* What is promised to this session, and on how many pages of it; false: somebody who may have a part of it is not there. */
static bool promised(const struct session *s, u64 *reserved)
{
	u32 i;

	*reserved = 0;
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = s->core->donor[i];

		if (!d || d->duplicate)
			continue;
		if (s->sd[i].state != SD_READY)
			return false;
		*reserved += s->sd[i].reserved;
	}
	return true;
}

/* More is reserved than was promised: a part that is not used goes back, where there is most of it. */
static void trim(struct session *s)
{
	u64 want = (u64)s->extents * s->replicas << s->order, reserved, less;
	struct core_donor *most = NULL;
	u32 i;

	if (!promised(s, &reserved) || reserved <= want + ((u64)SLACK_EXTENTS << s->order))
		return;
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = s->core->donor[i];

		if (d && s->sd[i].state == SD_READY && unused(s, d) && (!most || unused(s, d) > unused(s, most)))
			most = d;
	}
	if (!most)
		return;
	less = reserved - want < unused(s, most) ? reserved - want : unused(s, most);
	fence_reserve(s, most, s->sd[most->index].reserved - less, NULL);
}

/* May @pages more lie in the failure domain of @d? No domain holds more than one copy of each extent. */
static u64 may_hold(const struct session *s, const struct core_donor *d)
{
	u64 held = 0, most = (u64)s->extents << s->order;
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (s->core->donor[i] && donor_same_domain(s->core->donor[i], d))
			held += s->sd[i].reserved;
	return held < most ? most - held : 0;
}

/* The roomier donor has reserved what the fuller one need not keep any more. */
static int promise_shifted(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = dop->session;
	struct core_donor *from = s->core->donor[s->shift_from];
	u64 less = s->shift_pages;

	(void)body;
	s->shift_pages = 0;
	if (status == S_LOST)
		return 0;
	if (head->len)
		return -EPROTO;
	if (status != MEMX_S_OK) {
		fence_not_reserved(dop);
		return 0;
	}
	if (!from || s->sd[from->index].state != SD_READY)
		return 0;		/* trimmed later */
	if (less > unused(s, from))
		less = unused(s, from);
	if (less)
		fence_reserve(s, from, s->sd[from->index].reserved - less, NULL);
	return 0;
}

/* Shifts up to @pages of what this session has reserved and not used. Pages. */
static u64 shift_promise(struct session *s, struct core_donor *from, struct core_donor *to, u64 pages)
{
	if (pages > unused(s, from))
		pages = unused(s, from);
	if (pages > may_hold(s, to) && !donor_same_domain(from, to))
		pages = may_hold(s, to);
	pages = pages >> s->order << s->order;
	if (!pages || s->shift_pages)
		return 0;
	s->shift_from = from->index;
	s->shift_pages = pages;
	fence_reserve(s, to, s->sd[to->index].reserved + pages, promise_shifted);
	return pages;
}

/* Moves copies, those first that were not stored to for long. Pages that are on their way then. */
static u64 shift_copies(struct session *s, struct core_donor *from, struct core_donor *to, u64 pages, u32 *moving)
{
	u64 moved = 0;
	u32 i;

	for (i = 0; i < s->extents && *moving < MOVES_MAX && moved < pages; i++) {
		struct extent *x = &s->extent[(s->balance_next + i) % s->extents];

		if (x->stored_at + BALANCE_MS * MS > s->core->now || !extent_move(x, from, to))
			continue;
		s->balance_next = (s->balance_next + i + 1) % s->extents;
		moved += 1ULL << s->order;
		++*moving;
	}
	return moved;
}

/* ---- all of them ------------------------------------------------------------------------------------------------------------- */

/*
 * Copies that move; false: copies are missing somewhere, and this is not the time. What waits for a guest that answers no record,
 * because it is paused, is not waited for here.
 */
static bool survey(struct relay_core *core, u32 *moving)
{
	struct list *pos;
	bool whole = true;
	u32 i;

	*moving = 0;
	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);
		bool silent = s->link && link_silent(s->link);

		if (s->state == SESSION_ATTACHING)
			whole = false;
		for (i = 0; s->state == SESSION_ATTACHED && i < s->extents; i++) {
			struct extent *x = &s->extent[i];

			if (x->shift && core->now > x->shift_until && x->state == X_STEADY && !x->promote && !x->repair)
				balance_give_up(x);
			*moving += x->shift && !silent;
			whole &= silent || x->shift || !(extent_degraded(x) || extent_wants_copy(x));
		}
	}
	core->moving = *moving;
	return whole;
}

static void look(struct relay_core *core, u32 moving)
{
	struct core_donor *full = NULL, *roomy = NULL;
	u64 gap, step, extent = 1ULL << core->cfg.extent_order;
	struct list *pos;
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = core->donor[i];

		if (!counts(d))
			continue;
		if (!roomy || donor_free_pages(d) > donor_free_pages(roomy))
			roomy = d;
		if (!full || donor_free_pages(d) < donor_free_pages(full))
			full = d;
	}
	gap = full ? donor_free_pages(roomy) - donor_free_pages(full) : 0;
	if (!gap || gap <= roomy->total / (core->balancing ? END : BEGIN) ||
	    gap <= extent * (core->balancing ? END_EXTENTS : BEGIN_EXTENTS)) {
		if (core->balancing)
			core_say(core, CORE_LOG_NOTICE, "balance-end", "moved=%llu", (unsigned long long)core->count.balanced);
		core->balancing = false;
		return;
	}
	if (!core->balancing)
		core_say(core, CORE_LOG_NOTICE, "balance-begin", "from=%s to=%s difference_pages=%llu", full->name, roomy->name,
			 (unsigned long long)gap);
	core->balancing = true;
	step = gap / 8 > extent ? gap / 8 : extent;
	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);
		u64 done;

		if (!step || s->state != SESSION_ATTACHED || !s->link || link_silent(s->link) ||
		    s->sd[full->index].state != SD_READY || s->sd[roomy->index].state != SD_READY ||
		    s->sd[roomy->index].full_until > core->now)
			continue;
		done = shift_promise(s, full, roomy, step);
		if (!done)
			done = shift_copies(s, full, roomy, step, &moving);
		step -= done < step ? done : step;
	}
}

void balance_tick(struct relay_core *core)
{
	struct list *pos;
	u32 moving;

	if (core->now < core->balance_at || !core->cfg.repair_rate || core->draining)
		return;
	core->balance_at = core->now + BALANCE_MS * MS;
	if (!survey(core, &moving) || !core->cfg.balance)
		return;
	list_for_each(pos, &core->sessions)
		if (!moving && list_entry(pos, struct session, in_core)->state == SESSION_ATTACHED)
			trim(list_entry(pos, struct session, in_core));
	look(core, moving);
}
