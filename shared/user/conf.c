// SPDX-License-Identifier: GPL-2.0-only
/*
 * conf.c - configuration files, described by tables.
 *
 * inih takes the lines apart. It is given them through a reader of our own, which counts them (its packaged build does not
 * tell the handler), sees sections that have no key, refuses lines that it would cut in two, and takes leading blanks away,
 * which it would take for a continuation of the line before.
 */
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "user/conf.h"
#include "user/text.h"

enum { MAX_KEYS = 64, MAX_SECTIONS = 8, MAX_NAME = 64 };

struct seen {				/* named sections that were there already */
	struct seen *next;
	char text[MAX_NAME * 2];
};

struct parser {
	FILE *file;
	const char *path;
	const struct memx_conf_section *sections;
	void *ctx;
	char *err;
	bool failed;

	uint32_t line;			/* being read */
	uint32_t section_line;
	char title[MAX_NAME * 2];	/* as it stands between the brackets */
	const struct memx_conf_section *section;
	void *object;
	uint32_t key_line[MAX_KEYS];	/* where each key of this section was given */
	uint32_t given;			/* bits of the sections that were there */
	struct seen *seen;
};

static void __attribute__((format(printf, 4, 5)))
fail_at(struct parser *p, uint32_t line, const char *title, const char *fmt, ...)
{
	va_list ap;
	int len;

	if (p->failed)
		return;
	p->failed = true;
	len = snprintf(p->err, MEMX_CONF_ERR, "%s:%u: ", p->path, line);
	if (title && *title && len < MEMX_CONF_ERR)
		len += snprintf(p->err + len, (size_t)(MEMX_CONF_ERR - len), "[%s] ", title);
	if (len >= MEMX_CONF_ERR)
		return;
	va_start(ap, fmt);
	vsnprintf(p->err + len, (size_t)(MEMX_CONF_ERR - len), fmt, ap);
	va_end(ap);
}

static void add(char *to, size_t size, const char *text)
{
	size_t len = strlen(to);

	if (len < size)
		snprintf(to + len, size - len, "%s", text);
}

static void list_keys(const struct memx_conf_key *keys, char *to, size_t size)
{
	*to = '\0';
	for (; keys->name; keys++) {
		add(to, size, keys->name);
		if (keys[1].name)
			add(to, size, ", ");
	}
}

static void list_sections(const struct memx_conf_section *sections, char *to, size_t size)
{
	*to = '\0';
	for (; sections->name; sections++) {
		add(to, size, "[");
		add(to, size, sections->name);
		add(to, size, sections->named ? " NAME]" : "]");
		if (sections[1].name)
			add(to, size, ", ");
	}
}

/* What a key takes, for a person. */
static void accepted(const struct memx_conf_key *key, char *to, size_t size)
{
	char low[24], high[24];

	*to = '\0';
	switch (key->type) {
	case MEMX_CONF_STRING:
		snprintf(to, size, "a text that is not empty");
		break;
	case MEMX_CONF_PATH:
		snprintf(to, size, "an absolute path");
		break;
	case MEMX_CONF_BOOL:
		snprintf(to, size, "yes or no");
		break;
	case MEMX_CONF_UINT:
		if (key->max)
			snprintf(to, size, "a number from %" PRIu64 " to %" PRIu64, key->min, key->max);
		else
			snprintf(to, size, "a number from %" PRIu64, key->min);
		break;
	case MEMX_CONF_SIZE:
		memx_format_size(low, sizeof(low), key->min);
		memx_format_size(high, sizeof(high), key->max);
		snprintf(to, size, "a size such as 512M or 4G%s%s%s%s", key->min ? ", at least " : "", key->min ? low : "",
			 key->max ? ", at most " : "", key->max ? high : "");
		break;
	case MEMX_CONF_DURATION:
		snprintf(to, size, "a time such as 250ms or 2s");
		if (key->max)
			snprintf(to + strlen(to), size - strlen(to), ", from %gms to %gms", (double)key->min / 1e6,
				 (double)key->max / 1e6);
		break;
	case MEMX_CONF_UUID:
		snprintf(to, size, "a UUID of the form 01234567-89ab-cdef-0123-456789abcdef, not all zeros");
		break;
	case MEMX_CONF_ADDR:
		snprintf(to, size, "HOST:PORT, for example 192.0.2.1:7700 or [2001:db8::1]:7700");
		break;
	case MEMX_CONF_CHOICE:
		for (size_t i = 0; key->choices[i]; i++) {
			add(to, size, key->choices[i]);
			if (key->choices[i + 1])
				add(to, size, ", ");
		}
		break;
	}
}

static int in_range(const struct memx_conf_key *key, uint64_t value)
{
	return value >= key->min && (!key->max || value <= key->max) ? 0 : -ERANGE;
}

