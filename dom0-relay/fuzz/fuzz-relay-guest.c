// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-relay-guest.c - libFuzzer target: a relay, three donors, a guest that keeps the rules, and one that keeps none.
 *
 * The input is a list of steps of both guests and of the network. The hostile one builds frames that are right but for what the
 * input changes in them, so that it gets behind the first checks: HELLO, ATTACH with maps that name its own extents, the other
 * guest's, or nobody's, data requests of any slot, answers to records or none, on the right lane or the wrong one. It may stop
 * reading, hang up, and come again.
 *
 * What must hold: the other guest is served without one error; no byte that the hostile guest did not store itself reaches it;
 * what it has reserved stays within its quota; what the relay holds for it stays within the limits that it was told; when its
 * domain is gone, donors hold nothing of it. And everybody's accounts add up after each step.
 */
#include "invariants.h"
#include "../tests/world-guest.h"
#include "../../server/core/internal.h"

enum {
	DONORS		= 3,
	CHUNKS		= 16,
	SLOTS		= 256,		/* of the good guest */
	QUOTA		= 128,		/* of the hostile one */
	KEPT		= 8,		/* tags of the relay's requests */
};

static const char mark[] = "evil";

struct asked {
	u32 lane;
	struct memx_head head;
};

static struct fuzz_in in;
static struct asked asked[KEPT];
static u32 asked_next;
static u64 hello_tag[W_LANES];
static struct memx_record own[8];	/* records that it was given */
static struct memx_attached granted;
static u8 body[MEMX_MAX_BODY + 64] __attribute__((aligned(8)));

/* ---- what it hears ---- */

static void hear_pages(const struct wguest *g, const struct memx_head *head, const struct frame *f)
{
	const struct memx_io *io = (const void *)f->body;
	const struct memx_page *page = (const void *)(io + 1);
	u32 count = f->len < MEMX_IO_LEN ? 0 : memx_le16(io->count), i;
	const u8 *bytes = (const u8 *)(page + count);

	if (head->status != MEMX_S_OK && head->status != MEMX_S_PARTIAL)
		return;
	fuzz_must(count && count <= MEMX_MAX_PAGES && f->len >= MEMX_IO_LEN + count * sizeof(*page), "a short reply");
	for (i = 0; i < count; i++) {
		if (memx_le32(page[i].status) != MEMX_S_OK)
			continue;
		fuzz_must(bytes + MEMX_PAGE_SIZE <= f->body + f->len, "a page outside of its frame");
		fuzz_must(!memcmp(bytes, mark, sizeof(mark)), "slot %u: somebody else's bytes", memx_le32(page[i].slot));
		fuzz_must(memx_le32(page[i].trailer.flags) & MEMX_T_SEALED ||
			  memx_check(g->seed, memx_le32(page[i].slot), memx_le64(page[i].trailer.version), bytes) ==
			  memx_le64(page[i].trailer.check), "slot %u: damaged", memx_le32(page[i].slot));
		bytes += MEMX_PAGE_SIZE;
	}
}

static void hears(struct wguest *g, u32 lane, const struct frame *f)
{
	const struct memx_record *rec = (const void *)(f->body + sizeof(struct memx_records));
	struct memx_head head;
	u32 i;

	if (memx_head_get(&head, &f->hdr, MEMX_MAX_BODY))
		abort();
	if (head.reply) {
		if (head.op == MEMX_OP_ATTACH && head.status == MEMX_S_OK && f->len == sizeof(granted)) {
			memcpy(&granted, f->body, sizeof(granted));
			fuzz_must(memx_le32(granted.slots) <= QUOTA, "%u slots granted", memx_le32(granted.slots));
		}
		if (head.op == MEMX_OP_FETCH)
			hear_pages(g, &head, f);
		return;
	}
	if (head.op == MEMX_OP_HELLO)
		hello_tag[lane] = head.tag;
	asked[asked_next++ % KEPT] = (struct asked){ lane, head };
	for (i = 0; head.op == MEMX_OP_RECORD && i < (f->len - sizeof(struct memx_records)) / sizeof(*rec); i++)
		if (memx_le32(rec[i].extent) < 8)
			own[memx_le32(rec[i].extent)] = rec[i];
}

/* ---- what it says ---- */

