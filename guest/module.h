/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * module.h - what the files of the module's life cycle (main, params, pm, sysfs, debugfs) share.
 */
#ifndef MEMX_GUEST_MODULE_H
#define MEMX_GUEST_MODULE_H

#include <linux/device.h>
#include <linux/pm.h>
#include <linux/sysfs.h>

#include "session.h"

#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

/* params.c: what the module's parameters ask for. -EINVAL, with a line in the log that names the parameter. */
int memx_params_get(struct memx_session_config *config);

/* pm.c: drvdata of the device is the session. */
extern const struct dev_pm_ops memx_pm_ops;
int memx_hibernation_guard(struct memx_session *s);
void memx_hibernation_unguard(void);

/* sysfs.c: drvdata of the device is the session. */
extern const struct attribute_group *memx_groups[];

/* debugfs.c: a folder that cannot be made is no reason to fail. */
void memx_debugfs_create(struct memx_session *s);
void memx_debugfs_remove(void);

#endif /* MEMX_GUEST_MODULE_H */
