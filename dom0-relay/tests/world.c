// SPDX-License-Identifier: GPL-2.0-only
/*
 * world.c - the cluster of world.h: time, network and donors. The guest is in world-guest.c.
 */
#include "world-guest.h"

u64 world_random(struct world *w)
{
	u64 z = w->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

struct frame *frame_new(const struct memx_hdr *hdr, const void *body, u32 len)
{
	struct frame *f = core_zalloc(sizeof(*f));

	list_init(&f->in_queue);
	f->hdr = *hdr;
	f->len = len;
	f->body = core_zalloc(len + 8);
	if (len && body)
		memcpy(f->body, body, len);
	return f;
}

void frame_free(struct frame *f)
{
	list_del(&f->in_queue);
	free(f->body);
	free(f);
}

struct frame *frame_gather(const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int n)
{
	struct frame *f;
	u32 len = 0;
	unsigned int i;

	for (i = 0; i < n; i++)
		len += segs[i].len;
	assert(len == memx_le32(hdr->len));
	f = frame_new(hdr, NULL, len);
	for (i = 0, len = 0; i < n; len += segs[i].len, i++)
		memcpy(f->body + len, segs[i].base, segs[i].len);
	return f;
}

void queue_clear(struct list *queue)
{
	while (!list_empty(queue))
		frame_free(list_entry(list_pop(queue), struct frame, in_queue));
}

/* ---- ops of the core ----------------------------------------------------------------------------------------------------- */

static int op_guest_send(void *ctx, void *link, unsigned int lane, const struct memx_hdr *hdr, const struct core_seg *segs,
			 unsigned int n)
{
	struct wguest *g = link;
	u32 len = MEMX_HDR_LEN + memx_le32(hdr->len);
	struct frame *f;

	(void)ctx;
	assert(n <= CORE_MAX_SEGS);
	if (g->ring_used[lane] + len > W_RING)
		return -ENOSPC;
	g->ring_used[lane] += len;
	f = frame_gather(hdr, segs, n);
	list_add_tail(&f->in_queue, &g->to_guest[lane]);
	return 0;
}

static void op_guest_close(void *ctx, void *link, const char *reason)
{
	struct wguest *g = link;

	(void)ctx;
	g->alive = false;
	g->closed = true;
	snprintf(g->reason, sizeof(g->reason), "%s", reason);
}

static void op_donor_send(void *ctx, void *donor, const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int n)
{
	struct wdonor *d = donor;
	struct frame *f;

	(void)ctx;
	assert(d->conn && d->conn->open);
	f = frame_gather(hdr, segs, n);
	f->due = d->w->now + d->way_ns;
	if (d->work_ns || d->byte_ns)
		f->due = d->busy_until = (f->due > d->busy_until ? f->due : d->busy_until) + d->work_ns + f->len * d->byte_ns;
	list_add_tail(&f->in_queue, &d->conn->to_donor);
}

static void conn_give_up(struct wdonor *d)
{
	if (!d->conn)
		return;
	d->conn->open = false;
	queue_clear(&d->conn->to_relay);
	d->conn = NULL;
	d->connect_at = d->w->now + d->w->reconnect_ns;
}

static void op_donor_close(void *ctx, void *donor, const char *reason)
{
	(void)ctx;
	(void)reason;
	conn_give_up(donor);
}

static void op_donor_gone(void *ctx, void *donor)
{
	struct wdonor *d = donor;

	(void)ctx;
	d->cd = NULL;
	d->there = false;
}

static void op_random(void *ctx, void *to, size_t len)
{
	u8 *p = to;

	while (len--)
		*p++ = (u8)world_random(ctx);
}

static void op_log(void *ctx, enum core_log_level level, const char *event, const char *fields)
{
	struct world *w = ctx;

	snprintf(w->last_event, sizeof(w->last_event), "%s", event);
	if (w->watched && !strcmp(w->watched, event)) {
		w->seen++;
		w->seen_level = level;
	}
	if (!w->quiet)
		fprintf(stderr, "# %8.3f <%d> %s %s\n", (double)w->now / 1e9, level, event, fields);
}

static const struct core_ops world_ops = {
	.guest_send = op_guest_send, .guest_close = op_guest_close, .donor_send = op_donor_send, .donor_close = op_donor_close,
	.donor_gone = op_donor_gone, .random = op_random, .log = op_log,
};

/* ---- donors ----------------------------------------------------------------------------------------------------------------- */

static void srv_send(void *ctx, void *conn_ctx, const void *frame, u32 len)
{
	struct wconn *c = conn_ctx;
	struct frame *f = frame_new(frame, (const u8 *)frame + MEMX_HDR_LEN, len - MEMX_HDR_LEN);

	(void)ctx;
	if (!c->open || (c->donor->tamper && !c->donor->tamper(c->donor, f)))
		frame_free(f);
	else
		list_add_tail(&f->in_queue, &c->to_relay);
}

static const struct srv_ops donor_ops = { .send = srv_send };

static void srv_start(struct wdonor *d)
{
	struct srv_config cfg = { .instance = d->instance, .hash_seed = d->w->seed, .max_sessions = 64, .max_handles = 64 };

	memcpy(cfg.id, d->id, sizeof(cfg.id));
	memcpy(cfg.domain, d->domain, sizeof(cfg.domain));
	cfg.limit_pages = (u64)d->chunks * SRV_CHUNK_PAGES;
	d->store = srv_heap_store(d->chunks, d->chunks);
	d->srv = srv_new(&cfg, d->store, &donor_ops, d);
	assert(d->srv);
}

static void conn_free(struct wconn *c)
{
	list_del(&c->in_world);
	queue_clear(&c->to_donor);
	queue_clear(&c->to_relay);
	if (c->srv)
		srv_conn_close(c->srv);
	if (c->donor->conn == c)
		c->donor->conn = NULL;
	if (c->end)
		c->end->conn = NULL;
	free(c);
}

static void conns_of(struct wdonor *d, bool old_only)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &d->w->conns) {
		struct wconn *c = list_entry(pos, struct wconn, in_world);

		if (c->donor == d && (!old_only || !c->open))
			conn_free(c);
	}
}

