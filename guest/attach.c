// SPDX-License-Identifier: GPL-2.0-only
/*
 * attach.c - the states of the session; see attach.h for the picture, the events and the actions.
 *
 * Pure and without a clock: compiled in the kernel, under KUnit and in user space. Nothing here touches a ring.
 */
#include "attach.h"

#define MS		1000000ULL
#define RETRY_MIN	(100 * MS)	/* after a loss, doubled with each attempt that came to nothing ... */
#define RETRY_MAX	(5000 * MS)	/* ... up to this, which is also what a refusal without a time gets */
#define REFUSED_MAX	(60000 * MS)	/* longer than this no relay can send us away */
#define RETRY_BUSY	(1000 * MS)	/* should the departure of the client before not be heard */
#define STRIDE_MAX	(1U << 16)	/* epochs at once, behind a fence */
#define CLIMB_MAX	(1ULL << 31)	/* further than this from the last grant only one at once: ATTACH tells of 2^32 - 1 */
#define PROVEN		(2000 * MS)	/* an attachment that lasted so long was one, however many before it came to nothing */

static const char *const state_names[MEMX_A_STATES] = {
	[MEMX_A_STOPPED]	= "stopped",
	[MEMX_A_DOWN]		= "down",
	[MEMX_A_OFFERED]	= "offered",
	[MEMX_A_ATTACHING]	= "attaching",
	[MEMX_A_REFUSED]	= "refused",
	[MEMX_A_ATTACHED]	= "attached",
	[MEMX_A_DETACHING]	= "detaching",
	[MEMX_A_GONE]		= "superseded",
};

const char *memx_attach_state_name(enum memx_attach_state state)
{
	return (unsigned int)state < MEMX_A_STATES ? state_names[state] : "?";
}

const char *memx_attach_why(u32 status)
{
	switch (status) {
	case MEMX_S_NOSPACE:
		return "the donors, or this guest's quota, have no room for a swap of this size: add memory or ask for less";
	case MEMX_S_DENIED:
		return "Dom0's configuration does not allow cluster memory to this guest";
	case MEMX_S_SUPERSEDED:
		return "another copy of this guest (a clone or an older snapshot) owns the session";
	case MEMX_S_NODONOR:
		return "the relay does not know a donor that holds pages of this guest: configure it there";
	case MEMX_S_DRAINING:
		return "the relay is shutting down";
	case MEMX_S_MISMATCH:
		return "the relay would change a size that swapon has frozen";
	case MEMX_S_PROTO:
		return "relay and module have no protocol version in common: update one of them";
	default:
		break;
	}
	switch (memx_status_known(status)) {
#define MEMX_X(name, code, text) case code: return text;
	MEMX_STATUS_LIST(MEMX_X)
#undef MEMX_X
	}
	return "unknown reason";
}

static u64 draw(struct memx_attacher *a)
{
	u64 n;

	do {
		n = a->random(a->ctx);
	} while (!n);
	return n;
}

/* A new session: nothing of the old one, its epoch and its sizes is left. */
static void draw_session(struct memx_attacher *a)
{
	__le64 half[2] = { memx_put_le64(draw(a)), memx_put_le64(draw(a)) };

	memcpy(a->session, half, sizeof(a->session));
	memset(a->lineage, 0, sizeof(a->lineage));
	a->lineage[0] = draw(a);
	a->known = 0;
	a->known_epoch = 0;
	a->shown = false;
	a->unsure = 0;
	a->epoch = 0;
	a->stride = 1;
	a->sized = false;
	a->frozen = false;
	a->detach = false;
	memset(&a->agreed, 0, sizeof(a->agreed));
}

void memx_attach_init(struct memx_attacher *a, u8 lanes, const u8 *kind, u64 (*random)(void *ctx), void *ctx)
{
	memset(a, 0, sizeof(*a));
	a->lanes = lanes;
	memcpy(a->kind, kind, lanes);
	a->random = random;
	a->ctx = ctx;
	a->slots_max = ~0U;
	a->instance = draw(a);
	draw_session(a);
}

/* Every change of the state goes through here, with the epoch that it is about. */
static void enter(struct memx_attacher *a, enum memx_attach_state state)
{
	if (a->state == state)
		return;
	a->state = state;
	if (a->entered)
		a->entered(a->ctx, state, a->epoch);
}

