/* SPDX-License-Identifier: MIT */

/*
 * What a slot costs beside a semaphore, and how soon a dead holder's slot is free. Reports; never
 * gates.
 *
 * Everything goes through the public API of libberth.so, against a berthd of the bench's own. The
 * peers are measured in the same run, in rounds that take turns, on one CPU: a machine that is busy
 * or changes its frequency does so to all of them. A figure is the median of the rounds; the spread
 * is the fastest and the slowest of them.
 */

#include <berth.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#define ROUNDS      25
#define ROUND_NS    20000000 /* per contender */
#define DEATHS      50
#define MANY        100000
#define MANY_DEATHS 5
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static struct instance instance;
static struct berth *berth;
static sem_t *semaphore;
static int semaphore_set = -1;
static volatile sig_atomic_t interrupted;

static void note_interrupt(int signal) {
	(void)signal;
	interrupted = 1;
}

static void finish(int status) {
	berth_close(berth);
	instance_end(&instance);
	if (semaphore_set >= 0)
		(void)semctl(semaphore_set, 0, IPC_RMID);
	exit(status);
}

static void check(bool fine, const char *what) {
	if (fine)
		return;
	if (!interrupted)
		fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	finish(EXIT_FAILURE);
}

static void must(int code, const char *what) {
	if (code == BERTH_SUCCESS)
		return;
	fprintf(stderr, "bench: %s: %s (%d)\n", what, berth_strerror(code), code);
	finish(EXIT_FAILURE);
}

static double now_ns(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* -- figures ---------------------------------------------------------------------------------- */

struct figures {
	unsigned count;
	double value[DEATHS];
};

static void figures_add(struct figures *f, double value) {
	f->value[f->count++] = value;
}

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void figures_sort(struct figures *f) {
	qsort(f->value, f->count, sizeof(f->value[0]), compare);
}

static double median(const struct figures *f) {
	return (f->value[(f->count - 1) / 2] + f->value[f->count / 2]) / 2;
}

/* -- contenders -------------------------------------------------------------------------------- */

static void berth_pair(void) {
	berth_slot slot;

	must(berth_acquire(berth, "bench", &slot), "berth_acquire");
	must(berth_release(berth, slot), "berth_release");
}

static void berth_denial(void) {
	berth_slot slot;

	if (berth_acquire(berth, "full", &slot) != BERTH_CONNECTION_COUNT_LIMIT)
		must(BERTH_INVALID_PARAMETER, "a full account isn't full");
}

static void sem_pair(void) {
	check(sem_trywait(&semaphore[0]) == 0, "sem_trywait");
	check(sem_post(&semaphore[0]) == 0, "sem_post");
}

static void sem_denial(void) {
	check(sem_trywait(&semaphore[1]) < 0 && errno == EAGAIN, "sem_trywait of an empty one");
}

static int set_change(unsigned short which, short change) {
	struct sembuf operation = {which, change, IPC_NOWAIT | SEM_UNDO};

	return semop(semaphore_set, &operation, 1);
}

static void set_pair(void) {
	check(set_change(0, -1) == 0, "semop -1");
	check(set_change(0, 1) == 0, "semop +1");
}

static void set_denial(void) {
	check(set_change(1, -1) < 0 && errno == EAGAIN, "semop of an empty one");
}

struct contender {
	const char *name;
	void (*operation)(void);
	struct figures figures;
};

static struct contender pairs[] = {
	{"berth_acquire + berth_release", berth_pair, {0}},
	{"sem_trywait + sem_post", sem_pair, {0}},
	{"semop with SEM_UNDO, twice", set_pair, {0}},
};
static struct contender denials[] = {
	{"berth_acquire, 1238", berth_denial, {0}},
	{"sem_trywait, EAGAIN", sem_denial, {0}},
	{"semop with SEM_UNDO, EAGAIN", set_denial, {0}},
};

/* Nanoseconds an operation. */
static double contender_round(const struct contender *c) {
	double start = now_ns(), elapsed;
	unsigned long operations = 0;

	do {
		for (int i = 0; i < 1000; i++)
			c->operation();
		operations += 1000;
		elapsed = now_ns() - start;
	} while (elapsed < ROUND_NS);
	return elapsed / (double)operations;
}

/* The second contender is what the others are compared with. */
static void contest(const char *title, struct contender *c, size_t n) {
	for (unsigned round = 0; round <= ROUNDS; round++)
		for (size_t i = 0; i < n; i++) {
			double ns = contender_round(&c[i]);

			check(!interrupted, "interrupted");
			if (round > 0) /* the first one warms up */
				figures_add(&c[i].figures, ns);
		}
	for (size_t i = 0; i < n; i++)
		figures_sort(&c[i].figures);
	printf("%-34s %9s   %-17s %s\n", title, "median", "spread", "times sem_t");
	for (size_t i = 0; i < n; i++) {
		const struct figures *f = &c[i].figures;

		printf("  %-32s %6.1f ns   %.1f to %-9.1f %6.1f\n", c[i].name, median(f),
			f->value[0], f->value[f->count - 1], median(f) / median(&c[1].figures));
	}
	printf("\n");
}

/* -- deaths ------------------------------------------------------------------------------------ */

/* A process that acquires so many slots of the account and holds them. Returns its pid when it has
 * them. */
static pid_t holder_start(const char *account, unsigned slots) {
	int ends[2];
	char byte;
	pid_t pid;

	check(pipe(ends) == 0, "pipe");
	pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0) {
		struct berth *b;
		berth_slot slot;

		if (berth_open(NULL, &b) != BERTH_SUCCESS)
			_exit(EXIT_FAILURE);
		for (unsigned i = 0; i < slots; i++)
			if (berth_acquire(b, account, &slot) != BERTH_SUCCESS)
				_exit(EXIT_FAILURE);
		if (write(ends[1], "", 1) != 1)
			_exit(EXIT_FAILURE);
		for (;;)
			(void)pause();
	}
	(void)close(ends[1]);
	check(read(ends[0], &byte, 1) == 1, "a holder got no slots");
	(void)close(ends[0]);
	return pid;
}

