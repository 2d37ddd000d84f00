// SPDX-License-Identifier: GPL-2.0-only
/*
 * receive.c - the way back: from a frame in a ring to the end of an item. lane.h tells who works and which lock guards what.
 *
 * Pure: compiled in the kernel, under KUnit and in user space. Everything that the relay says is looked at in a private copy
 * and held against the table of requests; what does not fit ends the channel, and only that: the requests stay and travel
 * again over the next.
 */
#include "lane.h"

/* Definite errors of one page before it is believed lost: each is a tick apart, so a passing state of the relay heals. */
#define TRIES_MAX	8

static void count(struct memx_engine *e, enum memx_counter what, u64 n)
{
	if (n)
		e->ops->count(e->ctx, what, n);
}

void memx_lane_lost(struct memx_lane *l, const char *violation)
{
	struct memx_engine *e = l->engine;
	unsigned long flags;
	bool news;

	memx_lock(&l->lock, flags);
	news = l->up && !l->failed;
	memx_store_once(&l->failed, true);
	l->go = false;
	memx_unlock(&l->lock, flags);
	if (!news)
		return;
	if (violation) {
		count(e, MEMX_C_violations, 1);
		e->ops->violation(e->ctx, l->index, violation);
	}
	memx_lock(&e->lock, flags);
	memx_engine_act(e, memx_attach_lost(&e->attach, e->ops->now(e->ctx)));
	memx_unlock(&e->lock, flags);
	e->ops->wake_session(e->ctx);
}

/* ---- ends of items, under the lock of their lane ---- */

enum verdict {
	V_DONE,		/* it ends, with item->error */
	V_PARK,		/* again at the next tick */
	V_SESSION,	/* again over the next attachment: this one is void */
};

/* Is @status about the session rather than about the page? */
static bool void_session(u32 status)
{
	return status == MEMX_S_FENCED || status == MEMX_S_NOFENCE || status == MEMX_S_SUPERSEDED ||
	       status == MEMX_S_DENIED || status == MEMX_S_UNKNOWN;
}

/* Will it pass by itself? Then the page waits, for as long as it takes. */
static bool passing(u32 status)
{
	return status == MEMX_S_AGAIN || status == MEMX_S_IO || status == MEMX_S_LIMIT || status == MEMX_S_DRAINING ||
	       status == MEMX_S_GENERATION || status == MEMX_S_NODONOR;
}

static enum verdict again_or(struct memx_item *item, u32 status, int err)
{
	if (void_session(status))
		return V_SESSION;
	if (passing(status) || ++item->tries < TRIES_MAX)
		return V_PARK;
	item->error = err;
	return V_DONE;
}

static enum verdict end_store(struct memx_lane *l, struct memx_item *item, u32 status)
{
	struct memx_engine *e = l->engine;
	enum verdict v = V_DONE;

	memx_assert_held(&l->lock);
	item->error = 0;
	if (status == MEMX_S_OK) {
		if (!memx_slot_acked(&e->slots, item->slot, item->version, item->check, 0)) {
			count(e, MEMX_C_stores, 1);
			return V_DONE;
		}
		memx_warn_once(true);
		item->error = -EIO;
	} else if (status == MEMX_S_NOSPACE) {
		item->error = -ENOSPC;
		count(e, MEMX_C_nospace, 1);
	} else {
		v = again_or(item, status, -EIO);
	}
	if (v != V_DONE)
		return v;
	memx_slot_failed(&e->slots, item->slot);
	if (item->error != -ENOSPC)
		count(e, MEMX_C_store_errors, 1);
	return V_DONE;
}

static enum verdict end_discard(struct memx_lane *l, struct memx_item *item, u32 status)
{
	enum verdict v;

	memx_assert_held(&l->lock);
	item->error = 0;
	/* UNKNOWN: the session is freed, with this page. Should it be void for another reason, the next store or fetch is told. */
	if (status == MEMX_S_OK || status == MEMX_S_OLD || status == MEMX_S_ABSENT || status == MEMX_S_UNKNOWN) {
		count(l->engine, MEMX_C_discards, 1);
		return V_DONE;
	}
	v = again_or(item, status, -EIO);
	if (v == V_DONE)
		memx_slot_undiscarded(&l->engine->slots, item->slot, item->version);
	return v;
}

static enum verdict end_fetch(struct memx_lane *l, struct memx_item *item, u32 status)
{
	struct memx_engine *e = l->engine;
	enum verdict v;

