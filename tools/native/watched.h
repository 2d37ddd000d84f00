/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * watched.h - a second writer in the rings of a native guest, who is always quicker than the reader (watched.c).
 */
#ifndef MEMX_NATIVE_WATCHED_H
#define MEMX_NATIVE_WATCHED_H

#include "native.h"

/* From now on what @n reads in a ring changes as soon as it was read. 0 or -errno. Once in a process, and to its end. */
int watched_start(struct native *n);
u64 watched_reads(void);		/* so far */

#endif /* MEMX_NATIVE_WATCHED_H */
