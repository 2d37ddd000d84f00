/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cluster.h - memory servers and a relay as child processes, for programs that measure or torture them.
 *
 * Everything lives in one scratch folder: sockets, ids, settings, logs. Ports are the kernel's choice. A child that is started
 * is waited for until it says that it is ready (the service manager's notification), and none outlives its parent. One
 * thread owns a cluster.
 */
#ifndef MEMX_CLUSTER_H
#define MEMX_CLUSTER_H

#include <sys/types.h>

#include <memx/port.h>

enum {
	CLUSTER_MAX_DONORS	= 16,
	CLUSTER_MAX_GUESTS	= 16,
};

struct cluster_guest {
	const char *name;		/* allowed under this name */
	u64 quota;			/* bytes */
	u8 replicas;
};

struct cluster_config {
	const char *bin;		/* folder of the programs; NULL: that of this program */
	const char *folder;		/* scratch; NULL: a new one below $TMPDIR, removed at the end */
	u32 donors;
	u64 donor_memory;		/* bytes */
	struct cluster_guest guest[CLUSTER_MAX_GUESTS];
	u32 guests;
	const char *relay_extra;	/* lines for its [relay] section, or NULL */
};

struct cluster {
	struct cluster_config config;
	char folder[96];
	bool own_folder;
	char shm[128];			/* the socket that guests connect to */
	char relay_control[128];
	int notify;
	struct {
		pid_t pid;		/* 0: does not run */
		int pidfd;
		u16 port;
	} donor[CLUSTER_MAX_DONORS];
	pid_t relay;
	int relay_pidfd;
};

/* All donors, then the relay. 0, or -errno with a sentence on stderr; then everything has ended again. */
int cluster_start(struct cluster *c, const struct cluster_config *config);
/* Ends all in good order, or by force after some seconds; removes its own folder unless @keep. */
void cluster_stop(struct cluster *c, bool keep);
/* All at once, from whichever thread: the process is about to end. */
void cluster_kill(struct cluster *c);

int cluster_start_donor(struct cluster *c, u32 donor);	/* on the port it had, if it had one */
int cluster_start_relay(struct cluster *c);
void cluster_end_donor(struct cluster *c, u32 donor, int sig);	/* sends @sig and waits for the end */
void cluster_end_relay(struct cluster *c, int sig);

#endif /* MEMX_CLUSTER_H */
