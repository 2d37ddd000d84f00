// SPDX-License-Identifier: GPL-2.0-only
/*
 * edge-xenstore.c - a xenstored that does not answer is noticed, and said once. XenStore is played here, around the very file that
 * reads it; its thread is a real one.
 */
#include "../edge/xenstore.c"	/* NOLINT(bugprone-suspicious-include): the thread's state is static there */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static pthread_mutex_t server;	/* who holds it keeps everybody waiting for an answer */
static atomic_uint reads;
static atomic_bool told;
static int never = -1;

/* ---- played --------------------------------------------------------------------------------------------------------------- */

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
	(void)h, (void)t, (void)path;
	pthread_mutex_lock(&server);
	pthread_mutex_unlock(&server);
	atomic_fetch_add(&reads, 1);
	*len = 0;
	return NULL;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
	(void)h, (void)t, (void)path, (void)data, (void)len;
	return false;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	(void)h, (void)t, (void)path;
	return false;
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
	char **all = malloc(sizeof(*all));

	(void)h, (void)t, (void)path;
	all[0] = (char *)"1";
	*num = 1;
	return all;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
	(void)h, (void)path, (void)token;
	return true;
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
	return xs_watch(h, path, token);
}

/* Once: that there are domains. */
char **xs_check_watch(struct xs_handle *h)
{
	char **event;

	(void)h;
	if (atomic_exchange(&told, true))
		return NULL;
	event = calloc(2, sizeof(*event));
	event[XS_WATCH_PATH] = (char *)"";
	event[XS_WATCH_TOKEN] = (char *)"domains";
	return event;
}

struct xs_handle *xs_open(unsigned long flags)
{
	(void)flags;
	never = eventfd(0, EFD_CLOEXEC);
	return (struct xs_handle *)&never;
}

void xs_close(struct xs_handle *h)
{
	(void)h;
	close(never);
}

int xs_fileno(struct xs_handle *h)
{
	(void)h;
	return never;
}

int xc_domain_getinfolist(xc_interface *xch, u32 first, unsigned int max, xc_domaininfo_t *info)
{
	(void)xch, (void)first, (void)max, (void)info;
	return -1;
}

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *build, unsigned int flags)
{
	(void)logger, (void)build, (void)flags;
	return NULL;
}

int xc_interface_close(xc_interface *xch)
{
	(void)xch;
	return 0;
}

struct memx_chan *vchan_open(u32 domid, const char *path)
{
	(void)domid, (void)path;
	return NULL;
}

struct edge_link *link_up(struct worker *w, const struct core_guest_conf *conf, u64 offer, struct memx_chan **chans,
			  unsigned int lanes, struct link_owner *owner)
{
	(void)w, (void)conf, (void)offer, (void)chans, (void)lanes, (void)owner;
	return NULL;
}

void link_gone(struct edge_link *link, const char *reason)
{
	(void)link, (void)reason;
}

/* ---- the test ------------------------------------------------------------------------------------------------------------- */

#define run_until(loop, done) do {							\
	u64 end_ = memx_now() + 60000 * MS;						\
											\
	while (!(done) && memx_now() < end_)						\
		assert_int_equal(memx_loop_round(loop, 10 * MS), 0);			\
	assert_true(done);								\
} while (0)

/* So many times the data thread has looked whether the other one gets on. */
static void looked_at(struct xen_edge *e, u32 times)
{
	u64 at;

	for (; times; times--) {
		at = e->looked_at.at;
		run_until(e->worker->loop, e->looked_at.at != at);
	}
}

static void a_hung_xenstored_is_said(void **state)
{
	static struct worker worker;
	static struct relay_conf conf;
	struct xen_edge *e;
	char why[160];

	(void)state;
	atomic_init(&conf.refs, 1);
	pthread_mutex_init(&server, NULL);
	worker.loop = memx_loop_new();
	assert_non_null(worker.loop);
	pthread_mutex_lock(&server);
	e = xen_edge_new(&worker, &conf, why);
	assert_non_null(e);
	e->hung_after = 200 * MS;
	memx_timer_set(worker.loop, &e->looked_at, memx_now(), look_at_thread);
	run_until(worker.loop, worker.xenstore_hangs);
	assert_true(e->hung);
	looked_at(e, 3);
	assert_int_equal(worker.xenstore_hangs, 1);
	assert_int_equal(atomic_load(&reads), 0);
	pthread_mutex_unlock(&server);
	run_until(worker.loop, !e->hung);
	/* It has nothing to do for as long: that is no reason. */
	run_until(worker.loop, !atomic_load(&e->busy_since));
	assert_true(atomic_load(&reads));
	looked_at(e, 5);
	assert_int_equal(worker.xenstore_hangs, 1);
	xen_edge_free(e);
	memx_loop_free(worker.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hung_xenstored_is_said),
	};

	memx_log_init("edge-xenstore", MEMX_LOG_ERR);
	return cmocka_run_group_tests_name("relay edge: XenStore", tests, NULL, NULL);
}
