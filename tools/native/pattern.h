/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pattern.h - pages whose content says what they are: slot and number of the writing, and every other byte follows from them.
 */
#ifndef MEMX_PATTERN_H
#define MEMX_PATTERN_H

#include <memx/proto.h>

/* @salt: tells guests apart. A page of which @number is a multiple of 16 but not 0 is one repeated word, where @same is set. */
void pattern_fill(void *page, u64 salt, u64 slot, u64 number, bool same);
bool pattern_verify(const void *page, u64 salt, u64 slot, u64 number, bool same);
/* What a page says that it is, for a person. */
void pattern_describe(const void *page, char *to, size_t size);

#endif /* MEMX_PATTERN_H */
