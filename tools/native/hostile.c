// SPDX-License-Identifier: GPL-2.0-only
/*
 * hostile.c - a guest that keeps no rule: one trick per run, against a relay over shared memory.
 *
 * Attaches in good order as far as the trick needs it, plays it, and prints what came of it in one line:
 *
 *	closed			the relay closed the channel
 *	refused TEXT		the offer was refused
 *	answered STATUS		the request was answered with this status
 *	alive			nothing happened, and the relay still answers a PING on this channel
 *	dead			the relay's socket closed: its process is gone
 *
 * What ought to come of it is the caller's to know. It shares nothing with the engine but the protocol's headers.
 */
#include <errno.h>
#include <fcntl.h>
#include <memx/check.h>
#include <memx/codec.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <user/shm.h>
#include <user/text.h>

enum {
	STORE_LANE	= 0,
	FETCH_LANE	= 1,
	LANES		= 2,
	PATIENCE_MS	= 20000,	/* sanitised relays on a loaded machine are slow */
	SLOTS		= 2048,
	EXTENT_ORDER	= 6,		/* of the relay's settings: a map says which one it is of */
};

struct evil {
	const char *name;
	u8 uuid[16];
	int sock;
	struct memx_shm_lane lane[LANES];
	u64 offer, epoch, tag, seed_of_session;
	u8 session[16];
	struct memx_attached granted;
	u64 random;
	struct memx_record victim;	/* of somebody else's, given on the command line */
	bool has_victim;
};

enum outcome {
	OUT_CLOSED,
	OUT_ALIVE,
	OUT_DEAD,
};

/* ---- the channel ---- */

static struct memx_vring *ring(struct evil *e, int lane)
{
	return &e->lane[lane].chan->ring;
}

static void notify(struct evil *e, int lane)
{
	e->lane[lane].chan->ops->notify(e->lane[lane].chan);
}

