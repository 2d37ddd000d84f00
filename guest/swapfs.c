// SPDX-License-Identifier: GPL-2.0-only
/*
 * swapfs.c - the pseudo file system "memx": one super block, one regular file "swap" that can be given to swapon(8).
 *
 * The file has no data. Its first page is a swap header, made when it is read, so that no mkswap is needed; to read anything
 * else is an error, for there is nothing to see but through the swap core. Its size is one page until the first attach has
 * said how large the swap is. i_blocks covers the size, because swapon(8) refuses files with holes.
 *
 * The session is registered before the file system is and outlives it: an open file or a mount pins the module.
 */
#include <linux/fs_context.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/statfs.h>
#include <linux/swap.h>
#include <linux/version.h>

#include "session_int.h"
#include "swapfs.h"
#include "swapheader.h"

#define MEMX_FS_MAGIC	0x584d454d	/* "MEMX" */

static struct memx_session *fs_session;
static DEFINE_MUTEX(fs_mutex);		/* fs_inode and its size */
static struct inode *fs_inode;		/* of the file, while there is a super block */

struct memx_session *memx_swap_session(void)
{
	return fs_session;
}

int memx_swap_read_folio(struct file *file, struct folio *folio)
{
	u32 slots = memx_session_slots(fs_session);
	int err = folio->index ? -EIO : 0;
	void *page;
	u8 id[16];

	if (!err && !slots) {
		/* The worker takes this folio out of the file when a session ends: it is not waited for with the folio locked. */
		folio_unlock(folio);
		err = memx_session_await(fs_session);
		return err ? err : AOP_TRUNCATED_PAGE;
	}
	if (!err) {
		memx_session_id(fs_session, id);
		page = kmap_local_folio(folio, 0);
		memx_swap_header(page, slots, id);
		kunmap_local(page);
		flush_dcache_folio(folio);
		folio_mark_uptodate(folio);
	}
	folio_unlock(folio);
	return err;
}

static const struct file_operations swap_file_ops = {
	.llseek		= generic_file_llseek,
	.read_iter	= generic_file_read_iter,
};

static void set_size(struct inode *inode, u32 slots)
{
	loff_t size = (loff_t)max(slots, 1U) << PAGE_SHIFT;

	i_size_write(inode, size);
	inode->i_blocks = (blkcnt_t)(size >> 9);
}

void memx_swapfs_resize(u32 slots)
{
	mutex_lock(&fs_mutex);
	if (fs_inode) {
		set_size(fs_inode, slots);
		/* A header that was read before says another size; also one that is being looked at must not be found again. */
		truncate_inode_pages(fs_inode->i_mapping, 0);
	}
	mutex_unlock(&fs_mutex);
}

static void init_times(struct inode *inode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	simple_inode_init_ts(inode);
#else
	inode->i_atime = current_time(inode);
	inode->i_mtime = inode->i_atime;
	inode->i_ctime = inode->i_atime;
#endif
}

static struct inode *make_inode(struct super_block *sb, unsigned long ino, umode_t mode)
{
	struct inode *inode = new_inode(sb);

	if (!inode)
		return NULL;
	inode->i_ino = ino;
	inode->i_mode = mode;
	init_times(inode);
	return inode;
}

/* Gives @dentry its inode and keeps it for as long as the super block lives. */
static void keep(struct dentry *dentry, struct inode *inode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	d_make_persistent(dentry, inode);
	dput(dentry);
#else
	d_add(dentry, inode);
#endif
}

static const struct super_operations super_ops = {
	.statfs		= simple_statfs,
};

static int fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct inode *root, *inode;
	struct dentry *dentry;

	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	sb->s_magic = MEMX_FS_MAGIC;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_op = &super_ops;
	sb->s_time_gran = 1;

	root = make_inode(sb, 1, S_IFDIR | 0755);
	if (!root)
		return -ENOMEM;
	root->i_op = &simple_dir_inode_operations;
	root->i_fop = &simple_dir_operations;
	set_nlink(root, 2);
	sb->s_root = d_make_root(root);
	if (!sb->s_root)
		return -ENOMEM;

	inode = make_inode(sb, 2, S_IFREG | 0600);
	if (!inode)
		return -ENOMEM;
	inode->i_fop = &swap_file_ops;
	inode->i_mapping->a_ops = &memx_swap_aops;
	dentry = d_alloc_name(sb->s_root, "swap");
	if (!dentry) {
		iput(inode);
		return -ENOMEM;
	}
	mutex_lock(&fs_mutex);
	set_size(inode, memx_session_slots(fs_session));
	fs_inode = inode;
	mutex_unlock(&fs_mutex);
	keep(dentry, inode);
	return 0;
}

static int get_tree(struct fs_context *fc)
{
	return get_tree_single(fc, fill_super);
}

static const struct fs_context_operations context_ops = {
	.get_tree	= get_tree,
};

static int init_fs_context(struct fs_context *fc)
{
	fc->ops = &context_ops;
	return 0;
}

static void kill_sb(struct super_block *sb)
{
	mutex_lock(&fs_mutex);
	fs_inode = NULL;
	mutex_unlock(&fs_mutex);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	kill_anon_super(sb);
#else
	kill_litter_super(sb);
#endif
}

static struct file_system_type memx_fs = {
	.owner			= THIS_MODULE,
	.name			= "memx",
	.init_fs_context	= init_fs_context,
	.kill_sb		= kill_sb,
};
MODULE_ALIAS_FS("memx");

int memx_swapfs_register(struct memx_session *s)
{
	int err;

	fs_session = s;
	err = register_filesystem(&memx_fs);
	if (err)
		fs_session = NULL;
	return err;
}

void memx_swapfs_unregister(void)
{
	unregister_filesystem(&memx_fs);
	fs_session = NULL;
}
