// SPDX-License-Identifier: GPL-2.0-only
/*
 * drive.c - the job over MemX: a native guest in this thread, relay and servers as processes.
 *
 * What is fetched was stored in the pass before; every byte is verified, outside of the time that is measured. The guest's
 * engine verifies the check of each page besides, as in the kernel, and that time counts.
 */
#include "../native/cluster.h"
#include "bench.h"
#include "drive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <user/text.h>

struct batch {
	struct drive *drive;
	struct native_op op[MEMX_MAX_PAGES];
	u32 left;
};

struct drive {
	struct bench_job job;
	const struct cluster *cluster;
	const char *name;
	struct native *guest;
	u8 *data;		/* job.pages pages: what is stored from and fetched into */
	u64 pass;		/* that the donors hold */
	struct batch *batches;
	u32 ended;		/* batches, in this series */
	int err;
};

struct drive *drive_open(const struct bench_job *job, const struct cluster *cluster, const char *name)
{
	struct native_config config = { .socket = cluster->shm, .name = name, .slots = job->pages };
	struct drive *d = calloc(1, sizeof(*d));
	char why[160];
	int err;

	if (!d)
		return NULL;
	d->job = *job;
	d->cluster = cluster;
	d->name = name;
	d->data = aligned_alloc(MEMX_PAGE_SIZE, (size_t)job->pages * MEMX_PAGE_SIZE);
	d->batches = calloc(job->depth, sizeof(*d->batches));
	d->guest = native_new(&config);
	if (!d->data || !d->batches || !d->guest) {
		perror("memx-bench: guest");
		exit(1);
	}
	err = native_start(d->guest, false);
	if (!err)
		err = native_wait(d->guest, MEMX_A_ATTACHED, 30000000000ULL);
	if (!err && native_slots(d->guest) < job->pages)
		err = -ENOSPC;
	if (err) {
		native_reason(d->guest, why, sizeof(why));
		fprintf(stderr, "memx-bench: %s did not attach: %s %s\n", name, strerror(-err), why);
		drive_close(d);
		return NULL;
	}
	return d;
}

void drive_close(struct drive *d)
{
	if (native_state(d->guest) == MEMX_A_ATTACHED)
		native_detach(d->guest, 5000000000ULL);
	native_free(d->guest, NATIVE_SHUTDOWN);
	free(d->batches);
	free(d->data);
	free(d);
}

static int fail(struct drive *d, const char *what, u64 page, int err)
{
	fprintf(stderr, "memx-bench: %s: page %llu: %s: %s\n", d->name, (unsigned long long)page, what, strerror(-err));
	return err;
}

static u8 *page_at(struct drive *d, u32 page)
{
	return d->data + (size_t)page * MEMX_PAGE_SIZE;
}

/* ---- one page at a time ---- */

static int ping_fetch(struct drive *d, struct hist *latency)
{
	for (u32 i = 0; i < d->job.pings; i++) {
		u32 page = i % d->job.pages;
		u64 start = memx_now();
		int err = native_fetch(d->guest, page, page_at(d, page), 1);

		hist_add(latency, memx_now() - start);
		if (err || !bench_verify(page_at(d, page), page, d->pass))
			return fail(d, "fetch", page, err ? err : -EILSEQ);
		memset(page_at(d, page), 0, MEMX_PAGE_SIZE);
	}
	return 0;
}

/* Stores the pass that is held once more: each is a new version all the same. */
static int ping_store(struct drive *d, struct hist *latency)
{
	for (u32 i = 0; i < d->job.pings; i++) {
		u32 page = i % d->job.pages;
		u64 start;
		int err;

		bench_fill(page_at(d, page), page, d->pass);
		start = memx_now();
		err = native_store(d->guest, page, page_at(d, page), 1);
		hist_add(latency, memx_now() - start);
		if (err)
			return fail(d, "store", page, err);
	}
	return 0;
}

/* ---- batches, pipelined ---- */

static void batch_done(struct native_op *op)
{
	struct batch *b = op->arg;

	if (op->err && !b->drive->err)
		b->drive->err = fail(b->drive, "streaming", op->item.slot, op->err);
	if (!--b->left)
		b->drive->ended++;
}