/* Nothing is offered any more; offers again after @delay. */
static void go_down(struct memx_attacher *a, u64 now, u64 delay)
{
	enter(a, MEMX_A_DOWN);
	a->hello = 0;
	a->offer = 0;
	a->retry_at = now + delay;
	if (!a->retry_at)
		a->retry_at = 1;
}

static u64 due_pause(const struct memx_attacher *a)
{
	return min((u64)(RETRY_MIN << min(a->attempts, 10U)), (u64)RETRY_MAX);
}

static u64 backoff(struct memx_attacher *a)
{
	u64 delay = due_pause(a);

	a->attempts++;
	return delay;
}

/*
 * An attachment is lost. Who grants and then serves nothing, or is fenced at once, is not asked again without end: the next one
 * begins a pause after this one did, and the pause grows. One that lasted as long as the pause owes nothing: pages wait, and a
 * relay that is started anew every other second is no reason to let them wait for longer than it is away.
 */
static void attachment_lost(struct memx_attacher *a, u64 now)
{
	u64 lasted = now - a->since;

	if (lasted >= min(due_pause(a), (u64)PROVEN)) {
		a->attempts = 0;
		go_down(a, now, 0);
	} else {
		go_down(a, now, backoff(a) - lasted);
	}
}

static u32 offer(struct memx_attacher *a)
{
	a->hello = 0;
	a->offer = draw(a);
	enter(a, MEMX_A_OFFERED);
	a->retry_at = 0;
	a->busy = false;
	a->departed = false;
	return MEMX_ACT_OFFER;
}

static u32 ask(struct memx_attacher *a)
{
	a->retry_at = 0;
	a->epoch += a->epoch - a->known_epoch < CLIMB_MAX ? a->stride : 1;
	enter(a, MEMX_A_ATTACHING);
	return MEMX_ACT_ATTACH;
}

u32 memx_attach_start(struct memx_attacher *a, u64 now)
{
	(void)now;
	return a->state == MEMX_A_STOPPED ? offer(a) : 0;
}

u32 memx_attach_offer_failed(struct memx_attacher *a, bool busy, u64 now)
{
	bool departed = a->departed;

	if (a->state != MEMX_A_OFFERED)
		return 0;
	go_down(a, now, busy ? RETRY_BUSY : backoff(a));
	a->busy = busy;
	if (departed)
		memx_attach_departed(a, now);
	return 0;
}

void memx_attach_departed(struct memx_attacher *a, u64 now)
{
	a->departed = true;
	if (a->state != MEMX_A_DOWN || !a->busy)
		return;
	/* The wait was for this and nothing else: each client leaves once, so this cannot make a storm. */
	a->busy = false;
	a->retry_at = now ? now : 1;
}

int memx_attach_hello(struct memx_attacher *a, u8 lane, const struct memx_hello *hello, u16 *proto)
{
	*proto = 0;
	if (a->state != MEMX_A_OFFERED || lane >= a->lanes || a->hello & 1U << lane || hello->role != MEMX_ROLE_RELAY ||
	    hello->lane != lane || memx_le64(hello->offer) != a->offer || memx_check_hello(hello))
		return -EPROTO;
	*proto = memx_proto_common(memx_le16(hello->proto_min), memx_le16(hello->proto_max), MEMX_PROTO_MIN, MEMX_PROTO_MAX);
	if (!*proto) {
		a->status = MEMX_S_PROTO;
		return MEMX_ACT_REFUSED;
	}
	a->features = (a->hello ? a->features : MEMX_FEATURE_ATTEMPTS) & memx_le64(hello->features);
	a->hello |= (u8)(1U << lane);
	if (a->hello != (1U << a->lanes) - 1)
		return 0;
	return (int)(MEMX_ACT_CONNECTED | ask(a));
}

/* Checks what the relay grants. 0, or -EPROTO where it cannot be. */
static int take_agreed(const struct memx_attacher *a, const struct memx_attached *body, struct memx_agreed *to)
{
	to->slots = memx_le32(body->slots);
	to->extent_order = body->extent_order;
	to->replicas = body->replicas;
	to->max_pages = body->max_pages;
	to->lane_requests = memx_le32(body->lane_requests);
	to->lane_pages = memx_le32(body->lane_pages);

	if (to->extent_order < MEMX_MIN_EXTENT_ORDER || to->extent_order > MEMX_MAX_EXTENT_ORDER ||
	    !to->replicas || to->replicas > MEMX_MAX_REPLICAS || !to->max_pages || to->max_pages > MEMX_MAX_PAGES ||
	    !to->lane_requests || !to->lane_pages || to->slots < 2)
		return -EPROTO;
	if (a->frozen && (to->slots != a->agreed.slots || to->extent_order != a->agreed.extent_order))
		return -EPROTO;
	/* More than may be taken here was never asked for. */
	if (!a->frozen && to->slots > a->slots_max)
		return -EPROTO;
	return 0;
}

