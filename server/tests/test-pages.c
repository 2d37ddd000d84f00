// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-pages.c - versions: each interleaving that would lose or resurrect a page if the rule were missing.
 */
#include "../core/store.h"
#include "harness.h"

static struct sess one_extent(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	return s;
}

static void a_stored_page_comes_back_with_its_trailer(void **state)
{
	struct sess s = one_extent(state);
	const struct memx_page *page = (const void *)(s.relay->body + MEMX_IO_LEN);
	struct { struct memx_io io; struct memx_page page; u8 data[MEMX_PAGE_SIZE]; } body = {
		.io = { .session = memx_put_le32(s.handle), .generation = memx_put_le64(1), .count = memx_put_le16(1) },
		.page = { .slot = memx_put_le32(5), .trailer = { memx_put_le64(9), memx_put_le64(0x1234), memx_put_le64(0x5678),
			  memx_put_le32(3), memx_put_le32(MEMX_T_SEALED | 0x80) } },
	};
	struct memx_trailer sent = body.page.trailer;

	memset(body.data, 0xab, sizeof(body.data));
	assert_int_equal(ask(s.relay, MEMX_OP_STORE, 0, 1, &body, sizeof(body)), MEMX_S_OK);
	assert_int_equal(s.relay->head.len, MEMX_IO_LEN);
	assert_int_equal(fetch(&s, 1, 5, 9), MEMX_S_OK);
	assert_true(fetched(s.relay, 0xab));
	assert_memory_equal(&page->trailer, &sent, sizeof(sent));	/* verbatim, also bits that mean nothing to a donor */
}

static void a_fetch_gets_the_version_it_names_or_an_error(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(store(&s, 1, 5, 9, 1), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 8), MEMX_S_VERSION);
	assert_int_equal(fetch(&s, 1, 5, 10), MEMX_S_VERSION);
	assert_int_equal(s.relay->head.len, memx_fetched_len(1, 0));
	assert_int_equal(fetch(&s, 1, 5, 9), MEMX_S_OK);
}

static void a_slot_that_was_never_stored_is_absent_and_never_zeros(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_ABSENT);
	assert_int_equal(s.relay->head.len, memx_fetched_len(1, 0));
	assert_int_equal(fetch(&s, 1, EXTENT + 5, 1), MEMX_S_ABSENT);	/* nor of an extent that is not held */
	assert_int_equal(s.relay->head.len, MEMX_IO_LEN);
}

/* Bytes that a connection still delivers after the page was stored again through another one. */
static void late_bytes_of_an_old_connection_change_nothing(void **state)
{
	struct relay *late = *state, *quick = relay_new(late->donor);
	struct sess s = one_extent(state), q;

	assert_int_equal(store(&s, 1, 5, 1, 0x11), MEMX_S_OK);
	q = session(quick, "a", 1);
	assert_int_equal(store(&q, 1, 5, 3, 0x33), MEMX_S_OK);
	assert_int_equal(store(&q, 1, 5, 2, 0x22), MEMX_S_OLD);
	assert_int_equal(store(&s, 1, 5, 4, 0x44), MEMX_S_FENCED);
	assert_int_equal(fetch(&q, 1, 5, 3), MEMX_S_OK);
	assert_true(fetched(quick, 0x33));
	relay_free(quick);
}

/* The reply was lost, the store is sent again: OK, and the page that is held stays as it is. */
static void an_equal_version_is_answered_and_not_applied(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(store(&s, 1, 5, 1, 0x11), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 5, 1, 0x99), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x11));
	assert_int_equal(srv_counters(s.relay->donor->core)->repeated, 1);
}

static void a_discard_sent_again_behind_a_newer_store_keeps_the_page(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(store(&s, 1, 5, 1, 0x11), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 5, 2), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 5, 3, 0x33), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 5, 2), MEMX_S_OLD);
	assert_int_equal(fetch(&s, 1, 5, 3), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x33));
}

static void a_discarded_slot_is_absent_at_every_version(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(store(&s, 1, 5, 1, 0x11), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 5, 2), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_ABSENT);
	assert_int_equal(fetch(&s, 1, 5, 2), MEMX_S_ABSENT);
}

