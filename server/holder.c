// SPDX-License-Identifier: GPL-2.0-only
/*
 * holder.c - the connection to the other holder of a copy, when one is to be dropped without a relay: connect, HELLO, PIN.
 *
 * One copy at a time, so one connection at a time; it stays for the next copy if that has the same holder. Everything has
 * ASK_NS altogether. A holder that does not answer in time, or is not who the record names, is left alone for AVOID_NS.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "server.h"
#include "user/log.h"

#define SECOND 1000000000ULL
#define ASK_NS (2 * SECOND)
#define AVOID_NS (10 * SECOND)

enum { OUT_MAX = 1 << 20 };		/* bytes: more than the longest PIN */

enum holder_state { HOLDER_NONE, HOLDER_CONNECTING, HOLDER_HELLO, HOLDER_READY, HOLDER_CLOSING };

static struct server *server_of(struct holder *h)
{
	return (struct server *)((u8 *)h - offsetof(struct server, holder));
}

/* ---- who is not asked for a while ------------------------------------------------------------------------------------- */

bool holder_reachable(void *ctx, const u8 id[16])
{
	const struct server *server = ctx;
	u64 now = memx_loop_now(server->loop);
	u32 i;

	for (i = 0; i < HOLDER_AVOIDED; i++)
		if (server->holder.avoid[i].until_ns > now && !memcmp(server->holder.avoid[i].id, id, 16))
			return false;
	return true;
}

static void avoid(struct holder *h, const char *reason)
{
	struct server *server = server_of(h);
	u32 i, oldest = 0;
	char id[33];

	for (i = 1; i < HOLDER_AVOIDED; i++)
		if (h->avoid[i].until_ns < h->avoid[oldest].until_ns)
			oldest = i;
	memcpy(h->avoid[oldest].id, h->drop.peer, 16);
	h->avoid[oldest].until_ns = memx_loop_now(server->loop) + AVOID_NS;
	memx_log_limited(MEMX_LOG_NOTICE, "holder-unreachable", "id=%s address=%s reason=\"%s\"",
			 memx_format_hex(id, h->drop.peer, 16), memx_addr_text(&h->addr), reason);
}

/* ---- the end of a question -------------------------------------------------------------------------------------------- */

static void answered(struct holder *h, u32 status)
{
	if (!h->asking)
		return;
	h->asking = false;
	memx_timer_cancel(&h->timer);
	reclaim_answered(server_of(h), h->drop.serial, status);
}

/* Without an answer. The connection, if there is one, is not used again. */
static void failed(struct holder *h, const char *reason)
{
	h->next = false;
	if (h->asking)
		avoid(h, reason);
	if (h->state == HOLDER_CONNECTING) {
		int fd = h->connecting.fd;

		memx_watch_del(&h->connecting);
		close(fd);
		h->state = HOLDER_NONE;
	} else if (h->state == HOLDER_HELLO || h->state == HOLDER_READY) {
		h->state = HOLDER_CLOSING;
		memx_conn_close(&h->conn, -ECANCELED);
	}
	answered(h, SRV_NO_ANSWER);
}

static void late(struct memx_timer *timer, uint64_t now)
{
	(void)now;
	failed((struct holder *)((u8 *)timer - offsetof(struct holder, timer)), "no answer in time");
}

/* ---- the connection --------------------------------------------------------------------------------------------------- */

static int ask(struct holder *h)
{
	struct memx_head head = { .op = MEMX_OP_PIN, .len = h->drop.len, .tag = h->drop.serial, .epoch = h->drop.epoch };
	const u8 *from = h->drop.body;
	struct memx_hdr hdr;
	u32 left = h->drop.len, part;
	u8 *to = memx_conn_put(&h->conn, sizeof(hdr));

	if (!to)
		return -ENOMEM;
	memx_hdr_put(&hdr, &head);
	memcpy(to, &hdr, sizeof(hdr));
	for (; left; from += part, left -= part) {
		part = left < MEMX_CONN_PUT_MAX ? left : MEMX_CONN_PUT_MAX;
		to = memx_conn_put(&h->conn, part);
		if (!to)
			return -ENOMEM;
		memcpy(to, from, part);
	}
	return 0;
}

static int greeted(struct holder *h, const struct memx_head *head, const void *body)
{
	const struct memx_hello *hello = body;

	if (head->op != MEMX_OP_HELLO || head->len != sizeof(*hello) || head->status != MEMX_S_OK ||
	    hello->role != MEMX_ROLE_DONOR) {
		failed(h, "it does not greet as a donor");
		return 0;
	}
	if (memcmp(hello->id, h->drop.peer, 16) || memx_le64(hello->instance) != h->drop.instance) {
		failed(h, "another donor, or one that lost its memory, answers there");
		return 0;
	}
	if (!(memx_le64(hello->features) & MEMX_FEATURE_RECLAIM)) {
		failed(h, "it is of a version that cannot confirm a copy");
		return 0;
	}
	h->state = HOLDER_READY;
	memcpy(h->id, h->drop.peer, 16);
	h->instance = h->drop.instance;
	return ask(h);
}

