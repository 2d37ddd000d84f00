// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-log.c - a reader of the log that stops reading holds nobody up, and learns how much it missed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "user/log.h"

enum { LINES = 20000 };		/* more than a pipe or a socket takes */

static int old_stderr;

/* Standard error goes to @to from now on; what it was comes back with restore(). */
static void divert(int to)
{
	old_stderr = dup(STDERR_FILENO);
	assert_true(old_stderr >= 0);
	assert_int_equal(dup2(to, STDERR_FILENO), STDERR_FILENO);
	close(to);
}

static void restore(void)
{
	assert_int_equal(dup2(old_stderr, STDERR_FILENO), STDERR_FILENO);
	close(old_stderr);
}

/* What is there now, without waiting. */
static char *read_all(int fd)
{
	size_t size = 8 << 20, len = 0;
	char *text = malloc(size);
	ssize_t got;

	assert_non_null(text);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while ((got = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)got;
	text[len] = '\0';
	return text;
}

static unsigned int count(const char *text, const char *word)
{
	unsigned int n = 0;

	for (; (text = strstr(text, word)); text += strlen(word))
		n++;
	return n;
}

static void reader_stops(int reader, int writer)
{
	unsigned int i, there, lost;
	const char *said;
	char *text;

	divert(writer);
	for (i = 0; i < LINES; i++)
		memx_log(MEMX_LOG_INFO, "line", "number=%u", i);
	text = read_all(reader);
	memx_log(MEMX_LOG_INFO, "again", "number=%u", i);
	memx_log(MEMX_LOG_INFO, "again", "number=%u", i + 1);
	restore();

	there = count(text, " line number=");
	assert_in_range(there, 100, LINES - 1);
	assert_int_equal(count(text, "\n"), there);
	assert_int_equal(count(text, "log-lost"), 0);
	free(text);
	text = read_all(reader);
	said = strstr(text, "log-lost lines=");
	assert_non_null(said);
	lost = (unsigned int)strtoul(said + strlen("log-lost lines="), NULL, 10);
	assert_int_equal(there + lost, LINES);
	assert_true(said < strstr(text, " again number="));
	assert_int_equal(count(text, " again number="), 2);
	assert_int_equal(count(text, "log-lost"), 1);
	free(text);
	close(reader);
}

static void a_pipe_that_nobody_reads(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	reader_stops(fd[0], fd[1]);
}

static void a_journal_that_hangs(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	reader_stops(fd[0], fd[1]);
}

/* Who reads the log may be gone for good: no signal, no error. */
static void a_reader_that_left(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	close(fd[0]);
	divert(fd[1]);
	memx_log(MEMX_LOG_ERR, "last", "words=yes");
	restore();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pipe_that_nobody_reads),
		cmocka_unit_test(a_journal_that_hangs),
		cmocka_unit_test(a_reader_that_left),
	};

	memx_log_init("test-log", MEMX_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
