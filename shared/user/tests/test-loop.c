// SPDX-License-Identifier: GPL-2.0-only
/*
 * test-loop.c - the event loop, framed connections over real sockets, and the control socket.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "user/ctl.h"
#include "user/log.h"
#include "user/net.h"

#define SECOND 1000000000ULL

/* Runs rounds until @done or ten seconds have passed. */
#define run_until(loop, done) do {							\
	uint64_t end_ = memx_now() + 10 * SECOND;					\
											\
	while (!(done) && memx_now() < end_)						\
		assert_int_equal(memx_loop_round(loop, SECOND / 100), 0);		\
	assert_true(done);								\
} while (0)

/* ---- timers ---- */

struct ticker {
	struct memx_timer timer;
	uint64_t fired;
	struct ticker *cancels;
};

static uint64_t fired_order;

static void tick(struct memx_timer *timer, uint64_t now)
{
	struct ticker *t = (struct ticker *)timer;

	assert_true(now >= timer->at);
	t->fired = ++fired_order;
	if (t->cancels)
		memx_timer_cancel(&t->cancels->timer);
}

static void test_timers(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct ticker t[200] = { 0 };
	uint64_t base = memx_now();
	unsigned int seed = 7;

	(void)state;
	fired_order = 0;
	for (int i = 0; i < 200; i++)
		assert_int_equal(memx_timer_set(loop, &t[i].timer, base + (uint64_t)(rand_r(&seed) % 1000) * 10000, tick), 0);
	for (int i = 0; i < 200; i += 3)
		memx_timer_cancel(&t[i].timer);
	for (int i = 1; i < 200; i += 3)	/* moved, both ways */
		memx_timer_set(loop, &t[i].timer, base + (uint64_t)(rand_r(&seed) % 1000) * 10000, tick);
	run_until(loop, fired_order == 133);
	for (int i = 0; i < 200; i++) {
		assert_false(memx_timer_pending(&t[i].timer));
		assert_int_equal(!t[i].fired, i % 3 == 0);
		for (int j = 0; j < 200; j++)
			if (t[i].fired && t[j].fired && t[i].timer.at < t[j].timer.at)
				assert_true(t[i].fired < t[j].fired);
	}
	memx_loop_free(loop);
}

static void test_timer_cancels_other(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct ticker a = { 0 }, b = { 0 };
	uint64_t now = memx_now();

	(void)state;
	a.cancels = &b;
	memx_timer_set(loop, &a.timer, now, tick);
	memx_timer_set(loop, &b.timer, now + 1, tick);
	run_until(loop, a.fired);
	memx_loop_round(loop, 0);
	assert_false(b.fired);
	memx_loop_free(loop);
}

/* ---- work, mail, watches ---- */

struct job {
	struct memx_work work;
	struct memx_loop *loop;
	struct job *cancels, *queues;
	int runs;
};

static void do_job(struct memx_work *work)
{
	struct job *j = (struct job *)work;

	j->runs++;
	if (j->cancels)
		memx_work_cancel(&j->cancels->work);
	if (j->queues)
		memx_work_queue(j->loop, &j->queues->work);
	j->queues = NULL;
}

static void test_work(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct job j[4] = { 0 };

	(void)state;
	for (int i = 0; i < 4; i++) {
		j[i].work.run = do_job;
		j[i].loop = loop;
	}
	for (int i = 0; i < 3; i++)
		memx_work_queue(loop, &j[i].work);
	memx_work_queue(loop, &j[0].work);
	j[0].cancels = &j[2];		/* the last one: what is queued next must not be lost */
	j[0].queues = &j[3];
	j[3].queues = &j[1];
	memx_loop_round(loop, 0);
	assert_int_equal(j[0].runs, 1);
	assert_int_equal(j[1].runs, 2);
	assert_int_equal(j[2].runs, 0);
	assert_int_equal(j[3].runs, 1);
	memx_loop_free(loop);
}

enum { LETTERS = 2000, POSTERS = 3 };

struct letter {
	struct memx_mail mail;
	int from, number;
};

static int arrived[POSTERS];
static bool in_order = true;

static void deliver(struct memx_mail *mail)
{
	struct letter *l = (struct letter *)mail;

	in_order = in_order && arrived[l->from] == l->number;
	arrived[l->from]++;
	free(l);
}

