#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Guests, a relay and servers as processes: pages go out and come back as they were, and nothing stays behind."""

import subprocess
import sys
import os

from native import BIN, PATIENCE, SLOW, World, check, equal, main, test, until

PAGES = 4096


def round_trip(replicas):
    with World(donors=3, guests={"g0": {"quota": "64M", "replicas": replicas}}) as world:
        guest = world.guest()
        equal(guest.ask("status")["replicas"], str(replicas), "replicas granted")
        guest.ask(f"fill 0 {PAGES} 1")
        guest.ask(f"verify 0 {PAGES} 1")
        guest.ask(f"fill 100 {PAGES - 200} 2")
        guest.ask("verify 0 100 1")
        guest.ask(f"verify 100 {PAGES - 200} 2")
        guest.ask(f"verify {PAGES - 100} 100 1")
        held = sum(s["pages_held"] for server in world.servers for s in server.sessions())
        equal(held, PAGES * replicas, "pages that donors hold")
        counters = world.relay.counters()
        equal(counters["stores"], 2 * PAGES - 200, "stores that the relay counts")
        equal(counters["bad_pages"], 0, "bad pages")


@test
def one_copy():
    """One copy: filled, overwritten in part, read back page by page."""
    round_trip(1)


@test
def two_copies():
    """Two copies on different donors: filled, overwritten in part, read back."""
    round_trip(2)


@test
def copies_differ():
    """No extent has two copies on one donor, and all donors get some."""
    with World(donors=3, guests={"g0": {"quota": "128M", "replicas": 2}}, extent="256K") as world:
        guest = world.guest()
        guest.ask("fill 0 4096 1")
        records = guest.ask_raw("records").split()[1:]
        equal(len(records), 64, "records")
        donors = set()
        for record in records:
            copies = [part.split("/") for part in record.split(":")[2:]]
            equal([state for _, state in copies], ["1", "1"], "states of copies (1: live)")
            check(copies[0][0] != copies[1][0], f"both copies on one donor: {record}")
            donors.update(donor for donor, _ in copies)
        equal(len(donors), 3, "donors used")


