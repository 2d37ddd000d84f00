// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-extents.c - records and generations: placing, giving up, the guest's complete map, lists, pins.
 */
#include <malloc.h>

#include "harness.h"

/* ---- PLACE ------------------------------------------------------------------------------------------------------------ */

static void an_extent_is_made_only_on_demand(void **state)
{
	struct sess s = session(*state, "a", 1);
	struct memx_record rec = record(s.relay->donor, 3, 1, MEMX_R_LIVE);

	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_ABSENT);
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_OK);
	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_OK);
}

static void a_generation_only_rises(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 3, 5), MEMX_S_OK);
	assert_int_equal(place(&s, 3, 4), MEMX_S_GENERATION);
	assert_int_equal(place(&s, 3, 5), MEMX_S_OK);		/* sent again */
	assert_int_equal(place(&s, 3, 6), MEMX_S_OK);
	assert_int_equal(place(&s, 3, 5), MEMX_S_GENERATION);
	assert_int_equal(place(&s, 3, UINT64_MAX), MEMX_S_OK);
}

static void raising_a_generation_keeps_the_pages(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 7, 1, 0x77), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 2), MEMX_S_OK);
	assert_int_equal(fetch(&s, 2, 7, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x77));
	assert_int_equal(store(&s, 2, 7, 1, 0x99), MEMX_S_OK);	/* and the versions */
	assert_int_equal(fetch(&s, 2, 7, 1), MEMX_S_OK);
	assert_true(fetched(s.relay, 0x77));
}

static void one_generation_means_one_record(void **state)
{
	struct sess s = session(*state, "a", 1);
	struct memx_record rec = record(s.relay->donor, 3, 5, MEMX_R_LIVE);

	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_OK);
	rec.replica[1].state = MEMX_R_SYNCING;
	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_MISMATCH);
}

/*
 * A relay placed a record and died before the guest acknowledged it: the guest knows nothing of it. The next relay may come
 * to the same generation with another record, and what was not acknowledged must not stand in its way.
 */
static void a_record_that_never_took_effect_is_replaced_in_a_later_epoch(void **state)
{
	struct sess s = session(*state, "a", 1);
	struct memx_record rec = record(s.relay->donor, 3, 5, MEMX_R_LIVE);

	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_OK);
	s.epoch = 2;
	assert_int_equal(fence(&s), MEMX_S_OK);
	rec.replica[1].state = MEMX_R_SYNCING;
	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_OK);
	rec.replica[1].state = MEMX_R_STALE;
	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_MISMATCH);	/* in its own epoch it stands */
}

static void a_record_must_name_this_donor_and_this_store(void **state)
{
	struct sess s = session(*state, "a", 1);
	struct memx_record rec = record(s.relay->donor, 3, 1, MEMX_R_LIVE);

	rec.replica[0].donor[0] ^= 1;
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	rec.replica[0].donor[0] ^= 1;
	rec.replica[0].instance = memx_put_le64(4712);		/* the store before the restart */
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_MISMATCH);
	rec.replica[0].instance = memx_put_le64(4711);
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_OK);
}

static void impossible_records_are_refused(void **state)
{
	struct sess s = session(*state, "a", 1);
	struct memx_record good = record(s.relay->donor, 3, 1, MEMX_R_LIVE), rec;

	rec = good;
	rec.extent = memx_put_le32(SLOTS / EXTENT);
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	rec = good;
	rec.generation = 0;
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	rec = good;
	rec.replicas = 0;
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	rec.replicas = 255;
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	rec = good;
	memcpy(rec.replica[1].donor, rec.replica[0].donor, 16);
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	rec = good;
	rec.replica[0].state = MEMX_R_SYNCING;
	rec.replica[1].state = MEMX_R_SYNCING;			/* none live */
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	rec = record(s.relay->donor, 3, 1, MEMX_R_STALE);	/* nothing to be made for a copy that takes nothing */
	assert_int_equal(place_record(&s, MEMX_PLACE_CREATE, &rec), MEMX_S_INVALID);
	assert_true(memx_le64(stat_of(s.relay).pages_used) == 0);
}

