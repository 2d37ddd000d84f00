// SPDX-License-Identifier: GPL-2.0-only
/*
 * link.c - a guest's channel: lanes, hello, credit, and which frame may come when.
 *
 *	state		what the guest may send			ends with
 *	HELLO		answers to HELLO, one per lane; then	all lanes said it: READY
 *			ATTACH, which waits for the others
 *	READY		ATTACH					MAPPING
 *	MAPPING		MAP					the last of them: ATTACHING
 *	ATTACHING	nothing but PING			granted: ATTACHED; refused: READY
 *	ATTACHED	STORE, FETCH, DISCARD, DETACH,		DETACH: DETACHING
 *			answers to RECORD
 *	DETACHING	answers to RECORD			donors answered: READY
 *
 * Anything else is a violation: the link is closed, the reason logged and counted. A guest that comes back is served again.
 *
 * Nothing a guest sends makes the relay hold more than what was agreed: the number of unanswered requests and of pages in them is
 * checked per lane before a body is read, and answers are written at once or the link is closed, because a guest that keeps the
 * rules of credit has room for every answer.
 */
#include "internal.h"

static const char *const link_states[] = {
	[LINK_HELLO] = "hello", [LINK_READY] = "waiting", [LINK_MAPPING] = "attaching", [LINK_ATTACHING] = "attaching",
	[LINK_ATTACHED] = "attached", [LINK_DETACHING] = "detaching",
};

/* ---- up and down ------------------------------------------------------------------------------------------------------------ */

static void say_hello(struct core_link *link)
{
	struct memx_hello hello = {
		.proto_min = memx_put_le16(MEMX_PROTO_MIN), .proto_max = memx_put_le16(MEMX_PROTO_MAX),
		.role = MEMX_ROLE_RELAY, .offer = memx_put_le64(link->offer),
		.instance = memx_put_le64(link->core->cfg.instance), .features = memx_put_le64(MEMX_FEATURE_ATTEMPTS),
	};
	unsigned int i;

	memcpy(hello.id, link->core->cfg.relay_id, sizeof(hello.id));
	for (i = 0; i < link->lanes; i++) {
		hello.lane = (u8)i;
		link_ask(link, i, MEMX_OP_HELLO, 0, &hello, sizeof(hello), NULL);
	}
}

struct core_link *core_link_up(struct relay_core *core, const struct core_guest_conf *conf, u64 offer, unsigned int lanes,
			       void *cookie, u64 now)
{
	struct core_link *link;
	struct list *pos, *tmp;
	unsigned int i;

	core_enter(core, now);
	if (!lanes || lanes > MEMX_MAX_LANES) {
		errno = EINVAL;
		return NULL;
	}
	list_for_each_safe(pos, tmp, &core->links) {
		link = list_entry(pos, struct core_link, in_core);
		/* Another domain of this UUID may be its copy, or its future: it takes over when its session is granted, if ever. */
		if (!memcmp(link->conf.vm, conf->vm, sizeof(conf->vm)) && link->conf.domid == conf->domid)
			link_fail(link, "replaced by a newer offer of the same guest");
	}
	core_settle(core);

	link = core_zalloc(sizeof(*link));
	link->core = core;
	link->cookie = cookie;
	link->conf = *conf;
	link->offer = offer;
	link->lanes = lanes;
	link->state = LINK_HELLO;
	link->lost_say_at = NEVER;
	link->pool = rpool_new(core->cfg.staging_bytes / 2 + lanes * LINK_LANE_REQUESTS * 1024ULL);
	link->fetch_pool = rpool_new(core->cfg.staging_bytes / 2);
	link->reqs = core_zalloc(lanes * LINK_LANE_REQUESTS * sizeof(*link->reqs));
	list_init(&link->free);
	list_init(&link->busy);
	list_init(&link->in_dying);
	for (i = 0; i < lanes * LINK_LANE_REQUESTS; i++) {
		list_add_tail(&link->reqs[i].in_link, &link->free);
		list_init(&link->reqs[i].in_extent);
		list_init(&link->reqs[i].in_fetching);
		list_init(&link->reqs[i].in_held);
		list_init(&link->reqs[i].dops);
	}
	for (i = 0; i < lanes; i++)
		list_init(&link->lane[i].records);
	list_add_tail(&link->in_core, &core->links);
	core_say(core, CORE_LOG_INFO, "guest-link", "guest=%s domid=%u lanes=%u", conf->name, conf->domid, lanes);
	say_hello(link);
	core_settle(core);
	return link;
}

