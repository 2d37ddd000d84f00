// SPDX-License-Identifier: GPL-2.0-only
/*
 * core-lies.c - donors that lie about what they hold: what it must not cost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "donors.h"

static u16 answer_to(const struct frame *f)
{
	return memx_le16(f->hdr.op) & (u16)~MEMX_OP_REPLY;
}

static void resize(struct frame *f, u32 len)
{
	u8 *body = core_zalloc(len + 8);

	memcpy(body, f->body, f->len < len ? f->len : len);
	free(f->body);
	f->body = body;
	f->len = len;
	f->hdr.len = memx_put_le32(len);
}

/* ---- extents that were cut off ------------------------------------------------------------------------------------------- */

enum { WANTED = 64 };		/* extents, twice what the donor has room for */

/* It holds the last extent that was asked for, and has no time to free it. */
static bool holds_the_last(struct wdonor *d, struct frame *f)
{
	struct memx_extent_ref ref = { .extent = memx_put_le32(WANTED - 1), .generation = memx_put_le64(1) };
	struct memx_list list = { .count = memx_put_le32(1) };

	(void)d;
	if (answer_to(f) == MEMX_OP_FENCE && f->len == sizeof(struct memx_fenced)) {
		((struct memx_fenced *)f->body)->extents = memx_put_le32(1);
	} else if (answer_to(f) == MEMX_OP_LIST) {
		resize(f, memx_list_len(1));
		memcpy(f->body, &list, sizeof(list));
		memcpy(f->body + sizeof(list), &ref, sizeof(ref));
		f->hdr.flags = memx_put_le16(MEMX_F_LAST);
	} else if (answer_to(f) == MEMX_OP_FREE) {
		f->hdr.status = memx_put_le32(MEMX_S_AGAIN);
		resize(f, 0);
	}
	return true;
}

/* Less is granted than was asked for: what a donor says of the rest concerns nobody, also when the session is gone. */
static void what_is_cut_off_leaves_nothing(void **state)
{
	(void)state;
	w = world_new(11, 1, 32, NULL);
	g = wguest_new(w, WANTED * 64, 1);
	assert_true(wguest_start(g));
	assert_true(g->slots < WANTED * 64);
	wguest_hang_up(g);
	g->frozen = false;			/* nothing was swapped to it yet: it asks for all once more */
	w->donor[0].tamper = holds_the_last;
	assert_true(wguest_start(g));
	assert_true(g->slots < WANTED * 64);
	wguest_hang_up(g);
	world_pass(w, 100);
	w->donor[0].tamper = NULL;
	assert_true(wguest_again(g));
	stored(0, 8);
	fetched(0, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rule(what_is_cut_off_leaves_nothing),
	};

	return cmocka_run_group_tests_name("relay core: donors that lie about what they hold", tests, NULL, NULL);
}
