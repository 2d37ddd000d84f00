// SPDX-License-Identifier: GPL-2.0-only
/*
 * store.c - STORE and DISCARD: from the guest to every replica that must have it, and back.
 *
 * One staged copy serves the check, all replicas and every re-send. `done` and `out` say, per donor, who has it and who is asked;
 * the request is finished when every live and syncing replica of the record in effect is in `done`. Donors know versions, so
 * sending twice does no harm: an equal version is confirmed and nothing done, an older one is answered OLD.
 *
 *	answer of a donor		what it means for the replica	the page's status
 *	OK				has it				as the others say
 *	PARTIAL				has what is OK			per page, the worst of all replicas
 *	OLD, nothing later was sent	cannot be: like NOSPACE		as the others say; where nobody can replace it, OLD
 *	OLD otherwise			has something newer		OLD: the guest knows whether that is so
 *	NOSPACE				has it not, will not: replaced	as the others say; where nobody can replace it, NOSPACE: the
 *									write fails, the page stays in the guest
 *	AGAIN, LIMIT			asked again a moment later	- (for too long: the donor loses its connection)
 *	CORRUPT				damaged on the way: again	after three times like NOSPACE
 *	NOFENCE, UNKNOWN		fenced anew, asked again	- (too often: the same)
 *	GENERATION, newer than ours	the record changes first	- (too often: the same)
 *	GENERATION older, ABSENT	gone: dropped from the record	-
 *	FENCED, SUPERSEDED		it is set aside, or this relay was left behind (session_fenced())
 *	anything else			says nothing about the copy: the donor broke the protocol, and is hung up on
 *	connection lost			asked again, or dropped		-
 */
#include "internal.h"
#include "user/checks.h"

static const struct memx_io *io_of(const struct rbuf *body)
{
	return (const struct memx_io *)body->data;
}

static u32 slot_of(const struct greq *req, u32 i)
{
	const void *list = req->body->data + MEMX_IO_LEN;

	return req->op == MEMX_OP_STORE ? memx_le32(((const struct memx_page *)list)[i].slot) :
					  memx_le32(((const struct memx_want *)list)[i].slot);
}

static u64 version_of(const struct greq *req, u32 i)
{
	const void *list = req->body->data + MEMX_IO_LEN;

	return req->op == MEMX_OP_STORE ? memx_le64(((const struct memx_page *)list)[i].trailer.version) :
					  memx_le64(((const struct memx_want *)list)[i].version);
}

/* ---- the answer to the guest ------------------------------------------------------------------------------------------------- */

static void account(struct greq *req, u32 good)
{
	struct core_counters *c = &req->link->core->count;
	struct session *s = req->extent->s;

	if (req->op == MEMX_OP_STORE) {
		c->stores += good;
		c->store_errors += req->count - good;
		s->stores += good;
	} else {
		c->discards += good;
		c->discard_errors += req->count - good;
		s->discards += good;
	}
}

/* Do the two write the same slot? Slots ascend in each. */
static bool share_a_slot(const struct greq *a, const struct greq *b)
{
	u32 i = 0, k = 0;

	while (i < a->count && k < b->count) {
		if (slot_of(a, i) == slot_of(b, k))
			return true;
		if (slot_of(a, i) < slot_of(b, k))
			i++;
		else
			k++;
	}
	return false;
}

/* What came before it and is not answered yet: a donor may have this one, and not that. */
static void pass_others(const struct greq *req)
{
	struct list *pos;

	list_for_each(pos, &req->extent->writes) {
		struct greq *other = list_entry(pos, struct greq, in_extent);

		if (other == req)
			return;
		other->passed |= share_a_slot(other, req);
	}
}

static void store_finish(struct greq *req)
{
	struct extent *x = req->extent;
	struct memx_io io = {
		.extent = memx_put_le32(x->index), .generation = memx_put_le64(x->cur.generation),
		.count = memx_put_le16(req->count),
	};
	struct memx_want want[MEMX_MAX_PAGES];
	struct core_seg seg[2] = { { .base = &io, .len = sizeof(io) } };
	u32 i, good = 0, same = 0, status = MEMX_S_PARTIAL;

	for (i = 0; i < req->count; i++) {
		good += req->status[i] == MEMX_S_OK;
		same += req->status[i] == req->status[0];
		want[i] = (struct memx_want){
			.slot = memx_put_le32(slot_of(req, i)), .status = memx_put_le32(req->status[i]),
			.version = memx_put_le64(version_of(req, i)),
		};
	}
	if (same == req->count) {
		status = req->status[0];
	} else {
		seg[1].base = want;
		seg[1].len = req->count * (u32)sizeof(want[0]);
	}
	account(req, good);
	pass_others(req);
	link_reply(req->link, req->lane, req->op, req->tag, x->s->epoch, status, seg, status == MEMX_S_PARTIAL ? 2 : 1);
	greq_drop(req);
}

