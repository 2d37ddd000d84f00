// SPDX-License-Identifier: GPL-2.0-only
/*
 * loop.c - an event loop on epoll.
 *
 * Owner: the thread that runs the loop; only the list of mail is shared, under its mutex.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "user/loop.h"

enum {
	BATCH			= 64,
	LISTENER_REST_NS	= 100000000,
};

struct memx_loop {
	int epoll;
	bool stop;
	uint64_t now, lag;

	struct epoll_event batch[BATCH];	/* of this round; entries of watches that went are zeroed */
	int batch_at, batch_len;

	struct memx_timer **heap;		/* from index 1 */
	uint32_t timers, heap_size;
	struct memx_watch alarm;		/* timerfd */
	uint64_t alarm_at;			/* what it is set to, 0: nothing */

	struct memx_work *work, **work_tail;

	struct memx_watch mail_watch;
	pthread_mutex_t mail_lock;
	struct memx_mail *mail, **mail_tail;	/* under mail_lock */

	struct memx_watch signal_watch;
	void (*signal_handle)(void *arg, int sig);
	void *signal_arg;
};

uint64_t memx_loop_now(const struct memx_loop *loop)
{
	return loop->now;
}

uint64_t memx_loop_lag(const struct memx_loop *loop)
{
	return loop->lag;
}

/* ---- descriptors ---- */

int memx_watch_add(struct memx_loop *loop, struct memx_watch *watch, int fd, uint32_t events,
		   void (*ready)(struct memx_watch *watch, uint32_t events))
{
	struct epoll_event ev = { .events = events, .data.ptr = watch };

	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		watch->fd = -1;
		return -errno;
	}
	watch->fd = fd;
	watch->events = events;
	watch->loop = loop;
	watch->ready = ready;
	return 0;
}

int memx_watch_events(struct memx_watch *watch, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = watch };

	if (watch->events == events)
		return 0;
	if (epoll_ctl(watch->loop->epoll, EPOLL_CTL_MOD, watch->fd, &ev) < 0)
		return -errno;
	watch->events = events;
	return 0;
}

void memx_watch_del(struct memx_watch *watch)
{
	struct memx_loop *loop = watch->loop;

	if (watch->fd < 0 || !loop)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->fd = -1;
	for (int i = loop->batch_at; i < loop->batch_len; i++)
		if (loop->batch[i].data.ptr == watch)
			loop->batch[i].data.ptr = NULL;
}

/* ---- timers: a binary heap by time ---- */

static void heap_put(struct memx_loop *loop, uint32_t place, struct memx_timer *timer)
{
	loop->heap[place] = timer;
	timer->place = place;
}

static void heap_up(struct memx_loop *loop, struct memx_timer *timer)
{
	uint32_t at = timer->place;

	for (; at > 1 && loop->heap[at / 2]->at > timer->at; at /= 2)
		heap_put(loop, at, loop->heap[at / 2]);
	heap_put(loop, at, timer);
}

static void heap_down(struct memx_loop *loop, struct memx_timer *timer)
{
	uint32_t at = timer->place, child;

	while ((child = at * 2) <= loop->timers) {
		if (child < loop->timers && loop->heap[child + 1]->at < loop->heap[child]->at)
			child++;
		if (loop->heap[child]->at >= timer->at)
			break;
		heap_put(loop, at, loop->heap[child]);
		at = child;
	}
	heap_put(loop, at, timer);
}

