// SPDX-License-Identifier: GPL-2.0-only
/*
 * conn.c - a connection that carries frames: reads headers in bulk and bodies in place, writes a queue of pieces.
 *
 * Owner: the thread of the connection's loop. The structure may only go in closed(), which is why closing from within one of
 * its callbacks is put off until that callback has returned.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user/net.h"

enum {
	IN_SIZE = 32768,		/* read ahead of the frame at hand */
	CHUNK_SIZE = 65536 - 64,
	MAX_SPARES = 4,
	READ_BUDGET = 256 << 10,	/* bytes per round, so that one peer does not keep the others waiting */
	IOV_BATCH = 128,
};

_Static_assert(MEMX_CONN_PUT_MAX <= CHUNK_SIZE, "a piece must fit into a chunk");

struct memx_chunk {
	struct memx_chunk *next;
	uint32_t used, refs;		/* refs: segments that lie in it, and one while it is being filled */
	uint8_t data[CHUNK_SIZE] __attribute__((aligned(8)));
};

struct memx_seg {
	const uint8_t *data;
	uint32_t len;
	struct memx_chunk *chunk;	/* where the bytes are our own */
	void (*release)(void *arg);
	void *arg;
};

/* ---- output ---- */

static void chunk_put(struct memx_conn *conn, struct memx_chunk *chunk)
{
	if (--chunk->refs)
		return;
	if (conn->spares < MAX_SPARES && !conn->closing) {
		chunk->next = conn->spare;
		conn->spare = chunk;
		conn->spares++;
	} else {
		free(chunk);
	}
}

static struct memx_chunk *chunk_get(struct memx_conn *conn)
{
	struct memx_chunk *chunk = conn->spare;

	if (chunk) {
		conn->spare = chunk->next;
		conn->spares--;
	} else {
		chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return NULL;
	}
	chunk->used = 0;
	chunk->refs = 1;
	return chunk;
}

static struct memx_seg *seg_at(struct memx_conn *conn, uint32_t index)
{
	return &conn->segs[(conn->seg_first + index) & (conn->seg_size - 1)];
}

static struct memx_seg *seg_new(struct memx_conn *conn)
{
	if (conn->seg_count == conn->seg_size) {
		uint32_t size = conn->seg_size ? conn->seg_size * 2 : 64;
		struct memx_seg *segs = malloc(size * sizeof(*segs));

		if (!segs)
			return NULL;
		for (uint32_t i = 0; i < conn->seg_count; i++)
			segs[i] = *seg_at(conn, i);
		free(conn->segs);
		conn->segs = segs;
		conn->seg_size = size;
		conn->seg_first = 0;
	}
	return seg_at(conn, conn->seg_count++);
}

static void seg_drop(struct memx_conn *conn)
{
	struct memx_seg seg = *seg_at(conn, 0);

	conn->seg_first = (conn->seg_first + 1) & (conn->seg_size - 1);
	conn->seg_count--;
	if (seg.chunk)
		chunk_put(conn, seg.chunk);
	else if (seg.release)
		seg.release(seg.arg);
}

static void queued_more(struct memx_conn *conn, uint32_t len)
{
	if (!conn->queued)
		conn->progress_at = memx_loop_now(conn->loop);
	conn->queued += len;
	if (!(conn->watch.events & EPOLLOUT))
		memx_work_queue(conn->loop, &conn->flush);
}

void *memx_conn_put(struct memx_conn *conn, uint32_t len)
{
	struct memx_chunk *chunk = conn->chunk;
	struct memx_seg *last = conn->seg_count ? seg_at(conn, conn->seg_count - 1) : NULL;
	uint32_t from = chunk ? (chunk->used + 7) & ~7U : 0;
	uint8_t *at;

	if (!memx_conn_is_open(conn) || len > MEMX_CONN_PUT_MAX)
		return NULL;
	if (!chunk || from + len > CHUNK_SIZE) {
		if (chunk)
			chunk_put(conn, chunk);
		conn->chunk = chunk = chunk_get(conn);
		if (!chunk)
			goto out_memory;
		from = 0;
	}
	at = chunk->data + from;
	if (last && last->chunk == chunk && last->data + last->len == at) {
		last->len += len;
	} else {
		last = seg_new(conn);
		if (!last)
			goto out_memory;
		*last = (struct memx_seg){ .data = at, .len = len, .chunk = chunk };
		chunk->refs++;
	}
	chunk->used = from + len;
	queued_more(conn, len);
	return at;

out_memory:
	memx_conn_close(conn, -ENOMEM);
	return NULL;
}

void memx_conn_put_ref(struct memx_conn *conn, const void *data, uint32_t len, void (*release)(void *arg), void *arg)
{
	struct memx_seg *seg = memx_conn_is_open(conn) ? seg_new(conn) : NULL;

	if (!seg) {
		if (release)
			release(arg);
		memx_conn_close(conn, -ENOMEM);
		return;
	}
	*seg = (struct memx_seg){ .data = data, .len = len, .release = release, .arg = arg };
	queued_more(conn, len);
}

