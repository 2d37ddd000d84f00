// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two ends of push and pull, run by the agent as commands of their own, so
 * that a slow file never holds up another command. They own what they open.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "agent.h"

enum { BLOCK = 65536 };

static char block[BLOCK];

static int complain(const char *path)
{
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	return 1;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= n;
	}
	return 0;
}

static int make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) && errno != EEXIST) {
			*slash = '/';
			return -1;
		}
		*slash = '/';
	}
	return 0;
}

/* Exactly size bytes from standard input to fd. */
static int copy_in(int fd, long long size)
{
	while (size) {
		size_t want = size < BLOCK ? (size_t)size : BLOCK;
		ssize_t n = read(0, block, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EPIPE;	/* the sender went away */
		if (n <= 0 || write_all(fd, block, n))
			return -1;
		size -= n;
	}
	return 0;
}

/* argv: MODE SIZE NAME PATH; a PATH that is a directory gets NAME in it. */
int put_main(char **argv)
{
	mode_t mode = strtoul(argv[0], NULL, 8);
	long long size = strtoll(argv[1], NULL, 10);
	char path[PATH_MAX], part[PATH_MAX + 32];
	struct stat st;
	int dir, len, fd;

	dir = argv[3][strlen(argv[3]) - 1] == '/' ||
	      (!stat(argv[3], &st) && S_ISDIR(st.st_mode));
	len = snprintf(path, sizeof(path), "%s%s%s", argv[3], dir ? "/" : "",
		       dir ? argv[2] : "");
	if (len >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return complain(argv[3]);
	}
	if (make_parents(path))
		return complain(path);
	snprintf(part, sizeof(part), "%s.part-%d", path, getpid());
	fd = open(part, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return complain(part);
	if (copy_in(fd, size) || fchmod(fd, mode & 07777) || close(fd) ||
	    rename(part, path)) {
		complain(path);
		unlink(part);
		return 1;
	}
	return 0;
}

/* argv: PATH. A device or a file of /proc is read to its end. */
int get_main(char **argv)
{
	struct stat st;
	ssize_t n;
	int fd = open(argv[0], O_RDONLY);

	if (fd < 0 || fstat(fd, &st))
		return complain(argv[0]);
	if (S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return complain(argv[0]);
	}
	dprintf(1, "%o %lld\n", st.st_mode & 07777, (long long)st.st_size);
	while ((n = read(fd, block, BLOCK)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || write_all(1, block, n))
			return complain(argv[0]);
	}
	return 0;
}
