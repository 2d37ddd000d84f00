// SPDX-License-Identifier: GPL-2.0-only
/*
 * gate.c - memx-gate: stands between a relay and its donors and does to their connections what networks do.
 *
 * Each donor has a gate with a port of its own, which the relay is told in place of the donor's. What passes can be held back
 * without a word (cut), limited, delayed, torn off within a frame, and damaged: single bits of page data or of headers. A gate
 * that was cut keeps what it has taken: when it heals, late bytes of connections that the relay gave up long ago still arrive.
 *
 * Told by lines on stdin, answered by lines on stdout ("help" lists them); ends with its input. One thread has all of it; a
 * second one only measures how late this machine lets it run, so that a stall can be told from a machine that stood still.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "memx/proto.h"
#include "user/net.h"

enum {
	RING	= 1 << 20,	/* bytes held per direction of a connection */
	MARKS	= 4096,		/* readings whose time is remembered */
	UP	= 0,		/* relay to donor */
	DOWN	= 1,
	MARGIN	= 64,		/* the last bytes of a page are left alone: a body cut short is another fault */
};

#define MS 1000000ULL
#define SECOND (1000 * MS)

struct gate;
struct link;

/* What passes in one direction of one connection. Counters of bytes never wrap; & (RING - 1) is the place in the ring. */
struct pipe {
	u8 *ring;
	u64 in, out;
	struct { u64 end, due; } mark[MARKS];
	u32 first_mark, marks;
	bool eof, shut, blocked;
	/* the frame at hand */
	struct memx_hdr hdr;
	u32 hdr_have;
	u64 body_left;
	long long damage_at;		/* bytes of the body from here to the one to be damaged; < 0: none */
};

struct end {
	struct memx_watch watch;
	struct link *link;
	int fd;
};

struct link {
	struct link *next;
	struct gate *gate;
	struct end end[2];	/* the relay's, the donor's */
	struct pipe pipe[2];
	bool connecting, dead;
};

struct gate {
	struct gate *next;
	char name[32];
	struct memx_watch listen;
	struct memx_addr donor;
	struct link *links;
	struct memx_timer wake;
	bool cut;
	u64 rate, delay_ns, tokens[2], tokens_at;
	u64 bytes[2], accepted;
	u32 pages, stores, headers, header_off;	/* still to be damaged */
	long long tear;				/* bytes until replies are torn off; < 0: never */
	u64 damaged_pages, damaged_stores, damaged_headers, torn;
};

static struct memx_loop *loop;
static struct gate *gates;
static atomic_ullong lag_ns;
static u64 seed = 1;

/* xorshift64* [Vigna] */
static u64 draw(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 0x2545f4914f6cdd1dULL;
}

static void pump(struct link *l);

/* ---- damage: frames are followed as they are read ------------------------------------------------------------------------- */

/* A header is complete: is its body to be damaged, and where? Pages are the last thing in it. */
static void frame_begins(struct gate *g, struct pipe *p, int way)
{
	u16 op = memx_le16(p->hdr.op);
	u32 *todo = way == DOWN ? &g->pages : &g->stores;
	u64 *count = way == DOWN ? &g->damaged_pages : &g->damaged_stores;

	p->body_left = memx_le32(p->hdr.len);
	p->damage_at = -1;
	if (!*todo || op != (way == DOWN ? MEMX_OP_FETCH | MEMX_OP_REPLY : MEMX_OP_STORE) || p->body_left < MEMX_PAGE_SIZE)
		return;
	(*todo)--;
	(*count)++;
	p->damage_at = (long long)(p->body_left - MEMX_PAGE_SIZE + draw() % (MEMX_PAGE_SIZE - MARGIN));
}

