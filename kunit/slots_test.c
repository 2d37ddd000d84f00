// SPDX-License-Identifier: GPL-2.0-only
/*
 * slots_test.c - the slot table: what is believed of a slot at each step of its life, the trimmer's rule,
 * and pages of one repeated word.
 */
#include <kunit/test.h>

#include "../guest/slots.h"

enum { COUNT = 200, ORDER = 6 };

static struct memx_slots *table(struct kunit *test)
{
	return test->priv;
}

static int slots_setup(struct kunit *test)
{
	struct memx_slots *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, s);
	KUNIT_ASSERT_EQ(test, memx_slots_init(s, COUNT, ORDER), 0);
	test->priv = s;
	return 0;
}

static void slots_teardown(struct kunit *test)
{
	if (test->priv)
		memx_slots_free(test->priv);
}

/* A whole store: queued, sent, acknowledged. Returns its version. */
static u64 store(struct kunit *test, u32 n, u64 check)
{
	u64 version;

	KUNIT_ASSERT_EQ(test, memx_slot_begin(table(test), n), 0);
	version = memx_slot_send(table(test), n);
	KUNIT_ASSERT_EQ(test, memx_slot_acked(table(test), n, version, check, 0), 0);
	return version;
}

static void slots_sizes(struct kunit *test)
{
	struct memx_slots s = {};

	KUNIT_EXPECT_EQ(test, sizeof(struct memx_slot), 16ul);
	KUNIT_EXPECT_EQ(test, memx_slots_init(&s, 0, ORDER), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_slots_init(&s, 10, MEMX_MIN_EXTENT_ORDER - 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, memx_slots_init(&s, 10, MEMX_MAX_EXTENT_ORDER + 1), -EINVAL);
}

static void slots_begin_absent(struct kunit *test)
{
	u64 version = 9, check = 9;

	KUNIT_EXPECT_EQ(test, memx_slot_state(table(test), 5), MEMX_SLOT_ABSENT);
	KUNIT_EXPECT_EQ(test, memx_slot_version(table(test), 5), 0ull);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 5, &version, &check), -ENODATA);
	KUNIT_EXPECT_FALSE(test, memx_slot_remote(table(test), 5));
}

static void slots_store(struct kunit *test)
{
	u64 version, check;

	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), 7), 0);
	KUNIT_EXPECT_TRUE(test, memx_slot_busy(table(test), 7));
	KUNIT_EXPECT_EQ(test, memx_slot_send(table(test), 7), 1ull);
	KUNIT_EXPECT_TRUE(test, memx_slot_remote(table(test), 7));
	KUNIT_EXPECT_EQ(test, memx_slot_acked(table(test), 7, 1, 0x1122334455667788ull, 3), 0);
	KUNIT_EXPECT_FALSE(test, memx_slot_busy(table(test), 7));
	KUNIT_EXPECT_EQ(test, memx_slot_state(table(test), 7), MEMX_SLOT_STORED);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 7, &version, &check), 0);
	KUNIT_EXPECT_EQ(test, version, 1ull);
	KUNIT_EXPECT_EQ(test, check, 0x1122334455667788ull);
	KUNIT_EXPECT_EQ(test, memx_slot_state(table(test), 6), MEMX_SLOT_ABSENT);
	KUNIT_EXPECT_EQ(test, memx_slot_state(table(test), 8), MEMX_SLOT_ABSENT);
}

/* While a store is under way nobody is told what the slot holds, and no second store begins. */
static void slots_busy(struct kunit *test)
{
	u64 version, check;

	store(test, 1, 11);
	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), 1), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), 1), -EBUSY);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 1, &version, &check), -EBUSY);
	KUNIT_EXPECT_EQ(test, memx_slot_same(table(test), 1, 0), -EBUSY);
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), 1, true), 0ull);
}

