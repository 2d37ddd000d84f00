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

#endif /* MEMX_CHECK_H */
