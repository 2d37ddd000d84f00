// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-shm.c - lanes in shared memory: the offer, what is refused, and two threads that stream through a lane with the
 * notify protocol doing the waking (the ring's stress under ThreadSanitizer).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "user/shm.h"
#include "user/text.h"

enum { WAIT_MS = 60000 };

static const u8 uuid[16] = { 1, 2, 3 };

/* An offer of @lanes over a socket pair, received: what a relay has in hand. */
static void offer(struct memx_shm_lane *lanes, unsigned int count, struct memx_shm_msg *msg, int fds[MEMX_SHM_FDS])
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(memx_shm_offer(pair[0], "guest", uuid, 77, lanes, count), 0);
	assert_int_equal(memx_shm_recv(pair[1], msg, fds), 1);
	close(pair[0]);
	close(pair[1]);
}

static void test_offer(void **state)
{
	struct memx_shm_lane lanes[2];
	struct memx_shm_msg msg;
	struct memx_chan *a, *b;
	int fds[MEMX_SHM_FDS];
	const char *why;
	char buf[8] = "";

	(void)state;
	assert_int_equal(memx_shm_lane_new(&lanes[0], 10, 20), 0);
	assert_int_equal(memx_shm_lane_new(&lanes[1], 20, 12), 0);
	offer(lanes, 2, &msg, fds);
	assert_string_equal(msg.name, "guest");
	assert_memory_equal(msg.uuid, uuid, 16);
	assert_int_equal(msg.offer, 77);
	assert_false(memx_chan_peer_live(lanes[0].chan));
	a = memx_shm_attach(&msg, fds, 0, &why);
	b = memx_shm_attach(&msg, fds, 1, &why);
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(a->ring.tx_size, 1 << 10);
	assert_int_equal(a->ring.rx_size, 1 << 20);
	assert_int_equal(b->ring.tx_size, 1 << 20);
	assert_true(memx_chan_peer_live(a));
	assert_true(memx_chan_peer_live(lanes[0].chan));

	memx_vring_put(&lanes[0].chan->ring, 0, "hello", 5);
	assert_true(memx_vring_publish(&lanes[0].chan->ring, 5));
	assert_int_equal(memx_vring_avail(&a->ring), 5);
	memx_vring_peek(&a->ring, 0, buf, 5);
	assert_string_equal(buf, "hello");

	a->ops->close(a);
	assert_false(memx_chan_peer_live(lanes[0].chan));
	memx_shm_lane_free(&lanes[1]);
	assert_false(memx_chan_peer_live(b));
	b->ops->close(b);
	memx_shm_lane_free(&lanes[0]);
}

/* The same memory and descriptors are offered again after the client is gone. */
static void test_offer_again(void **state)
{
	struct memx_shm_lane lane;
	struct memx_shm_msg msg;
	struct memx_chan *chan;
	int fds[MEMX_SHM_FDS];
	const char *why;

	(void)state;
	assert_int_equal(memx_shm_lane_new(&lane, 12, 12), 0);
	for (int i = 0; i < 3; i++) {
		offer(&lane, 1, &msg, fds);
		chan = memx_shm_attach(&msg, fds, 0, &why);
		assert_non_null(chan);
		assert_int_equal(memx_vring_avail(&chan->ring), 0);
		memx_vring_put(&lane.chan->ring, 0, "left over", 9);
		memx_vring_publish(&lane.chan->ring, 9);
		chan->ops->close(chan);
		memx_shm_lane_reset(&lane);
	}
	memx_shm_lane_free(&lane);
}

static void refused(struct memx_shm_msg *msg, int fds[MEMX_SHM_FDS], const char *want)
{
	const char *why = NULL;

	assert_null(memx_shm_attach(msg, fds, 0, &why));
	assert_string_equal(why, want);
	for (int i = 0; i < MEMX_SHM_FDS; i++)
		assert_int_equal(fds[i], -1);
}

