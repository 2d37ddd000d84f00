// SPDX-License-Identifier: GPL-2.0-only
/*
 * settings.c - the configuration file and the command line, which overrides it.
 *
 * A mistake is one line on stderr that says where it is and what is accepted; the caller then exits with 2.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "memx-version.h"
#include "server.h"
#include "user/conf.h"
#include "user/log.h"

static const char *const want_words[] = { [SRV_NO] = "no", [SRV_YES] = "yes", [SRV_TRY] = "try", NULL };
static const char *const level_words[] = { "error", "warning", "notice", "info", "debug", NULL };

enum { LEVEL_FIRST = MEMX_LOG_ERR };

static const struct memx_conf_key keys[] = {
	MEMX_CONF_KEY("listen", ADDR, struct settings, listen),
	MEMX_CONF_KEY("memory", SIZE, struct settings, memory, .min = 1 << 20, .max = 1ULL << 46),
	MEMX_CONF_KEY("domain", STRING, struct settings, domain),
	MEMX_CONF_KEY("id_file", PATH, struct settings, id_file),
	MEMX_CONF_KEY("control", PATH, struct settings, control),
	MEMX_CONF_KEY("session_quota", SIZE, struct settings, session_quota, .max = 1ULL << 46),
	MEMX_CONF_KEY("lock", CHOICE, struct settings, lock, .choices = want_words),
	MEMX_CONF_KEY("huge", CHOICE, struct settings, huge, .choices = want_words),
	MEMX_CONF_KEY("pressure", DURATION, struct settings, pressure, .max = 1000000000),
	MEMX_CONF_KEY("min_available", SIZE, struct settings, min_available, .max = 1ULL << 46),
	MEMX_CONF_KEY("reclaim_wait", DURATION, struct settings, reclaim_wait, .min = 100000000, .max = 86400ULL * 1000000000),
	MEMX_CONF_KEY("self_drop", BOOL, struct settings, self_drop),
	MEMX_CONF_KEY("max_connections", UINT, struct settings, max_connections, .min = 1, .max = 65536),
	MEMX_CONF_KEY("max_sessions", UINT, struct settings, max_sessions, .min = 1, .max = 1 << 20),
	MEMX_CONF_KEY("log_level", CHOICE, struct settings, log_level, .choices = level_words),
	MEMX_CONF_END
};

static void defaults(struct settings *s)
{
	char host[MEMX_LABEL_LEN] = "";

	*s = (struct settings) {
		.lock = SRV_TRY,
		.huge = SRV_TRY,
		.pressure = 100000000,
		.min_available = 64ULL << 20,
		.reclaim_wait = 10000000000,
		.self_drop = true,
		.max_connections = 256,
		.max_sessions = 65536,
		.log_level = MEMX_LOG_INFO - LEVEL_FIRST,
	};
	gethostname(host, sizeof(host) - 1);
	s->domain = strdup(*host ? host : "default");
}

void settings_free(struct settings *s)
{
	free(s->domain);
	free(s->id_file);
	free(s->control);
}

static u64 host_memory(void)
{
	return (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGESIZE);
}

static int check_domain(const char *domain, char *err, size_t size)
{
	size_t len = strlen(domain);

	if (len && len < MEMX_LABEL_LEN &&
	    strspn(domain, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len)
		return 0;
	snprintf(err, size, "domain: %s is not a label; accepted: 1 to %d letters, digits, - _ .", memx_quoted(domain),
		 MEMX_LABEL_LEN - 1);
	return -1;
}

/* What a single key cannot show. */
static int check(void *ctx, void *object, char *err, size_t size)
{
	struct settings *s = object;
	char has[32], want[32];
	int ret;

	(void)ctx;
	if (check_domain(s->domain, err, size))
		return -1;
	if (s->memory > host_memory()) {
		snprintf(err, size, "memory: %s is more than this host has; accepted: up to %s",
			 memx_format_size(want, sizeof(want), s->memory), memx_format_size(has, sizeof(has), host_memory()));
		return -1;
	}
	/* Who does not answer now may do so later: no mistake. */
	ret = s->starting && *s->listen.host ? memx_addr_resolve(&s->listen, 0) : 0;
	if (ret && ret != -EAGAIN) {
		snprintf(err, size, "listen: \"%.60s\": %s; accepted: ADDR:PORT of this host", s->listen.host, memx_addr_error(ret));
		return -1;
	}
	return 0;
}

