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

/*
 * Check of the MEMX_PAGE_SIZE bytes at @page, stored in @slot as @version. @session_seed from memx_session_seed().
 * Take it over a private copy: a live page of a guest may change under the reader. Any context, no side effects.
 */
static inline u64 memx_check(u64 session_seed, u32 slot, u64 version, const void *page)
{
	__le64 what[2] = { memx_put_le64(slot), memx_put_le64(version) };

	return memx_xxh64(page, MEMX_PAGE_SIZE, memx_xxh64(what, sizeof(what), session_seed));
}

/* ---- copying and checking in one pass ---- */

static inline u64 memx_xxh64_rotl(u64 x, unsigned int by)
{
	return x << by | x >> (64 - by);
}

static inline u64 memx_xxh64_round(u64 acc, u64 word)
{
	return memx_xxh64_rotl(acc + word * 0xc2b2ae3d27d4eb4fULL, 31) * 0x9e3779b185ebca87ULL;
}

static inline u64 memx_xxh64_merge(u64 hash, u64 acc)
{
	return (hash ^ memx_xxh64_round(0, acc)) * 0x9e3779b185ebca87ULL + 0x85ebca77c2b2ae63ULL;
}

/*
 * Copies the MEMX_PAGE_SIZE bytes at @from to @to, both aligned to 8 bytes, and returns memx_check() of what was copied.
 *
 * Every word is loaded once, so the value is that of the copy even if @from changes meanwhile; nobody else may write to @to.
 * XXH64 waits for its multiplications and a copy for memory: together they take little longer than the check alone.
 */
static inline u64 memx_copy_check(u64 session_seed, u32 slot, u64 version, void *to, const void *from)
{
	const u64 p1 = 0x9e3779b185ebca87ULL, p2 = 0xc2b2ae3d27d4eb4fULL, p3 = 0x165667b19e3779f9ULL;
	__le64 what[2] = { memx_put_le64(slot), memx_put_le64(version) };
	u64 seed = memx_xxh64(what, sizeof(what), session_seed), hash;
	u64 a = seed + p1 + p2, b = seed + p2, c = seed, d = seed - p1;
	const u64 *in = from;
	u64 *out = to;
	unsigned int i;

	for (i = 0; i < MEMX_PAGE_SIZE / sizeof(u64); i += 4) {
		u64 w0 = memx_load_once(&in[i]), w1 = memx_load_once(&in[i + 1]);
		u64 w2 = memx_load_once(&in[i + 2]), w3 = memx_load_once(&in[i + 3]);

		out[i] = w0;
		out[i + 1] = w1;
		out[i + 2] = w2;
		out[i + 3] = w3;
		a = memx_xxh64_round(a, memx_word_le64(w0));
		b = memx_xxh64_round(b, memx_word_le64(w1));
		c = memx_xxh64_round(c, memx_word_le64(w2));
		d = memx_xxh64_round(d, memx_word_le64(w3));
	}
	hash = memx_xxh64_rotl(a, 1) + memx_xxh64_rotl(b, 7) + memx_xxh64_rotl(c, 12) + memx_xxh64_rotl(d, 18);
	hash = memx_xxh64_merge(memx_xxh64_merge(memx_xxh64_merge(memx_xxh64_merge(hash, a), b), c), d) + MEMX_PAGE_SIZE;
	hash = (hash ^ hash >> 33) * p2;
	hash = (hash ^ hash >> 29) * p3;
	return hash ^ hash >> 32;
}

#endif /* MEMX_CHECK_H */