void store_fail(struct greq *req, u32 status)
{
	memset(req->status, (int)status, sizeof(req->status));
	store_finish(req);
}

static u8 worse(u8 a, u32 b)
{
	if (a == MEMX_S_OK || (a == MEMX_S_OLD && b != MEMX_S_OK))
		return (u8)b;
	return a;
}

/* A live copy has it, @refused have it not: can somebody else have it in their place? False: no, or that was tried. */
static bool replace(struct greq *req, u64 refused)
{
	struct extent *x = req->extent;

	if (!extent_takes_writes(x))
		return true;		/* the record is changing anyway: looked at again when it has */
	if (req->replaced)
		return false;
	req->replaced = true;
	x->unfit |= refused;
	extent_review(x);
	return true;
}

/* Finishes the request if everybody has it, or if nobody is left to be asked who may. */
static void store_check(struct greq *req)
{
	const struct placement *p = &req->extent->cur;
	bool taken = false;
	u64 refused = 0;
	u32 k;
	u8 i;

	if (!p->generation)
		return;
	for (i = 0; i < p->n; i++) {
		const struct replica *r = &p->r[i];
		u64 bit = r->donor ? bit64(r->donor->index) : 0;

		if (r->state != MEMX_R_LIVE && r->state != MEMX_R_SYNCING)
			continue;
		if (!((req->done | req->refused) & bit)) {
			late_write(req);
			return;
		}
		refused |= req->refused & bit;
		taken |= r->state == MEMX_R_LIVE && req->done & bit;
	}
	if (refused && taken && replace(req, refused))
		return;
	for (k = 0; refused && k < req->count; k++)
		req->status[k] = worse(req->status[k], req->refusal[k]);
	store_finish(req);
}

/* ---- the answers of donors ---------------------------------------------------------------------------------------------------- */

/*
 * May a donor have something newer? All versions are the guest's, each higher than those before it: only where it has sent another
 * write to one of these slots since, which is on its way or was answered already.
 */
static bool may_be_old(const struct greq *req)
{
	const struct list *pos;

	for (pos = req->in_extent.next; pos != &req->extent->writes; pos = pos->next)
		if (share_a_slot(req, list_entry(pos, struct greq, in_extent)))
			return true;
	return req->passed;
}

/*
 * What the donor said of each page. Where it may have something newer, the guest knows whether that is so. A discard leaves nothing to
 * be lost. But a store that it would not take must not be missing there: refused.
 */
static void hear(struct greq *req, struct core_donor *d, const u8 *said)
{
	struct sdonor *sd = &req->extent->s->sd[d->index];
	bool refused = false, lies = false, newer;
	u8 *to;
	u32 i;

	/* All that came later is looked through for that, of which there may be thousands: not where nothing depends on it. */
	newer = req->op == MEMX_OP_STORE && memchr(said, MEMX_S_OLD, req->count) && may_be_old(req);
	for (i = 0; i < req->count && req->op == MEMX_OP_STORE; i++) {
		if (said[i] == MEMX_S_NOSPACE)
			sd->full_until = d->core->now + REFUSED_MS * MS;
		lies |= said[i] == MEMX_S_OLD && !newer;
		refused |= said[i] != MEMX_S_OK && (said[i] != MEMX_S_OLD || !newer);
	}
	if (lies && d->shunned_until <= d->core->now)
		donor_shun(d);
	to = refused ? req->refusal : req->status;
	for (i = 0; i < req->count; i++)
		to[i] = worse(to[i], said[i]);
	if (!refused) {
		req->done |= bit64(d->index);
		return;
	}
	req->refused |= bit64(d->index);
	core_say(d->core, CORE_LOG_WARN, "store-refused", "guest=%s extent=%u donor=%s pages=%u", req->extent->s->name,
		 req->extent->index, d->name, req->count);
}

