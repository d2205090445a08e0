/* SPDX-License-Identifier: MIT */

/*
 * Compares every count with the records that make it up, and repairs what differs, while servers go
 * on acquiring and releasing.
 *
 * Invariant (counter.c): a cell's count is the sum of the weights of the records that have charged
 * it. To look at a moment of that, without stopping anybody:
 *   1 every cell's tag is read   2 every record   3 every cell's tag and count.
 * A cell whose tag is the same at 1 and 3 was neither charged nor uncharged in between, since each
 * of these writes another tag, and no tag comes again, however many steps lie in between; so what the
 * records said at 2, read together with that tag, is what has charged it. If that isn't its count, the
 * compare-and-swap from this very pair makes it the sum. A cell that has changed is left undecided until
 * the next time; where everything is small enough to be read within microseconds, it is tried again at
 * once.
 *
 * Before 2, each record that no code of ours could have left so is made free, or closed if no session
 * owns it; a release that was begun and not ended is finished, since its thread may be stopped; and the
 * tables of sessions and owners are written again from the daemon's own memory.
 * What is believed is the directory, which clients can't write to, and that memory.
 *
 * Death at any point leaves what was repaired; the next daemon recounts soon after its start.
 */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "counter.h"
#include "clock.h"
#include "log.h"
#include "recount.h"
#include "loop.h"

/* How many cells or records one turn of the event loop reads: about a millisecond. */
#define TURN 65536u
/* How often what is small is read again while cells change under the eyes. */
#define ATTEMPTS 16
/* A recount is followed by a pause of so many times its length; of fewer when it found something. */
#define PAUSE       100
#define PAUSE_FOUND 10
/* Accounts that the log names. */
#define NAMED 4

enum phase {
	READ_CELLS,  /* 1 */
	ADD_RECORDS, /* 2 */
	COMPARE,     /* 3 */
};

/* What was found wrong, for the log. */
struct findings {
	uint32_t cells, records, entries, releases;
	char names[NAMED * 80];
};

struct recount {
	sd_event *event;
	struct accounts *accounts;
	struct sessions *sessions;
	struct map *map;
	sd_event_source *timer, *turn;
	bool wanted; /* again, once this one is done */
	bool running;
	uint64_t may_begin; /* CLOCK_MONOTONIC, µs */
	uint64_t spent;     /* by this one, µs */
	enum phase phase;
	uint32_t at;
	uint32_t accounts_end, records_end;
	uint64_t *tag; /* by account: as read at 1 */
	uint32_t *sum; /* by account */
	uint32_t undecided;
	bool blind; /* a record couldn't be read */
	struct findings found;
};

/* -- records ------------------------------------------------------------------------------------ */

/* Whether the record may stand there: no count rests on a name that is gone, or on a path of another
 * length. One that rests may, since it is placed anew before it is used. */
static bool place_is_sound(struct recount *r, struct snapshot s) {
	uint32_t account = place_account(s.place), depth;

	if (place_weight(s.place) == 0 || !map_has_account(r->map, account) ||
		seq_charged(s.seq) > place_top(s.place) + 1)
		return false;
	if (seq_charged(s.seq) == 0)
		return true;
	if (!(entry_flags(directory_word(r->accounts->directory, account)) & ENTRY_LIVE))
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
		/* CLOSED, too: its session is open. */
		return false;
	}
}

/* A release that another look still finds where the first one did: its thread is stopped, or slow. */
static void release_finish(struct recount *r, uint32_t number, struct snapshot seen) {
	struct snapshot now;

	if (counter_record(r->map, number, &now) == 0 && now.place == seen.place &&
		now.seq == seen.seq)
		r->found.releases += counter_finish(r->map, number) >= 0;
}

/* A record of an open session. What the daemon has begun is finished within its turn, so SEIZED is
 * noise that looks well, or an owner's that lacks memory. */
static void record_mend(struct recount *r, uint32_t number, struct snapshot s) {
	if (place_state(s.place) == RECORD_CLOSED)
		r->found.records += counter_open(r->map, number) == 0;
	else if (!record_is_sound(r, s))
		r->found.records += counter_discard(r->map, number, s) == 0;
	else if (place_state(s.place) == RECORD_SEIZED)
		(void)counter_settle(r->map, number);
	else if (seq_goes_down(s.seq))
		release_finish(r, number, s);
}

/* Adds what the record has charged, level by level. */
static void record_add(struct recount *r, uint32_t number, struct snapshot s) {
	uint32_t account = place_account(s.place), top = place_top(s.place);

	if (place_state(s.place) != RECORD_PLACED && place_state(s.place) != RECORD_SEIZED)
		return;
	for (uint32_t k = 0; k <= top && account != 0; k++) {
		/* One made since isn't compared, but it stands below others that are. */
		if (account < r->accounts_end && counter_has_charged(s, number, k, r->tag[account]))
			r->sum[account] =
				MIN_OF(r->sum[account] + place_weight(s.place), BERTH_COUNT_MAX);
		account = directory_parent(r->accounts->directory, account);
	}
}

