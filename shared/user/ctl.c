// SPDX-License-Identifier: GPL-2.0-only
/*
 * ctl.c - the control socket. Owner: the thread of the loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "user/ctl.h"
#include "user/log.h"
#include "user/net.h"

enum {
	MAX_CLIENTS = 32,
	MAX_REQUEST = 65536,
	MAX_REPLY = 64 << 20,
};

static const uint64_t take_within_ns = 5000000000;	/* a client has this long to take its answer */

struct client {
	struct memx_watch watch;
	struct memx_timer timer;
	struct memx_ctl *ctl;
	struct client *next;
	char *in;
	size_t in_len;
	char *out;
	size_t out_len, out_at;
};

struct memx_ctl {
	struct memx_loop *loop;
	struct memx_listener listener;
	const struct memx_ctl_cmd *cmds;
	void *ctx;
	char *path;
	struct client *clients;
	int count;
};

/* ---- server ---- */

static void client_free(struct client *c)
{
	struct memx_ctl *ctl = c->ctl;
	struct client **at = &ctl->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	ctl->count--;
	memx_timer_cancel(&c->timer);
	close(c->watch.fd);
	memx_watch_del(&c->watch);
	free(c->in);
	free(c->out);
	free(c);
}

static json_t *error_reply(const char *text)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", text);
}

static json_t *run_request(struct memx_ctl *ctl, const char *line, size_t len)
{
	char err[MEMX_CTL_ERR] = "";
	const struct memx_ctl_cmd *cmd;
	json_error_t where;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where), *data, *reply;
	const char *name = json_string_value(json_object_get(request, "cmd"));

	if (!name) {
		json_decref(request);
		return error_reply("not understood; accepted: one line {\"cmd\":\"...\"}");
	}
	for (cmd = ctl->cmds; cmd->name && strcmp(cmd->name, name); cmd++)
		;
	if (!cmd->name) {
		int at = snprintf(err, sizeof(err), "unknown command \"%.40s\"; known:", name);

		for (cmd = ctl->cmds; cmd->name && at < (int)sizeof(err); cmd++)
			at += snprintf(err + at, sizeof(err) - (size_t)at, "%s %s", cmd == ctl->cmds ? "" : ",", cmd->name);
		json_decref(request);
		return error_reply(err);
	}
	data = cmd->run(ctl->ctx, request, err);
	if (data)
		reply = json_pack("{s:b, s:o}", "ok", 1, "data", data);
	else
		reply = error_reply(*err ? err : "failed");
	json_decref(request);
	return reply;
}

/* False: the client is gone. */
static bool client_write(struct client *c)
{
	while (c->out_at < c->out_len) {
		ssize_t sent = send(c->watch.fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN) {
			memx_watch_events(&c->watch, EPOLLOUT);
			return true;
		}
		if (sent < 0) {
			client_free(c);
			return false;
		}
		c->out_at += (size_t)sent;
	}
	free(c->out);
	c->out = NULL;
	memx_timer_cancel(&c->timer);
	memx_watch_events(&c->watch, EPOLLIN);
	return true;
}

static void client_late(struct memx_timer *timer, uint64_t now)
{
	struct client *c = (struct client *)((char *)timer - offsetof(struct client, timer));

	(void)now;
	memx_warn("control-client-slow", "left=%zu", c->out_len - c->out_at);
	client_free(c);
}

static bool client_answer(struct client *c, json_t *reply)
{
	char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;

	json_decref(reply);
	if (text) {
		c->out_len = strlen(text);
		c->out = realloc(text, c->out_len + 1);
		if (!c->out)
			free(text);
	}
	if (!c->out || memx_timer_set(c->ctl->loop, &c->timer, memx_loop_now(c->ctl->loop) + take_within_ns, client_late)) {
		client_free(c);
		return false;
	}
	c->out[c->out_len++] = '\n';
	c->out_at = 0;
	return client_write(c);
}

