/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * codec.h - sizes of frames, and every check that needs nothing but the frame.
 *
 * A receiver copies the header into private memory, calls memx_head_get(), copies the body, calls the check that belongs to
 * the operation, and only then uses a value. What needs the receiver's own state (is this my tag, is this slot in the
 * session, may this epoch speak) is the receiver's. All functions are pure: any context, no allocation.
 *
 * Errors: -EPROTO the stream is not to be trusted any more (bad magic, a length that does not fit): close the channel;
 * -EINVAL the frame is whole but its content is wrong: answer MEMX_S_INVALID or close, as docs/PROTOCOL.md says;
 * -EOPNOTSUPP unknown operation: skip the body, answer MEMX_S_OP.
 */
#ifndef MEMX_CODEC_H
#define MEMX_CODEC_H

#include "proto.h"

/* ---- sizes ---------------------------------------------------------------------------------------------------------- */

#define MEMX_HDR_LEN		((u32)sizeof(struct memx_hdr))
#define MEMX_IO_LEN		((u32)sizeof(struct memx_io))

static inline u32 memx_store_len(u32 pages)		/* body of a STORE of that many pages, bytes */
{
	return MEMX_IO_LEN + pages * (u32)(sizeof(struct memx_page) + MEMX_PAGE_SIZE);
}

static inline u32 memx_want_len(u32 pages)		/* body of FETCH, DISCARD and of a PARTIAL reply to STORE, DISCARD */
{
	return MEMX_IO_LEN + pages * (u32)sizeof(struct memx_want);
}

static inline u32 memx_fetched_len(u32 pages, u32 good)	/* body of a FETCH reply in which @good pages are OK */
{
	return MEMX_IO_LEN + pages * (u32)sizeof(struct memx_page) + good * MEMX_PAGE_SIZE;
}

static inline u32 memx_records_len(u32 records)
{
	return (u32)sizeof(struct memx_records) + records * (u32)sizeof(struct memx_record);
}

static inline u32 memx_list_len(u32 refs)
{
	return (u32)sizeof(struct memx_list) + refs * (u32)sizeof(struct memx_extent_ref);
}

static inline u32 memx_scan_len(u32 wants)
{
	return (u32)sizeof(struct memx_list) + wants * (u32)sizeof(struct memx_want);
}

static inline u32 memx_peers_len(u32 peers)
{
	return (u32)sizeof(struct memx_list) + peers * (u32)sizeof(struct memx_peer);
}

static inline u32 memx_pin_len(u32 slots)		/* of a PIN that tells what is held in an extent of so many slots */
{
	return (u32)(sizeof(struct memx_pin) + sizeof(struct memx_record)) + slots * (u32)sizeof(__le64);
}

/* The longest body there is: a STORE of MEMX_MAX_PAGES. */
#define MEMX_MAX_BODY	(sizeof(struct memx_io) + MEMX_MAX_PAGES * (sizeof(struct memx_page) + MEMX_PAGE_SIZE))
#define MEMX_MAX_FRAME	(sizeof(struct memx_hdr) + MEMX_MAX_BODY)

/*
 * Longest reply frame (header included) that a request of @pages pages can get, bytes: what a sender of requests sets
 * aside in the reply ring before it sends. 0 for operations that are not answered (MAP).
 */
static inline u32 memx_reply_max(u16 op, u32 pages)
{
	switch (op) {
	case MEMX_OP_FETCH:
		return MEMX_HDR_LEN + memx_fetched_len(pages, pages);
	case MEMX_OP_STORE:
	case MEMX_OP_DISCARD:
		return MEMX_HDR_LEN + memx_want_len(pages);
	case MEMX_OP_HELLO:
		return MEMX_HDR_LEN + (u32)sizeof(struct memx_hello);
	case MEMX_OP_ATTACH:
		return MEMX_HDR_LEN + (u32)sizeof(struct memx_attached);
	case MEMX_OP_MAP:
		return 0;
	default:
		return MEMX_HDR_LEN;
	}
}

/*
 * Room that is set aside on every lane of the guest hop for what the relay asks by itself: in the reply ring
 * (relay to guest) for MEMX_RELAY_CREDITS of the longest RECORD frames, in the request ring for the answers to them.
 */
#define MEMX_RECORD_FRAME_MAX	(sizeof(struct memx_hdr) + sizeof(struct memx_records) + \
				 MEMX_MAX_RECORDS * sizeof(struct memx_record))
#define MEMX_RESERVE_REPLY	(MEMX_RELAY_CREDITS * MEMX_RECORD_FRAME_MAX)
#define MEMX_RESERVE_REQUEST	(MEMX_RELAY_CREDITS * sizeof(struct memx_hdr))

/* ---- headers -------------------------------------------------------------------------------------------------------- */

/* A header in host order, private to its reader. */
struct memx_head {
	u16 op;			/* without MEMX_OP_REPLY */
	bool reply;
	u16 flags;
	u32 len;
	u32 status;
	u64 tag;
	u64 epoch;
};

