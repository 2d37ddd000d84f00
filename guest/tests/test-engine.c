// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-engine.c - the guest's engine against a relay that is played here, in one process and one thread.
 *
 * The relay end of every lane is the same ring arithmetic; behind it is a table of pages by slot with versions, which may
 * lose, damage and refuse what it is asked. Virtual time: the clock moves when a test says so. What is checked in the end is
 * always the same: a fetch gives the bytes of the last acknowledged store, or an error, and every item ends exactly once.
 */
#include <stdarg.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../shared/memx/check.h"
#include "../lane.h"

enum {
	LANES		= 3,
	RING		= 1 << 19,
	SMALL		= 1 << 14,
	SLOTS		= 4096,
	ITEMS		= 512,
	ORDER		= 8,
};

struct kept {
	u64 version;
	bool there;
	struct memx_trailer trailer;
	u8 page[MEMX_PAGE_SIZE];
};

struct world {
	struct memx_engine e;
	struct memx_vring guest[LANES], relay[LANES];
	struct memx_vchan_page shr[LANES];
	u8 *left[LANES], *right[LANES];
	u32 left_size[LANES], right_size[LANES];
	u8 kind[LANES];
	u64 now, rnd;
	bool live[LANES];
	u64 counter[MEMX_C_COUNT];
	int violations, bad_pages;
	u32 actions;
	bool begun, sending, detach;
	u32 next;
	/* relay */
	struct kept *kept;
	u64 epoch;
	u32 records_seen, last_seen;
	bool hello_sent[LANES];
	bool attached, silent;
	u32 refuse;		/* status for ATTACH */
	u32 fail_store, fail_fetch;	/* status for a while */
	u32 fail_left;
	bool partial, damage;
	_Alignas(8) u8 buf[MEMX_MAX_FRAME];
	_Alignas(8) u8 out[MEMX_MAX_FRAME];
	/* items */
	struct memx_item item[ITEMS];
	u8 data[ITEMS][MEMX_PAGE_SIZE];
	int err[ITEMS];
	int ended[ITEMS];
	u32 outstanding;
};

static u64 rnd(struct world *w)
{
	w->rnd ^= w->rnd << 13;
	w->rnd ^= w->rnd >> 7;
	w->rnd ^= w->rnd << 17;
	return w->rnd;
}

static u64 op_now(void *ctx)
{
	return ((struct world *)ctx)->now;
}

static u64 op_random(void *ctx)
{
	return rnd(ctx);
}

static void op_notify(void *ctx, unsigned int lane)
{
	(void)ctx;
	(void)lane;
}

static bool op_live(void *ctx, unsigned int lane)
{
	return ((struct world *)ctx)->live[lane];
}

static void op_done(void *ctx, struct memx_item *item, int err)
{
	struct world *w = ctx;
	long i = item - w->item;

	w->err[i] = err;
	w->ended[i]++;
	w->outstanding--;
}

static void op_wake_lane(void *ctx, unsigned int lane)
{
	(void)ctx;
	(void)lane;
}

static void op_wake(void *ctx)
{
	(void)ctx;
}

static void op_count(void *ctx, enum memx_counter what, u64 n)
{
	((struct world *)ctx)->counter[what] += n;
}

static void op_violation(void *ctx, unsigned int lane, const char *what)
{
	struct world *w = ctx;

	(void)lane;
	if (getenv("MEMX_TEST_VERBOSE"))
		fprintf(stderr, "violation on lane %u: %s\n", lane, what);
	w->violations++;
}

static void op_bad_page(void *ctx, u32 slot, u64 version, u32 status)
{
	(void)slot;
	(void)version;
	(void)status;
	((struct world *)ctx)->bad_pages++;
}

static const struct memx_engine_ops ops = {
	.now = op_now, .random = op_random, .notify = op_notify, .peer_live = op_live, .done = op_done,
	.wake_lane = op_wake_lane, .wake_session = op_wake, .count = op_count, .violation = op_violation,
	.bad_page = op_bad_page,
};

/* ---- the worker, as the module's ---- */