void world_drop_conns(struct wdonor *d)
{
	conns_of(d, false);
}

void world_connect(struct wdonor *d, struct wend *end)
{
	struct core_donor *cd = end ? end->cd : d->cd;
	u8 address[16] = { 0 };
	struct wconn *c = core_zalloc(sizeof(*c));

	c->donor = d;
	c->end = end;
	c->srv = srv_conn_open(d->srv, c);
	c->open = true;
	list_init(&c->to_donor);
	list_init(&c->to_relay);
	list_add_tail(&c->in_world, &d->w->conns);
	*(end ? &end->conn : &d->conn) = c;
	address[15] = (u8)(d - d->w->donor);
	core_donor_address(cd, address, 7700, d->w->now);
	core_donor_up(cd, d->w->now);
}

void wdonor_up(struct wdonor *d)
{
	if (d->cd && !d->conn && d->there)
		world_connect(d, NULL);
}

void wdonor_drop(struct wdonor *d)
{
	if (!d->conn)
		return;
	conn_give_up(d);
	core_donor_down(d->cd, "connection reset", d->w->now);
}

/* ---- donors among each other ------------------------------------------------------------------------------------------------ */

static bool anybody(void *ctx, const u8 id[16])
{
	(void)ctx;
	(void)id;
	return true;
}

static void pin_end(struct wdonor *d, u32 status)
{
	struct wpin *pin = &d->pin;

	free(pin->body);
	pin->body = NULL;
	pin->out = pin->answered = false;
	d->dropped += srv_drop_end(d->srv, pin->serial, status);
}

void wdonor_help_itself(struct wdonor *d)
{
	struct srv_drop_why why;
	struct srv_drop drop;
	struct srv_totals t;
	struct wdonor *to;

	srv_totals(d->srv, &t);
	if (d->pin.out || !t.pages_asked)
		return;
	if (srv_drop_begin(d->srv, anybody, NULL, &drop, &why)) {
		srv_drop_again(d->srv);
		return;
	}
	to = &d->w->donor[drop.address[15]];
	d->pin.serial = drop.serial;
	if (memcmp(to->id, drop.peer, 16) || to->instance != drop.instance || !to->there || to->hung) {
		srv_drop_end(d->srv, drop.serial, SRV_NO_ANSWER);
		return;
	}
	d->pin = (struct wpin){ .out = true, .to = to, .serial = drop.serial, .epoch = drop.epoch, .len = drop.len };
	d->pin.body = core_zalloc(drop.len);
	memcpy(d->pin.body, drop.body, drop.len);
}

