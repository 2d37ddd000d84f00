// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-sim.c - thousands of seeded schedules of the relay's core over real donor cores, in virtual time.
 *
 * Each seed makes a cluster, lets guests store, fetch and discard at random, delivers frames in random order between
 * connections and lanes, and strikes with faults: connections break (with their bytes still on the way), donors hang and come
 * back, lose their memory where the records say that another live copy exists, the relay is killed, guests attach anew. The
 * guest checks every answer (world-guest.c). At the end everything heals; then every request must have been answered, and
 * every slot is read back.
 *
 * CORE_SIM_SEED: first seed (1); CORE_SIM_N: how many (default below). A failure prints its seed; CORE_SIM_SEED=that
 * CORE_SIM_N=1 CORE_SIM_ONLY=sim_... WORLD_LOG=1 shows it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

enum {
	SIM_N		= 7000,		/* per regime, plainly built: more than 100,000 in all */
	SIM_N_CHECKED	= 100,		/* per regime, under a sanitizer, which takes its time */
	SIM_STEPS	= 700,
	SIM_PROCESSES	= 16,		/* at most */
};

enum fault {
	FAULT_DROP, FAULT_HANG, FAULT_HEAL, FAULT_RELAY, FAULT_GUEST, FAULT_MEMORY, FAULT_ROT, FAULT_ADD, FAULT_REMOVE,
	FAULT_LIMIT, FAULT_SELF, FAULTS
};

struct regime {
	const char *name;
	u32 donors_min, replicas;
	u32 weight[FAULTS];		/* of 1000 steps */
	bool liar;			/* one donor damages a tenth of its answers */
	bool odd;			/* all refuse a fiftieth of what is asked with statuses that have no meaning there */
	bool scarce;			/* all refuse a twentieth of the stores */
	bool full;			/* donors have hardly more room than is needed */
};

static const struct regime calm = { .name = "calm", .donors_min = 1, .replicas = 1 };
static const struct regime links = {
	.name = "connections", .donors_min = 1, .replicas = 1,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_GUEST] = 2 },
};
static const struct regime pairs = {
	.name = "pairs", .donors_min = 2, .replicas = 2,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_GUEST] = 2 },
};
static const struct regime relays = {
	.name = "relay killed", .donors_min = 2, .replicas = 2,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 5, [FAULT_GUEST] = 2 },
};
static const struct regime memory = {
	.name = "memory lost", .donors_min = 3, .replicas = 2,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 2, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 12 },
};

static const struct regime liars = { .name = "one donor lies", .donors_min = 3, .replicas = 2, .liar = true };
static const struct regime odd = {
	.name = "odd answers", .donors_min = 1, .replicas = 1, .odd = true,
	.weight = { [FAULT_DROP] = 2, [FAULT_HANG] = 1, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1 },
};
static const struct regime odd_pairs = {
	.name = "odd answers, two copies", .donors_min = 2, .replicas = 2, .odd = true,
	.weight = { [FAULT_DROP] = 2, [FAULT_HANG] = 1, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1 },
};
static const struct regime changing = {
	.name = "donors added and removed", .donors_min = 3, .replicas = 2,
	.weight = { [FAULT_DROP] = 3, [FAULT_HANG] = 2, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_ADD] = 10,
		    [FAULT_REMOVE] = 8 },
};
static const struct regime rot = {
	.name = "bad memory", .donors_min = 3, .replicas = 2,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 2, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_ROT] = 40 },
};
static const struct regime triples = {
	.name = "three copies", .donors_min = 4, .replicas = 3,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_MEMORY] = 12 },
};
static const struct regime narrow = {
	.name = "little room", .donors_min = 3, .replicas = 2, .full = true,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_MEMORY] = 8 },
};
static const struct regime scarce = {
	.name = "stores refused", .donors_min = 3, .replicas = 2, .scarce = true,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 2, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 8 },
};

static const struct regime limits = {
	.name = "memory wanted back", .donors_min = 3, .replicas = 2, .full = true,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 2, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 4,
		    [FAULT_LIMIT] = 20 },
};

