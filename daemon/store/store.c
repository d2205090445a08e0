/* SPDX-License-Identifier: MIT */

/* Takes jobs from the event loop, does them in one worker thread, and hands them back.
 *
 * What was acknowledged stays:
 *   1. the waiting limit jobs go into one transaction; 2. its commit is synced (database.c);
 *   3. the jobs go to `finished`; 4. store_dispatch calls their done(), which lets the reply out.
 *   Death before 2 ends leaves the old limits, or the new ones that nobody was promised; after it,
 *   the new ones. */

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "lmdb.h"
#include "clock.h"
#include "bounds.h"
#include "log.h"
#include "memory.h"
#include "counts.h"
#include "store.h"
#include "util.h"

/* Limits that share a commit, except that a job is never divided. */
#define BATCH_LIMITS 65536
/* Names that are written or read before the worker gives back, when nothing waits, what that took. */
#define REST_AFTER 16384

/* The value; its size and meaning belong to the format's version. */
struct limit_value {
	uint32_t limit;
	uint32_t reserved;
};

_Static_assert(sizeof(struct limit_value) == 8, "a limit's value has no padding");

struct job {
	struct job *next;
	const struct store_limit *limits; /* NULL: a job of counts */
	struct store_count *counts;       /* freed with the job, as are names */
	char *names;
	size_t count;
	store_done done;
	void *data;
	int error;
};

struct job_list {
	struct job *first, *last;
};

struct store {
	char *limits_dir;
	int lock_fd; /* the directory of the limits, locked while we use it */
	struct database *limits;
	struct counts *counts;
	pthread_mutex_t counts_mutex; /* while either thread uses the counts */
	bool large;                   /* reading all limits takes memory worth mentioning */
	int last_error;               /* of limits; logged already */

	pthread_t worker;
	bool worker_runs;
	int event_fd;
	pthread_mutex_t mutex; /* protects what follows */
	pthread_cond_t wake, open_done;
	struct job_list waiting, finished;
	bool opened; /* or not: open_error */
	int open_error;
	bool stopping;
	bool resting; /* give back what reading took */
};

/* -- jobs -------------------------------------------------------------------------------------- */

static void list_append(struct job_list *list, struct job_list jobs) {
	if (!jobs.first)
		return;
	if (list->first)
		list->last->next = jobs.first;
	else
		list->first = jobs.first;
	list->last = jobs.last;
}

static struct job *list_take(struct job_list *list) {
	struct job *job = list->first;

	list->first = job->next;
	if (!list->first)
		list->last = NULL;
	job->next = NULL;
	return job;
}

static void job_free(struct job *job) {
	free(job->counts);
	free(job->names);
	free(job);
}

/* A job of counts by itself, or as many consecutive jobs of limits as one transaction holds. */
static struct job_list take_batch(struct job_list *waiting) {
	struct job_list batch = {0};
	size_t limits = 0;

	while (waiting->first) {
		const struct job *next = waiting->first;
		struct job *job;

		if (batch.first && (!next->limits || limits + next->count > BATCH_LIMITS))
			break;
		job = list_take(waiting);
		list_append(&batch, (struct job_list){job, job});
		if (!job->limits)
			break;
		limits += job->count;
	}
	return batch;
}

/* -- the worker: limits ------------------------------------------------------------------------ */

/* A million names are compared, and read, in another order than they lie in memory: most comparisons
 * are decided by the key, and what is read next is fetched before. */
struct change {
	uint64_t key; /* the eight bytes after what all names begin with, as a number */
	const char *name;
	uint32_t limit;
	uint32_t order;
};

struct changes {
	struct change *all;
	size_t count;
};

#define FETCHED_BEFORE 8

static int change_compare(const void *left, const void *right) {
	const struct change *a = left, *b = right;
	int order;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	order = strcmp(a->name, b->name);
	/* Of the same name twice, the one handed over later counts. */
	return order ? order : a->order < b->order ? -1 : 1;
}

static bool changes_are_sorted(const struct changes *c) {
	for (size_t i = 1; i < c->count; i++)
		if (change_compare(&c->all[i - 1], &c->all[i]) > 0)
			return false;
	return true;
}

/* How many bytes all names begin with. */
static size_t changes_common(const struct changes *c) {
	size_t common = c->count > 0 ? strlen(c->all[0].name) : 0;

	for (size_t i = 1; i < c->count; i++) {
		size_t same = 0;

		while (same < common && c->all[i].name[same] == c->all[0].name[same])
			same++;
		common = same;
	}
	return common;
}

