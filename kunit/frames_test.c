// SPDX-License-Identifier: GPL-2.0-only
/*
 * frames_test.c - what goes into the ring, byte by byte, and what is made of answers, good and bad.
 */
#include "kit.h"

enum {
	ORDER	= 6,
	PAGES	= 4,
	EPOCH	= 7,
};

struct bench {
	struct kit_rings *rings;
	struct memx_reqs q;
	struct memx_req *req;
	struct memx_item *item[PAGES];
	void *bounce;
	u8 *body;
	u32 status[MEMX_MAX_PAGES];
};

static void frames_teardown(struct kunit *test)
{
	struct bench *b = test->priv;

	if (b)
		memx_reqs_free(&b->q);
}

static int frames_setup(struct kunit *test)
{
	struct bench *b = kit_alloc(test, sizeof(*b));

	b->rings = kit_rings(test, 17, 17);
	b->bounce = kit_alloc(test, MEMX_PAGE_SIZE);
	b->body = kunit_kzalloc(test, MEMX_MAX_BODY, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, b->body);
	KUNIT_ASSERT_EQ(test, memx_reqs_init(&b->q, 4), 0);
	KUNIT_ASSERT_EQ(test, memx_reqs_limits(&b->q, MEMX_LANE_FETCH, ORDER, 32, 4, 128, 1 << 17, 1 << 17), 0);
	test->priv = b;
	return 0;
}

/* A request of PAGES items from slot 64 + 3 on, every second slot, at versions 100, 101, ... */
static struct memx_req *request(struct kunit *test, u8 op)
{
	struct bench *b = test->priv;
	u32 i;

	for (i = 0; i < PAGES; i++) {
		b->item[i] = kit_item(test, op, 67 + 2 * i);
		b->item[i]->version = 100 + i;
		if (op != MEMX_OP_DISCARD)
			b->item[i]->page = op == MEMX_OP_STORE ? kit_page(test, i) : kit_alloc(test, MEMX_PAGE_SIZE);
		memx_reqs_queue(&b->q, b->item[i]);
	}
	b->req = memx_reqs_next(&b->q);
	KUNIT_ASSERT_NOT_NULL(test, b->req);
	KUNIT_ASSERT_EQ(test, b->req->count, PAGES);
	return b->req;
}

static int build(struct kunit *test, u32 reserve)
{
	struct bench *b = test->priv;

	return memx_frame_request(&b->rings->guest, b->req, EPOCH, 9, KIT_SEED, 0, b->bounce, reserve);
}

static void frame_store(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_req *r = request(test, MEMX_OP_STORE);
	u32 len = 24 + PAGES * (40 + 4096), i;
	struct memx_head head;
	struct memx_page *desc;
	struct memx_io *io;

	KUNIT_ASSERT_EQ(test, build(test, 0), (int)(32 + len));
	KUNIT_EXPECT_EQ(test, memx_vring_avail(&b->rings->relay), 0);	/* not shown by the builder */
	memx_vring_publish(&b->rings->guest, 32 + len);
	KUNIT_EXPECT_EQ(test, memcmp(b->rings->right, "MEMX\3\0\0\0", 8), 0);
	kit_relay_recv(test, b->rings, &head, b->body, MEMX_MAX_BODY);
	KUNIT_EXPECT_EQ(test, head.op, MEMX_OP_STORE);
	KUNIT_EXPECT_FALSE(test, head.reply);
	KUNIT_EXPECT_EQ(test, head.len, len);
	KUNIT_EXPECT_EQ(test, head.tag, r->tag);
	KUNIT_EXPECT_EQ(test, head.epoch, 7ull);

	io = (struct memx_io *)b->body;
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, io, 32), PAGES);
	KUNIT_EXPECT_EQ(test, memx_le32(io->extent), 1u);
	KUNIT_EXPECT_EQ(test, memx_le64(io->generation), 9ull);
	desc = (struct memx_page *)(b->body + 24);
	KUNIT_EXPECT_EQ(test, memx_check_pages(desc, PAGES, 1, ORDER, 128), 0);
	for (i = 0; i < PAGES; i++) {
		const u8 *page = b->body + 24 + PAGES * 40 + i * 4096;

		KUNIT_EXPECT_EQ(test, memx_le32(desc[i].slot), 67 + 2 * i);
		KUNIT_EXPECT_EQ(test, memx_le64(desc[i].trailer.version), 100ull + i);
		KUNIT_EXPECT_EQ(test, memcmp(page, b->item[i]->page, 4096), 0);
		KUNIT_EXPECT_EQ(test, memx_le64(desc[i].trailer.check), memx_check(KIT_SEED, 67 + 2 * i, 100 + i, page));
		KUNIT_EXPECT_EQ(test, b->item[i]->check, memx_le64(desc[i].trailer.check));
	}
}

