/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * bench.h - what the parts of memx-bench share: the job, its results, and who measures what.
 *
 * The same job is done three times in one run: over a bare TCP connection, over a bare ring, and over MemX (shared-memory
 * channel, relay, servers). Sizes on the wire are those of the protocol: a fetch of n pages is a small request and a reply
 * of header, descriptors and pages; a store the other way round. The three take turns in short rounds, so that whatever
 * else the machine does falls on all of them alike.
 */
#ifndef MEMX_BENCH_H
#define MEMX_BENCH_H

#include "hist.h"
#include <memx/codec.h>

enum bench_op {
	BENCH_FETCH,
	BENCH_STORE,
	BENCH_OPS,
};

enum bench_part {
	BENCH_GUEST,
	BENCH_RELAY,
	BENCH_DONORS,
	BENCH_PARTS,
};

struct bench_job {
	u32 rounds;
	u32 pings;		/* single-page operations of each kind in a round */
	u32 pages;		/* pages of data that are walked through */
	u32 batch;		/* pages in one streaming request */
	u32 depth;		/* streaming requests in flight */
	u32 passes;		/* streaming walks over the data in a round */
};

struct bench_result {
	struct hist latency[BENCH_OPS];
	double seconds[BENCH_OPS];	/* of streaming */
	u64 streamed[BENCH_OPS];	/* pages */
	double best[BENCH_OPS];		/* the quickest round, pages/s */
	u64 cpu_ns[BENCH_OPS][BENCH_PARTS];	/* on the CPU while streaming; MemX only */
	u64 busiest_ns[BENCH_OPS];	/* the one process that was on it longest, in each pass */
};

const char *bench_op_name(enum bench_op op);
void bench_streamed(struct bench_result *result, enum bench_op op, u64 pages, u64 ns);
double bench_pages_s(const struct bench_result *result, enum bench_op op);

/* Bytes of a request and of its reply, headers included. */
static inline u32 bench_request_len(enum bench_op op, u32 pages)
{
	return MEMX_HDR_LEN + (op == BENCH_FETCH ? memx_want_len(pages) : memx_store_len(pages));
}

static inline u32 bench_reply_len(enum bench_op op, u32 pages)
{
	return MEMX_HDR_LEN + (op == BENCH_FETCH ? memx_fetched_len(pages, pages) : MEMX_IO_LEN);
}

/*
 * A limit: a peer process is started by open, does rounds, and is ended by close. Functions return 0 or -errno, having said
 * on stderr what failed.
 */
struct limit;

struct limit *limit_tcp_open(const struct bench_job *job);
int limit_tcp_round(struct limit *limit, struct bench_result *result);
void limit_tcp_close(struct limit *limit);

struct limit *limit_ring_open(const struct bench_job *job);
int limit_ring_round(struct limit *limit, struct bench_result *result);
void limit_ring_close(struct limit *limit);

/* The content of page @page in pass @pass: what is stored, and what a fetch must bring back byte for byte. */
void bench_fill(void *to, u64 page, u64 pass);
bool bench_verify(const void *data, u64 page, u64 pass);

#endif /* MEMX_BENCH_H */
