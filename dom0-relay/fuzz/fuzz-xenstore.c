// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-xenstore.c - libFuzzer target: what guests write into XenStore, and when.
 *
 * The input is a list of steps: a node of a domain gets a value, plausible or any bytes; domains come and go; watches fire; the
 * relay looks. XenStore, the hypervisor and vchans are played here, around the very file that reads them.
 *
 * What must hold: only a domain that the toolstack named so, and that the configuration allows, gets a link, under that identity
 * and nothing that it wrote itself, by the configuration that holds when the link is made; an offer is connected once; nothing is
 * written but the reason of a refusal, into the domain's own folder; and what was mapped is unmapped.
 */
#include "../edge/xenstore.c"	/* NOLINT(bugprone-suspicious-include): what is tried is static there */
#include "configuration.h"

#include <sys/mman.h>

#include <fuzz/fuzz.h>

enum { DOMAINS = 4, NODES = 7, OFFER_NODES = 4, VALUE = 300 };

static const char *const names[NODES] = { "data/memx/state", "data/memx/offer", "data/memx/lanes", "data/memx/version", "vm", "name",
					  "data/memx/refused" };

static struct {
	bool there, dying;
	u32 shutdown;
	char value[NODES][VALUE];
	bool has[NODES];
} doms[DOMAINS];

static struct fuzz_in in;
static u32 mapped;
static u32 vanish;		/* reads until all guests take their offers away; 0: they do not */
static char **event;
static struct xen_link *given[64];
static struct relay_conf *later;	/* what is loaded anew: one guest less, and less for the other */

/* ---- played: XenStore ---- */

static bool find(const char *path, u32 *dom, u32 *node)
{
	char *end;

	if (strncmp(path, "/local/domain/", 14))
		return false;
	*dom = (u32)strtoul(path + 14, &end, 10);
	for (*node = 0; *node < NODES; ++*node)
		if (*end == '/' && !strcmp(end + 1, names[*node]))
			return *dom < DOMAINS && doms[*dom].there;
	return false;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
	u32 dom, node;
	char *copy;

	(void)h, (void)t;
	if (vanish && !--vanish)
		for (dom = 0; dom < DOMAINS; dom++)
			memset(doms[dom].has, 0, OFFER_NODES * sizeof(doms[dom].has[0]));
	if (!find(path, &dom, &node) || !doms[dom].has[node])
		return NULL;
	*len = (unsigned int)strlen(doms[dom].value[node]);
	copy = malloc(*len + 1);
	memcpy(copy, doms[dom].value[node], *len + 1);
	return copy;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
	u32 dom, node;

	(void)h, (void)t;
	fuzz_must(strstr(path, "/data/memx/refused") && len && !memchr(data, '\n', len), "written to %s", path);
	if (!find(path, &dom, &node))
		return false;
	fuzz_must(doms[dom].has[0], "domain %u is refused an offer that it has taken away", dom);
	snprintf(doms[dom].value[node], VALUE, "%.*s", (int)len, (const char *)data);
	doms[dom].has[node] = true;
	return true;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	u32 dom, node;

	(void)h, (void)t;
	fuzz_must(strstr(path, "/data/memx/refused"), "removed: %s", path);
	if (!find(path, &dom, &node))
		return false;
	doms[dom].has[node] = false;
	return true;
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
	static const char *const odd[] = { "0", "abc", "4294967297", "32752", "" };
	const char *list[DOMAINS + 1];
	u32 i, n = 0;
	char **all;

	(void)h, (void)t, (void)path;
	for (i = 1; i < DOMAINS; i++)
		if (doms[i].there)
			list[n++] = &"1\0002\0003"[2 * (i - 1)];
	list[n++] = odd[fuzz_pick(&in, 5)];
	all = malloc(n * sizeof(*all));
	memcpy(all, list, n * sizeof(*all));
	*num = n;
	return all;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
	(void)h;
	return *path && *token;
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
	return xs_watch(h, path, token);
}

