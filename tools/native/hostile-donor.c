// SPDX-License-Identifier: GPL-2.0-only
/*
 * hostile-donor.c - a donor that lies: stands between a relay and an honest memx-server and spoils the answers.
 *
 * What the relay asks is passed on, so that behind the lies is a donor that really holds the pages, knows fences and
 * generations, and can be honest again at once. One command per line on stdin, one answer per line on stdout:
 *
 *	play TRICK [ID]		from now on; "honest" is a trick, too. With "drop" before it connections are closed first
 *	stat			answers seen, answers spoiled, connections made
 *
 * One thread. Ends with its input.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <user/text.h>

#include "hostile-donor.h"

enum {
	CONNS		= 16,
	KEPT_SLOTS	= 4096,		/* entries of the history */
	DRIP_BYTES	= 16,
	QUEUE_MAX	= 64 << 20,
};

struct stream {
	u8 *data;
	size_t len, room;
};

struct conn {
	int relay, server;		/* -1: closed */
	struct stream from_relay, from_server, to_relay, to_server;
	bool ends;			/* when all is written */
};

struct version {
	struct memx_trailer trailer;
	u8 page[MEMX_PAGE_SIZE];
};

static struct {
	u32 handle, slot;
	u32 stored;
	struct version last, before;
} history[KEPT_SLOTS];

static struct conn conns[CONNS];
static u16 upstream;
static bool (*trick)(struct conn *c, struct answer *a) = t_honest;
static u64 seen, spoiled, made, random_state = 88172645463325252ULL;
static struct answer kept;

bool drip_feed;
u8 donor_to_be[16];

/* ---- what tricks use ---- */

