// SPDX-License-Identifier: GPL-2.0-only
/*
 * config.c - reads relay.conf. No state; what is loaded is constant.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config.h"
#include "user/log.h"

#define MS 1000000ULL
#define S (1000 * MS)

static const char *const levels[] = { "error", "warning", "notice", "info", "debug", NULL };

#define RELAY(key, kind, field, ...) MEMX_CONF_KEY(key, kind, struct relay_conf, field, ##__VA_ARGS__)

static const struct memx_conf_key relay_keys[] = {
	RELAY("control", PATH, control),
	RELAY("shm", PATH, shm),
	RELAY("id_file", PATH, id_file),
	RELAY("xenstore", BOOL, xenstore),
	RELAY("workers", UINT, workers, .min = 1, .max = 1),
	RELAY("log", CHOICE, log_level, .choices = levels),
	RELAY("replicas", UINT, replicas, .min = 1, .max = MEMX_MAX_COPIES),
	RELAY("extent", SIZE, extent, .min = 4096ULL << MEMX_MIN_EXTENT_ORDER, .max = 4096ULL << MEMX_MAX_EXTENT_ORDER),
	RELAY("staging", SIZE, staging, .min = 4 << 20, .max = 1ULL << 32),
	RELAY("donor_queue", SIZE, donor_queue, .min = 1 << 20, .max = 1ULL << 30),
	RELAY("heartbeat", DURATION, core.heartbeat_ns, .min = 10 * MS, .max = 10 * S),
	RELAY("donor_timeout", DURATION, core.donor_timeout_ns, .min = 50 * MS, .max = 60 * S),
	RELAY("donor_dead", DURATION, core.donor_dead_ns, .min = 100 * MS, .max = 24 * 3600 * S),
	RELAY("connect_retry", DURATION, connect_retry, .min = 10 * MS, .max = 60 * S),
	RELAY("lag_grace", DURATION, core.lag_ns, .min = 10 * MS, .max = 60 * S),
	RELAY("repair_rate", SIZE, core.repair_rate),
	RELAY("balance", BOOL, core.balance),
	MEMX_CONF_END
};

static const struct memx_conf_key donor_keys[] = {
	MEMX_CONF_KEY("address", ADDR, struct conf_donor, addr, .required = true),
	MEMX_CONF_KEY("drain", BOOL, struct conf_donor, drain),
	MEMX_CONF_END
};

static const struct memx_conf_key guest_keys[] = {
	MEMX_CONF_KEY("name", STRING, struct conf_guest, name),
	MEMX_CONF_KEY("uuid", UUID, struct conf_guest, uuid),
	MEMX_CONF_KEY("quota", SIZE, struct conf_guest, quota, .min = 1 << 20, .max = 16ULL << 40, .required = true),
	MEMX_CONF_KEY("replicas", UINT, struct conf_guest, replicas, .min = 1, .max = MEMX_MAX_COPIES),
	MEMX_CONF_END
};

static void *relay_begin(void *ctx, const char *name, uint32_t line, char *err, size_t size)
{
	(void)name, (void)line, (void)err, (void)size;
	return ctx;
}

static int relay_end(void *ctx, void *object, char *err, size_t size)
{
	struct relay_conf *conf = object;
	struct core_config usual;

	(void)ctx;
	if (conf->extent & (conf->extent - 1)) {
		snprintf(err, size, "extent: not a power of two; accepted: 256K, 512K, 1M, 2M, 4M ... 64M");
		return -1;
	}
	core_config_init(&usual);
	if (conf->core.donor_timeout_ns >= 2 * conf->core.heartbeat_ns)
		return 0;
	if (conf->core.donor_timeout_ns == usual.donor_timeout_ns)
		snprintf(err, size, "heartbeat: longer than half of donor_timeout; accepted: at most %llums, or a longer donor_timeout",
			 (unsigned long long)(conf->core.donor_timeout_ns / 2 / MS));
	else
		snprintf(err, size, "donor_timeout: shorter than two heartbeats; accepted: at least %llums",
			 (unsigned long long)(2 * conf->core.heartbeat_ns / MS));
	return -1;
}

static void *donor_begin(void *ctx, const char *name, uint32_t line, char *err, size_t size)
{
	struct relay_conf *conf = ctx;
	struct conf_donor *donor;

	(void)line;
	if (conf->donor_count == CORE_MAX_DONORS) {
		snprintf(err, size, "too many donors; accepted: %d", CORE_MAX_DONORS);
		return NULL;
	}
	donor = &conf->donors[conf->donor_count++];
	snprintf(donor->name, sizeof(donor->name), "%s", name);
	return donor;
}

static int donor_end(void *ctx, void *object, char *err, size_t size)
{
	struct relay_conf *conf = ctx;
	struct conf_donor *donor = object;

	if (!donor->addr.port || !*donor->addr.host || !strcmp(donor->addr.host, "*")) {
		snprintf(err, size, "address: \"%.60s\" is nothing to connect to; accepted: HOST:PORT", memx_addr_text(&donor->addr));
		return -1;
	}
	for (uint32_t i = 0; i + 1 < conf->donor_count; i++) {
		struct conf_donor *other = &conf->donors[i];

		if (!strcasecmp(other->addr.host, donor->addr.host) && other->addr.port == donor->addr.port) {
			snprintf(err, size, "address: the same as that of [donor %s]; accepted: one section per donor", other->name);
			return -1;
		}
	}
	return 0;
}

static void *guest_begin(void *ctx, const char *name, uint32_t line, char *err, size_t size)
{
	struct relay_conf *conf = ctx;
	struct conf_guest *guests, *guest;

	(void)line;
	guests = realloc(conf->guests, (conf->guest_count + 1) * sizeof(*guests));
	if (!guests) {
		snprintf(err, size, "out of memory");
		return NULL;
	}
	conf->guests = guests;
	guest = &guests[conf->guest_count++];
	memset(guest, 0, sizeof(*guest));
	snprintf(guest->title, sizeof(guest->title), "%s", name);
	return guest;
}

static int guest_end(void *ctx, void *object, char *err, size_t size)
{
	static const uint8_t none[16];
	struct conf_guest *guest = object;
	struct relay_conf *conf = ctx;

	guest->by_uuid = memcmp(guest->uuid, none, sizeof(none));
	if (guest->by_uuid && guest->name) {
		snprintf(err, size, "name: given beside uuid; accepted: one of them");
		return -1;
	}
	if (!guest->by_uuid && !guest->name) {
		guest->name = strdup(guest->title);
		if (!guest->name) {
			snprintf(err, size, "out of memory");
			return -1;
		}
	}
	for (uint32_t i = 0; i + 1 < conf->guest_count; i++) {
		struct conf_guest *other = &conf->guests[i];

		if (other->by_uuid != guest->by_uuid)
			continue;
		if (guest->by_uuid ? !memcmp(other->uuid, guest->uuid, 16) : !strcmp(other->name, guest->name)) {
			snprintf(err, size, "%s: the same as that of [guest %s]; accepted: one section per guest",
				 guest->by_uuid ? "uuid" : "name", other->title);
			return -1;
		}
	}
	return 0;
}

static const struct memx_conf_section sections[] = {
	{ .name = "relay", .keys = relay_keys, .begin = relay_begin, .end = relay_end },
	{ .name = "donor", .named = true, .keys = donor_keys, .begin = donor_begin, .end = donor_end },
	{ .name = "guest", .named = true, .keys = guest_keys, .begin = guest_begin, .end = guest_end },
	{ .name = NULL },
};

struct relay_conf *relay_conf_load(const char *path, char err[MEMX_CONF_ERR])
{
	struct relay_conf *conf = calloc(1, sizeof(*conf));

	if (!conf) {
		snprintf(err, MEMX_CONF_ERR, "%s: out of memory", path);
		return NULL;
	}
	atomic_init(&conf->refs, 1);
	core_config_init(&conf->core);
	conf->control = strdup("/run/memx-relay/relay.sock");
	conf->id_file = strdup("/var/lib/memx-relay/relay.id");
	conf->xenstore = true;
	conf->workers = 1;
	conf->log_level = MEMX_LOG_INFO - MEMX_LOG_ERR;
	conf->replicas = conf->core.replicas;
	conf->extent = 4096ULL << conf->core.extent_order;
	conf->staging = conf->core.staging_bytes;
	conf->donor_queue = conf->core.donor_bytes;
	conf->connect_retry = 500 * MS;
	if (!conf->control || !conf->id_file || memx_conf_load(path, sections, conf, err)) {
		relay_conf_put(conf);
		return NULL;
	}
	conf->core.replicas = (u8)conf->replicas;
	/* The rest of this host is not to die of what guests ask for, nor this relay, on which they all depend. */
	conf->core.map_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
	conf->core.extent_order = (u8)(__builtin_ctzll(conf->extent) - MEMX_PAGE_SHIFT);
	conf->core.staging_bytes = conf->staging;
	conf->core.donor_bytes = conf->donor_queue;
	return conf;
}