static void changes_sort(struct changes *c) {
	size_t common = changes_common(c);

	for (size_t i = 0; i < c->count; i++) {
		const char *p = c->all[i].name + common;

		for (int n = 56; n >= 0 && *p; n -= 8)
			c->all[i].key |= (uint64_t)(unsigned char)*p++ << n;
	}
	qsort(c->all, c->count, sizeof(*c->all), change_compare);
}

/* The changes of all jobs, by name: neighbours in the tree are put one after the other. */
static int changes_collect(const struct job *jobs, struct changes *ret) {
	struct changes c = {0};

	for (const struct job *job = jobs; job; job = job->next)
		c.count += job->count;
	c.all = calloc(MAX_OF(c.count, (size_t)1), sizeof(*c.all));
	if (!c.all)
		return -ENOMEM;
	c.count = 0;
	for (const struct job *job = jobs; job; job = job->next)
		for (size_t i = 0; i < job->count; i++, c.count++)
			c.all[c.count] = (struct change){.name = job->limits[i].name,
				.limit = job->limits[i].limit,
				.order = (uint32_t)c.count};
	if (!changes_are_sorted(&c))
		changes_sort(&c);
	*ret = c;
	return 0;
}

static int limits_fill(struct database_txn *txn, void *data) {
	const struct changes *c = data;

	for (size_t i = 0; i < c->count; i++) {
		const struct change *change = &c->all[i];
		struct limit_value value = {.limit = change->limit};
		int r;

		if (i + FETCHED_BEFORE < c->count)
			__builtin_prefetch(c->all[i + FETCHED_BEFORE].name);
		r = change->limit == STORE_DELETE ? database_delete(txn, change->name)
						  : database_put(txn, change->name, &value);
		if (r < 0)
			return r;
	}
	return 0;
}

static int limits_commit(struct store *s, const struct job *jobs) {
	struct changes c;
	int r = changes_collect(jobs, &c);

	if (r < 0)
		return r;
	r = database_write(s->limits, limits_fill, &c); /* 1, 2 */
	free(c.all);
	return r;
}

/* The client is told every time; the log when something changes. */
static void limits_log(struct store *s, int error) {
	if (error == s->last_error || error == -EINVAL)
		return;
	s->last_error = error;
	if (error == 0)
		log_notice("limits are stored in %s again", s->limits_dir);
	else
		log_event(LOG_ERR, EVENT_UNSTORED, NULL,
			"can't store limits in %s: %s; %s; refusing changes meanwhile",
			s->limits_dir, strerror(-error), database_advice(error));
}

static void do_limits(struct store *s, struct job *jobs) {
	int r = limits_commit(s, jobs);

	for (struct job *job = jobs; job; job = job->next)
		job->error = r;
	/* One bad job fails the transaction, but shall not fail the others. */
	if (r < 0 && jobs->next)
		for (struct job *job = jobs; job; job = job->next) {
			struct job alone = *job;

			alone.next = NULL;
			r = job->error = limits_commit(s, &alone);
		}
	limits_log(s, r);
}

/* -- the worker -------------------------------------------------------------------------------- */

static void do_counts(struct store *s, struct job *job) {
	(void)pthread_mutex_lock(&s->counts_mutex);
	job->error = counts_write(s->counts, job->counts, job->count, job->names);
	(void)pthread_mutex_unlock(&s->counts_mutex);
}

static void do_sync(struct store *s) {
	(void)pthread_mutex_lock(&s->counts_mutex);
	(void)counts_sync(s->counts);
	(void)pthread_mutex_unlock(&s->counts_mutex);
}

/* What can't be checked may still be opened; if not, opening says why. */
static int limits_open(struct store *s) {
	return database_check(s->limits) == -EUCLEAN ? -EUCLEAN : database_open(s->limits);
}

/* Both are read through while the event loop's thread does what it can without: first what that will
 * wait for. */
static void do_open(struct store *s) {
	int r = limits_open(s);

	(void)pthread_mutex_lock(&s->mutex);
	s->opened = true;
	s->open_error = r;
	(void)pthread_cond_broadcast(&s->open_done);
	(void)pthread_mutex_unlock(&s->mutex);
	if (r < 0)
		return;
	(void)pthread_mutex_lock(&s->counts_mutex);
	counts_begin(s->counts);
	(void)pthread_mutex_unlock(&s->counts_mutex);
}

static void do_batch(struct store *s, struct job *jobs) {
	if (jobs->limits)
		do_limits(s, jobs);
	else
		do_counts(s, jobs);
}

