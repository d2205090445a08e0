/* SPDX-License-Identifier: MIT */

/*
 * Takes checkpoints. A small thread waits in the segment for a change (wake.h, D1 to D4) and tells
 * the event loop, which a second later goes through the dirty groups, a slice at a time, and hands
 * what differs from the store over to it. Then the thread is let go on.
 *
 * Slices take turns with messages, so that a flood of those puts them off, but not for ever.
 *
 * A checkpoint that the store refuses (a full disk) is taken again in whole, a few seconds later.
 *
 * Before the first one, what the store has is loaded, a slice at a time, too, while servers are served
 * already. Whoever would notice that it isn't all there waits for it, or has the rest loaded at once.
 *   1. each slice adds to the cells; 2. after the last one the directory says `restored`.
 *   Death between two slices: the next berthd goes through all of them again, and takes the larger of
 *   what the cell has and what was stored. What was denied between boot and death may be missing.
 */

#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "array.h"
#include "checkpoint.h"
#include "clock.h"
#include "counter.h"
#include "denials.h"
#include "log.h"
#include "loop.h"
#include "wake.h"

#define CHECKPOINT_USEC 1000000u
#define RETRY_USEC      5000000u
/* Accounts that one slice may write, or load: a millisecond or two of the event loop. */
#define SLICE 8192u

/* What is done with the peaks and denials that the store has. */
enum restore {
	RESTORE_NOTHING, /* the cells have them */
	RESTORE_ADD,     /* the cells have none */
	RESTORE_LARGER,  /* the cells may have them */
};

struct checkpoint {
	sd_event *event;
	struct accounts *accounts;
	struct map *map;
	struct store *store;
	struct recount *recount;
	sd_event_source *changed, *timer, *slice, *disarmed, *load;
	pthread_t thread;
	bool started;
	_Atomic bool stopping;
	_Atomic bool armed; /* by the thread, which waits to be woken */
	sem_t go_on;        /* the thread may look for changes again */
	int change_fd;      /* the thread has seen one */
	uint32_t group;     /* where the slice goes on */
	bool everything;    /* look at clean groups, too */
	bool failed;        /* the store refused one: all of it again */
	bool loading;       /* the store has more that wasn't loaded */
	bool said_unread;   /* the log has it already */
	enum restore restore;
	uint64_t last;
};

/* -- the thread --------------------------------------------------------------------------------- */

static uint32_t groups_end(const struct checkpoint *c) {
	return load_acquire(&c->map->names->accounts) / BERTH_DIRTY_GROUP + 1;
}

static bool anything_dirty(struct checkpoint *c) {
	denials_collect(c->map);
	for (uint32_t g = 0; g < groups_end(c); g++) {
		/* Account 0 is nobody's, but its group is that of 1 to 63. */
		_Atomic uint8_t *dirty = map_dirty(c->map, MAX_OF(g * BERTH_DIRTY_GROUP, 1u));

		if (dirty && load_total(dirty) != 0)
			return true;
	}
	return false;
}

static void *thread_main(void *data) {
	struct checkpoint *c = data;

	while (!c->stopping) {
		uint32_t seen = wake_arm(c->map); /* D1, D2 */

		c->armed = true;
		if (!anything_dirty(c)) { /* D3 */
			if (!c->stopping)
				wake_wait(c->map, seen); /* D4 */
			if (!c->stopping && !anything_dirty(c))
				continue;
		}
		c->armed = false;
		wake_disarm(c->map);
		(void)eventfd_write(c->change_fd, 1);
		while (!c->stopping && sem_wait(&c->go_on) < 0)
			;
	}
	wake_disarm(c->map);
	return NULL;
}

/* -- what has changed ---------------------------------------------------------------------------- */

struct batch {
	struct store_count *counts;
	size_t count, size;
	char *names;
	size_t names_length, names_size;
};

static int batch_reserve(struct batch *b) {
	int r = array_reserve(&b->counts, &b->size, b->count + 1);

	return r < 0 ? r
		     : array_reserve(
			       &b->names, &b->names_size, b->names_length + BERTH_NAME_MAX + 1);
}

