// SPDX-License-Identifier: GPL-2.0-only
/*
 * change.c - how an extent gets its next record: proposed (propose.c), placed at donors, acknowledged by the guest. internal.h has
 * the states; extent.c decides when a change is wanted.
 */
#include "internal.h"

static void change_over(struct extent *x, u8 state)
{
	struct session *s = x->s;

	x->state = state;
	s->changing--;
	extents_go_on(s);
}

/*
 * Its donor may hold what no record names any more. One with its memory new has not that copy, but it may have what a relay before us
 * proposed to it: FREE of nothing costs nothing.
 */
void extent_touch(struct extent *x, const struct replica *r)
{
	if (r->donor)
		x->touched |= bit64(r->donor->index);
}

/* ---- PLACE ------------------------------------------------------------------------------------------------------------------ */

static void placed_all(struct extent *x)
{
	list_del(&x->in_held);
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
		s->sd[d->index].full_until = s->core->now + FULL_MS * MS;
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
	else if (x->pending == 1)
		late_change(x);
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

/* The one PLACE of this change that is not answered; NULL: there are none, or several. */
static struct dop *place_left(const struct extent *x)
{
	const struct list *pos;

	list_for_each(pos, &x->s->dops) {
		struct dop *dop = list_entry(pos, struct dop, in_session);

		if (x->state == X_PLACING && x->pending == 1 && dop->extent == x && dop->done == place_done)
			return dop;
	}
	return NULL;
}

struct core_donor *change_waits_for(const struct extent *x)
{
	const struct dop *dop = place_left(x);

	return dop ? dop->donor : NULL;
}

/* Proposed again, without @d. What it makes of the order that is on its way to it is freed, or stale, like all that was given up. */
void change_without(struct extent *x, struct core_donor *d)
{
	dop_cancel(place_left(x));
	x->pending = 0;
	x->place_failed = true;
	x->late |= bit64(d->index);
	placed_all(x);
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
	x->proposed_at = x->s->core->now;
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
			extent_touch(x, &x->cur.r[i]);
		if (x->cur.r[i].donor && x->late & bit64(x->cur.r[i].donor->index) && replica_takes_writes(&x->cur.r[i]) &&
		    (k < 0 || !replica_takes_writes(&x->next.r[k])))
			core->count.late_copies++;
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
	if (x->made_whole) {
		x->left = false;
		x->lost = false;
		x->made_whole = 0;
	}
	x->promote = 0;
	x->unfit = 0;
	x->late = 0;
	x->urgent = false;
	x->want_more = false;
	core->count.records++;
	x->repair_at = 0;		/* what kept repair waiting was true of the record before */
	x->repair_fails = 0;
	x->incomplete = 0;
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
	proposal = extent_propose(x, &p);
	extent_count(x, 1);
	if (proposal == PROPOSED)
		change_start(x, &p);
	else if (proposal == PROPOSE_SAME)
		x->want_more = false;
	return proposal == PROPOSE_NOSPACE ? -ENOSPC : 0;
}