/* Who places the last extent of the largest session does not make a table for all before it, and nobody walks it step by step. */
static void a_table_is_as_large_as_what_is_in_it(void **state)
{
	struct relay *relay = *state;
	struct sess s = sess_of(relay, "huge", 1);
	size_t before;
	u64 work;
	u32 last;

	s.slots = ~0U;
	last = memx_extents(s.slots, s.order) - 1;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 3 * EXTENT), MEMX_S_OK);
	before = mallinfo2().uordblks;
	assert_int_equal(place(&s, last, 1), MEMX_S_OK);
	assert_in_range(mallinfo2().uordblks - before, 0, 32 << 10);
	assert_int_equal(place(&s, 7, 1), MEMX_S_OK);
	work = srv_work(relay->donor->core);
	assert_int_equal(list_from(&s, 0), MEMX_S_OK);
	assert_in_range(srv_work(relay->donor->core) - work, 1, 256 << 10);
	assert_int_equal(list_count(relay), 2);
	assert_int_equal(memx_le32(list_refs(relay)[0].extent), 7);
	assert_int_equal(memx_le32(list_refs(relay)[1].extent), last);
	assert_int_equal(list_from(&s, 8), MEMX_S_OK);
	assert_int_equal(list_count(relay), 1);
	assert_int_equal(list_from(&s, ~0U), MEMX_S_OK);
	assert_int_equal(list_count(relay), 0);
	assert_int_equal(free_extent(&s, last, 1), MEMX_S_OK);
	assert_int_equal(place(&s, last, 2), MEMX_S_OK);
	s.epoch = 2;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(retain(&s, MEMX_F_FIRST | MEMX_F_LAST, &last, 1), MEMX_S_OK);
	assert_int_equal(list_from(&s, 0), MEMX_S_OK);
	assert_int_equal(list_count(relay), 1);
	assert_int_equal(memx_le32(list_refs(relay)[0].extent), last);
	assert_int_equal(detach(&s), MEMX_S_OK);
}

static void the_last_extent_of_a_session_may_be_short(void **state)
{
	struct sess s = sess_of(*state, "a", 1);

	s.order = 8;
	s.slots = 300;				/* 256 and 44 */
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 300), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);		/* what was reserved for 300 slots holds 300 slots */
	assert_true(memx_le64(stat_of(s.relay).pages_used) == 320);
	assert_int_equal(store(&s, 1, 299, 1, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 300, 1, 1), MEMX_S_INVALID);
}

static void extents_larger_than_a_chunk_keep_every_slot(void **state)
{
	struct sess s = sess_of(*state, "a", 1);
	u32 slot;

	s.order = 9;
	s.slots = 1024;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 1024), MEMX_S_OK);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);
	for (slot = 512; slot < 1024; slot += 7)
		assert_int_equal(store(&s, 1, slot, slot, (u8)(slot * 3)), MEMX_S_OK);
	for (slot = 512; slot < 1024; slot++) {
		int held = (slot - 512) % 7 == 0;

		assert_int_equal(fetch(&s, 1, slot, slot), held ? MEMX_S_OK : MEMX_S_ABSENT);
		assert_int_equal(fetched(s.relay, (u8)(slot * 3)), held);
	}
}

/* The frames are short, what they ask for takes long: it is told, so that others get their turn between. */
static void what_memory_and_looks_cost_is_told(void **state)
{
	struct relay *relay = *state;
	struct srv *core = relay->donor->core;
	struct sess s = sess_of(relay, "a", 1), t;
	u64 before, first;
	char name[8];
	u32 i;

	s.order = 9;
	s.slots = 1024;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 1024), MEMX_S_OK);
	before = srv_work(core);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);
	assert_in_range(srv_work(core) - before, 512 / SRV_CHUNK_PAGES * (32 << 10), 512 / SRV_CHUNK_PAGES * (256 << 10));
	before = srv_work(core);
	assert_int_equal(store(&s, 1, 512, 1, 3), MEMX_S_OK);		/* its chunk gets its memory now */
	first = srv_work(core) - before;
	assert_in_range(first, 32 << 10, 256 << 10);
	before = srv_work(core);
	assert_int_equal(store(&s, 1, 513, 1, 3), MEMX_S_OK);
	assert_in_range(srv_work(core) - before, 0, first / 4);

	for (i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		t = sess_of(relay, name, 1);
		assert_int_equal(fence(&t), MEMX_S_OK);
	}
	before = srv_work(core);
	assert_int_equal(fence(&t), MEMX_S_OK);				/* known, and the last of many */
	assert_in_range(srv_work(core) - before, 64 * 8, 64 << 10);
}

