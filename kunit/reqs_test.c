// SPDX-License-Identifier: GPL-2.0-only
/*
 * reqs_test.c - the request table: batches, credits, tags, and what becomes of all that when a channel is lost.
 */
#include "kit.h"
#include "../guest/reqs.h"

enum {
	SIZE	= 8,
	ORDER	= 6,		/* 64 slots in an extent */
	BIG	= 1 << 20,
};

static struct memx_reqs *queue(struct kunit *test)
{
	return test->priv;
}

static int reqs_setup(struct kunit *test)
{
	struct memx_reqs *q = kit_alloc(test, sizeof(*q));

	KUNIT_ASSERT_EQ(test, memx_reqs_init(q, SIZE), 0);
	KUNIT_ASSERT_EQ(test, memx_reqs_limits(q, MEMX_LANE_STORE, ORDER, 32, 8, 256, BIG, BIG), 0);
	test->priv = q;
	return 0;
}

static void reqs_teardown(struct kunit *test)
{
	if (test->priv)
		memx_reqs_free(test->priv);
}

static void put(struct kunit *test, u8 op, u32 slot)
{
	memx_reqs_queue(queue(test), kit_item(test, op, slot));
}

static void put_run(struct kunit *test, u8 op, u32 slot, u32 count)
{
	while (count--)
		put(test, op, slot++);
}

static struct memx_req *send(struct kunit *test)
{
	struct memx_req *r = memx_reqs_next(queue(test));

	if (r)
		memx_reqs_sent(queue(test), r, 1);
	return r;
}

static void reqs_sizes(struct kunit *test)
{
	struct memx_reqs *q = kit_alloc(test, sizeof(*q));

	KUNIT_EXPECT_EQ(test, memx_reqs_init(q, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_reqs_init(q, 65537), -EINVAL);
}

static void reqs_empty(struct kunit *test)
{
	KUNIT_EXPECT_NULL(test, memx_reqs_next(queue(test)));
	KUNIT_EXPECT_TRUE(test, memx_reqs_idle(queue(test)));
}

/* Nothing is sent before somebody said how much may be. */
static void reqs_no_limits(struct kunit *test)
{
	struct memx_reqs *q = kit_alloc(test, sizeof(*q));

	KUNIT_ASSERT_EQ(test, memx_reqs_init(q, 2), 0);
	memx_reqs_queue(q, kit_item(test, MEMX_OP_FETCH, 1));
	KUNIT_EXPECT_NULL(test, memx_reqs_next(q));
	memx_reqs_free(q);
}

/* The first request goes at once, whatever its size: nothing is outstanding that it could wait for. */
static void batch_first_goes(struct kunit *test)
{
	struct memx_req *r;

	put(test, MEMX_OP_STORE, 3);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->count, 1);
	KUNIT_EXPECT_EQ(test, r->slot[0], 3u);
	KUNIT_EXPECT_EQ(test, r->op, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, r->extent, 0u);
	KUNIT_EXPECT_EQ(test, r->state, MEMX_REQ_SENT);
}

/* A part of a batch is put off while something is out, and goes with the next answer. */
static void batch_waits(struct kunit *test)
{
	struct memx_req *first, *second;

	put(test, MEMX_OP_STORE, 3);
	first = send(test);
	KUNIT_ASSERT_NOT_NULL(test, first);
	put_run(test, MEMX_OP_STORE, 4, 5);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(queue(test)));
	KUNIT_EXPECT_EQ(test, queue(test)->n_pending, 5u);
	KUNIT_ASSERT_PTR_EQ(test, memx_reqs_answer(queue(test), first->tag, MEMX_OP_STORE), first);
	second = send(test);
	KUNIT_ASSERT_NOT_NULL(test, second);
	KUNIT_EXPECT_EQ(test, second->count, 5);
}

/* What is out may never be answered: what is put off goes when it is hurried, also where the credits are nearly used up. */
static void batch_hurried_goes(struct kunit *test)
{
	struct memx_reqs *q = queue(test);
	struct memx_req *first, *r;

	KUNIT_EXPECT_FALSE(test, memx_reqs_hurry(q));
	put(test, MEMX_OP_STORE, 3);
	first = send(test);
	KUNIT_ASSERT_NOT_NULL(test, first);
	put_run(test, MEMX_OP_STORE, 4, 5);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(q));
	KUNIT_EXPECT_TRUE(test, memx_reqs_hurry(q));
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->count, 5);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(q));

	/* That was for what was there: what comes later is put off again. */
	put(test, MEMX_OP_STORE, 20);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(q));
	q->limit_pages = q->used_pages + 2;
	put_run(test, MEMX_OP_STORE, 21, 3);
	KUNIT_EXPECT_TRUE(test, memx_reqs_hurry(q));
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->count, 2);

	/* An answer brings back the rule, and more credit. */
	KUNIT_ASSERT_PTR_EQ(test, memx_reqs_answer(q, first->tag, MEMX_OP_STORE), first);
	KUNIT_EXPECT_FALSE(test, q->hurried);
}

