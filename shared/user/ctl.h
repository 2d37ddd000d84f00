/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ctl.h - the control socket: a unix stream socket, one JSON object per line each way.
 *
 *	{"cmd":"status"}                 {"ok":true,"data":{...}}
 *	{"cmd":"nonsense"}               {"ok":false,"error":"unknown command \"nonsense\"; known: status, guests"}
 *
 * The server runs in its owner's loop and never blocks: a client that does not take its answer is cut off. Who may use it is
 * decided by the file's mode (0660) and folder.
 */
#ifndef MEMX_USER_CTL_H
#define MEMX_USER_CTL_H

#include <jansson.h>

#include "user/loop.h"

enum { MEMX_CTL_ERR = 256 };

struct memx_ctl_cmd {
	const char *name;		/* NULL at the end */
	/* Returns the data (a new reference), or NULL with a sentence in @err. */
	json_t *(*run)(void *ctx, json_t *request, char err[MEMX_CTL_ERR]);
};

struct memx_ctl;

/*
 * Listens at @path. A socket that a dead process left there is replaced; one that somebody answers on is -EADDRINUSE.
 * @cmds must live as long as the server. NULL: errno.
 */
struct memx_ctl *memx_ctl_new(struct memx_loop *loop, const char *path, const struct memx_ctl_cmd *cmds, void *ctx);
void memx_ctl_free(struct memx_ctl *ctl);	/* closes all clients, removes the socket */

/*
 * The other side, blocking. Sends @request, whose reference it takes, and returns the whole reply (new reference), or NULL with
 * a sentence for a person in @err and errno: ENOENT and ECONNREFUSED (nobody there), EACCES, ETIMEDOUT, EPROTO.
 */
json_t *memx_ctl_call(const char *path, json_t *request, int timeout_ms, char err[MEMX_CTL_ERR]);

#endif /* MEMX_USER_CTL_H */
