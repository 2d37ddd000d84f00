// SPDX-License-Identifier: GPL-2.0-only
/*
 * attach_test.c - the session's states: every way in and out, what is asked of whom, and who is not believed.
 */
#include "kit.h"
#include "../guest/attach.h"

#define SECOND 1000000000ull

static const u8 kinds[] = { MEMX_LANE_STORE, MEMX_LANE_FETCH };

/* What the states ask for, and what they tell. */
struct around {
	u64 drawn;
	struct {
		enum memx_attach_state state;
		u64 epoch;
	} told[16];
	u32 n_told;
};

/* Numbers for the test: 1, 2, 3, ... */
static u64 counting(void *ctx)
{
	return ++((struct around *)ctx)->drawn;
}

static void entered(void *ctx, enum memx_attach_state state, u64 epoch)
{
	struct around *c = ctx;
	u32 i = c->n_told++;

	if (i < ARRAY_SIZE(c->told)) {
		c->told[i].state = state;
		c->told[i].epoch = epoch;
	}
}

static struct memx_attacher *states(struct kunit *test)
{
	return test->priv;
}

static int attach_setup(struct kunit *test)
{
	struct memx_attacher *a = kit_alloc(test, sizeof(*a));
	struct around *c = kit_alloc(test, sizeof(*c));

	memx_attach_init(a, 2, kinds, counting, c);
	a->entered = entered;
	test->priv = a;
	return 0;
}

static struct memx_hello hello(struct kunit *test, u8 lane)
{
	struct memx_hello h = {
		.proto_min = memx_put_le16(1),
		.proto_max = memx_put_le16(3),
		.role = MEMX_ROLE_RELAY,
		.lane = lane,
		.offer = memx_put_le64(states(test)->offer),
	};

	return h;
}

static int say_hello(struct kunit *test, u8 lane)
{
	struct memx_hello h = hello(test, lane);
	u16 proto;

	return memx_attach_hello(states(test), lane, &h, &proto);
}

static struct memx_attached granted(u32 slots)
{
	struct memx_attached a = {
		.slots = memx_put_le32(slots), .extent_order = 10, .replicas = 2, .max_pages = 32,
		.lane_requests = memx_put_le32(64), .lane_pages = memx_put_le32(512),
	};

	return a;
}

static int reply(struct kunit *test, u32 status, struct memx_attached body, u64 now)
{
	return memx_attach_reply(states(test), status, &body, states(test)->epoch, now);
}

/* To ATTACHED, at time 0, with 4096 slots. */
static void attach(struct kunit *test)
{
	struct memx_attach body;

	KUNIT_ASSERT_EQ(test, memx_attach_start(states(test), 0), (u32)MEMX_ACT_OFFER);
	KUNIT_ASSERT_EQ(test, say_hello(test, 0), 0);
	KUNIT_ASSERT_EQ(test, say_hello(test, 1), MEMX_ACT_CONNECTED | MEMX_ACT_ATTACH);
	memx_attach_build(states(test), 0, &body);
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 0), MEMX_ACT_SIZE | MEMX_ACT_GO);
	KUNIT_ASSERT_EQ(test, states(test)->state, MEMX_A_ATTACHED);
}

/* From DOWN to ATTACHING: the lineage is shown to a relay. */
static void show(struct kunit *test, u64 now)
{
	struct memx_attach body;

	KUNIT_ASSERT_EQ(test, memx_attach_tick(states(test), now), (u32)MEMX_ACT_OFFER);
	KUNIT_ASSERT_EQ(test, say_hello(test, 0), 0);
	KUNIT_ASSERT_EQ(test, say_hello(test, 1), MEMX_ACT_CONNECTED | MEMX_ACT_ATTACH);
	memx_attach_build(states(test), 0, &body);
}

static void attach_first(struct kunit *test)
{
	struct memx_attacher *a = states(test);

	KUNIT_EXPECT_EQ(test, a->state, MEMX_A_STOPPED);
	KUNIT_EXPECT_EQ(test, a->epoch, 0ull);
	attach(test);
	KUNIT_EXPECT_EQ(test, a->epoch, 1ull);
	KUNIT_EXPECT_EQ(test, a->agreed.slots, 4096u);
	KUNIT_EXPECT_EQ(test, a->agreed.extent_order, 10);
	KUNIT_EXPECT_EQ(test, a->agreed.lane_pages, 512u);
	KUNIT_EXPECT_EQ(test, memx_attach_start(a, 0), 0u);
}