static const struct regime selfish = {
	.name = "donors help themselves", .donors_min = 3, .replicas = 2, .full = true,
	.weight = { [FAULT_DROP] = 5, [FAULT_HANG] = 4, [FAULT_HEAL] = 10, [FAULT_RELAY] = 4, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 4,
		    [FAULT_ADD] = 4, [FAULT_REMOVE] = 2, [FAULT_LIMIT] = 20, [FAULT_SELF] = 100 },
};
static const struct regime selfish_triples = {
	.name = "and of three copies", .donors_min = 4, .replicas = 3, .full = true,
	.weight = { [FAULT_DROP] = 5, [FAULT_HANG] = 4, [FAULT_HEAL] = 10, [FAULT_RELAY] = 4, [FAULT_GUEST] = 2, [FAULT_LIMIT] = 30,
		    [FAULT_SELF] = 200 },
};

static u32 die(struct world *w, u32 sides)
{
	return (u32)(world_random(w) % sides);
}

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
	/* From the third last on not for a fetch: a guest is told when nobody has its page, and asks again by itself. */
	static const u32 status[] = { MEMX_S_AGAIN, MEMX_S_VERSION, MEMX_S_DENIED, MEMX_S_OP, MEMX_S_INVALID, MEMX_S_LIMIT,
				      MEMX_S_DRAINING, MEMX_S_PROTO, MEMX_S_NODONOR, MEMX_S_MISMATCH, MEMX_S_IO, MEMX_S_GENERATION, 99 };
	u32 statuses = sizeof(status) / sizeof(status[0]);
	u16 op = memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;
	u32 i;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]) && ops[i] != op; i++)
		;
	if (i == sizeof(ops) / sizeof(ops[0]) || world_random(d->w) % 50)
		return true;
	f->hdr.status = memx_put_le32(status[world_random(d->w) % (op == MEMX_OP_FETCH ? statuses - 3 : statuses)]);
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
static void rots(struct world *w, struct wguest *g)
{
	u32 slot = g->slots ? die(w, g->slots) : 0, i, k;
	const struct memx_record *rec = g->slots ? &g->record[slot >> g->order] : NULL;
	u8 page[MEMX_PAGE_SIZE], *at;

	if (!rec || g->slot[slot].state != SLOT_STORED || g->slot[slot].busy)
		return;
	wguest_page(g, slot, g->slot[slot].good, page);
	at = wdonor_find(&w->donor[0], page);
	for (i = 0; at && i < rec->replicas; i++)
		for (k = 1; k < w->donors; k++)
			if (rec->replica[i].state == MEMX_R_LIVE && !memcmp(rec->replica[i].donor, w->donor[k].id, 16) &&
			    wdonor_find(&w->donor[k], page)) {
				at[die(w, MEMX_PAGE_SIZE)] ^= (u8)(1 << die(w, 8));
				w->rotten = true;
				return;
			}
}

/* Donors of the configuration that are not on their way out of it. */
static u32 in_use(const struct world *w)
{
	u32 i, n = 0;

	for (i = 0; i < w->donors; i++)
		n += w->donor[i].cd && !w->donor[i].cd->leaving;
	return n;
}

/* One that was removed is back in the configuration. */
static void add(struct world *w, struct wdonor *d)
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

static void strike(struct world *w, enum fault fault)
{
	struct wdonor *d = &w->donor[die(w, w->donors)];
	struct wguest *g = &w->guest[die(w, w->guests)];

	switch (fault) {
	case FAULT_DROP:
		wdonor_drop(d);
		break;
	case FAULT_HANG:
		d->hung = true;
		break;
	case FAULT_HEAL:
		d->hung = false;
		break;
	case FAULT_RELAY:
		world_relay_restart(w);
		break;
	case FAULT_GUEST:
		wguest_hang_up(g);
		break;
	case FAULT_MEMORY:
		if (may_forget(w, d) && none_in_flight_needs(w, d) && nobody_relies_on(w, d))
			wdonor_restart(d);
		break;
	case FAULT_ADD:
		if (die(w, 4) == 0 && w->donors < W_DONORS)
			world_add_donor(w, 24);
		else
			add(w, d);
		break;
	case FAULT_REMOVE:
		if (d->cd && in_use(w) > 2)
			core_donor_remove(d->cd, w->now);
		break;
	case FAULT_ROT:
		rots(w, g);
		break;
	case FAULT_SELF:
		if (!d->hung)
			wdonor_help_itself(d);
		break;
	case FAULT_LIMIT:
		wdonor_limit(d, die(w, 3) ? die(w, d->chunks + 1) : d->chunks);
		break;
	default:
		break;
	}
}

