// SPDX-License-Identifier: GPL-2.0-only
/*
 * probe.c - a guest by hand: speaks the guest hop over shared memory, one command per line, for tests of the daemon.
 *
 * It is no guest to be copied: one thread, stores in windows, no re-sending. It keeps versions, contents (as a seed per slot)
 * and records, so that a test can kill and start what is around it and have every page verified afterwards.
 *
 *	offer PATH NAME UUID [LANES]	connect, offer, answer every HELLO		"ok lanes=2" | "refused ..."
 *	attach SLOTS [REPLICAS]		raise the epoch, hand the records over		"ok slots=.. order=.. replicas=.."
 *	store FIRST COUNT SEED		pages whose content depends on slot and SEED	"ok pages=.. errors=.."
 *	fetch FIRST COUNT		fetch and compare with what was stored		"ok pages=.. errors=.."
 *	discard FIRST COUNT						"ok pages=.. errors=.."
 *	detach | suspend | shutdown | close | quit
 *	raw LANE HEX			bytes into a request ring			"ok"
 *	volley COUNT			so many PINGs, each shown to the relay shortly after it has taken the one before
 *									"ok frames=.." | "error ..."
 *	index LANE VALUE		the write index of a request ring set to VALUE	"ok"
 *	wait-closed			until the relay has closed the channel		"ok"
 *
 * An answer that is not OK is "status NAME"; a channel that closes meanwhile "closed".
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memx/check.h"
#include "memx/codec.h"
#include "user/shm.h"
#include "user/text.h"

enum {
	LEFT_ORDER = 20,		/* replies: six of the longest, and what is reserved */
	RIGHT_ORDER = 19,		/* requests */
	WINDOW = 6,			/* requests under way */
	MAX_SLOTS = 1 << 20,
	ANSWER_MS = 60000,
};

static struct {
	int sock;
	struct memx_shm_lane lane[MEMX_MAX_LANES];
	unsigned int lanes, hellos;
	u64 offer, epoch, tag;
	u8 uuid[16], session[16];
	u64 seed;			/* of the session, for checks */
	u64 lineage;
	u32 slots, order;
	u64 *version;			/* per slot; 0: never stored */
	u32 *content;			/* per slot: seed of what was stored; 0: discarded */
	struct memx_record *record;	/* per extent; generation 0: none */
	u8 body[MEMX_MAX_BODY];		/* of the last frame received */
	struct memx_head head;
	bool closed;
} g = { .sock = -1 };

#define BLANK "\n "

static const char *status_name(u32 status)
{
	static const char *const names[] = {
#define MEMX_X(name, code, text) #name,		/* the codes count from 0 */
		MEMX_STATUS_LIST(MEMX_X)
#undef MEMX_X
	};

	return names[memx_status_known(status)];
}

static void make_page(u8 *page, u32 slot, u32 seed)
{
	u64 x = ((u64)seed << 32 | slot) * 0x9e3779b97f4a7c15ULL;

	for (int i = 0; i < MEMX_PAGE_SIZE / 8; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		memcpy(page + 8 * i, &x, 8);
	}
}

static u32 number(const char *text)
{
	return text ? (u32)strtoul(text, NULL, 0) : 0;
}

/* ---- frames ---- */

/* Sends a frame whole; waits for room. False: the channel is closed. */
static bool send_frame(unsigned int lane, struct memx_head *head, const void *body)
{
	struct memx_chan *chan = g.lane[lane].chan;
	struct memx_hdr hdr;

	if (g.closed)
		return false;
	memx_hdr_put(&hdr, head);
	while (memx_vring_space(&chan->ring) < (int)(MEMX_HDR_LEN + head->len)) {
		struct pollfd p = { .fd = chan->fd, .events = POLLIN };

		memx_vring_want(&chan->ring, MEMX_VCHAN_READ);
		if (memx_vring_space(&chan->ring) >= (int)(MEMX_HDR_LEN + head->len))
			break;
		if (poll(&p, 1, ANSWER_MS) <= 0 || !memx_chan_peer_live(chan)) {
			g.closed = true;
			return false;
		}
		chan->ops->ack(chan);
	}
	memx_vring_put(&chan->ring, 0, &hdr, sizeof(hdr));
	if (head->len)
		memx_vring_put(&chan->ring, sizeof(hdr), body, head->len);
	if (memx_vring_publish(&chan->ring, MEMX_HDR_LEN + head->len))
		chan->ops->notify(chan);
	return true;
}

