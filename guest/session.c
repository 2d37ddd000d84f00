// SPDX-License-Identifier: GPL-2.0-only
/*
 * session.c - the session comes and goes, and stands still while the guest is suspended.
 *
 * The end, in the order of session_stop() and session_destroy(), and why nobody is left behind:
 *
 *  1. Swap is off, for the module cannot go before: no request of the swap core is under way or will come. What can be
 *     under way are discards and control frames.
 *  2. DETACH goes out and is waited for, for a while. It is a courtesy: without it the donors keep the pages until the
 *     toolstack says that the domain is gone.
 *  3. The worker stops. On its way out it takes the lanes down, which waits for whoever is in a ring, and withdraws the
 *     offer; from then on an interrupt finds its lane down and does nothing.
 *  4. The lanes' threads stop. They sleep by then.
 *  5. What is still pending (discards) is ended; its memory is in a pool.
 *  6. The device is gone by now (main.c), and with it whoever queues .thawed: it is ended, and its work queue destroyed.
 *  7. The link is destroyed: no interrupt handler runs or comes when that returns, so nothing refers to the session any more.
 *  8. Tables, pools, the session.
 */
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include "session_int.h"
#include "sizing.h"
#include "trace.h"

void memx_session_wake(struct memx_session *s)
{
	set_bit(0, &s->work_due);
	wake_up(&s->work_wait);
}

void memx_session_count(struct memx_session *s, enum memx_counter what, u64 n)
{
	atomic64_add((s64)n, &s->counter[what]);
}

void memx_session_set_reason(struct memx_session *s, const char *reason)
{
	unsigned long flags;

	spin_lock_irqsave(&s->reason_lock, flags);
	strscpy(s->reason, reason, sizeof(s->reason));
	spin_unlock_irqrestore(&s->reason_lock, flags);
}

/* The toolstack's side refused this guest: there will be no channel, so this is all that is heard of it. */
static void session_refused(void *ctx, const char *reason)
{
	struct memx_session *s = ctx;

	pr_warn("refused by the relay: %s\n", reason);
	memx_session_set_reason(s, reason);
	memx_session_count(s, MEMX_C_refusals, 1);
	s->event(s->event_ctx, MEMX_EV_REFUSED);
}

static const struct memx_link_events link_events = {
	.kick = memx_session_kick,
	.refused = session_refused,
};

/* Runs when the tasks are thawed, whatever became of the suspend: see memx_session_quiesce(). */
static void session_thawed(struct work_struct *work)
{
	struct memx_session *s = container_of(work, struct memx_session, thawed);
	bool forgotten;

	mutex_lock(&s->work_mutex);
	forgotten = s->suspended;
	mutex_unlock(&s->work_mutex);
	if (forgotten)
		memx_session_resume(s);
	memx_session_writes(s, true);
}

static void session_init(struct memx_session *s, const struct memx_session_config *config, memx_session_event_fn event,
			 void *ctx)
{
	s->config = *config;
	s->event = event;
	s->event_ctx = ctx;
	s->deadline_ms = config->deadline_ms;
	s->trim_pages = config->trim_pages;
	s->may_write = true;
	s->writes = true;
	init_waitqueue_head(&s->work_wait);
	init_waitqueue_head(&s->idle_wait);
	mutex_init(&s->work_mutex);
	mutex_init(&s->trim_mutex);
	spin_lock_init(&s->reason_lock);
	INIT_WORK(&s->thawed, session_thawed);
	s->next_tick = jiffies;
}

/* Pools by the guest's memory: pages under way are memory that reclaim waits for, so a small guest gets few. */
static int session_pools(struct memx_session *s)
{
	u32 pages = clamp_t(unsigned long, totalram_pages() / 32, 512, 4096);
	int err;

	err = memx_pool_init(&s->stores, pages / 4, pages);
	if (!err)
		err = memx_pool_init(&s->fetches, pages / 4, pages);
	if (!err)
		err = memx_pool_init(&s->discards, 0, MEMX_TRIM_ITEMS);
	return err;
}

