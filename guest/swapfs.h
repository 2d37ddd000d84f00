/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * swapfs.h - between the pseudo file system (swapfs.c) and the kernel's swap hook (hook_fsops.c or hook_ops.c).
 */
#ifndef MEMX_GUEST_SWAPFS_H
#define MEMX_GUEST_SWAPFS_H

#include <linux/fs.h>

struct swap_info_struct;
struct memx_session;

/* The hook file's: address space operations of the one file. */
extern const struct address_space_operations memx_swap_aops;

/* For the hook file. */
int memx_swap_read_folio(struct file *file, struct folio *folio);	/* ->read_folio: the synthesised header */
struct memx_session *memx_swap_session(void);				/* registered, for as long as the file is open */

#endif /* MEMX_GUEST_SWAPFS_H */
