// SPDX-License-Identifier: GPL-2.0-only
/*
 * session.c - swap areas that this relay knows: attached ones, those that wait for their guest to come back, and those that
 * donors are being told to free.
 *
 *	ATTACHING  a guest handed its map over; donors are fenced and asked for room
 *	ATTACHED   its requests are served
 *	ALONE      its link is gone. Nothing is freed for that: the guest comes back, here or on another host, with its own map.
 *	FREEING    detached by the guest, by an admin, or because its domain is gone for good: every donor gets a DETACH, also
 *		   those that are away and come back later. Conditional on the epoch, as every free.
 *
 * Nothing here outlives the process, and nothing needs to: the map is the guest's, the pages are the donors'.
 */
#include "internal.h"

/* The one that this very domain attached before. */
struct session *session_find_of(struct relay_core *core, const u8 vm[16], const u8 id[16], u32 domid)
{
	struct list *pos;

	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);

		if (!memcmp(s->vm, vm, 16) && !memcmp(s->id, id, 16) && s->domid == domid)
			return s;
	}
	return NULL;
}

/* It is granted: whoever had it before, a domain that is gone or a copy of this one, has it no more. */
void session_take_over(struct session *s)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &s->core->sessions) {
		struct session *old = list_entry(pos, struct session, in_core);

		if (old == s || memcmp(old->vm, s->vm, 16) || memcmp(old->id, s->id, 16))
			continue;
		if (old->link)
			link_fail(old->link, "another domain attached its session");
		else
			session_destroy(old);
	}
}

/* False: that many would be too much. Whoever hears of it is the guest; the others' pages are not put at risk for its sake. */
static bool extents_alloc(struct session *s)
{
	struct relay_core *core = s->core;
	u64 bytes = s->extents * (u64)sizeof(*s->extent);
	u32 i;

	if (bytes > core->cfg.map_bytes || core->map_bytes > core->cfg.map_bytes - bytes)
		return false;
	s->extent = calloc(s->extents, sizeof(*s->extent));
	if (!s->extent)
		return false;
	core->map_bytes += bytes;
	s->allocated = s->extents;
	for (i = 0; i < s->extents; i++)
		extent_init(&s->extent[i], s, i);
	return true;
}

/* A session as the guest of @link describes it. It is not in the core's list yet: attach_map() puts it there. */
struct session *session_new(struct core_link *link, const struct memx_attach *a, u64 epoch, u32 slots, u8 order)
{
	struct session *s = core_zalloc(sizeof(*s));
	u32 i;

	s->core = link->core;
	s->link = link;
	memcpy(s->vm, link->conf.vm, sizeof(s->vm));
	memcpy(s->id, a->session, sizeof(s->id));
	memcpy(s->name, link->conf.name, sizeof(s->name));
	s->epoch = epoch;
	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		s->lineage[i] = memx_le64(a->lineage[i]);
	if (memx_le32(a->attempts) < epoch)
		s->known_epoch = memx_le32(a->attempts) ? epoch - memx_le32(a->attempts) : 0;
	s->domid = link->conf.domid;
	s->seed = memx_session_seed(s->id);
	s->frozen = memx_le16(a->flags) & MEMX_ATTACH_FROZEN;
	s->order = order;
	s->slots = slots;
	s->extents = slots ? memx_extents(slots, order) : 0;
	s->since = link->core->now;
	list_init(&s->in_core);
	list_init(&s->in_step);
	list_init(&s->dops);
	list_init(&s->later);
	if (s->extents && !extents_alloc(s)) {
		s->no_memory = true;
		s->extents = 0;
		s->slots = 0;
	}
	memset(s->max_cap, 0xff, sizeof(s->max_cap));
	return s;
}

static void unlink_extent(struct extent *x)
{
	repair_cancel(x);
	list_del(&x->in_review);
	list_del(&x->in_later);
	list_del(&x->in_record);
	list_del(&x->in_held);
}

/* Less was granted than the guest asked for. A donor may have named, truly or not, one of those that are cut off. */
void session_shrink(struct session *s, u32 extents)
{
	u32 i;

	for (i = extents; i < s->extents; i++) {
		struct extent *x = &s->extent[i];

		extent_count(x, -1);
		unlink_extent(x);
		x->touched = 0;
	}
	s->extents = extents;
	s->slots = extents << s->order;
}

static void forget_extents(struct session *s)
{
	u32 i;

	for (i = 0; s->extent && i < s->allocated; i++)
		unlink_extent(&s->extent[i]);
	free(s->extent);
	if (s->extent)
		s->core->map_bytes -= s->allocated * (u64)sizeof(*s->extent);
	s->extent = NULL;
	s->changing = 0;
	for (i = 0; i < CORE_MAX_DONORS; i++)
		s->sd[i].placed = 0;
}

