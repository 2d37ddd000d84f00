# SPDX-License-Identifier: GPL-2.0-only
#
# Programs that tests and demo run inside guests: static, so that they run in any of them.
PROGRAMS += memx-pages memx-sort memx-hogs memx-failnth
memx-pages_SRCS := tools/workload/memx-pages.c
memx-pages_STATIC := y
memx-pages_NOINSTALL := y
memx-sort_SRCS := tools/workload/memx-sort.c
memx-sort_STATIC := y
memx-sort_NOINSTALL := y
memx-hogs_SRCS := tools/workload/memx-hogs.c
memx-hogs_STATIC := y
memx-hogs_NOINSTALL := y
memx-failnth_SRCS := tools/workload/memx-failnth.c
memx-failnth_STATIC := y
memx-failnth_NOINSTALL := y
