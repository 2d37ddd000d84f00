// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-text.c - libFuzzer target: the parsers of user/text.h, addresses, and the quoting of what peers call themselves.
 *
 * The first byte chooses the parser, the rest is the text. What is understood survives being written and read again; what is
 * quoted for the log is printable, one line, and as long as promised at most.
 */
#include <errno.h>
#include <math.h>
#include <unistd.h>

#include <fuzz/fuzz.h>
#include <user/log.h>
#include <user/net.h>
#include <user/text.h>

static void numbers(const char *text)
{
	u64 value = 7, again = 7;
	char back[32];
	int ret = memx_parse_u64(text, &value);

	fuzz_must(ret == 0 || ret == -EINVAL || ret == -ERANGE, "%d", ret);
	fuzz_must(!ret || value == 7, "a value without success");
	if (!ret) {
		snprintf(back, sizeof(back), "%llu", (unsigned long long)value);
		fuzz_must(!memx_parse_u64(back, &again) && again == value, "%s", back);
	}
	value = 7;
	ret = memx_parse_size(text, &value);
	fuzz_must(ret == 0 || ret == -EINVAL || ret == -ERANGE, "%d", ret);
	fuzz_must(!ret || value == 7, "a size without success");
	if (!ret) {
		memx_format_size(back, sizeof(back), value);
		fuzz_must(strlen(back) < sizeof(back) - 1, "a size of %llu bytes as \"%s\"", (unsigned long long)value, back);
	}
	value = 7;
	ret = memx_parse_duration(text, &value);
	fuzz_must(ret == 0 || ret == -EINVAL || ret == -ERANGE, "%d", ret);
}

static void ids(const char *text)
{
	u8 id[16], again[16];
	char back[MEMX_UUID_TEXT];
	bool flag;

	if (!memx_parse_uuid(text, id)) {
		memx_format_uuid(back, id);
		fuzz_must(strlen(back) == MEMX_UUID_TEXT - 1 && !strcasecmp(back, text), "\"%s\"", back);
		fuzz_must(!memx_parse_uuid(back, again) && !memcmp(id, again, 16), "\"%s\"", back);
	}
	if (!memx_parse_hex(text, id, sizeof(id))) {
		memx_format_hex(back, id, sizeof(id));
		fuzz_must(!strcasecmp(back, text), "\"%s\"", back);
	}
	memx_parse_bool(text, &flag);
	memx_log_level_parse(text);
}

static void address(const char *text)
{
	struct memx_addr addr, again;
	char back[MEMX_ADDR_TEXT];

	if (memx_addr_parse(&addr, text))
		return;
	memx_addr_format(back, &addr);
	fuzz_must(!memx_addr_parse(&again, back), "\"%s\" is understood, its own form \"%s\" is not", text, back);
	fuzz_must(again.port == addr.port && again.len == addr.len, "\"%s\" comes back as another", back);
	fuzz_must(memchr(addr.host, '\0', sizeof(addr.host)), "a host without end");
}

static void quoting(const char *text, size_t room)
{
	char *buf = malloc(room);
	size_t i, len;

	memx_quote(buf, room, text);
	len = strnlen(buf, room);
	fuzz_must(len < room, "no end within %zu", room);
	for (i = 0; i < len; i++)
		fuzz_must(buf[i] >= ' ' && buf[i] < 0x7f, "byte %02x in the log", (u8)buf[i]);
	fuzz_must(room < 8 || (len >= 2 && buf[0] == '"' && buf[len - 1] == '"'), "not between quotes: %s", buf);
	free(buf);
}

static void id_file(const u8 *data, size_t size)
{
	static char path[64];
	u8 id[16], again[16];
	FILE *f;

	if (!*path)
		snprintf(path, sizeof(path), "/tmp/memx-fuzz-id.%d", (int)getpid());
	f = fopen(path, "w");
	if (!f)
		return;
	fwrite(data, 1, size, f);
	fclose(f);
	if (!memx_id_file(path, id))
		fuzz_must(!memx_id_file(path, again) && !memcmp(id, again, 16), "an id that does not stay");
	unlink(path);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	char *text;
	u8 what;

	if (!size)
		return 0;
	what = data[0];
	text = malloc(size);		/* of exactly its size, for the sanitizer */
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (what % 5) {
	case 0:
		numbers(text);
		break;
	case 1:
		ids(text);
		break;
	case 2:
		address(text);
		break;
	case 3:
		quoting(text, 1 + what / 5);
		break;
	default:
		if (what == 4)		/* a file each time: rarely */
			id_file(data + 1, size - 1);
		else
			quoting(text, MEMX_QUOTE_MAX);
	}
	free(text);
	return 0;
}
