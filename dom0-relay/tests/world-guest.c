// SPDX-License-Identifier: GPL-2.0-only
/*
 * world-guest.c - a guest that keeps the protocol and remembers what it was promised.
 *
 * What must hold, and is checked here on every answer: a fetch that is answered OK brings the bytes of the last acknowledged
 * store; a fetch of such a slot does not fail (unless the test says that copies were lost); a record names only what could be
 * true, and its generation rises.
 */
#include <stdio.h>
#include <stdlib.h>

#include "world-guest.h"

#define must(cond, ...) do {								\
	if (!(cond)) {									\
		fprintf(stderr, "seed %llu: ", (unsigned long long)g->w->seed);		\
		fprintf(stderr, __VA_ARGS__);						\
		fputc('\n', stderr);							\
		abort();								\
	}										\
} while (0)

void wguest_page(const struct wguest *g, u32 slot, u64 version, void *to)
{
	u64 *word = to, x = g->seed ^ ((u64)slot << 32) ^ version;
	u32 i;

	for (i = 0; i < MEMX_PAGE_SIZE / 8; i++)
		word[i] = (x += 0x9e3779b97f4a7c15ULL) ^ i;
}

struct wguest *wguest_new(struct world *w, u32 slots, u32 replicas)
{
	struct wguest *g = &w->guest[w->guests];
	u32 l;

	assert(w->guests < W_GUESTS);
	memset(g, 0, sizeof(*g));
	g->w = w;
	snprintf(g->conf.name, sizeof(g->conf.name), "g%u", w->guests);
	memset(g->conf.vm, 0x60 + (int)w->guests, sizeof(g->conf.vm));
	g->conf.domid = ++w->guests;
	g->conf.quota_pages = slots;
	g->conf.replicas = (u8)replicas;
	memset(g->session, 0x5e + (int)w->guests, sizeof(g->session));
	g->seed = memx_session_seed(g->session);
	g->lineage[0] = 77 + w->guests;
	g->want_slots = slots;
	g->slot = core_zalloc((slots + 1) * sizeof(*g->slot));
	g->record = core_zalloc((slots / 64 + 2) * sizeof(*g->record));
	for (l = 0; l < W_LANES; l++) {
		list_init(&g->to_relay[l]);
		list_init(&g->to_guest[l]);
	}
	return g;
}

void wguest_free(struct wguest *g)
{
	wguest_lost(g);
	free(g->slot);
	free(g->record);
}

/* ---- the link ------------------------------------------------------------------------------------------------------------- */

void wguest_lost(struct wguest *g)
{
	u32 i, l;

	g->alive = false;
	g->attached = false;
	g->attaching = false;
	g->link = NULL;
	for (l = 0; l < W_LANES; l++) {
		queue_clear(&g->to_relay[l]);
		queue_clear(&g->to_guest[l]);
		g->ring_used[l] = 0;
		g->promised[l] = 0;
	}
	if (g->held_record)
		frame_free(g->held_record);
	g->held_record = NULL;
	/* What was unanswered: a store may have happened or not. The module would send it again; here its slot is unknown. */
	for (i = 0; i < W_REQS; i++) {
		struct wreq *r = &g->req[i];
		u32 k;

		if (r->used && !r->done) {
			for (k = 0; k < r->count; k++) {
				struct wslot *s = &g->slot[r->slot + k];

				if (r->op == MEMX_OP_FETCH) {
					s->fetching--;
				} else {
					s->busy = false;
					s->state = SLOT_UNKNOWN;
				}
			}
		}
		r->used = false;
	}
	g->busy = 0;
}

void wguest_hang_up(struct wguest *g)
{
	if (g->link && g->alive)
		core_link_down(g->link, "the guest went", g->w->now);
	wguest_lost(g);
}

void wguest_offer(struct wguest *g)
{
	wguest_lost(g);		/* what is still in the rings belongs to the offer before */
	g->offer = world_random(g->w);
	g->closed = false;
	g->reason[0] = 0;
	g->lanes_said = 0;
	g->alive = true;
	g->link = core_link_up(g->w->core, &g->conf, g->offer, W_LANES, g, g->w->now);
	must(g->link, "no link");
}

