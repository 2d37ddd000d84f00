/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vring.h - one end of a vchan: arithmetic, checks and notify bits, no Xen.
 *
 * The layout and the notify protocol are libxenvchan's (xen/tools/libs/vchan/io.c, init.c), so that an unmodified
 * libxenvchan peer works at the other end. A struct memx_vring is private to its owner and holds the owner's own indices;
 * the shared page is written for the peer and read once per look, and a value that cannot be true breaks the ring for good:
 * the owner resets the channel. Nothing in shared memory is ever used as an address or an index unchecked.
 *
 * Indices run freely through 32 bits; a ring has a power of two of bytes, at most 1 MiB.
 *
 * Locking: the owner serialises receiving (avail, peek, consume) with itself and sending (space, put, publish) with itself;
 * the two directions are independent of each other.
 *
 * The order that makes it right (both directions): data is written, then the index is released, then - behind a full
 * barrier - the peer's wish to be notified is looked at. A waiter sets its wish, a full barrier, then looks at the index
 * again. So either the waiter sees the index or the sender sees the wish.
 */
#ifndef MEMX_VRING_H
#define MEMX_VRING_H

#include "proto.h"

struct memx_vring {
	struct memx_vchan_page *shr;	/* shared with the peer: never believed */
	const u8 *rx;			/* ring that the peer writes */
	u8 *tx;				/* ring that we write */
	u32 rx_size;			/* bytes, power of two */
	u32 tx_size;
	u32 rx_cons;			/* our indices: the truth, the shared ones are copies for the peer */
	u32 tx_prod;
	u32 *rx_cons_shr, *tx_prod_shr;	/* where the copies go */
	u32 *rx_prod_shr, *tx_cons_shr;	/* the peer's, to be read once per look */
	u8 *wish_own, *wish_peer;	/* notify bytes: what we want to be told, what the peer wants */
	bool rx_broken, tx_broken;
};

/*
 * Prepares an end over memory that is mapped and of which the sizes come from the owner, not from the shared page.
 * @server: this end offered the channel (sends in `right`). Takes the indices as they stand in the shared page; a server
 * that starts afresh calls memx_vring_reset_shared() before.
 */
static inline void memx_vring_init(struct memx_vring *r, struct memx_vchan_page *shr, bool server,
				   void *left, u32 left_size, void *right, u32 right_size)
{
	struct memx_vchan_ring *rx = server ? &shr->left : &shr->right;
	struct memx_vchan_ring *tx = server ? &shr->right : &shr->left;

	r->shr = shr;
	r->rx = server ? left : right;
	r->tx = server ? right : left;
	r->rx_size = server ? left_size : right_size;
	r->tx_size = server ? right_size : left_size;
	r->rx_cons_shr = &rx->cons;
	r->rx_prod_shr = &rx->prod;
	r->tx_cons_shr = &tx->cons;
	r->tx_prod_shr = &tx->prod;
	r->wish_own = server ? &shr->cli_notify : &shr->srv_notify;
	r->wish_peer = server ? &shr->srv_notify : &shr->cli_notify;
	r->rx_cons = memx_load_once(r->rx_cons_shr);
	r->tx_prod = memx_load_once(r->tx_prod_shr);
	r->rx_broken = false;
	r->tx_broken = false;
}

/* What a server writes into the page before it offers it; grants[] stay. No client may be connected. */
static inline void memx_vring_reset_shared(struct memx_vchan_page *shr, u16 left_order, u16 right_order)
{
	memx_store_once(&shr->left.cons, 0);
	memx_store_once(&shr->left.prod, 0);
	memx_store_once(&shr->right.cons, 0);
	memx_store_once(&shr->right.prod, 0);
	memx_store_once(&shr->left_order, left_order);
	memx_store_once(&shr->right_order, right_order);
	memx_store_once(&shr->cli_notify, MEMX_VCHAN_WRITE);
	memx_store_once(&shr->srv_notify, 0);
	memx_store_once(&shr->cli_live, 2);
	memx_store_release(&shr->srv_live, 1);
}