static void follow(struct gate *g, struct pipe *p, int way, u8 *data, u64 len)
{
	while (len) {
		u64 n;

		if (p->hdr_have < sizeof(p->hdr)) {
			u8 *to = (u8 *)&p->hdr + p->hdr_have;

			n = sizeof(p->hdr) - p->hdr_have < len ? sizeof(p->hdr) - p->hdr_have : len;
			memcpy(to, data, n);	/* as it was, so that what follows it can still be followed */
			if (way == DOWN && g->headers && p->hdr_have <= g->header_off && p->hdr_have + n > g->header_off) {
				data[g->header_off - p->hdr_have] ^= (u8)(1U << draw() % 8);
				g->headers--;
				g->damaged_headers++;
			}
			p->hdr_have += (u32)n;
			if (p->hdr_have == sizeof(p->hdr))
				frame_begins(g, p, way);
		} else {
			n = p->body_left < len ? p->body_left : len;
			if (p->damage_at >= 0 && (u64)p->damage_at < n)
				data[p->damage_at] ^= (u8)(1U << draw() % 8);
			p->damage_at -= p->damage_at >= 0 ? (long long)n : 0;
			p->body_left -= n;
		}
		if (p->hdr_have == sizeof(p->hdr) && !p->body_left)
			p->hdr_have = 0;
		data += n;
		len -= n;
	}
}

/* ---- connections ------------------------------------------------------------------------------------------------------------ */

static void end_close(struct end *e, bool reset)
{
	struct linger hard = { .l_onoff = 1 };

	if (e->fd < 0)
		return;
	memx_watch_del(&e->watch);
	if (reset)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(e->fd);
	e->fd = -1;
}

static void link_end(struct link *l, bool reset)
{
	struct link **at = &l->gate->links;

	end_close(&l->end[0], reset);
	end_close(&l->end[1], reset);
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	free(l->pipe[0].ring);
	free(l->pipe[1].ring);
	free(l);
}

static void mark(struct pipe *p, u64 due)
{
	u32 last = (p->first_mark + p->marks - 1) % MARKS;

	if (p->marks && (p->mark[last].due == due || p->marks == MARKS)) {
		p->mark[last].end = p->in;
		p->mark[last].due = due;
		return;
	}
	last = (p->first_mark + p->marks++) % MARKS;
	p->mark[last].end = p->in;
	p->mark[last].due = due;
}

/* Reads what there is and there is room for. False: the connection is broken. */
static bool take(struct link *l, int way)
{
	struct gate *g = l->gate;
	struct pipe *p = &l->pipe[way];
	u64 now = memx_now();

	while (!p->eof && p->in - p->out < RING) {
		u64 at = p->in & (RING - 1), room = RING - (p->in - p->out);
		ssize_t n = read(l->end[way].fd, p->ring + at, room < RING - at ? room : RING - at);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		if (!n) {
			p->eof = true;
			break;
		}
		follow(g, p, way, p->ring + at, (u64)n);
		p->in += (u64)n;
		mark(p, now + g->delay_ns);
	}
	return true;
}

static u64 allowed(struct gate *g, int way, u64 now)
{
	u64 burst = g->rate / 100 > 65536 ? g->rate / 100 : 65536, gained;

	if (!g->rate)
		return UINT64_MAX;
	gained = (now - g->tokens_at) * (g->rate / 1000) / MS;
	if (gained) {
		for (int i = 0; i < 2; i++)
			g->tokens[i] = g->tokens[i] + gained < burst ? g->tokens[i] + gained : burst;
		g->tokens_at = now;
	}
	return g->tokens[way];
}

/* How much is due. @next: when more will be. */
static u64 due(struct pipe *p, u64 now, u64 *next)
{
	u64 end = p->out;

	while (p->marks && p->mark[p->first_mark].end <= p->out) {
		p->first_mark = (p->first_mark + 1) % MARKS;
		p->marks--;
	}
	for (u32 i = 0; i < p->marks; i++) {
		u32 k = (p->first_mark + i) % MARKS;

		if (p->mark[k].due > now) {
			if (p->mark[k].due < *next)
				*next = p->mark[k].due;
			break;
		}
		end = p->mark[k].end;
	}
	return end - p->out;
}