static u32 pin_frame(struct wdonor *to, struct srv_conn *conn, u16 op, u64 epoch, const void *body, u32 len)
{
	static u8 buf[SRV_REPLY_BUF];
	static struct iovec iov[SRV_REPLY_IOVS];
	struct srv_out out = { .buf = buf, .size = sizeof(buf), .iov = iov, .max_iovs = SRV_REPLY_IOVS };
	struct memx_head head = { .op = op, .len = len, .epoch = epoch };
	int err = srv_frame(conn, &head, body, &out, to->w->now);

	assert(!err && out.bytes);
	err = memx_head_get(&head, (const struct memx_hdr *)buf, MEMX_MAX_BODY);
	assert(!err);
	return head.status;
}

static void deliver_pin(struct wdonor *d)
{
	struct memx_hello hello = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_DONOR,
				    .features = memx_put_le64(MEMX_FEATURE_RECLAIM) };
	struct wdonor *to = d->pin.to;
	struct srv_conn *conn = srv_conn_open(to->srv, NULL);
	u32 status;

	memcpy(hello.id, d->id, 16);
	status = pin_frame(to, conn, MEMX_OP_HELLO, 0, &hello, sizeof(hello));
	assert(status == MEMX_S_OK);
	d->pin.status = pin_frame(to, conn, MEMX_OP_PIN, d->pin.epoch, d->pin.body, d->pin.len);
	d->pin.answered = true;
	srv_conn_close(conn);
}

void wdonor_restart(struct wdonor *d)
{
	u32 i;

	/* Its own question dies with it; one that it was to answer stays without an answer. */
	free(d->pin.body);
	d->pin = (struct wpin){ 0 };
	for (i = 0; i < d->w->donors; i++)
		if (d->w->donor[i].pin.out && d->w->donor[i].pin.to == d)
			pin_end(&d->w->donor[i], SRV_NO_ANSWER);
	wdonor_drop(d);
	wold_drop(d);
	conns_of(d, false);
	srv_destroy(d->srv);
	d->store->ops->destroy(d->store);
	d->instance++;
	srv_start(d);
}

#define swap_field(field) do { __typeof__(a->field) old = a->field; a->field = b->field; b->field = old; } while (0)

void wdonor_swap(struct wdonor *a, struct wdonor *b)
{
	u8 id[16];

	wdonor_drop(a);
	wdonor_drop(b);
	conns_of(a, false);
	conns_of(b, false);
	memcpy(id, a->id, sizeof(id));
	memcpy(a->id, b->id, sizeof(id));
	memcpy(b->id, id, sizeof(id));
	swap_field(instance);
	swap_field(chunks);
	swap_field(srv);
	swap_field(store);
}

void wdonor_set_domain(struct wdonor *d, const char *domain)
{
	memset(d->domain, 0, sizeof(d->domain));
	snprintf(d->domain, sizeof(d->domain), "%s", domain);
	srv_set_domain(d->srv, d->domain);
}

bool wdonor_stuck(struct wdonor *d, u16 op, u32 ms)
{
	struct list *pos;

	if (!d->conn)
		return false;
	list_for_each(pos, &d->conn->to_donor) {
		struct frame *f = list_entry(pos, struct frame, in_queue);

		if (memx_le16(f->hdr.op) != op)
			continue;
		f->due = d->w->now + ms * MS;
		wdonor_drop(d);
		return true;
	}
	return false;
}

u64 wdonor_pages(struct wdonor *d)
{
	struct srv_totals t;

	srv_totals(d->srv, &t);
	return t.pages_used;
}

static u8 *held_page(struct wdonor *d, u32 i)
{
	u32 chunk = i / SRV_CHUNK_PAGES;

	if (!(d->store->meta[chunk].held >> i % SRV_CHUNK_PAGES & 1))
		return NULL;
	return d->store->pages + (u64)chunk * SRV_CHUNK_BYTES + (u64)(i % SRV_CHUNK_PAGES) * MEMX_PAGE_SIZE;
}

u8 *wdonor_find(struct wdonor *d, const void *page)
{
	u32 i;

	for (i = 0; i < d->chunks * SRV_CHUNK_PAGES; i++) {
		u8 *at = held_page(d, i);

		if (at && !memcmp(at, page, MEMX_PAGE_SIZE))
			return at;
	}
	return NULL;
}

void wdonor_limit(struct wdonor *d, u32 chunks)
{
	struct srv_totals t;

	srv_set_limit(d->srv, (u64)chunks * SRV_CHUNK_PAGES);
	srv_totals(d->srv, &t);
	if (t.pages_asked)
		srv_ask(d->srv);
}

