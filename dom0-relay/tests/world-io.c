// SPDX-License-Identifier: GPL-2.0-only
/*
 * world-io.c - what the guest of world-guest.c stores, fetches and discards, and what it makes of the answers.
 *
 * A fetch that is answered OK brings the bytes of the last acknowledged store of its slot, and such a fetch does not fail (unless
 * the test says that copies were lost). A read that comes while a store of its slot is under way waits for the end of that store,
 * as in the module, and then wants its bytes.
 *
 * A persistent guest does with what is unanswered when its link goes, and with what is put off, as the module does
 * (guest/receive.c, guest/lane.c): it travels again, in its order; a store with a version of its own each time, for the page may
 * have changed since (and here it has: each version has its bytes); a discard with the version that it has, unless the slot was
 * stored since; a fetch as it was. So each ends, and how it may end is what settle_write() and settle_fetch() say.
 */
#include "world-guest.h"

enum {
	TRIES_MAX	= 8,		/* definite errors before a page is given up */
	AGAIN_MS	= 250,		/* what was put off */
};

void wguest_page(const struct wguest *g, u32 slot, u64 version, void *to)
{
	u64 *word = to, x = g->seed ^ ((u64)slot << 32) ^ version;
	u32 i;

	for (i = 0; i < MEMX_PAGE_SIZE / 8; i++)
		word[i] = (x += 0x9e3779b97f4a7c15ULL) ^ i;
}

/* ---- requests ------------------------------------------------------------------------------------------------------------------ */

static bool has_credit(const struct wguest *g, u32 lane, u32 room, u32 pages)
{
	u32 i, requests = 1;

	for (i = 0; i < W_REQS; i++) {
		const struct wreq *r = &g->req[i];

		if (!r->used || r->done || r->lost || r->lane != lane)
			continue;
		requests++;
		pages += r->count;
	}
	return g->attached && g->alive && requests <= g->lane_requests && pages <= g->lane_pages &&
	       g->promised[lane] + room <= W_RING - MEMX_RESERVE_REPLY;
}

static struct wreq *req_new(struct wguest *g, u16 op, u32 slot, u32 count)
{
	struct wreq *r = NULL;
	u32 i;

	if (slot + count > g->slots || slot >> g->order != (slot + count - 1) >> g->order ||
	    !has_credit(g, op == MEMX_OP_FETCH, memx_reply_max(op, count), count))
		return NULL;
	for (i = 0; i < W_REQS && !r; i++)
		if (!g->req[i].used || g->req[i].done)
			r = &g->req[i];
	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r));
	r->used = true;
	r->op = op;
	r->lane = op == MEMX_OP_FETCH;
	r->slot = slot;
	r->count = count;
	for (i = 0; i < count; i++)
		r->at[i] = slot + i;
	r->status = ~0U;
	g->busy++;
	return r;
}

static void put_pages(struct wguest *g, const struct wreq *r, struct memx_page *page)
{
	u8 *bytes = (u8 *)&page[r->count];
	u32 i;

	for (i = 0; i < r->count; i++, bytes += MEMX_PAGE_SIZE) {
		wguest_page(g, r->at[i], r->version[i], bytes);
		page[i].slot = memx_put_le32(r->at[i]);
		page[i].trailer.version = memx_put_le64(r->version[i]);
		page[i].trailer.check = memx_put_le64(memx_check(g->seed, r->at[i], r->version[i], bytes));
	}
}

static void put_wants(const struct wreq *r, struct memx_want *want)
{
	u32 i;

	for (i = 0; i < r->count; i++) {
		want[i].slot = memx_put_le32(r->at[i]);
		want[i].version = memx_put_le64(r->version[i]);
	}
}

/* Out it goes, with the versions that it has. */
static void send_req(struct wguest *g, struct wreq *r)
{
	struct memx_head head = {
		.op = r->op, .tag = ++g->next_tag, .epoch = g->epoch,
		.len = r->op == MEMX_OP_STORE ? memx_store_len(r->count) : memx_want_len(r->count),
	};
	u8 *body = core_zalloc(head.len);
	struct memx_io *io = (struct memx_io *)body;

	r->lost = false;
	r->tag = head.tag;
	r->room = memx_reply_max(r->op, r->count);
	g->promised[r->lane] += r->room;
	io->extent = memx_put_le32(r->at[0] >> g->order);
	io->count = memx_put_le16((u16)r->count);
	if (r->op == MEMX_OP_STORE)
		put_pages(g, r, (struct memx_page *)(body + MEMX_IO_LEN));
	else
		put_wants(r, (struct memx_want *)(body + MEMX_IO_LEN));
	wguest_raw(g, r->lane, &head, body);
	free(body);
}