static int session_engine(struct memx_session *s, const struct memx_lane_spec *specs, u8 lanes)
{
	struct memx_engine *e = &s->engine;
	u8 kind[MEMX_MAX_LANES];
	int err, i;

	for (i = 0; i < lanes; i++)
		kind[i] = specs[i].kind;
	err = memx_engine_init(e, &memx_session_engine_ops, s, kind, lanes, MEMX_REQUESTS);
	if (err)
		return err;
	e->attach.slots_wanted = s->config.slots;
	e->attach.replicas_wanted = s->config.replicas;
	/* The slot table takes at most a 16th of the guest's memory. */
	e->attach.slots_max = (u32)min_t(u64, (u64)totalram_pages() * PAGE_SIZE / 16 / sizeof(struct memx_slot), U32_MAX);
	return 0;
}

static int session_threads(struct memx_session *s)
{
	struct task_struct *task;
	u8 i;

	for (i = 0; i < s->engine.lanes; i++) {
		struct memx_lane_thread *t = &s->lanes[i];

		t->session = s;
		t->index = i;
		init_waitqueue_head(&t->wait);
	}
	for (i = 0; i < s->engine.lanes; i++) {
		task = kthread_run(memx_lane_thread, &s->lanes[i], "memx/lane-%u", i);
		if (IS_ERR(task))
			return PTR_ERR(task);
		s->lanes[i].task = task;
	}
	task = kthread_run(memx_worker, s, "memx/session");
	if (IS_ERR(task))
		return PTR_ERR(task);
	s->worker = task;
	return 0;
}

static void session_end_threads(struct memx_session *s)
{
	u8 i;

	if (s->worker)
		kthread_stop(s->worker);
	s->worker = NULL;
	for (i = 0; i < s->engine.lanes; i++) {
		if (s->lanes[i].task)
			kthread_stop(s->lanes[i].task);
		s->lanes[i].task = NULL;
	}
}

struct memx_session *memx_session_create(const struct memx_session_config *config, memx_session_event_fn event, void *ctx)
{
	struct memx_lane_spec specs[MEMX_MAX_LANES];
	struct memx_session *s;
	int lanes, err;

	BUILD_BUG_ON(PAGE_SIZE != MEMX_PAGE_SIZE);
	lanes = memx_lane_specs(specs, config->store_lanes, config->fetch_lanes, config->ring_order, totalram_pages());
	if (lanes < 0)
		return ERR_PTR(lanes);
	s = kvzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return ERR_PTR(-ENOMEM);
	session_init(s, config, event, ctx);
	memx_session_count(s, MEMX_C_leaked, memx_link_leaked());
	/*
	 * Of its own, with a thread that is there already: its work lets writes be taken again, in the moment in which all tasks are
	 * thawed and fault. Workers that every other queue shares may all be in reclaim then, and wait for a write.
	 */
	s->freezable = alloc_workqueue("memx", WQ_FREEZABLE | WQ_MEM_RECLAIM | WQ_UNBOUND, 1);
	err = s->freezable ? session_engine(s, specs, (u8)lanes) : -ENOMEM;
	if (!err)
		err = session_pools(s);
	if (!err) {
		s->link = memx_link_create(specs, (unsigned int)lanes, &link_events, s);
		if (IS_ERR(s->link)) {
			err = PTR_ERR(s->link);
			s->link = NULL;
		}
	}
	if (!err)
		err = session_threads(s);
	if (err) {
		memx_session_destroy(s);
		return ERR_PTR(err);
	}
	return s;
}

void memx_session_start(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;

	memx_lock(&e->lock, flags);
	memx_engine_act(e, memx_attach_start(&e->attach, ktime_get_ns()));
	memx_unlock(&e->lock, flags);
	s->started = true;
	memx_session_wake(s);
}

/* Asks for the donors' pages to be freed. True: a relay is there to do it, so its answer is worth waiting for. */
static bool session_detach(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;
	bool there;

	memx_lock(&e->lock, flags);
	memx_engine_act(e, memx_attach_detach(&e->attach, ktime_get_ns()));
	there = e->attach.state == MEMX_A_DETACHING || (e->attach.detach && e->attach.state == MEMX_A_ATTACHING);
	memx_unlock(&e->lock, flags);
	memx_session_wake(s);
	return there;
}

/* Has the session that was to be freed given way to a new one? */
static bool session_detached(struct memx_session *s)
{
	return !READ_ONCE(s->engine.attach.detach);
}

