// SPDX-License-Identifier: GPL-2.0-only
/*
 * engine.c - the engine as a whole: its making and end, lanes up and down, control frames, what waits for a tick.
 *
 * Pure: compiled in the kernel, under KUnit and in user space. Most of this is called by the session's one worker, while
 * lanes are down or do not go yet; lane.h says what.
 */
#include "../shared/memx/check.h"
#include "lane.h"

#define DETACH_WAIT	1000000000ULL	/* ns */

/* ---- making ---- */

static int lane_init(struct memx_engine *e, u8 index, u8 kind, u32 requests)
{
	struct memx_lane *l = &e->lane[index];
	int err;

	l->engine = e;
	l->index = index;
	l->kind = kind;
	memx_lock_init(&l->lock);
	INIT_LIST_HEAD(&l->parked);
	INIT_LIST_HEAD(&l->held);
	err = memx_reqs_init(&l->reqs, requests);
	if (err)
		return err;
	l->tx_bounce = memx_table_alloc(1, MEMX_PAGE_SIZE);
	l->rx_bounce = memx_table_alloc(1, MEMX_PAGE_SIZE);
	return l->tx_bounce && l->rx_bounce ? 0 : -ENOMEM;
}

int memx_engine_init(struct memx_engine *e, const struct memx_engine_ops *ops, void *ctx, const u8 *kind, u8 lanes,
		     u32 requests)
{
	int err = 0;
	u8 i;

	memset(e, 0, sizeof(*e));
	e->ops = ops;
	e->ctx = ctx;
	if (lanes < 2 || lanes > MEMX_MAX_LANES || kind[0] != MEMX_LANE_STORE)
		return -EINVAL;
	memx_lock_init(&e->lock);
	for (i = 0; i < lanes && !err; i++) {
		if (kind[i] == MEMX_LANE_STORE)
			e->store_lane[e->n_store++] = i;
		else if (kind[i] == MEMX_LANE_FETCH)
			e->fetch_lane[e->n_fetch++] = i;
		else
			err = -EINVAL;
		e->lanes = i + 1;
		if (!err)
			err = lane_init(e, i, kind[i], requests);
	}
	if (!err && !e->n_fetch)
		err = -EINVAL;
	if (err) {
		memx_engine_free(e);
		return err;
	}
	memx_attach_init(&e->attach, lanes, kind, ops->random, ctx);
	e->attach.entered = ops->entered;
	return 0;
}

void memx_engine_free(struct memx_engine *e)
{
	u8 i;

	for (i = 0; i < e->lanes; i++) {
		memx_reqs_free(&e->lane[i].reqs);
		memx_table_free(e->lane[i].tx_bounce);
		memx_table_free(e->lane[i].rx_bounce);
		e->lane[i].tx_bounce = NULL;
		e->lane[i].rx_bounce = NULL;
	}
	memx_engine_unsize(e);
}

/* What was stored just now is seen by whoever takes a record from here on, and whoever was at one is done. */
static void records_pass(struct memx_engine *e)
{
	unsigned long flags;
	u8 i;

	for (i = 0; i < e->lanes; i++) {
		memx_lock(&e->lane[i].lock, flags);
		memx_unlock(&e->lane[i].lock, flags);
	}
}

int memx_engine_size(struct memx_engine *e, u32 slots, u8 order)
{
	struct memx_slots s;
	struct memx_records_table t;
	int err;

	err = memx_slots_init(&s, slots, order);
	if (err)
		return err;
	err = memx_records_init(&t, memx_extents(slots, order));
	if (err) {
		memx_slots_free(&s);
		return err;
	}
	/* The lanes do not go yet, but they are up: a relay may send records already. */
	memx_store_once(&e->sizing, true);
	records_pass(e);
	memx_engine_unsize(e);
	e->slots = s;
	e->records = t;
	memx_store_release(&e->sizing, false);
	return 0;
}

void memx_engine_unsize(struct memx_engine *e)
{
	memx_slots_free(&e->slots);
	memx_records_free(&e->records);
}

/* ---- lanes up and down ---- */

