// SPDX-License-Identifier: GPL-2.0-only
/*
 * text.c - numbers, sizes, times, UUIDs and ids as text and back; no state.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "user/text.h"

uint64_t memx_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void memx_random(void *to, size_t len)
{
	uint8_t *at = to;

	while (len) {
		ssize_t got = getrandom(at, len, 0);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			abort();
		}
		at += got;
		len -= (size_t)got;
	}
}

uint64_t memx_random_u64(void)
{
	uint64_t value;

	do {
		memx_random(&value, sizeof(value));
	} while (!value);
	return value;
}

/* The digits at the start of @text; @end is set behind them. */
static int parse_digits(const char *text, uint64_t *value, const char **end)
{
	uint64_t sum = 0;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++) {
		if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, (uint64_t)(*text - '0'), &sum))
			return -ERANGE;
	}
	*value = sum;
	*end = text;
	return 0;
}

int memx_parse_u64(const char *text, uint64_t *value)
{
	const char *end;
	uint64_t sum;
	int ret = parse_digits(text, &sum, &end);

	if (ret)
		return ret;
	if (*end)
		return -EINVAL;
	*value = sum;
	return 0;
}

int memx_parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *end, *unit;
	uint64_t sum;
	int ret = parse_digits(text, &sum, &end);

	if (ret)
		return ret;
	while (*end == ' ')
		end++;
	if (*end && strcmp(end, "B")) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit)
			return -EINVAL;
		for (int i = 0; i <= unit - units; i++)
			if (__builtin_mul_overflow(sum, 1024, &sum))
				return -ERANGE;
		end++;
		if (*end && strcmp(end, "iB"))
			return -EINVAL;
	}
	*bytes = sum;
	return 0;
}

int memx_parse_duration(const char *text, uint64_t *ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {
		{ "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 }, { "min", 60000000000 }, { "h", 3600000000000 },
	};
	const char *end;
	uint64_t sum;
	int ret = parse_digits(text, &sum, &end);

	if (ret)
		return ret;
	while (*end == ' ')
		end++;
	if (!*end && !sum) {
		*ns = 0;
		return 0;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(end, units[i].unit))
			return __builtin_mul_overflow(sum, units[i].ns, ns) ? -ERANGE : 0;
	return -EINVAL;
}

int memx_parse_bool(const char *text, bool *value)
{
	static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
			*value = !strcasecmp(text, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int memx_parse_hex(const char *text, void *bytes, size_t len)
{
	uint8_t *to = bytes;

	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(text[2 * i]), low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (low < 0)
			return -EINVAL;
		to[i] = (uint8_t)(high << 4 | low);
	}
	return text[2 * len] ? -EINVAL : 0;
}

const char *memx_format_hex(char *text, const void *bytes, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *from = bytes;

	for (size_t i = 0; i < len; i++) {
		text[2 * i] = hex[from[i] >> 4];
		text[2 * i + 1] = hex[from[i] & 15];
	}
	text[2 * len] = '\0';
	return text;
}

int memx_parse_uuid(const char *text, uint8_t uuid[16])
{
	char digits[33];
	size_t at = 0;

	if (strlen(text) != MEMX_UUID_TEXT - 1)
		return -EINVAL;
	for (size_t i = 0; i < MEMX_UUID_TEXT - 1; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return -EINVAL;
		} else {
			digits[at++] = text[i];
		}
	}
	digits[at] = '\0';
	return memx_parse_hex(digits, uuid, 16);
}

const char *memx_format_uuid(char text[MEMX_UUID_TEXT], const uint8_t uuid[16])
{
	static const uint8_t groups[] = { 4, 2, 2, 2, 6 };
	char *to = text;

	for (size_t i = 0; i < sizeof(groups); i++) {
		memx_format_hex(to, uuid, groups[i]);
		to += 2 * groups[i];
		uuid += groups[i];
		*to++ = '-';
	}
	to[-1] = '\0';
	return text;
}

const char *memx_format_size(char *text, size_t size, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 1024 && i + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		i++;
	}
	snprintf(text, size, value < 10 && value != (double)(uint64_t)value ? "%.1f %s" : "%.0f %s", value, units[i]);
	return text;
}

void memx_make_folder(const char *path, unsigned int levels)
{
	char *copy = strdup(path), *folder;

	if (!copy)
		return;
	folder = dirname(copy);
	if (levels && mkdir(folder, 0755) < 0 && errno == ENOENT && levels > 1) {
		memx_make_folder(folder, levels - 1);
		mkdir(folder, 0755);
	}
	free(copy);
}

static int id_read(const char *path, uint8_t id[16])
{
	char text[40];
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got < 0)
		return -EIO;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return memx_parse_hex(text, id, 16);
}

int memx_id_file(const char *path, uint8_t id[16])
{
	char text[34], *tmp = NULL;
	int fd, ret = id_read(path, id);

	if (ret != -ENOENT)
		return ret;
	memx_random(id, 16);
	memx_format_hex(text, id, 16);
	text[32] = '\n';
	if (asprintf(&tmp, "%s.%ld", path, (long)getpid()) < 0)
		return -ENOMEM;
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0) {
		ret = -errno;
		goto out_free;
	}
	ret = write(fd, text, 33) == 33 && !fsync(fd) ? 0 : -EIO;
	close(fd);
	/* Not rename(): of two that start at once, both must come out with the id of the one that was first. */
	if (!ret && link(tmp, path) < 0)
		ret = errno == EEXIST ? id_read(path, id) : -errno;
	unlink(tmp);
out_free:
	free(tmp);
	return ret;
}
