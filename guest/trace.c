// SPDX-License-Identifier: GPL-2.0-only
/*
 * trace.c - where the tracepoints of trace.h are made.
 */
#include "attach.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

_Static_assert(MEMX_A_STOPPED == 0 && MEMX_A_DOWN == 1 && MEMX_A_OFFERED == 2 &&
	       MEMX_A_ATTACHING == 3 && MEMX_A_REFUSED == 4 && MEMX_A_ATTACHED == 5 &&
	       MEMX_A_DETACHING == 6 && MEMX_A_GONE == 7 && MEMX_A_STATES == 8, "names of memx_state");
