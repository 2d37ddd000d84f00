// SPDX-License-Identifier: GPL-2.0-only
/*
 * repair.c - bringing extents back to their number of live copies, behind the foreground work.
 *
 *	phase	what is done
 *	SCAN	the syncing replica (the target) and the others (the sources) tell which slots they hold at which version
 *	COPY	slots that the target lacks, or has older, are fetched from the source that has them newest, verified, and
 *		stored at the target with the version they have; discarded ones are discarded there
 *	PROVE	where somebody said that a slot was overwritten meanwhile, the target is scanned again: it must have it
 *	COMPLETE a live source that lacks what the target has is scanned again, and given that
 *	done	the target's place in the record becomes live, what the record then names no more is freed
 *
 * Why one pass suffices: a write is acknowledged only when the target has it, too, from the moment on in which the record that
 * names the target took effect; what was acknowledged before, every live replica has, and the scan began later. Versions
 * keep the copy from overwriting anything newer. Any change of the extent's record ends the pass: the next one begins anew.
 *
 * No source is believed alone. A page that does not match version and check, or that its source listed and then has not got, is
 * taken from the next source, at last from one that is not live but has that version. Where there is none the pass fails, and
 * the target does not become live; that is tried again later and later, because a store or discard of that slot mends it, unless
 * another live source shows that nothing is missing (repair_lacks() in copy.c). A slot is discarded at the target only where every
 * live source says that it was: there is no page by which to tell.
 *
 * Where all live copies were lost at once, and several others are left (extent.left), no source has everything: all of them are read,
 * or the target does not become live. A relay that comes later knows the record alone, which had to call one of them live: that
 * one gets what it lacks before another becomes live beside it.
 *
 * What goes out is bounded by a number of extents, which the guests that lack copies share, by two requests per extent, by a rate
 * for all of them together, and by a quarter of each donor's window, which foreground stores are sent before;
 * less where the donor is slow (donor.c). Of the places of those extents half at most are kept by donors that are slow to answer,
 * where others have a use for them.
 */
#include "repair.h"

enum {
	REPAIR_MAX	= 8,		/* extents at once */
	REPAIR_AGAIN_MS	= 500,		/* after a pass that failed */
	REPAIR_DOUBLED	= 6,		/* times that this doubles where a slot has no good copy */
	REPAIR_INCOMPLETE = 3,		/* times that a live copy is given what it lacks and does not take it */
	REPAIR_AVOID_MS	= 1000,		/* a source that refuses or breaks off is done without, first; then twice as long, and so on, */
	REPAIR_AVOID_DOUBLED = 8,	/* so many times */
	REPAIR_ROOM_MS	= 2000,		/* after no donor had room */
	REPAIR_LOOK	= 16384,	/* extents looked at per session and time */
	REPAIR_LOOK_MS	= 20,		/* between two times: fetches want ticks far more often */
};

/* ---- beginning and ending ------------------------------------------------------------------------------------------------- */

static void repair_free(struct repair *r)
{
	u32 i;

	while (!list_empty(&r->dops))
		dop_cancel(list_first(&r->dops, struct dop, in_req));
	list_del(&r->in_core);
	r->x->repair = NULL;
	r->x->s->core->repairing--;
	r->x->s->repairing--;
	for (i = 0; i < r->sources; i++) {
		free(r->source[i].version);
		free(r->source[i].gone);
	}
	free(r->have);
	free(r->flags);
	free(r->doubt);
	free(r);
}

void repair_cancel(struct extent *x)
{
	if (x->repair)
		repair_free(x->repair);
}

void repair_fail(struct repair *r)
{
	r->x->repair_at = r->x->s->core->now + REPAIR_AGAIN_MS * MS;
	r->x->incomplete += r->completing;
	repair_free(r);
}

/*
 * A donor that refuses what repair asks must not keep an extent from ever being whole again. A target without memory for it makes
 * room for another one, as where it refuses a guest's store; so does one that says again and again what no donor that keeps the
 * protocol says. A source that does is done without for a while, where there is another one: a second first, then two and so on. That
 * is remembered beyond its connection, or it would only have to come back. One that hangs up, or falls silent, whenever it is asked
 * does the same harm; who merely restarts, or is cut off, has done it once, and a pass that comes through makes up for it.
 */
