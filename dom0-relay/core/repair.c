// SPDX-License-Identifier: GPL-2.0-only
/*
 * repair.c - bringing extents back to their number of live copies, behind the foreground work.
 *
 *	phase	what is done
 *	SCAN	the syncing replica (the target) and every live one tell which slots they hold at which version
 *	COPY	slots that the target lacks, or has older, are fetched from a live replica that has them, verified, and stored at the
 *		target with the version they have; discarded ones are discarded there
 *	done	the target's place in the record becomes live, what the record then names no more is freed
 *
 * Why one pass suffices: a write is acknowledged only when the target has it, too, from the moment on in which the record that
 * names the target took effect; what was acknowledged before, every live replica has, and the scan began later. Versions
 * keep the copy from overwriting anything newer. Any change of the extent's record ends the pass: the next one begins anew.
 *
 * What goes out is bounded by a number of extents, by two requests per extent, by a rate for all of them together, and by a
 * quarter of each donor's window, which foreground stores are sent before.
 */
#include "internal.h"

enum {
	REPAIR_MAX	= 8,		/* extents at once */
	REPAIR_BATCHES	= 2,		/* requests per extent */
	REPAIR_AGAIN_MS	= 500,		/* after a pass that failed */
	REPAIR_ROOM_MS	= 2000,		/* after no donor had room */
	REPAIR_LOOK	= 16384,	/* extents looked at per session and tick */
};

struct repair {
	struct list in_core;
	struct list dops;
	struct extent *x;
	struct core_donor *target;
	u32 first, slots;		/* of the extent */
	u32 scans;			/* unfinished */
	u32 next;			/* slot from which copying goes on, relative */
	u32 out;			/* batches under way */
	bool failed;
	u64 *have, *best;		/* versions: of the target; the newest at a live replica */
	u8 *source;			/* donor that has it; with GONE: it was discarded */
	bool *gone;
	u32 scan_next[CORE_MAX_DONORS];
};

/* ---- beginning and ending ------------------------------------------------------------------------------------------------- */

static void repair_free(struct repair *r)
{
	while (!list_empty(&r->dops))
		dop_cancel(list_first(&r->dops, struct dop, in_req));
	list_del(&r->in_core);
	r->x->repair = NULL;
	r->x->s->core->repairing--;
	free(r->have);
	free(r->best);
	free(r->source);
	free(r->gone);
	free(r);
}

void repair_cancel(struct extent *x)
{
	if (x->repair)
		repair_free(x->repair);
}

static void repair_fail(struct repair *r)
{
	r->x->repair_at = r->x->s->core->now + REPAIR_AGAIN_MS * MS;
	repair_free(r);
}

static void repair_done(struct repair *r)
{
	struct extent *x = r->x;
	struct relay_core *core = x->s->core;

	core->count.replicas_repaired++;
	core_say(core, CORE_LOG_INFO, "replica-repaired", "guest=%s extent=%u donor=%s", x->s->name, x->index, r->target->name);
	x->promote = bit64(r->target->index);
	repair_free(r);
	extent_review(x);
}

static struct dop *repair_dop(struct repair *r, struct core_donor *d, u16 op, dop_done done)
{
	struct session *s = r->x->s;
	struct dop *dop = dop_new(d, op, DOP_REPAIR, done);

	dop->session = s;
	dop->extent = r->x;
	dop->repair = r;
	dop->epoch = s->epoch;
	list_add_tail(&dop->in_session, &s->dops);
	list_add_tail(&dop->in_req, &r->dops);
	return dop;
}

/* ---- SCAN ------------------------------------------------------------------------------------------------------------------- */

static int scan_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body);
static void copy_more(struct repair *r);

static void scan_ask(struct repair *r, struct core_donor *d)
{
	struct dop *dop = repair_dop(r, d, MEMX_OP_SCAN, scan_done);
	struct {
		struct memx_list list;
		struct memx_extent_ref ref;
	} ask = {
		.list = { .session = memx_put_le32(r->x->s->sd[d->index].handle), .count = memx_put_le32(1) },
		.ref = { .extent = memx_put_le32(r->x->index), .slot = memx_put_le32(r->first + r->scan_next[d->index]) },
	};

	memcpy(dop->small, &ask, sizeof(ask));
	dop->small_len = sizeof(ask);
	donor_queue(dop);
}

