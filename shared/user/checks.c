// SPDX-License-Identifier: GPL-2.0-only
/*
 * checks.c - the checks of several pages at once; see checks.h.
 *
 * XXH64 has four accumulators of 64 bits, each fed with every fourth word of the page. Two pages' accumulators make one vector of
 * 512 bits, and two such vectors hide the latency of their multiplications. Four pages, not more: what lies at the same place of
 * eight pages, and of their copies, falls into the same few lines of the first cache.
 */
#include <memx/check.h>

#include "user/checks.h"

static bool allowed = true;

static u64 check_one(u64 seed, const struct memx_check_page *p, bool copy)
{
	if (!copy)
		return memx_check(seed, p->slot, p->version, p->from);
	if (!(((uintptr_t)p->from | (uintptr_t)p->to) & 7))
		return memx_copy_check(seed, p->slot, p->version, p->to, p->from);
	memcpy(p->to, p->from, MEMX_PAGE_SIZE);
	return memx_check(seed, p->slot, p->version, p->to);
}

#if defined(__x86_64__) && !defined(__CHECKER__)

#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512dq")))

enum { ABREAST = 4 };

static bool wide(void)
{
	return allowed && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

/* 32 bytes of the pages @p[0] and @p[1], loaded once. */
static inline WIDE __m512i take(const struct memx_check_page *p, u32 at, bool copy)
{
	__m256i a = *(const volatile __m256i_u *)((const u8 *)p[0].from + at);
	__m256i b = *(const volatile __m256i_u *)((const u8 *)p[1].from + at);

	if (copy) {
		_mm256_storeu_si256((__m256i_u *)((u8 *)p[0].to + at), a);
		_mm256_storeu_si256((__m256i_u *)((u8 *)p[1].to + at), b);
	}
	return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

/* memx_xxh64_round() of eight accumulators. */
static inline WIDE __m512i rounds(__m512i acc, __m512i words)
{
	const __m512i p1 = _mm512_set1_epi64((long long)MEMX_XXH64_P1), p2 = _mm512_set1_epi64((long long)MEMX_XXH64_P2);

	return _mm512_mullo_epi64(_mm512_rol_epi64(_mm512_add_epi64(acc, _mm512_mullo_epi64(words, p2)), 31), p1);
}

static inline WIDE void check_four(u64 seed, struct memx_check_page *p, bool copy)
{
	u64 acc[ABREAST][4];
	__m512i x, y;
	u32 i;

	for (i = 0; i < ABREAST; i++)
		memx_xxh64_begin(memx_page_seed(seed, p[i].slot, p[i].version), acc[i]);
	x = _mm512_loadu_si512(acc[0]);
	y = _mm512_loadu_si512(acc[2]);
	for (i = 0; i < MEMX_PAGE_SIZE; i += 32) {
		x = rounds(x, take(&p[0], i, copy));
		y = rounds(y, take(&p[2], i, copy));
	}
	_mm512_storeu_si512(acc[0], x);
	_mm512_storeu_si512(acc[2], y);
	for (i = 0; i < ABREAST; i++)
		p[i].check = memx_xxh64_end(acc[i]);
}

static WIDE void read_four(u64 seed, struct memx_check_page *p)
{
	check_four(seed, p, false);
}

static WIDE void copy_four(u64 seed, struct memx_check_page *p)
{
	check_four(seed, p, true);
}

/* Does as many as go abreast; how many those are. */
static u32 check_wide(u64 seed, struct memx_check_page *pages, u32 count, bool copy)
{
	u32 done = 0;

	if (count < ABREAST || !wide())
		return 0;
	for (; done + ABREAST <= count; done += ABREAST)
		(copy ? copy_four : read_four)(seed, &pages[done]);
	return done;
}

#else

static bool wide(void)
{
	return false;
}

static u32 check_wide(u64 seed, struct memx_check_page *pages, u32 count, bool copy)
{
	(void)seed;
	(void)pages;
	(void)count;
	(void)copy;
	return 0;
}

#endif

static void check_all(u64 seed, struct memx_check_page *pages, u32 count, bool copy)
{
	u32 i;

	for (i = check_wide(seed, pages, count, copy); i < count; i++)
		pages[i].check = check_one(seed, &pages[i], copy);
}

void memx_checks(u64 session_seed, struct memx_check_page *pages, u32 count)
{
	check_all(session_seed, pages, count, false);
}

void memx_copy_checks(u64 session_seed, struct memx_check_page *pages, u32 count)
{
	check_all(session_seed, pages, count, true);
}

bool memx_checks_wide(bool may)
{
	allowed = may;
	return wide();
}
