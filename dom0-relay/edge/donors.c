// SPDX-License-Identifier: GPL-2.0-only
/*
 * donors.c - connections to the donors. Owner: the data thread; only names are resolved on threads of their own, one at a
 * time per donor, which answer by mail.
 *
 * A donor in the configuration is connected to for as long as it is there. Between attempts there is a pause that doubles
 * from connect_retry up to RETRY_MAX times that, with a random part, so that many relays do not come back at once.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "edge.h"
#include "user/net.h"

enum {
	RETRY_MAX = 8,
	INLINE_MAX = 1024,		/* shorter pieces are copied, not referenced */
	ASK_QUEUE_MAX = 32 << 20,	/* bytes beside stores that may wait for a donor which asks */
};

enum donor_state {
	DONOR_PAUSED,			/* until the timer fires */
	DONOR_RESOLVING,
	DONOR_CONNECTING,		/* socket waits for its outcome, timer for its end */
	DONOR_UP,
	DONOR_CLOSING,			/* closed() is on its way */
};

struct resolve {
	struct memx_mail mail;
	struct memx_loop *loop;
	struct edge_donor *donor;	/* NULL: nobody waits any more */
	struct memx_addr addr;
	unsigned int turn;
	int ret;
};

struct edge_donor {
	struct memx_conn conn;		/* first: connections lead back to their donor */
	struct edge_donor *next;
	struct worker *worker;
	struct core_donor *core;	/* NULL: gone, waits for its connection to end */
	enum donor_state state;
	struct memx_watch connecting;
	struct memx_timer timer;
	struct resolve *resolve;
	struct conf_donor conf;
	u32 failures;			/* in a row */
	unsigned int turn;		/* which of its name's addresses: the next after each that led to no donor */
	struct rbuf *body;		/* of the frame being read */
	char reason[128];		/* why the core wanted it closed; "" it did not */
	bool listed;			/* in the configuration */
	bool served;			/* on this connection it said more than who it is */
};

static void donor_connect(struct edge_donor *d);

/* ---- pauses ---- */

static void donor_retry(struct memx_timer *timer, u64 now)
{
	(void)now;
	donor_connect((struct edge_donor *)((char *)timer - offsetof(struct edge_donor, timer)));
}

static void donor_pause(struct edge_donor *d)
{
	u64 pause = d->worker->conf->connect_retry, part;
	u32 times = d->failures > 3 ? RETRY_MAX : 1U << d->failures;

	d->state = DONOR_PAUSED;
	pause *= times;
	memx_random(&part, sizeof(part));
	pause -= part % (pause / 4 + 1);
	if (memx_timer_set(d->worker->loop, &d->timer, worker_now(d->worker) + pause, donor_retry))
		memx_err("donor-abandoned", "donor=%s reason=\"out of memory\"", d->conf.name);
}

/* An attempt did not lead to a connection. */
static void donor_failed(struct edge_donor *d, const char *reason)
{
	char text[160];

	snprintf(text, sizeof(text), "%s: %s", memx_addr_text(&d->conf.addr), reason);
	if (d->failures < 1000)
		d->failures++;
	d->turn++;
	donor_pause(d);
	core_donor_down(d->core, text, worker_now(d->worker));
	worker_turn(d->worker);
}

/* ---- connection ---- */

static void *conn_body(struct memx_conn *conn, const struct memx_head *head)
{
	struct edge_donor *d = (struct edge_donor *)conn;

	if (*d->reason || core_donor_head(d->core, head, &d->body, worker_now(d->worker)))
		return NULL;
	return d->body->data;
}

