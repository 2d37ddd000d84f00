// SPDX-License-Identifier: GPL-2.0-only
/*
 * reqs.c - pending items, the table of requests, tags and credits; see reqs.h for the rules and who guards it.
 *
 * Pure: compiled in the kernel, under KUnit and in user space.
 */
#include "reqs.h"

enum {
	REQ_INDEX_BITS	= 16,		/* of a tag; above it the entry's generation */
	REQ_WINDOW	= 128,		/* pending items looked at for one request */
};

int memx_reqs_init(struct memx_reqs *q, u32 size)
{
	u32 i;

	memset(q, 0, sizeof(*q));
	INIT_LIST_HEAD(&q->free);
	INIT_LIST_HEAD(&q->out);
	INIT_LIST_HEAD(&q->pending);
	if (!size || size > 1U << REQ_INDEX_BITS)
		return -EINVAL;
	q->table = memx_table_alloc(size, sizeof(*q->table));
	if (!q->table)
		return -ENOMEM;
	q->size = size;
	for (i = 0; i < size; i++)
		list_add_tail(&q->table[i].node, &q->free);
	return 0;
}

void memx_reqs_free(struct memx_reqs *q)
{
	memx_table_free(q->table);
	q->table = NULL;
	q->size = 0;
}

static u32 reply_room(u32 ring)
{
	return ring > MEMX_RESERVE_REPLY ? ring - (u32)MEMX_RESERVE_REPLY : 0;
}

int memx_reqs_limits(struct memx_reqs *q, u8 kind, u8 order, u32 max_pages, u32 requests, u32 pages, u32 reply_ring,
		     u32 request_ring)
{
	u32 reply = reply_room(reply_ring), n = min(max_pages, (u32)MEMX_MAX_PAGES), need;

	n = min(n, pages);
	for (; n; n--) {
		need = MEMX_HDR_LEN + (kind == MEMX_LANE_STORE ? memx_store_len(n) : memx_want_len(n));
		if (need + (u32)MEMX_RESERVE_REQUEST <= request_ring &&
		    memx_reply_max(kind == MEMX_LANE_STORE ? MEMX_OP_STORE : MEMX_OP_FETCH, n) <= reply)
			break;
	}
	if (!n || !requests)
		return -EPROTO;
	q->order = order;
	q->max_pages = n;
	q->limit_requests = min(requests, q->size);
	q->limit_pages = pages;
	q->limit_reply = reply;
	return 0;
}

void memx_reqs_queue(struct memx_reqs *q, struct memx_item *item)
{
	list_add_tail(&item->node, &q->pending);
	q->n_pending++;
}

void memx_reqs_requeue(struct memx_reqs *q, struct memx_item *item)
{
	list_add(&item->node, &q->pending);
	q->n_pending++;
}

/* Puts @item into its place by slot. False: there is one of that slot already. */
static bool req_insert(struct memx_req *r, struct memx_item *item)
{
	u32 at = r->count, i;

	while (at && r->slot[at - 1] > item->slot)
		at--;
	if (at && r->slot[at - 1] == item->slot)
		return false;
	for (i = r->count; i > at; i--) {
		r->item[i] = r->item[i - 1];
		r->slot[i] = r->slot[i - 1];
	}
	r->item[at] = item;
	r->slot[at] = item->slot;
	r->count++;
	return true;
}

/* Pages of a request to @op that the credits allow, at most the agreed number. */
static u32 reqs_room(const struct memx_reqs *q, u8 op)
{
	u32 n = min(q->max_pages, q->limit_pages - q->used_pages);

	while (n && memx_reply_max(op, n) > q->limit_reply - q->used_reply)
		n--;
	return n;
}

/*
 * May a batch of @count pages that begins with @head go now, or does waiting make it a better one? One that was cut short by
 * the credits (@room) waits for more of them, or batches would shrink for ever [the silly window of RFC 813].
 */
static bool reqs_ripe(const struct memx_reqs *q, const struct memx_item *head, u32 count, u32 room)
{
	if (head->op == MEMX_OP_FETCH || count == q->max_pages || list_empty(&q->out) || q->hurried)
		return true;
	if (count == room)
		return false;
	return q->answered || q->n_pending >= 2 * q->max_pages;
}

bool memx_reqs_hurry(struct memx_reqs *q)
{
	q->hurried = !list_empty(&q->pending);
	return q->hurried;
}

struct memx_req *memx_reqs_next(struct memx_reqs *q)
{
	struct memx_item *head, *item, *next;
	struct memx_req *r;
	u32 room, seen = 0, i;