static void batch_submit(struct drive *d, struct batch *b, enum bench_op what, u32 first)
{
	b->drive = d;
	b->left = d->job.batch;
	for (u32 i = 0; i < d->job.batch; i++) {
		struct native_op *op = &b->op[i];

		op->item.op = what == BENCH_FETCH ? MEMX_OP_FETCH : MEMX_OP_STORE;
		op->item.slot = first + i;
		op->item.page = page_at(d, first + i);
		op->done = batch_done;
		op->arg = b;
	}
	native_submit(d->guest, b->op, d->job.batch);
}

/* Nanoseconds that a process (0: this one) was on a CPU; all of them have one thread that works. */
static u64 cpu_of(pid_t pid)
{
	char path[64], text[64] = "";
	FILE *f;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	else
		snprintf(path, sizeof(path), "/proc/self/schedstat");
	f = fopen(path, "r");
	if (f && !fgets(text, sizeof(text), f))
		*text = 0;
	if (f)
		fclose(f);
	return strtoull(text, NULL, 10);	/* the first of three numbers */
}

enum { CPU_DONOR = 2, CPU_ALL = CPU_DONOR + CLUSTER_MAX_DONORS };	/* guest, relay, each server */

static void cpu_read(const struct drive *d, u64 ns[CPU_ALL])
{
	ns[0] = cpu_of(0);
	ns[1] = cpu_of(d->cluster->relay);
	for (u32 i = 0; i < d->cluster->config.donors; i++)
		ns[CPU_DONOR + i] = cpu_of(d->cluster->donor[i].pid);
}

static void cpu_add(const struct drive *d, enum bench_op what, const u64 before[CPU_ALL], struct bench_result *result)
{
	u64 after[CPU_ALL], busiest = 0;

	cpu_read(d, after);
	for (u32 i = 0; i < CPU_DONOR + d->cluster->config.donors; i++) {
		u64 ns = after[i] - before[i];

		result->cpu_ns[what][i < CPU_DONOR ? i : BENCH_DONORS] += ns;
		if (ns > busiest)
			busiest = ns;
	}
	result->busiest_ns[what] += busiest;
}

static int stream(struct drive *d, enum bench_op what, struct bench_result *result)
{
	u32 batches = d->job.pages / d->job.batch, begun = 0;
	u64 before[CPU_ALL] = { 0 }, start;

	cpu_read(d, before);
	start = memx_now();
	d->ended = 0;
	d->err = 0;
	while (d->ended < batches && !d->err) {
		for (u32 i = 0; i < d->job.depth && begun < batches; i++)
			if (!d->batches[i].left)
				batch_submit(d, &d->batches[i], what, begun++ * d->job.batch);
		if (d->ended < batches)
			native_poll(d->guest, 1000000000);
	}
	if (!result || d->err)
		return d->err;
	bench_streamed(result, what, (u64)batches * d->job.batch, memx_now() - start);
	cpu_add(d, what, before, result);
	return 0;
}

static int verify_all(struct drive *d)
{
	for (u32 i = 0; i < d->job.pages; i++) {
		if (!bench_verify(page_at(d, i), i, d->pass))
			return fail(d, "other bytes than were stored", i, -EILSEQ);
		memset(page_at(d, i), 0, MEMX_PAGE_SIZE);
	}
	return 0;
}

static int stream_passes(struct drive *d, u32 passes, struct bench_result *result)
{
	int err = 0;

	for (u32 i = 0; i < passes && !err; i++) {
		d->pass++;
		for (u32 page = 0; page < d->job.pages; page++)
			bench_fill(page_at(d, page), page, d->pass);
		err = stream(d, BENCH_STORE, result);
		memset(d->data, 0, (size_t)d->job.pages * MEMX_PAGE_SIZE);
		if (!err)
			err = stream(d, BENCH_FETCH, result);
		if (!err)
			err = verify_all(d);
	}
	return err;
}

int drive_prepare(struct drive *d)
{
	return stream_passes(d, 1, NULL);
}

int drive_round(struct drive *d, struct bench_result *result)
{
	int err = ping_fetch(d, &result->latency[BENCH_FETCH]);

	if (!err)
		err = ping_store(d, &result->latency[BENCH_STORE]);
	if (!err)
		err = stream_passes(d, d->job.passes, result);
	return err;
}
