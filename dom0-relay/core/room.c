// SPDX-License-Identifier: GPL-2.0-only
/*
 * room.c - what admission must leave free at the donors, so that copies can be rebuilt: for those that are missing now, and for
 * those that would be if the largest failure domain failed. admit.c does the arithmetic.
 */
#include "internal.h"

/* Most copies that any session has, and what of a donor's reservations has no other copy to be rebuilt from. */
u8 room_most_copies(const struct session *s)
{
	const struct list *pos;
	u8 most = s->replicas;

	list_for_each(pos, &s->core->sessions) {
		const struct session *other = list_entry(pos, struct session, in_core);

		if (other->state == SESSION_ATTACHED && other->replicas > most)
			most = other->replicas;
	}
	return most;
}

u64 room_single(const struct session *s, u32 index)
{
	const struct list *pos;
	u64 pages = 0;

	list_for_each(pos, &s->core->sessions) {
		const struct session *other = list_entry(pos, struct session, in_core);

		if (other != s && other->state == SESSION_ATTACHED && other->replicas == 1)
			pages += other->sd[index].reserved;
	}
	return pages;
}

/*
 * Will the next record leave it out? Until its guest acknowledges that one, and while others have their turn first, the record in
 * effect names it yet.
 */
static bool to_be_left_out(const struct session *s, const struct replica *r)
{
	return replica_gone(r) || !r->donor || r->donor->dead || s->sd[r->donor->index].state == SD_REFUSED;
}

static unsigned int copies_there(const struct extent *x)
{
	const struct placement *p = x->next.n ? &x->next : &x->cur;
	unsigned int i, n = 0;

	for (i = 0; i < p->n; i++)
		n += replica_takes_writes(&p->r[i]) && replica_stays(x, &p->r[i]) && !to_be_left_out(x->s, &p->r[i]);
	return n;
}

/* Pages of the copies that repair has to find room for yet. */
static u64 missing_pages(const struct session *s)
{
	u64 pages = 0;
	u32 i;

	for (i = 0; s->extent && i < s->extents; i++) {
		const struct extent *x = &s->extent[i];
		unsigned int copies = copies_there(x) + (x->shift != 0);

		if (x->cur.generation && copies < s->replicas)
			pages += (u64)(s->replicas - copies) << s->order;
	}
	return pages;
}

/* What repair of the others has before it: its room is not to be given away. */
u64 room_owed(const struct session *s)
{
	const struct list *pos;
	u64 pages = 0;

	list_for_each(pos, &s->core->sessions) {
		const struct session *other = list_entry(pos, struct session, in_core);

		if (other != s && other->state == SESSION_ATTACHED)
			pages += missing_pages(other);
	}
	return pages;
}
