// SPDX-License-Identifier: GPL-2.0-only
/*
 * engine-world.c - the engine's surroundings in a test; see engine-world.h.
 */
#include "../../shared/memx/check.h"
#include "engine-world.h"

u64 rnd(struct world *w)
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
	((struct world *)ctx)->relay_awake[lane] = true;
}

static enum memx_vchan_client op_peer(void *ctx, unsigned int lane)
{
	return memx_vchan_client(&((struct world *)ctx)->shr[lane]);
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
	__atomic_fetch_or(&((struct world *)ctx)->woken, 1U << lane, __ATOMIC_RELAXED);
}

static void op_wake(void *ctx)
{
	memx_store_once(&((struct world *)ctx)->woken_session, true);
}

static void op_count(void *ctx, enum memx_counter what, u64 n)
{
	struct world *w = ctx;

	__atomic_fetch_add(&w->counter[what], n, __ATOMIC_RELAXED);
	if (w->gives_back && what == MEMX_C_store_requests)
		w->shr[0].right.cons = w->shr[0].right.prod + 1;
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
	.now = op_now, .random = op_random, .notify = op_notify, .peer = op_peer, .done = op_done,
	.wake_lane = op_wake_lane, .wake_session = op_wake, .count = op_count, .violation = op_violation,
	.bad_page = op_bad_page,
};

/* ---- the worker and the lanes' interrupts and threads, as the module's ---- */

/* Was it woken, or has its time come? While DETACH waits for answers it looks by itself; of room for ATTACH and the map it is told. */
static bool worker_due(struct world *w)
{
	u64 at = w->e.attach.retry_at;

	return w->woken_session || w->e.actions || w->detach || (at && w->now >= at);
}

