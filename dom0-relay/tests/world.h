/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * world.h - a cluster in one process and in virtual time: the relay's core, real donor cores, and a scripted guest.
 *
 * Frames travel through queues, one per lane and direction, one per connection and direction. Nothing moves by itself: a test
 * delivers everything (world_settle), lets time pass (world_pass), or delivers one thing chosen by a seeded die (world_roll),
 * so the same seed always gives the same run. Connections die as TCP connections do: what was sent before may still arrive at
 * the donor long after the relay has given up on them.
 *
 * The guest keeps, per slot, what the module keeps (version and check) and what the program that swapped would know (the
 * content), and fails the process when a fetch returns anything else.
 */
#ifndef MEMX_TEST_WORLD_H
#define MEMX_TEST_WORLD_H

#include "../core/internal.h"
#include "../../server/core/core.h"

enum {
	W_DONORS	= 6,
	W_GUESTS	= 3,
	W_REQS		= 64,
	W_LANES		= 2,		/* 0: store, 1: fetch */
	W_RING		= 512 << 10,	/* bytes of a lane's reply ring */
};

struct frame {
	struct list in_queue;
	struct memx_hdr hdr;
	u32 len;			/* of the body */
	u8 *body;
	u64 due;			/* does not arrive before */
};

struct world;

/* The side of a relay that was left behind: world-old.c. */
struct wend {
	struct wdonor *donor;
	struct core_donor *cd;
	struct wconn *conn;
	u64 connect_at;
};

struct wold_link {
	struct core_link *link;
	bool alive;
	u32 domid;
	struct list to_relay[W_LANES];
	u32 ring_used[W_LANES];		/* of what nobody reads */
};

struct wold {
	struct relay_core *core;	/* NULL: there is none */
	struct wend end[W_DONORS];
	struct wold_link link[W_GUESTS];
	struct core_counters counters;	/* of those that have ended */
};

struct wconn {
	struct list in_world;
	struct wdonor *donor;
	struct wend *end;		/* whose it is; NULL: the present relay's, or nobody's any more */
	struct srv_conn *srv;
	struct list to_donor, to_relay;
	bool open;			/* the relay's end; when it is closed, what is in to_donor may still arrive */
	bool closed_by_donor;
};

/* A donor asks another one about a copy that it wants to drop. */
struct wpin {
	bool out, answered;
	struct wdonor *to;
	u64 serial, epoch;
	void *body;
	u32 len, status;
};

struct wdonor {
	struct world *w;
	char name[16];
	u8 id[16];
	u64 instance;
	u32 chunks;
	char domain[MEMX_LABEL_LEN];
	struct srv *srv;
	struct srv_store *store;
	struct core_donor *cd;
	struct wconn *conn;		/* the present one, or NULL */
	bool there;			/* accepts connections */
	bool hung;			/* nothing is delivered to it or from it */
	u64 way_ns, work_ns;		/* a frame is so long on its way to it; and then its turn comes, so long behind the one before */
	u64 byte_ns;			/* and each byte of it takes so long */
	u64 busy_until;
	u64 connect_at;
	/* A hostile donor: may change a frame on its way to the relay; false: it is dropped. NULL: honest. */
	bool (*tamper)(struct wdonor *d, struct frame *f);
	/* One that refuses: the status to answer this request with in place of doing it, or OK. NULL: it does everything. */
	u32 (*refuse)(struct wdonor *d, const struct memx_head *head);
	u64 frames;			/* that it handled */
	struct wpin pin;
	u64 dropped;			/* pages, by itself */
};

enum wslot_state { SLOT_EMPTY, SLOT_STORED, SLOT_DISCARDED, SLOT_UNKNOWN };

struct wslot {
	u64 version;			/* highest given out */
	u64 good;			/* version of the last acknowledged store */
	u8 state;			/* enum wslot_state, of what was acknowledged last */
	bool busy;			/* a store is unanswered */
	bool discarding;		/* a discard is */
	bool wanted;			/* a read waits for the store to end */
	u32 fetching;
};

struct wreq {
	bool used, done;
	bool lost;			/* not out: it travels again, from again_at on, when the guest is attached */
	bool again;			/* it did */
	u16 op;
	u32 lane, count, slot, status, room, tries;
	u64 tag, again_at;
	u32 at[MEMX_MAX_PAGES];		/* slots, ascending */
	u64 version[MEMX_MAX_PAGES];
	u32 page_status[MEMX_MAX_PAGES];
};

struct wguest {
	struct world *w;
	struct core_guest_conf conf;
	struct core_link *link;
	bool alive;			/* the link stands */
	bool closed;			/* the relay closed it */
	char reason[160];
	struct list to_relay[W_LANES], to_guest[W_LANES];
	u32 ring_used[W_LANES];		/* bytes of to_guest */
	u32 promised[W_LANES];		/* bytes set aside for answers */
	u32 lanes_said;
	u64 offer;
	u8 session[16];
	u64 lineage[MEMX_MAX_LINEAGE];
	u64 epoch, granted_epoch, seed, next_tag;
	u32 granted_domid;
	u32 want_slots, slots, order, replicas;
	bool frozen, attached, attaching;
	bool detaching;			/* waits for the answer to DETACH */
	bool told;			/* DETACH went out for this session: it may be freed */
	u32 attach_status, detach_status, retry_ms;
	u32 lane_requests, lane_pages;
	struct memx_record *record;	/* per extent; generation 0: none */
	struct wslot *slot;
	struct wreq req[W_REQS];
	u32 busy;			/* requests that have not ended */
	u32 wanted;			/* slots with a read that waits */
	bool persistent;		/* asks again as the module does; otherwise a test sees each answer */
	u64 failed;			/* bits: statuses that writes have failed with */
	bool mute_records;		/* does not answer RECORD */
	struct frame *held_record;
	u64 stores_ok, fetches_ok, errors;
	u64 rotted;			/* fetches of pages that nobody has any more as they were */
	bool may_lose;			/* a fetch may fail with an error (never with wrong bytes) */
	/* A hostile guest: hears all that the relay sends, and answers as it likes. NULL: it keeps the protocol. */
	void (*hears)(struct wguest *g, u32 lane, const struct frame *f);
	bool deaf;			/* does not read its rings */
};

