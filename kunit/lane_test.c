// SPDX-License-Identifier: GPL-2.0-only
/*
 * lane_test.c - the engine with a store lane and a fetch lane, against a relay that the test plays frame by frame.
 *
 * Here it runs as it does in the module: with the kernel's spin locks under lockdep and its memory under KASAN. What the
 * module's threads and interrupts do, the tests do by hand, so that every order of events can be had. Nobody does anything
 * that he was not woken for, on either side: an event or a wake-up that is forgotten is work that is never done.
 */
#include "kit.h"
#include "../guest/lane.h"

enum {
	LANES	= 2,
	STORE	= 0,
	FETCH	= 1,
	SLOTS	= 256,
	ORDER	= 6,
};

struct world {
	struct kunit *test;
	struct memx_engine e;
	struct kit_rings *rings[LANES];
	u64 now, drawn, counted[MEMX_C_COUNT];
	unsigned int violations, bad_pages;
	bool live;
	bool kicked[LANES];	/* the relay sent an event */
	bool woken[LANES];	/* the lane's thread is due */
	bool woken_session;	/* and the worker */
	bool relay_awake[LANES]; /* it was sent an event, and has not found the ring empty since */
	bool begun;		/* what the session's worker keeps between two rounds */
	u32 next;
	u8 *body;
	struct memx_head head;		/* of the frame that the relay read last, its body in body */
};

/* The end of an item, for whoever waits for it. */
struct outcome {
	struct memx_item item;
	unsigned int ended;
	int err;
};

/* ---- what the engine asks of its surroundings ---- */

static u64 world_now(void *ctx)
{
	return ((struct world *)ctx)->now;
}

static u64 world_random(void *ctx)
{
	return ++((struct world *)ctx)->drawn;
}

static void world_notify(void *ctx, unsigned int lane)
{
	((struct world *)ctx)->relay_awake[lane] = true;
}

static enum memx_vchan_client world_peer(void *ctx, unsigned int lane)
{
	return ((struct world *)ctx)->live ? MEMX_VCHAN_HERE : MEMX_VCHAN_GONE;
}

static void world_done(void *ctx, struct memx_item *item, int err)
{
	struct outcome *o = item->owner;

	o->ended++;
	o->err = err;
}

static void world_wake_lane(void *ctx, unsigned int lane)
{
	((struct world *)ctx)->woken[lane] = true;
}

static void world_wake_session(void *ctx)
{
	((struct world *)ctx)->woken_session = true;
}

static void world_count(void *ctx, enum memx_counter what, u64 n)
{
	((struct world *)ctx)->counted[what] += n;
}

static void world_violation(void *ctx, unsigned int lane, const char *what)
{
	((struct world *)ctx)->violations++;
}

static void world_bad_page(void *ctx, u32 slot, u64 version, u32 status)
{
	((struct world *)ctx)->bad_pages++;
}

static const struct memx_engine_ops world_ops = {
	.now = world_now, .random = world_random, .notify = world_notify, .peer = world_peer, .done = world_done,
	.wake_lane = world_wake_lane, .wake_session = world_wake_session, .count = world_count,
	.violation = world_violation, .bad_page = world_bad_page,
};

/* ---- the session's worker and the lanes' threads ---- */

static void act(struct world *w, u32 actions)
{
	int i;

	for (i = 0; i < LANES && actions & MEMX_ACT_WITHDRAW; i++)
		KUNIT_ASSERT_TRUE(w->test, memx_lane_down(&w->e.lane[i]));
	if (actions & MEMX_ACT_OFFER) {
		w->live = true;
		for (i = 0; i < LANES; i++) {
			kit_rings_reset(w->rings[i], 0);
			memx_vring_want(&w->rings[i]->relay, MEMX_VCHAN_WRITE);
			w->relay_awake[i] = false;
			memx_lane_up(&w->e.lane[i], &w->rings[i]->guest);
		}
	}
	if (actions & MEMX_ACT_ATTACH) {
		w->begun = false;
		w->next = 0;
		KUNIT_ASSERT_EQ(w->test, memx_engine_send_attach(&w->e, &w->begun, &w->next), 1);
	}
	if (actions & MEMX_ACT_SIZE)
		KUNIT_ASSERT_EQ(w->test, memx_engine_size(&w->e, w->e.attach.agreed.slots, w->e.attach.agreed.extent_order), 0);
	if (actions & MEMX_ACT_GO)
		memx_engine_go(&w->e);
}

