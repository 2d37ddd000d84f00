// SPDX-License-Identifier: GPL-2.0-only
/*
 * sim-judge.c - the end of a simulated schedule: all that did harm stops, and what was promised has to come true.
 *
 *	heal		every guest attaches, every request ends
 *	repaired	within a bound of virtual time every extent has all its live copies again
 *	swept		and donors hold nothing that no guest's map names. An order to hold something may come to a donor over an
 *			old connection when the new one is compared with the map already: that goes with the next attach.
 *	lose again	as many donors as may be lost lose all that they have
 *	read back	every page that a guest has stored comes back as it was
 *
 * And nobody has been accused who kept the rules, by none of the relays that there were.
 */
#include "sim.h"

enum {
	HEAL_MS		= 80000,	/* an answer that a liar keeps to itself is waited for four times as long as silence */
	REPAIR_MS	= 30000,
	SWEEP_MS	= 10000,
	BALANCE_MS	= 6000,		/* until donors' room is looked at, and a copy has moved */
	STEP_MS		= 50,
};

static bool all_quiet(struct sim *s)
{
	u32 i;

	for (i = 0; i < s->w->guests; i++) {
		const struct wguest *g = &s->w->guest[i];

		if (!g->attached || g->busy || g->wanted || s->life[i].plan != PLAN_NONE)
			return false;
	}
	return true;
}

/* Lets time pass until @good. False: it does not come true in time. */
static bool until(struct sim *s, bool (*good)(struct sim *s), u32 ms)
{
	u32 passed, i;

	for (passed = 0; passed < ms; passed += STEP_MS) {
		for (i = 0; i < s->w->guests; i++)
			sim_guest_goes_on(s, &s->w->guest[i]);
		world_pass(s->w, STEP_MS);
		if (good(s))
			return true;
	}
	return false;
}

static void heal(struct sim *s)
{
	struct world *w = s->w;
	u32 i;

	for (i = 0; i < w->donors; i++) {
		w->donor[i].hung = false;
		w->donor[i].work_ns = 0;
		sim_donor_back(w, &w->donor[i]);	/* a new relay may have let go what a guest's map needs */
		core_donor_empty(w->core, w->donor[i].name, false, w->now);
		wdonor_limit(&w->donor[i], w->donor[i].chunks);
		w->donor[i].refuse = NULL;
		if (s->r->odd)
			w->donor[i].tamper = NULL;
	}
	if (until(s, all_quiet, HEAL_MS))
		return;
	for (i = 0; i < w->guests; i++)
		fprintf(stderr, "guest %u: alive %d attached %d attaching %d busy %u waiting %u plan %d last status %u %s\n", i,
			w->guest[i].alive, w->guest[i].attached, w->guest[i].attaching, w->guest[i].busy, w->guest[i].wanted,
			s->life[i].plan, w->guest[i].attach_status, w->guest[i].reason);
	sim_must(s, false, "what guests want does not end");
}

static bool is_repaired(struct sim *s)
{
	struct core_status st;

	core_status(s->w->core, &st);
	return all_quiet(s) && !st.extents_degraded && !st.repair_extents;
}

/* Extents that the guests' maps place at @d, as it is now. */
static u64 named(const struct world *w, const struct wdonor *d)
{
	u64 n = 0;
	u32 i, x, k;

	for (i = 0; i < w->guests; i++) {
		const struct wguest *g = &w->guest[i];

		for (x = 0; g->order && x < memx_extents(g->slots, g->order); x++)
			for (k = 0; k < g->record[x].replicas; k++)
				n += !memcmp(g->record[x].replica[k].donor, d->id, 16) &&
				     memx_le64(g->record[x].replica[k].instance) == d->instance;
	}
	return n;
}

static void say_holdings(struct world *w, struct wdonor *d)
{
	u32 i, x;

	fprintf(stderr, "%s: %llu pages are used, %llu extents named; of present sessions", d->name,
		(unsigned long long)wdonor_pages(d), (unsigned long long)named(w, d));
	for (i = 0; i < w->guests; i++)
		for (x = 0; x < memx_extents(w->guest[i].slots, w->guest[i].order); x++)
			if (srv_holds(d->srv, w->guest[i].conf.vm, w->guest[i].session, x))
				fprintf(stderr, " g%u.%u", i, x);
	fputc('\n', stderr);
}

