// SPDX-License-Identifier: GPL-2.0-only
/*
 * hook_fsops.c - the swap hook of kernels with SWP_FS_OPS (6.1, 6.6, 6.12): address_space_operations.swap_rw.
 *
 * Contract, read in mm/page_io.c of 6.1.192 and 6.12.117: swap_rw() gets up to 32 pages of contiguous slots, unlocked and
 * under writeback (out) or locked (in), as a bvec iterator that lives on the caller's stack over an array that lives until
 * the end. It returns -EIOCBQUEUED and calls ki_complete() once, from any context, with the full length or an error; or it
 * returns an error and does not call it. Most writes come with PF_MEMALLOC (zswap's need not), and both may sleep.
 *
 * swap_activate() is called with the inode locked. If it fails, swap_deactivate() is not called; if it succeeds, it is, once:
 * at swapoff, or when swapon fails later.
 */
#include <linux/swap.h>

#include "session_int.h"
#include "swapfs.h"

static int memx_swap_activate(struct swap_info_struct *sis, struct file *file, sector_t *span)
{
	struct memx_session *s = memx_swap_session();
	int ret;

	ret = memx_session_swapon(s, sis);
	if (ret)
		return ret;
	ret = add_swap_extent(sis, 0, sis->max, 0);
	if (ret < 0) {
		memx_session_swapoff(s);
		return ret;
	}
	*span = sis->pages;
	sis->flags |= SWP_FS_OPS;
	return ret;
}

static void memx_swap_deactivate(struct file *file)
{
	memx_session_swapoff(memx_swap_session());
}

static int memx_swap_rw(struct kiocb *iocb, struct iov_iter *iter)
{
	return memx_session_rw(memx_swap_session(), iocb, iter);
}

const struct address_space_operations memx_swap_aops = {
	.read_folio		= memx_swap_read_folio,
	.dirty_folio		= noop_dirty_folio,
	.swap_activate		= memx_swap_activate,
	.swap_deactivate	= memx_swap_deactivate,
	.swap_rw		= memx_swap_rw,
};
