/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * server.h - the edges of the donor and what they share.
 *
 *   main.c         options, start, signals, service manager, end
 *   settings.c     the configuration file and the command line
 *   peer.c         connections: bytes in, frames to the core, replies out
 *   home.c         where its id and its control socket are
 *   control.c      the control socket
 *   pressure.c     the limit, and the host's need for its memory
 *   reclaim.c      getting back what is used beyond it
 *   holder.c       asking the other holder of a copy that is to be dropped
 *   memfd_store.c  the memory
 *   core/          every decision
 *
 * One thread, one loop. struct server is main's; everybody else borrows it.
 */
#ifndef SRV_SERVER_H
#define SRV_SERVER_H

#include <errno.h>
#include <stdio.h>

#include "core/core.h"
#include "core/pressure.h"
#include "memfd_store.h"
#include "user/loop.h"
#include "user/net.h"

struct memx_ctl;
struct memx_ctl_cmd;

struct settings {
	struct memx_addr listen;
	u64 memory;			/* bytes, slot data included */
	char *domain;
	char *id_file, *control;	/* NULL: not given, the usual places (home.c), which fill them in */
	u64 session_quota;		/* bytes; 0: none */
	int lock, huge;			/* enum srv_want */
	u64 pressure;			/* ns of stalls per second that are a sign of want; 0: not watched */
	u64 reclaim_wait;		/* ns that relays have to give memory back before copies are dropped without them */
	bool self_drop;			/* whether that is done at all */
	u64 min_available;		/* bytes of MemAvailable to leave to the host; 0: not watched */
	u32 max_connections, max_sessions;
	int log_level;

	u32 line;			/* of [server] in the file; 0: it is not there */
	bool starting;			/* not read again: the address that is named will be listened at */
};

struct reclaim {
	struct memx_timer timer;
	u64 began_ns;			/* 0: nothing is wanted back */
	u64 began_used;			/* pages */
	u64 came_back;			/* pages, of all that ended */
	u64 freed;			/* extents, by others than ourselves, up to now */
	u64 moved_ns;			/* when that last changed */
	u64 waits_ns;			/* since when nothing came back and nothing was done about it; 0: something is being done */
	u64 waited_ns;			/* the longest of these, our own lateness taken off */
	u64 took_ns;			/* from the question until all was back, of the last that ended */
	u64 dropped, all_dropped;	/* pages, by ourselves; since the start */
	u64 again_ns;			/* nothing could be dropped; next try */
	char refusal[256];		/* why */
	u32 answer;			/* the last that said no */
};

enum { HOLDER_AVOIDED = 16 };

/* The other holder of the copy that is to be dropped. */
struct holder {
	struct memx_conn conn;		/* first: found from it */
	int state;
	bool asking, next;		/* an answer is waited for; the connection first makes way for another one */
	struct srv_drop drop;
	u8 id[16];			/* of who is at the other end */
	u64 instance;
	struct memx_addr addr;
	struct memx_watch connecting;
	struct memx_timer timer;
	struct {
		u8 id[16];
		u64 until_ns;
	} avoid[HOLDER_AVOIDED];
};

struct server {
	struct memx_loop *loop;
	struct settings settings;
	const char *config_path;	/* NULL: none was given */
	struct srv_store *store;
	struct srv_memfd_facts facts;
	struct srv *core;
	u8 id[16];
	u64 instance;
	u64 started_ns;

	u64 limit;			/* bytes: settings.memory, or what a command put in its place */
	struct srv_pressure pressure;
	struct memx_watch psi;		/* trigger or FIFO */
	int psi_read;			/* read once a second where no trigger can be had; -1 */
	u64 psi_total;
	struct memx_timer pressure_timer;
	u64 pressed;			/* times that the host's need lowered what is given */

	struct reclaim reclaim;
	struct holder holder;
	u64 refusals;			/* times that memory was wanted back and no copy could be dropped */

	struct memx_listener listener;
	u16 port;
	struct peer *peers;		/* list */
	u32 peer_count;
	struct srv_out out;		/* one batch of replies at a time, of one peer */
	struct memx_timer sweep, scrub, watchdog, leave;
	u64 watchdog_ns;
	bool leaving;

	u64 accepted, refused, malformed, timeouts, broken;	/* connections */
	struct memx_ctl *ctl;
};

/* ---- settings.c ------------------------------------------------------------------------------------------------------- */

enum settings_verdict { SETTINGS_GO, SETTINGS_DONE, SETTINGS_WRONG };

/* Reads the command line and the file that it names. DONE: --help, --version or --check did their work. */
enum settings_verdict settings_from_args(struct settings *s, const char **config_path, int argc, char **argv);
/* Reads the file again, for SIGHUP. 0 or -1 with the line to log in @err. */
int settings_reload(struct settings *s, const char *path, char *err, size_t size);
void settings_free(struct settings *s);

/* ---- home.c ----------------------------------------------------------------------------------------------------------- */

int home_id(struct server *server);		/* 0 or -errno: nothing that another place would help */
struct memx_ctl *home_ctl(struct server *server, const struct memx_ctl_cmd *commands);	/* NULL: errno */

/* ---- peer.c ----------------------------------------------------------------------------------------------------------- */

int peers_listen(struct server *server);	/* 0 or -errno */
void peers_leave(struct server *server);	/* no new ones, finish what is in hand, then stop the loop */
void peers_free(struct server *server);
void peers_each(struct server *server, void (*each)(void *ctx, const char *addr, const struct srv_conn *conn, u64 frames,
						      u64 queued), void *ctx);
const char *peer_name(const void *conn_ctx);
void peer_send(void *ctx, void *conn_ctx, const void *frame, u32 len);	/* srv_ops.send */

/* ---- control.c -------------------------------------------------------------------------------------------------------- */

int control_start(struct server *server);	/* 0 or -errno */
void control_stop(struct server *server);

/* ---- pressure.c ------------------------------------------------------------------------------------------------------- */

void pressure_start(struct server *server);	/* also after the settings changed */
void pressure_stop(struct server *server);
int server_set_limit(struct server *server, u64 bytes);		/* 0 or -errno: it stays as it was */

/* ---- reclaim.c -------------------------------------------------------------------------------------------------------- */

void reclaim_look(struct server *server);	/* what is used or may be used has changed */
void reclaim_stop(struct server *server);
void reclaim_timer(struct memx_timer *timer, uint64_t now);
void reclaim_answered(struct server *server, u64 serial, u32 status);	/* by the holder, or SRV_NO_ANSWER */
u64 reclaim_waited(const struct server *server);	/* ns: reclaim.waited_ns, the one that lasts still included */

/* ---- holder.c --------------------------------------------------------------------------------------------------------- */

void holder_ask(struct server *server, const struct srv_drop *drop);
bool holder_reachable(void *server, const u8 id[16]);
void holder_done(struct server *server);	/* nothing more to ask for now */
void holder_stop(struct server *server);

/* ---- main.c ----------------------------------------------------------------------------------------------------------- */

void server_scrub_later(struct server *server);

#endif /* SRV_SERVER_H */
