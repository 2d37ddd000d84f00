// SPDX-License-Identifier: GPL-2.0-only
/*
 * mistakes.c - a module that makes the mistakes which a debug kernel is to see: the tests' negative control.
 *
 * A word written to /sys/module/memx_mistakes/parameters/make names the mistake. It is made at once, in the writer's thread;
 * none damages more than memory that nobody uses. Built for the kernels of tools/setup/debug-kernel alone.
 */
#include <linux/bits.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

enum {
	LEAKS		= 64,	/* pointers to some may be left somewhere by chance */
	LEAK_SIZE	= 1000,
	OVERRUN_SIZE	= 100,
};

static DEFINE_SPINLOCK(held);
static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

static int leak(void)
{
	int i;

	for (i = 0; i < LEAKS; i++)
		if (!kmalloc(LEAK_SIZE, GFP_KERNEL))
			return -ENOMEM;
	return 0;
}

/* Reads the byte behind an object. */
static int overrun(void)
{
	char *object = kzalloc(OVERRUN_SIZE, GFP_KERNEL);
	char behind;

	if (!object)
		return -ENOMEM;
	OPTIMIZER_HIDE_VAR(object);
	behind = READ_ONCE(object[OVERRUN_SIZE]);
	pr_info("memx_mistakes: %d behind the object\n", behind);
	kfree(object);
	return 0;
}

static int shift(void)
{
	unsigned int by = BITS_PER_TYPE(by) + 1;

	OPTIMIZER_HIDE_VAR(by);
	pr_info("memx_mistakes: shifted by too much: %u\n", 1U << by);
	return 0;
}

static int sleep_in_atomic(void)
{
	spin_lock(&held);
	might_sleep();
	spin_unlock(&held);
	return 0;
}

/* Once this way round, once the other; nobody waits for anybody. lockdep sees it, and switches itself off. */
static int lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
	return 0;
}

static int make(const char *word, const struct kernel_param *kp)
{
	static const struct {
		const char *name;
		int (*make)(void);
	} mistakes[] = {
		{ "leak", leak }, { "overrun", overrun }, { "shift", shift }, { "sleep-in-atomic", sleep_in_atomic },
		{ "lock-order", lock_order },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++)
		if (sysfs_streq(word, mistakes[i].name))
			return mistakes[i].make();
	return -EINVAL;
}

static const struct kernel_param_ops make_ops = { .set = make };
module_param_cb(make, &make_ops, NULL, 0200);
MODULE_PARM_DESC(make, "leak, overrun, shift, sleep-in-atomic or lock-order");

MODULE_DESCRIPTION("Mistakes that a debug kernel is to see");
MODULE_LICENSE("GPL");
