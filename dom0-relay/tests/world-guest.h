/* SPDX-License-Identifier: GPL-2.0-only */
/* world-guest.h - between world.c and world-guest.c. */
#ifndef MEMX_TEST_WORLD_GUEST_H
#define MEMX_TEST_WORLD_GUEST_H

#include "world.h"

struct frame *frame_new(const struct memx_hdr *hdr, const void *body, u32 len);
void frame_free(struct frame *f);
void queue_clear(struct list *queue);

void wguest_deliver_out(struct wguest *g, u32 lane);	/* one frame of the guest reaches the relay */
void wguest_deliver_in(struct wguest *g, u32 lane);	/* one frame of the relay reaches the guest */
void wguest_lost(struct wguest *g);			/* the link is gone */
void wguest_free(struct wguest *g);

#endif /* MEMX_TEST_WORLD_GUEST_H */
