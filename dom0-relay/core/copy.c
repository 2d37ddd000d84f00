// SPDX-License-Identifier: GPL-2.0-only
/*
 * copy.c - one pass of repair: what the target lacks, from those that have it. repair.c tells why it is right; here is how: batches
 * of up to 32 slots from one source, two under way per extent, each page verified between the source's answer and the store at the
 * target. A slot is busy from its place in a batch until the target has answered for it. And the way back: what a live source lacks,
 * from the target, one batch at a time.
 */
#include "repair.h"

enum {
	REPAIR_BATCHES	= 2,		/* requests per extent */
	REPAIR_HEARD	= 3,		/* passes that fail before a word that nothing bears out counts no more */
	FROM_NOBODY	= -1,
	FROM_ALL	= MEMX_MAX_REPLICAS,	/* discarded, by the word of all live sources */
};

/*
 * The version at which the slot is known to be discarded; 0: it is not. A page shows whether it is what it is said to be, a
 * discard shows nothing, so every live source has to tell of it. One that is acknowledged they all have, or it came while they
 * were scanned, and then the target has it from the guest, as everybody.
 */
static u64 discarded(const struct repair *r, u32 at)
{
	u64 version = ~0ULL;
	u32 i, live = 0;

	if (r->x->left)		/* no live copy knows of all: an old page may stay that nobody asks for */
		return 0;
	for (i = 0; i < r->sources; i++) {
		const struct source *s = &r->source[i];

		if (!s->live)
			continue;
		if (!s->gone[at])
			return 0;
		live++;
		if (s->version[at] < version)
			version = s->version[at];
	}
	return live ? version : 0;
}

/* The newest version that a live replica has of this slot, a page of it believed or not. Of what is left each is as good. */
static u64 newest(const struct repair *r, u32 at)
{
	u64 version = discarded(r, at);
	u32 i;

	for (i = 0; i < r->sources; i++)
		if ((r->source[i].live || r->x->left) && !r->source[i].gone[at] && r->source[i].version[at] > version)
			version = r->source[i].version[at];
	return version;
}

/*
 * Who is asked for this slot: of those that are believed the one with the newest page, a live one where several have it. Of one that is
 * not live only what is as new as all that the live ones have: or newer, for it may be one of those that are left of an extent
 * that was lost before this relay came. What was never acknowledged does no harm: the guest asks for something newer, or never.
 */
static int pick(const struct repair *r, u32 at)
{
	const struct source *best = NULL;
	u64 wanted = newest(r, at), gone = discarded(r, at);
	u32 i;

	for (i = 0; i < r->sources; i++) {
		const struct source *s = &r->source[i];

		if (r->doubt[at] & 1U << i || s->gone[at] || s->version[at] <= r->have[at] || s->version[at] <= gone ||
		    (!s->live && !r->x->left && s->version[at] < wanted))
			continue;
		if (!best || s->version[at] > best->version[at] || (s->version[at] == best->version[at] && s->live > best->live))
			best = s;
	}
	if (!best && gone > r->have[at])
		return FROM_ALL;
	return best ? (int)(best - r->source) : FROM_NOBODY;
}

/* A live source that is believed in this slot: it has no newer page than the target, or it would have been asked. */
static bool word_against(const struct repair *r, u32 at)
{
	u32 i;

	for (i = 0; i < r->sources; i++)
		if (r->source[i].live && !(r->doubt[at] & 1U << i))
			return true;
	return false;
}

/*
 * Is there something newer of this slot that the target should have?
 *
 * A live source may list what it cannot show, and nobody else has. If that kept the target from being complete, one liar would keep
 * every other copy of the extent from being repaired, drained or given back. So its word ends where another live source,
 * which is believed, has the slot no newer than the target. Nothing that was acknowledged is lost by that: what was acknowledged
 * before this pass *every* live copy has (PROTOCOL, section 8), the other one, too, and lists it; what is acknowledged since the
 * record that names the target took effect, the target has taken itself. A page that one live copy alone has is on its way, or made
 * up. Not even that is passed over where it can be had: what the doubted source shows, now or in one of the next passes, is
 * copied whoever else lacks it, and so is that version from a stale copy. Only what could be shown in none of several passes,
 * half a second and more apart, is done without: one answer that was damaged on its way says nothing.
 *
 * Where all live copies were lost at once (extent.lost) those that are left do not have the same: nothing is passed over.
 */
bool repair_lacks(const struct repair *r, u32 at)
{
	if (pick(r, at) != FROM_NOBODY)
		return true;
	return newest(r, at) > r->have[at] && (r->x->repair_fails < REPAIR_HEARD || r->x->lost || !word_against(r, at));
}