static void worker(struct world *w)
{
	struct memx_engine *e = &w->e;
	u32 a = memx_engine_take(e);
	u8 i;

	w->actions |= a;
	if (a & MEMX_ACT_WITHDRAW) {
		w->sending = false;
		w->detach = false;
		for (i = 0; i < LANES; i++) {
			assert_true(memx_lane_down(&e->lane[i]));
			w->live[i] = false;
		}
	}
	if (a & MEMX_ACT_DETACHED) {
		memx_engine_abandon(e, -ECANCELED);
		memx_engine_unsize(e);
	}
	if (a & MEMX_ACT_OFFER) {
		for (i = 0; i < LANES; i++) {
			memx_vring_reset_shared(&w->shr[i], 0, 0);
			memx_vring_init(&w->guest[i], &w->shr[i], true, w->left[i], w->left_size[i], w->right[i],
					w->right_size[i]);
			memx_vring_init(&w->relay[i], &w->shr[i], false, w->left[i], w->left_size[i], w->right[i],
					w->right_size[i]);
			w->live[i] = true;
			w->hello_sent[i] = false;
			memx_lane_up(&e->lane[i], &w->guest[i]);
		}
		w->attached = false;
	}
	if (a & MEMX_ACT_ATTACH) {
		w->sending = true;
		w->begun = false;
		w->next = 0;
	}
	if (a & MEMX_ACT_SIZE)
		assert_int_equal(memx_engine_size(e, e->attach.agreed.slots, e->attach.agreed.extent_order), 0);
	if (a & MEMX_ACT_GO)
		memx_engine_go(e);
	if (a & MEMX_ACT_DETACH)
		w->detach = true;
	if (w->sending && memx_engine_send_attach(e, &w->begun, &w->next))
		w->sending = false;
	if (w->detach && memx_engine_send_detach(e))
		w->detach = false;
}

/* ---- the relay ---- */

static void relay_send(struct world *w, u8 lane, const struct memx_head *head, const void *body)
{
	struct memx_hdr hdr;

	memx_hdr_put(&hdr, head);
	/* The credits promise that there is always room. */
	assert_true(memx_vring_space(&w->relay[lane]) >= (int)(sizeof(hdr) + head->len));
	memx_vring_put(&w->relay[lane], 0, &hdr, sizeof(hdr));
	if (head->len)
		memx_vring_put(&w->relay[lane], sizeof(hdr), body, head->len);
	memx_vring_publish(&w->relay[lane], (u32)sizeof(hdr) + head->len);
}

static void relay_hello(struct world *w, u8 lane)
{
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(struct memx_hello), .tag = 7 };
	struct memx_hello hello = {
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(3), .role = MEMX_ROLE_RELAY, .lane = lane,
		.offer = memx_put_le64(w->e.attach.offer),
	};

	relay_send(w, lane, &head, &hello);
	w->hello_sent[lane] = true;
}

static void relay_record(struct world *w, u32 extent, u64 generation)
{
	struct {
		struct memx_records n;
		struct memx_record rec;
	} body = { .n.count = memx_put_le32(1) };
	struct memx_head head = { .op = MEMX_OP_RECORD, .len = sizeof(body), .tag = 99, .epoch = w->epoch };

	body.rec.extent = memx_put_le32(extent);
	body.rec.generation = memx_put_le64(generation);
	body.rec.replicas = 1;
	body.rec.replica[0].state = MEMX_R_LIVE;
	body.rec.replica[0].donor[0] = 5;
	relay_send(w, (u8)(extent % 2 ? 2 : 0), &head, &body);
}

static void relay_attach(struct world *w, const struct memx_head *head)
{
	const struct memx_attach *in = (const void *)(w->buf + sizeof(struct memx_hdr));
	struct memx_attached body = {
		.slots = memx_put_le32(SLOTS), .extent_order = ORDER, .replicas = 1, .max_pages = 32,
		.lane_requests = memx_put_le32(16), .lane_pages = memx_put_le32(256), .retry_ms = memx_put_le32(500),
	};
	struct memx_head reply = {
		.op = MEMX_OP_ATTACH, .reply = true, .status = w->refuse, .len = sizeof(body), .tag = head->tag,
		.epoch = head->epoch,
	};

	(void)in;
	relay_send(w, 0, &reply, &body);
	w->attached = !w->refuse;
}

static u32 relay_one(struct world *w, u32 slot, u64 version, const struct memx_trailer *trailer, const void *page)
{
	struct kept *k = &w->kept[slot];

	if (version < k->version)
		return MEMX_S_OLD;
	if (version == k->version)
		return MEMX_S_OK;
	k->version = version;
	k->there = page;
	if (page) {
		assert_true(memx_le64(trailer->check) == memx_check(w->e.seed, slot, version, page));
		k->trailer = *trailer;
		memcpy(k->page, page, MEMX_PAGE_SIZE);
	}
	return MEMX_S_OK;
}