/* Returns jobs that have waited long enough for nothing, or an empty batch: the time has come for
 * something else. Called and returns with the mutex. */
static struct job_list wait_for_batch(struct store *s, int64_t until) {
	struct timespec t = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
	int r = 0;

	while (!s->waiting.first && !s->stopping && !s->resting && r == 0)
		r = until == INT64_MAX ? pthread_cond_wait(&s->wake, &s->mutex)
				       : pthread_cond_timedwait(&s->wake, &s->mutex, &t);
	return take_batch(&s->waiting);
}

/* Called and returns with the mutex. */
static void hand_back(struct store *s, struct job_list batch) {
	uint64_t one = 1;

	list_append(&s->finished, batch); /* 3 */
	/* Only a counter that is about to overflow could refuse, and it is readable then. */
	(void)!write(s->event_fd, &one, sizeof(one));
}

static size_t batch_names(const struct job_list *batch) {
	size_t names = 0;

	for (const struct job *job = batch->first; job; job = job->next)
		names += job->count;
	return names;
}

/* An environment keeps a page for each that its largest transaction changed, until it is closed; the
 * next job opens it again. Called and returns with the mutex. */
static void worker_rest(struct store *s) {
	(void)pthread_mutex_unlock(&s->mutex);
	database_close(s->limits);
	(void)pthread_mutex_lock(&s->counts_mutex);
	counts_rest(s->counts);
	(void)pthread_mutex_unlock(&s->counts_mutex);
	memory_give_back();
	(void)pthread_mutex_lock(&s->mutex);
}

static void *worker_run(void *data) {
	struct store *s = data;
	size_t written = 0;

	do_open(s);
	(void)pthread_mutex_lock(&s->mutex);
	for (;;) {
		struct job_list batch = wait_for_batch(s, counts_sync_due(s->counts));

		if (!batch.first && s->stopping)
			break;
		written += batch_names(&batch);
		(void)pthread_mutex_unlock(&s->mutex);
		if (batch.first)
			do_batch(s, batch.first);
		if (clock_monotonic_ms() >= counts_sync_due(s->counts))
			do_sync(s);
		(void)pthread_mutex_lock(&s->mutex);
		if (batch.first)
			hand_back(s, batch);
		if ((s->resting || written > REST_AFTER) && !s->waiting.first) {
			s->resting = false;
			written = 0;
			worker_rest(s);
		}
	}
	(void)pthread_mutex_unlock(&s->mutex);
	return NULL;
}

/* Signals are the event loop's. */
static int worker_start(struct store *s) {
	sigset_t all, before;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&s->worker, NULL, worker_run, s);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	s->worker_runs = r == 0;
	if (r < 0)
		log_error("Can't start the thread of the store: %s; allow the service more tasks",
			strerror(-r));
	return r;
}

/* -- opening and closing ----------------------------------------------------------------------- */

/* The directory and not the state directory itself, which the caller may want to lock. */
static int limits_lock(struct store *s) {
	s->lock_fd = open(s->limits_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->lock_fd < 0)
		return -errno;
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return 0;
}

static int limits_make(struct store *s) {
	int r = dir_make(s->limits_dir);

	if (r == 0)
		r = limits_lock(s);
	return r < 0 ? r : database_make(s->limits);
}

