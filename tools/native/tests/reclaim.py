#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Memory comes and goes on the donors' side: limits lowered and raised under verified load, and what nobody names any more."""

import re
import signal
import sys

from native import World, check, control, equal, main, test, until

GUEST = {"g0": {"quota": "16M", "replicas": 2}}


def limit(server, size=None):
    return control(server.control, "limit", **({"default": True} if size is None else {"bytes": size}))


def memory_kib(server):
    """What the page store of this server has of the host's memory, from the kernel."""
    total, ours = 0, False
    with open(f"/proc/{server.process.pid}/smaps", encoding="ascii") as smaps:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                ours = "memx-pages" in line
            elif ours and line.startswith("Rss:"):
                total += int(line.split()[1])
    return total


def donor_of(world, server):
    return next(d for d in world.relay.ask("donors") if d["name"] == server.name)


def moved(guest, operations=500):
    before = guest.stat()
    until(lambda: sum(guest.stat()[k] - before[k] for k in ("stores", "fetches")) > operations, f"{guest.name} goes on")


def finish(guest):
    stat = guest.stat("stop")
    equal((stat["wrong"], stat["errors"]), (0, 0), "wrong, errors")
    guest.ask("check")


@test
def limit_lowered():
    """A donor's limit lowered under load: its copies move, its host has the memory back, every page is right."""
    with World(donors=3, guests=GUEST, extent="256K") as world:
        guest = world.guest()
        guest.ask("churn 5 0 4096 64")
        moved(guest, 8000)
        for victim in world.servers:
            moved(guest)
            used = victim.status()["pages_used"]
            room = used // 3 // 64 * 64
            limit(victim, (room + 64) // 64 * 65 * 4096)
            until(lambda: victim.status()["pages_used"] <= room + 64, "its copies move")
            until(lambda: memory_kib(victim) <= (room + 64) * 4, "its host has the memory back")
            until(lambda: not donor_of(world, victim)["pages_asked"], "the relay knows")
            moved(guest)
            check(victim.status()["pages_used"] <= room + 64, "nothing new goes there")
            limit(victim)
            equal(victim.status()["pages_asked"], 0, "pages asked")
        finish(guest)
        counters = world.relay.counters()
        check(counters["reclaimed"] > 20 and counters["asks"] >= 3, f"moved: {counters}")
        equal(counters["extents_lost"] + counters["violations"] + counters["donor_violations"], 0, "lost, violations")
        until(lambda: world.relay.ask("status")["degraded_extents"] == 0, "all copies are there")
        check("reclaim-done" in world.servers[0].log() and "donor-satisfied" in world.relay.log(), "both sides say so")


@test
def limit_to_nothing():
    """A donor's limit set to nothing while nobody works: it ends up empty."""
    with World(donors=3, guests=GUEST, extent="256K") as world:
        guest = world.guest()
        guest.ask("fill 0 4096 3")
        limit(world.servers[1], 0)
        until(lambda: world.servers[1].status()["pages_used"] == 0, "it is empty")
        until(lambda: memory_kib(world.servers[1]) == 0, "its host has the memory back")
        guest.ask("verify 0 4096 3")
        equal(sum(world.pages_used()), 2 * 4096, "pages used")


@test
def unnamed_is_freed():
    """What the guest's map does not name any more is found and freed by its next attach, and only that."""
    with World(donors=3, guests=GUEST, extent="256K", donor_timeout="1s", donor_dead="1s") as world:
        guest = world.guest()
        guest.ask("fill 0 4096 1")
        away = world.servers[0]
        had = away.status()["pages_used"]
        away.kill(signal.SIGSTOP)
        guest.ask("fill 0 4096 2")
        until(lambda: world.relay.ask("status")["degraded_extents"] == 0, "the others have its copies")
        # The relay that knew what is still to be freed there is gone.
        world.relay.kill()
        world.relay.start()
        until(lambda: guest.ask("status")["state"] == "attached" and world.relay.ask("status")["attached"], "attached again")
        away.kill(signal.SIGCONT)
        until(lambda: away.status()["pages_used"] == 0, f"{had} pages that nobody names are freed")
        check(world.relay.counters()["condemned"] > 0, "the relay counts them")
        equal(sum(world.pages_used()), 2 * 4096, "pages used")
        guest.ask("verify 0 4096 2")


if __name__ == "__main__":
    sys.exit(main())
