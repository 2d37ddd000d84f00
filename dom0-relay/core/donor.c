// SPDX-License-Identifier: GPL-2.0-only
/*
 * donor.c - one donor: its connection, what is queued for it, and whether it still answers.
 *
 * A connection says HELLO (who are you, which store do you hold), then STAT at once and with every heartbeat. A donor is used
 * from its first STAT on. Stores wait in the core, not in the edge: no more than a window of them is unanswered, so a fetch
 * never waits behind more than that window, and a donor that hangs holds no more memory than that.
 *
 * What repair has under way, stores or pages that are to come, has a window of its own within the other one, which follows the
 * donor's pace: it grows with each answer that comes soon, and halves with each that takes REPAIR_LATE_MS longer than the
 * quickest did. So at a slow donor no store waits behind much of it.
 */
#include "internal.h"

static const char *const state_words[] = {
#define CORE_X(name, word, text) [CORE_DONOR_##name] = word,
	CORE_DONOR_STATE_LIST(CORE_X)
#undef CORE_X
};

static const char *const state_texts[] = {
#define CORE_X(name, word, text) [CORE_DONOR_##name] = text,
	CORE_DONOR_STATE_LIST(CORE_X)
#undef CORE_X
};

const char *core_donor_state_word(enum core_donor_state state)
{
	return state_words[state];
}

const char *core_donor_state_text(enum core_donor_state state)
{
	return state_texts[state];
}

/* Pages of ours, by the maps of the guests that are here; or of anybody, by its own word of its last heartbeat. */
static bool holds_pages(const struct core_donor *d)
{
	const struct list *pos;

	list_for_each(pos, &d->core->sessions)
		if (list_entry(pos, struct session, in_core)->sd[d->index].placed)
			return true;
	return d->last_stat.pages_used != 0;
}

enum core_donor_state donor_state(const struct core_donor *d)
{
	if (d->duplicate)
		return CORE_DONOR_DUPLICATE;
	if (!d->up)
		return CORE_DONOR_CONNECTING;
	if (!d->hello || !d->stat)
		return CORE_DONOR_HELLO;
	if (d->leaving)
		return CORE_DONOR_LEAVING;
	if (d->emptied)
		return holds_pages(d) ? CORE_DONOR_EMPTYING : CORE_DONOR_EMPTIED;
	return d->draining ? CORE_DONOR_DRAINING : CORE_DONOR_USABLE;
}

bool donor_ok(const struct core_donor *d)
{
	return d->up && d->hello && d->stat && !d->dying && !d->duplicate;
}

bool donor_takes(const struct core_donor *d)
{
	return donor_ok(d) && !d->draining && donor_stays(d);
}

bool donor_stays(const struct core_donor *d)
{
	return !d->leaving && !d->emptied;
}

u64 donor_free_pages(const struct core_donor *d)
{
	return d->total > d->reserved ? d->total - d->reserved : 0;
}

bool donor_same_domain(const struct core_donor *a, const struct core_donor *b)
{
	return a == b || (a->domain[0] && !strcmp(a->domain, b->domain));
}

void donor_destroy(struct core_donor *d)
{
	struct relay_core *core = d->core;
	int class;

	list_splice_tail(&d->sent_waited, &d->sent);
	while (!list_empty(&d->sent))
		dop_free(list_first(&d->sent, struct dop, in_donor));
	for (class = 0; class < DOP_CLASSES; class++)
		while (!list_empty(&d->queue[class]))
			dop_free(list_first(&d->queue[class], struct dop, in_donor));
	list_del(&d->in_dying);
	list_del(&d->in_pump);
	core->donor[d->index] = NULL;
	rpool_close(d->pool);
	free(d);
}

/* ---- the queue ------------------------------------------------------------------------------------------------------------- */

void donor_queue(struct dop *dop)
{
	struct core_donor *d = dop->donor;

	list_add_tail(&dop->in_donor, &d->queue[dop->class]);
	if (list_empty(&d->in_pump))
		list_add_tail(&d->in_pump, &d->core->pump);
}

