// SPDX-License-Identifier: GPL-2.0-only
/*
 * roster.c - which donors there are: entries of the configuration that come and go, and which donor stands behind each.
 *
 * An entry is a name and an address; a donor is an id that it says of itself. Records name donors by id, requests and sessions note
 * them by the entry's number. Whenever another donor stands behind a number than before, what was noted under it is forgotten.
 */
#include "internal.h"

struct core_donor *donor_by_id(struct relay_core *core, const u8 id[16])
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = core->donor[i];

		if (d && d->known && !d->duplicate && !memcmp(d->id, id, sizeof(d->id)))
			return d;
	}
	return NULL;
}

/* ---- who stands behind an entry ----------------------------------------------------------------------------------------------- */

/*
 * Another donor than before stands, or will stand, at this place: nothing that was noted under its number is true of it. Replicas
 * name donors by id; the pointer beside it follows what donors say of themselves.
 */
static void forget_place(struct core_donor *d)
{
	struct relay_core *core = d->core;
	u64 bit = bit64(d->index);
	struct list *pos, *rpos;

	list_for_each(pos, &core->links) {
		struct core_link *link = list_entry(pos, struct core_link, in_core);

		list_for_each(rpos, &link->busy)
			greq_forget(list_entry(rpos, struct greq, in_link), bit);
	}
	list_for_each(pos, &core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);

		session_forget(s, d->index);
		session_relink(s);
	}
}

/*
 * The store behind this connection: is it one that we know, and is it the same as before? Of two entries that lead to one donor
 * the one that is connected first is that donor; the other one is looked at again when that one's connection ends.
 */
void donor_learn(struct core_donor *d)
{
	struct relay_core *core = d->core;
	bool was_known = d->known, other_id = d->known && memcmp(d->id, d->claimed_id, sizeof(d->id));
	struct core_donor *twin = donor_by_id(core, d->claimed_id);

	d->duplicate = twin && twin != d && twin->up && twin->hello && !twin->dying;
	if (d->duplicate) {
		core_say(core, CORE_LOG_ERR, "donor-duplicate", "donor=%s id=%s as=%s hint=\"two entries of the configuration "
			 "lead to one donor; remove one\"", d->name, hexid(d->claimed_id).s, twin->name);
		return;
	}
	if (twin && twin != d) {
		core_say(core, CORE_LOG_WARN, "donor-moved-entry", "id=%s from=%s to=%s", hexid(d->claimed_id).s, twin->name, d->name);
		twin->known = false;
		forget_place(twin);
	}
	if (d->known && !other_id && d->instance != d->claimed_instance) {
		core->count.donor_new_instances++;
		core_say(core, CORE_LOG_WARN, "donor-new-instance", "donor=%s id=%s old=%016llx new=%016llx", d->name,
			 hexid(d->id).s, (unsigned long long)d->instance, (unsigned long long)d->claimed_instance);
	}
	if (other_id)
		core_say(core, CORE_LOG_WARN, "donor-new-id", "donor=%s old=%s new=%s", d->name, hexid(d->id).s,
			 hexid(d->claimed_id).s);
	memcpy(d->id, d->claimed_id, sizeof(d->id));
	d->instance = d->claimed_instance;
	d->known = true;
	if (other_id || !was_known) {
		core->peers_version++;
		forget_place(d);
	}
	if (other_id)
		donors_reconsider(core);
}

/* A donor's id became free: who was turned away for it serves from its next connection on. */
void donors_reconsider(struct relay_core *core)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = core->donor[i], *twin;

		if (!d || !d->duplicate || !d->up || !d->hello || d->dying)
			continue;
		twin = donor_by_id(core, d->claimed_id);
		if (twin && twin->up && twin->hello && !twin->dying)
			continue;
		/* It may be an older connection than the one that ended, and at one epoch a donor hears the youngest alone. */
		donor_fail(d, "it takes the place of the entry that it was a double of");
	}
}

/* ---- adding and removing ------------------------------------------------------------------------------------------------------ */

static bool name_good(const char *name)
{
	size_t len = strlen(name);

	return len && len < CORE_NAME_LEN;
}