/* A whole frame of @lane into g.head and g.body, if there is one. */
static bool take_frame(unsigned int lane)
{
	struct memx_chan *chan = g.lane[lane].chan;
	int avail = memx_vring_avail(&chan->ring);
	struct memx_hdr hdr;

	if (avail < (int)sizeof(hdr))
		return false;
	memx_vring_peek(&chan->ring, 0, &hdr, sizeof(hdr));
	if (memx_head_get(&g.head, &hdr, MEMX_MAX_BODY)) {
		fprintf(stderr, "probe: the relay sent a header that is none\n");
		exit(3);
	}
	if (avail < (int)(MEMX_HDR_LEN + g.head.len))
		return false;
	if (g.head.len)
		memx_vring_peek(&chan->ring, MEMX_HDR_LEN, g.body, g.head.len);
	if (memx_vring_consume(&chan->ring, MEMX_HDR_LEN + g.head.len))
		chan->ops->notify(chan);
	return true;
}

static void answer_hello(unsigned int lane)
{
	struct memx_head head = { .op = MEMX_OP_HELLO, .reply = true, .tag = g.head.tag, .len = sizeof(struct memx_hello) };
	struct memx_hello asked, hello = {
		.proto_min = memx_put_le16(MEMX_PROTO_MIN), .proto_max = memx_put_le16(MEMX_PROTO_MAX),
		.proto = memx_put_le16(MEMX_PROTO_MAX), .role = MEMX_ROLE_GUEST, .lane = (u8)lane,
		.instance = memx_put_le64(1), .lanes = (u8)g.lanes,
		.lane_kind = lane == 1 ? MEMX_LANE_FETCH : MEMX_LANE_STORE,
	};

	memcpy(&asked, g.body, sizeof(asked));
	if (memx_le64(asked.offer) != g.offer) {
		fprintf(stderr, "probe: HELLO with another nonce\n");
		exit(3);
	}
	hello.offer = asked.offer;
	g.hellos++;
	send_frame(lane, &head, &hello);
}

static void answer_record(unsigned int lane)
{
	struct memx_head head = { .op = MEMX_OP_RECORD, .reply = true, .tag = g.head.tag, .epoch = g.head.epoch };
	struct memx_records recs;
	struct memx_record rec;
	int count;

	memcpy(&recs, g.body, sizeof(recs));
	count = memx_check_records(&g.head, &recs);
	for (int i = 0; i < count; i++) {
		memcpy(&rec, g.body + sizeof(recs) + (size_t)i * sizeof(rec), sizeof(rec));
		if (memx_check_record(&rec, memx_extents(g.slots, g.order)) ||
		    memx_le64(rec.generation) <= memx_le64(g.record[memx_le32(rec.extent)].generation))
			count = -1;
	}
	if (count < 0)
		head.status = MEMX_S_INVALID;
	for (int i = 0; i < count; i++) {
		memcpy(&rec, g.body + sizeof(recs) + (size_t)i * sizeof(rec), sizeof(rec));
		g.record[memx_le32(rec.extent)] = rec;
	}
	send_frame(lane, &head, NULL);
}

/* Answers the frame at hand where it is a request of the relay. */
static void answer_request(unsigned int lane)
{
	struct memx_head pong = { .op = MEMX_OP_PING, .reply = true, .tag = g.head.tag, .epoch = g.head.epoch };

	if (g.head.reply)
		return;
	if (g.head.op == MEMX_OP_HELLO)
		answer_hello(lane);
	else if (g.head.op == MEMX_OP_RECORD)
		answer_record(lane);
	else if (g.head.op == MEMX_OP_PING)
		send_frame(lane, &pong, NULL);
}

static bool peer_closed(void)
{
	struct memx_shm_msg msg;
	int fds[MEMX_SHM_FDS];
	int ret = memx_shm_recv(g.sock, &msg, fds);

	if (ret == 1 && msg.type == MEMX_SHM_REFUSED) {
		printf("refused %s\n", msg.name);
		fflush(stdout);
		return true;
	}
	if (ret != -EAGAIN)
		return true;
	for (unsigned int i = 0; i < g.lanes; i++)
		if (!memx_chan_peer_live(g.lane[i].chan) && memx_load_once(&g.lane[i].chan->ring.shr->cli_live) == 0)
			return true;
	return false;
}

