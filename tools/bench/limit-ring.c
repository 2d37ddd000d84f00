// SPDX-License-Identifier: GPL-2.0-only
/*
 * limit-ring.c - what the shared-memory ring gives by itself: the sizes of fetch and store between two processes over two
 * rings and two eventfds, with the arithmetic and the notify protocol of vring.h, nothing else.
 *
 * One channel of the size of a fetch lane and one of a store lane, as the native guest offers them. The peer is a child
 * process which ends when its parent does, or is told to by a series of nothing.
 */
#include "bench.h"

#include <errno.h>
#include <memx/vring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <user/text.h>

enum {
	BIG	= 1 << MEMX_VCHAN_MAX_ORDER,
	SMALL	= 1 << 16,
};

struct series {
	u32 op;
	u32 batch;
	u32 requests;
};

struct channel {
	struct memx_vring ring;
	int wait, wake;			/* our eventfd, the peer's */
	u8 *memory;			/* shared page, left ring, right ring */
	u32 left, right;
	int event[2];			/* of server and client */
};

struct limit {
	struct bench_job job;
	pid_t peer;
	u8 *pages;
	u8 *frame;
	struct channel chan[BENCH_OPS];
};

static size_t data_size(const struct bench_job *job)
{
	return (size_t)job->pages * MEMX_PAGE_SIZE;
}