static void forget_asked(struct core_link *link)
{
	unsigned int l, i;

	for (l = 0; l < link->lanes; l++)
		for (i = 0; i < MEMX_RELAY_CREDITS; i++)
			link->lane[l].asked[i].count = 0;
}

/* Lets go of the link, its requests and the map; what donors hold stays. */
void session_halt(struct session *s)
{
	struct core_link *link = s->link;
	struct list *pos, *tmp;
	u32 i;

	if (link) {
		list_for_each_safe(pos, tmp, &link->busy)
			greq_drop(list_entry(pos, struct greq, in_link));
		forget_asked(link);
		link->session = NULL;
		s->link = NULL;
	}
	forget_extents(s);
	while (!list_empty(&s->dops))
		dop_cancel(list_first(&s->dops, struct dop, in_session));
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		s->sd[i].counted = false;
		if (s->sd[i].state == SD_FENCING || s->sd[i].state == SD_LISTING || s->sd[i].state == SD_STRANGER)
			s->sd[i].state = SD_NONE;
	}
	s->attach_pending = 0;
	list_del(&s->in_step);
	s->since = s->core->now;
	if (s->state != SESSION_FREEING)
		s->state = SESSION_ALONE;
}

void session_destroy(struct session *s)
{
	session_halt(s);
	list_del(&s->in_core);
	free(s);
}

/* What the donor at @index has of our extents is learned anew when it lists them. session_relink() follows. */
void session_forget(struct session *s, u32 index)
{
	u64 keep = ~bit64(index);
	bool counted = s->sd[index].counted;
	u32 i;

	memset(&s->sd[index], 0, sizeof(s->sd[index]));
	s->sd[index].counted = counted;		/* the attach waits for it yet */
	s->max_cap[index] = ~0U;
	for (i = 0; s->extent && i < s->extents; i++) {
		struct extent *x = &s->extent[i];

		repair_cancel(x);
		x->touched &= keep;
		x->refused &= keep;
		x->promote &= keep;
		x->leave &= keep;
		x->unfit &= keep;
		x->late &= keep;
		if ((x->shift | x->shift_to) & ~keep)
			balance_give_up(x);
	}
}

/* After a donor was learned, renamed or forgotten: replicas name donors by id, and so is counted what lies where. */
void session_relink(struct session *s)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++)
		s->sd[i].placed = 0;
	for (i = 0; s->extent && i < s->extents; i++)
		extent_relink(&s->extent[i]);
}

void session_step(struct session *s)
{
	if (list_empty(&s->in_step))
		list_add_tail(&s->in_step, &s->core->step);
}

void session_review_all(struct session *s)
{
	u32 i;

	if (s->state != SESSION_ATTACHED)
		return;
	for (i = 0; i < s->extents; i++)
		if (s->extent[i].cur.generation || s->extent[i].touched || !list_empty(&s->extent[i].writes))
			extent_review(&s->extent[i]);
}

/*
 * Do the donors say that the session is somebody else's? FENCED, SUPERSEDED, or OK: no.
 *
 * The word of one is not enough where others can be heard: its lie would end the guest's use of all its pages. Whoever really
 * took the session over has fenced every donor that it could reach, so the truth is told by two of them, or there is only one.
 * Against the others' confirmation a single donor is set aside like one that is away: nothing is read, written or freed there, and
 * whatever is done elsewhere every donor judges for itself.
 *
 * Who holds nothing of the session knows only who was there first: a copy that was refused everywhere else, perhaps. As long as
 * nobody who holds something of it agrees with them, such donors are no witnesses against one that holds something and confirms.
 */
u32 session_disowned(const struct session *s)
{
	u32 i, fenced = 0, superseded = 0, others = 0;	/* those that have never heard of it are none of these */
	bool holder_denies = false, holder_confirms = false;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = s->core->donor[i];
		const struct sdonor *sd = &s->sd[i];

		if (!d || d->duplicate || sd->state == SD_STRANGER)
			continue;
		if (sd->state != SD_REFUSED) {
			others++;	/* confirmed it, or was not heard yet */
			holder_confirms |= (sd->state == SD_READY || sd->state == SD_LISTING) && sd->fence_extents;
			continue;
		}
		fenced += sd->status == MEMX_S_FENCED;
		superseded += sd->status == MEMX_S_SUPERSEDED;
		holder_denies |= (sd->status == MEMX_S_FENCED || sd->status == MEMX_S_SUPERSEDED) &&
				 (sd->fence_extents || sd->placed);	/* by its word, or by the guest's */
	}
	if (holder_confirms && !holder_denies)
		return MEMX_S_OK;
	if (superseded > 1 || (superseded && !others && !fenced))
		return MEMX_S_SUPERSEDED;
	return fenced + superseded > 1 || (fenced && !others) ? MEMX_S_FENCED : MEMX_S_OK;
}

