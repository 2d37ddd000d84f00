// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-conf.c - libFuzzer target: configuration files of relay and server.
 *
 * The first byte chooses whose, the rest is the file. A file that is refused is refused with one line that begins with the
 * file's name; what is taken lies within the limits that the daemons count on.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fuzz/fuzz.h>
#include "../../server/server.h"
#include "../edge/config.h"

static void check_error(const char *path, const char *err, size_t size)
{
	size_t len = strnlen(err, size);

	fuzz_must(len && len < size, "no reason given, or without end");
	fuzz_must(!strncmp(err, path, strlen(path)), "the file is not named: %s", err);
	fuzz_must(!memchr(err, '\n', len), "more than a line: %s", err);
}

static void check_guests(const struct relay_conf *conf)
{
	static const u8 nobody[16];
	struct core_guest_conf to;

	for (u32 i = 0; i < conf->guest_count; i++) {
		const struct conf_guest *g = &conf->guests[i];

		fuzz_must(g->by_uuid ? !g->name : !!g->name, "guest %s is named twice or not at all", g->title);
		fuzz_must(g->quota >= 1 << 20, "quota");
		fuzz_must(g->replicas < MEMX_MAX_REPLICAS, "replicas");
		fuzz_must(relay_conf_guest(conf, g->by_uuid ? "" : g->name, g->by_uuid ? g->uuid : nobody) == g,
			  "guest %s is not found", g->title);
		relay_conf_identity(g, 1, g->name ? g->name : "", g->uuid, &to);
		fuzz_must(memchr(to.name, '\0', sizeof(to.name)) && to.quota_pages, "identity of %s", g->title);
	}
	fuzz_must(!relay_conf_guest(conf, "", nobody), "whoever has no name is allowed");
}

static void relay(const char *path)
{
	char err[MEMX_CONF_ERR] = "";
	struct relay_conf *conf = relay_conf_load(path, err);

	if (!conf) {
		check_error(path, err, sizeof(err));
		return;
	}
	fuzz_must(conf->donor_count <= CORE_MAX_DONORS, "%u donors", conf->donor_count);
	fuzz_must(conf->extent && !(conf->extent & (conf->extent - 1)), "extent");
	fuzz_must(conf->core.extent_order >= MEMX_MIN_EXTENT_ORDER && conf->core.extent_order <= MEMX_MAX_EXTENT_ORDER, "order");
	fuzz_must(conf->core.replicas < MEMX_MAX_REPLICAS && conf->workers == 1, "replicas, workers");
	fuzz_must(conf->core.heartbeat_ns && conf->core.donor_timeout_ns >= 2 * conf->core.heartbeat_ns, "times");
	fuzz_must(conf->core.staging_bytes >= 4 << 20 && conf->core.donor_bytes >= 1 << 20, "sizes");
	for (u32 i = 0; i < conf->donor_count; i++)
		fuzz_must(*conf->donors[i].name && conf->donors[i].addr.port && *conf->donors[i].addr.host, "donor %u", i);
	check_guests(conf);
	relay_conf_put(conf);
}

static void server(const char *path)
{
	char err[MEMX_CONF_ERR] = "";
	struct settings s;

	if (settings_reload(&s, path, err, sizeof(err))) {
		check_error(path, err, sizeof(err));
	} else {
		fuzz_must(*s.domain && strlen(s.domain) < MEMX_LABEL_LEN, "domain");
		fuzz_must(s.max_connections && s.max_sessions && s.max_sessions <= 1 << 20, "limits");
		fuzz_must(s.memory <= 1ULL << 46 && s.session_quota <= 1ULL << 46, "memory");
	}
	settings_free(&s);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static char path[32];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("conf", 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	if (!size || ftruncate(fd, 0) || pwrite(fd, data + 1, size - 1, 0) != (ssize_t)size - 1)
		return 0;
	if (data[0] & 1)
		server(path);
	else
		relay(path);
	return 0;
}