static int open_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_refusals(void **state)
{
	struct memx_shm_lane lane, small;
	struct memx_shm_msg msg;
	int fds[MEMX_SHM_FDS], before;

	(void)state;
	assert_int_equal(memx_shm_lane_new(&lane, 12, 13), 0);
	assert_int_equal(memx_shm_lane_new(&small, 12, 12), 0);
	before = open_fds();

	offer(&lane, 1, &msg, fds);
	msg.lane[0].left_order = 9;
	refused(&msg, fds, "a ring of a size that is not accepted");
	offer(&lane, 1, &msg, fds);
	msg.lane[0].right_order = 21;
	refused(&msg, fds, "a ring of a size that is not accepted");
	offer(&small, 1, &msg, fds);
	msg.lane[0].right_order = 20;
	refused(&msg, fds, "the memory has the wrong size");

	offer(&lane, 1, &msg, fds);
	close(fds[0]);
	fds[0] = memfd_create("unsealed", MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fds[0], 4096 + 4096 + 8192), 0);
	refused(&msg, fds, "the memory is no memfd sealed against a change of its size");
	offer(&lane, 1, &msg, fds);
	close(fds[0]);
	fds[0] = open("/dev/null", O_RDWR);
	refused(&msg, fds, "the memory is no memfd sealed against a change of its size");
	offer(&lane, 1, &msg, fds);
	close(fds[1]);
	fds[1] = open("/dev/null", O_RDWR);
	refused(&msg, fds, "no eventfd");
	offer(&lane, 1, &msg, fds);
	close(fds[2]);
	fds[2] = open("/dev/null", O_RDWR);
	refused(&msg, fds, "no eventfd");

	assert_int_equal(open_fds(), before);
	memx_shm_lane_free(&lane);
	memx_shm_lane_free(&small);
}

/* Messages that are none, and descriptors that do not belong to what they came with. */
static void test_messages(void **state)
{
	struct memx_shm_msg msg = { .magic = MEMX_SHM_MAGIC, .type = MEMX_SHM_OFFER, .lanes = 1 }, got;
	int pair[2], fds[MEMX_SHM_FDS];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), -EAGAIN);
	assert_int_equal(send(pair[0], &msg, sizeof(msg), 0), sizeof(msg));
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), -EPROTO);	/* an offer without descriptors */
	assert_int_equal(send(pair[0], &msg, 10, 0), 10);
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), -EPROTO);
	msg.type = 99;
	assert_int_equal(send(pair[0], &msg, sizeof(msg), 0), sizeof(msg));
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), -EPROTO);
	msg.type = MEMX_SHM_SUSPEND;
	memset(msg.name, 'x', sizeof(msg.name));
	assert_int_equal(send(pair[0], &msg, sizeof(msg), 0), sizeof(msg));
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), -EPROTO);	/* a name without end */
	assert_int_equal(memx_shm_say(pair[0], MEMX_SHM_SHUTDOWN, NULL), 0);
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), 1);
	assert_int_equal(got.type, MEMX_SHM_SHUTDOWN);
	close(pair[0]);
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), 0);
	close(pair[1]);
}

/* A message of no bytes is no end where descriptors come with it, and they do not stay. */
static void test_descriptors_alone(void **state)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .align = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr msg = { .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
	int pair[2], fds[MEMX_SHM_FDS], before;
	struct memx_shm_msg got;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	memcpy(CMSG_DATA(&control.align), &pair[0], sizeof(int));
	before = open_fds();
	assert_int_equal(sendmsg(pair[0], &msg, 0), 0);
	assert_int_equal(memx_shm_recv(pair[1], &got, fds), -EPROTO);
	assert_int_equal(open_fds(), before);
	close(pair[0]);
	close(pair[1]);
}

/* The client's mapping of what the guest sends is read-only. */
static void test_read_only(void **state)
{
	struct memx_shm_lane lane;
	struct memx_shm_msg msg;
	struct memx_chan *chan;
	int fds[MEMX_SHM_FDS];
	const char *why;
	char line[256], want[32];
	bool found = false;
	FILE *maps;

	(void)state;
	assert_int_equal(memx_shm_lane_new(&lane, 12, 12), 0);
	offer(&lane, 1, &msg, fds);
	chan = memx_shm_attach(&msg, fds, 0, &why);
	snprintf(want, sizeof(want), "%lx-", (unsigned long)(uintptr_t)chan->ring.rx);
	maps = fopen("/proc/self/maps", "re");
	while (fgets(line, sizeof(line), maps))
		if (!strncmp(line, want, strlen(want)))
			found = strstr(line, " r--s ");
	fclose(maps);
	assert_true(found);
	chan->ops->close(chan);
	memx_shm_lane_free(&lane);
}

