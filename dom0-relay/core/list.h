/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * list.h - doubly linked lists inside the things they hold. A node that is in no list points to itself, so that taking it out
 * twice does no harm. No locks: a list belongs to the thread of its core.
 */
#ifndef MEMX_RELAY_LIST_H
#define MEMX_RELAY_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define list_entry(node, type, member) ((type *)((char *)(node) - offsetof(type, member)))
#define list_first(head, type, member) list_entry((head)->next, type, member)

/* The body may take @pos out of the list, but not the one behind it. */
#define list_for_each_safe(pos, tmp, head) \
	for ((pos) = (head)->next, (tmp) = (pos)->next; (pos) != (head); (pos) = (tmp), (tmp) = (pos)->next)
#define list_for_each(pos, head) \
	for ((pos) = (head)->next; (pos) != (head); (pos) = (pos)->next)

static inline void list_init(struct list *node)
{
	node->next = node;
	node->prev = node;
}

static inline bool list_empty(const struct list *node)
{
	return node->next == node;
}

static inline void list_add_tail(struct list *node, struct list *head)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void list_add_head(struct list *node, struct list *head)
{
	list_add_tail(node, head->next);
}

static inline void list_del(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* Takes the first node out of a list that is not empty. */
static inline struct list *list_pop(struct list *head)
{
	struct list *node = head->next;

	head->next = node->next;
	node->next->prev = head;
	list_init(node);
	return node;
}

/* Moves everything from @from to the end of @to. */
static inline void list_splice_tail(struct list *from, struct list *to)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#endif /* MEMX_RELAY_LIST_H */