static inline void memx_hdr_put(struct memx_hdr *to, const struct memx_head *head)
{
	to->magic = memx_put_le32(MEMX_MAGIC);
	to->op = memx_put_le16((u16)(head->op | (head->reply ? MEMX_OP_REPLY : 0)));
	to->flags = memx_put_le16(head->flags);
	to->len = memx_put_le32(head->len);
	to->status = memx_put_le32(head->status);
	to->tag = memx_put_le64(head->tag);
	to->epoch = memx_put_le64(head->epoch);
}

/*
 * Takes a header apart. @from must be a private copy. @max_body: the longest body that the receiver takes on this stream.
 * 0, or -EPROTO when the stream cannot be followed any further.
 */
static inline int memx_head_get(struct memx_head *head, const struct memx_hdr *from, u32 max_body)
{
	u16 op = memx_le16(from->op);

	head->op = op & (MEMX_OP_REPLY - 1);
	head->reply = op & MEMX_OP_REPLY;
	head->flags = memx_le16(from->flags);
	head->len = memx_le32(from->len);
	head->status = memx_le32(from->status);
	head->tag = memx_le64(from->tag);
	head->epoch = memx_le64(from->epoch);

	if (memx_le32(from->magic) != MEMX_MAGIC || head->len > max_body || head->flags & ~MEMX_F_ALL)
		return -EPROTO;
	if (!head->reply && head->status)
		return -EPROTO;
	return 0;
}

/* A status from the wire: what is not in the list is a broken peer's and counts as IO. */
static inline u32 memx_status_known(u32 status)
{
	return status < MEMX_S_COUNT ? status : MEMX_S_IO;
}

/* ---- bodies: reads and writes ----------------------------------------------------------------------------------------- */

/*
 * Checks the fixed part of a STORE, FETCH or DISCARD request against its length. @io: private copy, read only if head->len
 * covers it. @max_pages as agreed. Returns the count of pages (1 .. @max_pages) or -EINVAL.
 */
static inline int memx_check_io(const struct memx_head *head, const struct memx_io *io, u32 max_pages)
{
	u32 count;

	if (head->len < MEMX_IO_LEN)
		return -EINVAL;
	count = memx_le16(io->count);
	if (!count || count > max_pages || count > MEMX_MAX_PAGES || io->flags || io->resv)
		return -EINVAL;
	if (head->len != (head->op == MEMX_OP_STORE ? memx_store_len(count) : memx_want_len(count)))
		return -EINVAL;
	return (int)count;
}

/* Is @slot in @extent of a session of @slots slots, with extents of 1 << @order slots? */
static inline bool memx_slot_in(u32 slot, u32 extent, u32 order, u32 slots)
{
	return slot < slots && slot >> order == extent;
}

/*
 * Checks the slots of a request: all in @extent, strictly ascending (so that none comes twice), versions not 0.
 * @wants: private copy of the array. 0 or -EINVAL.
 */
static inline int memx_check_wants(const struct memx_want *wants, u32 count, u32 extent, u32 order, u32 slots)
{
	u32 i, slot, last = 0;

	for (i = 0; i < count; i++) {
		slot = memx_le32(wants[i].slot);
		if (!memx_slot_in(slot, extent, order, slots) || (i && slot <= last) || !wants[i].version || wants[i].status)
			return -EINVAL;
		last = slot;
	}
	return 0;
}

/* The same for the descriptors of a STORE. */
static inline int memx_check_pages(const struct memx_page *pages, u32 count, u32 extent, u32 order, u32 slots)
{
	u32 i, slot, last = 0;

	for (i = 0; i < count; i++) {
		slot = memx_le32(pages[i].slot);
		if (!memx_slot_in(slot, extent, order, slots) || (i && slot <= last) ||
		    !pages[i].trailer.version || pages[i].status)
			return -EINVAL;
		last = slot;
	}
	return 0;
}

/*
 * Checks the shape of a reply to STORE, FETCH or DISCARD of @count pages in @extent: length and count. For a FETCH that
 * brought pages, whether length and statuses agree is only known when the descriptors are read: memx_check_fetched().
 * @io: private copy, read only if head->len covers it. 0 or -EPROTO (a relay or donor that answers so is broken).
 */
static inline int memx_check_io_reply(const struct memx_head *head, const struct memx_io *io, u32 extent, u32 count)
{
	u32 pages_min = MEMX_IO_LEN + count * (u32)sizeof(struct memx_page);

	if (head->len < MEMX_IO_LEN || memx_le32(io->extent) != extent || memx_le16(io->count) != count)
		return -EPROTO;
	if (head->op == MEMX_OP_FETCH) {
		if (head->status == MEMX_S_OK)
			return head->len == memx_fetched_len(count, count) ? 0 : -EPROTO;
		if (head->status == MEMX_S_PARTIAL)
			return head->len >= pages_min && head->len < memx_fetched_len(count, count) ? 0 : -EPROTO;
	} else if (head->status == MEMX_S_PARTIAL) {
		return head->len == memx_want_len(count) ? 0 : -EPROTO;
	}
	return head->len == MEMX_IO_LEN ? 0 : -EPROTO;
}

