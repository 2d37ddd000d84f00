// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-conf.c - texts and configuration files: what is accepted, and what a mistake is answered with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "user/conf.h"
#include "user/log.h"
#include "user/text.h"

struct thing {
	char *text, *path;
	bool flag;
	uint32_t number;
	uint64_t size, time;
	uint8_t uuid[16];
	struct memx_addr addr;
	int choice;
	char name[32];
};

struct config {
	struct thing main, item[4];
	int items;
	int ended;
};

static const char *const choices[] = { "no", "try", "yes", NULL };

static const struct memx_conf_key main_keys[] = {
	MEMX_CONF_KEY("text", STRING, struct thing, text),
	MEMX_CONF_KEY("path", PATH, struct thing, path),
	MEMX_CONF_KEY("flag", BOOL, struct thing, flag),
	MEMX_CONF_KEY("number", UINT, struct thing, number, .min = 1, .max = 9),
	MEMX_CONF_KEY("size", SIZE, struct thing, size, .min = 4096),
	MEMX_CONF_KEY("time", DURATION, struct thing, time, .max = 10000000000),
	MEMX_CONF_KEY("uuid", UUID, struct thing, uuid),
	MEMX_CONF_KEY("choice", CHOICE, struct thing, choice, .choices = choices),
	MEMX_CONF_END,
};

static const struct memx_conf_key item_keys[] = {
	MEMX_CONF_KEY("address", ADDR, struct thing, addr, .required = true),
	MEMX_CONF_END,
};

static void *main_begin(void *ctx, const char *name, uint32_t line, char *err, size_t size)
{
	(void)name, (void)line, (void)err, (void)size;
	return &((struct config *)ctx)->main;
}

static void *item_begin(void *ctx, const char *name, uint32_t line, char *err, size_t size)
{
	struct config *c = ctx;

	(void)line;
	if (c->items == 4) {
		snprintf(err, size, "too many; accepted: 4");
		return NULL;
	}
	snprintf(c->item[c->items].name, sizeof(c->item[0].name), "%s", name);
	return &c->item[c->items++];
}

static int item_end(void *ctx, void *object, char *err, size_t size)
{
	struct thing *t = object;

	((struct config *)ctx)->ended++;
	if (t->addr.port == 1) {
		snprintf(err, size, "address: port 1 is not for us");
		return -1;
	}
	if (t->addr.port == 3) {
		snprintf(err, size, "nothing: belongs beside port 3");
		return -1;
	}
	return 0;
}

static const struct memx_conf_section sections[] = {
	{ .name = "main", .keys = main_keys, .begin = main_begin, .required = true },
	{ .name = "item", .named = true, .keys = item_keys, .begin = item_begin, .end = item_end },
	MEMX_CONF_END,
};

static char file[256];

/* Loads @text and compares the mistake's line behind the file's name; @want NULL: none. */
static void load(struct config *c, const char *text, size_t len, const char *want)
{
	char err[MEMX_CONF_ERR] = "";
	FILE *f = fopen(file, "w");
	int ret;

	free(c->main.text);
	free(c->main.path);
	memset(c, 0, sizeof(*c));
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
	ret = memx_conf_load(file, sections, c, err);
	if (want) {
		assert_int_equal(ret, -EINVAL);
		assert_memory_equal(err, file, strlen(file));
		assert_string_equal(err + strlen(file), want);
	} else {
		assert_string_equal(err, "");
		assert_int_equal(ret, 0);
	}
}

static void bad(const char *text, const char *want)
{
	struct config c = { 0 };

	load(&c, text, strlen(text), want);
	free(c.main.text);
	free(c.main.path);
}

