// SPDX-License-Identifier: GPL-2.0-only
/*
 * vchan.c - the server side of libxenvchan, in the kernel: transport.h over grants and event channels.
 *
 * A lane is one vchan: a shared page (struct memx_vchan_page), a ring from the relay to the guest
 * ("left") and one from the guest to the relay ("right"), all of 4 KiB pages that were allocated one by
 * one and are mapped contiguously for us by vmap(). All of them are granted to Dom0; the right ring
 * read-only, so that nobody but the guest can change what the guest sends. The page's layout, the order
 * in which it is filled and the notify bits are libxenvchan's (tools/libs/vchan in Xen's tree), so that
 * an unmodified client connects; indices and notify bits themselves are vring.h's business.
 *
 * Who owns what: the link and its lanes belong to the session, which calls everything here from one
 * thread at a time, but for memx_link_notify(), memx_link_peer() and memx_link_ring(), which any
 * context may use between create and destroy, resume excepted. What the interrupt handler keeps for
 * itself (struct lane, "handler") needs no lock: an interrupt's handler does not run twice at once.
 *
 * What the peer writes is never used here but to be compared.
 *
 * The end of a link, in this order, because:
 *
 *  1. The refusal watch goes first: it calls the session.
 *  2. The offer leaves XenStore: from here on nobody new can find the grants. Who has read them already
 *     may still map them; step 4 waits for those as well.
 *  3. srv_live = 0 and an event: a relay that is alive sees it, clears cli_live, sends an event and
 *     unmaps. The interrupt is still bound, so we hear of it, and wait for it, but not for ever.
 *  4. Interrupts and ports: unbind_from_irqhandler() waits for a handler that runs and closes the port.
 *     After it nothing of this file runs but the caller.
 *  5. Grants, page by page. Dom0 unmaps a ring a little after it has cleared cli_live, and no event
 *     tells when, so this is tried again until a deadline. gnttab_try_end_foreign_access() gives the
 *     reference back only if nobody maps the page any more; a page that is still mapped stays granted
 *     and is never freed, for Dom0 would write into whatever it became. It is counted and reported.
 *  6. Only what was taken back is freed.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/irqreturn.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/page.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/interface/event_channel.h>
#include <xen/page.h>
#include <xen/xen.h>

#include "transport.h"
#include "xenstore.h"

enum {
	RELAY_DOMID	= 0,	/* the relay runs in Dom0, where the toolstack is */
	MIN_ORDER	= 12,	/* smaller rings would live in the shared page */
	LEAVE_MS	= 5000,	/* how long an end waits for a client that is alive to go */
	UNMAP_MS	= 1000,	/* and then for its mappings to go */
	UNMAP_STEP_MS	= 10,
	INNOCENT	= 8,	/* events with nothing behind them, in a row, before the peer is slowed down */
};

/* Pages that are granted together. refs[i] is 0 where there is no grant (0 is never a valid one here). */
struct granted {
	struct page **pages;
	grant_ref_t *refs;
	void *addr;
	unsigned int count;
	bool readonly;
};

struct lane {
	struct memx_link *link;
	unsigned int index;
	struct memx_lane_spec spec;
	struct granted head;		/* the shared page */
	struct granted left;
	struct granted right;
	struct memx_vring ring;
	evtchn_port_t port;
	int irq;			/* 0: none */
	bool ungranted;			/* after a resume: has to be granted and bound again */
	char name[24];
	/* handler: what it saw last */
	u32 seen_prod;
	u32 seen_cons;
	u8 seen_live;
	u8 idle;
	/* handler: counters, read by anyone */
	u64 events;
	u64 spurious;
	atomic64_t notified;
};

struct memx_link {
	const struct memx_link_events *callbacks;
	void *ctx;
	wait_queue_head_t departed;	/* woken when a client's live byte may have been cleared */
	struct memx_xs_refusals refusals;
	bool watched;
	bool published;			/* something of ours is in XenStore */
	bool open;			/* between offer and withdraw: events go to the session */
	bool offered;			/* was open once: a client's departure goes to the session, too */
	unsigned int count;
	struct lane lanes[];
};

static struct memx_vchan_page *shared(const struct lane *lane)
{
	return lane->head.addr;
}

/* ---- pages and grants ------------------------------------------------------------------------------ */

static void granted_free(struct granted *g)
{
	unsigned int i;

	if (g->addr)
		vunmap(g->addr);
	for (i = 0; g->pages && i < g->count; i++)
		if (g->pages[i])
			__free_page(g->pages[i]);
	kvfree(g->pages);
	kvfree(g->refs);
	memset(g, 0, sizeof(*g));
}

/*
 * Ends the grants that can be ended. A page whose grant is given back loses its reference; what stays
 * has one still. Returns how many stay.
 */
