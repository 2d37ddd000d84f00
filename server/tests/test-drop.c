// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-drop.c - a donor that drops a copy without a relay: only what another holder has just confirmed and pinned, and nothing
 * of which anything changed meanwhile. Two donors, a relay of each, and the connection between them by hand.
 */
#include "harness.h"

struct pair {
	struct donor *a, *b;		/* a has the lower id */
	struct relay *ra, *rb;		/* a relay's connection to each */
	struct relay *ab, *ba;		/* a's connection to b, b's to a */
	struct sess sa, sb;
};

static struct pair p;

static struct donor *named(const char *id, u64 instance)
{
	struct srv_config config = { .instance = instance, .hash_seed = 1, .limit_pages = 64 * 64, .max_sessions = 10, .max_handles = 10 };

	memcpy(config.id, id, 16);
	return donor_with(64, 64, &config);
}

static struct relay *greet(struct donor *to, u8 role, const u8 *id)
{
	struct memx_hello body = { .proto_min = memx_put_le16(1), .proto_max = memx_put_le16(1), .role = role,
				   .features = memx_put_le64(MEMX_FEATURE_RECLAIM) };
	struct relay *relay = relay_raw(to);
	const struct memx_hello *said = (const void *)relay->body;

	if (id)
		memcpy(body.id, id, 16);
	assert_int_equal(ask(relay, MEMX_OP_HELLO, 0, 0, &body, sizeof(body)), MEMX_S_OK);
	assert_true(memx_le64(said->features) == MEMX_FEATURE_RECLAIM);
	return relay;
}

static int tell(struct relay *relay, const struct donor *of, u16 port)
{
	struct { struct memx_list list; struct memx_peer peer; } body = {
		.list = { .count = memx_put_le32(1) },
		.peer = { .address = { [10] = 0xff, [11] = 0xff, 192, 0, 2, 1 }, .port = memx_put_le16(port) },
	};

	memcpy(body.peer.id, of->config.id, 16);
	return ask(relay, MEMX_OP_PEERS, 0, 0, &body, sizeof(body));
}

static struct memx_record both(u64 generation, u8 state_a, u8 state_b)
{
	struct memx_record rec = { .replicas = 2, .generation = memx_put_le64(generation) };

	memcpy(rec.replica[0].donor, p.a->config.id, 16);
	rec.replica[0].instance = memx_put_le64(p.a->config.instance);
	rec.replica[0].state = state_a;
	memcpy(rec.replica[1].donor, p.b->config.id, 16);
	rec.replica[1].instance = memx_put_le64(p.b->config.instance);
	rec.replica[1].state = state_b;
	return rec;
}

static void place_both(u64 generation, u8 state_a, u8 state_b)
{
	struct memx_record rec = both(generation, state_a, state_b);

	assert_int_equal(place_record(&p.sa, MEMX_PLACE_CREATE | MEMX_PLACE_IN_FORCE, &rec), MEMX_S_OK);
	assert_int_equal(place_record(&p.sb, MEMX_PLACE_CREATE | MEMX_PLACE_IN_FORCE, &rec), MEMX_S_OK);
}

/* The guest has acknowledged it. */
static void force(struct sess *s, const struct memx_record *rec)
{
	assert_int_equal(place_record(s, MEMX_PLACE_IN_FORCE, rec), MEMX_S_OK);
}

static void put(struct sess *s, u64 generation, u32 slot, u64 version, u8 fill)
{
	assert_int_equal(store(s, generation, slot, version, fill), MEMX_S_OK);
}