static void batch_full_goes(struct kunit *test)
{
	struct memx_req *r;

	put(test, MEMX_OP_STORE, 0);
	KUNIT_ASSERT_NOT_NULL(test, send(test));
	put_run(test, MEMX_OP_STORE, 1, 32);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->count, 32);
	KUNIT_EXPECT_EQ(test, r->slot[31], 32u);
}

/* A fetch is somebody who waits: it goes however small it is. */
static void batch_fetch_goes(struct kunit *test)
{
	put(test, MEMX_OP_FETCH, 1);
	KUNIT_ASSERT_NOT_NULL(test, send(test));
	put(test, MEMX_OP_FETCH, 2);
	KUNIT_EXPECT_NOT_NULL(test, send(test));
}

/* One extent and one kind to a request, slots ascending, none twice. */
static void batch_sorted(struct kunit *test)
{
	struct memx_req *r;
	u32 i;

	put(test, MEMX_OP_STORE, 70);
	put(test, MEMX_OP_STORE, 65);
	put(test, MEMX_OP_DISCARD, 66);
	put(test, MEMX_OP_STORE, 5);	/* another extent */
	put(test, MEMX_OP_STORE, 127);
	put(test, MEMX_OP_STORE, 128);	/* another extent */
	put(test, MEMX_OP_STORE, 65);	/* again */
	put(test, MEMX_OP_STORE, 64);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->extent, 1u);
	KUNIT_ASSERT_EQ(test, r->count, 4);
	KUNIT_EXPECT_EQ(test, r->slot[0], 64u);
	KUNIT_EXPECT_EQ(test, r->slot[1], 65u);
	KUNIT_EXPECT_EQ(test, r->slot[2], 70u);
	KUNIT_EXPECT_EQ(test, r->slot[3], 127u);
	for (i = 0; i < r->count; i++)
		KUNIT_EXPECT_EQ(test, r->item[i]->slot, r->slot[i]);
	KUNIT_EXPECT_EQ(test, queue(test)->n_pending, 4u);
}

static void batch_agreed_size(struct kunit *test)
{
	struct memx_req *r;

	KUNIT_ASSERT_EQ(test, memx_reqs_limits(queue(test), MEMX_LANE_STORE, ORDER, 4, 8, 256, BIG, BIG), 0);
	put_run(test, MEMX_OP_STORE, 0, 9);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->count, 4);
}

static void credits_requests(struct kunit *test)
{
	struct memx_req *r[3];
	u32 i;

	KUNIT_ASSERT_EQ(test, memx_reqs_limits(queue(test), MEMX_LANE_FETCH, ORDER, 32, 3, 256, BIG, BIG), 0);
	for (i = 0; i < 3; i++) {
		put(test, MEMX_OP_FETCH, i);
		r[i] = send(test);
		KUNIT_ASSERT_NOT_NULL(test, r[i]);
	}
	put(test, MEMX_OP_FETCH, 9);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(queue(test)));
	KUNIT_ASSERT_PTR_EQ(test, memx_reqs_answer(queue(test), r[1]->tag, MEMX_OP_FETCH), r[1]);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(queue(test)));	/* not before it was dealt with */
	memx_reqs_end(queue(test), r[1]);
	KUNIT_EXPECT_NOT_NULL(test, memx_reqs_next(queue(test)));
}

/* The table is the limit where the relay grants more than it holds. */
static void credits_table(struct kunit *test)
{
	u32 i;

	KUNIT_ASSERT_EQ(test, memx_reqs_limits(queue(test), MEMX_LANE_FETCH, ORDER, 32, 1000, 4096, BIG, BIG), 0);
	for (i = 0; i < SIZE; i++) {
		put(test, MEMX_OP_FETCH, i);
		KUNIT_ASSERT_NOT_NULL(test, send(test));
	}
	put(test, MEMX_OP_FETCH, 20);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(queue(test)));
}

static void credits_pages(struct kunit *test)
{
	struct memx_req *r;

	KUNIT_ASSERT_EQ(test, memx_reqs_limits(queue(test), MEMX_LANE_FETCH, ORDER, 32, 8, 40, BIG, BIG), 0);
	put_run(test, MEMX_OP_FETCH, 0, 60);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->count, 32);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_EXPECT_EQ(test, r->count, 8);
	KUNIT_EXPECT_EQ(test, queue(test)->used_pages, 40u);
	KUNIT_EXPECT_NULL(test, memx_reqs_next(queue(test)));
}

