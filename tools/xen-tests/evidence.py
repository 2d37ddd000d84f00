# SPDX-License-Identifier: GPL-2.0-only
"""What is seen of a testbed in which a test has failed: enough to tell a guest that stands still from one that is slow.

Everything is looked at twice, some seconds apart. Each look is a call of its own with a short deadline, in a thread of its
own, and what does not answer is said to be silent: nothing here can hang. The guest's figures are read by its agent, which
needs no memory for a process; what its tasks wait for is asked of its kernel through Xen and read from its console.
"""

import concurrent.futures
import json
import os
import re
import subprocess
import time

APART_S = 6
ASK_S = 30      # for one look
WIDTH = 240     # of a line
MODULE = "/sys/devices/platform/memx"
LANES = "/sys/kernel/debug/memx/lanes"
COUNTERS = ("stores", "fetches", "discards", "store_requests", "fetch_requests", "notifies", "kicks", "retries", "resent",
            "nospace", "store_errors", "fetch_errors", "corrupt", "expired", "absent", "attaches", "refusals", "lost", "violations",
            "waits", "suspended", "same_stored", "same_fetched")
FACTS = ("state", "epoch", "inflight", "swap", "reason")
VMSTAT = ("pswpin", "pswpout", "pgfault", "pgscan_direct", "pgscan_kswapd", "pgsteal_direct", "pgsteal_kswapd", "oom_kill")
MEMORY = ("MemFree", "MemAvailable", "SwapTotal", "SwapFree", "Writeback")

# The kernel takes one key at a time. All that it says between the two changes of what its console shows is ours.
LOUD, QUIET = "Loglevel set to 8", "Loglevel set to 5"
SYSRQ = """id=$(xl domid {guest}) || exit 1
for key in 8 w 5; do
	xl sysrq {guest} $key
	n=0; while [ -n "$(xenstore-read /local/domain/$id/control/sysrq 2>/dev/null)" ] && [ $n -lt 20 ]; do n=$((n+1)); usleep 200000; done
done
n=0; until tail -n 3 /var/log/xen/console/guest-{guest}.log | grep -q 'Loglevel set to 5' || [ $n -ge 20 ]; do n=$((n+1)); usleep 200000; done
tail -n 1500 /var/log/xen/console/guest-{guest}.log"""


def without_sysrq(lines):
    """A kernel's log without what it said because evidence was taken."""
    out, ours = [], False
    for line in lines:
        if LOUD in line:
            ours = True
        if not ours:
            out.append(line)
        if QUIET in line:
            ours = False
    return [line for line in out if "sysrq: Changing Loglevel" not in line]


def ask(testbed, verb, *args, seconds=ASK_S):
    """Stdout of a verb of the testbed; None where it failed or did not answer."""
    try:
        r = testbed.run(verb, *args, timeout=seconds)
    except (subprocess.TimeoutExpired, OSError):
        return None
    return r.out if r.status == 0 else None


def parts(text):
    """What the verb read printed: {file: text}"""
    found = re.split(r"^==> (.*) <==\n", text or "", flags=re.M)
    return dict(zip(found[1::2], found[2::2]))


def number(text):
    return int(text) if re.fullmatch(r"\d+\s*", text or "") else None