static bool to_copy(const struct repair *r, u32 at)
{
	return !(r->flags[at] & (SLOT_BUSY | SLOT_NEWER)) && repair_lacks(r, at);
}

static void give_back(struct repair *r, u32 at)
{
	r->flags[at] &= (u8)~SLOT_BUSY;
	if (at < r->next)
		r->next = at;
}

static void batch_done(struct repair *r)
{
	r->out--;
	if (r->failed && !r->out)
		repair_fail(r);
	else if (!r->failed)
		(r->completing ? repair_complete : repair_copy)(r);
}

static void batch_failed(struct repair *r)
{
	r->failed = true;
	batch_done(r);
}

/* Slot and version of the @i-th element of what was asked for or sent. */
static void element(const struct dop *dop, u32 i, u32 *slot, u64 *version)
{
	if (dop->op == MEMX_OP_STORE) {
		const struct memx_page *page = (const struct memx_page *)dop->body->data + i;

		*slot = memx_le32(page->slot);
		*version = memx_le64(page->trailer.version);
	} else {
		const struct memx_want *want = (const struct memx_want *)dop->body->data + i;

		*slot = memx_le32(want->slot);
		*version = memx_le64(want->version);
	}
}

/* How one slot fared at the target. OLD says that it has something newer from the foreground, which is proved at the end. */
static u32 stored_one(struct repair *r, const struct dop *dop, u32 i, u32 status)
{
	bool took = status == MEMX_S_OK || status == MEMX_S_OLD;
	u64 version;
	u32 slot, at;

	element(dop, i, &slot, &version);
	at = slot - r->first;
	if (r->completing) {
		r->failed |= !took;
		return took ? MEMX_S_OK : status;
	}
	if (status == MEMX_S_OK) {
		r->have[at] = version;
		r->flags[at] &= (u8)~SLOT_NO_PAGE;
	} else if (status == MEMX_S_OLD) {
		r->flags[at] |= SLOT_NEWER;
	} else {
		r->failed = true;
	}
	r->flags[at] &= (u8)~SLOT_BUSY;
	if (to_copy(r, at))
		give_back(r, at);	/* a source that was not believed has it newer: a stale one may have that, too */
	return took ? MEMX_S_OK : status;
}

/* The target's answer to a copy or a discard. */
static int stored(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct repair *r = dop->repair;
	struct memx_want want;
	struct memx_io io;
	u32 i, slot, refused = MEMX_S_OK, said;
	u64 version;
	int ret = 0;

	repair_moved(dop);
	if (status == MEMX_S_PARTIAL) {
		if (head->len != memx_want_len(dop->mask))
			goto broken;
		memcpy(&io, body->data, sizeof(io));
		if (memx_check_io_reply(head, &io, r->x->index, dop->mask))
			goto broken;
	}
	for (i = 0; i < dop->mask; i++) {
		u32 one = status;

		if (status == MEMX_S_PARTIAL) {
			memcpy(&want, body->data + MEMX_IO_LEN + i * sizeof(want), sizeof(want));
			element(dop, i, &slot, &version);
			if (memx_le32(want.slot) != slot)
				goto broken;
			one = memx_le32(want.status);
		}
		said = stored_one(r, dop, i, one);
		if (said != MEMX_S_OK)
			refused = said;
	}
	/* One that came damaged is sent again. */
	if (refused != MEMX_S_OK && refused != MEMX_S_CORRUPT)
		ret = repair_refused(r, dop->donor, refused);
	if (!r->failed)
		r->x->s->core->count.repair_pages += dop->mask;
	batch_done(r);
	return ret;
broken:
	repair_broken(r, dop->donor);
	batch_failed(r);
	return -EPROTO;
}

static void put_io(struct dop *dop, const struct repair *r, u32 count)
{
	struct memx_io io = { .extent = memx_put_le32(r->x->index), .count = memx_put_le16((u16)count) };

	memcpy(dop->small, &io, sizeof(io));
	dop->small_len = sizeof(io);
}

static u32 source_of(const struct repair *r, const struct core_donor *d)
{
	u32 i;

	for (i = 0; i + 1 < r->sources && r->source[i].donor != d; i++)
		;
	return i;
}

/*
 * Is this the page that was asked for? One that the source has newer by now was overwritten, and the target gets that as
 * everybody does. Otherwise the source lacks, or has damaged, what it listed: another one is asked for this slot.
 */