static int store_init_queue(struct store *s) {
	pthread_condattr_t monotonic;

	(void)pthread_mutex_init(&s->mutex, NULL);
	(void)pthread_mutex_init(&s->counts_mutex, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&s->wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	(void)pthread_cond_init(&s->open_done, NULL);
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->event_fd < 0 ? -errno : 0;
}

static int store_init(struct store *s, const char *state_dir) {
	int r = store_init_queue(s);

	if (r < 0)
		return r;
	if (asprintf(&s->limits_dir, "%s/limits", state_dir) < 0) {
		s->limits_dir = NULL;
		return -ENOMEM;
	}
	r = database_new(s->limits_dir, "limits", sizeof(struct limit_value), true, &s->limits);
	return r < 0 ? r : dir_make(state_dir);
}

static int say_unopened(const struct store *s, int error) {
	log_error("can't open the limits in %s: %s; %s", s->limits_dir, strerror(-error),
		database_advice(error));
	return error;
}

int store_begin(const char *state_dir, struct store **ret) {
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->lock_fd = s->event_fd = -1;
	r = store_init(s, state_dir);
	if (r == 0)
		r = limits_make(s);
	if (r < 0 && s->limits_dir)
		(void)say_unopened(s, r);
	if (r == 0)
		r = counts_new(state_dir, &s->counts);
	if (r == 0)
		r = worker_start(s);
	if (r < 0) {
		store_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int store_wait(struct store *s) {
	int r;

	(void)pthread_mutex_lock(&s->mutex);
	while (!s->opened)
		(void)pthread_cond_wait(&s->open_done, &s->mutex);
	r = s->open_error;
	(void)pthread_mutex_unlock(&s->mutex);
	if (r < 0)
		return say_unopened(s, r);
	s->large = store_count_limits(s) > REST_AFTER;
	return 0;
}

static void worker_stop(struct store *s) {
	(void)pthread_mutex_lock(&s->mutex);
	s->stopping = true;
	(void)pthread_cond_signal(&s->wake);
	(void)pthread_mutex_unlock(&s->mutex);
	(void)pthread_join(s->worker, NULL);
	store_dispatch(s);
}

void store_free(struct store *s) {
	if (!s)
		return;
	if (s->worker_runs)
		worker_stop(s);
	/* Limits were synced with each commit. */
	counts_free(s->counts);
	database_free(s->limits);
	close_cleanup(&s->lock_fd);
	close_cleanup(&s->event_fd);
	free(s->limits_dir);
	(void)pthread_cond_destroy(&s->wake);
	(void)pthread_cond_destroy(&s->open_done);
	(void)pthread_mutex_destroy(&s->counts_mutex);
	(void)pthread_mutex_destroy(&s->mutex);
	free(s);
}

/* -- the event loop's side --------------------------------------------------------------------- */

int store_fd(const struct store *s) {
	return s->event_fd;
}

void store_dispatch(struct store *s) {
	struct job_list finished;
	uint64_t events;

	/* Before the list is taken: what is added later makes it readable again. */
	(void)!read(s->event_fd, &events, sizeof(events));
	(void)pthread_mutex_lock(&s->mutex);
	finished = s->finished;
	s->finished = (struct job_list){0};
	(void)pthread_mutex_unlock(&s->mutex);

	while (finished.first) {
		struct job *job = list_take(&finished);

		job->done(job->data, job->error); /* 4 */
		job_free(job);
	}
}

static int hand_over(struct store *s, const struct job *job) {
	struct job *copy = malloc(sizeof(*copy));
	bool stopping;

	if (!copy)
		return -ENOMEM;
	*copy = *job;
	(void)pthread_mutex_lock(&s->mutex);
	stopping = s->stopping;
	if (!stopping)
		list_append(&s->waiting, (struct job_list){copy, copy});
	(void)pthread_cond_signal(&s->wake);
	(void)pthread_mutex_unlock(&s->mutex);
	if (stopping)
		free(copy);
	return stopping ? -ESHUTDOWN : 0;
}

int store_put_limits(struct store *s, const struct store_limit *limits, size_t count,
	store_done done, void *data) {
	const struct job job = {.limits = limits, .count = count, .done = done, .data = data};

	assert(limits);
	return hand_over(s, &job);
}

int store_put_counts(struct store *s, struct store_count *counts, size_t count, char *names,
	store_done done, void *data) {
	const struct job job = {
		.counts = counts, .names = names, .count = count, .done = done, .data = data};

	int r = hand_over(s, &job);

	if (r < 0) {
		free(counts);
		free(names);
	}
	return r;
}

struct reader {
	store_each_limit each;
	void *data;
};

static int limit_read(void *data, const char *name, const void *value) {
	const struct reader *reader = data;
	struct limit_value v;

	memcpy(&v, value, sizeof(v));
	return reader->each(reader->data, name, v.limit);
}

uint32_t store_count_limits(struct store *s) {
	return (uint32_t)MIN_OF(database_count(s->limits), (size_t)BERTH_ACCOUNTS_MAX);
}

int store_read_limits(struct store *s, store_each_limit each, void *data) {
	struct reader reader = {.each = each, .data = data};

	return database_read(s->limits, limit_read, &reader);
}

int store_read_counts(struct store *s, size_t most, store_each_count each, void *data) {
	int r;

	(void)pthread_mutex_lock(&s->counts_mutex);
	r = counts_read(s->counts, most, each, data);
	(void)pthread_mutex_unlock(&s->counts_mutex);
	return r;
}

void store_read_done(struct store *s) {
	if (!s->large)
		return;
	(void)pthread_mutex_lock(&s->mutex);
	s->resting = true;
	(void)pthread_cond_signal(&s->wake);
	(void)pthread_mutex_unlock(&s->mutex);
}
