// SPDX-License-Identifier: GPL-2.0-only
/*
 * reclaim.c - memory that is wanted back: what is used beyond the limit.
 *
 * Relays are asked first (ASK): they can move a copy elsewhere before they free it here. One that never answers is not asked
 * again: it is hung, or of a kind that cannot.
 */
#include "internal.h"

u32 srv_ask(struct srv *srv)
{
	struct {
		struct memx_hdr hdr;
		struct memx_stat stat;
	} frame = { .hdr = { 0 } };
	struct memx_head head = { .op = MEMX_OP_ASK, .len = sizeof(frame.stat) };
	struct srv_conn *conn;
	u32 asked = 0;

	if (!srv->ops.send)
		return 0;
	srv_stat(srv, &frame.stat);
	for (conn = srv->conns; conn; conn = conn->next) {
		if (conn->role != MEMX_ROLE_RELAY || !(conn->features & MEMX_FEATURE_RECLAIM))
			continue;
		asked++;
		if (conn->asked)
			continue;
		conn->asked = true;
		head.tag = ++conn->tag;
		memx_hdr_put(&frame.hdr, &head);
		srv->count.asks++;
		srv->ops.send(srv->ctx, conn->ctx, &frame, sizeof(frame));
	}
	return asked;
}

int srv_answered(struct srv_req *req)
{
	struct srv_conn *conn = req->conn;

	if (req->head->op != MEMX_OP_ASK || !conn->asked || req->head->tag != conn->tag)
		return srv_violation(req, "a reply to nothing that was asked");
	if (req->head->len)
		return srv_violation(req, "an answer to ASK with a body");
	conn->asked = false;
	return 0;
}
