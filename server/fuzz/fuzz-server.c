// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-server.c - libFuzzer target: a donor's core fed by two connections with whatever the fuzzer makes.
 *
 * The input is a list of steps: a byte that says what to do (a frame on connection A or B, its flags and body shape, a new
 * connection, scrubbing, another limit), then the bytes of it. Frames are given their right length and plausible epochs,
 * handles and generations most of the time, so that the fuzzer gets behind the first checks; the rest is its own.
 *
 * Beyond what the sanitizers see, each reply is checked for its shape, and the accounts are checked after every step.
 */
#include <stdlib.h>

#include "../core/internal.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

enum { CHUNKS = 8, SESSIONS = 3 };

struct fuzz {
	struct srv *core;
	struct srv_conn *conn[2];
	u32 handle[2][SESSIONS];
	const u8 *at, *end;
	u8 *body;			/* MEMX_MAX_BODY, 8-aligned */
	u8 *buf;
	struct iovec iov[SRV_REPLY_IOVS];
};

static u32 take(struct fuzz *f, u32 bytes)
{
	u32 value = 0, i;

	for (i = 0; i < bytes; i++)
		value = value << 8 | (f->at < f->end ? *f->at++ : 0);
	return value;
}

/* What must hold whatever was sent. */
static void check_accounts(const struct srv *srv)
{
	const struct srv_session *s;
	u64 used = 0, promised = 0, extents = 0;
	u32 sessions = 0;

	for (s = srv->first; s; s = s->next) {
		sessions++;
		used += s->used;
		extents += s->extents;
		promised += srv_promise(s);
	}
	if (sessions != srv->sessions || used != (u64)srv->chunks.in_use * SRV_CHUNK_PAGES || extents != srv->extents ||
	    promised != srv->promised || srv->chunks.in_use > CHUNKS)
		abort();
}

static u32 fixed_len(u16 op)
{
	switch (op) {
	case MEMX_OP_HELLO: return sizeof(struct memx_hello);
	case MEMX_OP_DETACH: return sizeof(struct memx_list);
	case MEMX_OP_FENCE: return sizeof(struct memx_fence);
	case MEMX_OP_RESERVE: return sizeof(struct memx_reserve);
	case MEMX_OP_PLACE: return sizeof(struct memx_place);
	case MEMX_OP_FREE:
	case MEMX_OP_LIST:
	case MEMX_OP_SCAN: return memx_list_len(1);
	case MEMX_OP_PIN: return sizeof(struct memx_pin);
	default: return 0;
	}
}

/* So that there is somebody to ask before a copy is dropped. */
static void second_holder(struct memx_record *rec, __le32 *flags)
{
	rec->replicas = 2;
	rec->replica[1].donor[0] = 9;
	rec->replica[1].instance = memx_put_le64(2);
	rec->replica[1].state = MEMX_R_LIVE;
	if (flags)
		*flags |= memx_put_le32(MEMX_PLACE_IN_FORCE);
}