static bool avoided(const struct session *s, const struct core_donor *d)
{
	const struct sdonor *sd = &s->sd[d->index];

	return sd->repair_refusals > DONOR_MAX_RETRIES && s->core->now < sd->avoided_until;
}

static void avoid(struct session *s, const struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];
	u64 ms = (u64)REPAIR_AVOID_MS << sd->avoided_times;

	if (avoided(s, d))
		return;
	sd->avoided_until = s->core->now + ms * MS;
	s->core->count.repair_avoided++;
	if (!sd->avoided_times)
		core_say(s->core, CORE_LOG_WARN, "repair-avoids", "guest=%s donor=%s hint=\"it does not let its copies be read; where "
			 "there are others, they are\"", s->name, d->name);
	if (sd->avoided_times < REPAIR_AVOID_DOUBLED)
		sd->avoided_times++;
}

static void blame(struct extent *x, struct core_donor *d, bool target, bool no_memory)
{
	struct sdonor *sd = &x->s->sd[d->index];

	if (sd->repair_refusals <= DONOR_MAX_RETRIES && !no_memory) {
		sd->repair_refusals++;
	} else if (target) {
		x->unfit |= bit64(d->index);
		extent_review(x);
	}
	if (!target && sd->repair_refusals > DONOR_MAX_RETRIES)
		avoid(x->s, d);
}

void repair_broken(struct repair *r, struct core_donor *d)
{
	struct sdonor *sd = &r->x->s->sd[d->index];

	if (sd->broke_off == d->up_at)		/* many passes may end with one connection */
		return;
	sd->broke_off = d->up_at;
	blame(r->x, d, d == r->target, false);
}

/* -EPROTO: its connection is to go for that. */
int repair_refused(struct repair *r, struct core_donor *d, u32 status)
{
	struct extent *x = r->x;
	bool target = d == r->target, no_memory = target && status == MEMX_S_NOSPACE;

	switch (status) {
	case S_LOST:
		if (!target)	/* what a target has it keeps: the next pass goes on from there */
			repair_broken(r, d);
		return 0;
	case MEMX_S_UNKNOWN:
	case MEMX_S_NOFENCE:
		if (!target)
			blame(x, d, false, false);
		return fence_denied(x->s, d);
	case MEMX_S_FENCED:
	case MEMX_S_SUPERSEDED:
	case MEMX_S_ABSENT:
	case MEMX_S_GENERATION:
		if (!target)
			blame(x, d, false, false);
		return 0;
	default:
		break;
	}
	x->s->core->count.repair_refused++;
	core_say(x->s->core, CORE_LOG_WARN, "repair-refused", "guest=%s extent=%u donor=%s status=%s", x->s->name, x->index, d->name,
		 status_word(status));
	if (no_memory)		/* nor for the next extent's copy, nor for this one in a moment */
		x->s->sd[d->index].full_until = x->s->core->now + REFUSED_MS * MS;
	blame(x, d, target, no_memory);
	return 0;
}

/* Is this source done without? Like one that is away: each live copy has all that was acknowledged. */
static bool done_without(const struct extent *x, const struct replica *c)
{
	u8 i;

	if (!avoided(x->s, c->donor))
		return false;
	for (i = 0; i < x->cur.n; i++) {
		const struct replica *o = &x->cur.r[i];

		if (o != c && o->state == MEMX_R_LIVE && replica_usable(x->s, o) && !avoided(x->s, o->donor))
			return true;
	}
	return false;
}

/* No copy of @at is right. That may last: it is looked at again less and less often. */
void repair_stuck(struct repair *r, u32 at)
{
	struct extent *x = r->x;
	u64 pause = REPAIR_AGAIN_MS * MS << x->repair_fails;

	core_say(x->s->core, CORE_LOG_ERR, "repair-stuck", "guest=%s extent=%u slot=%u hint=\"no live copy of it is right; the copy at "
		 "donor %s waits until it is stored anew\"", x->s->name, x->index, r->first + at, r->target->name);
	if (x->repair_fails < REPAIR_DOUBLED)
		x->repair_fails++;
	x->repair_at = x->s->core->now + pause;
	repair_free(r);
}

static void forgive(struct session *s, const struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];

	if (sd->repair_refusals)
		sd->repair_refusals--;
	if (!sd->repair_refusals)
		sd->avoided_times = 0;
}

