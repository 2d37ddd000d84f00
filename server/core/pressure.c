// SPDX-License-Identifier: GPL-2.0-only
/*
 * pressure.c - see pressure.h.
 *
 * Memory that is available is a number: what lacks is given back at once, from what is in use now. Stalls are not: they say
 * that something has to give, so it goes down by steps, each with time to take effect. Up again it goes slowly, and never
 * by more than half of what is free above the floor, so that giving and taking do not chase each other.
 */
#include "pressure.h"

#define SECOND 1000000000ULL

static u64 min64(u64 a, u64 b)
{
	return a < b ? a : b;
}

static u64 less(u64 from, u64 by)
{
	return from > by ? from - by : 0;
}

/* A sixty-fourth of what is given, 4 MiB at least. */
static u64 step(const struct srv_pressure_view *v)
{
	return v->limit / 64 > 1024 ? v->limit / 64 : 1024;
}

static void grow(struct srv_pressure *p, const struct srv_pressure_view *v)
{
	u64 to = p->allowed + step(v);

	if (v->floor)
		to = min64(to, v->used + less(v->available, v->floor) / 2);
	if (to > p->allowed)
		p->allowed = to;
	if (p->allowed >= v->limit)
		p->allowed = SRV_NO_BOUND;
}

u64 srv_pressure_step(struct srv_pressure *p, const struct srv_pressure_view *v)
{
	u64 lacks = v->floor ? less(v->floor, v->available) : 0;

	if (lacks) {
		p->allowed = min64(p->allowed, less(v->used, lacks));
		p->hurt_ns = v->now_ns;
	}
	if (v->stalled) {
		p->hurt_ns = v->now_ns;
		if (!p->shrunk_ns || v->now_ns - p->shrunk_ns >= SRV_STALL_PAUSE_S * SECOND) {
			p->allowed = less(min64(p->allowed, v->used), step(v));
			p->shrunk_ns = v->now_ns;
		}
	}
	if (p->allowed != SRV_NO_BOUND && v->now_ns - p->hurt_ns >= SRV_CALM_S * SECOND)
		grow(p, v);
	return p->allowed;
}