/* Builds a body that has a chance; every field may still be the fuzzer's. Returns its length. */
static u32 build(struct fuzz *f, u16 op, u32 c, u32 which)
{
	struct memx_io *io = (void *)f->body;
	struct memx_fence *fence = (void *)f->body;
	struct memx_place *place = (void *)f->body;
	struct memx_list *list = (void *)f->body;
	__le32 handle = memx_put_le32(f->handle[c][which % SESSIONS]);
	u32 count = 1 + take(f, 1) % 4, len = fixed_len(op), i, slot;

	memset(f->body, 0, 8192);
	switch (op) {
	case MEMX_OP_HELLO:
		((struct memx_hello *)f->body)->proto_min = memx_put_le16(1);
		((struct memx_hello *)f->body)->proto_max = memx_put_le16((u16)take(f, 1));
		((struct memx_hello *)f->body)->role = MEMX_ROLE_RELAY;
		break;
	case MEMX_OP_FENCE:
		fence->session[0] = (u8)(which % SESSIONS);
		for (i = 0; i < 2; i++)
			fence->lineage[i] = memx_put_le64(take(f, 1) % 4);
		fence->slots = memx_put_le32(take(f, 2) % 2 ? 512 : take(f, 4));
		fence->extent_order = (u8)(6 + take(f, 1) % 3);
		fence->flags = MEMX_FENCE_CREATE;
		break;
	case MEMX_OP_PLACE:
		place->session = handle;
		place->flags = memx_put_le32(MEMX_PLACE_CREATE);
		place->record.extent = memx_put_le32(take(f, 1) % 16);
		place->record.replicas = 1;
		place->record.generation = memx_put_le64(1 + take(f, 1) % 4);
		place->record.replica[0].instance = memx_put_le64(1);
		place->record.replica[0].state = MEMX_R_LIVE;
		if (which & 0x40)
			second_holder(&place->record, &place->flags);
		break;
	case MEMX_OP_PIN:
		if (!(which & 0x40))
			break;
		len = memx_pin_len(64);
		place = (void *)(f->body + sizeof(struct memx_pin) - offsetof(struct memx_place, record));
		((struct memx_pin *)f->body)->session[0] = (u8)(which % SESSIONS);
		((struct memx_pin *)f->body)->generation = memx_put_le64(1 + take(f, 1) % 4);
		place->record.generation = ((struct memx_pin *)f->body)->generation;
		place->record.replicas = 1;
		place->record.replica[0].instance = memx_put_le64(1);
		place->record.replica[0].state = MEMX_R_LIVE;
		second_holder(&place->record, NULL);
		break;
	case MEMX_OP_STORE:
	case MEMX_OP_FETCH:
	case MEMX_OP_DISCARD:
		slot = take(f, 2) % 600;
		io->session = handle;
		io->extent = memx_put_le32(slot >> (6 + take(f, 1) % 3));
		io->generation = memx_put_le64(1 + take(f, 1) % 4);
		io->count = memx_put_le16((u16)count);
		for (i = 0; i < count; i++) {
			if (op == MEMX_OP_STORE) {
				struct memx_page *page = (struct memx_page *)(io + 1) + i;

				page->slot = memx_put_le32(slot + i);
				page->trailer.version = memx_put_le64(1 + take(f, 1) % 8);
			} else {
				struct memx_want *want = (struct memx_want *)(io + 1) + i;

				want->slot = memx_put_le32(slot + i);
				want->version = memx_put_le64(1 + take(f, 1) % 8);
			}
		}
		len = op == MEMX_OP_STORE ? memx_store_len(count) : memx_want_len(count);
		break;
	case MEMX_OP_RETAIN:
		len = memx_list_len(count);
		__attribute__((fallthrough));
	case MEMX_OP_FREE:
	case MEMX_OP_LIST:
	case MEMX_OP_SCAN:
		list->session = handle;
		list->count = memx_put_le32(op == MEMX_OP_RETAIN ? count : 1);
		for (i = 0; i < (op == MEMX_OP_RETAIN ? count : 1); i++) {
			((struct memx_extent_ref *)(list + 1))[i].extent = memx_put_le32(take(f, 1) % 16);
			((struct memx_extent_ref *)(list + 1))[i].generation = memx_put_le64(take(f, 1) % 5);
		}
		break;
	default:			/* RESERVE, DETACH: the handle first, then numbers */
		if (len >= sizeof(handle))
			memcpy(f->body, &handle, sizeof(handle));
		if (op == MEMX_OP_RESERVE)
			((struct memx_reserve *)f->body)->pages = memx_put_le64(take(f, 2) % 1024);
		break;
	}
	return len;
}

static void reopen(struct fuzz *f, u32 c)
{
	if (f->conn[c])
		srv_conn_close(f->conn[c]);
	f->conn[c] = srv_conn_open(f->core, NULL);
	memset(f->handle[c], 0, sizeof(f->handle[c]));
}

static void send_frame(struct fuzz *f, u32 c, u32 how)
{
	static const u16 likely[] = {
		MEMX_OP_STORE, MEMX_OP_FETCH, MEMX_OP_DISCARD, MEMX_OP_FENCE, MEMX_OP_PLACE, MEMX_OP_RESERVE, MEMX_OP_FREE,
		MEMX_OP_RETAIN, MEMX_OP_LIST, MEMX_OP_SCAN, MEMX_OP_STAT, MEMX_OP_PIN, MEMX_OP_DETACH, MEMX_OP_PING, MEMX_OP_HELLO,
	};
	u32 which = take(f, 1), changes, i, at;
	struct memx_head head = {
		.op = how & 0x10 ? (u16)take(f, 2) : likely[take(f, 1) % (sizeof(likely) / sizeof(likely[0]))],
		.flags = how & 0x20 ? (u16)(take(f, 1) & MEMX_F_ALL) : 0,
		.epoch = how & 0x40 ? take(f, 4) : 1 + which / SESSIONS % 2,
	};
	struct srv_out out = { .buf = f->buf, .size = SRV_REPLY_BUF, .iov = f->iov, .max_iovs = SRV_REPLY_IOVS };
	struct memx_head reply;
	u8 *exact;
	u64 total = 0;
	int ret;

	head.len = build(f, head.op, c, which);
	changes = how & 0x80 ? take(f, 1) % 8 : 0;
	for (i = 0; i < changes; i++) {
		at = take(f, 1);
		f->body[at % 256] ^= (u8)take(f, 1);
	}
	if (changes == 7)
		head.len = take(f, 2) % 9000;
	exact = malloc(head.len ? head.len : 1);	/* of exactly its size, for the sanitizer */
	if (!exact)
		return;
	memcpy(exact, f->body, head.len);
	ret = srv_frame(f->conn[c], &head, exact, &out, 0);
	free(exact);
	if (ret < 0) {
		if (out.bytes)
			abort();
		reopen(f, c);
		return;
	}
	if (memx_head_get(&reply, (const struct memx_hdr *)f->buf, MEMX_MAX_BODY) || reply.status >= MEMX_S_COUNT)
		abort();
	for (i = 0; i < out.iovs; i++)
		total += out.iov[i].iov_len;
	if (total != MEMX_HDR_LEN + reply.len || out.used > SRV_REPLY_BUF || out.iovs > SRV_REPLY_IOVS)
		abort();
	if (head.op == MEMX_OP_FENCE && reply.status == MEMX_S_OK)
		f->handle[c][which % SESSIONS] = memx_le32(((struct memx_fenced *)(f->buf + MEMX_HDR_LEN))->session);
	if (ret == 1)
		reopen(f, c);
}

