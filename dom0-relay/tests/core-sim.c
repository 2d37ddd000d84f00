// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-sim.c - thousands of seeded schedules of the relay's core over real donor cores, in virtual time.
 *
 * Each seed makes a cluster, lets guests store, read and discard at random, delivers frames in random order between
 * connections and lanes, and strikes with faults (sim-strike.c). The guest checks every answer (world-io.c). At the end everything
 * heals, and what was promised has to be true (sim-judge.c). Of a hundred schedules and more each regime wants that what it is
 * about has happened: about a third of what is usual.
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

#include "sim.h"

enum {
	SIM_N		= 5200,		/* per regime, plainly built: more than 100,000 in all */
	SIM_N_CHECKED	= 100,		/* per regime, under a sanitizer, which takes its time */
	SIM_STEPS	= 700,
	SIM_PROCESSES	= 16,		/* at most */
};

static const struct regime calm = {
	.name = "calm", .donors_min = 1, .replicas = 1,
	.want = { WANT(core.stores, 80000), WANT(core.fetches, 60000), WANT(core.discards, 18000),
		  WANT(guest.reads_held, 2000) },
};
static const struct regime connections = {
	.name = "connections", .donors_min = 1, .replicas = 1,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_GUEST] = 2 },
	.want = { WANT(core.donor_losses, 1300), WANT(guest.stores_again_ok, 10000),
		  WANT(guest.discards_again, 2000), WANT(guest.discards_void, 350), WANT(guest.fetches_again, 1000),
		  WANT(guest.reads_held, 2500) },
};
static const struct regime pairs = {
	.name = "pairs", .donors_min = 2, .replicas = 2, .extents = 5,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_GUEST] = 2 },
	.want = { WANT(core.donor_losses, 1500), WANT(core.replicas_dropped, 700), WANT(core.replicas_repaired, 900),
		  WANT(core.hedges, 80), WANT(guest.stores_again_ok, 10000), WANT(lost_again, 1000) },
};
static const struct regime relays = {
	.name = "relay killed", .donors_min = 2, .replicas = 2,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 5, [FAULT_GUEST] = 2 },
	.want = { WANT(struck[FAULT_RELAY], 1000), WANT(guest.stores_again_ok, 20000),
		  WANT(guest.discards_again, 6000), WANT(core.replicas_repaired, 700), WANT(core.condemned, 700),
		  WANT(lost_again, 1000) },
};
static const struct regime memory = {
	.name = "memory lost", .donors_min = 3, .replicas = 2, .extents = 5,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 2, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 12 },
	.want = { WANT(core.donor_new_instances, 1000), WANT(core.replicas_repaired, 900),
		  WANT(core.replicas_dropped, 600), WANT(lost_again, 1000) },
};

static const struct regime liars = {
	.name = "one donor lies", .donors_min = 3, .replicas = 2, .liar = true,
	.want = { WANT(core.disowned, 40), WANT(core.bad_pages, 60), WANT(core.pages_healed, 40),
		  WANT(core.donor_losses, 250) },
};
static const struct regime odd = {
	.name = "odd answers", .donors_min = 1, .replicas = 1, .odd = true,
	.weight = { [FAULT_DROP] = 2, [FAULT_HANG] = 1, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1 },
	.want = { WANT(core.resends, 4000), WANT(core.donor_losses, 900), WANT(guest.stores_again_ok, 10000),
		  WANT(guest.put_off, 10) },
};
static const struct regime odd_pairs = {
	.name = "odd answers, two copies", .donors_min = 2, .replicas = 2, .odd = true,
	.weight = { [FAULT_DROP] = 2, [FAULT_HANG] = 1, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1 },
	.want = { WANT(core.resends, 5000), WANT(core.donor_losses, 1200), WANT(core.replicas_repaired, 800),
		  WANT(guest.put_off, 3), WANT(lost_again, 1000) },
};
static const struct regime changing = {
	.name = "donors added and removed", .donors_min = 3, .replicas = 2, .balances = true,
	.weight = { [FAULT_DROP] = 3, [FAULT_HANG] = 2, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_ADD] = 10,
		    [FAULT_REMOVE] = 8, [FAULT_LATE] = 60, [FAULT_DRAIN] = 6 },
	.want = { WANT(struck[FAULT_ADD], 700), WANT(struck[FAULT_REMOVE], 1000), WANT(struck[FAULT_DRAIN], 1200),
		  WANT(core.replicas_repaired, 600), WANT(core.balanced, 110), WANT(lost_again, 1000), WANT(late_detaches, 100) },
};
static const struct regime rot = {
	.name = "bad memory", .donors_min = 3, .replicas = 2,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 2, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_ROT] = 40 },
	.want = { WANT(struck[FAULT_ROT], 400), WANT(core.bad_pages, 150), WANT(core.pages_healed, 120),
		  WANT(core.replicas_repaired, 550) },
};
static const struct regime triples = {
	.name = "three copies", .donors_min = 4, .replicas = 3,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_MEMORY] = 12 },
	.want = { WANT(core.donor_new_instances, 1300), WANT(core.replicas_repaired, 1800),
		  WANT(core.replicas_dropped, 1200), WANT(lost_again, 2000) },
};
static const struct regime narrow = {
	.name = "little room", .donors_min = 3, .replicas = 2, .full = true,
	.weight = { [FAULT_DROP] = 6, [FAULT_HANG] = 4, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_MEMORY] = 8 },
	.want = { WANT(core.donor_new_instances, 650), WANT(core.replicas_repaired, 900), WANT(lost_again, 1000) },
};
static const struct regime scarce = {
	.name = "stores refused", .donors_min = 3, .replicas = 2, .scarce = true,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 2, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 8 },
	.want = { WANT(core.store_errors, 700), WANT(core.replicas_dropped, 600), WANT(core.replicas_repaired, 850),
		  WANT(lost_again, 1000) },
};

