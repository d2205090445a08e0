/* SPDX-License-Identifier: MIT */

/*
 * Compares every count with the records that make it up, and repairs counts that differ, while
 * servers keep acquiring and releasing slots.
 *
 * Invariant (counter.c): the count of a cell is the sum of the weights of the records that have
 * charged it. To read all of them as if at one moment, without stopping any process, berthd reads
 *   1 the tag of every cell   2 every record   3 the tag and the count of every cell.
 * Each charge and discharge writes another tag into the cell, and no tag is ever used twice. So if
 * the tag of a cell is the same at 1 and 3, the cell was neither charged nor discharged in between.
 * The records as read at 2, together with that tag, then tell which of them have charged the cell.
 * If the cell's count isn't the sum of their weights, one compare-and-swap of tag and count sets
 * the count to the sum. A cell whose tag has changed is left to the next recount. But if the tables
 * are so small that one time slice reads all of them, 1 to 3 are repeated at once.
 *
 * During 2, berthd closes records that no session owns, and makes damaged records of sessions free.
 * It finishes each release that has begun, since the thread that began it may be stopped. It
 * corrects the table of owners from its own memory. Before 1 it corrects the table of sessions in
 * the same way. berthd relies on that memory and on the directory, which clients can't write to.
 *
 * If berthd dies at any point, the repairs that it has made stay, and the next berthd recounts soon
 * after its start.
 */

#include <stdio.h>
#include <string.h>

#include "counter.h"
#include "clock.h"
#include "util.h"
#include "log.h"
#include "recount.h"
#include "loop.h"

/* How many cells or records one time slice reads. This takes about a millisecond. */
#define SLICE 65536u
/* How many times a recount of small tables makes 1 to 3 at most, if cells keep changing. */
#define ATTEMPTS 16
/* The pause after a recount is PAUSE times as long as the recount. If the recount repaired
 * anything, the pause is PAUSE_FOUND times as long. */
#define PAUSE       100
#define PAUSE_FOUND 10
/* How many accounts the log names. */
#define NAMED 4

enum phase {
	READ_CELLS,  /* 1 */
	ADD_RECORDS, /* 2 */
	COMPARE,     /* 3 */
};

/* How much was repaired, for the log. */
struct findings {
	uint32_t cells, records, entries, releases;
	char names[NAMED * 80];
};

struct recount {
	struct directory *directory;
	struct sessions *sessions;
	struct map *map;
	sd_event_source *timer, *slice;
	bool running;
	bool requested;     /* another recount begins after the running one */
	uint64_t may_begin; /* CLOCK_MONOTONIC, µs */
	uint64_t spent;     /* µs, by the running recount */
	enum phase phase;
	uint32_t at;
	uint32_t accounts_end, records_end;
	uint64_t *tag;      /* by account: as read at 1 */
	uint32_t *sum;      /* by account */
	uint32_t undecided; /* cells that differ, and have changed or couldn't be repaired */
	bool is_blind;      /* a record couldn't be read, so no sum can be trusted */
	struct findings found;
};

/* -- records ----------------------------------------------------------------------------------- */

/* True if the record's place is possible. If the record has charged levels, its place must be a
 * LIVE account whose path is as long as the record says. The place of a record that has charged
 * nothing needs no such account, since the record is placed anew before it is used. */
static bool place_is_sound(struct recount *r, struct snapshot s) {
	uint32_t account = place_account(s.place), depth;

	if (place_weight(s.place) == 0 || !map_has_account(r->map, account) ||
		seq_charged(s.seq) > place_top(s.place) + 1)
		return false;
	if (seq_charged(s.seq) == 0)
		return true;
	if (!(entry_flags(directory_word(r->directory, account)) & ENTRY_LIVE))
		return false;
	return directory_depth(r->map, account, &depth) == 0 && place_top(s.place) + 1 == depth;
}

static bool record_is_sound(struct recount *r, struct snapshot s) {
	if (s.seq > BERTH_SEQ_MASK)
		return false;
	switch (place_state(s.place)) {
	case RECORD_FREE:
		return seq_step(s.seq) == 0;
	case RECORD_PLACED:
	case RECORD_SEIZED:
		return place_is_sound(r, s);
	default:
		/* The session is open, so its records aren't CLOSED. */
		return false;
	}
}

/* Mends a record of an open session. A revocation may make a record SEIZED, but berthd completes
 * the revocation before it handles another event. So if a record is SEIZED here, it is damaged, or
 * its owner ran out of memory and left the release to berthd. */
static void record_mend(struct recount *r, uint32_t number, struct snapshot s) {
	struct snapshot now;

	if (place_state(s.place) == RECORD_CLOSED)
		r->found.records += counter_open(r->map, number) == 0;
	else if (!record_is_sound(r, s))
		r->found.records += counter_discard(r->map, number, s) == 0;
	else if (place_state(s.place) == RECORD_SEIZED)
		(void)counter_finish_seized(r->map, number);
	/* If the release is still at the same step, the thread that began it is stopped, or
	 * slow. */
	else if (seq_goes_down(s.seq) && counter_record(r->map, number, &now) == 0 &&
		 now.place == s.place && now.seq == s.seq)
		r->found.releases += counter_finish(r->map, number) >= 0;
}

