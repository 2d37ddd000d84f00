/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * port.h - what the module's pure parts need of where they run: the kernel, a KUnit kernel, or a process.
 *
 * slots, records, reqs, frames, attach, lane, receive and engine include this and shared/memx/, nothing else: no Xen, no kernel header.
 * So the same files are the module's engine, run under KUnit, and make the native guest that drives a relay over shared
 * memory in benchmarks, fault campaigns and simulations.
 *
 * Locks are spin locks that an interrupt handler may take too; in a process they are mutexes. Memory of tables comes from
 * memx_table_alloc() and is asked for at attach only, never on the way of a page.
 */
#ifndef MEMX_GUEST_PORT_H
#define MEMX_GUEST_PORT_H

#include "../shared/memx/codec.h"

#ifdef __KERNEL__

#include <linux/bug.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

typedef spinlock_t memx_lock_t;

#define memx_lock_init(l)		spin_lock_init(l)
#define memx_lock(l, flags)		spin_lock_irqsave(l, flags)
#define memx_unlock(l, flags)		spin_unlock_irqrestore(l, flags)
#define memx_assert_held(l)		lockdep_assert_held(l)

/* Around the time in which one task sends for all: it must not be scheduled away while others count on it. */
#define memx_owner_enter()		preempt_disable()
#define memx_owner_leave()		preempt_enable()

#define memx_warn_once(cond)		WARN_ON_ONCE(cond)

/* Zeroed memory for a table; may sleep. */
static inline void *memx_table_alloc(size_t n, size_t size)
{
	return vzalloc(array_size(n, size));
}

static inline void memx_table_free(void *p)
{
	vfree(p);
}

#else /* user space */

#include <pthread.h>
#include <stdlib.h>

typedef pthread_mutex_t memx_lock_t;

#define memx_lock_init(l)		pthread_mutex_init(l, NULL)
#define memx_lock(l, flags)		do { (flags) = 0; pthread_mutex_lock(l); } while (0)
#define memx_unlock(l, flags)		do { (void)(flags); pthread_mutex_unlock(l); } while (0)
#define memx_assert_held(l)		((void)(l))
#define memx_owner_enter()		((void)0)
#define memx_owner_leave()		((void)0)
static inline void memx_warn_once(bool cond)
{
	(void)cond;
}

static inline void *memx_table_alloc(size_t n, size_t size)
{
	return calloc(n ? n : 1, size);
}

static inline void memx_table_free(void *p)
{
	free(p);
}

/* Doubly linked lists under the kernel's names; only what the pure parts use. */

struct list_head {
	struct list_head *next, *prev;
};

#ifndef container_of
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#endif
#define list_entry(ptr, type, member)		container_of(ptr, type, member)
#define list_first_entry(head, type, member)	list_entry((head)->next, type, member)
#define list_next_entry(pos, member)		list_entry((pos)->member.next, __typeof__(*(pos)), member)
#define list_for_each_entry(pos, head, member)							\
	for (pos = list_first_entry(head, __typeof__(*pos), member); &pos->member != (head);	\
	     pos = list_next_entry(pos, member))
#define list_for_each_entry_safe(pos, n, head, member)						\
	for (pos = list_first_entry(head, __typeof__(*pos), member), n = list_next_entry(pos, member); \
	     &pos->member != (head); pos = n, n = list_next_entry(n, member))

static inline void INIT_LIST_HEAD(struct list_head *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

static inline void memx_list_link(struct list_head *node, struct list_head *prev, struct list_head *next)
{
	next->prev = node;
	node->next = next;
	node->prev = prev;
	prev->next = node;
}

static inline void list_add(struct list_head *node, struct list_head *head)
{
	memx_list_link(node, head, head->next);
}

static inline void list_add_tail(struct list_head *node, struct list_head *head)
{
	memx_list_link(node, head->prev, head);
}

static inline void list_del_init(struct list_head *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	INIT_LIST_HEAD(node);
}

static inline void list_move_tail(struct list_head *node, struct list_head *head)
{
	list_del_init(node);
	list_add_tail(node, head);
}

static inline void list_splice_init(struct list_head *list, struct list_head *head)
{
	if (list_empty(list))
		return;
	list->next->prev = head;
	list->prev->next = head->next;
	head->next->prev = list->prev;
	head->next = list->next;
	INIT_LIST_HEAD(list);
}

static inline void list_splice_tail_init(struct list_head *list, struct list_head *head)
{
	list_splice_init(list, head->prev);
}

#ifndef min
#define min(a, b) ((a) < (b) ? (a) : (b))
#endif
#ifndef max
#define max(a, b) ((a) > (b) ? (a) : (b))
#endif

#endif /* __KERNEL__ */

#endif /* MEMX_GUEST_PORT_H */
