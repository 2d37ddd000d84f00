// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - memx-dom0-relay: options, start, signals, end. The data thread is the one that runs here.
 *
 * Start, in order: configuration, id, loop and signals (blocked before any thread is made), worker with its donors, control
 * socket, shared-memory guests, Xen guests, readiness. The end undoes it in reverse, after what was under way is answered.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include "edge/edge.h"
#include "memx-version.h"
#include "user/log.h"

enum { EXIT_CONFIG = 2 };

static const u64 status_every_ns = 5000000000;

struct relay {
	const char *conf_path;
	struct relay_conf *conf;
	struct memx_loop *loop;
	struct worker *worker;
	struct memx_ctl *ctl;
	struct control_ctx control;
	struct shm_edge *shm;
	struct xen_edge *xen;
	u8 id[16];
	bool quiet;			/* log level given on the command line */
	struct memx_timer watchdog, status, drained;
	u64 watchdog_ns;		/* 0: none */
	int exit;
};

static void usage(FILE *to)
{
	fprintf(to,
		"usage: memx-dom0-relay [--config FILE] [--check] [--debug]\n"
		"\n"
		"Serves the swapped-out pages of this host's Xen guests from the memory of other machines.\n"
		"\n"
		"  -c, --config FILE  configuration (default /etc/memx/relay.conf)\n"
		"      --check        read the configuration, say whether it is good, and exit\n"
		"      --debug        log at level debug, whatever the configuration says\n"
		"      --version      print the version and exit\n"
		"      --help         print this and exit\n"
		"\n"
		"Signals: TERM and INT answer what is under way and exit; HUP reads the configuration again.\n"
		"Exit status: 0 after TERM or INT, 1 cannot start or go on, 2 mistake in the configuration or the options.\n");
}

/* ---- systemd ---- */

static void watchdog_due(struct memx_timer *timer, u64 now)
{
	struct relay *r = (struct relay *)((char *)timer - offsetof(struct relay, watchdog));

	sd_notify(0, "WATCHDOG=1");
	memx_timer_set(r->loop, timer, now + r->watchdog_ns, watchdog_due);
}

static void status_due(struct memx_timer *timer, u64 now)
{
	struct relay *r = (struct relay *)((char *)timer - offsetof(struct relay, status));
	struct core_status s;

	core_status(r->worker->core, &s);
	sd_notifyf(0, "STATUS=%u guests attached, %u of %u donors up, %llu extents degraded", s.attached, s.donors_up, s.donors,
		   (unsigned long long)s.extents_degraded);
	memx_timer_set(r->loop, timer, now + status_every_ns, status_due);
}

static void tell_ready(struct relay *r)
{
	uint64_t usec = 0;

	if (sd_watchdog_enabled(0, &usec) > 0) {
		r->watchdog_ns = usec * 1000 / 3;
		watchdog_due(&r->watchdog, memx_now());
	}
	sd_notify(0, "READY=1");
	status_due(&r->status, memx_now());
}

/* ---- signals ---- */

static void set_level(struct relay *r)
{
	if (!r->quiet)
		memx_log_set_level((enum memx_log_level)(MEMX_LOG_ERR + r->conf->log_level));
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void reload(struct relay *r)
{
	char err[MEMX_CONF_ERR];
	struct relay_conf *conf = relay_conf_load(r->conf_path, err);

	if (!conf) {
		memx_err("reload-refused", "reason=%s effect=\"the configuration stays as it was\"",
			 memx_quote((char [600]) { 0 }, 600, err));
		return;
	}
	sd_notify(0, "RELOADING=1");
	if (!same(conf->control, r->conf->control) || !same(conf->shm, r->conf->shm) || !same(conf->id_file, r->conf->id_file) ||
	    conf->xenstore != r->conf->xenstore)
		memx_warn("reload-partial", "reason=\"control, shm, id_file and xenstore need a restart\"");
	if (conf->staging != r->conf->staging)
		memx_notice("reload-later", "reason=\"staging is that of guests which connect from now on\"");
	relay_conf_put(r->conf);
	r->conf = conf;
	set_level(r);
	worker_reconfigure(r->worker, conf);
	if (r->xen)
		xen_edge_reconfigure(r->xen, conf);
	sd_notify(0, "READY=1");
	memx_notice("reloaded", "donors=%u guests=%u", conf->donor_count, conf->guest_count);
}

/* Looks whether all that was under way is answered. The core ends this by itself after a few seconds. */
static void drain_due(struct memx_timer *timer, u64 now)
{
	struct relay *r = (struct relay *)((char *)timer - offsetof(struct relay, drained));

	if (core_idle(r->worker->core)) {
		memx_loop_stop(r->loop);
		return;
	}
	worker_turn(r->worker);
	memx_timer_set(r->loop, timer, now + 5000000, drain_due);
}

static void on_signal(void *arg, int sig)
{
	struct relay *r = arg;

	if (sig == SIGHUP) {
		if (!r->worker->draining)
			reload(r);
		return;
	}
	if (r->worker->draining) {
		memx_notice("stopping", "signal=%d reason=\"asked a second time\"", sig);
		memx_loop_stop(r->loop);
		return;
	}
	memx_notice("draining", "signal=%d", sig);
	sd_notify(0, "STOPPING=1\nSTATUS=finishing what is under way");
	r->worker->draining = true;
	if (r->xen)
		xen_edge_drain(r->xen);
	core_drain(r->worker->core, memx_now());
	drain_due(&r->drained, memx_now());
}

/* ---- start and end ---- */

/*
 * The relay must not wait for its own pages while a guest waits for the relay.
 *
 * All memory or none: below a limit the kernel locks what is there today, and refuses the allocation that would exceed the limit
 * later on, in the middle of the service. With a limit of nothing it locks only for those who may exceed any (CAP_IPC_LOCK).
 */
static void lock_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	struct rlimit limit = { 0 }, nothing;
	bool limited, locked;

	limited = !getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur != RLIM_INFINITY;
	nothing = limit;
	nothing.rlim_cur = 0;
	locked = !(limited && setrlimit(RLIMIT_MEMLOCK, &nothing) < 0) && !mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
	if (!locked)
		memx_warn("memory-not-locked", "reason=%s hint=\"it can be swapped out, and guests wait meanwhile; raise LimitMEMLOCK (ulimit -l)\"",
			  memx_quoted(strerror(errno)));
	if (limited)
		setrlimit(RLIMIT_MEMLOCK, &limit);
#endif
}

