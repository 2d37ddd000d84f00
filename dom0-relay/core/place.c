// SPDX-License-Identifier: GPL-2.0-only
/*
 * place.c - which donor gets the next copy of an extent, and placement records in memory and on the wire.
 *
 * The power of two choices (Mitzenmacher 2001): of two donors drawn at random the roomier one, where room is what this session
 * has reserved there and not used yet. Never two copies on one donor; never two in one failure domain while another has room.
 *
 * Chance alone could use reservations up unevenly and leave, at the end, room only where a copy already is. So a donor
 * whose unused reservation is as large as the number of extents that still lack a place must be among the chosen.
 */
#include "internal.h"

void placement_from_wire(struct relay_core *core, struct placement *p, const struct memx_record *rec)
{
	u8 i;

	memset(p, 0, sizeof(*p));
	p->generation = memx_le64(rec->generation);
	p->n = rec->replicas;
	for (i = 0; i < p->n; i++) {
		memcpy(p->r[i].id, rec->replica[i].donor, sizeof(p->r[i].id));
		p->r[i].instance = memx_le64(rec->replica[i].instance);
		p->r[i].state = rec->replica[i].state;
		p->r[i].donor = donor_by_id(core, p->r[i].id);
	}
}

void placement_to_wire(const struct placement *p, u32 extent, struct memx_record *rec)
{
	u8 i;

	memset(rec, 0, sizeof(*rec));
	rec->extent = memx_put_le32(extent);
	rec->generation = memx_put_le64(p->generation);
	rec->replicas = p->n;
	for (i = 0; i < p->n; i++) {
		memcpy(rec->replica[i].donor, p->r[i].id, sizeof(p->r[i].id));
		rec->replica[i].instance = memx_put_le64(p->r[i].instance);
		rec->replica[i].state = p->r[i].state;
	}
}

int placement_find(const struct placement *p, const struct core_donor *d)
{
	int i;

	for (i = 0; i < p->n; i++)
		if (p->r[i].donor == d)
			return i;
	return -1;
}

bool placement_names(const struct placement *p, const struct core_donor *d)
{
	int i;

	for (i = 0; i < p->n; i++)
		if (!memcmp(p->r[i].id, d->id, sizeof(d->id)))
			return true;
	return false;
}

void placement_remove(struct placement *p, int i)
{
	memmove(&p->r[i], &p->r[i + 1], (size_t)(p->n - i - 1) * sizeof(p->r[0]));
	memset(&p->r[--p->n], 0, sizeof(p->r[0]));
}

unsigned int placement_count(const struct placement *p, u8 state)
{
	unsigned int i, n = 0;

	for (i = 0; i < p->n; i++)
		n += p->r[i].state == state;
	return n;
}

/* ---- choosing ------------------------------------------------------------------------------------------------------------ */

/* Extents that this session may still put there within its reservation. */
static u64 reserved_left(const struct session *s, const struct core_donor *d)
{
	const struct sdonor *sd = &s->sd[d->index];
	u64 extents = sd->reserved >> s->order;

	return extents > sd->placed ? extents - sd->placed : 0;
}

static bool takes_copies(const struct replica *r)
{
	return r->state == MEMX_R_LIVE || r->state == MEMX_R_SYNCING;
}

/* A donor that broke the protocol lately, or was too slow for others, gets a copy only where there is none yet and nobody else has room. */
static bool shunned(const struct core_donor *d)
{
	return d->shunned_until > d->core->now;
}

/* Wants memory back, or has just got it: it promised more than it gives, and what is left of a reservation is worth nothing. */
static bool full(const struct session *s, const struct core_donor *d)
{
	return d->asked || (d->reserved > d->total && memx_le64(d->last_stat.pages_used) + (1ULL << s->order) > d->total);
}

static bool eligible(const struct extent *x, const struct core_donor *d, const struct placement *p, u64 not, bool by_domain)
{
	const struct session *s = x->s;
	const struct sdonor *sd = &s->sd[d->index];
	u8 i;

	if (not & bit64(d->index) || !donor_takes(d) || sd->state != SD_READY || sd->full_until > s->core->now)
		return false;
	if (!reserved_left(s, d) && donor_free_pages(d) >> s->order == 0)
		return false;
	if (full(s, d) || (placement_find(p, d) < 0 && placement_names(p, d)))
		return false;
	for (i = 0; i < p->n; i++) {
		if (p->r[i].donor == d && (takes_copies(&p->r[i]) || p->r[i].instance != d->instance))
			return false;
		if (by_domain && takes_copies(&p->r[i]) && p->r[i].donor && replica_stays(x, &p->r[i]) &&
		    donor_same_domain(p->r[i].donor, d))
			return false;
	}
	return true;
}

static bool roomier(const struct session *s, const struct core_donor *a, const struct core_donor *b)
{
	u64 left_a = reserved_left(s, a), left_b = reserved_left(s, b);

	if (left_a != left_b)
		return left_a > left_b;
	return donor_free_pages(a) > donor_free_pages(b);
}

static struct core_donor *draw(const struct session *s, struct core_donor **from, u32 n)
{
	struct core_donor *a, *b;
	u64 dice;
	u32 i, k;

	if (n < 2)
		return n ? from[0] : NULL;
	dice = core_random(s->core);
	i = (u32)(dice % n);
	k = (u32)((dice >> 32) % (n - 1));
	a = from[i];
	b = from[k < i ? k : k + 1];
	return roomier(s, b, a) ? b : a;
}

/* May this very donor get a copy? By failure domain as well. */
bool place_allowed(const struct extent *x, const struct core_donor *d, const struct placement *p, u64 not)
{
	return eligible(x, d, p, not, true) && !shunned(d);
}

/* Is there a donor that would get a copy if it were not shunned? Then that is a matter of time, and not of room. */
bool place_shuns(const struct extent *x, const struct placement *p, u64 not)
{
	u32 i;

	for (i = 0; i < CORE_MAX_DONORS; i++) {
		const struct core_donor *d = x->s->core->donor[i];

		if (d && shunned(d) && eligible(x, d, p, not, false))
			return true;
	}
	return false;
}

struct core_donor *place_choose(struct extent *x, const struct placement *p, u64 not)
{
	struct session *s = x->s;
	struct core_donor *from[CORE_MAX_DONORS], *tight[CORE_MAX_DONORS];
	u64 unplaced = s->extents > s->placed ? s->extents - s->placed : 0;
	u32 i, n = 0, nt = 0;
	int pass, passes = placement_copies(x, p) ? 2 : 3;

	for (pass = 0; pass < passes && !n; pass++) {
		for (i = 0; i < CORE_MAX_DONORS; i++) {
			struct core_donor *d = s->core->donor[i];

			if (!d || !eligible(x, d, p, not, !pass) || (pass < 2 && shunned(d)))
				continue;
			from[n++] = d;
			if (!x->cur.generation && reserved_left(s, d) >= unplaced)
				tight[nt++] = d;
		}
	}
	return nt ? draw(s, tight, nt) : draw(s, from, n);
}