/* What the donor says by itself is well-formed. */
static void on_send(void *ctx, void *conn_ctx, const void *frame, u32 len)
{
	struct memx_head head;

	(void)ctx;
	(void)conn_ctx;
	if (memx_head_get(&head, frame, MEMX_MAX_BODY) || head.reply || len != MEMX_HDR_LEN + head.len)
		abort();
}

static const struct srv_ops ops = { .send = on_send };

static bool anybody(void *ctx, const u8 id[16])
{
	(void)ctx;
	(void)id;
	return true;
}

/* Begins to drop a copy, or ends what was begun with any answer. */
static void help_itself(struct fuzz *f, u32 how)
{
	static u64 serial;
	struct srv_drop_why why;
	struct srv_drop drop;

	if (how & 0x80)
		srv_drop_end(f->core, serial, (u32)take(f, 1) % 4 ? MEMX_S_OK : (u32)take(f, 1) % (SRV_NO_ANSWER + 1));
	else if (!srv_drop_begin(f->core, anybody, NULL, &drop, &why))
		serial = drop.serial;
	else
		srv_drop_again(f->core);
}

static void greet(struct fuzz *f, u32 c)
{
	struct memx_hello hello = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY,
				    .features = memx_put_le64(MEMX_FEATURE_RECLAIM) };
	struct { struct memx_list list; struct memx_peer peer; } peers = {
		.list = { .count = memx_put_le32(1) }, .peer = { .id = { 9 }, .port = memx_put_le16(1) },
	};
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(hello) };
	struct srv_out out = { .buf = f->buf, .size = SRV_REPLY_BUF, .iov = f->iov, .max_iovs = SRV_REPLY_IOVS };

	srv_frame(f->conn[c], &head, &hello, &out, 0);
	head = (struct memx_head){ .op = MEMX_OP_PEERS, .len = sizeof(peers) };
	out.used = out.iovs = 0;
	out.bytes = 0;
	srv_frame(f->conn[c], &head, &peers, &out, 0);
}

/* One store for all inputs, since a new one costs more than all else: it is handed back clean, which is checked too. */
static void hand_back(struct srv *core, struct srv_store *store)
{
	static const struct srv_chunk_meta clean;
	u32 i;

	while (core->first)
		srv_session_remove(core, core->first->vm, core->first->id, true);
	check_accounts(core);
	if (srv_scrub(core, CHUNKS))
		abort();
	for (i = 0; i < CHUNKS; i++)
		if (memcmp(&store->meta[i], &clean, sizeof(clean)) || store->pages[(size_t)i * SRV_CHUNK_BYTES])
			abort();
	srv_destroy(core);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static _Alignas(8) u8 body[MEMX_MAX_BODY], buf[SRV_REPLY_BUF];
	static struct srv_store *store;
	struct srv_config config = { .instance = 1, .limit_pages = CHUNKS * SRV_CHUNK_PAGES, .max_sessions = 4, .max_handles = 8 };
	struct fuzz f = { .at = data, .end = data + size, .body = body, .buf = buf };
	u32 c, step;

	if (!store)
		store = srv_heap_store(CHUNKS, CHUNKS - 1);
	f.core = store ? srv_new(&config, store, &ops, NULL) : NULL;
	if (!f.core)
		abort();
	for (c = 0; c < 2; c++) {
		reopen(&f, c);
		greet(&f, c);
	}
	while (f.at < f.end) {
		step = take(&f, 1);
		c = step & 1;
		switch (step >> 1 & 7) {
		case 0:
			reopen(&f, c);
			if (step & 0x10)
				greet(&f, c);
			break;
		case 1:
			srv_scrub(f.core, take(&f, 1) % 4);
			break;
		case 2:
			if (step & 0x40)
				help_itself(&f, step);
			else
				srv_set_limit(f.core, take(&f, 1) * 16);
			srv_ask(f.core);
			break;
		default:
			if (!srv_conn_greeted(f.conn[c]) && !(step & 0x80))
				greet(&f, c);
			send_frame(&f, c, step);
		}
		check_accounts(f.core);
	}
	srv_conn_close(f.conn[0]);
	srv_conn_close(f.conn[1]);
	hand_back(f.core, store);
	return 0;
}
