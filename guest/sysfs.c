// SPDX-License-Identifier: GPL-2.0-only
/*
 * sysfs.c - the session below /sys/devices/platform/memx, one value per file.
 *
 * What each file means is written down in docs/ABI/sysfs-memx, which user space may rely on. Files only
 * read what the session lets anyone read, or pass a setting on; there is no lock and no state here.
 */
#include <linux/device.h>
#include <linux/kernel.h>
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "module.h"
#include "transport.h"

#define MEMX_SHOW(name, format, ...)								\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf)	\
{												\
	struct memx_session *s = dev_get_drvdata(dev);						\
												\
	return sysfs_emit(buf, format "\n", __VA_ARGS__);					\
}												\
static DEVICE_ATTR_RO(name)

MEMX_SHOW(state, "%s", memx_attach_state_name(memx_session_state(s)));
MEMX_SHOW(epoch, "%llu", memx_session_epoch(s));
MEMX_SHOW(size, "%llu", (u64)memx_session_slots(s) << PAGE_SHIFT);
MEMX_SHOW(swap, "%d", memx_session_swap_on(s));
MEMX_SHOW(replicas, "%u", memx_session_replicas(s));
MEMX_SHOW(inflight, "%u", memx_session_inflight(s));
MEMX_SHOW(memory, "%zu", memx_session_memory(s));

static ssize_t session_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u8 id[16];

	memx_session_id(dev_get_drvdata(dev), id);
	return sysfs_emit(buf, "%*phN\n", (int)sizeof(id), id);
}
static DEVICE_ATTR_RO(session);

static ssize_t extent_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct memx_session *s = dev_get_drvdata(dev);
	u8 order = memx_session_extent_order(s);

	return sysfs_emit(buf, "%llu\n", order ? 1ULL << (order + PAGE_SHIFT) : 0);
}
static DEVICE_ATTR_RO(extent_size);

static ssize_t reason_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	char text[MEMX_REASON_MAX];

	memx_session_reason(dev_get_drvdata(dev), text, sizeof(text));
	return sysfs_emit(buf, "%s\n", text);
}
static DEVICE_ATTR_RO(reason);

/* ---- settings ------------------------------------------------------------------------------------- */

#define MEMX_SETTING(name, get, set)								\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf)	\
{												\
	return sysfs_emit(buf, "%u\n", get(dev_get_drvdata(dev)));				\
}												\
static ssize_t name##_store(struct device *dev, struct device_attribute *attr,			\
			    const char *buf, size_t count)					\
{												\
	u32 value;										\
	int ret = kstrtou32(buf, 0, &value);							\
												\
	if (ret)										\
		return ret;									\
	set(dev_get_drvdata(dev), value);							\
	return count;										\
}												\
static DEVICE_ATTR_RW(name)

MEMX_SETTING(deadline_ms, memx_session_deadline, memx_session_set_deadline);
MEMX_SETTING(trim_pages, memx_session_trim, memx_session_set_trim);

static struct attribute *session_attrs[] = {
	&dev_attr_state.attr,
	&dev_attr_epoch.attr,
	&dev_attr_session.attr,
	&dev_attr_size.attr,
	&dev_attr_swap.attr,
	&dev_attr_replicas.attr,
	&dev_attr_extent_size.attr,
	&dev_attr_inflight.attr,
	&dev_attr_memory.attr,
	&dev_attr_reason.attr,
	&dev_attr_deadline_ms.attr,
	&dev_attr_trim_pages.attr,
	NULL
};

static const struct attribute_group session_group = {
	.attrs = session_attrs,
};

/* ---- counters ------------------------------------------------------------------------------------- */

struct counter_attribute {
	struct device_attribute dev_attr;
	enum memx_counter what;
};

static ssize_t counter_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct counter_attribute *counter = container_of(attr, struct counter_attribute, dev_attr);

	return sysfs_emit(buf, "%llu\n",
			  memx_session_counter(dev_get_drvdata(dev), counter->what));
}

static struct counter_attribute counters[] = {
#define MEMX_X(name, text) { __ATTR(name, 0444, counter_show, NULL), MEMX_C_##name },
	MEMX_COUNTERS(MEMX_X)
#undef MEMX_X
};

static struct attribute *counter_attrs[] = {
#define MEMX_X(name, text) &counters[MEMX_C_##name].dev_attr.attr,
	MEMX_COUNTERS(MEMX_X)
#undef MEMX_X
	NULL
};

static const struct attribute_group counter_group = {
	.name = "statistics",
	.attrs = counter_attrs,
};

const struct attribute_group *memx_groups[] = {
	&session_group,
	&counter_group,
	NULL
};
