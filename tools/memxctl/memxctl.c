// SPDX-License-Identifier: GPL-2.0-only
/*
 * memxctl.c - asks a relay or a server how it is, for people and for programs.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memx-version.h"
#include "table.h"
#include "user/ctl.h"
#include "user/text.h"
#include "wait.h"

enum { TIMEOUT_MS = 10000 };

static const char *const sockets[] = { "/run/memx-relay/relay.sock", "/run/memx-server/server.sock" };

static void usage(FILE *to)
{
	fprintf(to,
		"usage: memxctl [--socket PATH] [--json] [--wait] COMMAND\n"
		"\n"
		"Asks a running memx-dom0-relay or memx-server how it is.\n"
		"\n"
		"Commands\n"
		"  status      what the daemon is, how it is, its counters          relay, server\n"
		"  guests      guests that are connected: state, quota, refusals    relay\n"
		"  donors      donors: state, memory, latency, why one is not used  relay\n"
		"  sessions    swap areas: owner, epoch, pages, attached or not     relay, server\n"
		"  repair      copies that are missing, what is left to copy, how long it takes  relay\n"
		"  drain DONOR begins to move all copies away from a donor, while guests run. \"donors\"\n"
		"              shows it as emptying, with the extents that are left there, and as emptied\n"
		"              when it holds nothing; --wait waits for that. Lasts until the relay restarts:\n"
		"              for good, write drain = yes in its configuration       relay\n"
		"  undrain DONOR\n"
		"              takes that back                              relay\n"
		"  limit [SIZE|default]\n"
		"              the memory that a server gives: shows it, or sets it until its next start (512M, 4G).\n"
		"              What is in use beyond it is asked back from the relays. default: as configured.\n"
		"              Guests get a little less, shown as \"memory limit\": the server's own tables count too\n"
		"                                                               server\n"
		"  peers       relays that are connected                            server\n"
		"  session free VM SESSION\n"
		"              gives a session's memory back, for a guest that will not come back;\n"
		"              VM and SESSION as \"sessions\" shows them. Its pages are gone then. relay, server\n"
		"\n"
		"Options\n"
		"  -s, --socket PATH  control socket; without it $MEMX_CONTROL, and without that\n"
		"                     %s,\n"
		"                     or %s where there is no relay,\n"
		"                     and for limit and peers; a user's own server: below $XDG_RUNTIME_DIR\n"
		"  -j, --json         print the answer as JSON: sizes in pages of 4 KiB or bytes, times in ns\n"
		"      --wait         repair, drain, limit: return when nothing is left to do. Says why where\n"
		"                     nothing goes on; Ctrl-C ends the waiting, not what was ordered\n"
		"      --force        session free: also while it is attached, or open at a server\n"
		"      --version      print the version\n"
		"      --help         print this\n"
		"\n"
		"Exit status\n"
		"  0  answered\n"
		"  1  the daemon refused the command, and said why\n"
		"  2  mistake in the command line\n"
		"  3  no daemon reached: not running, no permission, or no answer within %d s\n"
		"  4  --wait: it does not go on before somebody does what was said, add memory for instance\n",
		sockets[0], sockets[1], TIMEOUT_MS / 1000);
}

/* ---- tables ---- */

static const struct column donor_columns[] = {
	{ "DONOR", "name", COL_TEXT },
	{ "STATE", "state", COL_TEXT },
	{ "DOMAIN", "domain", COL_TEXT },
	{ "ADDRESS", "address", COL_TEXT },
	{ "TOTAL", "pages_total", COL_PAGES },
	{ "RESERVED", "pages_reserved", COL_PAGES },
	{ "USED", "pages_used", COL_PAGES },
	{ "EXTENTS", "extents", COL_NUMBER },
	{ "ASKED", "pages_asked", COL_PAGES },
	{ "MOVING", "moving", COL_NUMBER },
	{ "LATENCY", "latency_ns", COL_TIME },
	{ "STORED", "stores", COL_NUMBER },
	{ "FETCHED", "fetches", COL_NUMBER },
	{ "LOSSES", "losses", COL_NUMBER },
	{ NULL, NULL, COL_TEXT },
};

static const struct column guest_columns[] = {
	{ "GUEST", "name", COL_TEXT },
	{ "DOMID", "domid", COL_NUMBER },
	{ "UUID", "uuid", COL_TEXT },
	{ "STATE", "state", COL_TEXT },
	{ "QUOTA", "quota_pages", COL_PAGES },
	{ "LANES", "lanes", COL_NUMBER },
	{ "STAGED", "staging_bytes", COL_BYTES },
	{ "PENDING", "unanswered", COL_NUMBER },
	{ NULL, NULL, COL_TEXT },
};

