// SPDX-License-Identifier: GPL-2.0-only
/*
 * fence.c - the standing of one session with one donor.
 *
 *	NONE	  nothing confirmed on this connection: no request goes there
 *	FENCING	  FENCE is on its way: from its answer on the donor serves nothing older than our epoch
 *	LISTING	  what the donor holds is compared with the map of the guest: a replica that is not there, or is older than
 *		  the record, is bad; a newer one means that a relay before us died between PLACE and RECORD. So it can be said
 *		  once: after that, nobody but us has proposed anything to a donor that confirmed our fence
 *	READY	  requests of this epoch may go there
 *	STRANGER  it does not know the session. While it is not clear whose that is it stays so: a guest that is refused as a copy
 *		  would leave its epoch and lineage there, and nobody's right to the session is judged by them
 *	REFUSED	  the donor does not want the session, or says that it is somebody else's; asked again with its next connection, or
 *		  in a moment where it just had too much to do
 *
 * A new connection begins at NONE. The same for sessions that are being freed, except that DETACH follows the fence.
 */
#include "internal.h"

static void listing_begin(struct session *s, struct core_donor *d);

static void counted_end(struct session *s, struct sdonor *sd)
{
	if (!sd->counted)
		return;
	sd->counted = false;
	s->attach_pending--;
	session_step(s);
}

/* It was worth waiting for until now: what waits for it, or has a copy there, has to do without. */
void fence_set_aside(struct session *s, struct core_donor *d, u32 status)
{
	struct sdonor *sd = &s->sd[d->index];

	sd->state = SD_REFUSED;
	sd->status = (u8)status;
	counted_end(s, sd);
	session_review_all(s);
}

static void detached(struct session *s, struct core_donor *d)
{
	s->sd[d->index].detached = true;
	s->sd[d->index].reserved = 0;
	session_step(s);
}

/*
 * Does a lineage that the guest does not present come from before its last granted ATTACH? Then nobody took the session over:
 * the donor was away while the guest was suspended more often than it can remember. It is of no use, and no judge.
 */
static bool slept(const struct session *s, const struct sdonor *sd)
{
	return sd->fence_epoch && sd->fence_epoch <= s->known_epoch;
}

/* Nothing of an attach that is refused is to stay at donors. One of a new swap area has no other guest that could have it. */
static bool may_make(const struct session *s)
{
	return s->state == SESSION_ATTACHED || (s->state == SESSION_ATTACHING && (s->vouched || (!s->frozen && !s->placed)));
}

static void fence_unknown(struct session *s, struct core_donor *d)
{
	if (may_make(s)) {		/* meanwhile */
		fence_open(s, d);
		return;
	}
	s->sd[d->index].state = SD_STRANGER;
	counted_end(s, &s->sd[d->index]);
}

/*
 * Is it this guest's, as far as those know that can be heard? Where one says no, another one has to say yes first: of those that
 * are away, not of those that have never heard of it.
 */
static bool vouched(const struct session *s)
{
	bool denied = false, confirmed = false;
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct sdonor *sd = &s->sd[i];

		if (!s->core->donor[i])
			continue;
		confirmed |= sd->state == SD_READY;
		denied |= sd->state == SD_REFUSED && (sd->status == MEMX_S_FENCED || sd->status == MEMX_S_SUPERSEDED);
	}
	return confirmed || !denied;
}

bool fence_strangers(struct session *s)
{
	bool any = false;
	u32 i;

	s->vouched = vouched(s);
	for (i = 0; s->vouched && i < CORE_MAX_DONORS; i++) {
		if (!s->core->donor[i] || s->sd[i].state != SD_STRANGER)
			continue;
		s->sd[i].counted = true;
		s->attach_pending++;
		fence_open(s, s->core->donor[i]);
		any = true;
	}
	return any;
}