void wguest_raw(struct wguest *g, u32 lane, const struct memx_head *head, const void *body)
{
	struct memx_hdr hdr;
	struct frame *f;

	memx_hdr_put(&hdr, head);
	f = frame_new(&hdr, body, head->len);
	list_add_tail(&f->in_queue, &g->to_relay[lane]);
}

void wguest_deliver_one(struct wguest *g, u32 lane)
{
	wguest_deliver_out(g, lane);
}

void wguest_deliver_out(struct wguest *g, u32 lane)
{
	struct frame *f = list_first(&g->to_relay[lane], struct frame, in_queue);
	struct memx_head head;
	struct rbuf *body = NULL;

	list_del(&f->in_queue);
	if (memx_head_get(&head, &f->hdr, MEMX_MAX_BODY)) {
		core_link_broken(g->link, lane, "bad header", g->w->now);
	} else if (!core_link_head(g->link, lane, &head, &body, g->w->now)) {
		/* As from a ring: in two pieces, cut anywhere. */
		if (body && f->len) {
			u32 first = (u32)(head.tag * 4099 % (f->len + 1));
			u8 *piece = malloc(f->len);

			memcpy(piece, f->body + first, f->len - first);
			core_link_body(g->link, &head, body, f->body, first, piece);
			free(piece);
		}
		core_link_frame(g->link, lane, &head, body, g->w->now);
	}
	frame_free(f);
}

/* ---- what the relay asks -------------------------------------------------------------------------------------------------- */

static void answer_hello(struct wguest *g, u32 lane, const struct memx_head *head, const struct frame *f)
{
	struct memx_hello ask, hello = {
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .proto = memx_put_le16(1),
		.role = MEMX_ROLE_GUEST, .lane = (u8)lane, .lanes = W_LANES,
		.lane_kind = lane ? MEMX_LANE_FETCH : MEMX_LANE_STORE,
	};
	struct memx_head reply = { .op = MEMX_OP_HELLO, .reply = true, .tag = head->tag, .len = sizeof(hello) };

	memcpy(&ask, f->body, sizeof(ask));
	must(ask.lane == lane && memx_le64(ask.offer) == g->offer, "hello of the relay does not fit the offer");
	hello.offer = ask.offer;
	wguest_raw(g, lane, &reply, &hello);
	g->lanes_said++;
}

static void take_records(struct wguest *g, u32 lane, const struct memx_head *head, const struct frame *f)
{
	struct memx_head reply = { .op = MEMX_OP_RECORD, .reply = true, .tag = head->tag, .epoch = g->epoch };
	struct memx_records recs;
	struct memx_record rec;
	int i, n;

	memcpy(&recs, f->body, sizeof(recs));
	n = memx_check_records(head, &recs);
	must(n > 0 && head->epoch == g->epoch && lane == 0, "malformed RECORD");
	for (i = 0; i < n; i++) {
		u32 x;

		memcpy(&rec, f->body + sizeof(recs) + (size_t)i * sizeof(rec), sizeof(rec));
		x = memx_le32(rec.extent);
		must(!memx_check_record(&rec, memx_extents(g->slots, g->order)), "impossible record");
		must(memx_le64(rec.generation) > memx_le64(g->record[x].generation), "generation does not rise");
		g->record[x] = rec;
	}
	wguest_raw(g, lane, &reply, NULL);
}

/* ---- answers ---------------------------------------------------------------------------------------------------------------- */

static void attached(struct wguest *g, const struct memx_head *head, const struct frame *f)
{
	struct memx_attached a;

	must(head->len == sizeof(a) && head->epoch == g->epoch, "malformed ATTACH reply");
	memcpy(&a, f->body, sizeof(a));
	g->attaching = false;
	g->attach_status = head->status;
	g->retry_ms = memx_le32(a.retry_ms);
	if (head->status != MEMX_S_OK)
		return;
	if (g->frozen)
		must(g->slots == memx_le32(a.slots) && g->order == a.extent_order, "a frozen size changed");
	g->slots = memx_le32(a.slots);
	g->order = a.extent_order;
	g->replicas = a.replicas;
	g->lane_requests = memx_le32(a.lane_requests);
	g->lane_pages = memx_le32(a.lane_pages);
	must(g->slots && g->slots <= g->want_slots && a.max_pages == MEMX_MAX_PAGES, "impossible grant");
	g->attached = true;
	g->frozen = true;
	g->granted_epoch = g->epoch;
}

