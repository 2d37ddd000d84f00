// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-reclaim.c - memory that a donor wants back: whom it asks, and what it takes for an answer.
 */
#include "harness.h"

static struct relay *modern(struct donor *donor)
{
	struct memx_hello body = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY,
				   .features = memx_put_le64(MEMX_FEATURE_RECLAIM) };
	struct relay *relay = relay_raw(donor);
	const struct memx_hello *said = (const void *)relay->body;

	assert_int_equal(ask(relay, MEMX_OP_HELLO, 0, 0, &body, sizeof(body)), MEMX_S_OK);
	assert_true(memx_le64(said->features) == MEMX_FEATURE_RECLAIM);
	return relay;
}

/* ---- ASK -------------------------------------------------------------------------------------------------------------- */

static void relays_that_understand_are_asked(void **state)
{
	struct relay *old = *state, *new = modern(old->donor), *silent = relay_raw(old->donor);
	struct sess s = session(new, "a", 1);
	struct memx_stat stat;

	assert_int_equal(place(&s, 0, 1), MEMX_S_OK);
	assert_int_equal(place(&s, 1, 1), MEMX_S_OK);
	srv_set_limit(old->donor->core, EXTENT);
	assert_int_equal(srv_ask(old->donor->core), 1);
	assert_int_equal(old->sent + silent->sent, 0);
	assert_int_equal(new->sent, 1);
	assert_int_equal(new->sent_head.op, MEMX_OP_ASK);
	assert_int_equal(new->sent_head.len, sizeof(stat));
	memcpy(&stat, new->sent_body, sizeof(stat));
	assert_true(memx_le64(stat.pages_asked) == EXTENT && memx_le64(stat.pages_total) == EXTENT &&
		    memx_le64(stat.pages_used) == 2 * EXTENT);
	assert_true(memx_le64(stat_of(old).pages_asked) == EXTENT);
	relay_free(new);
	relay_free(silent);
}

static void one_that_owes_an_answer_is_not_asked_again(void **state)
{
	struct relay *r = *state, *new = modern(r->donor);

	assert_int_equal(srv_ask(r->donor->core), 1);
	assert_int_equal(srv_ask(r->donor->core), 1);
	assert_int_equal(new->sent, 1);
	assert_int_equal(reply_to(new, 0, NULL, 0), 0);
	assert_int_equal(srv_ask(r->donor->core), 1);
	assert_int_equal(new->sent, 2);
	assert_int_equal(srv_counters(r->donor->core)->asks, 2);
	relay_free(new);
}

static void answers_to_nothing_end_the_connection(void **state)
{
	struct relay *r = *state, *new;

	new = modern(r->donor);
	assert_int_equal(reply_to(new, 0, NULL, 0), -EPROTO);		/* nothing was asked */
	relay_free(new);

	new = modern(r->donor);
	srv_ask(r->donor->core);
	new->sent_head.tag++;
	assert_int_equal(reply_to(new, 0, NULL, 0), -EPROTO);		/* another tag */
	relay_free(new);

	new = modern(r->donor);
	srv_ask(r->donor->core);
	assert_int_equal(reply_to(new, 0, "12345678", 8), -EPROTO);	/* with a body */
	relay_free(new);

	new = modern(r->donor);
	srv_ask(r->donor->core);
	assert_int_equal(reply_to(new, 0, NULL, 0), 0);
	assert_int_equal(reply_to(new, 0, NULL, 0), -EPROTO);		/* twice */
	relay_free(new);
}

static void a_donor_does_not_ask_a_donor(void **state)
{
	struct relay *r = *state, *other = relay_raw(r->donor);
	struct memx_hello body = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_DONOR,
				   .features = memx_put_le64(MEMX_FEATURE_RECLAIM) };

	assert_int_equal(ask(other, MEMX_OP_HELLO, 0, 0, &body, sizeof(body)), MEMX_S_OK);
	assert_int_equal(srv_ask(r->donor->core), 0);
	relay_free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(relays_that_understand_are_asked),
		TEST(one_that_owes_an_answer_is_not_asked_again),
		TEST(answers_to_nothing_end_the_connection),
		TEST(a_donor_does_not_ask_a_donor),
	};

	return cmocka_run_group_tests_name("reclaim", tests, NULL, NULL);
}