/* A lane's interrupt, and then its thread, if they are due. */
static bool run_lane(struct world *w, int i)
{
	struct memx_lane *l = &w->e.lane[i];

	if (w->kicked[i]) {
		w->kicked[i] = false;
		if (memx_lane_receive(l, 4))
			w->woken[i] = true;
		if (!w->live)
			memx_engine_departed(&w->e);
		return true;
	}
	if (w->woken[i]) {
		w->woken[i] = false;
		while (memx_lane_work(l))
			;
		return true;
	}
	return false;
}

/* A round of the worker: because it was woken, or because the time has come. */
static bool run_session(struct world *w)
{
	u64 at = w->e.attach.retry_at;

	if (!w->woken_session && (!at || w->now < at))
		return false;
	w->woken_session = false;
	act(w, memx_engine_take(&w->e));
	return true;
}

/* Whoever is due in the guest does what there is to do, until nobody is. */
static void run(struct world *w)
{
	int i, round;
	bool due = true;

	for (round = 0; due; round++) {
		KUNIT_ASSERT_LT(w->test, round, 100);
		due = run_session(w);
		for (i = 0; i < LANES; i++)
			due |= run_lane(w, i);
	}
}

/* ---- the relay ---- */

static void relay_recv(struct world *w, int lane, u16 op)
{
	struct kit_rings *r = w->rings[lane];

	KUNIT_ASSERT_TRUE_MSG(w->test, w->relay_awake[lane], "nobody told the relay of operation %u", op);
	w->kicked[lane] |= kit_relay_recv(w->test, r, &w->head, w->body, MEMX_MAX_BODY);
	KUNIT_ASSERT_EQ(w->test, w->head.op, op);
	if (memx_vring_avail(&r->relay))
		return;
	memx_vring_want(&r->relay, MEMX_VCHAN_WRITE);
	w->relay_awake[lane] = memx_vring_avail(&r->relay);
}

static bool relay_idle(struct world *w, int lane)
{
	return !memx_vring_avail(&w->rings[lane]->relay);
}

static void relay_send(struct world *w, int lane, struct memx_head head, const void *body)
{
	head.epoch = head.op == MEMX_OP_HELLO ? 0 : w->e.epoch;
	w->kicked[lane] |= kit_relay_send(w->rings[lane], &head, body);
}

static void relay_answer(struct world *w, int lane, u32 status, const void *body, u32 len)
{
	struct memx_head head = { .op = w->head.op, .reply = true, .status = status, .len = len, .tag = w->head.tag };

	relay_send(w, lane, head, body);
}

static void relay_hello(struct world *w, int lane)
{
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(struct memx_hello), .tag = 1 };
	struct memx_hello hello = {
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY, .lane = (u8)lane,
		.offer = memx_put_le64(w->e.attach.offer),
	};

	relay_send(w, lane, head, &hello);
	run(w);
	relay_recv(w, lane, MEMX_OP_HELLO);
}

static void relay_attach(struct world *w, u32 records)
{
	struct memx_attached body = {
		.slots = memx_put_le32(SLOTS), .extent_order = ORDER, .replicas = 1, .max_pages = 32,
		.lane_requests = memx_put_le32(16), .lane_pages = memx_put_le32(256),
	};
	struct memx_head attach;

	relay_hello(w, STORE);
	relay_hello(w, FETCH);
	relay_recv(w, STORE, MEMX_OP_ATTACH);
	attach = w->head;
	KUNIT_ASSERT_EQ(w->test, memx_le32(((struct memx_attach *)w->body)->records), records);
	relay_recv(w, STORE, MEMX_OP_MAP);
	KUNIT_ASSERT_EQ(w->test, memx_le32(((struct memx_records *)w->body)->count), records);
	KUNIT_ASSERT_EQ(w->test, w->head.flags, MEMX_F_LAST);
	w->head = attach;
	relay_answer(w, STORE, MEMX_S_OK, &body, sizeof(body));
	run(w);
	KUNIT_ASSERT_EQ(w->test, w->e.attach.state, MEMX_A_ATTACHED);
}

