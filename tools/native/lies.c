// SPDX-License-Identifier: GPL-2.0-only
/*
 * lies.c - the hostile donor's tricks. Each gets every answer of the honest server before the relay does; hostile-donor.h.
 *
 * A trick is also called now and then without an answer (a->op 0), to say something by itself.
 */
#include "hostile-donor.h"

bool t_honest(struct conn *c, struct answer *a)
{
	(void)c;
	return a->op;
}

/* ---- pages ---- */

bool t_wrong_bytes(struct conn *c, struct answer *a)
{
	u8 *bytes;

	(void)c;
	if (pages_of(a, &bytes))
		for (u32 i = 0; i < a->count * (u32)MEMX_PAGE_SIZE; i++)
			bytes[i] = (u8)draw();
	return a->op;
}

bool t_one_bit(struct conn *c, struct answer *a)
{
	u8 *bytes;

	(void)c;
	if (pages_of(a, &bytes))
		bytes[draw() % (a->count * (u32)MEMX_PAGE_SIZE)] ^= (u8)(1 << draw() % 8);
	return a->op;
}

bool t_zeros(struct conn *c, struct answer *a)
{
	u8 *bytes;

	(void)c;
	if (pages_of(a, &bytes))
		memset(bytes, 0, a->count * (size_t)MEMX_PAGE_SIZE);
	return a->op;
}

static bool old_pages(struct answer *a, bool its_trailer)
{
	struct memx_io *io = (void *)a->body;
	struct memx_page *page;
	u8 *bytes;

	page = pages_of(a, &bytes);
	for (u32 i = 0; page && i < a->count; i++, bytes += MEMX_PAGE_SIZE) {
		struct memx_trailer trailer;
		const u8 *old = older(memx_le32(io->session), memx_le32(page[i].slot), &trailer);

		if (!old)
			continue;
		memcpy(bytes, old, MEMX_PAGE_SIZE);
		if (its_trailer)
			page[i].trailer = trailer;
	}
	return a->op;
}

bool t_old_page(struct conn *c, struct answer *a)
{
	(void)c;
	return old_pages(a, true);
}

bool t_old_page_new_trailer(struct conn *c, struct answer *a)
{
	(void)c;
	return old_pages(a, false);
}

/* The last page and the first exchanged, @whole with what says which version they are. */
static bool swap_pages(struct answer *a, bool whole)
{
	struct memx_page *page;
	u8 *bytes, one[MEMX_PAGE_SIZE];
	u32 last = a->count - 1;

	page = pages_of(a, &bytes);
	if (!page || !last)
		return a->op;
	memcpy(one, bytes, sizeof(one));
	memcpy(bytes, bytes + (size_t)last * MEMX_PAGE_SIZE, sizeof(one));
	memcpy(bytes + (size_t)last * MEMX_PAGE_SIZE, one, sizeof(one));
	if (whole) {
		struct memx_trailer t = page[0].trailer;

		page[0].trailer = page[last].trailer;
		page[last].trailer = t;
	}
	return a->op;
}

bool t_swapped_pages(struct conn *c, struct answer *a)
{
	(void)c;
	return swap_pages(a, false);
}

bool t_swapped_whole(struct conn *c, struct answer *a)
{
	(void)c;
	return swap_pages(a, true);
}

bool t_wrong_version(struct conn *c, struct answer *a)
{
	struct memx_page *page;
	u8 *bytes;

	(void)c;
	page = pages_of(a, &bytes);
	if (page)
		page[0].trailer.version = memx_put_le64(memx_le64(page[0].trailer.version) + 1);
	return a->op;
}

/* "The check is a seal, nobody but the guest can judge it." */
bool t_sealed(struct conn *c, struct answer *a)
{
	struct memx_page *page;
	u8 *bytes;

	(void)c;
	page = pages_of(a, &bytes);
	if (page) {
		page[0].trailer.flags = memx_put_le32(MEMX_T_SEALED);
		bytes[0] ^= 1;
	}
	return a->op;
}

bool t_wrong_slot(struct conn *c, struct answer *a)
{
	struct memx_page *page;
	u8 *bytes;

	(void)c;
	page = pages_of(a, &bytes);
	if (page)
		page[0].slot = memx_put_le32(memx_le32(page[0].slot) ^ 1);
	return a->op;
}

bool t_wrong_extent(struct conn *c, struct answer *a)
{
	struct memx_io *io = (void *)a->body;

	(void)c;
	if (a->count)
		io->extent = memx_put_le32(memx_le32(io->extent) + 1);
	return a->op;
}

