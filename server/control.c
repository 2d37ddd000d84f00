// SPDX-License-Identifier: GPL-2.0-only
/*
 * control.c - the control socket: what memxctl asks, and the admin's orders.
 */
#include <errno.h>
#include <stdlib.h>

#include "memx-version.h"
#include "server.h"
#include "user/ctl.h"
#include "user/log.h"
#include "user/text.h"

static json_t *integer(u64 value)
{
	return json_integer((json_int_t)value);
}

static json_t *hex(const u8 *bytes, size_t len)
{
	char text[65];

	return json_string(memx_format_hex(text, bytes, len < 32 ? len : 32));
}

static json_t *counters(const struct server *server)
{
	const struct srv_counters *c = srv_counters(server->core);
	json_t *all = json_object();

#define SRV_X(name, text) json_object_set_new(all, #name, integer(c->name));
	SRV_COUNTER_LIST(SRV_X)
#undef SRV_X
	json_object_set_new(all, "pressed", integer(server->pressed));
	json_object_set_new(all, "pages_reclaimed", integer(server->reclaim.came_back));
	json_object_set_new(all, "pages_dropped", integer(server->reclaim.all_dropped));
	json_object_set_new(all, "reclaims_refused", integer(server->refusals));
	json_object_set_new(all, "connections_accepted", integer(server->accepted));
	json_object_set_new(all, "connections_refused", integer(server->refused));
	json_object_set_new(all, "connections_malformed", integer(server->malformed));
	json_object_set_new(all, "connections_timed_out", integer(server->timeouts));
	json_object_set_new(all, "connections_broken", integer(server->broken));
	return all;
}

static void add_peer(void *ctx, const char *addr, const struct srv_conn *conn, u64 frames, u64 queued)
{
	json_array_append_new(ctx, json_pack("{s:s, s:b, s:I, s:I, s:I}", "peer", addr, "greeted", srv_conn_greeted(conn),
					     "sessions", (json_int_t)srv_conn_sessions(conn), "frames", (json_int_t)frames,
					     "queued_bytes", (json_int_t)queued));
}

static json_t *cmd_status(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	struct server *server = ctx;
	struct srv_totals t;
	char instance[17];

	(void)request;
	(void)err;
	srv_totals(server->core, &t);
	memx_format_hex(instance, (u8 [8]) {
		(u8)(server->instance >> 56), (u8)(server->instance >> 48), (u8)(server->instance >> 40),
		(u8)(server->instance >> 32), (u8)(server->instance >> 24), (u8)(server->instance >> 16),
		(u8)(server->instance >> 8), (u8)server->instance }, 8);
	return json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:s, s:o, s:o, s:o}",
			 "role", "donor", "version", MEMX_VERSION, "id", hex(server->id, 16), "instance", instance,
			 "domain", server->settings.domain, "listen", memx_addr_text(&server->settings.listen),
			 "port", (json_int_t)server->port,
			 "uptime_s", (json_int_t)((memx_loop_now(server->loop) - server->started_ns) / 1000000000ULL),
			 "pages_total", integer(t.pages_total),
			 "pages_limit", integer((u64)srv_chunks_of(server->limit) * SRV_CHUNK_PAGES),
			 "pages_configured", integer((u64)srv_chunks_of(server->settings.memory) * SRV_CHUNK_PAGES),
			 "pages_asked", integer(t.pages_asked), "pressed", server->pressure.allowed != SRV_NO_BOUND,
			 "pages_used", integer(t.pages_used),
			 "pages_reserved", integer(t.pages_reserved), "sessions", integer(t.sessions),
			 "connections", integer(t.connections), "extents", integer(t.extents),
			 "draining", t.draining, "locked", server->facts.locked, "huge", server->facts.huge,
			 "reclaim_refused", server->reclaim.refusal,
			 "reclaim_waited_ms", integer(reclaim_waited(server) / 1000000),
			 "reclaim_took_ms", integer(server->reclaim.took_ns / 1000000),
			 "counters", counters(server));
}

