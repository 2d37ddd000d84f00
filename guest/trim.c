// SPDX-License-Identifier: GPL-2.0-only
/*
 * trim.c - finds pages that donors hold for nothing, and discards them.
 *
 * Two kinds: slots that the kernel has freed, and slots whose last store stayed in the guest (one word repeated) or failed.
 * The swap core tells a swap file's owner nothing of freed slots. On kernels with swap_info_struct.swap_map a byte of 0
 * says so: it is looked at under the lock under which stores of that slot are queued. A slot whose store is queued or under
 * way is under writeback and cannot be freed, and a store of a slot that is used again after the look is queued behind the
 * discard, with a newer version. From 6.18 on the byte no longer tells (a page in the swap cache does not count there), and
 * later the map is gone: there only the second kind is found.
 *
 * swap_map is freed behind swap_deactivate(), which takes trim_mutex first; before swapon has ended it is not there yet.
 */
#include <linux/swap.h>
#include <linux/version.h>

#include "session_int.h"
#include "sizing.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0) && !defined(MEMX_HAVE_SWAP_OPS)
#define MEMX_SEES_FREED 1
#else
#define MEMX_SEES_FREED 0
#endif

static bool slot_freed(void *arg, u32 slot)
{
#if MEMX_SEES_FREED
	const struct swap_info_struct *sis = arg;
	unsigned char *map = READ_ONCE(sis->swap_map);

	return map && slot < sis->max && !READ_ONCE(map[slot]);
#else
	return false;
#endif
}

/* Looks at the next @n slots, as long as there are items to discard with. */
static void trim_some(struct memx_session *s, u32 n)
{
	struct memx_engine *e = &s->engine;
	struct memx_item *item = NULL;
	u32 found = 0;

	for (; n; n--) {
		if (!(n % 1024))
			cond_resched();
		if (!item)
			item = memx_pool_try_item(&s->discards);
		if (!item)
			break;
		if (s->trim_next >= e->slots.count)
			s->trim_next = 0;
		item->owner = NULL;
		atomic_inc(&s->pages);
		if (memx_engine_discard(e, s->trim_next++, slot_freed, s->sis, item)) {
			item = NULL;
			found++;
			continue;
		}
		atomic_dec(&s->pages);
	}
	if (item)
		memx_pool_put_item(&s->discards, item);
	if (found)
		memx_session_count(s, MEMX_C_trimmed, found);
}

void memx_trim(struct memx_session *s)
{
	u32 n = memx_trim_looks(READ_ONCE(s->trim_pages), s->engine.slots.count);

	lockdep_assert_held(&s->work_mutex);
	if (!n || !s->attached)
		return;
	mutex_lock(&s->trim_mutex);
	if (s->sis)
		trim_some(s, n);
	mutex_unlock(&s->trim_mutex);
}
