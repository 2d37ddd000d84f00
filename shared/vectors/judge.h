/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * judge.h - what codec.h says to a test vector, step by step as a receiver would ask. For KUnit and user-space tests alike.
 *
 * Pure; the caller provides the memory that the frame is put together in.
 */
#ifndef MEMX_VECTORS_JUDGE_H
#define MEMX_VECTORS_JUDGE_H

#include "memx-vectors.h"

#define MEMX_VECTOR_COUNT	(sizeof(memx_vectors) / sizeof(memx_vectors[0]))
#define MEMX_CHECK_COUNT	(sizeof(memx_check_vectors) / sizeof(memx_check_vectors[0]))

/* Puts the bytes together. Returns their number, or 0: @size is too small. */
static inline u32 memx_vector_join(const struct memx_vector_piece *piece, u32 pieces, u8 *to, u32 size)
{
	u32 i, n, len = 0;

	for (i = 0; i < pieces; i++) {
		for (n = 0; n < piece[i].times; n++) {
			if (size - len < piece[i].len)
				return 0;
			memcpy(to + len, piece[i].bytes, piece[i].len);
			len += piece[i].len;
		}
	}
	return len;
}

/* Bodies of which the length does not depend on what is in them; -1: it does, or there is no such frame. */
static inline int memx_judge_fixed(const struct memx_vector *v, const struct memx_head *head)
{
	bool fenced = head->status == MEMX_S_OK || head->status == MEMX_S_FENCED || head->status == MEMX_S_SUPERSEDED;

	switch (head->op) {
	case MEMX_OP_HELLO:
		return sizeof(struct memx_hello);
	case MEMX_OP_ATTACH:
		return head->reply ? (int)sizeof(struct memx_attached) : (int)sizeof(struct memx_attach);
	case MEMX_OP_DETACH:
		return v->donor_hop && !head->reply ? (int)sizeof(struct memx_list) : 0;
	case MEMX_OP_FENCE:
		if (head->reply)
			return fenced ? (int)sizeof(struct memx_fenced) : 0;
		return sizeof(struct memx_fence);
	case MEMX_OP_RESERVE:
		return head->reply ? 0 : (int)sizeof(struct memx_reserve);
	case MEMX_OP_PLACE:
		return head->reply ? 0 : (int)sizeof(struct memx_place);
	case MEMX_OP_FREE:
		return head->reply ? 0 : (int)memx_list_len(1);
	case MEMX_OP_STAT:
		return head->reply ? (int)sizeof(struct memx_stat) : 0;
	case MEMX_OP_ASK:
		return head->reply ? 0 : (int)sizeof(struct memx_stat);
	case MEMX_OP_PING:
		return 0;
	default:
		return -1;
	}
}

static inline int memx_judge_records(const struct memx_vector *v, const struct memx_head *head, const u8 *body)
{
	const struct memx_record *rec = (const void *)(body + sizeof(struct memx_records));
	int i, count = memx_check_records(head, (const void *)body);

	for (i = 0; i < count; i++)
		if (memx_check_record(&rec[i], memx_extents(v->slots, v->order)))
			return -EINVAL;
	return count;
}

static inline int memx_judge_io(const struct memx_vector *v, const struct memx_head *head, const u8 *body)
{
	const struct memx_io *io = (const void *)body;
	const void *list = body + MEMX_IO_LEN;
	int count, err;

	if (head->reply) {
		u32 extent = v->asks ? v->asked[0] >> v->order : 0;

		if (memx_check_io_reply(head, io, extent, v->asks))
			return -EPROTO;
		if (head->op == MEMX_OP_FETCH && head->status <= MEMX_S_PARTIAL && head->status != MEMX_S_AGAIN)
			return memx_check_fetched(head, list, v->asked, v->asks);
		return 0;
	}
	count = memx_check_io(head, io, MEMX_MAX_PAGES);
	if (count < 0)
		return count;
	err = head->op == MEMX_OP_STORE ?
		memx_check_pages(list, (u32)count, memx_le32(io->extent), v->order, v->slots) :
		memx_check_wants(list, (u32)count, memx_le32(io->extent), v->order, v->slots);
	return err ? err : count;
}

static inline int memx_judge_list(const struct memx_head *head, const u8 *body)
{
	const struct memx_list *list = (const void *)body;
	bool scan_reply = head->op == MEMX_OP_SCAN && head->reply;
	u32 count;

	if (head->reply && head->len == 0)
		return 0;
	if (head->len < sizeof(*list))
		return -EPROTO;
	count = memx_le32(list->count);
	if (count > (scan_reply ? MEMX_MAX_SCAN : MEMX_MAX_EXTENTS) ||
	    head->len != (scan_reply ? memx_scan_len(count) : memx_list_len(count)))
		return -EPROTO;
	/* LIST and SCAN ask with a list of one, which is where they are to begin. */
	if (!head->reply && head->op != MEMX_OP_RETAIN && head->op != MEMX_OP_DROPPED)
		return count == 1 ? 0 : -EPROTO;
	return (int)count;
}

/*
 * The verdict over @len bytes: how many pages (of a request, or that follow a reply), records or list entries the frame
 * has, 0 for frames without, or the error of the first check that fails.
 */
static inline int memx_judge(const struct memx_vector *v, const u8 *frame, u32 len, struct memx_head *head)
{
	const u8 *body = frame + MEMX_HDR_LEN;
	struct memx_hdr hdr;
	int fixed;

	if (len < sizeof(hdr))
		return -EPROTO;
	memcpy(&hdr, frame, sizeof(hdr));
	if (memx_head_get(head, &hdr, MEMX_MAX_BODY) || head->len != len - MEMX_HDR_LEN)
		return -EPROTO;
	fixed = memx_judge_fixed(v, head);
	if (fixed >= 0) {
		if (head->len != (u32)fixed)
			return -EPROTO;
		if (head->op == MEMX_OP_HELLO && !head->reply)
			return memx_check_hello((const void *)body);
		if (head->op == MEMX_OP_PLACE && !head->reply)
			return memx_check_record((const void *)(body + offsetof(struct memx_place, record)),
						 memx_extents(v->slots, v->order));
		return 0;
	}
	switch (head->op) {
	case MEMX_OP_STORE:
	case MEMX_OP_FETCH:
	case MEMX_OP_DISCARD:
		return memx_judge_io(v, head, body);
	case MEMX_OP_MAP:
	case MEMX_OP_RECORD:
		if (head->reply)
			return head->len ? -EPROTO : 0;
		return memx_judge_records(v, head, body);
	case MEMX_OP_RETAIN:
	case MEMX_OP_LIST:
	case MEMX_OP_SCAN:
		return memx_judge_list(head, body);
	case MEMX_OP_PIN:
		return head->reply ? (head->len ? -EPROTO : 0) : memx_check_pin(head, (const void *)body);
	case MEMX_OP_PEERS:
		return head->reply ? (head->len ? -EPROTO : 0) : memx_check_peers(head, (const void *)body);
	case MEMX_OP_DROPPED:
		return memx_judge_list(head, body);
	default:
		return -EOPNOTSUPP;
	}
}

#endif /* MEMX_VECTORS_JUDGE_H */