void memx_lane_up(struct memx_lane *l, struct memx_vring *ring)
{
	unsigned long flags;

	memx_lock(&l->lock, flags);
	/* What was handed over, and the epoch, are of the channel before: until this one has its own no record is welcome. */
	memx_store_once(&l->engine->mapped, false);
	l->ring = ring;
	l->n_owed = 0;
	memx_store_once(&l->failed, false);
	l->was_live = false;
	l->ctl_waits = false;
	l->go = false;
	l->up = true;
	memx_unlock(&l->lock, flags);
}

bool memx_lane_down(struct memx_lane *l)
{
	unsigned long flags;
	u32 pages = 0;
	bool quiet;

	memx_lock(&l->lock, flags);
	l->up = false;
	l->go = false;
	l->n_owed = 0;
	quiet = !l->tx_owner && !l->rx_owner;
	if (quiet)
		pages = memx_reqs_lost(&l->reqs);
	memx_unlock(&l->lock, flags);
	if (pages)
		l->engine->ops->count(l->engine->ctx, MEMX_C_resent, pages);
	return quiet;
}

static void wake_lanes(struct memx_engine *e)
{
	u8 i;

	for (i = 0; i < e->lanes; i++)
		e->ops->wake_lane(e->ctx, i);
}

void memx_engine_go(struct memx_engine *e)
{
	struct memx_agreed agreed;
	unsigned long flags;
	bool good = true;
	u8 i;

	memx_lock(&e->lock, flags);
	agreed = e->attach.agreed;
	memx_unlock(&e->lock, flags);
	for (i = 0; i < e->lanes && good; i++) {
		struct memx_lane *l = &e->lane[i];

		memx_lock(&l->lock, flags);
		if (l->up && !l->failed) {
			good = !memx_reqs_limits(&l->reqs, l->kind, agreed.extent_order, agreed.max_pages,
						 agreed.lane_requests, agreed.lane_pages, l->ring->rx_size,
						 l->ring->tx_size);
			l->go = good;
		}
		memx_unlock(&l->lock, flags);
		if (!good)
			memx_lane_lost(l, "limits that let nothing pass");
	}
	if (good)
		wake_lanes(e);
}

u32 memx_engine_take(struct memx_engine *e)
{
	unsigned long flags;
	u32 actions;

	memx_lock(&e->lock, flags);
	/*
	 * What is due comes first, and a new offer, which nothing may take back before it is made, with the next call: until the
	 * lanes of the channel before are down each of them may find for itself that it is lost.
	 */
	if (!e->actions)
		e->actions = memx_attach_tick(&e->attach, e->ops->now(e->ctx));
	actions = e->actions;
	e->actions = 0;
	memx_unlock(&e->lock, flags);
	return actions;
}

void memx_engine_act(struct memx_engine *e, u32 actions)
{
	memx_assert_held(&e->lock);
	/* What is due to a channel that is lost before it was done must not be done to the next one. */
	if (actions & MEMX_ACT_WITHDRAW)
		e->actions &= ~MEMX_ACT_CHANNEL;
	e->actions |= actions;
	if (actions)
		e->ops->wake_session(e->ctx);
}

void memx_engine_departed(struct memx_engine *e)
{
	unsigned long flags;

	memx_lock(&e->lock, flags);
	memx_attach_departed(&e->attach, e->ops->now(e->ctx));
	memx_unlock(&e->lock, flags);
	e->ops->wake_session(e->ctx);
}

/* ---- control frames ---- */

/* Shows @len bytes of @l to the relay, as the owner of its sending side. */
static void publish(struct memx_lane *l, u32 len, bool *notify)
{
	*notify |= memx_vring_publish(l->ring, len);
}

/* -EAGAIN turned into a wish to be told of room. True: look again now. */
static bool room_again(struct memx_lane *l, u32 len, bool *asked)
{
	if (*asked)
		return false;
	*asked = true;
	memx_vring_want(l->ring, MEMX_VCHAN_READ);
	return memx_vring_space(l->ring) >= (int)len;
}

