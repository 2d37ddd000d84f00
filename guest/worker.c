// SPDX-License-Identifier: GPL-2.0-only
/*
 * worker.c - the one thread that carries out what the attach states ask for (attach.h), one round after the other.
 *
 * It holds work_mutex during a round and is the only one that takes lanes up and down, sends control frames, makes and
 * voids the tables, and talks to XenStore. It never waits for a page: a guest that is short of memory may be waiting for
 * what this thread is about to set right.
 */
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>

#include "reclaim.h"
#include "session_int.h"
#include "sizing.h"

static void tell(struct memx_session *s, enum memx_session_event event)
{
	s->event(s->event_ctx, event);
}

/* Takes all lanes out of their rings; waits for whoever is in one, which is as long as some pages take to copy. */
void memx_worker_lanes_down(struct memx_session *s)
{
	u8 i;

	for (i = 0; i < s->engine.lanes; i++)
		while (!memx_lane_down(&s->engine.lane[i]))
			usleep_range(20, 100);
}

static void do_withdraw(struct memx_session *s, bool lost)
{
	bool was = s->attached;

	s->sending = false;
	s->detach_due = false;
	s->attached = false;
	memx_worker_lanes_down(s);
	memx_link_withdraw(s->link);
	if (!was || !lost)
		return;
	memx_session_count(s, MEMX_C_lost, 1);
	pr_info("the channel to the relay is gone; pages wait until a relay attaches again\n");
	tell(s, MEMX_EV_LOST);
}

static void do_offer(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;
	u64 offer;
	int err;
	u8 i;

	memx_lock(&e->lock, flags);
	offer = e->attach.offer;
	memx_unlock(&e->lock, flags);
	err = memx_link_offer(s->link, offer);
	if (err) {
		memx_lock(&e->lock, flags);
		e->actions |= memx_attach_offer_failed(&e->attach, err == -EBUSY, ktime_get_ns());
		memx_unlock(&e->lock, flags);
		return;
	}
	for (i = 0; i < e->lanes; i++) {
		memx_lane_up(&e->lane[i], memx_link_ring(s->link, i));
		/* The relay may be there already; kicks before this found the lane down. */
		memx_session_engine_ops.wake_lane(s, i);
	}
}

/* The tables for what was agreed. May sleep for memory: no swap of ours is on at the first time, and later the size stays. */
static bool do_size(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;
	int err;

	memx_engine_abandon(e, -EIO);
	err = memx_engine_size(e, e->attach.agreed.slots, e->attach.agreed.extent_order);
	if (!err)
		return true;
	pr_err("no memory for the tables of a swap of %u pages; asking again\n", e->attach.agreed.slots);
	memx_lock(&e->lock, flags);
	e->attach.sized = false;
	memx_engine_act(e, memx_attach_lost(&e->attach, ktime_get_ns()));
	e->attach.retry_at += 10 * NSEC_PER_SEC;
	memx_unlock(&e->lock, flags);
	return false;
}

static void do_go(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	const struct memx_agreed *a = &e->attach.agreed;

	if (!e->slots.slot)
		return;
	s->attached = true;
	memx_session_count(s, MEMX_C_attaches, 1);
	memx_session_set_reason(s, "");
	s->said_status = 0;
	if (s->slots != a->slots) {
		/* The file and its header follow, also where an attach before swapon grants another size than the first did. */
		WRITE_ONCE(s->slots, a->slots);
		memx_swapfs_resize(a->slots);
	}
	memx_engine_go(e);
	wake_up_all(&s->idle_wait);	/* a suspend may wait for this */
	if (s->ready) {
		pr_info("attached again, epoch %llu\n", e->epoch);
		tell(s, MEMX_EV_ATTACHED);
		return;
	}
	s->ready = true;
	pr_info("attached: %u MiB of swap with %u %s of each page, extents of %u KiB; %zu KiB for slots and records\n",
		a->slots >> (20 - PAGE_SHIFT), a->replicas, a->replicas == 1 ? "copy" : "copies",
		1U << (a->extent_order + PAGE_SHIFT - 10),
		((size_t)a->slots * sizeof(struct memx_slot) + e->records.extents * sizeof(struct memx_record)) / 1024);
	if (a->slots < s->config.slots)
		pr_warn("%u MiB of swap were asked for, %u are granted: %s\n", s->config.slots >> (20 - PAGE_SHIFT),
			a->slots >> (20 - PAGE_SHIFT), a->slots == e->attach.slots_max ?
			"the tables for more would take too much of this guest's memory" :
			"the quota of this guest in Dom0, or the memory of the donors, has no room for more");
	tell(s, MEMX_EV_READY);
}