static int pair_up(void **state)
{
	u32 slot;

	(void)state;
	p.a = named("a donor, as such", 11);
	p.b = named("b donor, as such", 22);
	p.ra = greet(p.a, MEMX_ROLE_RELAY, NULL);
	p.rb = greet(p.b, MEMX_ROLE_RELAY, NULL);
	p.ab = greet(p.b, MEMX_ROLE_DONOR, p.a->config.id);
	p.ba = greet(p.a, MEMX_ROLE_DONOR, p.b->config.id);
	assert_int_equal(tell(p.ra, p.b, 1), MEMX_S_OK);
	assert_int_equal(tell(p.rb, p.a, 2), MEMX_S_OK);
	p.sa = session(p.ra, "guest", 1);
	p.sb = session(p.rb, "guest", 1);
	place_both(5, MEMX_R_LIVE, MEMX_R_LIVE);
	for (slot = 0; slot < 8; slot++) {
		put(&p.sa, 5, slot, slot + 1, (u8)slot);
		put(&p.sb, 5, slot, slot + 1, (u8)slot);
	}
	return 0;
}

static int pair_down(void **state)
{
	(void)state;
	relay_free(p.ra);
	relay_free(p.rb);
	relay_free(p.ab);
	relay_free(p.ba);
	donor_free(p.a);
	donor_free(p.b);
	return 0;
}

static bool yes(void *ctx, const u8 id[16])
{
	(void)ctx;
	(void)id;
	return true;
}

static bool no(void *ctx, const u8 id[16])
{
	(void)ctx;
	(void)id;
	return false;
}

static struct srv_drop begin(struct donor *d)
{
	struct srv_drop_why why;
	struct srv_drop drop;

	assert_int_equal(srv_drop_begin(d->core, yes, NULL, &drop, &why), 0);
	return drop;
}

static struct srv_drop_why none(struct donor *d)
{
	struct srv_drop_why why;
	struct srv_drop drop;

	assert_int_equal(srv_drop_begin(d->core, yes, NULL, &drop, &why), -ENOENT);
	return why;
}

static int carry(struct relay *to, const struct srv_drop *drop)
{
	return ask(to, MEMX_OP_PIN, 0, drop->epoch, drop->body, drop->len);
}

static bool held(struct sess *s)
{
	return list_from(s, 0) == MEMX_S_OK && list_count(s->relay) == 1;
}

/* Checking every page takes far longer than the frame is long: it is told. */
static void what_it_costs_to_answer_is_told(void **state)
{
	struct srv_drop drop = begin(p.a);
	u64 before = srv_work(p.b->core);

	(void)state;
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_in_range(srv_work(p.b->core) - before, 8 * MEMX_PAGE_SIZE, 64 * MEMX_PAGE_SIZE);
	before = srv_work(p.b->core);
	assert_int_equal(tell(p.rb, p.a, 7700), MEMX_S_OK);		/* every session of the connection is looked at */
	assert_in_range(srv_work(p.b->core) - before, 8, MEMX_PAGE_SIZE);
	srv_drop_end(p.a->core, drop.serial, SRV_NO_ANSWER);
}

/* What b says to a's question; a's copy must be there afterwards. */
static void refused_with(int status)
{
	struct srv_drop drop = begin(p.a);

	assert_int_equal(carry(p.ab, &drop), status);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, (u32)status), 0);
	assert_true(held(&p.sa));
	assert_int_equal(none(p.a).refused, 1);
	srv_drop_again(p.a->core);
}

/* ---- the rule ----------------------------------------------------------------------------------------------------------- */

static void a_confirmed_copy_is_dropped(void **state)
{
	struct memx_extent_ref ref;
	struct memx_list list;
	struct srv_drop drop = begin(p.a);

	(void)state;
	assert_memory_equal(drop.peer, p.b->config.id, 16);
	assert_true(drop.instance == 22 && drop.port == 1 && drop.address[12] == 192 && drop.epoch == 1);
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), EXTENT);
	assert_false(held(&p.sa));
	assert_int_equal(p.a->events[SRV_EVENT_DROPPED], 1);
	/* The relay hears of it, by its own handle. */
	assert_int_equal(p.ra->sent, 1);
	assert_int_equal(p.ra->sent_head.op, MEMX_OP_DROPPED);
	memcpy(&list, p.ra->sent_body, sizeof(list));
	memcpy(&ref, p.ra->sent_body + sizeof(list), sizeof(ref));
	assert_true(memx_le32(list.session) == p.sa.handle && memx_le32(list.count) == 1 && !ref.extent &&
		    memx_le64(ref.generation) == 5);
	/* A store on its way learns it too; the other one has everything and keeps it. */
	assert_int_equal(store(&p.sa, 5, 0, 99, 1), MEMX_S_ABSENT);
	assert_int_equal(fetch(&p.sb, 5, 3, 4), MEMX_S_OK);
	assert_true(fetched(p.rb, 3));
	assert_int_equal(none(p.b).pinned, 1);
}

