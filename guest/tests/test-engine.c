// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-engine.c - pages through the guest's engine: a fetch gives the bytes of the last acknowledged store, or an error, and
 * every item ends exactly once, whatever the relay does.
 */
#include "engine-world.h"

/*
 * Others who submit at the worst moment: each time that the one who sends on @lane has nothing left to send, and has not looked yet
 * whether he is to look again. What is shut in between the locks there is reached through the lock.
 */
static struct {
	struct world *w;
	struct memx_lane *lane;
	u32 item, slot, left;
} crowd;

int __real_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);

static bool being_written(const struct memx_reqs *q)
{
	const struct memx_req *r;
	u32 out = 0;

	list_for_each_entry(r, &q->out, node)
		out++;
	return q->used_requests > out;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
	struct memx_lane *l = crowd.lane;
	int ret = __real_pthread_mutex_unlock(m);

	if (!l || m != &l->lock || !crowd.left || !l->tx_owner || !list_empty(&l->reqs.pending) || being_written(&l->reqs))
		return ret;
	crowd.left--;
	fetch(crowd.w, crowd.item++, crowd.slot++, 1);
	return ret;
}

static void page_goes_and_comes_back(void **state)
{
	struct world *w = *state;

	store(w, 0, 17, 1, 1);
	run(w);
	ended(w, 0, 1, 0);
	fetch(w, 1, 17, 1);
	run(w);
	holds(w, 1, 17, 1, 1);
	assert_int_equal(w->counter[MEMX_C_stores], 1);
	assert_int_equal(w->counter[MEMX_C_fetches], 1);
}

static void many_pages_over_extents(void **state)
{
	struct world *w = *state;

	store(w, 0, 100, 500, 2);
	run(w);
	ended(w, 0, 500, 0);
	fetch(w, 0, 100, 500);
	run(w);
	holds(w, 0, 100, 500, 2);
	assert_true(w->counter[MEMX_C_store_requests] < 40);
	assert_true(w->counter[MEMX_C_fetch_requests] < 40);
	assert_int_equal(w->violations, 0);
}

static void newest_store_wins(void **state)
{
	struct world *w = *state;
	u32 i;

	for (i = 0; i < 20; i++) {
		store(w, 0, 300, 32, i);
		run(w);
	}
	fetch(w, 0, 300, 32);
	run(w);
	holds(w, 0, 300, 32, 19);
}

static void absent_is_an_error(void **state)
{
	struct world *w = *state;

	fetch(w, 0, 5, 3);
	run(w);
	ended(w, 0, 3, -ENODATA);
	assert_int_equal(w->counter[MEMX_C_fetch_requests], 0);
}

static void same_filled_stays_here(void **state)
{
	struct world *w = *state;
	struct list_head list;

	INIT_LIST_HEAD(&list);
	memset(w->data[0], 0x5a, MEMX_PAGE_SIZE);
	put(w, &list, 0, MEMX_OP_STORE, 40);
	memx_engine_submit(&w->e, &list);
	ended(w, 0, 1, 0);
	fetch(w, 1, 40, 1);
	ended(w, 1, 1, 0);
	assert_memory_equal(w->data[0], w->data[1], MEMX_PAGE_SIZE);
	assert_int_equal(w->counter[MEMX_C_store_requests], 0);
}

static bool is_freed(void *arg, u32 slot)
{
	(void)slot;
	return *(bool *)arg;
}

static void same_filled_frees_what_was_stored(void **state)
{
	struct world *w = *state;
	bool freed = false;

	store(w, 0, 41, 1, 3);
	run(w);
	assert_true(w->kept[41].there);
	assert_false(memx_engine_discard(&w->e, 41, is_freed, &freed, &w->item[3]));
	memset(w->data[1], 0, MEMX_PAGE_SIZE);
	{
		struct list_head list;

		INIT_LIST_HEAD(&list);
		put(w, &list, 1, MEMX_OP_STORE, 41);
		memx_engine_submit(&w->e, &list);
	}
	w->outstanding++;
	w->ended[3] = 0;
	assert_true(memx_engine_discard(&w->e, 41, is_freed, &freed, &w->item[3]));
	run(w);
	ended(w, 3, 1, 0);
	assert_false(w->kept[41].there);
	fetch(w, 2, 41, 1);
	ended(w, 2, 1, 0);
	assert_memory_equal(w->data[1], w->data[2], MEMX_PAGE_SIZE);
}

static void freed_slot_is_discarded_and_stored_again(void **state)
{
	struct world *w = *state;
	bool freed = true;

	store(w, 0, 42, 1, 3);
	run(w);
	w->outstanding++;
	w->ended[1] = 0;
	assert_true(memx_engine_discard(&w->e, 42, is_freed, &freed, &w->item[1]));
	/* At once a store of the slot that was taken again. */
	store(w, 2, 42, 1, 4);
	run(w);
	ended(w, 1, 2, 0);
	fetch(w, 3, 42, 1);
	run(w);
	holds(w, 3, 42, 1, 4);
}