static json_t *cmd_peers(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	json_t *all = json_array();

	(void)request;
	(void)err;
	peers_each(ctx, add_peer, all);
	return all;
}

struct sessions {
	json_t *all;
	u64 now;
};

static void add_session(void *ctx, const struct srv_session_info *i)
{
	struct sessions *s = ctx;

	json_array_append_new(s->all, json_pack("{s:s, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:I}",
			      "vm", memx_uuid_text(i->vm), "session", hex(i->session, 16), "epoch", integer(i->epoch),
			      "slots", (json_int_t)i->slots, "extent_order", (json_int_t)i->extent_order,
			      "extents", integer(i->extents), "pages_used", integer(i->pages_used),
			      "pages_reserved", integer(i->pages_reserved), "pages_held", integer(i->pages_held),
			      "relays", (json_int_t)i->handles,
			      "silent_ns", (json_int_t)(s->now - i->seen_ns)));
}

static json_t *cmd_sessions(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	struct server *server = ctx;
	struct sessions s = { .all = json_array(), .now = memx_now() };

	(void)request;
	(void)err;
	srv_sessions(server->core, add_session, &s);
	return s.all;
}

static json_t *cmd_session_free(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	const char *vm_text = json_string_value(json_object_get(request, "vm"));
	const char *id_text = json_string_value(json_object_get(request, "session"));
	struct server *server = ctx;
	u8 vm[16], id[16];
	int ret;

	if (!vm_text || memx_parse_uuid(vm_text, vm) || !id_text || memx_parse_hex(id_text, id, 16)) {
		snprintf(err, MEMX_CTL_ERR, "session-free needs \"vm\": a UUID, and \"session\": 32 hexadecimal digits");
		return NULL;
	}
	ret = srv_session_remove(server->core, vm, id, json_is_true(json_object_get(request, "force")));
	if (ret) {
		snprintf(err, MEMX_CTL_ERR, "%s", ret == -EBUSY ?
			 "a relay has this session open: free it there, stop the guest, or use force" : "this donor holds no such session");
		return NULL;
	}
	server_scrub_later(server);
	return json_object();
}

/* Without arguments it tells; "bytes" sets, "default": true goes back to the settings. */
static json_t *cmd_limit(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	json_t *wanted = json_object_get(request, "bytes");
	struct server *server = ctx;
	u64 bytes = json_is_true(json_object_get(request, "default")) ? server->settings.memory : 0;
	int ret;

	if (json_is_integer(wanted) && json_integer_value(wanted) >= 0) {
		bytes = (u64)json_integer_value(wanted);
	} else if (wanted) {
		snprintf(err, MEMX_CTL_ERR, "limit wants \"bytes\": a number, or \"default\": true");
		return NULL;
	}
	if (wanted || bytes) {
		ret = server_set_limit(server, bytes);
		if (ret) {
			snprintf(err, MEMX_CTL_ERR, "the limit stays as it was: %s", ret == -ENOSPC ?
				 "it is more than this host has, or than the huge pages that were there at the start" : strerror(-ret));
			return NULL;
		}
		memx_notice("limit", "limit_mib=%llu by=command", (unsigned long long)(server->limit >> 20));
	}
	return cmd_status(ctx, request, err);
}

static const struct memx_ctl_cmd commands[] = {
	{ "status", cmd_status },
	{ "limit", cmd_limit },
	{ "peers", cmd_peers },
	{ "sessions", cmd_sessions },
	{ "session-free", cmd_session_free },
	{ NULL, NULL }
};

int control_start(struct server *server)
{
	server->ctl = home_ctl(server, commands);
	return server->ctl ? 0 : -errno;
}

void control_stop(struct server *server)
{
	if (server->ctl)
		memx_ctl_free(server->ctl);
	server->ctl = NULL;
}
