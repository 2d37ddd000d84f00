// SPDX-License-Identifier: GPL-2.0-only
/*
 * control.c - what memxctl asks: the core's state as JSON. Owner: the data thread. Numbers of pages stay pages, times are
 * nanoseconds, ids are hexadecimal or UUIDs: tools make them readable.
 */
#include <errno.h>
#include <stdio.h>

#include "edge.h"

static json_t *number(u64 value)
{
	return json_integer((json_int_t)value);
}

static json_t *hex16(const u8 id[16])
{
	char text[33];

	return json_string(memx_format_hex(text, id, 16));
}

/* Text that a peer had a hand in: anything that is no UTF-8 becomes a question mark, or jansson refuses it. */
static json_t *text(const char *from)
{
	char clean[256];
	size_t i;

	for (i = 0; i + 1 < sizeof(clean) && from[i]; i++)
		clean[i] = from[i] >= ' ' && from[i] < 0x7f ? from[i] : '?';
	clean[i] = '\0';
	return json_string(clean);
}

static json_t *cmd_status(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	struct control_ctx *c = ctx;
	struct core_status s;
	json_t *counters = json_object();

	(void)request, (void)err;
	core_status(c->worker->core, &s);
#define CORE_X(name, sentence) json_object_set_new(counters, #name, number(s.counters.name));
	CORE_COUNTER_LIST(CORE_X)
#undef CORE_X
	return json_pack("{s:s, s:s, s:o, s:o, s:b, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "role", "relay", "version", c->version, "id", hex16(c->id),
			 "uptime_ns", number(memx_now() - c->started), "draining", s.draining,
			 "links", (int)s.links, "attached", (int)s.attached, "sessions", (int)s.sessions,
			 "donors", (int)s.donors, "donors_up", (int)s.donors_up,
			 "extents", number(s.extents), "degraded_extents", number(s.extents_degraded),
			 "waiting_extents", number(s.extents_waiting), "repair_extents", number(s.repair_extents),
			 "moving_extents", number(s.moving_extents),
			 "turns", number(c->worker->turns), "xenstore_hangs", number(c->worker->xenstore_hangs),
			 "counters", counters);
}

static void add_guest(const struct core_guest_info *g, void *list)
{
	json_t *o = json_pack("{s:o, s:i, s:s, s:s, s:o, s:o, s:i, s:o, s:i, s:o}",
			      "name", text(g->name), "domid", (int)g->domid, "uuid", memx_uuid_text(g->vm), "state", g->state,
			      "reason", text(g->reason), "quota_pages", number(g->quota_pages), "lanes", (int)g->lanes,
			      "staging_bytes", number(g->staging_bytes), "unanswered", (int)g->unanswered,
			      "session", hex16(g->session));

	json_array_append_new(list, o);
}

static json_t *cmd_guests(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	struct control_ctx *c = ctx;
	json_t *list = json_array();

	(void)request, (void)err;
	core_each_guest(c->worker->core, add_guest, list);
	return list;
}

struct donor_list {
	struct control_ctx *ctx;
	json_t *list;
};

static void add_donor(const struct core_donor_info *d, void *arg)
{
	struct donor_list *l = arg;
	char address[MEMX_ADDR_TEXT];
	json_t *o = json_pack("{s:s, s:s?, s:o, s:o, s:o, s:s, s:s, s:o}",
			      "name", d->name, "address", donor_address(l->ctx->worker, d->name, address),
			      "id", hex16(d->id), "instance", json_sprintf("%016llx", (unsigned long long)d->instance),
			      "domain", text(d->domain), "state", core_donor_state_word(d->state),
			      "state_text", core_donor_state_text(d->state), "reason", text(d->reason));

	json_object_set_new(o, "pages_total", number(d->pages_total));
	json_object_set_new(o, "pages_used", number(d->pages_used));
	json_object_set_new(o, "pages_reserved", number(d->pages_reserved));
	json_object_set_new(o, "sessions", number(d->sessions));
	json_object_set_new(o, "extents", number(d->extents));
	json_object_set_new(o, "stuck_extents", number(d->stuck_extents));
	json_object_set_new(o, "unanswered", number(d->unanswered));
	json_object_set_new(o, "latency_ns", number(d->latency_ns));
	json_object_set_new(o, "silent_ns", number(d->silent_ns));
	json_object_set_new(o, "stores", number(d->stores));
	json_object_set_new(o, "fetches", number(d->fetches));
	json_object_set_new(o, "losses", number(d->losses));
	json_object_set_new(o, "pages_asked", number(d->pages_asked));
	json_object_set_new(o, "moving", number(d->moving));
	json_array_append_new(l->list, o);
}

static json_t *cmd_donors(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	struct control_ctx *c = ctx;
	struct donor_list l = { c, json_array() };

	(void)request, (void)err;
	core_each_donor(c->worker->core, add_donor, &l, worker_now(c->worker));
	return l.list;
}

static void add_session(const struct core_session_info *s, void *list)
{
	json_t *o = json_pack("{s:o, s:s, s:o, s:b, s:b}", "name", text(s->name), "vm", memx_uuid_text(s->vm),
			      "session", hex16(s->session), "attached", s->attached, "freeing", s->freeing);

	json_object_set_new(o, "epoch", number(s->epoch));
	json_object_set_new(o, "slots", number(s->slots));
	json_object_set_new(o, "extent_pages", number(1ULL << s->extent_order));
	json_object_set_new(o, "replicas", number(s->replicas));
	json_object_set_new(o, "extents", number(s->extents));
	json_object_set_new(o, "degraded_extents", number(s->degraded));
	json_object_set_new(o, "waiting_extents", number(s->waiting));
	json_object_set_new(o, "stores", number(s->stores));
	json_object_set_new(o, "fetches", number(s->fetches));
	json_object_set_new(o, "discards", number(s->discards));
	json_object_set_new(o, "since_ns", number(s->since_ns));
	json_array_append_new(list, o);
}