bool t_wrong_count(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->count)
		((struct memx_io *)(void *)a->body)->count = memx_put_le16(0xffff);
	return a->op;
}

bool t_page_cut(struct conn *c, struct answer *a)
{
	u8 *bytes;

	(void)c;
	if (pages_of(a, &bytes))
		resize(a, a->len - 1000);
	return a->op;
}

bool t_page_more(struct conn *c, struct answer *a)
{
	u8 *bytes;

	(void)c;
	if (pages_of(a, &bytes))
		resize(a, a->len + MEMX_PAGE_SIZE);
	return a->op;
}

/* One of them is said not to be there; its bytes are left out. */
static bool one_page_is(struct answer *a, u32 status)
{
	struct memx_page *page;
	u8 *bytes;

	page = pages_of(a, &bytes);
	if (page) {
		page[a->count - 1].status = memx_put_le32(status);
		a->hdr.status = memx_put_le32(MEMX_S_PARTIAL);
		resize(a, a->len - MEMX_PAGE_SIZE);
	}
	return a->op;
}

bool t_page_absent(struct conn *c, struct answer *a)
{
	(void)c;
	return one_page_is(a, MEMX_S_ABSENT);
}

bool t_page_odd_status(struct conn *c, struct answer *a)
{
	(void)c;
	return one_page_is(a, 0x7fffffff);
}

/* ---- frames ---- */

/* Half of it, then the next one. */
bool t_frame_cut(struct conn *c, struct answer *a)
{
	u8 *bytes;

	if (!pages_of(a, &bytes))
		return a->op;
	a->len /= 2;
	emit(c, a);
	return false;
}

bool t_len_more(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_STORE)
		resize(a, a->len + 16);
	return a->op;
}

bool t_len_less(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_STORE)
		resize(a, 8);
	return a->op;
}

bool t_len_huge(struct conn *c, struct answer *a)
{
	(void)c;
	a->hdr.len = memx_put_le32((u32)MEMX_MAX_BODY + 1);
	return a->op;
}

bool t_len_all_ones(struct conn *c, struct answer *a)
{
	(void)c;
	a->hdr.len = memx_put_le32(~0U);
	return a->op;
}

bool t_magic(struct conn *c, struct answer *a)
{
	(void)c;
	a->hdr.magic = memx_put_le32(MEMX_MAGIC ^ 0x20);
	return a->op;
}

bool t_flags(struct conn *c, struct answer *a)
{
	(void)c;
	a->hdr.flags = memx_put_le16(0x8000);
	return a->op;
}

bool t_op(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_FETCH)
		a->hdr.op = memx_put_le16(MEMX_OP_STORE | MEMX_OP_REPLY);
	return a->op;
}

bool t_not_a_reply(struct conn *c, struct answer *a)
{
	(void)c;
	a->hdr.op = memx_put_le16(a->op);
	return a->op;
}

/* ---- tags and time ---- */

bool t_twice(struct conn *c, struct answer *a)
{
	if (a->op == MEMX_OP_FETCH)
		emit(c, a);
	return a->op;
}

bool t_thrice_later(struct conn *c, struct answer *a)
{
	if (a->op == MEMX_OP_STORE && !emit_kept(c))
		keep(a);
	return a->op;
}

bool t_unknown_tag(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_FETCH)
		a->hdr.tag = memx_put_le64(draw());
	return a->op;
}

bool t_tag_zero(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_STORE)
		a->hdr.tag = 0;
	return a->op;
}

/* Two answers change their tags: the pages of one request for another. */
bool t_tag_of_another(struct conn *c, struct answer *a)
{
	static __le64 tag;
	__le64 mine = a->hdr.tag;

	(void)c;
	if (a->op != MEMX_OP_FETCH)
		return a->op;
	if (tag)
		a->hdr.tag = tag;
	tag = mine;
	return true;
}

bool t_silent(struct conn *c, struct answer *a)
{
	(void)c;
	(void)a;
	return false;
}

bool t_silent_fetch(struct conn *c, struct answer *a)
{
	(void)c;
	return a->op && a->op != MEMX_OP_FETCH;
}

bool t_silent_store(struct conn *c, struct answer *a)
{
	(void)c;
	return a->op && a->op != MEMX_OP_STORE;
}

