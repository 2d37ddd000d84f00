// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-engine.c - libFuzzer target: the module's engine against a relay that keeps no rule.
 *
 * The input is a list of steps: pages stored, fetched and discarded by the guest, time that passes, and what the relay does. It
 * sees every request, keeps every page that it was ever given, and answers with what the input says: the right answer, or one
 * with other pages, older ones, statuses, tags, lengths; it grants and refuses, hands over records, writes into the shared
 * page and into the ring, dies and comes again.
 *
 * What must hold: an item ends exactly once; a fetch that ends well brings the bytes of the last acknowledged store, and never
 * does where none was acknowledged; credits are never overdrawn; and the rings, which have exactly their size here, are never
 * left.
 */
#include <fuzz/fuzz.h>

#include "../../shared/memx/check.h"
#include "../lane.h"

enum {
	LANES		= 3,
	BIG		= 1 << 17,
	SMALL		= 1 << 14,
	SLOTS		= 256,
	ORDER		= 6,
	ITEMS		= 48,
	ASKED		= 32,
};

/* A request that the relay has read. */
struct asked {
	bool used;
	u8 lane;
	struct memx_head head;
	u32 extent, count;
	struct memx_want want[MEMX_MAX_PAGES];
};

struct kept {
	struct memx_trailer trailer;
	u8 byte;			/* of which the page consists, but for its first word */
};

struct world {
	struct memx_engine e;
	struct memx_vring guest[LANES], relay[LANES];
	struct memx_vchan_page shr[LANES];
	u8 *left[LANES], *right[LANES];
	u32 left_size[LANES], right_size[LANES];
	u8 kind[LANES];
	bool live[LANES];
	u64 now, rnd;
	bool begun, sending, detach;
	u32 next;
	u64 epoch;
	struct asked asked[ASKED];
	struct kept last[SLOTS], before[SLOTS];
	struct memx_item item[ITEMS];
	bool out[ITEMS];
	u64 number[ITEMS];		/* what a store stores */
	u8 (*data)[MEMX_PAGE_SIZE];
	u64 holds[SLOTS];		/* number of the last acknowledged store, 0: none */
	bool busy[SLOTS];
	u64 drawn;
};

static struct fuzz_in in;
static _Alignas(8) u8 frame[MEMX_MAX_FRAME];

/* ---- pages: a number in the first word, then one byte; so that none is same-filled and each is known again ---- */

static void fill(u8 *page, u64 number)
{
	memset(page, (int)(number * 37 + 1), MEMX_PAGE_SIZE);
	memcpy(page, &number, sizeof(number));
}

static bool is(const u8 *page, u64 number)
{
	u8 want[MEMX_PAGE_SIZE];

	fill(want, number);
	return !memcmp(page, want, sizeof(want));
}

/* ---- the engine's surroundings ---- */

static u64 op_now(void *ctx)
{
	return ((struct world *)ctx)->now;
}

static u64 op_random(void *ctx)
{
	struct world *w = ctx;

	return w->rnd = w->rnd * 6364136223846793005ULL + 1442695040888963407ULL;
}

static void op_notify(void *ctx, unsigned int lane)
{
	fuzz_must(ctx && lane < LANES, "lane %u", lane);
}

static enum memx_vchan_client op_peer(void *ctx, unsigned int lane)
{
	return ((struct world *)ctx)->live[lane] ? MEMX_VCHAN_HERE : MEMX_VCHAN_GONE;
}

static void op_done(void *ctx, struct memx_item *item, int err)
{
	struct world *w = ctx;
	long i = item - w->item;

	fuzz_must(w->out[i], "item %ld ends twice", i);
	w->out[i] = false;
	w->busy[item->slot] = false;
	fuzz_must(!err || err == -EIO || err == -ENOSPC || err == -ENODATA || err == -ETIMEDOUT || err == -ECANCELED, "error %d", err);
	switch (item->op) {
	case MEMX_OP_STORE:
		w->holds[item->slot] = err ? 0 : w->number[i];
		break;
	case MEMX_OP_FETCH:
		if (!err)
			fuzz_must(w->holds[item->slot] && is(w->data[i], w->holds[item->slot]), "slot %u: wrong bytes", item->slot);
		fuzz_must(err != -ENODATA || !w->holds[item->slot], "slot %u: acknowledged and absent", item->slot);
		break;
	default:
		break;
	}
}

