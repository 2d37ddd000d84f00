// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-vring.c - libFuzzer target: one end of a vchan against a peer that keeps the rules, and one that keeps none.
 *
 * Both ends work on one shared page and two rings of memory of their exact size. Until the peer first writes to the page by
 * itself, what comes out at one end is what went in at the other, in order. After that only this holds: what may be read or
 * written lies inside the rings, and an end that found an index that cannot be true never goes on.
 */
#include <fuzz/fuzz.h>
#include <memx/vring.h>

struct pipe {				/* what one direction ought to carry */
	u8 in, out;			/* the next byte to write, to expect */
	u32 held;
};

struct ends {
	struct memx_vchan_page *shr;
	struct memx_vring end[2];	/* 0: the server */
	u8 *ring[2];			/* left, right */
	u32 size[2];
	struct pipe pipe[2];		/* by sender */
	bool honest;
};

static void check_read(struct ends *w, int me, u32 off, const u8 *got, u32 len)
{
	for (u32 i = 0; w->honest && i < len; i++)
		fuzz_must(got[i] == (u8)(w->pipe[!me].out + off + i), "byte %u of what was sent", off + i);
}

static void read_some(struct ends *w, int me, struct fuzz_in *in)
{
	struct memx_vring *r = me ? &w->end[1] : &w->end[0];
	bool was_broken = r->rx_broken;
	int avail = memx_vring_avail(r);
	u32 off, len;
	u8 *to;

	fuzz_must(avail == -EPROTO || (avail >= 0 && (u32)avail <= r->rx_size), "%d can be read", avail);
	fuzz_must(!was_broken || avail == -EPROTO, "a broken ring is read on");
	if (avail < 0) {
		fuzz_must(!w->honest && r->rx_broken, "an honest peer's index is refused");
		return;
	}
	if (w->honest)
		fuzz_must((u32)avail == w->pipe[!me].held, "%d can be read, %u was sent", avail, w->pipe[!me].held);
	off = (u32)(fuzz_take(in, 2) % ((u32)avail + 1));
	len = (u32)(fuzz_take(in, 2) % ((u32)avail - off + 1));
	to = malloc(len + !len);
	memx_vring_peek(r, off, to, len);
	check_read(w, me, off, to, len);
	free(to);
	len = fuzz_rarely(in, 3) ? (u32)avail : len;
	memx_vring_consume(r, len);
	w->pipe[!me].out += (u8)len;
	w->pipe[!me].held -= len;
}

static void write_some(struct ends *w, int me, struct fuzz_in *in)
{
	struct memx_vring *r = me ? &w->end[1] : &w->end[0];
	bool was_broken = r->tx_broken;
	int space = memx_vring_space(r);
	struct pipe *p = &w->pipe[me];
	u32 len, cut;
	u8 *from;

	fuzz_must(space == -EPROTO || (space >= 0 && (u32)space <= r->tx_size), "room for %d", space);
	fuzz_must(!was_broken || space == -EPROTO, "a broken ring is written on");
	if (space < 0) {
		fuzz_must(!w->honest && r->tx_broken, "an honest peer's index is refused");
		return;
	}
	if (w->honest)
		fuzz_must((u32)space == r->tx_size - p->held, "room for %d, %u is held", space, p->held);
	len = fuzz_rarely(in, 3) ? (u32)space : (u32)(fuzz_take(in, 2) % ((u32)space + 1));
	cut = (u32)(fuzz_take(in, 2) % (len + 1));
	from = malloc(len + !len);
	for (u32 i = 0; i < len; i++)
		from[i] = (u8)(p->in + i);
	memx_vring_put(r, cut, from + cut, len - cut);
	memx_vring_put(r, 0, from, cut);
	free(from);
	memx_vring_publish(r, len);
	p->in += (u8)len;
	p->held += len;
}

/* The peer, or whatever has its page mapped, writes there what it likes. */
static void scribble(struct ends *w, struct fuzz_in *in)
{
	u32 *index[] = { &w->shr->left.cons, &w->shr->left.prod, &w->shr->right.cons, &w->shr->right.prod };
	u32 which = fuzz_pick(in, 8);

	w->honest = false;
	if (which < 4)
		*index[which] = fuzz_u8(in) & 1 ? (u32)fuzz_odd(in) : *index[which] + (u32)(int8_t)fuzz_u8(in);
	else
		((u8 *)w->shr)[16 + fuzz_pick(in, 8)] = fuzz_u8(in);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	struct ends w = { .honest = true };
	u32 start = (u32)fuzz_odd(&in);

	w.shr = calloc(1, sizeof(*w.shr));
	w.size[0] = 1U << (4 + fuzz_pick(&in, 8));
	w.size[1] = 1U << (4 + fuzz_pick(&in, 8));
	w.ring[0] = calloc(1, w.size[0]);
	w.ring[1] = calloc(1, w.size[1]);
	fuzz_must(w.shr && w.ring[0] && w.ring[1], "no memory");
	memx_vring_reset_shared(w.shr, 0, 0);
	/* Indices run freely: wherever they stand when an end comes. */
	w.shr->left.cons = start;
	w.shr->left.prod = start;
	w.shr->right.cons = ~start;
	w.shr->right.prod = ~start;
	memx_vring_init(&w.end[0], w.shr, true, w.ring[0], w.size[0], w.ring[1], w.size[1]);
	memx_vring_init(&w.end[1], w.shr, false, w.ring[0], w.size[0], w.ring[1], w.size[1]);
	while (in.at < in.end) {
		u8 what = fuzz_u8(&in);
		int me = what & 1;

		switch (what >> 1 & 7) {
		case 0:
			memx_vring_want(&w.end[me], what >> 4 & 3);
			break;
		case 1:
			if (what >= 0xc0)
				scribble(&w, &in);
			break;
		case 2:
		case 3:
		case 4:
			read_some(&w, me, &in);
			break;
		default:
			write_some(&w, me, &in);
		}
	}
	free(w.ring[0]);
	free(w.ring[1]);
	free(w.shr);
	return 0;
}
