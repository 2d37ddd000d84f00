// SPDX-License-Identifier: GPL-2.0-only
/*
 * harness.c - see harness.h.
 */
#include "harness.h"

/* ---- donors and connections ------------------------------------------------------------------------------------------- */

static void on_event(void *ctx, const struct srv_event *event)
{
	struct donor *donor = ctx;

	donor->events[event->kind]++;
}

static void on_send(void *ctx, void *conn_ctx, const void *frame, u32 len)
{
	struct relay *relay = conn_ctx;

	(void)ctx;
	assert_int_equal(memx_head_get(&relay->sent_head, frame, MEMX_MAX_BODY), 0);
	assert_int_equal(len, MEMX_HDR_LEN + relay->sent_head.len);
	assert_in_range(relay->sent_head.len, 0, sizeof(relay->sent_body));
	assert_false(relay->sent_head.reply);
	memcpy(relay->sent_body, (const u8 *)frame + MEMX_HDR_LEN, relay->sent_head.len);
	relay->sent++;
}

struct donor *donor_with(u32 chunks, u32 commits, const struct srv_config *config)
{
	const struct srv_ops ops = { .event = on_event, .send = on_send };
	struct donor *donor = calloc(1, sizeof(*donor));

	assert_non_null(donor);
	donor->config = *config;
	donor->store = srv_heap_store(chunks, commits);
	assert_non_null(donor->store);
	donor->core = srv_new(&donor->config, donor->store, &ops, donor);
	assert_non_null(donor->core);
	return donor;
}

struct donor *donor_new(u32 chunks)
{
	struct srv_config config = {
		.id = "donor under test",
		.instance = 4711,
		.hash_seed = 1,
		.domain = "rack1",
		.limit_pages = (u64)chunks * SRV_CHUNK_PAGES,
		.max_sessions = 1000,
		.max_handles = 100,
	};

	return donor_with(chunks, chunks, &config);
}

void donor_free(struct donor *donor)
{
	srv_destroy(donor->core);
	donor->store->ops->destroy(donor->store);
	free(donor);
}

struct relay *relay_raw(struct donor *donor)
{
	struct relay *relay = calloc(1, sizeof(*relay));

	assert_non_null(relay);
	relay->donor = donor;
	relay->conn = srv_conn_open(donor->core, relay);
	assert_non_null(relay->conn);
	return relay;
}

struct relay *relay_new(struct donor *donor)
{
	struct relay *relay = relay_raw(donor);

	assert_int_equal(hello(relay, 1, 1, MEMX_ROLE_RELAY), MEMX_S_OK);
	return relay;
}

void relay_free(struct relay *relay)
{
	srv_conn_close(relay->conn);
	free(relay);
}

int set_up(void **state)
{
	*state = relay_new(donor_new(64));
	return 0;
}

int tear_down(void **state)
{
	struct relay *relay = *state;
	struct donor *donor = relay->donor;

	relay_free(relay);
	donor_free(donor);
	return 0;
}