/* Without memory to see a record, nothing can be said of any cell. */
static void record_read(struct recount *r, uint32_t number, bool is_owned, bool is_open) {
	struct snapshot s;
	int e = counter_record(r->map, number, &s);

	if (e == 0 && !is_owned && place_state(s.place) != RECORD_CLOSED) {
		r->found.records++;
		(void)counter_close(r->map, number);
	} else if (e == 0 && is_open) {
		record_mend(r, number, s);
	}
	e = counter_record(r->map, number, &s);
	if (e == 0)
		record_add(r, number, s);
	r->blind = r->blind || e < 0;
}

static void range_read(struct recount *r, uint32_t range) {
	bool is_owned = ranges_owner(r->sessions->ranges, range) != RANGE_NONE;
	const struct session *s = sessions_owner(r->sessions, range * BERTH_RANGE);

	r->found.entries += ranges_rewrite(r->sessions->ranges, range);
	for (uint32_t n = range * BERTH_RANGE; n < (range + 1) * BERTH_RANGE; n++)
		record_read(r, n, is_owned, s && s->state == SESSION_OPEN);
}

/* -- counts ------------------------------------------------------------------------------------- */

static void name_note(struct recount *r, uint32_t account, uint32_t was) {
	size_t used = strlen(r->found.names);
	char name[256], text[80];

	if (r->found.cells >= NAMED || directory_name(r->map, account, name) < 0)
		return;
	(void)snprintf(text, sizeof(text), "%s'%.32s' counted %u instead of %u",
		used > 0 ? ", " : "", name, was, r->sum[account]);
	(void)snprintf(r->found.names + used, sizeof(r->found.names) - used, "%s", text);
}

/* What stands beside the count is as it was at the last checkpoint, unless that has kept noise. */
static void cell_restore(struct recount *r, uint32_t account) {
	const struct account *kept = &r->accounts->directory->account[account];
	struct cell *cell = map_cell(r->map, account);
	_Atomic uint8_t *dirty = map_dirty(r->map, account);
	bool known = kept->saved_count != UINT32_MAX && kept->saved_peak <= BERTH_COUNT_MAX;

	store_relaxed(&cell->peak, MAX_OF(known ? kept->saved_peak : 0, r->sum[account]));
	store_relaxed(&cell->denied, known ? kept->saved_denied : 0);
	store_relaxed(&cell->waiting, 0);
	/* A checkpoint may have stored what was wrong. */
	if (dirty)
		store_total(dirty, 1);
}

/* A count that isn't the sum, or a cell that can't be bumped any more. */
static bool cell_is_sound(const struct recount *r, uint32_t account, struct pair now) {
	return count_of(now.first) == r->sum[account] && count_bumps(now.first) < BERTH_BUMPS_LAST;
}

static void cell_compare(struct recount *r, uint32_t account) {
	struct cell *cell = map_cell(r->map, account);
	struct pair now = cell ? cell_load(cell) : (struct pair){0};

	if (!cell || cell_is_sound(r, account, now)) {
		if (cell && load_relaxed(&cell->peak) > BERTH_COUNT_MAX)
			cell_restore(r, account);
		return;
	}
	if (r->blind || now.second != r->tag[account] ||
		counter_repair(r->map, account, now, r->sum[account]) < 0) {
		r->undecided++;
		return;
	}
	/* Its bumps were used up, and nothing else was wrong. */
	if (count_of(now.first) == r->sum[account] && load_relaxed(&cell->peak) <= BERTH_COUNT_MAX)
		return;
	name_note(r, account, count_of(now.first));
	r->found.cells++;
	cell_restore(r, account);
}

/* -- turns -------------------------------------------------------------------------------------- */

/* A record that stands on no path, or nowhere that it could, has noted all its steps (counter.c, V3). If a
 * tag tells of a newer one, the record was written over: it mustn't make those steps again. */