/* Sent twice (the channel was lost between): only the last version can be acknowledged. */
static void slots_resent(struct kunit *test)
{
	u64 version, check;

	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), 2), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_send(table(test), 2), 1ull);
	KUNIT_EXPECT_EQ(test, memx_slot_send(table(test), 2), 2ull);
	KUNIT_EXPECT_EQ(test, memx_slot_acked(table(test), 2, 1, 5, 0), -ESTALE);
	KUNIT_EXPECT_TRUE(test, memx_slot_busy(table(test), 2));
	KUNIT_EXPECT_EQ(test, memx_slot_acked(table(test), 2, 2, 6, 0), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 2, &version, &check), 0);
	KUNIT_EXPECT_EQ(test, version, 2ull);
	KUNIT_EXPECT_EQ(test, check, 6ull);
	KUNIT_EXPECT_EQ(test, memx_slot_acked(table(test), 2, 2, 7, 0), -ESTALE);	/* twice */
}

/* A failed store leaves an absent slot: the old page may be gone at the donors. Versions go on. */
static void slots_failed(struct kunit *test)
{
	u64 version, check;

	store(test, 3, 33);
	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), 3), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_send(table(test), 3), 2ull);
	memx_slot_failed(table(test), 3);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 3, &version, &check), -ENODATA);
	KUNIT_EXPECT_FALSE(test, memx_slot_busy(table(test), 3));
	KUNIT_EXPECT_TRUE(test, memx_slot_remote(table(test), 3));
	KUNIT_EXPECT_EQ(test, store(test, 3, 34), 3ull);
}

static void slots_same(struct kunit *test)
{
	u64 version, word = 0;

	KUNIT_EXPECT_EQ(test, memx_slot_same(table(test), 4, 0xabcdabcdabcdabcdull), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 4, &version, &word), 1);
	KUNIT_EXPECT_EQ(test, word, 0xabcdabcdabcdabcdull);
	KUNIT_EXPECT_FALSE(test, memx_slot_remote(table(test), 4));
	KUNIT_EXPECT_EQ(test, memx_slot_version(table(test), 4), 0ull);
}

/* A page that stays here over one that was stored: donors still hold the old one, which may be discarded. */
static void slots_same_over_stored(struct kunit *test)
{
	u64 version, word;

	store(test, 4, 44);
	KUNIT_EXPECT_EQ(test, memx_slot_same(table(test), 4, 0), 0);
	KUNIT_EXPECT_TRUE(test, memx_slot_remote(table(test), 4));
	KUNIT_EXPECT_TRUE(test, memx_slot_trimmable(table(test), 4, false));
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), 4, false), 2ull);
	KUNIT_EXPECT_FALSE(test, memx_slot_remote(table(test), 4));
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 4, &version, &word), 1);	/* and is what it was */
	KUNIT_EXPECT_EQ(test, word, 0ull);
}

static void slots_discard_freed(struct kunit *test)
{
	u64 version, check;

	store(test, 9, 99);
	KUNIT_EXPECT_FALSE(test, memx_slot_trimmable(table(test), 9, false));	/* in use */
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), 9, false), 0ull);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 9, &version, &check), 0);
	KUNIT_EXPECT_TRUE(test, memx_slot_trimmable(table(test), 9, true));
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), 9, true), 2ull);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 9, &version, &check), -ENODATA);
	KUNIT_EXPECT_FALSE(test, memx_slot_trimmable(table(test), 9, true));
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), 9, true), 0ull);	/* once is enough */
	KUNIT_EXPECT_EQ(test, store(test, 9, 100), 3ull);
}

/* A discard that did not get through: donors may hold the page still. Not if a store came meanwhile. */
static void slots_undiscarded(struct kunit *test)
{
	u64 version;

	store(test, 10, 1);
	version = memx_slot_discard(table(test), 10, true);
	memx_slot_undiscarded(table(test), 10, version);
	KUNIT_EXPECT_TRUE(test, memx_slot_trimmable(table(test), 10, true));
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), 10, true), version + 1);
	memx_slot_undiscarded(table(test), 10, version);
	KUNIT_EXPECT_FALSE(test, memx_slot_remote(table(test), 10));
}

/* A freed page of one word needs nobody's help. */
static void slots_discard_freed_same(struct kunit *test)
{
	u64 version, check;

	KUNIT_EXPECT_EQ(test, memx_slot_same(table(test), 11, 1), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), 11, true), 0ull);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), 11, &version, &check), -ENODATA);
}

