// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-checks.c - the checks of many pages at once are those of each page by itself, on whichever way they are computed: for every
 * number of pages, wherever they lie, and whatever of them is damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <memx/check.h>
#include <user/checks.h>

enum {
	MANY	= MEMX_MAX_PAGES + 1,
	SEED	= 4711,
	GUARD	= 0xa5,
};

struct fixture {
	u8 *from[MANY], *to[MANY];	/* each in memory of exactly its size, so that what goes beyond it is seen */
	struct memx_check_page page[MANY];
};

/* @shift bytes from where words are aligned, in an allocation that ends with the page. */
static u8 *page_new(u32 shift)
{
	u8 *memory = malloc(shift + MEMX_PAGE_SIZE);

	assert_non_null(memory);
	return memory + shift;
}

static void page_free(u8 *page, u32 shift)
{
	free(page - shift);
}

static void prepare(struct fixture *f, u32 from_shift, u32 to_shift)
{
	u32 i, k;

	for (i = 0; i < MANY; i++) {
		f->from[i] = page_new(from_shift);
		f->to[i] = page_new(to_shift);
		for (k = 0; k < MEMX_PAGE_SIZE; k++)
			f->from[i][k] = (u8)rand();
		memset(f->to[i], GUARD, MEMX_PAGE_SIZE);
		f->page[i] = (struct memx_check_page){
			.slot = i * 7 + 1, .version = 1000000007ULL * (i + 1), .from = f->from[i], .to = f->to[i],
		};
	}
}

static void dispose(struct fixture *f, u32 from_shift, u32 to_shift)
{
	u32 i;

	for (i = 0; i < MANY; i++) {
		page_free(f->from[i], from_shift);
		page_free(f->to[i], to_shift);
	}
}

static u64 alone(const struct memx_check_page *p, const void *bytes)
{
	return memx_check(SEED, p->slot, p->version, bytes);
}

static void compare(struct fixture *f, u32 count, bool copy)
{
	u32 i, k;

	for (i = 0; i < MANY; i++) {
		f->page[i].check = ~alone(&f->page[i], f->from[i]);
		memset(f->to[i], GUARD, MEMX_PAGE_SIZE);
	}
	(copy ? memx_copy_checks : memx_checks)(SEED, f->page, count);
	for (i = 0; i < MANY; i++) {
		u64 check = alone(&f->page[i], f->from[i]);

		assert_true(f->page[i].check == (i < count ? check : ~check));
		if (copy && i < count)
			assert_memory_equal(f->to[i], f->from[i], MEMX_PAGE_SIZE);
		for (k = 0; (!copy || i >= count) && k < MEMX_PAGE_SIZE; k++)
			assert_int_equal(f->to[i][k], GUARD);
	}
}

static void every_count(void **state)
{
	static const u32 shift[][2] = { { 0, 0 }, { 0, 8 }, { 24, 0 }, { 1, 0 }, { 0, 3 }, { 40, 56 } };
	struct fixture *f = *state;
	u32 i, count;

	for (i = 0; i < sizeof(shift) / sizeof(shift[0]); i++) {
		prepare(f, shift[i][0], shift[i][1]);
		for (count = 0; count <= MANY; count++) {
			compare(f, count, false);
			compare(f, count, true);
		}
		dispose(f, shift[i][0], shift[i][1]);
	}
}

/* One bit of one page changes the check of this page, and of no other. */
static void every_place(void **state)
{
	struct fixture *f = *state;
	u64 good[MANY];
	u32 i, k;

	prepare(f, 0, 0);
	memx_checks(SEED, f->page, MANY);
	for (i = 0; i < MANY; i++)
		good[i] = f->page[i].check;
	for (i = 0; i < MANY * 3; i++) {
		u32 at = i % MANY;
		u8 *byte = &f->from[at][(u32)rand() % MEMX_PAGE_SIZE];

		*byte ^= 1U << i % 8;
		(i & 1 ? memx_checks : memx_copy_checks)(SEED, f->page, MANY);
		for (k = 0; k < MANY; k++)
			assert_true((f->page[k].check == good[k]) == (k != at));
		*byte ^= 1U << i % 8;
	}
	dispose(f, 0, 0);
}

/* Slot and version are part of it. */
static void every_name(void **state)
{
	struct fixture *f = *state;
	u32 i;

	prepare(f, 0, 0);
	for (i = 0; i < MANY; i++)
		memcpy(f->from[i], f->from[0], MEMX_PAGE_SIZE);
	for (i = 0; i < MANY; i++) {
		f->page[i].slot = 5 + (i & 1);
		f->page[i].version = 9 + (i & 2);
	}
	memx_checks(SEED, f->page, MANY);
	for (i = 1; i < MANY; i++)
		assert_true((f->page[i].check == f->page[0].check) == !(i & 3));
	dispose(f, 0, 0);
}

static int as_it_is(void **state)
{
	static struct fixture f;

	if (!memx_checks_wide(true))
		print_message("no 512-bit multiplication here: one by one is all there is\n");
	*state = &f;
	return 0;
}

static int one_by_one(void **state)
{
	int ret = as_it_is(state);

	assert_false(memx_checks_wide(false));
	return ret;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_count, as_it_is),
		cmocka_unit_test_setup(every_place, as_it_is),
		cmocka_unit_test_setup(every_name, as_it_is),
		{ "every_count_one_by_one", every_count, one_by_one, NULL, NULL },
		{ "every_place_one_by_one", every_place, one_by_one, NULL, NULL },
		{ "every_name_one_by_one", every_name, one_by_one, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