static void the_last_copy_is_never_dropped(void **state)
{
	struct srv_drop drop = begin(p.a);

	(void)state;
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), EXTENT);
	/* A newer fence unpins; but nobody is left to confirm. */
	p.sa.epoch = p.sb.epoch = 2;
	assert_int_equal(fence(&p.sa), MEMX_S_OK);
	assert_int_equal(fence(&p.sb), MEMX_S_OK);
	drop = begin(p.b);
	assert_int_equal(carry(p.ba, &drop), MEMX_S_ABSENT);
	assert_int_equal(srv_drop_end(p.b->core, drop.serial, MEMX_S_ABSENT), 0);
	assert_true(held(&p.sb));
}

static void without_another_live_copy_nobody_is_asked(void **state)
{
	(void)state;
	place_both(6, MEMX_R_LIVE, MEMX_R_SYNCING);
	assert_int_equal(none(p.a).alone, 1);
	place_both(7, MEMX_R_LIVE, MEMX_R_STALE);
	assert_int_equal(none(p.a).alone, 1);
}

static void a_copy_that_is_not_whole_may_go(void **state)
{
	struct srv_drop drop;

	(void)state;
	place_both(6, MEMX_R_SYNCING, MEMX_R_LIVE);
	drop = begin(p.a);
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), EXTENT);
}

static void nobody_is_asked_whose_place_is_not_known(void **state)
{
	struct srv_drop_why why;
	struct srv_drop drop;

	(void)state;
	assert_int_equal(srv_drop_begin(p.a->core, no, NULL, &drop, &why), -ENOENT);
	assert_int_equal(why.unreachable, 1);
	assert_int_equal(tell(p.ra, p.a, 1), MEMX_S_OK);		/* of b nothing is said any more */
	assert_int_equal(none(p.a).unknown, 1);
	assert_int_equal(tell(p.ra, p.b, 0), MEMX_S_OK);
	assert_int_equal(none(p.a).unknown, 1);
}

/* ---- what the other one must have --------------------------------------------------------------------------------------- */

static void it_must_be_at_the_same_generation(void **state)
{
	struct memx_record rec = both(6, MEMX_R_LIVE, MEMX_R_LIVE);

	(void)state;
	assert_int_equal(place_record(&p.sb, 0, &rec), MEMX_S_OK);
	refused_with(MEMX_S_GENERATION);
	rec = both(7, MEMX_R_LIVE, MEMX_R_LIVE);
	force(&p.sa, &rec);
	refused_with(MEMX_S_GENERATION);
}

static void it_must_be_at_the_same_epoch(void **state)
{
	(void)state;
	p.sb.epoch = 2;
	assert_int_equal(fence(&p.sb), MEMX_S_OK);
	refused_with(MEMX_S_FENCED);
	p.sa.epoch = 3;
	assert_int_equal(fence(&p.sa), MEMX_S_OK);
	refused_with(MEMX_S_NOFENCE);
}

static void it_must_have_the_same_record(void **state)
{
	struct memx_record rec = both(6, MEMX_R_LIVE, MEMX_R_LIVE);

	(void)state;
	force(&p.sa, &rec);
	rec.replicas = 3;
	memcpy(rec.replica[2].donor, "a third one here", 16);
	rec.replica[2].instance = memx_put_le64(33);
	rec.replica[2].state = MEMX_R_SYNCING;
	assert_int_equal(place_record(&p.sb, 0, &rec), MEMX_S_OK);
	refused_with(MEMX_S_MISMATCH);
}

