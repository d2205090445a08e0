/* SPDX-License-Identifier: MIT */

/*
 * Runs contests. Each contender has a crew: processes of its own, forked and pinned once, or threads
 * of such a process, that wait for their turn in read(2), so that those whose turn it isn't cost the
 * others nothing. When it is, they begin together.
 *
 * A turn is many batches, of a millisecond at most, and its figure their median: the batches in
 * which somebody else had the CPU for a while don't count. Nor do, where several processes measure
 * what they cost each other, those in which one of them had no CPU. What single operations take is told
 * by contenders that are timed, without those in which the scheduler took the CPU away.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "contest.h"

#define TURN_NS     (20 * NS_OF_MS)
#define TURN_NS_MAX (10 * TURN_NS) /* of a turn whose batches hardly ever count */
#define TURN_NS_MIN (TURN_NS / 10) /* of batches that count; else the turn is taken again */
#define TRIES       (bench.quick ? 3u : 20u)
#define BATCHES_MAX 4096
#define BATCH_PARTS 4     /* after each, the others are told how far one is */
#define LONG_NS     20000 /* long enough for the scheduler to have had a part in it */
#define ANSWER_MS   120000

/* What a worker tells of its turn. */
struct account_of_turn {
	double ns;         /* an operation, in the median batch */
	double operations; /* in all batches, which took so much of a CPU */
	double cpu_ns;
	double measured_ns; /* in batches that count */
	struct histogram histogram;
};

/* Shared by the crew and the driver. */
struct desk {
	_Atomic unsigned begun; /* by all workers in all turns */
	_Atomic unsigned ended; /* the turn that somebody has ended */
	struct {
		_Alignas(64) _Atomic unsigned parts; /* of batches */
	} progress[PROCESSES_MAX];
	_Alignas(64) struct account_of_turn turn[PROCESSES_MAX];
};

struct worker {
	pid_t pid;         /* 0: a thread of the first one's process */
	int order, answer; /* pipes: the driver's ends */
	int hear, say;     /* the worker's */
	unsigned number;
	struct crew *crew;
};

struct crew {
	struct contender *contender;
	unsigned count;
	struct desk *desk;
	struct worker worker[PROCESSES_MAX];
};

/* -- a worker ---------------------------------------------------------------------------------- */

/* A batch is as long as it takes to make the clock's own time vanish: a millisecond, or 1024. */
static unsigned long batch_size(const struct contender *c, unsigned object) {
	unsigned long n = BATCH_PARTS, most = c->batch ? c->batch : BATCH_MAX;
	double start, ns = 0;

	if (c->timed)
		return most;
	while (n < most && ns < NS_OF_MS) {
		n *= 2;
		if (c->prepare)
			c->prepare(object, n);
		start = bench_now();
		c->run(object, n);
		ns = bench_now() - start;
	}
	return n;
}

static double cpu_now(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * NS_OF_S + (double)t.tv_nsec;
}