static void hello_answer(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_hello h, back;
	u16 proto;

	memx_attach_start(a, 0);
	h = hello(test, 1);
	KUNIT_ASSERT_EQ(test, memx_attach_hello(a, 1, &h, &proto), 0);
	KUNIT_EXPECT_EQ(test, proto, 1);
	memx_attach_hello_build(a, 1, proto, &back);
	KUNIT_EXPECT_EQ(test, memx_le16(back.proto), 1);
	KUNIT_EXPECT_EQ(test, back.role, MEMX_ROLE_GUEST);
	KUNIT_EXPECT_EQ(test, back.lane, 1);
	KUNIT_EXPECT_EQ(test, back.lanes, 2);
	KUNIT_EXPECT_EQ(test, back.lane_kind, MEMX_LANE_FETCH);
	KUNIT_EXPECT_EQ(test, memx_le64(back.offer), a->offer);
	KUNIT_EXPECT_NE(test, memx_le64(back.instance), 0ull);
}

/* An offer is good for one client: a wrong nonce, a second hello, another role or lane end the channel. */
static void hello_not_believed(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_hello h;
	u16 proto;

	KUNIT_EXPECT_EQ(test, say_hello(test, 0), -EPROTO);	/* nothing was offered */
	memx_attach_start(a, 0);
	h = hello(test, 0);
	h.offer = memx_put_le64(a->offer + 1);
	KUNIT_EXPECT_EQ(test, memx_attach_hello(a, 0, &h, &proto), -EPROTO);
	h = hello(test, 0);
	h.role = MEMX_ROLE_GUEST;
	KUNIT_EXPECT_EQ(test, memx_attach_hello(a, 0, &h, &proto), -EPROTO);
	h = hello(test, 1);
	KUNIT_EXPECT_EQ(test, memx_attach_hello(a, 0, &h, &proto), -EPROTO);
	h = hello(test, 2);
	KUNIT_EXPECT_EQ(test, memx_attach_hello(a, 2, &h, &proto), -EPROTO);
	KUNIT_EXPECT_EQ(test, say_hello(test, 0), 0);
	KUNIT_EXPECT_EQ(test, say_hello(test, 0), -EPROTO);
	KUNIT_EXPECT_EQ(test, a->hello, 1);
}

static void hello_no_common_version(struct kunit *test)
{
	struct memx_hello h;
	u16 proto = 9;

	memx_attach_start(states(test), 0);
	h = hello(test, 0);
	h.proto_min = memx_put_le16(2);
	KUNIT_EXPECT_EQ(test, memx_attach_hello(states(test), 0, &h, &proto), MEMX_ACT_REFUSED);
	KUNIT_EXPECT_EQ(test, proto, 0);
	KUNIT_EXPECT_EQ(test, states(test)->status, (u32)MEMX_S_PROTO);
}

/* Every attempt has an epoch of its own, higher than all before, whatever came of those. */
static void epoch_rises(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 now = 0, epoch = 0;
	u32 i;

	memx_attach_start(a, 0);
	for (i = 0; i < 20; i++) {
		KUNIT_ASSERT_EQ(test, say_hello(test, 0), 0);
		KUNIT_ASSERT_EQ(test, say_hello(test, 1), MEMX_ACT_CONNECTED | MEMX_ACT_ATTACH);
		KUNIT_EXPECT_GT(test, a->epoch, epoch);
		epoch = a->epoch;
		if (i & 1)
			KUNIT_ASSERT_GE(test, reply(test, MEMX_S_OK, granted(4096), now), 0);
		KUNIT_ASSERT_EQ(test, memx_attach_lost(a, now), (u32)MEMX_ACT_WITHDRAW);
		now += 100 * SECOND;
		KUNIT_ASSERT_EQ(test, memx_attach_tick(a, now), (u32)MEMX_ACT_OFFER);
	}
}

static void offer_nonce_new(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 first;

	memx_attach_start(a, 0);
	first = a->offer;
	KUNIT_EXPECT_NE(test, first, 0ull);
	memx_attach_lost(a, 0);
	KUNIT_EXPECT_EQ(test, a->offer, 0ull);
	memx_attach_tick(a, 100 * SECOND);
	KUNIT_EXPECT_NE(test, a->offer, 0ull);
	KUNIT_EXPECT_NE(test, a->offer, first);
}

