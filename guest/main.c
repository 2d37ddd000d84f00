// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - memx_swap is loaded and unloaded.
 *
 * Everything that the module has comes into being here, in order, and goes in the exact reverse. The
 * order is that of visibility: first what nobody sees (the session, its rings and pools), then what an
 * admin sees (device, file system, files), and the offer to the relay last, so that whatever the first
 * attach sets off finds all of it there. Loading waits for nobody.
 *
 * The module cannot be unloaded while its file system is mounted or its swap is on: both hold it.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/sysfs.h>
#include <xen/xen.h>

#include "memx-version.h"
#include "module.h"
#include "reclaim.h"

enum {
	DETACH_MS	= 3000,	/* unloading: how long the relay has to free our pages at the donors */
	ANNOUNCE_TRIES	= 5,
	ANNOUNCE_MS	= 200,	/* between two tries; nobody waits for pages yet */
};

static struct memx_session *session;
static struct platform_device *device;

/*
 * Tells user space that swapon would work now, once: a session that follows a swapoff attaches as well,
 * but who has switched the swap off does not want it on again.
 */
static void announce(void)
{
	static bool announced;
	char size[40];
	char *env[3] = { "MEMX_EVENT=attached", size };
	int ret, tries = 0;

	if (announced)
		return;
	announced = true;
	snprintf(size, sizeof(size), "MEMX_SIZE=%llu", (u64)memx_session_slots(session) << PAGE_SHIFT);
	/* It is said once, and memory for it may be short: swap that stays off would not make that better. */
	do {
		if (tries)
			msleep(ANNOUNCE_MS);
		ret = kobject_uevent_env(&device->dev.kobj, KOBJ_CHANGE, env);
	} while ((ret == -ENOMEM || ret == -ENOENT) && ++tries < ANNOUNCE_TRIES);	/* ENOENT: no memory for its path */
	if (ret)
		pr_warn("the uevent that has swap switched on could not be sent (%d): \"memx-swapon on\" switches it on\n", ret);
}

/*
 * From the session's worker. Only the first attach is announced: to send an event the kernel allocates
 * memory that it may have to reclaim through us, which is safe only while no swap is on.
 */
static void session_event(void *ctx, enum memx_session_event event)
{
	if (event == MEMX_EV_READY)
		announce();
}

static int __init memx_probe(struct platform_device *pdev)
{
	platform_set_drvdata(pdev, session);
	return 0;
}

static struct platform_driver memx_driver = {
	.driver = {
		.name = "memx",
		.pm = &memx_pm_ops,
	},
};

/*
 * The device with its files. They are made here rather than by the driver core, which stumbles over its own clearing up where it
 * finds no memory for them, and which forgets why a probe failed: ours cannot, so that too was for lack of memory.
 */
static int __init make_device(void)
{
	int ret;

	device = platform_create_bundle(&memx_driver, memx_probe, NULL, 0, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device) == -ENODEV ? -ENOMEM : (int)PTR_ERR(device);
	ret = sysfs_create_groups(&device->dev.kobj, memx_groups);
	if (ret) {
		platform_device_unregister(device);
		platform_driver_unregister(&memx_driver);
	}
	return ret;
}

static void drop_device(void)
{
	sysfs_remove_groups(&device->dev.kobj, memx_groups);
	platform_device_unregister(device);
	platform_driver_unregister(&memx_driver);
}

static int __init memx_check_domain(void)
{
	if (!xen_domain()) {
		pr_err("not loaded: this kernel does not run as a Xen guest\n");
		return -ENODEV;
	}
	if (xen_initial_domain()) {
		pr_err("not loaded: this is Dom0, where memx-dom0-relay runs and not the guests' module\n");
		return -ENODEV;
	}
	return 0;
}

static int __init memx_init(void)
{
	struct memx_session_config config;
	int ret;

	ret = memx_check_domain();
	if (ret)
		return ret;
	ret = memx_params_get(&config);
	if (ret)
		return ret;

	session = memx_session_create(&config, session_event, NULL);
	if (IS_ERR(session)) {
		ret = PTR_ERR(session);
		pr_err("not loaded: no memory, grants or event channels for the rings (%d)\n", ret);
		return ret;
	}
	ret = memx_hibernation_guard(session);
	if (ret)
		goto out_session;
	ret = make_device();
	if (ret)
		goto out_guard;
	/* The last that can fail: who mounts holds the module, but not one that fails to load. */
	ret = memx_swapfs_register(session);
	if (ret)
		goto out_device;
	memx_debugfs_create(session);

	memx_unsafe_warn();
	memx_session_start(session);
	pr_info("version %s, %u store and %u fetch lanes, %zu KiB for rings and pools; waiting for a relay\n",
		MEMX_VERSION, config.store_lanes, config.fetch_lanes,
		memx_session_memory(session) / 1024);
	return 0;

out_device:
	drop_device();
out_guard:
	memx_hibernation_unguard();
out_session:
	memx_session_destroy(session);
	pr_err("not loaded: error %d\n", ret);
	return ret;
}

static void __exit memx_exit(void)
{
	unsigned int leaked;

	memx_session_stop(session, DETACH_MS);
	memx_debugfs_remove();
	memx_swapfs_unregister();
	drop_device();
	memx_hibernation_unguard();
	leaked = memx_session_destroy(session);
	if (leaked)
		pr_warn("%u pages are leaked: Dom0 still maps them; is a relay hung there?\n", leaked);
}

module_init(memx_init);
module_exit(memx_exit);

MODULE_AUTHOR("The MemX authors");
MODULE_DESCRIPTION("Swap to the memory of other machines, through a relay in Dom0");
MODULE_VERSION(MEMX_VERSION);
MODULE_LICENSE("GPL");
