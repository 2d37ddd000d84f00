// SPDX-License-Identifier: GPL-2.0-only
/*
 * vchan.c - a lane over libxenvchan. Opened and closed on the XenStore thread, used by the data thread in between.
 *
 * libxenvchan binds the event channel, maps the grants and arranges that the guest learns of our death (the mapping's
 * unmap-notify clears cli_live and raises an event). The bytes go through memx/vring.h over the same memory: it tells an
 * index that cannot be true from an empty ring, where libxenvchan takes the one for the other, and it notifies once per batch,
 * where libxenvchan does so per call.
 */
#include <errno.h>
#include <fcntl.h>
#include <libxenvchan.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <xenevtchn.h>
#include <xentoollog.h>

#include "vchan.h"
#include "user/log.h"

struct vchan {
	struct memx_chan chan;
	struct libxenvchan *ctrl;
};

/* What the Xen libraries have to say goes into our log. */
static void __attribute__((format(printf, 5, 0)))
xen_message(struct xentoollog_logger *logger, xentoollog_level level, int err, const char *context, const char *fmt, va_list ap)
{
	char text[256];

	(void)logger;
	vsnprintf(text, sizeof(text), fmt, ap);
	memx_log(level >= XTL_ERROR ? MEMX_LOG_WARNING : MEMX_LOG_DEBUG, "xen-library", "context=%s text=%s errno=%d",
		 context ? context : "none", memx_quoted(text), err);
}

static void xen_progress(struct xentoollog_logger *logger, const char *context, const char *what, int percent,
			 unsigned long done, unsigned long total)
{
	(void)logger, (void)context, (void)what, (void)percent, (void)done, (void)total;
}

static struct xentoollog_logger xen_logger = { .vmessage = xen_message, .progress = xen_progress };

static void vchan_notify(struct memx_chan *chan)
{
	struct libxenvchan *ctrl = ((struct vchan *)chan)->ctrl;

	xenevtchn_notify(ctrl->event, ctrl->event_port);
}

static void vchan_ack(struct memx_chan *chan)
{
	struct libxenvchan *ctrl = ((struct vchan *)chan)->ctrl;
	xenevtchn_port_or_error_t port = xenevtchn_pending(ctrl->event);

	if (port >= 0)
		xenevtchn_unmask(ctrl->event, (evtchn_port_t)port);
}

static void vchan_close(struct memx_chan *chan)
{
	struct vchan *v = (struct vchan *)chan;

	libxenvchan_close(v->ctrl);
	free(v);
}

static const struct memx_chan_ops ops = { vchan_notify, vchan_ack, vchan_close };

struct memx_chan *vchan_open(uint32_t domid, const char *path)
{
	struct vchan *v = calloc(1, sizeof(*v));
	struct libxenvchan *ctrl;
	int flags;

	if (!v)
		return NULL;
	errno = 0;
	ctrl = libxenvchan_client_init(&xen_logger, (int)domid, path);
	if (!ctrl) {
		free(v);
		errno = errno ? errno : EIO;
		return NULL;
	}
	ctrl->blocking = 0;
	v->ctrl = ctrl;
	v->chan.ops = &ops;
	v->chan.fd = xenevtchn_fd(ctrl->event);
	flags = fcntl(v->chan.fd, F_GETFL);
	if (flags >= 0)
		fcntl(v->chan.fd, F_SETFL, flags | O_NONBLOCK);
	/* Sizes are the library's private copies, checked by it; the page is shared and not read for them again. */
	memx_vring_init(&v->chan.ring, (struct memx_vchan_page *)ctrl->ring, false, ctrl->write.buffer, 1U << ctrl->write.order,
			ctrl->read.buffer, 1U << ctrl->read.order);
	return &v->chan;
}
