# SPDX-License-Identifier: GPL-2.0-only
"""How long a page may wait at a fault, and whether one that waited longer says something of MemX or of the machine.

Less than a second where another live copy is within reach of the relay. What puts all copies, or the relay, out of reach is waited
for: for so long as that lasted, as it was measured, a page may wait longer. That is the time in which the relay was away (killed
until it ran again, or stopped), and the time in which both donors of a pair had no use: the copies of a donor that was killed are
gone for good, those of one that is silent or slow until it is so no more.
"""

PROMISED_MS = 1000
LAG_MS = 500            # a machine that was later than this is no witness

# These take a donor's copies out of reach, or make them late, as long as they last; a kill does for ever.
AWAY = {"stop", "cut", "slow", "delay"}
GONE = {"kill", "kill-domain"}
FOREVER = float("inf")


def overlap(one, other):
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def excused(windows):
    """@windows: (kind, begin, end) in ms of one fault or pair, as measured. The ms in which a page had to wait for something."""
    donors = [(begin, FOREVER if kind in GONE else end) for kind, begin, end in windows if kind in AWAY | GONE]
    relay = sum(end - begin for kind, begin, end in windows if kind.startswith("relay-"))
    return relay + (overlap(*donors) if len(donors) == 2 else 0)


def verdict(stall_ms, lag_ms, allowed_ms):
    """'' good; 'late' the machine was, so that it cannot be judged; 'long' it waited too long.

    A stall is uncertain by what the machine let a thread of no other business wake up too late.
    """
    if stall_ms < allowed_ms:
        return ""
    if lag_ms > LAG_MS:
        return "late"
    return "long" if stall_ms - lag_ms >= allowed_ms else ""


def of_row(row):
    """The verdict over one fault or pair: stores like fetches, whatever the kind."""
    away, lag = row["away_ms"], row["lag_ms"]
    return verdict(row["stall_ms"], lag, PROMISED_MS + away)


def reclaim_bound(wait_ms, look_ms=250):
    """How long a donor may wait for relays, by its own clock, before it helps itself: it looks so often whether something came."""
    return wait_ms + look_ms
