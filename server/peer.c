// SPDX-License-Identifier: GPL-2.0-only
/*
 * peer.c - connections: bytes in, frames to the core, replies out.
 *
 * A batch: read what is there, hand every whole frame to the core, then send all replies with one call. Replies refer to
 * pages where they lie in the store. They are sent, or what the socket does not take is copied, before the core may change
 * pages again: before the next operation that stores or frees in the same batch, and before the loop turns to anybody else.
 *
 * A turn ends after so many bytes, or after so much work that few bytes asked for (srv_work()); what of the batch is left then
 * goes on in the next round of the loop, behind everybody else.
 *
 * A peer that takes its replies more slowly than it asks is not read from while more than OUT_HIGH bytes wait for it; one
 * that takes nothing for STALL_NS is cut off, as is one that does not introduce itself. What one peer can make the process
 * hold is therefore bounded: IN_SIZE and twice OUT_HIGH.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server.h"
#include "user/log.h"

enum {
	IN_SIZE		= 512 << 10,	/* at least one frame, better several of the longest */
	OUT_HIGH	= 1 << 20,
	TURN_BYTES	= 2 << 20,	/* read from one peer before the others get their turn */
	TURN_WORK	= 8 << 20,	/* done for one peer, likewise: some milliseconds */
	OUT_BUF		= 256 << 10,	/* headers and small bodies of one batch */
	OUT_IOVS	= 1024,		/* the kernel's own limit */
};

#define SECOND		1000000000ULL
#define STALL_NS	(30 * SECOND)
#define GREET_NS	(10 * SECOND)

_Static_assert(IN_SIZE >= MEMX_MAX_FRAME + MEMX_PAGE_SIZE, "a frame must fit");
_Static_assert(OUT_BUF >= 2 * SRV_REPLY_BUF && OUT_IOVS >= 2 * SRV_REPLY_IOVS, "a reply must fit");

struct peer {
	struct memx_watch watch;	/* first: found from it */
	struct server *server;
	struct srv_conn *conn;
	struct peer *next, **link;
	char name[MEMX_ADDR_TEXT];
	u64 since_ns, moved_ns;		/* accepted; output last moved or began to wait */
	u64 frames;

	u8 *in;				/* IN_SIZE, 8-aligned; the frame at hand begins at in_at */
	u32 in_at, in_len;		/* in_at is a multiple of 8 */

	u8 *wait;			/* replies that the socket did not take yet */
	size_t wait_size, wait_at, wait_len;
	struct memx_timer again;	/* set: frames are left from the last turn */
	u64 work;			/* srv_work() when the turn began */

	bool last_words;		/* close once everything is sent */
	bool eof;
};

const char *peer_name(const void *conn_ctx)
{
	const struct peer *peer = conn_ctx;

	return peer ? peer->name : "admin";
}

static void peer_close(struct peer *peer)
{
	int fd = peer->watch.fd;

	memx_watch_del(&peer->watch);
	memx_timer_cancel(&peer->again);
	close(fd);
	srv_conn_close(peer->conn);
	*peer->link = peer->next;
	if (peer->next)
		peer->next->link = peer->link;
	peer->server->peer_count--;
	free(peer->in);
	free(peer->wait);
	free(peer);
}

/* ---- out -------------------------------------------------------------------------------------------------------------- */

/* Keeps what was not sent of the batch in memory of the peer's own. 0 or -ENOMEM. */
static int keep(struct peer *peer, const struct iovec *iov, u32 iovs, size_t bytes, size_t skip)
{
	size_t more = bytes - skip;
	u32 i;

	if (peer->wait_at == peer->wait_len)
		peer->wait_at = peer->wait_len = 0;
	if (peer->wait_len + more > peer->wait_size) {
		size_t held = peer->wait_len - peer->wait_at, size = (held + more + 65535) & ~(size_t)65535;
		u8 *bigger = malloc(size);

		if (!bigger)
			return -ENOMEM;
		if (held)
			memcpy(bigger, peer->wait + peer->wait_at, held);
		free(peer->wait);
		peer->wait = bigger;
		peer->wait_size = size;
		peer->wait_at = 0;
		peer->wait_len = held;
	}
	for (i = 0; i < iovs; i++) {
		size_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		memcpy(peer->wait + peer->wait_len, (const u8 *)iov[i].iov_base + skip, len - skip);
		peer->wait_len += len - skip;
		skip = 0;
	}
	return 0;
}

