// SPDX-License-Identifier: GPL-2.0-only
/*
 * memx-bench.c - how quick is the path of a page, and how quick could it be at best?
 *
 * Starts memory servers and a relay from the folder that it lies in, attaches guests over shared memory, and measures fetch
 * and store of single pages and of streams of batches with one copy and with two; in turns with a bare TCP connection and a
 * bare ring. Prints the figures and what they are of the limits; with --json for a program. Ends what it started.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <user/log.h>
#include <user/text.h>

#include "../native/cluster.h"
#include "bench.h"
#include "drive.h"

#include "memx-version.h"

enum who {
	WHO_TCP,
	WHO_RING,
	WHO_ONE,
	WHO_TWO,
	WHO_COUNT,
};

static const char *const who_name[WHO_COUNT] = {
	[WHO_TCP] = "tcp", [WHO_RING] = "ring", [WHO_ONE] = "memx-r1", [WHO_TWO] = "memx-r2",
};

static const char *const who_text[WHO_COUNT] = {
	[WHO_TCP] = "bare TCP", [WHO_RING] = "bare ring", [WHO_ONE] = "MemX, 1 copy", [WHO_TWO] = "MemX, 2 copies",
};

static const struct {
	const char *name;
	double part;
} quantiles[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 }, { "max", 1 } };

struct options {
	struct bench_job job;
	const char *bin;
	u32 donors;
	bool json, only_limits, only_memx, keep;
};

static struct bench_result results[WHO_COUNT];

/* ---- ratios ---- */

static double p50(enum who who, enum bench_op op)
{
	return (double)hist_quantile(&results[who].latency[op], 0.5);
}

/* Latency of MemX with one copy against the sum of both limits, at most 1.5 wanted. */
static double latency_ratio(enum bench_op op)
{
	double limit = p50(WHO_TCP, op) + p50(WHO_RING, op);

	return limit > 0 ? p50(WHO_ONE, op) / limit : 0;
}

/* A rate of streaming against the slower limit; of MemX with one copy at least 0.8 wanted. */
static double against_slower(double rate, enum bench_op op)
{
	double tcp = bench_pages_s(&results[WHO_TCP], op), ring = bench_pages_s(&results[WHO_RING], op);
	double limit = tcp < ring ? tcp : ring;

	return limit > 0 ? rate / limit : 0;
}

static double stream_ratio(enum bench_op op)
{
	return against_slower(bench_pages_s(&results[WHO_ONE], op), op);
}

/* Microseconds of CPU time for each page that was streamed. */
static double cpu_us(enum who who, enum bench_op op, enum bench_part part)
{
	u64 pages = results[who].streamed[op];

	return pages ? (double)results[who].cpu_ns[op][part] / 1e3 / (double)pages : 0;
}

static double busiest_allows(enum bench_op op)
{
	u64 ns = results[WHO_ONE].busiest_ns[op];

	return ns ? (double)results[WHO_ONE].streamed[op] * 1e9 / (double)ns : 0;
}

/*
 * What the processes' time on a CPU alone would allow, in pages/s: with as many CPUs as there are here and never an idle one, and,
 * where each process has its own, at the pace of the busiest.
 */
static double cpus_allow(enum bench_op op)
{
	double us = cpu_us(WHO_ONE, op, BENCH_GUEST) + cpu_us(WHO_ONE, op, BENCH_RELAY) + cpu_us(WHO_ONE, op, BENCH_DONORS);
	double most = busiest_allows(op), rate = us > 0 ? (double)sysconf(_SC_NPROCESSORS_ONLN) * 1e6 / us : 0;

	return rate < most ? rate : most;
}

/* ---- output ---- */

