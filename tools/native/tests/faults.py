#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Relay, donors and guests killed, stopped and restarted under verified load: nothing is lost, nothing is wrong.

$MEMX_SEED repeats a run's order of faults; the seed is printed.
"""

import random
import select
import signal
import sys
import time

from native import SLOW, World, check, equal, main, seed, test, until

ROUNDS = 12


def load(guest, number, slots=4096, depth=96):
    guest.ask(f"churn {number} 0 {slots} {depth}")


def moved(guest, operations=500):
    """Waits until the load has gone on by so many operations."""
    before = guest.stat()
    until(lambda: sum(guest.stat()[k] - before[k] for k in ("stores", "fetches")) > operations, f"{guest.name} goes on")


def finish(guest):
    stat = guest.stat("stop")
    equal((stat["wrong"], stat["errors"]), (0, 0), f"{guest.name}: wrong, errors")
    guest.ask("check")
    return stat


def killed_relay(sig, replicas, fill_only=False):
    rng = random.Random(seed())
    guests = {"g0": {"quota": "16M", "replicas": replicas}, "g1": {"quota": "16M", "replicas": replicas}}
    with World(donors=3, guests=guests, extent="256K") as world:
        both = [world.guest("g0"), world.guest("g1")]
        served = 0
        if not fill_only:
            for guest in both:
                load(guest, rng.randrange(1 << 30))
        for number in range(ROUNDS):
            if fill_only:
                for guest in both:
                    guest.say(f"fill 0 4096 {number + 1}")
            # From the first frames of an attach on to full load.
            time.sleep(rng.choice((0.0, 0.002, 0.01, 0.05, 0.2)) * rng.random() * SLOW)
            world.relay.kill(sig)
            time.sleep(rng.choice((0, 0.01, 0.1)))
            world.relay.start()
            if fill_only:
                for guest in both:
                    check(guest.hear().startswith("ok"), f"fill {number} of {guest.name}")
                    guest.ask(f"verify 0 4096 {number + 1}")
                served += 1
            elif rng.random() < 0.7:
                for guest in both:
                    moved(guest)
                served += 1
        for guest in both:
            if fill_only:
                guest.ask(f"verify 0 4096 {ROUNDS}")
            else:
                finish(guest)
            # A relay that is gone again before a guest came to it leaves no trace; one that served has raised the epoch.
            check(int(guest.ask("status")["epoch"]) >= max(2, served), f"the epoch rose with each of {served} relays that served")
            equal(guest.ask("counters")["violations"], "0", "violations by the relay")
        equal(world.relay.counters()["violations"], 0, "violations by guests")


@test
def relay_killed_one_copy():
    """Relay killed and started again under load, one copy: nothing lost, nothing wrong."""
    killed_relay(signal.SIGKILL, 1)


@test
def relay_killed_two_copies():
    """Relay killed and started again under load, two copies: nothing lost, nothing wrong."""
    killed_relay(signal.SIGKILL, 2)


@test
def relay_killed_filling():
    """Relay killed while memory is filled and read back in turns."""
    killed_relay(signal.SIGKILL, 2, fill_only=True)


@test
def relay_restarted():
    """Relay ended in good order and started again under load."""
    killed_relay(signal.SIGTERM, 2)


@test
def relay_stopped():
    """Relay stopped for longer than every deadline and continued: nobody is judged by its lateness."""
    with World(donors=2, guests={"g0": {"quota": "16M", "replicas": 2}}, donor_timeout="1s") as world:
        guest = world.guest()
        load(guest, 1)
        for _ in range(3):
            moved(guest)
            world.relay.kill(signal.SIGSTOP)
            time.sleep(3)
            world.relay.kill(signal.SIGCONT)
        moved(guest)
        finish(guest)
        equal(world.relay.counters()["replicas_dropped"], 0, "replicas dropped")
        equal(world.relay.counters()["violations"], 0, "violations")


@test
def donor_killed():
    """A donor killed under load with two copies: reads and writes go on, every page is right."""
    rng = random.Random(seed())
    with World(donors=3, guests={"g0": {"quota": "16M", "replicas": 2}}, extent="256K") as world:
        guest = world.guest()
        guest.ask("churn 7 0 4096 96 60")
        moved(guest, 6000)
        world.servers[rng.randrange(3)].kill()
        moved(guest, 3000)
        finish(guest)
        equal(world.relay.counters()["extents_lost"], 0, "extents lost")


@test
def donor_killed_reads():
    """A donor killed while nothing is written: every page can be read from the other copy."""
    with World(donors=2, guests={"g0": {"quota": "16M", "replicas": 2}}, extent="256K") as world:
        guest = world.guest()
        guest.ask("fill 0 4096 1")
        world.servers[0].kill()
        guest.ask("verify 0 4096 1")


@test
def donor_lost_one_copy():
    """The only copy dies with its donor: those pages fail, no other bytes come in their place, all others are right."""
    with World(donors=2, guests={"g0": {"quota": "16M", "replicas": 1}}, extent="256K") as world:
        guest = world.guest("g0", "--deadline", "3000")
        guest.ask("fill 0 4096 1")
        world.servers[0].kill()
        world.servers[0].start()
        good = bad = 0
        for first in range(0, 4096, 64):
            answer = guest.ask_raw(f"verify {first} 64 1")
            check("wrong bytes" not in answer, answer)
            good += answer.startswith("ok")
            bad += answer.startswith("error")
            if bad >= 3 and good:
                break
        check(good and bad, f"extents read: {good} good, {bad} failed")
        # What is lost is lost; what is stored anew is good.
        guest.ask("fill 0 4096 2")
        guest.ask("verify 0 4096 2")


@test
def donor_away_one_copy():
    """The only copy's donor is cut off and comes back: requests wait for it, nothing fails."""
    with World(donors=1, guests={"g0": {"quota": "16M", "replicas": 1}}) as world:
        guest = world.guest()
        load(guest, 3)
        for _ in range(3):
            moved(guest)
            world.servers[0].kill(signal.SIGSTOP)
            time.sleep(2.5)
            world.servers[0].kill(signal.SIGCONT)
        moved(guest)
        finish(guest)


