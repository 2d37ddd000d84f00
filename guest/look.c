// SPDX-License-Identifier: GPL-2.0-only
/*
 * look.c - the session as sysfs and debugfs see it, and the settings that may change while it runs. Wait-free, but
 * for memx_session_lane_stand() and memx_session_reason(), which take a lock for some loads.
 */
#include <linux/mm.h>

#include "session_int.h"

bool memx_session_swap_on(const struct memx_session *s)
{
	return READ_ONCE(s->sis);
}

enum memx_attach_state memx_session_state(const struct memx_session *s)
{
	return READ_ONCE(s->engine.attach.state);
}

u32 memx_session_slots(const struct memx_session *s)
{
	return READ_ONCE(s->slots);
}

u64 memx_session_epoch(const struct memx_session *s)
{
	return READ_ONCE(s->engine.attach.epoch);
}

u64 memx_session_counter(const struct memx_session *s, enum memx_counter what)
{
	return (unsigned int)what < MEMX_C_COUNT ? (u64)atomic64_read(&s->counter[what]) : 0;
}

u32 memx_session_inflight(const struct memx_session *s)
{
	return (u32)atomic_read(&s->pages);
}

unsigned int memx_session_lanes(const struct memx_session *s)
{
	return s->engine.lanes;
}

void memx_session_lane(const struct memx_session *s, unsigned int lane, u8 *kind, struct memx_lane_counters *to)
{
	*kind = s->engine.lane[lane].kind;
	memx_link_counters(s->link, lane, to);
}

static u32 items(const struct list_head *head)
{
	const struct list_head *node;
	u32 n = 0;

	list_for_each(node, head)
		n++;
	return n;
}

static u64 age_ms(u64 now, u64 since)
{
	return now > since ? div_u64(now - since, NSEC_PER_MSEC) : 0;
}

/* The ring is there while the lane is up. What its owners move meanwhile is read as it stands, once. */
static void look_at_ring(const struct memx_lane *l, struct memx_lane_stand *to)
{
	const struct memx_vring *r = l->ring;

	lockdep_assert_held(&l->lock);
	to->tx_size = r->tx_size;
	to->rx_size = r->rx_size;
	to->tx_used = READ_ONCE(r->tx_prod) - memx_load_once(r->tx_cons_shr);
	to->rx_ready = memx_load_once(r->rx_prod_shr) - READ_ONCE(r->rx_cons);
	to->wish_own = memx_load_once(r->wish_own);
	to->wish_peer = memx_load_once(r->wish_peer);
}

void memx_session_lane_stand(struct memx_session *s, unsigned int lane, struct memx_lane_stand *to)
{
	struct memx_engine *e = &s->engine;
	struct memx_lane *l = &e->lane[lane];
	const struct memx_reqs *q = &l->reqs;
	u64 now = e->ops->now(e->ctx);
	unsigned long flags;

	memset(to, 0, sizeof(*to));
	memx_lock(&l->lock, flags);
	to->up = l->up;
	to->go = l->go;
	to->failed = l->failed;
	to->tx_owner = l->tx_owner;
	to->tx_again = l->tx_again;
	to->rx_owner = l->rx_owner;
	to->rx_again = l->rx_again;
	to->pending = q->n_pending;
	to->parked = items(&l->parked);
	to->held = items(&l->held);
	to->owed = l->n_owed;
	to->requests = q->used_requests;
	to->requests_max = q->limit_requests;
	to->pages = q->used_pages;
	to->pages_max = q->limit_pages;
	to->reply = q->used_reply;
	to->reply_max = q->limit_reply;
	if (!list_empty(&q->pending))
		to->pending_ms = age_ms(now, list_first_entry(&q->pending, struct memx_item, node)->born);
	if (!list_empty(&q->out))
		to->out_ms = age_ms(now, list_first_entry(&q->out, struct memx_req, node)->sent);
	if (l->up && l->ring)
		look_at_ring(l, to);
	memx_unlock(&l->lock, flags);
	to->due = test_bit(0, &s->lanes[lane].due);
	to->live = to->up && e->ops->peer(e->ctx, lane) == MEMX_VCHAN_HERE;
}

size_t memx_session_memory(const struct memx_session *s)
{
	size_t requests = (size_t)s->engine.lanes * (MEMX_REQUESTS * sizeof(struct memx_req) + 2 * PAGE_SIZE);
	size_t tables = (size_t)s->engine.slots.count * sizeof(struct memx_slot) +
			(size_t)s->engine.records.extents * sizeof(struct memx_record);

	return sizeof(*s) + requests + tables + s->stores.bytes + s->fetches.bytes + s->discards.bytes +
	       (size_t)memx_link_pages(s->link) * PAGE_SIZE;
}

/* Another one may be drawn at this moment: never half of two. */
void memx_session_id(struct memx_session *s, u8 id[16])
{
	unsigned long flags;

	memx_lock(&s->engine.lock, flags);
	memcpy(id, s->engine.attach.session, 16);
	memx_unlock(&s->engine.lock, flags);
}

u8 memx_session_replicas(const struct memx_session *s)
{
	return READ_ONCE(s->slots) ? READ_ONCE(s->engine.attach.agreed.replicas) : 0;
}

u8 memx_session_extent_order(const struct memx_session *s)
{
	return READ_ONCE(s->slots) ? READ_ONCE(s->engine.attach.agreed.extent_order) : 0;
}

void memx_session_reason(const struct memx_session *s, char *to, size_t len)
{
	spinlock_t *lock = (spinlock_t *)&s->reason_lock;
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	strscpy(to, s->reason, len);
	spin_unlock_irqrestore(lock, flags);
}

u64 memx_session_latency(const struct memx_session *s, enum memx_latency what, unsigned int bucket)
{
	if ((unsigned int)what >= MEMX_LAT_COUNT || bucket >= MEMX_BUCKETS)
		return 0;
	return (u64)atomic64_read(&s->latency[what][bucket]);
}

void memx_session_latency_clear(struct memx_session *s)
{
	unsigned int i, j;

	for (i = 0; i < MEMX_LAT_COUNT; i++)
		for (j = 0; j < MEMX_BUCKETS; j++)
			atomic64_set(&s->latency[i][j], 0);
}

void memx_session_set_deadline(struct memx_session *s, u32 ms)
{
	WRITE_ONCE(s->deadline_ms, ms);
	memx_session_wake(s);
}

u32 memx_session_deadline(const struct memx_session *s)
{
	return READ_ONCE(s->deadline_ms);
}

void memx_session_set_trim(struct memx_session *s, u32 pages_per_second)
{
	WRITE_ONCE(s->trim_pages, pages_per_second);
	memx_session_wake(s);
}

u32 memx_session_trim(const struct memx_session *s)
{
	return READ_ONCE(s->trim_pages);
}