static int start_loop(struct relay *r)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	r->loop = memx_loop_new();
	if (!r->loop)
		return -errno;
	return memx_loop_signals(r->loop, &set, on_signal, r);
}

/* 0, or 1 with the reason logged. */
static int start(struct relay *r)
{
	char why[160];
	int ret;

	memx_make_folder(r->conf->id_file, 1);
	memx_make_folder(r->conf->control, 1);
	ret = memx_id_file(r->conf->id_file, r->id);
	if (ret) {
		memx_err("start-failed", "what=id_file path=%s reason=%s", memx_quoted(r->conf->id_file), memx_quoted(strerror(-ret)));
		return 1;
	}
	ret = start_loop(r);
	if (ret) {
		memx_err("start-failed", "what=loop reason=%s", memx_quoted(strerror(-ret)));
		return 1;
	}
	lock_memory();
	r->worker = worker_new(r->loop, r->conf, r->id, memx_random_u64());
	if (!r->worker) {
		memx_err("start-failed", "what=core reason=%s", memx_quoted(strerror(errno)));
		return 1;
	}
	r->control = (struct control_ctx){ r->worker, r->id, memx_now(), MEMX_VERSION };
	r->ctl = memx_ctl_new(r->loop, r->conf->control, control_cmds, &r->control);
	if (!r->ctl) {
		memx_err("start-failed", "what=control path=%s reason=%s", memx_quoted(r->conf->control),
			 memx_quoted(errno == EADDRINUSE ? "another relay listens there" : strerror(errno)));
		return 1;
	}
	if (r->conf->shm) {
		r->shm = shm_edge_new(r->worker, r->conf->shm);
		if (!r->shm) {
			memx_err("start-failed", "what=shm path=%s reason=%s", memx_quoted(r->conf->shm), memx_quoted(strerror(errno)));
			return 1;
		}
	}
	if (r->conf->xenstore) {
		r->xen = xen_edge_new(r->worker, r->conf, why);
		if (!r->xen) {
			memx_err("start-failed", "what=xenstore reason=%s", memx_quote((char [256]) { 0 }, 256, why));
			return 1;
		}
	}
	return 0;
}

static void stop(struct relay *r)
{
	if (r->worker) {
		r->worker->draining = true;
		links_free(r->worker, "the relay stops");
	}
	xen_edge_free(r->xen);
	shm_edge_free(r->shm);
	memx_ctl_free(r->ctl);
	worker_free(r->worker);
	memx_loop_free(r->loop);
	relay_conf_put(r->conf);
}

/* 0: go on; else exit with @r->exit. */
static int options(struct relay *r, int argc, char **argv, bool *check)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 'k' },
		{ "debug", no_argument, NULL, 'd' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ .name = NULL },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:h", longs, NULL)) >= 0) {
		switch (opt) {
		case 'c':
			r->conf_path = optarg;
			break;
		case 'k':
			*check = true;
			break;
		case 'd':
			r->quiet = true;
			break;
		case 'V':
			puts("memx-dom0-relay " MEMX_VERSION);
			return 1;
		case 'h':
			usage(stdout);
			return 1;
		default:
			r->exit = EXIT_CONFIG;
			return 1;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "memx-dom0-relay: %s: no such argument; see --help\n", argv[optind]);
		r->exit = EXIT_CONFIG;
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct relay r = { .conf_path = "/etc/memx/relay.conf" };
	char err[MEMX_CONF_ERR];
	bool check = false;
	int ret;

	if (options(&r, argc, argv, &check))
		return r.exit;
	memx_log_init("memx-dom0-relay", r.quiet ? MEMX_LOG_DEBUG : MEMX_LOG_INFO);
	r.conf = relay_conf_load(r.conf_path, err);
	if (!r.conf) {
		fprintf(stderr, "%s\n", err);
		return EXIT_CONFIG;
	}
	if (check) {
		printf("%s: good: %u donors, %u guests\n", r.conf_path, r.conf->donor_count, r.conf->guest_count);
		relay_conf_put(r.conf);
		return 0;
	}
	set_level(&r);
	if (start(&r)) {
		stop(&r);
		return 1;
	}
	memx_notice("started", "version=%s donors=%u guests=%u xenstore=%s", MEMX_VERSION, r.conf->donor_count, r.conf->guest_count,
		    r.xen ? "yes" : "no");
	tell_ready(&r);
	ret = memx_loop_run(r.loop);
	if (ret)
		memx_err("loop-failed", "reason=%s", memx_quoted(strerror(-ret)));
	stop(&r);
	memx_notice("stopped", "status=%d", ret ? 1 : 0);
	return ret ? 1 : 0;
}
