// SPDX-License-Identifier: GPL-2.0-only
/*
 * native.c - making and ending a native guest, and what programs do with it; see native.h.
 *
 * Operations belong to their submitter again when done() is called. The blocking calls wait for their own operations, by
 * driving the guest or, where it has a thread, for its word.
 */
#include <errno.h>
#include <memx/check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <user/text.h>

#include "internal.h"

enum {
	REQUESTS	= 1024,		/* entries of a lane's table: more than any relay allows to be out */
};

/* ---- what the engine asks for ---- */

static u64 op_now(void *ctx __attribute__((unused)))
{
	return memx_now();
}

static u64 op_random(void *ctx __attribute__((unused)))
{
	return memx_random_u64();
}

static void op_done(void *ctx, struct memx_item *item, int err)
{
	struct native *n = ctx;
	struct native_op *op = container_of(item, struct native_op, item);

	op->err = err;
	if (!op->done) {
		/* A blocking call's: it may be gone as soon as it sees the end. */
		if (n->threaded)
			pthread_mutex_lock(&n->lock);
		__atomic_store_n(&op->ended, true, __ATOMIC_RELEASE);
		if (n->threaded) {
			pthread_cond_broadcast(&n->changed);
			pthread_mutex_unlock(&n->lock);
		}
		return;
	}
	op->ended = true;
	op->done(op);
}

static void wake(struct native *n, u32 what)
{
	const u64 one = 1;

	atomic_fetch_or(&n->due, what);
	if (atomic_load(&n->driver_waits) && write(n->wake, &one, sizeof(one)) < 0)
		abort();		/* the counter cannot be full: the driver takes it with every round */
}

static void op_wake_lane(void *ctx, unsigned int lane)
{
	wake(ctx, 1U << lane);
}

static void op_wake_session(void *ctx)
{
	wake(ctx, NATIVE_SESSION);
}

static void op_count(void *ctx, enum memx_counter what, u64 add)
{
	struct native *n = ctx;

	atomic_fetch_add_explicit(&n->counters[what], add, memory_order_relaxed);
}

static void op_violation(void *ctx, unsigned int lane, const char *what)
{
	native_say(ctx, "the relay broke the protocol on lane %u: %s", lane, what);
}

static void op_bad_page(void *ctx, u32 slot, u64 version, u32 status)
{
	struct native *n = ctx;

	atomic_fetch_add(&n->bad_pages, 1);
	native_say(n, "slot %u version %llu: %s", slot, (unsigned long long)version, memx_attach_why(status));
}

static const struct memx_engine_ops engine_ops = {
	.now = op_now,
	.random = op_random,
	.notify = native_link_notify,
	.peer = native_link_peer,
	.done = op_done,
	.wake_lane = op_wake_lane,
	.wake_session = op_wake_session,
	.count = op_count,
	.violation = op_violation,
	.bad_page = op_bad_page,
};

/* ---- life ---- */

static int watch(struct native *n)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = MEMX_MAX_LANES + 1 };

	n->epoll = epoll_create1(EPOLL_CLOEXEC);
	n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->epoll < 0 || n->wake < 0 || epoll_ctl(n->epoll, EPOLL_CTL_ADD, n->wake, &ev))
		return -errno;
	return native_link_watch(n);
}

/* Who does not say which UUID it has gets the one that goes with its name: the relay tells guests apart by it. */
static void name_uuid(struct native_config *c)
{
	static const u8 none[16];
	u64 half[2];

	if (memcmp(c->uuid, none, sizeof(none)))
		return;
	half[0] = memx_xxh64(c->name, strlen(c->name), 0);
	half[1] = memx_xxh64(c->name, strlen(c->name), 1);
	memcpy(c->uuid, half, sizeof(c->uuid));
}

