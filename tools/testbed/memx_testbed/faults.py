# SPDX-License-Identifier: GPL-2.0-only
"""Faults that are made inside a host: a donor cut off, a relay that dies."""
from . import agent
from .state import TestbedError

CUTS = ("cut", "heal")
RELAY_ACTIONS = ("kill", "start", "restart", "stop", "cont")


def in_dom0(view, index, *argv):
    """A command in a Dom0 that has to succeed."""
    try:
        code, out, err = agent.capture(view.host_ports(index), list(argv))
    except (agent.AgentError, agent.RunError) as error:
        raise TestbedError(f"host{index}: {error}") from error
    if code:
        raise TestbedError(f"host{index}: {' '.join(argv)} ended with {code}: "
                           f"{(err or out).decode(errors='replace').strip()}")
    return out


def cut(view, donor, action):
    """Make a donor's network silent on every host, or let it speak again.

    Packets are dropped in both directions and nobody is told: no reset, no
    unreachable. Cutting what is cut already, or healing what is whole, is fine.
    """
    port = str(view.data["donors"][donor]["port"])
    for index in range(view.spec.hosts):
        in_dom0(view, index, "/sbin/testbed-cut", action, port)


def relay(view, index, action):
    """kill: SIGKILL. restart: SIGTERM, wait, start. stop and cont: it hangs."""
    in_dom0(view, index, "/sbin/testbed-relay", action)