/* ---- FREE ------------------------------------------------------------------------------------------------------------- */

static void an_extent_is_freed_only_by_a_generation_that_is_not_older(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 3, 5), MEMX_S_OK);
	assert_int_equal(free_extent(&s, 3, 4), MEMX_S_GENERATION);
	assert_int_equal(free_extent(&s, 3, 5), MEMX_S_OK);
	assert_int_equal(free_extent(&s, 3, 5), MEMX_S_ABSENT);
	assert_int_equal(place(&s, 3, 5), MEMX_S_OK);
	assert_int_equal(free_extent(&s, 3, 6), MEMX_S_OK);
	assert_true(memx_le64(stat_of(s.relay).pages_used) == 0);
}

/* A free that was sent for an old record arrives behind the placement that took the extent into use again. */
static void a_late_free_does_not_hit_a_newer_placement(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 3, 5), MEMX_S_OK);
	assert_int_equal(place(&s, 3, 7), MEMX_S_OK);
	assert_int_equal(store(&s, 7, 3 * EXTENT, 1, 1), MEMX_S_OK);
	assert_int_equal(free_extent(&s, 3, 5), MEMX_S_GENERATION);
	assert_int_equal(free_extent(&s, 3, 6), MEMX_S_GENERATION);
	assert_int_equal(fetch(&s, 7, 3 * EXTENT, 1), MEMX_S_OK);
}

/* ---- RETAIN ----------------------------------------------------------------------------------------------------------- */

static struct sess three_old_extents(void **state)
{
	struct sess s = session(*state, "a", 1);
	u32 i;

	for (i = 0; i < 3; i++)
		assert_int_equal(place(&s, i, 1), MEMX_S_OK);
	s.epoch = 2;
	assert_int_equal(fence(&s), MEMX_S_OK);
	return s;
}

static int holds(struct sess *s, u32 extent)
{
	u32 i;

	assert_int_equal(list_from(s, extent), MEMX_S_OK);
	for (i = 0; i < list_count(s->relay); i++)
		if (memx_le32(list_refs(s->relay)[i].extent) == extent)
			return 1;
	return 0;
}

static void what_the_map_does_not_name_goes(void **state)
{
	struct sess s = three_old_extents(state);
	const u32 named[] = { 1 };

	assert_int_equal(retain(&s, MEMX_F_FIRST | MEMX_F_LAST, named, 1), MEMX_S_OK);
	assert_int_equal(memx_le32(((const struct memx_list *)s.relay->body)->session), 2);
	assert_false(holds(&s, 0));
	assert_true(holds(&s, 1));
	assert_false(holds(&s, 2));
	assert_int_equal(s.relay->donor->events[SRV_EVENT_CONDEMNED], 1);
}

static void what_this_epoch_placed_is_spared(void **state)
{
	struct sess s = three_old_extents(state);
	const u32 named[] = { 1 };

	assert_int_equal(place(&s, 5, 1), MEMX_S_OK);		/* placed after the map was handed over */
	assert_int_equal(place(&s, 0, 2), MEMX_S_OK);		/* an old one, taken into use again in this epoch */
	assert_int_equal(retain(&s, MEMX_F_FIRST | MEMX_F_LAST, named, 1), MEMX_S_OK);
	assert_true(holds(&s, 5));
	assert_true(holds(&s, 0));
	assert_true(holds(&s, 1));
	assert_false(holds(&s, 2));
}