static void op_wake_lane(void *ctx, unsigned int lane)
{
	op_notify(ctx, lane);
}

static void op_wake(void *ctx)
{
	(void)ctx;
}

static void op_count(void *ctx, enum memx_counter what, u64 n)
{
	(void)ctx;
	fuzz_must(what < MEMX_C_COUNT && n, "counter %d", (int)what);
}

static void op_violation(void *ctx, unsigned int lane, const char *what)
{
	op_notify(ctx, lane);
	fuzz_must(what && *what, "a violation without a word");
}

static void op_bad_page(void *ctx, u32 slot, u64 version, u32 status)
{
	(void)ctx;
	fuzz_must(slot < SLOTS && status, "bad page of slot %u, version %llu", slot, (unsigned long long)version);
}

static const struct memx_engine_ops ops = {
	.now = op_now, .random = op_random, .notify = op_notify, .peer = op_peer, .done = op_done,
	.wake_lane = op_wake_lane, .wake_session = op_wake, .count = op_count, .violation = op_violation,
	.bad_page = op_bad_page,
};

/* What the module's session does with the engine's orders. */
static void worker(struct world *w)
{
	struct memx_engine *e = &w->e;
	u32 a = memx_engine_take(e);
	u8 i;

	if (a & MEMX_ACT_WITHDRAW) {
		w->sending = false;
		w->detach = false;
		for (i = 0; i < LANES; i++) {
			fuzz_must(memx_lane_down(&e->lane[i]), "lane %u does not stop", i);
			w->live[i] = false;
		}
		memset(w->asked, 0, sizeof(w->asked));
	}
	if (a & MEMX_ACT_DETACHED) {
		memx_engine_abandon(e, -ECANCELED);
		memx_engine_unsize(e);
		memset(w->holds, 0, sizeof(w->holds));
	}
	if (a & MEMX_ACT_GONE) {
		memx_engine_gone(e, true);
		memx_engine_abandon(e, -EIO);
	}
	if (a & MEMX_ACT_OFFER) {
		for (i = 0; i < LANES; i++) {
			memx_vring_reset_shared(&w->shr[i], 0, 0);
			memx_vring_init(&w->guest[i], &w->shr[i], true, w->left[i], w->left_size[i], w->right[i], w->right_size[i]);
			memx_vring_init(&w->relay[i], &w->shr[i], false, w->left[i], w->left_size[i], w->right[i], w->right_size[i]);
			w->live[i] = true;
			memx_lane_up(&e->lane[i], &w->guest[i]);
		}
	}
	if (a & MEMX_ACT_ATTACH) {
		w->sending = true;
		w->begun = false;
		w->next = 0;
	}
	if (a & MEMX_ACT_SIZE)
		fuzz_must(!memx_engine_size(e, e->attach.agreed.slots, e->attach.agreed.extent_order) &&
			  e->attach.agreed.slots <= SLOTS, "%u slots", e->attach.agreed.slots);
	if (a & MEMX_ACT_GO) {
		e->attach.frozen = true;	/* swapon follows at once */
		memx_engine_go(e);
	}
	if (a & MEMX_ACT_DETACH)
		w->detach = true;
	if (w->sending && memx_engine_send_attach(e, &w->begun, &w->next))
		w->sending = false;
	if (w->detach && memx_engine_send_detach(e))
		w->detach = false;
}

static void check_credits(const struct world *w)
{
	u32 i;

	for (i = 0; i < LANES; i++) {
		const struct memx_reqs *q = &w->e.lane[i].reqs;

		if (!w->e.lane[i].go)
			continue;
		fuzz_must(q->used_requests <= q->limit_requests && q->used_pages <= q->limit_pages && q->used_reply <= q->limit_reply,
			  "lane %u: %u requests, %u pages, %u bytes", i, q->used_requests, q->used_pages, q->used_reply);
		fuzz_must(q->limit_reply + MEMX_RESERVE_REPLY <= w->left_size[i], "lane %u: the reserve is lent", i);
	}
}