static void scanned(struct repair *r, const struct core_donor *d, u32 at, u64 version, bool gone)
{
	if (d == r->target) {
		r->have[at] = version;
	} else if (version > r->best[at]) {
		r->best[at] = version;
		r->source[at] = (u8)d->index;
		r->gone[at] = gone;
	}
}

static int scan_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct repair *r = dop->repair;
	struct core_donor *d = dop->donor;
	struct memx_list list;
	struct memx_want want;
	u32 i, count, at;

	list_del(&dop->in_req);
	if (status != MEMX_S_OK) {
		repair_fail(r);
		return 0;
	}
	if (head->len < sizeof(list))
		return -EPROTO;
	memcpy(&list, body->data, sizeof(list));
	count = memx_le32(list.count);
	if (count > MEMX_MAX_SCAN || head->len != memx_scan_len(count) || (!count && !(head->flags & MEMX_F_LAST)))
		goto broken;
	for (i = 0; i < count; i++) {
		memcpy(&want, body->data + sizeof(list) + i * sizeof(want), sizeof(want));
		at = memx_le32(want.slot) - r->first;
		if (at >= r->slots || at < r->scan_next[d->index])
			goto broken;
		r->scan_next[d->index] = at + 1;
		scanned(r, d, at, memx_le64(want.version), memx_le32(want.status) != MEMX_S_OK);
	}
	if (!(head->flags & MEMX_F_LAST))
		scan_ask(r, d);
	else if (!--r->scans)
		copy_more(r);
	return 0;
broken:
	repair_fail(r);
	return -EPROTO;
}

/* ---- COPY ------------------------------------------------------------------------------------------------------------------- */

static void batch_done(struct repair *r)
{
	r->out--;
	if (r->failed && !r->out)
		repair_fail(r);
	else if (!r->failed)
		copy_more(r);
}

static void batch_failed(struct repair *r)
{
	r->failed = true;
	batch_done(r);
}

/* The target's answer to a copy or a discard. OLD says that it has something newer from the foreground. */
static int stored(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct repair *r = dop->repair;
	struct memx_want want;
	struct memx_io io;
	u32 i, count;
	bool good = status == MEMX_S_OK || status == MEMX_S_OLD || status == MEMX_S_PARTIAL;

	list_del(&dop->in_req);
	if (status == MEMX_S_PARTIAL) {
		if (head->len < sizeof(io))
			goto broken;
		memcpy(&io, body->data, sizeof(io));
		count = memx_le16(io.count);
		if (count > MEMX_MAX_PAGES || head->len != memx_want_len(count))
			goto broken;
		for (i = 0; i < count; i++) {
			memcpy(&want, body->data + MEMX_IO_LEN + i * sizeof(want), sizeof(want));
			good &= memx_le32(want.status) == MEMX_S_OK || memx_le32(want.status) == MEMX_S_OLD;
		}
	}
	if (good) {
		r->x->s->core->count.repair_pages += dop->mask;
		batch_done(r);
	} else {
		batch_failed(r);
	}
	return 0;
broken:
	batch_failed(r);
	return -EPROTO;
}

static void put_io(struct dop *dop, const struct repair *r, u32 count)
{
	struct memx_io io = { .extent = memx_put_le32(r->x->index), .count = memx_put_le16((u16)count) };

	memcpy(dop->small, &io, sizeof(io));
	dop->small_len = sizeof(io);
}

/*
 * Takes the good pages of an answer together, as the body of a STORE. Returns their number; a page that is not there at that
 * version any more was overwritten meanwhile, and the target has got the newer one as everybody else. -1: a page is bad.
 */