/*
 * Checks the descriptors of a FETCH reply (OK or PARTIAL) of which the shape is good: the slots are those that were asked
 * for, in order, and as many are OK as pages follow. @slots_asked in host order. Returns the number of pages that follow,
 * or -EPROTO.
 */
static inline int memx_check_fetched(const struct memx_head *head, const struct memx_page *pages, const u32 *slots_asked,
				     u32 count)
{
	u32 i, good = 0;

	for (i = 0; i < count; i++) {
		if (memx_le32(pages[i].slot) != slots_asked[i])
			return -EPROTO;
		if (memx_le32(pages[i].status) == MEMX_S_OK)
			good++;
	}
	if (head->len != memx_fetched_len(count, good) || (head->status == MEMX_S_OK && good != count))
		return -EPROTO;
	return (int)good;
}

/* ---- bodies: records -------------------------------------------------------------------------------------------------- */

/*
 * Is this a record that could be true in a session of @extents extents? Distinct donors, known states, unused places empty,
 * one live replica at least. 0 or -EINVAL. Whether it may follow the one that is held is its holder's business.
 */
static inline int memx_check_record(const struct memx_record *rec, u32 extents)
{
	static const struct memx_replica none;
	u32 i, j, live = 0;

	if (memx_le32(rec->extent) >= extents || !rec->generation ||
	    !rec->replicas || rec->replicas > MEMX_MAX_REPLICAS || rec->resv[0] || rec->resv[1] || rec->resv[2])
		return -EINVAL;
	for (i = 0; i < MEMX_MAX_REPLICAS; i++) {
		const struct memx_replica *r = &rec->replica[i];

		if (i >= rec->replicas) {
			if (memcmp(r, &none, sizeof(none)))
				return -EINVAL;
			continue;
		}
		if (r->state < MEMX_R_LIVE || r->state > MEMX_R_STALE || memcmp(r->resv, none.resv, sizeof(none.resv)))
			return -EINVAL;
		if (r->state == MEMX_R_LIVE)
			live++;
		for (j = 0; j < i; j++)
			if (!memcmp(r->donor, rec->replica[j].donor, sizeof(r->donor)))
				return -EINVAL;
	}
	return live ? 0 : -EINVAL;
}

/* Checks the head of a MAP or RECORD body. Returns the count of records or -EINVAL. */
static inline int memx_check_records(const struct memx_head *head, const struct memx_records *recs)
{
	u32 count;

	if (head->len < sizeof(*recs))
		return -EINVAL;
	count = memx_le32(recs->count);
	if (count > MEMX_MAX_RECORDS || recs->resv || head->len != memx_records_len(count))
		return -EINVAL;
	if (!count && !(head->op == MEMX_OP_MAP && head->flags & MEMX_F_LAST))
		return -EINVAL;
	return (int)count;
}

/* Number of extents of a session. */
static inline u32 memx_extents(u32 slots, u32 order)
{
	return (u32)(((u64)slots + (1ULL << order) - 1) >> order);
}

/* ---- bodies: donors among each other ---------------------------------------------------------------------------------------- */

/* Checks a PIN against its length. Slots whose versions it tells, 0: none are told; or -EINVAL. @pin: private copy. */
static inline int memx_check_pin(const struct memx_head *head, const struct memx_pin *pin)
{
	u32 more;

	if (head->len < sizeof(*pin) || pin->resv)
		return -EINVAL;
	if (head->len == sizeof(*pin))
		return 0;
	if (head->len <= memx_pin_len(0))
		return -EINVAL;
	more = head->len - memx_pin_len(0);
	if (more % sizeof(__le64) || more / sizeof(__le64) > 1U << MEMX_MAX_EXTENT_ORDER)
		return -EINVAL;
	return (int)(more / sizeof(__le64));
}

/* Checks the head of a PEERS body. Returns the count or -EINVAL. */
static inline int memx_check_peers(const struct memx_head *head, const struct memx_list *list)
{
	if (head->len < sizeof(*list) || list->session || memx_le32(list->count) > MEMX_MAX_PEERS ||
	    head->len != memx_peers_len(memx_le32(list->count)))
		return -EINVAL;
	return (int)memx_le32(list->count);
}

/* ---- HELLO --------------------------------------------------------------------------------------------------------------- */

/* Checks what has no meaning in a HELLO, which is a request. 0 or -EPROTO. */
static inline int memx_check_hello(const struct memx_hello *hello)
{
	static const struct memx_hello none;

	return memcmp(hello->resv, none.resv, sizeof(none.resv)) ? -EPROTO : 0;
}

/* The version that both sides speak, or 0. */
static inline u16 memx_proto_common(u16 min_a, u16 max_a, u16 min_b, u16 max_b)
{
	u16 min = min_a > min_b ? min_a : min_b;
	u16 max = max_a < max_b ? max_a : max_b;

	return min_a <= max_a && min_b <= max_b && min <= max ? max : 0;
}

#endif /* MEMX_CODEC_H */