static bool writable(const struct wguest *g, u32 slot, u32 count)
{
	u32 i;

	for (i = slot; i < slot + count; i++)
		if (i >= g->slots || g->slot[i].busy || g->slot[i].fetching || g->slot[i].wanted)
			return false;
	return true;
}

struct wreq *wguest_store(struct wguest *g, u32 slot, u32 count)
{
	struct wreq *r = writable(g, slot, count) ? req_new(g, MEMX_OP_STORE, slot, count) : NULL;
	u32 i;

	if (!r)
		return NULL;
	for (i = 0; i < count; i++) {
		r->version[i] = ++g->slot[slot + i].version;
		g->slot[slot + i].busy = true;
	}
	send_req(g, r);
	return r;
}

static bool readable(const struct wguest *g, u32 slot)
{
	return slot < g->slots && !g->slot[slot].busy && g->slot[slot].state == SLOT_STORED;
}

struct wreq *wguest_fetch(struct wguest *g, u32 slot, u32 count)
{
	struct wreq *r;
	u32 i;

	for (i = slot; i < slot + count; i++)
		if (!readable(g, i))
			return NULL;
	r = req_new(g, MEMX_OP_FETCH, slot, count);
	if (!r)
		return NULL;
	for (i = 0; i < count; i++) {
		g->slot[slot + i].fetching++;
		r->version[i] = g->slot[slot + i].good;
	}
	send_req(g, r);
	return r;
}

void wguest_read(struct wguest *g, u32 slot)
{
	if (slot < g->slots && g->slot[slot].busy && !g->slot[slot].wanted) {
		g->slot[slot].wanted = true;
		g->wanted++;
	} else {
		wguest_fetch(g, slot, 1);
	}
}

struct wreq *wguest_discard(struct wguest *g, u32 slot, u32 count)
{
	struct wreq *r;
	u32 i;

	for (i = slot; i < slot + count && i < g->slots; i++)
		if (g->slot[i].discarding)
			return NULL;
	r = writable(g, slot, count) ? req_new(g, MEMX_OP_DISCARD, slot, count) : NULL;
	if (!r)
		return NULL;
	for (i = 0; i < count; i++) {
		struct wslot *s = &g->slot[slot + i];

		s->discarding = true;	/* a store may follow on its heels */
		s->state = SLOT_UNKNOWN;
		r->version[i] = ++s->version;
	}
	send_req(g, r);
	return r;
}

u32 wguest_do(struct wguest *g, struct wreq *req)
{
	must(req, "the request could not be sent");
	world_settle(g->w);
	return req->done ? req->status : ~0U;
}

/* ---- ends of pages -------------------------------------------------------------------------------------------------------------- */

static void wanted_now(struct wguest *g, struct wslot *s, bool stored)
{
	if (!s->wanted || (stored && !wguest_fetch(g, (u32)(s - g->slot), 1)))
		return;		/* no credit just now: the next tick */
	s->wanted = false;
	g->wanted--;
	g->w->tally.reads_held += stored;
}

/* Nothing of the page is out there. UNKNOWN: nor of its session. */
static bool discarded(u32 status)
{
	return status == MEMX_S_OK || status == MEMX_S_OLD || status == MEMX_S_ABSENT || status == MEMX_S_UNKNOWN;
}

static void settle_write(struct wguest *g, struct wreq *r, u32 i, u32 status)
{
	struct wslot *s = &g->slot[r->at[i]];

	r->page_status[i] = status;
	if (r->op == MEMX_OP_STORE)
		s->busy = false;
	else
		s->discarding = false;
	if (status != MEMX_S_OK && !(g->persistent && r->op == MEMX_OP_DISCARD && discarded(status))) {
		if (s->version == r->version[i])
			s->state = SLOT_UNKNOWN;
		g->errors++;
		g->failed |= 1ULL << (status & 63);
		if (!g->w->quiet)
			fprintf(stderr, "# %8.3f %s: op %u of slot %u version %llu failed with %u\n", (double)g->w->now / 1e9,
				g->conf.name, r->op, r->at[i], (unsigned long long)r->version[i], status);
		wanted_now(g, s, false);	/* the page is still in the guest */
	} else if (r->op == MEMX_OP_STORE) {
		s->state = SLOT_STORED;
		s->good = r->version[i];
		g->stores_ok++;
		g->w->tally.stores_again_ok += r->again;
		wanted_now(g, s, true);
	} else if (s->version == r->version[i]) {
		s->state = SLOT_DISCARDED;
	}
}

/*
 * Does any donor of the slot's record still have this page as it was? Where the memory of one is bad, the other copy may be
 * dropped and make room for a third before anybody has read the first: two failures, and an error is the right answer.
 */
