// SPDX-License-Identifier: GPL-2.0-only
/*
 * io.c - pages: STORE, FETCH, DISCARD.
 *
 * One rule decides everything: an operation on a slot takes effect if its version is newer than the held one, an equal one
 * is answered as done and changes nothing, an older one is refused. A discarded slot keeps its version. So bytes that an
 * old connection still delivers, a discard that is sent again behind a newer store, and a repair copy that arrives late
 * cannot undo anything; and a fetch, which names the version that it wants, never gets another one.
 */
#include <memx/check.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "internal.h"
#include "user/checks.h"

struct io {
	struct srv_session *session;
	struct srv_extent *extent;
	u32 count;
	u32 first;			/* first slot of the extent */
};

/* The answer without pages: the request's head, with the generation that is held here (0: none is). */
static struct memx_io *answer_io(struct srv_req *req, const struct srv_extent *e, u32 status, u32 len)
{
	const struct memx_io *asked = req->body;
	struct memx_io *io = srv_reply(req, status, 0, len);

	io->session = asked->session;
	io->extent = asked->extent;
	io->count = asked->count;
	io->generation = e ? memx_put_le64(e->generation) : 0;
	return io;
}

static int refuse(struct srv_req *req, const struct srv_extent *e, u32 status)
{
	struct srv_counters *count = &req->conn->srv->count;

	answer_io(req, e, status, MEMX_IO_LEN);
	if (status == MEMX_S_FENCED)
		count->fenced++;
	else if (status == MEMX_S_INVALID)
		count->invalid++;
	else if (status == MEMX_S_GENERATION)
		count->generation++;
	return 0;
}

/*
 * What the three operations have in common. 0: @io is filled; 1: refused and answered; -EPROTO.
 */
static int begin(struct srv_req *req, struct io *io)
{
	const struct memx_io *asked = req->body;
	u32 extent = memx_le32(asked->extent), status;
	int count = memx_check_io(req->head, asked, MEMX_MAX_PAGES);

	if (count < 0) {
		srv_violation(req, "length and count of pages do not agree");
		return -EPROTO;
	}
	io->count = (u32)count;
	io->session = srv_speaks(req, memx_le32(asked->session), &status);
	if (!io->session) {
		refuse(req, NULL, status);
		return 1;
	}
	io->first = extent << io->session->order;
	if (extent >= memx_extents(io->session->slots, io->session->order)) {
		refuse(req, NULL, MEMX_S_INVALID);
		return 1;
	}
	io->extent = srv_extent_find(io->session, extent);
	if (!io->extent && req->head->op != MEMX_OP_FETCH) {
		refuse(req, NULL, MEMX_S_ABSENT);
		return 1;
	}
	return 0;
}

static struct memx_trailer *trailer(const struct srv *srv, const struct srv_extent *e, u32 at)
{
	return &srv_meta(srv, e, at)->trailer[at & (SRV_CHUNK_PAGES - 1)];
}

static bool held(const struct srv *srv, const struct srv_extent *e, u32 at)
{
	return srv_meta(srv, e, at)->held >> (at & (SRV_CHUNK_PAGES - 1)) & 1;
}

/* ---- STORE, DISCARD --------------------------------------------------------------------------------------------------- */

/* May an operation of @version change the slot? OK: yes; OLD: no; PARTIAL stands for "it did already". */
static u32 judge(struct srv *srv, const struct memx_trailer *t, __le64 version)
{
	u64 have = memx_le64(t->version), wanted = memx_le64(version);

	if (wanted > have)
		return MEMX_S_OK;
	if (wanted == have) {
		srv->count.repeated++;
		return MEMX_S_PARTIAL;
	}
	srv->count.old++;
	return MEMX_S_OLD;
}

static bool sealed(const struct memx_trailer *t)
{
	return t->flags & memx_put_le32(MEMX_T_SEALED);
}

static bool intact(const struct io *io, u32 slot, const struct memx_trailer *t, const void *page)
{
	return memx_check(io->session->check_seed, slot, memx_le64(t->version), page) == memx_le64(t->check);
}

/*
 * A repair copy at the version that is held. It replaces a page of which we find for ourselves, here and now, that it does not
 * match its own check: nobody stored that, so nothing good can be lost. Any other page stays as it is.
 */
static u32 mend_one(struct srv_req *req, const struct io *io, const struct memx_page *desc, const u8 *page)
{
	struct srv *srv = req->conn->srv;
	u32 slot = memx_le32(desc->slot), at = slot - io->first;
	struct memx_trailer *t = trailer(srv, io->extent, at);
	u8 *own = srv_page(srv, io->extent, at);

	if (!held(srv, io->extent, at) || sealed(t) || sealed(&desc->trailer) || intact(io, slot, t, own))
		return MEMX_S_OK;
	if (!intact(io, slot, &desc->trailer, page)) {
		srv->count.corrupt++;
		return MEMX_S_CORRUPT;
	}
	memcpy(own, page, MEMX_PAGE_SIZE);
	*t = desc->trailer;
	srv->count.mended++;
	return MEMX_S_OK;
}