static void settle_write(struct wguest *g, struct wreq *r, u32 i, u32 status)
{
	struct wslot *s = &g->slot[r->slot + i];

	s->busy = false;
	r->page_status[i] = status;
	if (status != MEMX_S_OK) {
		s->state = SLOT_UNKNOWN;
		g->errors++;
		if (!g->w->quiet)
			fprintf(stderr, "# %8.3f %s: op %u of slot %u version %llu failed with %u\n", (double)g->w->now / 1e9,
				g->conf.name, r->op, r->slot + i, (unsigned long long)r->version[i], status);
	} else if (r->op == MEMX_OP_STORE) {
		s->state = SLOT_STORED;
		s->good = r->version[i];
		g->stores_ok++;
	} else {
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

static void settle_fetch(struct wguest *g, struct wreq *r, u32 i, u32 status, const struct memx_page *page, const u8 *bytes)
{
	struct wslot *s = &g->slot[r->slot + i];
	u8 want[MEMX_PAGE_SIZE];

	s->fetching--;
	r->page_status[i] = status;
	if (status == MEMX_S_CORRUPT && g->w->rotten && !somebody_has(g, r->slot + i, r->version[i])) {
		g->rotted++;
		return;
	}
	if (status != MEMX_S_OK) {
		must(g->may_lose, "slot %u version %llu: fetch failed with %u", r->slot + i, (unsigned long long)r->version[i],
		     status);
		g->errors++;
		return;
	}
	must(page && bytes, "slot %u: fetched without a page", r->slot + i);
	must(memx_le64(page->trailer.version) == r->version[i], "slot %u: version %llu instead of %llu", r->slot + i,
	     (unsigned long long)memx_le64(page->trailer.version), (unsigned long long)r->version[i]);
	wguest_page(g, r->slot + i, r->version[i], want);
	must(!memcmp(want, bytes, sizeof(want)), "slot %u: wrong bytes", r->slot + i);
	g->fetches_ok++;
}

static void settle(struct wguest *g, struct wreq *r, const struct memx_head *head, const struct frame *f)
{
	u32 i, pages_at = MEMX_IO_LEN + r->count * (u32)sizeof(struct memx_page);
	struct memx_page page;
	struct memx_want want;
	struct memx_io io;

	must(head->len >= sizeof(io), "reply without body");
	memcpy(&io, f->body, sizeof(io));
	must(!memx_check_io_reply(head, &io, r->slot >> g->order, r->count), "malformed reply to op %u", r->op);
	for (i = 0; i < r->count; i++) {
		u32 status = head->status;

		if (r->op == MEMX_OP_FETCH && (status == MEMX_S_OK || status == MEMX_S_PARTIAL)) {
			memcpy(&page, f->body + MEMX_IO_LEN + i * sizeof(page), sizeof(page));
			must(memx_le32(page.slot) == r->slot + i, "wrong slot in reply");
			status = memx_le32(page.status);
			settle_fetch(g, r, i, status, &page, f->body + pages_at);
			pages_at += status == MEMX_S_OK ? MEMX_PAGE_SIZE : 0;
		} else if (r->op == MEMX_OP_FETCH) {
			settle_fetch(g, r, i, status, NULL, NULL);
		} else {
			if (status == MEMX_S_PARTIAL) {
				memcpy(&want, f->body + MEMX_IO_LEN + i * sizeof(want), sizeof(want));
				must(memx_le32(want.slot) == r->slot + i, "wrong slot in reply");
				status = memx_le32(want.status);
			}
			settle_write(g, r, i, status);
		}
	}
	r->status = head->status;
	r->done = true;
	g->promised[r->lane] -= r->room;
	g->busy--;
}

void wguest_deliver_in(struct wguest *g, u32 lane)
{
	struct frame *f = list_first(&g->to_guest[lane], struct frame, in_queue);
	struct memx_head head;
	u32 i;

	must(!memx_head_get(&head, &f->hdr, MEMX_MAX_BODY), "bad header from the relay");
	list_del(&f->in_queue);
	g->ring_used[lane] -= MEMX_HDR_LEN + f->len;
	if (g->hears) {
		g->hears(g, lane, f);
	} else if (!head.reply) {
		if (head.op == MEMX_OP_HELLO) {
			answer_hello(g, lane, &head, f);
		} else if (g->mute_records) {
			must(!g->held_record, "more records than the test expects");
			g->held_record = f;
			return;
		} else {
			must(head.op == MEMX_OP_RECORD, "unexpected request %u", head.op);
			take_records(g, lane, &head, f);
		}
	} else if (head.op == MEMX_OP_ATTACH) {
		must(g->attaching, "attached without asking");
		attached(g, &head, f);
	} else if (head.op == MEMX_OP_DETACH) {
		g->attached = false;
		g->frozen = false;
	} else {
		for (i = 0; i < W_REQS; i++)
			if (g->req[i].used && !g->req[i].done && g->req[i].tag == head.tag && g->req[i].lane == lane)
				break;
		if (i < W_REQS)
			settle(g, &g->req[i], &head, f);
		else
			must(head.op == MEMX_OP_PING || head.tag >= 1000000, "answer to nothing: op %u", head.op);
	}
	frame_free(f);
}

/* ---- attaching ---------------------------------------------------------------------------------------------------------------- */

void wguest_attach(struct wguest *g)
{
	struct memx_attach a = { .slots = memx_put_le32(g->frozen ? g->slots : g->want_slots) };
	struct memx_head head = { .op = MEMX_OP_ATTACH, .len = sizeof(a), .tag = ++g->next_tag };
	struct {
		struct memx_records recs;
		struct memx_record rec[MEMX_MAX_RECORDS];
	} map;
	u32 i, n = 0, total = 0, extents = g->order ? memx_extents(g->slots, g->order) : 0;

	for (i = 0; i < extents; i++)
		total += g->record[i].generation != 0;
	head.epoch = ++g->epoch;
	memcpy(a.session, g->session, sizeof(a.session));
	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		a.lineage[i] = memx_put_le64(g->lineage[i]);
	a.records = memx_put_le32(total);
	if (g->granted_epoch)
		a.attempts = memx_put_le32((u32)(g->epoch - g->granted_epoch));
	a.extent_order = (u8)g->order;
	a.flags = memx_put_le16(g->frozen ? MEMX_ATTACH_FROZEN : 0);
	g->attaching = true;
	g->attach_status = ~0U;
	wguest_raw(g, 0, &head, &a);
	head.op = MEMX_OP_MAP;
	for (i = 0; i < extents; i++) {
		if (g->record[i].generation)
			map.rec[n++] = g->record[i];
		if (n < MEMX_MAX_RECORDS)
			continue;
		memset(&map.recs, 0, sizeof(map.recs));
		map.recs.count = memx_put_le32(n);
		head.len = memx_records_len(n);
		wguest_raw(g, 0, &head, &map);
		n = 0;
	}
	memset(&map.recs, 0, sizeof(map.recs));
	map.recs.count = memx_put_le32(n);
	head.len = memx_records_len(n);
	head.flags = MEMX_F_LAST;
	wguest_raw(g, 0, &head, &map);
}

bool wguest_start(struct wguest *g)
{
	wguest_offer(g);
	world_settle(g->w);
	wguest_attach(g);
	world_settle(g->w);
	return g->attached;
}

bool wguest_again(struct wguest *g)
{
	wguest_hang_up(g);
	return wguest_start(g);
}

void wguest_detach(struct wguest *g)
{
	struct memx_head head = { .op = MEMX_OP_DETACH, .tag = ++g->next_tag, .epoch = g->epoch };

	wguest_raw(g, 0, &head, NULL);
}

/* ---- requests ------------------------------------------------------------------------------------------------------------------ */

static struct wreq *req_new(struct wguest *g, u16 op, u32 slot, u32 count)
{
	u32 lane = op == MEMX_OP_FETCH, room = memx_reply_max(op, count), i;
	struct wreq *r = NULL;

	if (!g->attached || !g->alive || slot + count > g->slots || slot >> g->order != (slot + count - 1) >> g->order ||
	    g->promised[lane] + room > W_RING - MEMX_RESERVE_REPLY)
		return NULL;
	for (i = 0; i < W_REQS && !r; i++)
		if (!g->req[i].used || g->req[i].done)
			r = &g->req[i];
	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r));
	r->used = true;
	r->op = op;
	r->lane = lane;
	r->slot = slot;
	r->count = count;
	r->room = room;
	r->status = ~0U;
	r->tag = ++g->next_tag;
	g->promised[lane] += room;
	g->busy++;
	return r;
}

