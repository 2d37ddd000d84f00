// SPDX-License-Identifier: GPL-2.0-only
/*
 * xenstore.c - what the module writes to XenStore and reads there.
 *
 * An offer is the directory data/memx below the domain's own path, where a guest may write by default:
 *
 *	version			"1"
 *	offer			nonce of the offer, 16 hexadecimal digits, new for every offer
 *	lanes			number of lanes
 *	lane-K/ring-ref		grant reference of the shared page of lane K, as libxenvchan wants it
 *	lane-K/event-channel	port of lane K, likewise
 *	state			"offered", later "connected"
 *	refused			written by Dom0: why it does not serve this guest
 *
 * It appears and vanishes as a whole: one transaction publishes it, one removal takes it back. Nothing
 * of it survives a migration, after which relative paths mean the new domain's.
 *
 * Beside it data/memx-leaked, only where it is not 0: pages that were left to a peer that went on mapping
 * them. They stay so after the module is gone, which is why the number is kept where the next load of it,
 * and Dom0, find it. It does not travel with a migration either: a load behind one begins at 0.
 *
 * XenStore's functions sleep until xenstored has answered (they allocate with GFP_NOIO), so all of this
 * is for the session's own thread and for loading and unloading. A watch's callback runs in the one
 * thread that delivers the watches of the whole kernel and that suspends the domain: it only queues work.
 */
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "xenstore.h"

#define MEMX_XS_DIR	"data/memx"
#define MEMX_XS_LEAKED	"memx-leaked"	/* below "data" */

enum {
	TRIES = 32,		/* of a transaction that others keep disturbing */
};

/* "lane-K" below the offer: with room for any number. */
struct lane_dir {
	char path[28];
};

static struct lane_dir lane_dir(unsigned int lane)
{
	struct lane_dir dir;

	snprintf(dir.path, sizeof(dir.path), MEMX_XS_DIR "/lane-%u", lane);
	return dir;
}

/* Removes a node or a tree. That it is not there is no error. */
static int remove_node(struct xenbus_transaction t, const char *dir, const char *node)
{
	int ret = xenbus_rm(t, dir, node);

	return ret == -ENOENT ? 0 : ret;
}

static int write_offer(struct xenbus_transaction t, u64 offer, const struct memx_xs_lane *lanes,
		       unsigned int count)
{
	unsigned int i;
	int ret;

	ret = remove_node(t, "data", "memx");
	if (!ret)
		ret = xenbus_write(t, MEMX_XS_DIR, "version", "1");
	if (!ret)
		ret = xenbus_printf(t, MEMX_XS_DIR, "offer", "%016llx", offer);
	if (!ret)
		ret = xenbus_printf(t, MEMX_XS_DIR, "lanes", "%u", count);
	for (i = 0; !ret && i < count; i++) {
		struct lane_dir dir = lane_dir(i);

		ret = xenbus_printf(t, dir.path, "ring-ref", "%u", lanes[i].ring_ref);
		if (!ret)
			ret = xenbus_printf(t, dir.path, "event-channel", "%u", lanes[i].port);
	}
	if (!ret)
		ret = xenbus_write(t, MEMX_XS_DIR, "state", "offered");
	return ret;
}

static int write_taken(struct xenbus_transaction t, unsigned int count)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < count; i++)
		ret = remove_node(t, lane_dir(i).path, "");
	if (!ret)
		ret = xenbus_write(t, MEMX_XS_DIR, "state", "connected");
	return ret;
}

/**
 * memx_xs_publish() - writes an offer, in place of any that is there.
 * @offer: its nonce
 * @lanes: where to find each lane
 * @count: number of lanes
 *
 * Context: process, sleeps until xenstored has answered.
 * Return: 0 or a negative errno of XenStore's.
 */