struct poster {
	struct memx_loop *loop;
	int number;
};

static void *post(void *arg)
{
	struct poster *p = arg;

	for (int i = 0; i < LETTERS; i++) {
		struct letter *l = calloc(1, sizeof(*l));

		l->mail.deliver = deliver;
		l->from = p->number;
		l->number = i;
		memx_mail_post(p->loop, &l->mail);
	}
	return NULL;
}

static void test_mail(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct poster posters[POSTERS];
	pthread_t threads[POSTERS];

	(void)state;
	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){ loop, i };
		assert_int_equal(pthread_create(&threads[i], NULL, post, &posters[i]), 0);
	}
	run_until(loop, arrived[0] + arrived[1] + arrived[2] == LETTERS * POSTERS);
	assert_true(in_order);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	memx_loop_free(loop);
}

struct pair {
	struct memx_watch watch;
	struct memx_watch *other;
	int calls;
};

static void ready_deletes_other(struct memx_watch *watch, uint32_t events)
{
	struct pair *p = (struct pair *)watch;

	(void)events;
	p->calls++;
	memx_watch_del(p->other);
}

/* Both are ready in one batch; whichever comes first takes the other away, which must not be called any more. */
static void test_watch_removed_in_batch(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct pair a = { 0 }, b = { 0 };
	int x[2], y[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, x), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, y), 0);
	a.other = &b.watch;
	b.other = &a.watch;
	memx_watch_add(loop, &a.watch, x[0], EPOLLIN, ready_deletes_other);
	memx_watch_add(loop, &b.watch, y[0], EPOLLIN, ready_deletes_other);
	assert_int_equal(write(x[1], "x", 1), 1);
	assert_int_equal(write(y[1], "x", 1), 1);
	run_until(loop, a.calls + b.calls);
	assert_int_equal(a.calls + b.calls, 1);
	for (int i = 0; i < 2; i++) {
		close(x[i]);
		close(y[i]);
	}
	memx_loop_free(loop);
}

static int got_signal;

static void on_signal(void *arg, int sig)
{
	got_signal = sig;
	memx_loop_stop(arg);
}

static void test_signals(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	sigset_t set, old;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, NULL, &old);
	assert_int_equal(memx_loop_signals(loop, &set, on_signal, loop), 0);
	kill(getpid(), SIGUSR1);
	assert_int_equal(memx_loop_run(loop), 0);
	assert_int_equal(got_signal, SIGUSR1);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	memx_loop_free(loop);
}

static void sleepy(struct memx_timer *timer, uint64_t now)
{
	(void)timer, (void)now;
	usleep(50000);
}

static void test_lag(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct memx_timer t = { 0 };

	(void)state;
	memx_timer_set(loop, &t, memx_now(), sleepy);
	memx_loop_round(loop, SECOND);
	memx_loop_round(loop, 0);
	assert_true(memx_loop_lag(loop) >= 45000000);
	memx_loop_free(loop);
}

/* ---- connections ---- */

struct end {
	struct memx_conn conn;
	uint32_t frames, next_len;
	int closed, err;
	bool abandoned;
	int fail_at;			/* refuse this frame */
	int close_at;			/* close by ourselves at this frame */
	uint8_t *body;
};

static uint8_t pattern(uint32_t frame, uint32_t at)
{
	return (uint8_t)(frame * 31 + at * 7 + (at >> 8));
}

static uint32_t length_of(uint32_t frame)
{
	static const uint32_t lengths[] = { 0, 1, 31, 4096, 0, MEMX_MAX_BODY, 32768, 70000, 8, 131072 };

	return lengths[frame % (sizeof(lengths) / sizeof(lengths[0]))];
}

static void *end_body(struct memx_conn *conn, const struct memx_head *head)
{
	struct end *e = (struct end *)conn;

	assert_null(e->body);
	e->body = malloc(head->len);
	return e->body;
}

