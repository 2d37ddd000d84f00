# SPDX-License-Identifier: GPL-2.0-only
# Tests of the donor: its core rule by rule, then the real program over sockets.

SRV_TESTS := test-server-fence test-server-pages test-server-extents test-server-memory test-server-hostile \
	test-server-pressure test-server-reclaim test-server-drop
TESTS_C += $(SRV_TESTS)
$(foreach t,$(SRV_TESTS),$(eval $(t)_SRCS := server/tests/harness.c $(t:test-server-%=server/tests/test-%.c)))
$(foreach t,$(SRV_TESTS),$(eval $(t)_LIBS := memx-server-core))
$(foreach t,$(SRV_TESTS),$(eval $(t)_PKGS := libxxhash))
test-server-memory_SRCS += server/memfd_store.c

TESTS_SCRIPT += server
server_CMD := server/tests/server.py
server_PROGS := memx-server
server_DEPS := server/tests/wire.py server/server.conf
server_TIMEOUT := 300