static bool somebody_has(struct wguest *g, u32 slot, u64 version)
{
	const struct memx_record *rec = &g->record[slot >> g->order];
	u8 page[MEMX_PAGE_SIZE];
	u32 i, k;

	wguest_page(g, slot, version, page);
	for (i = 0; i < g->w->donors; i++)
		for (k = 0; k < rec->replicas; k++)
			if (!memcmp(rec->replica[k].donor, g->w->donor[i].id, 16) && wdonor_find(&g->w->donor[i], page))
				return true;
	return false;
}

static bool has_rotted(struct wguest *g, const struct wreq *r, u32 i, u32 status)
{
	return status == MEMX_S_CORRUPT && g->w->rotten && !somebody_has(g, r->at[i], r->version[i]);
}

static void settle_fetch(struct wguest *g, struct wreq *r, u32 i, u32 status, const struct memx_page *page, const u8 *bytes)
{
	struct wslot *s = &g->slot[r->at[i]];
	u8 want[MEMX_PAGE_SIZE];

	s->fetching--;
	r->page_status[i] = status;
	if (has_rotted(g, r, i, status)) {
		g->rotted++;
		return;
	}
	if (status != MEMX_S_OK) {
		must(g->may_lose, "slot %u version %llu: fetch failed with %u", r->at[i], (unsigned long long)r->version[i],
		     status);
		g->errors++;
		return;
	}
	must(page && bytes, "slot %u: fetched without a page", r->at[i]);
	must(memx_le64(page->trailer.version) == r->version[i], "slot %u: version %llu instead of %llu", r->at[i],
	     (unsigned long long)memx_le64(page->trailer.version), (unsigned long long)r->version[i]);
	wguest_page(g, r->at[i], r->version[i], want);
	must(!memcmp(want, bytes, sizeof(want)), "slot %u: wrong bytes", r->at[i]);
	g->fetches_ok++;
}

/* ---- what a persistent guest does not take for the end ---------------------------------------------------------------------------- */

enum verdict { ENDS, LATER, NEXT_LINK };

static bool void_session(u32 status)
{
	return status == MEMX_S_FENCED || status == MEMX_S_NOFENCE || status == MEMX_S_SUPERSEDED || status == MEMX_S_DENIED ||
	       status == MEMX_S_UNKNOWN;
}

static bool passing(u32 status)
{
	return status == MEMX_S_AGAIN || status == MEMX_S_IO || status == MEMX_S_LIMIT || status == MEMX_S_DRAINING ||
	       status == MEMX_S_GENERATION || status == MEMX_S_NODONOR;
}

static enum verdict judge(struct wguest *g, const struct wreq *r, u32 i, u32 status)
{
	if (!g->persistent || status == MEMX_S_OK || has_rotted(g, r, i, status))
		return ENDS;
	if (r->op == MEMX_OP_STORE && status == MEMX_S_NOSPACE)
		return ENDS;
	if (r->op == MEMX_OP_DISCARD && discarded(status))
		return ENDS;
	if (void_session(status))
		return NEXT_LINK;
	return passing(status) || r->tries < TRIES_MAX ? LATER : ENDS;
}

/* Only the page that was the @i-th is left of the request, as its @n-th. */
static void keep_page(struct wreq *r, u32 n, u32 i)
{
	r->at[n] = r->at[i];
	r->version[n] = r->version[i];
}

static bool give_versions(struct wguest *g, struct wreq *r)
{
	u32 i, n = 0;

	for (i = 0; i < r->count; i++) {
		struct wslot *s = &g->slot[r->at[i]];

		if (r->op == MEMX_OP_STORE) {
			r->version[i] = ++s->version;
		} else if (r->op == MEMX_OP_DISCARD && s->version != r->version[i]) {
			s->discarding = false;		/* stored since: that will do */
			g->w->tally.discards_void++;
			continue;
		}
		keep_page(r, n++, i);
	}
	r->count = n;
	return n;
}

static void send_again(struct wguest *g, struct wreq *r)
{
	struct world_tally *t = &g->w->tally;

	if (!has_credit(g, r->lane, memx_reply_max(r->op, r->count), r->count))
		return;
	if (!give_versions(g, r)) {
		r->done = true;
		g->busy--;
		return;
	}
	r->again = true;
	t->stores_again += r->op == MEMX_OP_STORE ? r->count : 0;
	t->discards_again += r->op == MEMX_OP_DISCARD ? r->count : 0;
	t->fetches_again += r->op == MEMX_OP_FETCH ? r->count : 0;
	send_req(g, r);
}

/* The oldest that is to be sent again. */
static struct wreq *next_lost(struct wguest *g, u64 after)
{
	struct wreq *first = NULL;
	u32 i;

