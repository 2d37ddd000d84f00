// SPDX-License-Identifier: GPL-2.0-only
/*
 * The testbed's agent: runs commands, and takes and gives files, inside Dom0
 * and the guests. Process 1 there; reaps what nobody else waits for.
 *
 * One TCP connection is one command. Frames both ways: le32 length, u8 type,
 * three zero bytes, payload.
 *   to the agent    'X' run: NUL-ended arguments    'I' standard input, empty = end
 *                   'S' le32 signal                 'R' read: NUL-ended names of files
 *   from the agent  'H' hello: le32 protocol        'O', 'E' standard output, error
 *                   'Q' end: le32 kind (0 exited, 1 killed), le32 number
 *                   'F' could not be run: le32 errno
 *
 * It has to answer when the machine's memory is exhausted and its swap stands
 * still, as far as the kernel lets it. So everything is allocated at the start
 * and locked, files live on ramfs, there is one thread that waits for nothing
 * but epoll, and a command starts by clone(CLONE_VM) on a stack of its own:
 * whatever its exec has to wait for, only that command waits. What the kernel
 * says in files of /proc and /sys the agent reads itself when asked to ('R',
 * instead of 'X'), so that this needs no new process at all.
 *
 * The main thread owns all data. A starting child shares the memory until its
 * exec; it reads its slot's struct start and writes there only exec_errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "agent.h"

enum {
	SLOTS = 12,		/* commands at once; more wait in the backlog */
	IN_SIZE = 16384,
	OUT_SIZE = 16384,
	REQ_SIZE = 65536,	/* the arguments of one command */
	TERM_GRACE_S = 3,	/* from SIGTERM to SIGKILL when the client is gone */
	LINGER_S = 5,
};

/*
 * LINGER: all is sent; what still arrives is thrown away until the client
 * closes, since closing over unread bytes would reset what was just sent.
 */
enum phase { FREE, REQUEST, RUNNING, FLUSH, LINGER };

struct watch {
	int fd;
	uint32_t events;	/* what epoll was told; 0 = not registered */
	struct slot *slot;
};

struct slot {
	enum phase phase;
	int gone;		/* the client went away, the command is being ended */
	int grace;		/* seconds left: gone until SIGKILL, LINGER until closed */
	int exited, status;
	pid_t pid;		/* also its process group and session; 0 = none */
	struct watch sock, in, out, err;
	struct frame_head head;	/* of the frame being read */
	int have_head;
	size_t left;		/* bytes of its payload not consumed yet */
	size_t in_off, in_len, out_off, out_len, req_len;
	int err_first;		/* the two outputs take turns */
	unsigned char in_buf[IN_SIZE];
	unsigned char out_buf[OUT_SIZE];
	char req[REQ_SIZE + 1];
	struct start start;
};

