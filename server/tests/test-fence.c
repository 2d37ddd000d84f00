// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-fence.c - who may speak for a session: epochs, lineage, handles, and what a relay that was left behind can still do
 * (nothing).
 */
#include "harness.h"

#include <stdio.h>

/* ---- HELLO ------------------------------------------------------------------------------------------------------------ */

static void hello_tells_who_the_donor_is(void **state)
{
	struct relay *first = *state, *r = relay_raw(first->donor);
	const struct memx_hello *h = (const void *)r->body;

	assert_int_equal(hello(r, 1, 3, MEMX_ROLE_RELAY), MEMX_S_OK);
	assert_int_equal(memx_le16(h->proto), 1);
	assert_int_equal(h->role, MEMX_ROLE_DONOR);
	assert_memory_equal(h->id, r->donor->config.id, 16);
	assert_true(memx_le64(h->instance) == 4711);
	relay_free(r);
}

static void without_a_common_version_the_connection_ends(void **state)
{
	struct relay *first = *state, *r = relay_raw(first->donor);

	assert_int_equal(hello(r, 2, 3, MEMX_ROLE_RELAY), MEMX_S_PROTO);
	assert_int_equal(r->verdict, 1);
	assert_int_equal(memx_le16(((const struct memx_hello *)r->body)->proto), 0);
	assert_false(srv_conn_greeted(r->conn));
	relay_free(r);
}

static void nothing_is_served_before_hello(void **state)
{
	struct relay *first = *state, *r = relay_raw(first->donor);

	assert_int_equal(ask(r, MEMX_OP_PING, 0, 0, NULL, 0), -EPROTO);
	assert_int_equal(srv_counters(r->donor->core)->violations, 1);
	relay_free(r);
}

static void hello_comes_once(void **state)
{
	assert_int_equal(hello(*state, 1, 1, MEMX_ROLE_RELAY), -EPROTO);
}

static void a_guest_has_no_business_here(void **state)
{
	struct relay *first = *state, *r = relay_raw(first->donor);

	assert_int_equal(hello(r, 1, 1, MEMX_ROLE_GUEST), -EPROTO);
	relay_free(r);
}

static void hello_has_nothing_in_reserved_fields(void **state)
{
	struct relay *first = *state, *r = relay_raw(first->donor);
	struct memx_hello body = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY };

	body.resv[13] = 1;
	assert_int_equal(ask(r, MEMX_OP_HELLO, 0, 0, &body, sizeof(body)), -EPROTO);
	relay_free(r);
}

/* ---- epochs ----------------------------------------------------------------------------------------------------------- */

static void a_session_is_made_only_on_demand(void **state)
{
	struct sess s = sess_of(*state, "a", 1);

	assert_int_equal(fence_flags(&s, 0), MEMX_S_UNKNOWN);
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_not_equal(s.handle, 0);
	assert_int_equal(fence_flags(&s, 0), MEMX_S_OK);
	assert_int_equal(s.relay->donor->events[SRV_EVENT_CREATED], 1);
}

static void the_same_fence_again_gives_the_same_handle(void **state)
{
	struct sess s = session(*state, "a", 1);
	u32 before = s.handle;

	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(s.handle, before);
}

static void a_lower_epoch_is_fenced_off(void **state)
{
	struct sess s = session(*state, "a", 5);

	s.epoch = 4;
	assert_int_equal(fence(&s), MEMX_S_FENCED);
	assert_true(memx_le64(fenced(s.relay).epoch) == 5);
	assert_int_equal(s.relay->donor->events[SRV_EVENT_FENCED], 1);
}

static void epoch_zero_and_lineage_zero_are_none(void **state)
{
	struct sess s = sess_of(*state, "a", 0);

	assert_int_equal(fence(&s), MEMX_S_INVALID);
	s.epoch = 1;
	s.lineage[0] = 0;
	assert_int_equal(fence(&s), MEMX_S_INVALID);
}

