// SPDX-License-Identifier: GPL-2.0-only
/*
 * swapio.c - the kernel's pages into the engine and out of it: requests of the swap core, the engine's calls, the lanes'
 * interrupts and threads.
 *
 * A request of the core (struct memx_swap_op) is cut into items, one per page. It ends when the last of them has, with one
 * ki_complete(), from whatever context that is: an interrupt handler more often than not. From the hook to that call
 * nothing is allocated and no lock is taken that is held over an allocation.
 */
#include <linux/bvec.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/timekeeping.h>
#include <linux/timex.h>
#include <linux/uio.h>
#include <linux/xxhash.h>

#include "reclaim.h"
#include "session_int.h"
#include "trace.h"

#ifdef CONFIG_HIGHMEM
#error "pages are reached through the direct map; kernels with highmem are not supported"
#endif
#ifdef CONFIG_PREEMPT_RT
#error "whoever sends does it with preemption off, inside which PREEMPT_RT's spin locks may not sleep; such kernels are not supported"
#endif

/* ---- the end of things ---- */

/*
 * A request of the swap core was dealt with. With the last one swapoff goes on, and rmmod after it, while this task is still
 * between here and its way out of the module: memx_session_stop() waits for that.
 */
static void swap_leave(struct memx_session *s)
{
	if (atomic_dec_and_test(&s->ops) && wq_has_sleeper(&s->idle_wait))
		wake_up_all(&s->idle_wait);
}

static void pages_ended(struct memx_session *s, u32 n)
{
	if (atomic_sub_and_test((int)n, &s->pages) && wq_has_sleeper(&s->idle_wait))
		wake_up_all(&s->idle_wait);
}

/*
 * Counts a request of the swap core in. False: it is a write, and writes fail now. First counted, then looked: so either
 * memx_session_quiesce() waits for it, or it sees that writes fail.
 */
static bool swap_enter(struct memx_session *s, bool store)
{
	atomic_inc(&s->ops);
	smp_mb__after_atomic();
	if (!store || READ_ONCE(s->writes))
		return true;
	swap_leave(s);
	return false;
}

/* Each page of a request took as long as the whole of it: before that the swap core hears of none. */
static void count_latency(struct memx_session *s, bool store, u64 ns, u32 pages)
{
	u64 us = ns / NSEC_PER_USEC;
	unsigned int bucket = us ? min_t(unsigned int, (unsigned int)fls64(us), MEMX_BUCKETS - 1) : 0;

	atomic64_add(pages, &s->latency[store ? MEMX_LAT_STORE : MEMX_LAT_FETCH][bucket]);
}

/* @n items of @op ended (or will not come). The last one ends the request: op is gone then, and so is the core's iocb. */
static void op_put(struct memx_session *s, struct memx_swap_op *op, u32 n)
{
	struct memx_pool *pool;
	u64 ns;

	if (!atomic_sub_and_test((int)n, &op->left))
		return;
	pool = op->store ? &s->stores : &s->fetches;
	ns = ktime_get_ns() - op->born;
	count_latency(s, op->store, ns, op->pages);
	trace_memx_complete(op->store, op->slot, op->pages, op->err, ns);
	op->iocb->ki_complete(op->iocb, op->err ? op->err : op->len);
	memx_pool_put_op(pool, op);
	swap_leave(s);
}

static void engine_done(void *ctx, struct memx_item *item, int err)
{
	struct memx_session *s = ctx;
	struct memx_swap_op *op = item->owner;

	if (!op) {
		memx_pool_put_item(&s->discards, item);
		pages_ended(s, 1);
		return;
	}
	if (err)
		cmpxchg(&op->err, 0, err == -ENODATA ? -EIO : err);
	memx_pool_put_item(op->store ? &s->stores : &s->fetches, item);
	pages_ended(s, 1);
	op_put(s, op, 1);
}

/* ---- what the engine asks of us ---- */

