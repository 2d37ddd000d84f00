/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sim.h - what the simulation's files share: core-sim.c runs regimes, sim-strike.c does harm, sim-judge.c says whether it did.
 */
#ifndef MEMX_RELAY_TESTS_SIM_H
#define MEMX_RELAY_TESTS_SIM_H

#include <stdio.h>

#include "world.h"

enum fault {
	FAULT_DROP, FAULT_HANG, FAULT_HEAL, FAULT_RELAY, FAULT_GUEST, FAULT_MEMORY, FAULT_ROT, FAULT_ADD, FAULT_REMOVE,
	FAULT_LATE, FAULT_DRAIN, FAULT_LIMIT, FAULT_SELF, FAULT_LEAVE, FAULT_OLD, FAULT_RESUME, FAULT_DETACH, FAULT_GONE, FAULT_FREE,
	FAULT_SLOW, FAULTS
};

/* What has happened in schedules. All u64, added up over them. */
struct sum {
	struct core_counters core;
	struct core_counters old;	/* of relays that were left behind */
	struct world_tally guest;
	u64 struck[FAULTS];
	u64 repaired;			/* schedules at whose end all copies were there again */
	u64 late_detaches;		/* refused, since the next connection had the session */
	u64 read_back;			/* pages, at the very end */
	u64 lost_again;			/* donors that lost all after repair, before the pages were read */
};

#define SUM_WORDS (sizeof(struct sum) / sizeof(u64))

/* At least so many in a thousand schedules, or the regime is not about what it is said to be. */
struct want {
	const char *name;
	size_t word;
	u64 least;
};

#define WANT(field, n) { #field, offsetof(struct sum, field) / sizeof(u64), n }

enum {
	WANTS	= 8,
};

struct regime {
	const char *name;
	u32 donors_min, replicas;
	u32 extents;			/* of each guest; 0: two. More take turns to change their records, one at a time */
	u32 weight[FAULTS];		/* of 1000 steps */
	bool liar;			/* one donor damages a tenth of its answers */
	bool odd;			/* all refuse a fiftieth of what is asked with statuses that have no meaning there */
	bool scarce;			/* all refuse a twentieth of the stores */
	bool full;			/* donors have hardly more room than is needed */
	bool balances;			/* at the end there is time to even out the donors' room */
	struct want want[WANTS];
};

/* What a guest is about to do, when nothing of it is under way any more. */
enum plan { PLAN_NONE, PLAN_RESUME, PLAN_DETACH };

struct life {
	enum plan plan;
	u32 resumes, sessions;
};

struct sim {
	const struct regime *r;
	struct world *w;
	struct life life[W_GUESTS];
	struct sum *sum;
};

#define sim_must(s, cond, ...) do {								\
	if (!(cond)) {										\
		fprintf(stderr, "%s, seed %llu: ", (s)->r->name, (unsigned long long)(s)->w->seed);	\
		fprintf(stderr, __VA_ARGS__);							\
		fputc('\n', stderr);								\
		abort();									\
	}											\
} while (0)

static inline u32 die(struct world *w, u32 sides)
{
	return (u32)(world_random(w) % sides);
}

/* sim-strike.c */
void sim_prepare(struct sim *s, u32 donors, u32 liar);	/* its donors lie, refuse, ... */
void sim_strike(struct sim *s, enum fault fault);
bool sim_guest_goes_on(struct sim *s, struct wguest *g);	/* true: it may store and fetch */
void sim_donor_back(struct world *w, struct wdonor *d);	/* in the configuration, if it was taken out of it */

/* sim-judge.c */
void sim_judge(struct sim *s);

#endif