static bool page_right(struct repair *r, const struct core_donor *d, const struct memx_page *page, u64 version, const u8 *bytes)
{
	const struct memx_trailer *t = &page->trailer;
	u32 status = memx_le32(page->status), at = memx_le32(page->slot) - r->first;

	if (status == MEMX_S_OK && memx_le64(t->version) == version &&
	    !page_sealed(t) && memx_check(r->x->s->seed, r->first + at, version, bytes) == memx_le64(t->check))
		return true;
	r->flags[at] |= r->completing ? SLOT_NO_PAGE : 0;
	if ((status == MEMX_S_VERSION || status == MEMX_S_ABSENT) && memx_le64(t->version) > version) {
		r->flags[at] |= (u8)(r->completing ? 0 : SLOT_NEWER | SLOT_SAID << source_of(r, d));
	} else {
		r->x->s->core->count.bad_pages++;
		core_say(r->x->s->core, CORE_LOG_ERR, "bad-page", "guest=%s donor=%s slot=%u status=%s found_by=repair",
			 r->x->s->name, d->name, r->first + at, status_word(memx_status_known(status)));
		r->doubt[at] |= (u8)(r->completing ? 0 : 1U << source_of(r, d));
	}
	if (!r->completing)
		give_back(r, at);
	return false;
}

/* Sources whose copy of this slot was found wrong get the right one. */
static void mend(struct repair *r, const struct memx_page *page, const u8 *bytes)
{
	u32 doubt = r->doubt[memx_le32(page->slot) - r->first];

	for (; doubt; doubt &= doubt - 1)
		heal_page(r->x, r->source[__builtin_ctz(doubt)].donor, page, bytes);
}

/* Takes the right pages of an answer together, as the body of a STORE without its head. Returns their number. */
static u32 gather(struct repair *r, const struct dop *dop, const struct rbuf *from, u8 *to)
{
	const struct memx_page *page = (const struct memx_page *)(from->data + MEMX_IO_LEN);
	const struct memx_want *want = (const struct memx_want *)dop->body->data;
	const u8 *bytes = (const u8 *)&page[dop->mask], *pages[MEMX_MAX_PAGES];
	u32 i, good = 0;

	for (i = 0; i < dop->mask; i++) {
		bool with_page = page[i].status == 0;

		if (page_right(r, dop->donor, &page[i], memx_le64(want[i].version), bytes)) {
			memcpy(to + good * sizeof(*page), &page[i], sizeof(*page));
			pages[good++] = bytes;
			mend(r, &page[i], bytes);
		}
		bytes += with_page ? MEMX_PAGE_SIZE : 0;
	}
	for (i = 0; i < good; i++)
		memcpy(to + good * sizeof(*page) + i * MEMX_PAGE_SIZE, pages[i], MEMX_PAGE_SIZE);
	return good;
}

static int fetched(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct repair *r = dop->repair;
	const struct memx_want *asked = (const struct memx_want *)dop->body->data;
	u32 i, count = dop->mask, slots[MEMX_MAX_PAGES], good;
	struct core_donor *to;
	struct dop *store;
	struct memx_io io;
	struct rbuf *buf;
	int ret;

	repair_moved(dop);
	if (status != MEMX_S_OK && status != MEMX_S_PARTIAL) {
		ret = repair_refused(r, dop->donor, status);
		batch_failed(r);
		return ret;
	}
	for (i = 0; i < count; i++)
		slots[i] = memx_le32(asked[i].slot);
	if (head->len < sizeof(io))
		goto broken;
	memcpy(&io, body->data, sizeof(io));
	if (memx_check_io_reply(head, &io, r->x->index, count) ||
	    memx_check_fetched(head, (const struct memx_page *)(body->data + MEMX_IO_LEN), slots, count) < 0)
		goto broken;
	to = r->completing ? r->source[r->behind].donor : r->target;
	buf = rpool_get(to->pool, memx_store_len(count));
	if (!buf) {
		batch_failed(r);
		return 0;
	}
	good = gather(r, dop, body, buf->data);
	if (!good) {
		rbuf_put(buf);
		batch_done(r);
		return 0;
	}
	store = repair_dop(r, to, MEMX_OP_STORE, stored);
	put_io(store, r, good);
	store->flags = MEMX_F_REPAIR;
	store->body = buf;
	store->body_len = memx_store_len(good) - MEMX_IO_LEN;
	store->mask = good;
	donor_queue(store);
	return 0;
broken:
	repair_broken(r, dop->donor);
	batch_failed(r);
	return -EPROTO;
}

/* Collects the next slots of one kind and one source, @from. Returns their number. */
static u32 next_batch(struct repair *r, int from, struct memx_want *want)
{
	u32 n = 0, at, most = donor_repair_pages(r->target);

	if (from != FROM_ALL && donor_repair_pages(r->source[from].donor) < most)
		most = donor_repair_pages(r->source[from].donor);
	for (at = r->next; at < r->slots && n < most; at++) {
		u64 version;

		if (!to_copy(r, at))
			continue;
		if (pick(r, at) != from)
			break;
		version = from == FROM_ALL ? discarded(r, at) : r->source[from].version[at];
		r->flags[at] |= SLOT_BUSY;
		want[n++] = (struct memx_want){ .slot = memx_put_le32(r->first + at), .version = memx_put_le64(version) };
	}
	r->next = at;
	return n;
}

