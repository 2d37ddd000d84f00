/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * table.h - JSON as tables for people.
 */
#ifndef MEMXCTL_TABLE_H
#define MEMXCTL_TABLE_H

#include <jansson.h>
#include <stdbool.h>

enum column_kind {
	COL_TEXT,
	COL_NUMBER,
	COL_BOOL,		/* yes, no */
	COL_PAGES,		/* number of 4 KiB pages, as a size */
	COL_BYTES,
	COL_TIME,		/* ns */
	COL_SECONDS,
};

struct column {
	const char *title, *key;
	enum column_kind kind;
};

struct field {
	const char *title, *key;
	enum column_kind kind;
};

/* An array of objects, one per line; @none is printed for an empty one. */
void table_list(json_t *list, const struct column *columns, const char *none);
/* The members of an object that are there, one per line. */
void table_fields(json_t *object, const struct field *fields);
/* An object of numbers, those that are not 0. */
void table_counters(json_t *counters);

#endif /* MEMXCTL_TABLE_H */
