// SPDX-License-Identifier: GPL-2.0-only
/*
 * pattern.c - see pattern.h. Pure.
 */
#include <stdio.h>

#include "pattern.h"

enum { WORDS = MEMX_PAGE_SIZE / sizeof(u64) };

/* Mixes words into one that looks random [SplitMix64, Vigna]. */
static u64 mix(u64 a, u64 b, u64 c)
{
	u64 z = a * 0x9e3779b97f4a7c15ULL + b * 0xd1342543de82ef95ULL + c + 0x632be59bd9b4e019ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static u64 word_of(u64 base, u64 slot, u64 number, u32 i)
{
	return i == 0 ? slot : i == 1 ? number : base + i * (base | 1);
}

static bool repeated(u64 number, bool same)
{
	return same && number && !(number % 16);
}

void pattern_fill(void *page, u64 salt, u64 slot, u64 number, bool same)
{
	u64 base = mix(salt, slot, number), *word = page;

	for (u32 i = 0; i < WORDS; i++)
		word[i] = repeated(number, same) ? base : word_of(base, slot, number, i);
}

bool pattern_verify(const void *page, u64 salt, u64 slot, u64 number, bool same)
{
	u64 base = mix(salt, slot, number), wrong = 0;
	const u64 *word = page;

	for (u32 i = 0; i < WORDS; i++)
		wrong |= word[i] ^ (repeated(number, same) ? base : word_of(base, slot, number, i));
	return !wrong;
}

void pattern_describe(const void *page, char *to, size_t size)
{
	const u64 *word = page;

	snprintf(to, size, "it says slot %llu, writing %llu; word 2 is %016llx", (unsigned long long)word[0],
		 (unsigned long long)word[1], (unsigned long long)word[2]);
}
