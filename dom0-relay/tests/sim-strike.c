// SPDX-License-Identifier: GPL-2.0-only
/*
 * sim-strike.c - what befalls the cluster of a simulated schedule: faults, and the turns of its guests' lives.
 *
 * A donor forgets everything only where the guests' records say that each page has another live copy: all copies lost at once
 * is what nobody promises to survive.
 */
#include "sim.h"

enum {
	LIVES_RESUMES	= MEMX_MAX_LINEAGE - 1,	/* a donor that sleeps through more does not know the guest */
	LIVES_SESSIONS	= 5,			/* a relay remembers so many that donors which are away hold yet, and some more */
};

/* Does every acknowledged page survive if this donor forgets everything? By what the guests hold, which is the truth. */
static bool may_forget(struct world *w, const struct wdonor *lost)
{
	u32 i, x, k, j;

	for (i = 0; i < w->guests; i++) {
		const struct wguest *g = &w->guest[i];

		for (x = 0; g->order && x < memx_extents(g->slots, g->order); x++) {
			const struct memx_record *rec = &g->record[x];
			u32 left = 0;

			for (k = 0; k < rec->replicas; k++)
				for (j = 0; j < w->donors; j++)
					left += &w->donor[j] != lost && rec->replica[k].state == MEMX_R_LIVE &&
						!memcmp(rec->replica[k].donor, w->donor[j].id, 16) &&
						memx_le64(rec->replica[k].instance) == w->donor[j].instance &&
						srv_holds(w->donor[j].srv, g->conf.vm, g->session, x);
			if (rec->generation && !left)
				return false;
		}
	}
	return true;
}

/* The same for a record that is on its way to a guest: it would take effect without a live copy. */
static bool none_in_flight_needs(struct world *w, const struct wdonor *lost)
{
	struct list *pos;
	u32 x, k, j;

	list_for_each(pos, &w->core->sessions) {
		const struct session *s = list_entry(pos, struct session, in_core);

		for (x = 0; s->extent && x < s->extents; x++) {
			const struct placement *p = &s->extent[x].next;
			u32 left = 0;

			for (k = 0; k < p->n; k++)
				for (j = 0; j < w->donors; j++)		/* as it is, not as the relay knows it */
					left += &w->donor[j] != lost && p->r[k].state == MEMX_R_LIVE &&
						!memcmp(p->r[k].id, w->donor[j].id, 16) &&
						p->r[k].instance == w->donor[j].instance && !p->r[k].bad &&
						srv_holds(w->donor[j].srv, s->vm, s->id, x);
			if (p->n && !left)
				return false;
		}
	}
	return true;
}

/* A donor that has confirmed a copy, which is dropped on its word, and that dies at once: that were two failures. */
static bool nobody_relies_on(struct world *w, const struct wdonor *lost)
{
	u32 i;

	for (i = 0; i < w->donors; i++)
		if (w->donor[i].pin.out && w->donor[i].pin.to == lost)
			return false;
	return true;
}

/* A donor that lies about everything, now and then. That a session is somebody else's it says of a fence or of anything else. */
static bool lie(struct wdonor *d, struct frame *f)
{
	u16 op = memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;
	u32 dice = (u32)(world_random(d->w) % 100);

	if (dice >= 10)
		return true;
	if (op == MEMX_OP_FENCE || (dice == 9 && world_random(d->w) % 4 == 0)) {
		f->hdr.status = memx_put_le32(dice & 1 ? MEMX_S_SUPERSEDED : MEMX_S_FENCED);
		if (op != MEMX_OP_FENCE) {
			f->len = 0;
			f->hdr.len = 0;
		}
	} else if (dice < 7 && f->len) {
		f->body[world_random(d->w) % f->len] ^= (u8)(1 << world_random(d->w) % 8);
	} else if (dice == 7) {
		f->hdr.tag = memx_put_le64(memx_le64(f->hdr.tag) ^ 1ULL << world_random(d->w) % 40);
	} else if (dice == 8) {
		return false;
	} else if (op == MEMX_OP_FETCH || op == MEMX_OP_STORE) {
		f->hdr.status = memx_put_le32(MEMX_S_ABSENT);
	}
	return true;
}

