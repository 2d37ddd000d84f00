// SPDX-License-Identifier: GPL-2.0-only
/*
 * repair.c - bringing extents back to their number of live copies, behind the foreground work.
 */
#include "internal.h"

void repair_tick(struct relay_core *core)
{
	(void)core;
}

void repair_cancel(struct extent *x)
{
	(void)x;
}
