// SPDX-License-Identifier: GPL-2.0-only
/*
 * limit-tcp.c - what TCP on loopback gives by itself: the sizes of fetch and store between two processes, nothing else.
 *
 * The peer is a child process with blocking calls, which is the shortest way through the kernel; the donor hop cannot be
 * quicker than this. Client and peer walk through as much memory as the real job does, so that caches help no more here
 * than there. The peer ends when the connection does.
 */
#include "bench.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <user/text.h>

/* What the client tells the peer before a series of requests. */
struct series {
	u32 op;
	u32 batch;
	u32 depth;
	u32 requests;
};

struct limit {
	struct bench_job job;
	int fd;
	pid_t peer;
	u8 *pages;
	u8 *frame;		/* header and descriptors of a message */
};

static size_t data_size(const struct bench_job *job)
{
	return (size_t)job->pages * MEMX_PAGE_SIZE;
}

/* Moves @head bytes of the frame and @len bytes of pages, all of it, in one call where the kernel lets it. */
static int move(int fd, bool out, void *frame, size_t head, void *pages, size_t len)
{
	struct iovec iov[2] = { { frame, head }, { pages, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	size_t left = head + len;

	while (left) {
		ssize_t n = out ? sendmsg(fd, &msg, MSG_NOSIGNAL) : recvmsg(fd, &msg, MSG_WAITALL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EPIPE;
		left -= (size_t)n;
		for (size_t i = 0; i < 2 && n; i++) {
			size_t part = (size_t)n < iov[i].iov_len ? (size_t)n : iov[i].iov_len;

			iov[i].iov_base = (u8 *)iov[i].iov_base + part;
			iov[i].iov_len -= part;
			n -= (ssize_t)part;
		}
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
	size_t pages = op == BENCH_STORE ? (size_t)batch * MEMX_PAGE_SIZE : 0;

	return move(l->fd, out, l->frame, bench_request_len(op, batch) - pages, page_at(l, n, batch), pages);
}

static int move_reply(struct limit *l, bool out, enum bench_op op, u64 n, u32 batch)
{
	size_t pages = op == BENCH_FETCH ? (size_t)batch * MEMX_PAGE_SIZE : 0;

	return move(l->fd, out, l->frame, bench_reply_len(op, batch) - pages, page_at(l, n, batch), pages);
}

static int serve(struct limit *l)
{
	struct series s = { 0 };
	int ret;

	for (;;) {
		ret = move(l->fd, false, &s, sizeof(s), NULL, 0);
		for (u32 n = 0; !ret && n < s.requests; n++) {
			ret = move_request(l, false, s.op, n, s.batch);
			if (!ret)
				ret = move_reply(l, true, s.op, n, s.batch);
		}
		if (ret)
			return ret;
	}
}

/* A connected pair of TCP sockets on loopback. */
static int tcp_pair(int fd[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fd[1] = -1;
	if (listener >= 0 && fd[0] >= 0 && !bind(listener, (void *)&addr, len) && !listen(listener, 1) &&
	    !getsockname(listener, (void *)&addr, &len) && !connect(fd[0], (void *)&addr, len))
		fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (listener >= 0)
		close(listener);
	if (fd[1] < 0) {
		perror("memx-bench: TCP on loopback");
		if (fd[0] >= 0)
			close(fd[0]);
		return -EIO;
	}
	setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return 0;
}

struct limit *limit_tcp_open(const struct bench_job *job)
{
	struct limit *l = calloc(1, sizeof(*l));
	int fd[2];

	if (!l || tcp_pair(fd)) {
		free(l);
		return NULL;
	}
	l->job = *job;
	l->frame = calloc(1, MEMX_MAX_FRAME);
	l->pages = mmap(NULL, data_size(job), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!l->frame || l->pages == MAP_FAILED || (l->peer = fork()) < 0) {
		perror("memx-bench: TCP limit");
		exit(1);
	}
	memset(l->pages, 1, data_size(job));	/* in the peer, too: each has pages of its own */
	l->fd = fd[l->peer ? 0 : 1];
	close(fd[l->peer ? 1 : 0]);
	if (!l->peer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(l);
		_exit(0);
	}
	return l;
}

static int run_series(struct limit *l, enum bench_op op, u32 batch, u32 depth, u32 requests, struct hist *latency)
{
	struct series s = { op, batch, depth, requests };
	u32 sent = 0, done = 0;
	int ret = move(l->fd, true, &s, sizeof(s), NULL, 0);

	while (!ret && done < requests) {
		u64 start = latency ? memx_now() : 0;

		while (!ret && sent < requests && sent - done < depth)
			ret = move_request(l, true, op, sent++, batch);
		if (!ret)
			ret = move_reply(l, false, op, done++, batch);
		if (latency)
			hist_add(latency, memx_now() - start);
	}
	if (ret)
		fprintf(stderr, "memx-bench: TCP limit: %s\n", strerror(-ret));
	return ret;
}

int limit_tcp_round(struct limit *l, struct bench_result *result)
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

void limit_tcp_close(struct limit *l)
{
	shutdown(l->fd, SHUT_RDWR);	/* other children hold a copy of the descriptor */
	close(l->fd);
	waitpid(l->peer, NULL, 0);
	munmap(l->pages, data_size(&l->job));
	free(l->frame);
	free(l);
}
