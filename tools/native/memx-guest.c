// SPDX-License-Identifier: GPL-2.0-only
/*
 * memx-guest.c - a native guest that is told what to do, one command per line on stdin, one answer per line on stdout.
 *
 * For tests and fault campaigns, which drive several of them beside relay and servers. "help" lists the commands. An answer
 * is "ok key=value..." or "error TEXT". The guest ends with its input, as a domain that was shut down.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <user/text.h>

#include "churn.h"
#include "native.h"
#include "pattern.h"
#ifdef WATCHED
#include "watched.h"
#endif

#define MS 1000000ULL

struct program {
	struct native *guest;
	struct churn *churn;
	u64 salt;
	void *pages;			/* MEMX_MAX_PAGES */
};

static void answer(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void answer(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

/* ---- commands: the numbers that follow on the line are in @arg ---- */

enum { ARGS = 8 };

static void cmd_wait(struct program *p, const u64 *arg)
{
	int err = native_wait(p->guest, MEMX_A_ATTACHED, arg[0] * MS);
	char why[160];

	native_reason(p->guest, why, sizeof(why));
	if (err)
		answer("error %s: %s", strerror(-err), why);
	else
		answer("ok slots=%u epoch=%llu", native_slots(p->guest), (unsigned long long)native_epoch(p->guest));
}

static void cmd_status(struct program *p, const u64 *arg __attribute__((unused)))
{
	struct memx_agreed agreed = native_agreed(p->guest);
	char why[160], id[33];
	u8 session[16];

	native_session(p->guest, session);
	native_reason(p->guest, why, sizeof(why));
	answer("ok state=%s epoch=%llu slots=%u order=%u replicas=%u requests=%u pages=%u session=%s bad_pages=%llu reason=\"%s\"",
	       memx_attach_state_name(native_state(p->guest)), (unsigned long long)native_epoch(p->guest), agreed.slots,
	       agreed.extent_order, agreed.replicas, agreed.lane_requests, agreed.lane_pages,
	       memx_format_hex(id, session, 16), (unsigned long long)native_bad_pages(p->guest), why);
}

static void cmd_fill(struct program *p, const u64 *arg)
{
	u32 done = 0;

	for (u32 n; done < arg[1]; done += n) {
		int err;

		n = arg[1] - done < MEMX_MAX_PAGES ? (u32)(arg[1] - done) : MEMX_MAX_PAGES;
		for (u32 i = 0; i < n; i++)
			pattern_fill((u8 *)p->pages + (size_t)i * MEMX_PAGE_SIZE, p->salt, arg[0] + done + i, arg[2], false);
		err = native_store(p->guest, (u32)arg[0] + done, p->pages, n);
		if (err) {
			answer("error slot %llu: %s", (unsigned long long)arg[0] + done, strerror(-err));
			return;
		}
	}
	answer("ok pages=%u", done);
}

static void cmd_verify(struct program *p, const u64 *arg)
{
	char says[128];
	u32 done = 0;

	for (u32 n; done < arg[1]; done += n) {
		int err;

		n = arg[1] - done < MEMX_MAX_PAGES ? (u32)(arg[1] - done) : MEMX_MAX_PAGES;
		memset(p->pages, 0xee, n * (size_t)MEMX_PAGE_SIZE);
		err = native_fetch(p->guest, (u32)arg[0] + done, p->pages, n);
		if (err) {
			answer("error slot %llu or behind: %s", (unsigned long long)arg[0] + done, strerror(-err));
			return;
		}
		for (u32 i = 0; i < n; i++) {
			const u8 *page = (u8 *)p->pages + (size_t)i * MEMX_PAGE_SIZE;

			if (pattern_verify(page, p->salt, arg[0] + done + i, arg[2], false))
				continue;
			pattern_describe(page, says, sizeof(says));
			answer("error slot %llu: wrong bytes: %s", (unsigned long long)arg[0] + done + i, says);
			return;
		}
	}
	answer("ok pages=%u", done);
}

static void cmd_discard(struct program *p, const u64 *arg)
{
	for (u64 i = 0; i < arg[1]; i++) {
		int err = native_discard(p->guest, (u32)(arg[0] + i));

		if (err) {
			answer("error slot %llu: %s", (unsigned long long)arg[0] + i, strerror(-err));
			return;
		}
	}
	answer("ok slots=%llu", (unsigned long long)arg[1]);
}

static void cmd_absent(struct program *p, const u64 *arg)
{
	for (u64 i = 0; i < arg[1]; i++) {
		int err = native_fetch(p->guest, (u32)(arg[0] + i), p->pages, 1);

		if (err != -ENODATA) {
			answer("error slot %llu: %s", (unsigned long long)arg[0] + i, err ? strerror(-err) : "holds a page");
			return;
		}
	}
	answer("ok slots=%llu", (unsigned long long)arg[1]);
}

static void cmd_churn(struct program *p, const u64 *arg)
{
	struct churn_config config = {
		.seed = arg[0], .salt = p->salt, .first = (u32)arg[1], .count = (u32)arg[2],
		.depth = arg[3] ? (u32)arg[3] : 64, .store_part = arg[4] ? (u32)arg[4] : 50, .max_run = arg[5] ? (u32)arg[5] : 32,
		.rate = (u32)arg[6], .fill = arg[7],
	};

	if (!p->churn) {
		if (!arg[2] || arg[1] + arg[2] > native_slots(p->guest)) {
			answer("error slots beyond the %u that there are", native_slots(p->guest));
			return;
		}
		p->churn = churn_new(p->guest, &config);
		if (!p->churn) {
			answer("error no memory");
			return;
		}
	}
	churn_start(p->churn);
	answer("ok");
}

static void say_stat(struct program *p, bool clear)
{
	struct churn_stat s;

	churn_stat(p->churn, &s, clear);
	answer("ok stores=%llu fetches=%llu discards=%llu wrong=%llu lost=%llu errors=%llu unread=%llu nospace=%llu longest_us=%llu "
	       "longest_fetch_us=%llu in_flight=%llu oldest_us=%llu",
	       (unsigned long long)s.stores, (unsigned long long)s.fetches, (unsigned long long)s.discards,
	       (unsigned long long)s.wrong, (unsigned long long)s.lost, (unsigned long long)s.errors,
	       (unsigned long long)s.unread, (unsigned long long)s.nospace, (unsigned long long)s.longest_ns / 1000,
	       (unsigned long long)s.longest_fetch_ns / 1000, (unsigned long long)s.in_flight,
	       (unsigned long long)s.oldest_ns / 1000);
}

static void cmd_stat(struct program *p, const u64 *arg)
{
	if (p->churn)
		say_stat(p, arg[0]);
	else
		answer("error no churn");
}

static void cmd_stop(struct program *p, const u64 *arg __attribute__((unused)))
{
	if (!p->churn) {
		answer("error no churn");
		return;
	}
	churn_stop(p->churn);
	say_stat(p, false);
}

static void cmd_check(struct program *p, const u64 *arg __attribute__((unused)))
{
	char text[200];
	u64 bad;

	if (!p->churn) {
		answer("error no churn");
		return;
	}
	bad = churn_check(p->churn, text, sizeof(text));
	if (bad)
		answer("error %llu slots are not what they must be; %s", (unsigned long long)bad, text);
	else
		answer("ok");
}

#ifdef WATCHED
static void cmd_watch(struct program *p, const u64 *arg __attribute__((unused)))
{
	int err = watched_start(p->guest);

	if (err)
		answer("error %s", strerror(-err));
	else
		answer("ok");
}

static void cmd_reads(struct program *p __attribute__((unused)), const u64 *arg __attribute__((unused)))
{
	answer("ok reads=%llu", (unsigned long long)watched_reads());
}
#endif

static void cmd_counters(struct program *p, const u64 *arg __attribute__((unused)))
{
	printf("ok");
#define MEMX_X(name, text) printf(" " #name "=%llu", (unsigned long long)native_counter(p->guest, MEMX_C_##name));
	MEMX_COUNTERS(MEMX_X)
#undef MEMX_X
	answer("%s", "");
}

static void cmd_records(struct program *p, const u64 *arg __attribute__((unused)))
{
	struct memx_agreed agreed = native_agreed(p->guest);
	u32 extents = agreed.slots ? memx_extents(agreed.slots, agreed.extent_order) : 0;
	char id[33];

	printf("ok");
	for (u32 i = 0; i < extents; i++) {
		struct memx_record rec = native_record(p->guest, i);

		if (!rec.generation)
			continue;
		printf(" %u:%llu", i, (unsigned long long)memx_le64(rec.generation));
		for (u32 r = 0; r < rec.replicas && r < MEMX_MAX_REPLICAS; r++)
			printf(":%s/%u", memx_format_hex(id, rec.replica[r].donor, 16), rec.replica[r].state);
	}
	answer("%s", "");
}

static void cmd_detach(struct program *p, const u64 *arg)
{
	int err = native_detach(p->guest, arg[0] * MS);

	if (err)
		answer("error %s", strerror(-err));
	else
		answer("ok");
}

static void cmd_resume(struct program *p, const u64 *arg __attribute__((unused)))
{
	native_resume(p->guest);
	answer("ok");
}

static void cmd_help(struct program *p, const u64 *arg);

static const struct {
	const char *name, *args;
	void (*run)(struct program *p, const u64 *arg);
} commands[] = {
	{ "wait", "MS: until attached", cmd_wait },
	{ "status", "", cmd_status },
	{ "fill", "FIRST COUNT NUMBER: stores pages that say their slot and NUMBER", cmd_fill },
	{ "verify", "FIRST COUNT NUMBER: fetches them", cmd_verify },
	{ "discard", "FIRST COUNT", cmd_discard },
	{ "absent", "FIRST COUNT: these slots hold nothing", cmd_absent },
	{ "churn", "SEED FIRST COUNT [DEPTH [STORE_PERCENT [MAX_RUN [RATE [1]]]]]: verified random load, in the background; "
	  "1: fills first", cmd_churn },
	{ "stat", "[1]: of the churn; 1 forgets the longest stall", cmd_stat },
	{ "stop", "the churn, when all has ended", cmd_stop },
	{ "check", "every slot of the stopped churn", cmd_check },
#ifdef WATCHED
	{ "watch", "what is read in the rings changes from now on as soon as it was read", cmd_watch },
	{ "reads", "that were caught so", cmd_reads },
#endif
	{ "counters", "of the engine", cmd_counters },
	{ "records", "EXTENT:GENERATION:DONOR/STATE...", cmd_records },
	{ "detach", "MS: frees the session", cmd_detach },
	{ "resume", "as after a suspend", cmd_resume },
	{ "help", "", cmd_help },
};

static void cmd_help(struct program *p __attribute__((unused)), const u64 *arg __attribute__((unused)))
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		printf("%s %s\n", commands[i].name, commands[i].args);
	answer("end crash|shutdown|suspend: ends the guest");
}

/* False: the guest is to end, as *@end says. */
static bool command(struct program *p, char *line, enum native_end *end)
{
	char *save, *name = strtok_r(line, " \n", &save), *word;
	u64 arg[ARGS] = { 0 };
	int args = 0;

	if (!name)
		return true;
	word = strtok_r(NULL, " \n", &save);
	if (!strcmp(name, "end")) {
		*end = word && !strcmp(word, "crash") ? NATIVE_CRASH : word && !strcmp(word, "suspend") ? NATIVE_SUSPEND :
			NATIVE_SHUTDOWN;
		return false;
	}
	for (; word && args < ARGS; word = strtok_r(NULL, " \n", &save)) {
		if (memx_parse_u64(word, &arg[args++])) {
			answer("error %s is not a number", word);
			return true;
		}
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (!strcmp(commands[i].name, name)) {
			commands[i].run(p, arg);
			return true;
		}
	}
	answer("error unknown command %s; try help", name);
	return true;
}

/* ---- options ---- */

static const struct option options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "name", required_argument, NULL, 'n' },
	{ "uuid", required_argument, NULL, 'u' },
	{ "slots", required_argument, NULL, 'p' },
	{ "replicas", required_argument, NULL, 'r' },
	{ "store-lanes", required_argument, NULL, 'S' },
	{ "fetch-lanes", required_argument, NULL, 'F' },
	{ "ring-order", required_argument, NULL, 'o' },
	{ "deadline", required_argument, NULL, 'd' },
	{ "verbose", no_argument, NULL, 'v' },
	{ 0 }
};

