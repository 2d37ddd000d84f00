// SPDX-License-Identifier: GPL-2.0-only
/*
 * vchan-client.c - one guest's relay and donor in one small program, over an unmodified libxenvchan.
 *
 *	vchan-client [--slots N] [--trick NAME[:COUNT]]... [--attachments N] [--refuse STATUS:TIMES] DOMID
 *
 * Runs in Dom0 against a loaded memx_swap: that libxenvchan connects at all, and every byte that comes, is what
 * is tested. It serves the module out of its own memory, verifies the check of every page that is stored, and
 * plays the relay that lies: a trick is played once, with the COUNTth opportunity after an attachment (default 1), and the
 * module is expected to hang up (or, for "corrupt" and the like, to ask again) and to offer itself anew.
 *
 * One line on stdout for each thing that happens. Ends with status 0 after N attachments have ended (0, the
 * default: never; ended by a signal), with 1 when the module did what it must not: that is said on stderr.
 *
 * Single-threaded; everything is owned by main().
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <libxenvchan.h>
#include <xenstore.h>

#include "memx/check.h"
#include "memx/codec.h"

#define __printf(a, b)	__attribute__((format(printf, a, b)))
#define __noreturn	__attribute__((noreturn))

enum {
	ORDER		= 10,
	LANE_REQUESTS	= 32,
	LANE_PAGES	= 512,
	MAX_TRICKS	= 8,
	OFFER_SECONDS	= 60,
	HANG_UP_SECONDS	= 30,
};

struct slot {
	u64 version;
	bool held;
	struct memx_trailer trailer;
	u8 *page;
};

struct lane {
	struct libxenvchan *chan;
	unsigned int index;
	bool hello;
	bool has_head;
	struct memx_head head;
	u8 body[MEMX_MAX_BODY];
};

struct trick {
	const char *name;
	unsigned long count;	/* opportunities to go */
};

static struct {
	int domid;
	u32 slots;
	unsigned int attachments;
	u32 refuse_status;
	unsigned int refuse_times;
	struct trick trick[MAX_TRICKS];
	unsigned int tricks;

	struct xs_handle *xs;
	char base[64];
	struct lane lane[MEMX_MAX_LANES];
	unsigned int lanes;
	u64 offer;
	u64 epoch;
	u64 attach_tag;
	u64 seed;
	u64 generation;		/* of the records that were proposed */
	u64 *record;		/* by extent: generation proposed */
	bool attached;
	bool lied;		/* about the indices: the rings are of no use any more */
	struct slot *slot;
	unsigned long stored, fetched, discarded;
} my;

static void __printf(1, 2) say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

