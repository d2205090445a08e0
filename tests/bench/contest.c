/* SPDX-License-Identifier: MIT */

/*
 * Runs contests. Each contender has a crew of workers: processes that are forked and pinned once,
 * or threads of one such process. Between slices the workers wait in read(2), so that they don't
 * slow other workers down. The workers of a crew begin a slice together.
 *
 * A slice is many batches of at most a millisecond; the slice's figure is the median of its
 * batches. So batches during which another program had the CPU don't matter. Where several
 * processes measure what they cost each other, a batch counts only if all of them ran meanwhile or,
 * if they are more than the CPUs, one on every CPU. A timed contender times single operations, and
 * leaves out those during which the scheduler took the CPU away.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"
#include "contest.h"

#define SLICE_NS     (20 * NS_OF_MS)
#define SLICE_NS_MAX (10 * SLICE_NS) /* a slice ends then, even if few batches count */
#define SLICE_NS_MIN (SLICE_NS / 10) /* of batches that count; with less, the slice is repeated */
#define TRIES        (bench.quick ? 3u : 20u)
#define BATCHES_MAX  4096
#define BATCH_PARTS  4     /* a worker updates its progress after each part */
#define LONG_NS      20000 /* an operation this long may have been preempted */
#define ANSWER_MS    120000

/* What a worker measured in a slice. */
struct slice {
	double ns;         /* the time of an operation in the median batch */
	double operations; /* how many, in all batches */
	double cpu_ns;     /* the CPU time of all batches */
	double counted_ns; /* the time of the batches that count */
	struct histogram histogram;
};

/* Memory that the workers of a crew share with each other and with the driver. */
struct shared {
	_Atomic unsigned begun; /* counts every worker at the start of every slice */
	_Atomic unsigned ended; /* the number of the last slice that a worker has ended */
	struct {
		_Alignas(64) _Atomic unsigned parts; /* how many parts the worker has done */
	} progress[PROCESSES_MAX];
	_Alignas(64) struct slice slice[PROCESSES_MAX];
};

struct worker {
	struct crew *crew;
	unsigned number, object;
	pid_t pid;              /* 0: a thread of the first worker's process */
	int start[2], ready[2]; /* pipes: the driver writes a byte to start, the worker to ready */
	unsigned long batch;    /* operations in a batch; 0: not known yet */
	/* At the start of the present batch: */
	unsigned parts[PROCESSES_MAX]; /* the progress of all workers */
	long preempted;
};

struct crew {
	struct contender *contender;
	unsigned count;
	struct shared *shared;
	struct worker worker[PROCESSES_MAX];
};

/* -- batches ----------------------------------------------------------------------------------- */