static bool is_swept(struct sim *s)
{
	u32 i;

	for (i = 0; i < s->w->donors; i++)
		if (wdonor_pages(&s->w->donor[i]) != named(s->w, &s->w->donor[i]) * SRV_CHUNK_PAGES)
			return false;
	return is_repaired(s);
}

static void all_is_well(struct sim *s)
{
	struct core_status st;
	u32 i;

	if (!until(s, is_repaired, REPAIR_MS)) {
		core_status(s->w->core, &st);
		sim_must(s, false, "%llu extents are degraded yet, %llu not repaired", (unsigned long long)st.extents_degraded,
			 (unsigned long long)st.repair_extents);
	}
	s->sum->repaired++;
	if (until(s, is_swept, SWEEP_MS))
		return;
	for (i = 0; i < s->w->donors; i++)
		say_holdings(s->w, &s->w->donor[i]);
	sim_must(s, false, "donors hold what no map names");
}

/* The next failure after repair. */
static void lose_again(struct sim *s)
{
	u32 i, from = die(s->w, s->w->donors);

	for (i = 0; i + 1 < s->r->replicas; i++)
		wdonor_restart(&s->w->donor[(from + i) % s->w->donors]);
	s->sum->lost_again += i;
}

/* From slot @from on: the length of the run that is fetched at once. */
static u32 run_of(const struct wguest *g, u32 from)
{
	u32 n = 0;

	while (n < 8 && from + n < g->slots && g->slot[from + n].state == SLOT_STORED && (from + n) >> g->order == from >> g->order)
		n++;
	return n;
}

static void read_back(struct sim *s, struct wguest *g)
{
	u64 before = g->fetches_ok + g->rotted;
	u32 slot, n, all = 0;

	for (slot = 0; slot < g->slots; slot += n ? n : 1) {
		n = run_of(g, slot);
		if (!n)
			continue;
		all += n;
		sim_must(s, wguest_fetch(g, slot, n), "slot %u cannot be asked for", slot);
		world_settle(s->w);
		if (g->busy)
			sim_must(s, until(s, all_quiet, HEAL_MS), "slots %u to %u cannot be read", slot, slot + n - 1);
	}
	sim_must(s, g->fetches_ok + g->rotted == before + all, "pages are missing");
	s->sum->read_back += all;
}

static void accusations(struct sim *s, const struct core_counters *c)
{
	const struct regime *r = s->r;

	sim_must(s, !c->violations && (r->liar || ((r->odd || !c->donor_violations) && (r->weight[FAULT_ROT] || !c->bad_pages))),
		 "honest peers were accused: %llu %llu %llu", (unsigned long long)c->violations,
		 (unsigned long long)c->donor_violations, (unsigned long long)c->bad_pages);
}

void sim_judge(struct sim *s)
{
	const struct regime *r = s->r;
	struct world *w = s->w;
	struct core_counters c;
	u32 i;

	heal(s);
	if (r->weight[FAULT_ROT])
		world_pass(w, 1000);	/* until all donors are back, the good copies with them */
	if (r->balances)
		world_pass(w, BALANCE_MS);
	if (!r->liar && !r->weight[FAULT_ROT])
		all_is_well(s);
	world_old_relay_ends(w);
	if (!r->liar && !r->weight[FAULT_ROT])
		lose_again(s);
	for (i = 0; i < w->guests; i++) {
		w->guest[i].may_lose = false;
		read_back(s, &w->guest[i]);
		/* For want of room, where there is no more than is needed, or donors say so. */
		sim_must(s, !(w->guest[i].failed & ~(r->full || r->scarce || r->odd ? 1ULL << MEMX_S_NOSPACE : 0)),
			 "%llu pages could not be stored or read: statuses %llx", (unsigned long long)w->guest[i].errors,
			 (unsigned long long)w->guest[i].failed);
	}
	c = world_all_counters(w);
	accusations(s, &c);
	sim_must(s, c.extents_lost <= w->freed, "%llu extents were lost", (unsigned long long)c.extents_lost);
	accusations(s, &w->old.counters);
	s->sum->late_detaches += w->late_detaches;
	world_add_counters(&s->sum->core, &c);
	world_add_counters(&s->sum->old, &w->old.counters);
	for (i = 0; i < sizeof(w->tally) / sizeof(u64); i++)
		((u64 *)&s->sum->guest)[i] += ((const u64 *)&w->tally)[i];
}