static bool give(struct link *l, int way, u64 *next)
{
	struct gate *g = l->gate;
	struct pipe *p = &l->pipe[way];
	u64 now = memx_now(), n;

	p->blocked = false;
	while ((n = due(p, now, next)) > 0) {
		u64 at = p->out & (RING - 1), may = allowed(g, way, now);
		ssize_t done;

		if (!may) {
			if (now + 2 * MS < *next)
				*next = now + 2 * MS;
			return true;
		}
		n = n < may ? n : may;
		n = n < RING - at ? n : RING - at;
		if (way == DOWN && g->tear >= 0 && n >= (u64)g->tear) {
			n = (u64)g->tear;
			g->tear = -1;
			g->torn++;
			l->dead = true;		/* once these are out */
		}
		done = n ? send(l->end[!way].fd, p->ring + at, n, MSG_NOSIGNAL) : 0;
		if (done < 0) {
			p->blocked = errno == EAGAIN;
			return p->blocked || errno == EINTR;
		}
		p->out += (u64)done;
		g->bytes[way] += (u64)done;
		if (g->rate)
			g->tokens[way] -= (u64)done;
		if (way == DOWN && g->tear >= 0)
			g->tear -= done;
		if (l->dead)
			return true;
	}
	if (p->eof && p->in == p->out && !p->shut) {
		shutdown(l->end[!way].fd, SHUT_WR);
		p->shut = true;
	}
	return true;
}

static void ready(struct memx_watch *watch, uint32_t events)
{
	struct end *e = (struct end *)((char *)watch - offsetof(struct end, watch));
	struct link *l = e->link;

	if (l->connecting && e == &l->end[1]) {
		if (memx_net_connected(e->fd)) {
			link_end(l, true);
			return;
		}
		l->connecting = false;
	} else if (events & EPOLLERR) {
		link_end(l, true);
		return;
	}
	pump(l);
}

/* What is not waited for is not watched: a hang-up would be told for ever. */
static void watch(struct end *e, uint32_t events)
{
	if (!events)
		memx_watch_del(&e->watch);
	else if (e->watch.fd < 0)
		memx_watch_add(loop, &e->watch, e->fd, events, ready);
	else if (e->watch.events != events)
		memx_watch_events(&e->watch, events);
}

static void wake(struct memx_timer *timer, u64 now)
{
	struct gate *g = (struct gate *)((char *)timer - offsetof(struct gate, wake));
	struct link *l, *next;

	(void)now;
	for (l = g->links; l; l = next) {
		next = l->next;
		pump(l);
	}
}

static void pump(struct link *l)
{
	struct gate *g = l->gate;
	u64 next = UINT64_MAX;

	if (g->cut) {
		watch(&l->end[0], 0);
		watch(&l->end[1], 0);
		return;
	}
	if (l->connecting) {
		watch(&l->end[1], EPOLLOUT);
		return;
	}
	for (int way = 0; way < 2; way++) {
		if (!take(l, way) || !give(l, way, &next)) {
			link_end(l, true);
			return;
		}
		if (l->dead) {
			link_end(l, false);
			return;
		}
	}
	if (l->pipe[0].shut && l->pipe[1].shut) {
		link_end(l, false);
		return;
	}
	for (int way = 0; way < 2; way++) {
		const struct pipe *from = &l->pipe[way], *to = &l->pipe[!way];

		watch(&l->end[way], (!from->eof && from->in - from->out < RING ? EPOLLIN : 0) | (to->blocked ? EPOLLOUT : 0));
	}
	if (next != UINT64_MAX && (!memx_timer_pending(&g->wake) || g->wake.at > next))
		memx_timer_set(loop, &g->wake, next, wake);
}

