// SPDX-License-Identifier: GPL-2.0-only
/*
 * fetch.c - FETCH: the quickest copy that is right.
 *
 * A request is asked of the live replica with the lowest smoothed latency. Every page that comes is verified against the version
 * asked for and its check; what fails is asked of the next replica, page by page: live ones first, then syncing ones, at last
 * stale ones, where a matching version makes the page good. Nothing is believed because of who sent it.
 *
 * A late answer (later than mean + 4 deviations of that donor) lets the next replica be asked beside the first: whoever brings a
 * page first wins. Hedges have a budget per donor, five in a hundred, so that a slow cluster is not made slower by them; only what
 * is as late as a donor's silence would be is asked elsewhere at any price.
 *
 * Where no replica is left to ask, but a live one is merely away, the request waits in its extent until that one is back or the
 * record has changed; where one could not be asked for want of a buffer, for a moment (or, during a change of the record, until
 * that is over). Otherwise each page that nobody had gets the status that says most about why.
 */
#include "internal.h"
#include "user/checks.h"

enum {
	HEDGE_EARNED	= 5,		/* hundredths per fetch */
	HEDGE_COST	= 100,
	EXPLORE		= 64,		/* one in so many fetches goes to another replica than the quickest, to know it */
};

static const struct memx_want *wants(const struct greq *req)
{
	return (const struct memx_want *)(req->body->data + MEMX_IO_LEN);
}

/* ---- the answer to the guest --------------------------------------------------------------------------------------------------- */

/* Donors that still owe an answer when others have given it: it took them at least so long. */
static void late_ones(struct greq *req)
{
	struct list *pos;

	list_for_each(pos, &req->dops) {
		struct dop *dop = list_entry(pos, struct dop, in_req);

		if (dop->sent)
			donor_latency(dop->donor, dop->sent_at);
	}
}

static void bad_page(const struct greq *req, const struct core_donor *d, u32 i, u32 status)
{
	d->core->count.bad_pages++;
	core_say(d->core, CORE_LOG_ERR, "bad-page", "guest=%s donor=%s slot=%u status=%s", req->extent->s->name, d->name,
		 memx_le32(wants(req)[i].slot), status_word(status));
}

/*
 * Those that had it wrong get it from those that had it right. That it was missing somewhere is known only now: a guest may ask
 * for what it never stored, and then all that say so are right.
 */
static void heal(const struct greq *req, u32 i)
{
	const u8 *data = req->got[i].buf->data;
	u64 wrong;

	for (wrong = req->wrong[i] | req->missing[i]; wrong; wrong &= wrong - 1) {
		struct core_donor *d = req->link->core->donor[__builtin_ctzll(wrong)];

		if (!d)
			continue;
		if (req->missing[i] & bit64(d->index))
			bad_page(req, d, i, MEMX_S_ABSENT);
		heal_page(req->extent, d, (const struct memx_page *)(data + req->got[i].desc), data + req->got[i].page);
	}
}

static void fetch_finish(struct greq *req)
{
	struct extent *x = req->extent;
	struct relay_core *core = req->link->core;
	struct memx_io io = {
		.extent = memx_put_le32(x->index), .generation = memx_put_le64(x->cur.generation),
		.count = memx_put_le16(req->count),
	};
	struct memx_page page[MEMX_MAX_PAGES];
	struct core_seg seg[2 + MEMX_MAX_PAGES] = { { .base = &io, .len = sizeof(io) } };
	u32 i, n = 1, good = 0, same = 0, status;

	memset(page, 0, sizeof(page[0]) * req->count);
	seg[n++] = (struct core_seg){ .base = page, .len = req->count * (u32)sizeof(page[0]) };
	for (i = 0; i < req->count; i++) {
		struct rbuf *buf = req->got[i].buf;

		same += req->status[i] == req->status[0];
		if (buf) {
			memcpy(&page[i], buf->data + req->got[i].desc, sizeof(page[i]));
			seg[n++] = (struct core_seg){ .base = buf->data + req->got[i].page, .len = MEMX_PAGE_SIZE, .buf = buf };
			heal(req, i);
			good++;
		} else {
			page[i].status = memx_put_le32(req->status[i]);
		}
		page[i].slot = wants(req)[i].slot;
	}
	status = same == req->count ? req->status[0] : MEMX_S_PARTIAL;
	if (!good && status != MEMX_S_PARTIAL)
		n = 1;
	core->count.fetches += good;
	core->count.fetch_errors += req->count - good;
	x->s->fetches += good;
	late_ones(req);
	link_reply(req->link, req->lane, req->op, req->tag, x->s->epoch, status, seg, n);
	greq_drop(req);
}