static int conn_frame(struct memx_conn *conn, const struct memx_head *head, void *data)
{
	struct edge_donor *d = (struct edge_donor *)conn;
	struct rbuf *body = d->body;
	int ret;

	(void)data;
	d->body = NULL;
	if (*d->reason) {
		rbuf_put(body);
		return -ECANCELED;
	}
	/* What we ask is bounded by the core; what a donor makes us answer is bounded here, if it does not take the answers. */
	if (!head->reply && d->conn.queued > d->worker->conf->core.donor_bytes + ASK_QUEUE_MAX) {
		rbuf_put(body);
		snprintf(conn->why, sizeof(conn->why), "asks and does not take the answers");
		return -EPROTO;
	}
	if (!head->len) {
		ret = core_donor_head(d->core, head, &body, worker_now(d->worker));
		if (ret)
			return ret;
	}
	/* One that says who it is and hangs up, each time, is no success. */
	if (head->reply && head->op == MEMX_OP_STAT && head->status == MEMX_S_OK) {
		d->served = true;
		d->failures = 0;
	}
	worker_turn(d->worker);
	return core_donor_frame(d->core, head, body, worker_now(d->worker));
}

static void donor_free(struct edge_donor *d)
{
	struct edge_donor **at = &d->worker->donors;

	while (*at && *at != d)
		at = &(*at)->next;
	if (*at)
		*at = d->next;
	if (d->resolve)
		d->resolve->donor = NULL;
	memx_timer_cancel(&d->timer);
	if (d->connecting.fd >= 0) {
		close(d->connecting.fd);
		memx_watch_del(&d->connecting);
	}
	rbuf_put(d->body);
	free(d);
}

static void conn_closed(struct memx_conn *conn, int err, void *data)
{
	struct edge_donor *d = (struct edge_donor *)conn;
	char why[160];
	bool by_core = *d->reason;

	(void)data;
	rbuf_put(d->body);
	d->body = NULL;
	snprintf(why, sizeof(why), "%s", *conn->why ? conn->why : err ? strerror(-err) : "closed by the donor");
	memset(conn, 0, sizeof(*conn));
	conn->watch.fd = -1;
	d->reason[0] = '\0';
	if (!d->core) {
		donor_free(d);
		return;
	}
	if (!d->served) {
		if (d->failures < 1000)
			d->failures++;
		d->turn++;
	}
	donor_pause(d);
	/* What is no frame is the donor's fault and counted as such; anything else is a loss. */
	if (!by_core && err == -EPROTO)
		core_donor_broken(d->core, why, worker_now(d->worker));
	else if (!by_core)
		core_donor_down(d->core, why, worker_now(d->worker));
	d->reason[0] = '\0';
	worker_turn(d->worker);
}

static const struct memx_conn_ops conn_ops = { .body = conn_body, .frame = conn_frame, .closed = conn_closed };

static void donor_outcome(struct memx_watch *watch, uint32_t events)
{
	struct edge_donor *d = (struct edge_donor *)((char *)watch - offsetof(struct edge_donor, connecting));
	int fd = watch->fd, ret = memx_net_connected(fd);

	(void)events;
	memx_timer_cancel(&d->timer);
	memx_watch_del(watch);
	if (!ret)
		/* The core bounds what is unanswered and with it the queue. */
		ret = memx_conn_open(&d->conn, d->worker->loop, fd, &conn_ops, MEMX_MAX_BODY, UINT64_MAX);
	else
		close(fd);
	if (ret) {
		donor_failed(d, strerror(-ret));
		return;
	}
	d->state = DONOR_UP;
	d->served = false;
	core_donor_up(d->core, worker_now(d->worker));
	worker_turn(d->worker);
}

static void donor_late(struct memx_timer *timer, u64 now)
{
	struct edge_donor *d = (struct edge_donor *)((char *)timer - offsetof(struct edge_donor, timer));
	int fd = d->connecting.fd;

	(void)now;
	memx_watch_del(&d->connecting);
	close(fd);
	donor_failed(d, "no answer to the attempt to connect");
}

/* An attempt may take as long as a silent donor is put up with, a second at least. */
static u64 connect_limit(const struct edge_donor *d)
{
	u64 limit = d->worker->conf->core.donor_timeout_ns;

	return limit < 1000000000 ? 1000000000 : limit;
}