@test
def stuck_extent_holds_nobody_up():
    """A store that waits for its donor is alone in that: one to an extent at another donor ends, on the same lane."""
    with World(donors=2, guests={"g0": {"quota": "16M", "replicas": 1}}, extent="256K") as world:
        guest = world.guest()
        guest.ask("fill 0 4096 1")
        away = next(donor["id"] for donor in world.relay.ask("donors") if donor["name"] == "d0")
        places = [record.split(":") for record in guest.ask_raw("records").split()[1:]]
        there = next(int(extent) for extent, _, copy in places if copy.split("/")[0] != away)
        stuck = next(int(extent) for extent, _, copy in places if copy.split("/")[0] == away)
        guest.ask(f"discard {stuck * 64} 64")
        world.servers[0].kill(signal.SIGSTOP)
        guest.ask(f"churn 1 {stuck * 64} 64 1 100 1")       # one store at a time
        waits = until(lambda: [stat for stat in [guest.stat()] if stat["oldest_us"] > 100000], "a store waits")[0]
        guest.say(f"fill {there * 64} 1 2")
        until(lambda: select.select([guest.process.stdout], [], [], 0)[0], "the other store ends")
        check(guest.hear().startswith("ok"), "the other store is good")
        equal((guest.stat()["stores"], guest.stat()["in_flight"]), (waits["stores"], 1), "stores of the stuck extent, under way")
        world.servers[0].kill(signal.SIGCONT)
        finish(guest)
        guest.ask(f"verify {there * 64} 1 2")