static void worker(struct world *w)
{
	struct memx_engine *e = &w->e;
	u8 i;
	u32 a;

	if (!worker_due(w))
		return;
	w->woken_session = false;
	a = memx_engine_take(e);
	w->actions |= a;
	if (a & MEMX_ACT_WITHDRAW) {
		w->sending = false;
		w->detach = false;
		for (i = 0; i < LANES; i++) {
			assert_true(memx_lane_down(&e->lane[i]));
			memx_store_once(&w->shr[i].cli_live, 0);
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
			if (!w->away)
				memx_store_once(&w->shr[i].cli_live, 1);
			w->hello_sent[i] = false;
			memx_vring_want(&w->relay[i], MEMX_VCHAN_WRITE);
			w->relay_awake[i] = false;
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
	memx_engine_drop_discards(e, w->suspending);
	if (w->sending && memx_engine_send_attach(e, &w->begun, &w->next))
		w->sending = false;
	if (w->detach && memx_engine_send_detach(e))
		w->detach = false;
}

static void interrupt(struct world *w, u8 i)
{
	w->kicked[i] = false;
	if (memx_lane_receive(&w->e.lane[i], 4))
		op_wake_lane(w, i);
	if (op_peer(w, i) != MEMX_VCHAN_HERE)
		memx_engine_departed(&w->e);
}

static bool lane_runs(struct world *w, u8 i)
{
	bool due = w->kicked[i] || w->woken & 1U << i;

	if (w->kicked[i])
		interrupt(w, i);
	while (w->woken & 1U << i) {
		w->woken &= ~(1U << i);
		while (memx_lane_work(&w->e.lane[i]))
			;
	}
	return due;
}

/* ---- the relay ---- */

void relay_send(struct world *w, u8 lane, const struct memx_head *head, const void *body)
{
	struct memx_hdr hdr;

	memx_hdr_put(&hdr, head);
	/* The credits promise that there is always room. */
	assert_true(memx_vring_space(&w->relay[lane]) >= (int)(sizeof(hdr) + head->len));
	memx_vring_put(&w->relay[lane], 0, &hdr, sizeof(hdr));
	if (head->len)
		memx_vring_put(&w->relay[lane], sizeof(hdr), body, head->len);
	w->kicked[lane] |= memx_vring_publish(&w->relay[lane], (u32)sizeof(hdr) + head->len);
}

void relay_hello(struct world *w, u8 lane)
{
	struct memx_head head = { .op = MEMX_OP_HELLO, .len = sizeof(struct memx_hello), .tag = 7 };
	struct memx_hello hello = {
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(3), .role = MEMX_ROLE_RELAY, .lane = lane,
		.offer = memx_put_le64(w->e.attach.offer),
	};

	relay_send(w, lane, &head, &hello);
	w->hello_sent[lane] = true;
}

void relay_record(struct world *w, u32 extent, u64 generation)
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
	struct memx_attached body = {
		.slots = memx_put_le32(w->asked && w->asked < SLOTS ? w->asked : SLOTS),
		.extent_order = ORDER, .replicas = 1, .max_pages = 32,
		.lane_requests = memx_put_le32(16), .lane_pages = memx_put_le32(256), .retry_ms = memx_put_le32(500),
	};
	struct memx_head reply = {
		.op = MEMX_OP_ATTACH, .reply = true, .status = w->refuse, .len = sizeof(body), .tag = head->tag,
		.epoch = head->epoch,
	};

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
	if (w->stuck && memx_le32(io->extent) == w->stuck - 1)
		return;
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
	reply.status = injected(w, w->fail_discard);
	for (i = 0; i < count && !reply.status; i++)
		assert_true(relay_one(w, memx_le32(want[i].slot), memx_le64(want[i].version), NULL, NULL) != MEMX_S_OLD);
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
	if (head->op == MEMX_OP_STORE || head->op == MEMX_OP_FETCH || head->op == MEMX_OP_DISCARD)
		assert_true(w->attached && head->epoch == w->epoch);
	switch (head->op) {
	case MEMX_OP_ATTACH:
		assert_true(head->epoch > w->epoch);
		assert_false(w->attached);
		w->attaches++;
		w->asked = memx_le32(((const struct memx_attach *)(w->buf + sizeof(struct memx_hdr)))->slots);
		w->records_told = memx_le32(((const struct memx_attach *)(w->buf + sizeof(struct memx_hdr)))->records);
		w->epoch = head->epoch;
		w->records_seen = 0;
		break;
	case MEMX_OP_MAP:
		w->records_seen += memx_le32(((const struct memx_records *)(w->buf + sizeof(struct memx_hdr)))->count);
		if (head->flags & MEMX_F_LAST) {
			struct memx_head attach = { .tag = w->epoch, .epoch = w->epoch };

			assert_int_equal(w->records_seen, w->records_told);
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
		w->attached = false;
		break;
	default:
		fail_msg("unexpected operation %u", head->op);
	}
}

static bool relay_lane(struct world *w, u8 lane)
{
	struct memx_head head;
	int ret;

	if (op_peer(w, lane) != MEMX_VCHAN_HERE || w->silent)
		return false;
	if (!w->hello_sent[lane]) {
		relay_hello(w, lane);
		return true;
	}
	if (!w->relay_awake[lane])
		return false;
	ret = memx_frame_next(&w->relay[lane], MEMX_MAX_BODY, &head);
	if (!ret) {
		memx_vring_want(&w->relay[lane], MEMX_VCHAN_WRITE);
		ret = memx_frame_next(&w->relay[lane], MEMX_MAX_BODY, &head);
		w->relay_awake[lane] = ret;
	}
	assert_true(ret >= 0);
	if (!ret)
		return false;
	memx_vring_peek(&w->relay[lane], 0, w->buf, (u32)sizeof(struct memx_hdr) + head.len);
	w->kicked[lane] |= memx_vring_consume(&w->relay[lane], (u32)sizeof(struct memx_hdr) + head.len);
	relay_frame(w, lane, &head);
	return true;
}

void run(struct world *w)
{
	u32 idle = 0, rounds = 0;
	bool moved;
	u8 i;

	/* Twice without a move: what is sent in one round is answered in the next. */
	while (idle < 2) {
		moved = false;
		assert_true(++rounds < 20000);	/* no time passes: nothing may go on for ever */
		worker(w);
		for (i = 0; i < LANES; i++) {
			moved |= relay_lane(w, i);
			moved |= lane_runs(w, i);
		}
		idle = moved ? 0 : idle + 1;
	}
}

void pass(struct world *w, u64 ms)
{
	w->now += ms * 1000000;
	memx_engine_tick(&w->e, 0);
	memx_engine_hurry(&w->e);
	run(w);
}

void crash(struct world *w)
{
	u8 i;

	for (i = 0; i < LANES; i++) {
		memx_store_once(&w->shr[i].cli_live, 0);
		interrupt(w, i);
	}
}

/* ---- items ---- */

void put(struct world *w, struct list_head *list, u32 i, u8 op, u32 slot)
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

void store(struct world *w, u32 first, u32 slot, u32 n, u64 what)
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

void fetch(struct world *w, u32 first, u32 slot, u32 n)
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

void ended(struct world *w, u32 first, u32 n, int err)
{
	u32 i;

	for (i = first; i < first + n; i++) {
		assert_int_equal(w->ended[i], 1);
		assert_int_equal(w->err[i], err);
	}
}

void holds(struct world *w, u32 first, u32 slot, u32 n, u64 what)
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

int setup(void **state)
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

int setup_attached(void **state)
{
	struct world *w;

	setup(state);
	w = *state;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	return 0;
}

int teardown(void **state)
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
