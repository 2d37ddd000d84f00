// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-codec.c - libFuzzer target: every check of codec.h over bodies of exactly their length.
 *
 * What a check lets pass has the properties that its callers rely on, worked out here a second time in another way; a header
 * survives being taken apart and put together; and what is built by the rules passes.
 */
#include <fuzz/fuzz.h>
#include <memx/codec.h>

static void check_header(struct fuzz_in *in)
{
	struct memx_hdr hdr, again;
	struct memx_head head;
	u32 max_body = (u32)fuzz_odd(in), i;

	for (i = 0; i < sizeof(hdr); i++)
		((u8 *)&hdr)[i] = fuzz_u8(in);
	if (fuzz_u8(in) & 3)
		hdr.magic = memx_put_le32(MEMX_MAGIC);
	if (fuzz_u8(in) & 1)
		hdr.flags = memx_put_le16(memx_le16(hdr.flags) & MEMX_F_ALL);
	if (fuzz_u8(in) & 1)
		hdr.status = 0;
	fuzz_must(memx_status_known(memx_le32(hdr.status)) < MEMX_S_COUNT, "status %u", memx_le32(hdr.status));
	if (memx_head_get(&head, &hdr, max_body))
		return;
	memx_hdr_put(&again, &head);
	fuzz_must(!memcmp(&hdr, &again, sizeof(hdr)), "a header changed on its way through");
	fuzz_must(head.len <= max_body && !(head.flags & ~MEMX_F_ALL) && (head.reply || !head.status), "a bad header passed");
}

/* A request of reads or writes: head, io, and the list behind it of exactly its length. */
static void check_request(struct fuzz_in *in)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_FETCH, MEMX_OP_DISCARD };
	struct memx_head head = { .op = ops[fuzz_pick(in, 3)] };
	u32 order = MEMX_MIN_EXTENT_ORDER + fuzz_pick(in, MEMX_MAX_EXTENT_ORDER - MEMX_MIN_EXTENT_ORDER + 1);
	u32 slots = (u32)fuzz_take(in, 3), extent = fuzz_pick(in, 8), max = fuzz_pick(in, 40), slot = extent << order, last = 0;
	struct memx_io io = { .count = memx_put_le16((u16)fuzz_take(in, fuzz_u8(in) & 7 ? 1 : 2)) };
	u32 claimed = memx_le16(io.count), i;
	struct memx_want *wants;
	struct memx_page *pages;
	bool good = true;
	int count;

	head.len = head.op == MEMX_OP_STORE ? memx_store_len(claimed) : memx_want_len(claimed);
	if (fuzz_rarely(in, 4))
		head.len = (u32)fuzz_odd(in);
	if (fuzz_rarely(in, 16))
		io.resv = memx_put_le32((u32)fuzz_odd(in));
	count = memx_check_io(&head, &io, max);
	if (count < 0)
		return;
	fuzz_must(count >= 1 && (u32)count <= max && count <= MEMX_MAX_PAGES && (u32)count == claimed, "%d pages of %u", count, max);
	wants = calloc((size_t)count, sizeof(*wants));
	pages = calloc((size_t)count, sizeof(*pages));
	for (i = 0; i < (u32)count; i++) {
		u32 status = fuzz_rarely(in, 32) ? (u32)fuzz_odd(in) : 0;
		u64 version = fuzz_rarely(in, 32) ? 0 : 1 + fuzz_take(in, 1);

		slot = fuzz_rarely(in, 8) ? (u32)fuzz_odd(in) : slot + fuzz_pick(in, 4) + (i != 0);
		wants[i] = (struct memx_want){ memx_put_le32(slot), memx_put_le32(status), memx_put_le64(version) };
		pages[i].slot = wants[i].slot;
		pages[i].status = wants[i].status;
		pages[i].trailer.version = wants[i].version;
		good = good && slot < slots && (u64)slot / (1ULL << order) == extent && (!i || slot > last) && version && !status;
		last = slot;
	}
	fuzz_must(good == !memx_check_wants(wants, (u32)count, extent, order, slots), "wants judged otherwise");
	fuzz_must(good == !memx_check_pages(pages, (u32)count, extent, order, slots), "pages judged otherwise");
	fuzz_must(!good || extent < memx_extents(slots, order), "a slot outside the session's extents");
	free(wants);
	free(pages);
}