	item->error = 0;
	if (status == MEMX_S_OK) {
		count(e, MEMX_C_fetches, 1);
		return V_DONE;
	}
	if (status == MEMX_S_CORRUPT)
		count(e, MEMX_C_corrupt, 1);
	v = again_or(item, status, -EIO);
	if (v == V_DONE) {
		count(e, MEMX_C_fetch_errors, 1);
		e->ops->bad_page(e->ctx, item->slot, item->version, status);
	}
	return v;
}

void memx_lane_release(struct memx_lane *l, u32 slot, struct list_head *again)
{
	struct memx_item *item, *next;

	memx_assert_held(&l->lock);
	list_for_each_entry_safe(item, next, &l->held, node)
		if (item->slot == slot)
			list_move_tail(&item->node, again);
}

/* Deals with the answer to @r, which was read and consumed. False: the session is void. */
static bool end_request(struct memx_lane *l, struct memx_req *r)
{
	struct memx_engine *e = l->engine;
	struct memx_item *item, *next;
	struct list_head done, again;
	unsigned long flags;
	u32 i, push = 0, retries = 0;
	bool good = true;

	INIT_LIST_HEAD(&done);
	INIT_LIST_HEAD(&again);
	memx_lock(&l->lock, flags);
	for (i = r->count; i--; ) {
		enum verdict v;

		item = r->item[i];
		if (!item)
			continue;
		if (r->op == MEMX_OP_STORE)
			v = end_store(l, item, l->status[i]);
		else if (r->op == MEMX_OP_DISCARD)
			v = end_discard(l, item, l->status[i]);
		else
			v = end_fetch(l, item, l->status[i]);
		switch (v) {
		case V_DONE:
			list_add(&item->node, &done);
			if (r->op == MEMX_OP_STORE && !list_empty(&l->held))
				memx_lane_release(l, item->slot, &again);
			break;
		case V_PARK:
			list_add(&item->node, &l->parked);
			retries++;
			break;
		case V_SESSION:
			memx_reqs_requeue(&l->reqs, item);
			good = false;
			break;
		}
	}
	memx_reqs_end(&l->reqs, r);
	memx_unlock(&l->lock, flags);

	if (retries) {
		count(e, MEMX_C_retries, retries);
		e->ops->wake_session(e->ctx);
	}
	list_for_each_entry_safe(item, next, &again, node) {
		list_del_init(&item->node);
		push |= memx_engine_route(e, item, &done);
	}
	memx_engine_finish(e, &done);
	memx_engine_push(e, push & ~(1U << l->index));
	return good;
}

/* ---- frames ---- */

static const char *owe(struct memx_lane *l, const struct memx_head *head, u32 status, u16 proto)
{
	unsigned long flags;
	bool room;

	memx_lock(&l->lock, flags);
	room = l->n_owed < sizeof(l->owed) / sizeof(l->owed[0]);
	if (room) {
		struct memx_owed *o = &l->owed[l->n_owed++];

		memset(o, 0, sizeof(*o));
		o->head.op = head->op;
		o->head.reply = true;
		o->head.status = status;
		o->head.tag = head->tag;
		o->head.epoch = head->epoch;
		o->proto = proto;
	}
	memx_unlock(&l->lock, flags);
	return room ? NULL : "more requests of its own than agreed";
}

/*
 * Is the channel lost already, as another lane found? What the relay says about it on this one comes late then, and is no breach of
 * anything. Returned for it is what ends a lane without a word.
 */
static const char *too_late(const struct memx_engine *e)
{
	memx_assert_held(&e->lock);
	return e->attach.offer ? NULL : "";
}

static const char *on_hello(struct memx_lane *l, const struct memx_head *head)
{
	struct memx_engine *e = l->engine;
	struct memx_hello hello;
	unsigned long flags;
	const char *late;
	u16 proto = 0;
	int ret;

	if (head->len != sizeof(hello))
		return "a HELLO of the wrong length";
	memx_vring_peek(l->ring, MEMX_HDR_LEN, &hello, sizeof(hello));
	memx_lock(&e->lock, flags);
	late = too_late(e);
	ret = memx_attach_hello(&e->attach, l->index, &hello, &proto);
	if (ret > 0)
		memx_engine_act(e, (u32)ret);
	memx_unlock(&e->lock, flags);
	if (ret < 0)
		return late ? late : "a HELLO that does not belong to this offer";
	if (ret)
		e->ops->wake_session(e->ctx);
	return owe(l, head, proto ? MEMX_S_OK : MEMX_S_PROTO, proto);
}