/* The same sizes after a loss: the tables stay, and the ATTACH says what is frozen. */
static void attach_again(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attach body;

	attach(test);
	a->frozen = true;
	KUNIT_EXPECT_EQ(test, memx_attach_lost(a, 3 * SECOND), (u32)MEMX_ACT_WITHDRAW);
	KUNIT_EXPECT_EQ(test, a->state, MEMX_A_DOWN);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, 3 * SECOND), (u32)MEMX_ACT_OFFER);	/* at once */
	say_hello(test, 0);
	say_hello(test, 1);
	memx_attach_build(a, 17, &body);
	KUNIT_EXPECT_EQ(test, memx_le32(body.slots), 4096u);
	KUNIT_EXPECT_EQ(test, body.extent_order, 10);
	KUNIT_EXPECT_EQ(test, memx_le32(body.records), 17u);
	KUNIT_EXPECT_EQ(test, memx_le16(body.flags), MEMX_ATTACH_FROZEN);
	KUNIT_EXPECT_EQ(test, memcmp(body.session, a->session, 16), 0);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 3 * SECOND), MEMX_ACT_GO);
}

/* What swapon froze no relay can change. */
static void attach_frozen(struct kunit *test)
{
	struct memx_attached body = granted(4096);

	attach(test);
	states(test)->frozen = true;
	memx_attach_lost(states(test), 0);
	memx_attach_tick(states(test), SECOND);
	say_hello(test, 0);
	say_hello(test, 1);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_OK, granted(8192), 0), -EPROTO);
	body.extent_order = 9;
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_OK, body, 0), -EPROTO);
	KUNIT_EXPECT_EQ(test, states(test)->agreed.slots, 4096u);
}

static void attach_resized_before_swapon(struct kunit *test)
{
	attach(test);
	memx_attach_lost(states(test), 0);
	memx_attach_tick(states(test), SECOND);
	say_hello(test, 0);
	say_hello(test, 1);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_OK, granted(8192), 0), MEMX_ACT_SIZE | MEMX_ACT_GO);
	KUNIT_EXPECT_EQ(test, states(test)->agreed.slots, 8192u);
}

static void attach_nonsense_granted(struct kunit *test)
{
	struct memx_attached bad[11];
	u32 i;

	memx_attach_start(states(test), 0);
	states(test)->slots_max = 4096;
	say_hello(test, 0);
	say_hello(test, 1);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = granted(4096);
	bad[0].slots = 0;
	bad[1].extent_order = MEMX_MIN_EXTENT_ORDER - 1;
	bad[2].extent_order = MEMX_MAX_EXTENT_ORDER + 1;
	bad[3].replicas = MEMX_MAX_REPLICAS + 1;
	bad[4].max_pages = 0;
	bad[5].max_pages = MEMX_MAX_PAGES + 1;
	bad[6].lane_requests = 0;
	bad[7].lane_pages = 0;
	bad[8].replicas = 0;
	bad[9].slots = memx_put_le32(1);		/* the header's and none for a page */
	bad[10].slots = memx_put_le32(4096 + 1);	/* more than fits into this guest, and than was asked for */
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_EQ_MSG(test, reply(test, MEMX_S_OK, bad[i], 0), -EPROTO, "grant %u", i);
	KUNIT_EXPECT_NE(test, states(test)->state, MEMX_A_ATTACHED);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 0), MEMX_ACT_SIZE | MEMX_ACT_GO);
}

/* An answer to an attempt that is over, or to none. */
static void attach_late_answer(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attached body = granted(4096);

	attach(test);
	KUNIT_EXPECT_EQ(test, memx_attach_reply(a, MEMX_S_OK, &body, a->epoch, 0), -EPROTO);
	memx_attach_lost(a, 0);
	memx_attach_tick(a, SECOND);
	say_hello(test, 0);
	say_hello(test, 1);
	KUNIT_EXPECT_EQ(test, memx_attach_reply(a, MEMX_S_OK, &body, a->epoch - 1, 0), -EPROTO);
	KUNIT_EXPECT_EQ(test, memx_attach_reply(a, MEMX_S_OK, &body, a->epoch, 0), MEMX_ACT_GO);
}

