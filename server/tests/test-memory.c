// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-memory.c - how much there is and who gets it: reservations, quotas, limits, hosts without memory; and that nobody
 * sees what another session left behind. Both stores.
 */
#include "harness.h"

#include <stdio.h>
#include <unistd.h>

#include "../memfd_store.h"

/* ---- reservations ----------------------------------------------------------------------------------------------------- */

static void an_extent_needs_a_reservation(void **state)
{
	struct sess s = sess_of(*state, "a", 1);

	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 1), MEMX_S_NOSPACE);
	assert_int_equal(reserve(&s, 2 * EXTENT), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 2, 1), MEMX_S_NOSPACE);
	assert_int_equal(s.relay->donor->events[SRV_EVENT_NOSPACE], 2);
	assert_int_equal(free_extent(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 2, 1), MEMX_S_OK);
}

/* 64 chunks of 64 pages: four sessions of 16 extents each are all there can be. */
static void nothing_is_promised_twice(void **state)
{
	struct sess s[5];
	char name[2] = "a";
	u32 i, e;

	for (i = 0; i < 5; i++, name[0]++) {
		s[i] = sess_of(*state, name, 1);
		assert_int_equal(fence(&s[i]), MEMX_S_OK);
		assert_int_equal(reserve(&s[i], SLOTS), i < 4 ? MEMX_S_OK : MEMX_S_NOSPACE);
	}
	assert_true(memx_le64(stat_of(s[0].relay).pages_reserved) == 4096);
	assert_int_equal(reserve(&s[4], 1), MEMX_S_NOSPACE);
	/* What was promised is there, to the last extent. */
	for (e = 0; e < 16; e++)
		for (i = 0; i < 4; i++)
			assert_int_equal(place(&s[i], e, 1), MEMX_S_OK);
	assert_true(memx_le64(stat_of(s[0].relay).pages_used) == 4096);
	assert_int_equal(detach(&s[2]), MEMX_S_OK);
	assert_int_equal(reserve(&s[4], SLOTS), MEMX_S_OK);
	for (e = 0; e < 16; e++)
		assert_int_equal(place(&s[4], e, 1), MEMX_S_OK);
}

/* Sessions with extents of different sizes, placed and freed in disorder: a reservation still holds. */
static void a_promise_is_kept_whatever_the_extent_orders(void **state)
{
	struct sess small = sess_of(*state, "small", 1), large = sess_of(*state, "large", 1);
	u32 i;

	small.slots = 32 * 64;
	assert_int_equal(fence(&small), MEMX_S_OK);
	assert_int_equal(reserve(&small, 2048), MEMX_S_OK);
	large.order = 10;
	large.slots = 2048;
	assert_int_equal(fence(&large), MEMX_S_OK);
	for (i = 0; i < 32; i++)
		assert_int_equal(place(&small, i, 1), MEMX_S_OK);
	assert_int_equal(reserve(&large, 2048), MEMX_S_OK);
	assert_int_equal(place(&large, 0, 1), MEMX_S_OK);
	for (i = 0; i < 32; i += 2)
		assert_int_equal(free_extent(&small, i, 1), MEMX_S_OK);	/* holes everywhere */
	assert_int_equal(reserve(&small, 1024), MEMX_S_OK);
	assert_int_equal(place(&large, 1, 1), MEMX_S_OK);
	assert_int_equal(store(&large, 1, 2047, 1, 0x77), MEMX_S_OK);
	assert_int_equal(fetch(&large, 1, 2047, 1), MEMX_S_OK);
}

static void a_reservation_counts_what_is_used(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);
	assert_true(memx_le64(stat_of(s.relay).pages_reserved) == SLOTS);	/* in all, not in addition */
	assert_int_equal(reserve(&s, EXTENT), MEMX_S_OK);		/* less than is used: no more, but nothing goes */
	assert_true(memx_le64(stat_of(s.relay).pages_reserved) == 2 * EXTENT);
	assert_true(memx_le64(stat_of(s.relay).pages_used) == 2 * EXTENT);
	assert_int_equal(place(&s, 2, 1), MEMX_S_NOSPACE);
	assert_int_equal(free_extent(&s, 0, 1), MEMX_S_OK);
	assert_true(memx_le64(stat_of(s.relay).pages_reserved) == EXTENT);
	assert_int_equal(reserve(&s, 0), MEMX_S_OK);
	assert_int_equal(free_extent(&s, 1, 1), MEMX_S_OK);
	assert_true(memx_le64(stat_of(s.relay).pages_reserved) == 0);
}