/* The channel is gone; the guest offers anew. */
static void relay_leaves(struct world *w)
{
	w->live = false;
	w->kicked[STORE] = true;
	w->kicked[FETCH] = true;
	run(w);
	w->now += 10000000000ull;
	run(w);
	KUNIT_ASSERT_EQ(w->test, w->e.attach.state, MEMX_A_OFFERED);
}

/* Answers the STORE that was read last, with @status for all of it. */
static void relay_stored(struct world *w, u32 status)
{
	struct memx_io io = *(struct memx_io *)w->body;

	relay_answer(w, STORE, status, &io, sizeof(io));
	run(w);
}

/* ---- tests ---- */

static int lane_setup(struct kunit *test)
{
	static const u8 kinds[LANES] = { MEMX_LANE_STORE, MEMX_LANE_FETCH };
	struct world *w = kit_alloc(test, sizeof(*w));
	unsigned long flags;
	int i;

	w->test = test;
	w->now = 1000000;
	w->body = kit_alloc(test, MEMX_MAX_BODY);
	for (i = 0; i < LANES; i++)
		w->rings[i] = kit_rings(test, 18, 18);
	KUNIT_ASSERT_EQ(test, memx_engine_init(&w->e, &world_ops, w, kinds, LANES, 16), 0);
	test->priv = w;
	memx_lock(&w->e.lock, flags);
	memx_engine_act(&w->e, memx_attach_start(&w->e.attach, w->now));
	memx_unlock(&w->e.lock, flags);
	run(w);
	relay_attach(w, 0);
	return 0;
}

static void lane_teardown(struct kunit *test)
{
	struct world *w = test->priv;
	int i;

	if (!w)
		return;
	for (i = 0; i < LANES; i++)
		memx_lane_down(&w->e.lane[i]);
	memx_engine_abandon(&w->e, -ECANCELED);
	memx_engine_free(&w->e);
}

static struct outcome *submit(struct world *w, u8 op, u32 slot, void *page)
{
	struct outcome *o = kit_alloc(w->test, sizeof(*o));
	LIST_HEAD(list);

	o->item.slot = slot;
	o->item.op = op;
	o->item.page = page;
	o->item.owner = o;
	list_add(&o->item.node, &list);
	memx_engine_submit(&w->e, &list);
	return o;
}

static struct outcome *submit_run(struct world *w, u8 op, u32 slot, u32 count, u32 what)
{
	struct outcome *o = kit_alloc(w->test, count * sizeof(*o));
	LIST_HEAD(list);
	u32 i;

	for (i = 0; i < count; i++) {
		o[i].item.slot = slot + i;
		o[i].item.op = op;
		o[i].item.page = kit_page(w->test, what + i);
		o[i].item.owner = &o[i];
		list_add_tail(&o[i].item.node, &list);
	}
	memx_engine_submit(&w->e, &list);
	return o;
}

#define EXPECT_ENDED(o, error) do {				\
	KUNIT_EXPECT_EQ(test, (o)->ended, 1u);			\
	KUNIT_EXPECT_EQ(test, (o)->err, error);			\
} while (0)

