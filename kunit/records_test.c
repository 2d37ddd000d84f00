// SPDX-License-Identifier: GPL-2.0-only
/*
 * records_test.c - the map: what a record must look like, which may follow which, all of a frame or nothing.
 */
#include "kit.h"
#include "../guest/records.h"

enum { EXTENTS = 40 };

static int records_setup(struct kunit *test)
{
	struct memx_records_table *t = kit_alloc(test, sizeof(*t));

	KUNIT_ASSERT_EQ(test, memx_records_init(t, EXTENTS), 0);
	test->priv = t;
	return 0;
}

static void records_teardown(struct kunit *test)
{
	if (test->priv)
		memx_records_free(test->priv);
}

static int take(struct kunit *test, struct memx_record rec)
{
	return memx_records_take(test->priv, &rec, 1);
}

static u64 generation(struct kunit *test, u32 extent)
{
	return memx_records_generation(test->priv, extent);
}

static void record_layout(struct kunit *test)
{
	struct memx_record rec = kit_record(0x01020304, 0x1122334455667788ull, 2, MEMX_R_SYNCING);
	const u8 *b = (const u8 *)&rec;
	static const u8 head[] = { 4, 3, 2, 1, 2, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11 };

	KUNIT_EXPECT_EQ(test, sizeof(rec), 144ul);
	KUNIT_EXPECT_EQ(test, memcmp(b, head, sizeof(head)), 0);
	KUNIT_EXPECT_EQ(test, b[16], 0xd0);		/* donor of the first replica */
	KUNIT_EXPECT_EQ(test, b[32], 1000 & 0xff);	/* its instance */
	KUNIT_EXPECT_EQ(test, b[40], MEMX_R_LIVE);
	KUNIT_EXPECT_EQ(test, b[48], 0xd1);
	KUNIT_EXPECT_EQ(test, b[72], MEMX_R_SYNCING);
	KUNIT_EXPECT_EQ(test, b[80], 0);
}

static void record_taken(struct kunit *test)
{
	struct memx_records_table *t = test->priv;

	KUNIT_EXPECT_EQ(test, generation(test, 3), 0ull);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(3, 1, 2, MEMX_R_LIVE)), 0);
	KUNIT_EXPECT_EQ(test, generation(test, 3), 1ull);
	KUNIT_EXPECT_EQ(test, memx_records_count(t), 1u);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(3, 7, 2, MEMX_R_SYNCING)), 0);
	KUNIT_EXPECT_EQ(test, generation(test, 3), 7ull);
	KUNIT_EXPECT_EQ(test, memx_records_count(t), 1u);
	KUNIT_EXPECT_EQ(test, t->rec[3].replica[1].state, MEMX_R_SYNCING);
}

/* An older record never follows; the same may come again, another one of that generation may not. */
static void record_older(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, take(test, kit_record(3, 5, 2, MEMX_R_LIVE)), 0);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(3, 4, 2, MEMX_R_LIVE)), -EINVAL);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(3, 5, 2, MEMX_R_LIVE)), 0);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(3, 5, 2, MEMX_R_STALE)), -EINVAL);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(3, 5, 1, MEMX_R_LIVE)), -EINVAL);
	KUNIT_EXPECT_EQ(test, generation(test, 3), 5ull);
	KUNIT_EXPECT_EQ(test, ((struct memx_records_table *)test->priv)->rec[3].replicas, 2);
}

static void record_no_live_replica(struct kunit *test)
{
	struct memx_record rec = kit_record(3, 1, 2, MEMX_R_SYNCING);

	rec.replica[0].state = MEMX_R_STALE;
	KUNIT_EXPECT_EQ(test, take(test, rec), -EINVAL);
	rec.replica[1].state = MEMX_R_LIVE;
	KUNIT_EXPECT_EQ(test, take(test, rec), 0);
}

static void record_donor_twice(struct kunit *test)
{
	struct memx_record rec = kit_record(3, 1, 3, MEMX_R_LIVE);

	memcpy(rec.replica[2].donor, rec.replica[0].donor, sizeof(rec.replica[2].donor));
	KUNIT_EXPECT_EQ(test, take(test, rec), -EINVAL);
}

