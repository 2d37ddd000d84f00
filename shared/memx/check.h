/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * check.h - the check of a page: XXH64, seeded with what the page is.
 *
 * One function for guest, relay and donor, so that one value travels from the store to the fetch and whoever holds the page
 * in between can tell whether it is the right one: the seed binds session, slot and version, so that a good page in the
 * wrong place, or an old one, fails as a damaged one does. It finds corruption, misplacement and staleness. It is no
 * protection against malice: XXH64 is not a MAC.
 *
 * XXH64: Yann Collet, https://xxhash.com, the specification in the library's doc/xxhash_spec.md. The kernel exports it
 * (lib/xxhash.c), user space has it in libxxhash; both give the same values, which the test vectors hold.
 */
#ifndef MEMX_CHECK_H
#define MEMX_CHECK_H

#include "proto.h"

#ifdef __KERNEL__
#include <linux/xxhash.h>
#define memx_xxh64(data, len, seed) xxh64(data, len, seed)
#else
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#define memx_xxh64(data, len, seed) XXH64(data, len, seed)
#endif

/* Seed of a session, computed once: XXH64 of its 16 bytes with seed 0. */
static inline u64 memx_session_seed(const u8 session[16])
{
	return memx_xxh64(session, 16, 0);
}

/* The seed of one version of a page. */
static inline u64 memx_page_seed(u64 session_seed, u32 slot, u64 version)
{
	__le64 what[2] = { memx_put_le64(slot), memx_put_le64(version) };

	return memx_xxh64(what, sizeof(what), session_seed);
}

/*
 * Check of the MEMX_PAGE_SIZE bytes at @page, stored in @slot as @version. @session_seed from memx_session_seed().
 * Take it over a private copy: a live page of a guest may change under the reader. Any context, no side effects.
 */
static inline u64 memx_check(u64 session_seed, u32 slot, u64 version, const void *page)
{
	return memx_xxh64(page, MEMX_PAGE_SIZE, memx_page_seed(session_seed, slot, version));
}

/* ---- copying and checking in one pass ---- */

#define MEMX_XXH64_P1 0x9e3779b185ebca87ULL
#define MEMX_XXH64_P2 0xc2b2ae3d27d4eb4fULL

static inline u64 memx_xxh64_rotl(u64 x, unsigned int by)
{
	return x << by | x >> (64 - by);
}

static inline u64 memx_xxh64_round(u64 acc, u64 word)
{
	return memx_xxh64_rotl(acc + word * MEMX_XXH64_P2, 31) * MEMX_XXH64_P1;
}

static inline u64 memx_xxh64_merge(u64 hash, u64 acc)
{
	return (hash ^ memx_xxh64_round(0, acc)) * MEMX_XXH64_P1 + 0x85ebca77c2b2ae63ULL;
}

/* The four accumulators before the first word. */
static inline void memx_xxh64_begin(u64 seed, u64 acc[4])
{
	acc[0] = seed + MEMX_XXH64_P1 + MEMX_XXH64_P2;
	acc[1] = seed + MEMX_XXH64_P2;
	acc[2] = seed;
	acc[3] = seed - MEMX_XXH64_P1;
}

/* The hash, when every word of a page went into its accumulator. */
static inline u64 memx_xxh64_end(const u64 acc[4])
{
	u64 hash = memx_xxh64_rotl(acc[0], 1) + memx_xxh64_rotl(acc[1], 7) + memx_xxh64_rotl(acc[2], 12) +
		   memx_xxh64_rotl(acc[3], 18);

	hash = memx_xxh64_merge(memx_xxh64_merge(hash, acc[0]), acc[1]);
	hash = memx_xxh64_merge(memx_xxh64_merge(hash, acc[2]), acc[3]) + MEMX_PAGE_SIZE;
	hash = (hash ^ hash >> 33) * MEMX_XXH64_P2;
	hash = (hash ^ hash >> 29) * 0x165667b19e3779f9ULL;
	return hash ^ hash >> 32;
}

/*
 * Copies the MEMX_PAGE_SIZE bytes at @from to @to, both aligned to 8 bytes, and returns memx_check() of what was copied.
 *
 * Every word is loaded once, so the value is that of the copy even if @from changes meanwhile; nobody else may write to @to.
 * XXH64 waits for its multiplications and a copy for memory: together they take little longer than the check alone.
 */
static inline u64 memx_copy_check(u64 session_seed, u32 slot, u64 version, void *to, const void *from)
{
	const u64 *in = from;
	u64 *out = to, acc[4];
	unsigned int i;

	memx_xxh64_begin(memx_page_seed(session_seed, slot, version), acc);
	for (i = 0; i < MEMX_PAGE_SIZE / sizeof(u64); i += 4) {
		u64 w0 = memx_load_once(&in[i]), w1 = memx_load_once(&in[i + 1]);
		u64 w2 = memx_load_once(&in[i + 2]), w3 = memx_load_once(&in[i + 3]);

		out[i] = w0;
		out[i + 1] = w1;
		out[i + 2] = w2;
		out[i + 3] = w3;
		acc[0] = memx_xxh64_round(acc[0], memx_word_le64(w0));
		acc[1] = memx_xxh64_round(acc[1], memx_word_le64(w1));
		acc[2] = memx_xxh64_round(acc[2], memx_word_le64(w2));
		acc[3] = memx_xxh64_round(acc[3], memx_word_le64(w3));
	}
	return memx_xxh64_end(acc);
}

#endif /* MEMX_CHECK_H */