/* A repair read the page before it was discarded and writes it afterwards. */
static void repair_does_not_resurrect_a_discarded_page(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(store(&s, 1, 5, 1, 0x11), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 5, 2), MEMX_S_OK);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, 0, MEMX_F_REPAIR), MEMX_S_OLD);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_ABSENT);
}

/* Nor where the discard came first and nothing had been held at all: the version stays. */
static void a_discard_of_a_slot_that_is_not_held_leaves_its_version(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(discard(&s, 1, 5, 7), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 5, 6, 0x11), MEMX_S_OLD);
	assert_int_equal(fetch(&s, 1, 5, 6), MEMX_S_ABSENT);
	assert_int_equal(store(&s, 1, 5, 7, 0x11), MEMX_S_OK);		/* the discard's own version: done already */
	assert_int_equal(fetch(&s, 1, 5, 7), MEMX_S_ABSENT);
	assert_int_equal(store(&s, 1, 5, 8, 0x11), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 8), MEMX_S_OK);
}

static void repair_does_not_overwrite_a_fresh_page(void **state)
{
	struct sess s = one_extent(state);
	u64 check = check_of(&s, 5, 1, 0x11);

	assert_int_equal(store(&s, 1, 5, 2, 0x22), MEMX_S_OK);		/* a syncing copy takes stores at once */
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check, MEMX_F_REPAIR), MEMX_S_OLD);
	assert_int_equal(fetch(&s, 1, 5, 2), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x22));
}

/* The first page of the extent that is all @fill, as the donor's store holds it. */
static u8 *held_page(const struct sess *s, u8 fill)
{
	struct srv_store *store = s->relay->donor->store;
	u8 page[MEMX_PAGE_SIZE];
	u32 i;

	memset(page, fill, sizeof(page));
	for (i = 0; i < SRV_CHUNK_PAGES * store->chunks; i++)
		if (store->meta[i / SRV_CHUNK_PAGES].held >> i % SRV_CHUNK_PAGES & 1 &&
		    !memcmp(store->pages + (u64)i * MEMX_PAGE_SIZE, page, sizeof(page)))
			return store->pages + (u64)i * MEMX_PAGE_SIZE;
	return NULL;
}

/*
 * A repair copy at the held version replaces a page that does not match its own check, and nothing else: not a good page, not a
 * discarded one, not with something that is damaged itself; and a store that is no repair replaces nothing at all.
 */
static void repair_mends_only_what_is_damaged(void **state)
{
	struct sess s = one_extent(state);
	u64 check = check_of(&s, 5, 1, 0x11), other = check_of(&s, 5, 1, 0x33);
	u8 *own;

	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check, 0), MEMX_S_OK);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x33, other, MEMX_F_REPAIR), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x11));
	own = held_page(&s, 0x11);
	assert_non_null(own);
	own[77] ^= 1;
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check, 0), MEMX_S_OK);
	assert_int_equal(own[77], 0x10);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x12, check, MEMX_F_REPAIR), MEMX_S_CORRUPT);
	assert_int_equal(own[77], 0x10);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check, MEMX_F_REPAIR), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x11));
	assert_int_equal(srv_counters(s.relay->donor->core)->mended, 1);
	assert_int_equal(discard(&s, 1, 5, 2), MEMX_S_OK);
	assert_int_equal(store_flags(&s, 1, 5, 2, 0x11, check_of(&s, 5, 2, 0x11), MEMX_F_REPAIR), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 2), MEMX_S_ABSENT);
}

/* What was damaged between relay and donor is not taken for stored: the relay still has it whole, and sends it again. */
static void a_page_damaged_on_its_way_is_not_stored(void **state)
{
	struct sess s = one_extent(state);
	u64 check = check_of(&s, 5, 1, 0x11);

	assert_int_equal(store_flags(&s, 1, 5, 1, 0x12, check, 0), MEMX_S_CORRUPT);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check ^ 1, 0), MEMX_S_CORRUPT);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_ABSENT);
	assert_int_equal(srv_counters(s.relay->donor->core)->corrupt, 2);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check, 0), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x11));
}