/* How often the scheduler has taken the CPU away from this thread. */
static long preemptions(void) {
	struct rusage usage;

	(void)getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

/* A batch takes a millisecond, so that reading the clock costs next to nothing. If the contender
 * doesn't permit so large a batch, the batch is as large as permitted. */
static unsigned long batch_size(const struct worker *w) {
	const struct contender *c = w->crew->contender;
	unsigned long n = BATCH_PARTS, most = c->batch ? c->batch : BATCH_MAX;
	double start, ns = 0;

	if (c->timed)
		return most;
	while (n < most && ns < NS_OF_MS) {
		n *= 2;
		if (c->prepare)
			c->prepare(w->object, n);
		start = bench_now();
		c->run(w->object, n);
		ns = bench_now() - start;
	}
	return n;
}

static void run_timed(
	const struct contender *c, unsigned object, unsigned long n, struct histogram *h) {
	static _Thread_local long preempted;
	double before = bench_now(), now;

	while (n-- > 0) {
		c->run(object, 1);
		now = bench_now();
		if (now - before < LONG_NS || preemptions() == preempted) {
			histogram_add(h, (uint64_t)(now - before));
		} else {
			preempted = preemptions();
			now = bench_now();
		}
		before = now;
	}
}

/* How many of a crew's workers can run at the same time. */
static unsigned cpus_of(const struct crew *crew) {
	return crew->count < cpus_count() ? crew->count : cpus_count();
}

/* True if a batch counts only when every CPU was at work during it. All batches of a timed
 * contender count: its result includes operations during which another process didn't run. */
static bool wants_overlap(const struct crew *crew) {
	return cpus_of(crew) > 1 && !crew->contender->timed;
}

/* True if, since this worker's batch began, at least as many workers as can run at the same time
 * did half a batch, and this thread wasn't preempted. */
static bool has_overlapped(const struct worker *w) {
	const struct crew *crew = w->crew;
	unsigned at_work = 0;

	for (unsigned i = 0; i < crew->count; i++)
		at_work += crew->shared->progress[i].parts - w->parts[i] >= BATCH_PARTS / 2;
	return at_work >= cpus_of(crew) && preemptions() == w->preempted;
}

static double run_batch(struct worker *w, struct histogram *h) {
	const struct contender *c = w->crew->contender;
	struct shared *shared = w->crew->shared;
	unsigned parts = wants_overlap(w->crew) ? BATCH_PARTS : 1;
	double start;

	if (c->prepare)
		c->prepare(w->object, w->batch);
	for (unsigned i = 0; i < w->crew->count; i++)
		w->parts[i] = shared->progress[i].parts;
	w->preempted = preemptions();
	start = bench_now();
	for (unsigned i = 0; i < parts; i++) {
		if (c->timed)
			run_timed(c, w->object, w->batch / parts, h);
		else
			c->run(w->object, w->batch / parts);
		shared->progress[w->number].parts++;
	}
	return bench_now() - start;
}

/* Runs batches until this worker, or another worker of the crew, has measured for long enough. */
static void run_slice(struct worker *w, unsigned number) {
	static _Thread_local double each[BATCHES_MAX];
	struct shared *shared = w->crew->shared;
	struct slice *slice = &shared->slice[w->number];
	double start = bench_cpu_now(), total = 0;
	unsigned count = 0, batches = 0;

	memset(slice, 0, sizeof(*slice));
	do {
		double ns = run_batch(w, &slice->histogram);

		total += ns;
		batches++;
		if (wants_overlap(w->crew) && !has_overlapped(w))
			continue;
		slice->counted_ns += ns;
		each[count++] = ns;
	} while (slice->counted_ns < SLICE_NS && total < SLICE_NS_MAX && count < BATCHES_MAX &&
		 shared->ended < number);
	shared->ended = number;
	slice->cpu_ns = bench_cpu_now() - start;
	slice->operations = (double)w->batch * batches;
	slice->ns = (count ? median_of(each, count) : total / batches) / (double)w->batch;
}

/* -- workers ----------------------------------------------------------------------------------- */

static void *worker_run(void *data) {
	struct worker *w = data;
	struct shared *shared = w->crew->shared;
	char byte;

	cpus_pin_worker(w->number);
	for (unsigned number = 1;; number++) {
		bench_check(write(w->ready[1], "", 1) == 1, "write to the driver");
		if (read(w->start[0], &byte, 1) != 1)
			_exit(EXIT_SUCCESS);
		if (w->batch == 0)
			w->batch = batch_size(w);
		shared->begun++;
		while (shared->begun < w->crew->count * number)
			if (w->crew->count > cpus_count())
				(void)sched_yield();
		run_slice(w, number);
	}
}

/* In the driver: waits until the worker has opened its peer or ended its slice. */
static void worker_wait(const struct worker *w) {
	struct pollfd p = {.fd = w->ready[0], .events = POLLIN};
	char byte;
	int n;

	do {
		n = poll(&p, 1, ANSWER_MS);
		bench_continue();
	} while (n < 0 && errno == EINTR);
	errno = n == 0 ? ETIMEDOUT : ECHILD;
	bench_check(n == 1 && read(p.fd, &byte, 1) == 1, w->crew->contender->name);
}

/* -- crews ------------------------------------------------------------------------------------- */

/* Called in a new process. If the contender has threads, each of the `count` workers gets a thread
 * of its own. Otherwise there is one worker, which runs in the process's only thread. */
static void process_run(struct worker *workers, unsigned count) {
	const struct contender *c = workers->crew->contender;
	pthread_t thread;

	cpus_pin_worker(workers->number);
	if (c->peer && c->peer->open)
		c->peer->open();
	if (c->open)
		c->open(workers->object);
	if (!c->threads)
		(void)worker_run(workers);
	for (unsigned i = 0; i < count; i++)
		bench_check(pthread_create(&thread, NULL, worker_run, &workers[i]) == 0,
			"pthread_create");
	for (;;)
		(void)pause();
}

static void crew_start(struct crew *crew, struct contender *c) {
	unsigned of_process;

	crew->contender = c;
	crew->count = c->processes ? c->processes : 1;
	crew->shared = bench_share(sizeof(*crew->shared));
	of_process = c->threads ? crew->count : 1;
	for (unsigned first = 0; first < crew->count; first += of_process) {
		struct worker *w = &crew->worker[first];

		for (unsigned i = 0; i < of_process; i++) {
			w[i] = (struct worker){.crew = crew, .number = first + i};
			w[i].object = c->object + (c->apart ? first + i : 0);
			bench_check(pipe(w[i].start) == 0 && pipe(w[i].ready) == 0, "pipe");
		}
		w->pid = bench_fork();
		if (w->pid == 0)
			process_run(w, of_process);
		for (unsigned i = 0; i < of_process; i++) {
			/* Only the worker's process keeps these ends. So the driver notices the
			 * worker's death. */
			(void)close(w[i].start[0]);
			(void)close(w[i].ready[1]);
			worker_wait(&w[i]);
		}
	}
}

static void crew_end(struct crew *crew) {
	for (unsigned i = 0; i < crew->count; i++) {
		bench_kill(crew->worker[i].pid);
		(void)close(crew->worker[i].start[1]);
		(void)close(crew->worker[i].ready[0]);
	}
	if (crew->shared)
		(void)munmap(crew->shared, sizeof(*crew->shared));
}

/* Repeats the slice if the machine was so busy that the workers hardly ever had a CPU each. */
static void crew_run_slice(struct crew *crew) {
	unsigned tries = TRIES, measured;

	do {
		for (unsigned i = 0; i < crew->count; i++)
			bench_check(
				write(crew->worker[i].start[1], "", 1) == 1, "write to a worker");
		measured = 0;
		for (unsigned i = 0; i < crew->count; i++) {
			worker_wait(&crew->worker[i]);
			measured += crew->shared->slice[i].counted_ns >= SLICE_NS_MIN;
		}
	} while (measured < cpus_of(crew) && --tries > 0);
}

/* -- results ----------------------------------------------------------------------------------- */

/* The operations that a process does in a ns: the mean of the processes in which batches counted
 * or, if there are none, of all processes. */
static double mean_speed(const struct crew *crew) {
	double speeds[2] = {0, 0};
	unsigned count[2] = {0, 0};

	for (unsigned i = 0; i < crew->count; i++) {
		const struct slice *slice = &crew->shared->slice[i];
		bool counts = slice->counted_ns > 0;

		speeds[counts] += 1 / slice->ns;
		count[counts]++;
	}
	return count[1] ? speeds[1] / count[1] : speeds[0] / count[0];
}

/* The speed of the slowest process, by its own CPU time, divided by the mean. */
static double share_of_slowest(const struct crew *crew) {
	double all = 0, slowest = 0;

	for (unsigned i = 0; i < crew->count; i++) {
		const struct slice *slice = &crew->shared->slice[i];
		double speed = slice->operations / slice->cpu_ns;

		all += speed;
		slowest = i == 0 || speed < slowest ? speed : slowest;
	}
	return slowest * crew->count / all;
}

static void add_slice(struct contender *c, const struct crew *crew) {
	double rate = mean_speed(crew) * cpus_of(crew);
	struct histogram all = {0};

	series_add(&c->ns, crew->count / rate);
	series_add(&c->rate, rate * NS_OF_S / 1e6);
	series_add(&c->percent, share_of_slowest(crew) * 100);
	if (!c->timed)
		return;
	for (unsigned i = 0; i < crew->count; i++)
		histogram_merge(&all, &crew->shared->slice[i].histogram);
	series_add(&c->p99, histogram_quantile(&all, 0.99));
	series_add(&c->p999, histogram_quantile(&all, 0.999));
	series_add(&c->longest, (double)all.longest);
}

void contest(struct contender *c, unsigned count, unsigned rounds) {
	struct crew *crews = calloc(count, sizeof(*crews));

	bench_check(crews != NULL, "memory");
	for (unsigned i = 0; i < count; i++)
		if (!c[i].peer || !c[i].peer->missing)
			crew_start(&crews[i], &c[i]);
	for (unsigned round = 0; round <= rounds; round++)
		for (unsigned i = 0; i < count; i++) {
			if (!crews[i].contender)
				continue;
			crew_run_slice(&crews[i]);
			if (round > 0)
				add_slice(&c[i], &crews[i]);
		}
	for (unsigned i = 0; i < count; i++)
		crew_end(&crews[i]);
	free(crews);
}

struct contender contender_of(struct peer *p, unsigned processes, unsigned object) {
	return (struct contender){.name = p->name,
		.peer = p,
		.processes = processes,
		.object = object,
		.apart = object == OBJECT_OWN,
		.run = object == OBJECT_FULL ? p->denials : p->pairs};
}

void contest_rows(struct work *w, const struct contender *c, unsigned count, const char *first) {
	const struct contender *least = c;
	char number[NUMBER_SIZE];

	for (unsigned i = 0; i < count; i++) {
		struct row *r = work_row(
			w, "ns", &c[i].ns, "%s, of %s", c[i].name, count_text(c[i].object, number));

		if (c[i].name == least->name && i > 0)
			row_versus(r, first, &least->ns);
		else
			least = &c[i];
	}
}
