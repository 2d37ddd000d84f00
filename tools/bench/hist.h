/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hist.h - a histogram of durations with a bounded relative error.
 *
 * Log-linear buckets as in HdrHistogram (Gil Tene): values below 2^HIST_BITS exactly, above that 2^(HIST_BITS-1) buckets for
 * each power of two, so that a value is known to better than 1 %. Owned by one thread, or merged when they are done.
 */
#ifndef MEMX_HIST_H
#define MEMX_HIST_H

#include <memx/port.h>

enum {
	HIST_BITS	= 8,
	HIST_HALF	= 1 << (HIST_BITS - 1),
	HIST_BUCKETS	= (64 - HIST_BITS + 2) * HIST_HALF,
};

struct hist {
	u64 count;
	u64 sum;
	u64 min, max;
	u64 bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, u64 value);
void hist_merge(struct hist *to, const struct hist *from);
/* The value that @part (0 .. 1) of all values do not exceed, to within the error; 0 if there are none. */
u64 hist_quantile(const struct hist *h, double part);

#endif /* MEMX_HIST_H */