@test
def guests_come_and_go():
    """Guests that crash, detach and come again beside one that stays: it notices nothing, donors keep only its pages."""
    rng = random.Random(seed())
    guests = {f"g{i}": {"quota": "16M", "replicas": 2} for i in range(4)}
    with World(donors=2, guests=guests, extent="256K") as world:
        stays = world.guest("g0")
        load(stays, 9, 2048)
        for number in range(ROUNDS):
            guest = world.guest(f"g{1 + number % 3}")
            load(guest, rng.randrange(1 << 30), 2048)
            moved(guest, 200)
            how = rng.choice(("kill", "crash", "shutdown", "detach"))
            if how == "kill":
                guest.kill()
            elif how == "detach":
                stat = guest.stat("stop")
                equal((stat["wrong"], stat["errors"]), (0, 0), "wrong, errors")
                guest.ask("detach 60000")
                guest.end()
            else:
                guest.end(how)
            world.guests.remove(guest)
        finish(stays)
        until(lambda: world.sessions() == [1, 1], "only the session that stays")
        session = stays.ask("status")["session"]
        for server in world.servers:
            equal([s["session"] for s in server.sessions()], [session], "session held")


@test
def suspended_and_resumed():
    """A guest that is resumed with a new lineage goes on with its pages."""
    with World(guests={"g0": {"quota": "16M", "replicas": 2}}) as world:
        guest = world.guest()
        load(guest, 4)
        for _ in range(5):
            moved(guest)
            guest.ask("resume")
        moved(guest)
        finish(guest)


def whole(world, donors):
    """All donors are there, and every extent has all its copies."""
    status = world.relay.ask("status")
    return status["attached"] == 1 and status["donors_up"] == donors and status["degraded_extents"] == 0


def dropped(world):
    return world.relay.counters()["donor_losses"]


@test
def donors_killed_one_after_the_other():
    """Donors killed one after the other, each after the copies were rebuilt: as many failures as wanted are survived."""
    rng = random.Random(seed())
    with World(donors=3, guests={"g0": {"quota": "16M", "replicas": 2}}, extent="256K", connect_retry="50ms") as world:
        guest = world.guest()
        load(guest, rng.randrange(1 << 30))
        for _ in range(ROUNDS):
            moved(guest)
            losses = dropped(world)
            victim = rng.choice(world.servers)
            victim.kill()
            until(lambda: dropped(world) > losses, "the relay notices")
            if rng.random() < 0.5:
                until(lambda: whole(world, 2), "copies are rebuilt on the two that are left")
            victim.start()
            until(lambda: whole(world, 3), "copies are rebuilt")
        stat = finish(guest)
        check(stat["longest_us"] < 1000000 * SLOW, f"longest stall {stat['longest_us']} us")
        equal(world.relay.counters()["extents_lost"], 0, "extents lost")


@test
def relay_killed_while_repairing():
    """The relay killed while copies are rebuilt: its successor goes on from the guest's map."""
    rng = random.Random(seed())
    with World(donors=3, guests={"g0": {"quota": "16M", "replicas": 2}}, extent="256K", connect_retry="50ms") as world:
        guest = world.guest()
        load(guest, rng.randrange(1 << 30))
        for _ in range(ROUNDS // 2):
            moved(guest)
            losses = dropped(world)
            victim = rng.choice(world.servers)
            victim.kill()
            until(lambda: dropped(world) > losses, "the relay notices")
            victim.start()
            time.sleep(rng.random() * 0.1)
            world.relay.kill()
            world.relay.start()
            until(lambda: whole(world, 3), "copies are rebuilt")
        finish(guest)


@test
def relay_and_donors_by_turns():
    """Relay killed, donors stopped beyond their deadline, by turns and together: requests wait, nothing is lost."""
    rng = random.Random(seed())
    with World(donors=3, guests={"g0": {"quota": "16M", "replicas": 2}}, extent="256K", connect_retry="50ms") as world:
        guest = world.guest()
        load(guest, rng.randrange(1 << 30))
        for _ in range(ROUNDS):
            moved(guest)
            stopped = rng.choice(world.servers)
            kind = rng.randrange(3)
            if kind:
                stopped.kill(signal.SIGSTOP)
                time.sleep(rng.random() * 2)
            if kind != 1:
                world.relay.kill()
                world.relay.start()
                time.sleep(rng.random() / 2)
            stopped.kill(signal.SIGCONT)
        moved(guest)
        finish(guest)


if __name__ == "__main__":
    sys.exit(main())