/* Refused: said once, and asked again over the same channel when the relay says, under a new epoch. */
static void refused_asks_again(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attached body = { .retry_ms = memx_put_le32(2000) };

	memx_attach_start(a, 0);
	say_hello(test, 0);
	say_hello(test, 1);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_NOSPACE, body, SECOND), MEMX_ACT_REFUSED);
	KUNIT_EXPECT_EQ(test, a->state, MEMX_A_REFUSED);
	KUNIT_EXPECT_EQ(test, a->status, (u32)MEMX_S_NOSPACE);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, 3 * SECOND - 1), 0u);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, 3 * SECOND), (u32)MEMX_ACT_ATTACH);
	KUNIT_EXPECT_EQ(test, a->epoch, 2ull);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 4 * SECOND), MEMX_ACT_SIZE | MEMX_ACT_GO);
}

/*
 * Fenced again and again: whoever is far behind is there soon, by steps that double. Any other answer ends that. However long a relay
 * goes on, the way from the last grant can be told in 32 bits, and the epoch only rises.
 */
static void fenced_climbs(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attached body = {};
	u64 epoch, last;
	u32 i;

	attach(test);
	memx_attach_lost(a, 10 * SECOND);
	show(test, 10 * SECOND);
	epoch = a->epoch;
	for (i = 1; i <= 17; i++) {
		KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_FENCED, body, 0), MEMX_ACT_REFUSED);
		KUNIT_ASSERT_EQ(test, memx_attach_tick(a, 100 * SECOND), (u32)MEMX_ACT_ATTACH);
		KUNIT_EXPECT_EQ(test, a->epoch - epoch, i < 17 ? (2ull << i) - 2 : (2ull << 16) - 2 + (1 << 16));
	}
	epoch = a->epoch;
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_AGAIN, body, 0), MEMX_ACT_REFUSED);
	KUNIT_ASSERT_EQ(test, memx_attach_tick(a, 100 * SECOND), (u32)MEMX_ACT_ATTACH);
	KUNIT_EXPECT_EQ(test, a->epoch, epoch + 1);
	for (i = 0; i < 40000; i++) {
		last = a->epoch;
		KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_FENCED, body, 0), MEMX_ACT_REFUSED);
		KUNIT_ASSERT_EQ(test, memx_attach_tick(a, 100 * SECOND), (u32)MEMX_ACT_ATTACH);
		KUNIT_ASSERT_GT(test, a->epoch, last);
	}
	KUNIT_EXPECT_EQ(test, a->epoch, last + 1);
	KUNIT_EXPECT_LT(test, a->epoch - a->known_epoch, 1ull << 32);
	epoch = a->epoch;
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 0), MEMX_ACT_GO);
	memx_attach_lost(a, 10 * SECOND);
	show(test, 10 * SECOND);
	KUNIT_EXPECT_EQ(test, a->epoch, epoch + 1);
}

/* No relay sends the guest away for days. */
static void refused_bounded(struct kunit *test)
{
	struct memx_attached body = { .retry_ms = memx_put_le32(~0u) };

	memx_attach_start(states(test), 0);
	say_hello(test, 0);
	say_hello(test, 1);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_AGAIN, body, 0), MEMX_ACT_REFUSED);
	KUNIT_EXPECT_LE(test, states(test)->retry_at, 60 * SECOND);
}

/* Superseded with swap on: final. There is nothing left that another suspend could put at risk. */
static void superseded(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attached body = {};
	u32 i;

	attach(test);
	a->frozen = true;
	for (i = 0; i < MEMX_MAX_LINEAGE - 1; i++) {
		memx_attach_resumed(a, SECOND);
		show(test, SECOND);
	}
	KUNIT_EXPECT_FALSE(test, memx_attach_may_suspend(a));
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_SUPERSEDED, body, 0), MEMX_ACT_WITHDRAW | MEMX_ACT_GONE);
	KUNIT_EXPECT_EQ(test, a->state, MEMX_A_GONE);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, 1000 * SECOND), 0u);
	KUNIT_EXPECT_EQ(test, memx_attach_lost(a, 0), 0u);
	KUNIT_EXPECT_TRUE(test, memx_attach_may_suspend(a));
	KUNIT_EXPECT_EQ(test, memx_attach_resumed(a, 0), 0u);
}

