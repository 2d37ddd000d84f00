// SPDX-License-Identifier: GPL-2.0-only
/*
 * xenstore.c - guests of Xen: who is there, what they offer, how they ended.
 *
 * A thread of its own, because reading XenStore, mapping grants and unmapping them may block. It owns the list of domains.
 * Towards the data thread it sends mail: a link whose lanes are connected, a domain that is gone. Back comes, through `back`
 * under its mutex, a link that has ended, to be unmapped. A struct xen_link belongs to whoever has it at hand: made here, used
 * there, freed here.
 *
 * Watches say only where to look. A domain that a watch names is marked and looked at once its pause is over (pace.h), so a guest
 * that writes all day costs few looks, and one that offers and hangs up in a loop few connections. Nothing is read in transactions: an offer is read between two looks at its
 * nonce, and the guest refuses a HELLO with another nonce anyway.
 *
 * Identity is what only the toolstack can write: /local/domain/D/vm and /local/domain/D/name, read anew for every offer (a
 * domain that arrives by migration is renamed before it runs).
 *
 * A xenstored that does not answer holds this thread up, and nobody else. The data thread looks at that once in a while and says it:
 * no guest is connected or unmapped meanwhile.
 *
 * How a domain ended is asked of the hypervisor before the domain's memory is unmapped: until then it stays, dying, with its
 * last shutdown reason. Where nothing was learned its session is kept: freeing needs knowledge, keeping does not.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenstore.h>

#include "edge.h"
#include "pace.h"
#include "vchan.h"

enum {
	MAX_REASON = 128,
};

#define MS 1000000ULL
#define HUNG_AFTER (10000 * MS)		/* one step takes milliseconds */

enum ended {
	ENDED_UNKNOWN,			/* kept, to be safe */
	ENDED_SUSPEND,
	ENDED_FOR_GOOD,
};

struct domain {
	struct domain *next;
	u32 domid;
	u64 life;			/* numbers are used again: which domain of this number it is */
	bool seen;			/* in the sweep that runs */
	struct pace pace;
	bool linked;			/* a link is with the data thread */
	u64 offer;			/* connected last; not again */
	u64 refused;			/* offer that was refused last */
	bool served;			/* had a link: the data thread is told of its end */
	u8 uuid[16];			/* at its last offer */
	char name[CORE_NAME_LEN];
	enum ended ended;		/* as seen last while it was shut down */
};

struct xen_link {
	struct link_owner owner;	/* first */
	struct memx_mail mail;
	struct xen_edge *edge;
	struct xen_link *next;		/* in `active` or `back` */
	struct edge_link *link;
	struct core_guest_conf conf;
	u32 domid;
	u64 life;			/* of its domain */
	u64 offer;
	unsigned int lanes;
	struct memx_chan *chans[MEMX_MAX_LANES];
	char reason[160];
};

struct gone_mail {
	struct memx_mail mail;
	struct xen_edge *edge;
	u32 domid;
	u8 uuid[16];
	bool suspended;
};

struct xen_edge {
	/* data thread */
	struct worker *worker;
	struct xen_link *active;
	pthread_t thread;
	struct memx_timer looked_at;
	u64 hung_after;
	bool hung;			/* the thread is, and that was said */

	/* both */
	_Atomic u64 busy_since;		/* of the thread: when its present step began; 0: it waits to be told something */

	/* both, under lock */
	pthread_mutex_t lock;
	struct xen_link *back;
	struct relay_conf *conf_new;	/* to be taken over; NULL: none */
	bool stop;
	int wake;
	atomic_bool draining;

	/* XenStore thread */
	struct xs_handle *xs;
	xc_interface *xc;
	struct relay_conf *conf;
	struct domain *domains;
	u64 lives;			/* domains seen so far */
};

/* XenStore thread: a step that may block begins. */
static void busy(struct xen_edge *e)
{
	atomic_store(&e->busy_since, memx_now());
}

/* ---- reading ---- */

/* The value of a node, or NULL. Anything longer than a value of ours is none. */
static char *read_node(struct xen_edge *e, const char *path)
{
	unsigned int len;
	char *value = xs_read(e->xs, XBT_NULL, path, &len);

	if (value && len > 256) {
		free(value);
		return NULL;
	}
	return value;
}