void memx_session_stop(struct memx_session *s, unsigned int detach_ms)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;

	WRITE_ONCE(s->stopping, true);
	if (session_detach(s) && !wait_event_timeout(s->idle_wait, session_detached(s), msecs_to_jiffies(detach_ms)))
		pr_warn("the relay did not free this guest's pages in %u ms; it will once the domain is gone\n", detach_ms);

	mutex_lock(&s->work_mutex);
	memx_lock(&e->lock, flags);
	memx_attach_stop(&e->attach);
	e->actions = 0;
	memx_unlock(&e->lock, flags);
	mutex_unlock(&s->work_mutex);
	session_end_threads(s);
	memx_engine_abandon(e, -ESHUTDOWN);
	/*
	 * The tail of swap_leave(): a task that ended the last request may have been preempted between counting it out, which
	 * let swapoff go on, and the return from the module's code. None of it sleeps, so when every task has given up its CPU
	 * by itself once, or was asleep already, nobody is there any more. Interrupts are waited for where they are unbound.
	 */
	if (s->swapped)
		synchronize_rcu_tasks();
}

unsigned int memx_session_destroy(struct memx_session *s)
{
	unsigned int leaked = 0;

	cancel_work_sync(&s->thawed);
	session_end_threads(s);
	if (s->freezable)
		destroy_workqueue(s->freezable);
	if (s->link)
		leaked = memx_link_destroy(s->link);
	memx_engine_free(&s->engine);
	memx_pool_free(&s->stores);
	memx_pool_free(&s->fetches);
	memx_pool_free(&s->discards);
	kvfree(s);
	return leaked;
}

/* ---- suspend and resume ---- */

/*
 * While the channel has to be renewed writes go on failing: to bind a port takes locks of the interrupt core, which another driver
 * that resumes may hold over an allocation, and that may reclaim by writing to us and wait for the channel.
 */
void memx_session_writes(struct memx_session *s, bool allowed)
{
	mutex_lock(&s->work_mutex);
	s->may_write = allowed;
	WRITE_ONCE(s->writes, allowed && !s->renew_due);
	mutex_unlock(&s->work_mutex);
}

/* May the guest come back with another lineage? */
static bool session_may_return(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;
	bool may;

	memx_lock(&e->lock, flags);
	may = memx_attach_may_suspend(&e->attach);
	memx_unlock(&e->lock, flags);
	return may;
}

/*
 * Nothing is under way that changes what donors hold, and the guest may be suspended. Where swap is off and its session is to be
 * freed, discards may be out still: what they are about goes as a whole, whether they are answered or not. They end with the lanes
 * down, in the worker's first round behind the resume.
 */
static bool session_quiet(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;
	bool freeing;

	memx_lock(&e->lock, flags);
	freeing = e->attach.detach;
	memx_unlock(&e->lock, flags);
	return !atomic_read(&s->ops) && (freeing || !atomic_read(&s->pages)) && session_may_return(s);
}

int memx_session_quiesce(struct memx_session *s, unsigned int timeout_ms)
{
	bool quiet;

	mutex_lock(&s->work_mutex);
	s->quiescing = true;
	mutex_unlock(&s->work_mutex);
	memx_session_writes(s, false);
	/* Whoever has not counted himself yet sees that writes fail, who has is waited for: the other half is in swap_enter(). */
	smp_mb();
	memx_session_wake(s);	/* it ends the discards that are not out */
	quiet = wait_event_timeout(s->idle_wait, session_quiet(s), msecs_to_jiffies(timeout_ms));

	mutex_lock(&s->work_mutex);
	s->quiescing = false;
	/* Meanwhile the worker may have sent ATTACH. From here on it cannot, until the resume. */
	quiet = quiet && session_may_return(s);
	s->suspended = quiet;
	if (quiet)
		memx_worker_lanes_down(s);
	mutex_unlock(&s->work_mutex);
	/*
	 * Where this refuses, writes go on failing for a while: the other drivers' resume may reclaim by writing to us, in the very
	 * thread that has to thaw user space. And kernels older than the autumn of 2025 resume nobody, and call no .complete, where
	 * one driver's .freeze failed, be it ours or another's. Freezable work runs behind all of that, when the tasks do.
	 */
	queue_work(s->freezable, &s->thawed);
	if (quiet)
		return 0;
	memx_session_wake(s);
	return session_may_return(s) ? -EBUSY : -EAGAIN;
}