static int end_frame(struct memx_conn *conn, const struct memx_head *head, void *body)
{
	struct end *e = (struct end *)conn;
	uint8_t *at = body;

	assert_int_equal(head->tag, e->frames);
	assert_int_equal(head->len, length_of(e->frames));
	for (uint32_t i = 0; i < head->len; i++)
		if (at[i] != pattern(e->frames, i))
			fail_msg("frame %u byte %u", e->frames, i);
	if (e->conn.ops->body) {
		free(e->body);
		e->body = NULL;
	}
	e->frames++;
	if (e->fail_at && (int)e->frames == e->fail_at)
		return -EPERM;
	if (e->close_at && (int)e->frames == e->close_at)
		memx_conn_close(conn, -ECANCELED);
	return 0;
}

static void end_closed(struct memx_conn *conn, int err, void *body)
{
	struct end *e = (struct end *)conn;

	e->closed++;
	e->err = err;
	e->abandoned = body;
	free(body);
	e->body = NULL;
}

static const struct memx_conn_ops placing = { .body = end_body, .frame = end_frame, .closed = end_closed };
static const struct memx_conn_ops plain = { .frame = end_frame, .closed = end_closed };

static int refs_out;

static void release_ref(void *arg)
{
	free(arg);
	refs_out--;
}

/* Queues frame number @frame, its body copied or by reference; false: does not fit now. */
static bool send_frame(struct end *e, uint32_t frame, bool ref)
{
	uint32_t len = length_of(frame), at = 0;
	struct memx_head head = { .op = MEMX_OP_STORE, .len = len, .tag = frame };
	uint8_t *data;

	if (!memx_conn_fits(&e->conn, MEMX_HDR_LEN + len))
		return false;
	data = malloc(len + 1);
	for (uint32_t i = 0; i < len; i++)
		data[i] = pattern(frame, i);
	memx_hdr_put(memx_conn_put(&e->conn, MEMX_HDR_LEN), &head);
	if (ref && len) {
		refs_out++;
		memx_conn_put_ref(&e->conn, data, len, release_ref, data);
		return true;
	}
	while (at < len) {
		uint32_t part = len - at < MEMX_CONN_PUT_MAX ? len - at : MEMX_CONN_PUT_MAX;

		memcpy(memx_conn_put(&e->conn, part), data + at, part);
		at += part;
	}
	free(data);
	return true;
}

/* A listening socket and two ends over loopback. */
static void connect_ends(struct memx_loop *loop, struct end *a, const struct memx_conn_ops *a_ops, struct end *b,
			 const struct memx_conn_ops *b_ops)
{
	struct memx_addr addr, peer;
	int listening, fd, accepted;

	memset(a, 0, sizeof(*a));
	memset(b, 0, sizeof(*b));
	assert_int_equal(memx_addr_parse(&addr, "127.0.0.1:0"), 0);
	listening = memx_net_listen(&addr);
	assert_true(listening >= 0);
	addr.port = memx_net_local_port(listening);
	((struct sockaddr_in *)&addr.sa)->sin_port = htons(addr.port);
	fd = memx_net_connect(&addr, 5000);
	assert_true(fd >= 0);
	do {
		accepted = memx_net_accept(listening, &peer);
	} while (accepted == -EAGAIN);
	assert_true(accepted >= 0);
	assert_string_equal(peer.host, "127.0.0.1");
	close(listening);
	assert_int_equal(memx_net_connected(fd), 0);
	assert_int_equal(memx_conn_open(&a->conn, loop, fd, a_ops, MEMX_MAX_BODY, 1 << 20), 0);
	assert_int_equal(memx_conn_open(&b->conn, loop, accepted, b_ops, MEMX_MAX_BODY, 1 << 20), 0);
}

enum { FRAMES = 400 };

static void transfer(bool ref, const struct memx_conn_ops *ops)
{
	struct memx_loop *loop = memx_loop_new();
	struct end a, b;
	uint32_t sent = 0;
	uint64_t stop = memx_now() + 60 * SECOND;

	connect_ends(loop, &a, &plain, &b, ops);
	while (b.frames < FRAMES && memx_now() < stop) {
		while (sent < FRAMES && send_frame(&a, sent, ref && sent % 3))
			sent++;
		assert_int_equal(memx_loop_round(loop, SECOND), 0);
	}
	assert_int_equal(b.frames, FRAMES);
	assert_int_equal(b.conn.bytes_in, a.conn.bytes_out);
	assert_int_equal(refs_out, 0);
	memx_conn_close(&a.conn, 0);
	run_until(loop, a.closed && b.closed);
	assert_int_equal(a.err, 0);
	assert_int_equal(b.err, 0);
	memx_loop_free(loop);
}