static u32 injected(struct world *w, u32 status)
{
	if (!status || !w->fail_left)
		return MEMX_S_OK;
	w->fail_left--;
	return status;
}

static void relay_store(struct world *w, u8 lane, const struct memx_head *head)
{
	const struct memx_io *io = (const void *)(w->buf + sizeof(struct memx_hdr));
	const struct memx_page *desc = (const void *)(io + 1);
	struct memx_io *rio = (void *)w->out;
	struct memx_want *want = (void *)(rio + 1);
	struct memx_head reply = { .op = head->op, .reply = true, .tag = head->tag, .epoch = head->epoch };
	int count = memx_check_io(head, io, 32), i, bad = 0;
	u32 status = 0;

	assert_true(count > 0);
	assert_int_equal(memx_check_pages(desc, (u32)count, memx_le32(io->extent), ORDER, SLOTS), 0);
	*rio = *io;
	for (i = 0; i < count; i++) {
		const u8 *page = (const u8 *)(desc + count) + (size_t)i * MEMX_PAGE_SIZE;

		want[i] = (struct memx_want){ .slot = desc[i].slot, .version = desc[i].trailer.version };
		status = injected(w, w->fail_store);
		if (!status)
			status = relay_one(w, memx_le32(desc[i].slot), memx_le64(desc[i].trailer.version),
					   &desc[i].trailer, page);
		assert_true(status != MEMX_S_OLD);
		want[i].status = memx_put_le32(status);
		bad += status != 0;
	}
	reply.status = !bad ? MEMX_S_OK : bad == count ? status : MEMX_S_PARTIAL;
	reply.len = reply.status == MEMX_S_PARTIAL ? memx_want_len((u32)count) : MEMX_IO_LEN;
	relay_send(w, lane, &reply, w->out);
}

static void relay_discard(struct world *w, u8 lane, const struct memx_head *head)
{
	const struct memx_io *io = (const void *)(w->buf + sizeof(struct memx_hdr));
	const struct memx_want *want = (const void *)(io + 1);
	struct memx_head reply = { .op = head->op, .reply = true, .tag = head->tag, .epoch = head->epoch, .len = MEMX_IO_LEN };
	int count = memx_check_io(head, io, 32), i;

	assert_true(count > 0);
	assert_int_equal(memx_check_wants(want, (u32)count, memx_le32(io->extent), ORDER, SLOTS), 0);
	for (i = 0; i < count; i++)
		relay_one(w, memx_le32(want[i].slot), memx_le64(want[i].version), NULL, NULL);
	relay_send(w, lane, &reply, io);
}

static void relay_fetch(struct world *w, u8 lane, const struct memx_head *head)
{
	const struct memx_io *io = (const void *)(w->buf + sizeof(struct memx_hdr));
	const struct memx_want *want = (const void *)(io + 1);
	struct memx_io *rio = (void *)w->out;
	struct memx_page *desc = (void *)(rio + 1);
	struct memx_head reply = { .op = head->op, .reply = true, .tag = head->tag, .epoch = head->epoch };
	int count = memx_check_io(head, io, 32), i;
	u32 good = 0, status = 0;
	u8 *page;

	assert_true(count > 0);
	assert_int_equal(memx_check_wants(want, (u32)count, memx_le32(io->extent), ORDER, SLOTS), 0);
	*rio = *io;
	page = (u8 *)(desc + count);
	for (i = 0; i < count; i++) {
		const struct kept *k = &w->kept[memx_le32(want[i].slot)];

		desc[i] = (struct memx_page){ .slot = want[i].slot };
		status = injected(w, w->fail_fetch);
		if (!status)
			status = !k->there ? MEMX_S_ABSENT : k->version != memx_le64(want[i].version) ? MEMX_S_VERSION : 0;
		desc[i].status = memx_put_le32(status);
		if (status)
			continue;
		desc[i].trailer = k->trailer;
		memcpy(page, k->page, MEMX_PAGE_SIZE);
		if (w->damage && injected(w, 1))
			page[rnd(w) % MEMX_PAGE_SIZE] ^= 1;
		page += MEMX_PAGE_SIZE;
		good++;
	}
	reply.status = (int)good == count ? MEMX_S_OK : good ? MEMX_S_PARTIAL : status;
	reply.len = good ? memx_fetched_len((u32)count, good) : MEMX_IO_LEN;
	relay_send(w, lane, &reply, w->out);
}