static json_t *cmd_sessions(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	struct control_ctx *c = ctx;
	json_t *list = json_array();

	(void)request, (void)err;
	core_each_session(c->worker->core, add_session, list);
	return list;
}

static json_t *cmd_session_free(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	const char *vm_text = json_string_value(json_object_get(request, "vm"));
	const char *session = json_string_value(json_object_get(request, "session"));
	struct control_ctx *c = ctx;
	u8 vm[16], id[16];
	int ret;

	if (!vm_text || !session || memx_parse_uuid(vm_text, vm) || memx_parse_hex(session, id, sizeof(id))) {
		snprintf(err, MEMX_CTL_ERR, "session-free wants \"vm\" and \"session\" as the list of sessions shows them");
		return NULL;
	}
	ret = core_session_free(c->worker->core, vm, id, json_is_true(json_object_get(request, "force")), worker_now(c->worker));
	worker_turn(c->worker);
	if (!ret)
		return json_object();
	snprintf(err, MEMX_CTL_ERR, "%s", ret == -EBUSY ? "the session is attached: stop the guest, or use force" :
		 "no such session here");
	return NULL;
}

static void add_dead(const struct core_donor_info *d, void *list)
{
	if (d->state == CORE_DONOR_CONNECTING || d->state == CORE_DONOR_HELLO || d->state == CORE_DONOR_DUPLICATE)
		json_array_append_new(list, json_string(d->name));
}

/* What is left to repair, and how long that takes at the rate that is allowed. */
static json_t *cmd_repair(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	struct control_ctx *c = ctx;
	u64 rate = c->worker->conf->core.repair_rate, bytes, wait;
	json_t *dead = json_array(), *o;
	struct core_status s;

	(void)request, (void)err;
	core_status(c->worker->core, &s);
	core_each_donor(c->worker->core, add_dead, dead, worker_now(c->worker));
	bytes = s.repair_pages * MEMX_PAGE_SIZE;
	wait = s.repair_extents ? (s.repair_wait_ns + 999999999) / 1000000000 : 0;
	o = json_pack("{s:o, s:o, s:o, s:o}", "remaining", number(s.repair_extents), "degraded_extents", number(s.extents_degraded),
		      "waiting_extents", number(s.extents_waiting), "dead_donors", dead);
	json_object_set_new(o, "remaining_bytes", number(bytes));
	json_object_set_new(o, "rate", number(rate));
	json_object_set_new(o, "stuck_extents", number(s.repair_stuck));
	json_object_set_new(o, "moving_extents", number(s.moving_extents));
	/* Until a donor that is away counts as dead. */
	json_object_set_new(o, "wait_seconds", number(wait));
	/* By what is left at most, and the rate that is allowed. Null: nothing is repaired at this rate, or no donor has room. */
	json_object_set_new(o, "seconds_left", rate && (!s.repair_extents || s.repair_stuck < s.repair_extents) ?
			    number((bytes + rate - 1) / rate + wait) : json_null());
	json_object_set_new(o, "replicas_repaired", number(s.counters.replicas_repaired));
	json_object_set_new(o, "repair_pages", number(s.counters.repair_pages));
	json_object_set_new(o, "repair_refused", number(s.counters.repair_refused));
	json_object_set_new(o, "no_repair_room", number(s.counters.no_repair_room));
	json_object_set_new(o, "balanced", number(s.counters.balanced));
	json_object_set_new(o, "extents_lost", number(s.counters.extents_lost));
	return o;
}

struct donor_find {
	const char *name;
	struct core_donor_info info;
};

static void find_donor(const struct core_donor_info *d, void *arg)
{
	struct donor_find *f = arg;

	if (!strcmp(d->name, f->name))
		f->info = *d;
}

static json_t *cmd_drain(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	const char *name = json_string_value(json_object_get(request, "donor"));
	struct donor_find found = { .name = name };
	struct control_ctx *c = ctx;
	bool on = !json_is_false(json_object_get(request, "on"));

	if (!name) {
		snprintf(err, MEMX_CTL_ERR, "drain wants \"donor\", the name that the configuration gives it");
		return NULL;
	}
	if (core_donor_empty(c->worker->core, name, on, worker_now(c->worker))) {
		snprintf(err, MEMX_CTL_ERR, "no donor of this name; see memxctl donors");
		return NULL;
	}
	worker_turn(c->worker);
	core_each_donor(c->worker->core, find_donor, &found, worker_now(c->worker));
	return json_pack("{s:s, s:b, s:s, s:o, s:o}", "donor", name, "drain", on,
			 "state", core_donor_state_word(found.info.state), "extents", number(found.info.extents),
			 "pages_used", number(found.info.pages_used));
}

const struct memx_ctl_cmd control_cmds[] = {
	{ "status", cmd_status },
	{ "guests", cmd_guests },
	{ "donors", cmd_donors },
	{ "sessions", cmd_sessions },
	{ "repair", cmd_repair },
	{ "drain", cmd_drain },
	{ "session-free", cmd_session_free },
	{ .name = NULL },
};
