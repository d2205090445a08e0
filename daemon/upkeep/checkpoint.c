/* SPDX-License-Identifier: MIT */

/*
 * Takes checkpoints.
 *
 * A thread sleeps on a word of the segment until something changes (wake.h, D1 to D4), and then
 * tells the event loop. A second later the event loop goes through the dirty groups of cells, in
 * time slices, and hands the counts that differ from the stored ones over to the store. Then the
 * thread waits for the next change. Time slices alternate with messages, so a flood of messages
 * delays a checkpoint but can't prevent it.
 *
 * If the store can't store a checkpoint, for instance because the disk is full, berthd hands all
 * counts over to the store a few seconds later.
 *
 * After a start, berthd first puts the stored peaks and denials back into the cells (restore.h).
 * Until that is complete, it takes no checkpoint.
 */

#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "batch.h"
#include "checkpoint.h"
#include "clock.h"
#include "counter.h"
#include "denials.h"
#include "log.h"
#include "loop.h"
#include "restore.h"
#include "util.h"
#include "wake.h"

#define CHECKPOINT_USEC 1000000u
#define RETRY_USEC      5000000u
/* How many accounts one time slice stores. This takes a millisecond or two. */
#define SLICE 8192u

struct checkpoint {
	sd_event *event;
	struct accounts *accounts;
	struct directory *directory;
	struct map *map;
	struct store *store;
	struct recount *recount;
	struct restore *restore;
	sd_event_source *changed, *timer, *slice, *restoring, *after_event;
	pthread_t thread;
	bool started;
	_Atomic bool stopping;
	_Atomic bool armed; /* the thread waits for a change */
	sem_t go_on;        /* the thread may look for changes again */
	int change_fd;      /* an eventfd, readable when the thread has seen a change */
	uint32_t group;     /* where the next time slice begins */
	bool all_groups;    /* this checkpoint looks at clean groups, too */
	bool failed; /* it isn't known what the store has: the next checkpoint stores everything */
	bool failure_logged;
	uint64_t last;
};

/* -- the thread -------------------------------------------------------------------------------- */

static uint32_t groups_end(const struct checkpoint *c) {
	return load_acquire(&c->map->names->accounts) / BERTH_DIRTY_GROUP + 1;
}

