// SPDX-License-Identifier: GPL-2.0-only
/*
 * session.c - the native guest's driver: waits for lanes, the relay's socket and the time, and carries out what the attach
 * states decide (guest/attach.h). The counterpart of the module's session worker and lane threads, in one thread.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <user/text.h>

#include "internal.h"

#define TICK_NS		100000000ULL	/* what was parked is tried again so often */
#define HURRY_NS	250000000ULL	/* batches that were put off go so often at the latest, as the module's do */
#define MAX_WAIT_NS	1000000000ULL

void native_say(struct native *n, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!n->config.verbose)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "guest %s: %s\n", n->config.name, line);
}

void native_changed(struct native *n)
{
	pthread_mutex_lock(&n->lock);
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
}

void native_refused(struct native *n, const char *why)
{
	pthread_mutex_lock(&n->lock);
	snprintf(n->reason, sizeof(n->reason), "%s", why);
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
	native_say(n, "refused: %s", why);
}

/* ---- the session's actions, in the order of their bits ---- */

static u32 lanes_down(struct native *n)
{
	bool quiet = true;

	for (u8 i = 0; i < n->lanes; i++)
		quiet &= memx_lane_down(&n->engine.lane[i]);
	return quiet;
}

static void size_tables(struct native *n)
{
	struct memx_agreed agreed = native_agreed(n);

	if (memx_engine_size(&n->engine, agreed.slots, agreed.extent_order)) {
		native_say(n, "no memory for the table of %u slots", agreed.slots);
		memx_lane_lost(&n->engine.lane[0], NULL);
	}
}

static void go(struct native *n)
{
	struct memx_engine *e = &n->engine;
	unsigned long flags;

	memx_lock(&e->lock, flags);
	e->attach.frozen = true;	/* who waits for the attach uses the slots from now on, as after swapon */
	memx_unlock(&e->lock, flags);
	memx_engine_go(e);
	n->hurry_at = memx_now() + HURRY_NS;
	atomic_fetch_add(&n->counters[MEMX_C_attaches], 1);
	pthread_mutex_lock(&n->lock);
	n->reason[0] = 0;
	pthread_mutex_unlock(&n->lock);
	native_say(n, "attached: epoch %llu", (unsigned long long)native_epoch(n));
}

static void say_refused(struct native *n)
{
	unsigned long flags;
	u32 status;

	memx_lock(&n->engine.lock, flags);
	status = n->engine.attach.status;
	memx_unlock(&n->engine.lock, flags);
	atomic_fetch_add(&n->counters[MEMX_C_refusals], 1);
	native_refused(n, memx_attach_why(status));
}

/* Carries out one action. True: done; false: to be tried again when something happens. */
static bool act(struct native *n, u32 action, u64 now)
{
	struct memx_engine *e = &n->engine;

	switch (action) {
	case MEMX_ACT_WITHDRAW:
		atomic_fetch_add(&n->counters[MEMX_C_lost], 1);
		native_link_withdraw(n);
		n->actions &= ~(u32)(MEMX_ACT_ATTACH | MEMX_ACT_DETACH | MEMX_ACT_CONNECTED | MEMX_ACT_GO);
		return lanes_down(n);
	case MEMX_ACT_OFFER:
		native_link_offer(n, now);
		return true;
	case MEMX_ACT_ATTACH:
		if (!n->attach_begun)
			n->attach_next = 0;
		if (!memx_engine_send_attach(e, &n->attach_begun, &n->attach_next))
			return false;
		return true;
	case MEMX_ACT_SIZE:
		size_tables(n);
		return true;
	case MEMX_ACT_GO:
		go(n);
		return true;
	case MEMX_ACT_DETACH:
		return memx_engine_send_detach(e);
	case MEMX_ACT_DETACHED:
		memx_engine_unsize(e);
		n->hurry_at = 0;
		return true;
	case MEMX_ACT_REFUSED:
		say_refused(n);
		return true;
	case MEMX_ACT_GONE:
		memx_engine_gone(e, true);
		memx_engine_abandon(e, -EIO);
		native_say(n, "superseded: another copy of this guest owns the session");
		return true;
	default:
		return true;
	}
}