/* Sends a frame with what the input does to it. */
static void say(struct wguest *g, u32 lane, struct memx_head *head)
{
	u32 i, changes;

	switch (fuzz_u8(&in) % 32) {
	case 1:
		lane = !lane;
		break;
	case 2:
		head->len = (u32)fuzz_take(&in, 2);
		break;
	case 3:
		head->tag = fuzz_odd(&in);
		break;
	case 4:
		head->epoch = fuzz_odd(&in);
		break;
	case 5:
		head->flags = fuzz_u8(&in);
		break;
	case 6:
		head->op = (u16)fuzz_odd(&in) & (MEMX_OP_REPLY - 1);
		break;
	case 7:
		head->status = (u32)fuzz_odd(&in);
		break;
	case 8:
		head->reply = !head->reply;
		break;
	case 9: case 10: case 11: case 12:
		changes = 1 + fuzz_pick(&in, 4);
		for (i = 0; head->len && i < changes; i++)
			body[fuzz_u8(&in) % head->len] ^= fuzz_u8(&in);
		break;
	default:
		break;
	}
	if (head->len > MEMX_MAX_BODY)
		head->len = MEMX_MAX_BODY;
	if (g->alive)
		wguest_raw(g, lane, head, body);
}

static struct memx_head request(struct wguest *g, u16 op, u32 len)
{
	memset(body, 0, 8192);
	return (struct memx_head){ .op = op, .len = len, .tag = ++g->next_tag, .epoch = g->epoch };
}

static void say_hello(struct wguest *g, u32 lane)
{
	struct memx_head head = { .op = MEMX_OP_HELLO, .reply = true, .tag = hello_tag[lane], .len = sizeof(struct memx_hello) };
	struct memx_hello hello = {
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .proto = memx_put_le16(1), .role = MEMX_ROLE_GUEST,
		.lane = (u8)lane, .lanes = W_LANES, .lane_kind = lane ? MEMX_LANE_FETCH : MEMX_LANE_STORE,
		.offer = memx_put_le64(g->offer),
	};

	memset(body, 0, sizeof(hello));
	memcpy(body, &hello, sizeof(hello));
	say(g, lane, &head);
}

static void random_record(struct memx_record *rec, const struct world *w)
{
	u32 i, n = 1 + fuzz_pick(&in, 4);

	memset(rec, 0, sizeof(*rec));
	rec->extent = memx_put_le32(fuzz_pick(&in, 4));
	rec->generation = memx_put_le64(fuzz_odd(&in));
	rec->replicas = (u8)n;
	for (i = 0; i < n; i++) {
		const struct wdonor *d = &w->donor[(i + fuzz_pick(&in, 2)) % DONORS];

		memcpy(rec->replica[i].donor, d->id, sizeof(d->id));
		if (fuzz_rarely(&in, 4))
			rec->replica[i].donor[0] ^= 1;
		rec->replica[i].instance = memx_put_le64(fuzz_rarely(&in, 4) ? fuzz_odd(&in) : d->instance);
		rec->replica[i].state = (u8)(1 + fuzz_pick(&in, 3));
	}
}

/* ATTACH, and a map of its own extents, of the other guest's, or of what it makes up. */
static void say_attach(struct world *w, struct wguest *g)
{
	struct memx_records *recs = (void *)body;
	struct memx_record *rec = (void *)(recs + 1);
	struct memx_head head = request(g, MEMX_OP_ATTACH, sizeof(struct memx_attach));
	struct memx_attach a = { .slots = memx_put_le32(QUOTA), .extent_order = 6 };
	u32 how = fuzz_u8(&in), n = how & 3, i;

	head.epoch = ++g->epoch;
	memcpy(a.session, how & 4 ? w->guest[0].session : g->session, sizeof(a.session));
	if (how & 8)
		a.session[0] ^= fuzz_u8(&in);
	g->seed = memx_session_seed(a.session);
	a.lineage[0] = memx_put_le64(fuzz_rarely(&in, 8) ? fuzz_odd(&in) : 99);
	if (how & 0x10)
		a.slots = memx_put_le32((u32)fuzz_odd(&in));
	if (how & 0x20)
		a.extent_order = fuzz_u8(&in) % 18;
	if (how & 0x40)
		a.flags = memx_put_le16(MEMX_ATTACH_FROZEN);
	a.records = memx_put_le32(fuzz_rarely(&in, 8) ? (u32)fuzz_odd(&in) : n);
	memcpy(body, &a, sizeof(a));
	say(g, 0, &head);
	do {
		head = request(g, MEMX_OP_MAP, memx_records_len(n));
		recs->count = memx_put_le32(n);
		for (i = 0; i < n; i++) {
			u32 from = fuzz_pick(&in, 3);

			if (from == 0)
				rec[i] = own[i];
			else if (from == 1)
				rec[i] = w->guest[0].record[i];
			else
				random_record(&rec[i], w);
		}
		head.flags = fuzz_rarely(&in, 8) ? 0 : MEMX_F_LAST;
		say(g, 0, &head);
	} while (!head.flags && in.at < in.end);
}