/* The guest's threads, until nothing moves. */
static void run(struct world *w)
{
	u32 rounds, i;

	for (rounds = 0; rounds < 8; rounds++) {
		worker(w);
		for (i = 0; i < LANES; i++)
			while (memx_lane_work(&w->e.lane[i]))
				;
	}
	check_credits(w);
}

/* ---- the relay reads: the guest's own frames are in good order ---- */

static void note(struct world *w, u8 lane, const struct memx_head *head)
{
	const struct memx_io *io = (const void *)frame;
	const struct memx_page *page = (const void *)(io + 1);
	struct asked *a = NULL;
	u32 i;

	if (head->op == MEMX_OP_ATTACH)
		w->epoch = head->epoch;
	for (i = 0; i < ASKED && !a; i++)
		if (!w->asked[i].used)
			a = &w->asked[i];
	if (!a || head->reply || head->op == MEMX_OP_MAP)
		return;
	memset(a, 0, sizeof(*a));
	a->used = true;
	a->lane = lane;
	a->head = *head;
	if (head->op != MEMX_OP_STORE && head->op != MEMX_OP_FETCH && head->op != MEMX_OP_DISCARD)
		return;
	fuzz_must(memx_check_io(head, io, MEMX_MAX_PAGES) > 0, "a request of no pages");
	a->extent = memx_le32(io->extent);
	a->count = memx_le16(io->count);
	if (head->op != MEMX_OP_STORE) {
		memcpy(a->want, io + 1, a->count * sizeof(*a->want));
		fuzz_must(!memx_check_wants(a->want, a->count, a->extent, w->e.slots.order, SLOTS), "wants of a bad shape");
		return;
	}
	fuzz_must(!memx_check_pages(page, a->count, a->extent, w->e.slots.order, SLOTS), "pages of a bad shape");
	for (i = 0; i < a->count; i++) {
		u32 slot = memx_le32(page[i].slot);
		const u8 *bytes = (const u8 *)(page + a->count) + (size_t)i * MEMX_PAGE_SIZE;

		fuzz_must(memx_check(w->e.seed, slot, memx_le64(page[i].trailer.version), bytes) == memx_le64(page[i].trailer.check),
			  "slot %u leaves the guest damaged", slot);
		a->want[i] = (struct memx_want){ .slot = page[i].slot, .version = page[i].trailer.version };
		w->before[slot] = w->last[slot];
		w->last[slot].trailer = page[i].trailer;
		memcpy(&w->drawn, bytes, sizeof(w->drawn));
		w->last[slot].byte = (u8)w->drawn;
	}
}

static void relay_reads(struct world *w, u8 lane)
{
	struct memx_vring *r = &w->relay[lane];
	struct memx_head head;
	struct memx_hdr hdr;
	int avail;

	while (w->live[lane] && (avail = memx_vring_avail(r)) >= (int)sizeof(hdr)) {
		memx_vring_peek(r, 0, &hdr, sizeof(hdr));
		if (memx_head_get(&head, &hdr, MEMX_MAX_BODY))
			return;		/* its own scribbling */
		if (avail < (int)(sizeof(hdr) + head.len))
			return;
		memx_vring_peek(r, sizeof(hdr), frame, head.len);
		memx_vring_consume(r, (u32)sizeof(hdr) + head.len);
		note(w, lane, &head);
	}
}

/* ---- the relay speaks ---- */

/* What the input changes in a frame, and out it goes, if there is room. */
static void say(struct world *w, u8 lane, struct memx_head *head, u8 *body)
{
	struct memx_hdr hdr;
	u32 i, changes, shown;

	switch (fuzz_u8(&in) % 32) {
	case 1:
		head->tag = fuzz_odd(&in);
		break;
	case 2:
		head->len = (u32)fuzz_take(&in, 3) % (MEMX_MAX_BODY + 100);
		break;
	case 3:
		head->epoch = fuzz_odd(&in);
		break;
	case 4:
		head->status = (u32)fuzz_odd(&in);
		break;
	case 5:
		head->op = fuzz_u8(&in);
		break;
	case 6:
		head->reply = !head->reply;
		break;
	case 7:
		lane = (u8)fuzz_pick(&in, LANES);
		break;
	case 8: case 9: case 10:
		changes = 1 + fuzz_pick(&in, 4);
		for (i = 0; head->len && i < changes; i++)
			body[fuzz_take(&in, 2) % head->len] ^= fuzz_u8(&in);
		break;
	default:
		break;
	}
	memx_hdr_put(&hdr, head);
	shown = (u32)sizeof(hdr) + head->len;
	if (!w->live[lane] || memx_vring_space(&w->relay[lane]) < (int)shown || head->len > MEMX_MAX_BODY)
		return;
	memx_vring_put(&w->relay[lane], 0, &hdr, sizeof(hdr));
	memx_vring_put(&w->relay[lane], sizeof(hdr), body, head->len);
	memx_vring_publish(&w->relay[lane], fuzz_rarely(&in, 16) ? shown / 2 : shown);
}

