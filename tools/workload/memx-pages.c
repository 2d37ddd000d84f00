// SPDX-License-Identifier: GPL-2.0-only
/*
 * memx-pages - writes pages that name themselves through more memory than there is, and verifies on every touch.
 *
 * Each page carries, in every one of its 512 words, a value that follows from the seed, the process, the page's number and
 * the page's version. The program's own table of versions is small and locked in memory, so that the truth does not travel
 * the way of the pages. A touch reads a page, compares all words with what it must be, and - for a share of the touches -
 * writes the next version. Old pages, pages of another address, of another process and zeros are all told apart.
 *
 * The table of versions is the only state; processes share nothing. Some pages are made of one repeated word or of zeros on
 * purpose (every 16th and every 32nd), because swap takes other ways with them.
 *
 * With --every it says so often how it is, and how long the longest touch took since it last said so, one that has not ended
 * included. SIGUSR1 ends the random touches: every page is verified in order once more, then it ends.
 *
 * Exit status: 0 all pages were right, 1 a page was wrong, 2 wrong usage, 3 no memory or a process died.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pages.h"

enum { PROCS_MAX = 256 };

struct job {
	size_t pages;		/* per process */
	uint64_t touches;	/* random touches per process after the first filling */
	uint64_t seed;
	unsigned int procs;
	unsigned int seconds;	/* 0: by touches; else touches until then */
	unsigned int every;	/* seconds between two lines of figures; 0: only at the end */
	unsigned int writes;	/* per cent of the touches that write */
	bool shmem;
};

struct figures {		/* in memory shared by all processes */
	uint64_t verified;
	uint64_t written;
	uint64_t wrong;
	uint64_t longest_ns;	/* one touch */
	uint64_t recent_ns;	/* the same since the last line */
	uint64_t since[PROCS_MAX];	/* when each process's touch began; 0: none is under way */
};

static volatile sig_atomic_t stop, enough;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		enough = 1;
	else
		stop = 1;
}

