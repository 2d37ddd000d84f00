// SPDX-License-Identifier: GPL-2.0-only
/*
 * attach.c - how a guest gets a session: ATTACH, its map, fences, admission, the answer; and DETACH.
 *
 *	step		waits for					then
 *	DONORS		every configured donor was tried once		FENCE to each that is there
 *	FENCE		their answers, their listings compared		those that did not know the session are told of it; and then
 *								admission: RESERVE to each
 *	RESERVE		their answers					granted; or once more with what they refused
 *
 * A donor that is lost on the way counts as one that is not there. Nothing of the session is asked of a donor before it confirmed
 * the fence at this epoch; donors that come later are fenced before they are used.
 *
 * Refused are: a map whose extents have no live copy on any donor known here (NODONOR, by id), a frozen area larger than the
 * quota (MISMATCH), more than the donors can promise (NOSPACE), a foreign lineage (SUPERSEDED), an old epoch (FENCED), and
 * anything but its own pages to a guest that the configuration has no more (DENIED). A first attach gets less than it asked for
 * rather than nothing.
 */
#include "internal.h"

/* ---- answers -------------------------------------------------------------------------------------------------------------- */

static void attach_answer(struct core_link *link, u32 status, u64 epoch, const struct memx_attached *body)
{
	struct core_seg seg = { .base = body, .len = sizeof(*body) };

	link_reply(link, link->attach_lane, MEMX_OP_ATTACH, link->attach_tag, epoch, status, &seg, 1);
}

/* Who is refused asks again every second: a reason is told once, and then once a minute. memxctl shows the guest's last one. */
static bool refusal_is_told(struct core_link *link)
{
	u64 *said = &link->refused_said[link->early], now = link->core->now;

	link->refused_times++;
	if (*said && now - *said < REFUSED_SAY_MS * MS && (link->early || !strcmp(link->reason, link->refused_for)))
		return false;
	*said = now;
	if (!link->early)
		memcpy(link->refused_for, link->reason, sizeof(link->refused_for));
	return true;
}

void attach_refuse(struct core_link *link, u32 status, const char *fmt, ...)
{
	struct memx_attached body = { .retry_ms = memx_put_le32(RETRY_MS) };
	struct session *s = link->session;
	u64 epoch = s->epoch;
	va_list args;

	va_start(args, fmt);
	vsnprintf(link->reason, sizeof(link->reason), fmt, args);
	va_end(args);
	link->core->count.attach_refused++;
	if (!link->early)
		link->refused_at = link->core->now;
	if (refusal_is_told(link)) {
		core_say(link->core, CORE_LOG_WARN, "attach-refused", "guest=%s session=%s epoch=%llu status=%s times=%u reason=\"%s\"",
			 link->conf.name, hexid(s->id).s, (unsigned long long)epoch, status_word(status), link->refused_times,
			 link->reason);
		link->refused_times = 0;
	}
	link->state = LINK_READY;
	attach_answer(link, status, epoch, &body);
	if (list_empty(&s->in_core) || status == MEMX_S_SUPERSEDED || status == MEMX_S_FENCED)
		session_destroy(s);		/* never told to donors, or not ours */
	else if (!s->frozen && !s->placed)
		session_free_start(s);
	else
		session_halt(s);
}

/* ---- ATTACH and MAP --------------------------------------------------------------------------------------------------------- */

/* What cannot be meant, whatever the configuration says. The reason, or NULL. */
static const char *malformed(const struct memx_attach *a, u64 epoch)
{
	u32 slots = memx_le32(a->slots), records = memx_le32(a->records);
	static const u8 nobody[16];

	if (!epoch)
		return "attach at epoch 0";
	if (!memcmp(a->session, nobody, sizeof(nobody)) || !a->lineage[0])
		return "attach without session or lineage";
	if (memx_le16(a->flags) & ~MEMX_ATTACH_FROZEN || a->replicas > MEMX_MAX_REPLICAS)
		return "attach uses fields that have no meaning";
	if (a->extent_order && (a->extent_order < MEMX_MIN_EXTENT_ORDER || a->extent_order > MEMX_MAX_EXTENT_ORDER))
		return "extent order out of range";
	if ((records || memx_le16(a->flags) & MEMX_ATTACH_FROZEN) && (!slots || !a->extent_order))
		return "a map or a frozen size without slots and extent order";
	if (records && records > memx_extents(slots, a->extent_order))
		return "more records than extents";
	return NULL;
}