static unsigned int granted_end(struct granted *g)
{
	unsigned int i, left = 0;

	for (i = 0; g->refs && i < g->count; i++) {
		if (!g->refs[i])
			continue;
		if (gnttab_try_end_foreign_access(g->refs[i]))
			g->refs[i] = 0;
		else
			left++;
	}
	return left;
}

/* Lets go of pages that a peer still maps: they are never freed. Returns how many. */
static unsigned int granted_leak(struct granted *g)
{
	unsigned int i, leaked = 0;

	for (i = 0; g->refs && i < g->count; i++) {
		if (!g->refs[i])
			continue;
		g->pages[i] = NULL;
		leaked++;
	}
	return leaked;
}

/* Allocates zeroed pages, maps them and grants them. Undone by granted_end() and granted_free(). */
static int granted_make(struct granted *g, unsigned int count, bool readonly)
{
	unsigned int i;
	int ref;

	g->readonly = readonly;
	g->pages = kvcalloc(count, sizeof(*g->pages), GFP_KERNEL);
	g->refs = kvcalloc(count, sizeof(*g->refs), GFP_KERNEL);
	if (!g->pages || !g->refs)
		return -ENOMEM;
	g->count = count;
	for (i = 0; i < count; i++) {
		g->pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!g->pages[i])
			return -ENOMEM;
	}
	g->addr = vmap(g->pages, count, VM_MAP, PAGE_KERNEL);
	if (!g->addr)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		ref = gnttab_grant_foreign_access(RELAY_DOMID, xen_page_to_gfn(g->pages[i]),
						  readonly);
		if (ref < 0)
			return ref;
		g->refs[i] = ref;
	}
	return 0;
}

/*
 * Grants the same pages under the same references again, in a grant table that is new. -EBUSY if it is
 * not and a page is mapped: its entry must not be touched then.
 */
static int granted_renew(struct granted *g)
{
	unsigned int i;

	for (i = 0; i < g->count; i++)
		if (!gnttab_end_foreign_access_ref(g->refs[i]))
			return -EBUSY;
	for (i = 0; i < g->count; i++)
		gnttab_grant_foreign_access_ref(g->refs[i], RELAY_DOMID,
						xen_page_to_gfn(g->pages[i]), g->readonly);
	return 0;
}

/* ---- event channels -------------------------------------------------------------------------------- */

/*
 * Something happened on a lane. Whether the session finds work there is its own business; here it is
 * only judged whether the event was worth sending. An event may come for what an earlier one has shown
 * already, so a few in a row are innocent; a peer that goes on is slowed down by Xen's back-off.
 */
static irqreturn_t lane_event(int irq, void *data)
{
	struct lane *lane = data;
	struct memx_link *link = lane->link;
	u32 prod = memx_load_once(lane->ring.rx_prod_shr);
	u32 cons = memx_load_once(lane->ring.tx_cons_shr);
	u8 live = memx_load_once(&shared(lane)->cli_live);
	bool news = prod != lane->seen_prod || cons != lane->seen_cons || live != lane->seen_live;
	unsigned int flags = 0;

	lane->seen_prod = prod;
	lane->seen_cons = cons;
	lane->seen_live = live;
	WRITE_ONCE(lane->events, lane->events + 1);
	if (news) {
		lane->idle = 0;
	} else if (lane->idle < INNOCENT) {
		lane->idle++;
	} else {
		WRITE_ONCE(lane->spurious, lane->spurious + 1);
		flags = XEN_EOI_FLAG_SPURIOUS;
	}

	/* Ports and references are given out again: before the first offer somebody may be there who read those of an earlier load. */
	if (READ_ONCE(link->open) || (live != 1 && READ_ONCE(link->offered)))
		link->callbacks->kick(link->ctx, lane->index);
	if (live != 1)
		wake_up(&link->departed);
	xen_irq_lateeoi(irq, flags);
	return IRQ_HANDLED;
}

/* Makes a port that Dom0 may bind to, and binds our end of it to the handler. */
static int lane_bind(struct lane *lane)
{
	struct evtchn_alloc_unbound alloc = {
		.dom = DOMID_SELF,
		.remote_dom = RELAY_DOMID,
	};
	struct evtchn_close close;
	int ret;

	ret = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
	if (ret)
		return ret;
	ret = bind_evtchn_to_irqhandler_lateeoi(alloc.port, lane_event, 0, lane->name, lane);
	if (ret < 0) {
		close.port = alloc.port;
		HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
		return ret;
	}
	lane->port = alloc.port;
	WRITE_ONCE(lane->irq, ret);
	return 0;
}

