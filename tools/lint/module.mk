# SPDX-License-Identifier: GPL-2.0-only
#
# The module's own check is a suite of its own (tools/setup), so that its kernels are built once.

TESTS_SCRIPT += lint
lint_CMD := tools/lint/memx-lint gcc clang sparse checkpatch clang-tidy cppcheck scripts house
lint_VARIANTS := opt
lint_TIMEOUT := 2400
lint_COST := 400

TESTS_SCRIPT += lint-looks
lint-looks_CMD := tools/lint/tests/looks.py
lint-looks_VARIANTS := opt