static int set_number(const struct memx_conf_key *key, void *to, const char *value)
{
	uint64_t number;
	int ret;

	if (key->type == MEMX_CONF_UINT)
		ret = memx_parse_u64(value, &number);
	else if (key->type == MEMX_CONF_SIZE)
		ret = memx_parse_size(value, &number);
	else
		ret = memx_parse_duration(value, &number);
	if (!ret)
		ret = in_range(key, number);
	if (ret)
		return ret;
	if (key->type == MEMX_CONF_UINT) {
		if (number > UINT32_MAX)
			return -ERANGE;
		*(uint32_t *)to = (uint32_t)number;
	} else {
		*(uint64_t *)to = number;
	}
	return 0;
}

static int set_text(void *to, const char *value)
{
	char **text = to, *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* That of zeros is nobody's: it would pass for none given. */
static int set_uuid(void *to, const char *value)
{
	static const uint8_t none[16];
	uint8_t uuid[16];

	if (memx_parse_uuid(value, uuid) || !memcmp(uuid, none, sizeof(none)))
		return -EINVAL;
	memcpy(to, uuid, sizeof(uuid));
	return 0;
}

static int set_value(const struct memx_conf_key *key, void *object, const char *value)
{
	void *to = (char *)object + key->offset;

	switch (key->type) {
	case MEMX_CONF_STRING:
		return *value ? set_text(to, value) : -EINVAL;
	case MEMX_CONF_PATH:
		return *value == '/' ? set_text(to, value) : -EINVAL;
	case MEMX_CONF_BOOL:
		return memx_parse_bool(value, to);
	case MEMX_CONF_UINT:
	case MEMX_CONF_SIZE:
	case MEMX_CONF_DURATION:
		return set_number(key, to, value);
	case MEMX_CONF_UUID:
		return set_uuid(to, value);
	case MEMX_CONF_ADDR:
		return memx_addr_parse(to, value);
	case MEMX_CONF_CHOICE:
		for (int i = 0; key->choices[i]; i++) {
			if (!strcmp(key->choices[i], value)) {
				*(int *)to = i;
				return 0;
			}
		}
		return -EINVAL;
	}
	return -EINVAL;
}

int memx_conf_set(const struct memx_conf_key *keys, void *object, const char *key, const char *value, char *err, size_t size)
{
	const struct memx_conf_key *k;
	char list[256];

	for (k = keys; k->name && strcmp(k->name, key); k++)
		;
	if (!k->name) {
		list_keys(keys, list, sizeof(list));
		snprintf(err, size, "%s: unknown key; accepted: %s", key, list);
		return -EINVAL;
	}
	if (set_value(k, object, value)) {
		accepted(k, list, sizeof(list));
		snprintf(err, size, "%s: \"%.100s\" is not understood or out of range; accepted: %s", key, value, list);
		return -EINVAL;
	}
	return 0;
}

/* ---- sections ---- */

/* The line of the key that @err, "key: what is wrong", speaks of; that of the section where it speaks of none that was given. */
static uint32_t line_of(const struct parser *p, const char *err)
{
	size_t len = strcspn(err, ":");

	for (uint32_t i = 0; p->section->keys[i].name; i++)
		if (p->key_line[i] && strlen(p->section->keys[i].name) == len && !strncmp(p->section->keys[i].name, err, len))
			return p->key_line[i];
	return p->section_line;
}

static void section_end(struct parser *p)
{
	char err[MEMX_CONF_ERR] = "";

	if (!p->section || p->failed)
		return;
	for (uint32_t i = 0; p->section->keys[i].name; i++) {
		if (p->section->keys[i].required && !p->key_line[i]) {
			char list[256];

			accepted(&p->section->keys[i], list, sizeof(list));
			fail_at(p, p->section_line, p->title, "%s: missing; accepted: %s", p->section->keys[i].name, list);
			return;
		}
	}
	if (p->section->end && p->section->end(p->ctx, p->object, err, sizeof(err)))
		fail_at(p, line_of(p, err), p->title, "%s", err);
	p->section = NULL;
}

static bool name_good(const char *name)
{
	if (!*name || strlen(name) >= MAX_NAME)
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("-_.", *name))
			return false;
	return true;
}

/* Was a section of this title there before? Remembers it otherwise. */
static bool title_again(struct parser *p)
{
	struct seen *s;

	for (s = p->seen; s; s = s->next)
		if (!strcmp(s->text, p->title))
			return true;
	s = calloc(1, sizeof(*s));
	if (!s)
		return false;
	memcpy(s->text, p->title, sizeof(s->text));
	s->next = p->seen;
	p->seen = s;
	return false;
}