static void test_transfer_copied(void **state)
{
	(void)state;
	transfer(false, &plain);
}

static void test_transfer_placed(void **state)
{
	(void)state;
	transfer(true, &placing);
}

static void test_truncated_frame(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct memx_head head = { .op = MEMX_OP_STORE, .len = 4096 };
	struct end a, b;

	(void)state;
	connect_ends(loop, &a, &plain, &b, &placing);
	memx_hdr_put(memx_conn_put(&a.conn, MEMX_HDR_LEN), &head);
	memset(memx_conn_put(&a.conn, 100), 0, 100);
	run_until(loop, b.conn.bytes_in == MEMX_HDR_LEN + 100);
	memx_conn_close(&a.conn, 0);
	run_until(loop, b.closed);
	assert_int_equal(b.err, -ECONNRESET);
	assert_true(b.abandoned);		/* the owner got its buffer back */
	run_until(loop, a.closed);
	memx_loop_free(loop);
}

static void bad_header(const struct memx_head *head, uint32_t magic)
{
	struct memx_loop *loop = memx_loop_new();
	struct memx_hdr *hdr;
	struct end a, b;

	connect_ends(loop, &a, &plain, &b, &plain);
	hdr = memx_conn_put(&a.conn, MEMX_HDR_LEN);
	memx_hdr_put(hdr, head);
	hdr->magic = memx_put_le32(magic);
	run_until(loop, a.closed && b.closed);
	assert_int_equal(b.err, -EPROTO);
	assert_true(strlen(b.conn.why) > 0);
	assert_int_equal(b.frames, 0);
	memx_loop_free(loop);
}

static void test_bad_magic(void **state)
{
	(void)state;
	bad_header(&(struct memx_head){ .op = MEMX_OP_PING }, 0x1234);
}

static void test_too_long(void **state)
{
	(void)state;
	bad_header(&(struct memx_head){ .op = MEMX_OP_STORE, .len = MEMX_MAX_BODY + 1 }, MEMX_MAGIC);
}

static void test_refused_frame(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct end a, b;

	(void)state;
	connect_ends(loop, &a, &plain, &b, &plain);
	b.fail_at = 3;
	for (uint32_t i = 0; i < 10; i++)
		send_frame(&a, i, false);
	run_until(loop, a.closed && b.closed);
	assert_int_equal(b.err, -EPERM);
	assert_int_equal(b.frames, 3);
	memx_loop_free(loop);
}

/* Closing from within frame(): no further frame is handed over, closed() comes once, references are released. */
static void test_close_in_frame(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct end a, b;

	(void)state;
	connect_ends(loop, &a, &plain, &b, &placing);
	b.close_at = 2;
	for (uint32_t i = 0; i < 8; i++)
		send_frame(&a, i, true);
	send_frame(&b, 5, true);
	run_until(loop, a.closed && b.closed);
	assert_int_equal(b.frames, 2);
	assert_int_equal(b.closed, 1);
	assert_int_equal(b.err, -ECANCELED);
	assert_int_equal(refs_out, 0);
	assert_int_equal(memx_conn_send(&b.conn, &(struct memx_head){ .op = MEMX_OP_PING }, NULL, 0), -ENOTCONN);
	memx_loop_free(loop);
}

/* A peer that reads nothing: the queue stops at its limit and nobody blocks. */
static void test_limit(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	uint64_t stop = memx_now() + 20 * SECOND;
	uint32_t frame = 5;
	struct end a, b;
	int sent = 0, refused = 0;

	(void)state;
	connect_ends(loop, &a, &plain, &b, &plain);
	memx_conn_pause(&b.conn, true);
	while (refused < 20 && memx_now() < stop) {
		if (send_frame(&a, frame, true))
			sent++;
		else
			refused++;
		memx_loop_round(loop, 0);
	}
	assert_true(sent > 8);
	assert_int_equal(refused, 20);
	assert_true(a.conn.queued <= a.conn.limit);
	assert_int_equal(memx_conn_send(&a.conn, &(struct memx_head){ .op = MEMX_OP_PING },
					(char [MEMX_CONN_PUT_MAX]) { 0 }, MEMX_CONN_PUT_MAX), -ENOBUFS);
	memx_conn_close(&a.conn, -ETIMEDOUT);
	run_until(loop, a.closed);
	assert_int_equal(refs_out, 0);
	memx_conn_close(&b.conn, 0);
	run_until(loop, b.closed);
	memx_loop_free(loop);
}

