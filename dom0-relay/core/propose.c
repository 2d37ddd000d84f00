// SPDX-License-Identifier: GPL-2.0-only
/*
 * propose.c - the record that an extent should have next, from what is true of its replicas now. change.c puts it in place.
 *
 * One decision after the other, each on the placement that the one before left:
 *	who was repaired becomes live, who is lost or away stale;
 *	who alone holds up a write that others took is stale, too, if another live copy is left;
 *	who refuses a write that others took is left out as well, if no fewer copies are left with those who take the places;
 *	copies that are missing get donors; what is named beyond need goes.
 * Only then, for the copies that were chosen, room is reserved.
 */
#include "internal.h"

static void leave_out(struct extent *x, struct placement *p, int i)
{
	extent_touch(x, &p->r[i]);
	placement_remove(p, i);
}

/*
 * None of those that are left is whole, so it does not matter which of them the record calls live: one that is within reach. The
 * others take writes as well, as those do that repair is to complete.
 */
static void one_of_the_left(const struct extent *x, struct placement *p)
{
	int i, live = -1;

	for (i = 0; i < p->n && live < 0; i++)
		if (replica_takes_writes(&p->r[i]) && replica_usable(x->s, &p->r[i]))
			live = i;
	for (i = 0; i < p->n && live < 0; i++)
		if (replica_usable(x->s, &p->r[i]))
			live = i;
	for (i = 0; i < p->n; i++)
		p->r[i].state = i == live || live < 0 ? MEMX_R_LIVE : replica_usable(x->s, &p->r[i]) ? MEMX_R_SYNCING : MEMX_R_STALE;
}

/*
 * Every live copy is gone, not just away. What is left, syncing or stale, together may still have all or most of the pages, and
 * a page is good where its version matches. Said loudly all the same. None of several alone is whole, so from then on none is left
 * out, until repair has made one that has what all of them have.
 */
static void all_lost(struct extent *x, struct placement *p)
{
	struct session *s = x->s;

	x->left = p->n > 1;
	x->made_whole = 0;
	if (!x->lost) {
		x->lost = true;
		s->core->count.extents_lost++;
		if (s->link)
			link_lost(s->link, x);
	}
	one_of_the_left(x, p);
}

/* May a stale copy take writes again? */
static bool may_rejoin(const struct extent *x, const struct replica *r)
{
	u64 not = x->unfit | x->late | x->refused;

	return r->state == MEMX_R_STALE && replica_usable(x->s, r) && r->donor->shunned_until <= x->s->core->now &&
	       x->s->sd[r->donor->index].full_until <= x->s->core->now && !(not & bit64(r->donor->index));
}

/* A copy that is left is back: it is to be completed as the others are. */
bool extent_rejoins(const struct extent *x)
{
	u8 i;

	for (i = 0; x->left && i < x->cur.n; i++)
		if (may_rejoin(x, &x->cur.r[i]))
			return true;
	return false;
}

static void rejoin(const struct extent *x, struct placement *p)
{
	int i;

	for (i = 0; x->left && i < p->n; i++)
		if (may_rejoin(x, &p->r[i]))
			p->r[i].state = MEMX_R_SYNCING;
}

static void drop_lost(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	bool had = p->n, one_serves;
	int i;

	for (i = p->n; i-- > 0;)
		if (replica_gone(&p->r[i]))
			leave_out(x, p, i);
	if (p->n < 2)
		x->left = false;
	if (had && !placement_count(p, MEMX_R_LIVE))
		all_lost(x, p);
	else if (x->left && !x->made_whole && !placement_live_usable(s, p))
		one_of_the_left(x, p);
	one_serves = placement_live_usable(s, p);
	for (i = p->n; i-- > 0;) {
		struct replica *r = &p->r[i];

		if (!replica_takes_writes(r) || !replica_away(s, r))
			continue;
		/* A syncing one, too: it may have been a live one before, and hold what the live ones have damaged. */
		if (one_serves || (r->state == MEMX_R_SYNCING && placement_count(p, MEMX_R_LIVE)))
			r->state = MEMX_R_STALE;
	}
	rejoin(x, p);
}