u64 draw(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void append(struct stream *s, const void *data, size_t len)
{
	if (s->len + len > QUEUE_MAX)
		return;			/* the other side takes nothing: what is sent more is lost */
	if (s->len + len > s->room) {
		s->room = 2 * (s->len + len);
		s->data = realloc(s->data, s->room);
		if (!s->data)
			abort();
	}
	if (len)
		memcpy(s->data + s->len, data, len);
	s->len += len;
}

static void consume(struct stream *s, size_t len)
{
	s->len -= len;
	if (len)
		memmove(s->data, s->data + len, s->len);
}

void emit_raw(struct conn *c, const void *data, u32 len)
{
	append(&c->to_relay, data, len);
}

void emit(struct conn *c, const struct answer *a)
{
	emit_raw(c, &a->hdr, sizeof(a->hdr));
	emit_raw(c, a->body, a->len);
}

void resize(struct answer *a, u32 len)
{
	if (len > ANSWER_ROOM)
		len = ANSWER_ROOM;
	if (len > a->len)
		memset(a->body + a->len, 0, len - a->len);
	a->len = len;
	a->hdr.len = memx_put_le32(len);
}

void refuse(struct answer *a, u32 status)
{
	bool data = a->op == MEMX_OP_STORE || a->op == MEMX_OP_FETCH || a->op == MEMX_OP_DISCARD;

	a->hdr.status = memx_put_le32(status);
	resize(a, data ? MEMX_IO_LEN : 0);
}

void keep(const struct answer *a)
{
	u8 *body = kept.body;

	kept = *a;
	kept.body = body ? body : malloc(ANSWER_ROOM);
	if (!kept.body)
		abort();
	memcpy(kept.body, a->body, a->len);
}

bool emit_kept(struct conn *c)
{
	if (!kept.op)
		return false;
	emit(c, &kept);
	return true;
}

void hang_up(struct conn *c)
{
	c->ends = true;
}

const u8 *older(u32 handle, u32 slot, struct memx_trailer *trailer)
{
	u32 at = (slot * 2654435761U + handle) % KEPT_SLOTS;

	if (history[at].handle != handle || history[at].slot != slot || history[at].stored < 2)
		return NULL;
	*trailer = history[at].before.trailer;
	return history[at].before.page;
}

/* ---- frames ---- */

static void remember(const u8 *body, u32 len)
{
	struct memx_io io;
	u32 count, i;

	if (len < sizeof(io))
		return;
	memcpy(&io, body, sizeof(io));
	count = memx_le16(io.count);
	if (!count || count > MEMX_MAX_PAGES || len != memx_store_len(count))
		return;
	for (i = 0; i < count; i++) {
		struct memx_page page;
		u32 at, handle = memx_le32(io.session);

		memcpy(&page, body + sizeof(io) + i * sizeof(page), sizeof(page));
		at = (memx_le32(page.slot) * 2654435761U + handle) % KEPT_SLOTS;
		if (history[at].handle != handle || history[at].slot != memx_le32(page.slot))
			history[at].stored = 0;
		history[at].handle = handle;
		history[at].slot = memx_le32(page.slot);
		history[at].stored++;
		history[at].before = history[at].last;
		history[at].last.trailer = page.trailer;
		memcpy(history[at].last.page, body + sizeof(io) + count * sizeof(page) + (size_t)i * MEMX_PAGE_SIZE, MEMX_PAGE_SIZE);
	}
}

/* The next whole frame of @s, or 0. */
static u32 whole(const struct stream *s, struct memx_head *head)
{
	struct memx_hdr hdr;

	if (s->len < sizeof(hdr))
		return 0;
	memcpy(&hdr, s->data, sizeof(hdr));
	if (memx_head_get(head, &hdr, MEMX_MAX_BODY)) {
		fprintf(stderr, "a header that is not of the protocol\n");
		exit(1);
	}
	return s->len >= sizeof(hdr) + head->len ? (u32)sizeof(hdr) + head->len : 0;
}

static void pass_requests(struct conn *c)
{
	struct memx_head head;
	u32 len;

	while ((len = whole(&c->from_relay, &head))) {
		/* Answers to what a trick asked the relay are not the honest server's. */
		if (!head.reply) {
			if (head.op == MEMX_OP_STORE)
				remember(c->from_relay.data + sizeof(struct memx_hdr), head.len);
			append(&c->to_server, c->from_relay.data, len);
		}
		consume(&c->from_relay, len);
	}
}

static void spoil_answers(struct conn *c)
{
	static u8 *body, *before;
	struct memx_head head;
	u32 len;

	if (!body) {
		body = malloc(ANSWER_ROOM);
		before = malloc(ANSWER_ROOM);
	}
	if (!body || !before)
		abort();
	while (!c->ends && (len = whole(&c->from_server, &head))) {
		struct answer a = { .body = body, .len = head.len, .op = head.op, .status = head.status };
		struct memx_hdr hdr;
		size_t queued = c->to_relay.len;

		memcpy(&a.hdr, c->from_server.data, sizeof(a.hdr));
		memcpy(body, c->from_server.data + sizeof(a.hdr), head.len);
		memcpy(before, body, head.len);
		hdr = a.hdr;
		if ((head.op == MEMX_OP_STORE || head.op == MEMX_OP_FETCH || head.op == MEMX_OP_DISCARD) && head.len >= MEMX_IO_LEN)
			a.count = memx_le16(((struct memx_io *)(void *)body)->count);
		consume(&c->from_server, len);
		seen++;
		if (!trick(c, &a))
			spoiled++;
		else if (emit(c, &a), queued + len != c->to_relay.len || memcmp(&hdr, &a.hdr, sizeof(hdr)) ||
			 memcmp(before, body, head.len) || drip_feed || c->ends)
			spoiled++;
	}
}

/* ---- sockets ---- */

static void conn_close(struct conn *c)
{
	if (c->relay >= 0)
		close(c->relay);
	if (c->server >= 0)
		close(c->server);
	free(c->from_relay.data);
	free(c->from_server.data);
	free(c->to_relay.data);
	free(c->to_server.data);
	memset(c, 0, sizeof(*c));
	c->relay = -1;
	c->server = -1;
}

static void conn_open(int listener)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(upstream), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1, i;

	if (fd < 0)
		return;
	for (i = 0; i < CONNS && conns[i].relay >= 0; i++)
		;
	if (i == CONNS) {
		close(fd);
		return;
	}
	conns[i].relay = fd;
	conns[i].server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(conns[i].server, (struct sockaddr *)&to, sizeof(to))) {
		conn_close(&conns[i]);
		return;
	}
	fcntl(conns[i].server, F_SETFL, O_NONBLOCK);
	setsockopt(conns[i].server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	made++;
}

