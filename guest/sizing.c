// SPDX-License-Identifier: GPL-2.0-only
/*
 * sizing.c - how many lanes a guest gets, how large their rings are, and how fast the trimmer may go. Pure.
 */
#include "sizing.h"

_Static_assert((1ULL << MEMX_LARGE_MIN_ORDER) >= 2 * MEMX_MAX_FRAME, "two frames fit");
_Static_assert((1ULL << (MEMX_LARGE_MIN_ORDER - 1)) < 2 * MEMX_MAX_FRAME, "and no more is asked");
_Static_assert((1ULL << MEMX_SMALL_MIN_ORDER) > MEMX_RESERVE_REPLY + MEMX_MAX_PAGES * 100,
	       "records and several replies fit");

unsigned int memx_default_lanes(unsigned int cpus)
{
	unsigned int lanes = cpus / 2;

	if (lanes > MEMX_MAX_LANES / 2)
		lanes = MEMX_MAX_LANES / 2;
	return lanes ? lanes : 1;
}

/* A small ring grows with the large one, at a distance: large 19, 20 give small 14, 15. */
static unsigned int small_order(unsigned int large)
{
	unsigned int order = large - (MEMX_LARGE_MIN_ORDER - MEMX_SMALL_MIN_ORDER);

	return order > MEMX_SMALL_MAX_ORDER ? MEMX_SMALL_MAX_ORDER : order;
}

static void fill(struct memx_lane_spec *specs, unsigned int store, unsigned int fetch,
		 unsigned int large)
{
	unsigned int i;

	for (i = 0; i < store + fetch; i++) {
		bool stores = i < store;

		specs[i].kind = stores ? MEMX_LANE_STORE : MEMX_LANE_FETCH;
		specs[i].left_order = stores ? small_order(large) : large;
		specs[i].right_order = stores ? large : small_order(large);
	}
}

u32 memx_lane_pages(const struct memx_lane_spec *specs, unsigned int lanes)
{
	unsigned int i;
	u32 pages = 0;

	for (i = 0; i < lanes; i++)
		pages += 1 + (1U << (specs[i].left_order - MEMX_PAGE_SHIFT)) +
			 (1U << (specs[i].right_order - MEMX_PAGE_SHIFT));
	return pages;
}

int memx_lane_specs(struct memx_lane_spec *specs, unsigned int store, unsigned int fetch,
		    unsigned int order, u64 ram_pages)
{
	if (!store || !fetch || store > MEMX_MAX_LANES || fetch > MEMX_MAX_LANES ||
	    store + fetch > MEMX_MAX_LANES)
		return -EINVAL;
	if (order) {
		if (order < MEMX_LARGE_MIN_ORDER || order > MEMX_LARGE_MAX_ORDER)
			return -EINVAL;
		fill(specs, store, fetch, order);
		return (int)(store + fetch);
	}

	for (order = MEMX_LARGE_MAX_ORDER; ; order--) {
		fill(specs, store, fetch, order);
		if (order == MEMX_LARGE_MIN_ORDER ||
		    memx_lane_pages(specs, store + fetch) <= ram_pages / MEMX_RING_SHARE)
			return (int)(store + fetch);
	}
}

u32 memx_trim_looks(u32 per_second, u32 slots)
{
	u32 looks = per_second / (1000 / MEMX_TRIM_MS);

	/* Few are still some: only 0 is none. Nor is any slot worth two looks at once. */
	if (per_second && !looks)
		looks = 1;
	return min(min(looks, slots), (u32)MEMX_TRIM_LOOKS);
}
