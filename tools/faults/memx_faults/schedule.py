# SPDX-License-Identifier: GPL-2.0-only
"""What strikes when: a list of faults made from a seed and nothing else, so that a seed repeats it.

A fault names its victims and its lengths. What depends on the run is only when it may strike: a fault that destroys copies
(kill, and the pairs with one) waits until repair has restored every copy. Pairs are those that two copies allow:

* one donor loses its memory, and anything that costs no memory happens to another or to the relay;
* all donors of one failure domain lose their memory at once;
* two donors are silent, cut off or slow at once: nothing is lost, pages with both copies there wait;
* a donor wants memory back while the relay stands still: it helps itself, one copy of each page stays;
* never a donor that was silent first and another that is killed then: the silent one's copies may be stale by that time.
"""

import dataclasses
import random

DESTROYS = {"kill", "kill-domain"}
RELAY = {"relay-kill", "relay-term", "relay-stop"}

# kind: how often, of all
NATIVE = {
    "kill": 16, "kill-domain": 3, "stop": 10, "cut": 10, "reset": 5, "tear": 5, "slow": 5, "delay": 5, "drain": 6, "limit": 5,
    "pages": 6, "stores": 4, "headers": 5, "relay-kill": 9, "relay-term": 3, "relay-stop": 4, "spare": 5, "resume": 2, "pair": 16,
}
XEN = {
    "kill": 5, "stop": 3, "cut": 3, "reset": 2, "tear": 2, "slow": 2, "delay": 2, "drain": 3, "limit": 3, "pages": 3, "stores": 2,
    "headers": 2, "relay-kill": 4, "relay-term": 1, "relay-stop": 3, "pair": 8,
}

# (what destroys, or the first of two silent ones; what comes beside it)
NATIVE_PAIRS = [
    ("kill", "relay-kill"), ("kill", "relay-stop"), ("kill", "stop"), ("kill", "cut"), ("kill", "slow"), ("kill", "delay"),
    ("kill", "reset"), ("kill", "drain"), ("kill", "pages"), ("kill", "stores"), ("kill", "limit"), ("kill-domain", "relay-kill"),
    ("stop", "stop"), ("cut", "cut"), ("stop", "cut"), ("stop", "relay-kill"), ("cut", "relay-kill"), ("drain", "relay-kill"),
    ("pages", "relay-kill"), ("stores", "relay-kill"), ("reset", "relay-kill"), ("slow", "stop"), ("drain", "drain"), ("tear", "headers"),
    ("relay-stop", "limit"), ("relay-stop", "limit"),
]
XEN_PAIRS = [
    ("kill", "relay-kill"), ("kill", "relay-stop"), ("kill", "cut"), ("stop", "relay-kill"), ("cut", "stop"), ("drain", "relay-kill"),
    ("stores", "relay-kill"), ("reset", "relay-kill"), ("relay-stop", "limit"), ("relay-stop", "limit"),
]


@dataclasses.dataclass
class Fault:
    number: int
    kind: str
    donors: tuple = ()          # victims, by index
    ms: int = 0                 # how long it lasts; for a kill: how long it stays dead
    value: int = 0              # rate, delay, count, offset: as the kind has it
    rebuilt: bool = False       # kill: it comes back only when its copies were rebuilt elsewhere; limit: it gets its memory first
    beside: object = None       # the second of a pair
    offset_ms: int = 0          # which comes so much later

    @property
    def name(self):
        return f"{self.kind}+{self.beside.kind}" if self.beside else self.kind

    @property
    def destroys(self):
        return self.kind in DESTROYS

    def text(self):
        words = [self.kind, *(f"d{i}" for i in self.donors)]
        words += [f"{self.ms}ms"] if self.ms else []
        words += [f"value={self.value}"] if self.value else []
        words += ["until-rebuilt"] if self.rebuilt else []
        if self.beside:
            words.append(f"with [{self.beside.text()}] after {self.offset_ms}ms")
        return " ".join(words)


