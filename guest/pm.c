// SPDX-License-Identifier: GPL-2.0-only
/*
 * pm.c - the module when its guest is saved, migrated, checkpointed or put to sleep.
 *
 * Xen suspends a guest from its own thread (drivers/xen/manage.c): all tasks are frozen, then every
 * device's .freeze is called, XenStore is stopped, the domain stops; and when it goes on, here or
 * elsewhere, XenStore is resumed and every device's .restore is called, or .thaw if nothing came of it.
 * Last of all, when every device is back, comes .complete.
 *
 *	.freeze		What is in flight ends within FREEZE_MS, in which also a relay may come back, or the
 *			suspend is refused. From here on writes fail at once: their pages stay dirty, and
 *			nobody waits for a device that is not there. After a refusal they do until the
 *			tasks are thawed, for the other devices' resume is the same danger then.
 *	.thaw		Nothing happened here, grants and ports are as they were. But an image of the guest
 *			may have been kept (a checkpoint), and may be restored while this guest lives on.
 *	.restore	Grants and ports may be void, the domain may be another one on another host. It may
 *			also come although nothing happened, when suspending failed half-way.
 *			In both cases the attachment ends at once, before a page is stored that the other
 *			copy would miss; the session draws a new lineage, builds what is missing and offers
 *			itself anew in the background. Nothing here waits for a relay: other devices still
 *			have to be resumed by this very thread, and what serves the relay may depend on them.
 *	.complete	Writes are taken again. Not earlier: another driver's resume may allocate memory,
 *			reclaim it by writing to us, and so wait for a relay in the thread that would resume us.
 *
 * Hibernation is another matter. The kernel looks for a block device under every swap area when it
 * writes its image and follows a null pointer where there is none, so it is refused as long as our swap
 * is on, by the notifier that is asked first; and swapon is refused until it is over.
 */
#include <linux/device.h>
#include <linux/notifier.h>
#include <linux/suspend.h>

#include "module.h"

enum {
	FREEZE_MS = 20000,	/* the toolstack gives a guest 60 s to suspend, of which freezing its tasks may take 20 */
};

static int memx_freeze(struct device *dev)
{
	struct memx_session *s = dev_get_drvdata(dev);
	int ret = memx_session_quiesce(s, FREEZE_MS);

	if (ret == -EAGAIN)
		dev_err(dev, "suspend refused: no relay has let this guest attach since its last resumes, and after one more the donors might not know it again; is the relay running?\n");
	else if (ret)
		dev_err(dev, "suspend refused: %u pages have waited for the relay for %u s; is it running?\n",
			memx_session_inflight(s), FREEZE_MS / 1000);
	return ret;
}

static int memx_resume(struct device *dev)
{
	memx_session_resume(dev_get_drvdata(dev));
	return 0;
}

static void memx_complete(struct device *dev)
{
	memx_session_writes(dev_get_drvdata(dev), true);
}

const struct dev_pm_ops memx_pm_ops = {
	.freeze = memx_freeze,
	.thaw = memx_resume,
	.restore = memx_resume,
	.complete = memx_complete,
};

/* ---- hibernation ---------------------------------------------------------------------------------- */

static struct memx_session *guarded;

static int hibernation_event(struct notifier_block *nb, unsigned long event, void *data)
{
	if (event == PM_POST_HIBERNATION)
		memx_session_hibernates(guarded, false);
	if (event != PM_HIBERNATION_PREPARE || memx_session_hibernates(guarded, true))
		return NOTIFY_DONE;
	pr_warn("hibernation refused: swap is on remote memory, which cannot hold the image; swapoff it first\n");
	return NOTIFY_BAD;
}

static struct notifier_block hibernation_notifier = {
	.notifier_call = hibernation_event,
};

int memx_hibernation_guard(struct memx_session *s)
{
	guarded = s;
	return register_pm_notifier(&hibernation_notifier);
}

void memx_hibernation_unguard(void)
{
	unregister_pm_notifier(&hibernation_notifier);
}