static void link_mark(struct core_link *link)
{
	if (link->dying)
		return;
	link->dying = true;
	list_add_tail(&link->in_dying, &link->core->dying_links);
}

void link_fail(struct core_link *link, const char *fmt, ...)
{
	va_list args;

	if (link->dying)
		return;
	va_start(args, fmt);
	vsnprintf(link->reason, sizeof(link->reason), fmt, args);
	va_end(args);
	link_mark(link);
	if (!link->told) {
		link->told = true;
		link->core->ops.guest_close(link->core->ctx, link->cookie, link->reason);
	}
}

void link_violation(struct core_link *link, unsigned int lane, const char *fmt, ...)
{
	char why[120];
	va_list args;

	if (link->dying)
		return;
	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	link->core->count.violations++;
	core_say(link->core, CORE_LOG_WARN, "guest-violation", "guest=%s domid=%u lane=%u why=\"%s\"", link->conf.name,
		 link->conf.domid, lane, why);
	link_fail(link, "protocol: %s", why);
}

/*
 * Counted each, said together: a donor's end may be that of very many extents, and a guest can make up a map of as many, with
 * every attach anew. What a donor has told us of has to be acted upon; what stands in a map alone may never have been.
 */
static void say_lost(struct core_link *link)
{
	if (!link->lost)
		return;
	core_say(link->core, link->lost_confirmed ? CORE_LOG_CRIT : CORE_LOG_ERR, "extent-lost", "guest=%s domid=%u extents=%u "
		 "confirmed=%u hint=\"%s; reads of pages that no other copy has fail\"", link->conf.name, link->conf.domid, link->lost,
		 link->lost_confirmed, link->lost_confirmed ? "every donor that had a live copy lost its memory" :
		 "by the guest's map alone: no donor that it names has told this relay of such a copy");
	link->lost_say_at = NEVER;
	link->lost_said_at = link->core->now;
	link->lost = 0;
	link->lost_confirmed = 0;
}

void link_lost(struct core_link *link, const struct extent *x)
{
	u64 due = link->core->now + LOST_GATHER_MS * MS;

	link->lost++;
	link->lost_confirmed += x->confirmed;
	if (link->lost_said_at && due < link->lost_said_at + LOST_SAY_MS * MS)
		due = link->lost_said_at + LOST_SAY_MS * MS;
	if (due < link->lost_say_at)
		link->lost_say_at = due;
	core_want_tick(link->core, link->lost_say_at);
}

void link_tick(struct core_link *link)
{
	if (link->lost_say_at <= link->core->now)
		say_lost(link);
	else if (link->lost_say_at != NEVER)
		core_want_tick(link->core, link->lost_say_at);
}

void link_teardown(struct core_link *link)
{
	struct relay_core *core = link->core;
	struct list *pos, *tmp;
	unsigned int i;

	list_del(&link->in_dying);
	if (link->dead)
		return;
	link->dying = true;
	link->dead = true;
	say_lost(link);
	core_say(core, CORE_LOG_NOTICE, "guest-unlink", "guest=%s domid=%u state=%s reason=\"%s\" unanswered=%u", link->conf.name,
		 link->conf.domid, link_states[link->state], link->reason, link->unanswered);
	list_for_each_safe(pos, tmp, &link->busy)
		greq_drop(list_entry(pos, struct greq, in_link));
	for (i = 0; i < link->lanes; i++)
		while (!list_empty(&link->lane[i].records))
			list_del(link->lane[i].records.next);
	if (link->session && list_empty(&link->session->in_core))
		session_destroy(link->session);		/* its map never came to an end: nobody else knows of it */
	else if (link->session && link->session->state == SESSION_FREEING)
		link->session->link = NULL;		/* donors are told to free it, whoever waited for that */
	else if (link->session)
		session_halt(link->session);
	list_del(&link->in_core);
	list_add_tail(&link->in_core, &core->dead_links);
}

