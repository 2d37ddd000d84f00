/* SPDX-License-Identifier: GPL-2.0-only */
/* world-guest.h - between world.c, world-old.c and the guest's world-guest.c and world-io.c. */
#ifndef MEMX_TEST_WORLD_GUEST_H
#define MEMX_TEST_WORLD_GUEST_H

#include <stdio.h>
#include <stdlib.h>

#include "world.h"

#define must(cond, ...) do {								\
	if (!(cond)) {									\
		fprintf(stderr, "seed %llu: ", (unsigned long long)g->w->seed);		\
		fprintf(stderr, __VA_ARGS__);						\
		fputc('\n', stderr);							\
		abort();								\
	}										\
} while (0)

struct frame *frame_new(const struct memx_hdr *hdr, const void *body, u32 len);
struct frame *frame_gather(const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int n);
void frame_free(struct frame *f);
void queue_clear(struct list *queue);

void wguest_deliver_out(struct wguest *g, u32 lane);	/* one frame of the guest reaches the relay */
void wguest_deliver_in(struct wguest *g, u32 lane);	/* one frame of the relay reaches the guest */
/* The same for a frame that lies elsewhere, and for any link of it. Frees @f. */
void wguest_frame_to(struct core_link *link, u32 lane, struct frame *f, u64 now);
void wguest_lost(struct wguest *g);			/* the link is gone */
void wguest_free(struct wguest *g);

/* world.c */
void world_connect(struct wdonor *d, struct wend *end);	/* @end NULL: the present relay */
void world_new_relay(struct world *w);

/* world-old.c */
void wold_frame(struct wend *end, struct frame *f);	/* takes it */
void wold_deliver(struct wguest *g, u32 lane);	/* a frame that a guest had written for it */
void wold_tick(struct world *w);

/* world-io.c */
bool wguest_answer(struct wguest *g, u32 lane, const struct memx_head *head, const struct frame *f);	/* false: to nothing */
void wguest_requests_lost(struct wguest *g);
void wguest_requests_forget(struct wguest *g);
void wguest_requests_again(struct wguest *g);		/* it is attached: what was lost travels again */

#endif /* MEMX_TEST_WORLD_GUEST_H */
