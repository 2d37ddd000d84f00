// SPDX-License-Identifier: GPL-2.0-only
/*
 * watched.c - a second writer in the rings of a native guest, who is always quicker than the reader.
 *
 * What a relay may do at any moment, change bytes under the reader's hands, is done here at every moment: the rings that the
 * guest reads cannot be read, so each instruction that does so is caught (SIGSEGV), let through alone (the processor's trap
 * flag, SIGTRAP), and then what it has read is changed. Whoever looks at a byte twice, once to check it and once to use it, sees
 * two different ones, every time. Whoever looks once never notices.
 *
 * One thread reads the rings, the guest's driver; state between the two signals is each thread's own.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "internal.h"
#include "watched.h"

static _Atomic u64 reads;

#ifdef __x86_64__

enum {
	PAGE		= 4096,
	CHANGED		= 8,		/* bytes, of those that an instruction has read */
	STRIDE		= 2,		/* pages that one instruction may touch */
	TRAP_FLAG	= 1 << 8,
};

static struct {
	u8 *from, *to;
} rings[MEMX_MAX_LANES];

static unsigned int lanes;

static __thread u8 *open_page[STRIDE], *looked_at;

/*
 * The library's would read some bytes twice, where two loads overlap; its result is that of one of them, which is as good, but
 * is not to be told from a mistake here.
 */
void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
	const volatile u8 *in = from;
	volatile u8 *out = to;

	for (; len && (uintptr_t)in & 7; len--)
		*out++ = *in++;
	for (; len >= 8; len -= 8, in += 8, out += 8)
		memx_store_once((u64 *)(uintptr_t)out, memx_load_once((const u64 *)(uintptr_t)in));
	while (len--)
		*out++ = *in++;
	return to;
}

static void on_read(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	u8 *at = info->si_addr;
	unsigned int i, page;

	for (i = 0; i < lanes && (at < rings[i].from || at >= rings[i].to); i++)
		continue;
	for (page = 0; page < STRIDE && open_page[page]; page++)
		continue;
	if (i == lanes || page == STRIDE) {
		signal(sig, SIG_DFL);		/* a fault of another kind: it comes again */
		return;
	}
	if (!page)
		looked_at = at;
	open_page[page] = (u8 *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
	mprotect(open_page[page], PAGE, PROT_READ | PROT_WRITE);
	u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void after_read(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig, (void)info;
	u->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
	for (u32 i = 0; i < CHANGED && looked_at + i < open_page[0] + PAGE; i++)
		looked_at[i] ^= 0x5a;
	for (u32 i = 0; i < STRIDE && open_page[i]; i++) {
		mprotect(open_page[i], PAGE, PROT_NONE);
		open_page[i] = NULL;
	}
	atomic_fetch_add(&reads, 1);
}

int watched_start(struct native *n)
{
	struct sigaction read = { .sa_sigaction = on_read, .sa_flags = SA_SIGINFO };
	struct sigaction after = { .sa_sigaction = after_read, .sa_flags = SA_SIGINFO };

	if (lanes)
		return -EALREADY;
	if (sigaction(SIGSEGV, &read, NULL) || sigaction(SIGTRAP, &after, NULL))
		return -errno;
	for (; lanes < n->lanes; lanes++) {
		const struct memx_vring *ring = &n->lane[lanes].chan->ring;

		rings[lanes].from = (u8 *)(uintptr_t)ring->rx;
		rings[lanes].to = rings[lanes].from + ring->rx_size;
	}
	for (u8 i = 0; i < lanes; i++)
		if (mprotect(rings[i].from, (size_t)(rings[i].to - rings[i].from), PROT_NONE))
			return -errno;
	return 0;
}

#else

int watched_start(struct native *n __attribute__((unused)))
{
	return -EOPNOTSUPP;
}

#endif

u64 watched_reads(void)
{
	return atomic_load(&reads);
}
