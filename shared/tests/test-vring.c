// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-vring.c - the arithmetic of a ring's end, with a peer that writes whatever it likes into the shared page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memx/vring.h"

enum { LEFT = 1024, RIGHT = 4096 };

struct pair {
	struct memx_vchan_page *page;
	u8 left[LEFT], right[RIGHT];
	struct memx_vring server, client;
};

static int set_up(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	p->page = calloc(1, sizeof(*p->page));
	if (!p->page) {
		free(p);
		return -1;
	}
	memx_vring_reset_shared(p->page, 10, 12);
	memx_vring_init(&p->server, p->page, true, p->left, LEFT, p->right, RIGHT);
	memx_vring_init(&p->client, p->page, false, p->left, LEFT, p->right, RIGHT);
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	struct pair *p = *state;

	free(p->page);
	free(p);
	return 0;
}

/* Starts both ends again with indices that are about to wrap. */
static void start_at(struct pair *p, u32 index)
{
	p->page->left.cons = p->page->left.prod = p->page->right.cons = p->page->right.prod = index;
	memx_vring_init(&p->server, p->page, true, p->left, LEFT, p->right, RIGHT);
	memx_vring_init(&p->client, p->page, false, p->left, LEFT, p->right, RIGHT);
}

static void an_offer_looks_as_libxenvchan_expects(void **state)
{
	struct pair *p = *state;

	assert_int_equal(p->page->left_order, 10);
	assert_int_equal(p->page->right_order, 12);
	assert_int_equal(p->page->cli_live, 2);
	assert_int_equal(p->page->srv_live, 1);
	assert_int_equal(p->page->cli_notify, MEMX_VCHAN_WRITE);
	assert_int_equal(p->page->srv_notify, 0);
	assert_int_equal(p->page->left.prod | p->page->left.cons | p->page->right.prod | p->page->right.cons, 0);
}

static void the_server_sends_right_and_the_client_left(void **state)
{
	struct pair *p = *state;

	memx_vring_put(&p->server, 0, "request", 8);
	memx_vring_publish(&p->server, 8);
	assert_int_equal(p->page->right.prod, 8);
	assert_string_equal((char *)p->right, "request");
	memx_vring_put(&p->client, 0, "reply", 6);
	memx_vring_publish(&p->client, 6);
	assert_int_equal(p->page->left.prod, 6);
	assert_string_equal((char *)p->left, "reply");
	assert_int_equal(memx_vring_avail(&p->client), 8);
	assert_int_equal(memx_vring_avail(&p->server), 6);
}

static void what_is_put_is_not_seen_before_publish(void **state)
{
	struct pair *p = *state;

	memx_vring_put(&p->server, 0, "x", 1);
	assert_int_equal(memx_vring_avail(&p->client), 0);
	memx_vring_publish(&p->server, 1);
	assert_int_equal(memx_vring_avail(&p->client), 1);
}

static void a_full_ring_has_no_space_and_an_empty_one_all(void **state)
{
	struct pair *p = *state;
	u8 data[RIGHT];

	memset(data, 7, sizeof(data));
	assert_int_equal(memx_vring_space(&p->server), RIGHT);
	memx_vring_put(&p->server, 0, data, RIGHT);
	memx_vring_publish(&p->server, RIGHT);
	assert_int_equal(memx_vring_space(&p->server), 0);
	assert_int_equal(memx_vring_avail(&p->client), RIGHT);
	memx_vring_consume(&p->client, 1);
	assert_int_equal(memx_vring_space(&p->server), 1);
	memx_vring_consume(&p->client, RIGHT - 1);
	assert_int_equal(memx_vring_space(&p->server), RIGHT);
	assert_int_equal(memx_vring_avail(&p->client), 0);
}