/* The same frame over the end of the ring's memory: nothing about it changes. */
static void frame_store_wraps(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_head head;
	struct memx_page *desc;
	u32 i, at;

	request(test, MEMX_OP_STORE);
	for (at = 8; at < 32 + 24 + PAGES * 4136; at += 1032) {
		kit_rings_reset(b->rings, (u32)-at);
		KUNIT_ASSERT_GT(test, build(test, 0), 0);
		memx_vring_publish(&b->rings->guest, 32 + 24 + PAGES * 4136);
		kit_relay_recv(test, b->rings, &head, b->body, MEMX_MAX_BODY);
		desc = (struct memx_page *)(b->body + 24);
		for (i = 0; i < PAGES; i++) {
			const u8 *page = b->body + 24 + PAGES * 40 + i * 4096;

			KUNIT_EXPECT_EQ(test, memcmp(page, b->item[i]->page, 4096), 0);
			KUNIT_EXPECT_EQ(test, memx_le64(desc[i].trailer.check),
					memx_check(KIT_SEED, 67 + 2 * i, 100 + i, page));
		}
	}
}

static void frame_fetch(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_want *want;
	struct memx_head head;
	u32 i;

	request(test, MEMX_OP_FETCH);
	KUNIT_ASSERT_EQ(test, build(test, 0), 32 + 24 + PAGES * 16);
	memx_vring_publish(&b->rings->guest, 32 + 24 + PAGES * 16);
	kit_relay_recv(test, b->rings, &head, b->body, MEMX_MAX_BODY);
	KUNIT_EXPECT_EQ(test, head.op, MEMX_OP_FETCH);
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, (struct memx_io *)b->body, 32), PAGES);
	want = (struct memx_want *)(b->body + 24);
	KUNIT_EXPECT_EQ(test, memx_check_wants(want, PAGES, 1, ORDER, 128), 0);
	for (i = 0; i < PAGES; i++) {
		KUNIT_EXPECT_EQ(test, memx_le32(want[i].slot), 67 + 2 * i);
		KUNIT_EXPECT_EQ(test, memx_le64(want[i].version), 100ull + i);
	}
}

/* No room for it, or none beside the reserve: nothing is written. */
static void frame_no_room(struct kunit *test)
{
	struct bench *b = test->priv;
	u32 len = 32 + 24 + PAGES * 16;

	request(test, MEMX_OP_FETCH);
	memx_vring_publish(&b->rings->guest, (1 << 17) - len);
	KUNIT_EXPECT_EQ(test, build(test, 1), -EAGAIN);
	KUNIT_EXPECT_EQ(test, build(test, 0), (int)len);
	memx_vring_publish(&b->rings->guest, 1);
	KUNIT_EXPECT_EQ(test, build(test, 0), -EAGAIN);
	b->rings->shr->right.cons = 77777777;
	KUNIT_EXPECT_EQ(test, build(test, 0), -EPROTO);
}

static void frame_map(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_record recs[2] = { kit_record(4, 2, 2, MEMX_R_LIVE), kit_record(6, 3, 1, 0) };
	struct memx_head head;

	KUNIT_ASSERT_EQ(test, memx_frame_map(&b->rings->guest, EPOCH, recs, 2, true, 0), 32 + 8 + 2 * 144);
	memx_vring_publish(&b->rings->guest, 32 + 8 + 2 * 144);
	kit_relay_recv(test, b->rings, &head, b->body, MEMX_MAX_BODY);
	KUNIT_EXPECT_EQ(test, head.op, MEMX_OP_MAP);
	KUNIT_EXPECT_EQ(test, head.flags, MEMX_F_LAST);
	KUNIT_EXPECT_EQ(test, head.epoch, 7ull);
	KUNIT_EXPECT_EQ(test, memx_check_records(&head, (struct memx_records *)b->body), 2);
	KUNIT_EXPECT_EQ(test, memcmp(b->body + 8, recs, sizeof(recs)), 0);
}