	for (i = 0; i < W_REQS; i++) {
		struct wreq *r = &g->req[i];

		if (r->used && !r->done && r->lost && r->again_at <= g->w->now && r->tag > after && (!first || r->tag < first->tag))
			first = r;
	}
	return first;
}

void wguest_tick(struct wguest *g)
{
	u64 last = g->next_tag, tag = 0;
	struct wreq *r;
	u32 i;

	if (!g->attached || !g->persistent)
		return;
	for (r = next_lost(g, 0); r && r->tag <= last; r = next_lost(g, tag)) {
		tag = r->tag;
		send_again(g, r);
	}
	for (i = 0; g->wanted && i < g->slots; i++)
		if (g->slot[i].wanted && !g->slot[i].busy)
			wanted_now(g, &g->slot[i], true);
}

void wguest_requests_again(struct wguest *g)
{
	u32 i;

	for (i = 0; i < W_REQS; i++)
		g->req[i].again_at = 0;
	wguest_tick(g);
}

void wguest_requests_lost(struct wguest *g)
{
	u32 i, k;

	for (i = 0; i < W_REQS; i++) {
		struct wreq *r = &g->req[i];

		r->room = 0;
		if (!r->used || r->done)
			continue;
		if (g->persistent) {
			r->lost = true;
			continue;
		}
		for (k = 0; k < r->count; k++) {
			struct wslot *s = &g->slot[r->at[k]];

			if (r->op == MEMX_OP_FETCH) {
				s->fetching--;
			} else {
				s->busy = s->discarding = false;
				s->state = SLOT_UNKNOWN;
			}
		}
		r->used = false;
		g->busy--;
	}
}

void wguest_requests_forget(struct wguest *g)
{
	memset(g->req, 0, sizeof(g->req));
	g->busy = 0;
	g->wanted = 0;
}

/* ---- answers -------------------------------------------------------------------------------------------------------------------- */

static void answer_ends(struct wguest *g, struct wreq *r, u32 left, enum verdict worst)
{
	g->promised[r->lane] -= r->room;
	r->room = 0;
	if (!left) {
		r->done = true;
		g->busy--;
		return;
	}
	g->w->tally.put_off += left;
	r->count = left;
	r->lost = true;
	r->again_at = g->w->now + AGAIN_MS * MS;
	if (worst == NEXT_LINK)
		wguest_hang_up(g);
}

static void settle(struct wguest *g, struct wreq *r, const struct memx_head *head, const struct frame *f)
{
	u32 i, pages_at = MEMX_IO_LEN + r->count * (u32)sizeof(struct memx_page), left = 0;
	enum verdict verdict, worst = ENDS;
	struct memx_page page;
	struct memx_want want;
	struct memx_io io;

	must(head->len >= sizeof(io), "reply without body");
	memcpy(&io, f->body, sizeof(io));
	must(!memx_check_io_reply(head, &io, r->at[0] >> g->order, r->count), "malformed reply to op %u", r->op);
	r->status = head->status;
	r->tries++;
	for (i = 0; i < r->count; i++) {
		bool fetched = r->op == MEMX_OP_FETCH && (head->status == MEMX_S_OK || head->status == MEMX_S_PARTIAL);
		u32 status = head->status, at = pages_at;

		if (fetched) {
			memcpy(&page, f->body + MEMX_IO_LEN + i * sizeof(page), sizeof(page));
			must(memx_le32(page.slot) == r->at[i], "wrong slot in reply");
			status = memx_le32(page.status);
			pages_at += status == MEMX_S_OK ? MEMX_PAGE_SIZE : 0;
		} else if (status == MEMX_S_PARTIAL) {
			memcpy(&want, f->body + MEMX_IO_LEN + i * sizeof(want), sizeof(want));
			must(memx_le32(want.slot) == r->at[i], "wrong slot in reply");
			status = memx_le32(want.status);
		}
		verdict = judge(g, r, i, status);
		if (verdict != ENDS)
			keep_page(r, left++, i);
		else if (r->op == MEMX_OP_FETCH)
			settle_fetch(g, r, i, status, fetched ? &page : NULL, f->body + at);
		else
			settle_write(g, r, i, status);
		worst = verdict > worst ? verdict : worst;
	}
	answer_ends(g, r, left, worst);
}

bool wguest_answer(struct wguest *g, u32 lane, const struct memx_head *head, const struct frame *f)
{
	u32 i;

	for (i = 0; i < W_REQS; i++) {
		struct wreq *r = &g->req[i];

		if (r->used && !r->done && !r->lost && r->tag == head->tag && r->lane == lane) {
			settle(g, r, head, f);
			return true;
		}
	}
	return false;
}
