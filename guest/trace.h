/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.h - the module's tracepoints, in the trace system "memx".
 *
 * memx_submit and memx_complete come once per request of the swap core, not once per page: what came in,
 * and how and when it ended. memx_state comes with every change of the attachment, where it changes:
 * in an interrupt, a lane's thread, the worker, or whoever switches swap off or suspends the guest.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM memx

#if !defined(MEMX_GUEST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MEMX_GUEST_TRACE_H

#include <linux/tracepoint.h>
#include <linux/types.h>

TRACE_EVENT(memx_submit,
	TP_PROTO(bool store, u32 slot, u32 pages),
	TP_ARGS(store, slot, pages),
	TP_STRUCT__entry(
		__field(u32, slot)
		__field(u32, pages)
		__field(bool, store)
	),
	TP_fast_assign(
		__entry->slot = slot;
		__entry->pages = pages;
		__entry->store = store;
	),
	TP_printk("%s slot=%u pages=%u", __entry->store ? "store" : "fetch",
		  __entry->slot, __entry->pages)
);

TRACE_EVENT(memx_complete,
	TP_PROTO(bool store, u32 slot, u32 pages, int err, u64 ns),
	TP_ARGS(store, slot, pages, err, ns),
	TP_STRUCT__entry(
		__field(u64, ns)
		__field(u32, slot)
		__field(u32, pages)
		__field(int, err)
		__field(bool, store)
	),
	TP_fast_assign(
		__entry->ns = ns;
		__entry->slot = slot;
		__entry->pages = pages;
		__entry->err = err;
		__entry->store = store;
	),
	TP_printk("%s slot=%u pages=%u err=%d ns=%llu", __entry->store ? "store" : "fetch",
		  __entry->slot, __entry->pages, __entry->err, __entry->ns)
);

TRACE_EVENT(memx_state,
	TP_PROTO(int state, u64 epoch),
	TP_ARGS(state, epoch),
	TP_STRUCT__entry(
		__field(u64, epoch)
		__field(int, state)
	),
	TP_fast_assign(
		__entry->epoch = epoch;
		__entry->state = state;
	),
	TP_printk("%s epoch=%llu",
		  __print_symbolic(__entry->state,
				   { 0, "stopped" }, { 1, "down" }, { 2, "offered" },
				   { 3, "attaching" }, { 4, "refused" }, { 5, "attached" },
				   { 6, "detaching" }, { 7, "superseded" }),
		  __entry->epoch)
);

#endif /* MEMX_GUEST_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