/* What befell the persistent guests, in pages. One list, all u64. */
#define WORLD_TALLY_LIST(X)									\
	X(stores_again)		/* sent once more, with a higher version */			\
	X(stores_again_ok)	/* of which were acknowledged */				\
	X(discards_again)									\
	X(discards_void)	/* not sent again, because the slot was stored since */		\
	X(fetches_again)									\
	X(put_off)		/* answered with something that passes */			\
	X(reads_held)		/* reads that waited for the end of a store, and came behind it */

struct world_tally {
#define WORLD_X(name) u64 name;
	WORLD_TALLY_LIST(WORLD_X)
#undef WORLD_X
};

struct world {
	struct world_tally tally;
	u64 seed, rng, now;
	struct core_config cfg;
	struct relay_core *core;
	struct core_counters before;	/* of relays that have ended */
	struct wold old;
	struct wdonor donor[W_DONORS];
	u32 donors;
	struct wguest guest[W_GUESTS];
	u32 guests, domids;
	struct list conns;
	u64 reconnect_ns;
	bool quiet;			/* no log */
	bool rotten;			/* a donor's memory is bad */
	char last_event[64];
	const char *watched;		/* events of this name are counted */
	u32 seen;
	enum core_log_level seen_level;	/* of the last of them */
	u64 delivered;
	u64 freed;			/* extents that guests named in attaches after such a DETACH */
	u64 late_detaches;		/* that came to a donor when the next connection of the same epoch had the session */
};

struct world *world_new(u64 seed, u32 donors, u32 chunks, void (*configure)(struct core_config *cfg));
void world_free(struct world *w);
u64 world_random(struct world *w);
void world_settle(struct world *w);			/* delivers all that can be delivered */
void world_pass(struct world *w, u32 ms);		/* lets time pass, delivering all */
bool world_roll(struct world *w);			/* delivers one thing; false: there is none */
void world_tick(struct world *w);			/* time goes to the next deadline */
void world_relay_restart(struct world *w);
void world_new_relay(struct world *w);			/* another host's; the present one is the caller's */
void world_leave_relay(struct world *w);		/* another one takes its place; the old one goes on beside it */
void world_old_relay_ends(struct world *w);
struct core_counters world_counters(struct world *w);	/* of the present relay */
struct core_counters world_all_counters(struct world *w);	/* and of those before it */
void world_add_counters(struct core_counters *to, const struct core_counters *c);

void wdonor_up(struct wdonor *d);			/* connects at once */
void wdonor_drop(struct wdonor *d);			/* the connection breaks */
void wold_drop(struct wdonor *d);			/* that of the relay that was left behind */
void wold_guest_gone(struct world *w, const struct wguest *g);	/* that relay is told that its domain was suspended */
void wdonor_restart(struct wdonor *d);			/* and all its memory is gone */
struct wdonor *world_add_donor(struct world *w, u32 chunks);	/* to the configuration, as it runs */
void world_drop_conns(struct wdonor *d);		/* what is left of its connections */
void wdonor_swap(struct wdonor *a, struct wdonor *b);	/* each is found at the other's address */
void wdonor_set_domain(struct wdonor *d, const char *domain);
bool wdonor_stuck(struct wdonor *d, u16 op, u32 ms);	/* such a request is on its way, and this late: the connection breaks first */
u64 wdonor_pages(struct wdonor *d);			/* in use */
u8 *wdonor_find(struct wdonor *d, const void *page);	/* where it holds this page; NULL: it does not */
void wdonor_limit(struct wdonor *d, u32 chunks);	/* and asks for what is used beyond it */
void wdonor_help_itself(struct wdonor *d);		/* drops a copy without the relay, if it wants memory back */
void wdonor_says(struct wdonor *d, u16 op, const void *body, u32 len);	/* a request of its own to the relay */

struct wguest *wguest_new(struct world *w, u32 slots, u32 replicas);
void wguest_offer(struct wguest *g);			/* connects the lanes */
void wguest_hang_up(struct wguest *g);
void wguest_attach(struct wguest *g);			/* sends ATTACH and the map */
bool wguest_start(struct wguest *g);			/* all of it; true: attached */
bool wguest_again(struct wguest *g);			/* hang up, offer, attach with the map */
struct wreq *wguest_store(struct wguest *g, u32 slot, u32 count);	/* NULL: no credit or a slot is busy */
struct wreq *wguest_fetch(struct wguest *g, u32 slot, u32 count);
void wguest_read(struct wguest *g, u32 slot);		/* fetches it, when the store that is under way has ended */
struct wreq *wguest_discard(struct wguest *g, u32 slot, u32 count);
u32 wguest_do(struct wguest *g, struct wreq *req);	/* settles; the status, or ~0: unanswered */
void wguest_raw(struct wguest *g, u32 lane, const struct memx_head *head, const void *body);
void wguest_page(const struct wguest *g, u32 slot, u64 version, void *to);
void wguest_detach(struct wguest *g);
void wguest_tick(struct wguest *g);			/* what was put off goes out again */
void wguest_new_session(struct wguest *g);		/* of the one before it forgets all that it has out there and asked for */
void wguest_deliver_one(struct wguest *g, u32 lane);	/* one frame of the guest reaches the relay */

#endif /* MEMX_TEST_WORLD_H */