/*
 * Each attempt costs time for every extent of the area, in the thread that serves the others too. After a refusal the guest was
 * told to wait; who is granted and detaches is not, so those are counted: a few in a row, and then one in so much time.
 */
static bool too_early(struct core_link *link)
{
	u64 now = link->core->now, pause = RETRY_MS / 2 * MS;

	if (link->refused_at && now - link->refused_at < pause)
		return true;
	if (link->attaches_until < now)
		link->attaches_until = now;
	if (link->attaches_until - now > ATTACHES_IN_A_ROW * pause)
		return true;
	link->attaches_until += pause;
	return false;
}

/*
 * What donors hold, and the guest's own tables, are in extents of the size that was granted before. Where there is neither record
 * nor swap there is nothing yet, and the size is the relay's to choose: a guest that chose the smallest would have it keep more.
 */
static u8 order_for(const struct core_link *link, const struct memx_attach *a)
{
	return a->records || memx_le16(a->flags) & MEMX_ATTACH_FROZEN ? a->extent_order : link->core->cfg.extent_order;
}

void attach_frame(struct core_link *link, unsigned int lane, const struct memx_head *head, struct rbuf *body)
{
	struct memx_attach a;
	const char *why;
	u64 quota = link->conf.quota_pages;
	u32 slots;

	if (head->len != sizeof(a)) {
		link_violation(link, lane, "attach of %u bytes", head->len);
		return;
	}
	memcpy(&a, body->data, sizeof(a));
	why = malformed(&a, head->epoch);
	if (why) {
		link_violation(link, lane, "%s", why);
		return;
	}
	slots = memx_le32(a.slots);
	if (!slots || slots > quota)		/* a frozen size beyond the quota is refused when the map is through */
		slots = quota > ~0U >> 1 ? ~0U >> 1 : (u32)quota;
	link->early = too_early(link);
	if (link->early)
		slots = 0;
	if (memx_le16(a.flags) & MEMX_ATTACH_FROZEN && slots != memx_le32(a.slots))
		slots = 0;		/* remembered as: does not fit; and nothing is prepared for it */
	link->session = session_new(link, &a, head->epoch, slots, order_for(link, &a));
	link->session->replicas = a.replicas;
	link->map_left = memx_le32(a.records);
	link->attach_tag = head->tag;
	link->attach_lane = (u8)lane;
	link->state = LINK_MAPPING;
}

/* One record of the map. The reason why it cannot be true, or NULL. */
static const char *take_record(struct session *s, const struct memx_record *rec)
{
	struct extent *x;

	if (memx_check_record(rec, s->extents))
		return "a record that cannot be true";
	x = &s->extent[memx_le32(rec->extent)];
	if (x->cur.generation)
		return "two records for one extent";
	placement_from_wire(s->core, &x->cur, rec);
	x->gen_floor = x->cur.generation;
	x->state = X_STEADY;
	s->placed++;
	return x->cur.generation > ~0ULL - (1ULL << 40) ? "a generation without successors" : NULL;
}

static u8 copies_named(const struct session *s)
{
	unsigned int most = 0;
	u32 i;

	for (i = 0; i < s->extents; i++) {
		unsigned int n = s->extent[i].cur.n;

		if (n > most)
			most = n;
	}
	return most > 2 ? 2 : (u8)most;
}