/* A frame is seen when all of it is there, not before. */
static void next_partial(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_head head = { .op = MEMX_OP_RECORD, .len = 100, .tag = 5 }, seen;
	struct memx_hdr hdr;

	KUNIT_EXPECT_EQ(test, memx_frame_next(&b->rings->guest, 1000, &seen), 0);
	memx_hdr_put(&hdr, &head);
	memx_vring_put(&b->rings->relay, 0, &hdr, 32);
	memx_vring_publish(&b->rings->relay, 31);
	KUNIT_EXPECT_EQ(test, memx_frame_next(&b->rings->guest, 1000, &seen), 0);
	memx_vring_publish(&b->rings->relay, 1);
	KUNIT_EXPECT_EQ(test, memx_frame_next(&b->rings->guest, 1000, &seen), 0);
	memx_vring_publish(&b->rings->relay, 99);
	KUNIT_EXPECT_EQ(test, memx_frame_next(&b->rings->guest, 1000, &seen), 0);
	memx_vring_publish(&b->rings->relay, 1);
	KUNIT_EXPECT_EQ(test, memx_frame_next(&b->rings->guest, 1000, &seen), 1);
	KUNIT_EXPECT_EQ(test, seen.tag, 5ull);
	KUNIT_EXPECT_EQ(test, seen.len, 100u);
}

static void next_hostile(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_head head = { .op = MEMX_OP_PING }, seen;
	u32 i;

	for (i = 0; i < 5; i++) {
		struct memx_hdr hdr;

		kit_rings_reset(b->rings, 0);
		head.len = i == 3 ? 1 << 17 : 0;	/* longer than the ring could ever hold */
		memx_hdr_put(&hdr, &head);
		if (i == 0)
			hdr.magic = memx_put_le32(MEMX_MAGIC + 1);
		if (i == 1)
			hdr.len = memx_put_le32(1001);
		if (i == 2)
			hdr.flags = memx_put_le16(0x8000);
		memx_vring_put(&b->rings->relay, 0, &hdr, 32);
		memx_vring_publish(&b->rings->relay, 32);
		if (i == 4)
			b->rings->shr->left.prod = (1 << 17) + 1;
		KUNIT_EXPECT_EQ(test, memx_frame_next(&b->rings->guest, i == 3 ? MEMX_MAX_BODY : 1000, &seen), -EPROTO);
	}
}

/* Puts an answer to the fetch of request() into the ring: pages of which bit i of @good is set. */
static struct memx_head answer_fetch(struct kunit *test, u32 status, u32 good)
{
	struct bench *b = test->priv;
	struct memx_io *io = (struct memx_io *)b->body;
	struct memx_page *desc = (struct memx_page *)(b->body + 24);
	struct memx_head head = { .op = MEMX_OP_FETCH, .reply = true, .status = status, .tag = b->req->tag };
	u32 at = 24 + PAGES * 40, i;

	memset(b->body, 0, 24 + PAGES * 40);
	io->extent = memx_put_le32(1);
	io->count = memx_put_le16(PAGES);
	for (i = 0; i < PAGES; i++) {
		u8 *page = kit_page(test, 50 + i);
		u64 check = memx_check(KIT_SEED, 67 + 2 * i, 100 + i, page);

		b->item[i]->check = check;
		desc[i].slot = memx_put_le32(67 + 2 * i);
		if (!(good & 1u << i)) {
			desc[i].status = memx_put_le32(MEMX_S_VERSION);
			continue;
		}
		desc[i].trailer.version = memx_put_le64(100 + i);
		desc[i].trailer.check = memx_put_le64(check);
		memcpy(b->body + at, page, 4096);
		at += 4096;
	}
	head.len = at;
	return head;
}

