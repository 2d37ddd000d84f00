// SPDX-License-Identifier: GPL-2.0-only
/*
 * change.c - how an extent gets its next record: proposed from what is true of its replicas, placed at donors, acknowledged by
 * the guest. internal.h has the states; extent.c decides when a change is wanted.
 */
#include "internal.h"

static void change_over(struct extent *x, u8 state)
{
	struct session *s = x->s;

	x->state = state;
	s->changing--;
	if (!list_empty(&s->later)) {
		struct extent *y = list_first(&s->later, struct extent, in_later);

		list_del(&y->in_later);
		extent_review(y);
	}
}

/* ---- proposing ------------------------------------------------------------------------------------------------------------- */

enum proposal {
	PROPOSED,
	PROPOSE_SAME,		/* nothing to change */
	PROPOSE_WAIT,		/* somebody who must agree cannot be asked now */
	PROPOSE_NOSPACE,
};

/* One with its memory new has not that copy, but it may have what a relay before us proposed to it: FREE of nothing costs nothing. */
static void touch(struct extent *x, const struct replica *r)
{
	if (r->donor)
		x->touched |= bit64(r->donor->index);
}

static void leave_out(struct extent *x, struct placement *p, int i)
{
	touch(x, &p->r[i]);
	placement_remove(p, i);
}

/*
 * Every live copy is gone, not just away. What is left, syncing or stale, together may still have all or most of the pages, and
 * a page is good where its version matches: those copies count as the live ones from now on. Said loudly all the same.
 */
static void all_lost(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	int i;

	if (!x->lost) {
		x->lost = true;
		s->core->count.extents_lost++;
		if (s->link)
			link_lost(s->link, x);
	}
	for (i = 0; i < p->n; i++)
		p->r[i].state = MEMX_R_LIVE;
}