/* Every operation that names a session, by a request of the old epoch on the old connection. */
static void a_raised_fence_stops_the_old_connection(void **state)
{
	struct relay *old = *state, *new = relay_new(old->donor);
	struct sess s = session(old, "a", 1), n;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_OK);
	n = session(new, "a", 2);

	assert_int_equal(store(&s, 1, 0, 2, 0x22), MEMX_S_FENCED);
	assert_int_equal(fetch(&s, 1, 0, 1), MEMX_S_FENCED);
	assert_int_equal(discard(&s, 1, 0, 3), MEMX_S_FENCED);
	assert_int_equal(place(&s, 0, 2), MEMX_S_FENCED);
	assert_int_equal(place(&s, 1, 1), MEMX_S_FENCED);
	assert_int_equal(free_extent(&s, 0, 1), MEMX_S_FENCED);
	assert_int_equal(retain(&s, MEMX_F_FIRST | MEMX_F_LAST, NULL, 0), MEMX_S_FENCED);
	assert_int_equal(list_from(&s, 0), MEMX_S_FENCED);
	assert_int_equal(scan_from(&s, 0, 0), MEMX_S_FENCED);
	assert_int_equal(reserve(&s, 0), MEMX_S_FENCED);
	assert_int_equal(detach(&s), MEMX_S_FENCED);

	assert_int_equal(fetch(&n, 1, 0, 1), MEMX_S_OK);		/* nothing of that happened */
	assert_true(fetched(new, 0x11));
	relay_free(new);
}

/* The relay fenced anew over the same connection; what it had sent before is of the old epoch all the same. */
static void a_late_request_of_an_older_epoch_is_fenced_on_its_own_connection(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	s.epoch = 2;
	assert_int_equal(fence(&s), MEMX_S_OK);
	s.epoch = 1;
	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_FENCED);
	assert_int_equal(detach(&s), MEMX_S_FENCED);
	s.epoch = 2;
	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_OK);
}

/* The old relay learns the new epoch from somewhere, but never fenced it: its handle is of the old one. */
static void an_old_handle_is_not_healed_by_a_new_number(void **state)
{
	struct relay *old = *state, *new = relay_new(old->donor);
	struct sess s = session(old, "a", 1), n;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	n = session(new, "a", 2);
	s.epoch = 2;
	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_FENCED);
	assert_int_equal(detach(&s), MEMX_S_FENCED);
	assert_int_equal(fetch(&n, 1, 0, 1), MEMX_S_ABSENT);
	relay_free(new);
}

static void an_epoch_that_was_not_fenced_is_refused(void **state)
{
	struct sess s = session(*state, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	s.epoch = 2;
	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_NOFENCE);
	assert_int_equal(fetch(&s, 1, 0, 1), MEMX_S_NOFENCE);
	assert_int_equal(detach(&s), MEMX_S_NOFENCE);
}

/* A relay whose connection broke fences anew on its next one: that one has the session from then on. */
static void an_equal_epoch_is_granted_to_the_same_lineage(void **state)
{
	struct relay *one = *state, *two = relay_new(one->donor);
	struct sess s = session(one, "a", 3), t;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	t = session(two, "a", 3);
	assert_int_equal(store(&t, 1, 0, 1, 0x11), MEMX_S_OK);
	assert_int_equal(fetch(&t, 1, 0, 1), MEMX_S_OK);
	relay_free(two);
}

/*
 * All that a connection may still bring when its relay has fenced the same epoch on the next one, be it the DETACH of a relay
 * that was about to do without this donor. The fence repeated is what would let the rest in again.
 */
static void a_fence_repeated_on_a_new_connection_stops_the_old_one(void **state)
{
	struct relay *old = *state, *new = relay_new(old->donor);
	struct sess s = session(old, "a", 3), t;
	const u32 none[] = { 7 };
	u32 i;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	t = session(new, "a", 3);
	assert_int_equal(store(&t, 1, 0, 1, 0x11), MEMX_S_OK);
	for (i = 0; i < 2; i++) {
		assert_int_equal(detach(&s), MEMX_S_FENCED);
		assert_int_equal(store(&s, 1, 0, 2, 0x22), MEMX_S_FENCED);
		assert_int_equal(fetch(&s, 1, 0, 1), MEMX_S_FENCED);
		assert_int_equal(discard(&s, 1, 0, 3), MEMX_S_FENCED);
		assert_int_equal(place(&s, 1, 1), MEMX_S_FENCED);
		assert_int_equal(free_extent(&s, 0, 1), MEMX_S_FENCED);
		assert_int_equal(retain(&s, MEMX_F_FIRST | MEMX_F_LAST, none, 1), MEMX_S_FENCED);
		assert_int_equal(reserve(&s, 0), MEMX_S_FENCED);
		assert_int_equal(fence(&s), MEMX_S_FENCED);
		assert_true(memx_le64(fenced(old).epoch) == 3);
	}
	assert_int_equal(old->donor->events[SRV_EVENT_FENCED], 2);
	assert_int_equal(fence(&t), MEMX_S_OK);		/* its own, once more */
	assert_int_equal(fetch(&t, 1, 0, 1), MEMX_S_OK);
	assert_true(fetched(new, 0x11));
	assert_int_equal(list_from(&t, 0), MEMX_S_OK);
	assert_int_equal(list_count(new), 1);
	relay_free(new);
}