@test
def two_guests():
    """Two guests at once, each with load of its own: every page is its own guest's."""
    guests = {"g0": {"quota": "32M", "replicas": 1}, "g1": {"quota": "32M", "replicas": 2}}
    with World(donors=2, guests=guests) as world:
        both = [world.guest("g0"), world.guest("g1", "--store-lanes", "2", "--fetch-lanes", "2")]
        for number, guest in enumerate(both):
            guest.ask(f"churn {number + 1} 0 4096 128")
        until(lambda: all(guest.stat()["fetches"] > 20000 // SLOW for guest in both), "load")
        for guest in both:
            stat = guest.stat("stop")
            equal((stat["wrong"], stat["errors"]), (0, 0), f"{guest.name}: wrong, errors")
            guest.ask("check")


@test
def discards():
    """Discarded slots hold nothing, their neighbours what they held; stored again they are good."""
    with World(guests={"g0": {"quota": "16M", "replicas": 2}}) as world:
        guest = world.guest()
        guest.ask("fill 0 2048 1")
        guest.ask("discard 500 700")
        guest.ask("absent 500 700")
        guest.ask("verify 0 500 1")
        guest.ask("verify 1200 848 1")
        guest.ask("fill 600 100 2")
        guest.ask("verify 600 100 2")
        guest.ask("absent 500 100")
        held = sum(s["pages_held"] for server in world.servers for s in server.sessions())
        equal(held, 2 * (2048 - 600), "pages that donors hold")


@test
def lanes_and_small_rings():
    """Eight lanes, and rings of the smallest useful size, under load."""
    with World(guests={"g0": {"quota": "32M", "replicas": 1}}) as world:
        for options in (("--store-lanes", "4", "--fetch-lanes", "4"), ("--ring-order", "18")):
            guest = world.guest("g0", *options)
            guest.ask("churn 5 0 4096 256")
            until(lambda: guest.stat()["fetches"] > 10000 // SLOW, "load")
            stat = guest.stat("stop")
            equal((stat["wrong"], stat["errors"]), (0, 0), "wrong, errors")
            guest.ask("check")
            guest.ask("detach 30000")
            guest.end()


@test
def detach_frees():
    """A guest that detaches leaves no session and no page at any donor; its next session is empty."""
    with World(donors=3, guests={"g0": {"quota": "32M", "replicas": 2}}) as world:
        guest = world.guest()
        first = guest.ask("status")["session"]
        guest.ask("fill 0 4096 1")
        check(all(used for used in world.pages_used()), "every donor holds something")
        guest.ask("detach 30000")
        until(lambda: world.pages_used() == [0, 0, 0], "donors hold no page")
        until(lambda: sum(world.sessions()) == 0 or guest.attach(), "no session")
        guest.attach()
        check(guest.ask("status")["session"] != first, "a new session")
        guest.ask("absent 0 100")
        equal(world.relay.counters()["detaches"], 1, "detaches counted")


@test
def vanished_guest_frees():
    """A guest that shuts down or crashes leaves nothing at the donors; one that suspends keeps its pages."""
    with World(guests={"g0": {"quota": "16M", "replicas": 2}}) as world:
        for how in ("shutdown", "crash"):
            guest = world.guest()
            guest.ask("fill 0 1000 1")
            check(world.pages_used() != [0, 0], "pages are held")
            guest.end(how)
            until(lambda: world.pages_used() == [0, 0] and sum(world.sessions()) == 0, f"freed after {how}")
        guest = world.guest()
        guest.ask("fill 0 1000 1")
        guest.end("suspend")
        until(lambda: not world.relay.ask("guests"), "the relay has seen the end")
        check(all(used >= 1000 for used in world.pages_used()), f"pages kept over suspend: {world.pages_used()}")
        equal(sum(world.sessions()), 2, "sessions kept over suspend")


@test
def quota():
    """A guest that wants more than its quota gets its quota; one that wants less gets that."""
    with World(guests={"g0": {"quota": "16M", "replicas": 1}}) as world:
        guest = world.guest("g0", "--slots", "1000000")
        equal(guest.ask("status")["slots"], "4096", "slots granted of a million")
        guest.ask("fill 0 4096 1")
        guest.ask("verify 0 4096 1")
        guest.ask("detach 30000")
        guest.end()
        guest = world.guest("g0", "--slots", "1500")
        slots = int(guest.ask("status")["slots"])
        check(1500 <= slots <= 2048, f"slots granted of 1500: {slots}")


@test
def no_room():
    """An attach that donors cannot hold is refused or made smaller, with a reason; what is granted can be filled to the last page."""
    with World(donors=2, memory="24M", guests={"g0": {"quota": "256M", "replicas": 2}}) as world:
        guest = world.guest("g0", "--slots", "65536", attach=False)

        def answered():
            """Where the donors are slow to answer the relay says nothing of room yet, but to ask again later."""
            said = guest.ask_raw(f"wait {PATIENCE * 1000}")
            return None if "ask again later" in said else said
        answer = until(answered, "a final answer")
        if answer.startswith("ok"):
            slots = int(guest.ask("status")["slots"])
            check(slots < 6144, f"{slots} slots granted of 2 x 24 MiB with two copies")
            guest.ask(f"fill 0 {slots} 1")
            guest.ask(f"verify 0 {slots} 1")
            check(f"wanted_pages=65536 granted_pages={slots}" in world.relay.log(), "the relay's log says that it is less, and of what")
        else:
            check("no room" in answer, f"the reason says that there is no room: {answer}")
            check(world.relay.counters()["attach_refused"] > 0, "the refusal is counted")


@test
def not_allowed():
    """A guest that the configuration does not name is refused with a reason; donors never hear of it."""
    with World() as world:
        guest = world.guest("stranger", attach=False)
        until(lambda: "not allowed" in guest.ask_raw("status"), "the guest is told")
        check("guest-refused" in world.relay.log(), "the refusal is logged")
        equal(world.sessions(), [0, 0], "sessions at donors")
        equal(world.relay.ask("guests"), [], "guests of the relay")


@test
def by_uuid():
    """A guest that is allowed by its UUID is served under any name; the same name with another UUID is not."""
    uuid = "6e1f2a10-4c5b-4e6f-9a1b-0c2d3e4f5a6b"
    with World(guests={"some": {"uuid": uuid, "quota": "16M", "replicas": 1}}) as world:
        world.guest("any-name", "--uuid", uuid).ask("fill 0 10 1")
        other = world.guest("some", attach=False)
        until(lambda: "not allowed" in other.ask_raw("status"), "the other is told")


def refused(program, text, *wanted):
    path = os.path.join(os.environ.get("MEMX_TMP", "/tmp"), f"wrong-{os.getpid()}.conf")
    with open(path, "w") as file:
        file.write(text)
    done = subprocess.run([os.path.join(BIN, program), "--config", path, "--check"], capture_output=True, text=True, timeout=60)
    os.unlink(path)
    equal(done.returncode, 2, f"exit status for {text!r} ({done.stderr.strip()})")
    equal(len(done.stderr.strip().splitlines()), 1, f"lines on stderr for {text!r}")
    for part in (path, *wanted):
        check(part in done.stderr, f"{part!r} is named: {done.stderr.strip()}")


@test
def relay_settings():
    """Mistakes in the relay's settings: one line with file, line, key and what is accepted, exit status 2."""
    good = "[relay]\nxenstore = no\nshm = /tmp/x\n[donor d0]\naddress = 127.0.0.1:7000\n[guest g]\nquota = 1G\n"
    refused("memx-dom0-relay", good.replace("address", "adress"), ":5:", "adress", "accepted", "address")
    refused("memx-dom0-relay", good.replace("7000", "70000"), ":5:", "address", "accepted")
    refused("memx-dom0-relay", good.replace("1G", "lots"), ":7:", "quota", "accepted")
    refused("memx-dom0-relay", good.replace("quota = 1G", "name = x"), "quota")
    refused("memx-dom0-relay", good + "replicas = 9\n", ":8:", "replicas", "accepted")
    refused("memx-dom0-relay", good + "[nonsense]\n", ":8:", "nonsense", "accepted")
    refused("memx-dom0-relay", good.replace("xenstore = no", "xenstore = maybe"), ":2:", "xenstore", "accepted")
    refused("memx-dom0-relay", good + "[donor d0]\naddress = 127.0.0.1:7001\n", "d0")
    refused("memx-dom0-relay", good + "[donor d1]\naddress = 127.0.0.1:7000\n", "address", "d0")
    refused("memx-dom0-relay", good + "[guest h]\nuuid = 123\nquota = 1G\n", ":9:", "uuid", "accepted")


@test
def server_settings():
    """Mistakes in the server's settings: one line with file, line, key and what is accepted, exit status 2."""
    good = "[server]\nlisten = 127.0.0.1:0\nmemory = 64M\n"
    refused("memx-server", good.replace("memory", "memroy"), ":3:", "memroy", "accepted", "memory")
    refused("memx-server", good.replace("64M", "much"), ":3:", "memory", "accepted")
    refused("memx-server", good.replace("127.0.0.1:0", "nowhere"), ":2:", "listen", "accepted")
    refused("memx-server", good + "domain = a b\n", "domain", "accepted")
    refused("memx-server", good + "lock = perhaps\n", ":4:", "lock", "accepted", "try")
    refused("memx-server", good + "[other]\n", ":4:", "other", "accepted")


if __name__ == "__main__":
    sys.exit(main())