/*
 * It has what was within reach. But what is left of a lost extent is whole with all of it only: another one is completed as far, later
 * and later, until those that are away are back, or given up.
 */
static void done_in_part(struct repair *r)
{
	struct extent *x = r->x;

	x->repair_at = x->s->core->now + (REPAIR_AGAIN_MS * MS << x->repair_fails);
	if (x->repair_fails < REPAIR_DOUBLED)
		x->repair_fails++;
	repair_free(r);
}

void repair_done(struct repair *r)
{
	struct extent *x = r->x;
	struct relay_core *core = x->s->core;
	u32 i;

	if (x->left && r->some_only) {
		done_in_part(r);
		return;
	}
	x->repair_fails = 0;
	forgive(x->s, r->target);
	for (i = 0; i < r->sources; i++)
		forgive(x->s, r->source[i].donor);
	core->count.replicas_repaired++;
	core_say(core, CORE_LOG_INFO, "replica-repaired", "guest=%s extent=%u donor=%s", x->s->name, x->index, r->target->name);
	x->promote = bit64(r->target->index);
	repair_free(r);
	extent_review(x);
}

struct dop *repair_dop(struct repair *r, struct core_donor *d, u16 op, dop_done done)
{
	struct session *s = r->x->s;
	struct dop *dop = dop_new(d, op, DOP_REPAIR, done);

	dop->session = s;
	dop->extent = r->x;
	dop->repair = r;
	dop->epoch = s->epoch;
	list_add_tail(&dop->in_session, &s->dops);
	list_add_tail(&dop->in_req, &r->dops);
	return dop;
}

void repair_moved(struct dop *dop)
{
	list_del(&dop->in_req);
	dop->repair->moved_at = dop->repair->x->s->core->now;
}

/* ---- SCAN ------------------------------------------------------------------------------------------------------------------- */

static int scan_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body);
static void proved(struct repair *r);
static void looked_back(struct repair *r);

static void scan_ask(struct repair *r, struct core_donor *d)
{
	struct dop *dop = repair_dop(r, d, MEMX_OP_SCAN, scan_done);
	struct {
		struct memx_list list;
		struct memx_extent_ref ref;
	} ask = {
		.list = { .session = memx_put_le32(r->x->s->sd[d->index].handle), .count = memx_put_le32(1) },
		.ref = { .extent = memx_put_le32(r->x->index), .slot = memx_put_le32(r->first + r->scan_next[d->index]) },
	};

	memcpy(dop->small, &ask, sizeof(ask));
	dop->small_len = sizeof(ask);
	donor_queue(dop);
}

static void scanned(struct repair *r, const struct core_donor *d, u32 at, u64 version, bool gone)
{
	u32 i;

	if (d == r->target) {
		r->have[at] = version;
		r->flags[at] = (u8)((r->flags[at] & ~SLOT_NO_PAGE) | (gone ? SLOT_NO_PAGE : 0));
		return;
	}
	for (i = 0; i < r->sources; i++) {
		if (r->source[i].donor != d)
			continue;
		r->source[i].version[at] = version;
		r->source[i].gone[at] = gone;
	}
}

static bool last_resort(const struct repair *r, const struct core_donor *d)
{
	u32 i;

	for (i = 0; i < r->sources; i++)
		if (r->source[i].donor == d)
			return !r->source[i].live;
	return false;
}

static void scan_over(struct repair *r)
{
	if (!--r->scans)
		(r->completing ? looked_back : r->proving ? proved : repair_copy)(r);
}