static void donor_tell_address(struct edge_donor *d, const struct memx_addr *addr)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&addr->sa;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&addr->sa;
	u8 address[16] = { [10] = 0xff, [11] = 0xff };

	if (addr->sa.ss_family == AF_INET6)
		memcpy(address, &v6->sin6_addr, sizeof(address));
	else
		memcpy(address + 12, &v4->sin_addr, 4);
	core_donor_address(d->core, address, addr->port, worker_now(d->worker));
}

static void donor_dial(struct edge_donor *d, const struct memx_addr *addr)
{
	int fd = memx_net_connect(addr, (uint32_t)(connect_limit(d) * 4 / 1000000)), ret;

	donor_tell_address(d, addr);
	if (fd < 0) {
		donor_failed(d, strerror(-fd));
		return;
	}
	ret = memx_watch_add(d->worker->loop, &d->connecting, fd, EPOLLOUT, donor_outcome);
	if (!ret)
		ret = memx_timer_set(d->worker->loop, &d->timer, worker_now(d->worker) + connect_limit(d), donor_late);
	if (ret) {
		memx_watch_del(&d->connecting);
		close(fd);
		donor_failed(d, strerror(-ret));
		return;
	}
	d->state = DONOR_CONNECTING;
}

/* ---- names ---- */

static void resolved(struct memx_mail *mail)
{
	struct resolve *r = (struct resolve *)mail;
	struct edge_donor *d = r->donor;

	if (d) {
		d->resolve = NULL;
		if (r->ret)
			donor_failed(d, "the name cannot be resolved");
		else
			donor_dial(d, &r->addr);
	}
	free(r);
}

static void *resolve_thread(void *arg)
{
	struct resolve *r = arg;

	r->ret = memx_addr_resolve(&r->addr, r->turn);
	memx_mail_post(r->loop, &r->mail);
	return NULL;
}

static void donor_resolve(struct edge_donor *d)
{
	struct resolve *r = calloc(1, sizeof(*r));
	pthread_attr_t attr;
	pthread_t thread;
	int ret = ENOMEM;

	if (r) {
		r->mail.deliver = resolved;
		r->loop = d->worker->loop;
		r->donor = d;
		r->addr = d->conf.addr;
		r->turn = d->turn;
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		ret = pthread_create(&thread, &attr, resolve_thread, r);
		pthread_attr_destroy(&attr);
	}
	if (ret) {
		free(r);
		donor_failed(d, strerror(ret));
		return;
	}
	d->resolve = r;
	d->state = DONOR_RESOLVING;
}

static void donor_connect(struct edge_donor *d)
{
	if (d->conf.addr.len)
		donor_dial(d, &d->conf.addr);
	else
		donor_resolve(d);
}

/* ---- what the core asks for ---- */

static void put_rbuf(void *arg)
{
	rbuf_put(arg);
}

void donor_send(struct edge_donor *d, const struct memx_hdr *hdr, const struct core_seg *segs, unsigned int nsegs)
{
	struct memx_conn *conn = &d->conn;
	void *to;

	if (d->state != DONOR_UP || !memx_conn_is_open(conn))
		return;
	to = memx_conn_put(conn, sizeof(*hdr));
	if (to)
		memcpy(to, hdr, sizeof(*hdr));
	for (unsigned int i = 0; i < nsegs; i++) {
		if (segs[i].buf && segs[i].len > INLINE_MAX) {
			memx_conn_put_ref(conn, segs[i].base, segs[i].len, put_rbuf, rbuf_get(segs[i].buf));
			continue;
		}
		for (u32 at = 0, part; at < segs[i].len; at += part) {
			part = segs[i].len - at < MEMX_CONN_PUT_MAX ? segs[i].len - at : MEMX_CONN_PUT_MAX;
			to = memx_conn_put(conn, part);
			if (!to)
				return;		/* the connection is closing for want of memory */
			memcpy(to, (const u8 *)segs[i].base + at, part);
		}
	}
}

void donor_close(struct edge_donor *d, const char *reason)
{
	if (d->state != DONOR_UP)
		return;
	d->state = DONOR_CLOSING;
	snprintf(d->reason, sizeof(d->reason), "%s", *reason ? reason : "closed");
	memx_conn_close(&d->conn, -ECANCELED);
}

