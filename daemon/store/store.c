/* SPDX-License-Identifier: MIT */

/* Takes jobs from the event loop, does them in one worker thread, and hands them back.
 *
 * Invariant: a change that berthd has acknowledged stays.
 *   1. the waiting limit jobs go into one transaction; 2. its commit is synced (lmdb.c);
 *   3. the jobs go to `finished`; 4. store_dispatch calls their done(), which sends the reply.
 *   If berthd dies before 2 ends, the store has the old limits, or the new ones, which berthd
 *   hasn't acknowledged to any client. If it dies after 2, the store has the new limits.
 *
 * At the start a child checks both files (check.c). The child is forked before the worker exists.
 * store_wait waits for the child's report on the limits, and the worker waits for the report on the
 * counts. */

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "bounds.h"
#include "check.h"
#include "clock.h"
#include "counts.h"
#include "dir.h"
#include "export.h"
#include "limits.h"
#include "log.h"
#include "store.h"
#include "util.h"

/* At most this many limits share a commit; but a job is never divided. */
#define BATCH_LIMITS 65536

struct job {
	struct job *next;
	const struct store_limit *limits; /* NULL: a job of counts */
	struct store_count *counts;       /* freed with the job, like `names` */
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
	char *state_dir;
	struct check check;
	struct limits *limits; /* the worker's, once it runs */
	struct export *export; /* the worker's, too */
	struct counts *counts;
	pthread_mutex_t counts_mutex; /* held while a thread uses the counts */
	bool counts_begun;
	size_t limit_count; /* how many limits there were at the start */

	pthread_t worker;
	bool worker_runs;
	int event_fd;
	pthread_mutex_t mutex; /* protects what follows */
	pthread_cond_t wake;
	struct job_list waiting, finished;
	bool stopping;
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

/* -- the worker -------------------------------------------------------------------------------- */

/* Commits the changes of all jobs in the list. */
static int limits_commit(struct store *s, const struct job *jobs) {
	_cleanup_free_ struct limit_change *changes = NULL;
	size_t count = 0;

	for (const struct job *job = jobs; job; job = job->next)
		count += job->count;
	changes = calloc(MAX_OF(count, (size_t)1), sizeof(*changes));
	if (!changes)
		return -ENOMEM;
	count = 0;
	for (const struct job *job = jobs; job; job = job->next)
		for (size_t i = 0; i < job->count; i++, count++)
			changes[count] = (struct limit_change){.name = job->limits[i].name,
				.limit = job->limits[i].limit,
				.order = (uint32_t)count};
	return limits_write(s->limits, changes, count);
}

static void do_limits(struct store *s, struct job *jobs) {
	int r = limits_commit(s, jobs);
	bool committed = r == 0;

	for (struct job *job = jobs; job; job = job->next)
		job->error = r;
	/* One bad job makes the transaction fail. So each job is tried again alone. */
	if (r < 0 && jobs->next && r != -ENOTRECOVERABLE && r != -ESTALE)
		for (struct job *job = jobs; job; job = job->next) {
			struct job alone = *job;

			alone.next = NULL;
			r = job->error = limits_commit(s, &alone);
			committed = committed || r == 0;
		}
	if (committed)
		export_note_change(s->export);
	limits_log(s->limits, r);
}

/* Opens the counts, when a thread first needs them. The caller holds counts_mutex. */
static void counts_begin_once(struct store *s) {
	struct check_report report;

	if (s->counts_begun)
		return;
	s->counts_begun = true;
	check_next(&s->check, &report);
	check_end(&s->check);
	counts_begin(s->counts, report.error, report.text);
}

/* Waits for jobs. Returns one job of counts, or as many consecutive jobs of limits as share one
 * transaction, or an empty batch when other work is due or the worker is to stop. The caller holds
 * the mutex, which is unlocked only during the wait. */
static struct job_list wait_for_batch(struct store *s) {
	int64_t export_or_reopen = MIN_OF(limits_reopen_due(s->limits), export_due(s->export));
	int64_t due = MIN_OF(export_or_reopen, counts_sync_due(s->counts));
	struct timespec t = {.tv_sec = due / 1000, .tv_nsec = due % 1000 * 1000000};
	struct job_list batch = {0};
	size_t limits = 0;
	int r = 0;