/* The guest came back to the host that it left: a raised fence is heard on whatever connection it comes. */
static void an_older_connection_may_raise_the_fence(void **state)
{
	struct relay *one = *state, *two = relay_new(one->donor);
	struct sess s = session(one, "a", 3), t = session(two, "a", 4);

	assert_int_equal(place(&t, 0, 1), MEMX_S_OK);
	s.epoch = 5;
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 0, 1, 0x11), MEMX_S_OK);
	assert_int_equal(detach(&t), MEMX_S_FENCED);
	t.epoch = 5;					/* the younger one, but not by a fence of that epoch: it has to repeat it */
	assert_int_equal(detach(&t), MEMX_S_FENCED);
	assert_int_equal(fetch(&s, 1, 0, 1), MEMX_S_OK);
	relay_free(two);
}

/* ---- lineage: the same image restored twice --------------------------------------------------------------------------- */

static void the_second_of_two_clones_is_superseded(void **state)
{
	struct sess origin = session(*state, "a", 5), first = origin, second = origin;

	first.epoch = second.epoch = 6;		/* both go on from the same image */
	first.lineage[0] = 2000;
	first.lineage[1] = 1000;
	second.lineage[0] = 3000;
	second.lineage[1] = 1000;
	assert_int_equal(fence(&first), MEMX_S_OK);
	assert_int_equal(fence(&second), MEMX_S_SUPERSEDED);
	second.epoch = 7;			/* trying harder does not help: 2000 is not its own */
	assert_int_equal(fence(&second), MEMX_S_SUPERSEDED);
	second.epoch = 1000;
	assert_int_equal(fence(&second), MEMX_S_SUPERSEDED);
	first.epoch = 8;
	assert_int_equal(fence(&first), MEMX_S_OK);
	assert_int_equal(second.relay->donor->events[SRV_EVENT_SUPERSEDED], 3);
}

static void the_loser_learns_the_epoch_but_changes_nothing(void **state)
{
	struct sess s = session(*state, "a", 5), clone = s;

	clone.epoch = 9;
	clone.lineage[0] = 77;
	assert_int_equal(fence(&clone), MEMX_S_SUPERSEDED);
	assert_true(memx_le64(fenced(s.relay).epoch) == 5);
	assert_int_equal(memx_le32(fenced(s.relay).session), 0);
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);		/* still at epoch 5 */
}

static void a_restored_guest_presents_an_older_lineage(void **state)
{
	struct sess s = session(*state, "a", 5);

	s.epoch = 6;				/* restored three times without an attach in between */
	s.lineage[0] = 4;
	s.lineage[1] = 3;
	s.lineage[2] = 2;
	s.lineage[3] = 1000;
	assert_int_equal(fence(&s), MEMX_S_OK);
	s.epoch = 7;				/* from here on the stored lineage is 4: 1000 alone is a clone */
	s.lineage[0] = 1000;
	s.lineage[1] = s.lineage[2] = s.lineage[3] = 0;
	assert_int_equal(fence(&s), MEMX_S_SUPERSEDED);
}

static void at_an_equal_epoch_only_the_current_lineage_counts(void **state)
{
	struct sess s = session(*state, "a", 5);

	s.lineage[0] = 2000;
	s.lineage[1] = 1000;			/* stored, but as a past one */
	assert_int_equal(fence(&s), MEMX_S_SUPERSEDED);
}

/* ---- identity and size ------------------------------------------------------------------------------------------------ */

