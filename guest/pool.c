// SPDX-License-Identifier: GPL-2.0-only
/*
 * pool.c - preallocated operations and items, and waiting for them; see pool.h.
 *
 * The spin lock guards the free lists alone. Waiting for a store may be ended by a fatal signal: the page stays dirty and
 * the task can die, which is what the OOM killer counts on. Waiting for a fetch may not: a fetch that fails is SIGBUS for
 * whoever else maps the page.
 */
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "pool.h"

int memx_pool_init(struct memx_pool *p, u32 ops, u32 items)
{
	u32 i;

	spin_lock_init(&p->lock);
	INIT_LIST_HEAD(&p->ops);
	INIT_LIST_HEAD(&p->items);
	init_waitqueue_head(&p->wait);
	p->free_items = 0;
	p->op_table = ops ? vzalloc(array_size(ops, sizeof(*p->op_table))) : NULL;
	p->item_table = vzalloc(array_size(items, sizeof(*p->item_table)));
	if ((ops && !p->op_table) || !p->item_table) {
		memx_pool_free(p);
		return -ENOMEM;
	}
	for (i = 0; i < ops; i++)
		list_add_tail(&p->op_table[i].node, &p->ops);
	for (i = 0; i < items; i++)
		list_add_tail(&p->item_table[i].node, &p->items);
	p->free_items = items;
	p->bytes = (size_t)ops * sizeof(*p->op_table) + (size_t)items * sizeof(*p->item_table);
	return 0;
}

void memx_pool_free(struct memx_pool *p)
{
	vfree(p->op_table);
	vfree(p->item_table);
	p->op_table = NULL;
	p->item_table = NULL;
}

/* Waits until @list has something; false: killed. */
static bool pool_wait(struct memx_pool *p, struct list_head *list, bool killable)
{
	if (killable)
		return !wait_event_killable(p->wait, !list_empty_careful(list));
	wait_event(p->wait, !list_empty_careful(list));
	return true;
}

struct memx_swap_op *memx_pool_op(struct memx_pool *p, bool killable, bool *waited)
{
	struct memx_swap_op *op;
	unsigned long flags;

	for (;;) {
		spin_lock_irqsave(&p->lock, flags);
		op = list_first_entry_or_null(&p->ops, struct memx_swap_op, node);
		if (op)
			list_del_init(&op->node);
		spin_unlock_irqrestore(&p->lock, flags);
		if (op)
			return op;
		*waited = true;
		if (!pool_wait(p, &p->ops, killable))
			return NULL;
	}
}

void memx_pool_put_op(struct memx_pool *p, struct memx_swap_op *op)
{
	unsigned long flags;

	spin_lock_irqsave(&p->lock, flags);
	list_add(&op->node, &p->ops);
	spin_unlock_irqrestore(&p->lock, flags);
	if (wq_has_sleeper(&p->wait))
		wake_up(&p->wait);
}

u32 memx_pool_items(struct memx_pool *p, u32 want, struct list_head *to, bool killable, bool *waited)
{
	unsigned long flags;
	u32 n = 0;

	for (;;) {
		spin_lock_irqsave(&p->lock, flags);
		while (n < want && p->free_items) {
			list_move_tail(p->items.next, to);
			p->free_items--;
			n++;
		}
		spin_unlock_irqrestore(&p->lock, flags);
		if (n)
			return n;
		*waited = true;
		if (!pool_wait(p, &p->items, killable))
			return 0;
	}
}

struct memx_item *memx_pool_try_item(struct memx_pool *p)
{
	struct memx_item *item;
	unsigned long flags;

	spin_lock_irqsave(&p->lock, flags);
	item = list_first_entry_or_null(&p->items, struct memx_item, node);
	if (item) {
		list_del_init(&item->node);
		p->free_items--;
	}
	spin_unlock_irqrestore(&p->lock, flags);
	return item;
}

void memx_pool_put_item(struct memx_pool *p, struct memx_item *item)
{
	unsigned long flags;

	spin_lock_irqsave(&p->lock, flags);
	list_add(&item->node, &p->items);
	p->free_items++;
	spin_unlock_irqrestore(&p->lock, flags);
	if (wq_has_sleeper(&p->wait))
		wake_up(&p->wait);
}
