// SPDX-License-Identifier: GPL-2.0-only
/*
 * log.c - one line per event on standard error.
 *
 * State: the level and the form of the line, set at start; the level may change later and is read without a lock. @lost and
 * @stuck are touched by whichever thread writes, atomically: a count that is said twice in halves does no harm.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "user/log.h"
#include "user/text.h"

static struct {
	const char *name;
	int max;
	bool journal;
	bool stuck;		/* the last line did not go: nobody waits for the reader until one does */
	unsigned int lost;	/* lines since the last one that went */
} state = { .name = "memx", .max = MEMX_LOG_INFO };

enum { PATIENCE_MS = 100 };		/* with a reader that stops reading; well below any deadline of a peer */

static const char *const level_names[] = {
	[MEMX_LOG_ERR] = "error", [MEMX_LOG_WARNING] = "warning", [MEMX_LOG_NOTICE] = "notice",
	[MEMX_LOG_INFO] = "info", [MEMX_LOG_DEBUG] = "debug",
};

void memx_log_init(const char *name, enum memx_log_level max)
{
	state.name = name;
	state.journal = getenv("JOURNAL_STREAM") != NULL;
	memx_log_set_level(max);
}

void memx_log_set_level(enum memx_log_level max)
{
	__atomic_store_n(&state.max, (int)max, __ATOMIC_RELAXED);
}

int memx_log_level_parse(const char *text)
{
	for (int i = MEMX_LOG_ERR; i <= MEMX_LOG_DEBUG; i++)
		if (!strcmp(text, level_names[i]))
			return i;
	return -1;
}

static int put_prefix(char *line, size_t size, enum memx_log_level level)
{
	struct timespec now;
	struct tm tm;
	int len;

	if (state.journal)
		return snprintf(line, size, "<%d>", (int)level);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	len = (int)strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return len + snprintf(line + len, size - (size_t)len, ".%03ldZ %s %s: ", now.tv_nsec / 1000000, state.name,
			      level_names[level]);
}

/* Without waiting for longer than @patience_ms: a reader that hangs must not take everybody's memory with it. */
static bool put_line(const char *line, size_t len, int patience_ms)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t done;

	/* A socket (the journal) says at once that it is full; a pipe would wait, but takes a line whole where it is ready. */
	done = send(fd.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (done >= 0)
		return true;
	if (errno != EAGAIN && errno != ENOTSOCK)
		return false;
	if (poll(&fd, 1, patience_ms) < 1 || !(fd.revents & POLLOUT))
		return false;
	done = send(fd.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (done < 0 && errno == ENOTSOCK)
		done = write(fd.fd, line, len);
	return done >= 0;
}

static bool put_lost(unsigned int lost)
{
	char line[256];
	int len = put_prefix(line, sizeof(line), MEMX_LOG_WARNING);

	len += snprintf(line + len, sizeof(line) - (size_t)len,
			"log-lost lines=%u reason=\"whoever reads this log did not take them\"\n", lost);
	return put_line(line, (size_t)len, 0);
}

static void put(const char *line, size_t len)
{
	bool stuck = __atomic_load_n(&state.stuck, __ATOMIC_RELAXED);
	unsigned int lost = __atomic_exchange_n(&state.lost, 0, __ATOMIC_RELAXED);

	if (lost && put_lost(lost))
		lost = 0;
	if (!lost && put_line(line, len, stuck ? 0 : PATIENCE_MS)) {
		__atomic_store_n(&state.stuck, false, __ATOMIC_RELAXED);
		return;
	}
	__atomic_store_n(&state.stuck, true, __ATOMIC_RELAXED);
	__atomic_add_fetch(&state.lost, lost + 1, __ATOMIC_RELAXED);
}

void memx_vlog(enum memx_log_level level, const char *event, const char *fmt, va_list ap)
{
	char line[2048];
	size_t len;
	int saved = errno;

	if ((int)level > __atomic_load_n(&state.max, __ATOMIC_RELAXED))
		return;
	len = (size_t)put_prefix(line, sizeof(line), level);
	len += (size_t)snprintf(line + len, sizeof(line) - len, "%s%s", event, *fmt ? " " : "");
	if (len < sizeof(line))
		len += (size_t)vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	/* One event is one line, whatever a value held. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
	line[len++] = '\n';
	put(line, len);
	errno = saved;
}

void memx_log(enum memx_log_level level, const char *event, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	memx_vlog(level, event, fmt, ap);
	va_end(ap);
}

const char *memx_quote(char *buf, size_t size, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	size_t at = 0;

	if (size < 8) {
		if (size)
			buf[0] = '\0';
		return buf;
	}
	buf[at++] = '"';
	for (; text && *text && at + 6 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			buf[at++] = '\\';
			buf[at++] = (char)c;
		} else if (c >= ' ' && c < 0x7f) {
			buf[at++] = (char)c;
		} else {
			buf[at++] = '\\';
			buf[at++] = 'x';
			buf[at++] = hex[c >> 4];
			buf[at++] = hex[c & 15];
		}
	}
	buf[at++] = '"';
	buf[at] = '\0';
	return buf;
}

bool memx_log_allowed(struct memx_log_limit *limit, uint32_t burst, uint32_t interval_ms, uint32_t *dropped)
{
	uint64_t now = memx_now();

	*dropped = 0;
	if (now >= limit->next_ns) {
		/* A quiet interval gives the whole burst back, a noisy one a single line. */
		uint64_t quiet = now - limit->next_ns;

		if (!limit->next_ns || quiet >= (uint64_t)interval_ms * 1000000 * 10)
			limit->tokens_used = 0;
		else if (limit->tokens_used >= burst)
			limit->tokens_used = burst - 1;
		limit->next_ns = now + (uint64_t)interval_ms * 1000000;
	}
	if (limit->tokens_used >= burst) {
		limit->dropped++;
		return false;
	}
	limit->tokens_used++;
	*dropped = limit->dropped;
	limit->dropped = 0;
	return true;
}