int ask(struct relay *relay, u16 op, u16 flags, u64 epoch, const void *body, u32 len)
{
	struct memx_head head = { .op = op, .flags = flags, .len = len, .tag = 0x1234567890ULL + op, .epoch = epoch };
	struct srv_out out = { .buf = relay->buf, .size = sizeof(relay->buf), .iov = relay->iov, .max_iovs = SRV_REPLY_IOVS };
	u8 *exact = malloc(len ? len : 1), *to = relay->body;
	u64 total = 0;
	u32 i;

	assert_non_null(exact);
	if (len)
		memcpy(exact, body, len);
	relay->verdict = srv_frame(relay->conn, &head, exact, &out, 1);
	free(exact);
	relay->refs = out.refs;
	if (relay->verdict < 0) {
		assert_int_equal(out.bytes, 0);
		return relay->verdict;
	}
	/* One well-formed frame, with our tag and epoch, and nothing else. */
	assert_true(out.used <= sizeof(relay->buf) && out.iovs >= 1 && out.iovs <= SRV_REPLY_IOVS);
	assert_int_equal(memx_head_get(&relay->head, (const struct memx_hdr *)relay->buf, MEMX_MAX_BODY), 0);
	assert_true(relay->head.reply && relay->head.op == op && relay->head.tag == head.tag && relay->head.epoch == epoch);
	assert_true(relay->head.status < MEMX_S_COUNT);
	for (i = 0; i < out.iovs; i++)
		total += out.iov[i].iov_len;
	assert_int_equal(total, MEMX_HDR_LEN + relay->head.len);
	assert_int_equal(total, out.bytes);
	for (i = 0; i < out.iovs; i++) {
		u32 skip = i ? 0 : MEMX_HDR_LEN;

		memcpy(to, (u8 *)out.iov[i].iov_base + skip, out.iov[i].iov_len - skip);
		to += out.iov[i].iov_len - skip;
	}
	return (int)relay->head.status;
}

int reply_to(struct relay *relay, u32 status, const void *body, u32 len)
{
	struct memx_head head = { .op = relay->sent_head.op, .reply = true, .len = len, .status = status, .tag = relay->sent_head.tag };
	struct srv_out out = { .buf = relay->buf, .size = sizeof(relay->buf), .iov = relay->iov, .max_iovs = SRV_REPLY_IOVS };
	u64 exact[4] = { 0 };
	int ret;

	assert_in_range(len, 0, sizeof(exact));
	if (len)
		memcpy(exact, body, len);
	ret = srv_frame(relay->conn, &head, exact, &out, 1);
	assert_int_equal(out.bytes, 0);
	return ret;
}

int hello(struct relay *relay, u16 min, u16 max, u8 role)
{
	struct memx_hello body = { .proto_min = memx_put_le16(min), .proto_max = memx_put_le16(max), .role = role };

	return ask(relay, MEMX_OP_HELLO, 0, 0, &body, sizeof(body));
}

/* ---- sessions --------------------------------------------------------------------------------------------------------- */

struct sess sess_of(struct relay *relay, const char *name, u64 epoch)
{
	struct sess s = { .relay = relay, .vm = "the guest's uuid", .epoch = epoch, .lineage = { 1000 }, .slots = SLOTS, .order = ORDER };
	size_t len = strlen(name);

	memcpy(s.id, name, len < 16 ? len : 16);
	return s;
}

int fence_flags(struct sess *s, u8 flags)
{
	struct memx_fence body = { .slots = memx_put_le32(s->slots), .extent_order = s->order, .flags = flags };
	u32 i;
	int status;

	memcpy(body.vm, s->vm, 16);
	memcpy(body.session, s->id, 16);
	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		body.lineage[i] = memx_put_le64(s->lineage[i]);
	status = ask(s->relay, MEMX_OP_FENCE, 0, s->epoch, &body, sizeof(body));
	if (status == MEMX_S_OK)
		s->handle = memx_le32(fenced(s->relay).session);
	return status;
}

int fence(struct sess *s)
{
	return fence_flags(s, MEMX_FENCE_CREATE);
}

struct memx_fenced fenced(const struct relay *relay)
{
	struct memx_fenced f;

	assert_int_equal(relay->head.len, sizeof(f));
	memcpy(&f, relay->body, sizeof(f));
	return f;
}

int reserve(struct sess *s, u64 pages)
{
	struct memx_reserve body = { .session = memx_put_le32(s->handle), .pages = memx_put_le64(pages) };

	return ask(s->relay, MEMX_OP_RESERVE, 0, s->epoch, &body, sizeof(body));
}

struct sess session(struct relay *relay, const char *name, u64 epoch)
{
	struct sess s = sess_of(relay, name, epoch);

	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, s.slots), MEMX_S_OK);
	return s;
}

