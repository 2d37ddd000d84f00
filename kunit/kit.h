/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kit.h - what the suites share: records and items made for a test, and both ends of a lane in one memory.
 */
#ifndef MEMX_KUNIT_KIT_H
#define MEMX_KUNIT_KIT_H

#include <kunit/test.h>

#include "../guest/frames.h"
#include "../shared/memx/check.h"

#define KIT_SEED	0x5eed5eed5eed5eedull

/* A ring in each direction and both ends of them; rings are allocated in pages as the module's are. */
struct kit_rings {
	struct memx_vchan_page *shr;
	struct memx_vring guest, relay;
	u8 *left, *right;
	u32 left_size, right_size;
};

struct kit_rings *kit_rings(struct kunit *test, u32 left_order, u32 right_order);
/* Begins anew, with the indices of both rings at @start. */
void kit_rings_reset(struct kit_rings *r, u32 start);

void *kit_alloc(struct kunit *test, size_t size);
/* A page of which every byte depends on @what. */
void *kit_page(struct kunit *test, u32 what);

/* A record of @extent with @replicas distinct donors, the first live, the others in @state. */
struct memx_record kit_record(u32 extent, u64 generation, u8 replicas, u8 state);

struct memx_item *kit_item(struct kunit *test, u8 op, u32 slot);

/* The relay's end: takes the next whole frame out of the ring. Fails the test if there is none. True: the guest asked to be told. */
bool kit_relay_recv(struct kunit *test, struct kit_rings *r, struct memx_head *head, void *body, u32 max);
/* And puts one in. True: the guest asked to be told. */
bool kit_relay_send(struct kit_rings *r, const struct memx_head *head, const void *body);

#endif /* MEMX_KUNIT_KIT_H */