void link_destroy(struct core_link *link)
{
	list_del(&link->in_core);
	rpool_close(link->pool);
	rpool_close(link->fetch_pool);
	free(link->reqs);
	free(link);
}

void core_link_broken(struct core_link *link, unsigned int lane, const char *why, u64 now)
{
	if (link->dead)
		return;
	core_enter(link->core, now);
	link_violation(link, lane, "%s", why);
	core_settle(link->core);
}

void core_link_down(struct core_link *link, const char *reason, u64 now)
{
	struct relay_core *core = link->core;

	if (link->dead)
		return;
	core_enter(core, now);
	link->told = true;
	link_fail(link, "%s", reason);
	core_settle(core);
}

/* ---- sending ---------------------------------------------------------------------------------------------------------------- */

static int link_send(struct core_link *link, unsigned int lane, const struct memx_head *head, const struct core_seg *segs,
		     unsigned int nsegs)
{
	struct relay_core *core = link->core;
	struct memx_hdr hdr;
	int err;

	if (link->dying)
		return -ENOTCONN;
	memx_hdr_put(&hdr, head);
	err = core->ops.guest_send(core->ctx, link->cookie, lane, &hdr, segs, nsegs);
	if (err == -ENOSPC) {
		core->count.overdrafts++;
		link_violation(link, lane, "overdraft: no room for %u bytes of op %u in the reply ring",
			       head->len + MEMX_HDR_LEN, head->op);
	} else if (err == -EPROTO) {
		link_violation(link, lane, "an index of the reply ring that cannot be true");
	} else if (err) {
		link_fail(link, "lane %u is broken", lane);
	}
	return err;
}

void link_reply(struct core_link *link, unsigned int lane, u16 op, u64 tag, u64 epoch, u32 status,
		const struct core_seg *segs, unsigned int nsegs)
{
	struct memx_head head = { .op = op, .reply = true, .status = status, .tag = tag, .epoch = epoch };
	unsigned int i;

	for (i = 0; i < nsegs; i++)
		head.len += segs[i].len;
	link_send(link, lane, &head, segs, nsegs);
}

/* Asks the guest something on @lane. -EAGAIN: as much as agreed is unanswered there. */
int link_ask(struct core_link *link, unsigned int lane, u16 op, u64 epoch, const void *body, u32 len, struct rreq **asked)
{
	struct memx_head head = { .op = op, .len = len, .epoch = epoch };
	struct core_seg seg = { .base = body, .len = len };
	struct rreq *r = NULL;
	unsigned int i;

	for (i = 0; i < MEMX_RELAY_CREDITS; i++)
		if (!link->lane[lane].asked[i].tag)
			r = &link->lane[lane].asked[i];
	if (!r)
		return -EAGAIN;
	r->op = op;
	r->count = 0;
	r->tag = ++link->next_tag;
	r->at = link->core->now;
	head.tag = r->tag;
	if (asked)
		*asked = r;
	return link_send(link, lane, &head, &seg, len ? 1 : 0);
}

/*
 * A guest may be paused for as long as anybody likes, and whatever needs its word about a record waits for it. Others do not: what it
 * holds up takes no places of theirs.
 */
bool link_silent(const struct core_link *link)
{
	unsigned int l, i;

	for (l = 0; l < link->lanes; l++)
		for (i = 0; i < MEMX_RELAY_CREDITS; i++) {
			const struct rreq *r = &link->lane[l].asked[i];

			if (r->tag && r->op == MEMX_OP_RECORD && link->core->now - r->at > link->core->cfg.donor_timeout_ns)
				return true;
		}
	return false;
}

