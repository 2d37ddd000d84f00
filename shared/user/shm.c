// SPDX-License-Identifier: GPL-2.0-only
/*
 * shm.c - lanes in shared memory. Each channel is its user's; no state of its own.
 *
 * Memory of a lane: the vchan page, the left ring, the right ring, each from a page boundary on.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "user/net.h"
#include "user/shm.h"

enum { PAGE = 4096 };

struct shm_chan {
	struct memx_chan chan;
	int peer;			/* eventfd of the peer */
	void *map, *right;		/* a client maps the right ring by itself, read-only */
	size_t map_len, right_len;
};

/* Only of an order that is good: the peer may say any. */
static size_t ring_len(u16 order)
{
	return ((size_t)1 << order) < PAGE ? PAGE : (size_t)1 << order;
}

static bool order_good(u16 order)
{
	return order >= MEMX_VCHAN_MIN_ORDER && order <= MEMX_VCHAN_MAX_ORDER;
}

/* ---- both ends ---- */

static void shm_notify(struct memx_chan *chan)
{
	const u64 one = 1;

	/* EAGAIN: the counter is at its end, so the peer has been told often enough. */
	if (write(((struct shm_chan *)chan)->peer, &one, sizeof(one)) < 0)
		return;
}

static void shm_ack(struct memx_chan *chan)
{
	u64 count;

	if (read(chan->fd, &count, sizeof(count)) < 0)
		return;			/* nothing there: the ring tells */
}

static void shm_unmap(struct shm_chan *sc)
{
	munmap(sc->map, sc->map_len);
	if (sc->right)
		munmap(sc->right, sc->right_len);
}

/* The guest's end: memory and descriptors are the lane's and stay. */
static void server_close(struct memx_chan *chan)
{
	struct shm_chan *sc = (struct shm_chan *)chan;

	memx_store_release(&chan->ring.shr->srv_live, 0);
	shm_notify(chan);
	shm_unmap(sc);
	free(sc);
}

static void client_close(struct memx_chan *chan)
{
	struct shm_chan *sc = (struct shm_chan *)chan;

	memx_store_release(&chan->ring.shr->cli_live, 0);
	shm_notify(chan);
	shm_unmap(sc);
	close(chan->fd);
	close(sc->peer);
	free(sc);
}

static const struct memx_chan_ops server_ops = { shm_notify, shm_ack, server_close };
static const struct memx_chan_ops client_ops = { shm_notify, shm_ack, client_close };

/* ---- guest ---- */

int memx_shm_lane_new(struct memx_shm_lane *lane, u16 left_order, u16 right_order)
{
	struct shm_chan *sc = calloc(1, sizeof(*sc));
	size_t left, len;
	int ret;

	*lane = (struct memx_shm_lane){ .memfd = -1, .to_relay = -1, .to_guest = -1, .left_order = left_order,
					.right_order = right_order };
	if (!sc || !order_good(left_order) || !order_good(right_order)) {
		free(sc);
		return sc ? -EINVAL : -ENOMEM;
	}
	left = ring_len(left_order);
	len = PAGE + left + ring_len(right_order);
	lane->memfd = memfd_create("memx-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	lane->to_relay = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lane->to_guest = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lane->memfd < 0 || lane->to_relay < 0 || lane->to_guest < 0 || ftruncate(lane->memfd, (off_t)len) < 0 ||
	    fcntl(lane->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto out_errno;
	sc->map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, lane->memfd, 0);
	if (sc->map == MAP_FAILED)
		goto out_errno;
	sc->map_len = len;
	sc->peer = lane->to_relay;
	sc->chan.ops = &server_ops;
	sc->chan.fd = lane->to_guest;
	sc->chan.server = true;
	lane->chan = &sc->chan;
	memx_vring_init(&sc->chan.ring, sc->map, true, (u8 *)sc->map + PAGE, 1U << left_order,
			(u8 *)sc->map + PAGE + left, 1U << right_order);
	memx_shm_lane_reset(lane);
	return 0;

out_errno:
	ret = -errno;
	free(sc);
	memx_shm_lane_free(lane);
	return ret;
}

void memx_shm_lane_reset(struct memx_shm_lane *lane)
{
	struct memx_vring *ring = &lane->chan->ring;
	u8 *map = (u8 *)ring->shr;

	memx_vring_reset_shared(ring->shr, lane->left_order, lane->right_order);
	memx_vring_init(ring, ring->shr, true, map + PAGE, 1U << lane->left_order,
			map + PAGE + ring_len(lane->left_order), 1U << lane->right_order);
}

void memx_shm_lane_free(struct memx_shm_lane *lane)
{
	if (lane->chan)
		lane->chan->ops->close(lane->chan);
	if (lane->memfd >= 0)
		close(lane->memfd);
	if (lane->to_relay >= 0)
		close(lane->to_relay);
	if (lane->to_guest >= 0)
		close(lane->to_guest);
	*lane = (struct memx_shm_lane){ .memfd = -1, .to_relay = -1, .to_guest = -1 };
}

int memx_shm_connect(const char *path)
{
	struct sockaddr_un un;
	int fd, ret = memx_unix_address(&un, path);

	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

static int send_msg(int sock, const struct memx_shm_msg *m, const int *fds, size_t count)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * MEMX_SHM_FDS)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)m, .iov_len = sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int memx_shm_offer(int sock, const char *name, const u8 uuid[16], u64 offer, struct memx_shm_lane *lanes, unsigned int count)
{
	struct memx_shm_msg m = { .magic = MEMX_SHM_MAGIC, .type = MEMX_SHM_OFFER, .lanes = (u8)count, .offer = offer };
	int fds[MEMX_SHM_FDS];

	if (!count || count > MEMX_MAX_LANES || strlen(name) >= sizeof(m.name))
		return -EINVAL;
	memcpy(m.name, name, strlen(name));
	memcpy(m.uuid, uuid, sizeof(m.uuid));
	for (unsigned int i = 0; i < count; i++) {
		m.lane[i].left_order = lanes[i].left_order;
		m.lane[i].right_order = lanes[i].right_order;
		fds[3 * i] = lanes[i].memfd;
		fds[3 * i + 1] = lanes[i].to_relay;
		fds[3 * i + 2] = lanes[i].to_guest;
	}
	return send_msg(sock, &m, fds, 3 * count);
}