static int gather(struct repair *r, const struct core_donor *d, const struct memx_head *head, const struct rbuf *from,
		  u32 count, u8 *to)
{
	const struct memx_page *page = (const struct memx_page *)(from->data + MEMX_IO_LEN);
	const u8 *bytes = (const u8 *)&page[count];
	u32 i, good = 0, k = 0;

	(void)head;
	for (i = 0; i < count; i++)
		good += page[i].status == 0;
	for (i = 0; i < count; i++) {
		const struct memx_trailer *t = &page[i].trailer;
		u32 status = memx_le32(page[i].status), at = memx_le32(page[i].slot) - r->first;

		if (status == MEMX_S_VERSION || status == MEMX_S_ABSENT)
			continue;
		if (status != MEMX_S_OK || memx_le64(t->version) != r->best[at] ||
		    (!(memx_le32(t->flags) & MEMX_T_SEALED) &&
		     memx_check(r->x->s->seed, r->first + at, memx_le64(t->version), bytes) != memx_le64(t->check))) {
			r->x->s->core->count.bad_pages++;
			core_say(r->x->s->core, CORE_LOG_ERR, "bad-page", "guest=%s donor=%s slot=%u found_by=repair",
				 r->x->s->name, d->name, r->first + at);
			return -1;
		}
		memcpy(to + k * sizeof(*page), &page[i], sizeof(*page));
		memcpy(to + good * sizeof(*page) + k * MEMX_PAGE_SIZE, bytes, MEMX_PAGE_SIZE);
		bytes += MEMX_PAGE_SIZE;
		k++;
	}
	return (int)k;
}

static int fetched(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct repair *r = dop->repair;
	const struct memx_want *asked = (const struct memx_want *)dop->body->data;
	u32 i, count = dop->mask, slots[MEMX_MAX_PAGES];
	struct dop *store;
	struct memx_io io;
	struct rbuf *buf;
	int good;

	list_del(&dop->in_req);
	if (status != MEMX_S_OK && status != MEMX_S_PARTIAL) {
		batch_failed(r);
		return 0;
	}
	for (i = 0; i < count; i++)
		slots[i] = memx_le32(asked[i].slot);
	if (head->len < sizeof(io))
		goto broken;
	memcpy(&io, body->data, sizeof(io));
	if (memx_check_io_reply(head, &io, r->x->index, count) ||
	    memx_check_fetched(head, (const struct memx_page *)(body->data + MEMX_IO_LEN), slots, count) < 0)
		goto broken;
	buf = rpool_get(r->target->pool, memx_store_len(count));
	if (!buf) {
		batch_failed(r);
		return 0;
	}
	good = gather(r, dop->donor, head, body, count, buf->data);
	if (good <= 0) {
		rbuf_put(buf);
		if (good < 0)
			batch_failed(r);
		else
			batch_done(r);
		return 0;
	}
	store = repair_dop(r, r->target, MEMX_OP_STORE, stored);
	put_io(store, r, (u32)good);
	store->flags = MEMX_F_REPAIR;
	store->body = buf;
	store->body_len = memx_store_len((u32)good) - MEMX_IO_LEN;
	store->mask = (u32)good;
	donor_queue(store);
	return 0;
broken:
	batch_failed(r);
	return -EPROTO;
}

static bool lacks(const struct repair *r, u32 at)
{
	return r->best[at] > r->have[at];
}

/* Collects the next slots of one kind and one source. Returns their number. */
static u32 next_batch(struct repair *r, struct memx_want *want)
{
	u32 n = 0, at, lead = 0;

	while (r->next < r->slots && !lacks(r, r->next))
		r->next++;
	lead = r->next;
	for (at = lead; at < r->slots && n < MEMX_MAX_PAGES; at++) {
		if (!lacks(r, at))
			continue;
		if (r->source[at] != r->source[lead] || r->gone[at] != r->gone[lead])
			break;
		want[n++] = (struct memx_want){ .slot = memx_put_le32(r->first + at), .version = memx_put_le64(r->best[at]) };
	}
	r->next = at;
	return n;
}

static bool repair_pays(struct relay_core *core, u64 bytes)
{
	u64 rate = core->cfg.repair_rate, burst = rate / 8 + MEMX_MAX_BODY, gained;

	gained = (core->now - core->repair_at) * (rate / 1000) / MS;
	if (gained) {
		core->repair_tokens = core->repair_tokens + gained < burst ? core->repair_tokens + gained : burst;
		core->repair_at = core->now;
	}
	if (core->repair_tokens < bytes) {
		core_want_tick(core, core->now + (bytes - core->repair_tokens) * 1000 / (rate ? rate : 1) * MS + MS);
		return false;
	}
	core->repair_tokens -= bytes;
	return true;
}

