// SPDX-License-Identifier: GPL-2.0-only
/*
 * lane.c - the way out: from a submitted item to a frame in a ring. lane.h tells who works and which lock guards what.
 *
 * Pure: compiled in the kernel, under KUnit and in user space.
 */
#include "lane.h"

/*
 * Frames that one submitter sends, for himself and others, before he leaves the rest to the lane's thread: he does it with preemption
 * off, or in an interrupt, and others may go on submitting for as long as he goes on. To look once more for them costs one, too.
 */
#define SEND_BUDGET	16

struct memx_lane *memx_engine_store_lane(struct memx_engine *e, u32 extent)
{
	return &e->lane[e->store_lane[extent % e->n_store]];
}

struct memx_lane *memx_engine_fetch_lane(struct memx_engine *e, u32 extent)
{
	return &e->lane[e->fetch_lane[extent % e->n_fetch]];
}

static void count(struct memx_engine *e, enum memx_counter what, u64 n)
{
	e->ops->count(e->ctx, what, n);
}

/* ---- routing: where does an item go, by what its slot says ---- */

static u32 end_here(struct memx_item *item, int err, struct list_head *done)
{
	item->error = err;
	list_add_tail(&item->node, done);
	return 0;
}

static u32 route_store(struct memx_engine *e, struct memx_lane *l, struct memx_item *item, struct list_head *done)
{
	unsigned long flags;
	bool same;
	u64 word;
	u32 push = 0;
	int err;

	/*
	 * The live page may change while it is looked at. Then it is dirty again and is stored again before anybody reads
	 * the slot, so a word that was true of no single moment is never read.
	 */
	same = memx_same_filled(item->page, &word);
	memx_lock(&l->lock, flags);
	if (memx_load_once(&e->gone))
		err = -EIO;
	else
		err = same ? memx_slot_same(&e->slots, item->slot, word) : memx_slot_begin(&e->slots, item->slot);
	if (err == -EBUSY) {
		list_add_tail(&item->node, &l->held);
	} else if (err || same) {
		end_here(item, err ? -EIO : 0, done);
	} else {
		item->queued = true;
		memx_reqs_queue(&l->reqs, item);
		push = 1U << l->index;
	}
	memx_unlock(&l->lock, flags);
	if (same && !err)
		count(e, MEMX_C_same_stored, 1);
	return push;
}

static u32 route_fetch(struct memx_engine *e, struct memx_lane *l, struct memx_item *item, struct list_head *done)
{
	u32 extent = item->slot >> e->slots.order;
	unsigned long flags;
	int err;

	memx_lock(&l->lock, flags);
	err = memx_load_once(&e->gone) ? -EIO : memx_slot_want(&e->slots, item->slot, &item->version, &item->check);
	if (err == -EBUSY)
		list_add_tail(&item->node, &l->held);
	memx_unlock(&l->lock, flags);

	switch (err) {
	case 0:
		l = memx_engine_fetch_lane(e, extent);
		memx_lock(&l->lock, flags);
		if (memx_load_once(&e->gone))
			err = -EIO;
		else
			memx_reqs_queue(&l->reqs, item);
		memx_unlock(&l->lock, flags);
		return err ? end_here(item, err, done) : 1U << l->index;
	case 1:
		memx_same_fill(item->page, item->check);
		count(e, MEMX_C_same_fetched, 1);
		return end_here(item, 0, done);
	case -EBUSY:
		return 0;
	case -ENODATA:
		count(e, MEMX_C_absent, 1);
		e->ops->bad_page(e->ctx, item->slot, item->version, MEMX_S_ABSENT);
		return end_here(item, -ENODATA, done);
	default:
		return end_here(item, -EIO, done);
	}
}

u32 memx_engine_route(struct memx_engine *e, struct memx_item *item, struct list_head *done)
{
	struct memx_lane *l;

	if (item->slot >= e->slots.count)
		return end_here(item, -EIO, done);
	l = memx_engine_store_lane(e, item->slot >> e->slots.order);
	if (item->op == MEMX_OP_STORE)
		return route_store(e, l, item, done);
	return route_fetch(e, l, item, done);
}

void memx_engine_finish(struct memx_engine *e, struct list_head *done)
{
	struct memx_item *item, *next;

	list_for_each_entry_safe(item, next, done, node) {
		list_del_init(&item->node);
		e->ops->done(e->ctx, item, item->error);
	}
}

void memx_engine_push(struct memx_engine *e, u32 lanes)
{
	u8 i;

	for (i = 0; i < e->lanes; i++)
		if (lanes & 1U << i)
			memx_lane_send(&e->lane[i]);
}