char **xs_check_watch(struct xs_handle *h)
{
	char **now = event;

	(void)h;
	event = NULL;
	return now;
}

struct xs_handle *xs_open(unsigned long flags)
{
	(void)flags;
	return NULL;
}

void xs_close(struct xs_handle *h)
{
	(void)h;
}

int xs_fileno(struct xs_handle *h)
{
	(void)h;
	return -1;
}

/* ---- played: the hypervisor, vchans, the data thread ---- */

int xc_domain_getinfolist(xc_interface *xch, u32 first, unsigned int max, xc_domaininfo_t *info)
{
	(void)xch, (void)max;
	if (fuzz_rarely(&in, 16))
		return -1;
	if (first >= DOMAINS || !doms[first].there)
		return 0;
	memset(info, 0, sizeof(*info));
	info->domain = (domid_t)first;
	info->flags = (doms[first].dying ? XEN_DOMINF_dying : 0) |
		      (doms[first].shutdown ? XEN_DOMINF_shutdown | (doms[first].shutdown - 1) << XEN_DOMINF_shutdownshift : 0);
	return 1;
}

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *build, unsigned int flags)
{
	(void)logger, (void)build, (void)flags;
	return NULL;
}

int xc_interface_close(xc_interface *xch)
{
	(void)xch;
	return 0;
}

static void lane_close(struct memx_chan *chan)
{
	mapped--;
	free(chan);
}

static const struct memx_chan_ops lane_ops = { .close = lane_close };

struct memx_chan *vchan_open(u32 domid, const char *path)
{
	struct memx_chan *chan;
	char want[64];

	snprintf(want, sizeof(want), "/local/domain/%u/data/memx/lane-", domid);
	fuzz_must(!strncmp(path, want, strlen(want)) && strlen(path) == strlen(want) + 1, "a lane at %s", path);
	errno = ENOENT;
	if (fuzz_rarely(&in, 8))
		return NULL;
	chan = calloc(1, sizeof(*chan));
	chan->ops = &lane_ops;
	mapped++;
	return chan;
}

struct edge_link *link_up(struct worker *w, const struct core_guest_conf *conf, u64 offer, struct memx_chan **chans,
			  unsigned int lanes, struct link_owner *owner)
{
	const struct conf_guest *allowed = relay_conf_guest(w->conf, conf->name, conf->vm);
	struct xen_link *l = (struct xen_link *)owner;
	u32 i;

	(void)chans;
	fuzz_must(allowed && conf->quota_pages == allowed->quota / MEMX_PAGE_SIZE, "%s is served by a configuration of before",
		  conf->name);
	fuzz_must(offer && lanes >= 1 && lanes <= MEMX_MAX_LANES && conf->quota_pages, "offer %llx, %u lanes",
		  (unsigned long long)offer, lanes);
	fuzz_must(!strcmp(conf->name, "one") || conf->vm[0] == 0x42, "%s is not allowed", conf->name);
	for (i = 0; i < 64; i++)
		fuzz_must(!given[i] || given[i]->domid != l->domid, "domain %u has two links", l->domid);
	for (i = 0; i < 64; i++) {
		if (!given[i]) {
			given[i] = l;
			return (struct edge_link *)l;
		}
	}
	owner->ended(owner, chans, lanes, "too many");
	return NULL;
}

void link_gone(struct edge_link *link, const char *reason)
{
	struct xen_link *l = (struct xen_link *)link;

	for (u32 i = 0; i < 64; i++)
		if (given[i] == l)
			given[i] = NULL;
	l->owner.ended(&l->owner, l->chans, l->lanes, reason);
}

static void turn(struct memx_work *work)
{
	fuzz_must(work, "a turn of nothing");
}

/* ---- the steps ---- */