static u32 refused(struct memx_attacher *a, u32 status, u32 retry_ms, u64 now)
{
	u64 delay = retry_ms ? retry_ms * MS : RETRY_MAX;

	a->status = status;
	/* Who is far behind learns what that means when it is not any more, and its pages wait for that. */
	a->stride = status == MEMX_S_FENCED ? min(2 * a->stride, STRIDE_MAX) : 1;
	enter(a, MEMX_A_REFUSED);
	a->retry_at = now + min(max(delay, (u64)RETRY_MIN), (u64)REFUSED_MAX);
	return MEMX_ACT_REFUSED;
}

static u32 attached(struct memx_attacher *a, const struct memx_agreed *agreed, u64 now)
{
	u32 actions = MEMX_ACT_GO;

	a->since = now;
	a->stride = 1;
	if (a->detach) {
		enter(a, MEMX_A_DETACHING);
		return MEMX_ACT_DETACH;
	}
	if (!a->sized || agreed->slots != a->agreed.slots || agreed->extent_order != a->agreed.extent_order)
		actions |= MEMX_ACT_SIZE;
	a->agreed = *agreed;
	a->sized = true;
	a->known = a->lineage[0];
	a->known_epoch = a->epoch;
	a->unsure = 0;
	enter(a, MEMX_A_ATTACHED);
	a->status = MEMX_S_OK;
	return actions;
}

/* Does the session hold pages of the guest, or may it? From swapon to swapoff. */
static bool in_use(const struct memx_attacher *a)
{
	return a->frozen && !a->detach;
}

/* The session is another copy's, or the donors do not know this one's lineage. Only where it holds pages is that the end. */
static u32 superseded(struct memx_attacher *a, u64 now)
{
	a->status = MEMX_S_SUPERSEDED;
	if (in_use(a)) {
		enter(a, MEMX_A_GONE);
		a->retry_at = 0;
		return MEMX_ACT_WITHDRAW | MEMX_ACT_GONE;
	}
	draw_session(a);
	go_down(a, now, backoff(a));
	return MEMX_ACT_WITHDRAW | MEMX_ACT_DETACHED | MEMX_ACT_REFUSED;
}

int memx_attach_reply(struct memx_attacher *a, u32 status, const struct memx_attached *body, u64 epoch, u64 now)
{
	struct memx_agreed agreed;

	if (a->state != MEMX_A_ATTACHING || epoch != a->epoch)
		return -EPROTO;
	if (status == MEMX_S_SUPERSEDED)
		return (int)superseded(a, now);
	if (status != MEMX_S_OK)
		return (int)refused(a, memx_status_known(status), memx_le32(body->retry_ms), now);
	if (take_agreed(a, body, &agreed))
		return -EPROTO;
	return (int)attached(a, &agreed, now);
}

u32 memx_attach_lost(struct memx_attacher *a, u64 now)
{
	switch (a->state) {
	case MEMX_A_STOPPED:
	case MEMX_A_DOWN:
	case MEMX_A_GONE:
		return 0;
	case MEMX_A_ATTACHED:
		attachment_lost(a, now);
		return MEMX_ACT_WITHDRAW;
	default:
		go_down(a, now, backoff(a));
		return MEMX_ACT_WITHDRAW;
	}
}

u32 memx_attach_detach(struct memx_attacher *a, u64 now)
{
	if (a->state == MEMX_A_GONE || a->state == MEMX_A_STOPPED)
		return 0;
	if (!a->sized && a->state != MEMX_A_ATTACHING)
		return 0;
	a->detach = true;
	if (a->state == MEMX_A_ATTACHED) {
		enter(a, MEMX_A_DETACHING);
		a->since = now;
		return MEMX_ACT_DETACH;
	}
	if (a->state == MEMX_A_REFUSED)
		a->retry_at = now;
	return 0;
}