static void do_refused(struct memx_session *s)
{
	u32 status = s->engine.attach.status;

	memx_session_count(s, MEMX_C_refusals, 1);
	memx_session_set_reason(s, memx_attach_why(status));
	if (status == s->said_status && time_before(jiffies, s->said_at + 60 * HZ))
		return;
	s->said_status = status;
	s->said_at = jiffies;
	pr_warn("the relay refuses to attach: %s\n", memx_attach_why(status));
	tell(s, MEMX_EV_REFUSED);
}

static void do_detached(struct memx_session *s, bool freed)
{
	struct memx_engine *e = &s->engine;

	/* Only discards can be left, and there is nothing left to discard. */
	memx_engine_abandon(e, -ECANCELED);
	memx_engine_unsize(e);
	WRITE_ONCE(s->slots, 0);
	s->ready = false;
	memx_swapfs_resize(0);
	if (freed)
		pr_info("all pages were freed at the donors\n");
	else
		pr_info("that session is not this guest's any more, and swap is off; another one begins\n");
	wake_up_all(&s->idle_wait);
}

/* On the way out nothing is offered again: a new session would only take room at the donors. */
static void stop_offering(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;

	memx_lock(&e->lock, flags);
	memx_attach_stop(&e->attach);
	e->actions = 0;
	memx_unlock(&e->lock, flags);
}

static void do_gone(struct memx_session *s)
{
	WRITE_ONCE(s->gone, true);
	memx_engine_gone(&s->engine, true);
	memx_engine_abandon(&s->engine, -EIO);
	memx_session_set_reason(s, memx_attach_why(MEMX_S_SUPERSEDED));
	wake_up_all(&s->idle_wait);	/* a swapon may wait for a session */
	pr_emerg("giving up: %s. Pages that are swapped out are out of reach for good.\n",
		 memx_attach_why(MEMX_S_SUPERSEDED));
	tell(s, MEMX_EV_GONE);
}

/*
 * Once for each resume, however often renew() has to try: a lineage more may drive one out of those that are remembered, and
 * a guest that has forgotten the one that the donors know is superseded.
 */
void memx_worker_resume(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;

	lockdep_assert_held(&s->work_mutex);
	memx_worker_lanes_down(s);
	memx_lock(&e->lock, flags);
	/* What was due to the channel is void; that tables are, or that the session is gone, stays true. */
	e->actions &= MEMX_ACT_SIZE | MEMX_ACT_DETACHED | MEMX_ACT_REFUSED | MEMX_ACT_GONE;
	/* It asks for WITHDRAW and nothing else: that is done here as far as lanes go, and in renew(). */
	WARN_ON_ONCE(memx_attach_resumed(&e->attach, ktime_get_ns()) & ~MEMX_ACT_WITHDRAW);
	memx_unlock(&e->lock, flags);
	s->renew_due = true;
	s->sending = false;
	s->detach_due = false;
	s->attached = false;
}

/*
 * Everything that Xen gave us may be void, or not: asks for it anew. Where nothing had happened the relay is there still and
 * takes the channel for good, so it is told that it is not; in a new world nobody hears of it.
 */
static void renew(struct memx_session *s)
{
	/* Interrupts are made anew, which allocates: writers may be waiting for this thread to make them memory. */
	unsigned int flags = memx_reclaim_enter();
	int err = memx_link_resume(s->link);

	if (!err)
		memx_link_withdraw(s->link);
	memx_reclaim_leave(flags);
	if (err) {
		pr_warn_ratelimited("grants or event channels could not be renewed after the resume (%d); trying again\n", err);
		return;
	}
	s->renew_due = false;
	WRITE_ONCE(s->writes, s->may_write);
	pr_info("resumed; offering the channel anew\n");
}

/*
 * In the order of the bits. What may run while the guest has no memory left is done with PF_MEMALLOC: should XenStore's
 * client allocate, it must not wait for reclaim, which may wait for this thread. Tables are made, and user space is told,
 * only while no page is swapped out.
 */
