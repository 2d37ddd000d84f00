// SPDX-License-Identifier: GPL-2.0-only
/*
 * hook_ops.c - the swap hook of kernels with pluggable struct swap_ops (include/linux/swap_ops.h; 7.3).
 *
 * Contract, read in mm/page_io.c and mm/swapfile.c of 7.3.4: submit_write() and submit_read() get a request of contiguous
 * slots in ctx->sio, which is ours until its ki_complete() was called; ctx itself is the caller's stack. swap_fs_prepare_rw()
 * must come first: it makes the kiocb, until then uninitialised memory, and an iterator over sio->bvecs. The end is always
 * sio->iocb.ki_complete(), once, from any context, with the full length or an error. Most writes come with PF_MEMALLOC (zswap's
 * need not), and both may sleep.
 *
 * SWAP_OPS_F_REQUIRE_NOFS stays unset: nothing on our way waits for a file system, so reclaim may come here with GFP_NOFS,
 * as it does to a disk.
 *
 * swap_activate() is called with the inode locked and sis->swap_file not set yet. If it fails, swap_deactivate() is not
 * called; if it succeeds, it is, once: at swapoff, or when swapon fails later.
 */
#include <linux/swap.h>
#include <linux/swap_ops.h>
#include <linux/uio.h>

#include "session_int.h"
#include "swapfs.h"

static void submit(struct swap_io_ctx *ctx, int rw)
{
	struct swap_iocb *sio = ctx->sio;
	struct iov_iter iter;
	int ret;

	swap_fs_prepare_rw(ctx, rw, &iter);
	ret = memx_session_rw(memx_swap_session(), &sio->iocb, &iter);
	if (ret != -EIOCBQUEUED)
		sio->iocb.ki_complete(&sio->iocb, ret);
}

static void memx_submit_write(struct swap_io_ctx *ctx)
{
	submit(ctx, WRITE);
}

static void memx_submit_read(struct swap_io_ctx *ctx)
{
	submit(ctx, READ);
}

static const struct swap_ops memx_swap_ops = {
	.can_merge	= swap_fs_can_merge,
	.submit_write	= memx_submit_write,
	.submit_read	= memx_submit_read,
};

static int memx_swap_activate(struct swap_info_struct *sis, struct file *file, sector_t *span)
{
	struct memx_session *s = memx_swap_session();
	int ret;

	ret = memx_session_swapon(s, sis);
	if (ret)
		return ret;
	ret = swap_fs_activate(sis, &memx_swap_ops);
	if (ret < 0) {
		memx_session_swapoff(s);
		return ret;
	}
	*span = sis->pages;
	return ret;
}

static void memx_swap_deactivate(struct file *file)
{
	memx_session_swapoff(memx_swap_session());
}

const struct address_space_operations memx_swap_aops = {
	.read_folio		= memx_swap_read_folio,
	.dirty_folio		= noop_dirty_folio,
	.swap_activate		= memx_swap_activate,
	.swap_deactivate	= memx_swap_deactivate,
};