/* Superseded where the session holds nothing of the guest, before swapon or after swapoff: it begins another one, with patience. */
static void superseded_without_swap(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attached body = {};
	u64 now = 0, delay = 0;
	u8 session[16];
	u32 i;

	attach(test);
	for (i = 0; i < 8; i++) {
		if (i & 1) {
			a->sized = true;
			a->frozen = true;
		}
		memx_attach_lost(a, now);
		memx_attach_detach(a, now);
		now = a->retry_at;
		show(test, now);
		memcpy(session, a->session, 16);
		KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_SUPERSEDED, body, now),
				MEMX_ACT_WITHDRAW | MEMX_ACT_DETACHED | MEMX_ACT_REFUSED);
		KUNIT_ASSERT_EQ(test, a->state, MEMX_A_DOWN);
		KUNIT_EXPECT_NE(test, memcmp(session, a->session, 16), 0);
		KUNIT_EXPECT_FALSE(test, a->sized || a->frozen || a->detach);
		KUNIT_EXPECT_GE(test, a->retry_at - now, delay);
		delay = a->retry_at - now;
	}
	KUNIT_EXPECT_EQ(test, delay, 5 * SECOND);
}

/* Attempts that come to nothing come less and less often, but never less than every five seconds. */
static void backoff_bounded(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 now = 0, delay, last = 0;
	u32 i;

	memx_attach_start(a, 0);
	for (i = 0; i < 12; i++) {
		memx_attach_lost(a, now);
		delay = a->retry_at - now;
		KUNIT_EXPECT_GE(test, delay, SECOND / 10);
		KUNIT_EXPECT_GE(test, delay, last);
		KUNIT_EXPECT_LE(test, delay, 5 * SECOND);
		last = delay;
		now = a->retry_at;
		KUNIT_ASSERT_EQ(test, memx_attach_tick(a, now), (u32)MEMX_ACT_OFFER);
	}
	KUNIT_EXPECT_EQ(test, last, 5 * SECOND);
}

static void detach(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u8 session[16];

	attach(test);
	a->frozen = true;
	memcpy(session, a->session, 16);
	KUNIT_EXPECT_EQ(test, memx_attach_detach(a, 0), (u32)MEMX_ACT_DETACH);
	KUNIT_EXPECT_EQ(test, a->state, MEMX_A_DETACHING);
	KUNIT_EXPECT_EQ(test, memx_attach_detached(a, MEMX_S_OK, 0), (u32)(MEMX_ACT_WITHDRAW | MEMX_ACT_DETACHED));
	KUNIT_EXPECT_NE(test, memcmp(session, a->session, 16), 0);
	KUNIT_EXPECT_EQ(test, a->epoch, 0ull);
	KUNIT_EXPECT_FALSE(test, a->sized);
	KUNIT_EXPECT_FALSE(test, a->frozen);
}

/* swapoff while no relay is there: the session is freed with the next attachment, before anything else. */
static void detach_later(struct kunit *test)
{
	struct memx_attacher *a = states(test);

	attach(test);
	memx_attach_lost(a, 0);
	KUNIT_EXPECT_EQ(test, memx_attach_detach(a, 0), 0u);
	memx_attach_tick(a, SECOND);
	say_hello(test, 0);
	say_hello(test, 1);
	KUNIT_EXPECT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 0), MEMX_ACT_DETACH);
}

/* Where the relay wants to know it: how many epochs ago the guest was attached last. */
static void attempts_told(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attach body;
	struct memx_hello h;
	u16 proto;
	u32 i, n;

	memx_attach_start(a, 0);
	for (n = 0; n < 4; n++) {
		for (i = 0; i < 2; i++) {
			h = hello(test, (u8)i);
			/* One that speaks of features that nobody knows, and one that knows none. */
			h.features = n == 3 ? 0 : memx_put_le64(MEMX_FEATURE_ATTEMPTS | 1ull << 60);
			KUNIT_ASSERT_GE(test, memx_attach_hello(a, (u8)i, &h, &proto), 0);
			KUNIT_EXPECT_EQ(test, a->features, n == 3 ? 0 : (u64)MEMX_FEATURE_ATTEMPTS);
		}
		memx_attach_build(a, 0, &body);
		KUNIT_EXPECT_EQ(test, memx_le32(body.attempts), n == 3 ? 0 : n);
		if (!n)
			KUNIT_ASSERT_GE(test, reply(test, MEMX_S_OK, granted(4096), 0), 0);
		memx_attach_lost(a, n * 10 * SECOND);
		memx_attach_tick(a, (n + 1) * 10 * SECOND);
	}
}

