// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-conn.c - libFuzzer target: the framing of connections (user/conn.c), both ways.
 *
 * The input is a list of steps: bytes that the peer sends, good frames or any, in pieces; bytes that it takes; its end; what
 * the owner queues, pauses and closes. What was sent is read once more by a second, simple reader: the owner must get just
 * those frames, byte by byte, and the end that they have. What the owner queued must come out as it was queued.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <fuzz/fuzz.h>
#include <user/loop.h>
#include <user/net.h>

enum {
	MAX_BODY = 300,
	STREAM = 1 << 16,		/* bytes either way */
	LIMIT = 1 << 14,		/* of what may be queued */
	PIECE = 40000,			/* longest that is queued at once */
};

static struct fuzz_in in;
static struct memx_loop *loop;
static struct memx_conn conn;
static int other;
static u8 sent[STREAM], out[STREAM];
static size_t sent_len, read_at, out_len, out_at;
static u32 held;			/* references that are queued */
static u8 body[MAX_BODY];
static bool body_given, own_bodies, closed, refused, by_us, ended;
static u8 large[PIECE];

/* Is there a header at @at? It may lie anywhere. */
static bool header_at(struct memx_head *head, const u8 *at)
{
	struct memx_hdr hdr;

	memcpy(&hdr, at, sizeof(hdr));
	return !memx_head_get(head, &hdr, MAX_BODY);
}

/* ---- the owner ---- */

static void release(void *arg)
{
	fuzz_must(arg == &held && held, "released twice");
	held--;
}

/* Queues something, as the input says; what must come out of it is noted. */
static void queue(void)
{
	u32 len = (u32)fuzz_take(&in, 2), how = fuzz_u8(&in), kept = how & 4 ? len % PIECE : len % 600;
	struct memx_head head = { .op = MEMX_OP_PING, .tag = how };
	struct memx_hdr hdr;
	u8 *at;

	if (out_len + kept + MEMX_HDR_LEN > STREAM || closed)
		return;
	switch (how % 3) {
	case 0:
		kept = kept < MEMX_CONN_PUT_MAX ? kept : MEMX_CONN_PUT_MAX;
		at = kept ? memx_conn_put(&conn, kept) : NULL;
		if (!at)
			return;
		fuzz_must(!((uintptr_t)at & 7), "not aligned");
		memset(at, (int)how, kept);
		memset(out + out_len, (int)how, kept);
		break;
	case 1:
		held++;
		memx_conn_put_ref(&conn, large, kept, release, &held);
		memcpy(out + out_len, large, kept);
		break;
	default:
		head.len = kept;
		if (memx_conn_send(&conn, &head, large, kept))
			return;
		memx_hdr_put(&hdr, &head);
		memcpy(out + out_len, &hdr, sizeof(hdr));
		out_len += MEMX_HDR_LEN;
		memcpy(out + out_len, large, kept);
	}
	out_len += kept;
}

static void *on_body(struct memx_conn *c, const struct memx_head *head)
{
	fuzz_must(c == &conn && !body_given && head->len && head->len <= MAX_BODY, "a body of %u", head->len);
	if (fuzz_rarely(&in, 32)) {
		refused = true;
		return NULL;
	}
	body_given = true;
	return body;
}

static int on_frame(struct memx_conn *c, const struct memx_head *head, void *at)
{
	struct memx_head want;

	fuzz_must(c == &conn && !closed && !by_us, "a frame behind the end");
	fuzz_must(sent_len - read_at >= MEMX_HDR_LEN, "a frame that nobody sent");
	fuzz_must(header_at(&want, sent + read_at), "a frame that is none");
	fuzz_must(want.op == head->op && want.reply == head->reply && want.flags == head->flags && want.len == head->len &&
		  want.status == head->status && want.tag == head->tag && want.epoch == head->epoch, "another header");
	read_at += MEMX_HDR_LEN;
	fuzz_must(sent_len - read_at >= want.len, "a frame before its end");
	fuzz_must(!want.len || (at && !memcmp(at, sent + read_at, want.len)), "another body");
	read_at += want.len;
	fuzz_must(!own_bodies || body_given == !!want.len, "a body that was not asked for");
	body_given = false;
	if (fuzz_rarely(&in, 8))
		queue();
	if (fuzz_rarely(&in, 64)) {
		refused = true;
		return -EPERM;
	}
	if (fuzz_rarely(&in, 64)) {
		by_us = true;
		memx_conn_close(&conn, -ECANCELED);
	}
	return 0;
}