/* Has any donor confirmed the fence of this epoch? */
bool session_confirmed(const struct session *s)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (s->core->donor[i] && s->sd[i].state >= SD_FENCING && s->sd[i].state <= SD_READY)
			return true;
	return false;
}

/* Is it true? Whoever confirmed the fence before is asked to confirm it again. */
static void second_opinion(struct session *s)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (s->core->donor[i] && donor_ok(s->core->donor[i]) && s->sd[i].state == SD_READY)
			fence_open(s, s->core->donor[i]);
}

/* A donor says that somebody with a newer epoch, or another copy of this guest, owns the session. */
void session_fenced(struct session *s, struct core_donor *d, u32 status)
{
	struct relay_core *core = s->core;
	bool said = s->sd[d->index].state == SD_REFUSED && s->sd[d->index].status == status;

	fence_set_aside(s, d, status);
	if (said)
		return;
	core->count.disowned++;
	core_say(core, CORE_LOG_WARN, "session-fenced", "guest=%s session=%s epoch=%llu donor=%s status=%s donor_epoch=%llu",
		 s->name, hexid(s->id).s, (unsigned long long)s->epoch, d->name, status_word(status),
		 (unsigned long long)s->sd[d->index].fence_epoch);
	if (s->state != SESSION_ATTACHED || !s->link)
		return;			/* an attach waits for the others' answers */
	if (session_disowned(s) || !session_confirmed(s)) {
		link_fail(s->link, "donor %s says %s: the session is attached elsewhere", d->name, status_word(status));
		return;
	}
	if (core->now >= s->sd[d->index].opinion_at) {	/* who connects and says so in a loop keeps nobody busy with it */
		s->sd[d->index].opinion_at = core->now + OPINION_MS * MS;
		second_opinion(s);
	}
}

/* ---- freeing --------------------------------------------------------------------------------------------------------------- */

/* Is everybody told who can be? And does one that is there refuse to listen? */
static bool told_all(const struct session *s, bool *refused)
{
	u32 i;

	*refused = false;
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		if (!s->core->donor[i] || !donor_ok(s->core->donor[i]) || s->sd[i].detached)
			continue;
		if (s->sd[i].state != SD_REFUSED)
			return false;
		*refused = true;
	}
	return s->state == SESSION_FREEING && !s->link;
}

/*
 * Too many that wait for donors which never come back, or which never take them up: the oldest is given up. Of the latter far more
 * may wait, because a donor may have too many sessions just when many end. Never one that a donor which is there has not been
 * asked to free, or has to answer yet. The donors' own accounting shows what they still hold.
 */
static void limit_freeing(struct relay_core *core, const u8 vm[16])
{
	struct session *oldest[2] = { NULL, NULL }, *s;
	u32 n[2] = { 0, 0 };
	struct list *pos;
	bool refused;

	list_for_each(pos, &core->sessions) {
		s = list_entry(pos, struct session, in_core);
		if (memcmp(s->vm, vm, 16) || !told_all(s, &refused))
			continue;
		if (!n[refused]++)
			oldest[refused] = s;
	}
	refused = n[0] <= LINK_MAX_SESSIONS;
	s = oldest[refused];
	if (!s || n[refused] <= (refused ? LINK_MAX_REFUSED : LINK_MAX_SESSIONS))
		return;
	core_say(core, CORE_LOG_WARN, "session-forgotten", "guest=%s session=%s hint=\"donors that %s still hold it\"", s->name,
		 hexid(s->id).s, refused ? "refuse to free it" : "are away");
	session_destroy(s);
}

void session_free_start(struct session *s)
{
	struct relay_core *core = s->core;
	struct core_link *link = s->link;
	u8 vm[16];
	u32 i;

	memcpy(vm, s->vm, sizeof(vm));
	s->state = SESSION_FREEING;
	session_halt(s);
	if (link && link->state == LINK_DETACHING) {	/* it waits for the answer */
		s->link = link;
		link->session = s;
	}
	if (s->granted_epoch || s->frozen || s->placed)	/* one that was only refused is told of as that */
		core_say(core, CORE_LOG_NOTICE, "session-free", "guest=%s session=%s epoch=%llu", s->name, hexid(s->id).s,
			 (unsigned long long)s->epoch);
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = core->donor[i];

		s->sd[i].detached = false;
		if (!d || !donor_ok(d))
			continue;
		if (s->sd[i].state == SD_READY)
			fence_detach(s, d);
		else
			fence_open(s, d);
	}
	session_step(s);
	limit_freeing(core, vm);
}