/* Is there a live copy within reach that is not late? */
static bool one_is_in_time(const struct extent *x, const struct placement *p)
{
	u8 i;

	for (i = 0; i < p->n; i++) {
		const struct replica *r = &p->r[i];

		if (r->state == MEMX_R_LIVE && r->donor && replica_usable(x->s, r) && !(x->late & bit64(r->donor->index)))
			return true;
	}
	return false;
}

/* Those that alone hold up a write: late.c. Never the last live copy, nor for one that is as late. */
static void drop_late(const struct extent *x, struct placement *p)
{
	u8 i;

	for (i = 0; x->late && i < p->n; i++) {
		struct replica *r = &p->r[i];

		if (r->donor && x->late & bit64(r->donor->index) && replica_takes_writes(r) && one_is_in_time(x, p))
			r->state = MEMX_R_STALE;
	}
}

/*
 * Donors that had a copy and lost it: not the first choice for the next one. Not at all while the record in effect calls that
 * copy live: if this change does not come through, the guest's map would take an empty copy for a whole one. So the donor first
 * goes from the record, and may be in the next.
 */
static u64 failed_here(const struct extent *x, bool live_only)
{
	u64 mask = 0;
	u8 i;

	for (i = 0; i < x->cur.n; i++)
		if (x->cur.r[i].bad && x->cur.r[i].donor && (!live_only || x->cur.r[i].state == MEMX_R_LIVE))
			mask |= bit64(x->cur.r[i].donor->index);
	return mask;
}

/*
 * A place in a full record for one more: a stale copy makes room, rather one that is away for long, or away at all. It may be the
 * last with a page that the live ones have damaged, so nobody makes room before it is known who comes instead.
 */
static void make_room(struct extent *x, struct placement *p)
{
	int i, pass;

	for (pass = 0; pass < 3 && !x->left; pass++)
		for (i = 0; p->n == MEMX_MAX_REPLICAS && i < p->n; i++) {
			const struct replica *r = &p->r[i];

			if (r->state == MEMX_R_STALE && (pass > 1 || (!replica_usable(x->s, r) && (pass || !r->donor || r->donor->dead))))
				leave_out(x, p, i);
		}
}

/* In a full record a stale copy takes writes again where it may: what it has is not given up for an empty one. */
static struct core_donor *stale_again(const struct extent *x, const struct placement *p, u64 not)
{
	int i;

	for (i = 0; i < p->n; i++)
		if (p->r[i].state == MEMX_R_STALE && replica_usable(x->s, &p->r[i]) && place_allowed(x, p->r[i].donor, p, not))
			return p->r[i].donor;
	return NULL;
}

/* A donor for a copy that is missing, and a place in the record for it. NULL: none has room. */
static struct core_donor *one_more(struct extent *x, struct placement *p, u64 not)
{
	struct core_donor *d = p->n < MEMX_MAX_REPLICAS ? NULL : stale_again(x, p, not);

	if (!d)
		d = place_choose(x, p, not);
	if (!d || placement_find(p, d) >= 0)
		return d;
	make_room(x, p);
	return p->n < MEMX_MAX_REPLICAS ? d : NULL;
}

static struct core_donor *shift_target(struct extent *x, const struct placement *p)
{
	struct core_donor *d = x->s->core->donor[__builtin_ctzll(x->shift_to)];

	return d && p->n < MEMX_MAX_REPLICAS && place_allowed(x, d, p, x->refused) ? d : NULL;
}

/* Many extents come to it at the same time: counted each, said now and then. */
static void no_room(struct extent *x, const struct placement *p)
{
	struct relay_core *core = x->s->core;

	if (place_shuns(x, p, x->unfit))	/* only to be waited for */
		return;
	x->no_room = true;
	core->count.no_repair_room++;
	if (core->no_room_said && core->now - core->no_room_said < NO_ROOM_SAY_MS * MS)
		return;
	core->no_room_said = core->now;
	core_say(core, CORE_LOG_ERR, "no-repair-room", "guest=%s extent=%u times=%llu hint=\"no donor that is there, in another failure "
		 "domain if there are enough, has room for the copies that are missing; add memory\"", x->s->name, x->index,
		 (unsigned long long)core->count.no_repair_room);
}

