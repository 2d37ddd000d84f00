// SPDX-License-Identifier: GPL-2.0-only
/*
 * slots.c - the slot table; see slots.h for what a slot is and who guards it.
 *
 * Pure: compiled in the kernel, under KUnit and in user space.
 */
#include "slots.h"

#define SLOT_STATE	0x03ULL		/* enum memx_slot_state */
#define SLOT_BUSY	0x04ULL
#define SLOT_REMOTE	0x08ULL
#define SLOT_FLAGS	0xffULL
#define SLOT_KEY_SHIFT	8
#define SLOT_KEY	(0xffULL << SLOT_KEY_SHIFT)
#define SLOT_VERSION_SHIFT 16

_Static_assert(sizeof(struct memx_slot) == 16, "a slot takes sixteen bytes");

int memx_slots_init(struct memx_slots *s, u32 count, u8 order)
{
	if (!count || order < MEMX_MIN_EXTENT_ORDER || order > MEMX_MAX_EXTENT_ORDER)
		return -EINVAL;
	s->slot = memx_table_alloc(count, sizeof(*s->slot));
	if (!s->slot)
		return -ENOMEM;
	s->count = count;
	s->order = order;
	return 0;
}

void memx_slots_free(struct memx_slots *s)
{
	memx_table_free(s->slot);
	s->slot = NULL;
	s->count = 0;
}

u64 memx_slot_version(const struct memx_slots *s, u32 n)
{
	return n < s->count ? s->slot[n].meta >> SLOT_VERSION_SHIFT : 0;
}

enum memx_slot_state memx_slot_state(const struct memx_slots *s, u32 n)
{
	return n < s->count ? (enum memx_slot_state)(s->slot[n].meta & SLOT_STATE) : MEMX_SLOT_ABSENT;
}

bool memx_slot_busy(const struct memx_slots *s, u32 n)
{
	return n < s->count && s->slot[n].meta & SLOT_BUSY;
}

bool memx_slot_remote(const struct memx_slots *s, u32 n)
{
	return n < s->count && s->slot[n].meta & SLOT_REMOTE;
}

static void slot_set_state(struct memx_slot *slot, enum memx_slot_state state)
{
	slot->meta = (slot->meta & ~SLOT_STATE) | state;
}

/* Raises the version and returns it; 0 when it cannot rise any more. */
static u64 slot_raise(struct memx_slot *slot)
{
	u64 version = slot->meta >> SLOT_VERSION_SHIFT;

	if (version == MEMX_VERSION_MAX)
		return 0;
	slot->meta += 1ULL << SLOT_VERSION_SHIFT;
	return version + 1;
}

int memx_slot_begin(struct memx_slots *s, u32 n)
{
	if (n >= s->count)
		return -ERANGE;
	if (s->slot[n].meta & SLOT_BUSY)
		return -EBUSY;
	s->slot[n].meta |= SLOT_BUSY;
	return 0;
}

u64 memx_slot_send(struct memx_slots *s, u32 n)
{
	u64 version;

	if (n >= s->count)
		return 0;
	version = slot_raise(&s->slot[n]);
	if (version)
		s->slot[n].meta |= SLOT_REMOTE;
	return version;
}

int memx_slot_acked(struct memx_slots *s, u32 n, u64 version, u64 check, u8 key_gen)
{
	struct memx_slot *slot;

	if (n >= s->count)
		return -ERANGE;
	slot = &s->slot[n];
	if (!(slot->meta & SLOT_BUSY) || slot->meta >> SLOT_VERSION_SHIFT != version)
		return -ESTALE;
	slot->meta &= ~(SLOT_BUSY | SLOT_KEY);
	slot->meta |= SLOT_REMOTE | (u64)key_gen << SLOT_KEY_SHIFT;
	slot_set_state(slot, MEMX_SLOT_STORED);
	slot->value = check;
	return 0;
}

void memx_slot_failed(struct memx_slots *s, u32 n)
{
	if (n >= s->count)
		return;
	s->slot[n].meta &= ~SLOT_BUSY;
	slot_set_state(&s->slot[n], MEMX_SLOT_ABSENT);
	s->slot[n].value = 0;
}

int memx_slot_same(struct memx_slots *s, u32 n, u64 word)
{
	if (n >= s->count)
		return -ERANGE;
	if (s->slot[n].meta & SLOT_BUSY)
		return -EBUSY;
	slot_set_state(&s->slot[n], MEMX_SLOT_SAME);
	s->slot[n].value = word;
	return 0;
}

int memx_slot_want(const struct memx_slots *s, u32 n, u64 *version, u64 *check)
{
	const struct memx_slot *slot;

	if (n >= s->count)
		return -ERANGE;
	slot = &s->slot[n];
	if (slot->meta & SLOT_BUSY)
		return -EBUSY;
	*version = slot->meta >> SLOT_VERSION_SHIFT;
	*check = slot->value;
	switch (slot->meta & SLOT_STATE) {
	case MEMX_SLOT_STORED:
		return 0;
	case MEMX_SLOT_SAME:
		return 1;
	default:
		return -ENODATA;
	}
}

bool memx_slot_trimmable(const struct memx_slots *s, u32 n, bool freed)
{
	u64 meta;

	if (n >= s->count)
		return false;
	meta = s->slot[n].meta;
	if (meta & SLOT_BUSY || !(meta & SLOT_REMOTE))
		return false;
	return freed || (meta & SLOT_STATE) != MEMX_SLOT_STORED;
}

u64 memx_slot_discard(struct memx_slots *s, u32 n, bool freed)
{
	struct memx_slot *slot;
	u64 version = 0;

	if (n >= s->count || s->slot[n].meta & SLOT_BUSY)
		return 0;
	slot = &s->slot[n];
	if (memx_slot_trimmable(s, n, freed)) {
		version = slot_raise(slot);
		if (!version)
			return 0;
		slot->meta &= ~SLOT_REMOTE;
	}
	if (freed) {
		slot_set_state(slot, MEMX_SLOT_ABSENT);
		slot->value = 0;
	}
	return version;
}

void memx_slot_undiscarded(struct memx_slots *s, u32 n, u64 version)
{
	if (n < s->count && s->slot[n].meta >> SLOT_VERSION_SHIFT == version)
		s->slot[n].meta |= SLOT_REMOTE;
}

bool memx_same_filled(const void *page, u64 *word)
{
	const u64 *w = page;
	unsigned int i, last = MEMX_PAGE_SIZE / sizeof(*w) - 1;
	u64 first = memx_load_once(&w[0]);

	/* Most pages that differ do so at their ends: look there first, and at each word once. */
	if (memx_load_once(&w[last]) != first)
		return false;
	for (i = 1; i < last; i++)
		if (memx_load_once(&w[i]) != first)
			return false;
	*word = first;
	return true;
}

void memx_same_fill(void *page, u64 word)
{
	u64 *w = page;
	unsigned int i;

	for (i = 0; i < MEMX_PAGE_SIZE / sizeof(*w); i++)
		w[i] = word;
}
