// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - start, signals, service manager, end.
 *
 * One thread runs everything. SIGTERM and SIGINT end in good order, SIGHUP reads the settings again.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "server.h"
#include "user/log.h"

#define SECOND 1000000000ULL

enum {
	SCRUB_CHUNKS = 4,		/* per round of the loop: about a millisecond, so that nobody waits longer for it */
};

static const char *const event_name[] = {
	[SRV_EVENT_CREATED] = "session-created",
	[SRV_EVENT_FENCE] = "session-fenced",
	[SRV_EVENT_FENCED] = "fence-refused",
	[SRV_EVENT_SUPERSEDED] = "fence-superseded",
	[SRV_EVENT_DETACHED] = "session-detached",
	[SRV_EVENT_REMOVED] = "session-removed",
	[SRV_EVENT_CONDEMNED] = "extents-condemned",
	[SRV_EVENT_NOSPACE] = "no-space",
	[SRV_EVENT_NOMEM] = "no-memory",
	[SRV_EVENT_DROPPED] = "copy-dropped",
};

static const char *const event_number[] = {
	[SRV_EVENT_CREATED] = "slots",
	[SRV_EVENT_FENCE] = "epoch_before",
	[SRV_EVENT_FENCED] = "epoch_held",
	[SRV_EVENT_SUPERSEDED] = "epoch_held",
	[SRV_EVENT_DETACHED] = "pages_freed",
	[SRV_EVENT_REMOVED] = "pages_freed",
	[SRV_EVENT_CONDEMNED] = "pages_freed",
	[SRV_EVENT_NOSPACE] = "pages_wanted",
	[SRV_EVENT_NOMEM] = "extent",
	[SRV_EVENT_DROPPED] = "extent",
};

static void on_event(void *ctx, const struct srv_event *e)
{
	enum memx_log_level level = e->kind == SRV_EVENT_NOMEM || e->kind == SRV_EVENT_SUPERSEDED ||
		e->kind == SRV_EVENT_NOSPACE || e->kind == SRV_EVENT_FENCED || e->kind == SRV_EVENT_DROPPED ?
		MEMX_LOG_WARNING : MEMX_LOG_INFO;
	char session[33];

	(void)ctx;
	memx_format_hex(session, e->session, 16);
	memx_log_limited(level, event_name[e->kind], "vm=%s session=%s epoch=%llu %s=%llu peer=%s", memx_uuid_text(e->vm),
			 session, (unsigned long long)e->epoch, event_number[e->kind], (unsigned long long)e->number,
			 e->kind == SRV_EVENT_DROPPED ? "none" : peer_name(e->conn_ctx));
}

/* ---- moments of leisure ----------------------------------------------------------------------------------------------- */

static void scrub(struct memx_timer *timer, uint64_t now)
{
	struct server *server = (struct server *)((u8 *)timer - offsetof(struct server, scrub));

	if (srv_scrub(server->core, SCRUB_CHUNKS))
		memx_timer_set(server->loop, timer, now, scrub);	/* with the next round, behind those who ask */
}

void server_scrub_later(struct server *server)
{
	if (!memx_timer_pending(&server->scrub) && srv_scrub(server->core, 0))
		memx_timer_set(server->loop, &server->scrub, memx_loop_now(server->loop), scrub);
}

/* ---- service manager -------------------------------------------------------------------------------------------------- */

static void report(struct server *server, const char *state)
{
	struct srv_totals t;

	srv_totals(server->core, &t);
	sd_notifyf(0, "%sSTATUS=%llu of %llu MiB used, %llu reserved, %u sessions, %u connections", state,
		   (unsigned long long)(t.pages_used >> 8), (unsigned long long)(t.pages_total >> 8),
		   (unsigned long long)(t.pages_reserved >> 8), t.sessions, t.connections);
}

static void watchdog(struct memx_timer *timer, uint64_t now)
{
	struct server *server = (struct server *)((u8 *)timer - offsetof(struct server, watchdog));

	report(server, server->watchdog_ns ? "WATCHDOG=1\n" : "");
	memx_timer_set(server->loop, timer, now + (server->watchdog_ns ? server->watchdog_ns : 10 * SECOND), watchdog);
}

/* ---- signals ---------------------------------------------------------------------------------------------------------- */

