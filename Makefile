# SPDX-License-Identifier: GPL-2.0-only
#
# MemX: one non-recursive makefile. Everything that is built or run goes to build/.
#
#   make                  daemons and tools into build/bin
#   make module KVER=6.1  the guest module for one kernel (6.1, 6.12, 7.3): build/module/KVER/memx_swap.ko
#   make modules          the guest module for all of them
#   make demo             a Xen guest that uses remote memory, from nothing to a report
#   make check            every test; ends with "N passed, M failed"
#   make check-unit       the tests that need no QEMU; the same last line
#   make check-xen        the tests on real Xen in QEMU; the same last line
#   make hogs             guests short of memory while donors fail, HOGS_SECONDS (600) for each kernel and size, HOGS_SEED (1)
#   make check-debug-kernel  guests with lockdep, kmemleak and fault injection, one with KASAN; builds their kernels once. DEBUG_SECONDS (60)
#                         of load, every DEBUG_STEP-th (8) allocation fails; 1 takes hours
#   make lint             compilers, sparse, checkpatch, clang-tidy, cppcheck, all as errors
#   make bench            the benchmark of the data path, natively
#   make faults           the fault campaign: faults-native (FAULTS_N=1000), faults-throughput, faults-xen (FAULTS_XEN_N=50); FAULTS_SEED
#   make fuzz             the fuzzers, FUZZ_SECONDS (60) each
#   make install          DESTDIR, prefix, sysconfdir, unitdir, udevdir as usual
#   make install-guest    of that what belongs into a guest: the script that switches the swap on, its udev rule and unit
#   make install-dkms     the guest module's source, for DKMS, below $(srcdir_dkms)
#   make clean            removes build/
#
# Settings: CC=clang (its output goes to build/clang), CFLAGS, LDFLAGS, WERROR=0, V=1, KVER, JOBS, XEN_JOBS.
#
# Each area brings a fragment AREA/module.mk (also AREA/SUBAREA/module.mk) which only sets variables.
# All paths are relative to the top of the tree:
#
#   LIBRARIES += memx-user            a static library of the tree, never installed
#   memx-user_SRCS := shared/user/log.c ...
#
#   PROGRAMS += memx-server           build/bin/memx-server, installed to $(sbindir)
#   memx-server_SRCS := server/main.c ...
#   memx-server_LIBS := memx-user     libraries of the tree, users before what they use
#   memx-server_PKGS := libsystemd    pkg-config names
#   memx-server_LDLIBS := -linih      anything else for the linker
#   memx-server_CPPFLAGS := -DX       for this program's own sources
#   memx-server_BINDIR := bin         installed to $(bindir) in place of $(sbindir)
#   memx-server_STATIC := y           linked statically (for programs that are pushed into a guest)
#   memx-server_NOINSTALL := y        built, but not installed
#
#   TESTS_C += test-ring              a test program printing TAP (cmocka does, it is told to)
#   test-ring_SRCS/_LIBS/_PKGS/_LDLIBS/_CPPFLAGS as above; cmocka is linked by itself
#   test-ring_VARIANTS := asan tsan   default asan (= ASan and UBSan); "opt" is a plain build
#   test-ring_TIMEOUT := 60           seconds, default 120
#   test-ring_ARGS := ...             arguments
#   test-ring_PROGS := memx-server    programs of the tree it starts, built in the same variant
#
#   TESTS_SCRIPT += relay-server      a test by script, printing TAP; part of check-unit
#   relay-server_CMD := dom0-relay/tests/x.py
#   relay-server_PROGS := memx-server programs it needs, in relay-server_VARIANTS (default asan)
#   relay-server_DEPS := ...          anything else that make must have built before
#   relay-server_TIMEOUT := 120
#   relay-server_COST := 60           where it takes long: about how many seconds, for the longest suites are begun first (also TESTS_C)
#
#   TESTS_XEN += swap-pv              the same (PROGS default to the opt variant), run by check-xen, XEN_JOBS at a time
#
#   TESTS_APART += swap-long          the same, run by a target of its own
#
#   FUZZERS += fuzz-wire              a libFuzzer program (clang), built by "make fuzzers", run for long by "make fuzz"
#   fuzz-wire_CORPUS := dir           inputs that are kept: suite fuzz-wire-short runs them, then
#   fuzz-wire_RUNS := 20000           so many inputs (default 5000) of at most
#   fuzz-wire_MAX_LEN := 600          so many bytes (default 600)
#
#   INSTALL_FILES += path:destination (GUEST_FILES where it belongs into guests) e.g. server/memx-server.service:$(unitdir)/
#
# A test finds the tree's programs of its own variant in $MEMX_BIN, may write below $MEMX_TMP (removed after it
# passed), and takes its deadline from run-suite. Outputs: build/bin and build/lib (opt), build/asan/..., build/tsan/...
# and the test programs in build/[VARIANT/]test. Results are in build/results/NAME[.VARIANT].tap and .log.

