# SPDX-License-Identifier: GPL-2.0-only
"""The parts of memx-testbed: real Xen in QEMU's software emulation, rootless."""