/* How many copies: what the guest wants, at most what is configured for it, two where nothing is said and donors allow it. */
static u8 copies_wanted(const struct core_link *link, const struct session *s)
{
	const struct relay_core *core = link->core;
	u8 wanted = s->replicas, r = link->conf.replicas ? link->conf.replicas : core->cfg.replicas;
	u32 i, donors = 0;

	for (i = 0; i < CORE_MAX_DONORS; i++)
		donors += core->donor[i] && donor_takes(core->donor[i]);
	if (!r)
		r = donors > 1 ? 2 : 1;
	if (!link->conf.replicas && !core->cfg.replicas && r < copies_named(s))
		r = copies_named(s);
	if (wanted && wanted < r)
		r = wanted;
	return r < MEMX_MAX_REPLICAS ? r : MEMX_MAX_REPLICAS - 1;	/* a place in the record for the replacement */
}

/*
 * Sessions that this very domain attached before: its module was loaded anew. Those of another domain of the same UUID are not
 * touched: it may be a copy that lives, or a saved image that will want its pages again. A domain's end frees its own.
 *
 * At once, not when the new one is granted: what they reserve may be just what the new one lacks, and a guest that has itself
 * refused under one id after another must not leave a session here and at every donor with each.
 */
static void replace_others(struct session *s)
{
	struct list *pos;

again:
	list_for_each(pos, &s->core->sessions) {
		struct session *old = list_entry(pos, struct session, in_core);

		if (old == s || old->state == SESSION_FREEING || old->domid != s->domid ||
		    memcmp(old->vm, s->vm, sizeof(s->vm)) || !memcmp(old->id, s->id, sizeof(s->id)))
			continue;
		session_free_start(old);
		goto again;
	}
}

/*
 * By its own word the guest was granted the session later than we did: it was on another host, under the same number. What we know
 * of it is out of date, and donors judge.
 */
static bool granted_since(const struct session *s, const struct session *old)
{
	return old->granted_epoch && s->known_epoch > old->granted_epoch;
}

/*
 * What this domain had of the session passes on to @s. That of another domain stays until @s is granted: where it is refused as a
 * copy, the other one is the owner. So does what is out of date: where donors refuse @s that is what there is to be freed one day.
 */
static void replace_own(struct session *s)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &s->core->sessions) {
		struct session *old = list_entry(pos, struct session, in_core);

		if (old->domid != s->domid || memcmp(old->vm, s->vm, sizeof(s->vm)) || memcmp(old->id, s->id, sizeof(s->id)) ||
		    (granted_since(s, old) && old->state != SESSION_FREEING))
			continue;
		s->granted_epoch = old->granted_epoch;
		s->granted_lineage = old->granted_lineage;
		session_destroy(old);
	}
}

/*
 * What donors would say to this attach of a domain that they know through us: a domain that comes again has raised its epoch and
 * presents the lineage of its last grant. They are not even asked, because their refusal would have us forget the session, and
 * with it what is to be freed when the domain ends.
 */
static u32 not_its_own(const struct session *s, const struct session *old)
{
	int i;

	if (!old || old->domid != s->domid || !old->granted_epoch || granted_since(s, old))
		return MEMX_S_OK;
	if (s->epoch < old->granted_epoch)
		return MEMX_S_FENCED;
	for (i = 0; i < MEMX_MAX_LINEAGE; i++)
		if (s->lineage[i] == old->granted_lineage)
			return MEMX_S_OK;
	return MEMX_S_SUPERSEDED;
}

static void refuse_disallowed(struct core_link *link)
{
	attach_refuse(link, MEMX_S_DENIED, "the configuration does not allow this guest any more");
}

