# SPDX-License-Identifier: GPL-2.0-only
#
# What is installed in guests: the glue that switches the swap on. The module itself is for DKMS or a package
# of modules; "make module" builds it.

INSTALL_FILES += guest/udev/memx-swapon:$(sbindir)/
INSTALL_FILES += guest/udev/60-memx.rules:$(udevdir)/
INSTALL_FILES += guest/udev/memx-swap.service:$(unitdir)/