static void print_text(const struct options *o)
{
	const struct bench_job *job = &o->job;

	printf("memx-bench %s: %u rounds, %u single pages each way, streams of %u-page batches, %u in flight, over %u MiB\n\n",
	       MEMX_VERSION, job->rounds, job->pings, job->batch, job->depth, job->pages >> 8);
	printf("4 KiB latency, us           p50      p90      p99    p99.9      max\n");
	for (enum bench_op op = 0; op < BENCH_OPS; op++) {
		for (enum who who = 0; who < WHO_COUNT; who++) {
			if (!results[who].latency[op].count)
				continue;
			printf("  %s  %-14s", bench_op_name(op), who_text[who]);
			for (size_t q = 0; q < sizeof(quantiles) / sizeof(*quantiles); q++)
				printf(" %8.1f", (double)hist_quantile(&results[who].latency[op], quantiles[q].part) / 1e3);
			printf("\n");
		}
	}
	printf("\nstreaming               pages/s    MiB/s  best round  us of CPU per page: guest, relay, servers\n");
	for (enum bench_op op = 0; op < BENCH_OPS; op++) {
		for (enum who who = 0; who < WHO_COUNT; who++) {
			double rate = bench_pages_s(&results[who], op);

			if (rate <= 0)
				continue;
			printf("  %s  %-14s %8.0f %8.0f %11.0f", bench_op_name(op), who_text[who], rate, rate / 256,
			       results[who].best[op]);
			if (who >= WHO_ONE)
				printf("  %18.2f %5.2f %5.2f", cpu_us(who, op, BENCH_GUEST), cpu_us(who, op, BENCH_RELAY),
				       cpu_us(who, op, BENCH_DONORS));
			printf("\n");
		}
	}
	if (o->only_limits || o->only_memx)
		return;
	printf("\nagainst the limits, with one copy\n");
	for (enum bench_op op = 0; op < BENCH_OPS; op++)
		printf("  %s  p50 is %.2f times the sum of TCP and ring (%.1f us)%s; streaming is %.0f %% of the slower one%s\n",
		       bench_op_name(op), latency_ratio(op), (p50(WHO_TCP, op) + p50(WHO_RING, op)) / 1e3,
		       op == BENCH_FETCH ? ", aim: at most 1.50" : "", stream_ratio(op) * 100, ", aim: at least 80 %");
	printf("what the processes' time on a CPU would allow, if they never waited\n");
	for (enum bench_op op = 0; op < BENCH_OPS; op++)
		printf("  %s  with the %ld CPUs of this machine %.0f pages/s, %.0f %%; with one for each process %.0f pages/s, %.0f %%\n",
		       bench_op_name(op), sysconf(_SC_NPROCESSORS_ONLN), cpus_allow(op), against_slower(cpus_allow(op), op) * 100,
		       busiest_allows(op), against_slower(busiest_allows(op), op) * 100);
}

static json_t *result_json(enum who who, enum bench_op op)
{
	const struct hist *h = &results[who].latency[op];
	json_t *latency = json_object();

	for (size_t q = 0; q < sizeof(quantiles) / sizeof(*quantiles); q++)
		json_object_set_new(latency, quantiles[q].name, json_integer((json_int_t)hist_quantile(h, quantiles[q].part)));
	return json_pack("{s:o, s:I, s:f, s:f, s:I, s:{s:f, s:f, s:f}}", "latency_ns", latency, "operations", (json_int_t)h->count,
			 "pages_per_second", bench_pages_s(&results[who], op), "best_pages_per_second", results[who].best[op],
			 "streamed_pages", (json_int_t)results[who].streamed[op], "cpu_us_per_page",
			 "guest", cpu_us(who, op, BENCH_GUEST), "relay", cpu_us(who, op, BENCH_RELAY), "servers",
			 cpu_us(who, op, BENCH_DONORS));
}

