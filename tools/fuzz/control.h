/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * control.h - what holds of every answer on a control socket, whichever daemon gives it.
 */
#ifndef MEMX_FUZZ_CONTROL_H
#define MEMX_FUZZ_CONTROL_H

#include <jansson.h>
#include <string.h>

#include "fuzz/fuzz.h"

/* Takes over @reply. */
static inline void fuzz_check_reply(json_t *reply)
{
	char *text;

	fuzz_must(json_is_object(reply) && json_is_boolean(json_object_get(reply, "ok")), "no answer");
	if (json_is_true(json_object_get(reply, "ok")))
		fuzz_must(json_object_get(reply, "data"), "well, and nothing said");
	else
		fuzz_must(*json_string_value(json_object_get(reply, "error")), "an error without a word");
	text = json_dumps(reply, JSON_COMPACT);
	fuzz_must(text && !strchr(text, '\n'), "an answer of more than a line");
	free(text);
	json_decref(reply);
}

#endif /* MEMX_FUZZ_CONTROL_H */
