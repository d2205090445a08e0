/* SPDX-License-Identifier: MIT */

/*
 * Compares every count with the records that make it up, and repairs what differs, while servers go
 * on acquiring and releasing.
 *
 * Invariant (counter.c): a cell's count is the sum of the weights of the records that have charged
 * it. To look at a moment of that, without stopping anybody:
 *   1 every cell's word is read   2 every record   3 every cell's word again.
 * A cell whose word is the same at 1 and 3 was neither charged nor uncharged in between, since each
 * of these writes another tag; so what the records said at 2, read together with that word, is what
 * has charged it. If that isn't its count, somebody else wrote there: the CAS from this very word
 * makes it the sum. A cell that has changed is left undecided until the next time; where everything
 * is small enough to be read within microseconds, it is tried again at once.
 *
 * Before 2, each record that no code of ours could have left so is made free, or closed if it is
 * nobody's; and the tables of sessions and owners are written again from the daemon's own memory.
 * What is believed is the directory, which clients can't write to, and that memory.
 *
 * Death at any point leaves what was repaired; the next daemon recounts soon after its start.
 */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "counter.h"
#include "log.h"
#include "recount.h"
#include "turn.h"

/* How many cells or records one turn of the event loop reads: about a millisecond. */
#define TURN 65536u
/* How often what is small is read again while cells change under the eyes. */
#define ATTEMPTS 16
/* A word may come back after 2^22 steps of one record. Who was stopped for that long between 1
 * and 3 has seen nothing. */
#define LONGEST_USEC 10000000u
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
	uint32_t cells, records, entries;
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
	uint64_t read;      /* when 1 began */
	enum phase phase;
	uint32_t at;
	uint32_t accounts_end, records_end;
	uint64_t *word; /* by account: as read at 1 */
	uint32_t *sum;  /* by account */
	uint32_t undecided;
	struct findings found;
};

