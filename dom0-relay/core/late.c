// SPDX-License-Identifier: GPL-2.0-only
/*
 * late.c - copies that alone hold up a write which another live copy has: they are let go.
 *
 * A donor that is slow, but goes on, is not dropped for that (health.c): all that it holds would have to be made anew. But no write
 * waits for it longer than for one that is silent. Where every other replica has the write, a live one among them, and this one alone
 * does not answer, the extent's record changes: that copy is stale from then on, a replacement joins where another donor has
 * room, the guest acknowledges it, and the write is acknowledged by those that are left. So it is with a change of the record
 * that this donor alone holds up while a write waits for it: it is proposed anew without it.
 *
 *	how long	donor_timeout from when all others had answered; a quarter of it if the donor was found slow just before: who
 *			had to wait behind the first such write does not wait so long once more. But four times as long as others
 *			took for it, or have had something unanswered now: where all are slow nobody is.
 *	how often	an extent changes for a write that waits, so no more than guests have credits; what is not written to stays.
 *	and then	the donor is shunned (donor_shun()): no copy comes to it for a second, after the next time for two, and so on.
 *			Where nobody else has room the extent is degraded for so long.
 *
 * The last live copy is never let go, nor is any while two or more hold up the same write: then it is not for one of them that it
 * waits. The time in which this loop itself was late counts for nobody. Whoever is late all the time is dropped as before.
 *
 * core->held_writes has the writes that one replica lacks, core->held_changes the changes that one donor has not answered, both in
 * the order in which that came to be.
 */
#include "internal.h"

static u64 later(u64 a, u64 b)
{
	return a > b ? a : b;
}

static u64 shortest(const struct relay_core *core)
{
	return core->cfg.donor_timeout_ns / 4;
}

/* For how long has it left something unanswered that a guest's page waits for? */
static u64 behind(const struct core_donor *d)
{
	const struct list *sent = &d->sent_waited;

	return list_empty(sent) ? 0 : d->core->now - list_entry(sent->next, struct dop, in_donor)->sent_at;
}

/*
 * It answers soon whatever it is sent: what waits longer waits in our own queue, behind what others have for it. That is no fault
 * of its own, and would let one guest's burst cost another one's copies.
 */
static bool works_off(const struct session *s, const struct core_donor *d)
{
	return donor_ok(d) && s->sd[d->index].state == SD_READY && behind(d) < shortest(d->core);
}

/* @d was @asked, as were the others of @p, which all have answered @since then. */
static u64 patience_ends(const struct core_donor *d, const struct placement *p, u64 asked, u64 since)
{
	const struct relay_core *core = d->core;
	u64 patience = d->shunned_until > core->now ? shortest(core) : core->cfg.donor_timeout_ns;
	u64 others = since - asked;
	u8 i;

	for (i = 0; i < p->n; i++)
		if (p->r[i].donor && p->r[i].donor != d && replica_takes_writes(&p->r[i]))
			others = later(others, behind(p->r[i].donor));
	return later(later(since, core->judge_from) + patience, later(asked, core->judge_from) + 4 * others);
}

static void found_late(struct extent *x, struct core_donor *d, u64 since, const char *what)
{
	struct relay_core *core = d->core;

	if (d->shunned_until <= core->now) {
		donor_shun(d);
		d->repair_window = REPAIR_LEAST;
		core_say(core, CORE_LOG_WARN, "donor-late", "donor=%s guest=%s extent=%u what=%s late_ms=%llu hint=\"copies there that are "
			 "written to move elsewhere\"", d->name, x->s->name, x->index, what,
			 (unsigned long long)((core->now - since) / MS));
	}
}

/* ---- writes ---------------------------------------------------------------------------------------------------------------- */

/* Who alone lacks a write that a live copy has? NULL: nobody; or several; or no live copy has it. */
static struct core_donor *alone(const struct greq *req)
{
	const struct placement *p = &req->extent->cur;
	struct core_donor *d = NULL;
	bool taken = false;
	u8 i;