static bool writable(const struct wguest *g, u32 slot, u32 count)
{
	u32 i;

	for (i = slot; i < slot + count; i++)
		if (i >= g->slots || g->slot[i].busy || g->slot[i].fetching)
			return false;
	return true;
}

static void send_io(struct wguest *g, const struct wreq *r, u8 *body, u32 len)
{
	struct memx_head head = { .op = r->op, .tag = r->tag, .len = len, .epoch = g->epoch };
	struct memx_io *io = (struct memx_io *)body;

	io->extent = memx_put_le32(r->slot >> g->order);
	io->count = memx_put_le16((u16)r->count);
	wguest_raw(g, r->lane, &head, body);
	free(body);
}

struct wreq *wguest_store(struct wguest *g, u32 slot, u32 count)
{
	u32 i, len = memx_store_len(count);
	struct memx_page *page;
	struct wreq *r;
	u8 *body, *bytes;

	r = writable(g, slot, count) ? req_new(g, MEMX_OP_STORE, slot, count) : NULL;
	if (!r)
		return NULL;
	body = core_zalloc(len);
	page = (struct memx_page *)(body + MEMX_IO_LEN);
	bytes = (u8 *)&page[count];
	for (i = 0; i < count; i++, bytes += MEMX_PAGE_SIZE) {
		r->version[i] = ++g->slot[slot + i].version;
		g->slot[slot + i].busy = true;
		wguest_page(g, slot + i, r->version[i], bytes);
		page[i].slot = memx_put_le32(slot + i);
		page[i].trailer.version = memx_put_le64(r->version[i]);
		page[i].trailer.check = memx_put_le64(memx_check(g->seed, slot + i, r->version[i], bytes));
	}
	send_io(g, r, body, len);
	return r;
}

