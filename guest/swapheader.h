/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * swapheader.h - the first page of a swap area, as mkswap(8) would have written it (union swap_header in linux/swap.h).
 */
#ifndef MEMX_GUEST_SWAPHEADER_H
#define MEMX_GUEST_SWAPHEADER_H

#include <linux/string.h>
#include <linux/swap.h>
#include <linux/types.h>

/* Fills the PAGE_SIZE bytes at @page: an area of @slots pages, this one included, with @id for its UUID. */
static inline void memx_swap_header(void *page, u32 slots, const u8 id[16])
{
	union swap_header *header = page;

	memset(header, 0, PAGE_SIZE);
	header->info.version = 1;
	header->info.last_page = slots - 1;
	memcpy(header->info.sws_uuid, id, sizeof(header->info.sws_uuid));
	memcpy(header->info.sws_volume, "memx", 5);
	memcpy(header->magic.magic, "SWAPSPACE2", 10);
}

#endif /* MEMX_GUEST_SWAPHEADER_H */
