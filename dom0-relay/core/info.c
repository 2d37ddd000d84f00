// SPDX-License-Identifier: GPL-2.0-only
/*
 * info.c - what memxctl shows: snapshots of donors, guests, sessions and counters. Reads only.
 */
#include "internal.h"

static const char *const link_words[] = {
	[LINK_HELLO] = "hello", [LINK_READY] = "waiting", [LINK_MAPPING] = "attaching", [LINK_ATTACHING] = "attaching",
	[LINK_ATTACHED] = "attached", [LINK_DETACHING] = "detaching",
};

/* What repair has before it: a copy is missing, cannot be reached, or lies where it may not stay. */
static void add_repair(const struct session *s, struct core_status *to)
{
	u32 i, missing;

	for (i = 0; i < s->extents; i++) {
		const struct extent *x = &s->extent[i];

		missing = extent_missing(x);
		to->moving_extents += x->shift != 0;
		to->repair_extents += missing != 0;
		to->repair_pages += (u64)missing << s->order;
		to->repair_stuck += missing && x->no_room;
	}
}

/* Until this donor, which is away, counts as dead: before that its copies are made elsewhere only as guests write. */
static u64 until_dead(const struct core_donor *d)
{
	const struct relay_core *core = d->core;
	u64 from = d->down_at > core->judge_from ? d->down_at : core->judge_from, until = from + core->cfg.donor_dead_ns;
	const struct list *pos;

	if ((d->stat && !d->duplicate) || d->dead || until <= core->now)
		return 0;
	list_for_each(pos, &core->sessions)
		if (list_entry(pos, struct session, in_core)->sd[d->index].placed)
			return until - core->now;
	return 0;
}

void core_status(const struct relay_core *core, struct core_status *to)
{
	const struct list *pos;
	u32 i, placed, degraded, waiting;
	u64 wait;

	memset(to, 0, sizeof(*to));
	to->counters = core->count;
	to->draining = core->draining;
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		to->donors += core->donor[i] != NULL;
		to->donors_up += core->donor[i] && donor_ok(core->donor[i]);
		wait = core->donor[i] ? until_dead(core->donor[i]) : 0;
		if (wait > to->repair_wait_ns)
			to->repair_wait_ns = wait;
	}
	list_for_each(pos, &core->links) {
		to->links++;
		to->attached += list_entry(pos, struct core_link, in_core)->state == LINK_ATTACHED;
	}
	list_for_each(pos, &core->sessions) {
		const struct session *s = list_entry(pos, struct session, in_core);

		to->sessions++;
		if (s->state != SESSION_ATTACHED)
			continue;
		session_conditions(s, &placed, &degraded, &waiting);
		to->extents += placed;
		to->extents_degraded += degraded;
		to->extents_waiting += waiting;
		add_repair(s, to);
	}
}

static u32 stuck_at(const struct session *s, const struct core_donor *d)
{
	u32 i, n = 0;

	for (i = 0; s->sd[d->index].placed && s->state == SESSION_ATTACHED && i < s->extents; i++) {
		const struct extent *x = &s->extent[i];

		n += x->no_room && extent_missing(x) && placement_find(&x->cur, d) >= 0;
	}
	return n;
}

void core_each_donor(const struct relay_core *core, void (*fn)(const struct core_donor_info *info, void *arg), void *arg, u64 now)
{
	const struct list *pos;
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = core->donor[i];
		struct core_donor_info info;

		if (!d)
			continue;
		memset(&info, 0, sizeof(info));
		memcpy(info.name, d->name, sizeof(info.name));
		if (d->known)
			memcpy(info.id, d->id, sizeof(info.id));
		info.instance = d->instance;
		memcpy(info.domain, d->domain, sizeof(info.domain));
		info.state = donor_state(d);
		memcpy(info.reason, d->reason, sizeof(info.reason));
		info.pages_total = d->total;
		info.pages_used = memx_le64(d->last_stat.pages_used);
		info.pages_reserved = d->reserved;
		info.sessions = memx_le32(d->last_stat.sessions);
		info.unanswered = d->unanswered;
		info.latency_ns = d->lat_ns;
		info.stores = d->stores;
		info.fetches = d->fetches;
		info.losses = d->losses;
		info.pages_asked = d->asked;
		info.moving = d->moving;
		info.silent_ns = d->up && now > d->last_rx ? now - d->last_rx : 0;
		list_for_each(pos, &core->sessions) {
			info.extents += list_entry(pos, struct session, in_core)->sd[i].placed;
			if (!donor_stays(d))
				info.stuck_extents += stuck_at(list_entry(pos, struct session, in_core), d);
		}
		fn(&info, arg);
	}
}

void core_each_guest(const struct relay_core *core, void (*fn)(const struct core_guest_info *info, void *arg), void *arg)
{
	const struct list *pos;

	list_for_each(pos, &core->links) {
		const struct core_link *link = list_entry(pos, struct core_link, in_core);
		struct core_guest_info info;

		memset(&info, 0, sizeof(info));
		memcpy(info.name, link->conf.name, sizeof(info.name));
		memcpy(info.vm, link->conf.vm, sizeof(info.vm));
		info.domid = link->conf.domid;
		info.state = link_words[link->state];
		memcpy(info.reason, link->reason, sizeof(info.reason));
		info.quota_pages = link->conf.quota_pages;
		info.lanes = link->lanes;
		info.staging_bytes = rpool_used(link->pool) + rpool_used(link->fetch_pool);
		info.unanswered = link->unanswered;
		if (link->session)
			memcpy(info.session, link->session->id, sizeof(info.session));
		fn(&info, arg);
	}
}

void core_each_session(const struct relay_core *core, void (*fn)(const struct core_session_info *info, void *arg), void *arg)
{
	const struct list *pos;

	list_for_each(pos, &core->sessions) {
		const struct session *s = list_entry(pos, struct session, in_core);
		struct core_session_info info;

		memset(&info, 0, sizeof(info));
		memcpy(info.vm, s->vm, sizeof(info.vm));
		memcpy(info.session, s->id, sizeof(info.session));
		memcpy(info.name, s->name, sizeof(info.name));
		info.epoch = s->epoch;
		info.slots = s->slots;
		info.extent_order = s->order;
		info.replicas = s->replicas;
		info.attached = s->state == SESSION_ATTACHED;
		info.freeing = s->state == SESSION_FREEING;
		session_conditions(s, &info.extents, &info.degraded, &info.waiting);
		if (!s->extent)
			info.extents = (u32)s->placed;
		info.stores = s->stores;
		info.fetches = s->fetches;
		info.discards = s->discards;
		info.since_ns = s->since;
		fn(&info, arg);
	}
}