/* One request at a time: the next line waits until this answer is taken. */
static void client_lines(struct client *c)
{
	while (!c->out) {
		char *end = memchr(c->in, '\n', c->in_len);
		size_t len;

		if (!end) {
			if (c->in_len == MAX_REQUEST)
				client_free(c);
			return;
		}
		len = (size_t)(end - c->in);
		if (!client_answer(c, run_request(c->ctl, c->in, len)))
			return;
		c->in_len -= len + 1;
		memmove(c->in, end + 1, c->in_len);
	}
}

static void client_read(struct client *c)
{
	ssize_t got = recv(c->watch.fd, c->in + c->in_len, MAX_REQUEST - c->in_len, MSG_DONTWAIT);

	if (got <= 0) {
		if (!got || (errno != EAGAIN && errno != EINTR))
			client_free(c);
		return;
	}
	c->in_len += (size_t)got;
	client_lines(c);
}

static void client_ready(struct memx_watch *watch, uint32_t events)
{
	struct client *c = (struct client *)((char *)watch - offsetof(struct client, watch));

	if (c->out) {
		if (events & (EPOLLERR | EPOLLHUP))
			client_free(c);
		else if (events & EPOLLOUT && client_write(c))
			client_lines(c);
	} else if (events) {
		client_read(c);
	}
}

static void ctl_accept(struct memx_watch *watch, uint32_t events)
{
	struct memx_ctl *ctl = (struct memx_ctl *)((char *)watch - offsetof(struct memx_ctl, listener.watch));
	int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), err = errno;
	struct client *c;

	(void)events;
	if (fd < 0) {
		if (memx_listener_failed(&ctl->listener, -err))
			memx_log_limited(MEMX_LOG_WARNING, "control-refused", "reason=%s", memx_quoted(strerror(err)));
		return;
	}
	c = ctl->count < MAX_CLIENTS ? calloc(1, sizeof(*c)) : NULL;
	if (c)
		c->in = malloc(MAX_REQUEST);
	if (!c || !c->in || memx_watch_add(ctl->loop, &c->watch, fd, EPOLLIN, client_ready)) {
		memx_log_limited(MEMX_LOG_WARNING, "control-refused", "clients=%d", ctl->count);
		if (c)
			free(c->in);
		free(c);
		close(fd);
		return;
	}
	c->ctl = ctl;
	c->next = ctl->clients;
	ctl->clients = c;
	ctl->count++;
}

/* A path may be taken over if it is a socket on which nobody answers. */
static int take_path(const struct sockaddr_un *un)
{
	struct stat st;
	int fd, ret;

	if (lstat(un->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	ret = connect(fd, (const struct sockaddr *)un, sizeof(*un));
	if (!ret || errno != ECONNREFUSED)
		ret = -EADDRINUSE;
	else
		ret = unlink(un->sun_path) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

struct memx_ctl *memx_ctl_new(struct memx_loop *loop, const char *path, const struct memx_ctl_cmd *cmds, void *ctx)
{
	struct memx_ctl *ctl = calloc(1, sizeof(*ctl));
	struct sockaddr_un un;
	mode_t mask;
	int fd = -1, ret;

	if (!ctl)
		return NULL;
	ctl->loop = loop;
	ctl->cmds = cmds;
	ctl->ctx = ctx;
	ctl->path = strdup(path);
	ret = ctl->path ? memx_unix_address(&un, path) : -ENOMEM;
	if (!ret)
		ret = take_path(&un);
	if (ret)
		goto out_free;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mask = umask(0117);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, 16) < 0)
		ret = -errno;
	umask(mask);
	if (!ret)
		ret = memx_listener_open(loop, &ctl->listener, fd, ctl_accept);
	if (!ret)
		return ctl;
out_free:
	if (fd >= 0)
		close(fd);
	free(ctl->path);
	free(ctl);
	errno = -ret;
	return NULL;
}

void memx_ctl_free(struct memx_ctl *ctl)
{
	struct client *c, *next;

	if (!ctl)
		return;
	for (c = ctl->clients; c; c = next) {
		next = c->next;
		client_free(c);
	}
	memx_listener_close(&ctl->listener);
	unlink(ctl->path);
	free(ctl->path);
	free(ctl);
}

/* ---- client ---- */

static int wait_fd(int fd, short events, uint64_t until)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		uint64_t now = memx_now();
		int ret;

		if (now >= until)
			return -ETIMEDOUT;
		ret = poll(&p, 1, (int)((until - now) / 1000000) + 1);
		if (ret > 0)
			return 0;
		if (ret < 0 && errno != EINTR)
			return -errno;
	}
}

