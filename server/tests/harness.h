/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * harness.h - a donor's core in a test: frames by name, replies taken apart.
 *
 * Each test has a donor of its own on the heap store. Bodies are handed over in memory of exactly their size, so that a
 * core that reads beyond a frame is seen by the sanitizer.
 */
#ifndef SRV_TEST_HARNESS_H
#define SRV_TEST_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <memx/check.h>

#include "../core/core.h"

enum { ORDER = 6, EXTENT = 1 << ORDER, SLOTS = 16 * EXTENT };	/* extents of one chunk, so that little memory goes far */

struct donor {
	struct srv_config config;
	struct srv_store *store;
	struct srv *core;
	u32 events[SRV_EVENTS];
};

/* A connection, and what the last frame on it was answered with. */
struct relay {
	struct donor *donor;
	struct srv_conn *conn;
	int verdict;			/* of srv_frame() */
	struct memx_head head;
	u8 body[MEMX_MAX_BODY];
	u8 buf[SRV_REPLY_BUF];
	struct iovec iov[SRV_REPLY_IOVS];
	bool refs;
	u32 sent;			/* frames that the donor sent on its own; the last of them: */
	struct memx_head sent_head;
	u8 sent_body[256];
};

/* A session as one connection sees it. Requests go out with `epoch` and `handle`, which a test may change. */
struct sess {
	struct relay *relay;
	u8 vm[16], id[16];
	u64 epoch;
	u64 lineage[MEMX_MAX_LINEAGE];
	u32 slots, handle;
	u8 order;
};

struct donor *donor_new(u32 chunks);
struct donor *donor_with(u32 chunks, u32 commits, const struct srv_config *config);
void donor_free(struct donor *donor);

struct relay *relay_new(struct donor *donor);		/* HELLO is done */
struct relay *relay_raw(struct donor *donor);		/* HELLO is not */
void relay_free(struct relay *relay);

/* Sends a frame; returns the status of the reply, or -EPROTO. */
int ask(struct relay *relay, u16 op, u16 flags, u64 epoch, const void *body, u32 len);
/* Answers the frame that the donor sent last; what srv_frame() says. */
int reply_to(struct relay *relay, u32 status, const void *body, u32 len);
int hello(struct relay *relay, u16 min, u16 max, u8 role);

/* A session with the id @name, at @epoch, made if it is not known. It is not fenced yet. */
struct sess sess_of(struct relay *relay, const char *name, u64 epoch);
int fence(struct sess *s);				/* with CREATE; takes the handle */
int fence_flags(struct sess *s, u8 flags);
struct memx_fenced fenced(const struct relay *relay);
int reserve(struct sess *s, u64 pages);
/* Fenced, with all its slots reserved. */
struct sess session(struct relay *relay, const char *name, u64 epoch);

struct memx_record record(const struct donor *donor, u32 extent, u64 generation, u8 state);
int place(struct sess *s, u32 extent, u64 generation);			/* with CREATE, live */
int place_record(struct sess *s, u32 flags, const struct memx_record *rec);
int store(struct sess *s, u64 generation, u32 slot, u64 version, u8 fill);
/* The check of a page that is all @fill. */
u64 check_of(const struct sess *s, u32 slot, u64 version, u8 fill);
int store_flags(struct sess *s, u64 generation, u32 slot, u64 version, u8 fill, u64 check, u16 flags);
int fetch(struct sess *s, u64 generation, u32 slot, u64 version);	/* of one page: its own status */
int fetched(const struct relay *relay, u8 fill);			/* 1: the page is all @fill */
int discard(struct sess *s, u64 generation, u32 slot, u64 version);
int free_extent(struct sess *s, u32 extent, u64 generation);
int retain(struct sess *s, u16 flags, const u32 *extents, u32 count);
int list_from(struct sess *s, u32 extent);
int scan_from(struct sess *s, u32 extent, u32 slot);
int detach(struct sess *s);
int pin(struct relay *relay, const struct sess *s, u32 extent, u64 generation);
struct memx_stat stat_of(struct relay *relay);
u32 list_count(const struct relay *relay);
const struct memx_extent_ref *list_refs(const struct relay *relay);
const struct memx_want *list_wants(const struct relay *relay);

/* A test with a donor of 64 chunks and one greeted connection: struct relay in *state. */
int set_up(void **state);
int tear_down(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif /* SRV_TEST_HARNESS_H */
