// SPDX-License-Identifier: GPL-2.0-only
/*
 * The other end of the agent, for one host to run a command on another: what
 * ssh is to `xl migrate -s`. One thread; it waits wherever it has to, also
 * where the other end of a standard stream made it non-blocking.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "agent.h"

enum { BLOCK = 16384, OWN_FAULT = 125 };

static char block[BLOCK];

static int fault(const char *what)
{
	fprintf(stderr, "memx-agent: %s: %s\n", what, strerror(errno));
	return OWN_FAULT;
}

/* Whether errno only asks for patience; waits for the descriptor then. */
static int patience(int fd, short events)
{
	struct pollfd one = { .fd = fd, .events = events };

	if (errno != EAGAIN && errno != EINTR)
		return 0;
	poll(&one, 1, -1);
	return 1;
}

static int all_out(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && patience(fd, POLLOUT))
			continue;
		if (n < 0)
			return -1;
		at += n;
		len -= n;
	}
	return 0;
}

static int all_in(int fd, void *data, size_t len)
{
	char *at = data;

	while (len) {
		ssize_t n = read(fd, at, len);

		if (n < 0 && patience(fd, POLLIN))
			continue;
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			return -1;
		at += n;
		len -= n;
	}
	return 0;
}

static int send_frame(int sock, uint8_t type, const void *data, size_t len)
{
	struct frame_head head = { .len = len, .type = type };

	return all_out(sock, &head, sizeof(head)) || all_out(sock, data, len) ? -1 : 0;
}

/* One frame from the agent: -1 to go on, else the exit status. */
static int receive_frame(int sock)
{
	struct frame_head head;
	uint32_t words[2] = { 0, 0 };

	if (all_in(sock, &head, sizeof(head)) || head.len > BLOCK ||
	    all_in(sock, block, head.len))
		return fault("the other host went away");
	memcpy(words, block, head.len < sizeof(words) ? head.len : sizeof(words));
	switch (head.type) {
	case 'O':
		return all_out(1, block, head.len) ? fault("output") : -1;
	case 'E':
		return all_out(2, block, head.len) ? fault("output") : -1;
	case 'Q':
		return words[0] ? (int)(128 + words[1]) : (int)words[1];
	case 'F':
		errno = words[0];
		fault("the command");
		return 127;
	default:
		return -1;
	}
}

static int connect_to(const char *address, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int one = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
	    connect(sock, (struct sockaddr *)&to, sizeof(to)))
		return -1;
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return sock;
}

/* argv: ADDRESS PORT COMMAND, which a shell there takes apart. */
int client_main(char **argv)
{
	struct pollfd fds[2] = { { .fd = 0, .events = POLLIN }, { .events = POLLIN } };
	int sock = connect_to(argv[0], argv[1]), status = -1;
	char request[BLOCK];
	ssize_t n;

	if (sock < 0)
		return fault(argv[0]);
	n = snprintf(request, sizeof(request), "sh%c-c%c%s%c", 0, 0, argv[2], 0);
	if (n >= (ssize_t)sizeof(request)) {
		errno = E2BIG;
		return fault("the command");
	}
	if (send_frame(sock, 'X', request, n))
		return fault(argv[0]);
	fds[1].fd = sock;
	while (status < 0) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return fault("poll");
		if (fds[1].revents)
			status = receive_frame(sock);
		if (status >= 0 || !fds[0].revents)
			continue;
		n = read(0, block, sizeof(block));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			n = 0;
		if (!n)
			fds[0].fd = -1;
		if (send_frame(sock, 'I', block, n))
			return fault("the other host went away");
	}
	return status;
}
