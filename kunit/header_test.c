// SPDX-License-Identifier: GPL-2.0-only
/*
 * header_test.c - the first page of the swap area, byte by byte: what swapon(2) reads in read_swap_header() and
 * swapon(8) before it. The offsets are those of mkswap's format, version 1.
 */
#include "kit.h"
#include "../guest/swapheader.h"

static const u8 uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static u32 word(const u8 *page, u32 at)
{
	return page[at] | page[at + 1] << 8 | page[at + 2] << 16 | (u32)page[at + 3] << 24;
}

static void header_bytes(struct kunit *test)
{
	u8 *page = kit_page(test, 1);

	memx_swap_header(page, 0x12345, uuid);
	KUNIT_EXPECT_NULL(test, memchr_inv(page, 0, 1024));	/* for boot sectors */
	KUNIT_EXPECT_EQ(test, word(page, 1024), 1u);		/* version */
	KUNIT_EXPECT_EQ(test, word(page, 1028), 0x12344u);	/* last page */
	KUNIT_EXPECT_EQ(test, word(page, 1032), 0u);		/* bad pages */
	KUNIT_EXPECT_EQ(test, memcmp(page + 1036, uuid, 16), 0);
	KUNIT_EXPECT_STREQ(test, (char *)page + 1052, "memx");
	KUNIT_EXPECT_NULL(test, memchr_inv(page + 1057, 0, 4096 - 10 - 1057));
	KUNIT_EXPECT_EQ(test, memcmp(page + 4086, "SWAPSPACE2", 10), 0);
}

static void header_smallest(struct kunit *test)
{
	u8 *page = kit_page(test, 2);

	memx_swap_header(page, 2, uuid);
	KUNIT_EXPECT_EQ(test, word(page, 1028), 1u);
}

static void header_largest(struct kunit *test)
{
	u8 *page = kit_page(test, 3);

	memx_swap_header(page, ~0u, uuid);
	KUNIT_EXPECT_EQ(test, word(page, 1028), ~0u - 1);
}

static struct kunit_case header_cases[] = {
	KUNIT_CASE(header_bytes),
	KUNIT_CASE(header_smallest),
	KUNIT_CASE(header_largest),
	{}
};

static struct kunit_suite header_suite = {
	.name = "memx_swap_header",
	.test_cases = header_cases,
};

kunit_test_suite(header_suite);