/* Answers at their longest, and the relay's records beside them, always fit into the reply ring. */
static void credits_reply_ring(struct kunit *test)
{
	struct memx_reqs *q = queue(test);
	u32 ring = 65536, used = 0, n = 0;
	struct memx_req *r;

	KUNIT_ASSERT_EQ(test, memx_reqs_limits(q, MEMX_LANE_FETCH, ORDER, 32, 8, 256, ring, BIG), 0);
	put_run(test, MEMX_OP_FETCH, 0, 64);
	while ((r = send(test))) {
		KUNIT_EXPECT_EQ(test, r->reply_max, memx_reply_max(MEMX_OP_FETCH, r->count));
		used += r->reply_max;
		n += r->count;
	}
	KUNIT_EXPECT_EQ(test, q->used_reply, used);
	KUNIT_EXPECT_LE(test, used + (u32)MEMX_RESERVE_REPLY, ring);
	/* (65536 - 9376 - 56) / (40 + 4096) pages */
	KUNIT_EXPECT_EQ(test, n, 13u);
}

/* A store lane whose rings cannot take even one page is refused. */
static void credits_ring_too_small(struct kunit *test)
{
	struct memx_reqs *q = queue(test);

	KUNIT_EXPECT_EQ(test, memx_reqs_limits(q, MEMX_LANE_STORE, ORDER, 32, 8, 256, BIG, 4096), -EPROTO);
	KUNIT_EXPECT_EQ(test, memx_reqs_limits(q, MEMX_LANE_FETCH, ORDER, 32, 8, 256, 8192, BIG), -EPROTO);
	KUNIT_EXPECT_EQ(test, memx_reqs_limits(q, MEMX_LANE_STORE, ORDER, 32, 0, 256, BIG, BIG), -EPROTO);
	KUNIT_EXPECT_EQ(test, memx_reqs_limits(q, MEMX_LANE_STORE, ORDER, 32, 8, 0, BIG, BIG), -EPROTO);
	KUNIT_EXPECT_EQ(test, memx_reqs_limits(q, MEMX_LANE_STORE, ORDER, 0, 8, 256, BIG, BIG), -EPROTO);
	KUNIT_EXPECT_EQ(test, memx_reqs_limits(q, MEMX_LANE_STORE, ORDER, 32, 8, 256, BIG, 65536), 0);
	KUNIT_EXPECT_EQ(test, q->max_pages, 15u);	/* (65536 - 4 * 32 - 56) / 4136 */
}

/* An answer that was not asked for: a tag of nothing, one that was used, another operation, an index out of range. */
static void tags_lies(struct kunit *test)
{
	struct memx_reqs *q = queue(test);
	struct memx_req *r;
	u64 old;

	KUNIT_EXPECT_NULL(test, memx_reqs_answer(q, 0, MEMX_OP_FETCH));
	put(test, MEMX_OP_FETCH, 1);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	old = r->tag;
	KUNIT_EXPECT_NULL(test, memx_reqs_answer(q, old ^ 1, MEMX_OP_FETCH));
	KUNIT_EXPECT_NULL(test, memx_reqs_answer(q, old + (1 << 16), MEMX_OP_FETCH));
	KUNIT_EXPECT_NULL(test, memx_reqs_answer(q, old | 0xffff, MEMX_OP_FETCH));
	KUNIT_EXPECT_NULL(test, memx_reqs_answer(q, old, MEMX_OP_STORE));
	KUNIT_EXPECT_PTR_EQ(test, memx_reqs_answer(q, old, MEMX_OP_FETCH), r);
	KUNIT_EXPECT_NULL(test, memx_reqs_answer(q, old, MEMX_OP_FETCH));	/* twice, while it is read */
	memx_reqs_end(q, r);
	KUNIT_EXPECT_NULL(test, memx_reqs_answer(q, old, MEMX_OP_FETCH));	/* and after it */
}

/* Tags do not come again when their entry does. */
static void tags_new(struct kunit *test)
{
	struct memx_reqs *q = queue(test);
	u64 tags[4 * SIZE];
	u32 i, j;

	for (i = 0; i < ARRAY_SIZE(tags); i++) {
		struct memx_req *r;

		put(test, MEMX_OP_FETCH, i);
		r = send(test);
		KUNIT_ASSERT_NOT_NULL(test, r);
		tags[i] = r->tag;
		KUNIT_ASSERT_PTR_EQ(test, memx_reqs_answer(q, r->tag, MEMX_OP_FETCH), r);
		memx_reqs_end(q, r);
		for (j = 0; j < i; j++)
			KUNIT_EXPECT_NE(test, tags[j], tags[i]);
	}
	KUNIT_EXPECT_TRUE(test, memx_reqs_idle(q));
}

