// SPDX-License-Identifier: GPL-2.0-only
/*
 * invariants.c - the accounts of the relay's core and of donors' cores, added up a second time.
 *
 * Everything that a peer can make the relay hold has a number that bounds it; each of those numbers is the sum of something
 * that is in a list, and here it is summed.
 */
#include "invariants.h"
#include "../../server/core/internal.h"

static u32 count_list(const struct list *list)
{
	const struct list *pos;
	u32 n = 0;

	list_for_each(pos, list)
		n++;
	return n;
}

/* ---- guests ---- */

static void check_link(const struct core_link *link)
{
	u32 requests[MEMX_MAX_LANES] = { 0 }, pages[MEMX_MAX_LANES] = { 0 }, busy = 0, l;
	const struct list *pos;

	list_for_each(pos, &link->busy) {
		const struct greq *req = list_entry(pos, struct greq, in_link);

		fuzz_must(req->link == link && req->lane < link->lanes && req->count <= MEMX_MAX_PAGES, "request of lane %u", req->lane);
		requests[req->lane]++;
		pages[req->lane] += req->count;
		busy++;
	}
	fuzz_must(busy == link->unanswered, "%u requests are unanswered, %u are said to be", busy, link->unanswered);
	fuzz_must(busy + count_list(&link->free) == link->lanes * LINK_LANE_REQUESTS, "a request entry is nowhere");
	for (l = 0; l < link->lanes; l++) {
		fuzz_must(requests[l] == link->lane[l].requests && pages[l] == link->lane[l].pages, "lane %u: %u requests, %u pages",
			  l, requests[l], pages[l]);
		fuzz_must(requests[l] <= LINK_LANE_REQUESTS && pages[l] <= LINK_LANE_PAGES, "lane %u is overdrawn", l);
		fuzz_must(!link->greeted || (requests[l] <= link->lane_requests && pages[l] <= link->lane_pages),
			  "lane %u: %u requests, %u pages of %u", l, requests[l], pages[l], link->lane_pages);
	}
	fuzz_must(link->state < LINK_ATTACHED || link->greeted, "attached before hello");
	fuzz_must(!link->session || link->session->link == link || link->session->state == SESSION_FREEING, "two links of a session");
}

/* ---- placement ---- */

static void check_placement(const struct session *s, const struct extent *x, const struct placement *p)
{
	u32 i, j;

	fuzz_must(p->n <= MEMX_MAX_REPLICAS, "extent %u: %u replicas", x->index, p->n);
	for (i = 0; i < p->n; i++) {
		const struct replica *r = &p->r[i];

		fuzz_must(r->state >= MEMX_R_LIVE && r->state <= MEMX_R_STALE, "extent %u: state %u", x->index, r->state);
		fuzz_must(!r->donor || s->core->donor[r->donor->index] == r->donor, "extent %u: a donor that is gone", x->index);
		for (j = 0; j < i; j++)
			fuzz_must(memcmp(r->id, p->r[j].id, sizeof(r->id)), "extent %u: twice on one donor", x->index);
	}
}