static void say_hello(struct world *w, u8 lane)
{
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(struct memx_hello), .tag = 7 };
	struct memx_hello hello = {
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(fuzz_rarely(&in, 16) ? fuzz_u8(&in) : 1),
		.role = MEMX_ROLE_RELAY, .lane = lane, .offer = memx_put_le64(w->e.attach.offer),
	};

	memcpy(frame, &hello, sizeof(hello));
	say(w, lane, &head, frame);
}

static void say_attached(struct world *w, const struct asked *a)
{
	struct memx_head head = { .op = MEMX_OP_ATTACH, .reply = true, .len = sizeof(struct memx_attached), .tag = a->head.tag,
				  .epoch = a->head.epoch };
	struct memx_attached body = {
		.slots = memx_put_le32(SLOTS), .extent_order = ORDER, .replicas = 1, .max_pages = 32,
		.lane_requests = memx_put_le32(16), .lane_pages = memx_put_le32(256), .retry_ms = memx_put_le32(50),
	};

	if (fuzz_rarely(&in, 8))
		head.status = fuzz_pick(&in, 30);
	if (fuzz_rarely(&in, 8)) {
		body.slots = memx_put_le32((u32)fuzz_odd(&in));
		body.extent_order = fuzz_u8(&in);
		body.max_pages = fuzz_u8(&in);
		body.lane_requests = memx_put_le32((u32)fuzz_odd(&in));
		body.lane_pages = memx_put_le32((u32)fuzz_odd(&in));
		body.retry_ms = memx_put_le32((u32)fuzz_odd(&in));
	}
	memcpy(frame, &body, sizeof(body));
	say(w, 0, &head, frame);
}

static void say_record(struct world *w)
{
	struct memx_records *recs = (void *)frame;
	struct memx_record *rec = (void *)(recs + 1);
	u32 n = 1 + fuzz_pick(&in, 3), i, extent = fuzz_pick(&in, 4);
	struct memx_head head = { .op = MEMX_OP_RECORD, .len = memx_records_len(n), .tag = 99, .epoch = w->epoch };

	memset(frame, 0, head.len);
	recs->count = memx_put_le32(n);
	for (i = 0; i < n; i++) {
		rec[i].extent = memx_put_le32(extent + 2 * i);
		rec[i].generation = memx_put_le64(fuzz_odd(&in));
		rec[i].replicas = 1;
		rec[i].replica[0].state = MEMX_R_LIVE;
		rec[i].replica[0].donor[0] = fuzz_u8(&in);
	}
	say(w, extent % 2 ? 2 : 0, &head, frame);
}

/* The answer to a fetch: what was stored last, what was before, or what it makes up. */
static void build_pages(struct world *w, struct asked *a, struct memx_head *head)
{
	struct memx_io *io = (void *)frame;
	struct memx_page *page = (void *)(io + 1);
	u8 *bytes = (u8 *)(page + a->count);
	u32 i, good = 0;

	for (i = 0; i < a->count; i++) {
		u32 slot = memx_le32(a->want[i].slot), how = fuzz_u8(&in) % 16;
		const struct kept *k = how == 1 ? &w->before[slot] : &w->last[how == 2 ? (slot + 1) % SLOTS : slot];

		page[i] = (struct memx_page){ .slot = a->want[i].slot, .trailer = k->trailer };
		if (how == 3 || !k->trailer.version) {
			page[i].status = memx_put_le32(how == 3 ? 1 + fuzz_pick(&in, 30) : MEMX_S_ABSENT);
			continue;
		}
		if (how == 4)		/* the old bytes under the new name */
			page[i].trailer = w->last[slot].trailer, k = &w->before[slot];
		if (how == 5)
			page[i].trailer.flags = memx_put_le32(MEMX_T_SEALED);
		fill(bytes, k->byte);
		if (how == 6)
			bytes[fuzz_take(&in, 2) % MEMX_PAGE_SIZE] ^= 1;
		bytes += MEMX_PAGE_SIZE;
		good++;
	}
	head->status = good == a->count ? MEMX_S_OK : MEMX_S_PARTIAL;
	head->len = memx_fetched_len(a->count, good);
}

