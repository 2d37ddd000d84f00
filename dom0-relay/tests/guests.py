#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Relay, servers and guests together over shared memory, as real processes: pages, ends, restarts, bad guests. Prints TAP."""

import os
import signal
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster, check, equal, run, until       # noqa: E402

PAGES = 3000


def cluster(servers=2, **settings):
    c = Cluster()
    for number in range(servers):
        c.server(f"d{number}")
    c.configure(**settings)
    c.relay()
    c.donors_up(servers)
    return c


def sessions_held(c):
    return sum(c.server_status(name)["sessions"] for name in c.servers)


def pages_come_back():
    with cluster() as c:
        guest = c.guest()
        equal(guest.attach()["replicas"], "2", "copies")
        guest.io(f"store 0 {PAGES} 1")
        guest.io(f"fetch 0 {PAGES}")
        guest.io("store 100 700 2")
        guest.io(f"fetch 0 {PAGES}")
        guest.io("discard 200 64")
        guest.io("fetch 200 64", errors=64)
        guest.io("store 200 64 3")
        guest.io(f"fetch 0 {PAGES}")
        for name in c.servers:
            check(c.server_status(name)["pages_used"] >= PAGES, f"{name} holds a copy")
        equal(guest.say("detach"), "ok", "detach")
        until(lambda: sessions_held(c) == 0, "the servers hold nothing any more")


def one_copy():
    with cluster(relay="replicas=1") as c:
        guest = c.guest()
        equal(guest.attach()["replicas"], "1", "copies")
        guest.io(f"store 0 {PAGES} 1")
        guest.io(f"fetch 0 {PAGES}")
        equal(c.counter("stores"), PAGES, "pages stored")


def more_lanes():
    with cluster() as c:
        guest = c.guest()
        check(guest.offer(4).startswith("ok lanes=4"), "four lanes")
        check(guest.say("attach 0").startswith("ok"), "attach")
        guest.io(f"store 0 {PAGES} 1")
        guest.io(f"fetch 0 {PAGES}")


def quota_is_the_limit():
    with cluster(quota="8M") as c:
        equal(c.guest().attach()["slots"], "2048", "slots of a guest that takes what there is")
        other = c.guest()
        check(other.offer().startswith("ok"), "offer")
        answer = other.say("attach 100000")
        check(answer.startswith("ok slots=2048") or answer.startswith("status"), answer)


def quota_changes_with_the_configuration():
    """A guest that was refused for its size is let in once its quota is raised, over the channel that it has."""
    with cluster(quota="8M") as c:
        guest = c.guest()
        check(guest.offer().startswith("ok"), "offer")
        first = guest.say("attach 2048")
        check(first.startswith("ok slots=2048"), first)
        c.configure(quota="16M")
        c.relay_process.signal(signal.SIGHUP)
        until(lambda: c.ctl("guests")[0]["quota_pages"] == 4096, "the quota of the connected guest")
        c.configure(guests=())
        c.relay_process.signal(signal.SIGHUP)
        until(lambda: "guest-disallowed" in c.relay_process.log(), "the guest is no longer allowed")
        guest.io("store 0 100 1")
        guest.io("fetch 0 100")
        check(guest.say("detach").startswith("ok"), "detach")
        until(lambda: guest.say("attach 2048").startswith("status DENIED"), "an attach over the channel that it has is refused")
        equal(guest.offer(), "refused not allowed by the relay's configuration", "its next offer")


def two_guests_do_not_mix():
    with cluster(guests=("g1", "g2")) as c:
        one, two = c.guest("g1"), c.guest("g2")
        one.attach()
        two.attach()
        for number in range(3):
            one.post(f"store 0 {PAGES} {10 + number}")
            two.post(f"store 0 {PAGES} {20 + number}")
            check("errors=0" in one.answer() and "errors=0" in two.answer(), "stores")
        one.io(f"fetch 0 {PAGES}")
        two.io(f"fetch 0 {PAGES}")
        equal(sorted(g["name"] for g in c.ctl("guests")), ["g1", "g2"], "guests")
        equal(len(c.ctl("sessions")), 2, "sessions")