int memx_xs_publish(u64 offer, const struct memx_xs_lane *lanes, unsigned int count)
{
	struct xenbus_transaction t;
	unsigned int try;
	int ret = -EAGAIN;

	for (try = 0; try < TRIES && ret == -EAGAIN; try++) {
		ret = xenbus_transaction_start(&t);
		if (ret)
			return ret;
		ret = write_offer(t, offer, lanes, count);
		if (ret)
			xenbus_transaction_end(t, 1);
		else
			ret = xenbus_transaction_end(t, 0);
	}
	return ret;
}

/**
 * memx_xs_taken() - takes the lanes out of the offer, so that nobody else connects to them.
 * @count: number of lanes
 *
 * A failure is harmless: who connects once more says hello with a nonce that is spent.
 *
 * Context: process, sleeps until xenstored has answered.
 */
void memx_xs_taken(unsigned int count)
{
	struct xenbus_transaction t;
	unsigned int try;
	int ret = -EAGAIN;

	for (try = 0; try < TRIES && ret == -EAGAIN; try++) {
		if (xenbus_transaction_start(&t))
			return;
		ret = write_taken(t, count);
		if (ret)
			xenbus_transaction_end(t, 1);
		else
			ret = xenbus_transaction_end(t, 0);
	}
}

/**
 * memx_xs_remove() - takes the offer, and any refusal of it, out of XenStore.
 *
 * Context: process, sleeps until xenstored has answered.
 */
void memx_xs_remove(void)
{
	remove_node(XBT_NIL, "data", "memx");
}

/**
 * memx_xs_leaked() - how many pages were leaked by loads of the module before this one.
 *
 * Context: process, sleeps until xenstored has answered.
 * Return: their number.
 */
unsigned int memx_xs_leaked(void)
{
	return xenbus_read_unsigned("data", MEMX_XS_LEAKED, 0);
}

/**
 * memx_xs_add_leaked() - adds to that number.
 * @pages: that were leaked now
 *
 * Context: process, sleeps until xenstored has answered.
 */
void memx_xs_add_leaked(unsigned int pages)
{
	xenbus_printf(XBT_NIL, "data", MEMX_XS_LEAKED, "%u", memx_xs_leaked() + pages);
}

/* Reads the refusal, makes it fit for a log, and tells it. */
static void tell_refusal(struct work_struct *work)
{
	struct memx_xs_refusals *refusals = container_of(work, struct memx_xs_refusals, work);
	char *text, *c;
	unsigned int len;

	text = xenbus_read(XBT_NIL, MEMX_XS_DIR, "refused", &len);
	if (IS_ERR(text))
		return;
	if (len >= MEMX_REASON_MAX)
		text[MEMX_REASON_MAX - 1] = '\0';
	for (c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	if (*text)
		refusals->tell(refusals->ctx, text);
	kfree(text);
}

static void refusal_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct memx_xs_refusals *refusals = container_of(watch, struct memx_xs_refusals, watch);

	schedule_work(&refusals->work);
}

/**
 * memx_xs_watch() - begins to look for refusals.
 * @refusals: the watch; stays the caller's, and in place until memx_xs_unwatch()
 * @tell: called from a workqueue with a printable text; may sleep
 * @ctx: for @tell
 *
 * Context: process, sleeps until xenstored has answered.
 * Return: 0 or a negative errno of XenStore's.
 */
int memx_xs_watch(struct memx_xs_refusals *refusals,
		  void (*tell)(void *ctx, const char *reason), void *ctx)
{
	memset(refusals, 0, sizeof(*refusals));
	INIT_WORK(&refusals->work, tell_refusal);
	refusals->tell = tell;
	refusals->ctx = ctx;
	refusals->watch.node = MEMX_XS_DIR "/refused";
	refusals->watch.callback = refusal_changed;
	return register_xenbus_watch(&refusals->watch);
}

/**
 * memx_xs_unwatch() - ends it. No call of tell() is running or comes when it returns.
 * @refusals: the watch
 *
 * Context: process; not a watch's callback, and not tell().
 */
void memx_xs_unwatch(struct memx_xs_refusals *refusals)
{
	unregister_xenbus_watch(&refusals->watch);
	cancel_work_sync(&refusals->work);
}
