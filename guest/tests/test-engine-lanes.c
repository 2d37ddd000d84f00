// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-engine-lanes.c - lanes that work at once, each in a thread of its own, as their interrupts and threads do on several
 * CPUs. For the thread sanitizer: what two lanes change has to have a lock that both of them take, or none of it be shared.
 */
#include <pthread.h>
#include "engine-world.h"

static void *work(void *lane)
{
	while (memx_lane_work(lane))
		;
	return NULL;
}

/* All lanes work until there is nothing left to be done. */
static void work_at_once(struct world *w)
{
	pthread_t thread[LANES];
	u8 i;

	for (i = 0; i < LANES; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, work, &w->e.lane[i]), 0);
	for (i = 0; i < LANES; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
}

/* The first records of all extents, over both store lanes: as many are handed over as ATTACH tells of, or no relay takes them. */
static void records_of_two_lanes_at_once(void **state)
{
	struct world *w = *state;
	u32 i;

	for (i = 0; i < SLOTS >> ORDER; i++) {
		relay_record(w, i, 1);
		if (i % 8 == 7) {	/* four of each lane, as many as it may have unanswered */
			work_at_once(w);
			run(w);
		}
	}
	assert_int_equal(w->counter[MEMX_C_records], SLOTS >> ORDER);
	crash(w);
	pass(w, 1000);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->records_told, SLOTS >> ORDER);
	assert_int_equal(w->violations, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(records_of_two_lanes_at_once, setup_attached, teardown),
	};

	return cmocka_run_group_tests_name("engine-lanes", tests, NULL, NULL);
}