static void say_data(struct wguest *g, u16 op)
{
	u32 order = granted.extent_order ? granted.extent_order : 6, count = 1 + fuzz_pick(&in, 4), slot = fuzz_pick(&in, QUOTA), i;
	struct memx_head head = request(g, op, op == MEMX_OP_STORE ? memx_store_len(count) : memx_want_len(count));
	struct memx_io *io = (void *)body;
	struct memx_page *page = (void *)(io + 1);
	struct memx_want *want = (void *)(io + 1);
	u8 *bytes = (u8 *)(page + count);
	u64 version;

	if (fuzz_rarely(&in, 8))
		slot = (u32)fuzz_odd(&in);
	io->extent = memx_put_le32(slot >> order);
	io->count = memx_put_le16((u16)count);
	for (i = 0; i < count; i++) {
		version = 1 + fuzz_pick(&in, 4);
		if (op != MEMX_OP_STORE) {
			want[i] = (struct memx_want){ .slot = memx_put_le32(slot + i), .version = memx_put_le64(version) };
			continue;
		}
		memset(bytes, (int)version, MEMX_PAGE_SIZE);
		memcpy(bytes, mark, sizeof(mark));
		page[i] = (struct memx_page){ .slot = memx_put_le32(slot + i), .trailer.version = memx_put_le64(version) };
		page[i].trailer.check = memx_put_le64(memx_check(g->seed, slot + i, version, bytes));
		bytes += MEMX_PAGE_SIZE;
	}
	say(g, op == MEMX_OP_FETCH, &head);
}

/* Answers something that the relay asked, lately or long ago. */
static void say_answer(struct wguest *g)
{
	const struct asked *a = &asked[fuzz_rarely(&in, 4) ? fuzz_pick(&in, KEPT) : (asked_next + KEPT - 1) % KEPT];
	struct memx_head head = { .op = a->head.op, .reply = true, .tag = a->head.tag, .epoch = a->head.epoch };

	if (fuzz_rarely(&in, 8))
		head.status = fuzz_u8(&in);
	say(g, a->lane, &head);
}

static void hostile_step(struct world *w, struct wguest *g, u8 what)
{
	static const u16 small[] = { MEMX_OP_PING, MEMX_OP_DETACH, MEMX_OP_RECORD, MEMX_OP_STAT, MEMX_OP_FENCE, MEMX_OP_MAP };
	struct memx_head head;
	u32 i;

	switch (what & 15) {
	case 0:
		wguest_hang_up(g);
		break;
	case 1:
		if (!g->alive)
			wguest_offer(g);
		break;
	case 2:
		say_hello(g, 0);
		break;
	case 3:
		say_hello(g, 1);
		break;
	case 4:			/* in good order up to here */
		if (!g->alive)
			wguest_offer(g);
		world_settle(w);
		for (i = 0; i < W_LANES; i++)
			say_hello(g, i);
		__attribute__((fallthrough));
	case 5:
		say_attach(w, g);
		break;
	case 6: case 7:
		say_data(g, MEMX_OP_STORE);
		break;
	case 8: case 9:
		say_data(g, MEMX_OP_FETCH);
		break;
	case 10:
		say_data(g, MEMX_OP_DISCARD);
		break;
	case 11: case 12:
		say_answer(g);
		break;
	case 13:
		head = request(g, small[fuzz_pick(&in, 6)], 0);
		say(g, fuzz_u8(&in) & 1, &head);
		break;
	case 14:
		g->deaf = !g->deaf;
		break;
	default:		/* the same again and again, unread: all credit is used, and more */
		g->deaf = true;
		for (i = fuzz_u8(&in); i && g->alive; i--) {
			say_data(g, what & 16 ? MEMX_OP_FETCH : MEMX_OP_DISCARD);
			while (g->alive && !list_empty(&g->to_relay[what & 16 ? 1 : 0]))
				wguest_deliver_one(g, what & 16 ? 1 : 0);
		}
	}
}