/* False: the other side is gone. */
static bool take(int fd, struct stream *s)
{
	static u8 buf[1 << 16];
	ssize_t got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (got > 0)
		append(s, buf, (size_t)got);
	return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool give(int fd, struct stream *s, size_t most)
{
	ssize_t sent;

	if (!s->len)
		return true;
	sent = send(fd, s->data, s->len < most ? s->len : most, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent > 0)
		consume(s, (size_t)sent);
	return sent >= 0 || errno == EAGAIN || errno == EINTR;
}

static void conn_serve(struct conn *c, short relay, short server)
{
	bool good = true;

	if (relay)
		good = take(c->relay, &c->from_relay);
	if (good && server)
		good = take(c->server, &c->from_server);
	if (good) {
		pass_requests(c);
		spoil_answers(c);
		good = give(c->server, &c->to_server, SIZE_MAX) && give(c->relay, &c->to_relay, drip_feed ? DRIP_BYTES : SIZE_MAX);
	}
	if (!good || (c->ends && !c->to_relay.len))
		conn_close(c);
}

/* What is sent by itself, now and then. */
static void speak_up(struct conn *c)
{
	struct answer a = { 0 };
	size_t queued = c->to_relay.len;

	if (queued < 1 << 20)
		trick(c, &a);
	spoiled += c->to_relay.len != queued;
}

/* ---- commands ---- */

static const struct {
	const char *name;
	bool (*play)(struct conn *c, struct answer *a);
} tricks[] = {
#define X(name) { #name, t_##name },
	TRICKS(X)
#undef X
};

static bool play(const char *name)
{
	for (size_t i = 0; i < sizeof(tricks) / sizeof(*tricks); i++) {
		if (strcmp(tricks[i].name, name))
			continue;
		trick = tricks[i].play;
		drip_feed = trick == t_drip;
		kept.op = 0;
		spoiled = 0;
		return true;
	}
	return false;
}

static void command(char *line)
{
	char *save, *word = strtok_r(line, " \n", &save);

	if (word && !strcmp(word, "drop")) {
		for (int i = 0; i < CONNS; i++)
			if (conns[i].relay >= 0)
				conn_close(&conns[i]);
		word = strtok_r(NULL, " \n", &save);
	}
	if (word && !strcmp(word, "play")) {
		char *name = strtok_r(NULL, " \n", &save), *id = strtok_r(NULL, " \n", &save);

		if (!name || !play(name) || (id && memx_parse_hex(id, donor_to_be, sizeof(donor_to_be))))
			printf("error no such trick\n");
		else
			printf("ok\n");
	} else if (word && !strcmp(word, "stat")) {
		printf("ok seen=%llu spoiled=%llu connections=%llu\n", (unsigned long long)seen, (unsigned long long)spoiled,
		       (unsigned long long)made);
	} else {
		printf("error accepted: [drop] play TRICK [ID], stat\n");
	}
	fflush(stdout);
}

static void commands(void)
{
	static char line[256];
	static size_t at;
	char *end;
	ssize_t got = read(STDIN_FILENO, line + at, sizeof(line) - 1 - at);

	if (got <= 0)
		exit(0);
	at += (size_t)got;
	line[at] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		command(line);
		at -= (size_t)(end + 1 - line);
		memmove(line, end + 1, at + 1);
	}
	if (at == sizeof(line) - 1)
		exit(1);
}

static int listen_at(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(at);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 8) ||
	    getsockname(fd, (struct sockaddr *)&at, &len)) {
		perror("memx-hostile-donor: listen");
		exit(1);
	}
	printf("port %u\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	u64 port, spoke = 0;
	int listener, i;

	if (argc != 2 || memx_parse_u64(argv[1], &port) || !port || port > 65535) {
		fprintf(stderr, "Usage: memx-hostile-donor PORT-OF-THE-HONEST-SERVER\nTricks:");
		for (size_t t = 0; t < sizeof(tricks) / sizeof(*tricks); t++)
			fprintf(stderr, " %s", tricks[t].name);
		fprintf(stderr, "\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	upstream = (u16)port;
	for (i = 0; i < CONNS; i++) {
		conns[i].relay = -1;
		conns[i].server = -1;
	}
	listener = listen_at();
	for (;;) {
		struct pollfd fds[2 * CONNS + 2] = { { STDIN_FILENO, POLLIN, 0 }, { listener, POLLIN, 0 } };

		for (i = 0; i < CONNS; i++) {
			struct conn *c = &conns[i];

			fds[2 + 2 * i] = (struct pollfd){ c->relay, (short)(POLLIN | (c->to_relay.len && !drip_feed ? POLLOUT : 0)), 0 };
			fds[3 + 2 * i] = (struct pollfd){ c->server, (short)(POLLIN | (c->to_server.len ? POLLOUT : 0)), 0 };
		}
		if (poll(fds, 2 * CONNS + 2, 5) < 0 && errno != EINTR)
			return 1;
		if (fds[0].revents)
			commands();
		if (fds[1].revents)
			conn_open(listener);
		for (i = 0; i < CONNS; i++)
			if (conns[i].relay >= 0 && fds[2 + 2 * i].fd == conns[i].relay)
				conn_serve(&conns[i], fds[2 + 2 * i].revents & ~POLLOUT, fds[3 + 2 * i].revents & ~POLLOUT);
		if (memx_now() - spoke < 5000000)
			continue;
		spoke = memx_now();
		for (i = 0; i < CONNS; i++)
			if (conns[i].relay >= 0 && !conns[i].ends)
				speak_up(&conns[i]);
	}
}
