#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A donor that lies, beside two honest ones, behind a relay that serves guests.

Two guests keep two copies: whatever the donor does, they read everything right, and no operation of theirs fails. A third one
keeps a single copy, some of them with the liar: it may be told of an error or made to wait, but nothing wrong is served to it.
The reason is logged and counted. One relay for all tricks: what one of them leaves behind, the next ones would meet.
"""

import os
import subprocess
import sys
import time

from native import BIN, PATIENCE, Failed, Relay, Server, World, _child, check, equal, main, test, until

BAD, BROKEN, LOST, NEW = "bad_pages", "donor_violations", "donor_losses", "donor_new_instances"
# What the relay counts each trick as: one of these goes up. () where there is nothing to count: no harm, or honest by its shape.
TRICKS = {
    "wrong_bytes": (BAD,), "one_bit": (BAD,), "zeros": (BAD,), "old_page": (BAD,), "old_page_new_trailer": (BAD,),
    "swapped_pages": (BAD,), "swapped_whole": (BAD,), "wrong_version": (BAD,), "sealed": (),
    "wrong_slot": (BROKEN,), "wrong_extent": (BROKEN,), "wrong_count": (BROKEN,), "page_cut": (BROKEN,), "page_more": (BROKEN,),
    "page_absent": (), "page_odd_status": (),
    "frame_cut": (BROKEN, LOST), "len_more": (BROKEN,), "len_less": (BROKEN,), "len_huge": (BROKEN,), "len_all_ones": (BROKEN,),
    "magic": (BROKEN,), "flags": (BROKEN,), "op": (BROKEN,), "not_a_reply": (BROKEN,),
    "twice": (BROKEN,), "thrice_later": (BROKEN,), "unknown_tag": (BROKEN,), "tag_zero": (BROKEN,), "tag_of_another": (BROKEN, BAD),
    "silent": (LOST,), "silent_fetch": (LOST,), "silent_store": (LOST,), "late": (),
    "store_fenced": (), "store_superseded": (), "store_old": (), "store_nospace": (),
    "fetch_fenced": (), "fetch_superseded": (), "fence_fenced": (), "fence_superseded": (),
    "store_absent": (), "store_invalid": (BROKEN,), "store_unknown": (), "store_generation": (), "store_corrupt": (),
    "store_partial": (BROKEN,), "store_again": (BROKEN,), "store_garbage_status": (BROKEN,),
    "fetch_absent": (), "fetch_version": (), "fetch_unknown": (), "fetch_again": (), "fetch_garbage_status": (),
    "place_refused": (BROKEN,), "place_absent": (), "place_nospace": (), "place_generation": (), "place_body": (BROKEN,),
    "fence_unknown": (), "fence_handle0": (BROKEN,), "fence_numbers": (), "fence_cut": (BROKEN,),
    "list_empty": (), "list_ghosts": (), "list_future": (), "list_down": (BROKEN,), "list_endless": (BROKEN, LOST),
    "list_count": (BROKEN,), "scan_empty": (), "scan_future": (), "scan_gone": (),
    "hello_id": (), "hello_instance": (NEW,), "hello_role": (BROKEN,), "hello_proto": (BROKEN,), "hello_cut": (BROKEN,),
    "hello_nobody": (BROKEN,), "hello_silent": (LOST,),
    "stat_huge": (), "stat_full": (), "stat_draining": (), "stat_domain": (), "stat_cut": (BROKEN,),
    "ask_flood": (), "ping_flood": (), "requests": (BROKEN,), "garbage": (BROKEN,), "drip": (),
    "hang_up": (LOST,), "hang_up_midway": (LOST,),
}
# Played from the first word of a new connection on.
FROM_THE_START = ("hello_", "fence_", "list_")
# Played by a donor that is trusted with copies: the relay is a new one, and copies were moved there. Others are shunned soon.
TRUSTED = ("list_", "place_", "scan_", "fence_", "store_", "fetch_", "hang_up")
# Played while copies move there, and away from there.
WHILE_MOVING = ("place_", "scan_")
ENOUGH = 20         # answers spoiled
WORLD = None


class Liar:
    """memx-hostile-donor before an honest server. To the relay it is a donor like others."""

    def __init__(self, folder, server):
        self.name, self.server, self.folder = server.name, server, folder
        self.errors = open(os.path.join(folder, "liar.log"), "ab")
        self.process = subprocess.Popen([os.path.join(BIN, "memx-hostile-donor"), str(server.port)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, preexec_fn=_child)
        self.port = int(self.hear().split()[1])

    def hear(self):
        line = self.process.stdout.readline()
        check(line, f"the hostile donor ended with {self.process.poll()}")
        return line.strip()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.hear()
        check(answer.startswith("ok"), f"{line}: {answer}")
        return {key: int(value) for key, value in (pair.split("=") for pair in answer.split()[1:])}

    def spoiled(self):
        return self.ask("stat")["spoiled"]

    def stop(self):
        self.process.stdin.close()
        status = self.process.wait(PATIENCE)
        self.errors.close()
        if status:
            with open(self.errors.name, errors="replace") as file:
                raise Failed(f"the hostile donor ended with {status}: {file.read()[-1000:]}")


class LyingWorld(World):
    def __init__(self):
        import tempfile
        self.folder = tempfile.mkdtemp(prefix="t-", dir=os.environ.get("MEMX_TMP"))
        self.servers = [Server(self.folder, f"d{i}", "64M").start() for i in range(3)]
        self.liar = Liar(self.folder, self.servers[0])
        guests = {name: {"quota": "8M", "replicas": 2} for name in ("g0", "g1")}
        guests["single"] = {"quota": "4M", "replicas": 1}
        self.relay = Relay(self.folder, [self.liar, *self.servers[1:]], guests, extent="256K", heartbeat="50ms", donor_timeout="400ms",
                           donor_dead="800ms", connect_retry="50ms", repair_rate="64M").start()
        self.guests = []
        self.safe = [self.guest("g0"), self.guest("g1")]
        self.single = self.guest("single")
        for number, guest in enumerate(self.safe):
            guest.ask(f"churn {number + 1} 0 2048 32 50 8 4000")
        self.single.ask("churn 9 0 1024 32 50 8 1000")

    def usable(self):
        return all(donor["state"] == "usable" for donor in self.relay.ask("donors"))

    def drain(self, name, on):
        self.relay.ask("drain", donor=name, on=on)

    def copies(self):
        """Of extents, that the liar is trusted with."""
        return [donor["extents"] for donor in self.relay.ask("donors") if donor["name"] == "d0"][0]

    def trust(self):
        """A relay that does not remember, and copies of every guest at the liar."""
        self.relay.stop()
        self.relay.start()
        until(self.usable, "donors are there for the new relay")
        for guest in self.guests:
            guest.attach()
        self.drain("d1", True)
        until(lambda: self.copies() >= 8, "copies at the hostile donor")
        self.drain("d1", False)


def world():
    global WORLD
    if not WORLD:
        WORLD = LyingWorld()
        until(lambda: all(guest.stat()["fetches"] > 500 for guest in WORLD.safe), "load")
    return WORLD


def failed():
    """Wrong pages and operations that failed, of the guests with two copies."""
    return [(stat["wrong"], stat["errors"]) for stat in (guest.stat() for guest in WORLD.safe)]


def unharmed(what, before):
    equal(failed(), before, f"{what}: wrong pages and errors of g0 and g1")
    stat = WORLD.single.stat()
    equal(stat["wrong"], stat["lost"], f"{what}: pages served wrong to the guest with one copy, beside those that are gone")
    check(WORLD.relay.running, f"{what}: the relay runs")
    check(WORLD.liar.process.poll() is None, f"{what}: the hostile donor runs")


def progress(what):
    before = [guest.stat()["fetches"] for guest in WORLD.safe]
    for guest, fetches in zip(WORLD.safe, before):
        until(lambda guest=guest, fetches=fetches: guest.stat()["fetches"] > fetches + 50, f"{what}: {guest.name} goes on")


def lie(trick, victim):
    """Until it lied often enough; some are shunned so well that they get to do so once or twice only."""
    w = WORLD
    w.liar.ask(f"{'drop ' if trick.startswith(FROM_THE_START) else ''}play {trick} {victim}")
    if trick.startswith(WHILE_MOVING):
        w.drain("d1", True)
    begun = time.monotonic()
    while w.liar.spoiled() < ENOUGH and time.monotonic() < begun + (0.4 if w.liar.spoiled() else 4):
        time.sleep(0.02)
    if trick.startswith(WHILE_MOVING):
        w.drain("d1", False)
        w.drain("d0", True)
        time.sleep(0.3)
        w.drain("d0", False)
    return w.liar.spoiled()


def play(trick, expected):
    w = world()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        w.liar.ask("drop play honest")
        if trick.startswith(TRUSTED):
            w.trust()
        until(w.usable, f"{trick}: donors are there before")
        before, said, fails = w.relay.counters(), len(w.relay.log()), failed()
        # What the liar had may have been moved away, by the rules, before it came to lie about it.
        if lie(trick, [donor["id"] for donor in w.relay.ask("donors") if donor["name"] == "d1"][0]):
            break
    else:
        raise Failed(f"{trick}: nothing was spoiled")
    progress(trick)
    unharmed(trick, fails)
    if expected:
        until(lambda: any(w.relay.counters()[name] > before[name] for name in expected), f"{trick}: counted as {expected}")
        # Lines are limited, and the tricks before may have used up what there was: then the next time is said.
        until(lambda: "donor=d0" in w.relay.log()[said:], f"{trick}: said in the log")


def tests_of_tricks():
    for trick, expected in TRICKS.items():
        def run(trick=trick, expected=expected):
            play(trick, expected)

        run.__name__ = trick
        shown = f"counted under {' or '.join(expected)}" if expected else "no harm done"
        run.__doc__ = f"A donor's trick {trick}: {shown}; guests with two copies notice nothing"
        test(run)


tests_of_tricks()


@test
def all_is_right_in_the_end():
    """After all tricks every page of the guests with two copies is right, and the one with a single copy has none that is wrong."""
    w = world()
    w.liar.ask("drop play honest")
    until(w.usable, "donors are there")
    for guest in w.safe:
        equal(guest.stat("stop")["wrong"], 0, f"{guest.name}: wrong pages")
        guest.ask("check")
    stat = w.single.stat()
    equal(stat["wrong"], stat["lost"], "wrong pages of the guest with one copy")
    w.single.kill()


if __name__ == "__main__":
    code = main()
    if WORLD:
        try:
            WORLD.liar.stop()
            WORLD.__exit__(None, None, None)
        except Exception as problem:  # said on stderr, shown by the exit status
            print(problem, file=sys.stderr)
            code = 1
    sys.exit(code)
