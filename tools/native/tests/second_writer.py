#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Bytes of the rings change as soon as the guest has read them: whatever it looks at twice is another thing the second time.

A guest that takes a private copy of each byte once notices nothing at all; so every refusal and every wrong page is a failure.
"""

import sys

from native import Guest, World, check, equal, main, test, until


def watched(world, *options):
    guest = Guest(world.relay, "g0", *options, program="memx-guest-watched")
    world.guests.append(guest)
    guest.attach()
    return guest


def played(*options):
    with World(donors=2, guests={"g0": {"quota": "16M", "replicas": 2}}, extent="256K") as world:
        guest = watched(world, *options)
        guest.ask("fill 0 32 1")
        guest.ask("watch")
        guest.ask("verify 0 32 1")
        check(int(guest.ask("reads")["reads"]) >= 32 * 512, "each word of each page was caught")
        guest.ask("churn 3 64 16 4 50 4")
        until(lambda: sum(guest.stat()[key] for key in ("stores", "fetches", "discards")) >= 40, "the load goes on")
        stat = guest.stat("stop")
        equal((stat["wrong"], stat["errors"]), (0, 0), "wrong, errors")
        # The next relay's HELLO, its grant and its records are read so too.
        world.relay.kill()
        world.relay.start()
        until(lambda: guest.ask("status")["state"] == "attached" and world.relay.ask("status")["attached"], "attached again")
        guest.ask("check")
        guest.ask("fill 128 4 2")
        guest.ask("verify 128 4 2")
        counters = guest.ask("counters")
        equal([counters[key] for key in ("corrupt", "violations", "retries", "fetch_errors", "store_errors")], ["0"] * 5,
              "corrupt pages, violations, retries, errors")
        equal(world.relay.counters()["violations"], 0, "violations by the guest")


@test
def single_pages():
    """Bytes change as soon as they are read, page by page: the guest looks at none of them twice"""
    played("--ring-order", "14")


@test
def long_answers():
    """The same with answers of many pages"""
    played()


if __name__ == "__main__":
    sys.exit(main())