static void record_malformed(struct kunit *test)
{
	struct memx_record rec;

	KUNIT_EXPECT_EQ(test, take(test, kit_record(EXTENTS, 1, 1, 0)), -EINVAL);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(~0u, 1, 1, 0)), -EINVAL);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(0, 0, 1, 0)), -EINVAL);
	KUNIT_EXPECT_EQ(test, take(test, kit_record(0, 1, 0, 0)), -EINVAL);
	rec = kit_record(0, 1, 4, MEMX_R_LIVE);
	rec.replicas = 5;
	KUNIT_EXPECT_EQ(test, take(test, rec), -EINVAL);
	rec = kit_record(0, 1, 2, MEMX_R_STALE + 1);
	KUNIT_EXPECT_EQ(test, take(test, rec), -EINVAL);
	rec = kit_record(0, 1, 2, MEMX_R_NONE);
	KUNIT_EXPECT_EQ(test, take(test, rec), -EINVAL);
	rec = kit_record(0, 1, 1, MEMX_R_LIVE);
	rec.resv[1] = 1;
	KUNIT_EXPECT_EQ(test, take(test, rec), -EINVAL);
	rec = kit_record(0, 1, 1, MEMX_R_LIVE);
	rec.replica[3].donor[5] = 1;	/* a place that is not used */
	KUNIT_EXPECT_EQ(test, take(test, rec), -EINVAL);
	KUNIT_EXPECT_EQ(test, generation(test, 0), 0ull);
}

/* One bad record in a frame, and none of the frame is taken. */
static void records_all_or_nothing(struct kunit *test)
{
	struct memx_record recs[3] = {
		kit_record(1, 1, 1, 0), kit_record(2, 1, 1, 0), kit_record(3, 0, 1, 0),
	};

	KUNIT_EXPECT_EQ(test, memx_records_take(test->priv, recs, 3), -EINVAL);
	KUNIT_EXPECT_EQ(test, generation(test, 1), 0ull);
	KUNIT_EXPECT_EQ(test, generation(test, 2), 0ull);
	recs[2] = kit_record(1, 2, 1, 0);	/* the same extent twice */
	KUNIT_EXPECT_EQ(test, memx_records_take(test->priv, recs, 3), -EINVAL);
	KUNIT_EXPECT_EQ(test, generation(test, 1), 0ull);
	recs[2] = kit_record(3, 2, 1, 0);
	KUNIT_EXPECT_EQ(test, memx_records_take(test->priv, recs, 3), 0);
	KUNIT_EXPECT_EQ(test, generation(test, 3), 2ull);
}

static void records_count(struct kunit *test)
{
	struct memx_record *recs = kit_alloc(test, (MEMX_MAX_RECORDS + 1) * sizeof(*recs));
	u32 i;

	for (i = 0; i <= MEMX_MAX_RECORDS; i++)
		recs[i] = kit_record(i, 1, 1, 0);
	KUNIT_EXPECT_EQ(test, memx_records_take(test->priv, recs, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_records_take(test->priv, recs, MEMX_MAX_RECORDS + 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_records_take(test->priv, recs, MEMX_MAX_RECORDS), 0);
}

/* The map is handed over in frames: every record once, in the order of extents, byte for byte. */
static void records_walk(struct kunit *test)
{
	static const u32 held[] = { 0, 1, 5, 17, 38, 39 };
	struct memx_record out[4], want;
	u32 next = 0, seen = 0, n, i;

	for (i = 0; i < ARRAY_SIZE(held); i++)
		KUNIT_ASSERT_EQ(test, take(test, kit_record(held[i], 10 + i, 2, MEMX_R_LIVE)), 0);
	do {
		n = memx_records_walk(test->priv, &next, out, ARRAY_SIZE(out));
		for (i = 0; i < n; i++, seen++) {
			KUNIT_ASSERT_LT(test, seen, (u32)ARRAY_SIZE(held));
			want = kit_record(held[seen], 10 + seen, 2, MEMX_R_LIVE);
			KUNIT_EXPECT_EQ(test, memcmp(&out[i], &want, sizeof(want)), 0);
		}
	} while (n == ARRAY_SIZE(out));
	KUNIT_EXPECT_EQ(test, seen, (u32)ARRAY_SIZE(held));
	KUNIT_EXPECT_EQ(test, memx_records_count(test->priv), seen);
	KUNIT_EXPECT_EQ(test, memx_records_walk(test->priv, &next, out, 4), 0u);
}

static void records_generation_range(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, generation(test, EXTENTS), 0ull);
	KUNIT_EXPECT_EQ(test, generation(test, ~0u), 0ull);
}

static struct kunit_case records_cases[] = {
	KUNIT_CASE(record_layout),
	KUNIT_CASE(record_taken),
	KUNIT_CASE(record_older),
	KUNIT_CASE(record_no_live_replica),
	KUNIT_CASE(record_donor_twice),
	KUNIT_CASE(record_malformed),
	KUNIT_CASE(records_all_or_nothing),
	KUNIT_CASE(records_count),
	KUNIT_CASE(records_walk),
	KUNIT_CASE(records_generation_range),
	{}
};

static struct kunit_suite records_suite = {
	.name = "memx_records",
	.init = records_setup,
	.exit = records_teardown,
	.test_cases = records_cases,
};

kunit_test_suite(records_suite);
