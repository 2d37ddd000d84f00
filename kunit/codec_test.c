// SPDX-License-Identifier: GPL-2.0-only
/*
 * codec_test.c - headers, lengths and the checks of codec.h and check.h, against figures worked out by hand.
 */
#include "kit.h"

static void hdr_bytes(struct kunit *test)
{
	struct memx_head head = {
		.op = MEMX_OP_FETCH, .reply = true, .flags = MEMX_F_LAST, .len = 0x010203,
		.status = MEMX_S_PARTIAL, .tag = 0x1112131415161718ull, .epoch = 0x2122232425262728ull,
	};
	static const u8 want[32] = {
		'M', 'E', 'M', 'X', 0x04, 0x80, 0x01, 0x00, 0x03, 0x02, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00,
		0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
	};
	struct memx_head back;
	struct memx_hdr hdr;

	memx_hdr_put(&hdr, &head);
	KUNIT_EXPECT_EQ(test, memcmp(&hdr, want, 32), 0);
	KUNIT_ASSERT_EQ(test, memx_head_get(&back, &hdr, 0x010203), 0);
	KUNIT_EXPECT_EQ(test, back.op, MEMX_OP_FETCH);
	KUNIT_EXPECT_TRUE(test, back.reply);
	KUNIT_EXPECT_EQ(test, back.flags, MEMX_F_LAST);
	KUNIT_EXPECT_EQ(test, back.len, 0x010203u);
	KUNIT_EXPECT_EQ(test, back.status, MEMX_S_PARTIAL);
	KUNIT_EXPECT_EQ(test, back.tag, 0x1112131415161718ull);
	KUNIT_EXPECT_EQ(test, back.epoch, 0x2122232425262728ull);
}

static void hdr_refused(struct kunit *test)
{
	struct memx_head head = { .op = MEMX_OP_PING, .len = 10 }, back;
	struct memx_hdr good, hdr;

	memx_hdr_put(&good, &head);
	KUNIT_EXPECT_EQ(test, memx_head_get(&back, &good, 10), 0);
	KUNIT_EXPECT_EQ(test, memx_head_get(&back, &good, 9), -EPROTO);
	hdr = good;
	hdr.magic = memx_put_le32(0x4d454d58);
	KUNIT_EXPECT_EQ(test, memx_head_get(&back, &hdr, 10), -EPROTO);
	hdr = good;
	hdr.flags = memx_put_le16(MEMX_F_ALL + 1);
	KUNIT_EXPECT_EQ(test, memx_head_get(&back, &hdr, 10), -EPROTO);
	hdr = good;
	hdr.status = memx_put_le32(1);	/* a request has none */
	KUNIT_EXPECT_EQ(test, memx_head_get(&back, &hdr, 10), -EPROTO);
	hdr = good;
	hdr.len = memx_put_le32(~0u);
	KUNIT_EXPECT_EQ(test, memx_head_get(&back, &hdr, MEMX_MAX_BODY), -EPROTO);
}

static void lengths(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, memx_store_len(1), 24u + 40 + 4096);
	KUNIT_EXPECT_EQ(test, memx_store_len(32), 132376u);
	KUNIT_EXPECT_EQ(test, memx_want_len(32), 536u);
	KUNIT_EXPECT_EQ(test, memx_fetched_len(32, 0), 1304u);
	KUNIT_EXPECT_EQ(test, memx_fetched_len(32, 32), 132376u);
	KUNIT_EXPECT_EQ(test, (u32)MEMX_MAX_FRAME, 132408u);
	KUNIT_EXPECT_EQ(test, memx_records_len(16), 2312u);
	KUNIT_EXPECT_EQ(test, (u32)MEMX_RESERVE_REPLY, 4u * 2344);
	KUNIT_EXPECT_EQ(test, memx_reply_max(MEMX_OP_FETCH, 1), 32u + 24 + 40 + 4096);
	KUNIT_EXPECT_EQ(test, memx_reply_max(MEMX_OP_STORE, 32), 568u);
	KUNIT_EXPECT_EQ(test, memx_reply_max(MEMX_OP_ATTACH, 0), 56u);
	KUNIT_EXPECT_EQ(test, memx_reply_max(MEMX_OP_MAP, 0), 0u);
	KUNIT_EXPECT_EQ(test, memx_reply_max(999, 32), 32u);
}

