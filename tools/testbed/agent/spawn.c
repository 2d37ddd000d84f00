// SPDX-License-Identifier: GPL-2.0-only
/*
 * Starting a command without waiting for what its exec waits for: clone(CLONE_VM)
 * on a stack of the caller's, so that only the command itself may block on
 * memory. The caller owns struct start and leaves it alone until the command
 * has ended; the child reads it until its exec and writes only exec_errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "agent.h"

static char *const environment[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "USER=root", "TERM=dumb", NULL,
};

static long raw(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;	/* prctl insists */
	long ret;

	__asm__ volatile("syscall" : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

/*
 * The child, on its own stack and in the parent's memory: raw system calls
 * only, since errno belongs to the parent.
 */
static int start_child(void *arg)
{
	struct start *s = arg;
	uint64_t none = 0;
	long fd;

	raw(SYS_setsid, 0, 0, 0, 0);
	for (int i = 0; i < 3; i++)
		raw(SYS_dup2, s->child_fd[i], i, 0, 0);
	/* The agent is exempt from the OOM killer, its commands are not. */
	fd = raw(SYS_open, (long)"/proc/self/oom_score_adj", O_WRONLY, 0, 0);
	if (fd >= 0)
		raw(SYS_write, fd, (long)"0", 1, 0);
	raw(SYS_prctl, PR_SET_IO_FLUSHER, 0, 0, 0);
	raw(SYS_close_range, 3, ~0U, 0, 0);
	raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof(none));
	s->exec_errno = -raw(SYS_execve, (long)s->path, (long)s->argv,
			     (long)environment, 0);
	raw(SYS_exit_group, 127, 0, 0, 0);
	return 127;
}

static int find_program(struct start *s)
{
	const char *name = s->argv[0];
	const char *dir = environment[0] + strlen("PATH=");
	int len;

	if (strchr(name, '/')) {
		len = snprintf(s->path, sizeof(s->path), "%s", name);
		return len < (int)sizeof(s->path) ? 0 : ENAMETOOLONG;
	}
	while (*name && *dir) {
		int span = strcspn(dir, ":");

		len = snprintf(s->path, sizeof(s->path), "%.*s/%s", span, dir, name);
		if (len < (int)sizeof(s->path) && !access(s->path, X_OK))
			return 0;
		dir += span + (dir[span] == ':');
	}
	return ENOENT;
}

static int parse_request(struct start *s, char *req, size_t len)
{
	size_t at = 0, argc = 0;

	req[len] = '\0';
	while (at < len) {
		if (argc == START_ARGS)
			return E2BIG;
		s->argv[argc++] = req + at;
		at += strlen(req + at) + 1;
	}
	s->argv[argc] = NULL;
	return argc ? find_program(s) : EINVAL;
}

/*
 * Run the NUL-ended arguments in req (len bytes and one of room behind them,
 * which stay until the exec). 0, the process and our ends of its three pipes,
 * or an errno.
 */
int start_command(struct start *s, char *req, size_t len, pid_t *pid, int fds[3])
{
	int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	int fault = parse_request(s, req, len);

	*pid = 0;
	for (int i = 0; i < 3 && !fault; i++)
		fault = pipe2(pipes[i], O_CLOEXEC) ? errno : 0;
	if (!fault) {
		for (int i = 0; i < 3; i++)
			s->child_fd[i] = pipes[i][i == 0 ? 0 : 1];
		s->exec_errno = 0;
		*pid = clone(start_child, s->stack + sizeof(s->stack),
			     CLONE_VM | SIGCHLD, s);
		if (*pid < 0) {
			fault = errno;
			*pid = 0;
		}
	}
	for (int i = 0; i < 3; i++) {
		int theirs = i == 0 ? 0 : 1;

		/* The child has its own copies since clone(). */
		if (pipes[i][theirs] >= 0)
			close(pipes[i][theirs]);
		if (fault && pipes[i][!theirs] >= 0)
			close(pipes[i][!theirs]);
		fds[i] = pipes[i][!theirs];
	}
	return fault;
}
