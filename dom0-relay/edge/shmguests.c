// SPDX-License-Identifier: GPL-2.0-only
/*
 * shmguests.c - guests that are processes on this machine (user/shm.h). Owner: the data thread.
 *
 * The socket of a process stands for its domain. One offer of it is connected at a time; a newer one ends the link before.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge.h"
#include "user/shm.h"

enum {
	MAX_SHM_GUESTS = 256,
	FIRST_DOMID = 0x10000,		/* beyond Xen's: for logs and lists */
};

struct shm_guest {
	struct link_owner owner;
	struct memx_watch watch;
	struct shm_edge *edge;
	struct shm_guest *next;
	struct edge_link *link;
	u32 domid;
	bool known, suspended, closing;
	struct core_guest_conf conf;
};

struct shm_edge {
	struct worker *worker;
	struct memx_listener listener;
	struct shm_guest *guests;
	u32 count, next_domid;
	char *path;
};

static void guest_ended(struct link_owner *owner, struct memx_chan **chans, unsigned int lanes, const char *reason)
{
	struct shm_guest *g = (struct shm_guest *)owner;

	for (unsigned int i = 0; i < lanes; i++)
		chans[i]->ops->close(chans[i]);
	g->link = NULL;
	memx_log_limited(MEMX_LOG_INFO, "link-ended", "name=%s domid=%u reason=%s", memx_quoted(g->conf.name), g->domid,
			 memx_quoted(reason));
}

static void guest_end(struct shm_guest *g)
{
	struct shm_edge *edge = g->edge;
	struct shm_guest **at = &edge->guests;
	int fd = g->watch.fd;

	if (g->link)
		link_gone(g->link, g->suspended ? "the guest suspended" : "the guest is gone");
	if (g->known && !edge->worker->draining)
		core_guest_gone(edge->worker->core, g->conf.vm, g->domid, g->suspended, worker_now(edge->worker));
	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	edge->count--;
	memx_watch_del(&g->watch);
	close(fd);
	worker_turn(edge->worker);
	free(g);
}

static void refuse(struct shm_guest *g, const char *name, const char *reason)
{
	memx_log_limited(MEMX_LOG_WARNING, "guest-refused", "name=%s domid=%u reason=%s", memx_quoted(name), g->domid,
			 memx_quoted(reason));
	memx_shm_say(g->watch.fd, MEMX_SHM_REFUSED, reason);
}

static void guest_offer(struct shm_guest *g, const struct memx_shm_msg *msg, int fds[MEMX_SHM_FDS])
{
	struct worker *w = g->edge->worker;
	const struct conf_guest *allowed = relay_conf_guest(w->conf, msg->name, msg->uuid);
	struct memx_chan *chans[MEMX_MAX_LANES];
	unsigned int lanes;
	const char *why;

	if (g->link)
		link_gone(g->link, "a newer offer came");
	if (!allowed) {
		refuse(g, msg->name, "not allowed by the relay's configuration");
		return;
	}
	if (g->known && memcmp(g->conf.vm, msg->uuid, sizeof(g->conf.vm))) {
		refuse(g, msg->name, "another UUID than before");
		return;
	}
	for (lanes = 0; lanes < msg->lanes; lanes++) {
		chans[lanes] = memx_shm_attach(msg, fds, lanes, &why);
		if (chans[lanes])
			continue;
		refuse(g, msg->name, why);
		while (lanes--)
			chans[lanes]->ops->close(chans[lanes]);
		return;
	}
	g->known = true;
	relay_conf_identity(allowed, g->domid, msg->name, msg->uuid, &g->conf);
	memx_log_limited(MEMX_LOG_INFO, "guest-offer", "name=%s domid=%u uuid=%s lanes=%u", memx_quoted(msg->name),
			 g->domid, memx_uuid_text(msg->uuid), lanes);
	g->link = link_up(w, &g->conf, msg->offer, chans, lanes, &g->owner);
}

static void guest_ready(struct memx_watch *watch, uint32_t events)
{
	struct shm_guest *g = (struct shm_guest *)((char *)watch - offsetof(struct shm_guest, watch));
	int fds[MEMX_SHM_FDS], ret;
	struct memx_shm_msg msg;

	(void)events;
	ret = memx_shm_recv(watch->fd, &msg, fds);
	if (ret == -EAGAIN || ret == -EINTR)
		return;
	if (ret <= 0) {
		if (ret)
			memx_warn("guest-violation", "domid=%u reason=\"a message not understood\"", g->domid);
		guest_end(g);
		return;
	}
	switch (msg.type) {
	case MEMX_SHM_OFFER:
		guest_offer(g, &msg, fds);
		break;
	case MEMX_SHM_SUSPEND:
	case MEMX_SHM_SHUTDOWN:
		g->suspended = msg.type == MEMX_SHM_SUSPEND;
		break;
	}
	memx_shm_close_fds(fds);
}

static void edge_accept(struct memx_watch *watch, uint32_t events)
{
	struct shm_edge *edge = (struct shm_edge *)((char *)watch - offsetof(struct shm_edge, listener.watch));
	int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), err = errno;
	struct shm_guest *g;

	(void)events;
	if (fd < 0) {
		if (memx_listener_failed(&edge->listener, -err))
			memx_log_limited(MEMX_LOG_WARNING, "guest-refused", "reason=%s", memx_quoted(strerror(err)));
		return;
	}
	g = edge->count < MAX_SHM_GUESTS ? calloc(1, sizeof(*g)) : NULL;
	if (!g || memx_watch_add(edge->worker->loop, &g->watch, fd, EPOLLIN, guest_ready)) {
		memx_log_limited(MEMX_LOG_WARNING, "guest-refused", "reason=\"too many guests or out of memory\"");
		free(g);
		close(fd);
		return;
	}
	g->owner.ended = guest_ended;
	g->edge = edge;
	g->domid = edge->next_domid++;
	g->next = edge->guests;
	edge->guests = g;
	edge->count++;
}

struct shm_edge *shm_edge_new(struct worker *w, const char *path)
{
	struct shm_edge *edge = calloc(1, sizeof(*edge));
	int fd, ret;

	if (!edge)
		return NULL;
	edge->worker = w;
	edge->next_domid = FIRST_DOMID;
	edge->path = strdup(path);
	fd = edge->path ? memx_shm_listen(path) : -ENOMEM;
	ret = fd < 0 ? fd : memx_listener_open(w->loop, &edge->listener, fd, edge_accept);
	if (!ret)
		return edge;
	if (fd >= 0)
		close(fd);
	free(edge->path);
	free(edge);
	errno = -ret;
	return NULL;
}

void shm_edge_free(struct shm_edge *edge)
{
	struct shm_guest *g, *next;

	if (!edge)
		return;
	for (g = edge->guests; g; g = next) {
		next = g->next;
		guest_end(g);
	}
	memx_listener_close(&edge->listener);
	unlink(edge->path);
	free(edge->path);
	free(edge);
}