static void print_json(const struct options *o)
{
	const struct bench_job *job = &o->job;
	json_t *all = json_pack("{s:s, s:{s:i, s:i, s:i, s:i, s:i, s:i, s:i}}", "version", MEMX_VERSION, "job", "rounds",
				(int)job->rounds, "pings", (int)job->pings, "pages", (int)job->pages, "batch",
				(int)job->batch, "depth", (int)job->depth, "passes", (int)job->passes, "donors",
				(int)o->donors);

	for (enum who who = 0; who < WHO_COUNT; who++)
		if (results[who].latency[BENCH_FETCH].count)
			json_object_set_new(all, who_name[who], json_pack("{s:o, s:o}", "fetch", result_json(who, BENCH_FETCH),
									  "store", result_json(who, BENCH_STORE)));
	if (!o->only_limits && !o->only_memx)
		json_object_set_new(all, "ratios", json_pack("{s:f, s:f, s:f, s:f}", "fetch_p50", latency_ratio(BENCH_FETCH),
							     "store_p50", latency_ratio(BENCH_STORE), "fetch_streaming",
							     stream_ratio(BENCH_FETCH), "store_streaming",
							     stream_ratio(BENCH_STORE)));
	if (!o->only_limits)
		json_object_set_new(all, "cpu_allows_pages_per_second",
				    json_pack("{s:f, s:f, s:f, s:f}", "fetch_here", cpus_allow(BENCH_FETCH), "store_here",
					      cpus_allow(BENCH_STORE), "fetch_busiest", busiest_allows(BENCH_FETCH),
					      "store_busiest", busiest_allows(BENCH_STORE)));
	json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	printf("\n");
	json_decref(all);
}

/* ---- the run ---- */

static int run_rounds(const struct options *o, struct limit *tcp, struct limit *ring, struct drive *one, struct drive *two)
{
	int err = 0;

	for (u32 i = 0; i < o->job.rounds && !err; i++) {
		if (!o->only_memx)
			err = limit_tcp_round(tcp, &results[WHO_TCP]);
		if (!err && !o->only_memx)
			err = limit_ring_round(ring, &results[WHO_RING]);
		if (!err && one)
			err = drive_round(one, &results[WHO_ONE]);
		if (!err && two)
			err = drive_round(two, &results[WHO_TWO]);
	}
	return err;
}

/* What a signal ends; set while it runs. */
static struct cluster *_Atomic running;

/* A thread of its own waits for the signals that end the program, so that nothing is left behind by them either. */
static void *end_by_signal(void *arg)
{
	struct cluster *cluster;
	int sig;

	if (sigwait(arg, &sig))
		return NULL;
	cluster = running;
	if (cluster)
		cluster_kill(cluster);
	_exit(128 + sig);
}

static void catch_signals(void)
{
	static sigset_t set;
	pthread_t thread;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (!pthread_create(&thread, NULL, end_by_signal, &set))
		pthread_detach(thread);
}

static int run_memx(const struct options *o, struct limit *tcp, struct limit *ring)
{
	u64 swap = (u64)o->job.pages << MEMX_PAGE_SHIFT;
	struct cluster_config config = {
		.bin = o->bin, .donors = o->donors, .donor_memory = 4 * swap + (64 << 20), .guests = 2,
		.guest = { { "bench-one", swap, 1 }, { "bench-two", swap, 2 } },
	};
	struct drive *one = NULL, *two = NULL;
	static struct cluster cluster;
	int err;

	running = &cluster;
	err = cluster_start(&cluster, &config);
	if (err)
		return err;
	one = drive_open(&o->job, &cluster, "bench-one");
	if (one && o->donors > 1)
		two = drive_open(&o->job, &cluster, "bench-two");
	err = one && (two || o->donors < 2) ? 0 : -EIO;
	if (!err)
		err = drive_prepare(one);
	if (!err && two)
		err = drive_prepare(two);
	if (!err)
		err = run_rounds(o, tcp, ring, one, two);
	if (two)
		drive_close(two);
	if (one)
		drive_close(one);
	running = NULL;
	cluster_stop(&cluster, o->keep || err);
	return err;
}

static int run(const struct options *o)
{
	struct limit *tcp = limit_tcp_open(&o->job), *ring = limit_ring_open(&o->job);
	int err;

	if (!tcp || !ring)
		return -EIO;
	err = o->only_limits ? run_rounds(o, tcp, ring, NULL, NULL) : run_memx(o, tcp, ring);
	limit_ring_close(ring);
	limit_tcp_close(tcp);
	return err;
}

/* ---- options ---- */