static const struct column relay_session_columns[] = {
	{ "GUEST", "name", COL_TEXT },
	{ "VM", "vm", COL_TEXT },
	{ "SESSION", "session", COL_TEXT },
	{ "ATTACHED", "attached", COL_BOOL },
	{ "EPOCH", "epoch", COL_NUMBER },
	{ "SIZE", "slots", COL_PAGES },
	{ "COPIES", "replicas", COL_NUMBER },
	{ "EXTENTS", "extents", COL_NUMBER },
	{ "DEGRADED", "degraded_extents", COL_NUMBER },
	{ "STORED", "stores", COL_NUMBER },
	{ "FETCHED", "fetches", COL_NUMBER },
	{ "DISCARDED", "discards", COL_NUMBER },
	{ NULL, NULL, COL_TEXT },
};

static const struct column donor_session_columns[] = {
	{ "VM", "vm", COL_TEXT },
	{ "SESSION", "session", COL_TEXT },
	{ "EPOCH", "epoch", COL_NUMBER },
	{ "SIZE", "slots", COL_PAGES },
	{ "RESERVED", "pages_reserved", COL_PAGES },
	{ "USED", "pages_used", COL_PAGES },
	{ "EXTENTS", "extents", COL_NUMBER },
	{ "RELAYS", "relays", COL_NUMBER },
	{ "SILENT", "silent_ns", COL_TIME },
	{ NULL, NULL, COL_TEXT },
};

static const struct column peer_columns[] = {
	{ "PEER", "peer", COL_TEXT },
	{ "GREETED", "greeted", COL_BOOL },
	{ "SESSIONS", "sessions", COL_NUMBER },
	{ "FRAMES", "frames", COL_NUMBER },
	{ "QUEUED", "queued_bytes", COL_BYTES },
	{ NULL, NULL, COL_TEXT },
};

static const struct field status_fields[] = {
	{ "role", "role", COL_TEXT },
	{ "version", "version", COL_TEXT },
	{ "id", "id", COL_TEXT },
	{ "instance", "instance", COL_TEXT },
	{ "failure domain", "domain", COL_TEXT },
	{ "listens at", "listen", COL_TEXT },
	{ "up for", "uptime_ns", COL_TIME },
	{ "up for", "uptime_s", COL_SECONDS },
	{ "shutting down", "draining", COL_BOOL },
	{ "guests attached", "attached", COL_NUMBER },
	{ "guests connected", "links", COL_NUMBER },
	{ "sessions", "sessions", COL_NUMBER },
	{ "donors", "donors", COL_NUMBER },
	{ "donors up", "donors_up", COL_NUMBER },
	{ "connections", "connections", COL_NUMBER },
	{ "extents", "extents", COL_NUMBER },
	{ "extents degraded", "degraded_extents", COL_NUMBER },
	{ "extents waiting", "waiting_extents", COL_NUMBER },
	{ "extents to repair", "repair_extents", COL_NUMBER },
	{ "extents moving", "moving_extents", COL_NUMBER },
	{ "memory", "pages_total", COL_PAGES },
	{ "memory limit", "pages_limit", COL_PAGES },
	{ "host in want", "pressed", COL_BOOL },
	{ "memory asked back", "pages_asked", COL_PAGES },
	{ "why not given", "reclaim_refused", COL_TEXT },
	{ "memory reserved", "pages_reserved", COL_PAGES },
	{ "memory used", "pages_used", COL_PAGES },
	{ "memory locked", "locked", COL_BOOL },
	{ NULL, NULL, COL_TEXT },
};

static const struct field limit_fields[] = {
	{ "memory limit", "pages_limit", COL_PAGES },
	{ "configured", "pages_configured", COL_PAGES },
	{ "given now", "pages_total", COL_PAGES },
	{ "host in want", "pressed", COL_BOOL },
	{ "memory used", "pages_used", COL_PAGES },
	{ "memory asked back", "pages_asked", COL_PAGES },
	{ "why not given", "reclaim_refused", COL_TEXT },
	{ NULL, NULL, COL_TEXT },
};

static const struct field repair_fields[] = {
	{ "extents to copy", "remaining", COL_NUMBER },
	{ "bytes to copy", "remaining_bytes", COL_BYTES },
	{ "without room", "stuck_extents", COL_NUMBER },
	{ "moving", "moving_extents", COL_NUMBER },
	{ "time left", "seconds_left", COL_SECONDS },
	{ "rate, per second", "rate", COL_BYTES },
	{ "extents degraded", "degraded_extents", COL_NUMBER },
	{ "extents waiting", "waiting_extents", COL_NUMBER },
	{ "extents lost", "extents_lost", COL_NUMBER },
	{ "copies rebuilt", "replicas_repaired", COL_NUMBER },
	{ "times without room", "no_repair_room", COL_NUMBER },
	{ NULL, NULL, COL_TEXT },
};