class Schedule:
    """@domains: the failure domain of each donor, by index; the last donor is the spare that comes and goes, if @spare."""

    def __init__(self, seed, count, domains, where="native", spare=True, only=()):
        self.random = random.Random(f"memx faults {seed}")
        self.domains = domains
        self.spare = len(domains) - 1 if spare else None
        self.spare_in = False
        self.native = where == "native"
        weights = dict(NATIVE if self.native else XEN)
        if self.spare is None:
            weights.pop("spare", None)
        if only:
            weights = {kind: weights.get(kind, 1) for kind in only}
        self.faults = []
        first = list(weights)           # each kind once, so that a short schedule has them all
        self.random.shuffle(first)
        while len(self.faults) < count:
            kind = first.pop() if first else self.random.choices(list(weights), list(weights.values()))[0]
            self.faults.append(self.draw(len(self.faults) + 1, kind))

    def donor(self, but=()):
        """Any that is there all the time: the spare may be out when a pair's second strikes."""
        return self.random.choice([i for i in range(len(self.domains)) if i != self.spare and i not in but])

    def span(self, *ranges):
        low, high = self.random.choice(ranges)
        return int(round(self.random.uniform(low, high)))

    def draw(self, number, kind):
        if kind == "pair":
            return self.pair(number)
        if kind == "spare":
            self.spare_in = not self.spare_in
            return Fault(number, "add" if self.spare_in else "remove", (self.spare,))
        return self.single(number, kind)

    def pair(self, number):
        first, second = self.random.choice(NATIVE_PAIRS if self.native else XEN_PAIRS)
        fault = self.single(number, first)
        fault.beside = self.single(number, second, fault.donors)
        # What is destroyed is noticed before another falls silent; see the head of this file.
        fault.offset_ms = self.span((0, 0), (1, 30), (30, 300)) if not fault.destroys or second in RELAY else self.span((100, 400))
        if first in ("pages", "kill") and second == "pages":
            fault.beside.value = min(fault.beside.value, 3)     # else the only copy left is damaged for too long
        if (first, second) == ("relay-stop", "limit"):          # for longer than the donor waits, which gets it back meanwhile
            fault.ms = self.span((1200, 2500)) if self.native else self.span((6000, 9000))
            fault.beside.value, fault.beside.rebuilt = self.random.choice((25, 50, 75)), True
            fault.offset_ms = self.span((0, 30))
        return fault

    def single(self, number, kind, but=()):
        rng = self.random
        fault = Fault(number, kind)
        if kind not in RELAY | {"resume"}:
            fault.donors = (self.donor(but),)
        if kind == "kill":
            fault.ms = self.span((0, 0), (1, 100), (100, 1500))
            fault.rebuilt = rng.random() < (0.3 if self.native else 0.5)
        elif kind == "kill-domain":
            domain = self.domains[fault.donors[0]]
            fault.donors = tuple(i for i, d in enumerate(self.domains) if d == domain and i != self.spare)
            fault.ms = self.span((0, 0), (1, 800))
        elif kind in ("stop", "cut"):
            fault.ms = self.span((20, 400), (700, 1800)) if self.native else self.span((500, 1500), (4000, 8000))
        elif kind == "slow":
            fault.value = self.span((256, 1024), (1024, 8192)) * 1024
            fault.ms = self.span((200, 1200)) if self.native else self.span((1000, 6000))
        elif kind == "delay":
            fault.value = self.span((1000, 20000), (20000, 150000))
            fault.ms = self.span((200, 1200)) if self.native else self.span((1000, 6000))
        elif kind == "tear":
            fault.value = self.span((1, 64), (64, 100000))
        elif kind == "pages":
            fault.value, fault.ms = self.span((1, 3), (3, 60)), 400
        elif kind == "stores":
            fault.value, fault.ms = self.span((1, 2), (2, 12)), 400
        elif kind == "headers":
            fault.value, fault.ms = rng.choice((0, 2, 4, 8, 11, 17, 23)), 400
        elif kind == "limit":
            fault.value, fault.ms = rng.choice((25, 50, 75, 100)), \
                self.span((100, 800)) if self.native else self.span((1000, 4000))       # per cent of what is used there
            fault.rebuilt = rng.random() < 0.5
        elif kind == "relay-kill":
            fault.ms = self.span((0, 0), (1, 500)) if self.native else self.span((0, 3000))
        elif kind == "relay-term":
            fault.ms = self.span((0, 300))
        elif kind == "relay-stop":
            fault.ms = self.span((20, 400), (700, 2000)) if self.native else self.span((500, 1500), (3000, 6000))
        return fault