static void hurry(struct memx_timer *timer, uint64_t now)
{
	struct server *server = (struct server *)((u8 *)timer - offsetof(struct server, leave));

	(void)now;
	memx_warn("stop-forced", "connections=%u reason=\"they did not take their replies\"", server->peer_count);
	memx_loop_stop(server->loop);
}

static void leave(struct server *server, int sig)
{
	if (server->leaving)
		return;
	memx_notice("stopping", "signal=%s connections=%u", sigabbrev_np(sig), server->peer_count);
	sd_notify(0, "STOPPING=1");
	srv_set_draining(server->core, true);
	memx_timer_set(server->loop, &server->leave, memx_loop_now(server->loop) + 3 * SECOND, hurry);
	peers_leave(server);
}

static void set_domain(struct server *server, const char *label)
{
	char domain[MEMX_LABEL_LEN] = "";

	snprintf(domain, sizeof(domain), "%s", label);
	srv_set_domain(server->core, domain);
}

static void reload(struct server *server)
{
	struct settings s;
	char err[512];
	int ret = 0;

	if (!server->config_path) {
		memx_warn("reload-refused", "reason=\"started without a configuration file\"");
		return;
	}
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)memx_now() / 1000);
	if (settings_reload(&s, server->config_path, err, sizeof(err))) {
		memx_err("reload-failed", "error=%s", memx_quoted(err));
		goto out;
	}
	/* What memxctl said stands until the file says otherwise than it did. */
	if (s.memory && s.memory != server->settings.memory)
		ret = server_set_limit(server, s.memory);
	if (ret)
		memx_err("reload-failed", "key=memory reason=\"%s\" kept_mib=%llu", strerror(-ret),
			 (unsigned long long)(server->limit >> 20));
	else if (s.memory)
		server->settings.memory = s.memory;
	server->settings.reclaim_wait = s.reclaim_wait;
	server->settings.self_drop = s.self_drop;
	if (s.pressure != server->settings.pressure || s.min_available != server->settings.min_available) {
		server->settings.pressure = s.pressure;
		server->settings.min_available = s.min_available;
		pressure_start(server);
	}
	server->settings.session_quota = s.session_quota;
	srv_set_quota(server->core, s.session_quota >> MEMX_PAGE_SHIFT);
	set_domain(server, s.domain);
	free(server->settings.domain);
	server->settings.domain = strdup(s.domain);
	memx_log_set_level(MEMX_LOG_ERR + s.log_level);
	memx_notice("reloaded", "memory_mib=%llu domain=%s", (unsigned long long)(server->limit >> 20), s.domain);
out:
	settings_free(&s);
	report(server, "READY=1\n");
}

static void on_signal(void *arg, int sig)
{
	if (sig == SIGHUP)
		reload(arg);
	else
		leave(arg, sig);
}

/* ---- start ------------------------------------------------------------------------------------------------------------ */

static int fail(const char *event, const char *what, int err)
{
	memx_err(event, "what=\"%s\" reason=\"%s\"", what, strerror(err < 0 ? -err : err));
	return 1;
}

static int start_store(struct server *server)
{
	u64 ram = (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGESIZE);
	struct srv_memfd_options options = {
		.chunks = srv_chunks_of(server->settings.memory),
		.max_chunks = srv_chunks_of(ram),
		.lock = (enum srv_want)server->settings.lock,
		.huge = (enum srv_want)server->settings.huge,
	};
	char err[256];

	server->store = srv_memfd_store(&options, &server->facts, err, sizeof(err));
	if (!server->store) {
		memx_err("store-failed", "reason=\"%s\"", err);
		return 1;
	}
	if (server->facts.lock_error)
		memx_warn("store-not-locked", "reason=\"%s\" hint=\"its pages can be swapped out; raise LimitMEMLOCK or set lock = no\"",
			  strerror(server->facts.lock_error));
	return 0;
}