/* Adds the weight of the record to the sum of each account that it has charged. */
static void record_add(struct recount *r, uint32_t number, struct snapshot s) {
	uint32_t account = place_account(s.place), top = place_top(s.place);

	if (place_state(s.place) != RECORD_PLACED && place_state(s.place) != RECORD_SEIZED)
		return;
	for (uint32_t k = 0; k <= top && account != 0; k++) {
		/* An account that was created after 1 isn't compared at 3, but its ancestors
		 * are. */
		if (account < r->accounts_end && counter_has_charged(s, number, k, r->tag[account]))
			r->sum[account] =
				MIN_OF(r->sum[account] + place_weight(s.place), BERTH_COUNT_MAX);
		account = directory_parent(r->directory, account);
	}
}

static void range_read(struct recount *r, uint32_t range) {
	struct ranges *ranges = sessions_ranges(r->sessions);
	bool is_owned = ranges_owner(ranges, range) != RANGE_NONE;
	const struct session *owner = sessions_owner(r->sessions, range * BERTH_RANGE);
	bool is_open = owner && session_is_open(owner);

	r->found.entries += ranges_rewrite(ranges, range);
	for (uint32_t n = range * BERTH_RANGE; n < (range + 1) * BERTH_RANGE; n++) {
		struct snapshot s;
		int e = counter_record(r->map, n, &s);

		if (e == 0 && !is_owned && place_state(s.place) != RECORD_CLOSED) {
			r->found.records++;
			(void)counter_close(r->map, n);
		} else if (e == 0 && is_open) {
			record_mend(r, n, s);
		}
		e = counter_record(r->map, n, &s);
		if (e == 0)
			record_add(r, n, s);
		r->is_blind = r->is_blind || e < 0;
	}
}

/* -- counts ------------------------------------------------------------------------------------ */

/* Sets peak and denials to the stored numbers; if these aren't usable, sets the peak to the sum,
 * and the denials to 0. */
static void cell_restore(struct recount *r, uint32_t account) {
	const struct account *kept = directory_account(r->directory, account);
	struct cell *cell = map_cell(r->map, account);
	_Atomic uint8_t *dirty = map_dirty(r->map, account);
	bool known = kept->saved_count != UINT32_MAX && kept->saved_peak <= BERTH_COUNT_MAX;

	store_relaxed(&cell->peak, MAX_OF(known ? kept->saved_peak : 0, r->sum[account]));
	store_relaxed(&cell->denied, known ? kept->saved_denied : 0);
	store_relaxed(&cell->waiting, 0);
	/* A checkpoint may have stored the wrong count, so the next one has to correct it. */
	if (dirty)
		store_total(dirty, 1);
}

static void cell_compare(struct recount *r, uint32_t account) {
	struct cell *cell = map_cell(r->map, account);
	char name[BERTH_NAME_MAX + 1];
	struct pair now;
	bool is_right;

	if (!cell)
		return;
	now = cell_load(cell);
	is_right = count_of(now.first) == r->sum[account];
	if (is_right && count_bumps(now.first) < BERTH_BUMPS_LAST) {
		if (load_relaxed(&cell->peak) > BERTH_COUNT_MAX)
			cell_restore(r, account);
		return;
	}
	if (r->is_blind || now.second != r->tag[account] ||
		counter_repair(r->map, account, now, r->sum[account]) < 0) {
		r->undecided++;
		return;
	}
	/* If the cell had only used up its bumps, no number was wrong. */
	if (is_right && load_relaxed(&cell->peak) <= BERTH_COUNT_MAX)
		return;
	if (r->found.cells++ < NAMED && directory_name(r->map, account, name) >= 0) {
		size_t used = strlen(r->found.names);
		char text[80];

		(void)snprintf(text, sizeof(text), "%s'%.32s' counted %u instead of %u",
			used > 0 ? ", " : "", name, count_of(now.first), r->sum[account]);
		(void)snprintf(r->found.names + used, sizeof(r->found.names) - used, "%s", text);
	}
	cell_restore(r, account);
}

/* -- time slices ------------------------------------------------------------------------------- */

/* A record that isn't on a path has noted all its steps (counter.c, V3). If a tag has a newer step
 * of such a record, or of a record with an impossible place, a client wrote over the record. The
 * step is noted, so that the record doesn't use this seq again. */
static void tag_note(struct recount *r, uint64_t tag) {
	const struct record *record = map_record(r->map, tag_record(tag));
	struct snapshot s;

	if (!record)
		return;
	s.seq = load_acquire(&record->noted);
	if (s.seq >= tag_seq(tag) && s.seq <= BERTH_SEQ_MASK)
		return;
	s.place = load_acquire(&record->place);
	if (s.seq <= BERTH_SEQ_MASK &&
		(place_state(s.place) == RECORD_PLACED || place_state(s.place) == RECORD_SEIZED) &&
		place_is_sound(r, s))
		return;
	(void)counter_note(r->map, tag);
}