/*
 * Waits for a reply; HELLO, PING and RECORD of the relay are answered on the way. 1: g.head is a reply; 2: a HELLO was
 * answered; 0: closed.
 */
static int next_reply(void)
{
	struct pollfd p[MEMX_MAX_LANES + 1];
	u64 until = memx_now() + (u64)ANSWER_MS * 1000000;

	while (!g.closed) {
		bool any = false;

		for (unsigned int i = 0; i < g.lanes; i++) {
			if (!take_frame(i))
				continue;
			any = true;
			if (g.head.reply)
				return 1;
			answer_request(i);
			if (g.head.op == MEMX_OP_HELLO)
				return 2;
		}
		if (any)
			continue;
		for (unsigned int i = 0; i < g.lanes; i++) {
			memx_vring_want(&g.lane[i].chan->ring, MEMX_VCHAN_WRITE);
			any = any || memx_vring_avail(&g.lane[i].chan->ring) > 0;
			p[i] = (struct pollfd){ .fd = g.lane[i].chan->fd, .events = POLLIN };
		}
		if (any)
			continue;
		p[g.lanes] = (struct pollfd){ .fd = g.sock, .events = POLLIN };
		if (peer_closed())
			break;
		if (memx_now() > until) {
			fprintf(stderr, "probe: no answer within %d ms\n", ANSWER_MS);
			exit(4);
		}
		poll(p, g.lanes + 1, 1000);
		for (unsigned int i = 0; i < g.lanes; i++)
			g.lane[i].chan->ops->ack(g.lane[i].chan);
	}
	g.closed = true;
	return 0;
}

/* ---- commands ---- */

static void drop_lanes(void)
{
	for (unsigned int i = 0; i < g.lanes; i++)
		memx_shm_lane_free(&g.lane[i]);
	g.lanes = 0;
	if (g.sock >= 0)
		close(g.sock);
	g.sock = -1;
}

static void cmd_offer(char *path, char *name, char *uuid, char *lanes)
{
	unsigned int count = lanes ? number(lanes) : 2;
	int ret;

	drop_lanes();
	g.closed = false;
	g.hellos = 0;
	g.offer = memx_random_u64();
	if (memx_parse_uuid(uuid, g.uuid)) {
		puts("error uuid");
		return;
	}
	g.sock = memx_shm_connect(path);
	if (g.sock < 0) {
		printf("error connect %s\n", strerror(-g.sock));
		return;
	}
	for (g.lanes = 0; g.lanes < count; g.lanes++) {
		ret = memx_shm_lane_new(&g.lane[g.lanes], LEFT_ORDER, RIGHT_ORDER);
		if (ret) {
			printf("error lane %s\n", strerror(-ret));
			return;
		}
	}
	ret = memx_shm_offer(g.sock, name, g.uuid, g.offer, g.lane, g.lanes);
	if (ret) {
		printf("error offer %s\n", strerror(-ret));
		return;
	}
	while (g.hellos < g.lanes) {
		if (!next_reply()) {
			puts("closed");
			return;
		}
	}
	printf("ok lanes=%u\n", g.lanes);
}

static bool send_map(void)
{
	u32 extents = g.order ? memx_extents(g.slots, g.order) : 0, at = 0;
	bool last;

	do {
		struct {
			struct memx_records recs;
			struct memx_record rec[MEMX_MAX_RECORDS];
		} map = { 0 };
		struct memx_head head = { .op = MEMX_OP_MAP, .epoch = g.epoch, .tag = ++g.tag };
		u32 n = 0;

		for (; at < extents && n < MEMX_MAX_RECORDS; at++)
			if (g.record[at].generation)
				map.rec[n++] = g.record[at];
		last = at >= extents;
		map.recs.count = memx_put_le32(n);
		head.len = memx_records_len(n);
		head.flags = last ? MEMX_F_LAST : 0;
		if (!n && !last)
			continue;
		if (!send_frame(0, &head, &map))
			return false;
	} while (!last);
	return true;
}

static u32 count_records(void)
{
	u32 extents = g.order ? memx_extents(g.slots, g.order) : 0, n = 0;

	for (u32 i = 0; i < extents; i++)
		n += g.record[i].generation != 0;
	return n;
}