/* What a guest does when it has nothing better to do. */
static void guest_acts(struct world *w, struct wguest *g)
{
	u32 slot, count = 1 + die(w, 6);

	if (g->attach_status == MEMX_S_SUPERSEDED) {
		fprintf(stderr, "seed %llu: a guest without a copy gives up\n", (unsigned long long)w->seed);
		abort();
	}
	if (!g->alive) {
		wguest_offer(g);
		return;
	}
	if (!g->attached) {
		if (g->lanes_said == W_LANES && !g->attaching)
			wguest_attach(g);
		return;
	}
	slot = die(w, g->slots);
	switch (die(w, 8)) {
	case 0 ... 3:
		wguest_store(g, slot, count);
		break;
	case 4 ... 6:
		wguest_fetch(g, slot, count);
		break;
	default:
		wguest_discard(g, slot, count);
	}
}

static bool all_quiet(struct world *w)
{
	u32 i;

	for (i = 0; i < w->guests; i++)
		if (!w->guest[i].attached || w->guest[i].busy)
			return false;
	return true;
}

static void heal(struct world *w, bool odd_ends)
{
	u32 i, turn;

	for (i = 0; i < w->donors; i++) {
		w->donor[i].hung = false;
		add(w, &w->donor[i]);	/* a new relay may have let go what a guest's map needs */
		wdonor_limit(&w->donor[i], w->donor[i].chunks);
		w->donor[i].refuse = NULL;
		if (odd_ends)
			w->donor[i].tamper = NULL;
	}
	for (turn = 0; turn < 1600; turn++) {	/* an answer that a liar keeps to itself is waited for four times as long as silence */
		for (i = 0; i < w->guests; i++) {
			struct wguest *g = &w->guest[i];

			if (!g->alive)
				wguest_offer(g);
			else if (!g->attached && !g->attaching && g->lanes_said == W_LANES)
				wguest_attach(g);
		}
		world_pass(w, 50);
		if (all_quiet(w))
			return;
	}
	for (i = 0; i < w->guests; i++)
		fprintf(stderr, "seed %llu: guest %u: alive %d attached %d attaching %d busy %u last status %u %s\n",
			(unsigned long long)w->seed, i, w->guest[i].alive, w->guest[i].attached, w->guest[i].attaching,
			w->guest[i].busy, w->guest[i].attach_status, w->guest[i].reason);
	abort();
}

static void read_back(struct world *w, struct wguest *g, bool lenient)
{
	u32 slot;

	for (slot = 0; slot < g->slots; slot++)
		if (g->slot[slot].state == SLOT_STORED && wguest_do(g, wguest_fetch(g, slot, 1)) != MEMX_S_OK) {
			world_pass(w, 3000);
			if (g->busy) {
				fprintf(stderr, "seed %llu: slot %u cannot be read\n", (unsigned long long)w->seed, slot);
				abort();
			}
		}
	if (g->errors && !lenient) {
		fprintf(stderr, "seed %llu: %llu writes failed\n", (unsigned long long)w->seed, (unsigned long long)g->errors);
		abort();
	}
}

/* With a liar, the honest ones must not be suspected for what this world's random clock does to them: that were two failures. */
static void patient(struct core_config *cfg)
{
	cfg->donor_timeout_ns = 12000 * MS;
}