static void absurd_reservations_are_refused(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(reserve(&s, 4097), MEMX_S_NOSPACE);
	assert_int_equal(reserve(&s, UINT32_MAX), MEMX_S_NOSPACE);
	assert_int_equal(reserve(&s, UINT64_MAX), MEMX_S_INVALID);
	assert_int_equal(reserve(&s, UINT64_MAX - 62), MEMX_S_INVALID);	/* would wrap when rounded up */
	assert_int_equal(reserve(&s, 1ULL << 63), MEMX_S_INVALID);
	assert_true(memx_le64(stat_of(s.relay).pages_reserved) == SLOTS);
}

static void a_quota_bounds_one_session(void **state)
{
	struct sess a = session(*state, "a", 1), b = sess_of(*state, "b", 1);

	srv_set_quota(a.relay->donor->core, 128);
	assert_int_equal(fence(&b), MEMX_S_OK);
	assert_int_equal(reserve(&b, 129), MEMX_S_NOSPACE);
	assert_int_equal(reserve(&b, 128), MEMX_S_OK);
	assert_int_equal(place(&a, 10, 1), MEMX_S_OK);		/* what was promised before stays promised */
}

static void a_lowered_limit_refuses_what_is_new_and_frees_nothing(void **state)
{
	struct sess a = session(*state, "a", 1), b = sess_of(*state, "b", 1);

	assert_int_equal(place(&a, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&a, 1, 0, 1, 0x11), MEMX_S_OK);
	srv_set_limit(a.relay->donor->core, EXTENT);
	assert_int_equal(fence(&b), MEMX_S_OK);
	assert_int_equal(reserve(&b, 1), MEMX_S_NOSPACE);
	assert_int_equal(place(&a, 1, 1), MEMX_S_NOSPACE);	/* promised, but the memory is gone */
	assert_int_equal(fetch(&a, 1, 0, 1), MEMX_S_OK);
	assert_true(memx_le64(stat_of(a.relay).pages_total) == EXTENT);
	srv_set_limit(a.relay->donor->core, 4096);
	assert_int_equal(place(&a, 1, 1), MEMX_S_OK);
	assert_int_equal(reserve(&b, 1), MEMX_S_OK);
}

static void the_limit_is_capped_by_the_store(void **state)
{
	struct relay *r = *state;

	srv_set_limit(r->donor->core, UINT64_MAX);
	assert_true(memx_le64(stat_of(r).pages_total) == 4096);
}

static void a_donor_that_is_leaving_takes_nothing_new(void **state)
{
	struct sess a = session(*state, "a", 1), b = sess_of(*state, "b", 1);

	assert_int_equal(place(&a, 0, 1), MEMX_S_OK);
	srv_set_draining(a.relay->donor->core, true);
	assert_true(memx_le32(stat_of(a.relay).flags) & MEMX_STAT_DRAINING);
	assert_int_equal(place(&a, 1, 1), MEMX_S_DRAINING);
	assert_int_equal(fence(&b), MEMX_S_OK);
	assert_int_equal(reserve(&b, 64), MEMX_S_DRAINING);
	assert_int_equal(store(&a, 1, 0, 1, 1), MEMX_S_OK);	/* what is here goes on */
	assert_int_equal(fetch(&a, 1, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&a, 0, 2), MEMX_S_OK);
}

/* ---- a host without memory -------------------------------------------------------------------------------------------- */

static void a_host_without_memory_is_a_status_per_page(void **state)
{
	struct srv_config config = { .id = "donor under test", .instance = 4711, .limit_pages = 64 * 64, .max_sessions = 3,
				     .max_handles = 3 };
	struct donor *d = donor_with(64, 2, &config);		/* memory for two chunks, whatever the limit says */
	struct relay *r = relay_new(d);
	struct sess s = session(r, "a", 1);

	(void)state;
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 2, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 0, 1, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, EXTENT, 1, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 2 * EXTENT, 1, 1), MEMX_S_NOSPACE);
	assert_int_equal(d->events[SRV_EVENT_NOMEM], 1);
	assert_int_equal(fetch(&s, 1, 2 * EXTENT, 1), MEMX_S_ABSENT);	/* and nothing was changed */
	assert_int_equal(store(&s, 1, 1, 1, 1), MEMX_S_OK);
	assert_int_equal(free_extent(&s, 0, 1), MEMX_S_OK);
	srv_scrub(d->core, 64);
	assert_int_equal(store(&s, 1, 2 * EXTENT, 1, 1), MEMX_S_OK);	/* the same version: it had not been taken */
	relay_free(r);
	donor_free(d);
}