/* A resume: a new lineage before those that were, and a new offer; the session stays. */
static void lineage(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 seen[6];
	struct memx_attach body;
	u32 i;

	attach(test);
	for (i = 0; i < 6; i++) {
		seen[i] = a->lineage[0];
		KUNIT_EXPECT_NE(test, seen[i], 0ull);
		KUNIT_EXPECT_EQ(test, memx_attach_resumed(a, 0), (u32)MEMX_ACT_WITHDRAW);
		KUNIT_EXPECT_EQ(test, a->state, MEMX_A_DOWN);
		KUNIT_EXPECT_NE(test, a->lineage[0], seen[i]);
		show(test, SECOND);
		KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 0), MEMX_ACT_GO);
	}
	memx_attach_build(a, 0, &body);
	for (i = 1; i < MEMX_MAX_LINEAGE; i++)
		KUNIT_EXPECT_EQ(test, memx_le64(body.lineage[i]), seen[6 - i]);
	KUNIT_EXPECT_TRUE(test, a->sized);
}

/* Checkpoint after checkpoint while no relay is there: who never showed a lineage to anybody has none to remember. */
static void lineage_never_shown(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 known, last;
	u32 i;

	attach(test);
	a->frozen = true;
	known = a->lineage[0];
	for (i = 0; i < 20; i++) {
		last = a->lineage[0];
		KUNIT_ASSERT_TRUE(test, memx_attach_may_suspend(a));
		memx_attach_resumed(a, 0);
		KUNIT_EXPECT_NE(test, a->lineage[0], last);
		KUNIT_EXPECT_EQ(test, a->lineage[1], known);
		KUNIT_EXPECT_EQ(test, a->lineage[2], 0ull);
	}
}

/*
 * Attempts that were never answered may have fenced donors. Each of their lineages is kept until one succeeds, that of the
 * last success as well, and a suspend that would need room for one more has to wait.
 */
static void lineage_never_answered(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 seen[MEMX_MAX_LINEAGE];
	u32 i;

	attach(test);
	a->frozen = true;
	for (i = 0; i < MEMX_MAX_LINEAGE - 1; i++) {
		seen[i] = a->lineage[0];
		KUNIT_ASSERT_TRUE(test, memx_attach_may_suspend(a));
		memx_attach_resumed(a, 0);
		show(test, SECOND);
	}
	seen[i] = a->lineage[0];
	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		KUNIT_EXPECT_EQ(test, a->lineage[i], seen[MEMX_MAX_LINEAGE - 1 - i]);
	KUNIT_EXPECT_FALSE(test, memx_attach_may_suspend(a));
	/* Where it happens all the same, that of the last success is what stays. */
	memx_attach_resumed(a, 0);
	KUNIT_EXPECT_EQ(test, a->lineage[MEMX_MAX_LINEAGE - 1], seen[0]);
	show(test, SECOND);
	KUNIT_EXPECT_FALSE(test, memx_attach_may_suspend(a));
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 0), MEMX_ACT_GO);
	KUNIT_EXPECT_TRUE(test, memx_attach_may_suspend(a));
}

/*
 * What lineages protect are pages. A guest that is refused each time and has no swap on may be suspended as often as one likes;
 * from the first time on that the donors might not know it again swap does not come on with this session.
 */
static void lineage_without_swap(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	struct memx_attached body = {};
	u32 i;

	attach(test);
	memx_attach_lost(a, 0);
	a->retry_at = SECOND;
	for (i = 0; i < 6; i++) {
		show(test, SECOND);
		KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_NOSPACE, body, 0), MEMX_ACT_REFUSED);
		KUNIT_ASSERT_TRUE(test, memx_attach_may_suspend(a));
		KUNIT_EXPECT_EQ(test, a->detach, i > 3);
		KUNIT_EXPECT_EQ(test, memx_attach_resumed(a, 0), (u32)MEMX_ACT_WITHDRAW);
	}
	show(test, SECOND);
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), SECOND), MEMX_ACT_DETACH);
}