/* ---- control socket ---- */

static json_t *cmd_echo(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	(void)err;
	(*(int *)ctx)++;
	return json_pack("{s:O}", "got", json_object_get(request, "text"));
}

static json_t *cmd_big(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	json_t *list = json_array();

	(void)ctx, (void)request, (void)err;
	for (int i = 0; i < 20000; i++)
		json_array_append_new(list, json_sprintf("line %d of a long answer", i));
	return list;
}

static json_t *cmd_fail(void *ctx, json_t *request, char err[MEMX_CTL_ERR])
{
	(void)ctx, (void)request;
	snprintf(err, MEMX_CTL_ERR, "it was not to be");
	return NULL;
}

static const struct memx_ctl_cmd cmds[] = {
	{ "echo", cmd_echo }, { "big", cmd_big }, { "fail", cmd_fail }, { .name = NULL },
};

struct caller {
	struct memx_loop *loop;
	struct memx_mail done;
	const char *path;
	char err[MEMX_CTL_ERR];
	json_t *echo, *big, *fail, *unknown, *none;
};

static void caller_done(struct memx_mail *mail)
{
	struct caller *c = (struct caller *)((char *)mail - offsetof(struct caller, done));

	memx_loop_stop(c->loop);
}

static void *call(void *arg)
{
	struct caller *c = arg;

	c->echo = memx_ctl_call(c->path, json_pack("{s:s, s:s}", "cmd", "echo", "text", "hello"), 10000, c->err);
	c->big = memx_ctl_call(c->path, json_pack("{s:s}", "cmd", "big"), 10000, c->err);
	c->fail = memx_ctl_call(c->path, json_pack("{s:s}", "cmd", "fail"), 10000, c->err);
	c->unknown = memx_ctl_call(c->path, json_pack("{s:s}", "cmd", "nonsense"), 10000, c->err);
	c->none = memx_ctl_call(c->path, json_pack("[]"), 10000, c->err);
	c->done.deliver = caller_done;
	memx_mail_post(c->loop, &c->done);
	return NULL;
}

static const char *error_of(json_t *reply)
{
	return json_string_value(json_object_get(reply, "error"));
}

static void test_control(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	char path[256], err[MEMX_CTL_ERR];
	struct memx_ctl *ctl;
	struct caller c = { .loop = loop, .path = path };
	pthread_t thread;
	json_t *text;
	int calls = 0;

	(void)state;
	snprintf(path, sizeof(path), "%s/ctl.%d", getenv("MEMX_TMP") ? getenv("MEMX_TMP") : "/tmp", (int)getpid());
	assert_null(memx_ctl_call(path, NULL, 100, err));
	assert_int_equal(errno, ENOENT);
	assert_non_null(strstr(err, "is the daemon running?"));

	ctl = memx_ctl_new(loop, path, cmds, &calls);
	assert_non_null(ctl);
	assert_null(memx_ctl_new(loop, path, cmds, &calls));	/* in use */
	assert_int_equal(errno, EADDRINUSE);

	assert_int_equal(pthread_create(&thread, NULL, call, &c), 0);
	assert_int_equal(memx_loop_run(loop), 0);
	pthread_join(thread, NULL);
	assert_int_equal(calls, 1);
	assert_string_equal(json_string_value(json_object_get(json_object_get(c.echo, "data"), "got")), "hello");
	assert_int_equal(json_array_size(json_object_get(c.big, "data")), 20000);
	assert_string_equal(error_of(c.fail), "it was not to be");
	assert_string_equal(error_of(c.unknown), "unknown command \"nonsense\"; known: echo, big, fail");
	text = c.none;
	assert_string_equal(error_of(text), "not understood; accepted: one line {\"cmd\":\"...\"}");
	json_decref(c.echo);
	json_decref(c.big);
	json_decref(c.fail);
	json_decref(c.unknown);
	json_decref(c.none);
	memx_ctl_free(ctl);
	assert_int_equal(access(path, F_OK), -1);
	memx_loop_free(loop);
}

