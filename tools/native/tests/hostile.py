#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A guest that keeps no rule against a relay that serves another one: the trick ends as it should, the other notices nothing.

One relay for all tricks: what one of them leaves behind, the next ones and the load beside them would meet.
"""

import os
import signal
import subprocess
import sys

from native import BIN, PATIENCE, World, check, equal, main, test, until

# What comes of each trick, and what the relay counts it as.
CLOSED, REFUSED, UNCOUNTED = "closed", "refused", None
TRICKS = {
    "prod_far": CLOSED, "prod_back": CLOSED, "cons_far": CLOSED, "orders": "alive", "live_flap": CLOSED,
    "notify_storm": "alive",
    "magic": CLOSED, "len_huge": CLOSED, "len_ring": CLOSED, "flags": CLOSED, "status": CLOSED, "ping_body": CLOSED,
    "unknown_op": "answered OP", "before_hello": CLOSED, "before_attach": CLOSED, "store_on_fetch_lane": CLOSED,
    "fetch_on_store_lane": CLOSED, "epoch_old": CLOSED, "epoch_new": CLOSED, "hello_nonce": CLOSED,
    "hello_lanes": CLOSED, "hello_kinds": CLOSED, "hello_again": CLOSED,
    "count0": CLOSED, "count33": CLOSED, "count_more": CLOSED, "extent": CLOSED, "slot": CLOSED, "slot_beyond": CLOSED,
    "slot_twice": CLOSED, "slot_down": CLOSED, "version0": CLOSED, "check": "answered CORRUPT",
    "session_handle": "answered OK", "fetch_absent": "answered ABSENT", "fetch_version": "answered VERSION",
    "store_old": "answered OLD", "torn_page": "alive", "changing_bytes": "alive",
    "racing_headers": CLOSED, "half_open": "held", "overdraft": CLOSED,
    "overdraft_pages": CLOSED, "ping_flood": CLOSED, "record_unanswered": "alive", "record_tag": CLOSED,
    "record_no": CLOSED, "record_long": CLOSED, "answer_unasked": CLOSED,
    "attach_twice": CLOSED, "attach_fetch_lane": CLOSED, "map_unasked": CLOSED, "map_endless": CLOSED,
    "map_unknown_donor": "answered NODONOR", "map_invalid": ("answered INVALID", CLOSED),
    "map_dead": ("answered INVALID", CLOSED), "map_extent": ("answered INVALID", CLOSED),
    "steal": "nothing to steal", "detach_epoch": CLOSED, "detach_early": CLOSED, "slots_huge": "answered OK",
    "offer_small": REFUSED, "offer_unsealed": REFUSED, "offer_orders": REFUSED, "offer_garbage": "socket closed",
    "offer_storm": "sent", "garbage": CLOSED,
}
# Closed for another reason than a broken rule of the protocol.
NO_VIOLATION = {"live_flap"}
NOISE = 20

WORLD = None
VICTIM = None


def world():
    """The relay, its donors and the guest that must notice nothing: made for the first trick."""
    global WORLD, VICTIM
    if not WORLD:
        guests = {"g0": {"quota": "16M", "replicas": 2}, "evil": {"quota": "8M", "replicas": 1}}
        WORLD = World(donors=2, guests=guests, extent="256K").__enter__()
        VICTIM = WORLD.guest("g0")
        VICTIM.ask("churn 1 0 4096 64")
    return WORLD


def unharmed(lost="0"):
    before = VICTIM.stat()
    equal((before["wrong"], before["errors"]), (0, 0), "the other guest's wrong pages, errors")
    until(lambda: VICTIM.stat()["fetches"] > before["fetches"] + 100, "the other guest goes on")
    check(WORLD.relay.running, "the relay runs")
    counters = VICTIM.ask("counters")
    equal(counters["violations"], "0", "violations that the other guest counts")
    check(counters["lost"] == "0" or lost != "0", "the other guest's channel was lost")


def stolen_record():
    """What the hostile guest knows of the other one: all that its map says."""
    session = VICTIM.ask("status")["session"]
    records = until(lambda: VICTIM.ask_raw("records").split()[1:], "the other guest has a map")
    extent, generation, donor = records[0].split("/")[0].split(":")[:3]
    return f"{session}:{extent}:{generation}:{donor}"


def play(trick, seed=1, victim=None):
    arguments = [os.path.join(BIN, "memx-hostile"), WORLD.relay.shm, "g0" if trick == "clone" else "evil", trick, str(seed)]
    if trick == "steal":
        victim = stolen_record()
    if victim:
        arguments.append(victim)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=2 * PATIENCE)
    return done.stdout.strip() or f"status {done.returncode}: {done.stderr.strip()}"


def one(trick, wanted, seed=1):
    relay = world().relay
    before = relay.counters()["violations"]
    said = len(relay.log())
    outcome = play(trick, seed)
    wants = wanted if isinstance(wanted, tuple) else (wanted,)
    check(outcome.startswith(wants), f"{trick} {seed}: {outcome}, wanted {' or '.join(wants)}")
    if outcome == CLOSED and trick not in NO_VIOLATION:
        until(lambda: relay.counters()["violations"] > before, f"{trick}: counted as violation", 5)
        check("guest-violation" in relay.log()[said:] or before > 10, f"{trick}: the reason is logged: {relay.log()[said:]}")
    if outcome.startswith(REFUSED):
        check("guest-refused" in relay.log()[said:], f"{trick}: the refusal is logged")
    unharmed()


def tests_of_tricks():
    for trick, wanted in TRICKS.items():
        def run(trick=trick, wanted=wanted):
            one(trick, wanted)

        run.__name__ = trick
        shown = wanted if isinstance(wanted, str) else " or ".join(wanted)
        run.__doc__ = f"A guest's trick {trick}: {shown}; the other guest notices nothing"
        test(run)


tests_of_tricks()


@test
def noise():
    """Random changes to frames in good order: closed every time, or harmless; the other guest notices nothing."""
    for number in range(1, NOISE + 1):
        one("noise", CLOSED, number)


@test
def clone():
    """A clone of a guest with a foreign lineage is told that it is superseded; the one that owns the session goes on."""
    world()
    victim_map = stolen_record()
    # It says that it is the same guest, so its offer replaces the other one's: which must not be quicker to come back.
    VICTIM.process.send_signal(signal.SIGSTOP)
    outcome = play("clone", 1, victim_map)
    VICTIM.process.send_signal(signal.SIGCONT)
    equal(outcome, "answered SUPERSEDED", "clone")
    unharmed("any")


@test
def nothing_is_left():
    """After all tricks the other guest's pages are right, and donors hold nothing but them."""
    stat = world() and VICTIM.stat("stop")
    equal((stat["wrong"], stat["errors"]), (0, 0), "wrong, errors")
    VICTIM.ask("check")
    session = VICTIM.ask("status")["session"]
    until(lambda: all([s["session"] for s in server.sessions()] == [session] for server in WORLD.servers),
          "only the session of the other guest")
    until(lambda: len(WORLD.relay.ask("guests")) == 1, "one guest left")
    VICTIM.end()
    until(lambda: WORLD.pages_used() == [0, 0], "donors hold nothing")


if __name__ == "__main__":
    code = main()
    if WORLD:
        try:
            WORLD.__exit__(None, None, None)
        except Exception as problem:  # said on stderr, shown by the exit status
            print(problem, file=sys.stderr)
            code = 1
    sys.exit(code)
