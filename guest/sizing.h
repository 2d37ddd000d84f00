/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sizing.h - how many lanes a guest gets, how large their rings are, and how fast the trimmer may go.
 *
 * Each lane has a large ring, in the direction in which pages travel, and a small one, for requests on a
 * fetch lane and for replies on a store lane. Pure: numbers in, numbers out.
 */
#ifndef MEMX_GUEST_SIZING_H
#define MEMX_GUEST_SIZING_H

#include "port.h"
#include "transport.h"

enum {
	/*
	 * The large ring holds two of the longest frames (132,408 bytes each), so that one can be
	 * written while the other is read: 2^19 is the first power of two above 264,816.
	 */
	MEMX_LARGE_MIN_ORDER	= 19,
	MEMX_LARGE_MAX_ORDER	= MEMX_VCHAN_MAX_ORDER,

	/*
	 * The small ring holds the relay's reserve for records (9,376 bytes) and twelve replies to the
	 * longest STORE (568 bytes each) beside it; or as many requests.
	 */
	MEMX_SMALL_MIN_ORDER	= 14,
	MEMX_SMALL_MAX_ORDER	= 16,

	MEMX_RING_SHARE		= 64,	/* all rings together: at most one 64th of the guest's memory */
};

/* Lanes of one kind that a guest of so many CPUs gets where its admin did not say. */
unsigned int memx_default_lanes(unsigned int cpus);

/*
 * Fills in @specs for @store store lanes, which come first, and @fetch fetch lanes. @order: log2 of the
 * large rings' bytes, 0: as the guest's @ram_pages allow. Returns the number of lanes, or -EINVAL: none
 * of a kind, too many together, or an order out of range.
 */
int memx_lane_specs(struct memx_lane_spec *specs, unsigned int store, unsigned int fetch,
		    unsigned int order, u64 ram_pages);

/* Pages that lanes of these specs take: rings and shared pages. */
u32 memx_lane_pages(const struct memx_lane_spec *specs, unsigned int lanes);

enum {
	MEMX_TRIM_MS		= 250,		/* so often the trimmer looks for freed slots ... */
	MEMX_TRIM_LOOKS		= 1 << 16,	/* ... and at most at so many, which takes a few milliseconds */
};

/* Slots that the trimmer looks at each time, of @slots that there are, if it is to look at @per_second. */
u32 memx_trim_looks(u32 per_second, u32 slots);

#endif /* MEMX_GUEST_SIZING_H */