static int read_answer(struct kunit *test, const struct memx_head *head)
{
	struct bench *b = test->priv;

	kit_rings_reset(b->rings, 0);
	kit_relay_send(b->rings, head, b->body);
	return memx_frame_answer(&b->rings->guest, head, b->req, KIT_SEED, b->bounce, b->status);
}

static void answer_good(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_head head;
	u32 i;

	request(test, MEMX_OP_FETCH);
	head = answer_fetch(test, MEMX_S_OK, 15);
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	for (i = 0; i < PAGES; i++) {
		KUNIT_EXPECT_EQ(test, b->status[i], MEMX_S_OK);
		KUNIT_EXPECT_EQ(test, memcmp(b->item[i]->page, kit_page(test, 50 + i), 4096), 0);
	}
}

/* Some pages are there, some are not: each gets its own bytes and status. */
static void answer_partial(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_head head;

	request(test, MEMX_OP_FETCH);
	head = answer_fetch(test, MEMX_S_PARTIAL, 2 | 8);
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_EQ(test, b->status[0], MEMX_S_VERSION);
	KUNIT_EXPECT_EQ(test, b->status[1], MEMX_S_OK);
	KUNIT_EXPECT_EQ(test, b->status[2], MEMX_S_VERSION);
	KUNIT_EXPECT_EQ(test, b->status[3], MEMX_S_OK);
	KUNIT_EXPECT_EQ(test, memcmp(b->item[1]->page, kit_page(test, 51), 4096), 0);
	KUNIT_EXPECT_EQ(test, memcmp(b->item[3]->page, kit_page(test, 53), 4096), 0);
}

/* One bit of a page, a page of another version, two pages exchanged: found by our own check, whatever the relay says. */
static void answer_corrupt(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_page *desc = (struct memx_page *)(b->body + 24);
	struct memx_head head;
	u8 *page = b->body + 24 + PAGES * 40;

	request(test, MEMX_OP_FETCH);
	head = answer_fetch(test, MEMX_S_OK, 15);
	page[4096 + 17] ^= 4;
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_EQ(test, b->status[0], MEMX_S_OK);
	KUNIT_EXPECT_EQ(test, b->status[1], MEMX_S_CORRUPT);

	head = answer_fetch(test, MEMX_S_OK, 15);
	desc[2].trailer.version = memx_put_le64(101);
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_EQ(test, b->status[2], MEMX_S_CORRUPT);

	head = answer_fetch(test, MEMX_S_OK, 15);
	memcpy(page, kit_page(test, 51), 4096);
	memcpy(page + 4096, kit_page(test, 50), 4096);
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_EQ(test, b->status[0], MEMX_S_CORRUPT);
	KUNIT_EXPECT_EQ(test, b->status[1], MEMX_S_CORRUPT);
	KUNIT_EXPECT_EQ(test, b->status[2], MEMX_S_OK);
}

/* The relay makes up a check that fits its own bytes: ours is the one that counts. */
static void answer_forged_check(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_page *desc = (struct memx_page *)(b->body + 24);
	u8 *page = b->body + 24 + PAGES * 40;
	struct memx_head head;

	request(test, MEMX_OP_FETCH);
	head = answer_fetch(test, MEMX_S_OK, 15);
	memset(page, 0x41, 4096);
	desc[0].trailer.check = memx_put_le64(memx_check(KIT_SEED, 67, 100, page));
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_EQ(test, b->status[0], MEMX_S_CORRUPT);
}

