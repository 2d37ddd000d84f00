// SPDX-License-Identifier: GPL-2.0-only
/*
 * tricks-frames.c - tricks with ring indices, with headers and shapes of frames, with requests for data.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostile.h"

/* ---- tricks: ring indices ---- */

static void index_set(struct evil *e, int lane, u32 *index, u32 value)
{
	memx_store_release(index, value);
	notify(e, lane);
	say_closed(e);
}

void t_prod_far(struct evil *e)
{
	ready(e);
	index_set(e, STORE_LANE, ring(e, STORE_LANE)->tx_prod_shr, ring(e, STORE_LANE)->tx_prod + (1U << 20) + 1);
}

void t_prod_back(struct evil *e)
{
	ready(e);
	index_set(e, STORE_LANE, ring(e, STORE_LANE)->tx_prod_shr, ring(e, STORE_LANE)->tx_prod - 8);
}

void t_cons_far(struct evil *e)
{
	struct memx_head head;

	ready(e);
	memx_store_release(ring(e, FETCH_LANE)->rx_cons_shr, ring(e, FETCH_LANE)->rx_cons + 100000);
	head = request(e, MEMX_OP_PING, 0);
	send_frame(e, FETCH_LANE, &head, NULL);
	say_closed(e);
}

void t_orders(struct evil *e)
{
	ready(e);
	ring(e, STORE_LANE)->shr->left_order = 31;
	ring(e, STORE_LANE)->shr->right_order = 0;
	ring(e, FETCH_LANE)->shr->left_order = 200;
	ring(e, FETCH_LANE)->shr->grants[0] = 0xffffffff;
	say_outcome(e);
}

void t_live_flap(struct evil *e)
{
	ready(e);
	for (int i = 0; i < 20000; i++) {
		memx_store_release(&ring(e, STORE_LANE)->shr->srv_live, (u8)i);
		notify(e, STORE_LANE);
	}
	memx_store_release(&ring(e, STORE_LANE)->shr->srv_live, 0);
	notify(e, STORE_LANE);
	say_closed(e);
}

void t_notify_storm(struct evil *e)
{
	ready(e);
	for (int i = 0; i < 300000; i++)
		notify(e, i % LANES);
	say_outcome(e);
}

/* ---- tricks: headers and shapes ---- */

void t_magic(struct evil *e)
{
	ready(e);
	memset(scratch, 0x41, 64);
	send_raw(e, STORE_LANE, scratch, 64);
	say_closed(e);
}

static void bad_head(struct evil *e, int lane, struct memx_head head, bool body)
{
	struct memx_hdr hdr;

	memx_hdr_put(&hdr, &head);
	send_raw(e, lane, &hdr, sizeof(hdr));
	if (body)
		send_raw(e, lane, scratch, head.len);
	say_closed(e);
}

void t_len_huge(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_STORE, .len = 0xfffffff0, .tag = 9, .epoch = e->epoch }, false);
}

void t_len_ring(struct evil *e)
{
	ready(e);
	bad_head(e, FETCH_LANE, (struct memx_head){ .op = MEMX_OP_FETCH, .len = 70000, .tag = 9, .epoch = e->epoch }, false);
}

void t_flags(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_PING, .flags = 0x8000, .tag = 9, .epoch = e->epoch }, false);
}

void t_status(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_PING, .status = 3, .tag = 9, .epoch = e->epoch }, false);
}

void t_ping_body(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_PING, .len = 64, .tag = 9, .epoch = e->epoch }, true);
}

void t_unknown_op(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, 999, 100);
	send_frame(e, STORE_LANE, &head, scratch);
	say_answer(e, STORE_LANE, head.tag);
}

/* A request before hello, before attach, on the wrong lane, of the wrong epoch. */
void t_before_hello(struct evil *e)
{
	make_lanes(e);
	offer(e);
	e->granted.extent_order = 10;
	send_store(e, 0, 1, 1);
	say_closed(e);
}

void t_before_attach(struct evil *e)
{
	make_lanes(e);
	offer(e);
	greet(e);
	e->granted.extent_order = 10;
	send_store(e, 0, 1, 1);
	say_closed(e);
}

void t_store_on_fetch_lane(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, MEMX_OP_STORE, build_store(e, scratch, 0, 1, 1));
	send_frame(e, FETCH_LANE, &head, scratch);
	say_closed(e);
}

void t_fetch_on_store_lane(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, MEMX_OP_FETCH, build_want(e, scratch, 0, 1, 1));
	send_frame(e, STORE_LANE, &head, scratch);
	say_closed(e);
}