/*
 * The fixed part of a data request is made when it leaves: the handle belongs to the connection, and the generation is the one
 * that the donor holds by then.
 */
static void stamp(struct dop *dop)
{
	struct memx_io *io = (struct memx_io *)dop->small;
	bool fetch = dop->op == MEMX_OP_FETCH;

	if (!dop->extent || (!fetch && dop->op != MEMX_OP_STORE && dop->op != MEMX_OP_DISCARD))
		return;
	io->session = memx_put_le32(dop->session->sd[dop->donor->index].handle);
	io->generation = memx_put_le64(fetch ? extent_fetch_generation(dop->extent) : dop->extent->cur.generation);
}

/* Does a guest's page wait for the answer, or may it? What ends extents or sessions, or copies behind the work, has time. */
static bool waited_for(const struct dop *dop)
{
	switch (dop->op) {
	case MEMX_OP_FREE:
	case MEMX_OP_RETAIN:
	case MEMX_OP_RESERVE:
	case MEMX_OP_DETACH:
	case MEMX_OP_PEERS:
		return false;
	default:
		return dop->class != DOP_REPAIR;
	}
}

/* Bytes that a request of repair moves there or back. */
static u32 repair_share(const struct dop *dop)
{
	if (dop->class != DOP_REPAIR)
		return 0;
	return dop->small_len + (dop->op == MEMX_OP_FETCH ? dop->mask * (u32)MEMX_PAGE_SIZE : dop->body_len);
}

u32 donor_repair_pages(const struct core_donor *d)
{
	u64 pages = d->repair_window / 2 / MEMX_PAGE_SIZE, least = REPAIR_LEAST / MEMX_PAGE_SIZE;

	return pages < least ? (u32)least : pages > MEMX_MAX_PAGES ? MEMX_MAX_PAGES : (u32)pages;
}

static void repair_answered(struct core_donor *d, const struct dop *dop)
{
	const struct relay_core *core = d->core;
	u64 ns = core->now - dop->sent_at, most = core->cfg.donor_bytes / 4;

	if (!dop->share)
		return;
	d->repair_heard = core->now;
	if (dop->sent_at < core->judge_from || core_lags(core))
		return;
	if (!d->repair_base_ns || ns < d->repair_base_ns)
		d->repair_base_ns = ns + 1;
	if (ns < d->repair_base_ns + REPAIR_LATE_MS * MS / 2)
		d->repair_window += dop->share;
	else if (ns > d->repair_base_ns + REPAIR_LATE_MS * MS)
		d->repair_window /= 2;
	if (d->repair_window > most)
		d->repair_window = most;
	if (d->repair_window < REPAIR_LEAST)
		d->repair_window = REPAIR_LEAST;
}

static void emit(struct dop *dop)
{
	struct core_donor *d = dop->donor;
	struct relay_core *core = d->core;
	struct memx_head head = {
		.op = dop->op, .flags = dop->flags, .tag = dop->tag, .epoch = dop->epoch,
		.len = dop->small_len + dop->body_len,
	};
	struct core_seg seg[2];
	struct memx_hdr hdr;
	unsigned int n = 0;

	stamp(dop);
	if (dop->small_len)
		seg[n++] = (struct core_seg){ .base = dop->small, .len = dop->small_len };
	if (dop->body_len)
		seg[n++] = (struct core_seg){ .base = dop->body->data + dop->body_off, .len = dop->body_len, .buf = dop->body };
	memx_hdr_put(&hdr, &head);
	list_del(&dop->in_donor);
	list_add_tail(&dop->in_donor, waited_for(dop) ? &d->sent_waited : &d->sent);
	dop->sent = true;
	dop->sent_at = core->now;
	dop->turn = d->turns++;
	d->unanswered++;
	dop->share = repair_share(dop);
	if (dop->share && !d->repair_bytes && core->now - d->repair_heard > REPAIR_KNOWN_MS * MS && d->repair_window > REPAIR_FIRST)
		d->repair_window = REPAIR_FIRST;
	d->repair_bytes += dop->share;
	if (dop->class >= DOP_STORE) {
		dop->weight = MEMX_HDR_LEN + head.len;
		d->window_bytes += dop->weight;
		d->window_requests++;
	}
	core->ops.donor_send(core->ctx, d->cookie, &hdr, seg, n);
}

