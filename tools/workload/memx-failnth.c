// SPDX-License-Identifier: GPL-2.0-only
/*
 * memx-failnth - loads a module again and again, each time with another one of the loading task's allocations failing.
 *
 *   memx-failnth [--first N] [--step N] FILE NAME [PARAMETERS]
 *
 * For a kernel with fault injection (/proc/thread-self/fail-nth; what may fail is set in debugfs, failslab and
 * fail_page_alloc). The first, second, ... allocation fails until there are no more to fail: then the module loads as usual.
 * A load that fails must leave no module behind; one that succeeds although something was refused is unloaded and counted as
 * well. One thread, no state but the file's bytes.
 *
 * Exit status: 0 every load ended in one of these ways, 1 one did not, 2 wrong usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { UNLOAD_S = 10 };

static void *bytes;
static size_t size;

static int complain(const char *what)
{
	printf("memx-failnth: %s: %s\n", what, strerror(errno));
	return 1;
}

static bool read_all(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return false;
	size = (size_t)st.st_size;
	bytes = malloc(size);
	return bytes && read(fd, bytes, size) == (ssize_t)size && !close(fd);
}

/* Loads with the @n-th allocation failing. *@left: what was not counted down, 0 if an allocation failed. Returns an errno. */
static int load(int nth, unsigned long n, const char *parameters, unsigned long *left)
{
	char text[24] = "";
	int err;

	snprintf(text, sizeof(text), "%lu", n);
	if (pwrite(nth, text, strlen(text), 0) < 0)
		exit(complain("/proc/thread-self/fail-nth"));
	err = syscall(SYS_init_module, bytes, size, parameters) ? errno : 0;
	memset(text, 0, sizeof(text));
	if (pread(nth, text, sizeof(text) - 1, 0) < 0 || pwrite(nth, "0", 1, 0) < 0)
		exit(complain("/proc/thread-self/fail-nth"));
	*left = strtoul(text, NULL, 10);
	return err;
}

static bool loaded(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return !access(path, F_OK);
}

/* The module may be busy for a moment: with the glue that its uevent has started. */
static int unload(const char *name)
{
	struct timespec pause = { .tv_nsec = 10000000 };
	int tries;

	for (tries = 0; tries < UNLOAD_S * 100; tries++) {
		if (!syscall(SYS_delete_module, name, O_NONBLOCK))
			return 0;
		if (errno != EBUSY && errno != EAGAIN)
			break;
		nanosleep(&pause, NULL);
	}
	return complain("unloading");
}

static int usage(void)
{
	fprintf(stderr, "usage: memx-failnth [--first N] [--step N] FILE NAME [PARAMETERS]\n");
	return 2;
}

static int walk(int nth, unsigned long first, unsigned long step, const char *name, const char *parameters)
{
	unsigned long n, left, refused = 0, survived = 0;
	int err;

	for (n = first;; n += step) {
		err = load(nth, n, parameters, &left);
		if (err && left) {
			errno = err;
			return complain("loading with nothing failing");
		}
		/* Parts of the kernel call a lack of memory by other names. */
		if (err && err != ENOMEM)
			printf("# allocation %lu failed, and loading said: %s\n", n, strerror(err));
		if (err && loaded(name)) {
			printf("memx-failnth: allocation %lu failed, so did loading, and the module is there all the same\n", n);
			return 1;
		}
		if (!err && unload(name))
			return 1;
		refused += err != 0;
		survived += !err && !left;
		if (left)
			break;
	}
	printf("failed_at_most=%lu refused=%lu survived=%lu\n", n - 1, refused, survived);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "first", required_argument, NULL, 'f' }, { "step", required_argument, NULL, 's' }, { 0 }
	};
	unsigned long first = 1, step = 1;
	int c, nth;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		char *end = NULL;

		if (c == '?')
			return usage();
		*(c == 'f' ? &first : &step) = strtoul(optarg, &end, 10);
		if (*end)
			return usage();
	}
	if (argc - optind < 2 || argc - optind > 3 || !first || !step)
		return usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!read_all(argv[optind]))
		return complain(argv[optind]);
	nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth < 0)
		return complain("/proc/thread-self/fail-nth");
	return walk(nth, first, step, argv[optind + 1], argc - optind > 2 ? argv[optind + 2] : "");
}
