// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz-control.c - libFuzzer target: what comes over the relay's control socket.
 *
 * The input is lines, each a request to a relay that serves two guests over three donors. Each is answered with one object that
 * can be written as JSON and says whether it went well, and why not; and whatever was asked, short of freeing their sessions,
 * the guests read what they stored.
 */
#include "../../shared/user/ctl.c"	/* NOLINT(bugprone-suspicious-include): what is tried is static there */
#include "../edge/edge.h"
#include "fuzz/control.h"
#include "invariants.h"

const char *donor_address(const struct worker *w, const char *name, char text[MEMX_ADDR_TEXT])
{
	(void)w;
	snprintf(text, MEMX_ADDR_TEXT, "%s", name);
	return text;
}

static void served(struct world *w, struct wguest *g)
{
	u32 tries;

	g->may_lose = false;
	for (tries = 0; tries < 50 && (!g->attached || g->busy); tries++) {
		if (!g->alive)
			wguest_offer(g);
		world_settle(w);
		if (g->alive && !g->attached && !g->attaching)
			wguest_attach(g);
		world_pass(w, 200);
	}
	fuzz_must(g->attached, "%s is not served any more", g->conf.name);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct memx_loop *loop;
	struct world *w = world_new(1, 3, 8, NULL);
	struct relay_conf conf = { .core = w->cfg, .extent = 4096 << 6 };
	struct worker worker = { .core = w->core, .conf = &conf };
	struct control_ctx ctx = { .worker = &worker, .id = w->cfg.relay_id, .version = "fuzz" };
	struct memx_ctl ctl = { .cmds = control_cmds, .ctx = &ctx };
	const u8 *at = data, *end = data + size;
	u64 freed;
	u32 i;

	if (!loop)
		loop = memx_loop_new();
	worker.loop = loop;
	w->now = memx_loop_now(loop);		/* the clock of what comes over the socket */
	core_tick(w->core, w->now);
	for (i = 0; i < 2; i++) {
		struct wguest *g = wguest_new(w, 128, 2);

		fuzz_must(wguest_start(g), "a guest does not attach");
		fuzz_must(wguest_do(g, wguest_store(g, 0, 8)) == MEMX_S_OK, "a store failed");
	}
	while (at < end) {
		const u8 *line = at;

		at = memchr(line, '\n', (size_t)(end - line));
		at = at ? at : end;
		fuzz_check_reply(run_request(&ctl, (const char *)line, (size_t)(at - line)));
		at += at < end;
		world_pass(w, 300);
		check_world(w);
	}
	freed = world_counters(w).sessions_freed;
	for (i = 0; i < 2 && !freed; i++) {
		served(w, &w->guest[i]);
		fuzz_must(wguest_do(&w->guest[i], wguest_fetch(&w->guest[i], 0, 8)) == MEMX_S_OK, "a fetch failed");
	}
	memx_work_cancel(&worker.turn);
	world_free(w);
	return 0;
}