/* No room in the ring: everything is as if the request had never been taken. */
static void reqs_unget(struct kunit *test)
{
	struct memx_reqs *q = queue(test);
	struct memx_req *r;
	struct memx_item *item;
	u32 slot = 10;

	put_run(test, MEMX_OP_STORE, 10, 6);
	r = memx_reqs_next(q);
	KUNIT_ASSERT_NOT_NULL(test, r);
	put(test, MEMX_OP_STORE, 16);
	memx_reqs_unget(q, r);
	KUNIT_EXPECT_EQ(test, q->used_requests, 0u);
	KUNIT_EXPECT_EQ(test, q->used_pages, 0u);
	KUNIT_EXPECT_EQ(test, q->used_reply, 0u);
	KUNIT_EXPECT_EQ(test, q->n_pending, 7u);
	list_for_each_entry(item, &q->pending, node)
		KUNIT_EXPECT_EQ(test, item->slot, slot++);
}

/* The channel is lost: what was out is pending again, the oldest in front. */
static void reqs_lost(struct kunit *test)
{
	struct memx_reqs *q = queue(test);
	struct memx_item *item;
	u32 slot = 0;

	put_run(test, MEMX_OP_FETCH, 0, 3);
	KUNIT_ASSERT_NOT_NULL(test, send(test));
	put_run(test, MEMX_OP_FETCH, 3, 3);
	KUNIT_ASSERT_NOT_NULL(test, send(test));
	put_run(test, MEMX_OP_FETCH, 6, 3);
	KUNIT_EXPECT_EQ(test, memx_reqs_lost(q), 6u);
	KUNIT_EXPECT_EQ(test, q->n_pending, 9u);
	KUNIT_EXPECT_EQ(test, q->used_requests, 0u);
	KUNIT_EXPECT_EQ(test, q->used_reply, 0u);
	list_for_each_entry(item, &q->pending, node)
		KUNIT_EXPECT_EQ(test, item->slot, slot++);
	KUNIT_EXPECT_EQ(test, slot, 9u);
}

/* A deadline: old items are given up, young ones stay, and a late answer to what was given up is still known. */
static void reqs_expire(struct kunit *test)
{
	struct memx_reqs *q = queue(test);
	struct memx_item *item[4];
	struct memx_req *r;
	LIST_HEAD(gone);
	u32 i;

	for (i = 0; i < 4; i++) {
		item[i] = kit_item(test, MEMX_OP_FETCH, i);
		item[i]->born = 100 + i;
	}
	memx_reqs_queue(q, item[0]);
	memx_reqs_queue(q, item[2]);
	r = send(test);
	KUNIT_ASSERT_NOT_NULL(test, r);
	memx_reqs_queue(q, item[1]);
	memx_reqs_queue(q, item[3]);
	KUNIT_EXPECT_EQ(test, memx_reqs_expire(q, 102, &gone), 2u);
	KUNIT_EXPECT_EQ(test, q->n_pending, 1u);
	KUNIT_EXPECT_NULL(test, r->item[0]);
	KUNIT_EXPECT_PTR_EQ(test, r->item[1], item[2]);
	KUNIT_EXPECT_PTR_EQ(test, memx_reqs_answer(q, r->tag, MEMX_OP_FETCH), r);
	memx_reqs_end(q, r);
	KUNIT_EXPECT_EQ(test, q->used_requests, 0u);
}

static struct kunit_case reqs_cases[] = {
	KUNIT_CASE(reqs_sizes),
	KUNIT_CASE(reqs_empty),
	KUNIT_CASE(reqs_no_limits),
	KUNIT_CASE(batch_first_goes),
	KUNIT_CASE(batch_waits),
	KUNIT_CASE(batch_hurried_goes),
	KUNIT_CASE(batch_full_goes),
	KUNIT_CASE(batch_fetch_goes),
	KUNIT_CASE(batch_sorted),
	KUNIT_CASE(batch_agreed_size),
	KUNIT_CASE(credits_requests),
	KUNIT_CASE(credits_table),
	KUNIT_CASE(credits_pages),
	KUNIT_CASE(credits_reply_ring),
	KUNIT_CASE(credits_ring_too_small),
	KUNIT_CASE(tags_lies),
	KUNIT_CASE(tags_new),
	KUNIT_CASE(reqs_unget),
	KUNIT_CASE(reqs_lost),
	KUNIT_CASE(reqs_expire),
	{}
};

static struct kunit_suite reqs_suite = {
	.name = "memx_reqs",
	.init = reqs_setup,
	.exit = reqs_teardown,
	.test_cases = reqs_cases,
};

kunit_test_suite(reqs_suite);