/* Every answer waits for the one behind it. */
bool t_late(struct conn *c, struct answer *a)
{
	if (a->op != MEMX_OP_FETCH)
		return a->op;
	emit_kept(c);
	keep(a);
	return false;
}

/* ---- statuses ---- */

static bool all_are(struct answer *a, u16 op, u32 status)
{
	if (a->op == op)
		refuse(a, status);
	return a->op;
}

#define REFUSES(name, op, status)						\
	bool t_##name(struct conn *c, struct answer *a)				\
	{									\
		(void)c;							\
		return all_are(a, op, status);					\
	}

REFUSES(store_absent, MEMX_OP_STORE, MEMX_S_ABSENT)
REFUSES(store_invalid, MEMX_OP_STORE, MEMX_S_INVALID)
REFUSES(store_unknown, MEMX_OP_STORE, MEMX_S_UNKNOWN)
REFUSES(store_fenced, MEMX_OP_STORE, MEMX_S_FENCED)
REFUSES(store_superseded, MEMX_OP_STORE, MEMX_S_SUPERSEDED)
REFUSES(store_generation, MEMX_OP_STORE, MEMX_S_GENERATION)
REFUSES(store_old, MEMX_OP_STORE, MEMX_S_OLD)
REFUSES(store_corrupt, MEMX_OP_STORE, MEMX_S_CORRUPT)
REFUSES(store_again, MEMX_OP_STORE, MEMX_S_AGAIN)
REFUSES(store_nospace, MEMX_OP_STORE, MEMX_S_NOSPACE)
REFUSES(fetch_absent, MEMX_OP_FETCH, MEMX_S_ABSENT)
REFUSES(fetch_version, MEMX_OP_FETCH, MEMX_S_VERSION)
REFUSES(fetch_fenced, MEMX_OP_FETCH, MEMX_S_FENCED)
REFUSES(fetch_superseded, MEMX_OP_FETCH, MEMX_S_SUPERSEDED)
REFUSES(fetch_unknown, MEMX_OP_FETCH, MEMX_S_UNKNOWN)
REFUSES(fetch_again, MEMX_OP_FETCH, MEMX_S_AGAIN)
REFUSES(place_refused, MEMX_OP_PLACE, MEMX_S_INVALID)
REFUSES(place_absent, MEMX_OP_PLACE, MEMX_S_ABSENT)
REFUSES(place_nospace, MEMX_OP_PLACE, MEMX_S_NOSPACE)
REFUSES(place_generation, MEMX_OP_PLACE, MEMX_S_GENERATION)
REFUSES(fence_unknown, MEMX_OP_FENCE, MEMX_S_UNKNOWN)
REFUSES(store_garbage_status, MEMX_OP_STORE, 0xdeadbeef)
REFUSES(fetch_garbage_status, MEMX_OP_FETCH, 0xdeadbeef)

/* "Some": each with a status that no page can have. */
bool t_store_partial(struct conn *c, struct answer *a)
{
	struct memx_want *want = (void *)(a->body + MEMX_IO_LEN);

	(void)c;
	if (a->op != MEMX_OP_STORE || !a->count || a->status != MEMX_S_OK)
		return a->op;
	a->hdr.status = memx_put_le32(MEMX_S_PARTIAL);
	resize(a, memx_want_len(a->count));
	for (u32 i = 0; i < a->count; i++)
		want[i] = (struct memx_want){ .slot = memx_put_le32(i), .status = memx_put_le32(MEMX_S_ABSENT) };
	return true;
}

bool t_place_body(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_PLACE)
		resize(a, 24);
	return a->op;
}

/* ---- fences ---- */

static bool fence_says(struct answer *a, u32 status, u64 epoch)
{
	if (a->op != MEMX_OP_FENCE || a->len < sizeof(struct memx_fenced))
		return a->op;
	a->hdr.status = memx_put_le32(status);
	((struct memx_fenced *)(void *)a->body)->epoch = memx_put_le64(epoch);
	return true;
}

bool t_fence_superseded(struct conn *c, struct answer *a)
{
	(void)c;
	return fence_says(a, MEMX_S_SUPERSEDED, 1);
}

bool t_fence_fenced(struct conn *c, struct answer *a)
{
	(void)c;
	return fence_says(a, MEMX_S_FENCED, ~0ULL);
}

bool t_fence_handle0(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_FENCE && a->len >= sizeof(struct memx_fenced))
		((struct memx_fenced *)(void *)a->body)->session = 0;
	return a->op;
}