/* @title: what stands between the brackets, without blanks around it. */
static void section_begin(struct parser *p, const char *title)
{
	const struct memx_conf_section *s;
	char err[MEMX_CONF_ERR] = "", list[256];
	const char *name = NULL;
	size_t word = strcspn(title, " \t");

	section_end(p);
	if (p->failed)
		return;
	p->section_line = p->line;
	memset(p->key_line, 0, sizeof(p->key_line));
	for (s = p->sections; s->name; s++)
		if (strlen(s->name) == word && !strncmp(s->name, title, word))
			break;
	if (title[word])
		name = title + word + strspn(title + word, " \t");
	if (!s->name || s->named != !!name || (name && !name_good(name))) {
		list_sections(p->sections, list, sizeof(list));
		fail_at(p, p->line, NULL, "[%.60s]: unknown section%s; accepted: %s", title,
			s->name && s->named ? " or bad name (letters, digits, - _ . at most 63)" : "", list);
		return;
	}
	snprintf(p->title, sizeof(p->title), "%s%s%s", s->name, name ? " " : "", name ? name : "");
	if (title_again(p)) {
		fail_at(p, p->line, p->title, "this section was there before; accepted: once");
		return;
	}
	p->given |= 1U << (s - p->sections);
	p->object = s->begin(p->ctx, name, p->line, err, sizeof(err));
	if (!p->object) {
		fail_at(p, p->line, p->title, "%s", err);
		return;
	}
	p->section = s;
}

/* ---- lines ---- */

static char *next_line(char *to, int size, void *arg)
{
	struct parser *p = arg;
	size_t len, blank;

	if (p->failed || !fgets(to, size, p->file))
		return NULL;
	p->line++;
	len = strlen(to);
	if (len && to[len - 1] != '\n' && !feof(p->file)) {
		fail_at(p, p->line, NULL, "the line is too long; accepted: at most %d characters", size - 2);
		return NULL;
	}
	blank = strspn(to, " \t\r\n");
	if (p->line == 1 && !strncmp(to, "\xef\xbb\xbf", 3))
		blank = 3 + strspn(to + 3, " \t\r\n");
	memmove(to, to + blank, len - blank + 1);
	if (*to == '[') {
		char title[MAX_NAME * 2];
		size_t end = strcspn(to, "]"), from = 1 + strspn(to + 1, " \t");

		while (end > from && strchr(" \t", to[end - 1]))
			end--;
		if (!strchr(to, ']') || end - from >= sizeof(title)) {
			fail_at(p, p->line, NULL, "a section that is not closed by ]; accepted: [NAME]");
			return NULL;
		}
		memcpy(title, to + from, end - from);
		title[end - from] = '\0';
		section_begin(p, title);
	} else if (*to && !strchr("#;", *to) && !strpbrk(to, "=:")) {
		fail_at(p, p->line, p->section ? p->title : NULL, "\"%.60s\" is not understood; accepted: [SECTION], "
			"KEY = VALUE, or a comment behind # or ;", strtok(to, "\r\n"));
	}
	return p->failed ? NULL : to;
}

static int on_key(void *arg, const char *section, const char *name, const char *value)
{
	struct parser *p = arg;
	char err[MEMX_CONF_ERR];

	(void)section;
	if (p->failed)
		return 1;
	if (!p->section) {
		char list[256];

		list_sections(p->sections, list, sizeof(list));
		fail_at(p, p->line, NULL, "%.60s: stands before any section; accepted: %s", name, list);
		return 1;
	}
	if (memx_conf_set(p->section->keys, p->object, name, value, err, sizeof(err))) {
		fail_at(p, p->line, p->title, "%s", err);
		return 1;
	}
	for (uint32_t i = 0; p->section->keys[i].name; i++) {
		if (strcmp(p->section->keys[i].name, name))
			continue;
		if (p->key_line[i])
			fail_at(p, p->line, p->title, "%s: given before, in line %u; accepted: once", name, p->key_line[i]);
		p->key_line[i] = p->line;
	}
	return 1;
}

int memx_conf_load(const char *path, const struct memx_conf_section *sections, void *ctx, char err[MEMX_CONF_ERR])
{
	struct parser p = { .path = path, .sections = sections, .ctx = ctx, .err = err };
	struct stat st;
	int bad;

	p.file = fopen(path, "re");
	if (!p.file) {
		bad = errno;
		snprintf(err, MEMX_CONF_ERR, "%s: cannot be read: %s", path, strerror(bad));
		return -bad;
	}
	if (!fstat(fileno(p.file), &st) && S_ISDIR(st.st_mode)) {
		snprintf(err, MEMX_CONF_ERR, "%s: cannot be read: %s", path, strerror(EISDIR));
		fclose(p.file);
		return -EISDIR;
	}
	bad = ini_parse_stream(next_line, &p, on_key, &p);
	if (ferror(p.file))
		fail_at(&p, p.line, NULL, "cannot be read on: %s", strerror(EIO));
	fclose(p.file);
	if (bad > 0)		/* the line of what inih alone does not like */
		fail_at(&p, (uint32_t)bad, NULL, "not understood; accepted: [SECTION], KEY = VALUE, or a comment behind # or ;");
	else if (bad < 0)
		fail_at(&p, p.line, NULL, "out of memory");
	section_end(&p);
	for (uint32_t i = 0; sections[i].name; i++)
		if (sections[i].required && !(p.given & 1U << i))
			fail_at(&p, p.line, NULL, "[%s]: this section is missing", sections[i].name);
	while (p.seen) {
		struct seen *next = p.seen->next;

		free(p.seen);
		p.seen = next;
	}
	return p.failed ? -EINVAL : 0;
}
