// SPDX-License-Identifier: GPL-2.0-only
/*
 * core.c - the core itself, its connections, and the way of a frame: judged by itself, dispatched, answered.
 *
 * What a frame alone tells to be wrong (an operation before HELLO, a length that does not belong to the operation, a
 * reserved field in use) ends its connection: such a peer does not speak this protocol. What is wrong only in the light of
 * the session is answered with a status and harms nothing else that the connection carries.
 */
#include <stdlib.h>

#include "internal.h"

struct srv *srv_new(const struct srv_config *config, struct srv_store *store, const struct srv_ops *ops, void *ctx)
{
	struct srv *srv = calloc(1, sizeof(*srv));

	if (!srv)
		return NULL;
	srv->config = *config;
	srv->store = store;
	if (ops)
		srv->ops = *ops;
	srv->ctx = ctx;
	srv->buckets = 16;
	srv->bucket = calloc(srv->buckets, sizeof(*srv->bucket));
	if (!srv->bucket || srv_chunks_init(srv)) {
		srv_destroy(srv);
		return NULL;
	}
	srv_set_limit(srv, config->limit_pages);
	return srv;
}

void srv_destroy(struct srv *srv)
{
	srv_drop_end(srv, srv->drop.serial, SRV_NO_ANSWER);
	while (srv->first)
		srv_session_free(srv->first);
	srv_chunks_fini(srv);
	free(srv->bucket);
	free(srv);
}

void srv_set_limit(struct srv *srv, u64 pages)
{
	u64 most = (u64)srv->store->chunks * SRV_CHUNK_PAGES;

	srv->limit = (pages < most ? pages : most) & ~(u64)(SRV_CHUNK_PAGES - 1);
	if (srv->limit / SRV_CHUNK_PAGES > srv->chunks.total)
		srv->chunks.total = (u32)(srv->limit / SRV_CHUNK_PAGES);
}

void srv_set_quota(struct srv *srv, u64 pages)
{
	srv->config.session_quota = pages;
}

void srv_set_domain(struct srv *srv, const char domain[MEMX_LABEL_LEN])
{
	memcpy(srv->config.domain, domain, MEMX_LABEL_LEN);
}

void srv_set_draining(struct srv *srv, bool draining)
{
	srv->draining = draining;
}

static u64 less(u64 from, u64 by)
{
	return from > by ? from - by : 0;
}

u64 srv_work(const struct srv *srv)
{
	return srv->work;
}

void srv_totals(const struct srv *srv, struct srv_totals *totals)
{
	*totals = (struct srv_totals) {
		.pages_total = srv->limit,
		.pages_used = (u64)srv->chunks.in_use * SRV_CHUNK_PAGES,
		.pages_reserved = srv->promised,
		.pages_asked = less((u64)srv->chunks.in_use * SRV_CHUNK_PAGES, srv->limit),
		.sessions = srv->sessions,
		.connections = srv->connections,
		.extents = srv->extents,
		.draining = srv->draining,
	};
}

const struct srv_counters *srv_counters(const struct srv *srv)
{
	return &srv->count;
}

void srv_event(struct srv *srv, enum srv_event_kind kind, const struct srv_session *s, u64 number, struct srv_conn *conn)
{
	struct srv_event event = {
		.kind = kind,
		.vm = s->vm,
		.session = s->id,
		.epoch = s->epoch,
		.number = number,
		.conn_ctx = conn ? conn->ctx : NULL,
	};

	if (srv->ops.event)
		srv->ops.event(srv->ctx, &event);
}

/* ---- connections ------------------------------------------------------------------------------------------------------ */

struct srv_conn *srv_conn_open(struct srv *srv, void *ctx)
{
	struct srv_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->srv = srv;
	conn->ctx = ctx;
	conn->serial = ++srv->conn_serial;
	conn->next = srv->conns;
	if (conn->next)
		conn->next->prev = conn;
	srv->conns = conn;
	srv->connections++;
	return conn;
}

void srv_conn_close(struct srv_conn *conn)
{
	srv_conn_drop_handles(conn);
	srv_peers_put(conn->peers);
	*(conn->prev ? &conn->prev->next : &conn->srv->conns) = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	conn->srv->connections--;
	free(conn);
}

const char *srv_conn_reason(const struct srv_conn *conn)
{
	return conn->reason ? conn->reason : "none";
}

bool srv_conn_greeted(const struct srv_conn *conn)
{
	return conn->greeted;
}

u32 srv_conn_sessions(const struct srv_conn *conn)
{
	return conn->handles;
}

void srv_conn_violation(struct srv_conn *conn, const char *reason)
{
	conn->reason = reason;
	conn->srv->count.violations++;
}

int srv_violation(struct srv_req *req, const char *reason)
{
	srv_conn_violation(req->conn, reason);
	return -EPROTO;
}

