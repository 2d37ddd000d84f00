// SPDX-License-Identifier: GPL-2.0-only
/*
 * extent.c - an extent's placement record and how it changes. internal.h tells the life; this is its machine.
 *
 * Two placements are held: cur, which the guest acknowledged and by which requests are answered, and next, which is being put in
 * place. All that may run beside a change follows from two rules: a write is acknowledged when every live and syncing
 * replica of cur has it, and what cur names is not freed. A donor that holds something which cur does not name (an abandoned
 * proposal, a dropped replica) is remembered in `touched` and told to free it once no change is under way.
 */
#include "internal.h"

void extent_init(struct extent *x, struct session *s, u32 index)
{
	x->s = s;
	x->index = index;
	x->state = X_NONE;
	list_init(&x->writes);
	list_init(&x->fetches);
	list_init(&x->in_review);
	list_init(&x->in_later);
	list_init(&x->in_record);
}

void extent_review(struct extent *x)
{
	if (list_empty(&x->in_review))
		list_add_tail(&x->in_review, &x->s->core->review);
}

static void extent_retry(struct extent *x, u64 ns)
{
	struct relay_core *core = x->s->core;

	list_del(&x->in_later);
	x->retry_at = core->now + ns;
	list_add_tail(&x->in_later, &core->retry);
	core_want_tick(core, x->retry_at);
}

/* ---- what is true of replicas -------------------------------------------------------------------------------------------- */

static bool takes_writes(const struct replica *r)
{
	return r->state == MEMX_R_LIVE || r->state == MEMX_R_SYNCING;
}

bool replica_gone(const struct replica *r)
{
	return r->bad || (r->donor && r->donor->known && r->donor->instance != r->instance);
}

bool replica_usable(const struct session *s, const struct replica *r)
{
	return r->donor && !replica_gone(r) && donor_ok(r->donor) && s->sd[r->donor->index].state == SD_READY;
}

/* Connected, and on its way to be usable: worth waiting for. */
static bool replica_coming(const struct session *s, const struct replica *r)
{
	const struct sdonor *sd = r->donor ? &s->sd[r->donor->index] : NULL;

	return sd && !replica_gone(r) && donor_ok(r->donor) && (sd->state == SD_FENCING || sd->state == SD_LISTING);
}

static bool replica_away(const struct session *s, const struct replica *r)
{
	return !replica_gone(r) && !replica_usable(s, r) && !replica_coming(s, r);
}

static bool live_usable(const struct session *s, const struct placement *p)
{
	u8 i;

	for (i = 0; i < p->n; i++)
		if (p->r[i].state == MEMX_R_LIVE && replica_usable(s, &p->r[i]))
			return true;
	return false;
}

/* Copies that take writes and may stay where they are. */
static unsigned int copies(const struct placement *p)
{
	unsigned int i, n = 0;

	for (i = 0; i < p->n; i++)
		n += takes_writes(&p->r[i]) && (!p->r[i].donor || donor_stays(p->r[i].donor));
	return n;
}

bool extent_wants_copy(const struct extent *x)
{
	return x->cur.generation && copies(&x->cur) < x->s->replicas;
}

bool extent_degraded(const struct extent *x)
{
	unsigned int i, live = 0;

	for (i = 0; i < x->cur.n; i++)
		live += x->cur.r[i].state == MEMX_R_LIVE && !replica_gone(&x->cur.r[i]) && x->cur.r[i].donor &&
			!x->cur.r[i].donor->dead;
	return x->cur.generation && live < x->s->replicas;
}

bool extent_waiting(const struct extent *x)
{
	return x->cur.generation && !live_usable(x->s, &x->cur);
}

/* Do donors hold the record in effect, so that they take writes by it? Not while a change is under way or was given up halfway. */
bool extent_takes_writes(const struct extent *x)
{
	return x->state == X_STEADY && x->gen_floor <= x->cur.generation;
}