static struct slot slots[SLOTS];
static struct watch listener, children, ticker;
static int epoll_fd;
static void die(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch_for(struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (w->fd < 0 || w->events == events)
		return;
	if (!events)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	else
		epoll_ctl(epoll_fd, w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
			  w->fd, &ev);
	w->events = events;
}

static void drop(struct watch *w)
{
	watch_for(w, 0);
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

static void release(struct slot *s)
{
	drop(&s->sock);
	drop(&s->in);
	drop(&s->out);
	drop(&s->err);
	s->phase = FREE;
	watch_for(&listener, EPOLLIN);
}

static void put_frame(struct slot *s, uint8_t type, uint32_t a, uint32_t b,
		      size_t words)
{
	struct frame_head head = { .len = words * 4, .type = type };
	uint32_t payload[2] = { a, b };

	memcpy(s->out_buf, &head, sizeof(head));
	memcpy(s->out_buf + sizeof(head), payload, words * 4);
	s->out_off = 0;
	s->out_len = sizeof(head) + words * 4;
}

/* The client went away: its command must not stay behind. */
static void abandon(struct slot *s)
{
	if (!s->pid) {
		release(s);
		return;
	}
	drop(&s->sock);
	s->gone = 1;
	s->grace = TERM_GRACE_S;
	kill(-s->pid, SIGTERM);
}

/* One of our ends of a command's pipes. */
static void own_end(struct watch *w, struct slot *s, int fd)
{
	w->fd = fd;
	w->events = 0;
	w->slot = s;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void run_request(struct slot *s)
{
	int fds[3];
	int fault = start_command(&s->start, s->req, s->req_len, &s->pid, fds);

	if (fault) {
		put_frame(s, 'F', fault, 0, 1);
		s->phase = FLUSH;
		return;
	}
	own_end(&s->in, s, fds[0]);
	own_end(&s->out, s, fds[1]);
	own_end(&s->err, s, fds[2]);
	s->phase = RUNNING;
}

/*
 * Each file as it is now with a NUL behind it, one that cannot be read as an
 * empty one; as much as fits into one frame. Then the end, as of a command.
 */
static void read_files(struct slot *s)
{
	const struct frame_head end = { .len = 8, .type = 'Q' };
	const size_t tail = sizeof(end) + end.len;
	struct frame_head head = { .type = 'O' };
	unsigned char *to = s->out_buf + sizeof(head);
	size_t room = OUT_SIZE - sizeof(head) - tail, used = 0, at = 0;

	s->req[s->req_len] = '\0';
	for (; at < s->req_len && used < room; at += strlen(s->req + at) + 1) {
		int fd = open(s->req + at, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		ssize_t n = 1;

		while (fd >= 0 && n > 0 && used + 1 < room) {
			n = read(fd, to + used, room - 1 - used);
			used += n > 0 ? n : 0;
		}
		if (fd >= 0)
			close(fd);
		to[used++] = '\0';
	}
	head.len = used;
	memcpy(s->out_buf, &head, sizeof(head));
	memset(to + used, 0, tail);
	memcpy(to + used, &end, sizeof(end));
	s->out_off = 0;
	s->out_len = sizeof(head) + used + tail;
	s->phase = FLUSH;
}

static void take(struct slot *s, size_t n)
{
	s->in_off += n;
	s->left -= n;
	if (s->in_off == s->in_len)
		s->in_off = s->in_len = 0;
}

/* Standard input: 1 when the pipe takes no more for now. */
static int feed(struct slot *s, size_t have)
{
	ssize_t n;

	if (s->in.fd < 0) {	/* nobody reads it any more */
		take(s, have);
		return 0;
	}
	n = write(s->in.fd, s->in_buf + s->in_off, have);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n < 0) {
		drop(&s->in);
		return 0;
	}
	take(s, n);
	return 0;
}

/* One step through what was received: 0 when there is no more to do for now. */
static int consume(struct slot *s)
{
	size_t have = s->in_len - s->in_off;
	uint32_t sig;

	if (!s->have_head) {
		if (have < sizeof(s->head)) {
			memmove(s->in_buf, s->in_buf + s->in_off, have);
			s->in_off = 0;
			s->in_len = have;
			return 0;
		}
		memcpy(&s->head, s->in_buf + s->in_off, sizeof(s->head));
		s->left = s->head.len + sizeof(s->head);
		take(s, sizeof(s->head));
		s->have_head = 1;
		if (s->phase == REQUEST &&
		    ((s->head.type != 'X' && s->head.type != 'R') || s->left > REQ_SIZE)) {
			put_frame(s, 'F', E2BIG, 0, 1);
			s->phase = FLUSH;
			return 0;
		}
		if (s->head.type == 'I' && !s->left)
			drop(&s->in);
		have = s->in_len - s->in_off;
	}
	if (have > s->left)
		have = s->left;
	if (s->left && !have)
		return 0;
	if (s->phase == REQUEST) {
		memcpy(s->req + s->req_len, s->in_buf + s->in_off, have);
		s->req_len += have;
		take(s, have);
		if (!s->left && s->head.type == 'R')
			read_files(s);
		else if (!s->left)
			run_request(s);
	} else if (s->head.type == 'I' && s->left) {
		if (feed(s, have))
			return 0;
	} else if (s->head.type == 'S' && have == sizeof(sig)) {
		memcpy(&sig, s->in_buf + s->in_off, sizeof(sig));
		take(s, have);
		if (s->pid && sig && sig < 65)
			kill(-s->pid, sig);
	} else {
		take(s, have);
	}
	s->have_head = s->left != 0;
	return 1;
}

static void receive(struct slot *s)
{
	ssize_t n;

	if (s->phase == LINGER)
		s->in_off = s->in_len = 0;
	if (s->in_off && s->in_len == IN_SIZE) {
		memmove(s->in_buf, s->in_buf + s->in_off, s->in_len - s->in_off);
		s->in_len -= s->in_off;
		s->in_off = 0;
	}
	if (s->in_len == IN_SIZE)
		return;
	n = recv(s->sock.fd, s->in_buf + s->in_len, IN_SIZE - s->in_len, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		abandon(s);
	else if (n > 0)
		s->in_len += n;
}

/* Read one of the outputs into an empty buffer; 1 when it gave something. */
static int fetch(struct slot *s, struct watch *w, uint8_t type)
{
	struct frame_head head = { .type = type };
	ssize_t n;

	if (w->fd < 0)
		return 0;
	n = read(w->fd, s->out_buf + sizeof(head), OUT_SIZE - sizeof(head));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		drop(w);
		return 0;
	}
	head.len = n;
	memcpy(s->out_buf, &head, sizeof(head));
	s->out_off = 0;
	s->out_len = sizeof(head) + n;
	s->err_first = type == 'O';
	return 1;
}

/* Fill the empty output buffer with what is due next, if anything is. */
static int next_output(struct slot *s)
{
	if (s->phase != RUNNING)
		return 0;
	if (s->err_first ? fetch(s, &s->err, 'E') || fetch(s, &s->out, 'O')
			 : fetch(s, &s->out, 'O') || fetch(s, &s->err, 'E'))
		return 1;
	if (!s->exited)
		return 0;
	/* Whatever it left running may keep the pipes; it gets EPIPE. */
	s->phase = FLUSH;
	if (s->start.exec_errno)
		put_frame(s, 'F', s->start.exec_errno, 0, 1);
	else if (WIFSIGNALED(s->status))
		put_frame(s, 'Q', 1, WTERMSIG(s->status), 2);
	else
		put_frame(s, 'Q', 0, WEXITSTATUS(s->status), 2);
	return 1;
}

static void transmit(struct slot *s)
{
	ssize_t n;

	while (s->sock.fd >= 0) {
		if (s->out_off == s->out_len) {
			s->out_off = s->out_len = 0;
			if (next_output(s))
				continue;
			if (s->phase == FLUSH) {
				s->phase = LINGER;
				s->grace = LINGER_S;
				shutdown(s->sock.fd, SHUT_WR);
			}
			return;
		}
		n = send(s->sock.fd, s->out_buf + s->out_off,
			 s->out_len - s->out_off, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			abandon(s);
			return;
		}
		s->out_off += n;
	}
}

static void set_watches(struct slot *s)
{
	int pending = s->out_len != 0;
	int feeding = s->have_head && s->head.type == 'I' && s->left &&
		      s->in_len > s->in_off;

	if (s->phase == FREE || s->gone)
		return;
	if (s->phase == LINGER)
		s->in_off = s->in_len = 0;
	watch_for(&s->sock, EPOLLRDHUP | (s->in_len - s->in_off < IN_SIZE ? EPOLLIN : 0) |
			(pending ? EPOLLOUT : 0));
	watch_for(&s->in, feeding ? EPOLLOUT : 0);
	watch_for(&s->out, pending ? 0 : EPOLLIN);
	watch_for(&s->err, pending ? 0 : EPOLLIN);
}

static void serve(struct slot *s)
{
	if (s->phase == FREE || s->gone)
		return;
	while ((s->phase == REQUEST || s->phase == RUNNING) && consume(s))
		;
	transmit(s);
	set_watches(s);
}

static void accept_client(void)
{
	struct slot *s = NULL;
	int one = 1, fd;

	for (int i = 0; i < SLOTS && !s; i++)
		if (slots[i].phase == FREE)
			s = &slots[i];
	if (!s) {
		watch_for(&listener, 0);	/* release() listens again */
		return;
	}
	fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	s->phase = REQUEST;
	s->gone = s->exited = s->have_head = s->err_first = 0;
	s->pid = 0;
	s->in_off = s->in_len = s->req_len = s->left = 0;
	s->sock = (struct watch){ .fd = fd, .slot = s };
	s->in.fd = s->out.fd = s->err.fd = -1;
	put_frame(s, 'H', AGENT_PROTOCOL, 0, 1);
	serve(s);
}

static struct slot *slot_of(pid_t pid)
{
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].phase != FREE && slots[i].pid == pid)
			return &slots[i];
	return NULL;
}

static void reap(void)
{
	struct signalfd_siginfo info;
	siginfo_t dead;
	struct slot *s;
	int status;

	while (read(children.fd, &info, sizeof(info)) > 0)
		;
	for (;;) {
		dead.si_pid = 0;
		if (waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT) || !dead.si_pid)
			return;
		s = slot_of(dead.si_pid);
		/* While it is not reaped, its group's number is nobody else's. */
		if (s && s->gone)
			kill(-s->pid, SIGKILL);
		waitpid(dead.si_pid, &status, 0);
		if (!s)
			continue;
		s->pid = 0;
		s->exited = 1;
		s->status = status;
		if (s->gone)
			release(s);
		else
			serve(s);
	}
}