static bool any_is_dirty(struct checkpoint *c) {
	denials_collect(c->map);
	for (uint32_t g = 0; g < groups_end(c); g++) {
		/* There is no account 0, but the first group has the accounts 1 to 63. */
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
		if (!any_is_dirty(c)) { /* D3 */
			if (!c->stopping)
				wake_wait(c->map, seen); /* D4 */
			if (!c->stopping && !any_is_dirty(c))
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

/* Runs after each event. If a client writes over `armed` in the segment, no change wakes the
 * thread, so berthd wakes it here. To wake the thread once too often does no harm. */
static int on_event(sd_event_source *source, void *data) {
	struct checkpoint *c = data;

	(void)source;
	if (c->armed && load_total(&c->map->header->armed) == 0)
		wake_cancel(c->map);
	return 0;
}

/* -- storing ----------------------------------------------------------------------------------- */

static void on_stored(void *data, int error) {
	struct checkpoint *c = data;

	if (error >= 0) {
		c->last = clock_wall_ms();
		c->failure_logged = false;
		return;
	}
	/* -EUCLEAN: the store has logged that its counts were lost. */
	if (error != -EUCLEAN) {
		if (!c->failure_logged)
			log_warning("Can't store the counts: %s; trying again. Limits and live "
				    "counts are not affected",
				strerror(-error));
		c->failure_logged = true;
	}
	c->failed = true;
	if (c->timer)
		timer_set(c->timer, RETRY_USEC);
}

static void hand_over(struct checkpoint *c, struct batch *b) {
	if (b->count == 0) {
		batch_deinit(b);
		return;
	}
	/* The store frees both arrays, even if the call fails. */
	if (store_put_counts(c->store, b->counts, b->count, b->names, on_stored, c) < 0)
		on_stored(c, -ENOMEM);
}

/* Adds the account to the batch if its numbers differ from the stored ones. */
static int account_add(struct checkpoint *c, struct batch *b, uint32_t number) {
	struct account *account = directory_account(c->directory, number);
	struct cell *cell = map_cell(c->map, number);
	char name[BERTH_NAME_MAX + 1];
	struct store_count now;
	int r;

	if (!cell)
		return -ENOMEM;
	now.count = count_of(load_total(&cell->count)); /* after the mark was cleared: wake.h, D3 */
	now.peak = MAX_OF(load_relaxed(&cell->peak), now.count);
	now.denied = load_relaxed(&cell->denied);
	if (now.count == account->saved_count && now.peak == account->saved_peak &&
		now.denied == account->saved_denied)
		return 0;
	if (directory_name(c->map, number, name) < 0)
		return 0;
	r = batch_add(b, name, &now);
	if (r < 0)
		return r;
	account->saved_count = now.count;
	account->saved_peak = now.peak;
	account->saved_denied = now.denied;
	return 0;
}

static void slices_begin(struct checkpoint *c) {
	if (c->failed) {
		for (uint32_t a = 1; a < directory_accounts_end(c->directory); a++)
			directory_account(c->directory, a)->saved_count = UINT32_MAX;
		c->failed = false;
		c->all_groups = true;
	}
	denials_collect(c->map);
	c->group = 0;
}

/* Stores the next dirty groups, until `most` accounts are reached. True after the last group. */
static bool slice_store(struct checkpoint *c, size_t most) {
	struct batch b = {0};

	for (; c->group < groups_end(c) && b.count < most; c->group++) {
		uint32_t first = MAX_OF(c->group * BERTH_DIRTY_GROUP, 1u);
		uint32_t end = MIN_OF(
			(c->group + 1) * BERTH_DIRTY_GROUP, directory_accounts_end(c->directory));
		int r = 0;

		if (first >= end || (!wake_clear_dirty(c->map, first) && !c->all_groups))
			continue;
		for (uint32_t a = first; a < end && r >= 0; a++)
			r = account_add(c, &b, a);
		if (r < 0)
			c->failed = true;
	}
	hand_over(c, &b);
	return c->group >= groups_end(c);
}

static int on_slice(sd_event_source *source, uint64_t usec, void *data) {
	struct checkpoint *c = data;

	(void)usec;
	/* A recount may be about to repair counts that this slice would store. */
	if (recount_is_running(c->recount) || !slice_store(c, SLICE))
		return slice_request(source);
	c->all_groups = false;
	/* If there was no memory to store some accounts, the next checkpoint stores all. */
	if (c->failed)
		timer_set(c->timer, RETRY_USEC);
	accounts_tidy(c->accounts);
	(void)sem_post(&c->go_on);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data) {
	struct checkpoint *c = data;

	(void)source, (void)usec;
	recount_request(c->recount);
	if (restore_is_running(c->restore))
		return slice_request(c->restoring);
	slices_begin(c);
	return slice_request(c->slice);
}

static int on_changed(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct checkpoint *c = data;
	eventfd_t n;

	(void)source, (void)events;
	(void)eventfd_read(fd, &n);
	timer_set(c->timer, CHECKPOINT_USEC);
	return 0;
}

/* An account was removed: has the store forget its counts. */
static void on_removed(void *data, const char *name) {
	struct checkpoint *c = data;
	struct batch b = {0};

	if (batch_add(&b, name, &(struct store_count){0}) < 0)
		batch_deinit(&b);
	else
		hand_over(c, &b);
}

/* -- restoring --------------------------------------------------------------------------------- */

/* True if there are more counts to restore. */
static bool restore_some(struct checkpoint *c) {
	struct batch stale = {0};
	int r = restore_slice(c->restore, &stale, &c->failed);

	hand_over(c, &stale);
	return r > 0;
}

int checkpoint_restore(struct checkpoint *c, bool adopted) {
	int r = restore_new(c->accounts, c->store, adopted, &c->restore);

	if (r >= 0)
		(void)restore_some(c);
	return r;
}

void checkpoint_restore_rest(struct checkpoint *c) {
	while (restore_is_running(c->restore) && restore_some(c))
		;
}

bool checkpoint_is_restoring(const struct checkpoint *c) {
	return restore_is_running(c->restore);
}

static int on_restore(sd_event_source *source, uint64_t usec, void *data) {
	struct checkpoint *c = data;

	(void)usec;
	if (restore_is_running(c->restore) && restore_some(c))
		return slice_request(source);
	timer_set(c->timer, restore_is_running(c->restore) ? RETRY_USEC : CHECKPOINT_USEC);
	return 0;
}

/* -- begin and end ----------------------------------------------------------------------------- */

void checkpoint_final(struct checkpoint *c) {
	/* If there was no restore yet, the store keeps its numbers, which the cells lack. */
	if (!c->restore)
		return;
	checkpoint_restore_rest(c);
	/* If a count couldn't be restored, the store keeps its numbers, which the cells lack. */
	if (restore_is_running(c->restore)) {
		log_warning("The stored counts can't be read; leaving them as they are");
		return;
	}
	slices_begin(c);
	c->all_groups = true;
	while (!slice_store(c, SIZE_MAX))
		;
}

int checkpoint_start(struct checkpoint *c) {
	int r;

	c->all_groups = true;
	r = sd_event_add_io(c->event, &c->changed, c->change_fd, EPOLLIN, on_changed, c);
	if (r >= 0)
		r = timer_new(c->event, on_timer, c, &c->timer);
	if (r >= 0)
		r = slice_new(c->event, on_slice, c, &c->slice);
	if (r >= 0)
		r = slice_new(c->event, on_restore, c, &c->restoring);
	if (r >= 0)
		r = slice_request(c->restoring);
	if (r >= 0)
		r = sd_event_add_post(c->event, &c->after_event, on_event, c);
	if (r < 0)
		return r;
	r = -pthread_create(&c->thread, NULL, thread_main, c);
	c->started = r >= 0;
	if (r < 0)
		log_error("Can't start the thread of the checkpoints: %s; allow the service more "
			  "tasks",
			strerror(-r));
	return r;
}

int checkpoint_new(sd_event *event, struct accounts *accounts, struct store *store,
	struct recount *recount, struct checkpoint **ret) {
	struct checkpoint *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->event = event;
	c->accounts = accounts;
	c->directory = accounts_directory(accounts);
	c->map = directory_map(c->directory);
	c->store = store;
	c->recount = recount;
	(void)sem_init(&c->go_on, 0, 0);
	c->change_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->change_fd < 0) {
		int r = -errno;

		free(c);
		return r;
	}
	accounts_on_removed(accounts, on_removed, c);
	*ret = c;
	return 0;
}

void checkpoint_free(struct checkpoint *c) {
	const struct timespec pause = {.tv_nsec = 1000000};

	if (!c)
		return;
	if (c->started) {
		c->stopping = true;
		(void)sem_post(&c->go_on);
		wake_cancel(c->map);
		/* A client may write over the word that wakes the thread, so one call may not be
		 * enough. */
		while (pthread_tryjoin_np(c->thread, NULL) == EBUSY) {
			(void)nanosleep(&pause, NULL);
			wake_cancel(c->map);
		}
	}
	accounts_on_removed(c->accounts, NULL, NULL);
	(void)sd_event_source_disable_unref(c->changed);
	(void)sd_event_source_disable_unref(c->timer);
	(void)sd_event_source_disable_unref(c->slice);
	(void)sd_event_source_disable_unref(c->restoring);
	(void)sd_event_source_disable_unref(c->after_event);
	close_cleanup(&c->change_fd);
	(void)sem_destroy(&c->go_on);
	restore_free(c->restore);
	free(c);
}

uint64_t checkpoint_last(const struct checkpoint *c) {
	return c->last;
}
