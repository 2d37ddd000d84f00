# SPDX-License-Identifier: GPL-2.0-only
"""Donors behind gates, a relay and guests as real processes, for campaigns that end with a report."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(TOP, "tools", "native", "tests"))

import native  # noqa: E402
from native import BIN, Failed  # noqa: E402

PATIENCE = 60 * native.SLOW     # nothing that is waited for takes longer, but the waits for repair
CHECKED_PER_S = 1000            # pages, on the slowest of machines
RECLAIM_WAIT_MS = 300           # so long donors wait for relays before they help themselves


def answer_of(process, name, seconds=PATIENCE):
    """One line of a program that is told what to do by lines."""
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise Failed(f"{name} does not answer within {seconds} s")
    line = process.stdout.readline()
    if not line:
        raise Failed(f"{name} ended with {process.wait()}")
    return line.strip()


class Gate:
    """memx-gate: what the network does to each donor."""

    def __init__(self, seed):
        self.process = subprocess.Popen([os.path.join(BIN, "memx-gate")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=native._child)
        self.ask(f"seed {seed}")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = answer_of(self.process, "memx-gate")
        native.check(answer.startswith("ok"), f"memx-gate: {line}: {answer}")
        return {key: int(value) for key, value in (pair.split("=", 1) for pair in answer.split()[1:] if "=" in pair)}

    def lag_ms(self):
        return self.ask("lag")["us"] / 1000

    def stop(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)


class Donor(native.Server):
    """A donor with a configuration file, so that its memory can be changed while it runs, and with a gate before it."""

    def __init__(self, folder, name, domain, memory, gate):
        super().__init__(folder, name)
        self.domain, self.memory, self.gate_control = domain, memory, gate
        self.conf = os.path.join(folder, name + ".conf")
        self.options = ["--config", self.conf]
        self.gate_port = None

    def write(self, memory):
        with open(self.conf + ".new", "w") as file:
            file.write(f"[server]\nlisten = 127.0.0.1:{self.port}\nmemory = {memory}\ndomain = {self.domain}\n"
                       f"id_file = {self.folder}/{self.name}.id\ncontrol = {self.control}\nlock = no\nhuge = no\n"
                       f"reclaim_wait = {RECLAIM_WAIT_MS}ms\npressure = 0\nmin_available = 0\n")   # only the schedule wants memory back
        os.rename(self.conf + ".new", self.conf)

    def start(self):
        self.write(self.memory)
        super().start()
        if self.gate_port is None:
            self.gate_port = self.gate_control.ask(f"add {self.name} {self.port}")["port"]
            self.id = self.status()["id"]
        self.instance = self.status()["instance"]
        return self

    def limit(self, memory):
        """Takes effect at once; what is in use above it stays until it is asked back."""
        self.write(memory)
        self.kill(signal.SIGHUP)

    def gate(self, command, *arguments):
        return self.gate_control.ask(" ".join(map(str, (command, self.name, *arguments))))


class Relay(native.Relay):
    """Knows donors by their gates."""

    class Way:
        def __init__(self, donor):
            self.name, self.port = donor.name, donor.gate_port

    def __init__(self, folder, donors, guests, **settings):
        self.donors = list(donors)
        super().__init__(folder, [], guests, **settings)

    def write(self):
        self.servers = [self.Way(donor) for donor in self.donors]
        super().write()

    def reload(self):
        """Takes the changed list of donors over."""
        self.write()
        self.kill(signal.SIGHUP)

    def try_ask(self, cmd):
        """None while it is away."""
        try:
            return self.ask(cmd)
        except (OSError, Failed, ValueError):
            return None


class Guest(native.Guest):
    def hear(self, seconds=PATIENCE):
        return answer_of(self.process, f"guest {self.name}", seconds)

    def check(self, slots):
        """Every page of a stopped churn, one by one: "ok", or what is wrong."""
        self.say("check")
        return self.hear(PATIENCE + slots / CHECKED_PER_S)


class Cluster:
    """All of it. Ends its processes when left; the folder stays where something failed."""

    def __init__(self, seed, domains, guests, mib, memory, spare=True, **settings):
        self.folder = tempfile.mkdtemp(prefix="faults-", dir=os.environ.get("MEMX_TMP"))
        self.gate = Gate(seed)
        self.donors = [Donor(self.folder, f"d{i}", domain, memory, self.gate) for i, domain in enumerate(domains)]
        for donor in self.donors:
            donor.start()
        names = {f"g{i}": {"quota": f"{mib}M", "replicas": 2} for i in range(guests)}
        used = self.donors[:-1] if spare else self.donors
        self.relay = Relay(self.folder, used, names, **settings).start()
        self.guests = [Guest(self.relay, name) for name in names]
        for guest in self.guests:
            guest.attach()

    # -- looks --------------------------------------------------------------------------------------------------------

    def counters(self):
        status = self.relay.try_ask("status")
        return status["counters"] if status else {}

    def noticed(self, instances):
        """Has the relay noticed that these donors (name: instance) are no more what they were?"""
        listed = self.relay.try_ask("donors")
        return listed is None or all(d["state"] != "usable" or d["instance"] != instances[d["name"]]
                                     for d in listed if d["name"] in instances)

    def unlike(self):
        """Why not everything is as it should be: a word, or None where it is."""
        status = self.relay.try_ask("status")
        if status is None:
            return "the relay does not answer"
        if status["attached"] != len(self.guests):
            return f"{status['attached']} of {len(self.guests)} guests attached"
        listed = {d["name"]: d for d in self.relay.try_ask("donors") or []}
        for donor in self.relay.donors:
            seen = listed.get(donor.name)
            if not donor.running or not seen or seen["state"] != "usable":
                return f"{donor.name} is {seen['state'] if seen else 'not known'}: {seen['reason'] if seen else ''}"
            if seen["instance"] != donor.instance:
                return f"the relay knows another instance of {donor.name}"
        if set(listed) != {donor.name for donor in self.relay.donors}:
            return f"the relay still has {sorted(set(listed) - {d.name for d in self.relay.donors})}"
        repair = self.relay.try_ask("repair") or {"remaining": -1, "degraded_extents": -1, "waiting_extents": -1}
        if repair["remaining"] or repair["degraded_extents"] or repair["waiting_extents"]:
            return "extents: " + ", ".join(f"{key} {repair[key]}" for key in ("remaining", "degraded_extents", "waiting_extents"))
        for donor in self.relay.donors:         # what a donor dropped by itself, and the relay has not heard of yet
            if donor.status()["extents"] != listed[donor.name]["extents"]:
                return f"{donor.name} holds {donor.status()['extents']} extents, the relay knows of {listed[donor.name]['extents']}"
        return None

    def extents_at(self, donor):
        for seen in self.relay.try_ask("donors") or []:
            if seen["name"] == donor.name:
                return seen["extents"]
        return 0

    def records(self):
        """(guest, extent): [(donor id, state), ...], as the guests hold them, which is the truth."""
        all_of_them = {}
        for guest in self.guests:
            for record in guest.ask_raw("records").split()[1:]:
                extent, _, *copies = record.split(":")
                all_of_them[guest.name, int(extent)] = [tuple(copy.split("/")) for copy in copies]
        return all_of_them

    def only_at(self, donors):
        """Extents without a live copy elsewhere."""
        ids = {donor.id for donor in donors}
        return [key for key, copies in self.records().items() if not any(s == "1" and d not in ids for d, s in copies)]

    # -- the end ------------------------------------------------------------------------------------------------------

    def end(self, keep):
        """Problems while ending. @keep: the logs are wanted."""
        problems = []
        for guest in self.guests:
            try:
                guest.kill() if keep else guest.end()
            except (Failed, subprocess.TimeoutExpired, ValueError) as problem:
                guest.process.kill()
                problems.append(str(problem))
        for daemon in [self.relay, *self.donors]:
            try:
                daemon.stop()
            except Failed as problem:
                problems.append(str(problem))
        self.gate.stop()
        if keep or problems:
            print(f"# logs: {self.folder}", flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        return problems


def until(ask, seconds):
    """Asks until the answer is true; that answer, or None when the time is over."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            return None
        time.sleep(0.02)