static void longest(uint64_t *of, uint64_t ns)
{
	uint64_t seen = __atomic_load_n(of, __ATOMIC_RELAXED);

	while (ns > seen && !__atomic_compare_exchange_n(of, &seen, ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static uint64_t begin(struct figures *f, unsigned int proc)
{
	uint64_t now = now_ns();

	__atomic_store_n(&f->since[proc], now, __ATOMIC_RELAXED);
	return now;
}

static void account(struct figures *f, unsigned int proc, uint64_t began, bool good, bool wrote)
{
	uint64_t ns = now_ns() - began;

	__atomic_store_n(&f->since[proc], 0, __ATOMIC_RELAXED);
	__atomic_fetch_add(&f->verified, good, __ATOMIC_RELAXED);
	__atomic_fetch_add(&f->wrong, !good, __ATOMIC_RELAXED);
	__atomic_fetch_add(&f->written, wrote, __ATOMIC_RELAXED);
	longest(&f->longest_ns, ns);
	longest(&f->recent_ns, ns);
}

static int work(const struct job *job, unsigned int proc, struct figures *f)
{
	uint64_t seed = mix(job->seed + proc), rng = seed, i, end = now_ns() + job->seconds * 1000000000ULL;
	uint32_t *versions;
	uint64_t *mem;
	size_t n, near = 0;
	bool ok = true;

	mem = mmap(NULL, job->pages * PAGE, PROT_READ | PROT_WRITE,
		   (job->shmem ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	versions = mmap(NULL, job->pages * sizeof(*versions), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || versions == MAP_FAILED || mlock(versions, job->pages * sizeof(*versions))) {
		fprintf(stderr, "memx-pages: process %u: no memory for %zu pages and their versions: %s\n", proc,
			job->pages, strerror(errno));
		return 3;
	}
	for (n = 0; n < job->pages && !stop; n++) {
		page_write(mem + n * WORDS, seed, n, 0);
		__atomic_fetch_add(&f->written, 1, __ATOMIC_RELAXED);
	}
	for (i = 0; n == job->pages && !stop && !enough && (job->seconds ? now_ns() < end : i < job->touches); i++) {
		uint64_t t, r = rng = mix(rng);
		size_t page = (r >> 8) % job->pages;
		bool wr = r % 100 < job->writes, good;

		/* Most touches stay near the last one, as programs do: readahead gets its chance. */
		if (r >> 60)
			page = (near + (page & 63)) % job->pages;
		near = page;
		t = begin(f, proc);
		good = page_verify(mem + page * WORDS, seed, page, versions[page], proc);
		if (wr)
			page_write(mem + page * WORDS, seed, page, ++versions[page]);
		account(f, proc, t, good, wr);
		ok &= good;
	}
	for (n = 0; n < job->pages && !stop; n++) {
		uint64_t t = begin(f, proc);
		bool good = page_verify(mem + n * WORDS, seed, n, versions[n], proc);

		account(f, proc, t, good, false);
		ok &= good;
	}
	return ok ? 0 : 1;
}

static int usage(const char *wrong)
{
	fprintf(stderr,
		"memx-pages: %s\n"
		"usage: memx-pages --mib N [--procs N] [--touches N | --seconds N] [--writes PERCENT] [--seed N] [--shmem]\n"
		"                  [--every N]\n"
		"  --mib      memory over all processes\n"
		"  --touches  random touches per process after filling (default: as many as it has pages)\n"
		"  --seconds  touch for so long instead, or until SIGUSR1\n"
		"  --every    figures every so many seconds\n", wrong);
	return 2;
}

static int parse(struct job *job, int argc, char **argv)
{
	static const struct option opts[] = {
		{ "mib", required_argument, NULL, 'm' }, { "procs", required_argument, NULL, 'p' },
		{ "touches", required_argument, NULL, 't' }, { "seconds", required_argument, NULL, 's' },
		{ "writes", required_argument, NULL, 'w' }, { "seed", required_argument, NULL, 'r' },
		{ "shmem", no_argument, NULL, 'h' }, { "every", required_argument, NULL, 'e' }, { 0 }
	};
	unsigned long long mib = 0;
	bool touches = false;
	int c;

	*job = (struct job){ .procs = 1, .writes = 50, .seed = 1 };
	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		unsigned long long v = 0;
		char *end = NULL;

		if (c == '?')
			return usage("unknown option");
		if (optarg) {
			v = strtoull(optarg, &end, 0);
			if (*end || end == optarg)
				return usage("a number is wanted");
		}
		switch (c) {
		case 'm': mib = v; break;
		case 'p': job->procs = (unsigned int)v; break;
		case 't': job->touches = v; touches = true; break;
		case 's': job->seconds = (unsigned int)v; break;
		case 'w': job->writes = (unsigned int)v; break;
		case 'r': job->seed = v; break;
		case 'h': job->shmem = true; break;
		case 'e': job->every = (unsigned int)v; break;
		}
	}
	if (!mib || mib > 1048576 || !job->procs || job->procs > PROCS_MAX || job->writes > 100 || optind != argc)
		return usage("--mib is needed, 1 to 1048576; --procs 1 to 256; --writes 0 to 100");
	job->pages = (size_t)(mib << 8) / job->procs;
	if (!touches)
		job->touches = job->pages;
	return 0;
}

/* One line of figures; the longest touch since the last one is forgotten then. */
static void tell(struct figures *f, unsigned int procs)
{
	uint64_t recent = __atomic_exchange_n(&f->recent_ns, 0, __ATOMIC_RELAXED), now = now_ns();
	unsigned int i;

	for (i = 0; i < procs; i++) {
		uint64_t since = __atomic_load_n(&f->since[i], __ATOMIC_RELAXED);

		if (since && now > since && now - since > recent)
			recent = now - since;
	}
	printf("so_far verified=%" PRIu64 " written=%" PRIu64 " wrong=%" PRIu64 " recent_us=%" PRIu64 "\n", f->verified, f->written,
	       f->wrong, recent / 1000);
	fflush(stdout);
}

/* The next process that ended; until then a line every @every seconds. */
static int wait_telling(struct figures *f, const struct job *job, const sigset_t *child, int *status)
{
	struct timespec left;
	uint64_t next = now_ns();

	while (job->every) {
		int pid = waitpid(-1, status, WNOHANG);
		uint64_t now = now_ns();

		if (pid)
			return pid;
		if (now >= next) {
			tell(f, job->procs);
			next += job->every * 1000000000ULL;
			next = next > now ? next : now;
		}
		left.tv_sec = next > now ? (time_t)((next - now) / 1000000000) : 0;
		left.tv_nsec = next > now ? (long)((next - now) % 1000000000) : 0;
		sigtimedwait(child, NULL, &left);
	}
	return wait(status);
}

int main(int argc, char **argv)
{
	struct figures *f;
	struct job job;
	sigset_t child;
	unsigned int i;
	uint64_t t0;
	int rc = 0, status;

	if (parse(&job, argc, argv))
		return 2;
	f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f == MAP_FAILED || mlock(f, sizeof(*f)))
		return 3;
	signal(SIGTERM, on_signal);
	signal(SIGUSR1, on_signal);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	t0 = now_ns();
	for (i = 0; i < job.procs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 3;
		if (!pid) {
			setvbuf(stdout, NULL, _IOLBF, 0);
			exit(work(&job, i, f));
		}
	}
	/* Figures come also while everybody else waits for memory. */
	if (job.every && mlockall(MCL_CURRENT | MCL_FUTURE))
		perror("memx-pages: mlockall");
	for (i = 0; i < job.procs; i++) {
		if (wait_telling(f, &job, &child, &status) < 0)
			return 3;
		if (WIFSIGNALED(status)) {
			printf("a process was ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
			rc = 3;
		} else if (WEXITSTATUS(status) && rc < 3) {
			rc = WEXITSTATUS(status);
		}
	}
	printf("pages_verified=%" PRIu64 " pages_written=%" PRIu64 " pages_wrong=%" PRIu64 " longest_touch_ms=%" PRIu64 " seconds=%.1f\n",
	       f->verified, f->written, f->wrong, f->longest_ns / 1000000, (double)(now_ns() - t0) / 1e9);
	return rc;
}