/* Out in one request, each end once; back byte for byte. */
static void store_and_fetch(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *out = submit_run(w, MEMX_OP_STORE, 70, 5, 500), *back;
	u32 i, len = 24 + 5 * 40;
	u8 *reply;

	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, w->head.len, 24u + 5 * 4136);
	KUNIT_EXPECT_EQ(test, w->head.epoch, 1ull);
	for (i = 0; i < 5; i++)
		KUNIT_EXPECT_EQ(test, out[i].ended, 0u);
	/* What was stored is what is fetched: descriptors and pages go back as they came. */
	reply = kit_alloc(test, w->head.len);
	memcpy(reply, w->body, w->head.len);
	relay_stored(w, MEMX_S_OK);
	for (i = 0; i < 5; i++)
		EXPECT_ENDED(&out[i], 0);

	back = submit_run(w, MEMX_OP_FETCH, 70, 5, 0);
	relay_recv(w, FETCH, MEMX_OP_FETCH);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_want *)(w->body + 24))->version), 1ull);
	relay_answer(w, FETCH, MEMX_S_OK, reply, len + 5 * 4096);
	run(w);
	for (i = 0; i < 5; i++) {
		EXPECT_ENDED(&back[i], 0);
		KUNIT_EXPECT_EQ(test, memcmp(back[i].item.page, out[i].item.page, 4096), 0);
	}
	KUNIT_EXPECT_EQ(test, w->counted[MEMX_C_stores], 5ull);
	KUNIT_EXPECT_EQ(test, w->counted[MEMX_C_fetches], 5ull);
	KUNIT_EXPECT_TRUE(test, memx_engine_idle(&w->e));
}

/* Pages of one word never leave the guest; a slot that holds nothing is an error and never zeros. */
static void local_answers(struct kunit *test)
{
	struct world *w = test->priv;
	u64 *page = kit_alloc(test, MEMX_PAGE_SIZE);
	u8 *untouched = kit_page(test, 9), *copy = kit_page(test, 9);
	struct outcome *o;

	memx_same_fill(page, 0x77);
	o = submit(w, MEMX_OP_STORE, 3, page);
	EXPECT_ENDED(o, 0);
	KUNIT_EXPECT_TRUE(test, relay_idle(w, STORE));
	memset(page, 0, MEMX_PAGE_SIZE);
	o = submit(w, MEMX_OP_FETCH, 3, page);
	EXPECT_ENDED(o, 0);
	KUNIT_EXPECT_EQ(test, page[0], 0x77ull);
	KUNIT_EXPECT_EQ(test, page[511], 0x77ull);

	o = submit(w, MEMX_OP_FETCH, 4, untouched);
	EXPECT_ENDED(o, -ENODATA);
	KUNIT_EXPECT_EQ(test, memcmp(untouched, copy, MEMX_PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, w->bad_pages, 1u);
	o = submit(w, MEMX_OP_FETCH, SLOTS, untouched);
	EXPECT_ENDED(o, -EIO);
	KUNIT_EXPECT_TRUE(test, relay_idle(w, FETCH));
}

/* Two stores of a slot, and a fetch of it: one after the other, in that order, the fetch with the version of the second. */
static void one_slot_in_order(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *first = submit(w, MEMX_OP_STORE, 8, kit_page(test, 1));
	struct outcome *second = submit(w, MEMX_OP_STORE, 8, kit_page(test, 2));
	struct outcome *fetch = submit(w, MEMX_OP_FETCH, 8, kit_page(test, 0));

	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_TRUE(test, relay_idle(w, STORE));
	KUNIT_EXPECT_TRUE(test, relay_idle(w, FETCH));
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(first, 0);
	KUNIT_EXPECT_EQ(test, second->ended, 0u);
	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_page *)(w->body + 24))->trailer.version), 2ull);
	KUNIT_EXPECT_TRUE(test, relay_idle(w, FETCH));
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(second, 0);
	relay_recv(w, FETCH, MEMX_OP_FETCH);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_want *)(w->body + 24))->version), 2ull);
	KUNIT_EXPECT_EQ(test, fetch->ended, 0u);
}