/* Names donors for the copies that are missing, @state: of the new ones. False: not for all of them is there one. */
static bool add_copies(struct extent *x, struct placement *p, u8 state)
{
	struct session *s = x->s;
	u64 left = x->unfit | x->late, failed = failed_here(x, false) | left;
	u64 never = left | (state == MEMX_R_LIVE ? 0 : failed_here(x, true));

	/* A copy that only moves goes where it is to go; where one is missing beside, that comes first, and it stays. */
	if (x->shift && (placement_copies(x, p) + 1 < s->replicas || (placement_copies(x, p) < s->replicas && !shift_target(x, p))))
		balance_give_up(x);
	while (placement_copies(x, p) < s->replicas) {
		struct core_donor *d = x->shift ? shift_target(x, p) : one_more(x, p, x->refused | failed);
		int i;

		if (!d && failed)
			d = one_more(x, p, x->refused | never);
		if (!d)
			return false;
		i = placement_find(p, d);
		if (i < 0) {
			i = p->n++;
			memset(&p->r[i], 0, sizeof(p->r[i]));
			p->r[i].donor = d;
			memcpy(p->r[i].id, d->id, sizeof(d->id));
			p->r[i].instance = d->instance;
		}
		p->r[i].state = state;
	}
	return true;
}

/* Live copies within reach, wherever they lie: what leaves its donor goes only when another one is live in its place. */
static unsigned int live_now(const struct extent *x, const struct placement *p)
{
	unsigned int i, live = 0;

	for (i = 0; i < p->n; i++)
		live += p->r[i].state == MEMX_R_LIVE && replica_usable(x->s, &p->r[i]);
	return live;
}

/*
 * Those who refuse a write that another live copy has make room for donors that do not: all of them or none, for as long as one
 * stays the write fails. And not where fewer copies were left than are wanted: the write would be worth less than one that fails
 * and stays with the guest. A copy that was to relieve another, which is still live, is none of those. False: @p is as it was.
 */
static bool replace_unfit(struct extent *x, struct placement *p, bool *all)
{
	unsigned int i, had = placement_copies(x, p), unfit = 0;
	struct placement q = *p;

	for (i = 0; i < q.n; i++) {
		struct replica *r = &q.r[i];

		if (!r->donor || !(x->unfit & bit64(r->donor->index)) || !replica_takes_writes(r))
			continue;
		r->state = MEMX_R_STALE;
		unfit++;
	}
	if (!unfit || !placement_live_usable(x->s, &q))
		return false;
	*all = add_copies(x, &q, MEMX_R_SYNCING);
	if (had > x->s->replicas)
		had = x->s->replicas;
	if (placement_copies(x, &q) < had && live_now(x, &q) < x->s->replicas)
		return false;
	*p = q;
	return true;
}

static void ensure_reserved(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];
	u64 want = (u64)(sd->placed + 1) << s->order;
	u64 more = 3ULL << s->order;

	if (want <= sd->reserved)
		return;
	if (donor_free_pages(d) > want - sd->reserved + more)	/* a few at once: the next will want it too */
		want += more;
	fence_reserve(s, d, want, NULL);
}

/* It is decided who gets a copy: those who have none yet reserve room for it; and it is said where nobody has room. */
static void provide(struct extent *x, const struct placement *p, bool all)
{
	int i, k;

	for (i = 0; i < p->n; i++) {
		k = p->r[i].donor ? placement_find(&x->cur, p->r[i].donor) : i;
		if (k < 0 || (p->r[i].donor && replica_gone(&x->cur.r[k])))
			ensure_reserved(x->s, p->r[i].donor);
	}
	if (!all && p->n && !x->no_room)
		no_room(x, p);
	else if (all)
		x->no_room = false;
}

static bool any_ready(const struct session *s)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (s->core->donor[i] && donor_takes(s->core->donor[i]) && s->sd[i].state == SD_READY)
			return true;
	return false;
}

/*
 * Is a donor missing that will be there in a moment, or be given up for dead; or there, and to take the session up or refuse it?
 * What has no room now may have it then; each of these events has every extent looked at again.
 */
static bool any_expected(const struct session *s)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = s->core->donor[i];

		if (d && !donor_ok(d) && donor_stays(d) && !d->dead && !d->duplicate)
			return true;
		if (d && donor_takes(d) && (s->sd[i].state == SD_FENCING || s->sd[i].state == SD_LISTING))
			return true;
	}
	return false;
}

