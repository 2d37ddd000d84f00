/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pace.h - how often a domain is looked at, however often it writes; and which lines of the log share a limit.
 *
 * A poke (a watch fired) is worth a look, PACE_LOOKS a second at most. An attempt to connect that failed, or a link that ended
 * soon after it stood, is followed by a pause that doubles from PACE_MIN_MS to PACE_MAX_MS; nothing that the domain writes makes it
 * shorter, so a guest that offers and hangs up in a loop costs an attempt every few seconds. A link that lasted clears its record.
 * Pure: times are handed in. Owner: the XenStore thread; of the limits the data thread.
 */
#ifndef RELAY_EDGE_PACE_H
#define RELAY_EDGE_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PACE_LOOKS = 20,
	PACE_MIN_MS = 250,
	PACE_MAX_MS = 8000,
	PACE_LASTED_MS = 5000,
};

#define PACE_NEVER UINT64_MAX

struct pace {
	bool poked;			/* there is something to look at */
	bool retry;			/* to be looked at again without being told */
	uint64_t look_at;		/* not before, ns */
	uint64_t pause_until;		/* not before, after failures */
	uint64_t linked_at;
	uint32_t failures;		/* in a row */
};

static inline uint64_t pace_due(const struct pace *p)
{
	if (!p->poked && !p->retry)
		return PACE_NEVER;
	return p->look_at > p->pause_until ? p->look_at : p->pause_until;
}

static inline void pace_looked(struct pace *p, uint64_t now)
{
	p->poked = false;
	p->retry = false;
	p->look_at = now + 1000000000ULL / PACE_LOOKS;
}

static inline void pace_failed(struct pace *p, uint64_t now)
{
	uint64_t pause = (uint64_t)PACE_MIN_MS << (p->failures < 5 ? p->failures : 5);

	if (p->failures < 1000)
		p->failures++;
	p->pause_until = now + (pause < PACE_MAX_MS ? pause : PACE_MAX_MS) * 1000000ULL;
	p->retry = true;
}

static inline void pace_linked(struct pace *p, uint64_t now)
{
	p->linked_at = now;
	p->retry = false;
}

static inline void pace_ended(struct pace *p, uint64_t now)
{
	if (now - p->linked_at < PACE_LASTED_MS * 1000000ULL)
		pace_failed(p, now);
	else
		p->failures = 0;
	p->poked = true;
}

/* ---- lines in the log ---------------------------------------------------------------------------------------------------- */

enum { LOG_LIMITS = 256 };

/*
 * Which of the limits counts a line: by its event and its subject, which is its first field (donor=..., guest=...). So a donor that
 * comes and goes without end holds back its own lines, not that another one is down.
 */
static inline unsigned int log_limit_of(const char *event, const char *fields)
{
	uint32_t hash = 2166136261U;	/* FNV-1a */

	for (; *event; event++)
		hash = (hash ^ (uint8_t)*event) * 16777619U;
	for (; *fields && *fields != ' '; fields++)
		hash = (hash ^ (uint8_t)*fields) * 16777619U;
	return hash % LOG_LIMITS;
}

#endif /* RELAY_EDGE_PACE_H */
