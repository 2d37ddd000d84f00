// SPDX-License-Identifier: GPL-2.0-only
/*
 * rbuf.c - bounded pools of ref-counted buffers.
 *
 * A frame's body is read from the wire into one of these once, and everybody who needs the bytes afterwards (the check, every
 * replica, a re-send, the reply) shares it. Sizes come in classes that fit whole numbers of pages with their descriptors, so
 * that what is wasted stays below a third; a buffer that was put goes to the free list of its class, and what lies in free
 * lists counts into the pool's limit together with what is in use.
 *
 * Not thread-safe: pools and buffers belong to the thread of their core. A pool outlives its owner until its last buffer is put.
 */
#include "internal.h"

static const u32 class_pages[] = { 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32 };

enum {
	CLASSES		= sizeof(class_pages) / sizeof(class_pages[0]),
	CLASS_SMALL	= 640,		/* the longest body without pages on the data path: 32 x memx_want */
	RBUF_HEAD	= 64,
};

_Static_assert(sizeof(struct rbuf) <= RBUF_HEAD, "the head of a buffer outgrew its place");
_Static_assert(CLASS_SMALL >= sizeof(struct memx_io) + MEMX_MAX_PAGES * sizeof(struct memx_want), "small class too small");

struct rpool {
	u64 limit, used, cached;	/* bytes */
	u32 live;			/* buffers in use */
	bool closed;
	struct rbuf *free[CLASSES];
};

static u32 class_size(u32 class)
{
	u32 len = class ? memx_store_len(class_pages[class]) : CLASS_SMALL;

	return (len + 63) & ~63U;
}

static u32 class_of(u32 len)
{
	u32 class;

	for (class = 0; class < CLASSES; class++)
		if (len <= class_size(class))
			return class;
	abort();	/* nobody gets here with more than MEMX_MAX_BODY */
}

u32 rpool_cost(u32 len)
{
	return class_size(class_of(len)) + RBUF_HEAD;
}

void *core_zalloc(size_t size)
{
	void *p = calloc(1, size);

	if (!p) {
		fputs("memx relay core: out of memory\n", stderr);
		abort();
	}
	return p;
}

struct rpool *rpool_new(u64 limit)
{
	struct rpool *pool = core_zalloc(sizeof(*pool));

	pool->limit = limit;
	return pool;
}

u64 rpool_used(const struct rpool *pool)
{
	return pool->used;
}

/* Gives free buffers back to the system until @room bytes fit below the limit, or nothing is cached any more. */
static void rpool_trim(struct rpool *pool, u64 room)
{
	u32 class;

	for (class = 0; class < CLASSES; class++) {
		while (pool->free[class] && pool->used + pool->cached + room > pool->limit) {
			struct rbuf *buf = pool->free[class];

			pool->free[class] = buf->next;
			pool->cached -= class_size(class) + RBUF_HEAD;
			free(buf);
		}
	}
}

struct rbuf *rpool_get(struct rpool *pool, u32 len)
{
	u32 class = class_of(len), cost = class_size(class) + RBUF_HEAD;
	struct rbuf *buf = pool->free[class];

	if (buf) {
		pool->free[class] = buf->next;
		pool->cached -= cost;
	} else {
		if (pool->used + cost > pool->limit)
			return NULL;
		rpool_trim(pool, cost);
		buf = aligned_alloc(64, cost);
		if (!buf)
			return NULL;
		buf->pool = pool;
		buf->class = class;
		buf->data = (u8 *)buf + RBUF_HEAD;
		buf->size = class_size(class);
	}
	buf->next = NULL;
	buf->refs = 1;
	pool->used += cost;
	pool->live++;
	return buf;
}

void rbuf_put(struct rbuf *buf)
{
	struct rpool *pool;
	u32 cost;

	if (!buf || --buf->refs)
		return;
	pool = buf->pool;
	cost = class_size(buf->class) + RBUF_HEAD;
	pool->used -= cost;
	pool->live--;
	if (!pool->closed) {
		buf->next = pool->free[buf->class];
		pool->free[buf->class] = buf;
		pool->cached += cost;
		return;
	}
	free(buf);
	if (!pool->live)
		free(pool);
}

void rpool_close(struct rpool *pool)
{
	if (!pool)
		return;
	pool->limit = 0;
	rpool_trim(pool, 1);
	pool->closed = true;
	if (!pool->live)
		free(pool);
}
