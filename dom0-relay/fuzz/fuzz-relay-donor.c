// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-relay-donor.c - libFuzzer target: a relay, three honest donors, and one that answers whatever the input says.
 *
 * The input is a list of steps: what the guest does, how much is delivered, how long is waited, what breaks; and, whenever
 * the hostile donor is to answer, what it makes of the honest answer. A byte of 0 is the honest thing, so the end of every input
 * is a donor that has come to its senses.
 *
 * Two games, by the first byte. In the first only the hostile donor misbehaves: then no page is lost, no read fails, every
 * record that the guest has keeps a live copy on an honest donor, and none waits for ever. In the second honest donors break
 * down as well: then what is read is right or an error. In both the accounts of everybody add up after each step.
 */
#include "invariants.h"
#include "../tests/world-guest.h"

enum {
	DONORS		= 4,
	CHUNKS		= 16,
	SLOTS		= 256,
	EVIL		= 0,		/* index of the hostile donor */
	GUESTS		= 2,
};

static struct fuzz_in in;
static struct frame *held;		/* an answer that is kept back for later */
static bool only_evil;			/* nobody else fails */
static bool repented;			/* it is honest from now on */

static void restamp(struct frame *f, u32 len)
{
	f->body = realloc(f->body, len + 8);
	if (len > f->len)
		memset(f->body + f->len, 0, len - f->len);
	f->len = len;
	f->hdr.len = memx_put_le32(len);
}

static struct frame *copy_of(const struct frame *f)
{
	return frame_new(&f->hdr, f->body, f->len);
}

/* ---- what it makes of an answer, by what was asked ---- */

static void lie_hello(struct wdonor *d, struct frame *f)
{
	struct memx_hello *hello = (void *)f->body;

	if (f->len < sizeof(*hello))
		return;
	switch (fuzz_pick(&in, 6)) {
	case 0:
		memcpy(hello->id, d->w->donor[fuzz_pick(&in, DONORS)].id, sizeof(hello->id));
		break;
	case 1:
		memset(hello->id, fuzz_u8(&in), sizeof(hello->id));
		break;
	case 2:
		hello->instance = memx_put_le64(fuzz_odd(&in));
		break;
	case 3:
		hello->role = fuzz_u8(&in);
		break;
	case 4:
		hello->proto = memx_put_le16((u16)fuzz_odd(&in));
		break;
	default:
		f->hdr.status = memx_put_le32(fuzz_pick(&in, 30));
	}
}

static void lie_stat(struct frame *f)
{
	struct memx_stat *stat = (void *)f->body;

	if (f->len < sizeof(*stat))
		return;
	stat->pages_total = memx_put_le64(fuzz_odd(&in));
	stat->pages_reserved = memx_put_le64(fuzz_odd(&in));
	stat->pages_used = memx_put_le64(fuzz_odd(&in));
	stat->flags = memx_put_le32((u32)fuzz_odd(&in));
	if (fuzz_u8(&in) & 1)
		memset(stat->domain, fuzz_u8(&in), sizeof(stat->domain));
}

static void lie_fenced(struct frame *f)
{
	static const u8 statuses[] = { MEMX_S_OK, MEMX_S_FENCED, MEMX_S_SUPERSEDED, MEMX_S_UNKNOWN, MEMX_S_MISMATCH, MEMX_S_LIMIT };
	struct memx_fenced *fenced = (void *)f->body;

	f->hdr.status = memx_put_le32(statuses[fuzz_pick(&in, sizeof(statuses))]);
	if (f->len < sizeof(*fenced))
		return;
	if (fuzz_u8(&in) & 1)
		fenced->epoch = memx_put_le64(fuzz_odd(&in));
	if (fuzz_u8(&in) & 1)
		fenced->session = memx_put_le32((u32)fuzz_odd(&in));
	if (fuzz_u8(&in) & 1) {
		fenced->extents = memx_put_le32((u32)fuzz_odd(&in));
		fenced->pages_reserved = memx_put_le64(fuzz_odd(&in));
		fenced->pages_used = memx_put_le64(fuzz_odd(&in));
	}
}