static bool window_open(const struct core_donor *d, const struct dop *dop)
{
	const struct core_config *cfg = &d->core->cfg;
	u64 bytes = cfg->donor_bytes;
	u32 requests = cfg->donor_requests;

	if (dop->class < DOP_STORE)
		return true;
	if (dop->class == DOP_REPAIR) {		/* never more than a quarter of the window */
		if (d->repair_bytes && d->repair_bytes + repair_share(dop) > d->repair_window)
			return false;
		bytes /= 4;
		requests = requests / 4 + 1;
	}
	return !d->window_requests ||
	       (d->window_requests < requests && d->window_bytes + dop->small_len + dop->body_len <= bytes);
}

void donor_pump(struct core_donor *d)
{
	int class;

	if (!d->up || d->dying)
		return;
	for (class = 0; class < DOP_CLASSES; class++) {
		while (!list_empty(&d->queue[class])) {
			struct dop *dop = list_first(&d->queue[class], struct dop, in_donor);

			if (!window_open(d, dop))
				return;
			emit(dop);
		}
	}
}

static void window_return(struct dop *dop)
{
	struct core_donor *d = dop->donor;

	if (!dop->sent)
		return;
	d->unanswered--;
	d->repair_bytes -= dop->share;
	if (dop->weight) {
		d->window_bytes -= dop->weight;
		d->window_requests--;
	}
	if (list_empty(&d->in_pump))
		list_add_tail(&d->in_pump, &d->core->pump);
}

/* ---- connection ------------------------------------------------------------------------------------------------------------ */

static int hello_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct core_donor *d = dop->donor;
	struct relay_core *core = d->core;
	static const u8 nobody[16];
	struct memx_hello hello;

	if (status == S_LOST)
		return 0;
	if (status != MEMX_S_OK) {
		donor_fail(d, "refused hello: %s", status_word(status));
		return 0;
	}
	if (head->len != sizeof(hello))
		return -EPROTO;
	memcpy(&hello, body->data, sizeof(hello));
	if (hello.role != MEMX_ROLE_DONOR || memx_le16(hello.proto) < MEMX_PROTO_MIN ||
	    memx_le16(hello.proto) > MEMX_PROTO_MAX || !memcmp(hello.id, nobody, 16))
		return -EPROTO;
	memcpy(d->claimed_id, hello.id, sizeof(d->claimed_id));
	d->claimed_instance = memx_le64(hello.instance);
	donor_learn(d);
	d->features = memx_le64(hello.features) & MEMX_FEATURE_RECLAIM;
	d->peers_told = 0;
	d->tried = true;
	d->hello = true;
	donor_stat(d);
	core_say(core, CORE_LOG_INFO, "donor-hello", "donor=%s id=%s instance=%016llx", d->name, hexid(d->id).s,
		 (unsigned long long)d->instance);
	return 0;
}

void core_donor_address(struct core_donor *d, const u8 address[16], u16 port, u64 now)
{
	core_enter(d->core, now);
	if (d->port != port || memcmp(d->address, address, sizeof(d->address)))
		d->core->peers_version++;
	memcpy(d->address, address, sizeof(d->address));
	d->port = port;
}

void core_donor_up(struct core_donor *d, u64 now)
{
	struct relay_core *core = d->core;
	struct memx_hello hello = {
		.proto_min = memx_put_le16(MEMX_PROTO_MIN), .proto_max = memx_put_le16(MEMX_PROTO_MAX),
		.role = MEMX_ROLE_RELAY, .features = memx_put_le64(MEMX_FEATURE_RECLAIM),
	};
	struct dop *dop;

	core_enter(core, now);
	d->up = true;
	d->hello = false;
	d->stat = false;
	d->stat_out = false;
	d->repair_window = REPAIR_FIRST;
	d->repair_base_ns = 0;
	d->duplicate = false;
	d->up_at = core->now;
	d->last_rx = core->now;
	hello.instance = memx_put_le64(core->cfg.instance);
	memcpy(hello.id, core->cfg.relay_id, sizeof(hello.id));
	dop = dop_new(d, MEMX_OP_HELLO, DOP_CONTROL, hello_done);
	memcpy(dop->small, &hello, sizeof(hello));
	dop->small_len = sizeof(hello);
	donor_queue(dop);
	core_settle(core);
}

