/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * store.h - the memory that a donor gives, behind a small table of functions.
 *
 * Memory comes in chunks of SRV_CHUNK_PAGES pages, each with one page of slot data ("meta") beside it. An extent is made
 * of as many chunks as it needs, which need not lie together: so nothing is lost to fragmentation whatever the extent
 * orders of the sessions, and a reservation that was given can be kept. The meta page is part of what the donor accounts:
 * of N bytes of memory, N * 64 / 65 hold pages.
 *
 * The slot data lies in the store and not on the heap, in a fixed place per chunk, so that it has the fate of the pages:
 * locked with them, gone with them, and one day kept with them over a restart.
 *
 * A store is used by one thread, that of the core which it was given to. The core says which chunks are in use; the store
 * knows nothing of sessions. What a store must promise: a chunk that was never committed, or was scrubbed since, reads as
 * zeros, pages and meta both.
 */
#ifndef SRV_STORE_H
#define SRV_STORE_H

#include <memx/proto.h>

enum {
	SRV_CHUNK_SHIFT	= MEMX_MIN_EXTENT_ORDER,
	SRV_CHUNK_PAGES	= 1 << SRV_CHUNK_SHIFT,
	SRV_CHUNK_BYTES	= SRV_CHUNK_PAGES * MEMX_PAGE_SIZE,
	SRV_META_BYTES	= MEMX_PAGE_SIZE,
};

/*
 * What is known of the slots of a chunk. A slot that was never touched has version 0 in its trailer; a stored one a version
 * and its bit in `held`; a discarded one a version and no bit.
 */
struct srv_chunk_meta {
	u64 held;				/* bit per slot: its page is the one that the trailer speaks of */
	u64 resv[7];
	struct memx_trailer trailer[SRV_CHUNK_PAGES];
	u8 spare[SRV_META_BYTES - 8 * sizeof(u64) - SRV_CHUNK_PAGES * sizeof(struct memx_trailer)];
};

_Static_assert(sizeof(struct srv_chunk_meta) == SRV_META_BYTES, "a chunk's slot data fills one page");
_Static_assert(SRV_CHUNK_PAGES == 64, "struct srv_chunk_meta has one bit per slot in a u64");

struct srv_store;

struct srv_store_ops {
	const char *name;
	/* Makes the memory of a chunk's meta page, or of its pages, present. 0 or -ENOMEM; never dies of it. Idempotent. */
	int (*commit_meta)(struct srv_store *store, u32 chunk);
	int (*commit_pages)(struct srv_store *store, u32 chunk);
	/* Gives the chunk's memory back; it reads as zeros afterwards. Cannot fail. */
	void (*scrub)(struct srv_store *store, u32 chunk);
	void (*destroy)(struct srv_store *store);
};

struct srv_store {
	const struct srv_store_ops *ops;
	u8 *pages;				/* chunks * SRV_CHUNK_BYTES, page-aligned */
	struct srv_chunk_meta *meta;		/* chunks */
	u32 chunks;				/* that there is address space for; how many may be used is the core's limit */
};

/* Chunks that fit into @bytes of memory, their meta pages included. */
static inline u32 srv_chunks_of(u64 bytes)
{
	u64 chunks = bytes / (SRV_CHUNK_BYTES + SRV_META_BYTES);

	return chunks > UINT32_MAX / SRV_CHUNK_PAGES ? UINT32_MAX / SRV_CHUNK_PAGES : (u32)chunks;
}

/*
 * A store on the heap, for simulation and fuzzing. @commits: how many chunks can have pages at the same time before
 * commit_pages() fails, which is how a host without memory looks. NULL: no memory.
 */
struct srv_store *srv_heap_store(u32 chunks, u32 commits);

#endif /* SRV_STORE_H */