/* Sends records that wait for this lane, as many as credit allows, sixteen to a frame. */
static void records_flush(struct core_link *link, unsigned int l)
{
	struct {
		struct memx_records head;
		struct memx_record rec[MEMX_MAX_RECORDS];
	} body;
	struct lane *lane = &link->lane[l];

	while (!list_empty(&lane->records) && !link->dying) {
		struct extent *x[MEMX_MAX_RECORDS];
		struct rreq *r;
		struct list *pos;
		u32 i, n = 0;

		list_for_each(pos, &lane->records) {
			x[n] = list_entry(pos, struct extent, in_record);
			placement_to_wire(&x[n]->next, x[n]->index, &body.rec[n]);
			if (++n == MEMX_MAX_RECORDS)
				break;
		}
		memset(&body.head, 0, sizeof(body.head));
		body.head.count = memx_put_le32(n);
		if (link_ask(link, l, MEMX_OP_RECORD, link->session->epoch, &body, memx_records_len(n), &r))
			return;
		for (i = 0; i < n; i++) {
			list_del(&x[i]->in_record);
			r->extent[i] = x[i];
		}
		r->count = n;
	}
}

void link_record(struct extent *x)
{
	struct core_link *link = x->s->link;
	unsigned int l = link->store_lane[x->index % link->stores];

	list_add_tail(&x->in_record, &link->lane[l].records);
	records_flush(link, l);
}

/* ---- requests of the guest --------------------------------------------------------------------------------------------------- */

struct greq *greq_new(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body, u32 count)
{
	struct greq *req = list_first(&link->free, struct greq, in_link);

	list_del(&req->in_link);
	memset(&req->body, 0, sizeof(*req) - offsetof(struct greq, body));
	req->link = link;
	req->body = rbuf_get(body);
	req->tag = head->tag;
	req->op = head->op;
	req->lane = (u8)lane;
	req->count = (u8)count;
	req->at = link->core->now;
	list_add_tail(&req->in_link, &link->busy);
	link->lane[lane].requests++;
	link->lane[lane].pages += count;
	link->unanswered++;
	return req;
}

void greq_forget(struct greq *req, u64 donor)
{
	u32 i;

	req->done &= ~donor;
	req->tried &= ~donor;
	req->refused &= ~donor;
	req->put_off &= ~donor;
	req->held_by &= ~donor;
	for (i = 0; i < req->count; i++) {
		req->wrong[i] &= ~donor;
		req->missing[i] &= ~donor;
	}
}

void greq_drop(struct greq *req)
{
	struct core_link *link = req->link;
	u32 i;

	while (!list_empty(&req->dops))
		dop_cancel(list_first(&req->dops, struct dop, in_req));
	list_del(&req->in_extent);
	list_del(&req->in_fetching);
	list_del(&req->in_held);
	for (i = 0; i < req->count; i++)
		rbuf_put(req->got[i].buf);
	rbuf_put(req->body);
	req->body = NULL;
	link->lane[req->lane].requests--;
	link->lane[req->lane].pages -= req->count;
	link->unanswered--;
	list_del(&req->in_link);
	list_add_head(&req->in_link, &link->free);
}

/* ---- frames: answers ----------------------------------------------------------------------------------------------------------- */

static void all_said_hello(struct core_link *link)
{
	u64 half = link->core->cfg.staging_bytes / 2;
	u64 pages;
	unsigned int i;

	link->stores = 0;
	link->fetches = 0;
	for (i = 0; i < link->lanes; i++) {
		if (!link->lane[i].hello)
			return;
		if (link->lane[i].kind == MEMX_LANE_STORE)
			link->store_lane[link->stores++] = (u8)i;
		else
			link->fetches++;
	}
	if (!link->stores || !link->fetches) {
		link_violation(link, 0, "no lane for %s", link->stores ? "fetches" : "stores");
		return;
	}
	/* Worst of the size classes: 24 pages of room for 17, 5839 bytes a page; a fetch may be asked for twice. */
	pages = half / (link->stores > 2 * link->fetches ? link->stores : 2 * link->fetches) / 6144;
	link->lane_pages = pages > LINK_LANE_PAGES ? LINK_LANE_PAGES : (u32)pages;
	if (link->lane_pages < MEMX_MAX_PAGES)
		link->lane_pages = MEMX_MAX_PAGES;
	link->lane_requests = LINK_LANE_REQUESTS;
	link->greeted = true;
	if (link->state == LINK_HELLO)
		link->state = LINK_READY;
	else if (link->attach_lane != link->store_lane[0])
		link_violation(link, link->attach_lane, "attach beside the first store lane");
	else if (link->mapped)
		attach_begin(link);
}