static void fence_refused(struct session *s, struct core_donor *d, u32 status)
{
	const struct sdonor *sd = &s->sd[d->index];

	if (s->state == SESSION_FREEING) {
		s->sd[d->index].state = SD_REFUSED;
		if (status == MEMX_S_UNKNOWN || status == MEMX_S_FENCED || status == MEMX_S_SUPERSEDED)
			detached(s, d);		/* not known there, or not ours any more */
		else
			session_step(s);	/* asked again a moment later; a guest does not wait for that */
		return;
	}
	if (status == MEMX_S_UNKNOWN && sd->looking) {
		fence_unknown(s, d);
		return;
	}
	if (status == MEMX_S_FENCED || (status == MEMX_S_SUPERSEDED && !slept(s, sd))) {
		session_fenced(s, d, status);
		return;
	}
	core_say(s->core, CORE_LOG_WARN, "fence-refused", "guest=%s donor=%s status=%s epoch=%llu donor_epoch=%llu%s", s->name,
		 d->name, status_word(status), (unsigned long long)s->epoch, (unsigned long long)sd->fence_epoch,
		 status == MEMX_S_SUPERSEDED ? " hint=\"it was away for more suspends of the guest than the guest remembers; "
		 "what it holds of the session is of no use\"" : "");
	fence_set_aside(s, d, status == MEMX_S_SUPERSEDED ? MEMX_S_UNKNOWN : status);
}

/*
 * Who took the session over has a higher epoch: at our own it is a younger connection of ours that has the fence, over another entry
 * which leads to the same donor, and which is gone. The next one is the youngest. A donor that says so again may mean anything.
 */
static bool fenced_by_us(struct session *s, struct core_donor *d, u32 status)
{
	if (status != MEMX_S_FENCED || s->sd[d->index].fence_epoch != s->epoch || s->core->now < d->renew_at)
		return false;
	d->renew_at = s->core->now + RENEW_MS * MS;
	donor_fail(d, "a younger connection of ours has its fence");
	return true;
}

static int fence_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = dop->session;
	struct core_donor *d = dop->donor;
	struct sdonor *sd = &s->sd[d->index];
	struct memx_fenced f;

	if (status == S_LOST)
		return 0;
	memset(&f, 0, sizeof(f));
	if (head->len == sizeof(f))
		memcpy(&f, body->data, sizeof(f));
	else if (head->len || status == MEMX_S_OK)
		return -EPROTO;
	sd->fence_epoch = memx_le64(f.epoch);
	sd->fence_extents = memx_le32(f.extents);
	if (status != MEMX_S_OK) {
		if (!fenced_by_us(s, d, status))
			fence_refused(s, d, status);
		return 0;
	}
	sd->looking = false;
	sd->handle = memx_le32(f.session);
	sd->held = memx_le32(f.extents);
	sd->reserved = memx_le64(f.pages_reserved);
	if (!sd->handle)
		return -EPROTO;
	if (s->state == SESSION_FREEING)
		fence_detach(s, d);
	else
		listing_begin(s, d);
	return 0;
}

static struct dop *session_dop(struct session *s, struct core_donor *d, u16 op, dop_done done)
{
	struct dop *dop = dop_new(d, op, DOP_CONTROL, done);

	dop->session = s;
	dop->epoch = s->epoch;
	list_add_tail(&dop->in_session, &s->dops);
	return dop;
}

static void fence_send(struct session *s, struct core_donor *d, dop_done done)
{
	struct memx_fence body = { .slots = memx_put_le32(s->state == SESSION_FREEING ? 0 : s->slots), .extent_order = s->order };
	struct dop *dop = session_dop(s, d, MEMX_OP_FENCE, done);
	int i;

	memcpy(body.vm, s->vm, sizeof(body.vm));
	memcpy(body.session, s->id, sizeof(body.session));
	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		body.lineage[i] = memx_put_le64(s->lineage[i]);
	if (may_make(s))
		body.flags = MEMX_FENCE_CREATE;
	s->sd[d->index].looking = s->state == SESSION_ATTACHING && !body.flags;
	s->sd[d->index].slots = s->slots;
	memcpy(dop->small, &body, sizeof(body));
	dop->small_len = sizeof(body);
	donor_queue(dop);
}