static void run_one(const struct regime *r, u64 seed, struct core_counters *sum)
{
	u64 mix = seed * 0x9e3779b97f4a7c15ULL;
	u32 donors = r->donors_min + (u32)(mix >> 40) % 3, step, i, dice, guests = 1 + (u32)(mix >> 50) % 2;
	struct world *w = world_new(seed, donors, r->full ? 2 + 2 * guests : 24, r->liar ? patient : NULL);
	struct core_counters c;

	if (r->liar)
		w->donor[mix >> 60 & 1].tamper = lie;
	for (i = 0; i < donors; i++) {
		if (r->odd)
			w->donor[i].tamper = refuse_oddly;
		if (r->scarce)
			w->donor[i].refuse = refuse_stores;
	}

	for (i = 0; i < guests; i++) {
		struct wguest *g = wguest_new(w, 128, r->replicas);

		g->may_lose = r->weight[FAULT_ROT];	/* while the good copy is away; a guest asks again */
		wguest_start(g);
	}
	for (step = 0; step < SIM_STEPS; step++) {
		enum fault f;

		dice = die(w, 1000);
		for (f = 0; f < FAULTS; f++) {
			if (dice < r->weight[f])
				break;
			dice -= r->weight[f];
		}
		if (f < FAULTS)
			strike(w, f);
		else if (die(w, 3) == 0)
			guest_acts(w, &w->guest[die(w, w->guests)]);
		else if (!world_roll(w) || die(w, 40) == 0)
			world_tick(w);
	}
	heal(w, r->odd);
	if (r->weight[FAULT_ROT])
		world_pass(w, 1000);	/* until all donors are back, the good copies with them */
	for (i = 0; i < w->guests; i++) {
		w->guest[i].may_lose = false;
		read_back(w, &w->guest[i], r->liar || r->full || r->odd || r->scarce || r->weight[FAULT_ROT]);
	}
	c = world_counters(w);
	if (c.violations || c.extents_lost || (!r->liar && ((!r->odd && c.donor_violations) || (!r->weight[FAULT_ROT] && c.bad_pages)))) {
		fprintf(stderr, "seed %llu: honest peers were accused: %llu %llu %llu %llu\n", (unsigned long long)seed,
			(unsigned long long)c.violations, (unsigned long long)c.donor_violations,
			(unsigned long long)c.bad_pages, (unsigned long long)c.extents_lost);
		abort();
	}
	for (i = 0; i < sizeof(c) / sizeof(u64); i++)
		((u64 *)sum)[i] += ((const u64 *)&c)[i];
	world_free(w);
}

