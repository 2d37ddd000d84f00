/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * edge.h - the one map of the daemon's edges.
 *
 * Threads: the data thread runs the loop and with it the core, the links, the donors, the control socket. The XenStore
 * thread (xenstore.c) reads XenStore, looks names up, maps and unmaps vchans, all of which may block. They talk by messages
 * only: memx_mail_post() towards the data thread, xenstore_*() towards the other. A configuration is constant and
 * ref-counted, so both may hold one.
 *
 * A worker is a core with its links and its connections to the donors; a guest belongs to one worker. There is one worker
 * today, and nothing outside main.c and control.c knows that.
 *
 * Turns (core.h): whatever becomes ready in a round of the loop is handed to the core, donors' frames at once, guests' lanes
 * in the turn at the end of the round, those of kind FETCH first; then the core ticks if it is due; then lanes and
 * connections flush what was queued.
 */
#ifndef MEMX_RELAY_EDGE_H
#define MEMX_RELAY_EDGE_H

#include "config.h"
#include "pace.h"
#include "user/chan.h"
#include "user/ctl.h"
#include "user/log.h"
#include "user/loop.h"

struct edge_donor;
struct edge_link;

struct worker {
	struct memx_loop *loop;
	struct relay_core *core;
	struct relay_conf *conf;		/* a reference */
	struct edge_link *links;
	struct edge_donor *donors;
	struct memx_work turn;
	struct memx_timer tick;
	u64 turns;
	u64 xenstore_hangs;			/* times that xenstored was found not to answer */
	struct memx_log_limit limits[LOG_LIMITS];
	bool draining;
};

/* ---- worker.c --------------------------------------------------------------------------------------------------------- */

/* @id, @instance: of this relay. NULL: errno. */
struct worker *worker_new(struct memx_loop *loop, struct relay_conf *conf, const u8 id[16], u64 instance);
void worker_free(struct worker *w);
/* Takes over a changed configuration: donors that came or went, limits. */
void worker_reconfigure(struct worker *w, struct relay_conf *conf);
/* There is something to do in this round's turn. */
static inline void worker_turn(struct worker *w)
{
	memx_work_queue(w->loop, &w->turn);
}

static inline u64 worker_now(const struct worker *w)
{
	return memx_loop_now(w->loop);
}

/* ---- links.c: guests ---------------------------------------------------------------------------------------------------- */

/* Where the lanes of a link come from: gets them back when the link has ended. */
struct link_owner {
	void (*ended)(struct link_owner *owner, struct memx_chan **chans, unsigned int lanes, const char *reason);
};

/*
 * A guest's lanes are connected: hands them to the core. @owner gets ended() exactly once, also where this fails
 * (NULL returned, ended() called).
 */
struct edge_link *link_up(struct worker *w, const struct core_guest_conf *conf, u64 offer, struct memx_chan **chans,
			  unsigned int lanes, struct link_owner *owner);
/* The owner knows that the guest is gone: no more frames; ended() is called before this returns. */
void link_gone(struct edge_link *link, const char *reason);
void links_turn(struct worker *w, bool fetch);		/* reads the lanes that are ready */
void links_show(struct worker *w);		/* shows guests what was written for them */
void links_flush(struct worker *w);		/* the same, and ends the links that are being closed */
void links_free(struct worker *w, const char *reason);
void links_reconfigure(struct worker *w, const struct relay_conf *conf);
int link_send(struct edge_link *link, unsigned int lane, const struct memx_hdr *hdr, const struct core_seg *segs,
	      unsigned int nsegs);
void link_close(struct edge_link *link, const char *reason);

/* ---- donors.c ------------------------------------------------------------------------------------------------------------ */

int donors_reconfigure(struct worker *w, const struct relay_conf *conf);
void donors_free(struct worker *w);
void donor_send(struct edge_donor *donor, const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int nsegs);
void donor_close(struct edge_donor *donor, const char *reason);
void donor_gone(struct edge_donor *donor);
/* For the control socket. */
const char *donor_address(const struct worker *w, const char *name, char text[MEMX_ADDR_TEXT]);

/* ---- shmguests.c: guests over shared memory ----------------------------------------------------------------------------- */

struct shm_edge;
struct shm_edge *shm_edge_new(struct worker *w, const char *path);	/* NULL: errno */
void shm_edge_free(struct shm_edge *edge);

/* ---- xenstore.c: guests of Xen ------------------------------------------------------------------------------------------ */

struct xen_edge;
/* NULL: @why says what is missing. */
struct xen_edge *xen_edge_new(struct worker *w, struct relay_conf *conf, char why[160]);
void xen_edge_reconfigure(struct xen_edge *edge, struct relay_conf *conf);	/* looks at all domains again */
void xen_edge_drain(struct xen_edge *edge);					/* connects nobody from now on */
void xen_edge_free(struct xen_edge *edge);					/* links have ended before */

/* ---- control.c ---------------------------------------------------------------------------------------------------------- */

extern const struct memx_ctl_cmd control_cmds[];
struct control_ctx {
	struct worker *worker;
	const u8 *id;
	u64 started;				/* memx_now() */
	const char *version;
};

#endif /* MEMX_RELAY_EDGE_H */
