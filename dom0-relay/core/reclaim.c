// SPDX-License-Identifier: GPL-2.0-only
/*
 * reclaim.c - donors that ask for memory back: which copies are moved off them.
 *
 * A donor says how many pages it wants back (ASK at once, STAT with every heartbeat). Copies are marked (extent.leave) until
 * those that are marked come to so many pages, a few at a time: a marked copy counts as one that may not stay where it is,
 * so the machinery that empties a whole donor makes another one elsewhere first (repair.c, at its rate), then drops it and
 * tells the donor to free it. Redundancy is never lower than before.
 *
 * A donor that is not answered in time may drop a copy that another holder has confirmed to it, and says so (DROPPED). For that
 * it is told where the others are (PEERS).
 *
 * Cheapest first: extents whose copies are complete, and of those the ones that were not stored to for longest. While an
 * extent moves, each store to it goes to one donor more.
 */
#include "internal.h"

enum {
	RECLAIM_MAX	= 8,		/* copies of one donor that move at once */
	RECLAIM_LOOK_MS	= 100,
	RECLAIM_SAY_MS	= 10000,	/* between two complaints that nothing can be moved */
};

static bool leaves(const struct extent *x, const struct core_donor *d)
{
	return x->leave & bit64(d->index);
}

bool replica_stays(const struct extent *x, const struct replica *r)
{
	return !r->donor || (donor_stays(r->donor) && !leaves(x, r->donor) && !(x->shift & bit64(r->donor->index)));
}

/* What a donor says of itself, in STAT and in ASK. */
void reclaim_asked(struct core_donor *d, u64 pages)
{
	struct relay_core *core = d->core;

	if (pages && !d->asked_at) {
		core->count.asks++;
		d->asked_at = core->now;
		d->stuck_at = 0;
		core_say(core, CORE_LOG_NOTICE, "donor-asks", "donor=%s pages=%llu", d->name, (unsigned long long)pages);
	} else if (!pages && d->asked_at) {
		core_say(core, CORE_LOG_NOTICE, "donor-satisfied", "donor=%s after_ms=%llu", d->name,
			 (unsigned long long)((core->now - d->asked_at) / MS));
		d->asked_at = 0;
	}
	d->asked = pages;
	if (pages && d->reclaim_at > core->now)
		core_want_tick(core, d->reclaim_at);
	else if (pages)
		core_want_tick(core, core->now);
}

/* What was reserved for a copy that a donor does not want to hold any more was reserved elsewhere with the copy. */
static void give_back_promise(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];

	if (sd->state == SD_READY && donor_ok(d) && sd->reserved >= 1ULL << s->order)
		fence_reserve(s, d, sd->reserved - (1ULL << s->order), NULL);
}

/* The record without a marked copy took effect. */
void reclaim_moved(struct extent *x)
{
	struct relay_core *core = x->s->core;
	u64 todo;

	for (todo = x->leave; todo; todo &= todo - 1) {
		u32 i = (u32)__builtin_ctzll(todo);

		if (core->donor[i] && placement_find(&x->cur, core->donor[i]) >= 0)
			continue;
		x->leave &= ~bit64(i);
		core->count.reclaimed++;
		if (!core->donor[i])
			continue;
		give_back_promise(x->s, core->donor[i]);
		core->donor[i]->moved += 1ULL << x->s->order;
		core->donor[i]->asked = core->donor[i]->asked > 1ULL << x->s->order ?
					core->donor[i]->asked - (1ULL << x->s->order) : 0;
	}
}

/*
 * A donor that got no answer in time dropped a copy by itself: another holder has confirmed that it has all of it. A listing that
 * is being read may have named it before.
 */
int reclaim_dropped(struct core_donor *d, const struct memx_head *head, const struct rbuf *body)
{
	struct relay_core *core = d->core;
	struct memx_extent_ref ref;
	struct memx_list list;
	struct list *pos;
	u32 i;
	int k;

	if (head->len < sizeof(list))
		return -EPROTO;
	memcpy(&list, body->data, sizeof(list));
	if (!list.session || memx_le32(list.count) > MEMX_MAX_EXTENTS || head->len != memx_list_len(memx_le32(list.count)))
		return -EPROTO;
	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);

		if (!s->extent || s->sd[d->index].handle != memx_le32(list.session))
			continue;
		for (i = 0; i < memx_le32(list.count); i++) {
			memcpy(&ref, body->data + sizeof(list) + i * sizeof(ref), sizeof(ref));
			if (memx_le32(ref.extent) >= s->extents)
				continue;
			k = placement_find(&s->extent[memx_le32(ref.extent)].cur, d);
			if (k < 0 || s->extent[memx_le32(ref.extent)].cur.r[k].bad)
				continue;	/* it has said so before */
			core->count.given_up++;
			give_back_promise(s, d);
			extent_replica_failed(&s->extent[memx_le32(ref.extent)], d, MEMX_S_ABSENT);
		}
	}
	return 0;
}

static int peers_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	(void)dop;
	(void)body;
	return status == S_LOST || !head->len ? 0 : -EPROTO;
}