MAKEFLAGS += --no-builtin-rules --no-builtin-variables --no-print-directory
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# What make and compilers say is read by tests. The kernel's makefiles take LC_ALL away again.
export LC_ALL := C.UTF-8
export LC_MESSAGES := C.UTF-8
export LANG := C.UTF-8
export LANGUAGE :=

ifeq ($(origin CC),default)
CC := gcc
endif
CC ?= gcc
AR ?= ar
PKG_CONFIG ?= pkg-config
INSTALL ?= install
WERROR ?= 1
KVER ?= 6.1
KVERS := 6.1 6.12 7.3
JOBS ?= $(shell nproc)
# A machine in emulation has one processor and takes about 1.5 GiB.
XEN_JOBS ?= $(shell n=$(JOBS); echo $$((n > 4 ? 4 : n)))
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),@:,@printf '  %-7s %s\n' $(1) $(2))

B := build$(if $(findstring clang,$(notdir $(CC))),/clang)
RESULTS := build/results

prefix ?= /usr/local
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
sbindir ?= $(exec_prefix)/sbin
libdir ?= $(exec_prefix)/lib
datadir ?= $(prefix)/share
docdir ?= $(datadir)/doc/memx
sysconfdir ?= $(if $(filter /usr,$(prefix)),/etc,$(prefix)/etc)
unitdir ?= $(prefix)/lib/systemd/system
udevdir ?= $(prefix)/lib/udev/rules.d
srcdir_dkms ?= /usr/src

define newline


endef

all: programs

# Flags. CFLAGS and LDFLAGS are the user's and come last.

WARNINGS := -Wall -Wextra -Wshadow -Wundef -Wvla -Wpointer-arith -Wwrite-strings -Wformat=2 \
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wimplicit-fallthrough \
	$(if $(filter 0,$(WERROR)),,-Werror)
# The vchan's shared page ends in its list of grants; test rings put their buffers behind it.
CLANG_WARNINGS := -Wno-gnu-variable-sized-type-not-at-end
BASE_CPPFLAGS := -D_GNU_SOURCE -Ishared -Ibuild/include
BASE_CFLAGS := -std=gnu11 -g -fno-strict-aliasing -fno-common -fstack-protector-strong $(WARNINGS) \
	$(if $(findstring clang,$(notdir $(CC))),$(CLANG_WARNINGS))
HARDEN_CFLAGS := -fcf-protection -fstack-clash-protection
HARDEN_LDFLAGS := -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed

VARIANTS := opt asan tsan
opt_DIR := $(B)
opt_CPPFLAGS := -D_FORTIFY_SOURCE=2
opt_CFLAGS := -O2 $(HARDEN_CFLAGS)
opt_LDFLAGS := $(HARDEN_LDFLAGS)
asan_DIR := $(B)/asan
asan_CFLAGS := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
asan_LDFLAGS := -fsanitize=address,undefined
tsan_DIR := $(B)/tsan
tsan_CFLAGS := -O2 -fno-omit-frame-pointer -fsanitize=thread
tsan_LDFLAGS := -fsanitize=thread
fuzz_DIR := build/fuzz
fuzz_CFLAGS := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
fuzz_LDFLAGS := -fsanitize=fuzzer,address,undefined
fuzz_CC := clang

