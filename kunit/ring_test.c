// SPDX-License-Identifier: GPL-2.0-only
/*
 * ring_test.c - vring.h: both ends of a ring in one memory, and an end whose peer lies.
 *
 * Figures are libxenvchan's: free-running 32-bit indices, masks, notify bits 1 (write) and 2 (read).
 */
#include <kunit/test.h>

#include "../shared/memx/vring.h"

enum {
	LEFT	= 4096,		/* bytes: client to server */
	RIGHT	= 8192,		/* server to client */
};

struct ends {
	struct memx_vchan_page *shr;
	struct memx_vring server, client;
	u8 *left, *right;
};

/* Both ends, with the indices of the rings at @start. */
static struct ends *ends_at(struct kunit *test, u32 start)
{
	struct ends *e = kunit_kzalloc(test, sizeof(*e), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, e);
	e->shr = kunit_kzalloc(test, MEMX_PAGE_SIZE, GFP_KERNEL);
	e->left = kunit_kzalloc(test, LEFT, GFP_KERNEL);
	e->right = kunit_kzalloc(test, RIGHT, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, e->shr);
	KUNIT_ASSERT_NOT_NULL(test, e->left);
	KUNIT_ASSERT_NOT_NULL(test, e->right);
	memx_vring_reset_shared(e->shr, 12, 13);
	e->shr->left.cons = start;
	e->shr->left.prod = start;
	e->shr->right.cons = start;
	e->shr->right.prod = start;
	memx_vring_init(&e->server, e->shr, true, e->left, LEFT, e->right, RIGHT);
	memx_vring_init(&e->client, e->shr, false, e->left, LEFT, e->right, RIGHT);
	return e;
}

static void fill(u8 *to, u32 len, u8 first)
{
	u32 i;

	for (i = 0; i < len; i++)
		to[i] = (u8)(first + i * 7);
}

/* What a server writes into the shared page, byte for byte at libxenvchan's offsets. */
static void ring_reset_bytes(struct kunit *test)
{
	u8 *page = kunit_kmalloc(test, MEMX_PAGE_SIZE, GFP_KERNEL);
	u32 i;

	KUNIT_ASSERT_NOT_NULL(test, page);
	memset(page, 0xee, MEMX_PAGE_SIZE);
	memx_vring_reset_shared((struct memx_vchan_page *)page, 12, 13);
	for (i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, page[i], 0);
	KUNIT_EXPECT_EQ(test, page[16], 12);
	KUNIT_EXPECT_EQ(test, page[17], 0);
	KUNIT_EXPECT_EQ(test, page[18], 13);
	KUNIT_EXPECT_EQ(test, page[19], 0);
	KUNIT_EXPECT_EQ(test, page[20], 2);	/* cli_live: never connected */
	KUNIT_EXPECT_EQ(test, page[21], 1);	/* srv_live */
	KUNIT_EXPECT_EQ(test, page[22], 1);	/* cli_notify: write */
	KUNIT_EXPECT_EQ(test, page[23], 0);	/* srv_notify */
	KUNIT_EXPECT_EQ(test, page[24], 0xee);	/* the grants are not touched */
}

/* A server sends in the right ring and reads the left one; a client the other way round. */
static void ring_sides(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);

	KUNIT_EXPECT_PTR_EQ(test, (u8 *)e->server.tx, e->right);
	KUNIT_EXPECT_PTR_EQ(test, (u8 *)e->server.rx, e->left);
	KUNIT_EXPECT_PTR_EQ(test, (u8 *)e->client.tx, e->left);
	KUNIT_EXPECT_PTR_EQ(test, (u8 *)e->client.rx, e->right);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->client), LEFT);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->server), 0);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->client), 0);
}

static void ring_bytes_arrive(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);
	u8 out[100], in[100];

	fill(out, sizeof(out), 3);
	memx_vring_put(&e->server, 0, out, 60);
	memx_vring_put(&e->server, 60, out + 60, 40);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->client), 0);	/* not shown yet */
	memx_vring_publish(&e->server, 100);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->client), 100);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT - 100);
	memx_vring_peek(&e->client, 0, in, 100);
	KUNIT_EXPECT_EQ(test, memcmp(in, out, 100), 0);
	memx_vring_peek(&e->client, 90, in, 10);
	KUNIT_EXPECT_EQ(test, memcmp(in, out + 90, 10), 0);
	memx_vring_consume(&e->client, 100);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);
	KUNIT_EXPECT_EQ(test, e->shr->right.prod, 100u);
	KUNIT_EXPECT_EQ(test, e->shr->right.cons, 100u);
}