	if (list_empty(&q->pending)) {
		q->answered = false;
		q->hurried = false;
		return NULL;
	}
	head = list_first_entry(&q->pending, struct memx_item, node);
	if (list_empty(&q->free) || q->used_requests >= q->limit_requests)
		return NULL;
	room = reqs_room(q, head->op);
	if (!room)
		return NULL;

	r = list_first_entry(&q->free, struct memx_req, node);
	r->op = head->op;
	r->extent = head->slot >> q->order;
	r->count = 0;
	list_for_each_entry(item, &q->pending, node) {
		if (r->count == room || seen++ == REQ_WINDOW)
			break;
		if (item->op == r->op && item->slot >> q->order == r->extent)
			req_insert(r, item);
	}
	if (!reqs_ripe(q, head, r->count, room))
		return NULL;

	for (i = 0; i < r->count; i++) {
		next = r->item[i];
		list_del_init(&next->node);
	}
	q->n_pending -= r->count;
	list_del_init(&r->node);
	r->generation++;
	r->tag = r->generation << REQ_INDEX_BITS | (u64)(r - q->table);
	r->reply_max = memx_reply_max(r->op, r->count);
	r->state = MEMX_REQ_BUILT;
	q->used_requests++;
	q->used_pages += r->count;
	q->used_reply += r->reply_max;
	return r;
}

static void req_release(struct memx_reqs *q, struct memx_req *r)
{
	q->used_requests--;
	q->used_pages -= r->count;
	q->used_reply -= r->reply_max;
	r->state = MEMX_REQ_FREE;
	list_add_tail(&r->node, &q->free);
}

/* The items of @r become the first pending ones, in their order. Returns how many there are: some were given up meanwhile. */
static u32 req_return_items(struct memx_reqs *q, struct memx_req *r)
{
	u32 i, n = 0;

	for (i = r->count; i--; ) {
		if (!r->item[i])
			continue;
		memx_reqs_requeue(q, r->item[i]);
		n++;
	}
	return n;
}

void memx_reqs_unget(struct memx_reqs *q, struct memx_req *r)
{
	req_return_items(q, r);
	req_release(q, r);
}

void memx_reqs_shrink(struct memx_reqs *q, struct memx_req *r, u32 count)
{
	q->used_pages -= r->count - count;
	q->used_reply -= r->reply_max;
	r->count = (u16)count;
	r->reply_max = memx_reply_max(r->op, count);
	q->used_reply += r->reply_max;
}

void memx_reqs_sent(struct memx_reqs *q, struct memx_req *r, u64 now)
{
	r->state = MEMX_REQ_SENT;
	r->sent = now;
	list_add_tail(&r->node, &q->out);
}

struct memx_req *memx_reqs_answer(struct memx_reqs *q, u64 tag, u16 op)
{
	u32 index = (u32)(tag & ((1U << REQ_INDEX_BITS) - 1));
	struct memx_req *r;

	if (index >= q->size)
		return NULL;
	r = &q->table[index];
	if (r->state != MEMX_REQ_SENT || r->tag != tag || r->op != op)
		return NULL;
	r->state = MEMX_REQ_ENDING;
	q->answered = true;
	q->hurried = false;
	return r;
}

void memx_reqs_end(struct memx_reqs *q, struct memx_req *r)
{
	list_del_init(&r->node);
	req_release(q, r);
}

u32 memx_reqs_lost(struct memx_reqs *q)
{
	u32 pages = 0, n;

	/* The youngest goes first, so that the oldest ends up in front. */
	while (!list_empty(&q->out)) {
		struct memx_req *r = list_entry(q->out.prev, struct memx_req, node);

		list_del_init(&r->node);
		n = req_return_items(q, r);
		if (r->op != MEMX_OP_DISCARD)
			pages += n;
		req_release(q, r);
	}
	q->answered = false;
	q->hurried = false;
	return pages;
}

u32 memx_reqs_expire(struct memx_reqs *q, u64 before, struct list_head *to)
{
	struct memx_item *item, *next;
	struct memx_req *r;
	u32 i, n = 0;

	list_for_each_entry_safe(item, next, &q->pending, node) {
		if (item->born >= before)
			continue;
		list_move_tail(&item->node, to);
		q->n_pending--;
		n++;
	}
	list_for_each_entry(r, &q->out, node) {
		if (r->state != MEMX_REQ_SENT)
			continue;
		for (i = 0; i < r->count; i++) {
			if (!r->item[i] || r->item[i]->born >= before)
				continue;
			list_add_tail(&r->item[i]->node, to);
			r->item[i] = NULL;
			n++;
		}
	}
	return n;
}

bool memx_reqs_idle(const struct memx_reqs *q)
{
	return list_empty(&q->pending) && list_empty(&q->out) && !q->used_requests;
}
