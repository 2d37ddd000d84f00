// SPDX-License-Identifier: GPL-2.0-only
/*
 * sizing_test.c - lanes and rings for guests of several sizes, in figures.
 */
#include "kit.h"
#include "../guest/sizing.h"

#define MIB(n) ((u64)(n) << (20 - MEMX_PAGE_SHIFT))	/* in pages */

static void lanes_by_cpus(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, memx_default_lanes(0), 1u);
	KUNIT_EXPECT_EQ(test, memx_default_lanes(1), 1u);
	KUNIT_EXPECT_EQ(test, memx_default_lanes(3), 1u);
	KUNIT_EXPECT_EQ(test, memx_default_lanes(4), 2u);
	KUNIT_EXPECT_EQ(test, memx_default_lanes(8), 4u);
	KUNIT_EXPECT_EQ(test, memx_default_lanes(64), 4u);
}

/* 128 MiB: 512 KiB large rings, 1 MiB and a little in all. */
static void rings_small_guest(struct kunit *test)
{
	struct memx_lane_spec specs[MEMX_MAX_LANES];

	KUNIT_ASSERT_EQ(test, memx_lane_specs(specs, 1, 1, 0, MIB(80)), 2);
	KUNIT_EXPECT_EQ(test, specs[0].kind, MEMX_LANE_STORE);
	KUNIT_EXPECT_EQ(test, specs[0].left_order, 14);
	KUNIT_EXPECT_EQ(test, specs[0].right_order, 19);
	KUNIT_EXPECT_EQ(test, specs[1].kind, MEMX_LANE_FETCH);
	KUNIT_EXPECT_EQ(test, specs[1].left_order, 19);
	KUNIT_EXPECT_EQ(test, specs[1].right_order, 14);
	KUNIT_EXPECT_EQ(test, memx_lane_pages(specs, 2), 2u * (128 + 4 + 1));
}

static void rings_large_guest(struct kunit *test)
{
	struct memx_lane_spec specs[MEMX_MAX_LANES];

	KUNIT_ASSERT_EQ(test, memx_lane_specs(specs, 1, 1, 0, MIB(1024)), 2);
	KUNIT_EXPECT_EQ(test, specs[0].right_order, 20);
	KUNIT_EXPECT_EQ(test, specs[1].left_order, 20);
	KUNIT_EXPECT_EQ(test, memx_lane_pages(specs, 2), 2u * (256 + 8 + 1));
}

/* The step is where a 64th of the memory is what the larger rings take. */
static void rings_step(struct kunit *test)
{
	struct memx_lane_spec specs[MEMX_MAX_LANES];
	u64 ram = 64ull * 2 * (256 + 8 + 1);

	KUNIT_ASSERT_EQ(test, memx_lane_specs(specs, 1, 1, 0, ram), 2);
	KUNIT_EXPECT_EQ(test, specs[1].left_order, 20);
	KUNIT_ASSERT_EQ(test, memx_lane_specs(specs, 1, 1, 0, ram - 1), 2);
	KUNIT_EXPECT_EQ(test, specs[1].left_order, 19);
}

/* However small the guest and however many the lanes: two full requests fit, whatever the sizes. */
static void rings_minimum(struct kunit *test)
{
	struct memx_lane_spec specs[MEMX_MAX_LANES];
	u32 i;

	KUNIT_ASSERT_EQ(test, memx_lane_specs(specs, 4, 4, 0, 1), 8);
	for (i = 0; i < 8; i++) {
		u8 large = max(specs[i].left_order, specs[i].right_order);
		u8 small = min(specs[i].left_order, specs[i].right_order);

		KUNIT_EXPECT_EQ(test, specs[i].kind, i < 4 ? MEMX_LANE_STORE : MEMX_LANE_FETCH);
		KUNIT_EXPECT_GE(test, 1ul << large, 2 * MEMX_MAX_FRAME);
		KUNIT_EXPECT_LE(test, large, MEMX_VCHAN_MAX_ORDER);
		KUNIT_EXPECT_GE(test, 1ul << small, MEMX_RESERVE_REPLY + 12 * memx_reply_max(MEMX_OP_STORE, 32));
	}
}

static void rings_as_told(struct kunit *test)
{
	struct memx_lane_spec specs[MEMX_MAX_LANES];

	KUNIT_ASSERT_EQ(test, memx_lane_specs(specs, 1, 2, 20, MIB(64)), 3);
	KUNIT_EXPECT_EQ(test, specs[2].left_order, 20);
	KUNIT_EXPECT_EQ(test, memx_lane_specs(specs, 1, 1, 18, MIB(64)), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_lane_specs(specs, 1, 1, 21, MIB(64)), -EINVAL);
}

static void lanes_refused(struct kunit *test)
{
	struct memx_lane_spec specs[MEMX_MAX_LANES];

	KUNIT_EXPECT_EQ(test, memx_lane_specs(specs, 0, 1, 0, MIB(64)), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_lane_specs(specs, 1, 0, 0, MIB(64)), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_lane_specs(specs, 5, 4, 0, MIB(64)), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_lane_specs(specs, ~0u, 2, 0, MIB(64)), -EINVAL);
}

/* As many as were asked for in a second; a few are not none; and however many: never for long at a time, no slot twice. */
static void trimmer_bounded(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, memx_trim_looks(0, 100000), 0u);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(1, 100000), 1u);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(3, 100000), 1u);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(8, 100000), 2u);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(16384, 100000), 4096u);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(16384, 1000), 1000u);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(16384, 0), 0u);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(4 * MEMX_TRIM_LOOKS, ~0u), (u32)MEMX_TRIM_LOOKS);
	KUNIT_EXPECT_EQ(test, memx_trim_looks(~0u, ~0u), (u32)MEMX_TRIM_LOOKS);
}

static struct kunit_case sizing_cases[] = {
	KUNIT_CASE(lanes_by_cpus),
	KUNIT_CASE(rings_small_guest),
	KUNIT_CASE(rings_large_guest),
	KUNIT_CASE(rings_step),
	KUNIT_CASE(rings_minimum),
	KUNIT_CASE(rings_as_told),
	KUNIT_CASE(lanes_refused),
	KUNIT_CASE(trimmer_bounded),
	{}
};

static struct kunit_suite sizing_suite = {
	.name = "memx_sizing",
	.test_cases = sizing_cases,
};

kunit_test_suite(sizing_suite);