static char *read_memx(struct xen_edge *e, const struct domain *d, const char *node)
{
	char path[96];

	snprintf(path, sizeof(path), "/local/domain/%u/data/memx/%s", d->domid, node);
	return read_node(e, path);
}

static bool read_nonce(struct xen_edge *e, const struct domain *d, u64 *nonce)
{
	char *value = read_memx(e, d, "offer"), *end;
	bool good = false;

	if (value && *value && strlen(value) <= 16 && strspn(value, "0123456789abcdefABCDEF") == strlen(value)) {
		*nonce = strtoull(value, &end, 16);
		good = *nonce;
	}
	free(value);
	return good;
}

static bool read_lanes(struct xen_edge *e, const struct domain *d, unsigned int *lanes)
{
	char *value = read_memx(e, d, "lanes");
	u64 count;
	bool good = value && !memx_parse_u64(value, &count) && count >= 1 && count <= MEMX_MAX_LANES;

	if (good)
		*lanes = (unsigned int)count;
	free(value);
	return good;
}

/* Who the toolstack says this is. */
static bool read_identity(struct xen_edge *e, struct domain *d, char name[CORE_NAME_LEN], u8 uuid[16])
{
	char path[64], *value;
	bool good = false;

	snprintf(path, sizeof(path), "/local/domain/%u/vm", d->domid);
	value = read_node(e, path);
	if (value && !strncmp(value, "/vm/", 4)) {
		/* Some toolstacks add "-1" and the like to the UUID after a rename or a migration. */
		value[4 + strnlen(value + 4, MEMX_UUID_TEXT - 1)] = '\0';
		good = !memx_parse_uuid(value + 4, uuid);
	}
	free(value);
	snprintf(path, sizeof(path), "/local/domain/%u/name", d->domid);
	value = read_node(e, path);
	snprintf(name, CORE_NAME_LEN, "%s", value && strlen(value) < CORE_NAME_LEN ? value : "");
	free(value);
	return good;
}

/* ---- domains ---- */

static struct domain *domain_find(struct xen_edge *e, u32 domid)
{
	for (struct domain *d = e->domains; d; d = d->next)
		if (d->domid == domid)
			return d;
	return NULL;
}

static void watch_domain(struct xen_edge *e, const struct domain *d, bool on)
{
	char path[64], token[16];

	snprintf(path, sizeof(path), "/local/domain/%u/data/memx", d->domid);
	snprintf(token, sizeof(token), "%u", d->domid);
	if (on ? !xs_watch(e->xs, path, token) : !xs_unwatch(e->xs, path, token))
		if (on)
			memx_err("xenstore-watch-failed", "domid=%u reason=%s", d->domid, memx_quoted(strerror(errno)));
}

static struct domain *domain_new(struct xen_edge *e, u32 domid)
{
	struct domain *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->domid = domid;
	d->life = ++e->lives;
	d->pace.poked = true;
	d->next = e->domains;
	e->domains = d;
	watch_domain(e, d, true);
	return d;
}

static void refuse(struct xen_edge *e, struct domain *d, u64 offer, const char *reason)
{
	char path[64];

	if (d->refused == offer)
		return;
	d->refused = offer;
	memx_log_limited(MEMX_LOG_WARNING, "guest-refused", "domid=%u name=%s uuid=%s reason=%s", d->domid, memx_quoted(d->name),
			 memx_uuid_text(d->uuid), memx_quoted(reason));
	snprintf(path, sizeof(path), "/local/domain/%u/data/memx/refused", d->domid);
	if (!xs_write(e->xs, XBT_NULL, path, reason, (unsigned int)strlen(reason)))
		memx_debug("xenstore-write-failed", "path=%s reason=%s", path, memx_quoted(strerror(errno)));
}

static void clear_refusal(struct xen_edge *e, struct domain *d)
{
	char path[64], *value = read_memx(e, d, "refused");

	if (!value)
		return;
	free(value);
	snprintf(path, sizeof(path), "/local/domain/%u/data/memx/refused", d->domid);
	xs_rm(e->xs, XBT_NULL, path);
}

/* ---- links ---- */

static void wake(struct xen_edge *e)
{
	const u64 one = 1;

	if (write(e->wake, &one, sizeof(one)) < 0)
		return;			/* full: it is awake */
}