static void tick(void)
{
	uint64_t count;

	if (read(ticker.fd, &count, sizeof(count)) < 0)
		return;
	for (int i = 0; i < SLOTS; i++) {
		struct slot *s = &slots[i];

		if (s->phase == LINGER && --s->grace <= 0)
			release(s);
		else if (s->phase != FREE && s->gone && --s->grace <= 0)
			kill(-s->pid, SIGKILL);
	}
}

/*
 * What the kernel allocates on our behalf is not to wait for swap: no I/O from
 * our reclaim, and a real-time task may go below the low-water mark. Commands
 * have neither (spawn.c and the reset on fork), they are what is tested.
 */
static void favour_memory(void)
{
	struct sched_param first = { .sched_priority = 1 };

	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) ||
	    sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first))
		die("memory reserves");
}

static void set_up(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(AGENT_PORT) };
	struct itimerspec second = { { 1, 0 }, { 1, 0 } };
	sigset_t mask;
	int one = 1, fd;

	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "-1000", 5) != 5)
		die("/proc/self/oom_score_adj");
	close(fd);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGPIPE);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sigdelset(&mask, SIGPIPE);
	children.fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	ticker.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (children.fd < 0 || ticker.fd < 0 || epoll_fd < 0 || listener.fd < 0)
		die("descriptors");
	timerfd_settime(ticker.fd, 0, &second, NULL);
	setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener.fd, (struct sockaddr *)&any, sizeof(any)) ||
	    listen(listener.fd, 64))
		die("port");
	memset(slots, 0, sizeof(slots));
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		die("mlockall");
	favour_memory();
	watch_for(&children, EPOLLIN);
	watch_for(&ticker, EPOLLIN);
	watch_for(&listener, EPOLLIN);
}

