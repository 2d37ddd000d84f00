/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * net.h - addresses, listening and connecting without blocking, and connections that carry frames.
 *
 * A connection belongs to the thread of its loop. Input: headers are read in bulk, bodies go where the owner wants them, so
 * that most of a long body is read in place. Output: a queue of pieces, either bytes in the connection's own memory or
 * references to the owner's, written with one writev() per batch at the end of the loop's round. Nothing blocks; the queue
 * has a limit that the owner asks for before it puts a frame.
 */
#ifndef MEMX_USER_NET_H
#define MEMX_USER_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "memx/codec.h"
#include "user/loop.h"

/* ---- addresses --------------------------------------------------------------------------------------------------------- */

enum { MEMX_ADDR_TEXT = 280 };

struct memx_addr {
	char host[256];			/* as written, without brackets; "" or "*": any (to listen) */
	uint16_t port;
	socklen_t len;			/* 0: host is a name, to be resolved */
	struct sockaddr_storage sa;
};

/* HOST:PORT, [IPV6]:PORT. Names are not resolved here. 0 or -EINVAL. */
int memx_addr_parse(struct memx_addr *addr, const char *text);
/*
 * Resolves a name; blocks while the resolver does: not for the data thread. 0, -ENOENT or -EAGAIN. Of several addresses that it has
 * this takes the first in the resolver's order if @turn is 0, the next if 1, and so on, round and round.
 */
int memx_addr_resolve(struct memx_addr *addr, unsigned int turn);
const char *memx_addr_error(int ret);		/* what it returned, for a person */
const char *memx_addr_format(char text[MEMX_ADDR_TEXT], const struct memx_addr *addr);
#define memx_addr_text(addr) memx_addr_format((char [MEMX_ADDR_TEXT]) { 0 }, addr)
void memx_addr_from_sockaddr(struct memx_addr *addr, const struct sockaddr_storage *sa, socklen_t len);

/* The address of a socket in the file system; -ENAMETOOLONG where @path does not fit. */
int memx_unix_address(struct sockaddr_un *un, const char *path);
/* A listening socket, nonblocking, or -errno. Port 0: the kernel chooses; see memx_net_local(). */
int memx_net_listen(const struct memx_addr *addr);
/* The local port of a socket, or 0. */
uint16_t memx_net_local_port(int fd);
/* Accepts one connection: nonblocking, TCP options set, or -errno (-EAGAIN: none). */
int memx_net_accept(int fd, struct memx_addr *peer);
/* Begins to connect (@addr resolved): a socket for which POLLOUT will tell the outcome, or -errno. */
int memx_net_connect(const struct memx_addr *addr, uint32_t user_timeout_ms);
/* The outcome: 0 or -errno. */
int memx_net_connected(int fd);

/* ---- framed connections -------------------------------------------------------------------------------------------------- */

struct memx_conn;

struct memx_conn_ops {
	/*
	 * The body of @head (head->len > 0 bytes) follows: where to put it. It stays the owner's. NULL: cannot take it, the
	 * connection closes with -ENOMEM. Not called where NULL: the connection's own buffer is used, valid during frame().
	 */
	void *(*body)(struct memx_conn *conn, const struct memx_head *head);
	/* A whole frame. 0, or -errno: the connection is closed with that. @body: what body() returned. */
	int (*frame)(struct memx_conn *conn, const struct memx_head *head, void *body);
	/*
	 * The connection is over (@err negative; 0: the peer closed in good order, between frames). @body: one that body() returned
	 * and that was not completed, or NULL. The queue has been released, the socket is closed. The owner may free the
	 * structure here.
	 */
	void (*closed)(struct memx_conn *conn, int err, void *body);
};

struct memx_seg;
struct memx_chunk;

struct memx_conn {
	struct memx_watch watch;
	struct memx_work flush;
	struct memx_loop *loop;
	const struct memx_conn_ops *ops;
	uint32_t max_body;
	bool closing;			/* closed() is due or was called */
	bool in_read;
	int doomed;			/* closed from within a callback, with this */

	/* input */
	uint8_t *in;			/* IN_SIZE bytes: what was read beyond the body at hand */
	uint32_t in_at, in_len;
	struct memx_head head;		/* of the frame at hand */
	bool have_head;
	uint8_t *body, *own_body;
	uint32_t body_len;		/* of the body at hand, read so far */

	/* output */
	struct memx_seg *segs;		/* ring */
	uint32_t seg_first, seg_count, seg_size;
	struct memx_chunk *chunk;	/* being filled */
	struct memx_chunk *spare;	/* empty ones */
	uint32_t spares;
	uint64_t queued, limit;		/* bytes */
	uint64_t bytes_in, bytes_out, frames_in;
	uint64_t progress_at;		/* when output last moved or began, ns */
	char why[96];			/* text for -EPROTO and the like, of the connection itself */
};

/*
 * Takes over the connected socket @fd (also where it fails). @max_body: longest body taken; @limit: bytes that may be queued
 * for output. The owner zeroes @conn before. 0 or -errno.
 */
int memx_conn_open(struct memx_conn *conn, struct memx_loop *loop, int fd, const struct memx_conn_ops *ops,
		   uint32_t max_body, uint64_t limit);

/* Closes now, or as soon as the running callback of this connection returns; closed() is called with @err. */
void memx_conn_close(struct memx_conn *conn, int err);
/* The same at once: closed() is called before this returns. Not from a callback of this connection. */
void memx_conn_abort(struct memx_conn *conn, int err);
static inline bool memx_conn_is_open(const struct memx_conn *conn)
{
	return conn->watch.fd >= 0 && !conn->doomed;
}

/* Do @len more bytes fit into the queue? Ask before the first piece of a frame: a frame is queued whole or not at all. */
static inline bool memx_conn_fits(const struct memx_conn *conn, uint64_t len)
{
	return memx_conn_is_open(conn) && conn->queued + len <= conn->limit;
}

/*
 * Queues @len bytes (at most MEMX_CONN_PUT_MAX) and returns where they are to be written, aligned to 8, before anything else
 * is queued; NULL: no memory, and the connection closes.
 */
#define MEMX_CONN_PUT_MAX 32768
void *memx_conn_put(struct memx_conn *conn, uint32_t len);
/*
 * Queues a reference to @len bytes, which must not change until @release(@arg) is called (NULL: never): after they were
 * written or when the connection is over. Released at once where the connection is closing.
 */
void memx_conn_put_ref(struct memx_conn *conn, const void *data, uint32_t len, void (*release)(void *arg), void *arg);
/* Queues a header and @len bytes behind it, copied. -ENOBUFS where it does not fit, -ENOTCONN. */
int memx_conn_send(struct memx_conn *conn, const struct memx_head *head, const void *body, uint32_t len);
/* Stops or resumes reading, so that a peer that asks faster than it takes answers waits. */
void memx_conn_pause(struct memx_conn *conn, bool pause);

#endif /* MEMX_USER_NET_H */
