// SPDX-License-Identifier: GPL-2.0-only
/*
 * vectors_test.c - the test vectors of shared/vectors, judged by the kernel's own build of the codec and of XXH64.
 *
 * The same files and the same judge as in user space, so that both sides of a hop agree on every byte.
 */
#include "kit.h"
#include "../shared/vectors/judge.h"

static void vector_name(const struct memx_vector *v, char *to)
{
	strscpy(to, v->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(vector, memx_vectors, vector_name);

/* The verdict is the expected one, and the header of a good frame is put together again from what was read. */
static void vector_judged(struct kunit *test)
{
	const struct memx_vector *v = test->param_value;
	u8 *frame = kit_alloc(test, v->len);
	struct memx_head head;
	struct memx_hdr again;
	int verdict;

	KUNIT_ASSERT_EQ(test, memx_vector_join(v->piece, v->pieces, frame, v->len), v->len);
	verdict = memx_judge(v, frame, v->len, &head);
	KUNIT_EXPECT_EQ(test, verdict, v->verdict);
	if (verdict < 0)
		return;
	memx_hdr_put(&again, &head);
	KUNIT_EXPECT_EQ(test, memcmp(&again, frame, sizeof(again)), 0);
}

static void check_name(const struct memx_check_vector *v, char *to)
{
	strscpy(to, v->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(check, memx_check_vectors, check_name);

static void check_value(struct kunit *test)
{
	const struct memx_check_vector *v = test->param_value;
	u8 *page = kit_alloc(test, MEMX_PAGE_SIZE), *copy = kit_alloc(test, MEMX_PAGE_SIZE);
	u64 seed = memx_session_seed(v->session);

	KUNIT_ASSERT_EQ(test, memx_vector_join(v->piece, v->pieces, page, MEMX_PAGE_SIZE), (u32)MEMX_PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, memx_check(seed, v->slot, v->version, page), v->check);
	KUNIT_EXPECT_EQ(test, memx_copy_check(seed, v->slot, v->version, copy, page), v->check);
	KUNIT_EXPECT_MEMEQ(test, copy, page, MEMX_PAGE_SIZE);
	page[1000] ^= 1;
	KUNIT_EXPECT_NE(test, memx_check(seed, v->slot, v->version, page), v->check);
}

static struct kunit_case vectors_cases[] = {
	KUNIT_CASE_PARAM(vector_judged, vector_gen_params),
	KUNIT_CASE_PARAM(check_value, check_gen_params),
	{}
};

static struct kunit_suite vectors_suite = {
	.name = "memx_vectors",
	.test_cases = vectors_cases,
};

kunit_test_suite(vectors_suite);