static void the_same_id_of_another_guest_is_another_session(void **state)
{
	struct sess s = session(*state, "a", 1), other = sess_of(*state, "a", 1);

	memset(other.vm, 9, 16);
	assert_int_equal(fence_flags(&other, 0), MEMX_S_UNKNOWN);
	assert_int_equal(fence(&other), MEMX_S_OK);
	assert_int_not_equal(other.handle, s.handle);
	assert_int_equal(memx_le32(stat_of(s.relay).sessions), 2);
}

static void the_size_is_fixed_once_something_is_held(void **state)
{
	struct sess s = session(*state, "a", 1);

	s.epoch = 2;
	s.slots = SLOTS / 2;			/* nothing is held: the guest may still choose */
	assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	s.epoch = 3;
	s.slots = SLOTS;
	assert_int_equal(fence(&s), MEMX_S_MISMATCH);
	s.slots = SLOTS / 2;
	s.order = ORDER + 1;
	assert_int_equal(fence(&s), MEMX_S_MISMATCH);
	s.slots = 0;				/* "as it is" */
	assert_int_equal(fence(&s), MEMX_S_OK);
}

static void a_session_needs_a_size_and_an_order(void **state)
{
	struct sess s = sess_of(*state, "a", 1);

	s.slots = 0;
	assert_int_equal(fence(&s), MEMX_S_INVALID);
	s.slots = SLOTS;
	s.order = MEMX_MIN_EXTENT_ORDER - 1;
	assert_int_equal(fence(&s), MEMX_S_INVALID);
	s.order = MEMX_MAX_EXTENT_ORDER + 1;
	assert_int_equal(fence(&s), MEMX_S_INVALID);
	s.order = MEMX_MAX_EXTENT_ORDER;
	assert_int_equal(fence(&s), MEMX_S_OK);
}

/* ---- handles ---------------------------------------------------------------------------------------------------------- */

static void a_handle_is_of_one_connection(void **state)
{
	struct relay *one = *state, *two = relay_new(one->donor);
	struct sess s = session(one, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	s.relay = two;
	assert_int_equal(store(&s, 1, 0, 1, 1), MEMX_S_UNKNOWN);
	relay_free(two);
}

static void handles_that_were_never_given_are_unknown(void **state)
{
	struct sess s = session(*state, "a", 1);
	const u32 wrong[] = { 0, 1, s.handle + 1, s.handle ^ 0x80000000, UINT32_MAX, 4095, s.handle + 4096 };
	u32 i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		s.handle = wrong[i];
		assert_int_equal(reserve(&s, 0), MEMX_S_UNKNOWN);
	}
}

/* Another relay detached the session; this one's late requests must not hit a session that came after it. */
static void a_handle_value_never_comes_twice(void **state)
{
	struct relay *one = *state, *two = relay_new(one->donor);
	struct sess gone = session(one, "a", 1), other = session(two, "a", 1), next;
	u32 i;

	for (i = 0; i < 1000; i++) {
		assert_int_equal(detach(&other), MEMX_S_OK);
		assert_int_equal(reserve(&gone, 0), MEMX_S_UNKNOWN);
		next = session(one, "b", 1);		/* takes the place in the table */
		assert_int_not_equal(next.handle, gone.handle);
		assert_int_equal(reserve(&gone, 0), MEMX_S_UNKNOWN);
		assert_int_equal(detach(&next), MEMX_S_OK);
		gone = session(one, "a", 1);
		other = session(two, "a", 1);
	}
	relay_free(two);
}

static void a_connection_has_a_limit_of_handles(void **state)
{
	struct relay *r = *state;
	char name[17];
	struct sess s;
	u32 i;

	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "session %u", i);
		s = sess_of(r, name, 1);
		assert_int_equal(fence(&s), MEMX_S_OK);
	}
	s = sess_of(r, "one too many", 1);
	assert_int_equal(fence(&s), MEMX_S_LIMIT);
	assert_int_equal(memx_le32(stat_of(r).sessions), 100);	/* and it was not made */
	s = sess_of(r, "session 50", 1);
	assert_int_equal(fence(&s), MEMX_S_OK);			/* a known one still is */
	assert_int_equal(detach(&s), MEMX_S_OK);
	s = sess_of(r, "fits again", 1);
	assert_int_equal(fence(&s), MEMX_S_OK);
}