static void cmd_attach(char *slots, char *replicas)
{
	struct memx_attach attach = {
		.slots = memx_put_le32(g.order ? g.slots : number(slots)), .records = memx_put_le32(count_records()),
		.extent_order = (u8)g.order, .replicas = (u8)number(replicas),
		.flags = memx_put_le16(g.order ? MEMX_ATTACH_FROZEN : 0),
	};
	struct memx_head head = { .op = MEMX_OP_ATTACH, .len = sizeof(attach), .tag = ++g.tag };
	struct memx_attached a;

	memcpy(attach.session, g.session, sizeof(attach.session));
	attach.lineage[0] = memx_put_le64(g.lineage);
	head.epoch = ++g.epoch;
	if (!send_frame(0, &head, &attach) || !send_map()) {
		puts("closed");
		return;
	}
	for (;;) {
		int got = next_reply();

		if (!got) {
			puts("closed");
			return;
		}
		if (got == 1 && g.head.op == MEMX_OP_ATTACH)
			break;
	}
	memcpy(&a, g.body, sizeof(a));
	if (g.head.status) {
		printf("status %s retry_ms=%u\n", status_name(g.head.status), memx_le32(a.retry_ms));
		return;
	}
	g.slots = memx_le32(a.slots);
	if (g.slots > MAX_SLOTS) {
		puts("error too many slots");
		return;
	}
	g.order = a.extent_order;
	if (!g.record)
		g.record = calloc(memx_extents(g.slots, g.order), sizeof(*g.record));
	printf("ok slots=%u order=%u replicas=%u max_pages=%u lane_requests=%u lane_pages=%u\n", g.slots, g.order, a.replicas,
	       a.max_pages, memx_le32(a.lane_requests), memx_le32(a.lane_pages));
}

/* Builds a request of @count slots from @slot on into @body. */
static u32 build(u16 op, u32 slot, u32 count, u32 seed, u8 *body)
{
	struct memx_io io = { .extent = memx_put_le32(slot >> g.order), .generation = g.record[slot >> g.order].generation,
			      .count = memx_put_le16((u16)count) };
	u8 *pages = body + sizeof(io) + count * sizeof(struct memx_page);

	memcpy(body, &io, sizeof(io));
	for (u32 i = 0; i < count; i++, slot++) {
		if (op == MEMX_OP_STORE) {
			struct memx_page page = { .slot = memx_put_le32(slot) };

			g.content[slot] = seed;
			page.trailer.version = memx_put_le64(++g.version[slot]);
			make_page(pages + i * MEMX_PAGE_SIZE, slot, seed);
			page.trailer.check = memx_put_le64(memx_check(g.seed, slot, g.version[slot], pages + i * MEMX_PAGE_SIZE));
			memcpy(body + sizeof(io) + i * sizeof(page), &page, sizeof(page));
		} else {
			struct memx_want want = { .slot = memx_put_le32(slot) };

			if (op == MEMX_OP_DISCARD) {
				g.version[slot]++;
				g.content[slot] = 0;
			}
			want.version = memx_put_le64(g.version[slot] ? g.version[slot] : 1);
			memcpy(body + sizeof(io) + i * sizeof(want), &want, sizeof(want));
		}
	}
	return op == MEMX_OP_STORE ? memx_store_len(count) : memx_want_len(count);
}

/* Errors among the pages of the FETCH reply at hand; a wrong page ends the program. */
static u32 check_fetched(void)
{
	struct memx_io io;
	struct memx_page page;
	u8 expect[MEMX_PAGE_SIZE], *data;
	u32 count, errors = 0;

	memcpy(&io, g.body, sizeof(io));
	count = memx_le16(io.count);
	if (g.head.status != MEMX_S_OK && g.head.status != MEMX_S_PARTIAL)
		return count;
	data = g.body + sizeof(io) + count * sizeof(page);
	for (u32 i = 0; i < count; i++) {
		u32 slot;

		memcpy(&page, g.body + sizeof(io) + i * sizeof(page), sizeof(page));
		slot = memx_le32(page.slot);
		if (memx_le32(page.status)) {
			errors++;
			continue;
		}
		make_page(expect, slot, g.content[slot]);
		if (!g.content[slot] || memcmp(expect, data, MEMX_PAGE_SIZE) || memx_le64(page.trailer.version) != g.version[slot]) {
			printf("WRONG slot=%u\n", slot);
			fflush(stdout);
			exit(5);
		}
		data += MEMX_PAGE_SIZE;
	}
	return errors;
}