static void __attribute__((noreturn)) die(const char *what)
{
	printf("error %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Waits for something on any lane or the socket. False: nothing came in time. */
static bool wait_any(struct evil *e, int ms)
{
	struct pollfd fds[LANES + 1] = { { .fd = e->sock, .events = POLLIN } };

	for (int i = 0; i < LANES; i++) {
		fds[i + 1] = (struct pollfd){ .fd = e->lane[i].chan->fd, .events = POLLIN };
		memx_vring_want(ring(e, i), MEMX_VCHAN_WRITE | MEMX_VCHAN_READ);
	}
	if (poll(fds, LANES + 1, ms) <= 0)
		return false;
	for (int i = 0; i < LANES; i++)
		if (fds[i + 1].revents)
			e->lane[i].chan->ops->ack(e->lane[i].chan);
	return true;
}

static bool closed(struct evil *e)
{
	/* 2: not there yet */
	for (int i = 0; i < LANES; i++)
		if (!memx_load_once(&ring(e, i)->shr->cli_live))
			return true;
	return false;
}

/* What the relay said on its socket. */
static bool socket_says(struct evil *e, enum outcome *out)
{
	struct memx_shm_msg msg;
	int fds[MEMX_SHM_FDS], ret = memx_shm_recv(e->sock, &msg, fds);

	if (ret == -EAGAIN)
		return false;
	if (ret <= 0) {
		*out = OUT_DEAD;
		return true;
	}
	memx_shm_close_fds(fds);
	if (msg.type == MEMX_SHM_REFUSED) {
		printf("refused %.60s\n", msg.name);
		exit(0);
	}
	return false;
}

static void send_raw(struct evil *e, int lane, const void *data, u32 len)
{
	u32 at = 0;

	while (at < len && !closed(e)) {
		int space = memx_vring_space(ring(e, lane));
		u32 part = space < 0 ? 0 : (u32)space < len - at ? (u32)space : len - at;

		memx_vring_put(ring(e, lane), 0, (const u8 *)data + at, part);
		at += part;
		if (memx_vring_publish(ring(e, lane), part))
			notify(e, lane);
		if (at < len && !wait_any(e, PATIENCE_MS))
			return;
	}
}

static void send_frame(struct evil *e, int lane, const struct memx_head *head, const void *body)
{
	u8 *frame = malloc(sizeof(struct memx_hdr) + head->len);

	memx_hdr_put((struct memx_hdr *)(void *)frame, head);
	if (head->len)
		memcpy(frame + sizeof(struct memx_hdr), body, head->len);
	send_raw(e, lane, frame, (u32)sizeof(struct memx_hdr) + head->len);
	free(frame);
}

static struct memx_head request(struct evil *e, u16 op, u32 len)
{
	return (struct memx_head){ .op = op, .len = len, .tag = ++e->tag, .epoch = e->epoch };
}

/* The next frame of @lane with its body (malloc'd), or false: nothing came, or the channel ended. */
static bool receive(struct evil *e, int lane, struct memx_head *head, u8 **body, int ms)
{
	u64 end = memx_now() + (u64)ms * 1000000, now;
	enum outcome out;

	for (;;) {
		struct memx_hdr hdr;
		int avail = memx_vring_avail(ring(e, lane));

		if (avail >= (int)sizeof(hdr)) {
			memx_vring_peek(ring(e, lane), 0, &hdr, sizeof(hdr));
			if (memx_head_get(head, &hdr, MEMX_MAX_BODY))
				die("the relay sent a bad header");
			if (avail >= (int)(sizeof(hdr) + head->len)) {
				*body = calloc(1, head->len + 1);
				memx_vring_peek(ring(e, lane), sizeof(hdr), *body, head->len);
				if (memx_vring_consume(ring(e, lane), (u32)sizeof(hdr) + head->len))
					notify(e, lane);
				return true;
			}
		}
		now = memx_now();
		if (avail < 0 || closed(e) || socket_says(e, &out) || now >= end)
			return false;
		wait_any(e, (int)((end - now) / 1000000) + 1);
	}
}

/* The answer to @tag; what the relay asks meanwhile is answered (records among it) unless @mute. */
static bool answer_to(struct evil *e, int lane, u64 tag, struct memx_head *head, u8 **body, bool mute)
{
	while (receive(e, lane, head, body, PATIENCE_MS)) {
		struct memx_head reply = { .op = head->op, .reply = true, .tag = head->tag, .epoch = e->epoch };

		if (head->reply && head->tag == tag)
			return true;
		free(*body);
		if (!head->reply && !mute)
			send_frame(e, lane, &reply, NULL);
	}
	return false;
}

/* ---- in good order, as far as needed ---- */

static void make_lanes(struct evil *e)
{
	if (memx_shm_lane_new(&e->lane[STORE_LANE], 16, 20) || memx_shm_lane_new(&e->lane[FETCH_LANE], 20, 16))
		die("lanes");
	e->offer = memx_random_u64();
}

static void offer(struct evil *e)
{
	if (memx_shm_offer(e->sock, e->name, e->uuid, e->offer, e->lane, LANES))
		die("offer");
}

static void hello_reply(struct evil *e, int lane, struct memx_hello *hello)
{
	*hello = (struct memx_hello){
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .proto = memx_put_le16(1),
		.role = MEMX_ROLE_GUEST, .lane = (u8)lane, .offer = memx_put_le64(e->offer), .instance = memx_put_le64(77),
		.lanes = LANES, .lane_kind = lane == STORE_LANE ? MEMX_LANE_STORE : MEMX_LANE_FETCH,
	};
}

static bool take_hello(struct evil *e, int lane, struct memx_head *head)
{
	u8 *body;

	if (!receive(e, lane, head, &body, PATIENCE_MS))
		return false;
	free(body);
	if (head->op != MEMX_OP_HELLO || head->reply)
		die("the relay's first frame is no HELLO");
	head->reply = true;
	head->len = sizeof(struct memx_hello);
	return true;
}

static bool greet(struct evil *e)
{
	for (int i = 0; i < LANES; i++) {
		struct memx_hello hello;
		struct memx_head head;

		if (!take_hello(e, i, &head))
			return false;
		hello_reply(e, i, &hello);
		send_frame(e, i, &head, &hello);
	}
	return true;
}

static void attach_body(struct evil *e, struct memx_attach *a, u32 records)
{
	*a = (struct memx_attach){ .slots = memx_put_le32(SLOTS), .records = memx_put_le32(records) };
	memcpy(a->session, e->session, sizeof(a->session));
	a->lineage[0] = memx_put_le64(4711);
	a->extent_order = records ? EXTENT_ORDER : 0;
}

static void send_attach(struct evil *e, u32 records)
{
	struct memx_head head = request(e, MEMX_OP_ATTACH, sizeof(struct memx_attach));
	struct memx_attach a;

	attach_body(e, &a, records);
	send_frame(e, STORE_LANE, &head, &a);
}

static void send_map(struct evil *e, const struct memx_record *recs, u32 count, bool last)
{
	u8 body[sizeof(struct memx_records) + MEMX_MAX_RECORDS * sizeof(struct memx_record)] = { 0 };
	struct memx_head head = request(e, MEMX_OP_MAP, memx_records_len(count));
	struct memx_records r = { .count = memx_put_le32(count) };

	head.tag = 0;
	head.flags = last ? MEMX_F_LAST : 0;
	memcpy(body, &r, sizeof(r));
	if (count)
		memcpy(body + sizeof(r), recs, count * sizeof(*recs));
	send_frame(e, STORE_LANE, &head, body);
}

/* The status of the ATTACH answer, or -1. */
static int attach(struct evil *e, const struct memx_record *recs, u32 count)
{
	struct memx_head head;
	int status;
	u8 *body;
	u64 tag;

	e->epoch++;
	send_attach(e, count);
	tag = e->tag;
	send_map(e, recs, count, true);
	if (!answer_to(e, STORE_LANE, tag, &head, &body, false))
		return -1;
	status = (int)head.status;
	if (head.len >= sizeof(e->granted))
		memcpy(&e->granted, body, sizeof(e->granted));
	free(body);
	e->seed_of_session = memx_session_seed(e->session);
	return status;
}

static void ready(struct evil *e)
{
	make_lanes(e);
	offer(e);
	if (!greet(e) || attach(e, NULL, 0) != MEMX_S_OK)
		die("could not attach in good order");
}

/* ---- frames of data ---- */

struct store {
	struct memx_io io;
	struct memx_page page[MEMX_MAX_PAGES + 1];
	u8 data[MEMX_MAX_PAGES + 1][MEMX_PAGE_SIZE];
};

/* A good STORE of @count pages from @slot on, laid out as it goes over the wire. Returns its length. */
static u32 build_store(struct evil *e, u8 *to, u32 slot, u32 count, u64 version)
{
	struct memx_io io = { .extent = memx_put_le32(slot >> e->granted.extent_order), .count = memx_put_le16((u16)count) };
	struct memx_page *page = (void *)(to + sizeof(io));
	u8 *data = to + sizeof(io) + count * sizeof(*page);

	memcpy(to, &io, sizeof(io));
	memset(page, 0, count * sizeof(*page));
	for (u32 i = 0; i < count; i++) {
		memset(data + (size_t)i * MEMX_PAGE_SIZE, (int)(slot + i + version), MEMX_PAGE_SIZE);
		page[i].slot = memx_put_le32(slot + i);
		page[i].trailer.version = memx_put_le64(version);
		page[i].trailer.check = memx_put_le64(memx_check(e->seed_of_session, slot + i, version,
								 data + (size_t)i * MEMX_PAGE_SIZE));
	}
	return (u32)(sizeof(io) + count * (sizeof(*page) + MEMX_PAGE_SIZE));
}

static u32 build_want(struct evil *e, u8 *to, u32 slot, u32 count, u64 version)
{
	struct memx_io io = { .extent = memx_put_le32(slot >> e->granted.extent_order), .count = memx_put_le16((u16)count) };

	memcpy(to, &io, sizeof(io));
	for (u32 i = 0; i < count; i++) {
		struct memx_want want = { .slot = memx_put_le32(slot + i), .version = memx_put_le64(version) };

		memcpy(to + sizeof(io) + i * sizeof(want), &want, sizeof(want));
	}
	return memx_want_len(count);
}

static u8 scratch[2 * sizeof(struct store)];

static u64 send_store(struct evil *e, u32 slot, u32 count, u64 version)
{
	struct memx_head head = request(e, MEMX_OP_STORE, build_store(e, scratch, slot, count, version));

	send_frame(e, STORE_LANE, &head, scratch);
	return head.tag;
}

static u64 send_fetch(struct evil *e, u32 slot, u32 count, u64 version)
{
	struct memx_head head = request(e, MEMX_OP_FETCH, build_want(e, scratch, slot, count, version));

	send_frame(e, FETCH_LANE, &head, scratch);
	return head.tag;
}

static const char *status_name(u32 status)
{
	switch (status) {
#define MEMX_X(name, code, text) case code: return #name;
	MEMX_STATUS_LIST(MEMX_X)
#undef MEMX_X
	}
	return "?";
}

/* Waits for the answer to @tag and says it. */
static void say_answer(struct evil *e, int lane, u64 tag)
{
	struct memx_head head;
	enum outcome out;
	u8 *body;

	if (answer_to(e, lane, tag, &head, &body, false)) {
		u32 status = head.status;

		/* Of several pages, or of one that failed: the first one's own. */
		if (status == MEMX_S_PARTIAL && head.op == MEMX_OP_FETCH)
			status = memx_le32(((struct memx_page *)(void *)(body + MEMX_IO_LEN))->status);
		else if (status == MEMX_S_PARTIAL)
			status = memx_le32(((struct memx_want *)(void *)(body + MEMX_IO_LEN))->status);
		printf("answered %s\n", status_name(status));
	} else if (closed(e)) {
		printf("closed\n");
	} else {
		printf("%s\n", socket_says(e, &out) ? "dead" : "silent");
	}
	exit(0);
}

/* Waits for the relay to close; if it does not, is it alive? */
static void say_outcome(struct evil *e)
{
	struct memx_head head = request(e, MEMX_OP_PING, 0);
	enum outcome out;
	u8 *body;

	send_frame(e, FETCH_LANE, &head, NULL);
	if (answer_to(e, FETCH_LANE, head.tag, &head, &body, true))
		printf("alive\n");
	else if (closed(e))
		printf("closed\n");
	else
		printf("%s\n", socket_says(e, &out) ? "dead" : "silent");
	exit(0);
}

/* Only the close counts: nothing can be sent any more over what was broken. */
static void say_closed(struct evil *e)
{
	u64 end = memx_now() + PATIENCE_MS * 1000000ULL;
	enum outcome out;

	for (bool over = false; memx_now() < end && !over; ) {
		over = closed(e);	/* before the socket: a refusal comes first and says more */
		if (socket_says(e, &out)) {
			printf("dead\n");
			exit(0);
		}
		if (!over)
			wait_any(e, 100);
	}
	printf("%s\n", closed(e) ? "closed" : "silent");
	exit(0);
}

/* ---- tricks: ring indices ---- */

static void index_set(struct evil *e, int lane, u32 *index, u32 value)
{
	memx_store_release(index, value);
	notify(e, lane);
	say_closed(e);
}

static void t_prod_far(struct evil *e)
{
	ready(e);
	index_set(e, STORE_LANE, ring(e, STORE_LANE)->tx_prod_shr, ring(e, STORE_LANE)->tx_prod + (1U << 20) + 1);
}

static void t_prod_back(struct evil *e)
{
	ready(e);
	index_set(e, STORE_LANE, ring(e, STORE_LANE)->tx_prod_shr, ring(e, STORE_LANE)->tx_prod - 8);
}

static void t_cons_far(struct evil *e)
{
	struct memx_head head;

	ready(e);
	memx_store_release(ring(e, FETCH_LANE)->rx_cons_shr, ring(e, FETCH_LANE)->rx_cons + 100000);
	head = request(e, MEMX_OP_PING, 0);
	send_frame(e, FETCH_LANE, &head, NULL);
	say_closed(e);
}

static void t_orders(struct evil *e)
{
	ready(e);
	ring(e, STORE_LANE)->shr->left_order = 31;
	ring(e, STORE_LANE)->shr->right_order = 0;
	ring(e, FETCH_LANE)->shr->left_order = 200;
	ring(e, FETCH_LANE)->shr->grants[0] = 0xffffffff;
	say_outcome(e);
}

static void t_live_flap(struct evil *e)
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

static void t_notify_storm(struct evil *e)
{
	ready(e);
	for (int i = 0; i < 300000; i++)
		notify(e, i % LANES);
	say_outcome(e);
}

/* ---- tricks: headers and shapes ---- */

static void t_magic(struct evil *e)
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

static void t_len_huge(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_STORE, .len = 0xfffffff0, .tag = 9, .epoch = e->epoch }, false);
}