/* Extents or slots that are not there, from the future, out of order, more of them, fewer, without end. */
static void lie_listing(struct frame *f)
{
	bool scan = (memx_le16(f->hdr.op) & (MEMX_OP_REPLY - 1)) == MEMX_OP_SCAN;
	u32 count = fuzz_pick(&in, 5), first = fuzz_pick(&in, 8), i;
	struct memx_list *list;

	if (f->len < sizeof(*list))
		return;
	if (fuzz_u8(&in) & 1)
		count = 512 * (1 + fuzz_pick(&in, 2));
	restamp(f, memx_list_len(count));
	list = (void *)f->body;
	list->count = memx_put_le32(fuzz_rarely(&in, 8) ? (u32)fuzz_odd(&in) : count);
	for (i = 0; i < count; i++) {
		struct memx_extent_ref *ref = (struct memx_extent_ref *)(list + 1) + i;
		struct memx_want *want = (struct memx_want *)ref;

		if (scan)
			*want = (struct memx_want){ memx_put_le32(first + i), memx_put_le32(i < 8 ? fuzz_pick(&in, 2) * MEMX_S_ABSENT : 0),
						    memx_put_le64(i < 8 ? fuzz_odd(&in) : 1) };
		else
			*ref = (struct memx_extent_ref){ memx_put_le32(first + i), 0, memx_put_le64(i < 8 ? fuzz_odd(&in) : 1) };
	}
	f->hdr.flags = memx_put_le16(fuzz_u8(&in) & 1 ? MEMX_F_LAST : 0);
}

/* Pages of a FETCH reply: other bytes, another version, two of them exchanged, cut short, missing ones claimed. */
static void lie_pages(struct frame *f)
{
	struct memx_io *io = (void *)f->body;
	struct memx_page *page = (struct memx_page *)(io + 1), swap;
	u32 count, a, b;
	u8 *bytes;

	if (f->len < MEMX_IO_LEN)
		return;
	count = memx_le16(io->count);
	if (!count || count > MEMX_MAX_PAGES || f->len < memx_fetched_len(count, 1))
		return;
	bytes = (u8 *)(page + count);
	a = fuzz_pick(&in, count);
	b = fuzz_pick(&in, count);
	switch (fuzz_pick(&in, 8)) {
	case 0:
		f->body[f->len - 1 - fuzz_take(&in, 2) % MEMX_PAGE_SIZE] ^= (u8)(1 << fuzz_pick(&in, 8));
		break;
	case 1:
		page[a].trailer.version = memx_put_le64(memx_le64(page[a].trailer.version) + (u64)(int8_t)fuzz_u8(&in));
		break;
	case 2:			/* with its trailer, so that version and check belong to the bytes */
		swap = page[a];
		page[a].trailer = page[b].trailer;
		page[b].trailer = swap.trailer;
		break;
	case 3:
		if (f->len == memx_fetched_len(count, count) && a != b) {
			u8 one[MEMX_PAGE_SIZE];

			memcpy(one, bytes + (size_t)a * MEMX_PAGE_SIZE, sizeof(one));
			memcpy(bytes + (size_t)a * MEMX_PAGE_SIZE, bytes + (size_t)b * MEMX_PAGE_SIZE, sizeof(one));
			memcpy(bytes + (size_t)b * MEMX_PAGE_SIZE, one, sizeof(one));
		}
		break;
	case 4:
		restamp(f, f->len - (u32)fuzz_take(&in, 2) % f->len);
		break;
	case 5:
		page[a].status = memx_put_le32(fuzz_pick(&in, 30));
		break;
	case 6:
		page[a].trailer.flags = memx_put_le32(MEMX_T_SEALED);
		f->body[f->len - 1] ^= 1;
		break;
	default:
		page[a].slot = memx_put_le32((u32)fuzz_odd(&in));
	}
}

