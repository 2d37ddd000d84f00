// SPDX-License-Identifier: GPL-2.0-only
/*
 * net.c - addresses, sockets, and connections that carry frames. State is in the connections, each its loop's thread's.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <unistd.h>

#include "user/net.h"

/* ---- addresses and sockets ---- */

int memx_addr_parse(struct memx_addr *addr, const char *text)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&addr->sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&addr->sa;
	const char *host = text, *end, *colon = strrchr(text, ':');
	uint64_t port;
	bool bracket = *text == '[';

	memset(addr, 0, sizeof(*addr));
	if (!colon || memx_parse_u64(colon + 1, &port) || port > UINT16_MAX)
		return -EINVAL;
	end = colon;
	if (bracket) {
		host++;
		if (end <= host || *--end != ']')
			return -EINVAL;
	}
	if ((size_t)(end - host) >= sizeof(addr->host))
		return -EINVAL;
	memcpy(addr->host, host, (size_t)(end - host));
	if (!bracket && strchr(addr->host, ':'))
		return -EINVAL;			/* an IPv6 address without brackets */
	if (addr->host[strcspn(addr->host, " \t/[]")])
		return -EINVAL;
	addr->port = (uint16_t)port;

	if (!*addr->host || !strcmp(addr->host, "*")) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(addr->port);
		addr->len = sizeof(*v6);
	} else if (inet_pton(AF_INET6, addr->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(addr->port);
		addr->len = sizeof(*v6);
	} else if (inet_pton(AF_INET, addr->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(addr->port);
		addr->len = sizeof(*v4);
	} else if (bracket || !addr->host[strspn(addr->host, "0123456789.")]) {
		return -EINVAL;			/* no IPv6 address, or digits that are no IPv4 address: no name either */
	}
	return 0;
}

int memx_addr_resolve(struct memx_addr *addr, unsigned int turn)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *at;
	char port[8];
	int ret;

	if (addr->len)
		return 0;
	snprintf(port, sizeof(port), "%u", addr->port);
	ret = getaddrinfo(addr->host, port, &hints, &list);
	if (ret)
		return ret == EAI_AGAIN ? -EAGAIN : -ENOENT;
	for (at = list; turn; turn--)
		at = at->ai_next ? at->ai_next : list;
	memcpy(&addr->sa, at->ai_addr, at->ai_addrlen);
	addr->len = at->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

const char *memx_addr_error(int ret)
{
	return ret == -EAGAIN ? gai_strerror(EAI_AGAIN) : ret == -ENOENT ? gai_strerror(EAI_NONAME) : strerror(-ret);
}

const char *memx_addr_format(char text[MEMX_ADDR_TEXT], const struct memx_addr *addr)
{
	bool v6 = strchr(addr->host, ':');

	snprintf(text, MEMX_ADDR_TEXT, "%s%s%s:%u", v6 ? "[" : "", *addr->host ? addr->host : "*", v6 ? "]" : "", addr->port);
	return text;
}

void memx_addr_from_sockaddr(struct memx_addr *addr, const struct sockaddr_storage *sa, socklen_t len)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;

	memset(addr, 0, sizeof(*addr));
	memcpy(&addr->sa, sa, len);
	addr->len = len;
	if (sa->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], addr->host, sizeof(addr->host));
		addr->port = ntohs(v6->sin6_port);
	} else if (sa->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, addr->host, sizeof(addr->host));
		addr->port = ntohs(v6->sin6_port);
	} else if (sa->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, addr->host, sizeof(addr->host));
		addr->port = ntohs(v4->sin_port);
	}
}

int memx_unix_address(struct sockaddr_un *un, const char *path)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(un->sun_path))
		return -ENAMETOOLONG;
	memcpy(un->sun_path, path, strlen(path));
	return 0;
}

int memx_net_listen(const struct memx_addr *addr)
{
	const int one = 1, zero = 0;
	int fd, ret;

	if (!addr->len)
		return -EDESTADDRREQ;
	fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (addr->sa.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (const struct sockaddr *)&addr->sa, addr->len) < 0 || listen(fd, 128) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

uint16_t memx_net_local_port(int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	struct memx_addr addr;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return 0;
	memx_addr_from_sockaddr(&addr, &sa, len);
	return addr.port;
}

/*
 * Small frames must not wait for each other; a peer that vanished without a word is noticed by the kernel too, though both
 * daemons judge by their own heartbeats long before.
 */
static void set_options(int fd, uint32_t user_timeout_ms)
{
	const int one = 1, idle = 10, interval = 5, count = 3;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	if (user_timeout_ms)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
}

int memx_net_accept(int fd, struct memx_addr *peer)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	int conn = accept4(fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (conn < 0)
		return -errno;
	set_options(conn, 30000);
	if (peer)
		memx_addr_from_sockaddr(peer, &sa, len);
	return conn;
}

int memx_net_connect(const struct memx_addr *addr, uint32_t user_timeout_ms)
{
	int fd, ret;

	if (!addr->len)
		return -EDESTADDRREQ;
	fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	set_options(fd, user_timeout_ms);
	if (connect(fd, (const struct sockaddr *)&addr->sa, addr->len) < 0 && errno != EINPROGRESS) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int memx_net_connected(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}
