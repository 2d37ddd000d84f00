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


def two_copies_each(world):
    """
    Until two copies of each page are all that there is, everywhere. Copies that a donor wanted moved may be on their way still when
    no extent lacks one any more: those at the new place are complete then, and the donor is told to free the old ones.
    """
    until(lambda: world.relay.ask("repair")["remaining"] == 0, "every copy is where it stays")
    until(lambda: sum(world.pages_used()) == 2 * 4096, "what no record names any more is freed")


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
    with patient(World(donors=3, guests=GUEST, extent="256K")) as world:
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
        equal(sum(dropped(server) for server in world.servers), 0, "copies dropped, where the relay was asked first")
        check("reclaim-done" in world.servers[0].log() and "donor-satisfied" in world.relay.log(), "both sides say so")


@test
def limit_to_nothing():
    """A donor's limit set to nothing while nobody works: it asks, drops nothing by itself, and ends up empty."""
    with patient(World(donors=3, guests=GUEST, extent="256K")) as world:
        guest = world.guest()
        guest.ask("fill 0 4096 3")
        victim = world.servers[1]
        had = victim.status()["pages_used"]
        # Nobody answers it for two seconds of its own, in which it looks eight times at what has come back.
        world.relay.kill(signal.SIGSTOP)
        limit(victim, 0)
        asked = victim.status()
        equal(asked["pages_asked"], had, "pages asked")
        until(lambda: victim.status()["uptime_s"] >= asked["uptime_s"] + 3, "its time passes")
        equal((dropped(victim), victim.status()["pages_used"]), (0, had), "extents dropped, pages used")
        world.relay.kill(signal.SIGCONT)
        until(lambda: victim.status()["pages_used"] == 0, "it is empty")
        until(lambda: memory_kib(victim) == 0, "its host has the memory back")
        guest.ask("verify 0 4096 3")
        two_copies_each(world)
        equal(sum(dropped(server) for server in world.servers), 0, "copies dropped, where the relay was asked first")


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
        two_copies_each(world)
        guest.ask("verify 0 4096 2")


WAIT_MS = 500           # of donors that are impatient
LOOK_MS = 250           # how often a donor looks whether something came back


def waiting(world, wait):
    """The servers started anew, so that they help themselves after so long without an answer."""
    for server in world.servers:
        server.stop()
        server.options += ["--reclaim-wait", wait]
        server.start()
    until(lambda: world.relay.ask("status")["donors_up"] == len(world.servers), "the relay sees them")
    return world


def impatient(world):
    return waiting(world, f"{WAIT_MS}ms")


def patient(world):
    """Whatever a donor drops now, it drops at once and not because a slow machine let it wait."""
    return waiting(world, "1h")


def within_bound(server):
    """No wait for relays was longer than it may be, by the donor's own clock: how late the machine let it run is taken off."""
    waited = server.status()["reclaim_waited_ms"]
    check(WAIT_MS <= waited <= WAIT_MS + LOOK_MS, f"{server.name} waited {waited} ms before it helped itself")


def dropped(server):
    return server.status()["counters"]["extents_dropped"]


