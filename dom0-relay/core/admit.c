// SPDX-License-Identifier: GPL-2.0-only
/*
 * admit.c - how large a swap area the donors can carry, and who reserves how much of it. Arithmetic only.
 *
 * With R copies and no two of them in one group (failure domain, or donor where there are fewer domains than copies), an area of
 * E extents fits if and only if the sum over the groups of min(E, room of the group) is at least R * E: each group holds at
 * most one copy of each extent, and whoever fills the groups most roomy first never gets stuck before that sum.
 */
#include "internal.h"

static u64 group_room(const struct admit_donor *d, unsigned int n, u32 group)
{
	u64 room = 0;
	unsigned int i;

	for (i = 0; i < n; i++)
		if (d[i].group == group)
			room += d[i].cap;
	return room;
}

static bool first_of_group(const struct admit_donor *d, unsigned int i)
{
	unsigned int k;

	for (k = 0; k < i; k++)
		if (d[k].group == d[i].group)
			return false;
	return true;
}

static bool fits(const struct admit_donor *d, unsigned int n, u32 extents, unsigned int replicas)
{
	u64 sum = 0, room;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (!first_of_group(d, i))
			continue;
		room = group_room(d, n, d[i].group);
		sum += room < extents ? room : extents;
	}
	return sum >= (u64)replicas * extents;
}

/* Largest number of extents, at most @want, of which @replicas copies fit. */
u32 admit_largest(const struct admit_donor *d, unsigned int n, u32 want, unsigned int replicas)
{
	u32 low = 0, high = want;

	while (low < high) {
		u32 mid = low + (high - low + 1) / 2;

		if (fits(d, n, mid, replicas))
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

static u32 group_left(const struct admit_donor *d, unsigned int n, u32 group, u32 extents)
{
	u64 used = 0;
	unsigned int i;

	for (i = 0; i < n; i++)
		if (d[i].group == group)
			used += d[i].alloc;
	return used < extents ? extents - (u32)used : 0;
}

/*
 * Spreads @replicas copies of @extents extents: what is placed stays where it is, the rest goes where most is free. False: not all
 * of it found room; .alloc then says what did.
 */
bool admit_spread(struct admit_donor *d, unsigned int n, u32 extents, unsigned int replicas)
{
	u64 left = (u64)extents * replicas;
	u32 chunk = (u32)(left / 512) + 1;
	unsigned int i;

	for (i = 0; i < n; i++) {
		d[i].alloc = d[i].placed;
		left -= d[i].placed < left ? d[i].placed : left;
	}
	while (left) {
		struct admit_donor *best = NULL;
		u32 take, room;

		for (i = 0; i < n; i++) {
			if (d[i].alloc >= d[i].cap || !group_left(d, n, d[i].group, extents))
				continue;
			if (!best || d[i].cap - d[i].alloc > best->cap - best->alloc)
				best = &d[i];
		}
		if (!best)
			return false;
		take = chunk < left ? chunk : (u32)left;
		room = group_left(d, n, best->group, extents);
		if (take > room)
			take = room;
		if (take > best->cap - best->alloc)
			take = best->cap - best->alloc;
		best->alloc += take;
		left -= take;
	}
	return true;
}

/*
 * Is there room for the copies that are missing now (@owed), and may the largest group fail then and still be rebuilt in the others?
 * The latter is asked only where there is a group more than copies, and a copy to rebuild from: with as many groups as copies
 * nobody could take over anyway.
 */
bool admit_headroom(const struct admit_donor *d, unsigned int n, const u64 *free_after, const u64 *reserved_after,
		    unsigned int replicas, u64 owed)
{
	unsigned int i, k, groups = 0;
	u64 all = 0;

	for (i = 0; i < n; i++) {
		groups += first_of_group(d, i);
		all += free_after[i];
	}
	if (all < owed)
		return false;
	if (replicas < 2 || groups <= replicas)
		return true;
	for (i = 0; i < n; i++) {
		u64 lost = 0, room = 0;

		if (!first_of_group(d, i))
			continue;
		for (k = 0; k < n; k++) {
			if (d[k].group == d[i].group)
				lost += reserved_after[k];
			else
				room += free_after[k];
		}
		if (lost + owed > room)
			return false;
	}
	return true;
}