static void a_map_comes_in_several_frames(void **state)
{
	struct sess s = three_old_extents(state);
	const u32 one[] = { 0 }, two[] = { 2 };

	assert_int_equal(retain(&s, MEMX_F_FIRST, one, 1), MEMX_S_OK);
	assert_int_equal(retain(&s, 0, NULL, 0), MEMX_S_OK);
	assert_true(holds(&s, 1));				/* nothing goes before the end */
	assert_int_equal(retain(&s, MEMX_F_LAST, two, 1), MEMX_S_OK);
	assert_true(holds(&s, 0));
	assert_false(holds(&s, 1));
	assert_true(holds(&s, 2));
}

/* Half a map is none: without its beginning it would condemn what the beginning named. */
static void half_a_map_condemns_nothing(void **state)
{
	struct sess s = three_old_extents(state);
	struct relay *other;
	struct sess o;
	const u32 one[] = { 0 };

	assert_int_equal(retain(&s, MEMX_F_LAST, one, 1), MEMX_S_INVALID);
	assert_int_equal(retain(&s, MEMX_F_FIRST, one, 1), MEMX_S_OK);
	other = relay_new(s.relay->donor);			/* the end comes over another connection */
	o = session(other, "a", 2);
	assert_int_equal(retain(&o, MEMX_F_LAST, NULL, 0), MEMX_S_INVALID);
	relay_free(other);
	s.epoch = 3;						/* the epoch changes in between */
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(retain(&s, MEMX_F_LAST, NULL, 0), MEMX_S_INVALID);
	assert_true(holds(&s, 0) && holds(&s, 1) && holds(&s, 2));
}

static void a_map_whose_connection_was_lost_is_not_finished_by_the_next(void **state)
{
	struct sess s = three_old_extents(state), o;
	struct relay *other = relay_new(s.relay->donor);
	const u32 one[] = { 0 };

	o = session(other, "a", 2);
	assert_int_equal(retain(&o, MEMX_F_FIRST, one, 1), MEMX_S_OK);
	relay_free(other);
	other = relay_new(s.relay->donor);			/* may well get the same address */
	o = session(other, "a", 2);
	assert_int_equal(retain(&o, MEMX_F_LAST, NULL, 0), MEMX_S_INVALID);
	assert_true(holds(&o, 1));
	relay_free(other);
}

static void a_map_begun_again_forgets_its_first_beginning(void **state)
{
	struct sess s = three_old_extents(state);
	const u32 one[] = { 0 }, two[] = { 1 };

	assert_int_equal(retain(&s, MEMX_F_FIRST, one, 1), MEMX_S_OK);
	assert_int_equal(retain(&s, MEMX_F_FIRST | MEMX_F_LAST, two, 1), MEMX_S_OK);
	assert_false(holds(&s, 0));
	assert_true(holds(&s, 1));
}

static void names_of_extents_that_are_not_held_mean_nothing(void **state)
{
	struct sess s = three_old_extents(state);
	const u32 named[] = { 0, 1, 2, 15, 16, 1000000, UINT32_MAX };

	assert_int_equal(retain(&s, MEMX_F_FIRST | MEMX_F_LAST, named, 7), MEMX_S_OK);
	assert_true(holds(&s, 0) && holds(&s, 1) && holds(&s, 2));
}

/* ---- DETACH, LIST, SCAN ----------------------------------------------------------------------------------------------- */

static void detach_frees_the_session_wholly_and_no_other(void **state)
{
	struct sess a = session(*state, "a", 1), b = session(*state, "b", 1);

	assert_int_equal(place(&a, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&b, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&b, 1, 0, 1, 0xbb), MEMX_S_OK);
	assert_int_equal(detach(&a), MEMX_S_OK);
	assert_int_equal(store(&a, 1, 0, 1, 0xaa), MEMX_S_UNKNOWN);
	assert_int_equal(fence_flags(&a, 0), MEMX_S_UNKNOWN);
	assert_true(memx_le64(stat_of(a.relay).pages_used) == EXTENT);
	assert_true(memx_le64(stat_of(a.relay).pages_reserved) == SLOTS);
	assert_int_equal(fetch(&b, 1, 0, 1), MEMX_S_OK);
	assert_true(fetched(b.relay, 0xbb));
}