void wdonor_says(struct wdonor *d, u16 op, const void *body, u32 len)
{
	struct memx_head head = { .op = op, .len = len, .tag = 77 };
	struct memx_hdr hdr;
	struct frame *f;

	memx_hdr_put(&hdr, &head);
	f = frame_new(&hdr, body, len);
	list_add_tail(&f->in_queue, &d->conn->to_relay);
}

/* Answers it without a look at it. */
static void refuse(struct wconn *c, const struct memx_head *head, u32 status)
{
	struct memx_head answer = { .op = head->op, .reply = true, .tag = head->tag, .epoch = head->epoch, .status = status };
	struct memx_hdr hdr;

	memx_hdr_put(&hdr, &answer);
	if (c->open)
		list_add_tail(&frame_new(&hdr, NULL, 0)->in_queue, &c->to_relay);
}

static void of_epoch(void *ctx, const struct srv_session_info *info)
{
	u64 *epoch = ctx;

	if (info->epoch == *epoch)
		*epoch = 0;
}

/* What a connection brings that was given up, for a session which the next one has taken over at the same epoch. */
static void count_late(struct wconn *c, const struct memx_head *head, const void *answer)
{
	u64 epoch = head->epoch;
	struct memx_head reply;

	if (c->open || c->end || head->op != MEMX_OP_DETACH || memx_head_get(&reply, answer, MEMX_MAX_BODY) ||
	    reply.status != MEMX_S_FENCED)
		return;
	srv_sessions(c->donor->srv, of_epoch, &epoch);
	c->donor->w->late_detaches += !epoch;
}

/* One frame into the donor's core; its answer into the queue back. */
static void deliver_to_donor(struct wconn *c)
{
	static u8 buf[SRV_REPLY_BUF];
	static struct iovec iov[SRV_REPLY_IOVS];
	struct srv_out out = { .buf = buf, .size = sizeof(buf), .iov = iov, .max_iovs = SRV_REPLY_IOVS };
	struct frame *f = list_entry(list_pop(&c->to_donor), struct frame, in_queue), *reply;
	struct memx_head head;
	u32 i, at = 0, refusal = MEMX_S_OK;
	u8 *flat;
	int err = memx_head_get(&head, &f->hdr, MEMX_MAX_BODY);

	assert(!err);
	c->donor->frames++;
	if (c->donor->refuse && !head.reply)
		refusal = c->donor->refuse(c->donor, &head);
	if (refusal) {
		refuse(c, &head, refusal);
		frame_free(f);
		return;
	}
	err = srv_frame(c->srv, &head, f->body, &out, c->donor->w->now);
	if (err < 0 && c->donor->tamper) {	/* the relay answered what a hostile donor asked, and the real one did not */
		frame_free(f);
		if (c->donor->conn == c)
			wdonor_drop(c->donor);
		return;
	}
	if (err < 0) {
		fprintf(stderr, "donor %s: the relay broke the protocol: %s\n", c->donor->name, srv_conn_reason(c->srv));
		abort();
	}
	if (out.bytes)
		count_late(c, &head, buf);
	frame_free(f);
	if (!c->open || !out.bytes)
		return;
	flat = core_zalloc(out.bytes);
	for (i = 0; i < out.iovs; at += (u32)iov[i].iov_len, i++)
		memcpy(flat + at, iov[i].iov_base, iov[i].iov_len);
	reply = frame_new((const struct memx_hdr *)flat, flat + MEMX_HDR_LEN, (u32)out.bytes - MEMX_HDR_LEN);
	free(flat);
	if (c->donor->tamper && !c->donor->tamper(c->donor, reply))
		frame_free(reply);
	else
		list_add_tail(&reply->in_queue, &c->to_relay);
}

static void deliver_from_donor(struct wconn *c)
{
	struct wdonor *d = c->donor;
	struct frame *f = list_entry(list_pop(&c->to_relay), struct frame, in_queue);
	struct memx_head head;
	struct rbuf *body = NULL;

	if (c->end) {
		wold_frame(c->end, f);
		return;
	}
	if (memx_head_get(&head, &f->hdr, MEMX_MAX_BODY)) {
		core_donor_broken(d->cd, "bad header", d->w->now);
	} else if (!core_donor_head(d->cd, &head, &body, d->w->now)) {
		if (body)
			memcpy(body->data, f->body, f->len);
		core_donor_frame(d->cd, &head, body, d->w->now);
	}
	frame_free(f);
}

