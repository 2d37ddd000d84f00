// SPDX-License-Identifier: GPL-2.0-only
/*
 * edge-pace.c - a domain that writes as fast as it can does not make the relay connect as fast as it can, nor does one subject
 * silence the log of another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../edge/pace.h"

#define MS 1000000ULL
#define MINUTE (60000 * MS)

enum outcome { NOTHING, FAILS, LINKS };

/* A minute in steps of a millisecond, in each of which the domain writes. Looks, of which each ends as said. */
static uint32_t looks(struct pace *p, enum outcome ends_in, uint64_t lasts)
{
	uint64_t now, ends = PACE_NEVER;
	uint32_t n = 0;

	for (now = 0; now < MINUTE; now += MS) {
		p->poked = true;
		if (now >= ends) {
			pace_ended(p, now);
			ends = PACE_NEVER;
		}
		if (ends != PACE_NEVER || pace_due(p) > now)
			continue;
		n++;
		pace_looked(p, now);
		if (ends_in == FAILS)
			pace_failed(p, now);
		if (ends_in == LINKS) {
			pace_linked(p, now);
			ends = now + lasts;
		}
	}
	return n;
}

static void writing_costs_looks(void **state)
{
	struct pace p = { 0 };

	(void)state;
	assert_in_range(looks(&p, NOTHING, 0), 600, 60 * PACE_LOOKS);
}

static void writing_does_not_shorten_a_pause(void **state)
{
	struct pace p = { 0 };

	(void)state;
	assert_in_range(looks(&p, FAILS, 0), 5, 5 + 60000 / PACE_MAX_MS + 1);
}

static void links_that_end_at_once_are_failures(void **state)
{
	struct pace p = { 0 };

	(void)state;
	assert_in_range(looks(&p, LINKS, MS), 5, 5 + 60000 / PACE_MAX_MS + 1);
}

static void links_that_lasted_are_not(void **state)
{
	struct pace p = { 0 };

	(void)state;
	assert_int_equal(looks(&p, LINKS, PACE_LASTED_MS * MS), 60000 / PACE_LASTED_MS);
	assert_int_equal(p.failures, 0);
}

/* Without being told: a failure is tried again, a link is not. */
static void tried_again_without_a_word(void **state)
{
	struct pace p = { 0 };

	(void)state;
	assert_true(pace_due(&p) == PACE_NEVER);
	p.poked = true;
	assert_true(pace_due(&p) == 0);
	pace_looked(&p, MS);
	assert_true(pace_due(&p) == PACE_NEVER);
	pace_failed(&p, MS);
	assert_true(pace_due(&p) == (1 + PACE_MIN_MS) * MS);
	pace_looked(&p, 300 * MS);
	pace_linked(&p, 300 * MS);
	assert_true(pace_due(&p) == PACE_NEVER);
}

/* What one subject has to say does not use up what another one may. */
static void one_subject_does_not_silence_another(void **state)
{
	(void)state;
	assert_int_equal(log_limit_of("donor-down", "donor=d0 reason=\"a\""), log_limit_of("donor-down", "donor=d0 reason=\"b\""));
	assert_int_not_equal(log_limit_of("donor-down", "donor=d0 reason=\"a\""), log_limit_of("donor-down", "donor=d1 reason=\"a\""));
	assert_int_not_equal(log_limit_of("donor-down", "donor=d0"), log_limit_of("donor-up", "donor=d0"));
	assert_true(log_limit_of("", "") < LOG_LIMITS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writing_costs_looks),
		cmocka_unit_test(writing_does_not_shorten_a_pause),
		cmocka_unit_test(links_that_end_at_once_are_failures),
		cmocka_unit_test(links_that_lasted_are_not),
		cmocka_unit_test(tried_again_without_a_word),
		cmocka_unit_test(one_subject_does_not_silence_another),
	};

	return cmocka_run_group_tests_name("relay edge: the pace of looking", tests, NULL, NULL);
}
