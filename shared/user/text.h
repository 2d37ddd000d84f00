/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * text.h - numbers, sizes, times, UUIDs and ids as text and back, the clock, random bytes, ids kept in a file.
 *
 * Pure but for memx_now(), memx_random(), memx_make_folder() and memx_id_file(). Parsers take the whole string or nothing: 0, or -EINVAL
 * (not understood) or -ERANGE.
 */
#ifndef MEMX_USER_TEXT_H
#define MEMX_USER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t memx_now(void);

/* Never fails: the process ends if the kernel has no random bytes. */
void memx_random(void *to, size_t len);
uint64_t memx_random_u64(void);			/* never 0 */

int memx_parse_u64(const char *text, uint64_t *value);
/* Bytes: a decimal number and nothing, K, M, G or T (powers of 1024; "KiB" and the like are taken too). */
int memx_parse_size(const char *text, uint64_t *bytes);
/* Nanoseconds: a decimal number and one of us, ms, s, min, h. A bare 0 is taken, other bare numbers are not. */
int memx_parse_duration(const char *text, uint64_t *ns);
/* yes, no, true, false, on, off, 1, 0 */
int memx_parse_bool(const char *text, bool *value);

#define MEMX_UUID_TEXT 37			/* with the NUL */
/* 8-4-4-4-12 hexadecimal digits, either case. */
int memx_parse_uuid(const char *text, uint8_t uuid[16]);
const char *memx_format_uuid(char text[MEMX_UUID_TEXT], const uint8_t uuid[16]);
#define memx_uuid_text(uuid) memx_format_uuid((char [MEMX_UUID_TEXT]) { 0 }, uuid)

/* @len bytes as 2 * @len hexadecimal digits and a NUL; the other way round exactly as many. */
const char *memx_format_hex(char *text, const void *bytes, size_t len);
int memx_parse_hex(const char *text, void *bytes, size_t len);

/* Bytes for a person: "512 MiB", "1.5 GiB". */
const char *memx_format_size(char *text, size_t size, uint64_t bytes);

/*
 * Makes the folder that the file @path is to lie in, and of those above it so many that the missing ones are at most @levels
 * (1: only the folder itself). Whether it could is seen when the file is made.
 */
void memx_make_folder(const char *path, unsigned int levels);

/*
 * Reads the 16-byte id that lives in the file @path as 32 hexadecimal digits and a newline; where there is no such file,
 * draws a random id and writes it (complete or not at all, mode 0644). 0 or -errno; -EINVAL: the file holds something else.
 */
int memx_id_file(const char *path, uint8_t id[16]);

#endif /* MEMX_USER_TEXT_H */
