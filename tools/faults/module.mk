# SPDX-License-Identifier: GPL-2.0-only
# The fault campaign.

PROGRAMS += memx-gate
memx-gate_SRCS := tools/faults/gate.c
memx-gate_LIBS := memx-user
memx-gate_PKGS := jansson libxxhash inih
memx-gate_LDLIBS := -lpthread
memx-gate_NOINSTALL := y

# What judges a campaign.
TESTS_SCRIPT += faults-judge
faults-judge_CMD := tools/faults/tests/judge.py
faults-judge_VARIANTS := opt
faults-judge_TIMEOUT := 60
faults-judge_COST := 1

# A short campaign with a seed of its own; FAULTS_SEED and FAULTS_N in the environment choose another one.
TESTS_SCRIPT += faults-native
faults-native_CMD := tools/faults/memx-faults --tap 20260101 $(if $(FAULTS_N),,--faults 50)
faults-native_PROGS := memx-gate memx-server memx-dom0-relay memx-guest
faults-native_VARIANTS := opt
faults-native_TIMEOUT := 900
faults-native_COST := 35

# The same on real Xen, shorter.
TESTS_XEN += faults-xen
faults-xen_CMD := tools/faults/memx-faults --where xen --tap 20260101 $(if $(FAULTS_N),,--faults 5)
faults-xen_PROGS := memx-gate memx-dom0-relay memx-server memxctl memx-pages
faults-xen_DEPS := module-6.1
faults-xen_TIMEOUT := 1800
faults-xen_COST := 200