/* Takes @n records of @epoch, which must be the current one, with the map of it handed over. */
static bool take_records(struct memx_lane *l, u64 epoch, const struct memx_record *recs, u32 n, int *err)
{
	struct memx_engine *e = l->engine;
	unsigned long flags;
	bool welcome;

	*err = -EINVAL;
	memx_lock(&l->lock, flags);
	/* Looked at under the lock: what is counted for ATTACH and copied for MAP does not change meanwhile. */
	welcome = memx_load_once(&e->mapped) && epoch == memx_load_once(&e->epoch);
	if (welcome && !memx_load_acquire(&e->sizing) && e->records.rec)
		*err = memx_records_take(&e->records, recs, n);
	memx_unlock(&l->lock, flags);
	return welcome;
}

static const char *on_record(struct memx_lane *l, const struct memx_head *head)
{
	struct memx_engine *e = l->engine;
	const struct memx_record *recs = l->rx_bounce;
	struct memx_records body = {};
	int n, i, err;

	if (head->len >= sizeof(body))
		memx_vring_peek(l->ring, MEMX_HDR_LEN, &body, sizeof(body));
	n = memx_check_records(head, &body);
	if (n <= 0)
		return "a RECORD of the wrong shape";
	memx_vring_peek(l->ring, MEMX_HDR_LEN + sizeof(body), l->rx_bounce, (u32)n * (u32)sizeof(*recs));
	for (i = 0; i < n; i++)
		if (memx_engine_store_lane(e, memx_le32(recs[i].extent)) != l)
			return "a RECORD on another lane than its extent's";
	if (!take_records(l, head->epoch, recs, (u32)n, &err))
		return "a RECORD outside of its epoch";
	if (!err)
		count(e, MEMX_C_records, (u64)n);
	return owe(l, head, err ? MEMX_S_INVALID : MEMX_S_OK, 0);
}

static const char *on_attached(struct memx_lane *l, const struct memx_head *head)
{
	struct memx_engine *e = l->engine;
	struct memx_attached body = {};
	unsigned long flags;
	const char *late;
	int ret;

	if (head->len >= sizeof(body))
		memx_vring_peek(l->ring, MEMX_HDR_LEN, &body, sizeof(body));
	if (head->status == MEMX_S_OK && head->len != sizeof(body))
		return "an answer to ATTACH of the wrong length";
	memx_lock(&e->lock, flags);
	late = too_late(e);
	/*
	 * Nothing was asked before ATTACH went out, with this epoch in its tag and its header: until then the states are at this
	 * epoch already and the frames at the one before. A refusal may come before the map went out; a grant that has not seen
	 * the map cannot be.
	 */
	ret = head->tag == head->epoch && head->tag == e->epoch && (head->status != MEMX_S_OK || memx_load_once(&e->mapped)) ?
	      memx_attach_reply(&e->attach, head->status, &body, head->epoch, e->ops->now(e->ctx)) : -EPROTO;
	if (ret > 0)
		memx_engine_act(e, (u32)ret);
	memx_unlock(&e->lock, flags);
	if (ret < 0)
		return late ? late : "an answer to ATTACH that was not asked for, or cannot be";
	e->ops->wake_session(e->ctx);
	return NULL;
}

static const char *on_detached(struct memx_lane *l, const struct memx_head *head)
{
	struct memx_engine *e = l->engine;
	unsigned long flags;

	if (head->epoch != memx_load_once(&e->epoch) || head->tag != head->epoch)
		return "an answer to DETACH that was not asked for";
	memx_lock(&e->lock, flags);
	memx_engine_act(e, memx_attach_detached(&e->attach, memx_status_known(head->status), e->ops->now(e->ctx)));
	memx_unlock(&e->lock, flags);
	e->ops->wake_session(e->ctx);
	return NULL;
}

static const char *on_request(struct memx_lane *l, const struct memx_head *head)
{
	switch (head->op) {
	case MEMX_OP_HELLO:
		return on_hello(l, head);
	case MEMX_OP_RECORD:
		return on_record(l, head);
	case MEMX_OP_PING:
		return owe(l, head, MEMX_S_OK, 0);
	default:
		return owe(l, head, MEMX_S_OP, 0);
	}
}

/*
 * The next frame is there in full: reads it, gives its room back, deals with it. Returns what is wrong with it, or NULL.
 * The room is given back before the credits are: the relay may write as soon as it sees another request.
 */
