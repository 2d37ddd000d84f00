# SPDX-License-Identifier: GPL-2.0-only
"""Donors: memx-server processes on the machine that runs the testbed."""

ACTIONS = ("kill", "stop", "cont", "start")


class Donor:
    """One memx-server."""
