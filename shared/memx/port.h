/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * port.h - what kernel and user space name differently.
 *
 * Everything in shared/memx/ compiles in both. This header gives it fixed-size types, little-endian conversion, barriers and
 * the two atomic operations that a ring in shared memory needs. Nothing here allocates, sleeps or takes a lock.
 *
 * The peer of a ring is another domain (or process), so the barriers are the virt_* family: on a guest with one vCPU the
 * kernel patches LOCK prefixes and smp_* barriers away, while the peer runs on another CPU all the same. For the same
 * reason the notify bits are changed with sync_cmpxchg() and never with atomic_*() or set_bit().
 */
#ifndef MEMX_PORT_H
#define MEMX_PORT_H

#ifdef __KERNEL__

#include <linux/atomic.h>
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/byteorder.h>
#include <asm/sync_bitops.h>

#define memx_le16(x)		le16_to_cpu(x)
#define memx_le32(x)		le32_to_cpu(x)
#define memx_le64(x)		le64_to_cpu(x)
#define memx_put_le16(x)	cpu_to_le16(x)
#define memx_put_le32(x)	cpu_to_le32(x)
#define memx_put_le64(x)	cpu_to_le64(x)
#define memx_word_le64(x)	le64_to_cpu((__force __le64)(x))	/* of eight bytes that were read as a u64 */

#define memx_load_acquire(p)		virt_load_acquire(p)
#define memx_store_release(p, v)	virt_store_release(p, v)
#define memx_load_once(p)		READ_ONCE(*(p))
#define memx_store_once(p, v)		WRITE_ONCE(*(p), v)
#define memx_mb()			virt_mb()

/* Clears @bits in the shared byte, returns what it held; a full barrier. */
static inline u8 memx_fetch_and_clear(u8 *p, u8 bits)
{
	u8 old = READ_ONCE(*p), seen;

	for (;;) {
		seen = sync_cmpxchg(p, old, (u8)(old & ~bits));
		if (seen == old)
			return old;
		old = seen;
	}
}

/* Sets @bits in the shared byte; a full barrier. */
static inline void memx_fetch_and_set(u8 *p, u8 bits)
{
	u8 old = READ_ONCE(*p), seen;

	for (;;) {
		seen = sync_cmpxchg(p, old, (u8)(old | bits));
		if (seen == old)
			return;
		old = seen;
	}
}

#else /* user space */

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <linux/types.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#ifdef __CHECKER__
#define memx_force __attribute__((force))
#else
#define memx_force
#endif

#define memx_le16(x)		le16toh((memx_force u16)(x))
#define memx_le32(x)		le32toh((memx_force u32)(x))
#define memx_le64(x)		le64toh((memx_force u64)(x))
#define memx_put_le16(x)	((memx_force __le16)htole16(x))
#define memx_put_le32(x)	((memx_force __le32)htole32(x))
#define memx_put_le64(x)	((memx_force __le64)htole64(x))
#define memx_word_le64(x)	le64toh(x)

#define memx_load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define memx_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define memx_load_once(p)		__atomic_load_n(p, __ATOMIC_RELAXED)
#define memx_store_once(p, v)		__atomic_store_n(p, v, __ATOMIC_RELAXED)

#if defined(__SANITIZE_THREAD__)
#define MEMX_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MEMX_TSAN 1
#endif
#endif

#ifdef MEMX_TSAN
/* ThreadSanitizer knows no fences: a sequentially consistent read-modify-write orders as much on x86. */
static inline void memx_mb(void)
{
	static int fence;

	__atomic_fetch_add(&fence, 0, __ATOMIC_SEQ_CST);
}
#else
#define memx_mb()			__atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

static inline u8 memx_fetch_and_clear(u8 *p, u8 bits)
{
	return __atomic_fetch_and(p, (u8)~bits, __ATOMIC_SEQ_CST);
}

static inline void memx_fetch_and_set(u8 *p, u8 bits)
{
	__atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST);
}

#endif /* __KERNEL__ */

#endif /* MEMX_PORT_H */
