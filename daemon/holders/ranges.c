/* SPDX-License-Identifier: MIT */

/*
 * Hands ranges of records out to sessions and takes them back.
 *
 * To grant a range:
 *   G1 berthd writes the owner;
 *   G2 it opens each record: CLOSED → FREE;
 *   G3 it tells the client.
 * To take a range back, after sessions.c has closed every record:
 *   T1 berthd clears the owner.
 * If berthd dies between G1 and G3, the process doesn't know of the range. The range is taken back
 * when the session ends. If berthd dies before T1, the next berthd ends the session again.
 */

#include <string.h>

#include "array.h"
#include "counter.h"
#include "log.h"
#include "ranges.h"

struct range {
	uint32_t next;  /* the next range of the same owner, or of the free list */
	uint32_t owner; /* the index of a session, or RANGE_NONE */
};

struct ranges {
	struct segment *segment;
	struct range *range; /* by number */
	uint32_t size;
	uint32_t free; /* head of the free list */
	uint32_t granted;
	bool full_logged;
};

uint32_t ranges_end(const struct ranges *r) {
	return r->size;
}

uint32_t ranges_granted(const struct ranges *r) {
	return r->granted;
}

uint32_t ranges_owner(const struct ranges *r, uint32_t range) {
	return range < r->size ? r->range[range].owner : RANGE_NONE;
}

uint32_t ranges_next(const struct ranges *r, uint32_t range) {
	return r->range[range].next;
}

int ranges_read_owner(struct ranges *r, uint32_t range, uint32_t *ret) {
	_Atomic uint32_t *owner = map_owner(r->segment->map, range);
	uint32_t found;

	if (!owner)
		return -ENOMEM;
	found = load_relaxed(owner);
	*ret = found == 0 ? RANGE_NONE : found - 1;
	return 0;
}

static void owner_write(struct ranges *r, uint32_t range, uint32_t session) {
	_Atomic uint32_t *owner = map_owner(r->segment->map, range);

	r->range[range].owner = session;
	if (owner)
		store_release(owner, session == RANGE_NONE ? 0 : session + 1);
}

static void link_free(struct ranges *r, uint32_t range) {
	r->range[range].next = r->free;
	r->free = range;
}

void ranges_adopt(struct ranges *r, uint32_t range, uint32_t session, uint32_t *head) {
	r->range[range].owner = session;
	r->range[range].next = *head;
	*head = range;
	r->granted++;
}

/* Extends the array to the published size. Range 0 has record 0, which no session gets. */
static int ranges_extend(struct ranges *r, bool are_free) {
	uint32_t end = load_relaxed(&r->segment->names->slots) / BERTH_RANGE;
	uint32_t from = r->size;
	int e = array_extend(&r->range, &r->size, end);

	for (uint32_t i = end; e >= 0 && i-- > from;) {
		r->range[i] = (struct range){RANGE_NONE, RANGE_NONE};
		if (are_free && i > 0)
			link_free(r, i);
	}
	return e;
}

int ranges_new(struct segment *s, struct ranges **ret) {
	struct ranges *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->segment = s;
	r->free = RANGE_NONE;
	if (ranges_extend(r, false) < 0) {
		free(r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

void ranges_free(struct ranges *r) {
	if (!r)
		return;
	free(r->range);
	free(r);
}

/* If a record can't be closed, it may still have charged an account. Then the range isn't used
 * until the next start. */
int ranges_reclaim(struct ranges *r, uint32_t range) {
	bool all_closed = true;

	for (uint32_t i = 0; i < BERTH_RANGE; i++) {
		int e = counter_close(r->segment->map, range * BERTH_RANGE + i);

		if (e == -ENOMEM)
			return e;
		all_closed = all_closed && e >= 0;
	}
	if (all_closed) {
		owner_write(r, range, RANGE_NONE);
		link_free(r, range);
	}
	return 0;
}

static void log_full(struct ranges *r, int error) {
	uint32_t retired = 0;

	if (r->full_logged)
		return;
	r->full_logged = true;
	/* If `retired` isn't 0, the next start without sessions makes a new segment (segment.c). */
	for (uint32_t n = BERTH_RANGE; n < r->size * BERTH_RANGE; n++)
		retired += counter_is_retired(r->segment->map, n);
	store_relaxed(&r->segment->names->retired, retired);
	if (error != -ENOSPC)
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"No room for more slots (%s): the file system of the runtime directory "
			"is full; refusing further ones with NO_SYSTEM_RESOURCES (8). Make room "
			"there",
			strerror(-error));
	else if (retired > 0)
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"No slot is left: of %u, %u have used up their sequence numbers, and the "
			"others are handed out to servers; refusing further ones with "
			"NO_SYSTEM_RESOURCES (8). Restart berthd while no server uses it: it "
			"then makes a new segment, with a larger --max-slots if you raise it",
			r->segment->map->layout.max_slots, retired);
	else
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"All %u slots are handed out to servers, in ranges of %u; refusing further "
			"ones with NO_SYSTEM_RESOURCES (8). Raise --max-slots",
			r->segment->map->layout.max_slots, BERTH_RANGE);
}

/* Takes the first free range off the list; RANGE_NONE: there is none. Drops ranges whose records
 * are all retired. */
static uint32_t free_take(struct ranges *r) {
	while (r->free != RANGE_NONE) {
		uint32_t range = r->free;

		r->free = r->range[range].next;
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			if (!counter_is_retired(r->segment->map, range * BERTH_RANGE + i))
				return range;
	}
	return RANGE_NONE;
}

int ranges_grant(struct ranges *r, uint32_t session, uint32_t *head, uint32_t *ret) {
	uint32_t range = free_take(r);
	int e = 0;

	if (range == RANGE_NONE) {
		/* An earlier call may have published ranges for which the array had no memory. */
		e = ranges_extend(r, true);
		if (e >= 0 && r->free == RANGE_NONE)
			e = segment_grow_slots(r->segment);
		if (e >= 0)
			e = ranges_extend(r, true);
		if (e >= 0)
			range = free_take(r);
	}
	if (range == RANGE_NONE) {
		e = e < 0 ? e : -ENOSPC;
		log_full(r, e);
		return e;
	}
	owner_write(r, range, session);              /* G1 */
	for (uint32_t i = 0; i < BERTH_RANGE; i++) { /* G2 */
		e = counter_open(r->segment->map, range * BERTH_RANGE + i);
		/* -EBUSY: the record isn't CLOSED, so it is damaged. It is closed when the session
		 * ends. */
		if (e < 0 && e != -EBUSY)
			log_warning(
				"Can't open record %u: %s", range * BERTH_RANGE + i, strerror(-e));
	}
	ranges_adopt(r, range, session, head);
	*ret = range;
	return 0;
}

void ranges_take_back(struct ranges *r, uint32_t *head) {
	while (*head != RANGE_NONE) {
		uint32_t range = *head;

		*head = r->range[range].next;
		owner_write(r, range, RANGE_NONE); /* T1 */
		link_free(r, range);
		r->granted--;
		r->full_logged = false;
	}
}

bool ranges_rewrite(struct ranges *r, uint32_t range) {
	uint32_t found;

	if (ranges_read_owner(r, range, &found) < 0 || found == ranges_owner(r, range))
		return false;
	owner_write(r, range, ranges_owner(r, range));
	return true;
}
