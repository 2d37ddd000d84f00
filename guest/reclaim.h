/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * reclaim.h - the scope in which this module's threads work: memory that is asked for in it is taken from the reserves, never
 * waited for, because reclaim may be waiting for these very threads.
 *
 * With MEMX_UNSAFE_RECLAIM (make module MEMX_UNSAFE_RECLAIM=1: a module of another name, for one test and nothing else) the
 * rule is switched off. Then the lanes' threads do what a driver does that never thought of reclaim: all answers are left to
 * them, and for each round they ask for buffers with GFP_KERNEL, outside of the scope. A guest short of memory hangs, and
 * the tests must see it.
 */
#ifndef MEMX_GUEST_RECLAIM_H
#define MEMX_GUEST_RECLAIM_H

#include <linux/gfp.h>
#include <linux/printk.h>
#include <linux/sched/mm.h>

#ifdef MEMX_UNSAFE_RECLAIM

enum { MEMX_UNSAFE_PAGES = 32 };	/* a request's worth */

static inline void memx_unsafe_warn(void)
{
	pr_alert("a build for one test, in which a guest short of memory HANGS: unload it\n");
}

static inline unsigned int memx_reclaim_enter(void)
{
	return 0;
}

static inline void memx_reclaim_leave(unsigned int flags)
{
}

static inline void memx_unsafe_buffers(void)
{
	struct page *page[MEMX_UNSAFE_PAGES];
	unsigned int i;

	for (i = 0; i < MEMX_UNSAFE_PAGES; i++)
		page[i] = alloc_page(GFP_KERNEL);
	for (i = 0; i < MEMX_UNSAFE_PAGES; i++)
		if (page[i])
			__free_page(page[i]);
}

#else

static inline void memx_unsafe_warn(void)
{
}

static inline unsigned int memx_reclaim_enter(void)
{
	return memalloc_noreclaim_save();
}

static inline void memx_reclaim_leave(unsigned int flags)
{
	memalloc_noreclaim_restore(flags);
}

static inline void memx_unsafe_buffers(void)
{
}

#endif

#endif /* MEMX_GUEST_RECLAIM_H */
