/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * drive.h - the job of the benchmark over MemX, by a guest in the caller's thread.
 */
#ifndef MEMX_BENCH_DRIVE_H
#define MEMX_BENCH_DRIVE_H

#include "../native/native.h"

struct drive;
struct cluster;
struct bench_job;
struct bench_result;

/* Attaches as the guest @name. NULL: said why on stderr. */
struct drive *drive_open(const struct bench_job *job, const struct cluster *cluster, const char *name);
int drive_prepare(struct drive *drive);		/* fills all pages once, so that extents are placed */
int drive_round(struct drive *drive, struct bench_result *result);
void drive_close(struct drive *drive);

#endif /* MEMX_BENCH_DRIVE_H */
