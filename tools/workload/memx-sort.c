// SPDX-License-Identifier: GPL-2.0-only
/*
 * memx-sort - an ordinary program: makes records from a seed, sorts them in place, verifies every byte.
 *
 * It knows nothing of MemX, of swap or of the machine: it allocates one array, works on it and would do the same in a guest
 * that has the memory. What it proves is in the verification: each record's 56 bytes of payload follow from its key, so a
 * page that came back wrong, old or from another place is found; the order and the sums over all keys find records that were
 * lost or came twice.
 *
 * Sorting: quicksort, as one writes it for data that is larger than the caches. What is larger than a megabyte is cut in four
 * by three pivots in one pass [Kushagra, Lopez-Ortiz, Munro, Qiao: Multi-Pivot Quicksort, 2014], which takes half as many passes
 * as cutting in two; below it the median of three [Hoare 1961; Sedgewick 1978] and, below 16 records, insertion sort. Each pass
 * reads and writes its part of the array from both ends, which is what makes a machine page.
 *
 * Exit status: 0 sorted and verified, 1 the data is wrong, 2 wrong usage, 3 no memory.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { WORDS = 8, SMALL = 16, LARGE = (1 << 20) / 64, SAMPLE = 15 };

struct record {
	uint64_t key;
	uint64_t payload[WORDS - 1];
};

struct sums {
	uint64_t add;		/* of all keys */
	uint64_t mix;		/* of all keys after mixing: finds what cancels out in the first */
};

static size_t records_total;
static size_t records_placed;	/* in their final position already */
static unsigned int shown;
static double t0;

/* splitmix64 [Steele, Lea, Flood 2014]: one multiplication chain a value, any start is good. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void progress(const char *what, size_t done, size_t of)
{
	unsigned int tenth;

	assert(of);
	tenth = (unsigned int)(done * 10 / of);

	if (tenth == shown)
		return;
	shown = tenth;
	printf("  %-8s %3u %%  %6.1f s\n", what, tenth * 10, now() - t0);
	fflush(stdout);
}

static void fill(struct record *r, size_t n, uint64_t seed, struct sums *sums)
{
	size_t i, w;

	for (i = 0; i < n; i++) {
		r[i].key = mix(seed + i);
		for (w = 0; w < WORDS - 1; w++)
			r[i].payload[w] = r[i].key * (2 * w + 3);
		sums->add += r[i].key;
		sums->mix += mix(r[i].key);
		if (!(i & 0xfff))
			progress("fill", i, n);
	}
	progress("fill", n, n);
}

static void swap(struct record *a, struct record *b)
{
	struct record t = *a;

	*a = *b;
	*b = t;
}

static void insertion(struct record *r, size_t n)
{
	size_t i, j;

	for (i = 1; i < n; i++) {
		struct record t = r[i];

		for (j = i; j && r[j - 1].key > t.key; j--)
			r[j] = r[j - 1];
		r[j] = t;
	}
}

static void placed(size_t n)
{
	records_placed += n;
	progress("sort", records_placed, records_total);
}

/* Cuts @r in two: r[0 .. i) <= pivot <= r[i .. n). Returns i, which is neither 0 nor @n. */
static size_t cut_in_two(struct record *r, size_t n)
{
	uint64_t a = r[0].key, b = r[n / 2].key, c = r[n - 1].key;
	uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
	size_t i = 0, j = n - 1;

	for (;;) {
		while (r[i].key < pivot)
			i++;
		while (r[j].key > pivot)
			j--;
		if (i >= j)
			break;
		swap(&r[i++], &r[j--]);
	}
	return i ? i : 1;
}

/* Three keys that cut @r in about equal parts; false: the sample has too many equal ones. */
static bool choose_pivots(const struct record *r, size_t n, uint64_t pivot[3])
{
	uint64_t key[SAMPLE] = { 0 }, t;
	size_t i, j;

	for (i = 0; i < SAMPLE; i++) {
		t = r[n / SAMPLE * i + n / (2 * SAMPLE)].key;
		for (j = i; j && key[j - 1] > t; j--)
			key[j] = key[j - 1];
		key[j] = t;
	}
	for (i = 0; i < 3; i++)
		pivot[i] = key[(i + 1) * (SAMPLE + 1) / 4 - 1];
	return pivot[0] < pivot[1] && pivot[1] < pivot[2];
}

/*
 * Cuts @r in four, each smaller than @n, in one pass from both ends:
 *	r[0 .. end[0]) < p0 <= r[.. end[1]) < p1 <= r[.. end[2]) <= p2 < r[.. n)
 */