/* The client's life, by the byte that the server reads: what the server itself writes there is the only one that is nobody's. */
enum memx_vchan_client {
	MEMX_VCHAN_NEVER,	/* nobody came since the offer */
	MEMX_VCHAN_HERE,
	MEMX_VCHAN_GONE,	/* somebody came, whether he was seen or not, and left: his kernel clears the byte at the latest */
};

static inline enum memx_vchan_client memx_vchan_client(const struct memx_vchan_page *shr)
{
	switch (memx_load_once(&shr->cli_live)) {
	case 2:
		return MEMX_VCHAN_NEVER;
	case 1:
		return MEMX_VCHAN_HERE;
	default:
		return MEMX_VCHAN_GONE;
	}
}

/* ---- receiving ---------------------------------------------------------------------------------------------------------- */

/* Bytes that can be read, or -EPROTO: the peer's index cannot be true. */
static inline int memx_vring_avail(struct memx_vring *r)
{
	u32 ready = memx_load_acquire(r->rx_prod_shr) - r->rx_cons;

	if (r->rx_broken || ready > r->rx_size) {
		r->rx_broken = true;
		return -EPROTO;
	}
	return (int)ready;
}

/*
 * Copies @len bytes that begin @off bytes behind the read index; off + len must not exceed what memx_vring_avail() said.
 * The peer can change them until they are copied, and will read them no more: look only at the copy.
 */
static inline void memx_vring_peek(const struct memx_vring *r, u32 off, void *to, u32 len)
{
	u32 at = (r->rx_cons + off) & (r->rx_size - 1);
	u32 first = r->rx_size - at;

	if (first > len)
		first = len;
	memcpy(to, r->rx + at, first);
	memcpy((u8 *)to + first, r->rx, len - first);
}

/* Is the peer to be notified of @bit (it asked for it)? Takes its wish. A full barrier. */
static inline bool memx_vring_owes(struct memx_vring *r, u8 bit)
{
	memx_mb();
	return memx_load_once(r->wish_peer) & bit && memx_fetch_and_clear(r->wish_peer, bit) & bit;
}

/* Gives @len bytes back to the peer. True: notify it. */
static inline bool memx_vring_consume(struct memx_vring *r, u32 len)
{
	r->rx_cons += len;
	memx_store_release(r->rx_cons_shr, r->rx_cons);
	return memx_vring_owes(r, MEMX_VCHAN_READ);
}

/* ---- sending ------------------------------------------------------------------------------------------------------------- */

/* Bytes that can be written, or -EPROTO. */
static inline int memx_vring_space(struct memx_vring *r)
{
	u32 used = r->tx_prod - memx_load_acquire(r->tx_cons_shr);

	if (r->tx_broken || used > r->tx_size) {
		r->tx_broken = true;
		return -EPROTO;
	}
	return (int)(r->tx_size - used);
}

/* Writes @len bytes @off behind the write index without showing them; off + len within memx_vring_space(). */
static inline void memx_vring_put(struct memx_vring *r, u32 off, const void *from, u32 len)
{
	u32 at = (r->tx_prod + off) & (r->tx_size - 1);
	u32 first = r->tx_size - at;

	if (first > len)
		first = len;
	memcpy(r->tx + at, from, first);
	memcpy(r->tx, (const u8 *)from + first, len - first);
}

/* Shows the next @len bytes to the peer. True: notify it. Once per batch, not once per frame. */
static inline bool memx_vring_publish(struct memx_vring *r, u32 len)
{
	r->tx_prod += len;
	memx_store_release(r->tx_prod_shr, r->tx_prod);
	return memx_vring_owes(r, MEMX_VCHAN_WRITE);
}

/* ---- waiting ------------------------------------------------------------------------------------------------------------- */

/* Asks to be notified of MEMX_VCHAN_WRITE (there is data) or _READ (there is room). Look at the index again afterwards. */
static inline void memx_vring_want(struct memx_vring *r, u8 bits)
{
	memx_fetch_and_set(r->wish_own, bits);
	memx_mb();
}

#endif /* MEMX_VRING_H */