/* A frame that goes over the end of the ring's memory. */
static void ring_wraps_memory(struct kunit *test)
{
	struct ends *e = ends_at(test, RIGHT - 30);
	u8 out[100], in[100];

	fill(out, sizeof(out), 9);
	memx_vring_put(&e->server, 0, out, 100);
	memx_vring_publish(&e->server, 100);
	KUNIT_EXPECT_EQ(test, memcmp(e->right + RIGHT - 30, out, 30), 0);
	KUNIT_EXPECT_EQ(test, memcmp(e->right, out + 30, 70), 0);
	memx_vring_peek(&e->client, 0, in, 100);
	KUNIT_EXPECT_EQ(test, memcmp(in, out, 100), 0);
}

/* Indices that go over 2^32 while data is in the ring. */
static void ring_wraps_indices(struct kunit *test)
{
	struct ends *e = ends_at(test, 0xffffffd0u);
	u8 out[128], in[128];

	fill(out, sizeof(out), 1);
	memx_vring_put(&e->server, 0, out, 128);
	memx_vring_publish(&e->server, 128);
	KUNIT_EXPECT_EQ(test, e->shr->right.prod, 0x50u);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->client), 128);
	memx_vring_peek(&e->client, 0, in, 128);
	KUNIT_EXPECT_EQ(test, memcmp(in, out, 128), 0);
	memx_vring_consume(&e->client, 128);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->client), 0);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);
}

/* Full to the last byte, and empty again. */
static void ring_full(struct kunit *test)
{
	struct ends *e = ends_at(test, 12345);
	u8 *out = kunit_kzalloc(test, RIGHT, GFP_KERNEL), *in = kunit_kzalloc(test, RIGHT, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, out);
	KUNIT_ASSERT_NOT_NULL(test, in);
	fill(out, RIGHT, 77);
	memx_vring_put(&e->server, 0, out, RIGHT);
	memx_vring_publish(&e->server, RIGHT);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), 0);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->client), RIGHT);
	memx_vring_peek(&e->client, 0, in, RIGHT);
	KUNIT_EXPECT_EQ(test, memcmp(in, out, RIGHT), 0);
	memx_vring_consume(&e->client, RIGHT);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->client), 0);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);
}

/* A read index or write index that cannot be: the ring is broken, and stays so when the peer mends it. */
static void ring_peer_writes_too_far(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);

	e->shr->left.prod = LEFT + 1;
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->server), -EPROTO);
	e->shr->left.prod = 0;
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->server), -EPROTO);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);	/* the other direction is not concerned */
}

static void ring_peer_writes_backwards(struct kunit *test)
{
	struct ends *e = ends_at(test, 1000);

	e->shr->left.prod = 999;
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->server), -EPROTO);
}

static void ring_peer_reads_too_far(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);

	e->shr->right.cons = 1;		/* of nothing */
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), -EPROTO);
	e->shr->right.cons = 0;
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), -EPROTO);
}

static void ring_peer_reads_backwards(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);
	u8 byte = 1;

	memx_vring_put(&e->server, 0, &byte, 1);
	memx_vring_publish(&e->server, 1);
	e->shr->right.cons = 1;
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);
	e->shr->right.cons = (u32)-RIGHT;
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), -EPROTO);
}

/* The peer overwrites what is ours to write: our own indices are the truth. */
static void ring_peer_overwrites_ours(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);
	u8 out[50], in[50];

	fill(out, sizeof(out), 5);
	memx_vring_put(&e->client, 0, out, 50);
	memx_vring_publish(&e->client, 50);
	e->shr->left.cons = 4000;	/* the server's */
	e->shr->right.prod = 4000;	/* the server's */
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->server), 50);
	memx_vring_peek(&e->server, 0, in, 50);
	KUNIT_EXPECT_EQ(test, memcmp(in, out, 50), 0);
	memx_vring_consume(&e->server, 50);
	KUNIT_EXPECT_EQ(test, e->shr->left.cons, 50u);
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);
}

/* Orders and grants in the shared page are the peer's to scribble on: sizes come from the owner. */
static void ring_peer_changes_orders(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);

	e->shr->left_order = 31;
	e->shr->right_order = 0;
	KUNIT_EXPECT_EQ(test, memx_vring_space(&e->server), RIGHT);
	e->shr->left.prod = LEFT + 1;
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->server), -EPROTO);
}

