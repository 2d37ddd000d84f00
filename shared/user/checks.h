/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * checks.h - the checks of several pages at once (memx/check.h tells what a check is).
 *
 * XXH64 of one page keeps the processor's one multiplier busy; where there are 512-bit multiplications of 64-bit words, those of
 * four pages go side by side, and a page costs a quarter. Elsewhere, and for a single page, it is memx_check() one by one. The
 * values are the same. No state, any thread.
 */
#ifndef MEMX_USER_CHECKS_H
#define MEMX_USER_CHECKS_H

#include <memx/proto.h>

struct memx_check_page {
	u32 slot;
	u64 version;
	const void *from;		/* MEMX_PAGE_SIZE bytes, anywhere */
	void *to;			/* memx_copy_checks(): where they go */
	u64 check;			/* the result */
};

/* Computes memx_check() of each of @count pages. They may not change meanwhile. */
void memx_checks(u64 session_seed, struct memx_check_page *pages, u32 count);

/*
 * Copies each page and computes memx_check() of what was copied, also if @from changes meanwhile: every byte is loaded once. Nobody
 * else may write to @to.
 */
void memx_copy_checks(u64 session_seed, struct memx_check_page *pages, u32 count);

/* For tests: may the quick way be taken where the processor has it? Yes at first. Returns whether it is taken now. */
bool memx_checks_wide(bool allowed);

#endif /* MEMX_USER_CHECKS_H */