static int heap_grow(struct memx_loop *loop)
{
	uint32_t size = loop->heap_size ? loop->heap_size * 2 : 32;
	struct memx_timer **heap;

	if (loop->timers + 1 < loop->heap_size)
		return 0;
	heap = realloc(loop->heap, size * sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	loop->heap = heap;
	loop->heap_size = size;
	return 0;
}

int memx_timer_set(struct memx_loop *loop, struct memx_timer *timer, uint64_t at,
		   void (*fire)(struct memx_timer *timer, uint64_t now))
{
	if (!timer->place) {
		int ret = heap_grow(loop);

		if (ret)
			return ret;
		heap_put(loop, ++loop->timers, timer);
	}
	timer->loop = loop;
	timer->fire = fire;
	timer->at = at;
	heap_up(loop, timer);
	heap_down(loop, timer);
	return 0;
}

void memx_timer_cancel(struct memx_timer *timer)
{
	struct memx_loop *loop = timer->loop;
	struct memx_timer *last;
	uint32_t place = timer->place;

	if (!place)
		return;
	timer->place = 0;
	last = loop->heap[loop->timers--];
	if (last == timer)
		return;
	heap_put(loop, place, last);
	heap_up(loop, last);
	heap_down(loop, last);
}

static void run_timers(struct memx_loop *loop)
{
	/* Only those that are due now: one that sets itself anew into the past waits for the next round. */
	uint64_t now = loop->now;
	uint32_t left = loop->timers;

	while (left-- && loop->timers && loop->heap[1]->at <= now) {
		struct memx_timer *timer = loop->heap[1];

		memx_timer_cancel(timer);
		timer->fire(timer, now);
	}
}

/* ---- listening sockets ---- */

int memx_listener_open(struct memx_loop *loop, struct memx_listener *listener, int fd,
		       void (*ready)(struct memx_watch *watch, uint32_t events))
{
	return memx_watch_add(loop, &listener->watch, fd, EPOLLIN, ready);
}

static void rested(struct memx_timer *timer, uint64_t now)
{
	struct memx_listener *listener = (struct memx_listener *)((char *)timer - offsetof(struct memx_listener, rest));

	(void)now;
	memx_watch_events(&listener->watch, EPOLLIN);
}

bool memx_listener_failed(struct memx_listener *listener, int err)
{
	struct memx_loop *loop = listener->watch.loop;

	if (err == -EAGAIN || err == -EINTR || err == -ECONNABORTED)
		return false;
	if (!memx_timer_set(loop, &listener->rest, loop->now + LISTENER_REST_NS, rested))
		memx_watch_events(&listener->watch, 0);
	return true;
}

void memx_listener_close(struct memx_listener *listener)
{
	int fd = listener->watch.fd;

	memx_timer_cancel(&listener->rest);
	if (fd < 0)
		return;
	memx_watch_del(&listener->watch);
	close(fd);
}

/* ---- deferred work ---- */

void memx_work_queue(struct memx_loop *loop, struct memx_work *work)
{
	if (work->prev)
		return;
	work->loop = loop;
	work->next = NULL;
	work->prev = loop->work_tail;
	*loop->work_tail = work;
	loop->work_tail = &work->next;
}

void memx_work_cancel(struct memx_work *work)
{
	if (!work->prev)
		return;
	*work->prev = work->next;
	if (work->next)
		work->next->prev = work->prev;
	else
		work->loop->work_tail = work->prev;
	work->prev = NULL;
}

static void run_work(struct memx_loop *loop)
{
	while (loop->work) {
		struct memx_work *work = loop->work;

		memx_work_cancel(work);
		work->run(work);
	}
}

/* ---- mail ---- */

void memx_mail_post(struct memx_loop *loop, struct memx_mail *mail)
{
	const uint64_t one = 1;
	bool first;

	mail->next = NULL;
	pthread_mutex_lock(&loop->mail_lock);
	first = !loop->mail;
	*loop->mail_tail = mail;
	loop->mail_tail = &mail->next;
	pthread_mutex_unlock(&loop->mail_lock);
	/* EAGAIN: the counter is full, so the loop has been told. */
	if (first && write(loop->mail_watch.fd, &one, sizeof(one)) < 0)
		return;
}

static void mail_ready(struct memx_watch *watch, uint32_t events)
{
	struct memx_loop *loop = watch->loop;
	struct memx_mail *mail;
	uint64_t count;

	(void)events;
	/* Whatever comes of it: the list says what there is. */
	count = (uint64_t)read(watch->fd, &count, sizeof(count));
	pthread_mutex_lock(&loop->mail_lock);
	mail = loop->mail;
	loop->mail = NULL;
	loop->mail_tail = &loop->mail;
	pthread_mutex_unlock(&loop->mail_lock);
	while (mail) {
		struct memx_mail *next = mail->next;

		mail->deliver(mail);
		mail = next;
	}
}

/* ---- signals ---- */

static void signal_ready(struct memx_watch *watch, uint32_t events)
{
	struct memx_loop *loop = watch->loop;
	struct signalfd_siginfo info;

	(void)events;
	while (watch->fd >= 0 && read(watch->fd, &info, sizeof(info)) == sizeof(info))
		loop->signal_handle(loop->signal_arg, (int)info.ssi_signo);
}

int memx_loop_signals(struct memx_loop *loop, const sigset_t *set, void (*handle)(void *arg, int sig), void *arg)
{
	int fd, ret;

	ret = pthread_sigmask(SIG_BLOCK, set, NULL);
	if (ret)
		return -ret;
	fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	loop->signal_handle = handle;
	loop->signal_arg = arg;
	ret = memx_watch_add(loop, &loop->signal_watch, fd, EPOLLIN, signal_ready);
	if (ret)
		close(fd);
	return ret;
}

/* ---- the loop itself ---- */

/*
 * One timerfd wakes the loop for its timers. It is only ever set to an earlier time, or anew after it fired: a timeout of
 * the wait itself would be set and taken back with every round, which costs a virtual machine more than the rest of it.
 */
static void alarm_ready(struct memx_watch *watch, uint32_t events)
{
	struct memx_loop *loop = watch->loop;
	uint64_t times;

	(void)events;
	if (read(watch->fd, &times, sizeof(times)) == sizeof(times))
		loop->alarm_at = 0;
}

static void alarm_set(struct memx_loop *loop)
{
	uint64_t at = loop->timers ? loop->heap[1]->at : 0;
	struct itimerspec when = { .it_value = { (time_t)(at / 1000000000), (long)(at % 1000000000) } };

	if (!at || (loop->alarm_at && loop->alarm_at <= at))
		return;
	if (!timerfd_settime(loop->alarm.fd, TFD_TIMER_ABSTIME, &when, NULL))
		loop->alarm_at = at;
}

struct memx_loop *memx_loop_new(void)
{
	struct memx_loop *loop = calloc(1, sizeof(*loop));
	int fd, alarm;

	if (!loop)
		return NULL;
	loop->work_tail = &loop->work;
	loop->mail_tail = &loop->mail;
	loop->signal_watch.fd = -1;
	loop->alarm.fd = -1;
	loop->now = memx_now();
	pthread_mutex_init(&loop->mail_lock, NULL);
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	alarm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (loop->epoll < 0 || fd < 0 || alarm < 0 || memx_watch_add(loop, &loop->mail_watch, fd, EPOLLIN, mail_ready) ||
	    memx_watch_add(loop, &loop->alarm, alarm, EPOLLIN, alarm_ready)) {
		if (fd >= 0)
			close(fd);
		if (alarm >= 0)
			close(alarm);
		if (loop->epoll >= 0)
			close(loop->epoll);
		free(loop);
		return NULL;
	}
	return loop;
}

void memx_loop_free(struct memx_loop *loop)
{
	if (!loop)
		return;
	close(loop->mail_watch.fd);
	close(loop->alarm.fd);
	if (loop->signal_watch.fd >= 0)
		close(loop->signal_watch.fd);
	close(loop->epoll);
	pthread_mutex_destroy(&loop->mail_lock);
	free(loop->heap);
	free(loop);
}

/* Nanoseconds from @now that the next wait may take. */
static uint64_t wait_for(const struct memx_loop *loop, uint64_t now, uint64_t max)
{
	uint64_t left;

	if (loop->work)
		return 0;
	if (!loop->timers)
		return max;
	left = loop->heap[1]->at > now ? loop->heap[1]->at - now : 0;
	return left < max ? left : max;
}

int memx_loop_round(struct memx_loop *loop, uint64_t max_wait_ns)
{
	uint64_t before = memx_now(), worked = before - loop->now, wait = wait_for(loop, before, max_wait_ns);
	int got, ms = -1;

	if (!wait)
		ms = 0;
	else if (max_wait_ns < 1000000000000)
		ms = (int)((max_wait_ns + 999999) / 1000000);
	if (wait)
		alarm_set(loop);
	got = epoll_wait(loop->epoll, loop->batch, BATCH, ms);
	if (got < 0) {
		if (errno != EINTR)
			return -errno;
		got = 0;
	}

	loop->now = memx_now();
	loop->lag = worked;
	if (wait != UINT64_MAX && loop->now - before > wait)
		loop->lag += loop->now - before - wait;

	loop->batch_len = got;
	for (loop->batch_at = 0; loop->batch_at < loop->batch_len;) {
		struct epoll_event *ev = &loop->batch[loop->batch_at++];
		struct memx_watch *watch = ev->data.ptr;

		if (watch)
			watch->ready(watch, ev->events);
	}
	loop->batch_len = 0;
	run_timers(loop);
	run_work(loop);
	return 0;
}

int memx_loop_run(struct memx_loop *loop)
{
	int ret = 0;

	loop->now = memx_now();
	while (!loop->stop && !ret)
		ret = memx_loop_round(loop, UINT64_MAX);
	loop->stop = false;
	return ret;
}

void memx_loop_stop(struct memx_loop *loop)
{
	loop->stop = true;
}