/* It is told from the beginning when the donor is ready again. */
static void retain_over(struct sdonor *sd)
{
	sd->retained = false;
	sd->retain_waits = false;
	sd->retain_tag = 0;
}

void fence_open(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];

	sd->state = SD_FENCING;
	retain_over(sd);
	fence_send(s, d, fence_done);
}

/* What it had confirmed it denies. True: that was once too often; now and then is forgiven. */
bool fence_broken(struct session *s, const struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];
	u64 forgiven = (s->core->now - sd->denied_at) / (DENIAL_FORGIVEN_MS * MS);

	sd->denials -= forgiven < sd->denials ? (u32)forgiven : sd->denials;
	sd->denied_at = s->core->now;
	return ++sd->denials > DONOR_MAX_DENIALS;
}

/* It confirmed the fence, and now knows nothing of it (UNKNOWN, NOFENCE). -EPROTO: that was once too often. */
int fence_denied(struct session *s, struct core_donor *d)
{
	if (s->sd[d->index].state != SD_READY)
		return 0;		/* it is asked already */
	if (fence_broken(s, d))
		return -EPROTO;
	fence_open(s, d);
	return 0;
}

static int resize_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	(void)head;
	(void)body;
	if (status != MEMX_S_OK && status != S_LOST)
		fence_refused(dop->session, dop->donor, status);
	return 0;
}

/* The donor was fenced with the size that was asked for; it must know the one that was granted before anything is placed there. */
void fence_resize(struct session *s, struct core_donor *d)
{
	if (s->sd[d->index].slots != s->slots)
		fence_send(s, d, resize_done);
}

/* ---- comparing what is held ------------------------------------------------------------------------------------------------- */

static struct replica *replica_of(struct extent *x, const struct core_donor *d)
{
	int i = placement_find(&x->cur, d);

	return i < 0 ? NULL : &x->cur.r[i];
}

static void listing_end(struct session *s, struct core_donor *d)
{
	u32 i;
	int k;

	for (i = 0; i < s->extents; i++) {
		struct replica *r = replica_of(&s->extent[i], d);

		if (!r || r->seen || r->instance != d->instance)
			continue;
		if (!r->bad && r->state != MEMX_R_STALE)
			core_say(s->core, CORE_LOG_WARN, "replica-missing", "guest=%s extent=%u donor=%s", s->name, i, d->name);
		r->bad = true;
		k = placement_find(&s->extent[i].next, d);
		if (k >= 0)
			s->extent[i].next.r[k].bad = true;
	}
	fence_ready(s, d);
}

/*
 * Held, and not named by the record in effect: a FREE that did not arrive, or a record that never took effect. It is told again.
 * What the guest's map does not name at all, RETAIN gives back as well.
 */
static void not_ours(struct extent *x, struct core_donor *d, u64 generation)
{
	if (placement_find(&x->next, d) >= 0 || x->touched & bit64(d->index))
		return;
	if (generation > x->gen_floor) {
		if (generation - x->gen_floor >= 1ULL << 32)
			return;
		x->gen_floor = generation;
	}
	extent_count(x, -1);
	x->touched |= bit64(d->index);
	extent_count(x, 1);
	extent_review(x);
}

/*
 * -EPROTO: nobody proposed that generation. Every extent that a donor may lift so, whenever it likes, gets a new record, for which
 * stores wait. Not for good: where it lost its memory, and our fence with that, a relay before us may have been there first.
 */