/* The map is through. */
void attach_begin(struct core_link *link)
{
	struct relay_core *core = link->core;
	struct session *s = link->session, *old = session_find_of(core, s->vm, s->id, s->domid);
	u32 refusal = not_its_own(s, old);

	link->state = LINK_ATTACHING;
	link->mapped = !link->greeted;
	if (link->mapped)
		return;		/* lanes are not ordered among each other: another one's hello is still to come */
	if (core->draining) {
		attach_refuse(link, MEMX_S_DRAINING, "the relay is shutting down");
		return;
	}
	if (link->early) {
		attach_refuse(link, MEMX_S_AGAIN, "the guest does not wait between its attempts");
		return;
	}
	if (s->no_memory) {
		attach_refuse(link, MEMX_S_AGAIN, "this host has no memory for the placement of so many extents of %llu KiB",
			      4ULL << s->order);
		return;
	}
	if (link->disallowed && !(s->frozen && s->placed)) {
		refuse_disallowed(link);
		return;
	}
	if (!s->slots) {
		attach_refuse(link, s->frozen ? MEMX_S_MISMATCH : MEMX_S_DENIED,
			      "the quota of this guest is %llu pages, its swap area is larger",
			      (unsigned long long)link->conf.quota_pages);
		return;
	}
	if (refusal) {
		attach_refuse(link, refusal, "this domain attached the session before, %s", refusal == MEMX_S_FENCED ?
			      "at a higher epoch" : "with a lineage that it does not present now");
		return;
	}
	replace_own(s);
	list_add_tail(&s->in_core, &core->sessions);
	replace_others(s);
	session_relink(s);		/* donors may have said who they are since the first records came */
	s->state = SESSION_ATTACHING;
	s->step = ATTACH_DONORS;
	s->attach_until = core->now + core->cfg.donor_timeout_ns;
	session_step(s);
}

void attach_map(struct core_link *link, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = link->session;
	unsigned int lane = link->attach_lane;
	struct memx_records recs;
	struct memx_record rec;
	const char *why = NULL;
	int i, count = -EINVAL;

	if (head->len >= sizeof(recs)) {
		memcpy(&recs, body->data, sizeof(recs));
		count = memx_check_records(head, &recs);
	}
	if (count < 0 || (u32)count > link->map_left) {
		link_violation(link, lane, "malformed map");
		return;
	}
	link->map_left -= (u32)count;
	for (i = 0; i < count && s->slots && !why; i++) {
		memcpy(&rec, body->data + sizeof(recs) + (size_t)i * sizeof(rec), sizeof(rec));
		why = take_record(s, &rec);
	}
	if (!why && head->flags & MEMX_F_LAST && link->map_left)
		why = "fewer records than announced";
	if (why)
		link_violation(link, lane, "map: %s", why);
	else if (head->flags & MEMX_F_LAST)
		attach_begin(link);
}

/* ---- admission -------------------------------------------------------------------------------------------------------------- */

struct admission {
	struct admit_donor d[CORE_MAX_DONORS];
	u64 free_after[CORE_MAX_DONORS], reserved_after[CORE_MAX_DONORS];
	u32 index[CORE_MAX_DONORS];
	u32 n;
	bool known;		/* some donor holds a promise for this session */
	u8 copies;		/* the most that any session has */
	u64 owed;		/* pages that repair of other sessions has to place yet */
};

static u32 group_of(const struct session *s, const struct core_donor *d, bool by_domain)
{
	u32 i;

	for (i = 0; by_domain && i < d->index; i++)
		if (s->core->donor[i] && donor_same_domain(s->core->donor[i], d))
			return i;
	return d->index;
}

static void collect(struct session *s, struct admission *a, bool by_domain)
{
	u32 i;

	memset(a, 0, sizeof(*a));
	a->copies = room_most_copies(s);
	a->owed = room_owed(s);
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = s->core->donor[i];
		struct sdonor *sd = &s->sd[i];
		struct admit_donor *to = &a->d[a->n];
		u64 cap;

		if (!d || sd->state != SD_READY)
			continue;
		cap = donor_takes(d) ? (donor_free_pages(d) + sd->reserved) >> s->order : sd->reserved >> s->order;
		to->cap = cap > ~0U ? ~0U : (u32)cap;
		if (to->cap > s->max_cap[i])
			to->cap = s->max_cap[i];
		to->placed = sd->placed;
		to->held = (u32)(sd->reserved >> s->order);
		to->group = group_of(s, d, by_domain);
		a->index[a->n++] = i;
		a->known |= sd->reserved || sd->held;
	}
}