static void t_len_ring(struct evil *e)
{
	ready(e);
	bad_head(e, FETCH_LANE, (struct memx_head){ .op = MEMX_OP_FETCH, .len = 70000, .tag = 9, .epoch = e->epoch }, false);
}

static void t_flags(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_PING, .flags = 0x8000, .tag = 9, .epoch = e->epoch }, false);
}

static void t_status(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_PING, .status = 3, .tag = 9, .epoch = e->epoch }, false);
}

static void t_ping_body(struct evil *e)
{
	ready(e);
	bad_head(e, STORE_LANE, (struct memx_head){ .op = MEMX_OP_PING, .len = 64, .tag = 9, .epoch = e->epoch }, true);
}

static void t_unknown_op(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, 999, 100);
	send_frame(e, STORE_LANE, &head, scratch);
	say_answer(e, STORE_LANE, head.tag);
}

/* A request before hello, before attach, on the wrong lane, of the wrong epoch. */
static void t_before_hello(struct evil *e)
{
	make_lanes(e);
	offer(e);
	e->granted.extent_order = 10;
	send_store(e, 0, 1, 1);
	say_closed(e);
}

static void t_before_attach(struct evil *e)
{
	make_lanes(e);
	offer(e);
	greet(e);
	e->granted.extent_order = 10;
	send_store(e, 0, 1, 1);
	say_closed(e);
}

