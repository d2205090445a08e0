/* SPDX-License-Identifier: MIT */
#pragma once

/* Which session owns which range of 16 records. berthd relies on its own memory, to which
 * clients can't write. The owners part of the segment is for the next berthd. */

#include "segment.h"

#define RANGE_NONE UINT32_MAX

struct ranges;

int ranges_new(struct segment *s, struct ranges **ret);
void ranges_free(struct ranges *r); /* NULL is fine */

/* Ranges have numbers from 1, below this one. */
uint32_t ranges_end(const struct ranges *r);
/* How many ranges sessions own. */
uint32_t ranges_granted(const struct ranges *r);

/* The index of the session that owns a range; RANGE_NONE: no session does. */
uint32_t ranges_owner(const struct ranges *r, uint32_t range);

/* The ranges of a session are a list, whose head the session has. RANGE_NONE: the list ends. */
uint32_t ranges_next(const struct ranges *r, uint32_t range);

/* Gives a free range to a session, with its records open. -ENOSPC, -ENOMEM: there is no free
 * range. */
int ranges_grant(struct ranges *r, uint32_t session, uint32_t *head, uint32_t *ret);

/* Takes all ranges of a list back. The caller has closed their records. */
void ranges_take_back(struct ranges *r, uint32_t *head);

/* Writes the owner into the segment again if a client wrote over it; true if so. */
bool ranges_rewrite(struct ranges *r, uint32_t range);

/* -- at start ---------------------------------------------------------------------------------- */

/* The owner that the segment names; this value may be damaged. -ENOMEM. */
int ranges_read_owner(struct ranges *r, uint32_t range, uint32_t *ret);
/* The range belongs to this session. */
void ranges_adopt(struct ranges *r, uint32_t range, uint32_t session, uint32_t *head);
/* The range belongs to no session: closes its records, and makes it free. */
int ranges_reclaim(struct ranges *r, uint32_t range);