static int listed(struct session *s, struct core_donor *d, u32 extent, u64 generation)
{
	const struct sdonor *sd = &s->sd[d->index];
	struct extent *x = &s->extent[extent];
	struct replica *r = replica_of(x, d);

	if (generation > x->gen_floor && extent < sd->listed && s->core->now - sd->listed_at < LISTED_AGAIN_MS * MS)
		return -EPROTO;
	if (!r) {
		not_ours(x, d, generation);
		return 0;
	}
	if (r->state != MEMX_R_STALE && generation < x->cur.generation)
		return 0;	/* older than the record that the guest acknowledged: as good as missing */
	if (generation - x->cur.generation < 1ULL << 32 && generation > x->gen_floor)
		x->gen_floor = generation;
	r->seen = generation <= x->gen_floor;
	x->confirmed |= r->seen && r->state == MEMX_R_LIVE && r->instance == d->instance;
	return 0;
}

static int list_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body);

static void list_ask(struct session *s, struct core_donor *d)
{
	struct dop *dop = session_dop(s, d, MEMX_OP_LIST, list_done);
	struct {
		struct memx_list list;
		struct memx_extent_ref ref;
	} ask = {
		.list = { .session = memx_put_le32(s->sd[d->index].handle), .count = memx_put_le32(1) },
		.ref = { .extent = memx_put_le32(s->sd[d->index].list_next) },
	};

	memcpy(dop->small, &ask, sizeof(ask));
	dop->small_len = sizeof(ask);
	donor_queue(dop);
}

/* An admin may free a session there in just that moment. Once or twice: stores wait for the listing. */
static bool fence_again(struct session *s, const struct core_donor *d)
{
	return !fence_broken(s, d) && s->sd[d->index].denials <= LIST_MAX_DENIALS;
}

static int list_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = dop->session;
	struct core_donor *d = dop->donor;
	struct sdonor *sd = &s->sd[d->index];
	struct memx_list list;
	struct memx_extent_ref ref;
	bool last = head && head->flags & MEMX_F_LAST;
	u32 i, count;

	if (status == S_LOST || !head)
		return 0;
	if (status != MEMX_S_OK) {
		if ((status == MEMX_S_UNKNOWN || status == MEMX_S_NOFENCE) && fence_again(s, d))
			fence_open(s, d);
		else
			fence_refused(s, d, status);
		return 0;
	}
	if (head->len < sizeof(list))
		return -EPROTO;
	memcpy(&list, body->data, sizeof(list));
	count = memx_le32(list.count);
	if (count > MEMX_MAX_EXTENTS || head->len != memx_list_len(count))
		return -EPROTO;
	/* Stores wait for the listing, so it is not for the donor to choose how many answers it takes. */
	if (count < MEMX_MAX_EXTENTS && !(head->flags & MEMX_F_LAST))
		return -EPROTO;
	for (i = 0; i < count; i++) {
		memcpy(&ref, body->data + sizeof(list) + i * sizeof(ref), sizeof(ref));
		if (memx_le32(ref.extent) < sd->list_next || memx_le32(ref.extent) == ~0U)
			return -EPROTO;		/* not ascending: it would never end */
		if (memx_le32(ref.extent) >= s->extents) {
			last = true;		/* not of this session, nor is what follows: it could go on for ever */
			break;
		}
		sd->list_next = memx_le32(ref.extent) + 1;
		if (listed(s, d, memx_le32(ref.extent), memx_le64(ref.generation)))
			return -EPROTO;
	}
	if (sd->list_next > sd->listed) {
		sd->listed = sd->list_next;
		sd->listed_at = s->core->now;
	}
	if (last)
		listing_end(s, d);
	else
		list_ask(s, d);
	return 0;
}

static void listing_begin(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];
	bool any = false;
	u32 i;

	for (i = 0; i < s->extents; i++) {
		struct replica *r = replica_of(&s->extent[i], d);

		if (r) {
			r->seen = false;
			any = true;
		}
	}
	if (!any && !sd->held) {
		fence_ready(s, d);
		return;
	}
	sd->state = SD_LISTING;
	sd->list_next = 0;
	list_ask(s, d);
}

/* ---- ready ------------------------------------------------------------------------------------------------------------------ */