static void act(struct memx_session *s, u32 actions)
{
	unsigned int flags = memx_reclaim_enter();

	if (actions & MEMX_ACT_WITHDRAW)
		do_withdraw(s, !(actions & MEMX_ACT_DETACHED));
	if (actions & MEMX_ACT_DETACHED) {
		do_detached(s, !(actions & MEMX_ACT_REFUSED));
		if (READ_ONCE(s->stopping)) {
			stop_offering(s);
			actions = 0;
		}
	}
	if (actions & MEMX_ACT_OFFER)
		do_offer(s);
	if (actions & MEMX_ACT_CONNECTED)
		memx_link_connected(s->link);
	if (actions & MEMX_ACT_ATTACH) {
		s->sending = true;
		s->sending_begun = false;
		s->sending_next = 0;
	}
	memx_reclaim_leave(flags);
	if (actions & MEMX_ACT_SIZE && !do_size(s))
		actions &= ~MEMX_ACT_GO;
	if (actions & MEMX_ACT_GO)
		do_go(s);
	if (actions & MEMX_ACT_DETACH)
		s->detach_due = true;
	if (actions & MEMX_ACT_REFUSED)
		do_refused(s);
	if (actions & MEMX_ACT_GONE)
		do_gone(s);
}

static void send_control(struct memx_session *s)
{
	if (s->sending && memx_engine_send_attach(&s->engine, &s->sending_begun, &s->sending_next))
		s->sending = false;
	if (s->detach_due && memx_engine_send_detach(&s->engine))
		s->detach_due = false;
}

/*
 * What has to happen from time to time: retries, deadlines, batches that were put off, freed slots. And a look at what events
 * should have told: Xen opens a port whose events came too fast, or were handled too slowly, from the system's work queue ("late
 * end of interrupt"). That one has no rescuer: where all its workers wait in reclaim for a page to be stored, the port stays shut.
 */
static void tick(struct memx_session *s)
{
	u64 now = ktime_get_ns(), age = (u64)READ_ONCE(s->deadline_ms) * NSEC_PER_MSEC;

	if (!age && !memx_engine_parked(&s->engine)) {
		s->next_retry = 0;
	} else if (!s->next_retry) {
		s->next_retry = now + MEMX_TICK_MS * NSEC_PER_MSEC;
	} else if (now >= s->next_retry) {
		s->next_retry = 0;
		memx_engine_tick(&s->engine, age && now > age ? now - age : 0);
	}
	memx_engine_hurry(&s->engine);
	memx_engine_look(&s->engine);
	if (!s->quiescing)
		memx_trim(s);
}

/* Jiffies until this thread has something to do by itself. */
static long work_timeout(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	long timeout = MAX_SCHEDULE_TIMEOUT;
	u64 now = ktime_get_ns();
	unsigned long flags;

	if (s->suspended)
		return timeout;
	memx_lock(&e->lock, flags);
	/* Nothing is offered before the channel is renewed, so until then no retry is due. */
	if (e->attach.retry_at && !s->renew_due)
		timeout = e->attach.retry_at > now ? (long)nsecs_to_jiffies(e->attach.retry_at - now) + 1 : 0;
	memx_unlock(&e->lock, flags);
	if (s->sending || s->detach_due || s->renew_due)
		timeout = min(timeout, (long)msecs_to_jiffies(20));
	if (memx_engine_parked(e) || READ_ONCE(s->deadline_ms))
		timeout = min(timeout, (long)msecs_to_jiffies(MEMX_TRIM_MS));
	if (READ_ONCE(s->sis))
		timeout = min(timeout, (long)msecs_to_jiffies(MEMX_TRIM_MS));
	return timeout;
}

static void round_of_work(struct memx_session *s)
{
	if (s->suspended)
		return;
	if (s->renew_due)
		renew(s);
	if (!s->renew_due)
		act(s, memx_engine_take(&s->engine));
	memx_engine_drop_discards(&s->engine, s->quiescing);
	if (!s->renew_due)
		send_control(s);
	if (time_after_eq(jiffies, s->next_tick)) {
		s->next_tick = jiffies + msecs_to_jiffies(MEMX_TRIM_MS);
		tick(s);
	}
}

int memx_worker(void *arg)
{
	struct memx_session *s = arg;
	unsigned int flags;
	long timeout;

	while (!kthread_should_stop()) {
		mutex_lock(&s->work_mutex);
		round_of_work(s);
		timeout = work_timeout(s);
		mutex_unlock(&s->work_mutex);
		wait_event_idle_timeout(s->work_wait, test_and_clear_bit(0, &s->work_due) || kthread_should_stop(), timeout);
	}
	memx_worker_lanes_down(s);
	flags = memx_reclaim_enter();
	if (s->started)
		memx_link_withdraw(s->link);
	memx_reclaim_leave(flags);
	return 0;
}
