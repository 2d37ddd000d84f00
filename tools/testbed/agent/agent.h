/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the agent's files share: the frames on the wire and the programs that
 * the one binary is, by its first argument.
 */
#ifndef MEMX_TESTBED_AGENT_H
#define MEMX_TESTBED_AGENT_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AGENT_PORT	4077
#define AGENT_PROTOCOL	1
#define AGENT_PATH	"/sbin/memx-agent"

struct frame_head {
	uint32_t len;
	uint8_t type;
	uint8_t zero[3];
};

_Static_assert(sizeof(struct frame_head) == 8, "frame_head is on the wire");

enum { START_ARGS = 1024, START_STACK = 16384 };

/* A command that is being started; spawn.c. */
struct start {
	unsigned char stack[START_STACK] __attribute__((aligned(16)));
	int child_fd[3];		/* numbers as the child has them */
	volatile int exec_errno;	/* why its exec failed; 0 while it has not */
	char *argv[START_ARGS + 1];
	char path[PATH_MAX];
};

int start_command(struct start *s, char *req, size_t len, pid_t *pid, int fds[3]);

/* memx-agent --put MODE SIZE NAME PATH: standard input becomes a file. */
int put_main(char **argv);
/* memx-agent --get PATH: "MODE SIZE\n" and the file on standard output. */
int get_main(char **argv);
/* memx-agent --run ADDRESS PORT COMMAND: a shell command on another host. */
int client_main(char **argv);
/* memx-agent --uevents PROGRAM: in the background, PROGRAM with each uevent's fields. */
int uevents_main(char **argv);

#endif