static void a_list_is_complete_and_in_order(void **state)
{
	struct srv_config config = { .id = "x", .instance = 1, .limit_pages = 64 * 1100, .max_sessions = 3, .max_handles = 3 };
	struct donor *d = donor_with(1100, 0, &config);
	struct relay *r = relay_new(d);
	struct sess s = sess_of(r, "a", 1);
	u32 i, from = 0, seen = 0;

	(void)state;
	s.slots = 64 * 4000;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 64 * 1100), MEMX_S_OK);
	for (i = 0; i < 1100; i++)
		assert_int_equal(place(&s, 3 * i + 1, 7 + i), MEMX_S_OK);
	for (;;) {
		assert_int_equal(list_from(&s, from), MEMX_S_OK);
		for (i = 0; i < list_count(r); i++, seen++) {
			assert_int_equal(memx_le32(list_refs(r)[i].extent), 3 * seen + 1);
			assert_true(memx_le64(list_refs(r)[i].generation) == 7 + seen);
			from = 3 * seen + 2;
		}
		if (r->head.flags & MEMX_F_LAST)
			break;
		assert_int_equal(list_count(r), MEMX_MAX_EXTENTS);
	}
	assert_int_equal(seen, 1100);
	assert_int_equal(list_from(&s, UINT32_MAX), MEMX_S_OK);
	assert_int_equal(list_count(r), 0);
	relay_free(r);
	donor_free(d);
}

static void a_scan_tells_versions_of_held_and_discarded_slots(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 2, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 2 * EXTENT + 3, 10, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 2 * EXTENT + 63, 11, 1), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 2 * EXTENT + 9, 12), MEMX_S_OK);
	assert_int_equal(scan_from(&s, 2, 0), MEMX_S_OK);
	assert_int_equal(list_count(s.relay), 3);
	assert_true(s.relay->head.flags & MEMX_F_LAST);
	assert_int_equal(memx_le32(list_wants(s.relay)[0].slot), 2 * EXTENT + 3);
	assert_true(memx_le64(list_wants(s.relay)[0].version) == 10);
	assert_int_equal(memx_le32(list_wants(s.relay)[0].status), MEMX_S_OK);
	assert_int_equal(memx_le32(list_wants(s.relay)[1].slot), 2 * EXTENT + 9);
	assert_int_equal(memx_le32(list_wants(s.relay)[1].status), MEMX_S_ABSENT);
	assert_true(memx_le64(list_wants(s.relay)[1].version) == 12);
	assert_int_equal(scan_from(&s, 2, 2 * EXTENT + 10), MEMX_S_OK);
	assert_int_equal(list_count(s.relay), 1);
	assert_int_equal(scan_from(&s, 2, UINT32_MAX), MEMX_S_OK);
	assert_int_equal(list_count(s.relay), 0);
	assert_int_equal(scan_from(&s, 3, 0), MEMX_S_ABSENT);
}

