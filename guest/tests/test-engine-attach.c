// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-engine-attach.c - the engine's attachment: how it comes, is refused and lost, what travels again then, and what a
 * relay must not do.
 */
#include "engine-world.h"

static bool is_freed(void *arg, u32 slot)
{
	(void)arg;
	(void)slot;
	return true;
}

/* Discards of @n stored slots from @slot on, with the items from @first on. */
static void discard(struct world *w, u32 first, u32 slot, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		w->ended[first + i] = 0;
		w->outstanding++;
		assert_true(memx_engine_discard(&w->e, slot + i, is_freed, NULL, &w->item[first + i]));
	}
}

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

/* A quota that is larger than what the tables may take here: less is asked for at once, for a grant is not asked about again. */
static void no_more_than_fits_is_asked_for(void **state)
{
	struct world *w = *state;

	w->e.attach.slots_max = SLOTS / 2;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.slots.count, SLOTS / 2);
	assert_int_equal(w->attaches, 1);
	assert_int_equal(w->violations, 0);
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

/* The channel was lost and the relay said hello on every lane of the next: the states ask, the worker has not sent yet. */
static void until_attach_is_due(struct world *w)
{
	u8 i;

	w->silent = true;
	crash(w);
	pass(w, 700);
	assert_int_equal(w->e.attach.state, MEMX_A_OFFERED);
	for (i = 0; i < LANES; i++) {
		relay_hello(w, i);
		memx_lane_work(&w->e.lane[i]);
	}
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHING);
}

static void grant(struct world *w, u64 tag, u64 epoch)
{
	struct memx_attached body = {
		.slots = memx_put_le32(SLOTS), .extent_order = ORDER, .replicas = 1, .max_pages = 32,
		.lane_requests = memx_put_le32(16), .lane_pages = memx_put_le32(256),
	};
	struct memx_head head = { .op = MEMX_OP_ATTACH, .reply = true, .len = sizeof(body), .tag = tag, .epoch = epoch };

	relay_send(w, 0, &head, &body);
	memx_lane_work(&w->e.lane[0]);
}

/* A new channel knows no record of the one before, although the epoch is that one's still. */
static void records_of_the_channel_before_are_refused(void **state)
{
	struct world *w = *state;

	w->silent = true;
	crash(w);
	pass(w, 700);
	assert_int_equal(w->e.attach.state, MEMX_A_OFFERED);
	relay_record(w, 4, 9);
	memx_lane_work(&w->e.lane[0]);
	assert_int_equal(memx_records_generation(&w->e.records, 4), 0);
	assert_int_equal(w->violations, 1);
}

static void records_of_another_epoch_are_refused(void **state)
{
	struct world *w = *state;

	w->epoch++;
	relay_record(w, 4, 9);
	memx_lane_work(&w->e.lane[0]);
	assert_int_equal(memx_records_generation(&w->e.records, 4), 0);
	assert_int_equal(w->violations, 1);
	assert_int_equal(w->e.attach.state, MEMX_A_DOWN);
}

/* Asked for on the channel before, in its epoch: neither a grant nor a refusal. */
static void answers_before_attach_are_refused(void **state)
{
	struct world *w = *state;
	struct memx_head head = { .op = MEMX_OP_ATTACH, .reply = true, .status = MEMX_S_SUPERSEDED };

	until_attach_is_due(w);
	grant(w, w->epoch, w->epoch + 1);
	assert_int_equal(w->violations, 1);
	assert_int_equal(w->e.attach.state, MEMX_A_DOWN);
	pass(w, 1000);
	until_attach_is_due(w);
	head.tag = w->e.epoch;
	head.epoch = w->e.attach.epoch;
	relay_send(w, 0, &head, NULL);
	memx_lane_work(&w->e.lane[0]);
	assert_int_equal(w->violations, 2);
	assert_int_equal(w->e.attach.state, MEMX_A_DOWN);
}

