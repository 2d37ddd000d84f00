// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-hostile.c - a relay that sends whatever it likes: what ends its connection, what is merely refused, and that nothing
 * of it changes what is held.
 */
#include "harness.h"

static const u16 ops[] = {
	MEMX_OP_HELLO, MEMX_OP_PING, MEMX_OP_STORE, MEMX_OP_FETCH, MEMX_OP_DISCARD, MEMX_OP_DETACH, MEMX_OP_FENCE,
	MEMX_OP_RESERVE, MEMX_OP_PLACE, MEMX_OP_FREE, MEMX_OP_RETAIN, MEMX_OP_LIST, MEMX_OP_SCAN, MEMX_OP_STAT, MEMX_OP_PIN,
};

/* No length near those that are right lets a core read beyond the frame: the sanitizer watches. */
static void every_short_length_of_every_operation(void **state)
{
	struct relay *r = *state;
	static const u8 junk[MEMX_MAX_BODY] = { 0xff };
	struct sess s = session(r, "a", 1);
	u32 i, len;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		for (len = 0; len <= 200; len++)
			ask(r, ops[i], 0, 1, junk, len);
		ask(r, ops[i], 0, 1, junk, MEMX_MAX_BODY);
		ask(r, ops[i], MEMX_F_ALL, 1, junk, 4096);
	}
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
}

static void a_length_that_does_not_belong_ends_the_connection(void **state)
{
	struct relay *r = *state;
	static const u8 body[256];
	struct sess s = session(r, "a", 1);

	(void)s;
	assert_int_equal(ask(r, MEMX_OP_PING, 0, 0, body, 8), -EPROTO);
	assert_int_equal(ask(r, MEMX_OP_STAT, 0, 0, body, 1), -EPROTO);
	assert_int_equal(ask(r, MEMX_OP_FENCE, 0, 1, body, 71), -EPROTO);
	assert_int_equal(ask(r, MEMX_OP_PLACE, 0, 1, body, 153), -EPROTO);
	assert_int_equal(ask(r, MEMX_OP_DETACH, 0, 1, body, 0), -EPROTO);
	assert_int_equal(ask(r, MEMX_OP_RETAIN, MEMX_F_FIRST, 1, body, 24), -EPROTO);	/* count 0, one there */
	assert_int_equal(ask(r, MEMX_OP_LIST, 0, 1, body, 24), -EPROTO);		/* count 0 */
	assert_string_not_equal(srv_conn_reason(r->conn), "none");
	assert_int_equal(srv_counters(r->donor->core)->violations, 7);
}

