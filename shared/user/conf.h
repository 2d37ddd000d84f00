/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * conf.h - configuration files in INI form (inih), described by tables.
 *
 * A mistake is one line that names file, line, section, key and what is accepted:
 *
 *	relay.conf:12: [donor d0] adress: unknown key; accepted: address
 *
 * A program describes its sections and keys in tables, gets the values in its own structures, and checks in end() what a
 * single key cannot show. Nothing here exits or logs: the text of the first mistake is returned.
 */
#ifndef MEMX_USER_CONF_H
#define MEMX_USER_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "user/net.h"

enum memx_conf_type {
	MEMX_CONF_STRING,	/* char *: allocated, the old one is freed */
	MEMX_CONF_PATH,		/* char *: the same, must begin with '/' */
	MEMX_CONF_BOOL,		/* bool: yes or no */
	MEMX_CONF_UINT,		/* uint32_t, min .. max */
	MEMX_CONF_SIZE,		/* uint64_t bytes, min .. max: 512M, 4G */
	MEMX_CONF_DURATION,	/* uint64_t ns, min .. max: 250ms, 1s */
	MEMX_CONF_UUID,		/* uint8_t[16], not all zeros */
	MEMX_CONF_ADDR,		/* struct memx_addr: HOST:PORT */
	MEMX_CONF_CHOICE,	/* int: index into the words of `choices` */
};

struct memx_conf_key {
	const char *name;
	enum memx_conf_type type;
	size_t offset;			/* into the section's object */
	uint64_t min, max;		/* max 0: no limit but the type's */
	const char *const *choices;	/* CHOICE: words, NULL at the end */
	bool required;
};

/* One line of a table: MEMX_CONF_KEY("size", SIZE, struct thing, size, .min = 4096) */
#define MEMX_CONF_KEY(key, kind, object, field, ...) \
	{ .name = (key), .type = MEMX_CONF_##kind, .offset = offsetof(object, field), ##__VA_ARGS__ }
#define MEMX_CONF_END { .name = NULL }

#define MEMX_CONF_ERR 512

struct memx_conf_section {
	const char *name;		/* "relay"; for a named section the first word, "donor" of [donor d0] */
	bool named;			/* the name must be letters, digits, - _ . and comes once */
	bool required;
	const struct memx_conf_key *keys;	/* name NULL at the end */
	/* The object that the section's keys go to; NULL: refused, text in @err (without file and line). */
	void *(*begin)(void *ctx, const char *name, uint32_t line, char *err, size_t size);
	/*
	 * After the section's last key: 0, or -1 with text in @err, "key: what is wrong", which is reported at the line of that
	 * key, or of the section if the key was not given. May be NULL.
	 */
	int (*end)(void *ctx, void *object, char *err, size_t size);
};

/*
 * Reads @path. @sections: name NULL at the end. 0, or -EINVAL (a mistake in the file) or another -errno (it cannot be read);
 * then @err has the whole line to print. What was set before the mistake stays set: parse into a fresh object.
 */
int memx_conf_load(const char *path, const struct memx_conf_section *sections, void *ctx, char err[MEMX_CONF_ERR]);

/*
 * Sets one key of an object, for a command-line option that overrides it. 0 or -EINVAL with "key: what is wrong; accepted:
 * ..." in @err.
 */
int memx_conf_set(const struct memx_conf_key *keys, void *object, const char *key, const char *value, char *err, size_t size);

#endif /* MEMX_USER_CONF_H */