static u64 engine_now(void *ctx)
{
	return ktime_get_ns();
}

/*
 * Two guests that wake from one image have the same state of the kernel's random numbers, and would draw the same lineage from
 * it: each would take the other for itself. What differs between them is when they wake.
 */
static u64 engine_random(void *ctx)
{
	u64 seed[] = { get_random_u64(), random_get_entropy(), ktime_get_real_ns(), ktime_get_ns() };

	return xxh64(seed, sizeof(seed), 0);
}

static void engine_notify(void *ctx, unsigned int lane)
{
	struct memx_session *s = ctx;

	memx_link_notify(s->link, lane);
}

static enum memx_vchan_client engine_peer(void *ctx, unsigned int lane)
{
	struct memx_session *s = ctx;

	return memx_link_peer(s->link, lane);
}

static void engine_wake_lane(void *ctx, unsigned int lane)
{
	struct memx_session *s = ctx;
	struct memx_lane_thread *t = &s->lanes[lane];

	set_bit(0, &t->due);
	wake_up(&t->wait);
}

static void engine_wake_session(void *ctx)
{
	memx_session_wake(ctx);
}

static void engine_count(void *ctx, enum memx_counter what, u64 n)
{
	memx_session_count(ctx, what, n);
}

static void engine_violation(void *ctx, unsigned int lane, const char *what)
{
	pr_warn_ratelimited("the relay broke the protocol on lane %u: %s; its channel is closed and offered anew\n", lane, what);
}

static void engine_bad_page(void *ctx, u32 slot, u64 version, u32 status)
{
	if (status == MEMX_S_ABSENT && !version)
		pr_err_ratelimited("slot %u was read, but nothing was ever stored there\n", slot);
	else
		pr_alert_ratelimited("the page of slot %u (version %llu) is lost (%s); its owner gets SIGBUS\n",
				     slot, version, memx_attach_why(status));
}

static void engine_entered(void *ctx, enum memx_attach_state state, u64 epoch)
{
	trace_memx_state(state, epoch);
}

const struct memx_engine_ops memx_session_engine_ops = {
	.now		= engine_now,
	.random		= engine_random,
	.notify		= engine_notify,
	.peer		= engine_peer,
	.done		= engine_done,
	.wake_lane	= engine_wake_lane,
	.wake_session	= engine_wake_session,
	.count		= engine_count,
	.violation	= engine_violation,
	.bad_page	= engine_bad_page,
	.entered	= engine_entered,
};

/* ---- interrupts and lane threads ---- */

/* Hard interrupt context. A page that comes back is copied and verified here, which saves the fault a context switch. */
void memx_session_kick(void *ctx, unsigned int lane)
{
	struct memx_session *s = ctx;

	memx_session_count(s, MEMX_C_kicks, 1);
	if (!MEMX_IRQ_FRAMES || memx_lane_receive(&s->engine.lane[lane], MEMX_IRQ_FRAMES))
		engine_wake_lane(s, lane);
	if (memx_link_peer(s->link, lane) != MEMX_VCHAN_HERE)
		memx_engine_departed(&s->engine);
}

int memx_lane_thread(void *arg)
{
	struct memx_lane_thread *t = arg;
	struct memx_lane *l = &t->session->engine.lane[t->index];
	unsigned int flags = memx_reclaim_enter();
	bool more;

	set_user_nice(current, MIN_NICE);
	while (!kthread_should_stop()) {
		wait_event_idle(t->wait, test_and_clear_bit(0, &t->due) || kthread_should_stop());
		do {
			memx_unsafe_buffers();
			more = memx_lane_work(l);
			cond_resched();
		} while (more);
	}
	memx_reclaim_leave(flags);
	return 0;
}

/* ---- requests of the swap core ---- */

/* Where the next page of a request is: its segments are whole pages, which are contiguous in the direct map. */
struct cursor {
	const struct bio_vec *bvec;
	unsigned long segs;
	u32 off;
};

