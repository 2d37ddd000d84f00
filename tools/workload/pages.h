/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pages.h - pages that name themselves: each of the 512 words follows from the seed, the page's number and its version.
 *
 * Some pages are made of one repeated word or of zeros on purpose (every 16th and every 32nd), because swap takes other
 * ways with them. No state; used by programs of one thread per process.
 */
#ifndef MEMX_WORKLOAD_PAGES_H
#define MEMX_WORKLOAD_PAGES_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* What word @w of the page is: step 0 makes pages of one repeated word, base 0 with it makes zeros. */
static inline void pattern(uint64_t seed, size_t page, uint32_t version, uint64_t *base, uint64_t *step)
{
	*base = mix(seed ^ mix(((uint64_t)page << 32) | version));
	*step = 0x9e3779b97f4a7c15ULL;
	if (page % 16 == 15)
		*step = 0;
	if (page % 32 == 31 && version % 2)
		*base = 0;
}

static inline void page_write(uint64_t *p, uint64_t seed, size_t page, uint32_t version)
{
	uint64_t base, step;
	unsigned int w;

	pattern(seed, page, version, &base, &step);
	for (w = 0; w < WORDS; w++)
		p[w] = base + w * step;
}

/* Is the page what it must be? Says on stdout what it is in place of that; an older version is recognised. */
static inline bool page_verify(const uint64_t *p, uint64_t seed, size_t page, uint32_t version, unsigned int proc)
{
	uint64_t base, step;
	unsigned int w;
	uint32_t v;

	pattern(seed, page, version, &base, &step);
	for (w = 0; w < WORDS; w++)
		if (p[w] != base + w * step)
			break;
	if (w == WORDS)
		return true;
	for (v = version; v-- > 0 && version - v < 1000;) {
		uint64_t b, s;

		pattern(seed, page, v, &b, &s);
		if (p[0] == b && p[1] == b + s) {
			printf("WRONG: process %u page %zu: version %u, expected %u (an old page came back)\n", proc, page, v, version);
			return false;
		}
	}
	printf("WRONG: process %u page %zu version %u: word %u is %016" PRIx64 ", expected %016" PRIx64 "\n",
	       proc, page, version, w, p[w], base + w * step);
	return false;
}

#endif /* MEMX_WORKLOAD_PAGES_H */