/* "None of it is here", "all of it is done", "some": with the body that belongs to it. */
static void lie_status(struct frame *f)
{
	u16 op = memx_le16(f->hdr.op) & (MEMX_OP_REPLY - 1);
	bool data = op == MEMX_OP_STORE || op == MEMX_OP_FETCH || op == MEMX_OP_DISCARD;
	struct memx_io *io = (void *)f->body;
	u32 status = fuzz_rarely(&in, 8) ? (u32)fuzz_odd(&in) : fuzz_pick(&in, MEMX_S_COUNT), count, i;

	f->hdr.status = memx_put_le32(status);
	if (!data) {
		if (status && op != MEMX_OP_FENCE)
			restamp(f, 0);
		return;
	}
	if (f->len < MEMX_IO_LEN)
		return;
	count = memx_le16(io->count);
	if (fuzz_u8(&in) & 1)
		io->generation = memx_put_le64(fuzz_odd(&in));
	if (!status && op == MEMX_OP_FETCH)
		return;
	restamp(f, status == MEMX_S_PARTIAL ? (op == MEMX_OP_FETCH ? memx_fetched_len(count, 0) : memx_want_len(count)) : MEMX_IO_LEN);
	for (i = 0; status == MEMX_S_PARTIAL && i < count; i++) {
		if (op == MEMX_OP_FETCH)
			((struct memx_page *)(f->body + MEMX_IO_LEN))[i].status = memx_put_le32(1 + fuzz_pick(&in, 30));
		else
			((struct memx_want *)(f->body + MEMX_IO_LEN))[i].status = memx_put_le32(fuzz_pick(&in, 30));
	}
}

static void lie_about(struct wdonor *d, struct frame *f)
{
	switch (memx_le16(f->hdr.op) & (MEMX_OP_REPLY - 1)) {
	case MEMX_OP_HELLO:
		lie_hello(d, f);
		break;
	case MEMX_OP_STAT:
		lie_stat(f);
		break;
	case MEMX_OP_FENCE:
		lie_fenced(f);
		break;
	case MEMX_OP_LIST:
	case MEMX_OP_SCAN:
		lie_listing(f);
		break;
	case MEMX_OP_FETCH:
		lie_pages(f);
		break;
	default:
		lie_status(f);
	}
}

static void later(struct wdonor *d, struct frame *f)
{
	list_add_tail(&f->in_queue, &d->conn->to_relay);
}

/* An answer of the honest program goes out. False: it is not sent. */
static bool tamper(struct wdonor *d, struct frame *f)
{
	u32 i, changes;

	if (repented || !d->conn || !d->conn->open)
		return true;
	switch (fuzz_u8(&in) % 32) {
	case 1:
		return false;
	case 2:
		later(d, copy_of(f));
		return true;
	case 3:
		if (held)
			frame_free(held);
		held = copy_of(f);
		return false;
	case 4:
		if (held)
			later(d, held);
		held = NULL;
		return true;
	case 5:
		f->hdr.tag = memx_put_le64(memx_le64(f->hdr.tag) ^ fuzz_odd(&in));
		return true;
	case 6:
		f->hdr.op = memx_put_le16((u16)fuzz_odd(&in));
		return true;
	case 7:
		restamp(f, (u32)fuzz_take(&in, 2));
		return true;
	case 8:
		((u8 *)&f->hdr)[fuzz_pick(&in, 8)] ^= fuzz_u8(&in);		/* the length apart */
		return true;
	case 9:
		changes = 1 + fuzz_pick(&in, 4);
		for (i = 0; f->len && i < changes; i++)
			f->body[fuzz_take(&in, 2) % f->len] ^= fuzz_u8(&in);
		return true;
	case 10: case 11: case 12:
		lie_status(f);
		return true;
	case 13: case 14: case 15: case 16: case 17: case 18: case 19: case 20:
		lie_about(d, f);
		return true;
	default:
		return true;
	}
}

/* A frame that nobody asked for. */
static void speak_up(struct wdonor *d)
{
	static const u16 ops[] = { MEMX_OP_PING, MEMX_OP_ASK, MEMX_OP_HELLO, MEMX_OP_STORE, MEMX_OP_PIN };
	struct memx_head head = {
		.op = ops[fuzz_pick(&in, 5)], .reply = fuzz_rarely(&in, 4), .tag = fuzz_odd(&in), .len = fuzz_u8(&in) & 1 ? 0 : 72,
	};
	struct memx_hdr hdr;

	if (!d->conn || !d->conn->open)
		return;
	memx_hdr_put(&hdr, &head);
	later(d, frame_new(&hdr, NULL, head.len));
}

/* ---- the steps ---- */

