/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pool.h - preallocated operations: what a request of the swap core needs between its coming and its end.
 *
 * On the way of a page nothing is allocated. Who finds the pool empty waits for an operation to end, as on a block device's
 * request queue. Stores, fetches and the trimmer have a pool each, so that none waits for the others.
 */
#ifndef MEMX_GUEST_POOL_H
#define MEMX_GUEST_POOL_H

#include <linux/fs.h>
#include <linux/wait.h>

#include "reqs.h"

/* One request of the swap core; its pages are items whose owner it is. */
struct memx_swap_op {
	struct list_head node;
	struct kiocb *iocb;		/* the core's until ki_complete() was called */
	atomic_t left;			/* items that have not ended, and one for the submitter */
	int err;			/* the first one */
	ssize_t len;
	u64 born;			/* ns */
	u32 slot, pages;
	bool store;
};

struct memx_pool {
	spinlock_t lock;		/* the lists; taken in interrupts */
	struct list_head ops, items;
	u32 free_items;
	wait_queue_head_t wait;
	struct memx_swap_op *op_table;
	struct memx_item *item_table;
	size_t bytes;
};

int memx_pool_init(struct memx_pool *p, u32 ops, u32 items);	/* -ENOMEM; may sleep */
void memx_pool_free(struct memx_pool *p);			/* everything was given back */

/* Takes an operation, waiting for one. NULL: @killable and the task is being killed. *@waited: it had to wait. */
struct memx_swap_op *memx_pool_op(struct memx_pool *p, bool killable, bool *waited);
void memx_pool_put_op(struct memx_pool *p, struct memx_swap_op *op);

/* Takes 1 .. @want items onto @to, waiting for the first. Returns how many; 0: as above. */
u32 memx_pool_items(struct memx_pool *p, u32 want, struct list_head *to, bool killable, bool *waited);
/* The same without waiting, one item; NULL: none is free. */
struct memx_item *memx_pool_try_item(struct memx_pool *p);
void memx_pool_put_item(struct memx_pool *p, struct memx_item *item);

#endif /* MEMX_GUEST_POOL_H */