static int scan_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct repair *r = dop->repair;
	struct core_donor *d = dop->donor;
	struct memx_list list;
	struct memx_want want;
	u32 i, count, at;
	int ret;

	repair_moved(dop);
	if (status != MEMX_S_OK) {
		if (last_resort(r, d)) {
			r->some_only = true;
			scan_over(r);	/* it would have been of use, no more */
			return 0;
		}
		ret = repair_refused(r, d, status);
		repair_fail(r);
		return ret;
	}
	if (head->len < sizeof(list))
		goto broken;
	memcpy(&list, body->data, sizeof(list));
	count = memx_le32(list.count);
	/* A place among those that are repaired is kept until the last answer, so it is not for the donor to choose how many it takes. */
	if (count > MEMX_MAX_SCAN || head->len != memx_scan_len(count) || (count < MEMX_MAX_SCAN && !(head->flags & MEMX_F_LAST)))
		goto broken;
	for (i = 0; i < count; i++) {
		memcpy(&want, body->data + sizeof(list) + i * sizeof(want), sizeof(want));
		at = memx_le32(want.slot) - r->first;
		if (at >= r->slots || at < r->scan_next[d->index])
			goto broken;
		r->scan_next[d->index] = at + 1;
		scanned(r, d, at, memx_le64(want.version), memx_le32(want.status) != MEMX_S_OK);
	}
	if (!(head->flags & MEMX_F_LAST))
		scan_ask(r, d);
	else
		scan_over(r);
	return 0;
broken:
	repair_broken(r, d);
	repair_fail(r);
	return -EPROTO;
}

/* ---- COMPLETE --------------------------------------------------------------------------------------------------------------- */

static bool lacks_any(const struct repair *r, const struct source *s)
{
	u32 at;

	for (at = 0; at < r->slots && !repair_behind(r, s, at); at++)
		;
	return at < r->slots;
}

/*
 * The target has everything. Has each live source? What the target took from the guest while they were scanned is on its way to them, and
 * there when they are scanned again; what then is missing they do not have. Who does not take that, time and again, does not
 * keep the target from being live.
 */
static void look_back(struct repair *r)
{
	u32 i;

	r->completing = !r->x->left && r->x->incomplete < REPAIR_INCOMPLETE;
	r->next = 0;
	for (i = 0; r->completing && i < r->sources; i++) {
		if (!lacks_any(r, &r->source[i]))
			continue;
		r->scan_next[r->source[i].donor->index] = 0;
		r->scans++;
		scan_ask(r, r->source[i].donor);
	}
	if (!r->scans)
		repair_done(r);
}

static void looked_back(struct repair *r)
{
	u32 i;

	for (i = 0; i < r->sources; i++)
		if (lacks_any(r, &r->source[i]))
			core_say(r->x->s->core, CORE_LOG_WARN, "copy-incomplete", "guest=%s extent=%u donor=%s from=%s hint=\"it counts as "
				 "whole, and is given what it lacks\"", r->x->s->name, r->x->index, r->source[i].donor->name,
				 r->target->name);
	repair_complete(r);
}

/* ---- PROVE ------------------------------------------------------------------------------------------------------------------ */

/* Everything was copied. What somebody called overwritten, the target must have by now: its write was queued there before. */
void repair_prove(struct repair *r)
{
	u32 at;

	for (at = 0; at < r->slots && !(r->flags[at] & SLOT_NEWER); at++)
		;
	if (at == r->slots) {
		look_back(r);
		return;
	}
	r->proving = true;
	r->scans = 1;
	r->scan_next[r->target->index] = 0;
	scan_ask(r, r->target);
}

/* A source whose word did not come true is not believed in that slot: what the others have of it is copied after all. */
static void proved(struct repair *r)
{
	u32 at, said;

	r->proving = false;
	for (at = 0; at < r->slots; at++) {
		said = r->flags[at] / SLOT_SAID;
		if (!(r->flags[at] & SLOT_NEWER))
			continue;
		r->flags[at] &= SLOT_NO_PAGE;
		if (!repair_lacks(r, at))
			continue;
		if (!said) {			/* OLD, said the target, and it has nothing newer */
			repair_refused(r, r->target, MEMX_S_OLD);
			repair_fail(r);
			return;
		}
		r->doubt[at] |= (u8)said;
	}
	r->next = 0;
	repair_copy(r);
}

/* ---- which extents ------------------------------------------------------------------------------------------------------------ */

/* What is left of a lost extent takes turns: while one of them is away none becomes live, and all are to have what can be had. */
static struct replica *find_target(struct extent *x)
{
	u8 i, k, first = x->left ? x->repair_fails : 0;

	for (i = 0; i < x->cur.n; i++) {
		k = (u8)(i + first) % x->cur.n;
		if (x->cur.r[k].state == MEMX_R_SYNCING && replica_usable(x->s, &x->cur.r[k]))
			return &x->cur.r[k];
	}
	return NULL;
}