static void repair_never_copies_a_damaged_page(void **state)
{
	struct sess s = one_extent(state);
	u64 check = check_of(&s, 5, 1, 0x11);

	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check ^ 1, MEMX_F_REPAIR), MEMX_S_CORRUPT);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x12, check, MEMX_F_REPAIR), MEMX_S_CORRUPT);
	assert_int_equal(store_flags(&s, 1, 6, 1, 0x11, check, MEMX_F_REPAIR), MEMX_S_CORRUPT);	/* another slot's page */
	assert_int_equal(store_flags(&s, 1, 5, 2, 0x11, check, MEMX_F_REPAIR), MEMX_S_CORRUPT);	/* another version's */
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_ABSENT);
	assert_int_equal(store_flags(&s, 1, 5, 1, 0x11, check, MEMX_F_REPAIR), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, 1), MEMX_S_OK);
	assert_int_equal(srv_counters(s.relay->donor->core)->corrupt, 4);
}

static void versions_use_all_64_bits(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(store(&s, 1, 5, UINT64_MAX - 1, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 5, 1ULL << 32, 2), MEMX_S_OLD);
	assert_int_equal(store(&s, 1, 5, UINT64_MAX, 3), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 5, UINT64_MAX), MEMX_S_OK);
	assert_true(fetched(s.relay, 3));
}

static void a_new_relay_finds_versions_as_they_were(void **state)
{
	struct relay *old = *state, *new = relay_new(old->donor);
	struct sess s = one_extent(state), n;

	assert_int_equal(store(&s, 1, 5, 9, 0x99), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 6, 9), MEMX_S_OK);
	n = session(new, "a", 2);
	assert_int_equal(store(&n, 1, 5, 8, 0x88), MEMX_S_OLD);
	assert_int_equal(store(&n, 1, 6, 8, 0x88), MEMX_S_OLD);
	assert_int_equal(fetch(&n, 1, 5, 9), MEMX_S_OK);
	relay_free(new);
}

/* ---- generations ------------------------------------------------------------------------------------------------------ */

static void changes_need_the_very_generation(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(place(&s, 0, 5), MEMX_S_OK);
	assert_int_equal(store(&s, 4, 0, 1, 1), MEMX_S_GENERATION);
	assert_int_equal(store(&s, 6, 0, 1, 1), MEMX_S_GENERATION);
	assert_int_equal(discard(&s, 4, 0, 1), MEMX_S_GENERATION);
	assert_int_equal(discard(&s, 6, 0, 1), MEMX_S_GENERATION);
	assert_true(memx_le64(((const struct memx_io *)s.relay->body)->generation) == 5);	/* and it says which */
	assert_int_equal(store(&s, 5, 0, 1, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, EXTENT, 1, 1), MEMX_S_ABSENT);		/* not held at all */
}

static void a_fetch_by_a_newer_record_is_served_by_an_older_copy(void **state)
{
	struct sess s = one_extent(state);

	assert_int_equal(place(&s, 0, 5), MEMX_S_OK);
	assert_int_equal(store(&s, 5, 0, 1, 1), MEMX_S_OK);
	assert_int_equal(fetch(&s, 5, 0, 1), MEMX_S_OK);
	assert_int_equal(fetch(&s, 9, 0, 1), MEMX_S_OK);		/* stale here: the version decides */
	assert_int_equal(fetch(&s, 9, 0, 2), MEMX_S_VERSION);
	assert_int_equal(fetch(&s, 4, 0, 1), MEMX_S_GENERATION);	/* the asker's record is the old one */
}

static void a_stale_copy_takes_nothing_but_serves(void **state)
{
	struct sess s = one_extent(state);
	struct memx_record rec = record(s.relay->donor, 0, 2, MEMX_R_STALE);

	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_OK);
	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_OK);
	assert_int_equal(store(&s, 2, 0, 2, 0x22), MEMX_S_GENERATION);
	assert_int_equal(discard(&s, 2, 0, 2), MEMX_S_GENERATION);
	assert_int_equal(fetch(&s, 2, 0, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x11));
	rec = record(s.relay->donor, 0, 3, MEMX_R_SYNCING);
	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_OK);
	assert_int_equal(store(&s, 3, 0, 2, 0x22), MEMX_S_OK);
}

/* ---- several pages at once -------------------------------------------------------------------------------------------- */