/* Pages that nobody brought get @status; those that came stay. */
void fetch_fail(struct greq *req, u32 status)
{
	u32 i;

	for (i = 0; i < req->count; i++)
		if (!req->got[i].buf)
			req->status[i] = (u8)status;
	fetch_finish(req);
}

/* ---- the answers of donors ------------------------------------------------------------------------------------------------------- */

/* The status that says most: damage, then a wrong version, then absence, then anything else. */
static void note(struct greq *req, u32 mask, u32 status)
{
	static const u8 rank[MEMX_S_COUNT] = { [MEMX_S_CORRUPT] = 4, [MEMX_S_VERSION] = 3, [MEMX_S_ABSENT] = 2, [MEMX_S_IO] = 1 };

	for (mask &= req->todo; mask; mask &= mask - 1) {
		u8 *have = &req->status[__builtin_ctz(mask)];

		if (*have == MEMX_S_OK || rank[status] > rank[*have])
			*have = rank[status] ? (u8)status : MEMX_S_IO;
	}
}

/* @check: that of the bytes that came with @page. */
static bool page_good(const struct greq *req, u32 i, const struct memx_page *page, u64 check)
{
	const struct memx_trailer *t = &page->trailer;

	return t->version == wants(req)[i].version && !page_sealed(t) && check == memx_le64(t->check);
}

/* The checks of the @count pages at @bytes of which @page says that they are there. */
static void checks(const struct greq *req, const struct memx_page *page, u32 count, const u8 *bytes, struct memx_check_page *to)
{
	u32 i, n = 0;

	for (i = 0; i < count; i++) {
		if (memx_status_known(memx_le32(page[i].status)) != MEMX_S_OK)
			continue;
		to[n++] = (struct memx_check_page){
			.slot = memx_le32(page[i].slot), .version = memx_le64(page[i].trailer.version), .from = bytes,
		};
		bytes += MEMX_PAGE_SIZE;
	}
	memx_checks(req->extent->s->seed, to, n);
}

/* Does the record say that this donor has every acknowledged page of the extent? */
static bool must_have(const struct dop *dop)
{
	int i = placement_find(&dop->extent->cur, dop->donor);

	return i >= 0 && dop->extent->cur.r[i].state == MEMX_R_LIVE && !dop->extent->lost;
}

/* The pages of an answer. -EPROTO: it does not have the shape that it claims. */
static int take_pages(struct dop *dop, const struct memx_head *head, struct rbuf *body)
{
	struct greq *req = dop->req;
	u32 count = 0, mask, k, at, good = 0, slots[MEMX_MAX_PAGES];
	const struct memx_page *page = (const struct memx_page *)(body->data + MEMX_IO_LEN);
	struct memx_check_page whole[MEMX_MAX_PAGES];

	for (mask = dop->mask; mask; mask &= mask - 1)
		slots[count++] = memx_le32(wants(req)[__builtin_ctz(mask)].slot);
	if (memx_check_fetched(head, page, slots, count) < 0)
		return -EPROTO;
	at = MEMX_IO_LEN + count * (u32)sizeof(*page);
	checks(req, page, count, body->data + at, whole);
	for (mask = dop->mask, k = 0; mask; mask &= mask - 1, k++) {
		u32 i = (u32)__builtin_ctz(mask), status = memx_status_known(memx_le32(page[k].status));

		if (status != MEMX_S_OK) {
			note(req, 1U << i, status);
			if (must_have(dop) && memx_le64(page[k].trailer.version) < memx_le64(wants(req)[i].version) &&
			    (status == MEMX_S_ABSENT || status == MEMX_S_VERSION))
				req->missing[i] |= bit64(dop->donor->index);
			continue;
		}
		if (req->todo & 1U << i) {
			if (page_good(req, i, &page[k], whole[good].check)) {
				req->got[i].buf = rbuf_get(body);
				req->got[i].desc = MEMX_IO_LEN + k * (u32)sizeof(*page);
				req->got[i].page = at;
				req->status[i] = MEMX_S_OK;
				req->todo &= ~(1U << i);
				dop->donor->fetches++;
			} else {
				req->wrong[i] |= bit64(dop->donor->index);
				bad_page(req, dop->donor, i, MEMX_S_CORRUPT);
				note(req, 1U << i, MEMX_S_CORRUPT);
			}
		}
		good++;
		at += MEMX_PAGE_SIZE;
	}
	return 0;
}

/* Until its extent is looked at again. */
static void park(struct greq *req)
{
	list_del(&req->in_fetching);
	list_del(&req->in_extent);
	list_add_tail(&req->in_extent, &req->extent->fetches);
}