static unsigned int live_to_stay(const struct extent *x, const struct placement *p)
{
	unsigned int i, live = 0;

	for (i = 0; i < p->n; i++)
		live += p->r[i].state == MEMX_R_LIVE && replica_usable(x->s, &p->r[i]) && replica_stays(x, &p->r[i]);
	return live;
}

/* More is named than is wanted, although there are enough live copies where they may stay. */
bool extent_superfluous(const struct extent *x)
{
	return !x->left && x->cur.n > x->s->replicas && live_to_stay(x, &x->cur) >= x->s->replicas;
}

/* Repair is done when there are enough live copies where they may stay: what else is named has served. */
static void drop_superfluous(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	int i, fullest;

	if (x->left || live_to_stay(x, p) < s->replicas)
		return;
	for (i = p->n; i-- > 0;)
		if (p->r[i].state != MEMX_R_LIVE || !replica_stays(x, &p->r[i]) || !replica_usable(s, &p->r[i]))
			leave_out(x, p, i);
	while (live_to_stay(x, p) > s->replicas) {
		for (i = 0, fullest = -1; i < p->n; i++)
			if (replica_usable(s, &p->r[i]) &&
			    (fullest < 0 || donor_free_pages(p->r[i].donor) < donor_free_pages(p->r[fullest].donor)))
				fullest = i;
		leave_out(x, p, fullest);
	}
}

/*
 * The copy that repair has completed, if it is still the one. Where it is the first that has what all those had which were left it
 * is the only live one: to the others that state is over as well when this record is in effect, and they are completed from it.
 */
static void promote(struct extent *x, struct placement *p)
{
	int i, k;

	x->made_whole = 0;
	for (i = 0; i < p->n; i++) {
		if (p->r[i].state != MEMX_R_SYNCING || !p->r[i].donor || !(x->promote & bit64(p->r[i].donor->index)) ||
		    !replica_usable(x->s, &p->r[i]))
			continue;
		for (k = 0; x->left && k < p->n; k++)
			if (p->r[k].state == MEMX_R_LIVE)
				p->r[k].state = MEMX_R_SYNCING;
		p->r[i].state = MEMX_R_LIVE;
		x->made_whole = x->left ? x->promote : 0;
	}
	x->promote = 0;
}

static bool same_replicas(const struct placement *a, const struct placement *b)
{
	u8 i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++)
		if (memcmp(a->r[i].id, b->r[i].id, 16) || a->r[i].state != b->r[i].state ||
		    a->r[i].instance != b->r[i].instance || a->r[i].bad != b->r[i].bad)
			return false;
	return true;
}

enum proposal extent_propose(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	bool fresh, all;
	int i;

	if (x->shift_to & (x->unfit | x->late))	/* a copy was on its way there */
		balance_give_up(x);
	*p = x->cur;
	promote(x, p);
	drop_lost(x, p);
	drop_late(x, p);
	fresh = !placement_count(p, MEMX_R_LIVE);
	if (!fresh && !placement_live_usable(s, p))
		return PROPOSE_WAIT;
	if (!replace_unfit(x, p, &all))
		all = add_copies(x, p, fresh ? MEMX_R_LIVE : MEMX_R_SYNCING);
	if (fresh && x->late && !placement_count(p, MEMX_R_LIVE)) {	/* rather one that is slow than none */
		x->late = 0;
		all = add_copies(x, p, MEMX_R_LIVE);
	}
	provide(x, p, all);
	if (!placement_count(p, MEMX_R_LIVE))
		return any_ready(s) && !any_expected(s) ? PROPOSE_NOSPACE : PROPOSE_WAIT;
	drop_superfluous(x, p);
	if (same_replicas(p, &x->cur) && x->gen_floor <= x->cur.generation)
		return PROPOSE_SAME;
	for (i = 0; i < p->n; i++)
		if (replica_takes_writes(&p->r[i]) && !replica_usable(s, &p->r[i]))
			return PROPOSE_WAIT;
	p->generation = (x->gen_floor > x->cur.generation ? x->gen_floor : x->cur.generation) + 1;
	return PROPOSED;
}