/* One bit of the page @damaged (none: @count) changes behind its check. */
static int store_damaged(struct sess *s, const u32 *slots, const u64 *versions, u32 count, u32 damaged)
{
	u8 *body = malloc(memx_store_len(count));
	struct memx_io *io = (void *)body;
	struct memx_page *page = (void *)(io + 1);
	u32 i;
	int status;

	assert_non_null(body);
	*io = (struct memx_io) { .session = memx_put_le32(s->handle), .extent = memx_put_le32(slots[0] >> s->order),
		.generation = memx_put_le64(1), .count = memx_put_le16((u16)count) };
	for (i = 0; i < count; i++) {
		u8 *data = (u8 *)(page + count) + (size_t)i * MEMX_PAGE_SIZE;

		memset(data, (int)(slots[i] + versions[i]), MEMX_PAGE_SIZE);
		page[i] = (struct memx_page) { .slot = memx_put_le32(slots[i]), .trailer.version = memx_put_le64(versions[i]),
			.trailer.check = memx_put_le64(memx_check(memx_session_seed(s->id), slots[i], versions[i], data)) };
	}
	if (damaged < count)
		((u8 *)(page + count))[(size_t)damaged * MEMX_PAGE_SIZE + 1234] ^= 0x10;
	status = ask(s->relay, MEMX_OP_STORE, 0, s->epoch, body, memx_store_len(count));
	free(body);
	return status;
}

static int store_batch(struct sess *s, const u32 *slots, const u64 *versions, u32 count)
{
	return store_damaged(s, slots, versions, count, count);
}

static int fetch_batch(struct sess *s, const u32 *slots, const u64 *versions, u32 count)
{
	struct { struct memx_io io; struct memx_want want[MEMX_MAX_PAGES]; } body = {
		.io = { .session = memx_put_le32(s->handle), .extent = memx_put_le32(slots[0] >> s->order),
			.generation = memx_put_le64(1), .count = memx_put_le16((u16)count) } };
	u32 i;

	for (i = 0; i < count; i++)
		body.want[i] = (struct memx_want) { .slot = memx_put_le32(slots[i]), .version = memx_put_le64(versions[i]) };
	return ask(s->relay, MEMX_OP_FETCH, 0, s->epoch, &body, memx_want_len(count));
}

static void thirty_two_pages_at_once(void **state)
{
	struct sess s = one_extent(state);
	u32 slots[MEMX_MAX_PAGES], i;
	u64 versions[MEMX_MAX_PAGES];
	const u8 *data = s.relay->body + memx_fetched_len(MEMX_MAX_PAGES, 0);

	for (i = 0; i < MEMX_MAX_PAGES; i++) {
		slots[i] = 2 * i;			/* apart, so that nothing can be merged */
		versions[i] = 1 + i % 3;
	}
	assert_int_equal(store_batch(&s, slots, versions, MEMX_MAX_PAGES), MEMX_S_OK);
	assert_int_equal(s.relay->head.len, MEMX_IO_LEN);
	assert_int_equal(fetch_batch(&s, slots, versions, MEMX_MAX_PAGES), MEMX_S_OK);
	assert_true(s.relay->refs);
	for (i = 0; i < MEMX_MAX_PAGES; i++) {
		assert_int_equal(data[(size_t)i * MEMX_PAGE_SIZE], (u8)(slots[i] + versions[i]));
		assert_int_equal(data[(size_t)(i + 1) * MEMX_PAGE_SIZE - 1], (u8)(slots[i] + versions[i]));
	}
}

static void of_many_pages_the_damaged_one_is_refused(void **state)
{
	struct sess s = one_extent(state);
	const struct memx_want *want = (const void *)(s.relay->body + MEMX_IO_LEN);
	u32 slots[MEMX_MAX_PAGES] = { 0 }, count, i, k;
	u64 versions[MEMX_MAX_PAGES] = { 0 };

	for (count = 2; count <= MEMX_MAX_PAGES; count += 5) {
		for (i = 0; i < count; i++) {
			for (k = 0; k < count; k++) {
				slots[k] = k;
				versions[k] = count * 100 + i;
			}
			assert_int_equal(store_damaged(&s, slots, versions, count, i), MEMX_S_PARTIAL);
			for (k = 0; k < count; k++)
				assert_int_equal(memx_le32(want[k].status), k == i ? MEMX_S_CORRUPT : MEMX_S_OK);
			assert_int_equal(fetch_batch(&s, slots, versions, count), MEMX_S_PARTIAL);
			assert_int_equal(s.relay->head.len, memx_fetched_len(count, count - 1));
		}
	}
}

