/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hostile-donor.h - what the hostile donor's tricks are made of: an honest answer in hand, and the ways to spoil it.
 *
 * A trick gets every answer on its way to the relay, whole, in memory of its own. It changes it, adds frames before or behind
 * it, or says that it is not sent.
 */
#ifndef MEMX_HOSTILE_DONOR_H
#define MEMX_HOSTILE_DONOR_H

#include <memx/check.h>
#include <memx/codec.h>

struct conn;

struct answer {
	struct memx_hdr hdr;
	u8 *body;			/* room for ANSWER_ROOM */
	u32 len;			/* of the body: what is sent; hdr.len is set to it before a trick sees it */
	u16 op;				/* of the request */
	u32 status;
	u32 count;			/* STORE, FETCH, DISCARD: pages; else 0 */
};

enum {
	ANSWER_ROOM	= 1 << 20,
};

/* Sends @len bytes to the relay as they are. */
void emit_raw(struct conn *c, const void *data, u32 len);
/* Sends @a with its header as it stands. */
void emit(struct conn *c, const struct answer *a);
/* Sets the length of the body, in the header too; more is filled with zeros. */
void resize(struct answer *a, u32 len);
/* The answer becomes one without success, with the body that belongs to that. */
void refuse(struct answer *a, u32 status);
/* The page of the store before the last one to this slot, and its trailer; NULL: never stored twice. */
const u8 *older(u32 handle, u32 slot, struct memx_trailer *trailer);
u64 draw(void);
/* Keeps a copy of @a, in place of the one kept before; sends the one kept. False: none is. */
void keep(const struct answer *a);
bool emit_kept(struct conn *c);

/* The fetched pages of @a: descriptors, then bytes. NULL: it brings none. */
static inline struct memx_page *pages_of(const struct answer *a, u8 **bytes)
{
	struct memx_page *page = (struct memx_page *)(void *)(a->body + MEMX_IO_LEN);

	if (a->op != MEMX_OP_FETCH || a->status != MEMX_S_OK || !a->count)
		return NULL;
	*bytes = (u8 *)(page + a->count);
	return page;
}

/* Each a function t_NAME(). True: the answer is sent as it is now; false: it is not sent. */
#define TRICKS(X) X(honest) \
	X(wrong_bytes) X(one_bit) X(zeros) X(old_page) X(old_page_new_trailer) X(swapped_pages) X(swapped_whole) X(wrong_version) \
	X(sealed) X(wrong_slot) X(wrong_extent) X(wrong_count) X(page_cut) X(page_more) X(page_absent) X(page_odd_status) \
	X(frame_cut) X(len_more) X(len_less) X(len_huge) X(len_all_ones) X(magic) X(flags) X(op) X(not_a_reply) \
	X(twice) X(thrice_later) X(unknown_tag) X(tag_zero) X(tag_of_another) X(silent) X(silent_fetch) X(silent_store) X(late) \
	X(store_absent) X(store_invalid) X(store_unknown) X(store_fenced) X(store_superseded) X(store_generation) X(store_old) \
	X(store_corrupt) X(store_partial) X(store_again) X(store_nospace) X(store_garbage_status) \
	X(fetch_absent) X(fetch_version) X(fetch_fenced) X(fetch_superseded) X(fetch_unknown) X(fetch_again) X(fetch_garbage_status) \
	X(place_refused) X(place_absent) X(place_nospace) X(place_generation) X(place_body) \
	X(fence_superseded) X(fence_fenced) X(fence_unknown) X(fence_handle0) X(fence_numbers) X(fence_cut) \
	X(list_empty) X(list_ghosts) X(list_future) X(list_down) X(list_endless) X(list_count) X(scan_empty) X(scan_future) \
	X(scan_gone) \
	X(hello_id) X(hello_instance) X(hello_role) X(hello_proto) X(hello_cut) X(hello_nobody) X(hello_silent) \
	X(stat_huge) X(stat_full) X(stat_domain) X(stat_draining) X(stat_cut) \
	X(ask_flood) X(ping_flood) X(requests) X(garbage) X(drip) X(hang_up) X(hang_up_midway)

#define X(name) bool t_##name(struct conn *c, struct answer *a);
TRICKS(X)
#undef X

/* What the program itself does for a trick, beside the answers. */
extern bool drip_feed;			/* a few bytes at a time */
extern u8 donor_to_be[16];		/* hello_id: whom it says it is */
void hang_up(struct conn *c);		/* once what was sent is on its way */

#endif /* MEMX_HOSTILE_DONOR_H */