static void __noreturn __printf(1, 2) wrong(const char *format, ...)
{
	va_list args;

	fputs("vchan-client: the module is wrong: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void *need(void *p)
{
	if (!p) {
		fprintf(stderr, "vchan-client: no memory\n");
		exit(2);
	}
	return p;
}

/* Is it time to play the trick of that name? */
static bool trick(const char *name)
{
	unsigned int i;

	for (i = 0; i < my.tricks; i++) {
		if (strcmp(my.trick[i].name, name) || !my.trick[i].count || --my.trick[i].count)
			continue;
		say("trick %s", name);
		return true;
	}
	return false;
}

static void put(struct lane *lane, const void *data, u32 len)
{
	int n = libxenvchan_send(lane->chan, data, len);

	/* It has hung up, or will as soon as it looks: serve() will see it. */
	if (n < 0 || my.lied)
		return;
	if (n != (int)len)
		wrong("lane %u: no room for %u bytes: it asked for more than the reply ring holds (%d)", lane->index, len, n);
}

static void say_ring(const struct lane *lane, const char *what)
{
	const struct vchan_interface *ring = lane->chan->ring;

	say("lane %u %s: left %u/%u right %u/%u notify cli %u srv %u live srv %u", lane->index, what, ring->left.prod,
	    ring->left.cons, ring->right.prod, ring->right.cons, ring->cli_notify, ring->srv_notify, ring->srv_live);
}

/*
 * Indices that cannot be, and an event, so that the module looks at them. Far off: the module goes on sending until it
 * looks, and one byte more than it had sent may be what it has sent by then.
 */
static void lie(struct lane *lane)
{
	struct libxenvchan *chan = lane->chan;
	struct vchan_interface *ring = chan->ring;
	u32 prod = ring->left.prod, cons = ring->right.cons;

	if (trick("index-far"))
		ring->left.prod = prod + (1U << 24);
	if (trick("index-back"))
		ring->left.prod = ring->left.cons - 1;
	if (trick("cons-far"))
		ring->right.cons = ring->right.prod + (1U << 24);
	if (prod == ring->left.prod && cons == ring->right.cons)
		return;
	my.lied = true;
	say_ring(lane, "lied");
	xenevtchn_notify(chan->event, (evtchn_port_t)chan->event_port);
}

static void answer(struct lane *lane, u32 status, const void *body, u32 len)
{
	struct memx_head head = {
		.op = lane->head.op, .reply = true, .status = status, .len = len, .tag = lane->head.tag, .epoch = my.epoch,
	};
	static u8 frame[MEMX_MAX_FRAME];
	struct memx_hdr hdr;

	if (trick("unknown-tag"))
		head.tag ^= 1ULL << 40;
	if (trick("wrong-epoch"))
		head.epoch++;
	memx_hdr_put(&hdr, &head);
	if (trick("bad-magic"))
		hdr.magic = ~hdr.magic;
	if (trick("huge"))
		hdr.len = memx_put_le32(0x7fffffff);
	memcpy(frame, &hdr, sizeof(hdr));
	if (len)
		memcpy(frame + sizeof(hdr), body, len);
	put(lane, frame, sizeof(hdr) + len);
	if (trick("twice") && my.attached)
		put(lane, frame, sizeof(hdr) + len);
	lie(lane);
}

static void hello(struct lane *lane)
{
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(struct memx_hello), .tag = 1 };
	struct memx_hello body = {
		.proto_min = memx_put_le16(MEMX_PROTO_MIN),
		.proto_max = memx_put_le16(MEMX_PROTO_MAX),
		.role = MEMX_ROLE_RELAY,
		.lane = (u8)lane->index,
		.offer = memx_put_le64(my.offer + (trick("wrong-nonce") ? 1 : 0)),
		.instance = memx_put_le64(4711),
	};
	struct memx_hdr hdr;
	u8 frame[sizeof(hdr) + sizeof(body)];

	memx_hdr_put(&hdr, &head);
	memcpy(frame, &hdr, sizeof(hdr));
	memcpy(frame + sizeof(hdr), &body, sizeof(body));
	put(lane, frame, sizeof(frame));
}

static void take_hello(struct lane *lane)
{
	const struct memx_hello *body = (const void *)lane->body;

	if (lane->head.len != sizeof(*body) || lane->head.tag != 1 || lane->head.status)
		wrong("lane %u: hello of %u bytes, tag %llu, status %u", lane->index, lane->head.len,
		      (unsigned long long)lane->head.tag, lane->head.status);
	if (memx_le16(body->proto) != MEMX_PROTO_MAX || body->role != MEMX_ROLE_GUEST || body->lane != lane->index ||
	    memx_le64(body->offer) != my.offer || body->lanes != my.lanes)
		wrong("lane %u: hello says proto %u role %u lane %u of %u", lane->index, memx_le16(body->proto), body->role,
		      body->lane, body->lanes);
	if (body->lane_kind != (lane->index < my.lanes / 2 ? MEMX_LANE_STORE : MEMX_LANE_FETCH))
		wrong("lane %u is of kind %u", lane->index, body->lane_kind);
	lane->hello = true;
	say("hello %u", lane->index);
	if (trick("second-hello"))
		hello(lane);
}

static void attach(struct lane *lane)
{
	const struct memx_attach *body = (const void *)lane->body;
	u32 slots = memx_le32(body->slots);

	if (lane->index || lane->head.len != sizeof(*body))
		wrong("ATTACH of %u bytes on lane %u", lane->head.len, lane->index);
	if (lane->head.epoch <= my.epoch)
		wrong("epoch %llu after %llu", (unsigned long long)lane->head.epoch, (unsigned long long)my.epoch);
	my.epoch = lane->head.epoch;
	my.attach_tag = lane->head.tag;
	my.seed = memx_session_seed(body->session);
	say("attach epoch=%llu slots=%u records=%u flags=%u", (unsigned long long)my.epoch, slots,
	    memx_le32(body->records), memx_le16(body->flags));
	if (memx_le16(body->flags) & MEMX_ATTACH_FROZEN && slots != my.slots)
		wrong("%u slots are frozen, not %u", slots, my.slots);
}

/* The last MAP has come: the answer to ATTACH. */
static void attached(struct lane *lane)
{
	struct memx_attached body = {
		.slots = memx_put_le32(my.slots), .extent_order = ORDER, .replicas = 1, .max_pages = MEMX_MAX_PAGES,
		.lane_requests = memx_put_le32(LANE_REQUESTS), .lane_pages = memx_put_le32(LANE_PAGES),
		.retry_ms = memx_put_le32(300),
	};
	u32 status = MEMX_S_OK;

	if (my.refuse_times) {
		my.refuse_times--;
		status = my.refuse_status;
	}
	if (trick("grant-more"))
		body.slots = memx_put_le32(my.slots * 2);
	if (trick("grant-nonsense"))
		body.extent_order = 60;
	lane->head.op = MEMX_OP_ATTACH;
	lane->head.tag = my.attach_tag;
	answer(lane, status, &body, sizeof(body));
	my.attached = status == MEMX_S_OK;
	say(my.attached ? "attached" : "refused %u", status);
}

static void take_map(struct lane *lane)
{
	const struct memx_records *body = (const void *)lane->body;
	const struct memx_record *recs = (const void *)(lane->body + sizeof(*body));
	int count = memx_check_records(&lane->head, body), i;

	if (count < 0)
		wrong("a MAP frame of %u bytes", lane->head.len);
	for (i = 0; i < count; i++) {
		u32 extent = memx_le32(recs[i].extent);

		if (memx_check_record(&recs[i], memx_extents(my.slots, ORDER)))
			wrong("a record of extent %u is malformed", extent);
		if (memx_le64(recs[i].generation) != my.record[extent])
			wrong("extent %u is at generation %llu and not %llu", extent,
			      (unsigned long long)memx_le64(recs[i].generation), (unsigned long long)my.record[extent]);
	}
	if (lane->head.flags & MEMX_F_LAST)
		attached(lane);
}

/* Proposes a record for an extent that has none. */
static void place(struct lane *lane, u32 extent)
{
	struct memx_head head = { .op = MEMX_OP_RECORD, .tag = 1000 + extent, .epoch = my.epoch };
	struct memx_records recs = { .count = memx_put_le32(1) };
	struct memx_record rec = { .extent = memx_put_le32(extent), .replicas = 1 };
	struct memx_hdr hdr;
	u8 frame[sizeof(hdr) + sizeof(recs) + sizeof(rec)];

	my.record[extent] = ++my.generation;
	rec.generation = memx_put_le64(my.record[extent]);
	memset(rec.replica[0].donor, 0xdd, sizeof(rec.replica[0].donor));
	rec.replica[0].instance = memx_put_le64(1);
	rec.replica[0].state = MEMX_R_LIVE;
	if (trick("bad-record"))
		rec.replica[0].state = MEMX_R_STALE;
	head.len = sizeof(recs) + sizeof(rec);
	memx_hdr_put(&hdr, &head);
	memcpy(frame, &hdr, sizeof(hdr));
	memcpy(frame + sizeof(hdr), &recs, sizeof(recs));
	memcpy(frame + sizeof(hdr) + sizeof(recs), &rec, sizeof(rec));
	put(lane, frame, sizeof(frame));
}

static void store_page(u32 n, const struct memx_trailer *trailer, const u8 *page)
{
	struct slot *slot = &my.slot[n];
	u64 version = memx_le64(trailer->version);

	if (version <= slot->version)
		wrong("slot %u is stored at version %llu after %llu", n, (unsigned long long)version,
		      (unsigned long long)slot->version);
	if (memx_le64(trailer->check) != memx_check(my.seed, n, version, page))
		wrong("slot %u: the check does not fit the page", n);
	if (!slot->page)
		slot->page = need(malloc(MEMX_PAGE_SIZE));
	memcpy(slot->page, page, MEMX_PAGE_SIZE);
	slot->trailer = *trailer;
	slot->version = version;
	slot->held = true;
	my.stored++;
}

static void store(struct lane *lane)
{
	struct memx_io *io = (void *)lane->body;
	struct memx_page *desc = (void *)(lane->body + sizeof(*io));
	int count = memx_check_io(&lane->head, io, MEMX_MAX_PAGES), i;
	u32 extent;

	if (count < 0)
		wrong("STORE of %u bytes, %u pages", lane->head.len, memx_le16(io->count));
	extent = memx_le32(io->extent);
	if (memx_check_pages(desc, (u32)count, extent, ORDER, my.slots))
		wrong("STORE with slots of another extent, or out of order");
	if (!my.record[extent])
		place(lane, extent);
	if (trick("no-answer"))
		return;
	if (trick("nospace")) {
		answer(lane, MEMX_S_NOSPACE, io, sizeof(*io));
		return;
	}
	for (i = 0; i < count; i++)
		store_page(memx_le32(desc[i].slot), &desc[i].trailer, (u8 *)(desc + count) + i * MEMX_PAGE_SIZE);
	answer(lane, MEMX_S_OK, io, sizeof(*io));
}

static void fetch(struct lane *lane)
{
	static u8 out[MEMX_MAX_BODY];
	struct memx_io *io = (void *)lane->body;
	const struct memx_want *want = (const void *)(lane->body + sizeof(*io));
	int count = memx_check_io(&lane->head, io, MEMX_MAX_PAGES), i, good = 0;
	struct memx_page *desc = (void *)(out + sizeof(*io));
	u8 *pages;

	if (count < 0 || memx_check_wants(want, (u32)count, memx_le32(io->extent), ORDER, my.slots))
		wrong("FETCH of %u bytes, %u pages", lane->head.len, memx_le16(io->count));
	memcpy(out, io, sizeof(*io));
	pages = (u8 *)(desc + count);
	for (i = 0; i < count; i++) {
		u32 n = memx_le32(want[i].slot);
		const struct slot *slot = &my.slot[n];

		memset(&desc[i], 0, sizeof(desc[i]));
		desc[i].slot = memx_put_le32(n);
		if (!slot->held || slot->version != memx_le64(want[i].version))
			wrong("slot %u is fetched at version %llu and held at %llu (%d)", n,
			      (unsigned long long)memx_le64(want[i].version), (unsigned long long)slot->version, slot->held);
		desc[i].trailer = slot->trailer;
		memcpy(pages + good++ * MEMX_PAGE_SIZE, slot->page, MEMX_PAGE_SIZE);
		my.fetched++;
	}
	if (trick("corrupt"))
		pages[(count - 1) * MEMX_PAGE_SIZE + 99] ^= 1;
	if (trick("other-slot"))
		desc[0].slot = memx_put_le32(memx_le32(desc[0].slot) + 1);
	if (trick("absent")) {
		answer(lane, MEMX_S_IO, out, sizeof(*io));
		return;
	}
	if (trick("truncated"))
		good--;
	answer(lane, MEMX_S_OK, out, memx_fetched_len((u32)count, (u32)good));
}

static void discard(struct lane *lane)
{
	struct memx_io *io = (void *)lane->body;
	const struct memx_want *want = (const void *)(lane->body + sizeof(*io));
	int count = memx_check_io(&lane->head, io, MEMX_MAX_PAGES), i;

	if (count < 0 || memx_check_wants(want, (u32)count, memx_le32(io->extent), ORDER, my.slots))
		wrong("DISCARD of %u bytes, %u pages", lane->head.len, memx_le16(io->count));
	for (i = 0; i < count; i++) {
		struct slot *slot = &my.slot[memx_le32(want[i].slot)];

		if (memx_le64(want[i].version) <= slot->version)
			wrong("slot %u is discarded at version %llu after %llu", memx_le32(want[i].slot),
			      (unsigned long long)memx_le64(want[i].version), (unsigned long long)slot->version);
		slot->version = memx_le64(want[i].version);
		slot->held = false;
		my.discarded++;
	}
	answer(lane, MEMX_S_OK, io, sizeof(*io));
}

static void detach(struct lane *lane)
{
	u32 i;

	for (i = 0; i < my.slots; i++) {
		free(my.slot[i].page);
		memset(&my.slot[i], 0, sizeof(my.slot[i]));
	}
	memset(my.record, 0, memx_extents(my.slots, ORDER) * sizeof(*my.record));
	answer(lane, MEMX_S_OK, NULL, 0);
	my.epoch = 0;
	say("detach");
}

static void frame(struct lane *lane)
{
	if (lane->head.reply) {
		if (lane->head.op == MEMX_OP_HELLO)
			take_hello(lane);
		else if (lane->head.op == MEMX_OP_RECORD && lane->head.status)
			say("record refused %u", lane->head.status);
		return;
	}
	if (!lane->hello)
		wrong("lane %u: operation %u before the hello", lane->index, lane->head.op);
	if (lane->head.op != MEMX_OP_ATTACH && lane->head.op != MEMX_OP_PING && lane->head.epoch != my.epoch)
		wrong("operation %u at epoch %llu in %llu", lane->head.op, (unsigned long long)lane->head.epoch,
		      (unsigned long long)my.epoch);
	switch (lane->head.op) {
	case MEMX_OP_ATTACH:
		attach(lane);
		return;
	case MEMX_OP_MAP:
		take_map(lane);
		return;
	case MEMX_OP_STORE:
		store(lane);
		return;
	case MEMX_OP_FETCH:
		fetch(lane);
		return;
	case MEMX_OP_DISCARD:
		discard(lane);
		return;
	case MEMX_OP_DETACH:
		detach(lane);
		return;
	case MEMX_OP_PING:
		answer(lane, MEMX_S_OK, NULL, 0);
		return;
	default:
		wrong("operation %u", lane->head.op);
	}
}

/* Takes what has come on a lane. */
static void drain(struct lane *lane)
{
	struct memx_hdr hdr;

	while (!my.lied) {
		if (!lane->has_head) {
			if (libxenvchan_data_ready(lane->chan) < (int)sizeof(hdr))
				return;
			libxenvchan_recv(lane->chan, &hdr, sizeof(hdr));
			if (memx_head_get(&lane->head, &hdr, MEMX_MAX_BODY))
				wrong("lane %u: a frame that is none", lane->index);
			lane->has_head = true;
		}
		if (lane->head.len) {
			if (libxenvchan_data_ready(lane->chan) < (int)lane->head.len)
				return;
			libxenvchan_recv(lane->chan, lane->body, lane->head.len);
		}
		lane->has_head = false;
		frame(lane);
	}
}

static char *node(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", my.base, name);
	return xs_read(my.xs, XBT_NULL, path, NULL);
}

/* Is there an offer that we have not had? */
static bool offered(void)
{
	char *state = node("state"), *offer = node("offer"), *lanes = node("lanes");
	u64 nonce = offer ? strtoull(offer, NULL, 16) : 0;
	bool yes = state && !strcmp(state, "offered") && lanes && nonce && nonce != my.offer;

	if (yes) {
		my.offer = nonce;
		my.lanes = (unsigned int)atoi(lanes);
		if (!my.lanes || my.lanes > MEMX_MAX_LANES)
			wrong("%u lanes", my.lanes);
	}
	free(state);
	free(offer);
	free(lanes);
	return yes;
}

static void await_offer(void)
{
	struct pollfd fd = { .fd = xs_fileno(my.xs), .events = POLLIN };
	char **event;
	unsigned int n;

	while (!offered()) {
		if (poll(&fd, 1, OFFER_SECONDS * 1000) <= 0)
			wrong("no new offer for %u s", OFFER_SECONDS);
		event = xs_read_watch(my.xs, &n);
		free(event);
	}
}

static bool connect_lanes(void)
{
	unsigned int i;

	for (i = 0; i < my.lanes; i++) {
		struct lane *lane = &my.lane[i];
		char path[100];

		memset(lane, 0, sizeof(*lane));
		lane->index = i;
		snprintf(path, sizeof(path), "%s/lane-%u", my.base, i);
		lane->chan = libxenvchan_client_init(NULL, my.domid, path);
		if (!lane->chan) {
			say("lane %u: %s", i, strerror(errno));
			return false;
		}
		lane->chan->blocking = 0;
		if (i == 0)
			say("connected orders %u %u", lane->chan->ring->left_order, lane->chan->ring->right_order);
	}
	for (i = 0; i < my.lanes; i++)
		hello(&my.lane[i]);
	return true;
}

/* Serves until the module hangs up on a lane, or a trick ends it. */
static void serve(void)
{
	struct pollfd fds[MEMX_MAX_LANES];
	unsigned int i, ignored = 0;

	for (;;) {
		for (i = 0; i < my.lanes; i++) {
			drain(&my.lane[i]);
			if (libxenvchan_is_open(my.lane[i].chan) != 1)
				return;
		}
		if (my.attached && trick("leave"))
			return;
		for (i = 0; i < my.lanes; i++)
			fds[i] = (struct pollfd){ .fd = libxenvchan_fd_for_select(my.lane[i].chan), .events = POLLIN };
		/* The second is for a hang-up whose event found us elsewhere. */
		if (!poll(fds, my.lanes, 1000) && my.lied && ++ignored == HANG_UP_SECONDS)
			for (i = 0; i < my.lanes; i++)
				say_ring(&my.lane[i], "is open still");
		for (i = 0; i < my.lanes; i++)
			if (fds[i].revents & POLLIN)
				libxenvchan_wait(my.lane[i].chan);
	}
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "slots", required_argument, NULL, 's' }, { "trick", required_argument, NULL, 't' },
		{ "attachments", required_argument, NULL, 'a' }, { "refuse", required_argument, NULL, 'r' },
		{ },
	};
	char *colon;
	int c;

	my.slots = 16384;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			my.slots = (u32)strtoul(optarg, NULL, 0);
			break;
		case 'a':
			my.attachments = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'r':
			my.refuse_status = (u32)strtoul(optarg, &colon, 0);
			my.refuse_times = *colon ? (unsigned int)strtoul(colon + 1, NULL, 0) : 1;
			break;
		case 't':
			if (my.tricks == MAX_TRICKS)
				exit(2);
			colon = strchr(optarg, ':');
			if (colon)
				*colon++ = '\0';
			my.trick[my.tricks++] = (struct trick){ optarg, colon ? strtoul(colon, NULL, 0) : 1 };
			break;
		default:
			exit(2);
		}
	}
	if (optind != argc - 1 || !my.slots) {
		fputs("usage: vchan-client [--slots N] [--trick NAME[:COUNT]]... [--attachments N] [--refuse STATUS:TIMES] DOMID\n",
		      stderr);
		exit(2);
	}
	my.domid = atoi(argv[optind]);
}

int main(int argc, char **argv)
{
	char watched[100];
	unsigned int i, ended = 0;

	parse(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	my.slot = need(calloc(my.slots, sizeof(*my.slot)));
	my.record = need(calloc(memx_extents(my.slots, ORDER), sizeof(*my.record)));
	my.xs = xs_open(0);
	if (!my.xs) {
		perror("vchan-client: XenStore");
		return 2;
	}
	snprintf(my.base, sizeof(my.base), "/local/domain/%d/data/memx", my.domid);
	snprintf(watched, sizeof(watched), "%s/state", my.base);
	xs_watch(my.xs, watched, "state");

	while (!my.attachments || ended < my.attachments) {
		await_offer();
		my.attached = false;
		my.lied = false;
		if (connect_lanes())
			serve();
		for (i = 0; i < my.lanes; i++) {
			if (my.lane[i].chan)
				libxenvchan_close(my.lane[i].chan);
			my.lane[i].chan = NULL;
		}
		ended++;
		say("ended stored=%lu fetched=%lu discarded=%lu", my.stored, my.fetched, my.discarded);
	}
	xs_close(my.xs);
	return 0;
}