/* Donors that had no room for the session just then, or would not listen, are asked again; what waits for a buffer is told. */
void session_ask_again(struct session *s)
{
	struct relay_core *core = s->core;
	u32 i;

	if (core->now < s->retry_at)
		return;
	s->retry_at = core->now + RETRY_MS * MS;
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct sdonor *sd = &s->sd[i];

		if (!core->donor[i] || !donor_ok(core->donor[i]))
			continue;
		fence_retain_again(s, core->donor[i]);
		if (sd->state != SD_REFUSED)
			continue;
		if (s->state == SESSION_FREEING ? !sd->detached : sd->status == MEMX_S_AGAIN || sd->status == MEMX_S_LIMIT)
			fence_open(s, core->donor[i]);
	}
}

/*
 * A UUID alone names no guest: a restored copy has that of its original, and both may be linked here. Who takes the one for the
 * other frees the pages of a domain that lives.
 */
static bool is_of(const struct core_link *link, const u8 vm[16], u32 domid)
{
	return link->conf.domid == domid && !memcmp(link->conf.vm, vm, sizeof(link->conf.vm));
}

void core_guest_gone(struct relay_core *core, const u8 vm[16], u32 domid, bool suspended, u64 now)
{
	struct list *pos, *tmp;

	core_enter(core, now);
	list_for_each_safe(pos, tmp, &core->links) {
		struct core_link *link = list_entry(pos, struct core_link, in_core);

		if (is_of(link, vm, domid))
			link_fail(link, "the domain is gone");
	}
	core_settle(core);
again:
	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);

		if (memcmp(s->vm, vm, 16) || s->domid != domid || s->state == SESSION_FREEING)
			continue;
		if (suspended) {
			core_say(core, CORE_LOG_NOTICE, "session-kept", "guest=%s session=%s why=\"its domain was suspended\"",
				 s->name, hexid(s->id).s);
			continue;
		}
		core->count.sessions_freed++;
		session_free_start(s);
		goto again;		/* the list may have lost others, too */
	}
	core_settle(core);
}

int core_session_free(struct relay_core *core, const u8 vm[16], const u8 session[16], bool force, u64 now)
{
	struct session *s;

	struct list *pos;
	bool found = false, attached = false;

	core_enter(core, now);
	list_for_each(pos, &core->sessions) {		/* as many as there are domains that attached it */
		s = list_entry(pos, struct session, in_core);
		if (memcmp(s->vm, vm, 16) || memcmp(s->id, session, 16))
			continue;
		found = true;
		attached |= s->link && s->state != SESSION_FREEING;
		if (s->link && force)
			link_fail(s->link, "its session is freed by an admin");
	}
	if (!found)
		return -ENOENT;
	if (attached && !force)
		return -EBUSY;
	core_settle(core);
again:
	list_for_each(pos, &core->sessions) {
		s = list_entry(pos, struct session, in_core);
		if (memcmp(s->vm, vm, 16) || memcmp(s->id, session, 16) || s->state == SESSION_FREEING)
			continue;
		core->count.sessions_freed++;
		session_free_start(s);
		goto again;
	}
	core_settle(core);
	return 0;
}

void core_guest_conf_changed(struct relay_core *core, const struct core_guest_conf *conf, u64 now)
{
	struct list *pos;

	core_enter(core, now);
	list_for_each(pos, &core->links) {
		struct core_link *link = list_entry(pos, struct core_link, in_core);

		if (!is_of(link, conf->vm, conf->domid))
			continue;
		link->conf.quota_pages = conf->quota_pages;
		link->conf.replicas = conf->replicas;
		link->disallowed = false;
	}
	core_settle(core);
}

void core_guest_disallowed(struct relay_core *core, const u8 vm[16], u32 domid, u64 now)
{
	struct list *pos;

	core_enter(core, now);
	list_for_each(pos, &core->links) {
		struct core_link *link = list_entry(pos, struct core_link, in_core);

		if (is_of(link, vm, domid))
			link->disallowed = true;
	}
	core_settle(core);
}

void session_conditions(const struct session *s, u32 *placed, u32 *degraded, u32 *waiting)
{
	u32 i;

	*placed = 0;
	*degraded = 0;
	*waiting = 0;
	for (i = 0; s->extent && i < s->extents; i++) {
		const struct extent *x = &s->extent[i];

		if (!x->cur.generation)
			continue;
		++*placed;
		*degraded += extent_degraded(x);
		*waiting += extent_waiting(x);
	}
}