static bool has_headroom(const struct session *s, struct admission *a)
{
	u32 i;

	for (i = 0; i < a->n; i++) {
		const struct core_donor *d = s->core->donor[a->index[i]];
		u64 mine = (u64)a->d[i].alloc << s->order, was = s->sd[a->index[i]].reserved;
		u64 reserved = d->reserved - (was < d->reserved ? was : d->reserved) + mine;
		u64 alone = room_single(s, a->index[i]) + (s->replicas == 1 ? mine : 0);

		a->reserved_after[i] = reserved > alone ? reserved - alone : 0;
		a->free_after[i] = d->total > reserved && donor_takes(d) ? d->total - reserved : 0;
	}
	return admit_headroom(a->d, a->n, a->free_after, a->reserved_after, a->copies, a->owed);
}

/* Donors that can promise something new. */
static u32 takers(const struct session *s, const struct admission *a)
{
	u32 i, n = 0;

	for (i = 0; i < a->n; i++)
		n += donor_takes(s->core->donor[a->index[i]]);
	return n;
}

static u32 groups(const struct admission *a)
{
	u32 i, k, n = 0;

	for (i = 0; i < a->n; i++) {
		for (k = 0; k < i && a->d[k].group != a->d[i].group; k++)
			;
		n += k == i;
	}
	return n;
}

/* Largest area up to @want that fits with room left to repair. Spread in @a. */
static u32 admit(const struct session *s, struct admission *a, u32 want)
{
	u32 low = 0, high = admit_largest(a->d, a->n, want, s->replicas);

	while (low < high) {
		u32 mid = low + (high - low + 1) / 2;

		if (admit_spread(a->d, a->n, mid, s->replicas) && has_headroom(s, a))
			low = mid;
		else
			high = mid - 1;
	}
	if (low)
		admit_spread(a->d, a->n, low, s->replicas);
	return low;
}

static int reserve_done(struct dop *dop, u32 status, const struct memx_head *head, struct rbuf *body)
{
	struct session *s = dop->session;
	struct sdonor *sd = &s->sd[dop->donor->index];

	(void)body;
	if (status == S_LOST)
		return 0;		/* fence_donor_down() has counted it */
	if (head->len)
		return -EPROTO;
	if (status != MEMX_S_OK) {
		/* Others were quicker since its last STAT. Plan without more than what it holds for us. */
		s->max_cap[dop->donor->index] = sd->fallback;
		sd->reserved = (u64)sd->fallback << s->order;
		s->attach_rounds++;
	}
	if (sd->counted) {
		sd->counted = false;
		s->attach_pending--;
		session_step(s);
	}
	return 0;
}

static void ask_reservations(struct session *s, const struct admission *a)
{
	u32 i;

	for (i = 0; i < a->n; i++) {
		struct core_donor *d = s->core->donor[a->index[i]];
		struct sdonor *sd = &s->sd[a->index[i]];
		u64 pages, alloc = a->d[i].alloc;

		if (alloc > s->max_cap[a->index[i]])	/* what lies there by the map may be gone, and others have its room */
			alloc = s->max_cap[a->index[i]];
		pages = alloc << s->order;
		if (pages == sd->reserved)
			continue;
		sd->fallback = a->d[i].held;
		sd->counted = true;
		s->attach_pending++;
		fence_reserve(s, d, pages, reserve_done);
	}
	s->step = ATTACH_RESERVE;
	session_step(s);
}

/* ---- the steps -------------------------------------------------------------------------------------------------------------- */

static bool donors_tried(const struct session *s)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = s->core->donor[i];

		if (d && !d->leaving && !d->duplicate && (!d->tried || (d->up && !d->stat)))
			return false;
	}
	return true;
}

