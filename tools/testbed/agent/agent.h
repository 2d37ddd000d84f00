/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the agent's files share: the frames on the wire and the programs that
 * the one binary is, by its first argument.
 */
#ifndef MEMX_TESTBED_AGENT_H
#define MEMX_TESTBED_AGENT_H

#include <stdint.h>

#define AGENT_PORT	4077
#define AGENT_PROTOCOL	1
#define AGENT_PATH	"/sbin/memx-agent"

struct frame_head {
	uint32_t len;
	uint8_t type;
	uint8_t zero[3];
};

_Static_assert(sizeof(struct frame_head) == 8, "frame_head is on the wire");

/* memx-agent --put MODE SIZE NAME PATH: standard input becomes a file. */
int put_main(char **argv);
/* memx-agent --get PATH: "MODE SIZE\n" and the file on standard output. */
int get_main(char **argv);
/* memx-agent --uevents PROGRAM: in the background, PROGRAM with each uevent's fields. */
int uevents_main(char **argv);

#endif