/* ---- nobody sees another session's pages ------------------------------------------------------------------------------ */

/* Fills all of a donor's memory as session @name. */
static void fill(struct relay *r, const char *name, u8 byte)
{
	struct sess s = sess_of(r, name, 1);
	u32 slot;

	s.slots = 64 * 64;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, s.slots), MEMX_S_OK);
	for (slot = 0; slot < s.slots; slot++) {
		if (slot % EXTENT == 0)
			assert_int_equal(place(&s, slot / EXTENT, 1), MEMX_S_OK);
		assert_int_equal(store(&s, 1, slot, 5, byte), MEMX_S_OK);
	}
}

static int all_zero(const struct donor *d, u32 chunk)
{
	const u8 *pages = d->store->pages + (size_t)chunk * SRV_CHUNK_BYTES;
	u32 i;

	for (i = 0; i < SRV_CHUNK_BYTES; i++)
		if (pages[i])
			return 0;
	return 1;
}

/* The next session gets the same memory, first use of each chunk: zeros, no versions, nothing to scan. */
static void next_session_sees_nothing(struct relay *r)
{
	struct sess s = sess_of(r, "next", 1);
	u32 e, c, zero = 0;

	s.slots = 64 * 64;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, s.slots), MEMX_S_OK);
	for (e = 0; e < 64; e++) {
		assert_int_equal(place(&s, e, 1), MEMX_S_OK);
		assert_int_equal(scan_from(&s, e, 0), MEMX_S_OK);
		assert_int_equal(list_count(r), 0);
		assert_int_equal(fetch(&s, 1, e * EXTENT, 5), MEMX_S_ABSENT);
		assert_int_equal(store(&s, 1, e * EXTENT, 1, 0), MEMX_S_OK);	/* an older version than the predecessor's */
	}
	for (c = 0; c < 64; c++)
		zero += (u32)all_zero(r->donor, c);
	assert_int_equal(zero, 64);		/* all that was stored since is zeros: no byte of the predecessor is left */
}

static void memory_is_zeroed_before_another_session_has_it(void **state)
{
	struct relay *r = *state;
	struct sess s;

	fill(r, "first", 0xee);
	s = sess_of(r, "first", 1);
	s.slots = 0;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(detach(&s), MEMX_S_OK);
	next_session_sees_nothing(r);
}

static void memory_is_zeroed_at_leisure(void **state)
{
	struct relay *r = *state;
	u32 c, rounds = 0;

	fill(r, "first", 0xee);
	assert_int_equal(srv_session_remove(r->donor->core, sess_of(r, "first", 1).vm, sess_of(r, "first", 1).id, true), 0);
	while (srv_scrub(r->donor->core, 5))
		rounds++;
	assert_in_range(rounds, 11, 13);
	for (c = 0; c < 64; c++)
		assert_true(all_zero(r->donor, c));
	assert_int_equal(srv_counters(r->donor->core)->chunks_scrubbed, 64);
	next_session_sees_nothing(r);
}

static void an_extent_placed_again_remembers_nothing(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 0, 9, 0x99), MEMX_S_OK);
	assert_int_equal(free_extent(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 2), MEMX_S_OK);
	assert_int_equal(fetch(&s, 2, 0, 9), MEMX_S_ABSENT);
}

/* ---- the memfd store -------------------------------------------------------------------------------------------------- */

static struct relay *memfd_relay(u32 chunks, u32 max_chunks)
{
	struct srv_memfd_options options = { .chunks = chunks, .max_chunks = max_chunks, .lock = SRV_TRY, .huge = SRV_TRY };
	struct srv_config config = { .id = "donor under test", .instance = 4711, .limit_pages = (u64)chunks * 64,
				     .max_sessions = 9, .max_handles = 9 };
	struct srv_memfd_facts facts;
	struct donor *d = calloc(1, sizeof(*d));
	char err[256];

	assert_non_null(d);
	d->config = config;
	d->store = srv_memfd_store(&options, &facts, err, sizeof(err));
	if (!d->store)
		fail_msg("%s", err);
	d->core = srv_new(&config, d->store, NULL, NULL);
	assert_non_null(d->core);
	return relay_new(d);
}