static void io_checked(struct kunit *test)
{
	struct memx_head head = { .op = MEMX_OP_FETCH, .len = 24 + 3 * 16 };
	struct memx_io io = { .count = memx_put_le16(3) };

	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 32), 3);
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 2), -EINVAL);
	head.len++;
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 32), -EINVAL);
	head.len = 23;
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 32), -EINVAL);
	head.op = MEMX_OP_STORE;
	head.len = 24 + 3 * 4136;
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 32), 3);
	io.flags = memx_put_le16(1);
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 32), -EINVAL);
	io.flags = 0;
	io.count = 0;
	head.len = 24;
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 32), -EINVAL);
	io.count = memx_put_le16(33);
	head.len = 24 + 33 * 4136;
	KUNIT_EXPECT_EQ(test, memx_check_io(&head, &io, 255), -EINVAL);
}

static void slots_of_an_extent(struct kunit *test)
{
	struct memx_want w[3] = {};
	u32 i;

	for (i = 0; i < 3; i++) {
		w[i].slot = memx_put_le32(64 + i * 10);
		w[i].version = memx_put_le64(1);
	}
	KUNIT_EXPECT_EQ(test, memx_check_wants(w, 3, 1, 6, 200), 0);
	KUNIT_EXPECT_EQ(test, memx_check_wants(w, 3, 0, 6, 200), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_check_wants(w, 3, 1, 6, 84), -EINVAL);	/* beyond the session */
	w[2].slot = w[1].slot;
	KUNIT_EXPECT_EQ(test, memx_check_wants(w, 3, 1, 6, 200), -EINVAL);	/* twice */
	w[2].slot = memx_put_le32(65);
	KUNIT_EXPECT_EQ(test, memx_check_wants(w, 3, 1, 6, 200), -EINVAL);	/* descending */
	w[2].slot = memx_put_le32(128);
	KUNIT_EXPECT_EQ(test, memx_check_wants(w, 3, 1, 6, 200), -EINVAL);	/* next extent */
	w[2].slot = memx_put_le32(127);
	w[2].version = 0;
	KUNIT_EXPECT_EQ(test, memx_check_wants(w, 3, 1, 6, 200), -EINVAL);
}

static void extents_counted(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, memx_extents(1, 10), 1u);
	KUNIT_EXPECT_EQ(test, memx_extents(1024, 10), 1u);
	KUNIT_EXPECT_EQ(test, memx_extents(1025, 10), 2u);
	KUNIT_EXPECT_EQ(test, memx_extents(~0u, 6), 1u << 26);
}

static void versions_negotiated(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, memx_proto_common(1, 1, 1, 1), 1);
	KUNIT_EXPECT_EQ(test, memx_proto_common(1, 2, 2, 3), 2);
	KUNIT_EXPECT_EQ(test, memx_proto_common(2, 5, 1, 4), 4);
	KUNIT_EXPECT_EQ(test, memx_proto_common(1, 1, 2, 3), 0);
	KUNIT_EXPECT_EQ(test, memx_proto_common(3, 1, 1, 3), 0);	/* no range at all */
}

static void statuses(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, (u32)MEMX_S_COUNT, 22u);
	KUNIT_EXPECT_EQ(test, memx_status_known(MEMX_S_MISMATCH), MEMX_S_MISMATCH);
	KUNIT_EXPECT_EQ(test, memx_status_known(22), MEMX_S_IO);
	KUNIT_EXPECT_EQ(test, memx_status_known(~0u), MEMX_S_IO);
}

/* The check is XXH64: its published value of the empty string, and the binding of slot, version and session. */
static void check_binds(struct kunit *test)
{
	u8 *page = kit_page(test, 1);
	u64 check = memx_check(KIT_SEED, 5, 6, page);

	KUNIT_EXPECT_EQ(test, memx_xxh64("", 0, 0), 0xef46db3751d8e999ull);
	KUNIT_EXPECT_EQ(test, memx_check(KIT_SEED, 5, 6, page), check);
	KUNIT_EXPECT_NE(test, memx_check(KIT_SEED, 4, 6, page), check);
	KUNIT_EXPECT_NE(test, memx_check(KIT_SEED, 5, 7, page), check);
	KUNIT_EXPECT_NE(test, memx_check(KIT_SEED + 1, 5, 6, page), check);
	page[4095] ^= 1;
	KUNIT_EXPECT_NE(test, memx_check(KIT_SEED, 5, 6, page), check);
}

static struct kunit_case codec_cases[] = {
	KUNIT_CASE(hdr_bytes),
	KUNIT_CASE(hdr_refused),
	KUNIT_CASE(lengths),
	KUNIT_CASE(io_checked),
	KUNIT_CASE(slots_of_an_extent),
	KUNIT_CASE(extents_counted),
	KUNIT_CASE(versions_negotiated),
	KUNIT_CASE(statuses),
	KUNIT_CASE(check_binds),
	{}
};

static struct kunit_suite codec_suite = {
	.name = "memx_codec",
	.test_cases = codec_cases,
};

kunit_test_suite(codec_suite);