static void release(struct native *n)
{
	native_link_free(n);
	memx_engine_free(&n->engine);
	if (n->epoll >= 0)
		close(n->epoll);
	if (n->wake >= 0)
		close(n->wake);
	pthread_cond_destroy(&n->changed);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

struct native *native_new(const struct native_config *config)
{
	struct native *n = calloc(1, sizeof(*n));
	u8 kind[MEMX_MAX_LANES];
	u8 store = config->store_lanes ? config->store_lanes : 1, fetch = config->fetch_lanes ? config->fetch_lanes : 1;
	pthread_condattr_t attr;
	int err = -EINVAL;

	if (!n)
		return NULL;
	n->config = *config;
	name_uuid(&n->config);
	n->epoll = n->wake = n->sock = -1;
	pthread_mutex_init(&n->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&n->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (store + fetch <= MEMX_MAX_LANES) {
		n->lanes = store + fetch;
		memset(kind, MEMX_LANE_FETCH, sizeof(kind));
		memset(kind, MEMX_LANE_STORE, store);
		err = memx_engine_init(&n->engine, &engine_ops, n, kind, n->lanes, REQUESTS);
	}
	n->engine.attach.slots_wanted = config->slots;
	n->engine.attach.replicas_wanted = config->replicas;
	if (!err)
		err = native_link_new(n);
	if (!err)
		err = watch(n);
	if (err) {
		release(n);
		errno = -err;
		return NULL;
	}
	return n;
}

static void *drive(void *arg)
{
	struct native *n = arg;

	while (!(atomic_load(&n->due) & NATIVE_STOP))
		native_poll(n, ~0ULL);
	return NULL;
}

int native_start(struct native *n, bool threaded)
{
	struct memx_engine *e = &n->engine;
	unsigned long flags;
	int err = 0;

	memx_lock(&e->lock, flags);
	memx_engine_act(e, memx_attach_start(&e->attach, memx_now()));
	memx_unlock(&e->lock, flags);
	if (n->config.deadline_ns)
		n->tick_at = memx_now();
	if (threaded) {
		n->threaded = true;
		err = -pthread_create(&n->thread, NULL, drive, n);
		if (err)
			n->threaded = false;
	}
	return err;
}

void native_free(struct native *n, enum native_end end)
{
	if (n->threaded) {
		wake(n, NATIVE_STOP);
		pthread_join(n->thread, NULL);
		n->threaded = false;
	}
	memx_engine_gone(&n->engine, true);
	if (n->sock >= 0 && end != NATIVE_CRASH)
		memx_shm_say(n->sock, end == NATIVE_SUSPEND ? MEMX_SHM_SUSPEND : MEMX_SHM_SHUTDOWN, NULL);
	for (u8 i = 0; i < n->lanes; i++)
		memx_lane_down(&n->engine.lane[i]);
	memx_engine_abandon(&n->engine, -ECANCELED);
	release(n);
}

/* ---- waiting ---- */

static void until(struct timespec *ts, u64 at)
{
	ts->tv_sec = (time_t)(at / 1000000000);
	ts->tv_nsec = (long)(at % 1000000000);
}

/* Something may have changed when it returns; at the latest at the time @at. */
static void await(struct native *n, const bool *ended, u64 at)
{
	struct timespec ts;
	u64 now;

	if (!n->threaded) {
		now = memx_now();
		native_poll(n, at > now ? at - now : 0);
		return;
	}
	until(&ts, at);
	pthread_mutex_lock(&n->lock);
	if (!ended || !__atomic_load_n(ended, __ATOMIC_ACQUIRE))
		pthread_cond_timedwait(&n->changed, &n->lock, &ts);
	pthread_mutex_unlock(&n->lock);
}

int native_wait(struct native *n, enum memx_attach_state state, u64 timeout_ns)
{
	u64 end = memx_now() + timeout_ns, now;

	for (;;) {
		enum memx_attach_state is = native_state(n);
		char why[8];

		if (is == state)
			return 0;
		if (is == MEMX_A_GONE)
			return -ESHUTDOWN;
		native_reason(n, why, sizeof(why));
		if (*why && state == MEMX_A_ATTACHED)
			return -ECONNREFUSED;
		now = memx_now();
		if (now >= end)
			return -ETIMEDOUT;
		/* A change between the look and the wait is seen a little later, not missed. */
		await(n, NULL, now + 10000000 < end ? now + 10000000 : end);
	}
}

void native_reason(struct native *n, char *to, size_t size)
{
	size_t len;

	pthread_mutex_lock(&n->lock);
	len = strnlen(n->reason, size - 1);
	memcpy(to, n->reason, len);
	to[len] = 0;
	pthread_mutex_unlock(&n->lock);
}

/* ---- looking ---- */

enum memx_attach_state native_state(struct native *n)
{
	struct memx_lane *lane = &n->engine.lane[0];
	enum memx_attach_state state;
	unsigned long flags;
	bool go;

	memx_lock(&n->engine.lock, flags);
	state = n->engine.attach.state;
	memx_unlock(&n->engine.lock, flags);
	/* Tables and limits of an attachment are there when its actions were carried out, not before. */
	memx_lock(&lane->lock, flags);
	go = lane->go;
	memx_unlock(&lane->lock, flags);
	return state == MEMX_A_ATTACHED && !go ? MEMX_A_ATTACHING : state;
}

struct memx_agreed native_agreed(struct native *n)
{
	struct memx_agreed agreed;
	unsigned long flags;

	memx_lock(&n->engine.lock, flags);
	agreed = n->engine.attach.agreed;
	memx_unlock(&n->engine.lock, flags);
	return agreed;
}

u32 native_slots(struct native *n)
{
	return native_agreed(n).slots;
}

u64 native_epoch(struct native *n)
{
	unsigned long flags;
	u64 epoch;

	memx_lock(&n->engine.lock, flags);
	epoch = n->engine.attach.epoch;
	memx_unlock(&n->engine.lock, flags);
	return epoch;
}

void native_session(struct native *n, u8 session[16])
{
	unsigned long flags;

	memx_lock(&n->engine.lock, flags);
	memcpy(session, n->engine.attach.session, 16);
	memx_unlock(&n->engine.lock, flags);
}

u64 native_counter(const struct native *n, enum memx_counter what)
{
	return atomic_load_explicit(&n->counters[what], memory_order_relaxed);
}

u64 native_bad_pages(const struct native *n)
{
	return atomic_load(&n->bad_pages);
}

struct memx_record native_record(struct native *n, u32 extent)
{
	struct memx_lane *lane = memx_engine_store_lane(&n->engine, extent);
	struct memx_record rec = { 0 };
	unsigned long flags;

	memx_lock(&lane->lock, flags);
	if (extent < n->engine.records.extents)
		rec = n->engine.records.rec[extent];
	memx_unlock(&lane->lock, flags);
	return rec;
}

/* ---- pages ---- */

void native_submit(struct native *n, struct native_op *ops, u32 count)
{
	struct list_head list;

	INIT_LIST_HEAD(&list);
	for (u32 i = 0; i < count; i++) {
		ops[i].ended = false;
		list_add_tail(&ops[i].item.node, &list);
	}
	memx_engine_submit(&n->engine, &list);
}

void native_submit_list(struct native *n, struct list_head *list)
{
	memx_engine_submit(&n->engine, list);
}

static bool always(void *arg __attribute__((unused)), u32 slot __attribute__((unused)))
{
	return true;
}

bool native_discard_submit(struct native *n, u32 slot, struct native_op *op)
{
	op->ended = false;
	return memx_engine_discard(&n->engine, slot, always, NULL, &op->item);
}

static int await_ops(struct native *n, struct native_op *ops, u32 count)
{
	int err = 0;

	for (u32 i = 0; i < count; i++) {
		while (!__atomic_load_n(&ops[i].ended, __ATOMIC_ACQUIRE))
			await(n, &ops[i].ended, memx_now() + 1000000000);
		if (ops[i].err && !err)
			err = ops[i].err;
	}
	return err;
}

static int transfer(struct native *n, u8 op, u32 slot, void *pages, u32 count)
{
	int err = 0;

	while (count && !err) {
		struct native_op ops[MEMX_MAX_PAGES] = { 0 };
		u32 some = count < MEMX_MAX_PAGES ? count : MEMX_MAX_PAGES;

		for (u32 i = 0; i < some; i++) {
			ops[i].item.op = op;
			ops[i].item.slot = slot + i;
			ops[i].item.page = (u8 *)pages + (size_t)i * MEMX_PAGE_SIZE;
		}
		native_submit(n, ops, some);
		err = await_ops(n, ops, some);
		slot += some;
		count -= some;
		pages = (u8 *)pages + (size_t)some * MEMX_PAGE_SIZE;
	}
	return err;
}

int native_store(struct native *n, u32 slot, const void *pages, u32 count)
{
	return transfer(n, MEMX_OP_STORE, slot, (void *)(uintptr_t)pages, count);
}

int native_fetch(struct native *n, u32 slot, void *pages, u32 count)
{
	return transfer(n, MEMX_OP_FETCH, slot, pages, count);
}

int native_discard(struct native *n, u32 slot)
{
	struct native_op op = { 0 };

	return native_discard_submit(n, slot, &op) ? await_ops(n, &op, 1) : 0;
}

/* ---- the session ---- */

int native_detach(struct native *n, u64 timeout_ns)
{
	struct memx_engine *e = &n->engine;
	u64 end = memx_now() + timeout_ns;
	unsigned long flags;
	u8 before[16], session[16];

	native_session(n, before);
	memx_lock(&e->lock, flags);
	memx_engine_act(e, memx_attach_detach(&e->attach, memx_now()));
	memx_unlock(&e->lock, flags);
	for (;;) {
		u64 now = memx_now();

		native_session(n, session);
		if (memcmp(before, session, sizeof(session)))
			return 0;
		if (now >= end)
			return -ETIMEDOUT;
		await(n, NULL, now + 10000000);
	}
}

void native_resume(struct native *n)
{
	struct memx_engine *e = &n->engine;
	unsigned long flags;

	memx_lock(&e->lock, flags);
	memx_engine_act(e, memx_attach_resumed(&e->attach, memx_now()));
	memx_unlock(&e->lock, flags);
}