/* A donor says that it holds a newer record than the one in effect: one that was proposed and did not come through. */
void extent_newer(struct extent *x, u64 generation)
{
	if (generation > x->gen_floor)
		x->gen_floor = generation;
	extent_review(x);
}

u64 extent_fetch_generation(const struct extent *x)
{
	return x->gen_floor > x->cur.generation ? x->gen_floor : x->cur.generation;
}

/* ---- accounting ------------------------------------------------------------------------------------------------------------ */

/*
 * Adds @by to .placed of every donor that has, or may have, this extent: by cur, by next, or by a proposal that was given up.
 * Whoever changes one of these takes the extent out before and counts it in again.
 */
static void extent_count(struct extent *x, int by)
{
	u64 named = x->touched;
	u8 i;

	for (i = 0; i < x->cur.n; i++)
		if (x->cur.r[i].donor)
			named |= bit64(x->cur.r[i].donor->index);
	for (i = 0; i < x->next.n; i++)
		if (x->next.r[i].donor)
			named |= bit64(x->next.r[i].donor->index);
	for (; named; named &= named - 1)
		x->s->sd[__builtin_ctzll(named)].placed += (u32)by;
}

void extent_relink(struct extent *x)
{
	struct relay_core *core = x->s->core;
	u8 i;

	for (i = 0; i < x->cur.n; i++)
		x->cur.r[i].donor = donor_by_id(core, x->cur.r[i].id);
	for (i = 0; i < x->next.n; i++)
		x->next.r[i].donor = donor_by_id(core, x->next.r[i].id);
	extent_count(x, 1);
}

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

static void touch(struct extent *x, const struct replica *r)
{
	if (r->donor && r->donor->instance == r->instance)
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
		core_say(s->core, CORE_LOG_CRIT, "extent-lost", "guest=%s session=%s extent=%u partial_copies=%u hint=\"every donor "
			 "that had a live copy lost its memory; reads of pages that no other copy has fail\"", s->name,
			 hexid(s->id).s, x->index, p->n);
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
	one_serves = live_usable(s, p);
	for (i = p->n; i-- > 0;) {
		struct replica *r = &p->r[i];

		if (!takes_writes(r) || !replica_away(s, r))
			continue;
		if (r->state == MEMX_R_SYNCING && placement_count(p, MEMX_R_LIVE))
			leave_out(x, p, i);
		else if (one_serves)
			r->state = MEMX_R_STALE;
	}
}