/* A record takes effect with the guest's answer, and the next store names its generation; after a loss it is in the map. */
static void record_takes_effect(struct kunit *test)
{
	struct world *w = test->priv;
	struct memx_head head = { .op = MEMX_OP_RECORD, .len = 8 + 144, .tag = 44 };
	struct {
		struct memx_records recs;
		struct memx_record rec;
	} body = { .recs.count = memx_put_le32(1), .rec = kit_record(1, 6, 2, MEMX_R_LIVE) };

	relay_send(w, STORE, head, &body);
	run(w);
	relay_recv(w, STORE, MEMX_OP_RECORD);
	KUNIT_EXPECT_TRUE(test, w->head.reply);
	KUNIT_EXPECT_EQ(test, w->head.status, (u32)MEMX_S_OK);
	KUNIT_EXPECT_EQ(test, w->head.tag, 44ull);
	submit(w, MEMX_OP_STORE, 64, kit_page(test, 1));
	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_io *)w->body)->generation), 6ull);

	body.rec = kit_record(1, 5, 2, MEMX_R_LIVE);	/* older: nothing is taken */
	relay_send(w, STORE, head, &body);
	run(w);
	relay_recv(w, STORE, MEMX_OP_RECORD);
	KUNIT_EXPECT_EQ(test, w->head.status, (u32)MEMX_S_INVALID);

	relay_leaves(w);
	relay_attach(w, 1);
	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_io *)w->body)->generation), 6ull);
}

/* The channel is lost with requests out: they travel again over the next, the store as another version. */
static void lost_and_sent_again(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *done = submit(w, MEMX_OP_STORE, 20, kit_page(test, 1)), *store, *fetch;
	u8 *reply = kit_alloc(test, 24 + 40 + 4096);

	relay_recv(w, STORE, MEMX_OP_STORE);
	memcpy(reply, w->body, 24 + 40 + 4096);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(done, 0);
	store = submit(w, MEMX_OP_STORE, 21, kit_page(test, 2));
	fetch = submit(w, MEMX_OP_FETCH, 20, kit_page(test, 0));
	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_page *)(w->body + 24))->trailer.version), 1ull);
	relay_recv(w, FETCH, MEMX_OP_FETCH);

	relay_leaves(w);
	KUNIT_EXPECT_EQ(test, store->ended + fetch->ended, 0u);
	KUNIT_EXPECT_EQ(test, w->counted[MEMX_C_resent], 2ull);
	relay_attach(w, 0);
	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, w->head.epoch, 2ull);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_page *)(w->body + 24))->trailer.version), 2ull);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(store, 0);
	relay_recv(w, FETCH, MEMX_OP_FETCH);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_want *)(w->body + 24))->version), 1ull);
	relay_answer(w, FETCH, MEMX_S_OK, reply, 24 + 40 + 4096);
	run(w);
	EXPECT_ENDED(fetch, 0);
	KUNIT_EXPECT_EQ(test, memcmp(fetch->item.page, done->item.page, 4096), 0);
}

/* No space: that store fails at once, and the slot holds nothing that could be read. */
static void no_space(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *o = submit(w, MEMX_OP_STORE, 30, kit_page(test, 1));

	relay_recv(w, STORE, MEMX_OP_STORE);
	relay_stored(w, MEMX_S_NOSPACE);
	EXPECT_ENDED(o, -ENOSPC);
	KUNIT_EXPECT_EQ(test, w->counted[MEMX_C_nospace], 1ull);
	o = submit(w, MEMX_OP_FETCH, 30, kit_page(test, 0));
	EXPECT_ENDED(o, -ENODATA);
}

/* What passes by itself is waited for, for as long as it takes: asked again with the tick, never failed. */
static void passing_errors(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *o = submit(w, MEMX_OP_STORE, 31, kit_page(test, 1));
	int i;

	for (i = 0; i < 50; i++) {
		relay_recv(w, STORE, MEMX_OP_STORE);
		relay_stored(w, i & 1 ? MEMX_S_AGAIN : MEMX_S_IO);
		KUNIT_ASSERT_EQ(test, o->ended, 0u);
		KUNIT_ASSERT_TRUE(test, relay_idle(w, STORE));
		memx_engine_tick(&w->e, 0);
		run(w);
	}
	relay_recv(w, STORE, MEMX_OP_STORE);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(o, 0);
}