/* Everything that waited for an answer learns that none comes. The connection is down before the first of them hears it. */
void donor_teardown(struct core_donor *d)
{
	struct relay_core *core = d->core;
	struct list lost, *pos, *tmp;
	bool was_up = d->up, served = d->stat && !d->duplicate;
	int class;

	list_del(&d->in_dying);
	d->dying = false;
	d->up = false;
	d->hello = false;
	d->stat = false;
	d->asked = 0;
	d->tried = true;
	if (served)		/* a process that hangs, or whatever else is at its address, may take connections for ever */
		d->down_at = core->now;
	if (was_up) {
		d->losses++;
		core->count.donor_losses++;
		if (served || !d->dead)		/* it is tried for ever, but that is not said for ever */
			core_say(core, CORE_LOG_WARN, "donor-down", "donor=%s reason=\"%s\" unanswered=%u", d->name, d->reason,
				 d->unanswered);
	}
	list_init(&lost);
	list_splice_tail(&d->sent_waited, &lost);
	list_splice_tail(&d->sent, &lost);
	for (class = 0; class < DOP_CLASSES; class++)
		list_splice_tail(&d->queue[class], &lost);
	d->unanswered = 0;
	d->window_bytes = 0;
	d->window_requests = 0;
	d->repair_bytes = 0;
	list_for_each(pos, &core->sessions)
		fence_donor_down(list_entry(pos, struct session, in_core), d);
	while (!list_empty(&lost)) {
		struct dop *dop = list_first(&lost, struct dop, in_donor);

		list_del(&dop->in_donor);
		if (dop->done)
			dop->done(dop, S_LOST, NULL, NULL);
		dop_free(dop);
	}
	list_for_each_safe(pos, tmp, &core->sessions)
		session_step(list_entry(pos, struct session, in_core));
	donors_reconsider(core);
}

static void donor_mark(struct core_donor *d)
{
	if (d->dying)
		return;
	d->dying = true;
	list_add_tail(&d->in_dying, &d->core->dying_donors);
}

void donor_fail(struct core_donor *d, const char *fmt, ...)
{
	va_list args;

	if (d->dying || !d->up)
		return;
	va_start(args, fmt);
	vsnprintf(d->reason, sizeof(d->reason), fmt, args);
	va_end(args);
	donor_mark(d);
	d->core->ops.donor_close(d->core->ctx, d->cookie, d->reason);
}

void donor_violation(struct core_donor *d, const char *fmt, ...)
{
	char why[80];
	va_list args;

	if (d->dying || !d->up)
		return;
	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	d->core->count.donor_violations++;
	donor_shun(d);
	donor_fail(d, "protocol: %s", why);
}

/* What it holds it may serve on its next connection; new copies go elsewhere for a while. */
void donor_shun(struct core_donor *d)
{
	if (d->core->now - d->offended_at > OFFENCE_FORGOTTEN_MS * MS)
		d->offences = 0;
	d->offended_at = d->core->now;
	d->shunned_until = d->core->now + (1000 * MS << (d->offences < 5 ? d->offences : 5));
	d->offences++;
}

void core_donor_broken(struct core_donor *d, const char *why, u64 now)
{
	core_enter(d->core, now);
	donor_violation(d, "%s", why);
	core_settle(d->core);
}