void memx_session_resume(struct memx_session *s)
{
	memx_session_writes(s, false);
	mutex_lock(&s->work_mutex);
	s->suspended = false;
	memx_worker_resume(s);
	mutex_unlock(&s->work_mutex);
	memx_session_wake(s);
}

bool memx_session_hibernates(struct memx_session *s, bool begins)
{
	bool may;

	mutex_lock(&s->work_mutex);
	may = !begins || !s->sis;
	s->hibernating = begins && may;
	mutex_unlock(&s->work_mutex);
	return may;
}

/* ---- swap on and off ---- */

/* Is there a session whose size the file shows, and that is not about to be given up? Under engine.lock. */
static bool session_fit(const struct memx_session *s)
{
	const struct memx_attacher *a = &s->engine.attach;

	/* Where the sizes differ another one was granted over a channel that is gone: the file has the old one still. */
	return s->slots && a->sized && !a->detach && !(s->engine.actions & MEMX_ACT_SIZE) && s->slots == a->agreed.slots;
}

/* What swapon would find now: 0, -ESHUTDOWN for good, -EAGAIN. */
static int session_outlook(struct memx_session *s)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;
	bool fit;

	memx_lock(&e->lock, flags);
	fit = session_fit(s);
	memx_unlock(&e->lock, flags);
	if (READ_ONCE(s->stopping) || READ_ONCE(s->gone))
		return -ESHUTDOWN;
	return fit ? 0 : -EAGAIN;
}

int memx_session_await(struct memx_session *s)
{
	int err = session_outlook(s);

	if (err != -EAGAIN)
		return err;
	if (!READ_ONCE(s->swapped)) {
		pr_info("swapon: not yet, no relay has attached; the uevent will say when\n");
		return -EAGAIN;
	}
	if (wait_event_killable_timeout(s->idle_wait, session_outlook(s) != -EAGAIN, msecs_to_jiffies(MEMX_AGAIN_MS)) < 0)
		return -EINTR;
	err = session_outlook(s);
	if (err == -EAGAIN)
		pr_info("swapon: not yet, the swap before is still being freed, or no relay grants another one; try again\n");
	return err;
}

int memx_session_swapon(struct memx_session *s, struct swap_info_struct *sis)
{
	struct memx_engine *e = &s->engine;
	unsigned long flags;
	int err = memx_session_await(s);

	if (err)
		return err;
	mutex_lock(&s->work_mutex);
	mutex_lock(&s->trim_mutex);
	memx_lock(&e->lock, flags);
	if (s->stopping || s->gone)
		err = -ESHUTDOWN;
	else if (s->sis || s->hibernating)
		err = -EBUSY;
	else if (!session_fit(s))
		err = -EAGAIN;
	else if (sis->max > s->slots)
		err = -ESTALE;
	else
		e->attach.frozen = true;
	memx_unlock(&e->lock, flags);
	if (!err) {
		s->sis = sis;
		s->trim_next = 0;
		WRITE_ONCE(s->swapped, true);
	}
	mutex_unlock(&s->trim_mutex);
	mutex_unlock(&s->work_mutex);
	if (!err)
		memx_session_wake(s);	/* from now on it looks for freed slots, again and again */
	if (err == -EAGAIN)
		pr_info("swapon: the relay has gone meanwhile; try again\n");
	if (err == -ESTALE)
		pr_warn("swapon: the header says %u pages, but %u are granted since it was read; try again\n", sis->max,
			READ_ONCE(s->slots));
	return err;
}

void memx_session_swapoff(struct memx_session *s)
{
	/* From here on the trimmer does not look at the swap core's tables, which go next. */
	mutex_lock(&s->trim_mutex);
	s->sis = NULL;
	mutex_unlock(&s->trim_mutex);
	/*
	 * The core has waited for its reads and writes. What may still be under way is the tail of an end, behind its
	 * ki_complete(): it must be out of the code that a rmmod takes away.
	 */
	wait_event(s->idle_wait, !atomic_read(&s->ops));
	session_detach(s);
}
