// SPDX-License-Identifier: GPL-2.0-only
/*
 * memfd_store.c - pages and slot data in two memfds: sparse, made present chunk by chunk, locked as they become present.
 *
 * Why populate before use: a store into memory that the host does not have ends in SIGBUS or the OOM killer.
 * MADV_POPULATE_WRITE reports the same as an error, which becomes NOSPACE for one client. (The OOM killer of a memory
 * cgroup cannot be asked in advance; the unit file sets no MemoryMax for that reason.)
 *
 * Huge pages: from the hugetlb pool where it covers the whole store (those are never swapped and are zeroed by hand, since
 * a chunk is smaller than such a page); otherwise the kernel is told that transparent ones are welcome.
 *
 * Locked with MLOCK_ONFAULT: what is present stays present, what is not costs nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memfd_store.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_BYTES (2UL << 20)

struct region {
	int fd;
	u8 *at;
	u64 bytes, locked;
};

struct memfd_store {
	struct srv_store store;
	struct region pages, meta;
	bool huge;			/* pages come from the hugetlb pool */
	bool lock;
};

static struct memfd_store *self(struct srv_store *store)
{
	return (struct memfd_store *)store;
}

static int map_region(struct region *r, const char *name, u64 bytes, unsigned int flags)
{
	int err;

	r->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (r->fd < 0)
		return -errno;
	r->bytes = bytes;
	if (ftruncate(r->fd, (off_t)bytes) || fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		err = -errno;
		goto out_close;
	}
	r->at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (r->at == MAP_FAILED) {
		err = -errno;
		goto out_close;
	}
	madvise(r->at, bytes, MADV_DONTDUMP);	/* the pages are other people's */
	return 0;

out_close:
	close(r->fd);
	r->fd = -1;
	r->at = NULL;
	return err;
}

static void unmap_region(struct region *r)
{
	if (r->at)
		munmap(r->at, r->bytes);
	if (r->fd >= 0)
		close(r->fd);
}

static int lock_region(struct region *r, u64 bytes)
{
	if (bytes <= r->locked)
		return 0;
	if (mlock2(r->at, bytes, MLOCK_ONFAULT))
		return -errno;
	r->locked = bytes;
	return 0;
}

static int populate(struct region *r, u64 off, u64 bytes)
{
	if (!madvise(r->at + off, bytes, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL)
		return -ENOMEM;
	/* A kernel before 5.14: allocates as well, leaves the mapping to the first access. */
	return fallocate(r->fd, 0, (off_t)off, (off_t)bytes) ? -ENOMEM : 0;
}

static void punch(struct region *r, u64 off, u64 bytes)
{
	if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)bytes))
		memset(r->at + off, 0, bytes);		/* whatever the reason: zeros are what was promised */
}

static int commit_meta(struct srv_store *store, u32 chunk)
{
	return populate(&self(store)->meta, (u64)chunk * SRV_META_BYTES, SRV_META_BYTES);
}

static int commit_pages(struct srv_store *store, u32 chunk)
{
	return populate(&self(store)->pages, (u64)chunk * SRV_CHUNK_BYTES, SRV_CHUNK_BYTES);
}

static void scrub(struct srv_store *store, u32 chunk)
{
	struct memfd_store *m = self(store);

	if (m->huge)
		memset(store->pages + (u64)chunk * SRV_CHUNK_BYTES, 0, SRV_CHUNK_BYTES);
	else
		punch(&m->pages, (u64)chunk * SRV_CHUNK_BYTES, SRV_CHUNK_BYTES);
	punch(&m->meta, (u64)chunk * SRV_META_BYTES, SRV_META_BYTES);
}

static void destroy(struct srv_store *store)
{
	struct memfd_store *m = self(store);

	unmap_region(&m->pages);
	unmap_region(&m->meta);
	free(m);
}

static const struct srv_store_ops memfd_ops = {
	.name = "memfd",
	.commit_meta = commit_meta,
	.commit_pages = commit_pages,
	.scrub = scrub,
	.destroy = destroy,
};

int srv_memfd_cover(struct srv_store *store, u32 chunks)
{
	struct memfd_store *m = self(store);
	int err;

	if (chunks > store->chunks)
		return -ENOSPC;
	if (!m->lock)
		return 0;
	err = m->huge ? 0 : lock_region(&m->pages, (u64)chunks * SRV_CHUNK_BYTES);
	return err ? err : lock_region(&m->meta, (u64)chunks * SRV_META_BYTES);
}

static int map_pages(struct memfd_store *m, const struct srv_memfd_options *o)
{
	u64 bytes = (u64)o->chunks * SRV_CHUNK_BYTES;

	m->store.chunks = o->chunks;
	if (o->huge != SRV_NO) {
		/* The mapping reserves from the pool, so it fails now or the memory is there. */
		if (!map_region(&m->pages, "memx-pages", (bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1), MFD_HUGETLB)) {
			m->huge = true;
			return 0;
		}
		if (o->huge == SRV_YES)
			return -ENOMEM;
	}
	m->store.chunks = o->max_chunks > o->chunks ? o->max_chunks : o->chunks;
	return map_region(&m->pages, "memx-pages", (u64)m->store.chunks * SRV_CHUNK_BYTES, 0);
}

struct srv_store *srv_memfd_store(const struct srv_memfd_options *options, struct srv_memfd_facts *facts,
				  char *err, size_t size)
{
	struct memfd_store *m = calloc(1, sizeof(*m));
	const char *what = "allocate";
	int ret = -ENOMEM;

	*facts = (struct srv_memfd_facts) { 0 };
	if (!m)
		goto out_err;
	m->pages.fd = m->meta.fd = -1;
	m->store.ops = &memfd_ops;
	what = options->huge == SRV_YES ? "map the pages from the hugetlb pool (see /proc/sys/vm/nr_hugepages)" : "map the pages";
	ret = map_pages(m, options);
	if (ret)
		goto out_free;
	what = "map the slot data";
	ret = map_region(&m->meta, "memx-slots", (u64)m->store.chunks * SRV_META_BYTES, 0);
	if (ret)
		goto out_free;
	m->store.pages = m->pages.at;
	m->store.meta = (struct srv_chunk_meta *)m->meta.at;
	if (!m->huge && options->huge != SRV_NO)
		madvise(m->pages.at, m->pages.bytes, MADV_HUGEPAGE);
	m->lock = options->lock != SRV_NO;
	what = "lock the memory (see LimitMEMLOCK=, ulimit -l)";
	ret = srv_memfd_cover(&m->store, options->chunks);
	if (ret && options->lock == SRV_YES)
		goto out_free;
	if (ret) {
		facts->lock_error = -ret;
		m->lock = false;
	}
	facts->locked = m->lock;
	facts->huge = m->huge;
	return &m->store;

out_free:
	destroy(&m->store);
out_err:
	snprintf(err, size, "cannot %s: %s", what, strerror(-ret));
	errno = -ret;
	return NULL;
}