/* Sends what waits from earlier. 0 or -errno; what the socket does not take stays. */
static int send_waiting(struct peer *peer)
{
	while (peer->wait_at < peer->wait_len) {
		ssize_t sent = send(peer->watch.fd, peer->wait + peer->wait_at, peer->wait_len - peer->wait_at,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0)
			return errno == EAGAIN ? 0 : errno == EINTR ? send_waiting(peer) : -errno;
		peer->wait_at += (size_t)sent;
		peer->moved_ns = memx_loop_now(peer->server->loop);
	}
	free(peer->wait);
	peer->wait = NULL;
	peer->wait_size = peer->wait_at = peer->wait_len = 0;
	return 0;
}

/* Sends or copies the batch; the core may change pages afterwards. 0 or -errno. */
static int flush(struct peer *peer)
{
	struct srv_out *out = &peer->server->out;
	struct msghdr msg = { .msg_iov = out->iov, .msg_iovlen = out->iovs };
	ssize_t sent = 0;
	int err = 0;

	if (!out->iovs)
		return 0;
	if (peer->wait_at == peer->wait_len) {
		do {
			sent = sendmsg(peer->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		} while (sent < 0 && errno == EINTR);
		if (sent < 0 && errno != EAGAIN)
			err = -errno;
		if (sent < 0)
			sent = 0;
		peer->moved_ns = memx_loop_now(peer->server->loop);
	}
	if (!err && (u64)sent < out->bytes)
		err = keep(peer, out->iov, out->iovs, (size_t)out->bytes, (size_t)sent);
	out->used = out->iovs = 0;
	out->bytes = 0;
	out->refs = false;
	return err;
}

static void peer_ready(struct memx_watch *watch, uint32_t events);

static bool choked(const struct peer *peer)
{
	return peer->wait_len - peer->wait_at > OUT_HIGH;
}

/* ---- in --------------------------------------------------------------------------------------------------------------- */

/* Structures are read where they lie, so a frame must begin aligned; only a frame of an odd length makes this necessary. */
static void realign(struct peer *peer)
{
	if (!(peer->in_at & 7) && peer->in_at < peer->in_len)
		return;
	memmove(peer->in, peer->in + peer->in_at, peer->in_len - peer->in_at);
	peer->in_len -= peer->in_at;
	peer->in_at = 0;
}

static void again_due(struct memx_timer *timer, u64 now)
{
	(void)now;
	peer_ready(&((struct peer *)((u8 *)timer - offsetof(struct peer, again)))->watch, 0);
}

/* Handles the whole frames in the buffer, as far as the turn goes. 0, or -errno: the connection is to be closed. */
static int handle_frames(struct peer *peer)
{
	struct server *server = peer->server;
	struct srv_out *out = &server->out;
	struct memx_head head;
	int ret;

	while (!peer->last_words) {
		realign(peer);
		if (peer->in_len - peer->in_at < MEMX_HDR_LEN)
			return 0;
		if (memx_head_get(&head, (const struct memx_hdr *)(peer->in + peer->in_at), MEMX_MAX_BODY)) {
			srv_conn_violation(peer->conn, "not a frame of this protocol");
			return -EPROTO;
		}
		if (peer->in_len - peer->in_at - MEMX_HDR_LEN < head.len)
			return 0;
		if ((out->refs && srv_changes_pages(head.op)) || out->bytes >= OUT_HIGH ||
		    out->size - out->used < SRV_REPLY_BUF || out->max_iovs - out->iovs < SRV_REPLY_IOVS) {
			ret = flush(peer);
			if (ret)
				return ret;
		}
		if (choked(peer))
			return 0;
		if (srv_work(server->core) - peer->work >= TURN_WORK)
			return memx_timer_set(server->loop, &peer->again, memx_loop_now(server->loop), again_due);
		ret = srv_frame(peer->conn, &head, peer->in + peer->in_at + MEMX_HDR_LEN, out,
				memx_loop_now(server->loop));
		if (ret < 0)
			return ret;
		peer->last_words = ret;
		peer->frames++;
		peer->in_at += MEMX_HDR_LEN + head.len;
	}
	return 0;
}

/* Reads and handles until there is nothing more, or it is somebody else's turn. 0 or -errno. */
static int read_turn(struct peer *peer)
{
	u32 turn = 0;
	size_t room;
	ssize_t got;
	int ret;

	memx_timer_cancel(&peer->again);
	peer->work = srv_work(peer->server->core);
	ret = handle_frames(peer);		/* those that were left when the peer was choked, or by the last turn */
	while (!ret && !peer->eof && !choked(peer) && !peer->last_words && !memx_timer_pending(&peer->again) &&
	       turn < TURN_BYTES) {
		if (peer->in_at) {
			memmove(peer->in, peer->in + peer->in_at, peer->in_len - peer->in_at);
			peer->in_len -= peer->in_at;
			peer->in_at = 0;
		}
		room = IN_SIZE - peer->in_len;
		got = recv(peer->watch.fd, peer->in + peer->in_len, room, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (!got)
			peer->eof = true;
		peer->in_len += (u32)got;
		turn += (u32)got;
		ret = handle_frames(peer);
		if (got && (size_t)got < room)
			break;			/* there was no more; what has come since is the next event */
	}
	return ret;
}

static void log_end(struct peer *peer, int err)
{
	struct server *server = peer->server;
	u32 sessions = srv_conn_sessions(peer->conn);

	if (err == -EPROTO) {
		server->malformed++;
		memx_log_limited(MEMX_LOG_WARNING, "peer-violation", "peer=%s reason=\"%s\" sessions=%u", peer->name,
				 srv_conn_reason(peer->conn), sessions);
	} else if (err == -ETIMEDOUT) {
		server->timeouts++;
		memx_log_limited(MEMX_LOG_WARNING, "peer-timeout", "peer=%s reason=\"%s\" sessions=%u", peer->name,
				 srv_conn_greeted(peer->conn) ? "took no reply" : "sent no HELLO", sessions);
	} else if (err < 0) {
		server->broken++;
		memx_log_limited(MEMX_LOG_NOTICE, "peer-lost", "peer=%s reason=\"%s\" sessions=%u", peer->name,
				 strerror(-err), sessions);
	} else {
		memx_log_limited(MEMX_LOG_INFO, "peer-closed", "peer=%s sessions=%u frames=%llu", peer->name, sessions,
				 (unsigned long long)peer->frames);
	}
}

static void set_events(struct peer *peer)
{
	bool waiting = peer->wait_at < peer->wait_len;
	u32 events = (waiting ? EPOLLOUT : 0) | (choked(peer) || peer->last_words || peer->eof ? 0 : EPOLLIN);

	if (events != peer->watch.events)
		memx_watch_events(&peer->watch, events);
}

static void peer_ready(struct memx_watch *watch, uint32_t events)
{
	struct peer *peer = (struct peer *)watch;
	struct server *server = peer->server;
	int err = 0;

	if (events & EPOLLOUT || peer->wait_at < peer->wait_len)
		err = send_waiting(peer);
	if (!err)
		err = read_turn(peer);
	/* Also on error: what was answered before a frame that breaks the protocol was in order. */
	if (!err || err == -EPROTO) {
		int ret = flush(peer);

		err = err ? err : ret;
	} else {
		server->out.used = server->out.iovs = 0;
		server->out.bytes = 0;
		server->out.refs = false;
	}
	server_scrub_later(server);
	if (err || (((peer->last_words || peer->eof) && peer->wait_at == peer->wait_len) && !memx_timer_pending(&peer->again))) {
		log_end(peer, err);
		peer_close(peer);
		if (server->leaving && !server->peers)
			memx_loop_stop(server->loop);
		return;
	}
	set_events(peer);
}

/*
 * Kept with what waits, and sent with the next round of the loop: this may be called from the middle of anybody's batch. A peer
 * without memory for it, or that takes nothing, is cut off like any other.
 */
void peer_send(void *ctx, void *conn_ctx, const void *frame, u32 len)
{
	struct peer *peer = conn_ctx;
	struct iovec iov = { .iov_base = (void *)frame, .iov_len = len };

	(void)ctx;
	if (peer->last_words || peer->eof)
		return;
	if (peer->wait_at == peer->wait_len)
		peer->moved_ns = memx_loop_now(peer->server->loop);
	if (!keep(peer, &iov, 1, len, 0))
		set_events(peer);
	else
		shutdown(peer->watch.fd, SHUT_RDWR);	/* it must not go on as if it had been told */
}

/* ---- coming and going ------------------------------------------------------------------------------------------------- */

static int peer_new(struct server *server, int fd, const struct memx_addr *addr)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	if (!peer)
		goto out_close;
	peer->server = server;
	peer->in = malloc(IN_SIZE);
	peer->conn = srv_conn_open(server->core, peer);
	memx_addr_format(peer->name, addr);
	peer->since_ns = peer->moved_ns = memx_loop_now(server->loop);
	if (!peer->in || !peer->conn || memx_watch_add(server->loop, &peer->watch, fd, EPOLLIN, peer_ready))
		goto out_free;
	peer->next = server->peers;
	peer->link = &server->peers;
	if (peer->next)
		peer->next->link = &peer->next;
	server->peers = peer;
	server->peer_count++;
	server->accepted++;
	memx_log_limited(MEMX_LOG_INFO, "peer-connected", "peer=%s connections=%u", peer->name, server->peer_count);
	return 0;

out_free:
	if (peer->conn)
		srv_conn_close(peer->conn);
	free(peer->in);
	free(peer);
out_close:
	close(fd);
	return -ENOMEM;
}

static void accept_ready(struct memx_watch *watch, uint32_t events)
{
	struct server *server = (struct server *)((u8 *)watch - offsetof(struct server, listener.watch));
	struct memx_addr addr;
	int fd;

	(void)events;
	for (;;) {
		fd = memx_net_accept(watch->fd, &addr);
		if (fd < 0) {
			if (memx_listener_failed(&server->listener, fd))
				memx_log_limited(MEMX_LOG_WARNING, "accept-failed", "reason=\"%s\"", strerror(-fd));
			return;
		}
		if (server->peer_count >= server->settings.max_connections) {
			close(fd);
			server->refused++;
			memx_log_limited(MEMX_LOG_WARNING, "peer-refused", "peer=%s reason=\"max_connections = %u reached\"",
					 memx_addr_text(&addr), server->settings.max_connections);
			continue;
		}
		if (peer_new(server, fd, &addr))
			memx_log_limited(MEMX_LOG_ERR, "peer-refused", "peer=%s reason=\"no memory\"", memx_addr_text(&addr));
	}
}

static void sweep(struct memx_timer *timer, uint64_t now)
{
	struct server *server = (struct server *)((u8 *)timer - offsetof(struct server, sweep));
	bool lagged = memx_loop_lag(server->loop) > SECOND;	/* then the delay may be ours */
	struct peer *peer, *next;

	for (peer = server->peers; peer && !lagged; peer = next) {
		bool waiting = peer->wait_at < peer->wait_len;

		next = peer->next;
		if ((waiting && now - peer->moved_ns > STALL_NS) ||
		    (!srv_conn_greeted(peer->conn) && now - peer->since_ns > GREET_NS)) {
			log_end(peer, -ETIMEDOUT);
			peer_close(peer);
		}
	}
	memx_timer_set(server->loop, timer, now + SECOND, sweep);
}

int peers_listen(struct server *server)
{
	struct srv_out *out = &server->out;
	int fd, ret;

	out->size = OUT_BUF;
	out->max_iovs = OUT_IOVS;
	out->buf = malloc(OUT_BUF);
	out->iov = malloc(OUT_IOVS * sizeof(*out->iov));
	if (!out->buf || !out->iov)
		return -ENOMEM;
	fd = memx_net_listen(&server->settings.listen);
	if (fd < 0)
		return fd;
	server->port = memx_net_local_port(fd);
	ret = memx_listener_open(server->loop, &server->listener, fd, accept_ready);
	if (ret) {
		close(fd);
		return ret;
	}
	return memx_timer_set(server->loop, &server->sweep, memx_loop_now(server->loop) + SECOND, sweep);
}

void peers_leave(struct server *server)
{
	struct peer *peer, *next;

	memx_listener_close(&server->listener);
	server->leaving = true;
	for (peer = server->peers; peer; peer = next) {
		next = peer->next;
		/* Frames that have arrived are answered; then the peer learns of the end by the end of the stream. */
		shutdown(peer->watch.fd, SHUT_RD);
		peer_ready(&peer->watch, 0);
	}
	if (!server->peers)
		memx_loop_stop(server->loop);
}

void peers_free(struct server *server)
{
	struct peer *peer, *next;

	memx_listener_close(&server->listener);
	memx_timer_cancel(&server->sweep);
	for (peer = server->peers; peer; peer = next) {
		next = peer->next;
		peer_close(peer);
	}
	free(server->out.buf);
	free(server->out.iov);
}

void peers_each(struct server *server, void (*each)(void *ctx, const char *addr, const struct srv_conn *conn, u64 frames,
						      u64 queued), void *ctx)
{
	struct peer *peer;

	for (peer = server->peers; peer; peer = peer->next)
		each(ctx, peer->name, peer->conn, peer->frames, peer->wait_len - peer->wait_at);
}