/* Greeted and not asked: the lineage was shown to nobody, so it makes no suspend a risk. */
static void lineage_greeted(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 known;
	u32 i;

	attach(test);
	a->frozen = true;
	known = a->lineage[0];
	for (i = 0; i < 6; i++) {
		KUNIT_ASSERT_TRUE(test, memx_attach_may_suspend(a));
		memx_attach_resumed(a, 0);
		KUNIT_ASSERT_EQ(test, memx_attach_tick(a, SECOND), (u32)MEMX_ACT_OFFER);
		KUNIT_ASSERT_EQ(test, say_hello(test, 0), 0);
		KUNIT_ASSERT_EQ(test, say_hello(test, 1), MEMX_ACT_CONNECTED | MEMX_ACT_ATTACH);
	}
	KUNIT_EXPECT_EQ(test, a->lineage[1], known);
	KUNIT_EXPECT_EQ(test, a->lineage[2], 0ull);
}

/* Granted and lost at once, again and again: the delay grows. Once an attachment has lasted, the next is asked for at once. */
static void backoff_until_proven(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 now = 0, last = 0;
	u32 i;

	attach(test);
	for (i = 0; i < 8; i++) {
		memx_attach_lost(a, now);
		KUNIT_EXPECT_GE(test, a->retry_at - now, SECOND / 10);
		KUNIT_EXPECT_GE(test, a->retry_at - now, last);
		last = a->retry_at - now;
		now = a->retry_at;
		show(test, now);
		KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), now), MEMX_ACT_GO);
	}
	KUNIT_EXPECT_EQ(test, last, 5 * SECOND);
	now += 2 * SECOND;
	memx_attach_lost(a, now);
	KUNIT_EXPECT_EQ(test, a->retry_at, now);
}

static void granted_again(struct kunit *test, u64 now)
{
	show(test, now);
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), now), MEMX_ACT_GO);
}

/* A relay that is started anew again and again, and serves in between, is offered to at once each time. */
static void served_again_and_again(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 now = 0;
	u32 i;

	attach(test);
	for (i = 0; i < 12; i++) {
		now += 700 * SECOND / 1000;
		memx_attach_lost(a, now);
		KUNIT_ASSERT_EQ(test, a->retry_at, now);
		granted_again(test, now);
	}
}

/* The pause is between two grants: for how long the first one served is a part of it, or all of it. */
static void served_is_part_of_the_pause(struct kunit *test)
{
	struct memx_attacher *a = states(test);
	u64 now = 0, due = SECOND / 10;
	u32 i;

	attach(test);
	for (i = 0; i < 3; i++, due *= 2) {
		u64 granted_at = now;

		now += 60 * SECOND / 1000;
		memx_attach_lost(a, now);
		KUNIT_EXPECT_EQ(test, a->retry_at, granted_at + due);
		now = a->retry_at;
		granted_again(test, now);
	}
	now += due;
	memx_attach_lost(a, now);
	KUNIT_EXPECT_EQ(test, a->retry_at, now);
	granted_again(test, now);
	memx_attach_lost(a, now);		/* and the next one begins with the shortest */
	KUNIT_EXPECT_EQ(test, a->retry_at, now + SECOND / 10);
}

/* The rings are still another client's: its departure is what the next offer waits for. */
static void offer_waits_for_departure(struct kunit *test)
{
	struct memx_attacher *a = states(test);

	memx_attach_start(a, 0);
	memx_attach_offer_failed(a, true, 0);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, SECOND / 2), 0u);
	memx_attach_departed(a, SECOND / 2);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, SECOND / 2), (u32)MEMX_ACT_OFFER);
	/* It left while the offer was being made. */
	memx_attach_departed(a, SECOND);
	memx_attach_offer_failed(a, true, SECOND);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, SECOND), (u32)MEMX_ACT_OFFER);
	/* What is waited for was something else: nobody can shorten that. */
	memx_attach_offer_failed(a, false, 2 * SECOND);
	memx_attach_departed(a, 2 * SECOND);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, 2 * SECOND), 0u);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, 3 * SECOND), (u32)MEMX_ACT_OFFER);
	/* Its departure is not heard of: looked for from time to time. */
	memx_attach_offer_failed(a, true, 4 * SECOND);
	KUNIT_EXPECT_EQ(test, memx_attach_tick(a, 5 * SECOND), (u32)MEMX_ACT_OFFER);
	KUNIT_EXPECT_EQ(test, a->state, MEMX_A_OFFERED);
}