/* Data thread: the link is over. Its lanes go back to be unmapped. */
static void xen_link_ended(struct link_owner *owner, struct memx_chan **chans, unsigned int lanes, const char *reason)
{
	struct xen_link *l = (struct xen_link *)owner, **at = &l->edge->active;

	(void)chans, (void)lanes;
	while (*at && *at != l)
		at = &(*at)->next;
	if (*at)
		*at = l->next;
	l->link = NULL;
	snprintf(l->reason, sizeof(l->reason), "%s", reason);
	pthread_mutex_lock(&l->edge->lock);
	l->next = l->edge->back;
	l->edge->back = l;
	pthread_mutex_unlock(&l->edge->lock);
	wake(l->edge);
}

/*
 * Data thread: lanes of a guest were connected. The other thread judged by the configuration that it had: one that was loaded since
 * has gone through the links that stood, and this one was not among them.
 */
static void xen_link_arrived(struct memx_mail *mail)
{
	struct xen_link *l = (struct xen_link *)((char *)mail - offsetof(struct xen_link, mail));
	struct worker *w = l->edge->worker;
	const struct conf_guest *allowed = relay_conf_guest(w->conf, l->conf.name, l->conf.vm);
	struct core_guest_conf judged = l->conf;
	struct edge_link *link;

	l->next = l->edge->active;
	l->edge->active = l;
	if (!allowed) {
		xen_link_ended(&l->owner, l->chans, l->lanes, "the relay's configuration, loaded meanwhile, does not allow it");
		return;
	}
	relay_conf_identity(allowed, judged.domid, judged.name, judged.vm, &l->conf);
	link = link_up(w, &l->conf, l->offer, l->chans, l->lanes, &l->owner);
	if (link)
		l->link = link;
}

/* Data thread: a domain is gone. */
static void domain_gone(struct memx_mail *mail)
{
	struct gone_mail *g = (struct gone_mail *)mail;
	struct worker *w = g->edge->worker;
	struct xen_link *l, *next;

	for (l = g->edge->active; l; l = next) {
		next = l->next;
		if (l->domid == g->domid && l->link)
			link_gone(l->link, g->suspended ? "the domain was suspended and is gone" : "the domain is gone");
	}
	if (!w->draining)
		core_guest_gone(w->core, g->uuid, g->domid, g->suspended, worker_now(w));
	worker_turn(w);
	free(g);
}

static void close_lanes(struct memx_chan **chans, unsigned int lanes)
{
	for (unsigned int i = 0; i < lanes; i++)
		chans[i]->ops->close(chans[i]);
}

/* XenStore thread: unmaps what came back. */
static void take_back(struct xen_edge *e)
{
	struct xen_link *l, *next;
	struct domain *d;

	pthread_mutex_lock(&e->lock);
	l = e->back;
	e->back = NULL;
	pthread_mutex_unlock(&e->lock);
	for (; l; l = next) {
		next = l->next;
		busy(e);
		memx_log_limited(MEMX_LOG_INFO, "link-ended", "name=%s domid=%u reason=%s", memx_quoted(l->conf.name), l->domid,
				 memx_quoted(l->reason));
		close_lanes(l->chans, l->lanes);
		d = domain_find(e, l->domid);
		if (d && d->life == l->life) {
			d->linked = false;
			pace_ended(&d->pace, memx_now());
		}
		free(l);
	}
}

static void connect_failed(struct domain *d, unsigned int lane, int err)
{
	memx_log_limited(MEMX_LOG_WARNING, "vchan-failed", "domid=%u name=%s lane=%u reason=%s", d->domid, memx_quoted(d->name), lane,
			 memx_quoted(strerror(err)));
	pace_failed(&d->pace, memx_now());
}

