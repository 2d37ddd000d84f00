// SPDX-License-Identifier: GPL-2.0-only
/*
 * look.c - the session as sysfs and debugfs see it, and the settings that may change while it runs. Wait-free.
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

size_t memx_session_memory(const struct memx_session *s)
{
	size_t requests = (size_t)s->engine.lanes * (MEMX_REQUESTS * sizeof(struct memx_req) + 2 * PAGE_SIZE);
	size_t tables = (size_t)s->engine.slots.count * sizeof(struct memx_slot) +
			(size_t)s->engine.records.extents * sizeof(struct memx_record);

	return sizeof(*s) + requests + tables + s->stores.bytes + s->fetches.bytes + s->discards.bytes +
	       (size_t)memx_link_pages(s->link) * PAGE_SIZE;
}

void memx_session_id(const struct memx_session *s, u8 id[16])
{
	memcpy(id, s->engine.attach.session, 16);
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
