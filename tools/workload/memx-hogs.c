// SPDX-License-Identifier: GPL-2.0-only
/*
 * memx-hogs - several processes that exhaust a guest's memory at once, each in a way of its own, each verifying its bytes.
 *
 *   memx-hogs [--seconds N] [--seed N] [--dir TMPFS] KIND:MIB[:CGROUP]...
 *
 * One process per word. KIND is how it uses its memory:
 *   anon   private memory
 *   shmem  memory shared between processes
 *   file   a file in the page cache of --dir, by read and write
 *   fork   private memory of a process that forks again and again; parent and child both write what they share
 * CGROUP is a folder of cgroup v2 that the process joins first.
 *
 * Each fills its memory, then reads, writes and now and then gives back pages at random until the time is up, then verifies
 * all of them. Pages name themselves (pages.h). What a page must be is in a table that is locked in memory, so that the truth
 * does not travel the way of the pages; a page that was given back must be zeros.
 *
 * The figures are in memory shared by all and counted with atomics; nothing else is shared.
 *
 * Exit status: 0 all pages were right, 1 a page was wrong, 2 wrong usage, 3 no memory or a process died.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pages.h"

#define GIVEN_BACK 0x80000000u	/* in a page's version: zeros now, the rest is its last version */

enum {
	MAX_HOGS	= 64,
	GIVE_BACK_EVERY	= 64,	/* touches */
	GIVE_BACK_PAGES	= 16,	/* at most, in a row */
};

enum kind { ANON, SHMEM, FILED, FORK };

static const char *const kinds[] = { "anon", "shmem", "file", "fork" };

struct hog {
	enum kind kind;
	unsigned int index;
	size_t pages;
	const char *cgroup;	/* or NULL */
	uint64_t seed, rng;
	uint32_t *versions;
	uint64_t *mem;		/* all pages; FILED: room for one */
	size_t near;		/* the last page that was touched */
	int fd;			/* FILED */
};

struct figures {
	uint64_t verified, written, given_back, wrong, forks;
	uint64_t longest_ns;	/* one touch */
};

static struct figures *figures;
static uint64_t seconds = 60;
static uint64_t deadline;	/* of this process; set when it has filled its memory */
static const char *directory = "/dev/shm";