static void tag_keep(struct recount *r, uint64_t tag) {
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

static void cells_read(struct recount *r, uint32_t end) {
	for (; r->at < end; r->at++) {
		struct cell *cell = map_cell(r->map, r->at);

		r->tag[r->at] = cell ? load_acquire(&cell->tag) : 0;
		tag_keep(r, r->tag[r->at]);
	}
}

static void records_read(struct recount *r, uint32_t end) {
	for (; r->at < end; r->at += BERTH_RANGE)
		range_read(r, r->at / BERTH_RANGE);
}

static void cells_compare(struct recount *r, uint32_t end) {
	for (r->at = MAX_OF(r->at, 1u); r->at < end; r->at++)
		cell_compare(r, r->at);
}

/* As far as one turn goes; true when all three are through. */
static bool phase_advance(struct recount *r) {
	uint32_t all = r->phase == ADD_RECORDS ? r->records_end : r->accounts_end;
	uint32_t end = MIN_OF(r->at + TURN, all);

	if (r->phase == READ_CELLS)
		cells_read(r, end);
	else if (r->phase == ADD_RECORDS)
		records_read(r, end);
	else
		cells_compare(r, end);
	if (r->at < all)
		return false;
	r->at = 0;
	r->phase++;
	/* Not before every word is read: what is granted later can be charged only after that. */
	r->records_end = ranges_end(r->sessions->ranges) * BERTH_RANGE;
	return r->phase > COMPARE;
}

static void attempt_begin(struct recount *r) {
	r->phase = READ_CELLS;
	r->at = 0;
	r->undecided = 0;
	r->blind = false;
	memset(r->sum, 0, r->accounts_end * sizeof(*r->sum));
}

static bool is_small(const struct recount *r) {
	return r->accounts_end + ranges_end(r->sessions->ranges) * BERTH_RANGE <= TURN;
}

/* One turn; true when nothing is left to be done. */
static bool turn_take(struct recount *r) {
	if (!is_small(r))
		return phase_advance(r);
	for (int i = 0; i < ATTEMPTS; i++) {
		while (!phase_advance(r))
			;
		if (r->undecided == 0)
			break;
		attempt_begin(r);
	}
	return true;
}

static bool found_anything(const struct findings *f) {
	return f->cells + f->records + f->entries > 0;
}

static void findings_say(struct recount *r) {
	const struct findings *f = &r->found;
	char text[32];
	const char *const fields[] = {text, NULL};

	if (f->releases > 0)
		log_info("Finished %u releases that servers had begun; their threads were stopped, "
			 "or slow",
			f->releases);
	if (!found_anything(f))
		return;
	(void)snprintf(text, sizeof(text), "REPAIRED=%u", f->cells);
	log_event(LOG_WARNING, EVENT_REPAIRED, fields,
		"Shared counts differed from what the slots prove, and were repaired: the counts "
		"of "
		"%u accounts%s%s%s, %u slots, %u entries of the session table. Limits are not "
		"concerned. If this comes back, please report it, with this line",
		f->cells, f->names[0] ? " (" : "", f->names, f->names[0] ? ")" : "", f->records,
		f->entries);
}

static void recount_end(struct recount *r) {
	uint64_t pause = r->spent * (found_anything(&r->found) ? PAUSE_FOUND : PAUSE);

	findings_say(r);
	free(r->tag);
	free(r->sum);
	r->tag = NULL;
	r->sum = NULL;
	r->running = false;
	r->may_begin = clock_monotonic_usec() + pause;
	if (r->wanted)
		recount_want(r);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *data) {
	struct recount *r = data;
	uint64_t begun = clock_monotonic_usec();
	bool done = turn_take(r);

	(void)usec;
	r->spent += clock_monotonic_usec() - begun;
	if (!done)
		return slice_request(source);
	recount_end(r);
	return 0;
}

/* Without memory for it, the next one it is. */
static void recount_begin(struct recount *r) {
	/* More may be published than there was memory to follow; those bear no names. */
	r->accounts_end = r->accounts->directory->account_size;
	r->tag = calloc(r->accounts_end, sizeof(*r->tag));
	r->sum = calloc(r->accounts_end, sizeof(*r->sum));
	if (!r->tag || !r->sum) {
		free(r->tag);
		free(r->sum);
		r->tag = NULL;
		r->sum = NULL;
		return;
	}
	r->running = true;
	r->spent = 0;
	r->found = (struct findings){.entries = sessions_rewrite(r->sessions)};
	attempt_begin(r);
	(void)slice_request(r->turn);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data) {
	struct recount *r = data;

	(void)source, (void)usec;
	recount_want(r);
	return 0;
}

bool recount_runs(const struct recount *r) {
	return r->running;
}

void recount_want(struct recount *r) {
	r->wanted = r->running;
	if (r->running)
		return;
	if (clock_monotonic_usec() >= r->may_begin) {
		recount_begin(r);
		return;
	}
	(void)sd_event_source_set_time(r->timer, r->may_begin);
	(void)sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT);
}

/* -- begin and end ------------------------------------------------------------------------------ */

int recount_new(sd_event *event, struct accounts *accounts, struct sessions *sessions,
	struct recount **ret) {
	struct recount *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->event = event;
	r->accounts = accounts;
	r->sessions = sessions;
	r->map = accounts->directory->map;
	e = sd_event_add_time(event, &r->timer, CLOCK_MONOTONIC, 0, 0, on_timer, r);
	if (e >= 0)
		e = sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
	if (e >= 0)
		e = slice_new(event, on_turn, r, &r->turn);
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
	(void)sd_event_source_disable_unref(r->turn);
	free(r->tag);
	free(r->sum);
	free(r);
}