def shrink(server, pages):
    """Wants all but so many pages back."""
    limit(server, pages // 64 * 65 * 4096)


@test
def relay_stopped():
    """The relay is stopped: a donor drops by itself what another one confirms, and every page is right when it goes on."""
    with impatient(World(donors=3, guests=GUEST, extent="256K")) as world:
        guest = world.guest()
        guest.ask("fill 0 4096 5")
        victim = world.servers[0]
        had = victim.status()["pages_used"]
        check(had >= 640, f"{had} pages are there")
        world.relay.kill(signal.SIGSTOP)
        shrink(victim, 320)
        until(lambda: victim.status()["pages_used"] == 320, "it has dropped the rest by itself")
        until(lambda: memory_kib(victim) <= 320 * 4, "its host has the memory back")
        equal(dropped(victim), (had - 320) // 64, "extents dropped")
        within_bound(victim)
        equal(sum(s.status()["counters"]["pins"] for s in world.servers), dropped(victim), "copies pinned")
        world.relay.kill(signal.SIGCONT)
        guest.ask("verify 0 4096 5")
        until(lambda: world.relay.counters()["given_up"] == dropped(victim), "the relay heard of each")
        until(lambda: world.relay.ask("status")["degraded_extents"] == 0, "it makes other copies")
        two_copies_each(world)
        guest.ask("fill 0 4096 6")
        guest.ask("verify 0 4096 6")
        two_copies_each(world)
        check(victim.status()["pages_used"] <= 320, "nothing new goes there")


@test
def relay_killed():
    """The relay is gone: the same, and its successor finds out by itself what is missing."""
    with impatient(World(donors=3, guests=GUEST, extent="256K")) as world:
        guest = world.guest()
        guest.ask("churn 3 0 4096 64")
        moved(guest, 8000)
        world.relay.kill()
        victim = world.servers[1]
        shrink(victim, 64)
        # What was on its way when the relay died may be at one donor only: those extents stay.
        until(lambda: victim.status()["pages_used"] <= 1024, "it has dropped most of them by itself")
        within_bound(victim)
        world.relay.start()
        moved(guest)
        until(lambda: world.relay.ask("status")["degraded_extents"] == 0, "other copies are made")
        finish(guest)
        equal(world.relay.counters()["extents_lost"], 0, "extents lost")


@test
def relay_stopped_under_load():
    """The relay is stopped under load while all donors want memory back, again and again: one copy of each page stays."""
    with impatient(World(donors=3, guests=GUEST, extent="256K", donor_timeout="1s")) as world:
        guest = world.guest()
        guest.ask("churn 9 0 4096 64")
        # What has no place yet would get none while nobody has room: its stores fail at once, as they must.
        until(lambda: world.relay.ask("status")["extents"] == 4096 // 64, "every extent has its place")
        for number in range(2):
            moved(guest, 4000)
            until(lambda: world.relay.ask("status")["degraded_extents"] == 0, "all copies are there")
            before = sum(dropped(server) for server in world.servers)
            one_copy = world.relay.ask("status")["extents"] * 64
            if number % 2:
                world.relay.kill()
            else:
                world.relay.kill(signal.SIGSTOP)
            for server in world.servers:
                shrink(server, 0)
            # As many as can go: those that were in the middle of something, and one copy of each extent, stay.
            until(lambda: sum(world.pages_used()) <= 4096 + 1024, "most second copies are dropped")
            until(lambda: all(server.status()["reclaim_refused"] or not server.status()["pages_used"] for server in world.servers),
                  "each says why no more go")
            check(sum(world.pages_used()) >= one_copy, f"a copy of each page is there: {world.pages_used()}, {one_copy}")
            check(sum(dropped(server) for server in world.servers) > before, "copies were dropped")
            for server in world.servers:
                within_bound(server)
            for server in world.servers:
                limit(server)
            if number % 2:
                world.relay.start()
            else:
                world.relay.kill(signal.SIGCONT)
        moved(guest)
        finish(guest)
        equal(world.relay.counters()["extents_lost"], 0, "extents lost")


@test
def only_copy_is_kept():
    """With one copy nothing is dropped, and it is said why."""
    with impatient(World(donors=2, guests={"g0": {"quota": "16M", "replicas": 1}}, extent="256K")) as world:
        guest = world.guest()
        guest.ask("fill 0 4096 2")
        victim = world.servers[0]
        had = victim.status()["pages_used"]
        world.relay.kill(signal.SIGSTOP)
        limit(victim, 0)
        refused = until(lambda: victim.status()["reclaim_refused"], "it refuses")
        check(refused.startswith(f"{had // 64} extents have no other live copy"), refused)
        check("reclaim-refused" in victim.log(), "the log says so")
        within_bound(victim)
        equal(victim.status()["pages_used"], had, "pages used")
        world.relay.kill(signal.SIGCONT)
        guest.ask("verify 0 4096 2")
        until(lambda: victim.status()["pages_used"] == 0, "the relay moves them")
        guest.ask("verify 0 4096 2")


@test
def silent_holder_confirms_nothing():
    """Where the other holder does not answer nothing is dropped; when it does again, it is asked again."""
    with impatient(World(donors=2, guests=GUEST, extent="256K")) as world:
        guest = world.guest()
        guest.ask("fill 0 4096 4")
        world.relay.kill(signal.SIGSTOP)
        world.servers[1].kill(signal.SIGSTOP)
        limit(world.servers[0], 0)
        until(lambda: "64 its donor does not answer" in world.servers[0].status()["reclaim_refused"], "it refuses")
        equal(dropped(world.servers[0]), 0, "extents dropped")
        within_bound(world.servers[0])
        world.servers[1].kill(signal.SIGCONT)
        until(lambda: world.servers[0].status()["pages_used"] == 0, "it asks again")
        world.relay.kill(signal.SIGCONT)
        guest.ask("verify 0 4096 4")
        limit(world.servers[0])
        until(lambda: world.relay.ask("status")["degraded_extents"] == 0, "the other copies are made again")


if __name__ == "__main__":
    sys.exit(main())