u32 memx_attach_detached(struct memx_attacher *a, u32 status, u64 now)
{
	if (a->state != MEMX_A_DETACHING)
		return 0;
	if (status != MEMX_S_OK && status != MEMX_S_UNKNOWN) {
		/* Not now: this attachment is of no other use, come back with the next. */
		go_down(a, now, backoff(a));
		return MEMX_ACT_WITHDRAW;
	}
	draw_session(a);
	go_down(a, now, 0);
	a->attempts = 0;
	return MEMX_ACT_WITHDRAW | MEMX_ACT_DETACHED;
}

/* Is there room for a lineage more, or would it drive out one of those that were shown since the last success, or that one? */
static bool one_more(const struct memx_attacher *a)
{
	u32 kept = a->known && a->known != a->lineage[0];

	return !a->shown || 1U + 1U + a->unsure + kept <= MEMX_MAX_LINEAGE;
}

/* Who is not known any more has lost the pages of the session: not to be risked where there are some, and can be had back. */
bool memx_attach_may_suspend(const struct memx_attacher *a)
{
	return !in_use(a) || a->state == MEMX_A_GONE || one_more(a);
}

u32 memx_attach_resumed(struct memx_attacher *a, u64 now)
{
	u32 i, last = MEMX_MAX_LINEAGE - 1;

	if (a->state == MEMX_A_STOPPED || a->state == MEMX_A_GONE)
		return 0;
	/* The donors may not know this session again, so swap must not come on with it: it gives way to another one. */
	if (a->sized && !in_use(a) && !one_more(a))
		a->detach = true;
	/* The donors hold that of the last attach, however many resumes ago it was: without it they would not know us. */
	if (a->known && a->lineage[last] == a->known)
		last--;
	for (i = a->shown ? last : 0; i; i--)
		a->lineage[i] = a->lineage[i - 1];
	if (a->shown && a->lineage[0] != a->known && a->unsure < MEMX_MAX_LINEAGE)
		a->unsure++;
	a->lineage[0] = draw(a);
	a->shown = false;
	a->attempts = 0;
	go_down(a, now, 0);
	return MEMX_ACT_WITHDRAW;
}

u32 memx_attach_tick(struct memx_attacher *a, u64 now)
{
	if (!a->retry_at || now < a->retry_at)
		return 0;
	if (a->state == MEMX_A_DOWN)
		return offer(a);
	if (a->state == MEMX_A_REFUSED)
		return ask(a);
	return 0;
}

void memx_attach_stop(struct memx_attacher *a)
{
	enter(a, MEMX_A_STOPPED);
	a->hello = 0;
	a->offer = 0;
	a->retry_at = 0;
}

/* What to ask for. The relay takes from it what is beyond the quota, so all that may be taken here is not too much. */
static u32 slots_asked(const struct memx_attacher *a)
{
	if (a->sized)
		return a->agreed.slots;
	return a->slots_wanted ? min(a->slots_wanted, a->slots_max) : a->slots_max;
}

void memx_attach_build(struct memx_attacher *a, u32 records, struct memx_attach *to)
{
	u32 i;

	a->shown = true;
	memset(to, 0, sizeof(*to));
	memcpy(to->session, a->session, sizeof(to->session));
	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		to->lineage[i] = memx_put_le64(a->lineage[i]);
	to->slots = memx_put_le32(slots_asked(a));
	to->records = memx_put_le32(records);
	if (a->known_epoch && a->features & MEMX_FEATURE_ATTEMPTS)
		to->attempts = memx_put_le32((u32)min(a->epoch - a->known_epoch, (u64)~0U));
	to->extent_order = a->sized ? a->agreed.extent_order : 0;
	to->replicas = a->replicas_wanted;
	to->flags = memx_put_le16(a->frozen ? MEMX_ATTACH_FROZEN : 0);
}

void memx_attach_hello_build(const struct memx_attacher *a, u8 lane, u16 proto, struct memx_hello *to)
{
	memset(to, 0, sizeof(*to));
	to->proto_min = memx_put_le16(MEMX_PROTO_MIN);
	to->proto_max = memx_put_le16(MEMX_PROTO_MAX);
	to->proto = memx_put_le16(proto);
	to->role = MEMX_ROLE_GUEST;
	to->lane = lane;
	to->features = memx_put_le64(a->features);
	to->offer = memx_put_le64(a->offer);
	to->instance = memx_put_le64(a->instance);
	to->lanes = a->lanes;
	to->lane_kind = lane < a->lanes ? a->kind[lane] : 0;
}