/* ---- the scheduler ---------------------------------------------------------------------------------------------------------- */

struct choice {
	void *what;
	int kind;	/* 0 to donor, 1 from donor, 2, 3 lanes, 4 donor to donor, 5 and back, 6 to the relay left behind */
	u32 lane;
};

/* When the next frame reaches its donor. */
static u64 arrives_at(const struct wconn *c)
{
	return list_empty(&c->to_donor) ? NEVER : list_first(&c->to_donor, struct frame, in_queue)->due;
}

static u32 choices(struct world *w, struct choice *c, u32 max)
{
	struct list *pos;
	u32 n = 0, i, l;

	list_for_each(pos, &w->conns) {
		struct wconn *conn = list_entry(pos, struct wconn, in_world);

		if (conn->donor->hung || n + 2 > max)
			continue;
		if (arrives_at(conn) <= w->now)
			c[n++] = (struct choice){ conn, 0, 0 };
		if (conn->open && !list_empty(&conn->to_relay))
			c[n++] = (struct choice){ conn, 1, 0 };
	}
	for (i = 0; i < w->guests; i++) {
		struct wguest *g = &w->guest[i];

		for (l = 0; l < W_LANES && n + 2 <= max; l++) {
			if (g->alive && !list_empty(&g->to_relay[l]))
				c[n++] = (struct choice){ g, 2, l };
			if (g->alive && !g->deaf && !list_empty(&g->to_guest[l]))
				c[n++] = (struct choice){ g, 3, l };
			if (w->old.core && w->old.link[i].alive && n < max && !list_empty(&w->old.link[i].to_relay[l]))
				c[n++] = (struct choice){ g, 6, l };
		}
	}
	for (i = 0; i < w->donors && n < max; i++) {
		struct wdonor *d = &w->donor[i];

		if (d->pin.out && !d->hung && (d->pin.answered || !d->pin.to->hung))
			c[n++] = (struct choice){ d, d->pin.answered ? 5 : 4, 0 };
	}
	return n;
}

static void deliver(const struct choice *c)
{
	if (c->kind == 0)
		deliver_to_donor(c->what);
	else if (c->kind == 1)
		deliver_from_donor(c->what);
	else if (c->kind == 2)
		wguest_deliver_out(c->what, c->lane);
	else if (c->kind == 3)
		wguest_deliver_in(c->what, c->lane);
	else if (c->kind == 4)
		deliver_pin(c->what);
	else if (c->kind == 6)
		wold_deliver(c->what, c->lane);
	else
		pin_end(c->what, ((struct wdonor *)c->what)->pin.status);
}

/* Old connections of which everything has arrived. */
static void sweep_conns(struct world *w)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &w->conns) {
		struct wconn *c = list_entry(pos, struct wconn, in_world);

		if (!c->open && list_empty(&c->to_donor))
			conn_free(c);
	}
}

bool world_roll(struct world *w)
{
	struct choice c[64];
	u32 n = choices(w, c, 64);

	if (!n)
		return false;
	w->delivered++;
	deliver(&c[world_random(w) % n]);
	sweep_conns(w);
	return true;
}

void world_settle(struct world *w)
{
	struct choice c[64];

	while (choices(w, c, 64)) {
		w->delivered++;
		deliver(&c[0]);
		sweep_conns(w);
	}
}

static void reconnect(struct world *w)
{
	u32 i;

	for (i = 0; i < w->donors; i++) {
		struct wdonor *d = &w->donor[i];

		if (d->conn || !d->cd || w->now < d->connect_at)
			continue;
		if (d->there) {		/* a process that hangs has a kernel that takes connections */
			wdonor_up(d);
		} else {
			d->connect_at = w->now + w->reconnect_ns;
			core_donor_down(d->cd, "connection refused", w->now);
		}
	}
}

static u64 next_time(const struct world *w)
{
	u64 to = core_next_deadline(w->core);
	struct list *pos;
	u32 i;

	list_for_each(pos, &w->conns) {
		struct wconn *c = list_entry(pos, struct wconn, in_world);

		if (!c->donor->hung && arrives_at(c) < to)
			to = arrives_at(c);
	}
	for (i = 0; i < w->donors; i++)
		if (!w->donor[i].conn && w->donor[i].cd && w->donor[i].connect_at < to)
			to = w->donor[i].connect_at;
	if (w->old.core && core_next_deadline(w->old.core) < to)
		to = core_next_deadline(w->old.core);
	return to;
}

