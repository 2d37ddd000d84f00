# SPDX-License-Identifier: GPL-2.0-only
"""memx-testbed status: what runs and how it is, for people and as JSON."""
import json

from . import agent, state

SWAP_WAIT = 20        # seconds in which a healthy machine answers, also a busy one


def ask(ports, *argv, wait=SWAP_WAIT):
    """The output of a command there, or None where nobody answers."""
    try:
        code, out, _ = agent.capture(ports, list(argv), wait=wait, timeout=wait)
    except (agent.AgentError, agent.RunError, OSError):
        return None
    return out.decode(errors="replace") if code == 0 else None


XL_STATES = {"r": "running", "b": "running", "p": "paused", "s": "shut down", "c": "crashed",
             "d": "dying"}


def domains(text):
    """{guest: state} from xl list."""
    found = {}
    for row in (text or "").splitlines()[1:]:
        fields = row.split()
        words = [XL_STATES[letter] for letter in fields[4] if letter in XL_STATES]
        # A runnable domain that just does not run has no letter at all.
        found[fields[0]] = words[-1] if words else "running"
    return found


def swap_of(ports):
    text = ask(ports, "cat", "/proc/swaps")
    if text is None:
        return "no answer"
    rows = [row.split() for row in text.splitlines()[1:]]
    if not rows:
        return "off"
    size = sum(int(row[2]) for row in rows) // 1024
    used = sum(int(row[3]) for row in rows) // 1024
    return f"{used} of {size} MiB"


def gather(view):
    """Everything as plain data."""
    hosts, where = [], {}
    for index, entry in enumerate(view.data["hosts"]):
        up = state.alive(entry["pid"])
        answers = ask(view.host_ports(index), "xl", "list") if up else None
        found = domains(answers)
        row = {"name": entry["name"],
               "state": "stopped" if not up else "no answer" if answers is None else "up"}
        if view.spec.swap and answers is not None:
            row["relay"] = (ask(view.host_ports(index), "/sbin/testbed-relay", "status")
                            or "no answer").strip()
        hosts.append(row)
        where.update({name: (entry["name"], what) for name, what in found.items()})
    guests = []
    for index, entry in enumerate(view.data["guests"]):
        on, what = where.get(entry["name"], (None, "gone"))
        row = {"name": entry["name"], "uuid": entry["uuid"], "host": on, "state": what}
        if what == "running":
            row["swap"] = swap_of(view.guest_ports(index))
        guests.append(row)
    donors = [{"name": entry["name"], "address": f"127.0.0.1:{entry['port']}",
               "state": entry["state"] if entry["state"] == "down" or state.alive(entry["pid"])
               else "down"}
              for entry in view.data["donors"]]
    return {"name": view.name, "up": view.data["up"], "hosts": hosts, "guests": guests,
            "donors": donors}


def show(args):
    report = gather(state.View(args.name))
    if args.json:
        print(json.dumps(report, indent=1))
        return 0
    print(f"testbed {report['name']}: {'up' if report['up'] else 'coming up'}")
    for kind in ("hosts", "guests", "donors"):
        for row in report[kind]:
            rest = ", ".join(f"{key} {value}" for key, value in row.items()
                             if key not in ("name", "state"))
            print(f"  {row['name']:8} {row['state']:10} {rest}")
    return 0
