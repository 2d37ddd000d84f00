// SPDX-License-Identifier: GPL-2.0-only
/*
 * home.c - where the donor's id and its control socket are, when nobody said.
 *
 * In the places of a system's daemon, whose folders are made where they are missing; where those may not be written, in the
 * places of the user who started it: also where the system's id can be read, which is the system's donor's and nobody else's.
 * A donor that can keep its id nowhere serves nevertheless: after its next start nobody wants from it what it held before, for
 * that is gone with its memory. Runs once, at the start.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "server.h"
#include "user/ctl.h"
#include "user/log.h"
#include "user/text.h"

#define SYSTEM_FOLDER "/var/lib/memx-server"

enum {
	OWN_LEVELS = 3,		/* of folders to make in a home: .local, state, ours */
};

static bool another_place_helps(int err)
{
	return err == ENOENT || err == EACCES || err == EPERM || err == EROFS;
}

/* @file in the folder for it of the user: $@variable, or @below in the home (NULL: nowhere). NULL: there is none. */
static char *own_path(const char *variable, const char *below, const char *file)
{
	const char *base = getenv(variable), *home = getenv("HOME");
	char *path = NULL;
	int len = -1;

	if (base && *base == '/')
		len = asprintf(&path, "%s/memx-server/%s", base, file);
	else if (below && home && *home == '/')
		len = asprintf(&path, "%s/%s/memx-server/%s", home, below, file);
	return len < 0 ? NULL : path;
}

static int id_at(struct server *server, unsigned int levels)
{
	memx_make_folder(server->settings.id_file, levels);
	return memx_id_file(server->settings.id_file, server->id);
}

static int id_of_system(struct server *server)
{
	memx_make_folder(server->settings.id_file, 1);
	if (geteuid() && access(SYSTEM_FOLDER, W_OK) < 0)
		return -errno;
	return memx_id_file(server->settings.id_file, server->id);
}

int home_id(struct server *server)
{
	char **at = &server->settings.id_file, *own;
	int ret;

	if (*at)
		return id_at(server, 1);
	*at = strdup(SYSTEM_FOLDER "/server.id");
	if (!*at)
		return -ENOMEM;
	ret = id_of_system(server);
	if (!another_place_helps(-ret))
		return ret;
	own = own_path("XDG_STATE_HOME", ".local/state", "server.id");
	if (own) {
		memx_info("id-file", "file=%s reason=\"%s: %s\"", memx_quoted(own), *at, strerror(-ret));
		free(*at);
		*at = own;
		ret = id_at(server, OWN_LEVELS);
		if (!another_place_helps(-ret))
			return ret;
	}
	memx_warn("id-not-kept", "file=%s reason=\"%s\" hint=\"the next start has another id; name a file with --id-file\"",
		  memx_quoted(*at), strerror(-ret));
	memx_random(server->id, sizeof(server->id));
	return 0;
}

static struct memx_ctl *ctl_at(struct server *server, const struct memx_ctl_cmd *commands)
{
	memx_make_folder(server->settings.control, 1);
	return memx_ctl_new(server->loop, server->settings.control, commands, server);
}

struct memx_ctl *home_ctl(struct server *server, const struct memx_ctl_cmd *commands)
{
	char **at = &server->settings.control, *own;
	struct memx_ctl *ctl;
	int err;

	if (*at)
		return ctl_at(server, commands);
	*at = strdup("/run/memx-server/server.sock");
	if (!*at)
		return NULL;
	ctl = ctl_at(server, commands);
	err = errno;
	own = ctl || !another_place_helps(err) ? NULL : own_path("XDG_RUNTIME_DIR", NULL, "server.sock");
	if (!own) {
		errno = err;
		return ctl;
	}
	memx_info("control", "socket=%s reason=\"%s: %s\"", memx_quoted(own), *at, strerror(err));
	free(*at);
	*at = own;
	return ctl_at(server, commands);
}
