/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * records.h - the map that travels with the guest: one placement record per extent, in wire form.
 *
 * The relay proposes, the guest acknowledges, and with the acknowledgement the record takes effect. Here is only what
 * makes that true: a frame of records is taken whole or not at all, generations only rise, an equal one must be equal in
 * every byte. A map is a hint for the relay that gets it; nothing in the guest acts on what a record names.
 *
 * Locking: the caller's; the lane that stores an extent guards its record with its lock.
 */
#ifndef MEMX_GUEST_RECORDS_H
#define MEMX_GUEST_RECORDS_H

#include "port.h"

struct memx_records_table {
	struct memx_record *rec;	/* by extent; generation 0: none yet */
	u32 extents;
};

int memx_records_init(struct memx_records_table *t, u32 extents);	/* -ENOMEM, -EINVAL; may sleep */
void memx_records_free(struct memx_records_table *t);

/*
 * Takes @count records (1 .. MEMX_MAX_RECORDS), a private copy of the frame's. -EINVAL: one is malformed, not newer than the
 * one that is held (nor the same), or two are of one extent; then nothing was taken.
 */
int memx_records_take(struct memx_records_table *t, const struct memx_record *recs, u32 count);

/*
 * How many extents have a record. There is no counter: the lanes take records of their own extents, each under its own lock, so
 * there is none that would guard it. To be called while nobody takes any.
 */
u32 memx_records_count(const struct memx_records_table *t);

/* Generation held for @extent in host order, 0 if none. */
u64 memx_records_generation(const struct memx_records_table *t, u32 extent);

/*
 * Copies up to @max records from extent *@next on into @to and moves *@next behind the last one looked at. Returns how many;
 * fewer than @max: that was all.
 */
u32 memx_records_walk(const struct memx_records_table *t, u32 *next, struct memx_record *to, u32 max);

#endif /* MEMX_GUEST_RECORDS_H */
