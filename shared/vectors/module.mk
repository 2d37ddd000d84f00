# SPDX-License-Identifier: GPL-2.0-only
# Test vectors: text to a header for kernel and user space.

GENERATED += build/include/memx-vectors.h
build/include/memx-vectors.h: shared/vectors/gen-vectors $(wildcard shared/vectors/*.txt)
	@mkdir -p $(@D)
	$(call say,GEN,$@)
	$(Q)shared/vectors/gen-vectors $@