static void t_store_on_fetch_lane(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, MEMX_OP_STORE, build_store(e, scratch, 0, 1, 1));
	send_frame(e, FETCH_LANE, &head, scratch);
	say_closed(e);
}

static void t_fetch_on_store_lane(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, MEMX_OP_FETCH, build_want(e, scratch, 0, 1, 1));
	send_frame(e, STORE_LANE, &head, scratch);
	say_closed(e);
}

static void t_epoch_old(struct evil *e)
{
	ready(e);
	e->epoch--;
	send_store(e, 0, 1, 1);
	say_closed(e);
}

static void t_epoch_new(struct evil *e)
{
	ready(e);
	e->epoch += 1000;
	send_fetch(e, 0, 1, 1);
	say_closed(e);
}

static void t_hello_nonce(struct evil *e)
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

static void t_hello_lanes(struct evil *e)
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

static void t_hello_kinds(struct evil *e)
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

static void t_hello_again(struct evil *e)
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

static void t_count0(struct evil *e) { spoiled_store(e, 0, 2, c_count0); }
static void t_count33(struct evil *e) { spoiled_store(e, 0, 32, c_count33); }
static void t_count_more(struct evil *e) { spoiled_store(e, 0, 2, c_count_more); }
static void t_extent(struct evil *e) { spoiled_store(e, 0, 2, c_extent); }
static void t_slot(struct evil *e) { spoiled_store(e, 0, 2, c_slot); }
static void t_slot_beyond(struct evil *e) { spoiled_store(e, 1 << 30, 1, NULL); }
static void t_slot_twice(struct evil *e) { spoiled_store(e, 0, 2, c_twice); }
static void t_slot_down(struct evil *e) { spoiled_store(e, 0, 2, c_down); }
static void t_version0(struct evil *e) { spoiled_store(e, 0, 1, c_version0); }
static void t_check(struct evil *e) { spoiled_store(e, 0, 1, c_check); }
static void t_session_handle(struct evil *e) { spoiled_store(e, 0, 1, c_session); }