int memx_shm_say(int sock, enum memx_shm_type type, const char *text)
{
	struct memx_shm_msg m = { .magic = MEMX_SHM_MAGIC, .type = (u16)type };

	if (text)
		memcpy(m.name, text, strnlen(text, sizeof(m.name) - 1));
	return send_msg(sock, &m, NULL, 0);
}

/* ---- relay ---- */

int memx_shm_listen(const char *path)
{
	struct sockaddr_un un;
	struct stat st;
	mode_t mask;
	int fd, ret = memx_unix_address(&un, path);

	if (ret)
		return ret;
	fd = memx_shm_connect(path);
	if (fd >= 0) {
		close(fd);
		return -EADDRINUSE;
	}
	if (fd == -ECONNREFUSED && !lstat(path, &st) && S_ISSOCK(st.st_mode))
		unlink(path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0177);
	if (bind(fd, (const struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, 16) < 0) {
		ret = -errno;
		close(fd);
		fd = ret;
	}
	umask(mask);
	return fd;
}

void memx_shm_close_fds(int fds[MEMX_SHM_FDS])
{
	for (int i = 0; i < MEMX_SHM_FDS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

int memx_shm_recv(int sock, struct memx_shm_msg *m, int fds[MEMX_SHM_FDS])
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * MEMX_SHM_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
	unsigned int count = 0;
	ssize_t got;

	for (int i = 0; i < MEMX_SHM_FDS; i++)
		fds[i] = -1;
	got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (got < 0)
		return errno == ECONNRESET ? 0 : -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	}
	if (!got && !count)
		return 0;
	/* Descriptors may come with a message of no bytes, too. */
	if (got != sizeof(*m) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || m->magic != MEMX_SHM_MAGIC || m->resv ||
	    m->type < MEMX_SHM_OFFER || m->type > MEMX_SHM_REFUSED || m->name[sizeof(m->name) - 1] ||
	    (m->type == MEMX_SHM_OFFER && (!m->lanes || m->lanes > MEMX_MAX_LANES || count != 3U * m->lanes))) {
		memx_shm_close_fds(fds);
		return -EPROTO;
	}
	return 1;
}

/* Is @fd a memfd of exactly @len bytes that nobody can make shorter under us? */
static const char *check_memory(int fd, size_t len)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
		return "the memory is no memfd sealed against a change of its size";
	if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return "the memory is of the wrong kind";
	if (fstat(fd, &st) < 0 || st.st_size != (off_t)len)
		return "the memory has the wrong size";
	return NULL;
}

/* An eventfd and nothing else, and never one that blocks us. */
static const char *check_event(int fd)
{
	char path[32], kind[32] = "";
	int flags;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, kind, sizeof(kind) - 1) < 0 || strcmp(kind, "anon_inode:[eventfd]"))
		return "no eventfd";
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return "an eventfd that cannot be made not to block";
	return NULL;
}

struct memx_chan *memx_shm_attach(const struct memx_shm_msg *msg, int fds[MEMX_SHM_FDS], unsigned int lane, const char **why)
{
	u16 left_order = msg->lane[lane].left_order, right_order = msg->lane[lane].right_order;
	int memory = fds[3 * lane], own = fds[3 * lane + 1], peer = fds[3 * lane + 2];
	struct shm_chan *sc = calloc(1, sizeof(*sc));
	size_t left;

	for (int i = 0; i < 3; i++)
		fds[3 * lane + (unsigned int)i] = -1;
	*why = "out of memory";
	errno = EINVAL;
	if (!sc)
		goto out_close;
	*why = "a ring of a size that is not accepted";
	if (!order_good(left_order) || !order_good(right_order))
		goto out_free;
	left = PAGE + ring_len(left_order);
	*why = check_memory(memory, left + ring_len(right_order));
	if (!*why)
		*why = check_event(own);
	if (!*why)
		*why = check_event(peer);
	if (*why)
		goto out_free;
	*why = "cannot be mapped";
	sc->map_len = left;
	sc->map = mmap(NULL, left, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (sc->map == MAP_FAILED)
		goto out_free;
	sc->right_len = ring_len(right_order);
	sc->right = mmap(NULL, sc->right_len, PROT_READ, MAP_SHARED, memory, (off_t)left);
	if (sc->right == MAP_FAILED) {
		munmap(sc->map, left);
		goto out_free;
	}
	close(memory);
	sc->peer = peer;
	sc->chan.ops = &client_ops;
	sc->chan.edge = true;
	sc->chan.fd = own;
	memx_vring_init(&sc->chan.ring, sc->map, false, (u8 *)sc->map + PAGE, 1U << left_order, sc->right, 1U << right_order);
	/* As libxenvchan's client begins: there, and to be told of what is written. */
	memx_store_once(&sc->chan.ring.shr->cli_live, 1);
	memx_store_once(&sc->chan.ring.shr->srv_notify, MEMX_VCHAN_WRITE);
	shm_notify(&sc->chan);
	*why = NULL;
	return &sc->chan;

out_free:
	free(sc);
out_close:
	close(memory);
	close(own);
	close(peer);
	return NULL;
}