static void relay_frame(struct world *w, u8 lane, const struct memx_head *head)
{
	struct memx_head reply = { .op = head->op, .reply = true, .tag = head->tag, .epoch = head->epoch };

	if (head->reply)
		return;
	switch (head->op) {
	case MEMX_OP_ATTACH:
		assert_true(head->epoch > w->epoch);
		w->epoch = head->epoch;
		w->records_seen = 0;
		break;
	case MEMX_OP_MAP:
		w->records_seen += memx_le32(((const struct memx_records *)(w->buf + sizeof(struct memx_hdr)))->count);
		if (head->flags & MEMX_F_LAST) {
			struct memx_head attach = { .tag = w->epoch, .epoch = w->epoch };

			relay_attach(w, &attach);
		}
		break;
	case MEMX_OP_STORE:
		relay_store(w, lane, head);
		break;
	case MEMX_OP_FETCH:
		relay_fetch(w, lane, head);
		break;
	case MEMX_OP_DISCARD:
		relay_discard(w, lane, head);
		break;
	case MEMX_OP_DETACH:
		relay_send(w, 0, &reply, NULL);
		w->epoch = 0;
		break;
	default:
		fail_msg("unexpected operation %u", head->op);
	}
}

static bool relay_lane(struct world *w, u8 lane)
{
	struct memx_head head;
	int ret;

	if (!w->live[lane] || w->silent)
		return false;
	if (!w->hello_sent[lane]) {
		relay_hello(w, lane);
		return true;
	}
	ret = memx_frame_next(&w->relay[lane], MEMX_MAX_BODY, &head);
	assert_true(ret >= 0);
	if (!ret)
		return false;
	memx_vring_peek(&w->relay[lane], 0, w->buf, (u32)sizeof(struct memx_hdr) + head.len);
	memx_vring_consume(&w->relay[lane], (u32)sizeof(struct memx_hdr) + head.len);
	relay_frame(w, lane, &head);
	return true;
}

/* Lets everything run until nothing moves any more. */
static void run(struct world *w)
{
	u32 idle = 0;
	bool moved;
	u8 i;

	/* Twice without a move: what is sent in one round is answered in the next. */
	while (idle < 2) {
		moved = false;
		worker(w);
		for (i = 0; i < LANES; i++) {
			moved |= relay_lane(w, i);
			while (memx_lane_work(&w->e.lane[i]))
				;
		}
		idle = moved ? 0 : idle + 1;
	}
}

static void pass(struct world *w, u64 ms)
{
	w->now += ms * 1000000;
	memx_engine_tick(&w->e, 0);
	run(w);
}

static void crash(struct world *w)
{
	u8 i;

	for (i = 0; i < LANES; i++) {
		w->live[i] = false;
		memx_lane_work(&w->e.lane[i]);
	}
}

/* ---- items ---- */

static void put(struct world *w, struct list_head *list, u32 i, u8 op, u32 slot)
{
	w->item[i].op = op;
	w->item[i].slot = slot;
	w->item[i].page = w->data[i];
	w->ended[i] = 0;
	w->err[i] = 1;
	list_add_tail(&w->item[i].node, list);
	w->outstanding++;
}

static void fill(u8 *page, u32 slot, u64 what)
{
	u32 i;

	for (i = 0; i < MEMX_PAGE_SIZE / 8; i++)
		((u64 *)(void *)page)[i] = what * 0x9e3779b97f4a7c15ULL + slot + i;
}

static void store(struct world *w, u32 first, u32 slot, u32 n, u64 what)
{
	struct list_head list;
	u32 i;

	INIT_LIST_HEAD(&list);
	for (i = 0; i < n; i++) {
		fill(w->data[first + i], slot + i, what);
		put(w, &list, first + i, MEMX_OP_STORE, slot + i);
	}
	memx_engine_submit(&w->e, &list);
}

static void fetch(struct world *w, u32 first, u32 slot, u32 n)
{
	struct list_head list;
	u32 i;

	INIT_LIST_HEAD(&list);
	for (i = 0; i < n; i++) {
		memset(w->data[first + i], 0xee, MEMX_PAGE_SIZE);
		put(w, &list, first + i, MEMX_OP_FETCH, slot + i);
	}
	memx_engine_submit(&w->e, &list);
}

static void ended(struct world *w, u32 first, u32 n, int err)
{
	u32 i;

	for (i = first; i < first + n; i++) {
		assert_int_equal(w->ended[i], 1);
		assert_int_equal(w->err[i], err);
	}
}