static void full_map(struct world *w)
{
	u32 i;

	for (i = 0; i < SLOTS >> ORDER; i++) {
		relay_record(w, i, 1);
		run(w);
	}
}

/* The relay reads nothing and fills the ring with answers to its PINGs, so that ATTACH fits into it and the map does not. */
static void until_the_ring_is_full(struct world *w)
{
	struct memx_head ping = { .op = MEMX_OP_PING };

	while (memx_vring_space(&w->guest[0]) > 1000) {
		relay_send(w, 0, &ping, NULL);
		memx_lane_work(&w->e.lane[0]);
	}
	run(w);
	assert_true(w->begun && w->sending);
}

static void the_map_goes_on_when_there_is_room(void **state)
{
	struct world *w = *state;

	full_map(w);
	until_attach_is_due(w);
	until_the_ring_is_full(w);
	w->silent = false;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->records_seen, SLOTS >> ORDER);
	assert_int_equal(w->violations, 0);
}

/* The channel goes between an event and the worker's round: what it asked for is not done to the next one. */
static void what_was_due_is_void_with_the_channel(void **state)
{
	struct world *w = *state;

	until_attach_is_due(w);
	crash(w);
	pass(w, 5000);
	assert_int_equal(w->e.attach.state, MEMX_A_OFFERED);
	assert_false(w->sending);
	assert_int_equal(memx_vring_avail(&w->relay[0]), 0);
	w->silent = false;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->violations, 0);
}

/* A relay connects and is killed while no CPU of the guest runs. What it said before, if anything, is there to be read. */
static void comes_and_goes_unseen(struct world *w, bool hello)
{
	u64 offer;
	u8 i;

	w->away = true;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_OFFERED);
	offer = w->e.attach.offer;
	for (i = 0; i < LANES; i++) {
		memx_store_once(&w->shr[i].cli_live, 1);
		if (hello)
			relay_hello(w, i);
		memx_store_once(&w->shr[i].cli_live, 0);
		w->kicked[i] = true;
	}
	run(w);
	pass(w, 500);
	assert_int_equal(w->e.attach.state, MEMX_A_OFFERED);
	assert_true(w->e.attach.offer != offer);
	assert_int_equal(w->violations, 0);
	/* Nobody came to this one: it stands. */
	offer = w->e.attach.offer;
	memx_engine_look(&w->e);
	pass(w, 60000);
	assert_true(w->e.attach.offer == offer);
	/* The next one finds it. */
	for (i = 0; i < LANES; i++)
		memx_store_once(&w->shr[i].cli_live, 1);
	w->away = false;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
}

static void who_came_and_went_unseen_is_gone(void **state)
{
	comes_and_goes_unseen(*state, true);
}

static void who_came_and_went_without_a_word_is_gone(void **state)
{
	comes_and_goes_unseen(*state, false);
}

/*
 * The relay's end is seen by one lane after the other, and the worker is at it after the first: what the second one says is of the
 * channel before, and takes no offer back that is about to be made.
 */
static void a_lane_that_is_lost_late_takes_no_offer_back(void **state)
{
	struct world *w = *state;
	u8 i;

	w->now += 5000000000;		/* attached for so long that the next offer is due at once */
	for (i = 0; i < LANES; i++)
		memx_store_once(&w->shr[i].cli_live, 0);
	memx_lane_work(&w->e.lane[0]);
	w->actions = memx_engine_take(&w->e);
	assert_int_equal(w->actions, MEMX_ACT_WITHDRAW);
	memx_lane_work(&w->e.lane[1]);
	for (i = 0; i < LANES; i++)
		assert_true(memx_lane_down(&w->e.lane[i]));
	run(w);
	assert_true(w->actions & MEMX_ACT_OFFER);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->attaches, 2);
}

static void a_grant_before_the_map_is_refused(void **state)
{
	struct world *w = *state;

	full_map(w);
	until_attach_is_due(w);
	until_the_ring_is_full(w);
	grant(w, w->e.epoch, w->e.epoch);
	assert_int_not_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->violations, 1);
}

