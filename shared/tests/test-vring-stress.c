// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-vring-stress.c - both ends of a channel as real threads: frames of random sizes there and back, every byte verified,
 * sleeping whenever there is nothing to do and woken only by what the ring says is owed.
 *
 * A lost wake-up leaves both threads asleep for ever: the test then runs into its deadline, which is the proof that it was
 * lost. One emulated vCPU proves nothing about barriers; two threads on two CPUs and ThreadSanitizer do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "memx/vring.h"

struct end {
	struct memx_vring ring;
	int told, tell;			/* eventfds: ours, the peer's */
	u64 seed;
	u64 send, receive;		/* bytes in all */
	u64 sent, received;
	u32 frame_max;
	u64 sleeps, notifies;
	const char *failed;
};

struct channel {
	struct memx_vchan_page *page;
	u8 *left, *right;
	struct end server, client;
};

static u64 next(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* The byte at place @at of the stream of a side: not periodic in any size of ring. */
static u8 content(u64 at, bool server)
{
	return (u8)((at * 0x9e3779b97f4a7c15ULL) >> 56 ^ (server ? 0x55 : 0));
}

static void notify(struct end *e)
{
	u64 one = 1;

	e->notifies++;
	if (write(e->tell, &one, sizeof(one)) != sizeof(one))
		e->failed = "eventfd";
}

static void wait_told(struct end *e)
{
	u64 count;

	e->sleeps++;
	if (read(e->told, &count, sizeof(count)) != sizeof(count))
		e->failed = "eventfd";
}

/* Sends one frame if it fits. 1: sent. */
static int try_send(struct end *e, u8 *buf, bool server, u32 len)
{
	int space = memx_vring_space(&e->ring);
	u32 i, cut;

	if (space < 0) {
		e->failed = "the ring broke on sending";
		return 0;
	}
	if ((u32)space < len)
		return 0;
	for (i = 0; i < len; i++)
		buf[i] = content(e->sent + i, server);
	cut = len / 4;
	memx_vring_put(&e->ring, 0, buf, cut);
	memx_vring_put(&e->ring, cut, buf + cut, len - cut);
	e->sent += len;
	if (memx_vring_publish(&e->ring, len))
		notify(e);
	return 1;
}

/* Receives what is there, or part of it. 1: something. */
static int try_receive(struct end *e, u8 *buf, bool server)
{
	int avail = memx_vring_avail(&e->ring);
	u32 len, i;

	if (avail < 0) {
		e->failed = "the ring broke on receiving";
		return 0;
	}
	if (!avail)
		return 0;
	len = (u32)avail < e->frame_max ? (u32)avail : e->frame_max;
	if (len > 1 && next(&e->seed) % 4 == 0)
		len = 1 + (u32)(next(&e->seed) % len);
	memx_vring_peek(&e->ring, 0, buf, len);
	for (i = 0; i < len; i++) {
		if (buf[i] != content(e->received + i, !server)) {
			e->failed = "a wrong byte";
			return 0;
		}
	}
	e->received += len;
	if (memx_vring_consume(&e->ring, len))
		notify(e);
	return 1;
}

static void run(struct end *e, bool server)
{
	u8 *buf = malloc(e->frame_max);
	u32 len = 0;

	while (buf && !e->failed && (e->sent < e->send || e->received < e->receive)) {
		int did = 0;

		if (!len && e->sent < e->send) {
			len = 1 + (u32)(next(&e->seed) % e->frame_max);
			if (len > e->send - e->sent)
				len = (u32)(e->send - e->sent);
		}
		if (len && try_send(e, buf, server, len)) {
			len = 0;
			did = 1;
		}
		did |= try_receive(e, buf, server);
		if (did || e->failed)
			continue;
		/* Say what is waited for, look once more, sleep. */
		memx_vring_want(&e->ring, (u8)(MEMX_VCHAN_WRITE | (len ? MEMX_VCHAN_READ : 0)));
		if (memx_vring_avail(&e->ring) || (len && memx_vring_space(&e->ring) >= (int)len))
			continue;
		if (e->sent < e->send || e->received < e->receive)
			wait_told(e);
	}
	if (!buf)
		e->failed = "no memory";
	free(buf);
	notify(e);			/* so that a peer that failed is not waited for */
}

static void *server_main(void *arg)
{
	run(arg, true);
	return NULL;
}

static void *client_main(void *arg)
{
	run(arg, false);
	return NULL;
}

static void stress(u32 left_order, u32 right_order, u32 frame_max, u64 up, u64 down, u32 index)
{
	struct channel *c = calloc(1, sizeof(*c));
	u32 left = 1U << left_order, right = 1U << right_order;
	pthread_t threads[2];

	assert_non_null(c);
	c->page = calloc(1, sizeof(*c->page));
	assert_non_null(c->page);
	c->left = malloc(left);
	c->right = malloc(right);
	assert_true(c->left && c->right);
	memx_vring_reset_shared(c->page, (u16)left_order, (u16)right_order);
	c->page->left.cons = c->page->left.prod = c->page->right.cons = c->page->right.prod = index;
	memx_vring_init(&c->server.ring, c->page, true, c->left, left, c->right, right);
	memx_vring_init(&c->client.ring, c->page, false, c->left, left, c->right, right);
	c->server.told = c->client.tell = eventfd(0, EFD_CLOEXEC);
	c->client.told = c->server.tell = eventfd(0, EFD_CLOEXEC);
	c->server.seed = 88172645463325252ULL + frame_max;
	c->client.seed = 362436069ULL + frame_max;
	c->server.send = c->client.receive = up;
	c->client.send = c->server.receive = down;
	c->server.frame_max = frame_max < right ? frame_max : right;
	c->client.frame_max = frame_max < left ? frame_max : left;
	assert_int_equal(pthread_create(&threads[0], NULL, server_main, &c->server), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, client_main, &c->client), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	fprintf(stderr, "# %u/%u bytes, frames to %u: %llu up, %llu down; sleeps %llu+%llu, notifies %llu+%llu\n", left, right,
		frame_max, (unsigned long long)c->server.sent, (unsigned long long)c->client.sent,
		(unsigned long long)c->server.sleeps, (unsigned long long)c->client.sleeps,
		(unsigned long long)c->server.notifies, (unsigned long long)c->client.notifies);
	if (c->server.failed || c->client.failed)
		fail_msg("server: %s; client: %s", c->server.failed ? c->server.failed : "fine",
			 c->client.failed ? c->client.failed : "fine");
	assert_true(c->client.received == up && c->server.received == down);
	close(c->server.told);
	close(c->client.told);
	free(c->left);
	free(c->right);
	free(c->page);
	free(c);
}

#define MIB (1ULL << 20)

static void small_rings_both_ways(void **state)
{
	(void)state;
	stress(10, 10, 700, 8 * MIB, 8 * MIB, 0);
}

static void frames_as_long_as_the_ring(void **state)
{
	(void)state;
	stress(10, 11, 2048, 8 * MIB, 8 * MIB, 0);
}

static void single_bytes(void **state)
{
	(void)state;
	stress(10, 10, 1, MIB / 4, MIB / 4, 0);
}

static void one_way_up(void **state)
{
	(void)state;
	stress(10, 16, 9000, 64 * MIB, 0, 0);
}

static void one_way_down(void **state)
{
	(void)state;
	stress(16, 10, 9000, 0, 64 * MIB, 0);
}

static void asymmetric_as_a_fetch_lane(void **state)
{
	(void)state;
	stress(18, 12, 5000, 2 * MIB, 32 * MIB, 0);
}

static void across_the_end_of_the_index(void **state)
{
	(void)state;
	stress(12, 12, 4000, 16 * MIB, 16 * MIB, UINT32_MAX - 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_rings_both_ways),
		cmocka_unit_test(frames_as_long_as_the_ring),
		cmocka_unit_test(single_bytes),
		cmocka_unit_test(one_way_up),
		cmocka_unit_test(one_way_down),
		cmocka_unit_test(asymmetric_as_a_fetch_lane),
		cmocka_unit_test(across_the_end_of_the_index),
	};

	return cmocka_run_group_tests_name("vring-stress", tests, NULL, NULL);
}