	for (i = 0; i < p->n; i++) {
		const struct replica *r = &p->r[i];

		if (!replica_takes_writes(r))
			continue;
		if (!r->donor)
			return NULL;
		if ((req->done | req->refused) & bit64(r->donor->index)) {
			taken |= r->state == MEMX_R_LIVE && req->done & bit64(r->donor->index);
			continue;
		}
		if (d)
			return NULL;
		d = r->donor;
	}
	return taken ? d : NULL;
}

/* Who was asked anew, because it asked for a moment or lost its connection, has the time from then on. */
static u64 write_due(const struct greq *req, const struct core_donor *d)
{
	return patience_ends(d, &req->extent->cur, req->asked_at, later(req->held_at, req->asked_at));
}

/* Somebody has answered or was asked: is there one left alone now? */
void late_write(struct greq *req)
{
	struct relay_core *core = req->link->core;
	const struct core_donor *d = alone(req);

	if (!d) {
		list_del(&req->in_held);
		return;
	}
	if (list_empty(&req->in_held) || req->held_by != bit64(d->index)) {
		list_del(&req->in_held);
		list_add_tail(&req->in_held, &core->held_writes);
		req->held_by = bit64(d->index);
		req->held_at = core->now;
		core_want_tick(core, core->now + shortest(core));
	} else {
		core_want_tick(core, write_due(req, d));
	}
}

static void look_at_writes(struct relay_core *core)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &core->held_writes) {
		struct greq *req = list_entry(pos, struct greq, in_held);
		struct core_donor *d;

		if (core->now - req->held_at < shortest(core)) {
			core_want_tick(core, req->held_at + shortest(core));
			return;
		}
		d = alone(req);
		if (!d || req->held_by != bit64(d->index)) {
			late_write(req);
		} else if (write_due(req, d) > core->now) {
			core_want_tick(core, write_due(req, d));
		} else if (works_off(req->extent->s, d)) {
			core_want_tick(core, core->now + shortest(core) - behind(d));
		} else if (extent_takes_writes(req->extent)) {	/* else when that change is over */
			found_late(req->extent, d, req->held_at, "write");
			req->extent->late |= bit64(d->index);
			extent_review(req->extent);
			list_del(&req->in_held);	/* where it cannot be let go now, that is looked at again */
			late_write(req);
		}
	}
}

/* ---- changes ----------------------------------------------------------------------------------------------------------------- */

/* One donor has not answered PLACE yet. */
void late_change(struct extent *x)
{
	list_del(&x->in_held);
	x->held_at = x->s->core->now;
	list_add_tail(&x->in_held, &x->s->core->held_changes);
}

/* Is there a live copy without @d, by the record in effect and by the one that was proposed? */
static bool other_is_live(const struct extent *x, const struct core_donor *d)
{
	u8 i;
	int k;

	for (i = 0; i < x->next.n; i++) {
		const struct replica *r = &x->next.r[i];

		if (r->state != MEMX_R_LIVE || r->donor == d || !replica_usable(x->s, r) || x->refused & bit64(r->donor->index))
			continue;
		k = placement_find(&x->cur, r->donor);
		if (!x->cur.generation || (k >= 0 && x->cur.r[k].state == MEMX_R_LIVE && !x->cur.r[k].bad))
			return true;
	}
	return false;
}

static void look_at_changes(struct relay_core *core)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &core->held_changes) {
		struct extent *x = list_entry(pos, struct extent, in_held);
		struct core_donor *d;
		u64 due;

		if (core->now - x->held_at < shortest(core)) {
			core_want_tick(core, x->held_at + shortest(core));
			return;
		}
		d = list_empty(&x->writes) ? NULL : change_waits_for(x);
		if (!d || !other_is_live(x, d))
			continue;
		due = patience_ends(d, &x->next, x->proposed_at, x->held_at);
		if (due > core->now) {
			core_want_tick(core, due);
			continue;
		}
		found_late(x, d, x->held_at, "record");
		change_without(x, d);
	}
}

void late_tick(struct relay_core *core)
{
	look_at_writes(core);
	look_at_changes(core);
}