/* ---- two threads ---- */

enum { FRAMES = 20000, MAX_LEN = 700, TURN = 50 };

static u32 length_of(u32 frame)
{
	return 1 + frame * 2654435761U % MAX_LEN;
}

/* Waits until the ring has @need bytes to read (@bit WRITE) or room for them. False: timeout. */
static bool wait_ring(struct memx_chan *chan, u8 bit, int need)
{
	struct pollfd p = { .fd = chan->fd, .events = POLLIN };

	for (;;) {
		int have = bit == MEMX_VCHAN_WRITE ? memx_vring_avail(&chan->ring) : memx_vring_space(&chan->ring);

		if (have >= need)
			return true;
		memx_vring_want(&chan->ring, bit);
		have = bit == MEMX_VCHAN_WRITE ? memx_vring_avail(&chan->ring) : memx_vring_space(&chan->ring);
		if (have >= need)
			return true;
		if (poll(&p, 1, WAIT_MS) <= 0)
			return false;
		chan->ops->ack(chan);
	}
}

static bool put_frame(struct memx_chan *chan, u32 frame)
{
	u8 data[MAX_LEN];
	u32 len = length_of(frame);

	memset(data, (int)(frame & 0xff), len);
	if (!wait_ring(chan, MEMX_VCHAN_READ, (int)len))
		return false;
	memx_vring_put(&chan->ring, 0, data, len);
	if (memx_vring_publish(&chan->ring, len))
		chan->ops->notify(chan);
	return true;
}

static bool get_frame(struct memx_chan *chan, u32 frame)
{
	u8 data[MAX_LEN];
	u32 len = length_of(frame);

	if (!wait_ring(chan, MEMX_VCHAN_WRITE, (int)len))
		return false;
	memx_vring_peek(&chan->ring, 0, data, len);
	if (memx_vring_consume(&chan->ring, len))
		chan->ops->notify(chan);
	for (u32 i = 0; i < len; i++)
		if (data[i] != (u8)frame)
			return false;
	return true;
}

/* Sends a run of frames, then takes as many back, so that both wait for data and for room, and nobody may miss a wake-up. */
static bool ping(struct memx_chan *chan)
{
	for (u32 at = 0; at < FRAMES; at += TURN) {
		for (u32 i = 0; i < TURN; i++)
			if (!put_frame(chan, at + i))
				return false;
		for (u32 i = 0; i < TURN; i++)
			if (!get_frame(chan, at + i))
				return false;
	}
	return true;
}

static void *pong(void *arg)
{
	for (u32 at = 0; at < FRAMES; at++)
		if (!get_frame(arg, at) || !put_frame(arg, at))
			return NULL;
	return arg;
}

static void test_two_threads(void **state)
{
	struct memx_shm_lane lane;
	struct memx_shm_msg msg;
	struct memx_chan *chan;
	int fds[MEMX_SHM_FDS];
	const char *why;
	pthread_t thread;
	void *done;

	(void)state;
	/* The ring towards the client is smaller than a run, the other one is not, or both would wait for room. */
	assert_int_equal(memx_shm_lane_new(&lane, 17, 12), 0);
	offer(&lane, 1, &msg, fds);
	chan = memx_shm_attach(&msg, fds, 0, &why);
	assert_non_null(chan);
	assert_int_equal(pthread_create(&thread, NULL, pong, chan), 0);
	assert_true(ping(lane.chan));
	pthread_join(thread, &done);
	assert_ptr_equal(done, chan);
	chan->ops->close(chan);
	memx_shm_lane_free(&lane);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_offer_again),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_descriptors_alone),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