static void batch_free(struct batch *b) {
	free(b->counts);
	free(b->names);
}

static int batch_add(struct batch *b, const char *name, const struct store_count *numbers) {
	int r = batch_reserve(b);

	if (r < 0)
		return r;
	b->counts[b->count] = *numbers;
	b->counts[b->count++].name_offset = b->names_length;
	b->names_length += strlen(strcpy(b->names + b->names_length, name)) + 1;
	return 0;
}

/* One account, if it differs from what the store has. */
static int look_at(struct checkpoint *c, struct batch *b, uint32_t account) {
	struct account *kept = &c->accounts->directory->account[account];
	struct cell *cell = map_cell(c->map, account);
	struct store_count now;
	char name[256];
	int r;

	if (!cell)
		return -ENOMEM;
	now.count = count_of(load_total(&cell->count)); /* after the mark was taken: wake.h, D3 */
	now.peak = MAX_OF(load_relaxed(&cell->peak), now.count);
	now.denied = load_relaxed(&cell->denied);
	if (now.count == kept->saved_count && now.peak == kept->saved_peak &&
		now.denied == kept->saved_denied)
		return 0;
	if (directory_name(c->map, account, name) < 0)
		return 0;
	r = batch_add(b, name, &now);
	if (r < 0)
		return r;
	kept->saved_count = now.count;
	kept->saved_peak = now.peak;
	kept->saved_denied = now.denied;
	return 0;
}

static int look_at_group(struct checkpoint *c, struct batch *b, uint32_t group) {
	uint32_t first = MAX_OF(group * BERTH_DIRTY_GROUP, 1u);
	/* More may be published than there was memory to follow; those bear no names. */
	uint32_t end =
		MIN_OF((group + 1) * BERTH_DIRTY_GROUP, c->accounts->directory->account_size);
	int r = 0;

	if (first >= end || (!wake_take_dirty(c->map, first) && !c->everything))
		return 0;
	for (uint32_t a = first; a < end && r >= 0; a++)
		r = look_at(c, b, a);
	return r;
}

/* -- handing over -------------------------------------------------------------------------------- */

