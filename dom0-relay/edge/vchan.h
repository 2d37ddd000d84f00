/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vchan.h - a lane of a Xen guest: connected and unmapped by libxenvchan, read and written through memx/vring.h.
 */
#ifndef MEMX_RELAY_VCHAN_H
#define MEMX_RELAY_VCHAN_H

#include "user/chan.h"

/*
 * Connects to the vchan that domain @domid offers under @path, which may block on XenStore and on the mapping of grants: not
 * for the data thread. NULL: errno. The channel's close() unmaps and may block as well.
 */
struct memx_chan *vchan_open(uint32_t domid, const char *path);

#endif /* MEMX_RELAY_VCHAN_H */