static void come(struct memx_watch *listen, uint32_t events)
{
	struct gate *g = (struct gate *)((char *)listen - offsetof(struct gate, listen));
	struct memx_addr peer;
	struct link *l;
	int fd;

	(void)events;
	while ((fd = memx_net_accept(listen->fd, &peer)) >= 0) {
		l = calloc(1, sizeof(*l));
		if (!l)
			abort();
		l->gate = g;
		l->connecting = true;
		l->next = g->links;
		g->links = l;
		g->accepted++;
		for (int i = 0; i < 2; i++) {
			l->end[i].link = l;
			l->end[i].watch.fd = -1;
			l->pipe[i].damage_at = -1;
			l->pipe[i].ring = malloc(RING);
			if (!l->pipe[i].ring)
				abort();
		}
		l->end[0].fd = fd;
		l->end[1].fd = memx_net_connect(&g->donor, 0);
		if (l->end[1].fd < 0) {
			l->end[1].fd = -1;
			link_end(l, true);
			continue;
		}
		pump(l);
	}
}

/* ---- commands ------------------------------------------------------------------------------------------------------------------ */

static void answer(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void answer(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

static struct gate *find(const char *name)
{
	struct gate *g = gates;

	while (g && strcmp(g->name, name))
		g = g->next;
	return g;
}

static void cmd_add(const char *name, u64 port)
{
	struct gate *g = calloc(1, sizeof(*g));
	struct memx_addr here;
	char text[32];
	int fd;

	snprintf(text, sizeof(text), "127.0.0.1:%llu", (unsigned long long)port);
	if (!g || memx_addr_parse(&here, "127.0.0.1:0") || memx_addr_parse(&g->donor, text)) {
		free(g);
		answer("error wants the name and the port of a donor");
		return;
	}
	snprintf(g->name, sizeof(g->name), "%s", name);
	g->tear = -1;
	fd = memx_net_listen(&here);
	if (fd < 0 || memx_watch_add(loop, &g->listen, fd, EPOLLIN, come)) {
		free(g);
		answer("error no port");
		return;
	}
	g->next = gates;
	gates = g;
	answer("ok port=%u", memx_net_local_port(fd));
}

static void pump_all(struct gate *g)
{
	memx_timer_set(loop, &g->wake, 0, wake);
}

static void do_cut(struct gate *g, const u64 *arg)
{
	g->cut = arg[0];
	memx_watch_events(&g->listen, g->cut ? 0 : EPOLLIN);
	pump_all(g);
}

static void do_rate(struct gate *g, const u64 *arg)
{
	g->rate = arg[0];
	g->tokens[0] = g->tokens[1] = 0;
	g->tokens_at = memx_now();
	pump_all(g);
}

static void do_delay(struct gate *g, const u64 *arg)
{
	g->delay_ns = arg[0] * 1000;
}

static void do_reset(struct gate *g, const u64 *arg)
{
	struct link *l, *next;

	(void)arg;
	for (l = g->links; l; l = next) {
		next = l->next;
		link_end(l, true);
	}
}

static void do_tear(struct gate *g, const u64 *arg)
{
	g->tear = (long long)arg[0];
}

static void do_pages(struct gate *g, const u64 *arg)
{
	g->pages = (u32)arg[0];
}

static void do_stores(struct gate *g, const u64 *arg)
{
	g->stores = (u32)arg[0];
}

static void do_headers(struct gate *g, const u64 *arg)
{
	g->headers = (u32)arg[0];
	g->header_off = (u32)arg[1];
}

/* Nothing is limited, delayed or damaged any more. What is cut stays cut. */
static void do_calm(struct gate *g, const u64 *arg)
{
	(void)arg;
	g->rate = g->delay_ns = 0;
	g->pages = g->stores = g->headers = 0;
	g->tear = -1;
	pump_all(g);
}

static void do_stat(struct gate *g, const u64 *arg)
{
	u32 n = 0;

	(void)arg;
	for (const struct link *l = g->links; l; l = l->next)
		n++;
	printf("links=%u accepted=%llu up=%llu down=%llu pages=%llu stores=%llu headers=%llu torn=%llu todo=%u ", n,
	       (unsigned long long)g->accepted, (unsigned long long)g->bytes[UP], (unsigned long long)g->bytes[DOWN],
	       (unsigned long long)g->damaged_pages, (unsigned long long)g->damaged_stores,
	       (unsigned long long)g->damaged_headers, (unsigned long long)g->torn,
	       g->pages + g->stores + g->headers + (g->tear >= 0));
}

static const struct {
	const char *name, *args;
	void (*run)(struct gate *g, const u64 *arg);
} commands[] = {
	{ "cut", "DONOR 0|1: nothing passes, nothing is refused", do_cut },
	{ "rate", "DONOR BYTES_PER_SECOND: each way; 0: as fast as it goes", do_rate },
	{ "delay", "DONOR MICROSECONDS: each way", do_delay },
	{ "reset", "DONOR: all its connections are reset", do_reset },
	{ "tear", "DONOR BYTES: after so many bytes of replies that connection ends", do_tear },
	{ "pages", "DONOR COUNT: a bit of so many fetched pages is changed", do_pages },
	{ "stores", "DONOR COUNT: a bit of so many stored pages is changed", do_stores },
	{ "headers", "DONOR COUNT OFFSET: a bit of so many reply headers is changed", do_headers },
	{ "calm", "DONOR: none of these any more, but the cut", do_calm },
	{ "stat", "DONOR", do_stat },
};

static void command(char *line)
{
	char *save, *name = strtok_r(line, " \n", &save), *donor = strtok_r(NULL, " \n", &save), *word;
	u64 arg[2] = { 0 };
	struct gate *g;

	if (!name)
		return;
	for (int n = 0; n < 2 && (word = strtok_r(NULL, " \n", &save)); n++)
		arg[n] = strtoull(word, NULL, 0);
	if (!strcmp(name, "lag")) {
		answer("ok us=%llu", (unsigned long long)atomic_exchange(&lag_ns, 0) / 1000);
		return;
	}
	if (!strcmp(name, "seed") && donor) {
		seed = strtoull(donor, NULL, 0) * 2 + 1;
		answer("ok");
		return;
	}
	if (!strcmp(name, "add") && donor) {
		cmd_add(donor, arg[0]);
		return;
	}
	g = donor ? find(donor) : NULL;
	for (size_t i = 0; g && i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(commands[i].name, name))
			continue;
		printf("ok ");
		commands[i].run(g, arg);
		answer("%s", "");
		return;
	}
	if (!strcmp(name, "help")) {
		for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
			printf("%s %s\n", commands[i].name, commands[i].args);
		answer("add DONOR PORT; seed N; lag: the latest that a thread of this machine woke up");
		return;
	}
	answer("error %s", g ? "no such command; try help" : "no such donor");
}

static void typed(struct memx_watch *in, uint32_t events)
{
	static char line[256];
	static size_t have;
	char c;

	(void)events;
	for (;;) {
		ssize_t n = read(in->fd, &c, 1);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			memx_loop_stop(loop);
			return;
		}
		if (c != '\n') {
			if (have < sizeof(line) - 1)
				line[have++] = c;
			continue;
		}
		line[have] = '\0';
		have = 0;
		command(line);
	}
}

/* ---- the machine's own lateness -------------------------------------------------------------------------------------------------- */

static void *sentinel(void *arg)
{
	const struct timespec pause = { .tv_nsec = 2 * MS };

	(void)arg;
	for (;;) {
		u64 before = memx_now(), late;

		nanosleep(&pause, NULL);
		late = memx_now() - before - 2 * MS;
		if (late > atomic_load(&lag_ns))
			atomic_store(&lag_ns, late);
	}
	return NULL;
}

int main(void)
{
	struct memx_watch in = { .fd = -1 };
	pthread_t thread;

	loop = memx_loop_new();
	fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
	if (!loop || memx_watch_add(loop, &in, 0, EPOLLIN, typed) || pthread_create(&thread, NULL, sentinel, NULL)) {
		perror("memx-gate");
		return 1;
	}
	memx_loop_run(loop);
	return 0;
}