/* May a batch go out now? What it costs is taken when its size is known. */
static bool repair_may_pay(struct relay_core *core)
{
	u64 rate = core->cfg.repair_rate, burst = rate / 8 + MEMX_MAX_BODY, gained, bytes = MEMX_MAX_PAGES * MEMX_PAGE_SIZE;

	gained = (core->now - core->repair_at) * (rate / 1000) / MS;
	if (gained) {
		core->repair_tokens = core->repair_tokens + gained < burst ? core->repair_tokens + gained : burst;
		core->repair_at = core->now;
	}
	if (core->repair_tokens >= bytes)
		return true;
	core_want_tick(core, core->now + (bytes - core->repair_tokens) * 1000 / (rate ? rate : 1) * MS + MS);
	return false;
}

/* Sends batches as far as limits and rate allow; at the end of the extent, ends the repair. */
void repair_copy(struct repair *r)
{
	struct relay_core *core = r->x->s->core;

	while (r->out < REPAIR_BATCHES) {
		struct core_donor *from;
		struct dop *dop;
		struct rbuf *buf;
		bool gone;
		int k;

		while (r->next < r->slots && !to_copy(r, r->next))
			r->next++;
		if (r->next == r->slots) {
			if (!r->out)
				repair_prove(r);
			return;
		}
		k = pick(r, r->next);
		if (k == FROM_NOBODY) {
			if (!r->out)
				repair_stuck(r, r->next);
			return;
		}
		if (!repair_may_pay(core))
			return;
		gone = k == FROM_ALL;
		from = gone ? r->target : r->source[k].donor;
		buf = rpool_get(from->pool, MEMX_MAX_PAGES * sizeof(struct memx_want));
		if (!buf)
			return;		/* the next tick tries again */
		dop = repair_dop(r, from, gone ? MEMX_OP_DISCARD : MEMX_OP_FETCH, gone ? stored : fetched);
		dop->mask = next_batch(r, k, (struct memx_want *)buf->data);
		put_io(dop, r, dop->mask);
		dop->flags = gone ? 0 : MEMX_F_REPAIR;
		dop->body = buf;
		dop->body_len = dop->mask * (u32)sizeof(struct memx_want);
		core->repair_tokens -= (u64)dop->mask * MEMX_PAGE_SIZE;
		r->out++;
		donor_queue(dop);
	}
}

/* ---- what live sources lack ----------------------------------------------------------------------------------------------- */

/* Has the target a page that this live source lacks? */
bool repair_behind(const struct repair *r, const struct source *s, u32 at)
{
	return s->live && s->version[at] < r->have[at] && !(r->flags[at] & SLOT_NO_PAGE);
}

static bool find_behind(struct repair *r)
{
	for (; r->behind < r->sources; r->behind++, r->next = 0)
		for (; r->next < r->slots; r->next++)
			if (repair_behind(r, &r->source[r->behind], r->next))
				return true;
	return false;
}

/* Each slot is asked for once: what the target cannot show is nobody's to lack. */
void repair_complete(struct repair *r)
{
	u32 n = 0, most = donor_repair_pages(r->target);
	struct memx_want *want;
	struct core_donor *to;
	struct rbuf *buf;
	struct dop *dop;

	if (r->out)
		return;
	if (!find_behind(r)) {
		repair_done(r);
		return;
	}
	if (!repair_may_pay(r->x->s->core))
		return;
	buf = rpool_get(r->target->pool, MEMX_MAX_PAGES * sizeof(struct memx_want));
	if (!buf)
		return;		/* the next tick tries again */
	to = r->source[r->behind].donor;
	if (donor_repair_pages(to) < most)
		most = donor_repair_pages(to);
	want = (struct memx_want *)buf->data;
	for (; r->next < r->slots && n < most; r->next++)
		if (repair_behind(r, &r->source[r->behind], r->next))
			want[n++] = (struct memx_want){ .slot = memx_put_le32(r->first + r->next),
							.version = memx_put_le64(r->have[r->next]) };
	dop = repair_dop(r, r->target, MEMX_OP_FETCH, fetched);
	dop->mask = n;
	put_io(dop, r, n);
	dop->flags = MEMX_F_REPAIR;
	dop->body = buf;
	dop->body_len = n * (u32)sizeof(struct memx_want);
	r->x->s->core->repair_tokens -= (u64)n * MEMX_PAGE_SIZE;
	r->out++;
	donor_queue(dop);
}
