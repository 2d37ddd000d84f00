// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-shmguests.c - libFuzzer target: what a process sends to the relay's socket for guests over shared memory.
 *
 * The input is a list of steps of two processes: an offer, plausible or with any field changed, and descriptors of all kinds with
 * it; a message that is none; the end. The core and the links are played; sockets, memory and descriptors are real.
 *
 * What must hold: only whom the configuration allows gets a link, with as many lanes as it offered, each of them over memory that
 * is as long as the lane says and stays so; who speaks for one guest does not become another; a suspend is told as one; and in
 * the end no descriptor is left, nor anything mapped.
 */
#define core_guest_gone played_guest_gone
#include "../edge/shmguests.c"	/* NOLINT(bugprone-suspicious-include): what is tried is static there */
#include "configuration.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <fuzz/fuzz.h>

enum { PROCESSES = 2, PAGE = 4096, KNOWN = 256 };

static struct fuzz_in in;
static struct shm_edge *edge;
static struct worker worker;
static int process[PROCESSES];
static u32 mapped;

static struct {
	struct link_owner *owner;
	struct memx_chan *chans[MEMX_MAX_LANES];
	unsigned int lanes;
} links[PROCESSES];

/* Who each process said that it is, when it was allowed. */
static struct {
	u32 domid;
	u8 vm[16];
} known[KNOWN];

/* ---- played: core and links ---- */

void played_guest_gone(struct relay_core *core, const u8 vm[16], u32 domid, bool suspended, u64 now)
{
	(void)core, (void)now, (void)suspended;
	fuzz_must(known[domid % KNOWN].domid == domid && !memcmp(vm, known[domid % KNOWN].vm, 16), "a guest that was never known");
}

/* The rings can be used, and are of the sizes that were agreed. */
static void use_lane(struct memx_chan *chan)
{
	struct memx_vring *ring = &chan->ring;
	const volatile u8 *rx = ring->rx;
	volatile u8 *tx = ring->tx;

	fuzz_must(ring->rx_size >= 1U << MEMX_VCHAN_MIN_ORDER && ring->rx_size <= 1U << MEMX_VCHAN_MAX_ORDER, "%u", ring->rx_size);
	fuzz_must(ring->tx_size >= 1U << MEMX_VCHAN_MIN_ORDER && ring->tx_size <= 1U << MEMX_VCHAN_MAX_ORDER, "%u", ring->tx_size);
	tx[0] = rx[0] + rx[ring->rx_size - 1];
	tx[ring->tx_size - 1] = 1;
	memx_vring_avail(ring);
	memx_vring_space(ring);
	chan->ops->ack(chan);
	chan->ops->notify(chan);
}

struct edge_link *link_up(struct worker *w, const struct core_guest_conf *conf, u64 offer, struct memx_chan **chans,
			  unsigned int lanes, struct link_owner *owner)
{
	u32 i, at = PROCESSES, domid = conf->domid;

	(void)offer;
	fuzz_must(known[domid % KNOWN].domid != domid || !memcmp(conf->vm, known[domid % KNOWN].vm, 16), "another guest than before");
	known[domid % KNOWN].domid = domid;
	memcpy(known[domid % KNOWN].vm, conf->vm, 16);
	fuzz_must(w == &worker && lanes >= 1 && lanes <= MEMX_MAX_LANES, "%u lanes", lanes);
	fuzz_must(!strcmp(conf->name, "one") || conf->vm[0] == 0x42, "%s is not allowed", conf->name);
	for (i = 0; i < lanes; i++)
		use_lane(chans[i]);
	for (i = 0; i < PROCESSES; i++) {
		fuzz_must(links[i].owner != owner, "two links of one process");
		at = links[i].owner ? at : i;
	}
	if (at == PROCESSES || fuzz_rarely(&in, 8)) {
		owner->ended(owner, chans, lanes, "too many");
		return NULL;
	}
	links[at].owner = owner;
	links[at].lanes = lanes;
	memcpy(links[at].chans, chans, lanes * sizeof(*chans));
	mapped++;
	return (struct edge_link *)&links[at];
}

void link_gone(struct edge_link *link, const char *reason)
{
	struct link_owner *owner;
	u32 i;

	for (i = 0; (void *)link != &links[i]; i++)
		fuzz_must(i < PROCESSES, "no link");
	owner = links[i].owner;
	fuzz_must(owner, "a link that is gone");
	links[i].owner = NULL;
	mapped--;
	owner->ended(owner, links[i].chans, links[i].lanes, reason);
}

static void turn(struct memx_work *work)
{
	fuzz_must(work, "a turn of nothing");
}

/* ---- what a process sends ---- */

static size_t lane_len(u16 order)
{
	return order < 12 ? PAGE : order <= 21 ? (size_t)1 << order : PAGE;
}

static int memory(size_t len, bool odd)
{
	int fd = memfd_create("lane", MFD_CLOEXEC | MFD_ALLOW_SEALING), seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	u32 how = odd ? fuzz_pick(&in, 8) : 8;

	fuzz_must(fd >= 0 && !ftruncate(fd, (off_t)(how == 1 ? len - 1 : how == 2 ? len + PAGE : how == 3 ? 0 : len)), "no memory");
	if (how == 4)
		seals = F_SEAL_GROW;
	else if (how == 5)
		seals = 0;
	else if (how == 6)
		seals |= F_SEAL_WRITE;
	if (seals && fcntl(fd, F_ADD_SEALS, seals) < 0)
		fuzz_must(errno == EBUSY, "no seals");
	return fd;
}