/* What a whole FETCH was refused with. -EPROTO: no donor may answer that. */
static int whole_error(struct dop *dop, u32 status, u64 generation)
{
	struct greq *req = dop->req;
	struct extent *x = req->extent;
	struct core_donor *d = dop->donor;
	int i = placement_find(&x->cur, d);

	note(req, dop->mask, status);
	switch (status) {
	case MEMX_S_FENCED:
	case MEMX_S_SUPERSEDED:
		session_fenced(x->s, d, status);
		break;
	case MEMX_S_UNKNOWN:
	case MEMX_S_NOFENCE:
		req->tried &= ~bit64(d->index);
		return fence_denied(x->s, d);
	case MEMX_S_ABSENT:
		if (!generation && i >= 0 && x->cur.r[i].state != MEMX_R_STALE)
			extent_replica_failed(x, d, status);	/* it does not even hold the extent */
		break;
	case MEMX_S_AGAIN:
	case MEMX_S_LIMIT:
		req->patience = true;
		break;
	case MEMX_S_GENERATION:
	case MEMX_S_CORRUPT:
	case MEMX_S_IO:
		break;
	default:
		return -EPROTO;
	}
	return 0;
}

static int fetch_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct greq *req = dop->req;
	struct core_donor *d = dop->donor;
	struct core_counters *count = &d->core->count;
	struct memx_io io = { 0 };
	bool whole;

	list_del(&dop->in_req);
	req->out &= ~bit64(d->index);
	if (status == S_LOST) {
		req->tried &= ~bit64(d->index);
		fetch_go(req);
		return 0;
	}
	donor_latency(d, dop->sent_at);
	whole = status != MEMX_S_OK && status != MEMX_S_PARTIAL;
	if (head->len >= sizeof(io)) {
		memcpy(&io, body->data, sizeof(io));
		if (memx_check_io_reply(head, &io, req->extent->index, (u32)__builtin_popcount(dop->mask)))
			goto broken;
	} else if (head->len || !whole) {
		goto broken;
	}
	if (whole ? whole_error(dop, status, memx_le64(io.generation)) : take_pages(dop, head, body))
		goto broken;
	if (req->todo) {
		if (!req->out)
			count->fetch_retries += (u32)__builtin_popcount(req->todo);
		fetch_go(req);
	} else {
		count->hedges_won += dop->hedge;
		fetch_finish(req);
	}
	return 0;
broken:
	req->tried &= ~bit64(d->index);	/* its connection goes; what it answers on the next one may be better */
	fetch_go(req);
	return -EPROTO;
}

/* ---- out to the donors ------------------------------------------------------------------------------------------------------------ */

/* The wants that @mask names. NULL: no room to write them down. */
static struct rbuf *subset(const struct greq *req, struct core_donor *d, u32 mask)
{
	struct rbuf *buf = rpool_get(d->pool, MEMX_MAX_PAGES * sizeof(struct memx_want));
	struct memx_want *to;

	if (!buf)
		return NULL;
	for (to = (struct memx_want *)buf->data; mask; mask &= mask - 1)
		*to++ = wants(req)[__builtin_ctz(mask)];
	return buf;
}

/* Who might be asked in place of @asked one day may take a few more hedges. */
static void earn(const struct extent *x, const struct core_donor *asked)
{
	u8 i;

	for (i = 0; i < x->cur.n; i++) {
		struct core_donor *d = x->cur.r[i].donor;

		if (d && d != asked && d->hedge_budget < HEDGE_MAX)
			d->hedge_budget += HEDGE_EARNED;
	}
}

static bool fetch_ask(struct greq *req, struct core_donor *d, bool hedge)
{
	struct extent *x = req->extent;
	struct relay_core *core = d->core;
	u32 count = (u32)__builtin_popcount(req->todo);
	struct memx_io io = { .extent = memx_put_le32(x->index), .count = memx_put_le16((u16)count) };
	bool whole = count == req->count;
	struct rbuf *body = whole ? rbuf_get(req->body) : subset(req, d, req->todo);
	struct dop *dop;

	if (!body)
		return false;
	dop = dop_new(d, MEMX_OP_FETCH, DOP_FETCH, fetch_done);
	memcpy(dop->small, &io, sizeof(io));
	dop->small_len = sizeof(io);
	dop->body = body;
	dop->body_off = whole ? MEMX_IO_LEN : 0;
	dop->body_len = count * (u32)sizeof(struct memx_want);
	dop->session = x->s;
	dop->extent = x;
	dop->req = req;
	dop->epoch = x->s->epoch;
	dop->mask = req->todo;
	dop->hedge = hedge;
	list_add_tail(&dop->in_session, &x->s->dops);
	list_add_tail(&dop->in_req, &req->dops);
	req->tried |= bit64(d->index);
	req->out |= bit64(d->index);
	if (!hedge)
		earn(x, d);
	req->hedge_at = core->now + donor_hedge_delay(d);
	core_want_tick(core, req->hedge_at);
	if (list_empty(&req->in_fetching))
		list_add_tail(&req->in_fetching, &core->fetching);
	donor_queue(dop);
	return true;
}