static void t_fetch_absent(struct evil *e)
{
	ready(e);
	say_answer(e, FETCH_LANE, send_fetch(e, 5, 1, 1));
}

static void t_fetch_version(struct evil *e)
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
static void t_store_old(struct evil *e)
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

static void t_torn_page(struct evil *e)
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
static void t_changing_bytes(struct evil *e)
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

/* ---- tricks: credits ---- */

/* Stores @count pages from slot 0 on, in good order. */
static void put_pages(struct evil *e, u32 count)
{
	struct memx_head head;
	u8 *body;

	for (u32 slot = 0; slot < count; slot += 32) {
		u64 tag = send_store(e, slot, 32, 5);

		if (!answer_to(e, STORE_LANE, tag, &head, &body, false) || head.status)
			die("store");
		free(body);
	}
}

/* More requests at one go than may be unanswered. */
static void t_overdraft(struct evil *e)
{
	u32 at = 0, len = MEMX_HDR_LEN + memx_want_len(1);

	ready(e);
	put_pages(e, 32);
	for (u32 i = 0; i < memx_le32(e->granted.lane_requests) + 50; i++) {
		struct memx_head head = request(e, MEMX_OP_FETCH, build_want(e, scratch, i % 32, 1, 5));
		struct memx_hdr hdr;

		if ((u32)memx_vring_space(ring(e, FETCH_LANE)) < at + len)
			break;
		memx_hdr_put(&hdr, &head);
		memx_vring_put(ring(e, FETCH_LANE), at, &hdr, sizeof(hdr));
		memx_vring_put(ring(e, FETCH_LANE), at + MEMX_HDR_LEN, scratch, head.len);
		at += len;
	}
	if (memx_vring_publish(ring(e, FETCH_LANE), at))
		notify(e, FETCH_LANE);
	say_closed(e);
}

/* More pages than the reply ring holds, and no answer is read. */
static void t_overdraft_pages(struct evil *e)
{
	ready(e);
	put_pages(e, 512);
	for (u32 i = 0; i < 16 && !closed(e); i++)
		send_fetch(e, i * 32, 32, 5);
	say_closed(e);
}

static void t_ping_flood(struct evil *e)
{
	ready(e);
	for (u32 i = 0; i < 200000 && !closed(e); i++) {
		struct memx_head head = request(e, MEMX_OP_PING, 0);

		send_frame(e, STORE_LANE, &head, NULL);
	}
	say_closed(e);
}

/* A record is proposed and never answered: the store is never acknowledged, nothing else happens. */
static void t_record_unanswered(struct evil *e)
{
	struct memx_head head;
	u8 *body;

	ready(e);
	send_store(e, 0, 1, 5);
	if (!receive(e, STORE_LANE, &head, &body, PATIENCE_MS) || head.op != MEMX_OP_RECORD || head.reply)
		die("no record came");
	if (receive(e, STORE_LANE, &head, &body, 1500)) {
		printf("acknowledged early: op %u reply %d status %s\n", head.op, head.reply, status_name(head.status));
		exit(0);
	}
	say_outcome(e);
}

static void record_reply(struct evil *e, u64 tag_change, u32 status, u32 len)
{
	struct memx_head head;
	u8 *body;

	ready(e);
	send_store(e, 0, 1, 5);
	if (!receive(e, STORE_LANE, &head, &body, PATIENCE_MS) || head.op != MEMX_OP_RECORD || head.reply)
		die("no record came");
	head.reply = true;
	head.status = status;
	head.len = len;
	head.tag += tag_change;
	send_frame(e, STORE_LANE, &head, scratch);
	say_closed(e);
}