static void add(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static void longest(uint64_t ns)
{
	uint64_t seen = __atomic_load_n(&figures->longest_ns, __ATOMIC_RELAXED);

	while (ns > seen &&
	       !__atomic_compare_exchange_n(&figures->longest_ns, &seen, ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

__attribute__((noreturn)) static void give_up(const struct hog *h, const char *what)
{
	printf("hog %u (%s): %s: %s\n", h->index, kinds[h->kind], what, strerror(errno));
	exit(3);
}

/* ---- one page ---- */

static uint64_t *page_read(const struct hog *h, size_t page)
{
	if (h->kind != FILED)
		return h->mem + page * WORDS;
	if (pread(h->fd, h->mem, PAGE, (off_t)(page * PAGE)) != PAGE)
		give_up(h, "read of its file");
	return h->mem;
}

static void page_renew(const struct hog *h, size_t page)
{
	uint32_t version = (h->versions[page] & ~GIVEN_BACK) + 1;

	h->versions[page] = version;
	page_write(h->kind == FILED ? h->mem : h->mem + page * WORDS, h->seed, page, version);
	if (h->kind == FILED && pwrite(h->fd, h->mem, PAGE, (off_t)(page * PAGE)) != PAGE)
		give_up(h, "write of its file");
	add(&figures->written, 1);
}

static bool is_zero(const struct hog *h, const uint64_t *p, size_t page)
{
	unsigned int w;

	for (w = 0; w < WORDS && !p[w]; w++)
		;
	if (w < WORDS)
		printf("WRONG: hog %u (%s) page %zu was given back after version %u: word %u is %016" PRIx64 ", expected 0\n",
		       h->index, kinds[h->kind], page, h->versions[page] & ~GIVEN_BACK, w, p[w]);
	return w == WORDS;
}

static bool page_check(const struct hog *h, size_t page)
{
	const uint64_t *p = page_read(h, page);
	bool good = h->versions[page] & GIVEN_BACK ? is_zero(h, p, page) :
		    page_verify(p, h->seed, page, h->versions[page], h->index);

	add(good ? &figures->verified : &figures->wrong, 1);
	return good;
}

/* ---- many ---- */

static void give_back(const struct hog *h, size_t page, size_t n)
{
	size_t i;
	int err;

	if (n > h->pages - page)
		n = h->pages - page;
	if (h->kind == FILED)
		err = fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * PAGE), (off_t)(n * PAGE));
	else if (h->kind == SHMEM)
		err = madvise(h->mem + page * WORDS, n * PAGE, MADV_REMOVE);
	else	/* MADV_DONTNEED of pages in swap makes Linux 6.1 warn in PV guests: it looks at an entry whose clearing is batched */
		err = mmap(h->mem + page * WORDS, n * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED;
	if (err)
		give_up(h, "giving pages back");
	for (i = page; i < page + n; i++)
		h->versions[i] |= GIVEN_BACK;
	add(&figures->given_back, n);
}

/* @n touches, or as many as there is time for; true: every page was right. */
static bool touch(struct hog *h, size_t n)
{
	bool good = true;

	for (; n && now_ns() < deadline; n--) {
		uint64_t t = now_ns(), r = h->rng = mix(h->rng);
		size_t page = (r >> 8) % h->pages;

		/* Most touches stay near the last one, as programs do: readahead gets its chance. */
		if (r >> 60)
			page = (h->near + (page & 63)) % h->pages;
		h->near = page;
		good &= page_check(h, page);
		if (r & 1)
			page_renew(h, page);
		if (!(n % GIVE_BACK_EVERY))
			give_back(h, page, 1 + (r >> 40) % GIVE_BACK_PAGES);
		longest(now_ns() - t);
	}
	return good;
}

static bool verify(const struct hog *h)
{
	bool good = true;
	size_t page;

	for (page = 0; page < h->pages; page++) {
		uint64_t t = now_ns();

		good &= page_check(h, page);
		longest(now_ns() - t);
	}
	return good;
}

/* The child has its parent's pages and truth as they were; both go on with them, at the same time. */
static bool fork_once(struct hog *h)
{
	int status;
	pid_t pid = fork();
	bool good;

	if (pid < 0)
		give_up(h, "fork");
	if (!pid) {
		if (mlock(h->versions, h->pages * sizeof(*h->versions)))
			give_up(h, "locking the child's table");
		h->rng = mix(h->rng ^ (uint64_t)getpid());
		exit(touch(h, h->pages / 2) && verify(h) ? 0 : 1);
	}
	add(&figures->forks, 1);
	good = touch(h, h->pages / 2);
	if (waitpid(pid, &status, 0) != pid)
		give_up(h, "waiting for its child");
	if (WIFSIGNALED(status)) {
		printf("hog %u (fork): its child was ended by signal %d (%s)\n", h->index, WTERMSIG(status), strsignal(WTERMSIG(status)));
		exit(3);
	}
	if (WEXITSTATUS(status) > 1)
		exit(WEXITSTATUS(status));
	return good && !WEXITSTATUS(status);
}

static void join(const struct hog *h)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", h->cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0\n", 2) != 2)
		give_up(h, path);
	close(fd);
}