static void handle(struct watch *w, uint32_t events)
{
	struct slot *s = w->slot;

	if (w == &listener) {
		accept_client();
	} else if (w == &children) {
		reap();
	} else if (w == &ticker) {
		tick();
	} else if (w->fd >= 0) {
		if (w == &s->sock && (events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)))
			abandon(s);
		else if (w == &s->sock && (events & EPOLLIN))
			receive(s);
		else if (w == &s->in && (events & EPOLLERR))
			drop(&s->in);
		serve(s);
	}
}

int main(int argc, char **argv)
{
	struct epoll_event ev;

	if (argc == 6 && !strcmp(argv[1], "--put"))
		return put_main(argv + 2);
	if (argc == 3 && !strcmp(argv[1], "--get"))
		return get_main(argv + 2);
	if (argc == 5 && !strcmp(argv[1], "--run"))
		return client_main(argv + 2);
	if (argc == 3 && !strcmp(argv[1], "--uevents"))
		return uevents_main(argv + 2);
	if (argc != 1) {
		fprintf(stderr, "agent: unknown arguments\n");
		return 2;
	}
	set_up();
	for (;;)
		/* One at a time: handling one may end what another names. */
		if (epoll_wait(epoll_fd, &ev, 1, -1) == 1)
			handle(ev.data.ptr, ev.events);
}
