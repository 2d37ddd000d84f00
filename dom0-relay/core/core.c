// SPDX-License-Identifier: GPL-2.0-only
/*
 * core.c - the core as a whole: its start and end, the turn of its wheel, its log.
 *
 * Every entry point is core_enter(), the event, core_settle(). What is marked is worked through here, in a fixed order, until
 * nothing is marked any more: losses first, so that nobody plans with the dead; then attaches, extents, and at last what goes
 * out to donors.
 */
#include "internal.h"

void core_config_init(struct core_config *cfg)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->staging_bytes = 32ULL << 20;
	cfg->donor_bytes = 4ULL << 20;
	cfg->donor_requests = 512;
	cfg->extent_order = MEMX_DEF_EXTENT_ORDER;
	cfg->map_bytes = ~0ULL;
	cfg->session_changes = 64;
	cfg->heartbeat_ns = 250 * MS;
	cfg->donor_timeout_ns = 600 * MS;
	cfg->donor_dead_ns = 10000 * MS;
	cfg->lag_ns = 400 * MS;
	cfg->repair_rate = 64ULL << 20;
	cfg->balance = true;
}

static bool config_good(const struct core_config *cfg)
{
	return cfg->extent_order >= MEMX_MIN_EXTENT_ORDER && cfg->extent_order <= MEMX_MAX_EXTENT_ORDER &&
	       cfg->replicas < MEMX_MAX_REPLICAS && cfg->heartbeat_ns && cfg->donor_timeout_ns &&
	       cfg->staging_bytes >= (1ULL << 20) && cfg->session_changes && cfg->donor_requests && cfg->donor_bytes >= MEMX_MAX_FRAME;
}

struct relay_core *core_new(const struct core_config *cfg, const struct core_ops *ops, void *ctx, u64 now)
{
	struct relay_core *core;

	if (!config_good(cfg)) {
		errno = EINVAL;
		return NULL;
	}
	core = core_zalloc(sizeof(*core));
	core->cfg = *cfg;
	core->ops = *ops;
	core->ctx = ctx;
	ops->random(ctx, &core->rng, sizeof(core->rng));
	core->now = now;
	core->started = now;
	core->last_tick = now;
	core->judge_from = now;
	core->repair_at = now;
	core->peers_version = 1;
	core->tick_at = now + cfg->heartbeat_ns;
	list_init(&core->links);
	list_init(&core->sessions);
	list_init(&core->dop_free);
	list_init(&core->dying_links);
	list_init(&core->dying_donors);
	list_init(&core->step);
	list_init(&core->review);
	list_init(&core->pump);
	list_init(&core->dead_links);
	list_init(&core->fetching);
	list_init(&core->held_writes);
	list_init(&core->held_changes);
	list_init(&core->retry);
	list_init(&core->repairs);
	list_init(&core->heals);
	return core;
}

void core_reconfigure(struct relay_core *core, const struct core_config *cfg, u64 now)
{
	core_enter(core, now);
	if (config_good(cfg)) {
		struct core_config keep = core->cfg;

		core->cfg = *cfg;
		memcpy(core->cfg.relay_id, keep.relay_id, sizeof(keep.relay_id));
		core->cfg.instance = keep.instance;
	}
	core_settle(core);
}

static void free_dead_links(struct relay_core *core)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &core->dead_links)
		link_destroy(list_entry(pos, struct core_link, in_core));
}

static void no_guest_close(void *ctx, void *link, const char *reason)
{
	(void)ctx;
	(void)link;
	(void)reason;
}

static void no_donor_close(void *ctx, void *donor, const char *reason)
{
	no_guest_close(ctx, donor, reason);
}

void core_free(struct relay_core *core)
{
	struct list *pos, *tmp;
	u32 i;

	if (!core)
		return;
	core->settling = true;
	core->ops.guest_close = no_guest_close;
	core->ops.donor_close = no_donor_close;
	list_for_each_safe(pos, tmp, &core->links)
		link_teardown(list_entry(pos, struct core_link, in_core));
	free_dead_links(core);
	list_for_each_safe(pos, tmp, &core->sessions)
		session_destroy(list_entry(pos, struct session, in_core));
	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (core->donor[i])
			donor_destroy(core->donor[i]);
	for (i = 0; i < core->dop_chunks; i++)
		free(core->dop_chunk[i]);
	free(core->dop_chunk);
	free(core);
}

void core_enter(struct relay_core *core, u64 now)
{
	if (now > core->now)
		core->now = now;
}