void t_epoch_old(struct evil *e)
{
	ready(e);
	e->epoch--;
	send_store(e, 0, 1, 1);
	say_closed(e);
}

void t_epoch_new(struct evil *e)
{
	ready(e);
	e->epoch += 1000;
	send_fetch(e, 0, 1, 1);
	say_closed(e);
}

void t_hello_nonce(struct evil *e)
{
	struct memx_hello hello;
	struct memx_head head;

	make_lanes(e);
	offer(e);
	if (!take_hello(e, STORE_LANE, &head))
		die("hello");
	hello_reply(e, STORE_LANE, &hello);
	hello.offer = memx_put_le64(e->offer + 1);
	send_frame(e, STORE_LANE, &head, &hello);
	say_closed(e);
}

void t_hello_lanes(struct evil *e)
{
	struct memx_hello hello;
	struct memx_head head;

	make_lanes(e);
	offer(e);
	if (!take_hello(e, STORE_LANE, &head))
		die("hello");
	hello_reply(e, STORE_LANE, &hello);
	hello.lanes = 200;
	send_frame(e, STORE_LANE, &head, &hello);
	say_closed(e);
}

void t_hello_kinds(struct evil *e)
{
	make_lanes(e);
	offer(e);
	for (int i = 0; i < LANES; i++) {
		struct memx_hello hello;
		struct memx_head head;

		if (!take_hello(e, i, &head))
			die("hello");
		hello_reply(e, i, &hello);
		hello.lane_kind = MEMX_LANE_STORE;
		send_frame(e, i, &head, &hello);
	}
	say_closed(e);
}

void t_hello_again(struct evil *e)
{
	struct memx_hello hello;
	struct memx_head head = { .op = MEMX_OP_HELLO, .reply = true, .len = sizeof(hello), .tag = 1 };

	ready(e);
	hello_reply(e, STORE_LANE, &hello);
	send_frame(e, STORE_LANE, &head, &hello);
	say_closed(e);
}

/* ---- tricks: data requests ---- */

/* Sends a STORE that @change spoils, and says what came of it. */
static void spoiled_store(struct evil *e, u32 slot, u32 count, void (*change)(struct memx_io *io, struct memx_page *page))
{
	struct memx_head head;

	ready(e);
	head = request(e, MEMX_OP_STORE, build_store(e, scratch, slot, count, 5));
	if (change)
		change((void *)scratch, (void *)(scratch + sizeof(struct memx_io)));
	send_frame(e, STORE_LANE, &head, scratch);
	say_answer(e, STORE_LANE, head.tag);
}

static void c_count0(struct memx_io *io, struct memx_page *page __attribute__((unused)))
{
	io->count = 0;
}

static void c_count33(struct memx_io *io, struct memx_page *page __attribute__((unused)))
{
	io->count = memx_put_le16(33);
}

static void c_count_more(struct memx_io *io, struct memx_page *page __attribute__((unused)))
{
	io->count = memx_put_le16(4);
}

static void c_extent(struct memx_io *io, struct memx_page *page __attribute__((unused)))
{
	io->extent = memx_put_le32(0xffffffff);
}

static void c_slot(struct memx_io *io __attribute__((unused)), struct memx_page *page)
{
	page[0].slot = memx_put_le32(0xfffffff0);
}

static void c_twice(struct memx_io *io __attribute__((unused)), struct memx_page *page)
{
	page[1].slot = page[0].slot;
}

static void c_down(struct memx_io *io __attribute__((unused)), struct memx_page *page)
{
	struct memx_page p = page[0];

	page[0] = page[1];
	page[1] = p;
}

static void c_version0(struct memx_io *io __attribute__((unused)), struct memx_page *page)
{
	page[0].trailer.version = 0;
}

static void c_check(struct memx_io *io __attribute__((unused)), struct memx_page *page)
{
	page[0].trailer.check ^= memx_put_le64(1);
}

static void c_session(struct memx_io *io, struct memx_page *page __attribute__((unused)))
{
	io->session = memx_put_le32(12345);
}

void t_count0(struct evil *e) { spoiled_store(e, 0, 2, c_count0); }
void t_count33(struct evil *e) { spoiled_store(e, 0, 32, c_count33); }
void t_count_more(struct evil *e) { spoiled_store(e, 0, 2, c_count_more); }
void t_extent(struct evil *e) { spoiled_store(e, 0, 2, c_extent); }
void t_slot(struct evil *e) { spoiled_store(e, 0, 2, c_slot); }
void t_slot_beyond(struct evil *e) { spoiled_store(e, 1 << 30, 1, NULL); }
void t_slot_twice(struct evil *e) { spoiled_store(e, 0, 2, c_twice); }
void t_slot_down(struct evil *e) { spoiled_store(e, 0, 2, c_down); }
void t_version0(struct evil *e) { spoiled_store(e, 0, 1, c_version0); }
void t_check(struct evil *e) { spoiled_store(e, 0, 1, c_check); }
void t_session_handle(struct evil *e) { spoiled_store(e, 0, 1, c_session); }