static int send_line(int fd, const char *text, uint64_t until)
{
	size_t len = strlen(text), at = 0;

	while (at < len) {
		ssize_t sent = send(fd, text + at, len - at, MSG_NOSIGNAL);
		int ret;

		if (sent >= 0) {
			at += (size_t)sent;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		ret = wait_fd(fd, POLLOUT, until);
		if (ret)
			return ret;
	}
	return 0;
}

/* Reads up to the end of the line into memory that the caller frees. */
static int recv_line(int fd, char **line, size_t *len, uint64_t until)
{
	size_t size = 0;

	*line = NULL;
	*len = 0;
	for (;;) {
		ssize_t got;

		if (size - *len < 4096) {
			char *more = size < MAX_REPLY ? realloc(*line, size + 65536) : NULL;

			if (!more)
				return size < MAX_REPLY ? -ENOMEM : -EPROTO;
			*line = more;
			size += 65536;
		}
		got = recv(fd, *line + *len, size - *len, 0);
		if (got > 0) {
			*len += (size_t)got;
			if ((*line)[*len - 1] == '\n')
				return 0;
		} else if (!got) {
			return -EPROTO;
		} else if (errno == EAGAIN || errno == EINTR) {
			int ret = wait_fd(fd, POLLIN, until);

			if (ret)
				return ret;
		} else {
			return -errno;
		}
	}
}

static void explain(int ret, const char *path, char err[MEMX_CTL_ERR])
{
	switch (ret) {
	case -ENOENT:
	case -ECONNREFUSED:
		snprintf(err, MEMX_CTL_ERR, "nobody listens at %s: is the daemon running?", path);
		break;
	case -EACCES:
	case -EPERM:
		snprintf(err, MEMX_CTL_ERR, "no permission to use %s: be root or a member of its group", path);
		break;
	case -ETIMEDOUT:
		snprintf(err, MEMX_CTL_ERR, "no answer on %s in time: is the daemon stopped or overloaded?", path);
		break;
	case -EPROTO:
		snprintf(err, MEMX_CTL_ERR, "what answers on %s does not speak this protocol", path);
		break;
	default:
		snprintf(err, MEMX_CTL_ERR, "%s: %s", path, strerror(-ret));
	}
}

json_t *memx_ctl_call(const char *path, json_t *request, int timeout_ms, char err[MEMX_CTL_ERR])
{
	uint64_t until = memx_now() + (uint64_t)timeout_ms * 1000000;
	char *text = NULL, *line = NULL;
	struct sockaddr_un un;
	json_t *reply = NULL;
	size_t len = 0;
	int fd = -1, ret = memx_unix_address(&un, path);

	if (!ret) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0 || connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
			ret = -errno;
	}
	if (!ret) {
		text = json_dumps(request, JSON_COMPACT);
		ret = text ? send_line(fd, text, until) : -EINVAL;
	}
	if (!ret)
		ret = send_line(fd, "\n", until);
	if (!ret)
		ret = recv_line(fd, &line, &len, until);
	if (!ret) {
		reply = json_loadb(line, len, 0, NULL);
		if (!json_is_object(reply) || !json_is_boolean(json_object_get(reply, "ok"))) {
			json_decref(reply);
			reply = NULL;
			ret = -EPROTO;
		}
	}
	json_decref(request);
	free(text);
	free(line);
	if (fd >= 0)
		close(fd);
	if (!reply) {
		explain(ret, path, err);
		errno = -ret;
	}
	return reply;
}