/* Closes the port and waits for the handler. Legal also after a resume, which has voided the port. */
static void lane_unbind(struct lane *lane)
{
	int irq = lane->irq;

	if (!irq)
		return;
	WRITE_ONCE(lane->irq, 0);
	unbind_from_irqhandler(irq, lane);
	lane->port = 0;
}

/* ---- lanes ----------------------------------------------------------------------------------------- */

/*
 * Ready for a new client: references and orders as they are, indices at zero, live and notify bytes as
 * libxenvchan's server leaves them. The page is writable for the peer: nothing in it is taken for what it was.
 */
static void lane_reset(struct lane *lane)
{
	struct memx_vchan_page *shr = shared(lane);

	memcpy(shr->grants, lane->left.refs, lane->left.count * sizeof(*shr->grants));
	memcpy(shr->grants + lane->left.count, lane->right.refs, lane->right.count * sizeof(*shr->grants));
	memx_vring_reset_shared(shr, lane->spec.left_order, lane->spec.right_order);
	memx_vring_init(&lane->ring, shr, true, lane->left.addr, lane->left.count << PAGE_SHIFT,
			lane->right.addr, lane->right.count << PAGE_SHIFT);
}

static int lane_make(struct lane *lane)
{
	unsigned int left = 1U << (lane->spec.left_order - PAGE_SHIFT);
	unsigned int right = 1U << (lane->spec.right_order - PAGE_SHIFT);
	int ret;

	ret = granted_make(&lane->head, 1, false);
	if (!ret)
		ret = granted_make(&lane->left, left, false);
	if (!ret)
		ret = granted_make(&lane->right, right, true);
	if (ret)
		return ret;

	lane_reset(lane);
	memx_store_once(&shared(lane)->srv_live, 0);
	return lane_bind(lane);
}

/*
 * After a resume. In a new world (restored, migrated) grants and port are void: the same references are
 * filled in again, for the pages' new places, and there is a new port. Where suspending failed or was
 * cancelled the old ones are good, which shows in the port: a resume that voids ports forgets what
 * interrupt each of them had.
 */
static int lane_renew(struct lane *lane)
{
	unsigned int noio;
	int ret;

	if (!lane->ungranted) {
		if (lane->irq && irq_from_evtchn(lane->port) == lane->irq)
			return 0;
		lane->ungranted = true;
	}

	noio = memalloc_noio_save();
	lane_unbind(lane);
	ret = granted_renew(&lane->head);
	if (!ret)
		ret = granted_renew(&lane->left);
	if (!ret)
		ret = granted_renew(&lane->right);
	if (!ret)
		ret = lane_bind(lane);
	memalloc_noio_restore(noio);
	if (ret)
		return ret;
	/* Who was connected stayed in the old world; the byte came along with the page. */
	memx_store_once(&shared(lane)->cli_live, 0);
	lane->ungranted = false;
	return 0;
}

static bool lane_spec_good(const struct memx_lane_spec *spec)
{
	return spec->left_order >= MIN_ORDER && spec->left_order <= MEMX_VCHAN_MAX_ORDER &&
	       spec->right_order >= MIN_ORDER && spec->right_order <= MEMX_VCHAN_MAX_ORDER;
}

/* ---- the link -------------------------------------------------------------------------------------- */

static bool any_client(struct memx_link *link)
{
	unsigned int i;

	for (i = 0; i < link->count; i++)
		if (memx_link_peer(link, i) == MEMX_VCHAN_HERE)
			return true;
	return false;
}

static void refused(void *ctx, const char *reason)
{
	struct memx_link *link = ctx;

	link->callbacks->refused(link->ctx, reason);
}

/* srv_live = 0 on every lane, and who is there is told. */
static void hang_up(struct memx_link *link)
{
	unsigned int i;

	WRITE_ONCE(link->open, false);
	for (i = 0; i < link->count; i++) {
		if (!link->lanes[i].head.addr)
			continue;
		memx_store_release(&shared(&link->lanes[i])->srv_live, 0);
		memx_mb();
		memx_link_notify(link, i);
	}
}

static unsigned int end_grants(struct memx_link *link)
{
	unsigned int i, left = 0;

	for (i = 0; i < link->count; i++) {
		left += granted_end(&link->lanes[i].right);
		left += granted_end(&link->lanes[i].left);
		left += granted_end(&link->lanes[i].head);
	}
	return left;
}