static void connect_guest(struct xen_edge *e, struct domain *d, const struct conf_guest *allowed, u64 offer, unsigned int lanes)
{
	struct xen_link *l = calloc(1, sizeof(*l));
	char path[64];
	u64 again;

	if (!l) {
		connect_failed(d, 0, ENOMEM);
		return;
	}
	relay_conf_identity(allowed, d->domid, d->name, d->uuid, &l->conf);
	l->owner.ended = xen_link_ended;
	l->mail.deliver = xen_link_arrived;
	l->edge = e;
	l->domid = d->domid;
	l->life = d->life;
	l->offer = offer;
	for (l->lanes = 0; l->lanes < lanes; l->lanes++) {
		snprintf(path, sizeof(path), "/local/domain/%u/data/memx/lane-%u", d->domid, l->lanes);
		l->chans[l->lanes] = vchan_open(d->domid, path);
		if (!l->chans[l->lanes]) {
			connect_failed(d, l->lanes, errno);
			close_lanes(l->chans, l->lanes);
			free(l);
			return;
		}
	}
	/* An offer is good for one connection: whatever comes of it, this nonce is used up. */
	d->offer = offer;
	pace_linked(&d->pace, memx_now());
	if (!read_nonce(e, d, &again) || again != offer) {
		close_lanes(l->chans, l->lanes);
		free(l);
		d->pace.poked = true;
		return;
	}
	d->linked = true;
	d->served = true;
	d->ended = ENDED_UNKNOWN;
	memx_log_limited(MEMX_LOG_INFO, "guest-offer", "name=%s domid=%u uuid=%s lanes=%u", memx_quoted(d->name),
			 d->domid, memx_uuid_text(d->uuid), lanes);
	memx_mail_post(e->worker->loop, &l->mail);
}

/* Is there an offer, and which? */
static bool read_offer(struct xen_edge *e, const struct domain *d, u64 *offer)
{
	char *value = read_memx(e, d, "state");
	bool offered = value && !strcmp(value, "offered");

	free(value);
	return offered && read_nonce(e, d, offer);
}

/* What was read of an offer is no good. If it is not there any more, the guest took it away meanwhile, as it may. */
static void refuse_if_offered(struct xen_edge *e, struct domain *d, u64 offer, const char *reason)
{
	u64 now;

	if (read_offer(e, d, &now) && now == offer)
		refuse(e, d, offer, reason);
	else
		d->pace.poked = true;
}

/* Looks at what domain @d offers. */
static void look(struct xen_edge *e, struct domain *d)
{
	const struct conf_guest *allowed;
	unsigned int lanes;
	char *value;
	u64 offer;

	pace_looked(&d->pace, memx_now());
	if (d->linked || atomic_load(&e->draining) || !read_offer(e, d, &offer) || offer == d->offer)
		return;
	if (!read_identity(e, d, d->name, d->uuid)) {
		memx_log_limited(MEMX_LOG_WARNING, "guest-unknown", "domid=%u reason=\"no UUID in XenStore\"", d->domid);
		return;
	}
	allowed = relay_conf_guest(e->conf, d->name, d->uuid);
	if (!allowed) {
		refuse_if_offered(e, d, offer, "not allowed by the relay's configuration on Dom0");
		return;
	}
	value = read_memx(e, d, "version");
	if (!value || strcmp(value, "1")) {
		free(value);
		refuse_if_offered(e, d, offer, "an offer of a version that this relay does not know");
		return;
	}
	free(value);
	if (!read_lanes(e, d, &lanes)) {
		refuse_if_offered(e, d, offer, "an offer without a good number of lanes");
		return;
	}
	clear_refusal(e, d);
	connect_guest(e, d, allowed, offer, lanes);
}

/* ---- how domains end ---- */