static void *next_page(struct cursor *c)
{
	void *page;

	while (c->segs && c->off >= c->bvec->bv_len) {
		c->bvec++;
		c->segs--;
		c->off = 0;
	}
	if (!c->segs)
		return NULL;
	page = (u8 *)page_address(c->bvec->bv_page) + c->bvec->bv_offset + c->off;
	c->off += PAGE_SIZE;
	return page;
}

/* Is @iter something that the swap core would send: whole pages, in range? */
static bool rw_sane(const struct memx_session *s, const struct kiocb *iocb, const struct iov_iter *iter)
{
	u64 first = (u64)iocb->ki_pos >> PAGE_SHIFT, pages = iov_iter_count(iter) >> PAGE_SHIFT;
	unsigned long i;

	if (!iov_iter_is_bvec(iter) || !pages || iter->iov_offset || !PAGE_ALIGNED(iov_iter_count(iter)) ||
	    iocb->ki_pos < 0 || !IS_ALIGNED((u64)iocb->ki_pos, PAGE_SIZE) || first + pages > READ_ONCE(s->slots))
		return false;
	for (i = 0; i < iter->nr_segs; i++)
		if (!PAGE_ALIGNED(iter->bvec[i].bv_len) || !PAGE_ALIGNED(iter->bvec[i].bv_offset))
			return false;
	return true;
}

/* Submits the pages of @op in as few pieces as the pool allows. An error ends what was not submitted. */
static void submit_pages(struct memx_session *s, struct memx_swap_op *op, struct cursor *c, bool *waited)
{
	struct memx_pool *pool = op->store ? &s->stores : &s->fetches;
	u32 slot = op->slot, left = op->pages, n;
	struct memx_item *item;
	LIST_HEAD(list);

	while (left) {
		n = memx_pool_items(pool, left, &list, op->store, waited);
		if (!n) {
			cmpxchg(&op->err, 0, -EINTR);
			op_put(s, op, left);
			return;
		}
		list_for_each_entry(item, &list, node) {
			item->slot = slot++;
			item->op = op->store ? MEMX_OP_STORE : MEMX_OP_FETCH;
			item->page = next_page(c);
			item->owner = op;
		}
		left -= n;
		atomic_add((int)n, &s->pages);
		memx_engine_submit(&s->engine, &list);
	}
}

int memx_session_rw(struct memx_session *s, struct kiocb *iocb, struct iov_iter *iter)
{
	bool store = iov_iter_rw(iter) == WRITE, waited = false;
	struct cursor c = { .bvec = iter->bvec, .segs = iter->nr_segs };
	u64 born = ktime_get_ns();	/* to wait for a free operation is part of what the request takes */
	struct memx_swap_op *op;

	if (WARN_ON_ONCE(!rw_sane(s, iocb, iter)))
		return -EIO;
	if (!swap_enter(s, store)) {
		memx_session_count(s, MEMX_C_suspended, iov_iter_count(iter) >> PAGE_SHIFT);
		return -EIO;
	}
	op = memx_pool_op(store ? &s->stores : &s->fetches, store, &waited);
	if (!op) {
		swap_leave(s);
		return -EINTR;
	}
	op->iocb = iocb;
	op->err = 0;
	op->len = (ssize_t)iov_iter_count(iter);
	op->born = born;
	op->slot = (u32)((u64)iocb->ki_pos >> PAGE_SHIFT);
	op->pages = (u32)(iov_iter_count(iter) >> PAGE_SHIFT);
	op->store = store;
	/* One more than there are pages: the request cannot end while it is being submitted. */
	atomic_set(&op->left, (int)op->pages + 1);
	trace_memx_submit(store, op->slot, op->pages);
	submit_pages(s, op, &c, &waited);
	if (waited)
		memx_session_count(s, MEMX_C_waits, 1);
	op_put(s, op, 1);
	return -EIOCBQUEUED;
}
