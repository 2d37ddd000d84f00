/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memfd_store.h - the store of a real donor: memory behind a memfd, locked, given back by punching holes.
 */
#ifndef SRV_MEMFD_STORE_H
#define SRV_MEMFD_STORE_H

#include "core/store.h"

enum srv_want { SRV_NO, SRV_YES, SRV_TRY };

struct srv_memfd_options {
	u32 chunks;			/* to begin with */
	u32 max_chunks;			/* address space for so many, so that the limit can be raised at run time */
	enum srv_want lock, huge;
};

/* What came of the options, for the log. */
struct srv_memfd_facts {
	bool locked, huge;
	int lock_error;			/* errno that kept it from being locked, 0 */
};

/* NULL: errno, and a sentence in @err. */
struct srv_store *srv_memfd_store(const struct srv_memfd_options *options, struct srv_memfd_facts *facts,
				  char *err, size_t size);
/* Prepares for a limit of @chunks. 0, or -errno: it stays as it was. */
int srv_memfd_cover(struct srv_store *store, u32 chunks);

#endif /* SRV_MEMFD_STORE_H */
