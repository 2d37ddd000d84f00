// SPDX-License-Identifier: GPL-2.0-only
/*
 * records.c - the table of placement records; see records.h for the rules and who guards it.
 *
 * Pure: compiled in the kernel, under KUnit and in user space.
 */
#include "records.h"

int memx_records_init(struct memx_records_table *t, u32 extents)
{
	if (!extents)
		return -EINVAL;
	t->rec = memx_table_alloc(extents, sizeof(*t->rec));
	if (!t->rec)
		return -ENOMEM;
	t->extents = extents;
	return 0;
}

void memx_records_free(struct memx_records_table *t)
{
	memx_table_free(t->rec);
	t->rec = NULL;
	t->extents = 0;
}

/* May @rec follow what is held for its extent? */
static bool record_follows(const struct memx_records_table *t, const struct memx_record *rec)
{
	const struct memx_record *held = &t->rec[memx_le32(rec->extent)];

	if (memx_le64(rec->generation) == memx_le64(held->generation))
		return !memcmp(rec, held, sizeof(*rec));
	return memx_le64(rec->generation) > memx_le64(held->generation);
}

int memx_records_take(struct memx_records_table *t, const struct memx_record *recs, u32 count)
{
	u32 i, j;

	if (!count || count > MEMX_MAX_RECORDS)
		return -EINVAL;
	for (i = 0; i < count; i++) {
		if (memx_check_record(&recs[i], t->extents) || !record_follows(t, &recs[i]))
			return -EINVAL;
		for (j = 0; j < i; j++)
			if (recs[j].extent == recs[i].extent)
				return -EINVAL;
	}
	for (i = 0; i < count; i++)
		t->rec[memx_le32(recs[i].extent)] = recs[i];
	return 0;
}

u32 memx_records_count(const struct memx_records_table *t)
{
	u32 i, n = 0;

	for (i = 0; i < t->extents; i++)
		n += t->rec[i].generation != 0;
	return n;
}

u64 memx_records_generation(const struct memx_records_table *t, u32 extent)
{
	return extent < t->extents ? memx_le64(t->rec[extent].generation) : 0;
}

u32 memx_records_walk(const struct memx_records_table *t, u32 *next, struct memx_record *to, u32 max)
{
	u32 n = 0;

	for (; *next < t->extents && n < max; (*next)++)
		if (t->rec[*next].generation)
			to[n++] = t->rec[*next];
	return n;
}