static void step_donors(struct session *s)
{
	struct relay_core *core = s->core;
	u32 i;

	if (!donors_tried(s) && core->now < s->attach_until) {
		core_want_tick(core, s->attach_until);
		return;
	}
	s->step = ATTACH_FENCE;
	s->replicas = copies_wanted(s->link, s);
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = core->donor[i];

		if (!d || !donor_ok(d))
			continue;
		s->sd[i].counted = true;
		s->attach_pending++;
		fence_open(s, d);
	}
	session_step(s);
}

/* An extent of which no live copy lies at a donor that this relay knows. NULL: none. */
static const struct replica *unknown_donor(const struct session *s)
{
	u32 i, k;

	for (i = 0; i < s->extents; i++) {
		const struct placement *p = &s->extent[i].cur;
		const struct replica *unknown = NULL;
		bool known = false;

		for (k = 0; k < p->n; k++) {
			if (p->r[k].state != MEMX_R_LIVE)
				continue;
			known |= p->r[k].donor != NULL;
			if (!p->r[k].donor)
				unknown = &p->r[k];
		}
		if (!known && unknown)
			return unknown;
	}
	return NULL;
}

static u32 worst_refusal(const struct session *s)
{
	u32 i, status = MEMX_S_AGAIN;

	for (i = 0; i < CORE_MAX_DONORS; i++)
		if (s->core->donor[i] && s->sd[i].state == SD_REFUSED)
			status = s->sd[i].status;
	return status == MEMX_S_DENIED || status == MEMX_S_MISMATCH ? status : MEMX_S_AGAIN;
}

static void step_fence(struct session *s)
{
	struct admission a;
	const struct replica *unknown;
	u32 granted, disowned = session_disowned(s);

	if (s->attach_pending)
		return;
	if (disowned) {
		attach_refuse(s->link, disowned, "the donors say %s", disowned == MEMX_S_SUPERSEDED ?
			      "that another copy of this guest owns the session" : "that the session is fenced at a newer epoch");
		return;
	}
	unknown = unknown_donor(s);
	if (unknown) {
		attach_refuse(s->link, MEMX_S_NODONOR, "donor %s, which the map needs, is not among the configured donors that "
			      "answer", hexid(unknown->id).s);
		return;
	}
	if (fence_strangers(s))
		return;
	collect(s, &a, true);
	if (!a.n) {
		attach_refuse(s->link, worst_refusal(s), "no donor serves this session");
		return;
	}
	if (s->link->disallowed && !a.known) {
		refuse_disallowed(s->link);	/* a map that no donor knows anything of */
		return;
	}
	if (groups(&a) < s->replicas)
		collect(s, &a, false);
	granted = admit(s, &a, s->extents);
	if (s->frozen && granted < s->extents && (a.known || s->placed)) {
		/* It is promised already, and its pages are out there: serve with what there is. */
		admit_spread(a.d, a.n, s->extents, s->replicas);
		granted = s->extents;
	}
	if (!granted || (s->frozen && granted < s->extents)) {
		attach_refuse(s->link, MEMX_S_NOSPACE, "%u donors that take extents cannot promise %u copies of %llu pages and keep "
			      "room to repair", takers(s, &a), s->replicas, (unsigned long long)s->extents << s->order);
		return;
	}
	if (granted < s->extents) {
		core_say(s->core, CORE_LOG_WARN, "attach-reduced", "guest=%s wanted_pages=%llu granted_pages=%llu copies=%u hint=\"%u donors "
			 "that take extents cannot promise more and keep room to repair; add memory\"", s->name,
			 (unsigned long long)s->extents << s->order, (unsigned long long)granted << s->order, s->replicas, takers(s, &a));
		session_shrink(s, granted);
	}
	ask_reservations(s, &a);
}