static const char help[] =
	"Usage: memx-bench [OPTION]...\n"
	"Measures the path of a page natively: shared-memory channel, relay and memory servers on loopback, beside a bare\n"
	"TCP connection and a bare ring that do the same in turns.\n\n"
	"  -r, --rounds N      turns (5)\n"
	"  -n, --pings N       single pages fetched, and stored, in a turn (4000)\n"
	"  -s, --size MIB      memory that is walked through (64)\n"
	"  -b, --batch N       pages in one streaming request, 1 to 32 (32)\n"
	"  -q, --depth N       streaming requests in flight (8)\n"
	"  -p, --passes N      streaming walks in a turn (2)\n"
	"  -d, --donors N      memory servers, 1 to 16 (2)\n"
	"  -l, --limits        only TCP and ring\n"
	"  -m, --memx          only MemX\n"
	"  -j, --json          for a program\n"
	"  -k, --keep          keep settings and logs of the processes\n"
	"      --bin FOLDER    where memx-server and memx-dom0-relay are (beside this program)\n"
	"  -V, --version\n"
	"  -h, --help\n";

static const struct option long_options[] = {
	{ "rounds", required_argument, NULL, 'r' },
	{ "pings", required_argument, NULL, 'n' },
	{ "size", required_argument, NULL, 's' },
	{ "batch", required_argument, NULL, 'b' },
	{ "depth", required_argument, NULL, 'q' },
	{ "passes", required_argument, NULL, 'p' },
	{ "donors", required_argument, NULL, 'd' },
	{ "limits", no_argument, NULL, 'l' },
	{ "memx", no_argument, NULL, 'm' },
	{ "json", no_argument, NULL, 'j' },
	{ "keep", no_argument, NULL, 'k' },
	{ "bin", required_argument, NULL, 'B' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 }
};

static u32 number(const char *text, const char *what, u64 min, u64 max)
{
	u64 value;

	if (!memx_parse_u64(text, &value) && value >= min && value <= max)
		return (u32)value;
	fprintf(stderr, "memx-bench: --%s %s: accepted: %llu to %llu\n", what, text, (unsigned long long)min,
		(unsigned long long)max);
	exit(2);
}

static void take_option(struct options *o, int opt, const char *arg)
{
	switch (opt) {
	case 'r': o->job.rounds = number(arg, "rounds", 1, 100000); break;
	case 'n': o->job.pings = number(arg, "pings", 1, 100000000); break;
	case 's': o->job.pages = number(arg, "size", 1, 4096) << (20 - MEMX_PAGE_SHIFT); break;
	case 'b': o->job.batch = number(arg, "batch", 1, MEMX_MAX_PAGES); break;
	case 'q': o->job.depth = number(arg, "depth", 1, 256); break;
	case 'p': o->job.passes = number(arg, "passes", 1, 100000); break;
	case 'd': o->donors = number(arg, "donors", 1, CLUSTER_MAX_DONORS); break;
	case 'l': o->only_limits = true; break;
	case 'm': o->only_memx = true; break;
	case 'j': o->json = true; break;
	case 'k': o->keep = true; break;
	case 'B': o->bin = arg; break;
	case 'V':
		printf("memx-bench %s\n", MEMX_VERSION);
		exit(0);
	case 'h':
		printf("%s", help);
		exit(0);
	default:
		fprintf(stderr, "Try \"memx-bench --help\".\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct options o = {
		.job = { .rounds = 5, .pings = 4000, .pages = 16384, .batch = 32, .depth = 8, .passes = 2 },
		.donors = 2,
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "r:n:s:b:q:p:d:lmjkVh", long_options, NULL)) != -1)
		take_option(&o, opt, optarg);
	if (optind < argc) {
		fprintf(stderr, "memx-bench: unexpected argument %s; see --help\n", argv[optind]);
		return 2;
	}
	o.job.pages -= o.job.pages % o.job.batch;
	memx_log_init("memx-bench", MEMX_LOG_WARNING);
	catch_signals();
	if (run(&o))
		return 1;
	if (o.json)
		print_json(&o);
	else
		print_text(&o);
	return 0;
}