/* A place in the record for one more: a stale copy makes room where the record is full. */
static bool make_room(struct extent *x, struct placement *p)
{
	int i;

	for (i = 0; p->n == MEMX_MAX_REPLICAS && i < p->n; i++)
		if (p->r[i].state == MEMX_R_STALE)
			leave_out(x, p, i);
	return p->n < MEMX_MAX_REPLICAS;
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

/* Donors that had a copy and lost it: not the first choice for the next one. */
static u64 failed_here(const struct extent *x)
{
	u64 mask = 0;
	u8 i;

	for (i = 0; i < x->cur.n; i++)
		if (x->cur.r[i].bad && x->cur.r[i].donor)
			mask |= bit64(x->cur.r[i].donor->index);
	return mask;
}

/* Copies that are missing. @state: of the new ones. */
static void add_copies(struct extent *x, struct placement *p, u8 state)
{
	struct session *s = x->s;
	u64 failed = failed_here(x);

	while (copies(p) < s->replicas) {
		struct core_donor *d = make_room(x, p) ? place_choose(x, p, x->refused | failed) : NULL;
		int i;

		if (!d && failed && p->n < MEMX_MAX_REPLICAS)
			d = place_choose(x, p, x->refused);
		if (!d) {
			if (p->n && !x->no_room) {
				x->no_room = true;
				s->core->count.no_repair_room++;
			}
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

/* Repair is done when there are enough live copies where they may stay: stale ones, and those that have to go, have served. */
static void drop_superfluous(struct extent *x, struct placement *p)
{
	unsigned int live = 0;
	int i;

	for (i = 0; i < p->n; i++)
		live += p->r[i].state == MEMX_R_LIVE && (!p->r[i].donor || donor_stays(p->r[i].donor));
	if (live < x->s->replicas)
		return;
	for (i = p->n; i-- > 0;)
		if (p->r[i].state == MEMX_R_STALE || (p->r[i].donor && !donor_stays(p->r[i].donor)))
			leave_out(x, p, i);
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

static enum proposal propose(struct extent *x, struct placement *p)
{
	struct session *s = x->s;
	bool fresh;
	int i;

	*p = x->cur;
	promote(x, p);
	drop_lost(x, p);
	fresh = !placement_count(p, MEMX_R_LIVE);
	if (!fresh && !live_usable(s, p))
		return PROPOSE_WAIT;
	add_copies(x, p, fresh ? MEMX_R_LIVE : MEMX_R_SYNCING);
	if (!placement_count(p, MEMX_R_LIVE))
		return any_ready(s) ? PROPOSE_NOSPACE : PROPOSE_WAIT;
	drop_superfluous(x, p);
	if (same_replicas(p, &x->cur) && x->gen_floor <= x->cur.generation)
		return PROPOSE_SAME;
	for (i = 0; i < p->n; i++)
		if (takes_writes(&p->r[i]) && !replica_usable(s, &p->r[i]))
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

static void place_refused(struct extent *x, struct core_donor *d, u32 status)
{
	struct session *s = x->s;
	int i = placement_find(&x->cur, d);

	switch (status) {
	case S_LOST:
		return;
	case MEMX_S_FENCED:
	case MEMX_S_SUPERSEDED:
		session_fenced(s, d, status);
		return;
	case MEMX_S_UNKNOWN:
	case MEMX_S_NOFENCE:
		fence_open(s, d);
		return;
	case MEMX_S_NOSPACE:
	case MEMX_S_DRAINING:
	case MEMX_S_LIMIT:
	case MEMX_S_AGAIN:
		s->sd[d->index].full_until = s->core->now + 1000 * MS;
		break;
	default:
		core_say(s->core, CORE_LOG_WARN, "place-refused", "guest=%s extent=%u donor=%s status=%s", s->name, x->index,
			 d->name, status_word(status));
		if (i >= 0 && takes_writes(&x->cur.r[i]) && x->cur.r[i].instance == d->instance)
			x->cur.r[i].bad = true;
	}
	x->refused |= bit64(d->index);
}

static int place_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct extent *x = dop->extent;

	(void)body;
	if (head && head->len)
		return -EPROTO;
	x->pending--;
	if (status != MEMX_S_OK) {
		x->place_failed = true;
		place_refused(x, dop->donor, status);
	}
	if (!x->pending)
		placed_all(x);
	return 0;
}

/* Did the record in effect already count on this copy? @k: its donor's place there. */
static bool held_before(const struct extent *x, int k, const struct replica *r)
{
	const struct replica *c = k < 0 ? NULL : &x->cur.r[k];

	return c && takes_writes(c) && c->instance == r->instance && !c->bad;
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
		if (takes_writes(&p->r[i]))
			place_send(x, &p->r[i], &rec);
	extent_count(x, 1);
}

/* ---- the guest acknowledged -------------------------------------------------------------------------------------------------- */

static int free_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	(void)head;
	(void)body;
	if (status == MEMX_S_FENCED)
		session_fenced(dop->session, dop->donor, status);
	return 0;
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
		dop->session = s;
		dop->epoch = s->epoch;
		list_add_tail(&dop->in_session, &s->dops);
		memcpy(dop->small, &body, sizeof(body));
		dop->small_len = sizeof(body);
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

		k = placement_find(&x->cur, r->donor);
		if (r->donor && takes_writes(r) && !held_before(x, k, r))
			joined |= bit64(r->donor->index);
	}
	list_for_each(pos, &x->writes)
		list_entry(pos, struct greq, in_extent)->done &= ~joined;
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
	for (i = 0; i < x->next.n; i++) {
		x->next.r[i].seen = true;	/* its donor has just said so; a listing that began before may not */
	}
	forget_done(x);
	x->cur = x->next;
	x->next.n = 0;
	extent_count(x, 1);
	x->refused = 0;
	x->promote = 0;
	x->urgent = false;
	x->want_more = false;
	core->count.records++;
	change_over(x, X_STEADY);
	extent_review(x);
}

void extent_replica_failed(struct extent *x, struct core_donor *d, u32 status)
{
	struct session *s = x->s;
	int i = placement_find(&x->cur, d), k = placement_find(&x->next, d);

	if (i >= 0 && !x->cur.r[i].bad) {
		core_say(s->core, CORE_LOG_WARN, "replica-failed", "guest=%s extent=%u donor=%s status=%s", s->name, x->index,
			 d->name, status_word(status));
		x->cur.r[i].bad = true;
	}
	if (k >= 0)
		x->next.r[k].bad = true;
	extent_review(x);
}

/* ---- review ------------------------------------------------------------------------------------------------------------------ */

static bool needs_change(const struct extent *x)
{
	const struct session *s = x->s;
	bool writes = !list_empty(&x->writes);
	u8 i;

	if (!x->cur.generation)
		return writes;
	if (x->gen_floor > x->cur.generation || x->want_more || x->promote)
		return true;
	for (i = 0; i < x->cur.n; i++) {
		const struct replica *r = &x->cur.r[i];

		if (replica_gone(r))
			return true;
		if (takes_writes(r) && replica_away(s, r) && (writes || !r->donor || r->donor->dead))
			return true;
	}
	return false;
}

static void dispatch_writes(struct extent *x)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &x->writes)
		store_send(list_entry(pos, struct greq, in_extent));
}

static void dispatch_fetches(struct extent *x)
{
	struct list fetches;

	list_init(&fetches);
	list_splice_tail(&x->fetches, &fetches);
	while (!list_empty(&fetches)) {
		struct greq *req = list_first(&fetches, struct greq, in_extent);

		list_del(&req->in_extent);
		fetch_go(req);
	}
}

static void fail_writes(struct extent *x, u32 status)
{
	struct list *pos, *tmp;

	x->refused = 0;
	list_for_each_safe(pos, tmp, &x->writes)
		store_fail(list_entry(pos, struct greq, in_extent), status);
}

void extent_work(struct extent *x)
{
	struct session *s = x->s;
	enum proposal proposal;
	struct placement p;

	if (s->state != SESSION_ATTACHED || !s->link || s->link->dying || x->state == X_PLACING || x->state == X_RECORDING)
		return;
	if (needs_change(x)) {
		if (list_empty(&x->writes) && list_empty(&x->fetches) && s->changing >= SESSION_MAX_CHANGES) {
			if (list_empty(&x->in_later))
				list_add_tail(&x->in_later, &s->later);
			return;
		}
		extent_count(x, -1);
		proposal = propose(x, &p);
		extent_count(x, 1);
		switch (proposal) {
		case PROPOSED:
			change_start(x, &p);
			break;
		case PROPOSE_NOSPACE:
			fail_writes(x, MEMX_S_NOSPACE);
			break;
		case PROPOSE_SAME:
			x->want_more = false;
			break;
		case PROPOSE_WAIT:
			break;
		}
	}
	if (x->state == X_NONE)
		return;
	if (x->state == X_STEADY && x->touched)
		extent_free_touched(x);
	if (extent_takes_writes(x))
		dispatch_writes(x);
	dispatch_fetches(x);		/* also during a change */
}

/* A donor asked for a moment of patience. */
void extent_later(struct extent *x)
{
	extent_retry(x, 20 * MS);
}
