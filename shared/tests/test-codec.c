// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-codec.c - every vector of shared/vectors/ is judged by codec.h as the vector says; the fields that the vectors name
 * are where the structures have them; the check has the values of check.txt; sizes and reserves add up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../vectors/judge.h"

/* The text files and the C structures agree on every field. */
#define FIELD(type, field, offset, size)								\
	_Static_assert(offsetof(struct type, field) == (offset), #type "." #field " lies elsewhere");	\
	_Static_assert(sizeof(((struct type *)0)->field) == (size), #type "." #field " has another size");
MEMX_VECTOR_FIELDS(FIELD)

/* In memory of exactly its size, so that reading beyond the frame is seen. */
static u8 *join(const struct memx_vector *v)
{
	u8 *frame = malloc(v->len);

	assert_non_null(frame);
	assert_int_equal(memx_vector_join(v->piece, v->pieces, frame, v->len), v->len);
	return frame;
}

static void vector(void **state)
{
	const struct memx_vector *v = *state;
	u8 *frame = join(v);
	struct memx_head head;
	struct memx_hdr again;
	int verdict = memx_judge(v, frame, v->len, &head);

	if (verdict != v->verdict)
		print_error("%s: verdict %d, expected %d\n", v->name, verdict, v->verdict);
	assert_int_equal(verdict, v->verdict);
	if (verdict >= 0) {
		memx_hdr_put(&again, &head);
		assert_memory_equal(&again, frame, sizeof(again));
	}
	free(frame);
}

/* A good frame that ends early is never taken for good. */
static void vector_cut(void **state)
{
	const struct memx_vector *v = *state;
	u8 *frame = join(v), *part;
	struct memx_head head;
	u32 cut;

	for (cut = 0; cut < v->len; cut += cut < 512 ? 1 : 509) {
		part = malloc(cut ? cut : 1);
		assert_non_null(part);
		memcpy(part, frame, cut);
		assert_true(memx_judge(v, part, cut, &head) < 0);
		free(part);
	}
	free(frame);
}

static void check_vector(void **state)
{
	const struct memx_check_vector *v = *state;
	u8 page[MEMX_PAGE_SIZE] __attribute__((aligned(8))) = { 0 };
	u8 copy[MEMX_PAGE_SIZE] __attribute__((aligned(8)));
	u64 seed = memx_session_seed(v->session);

	assert_int_equal(memx_vector_join(v->piece, v->pieces, page, sizeof(page)), sizeof(page));
	assert_true(memx_check(seed, v->slot, v->version, page) == v->check);
	assert_true(memx_copy_check(seed, v->slot, v->version, copy, page) == v->check);
	assert_memory_equal(copy, page, sizeof(page));
	page[1000] ^= 1;
	assert_false(memx_check(seed, v->slot, v->version, page) == v->check);
}

static void status_is_known_or_io(void **state)
{
	u32 i;

	(void)state;
	for (i = 0; i < MEMX_S_COUNT; i++)
		assert_int_equal(memx_status_known(i), i);
	assert_int_equal(memx_status_known(MEMX_S_COUNT), MEMX_S_IO);
	assert_int_equal(memx_status_known(UINT32_MAX), MEMX_S_IO);
}

static void versions_meet_in_the_newest_common(void **state)
{
	(void)state;
	assert_int_equal(memx_proto_common(1, 1, 1, 1), 1);
	assert_int_equal(memx_proto_common(1, 3, 2, 5), 3);
	assert_int_equal(memx_proto_common(2, 5, 1, 3), 3);
	assert_int_equal(memx_proto_common(1, 2, 3, 4), 0);
	assert_int_equal(memx_proto_common(3, 4, 1, 2), 0);
	assert_int_equal(memx_proto_common(2, 1, 1, 2), 0);	/* a range that is none */
	assert_int_equal(memx_proto_common(1, 2, 2, 1), 0);
}

static void slots_lie_in_extents(void **state)
{
	(void)state;
	assert_true(memx_slot_in(0, 0, 10, 1));
	assert_false(memx_slot_in(1, 0, 10, 1));
	assert_true(memx_slot_in(1023, 0, 10, 4096));
	assert_false(memx_slot_in(1024, 0, 10, 4096));
	assert_true(memx_slot_in(UINT32_MAX - 1, UINT32_MAX >> 10, 10, UINT32_MAX));
	assert_false(memx_slot_in(UINT32_MAX, UINT32_MAX >> 10, 10, UINT32_MAX));
}

static void extents_are_rounded_up(void **state)
{
	(void)state;
	assert_int_equal(memx_extents(0, 10), 0);
	assert_int_equal(memx_extents(1, 10), 1);
	assert_int_equal(memx_extents(1024, 10), 1);
	assert_int_equal(memx_extents(1025, 10), 2);
	assert_int_equal(memx_extents(UINT32_MAX, 6), 1U << 26);	/* does not wrap on the way */
}

static void longest_bodies_fit_their_limit(void **state)
{
	(void)state;
	assert_int_equal(memx_store_len(MEMX_MAX_PAGES), MEMX_MAX_BODY);
	assert_true(memx_fetched_len(MEMX_MAX_PAGES, MEMX_MAX_PAGES) <= MEMX_MAX_BODY);
	assert_true(memx_records_len(MEMX_MAX_RECORDS) <= MEMX_MAX_BODY);
	assert_true(memx_list_len(MEMX_MAX_EXTENTS) <= MEMX_MAX_BODY);
	assert_true(memx_scan_len(MEMX_MAX_SCAN) <= MEMX_MAX_BODY);
	assert_true(memx_pin_len(1U << MEMX_MAX_EXTENT_ORDER) <= MEMX_MAX_BODY);
	assert_true(memx_peers_len(MEMX_MAX_PEERS) <= MEMX_MAX_BODY);
	assert_true(MEMX_MAX_FRAME < 1U << MEMX_VCHAN_MAX_ORDER);
}

/* What a sender sets aside for a reply covers every shape that the reply may have. */
static void reply_max_covers_every_reply(void **state)
{
	u32 pages, good;

	(void)state;
	for (pages = 1; pages <= MEMX_MAX_PAGES; pages++) {
		for (good = 0; good <= pages; good++)
			assert_true(MEMX_HDR_LEN + memx_fetched_len(pages, good) <= memx_reply_max(MEMX_OP_FETCH, pages));
		assert_true(MEMX_HDR_LEN + memx_want_len(pages) <= memx_reply_max(MEMX_OP_STORE, pages));
		assert_true(MEMX_HDR_LEN + memx_want_len(pages) <= memx_reply_max(MEMX_OP_DISCARD, pages));
	}
	assert_int_equal(memx_reply_max(MEMX_OP_MAP, 0), 0);
	assert_true(memx_reply_max(MEMX_OP_ATTACH, 0) >= MEMX_HDR_LEN + sizeof(struct memx_attached));
	assert_true(memx_reply_max(MEMX_OP_HELLO, 0) >= MEMX_HDR_LEN + sizeof(struct memx_hello));
}

static void reserve_covers_the_relays_own_requests(void **state)
{
	(void)state;
	assert_true(MEMX_RESERVE_REPLY >= MEMX_RELAY_CREDITS * (MEMX_HDR_LEN + memx_records_len(MEMX_MAX_RECORDS)));
	assert_true(MEMX_RESERVE_REQUEST >= MEMX_RELAY_CREDITS * MEMX_HDR_LEN);
}

/* Every count of pages: the one right length is taken, the neighbours are not, nor is more than was agreed. */
static void io_length_is_exact(void **state)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_FETCH, MEMX_OP_DISCARD };
	struct memx_head head = { 0 };
	struct memx_io io = { 0 };
	u32 i, count;

	(void)state;
	for (i = 0; i < 3; i++) {
		for (count = 1; count <= MEMX_MAX_PAGES; count++) {
			head.op = ops[i];
			head.len = head.op == MEMX_OP_STORE ? memx_store_len(count) : memx_want_len(count);
			io.count = memx_put_le16((u16)count);
			assert_int_equal(memx_check_io(&head, &io, MEMX_MAX_PAGES), count);
			assert_int_equal(memx_check_io(&head, &io, count), count);
			assert_int_equal(memx_check_io(&head, &io, count - 1), -EINVAL);
			head.len++;
			assert_int_equal(memx_check_io(&head, &io, MEMX_MAX_PAGES), -EINVAL);
			head.len -= 2;
			assert_int_equal(memx_check_io(&head, &io, MEMX_MAX_PAGES), -EINVAL);
		}
	}
	io.count = memx_put_le16(MEMX_MAX_PAGES + 1);
	head.op = MEMX_OP_STORE;
	head.len = memx_store_len(MEMX_MAX_PAGES + 1);
	assert_int_equal(memx_check_io(&head, &io, 64), -EINVAL);	/* not even where the receiver agreed to more */
}

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(status_is_known_or_io),
		cmocka_unit_test(versions_meet_in_the_newest_common),
		cmocka_unit_test(slots_lie_in_extents),
		cmocka_unit_test(extents_are_rounded_up),
		cmocka_unit_test(longest_bodies_fit_their_limit),
		cmocka_unit_test(reply_max_covers_every_reply),
		cmocka_unit_test(reserve_covers_the_relays_own_requests),
		cmocka_unit_test(io_length_is_exact),
	};
	static struct CMUnitTest tests[2 * MEMX_VECTOR_COUNT + MEMX_CHECK_COUNT + 8];
	static char names[MEMX_VECTOR_COUNT][96];
	size_t n = 0, i;

	for (i = 0; i < MEMX_VECTOR_COUNT; i++) {
		void *v = (void *)(uintptr_t)&memx_vectors[i];

		tests[n++] = (struct CMUnitTest) { .name = memx_vectors[i].name, .test_func = vector, .initial_state = v };
		if (memx_vectors[i].verdict < 0)
			continue;
		snprintf(names[i], sizeof(names[i]), "%s, cut short", memx_vectors[i].name);
		tests[n++] = (struct CMUnitTest) { .name = names[i], .test_func = vector_cut, .initial_state = v };
	}
	for (i = 0; i < MEMX_CHECK_COUNT; i++)
		tests[n++] = (struct CMUnitTest) { .name = memx_check_vectors[i].name, .test_func = check_vector,
						   .initial_state = (void *)(uintptr_t)&memx_check_vectors[i] };
	for (i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		tests[n++] = fixed[i];
	return _cmocka_run_group_tests("codec", tests, n, NULL, NULL);
}