/* A reply: what passes may be read to its last byte without leaving the body. */
static void check_reply(struct fuzz_in *in)
{
	static const u16 ops[] = { MEMX_OP_STORE, MEMX_OP_FETCH, MEMX_OP_DISCARD };
	u32 count = 1 + fuzz_pick(in, MEMX_MAX_PAGES), extent = fuzz_pick(in, 4), asked[MEMX_MAX_PAGES], i, good = 0;
	struct memx_head head = {
		.op = ops[fuzz_pick(in, 3)], .reply = true, .status = fuzz_u8(in) & 1 ? fuzz_pick(in, 4) : (u32)fuzz_odd(in),
	};
	struct memx_io io = { .extent = memx_put_le32(extent), .count = memx_put_le16((u16)count) };
	struct memx_page page[MEMX_MAX_PAGES] = { 0 };
	int ret;

	for (i = 0; i < count; i++) {
		asked[i] = 10 * i;
		page[i].slot = memx_put_le32(fuzz_rarely(in, 64) ? (u32)fuzz_odd(in) : asked[i]);
		page[i].status = memx_put_le32(fuzz_rarely(in, 4) ? fuzz_pick(in, 30) : 0);
		good += !page[i].status;
	}
	head.len = fuzz_u8(in) & 3 ? memx_fetched_len(count, good) : (u32)fuzz_take(in, 3);
	if (head.op != MEMX_OP_FETCH && fuzz_u8(in) & 3)
		head.len = head.status == MEMX_S_PARTIAL ? memx_want_len(count) : MEMX_IO_LEN;
	if (fuzz_rarely(in, 16))
		io.count = memx_put_le16((u16)fuzz_odd(in));
	if (memx_check_io_reply(&head, &io, extent, count))
		return;
	fuzz_must(head.len <= memx_reply_max(head.op, count) - MEMX_HDR_LEN, "%u bytes: more than was set aside", head.len);
	fuzz_must(head.len >= MEMX_IO_LEN && memx_le16(io.count) == count, "a reply that is too short");
	if (head.op != MEMX_OP_FETCH || head.status > MEMX_S_PARTIAL || head.status == MEMX_S_AGAIN)
		return;
	ret = memx_check_fetched(&head, page, asked, count);
	if (ret < 0)
		return;
	fuzz_must((u32)ret == good && head.len == memx_fetched_len(count, good), "%d pages of %u are there", ret, good);
	fuzz_must(head.status != MEMX_S_OK || good == count, "OK with a page missing");
	for (i = 0; i < count; i++)
		fuzz_must(memx_le32(page[i].slot) == asked[i], "another slot than asked");
}

static void check_records(struct fuzz_in *in)
{
	struct memx_head head = { .op = fuzz_u8(in) & 1 ? MEMX_OP_MAP : MEMX_OP_RECORD, .flags = fuzz_u8(in) & MEMX_F_ALL };
	struct memx_records recs = { .count = memx_put_le32(fuzz_rarely(in, 8) ? (u32)fuzz_odd(in) : fuzz_pick(in, 18)) };
	u32 extents = fuzz_pick(in, 8), live = 0, i, j;
	struct memx_record rec = { .extent = memx_put_le32(fuzz_pick(in, 8)), .generation = memx_put_le64(fuzz_pick(in, 4)) };
	bool good;
	int count;

	head.len = fuzz_rarely(in, 8) ? (u32)fuzz_odd(in) : memx_records_len(memx_le32(recs.count) % 32);
	count = memx_check_records(&head, &recs);
	fuzz_must(count < 0 || (count <= MEMX_MAX_RECORDS && head.len == memx_records_len((u32)count)), "%d records", count);

	rec.replicas = (u8)(fuzz_rarely(in, 8) ? fuzz_u8(in) : fuzz_pick(in, 5));
	for (i = 0; i < MEMX_MAX_REPLICAS && i < rec.replicas; i++) {
		rec.replica[i].donor[0] = (u8)fuzz_pick(in, 6);
		rec.replica[i].state = (u8)fuzz_pick(in, 5);
	}
	if (fuzz_rarely(in, 8))
		((u8 *)&rec)[fuzz_pick(in, sizeof(rec))] ^= fuzz_u8(in);
	good = memx_le32(rec.extent) < extents && rec.generation && rec.replicas && rec.replicas <= MEMX_MAX_REPLICAS &&
	       !rec.resv[0] && !rec.resv[1] && !rec.resv[2];
	for (i = 0; i < MEMX_MAX_REPLICAS && good; i++) {
		const struct memx_replica *r = &rec.replica[i];
		static const struct memx_replica none;

		if (i >= rec.replicas) {
			good = !memcmp(r, &none, sizeof(none));
			continue;
		}
		good = r->state >= MEMX_R_LIVE && r->state <= MEMX_R_STALE && !memcmp(r->resv, none.resv, sizeof(none.resv));
		live += r->state == MEMX_R_LIVE;
		for (j = 0; j < i; j++)
			good = good && memcmp(r->donor, rec.replica[j].donor, sizeof(r->donor));
	}
	fuzz_must((good && live) == !memx_check_record(&rec, extents), "a record judged otherwise");
}

static void check_numbers(struct fuzz_in *in)
{
	u16 v[4], i, common;
	u32 slots = (u32)fuzz_odd(in), order = MEMX_MIN_EXTENT_ORDER + fuzz_pick(in, 9), extents = memx_extents(slots, order);

	fuzz_must((u64)extents << order >= slots && (!extents || (u64)(extents - 1) << order < slots), "%u extents of %u slots",
		  extents, slots);
	for (i = 0; i < 4; i++)
		v[i] = fuzz_u8(in);
	common = memx_proto_common(v[0], v[1], v[2], v[3]);
	fuzz_must(!common || (common >= v[0] && common <= v[1] && common >= v[2] && common <= v[3]), "version %u", common);
	for (i = 1; i <= MEMX_MAX_PAGES; i++)
		fuzz_must(memx_store_len(i) <= MEMX_MAX_BODY && memx_fetched_len(i, i) <= MEMX_MAX_BODY, "%u pages do not fit", i);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct fuzz_in in = { data, data + size };

	while (in.at < in.end) {
		switch (fuzz_pick(&in, 5)) {
		case 0:
			check_header(&in);
			break;
		case 1:
			check_request(&in);
			break;
		case 2:
			check_reply(&in);
			break;
		case 3:
			check_records(&in);
			break;
		default:
			check_numbers(&in);
		}
	}
	return 0;
}
