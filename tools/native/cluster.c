// SPDX-License-Identifier: GPL-2.0-only
/*
 * cluster.c - servers and relay as child processes; see cluster.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <user/ctl.h>
#include <user/text.h>

#include "cluster.h"

enum {
	READY_MS	= 30000,	/* emulated and sanitised programs start slowly */
	END_MS		= 10000,
};

/* ---- children ---- */

static int pid_fd(pid_t pid)
{
	return pidfd_open(pid, 0);
}

static void __attribute__((noreturn)) become(const struct cluster *c, const char *log, char *const argv[])
{
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	sigset_t none;
	char notify[160];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snprintf(notify, sizeof(notify), "%s/notify", c->folder);
	setenv("NOTIFY_SOCKET", notify, 1);
	unsetenv("JOURNAL_STREAM");
	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
	execv(argv[0], argv);
	_exit(127);
}

static void tail_log(const char *log)
{
	char line[400];
	FILE *f = fopen(log, "r");

	while (f && fgets(line, sizeof(line), f))
		fprintf(stderr, "  %s", line);
	if (f)
		fclose(f);
}

/* Waits for READY=1 of the child that was started last, or its end. */
static int await_ready(struct cluster *c, int pidfd)
{
	u64 end = memx_now() + READY_MS * 1000000ULL, now;
	char text[512];

	while ((now = memx_now()) < end) {
		struct pollfd fds[2] = { { .fd = c->notify, .events = POLLIN }, { .fd = pidfd, .events = POLLIN } };
		ssize_t len;

		if (poll(fds, 2, (int)((end - now) / 1000000) + 1) < 0 && errno != EINTR)
			return -errno;
		len = recv(c->notify, text, sizeof(text) - 1, MSG_DONTWAIT);
		if (len > 0) {
			text[len] = 0;
			if (strstr(text, "READY=1"))
				return 0;
		} else if (fds[1].revents) {
			return -ECHILD;
		}
	}
	return -ETIMEDOUT;
}

/* What earlier children had to say is not the next one's readiness. */
static void drain_notify(struct cluster *c)
{
	char text[512];

	while (recv(c->notify, text, sizeof(text), MSG_DONTWAIT) > 0)
		;
}

static void end_child(pid_t *pid, int *pidfd, int sig)
{
	struct pollfd fd = { .fd = *pidfd, .events = POLLIN };

	if (!*pid)
		return;
	kill(*pid, sig);
	if (sig == SIGTERM && poll(&fd, 1, END_MS) <= 0)
		kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	close(*pidfd);
	*pid = 0;
	*pidfd = -1;
}

static int start_child(struct cluster *c, pid_t *pid, int *pidfd, const char *name, char *const argv[])
{
	char log[160];
	int err;

	snprintf(log, sizeof(log), "%s/%s.log", c->folder, name);
	drain_notify(c);
	*pid = fork();
	if (*pid < 0)
		return -errno;
	if (!*pid)
		become(c, log, argv);
	*pidfd = pid_fd(*pid);
	err = await_ready(c, *pidfd);
	if (err) {
		fprintf(stderr, "%s: not ready (%s); its log:\n", argv[0], err == -ECHILD ? "it ended" : strerror(-err));
		tail_log(log);
		end_child(pid, pidfd, SIGKILL);
	}
	return err;
}

static const char *bin_folder(const struct cluster *c, char *to, size_t size)
{
	ssize_t len;
	char *slash;

	if (c->config.bin)
		return c->config.bin;
	len = readlink("/proc/self/exe", to, size - 1);
	to[len < 0 ? 0 : len] = 0;
	slash = strrchr(to, '/');
	if (slash)
		*slash = 0;
	return to;
}

/* ---- donors ---- */

static int ask_port(struct cluster *c, u32 donor, const char *control)
{
	char err[MEMX_CTL_ERR];
	json_t *reply = memx_ctl_call(control, json_pack("{s:s}", "cmd", "status"), READY_MS, err);

	c->donor[donor].port = (u16)json_integer_value(json_object_get(json_object_get(reply, "data"), "port"));
	json_decref(reply);
	if (c->donor[donor].port)
		return 0;
	fprintf(stderr, "memx-server %u does not say its port: %s\n", donor, reply ? "no \"port\" in its status" : err);
	return -EPROTO;
}

int cluster_start_donor(struct cluster *c, u32 donor)
{
	char program[256], bin[192], name[16], listen[32], memory[32], id[160], control[160];
	char *argv[] = { program, (char *)"--memory", memory, (char *)"--listen", listen, (char *)"--domain", name,
			 (char *)"--id-file", id, (char *)"--control", control, NULL };
	int err;

	snprintf(program, sizeof(program), "%s/memx-server", bin_folder(c, bin, sizeof(bin)));
	snprintf(name, sizeof(name), "d%u", donor);
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", c->donor[donor].port);
	snprintf(memory, sizeof(memory), "%llu", (unsigned long long)c->config.donor_memory);
	snprintf(id, sizeof(id), "%s/%s.id", c->folder, name);
	snprintf(control, sizeof(control), "%s/%s.sock", c->folder, name);
	err = start_child(c, &c->donor[donor].pid, &c->donor[donor].pidfd, name, argv);
	if (!err && !c->donor[donor].port)
		err = ask_port(c, donor, control);
	return err;
}

