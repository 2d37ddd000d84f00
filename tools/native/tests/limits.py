#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The daemons with no more rights than an ordinary user has by default."""

import resource
import sys

from native import Relay, World, check, equal, main, test, unprivileged

HARD = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
LOCKED = 8 << 20 if HARD == resource.RLIM_INFINITY else min(8 << 20, HARD)


class Poor(Relay):
    """It may lock some of its memory, but not all that it will have."""

    def child(self):
        super().child()
        unprivileged("CAP_IPC_LOCK")
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (LOCKED, LOCKED))


@test
def locked_memory():
    """A relay that may lock little of its memory locks nothing, says so, and serves"""
    with World(donors=2, memory="128M", guests={"g0": {"quota": "64M", "replicas": 2}}, relay=Poor) as world:
        guest = world.guest()
        guest.ask("fill 0 64 1")
        guest.ask("verify 0 64 1")
        counters = guest.ask("counters")
        equal([counters[key] for key in ("fetch_errors", "store_errors")], ["0", "0"], "fetch errors, store errors")
        log = world.relay.log()
        check("memory-not-locked" in log and "LimitMEMLOCK" in log, f"it says that its memory is not locked:\n{log}")
        with open(f"/proc/{world.relay.process.pid}/limits") as file:
            limits = file.read()
        check(any(line.split()[:5] == ["Max", "locked", "memory", str(LOCKED), str(LOCKED)] for line in limits.splitlines()),
              f"the limit stays as it was:\n{limits}")


if __name__ == "__main__":
    sys.exit(main())