void memx_engine_submit(struct memx_engine *e, struct list_head *list)
{
	u64 now = e->ops->now(e->ctx);
	struct memx_item *item, *next;
	struct list_head done;
	u32 push = 0;

	INIT_LIST_HEAD(&done);
	list_for_each_entry_safe(item, next, list, node) {
		list_del_init(&item->node);
		item->tries = 0;
		item->queued = false;
		item->error = 0;
		item->born = now;
		push |= memx_engine_route(e, item, &done);
	}
	memx_engine_push(e, push);
	memx_engine_finish(e, &done);
}

bool memx_engine_discard(struct memx_engine *e, u32 slot, bool (*freed)(void *arg, u32 slot), void *arg,
			 struct memx_item *item)
{
	struct memx_lane *l;
	unsigned long flags;
	u64 version = 0;

	if (slot >= e->slots.count)
		return false;
	l = memx_engine_store_lane(e, slot >> e->slots.order);
	memx_lock(&l->lock, flags);
	if (!memx_load_once(&e->gone))
		version = memx_slot_discard(&e->slots, slot, freed(arg, slot));
	if (version) {
		item->op = MEMX_OP_DISCARD;
		item->slot = slot;
		item->page = NULL;
		item->version = version;
		item->tries = 0;
		item->queued = false;
		item->error = 0;
		item->born = e->ops->now(e->ctx);
		memx_reqs_queue(&l->reqs, item);
	}
	memx_unlock(&l->lock, flags);
	if (version)
		memx_lane_send(l);
	return version;
}

/* ---- sending ---- */

void memx_lane_tx_broken(struct memx_lane *l)
{
	memx_lane_lost(l, "indices of the request ring that cannot be");
}

void memx_lane_tx_look(struct memx_lane *l, unsigned long *flags)
{
	memx_assert_held(&l->lock);
	if (memx_vring_space(l->ring) >= 0)
		return;
	memx_unlock(&l->lock, *flags);
	memx_lane_tx_broken(l);
	memx_lock(&l->lock, *flags);
}

bool memx_lane_tx_take(struct memx_lane *l)
{
	unsigned long flags;
	bool mine;

	memx_lock(&l->lock, flags);
	mine = l->up && !l->failed && !l->tx_owner;
	if (mine)
		l->tx_owner = true;
	memx_unlock(&l->lock, flags);
	return mine;
}

void memx_lane_tx_give(struct memx_lane *l)
{
	unsigned long flags;
	bool again;

	memx_lock(&l->lock, flags);
	memx_lane_tx_look(l, &flags);
	l->tx_owner = false;
	again = l->tx_again;
	l->tx_again = false;
	memx_unlock(&l->lock, flags);
	if (again)
		l->engine->ops->wake_lane(l->engine->ctx, l->index);
}

/* No room: asks to be told of some, and looks once more. True: there is room for @len bytes now. */
static bool wait_room(struct memx_lane *l, u32 len)
{
	memx_vring_want(l->ring, MEMX_VCHAN_READ);
	return memx_vring_space(l->ring) >= (int)len;
}

static int send_owed(struct memx_lane *l, const struct memx_owed *owed)
{
	struct memx_head head = owed->head;
	struct memx_hello hello;
	unsigned long flags;
	int len;

	if (head.op == MEMX_OP_HELLO) {
		memx_lock(&l->engine->lock, flags);
		memx_attach_hello_build(&l->engine->attach, l->index, owed->proto, &hello);
		memx_unlock(&l->engine->lock, flags);
		head.len = sizeof(hello);
	}
	len = memx_frame_small(l->ring, &head, &hello, 0);
	if (len == -EAGAIN && wait_room(l, MEMX_HDR_LEN + head.len))
		len = memx_frame_small(l->ring, &head, &hello, 0);
	return len;
}

int memx_lane_tx_owed(struct memx_lane *l, bool *notify)
{
	unsigned long flags;
	struct memx_owed owed;
	int len = 0;
	u32 i;

	memx_lock(&l->lock, flags);
	while (l->n_owed && l->up && !l->failed) {
		owed = l->owed[0];
		memx_unlock(&l->lock, flags);
		len = send_owed(l, &owed);
		memx_lock(&l->lock, flags);
		if (len < 0 || !l->up)
			break;
		*notify |= memx_vring_publish(l->ring, (u32)len);
		l->n_owed--;
		for (i = 0; i < l->n_owed; i++)
			l->owed[i] = l->owed[i + 1];
	}
	memx_unlock(&l->lock, flags);
	return len < 0 ? len : 0;
}

/*
 * Versions of what goes out now. A store gets a new one each time that it is sent: the kernel may have changed the page
 * since the last time, so these are other bytes. A discard keeps its own, and is void if the slot was stored since.
 */