static void each_page_of_a_store_has_its_own_fate(void **state)
{
	struct sess s = one_extent(state);
	const u32 slots[] = { 1, 2, 3, 4 };
	const u64 versions[] = { 5, 5, 5, 5 };
	const struct memx_want *want = (const void *)(s.relay->body + MEMX_IO_LEN);

	assert_int_equal(store(&s, 1, 2, 9, 0x99), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 3, 8), MEMX_S_OK);
	assert_int_equal(store_batch(&s, slots, versions, 4), MEMX_S_PARTIAL);
	assert_int_equal(s.relay->head.len, memx_want_len(4));
	assert_int_equal(memx_le32(want[0].status), MEMX_S_OK);
	assert_int_equal(memx_le32(want[1].status), MEMX_S_OLD);
	assert_int_equal(memx_le32(want[2].status), MEMX_S_OLD);
	assert_int_equal(memx_le32(want[3].status), MEMX_S_OK);
	assert_int_equal(memx_le32(want[3].slot), 4);
	assert_int_equal(fetch(&s, 1, 2, 9), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 3, 5), MEMX_S_ABSENT);
	assert_int_equal(fetch(&s, 1, 4, 5), MEMX_S_OK);
}

static void each_page_of_a_fetch_has_its_own_fate(void **state)
{
	struct sess s = one_extent(state);
	const u32 slots[] = { 1, 2, 3, 4 };
	const u64 versions[] = { 5, 5, 5, 5 };
	const struct memx_page *page = (const void *)(s.relay->body + MEMX_IO_LEN);

	assert_int_equal(store(&s, 1, 1, 5, 0x11), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 2, 6, 0x22), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 4, 5, 0x44), MEMX_S_OK);
	assert_int_equal(fetch_batch(&s, slots, versions, 4), MEMX_S_PARTIAL);
	assert_int_equal(s.relay->head.len, memx_fetched_len(4, 2));
	assert_int_equal(memx_le32(page[0].status), MEMX_S_OK);
	assert_int_equal(memx_le32(page[1].status), MEMX_S_VERSION);
	assert_int_equal(memx_le32(page[2].status), MEMX_S_ABSENT);
	assert_int_equal(memx_le32(page[3].status), MEMX_S_OK);
	assert_int_equal(s.relay->body[memx_fetched_len(4, 0)], 0x11);
	assert_int_equal(s.relay->body[memx_fetched_len(4, 1)], 0x44);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_stored_page_comes_back_with_its_trailer),
		TEST(a_fetch_gets_the_version_it_names_or_an_error),
		TEST(a_slot_that_was_never_stored_is_absent_and_never_zeros),
		TEST(late_bytes_of_an_old_connection_change_nothing),
		TEST(an_equal_version_is_answered_and_not_applied),
		TEST(a_discard_sent_again_behind_a_newer_store_keeps_the_page),
		TEST(a_discarded_slot_is_absent_at_every_version),
		TEST(repair_does_not_resurrect_a_discarded_page),
		TEST(a_discard_of_a_slot_that_is_not_held_leaves_its_version),
		TEST(repair_does_not_overwrite_a_fresh_page),
		TEST(repair_mends_only_what_is_damaged),
		TEST(a_page_damaged_on_its_way_is_not_stored),
		TEST(repair_never_copies_a_damaged_page),
		TEST(versions_use_all_64_bits),
		TEST(a_new_relay_finds_versions_as_they_were),
		TEST(changes_need_the_very_generation),
		TEST(a_fetch_by_a_newer_record_is_served_by_an_older_copy),
		TEST(a_stale_copy_takes_nothing_but_serves),
		TEST(thirty_two_pages_at_once),
		TEST(of_many_pages_the_damaged_one_is_refused),
		TEST(each_page_of_a_store_has_its_own_fate),
		TEST(each_page_of_a_fetch_has_its_own_fate),
	};

	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
