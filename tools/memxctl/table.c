// SPDX-License-Identifier: GPL-2.0-only
/*
 * table.c - JSON as tables for people. No state.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "table.h"
#include "user/text.h"

enum { CELL = 288, MAX_COLUMNS = 20 };

static void format_time(char *to, uint64_t ns)
{
	if (!ns)
		snprintf(to, CELL, "-");
	else if (ns < 1000000)
		snprintf(to, CELL, "%.0f us", (double)ns / 1e3);
	else if (ns < 1000000000)
		snprintf(to, CELL, "%.1f ms", (double)ns / 1e6);
	else if (ns < 120000000000)
		snprintf(to, CELL, "%.1f s", (double)ns / 1e9);
	else if (ns < 7200000000000)
		snprintf(to, CELL, "%.0f min", (double)ns / 60e9);
	else
		snprintf(to, CELL, "%.1f h", (double)ns / 3600e9);
}

/* Text of a value; "-" where there is none. */
static void format_cell(char *to, json_t *value, enum column_kind kind)
{
	uint64_t number = (uint64_t)json_integer_value(value);

	if (!value || json_is_null(value)) {
		snprintf(to, CELL, "-");
		return;
	}
	switch (kind) {
	case COL_TEXT:
		snprintf(to, CELL, "%s", json_string_value(value) && *json_string_value(value) ? json_string_value(value) : "-");
		break;
	case COL_NUMBER:
		snprintf(to, CELL, "%" PRIu64, number);
		break;
	case COL_BOOL:
		snprintf(to, CELL, "%s", json_is_true(value) ? "yes" : "no");
		break;
	case COL_PAGES:
		memx_format_size(to, CELL, number * 4096);
		break;
	case COL_BYTES:
		memx_format_size(to, CELL, number);
		break;
	case COL_TIME:
		format_time(to, number);
		break;
	case COL_SECONDS:
		format_time(to, number * 1000000000);
		break;
	}
}

static bool is_right(enum column_kind kind)
{
	return kind != COL_TEXT && kind != COL_BOOL;
}

static void print_cell(const char *text, size_t width, enum column_kind kind, bool last)
{
	if (is_right(kind))
		printf("%*s", (int)width, text);
	else
		printf("%-*s", last ? 0 : (int)width, text);
	fputs(last ? "\n" : "  ", stdout);
}

void table_list(json_t *list, const struct column *columns, const char *none)
{
	size_t width[MAX_COLUMNS], i, n;
	char cell[CELL];
	json_t *o;

	if (!json_array_size(list)) {
		puts(none);
		return;
	}
	for (n = 0; columns[n].title; n++) {
		width[n] = strlen(columns[n].title);
		json_array_foreach(list, i, o) {
			format_cell(cell, json_object_get(o, columns[n].key), columns[n].kind);
			if (strlen(cell) > width[n])
				width[n] = strlen(cell);
		}
	}
	for (size_t c = 0; c < n; c++)
		print_cell(columns[c].title, width[c], columns[c].kind, c + 1 == n);
	json_array_foreach(list, i, o) {
		for (size_t c = 0; c < n; c++) {
			format_cell(cell, json_object_get(o, columns[c].key), columns[c].kind);
			print_cell(cell, width[c], columns[c].kind, c + 1 == n);
		}
	}
}

void table_fields(json_t *object, const struct field *fields)
{
	char cell[CELL];

	for (; fields->title; fields++) {
		json_t *value = json_object_get(object, fields->key);

		if (!value)
			continue;
		format_cell(cell, value, fields->kind);
		printf("%-18s %s\n", fields->title, cell);
	}
}

void table_counters(json_t *counters)
{
	const char *name;
	json_t *value;
	bool any = false;

	json_object_foreach(counters, name, value) {
		if (!json_integer_value(value))
			continue;
		if (!any)
			puts("counters that are not 0");
		any = true;
		printf("  %-24s %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(value));
	}
}