static void holds(struct world *w, u32 first, u32 slot, u32 n, u64 what)
{
	static u8 want[MEMX_PAGE_SIZE];
	u32 i;

	ended(w, first, n, 0);
	for (i = 0; i < n; i++) {
		fill(want, slot + i, what);
		assert_memory_equal(w->data[first + i], want, MEMX_PAGE_SIZE);
	}
}

/* ---- set-up ---- */

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	u8 i;

	w->rnd = 88172645463325252ULL;
	w->now = 1000000000;
	w->kept = calloc(SLOTS, sizeof(*w->kept));
	w->kind[0] = MEMX_LANE_STORE;
	w->kind[1] = MEMX_LANE_FETCH;
	w->kind[2] = MEMX_LANE_STORE;
	for (i = 0; i < LANES; i++) {
		w->left_size[i] = w->kind[i] == MEMX_LANE_FETCH ? RING : SMALL;
		w->right_size[i] = w->kind[i] == MEMX_LANE_FETCH ? SMALL : RING;
		w->left[i] = calloc(1, w->left_size[i]);
		w->right[i] = calloc(1, w->right_size[i]);
	}
	assert_int_equal(memx_engine_init(&w->e, &ops, w, w->kind, LANES, 64), 0);
	w->e.actions |= memx_attach_start(&w->e.attach, w->now);
	*state = w;
	return 0;
}

static int setup_attached(void **state)
{
	struct world *w;

	setup(state);
	w = *state;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	u8 i;

	for (i = 0; i < LANES; i++)
		memx_lane_down(&w->e.lane[i]);
	memx_engine_abandon(&w->e, -EIO);
	assert_int_equal(w->outstanding, 0);
	memx_engine_free(&w->e);
	for (i = 0; i < LANES; i++) {
		free(w->left[i]);
		free(w->right[i]);
	}
	free(w->kept);
	free(w);
	return 0;
}

/* ---- tests ---- */

static void attaches(void **state)
{
	struct world *w = *state;

	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.attach.epoch, 1);
	assert_int_equal(w->e.slots.count, SLOTS);
	assert_int_equal(w->violations, 0);
}

static void page_goes_and_comes_back(void **state)
{
	struct world *w = *state;

	store(w, 0, 17, 1, 1);
	run(w);
	ended(w, 0, 1, 0);
	fetch(w, 1, 17, 1);
	run(w);
	holds(w, 1, 17, 1, 1);
	assert_int_equal(w->counter[MEMX_C_stores], 1);
	assert_int_equal(w->counter[MEMX_C_fetches], 1);
}

static void many_pages_over_extents(void **state)
{
	struct world *w = *state;

	store(w, 0, 100, 500, 2);
	run(w);
	ended(w, 0, 500, 0);
	fetch(w, 0, 100, 500);
	run(w);
	holds(w, 0, 100, 500, 2);
	assert_true(w->counter[MEMX_C_store_requests] < 40);
	assert_true(w->counter[MEMX_C_fetch_requests] < 40);
	assert_int_equal(w->violations, 0);
}

static void newest_store_wins(void **state)
{
	struct world *w = *state;
	u32 i;

	for (i = 0; i < 20; i++) {
		store(w, 0, 300, 32, i);
		run(w);
	}
	fetch(w, 0, 300, 32);
	run(w);
	holds(w, 0, 300, 32, 19);
}

static void absent_is_an_error(void **state)
{
	struct world *w = *state;

	fetch(w, 0, 5, 3);
	run(w);
	ended(w, 0, 3, -ENODATA);
	assert_int_equal(w->counter[MEMX_C_fetch_requests], 0);
}

static void same_filled_stays_here(void **state)
{
	struct world *w = *state;
	struct list_head list;

	INIT_LIST_HEAD(&list);
	memset(w->data[0], 0x5a, MEMX_PAGE_SIZE);
	put(w, &list, 0, MEMX_OP_STORE, 40);
	memx_engine_submit(&w->e, &list);
	ended(w, 0, 1, 0);
	fetch(w, 1, 40, 1);
	ended(w, 1, 1, 0);
	assert_memory_equal(w->data[0], w->data[1], MEMX_PAGE_SIZE);
	assert_int_equal(w->counter[MEMX_C_store_requests], 0);
}

static bool is_freed(void *arg, u32 slot)
{
	(void)slot;
	return *(bool *)arg;
}

