/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wait.h - memxctl --wait: until nothing is left to do, or nothing goes on.
 */
#ifndef MEMXCTL_WAIT_H
#define MEMXCTL_WAIT_H

#include <jansson.h>

enum {
	EXIT_REFUSED = 1,		/* the daemon said no */
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3,		/* nobody there, no permission, no answer */
	EXIT_STUCK = 4,			/* what is waited for does not go on */
};

/* Asks; *reply is the whole answer if it is a good one. Exit status, what went wrong is printed. Takes @request. */
int ask(const char *path, json_t *request, json_t **reply);

/*
 * Waits for the end of "repair", "limit", or of "drain" of @donor, at the daemon behind @path. Exit status. *last: the donor, or
 * the answer, as seen last, for the caller to release; NULL: the donor is no longer in the configuration.
 */
int wait_finished(const char *path, const char *command, const char *donor, json_t **last);

#endif /* MEMXCTL_WAIT_H */