def unknown_guest_is_refused():
    with cluster() as c:
        answer = c.guest("stranger").offer()
        equal(answer, "refused not allowed by the relay's configuration", "answer")
        check('guest-refused name="stranger"' in c.relay_process.log(), "the line in the log")
        equal(c.ctl("guests"), [], "guests")
        with open(c.conf, "a", encoding="ascii") as file:
            file.write("[guest stranger]\nquota=4M\n")
        c.relay_process.signal(signal.SIGHUP)
        equal(c.guest("stranger").attach()["slots"], "1024", "slots once it is allowed")


def guest_by_uuid():
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    with cluster(guests=()) as c:
        with open(c.conf, "a", encoding="ascii") as file:
            file.write(f"[guest any]\nuuid={uuid}\nquota=4M\n")
        c.relay_process.signal(signal.SIGHUP)
        equal(c.guest("whatever", uuid).attach()["slots"], "1024", "slots")


def relay_killed():
    """kill -9 again and again; the map comes back from the guest and nothing is lost."""
    with cluster() as c:
        guest = c.guest()
        guest.attach()
        guest.io(f"store 0 {PAGES} 1")
        for number in range(4):
            c.relay_process.kill()
            c.relay()
            guest.attach()
            guest.io(f"fetch 0 {PAGES}")
            guest.io(f"store {number * 100} 500 {number + 2}")
            guest.io(f"fetch 0 {PAGES}")


def relay_killed_under_way():
    with cluster() as c:
        guest = c.guest()
        guest.attach()
        guest.io(f"store 0 {PAGES} 1")
        guest.post(f"fetch 0 {PAGES}")
        c.relay_process.kill()
        guest.answer()
        c.relay()
        guest.attach()
        guest.io(f"fetch 0 {PAGES}")


def relay_drains_and_restarts():
    with cluster() as c:
        guest = c.guest()
        guest.attach()
        guest.io(f"store 0 {PAGES} 1")
        guest.post(f"fetch 0 {PAGES}")
        equal(c.relay_process.stop(), 0, "exit status")
        guest.answer()
        equal(sessions_held(c), 2, "sessions kept by the servers")
        c.relay()
        guest.attach()
        guest.io(f"fetch 0 {PAGES}")


def ends_of_a_guest():
    """Shutdown frees, suspend keeps."""
    with cluster() as c:
        guest = c.guest()
        guest.attach()
        guest.io(f"store 0 {PAGES} 1")
        equal(guest.say("suspend"), "ok", "suspend")
        equal(guest.say("close"), "ok", "close")
        until(lambda: c.ctl("guests") == [], "the relay saw it go")
        listed = c.ctl("sessions")
        equal([s["attached"] for s in listed], [False], "the session is kept and listed")
        equal(sessions_held(c), 2, "sessions kept by the servers")
        guest.attach()
        guest.io(f"fetch 0 {PAGES}")
        equal(guest.say("shutdown"), "ok", "shutdown")
        equal(guest.say("close"), "ok", "close")
        until(lambda: sessions_held(c) == 0, "the servers freed it")


def session_freed_by_the_admin():
    with cluster() as c:
        guest = c.guest()
        guest.attach()
        guest.io("store 0 100 1")
        session = c.ctl("sessions")[0]
        done = c.memxctl("session", "free", session["vm"], session["session"])
        equal(done.returncode, 1, "exit status while it is attached")
        check("attached" in done.stderr, done.stderr)
        guest.say("suspend")
        guest.say("close")
        until(lambda: not c.ctl("sessions")[0]["attached"], "detached")
        equal(c.memxctl("session", "free", session["vm"], session["session"]).returncode, 0, "exit status")
        until(lambda: sessions_held(c) == 0, "the servers freed it")


def donor_killed():
    with cluster(3) as c:
        guest = c.guest()
        guest.attach()
        guest.io(f"store 0 {PAGES} 1")
        guest.post(f"store 0 {PAGES} 2")
        c.servers["d1"].kill()
        check("errors=0" in guest.answer(), "stores while a donor dies")
        guest.io(f"fetch 0 {PAGES}")
        until(lambda: c.ctl("donors")[0] and sum(d["state"] == "usable" for d in c.ctl("donors")) == 2, "two donors are left")
        check(c.counter("donor_losses") >= 1, "the loss is counted")