static void reasons_in_words(struct kunit *test)
{
	u32 status;

	for (status = 0; status < MEMX_S_COUNT + 3; status++) {
		KUNIT_ASSERT_NOT_NULL(test, memx_attach_why(status));
		KUNIT_EXPECT_GT(test, strlen(memx_attach_why(status)), 3ul);
	}
	KUNIT_EXPECT_STREQ(test, memx_attach_state_name(MEMX_A_ATTACHED), "attached");
	KUNIT_EXPECT_STREQ(test, memx_attach_state_name(99), "?");
}

/* Each change of the state is told once, with its epoch; what changes nothing is not. */
static void changes_told(struct kunit *test)
{
	static const struct {
		enum memx_attach_state state;
		u64 epoch;
	} due[] = {
		{ MEMX_A_OFFERED, 0 }, { MEMX_A_ATTACHING, 1 }, { MEMX_A_ATTACHED, 1 }, { MEMX_A_DOWN, 1 },
		{ MEMX_A_OFFERED, 1 }, { MEMX_A_ATTACHING, 2 }, { MEMX_A_REFUSED, 2 }, { MEMX_A_ATTACHING, 3 },
		{ MEMX_A_ATTACHED, 3 }, { MEMX_A_DETACHING, 3 }, { MEMX_A_DOWN, 0 }, { MEMX_A_STOPPED, 0 },
	};
	struct memx_attacher *a = states(test);
	struct memx_attached later = { .retry_ms = memx_put_le32(1000) };
	struct around *c = a->ctx;
	u32 i;

	attach(test);
	memx_attach_lost(a, SECOND);
	memx_attach_lost(a, SECOND);
	show(test, 5 * SECOND);
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_AGAIN, later, 5 * SECOND), MEMX_ACT_REFUSED);
	KUNIT_ASSERT_EQ(test, memx_attach_tick(a, 10 * SECOND), (u32)MEMX_ACT_ATTACH);
	KUNIT_ASSERT_EQ(test, reply(test, MEMX_S_OK, granted(4096), 10 * SECOND), MEMX_ACT_GO);
	memx_attach_detach(a, 10 * SECOND);
	memx_attach_detached(a, MEMX_S_OK, 10 * SECOND);
	memx_attach_stop(a);
	KUNIT_ASSERT_EQ(test, c->n_told, (u32)ARRAY_SIZE(due));
	for (i = 0; i < ARRAY_SIZE(due); i++) {
		KUNIT_EXPECT_EQ_MSG(test, c->told[i].state, due[i].state, "change %u", i);
		KUNIT_EXPECT_EQ_MSG(test, c->told[i].epoch, due[i].epoch, "change %u", i);
	}
}

static struct kunit_case attach_cases[] = {
	KUNIT_CASE(attach_first),
	KUNIT_CASE(hello_answer),
	KUNIT_CASE(hello_not_believed),
	KUNIT_CASE(hello_no_common_version),
	KUNIT_CASE(epoch_rises),
	KUNIT_CASE(offer_nonce_new),
	KUNIT_CASE(attach_again),
	KUNIT_CASE(attach_frozen),
	KUNIT_CASE(attach_resized_before_swapon),
	KUNIT_CASE(attach_nonsense_granted),
	KUNIT_CASE(attach_late_answer),
	KUNIT_CASE(refused_asks_again),
	KUNIT_CASE(fenced_climbs),
	KUNIT_CASE(refused_bounded),
	KUNIT_CASE(superseded),
	KUNIT_CASE(superseded_without_swap),
	KUNIT_CASE(backoff_bounded),
	KUNIT_CASE(detach),
	KUNIT_CASE(detach_later),
	KUNIT_CASE(backoff_until_proven),
	KUNIT_CASE(served_again_and_again),
	KUNIT_CASE(served_is_part_of_the_pause),
	KUNIT_CASE(offer_waits_for_departure),
	KUNIT_CASE(attempts_told),
	KUNIT_CASE(lineage),
	KUNIT_CASE(lineage_never_shown),
	KUNIT_CASE(lineage_never_answered),
	KUNIT_CASE(lineage_without_swap),
	KUNIT_CASE(lineage_greeted),
	KUNIT_CASE(reasons_in_words),
	KUNIT_CASE(changes_told),
	{}
};

static struct kunit_suite attach_suite = {
	.name = "memx_attach",
	.init = attach_setup,
	.test_cases = attach_cases,
};

kunit_test_suite(attach_suite);