static void t_record_tag(struct evil *e) { record_reply(e, 1, 0, 0); }
static void t_record_no(struct evil *e) { record_reply(e, 0, MEMX_S_INVALID, 0); }
static void t_record_long(struct evil *e) { record_reply(e, 0, 0, 40); }

static void t_answer_unasked(struct evil *e)
{
	struct memx_head head = { .op = MEMX_OP_RECORD, .reply = true, .tag = 424242 };

	ready(e);
	head.epoch = e->epoch;
	send_frame(e, STORE_LANE, &head, NULL);
	say_closed(e);
}

/* ---- tricks: attaching and maps ---- */

static void greeted(struct evil *e)
{
	make_lanes(e);
	offer(e);
	if (!greet(e))
		die("hello");
}

static void t_attach_twice(struct evil *e)
{
	ready(e);
	e->epoch++;
	send_attach(e, 0);
	say_closed(e);
}

static void t_attach_fetch_lane(struct evil *e)
{
	struct memx_head head;
	struct memx_attach a;

	greeted(e);
	e->epoch = 1;
	head = request(e, MEMX_OP_ATTACH, sizeof(a));
	attach_body(e, &a, 0);
	send_frame(e, FETCH_LANE, &head, &a);
	say_closed(e);
}

static void t_map_unasked(struct evil *e)
{
	ready(e);
	send_map(e, NULL, 0, true);
	say_closed(e);
}

static void t_map_endless(struct evil *e)
{
	struct memx_record recs[MEMX_MAX_RECORDS] = { 0 };

	greeted(e);
	e->epoch = 1;
	send_attach(e, 16);
	for (u32 i = 0; i < MEMX_MAX_RECORDS; i++) {
		recs[i].extent = memx_put_le32(i);
		recs[i].replicas = 1;
		recs[i].generation = memx_put_le64(1);
		recs[i].replica[0].donor[0] = 1;
		recs[i].replica[0].state = MEMX_R_LIVE;
	}
	for (u32 i = 0; i < 5000 && !closed(e); i++)
		send_map(e, recs, MEMX_MAX_RECORDS, false);
	say_closed(e);
}

static void forged_map(struct evil *e, const struct memx_record *rec)
{
	int status;

	greeted(e);
	status = attach(e, rec, 1);
	if (status >= 0)
		printf("answered %s\n", status_name((u32)status));
	else
		printf("%s\n", closed(e) ? "closed" : "silent");
	exit(0);
}

static void t_map_unknown_donor(struct evil *e)
{
	struct memx_record rec = { .replicas = 1, .generation = memx_put_le64(3) };

	memset(rec.replica[0].donor, 0x5a, 16);
	rec.replica[0].state = MEMX_R_LIVE;
	forged_map(e, &rec);
}

static void t_map_invalid(struct evil *e)
{
	struct memx_record rec = { .replicas = 9, .generation = memx_put_le64(3) };

	forged_map(e, &rec);
}

static void t_map_dead(struct evil *e)
{
	struct memx_record rec = { .replicas = 1, .generation = memx_put_le64(3) };

	memset(rec.replica[0].donor, 0x5a, 16);
	rec.replica[0].state = MEMX_R_STALE;
	forged_map(e, &rec);
}

static void t_map_extent(struct evil *e)
{
	struct memx_record rec = { .extent = memx_put_le32(1 << 20), .replicas = 1, .generation = memx_put_le64(3) };

	memset(rec.replica[0].donor, 0x5a, 16);
	rec.replica[0].state = MEMX_R_LIVE;
	forged_map(e, &rec);
}

/* Another guest's session id and its true record, stolen: what it gets must be its own and empty. */
static void t_steal(struct evil *e)
{
	int status;

	if (!e->has_victim)
		die("no victim given");
	greeted(e);
	status = attach(e, &e->victim, 1);
	if (status != MEMX_S_OK) {
		printf("answered %s\n", status < 0 ? "nothing" : status_name((u32)status));
		exit(0);
	}
	for (u64 version = 1; version < 40; version++) {
		struct memx_head head;
		u8 *body;
		u64 tag = send_fetch(e, memx_le32(e->victim.extent) << e->granted.extent_order, 1, version);

		if (!answer_to(e, FETCH_LANE, tag, &head, &body, false))
			break;
		if (head.status == MEMX_S_OK) {
			printf("stolen: version %llu\n", (unsigned long long)version);
			exit(0);
		}
		free(body);
	}
	printf("%s\n", closed(e) ? "closed" : "nothing to steal");
	exit(0);
}