/* Refusals that a donor has no reason for. None says that a page or a copy is gone, so none may cost one. */
static bool refuse_oddly(struct wdonor *d, struct frame *f)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_DISCARD, MEMX_OP_FETCH, MEMX_OP_PLACE, MEMX_OP_SCAN, MEMX_OP_FREE,
				   MEMX_OP_RETAIN };
	static const u32 status[] = { MEMX_S_AGAIN, MEMX_S_VERSION, MEMX_S_DENIED, MEMX_S_OP, MEMX_S_INVALID, MEMX_S_LIMIT,
				      MEMX_S_DRAINING, MEMX_S_PROTO, MEMX_S_NODONOR, MEMX_S_MISMATCH, MEMX_S_IO, MEMX_S_GENERATION, 99 };
	u32 statuses = sizeof(status) / sizeof(status[0]);
	u16 op = memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;
	u32 i;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]) && ops[i] != op; i++)
		;
	if (i == sizeof(ops) / sizeof(ops[0]) || world_random(d->w) % 50)
		return true;
	f->hdr.status = memx_put_le32(status[world_random(d->w) % statuses]);
	f->len = 0;
	f->hdr.len = 0;
	return true;
}

/* Has no memory for a page just then, or found the request damaged. */
static u32 refuse_stores(struct wdonor *d, const struct memx_head *head)
{
	if (head->op != MEMX_OP_STORE || world_random(d->w) % 20)
		return MEMX_S_OK;
	return world_random(d->w) % 4 ? MEMX_S_NOSPACE : MEMX_S_CORRUPT;
}

/* The first donor has bad memory: a bit of a page turns over there. Only of one that has another live copy, which is good. */
static bool rots(struct world *w, struct wguest *g)
{
	u32 slot = g->slots ? die(w, g->slots) : 0, i, k;
	const struct memx_record *rec = g->slots ? &g->record[slot >> g->order] : NULL;
	u8 page[MEMX_PAGE_SIZE], *at;

	if (!rec || g->slot[slot].state != SLOT_STORED || g->slot[slot].busy)
		return false;
	wguest_page(g, slot, g->slot[slot].good, page);
	at = wdonor_find(&w->donor[0], page);
	for (i = 0; at && i < rec->replicas; i++)
		for (k = 1; k < w->donors; k++)
			if (rec->replica[i].state == MEMX_R_LIVE && !memcmp(rec->replica[i].donor, w->donor[k].id, 16) &&
			    wdonor_find(&w->donor[k], page)) {
				at[die(w, MEMX_PAGE_SIZE)] ^= (u8)(1 << die(w, 8));
				w->rotten = true;
				return true;
			}
	return false;
}

/* Donors of the configuration that are not on their way out of it. */
static u32 in_use(const struct world *w)
{
	u32 i, n = 0;

	for (i = 0; i < w->donors; i++)
		n += w->donor[i].cd && !w->donor[i].cd->leaving;
	return n;
}

void sim_donor_back(struct world *w, struct wdonor *d)
{
	struct core_donor *cd;

	d->there = true;
	if (d->cd && !d->cd->leaving)
		return;
	cd = core_donor_add(w->core, d->name, d, w->now);
	if (!d->cd)
		d->connect_at = w->now;
	d->cd = cd;
}

/* ---- guests' lives ---------------------------------------------------------------------------------------------------------- */

/* Suspended and resumed: a new lineage; in another domain, or in the same one where nothing came of it or a copy was made. */
static void resume(struct sim *s, struct wguest *g)
{
	u32 i;

	wguest_hang_up(g);
	if (die(s->w, 2)) {
		core_guest_gone(s->w->core, g->conf.vm, g->conf.domid, true, s->w->now);
		g->conf.domid = ++s->w->domids;
	}
	for (i = MEMX_MAX_LINEAGE - 1; i; i--)
		g->lineage[i] = g->lineage[i - 1];
	g->lineage[0] = world_random(s->w);
	s->life[g - s->w->guest].resumes++;
	s->sum->struck[FAULT_RESUME]++;
}