struct relay_conf *relay_conf_get(struct relay_conf *conf)
{
	atomic_fetch_add(&conf->refs, 1);
	return conf;
}

void relay_conf_put(struct relay_conf *conf)
{
	if (!conf || atomic_fetch_sub(&conf->refs, 1) != 1)
		return;
	for (uint32_t i = 0; i < conf->guest_count; i++)
		free(conf->guests[i].name);
	free(conf->guests);
	free(conf->control);
	free(conf->shm);
	free(conf->id_file);
	free(conf);
}

const struct conf_guest *relay_conf_guest(const struct relay_conf *conf, const char *name, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < conf->guest_count; i++)
		if (conf->guests[i].by_uuid && !memcmp(conf->guests[i].uuid, uuid, 16))
			return &conf->guests[i];
	for (uint32_t i = 0; i < conf->guest_count; i++)
		if (!conf->guests[i].by_uuid && !strcmp(conf->guests[i].name, name))
			return &conf->guests[i];
	return NULL;
}

void relay_conf_identity(const struct conf_guest *guest, uint32_t domid, const char *name, const uint8_t uuid[16],
			 struct core_guest_conf *to)
{
	memset(to, 0, sizeof(*to));
	memcpy(to->vm, uuid, sizeof(to->vm));
	snprintf(to->name, sizeof(to->name), "%.*s", CORE_NAME_LEN - 1, name);
	to->domid = domid;
	to->quota_pages = guest->quota / MEMX_PAGE_SIZE;
	to->replicas = (u8)guest->replicas;
}