/* Lines below a table: why something is not as it should be. */
static void print_reasons(json_t *list, const char *what, const char *good_state)
{
	size_t i;
	json_t *o;

	json_array_foreach(list, i, o) {
		const char *name = json_string_value(json_object_get(o, "name"));
		const char *state = json_string_value(json_object_get(o, "state"));
		const char *text = json_string_value(json_object_get(o, "state_text"));
		const char *reason = json_string_value(json_object_get(o, "reason"));

		if (!state || !strcmp(state, good_state))
			continue;
		if (text || (reason && *reason))
			printf("%s %s: %s%s%s\n", what, name ? name : "?", text ? text : state, reason && *reason ? "; last: " : "",
			       reason ? reason : "");
	}
}

/* What a drain has begun, or with --wait ended. */
static void print_drain(json_t *data)
{
	const char *name = json_string_value(json_object_get(data, "donor"));
	const char *state = json_string_value(json_object_get(data, "state"));

	if (!json_is_true(json_object_get(data, "drain")))
		printf("donor %s takes new extents again; what was moved away comes back only as far as room is uneven\n", name);
	else if (state && !strcmp(state, "emptied"))
		printf("donor %s is emptied: it holds nothing\n", name);
	else if (!json_integer_value(json_object_get(data, "extents")))
		printf("donor %s holds none of the attached guests' extents (state: %s)\n", name, state ? state : "?");
	else
		printf("begun: donor %s has %" JSON_INTEGER_FORMAT " extents that move elsewhere; \"memxctl --wait drain %s\" "
		       "returns when they have, \"memxctl donors\" shows how many are left\n",
		       name, json_integer_value(json_object_get(data, "extents")), name);
}

static void print_people(const char *command, json_t *data)
{
	if (!strcmp(command, "status")) {
		table_fields(data, status_fields);
		table_counters(json_object_get(data, "counters"));
	} else if (!strcmp(command, "limit")) {
		table_fields(data, limit_fields);
	} else if (!strcmp(command, "guests")) {
		table_list(data, guest_columns, "no guests are connected");
		print_reasons(data, "guest", "attached");
	} else if (!strcmp(command, "donors")) {
		table_list(data, donor_columns, "no donors are configured");
		print_reasons(data, "donor", "usable");
	} else if (!strcmp(command, "sessions")) {
		bool relay = json_object_get(json_array_get(data, 0), "attached") != NULL;

		table_list(data, relay ? relay_session_columns : donor_session_columns, "no sessions");
	} else if (!strcmp(command, "repair")) {
		size_t i;
		json_t *o;

		table_fields(data, repair_fields);
		json_array_foreach(json_object_get(data, "dead_donors"), i, o) {
			printf("donor %s is away\n", json_string_value(o));
		}
	} else if (!strcmp(command, "drain")) {
		print_drain(data);
	} else if (!strcmp(command, "peers")) {
		table_list(data, peer_columns, "no relays are connected");
	} else {
		puts("done");
	}
}

/* ---- the command ---- */

/* Where a server listens: a user's own, where there is no other. */
static const char *server_socket(void)
{
	static char own[108];		/* what fits a socket's address */
	const char *base = getenv("XDG_RUNTIME_DIR");

	if (!base || *base != '/' || !access(sockets[1], F_OK) ||
	    (size_t)snprintf(own, sizeof(own), "%s/memx-server/server.sock", base) >= sizeof(own) || access(own, F_OK) < 0)
		return sockets[1];
	return own;
}

static const char *default_socket(const char *command)
{
	const char *server = server_socket(), *told = getenv("MEMX_CONTROL");

	if (told && *told)
		return told;
	if (!strcmp(command, "limit") || !strcmp(command, "peers"))
		return server;
	return access(sockets[0], F_OK) < 0 && !access(server, F_OK) ? server : sockets[0];
}

static int mistake(const char *what, const char *why)
{
	fprintf(stderr, "memxctl: %s: %s; see memxctl --help\n", what, why);
	return EXIT_USAGE;
}