static bool takes_part(const struct extent *x, const struct replica *c, const struct replica *target)
{
	return c == target || (replica_usable(x->s, c) && !done_without(x, c));
}

static void repair_start(struct extent *x, struct replica *target)
{
	struct session *s = x->s;
	struct relay_core *core = s->core;
	struct repair *r = core_zalloc(sizeof(*r));
	u32 left = s->slots - (x->index << s->order);
	u8 i;

	r->x = x;
	r->target = target->donor;
	r->moved_at = core->now;
	r->first = x->index << s->order;
	r->slots = left < 1U << s->order ? left : 1U << s->order;
	r->have = core_zalloc(r->slots * sizeof(*r->have));
	r->flags = core_zalloc(r->slots);
	r->doubt = core_zalloc(r->slots);
	list_init(&r->dops);
	list_add_tail(&r->in_core, &core->repairs);
	x->repair = r;
	core->repairing++;
	s->repairing++;
	for (i = 0; i < x->cur.n; i++) {
		struct replica *c = &x->cur.r[i];

		if (!takes_part(x, c, target)) {
			r->some_only |= c->donor != NULL;
			continue;
		}
		if (c != target) {
			r->source[r->sources].donor = c->donor;
			r->source[r->sources].live = c->state == MEMX_R_LIVE;
			r->source[r->sources].version = core_zalloc(r->slots * sizeof(u64));
			r->source[r->sources].gone = core_zalloc(r->slots * sizeof(bool));
			r->sources++;
		}
		r->scans++;
		scan_ask(r, c->donor);
	}
}

static bool live_source(const struct extent *x)
{
	u8 i;

	for (i = 0; i < x->cur.n; i++)
		if (x->cur.r[i].state == MEMX_R_LIVE && replica_usable(x->s, &x->cur.r[i]))
			return true;
	return false;
}

/* ---- whose turn it is --------------------------------------------------------------------------------------------------------- */

/*
 * A place is kept for as long as the donors of its extent take to answer. So that those which are slow, by nature or on purpose, do
 * not keep all the others waiting, half of the places are theirs, and what is left over: an extent that has to do with one of
 * them and comes in addition is passed over for those that have not, and the last that came gives its place to one of these.
 */
struct look {
	struct relay_core *core;
	u32 share;				/* of the places, for each guest */
	u64 slow;				/* donors (by index) whose answer a pass waits for at length */
	u32 kept, kept_of_guest;		/* places that they keep, of them those of the guest that is looked at */
	struct extent *passed_over[REPAIR_MAX];
	u32 passed;
	struct extent *waits;			/* for a place, and has nothing to do with them; of the guest that is looked at */
};

/* Donors (by index) that the pass has waited for, and for nothing else, for too long. */
static u64 waited_for(const struct repair *r)
{
	const struct relay_core *core = r->x->s->core;
	u64 since = r->moved_at > core->judge_from ? r->moved_at : core->judge_from, donors = 0;
	const struct list *pos;

	if (core->now - since < REPAIR_LATE_MS * MS)
		return 0;
	list_for_each(pos, &r->dops)
		donors |= bit64(list_entry(pos, struct dop, in_req)->donor->index);
	return donors;
}

static void count_kept(struct look *l, const struct session *s)
{
	const struct list *pos;

	l->slow = 0;
	l->kept = 0;
	l->kept_of_guest = 0;
	list_for_each(pos, &l->core->repairs) {
		const struct repair *r = list_entry(pos, struct repair, in_core);
		u64 donors = waited_for(r);

		l->slow |= donors;
		l->kept += donors != 0;
		l->kept_of_guest += donors && r->x->s == s;
	}
}

static bool has_to_do_with(const struct extent *x, u64 donors, const struct replica *target)
{
	u8 i;

	for (i = 0; donors && i < x->cur.n; i++)
		if (takes_part(x, &x->cur.r[i], target) && donors & bit64(x->cur.r[i].donor->index))
			return true;
	return false;
}

static bool place_free(const struct look *l, const struct session *s)
{
	return l->core->repairing < REPAIR_MAX && s->repairing < l->share;
}