static struct wreq *send_wants(struct wguest *g, u16 op, u32 slot, u32 count)
{
	struct wreq *r = req_new(g, op, slot, count);
	struct memx_want *want;
	u8 *body;
	u32 i;

	if (!r)
		return NULL;
	body = core_zalloc(memx_want_len(count));
	want = (struct memx_want *)(body + MEMX_IO_LEN);
	for (i = 0; i < count; i++) {
		struct wslot *s = &g->slot[slot + i];

		if (op == MEMX_OP_FETCH) {
			s->fetching++;
			r->version[i] = s->good;
		} else {
			s->busy = true;
			r->version[i] = ++s->version;
		}
		want[i].slot = memx_put_le32(slot + i);
		want[i].version = memx_put_le64(r->version[i]);
	}
	send_io(g, r, body, memx_want_len(count));
	return r;
}

struct wreq *wguest_fetch(struct wguest *g, u32 slot, u32 count)
{
	u32 i;

	for (i = slot; i < slot + count; i++)
		if (i >= g->slots || g->slot[i].busy || g->slot[i].state != SLOT_STORED)
			return NULL;
	return send_wants(g, MEMX_OP_FETCH, slot, count);
}

struct wreq *wguest_discard(struct wguest *g, u32 slot, u32 count)
{
	return writable(g, slot, count) ? send_wants(g, MEMX_OP_DISCARD, slot, count) : NULL;
}

u32 wguest_do(struct wguest *g, struct wreq *req)
{
	must(req, "the request could not be sent");
	world_settle(g->w);
	return req->done ? req->status : ~0U;
}