/*
 * Its domain is destroyed, whatever was under way, and another one of the same guest comes: a new session. That of the one before
 * an admin has to free where it ended by suspend, or was resumed and ended before it attached again: the relay keeps it.
 */
static void reborn(struct sim *s, struct wguest *g, bool suspended)
{
	struct life *life = &s->life[g - s->w->guest];
	u8 session[16];

	memcpy(session, g->session, sizeof(session));
	wguest_hang_up(g);
	core_guest_gone(s->w->core, g->conf.vm, g->conf.domid, suspended, s->w->now);
	if (suspended || g->granted_domid != g->conf.domid)
		core_session_free(s->w->core, g->conf.vm, session, false, s->w->now);
	g->conf.domid = ++s->w->domids;
	wguest_new_session(g);
	life->plan = PLAN_NONE;
	life->resumes = 0;
}

/* If it does not hear the answer, it comes back with a map of what is freed. That is said to be lost each time, as it should be. */
static void detach(struct sim *s, struct wguest *g)
{
	g->detach_status = ~0U;
	wguest_detach(g);
	s->sum->struck[FAULT_DETACH]++;
}

static void detached(struct sim *s, struct wguest *g)
{
	struct life *life = &s->life[g - s->w->guest];

	sim_must(s, g->detach_status == MEMX_S_OK || g->detach_status == MEMX_S_UNKNOWN, "detach ended with %u", g->detach_status);
	wguest_hang_up(g);
	wguest_new_session(g);
	life->plan = PLAN_NONE;
	life->resumes = 0;
}

bool sim_guest_goes_on(struct sim *s, struct wguest *g)
{
	struct life *life = &s->life[g - s->w->guest];

	sim_must(s, g->attach_status != MEMX_S_SUPERSEDED, "a guest without a copy gives up");
	if (life->plan == PLAN_DETACH && g->detach_status != ~0U) {
		detached(s, g);
	} else if (!g->alive) {
		wguest_offer(g);
	} else if (!g->attached) {
		if (g->lanes_said == W_LANES && !g->attaching)
			wguest_attach(g);
	} else if (life->plan == PLAN_NONE) {
		return true;
	} else if (!g->busy && !g->wanted && !g->detaching) {
		if (life->plan == PLAN_DETACH) {
			detach(s, g);
		} else {
			life->plan = PLAN_NONE;
			resume(s, g);
		}
	}
	return false;
}

static bool plans(struct sim *s, struct wguest *g, enum fault fault)
{
	struct life *life = &s->life[g - s->w->guest];

	if (life->plan != PLAN_NONE || (fault == FAULT_RESUME ? life->resumes == LIVES_RESUMES : life->sessions == LIVES_SESSIONS))
		return false;
	if (fault == FAULT_RESUME) {
		life->plan = PLAN_RESUME;
		return false;		/* counted when it happens */
	}
	life->sessions++;
	if (fault == FAULT_DETACH) {
		life->plan = PLAN_DETACH;
		g->detach_status = ~0U;
		return false;
	}
	reborn(s, g, fault == FAULT_FREE);
	return true;
}

/* ---- the faults --------------------------------------------------------------------------------------------------------------- */

static bool forgets(struct world *w, struct wdonor *d)
{
	if (!may_forget(w, d) || !none_in_flight_needs(w, d) || !nobody_relies_on(w, d))
		return false;
	wdonor_restart(d);
	return true;
}

static bool drop(struct world *w, struct wdonor *d)
{
	if (w->old.core && die(w, 2)) {
		wold_drop(d);
		return true;
	}
	if (!d->conn)
		return false;
	wdonor_drop(d);
	return true;
}