static void *begin(void *ctx, const char *name, uint32_t line, char *err, size_t size)
{
	struct settings *s = ctx;

	(void)name;
	(void)err;
	(void)size;
	s->line = line;
	return s;
}

static const struct memx_conf_section sections[] = {
	{ .name = "server", .keys = keys, .begin = begin, .end = check },
	{ .name = NULL }
};

static int load(struct settings *s, const char *path, bool starting, char *err, size_t size)
{
	char text[MEMX_CONF_ERR];

	defaults(s);
	s->starting = starting;
	if (!path || !memx_conf_load(path, sections, s, text))
		return 0;
	snprintf(err, size, "%s", text);
	return -1;
}

int settings_reload(struct settings *s, const char *path, char *err, size_t size)
{
	return load(s, path, false, err, size);
}

static void help(void)
{
	printf("Usage: memx-server [--config FILE] [--memory SIZE] [--listen ADDR:PORT] [OPTION]...\n"
	       "Gives memory of this machine to MemX relays.\n\n"
	       "  -c, --config FILE         settings, in a section [server]; the options below override it\n"
	       "  -m, --memory SIZE         memory to give, bookkeeping included: 512M, 4G\n"
	       "  -l, --listen ADDR:PORT    where relays connect; *:PORT for all addresses\n"
	       "  -d, --domain LABEL        failure domain: copies are kept in different ones (default: the host's name)\n"
	       "  -i, --id-file FILE        where this donor keeps its id (default: /var/lib/memx-server/server.id;\n"
	       "                            who may not write there: below $XDG_STATE_HOME or ~/.local/state)\n"
	       "  -C, --control FILE        control socket (default: /run/memx-server/server.sock, or below $XDG_RUNTIME_DIR)\n"
	       "  -q, --session-quota SIZE  most that one guest may reserve here (default: no bound)\n"
	       "  -L, --lock yes|no|try     lock the memory, so that it is never swapped itself (default: try)\n"
	       "  -H, --huge yes|no|try     use the huge page pool where it suffices (default: try)\n"
	       "  -p, --pressure TIME       give memory back when tasks of this host wait longer for it, per second;\n"
	       "                            0: do not look (default: 100ms)\n"
	       "  -a, --min-available SIZE  give memory back when the host has less available; 0: do not look (default: 64M)\n"
	       "  -w, --reclaim-wait TIME   drop copies that another donor confirms, when relays have given back nothing of\n"
	       "                            what was asked for so long (default: 10s)\n"
	       "  -s, --self-drop yes|no    whether that is done at all (default: yes)\n"
	       "  -v, --log-level LEVEL     error, warning, notice, info or debug (default: info)\n"
	       "      --check               read the settings, say whether they are right, and exit\n"
	       "  -V, --version\n"
	       "  -h, --help\n\n"
	       "SIGHUP reads the file again: memory, domain, session_quota, pressure, min_available, reclaim_wait, self_drop and\n"
	       "log_level take effect at once. `memxctl limit SIZE` changes the memory without the file.\n"
	       "SIGTERM answers what has arrived and ends. What this donor holds is then gone.\n");
}

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "memory", required_argument, NULL, 'm' },
	{ "listen", required_argument, NULL, 'l' },
	{ "domain", required_argument, NULL, 'd' },
	{ "id-file", required_argument, NULL, 'i' },
	{ "control", required_argument, NULL, 'C' },
	{ "session-quota", required_argument, NULL, 'q' },
	{ "lock", required_argument, NULL, 'L' },
	{ "huge", required_argument, NULL, 'H' },
	{ "pressure", required_argument, NULL, 'p' },
	{ "min-available", required_argument, NULL, 'a' },
	{ "reclaim-wait", required_argument, NULL, 'w' },
	{ "self-drop", required_argument, NULL, 's' },
	{ "log-level", required_argument, NULL, 'v' },
	{ "check", no_argument, NULL, 'k' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

static const char shorts[] = "c:m:l:d:i:C:q:L:H:p:a:w:s:v:Vh";

static const char *key_of(int option)
{
	switch (option) {
	case 'm': return "memory";
	case 'l': return "listen";
	case 'd': return "domain";
	case 'i': return "id_file";
	case 'C': return "control";
	case 'q': return "session_quota";
	case 'L': return "lock";
	case 'H': return "huge";
	case 'p': return "pressure";
	case 'a': return "min_available";
	case 'w': return "reclaim_wait";
	case 's': return "self_drop";
	case 'v': return "log_level";
	default: return NULL;
	}
}

static enum settings_verdict wrong(const char *text)
{
	fprintf(stderr, "memx-server: %s\n", text);
	return SETTINGS_WRONG;
}

static enum settings_verdict missing(const char *path, u32 line, const char *key, const char *accepted)
{
	if (path)
		fprintf(stderr, "%s:%u: ", path, line ? line : 1);
	else
		fputs("memx-server: command line: ", stderr);
	fprintf(stderr, "[server] %s: not given; accepted: %s\n", key, accepted);
	return SETTINGS_WRONG;
}

/* First round over the arguments: which file, and the options that end everything. */
static enum settings_verdict find_file(int argc, char **argv, const char **path, bool *only_check)
{
	int opt;

	while ((opt = getopt_long(argc, argv, shorts, options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			*path = optarg;
			break;
		case 'k':
			*only_check = true;
			break;
		case 'V':
			printf("memx-server %s, protocol %d\n", MEMX_VERSION, MEMX_PROTO_MAX);
			return SETTINGS_DONE;
		case 'h':
			help();
			return SETTINGS_DONE;
		case '?':
			fprintf(stderr, "Try \"memx-server --help\".\n");
			return SETTINGS_WRONG;
		default:
			break;
		}
	}
	if (optind == argc)
		return SETTINGS_GO;
	fprintf(stderr, "memx-server: unexpected argument %s; see --help\n", memx_quoted(argv[optind]));
	return SETTINGS_WRONG;
}

enum settings_verdict settings_from_args(struct settings *s, const char **config_path, int argc, char **argv)
{
	char err[MEMX_CONF_ERR], line[MEMX_CONF_ERR + 32];
	bool only_check = false;
	enum settings_verdict verdict;
	int opt;

	*config_path = NULL;
	verdict = find_file(argc, argv, config_path, &only_check);
	if (verdict != SETTINGS_GO) {
		defaults(s);
		return verdict;
	}
	if (load(s, *config_path, true, err, sizeof(err))) {
		fprintf(stderr, "%s\n", err);
		return SETTINGS_WRONG;
	}
	optind = 1;
	while ((opt = getopt_long(argc, argv, shorts, options, NULL)) != -1) {
		if (key_of(opt) && memx_conf_set(keys, s, key_of(opt), optarg, err, sizeof(err))) {
			snprintf(line, sizeof(line), "command line: %s", err);
			return wrong(line);
		}
	}
	if (check(s, s, err, sizeof(err))) {
		snprintf(line, sizeof(line), "command line: %s", err);
		return wrong(line);
	}
	if (!s->memory)
		return missing(*config_path, s->line, "memory", "a size such as 4G, by --memory or as memory = in [server]");
	if (!s->listen.port && !s->listen.len && !*s->listen.host)
		return missing(*config_path, s->line, "listen", "ADDR:PORT, by --listen or as listen = in [server]");
	if (only_check && !s->listen.len) {
		snprintf(line, sizeof(line), "listen: \"%.60s\": %s", s->listen.host, memx_addr_error(-EAGAIN));
		return wrong(line);
	}
	if (only_check) {
		printf("memx-server: settings are right\n");
		return SETTINGS_DONE;
	}
	return SETTINGS_GO;
}
