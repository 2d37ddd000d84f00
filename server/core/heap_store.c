// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap_store.c - a store in ordinary memory, for simulation and fuzzing: cheap to make and to throw away, and able to run
 * out of memory on demand, as a host does. Memory that is not touched costs nothing: it is mapped, which calloc does only until
 * something of that size was freed. Under a sanitizer it comes from calloc all the same, whose ends are watched.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "store.h"

struct heap_store {
	struct srv_store store;
	u32 commits_left;
	u8 *paged;			/* a byte per chunk: holds one of the commits */
};

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#endif

#ifdef SANITIZED
static void *take(size_t size)
{
	return calloc(1, size);
}

static void give(void *mem, size_t size)
{
	(void)size;
	free(mem);
}
#else
static void *take(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static void give(void *mem, size_t size)
{
	if (mem)
		munmap(mem, size);
}
#endif

static struct heap_store *heap(struct srv_store *store)
{
	return (struct heap_store *)store;
}

static int commit_meta(struct srv_store *store, u32 chunk)
{
	(void)store;
	(void)chunk;
	return 0;
}

static int commit_pages(struct srv_store *store, u32 chunk)
{
	struct heap_store *h = heap(store);

	if (h->paged[chunk])
		return 0;
	if (!h->commits_left)
		return -ENOMEM;
	h->commits_left--;
	h->paged[chunk] = 1;
	return 0;
}

static void scrub(struct srv_store *store, u32 chunk)
{
	struct heap_store *h = heap(store);

	memset(&store->meta[chunk], 0, sizeof(store->meta[chunk]));
	if (!h->paged[chunk])
		return;
	memset(store->pages + (u64)chunk * SRV_CHUNK_BYTES, 0, SRV_CHUNK_BYTES);
	h->paged[chunk] = 0;
	h->commits_left++;
}

static void destroy(struct srv_store *store)
{
	struct heap_store *h = heap(store);

	give(store->pages, (size_t)store->chunks * SRV_CHUNK_BYTES);
	give(store->meta, (size_t)store->chunks * sizeof(*store->meta));
	free(h->paged);
	free(h);
}

static const struct srv_store_ops heap_ops = {
	.name = "heap",
	.commit_meta = commit_meta,
	.commit_pages = commit_pages,
	.scrub = scrub,
	.destroy = destroy,
};

struct srv_store *srv_heap_store(u32 chunks, u32 commits)
{
	struct heap_store *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->store.ops = &heap_ops;
	h->store.chunks = chunks;
	h->commits_left = commits;
	h->store.pages = take((size_t)chunks * SRV_CHUNK_BYTES);
	h->store.meta = take((size_t)chunks * sizeof(*h->store.meta));
	h->paged = calloc(chunks, 1);
	if (!h->store.pages || !h->store.meta || !h->paged) {
		destroy(&h->store);
		return NULL;
	}
	return &h->store;
}