int detach(struct sess *s)
{
	struct memx_list body = { .session = memx_put_le32(s->handle) };

	return ask(s->relay, MEMX_OP_DETACH, 0, s->epoch, &body, sizeof(body));
}

/* ---- extents ---------------------------------------------------------------------------------------------------------- */

struct memx_record record(const struct donor *donor, u32 extent, u64 generation, u8 state)
{
	struct memx_record rec = { .extent = memx_put_le32(extent), .replicas = 2, .generation = memx_put_le64(generation) };

	memcpy(rec.replica[0].donor, donor->config.id, 16);
	rec.replica[0].instance = memx_put_le64(donor->config.instance);
	rec.replica[0].state = state;
	memcpy(rec.replica[1].donor, "the other holder", 16);
	rec.replica[1].instance = memx_put_le64(99);
	rec.replica[1].state = MEMX_R_LIVE;
	return rec;
}

int place_record(struct sess *s, u32 flags, const struct memx_record *rec)
{
	struct memx_place body = { .session = memx_put_le32(s->handle), .flags = memx_put_le32(flags), .record = *rec };

	return ask(s->relay, MEMX_OP_PLACE, 0, s->epoch, &body, sizeof(body));
}

int place(struct sess *s, u32 extent, u64 generation)
{
	struct memx_record rec = record(s->relay->donor, extent, generation, MEMX_R_LIVE);

	return place_record(s, MEMX_PLACE_CREATE, &rec);
}

static int one_extent(struct sess *s, u16 op, u32 extent, u32 slot, u64 generation)
{
	struct { struct memx_list list; struct memx_extent_ref ref; } body = {
		.list = { .session = memx_put_le32(s->handle), .count = memx_put_le32(1) },
		.ref = { .extent = memx_put_le32(extent), .slot = memx_put_le32(slot), .generation = memx_put_le64(generation) },
	};

	return ask(s->relay, op, 0, s->epoch, &body, sizeof(body));
}

int free_extent(struct sess *s, u32 extent, u64 generation)
{
	return one_extent(s, MEMX_OP_FREE, extent, 0, generation);
}

int list_from(struct sess *s, u32 extent)
{
	return one_extent(s, MEMX_OP_LIST, extent, 0, 0);
}

int scan_from(struct sess *s, u32 extent, u32 slot)
{
	return one_extent(s, MEMX_OP_SCAN, extent, slot, 0);
}

int retain(struct sess *s, u16 flags, const u32 *extents, u32 count)
{
	struct { struct memx_list list; struct memx_extent_ref ref[MEMX_MAX_EXTENTS]; } body = {
		.list = { .session = memx_put_le32(s->handle), .count = memx_put_le32(count) },
	};
	u32 i;

	for (i = 0; i < count; i++)
		body.ref[i].extent = memx_put_le32(extents[i]);
	return ask(s->relay, MEMX_OP_RETAIN, flags, s->epoch, &body, memx_list_len(count));
}

int pin(struct relay *relay, const struct sess *s, u32 extent, u64 generation)
{
	struct memx_pin body = { .extent = memx_put_le32(extent), .generation = memx_put_le64(generation) };

	memcpy(body.vm, s->vm, 16);
	memcpy(body.session, s->id, 16);
	return ask(relay, MEMX_OP_PIN, 0, 0, &body, sizeof(body));
}

u32 list_count(const struct relay *relay)
{
	const struct memx_list *list = (const void *)relay->body;

	assert_true(relay->head.len >= sizeof(*list));
	return memx_le32(list->count);
}

const struct memx_extent_ref *list_refs(const struct relay *relay)
{
	assert_int_equal(relay->head.len, memx_list_len(list_count(relay)));
	return (const void *)(relay->body + sizeof(struct memx_list));
}

const struct memx_want *list_wants(const struct relay *relay)
{
	assert_int_equal(relay->head.len, memx_scan_len(list_count(relay)));
	return (const void *)(relay->body + sizeof(struct memx_list));
}