/* The guest's map may still say that this copy is the only one. */
static void by_a_record_that_is_only_proposed_nothing_goes(void **state)
{
	struct memx_record rec = both(6, MEMX_R_LIVE, MEMX_R_LIVE);
	u32 extent = 0;

	(void)state;
	assert_int_equal(place_record(&p.sa, 0, &rec), MEMX_S_OK);
	assert_int_equal(place_record(&p.sb, 0, &rec), MEMX_S_OK);
	assert_int_equal(none(p.a).proposed, 1);
	/* The complete map that a guest hands over with another generation says nothing of this one ... */
	assert_int_equal(retain(&p.sa, MEMX_F_FIRST | MEMX_F_LAST, &extent, 1), MEMX_S_OK);
	assert_int_equal(none(p.a).proposed, 1);
	/* ... PLACE again does, and so does a store. */
	force(&p.sa, &rec);
	srv_drop_end(p.a->core, begin(p.a).serial, SRV_NO_ANSWER);
	put(&p.sb, 6, 0, 70, 1);
	begin(p.b);
}

static void it_must_be_live(void **state)
{
	struct memx_record rec;

	(void)state;
	/* a holds a record that calls b live, b holds one of the same generation that does not. */
	rec = both(6, MEMX_R_LIVE, MEMX_R_LIVE);
	force(&p.sa, &rec);
	rec = both(6, MEMX_R_LIVE, MEMX_R_SYNCING);
	assert_int_equal(place_record(&p.sb, 0, &rec), MEMX_S_OK);
	refused_with(MEMX_S_ABSENT);
}

static void it_must_have_every_page(void **state)
{
	struct srv_drop drop;

	(void)state;
	put(&p.sa, 5, 20, 7, 7);		/* a store that b has not got yet */
	refused_with(MEMX_S_VERSION);
	put(&p.sb, 5, 20, 7, 7);
	put(&p.sa, 5, 3, 50, 7);
	refused_with(MEMX_S_VERSION);
	put(&p.sb, 5, 3, 51, 7);		/* something newer is good */
	drop = begin(p.a);
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), EXTENT);
}

static void discards_count_like_stores(void **state)
{
	(void)state;
	assert_int_equal(discard(&p.sa, 5, 3, 60), MEMX_S_OK);
	refused_with(MEMX_S_VERSION);
	assert_int_equal(discard(&p.sb, 5, 3, 60), MEMX_S_OK);
	begin(p.a);
}

static void its_pages_must_be_good(void **state)
{
	(void)state;
	/* The page of slot 2 rots where it lies. */
	p.b->store->pages[2 * MEMX_PAGE_SIZE + 77] ^= 4;
	refused_with(MEMX_S_CORRUPT);
	p.b->store->pages[2 * MEMX_PAGE_SIZE + 77] ^= 4;
}

/* One that is about to end takes its memory with it. */
static void it_must_mean_to_stay(void **state)
{
	struct srv_drop drop;

	(void)state;
	srv_set_draining(p.b->core, true);
	refused_with(MEMX_S_DRAINING);
	srv_set_draining(p.b->core, false);
	drop = begin(p.a);
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), EXTENT);
}

static void it_must_have_the_extent(void **state)
{
	(void)state;
	assert_int_equal(free_extent(&p.sb, 0, 5), MEMX_S_OK);
	refused_with(MEMX_S_ABSENT);
}

/* ---- races -------------------------------------------------------------------------------------------------------------- */

static void of_two_that_ask_each_other_one_wins(void **state)
{
	struct srv_drop of_a = begin(p.a), of_b = begin(p.b);
	int first, second;

	(void)state;
	first = carry(p.ba, &of_b);			/* b asks a, which has the lower id and asks itself */
	assert_int_equal(first, MEMX_S_AGAIN);
	second = carry(p.ab, &of_a);
	assert_int_equal(second, MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.b->core, of_b.serial, (u32)first), 0);
	assert_int_equal(srv_drop_end(p.a->core, of_a.serial, (u32)second), EXTENT);
	assert_true(held(&p.sb));
}