static u64 setting(const char *name, u64 otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

static bool plain(void)
{
	const char *variant = getenv("MEMX_VARIANT");

	return variant && !strcmp(variant, "opt");
}

/* What one process does: every @of-th schedule from @first on. In memory that the others see. */
struct share {
	struct core_counters sum;
	u64 seed;			/* at hand */
};

static void take_share(const struct regime *r, u64 first, u64 end, u64 of, struct share *s)
{
	for (s->seed = first; s->seed < end; s->seed += of)
		run_one(r, s->seed, &s->sum);
}

static void child(const struct regime *r, u64 first, u64 end, u64 of, struct share *s)
{
	static const int caught[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS };
	size_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (i = 0; i < sizeof(caught) / sizeof(*caught); i++)
		signal(caught[i], SIG_DFL);	/* cmocka would go on with its next test here */
	take_share(r, first, end, of, s);
	exit(0);		/* and what it forgot to free is looked for */
}

/* As many processes as there are processors. */
static void share_out(const struct regime *r, u64 first, u64 n, u64 of, struct core_counters *sum)
{
	struct share *s = mmap(NULL, of * sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid[SIM_PROCESSES];
	int status, bad = 0;
	u64 i, k;

	assert_ptr_not_equal(s, MAP_FAILED);
	fflush(NULL);
	for (i = 0; i < of; i++) {
		pid[i] = fork();
		assert_int_not_equal(pid[i], -1);
		if (!pid[i])
			child(r, first + i, first + n, of, &s[i]);
	}
	for (i = 0; i < of; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		if (status)
			fprintf(stderr, "%s: seed %llu failed (status %x)\n", r->name, (unsigned long long)s[i].seed, status);
		bad += status != 0;
		for (k = 0; k < sizeof(*sum) / sizeof(u64); k++)
			((u64 *)sum)[k] += ((const u64 *)&s[i].sum)[k];
	}
	munmap(s, of * sizeof(*s));
	assert_int_equal(bad, 0);
}

static void run(const struct regime *r)
{
	u64 first = setting("CORE_SIM_SEED", 1), n = setting("CORE_SIM_N", plain() ? SIM_N : SIM_N_CHECKED);
	u64 processors = (u64)sysconf(_SC_NPROCESSORS_ONLN);
	struct core_counters sum = { 0 };

	if (n == 1)
		run_one(r, first, &sum);	/* to be debugged */
	else
		share_out(r, first, n, processors < SIM_PROCESSES ? processors : SIM_PROCESSES, &sum);
	fprintf(stderr, "# %s: %llu schedules; stores %llu fetches %llu resends %llu records %llu dropped %llu repaired %llu losses "
		"%llu new instances %llu bad pages %llu healed %llu reclaimed %llu given up %llu\n", r->name, (unsigned long long)n,
		(unsigned long long)sum.stores, (unsigned long long)sum.fetches, (unsigned long long)sum.resends,
		(unsigned long long)sum.records,
		(unsigned long long)sum.replicas_dropped, (unsigned long long)sum.replicas_repaired,
		(unsigned long long)sum.donor_losses, (unsigned long long)sum.donor_new_instances,
		(unsigned long long)sum.bad_pages, (unsigned long long)sum.pages_healed,
		(unsigned long long)sum.reclaimed, (unsigned long long)sum.given_up);
}

static void sim_calm(void **state)
{
	(void)state;
	run(&calm);
}

static void sim_connections(void **state)
{
	(void)state;
	run(&links);
}

static void sim_pairs(void **state)
{
	(void)state;
	run(&pairs);
}

static void sim_relays(void **state)
{
	(void)state;
	run(&relays);
}

static void sim_memory(void **state)
{
	(void)state;
	run(&memory);
}

static void sim_liars(void **state)
{
	(void)state;
	run(&liars);
}

static void sim_odd(void **state)
{
	(void)state;
	run(&odd);
}

static void sim_odd_pairs(void **state)
{
	(void)state;
	run(&odd_pairs);
}

static void sim_changing(void **state)
{
	(void)state;
	run(&changing);
}

static void sim_rot(void **state)
{
	(void)state;
	run(&rot);
}

static void sim_triples(void **state)
{
	(void)state;
	run(&triples);
}

static void sim_narrow(void **state)
{
	(void)state;
	run(&narrow);
}

static void sim_scarce(void **state)
{
	(void)state;
	run(&scarce);
}

static void sim_limits(void **state)
{
	(void)state;
	run(&limits);
}

static void sim_selfish(void **state)
{
	(void)state;
	run(&selfish);
}

static void sim_selfish_triples(void **state)
{
	(void)state;
	run(&selfish_triples);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sim_calm),
		cmocka_unit_test(sim_connections),
		cmocka_unit_test(sim_pairs),
		cmocka_unit_test(sim_relays),
		cmocka_unit_test(sim_memory),
		cmocka_unit_test(sim_liars),
		cmocka_unit_test(sim_odd),
		cmocka_unit_test(sim_odd_pairs),
		cmocka_unit_test(sim_changing),
		cmocka_unit_test(sim_rot),
		cmocka_unit_test(sim_triples),
		cmocka_unit_test(sim_narrow),
		cmocka_unit_test(sim_scarce),
		cmocka_unit_test(sim_limits),
		cmocka_unit_test(sim_selfish),
		cmocka_unit_test(sim_selfish_triples),
	};

	/* What one schedule gives back the next one wants again: it stays ours. */
	mallopt(M_TRIM_THRESHOLD, 1 << 28);
	if (getenv("CORE_SIM_ONLY"))
		cmocka_set_test_filter(getenv("CORE_SIM_ONLY"));
	return cmocka_run_group_tests_name("relay core: schedules", tests, NULL, NULL);
}