static void channel_wait(struct channel *c)
{
	u64 n;

	while (read(c->wait, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

static void channel_wake(struct channel *c)
{
	u64 one = 1;

	while (write(c->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Waits until @len bytes can be read (or written). */
static int channel_need(struct channel *c, u8 bit, u32 len)
{
	for (;;) {
		for (int again = 0; again < 2; again++) {
			int n = bit == MEMX_VCHAN_WRITE ? memx_vring_avail(&c->ring) : memx_vring_space(&c->ring);

			if (n < 0)
				return n;
			if ((u32)n >= len)
				return 0;
			if (!again)
				memx_vring_want(&c->ring, bit);
		}
		channel_wait(c);
	}
}

static int channel_move(struct channel *c, bool out, void *frame, u32 head, void *pages, u32 len)
{
	int ret = channel_need(c, out ? MEMX_VCHAN_READ : MEMX_VCHAN_WRITE, head + len);

	if (ret)
		return ret;
	if (out) {
		memx_vring_put(&c->ring, 0, frame, head);
		if (len)
			memx_vring_put(&c->ring, head, pages, len);
		if (memx_vring_publish(&c->ring, head + len))
			channel_wake(c);
	} else {
		memx_vring_peek(&c->ring, 0, frame, head);
		if (len)
			memx_vring_peek(&c->ring, head, pages, len);
		if (memx_vring_consume(&c->ring, head + len))
			channel_wake(c);
	}
	return 0;
}

static void *page_at(struct limit *l, u64 request, u32 batch)
{
	u64 batches = l->job.pages / batch;

	return l->pages + (request % batches) * batch * MEMX_PAGE_SIZE;
}

static int move_request(struct limit *l, bool out, enum bench_op op, u64 n, u32 batch)
{
	u32 pages = op == BENCH_STORE ? batch * MEMX_PAGE_SIZE : 0;

	return channel_move(&l->chan[op], out, l->frame, bench_request_len(op, batch) - pages, page_at(l, n, batch), pages);
}

static int move_reply(struct limit *l, bool out, enum bench_op op, u64 n, u32 batch)
{
	u32 pages = op == BENCH_FETCH ? batch * MEMX_PAGE_SIZE : 0;

	return channel_move(&l->chan[op], out, l->frame, bench_reply_len(op, batch) - pages, page_at(l, n, batch), pages);
}

static int serve(struct limit *l)
{
	struct series s = { 0 };
	int ret;

	for (;;) {
		ret = channel_move(&l->chan[0], false, &s, sizeof(s), l->pages, 0);
		if (ret || !s.requests)
			return ret;
		for (u32 n = 0; !ret && n < s.requests; n++) {
			ret = move_request(l, false, s.op, n, s.batch);
			if (!ret)
				ret = move_reply(l, true, s.op, n, s.batch);
		}
		if (ret)
			return ret;
	}
}

static int channel_make(struct channel *c, enum bench_op op)
{
	c->left = op == BENCH_FETCH ? BIG : SMALL;
	c->right = op == BENCH_FETCH ? SMALL : BIG;
	c->memory = mmap(NULL, MEMX_PAGE_SIZE + c->left + c->right, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	c->event[0] = eventfd(0, EFD_CLOEXEC);
	c->event[1] = eventfd(0, EFD_CLOEXEC);
	if (c->memory == MAP_FAILED || c->event[0] < 0 || c->event[1] < 0)
		return -errno;
	memx_vring_reset_shared((void *)c->memory, 0, 0);
	memx_store_once(&((struct memx_vchan_page *)(void *)c->memory)->cli_notify, 0);
	return 0;
}

static void channel_end(struct channel *c, bool server)
{
	memx_vring_init(&c->ring, (void *)c->memory, server, c->memory + MEMX_PAGE_SIZE, c->left,
			c->memory + MEMX_PAGE_SIZE + c->left, c->right);
	c->wait = c->event[server ? 0 : 1];
	c->wake = c->event[server ? 1 : 0];
}

struct limit *limit_ring_open(const struct bench_job *job)
{
	struct limit *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->job = *job;
	l->frame = calloc(1, MEMX_MAX_FRAME);
	l->pages = mmap(NULL, data_size(job), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!l->frame || l->pages == MAP_FAILED || channel_make(&l->chan[0], 0) || channel_make(&l->chan[1], 1) ||
	    (l->peer = fork()) < 0) {
		perror("memx-bench: ring limit");
		exit(1);
	}
	memset(l->pages, 1, data_size(job));
	for (u32 i = 0; i < BENCH_OPS; i++)
		channel_end(&l->chan[i], l->peer);
	if (!l->peer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(l);
		_exit(0);
	}
	return l;
}

static int run_series(struct limit *l, enum bench_op op, u32 batch, u32 depth, u32 requests, struct hist *latency)
{
	struct series s = { op, batch, requests };
	u32 sent = 0, done = 0;
	int ret = channel_move(&l->chan[0], true, &s, sizeof(s), l->pages, 0);

	while (!ret && done < requests) {
		u64 start = latency ? memx_now() : 0;

		/* No more than the ring holds: waiting for room with replies unread would be waiting for oneself. */
		while (!ret && sent < requests && sent - done < depth &&
		       (sent == done || memx_vring_space(&l->chan[op].ring) >= (int)bench_request_len(op, batch)))
			ret = move_request(l, true, op, sent++, batch);
		if (!ret)
			ret = move_reply(l, false, op, done++, batch);
		if (latency)
			hist_add(latency, memx_now() - start);
	}
	if (ret)
		fprintf(stderr, "memx-bench: ring limit: %s\n", strerror(-ret));
	return ret;
}

int limit_ring_round(struct limit *l, struct bench_result *result)
{
	const struct bench_job *job = &l->job;
	u32 requests = job->pages / job->batch * job->passes;
	int ret = 0;

	for (enum bench_op op = 0; op < BENCH_OPS && !ret; op++) {
		u64 start;

		ret = run_series(l, op, 1, 1, job->pings, &result->latency[op]);
		if (ret)
			break;
		start = memx_now();
		ret = run_series(l, op, job->batch, job->depth, requests, NULL);
		bench_streamed(result, op, (u64)requests * job->batch, memx_now() - start);
	}
	return ret;
}

void limit_ring_close(struct limit *l)
{
	struct series end = { 0 };

	channel_move(&l->chan[0], true, &end, sizeof(end), l->pages, 0);
	waitpid(l->peer, NULL, 0);
	for (u32 i = 0; i < BENCH_OPS; i++) {
		struct channel *c = &l->chan[i];

		munmap(c->memory, MEMX_PAGE_SIZE + c->left + c->right);
		close(c->event[0]);
		close(c->event[1]);
	}
	munmap(l->pages, data_size(&l->job));
	free(l->frame);
	free(l);
}