/* ---- replies ---------------------------------------------------------------------------------------------------------- */

static void append(struct srv_out *out, const void *from, u32 bytes)
{
	struct iovec *last;

	out->bytes += bytes;
	if (out->iovs) {
		last = &out->iov[out->iovs - 1];
		if ((const u8 *)last->iov_base + last->iov_len == from) {
			last->iov_len += bytes;
			return;
		}
	}
	out->iov[out->iovs++] = (struct iovec) { .iov_base = (void *)from, .iov_len = bytes };
}

/* @len: of the whole body; @here: bytes of it that lie in the buffer, the rest follows by srv_reply_ref(). */
static void *begin(struct srv_req *req, u32 status, u16 flags, u32 len, u32 here)
{
	struct srv_out *out = req->out;
	struct memx_head head = {
		.op = req->head->op,
		.reply = true,
		.flags = flags,
		.len = len,
		.status = status,
		.tag = req->head->tag,
		.epoch = req->head->epoch,
	};
	u8 *at = out->buf + out->used;

	memx_hdr_put((struct memx_hdr *)at, &head);
	append(out, at, MEMX_HDR_LEN + here);
	out->used += MEMX_HDR_LEN + here;
	memset(at + MEMX_HDR_LEN, 0, here);
	return at + MEMX_HDR_LEN;
}

void *srv_reply(struct srv_req *req, u32 status, u16 flags, u32 len)
{
	return begin(req, status, flags, len, len);
}

void *srv_reply_pages(struct srv_req *req, u32 status, u32 count, u32 good)
{
	return begin(req, status, 0, memx_fetched_len(count, good), memx_fetched_len(count, 0));
}

void srv_reply_ref(struct srv_req *req, const void *from, u32 bytes)
{
	append(req->out, from, bytes);
	req->out->refs = true;
}

int srv_answer(struct srv_req *req, u32 status)
{
	struct srv_counters *count = &req->conn->srv->count;

	if (status == MEMX_S_FENCED)
		count->fenced++;
	else if (status == MEMX_S_INVALID)
		count->invalid++;
	else if (status == MEMX_S_GENERATION)
		count->generation++;
	else if (status == MEMX_S_NOSPACE)
		count->nospace++;
	srv_reply(req, status, 0, 0);
	return 0;
}

/* ---- operations that need no session ---------------------------------------------------------------------------------- */

static int op_hello(struct srv_req *req)
{
	const struct memx_hello *hello = req->body;
	struct srv_conn *conn = req->conn;
	const struct srv_config *config = &conn->srv->config;
	struct memx_hello *answer;
	u16 proto;

	if (conn->greeted)
		return srv_violation(req, "a second HELLO");
	if (memx_check_hello(hello))
		return srv_violation(req, "a reserved field of HELLO in use");
	if (hello->role != MEMX_ROLE_RELAY && hello->role != MEMX_ROLE_DONOR && hello->role != MEMX_ROLE_ADMIN)
		return srv_violation(req, "HELLO from a role that has no business here");

	proto = memx_proto_common(MEMX_PROTO_MIN, MEMX_PROTO_MAX, memx_le16(hello->proto_min), memx_le16(hello->proto_max));
	answer = srv_reply(req, proto ? MEMX_S_OK : MEMX_S_PROTO, 0, sizeof(*answer));
	answer->proto_min = memx_put_le16(MEMX_PROTO_MIN);
	answer->proto_max = memx_put_le16(MEMX_PROTO_MAX);
	answer->proto = memx_put_le16(proto);
	answer->role = MEMX_ROLE_DONOR;
	/* Seal tags are opaque to a donor, so that feature is granted to whoever wants it. */
	conn->features = memx_le64(hello->features) &
			 (MEMX_FEATURE_SEAL | (hello->role != MEMX_ROLE_ADMIN ? MEMX_FEATURE_RECLAIM : 0));
	answer->features = memx_put_le64(conn->features);
	answer->instance = memx_put_le64(config->instance);
	memcpy(answer->id, config->id, sizeof(answer->id));
	conn->greeted = proto;
	conn->role = hello->role;
	memcpy(conn->id, hello->id, sizeof(conn->id));
	return proto ? 0 : 1;
}

static int op_ping(struct srv_req *req)
{
	return srv_answer(req, MEMX_S_OK);
}

void srv_stat(const struct srv *srv, struct memx_stat *stat)
{
	struct srv_totals totals;

	srv_totals(srv, &totals);
	stat->pages_total = memx_put_le64(totals.pages_total);
	stat->pages_used = memx_put_le64(totals.pages_used);
	stat->pages_reserved = memx_put_le64(totals.pages_reserved);
	stat->pages_asked = memx_put_le64(totals.pages_asked);
	stat->sessions = memx_put_le32(totals.sessions);
	stat->flags = memx_put_le32(totals.draining ? MEMX_STAT_DRAINING : 0);
	memcpy(stat->domain, srv->config.domain, sizeof(stat->domain));
}