static const struct regime limits = {
	.name = "memory wanted back", .donors_min = 3, .replicas = 2, .full = true,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_RELAY] = 2, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 4,
		    [FAULT_LIMIT] = 20 },
	.want = { WANT(core.asks, 500), WANT(core.reclaimed, 180), WANT(core.replicas_repaired, 1000),
		  WANT(lost_again, 1000) },
};

static const struct regime selfish = {
	.name = "donors help themselves", .donors_min = 3, .replicas = 2, .full = true,
	.weight = { [FAULT_DROP] = 5, [FAULT_HANG] = 4, [FAULT_HEAL] = 10, [FAULT_RELAY] = 4, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 4,
		    [FAULT_ADD] = 4, [FAULT_REMOVE] = 2, [FAULT_LIMIT] = 20, [FAULT_SELF] = 100 },
	.want = { WANT(core.given_up, 25), WANT(core.reclaimed, 90), WANT(struck[FAULT_RELAY], 800),
		  WANT(core.replicas_repaired, 900), WANT(lost_again, 1000) },
};
static const struct regime selfish_triples = {
	.name = "and of three copies", .donors_min = 4, .replicas = 3, .full = true,
	.weight = { [FAULT_DROP] = 5, [FAULT_HANG] = 4, [FAULT_HEAL] = 10, [FAULT_RELAY] = 4, [FAULT_GUEST] = 2, [FAULT_LIMIT] = 30,
		    [FAULT_SELF] = 200 },
	.want = { WANT(core.given_up, 70), WANT(core.reclaimed, 100), WANT(struck[FAULT_RELAY], 900),
		  WANT(core.replicas_repaired, 1100), WANT(lost_again, 2000) },
};

static const struct regime left_behind = {
	.name = "old relays go on", .donors_min = 3, .replicas = 2,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 4, [FAULT_HEAL] = 10, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 4, [FAULT_LEAVE] = 8,
		    [FAULT_OLD] = 4 },
	.want = { WANT(struck[FAULT_LEAVE], 1600), WANT(old.donor_losses, 1900), WANT(old.disowned, 600),
		  WANT(guest.stores_again_ok, 17000), WANT(core.replicas_repaired, 600), WANT(lost_again, 1000) },
};
static const struct regime lives = {
	.name = "sessions come and go", .donors_min = 3, .replicas = 2,
	.weight = { [FAULT_DROP] = 4, [FAULT_HANG] = 3, [FAULT_HEAL] = 8, [FAULT_GUEST] = 2, [FAULT_MEMORY] = 4, [FAULT_RESUME] = 10,
		    [FAULT_DETACH] = 3, [FAULT_GONE] = 2, [FAULT_FREE] = 2 },
	.want = { WANT(struck[FAULT_RESUME], 1000), WANT(struck[FAULT_DETACH], 350), WANT(struck[FAULT_GONE], 230),
		  WANT(struck[FAULT_FREE], 200), WANT(core.detaches, 350), WANT(core.sessions_freed, 400),
		  WANT(core.donor_new_instances, 600), WANT(core.replicas_repaired, 360) },
};