static const char *on_frame(struct memx_lane *l, const struct memx_head *head, bool *notify)
{
	struct memx_engine *e = l->engine;
	struct memx_req *r = NULL;
	const char *wrong = NULL;
	unsigned long flags;

	if (!head->reply) {
		wrong = on_request(l, head);
	} else if (head->op == MEMX_OP_ATTACH && !l->index) {
		wrong = on_attached(l, head);
	} else if (head->op == MEMX_OP_DETACH && !l->index) {
		wrong = on_detached(l, head);
	} else {
		memx_lock(&l->lock, flags);
		r = head->epoch == memx_load_once(&e->epoch) ? memx_reqs_answer(&l->reqs, head->tag, head->op) : NULL;
		memx_unlock(&l->lock, flags);
		if (!r)
			return "an answer to nothing that was asked";
		if (memx_frame_answer(l->ring, head, r, e->seed, l->rx_bounce, l->status)) {
			memx_lock(&l->lock, flags);
			r->state = MEMX_REQ_SENT;
			memx_unlock(&l->lock, flags);
			return "an answer that does not fit its request";
		}
	}
	if (wrong)
		return wrong;
	*notify |= memx_vring_consume(l->ring, MEMX_HDR_LEN + head->len);
	if (r && !end_request(l, r))
		return "";
	return NULL;
}

/* ---- the reader ---- */

static void peer_check(struct memx_lane *l)
{
	struct memx_engine *e = l->engine;
	enum memx_vchan_client peer = e->ops->peer(e->ctx, l->index);

	/* One that came and left while this CPU did not run was never seen, and is gone all the same. */
	if (peer == MEMX_VCHAN_HERE)
		l->was_live = true;
	else if (peer == MEMX_VCHAN_GONE || l->was_live)
		memx_lane_lost(l, NULL);
}

/* Reads up to *@frames frames as the reader. True: all that is there was read. */
static bool read_frames(struct memx_lane *l, unsigned int *frames)
{
	struct memx_engine *e = l->engine;
	bool notify = false, dry = false;
	const char *wrong = NULL;
	struct memx_head head;
	int ret;

	while (*frames && !wrong && !memx_load_once(&l->failed)) {
		ret = memx_frame_next(l->ring, MEMX_MAX_BODY, &head);
		if (!ret) {
			/* Ask to be woken, then look again: the answer may have come in between. */
			memx_vring_want(l->ring, MEMX_VCHAN_WRITE);
			ret = memx_frame_next(l->ring, MEMX_MAX_BODY, &head);
			dry = !ret;
		}
		if (ret < 0)
			wrong = "indices or a header that cannot be";
		if (ret <= 0)
			break;
		wrong = on_frame(l, &head, &notify);
		--*frames;
	}
	if (notify) {
		count(e, MEMX_C_notifies, 1);
		e->ops->notify(e->ctx, l->index);
	}
	if (wrong)
		memx_lane_lost(l, *wrong ? wrong : NULL);
	return dry || wrong || memx_load_once(&l->failed);
}

static bool receive(struct memx_lane *l, unsigned int frames)
{
	unsigned long flags;
	bool dry, again, waits;

	memx_lock(&l->lock, flags);
	if (!l->up || l->failed || l->rx_owner) {
		l->rx_again = l->rx_owner;
		memx_unlock(&l->lock, flags);
		return false;
	}
	l->rx_owner = true;
	do {
		l->rx_again = false;
		memx_unlock(&l->lock, flags);
		dry = read_frames(l, &frames);
		peer_check(l);
		memx_lock(&l->lock, flags);
		again = l->rx_again && !l->failed;
	} while (again && frames);
	/* There may be nothing to send for long, and then nobody else looks at the ring that takes it. */
	if (!l->tx_owner)
		memx_lane_tx_look(l, &flags);
	l->rx_owner = false;
	l->rx_again = false;
	waits = l->ctl_waits;
	l->ctl_waits = false;
	memx_unlock(&l->lock, flags);
	if (waits)
		l->engine->ops->wake_session(l->engine->ctx);
	return !dry || again;
}

/* Is there anything that could go out? A look without promise: who changes it sends by himself. */
static bool send_due(struct memx_lane *l)
{
	unsigned long flags;
	bool due;

	memx_lock(&l->lock, flags);
	due = l->n_owed || (l->go && l->reqs.n_pending);
	due = due && l->up && !l->failed;
	memx_unlock(&l->lock, flags);
	return due;
}

bool memx_lane_receive(struct memx_lane *l, unsigned int frames)
{
	bool more = receive(l, frames);

	if (l->kind != MEMX_LANE_FETCH)
		return send_due(l) || more;
	if (send_due(l))
		memx_lane_send(l);
	return more;
}

bool memx_lane_work(struct memx_lane *l)
{
	bool more = receive(l, 64);

	memx_lane_send(l);
	return more;
}