	while (!s->waiting.first && !s->stopping && r == 0)
		r = due == INT64_MAX ? pthread_cond_wait(&s->wake, &s->mutex)
				     : pthread_cond_timedwait(&s->wake, &s->mutex, &t);
	while (s->waiting.first) {
		const struct job *next = s->waiting.first;
		struct job *job;

		if (batch.first && (!next->limits || limits + next->count > BATCH_LIMITS))
			break;
		job = list_take(&s->waiting);
		list_append(&batch, (struct job_list){job, job});
		if (!job->limits)
			break;
		limits += job->count;
	}
	return batch;
}

static void *worker_run(void *data) {
	struct store *s = data;

	(void)pthread_mutex_lock(&s->counts_mutex);
	counts_begin_once(s);
	(void)pthread_mutex_unlock(&s->counts_mutex);
	export_note_change(s->export);
	(void)pthread_mutex_lock(&s->mutex);
	for (;;) {
		struct job_list batch = wait_for_batch(s);
		struct job *job = batch.first;
		const uint64_t one = 1;
		int64_t now;

		if (!job && s->stopping)
			break;
		(void)pthread_mutex_unlock(&s->mutex);
		if (job && job->limits)
			do_limits(s, job);
		if (job && !job->limits) {
			(void)pthread_mutex_lock(&s->counts_mutex);
			job->error = counts_write(s->counts, job->counts, job->count, job->names);
			(void)pthread_mutex_unlock(&s->counts_mutex);
		}
		now = clock_monotonic_ms();
		if (now >= counts_sync_due(s->counts)) {
			(void)pthread_mutex_lock(&s->counts_mutex);
			(void)counts_sync(s->counts);
			(void)pthread_mutex_unlock(&s->counts_mutex);
		}
		if (now >= limits_reopen_due(s->limits))
			(void)limits_reopen(s->limits);
		if (job) {
			(void)pthread_mutex_lock(&s->mutex);
			list_append(&s->finished, batch); /* 3 */
			(void)pthread_mutex_unlock(&s->mutex);
			/* The write fails only if the eventfd's counter would overflow. Then the
			 * eventfd is readable anyway. */
			(void)!write(s->event_fd, &one, sizeof(one));
		}
		/* The export comes after the answers, since it may take a second. */
		if (clock_monotonic_ms() >= export_due(s->export))
			export_write(s->export);
		(void)pthread_mutex_lock(&s->mutex);
	}
	(void)pthread_mutex_unlock(&s->mutex);
	if (export_due(s->export) != INT64_MAX)
		export_write(s->export);
	return NULL;
}

/* -- opening and closing ----------------------------------------------------------------------- */

static int store_init(struct store *s, const char *state_dir) {
	_cleanup_free_ char *limits = dir_path(state_dir, "limits");
	_cleanup_free_ char *counts = dir_path(state_dir, "counts");
	pthread_condattr_t monotonic;
	int r;

	(void)pthread_mutex_init(&s->mutex, NULL);
	(void)pthread_mutex_init(&s->counts_mutex, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&s->wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event_fd < 0)
		return -errno;
	s->state_dir = strdup(state_dir);
	if (!s->state_dir || !limits || !counts)
		return -ENOMEM;
	r = dir_make(state_dir, 0700);
	if (r == 0)
		r = limits_new(limits, &s->limits);
	if (r == 0)
		r = export_new(state_dir, s->limits, &s->export);
	return r < 0 ? r : counts_new(counts, &s->counts);
}

/* -ENOENT: the limits are gone, but there is an export of them. With an empty store berthd would
 * refuse every client, and its first exports would replace the one that has the limits. */
static int limits_look(const struct store *s) {
	_cleanup_free_ char *newest = export_newest(s->state_dir);
	const char *path = lmdb_path(limits_lmdb(s->limits));

	if (!newest || access(path, F_OK) == 0)
		return 0;
	log_event(LOG_ERR, EVENT_LIMITS_DAMAGED, NULL,
		"%s is missing, but there is an export. Not starting. To restore the limits: "
		"berthd --state-dir %s --restore %s. To begin without limits, move the exports "
		"away",
		path, s->state_dir, newest);
	return -ENOENT;
}

int store_begin(const char *state_dir, struct store **ret) {
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->event_fd = s->check.fd = -1;
	r = store_init(s, state_dir);
	if (r == 0)
		r = limits_look(s);
	if (r == 0)
		r = limits_make(s->limits);
	if (r == 0) {
		const struct lmdb *all[] = {limits_lmdb(s->limits), counts_lmdb(s->counts)};

		r = check_begin(&s->check, all, ELEMENTS(all));
		if (r < 0)
			log_error("Can't start the process that checks the limits: %s; allow the "
				  "service more tasks",
				strerror(-r));
	}
	if (r < 0)
		store_free(s);
	else
		*ret = s;
	return r;
}

int store_wait(struct store *s) {
	const char *path = lmdb_path(limits_lmdb(s->limits));
	_cleanup_free_ char *newest = NULL;
	struct check_report report;

	check_next(&s->check, &report);
	s->limit_count = report.entries;
	if (report.error == 0)
		return limits_open(s->limits);
	if (report.error != -EUCLEAN) {
		log_error("can't check %s: %s%s%s; %s", path, report.text, *report.text ? ": " : "",
			strerror(-report.error), lmdb_advice(report.error));
		return report.error;
	}
	newest = export_newest(s->state_dir);
	log_event(LOG_ERR, EVENT_LIMITS_DAMAGED, NULL,
		"%s is damaged, %s. Leaving it as it is, and not starting. %s: "
		"berthd --state-dir %s --restore %s",
		path, report.text,
		newest ? "The newest export is restored by"
		       : "There is no export beside it; another one is restored by",
		s->state_dir, newest ? newest : "FILE");
	return report.error;
}

/* The worker blocks all signals, so that the event loop's thread gets them. */
int store_start(struct store *s) {
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

void store_free(struct store *s) {
	if (!s)
		return;
	if (s->worker_runs) {
		(void)pthread_mutex_lock(&s->mutex);
		s->stopping = true;
		(void)pthread_cond_signal(&s->wake);
		(void)pthread_mutex_unlock(&s->mutex);
		(void)pthread_join(s->worker, NULL);
		store_dispatch(s);
	}
	check_end(&s->check);
	export_free(s->export);
	counts_free(s->counts);
	/* The limits need no sync here: each commit was synced. */
	limits_free(s->limits);
	close_cleanup(&s->event_fd);
	(void)pthread_cond_destroy(&s->wake);
	(void)pthread_mutex_destroy(&s->counts_mutex);
	(void)pthread_mutex_destroy(&s->mutex);
	free(s->state_dir);
	free(s);
}

/* -- the event loop's side --------------------------------------------------------------------- */

int store_fd(const struct store *s) {
	return s->event_fd;
}

void store_dispatch(struct store *s) {
	struct job_list finished;
	uint64_t events;

	/* The event is read before the list is taken: a job that is added later makes the
	 * descriptor readable again. */
	(void)!read(s->event_fd, &events, sizeof(events));
	(void)pthread_mutex_lock(&s->mutex);
	finished = s->finished;
	s->finished = (struct job_list){0};
	(void)pthread_mutex_unlock(&s->mutex);

	while (finished.first) {
		struct job *job = list_take(&finished);

		job->done(job->data, job->error); /* 4 */
		free(job->counts);
		free(job->names);
		free(job);
	}
}

static int hand_over(struct store *s, struct job job) {
	struct job *copy;

	/* A done() that store_free calls may hand over another job. */
	if (s->stopping)
		return -ESHUTDOWN;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = job;
	(void)pthread_mutex_lock(&s->mutex);
	list_append(&s->waiting, (struct job_list){copy, copy});
	(void)pthread_cond_signal(&s->wake);
	(void)pthread_mutex_unlock(&s->mutex);
	return 0;
}

int store_put_limits(struct store *s, const struct store_limit *limits, size_t count,
	store_done done, void *data) {
	assert(limits);
	return hand_over(
		s, (struct job){.limits = limits, .count = count, .done = done, .data = data});
}

int store_put_counts(struct store *s, struct store_count *counts, size_t count, char *names,
	store_done done, void *data) {
	int r = hand_over(s, (struct job){.counts = counts,
				     .names = names,
				     .count = count,
				     .done = done,
				     .data = data});

	if (r < 0) {
		free(counts);
		free(names);
	}
	return r;
}

uint32_t store_count_limits(const struct store *s) {
	return (uint32_t)MIN_OF(s->limit_count, (size_t)BERTH_ACCOUNTS_MAX);
}

int store_read_limits(struct store *s, store_each_limit each, void *data) {
	return limits_read(s->limits, each, data);
}

int store_read_counts(struct store *s, size_t most, store_each_count each, void *data) {
	int r;

	(void)pthread_mutex_lock(&s->counts_mutex);
	counts_begin_once(s);
	r = counts_read(s->counts, most, each, data);
	(void)pthread_mutex_unlock(&s->counts_mutex);
	return r;
}

bool store_is_unsure(int error) {
	return error == -ENOTRECOVERABLE;
}

const char *store_explain(const struct store *s, int error, char *to, size_t size) {
	if (error == -ESTALE)
		(void)snprintf(to, size,
			"the limits aren't open since the disk failed during an earlier change "
			"(%s); berthd tries to open them again every second",
			strerror(-limits_reopen_error(s->limits)));
	else
		(void)snprintf(to, size, "%s",
			store_is_unsure(error) ? "the disk failed during the commit"
					       : strerror(-error));
	return to;
}
