/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * donors.h - what the tests about donors share: a world with one guest, and looks at its records.
 */
#ifndef MEMX_RELAY_TESTS_DONORS_H
#define MEMX_RELAY_TESTS_DONORS_H

#include "world.h"

/* Those of the test that runs. */
extern struct world *w;
extern struct wguest *g;

/* A world with that many donors, and a guest of 256 slots in it. */
void cluster(u32 donors, u32 replicas);
int teardown(void **state);
/* Done by the guest, and it went well. */
void stored(u32 slot, u32 count);
void fetched(u32 slot, u32 count);
/* Lets time pass until it is answered, but not more than @most ms. How long that took. */
u32 ms_until(const struct wreq *r, u32 most);
struct wdonor *donor_of(const u8 id[16]);
/* The @n-th replica of the extent, by the record that the guest holds. */
struct wdonor *holder(u32 extent, u32 n);
u32 live_copies(u32 extent);
/* The state of the replica there, by the guest's record. */
u8 state_at(u32 extent, const struct wdonor *d);
/* A donor's ->tamper: every odd_op is refused with odd_status. */
extern u16 odd_op;
extern u32 odd_status;
bool oddly(struct wdonor *d, struct frame *f);
/* For world_new(): nothing is copied anew. */
void no_repair(struct core_config *cfg);
/* Returns when nothing is missing any more. */
void repaired(void);

#define rule(name) cmocka_unit_test_teardown(name, teardown)

#endif