int memx_conn_send(struct memx_conn *conn, const struct memx_head *head, const void *body, uint32_t len)
{
	void *at;

	if (!memx_conn_is_open(conn))
		return -ENOTCONN;
	if (!memx_conn_fits(conn, MEMX_HDR_LEN + len) || MEMX_HDR_LEN + len > MEMX_CONN_PUT_MAX)
		return -ENOBUFS;
	at = memx_conn_put(conn, MEMX_HDR_LEN + len);
	if (!at)
		return -ENOMEM;
	memx_hdr_put(at, head);
	if (len)
		memcpy((uint8_t *)at + MEMX_HDR_LEN, body, len);
	return 0;
}

/* Takes @len written bytes off the queue. */
static void written(struct memx_conn *conn, size_t len)
{
	if (!len)
		return;
	conn->queued -= len;
	conn->bytes_out += len;
	conn->progress_at = memx_loop_now(conn->loop);
	while (len) {
		struct memx_seg *seg = seg_at(conn, 0);

		if (len < seg->len) {
			seg->data += len;
			seg->len -= (uint32_t)len;
			return;
		}
		len -= seg->len;
		seg_drop(conn);
	}
	if (!conn->queued && conn->chunk && conn->chunk->refs == 1)
		conn->chunk->used = 0;
}

static void flush_queue(struct memx_conn *conn)
{
	struct iovec iov[IOV_BATCH];

	while (conn->queued && memx_conn_is_open(conn)) {
		uint32_t n = conn->seg_count < IOV_BATCH ? conn->seg_count : IOV_BATCH;
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
		size_t want = 0;
		ssize_t sent;

		for (uint32_t i = 0; i < n; i++) {
			struct memx_seg *seg = seg_at(conn, i);

			iov[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)seg->data, .iov_len = seg->len };
			want += seg->len;
		}
		sent = sendmsg(conn->watch.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN) {
				memx_conn_close(conn, -errno);
				return;
			}
			sent = 0;
		}
		written(conn, (size_t)sent);
		if ((size_t)sent < want) {
			memx_watch_events(&conn->watch, conn->watch.events | EPOLLOUT);
			return;
		}
	}
	if (memx_conn_is_open(conn))
		memx_watch_events(&conn->watch, conn->watch.events & ~(uint32_t)EPOLLOUT);
}

static void flush_work(struct memx_work *work)
{
	flush_queue((struct memx_conn *)((char *)work - offsetof(struct memx_conn, flush)));
}

/* ---- the end ---- */

static void finish(struct memx_conn *conn)
{
	void *body = conn->ops->body ? conn->body : NULL;
	int err = conn->doomed == 1 ? 0 : conn->doomed;

	if (conn->closing)
		return;
	conn->closing = true;
	memx_work_cancel(&conn->flush);
	close(conn->watch.fd);
	memx_watch_del(&conn->watch);
	conn->watch.fd = -1;
	while (conn->seg_count)
		seg_drop(conn);
	conn->queued = 0;
	if (conn->chunk)
		free(conn->chunk);
	while (conn->spare) {
		struct memx_chunk *next = conn->spare->next;

		free(conn->spare);
		conn->spare = next;
	}
	free(conn->segs);
	free(conn->in);
	free(conn->own_body);
	conn->chunk = NULL;
	conn->segs = NULL;
	conn->in = conn->own_body = conn->body = NULL;
	conn->ops->closed(conn, err, body);
}

static void finish_work(struct memx_work *work)
{
	finish((struct memx_conn *)((char *)work - offsetof(struct memx_conn, flush)));
}

/*
 * closed() is always called from deferred work or at the end of reading, never inside a call that the owner made: owners
 * need not expect their structure to go while they use it.
 */
void memx_conn_close(struct memx_conn *conn, int err)
{
	if (conn->closing || conn->doomed || conn->watch.fd < 0)
		return;
	conn->doomed = err ? err : 1;
	memx_work_cancel(&conn->flush);
	if (conn->in_read)
		return;
	memx_watch_events(&conn->watch, 0);
	conn->flush.run = finish_work;
	memx_work_queue(conn->loop, &conn->flush);
}

void memx_conn_abort(struct memx_conn *conn, int err)
{
	if (conn->closing || conn->watch.fd < 0)
		return;
	if (!conn->doomed)
		conn->doomed = err ? err : 1;
	finish(conn);
}

/* ---- input ---- */