/* One of those that come with an offer; an odd one may be anything that has a descriptor. */
static int descriptor(u32 which, const struct memx_shm_msg *m, bool odd)
{
	u32 lane = which / 3 < MEMX_MAX_LANES ? which / 3 : 0;
	int fds[2];

	if (odd && fuzz_rarely(&in, 2)) {
		switch (fuzz_pick(&in, 5)) {
		case 0:
			return open("/dev/null", O_RDWR | O_CLOEXEC);
		case 1:
			return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		case 2:
			fuzz_must(!pipe2(fds, O_CLOEXEC), "no pipe");
			close(fds[1]);
			return fds[0];
		case 3:
			return eventfd(fuzz_u8(&in), EFD_CLOEXEC | (fuzz_rarely(&in, 2) ? EFD_SEMAPHORE : 0));
		default:
			return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		}
	}
	if (which % 3)
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return memory(PAGE + lane_len(m->lane[lane].left_order) + lane_len(m->lane[lane].right_order), odd);
}

static void send_offer(u32 who)
{
	u32 how = fuzz_u8(&in), lanes = 1 + how % 3, count = 3 * lanes, i, changes, odd = how & 64 ? fuzz_pick(&in, count) : ~0U;
	struct memx_shm_msg m = { .magic = MEMX_SHM_MAGIC, .type = MEMX_SHM_OFFER, .lanes = (u8)lanes, .offer = 1 + how };
	int fds[MEMX_SHM_FDS + 4];
	union {
		char buf[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf };

	memcpy(m.name, how & 4 ? "one" : "two", 4);
	memset(m.uuid, how & 4 ? 0 : 0x42, sizeof(m.uuid));
	m.uuid[0] |= how & 4 ? 1 : 0;
	for (i = 0; i < lanes; i++)
		m.lane[i].left_order = m.lane[i].right_order = (u16)(10 + how % 4);
	for (changes = how & 128 ? 1 + fuzz_pick(&in, 3) : 0; changes; changes--)
		((u8 *)&m)[fuzz_u8(&in) % sizeof(m)] = (u8)fuzz_odd(&in);
	if (how & 32)
		count = fuzz_pick(&in, MEMX_SHM_FDS + 4);
	for (i = 0; i < count; i++)
		fds[i] = descriptor(i, &m, i == odd);
	if (count) {
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, count * sizeof(int));
	} else {
		msg.msg_control = NULL;
	}
	if (fuzz_rarely(&in, 16))
		iov.iov_len = fuzz_u8(&in) % sizeof(m);
	if (sendmsg(process[who], &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		fuzz_must(errno == EPIPE || errno == EAGAIN || errno == ENOTCONN || errno == ECONNRESET, "not sent: %m");
	for (i = 0; i < count; i++)
		close(fds[i]);
}

static void step(void)
{
	u32 what = fuzz_u8(&in), who = what & 1, i;
	u8 noise[200];

	switch (what >> 1 & 7) {
	case 0: case 1: case 2: case 3:
		if (process[who] < 0)
			process[who] = memx_shm_connect(edge->path);
		send_offer(who);
		break;
	case 4:
		if (process[who] >= 0)
			memx_shm_say(process[who], what & 16 ? MEMX_SHM_SUSPEND : MEMX_SHM_SHUTDOWN, NULL);
		break;
	case 5:
		for (i = 0; i < what >> 1; i++)
			noise[i] = fuzz_u8(&in);
		if (process[who] >= 0 && send(process[who], noise, what >> 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			close(process[who]), process[who] = -1;
		break;
	case 6:
		if (process[who] >= 0)
			close(process[who]);
		process[who] = -1;
		break;
	default:
		for (i = 0; i < PROCESSES; i++)
			if (links[i].owner && what & 16)
				((struct shm_guest *)links[i].owner)->link = NULL, link_gone((struct edge_link *)&links[i], "over");
	}
	memx_loop_round(worker.loop, 0);
}

static u32 descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	u32 n = 0;

	fuzz_must(dir, "no /proc");
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static char path[64];
	u32 i, before;

	if (!edge) {
		worker.conf = fuzz_configuration();
		worker.loop = memx_loop_new();
		worker.turn.run = turn;
		memx_log_init("fuzz", MEMX_LOG_ERR);
		snprintf(path, sizeof(path), "/tmp/memx-fuzz-shm.%d", (int)getpid());
		edge = shm_edge_new(&worker, path);
		fuzz_must(edge, "%s: %m", path);
		unlink(path);			/* whoever has it open, has it */
		shm_edge_free(edge);
		edge = shm_edge_new(&worker, path);
	}
	before = descriptors();
	in = (struct fuzz_in){ data, data + size };
	process[0] = process[1] = -1;
	while (in.at < in.end)
		step();
	for (i = 0; i < PROCESSES; i++)
		if (process[i] >= 0)
			close(process[i]);
	for (i = 0; i < 100 && (edge->guests || i < 2); i++)
		memx_loop_round(worker.loop, 0);
	fuzz_must(!edge->guests && !edge->count, "%u guests are left", edge->count);
	fuzz_must(!mapped, "%u links are left", mapped);
	fuzz_must(descriptors() == before, "%u descriptors, there were %u", descriptors(), before);
	return 0;
}