/* ---- pages ------------------------------------------------------------------------------------------------------------ */

static struct memx_io io_of(const struct sess *s, u64 generation, u32 slot)
{
	return (struct memx_io) {
		.session = memx_put_le32(s->handle), .extent = memx_put_le32(slot >> s->order),
		.generation = memx_put_le64(generation), .count = memx_put_le16(1),
	};
}

/* The status of the one page of a reply to STORE or DISCARD. */
static int page_status(const struct relay *relay, int status)
{
	const struct memx_want *want = (const void *)(relay->body + MEMX_IO_LEN);

	if (status != MEMX_S_PARTIAL)
		return status;
	assert_int_equal(relay->head.len, memx_want_len(1));
	return (int)memx_le32(want->status);
}

int store_flags(struct sess *s, u64 generation, u32 slot, u64 version, u8 fill, u64 check, u16 flags)
{
	struct { struct memx_io io; struct memx_page page; u8 data[MEMX_PAGE_SIZE]; } body = {
		.io = io_of(s, generation, slot),
		.page = { .slot = memx_put_le32(slot), .trailer = { .version = memx_put_le64(version), .check = memx_put_le64(check) } },
	};

	memset(body.data, fill, sizeof(body.data));
	return page_status(s->relay, ask(s->relay, MEMX_OP_STORE, flags, s->epoch, &body, sizeof(body)));
}

u64 check_of(const struct sess *s, u32 slot, u64 version, u8 fill)
{
	u8 page[MEMX_PAGE_SIZE];

	memset(page, fill, sizeof(page));
	return memx_check(memx_session_seed(s->id), slot, version, page);
}

int store(struct sess *s, u64 generation, u32 slot, u64 version, u8 fill)
{
	return store_flags(s, generation, slot, version, fill, check_of(s, slot, version, fill), 0);
}

int discard(struct sess *s, u64 generation, u32 slot, u64 version)
{
	struct { struct memx_io io; struct memx_want want; } body = {
		.io = io_of(s, generation, slot),
		.want = { .slot = memx_put_le32(slot), .version = memx_put_le64(version) },
	};

	return page_status(s->relay, ask(s->relay, MEMX_OP_DISCARD, 0, s->epoch, &body, sizeof(body)));
}

int fetch(struct sess *s, u64 generation, u32 slot, u64 version)
{
	struct { struct memx_io io; struct memx_want want; } body = {
		.io = io_of(s, generation, slot),
		.want = { .slot = memx_put_le32(slot), .version = memx_put_le64(version) },
	};
	int status = ask(s->relay, MEMX_OP_FETCH, 0, s->epoch, &body, sizeof(body));
	const struct memx_page *page = (const void *)(s->relay->body + MEMX_IO_LEN);

	if (status != MEMX_S_OK && status != MEMX_S_PARTIAL)
		return status;
	assert_int_equal(s->relay->head.len, memx_fetched_len(1, status == MEMX_S_OK));
	assert_int_equal(memx_le32(page->slot), slot);
	if (status == MEMX_S_OK)
		assert_true(memx_le64(page->trailer.version) == version);
	return (int)memx_le32(page->status);
}

int fetched(const struct relay *relay, u8 fill)
{
	const u8 *data = relay->body + memx_fetched_len(1, 0);
	u32 i;

	if (relay->head.len != memx_fetched_len(1, 1))
		return 0;
	for (i = 0; i < MEMX_PAGE_SIZE; i++)
		if (data[i] != fill)
			return 0;
	return 1;
}

struct memx_stat stat_of(struct relay *relay)
{
	struct memx_stat stat;

	assert_int_equal(ask(relay, MEMX_OP_STAT, 0, 0, NULL, 0), MEMX_S_OK);
	assert_int_equal(relay->head.len, sizeof(stat));
	memcpy(&stat, relay->body, sizeof(stat));
	return stat;
}