/* Frames of every length across the end of the ring, and across the end of the index. */
static void stream(struct pair *p, u32 index)
{
	u8 out[300], in[300];
	u32 i, len, seq = 0;

	start_at(p, index);
	for (len = 1; len <= 300; len++) {
		for (i = 0; i < len; i++)
			out[i] = (u8)(seq++ * 31);
		assert_true(memx_vring_space(&p->server) >= (int)len);
		memx_vring_put(&p->server, 0, out, len / 3);
		memx_vring_put(&p->server, len / 3, out + len / 3, len - len / 3);
		memx_vring_publish(&p->server, len);
		assert_int_equal(memx_vring_avail(&p->client), len);
		memx_vring_peek(&p->client, 0, in, len);
		assert_memory_equal(in, out, len);
		memx_vring_peek(&p->client, len / 2, in, len - len / 2);
		assert_memory_equal(in, out + len / 2, len - len / 2);
		memx_vring_consume(&p->client, len);
	}
}

static void frames_wrap_around_the_ring(void **state)
{
	stream(*state, 0);
}

static void indices_wrap_around_32_bits(void **state)
{
	stream(*state, UINT32_MAX - 5000);
}

/* ---- a hostile peer ---------------------------------------------------------------------------------------------------- */

static void a_producer_that_claims_too_much_breaks_receiving(void **state)
{
	struct pair *p = *state;

	p->page->left.prod = LEFT + 1;
	assert_int_equal(memx_vring_avail(&p->server), -EPROTO);
	p->page->left.prod = 0;
	assert_int_equal(memx_vring_avail(&p->server), -EPROTO);	/* for good */
	assert_int_equal(memx_vring_space(&p->server), RIGHT);		/* the other direction is not judged by it */
}

static void a_producer_that_runs_backwards_breaks_receiving(void **state)
{
	struct pair *p = *state;

	p->page->left.prod = 100;
	assert_int_equal(memx_vring_avail(&p->server), 100);
	memx_vring_consume(&p->server, 100);
	p->page->left.prod = 99;
	assert_int_equal(memx_vring_avail(&p->server), -EPROTO);
}

static void a_consumer_that_overtakes_breaks_sending(void **state)
{
	struct pair *p = *state;

	p->page->right.cons = 1;				/* of nothing that was sent */
	assert_int_equal(memx_vring_space(&p->server), -EPROTO);
	p->page->right.cons = 0;
	assert_int_equal(memx_vring_space(&p->server), -EPROTO);
	assert_int_equal(memx_vring_avail(&p->server), 0);
}

static void a_consumer_that_runs_backwards_breaks_sending(void **state)
{
	struct pair *p = *state;

	start_at(p, 5);
	p->page->right.cons = 4;				/* 1 byte used: could be true ... */
	assert_int_equal(memx_vring_space(&p->server), RIGHT - 1);
	p->page->right.cons = 5 - RIGHT - 1;		/* ... this could not */
	assert_int_equal(memx_vring_space(&p->server), -EPROTO);
}

static void our_own_indices_are_never_read_back(void **state)
{
	struct pair *p = *state;
	u8 byte;

	p->page->left.prod = 3;
	p->left[0] = 11;
	p->page->left.cons = 0x12345678;			/* the peer scribbles over what is ours */
	p->page->right.prod = 0x87654321;
	assert_int_equal(memx_vring_avail(&p->server), 3);
	memx_vring_peek(&p->server, 0, &byte, 1);
	assert_int_equal(byte, 11);
	memx_vring_consume(&p->server, 1);
	assert_int_equal(p->page->left.cons, 1);
	assert_int_equal(memx_vring_space(&p->server), RIGHT);
	memx_vring_publish(&p->server, 2);
	assert_int_equal(p->page->right.prod, 2);
}

static void sizes_in_the_shared_page_are_never_believed(void **state)
{
	struct pair *p = *state;

	p->page->left_order = 31;
	p->page->right_order = 31;
	p->page->left.prod = LEFT + 1;
	assert_int_equal(memx_vring_space(&p->server), RIGHT);
	assert_int_equal(memx_vring_avail(&p->server), -EPROTO);
}