static void write_node(void)
{
	static const char *const good[NODES] = { "offered", "00000000deadbeef", "2", "1", "/vm/42424242-4242-4242-4242-424242424242",
						 "one", "no" };
	u32 dom = 1 + fuzz_pick(&in, DOMAINS - 1), node = fuzz_pick(&in, NODES), how = fuzz_u8(&in), i, n;
	char *to = doms[dom].value[node];

	doms[dom].has[node] = true;
	if (how < 128) {
		snprintf(to, VALUE, "%s", good[node]);
		if (node == 1)
			snprintf(to, VALUE, "%x", 1 + how % 4);
	} else if (how < 224) {
		n = fuzz_pick(&in, 40);
		for (i = 0; i < n; i++)
			to[i] = (char)fuzz_u8(&in);
		to[n] = '\0';
	} else if (how < 240) {
		memset(to, fuzz_u8(&in) | 1, VALUE - 1);
		to[VALUE - 1] = '\0';
	} else {
		doms[dom].has[node] = false;
	}
}

static void fire(const char *token)
{
	if (event)
		return;
	event = calloc(2, sizeof(*event));
	event[XS_WATCH_PATH] = (char *)"";
	event[XS_WATCH_TOKEN] = (char *)token;
}

static void step(struct xen_edge *e)
{
	static const char *const tokens[] = { "domains", "1", "2", "3", "", "99999999999999999999", "x" };
	u8 what = fuzz_u8(&in);
	struct domain *d;
	u32 i;

	switch (what % 8) {
	case 0: case 1: case 2:
		write_node();
		break;
	case 3:
		fire(tokens[fuzz_pick(&in, 7)]);
		take_watches(e);
		break;
	case 4:
		vanish = what >> 3;		/* so many reads later guests take their offers away */
		for (d = e->domains; d; d = d->next)
			look(e, d);
		vanish = 0;
		break;
	case 5:
		i = 1 + fuzz_pick(&in, DOMAINS - 1);
		if (what & 8)
			memset(&doms[i], 0, sizeof(doms[i]));
		doms[i].there = what & 16;
		doms[i].dying = what & 32;
		doms[i].shutdown = what >> 6;
		sweep(e);
		break;
	case 6:
		e->worker->conf = what & 8 ? later : e->conf;	/* this thread hears of it first */
		memx_loop_round(e->worker->loop, 0);
		break;
	default:
		for (i = 0; i < 64; i++)
			if (given[i] && what & 8)
				link_gone((struct edge_link *)given[i], "over");
		take_back(e);
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct worker worker;
	static struct relay_conf *conf;
	struct xen_edge e = { .worker = &worker, .wake = -1 };
	u32 i;

	if (!conf) {
		conf = fuzz_configuration();
		later = fuzz_configuration_of("[guest one]\nquota = 512M\n");
		worker.loop = memx_loop_new();
		worker.turn.run = turn;
		worker.draining = true;		/* there is no core to be told of domains that are gone */
		memx_log_init("fuzz", MEMX_LOG_ERR);
	}
	in = (struct fuzz_in){ data, data + size };
	memset(doms, 0, sizeof(doms));
	memset(given, 0, sizeof(given));
	pthread_mutex_init(&e.lock, NULL);
	e.conf = conf;
	worker.conf = conf;
	e.xc = fuzz_u8(&in) & 1 ? (xc_interface *)&worker : NULL;
	for (i = 1; i < DOMAINS; i++)
		doms[i].there = true;
	sweep(&e);
	while (in.at < in.end)
		step(&e);
	memx_loop_round(worker.loop, 0);
	for (i = 0; i < 64; i++)
		if (given[i])
			link_gone((struct edge_link *)given[i], "the end");
	take_back(&e);
	fuzz_must(!mapped, "%u lanes are still mapped", mapped);
	while (e.domains) {
		struct domain *next = e.domains->next;

		free(e.domains);
		e.domains = next;
	}
	free(event);
	event = NULL;
	pthread_mutex_destroy(&e.lock);
	return 0;
}