static u32 reply_errors(u32 *last)
{
	struct memx_io io;
	struct memx_want want;
	u32 errors = 0, count;

	if (g.head.status)
		*last = g.head.status;
	if (g.head.op == MEMX_OP_FETCH)
		return check_fetched();
	memcpy(&io, g.body, sizeof(io));
	count = memx_le16(io.count);
	if (g.head.status != MEMX_S_PARTIAL)
		return g.head.status ? count : 0;
	for (u32 i = 0; i < count; i++) {
		memcpy(&want, g.body + sizeof(io) + i * sizeof(want), sizeof(want));
		errors += memx_le32(want.status) != 0;
	}
	return errors;
}

static void cmd_io(u16 op, char *first, char *many, char *seed)
{
	u32 slot = number(first), left = number(many), under_way = 0, errors = 0, pages = left;
	u32 last = 0;
	static u8 body[MEMX_MAX_BODY];

	if (!g.record || slot + left > g.slots) {
		puts("error not attached, or slots beyond the end");
		return;
	}
	while (left || under_way) {
		int got;

		while (left && under_way < WINDOW) {
			u32 end = ((slot >> g.order) + 1) << g.order, count = left < MEMX_MAX_PAGES ? left : MEMX_MAX_PAGES;
			struct memx_head head = { .op = op, .epoch = g.epoch, .tag = ++g.tag };

			if (count > end - slot)
				count = end - slot;
			head.len = build(op, slot, count, number(seed), body);
			if (!send_frame(op == MEMX_OP_FETCH && g.lanes > 1 ? 1 : 0, &head, body)) {
				puts("closed");
				return;
			}
			slot += count;
			left -= count;
			under_way++;
		}
		got = next_reply();
		if (!got) {
			puts("closed");
			return;
		}
		if (got == 1 && g.head.op == op) {
			errors += reply_errors(&last);
			under_way--;
		}
	}
	printf("ok pages=%u errors=%u last=%s\n", pages, errors, status_name(last));
}

static void cmd_detach(void)
{
	struct memx_head head = { .op = MEMX_OP_DETACH, .epoch = g.epoch, .tag = ++g.tag };
	int got = 0;

	if (send_frame(0, &head, NULL))
		while ((got = next_reply()) && !(got == 1 && g.head.op == MEMX_OP_DETACH))
			;
	puts(!got ? "closed" : g.head.status ? "status" : "ok");
}

static void cmd_raw(char *lane, const char *hex)
{
	struct memx_chan *chan = g.lane[number(lane)].chan;
	size_t len = strlen(hex) / 2;
	u8 *bytes = malloc(len + 1);

	if (!bytes || memx_parse_hex(hex, bytes, len)) {
		puts("error hex");
	} else {
		memx_vring_put(&chan->ring, 0, bytes, (u32)len);
		memx_vring_publish(&chan->ring, (u32)len);
		chan->ops->notify(chan);
		puts("ok");
	}
	free(bytes);
}

static void cmd_index(char *lane, char *value)
{
	struct memx_chan *chan = g.lane[number(lane)].chan;

	memx_store_release(chan->ring.tx_prod_shr, number(value));
	chan->ops->notify(chan);
	puts("ok");
}

/* Takes what came on lane 0 and counts the PONGs. */
static u32 take_pongs(void)
{
	u32 pongs = 0;

	while (take_frame(0)) {
		if (g.head.reply && g.head.op == MEMX_OP_PING)
			pongs++;
		answer_request(0);
	}
	return pongs;
}

/*
 * A frame comes when the relay has just taken the one before, and may be looking for the last time before it sleeps: at another
 * moment of that look each time. A relay that overlooks one is stuck, for nothing else is sent.
 */
static void cmd_volley(const char *count)
{
	struct memx_vring *ring = &g.lane[0].chan->ring;
	u32 sent, pongs = 0;

	for (sent = 0; sent < number(count) && !g.closed; sent++) {
		struct memx_head ping = { .op = MEMX_OP_PING, .tag = ++g.tag, .epoch = g.epoch };
		u64 until = memx_now() + 10000000000ULL;

		if (!send_frame(0, &ping, NULL))
			break;
		while (memx_load_acquire(ring->tx_cons_shr) != ring->tx_prod)
			if (memx_now() > until) {
				printf("error frame %u was shown and never taken\n", sent);
				return;
			}
		for (volatile u32 i = 0; i < sent % 509; i++)
			;
		pongs += take_pongs();
	}
	while (pongs < sent && next_reply() == 1)
		pongs++;
	printf(g.closed ? "closed\n" : "ok frames=%u\n", pongs);
}

