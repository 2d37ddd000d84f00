/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pressure.h - how much a donor may hold when its host runs short of memory. Arithmetic only: what was seen and when goes
 * in, the number of pages that are allowed comes out.
 */
#ifndef SRV_PRESSURE_H
#define SRV_PRESSURE_H

#include <memx/port.h>

#define SRV_NO_BOUND UINT64_MAX

struct srv_pressure {
	u64 allowed;			/* pages; SRV_NO_BOUND: the host does not mind */
	u64 shrunk_ns, hurt_ns;		/* last step down because of stalls; last sign of want */
};

/* All in pages. */
struct srv_pressure_view {
	u64 now_ns;
	u64 limit;			/* by settings and command */
	u64 used;
	u64 available, floor;		/* of the host's memory, and what should be; floor 0: no matter */
	bool stalled;			/* tasks of the host waited for memory */
};

enum {
	SRV_STALL_PAUSE_S	= 2,	/* between two steps down because of stalls: the first has to be felt */
	SRV_CALM_S		= 30,	/* without a sign of want before more is taken again */
};

/* Call it with every sign of stalls, and about once a second while floor or p->allowed is set. Returns p->allowed. */
u64 srv_pressure_step(struct srv_pressure *p, const struct srv_pressure_view *v);

#endif /* SRV_PRESSURE_H */
