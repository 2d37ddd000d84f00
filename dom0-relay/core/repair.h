/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * repair.h - one pass of repair over one extent: between repair.c, which begins, scans and ends it, and copy.c, which copies.
 */
#ifndef MEMX_RELAY_REPAIR_H
#define MEMX_RELAY_REPAIR_H

#include "internal.h"

enum {
	SLOT_BUSY	= 1,		/* being copied */
	SLOT_NEWER	= 2,		/* said to be overwritten meanwhile */
	SLOT_NO_PAGE	= 4,		/* the target has none to show: it was discarded there, or is not right */
	SLOT_SAID	= 16,		/* by the first source, the next bits: by the others; by none: by the target */
};

struct source {
	struct core_donor *donor;
	bool live;			/* else a last resort */
	u64 *version;
	bool *gone;			/* it was discarded */
};

struct repair {
	struct list in_core;
	struct list dops;
	struct extent *x;
	struct core_donor *target;
	u64 moved_at;			/* begun, or the last answer came */
	u32 first, slots;		/* of the extent */
	u32 scans;			/* unfinished */
	u32 next;			/* slot from which copying goes on, relative */
	u32 out;			/* batches under way */
	bool failed, proving;
	bool completing;		/* live sources get what they lack */
	u32 behind;			/* the one whose turn that is */
	bool some_only;			/* a copy that is left of a lost extent was not read */
	u32 sources;
	struct source source[MEMX_MAX_REPLICAS];
	u64 *have;			/* versions of the target */
	u8 *flags;			/* SLOT_* */
	u8 *doubt;			/* sources that are not believed in this slot */
	u32 scan_next[CORE_MAX_DONORS];
};

struct dop *repair_dop(struct repair *r, struct core_donor *d, u16 op, dop_done done);
void repair_moved(struct dop *dop);		/* its answer came */
void repair_fail(struct repair *r);		/* ends the pass; the next one begins in a moment */
int repair_refused(struct repair *r, struct core_donor *d, u32 status);
void repair_broken(struct repair *r, struct core_donor *d);	/* its answer breaks the protocol */
void repair_stuck(struct repair *r, u32 at);	/* the same, where no copy of this slot is right */
void repair_copy(struct repair *r);		/* goes on copying */
void repair_prove(struct repair *r);		/* all is copied */
bool repair_behind(const struct repair *r, const struct source *s, u32 at);
void repair_complete(struct repair *r);		/* goes on giving live sources what they lack */
void repair_done(struct repair *r);
bool repair_lacks(const struct repair *r, u32 at);

#endif /* MEMX_RELAY_REPAIR_H */