/* Steps 4 to 6 of the end of a link. Returns the number of pages leaked. */
static unsigned int take_back(struct memx_link *link)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(UNMAP_MS);
	unsigned int i, leaked = 0;

	for (i = 0; i < link->count; i++)
		lane_unbind(&link->lanes[i]);
	while (end_grants(link) && time_before(jiffies, deadline))
		msleep(UNMAP_STEP_MS);
	for (i = 0; i < link->count; i++) {
		struct lane *lane = &link->lanes[i];

		leaked += granted_leak(&lane->head);
		leaked += granted_leak(&lane->left);
		leaked += granted_leak(&lane->right);
		granted_free(&lane->head);
		granted_free(&lane->left);
		granted_free(&lane->right);
	}
	kfree(link);
	if (leaked)
		memx_xs_add_leaked(leaked);
	return leaked;
}

unsigned int memx_link_leaked(void)
{
	return memx_xs_leaked();
}

struct memx_link *memx_link_create(const struct memx_lane_spec *specs, unsigned int lanes,
				   const struct memx_link_events *events, void *ctx)
{
	struct memx_link *link;
	unsigned int i;
	int ret = 0;

	BUILD_BUG_ON(PAGE_SHIFT != MEMX_PAGE_SHIFT || XEN_PAGE_SHIFT != MEMX_PAGE_SHIFT);

	if (!lanes || lanes > MEMX_MAX_LANES)
		return ERR_PTR(-EINVAL);
	link = kzalloc(struct_size(link, lanes, lanes), GFP_KERNEL);
	if (!link)
		return ERR_PTR(-ENOMEM);
	link->callbacks = events;
	link->ctx = ctx;
	init_waitqueue_head(&link->departed);
	link->count = lanes;

	for (i = 0; !ret && i < lanes; i++) {
		struct lane *lane = &link->lanes[i];

		lane->link = link;
		lane->index = i;
		lane->spec = specs[i];
		snprintf(lane->name, sizeof(lane->name), "memx-lane%u", i);
		ret = lane_spec_good(&lane->spec) ? lane_make(lane) : -EINVAL;
	}
	if (ret) {
		take_back(link);
		return ERR_PTR(ret);
	}
	return link;
}

int memx_link_offer(struct memx_link *link, u64 offer)
{
	struct memx_xs_lane where[MEMX_MAX_LANES];
	unsigned int i;
	int ret;

	if (any_client(link))
		return -EBUSY;
	for (i = 0; i < link->count; i++) {
		if (link->lanes[i].ungranted && lane_renew(&link->lanes[i]))
			return -EBUSY;
		where[i].ring_ref = link->lanes[i].head.refs[0];
		where[i].port = link->lanes[i].port;
	}
	if (!link->watched) {
		if (memx_xs_watch(&link->refusals, refused, link))
			return -EIO;
		link->watched = true;
	}

	for (i = 0; i < link->count; i++)
		lane_reset(&link->lanes[i]);
	WRITE_ONCE(link->offered, true);
	WRITE_ONCE(link->open, true);
	link->published = true;
	ret = memx_xs_publish(offer, where, link->count);
	if (ret) {
		hang_up(link);
		return -EIO;
	}
	return 0;
}

void memx_link_connected(struct memx_link *link)
{
	memx_xs_taken(link->count);
}

void memx_link_withdraw(struct memx_link *link)
{
	if (link->published) {
		memx_xs_remove();
		link->published = false;
	}
	hang_up(link);
}

unsigned int memx_link_destroy(struct memx_link *link)
{
	if (link->watched)
		memx_xs_unwatch(&link->refusals);
	memx_link_withdraw(link);
	wait_event_timeout(link->departed, !any_client(link), msecs_to_jiffies(LEAVE_MS));
	return take_back(link);
}

int memx_link_resume(struct memx_link *link)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < link->count; i++) {
		int err = lane_renew(&link->lanes[i]);

		if (err)
			ret = err;
	}
	return ret;
}

struct memx_vring *memx_link_ring(struct memx_link *link, unsigned int lane)
{
	return &link->lanes[lane].ring;
}

enum memx_vchan_client memx_link_peer(struct memx_link *link, unsigned int lane)
{
	return memx_vchan_client(shared(&link->lanes[lane]));
}

void memx_link_notify(struct memx_link *link, unsigned int lane)
{
	int irq = READ_ONCE(link->lanes[lane].irq);

	if (!irq)
		return;
	atomic64_inc(&link->lanes[lane].notified);
	notify_remote_via_irq(irq);
}

void memx_link_counters(struct memx_link *link, unsigned int lane, struct memx_lane_counters *to)
{
	struct lane *l = &link->lanes[lane];

	to->events = READ_ONCE(l->events);
	to->spurious = READ_ONCE(l->spurious);
	to->notified = atomic64_read(&l->notified);
}

unsigned int memx_link_pages(struct memx_link *link)
{
	unsigned int i, pages = 0;

	for (i = 0; i < link->count; i++)
		pages += link->lanes[i].head.count + link->lanes[i].left.count +
			 link->lanes[i].right.count;
	return pages;
}