static int connected_to(const char *path)
{
	struct sockaddr_un un;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(memx_unix_address(&un, path), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* What has come by now; true: it ends with a line, the @lines-th of all. */
static bool lines_came(int fd, uint32_t *lines, uint32_t wanted)
{
	char buf[65536];
	ssize_t got, i;

	while ((got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		for (i = 0; i < got; i++)
			*lines += buf[i] == '\n';
	return *lines == wanted;
}

/* Requests sent at once are answered one by one, also where the first answer does not go out in one piece and nothing follows them. */
static void test_control_lines_at_once(void **state)
{
	static const char ask[] = "{\"cmd\":\"big\"}\n{\"cmd\":\"big\"}\n{\"cmd\":\"fail\"}\n";
	struct memx_loop *loop = memx_loop_new();
	struct memx_ctl *ctl;
	char path[256];
	uint32_t lines = 0;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/lines.%d", getenv("MEMX_TMP") ? getenv("MEMX_TMP") : "/tmp", (int)getpid());
	ctl = memx_ctl_new(loop, path, cmds, NULL);
	assert_non_null(ctl);
	fd = connected_to(path);
	assert_int_equal(send(fd, ask, sizeof(ask) - 1, 0), sizeof(ask) - 1);
	run_until(loop, lines_came(fd, &lines, 3));
	close(fd);
	memx_ctl_free(ctl);
	memx_loop_free(loop);
}

/* No descriptor is left for who connects: the loop does not spin, and he is served when there is one. */
static void test_control_without_descriptors(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct rlimit before, now;
	struct memx_ctl *ctl;
	char path[256];
	uint32_t lines = 0, rounds = 0;
	uint64_t end;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/full.%d", getenv("MEMX_TMP") ? getenv("MEMX_TMP") : "/tmp", (int)getpid());
	ctl = memx_ctl_new(loop, path, cmds, NULL);
	assert_non_null(ctl);
	fd = connected_to(path);
	assert_int_equal(send(fd, "{\"cmd\":\"fail\"}\n", 15, 0), 15);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	now = before;
	now.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	for (end = memx_now() + SECOND / 2; memx_now() < end; rounds++)
		assert_int_equal(memx_loop_round(loop, SECOND), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_in_range(rounds, 1, 20);
	run_until(loop, lines_came(fd, &lines, 1));
	close(fd);
	memx_ctl_free(ctl);
	memx_loop_free(loop);
}

/* A socket that a killed daemon left behind is replaced; a file that is none is not. */
static void test_control_stale(void **state)
{
	struct memx_loop *loop = memx_loop_new();
	struct memx_ctl *ctl;
	char path[256];
	FILE *f;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	snprintf(path, sizeof(path), "%s/stale.%d", getenv("MEMX_TMP") ? getenv("MEMX_TMP") : "/tmp", (int)getpid());
	assert_true(strlen(path) < sizeof(un.sun_path));
	memcpy(un.sun_path, path, strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	close(fd);
	ctl = memx_ctl_new(loop, path, cmds, NULL);
	assert_non_null(ctl);
	memx_ctl_free(ctl);
	f = fopen(path, "w");
	fclose(f);
	assert_null(memx_ctl_new(loop, path, cmds, NULL));
	assert_int_equal(errno, EEXIST);
	unlink(path);
	memx_loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_timer_cancels_other),
		cmocka_unit_test(test_work),
		cmocka_unit_test(test_mail),
		cmocka_unit_test(test_watch_removed_in_batch),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_lag),
		cmocka_unit_test(test_transfer_copied),
		cmocka_unit_test(test_transfer_placed),
		cmocka_unit_test(test_truncated_frame),
		cmocka_unit_test(test_bad_magic),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_refused_frame),
		cmocka_unit_test(test_close_in_frame),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_control_lines_at_once),
		cmocka_unit_test(test_control_without_descriptors),
		cmocka_unit_test(test_control_stale),
	};

	memx_log_init("test-loop", MEMX_LOG_WARNING);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
