// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-holder.c - libFuzzer target: what another donor answers when it is asked to confirm a copy that is to be dropped.
 *
 * The input is a list of steps: a question, an answer that is almost right or any bytes, in pieces, an end of the connection, a
 * deadline. The connection is a pair of sockets, for which the dialling is played, around the very file that speaks.
 *
 * What must hold: each question is answered once; with OK only if the other end greeted as the donor that was meant, in the life
 * that was meant, and then said OK to this very question; and nothing is sent but HELLO and PIN in good order.
 */
#define memx_net_connect played_connect
#define memx_net_connected played_connected
#include "../holder.c"	/* NOLINT(bugprone-suspicious-include): what is tried is static there */

#include <fuzz/fuzz.h>

enum { SAID = 4096, PEERS = 3 };

static struct fuzz_in in;
static struct server server = { .holder.connecting = MEMX_WATCH_INIT, .holder.conn.watch = MEMX_WATCH_INIT };
static struct srv_drop drop;
static int other = -1;			/* the other end */
static u8 said[SAID];			/* to the holder's owner on this connection */
static size_t said_len;
static bool asked;			/* a question waits for its answer */
static u64 serial;

/* ---- played: the network, and who wants to know ---- */

int played_connect(const struct memx_addr *addr, u32 timeout)
{
	int fds[2];

	fuzz_must(addr->len && timeout, "dialled nowhere, or for ever");
	if (fuzz_rarely(&in, 16))
		return -ENETUNREACH;
	if (other >= 0)
		close(other);
	fuzz_must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), "no sockets");
	other = fds[1];
	said_len = 0;
	return fds[0];
}

int played_connected(int fd)
{
	fuzz_must(fd >= 0, "no socket");
	return fuzz_rarely(&in, 16) ? -ECONNREFUSED : 0;
}

/* Did what was said on this connection confirm the copy? Read again here, by itself. */
static bool confirmed(void)
{
	const struct memx_hdr *hello = (void *)said, *pin;
	const struct memx_hello *body = (void *)(said + sizeof(*hello));
	size_t at = sizeof(*hello) + sizeof(*body);

	if (said_len < at || memx_le32(hello->magic) != MEMX_MAGIC || memx_le16(hello->op) != (MEMX_OP_HELLO | MEMX_OP_REPLY) ||
	    memx_le32(hello->len) != sizeof(*body) || memx_le32(hello->status) || body->role != MEMX_ROLE_DONOR ||
	    memcmp(body->id, drop.peer, 16) || memx_le64(body->instance) != drop.instance ||
	    !(memx_le64(body->features) & MEMX_FEATURE_RECLAIM))
		return false;
	for (; at + sizeof(*pin) <= said_len; at += sizeof(*pin)) {
		pin = (void *)(said + at);
		if (memx_le64(pin->tag) == serial)
			return memx_le32(pin->magic) == MEMX_MAGIC && memx_le16(pin->op) == (MEMX_OP_PIN | MEMX_OP_REPLY) &&
			       !memx_le32(pin->len) && !memx_le32(pin->status);
	}
	return false;
}

void reclaim_answered(struct server *s, u64 number, u32 status)
{
	fuzz_must(s == &server && asked && number == serial, "an answer to question %llu, not to %llu",
		  (unsigned long long)number, (unsigned long long)serial);
	fuzz_must(status < MEMX_S_COUNT || status == SRV_NO_ANSWER, "status %u", status);
	fuzz_must(status != MEMX_S_OK || confirmed(), "a copy was dropped that nobody confirmed");
	asked = false;
}

/* ---- the steps ---- */

