/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * configuration.h - a relay that allows two guests: "one" by its name, another by its UUID.
 */
#ifndef MEMX_FUZZ_CONFIGURATION_H
#define MEMX_FUZZ_CONFIGURATION_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../edge/config.h"
#include "fuzz/fuzz.h"

static inline struct relay_conf *fuzz_configuration_of(const char *text)
{
	char err[MEMX_CONF_ERR] = "", path[32];
	int fd = memfd_create("conf", 0);
	struct relay_conf *conf;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fuzz_must(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "no file");
	conf = relay_conf_load(path, err);
	close(fd);
	fuzz_must(conf, "%s", err);
	return conf;
}

static inline struct relay_conf *fuzz_configuration(void)
{
	return fuzz_configuration_of("[guest one]\nquota = 1G\n[guest two]\nuuid = 42424242-4242-4242-4242-424242424242\nquota = 2G\n");
}

#endif /* MEMX_FUZZ_CONFIGURATION_H */
