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
	list_init(&x->in_held);
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

bool replica_takes_writes(const struct replica *r)
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

bool replica_away(const struct session *s, const struct replica *r)
{
	return !replica_gone(r) && !replica_usable(s, r) && !replica_coming(s, r);
}

bool placement_live_usable(const struct session *s, const struct placement *p)
{
	u8 i;

	for (i = 0; i < p->n; i++)
		if (p->r[i].state == MEMX_R_LIVE && replica_usable(s, &p->r[i]))
			return true;
	return false;
}

/* Copies that take writes and may stay where they are. */
unsigned int placement_copies(const struct extent *x, const struct placement *p)
{
	unsigned int i, n = 0;

	for (i = 0; i < p->n; i++)
		n += replica_takes_writes(&p->r[i]) && replica_stays(x, &p->r[i]);
	return n;
}

bool extent_wants_copy(const struct extent *x)
{
	return x->cur.generation && placement_copies(x, &x->cur) < x->s->replicas;
}

/* Live copies that can be reached now. */
static unsigned int within_reach(const struct extent *x, bool to_stay)
{
	unsigned int i, live = 0;

	for (i = 0; i < x->cur.n; i++) {
		const struct replica *r = &x->cur.r[i];

		live += r->state == MEMX_R_LIVE && !replica_gone(r) && r->donor && donor_ok(r->donor) &&
			x->s->sd[r->donor->index].state != SD_REFUSED && (!to_stay || replica_stays(x, r));
	}
	return live;
}

bool extent_degraded(const struct extent *x)
{
	return x->cur.generation && within_reach(x, false) < x->s->replicas;
}

/* Copies that repair has to make before all is well again. One that only moves to even out room is not among them. */
unsigned int extent_missing(const struct extent *x)
{
	unsigned int live = within_reach(x, true) + (x->shift != 0);

	return x->cur.generation && live < x->s->replicas ? x->s->replicas - live : 0;
}

bool extent_waiting(const struct extent *x)
{
	return x->cur.generation && !placement_live_usable(x->s, &x->cur);
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
void extent_count(struct extent *x, int by)
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
	if (x->gen_floor > x->cur.generation || x->want_more || x->promote || x->unfit || x->late)
		return true;
	for (i = 0; i < x->cur.n; i++) {
		const struct replica *r = &x->cur.r[i];

		if (replica_gone(r))
			return true;
		if (replica_takes_writes(r) && replica_away(s, r) &&
		    (writes || !r->donor || r->donor->dead || s->sd[r->donor->index].state == SD_REFUSED))
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

/*
 * Whose turn it is among those that wait for one. Whatever comes of an extent that had its turn, or needs none any more, the
 * next one must not wait for it: nobody else takes it out of the list.
 */
void extents_go_on(struct session *s)
{
	u32 turns = s->changing < s->core->cfg.session_changes ? s->core->cfg.session_changes - s->changing : 0;

	while (turns && !list_empty(&s->later)) {
		struct extent *x = list_first(&s->later, struct extent, in_later);

		list_del(&x->in_later);
		if (!needs_change(x))
			continue;
		extent_review(x);
		turns--;
	}
}

static void work(struct extent *x)
{
	struct session *s = x->s;

	if (s->state != SESSION_ATTACHED || !s->link || s->link->dying || x->state == X_PLACING || x->state == X_RECORDING)
		return;
	if (needs_change(x)) {
		if (list_empty(&x->writes) && list_empty(&x->fetches) && s->changing >= s->core->cfg.session_changes) {
			if (list_empty(&x->in_later))
				list_add_tail(&x->in_later, &s->later);
			return;
		}
		if (change_begin(x) == -ENOSPC)
			fail_writes(x, MEMX_S_NOSPACE);
		if (x->state != X_PLACING) {
			x->unfit = 0;	/* nobody can take their place: what they refused fails */
			x->late = 0;	/* it cannot be done without them now */
		}
	}
	if (x->touched && (x->state == X_STEADY || (x->state == X_NONE && list_empty(&x->writes))))
		extent_free_touched(x);
	if (x->state == X_NONE)
		return;
	if (extent_takes_writes(x))
		dispatch_writes(x);
	dispatch_fetches(x);		/* also during a change */
}

void extent_work(struct extent *x)
{
	work(x);
	if (x->state != X_PLACING)
		extents_go_on(x->s);		/* it needs its turn no more, if it had one */
}

/* A donor asked for a moment of patience. */
void extent_later(struct extent *x)
{
	extent_retry(x, 20 * MS);
}
