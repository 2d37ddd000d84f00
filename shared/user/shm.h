/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * shm.h - lanes in shared memory: what a vchan is between domains, between two processes.
 *
 * For tests, the benchmark and the native fault campaign. A guest process connects to the relay's unix socket (SOCK_SEQPACKET)
 * and sends an offer: who it says it is, the nonce, the sizes, and per lane three descriptors: a memfd with the page and the
 * two rings (sealed against shrinking), the eventfd that the relay waits on, the eventfd that the guest waits on. While the
 * socket is open, the "domain" lives; SUSPEND or SHUTDOWN before the end of the socket is its last shutdown reason. A new
 * message OFFER replaces the one before.
 *
 * Unlike a domain id, name and UUID are what the process says: whoever may open the socket is trusted that far (mode 0600).
 * What is in the rings is trusted no more than on Xen.
 */
#ifndef MEMX_USER_SHM_H
#define MEMX_USER_SHM_H

#include "user/chan.h"

#define MEMX_SHM_MAGIC 0x4d48536dU

enum memx_shm_type {
	MEMX_SHM_OFFER = 1,		/* guest: lanes, with descriptors */
	MEMX_SHM_SUSPEND = 2,		/* guest: going away, to come back elsewhere */
	MEMX_SHM_SHUTDOWN = 3,		/* guest: going away for good */
	MEMX_SHM_REFUSED = 4,		/* relay: not allowed or offer wrong; `name` has the reason */
};

struct memx_shm_msg {			/* both run on one machine: host order */
	u32 magic;
	u16 type;
	u8 lanes;
	u8 resv;
	char name[64];
	u8 uuid[16];
	u64 offer;
	struct {
		u16 left_order, right_order;
	} lane[MEMX_MAX_LANES];
};

enum { MEMX_SHM_FDS = 3 * MEMX_MAX_LANES };

/* ---- guest ---------------------------------------------------------------------------------------------------------------- */

/* A lane that can be offered, again and again: the memory and the descriptors stay. */
struct memx_shm_lane {
	struct memx_chan *chan;
	int memfd, to_relay, to_guest;
	u16 left_order, right_order;
};

/* Makes a lane with rings of 1 << order bytes (left: relay to guest). 0 or -errno. */
int memx_shm_lane_new(struct memx_shm_lane *lane, u16 left_order, u16 right_order);
void memx_shm_lane_free(struct memx_shm_lane *lane);
/* Empties the rings for a new offer; no client may be there. */
void memx_shm_lane_reset(struct memx_shm_lane *lane);

/* Connects to the relay's socket. A descriptor or -errno. */
int memx_shm_connect(const char *path);
int memx_shm_offer(int sock, const char *name, const u8 uuid[16], u64 offer, struct memx_shm_lane *lanes, unsigned int count);
int memx_shm_say(int sock, enum memx_shm_type type, const char *text);

/* ---- relay ---------------------------------------------------------------------------------------------------------------- */

/* A listening socket, or -errno; a stale one is replaced. */
int memx_shm_listen(const char *path);

/*
 * Receives one message. 1: there is one, 0: the peer closed, -EAGAIN none now, -EPROTO not understood, -errno. Descriptors that
 * came are in @fds, else -1.
 */
int memx_shm_recv(int sock, struct memx_shm_msg *msg, int fds[MEMX_SHM_FDS]);
void memx_shm_close_fds(int fds[MEMX_SHM_FDS]);

/*
 * Maps lane @lane of an offer as its client: checks sizes and seals, maps what the guest sends read-only, says that we are
 * there. Takes over the lane's descriptors (also where it fails). NULL: errno, and @why a sentence.
 */
struct memx_chan *memx_shm_attach(const struct memx_shm_msg *msg, int fds[MEMX_SHM_FDS], unsigned int lane, const char **why);

#endif /* MEMX_USER_SHM_H */
