/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fuzz.h - what the fuzzers have in common: an input as a series of small decisions, and oracles that say what they found.
 *
 * An input is read from its front, byte by byte; where it ends everything is 0. So every input means something, a shorter one
 * means the same up to its end, and libFuzzer's mutations (cut, insert, swap, change a byte) are changes of single decisions.
 */
#ifndef MEMX_FUZZ_H
#define MEMX_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <memx/proto.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct fuzz_in {
	const u8 *at, *end;
};

/* The next @bytes (1 to 8) as a number. */
static inline u64 fuzz_take(struct fuzz_in *in, unsigned int bytes)
{
	u64 value = 0;

	while (bytes--)
		value = value << 8 | (in->at < in->end ? *in->at++ : 0);
	return value;
}

static inline u8 fuzz_u8(struct fuzz_in *in)
{
	return (u8)fuzz_take(in, 1);
}

/* 0 to @n - 1 (@n up to 256) */
static inline u32 fuzz_pick(struct fuzz_in *in, u32 n)
{
	return fuzz_u8(in) % n;
}

/* True once in @n times, as the input goes. */
static inline bool fuzz_rarely(struct fuzz_in *in, u32 n)
{
	return fuzz_u8(in) % n == n - 1;
}

/* Numbers at which mistakes are made, and any other. */
static inline u64 fuzz_odd(struct fuzz_in *in)
{
	static const u64 odd[] = {
		0, 1, 2, 31, 32, 33, 63, 64, 0x7f, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		1ULL << 32, (1ULL << 48) - 1, 1ULL << 48, 1ULL << 63, ~1ULL, ~0ULL,
	};
	u32 which = fuzz_u8(in);

	return which < 2 * sizeof(odd) / sizeof(*odd) ? odd[which / 2] : fuzz_take(in, which & 1 ? 2 : 8);
}

/* What must hold whatever was sent. */
#define fuzz_must(cond, ...) do {								\
	if (!(cond)) {										\
		fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);			\
		fprintf(stderr, __VA_ARGS__);							\
		fputc('\n', stderr);								\
		abort();									\
	}											\
} while (0)

#endif /* MEMX_FUZZ_H */