static void hear_all(struct greq *req, struct core_donor *d, u32 status)
{
	u8 said[MEMX_MAX_PAGES];

	memset(said, (int)status, sizeof(said));
	hear(req, d, said);
}

/* What may befall one page of a store or discard where others fare better. */
static bool may_be_of_a_page(u32 status)
{
	return status == MEMX_S_OK || status == MEMX_S_OLD || status == MEMX_S_NOSPACE || status == MEMX_S_CORRUPT;
}

static int hear_pages(struct greq *req, struct core_donor *d, const struct rbuf *body)
{
	u8 said[MEMX_MAX_PAGES];
	struct memx_want want;
	u32 i;

	for (i = 0; i < req->count; i++) {
		memcpy(&want, body->data + MEMX_IO_LEN + i * sizeof(want), sizeof(want));
		if (memx_le32(want.slot) != slot_of(req, i) || !may_be_of_a_page(memx_le32(want.status)))
			return -EPROTO;
		said[i] = (u8)memx_le32(want.status);
	}
	hear(req, d, said);
	return 1;
}

/* The donor does not hold the extent by the record that it confirmed. */
static int wrong_generation(struct extent *x, struct core_donor *d, u64 held)
{
	if (!extent_takes_writes(x))	/* sent before the change that is under way */
		return 0;
	if (!held || held == x->cur.generation || (held > x->cur.generation && held - x->cur.generation >= 1ULL << 32))
		return -EPROTO;
	if (held < x->cur.generation) {
		extent_replica_failed(x, d, MEMX_S_GENERATION);
		return 0;
	}
	/* Its listing had nothing newer, and it has confirmed this record since: believed a few times, or the store never ends. */
	if (fence_broken(x->s, d))
		return -EPROTO;
	extent_newer(x, held);
	return 0;
}

/* A donor that takes nothing by its deadline is as good as away, also if it says so every time. */
static int put_off(struct greq *req, const struct core_donor *d)
{
	const struct relay_core *core = req->link->core;
	u64 since = req->put_off_at > core->judge_from ? req->put_off_at : core->judge_from;

	if (!(req->put_off & bit64(d->index))) {
		req->put_off |= bit64(d->index);
		req->put_off_at = core->now;
	} else if (core->now - since >= core->cfg.donor_timeout_ns) {
		req->put_off &= ~bit64(d->index);
		return -EPROTO;
	}
	extent_later(req->extent);
	return 0;
}

/*
 * What the answer says about the replica. 1: it is settled for this donor; 0: it is not; -EPROTO: no donor may answer that.
 * Only who says that it has not got the extent, or has it by an older record, has lost its copy. Nothing else may cost a copy,
 * which could be the last: the donor loses its connection, and what it must have waits as for any donor that is away.
 */
static int settled(struct greq *req, struct core_donor *d, u32 status, u64 held)
{
	struct extent *x = req->extent;

	switch (status) {
	case MEMX_S_CORRUPT:
		if (++req->tries <= DONOR_MAX_RETRIES) {
			extent_later(x);
			return 0;
		}
		__attribute__((fallthrough));
	case MEMX_S_OK:
	case MEMX_S_OLD:
	case MEMX_S_NOSPACE:
		hear_all(req, d, status);
		return 1;
	case MEMX_S_AGAIN:
	case MEMX_S_LIMIT:
		return put_off(req, d);
	case MEMX_S_UNKNOWN:
	case MEMX_S_NOFENCE:
		return fence_denied(x->s, d);
	case MEMX_S_FENCED:
	case MEMX_S_SUPERSEDED:
		session_fenced(x->s, d, status);
		return 0;
	case MEMX_S_GENERATION:
		return wrong_generation(x, d, held);
	case MEMX_S_ABSENT:
		if (held)
			return -EPROTO;
		extent_replica_failed(x, d, status);
		return 0;
	default:
		return -EPROTO;
	}
}

