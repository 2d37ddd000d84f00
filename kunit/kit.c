// SPDX-License-Identifier: GPL-2.0-only
/*
 * kit.c - what the suites share; see kit.h.
 */
#include <linux/module.h>
#include <linux/vmalloc.h>

#include "kit.h"

void *kit_alloc(struct kunit *test, size_t size)
{
	void *p = kunit_kzalloc(test, size, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);
	return p;
}

void *kit_page(struct kunit *test, u32 what)
{
	u32 *page = kit_alloc(test, MEMX_PAGE_SIZE);
	unsigned int i;

	for (i = 0; i < MEMX_PAGE_SIZE / sizeof(*page); i++)
		page[i] = what * 2654435761u + i;
	return page;
}

struct kit_rings *kit_rings(struct kunit *test, u32 left_order, u32 right_order)
{
	struct kit_rings *r = kit_alloc(test, sizeof(*r));

	r->left_size = 1U << left_order;
	r->right_size = 1U << right_order;
	r->shr = kit_alloc(test, MEMX_PAGE_SIZE);
	r->left = kit_alloc(test, r->left_size);
	r->right = kit_alloc(test, r->right_size);
	kit_rings_reset(r, 0);
	return r;
}

void kit_rings_reset(struct kit_rings *r, u32 start)
{
	memx_vring_reset_shared(r->shr, ilog2(r->left_size), ilog2(r->right_size));
	r->shr->left.cons = start;
	r->shr->left.prod = start;
	r->shr->right.cons = start;
	r->shr->right.prod = start;
	memx_vring_init(&r->guest, r->shr, true, r->left, r->left_size, r->right, r->right_size);
	memx_vring_init(&r->relay, r->shr, false, r->left, r->left_size, r->right, r->right_size);
}

struct memx_record kit_record(u32 extent, u64 generation, u8 replicas, u8 state)
{
	struct memx_record rec;
	u8 i;

	memset(&rec, 0, sizeof(rec));
	rec.extent = memx_put_le32(extent);
	rec.generation = memx_put_le64(generation);
	rec.replicas = replicas;
	for (i = 0; i < replicas && i < MEMX_MAX_REPLICAS; i++) {
		memset(rec.replica[i].donor, 0xd0 + i, sizeof(rec.replica[i].donor));
		rec.replica[i].instance = memx_put_le64(1000 + i);
		rec.replica[i].state = i ? state : MEMX_R_LIVE;
	}
	return rec;
}

struct memx_item *kit_item(struct kunit *test, u8 op, u32 slot)
{
	struct memx_item *item = kit_alloc(test, sizeof(*item));

	INIT_LIST_HEAD(&item->node);
	item->op = op;
	item->slot = slot;
	return item;
}

bool kit_relay_recv(struct kunit *test, struct kit_rings *r, struct memx_head *head, void *body, u32 max)
{
	struct memx_hdr hdr;

	KUNIT_ASSERT_GE(test, memx_vring_avail(&r->relay), (int)sizeof(hdr));
	memx_vring_peek(&r->relay, 0, &hdr, sizeof(hdr));
	KUNIT_ASSERT_EQ(test, memx_head_get(head, &hdr, MEMX_MAX_BODY), 0);
	KUNIT_ASSERT_GE(test, memx_vring_avail(&r->relay), (int)(sizeof(hdr) + head->len));
	KUNIT_ASSERT_LE(test, head->len, max);
	memx_vring_peek(&r->relay, sizeof(hdr), body, head->len);
	return memx_vring_consume(&r->relay, sizeof(hdr) + head->len);
}

bool kit_relay_send(struct kit_rings *r, const struct memx_head *head, const void *body)
{
	struct memx_hdr hdr;

	memx_hdr_put(&hdr, head);
	memx_vring_put(&r->relay, 0, &hdr, sizeof(hdr));
	if (head->len)
		memx_vring_put(&r->relay, sizeof(hdr), body, head->len);
	return memx_vring_publish(&r->relay, sizeof(hdr) + head->len);
}

MODULE_DESCRIPTION("KUnit suites of MemX");
MODULE_LICENSE("GPL");