/* Sends batches as far as limits and rate allow; at the end of the extent, ends the repair. */
static void copy_more(struct repair *r)
{
	struct relay_core *core = r->x->s->core;

	while (r->out < REPAIR_BATCHES) {
		struct core_donor *from;
		struct dop *dop;
		struct rbuf *buf;
		u32 n, lead;
		bool gone;

		while (r->next < r->slots && !lacks(r, r->next))
			r->next++;
		if (r->next == r->slots) {
			if (!r->out)
				repair_done(r);
			return;
		}
		lead = r->next;
		if (!repair_pays(core, MEMX_MAX_PAGES * MEMX_PAGE_SIZE))
			return;
		gone = r->gone[lead];
		from = gone ? r->target : core->donor[r->source[lead]];
		buf = from ? rpool_get(from->pool, MEMX_MAX_PAGES * sizeof(struct memx_want)) : NULL;
		if (!buf)
			return;		/* the next tick tries again */
		n = next_batch(r, (struct memx_want *)buf->data);
		dop = repair_dop(r, from, gone ? MEMX_OP_DISCARD : MEMX_OP_FETCH, gone ? stored : fetched);
		put_io(dop, r, n);
		dop->flags = gone ? 0 : MEMX_F_REPAIR;
		dop->body = buf;
		dop->body_len = n * (u32)sizeof(struct memx_want);
		dop->mask = n;
		r->out++;
		donor_queue(dop);
	}
}

/* ---- which extents ------------------------------------------------------------------------------------------------------------ */

static struct replica *find_target(struct extent *x)
{
	u8 i;

	for (i = 0; i < x->cur.n; i++)
		if (x->cur.r[i].state == MEMX_R_SYNCING && replica_usable(x->s, &x->cur.r[i]))
			return &x->cur.r[i];
	return NULL;
}

static void repair_start(struct extent *x, struct replica *target)
{
	struct session *s = x->s;
	struct relay_core *core = s->core;
	struct repair *r = core_zalloc(sizeof(*r));
	u32 left = s->slots - (x->index << s->order);
	u8 i;

	r->x = x;
	r->target = target->donor;
	r->first = x->index << s->order;
	r->slots = left < 1U << s->order ? left : 1U << s->order;
	r->have = core_zalloc(r->slots * sizeof(*r->have));
	r->best = core_zalloc(r->slots * sizeof(*r->best));
	r->source = core_zalloc(r->slots);
	r->gone = core_zalloc(r->slots * sizeof(*r->gone));
	list_init(&r->dops);
	list_add_tail(&r->in_core, &core->repairs);
	x->repair = r;
	core->repairing++;
	for (i = 0; i < x->cur.n; i++) {
		struct replica *c = &x->cur.r[i];

		if (c != target && (c->state != MEMX_R_LIVE || !replica_usable(s, c)))
			continue;
		r->scans++;
		scan_ask(r, c->donor);
	}
}

static bool live_source(const struct extent *x)
{
	u8 i;

	for (i = 0; i < x->cur.n; i++)
		if (x->cur.r[i].state == MEMX_R_LIVE && replica_usable(x->s, &x->cur.r[i]))
			return true;
	return false;
}

static void look_at(struct extent *x)
{
	struct relay_core *core = x->s->core;
	struct replica *target;

	if (x->repair || !extent_takes_writes(x) || x->promote || x->repair_at > core->now || !live_source(x))
		return;
	target = find_target(x);
	if (target) {
		if (core->repairing < REPAIR_MAX)
			repair_start(x, target);
	} else if (extent_wants_copy(x)) {
		x->want_more = true;
		x->repair_at = core->now + REPAIR_ROOM_MS * MS;
		extent_review(x);
	}
}

void repair_tick(struct relay_core *core)
{
	struct list *pos, *tmp;
	u32 n;

	if (!core->cfg.repair_rate || core->draining)
		return;
	list_for_each_safe(pos, tmp, &core->repairs) {
		struct repair *r = list_entry(pos, struct repair, in_core);

		if (!r->scans && !r->failed)
			copy_more(r);
	}
	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);

		if (s->state != SESSION_ATTACHED)
			continue;
		for (n = 0; n < s->extents && n < REPAIR_LOOK; n++) {
			if (s->repair_next >= s->extents)
				s->repair_next = 0;
			look_at(&s->extent[s->repair_next++]);
		}
	}
	if (core->repairing)
		core_want_tick(core, core->now + 20 * MS);
}
