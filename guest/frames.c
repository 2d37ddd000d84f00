// SPDX-License-Identifier: GPL-2.0-only
/*
 * frames.c - frames into and out of a ring; see frames.h for the contract.
 *
 * Pure: compiled in the kernel, under KUnit and in user space. What is read from the ring is copied first and looked at in
 * the copy only: the bounce page that the caller lends holds descriptors, pages go straight to where they belong and are
 * verified there, where the peer cannot reach them.
 */
#include "../shared/memx/check.h"
#include "frames.h"

/* Room for @len bytes behind the write index, with @reserve bytes left over? 0, -EAGAIN or -EPROTO. */
static int frame_room(struct memx_vring *ring, u32 len, u32 reserve)
{
	int space = memx_vring_space(ring);

	if (space < 0)
		return space;
	return (u32)space >= len + reserve ? 0 : -EAGAIN;
}

static void frame_head(struct memx_vring *ring, const struct memx_head *head)
{
	struct memx_hdr hdr;

	memx_hdr_put(&hdr, head);
	memx_vring_put(ring, 0, &hdr, sizeof(hdr));
}

/* Copies @page to @off behind the write index and returns the check of the copy. */
static u64 frame_page(struct memx_vring *ring, u32 off, const struct memx_item *item, u64 seed, void *bounce)
{
	u32 at = (ring->tx_prod + off) & (ring->tx_size - 1);
	u64 check;

	if (ring->tx_size - at >= MEMX_PAGE_SIZE && !(at & 7))
		return memx_copy_check(seed, item->slot, item->version, ring->tx + at, item->page);
	check = memx_copy_check(seed, item->slot, item->version, bounce, item->page);
	memx_vring_put(ring, off, bounce, MEMX_PAGE_SIZE);
	return check;
}

static void frame_store(struct memx_vring *ring, struct memx_req *req, u64 seed, u8 key_gen, void *bounce)
{
	u32 at = MEMX_HDR_LEN + MEMX_IO_LEN, pages = at + req->count * (u32)sizeof(struct memx_page), i;

	for (i = 0; i < req->count; i++) {
		struct memx_item *item = req->item[i];
		struct memx_page desc = {
			.slot = memx_put_le32(item->slot),
			.trailer.version = memx_put_le64(item->version),
			.trailer.key_gen = memx_put_le32(key_gen),
		};

		item->check = frame_page(ring, pages + i * MEMX_PAGE_SIZE, item, seed, bounce);
		desc.trailer.check = memx_put_le64(item->check);
		memx_vring_put(ring, at + i * (u32)sizeof(desc), &desc, sizeof(desc));
	}
}

static void frame_wants(struct memx_vring *ring, const struct memx_req *req)
{
	u32 at = MEMX_HDR_LEN + MEMX_IO_LEN, i;

	for (i = 0; i < req->count; i++) {
		struct memx_want want = {
			.slot = memx_put_le32(req->item[i]->slot),
			.version = memx_put_le64(req->item[i]->version),
		};

		memx_vring_put(ring, at + i * (u32)sizeof(want), &want, sizeof(want));
	}
}

int memx_frame_request(struct memx_vring *ring, struct memx_req *req, u64 epoch, u64 generation, u64 seed, u8 key_gen,
		       void *bounce, u32 reserve)
{
	struct memx_head head = {
		.op = req->op,
		.len = req->op == MEMX_OP_STORE ? memx_store_len(req->count) : memx_want_len(req->count),
		.tag = req->tag,
		.epoch = epoch,
	};
	struct memx_io io = {
		.extent = memx_put_le32(req->extent),
		.generation = memx_put_le64(generation),
		.count = memx_put_le16(req->count),
	};
	int err = frame_room(ring, MEMX_HDR_LEN + head.len, reserve);

	if (err)
		return err;
	frame_head(ring, &head);
	memx_vring_put(ring, MEMX_HDR_LEN, &io, sizeof(io));
	if (req->op == MEMX_OP_STORE)
		frame_store(ring, req, seed, key_gen, bounce);
	else
		frame_wants(ring, req);
	return (int)(MEMX_HDR_LEN + head.len);
}

int memx_frame_small(struct memx_vring *ring, const struct memx_head *head, const void *body, u32 reserve)
{
	int err = frame_room(ring, MEMX_HDR_LEN + head->len, reserve);

	if (err)
		return err;
	frame_head(ring, head);
	if (head->len)
		memx_vring_put(ring, MEMX_HDR_LEN, body, head->len);
	return (int)(MEMX_HDR_LEN + head->len);
}

