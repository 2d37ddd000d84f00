// SPDX-License-Identifier: GPL-2.0-only
/*
 * debugfs.c - how long pages take: memx/store_latency and memx/fetch_latency; and what the channels do: memx/lanes.
 *
 * Of the latencies each line is "BELOW COUNT": so many pages took less than BELOW microseconds, from the swap core's call to the
 * end of the request that they came with, and no less than the line before says. Writing anything to either file begins both anew.
 *
 * Of the lanes each line is "LANE KIND RECEIVED SPURIOUS SENT": events from the relay, those of them that had nothing behind
 * them and went on coming, and events to the relay; then how it stands with the lane at this moment, as words NAME=VALUE
 * (struct memx_lane_stand): what is here and since when, what is out, flags, and what is in the ring. No program may rely on
 * the words.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/seq_file.h>

#include "module.h"
#include "transport.h"

static struct dentry *folder;

static int show_latency(struct seq_file *m, enum memx_latency what)
{
	unsigned int bucket;
	u64 count;

	for (bucket = 0; bucket < MEMX_BUCKETS; bucket++) {
		count = memx_session_latency(m->private, what, bucket);
		if (count)
			seq_printf(m, "%llu %llu\n", 1ULL << bucket, count);
	}
	return 0;
}

static int show_store(struct seq_file *m, void *unused)
{
	return show_latency(m, MEMX_LAT_STORE);
}

static int show_fetch(struct seq_file *m, void *unused)
{
	return show_latency(m, MEMX_LAT_FETCH);
}

static int open_store(struct inode *inode, struct file *file)
{
	return single_open(file, show_store, inode->i_private);
}

static int open_fetch(struct inode *inode, struct file *file)
{
	return single_open(file, show_fetch, inode->i_private);
}

static ssize_t clear(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	memx_session_latency_clear(file_inode(file)->i_private);
	return len;
}

static const struct file_operations store_fops = {
	.owner = THIS_MODULE,
	.open = open_store,
	.read = seq_read,
	.write = clear,
	.llseek = seq_lseek,
	.release = single_release,
};

static const struct file_operations fetch_fops = {
	.owner = THIS_MODULE,
	.open = open_fetch,
	.read = seq_read,
	.write = clear,
	.llseek = seq_lseek,
	.release = single_release,
};

static void show_stand(struct seq_file *m, const struct memx_lane_stand *l)
{
	seq_printf(m, " up=%d go=%d live=%d failed=%d due=%d tx=%d,%d rx=%d,%d", l->up, l->go, l->live, l->failed, l->due,
		   l->tx_owner, l->tx_again, l->rx_owner, l->rx_again);
	seq_printf(m, " pending=%u/%llums parked=%u held=%u owed=%u", l->pending, l->pending_ms, l->parked, l->held, l->owed);
	seq_printf(m, " out=%u/%u,%llums pages=%u/%u reply=%u/%u", l->requests, l->requests_max, l->out_ms,
		   l->pages, l->pages_max, l->reply, l->reply_max);
	seq_printf(m, " ring_tx=%u/%u ring_rx=%u/%u wish=%u,%u\n", l->tx_used, l->tx_size, l->rx_ready, l->rx_size,
		   l->wish_own, l->wish_peer);
}

static int lanes_show(struct seq_file *m, void *unused)
{
	struct memx_session *s = m->private;
	struct memx_lane_stand stand;
	struct memx_lane_counters c;
	unsigned int lane;
	u8 kind;

	for (lane = 0; lane < memx_session_lanes(s); lane++) {
		memx_session_lane(s, lane, &kind, &c);
		memx_session_lane_stand(s, lane, &stand);
		seq_printf(m, "%u %s %llu %llu %llu", lane, kind == MEMX_LANE_STORE ? "store" : "fetch",
			   c.events, c.spurious, c.notified);
		show_stand(m, &stand);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lanes);

void memx_debugfs_create(struct memx_session *s)
{
	folder = debugfs_create_dir("memx", NULL);
	debugfs_create_file("store_latency", 0600, folder, s, &store_fops);
	debugfs_create_file("fetch_latency", 0600, folder, s, &fetch_fops);
	debugfs_create_file("lanes", 0400, folder, s, &lanes_fops);
}

void memx_debugfs_remove(void)
{
	debugfs_remove(folder);
}