static void an_answer_of_another_epoch_ends_nothing(void **state)
{
	struct world *w = *state;
	struct memx_head head = { .op = MEMX_OP_STORE, .reply = true, .len = MEMX_IO_LEN, .epoch = w->epoch + 1 };
	struct memx_io io = { .count = memx_put_le16(1) };

	w->silent = true;
	store(w, 0, 1, 1, 5);
	head.tag = w->e.lane[0].reqs.table[0].tag;
	relay_send(w, 0, &head, &io);
	memx_lane_work(&w->e.lane[0]);
	assert_int_equal(w->violations, 1);
	assert_int_equal(w->outstanding, 1);
	w->silent = false;
	pass(w, 1000);
	ended(w, 0, 1, 0);
}

static void detached_by(struct world *w, u64 tag, u64 epoch)
{
	struct memx_head head = { .op = MEMX_OP_DETACH, .reply = true, .tag = tag, .epoch = epoch };
	u8 session[16];

	memcpy(session, w->e.attach.session, 16);
	w->silent = true;
	w->e.actions |= memx_attach_detach(&w->e.attach, w->now);
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_DETACHING);
	relay_send(w, 0, &head, NULL);
	memx_lane_work(&w->e.lane[0]);
	assert_int_equal(w->violations, 1);
	assert_int_equal(w->e.attach.state, MEMX_A_DOWN);
	assert_memory_equal(session, w->e.attach.session, 16);
}

static void detached_has_the_epoch_of_the_session(void **state)
{
	struct world *w = *state;

	detached_by(w, w->epoch + 1, w->epoch + 1);
}