/*
 * A page goes into the store past the caches: it is not read again soon, and what it would drive out of them is what the
 * next frames are handled with. An ordinary copy also reads each line of the store before it overwrites it. pages_are_in() follows,
 * once for all pages of a request.
 */
static void page_in(u8 *to, const u8 *from)
{
#ifdef __SSE2__
	u32 i;

	for (i = 0; i < MEMX_PAGE_SIZE; i += 64) {
		__m128i a = _mm_loadu_si128((const __m128i *)(from + i));
		__m128i b = _mm_loadu_si128((const __m128i *)(from + i + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(from + i + 32));
		__m128i d = _mm_loadu_si128((const __m128i *)(from + i + 48));

		_mm_stream_si128((__m128i *)(to + i), a);
		_mm_stream_si128((__m128i *)(to + i + 16), b);
		_mm_stream_si128((__m128i *)(to + i + 32), c);
		_mm_stream_si128((__m128i *)(to + i + 48), d);
	}
#else
	memcpy(to, from, MEMX_PAGE_SIZE);
#endif
}

static void pages_are_in(void)
{
#ifdef __SSE2__
	_mm_sfence();
#endif
}

/* @check: that of the bytes at @page. */
static u32 store_one(struct srv_req *req, const struct io *io, const struct memx_page *desc, const u8 *page, u64 check)
{
	struct srv *srv = req->conn->srv;
	u32 at = memx_le32(desc->slot) - io->first, status;
	struct memx_trailer *t = trailer(srv, io->extent, at);

	status = judge(srv, t, desc->trailer.version);
	if (status == MEMX_S_PARTIAL)
		return req->head->flags & MEMX_F_REPAIR ? mend_one(req, io, desc, page) : MEMX_S_OK;
	if (status != MEMX_S_OK)
		return status;
	/* What was damaged on the way is stored again from where it is whole; found out at the next fetch, it may be the last copy. */
	if (!sealed(&desc->trailer) && check != memx_le64(desc->trailer.check)) {
		srv->count.corrupt++;
		return MEMX_S_CORRUPT;
	}
	if (srv_chunks_pages(srv, io->extent->chunk[at >> SRV_CHUNK_SHIFT])) {
		srv->count.nospace++;
		srv_event(srv, SRV_EVENT_NOMEM, io->session, io->extent->index, req->conn);
		return MEMX_S_NOSPACE;
	}
	page_in(srv_page(srv, io->extent, at), page);
	*t = desc->trailer;
	srv_meta(srv, io->extent, at)->held |= 1ULL << (at & (SRV_CHUNK_PAGES - 1));
	srv->count.stored++;
	return MEMX_S_OK;
}

static u32 discard_one(struct srv_req *req, const struct io *io, const struct memx_want *want)
{
	struct srv *srv = req->conn->srv;
	u32 at = memx_le32(want->slot) - io->first, status;
	struct memx_trailer *t = trailer(srv, io->extent, at);

	status = judge(srv, t, want->version);
	if (status == MEMX_S_PARTIAL)
		return MEMX_S_OK;
	if (status != MEMX_S_OK)
		return status;
	*t = (struct memx_trailer) { .version = want->version };
	srv_meta(srv, io->extent, at)->held &= ~(1ULL << (at & (SRV_CHUNK_PAGES - 1)));
	srv->count.discarded++;
	return MEMX_S_OK;
}

static int answer_changes(struct srv_req *req, const struct io *io, const u32 *status, const __le32 *slot,
			  const __le64 *version)
{
	struct memx_want *want;
	u32 i, bad = 0;

	for (i = 0; i < io->count; i++)
		bad += status[i] != MEMX_S_OK;
	if (!bad) {
		answer_io(req, io->extent, MEMX_S_OK, MEMX_IO_LEN);
		return 0;
	}
	want = (struct memx_want *)(answer_io(req, io->extent, MEMX_S_PARTIAL, memx_want_len(io->count)) + 1);
	for (i = 0; i < io->count; i++) {
		want[i].slot = slot[i];
		want[i].status = memx_put_le32(status[i]);
		want[i].version = version[i];
	}
	return 0;
}

/* A change needs the extent's very generation, and a donor that the record does not call stale. */
static bool may_change(const struct srv_req *req, const struct io *io)
{
	const struct memx_io *asked = req->body;

	return memx_le64(asked->generation) == io->extent->generation && io->extent->state != MEMX_R_STALE;
}

int srv_op_store(struct srv_req *req)
{
	const struct memx_page *desc = (const void *)((const u8 *)req->body + MEMX_IO_LEN);
	struct memx_check_page whole[MEMX_MAX_PAGES];
	u32 status[MEMX_MAX_PAGES], i;
	__le32 slot[MEMX_MAX_PAGES];
	__le64 version[MEMX_MAX_PAGES];
	const u8 *page;
	struct io io;
	int ret = begin(req, &io);

	if (ret)
		return ret < 0 ? ret : 0;
	if (memx_check_pages(desc, io.count, io.extent->index, io.session->order, io.session->slots))
		return refuse(req, io.extent, MEMX_S_INVALID);
	if (!may_change(req, &io))
		return refuse(req, io.extent, MEMX_S_GENERATION);
	io.extent->in_force = true;		/* nobody stores by a record that is not */
	page = (const u8 *)(desc + io.count);
	for (i = 0; i < io.count; i++) {
		slot[i] = desc[i].slot;
		version[i] = desc[i].trailer.version;
		whole[i] = (struct memx_check_page){
			.slot = memx_le32(slot[i]), .version = memx_le64(version[i]), .from = page + (size_t)i * MEMX_PAGE_SIZE,
		};
	}
	memx_checks(io.session->check_seed, whole, io.count);
	for (i = 0; i < io.count; i++)
		status[i] = store_one(req, &io, &desc[i], whole[i].from, whole[i].check);
	pages_are_in();
	return answer_changes(req, &io, status, slot, version);
}

int srv_op_discard(struct srv_req *req)
{
	const struct memx_want *want = (const void *)((const u8 *)req->body + MEMX_IO_LEN);
	u32 status[MEMX_MAX_PAGES], i;
	__le32 slot[MEMX_MAX_PAGES];
	__le64 version[MEMX_MAX_PAGES];
	struct io io;
	int ret = begin(req, &io);

	if (ret)
		return ret < 0 ? ret : 0;
	if (memx_check_wants(want, io.count, io.extent->index, io.session->order, io.session->slots))
		return refuse(req, io.extent, MEMX_S_INVALID);
	if (!may_change(req, &io))
		return refuse(req, io.extent, MEMX_S_GENERATION);
	io.extent->in_force = true;
	for (i = 0; i < io.count; i++) {
		slot[i] = want[i].slot;
		version[i] = want[i].version;
		status[i] = discard_one(req, &io, &want[i]);
	}
	return answer_changes(req, &io, status, slot, version);
}

/* ---- FETCH ------------------------------------------------------------------------------------------------------------ */

static u32 fetch_one(struct srv *srv, const struct srv_extent *e, u32 at, __le64 version)
{
	if (!held(srv, e, at)) {
		srv->count.absent++;
		return MEMX_S_ABSENT;
	}
	if (trailer(srv, e, at)->version != version) {
		srv->count.version++;
		return MEMX_S_VERSION;
	}
	srv->count.fetched++;
	return MEMX_S_OK;
}

static int answer_pages(struct srv_req *req, const struct io *io, const struct memx_want *want, const u32 *status, u32 good)
{
	const struct memx_io *asked = req->body;
	struct srv *srv = req->conn->srv;
	struct memx_io *head;
	struct memx_page *desc;
	u32 i, at;

	head = srv_reply_pages(req, good == io->count ? MEMX_S_OK : MEMX_S_PARTIAL, io->count, good);
	head->session = asked->session;
	head->extent = asked->extent;
	head->count = asked->count;
	head->generation = memx_put_le64(io->extent->generation);
	desc = (struct memx_page *)(head + 1);
	for (i = 0; i < io->count; i++) {
		at = memx_le32(want[i].slot) - io->first;
		desc[i].slot = want[i].slot;
		desc[i].status = memx_put_le32(status[i]);
		if (status[i] == MEMX_S_OK) {
			desc[i].trailer = *trailer(srv, io->extent, at);
			srv_reply_ref(req, srv_page(srv, io->extent, at), MEMX_PAGE_SIZE);
		} else {
			desc[i].trailer.version = trailer(srv, io->extent, at)->version;
		}
	}
	return 0;
}

int srv_op_fetch(struct srv_req *req)
{
	const struct memx_io *asked = req->body;
	const struct memx_want *want = (const void *)((const u8 *)req->body + MEMX_IO_LEN);
	u32 status[MEMX_MAX_PAGES], i, good = 0;
	struct io io;
	int ret = begin(req, &io);

	if (ret)
		return ret < 0 ? ret : 0;
	if (memx_check_wants(want, io.count, memx_le32(asked->extent), io.session->order, io.session->slots))
		return refuse(req, io.extent, MEMX_S_INVALID);
	if (!io.extent) {
		req->conn->srv->count.absent += io.count;
		return refuse(req, NULL, MEMX_S_ABSENT);
	}
	/* An older copy may serve a newer record as a last resort: the version decides. Never the other way round. */
	if (memx_le64(asked->generation) < io.extent->generation)
		return refuse(req, io.extent, MEMX_S_GENERATION);
	for (i = 0; i < io.count; i++) {
		status[i] = fetch_one(req->conn->srv, io.extent, memx_le32(want[i].slot) - io.first, want[i].version);
		good += status[i] == MEMX_S_OK;
	}
	return answer_pages(req, &io, want, status, good);
}