static void and_whoever_is_heard_first_only_one(void **state)
{
	struct srv_drop of_a = begin(p.a), of_b = begin(p.b);

	(void)state;
	assert_int_equal(carry(p.ab, &of_a), MEMX_S_OK);
	/* b has given its own up, whatever is answered to it. */
	assert_int_equal(srv_drop_end(p.b->core, of_b.serial, MEMX_S_OK), 0);
	assert_true(held(&p.sb));
	assert_int_equal(srv_drop_end(p.a->core, of_a.serial, MEMX_S_OK), EXTENT);
}

static void one_that_is_pinned_does_not_begin(void **state)
{
	struct srv_drop of_a = begin(p.a);

	(void)state;
	assert_int_equal(carry(p.ab, &of_a), MEMX_S_OK);
	/* The answer is lost: a drops nothing, b still keeps its own. */
	assert_int_equal(srv_drop_end(p.a->core, of_a.serial, SRV_NO_ANSWER), 0);
	assert_int_equal(none(p.b).pinned, 1);
	/* a may ask again. */
	of_a = begin(p.a);
	assert_int_equal(carry(p.ab, &of_a), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, of_a.serial, MEMX_S_OK), EXTENT);
}

static void a_record_that_changes_meanwhile_keeps_the_copy(void **state)
{
	struct srv_drop drop = begin(p.a);
	struct memx_record rec = both(6, MEMX_R_LIVE, MEMX_R_STALE);

	(void)state;
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(place_record(&p.sa, 0, &rec), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), 0);
	assert_true(held(&p.sa));
}

static void a_fence_meanwhile_keeps_the_copy(void **state)
{
	struct srv_drop drop = begin(p.a);

	(void)state;
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	p.sa.epoch = 2;
	assert_int_equal(fence(&p.sa), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), 0);
	assert_true(held(&p.sa));
}

static void one_that_is_freed_meanwhile_is_freed_once(void **state)
{
	struct srv_drop drop = begin(p.a);

	(void)state;
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(free_extent(&p.sa, 0, 5), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), 0);
	place_both(6, MEMX_R_LIVE, MEMX_R_LIVE);
	drop = begin(p.a);
	assert_int_equal(detach(&p.sa), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), 0);
	assert_int_equal(srv_counters(p.a->core)->extents_dropped, 0);
}

static void a_pin_ends_with_a_newer_record_or_fence(void **state)
{
	struct srv_drop drop = begin(p.a);

	(void)state;
	assert_int_equal(carry(p.ab, &drop), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, SRV_NO_ANSWER), 0);
	assert_int_equal(none(p.b).pinned, 1);
	place_both(6, MEMX_R_LIVE, MEMX_R_LIVE);
	drop = begin(p.b);
	assert_int_equal(carry(p.ba, &drop), MEMX_S_OK);
	assert_int_equal(srv_drop_end(p.b->core, drop.serial, SRV_NO_ANSWER), 0);
	assert_int_equal(none(p.a).pinned, 1);
	p.sa.epoch = 2;
	assert_int_equal(fence(&p.sa), MEMX_S_OK);
	begin(p.a);
}

static void an_old_answer_drops_nothing(void **state)
{
	struct srv_drop drop = begin(p.a), again;

	(void)state;
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, SRV_NO_ANSWER), 0);
	again = begin(p.a);
	assert_int_equal(srv_drop_end(p.a->core, drop.serial, MEMX_S_OK), 0);
	assert_int_equal(srv_drop_end(p.a->core, again.serial + 1, MEMX_S_OK), 0);
	assert_true(held(&p.sa));
	assert_int_equal(srv_drop_begin(p.a->core, yes, NULL, &drop, &(struct srv_drop_why) { 0 }), -EBUSY);
	assert_int_equal(srv_drop_end(p.a->core, again.serial, MEMX_S_GENERATION), 0);
	assert_int_equal(srv_drop_end(p.a->core, again.serial, MEMX_S_OK), 0);
}

/* ---- who is believed where others are ----------------------------------------------------------------------------------- */

