/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * frames.h - requests into a ring, answers out of it.
 *
 * Builders write a whole frame behind the write index and return its length, or -EAGAIN when it does not fit (and leave
 * @reserve bytes alone), or -EPROTO when the ring is broken; the caller publishes. Parsers work on private copies.
 *
 * A page is copied into the ring first and the check is taken over that copy: the live page may change under the reader,
 * the ring of requests is granted read-only, so the copy is what the relay gets.
 *
 * Locking: the caller owns the direction of the ring that is used.
 */
#ifndef MEMX_GUEST_FRAMES_H
#define MEMX_GUEST_FRAMES_H

#include "../shared/memx/vring.h"
#include "reqs.h"

/* A STORE, FETCH or DISCARD. Versions of the items are set; the checks of a STORE are set here. @bounce: a page of the caller's. */
int memx_frame_request(struct memx_vring *ring, struct memx_req *req, u64 epoch, u64 generation, u64 seed, u8 key_gen,
		       void *bounce, u32 reserve);

/* An empty or small frame: @body of @len bytes. */
int memx_frame_small(struct memx_vring *ring, const struct memx_head *head, const void *body, u32 reserve);

/* A MAP frame with @count records. */
int memx_frame_map(struct memx_vring *ring, u64 epoch, const struct memx_record *recs, u32 count, bool last, u32 reserve);

/* The next frame's header, once the whole frame is there. 1: it is; 0: not yet; -EPROTO: close. */
int memx_frame_next(struct memx_vring *ring, u32 max_body, struct memx_head *head);

/*
 * Reads the answer to @req (the ring's next frame, @head from memx_frame_next()), copies fetched pages to where they belong
 * and verifies each. Status of item i goes into status[i] (MEMX_S_OK, or why not; MEMX_S_CORRUPT if our own check failed).
 * 0 or -EPROTO. Does not consume.
 */
int memx_frame_answer(const struct memx_vring *ring, const struct memx_head *head, const struct memx_req *req, u64 seed,
		      void *bounce, u32 *status);

#endif /* MEMX_GUEST_FRAMES_H */