static void an_unknown_operation_is_answered(void **state)
{
	static const u8 body[100];
	static const u16 unknown[] = { 0, 6, 16, 17, 18, 31, 41, 43, 44, 99, 0x7fff };
	u32 i;

	for (i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		assert_int_equal(ask(*state, unknown[i], 0, 0, body, i), MEMX_S_OP);
}

static void a_reply_that_nobody_waits_for_ends_the_connection(void **state)
{
	struct relay *r = *state;
	struct memx_head head = { .op = MEMX_OP_ASK, .reply = true };
	struct srv_out out = { .buf = r->buf, .size = sizeof(r->buf), .iov = r->iov, .max_iovs = SRV_REPLY_IOVS };

	assert_int_equal(srv_frame(r->conn, &head, NULL, &out, 0), -EPROTO);
	assert_int_equal(out.bytes, 0);
}

static void flags_belong_to_operations(void **state)
{
	assert_int_equal(ask(*state, MEMX_OP_PING, MEMX_F_LAST, 0, NULL, 0), -EPROTO);
	assert_int_equal(ask(*state, MEMX_OP_STAT, MEMX_F_REPAIR, 0, NULL, 0), -EPROTO);
}

/* ---- STORE and its kin: what the frame alone tells, and what the session tells ------------------------------------------ */

struct io_frame {
	struct memx_io io;
	struct memx_page page[2];
	u8 data[2 * MEMX_PAGE_SIZE];
};

static struct io_frame two_pages(const struct sess *s)
{
	struct io_frame f = { .io = { .session = memx_put_le32(s->handle), .generation = memx_put_le64(1), .count = memx_put_le16(2) } };

	f.page[0].slot = memx_put_le32(3);
	f.page[1].slot = memx_put_le32(4);
	f.page[0].trailer.version = f.page[1].trailer.version = memx_put_le64(1);
	return f;
}

static int send_pages(const struct sess *s, const struct io_frame *f)
{
	struct io_frame whole = *f;
	u32 i;

	for (i = 0; i < 2; i++)
		whole.page[i].trailer.check = memx_put_le64(memx_check(memx_session_seed(s->id), memx_le32(f->page[i].slot),
								       memx_le64(f->page[i].trailer.version),
								       f->data + (size_t)i * MEMX_PAGE_SIZE));
	return ask(s->relay, MEMX_OP_STORE, 0, s->epoch, &whole, sizeof(whole));
}

static void counts_must_agree_with_lengths(void **state)
{
	static const u16 counts[] = { 0, 1, 3, 32, 33, 255, 65535 };
	struct sess s = session(*state, "a", 1);
	struct io_frame f = two_pages(&s);
	u32 i;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		f.io.count = memx_put_le16(counts[i]);
		assert_int_equal(send_pages(&s, &f), -EPROTO);
	}
	f = two_pages(&s);
	f.io.flags = memx_put_le16(1);
	assert_int_equal(send_pages(&s, &f), -EPROTO);
	f = two_pages(&s);
	f.io.resv = memx_put_le32(1);
	assert_int_equal(send_pages(&s, &f), -EPROTO);
	f = two_pages(&s);
	assert_int_equal(send_pages(&s, &f), MEMX_S_OK);
}

static void slots_must_lie_in_the_extent_and_ascend(void **state)
{
	struct sess s = session(*state, "a", 1);
	struct io_frame f;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	f = two_pages(&s);
	f.page[1].slot = memx_put_le32(EXTENT);			/* the next extent's */
	assert_int_equal(send_pages(&s, &f), MEMX_S_INVALID);
	f.page[1].slot = memx_put_le32(UINT32_MAX);
	assert_int_equal(send_pages(&s, &f), MEMX_S_INVALID);
	f.page[1].slot = memx_put_le32(3);			/* twice */
	assert_int_equal(send_pages(&s, &f), MEMX_S_INVALID);
	f.page[1].slot = memx_put_le32(2);			/* backwards */
	assert_int_equal(send_pages(&s, &f), MEMX_S_INVALID);
	f = two_pages(&s);
	f.page[1].trailer.version = 0;
	assert_int_equal(send_pages(&s, &f), MEMX_S_INVALID);
	f = two_pages(&s);
	f.page[0].status = memx_put_le32(1);
	assert_int_equal(send_pages(&s, &f), MEMX_S_INVALID);
	assert_int_equal(fetch(&s, 1, 3, 1), MEMX_S_ABSENT);	/* the good page beside the bad one was not taken either */
	assert_int_equal(srv_counters(s.relay->donor->core)->invalid, 6);
}

/* FETCH and DISCARD of slots that are not the extent's would reach beyond its memory. */
static void wanted_slots_must_lie_in_the_extent_too(void **state)
{
	static const u32 slots[] = { EXTENT, 2 * EXTENT, SLOTS, UINT32_MAX };
	struct sess s = session(*state, "a", 1);
	struct { struct memx_io io; struct memx_want want; } body = { .io = { .session = memx_put_le32(s.handle),
		.generation = memx_put_le64(1), .count = memx_put_le16(1) }, .want = { .version = memx_put_le64(9) } };
	u32 i;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, EXTENT, 9, 1), MEMX_S_OK);
	for (i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		body.want.slot = memx_put_le32(slots[i]);
		assert_int_equal(ask(s.relay, MEMX_OP_FETCH, 0, 1, &body, sizeof(body)), MEMX_S_INVALID);
		assert_int_equal(ask(s.relay, MEMX_OP_DISCARD, 0, 1, &body, sizeof(body)), MEMX_S_INVALID);
	}
	body.want.slot = 0;
	body.want.version = 0;
	assert_int_equal(ask(s.relay, MEMX_OP_FETCH, 0, 1, &body, sizeof(body)), MEMX_S_INVALID);
	assert_int_equal(ask(s.relay, MEMX_OP_DISCARD, 0, 1, &body, sizeof(body)), MEMX_S_INVALID);
	assert_int_equal(fetch(&s, 1, EXTENT, 9), MEMX_S_OK);
}