static void detached_has_the_tag_of_detach(void **state)
{
	struct world *w = *state;

	detached_by(w, w->epoch + 1, w->epoch);
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

/* Pages that are not stored or fetched again are not counted so: discards, and what its deadline ended before. Nor are discards pages. */
static void resent_is_what_is_sent_again(void **state)
{
	struct world *w = *state;

	store(w, 0, 0, 8, 1);
	store(w, 8, 256, 2, 1);
	run(w);
	w->silent = true;
	discard(w, 0, 0, 1);
	store(w, 8, 256, 1, 2);
	w->now += 1000;
	memx_engine_tick(&w->e, w->now);
	assert_int_equal(w->outstanding, 0);
	assert_int_equal(w->counter[MEMX_C_expired], 1);
	discard(w, 0, 1, 1);
	store(w, 16, 512, 3, 1);
	memx_engine_hurry(&w->e);
	run(w);
	crash(w);
	w->silent = false;
	pass(w, 5000);
	ended(w, 16, 3, 0);
	assert_int_equal(w->counter[MEMX_C_resent], 3);
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

/* A relay that grants and then serves nothing is asked less and less often, and one that serves again is used at once. */
static void relay_that_grants_and_fences_is_not_asked_in_a_loop(void **state)
{
	struct world *w = *state;
	u64 epoch = w->e.attach.epoch;
	u32 i;

	w->fail_store = MEMX_S_FENCED;
	w->fail_left = ~0U;
	store(w, 0, 740, 8, 5);
	for (i = 0; i < 100; i++)
		pass(w, 100);
	assert_in_range(w->e.attach.epoch - epoch, 4, 10);
	w->fail_left = 0;
	for (i = 0; i < 51; i++)
		pass(w, 100);
	ended(w, 0, 8, 0);
	/* It has served for more than two seconds: when it dies, the next one is looked for at once. */
	for (i = 0; i < 21; i++)
		pass(w, 100);
	epoch = w->e.attach.epoch;
	crash(w);
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->e.attach.epoch, epoch + 1);
}

/*
 * Where nothing happened a suspend ends like one into another world: with a new lineage, and nothing is stored in the name of
 * the old one any more. What was stored in the meantime waits, also for a relay that is not there yet.
 */
static void resume_stores_nothing_under_the_old_lineage(void **state)
{
	struct world *w = *state;
	u64 lineage = w->e.attach.lineage[0], sent;
	u8 i;

	store(w, 0, 30, 4, 1);
	run(w);
	ended(w, 0, 4, 0);
	sent = w->counter[MEMX_C_store_requests];

	for (i = 0; i < LANES; i++)
		assert_true(memx_lane_down(&w->e.lane[i]));
	memx_engine_act(&w->e, memx_attach_resumed(&w->e.attach, w->now));
	w->silent = true;
	store(w, 4, 30, 4, 2);
	fetch(w, 8, 34, 1);
	ended(w, 8, 1, -ENODATA);
	pass(w, 10000);
	assert_int_equal(w->outstanding, 4);
	assert_int_equal(w->counter[MEMX_C_store_requests], sent);
	w->silent = false;
	pass(w, 1000);
	ended(w, 4, 4, 0);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_true(w->e.attach.lineage[0] != lineage && w->e.attach.lineage[1] == lineage);
	fetch(w, 0, 30, 4);
	run(w);
	holds(w, 0, 30, 4, 2);
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

static void hello_with_a_reserved_field_in_use_is_refused(void **state)
{
	struct world *w = *state;
	struct memx_hello hello = {
		.proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = MEMX_ROLE_RELAY, .lane = 1,
	};
	u16 proto;

	crash(w);
	w->silent = true;
	w->now += 10000000000ULL;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_OFFERED);
	hello.offer = memx_put_le64(w->e.attach.offer);
	hello.resv[13] = 1;
	assert_int_equal(memx_attach_hello(&w->e.attach, 1, &hello, &proto), -EPROTO);
	hello.resv[13] = 0;
	assert_int_equal(memx_attach_hello(&w->e.attach, 1, &hello, &proto), 0);
}

static void superseded_gives_up(void **state)
{
	struct world *w = *state;

	w->e.attach.frozen = true;
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

/* A copy whose swap is off has nothing to lose: it goes on with a session of its own. */
static void superseded_without_swap_begins_anew(void **state)
{
	struct world *w = *state;
	u8 old[16];

	memcpy(old, w->e.attach.session, 16);
	crash(w);
	w->refuse = MEMX_S_SUPERSEDED;
	run(w);
	pass(w, 1000);
	assert_true(w->actions & MEMX_ACT_DETACHED);
	assert_false(w->actions & MEMX_ACT_GONE);
	assert_null(w->e.slots.slot);
	w->refuse = MEMX_S_OK;
	w->epoch = 0;
	while (w->e.attach.state != MEMX_A_ATTACHED)
		pass(w, 1000);
	assert_memory_not_equal(old, w->e.attach.session, 16);
	assert_int_equal(w->e.slots.count, SLOTS);
	store(w, 0, 10, 4, 1);
	run(w);
	ended(w, 0, 4, 0);
	assert_int_equal(w->violations, 0);
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

/* Discards that are out or wait to be sent, on a lane beside the one of DETACH: the relay takes none of them behind it. */
static void detach_comes_after_the_discards(void **state)
{
	struct world *w = *state;
	u8 old[16];

	memcpy(old, w->e.attach.session, 16);
	store(w, 0, 256, 256, 1);
	run(w);
	w->silent = true;
	discard(w, 0, 256, 256);
	w->e.attach.frozen = true;
	w->e.actions |= memx_attach_detach(&w->e.attach, w->now);
	run(w);
	assert_true(w->detach);
	w->silent = false;
	run(w);
	assert_memory_not_equal(old, w->e.attach.session, 16);
	assert_int_equal(w->attaches, 2);
	assert_int_equal(w->violations, 0);
	assert_int_equal(w->outstanding, 0);
}

/* A relay that answers none is not waited for without end; and that it frees all in place of one page is no loss of the channel. */
static void detach_does_not_wait_for_ever(void **state)
{
	struct world *w = *state;

	store(w, 0, 512, 8, 1);
	run(w);
	w->silent = true;
	discard(w, 0, 512, 8);
	w->e.actions |= memx_attach_detach(&w->e.attach, w->now);
	pass(w, 900);
	assert_true(w->detach);
	pass(w, 200);
	assert_false(w->detach);
	w->fail_discard = MEMX_S_UNKNOWN;
	w->fail_left = ~0U;
	w->silent = false;
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);
	assert_int_equal(w->attaches, 2);
	assert_int_equal(w->violations, 0);
	assert_int_equal(w->outstanding, 0);
}

/* Discards that were out when the relay went are for nothing once swap is off: they end, though no relay ever comes. */
static void discards_of_a_swap_that_is_off_wait_for_nobody(void **state)
{
	struct world *w = *state;

	store(w, 0, 256, 64, 1);
	run(w);
	w->silent = true;
	discard(w, 0, 256, 64);
	run(w);
	crash(w);
	pass(w, 200);
	assert_int_equal(w->outstanding, 64);	/* while swap is on they wait for a relay */
	w->e.actions |= memx_attach_detach(&w->e.attach, w->now);
	w->woken_session = true;
	pass(w, 200);
	assert_int_equal(w->outstanding, 0);
	ended(w, 0, 64, -ECANCELED);
	w->silent = false;
	while (w->e.attach.detach)
		pass(w, 700);
	assert_int_equal(w->violations, 0);
}

/*
 * A suspend does not wait for discards that are nowhere: those that were out when the relay went, and those that it put off. Their
 * slots are found again. What is a page of the swap core waits on.
 */
static void discards_do_not_hold_up_a_suspend(void **state)
{
	struct world *w = *state;

	store(w, 0, 256, 64, 1);
	run(w);
	w->fail_discard = MEMX_S_AGAIN;
	w->fail_left = ~0U;
	discard(w, 0, 256, 32);
	run(w);
	assert_true(memx_engine_parked(&w->e));
	w->silent = true;
	discard(w, 32, 288, 32);
	memx_engine_hurry(&w->e);
	run(w);
	store(w, 100, 290, 1, 2);
	assert_int_equal(w->outstanding, 65);
	w->suspending = true;
	w->woken_session = true;
	run(w);
	ended(w, 0, 32, -ECANCELED);
	assert_int_equal(w->outstanding, 33);	/* these are out */
	crash(w);
	run(w);
	ended(w, 32, 32, -ECANCELED);
	assert_int_equal(w->outstanding, 1);
	w->suspending = false;
	w->silent = false;
	w->fail_left = 0;
	pass(w, 5000);
	ended(w, 100, 1, 0);
	/* The last one's discard was void anyway. */
	discard(w, 0, 256, 64);
	run(w);
	ended(w, 0, 64, 0);
	assert_int_equal(w->violations, 0);
}

/* Put off by the relay, and the slot is stored meanwhile: the page that it was about is gone anyway. */
static void a_discard_behind_a_store_is_void(void **state)
{
	struct world *w = *state;
	u64 sent;

	store(w, 0, 256, 1, 1);
	run(w);
	w->fail_discard = MEMX_S_AGAIN;
	w->fail_left = 1;
	discard(w, 1, 256, 1);
	run(w);
	assert_true(memx_engine_parked(&w->e));
	store(w, 0, 256, 1, 2);
	run(w);
	ended(w, 0, 1, 0);
	sent = w->counter[MEMX_C_discard_requests];
	pass(w, 500);
	ended(w, 1, 1, 0);
	assert_int_equal(w->counter[MEMX_C_discard_requests], sent);
	fetch(w, 2, 256, 1);
	run(w);
	holds(w, 2, 256, 1, 2);
}

/* Swap is off, and the relay neither answers discards nor frees the session: those that are not out are for nothing. */
static void discards_end_while_detaching(void **state)
{
	struct world *w = *state;
	u32 i, out = 0;

	store(w, 0, 256, 256, 1);
	store(w, 256, 512, 256, 1);
	run(w);
	w->silent = true;
	discard(w, 0, 256, 256);
	discard(w, 256, 512, 256);
	for (i = 0; i < LANES; i++)
		out += w->e.lane[i].reqs.used_pages;
	assert_in_range(out, 1, 511);
	w->e.actions |= memx_attach_detach(&w->e.attach, w->now);
	run(w);
	assert_int_equal(w->e.attach.state, MEMX_A_DETACHING);
	assert_int_equal(w->outstanding, out);
	for (i = 0; i < LANES; i++)
		assert_int_equal(w->e.lane[i].reqs.n_pending, 0);
	w->silent = false;
	run(w);
	assert_int_equal(w->outstanding, 0);
	assert_int_equal(w->attaches, 2);
}

/* What an event should tell is looked for without one: only where something is expected. */
static void no_event_is_needed_for_ever(void **state)
{
	struct world *w = *state;

	w->woken = 0;
	memx_engine_look(&w->e);
	assert_int_equal(w->woken, 0);
	w->silent = true;
	store(w, 0, 256, 1, 1);		/* of the lane 2 */
	run(w);
	w->woken = 0;
	memx_engine_look(&w->e);
	assert_int_equal(w->woken, 1U << 2);
	fetch(w, 1, 256, 1);		/* held behind the store, so its own lane expects nothing yet */
	w->silent = false;
	run(w);
	holds(w, 1, 256, 1, 1);
	w->woken = 0;
	memx_engine_look(&w->e);
	assert_int_equal(w->woken, 0);
	/* A relay that has gone, and then the next one's hello. */
	w->silent = true;
	crash(w);
	pass(w, 700);
	assert_int_equal(w->e.attach.state, MEMX_A_OFFERED);
	w->woken = 0;
	memx_engine_look(&w->e);
	assert_int_equal(w->woken, (1U << LANES) - 1);
	w->silent = false;
	run(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(attaches, setup, teardown),
		cmocka_unit_test_setup_teardown(refusal_is_asked_again_later, setup, teardown),
		cmocka_unit_test_setup_teardown(no_more_than_fits_is_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(who_came_and_went_unseen_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(who_came_and_went_without_a_word_is_gone, setup, teardown),
#define T(name) cmocka_unit_test_setup_teardown(name, setup_attached, teardown)
		T(records_are_kept_and_handed_over),
		T(record_on_the_wrong_lane_ends_the_channel),
		T(records_of_the_channel_before_are_refused),
		T(records_of_another_epoch_are_refused),
		T(answers_before_attach_are_refused),
		T(a_lane_that_is_lost_late_takes_no_offer_back),
		T(a_grant_before_the_map_is_refused),
		T(the_map_goes_on_when_there_is_room),
		T(what_was_due_is_void_with_the_channel),
		T(a_discard_behind_a_store_is_void),
		T(an_answer_of_another_epoch_ends_nothing),
		T(detached_has_the_epoch_of_the_session),
		T(detached_has_the_tag_of_detach),
		T(lost_stores_travel_again),
		T(resent_is_what_is_sent_again),
		T(lost_fetches_travel_again),
		T(fenced_store_waits_for_the_next_attachment),
		T(relay_that_grants_and_fences_is_not_asked_in_a_loop),
		T(resume_stores_nothing_under_the_old_lineage),
		T(double_answer_ends_the_channel),
		T(second_hello_ends_the_channel),
		T(hello_with_a_reserved_field_in_use_is_refused),
		T(superseded_gives_up),
		T(superseded_without_swap_begins_anew),
		T(detach_draws_a_new_session),
		T(detach_comes_after_the_discards),
		T(detach_does_not_wait_for_ever),
		T(discards_of_a_swap_that_is_off_wait_for_nobody),
		T(discards_do_not_hold_up_a_suspend),
		T(discards_end_while_detaching),
		T(no_event_is_needed_for_ever),
	};

	return cmocka_run_group_tests_name("engine-attach", tests, NULL, NULL);
}