/* Among the live copies of every record that the guest was given there is an honest one. */
static void check_records(const struct world *w)
{
	u32 i, x, k, j;

	for (i = 0; i < w->guests; i++) {
		const struct wguest *g = &w->guest[i];

		for (x = 0; g->order && x < memx_extents(g->slots, g->order); x++) {
			const struct memx_record *rec = &g->record[x];
			u32 honest = 0;

			for (k = 0; k < rec->replicas; k++)
				for (j = EVIL + 1; j < w->donors; j++)
					honest += rec->replica[k].state == MEMX_R_LIVE &&
						  !memcmp(rec->replica[k].donor, w->donor[j].id, 16);
			fuzz_must(!rec->generation || honest, "%s: extent %u is left to the liar alone", g->conf.name, x);
		}
	}
}

static void guest_step(struct world *w, u8 what)
{
	struct wguest *g = &w->guest[what >> 4 & 1];
	u32 slot = fuzz_pick(&in, SLOTS), count = 1 + fuzz_pick(&in, 8);

	switch (what & 3) {
	case 0:
	case 1:
		wguest_store(g, slot, count);
		break;
	case 2:
		wguest_fetch(g, slot, count);
		break;
	default:
		wguest_discard(g, slot, count);
	}
}

static void break_something(struct world *w)
{
	struct wdonor *d = &w->donor[only_evil ? EVIL : fuzz_pick(&in, DONORS)];

	switch (fuzz_pick(&in, only_evil ? 3 : 6)) {
	case 0:
		wdonor_drop(d);
		break;
	case 1:
		d->hung = !d->hung;
		break;
	case 2:
		d->there = !d->there;
		if (!d->there)
			wdonor_drop(d);
		break;
	case 3:
		world_relay_restart(w);
		break;
	case 4:
		wguest_hang_up(&w->guest[fuzz_pick(&in, GUESTS)]);
		break;
	default:
		wdonor_restart(d);
	}
}

/* A guest whose channel the relay closed, or that was hung up, comes again as the module does. */
static void come_again(struct wguest *g)
{
	if (!g->alive)
		wguest_offer(g);
	if (g->alive && !g->attached && !g->attaching && g->lanes_said == W_LANES)
		wguest_attach(g);
}

static void step(struct world *w)
{
	u8 what = fuzz_u8(&in);
	u32 i;

	switch (what >> 5) {
	case 0: case 1: case 2:
		guest_step(w, what);
		break;
	case 3:
		for (i = what & 31; i && world_roll(w); i--)
			;
		break;
	case 4:
		world_pass(w, 10U << (what & 7));
		break;
	case 5:
		if (what & 16)
			break_something(w);
		else
			speak_up(&w->donor[EVIL]);
		break;
	default:
		world_settle(w);
	}
	for (i = 0; i < w->guests; i++)
		come_again(&w->guest[i]);
	check_world(w);
	if (only_evil)
		check_records(w);
}

/* Everybody is honest again and there: all is answered, and all that was acknowledged is read. */
static void come_to_rest(struct world *w)
{
	u32 i, slot, tries;

	for (i = 0; i < w->donors; i++) {
		w->donor[i].hung = false;
		w->donor[i].there = true;
	}
	repented = true;
	for (i = 0; i < w->guests; i++) {
		struct wguest *g = &w->guest[i];

		for (tries = 0; tries < 100 && (!g->attached || g->busy); tries++) {
			come_again(g);
			world_pass(w, 200);
		}
		fuzz_must(g->attached && !g->busy, "%s: %s, %u unanswered", g->conf.name,
			  g->attached ? "attached" : "not attached", g->busy);
		for (slot = 0; slot < SLOTS; slot++) {
			struct wreq *r = wguest_fetch(g, slot, 1);

			world_settle(w);
			for (tries = 0; r && !r->done && tries < 50; tries++)
				world_pass(w, 200);
			fuzz_must(!r || r->done, "slot %u is never answered", slot);
		}
	}
	check_world(w);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct world *w;
	u32 i;

	in = (struct fuzz_in){ data, data + size };
	only_evil = !(fuzz_u8(&in) & 1);
	repented = false;
	w = world_new(1, DONORS, CHUNKS, NULL);
	for (i = 0; i < GUESTS; i++) {
		struct wguest *g = wguest_new(w, SLOTS, 2);

		g->may_lose = !only_evil;
		fuzz_must(wguest_start(g), "%s does not attach", g->conf.name);
	}
	w->donor[EVIL].tamper = tamper;
	while (in.at < in.end)
		step(w);
	come_to_rest(w);
	if (held)
		frame_free(held);
	held = NULL;
	world_free(w);
	return 0;
}