static int send_head(struct memx_engine *e, struct memx_lane *l)
{
	struct memx_attach body;
	struct memx_head head = { .op = MEMX_OP_ATTACH, .len = sizeof(body) };
	unsigned long flags;
	u32 records;

	memx_lock(&e->lock, flags);
	memx_store_once(&e->epoch, e->attach.epoch);
	memx_store_once(&e->mapped, false);
	e->seed = memx_session_seed(e->attach.session);
	memx_unlock(&e->lock, flags);
	/* From here to the end of the map the records stay as they are counted now. */
	records_pass(e);
	records = memx_records_count(&e->records);
	memx_lock(&e->lock, flags);
	memx_attach_build(&e->attach, records, &body);
	memx_unlock(&e->lock, flags);
	head.tag = e->epoch;
	head.epoch = e->epoch;
	return memx_frame_small(l->ring, &head, &body, (u32)MEMX_RESERVE_REQUEST);
}

static int send_map(struct memx_engine *e, struct memx_lane *l, u32 *next)
{
	struct memx_record *recs = l->tx_bounce;
	u32 at = *next, n;
	int len;

	n = memx_records_walk(&e->records, &at, recs, MEMX_MAX_RECORDS);
	len = memx_frame_map(l->ring, e->epoch, recs, n, at >= e->records.extents, (u32)MEMX_RESERVE_REQUEST);
	if (len <= 0)
		return len;
	*next = at;
	if (at >= e->records.extents)
		memx_store_once(&e->mapped, true);	/* written, but not shown: the relay cannot propose records yet */
	return len;
}

/* Gives the sending side of @l back after @len (frame or error). */
static int control_end(struct memx_lane *l, int len, bool notify)
{
	struct memx_engine *e = l->engine;
	unsigned long flags;

	if (len == -EAGAIN) {
		memx_lock(&l->lock, flags);
		l->ctl_waits = true;
		memx_unlock(&l->lock, flags);
	}
	memx_lane_tx_give(l);
	if (notify) {
		e->ops->count(e->ctx, MEMX_C_notifies, 1);
		e->ops->notify(e->ctx, l->index);
	}
	if (len == -EPROTO)
		memx_lane_tx_broken(l);
	return len < 0 ? (len == -EAGAIN ? 0 : len) : 1;
}

int memx_engine_send_attach(struct memx_engine *e, bool *begun, u32 *next)
{
	struct memx_lane *l = &e->lane[0];
	bool notify = false, asked = false;
	int len;

	if (!memx_lane_tx_take(l))
		return 0;
	len = memx_lane_tx_owed(l, &notify);
	while (len >= 0 && (!*begun || !e->mapped)) {
		len = *begun ? send_map(e, l, next) : send_head(e, l);
		if (len == -EAGAIN && room_again(l, (u32)MEMX_RECORD_FRAME_MAX + (u32)MEMX_RESERVE_REQUEST, &asked)) {
			len = 0;
			continue;
		}
		if (len <= 0)
			break;
		publish(l, (u32)len, &notify);
		*begun = true;
	}
	return control_end(l, len, notify);
}

/*
 * Stops what was to be sent still (discards, of pages that are freed as a whole now) and looks whether everything that was
 * sent is answered. Behind DETACH the relay takes no request, on no lane, and answers what it has with UNKNOWN.
 */
static bool all_answered(struct memx_engine *e)
{
	unsigned long flags;
	bool out = false;
	u8 i;

	for (i = 0; i < e->lanes; i++) {
		struct memx_lane *l = &e->lane[i];

		memx_lock(&l->lock, flags);
		l->go = false;
		out |= l->tx_owner || l->reqs.used_requests;
		memx_unlock(&l->lock, flags);
	}
	return !out;
}

/* A relay that leaves requests unanswered for so long gets its DETACH all the same. */
static bool waited_enough(struct memx_engine *e)
{
	u64 now = e->ops->now(e->ctx), since;
	unsigned long flags;

	memx_lock(&e->lock, flags);
	since = e->attach.since;
	memx_unlock(&e->lock, flags);
	return now - since >= DETACH_WAIT;
}