/* A second copy of the victim, restored from an older image: its lineage is not the one that the donors know. */
static void t_clone(struct evil *e)
{
	u64 half[2] = { memx_xxh64(e->name, strlen(e->name), 0), memx_xxh64(e->name, strlen(e->name), 1) };
	int status;

	if (!e->has_victim)
		die("no victim given");
	memcpy(e->uuid, half, sizeof(e->uuid));
	greeted(e);
	e->epoch = 1000;
	status = attach(e, &e->victim, 1);
	printf("answered %s\n", status < 0 ? "nothing" : status_name((u32)status));
	exit(0);
}

static void t_detach_epoch(struct evil *e)
{
	struct memx_head head;

	ready(e);
	head = request(e, MEMX_OP_DETACH, 0);
	head.epoch++;
	send_frame(e, STORE_LANE, &head, NULL);
	say_closed(e);
}

static void t_detach_early(struct evil *e)
{
	struct memx_head head;

	greeted(e);
	head = request(e, MEMX_OP_DETACH, 0);
	send_frame(e, STORE_LANE, &head, NULL);
	say_closed(e);
}

static void t_slots_huge(struct evil *e)
{
	struct memx_head head;
	struct memx_attach a;
	u64 tag;

	greeted(e);
	e->epoch = 1;
	head = request(e, MEMX_OP_ATTACH, sizeof(a));
	tag = head.tag;
	attach_body(e, &a, 0);
	a.slots = memx_put_le32(0xffffffff);
	send_frame(e, STORE_LANE, &head, &a);
	send_map(e, NULL, 0, true);
	say_answer(e, STORE_LANE, tag);
}

/* ---- tricks: the offer itself ---- */

static void t_offer_small(struct evil *e)
{
	make_lanes(e);
	e->lane[FETCH_LANE].left_order = 20;
	close(e->lane[FETCH_LANE].memfd);
	e->lane[FETCH_LANE].memfd = memfd_create("small", MFD_ALLOW_SEALING);
	if (ftruncate(e->lane[FETCH_LANE].memfd, 8192) || fcntl(e->lane[FETCH_LANE].memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		die("memfd");
	offer(e);
	say_closed(e);
}

static void t_offer_unsealed(struct evil *e)
{
	make_lanes(e);
	close(e->lane[FETCH_LANE].memfd);
	e->lane[FETCH_LANE].memfd = memfd_create("open", MFD_ALLOW_SEALING);
	if (ftruncate(e->lane[FETCH_LANE].memfd, 4 << 20))
		die("memfd");
	offer(e);
	say_closed(e);
}

static void t_offer_orders(struct evil *e)
{
	make_lanes(e);
	e->lane[STORE_LANE].left_order = 60;
	offer(e);
	say_closed(e);
}

static void t_offer_garbage(struct evil *e)
{
	enum outcome out;

	make_lanes(e);
	memset(scratch, 0x99, sizeof(struct memx_shm_msg));
	if (write(e->sock, scratch, sizeof(struct memx_shm_msg)) < 0)
		die("socket");
	while (!socket_says(e, &out))
		if (!wait_any(e, PATIENCE_MS))
			break;
	printf("socket closed\n");
	exit(0);
}

static void t_offer_storm(struct evil *e)
{
	make_lanes(e);
	for (int i = 0; i < 300; i++) {
		memx_shm_lane_reset(&e->lane[0]);
		memx_shm_lane_reset(&e->lane[1]);
		e->offer = memx_random_u64();
		offer(e);
	}
	printf("sent\n");
	exit(0);
}

/* ---- tricks: noise ---- */

static u64 draw(struct evil *e)
{
	e->random ^= e->random >> 12;
	e->random ^= e->random << 25;
	e->random ^= e->random >> 27;
	return e->random * 0x2545f4914f6cdd1dULL;
}

/* Good frames of which some bytes were changed at random, until the relay has enough. */
static void t_noise(struct evil *e)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_DISCARD, MEMX_OP_PING, MEMX_OP_ATTACH, MEMX_OP_MAP, MEMX_OP_DETACH,
				   MEMX_OP_RECORD, MEMX_OP_HELLO, MEMX_OP_FENCE, MEMX_OP_FREE };

	ready(e);
	for (u32 i = 0; i < 2000 && !closed(e); i++) {
		u16 op = ops[draw(e) % (sizeof(ops) / sizeof(*ops))];
		u32 pages = 1 + (u32)(draw(e) % 4), len, changes = (u32)(draw(e) % 4);
		struct memx_head head;
		struct memx_hdr hdr;

		len = op == MEMX_OP_STORE ? build_store(e, scratch, (u32)(draw(e) % SLOTS), pages, 1 + draw(e) % 50) :
		      op == MEMX_OP_DISCARD ? build_want(e, scratch, (u32)(draw(e) % SLOTS), pages, 1 + draw(e) % 50) :
		      op == MEMX_OP_ATTACH ? (u32)sizeof(struct memx_attach) : (u32)(draw(e) % 64);
		head = request(e, op, len);
		head.reply = !(draw(e) % 8);
		memx_hdr_put(&hdr, &head);
		for (; changes; changes--) {
			if (draw(e) % 2)
				((u8 *)&hdr)[draw(e) % sizeof(hdr)] ^= (u8)(1 << draw(e) % 8);
			else
				scratch[draw(e) % (len + 1)] ^= (u8)draw(e);
		}
		send_raw(e, STORE_LANE, &hdr, sizeof(hdr));
		send_raw(e, STORE_LANE, scratch, len);
	}
	say_closed(e);
}