bool t_fence_numbers(struct conn *c, struct answer *a)
{
	struct memx_fenced *fenced = (void *)a->body;

	(void)c;
	if (a->op == MEMX_OP_FENCE && a->len >= sizeof(*fenced)) {
		fenced->extents = memx_put_le32(~0U);
		fenced->pages_used = memx_put_le64(~0ULL);
		fenced->pages_reserved = memx_put_le64(~0ULL);
	}
	return a->op;
}

bool t_fence_cut(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_FENCE && a->len)
		resize(a, 12);
	return a->op;
}

/* ---- listings ---- */

static bool list_says(struct answer *a, u16 op, u32 count, bool last)
{
	if (a->op != op || a->status != MEMX_S_OK)
		return false;
	memset(a->body, 0, sizeof(struct memx_list));
	resize(a, sizeof(struct memx_list));	/* the rest is filled with zeros */
	resize(a, memx_list_len(count));
	((struct memx_list *)(void *)a->body)->count = memx_put_le32(count);
	a->hdr.flags = memx_put_le16(last ? MEMX_F_LAST : 0);
	return true;
}

bool t_list_empty(struct conn *c, struct answer *a)
{
	(void)c;
	list_says(a, MEMX_OP_LIST, 0, true);
	return a->op;
}

/* Extents of which nobody ever heard, as many as a frame takes. */
static bool list_refs(struct answer *a, u32 first, u64 generation, bool last)
{
	struct memx_extent_ref *ref = (void *)(a->body + sizeof(struct memx_list));

	if (!list_says(a, MEMX_OP_LIST, MEMX_MAX_EXTENTS, last))
		return a->op;
	for (u32 i = 0; i < MEMX_MAX_EXTENTS; i++) {
		ref[i].extent = memx_put_le32(first + i);
		ref[i].generation = memx_put_le64(generation);
	}
	return true;
}

bool t_list_ghosts(struct conn *c, struct answer *a)
{
	(void)c;
	return list_refs(a, 1 << 20, 1, true);
}

bool t_list_future(struct conn *c, struct answer *a)
{
	(void)c;
	return list_refs(a, 0, ~0ULL - 1, true);
}

bool t_list_down(struct conn *c, struct answer *a)
{
	(void)c;
	list_refs(a, 0, 1, true);
	if (a->op == MEMX_OP_LIST && a->status == MEMX_S_OK)
		((struct memx_extent_ref *)(void *)(a->body + sizeof(struct memx_list)))[1].extent = 0;
	return a->op;
}

/* Millions of entries, and never the last one. */
bool t_list_endless(struct conn *c, struct answer *a)
{
	static u32 first;

	(void)c;
	if (a->op == MEMX_OP_LIST)
		first += MEMX_MAX_EXTENTS;
	return list_refs(a, first, 1, false);
}

bool t_list_count(struct conn *c, struct answer *a)
{
	(void)c;
	if (list_says(a, MEMX_OP_LIST, 4, true))
		((struct memx_list *)(void *)a->body)->count = memx_put_le32(~0U);
	return a->op;
}

bool t_scan_empty(struct conn *c, struct answer *a)
{
	(void)c;
	list_says(a, MEMX_OP_SCAN, 0, true);
	return a->op;
}

bool t_scan_future(struct conn *c, struct answer *a)
{
	struct memx_want *want = (void *)(a->body + sizeof(struct memx_list));

	(void)c;
	if (!list_says(a, MEMX_OP_SCAN, 64, true))
		return a->op;
	for (u32 i = 0; i < 64; i++)
		want[i] = (struct memx_want){ .slot = memx_put_le32(i), .version = memx_put_le64(~0ULL) };
	return true;
}

/* The first extent was discarded, all of it, at a version that no store will ever have. */
bool t_scan_gone(struct conn *c, struct answer *a)
{
	struct memx_want *want = (void *)(a->body + sizeof(struct memx_list));

	t_scan_future(c, a);
	for (u32 i = 0; a->op == MEMX_OP_SCAN && a->status == MEMX_S_OK && i < 64; i++)
		want[i].status = memx_put_le32(MEMX_S_ABSENT);
	return a->op;
}

/* ---- hello, state ---- */

static struct memx_hello *hello_of(struct answer *a)
{
	return a->op == MEMX_OP_HELLO && a->len == sizeof(struct memx_hello) ? (void *)a->body : NULL;
}

bool t_hello_id(struct conn *c, struct answer *a)
{
	struct memx_hello *hello = hello_of(a);

	(void)c;
	if (hello)
		memcpy(hello->id, donor_to_be, sizeof(hello->id));
	return a->op;
}