static void drop_lost(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	bool had = p->n, one_serves;
	int i;

	for (i = p->n; i-- > 0;)
		if (replica_gone(&p->r[i]))
			leave_out(x, p, i);
	if (had && !placement_count(p, MEMX_R_LIVE))
		all_lost(x, p);
	one_serves = placement_live_usable(s, p);
	for (i = p->n; i-- > 0;) {
		struct replica *r = &p->r[i];

		if (!replica_takes_writes(r) || !replica_away(s, r))
			continue;
		/* A syncing one, too: it may have been a live one before, and hold what the live ones have damaged. */
		if (one_serves || (r->state == MEMX_R_SYNCING && placement_count(p, MEMX_R_LIVE)))
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

static bool another_serves(const struct extent *x, const struct placement *p, int but)
{
	int i;

	for (i = 0; i < p->n; i++)
		if (i != but && p->r[i].state == MEMX_R_LIVE && replica_usable(x->s, &p->r[i]) &&
		    !(x->unfit & bit64(p->r[i].donor->index)))
			return true;
	return false;
}

/*
 * Who refuses a write that another live copy has makes room for a donor that does not. Only where there is one: with fewer copies
 * than before the write would be worth less than one that fails and stays with the guest.
 */
static void replace_unfit(struct extent *x, struct placement *p)
{
	int i;

	for (i = 0; i < p->n; i++) {
		struct replica *r = &p->r[i];
		u8 was = r->state;

		if (!r->donor || !(x->unfit & bit64(r->donor->index)) || !replica_takes_writes(r) || !another_serves(x, p, i))
			continue;
		r->state = MEMX_R_STALE;
		if (placement_copies(x, p) < x->s->replicas &&
		    (p->n == MEMX_MAX_REPLICAS || !place_choose(x, p, x->refused | x->unfit | failed_here(x, false))))
			r->state = was;
	}
}

/* Does @p have fewer copies than @before, of those that are wanted? */
static bool fewer_copies(const struct extent *x, const struct placement *p, const struct placement *before)
{
	unsigned int had = placement_copies(x, before);

	return placement_copies(x, p) < (had < x->s->replicas ? had : x->s->replicas);
}

/*
 * A place in a full record for one more: a stale copy makes room, rather one that is away for long, or away at all. It may be the
 * last with a page that the live ones have damaged, so nobody makes room before it is known who comes instead.
 */
static void make_room(struct extent *x, struct placement *p)
{
	int i, pass;

	for (pass = 0; pass < 3; pass++)
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

static struct core_donor *shift_target(struct extent *x, const struct placement *p)
{
	struct core_donor *d = x->s->core->donor[__builtin_ctzll(x->shift_to)];

	return d && p->n < MEMX_MAX_REPLICAS && place_allowed(x, d, p, x->refused) ? d : NULL;
}

/* Many extents come to it at the same time: counted each, said now and then. */
static void no_room(struct extent *x)
{
	struct relay_core *core = x->s->core;

	x->no_room = true;
	core->count.no_repair_room++;
	if (core->no_room_said && core->now - core->no_room_said < NO_ROOM_SAY_MS * MS)
		return;
	core->no_room_said = core->now;
	core_say(core, CORE_LOG_ERR, "no-repair-room", "guest=%s extent=%u times=%llu hint=\"no donor that is there, in another failure "
		 "domain if there are enough, has room for the copies that are missing; add memory\"", x->s->name, x->index,
		 (unsigned long long)core->count.no_repair_room);
}

/* Copies that are missing. @state: of the new ones. */
static void add_copies(struct extent *x, struct placement *p, u8 state)
{
	struct session *s = x->s;
	u64 failed = failed_here(x, false) | x->unfit, never = x->unfit | (state == MEMX_R_LIVE ? 0 : failed_here(x, true));

	/* A copy that only moves goes where it is to go; where one is missing beside, that comes first, and it stays. */
	if (x->shift && (placement_copies(x, p) + 1 < s->replicas || (placement_copies(x, p) < s->replicas && !shift_target(x, p))))
		balance_give_up(x);
	while (placement_copies(x, p) < s->replicas) {
		struct core_donor *d = x->shift ? shift_target(x, p) : one_more(x, p, x->refused | failed);
		int i;

		if (!d && failed)
			d = one_more(x, p, x->refused | never);
		if (!d) {
			if (p->n && !x->no_room)
				no_room(x);
			return;
		}
		i = placement_find(p, d);
		if (i < 0) {
			i = p->n++;
			memset(&p->r[i], 0, sizeof(p->r[i]));
			p->r[i].donor = d;
			memcpy(p->r[i].id, d->id, sizeof(d->id));
			p->r[i].instance = d->instance;
			ensure_reserved(s, d);
		}
		p->r[i].state = state;
		x->no_room = false;
	}
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
 * Is a donor missing that will be there in a moment, or be given up for dead? What has no room now may have it then; either event
 * has every extent looked at again.
 */
static bool any_expected(const struct session *s)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = s->core->donor[i];

		if (d && !donor_ok(d) && donor_stays(d) && !d->dead && !d->duplicate)
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
	return x->cur.n > x->s->replicas && live_to_stay(x, &x->cur) >= x->s->replicas;
}

/* Repair is done when there are enough live copies where they may stay: what else is named has served. */
static void drop_superfluous(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	int i, fullest;

	if (live_to_stay(x, p) < s->replicas)
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

/* The copy that repair has completed, if it is still the one. */
static void promote(struct extent *x, struct placement *p)
{
	int i;

	for (i = 0; i < p->n; i++)
		if (p->r[i].state == MEMX_R_SYNCING && p->r[i].donor && x->promote & bit64(p->r[i].donor->index) &&
		    replica_usable(x->s, &p->r[i]))
			p->r[i].state = MEMX_R_LIVE;
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

static enum proposal propose_next(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	struct placement before;
	bool fresh;
	int i;

	if (x->shift_to & x->unfit)	/* a copy was on its way there */
		balance_give_up(x);
	*p = x->cur;
	promote(x, p);
	drop_lost(x, p);
	before = *p;
	replace_unfit(x, p);
	fresh = !placement_count(p, MEMX_R_LIVE);
	if (!fresh && !placement_live_usable(s, p))
		return PROPOSE_WAIT;
	add_copies(x, p, fresh ? MEMX_R_LIVE : MEMX_R_SYNCING);
	if (x->unfit && fewer_copies(x, p, &before)) {
		/* Two refused, and there is one that could take their places: none is replaced, and what they refused fails. */
		*p = before;
		add_copies(x, p, fresh ? MEMX_R_LIVE : MEMX_R_SYNCING);
	}
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

/* ---- PLACE ------------------------------------------------------------------------------------------------------------------ */

static void placed_all(struct extent *x)
{
	if (!x->place_failed) {
		x->state = X_RECORDING;
		link_record(x);
		return;
	}
	extent_count(x, -1);
	x->next.n = 0;
	extent_count(x, 1);
	change_over(x, x->cur.generation ? X_STEADY : X_NONE);
	extent_review(x);
}

/*
 * Where the record in effect counts on a copy, PLACE only raises its generation: the donor has no reason to refuse that, unless
 * it has the extent no more. Anything else says nothing about the copy, so it must not cost one: -EPROTO, its connection goes.
 */
static int place_refused(struct extent *x, struct core_donor *d, u32 status)
{
	struct session *s = x->s;
	int i = placement_find(&x->cur, d);
	bool held = i >= 0 && replica_takes_writes(&x->cur.r[i]) && x->cur.r[i].instance == d->instance;
	bool known_lost = i >= 0 && x->cur.r[i].bad;	/* it may have been made anew there, or have said so meanwhile */

	switch (status) {
	case S_LOST:
		return 0;
	case MEMX_S_FENCED:
	case MEMX_S_SUPERSEDED:
		session_fenced(s, d, status);
		return 0;
	case MEMX_S_UNKNOWN:
	case MEMX_S_NOFENCE:
		return fence_denied(s, d);
	case MEMX_S_ABSENT:
		if (!held)
			return -EPROTO;
		extent_replica_failed(x, d, status);
		break;
	case MEMX_S_NOSPACE:
	case MEMX_S_DRAINING:
	case MEMX_S_LIMIT:
	case MEMX_S_AGAIN:
	case MEMX_S_GENERATION:
		if (held && !known_lost)
			return -EPROTO;
		s->sd[d->index].full_until = s->core->now + 1000 * MS;
		break;
	default:
		return -EPROTO;
	}
	x->refused |= bit64(d->index);
	return 0;
}

static int place_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct extent *x = dop->extent;
	int ret = 0;

	(void)body;
	x->pending--;
	if (status != MEMX_S_OK || (head && head->len)) {
		x->place_failed = true;
		ret = head && head->len ? -EPROTO : place_refused(x, dop->donor, status);
	}
	if (ret) {
		core_say(x->s->core, CORE_LOG_WARN, "place-refused", "guest=%s extent=%u donor=%s status=%s", x->s->name, x->index,
			 dop->donor->name, status_word(status));
		x->refused |= bit64(dop->donor->index);
	}
	if (!x->pending)
		placed_all(x);
	return ret;
}

/* Did the record in effect already count on this copy? @k: its donor's place there. */
static bool held_before(const struct extent *x, int k, const struct replica *r)
{
	const struct replica *c = k < 0 ? NULL : &x->cur.r[k];

	return c && replica_takes_writes(c) && c->instance == r->instance && !c->bad;
}

static void place_send(struct extent *x, const struct replica *r, const struct memx_record *rec)
{
	struct session *s = x->s;
	struct dop *dop = dop_new(r->donor, MEMX_OP_PLACE, DOP_CONTROL, place_done);
	struct memx_place place = { .session = memx_put_le32(s->sd[r->donor->index].handle), .record = *rec };
	int i = placement_find(&x->cur, r->donor);

	if (!held_before(x, i, r)) {
		place.flags = memx_put_le32(MEMX_PLACE_CREATE);
		x->touched |= bit64(r->donor->index);
	}
	dop->session = s;
	dop->extent = x;
	dop->epoch = s->epoch;
	list_add_tail(&dop->in_session, &s->dops);
	memcpy(dop->small, &place, sizeof(place));
	dop->small_len = sizeof(place);
	x->pending++;
	donor_queue(dop);
}

static void change_start(struct extent *x, const struct placement *p)
{
	struct memx_record rec;
	u8 i;

	repair_cancel(x);
	store_recall(x);
	extent_count(x, -1);
	x->next = *p;
	x->gen_floor = p->generation;
	x->state = X_PLACING;
	x->place_failed = false;
	x->s->changing++;
	list_del(&x->in_later);
	placement_to_wire(p, x->index, &rec);
	for (i = 0; i < p->n; i++)
		if (replica_takes_writes(&p->r[i]))
			place_send(x, &p->r[i], &rec);
	extent_count(x, 1);
}

/* ---- the guest acknowledged -------------------------------------------------------------------------------------------------- */

static void touch_again(struct extent *x, const struct core_donor *d)
{
	extent_count(x, -1);
	x->touched |= bit64(d->index);
	extent_count(x, 1);
}

/* Until the donor has confirmed it, or lists the extent no more, it is told again. */
static int free_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct core_donor *d = dop->donor;
	struct extent *x = dop->extent;

	(void)body;
	if (head && head->len)
		return -EPROTO;
	switch (status) {
	case MEMX_S_OK:
	case MEMX_S_ABSENT:
		return 0;
	case MEMX_S_FENCED:
	case MEMX_S_SUPERSEDED:
		session_fenced(dop->session, d, status);
		return 0;
	case S_LOST:
		touch_again(x, d);
		return 0;
	case MEMX_S_AGAIN:
	case MEMX_S_LIMIT:
		touch_again(x, d);
		extent_later(x);
		return 0;
	case MEMX_S_UNKNOWN:
	case MEMX_S_NOFENCE:
		touch_again(x, d);
		return fence_denied(dop->session, d);
	default:
		touch_again(x, d);
		return -EPROTO;
	}
}

/* Donors that hold what no record names any more. Those that are away are told when they are back. */
void extent_free_touched(struct extent *x)
{
	struct session *s = x->s;
	u64 todo;

	for (todo = x->touched; todo; todo &= todo - 1) {
		u32 i = (u32)__builtin_ctzll(todo);
		struct core_donor *d = s->core->donor[i];
		struct {
			struct memx_list list;
			struct memx_extent_ref ref;
		} body = {
			.list = { .session = memx_put_le32(s->sd[i].handle), .count = memx_put_le32(1) },
			.ref = { .extent = memx_put_le32(x->index), .generation = memx_put_le64(x->gen_floor) },
		};
		struct dop *dop;

		if (d && placement_find(&x->cur, d) >= 0) {
			x->touched &= ~bit64(i);	/* counted as named by cur */
			continue;
		}
		if (!d || !donor_ok(d) || s->sd[i].state != SD_READY)
			continue;
		extent_count(x, -1);
		x->touched &= ~bit64(i);
		extent_count(x, 1);
		dop = dop_new(d, MEMX_OP_FREE, DOP_CONTROL, free_done);
		dop->extent = x;
		dop->session = s;
		dop->epoch = s->epoch;
		list_add_tail(&dop->in_session, &s->dops);
		memcpy(dop->small, &body, sizeof(body));
		dop->small_len = sizeof(body);
		donor_queue(dop);
	}
}

static int in_force_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	(void)dop;
	(void)body;
	return status != S_LOST && head->len ? -EPROTO : 0;
}

/* Does something wait that @d has not got, and will be sent? What it has refused is not sent to it again. */
static bool write_follows(const struct extent *x, const struct core_donor *d)
{
	const struct list *pos;

	list_for_each(pos, &x->writes) {
		const struct greq *req = list_entry(pos, struct greq, in_extent);

		if (!((req->done | req->refused) & bit64(d->index)))
			return true;
	}
	return false;
}

/* Donors may need to know which record is in force when nobody can tell them; a store that follows tells it as well. */
static void tell_in_force(struct extent *x)
{
	struct session *s = x->s;
	struct memx_place place = { .flags = memx_put_le32(MEMX_PLACE_IN_FORCE) };
	u8 i;

	placement_to_wire(&x->cur, x->index, &place.record);
	for (i = 0; i < x->cur.n; i++) {
		const struct replica *r = &x->cur.r[i];
		struct dop *dop;

		if (!replica_takes_writes(r) || !replica_usable(s, r) || !(r->donor->features & MEMX_FEATURE_RECLAIM) ||
		    write_follows(x, r->donor))
			continue;
		place.session = memx_put_le32(s->sd[r->donor->index].handle);
		dop = dop_new(r->donor, MEMX_OP_PLACE, DOP_CONTROL, in_force_done);
		dop->session = s;
		dop->epoch = s->epoch;
		list_add_tail(&dop->in_session, &s->dops);
		memcpy(dop->small, &place, sizeof(place));
		dop->small_len = sizeof(place);
		donor_queue(dop);
	}
}

/*
 * A donor that joins, or joins again with another memory, has nothing of what is pending, whatever its place in the bits of
 * the requests said before.
 */
static void forget_done(struct extent *x)
{
	struct list *pos;
	u64 joined = 0;
	int i, k;

	for (i = 0; i < x->next.n; i++) {
		struct replica *r = &x->next.r[i];

		if (!r->donor || !replica_takes_writes(r))
			continue;
		k = placement_find(&x->cur, r->donor);
		if (!held_before(x, k, r))
			joined |= bit64(r->donor->index);
	}
	list_for_each(pos, &x->writes) {
		struct greq *req = list_entry(pos, struct greq, in_extent);

		req->done &= ~joined;
		req->refused &= ~joined;
	}
}

void extent_record_acked(struct extent *x)
{
	struct session *s = x->s;
	struct relay_core *core = s->core;
	int i, k;

	extent_count(x, -1);
	for (i = 0; i < x->cur.n; i++) {
		k = x->cur.r[i].donor ? placement_find(&x->next, x->cur.r[i].donor) : -1;
		if (k < 0)
			touch(x, &x->cur.r[i]);
		if (x->cur.r[i].state == MEMX_R_LIVE && (k < 0 || x->next.r[k].state == MEMX_R_STALE)) {
			core->count.replicas_dropped++;
			core_say(core, CORE_LOG_NOTICE, "replica-dropped", "guest=%s extent=%u donor=%s generation=%llu", s->name,
				 x->index, x->cur.r[i].donor ? x->cur.r[i].donor->name : hexid(x->cur.r[i].id).s,
				 (unsigned long long)x->next.generation);
		}
	}
	if (!x->cur.generation) {
		s->placed++;
		core->count.extents_placed++;
	}
	x->confirmed = true;
	/* Its donor has just said so; a listing that began before may not. */
	for (i = 0; i < x->next.n; i++)
		x->next.r[i].seen = true;
	forget_done(x);
	x->cur = x->next;
	x->next.n = 0;
	extent_count(x, 1);
	tell_in_force(x);
	x->refused = 0;
	x->promote = 0;
	x->unfit = 0;
	x->urgent = false;
	x->want_more = false;
	core->count.records++;
	x->repair_at = 0;		/* what kept repair waiting was true of the record before */
	reclaim_moved(x);
	balance_moved(x);
	change_over(x, X_STEADY);
	extent_review(x);
}

/*
 * The record is to change: begins with that, if something can be begun. -ENOSPC: no donor has room for what has no place yet.
 * 0 otherwise, also if the change has to wait for somebody to come back.
 */
int change_begin(struct extent *x)
{
	enum proposal proposal;
	struct placement p;

	extent_count(x, -1);
	proposal = propose_next(x, &p);
	extent_count(x, 1);
	if (proposal == PROPOSED)
		change_start(x, &p);
	else if (proposal == PROPOSE_SAME)
		x->want_more = false;
	return proposal == PROPOSE_NOSPACE ? -ENOSPC : 0;
}