static void t_garbage(struct evil *e)
{
	make_lanes(e);
	offer(e);
	for (u32 n = 0; n < 400 && !closed(e); n++) {
		for (u32 i = 0; i < 512; i++)
			((u64 *)(void *)scratch)[i] = draw(e);
		send_raw(e, (int)(draw(e) % LANES), scratch, 4096);
	}
	say_closed(e);
}

/* ---- which one ---- */

#define TRICKS(X) X(prod_far) X(prod_back) X(cons_far) X(orders) X(live_flap) X(notify_storm) X(magic) X(len_huge) X(len_ring)	\
	X(flags) X(status) X(ping_body) X(unknown_op) X(before_hello) X(before_attach) X(store_on_fetch_lane)			\
	X(fetch_on_store_lane) X(epoch_old) X(epoch_new) X(hello_nonce) X(hello_lanes) X(hello_kinds) X(hello_again)		\
	X(count0) X(count33) X(count_more) X(extent) X(slot) X(slot_beyond) X(slot_twice) X(slot_down) X(version0) X(check)	\
	X(session_handle) X(fetch_absent) X(fetch_version) X(store_old) X(torn_page) X(changing_bytes) X(overdraft)		\
	X(overdraft_pages) X(ping_flood) X(record_unanswered) X(record_tag) X(record_no) X(record_long) X(answer_unasked)	\
	X(attach_twice) X(attach_fetch_lane) X(map_unasked) X(map_endless) X(map_unknown_donor) X(map_invalid) X(map_dead)	\
	X(map_extent) X(steal) X(clone) X(detach_epoch) X(detach_early) X(slots_huge) X(offer_small) X(offer_unsealed) X(offer_orders)	\
	X(offer_garbage) X(offer_storm) X(noise) X(garbage)

static const struct {
	const char *name;
	void (*play)(struct evil *e);
} tricks[] = {
#define X(name) { #name, t_##name },
	TRICKS(X)
#undef X
};

/* SESSION:EXTENT:GENERATION:DONOR of the victim, as memx-guest's status and records print them */
static bool parse_victim(struct evil *e, const char *text)
{
	char session[33], donor[33];
	unsigned int extent;
	unsigned long long generation;

	if (sscanf(text, "%32[0-9a-f]:%u:%llu:%32[0-9a-f]", session, &extent, &generation, donor) != 4 ||
	    memx_parse_hex(session, e->session, 16) || memx_parse_hex(donor, e->victim.replica[0].donor, 16))
		return false;
	e->victim.extent = memx_put_le32(extent);
	e->victim.generation = memx_put_le64(generation);
	e->victim.replicas = 1;
	e->victim.replica[0].state = MEMX_R_LIVE;
	e->has_victim = true;
	return true;
}

int main(int argc, char **argv)
{
	struct evil e = { .sock = -1 };

	if (argc < 4) {
		fprintf(stderr, "Usage: memx-hostile SOCKET NAME TRICK [SEED [SESSION:EXTENT:GENERATION:DONOR]]\nTricks:");
		for (size_t i = 0; i < sizeof(tricks) / sizeof(*tricks); i++)
			fprintf(stderr, " %s", tricks[i].name);
		fprintf(stderr, "\n");
		return 2;
	}
	e.name = argv[2];
	e.random = argc > 4 ? strtoull(argv[4], NULL, 10) * 2 + 1 : 1;
	memx_random(e.session, sizeof(e.session));
	memset(e.uuid, 0xee, sizeof(e.uuid));
	if (argc > 5 && !parse_victim(&e, argv[5])) {
		fprintf(stderr, "memx-hostile: %s is not SESSION:EXTENT:GENERATION:DONOR\n", argv[5]);
		return 2;
	}
	e.sock = memx_shm_connect(argv[1]);
	if (e.sock < 0) {
		errno = -e.sock;
		die(argv[1]);
	}
	for (size_t i = 0; i < sizeof(tricks) / sizeof(*tricks); i++)
		if (!strcmp(tricks[i].name, argv[3]))
			tricks[i].play(&e);
	fprintf(stderr, "memx-hostile: no trick %s\n", argv[3]);
	return 2;
}