FRAGMENTS := $(sort $(wildcard */module.mk */*/module.mk))
include $(filter-out build/%,$(FRAGMENTS))

TESTS_SCRIPT += $(FUZZERS:%=%-short)
define fuzz_suite
$(1)-short_CMD := tools/fuzz/run-short $(fuzz_DIR)/bin/$(1) $(or $($(1)_RUNS),5000) $(or $($(1)_MAX_LEN),600) $($(1)_CORPUS)
$(1)-short_DEPS := $(fuzz_DIR)/bin/$(1)
$(1)-short_VARIANTS := opt
$(1)-short_COST := 15
$(1)-short_TIMEOUT := 600
endef
$(foreach f,$(FUZZERS),$(eval $(call fuzz_suite,$(f))))

# The version: VERSION, and what git knows beyond it. Only sources that include memx-version.h depend on it.

MEMX_VERSION := $(shell tools/setup/version)
GENERATED += build/include/memx-version.h
build/include/memx-version.h: FORCE
	@mkdir -p $(@D)
	@echo '#define MEMX_VERSION "$(MEMX_VERSION)"' > $@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# Objects live below DIR/obj/OWNER, so that two owners may compile one source with different flags.

# $(1) owner, $(2) variant
obj = $(patsubst %.c,$($(2)_DIR)/obj/$(1)/%.o,$($(1)_SRCS))
cc = $(or $($(1)_CC),$(CC))
# Whoever uses a library of the tree needs also what that one needs.
pkgs = $(sort $($(1)_PKGS) $(foreach l,$($(1)_LIBS),$($(l)_PKGS)))
ldlibs = $($(1)_LDLIBS) $(foreach l,$($(1)_LIBS),$($(l)_LDLIBS))
pkg = $(if $(pkgs),$$$$($(PKG_CONFIG) $(2) $(pkgs)))

# What an owner was built with is kept beside its objects, and a change of it rebuilds them.
# $(1) owner, $(2) variant
flags = $(strip $(call cc,$(2)) $(BASE_CPPFLAGS) $($(2)_CPPFLAGS) $($(1)_CPPFLAGS) $(CPPFLAGS) $(BASE_CFLAGS) $($(2)_CFLAGS) \
	$($(2)_LDFLAGS) $(pkgs) $(ldlibs) $($(1)_STATIC) $(CFLAGS) $(LDFLAGS) $($(1)_SRCS))
same = $(and $(findstring |$(1)|,|$(2)|),$(findstring |$(2)|,|$(1)|))

define objects_rules
$($(2)_DIR)/obj/$(1)/flags: $(if $(call same,$(strip $(file <$($(2)_DIR)/obj/$(1)/flags)),$(flags)),,FORCE)
	$$(shell mkdir -p $$(@D))$$(file >$$@,$(flags))@:
$($(2)_DIR)/obj/$(1)/%.o: %.c $($(2)_DIR)/obj/$(1)/flags Makefile | build/include/memx-version.h
	$$(call say,CC,$$@)
	@mkdir -p $$(@D)
	$$(Q)$(call cc,$(2)) $(BASE_CPPFLAGS) $($(2)_CPPFLAGS) $($(1)_CPPFLAGS) $(call pkg,$(1),--cflags) $$(CPPFLAGS) \
		$(BASE_CFLAGS) $($(2)_CFLAGS) $(if $($(1)_STATIC),,-fPIE) $$(CFLAGS) -MMD -MP -c -o $$@ $$<
-include $(patsubst %.o,%.d,$(call obj,$(1),$(2)))
endef

define library_rules
$(call objects_rules,$(1),$(2))
$($(2)_DIR)/lib/$(1).a: $(call obj,$(1),$(2)) $($(2)_DIR)/obj/$(1)/flags
	$$(call say,AR,$$@)
	@mkdir -p $$(@D)
	$$(Q)rm -f $$@ && $(AR) rcD $$@ $$(filter %.o,$$^)
endef

# $(3) the folder below the variant's
define program_rules
$(call objects_rules,$(1),$(2))
$($(2)_DIR)/$(3)/$(1): $($(2)_DIR)/obj/$(1)/flags $(call obj,$(1),$(2)) $(patsubst %,$($(2)_DIR)/lib/%.a,$($(1)_LIBS))
	$$(call say,LD,$$@)
	@mkdir -p $$(@D)
	$$(Q)$(call cc,$(2)) $(BASE_CFLAGS) $($(2)_CFLAGS) $($(2)_LDFLAGS) $(if $($(1)_STATIC),-static,-pie) $$(CFLAGS) $$(LDFLAGS) \
		-o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $(call pkg,$(1),--libs) $(ldlibs)
endef

$(foreach l,$(LIBRARIES),$(foreach v,$(VARIANTS) fuzz,$(eval $(call library_rules,$(l),$(v)))))
$(foreach p,$(PROGRAMS),$(foreach v,$(VARIANTS),$(eval $(call program_rules,$(p),$(v),bin))))
$(foreach t,$(TESTS_C),$(eval $(t)_PKGS += cmocka))
$(foreach t,$(TESTS_C),$(foreach v,$(VARIANTS),$(eval $(call program_rules,$(t),$(v),test))))
$(foreach f,$(FUZZERS),$(eval $(call program_rules,$(f),fuzz,bin)))

programs: $(PROGRAMS:%=$(B)/bin/%)
libraries: $(LIBRARIES:%=$(B)/lib/%.a)

# A program by its name, in any variant: "make memx-server", "make memx-server.asan".
$(foreach p,$(PROGRAMS),$(eval $(p): $(B)/bin/$(p)))
$(foreach v,asan tsan,$(foreach p,$(PROGRAMS),$(eval $(p).$(v): $($(v)_DIR)/bin/$(p))))

# Test suites. Each is a target suite-NAME that runs one command under tools/setup/run-suite; a suite fails without
# failing make, for memx-tally is the judge: of each suite that was expected it wants a complete result.

CHECK_ENV = MEMX_RESULTS=$(RESULTS) MEMX_VARIANT=$(1) MEMX_BIN=$(CURDIR)/$($(1)_DIR)/bin
suite_dep = $(patsubst %,$($(2)_DIR)/bin/%,$($(1)_PROGS)) $($(1)_DEPS)
suite_names = $(foreach v,$(or $($(1)_VARIANTS),$(2)),$(1)$(if $(filter opt,$(v)),,.$(v)))

# $(1) test, $(2) variant, $(3) command, $(4) default timeout
define suite_rules
$(if $(filter opt,$(2)),,suite-$(1): suite-$(1).$(2))
suite-$(1)$(if $(filter opt,$(2)),,.$(2)): $(filter $($(2)_DIR)/test/%,$(3)) $(call suite_dep,$(1),$(2))
	@$(call CHECK_ENV,$(2)) tools/setup/run-suite $$(@:suite-%=%) $(or $($(1)_TIMEOUT),$(4)) $(3) $($(1)_ARGS)
endef

$(foreach t,$(TESTS_C),$(foreach v,$(or $($(t)_VARIANTS),asan),$(eval $(call suite_rules,$(t),$(v),$($(v)_DIR)/test/$(t),120))))
$(foreach t,$(TESTS_SCRIPT),$(foreach v,$(or $($(t)_VARIANTS),asan),$(eval $(call suite_rules,$(t),$(v),$($(t)_CMD),120))))
$(foreach t,$(TESTS_XEN) $(TESTS_APART),$(foreach v,$(or $($(t)_VARIANTS),opt),$(eval $(call suite_rules,$(t),$(v),$($(t)_CMD),600))))

# The longest first, so that none runs alone at the end. $(1) tests, $(2) default variant
by_cost = $(shell printf '%s\n' $(foreach t,$(1),$(foreach s,$(call suite_names,$(t),$(2)),'$(or $($(t)_COST),0) $(s)')) | \
	sort -s -k1,1nr | sed 's/.* //')
UNIT_SUITES := $(call by_cost,$(TESTS_C) $(TESTS_SCRIPT),asan)
XEN_SUITES := $(call by_cost,$(TESTS_XEN),opt)
# One after the other, before the first of these suites: a debug kernel that is not there yet takes both processors for minutes.
XEN_MODULES := $(sort $(KVERS:%=module-%) $(foreach t,$(TESTS_XEN),$(filter module-%,$($(t)_DEPS))))

# Everything that the unit suites need compiled. It is, before the first suite runs: suites may call make themselves.
tests: $(foreach t,$(TESTS_C),$(foreach v,$(or $($(t)_VARIANTS),asan),$($(v)_DIR)/test/$(t)))
tests: $(foreach t,$(TESTS_C) $(TESTS_SCRIPT),$(foreach v,$(or $($(t)_VARIANTS),asan),$(patsubst %,$($(v)_DIR)/bin/%,$($(t)_PROGS))))
tests: $(FUZZERS:%=$(fuzz_DIR)/bin/%)
suites-unit: $(UNIT_SUITES:%=suite-%)
suites-xen: $(XEN_SUITES:%=suite-%)

# Old results go first, so that what did not run cannot count.
clear = @mkdir -p $(RESULTS); rm -rf $(foreach s,$(1),$(RESULTS)/$(s).*)

check: check-packages-unit check-packages-xen
	$(call clear,$(UNIT_SUITES) $(XEN_SUITES))
	@$(MAKE) -k -j$(JOBS) libraries programs tests || :
	@$(MAKE) -k -j$(JOBS) suites-unit || :
	@$(MAKE) -k -j1 $(XEN_MODULES) || :
	@$(MAKE) -k -j$(XEN_JOBS) suites-xen || :
	@tools/setup/memx-tally $(RESULTS) $(UNIT_SUITES) $(XEN_SUITES)

check-unit: check-packages-unit
	$(call clear,$(UNIT_SUITES))
	@$(MAKE) -k -j$(JOBS) libraries programs tests || :
	@$(MAKE) -k -j$(JOBS) suites-unit || :
	@tools/setup/memx-tally $(RESULTS) $(UNIT_SUITES)

check-xen: check-packages-xen
	$(call clear,$(XEN_SUITES))
	@$(MAKE) -k -j$(JOBS) libraries programs || :
	@$(MAKE) -k -j1 $(XEN_MODULES) || :
	@$(MAKE) -k -j$(XEN_JOBS) suites-xen || :
	@tools/setup/memx-tally $(RESULTS) $(XEN_SUITES)

hogs: SUITES := $(HOGS_SUITES)
check-debug-kernel: SUITES := $(DEBUG_SUITES)
hogs check-debug-kernel: check-packages-xen
	$(call clear,$(SUITES))
	@$(MAKE) -k -j$(JOBS) libraries programs || :
	@$(MAKE) -k -j1 $(SUITES:%=suite-%) || :
	@tools/setup/memx-tally $(RESULTS) $(SUITES)

check-packages-unit:
	@tools/setup/packages build unit
check-packages-xen:
	@tools/setup/packages build unit xen

# The guest module. Objects of each kernel stay below build/module/KVER, with links to the sources beside them.

module: module-$(KVER)$(if $(filter 1,$(MEMX_UNSAFE_RECLAIM)),-unsafe-reclaim)
modules: $(KVERS:%=module-%)
# For tests alone: against kernels with detectors, and with a rule switched off (guest/reclaim.h).
TEST_MODULES := module-debug-pv module-debug-pvh $(KVERS:%=module-%-unsafe-reclaim)
$(KVERS:%=module-%) $(TEST_MODULES): module-%:
	+@tools/setup/build-module $*

# What the static checkers read: each source with the flags of its first owner, and headers that are made.
generated: $(GENERATED)
lint-sources:
	$(foreach o,$(LIBRARIES) $(PROGRAMS) $(TESTS_C) $(FUZZERS),$(foreach s,$($(o)_SRCS),\
		@printf '%s\t%s\n' $(s) "-std=gnu11 $(BASE_CPPFLAGS) $($(o)_CPPFLAGS)$(if $(call pkgs,$(o)), $$($(PKG_CONFIG) --cflags $(call pkgs,$(o))))"$(newline)))

lint:
	@tools/setup/packages build unit
	@tools/lint/memx-lint

demo:
	@tools/setup/packages
	@$(MAKE) -j$(JOBS) programs
	@$(MAKE) module-$(KVER)
	@tools/demo/memx-demo --kernel $(KVER) $(DEMO_ARGS)

bench:
	@tools/setup/packages build
	@$(MAKE) -j$(JOBS) memx-bench memx-server memx-dom0-relay
	@MEMX_BIN=$(CURDIR)/$(B)/bin $(B)/bin/memx-bench $(BENCH_ARGS)

# With FAULTS_SEED a campaign's faults come as they came then. Every part is run, whatever became of the one before.
FAULTS_PARTS := native throughput xen
faults:
	+@failed=; for part in $(FAULTS_PARTS); do \
		$(MAKE) --no-print-directory faults-$$part || failed="$$failed faults-$$part"; \
	done; \
	if [ -n "$$failed" ]; then echo "faults: failed:$$failed (the seed is above, behind \"again\")"; exit 1; fi; \
	echo "faults: all parts passed: $(FAULTS_PARTS)"
faults-native: $(faults-native_PROGS:%=$(B)/bin/%)
	@MEMX_BIN=$(CURDIR)/$(B)/bin tools/faults/memx-faults --seed $(or $(FAULTS_SEED),0) --faults $(or $(FAULTS_N),1000) \
		--report build/faults-native.json
# FAULTS_MIB are rebuilt while a client goes on.
faults-throughput: $(faults-native_PROGS:%=$(B)/bin/%)
	@MEMX_BIN=$(CURDIR)/$(B)/bin tools/faults/memx-faults --throughput $(or $(FAULTS_MIB),1024) --seed $(or $(FAULTS_SEED),0) \
		$(FAULTS_ARGS)

faults-xen: module-6.1 $(faults-xen_PROGS:%=$(B)/bin/%)
	@MEMX_BIN=$(CURDIR)/$(B)/bin tools/faults/memx-faults --where xen --seed $(or $(FAULTS_SEED),0) --faults $(or $(FAULTS_XEN_N),50) \
		--report build/faults-xen.json

FUZZ_SECONDS ?= 60
fuzzers: $(FUZZERS:%=$(fuzz_DIR)/bin/%)
fuzz: $(FUZZERS:%=fuzz-run-%)
$(FUZZERS:%=fuzz-run-%): fuzz-run-%: $(fuzz_DIR)/bin/%
	@mkdir -p build/fuzz/corpus/$*
	$< -max_total_time=$(FUZZ_SECONDS) -max_len=$(or $($*_MAX_LEN),600) -rss_limit_mb=2048 -timeout=30 \
		-artifact_prefix=build/fuzz/$*- build/fuzz/corpus/$* $($*_CORPUS)

# $(1) files as path:destination
define install_files
	@$(foreach f,$(1),from=$(firstword $(subst :, ,$(f))); mode=0644; [ ! -x $$from ] || mode=0755; \
		$(INSTALL) -D -m $$mode $$from \
		$(DESTDIR)$(patsubst %/,%/$(notdir $(firstword $(subst :, ,$(f)))),$(lastword $(subst :, ,$(f))));) true
endef

install: programs
	@$(foreach p,$(PROGRAMS),$(if $($(p)_NOINSTALL),,\
		$(INSTALL) -D -m 0755 $(B)/bin/$(p) $(DESTDIR)$(if $(filter bin,$($(p)_BINDIR)),$(bindir),$(sbindir))/$(p) &&)) true
	$(call install_files,$(INSTALL_FILES) $(GUEST_FILES))

# What a guest needs beside the module; no compiler, no library.
install-guest:
	$(call install_files,$(GUEST_FILES))

# The module's source for DKMS in a guest: dkms add memx/VERSION builds it for every kernel that is installed there.
DKMS_VERSION := $(file <VERSION)
DKMS_DIR = $(DESTDIR)$(srcdir_dkms)/memx-$(DKMS_VERSION)
install-dkms: build/include/memx-version.h
	@for file in $$(find Kbuild guest shared/memx COPYING \( -name '*.[chS]' -o -name Kbuild -o -name COPYING \) -type f); do \
		$(INSTALL) -D -m 0644 $$file $(DKMS_DIR)/$$file; \
	done
	@$(INSTALL) -D -m 0644 build/include/memx-version.h $(DKMS_DIR)/include/memx-version.h
	@sed 's/@VERSION@/$(DKMS_VERSION)/' tools/setup/dkms.conf.in > $(DKMS_DIR)/dkms.conf

clean:
	rm -rf build

FORCE:
.PHONY: all programs libraries tests suites-unit suites-xen check check-unit check-xen check-packages-unit check-packages-xen \
	generated lint-sources module modules $(KVERS:%=module-%) $(TEST_MODULES) lint demo hogs check-debug-kernel bench fuzz fuzzers \
	faults faults-native faults-throughput faults-xen \
	$(FUZZERS:%=fuzz-run-%) install install-guest install-dkms clean FORCE \
	$(PROGRAMS) $(foreach t,$(TESTS_C) $(TESTS_SCRIPT) $(TESTS_XEN) $(TESTS_APART),suite-$(t))
