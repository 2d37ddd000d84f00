// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-engine-attach.c - the engine's attachment: how it comes, is refused and lost, what travels again then, and what a
 * relay must not do.
 */
#include "engine-world.h"

static void attaches(void **state)
{
	struct world *w = *state;

	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.attach.epoch, 1);
	assert_int_equal(w->e.slots.count, SLOTS);
	assert_int_equal(w->violations, 0);
}

static void refusal_is_asked_again_later(void **state)
{
	struct world *w = *state;

	w->refuse = MEMX_S_NOSPACE;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_REFUSED);
	assert_true(w->actions & MEMX_ACT_REFUSED);
	w->refuse = MEMX_S_OK;
	w->now += 400000000;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_REFUSED);
	w->now += 200000000;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.attach.epoch, 2);
}

static void records_are_kept_and_handed_over(void **state)
{
	struct world *w = *state;

	relay_record(w, 3, 9);
	relay_record(w, 4, 1);
	run(w);
	assert_int_equal(w->counter[MEMX_C_records], 2);
	crash(w);
	run(w);
	w->now += 1000000000;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->records_seen, 2);
	assert_int_equal(w->e.attach.epoch, 2);
	assert_int_equal(memx_records_generation(&w->e.records, 3), 9);
	assert_int_equal(w->violations, 0);
}

static void record_on_the_wrong_lane_ends_the_channel(void **state)
{
	struct world *w = *state;
	struct memx_head head = { .op = MEMX_OP_RECORD, .epoch = w->epoch, .tag = 1 };
	struct {
		struct memx_records n;
		struct memx_record rec;
	} body = { .n.count = memx_put_le32(1), .rec.extent = memx_put_le32(3) };

	head.len = sizeof(body);
	relay_send(w, 0, &head, &body);
	memx_lane_work(&w->e.lane[0]);
	assert_int_equal(w->violations, 1);
}

static void lost_stores_travel_again(void **state)
{
	struct world *w = *state;
	u64 version;

	w->silent = true;
	store(w, 0, 600, 200, 7);
	run(w);
	version = memx_slot_version(&w->e.slots, 600);
	assert_true(version);
	crash(w);
	w->silent = false;
	run(w);
	w->now += 1000000000;
	run(w);
	ended(w, 0, 200, 0);
	assert_true(memx_slot_version(&w->e.slots, 600) > version);
	fetch(w, 0, 600, 200);
	run(w);
	holds(w, 0, 600, 200, 7);
	assert_true(w->counter[MEMX_C_resent]);
}

static void lost_fetches_travel_again(void **state)
{
	struct world *w = *state;

	store(w, 0, 600, 200, 7);
	run(w);
	w->silent = true;
	fetch(w, 0, 600, 200);
	run(w);
	crash(w);
	w->silent = false;
	run(w);
	w->now += 1000000000;
	run(w);
	holds(w, 0, 600, 200, 7);
}

static void fenced_store_waits_for_the_next_attachment(void **state)
{
	struct world *w = *state;

	w->fail_store = MEMX_S_FENCED;
	w->fail_left = 8;
	store(w, 0, 740, 8, 5);
	run(w);
	w->now += 1000000000;
	run(w);
	assert_int_equal(w->e.attach.epoch, 2);
	ended(w, 0, 8, 0);
	fetch(w, 0, 740, 8);
	run(w);
	holds(w, 0, 740, 8, 5);
}

static void double_answer_ends_the_channel(void **state)
{
	struct world *w = *state;
	struct memx_head head = { .op = MEMX_OP_STORE, .reply = true, .len = MEMX_IO_LEN, .epoch = w->epoch };
	struct memx_io io = { .count = memx_put_le16(1) };

	w->silent = true;
	store(w, 0, 1, 1, 5);
	head.tag = w->e.lane[0].reqs.table[0].tag;
	relay_send(w, 0, &head, &io);
	relay_send(w, 0, &head, &io);
	memx_lane_work(&w->e.lane[0]);
	ended(w, 0, 1, 0);
	assert_int_equal(w->violations, 1);
	assert_int_equal(w->e.attach.state, MEMX_A_DOWN);
}

static void second_hello_ends_the_channel(void **state)
{
	struct world *w = *state;

	relay_hello(w, 1);
	memx_lane_work(&w->e.lane[1]);
	assert_int_equal(w->violations, 1);
}

static void superseded_gives_up(void **state)
{
	struct world *w = *state;

	crash(w);
	store(w, 0, 10, 4, 1);
	w->refuse = MEMX_S_SUPERSEDED;
	run(w);
	w->now += 10000000000ULL;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_GONE);
	assert_true(w->actions & MEMX_ACT_GONE);
	memx_engine_gone(&w->e, true);
	memx_engine_abandon(&w->e, -EIO);
	ended(w, 0, 4, -EIO);
	fetch(w, 5, 10, 1);
	ended(w, 5, 1, -EIO);
}

static void detach_draws_a_new_session(void **state)
{
	struct world *w = *state;
	u8 old[16];

	memcpy(old, w->e.attach.session, 16);
	w->e.attach.frozen = true;
	w->e.actions |= memx_attach_detach(&w->e.attach, w->now);
	run(w);
	assert_true(w->actions & MEMX_ACT_DETACHED);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.attach.epoch, 1);
	assert_memory_not_equal(old, w->e.attach.session, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(attaches, setup, teardown),
		cmocka_unit_test_setup_teardown(refusal_is_asked_again_later, setup, teardown),
#define T(name) cmocka_unit_test_setup_teardown(name, setup_attached, teardown)
		T(records_are_kept_and_handed_over),
		T(record_on_the_wrong_lane_ends_the_channel),
		T(lost_stores_travel_again),
		T(lost_fetches_travel_again),
		T(fenced_store_waits_for_the_next_attachment),
		T(double_answer_ends_the_channel),
		T(second_hello_ends_the_channel),
		T(superseded_gives_up),
		T(detach_draws_a_new_session),
	};

	return cmocka_run_group_tests_name("engine-attach", tests, NULL, NULL);
}