/* The quickest usable replica in @state that was not tried. */
static struct core_donor *quickest(const struct greq *req, u8 state)
{
	const struct extent *x = req->extent;
	struct core_donor *best = NULL;
	u64 not = req->tried | req->out;
	u8 i, n = 0;

	for (i = 0; i < x->cur.n; i++) {
		const struct replica *r = &x->cur.r[i];

		if (r->state != state || !replica_usable(x->s, r) || not & bit64(r->donor->index))
			continue;
		n++;
		if (!best || r->donor->lat_ns < best->lat_ns)
			best = r->donor;
	}
	if (n > 1 && core_random(x->s->core) % EXPLORE == 0)
		for (i = 0; i < x->cur.n; i++)
			if (x->cur.r[i].state == state && x->cur.r[i].donor != best && replica_usable(x->s, &x->cur.r[i]) &&
			    !(not & bit64(x->cur.r[i].donor->index)))
				return x->cur.r[i].donor;
	return best;
}

/*
 * Is there a live copy that was not tried and may come back? Of what is left of a lost extent any copy may be the only one that has
 * the page: all that can be reached are asked, and then one that is away is waited for until it counts as dead.
 */
static bool one_is_away(const struct greq *req)
{
	const struct extent *x = req->extent;
	u8 i;

	for (i = 0; i < x->cur.n; i++) {
		const struct replica *r = &x->cur.r[i];
		bool counts = r->state == MEMX_R_LIVE;

		if (x->left)
			counts = r->donor && !r->donor->dead && !replica_usable(x->s, r);
		if (counts && !replica_gone(r) && !(r->donor && req->tried & bit64(r->donor->index)))
			return true;
	}
	return false;
}

void fetch_go(struct greq *req)
{
	static const u8 order[] = { MEMX_R_LIVE, MEMX_R_SYNCING, MEMX_R_STALE };
	struct core_donor *d;
	bool full = false;
	u32 i;

	if (req->out)		/* somebody is asked for these pages already */
		return;
	for (i = 0; i < sizeof(order); i++) {
		if (i == 2 && !req->extent->left && one_is_away(req))
			break;		/* the last resort is not for those who only have to wait */
		d = quickest(req, order[i]);
		if (d && fetch_ask(req, d, false))
			return;
		full |= d != NULL;
	}
	if (req->patience)		/* all over again, a moment later */
		req->tried = 0;
	if (req->patience || full) {	/* who could not be asked for want of a buffer was not tried */
		req->patience = false;
		park(req);
		extent_later(req->extent);
		return;
	}
	if (one_is_away(req)) {
		park(req);
		return;
	}
	note(req, req->todo, MEMX_S_IO);
	fetch_finish(req);
}

/* ---- hedging ------------------------------------------------------------------------------------------------------------------------ */

void fetch_tick(struct relay_core *core)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &core->fetching) {
		struct greq *req = list_entry(pos, struct greq, in_fetching);
		struct core_donor *d;
		u64 overdue;

		if (req->hedged || !req->out)
			continue;
		if (core->now < req->hedge_at) {
			core_want_tick(core, req->hedge_at);
			continue;
		}
		d = quickest(req, MEMX_R_LIVE);
		if (!d)
			continue;
		/* Half the time after which its donor would be dropped for silence: it need not be silent to others. */
		overdue = req->hedge_at + core->cfg.donor_timeout_ns / 2;
		if (core->now < overdue && d->hedge_budget < HEDGE_COST) {
			core_want_tick(core, overdue);
			continue;
		}
		d->hedge_budget -= d->hedge_budget < HEDGE_COST ? d->hedge_budget : HEDGE_COST;
		if (fetch_ask(req, d, true)) {
			req->hedged = true;
			core->count.hedges++;
		}
	}
}

/* ---- in from the guest ---------------------------------------------------------------------------------------------------------------- */

void fetch_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = link->session;
	const struct memx_io *io = body ? (const struct memx_io *)body->data : NULL;
	int count = io ? memx_check_io(head, io, MEMX_MAX_PAGES) : -EINVAL;
	struct greq *req;

	if (count <= 0 || memx_check_wants((const struct memx_want *)(io + 1), (u32)count, memx_le32(io->extent), s->order,
					   s->slots)) {
		link_violation(link, lane, "malformed fetch");
		return;
	}
	req = greq_new(link, lane, head, body, (u32)count);
	req->extent = &s->extent[memx_le32(io->extent)];
	req->todo = count == 32 ? ~0U : (1U << count) - 1;
	if (!req->extent->cur.generation)
		fetch_fail(req, MEMX_S_ABSENT);
	else
		fetch_go(req);
}