static void hello_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, const struct rbuf *body)
{
	struct memx_hello hello;
	u16 proto;

	if (head->status != MEMX_S_OK || head->len != sizeof(hello)) {
		link_fail(link, "lane %u refused hello: %s", lane, status_word(memx_status_known(head->status)));
		return;
	}
	memcpy(&hello, body->data, sizeof(hello));
	proto = memx_le16(hello.proto);
	if (hello.role != MEMX_ROLE_GUEST || hello.lane != lane || hello.lanes != link->lanes ||
	    memx_le64(hello.offer) != link->offer || proto < MEMX_PROTO_MIN || proto > MEMX_PROTO_MAX ||
	    (hello.lane_kind != MEMX_LANE_STORE && hello.lane_kind != MEMX_LANE_FETCH)) {
		link_violation(link, lane, "hello that does not fit the offer");
		return;
	}
	link->lane[lane].kind = hello.lane_kind;
	link->lane[lane].hello = true;
	all_said_hello(link);
}

static void record_answer(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rreq *r)
{
	struct extent *x[MEMX_MAX_RECORDS];
	u32 i, n = r->count;

	memcpy(x, r->extent, sizeof(x));
	r->tag = 0;
	r->count = 0;
	if (!n)			/* of a session that was detached meanwhile */
		return;
	if (head->status != MEMX_S_OK) {
		link_violation(link, lane, "refused a record: %s", status_word(memx_status_known(head->status)));
		return;
	}
	for (i = 0; i < n; i++)
		extent_record_acked(x[i]);
	records_flush(link, lane);
}

static void answer_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, const struct rbuf *body)
{
	struct rreq *r = NULL;
	unsigned int i;

	for (i = 0; i < MEMX_RELAY_CREDITS; i++)
		if (head->tag && link->lane[lane].asked[i].tag == head->tag)
			r = &link->lane[lane].asked[i];
	if (!r || r->op != head->op) {
		link_violation(link, lane, "answer to nothing that was asked (op %u)", head->op);
	} else if (r->op == MEMX_OP_HELLO) {
		r->tag = 0;
		hello_frame(link, lane, head, body);
	} else if (head->len || (link->session && head->epoch != link->session->epoch)) {
		link_violation(link, lane, "malformed answer to op %u", head->op);
	} else {
		record_answer(link, lane, head, r);
	}
}

/* ---- frames: requests ---------------------------------------------------------------------------------------------------------- */

static bool data_op(u16 op)
{
	return op == MEMX_OP_STORE || op == MEMX_OP_FETCH || op == MEMX_OP_DISCARD;
}

/* May this operation come on this lane in this state? The reason why not, or NULL. */
static const char *out_of_place(const struct core_link *link, unsigned int lane, const struct memx_head *head)
{
	u8 kind = link->lane[lane].kind;
	bool control = link->greeted ? lane == link->store_lane[0] : kind == MEMX_LANE_STORE;

	switch (head->op) {
	case MEMX_OP_PING:
		return NULL;
	case MEMX_OP_STORE:
	case MEMX_OP_DISCARD:
	case MEMX_OP_FETCH:
		if (link->state != LINK_ATTACHED)
			return "data request while not attached";
		if (kind != (head->op == MEMX_OP_FETCH ? MEMX_LANE_FETCH : MEMX_LANE_STORE))
			return "data request on a lane of the other kind";
		return head->epoch == link->session->epoch ? NULL : "data request of another epoch";
	case MEMX_OP_ATTACH:
		if (!control)
			return "attach beside the first store lane";
		return link->state == LINK_READY || link->state == LINK_HELLO ? NULL : "attach while attached or attaching";
	case MEMX_OP_MAP:
		if (!control)
			return "map beside the first store lane";
		if (link->state != LINK_MAPPING)
			return "map without attach";
		return head->epoch == link->session->epoch ? NULL : "map of another epoch";
	case MEMX_OP_DETACH:
		if (!control)
			return "detach beside the first store lane";
		if (link->state != LINK_ATTACHED)
			return "detach while not attached";
		return head->epoch == link->session->epoch ? NULL : "detach of another epoch";
	default:
		return NULL;	/* unknown: answered as such */
	}
}