static void grant(struct session *s)
{
	struct core_link *link = s->link;
	struct memx_attached body = {
		.slots = memx_put_le32(s->slots), .extent_order = s->order, .replicas = s->replicas,
		.max_pages = MEMX_MAX_PAGES, .lane_requests = memx_put_le32(link->lane_requests),
		.lane_pages = memx_put_le32(link->lane_pages),
	};
	u32 i;

	session_take_over(s);
	s->state = SESSION_ATTACHED;
	s->granted_epoch = s->epoch;
	s->granted_lineage = s->lineage[0];
	s->since = s->core->now;
	link->state = LINK_ATTACHED;
	link->reason[0] = 0;
	link->refused_for[0] = 0;
	s->core->count.attaches++;
	core_say(s->core, CORE_LOG_NOTICE, "attach", "guest=%s session=%s epoch=%llu slots=%u order=%u replicas=%u records=%llu",
		 s->name, hexid(s->id).s, (unsigned long long)s->epoch, s->slots, s->order, s->replicas,
		 (unsigned long long)s->placed);
	attach_answer(link, MEMX_S_OK, s->epoch, &body);
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		if (s->core->donor[i] && s->sd[i].state == SD_READY) {
			fence_resize(s, s->core->donor[i]);
			fence_retain(s, s->core->donor[i]);
		}
	}
	session_review_all(s);
}

static void step_reserve(struct session *s)
{
	if (s->attach_pending)
		return;
	if (!s->attach_rounds || (s->attach_step_tries >= 3 && s->frozen && s->placed)) {
		grant(s);	/* its pages are out there: served with what there is */
	} else if (++s->attach_step_tries > 3) {
		attach_refuse(s->link, MEMX_S_NOSPACE, "donors refused the reservation");
	} else {
		s->attach_rounds = 0;
		s->step = ATTACH_FENCE;
		session_step(s);
	}
}

void attach_work(struct session *s)
{
	if (s->state == SESSION_FREEING) {
		detach_answered(s);
		return;
	}
	if (s->state != SESSION_ATTACHING || !s->link || s->link->dying)
		return;
	if (s->step == ATTACH_DONORS)
		step_donors(s);
	else if (s->step == ATTACH_FENCE)
		step_fence(s);
	else
		step_reserve(s);
}

/* ---- DETACH ----------------------------------------------------------------------------------------------------------------- */

void detach_frame(struct core_link *link, unsigned int lane, const struct memx_head *head)
{
	struct session *s = link->session;
	struct list *pos, *tmp;

	/* The guest gives its pages up: what it still waits for has no meaning any more. */
	list_for_each_safe(pos, tmp, &link->busy) {
		struct greq *req = list_entry(pos, struct greq, in_link);

		if (req->op == MEMX_OP_FETCH)
			fetch_fail(req, MEMX_S_UNKNOWN);
		else
			store_fail(req, MEMX_S_UNKNOWN);
	}
	link->detach_tag = head->tag;
	link->detach_lane = (u8)lane;
	link->state = LINK_DETACHING;
	link->core->count.detaches++;
	core_say(link->core, CORE_LOG_NOTICE, "detach", "guest=%s session=%s", s->name, hexid(s->id).s);
	session_free_start(s);
}

/* A donor confirmed, or went. Answers the guest when all that are there did; the session goes when all that exist did. */
void detach_answered(struct session *s)
{
	struct core_link *link = s->link;
	bool here = false, anywhere = false;
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = s->core->donor[i];

		if (!d || d->duplicate || s->sd[i].detached)
			continue;
		anywhere = true;
		here |= donor_ok(d) && s->sd[i].state != SD_REFUSED;
	}
	if (link && !here) {
		link->state = LINK_READY;
		link_reply(link, link->detach_lane, MEMX_OP_DETACH, link->detach_tag, s->epoch, MEMX_S_OK, NULL, 0);
		link->session = NULL;
		s->link = NULL;
	}
	if (!anywhere)
		session_destroy(s);
}