int memx_engine_send_detach(struct memx_engine *e)
{
	struct memx_lane *l = &e->lane[0];
	struct memx_head head = { .op = MEMX_OP_DETACH, .tag = e->epoch, .epoch = e->epoch };
	bool notify = false, asked = false;
	int len;

	if (!all_answered(e) && !waited_enough(e))
		return 0;
	if (!memx_lane_tx_take(l))
		return 0;
	len = memx_lane_tx_owed(l, &notify);
	if (len >= 0) {
		len = memx_frame_small(l->ring, &head, NULL, (u32)MEMX_RESERVE_REQUEST);
		if (len == -EAGAIN && room_again(l, MEMX_HDR_LEN + (u32)MEMX_RESERVE_REQUEST, &asked))
			len = memx_frame_small(l->ring, &head, NULL, (u32)MEMX_RESERVE_REQUEST);
	}
	if (len > 0)
		publish(l, (u32)len, &notify);
	return control_end(l, len, notify);
}

/* ---- what waits ---- */

/* Moves what is older than @before from @from to @to. */
static void expire_list(struct list_head *from, u64 before, struct list_head *to)
{
	struct memx_item *item, *next;

	list_for_each_entry_safe(item, next, from, node)
		if (item->born < before)
			list_move_tail(&item->node, to);
}

/* Items of @l that end now with @err: marks their slots. Returns how many are pages of the swap core. */
static u32 give_up(struct memx_lane *l, struct list_head *items, int err)
{
	struct memx_item *item;
	u32 n = 0;

	memx_assert_held(&l->lock);
	list_for_each_entry(item, items, node) {
		item->error = err;
		n += item->op != MEMX_OP_DISCARD;
		if (item->op == MEMX_OP_STORE && item->queued)
			memx_slot_failed(&l->engine->slots, item->slot);
		else if (item->op == MEMX_OP_DISCARD)
			memx_slot_undiscarded(&l->engine->slots, item->slot, item->version);
	}
	return n;
}

/* The slots of @items are free of their stores: what was held for them may go on. */
static void unhold(struct memx_lane *l, struct list_head *items, struct list_head *again)
{
	struct memx_item *item;

	if (list_empty(&l->held))
		return;
	list_for_each_entry(item, items, node)
		memx_lane_release(l, item->slot, again);
}

static void tick_lane(struct memx_lane *l, u64 before, struct list_head *done, struct list_head *again)
{
	struct memx_engine *e = l->engine;
	struct memx_item *item, *next;
	struct list_head late;
	unsigned long flags;
	u32 n = 0;

	INIT_LIST_HEAD(&late);
	memx_lock(&l->lock, flags);
	if (before) {
		memx_reqs_expire(&l->reqs, before, &late);
		expire_list(&l->parked, before, &late);
		expire_list(&l->held, before, &late);
		n = give_up(l, &late, -ETIMEDOUT);
		unhold(l, &late, again);
		list_splice_tail_init(&late, done);
	}
	list_for_each_entry_safe(item, next, &l->parked, node) {
		list_del_init(&item->node);
		/* A fetch asks its slot anew; a store owns its slot and a discard its version already. */
		if (item->op == MEMX_OP_FETCH)
			list_add_tail(&item->node, again);
		else
			memx_reqs_queue(&l->reqs, item);
	}
	memx_unlock(&l->lock, flags);
	if (n)
		e->ops->count(e->ctx, MEMX_C_expired, n);
}

void memx_engine_tick(struct memx_engine *e, u64 before)
{
	struct list_head done, again;
	struct memx_item *item, *next;
	u8 i;

	INIT_LIST_HEAD(&done);
	INIT_LIST_HEAD(&again);
	for (i = 0; i < e->lanes; i++)
		tick_lane(&e->lane[i], before, &done, &again);
	list_for_each_entry_safe(item, next, &again, node) {
		list_del_init(&item->node);
		memx_engine_route(e, item, &done);
	}
	memx_engine_finish(e, &done);
	wake_lanes(e);
}