/* Takes the header at the front of the read-ahead; 1: there is one now, 0: not yet, or -errno. */
static int take_head(struct memx_conn *conn)
{
	struct memx_hdr hdr;

	if (conn->in_len - conn->in_at < sizeof(hdr))
		return 0;
	memcpy(&hdr, conn->in + conn->in_at, sizeof(hdr));
	conn->in_at += sizeof(hdr);
	if (memx_head_get(&conn->head, &hdr, conn->max_body)) {
		snprintf(conn->why, sizeof(conn->why), "header not understood: magic %08x op %u len %u",
			 memx_le32(hdr.magic), memx_le16(hdr.op), memx_le32(hdr.len));
		return -EPROTO;
	}
	conn->have_head = true;
	conn->body_len = 0;
	conn->body = NULL;
	if (!conn->head.len)
		return 1;
	if (conn->ops->body) {
		conn->body = conn->ops->body(conn, &conn->head);
	} else {
		if (!conn->own_body)
			conn->own_body = malloc(conn->max_body);
		conn->body = conn->own_body;
	}
	return conn->body ? 1 : -ENOMEM;
}

/* Handles every frame of which all bytes are there. 0 or -errno. */
static int take_frames(struct memx_conn *conn)
{
	while (!conn->doomed) {
		uint32_t have, need;
		void *body;
		int ret;

		if (!conn->have_head) {
			ret = take_head(conn);
			if (ret <= 0)
				return ret;
		}
		have = conn->in_len - conn->in_at;
		need = conn->head.len - conn->body_len;
		if (have > need)
			have = need;
		if (have)
			memcpy(conn->body + conn->body_len, conn->in + conn->in_at, have);
		conn->in_at += have;
		conn->body_len += have;
		if (have < need)
			return 0;
		conn->have_head = false;
		conn->frames_in++;
		body = conn->body;
		conn->body = NULL;
		ret = conn->ops->frame(conn, &conn->head, body);
		if (ret)
			return ret;
	}
	return 0;
}

static int read_some(struct memx_conn *conn, size_t *left)
{
	struct iovec iov[2];
	size_t want, room;
	ssize_t got;
	int n = 0;

	if (conn->in_at) {
		conn->in_len -= conn->in_at;
		memmove(conn->in, conn->in + conn->in_at, conn->in_len);
		conn->in_at = 0;
	}
	room = IN_SIZE - conn->in_len;
	want = room;
	if (conn->have_head && conn->body_len < conn->head.len) {
		iov[n++] = (struct iovec){ conn->body + conn->body_len, conn->head.len - conn->body_len };
		want += conn->head.len - conn->body_len;
	}
	iov[n++] = (struct iovec){ conn->in + conn->in_len, room };
	got = readv(conn->watch.fd, iov, n);
	if (got < 0)
		return errno == EINTR ? 1 : -errno;
	if (!got) {
		if (!conn->have_head && !conn->in_len)
			return -ESHUTDOWN;
		snprintf(conn->why, sizeof(conn->why), "the peer closed in the middle of a frame");
		return -ECONNRESET;
	}
	conn->bytes_in += (uint64_t)got;
	*left = (size_t)got < *left ? *left - (size_t)got : 0;
	/* What came for the body at hand, then what came behind it. */
	if (n == 2) {
		size_t part = (size_t)got < iov[0].iov_len ? (size_t)got : iov[0].iov_len;

		conn->body_len += (uint32_t)part;
		conn->in_len += (uint32_t)((size_t)got - part);
	} else {
		conn->in_len += (uint32_t)got;
	}
	/* A short read: the socket is empty, the next round will tell when it is not. */
	return (size_t)got == want ? 1 : 0;
}

static void conn_ready(struct memx_watch *watch, uint32_t events)
{
	struct memx_conn *conn = (struct memx_conn *)((char *)watch - offsetof(struct memx_conn, watch));
	size_t left = READ_BUDGET;
	int ret = 1;

	if (conn->doomed)
		return;
	if (events & EPOLLOUT)
		flush_queue(conn);
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
		conn->in_read = true;
		while (ret > 0 && left && !conn->doomed) {
			int more = read_some(conn, &left);

			ret = more < 0 ? more : take_frames(conn);
			if (!ret)
				ret = more;
		}
		conn->in_read = false;
		if (ret < 0 && ret != -EAGAIN && !conn->doomed)
			conn->doomed = ret == -ESHUTDOWN ? 1 : ret;
	}
	if (conn->doomed)
		finish(conn);
}

void memx_conn_pause(struct memx_conn *conn, bool pause)
{
	if (memx_conn_is_open(conn))
		memx_watch_events(&conn->watch, pause ? conn->watch.events & ~(uint32_t)EPOLLIN : conn->watch.events | EPOLLIN);
}

int memx_conn_open(struct memx_conn *conn, struct memx_loop *loop, int fd, const struct memx_conn_ops *ops,
		   uint32_t max_body, uint64_t limit)
{
	int ret = -ENOMEM;

	conn->loop = loop;
	conn->ops = ops;
	conn->max_body = max_body;
	conn->limit = limit;
	conn->flush.run = flush_work;
	conn->watch.fd = -1;
	conn->in = malloc(IN_SIZE);
	if (conn->in)
		ret = memx_watch_add(loop, &conn->watch, fd, EPOLLIN, conn_ready);
	if (ret) {
		free(conn->in);
		conn->in = NULL;
		close(fd);
	}
	return ret;
}