static void run(char *line)
{
	char *cmd = strtok(line, BLANK), *a = strtok(NULL, BLANK), *b = strtok(NULL, BLANK), *c = strtok(NULL, BLANK),
	     *d = strtok(NULL, BLANK);

	if (!cmd)
		return;
	if (!strcmp(cmd, "offer") && c)
		cmd_offer(a, b, c, d);
	else if (!strcmp(cmd, "attach") && a)
		cmd_attach(a, b);
	else if (!strcmp(cmd, "store") && c)
		cmd_io(MEMX_OP_STORE, a, b, c);
	else if (!strcmp(cmd, "fetch") && b)
		cmd_io(MEMX_OP_FETCH, a, b, NULL);
	else if (!strcmp(cmd, "discard") && b)
		cmd_io(MEMX_OP_DISCARD, a, b, NULL);
	else if (!strcmp(cmd, "detach"))
		cmd_detach();
	else if (!strcmp(cmd, "suspend") || !strcmp(cmd, "shutdown"))
		puts(memx_shm_say(g.sock, *cmd == 's' && cmd[1] == 'u' ? MEMX_SHM_SUSPEND : MEMX_SHM_SHUTDOWN, NULL) ? "error" : "ok");
	else if (!strcmp(cmd, "close"))
		drop_lanes(), puts("ok");
	else if (!strcmp(cmd, "raw") && b)
		cmd_raw(a, b);
	else if (!strcmp(cmd, "volley") && a)
		cmd_volley(a);
	else if (!strcmp(cmd, "index") && b)
		cmd_index(a, b);
	else if (!strcmp(cmd, "wait-closed"))
		puts(next_reply() ? "error a frame came" : "ok");
	else if (!strcmp(cmd, "quit"))
		exit(0);
	else
		puts("error command");
}

/* Between commands: what the relay asks by itself is answered, as a guest would. */
static void serve(void)
{
	bool any = true;

	while (any && !g.closed) {
		any = false;
		for (unsigned int i = 0; i < g.lanes; i++) {
			if (!take_frame(i))
				continue;
			any = true;
			answer_request(i);
		}
		for (unsigned int i = 0; i < g.lanes && !any; i++) {
			memx_vring_want(&g.lane[i].chan->ring, MEMX_VCHAN_WRITE);
			any = memx_vring_avail(&g.lane[i].chan->ring) > 0;
		}
	}
}

/* The next command, without its newline; NULL at the end. */
static char *next_line(void)
{
	static char buf[1 << 16];
	static size_t len, used;

	for (;;) {
		struct pollfd p[MEMX_MAX_LANES + 1] = { { .fd = STDIN_FILENO, .events = POLLIN } };
		char *end;
		ssize_t got;

		memmove(buf, buf + used, len - used);
		len -= used;
		used = 0;
		end = memchr(buf, '\n', len);
		if (end) {
			*end = '\0';
			used = (size_t)(end - buf) + 1;
			return buf;
		}
		serve();
		for (unsigned int i = 0; i < g.lanes; i++)
			p[i + 1] = (struct pollfd){ .fd = g.closed ? -1 : g.lane[i].chan->fd, .events = POLLIN };
		if (poll(p, g.lanes + 1, -1) < 0)
			continue;
		for (unsigned int i = 0; i < g.lanes; i++)
			if (p[i + 1].revents)
				g.lane[i].chan->ops->ack(g.lane[i].chan);
		if (!p[0].revents)
			continue;
		got = read(STDIN_FILENO, buf + len, sizeof(buf) - len);
		if (got <= 0)
			return NULL;
		len += (size_t)got;
	}
}

int main(void)
{
	char *line;

	g.version = calloc(MAX_SLOTS, sizeof(*g.version));
	g.content = calloc(MAX_SLOTS, sizeof(*g.content));
	if (!g.version || !g.content)
		return 1;
	memx_random(g.session, sizeof(g.session));
	g.seed = memx_session_seed(g.session);
	g.lineage = memx_random_u64();
	while ((line = next_line())) {
		run(line);
		fflush(stdout);
	}
	return 0;
}