/* Another store with every connection. */
bool t_hello_instance(struct conn *c, struct answer *a)
{
	struct memx_hello *hello = hello_of(a);

	(void)c;
	if (hello)
		hello->instance = memx_put_le64(draw() | 1);
	return a->op;
}

bool t_hello_role(struct conn *c, struct answer *a)
{
	struct memx_hello *hello = hello_of(a);

	(void)c;
	if (hello)
		hello->role = MEMX_ROLE_GUEST;
	return a->op;
}

bool t_hello_proto(struct conn *c, struct answer *a)
{
	struct memx_hello *hello = hello_of(a);

	(void)c;
	if (hello)
		hello->proto = memx_put_le16(77);
	return a->op;
}

bool t_hello_cut(struct conn *c, struct answer *a)
{
	(void)c;
	if (hello_of(a))
		resize(a, 40);
	return a->op;
}

bool t_hello_nobody(struct conn *c, struct answer *a)
{
	struct memx_hello *hello = hello_of(a);

	(void)c;
	if (hello)
		memset(hello->id, 0, sizeof(hello->id));
	return a->op;
}

bool t_hello_silent(struct conn *c, struct answer *a)
{
	(void)c;
	return a->op && a->op != MEMX_OP_HELLO;
}

static bool stat_says(struct answer *a, u64 total, u64 reserved, u32 flags)
{
	struct memx_stat *stat = (void *)a->body;

	if (a->op != MEMX_OP_STAT || a->len != sizeof(*stat))
		return a->op;
	stat->pages_total = memx_put_le64(total);
	stat->pages_reserved = memx_put_le64(reserved);
	stat->flags = memx_put_le32(flags);
	return true;
}

bool t_stat_huge(struct conn *c, struct answer *a)
{
	(void)c;
	return stat_says(a, ~0ULL, 0, 0);
}

bool t_stat_full(struct conn *c, struct answer *a)
{
	(void)c;
	return stat_says(a, 0, ~0ULL, 0);
}

bool t_stat_draining(struct conn *c, struct answer *a)
{
	(void)c;
	return stat_says(a, 1 << 16, 0, draw() & 1 ? MEMX_STAT_DRAINING : 0xfffffffe);
}

bool t_stat_domain(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_STAT && a->len == sizeof(struct memx_stat))
		memset(((struct memx_stat *)(void *)a->body)->domain, 0x1b, MEMX_LABEL_LEN);
	return a->op;
}

bool t_stat_cut(struct conn *c, struct answer *a)
{
	(void)c;
	if (a->op == MEMX_OP_STAT)
		resize(a, 20);
	return a->op;
}

/* ---- what nobody asked for ---- */

static bool asks(struct conn *c, struct answer *a, u16 op, u32 len, u32 times)
{
	struct memx_head head = { .op = op, .len = len };
	u8 body[sizeof(struct memx_stat)] = { 0 };
	struct answer ask = { .body = body, .len = len };

	for (u32 i = 0; !a->op && i < times; i++) {
		head.tag = draw();
		memx_hdr_put(&ask.hdr, &head);
		emit(c, &ask);
	}
	return a->op;
}

bool t_ask_flood(struct conn *c, struct answer *a)
{
	return asks(c, a, MEMX_OP_ASK, sizeof(struct memx_stat), 50);
}

bool t_ping_flood(struct conn *c, struct answer *a)
{
	return asks(c, a, MEMX_OP_PING, 0, 200);
}

bool t_requests(struct conn *c, struct answer *a)
{
	return asks(c, a, MEMX_OP_FETCH, MEMX_IO_LEN, 1);
}

bool t_garbage(struct conn *c, struct answer *a)
{
	u64 words[512];

	for (u32 i = 0; i < 512; i++)
		words[i] = draw();
	if (!a->op)
		emit_raw(c, words, sizeof(words));
	return a->op;
}

bool t_drip(struct conn *c, struct answer *a)
{
	(void)c;
	return a->op;
}

bool t_hang_up(struct conn *c, struct answer *a)
{
	if (a->op == MEMX_OP_STORE)
		hang_up(c);
	return a->op;
}

bool t_hang_up_midway(struct conn *c, struct answer *a)
{
	if (a->op != MEMX_OP_STORE)
		return a->op;
	a->len /= 2;
	emit(c, a);
	hang_up(c);
	return false;
}