static int op_stat(struct srv_req *req)
{
	srv_stat(req->conn->srv, srv_reply(req, MEMX_S_OK, 0, sizeof(struct memx_stat)));
	return 0;
}

/* ---- dispatch --------------------------------------------------------------------------------------------------------- */

/*
 * `min` and `max`: lengths that the body can have at all; what depends on a count is checked by the operation, which may
 * rely on `min` bytes being there.
 */
static const struct srv_op {
	int (*run)(struct srv_req *req);
	u32 min, max;
	u16 flags;		/* that a request may carry */
	bool changes_pages;
} ops[] = {
	[MEMX_OP_HELLO]   = { op_hello,	sizeof(struct memx_hello), sizeof(struct memx_hello), 0, false },
	[MEMX_OP_PING]    = { op_ping, 0, 0, 0, false },
	[MEMX_OP_STORE]   = { srv_op_store, sizeof(struct memx_io), MEMX_MAX_BODY, MEMX_F_REPAIR, true },
	[MEMX_OP_FETCH]   = { srv_op_fetch, sizeof(struct memx_io), MEMX_MAX_BODY, MEMX_F_REPAIR, false },
	[MEMX_OP_DISCARD] = { srv_op_discard, sizeof(struct memx_io), MEMX_MAX_BODY, MEMX_F_REPAIR, true },
	[MEMX_OP_DETACH]  = { srv_op_detach, sizeof(struct memx_list), sizeof(struct memx_list), 0, true },
	[MEMX_OP_FENCE]   = { srv_op_fence, sizeof(struct memx_fence), sizeof(struct memx_fence), 0, false },
	[MEMX_OP_RESERVE] = { srv_op_reserve, sizeof(struct memx_reserve), sizeof(struct memx_reserve), 0, false },
	[MEMX_OP_PLACE]   = { srv_op_place, sizeof(struct memx_place), sizeof(struct memx_place), 0, true },
	[MEMX_OP_FREE]    = { srv_op_free, sizeof(struct memx_list) + sizeof(struct memx_extent_ref),
			      sizeof(struct memx_list) + sizeof(struct memx_extent_ref), 0, true },
	[MEMX_OP_RETAIN]  = { srv_op_retain, sizeof(struct memx_list),
			      sizeof(struct memx_list) + MEMX_MAX_EXTENTS * sizeof(struct memx_extent_ref),
			      MEMX_F_FIRST | MEMX_F_LAST, true },
	[MEMX_OP_LIST]    = { srv_op_list, sizeof(struct memx_list) + sizeof(struct memx_extent_ref),
			      sizeof(struct memx_list) + sizeof(struct memx_extent_ref), 0, false },
	[MEMX_OP_SCAN]    = { srv_op_scan, sizeof(struct memx_list) + sizeof(struct memx_extent_ref),
			      sizeof(struct memx_list) + sizeof(struct memx_extent_ref), 0, false },
	[MEMX_OP_STAT]    = { op_stat, 0, 0, 0, false },
	[MEMX_OP_PIN]     = { srv_op_pin, sizeof(struct memx_pin), sizeof(struct memx_pin) + sizeof(struct memx_record) +
			      (1U << MEMX_MAX_EXTENT_ORDER) * sizeof(__le64), 0, false },
	[MEMX_OP_PEERS]   = { srv_op_peers, sizeof(struct memx_list), sizeof(struct memx_list) +
			      MEMX_MAX_PEERS * sizeof(struct memx_peer), 0, false },
};

static const struct srv_op *op_of(u16 op)
{
	return op < sizeof(ops) / sizeof(ops[0]) && ops[op].run ? &ops[op] : NULL;
}

bool srv_changes_pages(u16 op)
{
	const struct srv_op *o = op_of(op);

	return o && o->changes_pages;
}

int srv_frame(struct srv_conn *conn, const struct memx_head *head, const void *body, struct srv_out *out, u64 now_ns)
{
	struct srv_req req = { .conn = conn, .head = head, .body = body, .out = out, .now_ns = now_ns };
	const struct srv_op *op = op_of(head->op);

	conn->srv->count.frames++;
	if (!conn->greeted && head->op != MEMX_OP_HELLO)
		return srv_violation(&req, "first frame is not HELLO");
	if (head->reply)
		return srv_answered(&req);
	if (!op)
		return srv_answer(&req, MEMX_S_OP);
	if (head->len < op->min || head->len > op->max)
		return srv_violation(&req, "length does not belong to the operation");
	if (head->flags & ~op->flags)
		return srv_violation(&req, "flag does not belong to the operation");
	return op->run(&req);
}
