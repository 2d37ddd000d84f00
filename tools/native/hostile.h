/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hostile.h - what the hostile guest's tricks are made of: a channel to a relay, and frames in good order to be spoiled.
 *
 * Functions that wait for the relay print what came of the trick and end the program: say_*(), and die() where the trick could
 * not be played at all.
 */
#ifndef MEMX_HOSTILE_H
#define MEMX_HOSTILE_H

#include <memx/check.h>
#include <memx/codec.h>
#include <user/shm.h>
#include <user/text.h>

enum {
	STORE_LANE	= 0,
	FETCH_LANE	= 1,
	LANES		= 2,
	PATIENCE_MS	= 20000,	/* sanitised relays on a loaded machine are slow */
	SLOTS		= 2048,
	EXTENT_ORDER	= 6,		/* of the relay's settings: a map says which one it is of */
};

struct evil {
	const char *name;
	u8 uuid[16];
	int sock;
	struct memx_shm_lane lane[LANES];
	u64 offer, epoch, tag, seed_of_session;
	u8 session[16];
	struct memx_attached granted;
	u64 random;
	struct memx_record victim;	/* of somebody else's, given on the command line */
	bool has_victim;
};

enum outcome {
	OUT_CLOSED,
	OUT_ALIVE,
	OUT_DEAD,
};

/* A frame is built in here. */
extern u8 scratch[];

struct memx_vring *ring(struct evil *e, int lane);
void notify(struct evil *e, int lane);
void __attribute__((noreturn)) die(const char *what);
bool wait_any(struct evil *e, int ms);
bool closed(struct evil *e);
bool socket_says(struct evil *e, enum outcome *out);
void send_raw(struct evil *e, int lane, const void *data, u32 len);
void send_frame(struct evil *e, int lane, const struct memx_head *head, const void *body);
struct memx_head request(struct evil *e, u16 op, u32 len);
bool receive(struct evil *e, int lane, struct memx_head *head, u8 **body, int ms);
bool answer_to(struct evil *e, int lane, u64 tag, struct memx_head *head, u8 **body, bool mute);
void make_lanes(struct evil *e);
void offer(struct evil *e);
void hello_reply(struct evil *e, int lane, struct memx_hello *hello);
bool take_hello(struct evil *e, int lane, struct memx_head *head);
bool greet(struct evil *e);
void attach_body(struct evil *e, struct memx_attach *a, u32 records);
void send_attach(struct evil *e, u32 records);
void send_map(struct evil *e, const struct memx_record *recs, u32 count, bool last);
int attach(struct evil *e, const struct memx_record *recs, u32 count);
void ready(struct evil *e);
u32 build_store(struct evil *e, u8 *to, u32 slot, u32 count, u64 version);
u32 build_want(struct evil *e, u8 *to, u32 slot, u32 count, u64 version);
u64 send_store(struct evil *e, u32 slot, u32 count, u64 version);
u64 send_fetch(struct evil *e, u32 slot, u32 count, u64 version);
const char *status_name(u32 status);
void say_answer(struct evil *e, int lane, u64 tag);
void say_outcome(struct evil *e);
void say_closed(struct evil *e);
void greeted(struct evil *e);

/* Each a function t_NAME(). */
#define TRICKS(X) X(prod_far) X(prod_back) X(cons_far) X(orders) X(live_flap) X(notify_storm) X(magic) \
	X(len_huge) X(len_ring) X(flags) X(status) X(ping_body) X(unknown_op) X(before_hello) X(before_attach) \
	X(store_on_fetch_lane) X(fetch_on_store_lane) X(epoch_old) X(epoch_new) X(hello_nonce) X(hello_lanes) \
	X(hello_kinds) X(hello_again) X(count0) X(count33) X(count_more) X(extent) X(slot) X(slot_beyond) \
	X(slot_twice) X(slot_down) X(version0) X(check) X(session_handle) X(fetch_absent) X(fetch_version) \
	X(store_old) X(torn_page) X(changing_bytes) X(racing_headers) X(half_open) X(overdraft) X(overdraft_pages) X(ping_flood) \
	X(record_unanswered) X(record_tag) X(record_no) X(record_long) X(answer_unasked) X(attach_twice) \
	X(attach_fetch_lane) X(map_unasked) X(map_endless) X(map_unknown_donor) X(map_invalid) X(map_dead) \
	X(map_extent) X(steal) X(clone) X(detach_epoch) X(detach_early) X(slots_huge) X(offer_small) \
	X(offer_unsealed) X(offer_orders) X(offer_garbage) X(offer_storm) X(noise) X(garbage)

#define X(name) void t_##name(struct evil *e);
TRICKS(X)
#undef X

#endif /* MEMX_HOSTILE_H */
