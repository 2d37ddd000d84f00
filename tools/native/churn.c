// SPDX-License-Identifier: GPL-2.0-only
/*
 * churn.c - see churn.h.
 *
 * The generator's thread and the guest's thread share the model under `lock`; the number that a slot must hold changes only
 * while its `busy` is set, by the one whose operation it is.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <user/text.h>

#include "churn.h"
#include "pattern.h"

enum {
	ABSENT	= 0,		/* number of a slot that holds nothing */
};

struct slot {
	u64 number;		/* of the last acknowledged writing */
	u64 next;		/* of the one on its way; or the last one drawn */
	bool busy;
};

struct work {
	struct native_op op;
	struct churn *churn;
	struct work *next;	/* free */
	u64 since;		/* 0: not in flight */
	u8 kind;		/* MEMX_OP_... */
	u8 *page;
};

struct churn {
	struct native *guest;
	struct churn_config config;
	pthread_mutex_t lock;
	pthread_cond_t idle;	/* an operation ended */
	struct slot *slot;
	struct work *work, *free;
	u8 *pages;
	u32 in_flight;
	struct churn_stat stat;
	u64 random;
	u64 due;		/* of the next operation, where there is a rate */
	u32 filled;		/* slots, where it begins with filling */
	bool stop, running;
	pthread_t thread;
};

/* xorshift64* [Vigna] */
static u64 draw(struct churn *c)
{
	c->random ^= c->random >> 12;
	c->random ^= c->random << 25;
	c->random ^= c->random >> 27;
	return c->random * 0x2545f4914f6cdd1dULL;
}

static struct slot *slot_of(struct churn *c, u32 slot)
{
	return &c->slot[slot - c->config.first];
}

/* ---- the end of an operation, under the lock ---- */

static void tell(struct churn *c, struct work *w, const char *what)
{
	struct slot *s = slot_of(c, w->op.item.slot);
	char says[128] = "";

	if (c->stat.wrong > 8 || w->op.err == -ECANCELED)
		return;
	if (!w->op.err && w->op.item.page)
		pattern_describe(w->page, says, sizeof(says));
	fprintf(stderr, "churn: slot %u must hold writing %llu: %s (error %d) %s\n", w->op.item.slot,
		(unsigned long long)s->number, what, w->op.err, says);
}

static void end_fetch(struct churn *c, struct work *w)
{
	struct slot *s = slot_of(c, w->op.item.slot);

	if (s->number == ABSENT ? w->op.err == -ENODATA :
	    !w->op.err && pattern_verify(w->page, c->config.salt, w->op.item.slot, s->number, true)) {
		c->stat.fetches++;
		return;
	}
	c->stat.unread += w->op.err && s->number != ABSENT;
	if (!w->op.err || w->op.err == -ENODATA) {
		c->stat.wrong++;
		c->stat.lost += w->op.err == -ENODATA;
		tell(c, w, w->op.err ? "lost" : "wrong");
	} else {
		c->stat.errors++;
		tell(c, w, "failed");
	}
}

static void end_store(struct churn *c, struct work *w)
{
	struct slot *s = slot_of(c, w->op.item.slot);

	s->number = w->op.err ? ABSENT : s->next;
	if (!w->op.err) {
		c->stat.stores++;
		return;
	}
	c->stat.errors++;
	if (w->op.err == -ENOSPC)
		c->stat.nospace++;
	else
		tell(c, w, "store failed");
}

static void end_discard(struct churn *c, struct work *w)
{
	if (!w->op.err) {
		c->stat.discards++;
	} else {
		c->stat.errors++;
		tell(c, w, "discard failed");
	}
}

/* By the kind that was noted: the operation itself is the engine's while it is under way. */
static void longest(struct churn_stat *s, const struct work *w, u64 took)
{
	if (took > s->longest_ns)
		s->longest_ns = took;
	if (w->kind == MEMX_OP_FETCH && took > s->longest_fetch_ns)
		s->longest_fetch_ns = took;
}

static void done(struct native_op *op)
{
	struct work *w = op->arg;
	struct churn *c = w->churn;
	u64 took;

	pthread_mutex_lock(&c->lock);
	took = memx_now() - w->since;
	longest(&c->stat, w, took);
	if (op->item.op == MEMX_OP_FETCH)
		end_fetch(c, w);
	else if (op->item.op == MEMX_OP_STORE)
		end_store(c, w);
	else
		end_discard(c, w);
	slot_of(c, op->item.slot)->busy = false;
	w->since = 0;
	w->next = c->free;
	c->free = w;
	c->in_flight--;
	pthread_cond_broadcast(&c->idle);
	pthread_mutex_unlock(&c->lock);
}

/* ---- submission ---- */

static struct work *take(struct churn *c, u8 op, u32 slot)
{
	struct work *w = c->free;

	c->free = w->next;
	c->in_flight++;
	slot_of(c, slot)->busy = true;
	w->since = memx_now();
	w->op.done = done;
	w->op.arg = w;
	w->kind = op;
	w->op.item.op = op;
	w->op.item.slot = slot;
	w->op.item.page = w->page;
	if (op == MEMX_OP_STORE) {
		slot_of(c, slot)->next++;
		pattern_fill(w->page, c->config.salt, slot, slot_of(c, slot)->next, true);
	}
	return w;
}

static void discard(struct churn *c, u32 slot)
{
	struct work *w;

	pthread_mutex_lock(&c->lock);
	w = take(c, MEMX_OP_DISCARD, slot);
	slot_of(c, slot)->number = ABSENT;
	w->op.ended = false;	/* whoever asks how things stand looks at it under the lock */
	w->op.err = 0;
	pthread_mutex_unlock(&c->lock);
	if (!native_discard_submit(c->guest, slot, &w->op))
		done(&w->op);		/* none was due */
}