static void give_versions(struct memx_lane *l, struct memx_req *r, struct list_head *done)
{
	struct memx_engine *e = l->engine;
	u32 i, n = 0;

	memx_assert_held(&l->lock);
	for (i = 0; i < r->count; i++) {
		struct memx_item *item = r->item[i];

		if (r->op == MEMX_OP_STORE) {
			item->version = memx_slot_send(&e->slots, item->slot);
			if (!item->version) {
				memx_slot_failed(&e->slots, item->slot);
				end_here(item, -EIO, done);
				continue;
			}
		} else if (r->op == MEMX_OP_DISCARD && memx_slot_version(&e->slots, item->slot) != item->version) {
			end_here(item, 0, done);
			continue;
		}
		r->item[n] = item;
		r->slot[n++] = item->slot;
	}
	memx_reqs_shrink(&l->reqs, r, n);
}

static const enum memx_counter sent_counter[] = {
	[MEMX_OP_STORE]		= MEMX_C_store_requests,
	[MEMX_OP_FETCH]		= MEMX_C_fetch_requests,
	[MEMX_OP_DISCARD]	= MEMX_C_discard_requests,
};

static u64 held_generation(struct memx_engine *e, u32 extent)
{
	struct memx_lane *l = memx_engine_store_lane(e, extent);
	unsigned long flags;
	u64 generation;

	memx_lock(&l->lock, flags);
	generation = memx_records_generation(&e->records, extent);
	memx_unlock(&l->lock, flags);
	return generation;
}

/* Writes @r as the owner of the sending side, without the lock. As memx_frame_request(). */
static int write_request(struct memx_lane *l, struct memx_req *r)
{
	struct memx_engine *e = l->engine;
	u32 body = r->op == MEMX_OP_STORE ? memx_store_len(r->count) : memx_want_len(r->count);
	u64 generation = held_generation(e, r->extent);
	int len;

	len = memx_frame_request(l->ring, r, e->epoch, generation, e->seed, 0, l->tx_bounce, (u32)MEMX_RESERVE_REQUEST);
	if (len == -EAGAIN && wait_room(l, MEMX_HDR_LEN + body + (u32)MEMX_RESERVE_REQUEST))
		len = memx_frame_request(l->ring, r, e->epoch, generation, e->seed, 0, l->tx_bounce,
					 (u32)MEMX_RESERVE_REQUEST);
	return len;
}

/* @r was written with @len bytes, or not. 1: it is out; 0: no room, it is pending again; -EPROTO. */
static int written(struct memx_lane *l, struct memx_req *r, int len, bool *notify)
{
	struct memx_engine *e = l->engine;

	memx_assert_held(&l->lock);
	if (len < 0) {
		memx_reqs_unget(&l->reqs, r);
		return len == -EAGAIN ? 0 : len;
	}
	memx_reqs_sent(&l->reqs, r, e->ops->now(e->ctx));
	*notify |= memx_vring_publish(l->ring, (u32)len);
	count(e, sent_counter[r->op], 1);
	return 1;
}

/* Sends for everybody until nothing may go, or *@budget frames are out. Returns false when the ring is broken. */
static bool send_all(struct memx_lane *l, struct list_head *done, bool *notify, unsigned int *budget)
{
	struct memx_req *r;
	unsigned long flags;
	int err;

	err = memx_lane_tx_owed(l, notify);
	if (err)
		return err == -EAGAIN;
	memx_lock(&l->lock, flags);
	while (*budget && l->up && l->go && !l->failed) {
		r = memx_reqs_next(&l->reqs);
		if (!r)
			break;
		give_versions(l, r, done);
		if (!r->count) {
			memx_reqs_unget(&l->reqs, r);
			continue;
		}
		memx_unlock(&l->lock, flags);
		err = write_request(l, r);
		memx_lock(&l->lock, flags);
		err = written(l, r, err, notify);
		if (err <= 0)
			break;
		--*budget;
	}
	memx_unlock(&l->lock, flags);
	return err >= 0;
}

void memx_lane_send(struct memx_lane *l)
{
	struct memx_engine *e = l->engine;
	bool notify = false, again, good;
	unsigned int budget = SEND_BUDGET;
	struct list_head done;
	unsigned long flags;

	INIT_LIST_HEAD(&done);
	memx_owner_enter();
	memx_lock(&l->lock, flags);
	if (!l->up || l->failed || l->tx_owner) {
		l->tx_again = l->tx_owner;
		memx_unlock(&l->lock, flags);
		memx_owner_leave();
		return;
	}
	l->tx_owner = true;
	do {
		l->tx_again = false;
		memx_unlock(&l->lock, flags);
		good = send_all(l, &done, &notify, &budget);
		memx_lock(&l->lock, flags);
		again = l->tx_again && good;
	} while (again && budget && --budget);
	memx_lane_tx_look(l, &flags);
	l->tx_owner = false;
	l->tx_again = false;
	if (notify && l->up) {
		count(e, MEMX_C_notifies, 1);
		e->ops->notify(e->ctx, l->index);
	}
	memx_unlock(&l->lock, flags);
	memx_owner_leave();

	if (!budget)
		e->ops->wake_lane(e->ctx, l->index);
	memx_engine_finish(e, &done);
}