static void only_who_fenced_a_session_says_where_its_copies_are(void **state)
{
	struct relay *liar = greet(p.a, MEMX_ROLE_RELAY, NULL), *next;
	struct srv_drop drop;

	(void)state;
	/* One who has not fenced it, one who fenced another one, and one who tells it as a donor. */
	assert_int_equal(tell(liar, p.b, 666), MEMX_S_OK);
	session(liar, "other", 1);
	assert_int_equal(tell(liar, p.b, 667), MEMX_S_OK);
	assert_int_equal(tell(p.ba, p.b, 668), MEMX_S_DENIED);
	drop = begin(p.a);
	assert_int_equal(drop.port, 1);
	srv_drop_end(p.a->core, drop.serial, SRV_NO_ANSWER);
	/* Its own relay's word outlives the relay, until the next one's. */
	relay_free(p.ra);
	drop = begin(p.a);
	assert_int_equal(drop.port, 1);
	srv_drop_end(p.a->core, drop.serial, SRV_NO_ANSWER);
	next = greet(p.a, MEMX_ROLE_RELAY, NULL);
	p.ra = next;
	p.sa.relay = next;
	p.sa.epoch = 2;
	assert_int_equal(fence(&p.sa), MEMX_S_OK);
	assert_int_equal(tell(next, p.b, 3), MEMX_S_OK);
	drop = begin(p.a);
	assert_int_equal(drop.port, 3);
	relay_free(liar);
}

static void malformed_questions_end_the_connection(void **state)
{
	struct srv_drop drop = begin(p.a);
	struct { struct memx_list list; struct memx_peer peer[2]; } peers = { .list = { .count = memx_put_le32(3) } };
	struct relay *r;

	(void)state;
	assert_int_equal(ask(p.ab, MEMX_OP_PIN, 0, 1, drop.body, drop.len - 8), MEMX_S_INVALID);	/* one slot too few */
	assert_int_equal(ask(p.ab, MEMX_OP_PIN, 0, 1, drop.body, sizeof(struct memx_pin) + sizeof(struct memx_record)), -EPROTO);
	r = greet(p.b, MEMX_ROLE_DONOR, p.a->config.id);
	assert_int_equal(ask(r, MEMX_OP_PIN, 0, 1, drop.body, drop.len - 3), -EPROTO);
	assert_int_equal(ask(r, MEMX_OP_PEERS, 0, 0, &peers, sizeof(peers)), -EPROTO);
	relay_free(r);
	assert_true(held(&p.sa));
}

#define PAIR(name) cmocka_unit_test_setup_teardown(name, pair_up, pair_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAIR(a_confirmed_copy_is_dropped),
		PAIR(what_it_costs_to_answer_is_told),
		PAIR(the_last_copy_is_never_dropped),
		PAIR(without_another_live_copy_nobody_is_asked),
		PAIR(a_copy_that_is_not_whole_may_go),
		PAIR(nobody_is_asked_whose_place_is_not_known),
		PAIR(it_must_be_at_the_same_generation),
		PAIR(it_must_be_at_the_same_epoch),
		PAIR(it_must_have_the_same_record),
		PAIR(by_a_record_that_is_only_proposed_nothing_goes),
		PAIR(it_must_be_live),
		PAIR(it_must_have_every_page),
		PAIR(discards_count_like_stores),
		PAIR(its_pages_must_be_good),
		PAIR(it_must_mean_to_stay),
		PAIR(it_must_have_the_extent),
		PAIR(of_two_that_ask_each_other_one_wins),
		PAIR(and_whoever_is_heard_first_only_one),
		PAIR(one_that_is_pinned_does_not_begin),
		PAIR(a_record_that_changes_meanwhile_keeps_the_copy),
		PAIR(a_fence_meanwhile_keeps_the_copy),
		PAIR(one_that_is_freed_meanwhile_is_freed_once),
		PAIR(a_pin_ends_with_a_newer_record_or_fence),
		PAIR(an_old_answer_drops_nothing),
		PAIR(only_who_fenced_a_session_says_where_its_copies_are),
		PAIR(malformed_questions_end_the_connection),
	};

	return cmocka_run_group_tests_name("dropping without a relay", tests, NULL, NULL);
}
