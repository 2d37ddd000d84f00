/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * config.h - relay.conf as read. Immutable once loaded, ref-counted, shared by all threads: a reload makes a new one.
 */
#ifndef MEMX_RELAY_CONFIG_H
#define MEMX_RELAY_CONFIG_H

#include <stdatomic.h>

#include "../core/core.h"
#include "user/conf.h"

struct conf_donor {
	char name[CORE_NAME_LEN];
	struct memx_addr addr;
	bool drain;			/* its copies are moved elsewhere */
};

struct conf_guest {
	char title[CORE_NAME_LEN];	/* of the section */
	char *name;			/* of the domain; NULL: by UUID */
	uint8_t uuid[16];
	bool by_uuid;
	uint64_t quota;			/* bytes */
	uint32_t replicas;		/* 0: as [relay] says */
};

struct relay_conf {
	atomic_int refs;
	char *control, *shm, *id_file;
	bool xenstore;
	uint32_t workers, replicas;
	int log_level;			/* index into the words */
	uint64_t extent, staging, donor_queue, connect_retry;
	struct core_config core;	/* what goes to the core, ids excepted */

	struct conf_donor donors[CORE_MAX_DONORS];
	uint32_t donor_count;
	struct conf_guest *guests;
	uint32_t guest_count;
};

/* NULL: @err has the line to print. One reference is the caller's. */
struct relay_conf *relay_conf_load(const char *path, char err[MEMX_CONF_ERR]);
struct relay_conf *relay_conf_get(struct relay_conf *conf);
void relay_conf_put(struct relay_conf *conf);

/* The section that allows the domain of this name and UUID, or NULL: not allowed. UUIDs win over names. */
const struct conf_guest *relay_conf_guest(const struct relay_conf *conf, const char *name, const uint8_t uuid[16]);

/* What the core is told of a guest. */
void relay_conf_identity(const struct conf_guest *guest, uint32_t domid, const char *name, const uint8_t uuid[16],
			 struct core_guest_conf *to);

#endif /* MEMX_RELAY_CONFIG_H */