static int start_core(struct server *server)
{
	struct srv_config config = {
		.limit_pages = (u64)srv_chunks_of(server->settings.memory) * SRV_CHUNK_PAGES,
		.session_quota = server->settings.session_quota >> MEMX_PAGE_SHIFT,
		.max_sessions = server->settings.max_sessions,
		.max_handles = 4096,
	};
	const struct srv_ops ops = { .event = on_event, .send = peer_send };
	int ret = home_id(server);

	if (ret) {
		memx_err("id-file-failed", "file=%s reason=\"%s\" hint=\"%s\"", memx_quoted(server->settings.id_file), strerror(-ret),
			 ret == -EINVAL ? "it must hold 32 hexadecimal digits" : "name one that can be written with --id-file");
		return 1;
	}
	memcpy(config.id, server->id, sizeof(config.id));
	config.instance = server->instance = memx_random_u64();
	config.hash_seed = memx_random_u64();
	server->core = srv_new(&config, server->store, &ops, server);
	if (!server->core)
		return fail("start-failed", "core", ENOMEM);
	set_domain(server, server->settings.domain);
	return 0;
}

static int start_edges(struct server *server)
{
	sigset_t signals;
	int ret;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	ret = memx_loop_signals(server->loop, &signals, on_signal, server);
	if (ret)
		return fail("start-failed", "signals", ret);
	if (!server->settings.listen.len) {
		ret = memx_addr_resolve(&server->settings.listen, 0);
		if (ret) {
			memx_err("listen-failed", "what=%s reason=\"%s\"", memx_quoted(server->settings.listen.host), memx_addr_error(ret));
			return 1;
		}
	}
	ret = peers_listen(server);
	if (ret)
		return fail("listen-failed", memx_addr_text(&server->settings.listen), ret);
	pressure_start(server);
	ret = control_start(server);
	if (ret)
		memx_warn("control-failed", "socket=%s reason=\"%s\"", memx_quoted(server->settings.control), strerror(-ret));
	return 0;
}

static void stop(struct server *server)
{
	control_stop(server);
	pressure_stop(server);
	reclaim_stop(server);
	peers_free(server);
	memx_timer_cancel(&server->scrub);
	memx_timer_cancel(&server->watchdog);
	memx_timer_cancel(&server->leave);
	if (server->core)
		srv_destroy(server->core);
	if (server->store)
		server->store->ops->destroy(server->store);
	memx_loop_free(server->loop);
	settings_free(&server->settings);
}

int main(int argc, char **argv)
{
	struct server server = { .listener.watch = MEMX_WATCH_INIT, .psi = MEMX_WATCH_INIT, .psi_read = -1,
				 .holder.connecting = MEMX_WATCH_INIT, .holder.conn.watch = MEMX_WATCH_INIT };
	char id[33];
	uint64_t usec;
	int ret = 1;

	switch (settings_from_args(&server.settings, &server.config_path, argc, argv)) {
	case SETTINGS_DONE:
		settings_free(&server.settings);
		return 0;
	case SETTINGS_WRONG:
		settings_free(&server.settings);
		return 2;
	default:
		break;
	}
	memx_log_init("memx-server", MEMX_LOG_ERR + server.settings.log_level);
	server.started_ns = memx_now();
	server.limit = server.settings.memory;
	server.loop = memx_loop_new();
	if (!server.loop)
		return fail("start-failed", "event loop", errno);
	if (start_store(&server) || start_core(&server) || start_edges(&server))
		goto out;
	memx_notice("started", "listen=%s port=%u id=%s instance=%016llx domain=%s pages=%llu memory_mib=%llu locked=%s huge=%s",
		    memx_addr_text(&server.settings.listen), server.port, memx_format_hex(id, server.id, 16),
		    (unsigned long long)server.instance, server.settings.domain,
		    (unsigned long long)srv_chunks_of(server.settings.memory) * SRV_CHUNK_PAGES,
		    (unsigned long long)(server.settings.memory >> 20), server.facts.locked ? "yes" : "no",
		    server.facts.huge ? "yes" : "no");
	if (sd_watchdog_enabled(0, &usec) > 0)
		server.watchdog_ns = usec * 1000 / 2;
	report(&server, "READY=1\n");
	watchdog(&server.watchdog, memx_loop_now(server.loop));
	ret = memx_loop_run(server.loop);
	if (ret)
		fail("loop-failed", "event loop", ret);
	memx_notice("stopped", "connections=%u", server.peer_count);
	ret = ret ? 1 : 0;
out:
	stop(&server);
	return ret;
}
