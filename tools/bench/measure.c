// SPDX-License-Identifier: GPL-2.0-only
/*
 * measure.c - sums of results, and the content of pages by which every byte is known.
 */
#include "bench.h"

const char *bench_op_name(enum bench_op op)
{
	return op == BENCH_FETCH ? "fetch" : "store";
}

void bench_streamed(struct bench_result *result, enum bench_op op, u64 pages, u64 ns)
{
	double rate = (double)pages * 1e9 / (double)(ns ? ns : 1);

	result->streamed[op] += pages;
	result->seconds[op] += (double)ns / 1e9;
	if (rate > result->best[op])
		result->best[op] = rate;
}

double bench_pages_s(const struct bench_result *result, enum bench_op op)
{
	return result->seconds[op] > 0 ? (double)result->streamed[op] / result->seconds[op] : 0;
}

/* Mixes two words into one that looks random [SplitMix64, Vigna]. */
static u64 mix(u64 a, u64 b)
{
	u64 z = a * 0x9e3779b97f4a7c15ULL + b + 0x632be59bd9b4e019ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

void bench_fill(void *to, u64 page, u64 pass)
{
	u64 base = mix(page, pass), *word = to;

	for (u32 i = 0; i < MEMX_PAGE_SIZE / sizeof(u64); i++)
		word[i] = base + i * (base | 1);
}

bool bench_verify(const void *data, u64 page, u64 pass)
{
	u64 base = mix(page, pass), wrong = 0;
	const u64 *word = data;

	for (u32 i = 0; i < MEMX_PAGE_SIZE / sizeof(u64); i++)
		wrong |= word[i] ^ (base + i * (base | 1));
	return !wrong;
}
