// SPDX-License-Identifier: GPL-2.0-only
/*
 * world-guest.c - a guest that keeps the protocol and remembers what it was promised.
 *
 * What must hold, and is checked here and in world-io.c on every answer: a fetch that is answered OK brings the bytes of the last
 * acknowledged store; a fetch of such a slot does not fail (unless the test says that copies were lost); a record names only what
 * could be true, and its generation rises.
 */
#include "world-guest.h"

struct wguest *wguest_new(struct world *w, u32 slots, u32 replicas)
{
	struct wguest *g = &w->guest[w->guests];
	u32 l;

	assert(w->guests < W_GUESTS);
	memset(g, 0, sizeof(*g));
	g->w = w;
	snprintf(g->conf.name, sizeof(g->conf.name), "g%u", w->guests);
	memset(g->conf.vm, 0x60 + (int)w->guests++, sizeof(g->conf.vm));
	g->conf.domid = ++w->domids;
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

void wguest_new_session(struct wguest *g)
{
	u32 i;

	wguest_requests_forget(g);
	memset(g->slot, 0, (g->want_slots + 1) * sizeof(*g->slot));
	memset(g->record, 0, (g->want_slots / 64 + 2) * sizeof(*g->record));
	for (i = 0; i < sizeof(g->session); i++)
		g->session[i] = (u8)world_random(g->w);
	g->seed = memx_session_seed(g->session);
	memset(g->lineage, 0, sizeof(g->lineage));
	g->lineage[0] = world_random(g->w);
	g->epoch = 0;
	g->granted_epoch = 0;
	g->slots = 0;
	g->order = 0;
	g->frozen = false;
	g->told = false;
}

/* ---- the link ------------------------------------------------------------------------------------------------------------- */

void wguest_lost(struct wguest *g)
{
	u32 l;

	g->alive = false;
	g->attached = false;
	g->attaching = false;
	g->detaching = false;
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
	wguest_requests_lost(g);
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

void wguest_frame_to(struct core_link *link, u32 lane, struct frame *f, u64 now)
{
	struct memx_head head;
	struct rbuf *body = NULL;

	if (memx_head_get(&head, &f->hdr, MEMX_MAX_BODY)) {
		core_link_broken(link, lane, "bad header", now);
	} else if (!core_link_head(link, lane, &head, &body, now)) {
		/* As from a ring: in two pieces, cut anywhere. */
		if (body && f->len) {
			u32 first = (u32)(head.tag * 4099 % (f->len + 1));
			u8 *piece = malloc(f->len);

			memcpy(piece, f->body + first, f->len - first);
			core_link_body(link, &head, body, f->body, first, piece);
			free(piece);
		}
		core_link_frame(link, lane, &head, body, now);
	}
	frame_free(f);
}

void wguest_deliver_out(struct wguest *g, u32 lane)
{
	struct frame *f = list_entry(list_pop(&g->to_relay[lane]), struct frame, in_queue);

	wguest_frame_to(g->link, lane, f, g->w->now);
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
	g->granted_domid = g->conf.domid;
	wguest_requests_again(g);
}

void wguest_deliver_in(struct wguest *g, u32 lane)
{
	struct frame *f = list_first(&g->to_guest[lane], struct frame, in_queue);
	struct memx_head head;

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
		g->detaching = false;
		g->detach_status = head.status;
	} else if (!wguest_answer(g, lane, &head, f)) {
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
	g->w->freed += g->told ? total : 0;
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

	g->detaching = true;
	g->told = true;
	wguest_raw(g, 0, &head, NULL);
}