/* Pages that a frame of this length carries; what does not divide evenly is found when the body is checked. */
static u32 pages_of(const struct memx_head *head)
{
	if (!data_op(head->op) || head->len < MEMX_IO_LEN)
		return 0;
	return (head->len - MEMX_IO_LEN) /
	       (head->op == MEMX_OP_STORE ? (u32)(sizeof(struct memx_page) + MEMX_PAGE_SIZE) : (u32)sizeof(struct memx_want));
}

static u32 longest(const struct memx_head *head)
{
	switch (head->op) {
	case MEMX_OP_HELLO:
	case MEMX_OP_ATTACH:
		return sizeof(struct memx_attach);
	case MEMX_OP_FETCH:
	case MEMX_OP_DISCARD:
		return memx_want_len(MEMX_MAX_PAGES);
	case MEMX_OP_MAP:
		return memx_records_len(MEMX_MAX_RECORDS);
	case MEMX_OP_PING:
	case MEMX_OP_DETACH:
	case MEMX_OP_RECORD:
		return 0;
	default:
		return MEMX_MAX_BODY;
	}
}

static void head_check(struct core_link *link, unsigned int lane, const struct memx_head *head)
{
	const struct lane *l = &link->lane[lane];
	const char *why = NULL;

	if (head->len > longest(head)) {
		link_violation(link, lane, "op %u with a body of %u bytes", head->op, head->len);
		return;
	}
	if (head->reply)
		return;
	if (!l->hello)
		why = "request before hello";
	else
		why = out_of_place(link, lane, head);
	if (why) {
		link_violation(link, lane, "%s (op %u)", why, head->op);
	} else if (data_op(head->op) && (l->requests >= link->lane_requests ||
					 l->pages + pages_of(head) > link->lane_pages)) {
		link->core->count.overdrafts++;
		link_violation(link, lane, "overdraft: %u requests, %u pages unanswered", l->requests, l->pages);
	}
}

int core_link_head(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf **body, u64 now)
{
	*body = NULL;
	link->read = NULL;
	if (link->dying || lane >= link->lanes)
		return -ENOTCONN;
	core_enter(link->core, now);
	head_check(link, lane, head);
	if (!link->dying && head->len) {
		*body = rpool_get(link->pool, head->len);
		if (!*body)	/* credit was checked: the host is out of memory */
			link_fail(link, "no memory to stage %u bytes", head->len);
	}
	core_settle(link->core);
	return link->dying ? -EPROTO : 0;
}

int core_link_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body, u64 now)
{
	struct relay_core *core = link->core;

	if (link->dying || lane >= link->lanes) {
		rbuf_put(body);
		return -ENOTCONN;
	}
	core_enter(core, now);
	if (head->reply) {
		answer_frame(link, lane, head, body);
	} else if (data_op(head->op)) {
		if (core->draining)
			;	/* unanswered: the guest asks again where it attaches next */
		else if (head->op == MEMX_OP_FETCH)
			fetch_frame(link, lane, head, body);
		else
			store_frame(link, lane, head, body);
	} else if (head->op == MEMX_OP_ATTACH) {
		attach_frame(link, lane, head, body);
	} else if (head->op == MEMX_OP_MAP) {
		attach_map(link, head, body);
	} else if (head->op == MEMX_OP_DETACH) {
		detach_frame(link, lane, head);
	} else {
		link_reply(link, lane, head->op, head->tag, head->epoch, head->op == MEMX_OP_PING ? MEMX_S_OK : MEMX_S_OP,
			   NULL, 0);
	}
	link->read = NULL;
	rbuf_put(body);
	core_settle(core);
	return link->dying ? -EPROTO : 0;
}