static void question(void)
{
	static u8 body[sizeof(struct memx_pin) + sizeof(struct memx_record) + 64 * sizeof(__le64)];
	u32 who = fuzz_pick(&in, PEERS);

	if (asked)
		return;
	serial++;
	drop = (struct srv_drop){ .serial = serial, .epoch = 1, .body = body, .len = sizeof(body), .port = 7,
				  .instance = 1 + (who == 2) };
	drop.peer[0] = (u8)(1 + who % 2);
	if (fuzz_rarely(&in, 2))
		memcpy(drop.address, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1", 16);
	if (!holder_reachable(&server, drop.peer))
		memset(server.holder.avoid, 0, sizeof(server.holder.avoid));
	asked = true;
	holder_ask(&server, &drop);
}

/* Sends @len bytes, cut as the input says. */
static void say(const void *data, size_t len)
{
	size_t first = fuzz_rarely(&in, 4) ? fuzz_u8(&in) % (len + 1) : len;
	ssize_t sent;

	if (other < 0 || said_len + len > SAID)
		return;
	sent = send(other, data, first, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0)
		return;
	memcpy(said + said_len, data, (size_t)sent);
	said_len += (size_t)sent;
	if (first == len)
		return;
	memx_loop_round(server.loop, 0);
	if (other < 0)
		return;
	sent = send(other, (const u8 *)data + first, len - first, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0)
		return;
	memcpy(said + said_len, (const u8 *)data + first, (size_t)sent);
	said_len += (size_t)sent;
}

static void answer(bool hello)
{
	struct { struct memx_hdr hdr; struct memx_hello body; } f = { 0 };
	struct memx_head head = { .op = hello ? MEMX_OP_HELLO : MEMX_OP_PIN, .reply = true, .len = hello ? sizeof(f.body) : 0,
				  .tag = hello ? 0 : serial };
	u32 changes = fuzz_u8(&in);

	if (changes & 16)
		head.status = fuzz_pick(&in, MEMX_S_COUNT + 2);
	if (changes & 32)
		head.tag = fuzz_odd(&in);
	memx_hdr_put(&f.hdr, &head);
	f.body.proto = memx_put_le16(1);
	f.body.role = MEMX_ROLE_DONOR;
	f.body.features = memx_put_le64(MEMX_FEATURE_RECLAIM);
	f.body.instance = memx_put_le64(drop.instance);
	memcpy(f.body.id, drop.peer, 16);
	for (changes = changes & 128 ? changes % 4 : 0; changes; changes--)
		((u8 *)&f)[fuzz_u8(&in) % sizeof(f)] ^= (u8)(1U << fuzz_pick(&in, 8));
	say(&f, sizeof(f.hdr) + head.len);
}

static void noise(void)
{
	u8 bytes[64];
	u32 i, n = fuzz_pick(&in, sizeof(bytes));

	for (i = 0; i < n; i++)
		bytes[i] = fuzz_u8(&in);
	say(bytes, n);
}

/* What it sends: HELLO, then PIN as it was given, each whole in the end. */
static void listen_to_it(void)
{
	u8 bytes[8192];
	ssize_t got = other < 0 ? -1 : recv(other, bytes, sizeof(bytes), MSG_DONTWAIT);
	struct memx_head head;

	if (got < (ssize_t)sizeof(struct memx_hdr))
		return;
	fuzz_must(!memx_head_get(&head, (void *)bytes, MEMX_MAX_BODY) && !head.reply, "no frame of this protocol");
	fuzz_must(head.op == MEMX_OP_HELLO || (head.op == MEMX_OP_PIN && head.len == drop.len), "operation %u", head.op);
}

static void step(void)
{
	switch (fuzz_u8(&in) % 10) {
	case 0: case 1:
		question();
		break;
	case 2: case 3:
		answer(true);
		break;
	case 4: case 5:
		answer(false);
		break;
	case 6:
		noise();
		break;
	case 7:
		if (other >= 0 && fuzz_rarely(&in, 2))
			shutdown(other, SHUT_WR);
		break;
	case 8:
		if (fuzz_rarely(&in, 4) && memx_timer_pending(&server.holder.timer))
			late(&server.holder.timer, 0);
		else
			holder_done(&server);
		break;
	default:
		listen_to_it();
	}
	memx_loop_round(server.loop, 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u32 i;

	if (!server.loop) {
		server.loop = memx_loop_new();
		memx_log_init("fuzz", MEMX_LOG_ERR);
	}
	in = (struct fuzz_in){ data, data + size };
	while (in.at < in.end)
		step();
	if (asked && memx_timer_pending(&server.holder.timer))
		late(&server.holder.timer, 0);
	for (i = 0; i < 4; i++)
		memx_loop_round(server.loop, 0);
	fuzz_must(!asked, "a question without an answer");
	holder_stop(&server);
	memx_loop_round(server.loop, 0);
	fuzz_must(server.holder.state == HOLDER_NONE || server.holder.state == HOLDER_CONNECTING, "state %d", server.holder.state);
	memset(&server.holder, 0, sizeof(server.holder));
	server.holder.connecting.fd = server.holder.conn.watch.fd = -1;
	if (other >= 0)
		close(other);
	other = -1;
	return 0;
}
