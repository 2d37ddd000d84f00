// SPDX-License-Identifier: GPL-2.0-only
/*
 * heal.c - giving a donor a page back that it had lost or damaged, in place.
 *
 * Whoever comes upon a live copy that lacks a page, or has it damaged, and has the right one from another replica, sends that
 * one to the first: a STORE with the version that it has, flagged REPAIR. It cannot do harm: a donor takes it only over an
 * older version, or, at the same version, over a page of which it finds for itself that it does not match its own check. Nothing
 * waits for the answer. What finds no room here is found again by whoever asks for the page next.
 */
#include "internal.h"

enum {
	HEAL_MAX = 16,			/* pages on their way back at once */
};

static int healed(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	const struct memx_page *page = (const struct memx_page *)dop->body->data;
	struct relay_core *core = dop->donor->core;
	struct memx_want want;

	if (status == S_LOST)
		return 0;
	if (status == MEMX_S_PARTIAL) {
		if (head->len != memx_want_len(1))
			return -EPROTO;
		memcpy(&want, body->data + MEMX_IO_LEN, sizeof(want));
		status = memx_status_known(memx_le32(want.status));
	}
	core->count.pages_healed += status == MEMX_S_OK;
	core_say(core, status == MEMX_S_OK || status == MEMX_S_OLD ? CORE_LOG_NOTICE : CORE_LOG_WARN, "page-healed",
		 "guest=%s donor=%s slot=%u status=%s", dop->session->name, dop->donor->name, memx_le32(page->slot),
		 status_word(status));
	return 0;
}

static bool may_take_it(const struct extent *x, const struct core_donor *d)
{
	int i = placement_find(&x->cur, d);

	return i >= 0 && replica_takes_writes(&x->cur.r[i]) && replica_usable(x->s, &x->cur.r[i]) && extent_takes_writes(x);
}

void heal_page(struct extent *x, struct core_donor *d, const struct memx_page *page, const void *bytes)
{
	struct memx_io io = { .extent = memx_put_le32(x->index), .count = memx_put_le16(1) };
	struct relay_core *core = x->s->core;
	const struct list *pos;
	struct rbuf *buf;
	struct dop *dop;
	u32 n = 0;

	list_for_each(pos, &core->heals)
		n++;
	if (n >= HEAL_MAX || core->draining || !may_take_it(x, d) || page_sealed(&page->trailer))
		return;
	buf = rpool_get(d->pool, memx_store_len(1));
	if (!buf)
		return;
	memcpy(buf->data, page, sizeof(*page));
	memcpy(buf->data + sizeof(*page), bytes, MEMX_PAGE_SIZE);
	dop = dop_new(d, MEMX_OP_STORE, DOP_REPAIR, healed);
	memcpy(dop->small, &io, sizeof(io));
	dop->small_len = sizeof(io);
	dop->body = buf;
	dop->body_len = memx_store_len(1) - MEMX_IO_LEN;
	dop->flags = MEMX_F_REPAIR;
	dop->session = x->s;
	dop->extent = x;
	dop->epoch = x->s->epoch;
	list_add_tail(&dop->in_session, &x->s->dops);
	list_add_tail(&dop->in_req, &core->heals);
	donor_queue(dop);
}
