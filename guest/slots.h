/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * slots.h - what the guest knows of each slot of its swap: sixteen bytes, the ground on which a fetch is believed or not.
 *
 * A slot is absent (nothing acknowledged: reading it is an error, never zeros), stored (donors have it at this version with
 * this check) or same (one word repeated, which never left the guest). Beside that two flags: BUSY while a store is between
 * its being queued and its end, REMOTE while donors may hold a page for it. The version is raised by every store that is
 * sent and by every discard, and never goes back within a session.
 *
 * Locking: the caller's; the lane that stores the slot's extent guards it with its lock.
 */
#ifndef MEMX_GUEST_SLOTS_H
#define MEMX_GUEST_SLOTS_H

#include "port.h"

enum memx_slot_state {
	MEMX_SLOT_ABSENT	= 0,
	MEMX_SLOT_STORED	= 1,
	MEMX_SLOT_SAME		= 2,
};

struct memx_slot {
	u64 meta;		/* version:48, key generation:8, flags:8 (lowest) */
	u64 value;		/* stored: the check; same: the word */
};

struct memx_slots {
	struct memx_slot *slot;
	u32 count;
	u8 order;		/* log2 of slots per extent */
};

#define MEMX_VERSION_MAX	((1ULL << 48) - 1)

/* Takes memory for @count absent slots. -ENOMEM, -EINVAL. May sleep. */
int memx_slots_init(struct memx_slots *s, u32 count, u8 order);
void memx_slots_free(struct memx_slots *s);

/* All below: @n < count, or they return what an absent slot gives (-ERANGE where they return an int). */
u64 memx_slot_version(const struct memx_slots *s, u32 n);
enum memx_slot_state memx_slot_state(const struct memx_slots *s, u32 n);
bool memx_slot_busy(const struct memx_slots *s, u32 n);
bool memx_slot_remote(const struct memx_slots *s, u32 n);

/* A store of @n is queued: BUSY from now on. -EBUSY: there is one already, wait for its end. */
int memx_slot_begin(struct memx_slots *s, u32 n);
/* The store of @n goes out (again): raises the version and returns it. REMOTE from now on. 0: versions are used up. */
u64 memx_slot_send(struct memx_slots *s, u32 n);
/* It was acknowledged as @version: stored, no longer BUSY. -ESTALE if that is not the version last sent. */
int memx_slot_acked(struct memx_slots *s, u32 n, u64 version, u64 check, u8 key_gen);
/* It failed: what donors hold is unknown, so the slot is absent; no longer BUSY. */
void memx_slot_failed(struct memx_slots *s, u32 n);
/* A page of one repeated @word was stored, locally. -EBUSY as above. */
int memx_slot_same(struct memx_slots *s, u32 n, u64 word);

/*
 * What a fetch of @n gets. 0: stored, *version and *check are what to want and verify. 1: same, *check is the word.
 * -ENODATA: absent. -EBUSY: a store is on its way, ask again after its end.
 */
int memx_slot_want(const struct memx_slots *s, u32 n, u64 *version, u64 *check);

/*
 * The trimmer's rule. @freed: the kernel says that nobody uses the slot. True if a discard is due: no store is under way, and
 * donors may hold a page that will never be read (freed, or overwritten by a page that stayed here).
 */
bool memx_slot_trimmable(const struct memx_slots *s, u32 n, bool freed);
/* Makes @n absent and returns the version of the discard, 0 if none is due by the rule above. A freed same slot ends here. */
u64 memx_slot_discard(struct memx_slots *s, u32 n, bool freed);
/* The discard at @version came to nothing: donors may hold something still, if nothing was sent since. */
void memx_slot_undiscarded(struct memx_slots *s, u32 n, u64 version);

/* Is the page at @page one word repeated? Then *word is it. */
bool memx_same_filled(const void *page, u64 *word);
void memx_same_fill(void *page, u64 word);

#endif /* MEMX_GUEST_SLOTS_H */