static void a_long_scan_goes_on_where_it_stopped(void **state)
{
	struct sess s = sess_of(*state, "a", 1);
	u32 slot, from = 0, seen = 0, i;

	s.order = 11;
	s.slots = 2048;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(reserve(&s, 2048), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	for (slot = 0; slot < 1500; slot++)
		assert_int_equal(discard(&s, 1, slot, slot + 1), MEMX_S_OK);
	do {
		assert_int_equal(scan_from(&s, 0, from), MEMX_S_OK);
		for (i = 0; i < list_count(s.relay); i++, seen++) {
			assert_int_equal(memx_le32(list_wants(s.relay)[i].slot), seen);
			from = seen + 1;
		}
	} while (!(s.relay->head.flags & MEMX_F_LAST));
	assert_int_equal(seen, 1500);
}

/* ---- PIN -------------------------------------------------------------------------------------------------------------- */

static void a_pin_wants_a_live_copy_at_the_same_generation(void **state)
{
	struct sess s = session(*state, "a", 1);
	struct relay *other = relay_raw(s.relay->donor);
	struct memx_record rec;

	assert_int_equal(hello(other, 1, 1, MEMX_ROLE_DONOR), MEMX_S_OK);
	assert_int_equal(pin(other, &s, 0, 5), MEMX_S_ABSENT);
	assert_int_equal(place(&s, 0, 5), MEMX_S_OK);
	assert_int_equal(pin(other, &s, 0, 4), MEMX_S_GENERATION);
	assert_int_equal(pin(other, &s, 0, 6), MEMX_S_GENERATION);
	assert_int_equal(pin(other, &s, 0, 5), MEMX_S_OK);
	rec = record(s.relay->donor, 0, 6, MEMX_R_SYNCING);
	assert_int_equal(place_record(&s, 0, &rec), MEMX_S_OK);
	assert_int_equal(pin(other, &s, 0, 6), MEMX_S_ABSENT);		/* it is not a whole copy */
	s.id[0] ^= 1;
	assert_int_equal(pin(other, &s, 0, 6), MEMX_S_ABSENT);
	relay_free(other);
}

/* ---- the admin -------------------------------------------------------------------------------------------------------- */

static void the_admin_frees_a_session_under_its_relay(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(srv_session_remove(s.relay->donor->core, s.vm, s.id, false), -EBUSY);
	assert_int_equal(store(&s, 1, 0, 1, 1), MEMX_S_OK);
	assert_int_equal(srv_session_remove(s.relay->donor->core, s.vm, s.id, true), 0);
	assert_int_equal(srv_session_remove(s.relay->donor->core, s.vm, s.id, true), -ENOENT);
	assert_int_equal(store(&s, 1, 0, 1, 1), MEMX_S_UNKNOWN);
	assert_true(memx_le64(stat_of(s.relay).pages_reserved) == 0);
}

static void look(void *ctx, const struct srv_session_info *info)
{
	*(struct srv_session_info *)ctx = *info;
}

static void sessions_can_be_looked_at(void **state)
{
	struct sess s = session(*state, "a", 4);
	struct srv_session_info info;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 0, 1, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 1, 1, 1), MEMX_S_OK);
	assert_int_equal(discard(&s, 1, 1, 2), MEMX_S_OK);
	srv_sessions(s.relay->donor->core, look, &info);
	assert_memory_equal(info.session, s.id, 16);
	assert_true(info.epoch == 4 && info.extents == 1 && info.pages_used == EXTENT && info.pages_reserved == SLOTS);
	assert_true(info.pages_held == 1 && info.handles == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_extent_is_made_only_on_demand),
		TEST(a_generation_only_rises),
		TEST(raising_a_generation_keeps_the_pages),
		TEST(one_generation_means_one_record),
		TEST(a_record_that_never_took_effect_is_replaced_in_a_later_epoch),
		TEST(a_record_must_name_this_donor_and_this_store),
		TEST(impossible_records_are_refused),
		TEST(a_table_is_as_large_as_what_is_in_it),
		TEST(the_last_extent_of_a_session_may_be_short),
		TEST(extents_larger_than_a_chunk_keep_every_slot),
		TEST(what_memory_and_looks_cost_is_told),
		TEST(an_extent_is_freed_only_by_a_generation_that_is_not_older),
		TEST(a_late_free_does_not_hit_a_newer_placement),
		TEST(what_the_map_does_not_name_goes),
		TEST(what_this_epoch_placed_is_spared),
		TEST(a_map_comes_in_several_frames),
		TEST(half_a_map_condemns_nothing),
		TEST(a_map_whose_connection_was_lost_is_not_finished_by_the_next),
		TEST(a_map_begun_again_forgets_its_first_beginning),
		TEST(names_of_extents_that_are_not_held_mean_nothing),
		TEST(detach_frees_the_session_wholly_and_no_other),
		TEST(a_list_is_complete_and_in_order),
		TEST(a_scan_tells_versions_of_held_and_discarded_slots),
		TEST(a_long_scan_goes_on_where_it_stopped),
		TEST(a_pin_wants_a_live_copy_at_the_same_generation),
		TEST(the_admin_frees_a_session_under_its_relay),
		TEST(sessions_can_be_looked_at),
	};

	return cmocka_run_group_tests_name("extents", tests, NULL, NULL);
}