static void usage(void)
{
	fprintf(stderr, "Usage: memx-guest --socket PATH --name NAME [--uuid UUID] [--slots N] [--replicas N] [--store-lanes N]\n"
		"       [--fetch-lanes N] [--ring-order N] [--deadline MS] [--verbose]\n"
		"Commands on stdin; \"help\" lists them.\n");
	exit(2);
}

static u64 number(const char *text)
{
	u64 value;

	if (memx_parse_u64(text, &value))
		usage();
	return value;
}

static void parse(struct native_config *c, int argc, char **argv)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 's': c->socket = optarg; break;
		case 'n': c->name = optarg; break;
		case 'u': if (memx_parse_uuid(optarg, c->uuid)) usage(); break;
		case 'p': c->slots = (u32)number(optarg); break;
		case 'r': c->replicas = (u8)number(optarg); break;
		case 'S': c->store_lanes = (u8)number(optarg); break;
		case 'F': c->fetch_lanes = (u8)number(optarg); break;
		case 'o': c->ring_order = (u8)number(optarg); break;
		case 'd': c->deadline_ns = number(optarg) * MS; break;
		case 'v': c->verbose = true; break;
		default: usage();
		}
	}
	if (!c->socket || !c->name || optind != argc)
		usage();
}

int main(int argc, char **argv)
{
	struct native_config config = { 0 };
	enum native_end end = NATIVE_SHUTDOWN;
	struct program p = { 0 };
	char line[512];

	parse(&config, argc, argv);
	for (const char *c = config.name; *c; c++)
		p.salt = p.salt * 31 + (u8)*c;
	p.pages = aligned_alloc(MEMX_PAGE_SIZE, (size_t)MEMX_MAX_PAGES * MEMX_PAGE_SIZE);
	p.guest = native_new(&config);
	if (!p.pages || !p.guest || native_start(p.guest, true)) {
		perror("memx-guest");
		return 1;
	}
	while (fgets(line, sizeof(line), stdin) && command(&p, line, &end))
		;
	if (p.churn)
		churn_halt(p.churn);
	native_free(p.guest, end);
	if (p.churn) {
		churn_stop(p.churn);
		churn_free(p.churn);
	}
	free(p.pages);
	return 0;
}