void memx_engine_hurry(struct memx_engine *e)
{
	unsigned long flags;
	bool due;
	u8 i;

	for (i = 0; i < e->lanes; i++) {
		struct memx_lane *l = &e->lane[i];

		memx_lock(&l->lock, flags);
		due = l->up && l->go && memx_reqs_hurry(&l->reqs);
		memx_unlock(&l->lock, flags);
		if (due)
			e->ops->wake_lane(e->ctx, i);
	}
}

/* Is the relay expected to do something here: answer, make room, come at all? */
static bool waits_for_relay(const struct memx_lane *l)
{
	return !l->go || l->n_owed || l->reqs.used_requests || l->reqs.n_pending;
}

void memx_engine_look(struct memx_engine *e)
{
	unsigned long flags;
	bool due;
	u8 i;

	for (i = 0; i < e->lanes; i++) {
		struct memx_lane *l = &e->lane[i];

		memx_lock(&l->lock, flags);
		due = l->up && waits_for_relay(l);
		memx_unlock(&l->lock, flags);
		if (due)
			e->ops->wake_lane(e->ctx, i);
	}
}

void memx_engine_gone(struct memx_engine *e, bool gone)
{
	memx_store_once(&e->gone, gone);
}

void memx_engine_abandon(struct memx_engine *e, int err)
{
	struct list_head done;
	unsigned long flags;
	u8 i;

	INIT_LIST_HEAD(&done);
	for (i = 0; i < e->lanes; i++) {
		struct memx_lane *l = &e->lane[i];
		struct list_head mine;

		INIT_LIST_HEAD(&mine);
		memx_lock(&l->lock, flags);
		list_splice_tail_init(&l->reqs.pending, &mine);
		l->reqs.n_pending = 0;
		list_splice_tail_init(&l->parked, &mine);
		list_splice_tail_init(&l->held, &mine);
		give_up(l, &mine, err);
		list_splice_tail_init(&mine, &done);
		memx_unlock(&l->lock, flags);
	}
	memx_engine_finish(e, &done);
}

/* Moves the discards of @from to @to; how many. */
static u32 pick_discards(struct list_head *from, struct list_head *to)
{
	struct memx_item *item, *next;
	u32 n = 0;

	list_for_each_entry_safe(item, next, from, node) {
		if (item->op != MEMX_OP_DISCARD)
			continue;
		list_move_tail(&item->node, to);
		n++;
	}
	return n;
}

void memx_engine_drop_discards(struct memx_engine *e, bool suspending)
{
	struct list_head done;
	unsigned long flags;
	bool due;
	u8 i;

	memx_lock(&e->lock, flags);
	due = suspending || e->attach.detach;
	memx_unlock(&e->lock, flags);
	INIT_LIST_HEAD(&done);
	for (i = 0; i < e->lanes && due; i++) {
		struct memx_lane *l = &e->lane[i];
		struct list_head mine;

		INIT_LIST_HEAD(&mine);
		memx_lock(&l->lock, flags);
		l->reqs.n_pending -= pick_discards(&l->reqs.pending, &mine);
		pick_discards(&l->parked, &mine);
		give_up(l, &mine, -ECANCELED);
		list_splice_tail_init(&mine, &done);
		memx_unlock(&l->lock, flags);
	}
	memx_engine_finish(e, &done);
}

bool memx_engine_idle(struct memx_engine *e)
{
	unsigned long flags;
	bool idle = true;
	u8 i;

	for (i = 0; i < e->lanes && idle; i++) {
		struct memx_lane *l = &e->lane[i];

		memx_lock(&l->lock, flags);
		idle = memx_reqs_idle(&l->reqs) && list_empty(&l->parked) && list_empty(&l->held);
		memx_unlock(&l->lock, flags);
	}
	return idle;
}

bool memx_engine_parked(struct memx_engine *e)
{
	unsigned long flags;
	bool parked = false;
	u8 i;

	for (i = 0; i < e->lanes && !parked; i++) {
		memx_lock(&e->lane[i].lock, flags);
		parked = !list_empty(&e->lane[i].parked);
		memx_unlock(&e->lane[i].lock, flags);
	}
	return parked;
}