/* Shapes that cannot be: another extent or count, other slots, lengths that do not fit the statuses. */
static void answer_shapes(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_io *io = (struct memx_io *)b->body;
	struct memx_page *desc = (struct memx_page *)(b->body + 24);
	struct memx_head head;

	request(test, MEMX_OP_FETCH);
	head = answer_fetch(test, MEMX_S_OK, 15);
	io->extent = memx_put_le32(2);
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);

	head = answer_fetch(test, MEMX_S_OK, 15);
	io->count = memx_put_le16(PAGES - 1);
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);

	head = answer_fetch(test, MEMX_S_OK, 15);
	desc[3].slot = memx_put_le32(75);
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);

	head = answer_fetch(test, MEMX_S_OK, 15);
	head.len -= 4096;
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);

	head = answer_fetch(test, MEMX_S_PARTIAL, 3);
	head.len += 4096;
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);

	head = answer_fetch(test, MEMX_S_OK, 7);	/* says OK of all, brings three */
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);

	head = answer_fetch(test, MEMX_S_IO, 15);	/* an error with pages behind it */
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);

	head = answer_fetch(test, MEMX_S_OK, 15);
	head.len = 23;
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);
}

static void answer_error(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_head head;
	u32 i;

	request(test, MEMX_OP_FETCH);
	head = answer_fetch(test, MEMX_S_IO, 0);
	head.len = 24;
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	for (i = 0; i < PAGES; i++)
		KUNIT_EXPECT_EQ(test, b->status[i], MEMX_S_IO);
	head.status = 4711;	/* not in the list */
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_EQ(test, b->status[0], MEMX_S_IO);
}

/* An item that its owner gave up: its page is not touched any more. */
static void answer_given_up(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_item *item;
	struct memx_head head;
	u8 *page;

	request(test, MEMX_OP_FETCH);
	head = answer_fetch(test, MEMX_S_OK, 15);
	item = b->item[1];
	page = item->page;
	b->req->item[1] = NULL;
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_NULL(test, memchr_inv(page, 0, 4096));
	KUNIT_EXPECT_EQ(test, memcmp(b->item[2]->page, kit_page(test, 52), 4096), 0);
	b->req->item[1] = item;
}

static void answer_store(struct kunit *test)
{
	struct bench *b = test->priv;
	struct memx_io *io = (struct memx_io *)b->body;
	struct memx_want *want = (struct memx_want *)(b->body + 24);
	struct memx_head head;
	u32 i;

	request(test, MEMX_OP_STORE);
	memset(b->body, 0, 24 + PAGES * 16);
	io->extent = memx_put_le32(1);
	io->count = memx_put_le16(PAGES);
	head = (struct memx_head) { .op = MEMX_OP_STORE, .reply = true, .len = 24, .tag = b->req->tag };
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	for (i = 0; i < PAGES; i++)
		KUNIT_EXPECT_EQ(test, b->status[i], MEMX_S_OK);

	head.status = MEMX_S_PARTIAL;
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);	/* partial, and nothing says of what */
	head.len = 24 + PAGES * 16;
	for (i = 0; i < PAGES; i++) {
		want[i].slot = memx_put_le32(67 + 2 * i);
		want[i].status = memx_put_le32(i == 2 ? MEMX_S_NOSPACE : MEMX_S_OK);
	}
	KUNIT_ASSERT_EQ(test, read_answer(test, &head), 0);
	KUNIT_EXPECT_EQ(test, b->status[1], MEMX_S_OK);
	KUNIT_EXPECT_EQ(test, b->status[2], MEMX_S_NOSPACE);
	want[0].slot = memx_put_le32(66);
	KUNIT_EXPECT_EQ(test, read_answer(test, &head), -EPROTO);
}

static struct kunit_case frames_cases[] = {
	KUNIT_CASE(frame_store),
	KUNIT_CASE(frame_store_wraps),
	KUNIT_CASE(frame_fetch),
	KUNIT_CASE(frame_no_room),
	KUNIT_CASE(frame_map),
	KUNIT_CASE(next_partial),
	KUNIT_CASE(next_hostile),
	KUNIT_CASE(answer_good),
	KUNIT_CASE(answer_partial),
	KUNIT_CASE(answer_corrupt),
	KUNIT_CASE(answer_forged_check),
	KUNIT_CASE(answer_shapes),
	KUNIT_CASE(answer_error),
	KUNIT_CASE(answer_given_up),
	KUNIT_CASE(answer_store),
	{}
};

static struct kunit_suite frames_suite = {
	.name = "memx_frames",
	.init = frames_setup,
	.exit = frames_teardown,
	.test_cases = frames_cases,
};

kunit_test_suite(frames_suite);
