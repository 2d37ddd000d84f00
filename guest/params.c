// SPDX-License-Identifier: GPL-2.0-only
/*
 * params.c - the module's parameters, and what they mean where they were left alone.
 *
 * All are read once, when the module is loaded. What can be changed later is a file in sysfs (sysfs.c).
 */
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>

#include "module.h"
#include "sizing.h"

static unsigned int size_mb;
module_param(size_mb, uint, 0444);
MODULE_PARM_DESC(size_mb, "swap wanted, in MiB (0: what Dom0's quota for this guest gives)");

static unsigned int replicas;
module_param(replicas, uint, 0444);
MODULE_PARM_DESC(replicas, "copies wanted of each page, 1 to 3 (0: what Dom0 has configured)");

static unsigned int store_lanes;
module_param(store_lanes, uint, 0444);
MODULE_PARM_DESC(store_lanes, "channels to the relay for pages that leave (0: one for every two CPUs, 1 to 4)");

static unsigned int fetch_lanes;
module_param(fetch_lanes, uint, 0444);
MODULE_PARM_DESC(fetch_lanes, "channels to the relay for pages that come back (0: one for every two CPUs, 1 to 4)");

static unsigned int ring_order;
module_param(ring_order, uint, 0444);
MODULE_PARM_DESC(ring_order, "log2 of the bytes of each channel's large ring, 19 or 20 (0: as the guest's memory allows)");

static unsigned int deadline_ms;
module_param(deadline_ms, uint, 0444);
MODULE_PARM_DESC(deadline_ms, "milliseconds after which a page that waits for the relay fails (0: it waits; a read that fails kills the task that wants the page)");

static unsigned int trim_pages = 16384;
module_param(trim_pages, uint, 0444);
MODULE_PARM_DESC(trim_pages, "swap slots per second that are looked at to give freed ones back (0: none; from Linux 6.18 on only what later stores left behind is found)");

enum {
	MAX_MB = 1 << 24,	/* 16 TiB, the most that slots of 32 bits count */
};

static int refuse(const char *name, unsigned int value, const char *accepted)
{
	pr_err("parameter %s=%u: accepted is %s\n", name, value, accepted);
	return -EINVAL;
}

int memx_params_get(struct memx_session_config *config)
{
	unsigned int lanes = memx_default_lanes(num_online_cpus());
	unsigned int store = store_lanes ? store_lanes : lanes;
	unsigned int fetch = fetch_lanes ? fetch_lanes : lanes;

	if (size_mb >= MAX_MB)
		return refuse("size_mb", size_mb, "0 to 16777215");
	BUILD_BUG_ON(MEMX_MAX_COPIES != 3);	/* the texts say so */
	if (replicas > MEMX_MAX_COPIES)
		return refuse("replicas", replicas, "0 to 3");
	if (store >= MEMX_MAX_LANES)
		return refuse("store_lanes", store, "0 to 7");
	if (fetch > MEMX_MAX_LANES - store)
		return refuse("fetch_lanes", fetch, "what makes at most 8 with store_lanes");
	if (ring_order && (ring_order < MEMX_LARGE_MIN_ORDER || ring_order > MEMX_LARGE_MAX_ORDER))
		return refuse("ring_order", ring_order, "0, 19 or 20");

	*config = (struct memx_session_config) {
		.slots = size_mb << (20 - PAGE_SHIFT),
		.replicas = replicas,
		.store_lanes = store,
		.fetch_lanes = fetch,
		.ring_order = ring_order,
		.deadline_ms = deadline_ms,
		.trim_pages = trim_pages,
	};
	return 0;
}