static int store_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct greq *req = dop->req;
	struct core_donor *d = dop->donor;
	struct memx_io io = { 0 };
	int ret;

	list_del(&dop->in_req);
	req->out &= ~bit64(d->index);
	if (status == S_LOST) {
		req->put_off &= ~bit64(d->index);
		req->link->core->count.resends++;
		extent_review(req->extent);
		return 0;
	}
	if (head->len >= sizeof(io)) {
		memcpy(&io, body->data, sizeof(io));
		if (memx_check_io_reply(head, &io, req->extent->index, req->count))
			return -EPROTO;
	} else if (head->len || status == MEMX_S_OK || status == MEMX_S_PARTIAL) {
		return -EPROTO;		/* a refusal of the whole may be empty */
	}
	ret = status == MEMX_S_PARTIAL ? hear_pages(req, d, body) : settled(req, d, status, memx_le64(io.generation));
	if (ret > 0) {
		if (status == MEMX_S_OK || status == MEMX_S_PARTIAL)
			d->stores += req->count;
		store_check(req);
	}
	return ret < 0 ? ret : 0;
}

/* ---- out to the donors -------------------------------------------------------------------------------------------------------- */

static void store_ask(struct greq *req, struct core_donor *d)
{
	struct extent *x = req->extent;
	struct dop *dop = dop_new(d, req->op, DOP_STORE, store_done);
	struct memx_io io = { .extent = memx_put_le32(x->index), .count = memx_put_le16(req->count) };

	memcpy(dop->small, &io, sizeof(io));
	dop->small_len = sizeof(io);
	dop->body = rbuf_get(req->body);
	dop->body_off = MEMX_IO_LEN;
	dop->body_len = (req->op == MEMX_OP_STORE ? memx_store_len(req->count) : memx_want_len(req->count)) - MEMX_IO_LEN;
	dop->session = x->s;
	dop->extent = x;
	dop->req = req;
	dop->epoch = x->s->epoch;
	list_add_tail(&dop->in_session, &x->s->dops);
	list_add_tail(&dop->in_req, &req->dops);
	req->out |= bit64(d->index);
	req->asked_at = x->s->core->now;
	donor_queue(dop);
}

bool store_send(struct greq *req)
{
	struct extent *x = req->extent;
	bool all = true;
	u8 i;

	for (i = 0; i < x->cur.n; i++) {
		const struct replica *r = &x->cur.r[i];

		if (r->state != MEMX_R_LIVE && r->state != MEMX_R_SYNCING)
			continue;
		if (r->donor && (req->done | req->refused | req->out) & bit64(r->donor->index))
			continue;
		if (r->donor && replica_usable(x->s, r))
			store_ask(req, r->donor);
		else
			all = false;
	}
	if (all)
		store_check(req);	/* the record may have lost the one that was waited for */
	else
		late_write(req);
	return all;
}

void store_recall(struct extent *x)
{
	struct list *pos, *dpos, *dtmp;

	list_for_each(pos, &x->writes) {
		struct greq *req = list_entry(pos, struct greq, in_extent);

		list_for_each_safe(dpos, dtmp, &req->dops) {
			struct dop *dop = list_entry(dpos, struct dop, in_req);

			if (dop->sent)
				continue;
			req->out &= ~bit64(dop->donor->index);
			dop_cancel(dop);
		}
	}
}

/* ---- in from the guest -------------------------------------------------------------------------------------------------------- */

static u64 page_check(const struct core_link *link, const struct memx_page *page, const void *bytes)
{
	return memx_check(link->session->seed, memx_le32(page->slot), memx_le64(page->trailer.version), bytes);
}

/* @len bytes that begin @off bytes behind the beginning of a body in two pieces. */
static void body_copy(u8 *to, const u8 *first, u32 first_len, const u8 *second, u32 off, u32 len)
{
	u32 part = off < first_len ? first_len - off : 0;

	if (part > len)
		part = len;
	if (part)
		memcpy(to, first + off, part);
	if (len > part)
		memcpy(to + part, second + (off + part - first_len), len - part);
}

/*
 * Copies the @count pages that begin @at bytes into the body, and computes link->check[] of them. The one that lies in both pieces,
 * and with it may be misaligned, is copied before it is checked.
 */