def guest_figures(testbed, guest):
    """({name: number}, {name: text}) of a guest; empty where it is silent. Also what a watched job is judged by."""
    counters = [f"{MODULE}/statistics/{name}" for name in COUNTERS]
    facts = [f"{MODULE}/{name}" for name in FACTS]
    files = parts(ask(testbed, "read", guest, *counters, *facts, LANES, "/proc/meminfo", "/proc/vmstat"))
    figures = {name: number(files.get(path)) for name, path in zip(COUNTERS, counters)}
    for line in files.get("/proc/vmstat", "").splitlines():
        name, _, value = line.partition(" ")
        if name in VMSTAT:
            figures[name] = number(value)
    texts = {name: files.get(path, "").strip() for name, path in zip(FACTS, facts)}
    for name in MEMORY:
        m = re.search(rf"^{name}:\s+(\d+)", files.get("/proc/meminfo", ""), re.M)
        if m:
            texts[name] = str(int(m[1]) // 1024)
    texts["lanes"] = files.get(LANES, "")
    return {k: v for k, v in figures.items() if v is not None}, {k: v for k, v in texts.items() if v}


def seconds_used(listing):
    """{domain: (state, seconds of CPU)} from xl list"""
    rows = [line.split() for line in (listing or "").splitlines()[1:]]
    return {row[0]: (row[4], float(row[5])) for row in rows if len(row) > 5}


def relay_counters(text):
    try:
        answer = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return {k: v for k, v in {**answer, **answer.get("counters", {})}.items() if isinstance(v, int)}


def moved(before, after):
    """Two lines' worth: what moved, by how much; and what stood still but is not 0."""
    went = [f"{k} +{after[k] - before[k]}" for k in after if after[k] != before.get(k, after[k])]
    stood = [f"{k}={after[k]}" for k in after if after[k] == before.get(k, after[k]) and after[k]]
    return " ".join(went) or "NOTHING", " ".join(stood)


def blocked(console):
    """One line for each stack of tasks that are blocked: names, and functions from the innermost out."""
    at = console.rfind("Show Blocked State")
    if at < 0:
        return ["blocked tasks: the guest's kernel did not say"]
    stacks, name, frames = {}, None, []

    def end():
        if name:
            stacks.setdefault(" < ".join(frames[:9]) or "?", []).append(name)
    for line in console[at:].splitlines():
        task = re.search(r"task:(\S+)\s+state:(\S)\b.*?pid:\s*(\d+)", line)
        frame = re.search(r"\]\s{2,}([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+", line)
        if task or "Changing Loglevel" in line:
            end()
            name, frames = f"{task[1]}/{task[3]}" if task else None, []
            if not task:
                break
        elif frame and not re.match(r"_*schedule(_timeout)?$", frame[1]):
            frames.append(frame[1])
    else:
        end()
    lines = [f"blocked {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}: {stack}"
             for stack, names in stacks.items()]
    return lines or ["blocked tasks: none"]


def short(text):
    try:
        return json.dumps(json.loads(text), separators=(",", ":")).replace('"', "")
    except (TypeError, ValueError):
        return "silent"


def tail(label, text, count):
    lines = [line.rstrip() for line in (text or "").splitlines() if line.strip()]
    return [f"{label}| {line}" for line in lines[-count:]] or [f"{label}| silent"]


def take(testbed, guest="guest0"):
    """(a few lines, the most telling first; everything)"""
    pool = concurrent.futures.ThreadPoolExecutor(16)

    def host(script, seconds=ASK_S):
        return pool.submit(ask, testbed, "exec", "host0", "--", "sh", "-c", script, seconds=seconds)

    def look():
        return {"at": time.monotonic(), "list": host("xl list"), "relay": host("memxctl --json status"),
                "guest": pool.submit(guest_figures, testbed, guest)}

    def done(a_look):
        a_look.update({k: v.result() for k, v in a_look.items() if k != "at"})
        return a_look
    first = done(look())
    apart = time.monotonic()
    more = {"sessions": host("memxctl --json sessions"), "guests": host("memxctl --json guests"),
            "donors": host("memxctl --json donors"), "repair": host("memxctl --json repair"),
            "relay's log": host("tail -n 300 /var/log/memx/relay.log"),
            "dmesg": pool.submit(ask, testbed, "exec", guest, "--", "sh", "-c", "dmesg | tail -n 300"),
            "host's dmesg": host("dmesg | tail -n 40")}
    more = {k: v.result() for k, v in more.items()}
    time.sleep(max(0.0, apart + APART_S - time.monotonic()))
    second = done(look())
    console = host(SYSRQ.format(guest=guest), ASK_S + 20).result() or ""
    pool.shutdown(wait=False, cancel_futures=True)
    before_sysrq = "\n".join(without_sysrq((console or "").splitlines()))
    more["console"] = console
    lines = figures(first, second, guest) + blocked(console)[:10]
    for name in ("guests", "sessions"):
        lines.append(f"{name}: {short(more[name])}")
    lines += tail("dmesg", "\n".join(without_sysrq((more["dmesg"] or before_sysrq).splitlines())), 8)
    lines += tail("relay", more["relay's log"], 8)
    whole = lines + [f"{guest} {which}: {look_['guest']}" for which, look_ in (("first", first), ("then", second))]
    for name, text in more.items():
        whole += [f"---- {name}", text or "silent"]
    return [line[:WIDTH] for line in lines], "\n".join(whole) + "\n"


def figures(first, second, guest):
    """The two looks, side by side."""
    span = second["at"] - first["at"]
    cpu, then = seconds_used(first["list"]), seconds_used(second["list"])
    used = [f"{name} {then[name][0]} used {then[name][1] - cpu.get(name, then[name])[1]:.1f} s" for name in then]
    lines = [f"machine: load {' '.join(f'{x:.1f}' for x in os.getloadavg())}, {os.cpu_count()} CPUs; "
             f"in {span:.0f} s: {', '.join(used) or 'the host is silent'}"]
    (was, _), (now, facts) = first["guest"], second["guest"]
    if now:
        went, stood = moved(was, now)
        lanes = facts.pop("lanes", "")
        lines += [f"{guest} moved: {went}", f"{guest} stands: " + " ".join(f"{k}={v}" for k, v in facts.items()),
                  f"{guest} unmoved: {stood}"]
        lines += [f"lane {line}" for line in lanes.splitlines()[:8]]
    else:
        lines.append(f"{guest}: its agent is silent" + (" since the first look" if was else ""))
    went, stood = moved(relay_counters(first["relay"]), relay_counters(second["relay"]))
    lines += [f"relay moved: {went}", f"relay unmoved: {stood}"] if second["relay"] else ["relay: silent"]
    return lines