/* Tells a donor where the others are, so that it can ask them about a copy where it cannot ask us. */
void reclaim_tell_peers(struct core_donor *d)
{
	struct relay_core *core = d->core;
	struct memx_list list = { 0 };
	struct rbuf *buf;
	struct dop *dop;
	u32 i, n = 0;

	if (d->peers_told == core->peers_version || !(d->features & MEMX_FEATURE_RECLAIM))
		return;
	buf = rpool_get(d->pool, memx_peers_len(CORE_MAX_DONORS));
	if (!buf)
		return;			/* with the next heartbeat */
	d->peers_told = core->peers_version;
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *other = core->donor[i];
		struct memx_peer peer = { 0 };

		if (!other || other == d || !other->known || other->duplicate || !other->port)
			continue;
		memcpy(peer.id, other->id, sizeof(peer.id));
		memcpy(peer.address, other->address, sizeof(peer.address));
		peer.port = memx_put_le16(other->port);
		memcpy(buf->data + sizeof(list) + n++ * sizeof(peer), &peer, sizeof(peer));
	}
	list.count = memx_put_le32(n);
	memcpy(buf->data, &list, sizeof(list));
	dop = dop_new(d, MEMX_OP_PEERS, DOP_CONTROL, peers_done);
	dop->body = buf;
	dop->body_len = memx_peers_len(n);
	donor_queue(dop);
}

struct choice {
	struct extent *x[RECLAIM_MAX];
	u32 n, max;
	u32 busy;		/* of those that move, what their guests do not hold up */
};

static void choose(struct choice *c, struct extent *x)
{
	u32 i = c->n < c->max ? c->n++ : c->max;

	for (; i && c->x[i - 1]->stored_at > x->stored_at; i--)
		if (i < c->max)
			c->x[i] = c->x[i - 1];
	if (i < c->max)
		c->x[i] = x;
}

static bool may_move(const struct extent *x, const struct core_donor *d)
{
	int i = placement_find(&x->cur, d);

	return x->state == X_STEADY && i >= 0 && x->cur.r[i].state == MEMX_R_LIVE && !x->leave && !x->shift && !x->repair &&
	       !extent_wants_copy(x);
}

/*
 * Looks through all extents with a copy there: what moves already, what could. Pages that are on their way. A guest that answers no
 * record, because it is paused, gets no more of the places, and those that it has are not counted.
 */
static u64 survey(struct core_donor *d, struct choice *c)
{
	struct list *pos;
	u64 coming = 0;
	u32 i;

	d->moving = 0;
	list_for_each(pos, &d->core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);
		bool silent;

		if (s->state != SESSION_ATTACHED || !s->sd[d->index].placed)
			continue;
		silent = s->link && link_silent(s->link);
		for (i = 0; i < s->extents; i++) {
			struct extent *x = &s->extent[i];

			/* No longer wanted, and nothing was begun: it stays. */
			if (leaves(x, d) && !d->asked && x->state == X_STEADY && !x->promote &&
			    !placement_count(&x->cur, MEMX_R_SYNCING))
				x->leave &= ~bit64(d->index);
			if (leaves(x, d)) {
				d->moving++;
				c->busy += !silent;
				coming += silent ? 0 : 1ULL << s->order;
			} else if (c->max && !silent && may_move(x, d)) {
				choose(c, x);
			}
		}
	}
	return coming;
}

static void complain(struct core_donor *d, bool could)
{
	struct relay_core *core = d->core;

	if (d->stuck_at && core->now - d->stuck_at < RECLAIM_SAY_MS * MS)
		return;
	d->stuck_at = core->now;
	core->count.reclaim_stuck++;
	core_say(core, CORE_LOG_WARN, "reclaim-stuck", "donor=%s pages=%llu reason=\"%s\"", d->name,
		 (unsigned long long)d->asked, !core->cfg.repair_rate ? "repair_rate is 0" : could ?
		 "no other donor has room" : d->moving ? "the guests whose pages are left there do not answer" :
		 "nothing there belongs to an attached guest and could be moved");
}

static void reclaim_donor(struct core_donor *d)
{
	struct relay_core *core = d->core;
	struct choice c = { .max = d->asked && core->cfg.repair_rate ? RECLAIM_MAX : 0 };
	u64 coming = survey(d, &c);
	u32 i;

	for (i = 0; i < c.n && c.busy < RECLAIM_MAX && coming < d->asked; i++) {
		struct extent *x = c.x[i];

		x->leave |= bit64(d->index);
		if (!place_choose(x, &x->cur, 0)) {	/* stays as it is, and is tried again */
			x->leave &= ~bit64(d->index);
			continue;
		}
		x->want_more = true;
		d->moving++;
		c.busy++;
		coming += 1ULL << x->s->order;
		extent_review(x);
	}
	if (d->asked && !c.busy)
		complain(d, c.n);
}

void reclaim_tick(struct relay_core *core)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = core->donor[i];

		if (!d || !donor_ok(d) || (!d->asked && !d->moving))
			continue;
		if (core->now >= d->reclaim_at) {
			d->reclaim_at = core->now + RECLAIM_LOOK_MS * MS;
			reclaim_donor(d);
		}
		core_want_tick(core, d->reclaim_at);
	}
}