static void wants_place(struct look *l, struct extent *x, struct replica *target)
{
	bool slow = has_to_do_with(x, l->slow, target);

	if (slow && (l->kept >= REPAIR_MAX / 2 || l->kept_of_guest >= (l->share + 1) / 2)) {
		x->s->repair_waits = true;
		if (l->passed < REPAIR_MAX)
			l->passed_over[l->passed++] = x;
	} else if (place_free(l, x->s)) {
		repair_start(x, target);
	} else {
		x->s->repair_waits = true;
		if (!slow && !l->waits)
			l->waits = x;
	}
}

/* It waits, and those that are slow have more than their half: of the guest's share where that is used up, else of all. */
static void make_place(struct look *l)
{
	struct extent *x = l->waits;
	bool of_guest = x->s->repairing >= l->share;
	struct list *pos;

	if (of_guest ? l->kept_of_guest <= l->share / 2 : l->kept <= REPAIR_MAX / 2)
		return;
	for (pos = l->core->repairs.prev; pos != &l->core->repairs; pos = pos->prev) {
		struct repair *r = list_entry(pos, struct repair, in_core);

		if (!waited_for(r) || (of_guest && r->x->s != x->s))
			continue;
		repair_fail(r);
		repair_start(x, find_target(x));
		return;
	}
}

static void look_at(struct look *l, struct extent *x)
{
	struct relay_core *core = l->core;
	struct replica *target;

	if (x->repair || !extent_takes_writes(x) || x->promote)
		return;
	if (extent_rejoins(x)) {
		x->want_more = true;
		extent_review(x);
		return;
	}
	if (x->repair_at > core->now || !live_source(x))
		return;
	target = find_target(x);
	if (extent_superfluous(x)) {
		x->want_more = true;		/* its record is to change */
		extent_review(x);
	} else if (target) {
		wants_place(l, x, target);
	} else if (extent_wants_copy(x)) {
		x->want_more = true;
		x->repair_at = core->now + REPAIR_ROOM_MS * MS;
		extent_review(x);
	}
}

static void look_through(struct look *l, struct session *s)
{
	u32 n;

	s->repair_waits = false;
	if (s->state != SESSION_ATTACHED)
		return;
	count_kept(l, s);
	l->waits = NULL;
	for (n = 0; n < s->extents && n < REPAIR_LOOK; n++) {
		if (s->repair_next >= s->extents)
			s->repair_next = 0;
		look_at(l, &s->extent[s->repair_next++]);
	}
	if (l->waits)
		make_place(l);
}

/*
 * Guests that lack copies have the same number of places each, where there are enough for all: one of hundreds of extents keeps no
 * other one waiting. Another one is looked at first each time, for the places that are left, and for those of many guests.
 */
static void look_around(struct relay_core *core)
{
	struct look l = { .core = core };
	u32 n = 0, in_want = 0, i;
	struct list *pos;

	list_for_each(pos, &core->sessions) {
		const struct session *s = list_entry(pos, struct session, in_core);

		n++;
		in_want += s->repairing || s->repair_waits;
	}
	l.share = in_want ? (REPAIR_MAX + in_want - 1) / in_want : REPAIR_MAX;
	pos = core->sessions.next;
	for (i = n ? core->repair_turn++ % n : 0; i; i--)
		pos = pos->next;
	for (i = 0; i < n; i++, pos = pos->next) {
		if (pos == &core->sessions)
			pos = pos->next;
		look_through(&l, list_entry(pos, struct session, in_core));
	}
	for (i = 0; i < l.passed; i++)
		if (place_free(&l, l.passed_over[i]->s))
			repair_start(l.passed_over[i], find_target(l.passed_over[i]));
}

void repair_tick(struct relay_core *core)
{
	struct list *pos, *tmp;

	if (!core->cfg.repair_rate || core->draining)
		return;
	list_for_each_safe(pos, tmp, &core->repairs) {
		struct repair *r = list_entry(pos, struct repair, in_core);

		if (!r->scans && !r->failed && !r->proving)
			(r->completing ? repair_complete : repair_copy)(r);
	}
	if (core->now >= core->repair_look_at) {
		core->repair_look_at = core->now + REPAIR_LOOK_MS * MS;
		look_around(core);
	} else {
		core_want_tick(core, core->repair_look_at);	/* what made this one due may have left something to repair */
	}
	if (core->repairing)
		core_want_tick(core, core->now + 20 * MS);
}
