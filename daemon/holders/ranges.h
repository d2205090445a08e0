/* SPDX-License-Identifier: MIT */
#pragma once

/* Which session owns which range of 16 records. The owners part of the segment says so across a
 * restart; while the daemon runs, its own copy counts, which no client can write to. */

#include "segment.h"

#define RANGE_NONE UINT32_MAX

struct ranges {
	struct segment *segment;
	uint32_t *next;  /* by range: the next one of the same owner, or of the free list */
	uint32_t *owner; /* by range: the session's index, or RANGE_NONE */
	uint32_t size;
	uint32_t free; /* the list's head */
	uint32_t granted;
	bool said_full;
};

int ranges_new(struct segment *s, struct ranges **ret);
void ranges_free(struct ranges *r); /* NULL is fine */

static inline uint32_t ranges_end(const struct ranges *r) {
	return r->size;
}

/* Whose a range is; RANGE_NONE: nobody's. */
static inline uint32_t ranges_owner(const struct ranges *r, uint32_t range) {
	return range < r->size ? r->owner[range] : RANGE_NONE;
}

/* At start: whose a range is according to the segment, which may be noise. -ENOMEM. */
int ranges_owner_found(struct ranges *r, uint32_t range, uint32_t *ret);
/* At start: the session's it is. */
void ranges_adopt(struct ranges *r, uint32_t range, uint32_t session, uint32_t *head);
/* At start: nobody's it is. Closes what was left open. */
int ranges_reclaim(struct ranges *r, uint32_t range);

/* Gives a free range to a session, its records open; none whose records have all used up their seqs.
 * -ENOSPC, -ENOMEM: none left. */
int ranges_grant(struct ranges *r, uint32_t session, uint32_t *head, uint32_t *ret);

/* Takes every range of a list back; their records must be closed. */
void ranges_take_back(struct ranges *r, uint32_t *head);

/* Writes an owner that isn't what was written in the segment once more; true if it wasn't. */
bool ranges_rewrite(struct ranges *r, uint32_t range);