static void same_filled_frees_what_was_stored(void **state)
{
	struct world *w = *state;
	bool freed = false;

	store(w, 0, 41, 1, 3);
	run(w);
	assert_true(w->kept[41].there);
	assert_false(memx_engine_discard(&w->e, 41, is_freed, &freed, &w->item[3]));
	memset(w->data[1], 0, MEMX_PAGE_SIZE);
	{
		struct list_head list;

		INIT_LIST_HEAD(&list);
		put(w, &list, 1, MEMX_OP_STORE, 41);
		memx_engine_submit(&w->e, &list);
	}
	w->outstanding++;
	w->ended[3] = 0;
	assert_true(memx_engine_discard(&w->e, 41, is_freed, &freed, &w->item[3]));
	run(w);
	ended(w, 3, 1, 0);
	assert_false(w->kept[41].there);
	fetch(w, 2, 41, 1);
	ended(w, 2, 1, 0);
	assert_memory_equal(w->data[1], w->data[2], MEMX_PAGE_SIZE);
}

static void freed_slot_is_discarded_and_stored_again(void **state)
{
	struct world *w = *state;
	bool freed = true;

	store(w, 0, 42, 1, 3);
	run(w);
	w->outstanding++;
	w->ended[1] = 0;
	assert_true(memx_engine_discard(&w->e, 42, is_freed, &freed, &w->item[1]));
	/* At once a store of the slot that was taken again. */
	store(w, 2, 42, 1, 4);
	run(w);
	ended(w, 1, 2, 0);
	fetch(w, 3, 42, 1);
	run(w);
	holds(w, 3, 42, 1, 4);
}

static void second_store_of_a_slot_waits(void **state)
{
	struct world *w = *state;

	w->silent = true;
	store(w, 0, 50, 1, 1);
	store(w, 1, 50, 1, 2);
	fetch(w, 2, 50, 1);
	run(w);
	assert_int_equal(w->outstanding, 3);
	w->silent = false;
	run(w);
	ended(w, 0, 2, 0);
	holds(w, 2, 50, 1, 2);
}

static void records_are_kept_and_handed_over(void **state)
{
	struct world *w = *state;

	relay_record(w, 3, 9);
	relay_record(w, 4, 1);
	run(w);
	assert_int_equal(w->counter[MEMX_C_records], 2);
	crash(w);
	run(w);
	w->now += 1000000000;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->records_seen, 2);
	assert_int_equal(w->e.attach.epoch, 2);
	assert_int_equal(memx_records_generation(&w->e.records, 3), 9);
	assert_int_equal(w->violations, 0);
}

static void record_on_the_wrong_lane_ends_the_channel(void **state)
{
	struct world *w = *state;
	struct memx_head head = { .op = MEMX_OP_RECORD, .epoch = w->epoch, .tag = 1 };
	struct {
		struct memx_records n;
		struct memx_record rec;
	} body = { .n.count = memx_put_le32(1), .rec.extent = memx_put_le32(3) };

	head.len = sizeof(body);
	relay_send(w, 0, &head, &body);
	memx_lane_work(&w->e.lane[0]);
	assert_int_equal(w->violations, 1);
}

static void lost_stores_travel_again(void **state)
{
	struct world *w = *state;
	u64 version;

	w->silent = true;
	store(w, 0, 600, 200, 7);
	run(w);
	version = memx_slot_version(&w->e.slots, 600);
	assert_true(version);
	crash(w);
	w->silent = false;
	run(w);
	w->now += 1000000000;
	run(w);
	ended(w, 0, 200, 0);
	assert_true(memx_slot_version(&w->e.slots, 600) > version);
	fetch(w, 0, 600, 200);
	run(w);
	holds(w, 0, 600, 200, 7);
	assert_true(w->counter[MEMX_C_resent]);
}

static void lost_fetches_travel_again(void **state)
{
	struct world *w = *state;

	store(w, 0, 600, 200, 7);
	run(w);
	w->silent = true;
	fetch(w, 0, 600, 200);
	run(w);
	crash(w);
	w->silent = false;
	run(w);
	w->now += 1000000000;
	run(w);
	holds(w, 0, 600, 200, 7);
}

static void no_space_fails_at_once(void **state)
{
	struct world *w = *state;

	w->fail_store = MEMX_S_NOSPACE;
	w->fail_left = 5;
	store(w, 0, 700, 10, 1);
	run(w);
	ended(w, 0, 5, -ENOSPC);
	ended(w, 5, 5, 0);
	fetch(w, 0, 700, 1);
	run(w);
	ended(w, 0, 1, -ENODATA);
}

