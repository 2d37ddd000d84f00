// SPDX-License-Identifier: GPL-2.0-only
/*
 * In place of udev in the small guests: listens to the kernel's uevents and
 * runs one program for each that tells of a device's change, one after the
 * other, with the event's fields as its environment. The program decides what
 * concerns it. Nothing is started for devices and modules that come and go,
 * as udev's rule starts nothing for them: there are many of them, and what
 * concerns the program would wait behind them.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "agent.h"

#define CHANGE "change@"

enum { MESSAGE = 8192, FIELDS = 64 };

static char message[MESSAGE + 1];

static void run(const char *program, size_t len)
{
	char *env[FIELDS + 2];
	size_t at = strlen(message) + 1, count = 0;
	pid_t pid;

	/* "ACTION@DEVPATH", then KEY=VALUE, each NUL-ended. */
	env[count++] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	while (at < len && count < FIELDS + 1) {
		env[count++] = message + at;
		at += strlen(message + at) + 1;
	}
	env[count] = NULL;
	pid = fork();
	if (pid == 0) {
		execle(program, program, (char *)NULL, env);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

int uevents_main(char **argv)
{
	struct sockaddr_nl from, own = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int size = 1 << 20, fd;
	socklen_t from_len;
	ssize_t n;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own))) {
		fprintf(stderr, "uevents: %s\n", strerror(errno));
		return 1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	/* From here on no event is missed: let the caller go on. */
	if (daemon(0, 1)) {
		fprintf(stderr, "uevents: %s\n", strerror(errno));
		return 1;
	}
	for (;;) {
		from_len = sizeof(from);
		n = recvfrom(fd, message, MESSAGE, 0, (struct sockaddr *)&from, &from_len);
		/* Only the kernel is believed; it has port 0. */
		if (n <= 0 || from.nl_pid)
			continue;
		message[n] = '\0';
		if (strncmp(message, CHANGE, strlen(CHANGE)))
			continue;
		run(argv[0], n);
	}
}