void t_fetch_absent(struct evil *e)
{
	ready(e);
	say_answer(e, FETCH_LANE, send_fetch(e, 5, 1, 1));
}

void t_fetch_version(struct evil *e)
{
	struct memx_head head;
	u8 *body;
	u64 tag;

	ready(e);
	tag = send_store(e, 7, 1, 5);
	if (!answer_to(e, STORE_LANE, tag, &head, &body, false) || head.status)
		die("store");
	say_answer(e, FETCH_LANE, send_fetch(e, 7, 1, 4));
}

/* An older version behind a newer one: nothing may change. */
void t_store_old(struct evil *e)
{
	struct memx_head head;
	u8 *body;
	u64 tag;

	ready(e);
	tag = send_store(e, 7, 1, 5);
	if (!answer_to(e, STORE_LANE, tag, &head, &body, false) || head.status)
		die("store");
	say_answer(e, STORE_LANE, send_store(e, 7, 1, 3));
}

void t_torn_page(struct evil *e)
{
	struct memx_head head;
	u32 len;

	/* The head of a STORE is there, the rest never comes: others are served, this one waits. */
	ready(e);
	len = build_store(e, scratch, 0, 8, 5);
	head = request(e, MEMX_OP_STORE, len);
	{
		struct memx_hdr hdr;

		memx_hdr_put(&hdr, &head);
		send_raw(e, STORE_LANE, &hdr, sizeof(hdr));
		send_raw(e, STORE_LANE, scratch, len / 2);
	}
	say_outcome(e);
}

/* Bytes change under the reader's hands, again and again: every store is answered OK or CORRUPT, and nothing else happens. */
void t_changing_bytes(struct evil *e)
{
	struct memx_vring *r;

	ready(e);
	r = ring(e, STORE_LANE);
	for (int i = 0; i < 200; i++) {
		u32 at = r->tx_prod & (r->tx_size - 1);
		struct memx_head head;
		u64 tag = send_store(e, (u32)i * 4, 4, 5);
		u8 *body;

		for (int k = 0; k < 4000; k++)
			r->tx[(at + 256 + (u32)(k * 7919) % 16000) & (r->tx_size - 1)] ^= (u8)k;
		if (!answer_to(e, STORE_LANE, tag, &head, &body, false))
			break;
		free(body);
	}
	if (closed(e))
		printf("closed\n");
	else
		say_outcome(e);
	exit(0);
}

static struct evil *racing;
static bool raced;

/* Changes whatever the relay may be reading: headers, lengths, descriptors, pages. */
static void *racer(void *arg)
{
	const struct memx_vring *r = ring(racing, STORE_LANE);
	u64 x = 88172645463325252ULL;

	while (!memx_load_once(&raced)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		r->tx[x % r->tx_size] ^= (u8)(1 << (x >> 32) % 8);
		r->tx[((memx_load_once(r->tx_cons_shr) & (r->tx_size - 1)) + x % 64) % r->tx_size] ^= (u8)(x >> 40);
	}
	return arg;
}

/* A second thread changes the ring while the relay copies out of it; again and again, for the channel closes soon. */
void t_racing_headers(struct evil *e)
{
	pthread_t thread;

	ready(e);
	racing = e;
	if (pthread_create(&thread, NULL, racer, NULL))
		die("thread");
	for (u32 i = 0; i < 2000 && !closed(e); i++)
		send_store(e, i % 64 * 4, 4, 5 + i);
	memx_store_once(&raced, true);
	pthread_join(thread, NULL);
	if (closed(e))
		printf("closed\n");
	else
		say_closed(e);
	exit(0);
}

/* One lane says hello and attaches, the other one never does. */
void t_half_open(struct evil *e)
{
	struct memx_hello hello;
	struct memx_head head;
	u8 *body;

	make_lanes(e);
	offer(e);
	if (!take_hello(e, STORE_LANE, &head))
		die("hello");
	hello_reply(e, STORE_LANE, &hello);
	send_frame(e, STORE_LANE, &head, &hello);
	e->epoch++;
	send_attach(e, 0);
	send_map(e, NULL, 0, true);
	/* Nothing comes of it, and nobody waits for it. */
	printf("%s\n", receive(e, STORE_LANE, &head, &body, 500) ? "answered" : closed(e) ? "closed" : "held");
	exit(0);
}
