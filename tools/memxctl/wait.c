// SPDX-License-Identifier: GPL-2.0-only
/*
 * wait.c - memxctl --wait: asks until nothing is left to do. Where nothing goes on it says why, and what can be done: once, and
 * waits on, if that may change by itself; or it ends, if somebody has to do something. What was ordered stays in force either way.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "wait.h"

enum {
	PAUSE_MS = 500,			/* no daemon tells of events */
	PATIENCE_S = 3,			/* so long nothing may go on before that is said */
};

struct waiting {
	const char *path, *command, *donor;
	int64_t mark[4], copied;	/* goes on: one of these changes */
	time_t since;
	bool said;
};

static int64_t number(const json_t *data, const char *key)
{
	return json_integer_value(json_object_get(data, key));
}

static time_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Is there nothing left to do? @data: NULL for a donor that is no longer in the configuration, and so holds nothing. */
static bool is_finished(const struct waiting *w, const json_t *data)
{
	const char *state = json_string_value(json_object_get(data, "state"));

	if (!strcmp(w->command, "limit"))
		return !number(data, "pages_asked");
	if (!w->donor)
		return !number(data, "remaining") && !number(data, "degraded_extents");
	return !number(data, "extents") && (!state || strcmp(state, "emptying"));
}

static bool goes_on(struct waiting *w, const json_t *data)
{
	static const char *const keys[][4] = {
		{ "extents", "pages_used", NULL },
		{ "remaining", "remaining_bytes", "replicas_repaired", "repair_pages" },
		{ "pages_asked", "pages_used", NULL },
	};
	const char *const *key = keys[w->donor ? 0 : !strcmp(w->command, "repair") ? 1 : 2];
	bool changed = false;
	int i;

	for (i = 0; i < 4 && key[i]; i++) {
		changed |= w->mark[i] != number(data, key[i]);
		w->mark[i] = number(data, key[i]);
	}
	return changed;
}

/* Asks how it stands with repair. *@rate: -1 where nobody knows. True: pages have been copied since the last call. */
static bool copies(struct waiting *w, int64_t *rate)
{
	const json_t *data;
	json_t *reply;
	bool changed;

	*rate = -1;
	if (!strcmp(w->command, "limit") || ask(w->path, json_pack("{s:s}", "cmd", "repair"), &reply))
		return false;
	data = json_object_get(reply, "data");
	changed = w->copied != number(data, "repair_pages");
	w->copied = number(data, "repair_pages");
	*rate = number(data, "rate");
	json_decref(reply);
	return changed;
}

/* Nothing goes on. Says why; true: and nothing will before somebody does something about it. */
static bool explain(const struct waiting *w, const json_t *data, int64_t rate)
{
	const char *why = json_string_value(json_object_get(data, "reclaim_refused"));
	const char *state = json_string_value(json_object_get(data, "state"));
	int64_t left = number(data, w->donor ? "extents" : "remaining"), stuck = number(data, "stuck_extents");

	fprintf(stderr, "memxctl: nothing has gone on for %d s: ", PATIENCE_S);
	if (!strcmp(w->command, "limit")) {
		fprintf(stderr, "%s; waiting on, Ctrl-C ends no more than that\n", why && *why ? why : "the relays free nothing");
		return false;
	}
	if (w->donor && state && (!strcmp(state, "usable") || !strcmp(state, "draining"))) {
		fprintf(stderr, "donor %s is not being emptied any more: the order was taken back, or the relay started anew\n", w->donor);
		return true;
	}
	if (!rate) {
		fprintf(stderr, "the relay's repair_rate is 0, nothing is copied; set it and reload the relay\n");
		return true;
	}
	if (left && stuck >= left) {
		fprintf(stderr, "no donor that is there, in another failure domain if there are enough, has room for %" PRId64
			" extents; add memory or a donor%s, it goes on by itself then\n", left,
			w->donor ? ", or take the drain back (undrain)" : "");
		return true;
	}
	if (w->donor && !left) {
		fprintf(stderr, "what donor %s holds yet, %" PRId64 " pages, belongs to no guest that is attached to this relay: "
			"\"memxctl sessions\" asked of the donor (-s its socket) lists it\n", w->donor, number(data, "pages_used"));
		return true;
	}
	if (number(data, "wait_seconds"))
		fprintf(stderr, "a donor is away, and counts as dead in %" PRId64 " s; its copies are made elsewhere then",
			number(data, "wait_seconds"));
	else if (number(data, "waiting_extents"))
		fprintf(stderr, "the last copy of %" PRId64 " extents lies at a donor that is away", number(data, "waiting_extents"));
	else
		fprintf(stderr, "%" PRId64 " extents are left, %" PRId64 " of them without room elsewhere; a guest that is paused holds up "
			"its own; the relay's log tells more", left, stuck);
	fprintf(stderr, "; waiting on, Ctrl-C ends no more than that\n");
	return false;
}

/* What the answer says of what is waited for, for the caller to release. */
static json_t *pick(const struct waiting *w, json_t *reply)
{
	json_t *data = json_object_get(reply, "data"), *found = w->donor ? NULL : json_incref(data), *o;
	size_t i;

	if (w->donor) {
		json_array_foreach(data, i, o) {
			const char *name = json_string_value(json_object_get(o, "name"));

			if (name && !strcmp(name, w->donor))
				found = json_incref(o);
		}
	}
	json_decref(reply);
	return found;
}

int wait_finished(const char *path, const char *command, const char *donor, json_t **last)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	struct waiting w = { .path = path, .command = command, .donor = donor, .since = seconds() };
	int64_t rate = -1;
	json_t *reply;
	int status;

	for (;;) {
		*last = NULL;
		status = ask(path, json_pack("{s:s}", "cmd", donor ? "donors" : command), &reply);
		if (status)
			return status;
		*last = pick(&w, reply);
		if (is_finished(&w, *last))
			return 0;
		/* Of large extents, or at a low rate, none ends for a while, and their pages are copied all the same. */
		if (goes_on(&w, *last) || (seconds() - w.since >= PATIENCE_S && copies(&w, &rate))) {
			w.since = seconds();
			w.said = false;
		} else if (!w.said && seconds() - w.since >= PATIENCE_S) {
			w.said = true;
			if (explain(&w, *last, rate)) {
				json_decref(*last);
				*last = NULL;
				return EXIT_STUCK;
			}
		}
		json_decref(*last);
		nanosleep(&pause, NULL);
	}
}