/* Kills it; returns when the kernel reports its death. */
static void holder_kill(pid_t pid) {
	struct pollfd dead = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

	check(dead.fd >= 0, "pidfd_open");
	(void)kill(pid, SIGKILL);
	check(poll(&dead, 1, 10000) == 1, "poll of a pidfd");
	(void)close(dead.fd);
}

/* From the report of a holder's death until its slots are free, in ms. The death can have been
 * berthd's business for a moment already when poll returns here. */
static double death_measure(const char *account, unsigned slots) {
	struct berth_usage usage = {.size = sizeof(usage)};
	pid_t pid = holder_start(account, slots);
	double start, end;

	holder_kill(pid);
	start = now_ns();
	do {
		must(berth_query(berth, account, &usage), "berth_query");
		end = now_ns();
		if (usage.current > 0)
			(void)sched_yield();
		check(!interrupted && end - start < 10e9, "a dead holder's slots stay taken");
	} while (usage.current > 0);
	(void)waitpid(pid, NULL, 0);
	return (end - start) / 1e6;
}

static void deaths(const char *title, const char *account, unsigned slots, unsigned times) {
	struct figures f = {0};

	for (unsigned i = 0; i < times; i++)
		figures_add(&f, death_measure(account, slots));
	figures_sort(&f);
	printf("  %-32s %6.3f ms   %.3f to %.3f\n", title, median(&f), f.value[0],
		f.value[f.count - 1]);
}

/* -- preparation ------------------------------------------------------------------------------- */

static void machine_show(void) {
	char line[256], *colon, model[256] = "unknown CPU\n";
	FILE *f = fopen("/proc/cpuinfo", "re");
	struct utsname kernel = {0};

	while (f && fgets(line, sizeof(line), f)) {
		colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		(void)snprintf(model, sizeof(model), "%s", colon + 2);
		break;
	}
	if (f)
		(void)fclose(f);
	(void)uname(&kernel);
	printf("berth " BERTH_VERSION ", %ld CPUs, Linux %s, %s\n", sysconf(_SC_NPROCESSORS_ONLN),
		kernel.release, model);
}

static void berth_prepare(void) {
	const char *said;
	berth_slot slot;

	instance_start(&instance, NULL);
	check(ctl(&said, "set", "bench", "5", NULL) == 0, "berthctl set");
	check(ctl(&said, "set", "full", "1", NULL) == 0, "berthctl set");
	check(ctl(&said, "set", "many", "unlimited", NULL) == 0, "berthctl set");
	must(berth_open(NULL, &berth), "berth_open");
	must(berth_acquire(berth, "full", &slot), "berth_acquire");
}

static void peers_prepare(void) {
	semaphore = mmap(NULL, 2 * sizeof(*semaphore), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(semaphore != MAP_FAILED, "mmap");
	check(sem_init(&semaphore[0], 1, 5) == 0 && sem_init(&semaphore[1], 1, 0) == 0, "sem_init");
	semaphore_set = semget(IPC_PRIVATE, 2, 0600);
	check(semaphore_set >= 0, "semget");
	check(semctl(semaphore_set, 0, SETVAL, 5) == 0, "semctl");
	check(semctl(semaphore_set, 1, SETVAL, 0) == 0, "semctl");
}

/* To the last CPU that we may use; berthd, already there, may use all of them. */
static void pin(void) {
	cpu_set_t allowed, one;

	check(sched_getaffinity(0, sizeof(allowed), &allowed) == 0, "sched_getaffinity");
	CPU_ZERO(&one);
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&one) == 0; cpu--)
		if (CPU_ISSET(cpu, &allowed))
			CPU_SET(cpu, &one);
	check(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
}

int main(void) {
	const struct sigaction action = {.sa_handler = note_interrupt};

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	machine_show();
	berth_prepare();
	peers_prepare();
	pin();
	contest("One process, by name", pairs, COUNT_OF(pairs));
	contest("Denied", denials, COUNT_OF(denials));
	printf("Free again after SIGKILL's report    median   spread\n");
	deaths("1 slot", "bench", 1, DEATHS);
	deaths("100,000 slots of one process", "many", MANY, MANY_DEATHS);
	finish(EXIT_SUCCESS);
}