void donor_gone(struct edge_donor *d)
{
	d->core = NULL;
	if (d->state == DONOR_UP || d->state == DONOR_CLOSING) {
		donor_close(d, "no longer needed");
		return;
	}
	donor_free(d);
}

/* ---- configuration ---- */

static struct edge_donor *donor_find(struct worker *w, const char *name)
{
	for (struct edge_donor *d = w->donors; d; d = d->next)
		if (d->core && !strcmp(d->conf.name, name))
			return d;
	return NULL;
}

static int donor_add(struct worker *w, const struct conf_donor *conf)
{
	struct edge_donor *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->worker = w;
	d->conf = *conf;
	d->listed = true;
	d->conn.watch.fd = -1;
	d->connecting.fd = -1;
	d->core = core_donor_add(w->core, conf->name, d, worker_now(w));
	if (!d->core) {
		int ret = -errno;

		free(d);
		return ret;
	}
	d->next = w->donors;
	w->donors = d;
	if (conf->drain)
		core_donor_empty(w->core, conf->name, true, worker_now(w));
	donor_connect(d);
	return 0;
}

/* The same name at another address: another place to look for the same donor. */
static void donor_moved(struct edge_donor *d, const struct conf_donor *conf)
{
	/* What memxctl said stands until the file says otherwise than it did. */
	if (d->conf.drain != conf->drain)
		core_donor_empty(d->worker->core, conf->name, conf->drain, worker_now(d->worker));
	d->conf.drain = conf->drain;
	if (!strcmp(d->conf.addr.host, conf->addr.host) && d->conf.addr.port == conf->addr.port)
		return;
	memx_notice("donor-moved", "donor=%s from=%s to=%s", conf->name, memx_addr_text(&d->conf.addr), memx_addr_text(&conf->addr));
	d->conf = *conf;
	d->failures = 0;
	switch (d->state) {
	case DONOR_UP:
		memx_conn_close(&d->conn, -ECANCELED);
		break;
	case DONOR_CLOSING:
		break;
	case DONOR_CONNECTING:
		close(d->connecting.fd);
		memx_watch_del(&d->connecting);
		donor_pause(d);
		break;
	case DONOR_RESOLVING:
		d->resolve->donor = NULL;
		d->resolve = NULL;
		donor_pause(d);
		break;
	case DONOR_PAUSED:
		donor_pause(d);
		break;
	}
}

int donors_reconfigure(struct worker *w, const struct relay_conf *conf)
{
	struct edge_donor *d, *next;
	int ret = 0;

	for (d = w->donors; d; d = d->next)
		d->listed = false;
	for (u32 i = 0; i < conf->donor_count; i++) {
		d = donor_find(w, conf->donors[i].name);
		if (d && d->core) {
			d->listed = true;
			/* Where it was leaving, the core takes it back under its name. */
			core_donor_add(w->core, conf->donors[i].name, d, worker_now(w));
			donor_moved(d, &conf->donors[i]);
		} else if (!ret) {
			ret = donor_add(w, &conf->donors[i]);
		}
	}
	for (d = w->donors; d; d = next) {
		next = d->next;
		if (!d->listed && d->core)
			core_donor_remove(d->core, worker_now(w));
	}
	return ret;
}

void donors_free(struct worker *w)
{
	struct edge_donor *d, *next;

	for (d = w->donors; d; d = next) {
		next = d->next;
		d->core = NULL;
		if (d->state == DONOR_UP || d->state == DONOR_CLOSING)
			memx_conn_abort(&d->conn, -ECANCELED);		/* frees it */
		else
			donor_free(d);
	}
}

const char *donor_address(const struct worker *w, const char *name, char text[MEMX_ADDR_TEXT])
{
	for (const struct edge_donor *d = w->donors; d; d = d->next)
		if (!strcmp(d->conf.name, name))
			return memx_addr_format(text, &d->conf.addr);
	return NULL;
}