void donor_takes_again(struct core_donor *d)
{
	struct list *pos;

	list_for_each(pos, &d->core->sessions)
		session_review_all(list_entry(pos, struct session, in_core));
}

/* One that was on its way out is wanted again: sessions that took their leave of it come back. */
static void donor_welcome_back(struct core_donor *d)
{
	struct list *pos;

	donor_takes_again(d);
	list_for_each(pos, &d->core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);

		if (donor_ok(d) && s->state == SESSION_ATTACHED && s->sd[d->index].state == SD_NONE && !s->sd[d->index].releasing)
			fence_open(s, d);
	}
}

struct core_donor *core_donor_add(struct relay_core *core, const char *name, void *cookie, u64 now)
{
	struct core_donor *d;
	u32 i, at = CORE_MAX_DONORS;
	int class;

	core_enter(core, now);
	errno = EINVAL;
	if (!name_good(name))
		return NULL;
	for (i = CORE_MAX_DONORS; i-- > 0;) {
		d = core->donor[i];
		if (!d) {
			at = i;
		} else if (!strcmp(d->name, name)) {
			errno = EEXIST;
			if (!d->leaving)
				return NULL;
			d->leaving = false;
			donor_welcome_back(d);
			core_settle(core);
			return d;
		}
	}
	errno = ENOSPC;
	if (at == CORE_MAX_DONORS)
		return NULL;
	d = core_zalloc(sizeof(*d));
	d->core = core;
	d->index = at;
	d->cookie = cookie;
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->down_at = core->now;
	d->hedge_budget = HEDGE_MAX;
	d->pool = rpool_new(4ULL << 20);
	for (class = 0; class < DOP_CLASSES; class++)
		list_init(&d->queue[class]);
	list_init(&d->sent);
	list_init(&d->sent_waited);
	list_init(&d->in_dying);
	list_init(&d->in_pump);
	core->donor[at] = d;
	return d;
}

/*
 * Is it needed yet? What attached sessions have there by their records is; so is what a session may have there whose map is with
 * its guest; and a donor that can be reached is told first what it may free.
 */
static bool donor_needed(struct core_donor *d)
{
	const struct list *pos;
	bool needed = false;

	list_for_each(pos, &d->core->sessions) {
		struct session *s = list_entry(pos, struct session, in_core);
		const struct sdonor *sd = &s->sd[d->index];

		if (s->state == SESSION_ATTACHING || sd->placed || (s->state == SESSION_ALONE && (sd->held || sd->reserved)))
			needed = true;
		else if (s->state == SESSION_FREEING)
			needed |= donor_ok(d) && !sd->detached;
		else if (s->state == SESSION_ATTACHED)
			needed |= fence_release(s, d);
	}
	return needed;
}

void donor_maybe_gone(struct core_donor *d)
{
	struct relay_core *core = d->core;
	void *cookie = d->cookie;

	if (!d->leaving || donor_needed(d))
		return;
	core_say(core, CORE_LOG_NOTICE, "donor-removed", "donor=%s", d->name);
	if (d->up) {
		donor_fail(d, "no longer in the configuration");
		donor_teardown(d);
	}
	d->known = false;
	forget_place(d);
	donor_destroy(d);
	donors_reconsider(core);
	core->ops.donor_gone(core->ctx, cookie);
}

void core_donor_remove(struct core_donor *d, u64 now)
{
	struct relay_core *core = d->core;

	core_enter(core, now);
	d->leaving = true;
	core_say(core, CORE_LOG_NOTICE, "donor-leaving", "donor=%s", d->name);
	donor_maybe_gone(d);
	core_settle(core);
}

int core_donor_empty(struct relay_core *core, const char *name, bool on, u64 now)
{
	u32 i;

	core_enter(core, now);
	for (i = 0; i < CORE_MAX_DONORS; i++) {
		struct core_donor *d = core->donor[i];

		if (!d || strcmp(d->name, name))
			continue;
		if (d->emptied != on)
			core_say(core, CORE_LOG_NOTICE, on ? "donor-emptying" : "donor-kept", "donor=%s", d->name);
		d->emptied = on;
		if (!on)
			donor_takes_again(d);
		core_settle(core);
		return 0;
	}
	return -ENOENT;
}