static void extents_must_lie_in_the_session(void **state)
{
	static const u32 extents[] = { SLOTS / EXTENT, 1 << 26, 0xffffffff, 0x04000000, 0x80000000 };
	struct sess s = session(*state, "a", 1);
	struct io_frame f = two_pages(&s);
	u32 i;

	for (i = 0; i < sizeof(extents) / sizeof(extents[0]); i++) {
		f.io.extent = memx_put_le32(extents[i]);
		assert_int_equal(send_pages(&s, &f), MEMX_S_INVALID);
		assert_int_equal(place(&s, extents[i], 1), MEMX_S_INVALID);
		assert_int_equal(free_extent(&s, extents[i], 1), MEMX_S_ABSENT);
		assert_int_equal(scan_from(&s, extents[i], 0), MEMX_S_ABSENT);
	}
}

/* The largest session that the wire can name, at both ends. */
static void a_session_of_all_slots_works_at_its_ends(void **state)
{
	struct sess s = sess_of(*state, "a", 1);

	s.slots = UINT32_MAX;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 1024), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, UINT32_MAX >> ORDER, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_OK);
	assert_int_equal(store(&s, 1, UINT32_MAX - 1, 1, 0x22), MEMX_S_OK);
	assert_int_equal(store(&s, 1, UINT32_MAX, 1, 0x33), MEMX_S_INVALID);
	assert_int_equal(fetch(&s, 1, UINT32_MAX - 1, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x22));
	assert_int_equal(list_from(&s, 1), MEMX_S_OK);
	assert_int_equal(list_count(s.relay), 1);
	assert_int_equal(detach(&s), MEMX_S_OK);
}

/* Another session's relay cannot reach this one's pages by any handle, extent or generation. */
static void sessions_are_walls(void **state)
{
	struct relay *evil = relay_new(((struct relay *)*state)->donor);
	struct sess victim = session(*state, "victim", 1), e = session(evil, "evil", 1);
	u32 h;

	assert_int_equal(place(&victim, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&victim, 1, 0, 1, 0x77), MEMX_S_OK);
	assert_int_equal(place(&e, 0, 1), MEMX_S_OK);
	assert_int_equal(fetch(&e, 1, 0, 1), MEMX_S_ABSENT);
	assert_int_equal(store(&e, 1, 0, 99, 0x66), MEMX_S_OK);
	for (h = 0; h < 20000; h++) {
		e.handle = h;
		if (fetch(&e, 1, 0, 1) == MEMX_S_OK)
			fail_msg("handle %u reads the page of another connection's session", h);
	}
	assert_int_equal(fetch(&victim, 1, 0, 1), MEMX_S_OK);
	assert_true(fetched(victim.relay, 0x77));
	relay_free(evil);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_short_length_of_every_operation),
		TEST(a_length_that_does_not_belong_ends_the_connection),
		TEST(an_unknown_operation_is_answered),
		TEST(a_reply_that_nobody_waits_for_ends_the_connection),
		TEST(flags_belong_to_operations),
		TEST(counts_must_agree_with_lengths),
		TEST(slots_must_lie_in_the_extent_and_ascend),
		TEST(wanted_slots_must_lie_in_the_extent_too),
		TEST(extents_must_lie_in_the_session),
		TEST(a_session_of_all_slots_works_at_its_ends),
		TEST(sessions_are_walls),
	};

	return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
