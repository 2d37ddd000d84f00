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
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hostile.h"

/* ---- the channel ---- */

struct memx_vring *ring(struct evil *e, int lane)
{
	return &e->lane[lane].chan->ring;
}

void notify(struct evil *e, int lane)
{
	e->lane[lane].chan->ops->notify(e->lane[lane].chan);
}

void __attribute__((noreturn)) die(const char *what)
{
	printf("error %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Waits for something on any lane or the socket. False: nothing came in time. */
bool wait_any(struct evil *e, int ms)
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

bool closed(struct evil *e)
{
	/* 2: not there yet */
	for (int i = 0; i < LANES; i++)
		if (!memx_load_once(&ring(e, i)->shr->cli_live))
			return true;
	return false;
}

/* What the relay said on its socket. */
bool socket_says(struct evil *e, enum outcome *out)
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

void send_raw(struct evil *e, int lane, const void *data, u32 len)
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

void send_frame(struct evil *e, int lane, const struct memx_head *head, const void *body)
{
	u8 *frame = malloc(sizeof(struct memx_hdr) + head->len);

	memx_hdr_put((struct memx_hdr *)(void *)frame, head);
	if (head->len)
		memcpy(frame + sizeof(struct memx_hdr), body, head->len);
	send_raw(e, lane, frame, (u32)sizeof(struct memx_hdr) + head->len);
	free(frame);
}

struct memx_head request(struct evil *e, u16 op, u32 len)
{
	return (struct memx_head){ .op = op, .len = len, .tag = ++e->tag, .epoch = e->epoch };
}

/* The next frame of @lane with its body (malloc'd), or false: nothing came, or the channel ended. */
bool receive(struct evil *e, int lane, struct memx_head *head, u8 **body, int ms)
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
bool answer_to(struct evil *e, int lane, u64 tag, struct memx_head *head, u8 **body, bool mute)
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

void make_lanes(struct evil *e)
{
	if (memx_shm_lane_new(&e->lane[STORE_LANE], 16, 20) || memx_shm_lane_new(&e->lane[FETCH_LANE], 20, 16))
		die("lanes");
	e->offer = memx_random_u64();
}

void offer(struct evil *e)
{
	if (memx_shm_offer(e->sock, e->name, e->uuid, e->offer, e->lane, LANES))
		die("offer");
}

void hello_reply(struct evil *e, int lane, struct memx_hello *hello)
{
	*hello = (struct memx_hello){
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .proto = memx_put_le16(1),
		.role = MEMX_ROLE_GUEST, .lane = (u8)lane, .offer = memx_put_le64(e->offer), .instance = memx_put_le64(77),
		.lanes = LANES, .lane_kind = lane == STORE_LANE ? MEMX_LANE_STORE : MEMX_LANE_FETCH,
	};
}

bool take_hello(struct evil *e, int lane, struct memx_head *head)
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

bool greet(struct evil *e)
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

void attach_body(struct evil *e, struct memx_attach *a, u32 records)
{
	*a = (struct memx_attach){ .slots = memx_put_le32(SLOTS), .records = memx_put_le32(records) };
	memcpy(a->session, e->session, sizeof(a->session));
	a->lineage[0] = memx_put_le64(4711);
	a->extent_order = records ? EXTENT_ORDER : 0;
}

void send_attach(struct evil *e, u32 records)
{
	struct memx_head head = request(e, MEMX_OP_ATTACH, sizeof(struct memx_attach));
	struct memx_attach a;

	attach_body(e, &a, records);
	send_frame(e, STORE_LANE, &head, &a);
}

void send_map(struct evil *e, const struct memx_record *recs, u32 count, bool last)
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
int attach(struct evil *e, const struct memx_record *recs, u32 count)
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

/* As any guest it asks again while the relay says "not now": the session of the trick before may still be on its way out. */
void ready(struct evil *e)
{
	int status, tries = 0;

	make_lanes(e);
	offer(e);
	if (!greet(e))
		die("could not say hello in good order");
	while ((status = attach(e, NULL, 0)) != MEMX_S_OK) {
		if ((status != MEMX_S_AGAIN && status != MEMX_S_NOSPACE) || ++tries > 100)
			die(status < 0 ? "no answer to ATTACH" : status_name((u32)status));
		poll(NULL, 0, 100);
	}
}

/* ---- frames of data ---- */

struct store {
	struct memx_io io;
	struct memx_page page[MEMX_MAX_PAGES + 1];
	u8 data[MEMX_MAX_PAGES + 1][MEMX_PAGE_SIZE];
};

/* A good STORE of @count pages from @slot on, laid out as it goes over the wire. Returns its length. */
u32 build_store(struct evil *e, u8 *to, u32 slot, u32 count, u64 version)
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

u32 build_want(struct evil *e, u8 *to, u32 slot, u32 count, u64 version)
{
	struct memx_io io = { .extent = memx_put_le32(slot >> e->granted.extent_order), .count = memx_put_le16((u16)count) };

	memcpy(to, &io, sizeof(io));
	for (u32 i = 0; i < count; i++) {
		struct memx_want want = { .slot = memx_put_le32(slot + i), .version = memx_put_le64(version) };

		memcpy(to + sizeof(io) + i * sizeof(want), &want, sizeof(want));
	}
	return memx_want_len(count);
}

u8 scratch[2 * sizeof(struct store)];

u64 send_store(struct evil *e, u32 slot, u32 count, u64 version)
{
	struct memx_head head = request(e, MEMX_OP_STORE, build_store(e, scratch, slot, count, version));

	send_frame(e, STORE_LANE, &head, scratch);
	return head.tag;
}

u64 send_fetch(struct evil *e, u32 slot, u32 count, u64 version)
{
	struct memx_head head = request(e, MEMX_OP_FETCH, build_want(e, scratch, slot, count, version));

	send_frame(e, FETCH_LANE, &head, scratch);
	return head.tag;
}

const char *status_name(u32 status)
{
	switch (status) {
#define MEMX_X(name, code, text) case code: return #name;
	MEMX_STATUS_LIST(MEMX_X)
#undef MEMX_X
	}
	return "?";
}

/* Waits for the answer to @tag and says it. */
void say_answer(struct evil *e, int lane, u64 tag)
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
void say_outcome(struct evil *e)
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
void say_closed(struct evil *e)
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

void greeted(struct evil *e)
{
	make_lanes(e);
	offer(e);
	if (!greet(e))
		die("hello");
}

/* ---- which one ---- */

static const struct {
	const char *name;
	void (*play)(struct evil *e);
} tricks[] = {
#define X(name) { #name, t_##name },
	TRICKS(X)
#undef X
};

/* SESSION:EXTENT:GENERATION:DONOR of the victim, as memx-guest's status and records print them */
static bool parse_victim(struct evil *e, char *text)
{
	char *save, *session = strtok_r(text, ":", &save), *extent = strtok_r(NULL, ":", &save);
	char *generation = strtok_r(NULL, ":", &save), *donor = strtok_r(NULL, ":", &save);
	u64 number[2];

	if (!donor || memx_parse_u64(extent, &number[0]) || memx_parse_u64(generation, &number[1]) ||
	    memx_parse_hex(session, e->session, 16) || memx_parse_hex(donor, e->victim.replica[0].donor, 16))
		return false;
	e->victim.extent = memx_put_le32((u32)number[0]);
	e->victim.generation = memx_put_le64(number[1]);
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