void core_donor_down(struct core_donor *d, const char *reason, u64 now)
{
	struct relay_core *core = d->core;

	core_enter(core, now);
	snprintf(d->reason, sizeof(d->reason), "%s", reason);
	if (d->up) {
		donor_mark(d);
	} else if (!d->tried) {
		struct list *pos;

		d->tried = true;
		core_say(core, CORE_LOG_WARN, "donor-unreachable", "donor=%s reason=\"%s\"", d->name, d->reason);
		list_for_each(pos, &core->sessions)
			session_step(list_entry(pos, struct session, in_core));
	}
	core_settle(core);
}

/* ---- frames ---------------------------------------------------------------------------------------------------------------- */

int core_donor_head(struct core_donor *d, const struct memx_head *head, struct rbuf **body, u64 now)
{
	struct dop *dop = head->reply ? dop_find(d->core, head->tag) : NULL;
	struct rpool *pool = d->pool;

	core_enter(d->core, now);
	*body = NULL;
	if (d->dying || !d->up)
		return -ENOTCONN;
	if (head->reply && (!dop || dop->donor != d || dop->op != head->op)) {
		donor_violation(d, "answer to nothing that was asked (op %u)", head->op);
	} else if (head->len > MEMX_MAX_BODY) {
		donor_violation(d, "frame of %u bytes", head->len);
	} else if (!head->reply && head->op != MEMX_OP_PING &&
		   (!(d->features & MEMX_FEATURE_RECLAIM) || (head->op != MEMX_OP_ASK && head->op != MEMX_OP_DROPPED))) {
		donor_violation(d, "unexpected request %u", head->op);
	} else if (head->len) {
		if (dop && dop->req)
			pool = dop->req->link->fetch_pool;
		*body = rpool_get(pool, head->len);
		if (!*body && pool != d->pool)
			*body = rpool_get(d->pool, head->len);
		if (!*body)
			donor_fail(d, "no buffer for its answer");
	}
	core_settle(d->core);
	return d->up && !d->dying ? 0 : -EPROTO;
}

static int donor_request(struct core_donor *d, const struct memx_head *head, const struct rbuf *body)
{
	struct memx_stat stat;
	struct memx_head reply = { .op = head->op, .reply = true, .tag = head->tag, .status = MEMX_S_OK };
	struct memx_hdr hdr;

	if (head->op == MEMX_OP_PING && head->len)
		return -EPROTO;
	if (head->op == MEMX_OP_DROPPED)
		return reclaim_dropped(d, head, body);
	if (head->op == MEMX_OP_ASK) {
		if (head->len != sizeof(stat))
			return -EPROTO;
		memcpy(&stat, body->data, sizeof(stat));
		if (d->stat && !d->asked)	/* from then on STAT tells */
			reclaim_asked(d, memx_le64(stat.pages_asked));
	}
	memx_hdr_put(&hdr, &reply);
	d->core->ops.donor_send(d->core->ctx, d->cookie, &hdr, NULL, 0);
	return 0;
}

int core_donor_frame(struct core_donor *d, const struct memx_head *head, struct rbuf *body, u64 now)
{
	struct relay_core *core = d->core;
	struct dop *dop;
	int err = 0;

	core_enter(core, now);
	if (d->dying || !d->up) {
		rbuf_put(body);
		return -ENOTCONN;
	}
	d->last_rx = core->now;
	if (!head->reply) {
		err = donor_request(d, head, body);
	} else {
		dop = dop_find(core, head->tag);
		if (!dop || dop->donor != d || dop->op != head->op) {
			err = -EPROTO;
		} else {
			window_return(dop);
			repair_answered(d, dop);
			if (list_empty(&d->sent_waited) || dop->turn <= list_first(&d->sent_waited, struct dop, in_donor)->turn)
				d->turn_at = core->now;
			list_del(&dop->in_donor);
			if (dop->done)
				err = dop->done(dop, memx_status_known(head->status), head, body);
			dop_free(dop);
		}
	}
	rbuf_put(body);
	if (err)
		donor_violation(d, "malformed answer to op %u, status %u, %u bytes", head->op, head->status, head->len);
	core_settle(core);
	return d->up && !d->dying ? 0 : -EPROTO;
}