static void slots_version_ends(struct kunit *test)
{
	struct memx_slot *slot = &table(test)->slot[12];

	slot->meta = (MEMX_VERSION_MAX - 1) << 16;
	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), 12), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_send(table(test), 12), MEMX_VERSION_MAX);
	KUNIT_EXPECT_EQ(test, memx_slot_send(table(test), 12), 0ull);
	KUNIT_EXPECT_EQ(test, memx_slot_version(table(test), 12), MEMX_VERSION_MAX);
}

static void slots_out_of_range(struct kunit *test)
{
	u64 version, check;

	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), COUNT), -ERANGE);
	KUNIT_EXPECT_EQ(test, memx_slot_send(table(test), COUNT), 0ull);
	KUNIT_EXPECT_EQ(test, memx_slot_acked(table(test), ~0u, 1, 1, 0), -ERANGE);
	KUNIT_EXPECT_EQ(test, memx_slot_same(table(test), COUNT, 1), -ERANGE);
	KUNIT_EXPECT_EQ(test, memx_slot_want(table(test), COUNT, &version, &check), -ERANGE);
	KUNIT_EXPECT_EQ(test, memx_slot_discard(table(test), COUNT, true), 0ull);
	memx_slot_failed(table(test), COUNT);
	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), COUNT - 1), 0);
}

/* The key's generation and the version do not touch each other. */
static void slots_key_generation(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, memx_slot_begin(table(test), 13), 0);
	memx_slot_send(table(test), 13);
	KUNIT_EXPECT_EQ(test, memx_slot_acked(table(test), 13, 1, 0, 255), 0);
	KUNIT_EXPECT_EQ(test, memx_slot_version(table(test), 13), 1ull);
	KUNIT_EXPECT_EQ(test, table(test)->slot[13].meta >> 8 & 0xff, 255ull);
	KUNIT_EXPECT_EQ(test, store(test, 13, 0), 2ull);
	KUNIT_EXPECT_EQ(test, table(test)->slot[13].meta >> 8 & 0xff, 0ull);
}

static void same_filled(struct kunit *test)
{
	u64 *page = kunit_kzalloc(test, MEMX_PAGE_SIZE, GFP_KERNEL), word = 1;
	unsigned int at;

	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_EXPECT_TRUE(test, memx_same_filled(page, &word));
	KUNIT_EXPECT_EQ(test, word, 0ull);
	memx_same_fill(page, 0x0102030405060708ull);
	KUNIT_EXPECT_EQ(test, page[0], 0x0102030405060708ull);
	KUNIT_EXPECT_EQ(test, page[511], 0x0102030405060708ull);
	KUNIT_EXPECT_TRUE(test, memx_same_filled(page, &word));
	KUNIT_EXPECT_EQ(test, word, 0x0102030405060708ull);
	/* One bit anywhere, and it is not. */
	for (at = 0; at < 512; at++) {
		page[at] ^= 1ull << (at & 63);
		KUNIT_EXPECT_FALSE(test, memx_same_filled(page, &word));
		page[at] ^= 1ull << (at & 63);
	}
}

static struct kunit_case slots_cases[] = {
	KUNIT_CASE(slots_sizes),
	KUNIT_CASE(slots_begin_absent),
	KUNIT_CASE(slots_store),
	KUNIT_CASE(slots_busy),
	KUNIT_CASE(slots_resent),
	KUNIT_CASE(slots_failed),
	KUNIT_CASE(slots_same),
	KUNIT_CASE(slots_same_over_stored),
	KUNIT_CASE(slots_discard_freed),
	KUNIT_CASE(slots_undiscarded),
	KUNIT_CASE(slots_discard_freed_same),
	KUNIT_CASE(slots_version_ends),
	KUNIT_CASE(slots_out_of_range),
	KUNIT_CASE(slots_key_generation),
	KUNIT_CASE(same_filled),
	{}
};

static struct kunit_suite slots_suite = {
	.name = "memx_slots",
	.init = slots_setup,
	.exit = slots_teardown,
	.test_cases = slots_cases,
};

kunit_test_suite(slots_suite);