static void second_store_of_a_slot_waits(void **state)
{
	struct world *w = *state;

	w->silent = true;
	store(w, 0, 50, 1, 1);
	store(w, 1, 50, 1, 2);
	fetch(w, 2, 50, 1);
	run(w);
	assert_int_equal(w->outstanding, 3);
	w->silent = false;
	run(w);
	ended(w, 0, 2, 0);
	holds(w, 2, 50, 1, 2);
}

static void no_space_fails_at_once(void **state)
{
	struct world *w = *state;

	w->fail_store = MEMX_S_NOSPACE;
	w->fail_left = 5;
	store(w, 0, 700, 10, 1);
	run(w);
	ended(w, 0, 5, -ENOSPC);
	ended(w, 5, 5, 0);
	fetch(w, 0, 700, 1);
	run(w);
	ended(w, 0, 1, -ENODATA);
}

static void passing_errors_are_waited_out(void **state)
{
	struct world *w = *state;
	u32 i;

	w->fail_store = MEMX_S_IO;
	w->fail_left = 1000;
	store(w, 0, 700, 20, 1);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	assert_int_equal(w->outstanding, 20);
	w->fail_left = 0;
	pass(w, 500);
	ended(w, 0, 20, 0);
	w->fail_fetch = MEMX_S_AGAIN;
	w->fail_left = 1000;
	fetch(w, 0, 700, 20);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	assert_int_equal(w->outstanding, 20);
	w->fail_left = 0;
	pass(w, 500);
	holds(w, 0, 700, 20, 1);
}

static void lost_page_is_an_error_in_the_end(void **state)
{
	struct world *w = *state;
	u32 i;

	store(w, 0, 710, 2, 1);
	run(w);
	w->kept[711].there = false;
	fetch(w, 0, 710, 2);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	holds(w, 0, 710, 1, 1);
	ended(w, 1, 1, -EIO);
	assert_int_equal(w->bad_pages, 1);
}

static void damaged_page_is_asked_for_again(void **state)
{
	struct world *w = *state;

	store(w, 0, 720, 30, 1);
	run(w);
	w->damage = true;
	w->fail_left = 3;
	fetch(w, 0, 720, 30);
	run(w);
	assert_int_equal(w->outstanding, 3);
	pass(w, 500);
	holds(w, 0, 720, 30, 1);
	assert_int_equal(w->counter[MEMX_C_corrupt], 3);
}

static void old_page_with_a_good_trailer_is_not_believed(void **state)
{
	struct world *w = *state;
	u32 i;

	store(w, 0, 730, 1, 1);
	run(w);
	{
		struct kept old = w->kept[730];

		store(w, 0, 730, 1, 2);
		run(w);
		/* A relay that returns the old page and says that it is the new one. */
		old.version = w->kept[730].version;
		old.trailer = w->kept[730].trailer;
		w->kept[730] = old;
	}
	fetch(w, 1, 730, 1);
	for (i = 0; i < 20; i++)
		pass(w, 500);
	ended(w, 1, 1, -EIO);
}

static void deadline_ends_what_waits(void **state)
{
	struct world *w = *state;

	store(w, 0, 20, 1, 1);
	run(w);
	w->silent = true;
	fetch(w, 1, 20, 1);
	store(w, 2, 21, 40, 1);
	run(w);
	w->now += 1000;
	memx_engine_tick(&w->e, w->now);
	ended(w, 1, 41, -ETIMEDOUT);
	/* Their answers come all the same, and are for nobody. */
	w->silent = false;
	run(w);
	assert_int_equal(w->violations, 0);
	fetch(w, 1, 20, 1);
	run(w);
	holds(w, 1, 20, 1, 1);
}

/* Who submits one page does not send for others without end: the lane's thread takes over, and nobody is forgotten. */
static void sender_is_not_kept_for_ever(void **state)
{
	struct world *w = *state;
	u64 sent = w->counter[MEMX_C_fetch_requests];

	store(w, 0, 100, 41, 1);
	run(w);
	crowd.w = w;
	crowd.lane = &w->e.lane[1];
	crowd.item = 1;
	crowd.slot = 101;
	crowd.left = 40;
	crowd.lane->reqs.limit_requests = 64;
	fetch(w, 0, 100, 1);
	sent = w->counter[MEMX_C_fetch_requests] - sent;
	assert_in_range(sent, 2, 16);
	assert_true(crowd.left);
	crowd.lane = NULL;
	w->silent = true;	/* nor is it an answer that has the rest sent */
	run(w);
	assert_true(list_empty(&w->e.lane[1].reqs.pending));
	w->silent = false;
	run(w);
	holds(w, 0, 100, 41 - crowd.left, 1);
}

/* The donors of one extent are all away, so the relay holds its store back: the pages of another extent do not wait for it. */
static void stuck_extent_holds_nobody_up(void **state)
{
	struct world *w = *state;

	w->stuck = 1;
	store(w, 0, 3, 1, 1);
	run(w);
	store(w, 1, 4 << ORDER, 5, 1);	/* of the same lane, too few to fill a batch */
	run(w);
	assert_int_equal(w->outstanding, 6);
	pass(w, 250);
	ended(w, 1, 5, 0);
	assert_int_equal(w->outstanding, 1);
	w->stuck = 0;
	crash(w);
	while (w->outstanding)
		pass(w, 700);
	ended(w, 0, 1, 0);
	fetch(w, 0, 3, 1);
	run(w);
	holds(w, 0, 3, 1, 1);
}

