// SPDX-License-Identifier: GPL-2.0-only
/*
 * pressure.c - what bounds the memory that is given: the limit of settings and command, and the host's own need.
 *
 * Two signs of need are watched. Stalls: the kernel's pressure stall information, by a trigger on its file; where the kernel
 * does not let us set one (before 6.5 it wants CAP_SYS_RESOURCE), by reading the file once a second. A service manager may
 * name another file in $MEMORY_PRESSURE_WATCH, a FIFO included, of which anything to read is a sign. And MemAvailable,
 * once a second. What is to be done about them is decided in core/pressure.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server.h"
#include "user/log.h"

#define SECOND 1000000000ULL

enum { WINDOW_US = 2000000 };		/* the only kind of window that everybody may set: a multiple of two seconds */

static const char psi_default[] = "/proc/pressure/memory";

/* MemAvailable in pages; SRV_NO_BOUND where it cannot be read. */
static u64 mem_available(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib;
	u64 pages = SRV_NO_BOUND;
	char line[128];

	if (!file)
		return pages;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			pages = kib / 4;
	}
	fclose(file);
	return pages;
}

/* Microseconds that some task has waited for memory since the host started. */
static int stalled_us(int fd, u64 *us)
{
	char text[256];
	unsigned long long total;
	const char *at;
	ssize_t got = pread(fd, text, sizeof(text) - 1, 0);

	if (got <= 0)
		return got ? -errno : -ENODATA;
	text[got] = '\0';
	at = strstr(text, "total=");
	if (!at || sscanf(at, "total=%llu", &total) != 1)
		return -EPROTO;
	*us = total;
	return 0;
}

/* ---- the limit in force ----------------------------------------------------------------------------------------------- */

static void apply(struct server *server)
{
	u64 pages = (u64)srv_chunks_of(server->limit) * SRV_CHUNK_PAGES;

	srv_set_limit(server->core, server->pressure.allowed < pages ? server->pressure.allowed : pages);
	reclaim_look(server);
}

static void look(struct server *server, bool stalled)
{
	struct srv_pressure_view view = { .now_ns = memx_loop_now(server->loop), .stalled = stalled };
	u64 before = server->pressure.allowed, now;
	struct srv_totals t;

	srv_totals(server->core, &t);
	view.limit = (u64)srv_chunks_of(server->limit) * SRV_CHUNK_PAGES;
	view.used = t.pages_used;
	view.floor = server->settings.min_available >> MEMX_PAGE_SHIFT;
	view.available = view.floor ? mem_available() : SRV_NO_BOUND;
	now = srv_pressure_step(&server->pressure, &view);
	if (now == before)
		return;
	if (now < before) {
		server->pressed++;
		memx_log_limited(MEMX_LOG_WARNING, "pressure", "cause=%s allowed_mib=%llu used_mib=%llu limit_mib=%llu",
				 view.available < view.floor ? "memory" : "stalls", (unsigned long long)(now >> 8),
				 (unsigned long long)(t.pages_used >> 8), (unsigned long long)(server->limit >> 20));
	} else if (now == SRV_NO_BOUND) {
		memx_notice("pressure-over", "limit_mib=%llu", (unsigned long long)(server->limit >> 20));
	}
	apply(server);
}

int server_set_limit(struct server *server, u64 bytes)
{
	int ret = srv_memfd_cover(server->store, srv_chunks_of(bytes));

	if (ret)
		return ret;
	server->limit = bytes;
	apply(server);
	return 0;
}

/* ---- signs ------------------------------------------------------------------------------------------------------------ */

static u64 threshold_us(const struct server *server)
{
	return server->settings.pressure / 1000 * (WINDOW_US / 1000000);
}

static void every_second(struct memx_timer *timer, uint64_t now)
{
	struct server *server = (struct server *)((u8 *)timer - offsetof(struct server, pressure_timer));
	bool stalled = false;
	u64 total = 0;

	if (server->psi_read >= 0 && !stalled_us(server->psi_read, &total)) {
		stalled = total - server->psi_total >= threshold_us(server) * 1000000 / WINDOW_US;
		server->psi_total = total;
	}
	if (memx_loop_lag(server->loop) > SECOND)
		stalled = false;		/* the second was none */
	look(server, stalled);
	memx_timer_set(server->loop, timer, now + SECOND, every_second);
}

static void psi_event(struct memx_watch *watch, uint32_t events)
{
	struct server *server = (struct server *)((u8 *)watch - offsetof(struct server, psi));

	if (events & EPOLLERR) {
		int fd = watch->fd;

		memx_warn("pressure-lost", "hint=\"the host's pressure file went away; only min_available is watched\"");
		memx_watch_del(watch);
		close(fd);
		return;
	}
	look(server, true);
}

static void fifo_event(struct memx_watch *watch, uint32_t events)
{
	struct server *server = (struct server *)((u8 *)watch - offsetof(struct server, psi));
	char waste[256];

	(void)events;
	while (read(watch->fd, waste, sizeof(waste)) > 0)
		;
	look(server, true);
}

/* How it is watched, or NULL with errno. */
static const char *watch_stalls(struct server *server, const char *path)
{
	char trigger[64];
	struct stat st;
	bool fifo = !stat(path, &st) && S_ISFIFO(st.st_mode);
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), ret;

	/* The length counts the final NUL, which the kernel wants. */
	ret = snprintf(trigger, sizeof(trigger), "some %llu %d", (unsigned long long)threshold_us(server), WINDOW_US) + 1;
	if (fd >= 0 && (fifo || write(fd, trigger, (size_t)ret) > 0) &&
	    !memx_watch_add(server->loop, &server->psi, fd, fifo ? EPOLLIN : EPOLLPRI, fifo ? fifo_event : psi_event))
		return fifo ? "fifo" : "trigger";
	ret = errno;
	if (fd >= 0)
		close(fd);
	server->psi_read = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (server->psi_read >= 0 && !stalled_us(server->psi_read, &server->psi_total))
		return "reading";
	errno = server->psi_read < 0 ? errno : ret;
	if (server->psi_read >= 0)
		close(server->psi_read);
	server->psi_read = -1;
	return NULL;
}

static void unwatch(struct server *server)
{
	int fd = server->psi.fd;

	memx_watch_del(&server->psi);
	if (fd >= 0)
		close(fd);
	if (server->psi_read >= 0)
		close(server->psi_read);
	server->psi_read = -1;
	memx_timer_cancel(&server->pressure_timer);
}

void pressure_start(struct server *server)
{
	const char *path = getenv("MEMORY_PRESSURE_WATCH"), *how;

	unwatch(server);
	server->pressure = (struct srv_pressure) { .allowed = SRV_NO_BOUND };
	if (!path || !*path)
		path = psi_default;
	if (server->settings.pressure && strcmp(path, "/dev/null")) {
		how = watch_stalls(server, path);
		if (how)
			memx_info("pressure-watched", "by=%s file=%s stall_us=%llu", how, path,
				  (unsigned long long)(server->settings.pressure / 1000));
		else
			memx_warn("pressure-unwatched", "file=%s reason=\"%s\" hint=\"stalls of the host are not seen; boot with psi=1, "
				  "or set pressure = 0 if it is to be so\"", path, strerror(errno));
	}
	apply(server);
	if (server->settings.pressure || server->settings.min_available)
		memx_timer_set(server->loop, &server->pressure_timer, memx_loop_now(server->loop) + SECOND, every_second);
}

void pressure_stop(struct server *server)
{
	unwatch(server);
}