static void check_session(const struct session *s)
{
	u32 i, changing = 0, placed[CORE_MAX_DONORS] = { 0 };

	fuzz_must(!s->link || s->link->session == s, "a link of another session");
	for (i = 0; s->extent && i < s->extents; i++) {
		const struct extent *x = &s->extent[i];
		u64 named = x->touched;
		u8 k;

		check_placement(s, x, &x->cur);
		check_placement(s, x, &x->next);
		fuzz_must(!x->cur.generation || placement_count(&x->cur, MEMX_R_LIVE), "extent %u: no live replica", i);
		fuzz_must(x->state != X_STEADY || x->cur.generation, "extent %u: steady without a record", i);
		fuzz_must(x->state < X_PLACING || x->next.generation > x->cur.generation, "extent %u: an older record proposed", i);
		changing += x->state >= X_PLACING;
		for (k = 0; k < x->cur.n; k++)
			named |= x->cur.r[k].donor ? bit64(x->cur.r[k].donor->index) : 0;
		for (k = 0; k < x->next.n; k++)
			named |= x->next.r[k].donor ? bit64(x->next.r[k].donor->index) : 0;
		for (; named; named &= named - 1)
			placed[__builtin_ctzll(named)]++;
	}
	if (s->state == SESSION_ATTACHED)
		fuzz_must(changing == s->changing, "%u extents change, %u are said to", changing, s->changing);
	for (i = 0; s->extent && i < CORE_MAX_DONORS; i++)
		fuzz_must(!s->core->donor[i] || placed[i] == s->sd[i].placed, "donor %u has %u extents, %u are said", i, placed[i],
			  s->sd[i].placed);
}

/* ---- donors, as the relay sees them ---- */

struct out {
	u32 sent, window;
	u64 bytes;
};

static void count_out(const struct core_donor *d, const struct list *sent, struct out *out)
{
	const struct list *pos;
	u64 turn = 0;

	list_for_each(pos, sent) {
		const struct dop *dop = list_entry(pos, struct dop, in_donor);

		fuzz_must(dop->donor == d && dop->sent && dop->tag, "a request that is not this donor's");
		fuzz_must(dop->turn >= turn, "requests are not in the order in which they left");
		turn = dop->turn;
		out->sent++;
		out->window += dop->weight != 0;
		out->bytes += dop->weight;
	}
}

static void check_view(const struct core_donor *d)
{
	struct out out = { 0 };

	count_out(d, &d->sent, &out);
	count_out(d, &d->sent_waited, &out);
	fuzz_must(out.sent == d->unanswered && out.window == d->window_requests && out.bytes == d->window_bytes,
		  "%s: %u sent, %u in the window", d->name, out.sent, out.window);
	fuzz_must(out.bytes <= d->core->cfg.donor_bytes + MEMX_MAX_FRAME && out.window <= d->core->cfg.donor_requests + 1,
		  "%s: %llu bytes unanswered", d->name, (unsigned long long)out.bytes);
	fuzz_must(memchr(d->domain, '\0', sizeof(d->domain)), "%s: a domain without end", d->name);
	fuzz_must(rpool_used(d->pool) <= 64 << 20, "%s: %llu bytes of answers", d->name, (unsigned long long)rpool_used(d->pool));
}

void check_relay(const struct relay_core *core)
{
	const struct list *pos;
	u32 i;

	list_for_each(pos, &core->links)
		check_link(list_entry(pos, struct core_link, in_core));
	list_for_each(pos, &core->sessions)
		check_session(list_entry(pos, struct session, in_core));
	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (core->donor[i])
			check_view(core->donor[i]);
	fuzz_must(list_empty(&core->dying_links) && list_empty(&core->dying_donors) && list_empty(&core->review) &&
		  list_empty(&core->step) && list_empty(&core->pump), "marks are left behind");
}

/* ---- donors themselves ---- */

void check_donor(const struct wdonor *d)
{
	const struct srv *srv = d->srv;
	const struct srv_session *s;
	u64 used = 0, promised = 0;

	for (s = srv->first; s; s = s->next) {
		used += s->used;
		promised += srv_promise(s);
		fuzz_must(s->used <= srv_promise(s), "%s: more is used than was promised", d->name);
	}
	fuzz_must(used == (u64)srv->chunks.in_use * SRV_CHUNK_PAGES && promised == srv->promised, "%s: accounts", d->name);
	fuzz_must(promised <= (u64)d->chunks * SRV_CHUNK_PAGES, "%s: promised more than it has", d->name);
}

void check_world(const struct world *w)
{
	u32 i;

	check_relay(w->core);
	for (i = 0; i < w->donors; i++)
		check_donor(&w->donor[i]);
}