static void passing_errors_are_waited_out(void **state)
{
	struct world *w = *state;
	u32 i;

	w->fail_store = MEMX_S_IO;
	w->fail_left = 1000;
	store(w, 0, 700, 20, 1);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	assert_int_equal(w->outstanding, 20);
	w->fail_left = 0;
	pass(w, 500);
	ended(w, 0, 20, 0);
	w->fail_fetch = MEMX_S_AGAIN;
	w->fail_left = 1000;
	fetch(w, 0, 700, 20);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	assert_int_equal(w->outstanding, 20);
	w->fail_left = 0;
	pass(w, 500);
	holds(w, 0, 700, 20, 1);
}

static void lost_page_is_an_error_in_the_end(void **state)
{
	struct world *w = *state;
	u32 i;

	store(w, 0, 710, 2, 1);
	run(w);
	w->kept[711].there = false;
	fetch(w, 0, 710, 2);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	holds(w, 0, 710, 1, 1);
	ended(w, 1, 1, -EIO);
	assert_int_equal(w->bad_pages, 1);
}

static void damaged_page_is_asked_for_again(void **state)
{
	struct world *w = *state;

	store(w, 0, 720, 30, 1);
	run(w);
	w->damage = true;
	w->fail_left = 3;
	fetch(w, 0, 720, 30);
	run(w);
	assert_int_equal(w->outstanding, 3);
	pass(w, 500);
	holds(w, 0, 720, 30, 1);
	assert_int_equal(w->counter[MEMX_C_corrupt], 3);
}

static void old_page_with_a_good_trailer_is_not_believed(void **state)
{
	struct world *w = *state;
	u32 i;

	store(w, 0, 730, 1, 1);
	run(w);
	{
		struct kept old = w->kept[730];

		store(w, 0, 730, 1, 2);
		run(w);
		/* A relay that returns the old page and says that it is the new one. */
		old.version = w->kept[730].version;
		old.trailer = w->kept[730].trailer;
		w->kept[730] = old;
	}
	fetch(w, 1, 730, 1);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	ended(w, 1, 1, -EIO);
}

static void fenced_store_waits_for_the_next_attachment(void **state)
{
	struct world *w = *state;

	w->fail_store = MEMX_S_FENCED;
	w->fail_left = 8;
	store(w, 0, 740, 8, 5);
	run(w);
	w->now += 1000000000;
	run(w);
	assert_int_equal(w->e.attach.epoch, 2);
	ended(w, 0, 8, 0);
	fetch(w, 0, 740, 8);
	run(w);
	holds(w, 0, 740, 8, 5);
}

static void double_answer_ends_the_channel(void **state)
{
	struct world *w = *state;
	struct memx_head head = { .op = MEMX_OP_STORE, .reply = true, .len = MEMX_IO_LEN, .epoch = w->epoch };
	struct memx_io io = { .count = memx_put_le16(1) };

	w->silent = true;
	store(w, 0, 1, 1, 5);
	head.tag = w->e.lane[0].reqs.table[0].tag;
	relay_send(w, 0, &head, &io);
	relay_send(w, 0, &head, &io);
	memx_lane_work(&w->e.lane[0]);
	ended(w, 0, 1, 0);
	assert_int_equal(w->violations, 1);
	assert_int_equal(w->e.attach.state, MEMX_A_DOWN);
}

static void second_hello_ends_the_channel(void **state)
{
	struct world *w = *state;

	relay_hello(w, 1);
	memx_lane_work(&w->e.lane[1]);
	assert_int_equal(w->violations, 1);
}

static void refusal_is_asked_again_later(void **state)
{
	struct world *w = *state;

	w->refuse = MEMX_S_NOSPACE;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_REFUSED);
	assert_true(w->actions & MEMX_ACT_REFUSED);
	w->refuse = MEMX_S_OK;
	w->now += 400000000;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_REFUSED);
	w->now += 200000000;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.attach.epoch, 2);
}

static void superseded_gives_up(void **state)
{
	struct world *w = *state;

	crash(w);
	store(w, 0, 10, 4, 1);
	w->refuse = MEMX_S_SUPERSEDED;
	run(w);
	w->now += 10000000000ULL;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_GONE);
	assert_true(w->actions & MEMX_ACT_GONE);
	memx_engine_gone(&w->e, true);
	memx_engine_abandon(&w->e, -EIO);
	ended(w, 0, 4, -EIO);
	fetch(w, 5, 10, 1);
	ended(w, 5, 1, -EIO);
}

