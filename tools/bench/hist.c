// SPDX-License-Identifier: GPL-2.0-only
/*
 * hist.c - log-linear histogram; see hist.h.
 *
 * Bucket i of a value v: with e the number of bits by which v exceeds HIST_BITS bits, v >> e lies in
 * [HIST_HALF, 2 * HIST_HALF), and e * HIST_HALF buckets lie below the ones of this e.
 */
#include "hist.h"

static u32 bucket_of(u64 value)
{
	u32 bits = value ? 64 - (u32)__builtin_clzll(value) : 0;
	u32 e = bits > HIST_BITS ? bits - HIST_BITS : 0;

	return e * HIST_HALF + (u32)(value >> e);
}

/* The largest value that falls into bucket @i. */
static u64 bucket_top(u32 i)
{
	u32 e = i < 2 * HIST_HALF ? 0 : i / HIST_HALF - 1;

	return (((u64)(i - e * HIST_HALF) + 1) << e) - 1;
}

void hist_add(struct hist *h, u64 value)
{
	if (!h->count || value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->count++;
	h->sum += value;
	h->bucket[bucket_of(value)]++;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	if (!from->count)
		return;
	if (!to->count || from->min < to->min)
		to->min = from->min;
	if (from->max > to->max)
		to->max = from->max;
	to->count += from->count;
	to->sum += from->sum;
	for (u32 i = 0; i < HIST_BUCKETS; i++)
		to->bucket[i] += from->bucket[i];
}

u64 hist_quantile(const struct hist *h, double part)
{
	u64 wanted = (u64)(part * (double)h->count + 0.5), seen = 0;

	if (!h->count)
		return 0;
	if (wanted < 1)
		wanted = 1;
	for (u32 i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= wanted) {
			u64 top = bucket_top(i);

			return top < h->max ? top : h->max;
		}
	}
	return h->max;
}