static void the_memfd_store_keeps_and_forgets_alike(void **state)
{
	struct relay *r = memfd_relay(64, 64);
	struct donor *d = r->donor;
	struct sess s = sess_of(r, "first", 1);

	(void)state;
	fill(r, "first", 0xee);
	assert_int_equal(fence(&s), MEMX_S_MISMATCH);		/* fill() made it larger */
	s.slots = 0;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(fetch(&s, 1, 4095, 5), MEMX_S_OK);
	assert_true(fetched(r, 0xee));
	assert_int_equal(detach(&s), MEMX_S_OK);
	next_session_sees_nothing(r);
	relay_free(r);
	donor_free(d);
}

/* Pages of this process that are in memory for good, from the kernel. */
static u64 resident_kib(const struct srv_store *store)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[256];
	char *end;
	bool ours = false;
	u64 sum = 0;

	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		u64 from = strtoull(line, &end, 16);

		if (end != line && *end == '-')		/* a mapping; the lines about it follow */
			ours = from >= (uintptr_t)store->pages &&
			       from < (uintptr_t)store->pages + (u64)store->chunks * SRV_CHUNK_BYTES;
		else if (ours && !strncmp(line, "Rss:", 4))
			sum += strtoull(line + 4, NULL, 10);
	}
	fclose(smaps);
	return sum;
}

static void freed_memory_goes_back_to_the_host(void **state)
{
	struct relay *r = memfd_relay(64, 64);
	struct donor *d = r->donor;

	(void)state;
	assert_int_equal(resident_kib(d->store), 0);		/* nothing is taken before it is needed */
	fill(r, "first", 0xee);
	assert_true(resident_kib(d->store) >= 64 * SRV_CHUNK_BYTES / 1024);
	assert_int_equal(srv_session_remove(d->core, sess_of(r, "first", 1).vm, sess_of(r, "first", 1).id, true), 0);
	while (srv_scrub(d->core, 64))
		continue;
	assert_int_equal(resident_kib(d->store), 0);
	relay_free(r);
	donor_free(d);
}

static void the_limit_can_be_raised_up_to_the_address_space(void **state)
{
	struct relay *r = memfd_relay(2, 8);
	struct donor *d = r->donor;
	struct sess s = sess_of(r, "a", 1);
	u32 e;

	(void)state;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 3 * 64), MEMX_S_NOSPACE);
	assert_int_equal(srv_memfd_cover(d->store, 9), -ENOSPC);
	assert_int_equal(srv_memfd_cover(d->store, 8), 0);
	srv_set_limit(d->core, 8 * 64);
	assert_int_equal(reserve(&s, 8 * 64), MEMX_S_OK);
	for (e = 0; e < 8; e++) {
		assert_int_equal(place(&s, e, 1), MEMX_S_OK);
		assert_int_equal(store(&s, 1, e * EXTENT, 1, (u8)e), MEMX_S_OK);
	}
	for (e = 0; e < 8; e++) {
		assert_int_equal(fetch(&s, 1, e * EXTENT, 1), MEMX_S_OK);
		assert_true(fetched(r, (u8)e));
	}
	relay_free(r);
	donor_free(d);
}

static void accounting_includes_the_slot_data(void **state)
{
	(void)state;
	assert_int_equal(srv_chunks_of(0), 0);
	assert_int_equal(srv_chunks_of(65 * 4096 - 1), 0);
	assert_int_equal(srv_chunks_of(65 * 4096), 1);
	assert_int_equal(srv_chunks_of(1 << 20), 3);
	assert_int_equal(srv_chunks_of(UINT64_MAX), UINT32_MAX / 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_extent_needs_a_reservation),
		TEST(nothing_is_promised_twice),
		TEST(a_promise_is_kept_whatever_the_extent_orders),
		TEST(a_reservation_counts_what_is_used),
		TEST(absurd_reservations_are_refused),
		TEST(a_quota_bounds_one_session),
		TEST(a_lowered_limit_refuses_what_is_new_and_frees_nothing),
		TEST(the_limit_is_capped_by_the_store),
		TEST(a_donor_that_is_leaving_takes_nothing_new),
		TEST(a_host_without_memory_is_a_status_per_page),
		TEST(memory_is_zeroed_before_another_session_has_it),
		TEST(memory_is_zeroed_at_leisure),
		TEST(an_extent_placed_again_remembers_nothing),
		cmocka_unit_test(the_memfd_store_keeps_and_forgets_alike),
		cmocka_unit_test(freed_memory_goes_back_to_the_host),
		cmocka_unit_test(the_limit_can_be_raised_up_to_the_address_space),
		cmocka_unit_test(accounting_includes_the_slot_data),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