static int conn_frame(struct memx_conn *conn, const struct memx_head *head, void *body)
{
	struct holder *h = (struct holder *)conn;

	if (!head->reply || h->state == HOLDER_CLOSING)
		return -EPROTO;
	if (h->state == HOLDER_HELLO)
		return greeted(h, head, body);
	if (!h->asking || head->op != MEMX_OP_PIN || head->tag != h->drop.serial || head->len)
		return -EPROTO;
	answered(h, memx_status_known(head->status));
	return 0;
}

static void conn_closed(struct memx_conn *conn, int err, void *body)
{
	struct holder *h = (struct holder *)conn;

	(void)body;
	h->state = HOLDER_NONE;
	memset(conn, 0, sizeof(*conn));
	conn->watch.fd = -1;
	if (h->asking && h->next) {		/* made way for the next one */
		h->next = false;
		holder_ask(server_of(h), &h->drop);
	} else {
		failed(h, err ? strerror(-err) : "closed");
	}
}

static const struct memx_conn_ops conn_ops = { .frame = conn_frame, .closed = conn_closed };

static void say_hello(struct holder *h)
{
	const struct server *server = server_of(h);
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(struct memx_hello) };
	struct memx_hello hello = {
		.proto_min = memx_put_le16(MEMX_PROTO_MIN), .proto_max = memx_put_le16(MEMX_PROTO_MAX),
		.role = MEMX_ROLE_DONOR, .features = memx_put_le64(MEMX_FEATURE_RECLAIM),
		.instance = memx_put_le64(server->instance),
	};

	memcpy(hello.id, server->id, sizeof(hello.id));
	h->state = HOLDER_HELLO;
	if (memx_conn_send(&h->conn, &head, &hello, sizeof(hello)))
		failed(h, "out of memory");
}

static void connected(struct memx_watch *watch, uint32_t events)
{
	struct holder *h = (struct holder *)((u8 *)watch - offsetof(struct holder, connecting));
	int fd = watch->fd, ret = memx_net_connected(fd);

	(void)events;
	memx_watch_del(watch);
	h->state = HOLDER_NONE;
	if (ret)
		close(fd);
	else
		ret = memx_conn_open(&h->conn, server_of(h)->loop, fd, &conn_ops, MEMX_MAX_BODY, OUT_MAX);
	if (ret)
		failed(h, strerror(-ret));
	else
		say_hello(h);
}

static void dial(struct holder *h)
{
	struct sockaddr_storage sa = { 0 };
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;
	int fd, ret;

	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(h->drop.port);
	memcpy(&v6->sin6_addr, h->drop.address, 16);
	memx_addr_from_sockaddr(&h->addr, &sa, sizeof(*v6));
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {	/* where there is no IPv6, a mapped address cannot be dialled */
		struct sockaddr_in *v4 = (struct sockaddr_in *)&h->addr.sa;

		memset(&h->addr.sa, 0, sizeof(h->addr.sa));
		v4->sin_family = AF_INET;
		v4->sin_port = htons(h->drop.port);
		memcpy(&v4->sin_addr, h->drop.address + 12, 4);
		h->addr.len = sizeof(*v4);
	}
	fd = memx_net_connect(&h->addr, (u32)(ASK_NS / 1000000));
	if (fd < 0) {
		failed(h, strerror(-fd));
		return;
	}
	ret = memx_watch_add(server_of(h)->loop, &h->connecting, fd, EPOLLOUT, connected);
	if (ret) {
		close(fd);
		failed(h, strerror(-ret));
		return;
	}
	h->state = HOLDER_CONNECTING;
}

void holder_ask(struct server *server, const struct srv_drop *drop)
{
	struct holder *h = &server->holder;

	if (&h->drop != drop)
		h->drop = *drop;
	h->asking = true;
	memx_timer_set(server->loop, &h->timer, memx_loop_now(server->loop) + ASK_NS, late);
	if (h->state == HOLDER_READY && !memcmp(h->id, drop->peer, 16) && h->instance == drop->instance) {
		if (ask(h))
			failed(h, "out of memory");
	} else if (h->state == HOLDER_NONE) {
		dial(h);
	} else {
		/* It leads elsewhere, or is on its end: that one first. */
		h->next = true;
		if (h->state != HOLDER_CLOSING) {
			h->state = HOLDER_CLOSING;
			memx_conn_close(&h->conn, -ECANCELED);
		}
	}
}

void holder_done(struct server *server)
{
	struct holder *h = &server->holder;

	if (h->asking || h->state != HOLDER_READY)
		return;
	h->state = HOLDER_CLOSING;
	memx_conn_close(&h->conn, -ECANCELED);
}

void holder_stop(struct server *server)
{
	struct holder *h = &server->holder;
	int fd = h->connecting.fd;

	h->asking = h->next = false;
	memx_timer_cancel(&h->timer);
	memx_watch_del(&h->connecting);
	if (fd >= 0)
		close(fd);
	if (h->state == HOLDER_HELLO || h->state == HOLDER_READY || h->state == HOLDER_CLOSING)
		memx_conn_abort(&h->conn, -ECANCELED);
}