/* One more donor, or one that was removed is back. */
static bool add(struct world *w, struct wdonor *d)
{
	if (die(w, 4) == 0 && w->donors < W_DONORS)
		world_add_donor(w, 24);
	else if (d->cd && !d->cd->leaving)
		return false;
	else
		sim_donor_back(w, d);
	return true;
}

static bool remove_one(struct world *w, struct wdonor *d)
{
	if (!d->cd || d->cd->leaving || in_use(w) <= 2)
		return false;
	core_donor_remove(d->cd, w->now);
	return true;
}

/* It is taken leave of, but that is stuck on its way; the connection breaks, and the donor is wanted again. */
static bool leave_too_late(struct world *w)
{
	u32 i;

	for (i = 0; i < w->donors; i++) {
		struct wdonor *d = &w->donor[i];

		if (!d->cd || !d->cd->leaving || !wdonor_stuck(d, MEMX_OP_DETACH, die(w, 4000)))
			continue;
		sim_donor_back(w, d);
		return true;
	}
	return false;
}

static bool drain(struct world *w, struct wdonor *d)
{
	return d->cd && !core_donor_empty(w->core, d->name, die(w, 3), w->now);
}

/* It takes its time for each frame, as one behind a narrow line does; or is quick again. */
static bool slow(struct world *w, struct wdonor *d)
{
	d->work_ns = die(w, 3) ? (20 + die(w, 200)) * MS : 0;
	return d->work_ns;
}

/* The relay that was left behind: is told that a guest has gone, or ends. */
static bool old_relay(struct world *w, struct wguest *g)
{
	if (!w->old.core)
		return false;
	if (die(w, 3))
		wold_guest_gone(w, g);
	else
		world_old_relay_ends(w);
	return true;
}

static bool strikes(struct sim *s, enum fault fault)
{
	struct world *w = s->w;
	struct wdonor *d = &w->donor[die(w, w->donors)];
	struct wguest *g = &w->guest[die(w, w->guests)];
	u64 dropped = d->dropped;

	switch (fault) {
	case FAULT_DROP:
		return drop(w, d);
	case FAULT_HANG:
		d->hung = true;
		return true;
	case FAULT_HEAL:
		d->hung = false;
		return true;
	case FAULT_RELAY:
		world_relay_restart(w);
		return true;
	case FAULT_LEAVE:
		world_leave_relay(w);
		return true;
	case FAULT_OLD:
		return old_relay(w, g);
	case FAULT_GUEST:
		wguest_hang_up(g);
		return true;
	case FAULT_MEMORY:
		return forgets(w, d);
	case FAULT_ADD:
		return add(w, d);
	case FAULT_REMOVE:
		return remove_one(w, d);
	case FAULT_LATE:
		return leave_too_late(w);
	case FAULT_DRAIN:
		return drain(w, d);
	case FAULT_ROT:
		return rots(w, g);
	case FAULT_SELF:
		if (!d->hung)
			wdonor_help_itself(d);
		return d->dropped > dropped;
	case FAULT_LIMIT:
		wdonor_limit(d, die(w, 3) ? die(w, d->chunks + 1) : d->chunks);
		return true;
	case FAULT_SLOW:
		return slow(w, d);
	case FAULT_RESUME:
	case FAULT_DETACH:
	case FAULT_GONE:
	case FAULT_FREE:
		return plans(s, g, fault);
	default:
		return false;
	}
}

void sim_strike(struct sim *s, enum fault fault)
{
	s->sum->struck[fault] += strikes(s, fault);
}

void sim_prepare(struct sim *s, u32 donors, u32 liar)
{
	u32 i;

	if (s->r->liar)
		s->w->donor[liar].tamper = lie;
	for (i = 0; i < donors; i++) {
		if (s->r->odd)
			s->w->donor[i].tamper = refuse_oddly;
		if (s->r->scarce)
			s->w->donor[i].refuse = refuse_stores;
	}
}