static uint64_t now_usec(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* -- records ------------------------------------------------------------------------------------ */

/* Whether the record may stand there: no count rests on a name that is gone, or on a path of another
 * length. One that rests may, since it is placed anew before it is used. */
static bool place_is_sound(struct recount *r, uint64_t rec) {
	uint32_t account = record_account(rec), depth;

	if (record_weight(rec) == 0 || !map_has_account(r->map, account))
		return false;
	if (record_charged(rec) == 0)
		return true;
	if (!(entry_flags(directory_word(r->accounts->directory, account)) & ENTRY_LIVE))
		return false;
	return directory_depth(r->map, account, &depth) == 0 && record_top(rec) + 1 == depth;
}

static bool record_is_sound(struct recount *r, uint64_t rec) {
	switch (record_state(rec)) {
	case RECORD_FREE:
		return true;
	case RECORD_PLACED:
	case RECORD_SEIZED:
		return place_is_sound(r, rec);
	default:
		/* CLOSED, too: its session is open. */
		return false;
	}
}

/* A record of an open session. What the daemon has begun is finished within its turn, so SEIZED is
 * noise that looks well, or an owner's who lacks memory. */
static bool record_mend(struct recount *r, uint32_t number, uint64_t rec) {
	if (record_state(rec) == RECORD_CLOSED)
		return counter_open(r->map, number) == 0;
	if (!record_is_sound(r, rec))
		return counter_discard(r->map, number, rec) == 0;
	(void)counter_resume(r->map, number);
	return false;
}

/* Adds what the record has charged, level by level. */
static void record_add(struct recount *r, uint32_t number, uint64_t rec) {
	uint32_t account = record_account(rec), top = record_top(rec);

	if (record_state(rec) != RECORD_PLACED && record_state(rec) != RECORD_SEIZED)
		return;
	for (uint32_t k = 0; k <= top && account != 0; k++) {
		/* One made since isn't compared, but it stands below others that are. */
		if (account < r->accounts_end &&
			counter_has_charged(rec, number, k, r->word[account]))
			r->sum[account] =
				MIN_OF(r->sum[account] + record_weight(rec), BERTH_COUNT_MAX);
		account = directory_parent(r->accounts->directory, account);
	}
}

static void range_read(struct recount *r, uint32_t range) {
	uint32_t owner = ranges_owner(r->sessions->ranges, range);
	const struct session *s = sessions_owner(r->sessions, range * BERTH_RANGE);

	r->found.entries += ranges_rewrite(r->sessions->ranges, range);
	for (uint32_t n = range * BERTH_RANGE; n < (range + 1) * BERTH_RANGE; n++) {
		uint64_t rec = counter_record(r->map, n);

		if (owner == RANGE_NONE && record_state(rec) != RECORD_CLOSED) {
			r->found.records++;
			(void)counter_close(r->map, n);
		} else if (s && s->state == SESSION_OPEN) {
			r->found.records += record_mend(r, n, rec);
		}
		record_add(r, n, counter_record(r->map, n));
	}
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

static void cell_compare(struct recount *r, uint32_t account) {
	struct cell *cell = map_cell(r->map, account);
	uint64_t word = cell ? load_acquire(&cell->word) : r->word[account];

	if (!cell || cell_count(word) == r->sum[account]) {
		if (cell && load_relaxed(&cell->peak) > BERTH_COUNT_MAX)
			cell_restore(r, account);
		return;
	}
	if (word != r->word[account]) {
		r->undecided++;
		return;
	}
	if (counter_repair(r->map, account, word, r->sum[account]) < 0) {
		r->undecided++;
		return;
	}
	name_note(r, account, cell_count(word));
	r->found.cells++;
	cell_restore(r, account);
}

/* -- turns -------------------------------------------------------------------------------------- */

static void cells_read(struct recount *r, uint32_t end) {
	for (; r->at < end; r->at++) {
		struct cell *cell = map_cell(r->map, r->at);

		r->word[r->at] = cell ? load_acquire(&cell->word) : 0;
	}
}

static void records_read(struct recount *r, uint32_t end) {
	for (; r->at < end; r->at += BERTH_RANGE)
		range_read(r, r->at / BERTH_RANGE);
}

static void cells_compare(struct recount *r, uint32_t end) {
	if (now_usec() - r->read > LONGEST_USEC) {
		r->at = end;
		r->undecided++;
		return;
	}
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
	r->read = now_usec();
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

	if (!found_anything(f))
		return;
	(void)snprintf(text, sizeof(text), "REPAIRED=%u", f->cells);
	log_event(LOG_WARNING, EVENT_REPAIRED, fields,
		"Somebody wrote over the shared counts. Repaired from what the slots prove: the "
		"counts of %u accounts%s%s%s, %u slots, %u entries of the session table. Limits "
		"are not concerned. If this comes back, look for the process in group berth that "
		"does it, and restart it",
		f->cells, f->names[0] ? " (" : "", f->names, f->names[0] ? ")" : "", f->records,
		f->entries);
}

static void recount_end(struct recount *r) {
	uint64_t pause = r->spent * (found_anything(&r->found) ? PAUSE_FOUND : PAUSE);

	findings_say(r);
	free(r->word);
	free(r->sum);
	r->word = NULL;
	r->sum = NULL;
	r->running = false;
	r->may_begin = now_usec() + pause;
	if (r->wanted)
		recount_want(r);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *data) {
	struct recount *r = data;
	uint64_t begun = now_usec();
	bool done = turn_take(r);

	(void)usec;
	r->spent += now_usec() - begun;
	if (!done)
		return turn_want(source);
	recount_end(r);
	return 0;
}

/* Without memory for it, the next one it is. */
static void recount_begin(struct recount *r) {
	/* More may be published than there was memory to follow; those bear no names. */
	r->accounts_end = r->accounts->directory->account_size;
	r->word = calloc(r->accounts_end, sizeof(*r->word));
	r->sum = calloc(r->accounts_end, sizeof(*r->sum));
	if (!r->word || !r->sum) {
		free(r->word);
		free(r->sum);
		r->word = NULL;
		r->sum = NULL;
		return;
	}
	r->running = true;
	r->spent = 0;
	r->found = (struct findings){.entries = sessions_rewrite(r->sessions)};
	attempt_begin(r);
	(void)turn_want(r->turn);
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
	/* In a build for tests a word comes back within microseconds, and proves nothing. */
	if (BERTH_SEQ_BITS < 22)
		return;
	r->wanted = r->running;
	if (r->running)
		return;
	if (now_usec() >= r->may_begin) {
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
		e = turn_new(event, on_turn, r, &r->turn);
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
	free(r->word);
	free(r->sum);
	free(r);
}
