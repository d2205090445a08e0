/* SPDX-License-Identifier: MIT */
#pragma once

/* Which session owns which range of 16 records. berthd relies on its own memory, to which clients
 * can't write. For the next berthd, it also writes the owners to the segment. */

#include "segment.h"

#define RANGE_NONE UINT32_MAX

struct ranges;

int ranges_new(struct segment *s, struct ranges **ret);
void ranges_free(struct ranges *r); /* NULL is fine */

/* Returns a number above the numbers of all ranges. Ranges are numbered from 1. */
uint32_t ranges_end(const struct ranges *r);
/* How many ranges sessions own. */
uint32_t ranges_granted(const struct ranges *r);

/* The index of the session that owns a range; RANGE_NONE: no session does. */
uint32_t ranges_owner(const struct ranges *r, uint32_t range);

/* The range after this one in its session's list. RANGE_NONE: the list ends. */
uint32_t ranges_next(const struct ranges *r, uint32_t range);

/* Gives a free range to a session, and opens the records of the range. -ENOSPC: all ranges are
 * granted; -ENOMEM: there is no memory for more ranges. */
int ranges_grant(struct ranges *r, uint32_t session, uint32_t *head, uint32_t *ret);

/* Takes all ranges of a list back. The caller has closed their records. */
void ranges_take_back(struct ranges *r, uint32_t *head);

/* If a client wrote over the range's owner in the segment, corrects it, and returns true. */
bool ranges_rewrite(struct ranges *r, uint32_t range);

/* -- at start ---------------------------------------------------------------------------------- */

/* Reads the owner from the segment; this value may be damaged. -ENOMEM. */
int ranges_read_owner(struct ranges *r, uint32_t range, uint32_t *ret);
/* Adds a range, which belongs to this session, to the session's list. */
void ranges_adopt(struct ranges *r, uint32_t range, uint32_t session, uint32_t *head);
/* Closes the records of a range that belongs to no session, and makes the range free. */
int ranges_reclaim(struct ranges *r, uint32_t range);