static void test_accepts(void **state)
{
	static const char text[] =
		"\xef\xbb\xbf# a comment\n\n[main]\ntext = some words ; and a comment\n  path=/run/x\nflag=yes\nnumber = 9\n"
		"size=4G\ntime=250ms\nuuid=00112233-4455-6677-8899-AABBCCDDEEFF\nchoice=try\r\n"
		"[item d-0.x]\naddress = 192.0.2.1:7700\n[ item b ]\naddress=[::1]:80";
	static const uint8_t uuid[] = { 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	struct config c = { 0 };

	(void)state;
	load(&c, text, sizeof(text) - 1, NULL);
	assert_string_equal(c.main.text, "some words");
	assert_string_equal(c.main.path, "/run/x");
	assert_true(c.main.flag);
	assert_int_equal(c.main.number, 9);
	assert_int_equal(c.main.size, 4ULL << 30);
	assert_int_equal(c.main.time, 250000000);
	assert_memory_equal(c.main.uuid, uuid, 16);
	assert_int_equal(c.main.choice, 1);
	assert_int_equal(c.items, 2);
	assert_int_equal(c.ended, 2);
	assert_string_equal(c.item[0].name, "d-0.x");
	assert_int_equal(c.item[0].addr.port, 7700);
	assert_string_equal(c.item[1].addr.host, "::1");
	free(c.main.text);
	free(c.main.path);
}

static void test_section_without_keys(void **state)
{
	(void)state;
	bad("[main]\n[item a]\n", ":2: [item a] address: missing; accepted: HOST:PORT, for example 192.0.2.1:7700 or [2001:db8::1]:7700");
}

static void test_unknown(void **state)
{
	(void)state;
	bad("[main]\n[item d0]\nadress=x:1\n", ":3: [item d0] adress: unknown key; accepted: address");
	bad("[mian]\n", ":1: [mian]: unknown section; accepted: [main], [item NAME]");
	bad("[main]\n[item]\n", ":2: [item]: unknown section or bad name (letters, digits, - _ . at most 63); accepted: [main], [item NAME]");
	bad("[main]\n[item a/b]\n", ":2: [item a/b]: unknown section or bad name (letters, digits, - _ . at most 63); accepted: [main], [item NAME]");
	bad("[main x]\n", ":1: [main x]: unknown section; accepted: [main], [item NAME]");
	bad("text=x\n[main]\n", ":1: text: stands before any section; accepted: [main], [item NAME]");
}

static void test_values(void **state)
{
	(void)state;
	bad("[main]\nnumber=0\n", ":2: [main] number: \"0\" is not understood or out of range; accepted: a number from 1 to 9");
	bad("[main]\nnumber=x\n", ":2: [main] number: \"x\" is not understood or out of range; accepted: a number from 1 to 9");
	bad("[main]\nsize=1\n", ":2: [main] size: \"1\" is not understood or out of range; accepted: a size such as 512M or 4G, at least 4 KiB");
	bad("[main]\nsize=99999999999T\n", ":2: [main] size: \"99999999999T\" is not understood or out of range; accepted: a size such as 512M or 4G, at least 4 KiB");
	bad("[main]\ntime=5\n", ":2: [main] time: \"5\" is not understood or out of range; accepted: a time such as 250ms or 2s, from 0ms to 10000ms");
	bad("[main]\npath=run\n", ":2: [main] path: \"run\" is not understood or out of range; accepted: an absolute path");
	bad("[main]\nflag=maybe\n", ":2: [main] flag: \"maybe\" is not understood or out of range; accepted: yes or no");
	bad("[main]\nchoice=x\n", ":2: [main] choice: \"x\" is not understood or out of range; accepted: no, try, yes");
	bad("[main]\nuuid=1234\n", ":2: [main] uuid: \"1234\" is not understood or out of range; accepted: a UUID of the form 01234567-89ab-cdef-0123-456789abcdef, not all zeros");
	bad("[main]\ntext=\n", ":2: [main] text: \"\" is not understood or out of range; accepted: a text that is not empty");
}

static void test_structure(void **state)
{
	char text[600];

	(void)state;
	bad("[main]\nflag=yes\nflag=no\n", ":3: [main] flag: given before, in line 2; accepted: once");
	bad("[main]\n[main]\n", ":2: [main] this section was there before; accepted: once");
	bad("[main]\n[item a]\naddress=h:2\n[item a]\n", ":4: [item a] this section was there before; accepted: once");
	bad("[main]\nnonsense\n", ":2: [main] \"nonsense\" is not understood; accepted: [SECTION], KEY = VALUE, or a comment behind # or ;");
	bad("[main\n", ":1: a section that is not closed by ]; accepted: [NAME]");
	bad("", ":0: [main]: this section is missing");
	bad("[main]\n[item a]\n\naddress=h:1\n# and on\n", ":4: [item a] address: port 1 is not for us");
	bad("[main]\n[item a]\naddress=h:1\n[item b]\naddress=h:2\n", ":3: [item a] address: port 1 is not for us");
	bad("[main]\n[item a]\naddress=h:3\n", ":2: [item a] nothing: belongs beside port 3");
	bad("[main]\n[item a]\naddress=h:2\n[item b]\naddress=h:2\n[item c]\naddress=h:2\n[item d]\naddress=h:2\n[item e]\n",
	    ":10: [item e] too many; accepted: 4");
	snprintf(text, sizeof(text), "[main]\ntext=%0300d\n", 7);
	bad(text, ":2: the line is too long; accepted: at most 198 characters");
}

static void test_unreadable(void **state)
{
	char err[MEMX_CONF_ERR];
	struct config c = { 0 };

	(void)state;
	assert_int_equal(memx_conf_load("/nonexistent/x.conf", sections, &c, err), -ENOENT);
	assert_string_equal(err, "/nonexistent/x.conf: cannot be read: No such file or directory");
}

static void test_addresses(void **state)
{
	static const char *const wrong[] = { "host", "host:", "host:x", "host:65536", "::1:7", "[::1]", "[::1:7", "a b:1", "[x]:1", ":x",
					   "999.2.3.4:1", "1.2.3:1" };
	struct memx_addr a;

	(void)state;
	assert_int_equal(memx_addr_parse(&a, "10.0.0.1:7700"), 0);
	assert_int_equal(a.sa.ss_family, AF_INET);
	assert_string_equal(memx_addr_text(&a), "10.0.0.1:7700");
	assert_int_equal(memx_addr_parse(&a, "[fe80::1]:7700"), 0);
	assert_int_equal(a.sa.ss_family, AF_INET6);
	assert_string_equal(memx_addr_text(&a), "[fe80::1]:7700");
	assert_int_equal(memx_addr_parse(&a, "donor.example:1"), 0);
	assert_int_equal(memx_addr_parse(&a, "1st.example:1"), 0);
	assert_int_equal(a.len, 0);
	assert_int_equal(memx_addr_parse(&a, ":9"), 0);
	assert_int_equal(a.sa.ss_family, AF_INET6);
	assert_string_equal(memx_addr_text(&a), "*:9");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(memx_addr_parse(&a, wrong[i]), -EINVAL);
}

static void test_texts(void **state)
{
	uint64_t v;
	uint8_t id[16], again[16];
	char text[64], path[300];
	FILE *f;

	(void)state;
	assert_int_equal(memx_parse_size("1K", &v), 0);
	assert_int_equal(v, 1024);
	assert_int_equal(memx_parse_size("2 MiB", &v), 0);
	assert_int_equal(v, 2 << 20);
	assert_int_equal(memx_parse_size("-1", &v), -EINVAL);
	assert_int_equal(memx_parse_size("1X", &v), -EINVAL);
	assert_int_equal(memx_parse_size("18446744073709551616", &v), -ERANGE);
	assert_int_equal(memx_parse_duration("3min", &v), 0);
	assert_int_equal(v, 180000000000);
	assert_string_equal(memx_format_size(text, sizeof(text), 1536), "1.5 KiB");
	assert_string_equal(memx_format_size(text, sizeof(text), 512 << 20), "512 MiB");
	memx_random(id, 16);
	assert_int_equal(memx_parse_uuid(memx_uuid_text(id), again), 0);
	assert_memory_equal(id, again, 16);

	snprintf(path, sizeof(path), "%s.id", file);
	unlink(path);
	assert_int_equal(memx_id_file(path, id), 0);
	assert_int_equal(memx_id_file(path, again), 0);
	assert_memory_equal(id, again, 16);
	f = fopen(path, "w");
	fputs("nonsense\n", f);
	fclose(f);
	assert_int_equal(memx_id_file(path, again), -EINVAL);
	unlink(path);
}

static void test_quote(void **state)
{
	char small[12];

	(void)state;
	assert_string_equal(memx_quoted("a b"), "\"a b\"");
	assert_string_equal(memx_quoted("x\n\"\xff\\"), "\"x\\x0a\\\"\\xff\\\\\"");
	assert_string_equal(memx_quoted(NULL), "\"\"");
	memx_quote(small, sizeof(small), "0123456789abcdef");
	assert_string_equal(small, "\"01234\"");
}

static void test_log_limit(void **state)
{
	struct memx_log_limit limit = { 0 };
	uint32_t dropped, passed = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		passed += memx_log_allowed(&limit, 10, 60000, &dropped);
	assert_int_equal(passed, 10);
	limit.next_ns = 1;		/* long ago: a quiet time */
	assert_true(memx_log_allowed(&limit, 10, 60000, &dropped));
	assert_int_equal(dropped, 90);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts),
		cmocka_unit_test(test_section_without_keys),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_structure),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_log_limit),
	};
	const char *tmp = getenv("MEMX_TMP");

	snprintf(file, sizeof(file), "%s/test-conf.%d", tmp ? tmp : "/tmp", (int)getpid());
	int ret = cmocka_run_group_tests(tests, NULL, NULL);

	unlink(file);
	return ret;
}