static void get_memory(struct hog *h)
{
	size_t table = h->pages * sizeof(*h->versions), bytes = (h->kind == FILED ? 1 : h->pages) * PAGE;
	int flags = (h->kind == SHMEM ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE;

	h->versions = mmap(NULL, table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	h->mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (h->versions == MAP_FAILED || h->mem == MAP_FAILED || mlock(h->versions, table))
		give_up(h, "no memory");
	if (h->kind != FILED)
		return;
	h->fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (h->fd < 0 || ftruncate(h->fd, (off_t)(h->pages * PAGE)))
		give_up(h, directory);
}

static int work(struct hog *h)
{
	bool good = true;
	size_t page;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (h->cgroup)
		join(h);
	get_memory(h);
	for (page = 0; page < h->pages; page++)
		page_renew(h, page);
	deadline = now_ns() + seconds * 1000000000ULL;
	while (now_ns() < deadline)
		good &= h->kind == FORK ? fork_once(h) : touch(h, h->pages);
	good &= verify(h);
	return good ? 0 : 1;
}

/* ---- the command ---- */

static int usage(const char *wrong)
{
	fprintf(stderr,
		"memx-hogs: %s\n"
		"usage: memx-hogs [--seconds N] [--seed N] [--dir TMPFS] KIND:MIB[:CGROUP]...\n"
		"  KIND is anon, shmem, file or fork; one process for each\n"
		"  --seconds  so long each goes on once it has filled its memory (60); the last look comes on top\n"
		"  --dir      where the files are (/dev/shm)\n", wrong);
	return 2;
}

static bool parse_hog(struct hog *h, char *word)
{
	char *mib = strchr(word, ':'), *end;
	unsigned long n;
	size_t k;

	if (!mib)
		return false;
	*mib++ = 0;
	for (k = 0; k < sizeof(kinds) / sizeof(kinds[0]) && strcmp(word, kinds[k]); k++)
		;
	n = strtoul(mib, &end, 10);
	if (k == sizeof(kinds) / sizeof(kinds[0]) || end == mib || (*end && *end != ':') || !n || n > 1048576)
		return false;
	h->kind = (enum kind)k;
	h->pages = (size_t)n << 8;
	h->cgroup = *end ? end + 1 : NULL;
	return true;
}

static int start(struct hog *hogs, unsigned int n)
{
	unsigned int i;
	int rc = 0, status;

	for (i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 3;
		if (!pid)
			exit(work(&hogs[i]));
	}
	for (i = 0; i < n; i++) {
		if (wait(&status) < 0)
			return 3;
		if (WIFSIGNALED(status)) {
			printf("a hog was ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
			rc = 3;
		} else if (WEXITSTATUS(status) > rc) {
			rc = WEXITSTATUS(status);
		}
	}
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "seconds", required_argument, NULL, 's' }, { "seed", required_argument, NULL, 'r' },
		{ "dir", required_argument, NULL, 'd' }, { 0 }
	};
	static struct hog hogs[MAX_HOGS];
	uint64_t seed = 1, begin;
	unsigned int n;
	int c, rc;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		char *end = NULL;

		if (c == '?')
			return usage("unknown option");
		if (c == 'd') {
			directory = optarg;
			continue;
		}
		*(c == 's' ? &seconds : &seed) = strtoull(optarg, &end, 0);
		if (*end || end == optarg)
			return usage("a number is wanted");
	}
	for (n = 0; optind < argc; n++, optind++) {
		if (n == MAX_HOGS || !parse_hog(&hogs[n], argv[optind]))
			return usage("KIND:MIB[:CGROUP] is wanted, 64 of them at most");
		hogs[n].index = n;
		hogs[n].seed = hogs[n].rng = mix(seed + n);
	}
	if (!n)
		return usage("no hog is named");
	figures = mmap(NULL, sizeof(*figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (figures == MAP_FAILED || mlock(figures, sizeof(*figures)))
		return 3;
	begin = now_ns();
	rc = start(hogs, n);
	printf("pages_verified=%" PRIu64 " pages_written=%" PRIu64 " pages_given_back=%" PRIu64 " pages_wrong=%" PRIu64
	       " forks=%" PRIu64 " longest_touch_ms=%" PRIu64 " seconds=%.1f\n", figures->verified, figures->written,
	       figures->given_back, figures->wrong, figures->forks, figures->longest_ns / 1000000, (double)(now_ns() - begin) / 1e9);
	return rc;
}