/* How often the scheduler has taken the CPU away from us. */
static long preemptions(void) {
	struct rusage usage;

	(void)getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
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

/* -- a turn ------------------------------------------------------------------------------------ */

/* One worker at work. */
struct shift {
	const struct contender *contender;
	struct desk *desk;
	unsigned number, processes, object;
	unsigned long batch;
	/* When the batch began: */
	unsigned seen[PROCESSES_MAX]; /* the others' progress */
	long preempted;
};

/* So many can be at work at once. */
static unsigned lanes(unsigned processes) {
	return processes < cpus_count() ? processes : cpus_count();
}

/* Whether the figures are to be of batches only in which every CPU was at work. Where each operation
 * is timed, what happens while another doesn't run is what one wants to know. */
static bool wants_company(const struct shift *s) {
	return lanes(s->processes) > 1 && !s->contender->timed;
}

static void company_note(struct shift *s) {
	for (unsigned i = 0; i < s->processes; i++)
		s->seen[i] = s->desk->progress[i].parts;
	s->preempted = preemptions();
}

/* As many others as there are CPUs for did half a batch at least, while we had ours. */
static bool company_was_there(const struct shift *s) {
	unsigned at_work = 0;

	for (unsigned i = 0; i < s->processes; i++)
		at_work += s->desk->progress[i].parts - s->seen[i] >= BATCH_PARTS / 2;
	return at_work >= lanes(s->processes) && preemptions() == s->preempted;
}

static double run_batch(struct shift *s, struct histogram *h) {
	const struct contender *c = s->contender;
	unsigned parts = wants_company(s) ? BATCH_PARTS : 1;
	double start;

	if (c->prepare)
		c->prepare(s->object, s->batch);
	company_note(s);
	start = bench_now();
	for (unsigned i = 0; i < parts; i++) {
		if (c->timed)
			run_timed(c, s->object, s->batch / parts, h);
		else
			c->run(s->object, s->batch / parts);
		s->desk->progress[s->number].parts++;
	}
	return bench_now() - start;
}

/* Ends for all when one has measured long enough. */
static void take_turn(struct shift *s, unsigned turn, struct account_of_turn *t) {
	static _Thread_local double each[BATCHES_MAX];
	double start = cpu_now(), measured = 0, total = 0;
	unsigned count = 0, batches = 0;

	memset(t, 0, sizeof(*t));
	do {
		double ns = run_batch(s, &t->histogram);

		total += ns;
		batches++;
		if (wants_company(s) && !company_was_there(s))
			continue;
		measured += ns;
		each[count++] = ns;
	} while (measured < TURN_NS && total < TURN_NS_MAX && count < BATCHES_MAX &&
		 s->desk->ended < turn);
	s->desk->ended = turn;
	t->measured_ns = measured;
	t->cpu_ns = cpu_now() - start;
	t->operations = (double)s->batch * batches;
	t->ns = (count ? median_of(each, count) : total / batches) / (double)s->batch;
}

/* Until everybody is here. */
static void begin_together(struct desk *desk, unsigned processes, unsigned turn) {
	desk->begun++;
	while (desk->begun < processes * turn)
		if (processes > cpus_count())
			(void)sched_yield();
}

static unsigned worker_object(const struct worker *w) {
	const struct contender *c = w->crew->contender;

	return c->object + (c->apart ? w->number : 0);
}

/* In its process, before it works. */
static void worker_open(const struct worker *w) {
	const struct contender *c = w->crew->contender;

	cpus_pin_worker(w->number);
	if (c->peer)
		c->peer->open();
	if (c->open)
		c->open(worker_object(w));
}

static void *worker_run(void *data) {
	const struct worker *w = data;
	const struct crew *crew = w->crew;
	struct shift s = {.contender = crew->contender,
		.desk = crew->desk,
		.number = w->number,
		.processes = crew->count,
		.object = worker_object(w)};
	char byte;

	cpus_pin_worker(w->number);
	for (unsigned turn = 1;; turn++) {
		bench_check(write(w->say, "", 1) == 1, "write to the driver");
		if (read(w->hear, &byte, 1) != 1)
			_exit(EXIT_SUCCESS);
		if (!s.batch)
			s.batch = batch_size(s.contender, s.object);
		begin_together(crew->desk, crew->count, turn);
		take_turn(&s, turn, &crew->desk->turn[w->number]);
	}
}

/* -- the crew ---------------------------------------------------------------------------------- */

static void worker_wait(const struct crew *crew, const struct worker *w) {
	struct pollfd p = {.fd = w->answer, .events = POLLIN};
	char byte;
	int n;

	do {
		n = poll(&p, 1, ANSWER_MS);
		bench_continue();
	} while (n < 0 && errno == EINTR);
	errno = n == 0 ? ETIMEDOUT : ECHILD;
	bench_check(n == 1 && read(w->answer, &byte, 1) == 1, crew->contender->name);
}

static void worker_init(struct crew *crew, unsigned number) {
	struct worker *w = &crew->worker[number];
	int order[2], answer[2];

	bench_check(pipe(order) == 0 && pipe(answer) == 0, "pipe");
	*w = (struct worker){.order = order[1],
		.answer = answer[0],
		.hear = order[0],
		.say = answer[1],
		.number = number,
		.crew = crew};
}

static void worker_await(struct worker *w) {
	(void)close(w->hear);
	(void)close(w->say);
	worker_wait(w->crew, w);
}

static void crew_start_processes(struct crew *crew) {
	for (unsigned i = 0; i < crew->count; i++) {
		struct worker *w = &crew->worker[i];

		worker_init(crew, i);
		w->pid = bench_fork();
		if (w->pid == 0) {
			(void)close(w->order);
			(void)close(w->answer);
			worker_open(w);
			(void)worker_run(w);
		}
		worker_await(w);
	}
}

static void threads_run(struct crew *crew) __attribute__((noreturn));

static void threads_run(struct crew *crew) {
	pthread_t thread;

	worker_open(&crew->worker[0]);
	for (unsigned i = 0; i < crew->count; i++)
		bench_check(pthread_create(&thread, NULL, worker_run, &crew->worker[i]) == 0,
			"pthread_create");
	for (;;)
		(void)pause();
}

/* The workers are threads of the first one's process. */
static void crew_start_threads(struct crew *crew) {
	for (unsigned i = 0; i < crew->count; i++)
		worker_init(crew, i);
	crew->worker[0].pid = bench_fork();
	if (crew->worker[0].pid == 0)
		threads_run(crew);
	for (unsigned i = 0; i < crew->count; i++)
		worker_await(&crew->worker[i]);
}

static void crew_start(struct crew *crew, struct contender *c) {
	crew->contender = c;
	crew->count = c->processes ? c->processes : 1;
	crew->desk = mmap(NULL, sizeof(*crew->desk), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bench_check(crew->desk != MAP_FAILED, "mmap");
	if (c->threads)
		crew_start_threads(crew);
	else
		crew_start_processes(crew);
}

static void crew_end(struct crew *crew) {
	for (unsigned i = 0; i < crew->count; i++) {
		bench_kill(crew->worker[i].pid);
		(void)close(crew->worker[i].order);
		(void)close(crew->worker[i].answer);
	}
	if (crew->desk)
		(void)munmap(crew->desk, sizeof(*crew->desk));
}

static void crew_turn_once(struct crew *crew) {
	for (unsigned i = 0; i < crew->count; i++)
		bench_check(write(crew->worker[i].order, "", 1) == 1, "write to a worker");
	for (unsigned i = 0; i < crew->count; i++)
		worker_wait(crew, &crew->worker[i]);
}

/* They hardly ever had a CPU each: on a machine as busy as that, they try again. */
static bool crew_was_apart(const struct crew *crew) {
	unsigned measured = 0;

	for (unsigned i = 0; i < crew->count; i++)
		measured += crew->desk->turn[i].measured_ns >= TURN_NS_MIN;
	return measured < lanes(crew->count);
}

static void crew_turn(struct crew *crew) {
	unsigned tries = TRIES;

	do
		crew_turn_once(crew);
	while (crew_was_apart(crew) && --tries > 0);
}

/* -- what they did ----------------------------------------------------------------------------- */

static void histogram_merge(struct histogram *to, const struct histogram *from) {
	to->total += from->total;
	to->longest = from->longest > to->longest ? from->longest : to->longest;
	for (unsigned b = 0; b < HISTOGRAM_SIZE; b++)
		to->count[b] += from->count[b];
}

static void note_times(struct contender *c, const struct crew *crew) {
	struct histogram all = {0};

	for (unsigned i = 0; i < crew->count; i++)
		histogram_merge(&all, &crew->desk->turn[i].histogram);
	series_add(&c->p99, histogram_quantile(&all, 0.99));
	series_add(&c->p999, histogram_quantile(&all, 0.999));
	series_add(&c->longest, (double)all.longest);
}

/* Operations in a ns of one process at work; of those only that had something to count, if any. */
static double speed_at_work(const struct crew *crew) {
	double speeds[2] = {0, 0};
	unsigned count[2] = {0, 0};

	for (unsigned i = 0; i < crew->count; i++) {
		const struct account_of_turn *t = &crew->desk->turn[i];
		bool counts = t->measured_ns > 0;

		speeds[counts] += 1 / t->ns;
		count[counts]++;
	}
	return count[1] ? speeds[1] / count[1] : speeds[0] / count[0];
}

/* How fast the slowest is, by its own CPU time; 1 is as fast as all. */
static double share_of_slowest(const struct crew *crew) {
	double all = 0, slowest = 0;

	for (unsigned i = 0; i < crew->count; i++) {
		const struct account_of_turn *t = &crew->desk->turn[i];
		double speed = t->operations / t->cpu_ns;

		all += speed;
		slowest = i == 0 || speed < slowest ? speed : slowest;
	}
	return slowest * crew->count / all;
}

static void note_turn(struct contender *c, const struct crew *crew) {
	double rate = speed_at_work(crew) * lanes(crew->count);

	series_add(&c->ns, crew->count / rate);
	series_add(&c->rate, rate * NS_OF_S);
	series_add(&c->share, share_of_slowest(crew));
	if (c->timed)
		note_times(c, crew);
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
			crew_turn(&crews[i]);
			if (round > 0)
				note_turn(&c[i], &crews[i]);
		}
	for (unsigned i = 0; i < count; i++)
		crew_end(&crews[i]);
	free(crews);
}