/* An answer to nothing: one violation, the channel is given up, the requests stay. */
static void violation(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *o = submit(w, MEMX_OP_STORE, 40, kit_page(test, 1));

	relay_recv(w, STORE, MEMX_OP_STORE);
	w->head.tag += 1 << 20;
	relay_stored(w, MEMX_S_OK);
	KUNIT_EXPECT_EQ(test, w->violations, 1u);
	KUNIT_EXPECT_EQ(test, w->counted[MEMX_C_violations], 1ull);
	KUNIT_EXPECT_EQ(test, o->ended, 0u);
	KUNIT_EXPECT_NE(test, w->e.attach.state, MEMX_A_ATTACHED);
	w->now += 10000000000ull;
	run(w);
	relay_attach(w, 0);
	relay_recv(w, STORE, MEMX_OP_STORE);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(o, 0);
}

/*
 * An index of the ring that the guest writes, which cannot be, while it has nothing to write there: the event finds it, on every
 * lane, and the fetch that the relay left unanswered travels again.
 */
static void broken_ring_without_work(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *o = submit(w, MEMX_OP_STORE, 45, kit_page(test, 1)), *fetch;
	u8 *reply = kit_alloc(test, 24 + 40 + 4096);
	int i;

	relay_recv(w, STORE, MEMX_OP_STORE);
	memcpy(reply, w->body, 24 + 40 + 4096);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(o, 0);
	fetch = submit(w, MEMX_OP_FETCH, 45, kit_page(test, 0));
	for (i = 0; i < LANES; i++) {
		w->rings[i]->shr->right.cons = w->rings[i]->shr->right.prod + 1;
		w->kicked[i] = true;
		run(w);
		KUNIT_EXPECT_EQ(test, w->violations, i + 1u);
		KUNIT_EXPECT_NE(test, w->e.attach.state, MEMX_A_ATTACHED);
		w->now += 10000000000ull;
		run(w);
		relay_attach(w, 0);
		KUNIT_EXPECT_EQ(test, fetch->ended, 0u);
	}
	relay_recv(w, FETCH, MEMX_OP_FETCH);
	relay_answer(w, FETCH, MEMX_S_OK, reply, 24 + 40 + 4096);
	run(w);
	EXPECT_ENDED(fetch, 0);
	KUNIT_EXPECT_EQ(test, w->violations, (unsigned int)LANES);
}

static bool slot_freed(void *arg, u32 slot)
{
	return *(u32 *)arg == slot;
}

/* A discard only for what is free, not while a store is under way, and never twice. */
static void trimming(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *o = kit_alloc(test, sizeof(*o)), *store;
	u32 freed = 50;

	o->item.owner = o;
	KUNIT_EXPECT_FALSE(test, memx_engine_discard(&w->e, 50, slot_freed, &freed, &o->item));	/* holds nothing */
	store = submit(w, MEMX_OP_STORE, 50, kit_page(test, 1));
	KUNIT_EXPECT_FALSE(test, memx_engine_discard(&w->e, 50, slot_freed, &freed, &o->item));
	relay_recv(w, STORE, MEMX_OP_STORE);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(store, 0);
	freed = 51;
	KUNIT_EXPECT_FALSE(test, memx_engine_discard(&w->e, 50, slot_freed, &freed, &o->item));	/* in use */
	freed = 50;
	KUNIT_ASSERT_TRUE(test, memx_engine_discard(&w->e, 50, slot_freed, &freed, &o->item));
	relay_recv(w, STORE, MEMX_OP_DISCARD);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_want *)(w->body + 24))->version), 2ull);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(o, 0);
	store = submit(w, MEMX_OP_FETCH, 50, kit_page(test, 0));
	EXPECT_ENDED(store, -ENODATA);
}

/*
 * A deadline ends a store while another is held for its slot: that one goes on, with the next version, and so does the fetch behind it.
 * The answer to the first comes all the same, and is for nobody.
 */