/* Keeps to the rate. What a stall kept back is not made up for. */
static void pace(struct churn *c, u32 operations)
{
	u64 now = memx_now();
	struct timespec until;

	if (!c->config.rate)
		return;
	if (c->due + 50000000 < now)
		c->due = now;
	c->due += operations * 1000000000ULL / c->config.rate;
	until.tv_sec = (time_t)(c->due / 1000000000);
	until.tv_nsec = (long)(c->due % 1000000000);
	if (c->due > now + 2000000)	/* not for less than two milliseconds: these add up */
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void one_run(struct churn *c)
{
	u32 slot = c->config.first + (u32)(draw(c) % c->config.count), run = 1 + (u32)(draw(c) % c->config.max_run);
	bool filling = c->config.fill && c->filled < c->config.count;
	u32 kind = filling ? 0 : (u32)(draw(c) % 100);
	u8 op = filling || kind < c->config.store_part ? MEMX_OP_STORE : MEMX_OP_FETCH;
	struct list_head list;

	if (op == MEMX_OP_FETCH && (kind - c->config.store_part) * 10 < 100 - c->config.store_part) {
		pthread_mutex_lock(&c->lock);
		run = !slot_of(c, slot)->busy;
		pthread_mutex_unlock(&c->lock);
		if (run)
			discard(c, slot);
		return;
	}
	if (filling)
		slot = c->config.first + c->filled;
	INIT_LIST_HEAD(&list);
	pace(c, run);
	pthread_mutex_lock(&c->lock);
	for (; run && slot < c->config.first + c->config.count && c->free; run--, slot++) {
		struct work *w;

		if (slot_of(c, slot)->busy)
			continue;
		w = take(c, op, slot);
		w->op.ended = false;
		list_add_tail(&w->op.item.node, &list);
	}
	if (filling)
		c->filled = slot - c->config.first;
	pthread_mutex_unlock(&c->lock);
	if (!list_empty(&list))
		native_submit_list(c->guest, &list);
}

static void *generate(void *arg)
{
	struct churn *c = arg;
	bool stop;

	for (;;) {
		pthread_mutex_lock(&c->lock);
		while (!c->stop && !c->free)
			pthread_cond_wait(&c->idle, &c->lock);
		stop = c->stop;
		pthread_mutex_unlock(&c->lock);
		if (stop)
			return NULL;
		one_run(c);
	}
}

/* ---- life ---- */

struct churn *churn_new(struct native *guest, const struct churn_config *config)
{
	struct churn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->guest = guest;
	c->config = *config;
	c->random = config->seed * 2 + 1;
	c->slot = calloc(config->count, sizeof(*c->slot));
	c->work = calloc(config->depth, sizeof(*c->work));
	c->pages = aligned_alloc(MEMX_PAGE_SIZE, (size_t)config->depth * MEMX_PAGE_SIZE);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	if (!c->slot || !c->work || !c->pages) {
		churn_free(c);
		return NULL;
	}
	for (u32 i = 0; i < config->depth; i++) {
		c->work[i].churn = c;
		c->work[i].page = c->pages + (size_t)i * MEMX_PAGE_SIZE;
		c->work[i].next = c->free;
		c->free = &c->work[i];
	}
	return c;
}

void churn_start(struct churn *c)
{
	c->stop = false;
	c->running = !pthread_create(&c->thread, NULL, generate, c);
	if (!c->running)
		abort();
}

void churn_halt(struct churn *c)
{
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->idle);
	pthread_mutex_unlock(&c->lock);
	if (c->running)
		pthread_join(c->thread, NULL);
	c->running = false;
}

void churn_stop(struct churn *c)
{
	churn_halt(c);
	pthread_mutex_lock(&c->lock);
	while (c->in_flight)
		pthread_cond_wait(&c->idle, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void churn_stat(struct churn *c, struct churn_stat *to, bool clear_longest)
{
	u64 now;

	pthread_mutex_lock(&c->lock);
	now = memx_now();	/* not before: what began meanwhile would be older than the clock */
	*to = c->stat;
	to->in_flight = c->in_flight;
	for (u32 i = 0; i < c->config.depth; i++)
		if (c->work[i].since) {
			longest(to, &c->work[i], now - c->work[i].since);
			if (now - c->work[i].since > to->oldest_ns)
				to->oldest_ns = now - c->work[i].since;
		}
	if (clear_longest)
		c->stat.longest_ns = c->stat.longest_fetch_ns = 0;
	pthread_mutex_unlock(&c->lock);
}

u64 churn_check(struct churn *c, char *text, size_t size)
{
	void *page = aligned_alloc(MEMX_PAGE_SIZE, MEMX_PAGE_SIZE);
	char says[128];
	u64 bad = 0;

	*text = 0;
	for (u32 i = 0; page && i < c->config.count; i++) {
		u32 slot = c->config.first + i;
		u64 number = c->slot[i].number;
		int err = native_fetch(c->guest, slot, page, 1);

		if (number == ABSENT ? err == -ENODATA : !err && pattern_verify(page, c->config.salt, slot, number, true))
			continue;
		if (!err)
			pattern_describe(page, says, sizeof(says));
		if (!bad++)
			snprintf(text, size, "slot %u must hold writing %llu: %s", slot, (unsigned long long)number,
				 err ? strerror(-err) : says);
	}
	free(page);
	return bad;
}

void churn_free(struct churn *c)
{
	free(c->slot);
	free(c->work);
	free(c->pages);
	pthread_cond_destroy(&c->idle);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