/* One mark. False: none is left. */
static bool settle_one(struct relay_core *core)
{
	if (!list_empty(&core->dying_donors)) {
		donor_teardown(list_first(&core->dying_donors, struct core_donor, in_dying));
	} else if (!list_empty(&core->dying_links)) {
		link_teardown(list_first(&core->dying_links, struct core_link, in_dying));
	} else if (!list_empty(&core->step)) {
		struct session *s = list_first(&core->step, struct session, in_step);

		list_del(&s->in_step);
		attach_work(s);
	} else if (!list_empty(&core->review)) {
		struct extent *x = list_first(&core->review, struct extent, in_review);

		list_del(&x->in_review);
		extent_work(x);
	} else if (!list_empty(&core->pump)) {
		struct core_donor *d = list_first(&core->pump, struct core_donor, in_pump);

		list_del(&d->in_pump);
		donor_pump(d);
	} else {
		return false;
	}
	return true;
}

void core_settle(struct relay_core *core)
{
	if (core->settling)
		return;
	core->settling = true;
	while (settle_one(core))
		;
	core->settling = false;
}

void core_want_tick(struct relay_core *core, u64 at)
{
	if (at < core->tick_at)
		core->tick_at = at;
}

u64 core_next_deadline(const struct relay_core *core)
{
	return core->tick_at;
}

static void retry_extents(struct relay_core *core)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &core->retry) {
		struct extent *x = list_entry(pos, struct extent, in_later);

		if (x->retry_at > core->now) {
			core_want_tick(core, x->retry_at);
			continue;
		}
		list_del(&x->in_later);
		extent_review(x);
	}
}

bool core_lags(const struct relay_core *core)
{
	return core->now - core->last_tick > core->cfg.heartbeat_ns + core->cfg.lag_ns;
}

/*
 * We were stopped, or the host was: what we did not hear in that time says nothing about anybody. A lag too short to be told of may
 * already be longer than what a donor has left; it gives everybody another chance, once in a while.
 */
static void look_for_lag(struct relay_core *core)
{
	u64 gap = core->now - core->last_tick, timeout = core->cfg.donor_timeout_ns;

	if (core_lags(core)) {
		core->judge_from = core->now;
		core->count.lags++;
		core_say(core, CORE_LOG_NOTICE, "lag", "ms=%llu", (unsigned long long)(gap / MS));
	} else if (gap > core->cfg.heartbeat_ns && gap > timeout / 2 && core->now - core->judge_from > 4 * timeout) {
		core->judge_from = core->now;
	}
	core->last_tick = core->now;
}

void core_tick(struct relay_core *core, u64 now)
{
	struct list *pos;
	u32 i;

	core_enter(core, now);
	free_dead_links(core);
	look_for_lag(core);
	core->tick_at = core->now + core->cfg.heartbeat_ns;
	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (core->donor[i])
			donor_tick(core->donor[i]);
	retry_extents(core);
	late_tick(core);
	fetch_tick(core);
	list_for_each(pos, &core->links)
		link_tick(list_entry(pos, struct core_link, in_core));
	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);

		if (s->state == SESSION_ATTACHING)
			session_step(s);
		else if (s->state == SESSION_FREEING || s->state == SESSION_ATTACHED)
			session_ask_again(s);
	}
	core_settle(core);
	reclaim_tick(core);
	balance_tick(core);
	core_settle(core);
	repair_tick(core);
	core_settle(core);
}

void core_drain(struct relay_core *core, u64 now)
{
	core_enter(core, now);
	if (!core->draining)
		core->drain_until = core->now + 5000 * MS;
	core->draining = true;
	core_say(core, CORE_LOG_NOTICE, "drain", "links=\"finishing what is under way\"");
	core_settle(core);
}

bool core_idle(const struct relay_core *core)
{
	const struct list *pos;

	/* Requests may wait for a donor that never comes back, and new ones are not taken meanwhile: the guest asks again. */
	if (core->draining && core->now >= core->drain_until)
		return true;
	list_for_each(pos, &core->links)
		if (list_entry(pos, struct core_link, in_core)->unanswered)
			return false;
	list_for_each(pos, &core->sessions) {
		const struct session *s = list_entry(pos, struct session, in_core);

		if (s->state == SESSION_ATTACHED && s->changing)
			return false;
	}
	return true;
}

/* splitmix64 (Steele, Lea, Flood 2014), seeded by the owner: for choices that need chance, not secrecy. */
u64 core_random(struct relay_core *core)
{
	u64 z = core->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

void core_say(struct relay_core *core, enum core_log_level level, const char *event, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	core->ops.log(core->ctx, level, event, text);
}

struct hexid hexid(const u8 id[16])
{
	struct hexid hex;
	int i;

	for (i = 0; i < 16; i++)
		snprintf(hex.s + 2 * i, 3, "%02x", id[i]);
	return hex;
}

const char *status_word(u32 status)
{
	static const char *const words[] = {
#define MEMX_X(name, code, text) [code] = #name,
		MEMX_STATUS_LIST(MEMX_X)
#undef MEMX_X
	};

	return status < MEMX_S_COUNT ? words[status] : "LOST";
}