/* Refused: what was reserved before is what there is. */
void fence_not_reserved(const struct dop *dop)
{
	struct session *s = dop->session;
	struct sdonor *sd = &s->sd[dop->donor->index];
	u64 before = (u64)dop->mask << s->order;

	if (sd->reserved > before)
		sd->reserved = before;
	sd->full_until = s->core->now + FULL_MS * MS;
}

static int reserve_silent(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	(void)body;
	if (status == S_LOST || status == MEMX_S_OK)
		return 0;
	if (head->len)
		return -EPROTO;
	fence_not_reserved(dop);	/* what depends on it is refused as well, and looks for another donor */
	return 0;
}

void fence_reserve(struct session *s, struct core_donor *d, u64 pages, dop_done done)
{
	struct sdonor *sd = &s->sd[d->index];
	struct dop *dop = session_dop(s, d, MEMX_OP_RESERVE, done ? done : reserve_silent);
	struct memx_reserve body = { .session = memx_put_le32(sd->handle), .pages = memx_put_le64(pages) };

	memcpy(dop->small, &body, sizeof(body));
	dop->small_len = sizeof(body);
	dop->mask = (u32)(sd->reserved >> s->order);
	d->reserved += pages - sd->reserved;	/* until the next STAT tells */
	sd->reserved = pages;
	donor_queue(dop);
}

void fence_ready(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];

	sd->state = SD_READY;
	sd->listed = s->extents;
	sd->listed_at = s->core->now;
	counted_end(s, sd);
	if (s->state != SESSION_ATTACHED)
		return;
	fence_resize(s, d);
	if (sd->reserved < (u64)sd->placed << s->order)
		fence_reserve(s, d, (u64)sd->placed << s->order, NULL);
	fence_retain(s, d);
	session_review_all(s);
}

static void retain_piece(struct session *s, struct core_donor *d);

static int retain_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = dop->session;
	struct sdonor *sd = &s->sd[dop->donor->index];
	struct memx_list list;

	if (dop->tag != sd->retain_tag)
		return 0;		/* of a telling that was given up: the fence was opened anew */
	sd->retain_tag = 0;
	if (status != MEMX_S_OK || sd->state != SD_READY)
		return 0;
	if (!(dop->flags & MEMX_F_LAST)) {
		retain_piece(s, dop->donor);
		return 0;
	}
	if (head->len < sizeof(list))
		return 0;
	memcpy(&list, body->data, sizeof(list));
	if (!memx_le32(list.session))
		return 0;
	s->core->count.condemned += memx_le32(list.session);
	core_say(s->core, CORE_LOG_NOTICE, "condemned", "guest=%s donor=%s extents=%u", s->name, dop->donor->name,
		 memx_le32(list.session));
	return 0;
}

/*
 * One frame of it, the next when this one is answered: all at once they may be more than there are buffers. What is placed at
 * the donor meanwhile it spares, told of or not, as what this epoch placed.
 */
static void retain_piece(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];
	struct rbuf *buf = rpool_get(d->pool, memx_list_len(MEMX_MAX_EXTENTS));
	struct memx_list list = { .session = memx_put_le32(sd->handle) };
	u32 i = sd->retain_next, n = 0;
	struct dop *dop;

	sd->retain_waits = !buf;
	if (!buf)
		return;		/* without LAST nothing goes */
	dop = session_dop(s, d, MEMX_OP_RETAIN, retain_done);
	dop->flags = i ? 0 : MEMX_F_FIRST;
	for (; i < s->extents && n < MEMX_MAX_EXTENTS; i++) {
		const struct extent *x = &s->extent[i];
		struct memx_extent_ref ref = { .extent = memx_put_le32(i), .generation = memx_put_le64(x->cur.generation) };

		if (!placement_names(&x->cur, d) && !placement_names(&x->next, d))
			continue;
		memcpy(buf->data + sizeof(list) + n++ * sizeof(ref), &ref, sizeof(ref));
	}
	if (i == s->extents)
		dop->flags |= MEMX_F_LAST;
	list.count = memx_put_le32(n);
	memcpy(buf->data, &list, sizeof(list));
	dop->body = buf;
	dop->body_len = memx_list_len(n);
	sd->retain_next = i;
	sd->retain_tag = dop->tag;
	donor_queue(dop);
}

