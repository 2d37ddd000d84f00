/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * log.h - one line per event, for a person and for a program.
 *
 * A line is the event's name, then key=value pairs: "donor-lost donor=d1 reason=\"connection reset\"". Values that may hold
 * blanks or come from a peer go through memx_quote(). Under systemd (JOURNAL_STREAM) a line starts with its <priority>,
 * otherwise with the time of day and the level. All functions may be called from any thread; a line is one write.
 *
 * Nobody waits for whoever reads the log: where it takes nothing for 100 ms, lines are dropped at once until it reads
 * again, and how many is the next line: "log-lost lines=N".
 */
#ifndef MEMX_USER_LOG_H
#define MEMX_USER_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum memx_log_level {			/* syslog's numbers */
	MEMX_LOG_ERR = 3,
	MEMX_LOG_WARNING = 4,
	MEMX_LOG_NOTICE = 5,
	MEMX_LOG_INFO = 6,
	MEMX_LOG_DEBUG = 7,
};

/* Call first, before there are threads. @name: the program's, not copied. Lines above @max are dropped. */
void memx_log_init(const char *name, enum memx_log_level max);
void memx_log_set_level(enum memx_log_level max);
/* "error", "warning", "notice", "info" or "debug" to a level; -1 for anything else. */
int memx_log_level_parse(const char *text);

/* @event: a word; @fmt: the pairs, or "" */
void memx_log(enum memx_log_level level, const char *event, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void memx_vlog(enum memx_log_level level, const char *event, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

#define memx_err(event, ...)	memx_log(MEMX_LOG_ERR, event, __VA_ARGS__)
#define memx_warn(event, ...)	memx_log(MEMX_LOG_WARNING, event, __VA_ARGS__)
#define memx_notice(event, ...)	memx_log(MEMX_LOG_NOTICE, event, __VA_ARGS__)
#define memx_info(event, ...)	memx_log(MEMX_LOG_INFO, event, __VA_ARGS__)
#define memx_debug(event, ...)	memx_log(MEMX_LOG_DEBUG, event, __VA_ARGS__)

/*
 * Writes @text between double quotes into @buf, everything but printable ASCII as \xHH, cut off where it does not fit.
 * @text may be NULL. Returns @buf.
 */
const char *memx_quote(char *buf, size_t size, const char *text);
#define MEMX_QUOTE_MAX 160
#define memx_quoted(text) memx_quote((char [MEMX_QUOTE_MAX]) { 0 }, MEMX_QUOTE_MAX, text)

/*
 * A limit for lines that a peer can provoke: @burst lines, then one in each @interval_ms, the number of those that were
 * dropped with it. Where it is used decides whether it is per call site or per peer. Zero-initialise the state.
 */
struct memx_log_limit {
	uint64_t next_ns;
	uint32_t tokens_used;
	uint32_t dropped;
};

/* May this line be written? @dropped is set to the number of lines that were not, since the last one that was. */
bool memx_log_allowed(struct memx_log_limit *limit, uint32_t burst, uint32_t interval_ms, uint32_t *dropped);

/* Ten lines, then one a second, per call site. Not exact when several threads share a site, and need not be. */
#define memx_log_limited(level, event, fmt, ...) do {							\
	static struct memx_log_limit memx_limit_;							\
	uint32_t memx_dropped_;										\
													\
	if (!memx_log_allowed(&memx_limit_, 10, 1000, &memx_dropped_))					\
		break;											\
	if (memx_dropped_)										\
		memx_log(level, event, fmt " suppressed=%u", ##__VA_ARGS__, memx_dropped_);		\
	else												\
		memx_log(level, event, fmt, ##__VA_ARGS__);						\
} while (0)

#endif /* MEMX_USER_LOG_H */