/* A sender notifies only who asked for it, and once. */
static void ring_notify_write(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);
	u8 byte = 0;

	memx_vring_put(&e->server, 0, &byte, 1);
	KUNIT_EXPECT_FALSE(test, memx_vring_publish(&e->server, 1));	/* the client asked for nothing */
	memx_vring_want(&e->client, MEMX_VCHAN_WRITE);
	KUNIT_EXPECT_EQ(test, e->shr->srv_notify, 1);
	memx_vring_put(&e->server, 0, &byte, 1);
	KUNIT_EXPECT_TRUE(test, memx_vring_publish(&e->server, 1));
	KUNIT_EXPECT_EQ(test, e->shr->srv_notify, 0);
	memx_vring_put(&e->server, 0, &byte, 1);
	KUNIT_EXPECT_FALSE(test, memx_vring_publish(&e->server, 1));
}

static void ring_notify_read(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);
	u8 byte = 0;

	memx_vring_put(&e->client, 0, &byte, 1);
	KUNIT_EXPECT_TRUE(test, memx_vring_publish(&e->client, 1));	/* a new server wants to be told */
	KUNIT_EXPECT_FALSE(test, memx_vring_consume(&e->server, 1));
	memx_vring_want(&e->client, MEMX_VCHAN_READ);
	KUNIT_EXPECT_EQ(test, e->shr->srv_notify, 2);
	memx_vring_put(&e->client, 0, &byte, 1);
	memx_vring_publish(&e->client, 1);
	KUNIT_EXPECT_TRUE(test, memx_vring_consume(&e->server, 1));
	KUNIT_EXPECT_EQ(test, e->shr->srv_notify, 0);
}

/* Both wishes stand beside each other, and bits that mean nothing are left alone. */
static void ring_notify_bits(struct kunit *test)
{
	struct ends *e = ends_at(test, 0);
	u8 byte = 0;

	e->shr->srv_notify = 0xf0;
	memx_vring_want(&e->client, MEMX_VCHAN_READ);
	memx_vring_want(&e->client, MEMX_VCHAN_WRITE);
	KUNIT_EXPECT_EQ(test, e->shr->srv_notify, 0xf3);
	memx_vring_put(&e->server, 0, &byte, 1);
	KUNIT_EXPECT_TRUE(test, memx_vring_publish(&e->server, 1));
	KUNIT_EXPECT_EQ(test, e->shr->srv_notify, 0xf2);
}

/* A stream of frames of all lengths through a small ring, both ends taking turns: every byte arrives. */
static void ring_stream(struct kunit *test)
{
	struct ends *e = ends_at(test, 0xfffff000u);
	u32 sent = 0, seen = 0, seed = 1, len, i, bad = 0;
	u8 buf[700];
	int n;

	while (seen < 300000) {
		seed = seed * 1103515245 + 12345;
		len = 1 + (seed >> 16) % sizeof(buf);
		while (memx_vring_space(&e->client) >= (int)len) {
			for (i = 0; i < len; i++)
				buf[i] = (u8)((sent + i) * 31 >> 3);
			memx_vring_put(&e->client, 0, buf, len);
			memx_vring_publish(&e->client, len);
			sent += len;
		}
		n = memx_vring_avail(&e->server);
		KUNIT_ASSERT_GT(test, n, 0);
		n = n > (int)sizeof(buf) ? (int)sizeof(buf) : n;
		memx_vring_peek(&e->server, 0, buf, n);
		for (i = 0; i < (u32)n; i++)
			bad += buf[i] != (u8)((seen + i) * 31 >> 3);
		memx_vring_consume(&e->server, n);
		seen += n;
	}
	KUNIT_EXPECT_EQ(test, bad, 0u);
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&e->server), (int)(sent - seen));
}

static struct kunit_case ring_cases[] = {
	KUNIT_CASE(ring_reset_bytes),
	KUNIT_CASE(ring_sides),
	KUNIT_CASE(ring_bytes_arrive),
	KUNIT_CASE(ring_wraps_memory),
	KUNIT_CASE(ring_wraps_indices),
	KUNIT_CASE(ring_full),
	KUNIT_CASE(ring_peer_writes_too_far),
	KUNIT_CASE(ring_peer_writes_backwards),
	KUNIT_CASE(ring_peer_reads_too_far),
	KUNIT_CASE(ring_peer_reads_backwards),
	KUNIT_CASE(ring_peer_overwrites_ours),
	KUNIT_CASE(ring_peer_changes_orders),
	KUNIT_CASE(ring_notify_write),
	KUNIT_CASE(ring_notify_read),
	KUNIT_CASE(ring_notify_bits),
	KUNIT_CASE(ring_stream),
	{}
};

static struct kunit_suite ring_suite = {
	.name = "memx_ring",
	.test_cases = ring_cases,
};

kunit_test_suite(ring_suite);