/*
 * Tells the donor all that the map of this epoch names there: what is older than the epoch and not among it may go. The record
 * in effect and the one proposed both count.
 */
void fence_retain(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];

	if (sd->retained)
		return;
	sd->retained = true;
	sd->retain_next = 0;
	retain_piece(s, d);
}

void fence_retain_again(struct session *s, struct core_donor *d)
{
	if (s->state == SESSION_ATTACHED && s->sd[d->index].retain_waits && s->sd[d->index].state == SD_READY)
		retain_piece(s, d);
}

/* ---- coming and going -------------------------------------------------------------------------------------------------------- */

void fence_donor_down(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];

	sd->state = SD_NONE;
	sd->handle = 0;
	sd->denials = 0;
	retain_over(sd);
	sd->releasing = false;
	counted_end(s, sd);
	session_review_all(s);
}

void fence_donor_up(struct session *s, struct core_donor *d)
{
	if (s->state == SESSION_ATTACHED || (s->state == SESSION_ATTACHING && s->step > ATTACH_DONORS) ||
	    (s->state == SESSION_FREEING && !s->sd[d->index].detached))
		fence_open(s, d);
	else if (s->state == SESSION_ATTACHING)
		session_step(s);
}

/* After such an answer to DETACH the donor has nothing of ours. */
static bool ends_it(u32 status)
{
	return status == MEMX_S_OK || status == MEMX_S_UNKNOWN || status == MEMX_S_FENCED || status == MEMX_S_SUPERSEDED;
}

static int detach_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	(void)body;
	if (status == S_LOST)
		return 0;
	if (head->len || !ends_it(status))
		return -EPROTO;
	dop->session->sd[dop->donor->index].state = SD_NONE;
	detached(dop->session, dop->donor);
	return 0;
}

void fence_detach(struct session *s, struct core_donor *d)
{
	struct dop *dop = session_dop(s, d, MEMX_OP_DETACH, detach_done);
	struct memx_list body = { .session = memx_put_le32(s->sd[d->index].handle) };

	memcpy(dop->small, &body, sizeof(body));
	dop->small_len = sizeof(body);
	donor_queue(dop);
}

static int release_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = dop->session;
	struct core_donor *d = dop->donor;
	struct sdonor *sd = &s->sd[d->index];

	(void)body;
	if (status == S_LOST)
		return 0;
	if (head->len || !ends_it(status))
		return -EPROTO;
	sd->releasing = false;
	sd->reserved = 0;
	sd->held = 0;
	if (!d->leaving)		/* it was added again meanwhile */
		fence_open(s, d);
	return 0;		/* the next tick sees that the donor is needed no more */
}

/* The donor leaves, and no record names it any more: it forgets the session, with reservation and fence. */
bool fence_release(struct session *s, struct core_donor *d)
{
	struct sdonor *sd = &s->sd[d->index];
	struct memx_list body = { .session = memx_put_le32(sd->handle) };
	struct dop *dop;

	if (!donor_ok(d) || sd->state == SD_REFUSED)
		return false;			/* it cannot be told */
	if (sd->state != SD_READY)
		return sd->releasing || sd->state != SD_NONE;
	dop = session_dop(s, d, MEMX_OP_DETACH, release_done);
	memcpy(dop->small, &body, sizeof(body));
	dop->small_len = sizeof(body);
	sd->state = SD_NONE;
	sd->releasing = true;
	sd->listed = 0;			/* with the fence goes what kept others from proposing to it */
	donor_queue(dop);
	return true;
}