/* What of the stream is left, and what has to come of it. */
static void on_closed(struct memx_conn *c, int err, void *at)
{
	struct memx_head next;
	size_t left = sent_len - read_at;
	bool whole = left >= MEMX_HDR_LEN, bad;

	fuzz_must(c == &conn && !closed && err <= 0, "closed twice, or with %d", err);
	fuzz_must((at != NULL) == body_given, "the body at hand");
	fuzz_must(!held, "%u references are kept", held);
	closed = true;
	bad = whole && !header_at(&next, sent + read_at);
	if (by_us)
		fuzz_must(err == -ECANCELED, "closed with %d", err);
	else if (!refused && !err)
		fuzz_must(ended && !left, "in good order, with %zu bytes left", left);
	else if (!refused && err == -EPROTO)
		fuzz_must(bad && *conn.why, "a violation that is none");
}

static const struct memx_conn_ops plain = { .frame = on_frame, .closed = on_closed };
static const struct memx_conn_ops with_bodies = { .body = on_body, .frame = on_frame, .closed = on_closed };

/* ---- the peer ---- */

static void say(const void *data, size_t len)
{
	size_t at = 0, part;

	while (at < len && !ended && sent_len + len <= STREAM) {
		part = fuzz_rarely(&in, 4) ? 1U + fuzz_u8(&in) : len;
		part = part < len - at ? part : len - at;
		if (send(other, (const u8 *)data + at, part, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)part) {
			ended = true;		/* part of it may be there: what comes then is not known */
			by_us = true;
			memx_conn_close(&conn, -ECANCELED);
			return;
		}
		memcpy(sent + sent_len, (const u8 *)data + at, part);
		sent_len += part;
		at += part;
		if (at < len)
			memx_loop_round(loop, 0);
	}
}

static void say_frame(void)
{
	struct { struct memx_hdr hdr; u8 body[MAX_BODY + 100]; } f;
	u32 how = fuzz_u8(&in), i;
	struct memx_head head = { .op = (u16)fuzz_u8(&in), .reply = how & 1, .tag = how, .len = how & 2 ? fuzz_u8(&in) : 0 };

	if (how & 4)
		head.len += fuzz_u8(&in) % 80;
	if (head.reply)
		head.status = how % 3;
	memx_hdr_put(&f.hdr, &head);
	for (i = 0; i < head.len; i++)
		f.body[i] = (u8)(how + i);
	if (how >= 224)
		((u8 *)&f.hdr)[how % MEMX_HDR_LEN] ^= fuzz_u8(&in);
	say(&f, MEMX_HDR_LEN + head.len);
}

static void take(void)
{
	static u8 buf[STREAM];
	ssize_t got = recv(other, buf, 1 + fuzz_take(&in, 2) % STREAM, MSG_DONTWAIT);

	if (got <= 0)
		return;
	fuzz_must(out_at + (size_t)got <= out_len && !memcmp(buf, out + out_at, (size_t)got), "other bytes than were queued");
	out_at += (size_t)got;
}

static void step(void)
{
	u8 noise[64];
	u32 i, n, what = fuzz_u8(&in);

	switch (what % 8) {
	case 0: case 1: case 2:
		say_frame();
		break;
	case 3:
		n = what >> 3;
		for (i = 0; i < n; i++)
			noise[i] = fuzz_u8(&in);
		say(noise, n);
		break;
	case 4:
		queue();
		break;
	case 5:
		take();
		break;
	case 6:
		memx_conn_pause(&conn, what & 8);
		break;
	default:
		if (what < 128)
			break;
		if (what < 240) {
			ended = !shutdown(other, SHUT_WR);
		} else if (!closed && !by_us && !refused) {
			by_us = true;
			memx_conn_close(&conn, -ECANCELED);
		}
	}
	memx_loop_round(loop, 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	int fds[2];
	u32 i;

	if (!loop) {
		loop = memx_loop_new();
		for (i = 0; i < PIECE; i++)
			large[i] = (u8)(i * 7 + i / 251);
	}
	in = (struct fuzz_in){ data, data + size };
	sent_len = read_at = out_len = out_at = 0;
	body_given = closed = refused = by_us = ended = false;
	held = 0;
	fuzz_must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), "no sockets");
	other = fds[1];
	memset(&conn, 0, sizeof(conn));
	own_bodies = fuzz_u8(&in) & 1;
	fuzz_must(!memx_conn_open(&conn, loop, fds[0], own_bodies ? &with_bodies : &plain, MAX_BODY, LIMIT), "not opened");
	while (in.at < in.end && !closed)
		step();
	memx_conn_pause(&conn, false);
	if (!ended)
		shutdown(other, SHUT_WR);
	ended = true;
	for (i = 0; i < 8 && !closed; i++)
		memx_loop_round(loop, 0);
	/* Whatever is whole was handed over, unless one of the two gave up before. */
	fuzz_must(closed, "the end was not seen");
	close(other);
	memx_loop_round(loop, 0);
	return 0;
}