void native_session_act(struct native *n, u64 now)
{
	/* An offer goes out when the lanes of the one before are down, or one of these may still take it back. */
	u32 fresh = n->actions & MEMX_ACT_WITHDRAW ? 0 : memx_engine_take(&n->engine);

	if (fresh & (MEMX_ACT_ATTACH | MEMX_ACT_WITHDRAW))
		n->attach_begun = false;
	n->actions |= fresh;
	for (u32 bit = 1; bit <= MEMX_ACT_GONE; bit <<= 1) {
		if (!(n->actions & bit))
			continue;
		n->actions &= ~bit;
		if (!act(n, bit, now)) {
			n->actions |= bit;
			break;
		}
	}
	if (n->actions & MEMX_ACT_WITHDRAW)
		atomic_fetch_or(&n->due, NATIVE_SESSION);	/* somebody still uses a ring, for as long as a copy takes */
	if (memx_engine_parked(&n->engine)) {
		if (!n->tick_at)
			n->tick_at = now + TICK_NS;
	}
	native_changed(n);
}

/* ---- the driver's round ---- */

static u64 deadline(struct native *n)
{
	struct memx_engine *e = &n->engine;
	unsigned long flags;
	u64 at;

	memx_lock(&e->lock, flags);
	at = e->attach.retry_at ? e->attach.retry_at : ~0ULL;
	memx_unlock(&e->lock, flags);
	if (n->tick_at && n->tick_at < at)
		at = n->tick_at;
	if (n->connect_at && n->connect_at < at)
		at = n->connect_at;
	if (n->hurry_at && n->hurry_at < at)
		at = n->hurry_at;
	return at;
}

static void on_time(struct native *n, u64 now)
{
	if (n->connect_at && n->connect_at <= now && native_state(n) == MEMX_A_OFFERED)
		native_link_offer(n, now);
	else if (n->connect_at <= now)
		n->connect_at = 0;
	if (n->tick_at && n->tick_at <= now) {
		n->tick_at = n->config.deadline_ns ? now + TICK_NS : 0;
		memx_engine_tick(&n->engine, n->config.deadline_ns ? now - n->config.deadline_ns : 0);
		if (memx_engine_parked(&n->engine) && !n->tick_at)
			n->tick_at = now + TICK_NS;
	}
	if (n->hurry_at && n->hurry_at <= now) {
		n->hurry_at = now + HURRY_NS;
		memx_engine_hurry(&n->engine);
	}
	if (deadline(n) <= now)
		atomic_fetch_or(&n->due, NATIVE_SESSION);
}

/* What is due, until nothing is. */
static void work(struct native *n, u64 now)
{
	u32 due;

	for (;;) {
		due = atomic_exchange(&n->due, 0);
		if (due & NATIVE_STOP) {
			atomic_fetch_or(&n->due, NATIVE_STOP);
			due &= ~(u32)NATIVE_STOP;
			if (!due)
				return;
		}
		if (!due)
			return;
		for (u8 i = 0; i < n->lanes; i++)
			if (due & 1U << i && memx_lane_work(&n->engine.lane[i]))
				atomic_fetch_or(&n->due, 1U << i);
		if (due & NATIVE_SESSION)
			native_session_act(n, now);
	}
}

static int wait_ms(struct native *n, u64 max_wait_ns, u64 now)
{
	u64 at = deadline(n), wait = at > now ? at - now : 0;

	if (wait > max_wait_ns)
		wait = max_wait_ns;
	if (wait > MAX_WAIT_NS)
		wait = MAX_WAIT_NS;
	return (int)((wait + 999999) / 1000000);
}

void native_poll(struct native *n, u64 max_wait_ns)
{
	struct epoll_event ev[MEMX_MAX_LANES + 2];
	u64 now = memx_now(), none;
	int count;

	on_time(n, now);
	work(n, now);
	atomic_store(&n->driver_waits, true);
	count = epoll_wait(n->epoll, ev, MEMX_MAX_LANES + 2,
			   atomic_load(&n->due) & ~(u32)NATIVE_STOP ? 0 : wait_ms(n, max_wait_ns, now));
	atomic_store(&n->driver_waits, false);
	for (int i = 0; i < count; i++) {
		u32 what = ev[i].data.u32;

		if (what < n->lanes) {
			atomic_fetch_add_explicit(&n->counters[MEMX_C_kicks], 1, memory_order_relaxed);
			/* The lane's interrupt: what it leaves is the lane thread's work. */
			if (memx_lane_receive(&n->engine.lane[what], 64))
				atomic_fetch_or(&n->due, 1U << what);
		} else if (what == MEMX_MAX_LANES) {
			native_link_message(n);
		} else if (read(n->wake, &none, sizeof(none)) < 0) {
			continue;		/* `due` says what there is to do */
		}
	}
	if (count > 0)
		work(n, now);
}