static void deadline_frees_the_slot(struct kunit *test)
{
	struct world *w = test->priv;
	struct outcome *first = submit(w, MEMX_OP_STORE, 60, kit_page(test, 1)), *second, *fetch;
	struct memx_head late;
	struct memx_io late_io;
	u8 *reply = kit_alloc(test, 24 + 40 + 4096);

	relay_recv(w, STORE, MEMX_OP_STORE);
	late = w->head;
	late_io = *(struct memx_io *)w->body;
	w->now += 1000;
	second = submit(w, MEMX_OP_STORE, 60, kit_page(test, 2));
	fetch = submit(w, MEMX_OP_FETCH, 60, kit_page(test, 0));
	memx_engine_tick(&w->e, w->now);
	run(w);
	EXPECT_ENDED(first, -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, w->counted[MEMX_C_expired], 1ull);
	KUNIT_EXPECT_EQ(test, second->ended + fetch->ended, 0u);
	memx_engine_hurry(&w->e);	/* that there is no answer must not hold it up */
	run(w);
	relay_recv(w, STORE, MEMX_OP_STORE);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_page *)(w->body + 24))->trailer.version), 2ull);
	memcpy(reply, w->body, 24 + 40 + 4096);

	relay_send(w, STORE, (struct memx_head){ .op = late.op, .reply = true, .len = sizeof(late_io), .tag = late.tag }, &late_io);
	run(w);
	KUNIT_EXPECT_EQ(test, first->ended, 1u);
	KUNIT_EXPECT_EQ(test, second->ended + fetch->ended, 0u);
	relay_stored(w, MEMX_S_OK);
	EXPECT_ENDED(second, 0);
	relay_recv(w, FETCH, MEMX_OP_FETCH);
	KUNIT_EXPECT_EQ(test, memx_le64(((struct memx_want *)(w->body + 24))->version), 2ull);
	relay_answer(w, FETCH, MEMX_S_OK, reply, 24 + 40 + 4096);
	run(w);
	EXPECT_ENDED(fetch, 0);
	KUNIT_EXPECT_EQ(test, memcmp(fetch->item.page, second->item.page, 4096), 0);
	KUNIT_EXPECT_EQ(test, w->violations, 0u);
	KUNIT_EXPECT_TRUE(test, memx_engine_idle(&w->e));
}

/* A relay that asks more at once than was agreed is no relay. */
static void relay_overdraws(struct kunit *test)
{
	struct world *w = test->priv;
	struct memx_head head = { .op = MEMX_OP_PING };
	int i;

	for (i = 0; i < MEMX_RELAY_CREDITS; i++)
		relay_send(w, FETCH, head, NULL);
	run(w);
	for (i = 0; i < MEMX_RELAY_CREDITS; i++)
		relay_recv(w, FETCH, MEMX_OP_PING);
	KUNIT_EXPECT_EQ(test, w->violations, 0u);
	for (i = 0; i < 3 * MEMX_RELAY_CREDITS; i++)
		relay_send(w, FETCH, head, NULL);
	memx_lane_receive(&w->e.lane[FETCH], 64);
	KUNIT_EXPECT_EQ(test, w->violations, 1u);
}

static struct kunit_case lane_cases[] = {
	KUNIT_CASE(store_and_fetch),
	KUNIT_CASE(local_answers),
	KUNIT_CASE(one_slot_in_order),
	KUNIT_CASE(record_takes_effect),
	KUNIT_CASE(lost_and_sent_again),
	KUNIT_CASE(no_space),
	KUNIT_CASE(passing_errors),
	KUNIT_CASE(violation),
	KUNIT_CASE(broken_ring_without_work),
	KUNIT_CASE(trimming),
	KUNIT_CASE(deadline_frees_the_slot),
	KUNIT_CASE(relay_overdraws),
	{}
};

static struct kunit_suite lane_suite = {
	.name = "memx_lane",
	.init = lane_setup,
	.exit = lane_teardown,
	.test_cases = lane_cases,
};

kunit_test_suite(lane_suite);