static void timer_set(struct checkpoint *c, uint64_t usec) {
	uint64_t now = 0;

	(void)sd_event_now(c->event, CLOCK_MONOTONIC, &now);
	(void)sd_event_source_set_time(c->timer, now + usec);
	(void)sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

static void on_stored(void *data, int error) {
	struct checkpoint *c = data;

	if (error < 0) {
		if (!c->failed && error != -EUCLEAN)
			log_warning("Can't store the counts: %s; trying again. Limits and live "
				    "counts are not concerned",
				strerror(-error));
		c->failed = true;
		if (c->timer)
			timer_set(c, RETRY_USEC);
		return;
	}
	c->last = clock_wall_ms();
}

static void hand_over(struct checkpoint *c, struct batch *b) {
	if (b->count == 0) {
		batch_free(b);
		return;
	}
	/* The store frees both, also when it fails. */
	if (store_put_counts(c->store, b->counts, b->count, b->names, on_stored, c) < 0)
		on_stored(c, -ENOMEM);
}

/* After a refusal nobody knows what the store has. */
static void distrust_saved(struct checkpoint *c) {
	struct directory *d = c->accounts->directory;

	for (uint32_t a = 1; a < d->account_size; a++)
		d->account[a].saved_count = UINT32_MAX;
	c->failed = false;
	c->everything = true;
}

static void slice_begin(struct checkpoint *c) {
	if (c->failed)
		distrust_saved(c);
	denials_collect(c->map);
	c->group = 0;
}

/* True when the last group has been looked at. */
static bool slice_take(struct checkpoint *c, size_t most) {
	struct batch b = {0};

	while (c->group < groups_end(c) && b.count < most)
		if (look_at_group(c, &b, c->group++) < 0)
			c->failed = true;
	hand_over(c, &b);
	return c->group >= groups_end(c);
}

static int on_slice(sd_event_source *source, uint64_t usec, void *data) {
	struct checkpoint *c = data;

	(void)usec;
	/* A recount may be about to repair what would be stored. */
	if (recount_runs(c->recount) || !slice_take(c, SLICE))
		return slice_request(source);
	c->everything = false;
	/* What there was no memory for is no longer marked: it is looked for again. */
	if (c->failed)
		timer_set(c, RETRY_USEC);
	accounts_tidy(c->accounts);
	(void)sem_post(&c->go_on);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data) {
	struct checkpoint *c = data;

	(void)source, (void)usec;
	recount_want(c->recount);
	if (c->loading)
		return slice_request(c->load);
	slice_begin(c);
	return slice_request(c->slice);
}

static int on_changed(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct checkpoint *c = data;
	eventfd_t n;

	(void)source, (void)events;
	(void)eventfd_read(fd, &n);
	timer_set(c, CHECKPOINT_USEC);
	return 0;
}

/* After each event of whatever kind. A peer that writes over `armed` would let the thread sleep for
 * ever; to look once more does no harm. */
static int on_event(sd_event_source *source, void *data) {
	struct checkpoint *c = data;

	(void)source;
	if (c->armed && load_total(&c->map->header->armed) == 0)
		wake_cancel(c->map);
	return 0;
}

/* -- what the store has --------------------------------------------------------------------------- */

/* Clients may change both meanwhile. */
static void numbers_restore(
	const struct checkpoint *c, struct cell *cell, uint32_t peak, uint64_t denied) {
	uint64_t had = load_relaxed(&cell->denied);
	uint32_t seen = load_relaxed(&cell->peak);

	if (c->restore == RESTORE_ADD)
		(void)add_relaxed(&cell->denied, denied);
	else if (had < denied)
		(void)add_relaxed(&cell->denied, denied - had);
	while (seen < peak && !cas32(&cell->peak, seen, peak))
		seen = load_relaxed(&cell->peak);
}

struct loading {
	struct checkpoint *c;
	struct batch gone;
};

static int load_one(void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied) {
	struct loading *l = data;
	struct store_count nothing = {0};
	uint32_t account = accounts_find(l->c->accounts, name);
	struct account *kept;
	struct cell *cell;

	if (account == 0 || l->c->accounts->directory->account[account].young)
		return batch_add(&l->gone, name, &nothing);
	kept = &l->c->accounts->directory->account[account];
	kept->saved_count = count;
	kept->saved_peak = peak;
	kept->saved_denied = denied;
	cell = map_cell(l->c->map, account);
	if (l->c->restore != RESTORE_NOTHING && cell)
		numbers_restore(l->c, cell, peak, denied);
	return 0;
}

/* The cells have all that there is. */
static void load_end(struct checkpoint *c) {
	c->loading = c->accounts->directory->loading = false;
	store_release(&c->accounts->directory->segment->names->restored, 1); /* 2 */
	store_read_done(c->store);
}

static void load_failed(struct checkpoint *c, int error) {
	if (error == -EUCLEAN || c->restore == RESTORE_NOTHING) {
		/* What was loaded of the store isn't there any more, or not needed: all of it again. */
		c->failed = true;
		load_end(c);
		return;
	}
	if (!c->said_unread)
		log_warning("Can't read the stored counts: %s; trying again, and storing none "
			    "meanwhile. Limits and live counts are not concerned",
			strerror(-error));
	c->said_unread = true;
}

/* A slice. 1: there are more. */
static int load_take(struct checkpoint *c) {
	struct loading l = {.c = c};
	int r = store_read_counts(c->store, SLICE, load_one, &l); /* 1 */

	hand_over(c, &l.gone);
	if (r < 0)
		load_failed(c, r);
	if (r == 0) {
		if (c->said_unread)
			log_notice("The stored counts are read again");
		load_end(c);
	}
	return r;
}

void checkpoint_load_rest(struct checkpoint *c) {
	while (c->loading && load_take(c) > 0)
		;
}

static int on_load(sd_event_source *source, uint64_t usec, void *data) {
	struct checkpoint *c = data;

	(void)usec;
	if (c->loading && load_take(c) > 0)
		return slice_request(source);
	timer_set(c, c->loading ? RETRY_USEC : CHECKPOINT_USEC);
	return 0;
}

/* Few are there at once. */
void checkpoint_load(struct checkpoint *c, bool adopted) {
	const struct directory_header *names = c->accounts->directory->segment->names;

	c->restore = !adopted                         ? RESTORE_ADD
		     : load_acquire(&names->restored) ? RESTORE_NOTHING
						      : RESTORE_LARGER;
	c->loading = c->accounts->directory->loading = true;
	(void)load_take(c);
}

bool checkpoint_is_loading(const struct checkpoint *c) {
	return c->loading;
}

/* An account is gone: takes its counts out of the store. */
static void on_removed(void *data, const char *name) {
	struct store_count nothing = {0};
	struct batch b = {0};

	if (batch_add(&b, name, &nothing) < 0) {
		batch_free(&b);
		return;
	}
	hand_over(data, &b);
}

/* -- begin and end -------------------------------------------------------------------------------- */

void checkpoint_final(struct checkpoint *c) {
	checkpoint_load_rest(c);
	/* What is stored is more than what the cells have. */
	if (c->loading) {
		log_warning("The stored counts could not be read; leaving them as they are");
		return;
	}
	slice_begin(c);
	c->everything = true;
	while (!slice_take(c, SIZE_MAX))
		;
}

static int thread_start(struct checkpoint *c) {
	int r = -pthread_create(&c->thread, NULL, thread_main, c);

	if (r < 0)
		log_error("Can't start the thread of the checkpoints: %s; allow the service more "
			  "tasks",
			strerror(-r));
	return r;
}

int checkpoint_start(struct checkpoint *c) {
	int r;

	c->everything = true;
	r = sd_event_add_io(c->event, &c->changed, c->change_fd, EPOLLIN, on_changed, c);
	if (r >= 0)
		r = sd_event_add_time(c->event, &c->timer, CLOCK_MONOTONIC, 0, 50000, on_timer, c);
	if (r >= 0)
		r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
	if (r >= 0)
		r = slice_new(c->event, on_slice, c, &c->slice);
	if (r >= 0)
		r = slice_new(c->event, on_load, c, &c->load);
	if (r >= 0)
		r = slice_request(c->load);
	if (r >= 0)
		r = sd_event_add_post(c->event, &c->disarmed, on_event, c);
	if (r >= 0)
		r = thread_start(c);
	if (r < 0)
		return r;
	c->started = true;
	return 0;
}

int checkpoint_new(sd_event *event, struct accounts *accounts, struct store *store,
	struct recount *recount, struct checkpoint **ret) {
	struct checkpoint *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->event = event;
	c->accounts = accounts;
	c->map = accounts->directory->map;
	c->store = store;
	c->recount = recount;
	(void)sem_init(&c->go_on, 0, 0);
	c->change_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->change_fd < 0) {
		free(c);
		return -errno;
	}
	accounts->removed = on_removed;
	accounts->removed_data = c;
	*ret = c;
	return 0;
}

/* Again and again: a peer could write over the word that wakes it. */
static void thread_end(struct checkpoint *c) {
	const struct timespec pause = {.tv_nsec = 1000000};

	wake_cancel(c->map);
	while (pthread_tryjoin_np(c->thread, NULL) == EBUSY) {
		(void)nanosleep(&pause, NULL);
		wake_cancel(c->map);
	}
}

void checkpoint_free(struct checkpoint *c) {
	if (!c)
		return;
	if (c->started) {
		c->stopping = true;
		(void)sem_post(&c->go_on);
		thread_end(c);
	}
	c->accounts->removed = NULL;
	(void)sd_event_source_disable_unref(c->changed);
	(void)sd_event_source_disable_unref(c->timer);
	(void)sd_event_source_disable_unref(c->slice);
	(void)sd_event_source_disable_unref(c->load);
	(void)sd_event_source_disable_unref(c->disarmed);
	close_cleanup(&c->change_fd);
	(void)sem_destroy(&c->go_on);
	free(c);
}

uint64_t checkpoint_last(const struct checkpoint *c) {
	return c->last;
}
