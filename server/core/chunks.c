// SPDX-License-Identifier: GPL-2.0-only
/*
 * chunks.c - which chunk of the store is in use, free, or free but still to be zeroed.
 *
 * A freed chunk keeps its bytes until somebody has time to zero it (srv_scrub) or until it is taken again, whichever comes
 * first: giving a session's gigabytes back to the host takes longer than other clients should wait. It is never handed out
 * unzeroed. Search is next-fit, so that a donor that fills up for the first time lays extents out in one piece.
 */
#include <stdlib.h>

#include "internal.h"

#define WORD(bit)	((bit) >> 6)
#define MASK(bit)	(1ULL << ((bit) & 63))

static bool test(const u64 *map, u32 bit)
{
	return map[WORD(bit)] & MASK(bit);
}

int srv_chunks_init(struct srv *srv)
{
	struct srv_chunks *c = &srv->chunks;
	size_t words = ((size_t)srv->store->chunks + 63) / 64 + 1;

	c->used = calloc(words, sizeof(u64));
	c->dirty = calloc(words, sizeof(u64));
	c->paged = calloc(words, sizeof(u64));
	return c->used && c->dirty && c->paged ? 0 : -ENOMEM;
}

void srv_chunks_fini(struct srv *srv)
{
	free(srv->chunks.used);
	free(srv->chunks.dirty);
	free(srv->chunks.paged);
}

static void scrub(struct srv *srv, u32 chunk)
{
	struct srv_chunks *c = &srv->chunks;

	srv->store->ops->scrub(srv->store, chunk);
	c->dirty[WORD(chunk)] &= ~MASK(chunk);
	c->paged[WORD(chunk)] &= ~MASK(chunk);
	c->waiting--;
	srv->work += SRV_CHUNK_WORK;
	srv->count.chunks_scrubbed++;
}

/* A free chunk at @from or behind it, else one before it. There must be one. */
static u32 next_free(const struct srv_chunks *c, u32 from)
{
	u32 at = from < c->total ? from : 0;

	for (;;) {
		u64 free_here = ~c->used[WORD(at)] & ~(MASK(at) - 1);

		if (free_here) {
			at = (at & ~63U) + (u32)__builtin_ctzll(free_here);
			if (at < c->total)
				return at;
			at = 0;
			continue;
		}
		at = (at & ~63U) + 64;
		if (at >= c->total)
			at = 0;
	}
}

int srv_chunks_take(struct srv *srv, u32 count, u32 *chunk)
{
	struct srv_chunks *c = &srv->chunks;
	u32 i;

	if (c->in_use + (u64)count > srv->limit / SRV_CHUNK_PAGES)
		return -ENOSPC;
	for (i = 0; i < count; i++) {
		u32 at = next_free(c, c->hint);

		c->used[WORD(at)] |= MASK(at);
		c->in_use++;
		c->hint = at + 1;
		chunk[i] = at;
		srv->work += SRV_CHUNK_WORK;
		if (test(c->dirty, at))
			scrub(srv, at);
		if (srv->store->ops->commit_meta(srv->store, at)) {
			srv_chunks_give(srv, i + 1, chunk);
			return -ENOMEM;
		}
	}
	return 0;
}

int srv_chunks_pages(struct srv *srv, u32 chunk)
{
	struct srv_chunks *c = &srv->chunks;

	if (test(c->paged, chunk))
		return 0;
	srv->work += SRV_CHUNK_WORK;
	if (srv->store->ops->commit_pages(srv->store, chunk))
		return -ENOMEM;
	c->paged[WORD(chunk)] |= MASK(chunk);
	return 0;
}

void srv_chunks_give(struct srv *srv, u32 count, const u32 *chunk)
{
	struct srv_chunks *c = &srv->chunks;
	u32 i;

	for (i = 0; i < count; i++) {
		c->used[WORD(chunk[i])] &= ~MASK(chunk[i]);
		c->dirty[WORD(chunk[i])] |= MASK(chunk[i]);
		c->in_use--;
		c->waiting++;
	}
}

bool srv_scrub(struct srv *srv, u32 chunks)
{
	struct srv_chunks *c = &srv->chunks;
	u32 words = (c->total + 63) / 64, word = WORD(c->scrub_hint), i;

	for (i = 0; c->waiting && chunks && i <= words; i++) {
		u64 todo;

		if (word >= words)
			word = 0;
		todo = c->dirty[word] & ~c->used[word];
		while (todo && chunks) {
			scrub(srv, (word << 6) + (u32)__builtin_ctzll(todo));
			todo &= todo - 1;
			chunks--;
		}
		if (chunks)
			word++;
	}
	c->scrub_hint = word << 6;
	return c->waiting;
}