static void build_wants(struct asked *a, struct memx_head *head)
{
	struct memx_want *want = (void *)(frame + MEMX_IO_LEN);
	u32 i;

	head->len = MEMX_IO_LEN;
	if (!fuzz_rarely(&in, 4))
		return;
	head->status = fuzz_pick(&in, 30);
	if (head->status != MEMX_S_PARTIAL)
		return;
	head->len = memx_want_len(a->count);
	for (i = 0; i < a->count; i++)
		want[i] = (struct memx_want){ .slot = a->want[i].slot, .status = memx_put_le32(fuzz_pick(&in, 30)) };
}

/* Answers something that was asked, and forgets it or not. */
static void say_answer(struct world *w)
{
	u32 first = fuzz_pick(&in, ASKED), i;
	struct asked *a = NULL;
	struct memx_head head;
	struct memx_io io;

	for (i = 0; i < ASKED && !a; i++)
		if (w->asked[(first + i) % ASKED].used)
			a = &w->asked[(first + i) % ASKED];
	if (!a)
		return;
	a->used = fuzz_rarely(&in, 16);
	head = (struct memx_head){ .op = a->head.op, .reply = true, .tag = a->head.tag, .epoch = a->head.epoch };
	if (head.op == MEMX_OP_ATTACH) {
		say_attached(w, a);
		return;
	}
	io = (struct memx_io){ .extent = memx_put_le32(a->extent), .count = memx_put_le16((u16)a->count) };
	memcpy(frame, &io, sizeof(io));
	if (head.op == MEMX_OP_FETCH)
		build_pages(w, a, &head);
	else if (a->count)
		build_wants(a, &head);
	say(w, a->lane, &head, frame);
}

/* It writes where it likes: the page that both share, and the ring that it owns. */
static void scribble(struct world *w)
{
	u32 lane = fuzz_pick(&in, LANES), i, n;
	struct memx_vchan_page *shr = &w->shr[lane];
	u32 *index[] = { &shr->left.cons, &shr->left.prod, &shr->right.cons, &shr->right.prod };

	switch (fuzz_pick(&in, 4)) {
	case 0:
		*index[fuzz_pick(&in, 4)] = (u32)fuzz_odd(&in);
		break;
	case 1:
		*index[fuzz_pick(&in, 4)] += (u32)(int8_t)fuzz_u8(&in);
		break;
	case 2:
		((u8 *)shr)[16 + fuzz_pick(&in, 8)] = fuzz_u8(&in);
		break;
	default:
		n = fuzz_pick(&in, 64);
		for (i = 0; i < n; i++)
			w->left[lane][fuzz_take(&in, 2) % w->left_size[lane]] = fuzz_u8(&in);
	}
}

/* ---- the steps ---- */

static void submit(struct world *w, u8 op)
{
	u32 slot = fuzz_pick(&in, SLOTS), n = 1 + fuzz_pick(&in, 4), i;
	struct list_head list;

	INIT_LIST_HEAD(&list);
	for (i = 0; i < ITEMS && n && slot < SLOTS; i++) {
		struct memx_item *item = &w->item[i];

		if (w->out[i])
			continue;
		if (!w->busy[slot]) {
			memset(item, 0, sizeof(*item));
			item->op = op;
			item->slot = slot;
			item->page = w->data[i];
			item->born = w->now;
			if (op == MEMX_OP_STORE) {
				w->number[i] = 1 + fuzz_pick(&in, 200);
				fill(w->data[i], w->number[i]);
			}
			w->out[i] = true;
			w->busy[slot] = true;
			list_add_tail(&item->node, &list);
		}
		slot++;
		n--;
	}
	if (!list_empty(&list))
		memx_engine_submit(&w->e, &list);
}