/* Asks the hypervisor. True: the domain is there and alive (or may be: not known). */
static bool domain_alive(struct xen_edge *e, struct domain *d)
{
	xc_domaininfo_t info;
	u32 reason;
	int got;

	if (!e->xc)
		return true;		/* the sweep of XenStore decides */
	got = xc_domain_getinfolist(e->xc, d->domid, 1, &info);
	if (got < 0)
		return true;
	if (!got || info.domain != d->domid)
		return false;
	if (info.flags & XEN_DOMINF_shutdown) {
		reason = (info.flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
		d->ended = reason == SHUTDOWN_suspend ? ENDED_SUSPEND : ENDED_FOR_GOOD;
	} else {
		/* It runs (again), or was destroyed as it ran. */
		d->ended = info.flags & XEN_DOMINF_dying ? ENDED_FOR_GOOD : ENDED_UNKNOWN;
	}
	return !(info.flags & XEN_DOMINF_dying);
}

static void domain_end(struct xen_edge *e, struct domain *d)
{
	struct domain **at = &e->domains;
	struct gone_mail *g;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	watch_domain(e, d, false);
	if (d->served) {
		memx_notice("domain-gone", "domid=%u name=%s uuid=%s end=%s", d->domid, memx_quoted(d->name), memx_uuid_text(d->uuid),
			    d->ended == ENDED_SUSPEND ? "suspend" : d->ended == ENDED_FOR_GOOD ? "for-good" : "unknown,kept");
		g = calloc(1, sizeof(*g));
		if (g) {
			g->mail.deliver = domain_gone;
			g->edge = e;
			g->domid = d->domid;
			memcpy(g->uuid, d->uuid, sizeof(g->uuid));
			g->suspended = d->ended != ENDED_FOR_GOOD;
			memx_mail_post(e->worker->loop, &g->mail);
		}
	}
	free(d);
}

/* Which domains are there: marks those that XenStore lists, makes new ones, sweeps those that are gone. */
static void sweep(struct xen_edge *e)
{
	struct domain *d, *next;
	unsigned int count;
	char **list = xs_directory(e->xs, XBT_NULL, "/local/domain", &count);
	u64 domid;

	if (!list)
		return;
	for (d = e->domains; d; d = d->next)
		d->seen = false;
	for (unsigned int i = 0; i < count; i++) {
		if (memx_parse_u64(list[i], &domid) || !domid || domid >= DOMID_FIRST_RESERVED)
			continue;
		d = domain_find(e, (u32)domid);
		busy(e);
		if (!d)
			d = domain_new(e, (u32)domid);
		if (d)
			d->seen = true;
	}
	free(list);
	for (d = e->domains; d; d = next) {
		next = d->next;
		busy(e);
		if (!domain_alive(e, d) || (!d->seen && !e->xc))
			domain_end(e, d);
	}
}

/* ---- the thread ---- */

static void take_watches(struct xen_edge *e)
{
	bool domains = false;
	struct domain *d;
	char **event;
	u64 domid;

	while ((event = xs_check_watch(e->xs))) {
		const char *token = event[XS_WATCH_TOKEN];

		d = NULL;
		if (!strcmp(token, "domains"))
			domains = true;
		else if (!memx_parse_u64(token, &domid))
			d = domain_find(e, (u32)domid);
		if (d)
			d->pace.poked = true;
		free(event);
	}
	if (domains)
		sweep(e);
}

/* Looks at who is due. When to come again, ms; -1: when told. */
static int look_around(struct xen_edge *e)
{
	u64 now = memx_now(), next = UINT64_MAX, at;
	struct domain *d;

	for (d = e->domains; d; d = d->next) {
		at = pace_due(&d->pace);
		if (at <= now) {
			busy(e);
			look(e, d);
			at = pace_due(&d->pace);
		}
		if (at < next)
			next = at;
	}
	if (next == UINT64_MAX)
		return -1;
	now = memx_now();
	return next > now ? (int)((next - now) / MS) + 1 : 0;
}

/* Takes over a new configuration. False: stop. */
static bool take_orders(struct xen_edge *e)
{
	struct relay_conf *conf;
	bool stop;

	pthread_mutex_lock(&e->lock);
	conf = e->conf_new;
	e->conf_new = NULL;
	stop = e->stop;
	pthread_mutex_unlock(&e->lock);
	if (conf) {
		relay_conf_put(e->conf);
		e->conf = conf;
		for (struct domain *d = e->domains; d; d = d->next) {
			d->pace.poked = true;
			d->refused = 0;
		}
	}
	return !stop;
}

static void *xen_thread(void *arg)
{
	struct xen_edge *e = arg;
	struct pollfd p[2] = {
		{ .fd = xs_fileno(e->xs), .events = POLLIN },
		{ .fd = e->wake, .events = POLLIN },
	};
	int timeout = 0;
	u64 count;

	for (;;) {
		atomic_store(&e->busy_since, 0);
		if (poll(p, 2, timeout) < 0 && errno != EINTR)
			break;
		busy(e);
		if (p[0].revents & (POLLERR | POLLHUP | POLLNVAL)) {
			memx_err("xenstore-lost", "effect=\"attached guests are served on, new ones not until the relay is restarted\"");
			p[0].fd = -1;
		}
		if (p[1].revents && read(e->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
			break;
		take_watches(e);
		take_back(e);
		if (!take_orders(e))
			break;
		timeout = look_around(e);
	}
	return NULL;
}

/* ---- is it there? ---- */

/* Data thread: looks whether the other one gets on. Where this one was held up itself, that says nothing. */
static void look_at_thread(struct memx_timer *timer, u64 now)
{
	struct xen_edge *e = (struct xen_edge *)((char *)timer - offsetof(struct xen_edge, looked_at));
	u64 since = atomic_load(&e->busy_since), gap = e->hung_after / 2;
	bool hung = since && now > since && now - since > e->hung_after;

	if (hung && !e->hung && memx_loop_lag(e->worker->loop) < gap) {
		e->hung = true;
		e->worker->xenstore_hangs++;
		memx_err("xenstore-hung", "seconds=%llu effect=\"attached guests are served on; who comes, goes or ends is not seen "
			 "until xenstored answers\"", (unsigned long long)((now - since) / (1000 * MS)));
	} else if (!hung && e->hung) {
		e->hung = false;
		memx_notice("xenstore-answers", "hangs=%llu", (unsigned long long)e->worker->xenstore_hangs);
	}
	if (memx_timer_set(e->worker->loop, timer, now + gap, look_at_thread))
		memx_err("timer-failed", "reason=\"out of memory\"");
}

/* ---- life ---- */

static void edge_release(struct xen_edge *e)
{
	while (e->domains) {
		struct domain *next = e->domains->next;

		free(e->domains);
		e->domains = next;
	}
	if (e->xs)
		xs_close(e->xs);
	if (e->xc)
		xc_interface_close(e->xc);
	if (e->wake >= 0)
		close(e->wake);
	relay_conf_put(e->conf);
	relay_conf_put(e->conf_new);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

struct xen_edge *xen_edge_new(struct worker *w, struct relay_conf *conf, char why[160])
{
	struct xen_edge *e = calloc(1, sizeof(*e));

	if (!e) {
		snprintf(why, 160, "out of memory");
		return NULL;
	}
	e->worker = w;
	e->conf = relay_conf_get(conf);
	pthread_mutex_init(&e->lock, NULL);
	e->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->xs = xs_open(0);
	if (e->wake < 0 || !e->xs) {
		snprintf(why, 160, "XenStore cannot be opened (%s): is this a Xen Dom0 with xenstored running? Else set xenstore=no",
			 strerror(errno));
		goto out_release;
	}
	if (!xs_watch(e->xs, "@introduceDomain", "domains") || !xs_watch(e->xs, "@releaseDomain", "domains")) {
		snprintf(why, 160, "XenStore does not tell of domains (%s): is this Dom0?", strerror(errno));
		goto out_release;
	}
	/* The interface belongs to one release of Xen. Without it a domain's end is read from XenStore, its reason unknown. */
	e->xc = xc_interface_open(NULL, NULL, 0);
	if (e->xc) {
		xc_domaininfo_t info;

		if (xc_domain_getinfolist(e->xc, 0, 1, &info) < 0) {
			xc_interface_close(e->xc);
			e->xc = NULL;
		}
	}
	if (!e->xc)
		memx_warn("hypervisor-unasked", "reason=\"its control interface is not ours\" effect=\"sessions of ended guests are kept"
			  " until freed by hand\"");
	if (pthread_create(&e->thread, NULL, xen_thread, e)) {
		snprintf(why, 160, "no thread for XenStore");
		goto out_release;
	}
	e->hung_after = HUNG_AFTER;
	look_at_thread(&e->looked_at, memx_now());
	return e;

out_release:
	edge_release(e);
	return NULL;
}

void xen_edge_reconfigure(struct xen_edge *e, struct relay_conf *conf)
{
	pthread_mutex_lock(&e->lock);
	relay_conf_put(e->conf_new);
	e->conf_new = relay_conf_get(conf);
	pthread_mutex_unlock(&e->lock);
	wake(e);
}

void xen_edge_drain(struct xen_edge *e)
{
	atomic_store(&e->draining, true);
}

void xen_edge_free(struct xen_edge *e)
{
	if (!e)
		return;
	memx_timer_cancel(&e->looked_at);
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_mutex_unlock(&e->lock);
	wake(e);
	pthread_join(e->thread, NULL);
	/* What was on its way to the data thread comes back at once, since the worker is draining. */
	memx_loop_round(e->worker->loop, 0);
	take_back(e);
	edge_release(e);
}