/* ---- the others ---- */

static void good_step(struct wguest *g, u8 what)
{
	u32 slot = fuzz_pick(&in, SLOTS), count = 1 + fuzz_pick(&in, 8);

	if (!(what & 3))
		wguest_discard(g, slot, count);
	else if (what & 1)
		wguest_store(g, slot, count);
	else
		wguest_fetch(g, slot, count);
}

/* What the hostile guest has of donors, sessions that are on their way out included. */
static void check_quota(const struct world *w, const struct wguest *g)
{
	const struct srv_session *s;
	const struct list *pos;
	u64 reserved = 0;
	u32 i, sessions = 0;

	for (i = 0; i < w->donors; i++)
		for (s = w->donor[i].srv->first; s; s = s->next)
			if (!memcmp(s->vm, g->conf.vm, sizeof(s->vm)))
				reserved += srv_promise(s);
	fuzz_must(reserved <= 4 * 2 * QUOTA, "%llu pages promised to a guest of %d", (unsigned long long)reserved, QUOTA);
	list_for_each(pos, &w->core->sessions)
		sessions += !memcmp(list_entry(pos, struct session, in_core)->vm, g->conf.vm, 16);
	fuzz_must(sessions <= LINK_MAX_SESSIONS + 1, "%u sessions of one guest", sessions);
	if (g->alive && g->link)
		fuzz_must(rpool_used(g->link->pool) + rpool_used(g->link->fetch_pool) <=
			  w->cfg.staging_bytes + W_LANES * LINK_LANE_REQUESTS * 1024ULL, "staging");
}

static void step(struct world *w, struct wguest *good, struct wguest *bad)
{
	u8 what = fuzz_u8(&in);
	u32 i;

	switch (what >> 5) {
	case 0: case 1: case 2: case 3:
		hostile_step(w, bad, what);
		break;
	case 4:
		good_step(good, what);
		break;
	case 5:
		for (i = what & 31; i && world_roll(w); i--)
			;
		break;
	case 6:
		world_pass(w, 10U << (what & 7));
		break;
	default:
		world_settle(w);
	}
	fuzz_must(good->alive && !good->closed && !good->errors, "the other guest: %s, %llu errors", good->reason,
		  (unsigned long long)good->errors);
	check_world(w);
	check_quota(w, bad);
}

/* The hostile guest's domain goes: nothing of it is left, and the other reads all that it stored. */
static void come_to_rest(struct world *w, struct wguest *good, struct wguest *bad)
{
	const struct srv_session *s;
	u32 i, slot;

	bad->deaf = false;
	wguest_hang_up(bad);
	core_guest_gone(w->core, bad->conf.vm, bad->conf.domid, false, w->now);
	world_pass(w, 3000);
	fuzz_must(!good->busy, "%u requests of the other guest are unanswered", good->busy);
	for (slot = 0; slot < SLOTS; slot += 8) {
		for (i = 0; i < 8; i++)
			wguest_fetch(good, slot + i, 1);
		world_settle(w);
	}
	world_pass(w, 1000);
	fuzz_must(!good->busy && good->alive && !good->errors, "%u unanswered", good->busy);
	for (i = 0; i < w->donors; i++)
		for (s = w->donor[i].srv->first; s; s = s->next)
			fuzz_must(memcmp(s->vm, bad->conf.vm, sizeof(s->vm)), "donor %u still holds %llu pages of it", i,
				  (unsigned long long)s->used);
	check_world(w);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct world *w;
	struct wguest *good, *bad;

	in = (struct fuzz_in){ data, data + size };
	memset(asked, 0, sizeof(asked));
	asked_next = 0;
	memset(hello_tag, 0, sizeof(hello_tag));
	memset(own, 0, sizeof(own));
	memset(&granted, 0, sizeof(granted));
	w = world_new(1, DONORS, CHUNKS, NULL);
	good = wguest_new(w, SLOTS, 2);
	fuzz_must(wguest_start(good), "the good guest does not attach");
	bad = wguest_new(w, QUOTA, 2);
	bad->hears = hears;
	while (in.at < in.end)
		step(w, good, bad);
	come_to_rest(w, good, bad);
	world_free(w);
	return 0;
}