int memx_frame_map(struct memx_vring *ring, u64 epoch, const struct memx_record *recs, u32 count, bool last, u32 reserve)
{
	struct memx_head head = {
		.op = MEMX_OP_MAP,
		.flags = last ? MEMX_F_LAST : 0,
		.len = memx_records_len(count),
		.epoch = epoch,
	};
	struct memx_records body = { .count = memx_put_le32(count) };
	int err = frame_room(ring, MEMX_HDR_LEN + head.len, reserve);

	if (err)
		return err;
	frame_head(ring, &head);
	memx_vring_put(ring, MEMX_HDR_LEN, &body, sizeof(body));
	if (count)
		memx_vring_put(ring, MEMX_HDR_LEN + (u32)sizeof(body), recs, count * (u32)sizeof(*recs));
	return (int)(MEMX_HDR_LEN + head.len);
}

int memx_frame_next(struct memx_vring *ring, u32 max_body, struct memx_head *head)
{
	struct memx_hdr hdr;
	int avail = memx_vring_avail(ring), err;

	if (avail < 0)
		return avail;
	if ((u32)avail < MEMX_HDR_LEN)
		return 0;
	memx_vring_peek(ring, 0, &hdr, sizeof(hdr));
	err = memx_head_get(head, &hdr, max_body);
	if (err)
		return err;
	if (MEMX_HDR_LEN + head->len > ring->rx_size)
		return -EPROTO;
	return (u32)avail >= MEMX_HDR_LEN + head->len;
}

/* Copies the page @off bytes behind the read index to its place. Returns the check of what lies there then. */
static u64 answer_page(const struct memx_vring *ring, u32 off, const struct memx_item *item, u64 seed)
{
	u32 at = (ring->rx_cons + off) & (ring->rx_size - 1);

	if (ring->rx_size - at >= MEMX_PAGE_SIZE && !(at & 7))
		return memx_copy_check(seed, item->slot, item->version, item->page, ring->rx + at);
	memx_vring_peek(ring, off, item->page, MEMX_PAGE_SIZE);
	return memx_check(seed, item->slot, item->version, item->page);
}

/* Is a page of a fetch, in its place and with this @check, what was stored? */
static u32 answer_verify(const struct memx_item *item, const struct memx_trailer *trailer, u64 check)
{
	if (memx_le64(trailer->version) != item->version || memx_le32(trailer->flags) || check != item->check)
		return MEMX_S_CORRUPT;
	return MEMX_S_OK;
}

static int answer_fetch(const struct memx_vring *ring, const struct memx_head *head, const struct memx_req *req, u64 seed,
			struct memx_page *desc, u32 *status)
{
	u32 at = MEMX_HDR_LEN + MEMX_IO_LEN, i;
	int good;

	memx_vring_peek(ring, at, desc, req->count * (u32)sizeof(*desc));
	good = memx_check_fetched(head, desc, req->slot, req->count);
	if (good < 0)
		return good;
	at += req->count * (u32)sizeof(*desc);
	for (i = 0; i < req->count; i++) {
		status[i] = memx_status_known(memx_le32(desc[i].status));
		if (status[i] == MEMX_S_PARTIAL)
			status[i] = MEMX_S_IO;
		if (status[i] != MEMX_S_OK)
			continue;
		if (req->item[i]) {
			status[i] = answer_verify(req->item[i], &desc[i].trailer,
						  answer_page(ring, at, req->item[i], seed));
		}
		at += MEMX_PAGE_SIZE;
	}
	return 0;
}

/* Answer to STORE or DISCARD with a status for each page. */
static int answer_wants(const struct memx_vring *ring, const struct memx_req *req, struct memx_want *want, u32 *status)
{
	u32 i;

	memx_vring_peek(ring, MEMX_HDR_LEN + MEMX_IO_LEN, want, req->count * (u32)sizeof(*want));
	for (i = 0; i < req->count; i++) {
		if (memx_le32(want[i].slot) != req->slot[i])
			return -EPROTO;
		status[i] = memx_status_known(memx_le32(want[i].status));
		if (status[i] == MEMX_S_PARTIAL)
			status[i] = MEMX_S_IO;
	}
	return 0;
}

int memx_frame_answer(const struct memx_vring *ring, const struct memx_head *head, const struct memx_req *req, u64 seed,
		      void *bounce, u32 *status)
{
	struct memx_io io = {};
	u32 i;
	int err;

	if (head->len >= sizeof(io))
		memx_vring_peek(ring, MEMX_HDR_LEN, &io, sizeof(io));
	err = memx_check_io_reply(head, &io, req->extent, req->count);
	if (err)
		return err;
	if (head->op == MEMX_OP_FETCH && (head->status == MEMX_S_OK || head->status == MEMX_S_PARTIAL))
		return answer_fetch(ring, head, req, seed, bounce, status);
	if (head->status == MEMX_S_PARTIAL)
		return answer_wants(ring, req, bounce, status);
	for (i = 0; i < req->count; i++)
		status[i] = memx_status_known(head->status);
	return 0;
}

_Static_assert(MEMX_MAX_PAGES * sizeof(struct memx_page) <= MEMX_PAGE_SIZE, "descriptors fit into the bounce page");
