/* SPDX-License-Identifier: GPL-2.0-only */
/* invariants.h - what holds in relay and donors between any two events, whatever guests and donors send. */
#ifndef MEMX_FUZZ_INVARIANTS_H
#define MEMX_FUZZ_INVARIANTS_H

#include <fuzz/fuzz.h>
#include "../tests/world.h"

void check_relay(const struct relay_core *core);
void check_donor(const struct wdonor *d);	/* an honest one */
void check_world(const struct world *w);	/* both, for all */

#endif /* MEMX_FUZZ_INVARIANTS_H */