static const struct regime slow = {
	.name = "slow donors", .donors_min = 2, .replicas = 2,
	.weight = { [FAULT_DROP] = 1, [FAULT_HANG] = 1, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_GUEST] = 1, [FAULT_MEMORY] = 2,
		    [FAULT_SLOW] = 20 },
	.want = { WANT(struck[FAULT_SLOW], 3000), WANT(core.late_copies, 290), WANT(core.replicas_repaired, 900),
		  WANT(lost_again, 1000) },
};
static const struct regime slow_triples = {
	.name = "and of three copies", .donors_min = 3, .replicas = 3,
	.weight = { [FAULT_DROP] = 1, [FAULT_HANG] = 1, [FAULT_HEAL] = 8, [FAULT_RELAY] = 1, [FAULT_MEMORY] = 2, [FAULT_SLOW] = 20 },
	.want = { WANT(struck[FAULT_SLOW], 3000), WANT(core.late_copies, 550), WANT(core.replicas_repaired, 1600),
		  WANT(lost_again, 2000) },
};

/* With a liar, the honest ones must not be suspected for what this world's random clock does to them: that were two failures. */
static void patient(struct core_config *cfg)
{
	cfg->donor_timeout_ns = 12000 * MS;
}

static void by_turns(struct core_config *cfg)
{
	cfg->session_changes = 1;
}

/* What a guest does when it has nothing better to do. */
static void guest_acts(struct sim *s, struct wguest *g)
{
	u32 slot, count = 1 + die(s->w, 6);

	if (!sim_guest_goes_on(s, g))
		return;
	slot = die(s->w, g->slots);
	switch (die(s->w, 8)) {
	case 0 ... 3:
		wguest_store(g, slot, count);
		break;
	case 4 ... 6:
		if (die(s->w, 2))
			wguest_fetch(g, slot, count);
		else
			wguest_read(g, slot);
		break;
	default:
		wguest_discard(g, slot, count);
	}
}

static void one_step(struct sim *s)
{
	struct world *w = s->w;
	u32 dice = die(w, 1000);
	enum fault f;

	for (f = 0; f < FAULTS; f++) {
		if (dice < s->r->weight[f])
			break;
		dice -= s->r->weight[f];
	}
	if (f < FAULTS)
		sim_strike(s, f);
	else if (die(w, 3) == 0)
		guest_acts(s, &w->guest[die(w, w->guests)]);
	else if (!world_roll(w) || die(w, 40) == 0)
		world_tick(w);
}

static void run_one(const struct regime *r, u64 seed, struct sum *sum)
{
	u64 mix = seed * 0x9e3779b97f4a7c15ULL;
	u32 donors = r->donors_min + (u32)(mix >> 40) % 3, step, i, guests = 1 + (u32)(mix >> 50) % 2;
	struct sim s = { .r = r, .sum = sum };

	s.w = world_new(seed, donors, r->full ? 2 + 2 * guests : 24, r->liar ? patient : r->extents ? by_turns : NULL);
	sim_prepare(&s, donors, mix >> 60 & 1);
	for (i = 0; i < guests; i++) {
		struct wguest *g = wguest_new(s.w, r->extents ? r->extents * 64 : 128, r->replicas);

		g->persistent = true;
		g->may_lose = r->weight[FAULT_ROT];	/* while the good copy is away for long */
		wguest_start(g);
	}
	for (step = 0; step < SIM_STEPS; step++)
		one_step(&s);
	sim_judge(&s);
	world_free(s.w);
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
	struct sum sum;
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
static void share_out(const struct regime *r, u64 first, u64 n, u64 of, struct sum *sum)
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
		for (k = 0; k < SUM_WORDS; k++)
			((u64 *)sum)[k] += ((const u64 *)&s[i].sum)[k];
	}
	munmap(s, of * sizeof(*s));
	assert_int_equal(bad, 0);
}