def repair_is_shown_and_ends():
    """What is left and how long it takes at the rate that is allowed: while it lasts, at its end, and where nobody has room."""
    rate = 4 << 20
    with cluster(3, relay="repair_rate=4M") as c:
        shown = c.ctl("repair")
        equal((shown["remaining"], shown["seconds_left"], shown["rate"]), (0, 0, rate), "nothing to repair at first")
        guest = c.guest()
        guest.attach()
        guest.io(f"store 0 {PAGES} 1")
        c.servers["d0"].kill()
        guest.io(f"store 0 {PAGES} 2")
        until(lambda: c.ctl("repair")["replicas_repaired"] or c.ctl("repair")["remaining"], "there is something to repair")
        shown = c.ctl("repair")
        equal(shown["seconds_left"], -(-shown["remaining_bytes"] // rate) + shown["wait_seconds"], "time left, of what is left at that rate")
        equal(c.memxctl("--wait", "repair").returncode, 0, "memxctl --wait repair")
        shown = c.ctl("repair")
        equal((shown["remaining"], shown["degraded_extents"], shown["dead_donors"]), (0, 0, ["d0"]), "after repair")
        equal((shown["remaining_bytes"], shown["seconds_left"]), (0, 0), "nothing is left")
        c.servers["d1"].kill()
        guest.io(f"fetch 0 {PAGES}")
        guest.io(f"store 0 {PAGES} 3")
        until(lambda: c.ctl("repair")["stuck_extents"], "no donor has room")
        until(lambda: c.ctl("repair")["seconds_left"] is None, "nobody knows how long that takes")
        done = c.memxctl("--wait", "repair")
        equal((done.returncode, "has room" in done.stderr), (4, True), f"no donor has room: {done.stderr}")


def donor_is_added():
    """A donor that SIGHUP adds takes its share while the guest works; memxctl shows it."""
    with cluster(2) as c:
        guest = c.guest()
        slots = guest.attach()["slots"]
        guest.io(f"store 0 {slots} 1")          # all of it, or what is promised and not used goes there first
        c.server("d9")
        c.configure()
        c.relay_process.signal(signal.SIGHUP)
        until(lambda: any(d["name"] == "d9" and d["extents"] >= 2 for d in c.ctl("donors")), "the new donor has extents")
        guest.io(f"fetch 0 {slots}")
        until(lambda: not c.ctl("status")["moving_extents"], "nothing moves")
        shown = c.ctl("repair")
        equal((shown["remaining"], shown["stuck_extents"], shown["dead_donors"]), (0, 0, []), "nothing is missing")
        check(c.counter("balanced") >= 2, "copies were moved there")
        guest.io(f"fetch 0 {slots}")


def donor_is_drained():
    """It is called empty when it is, and who is told to wait says so or ends with the reason."""
    with cluster(3, relay="repair_rate=8M") as c:
        guest = c.guest()
        guest.attach()
        guest.io(f"store 0 {PAGES} 1")
        check(next(d for d in c.ctl("donors") if d["name"] == "d2")["extents"] > 0, "the donor holds extents")
        done = c.memxctl("drain", "d2")
        equal((done.returncode, done.stderr), (0, ""), "memxctl drain")
        check(done.stdout.startswith("begun: donor d2 has "), done.stdout)
        donor = next(d for d in c.ctl("donors") if d["name"] == "d2")
        check(donor["extents"] and donor["state"] == "emptying", f"it has begun: {donor}")
        done = c.memxctl("--wait", "drain", "d2")
        equal((done.returncode, done.stdout, done.stderr), (0, "donor d2 is emptied: it holds nothing\n", ""), "memxctl --wait drain")
        donor = next(d for d in c.ctl("donors") if d["name"] == "d2")
        equal((donor["extents"], donor["state"]), (0, "emptied"), "the drained donor")
        guest.io(f"fetch 0 {PAGES}")
        c.servers["d2"].kill()
        guest.io(f"fetch 0 {PAGES}")
        equal(c.memxctl("drain", "nobody").returncode, 1, "a donor that is not there")
        done = c.memxctl("--wait", "drain", "d1")
        equal((done.returncode, "has room" in done.stderr), (4, True), f"nobody has room for its copies: {done.stderr}")
        donor = next(d for d in c.ctl("donors") if d["name"] == "d1")
        check(donor["extents"] and donor["state"] == "emptying", f"it is not empty: {donor}")
        equal(c.memxctl("undrain", "d1").returncode, 0, "memxctl undrain")
        equal(next(d for d in c.ctl("donors") if d["name"] == "d1")["state"], "usable", "the drain is taken back")


def donor_comes_back():
    with cluster(1, relay="replicas=1") as c:
        guest = c.guest()
        guest.attach()
        guest.io("store 0 500 1")
        c.servers["d0"].signal(signal.SIGSTOP)
        guest.post("fetch 0 500")
        until(lambda: c.ctl("donors")[0]["state"] != "usable", "the silent donor is dropped")
        c.servers["d0"].signal(signal.SIGCONT)
        check("errors=0" in guest.answer(), "the fetch waits for the only copy and succeeds")


def header(magic=0x584D454D, op=2, flags=0, length=0, status=0, tag=1, epoch=0):
    return struct.pack("<IHHIIQQ", magic, op, flags, length, status, tag, epoch).hex()


def bad_guests_lose_their_channel_alone():
    """Whatever one guest writes into its ring, it is counted and only its own link goes."""
    tricks = {
        "no header": f"raw 0 {header(magic=7)}",
        "longer than any frame": f"raw 0 {header(op=3, length=0x7fffffff)}",
        "longer than the longest body": f"raw 0 {header(op=3, length=131072 + 24 + 32 * 40 + 8)}",
        "unknown flags": f"raw 0 {header(flags=0x8000)}",
        "status in a request": f"raw 0 {header(status=1)}",
        "index beyond the ring": "index 0 0x7fffffff",
        "index backwards": "index 1 0xfffffff0",
        "store before attach": f"raw 0 {header(op=3, length=0)}",
    }
    with cluster(guests=("good", "bad")) as c:
        good = c.guest("good")
        good.attach()
        good.io("store 0 1000 1")
        for number, (what, line) in enumerate(tricks.items(), 1):
            bad = c.guest("bad")
            check(bad.offer().startswith("ok"), f"offer before: {what}")
            good.post("fetch 0 1000")
            equal(bad.say(line), "ok", what)
            equal(bad.say("wait-closed"), "ok", what)
            check("errors=0" in good.answer(), f"the other guest during: {what}")
            until(lambda n=number: c.counter("violations") == n, f"counted: {what}")
            bad.end()
        check(c.relay_process.log().count("guest-violation") == len(tricks), "a line for each")
        good.io("fetch 0 1000")


def partial_frame_harms_nobody():
    """A guest that publishes half a frame and waits holds up itself only."""
    with cluster(guests=("good", "bad")) as c:
        good, bad = c.guest("good"), c.guest("bad")
        good.attach()
        check(bad.offer().startswith("ok"), "offer")
        equal(bad.say(f"raw 0 {header()[:20]}"), "ok", "half a header")
        good.io("store 0 500 1")
        good.io("fetch 0 500")
        check(c.relay_process.alive(), "the relay lives")


def no_frame_is_overlooked():
    """A frame shown while the relay looks for the last time before it sleeps is taken. It needs two processors to bite."""
    with cluster() as c:
        guest = c.guest()
        guest.attach()
        equal(guest.say("volley 300000"), "ok frames=300000", "answers")


def offers_without_end():
    with cluster() as c:
        guest = c.guest()
        for _ in range(60):
            check(guest.offer().startswith("ok"), "offer")
        guest.attach()
        guest.io("store 0 500 1")
        guest.io("fetch 0 500")
        fds = len(os.listdir(f"/proc/{c.relay_process.process.pid}/fd"))
        check(fds < 40, f"{fds} descriptors are open")


def no_donor_yet():
    """The guest is told to come again, and is served once a donor is there."""
    with Cluster() as c:
        c.server("d0")
        c.configure(donors=[], relay="replicas=1")
        c.relay()
        guest = c.guest()
        check(guest.offer().startswith("ok"), "offer")
        check(guest.say("attach 0").startswith("status"), "an attach without donors is refused")
        c.configure(relay="replicas=1")
        c.relay_process.signal(signal.SIGHUP)
        guest.attach()
        guest.io("store 0 100 1")
        guest.io("fetch 0 100")


sys.exit(run([
    pages_come_back, one_copy, more_lanes, quota_is_the_limit, quota_changes_with_the_configuration,
    two_guests_do_not_mix, unknown_guest_is_refused, guest_by_uuid,
    relay_killed, relay_killed_under_way, relay_drains_and_restarts, ends_of_a_guest, session_freed_by_the_admin, donor_killed, repair_is_shown_and_ends, donor_is_added,
    donor_is_drained,
    donor_comes_back, bad_guests_lose_their_channel_alone, partial_frame_harms_nobody, no_frame_is_overlooked,
    offers_without_end, no_donor_yet,
]))