static void cut_in_four(struct record *r, size_t n, const uint64_t p[3], size_t end[4])
{
	size_t a = 0, b = 0, c = n, d = n;	/* looked at: r[0 .. b) and r[c .. n) */

	for (;;) {
		for (; b < c && r[b].key < p[1]; b++)
			if (r[b].key < p[0])
				swap(&r[a++], &r[b]);
		for (; b < c && r[c - 1].key >= p[1]; c--)
			if (r[c - 1].key > p[2])
				swap(&r[--d], &r[c - 1]);
		if (b == c)
			break;
		/* r[b] belongs to the right half and r[c - 1] to the left one. */
		swap(&r[b], &r[c - 1]);
		if (r[b].key < p[0])
			swap(&r[a++], &r[b]);
		b++;
		if (r[c - 1].key > p[2])
			swap(&r[--d], &r[c - 1]);
		c--;
	}
	end[0] = a;
	end[1] = b;
	end[2] = d;
	end[3] = n;
}

/* The largest part comes last and in place of the whole, so that recursion stays shallow whatever the data. */
static void sort(struct record *r, size_t n)
{
	uint64_t pivot[3];
	size_t end[4], i, begin, largest;

	while (n > SMALL) {
		if (n > LARGE && choose_pivots(r, n, pivot)) {
			cut_in_four(r, n, pivot, end);
		} else {
			end[0] = cut_in_two(r, n);
			end[1] = n;
			end[2] = n;
			end[3] = n;
		}
		for (i = 1, largest = 0; i < 4; i++)
			if (end[i] - end[i - 1] > (largest ? end[largest] - end[largest - 1] : end[0]))
				largest = i;
		for (i = 0, begin = 0; i < 4; begin = end[i++])
			if (i != largest && end[i] > begin)
				sort(r + begin, end[i] - begin);
		begin = largest ? end[largest - 1] : 0;
		r += begin;
		n = end[largest] - begin;
	}
	insertion(r, n);
	placed(n);
}

static bool verify(const struct record *r, size_t n, const struct sums *want)
{
	struct sums got = { 0 };
	size_t i, w, bad = 0;

	for (i = 0; i < n; i++) {
		bool ok = !i || r[i - 1].key <= r[i].key;

		for (w = 0; w < WORDS - 1; w++)
			ok &= r[i].payload[w] == r[i].key * (2 * w + 3);
		if (!ok && bad++ < 5)
			printf("  record %zu is wrong: key %016" PRIx64 " at address %p\n", i, r[i].key, (const void *)&r[i]);
		got.add += r[i].key;
		got.mix += mix(r[i].key);
		if (!(i & 0xfff))
			progress("verify", i, n);
	}
	progress("verify", n, n);
	if (got.add != want->add || got.mix != want->mix) {
		printf("  records were lost or changed: the sums of the keys differ\n");
		return false;
	}
	if (bad)
		printf("  %zu records of %zu are wrong\n", bad, n);
	return !bad;
}

static int usage(const char *wrong)
{
	fprintf(stderr, "memx-sort: %s\nusage: memx-sort MIB [SEED]    (MIB: 1 to 1048576)\n", wrong);
	return 2;
}

int main(int argc, char **argv)
{
	struct sums sums = { 0 };
	unsigned long long mib, seed = 1;
	struct record *r;
	size_t bytes;
	double filled, sorted;
	char *end;

	if (argc < 2 || argc > 3)
		return usage("one or two arguments are wanted");
	mib = strtoull(argv[1], &end, 10);
	if (*end || !mib || mib > 1048576)
		return usage("MIB is not a number in its range");
	if (argc == 3) {
		seed = strtoull(argv[2], &end, 0);
		if (*end)
			return usage("SEED is not a number");
	}
	bytes = (size_t)mib << 20;
	records_total = bytes / sizeof(*r);
	r = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r == MAP_FAILED) {
		fprintf(stderr, "memx-sort: no address space for %llu MiB: %s\n", mib, strerror(errno));
		return 3;
	}
	t0 = now();
	fill(r, records_total, seed, &sums);
	filled = now();
	shown = 0;
	sort(r, records_total);
	sorted = now();
	shown = 0;
	if (!verify(r, records_total, &sums))
		return 1;
	printf("sorted and verified %zu records, %llu MiB, seed %llu: fill %.1f s, sort %.1f s, verify %.1f s\n",
	       records_total, mib, seed, filled - t0, sorted - filled, now() - sorted);
	return 0;
}