void world_tick(struct world *w)
{
	u64 to = next_time(w);
	u32 i;

	if (to > w->now)
		w->now = to;
	reconnect(w);
	if (core_next_deadline(w->core) <= w->now)
		core_tick(w->core, w->now);
	wold_tick(w);
	for (i = 0; i < w->guests; i++)
		wguest_tick(&w->guest[i]);
}

void world_pass(struct world *w, u32 ms)
{
	u64 until = w->now + ms * MS;

	world_settle(w);
	while (next_time(w) < until) {
		world_tick(w);
		world_settle(w);
	}
	if (w->now < until)
		w->now = until;
}

/* ---- making and ending -------------------------------------------------------------------------------------------------------- */

static void add_donors(struct world *w)
{
	u32 i;

	for (i = 0; i < w->donors; i++) {
		struct wdonor *d = &w->donor[i];

		d->cd = core_donor_add(w->core, d->name, d, w->now);
		assert(d->cd);
		d->connect_at = w->now;
		if (d->there)
			wdonor_up(d);
	}
}

static struct wdonor *donor_make(struct world *w, u32 i, u32 chunks)
{
	struct wdonor *d = &w->donor[i];

	d->w = w;
	snprintf(d->name, sizeof(d->name), "d%u", i);
	memset(d->id, 0xd0 + (int)i, sizeof(d->id));
	d->instance = 100 * (i + 1);
	d->chunks = chunks;
	d->there = true;
	srv_start(d);
	return d;
}

struct wdonor *world_add_donor(struct world *w, u32 chunks)
{
	struct wdonor *d;

	assert(w->donors < W_DONORS);
	d = donor_make(w, w->donors++, chunks);
	d->cd = core_donor_add(w->core, d->name, d, w->now);
	assert(d->cd);
	d->connect_at = w->now;
	wdonor_up(d);
	return d;
}

struct world *world_new(u64 seed, u32 donors, u32 chunks, void (*configure)(struct core_config *cfg))
{
	struct world *w = core_zalloc(sizeof(*w));
	u32 i;

	w->seed = seed;
	w->rng = seed;
	w->now = 1000 * MS;
	w->quiet = !getenv("WORLD_LOG");
	w->reconnect_ns = 50 * MS;
	list_init(&w->conns);
	core_config_init(&w->cfg);
	w->cfg.staging_bytes = 4 << 20;
	w->cfg.extent_order = 6;
	w->cfg.instance = 1;
	memset(w->cfg.relay_id, 0x52, sizeof(w->cfg.relay_id));
	if (configure)
		configure(&w->cfg);
	w->core = core_new(&w->cfg, &world_ops, w, w->now);
	assert(w->core);
	w->donors = donors;
	for (i = 0; i < donors; i++)
		donor_make(w, i, chunks);
	add_donors(w);
	world_settle(w);
	return w;
}

void world_add_counters(struct core_counters *to, const struct core_counters *c)
{
	size_t i;

	for (i = 0; i < sizeof(*c) / sizeof(u64); i++)
		((u64 *)to)[i] += ((const u64 *)c)[i];
}

void world_new_relay(struct world *w)
{
	w->cfg.instance++;
	w->core = core_new(&w->cfg, &world_ops, w, w->now);
	add_donors(w);
}

void world_relay_restart(struct world *w)
{
	struct core_counters c = world_counters(w);
	u32 i;

	world_add_counters(&w->before, &c);
	core_free(w->core);
	for (i = 0; i < w->donors; i++)
		conn_give_up(&w->donor[i]);
	for (i = 0; i < w->guests; i++)
		wguest_lost(&w->guest[i]);
	world_new_relay(w);
}

void world_free(struct world *w)
{
	u32 i;

	world_old_relay_ends(w);
	core_free(w->core);
	for (i = 0; i < w->donors; i++) {
		conns_of(&w->donor[i], false);
		free(w->donor[i].pin.body);
		srv_destroy(w->donor[i].srv);
		w->donor[i].store->ops->destroy(w->donor[i].store);
	}
	for (i = 0; i < w->guests; i++)
		wguest_free(&w->guest[i]);
	free(w);
}

struct core_counters world_counters(struct world *w)
{
	struct core_status st;

	core_status(w->core, &st);
	return st.counters;
}

struct core_counters world_all_counters(struct world *w)
{
	struct core_counters c = world_counters(w);

	world_add_counters(&c, &w->before);
	return c;
}