/* The request for the words of the command line, or NULL with the exit status set. */
static json_t *make_request(int argc, char **argv, bool force, int *status)
{
	static const char *const plain[] = { "status", "guests", "donors", "sessions", "repair", "peers", NULL };

	if (!argc) {
		usage(stderr);
		*status = EXIT_USAGE;
		return NULL;
	}
	if (!strcmp(argv[0], "session")) {
		if (argc == 4 && !strcmp(argv[1], "free"))
			return json_pack("{s:s, s:s, s:s, s:b}", "cmd", "session-free", "vm", argv[2], "session", argv[3],
					 "force", force);
		*status = mistake("session", "accepted: session free VM SESSION");
		return NULL;
	}
	if (!strcmp(argv[0], "limit")) {
		uint64_t bytes;

		if (argc == 1)
			return json_pack("{s:s}", "cmd", "limit");
		if (argc == 2 && !strcmp(argv[1], "default"))
			return json_pack("{s:s, s:b}", "cmd", "limit", "default", 1);
		if (argc == 2 && !memx_parse_size(argv[1], &bytes) && bytes <= INT64_MAX)
			return json_pack("{s:s, s:I}", "cmd", "limit", "bytes", (json_int_t)bytes);
		*status = mistake("limit", "accepted: a size such as 512M or 4G, or default");
		return NULL;
	}
	if (!strcmp(argv[0], "drain") || !strcmp(argv[0], "undrain")) {
		if (argc == 2)
			return json_pack("{s:s, s:s, s:b}", "cmd", "drain", "donor", argv[1], "on", *argv[0] == 'd');
		*status = mistake(argv[0], "accepted: the name of one donor");
		return NULL;
	}
	for (int i = 0; plain[i]; i++) {
		if (strcmp(argv[0], plain[i]))
			continue;
		if (argc == 1)
			return json_pack("{s:s}", "cmd", plain[i]);
		*status = mistake(argv[1], "nothing is accepted behind this command");
		return NULL;
	}
	*status = mistake(argv[0], "no such command");
	return NULL;
}

int ask(const char *path, json_t *request, json_t **reply)
{
	char err[MEMX_CTL_ERR];
	const char *why;

	*reply = memx_ctl_call(path, request, TIMEOUT_MS, err);
	if (!*reply) {
		fprintf(stderr, "memxctl: %s\n", err);
		return EXIT_UNREACHABLE;
	}
	if (json_is_true(json_object_get(*reply, "ok")))
		return 0;
	why = json_string_value(json_object_get(*reply, "error"));
	fprintf(stderr, "memxctl: %s\n", why ? why : "refused without a reason");
	json_decref(*reply);
	*reply = NULL;
	return EXIT_REFUSED;
}

static int run(const char *path, json_t *request, bool json, bool wait)
{
	const char *donor = json_string_value(json_object_get(request, "donor"));
	bool off = json_is_false(json_object_get(request, "on"));
	char command[32], name[64];
	json_t *reply = NULL, *data, *last;
	int status;

	snprintf(command, sizeof(command), "%s", json_string_value(json_object_get(request, "cmd")));
	snprintf(name, sizeof(name), "%s", donor ? donor : "");
	if (wait && (off || (strcmp(command, "repair") && strcmp(command, "drain") && strcmp(command, "limit"))))
		return mistake("--wait", "goes with repair, drain and limit");
	/* A drain or limit is asked for, then waited for; a repair goes on by itself. What is shown is what is when that has ended. */
	status = ask(path, request, &reply);
	if (!status && wait) {
		status = wait_finished(path, command, *name ? name : NULL, &last);
		if (!status && !last) {
			printf(json ? "null\n" : "donor %s is no longer in the configuration\n", name);
			json_decref(reply);
			return 0;
		}
		if (!status && *name)
			json_object_update_existing(json_object_get(reply, "data"), last);
		else if (!status)
			json_object_set(reply, "data", last);
		json_decref(last);
	}
	if (status) {
		json_decref(reply);
		return status;
	}
	data = json_object_get(reply, "data");
	if (json) {
		json_dumpf(data, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
		putchar('\n');
	} else {
		print_people(command, data);
	}
	json_decref(reply);
	return fflush(stdout) ? EXIT_UNREACHABLE : 0;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "force", no_argument, NULL, 'f' },
		{ "wait", no_argument, NULL, 'w' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ .name = NULL },
	};
	const char *path = NULL;
	bool json = false, force = false, wait = false;
	json_t *request;
	int opt, status = 0;

	while ((opt = getopt_long(argc, argv, "s:jh", longs, NULL)) >= 0) {
		switch (opt) {
		case 's':
			path = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'f':
			force = true;
			break;
		case 'w':
			wait = true;
			break;
		case 'V':
			puts("memxctl " MEMX_VERSION);
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			return EXIT_USAGE;
		}
	}
	request = make_request(argc - optind, argv + optind, force, &status);
	if (!request)
		return status;
	return run(path ? path : default_socket(argv[optind]), request, json, wait);
}