static void say(const struct regime *r, u64 n, const struct sum *sum)
{
	static const struct want said[] = {
		WANT(core.stores, 0), WANT(core.fetches, 0), WANT(core.discards, 0), WANT(core.records, 0), WANT(core.resends, 0),
		WANT(core.hedges, 0), WANT(core.donor_losses, 0), WANT(core.donor_new_instances, 0), WANT(core.replicas_dropped, 0),
		WANT(core.late_copies, 0), WANT(core.replicas_repaired, 0), WANT(core.bad_pages, 0), WANT(core.pages_healed, 0),
		WANT(core.asks, 0),
		WANT(core.reclaimed, 0), WANT(core.balanced, 0), WANT(core.given_up, 0), WANT(core.condemned, 0), WANT(core.disowned, 0),
		WANT(core.detaches, 0), WANT(core.sessions_freed, 0), WANT(core.store_errors, 0),
		WANT(guest.stores_again, 0), WANT(guest.stores_again_ok, 0), WANT(guest.discards_again, 0),
		WANT(guest.discards_void, 0), WANT(guest.fetches_again, 0), WANT(guest.reads_held, 0), WANT(guest.put_off, 0),
		WANT(old.attaches, 0), WANT(old.donor_losses, 0), WANT(old.disowned, 0), WANT(repaired, 0), WANT(lost_again, 0),
		WANT(read_back, 0), WANT(late_detaches, 0),
	};
	size_t i;

	fprintf(stderr, "# %s: %llu schedules;", r->name, (unsigned long long)n);
	for (i = 0; i < sizeof(said) / sizeof(*said); i++)
		if (((const u64 *)sum)[said[i].word])
			fprintf(stderr, " %s %llu", said[i].name, (unsigned long long)((const u64 *)sum)[said[i].word]);
	for (i = 0; i < WANTS && r->want[i].name; i++)
		if (!strncmp(r->want[i].name, "struck", 6))
			fprintf(stderr, " %s %llu", r->want[i].name, (unsigned long long)((const u64 *)sum)[r->want[i].word]);
	fputc('\n', stderr);
}

/* Did what the regime is about happen? */
static void was_struck(const struct regime *r, u64 n, const struct sum *sum)
{
	u32 i, bad = 0;

	for (i = 0; i < WANTS && r->want[i].name; i++) {
		u64 got = ((const u64 *)sum)[r->want[i].word];

		if (got * 1000 >= r->want[i].least * n)
			continue;
		fprintf(stderr, "%s: %s %llu in %llu schedules, too few\n", r->name, r->want[i].name, (unsigned long long)got,
			(unsigned long long)n);
		bad++;
	}
	assert_int_equal(bad, 0);
}

static void run(const struct regime *r)
{
	u64 first = setting("CORE_SIM_SEED", 1), n = setting("CORE_SIM_N", plain() ? SIM_N : SIM_N_CHECKED);
	u64 processors = (u64)sysconf(_SC_NPROCESSORS_ONLN);
	struct sum sum = { 0 };

	if (n == 1)
		run_one(r, first, &sum);	/* to be debugged */
	else
		share_out(r, first, n, processors < SIM_PROCESSES ? processors : SIM_PROCESSES, &sum);
	say(r, n, &sum);
	if (n >= SIM_N_CHECKED)
		was_struck(r, n, &sum);
}

#define REGIMES(X)										\
	X(calm) X(connections) X(pairs) X(relays) X(memory) X(liars) X(odd) X(odd_pairs) X(changing) X(rot) X(triples)	\
	X(narrow) X(scarce) X(limits) X(selfish) X(selfish_triples) X(left_behind) X(lives) X(slow) X(slow_triples)

#define TEST(regime)										\
static void sim_##regime(void **state)								\
{												\
	(void)state;										\
	run(&regime);										\
}
REGIMES(TEST)

int main(void)
{
#define ENTRY(regime) cmocka_unit_test(sim_##regime),
	const struct CMUnitTest tests[] = { REGIMES(ENTRY) };

	/* What one schedule gives back the next one wants again: it stays ours. */
	mallopt(M_TRIM_THRESHOLD, 1 << 28);
	mallopt(M_MMAP_THRESHOLD, 1 << 25);
	if (getenv("CORE_SIM_ONLY"))
		cmocka_set_test_filter(getenv("CORE_SIM_ONLY"));
	return cmocka_run_group_tests_name("relay core: schedules", tests, NULL, NULL);
}