static void a_donor_has_a_limit_of_sessions(void **state)
{
	struct srv_config config = { .id = "x", .instance = 1, .limit_pages = 64, .max_sessions = 3, .max_handles = 100 };
	struct donor *d = donor_with(1, 1, &config);
	struct relay *r = relay_new(d);
	struct sess s = sess_of(r, "0", 1);

	(void)state;
	for (s.id[0] = '0'; s.id[0] < '3'; s.id[0]++)
		assert_int_equal(fence(&s), MEMX_S_OK);
	assert_int_equal(fence(&s), MEMX_S_LIMIT);
	relay_free(r);
	donor_free(d);
}

static void many_sessions_are_found_again(void **state)
{
	struct srv_config config = { .id = "x", .instance = 1, .limit_pages = 64, .max_sessions = 4000, .max_handles = 4000 };
	struct donor *d = donor_with(1, 1, &config);
	struct relay *r = relay_new(d);
	struct sess s = sess_of(r, "", 7);
	u32 i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		memcpy(s.id, &i, sizeof(i));
		assert_int_equal(fence(&s), MEMX_S_OK);
	}
	for (i = 0; i < 3000; i++) {
		memcpy(s.id, &i, sizeof(i));
		assert_int_equal(fence_flags(&s, 0), MEMX_S_OK);
		if (i % 3 == 0)
			assert_int_equal(detach(&s), MEMX_S_OK);
	}
	for (i = 0; i < 3000; i++) {
		memcpy(s.id, &i, sizeof(i));
		assert_int_equal(fence_flags(&s, 0), i % 3 ? MEMX_S_OK : MEMX_S_UNKNOWN);
	}
	relay_free(r);
	donor_free(d);
}

/* A session outlives its relay: nothing is freed because nobody speaks for it. */
static void a_lost_connection_frees_nothing(void **state)
{
	struct relay *first = *state, *r = relay_new(first->donor);
	struct sess s = session(r, "a", 1);

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(store(&s, 1, 3, 1, 0x77), MEMX_S_OK);
	relay_free(r);
	s = sess_of(first, "a", 2);
	assert_int_equal(fence_flags(&s, 0), MEMX_S_OK);
	assert_int_equal(memx_le32(fenced(first).extents), 1);
	assert_int_equal(memx_le64(fenced(first).pages_reserved), SLOTS);
	assert_int_equal(fetch(&s, 1, 3, 1), MEMX_S_OK);
	assert_true(fetched(first, 0x77));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hello_tells_who_the_donor_is),
		TEST(without_a_common_version_the_connection_ends),
		TEST(nothing_is_served_before_hello),
		TEST(hello_comes_once),
		TEST(a_guest_has_no_business_here),
		TEST(hello_has_nothing_in_reserved_fields),
		TEST(a_session_is_made_only_on_demand),
		TEST(the_same_fence_again_gives_the_same_handle),
		TEST(a_lower_epoch_is_fenced_off),
		TEST(epoch_zero_and_lineage_zero_are_none),
		TEST(a_raised_fence_stops_the_old_connection),
		TEST(a_late_request_of_an_older_epoch_is_fenced_on_its_own_connection),
		TEST(an_old_handle_is_not_healed_by_a_new_number),
		TEST(an_epoch_that_was_not_fenced_is_refused),
		TEST(an_equal_epoch_is_granted_to_the_same_lineage),
		TEST(a_fence_repeated_on_a_new_connection_stops_the_old_one),
		TEST(an_older_connection_may_raise_the_fence),
		TEST(the_second_of_two_clones_is_superseded),
		TEST(the_loser_learns_the_epoch_but_changes_nothing),
		TEST(a_restored_guest_presents_an_older_lineage),
		TEST(at_an_equal_epoch_only_the_current_lineage_counts),
		TEST(the_same_id_of_another_guest_is_another_session),
		TEST(the_size_is_fixed_once_something_is_held),
		TEST(a_session_needs_a_size_and_an_order),
		TEST(a_handle_is_of_one_connection),
		TEST(handles_that_were_never_given_are_unknown),
		TEST(a_handle_value_never_comes_twice),
		TEST(a_connection_has_a_limit_of_handles),
		TEST(a_donor_has_a_limit_of_sessions),
		TEST(many_sessions_are_found_again),
		TEST(a_lost_connection_frees_nothing),
	};

	return cmocka_run_group_tests_name("fence", tests, NULL, NULL);
}