static void pages_copy(struct core_link *link, u8 *body, u32 at, u32 count, const u8 *first, u32 first_len, const u8 *second)
{
	const struct memx_page *desc = (const struct memx_page *)(body + MEMX_IO_LEN);
	struct memx_check_page page[MEMX_MAX_PAGES];
	u32 of[MEMX_MAX_PAGES], n = 0, i;

	for (i = 0; i < count; i++, at += MEMX_PAGE_SIZE) {
		if (at < first_len && at + MEMX_PAGE_SIZE > first_len) {
			body_copy(body + at, first, first_len, second, at, MEMX_PAGE_SIZE);
			link->check[i] = page_check(link, &desc[i], body + at);
			continue;
		}
		page[n] = (struct memx_check_page){
			.slot = memx_le32(desc[i].slot), .version = memx_le64(desc[i].trailer.version), .to = body + at,
			.from = at < first_len ? first + at : second + (at - first_len),
		};
		of[n++] = i;
	}
	memx_copy_checks(link->session->seed, page, n);
	for (i = 0; i < n; i++)
		link->check[of[i]] = page[i].check;
}

void core_link_body(struct core_link *link, const struct memx_head *head, struct rbuf *body, const void *first, u32 first_len,
		    const void *second)
{
	u32 count = head->len < MEMX_IO_LEN ? 0 : (head->len - MEMX_IO_LEN) / (u32)(sizeof(struct memx_page) + MEMX_PAGE_SIZE);
	u32 at = head->len;

	link->read = NULL;
	if (head->op == MEMX_OP_STORE && !head->reply && count && count <= MEMX_MAX_PAGES && head->len == memx_store_len(count) &&
	    link->state == LINK_ATTACHED) {
		at -= count * MEMX_PAGE_SIZE;
		link->read = body;
	}
	body_copy(body->data, first, first_len, second, 0, at);
	if (link->read)
		pages_copy(link, body->data, at, count, first, first_len, second);
}

/* Do the bytes match their checks? */
static bool intact(const struct core_link *link, const struct rbuf *body, u32 count)
{
	const struct memx_page *page = (const struct memx_page *)(body->data + MEMX_IO_LEN);
	const u8 *bytes = (const u8 *)&page[count];
	u32 i;

	for (i = 0; i < count; i++, bytes += MEMX_PAGE_SIZE) {
		u64 check = link->read == body ? link->check[i] : page_check(link, &page[i], bytes);

		if (page_sealed(&page[i].trailer) || check != memx_le64(page[i].trailer.check))
			return false;
	}
	return true;
}

static void refuse(struct core_link *link, unsigned int lane, const struct memx_head *head, const struct rbuf *body, u32 status)
{
	struct memx_io io = { .extent = io_of(body)->extent, .count = io_of(body)->count };
	struct core_seg seg = { .base = &io, .len = sizeof(io) };

	link_reply(link, lane, head->op, head->tag, head->epoch, status, &seg, 1);
}

void store_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = link->session;
	const void *list = body ? body->data + MEMX_IO_LEN : NULL;
	int count = body ? memx_check_io(head, io_of(body), MEMX_MAX_PAGES) : -EINVAL;
	struct extent *x;
	struct greq *req;
	u32 extent;

	if (count > 0) {
		extent = memx_le32(io_of(body)->extent);
		if (head->op == MEMX_OP_STORE ? memx_check_pages(list, (u32)count, extent, s->order, s->slots) :
						memx_check_wants(list, (u32)count, extent, s->order, s->slots))
			count = -EINVAL;
	}
	if (count <= 0) {
		link_violation(link, lane, "malformed %s", head->op == MEMX_OP_STORE ? "store" : "discard");
		return;
	}
	if (head->op == MEMX_OP_STORE && !intact(link, body, (u32)count)) {
		link->core->count.guest_corrupt++;
		core_say(link->core, CORE_LOG_WARN, "guest-corrupt", "guest=%s extent=%u pages=%d", link->conf.name, extent, count);
		refuse(link, lane, head, body, MEMX_S_CORRUPT);
		return;
	}
	x = &s->extent[extent];
	req = greq_new(link, lane, head, body, (u32)count);
	req->extent = x;
	x->stored_at = link->core->now;
	list_add_tail(&req->in_extent, &x->writes);
	if (head->op == MEMX_OP_DISCARD && x->state == X_NONE && x->writes.next == &req->in_extent)
		store_fail(req, MEMX_S_OK);	/* nothing was ever stored here: nothing to discard */
	else if (x->state == X_NONE || (x->state == X_STEADY && (!extent_takes_writes(x) || !store_send(req))))
		extent_review(x);
}