static void detach_draws_a_new_session(void **state)
{
	struct world *w = *state;
	u8 old[16];

	memcpy(old, w->e.attach.session, 16);
	w->e.attach.frozen = true;
	w->e.actions |= memx_attach_detach(&w->e.attach, w->now);
	run(w);
	assert_true(w->actions & MEMX_ACT_DETACHED);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.attach.epoch, 1);
	assert_memory_not_equal(old, w->e.attach.session, 16);
}

static void deadline_ends_what_waits(void **state)
{
	struct world *w = *state;

	store(w, 0, 20, 1, 1);
	run(w);
	w->silent = true;
	fetch(w, 1, 20, 1);
	store(w, 2, 21, 40, 1);
	run(w);
	w->now += 1000;
	memx_engine_tick(&w->e, w->now);
	ended(w, 1, 41, -ETIMEDOUT);
	/* Their answers come all the same, and are for nobody. */
	w->silent = false;
	run(w);
	assert_int_equal(w->violations, 0);
	fetch(w, 1, 20, 1);
	run(w);
	holds(w, 1, 20, 1, 1);
}

/* Everything at random: what was acknowledged last is what is read, whatever happens to the relay. */
static void random_life(void **state)
{
	struct world *w = *state;
	static u64 model[SLOTS];	/* what was acknowledged last; 0: nothing */
	u32 round, i, slot, n;

	memset(model, 0, sizeof(model));
	for (round = 1; round < 3000; round++) {
		slot = (u32)(rnd(w) % (SLOTS - 64));
		n = 1 + (u32)(rnd(w) % 40);
		switch (rnd(w) % 8) {
		case 0: case 1: case 2: case 3:
			store(w, 0, slot, n, round);
			if (rnd(w) % 10 == 0)
				crash(w);
			if (rnd(w) % 10 == 0) {
				w->fail_store = rnd(w) % 2 ? MEMX_S_IO : MEMX_S_FENCED;
				w->fail_left = (u32)(rnd(w) % 20);
			}
			run(w);
			while (w->outstanding)
				pass(w, 700);
			ended(w, 0, n, 0);
			for (i = 0; i < n; i++)
				model[slot + i] = round;
			break;
		case 4: case 5: case 6:
			fetch(w, 0, slot, n);
			if (rnd(w) % 10 == 0)
				crash(w);
			w->damage = rnd(w) % 10 == 0;
			w->fail_left = w->damage ? 3 : 0;
			run(w);
			while (w->outstanding)
				pass(w, 700);
			w->damage = false;
			for (i = 0; i < n; i++) {
				if (model[slot + i])
					holds(w, i, slot + i, 1, model[slot + i]);
				else
					ended(w, i, 1, -ENODATA);
			}
			break;
		default: {
			bool freed = true;

			w->ended[0] = 0;
			if (memx_engine_discard(&w->e, slot, is_freed, &freed, &w->item[0])) {
				w->outstanding++;
				run(w);
				while (w->outstanding)
					pass(w, 700);
			}
			model[slot] = 0;
			break;
		}
		}
		w->fail_left = 0;
		w->fail_store = 0;
		if (w->e.attach.state != MEMX_A_ATTACHED)
			pass(w, 6000);
	}
	assert_int_equal(w->violations, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(attaches, setup, teardown),
		cmocka_unit_test_setup_teardown(refusal_is_asked_again_later, setup, teardown),
#define T(name) cmocka_unit_test_setup_teardown(name, setup_attached, teardown)
		T(page_goes_and_comes_back),
		T(many_pages_over_extents),
		T(newest_store_wins),
		T(absent_is_an_error),
		T(same_filled_stays_here),
		T(same_filled_frees_what_was_stored),
		T(freed_slot_is_discarded_and_stored_again),
		T(second_store_of_a_slot_waits),
		T(records_are_kept_and_handed_over),
		T(record_on_the_wrong_lane_ends_the_channel),
		T(lost_stores_travel_again),
		T(lost_fetches_travel_again),
		T(no_space_fails_at_once),
		T(passing_errors_are_waited_out),
		T(lost_page_is_an_error_in_the_end),
		T(damaged_page_is_asked_for_again),
		T(old_page_with_a_good_trailer_is_not_believed),
		T(fenced_store_waits_for_the_next_attachment),
		T(double_answer_ends_the_channel),
		T(second_hello_ends_the_channel),
		T(superseded_gives_up),
		T(detach_draws_a_new_session),
		T(deadline_ends_what_waits),
		T(random_life),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