void cluster_end_donor(struct cluster *c, u32 donor, int sig)
{
	end_child(&c->donor[donor].pid, &c->donor[donor].pidfd, sig);
}

/* ---- relay ---- */

static int write_settings(struct cluster *c, const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return -errno;
	fprintf(f, "[relay]\ncontrol = %s\nxenstore = no\nshm = %s\nid_file = %s/relay.id\n%s", c->relay_control, c->shm, c->folder,
		c->config.relay_extra ? c->config.relay_extra : "");
	for (u32 i = 0; i < c->config.donors; i++)
		fprintf(f, "\n[donor d%u]\naddress = 127.0.0.1:%u\n", i, c->donor[i].port);
	for (u32 i = 0; i < c->config.guests; i++)
		fprintf(f, "\n[guest %s]\nquota = %llu\nreplicas = %u\n", c->config.guest[i].name,
			(unsigned long long)c->config.guest[i].quota, c->config.guest[i].replicas);
	return fclose(f) ? -errno : 0;
}

int cluster_start_relay(struct cluster *c)
{
	char program[256], bin[192], settings[160];
	char *argv[] = { program, (char *)"--config", settings, NULL };
	int err;

	snprintf(program, sizeof(program), "%s/memx-dom0-relay", bin_folder(c, bin, sizeof(bin)));
	snprintf(settings, sizeof(settings), "%s/relay.conf", c->folder);
	err = write_settings(c, settings);
	if (err) {
		fprintf(stderr, "%s: %s\n", settings, strerror(-err));
		return err;
	}
	return start_child(c, &c->relay, &c->relay_pidfd, "relay", argv);
}

void cluster_end_relay(struct cluster *c, int sig)
{
	end_child(&c->relay, &c->relay_pidfd, sig);
}

/* ---- all of it ---- */

static int make_folder(struct cluster *c)
{
	const char *tmp = getenv("TMPDIR");
	int len;

	if (c->config.folder)
		len = snprintf(c->folder, sizeof(c->folder), "%s", c->config.folder);
	else
		len = snprintf(c->folder, sizeof(c->folder), "%s/memx-XXXXXX", tmp ? tmp : "/tmp");
	/* A socket's address has room for 108 bytes, names of ours included. */
	if ((size_t)len >= sizeof(c->folder) - 16)
		return -ENAMETOOLONG;
	c->own_folder = !c->config.folder;
	if (c->own_folder)
		return mkdtemp(c->folder) ? 0 : -errno;
	return mkdir(c->folder, 0755) && errno != EEXIST ? -errno : 0;
}

static int make_notify(struct cluster *c)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/notify", c->folder);
	unlink(un.sun_path);
	c->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (c->notify < 0 || bind(c->notify, (const struct sockaddr *)&un, sizeof(un)))
		return -errno;
	return 0;
}

int cluster_start(struct cluster *c, const struct cluster_config *config)
{
	int err;

	memset(c, 0, sizeof(*c));
	c->config = *config;
	c->notify = c->relay_pidfd = -1;
	err = make_folder(c);
	if (!err)
		err = make_notify(c);
	if (err) {
		fprintf(stderr, "scratch folder %s: %s\n", c->folder, strerror(-err));
		return err;
	}
	snprintf(c->shm, sizeof(c->shm), "%s/guests.sock", c->folder);
	snprintf(c->relay_control, sizeof(c->relay_control), "%s/relay.sock", c->folder);
	for (u32 i = 0; i < config->donors && !err; i++)
		err = cluster_start_donor(c, i);
	if (!err)
		err = cluster_start_relay(c);
	if (err)
		cluster_stop(c, true);
	return err;
}

static void remove_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

void cluster_kill(struct cluster *c)
{
	if (c->relay > 0)
		kill(c->relay, SIGKILL);
	for (u32 i = 0; i < c->config.donors; i++)
		if (c->donor[i].pid > 0)
			kill(c->donor[i].pid, SIGKILL);
	if (c->own_folder)
		remove_folder(c->folder);
}

void cluster_stop(struct cluster *c, bool keep)
{
	cluster_end_relay(c, SIGTERM);
	for (u32 i = 0; i < c->config.donors; i++)
		cluster_end_donor(c, i, SIGTERM);
	if (c->notify >= 0)
		close(c->notify);
	if (c->own_folder && !keep)
		remove_folder(c->folder);
	else if (c->own_folder)
		fprintf(stderr, "logs are kept in %s\n", c->folder);
}