static bool freed(void *arg, u32 slot)
{
	((struct world *)arg)->holds[slot] = 0;
	return true;
}

static void discard(struct world *w)
{
	u32 slot = fuzz_pick(&in, SLOTS), i;

	for (i = 0; i < ITEMS && w->out[i]; i++)
		;
	if (i == ITEMS || w->busy[slot] || !w->e.slots.slot)
		return;
	memset(&w->item[i], 0, sizeof(w->item[i]));
	w->item[i].op = MEMX_OP_DISCARD;
	w->item[i].slot = slot;
	w->item[i].born = w->now;
	w->out[i] = true;
	w->busy[slot] = true;
	if (memx_engine_discard(&w->e, slot, freed, w, &w->item[i]))
		return;
	w->out[i] = false;
	w->busy[slot] = false;
}

static void step(struct world *w)
{
	u8 what = fuzz_u8(&in);
	u32 i;

	switch (what % 16) {
	case 0: case 1: case 2:
		submit(w, MEMX_OP_STORE);
		break;
	case 3: case 4:
		submit(w, MEMX_OP_FETCH);
		break;
	case 5:
		discard(w);
		break;
	case 6:
		say_hello(w, (u8)(what / 16 % LANES));
		break;
	case 7:			/* in good order up to here */
		for (i = 0; i < LANES; i++)
			say_hello(w, (u8)i);
		break;
	case 8: case 9: case 10: case 11:
		for (i = 1 + what / 64; i; i--)
			say_answer(w);
		break;
	case 12:
		say_record(w);
		break;
	case 13:
		if (what >= 128)
			scribble(w);
		break;
	case 14:
		w->now += 1000000ULL << what / 16;
		memx_engine_tick(&w->e, fuzz_rarely(&in, 16) ? w->now - 1000000 : 0);
		if (what & 1)
			memx_engine_hurry(&w->e);
		break;
	default:
		if (what >= 0xe0)	/* it dies */
			for (i = 0; i < LANES; i++)
				w->live[i] = false;
	}
	run(w);
	for (i = 0; i < LANES; i++)
		relay_reads(w, (u8)i);
}

static void begin(struct world *w)
{
	u32 i;

	w->now = 1000000000;
	w->rnd = 1;
	w->kind[0] = MEMX_LANE_STORE;
	w->kind[1] = MEMX_LANE_FETCH;
	w->kind[2] = MEMX_LANE_STORE;
	w->data = calloc(ITEMS, sizeof(*w->data));
	for (i = 0; i < LANES; i++) {
		w->left_size[i] = w->kind[i] == MEMX_LANE_FETCH ? BIG : SMALL;
		w->right_size[i] = w->kind[i] == MEMX_LANE_FETCH ? SMALL : BIG;
		w->left[i] = calloc(1, w->left_size[i]);
		w->right[i] = calloc(1, w->right_size[i]);
	}
	fuzz_must(!memx_engine_init(&w->e, &ops, w, w->kind, LANES, 16), "no engine");
	w->e.attach.slots_max = SLOTS;
	w->e.actions |= memx_attach_start(&w->e.attach, w->now);
	run(w);
}

static void end(struct world *w)
{
	u32 i;

	for (i = 0; i < LANES; i++)
		fuzz_must(memx_lane_down(&w->e.lane[i]), "lane %u does not stop", i);
	memx_engine_abandon(&w->e, -EIO);
	for (i = 0; i < ITEMS; i++)
		fuzz_must(!w->out[i], "item %u never ends", i);
	memx_engine_free(&w->e);
	for (i = 0; i < LANES; i++) {
		free(w->left[i]);
		free(w->right[i]);
	}
	free(w->data);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct world *w;

	in = (struct fuzz_in){ data, data + size };
	if (!w)
		w = malloc(sizeof(*w));
	if (!w)
		abort();
	memset(w, 0, sizeof(*w));
	begin(w);
	while (in.at < in.end)
		step(w);
	end(w);
	return 0;
}