/* Any index at all: either it is refused, or no more is offered than there is. */
static void random_indices_never_offer_more_than_the_ring(void **state)
{
	struct pair *p = *state;
	u32 seed = 1, i;
	u8 data[RIGHT];
	int n;

	for (i = 0; i < 200000; i++) {
		seed = seed * 1664525 + 1013904223;
		start_at(p, seed);
		seed = seed * 1664525 + 1013904223;
		p->page->left.prod = i & 1 ? seed : p->page->left.cons + (seed >> 20);
		p->page->right.cons = i & 2 ? seed : p->page->right.prod - (seed >> 18);
		n = memx_vring_avail(&p->server);
		assert_true(n == -EPROTO || (n >= 0 && n <= LEFT));
		if (n > 0)
			memx_vring_peek(&p->server, 0, data, (u32)n);
		n = memx_vring_space(&p->server);
		assert_true(n == -EPROTO || (n >= 0 && n <= RIGHT));
		if (n > 0)
			memx_vring_put(&p->server, 0, data, (u32)n);
	}
}

/* ---- who is to be told ------------------------------------------------------------------------------------------------- */

static void a_wish_is_served_once(void **state)
{
	struct pair *p = *state;

	p->page->cli_notify = 0;
	assert_false(memx_vring_publish(&p->client, 0));
	memx_vring_want(&p->server, MEMX_VCHAN_WRITE);
	assert_int_equal(p->page->cli_notify, MEMX_VCHAN_WRITE);
	assert_true(memx_vring_publish(&p->client, 1));
	assert_int_equal(p->page->cli_notify, 0);
	assert_false(memx_vring_publish(&p->client, 1));
}

static void a_new_offer_wants_to_hear_of_the_first_write(void **state)
{
	struct pair *p = *state;

	assert_true(memx_vring_publish(&p->client, 1));
	assert_false(memx_vring_publish(&p->client, 1));
}

static void wishes_for_data_and_for_room_are_kept_apart(void **state)
{
	struct pair *p = *state;

	memx_vring_want(&p->client, MEMX_VCHAN_READ);
	assert_int_equal(p->page->srv_notify, MEMX_VCHAN_READ);
	assert_false(memx_vring_publish(&p->server, 1));	/* it asked for room, not for data */
	assert_int_equal(p->page->srv_notify, MEMX_VCHAN_READ);
	p->page->left.prod = 1;
	assert_true(memx_vring_consume(&p->server, 1));
	assert_int_equal(p->page->srv_notify, 0);
}

static void foreign_bits_of_the_notify_byte_are_left_alone(void **state)
{
	struct pair *p = *state;

	p->page->srv_notify = 0xf0 | MEMX_VCHAN_WRITE;
	assert_true(memx_vring_publish(&p->server, 1));
	assert_int_equal(p->page->srv_notify, 0xf0);
	memx_vring_want(&p->server, MEMX_VCHAN_READ);
	assert_int_equal(p->page->cli_notify, MEMX_VCHAN_WRITE | MEMX_VCHAN_READ);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_offer_looks_as_libxenvchan_expects),
		TEST(the_server_sends_right_and_the_client_left),
		TEST(what_is_put_is_not_seen_before_publish),
		TEST(a_full_ring_has_no_space_and_an_empty_one_all),
		TEST(frames_wrap_around_the_ring),
		TEST(indices_wrap_around_32_bits),
		TEST(a_producer_that_claims_too_much_breaks_receiving),
		TEST(a_producer_that_runs_backwards_breaks_receiving),
		TEST(a_consumer_that_overtakes_breaks_sending),
		TEST(a_consumer_that_runs_backwards_breaks_sending),
		TEST(our_own_indices_are_never_read_back),
		TEST(sizes_in_the_shared_page_are_never_believed),
		TEST(random_indices_never_offer_more_than_the_ring),
		TEST(a_wish_is_served_once),
		TEST(a_new_offer_wants_to_hear_of_the_first_write),
		TEST(wishes_for_data_and_for_room_are_kept_apart),
		TEST(foreign_bits_of_the_notify_byte_are_left_alone),
	};

	return cmocka_run_group_tests_name("vring", tests, NULL, NULL);
}