/*
 * An index of the ring that the guest writes, with an event, and nothing to be sent there: who would look? The channel would be
 * broken for as long as nobody has a page to store, and a fetch on another lane may be what all of them wait for.
 */
static void broken_ring_is_found_without_work(void **state)
{
	struct world *w = *state;
	u8 i;

	store(w, 0, 0, 4, 1);
	run(w);
	ended(w, 0, 4, 0);
	for (i = 0; i < LANES; i++) {
		w->silent = true;
		fetch(w, 4, 0, 4);
		w->shr[i].right.cons = w->shr[i].right.prod + 1;
		w->kicked[i] = true;
		run(w);
		assert_int_equal(w->violations, i + 1);
		w->silent = false;
		pass(w, 6000);
		pass(w, 6000);
		holds(w, 4, 0, 4, 1);
	}
	assert_int_equal(w->violations, LANES);
	assert_int_equal(w->counter[MEMX_C_violations], LANES);
}

/* Whoever sends while the event comes has the ring for himself: the look is his, before he stops. */
static void broken_ring_is_found_by_who_sends(void **state)
{
	struct world *w = *state;
	struct memx_lane *l = &w->e.lane[0];

	assert_true(memx_lane_tx_take(l));
	w->shr[0].right.cons = w->shr[0].right.prod + 1;
	memx_lane_receive(l, 4);
	assert_int_equal(w->violations, 0);
	memx_lane_tx_give(l);
	assert_int_equal(w->violations, 1);
	pass(w, 6000);
	assert_int_equal(w->e.attach.state, MEMX_A_ATTACHED);

	w->gives_back = true;
	w->silent = true;
	store(w, 0, 0, 1, 1);
	assert_int_equal(w->violations, 2);
	w->gives_back = false;
	w->silent = false;
	pass(w, 6000);
	pass(w, 6000);
	ended(w, 0, 1, 0);
	assert_int_equal(w->violations, 2);
}

/* Everything at random: what was acknowledged last is what is read, whatever happens to the relay. */
static void random_life(void **state)
{
	struct world *w = *state;
	static u64 model[SLOTS];	/* what was acknowledged last; 0: nothing */
	u32 round, i, slot, n;

	memset(model, 0, sizeof(model));
	for (round = 1; round < 3000; round++) {
		slot = (u32)(rnd(w) % (SLOTS - 64));
		n = 1 + (u32)(rnd(w) % 40);
		switch (rnd(w) % 8) {
		case 0: case 1: case 2: case 3:
			store(w, 0, slot, n, round);
			if (rnd(w) % 10 == 0)
				crash(w);
			if (rnd(w) % 10 == 0) {
				w->fail_store = rnd(w) % 2 ? MEMX_S_IO : MEMX_S_FENCED;
				w->fail_left = (u32)(rnd(w) % 20);
			}
			run(w);
			while (w->outstanding)
				pass(w, 700);
			ended(w, 0, n, 0);
			for (i = 0; i < n; i++)
				model[slot + i] = round;
			break;
		case 4: case 5: case 6:
			fetch(w, 0, slot, n);
			if (rnd(w) % 10 == 0)
				crash(w);
			w->damage = rnd(w) % 10 == 0;
			w->fail_left = w->damage ? 3 : 0;
			run(w);
			while (w->outstanding)
				pass(w, 700);
			w->damage = false;
			for (i = 0; i < n; i++) {
				if (model[slot + i])
					holds(w, i, slot + i, 1, model[slot + i]);
				else
					ended(w, i, 1, -ENODATA);
			}
			break;
		default: {
			bool freed = true;

			w->ended[0] = 0;
			if (memx_engine_discard(&w->e, slot, is_freed, &freed, &w->item[0])) {
				w->outstanding++;
				run(w);
				while (w->outstanding)
					pass(w, 700);
			}
			model[slot] = 0;
			break;
		}
		}
		w->fail_left = 0;
		w->fail_store = 0;
		if (w->e.attach.state != MEMX_A_ATTACHED)
			pass(w, 6000);
	}
	assert_int_equal(w->violations, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup_attached, teardown)
		T(page_goes_and_comes_back),
		T(many_pages_over_extents),
		T(newest_store_wins),
		T(absent_is_an_error),
		T(same_filled_stays_here),
		T(same_filled_frees_what_was_stored),
		T(freed_slot_is_discarded_and_stored_again),
		T(second_store_of_a_slot_waits),
		T(no_space_fails_at_once),
		T(passing_errors_are_waited_out),
		T(lost_page_is_an_error_in_the_end),
		T(damaged_page_is_asked_for_again),
		T(old_page_with_a_good_trailer_is_not_believed),
		T(deadline_ends_what_waits),
		T(sender_is_not_kept_for_ever),
		T(stuck_extent_holds_nobody_up),
		T(broken_ring_is_found_without_work),
		T(broken_ring_is_found_by_who_sends),
		T(random_life),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
