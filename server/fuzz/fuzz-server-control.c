// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-server-control.c - libFuzzer target: what comes over a donor's control socket.
 *
 * The input is lines, each a request to a donor that holds two sessions, of which a relay has one open. Each is answered with one
 * object that can be written as JSON and says whether it went well, and why not. A session goes only if the request named it,
 * and the one that is open only by force.
 */
#include "../../shared/user/ctl.c"	/* NOLINT(bugprone-suspicious-include): what is tried is static there */

#include <fuzz/fuzz.h>
#include "../server.h"
#include "fuzz/control.h"

enum { CHUNKS = 8, SESSIONS = 2, OPEN = 0 };

static const u8 session_id[SESSIONS][16] = { "the one in use", "the one left" };
static const struct memx_ctl_cmd *cmds;

/* ---- played: the donor's other parts ---- */

struct memx_ctl *home_ctl(struct server *server, const struct memx_ctl_cmd *commands)
{
	cmds = commands;
	errno = server ? ENOENT : EINVAL;
	return NULL;
}

void peers_each(struct server *server, void (*each)(void *ctx, const char *addr, const struct srv_conn *conn, u64 frames,
						      u64 queued), void *ctx)
{
	struct srv_conn *conn = srv_conn_open(server->core, NULL);

	each(ctx, "192.0.2.1:7", conn, ~0ULL, 1);
	srv_conn_close(conn);
}

int server_set_limit(struct server *server, u64 bytes)
{
	if (bytes > 1 << 20)
		return -ENOSPC;
	server->limit = bytes;
	srv_set_limit(server->core, (u64)srv_chunks_of(bytes) * SRV_CHUNK_PAGES);
	return 0;
}

u64 reclaim_waited(const struct server *server)
{
	return server->limit;
}

void server_scrub_later(struct server *server)
{
	srv_scrub(server->core, CHUNKS);
}

/* ---- two sessions ---- */

static void ask(struct srv_conn *conn, u16 op, const void *body, u32 len)
{
	static _Alignas(8) u8 buf[SRV_REPLY_BUF];
	struct iovec iov[SRV_REPLY_IOVS];
	struct srv_out out = { .buf = buf, .size = sizeof(buf), .iov = iov, .max_iovs = SRV_REPLY_IOVS };
	struct memx_head head = { .op = op, .len = len, .epoch = op == MEMX_OP_FENCE };

	fuzz_must(!srv_frame(conn, &head, body, &out, 0), "operation %u", op);
}

static struct srv_conn *open_session(struct srv *core, u32 which)
{
	struct memx_hello hello = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY };
	struct memx_fence fence = { .lineage = { memx_put_le64(1) }, .slots = memx_put_le32(512), .extent_order = 6,
				    .flags = MEMX_FENCE_CREATE };
	struct srv_conn *conn = srv_conn_open(core, NULL);

	memcpy(fence.session, session_id[which], sizeof(fence.session));
	ask(conn, MEMX_OP_HELLO, &hello, sizeof(hello));
	ask(conn, MEMX_OP_FENCE, &fence, sizeof(fence));
	return conn;
}

static void note_session(void *ctx, const struct srv_session_info *info)
{
	bool *there = ctx;
	u32 i;

	for (i = 0; i < SESSIONS; i++)
		there[i] |= !memcmp(info->session, session_id[i], sizeof(info->session));
}

static void look(const struct srv *core, bool there[SESSIONS])
{
	memset(there, 0, SESSIONS * sizeof(*there));
	srv_sessions(core, note_session, there);
}

/* ---- the requests ---- */

static void request(struct memx_ctl *ctl, const struct srv *core, const char *line, size_t len)
{
	json_t *asked = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const char *session = json_string_value(json_object_get(asked, "session"));
	bool before[SESSIONS], after[SESSIONS];
	u8 named[16] = { 0 };
	u32 i;

	look(core, before);
	fuzz_check_reply(run_request(ctl, line, len));
	look(core, after);
	if (session)
		memx_parse_hex(session, named, sizeof(named));
	for (i = 0; i < SESSIONS; i++) {
		fuzz_must(before[i] || !after[i], "session %u is back", i);
		fuzz_must(before[i] == after[i] || !memcmp(named, session_id[i], sizeof(named)), "session %u went unnamed", i);
	}
	fuzz_must(before[OPEN] == after[OPEN] || json_is_true(json_object_get(asked, "force")), "a session went under its relay");
	json_decref(asked);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct memx_loop *loop;
	static struct srv_store *store;
	struct srv_config config = { .instance = 1, .limit_pages = CHUNKS * SRV_CHUNK_PAGES, .max_sessions = 4, .max_handles = 8 };
	static const struct srv_ops ops;
	struct server server = { .settings = { .memory = 1 << 19, .domain = (char *)"rack" }, .limit = 1 << 19 };
	struct memx_ctl ctl = { .ctx = &server };
	const u8 *at = data, *end = data + size;
	struct srv_conn *conn;

	if (!loop) {
		loop = memx_loop_new();
		store = srv_heap_store(CHUNKS, CHUNKS);
	}
	server.loop = loop;
	server.core = srv_new(&config, store, &ops, NULL);
	control_start(&server);
	ctl.cmds = cmds;
	srv_conn_close(open_session(server.core, 1));
	conn = open_session(server.core, OPEN);
	while (at < end) {
		const u8 *line = at;

		at = memchr(line, '\n', (size_t)(end - line));
		at = at ? at : end;
		request(&ctl, server.core, (const char *)line, (size_t)(at - line));
		at += at < end;
	}
	srv_conn_close(conn);
	srv_destroy(server.core);
	return 0;
}