/* Does one time slice of the present phase. True after the last phase. */
static bool phase_advance(struct recount *r) {
	uint32_t all = r->phase == ADD_RECORDS ? r->records_end : r->accounts_end;
	uint32_t end = MIN_OF(r->at + SLICE, all);

	switch (r->phase) {
	case READ_CELLS:
		for (; r->at < end; r->at++) {
			struct cell *cell = map_cell(r->map, r->at);

			r->tag[r->at] = cell ? load_acquire(&cell->tag) : 0;
			tag_note(r, r->tag[r->at]);
		}
		break;
	case ADD_RECORDS:
		for (; r->at < end; r->at += BERTH_RANGE)
			range_read(r, r->at / BERTH_RANGE);
		break;
	case COMPARE:
		for (r->at = MAX_OF(r->at, 1u); r->at < end; r->at++)
			cell_compare(r, r->at);
		break;
	}
	if (r->at < all)
		return false;
	r->at = 0;
	r->phase++;
	/* The number of records is read after the tags. If a range is granted later, its records
	 * charge a cell only after the cell's tag was read, so the tag changes. */
	r->records_end = ranges_end(sessions_ranges(r->sessions)) * BERTH_RANGE;
	return r->phase > COMPARE;
}

static void attempt_begin(struct recount *r) {
	r->phase = READ_CELLS;
	r->at = 0;
	r->undecided = 0;
	r->is_blind = false;
	memset(r->sum, 0, r->accounts_end * sizeof(*r->sum));
}

static void arrays_free(struct recount *r) {
	free(r->tag);
	free(r->sum);
	r->tag = NULL;
	r->sum = NULL;
}

static void recount_end(struct recount *r) {
	const struct findings *f = &r->found;
	bool repaired = f->cells + f->records + f->entries > 0;
	uint64_t pause = r->spent * (repaired ? PAUSE_FOUND : PAUSE);
	char text[32];
	const char *const fields[] = {text, NULL};

	if (f->releases > 0)
		log_info("Finished %u releases that servers had begun; their threads are stopped, "
			 "or slow",
			f->releases);
	if (repaired) {
		(void)snprintf(text, sizeof(text), "REPAIRED=%u", f->cells);
		log_event(LOG_WARNING, EVENT_REPAIRED, fields,
			"Shared counts differed from the held slots, and were repaired: the "
			"counts of %u accounts%s%s%s, %u slots, %u entries of the session table. "
			"Limits are not affected. If this happens again, please report it with "
			"this line",
			f->cells, f->names[0] ? " (" : "", f->names, f->names[0] ? ")" : "",
			f->records, f->entries);
	}
	arrays_free(r);
	r->running = false;
	r->may_begin = clock_monotonic_usec() + pause;
	if (r->requested)
		recount_request(r);
}

static int on_slice(sd_event_source *source, uint64_t usec, void *data) {
	struct recount *r = data;
	uint64_t begun = clock_monotonic_usec();
	uint32_t records_end = ranges_end(sessions_ranges(r->sessions)) * BERTH_RANGE;
	bool done = true;

	(void)usec;
	if (r->accounts_end + records_end > SLICE)
		done = phase_advance(r);
	else
		for (int i = 0; i < ATTEMPTS; i++) {
			while (!phase_advance(r))
				;
			if (r->undecided == 0)
				break;
			attempt_begin(r);
		}
	r->spent += clock_monotonic_usec() - begun;
	if (!done)
		return slice_request(source);
	recount_end(r);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data) {
	struct recount *r = data;

	(void)source, (void)usec;
	recount_request(r);
	return 0;
}

bool recount_is_running(const struct recount *r) {
	return r->running;
}

void recount_request(struct recount *r) {
	uint64_t now = clock_monotonic_usec();

	r->requested = r->running;
	if (r->running)
		return;
	if (now < r->may_begin) {
		timer_set(r->timer, r->may_begin - now);
		return;
	}
	r->accounts_end = directory_accounts_end(r->directory);
	r->tag = calloc(r->accounts_end, sizeof(*r->tag));
	r->sum = calloc(r->accounts_end, sizeof(*r->sum));
	if (!r->tag || !r->sum) {
		/* Without memory, this recount is left out. */
		arrays_free(r);
		return;
	}
	r->running = true;
	r->spent = 0;
	r->found = (struct findings){.entries = sessions_rewrite(r->sessions)};
	attempt_begin(r);
	(void)slice_request(r->slice);
}

/* -- begin and end ----------------------------------------------------------------------------- */

int recount_new(sd_event *event, struct directory *directory, struct sessions *sessions,
	struct recount **ret) {
	struct recount *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->directory = directory;
	r->sessions = sessions;
	r->map = directory_map(directory);
	e = timer_new(event, on_timer, r, &r->timer);
	if (e >= 0)
		e = slice_new(event, on_slice, r, &r->slice);
	if (e < 0) {
		recount_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

void recount_free(struct recount *r) {
	if (!r)
		return;
	(void)sd_event_source_disable_unref(r->timer);
	(void)sd_event_source_disable_unref(r->slice);
	arrays_free(r);
	free(r);
}
