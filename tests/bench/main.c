/* SPDX-License-Identifier: MIT */

/*
 * Measures the cost of berth, and of what people would use instead. Reports the figures, and which
 * targets they miss. No figure makes the bench fail.
 *
 *     bench [--quick] [--only FAMILY[,FAMILY]...] DIRECTORY
 *
 * The bench uses berth as a program does, through libberth.so and berthctl, with berthds that it
 * starts itself. The results are written into the directory. Exit status: 0 if everything ran,
 * whatever the figures are; 1 if something didn't run; 2 for a wrong command line.
 *
 * report.h says how results are collected, contest.h how contenders take turns, peer.h what a peer
 * is. Each family of works is a file: fast.c, forms.c, shared.c, ...
 */

#include <berth.h>

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "peer.h"
#include "report.h"
#include "util.h"
#include "works.h"

struct bench bench;

static pid_t driver;
static volatile sig_atomic_t interrupted;

static void note_interrupt(int signal) {
	(void)signal;
	interrupted = 1;
}

/* -- ends -------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
	(void)st, (void)type, (void)where;
	(void)remove(path);
	return 0;
}

void bench_remove(const char *dir) {
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void clean_up(void) {
	if (getpid() != driver)
		return;
	peers_stop();
	if (bench.dir[0])
		bench_remove(bench.dir);
	if (bench.disk[0])
		bench_remove(bench.disk);
}

static __attribute__((noreturn)) void give_up(void) {
	if (getpid() != driver)
		_exit(EXIT_FAILURE);
	exit(EXIT_FAILURE);
}

void bench_fail(const char *what) {
	if (!interrupted)
		fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	give_up();
}

void bench_fail_code(int code, const char *what) {
	fprintf(stderr, "bench: %s: %s (%d)\n", what, berth_strerror(code), code);
	give_up();
}

void bench_continue(void) {
	if (!interrupted)
		return;
	fprintf(stderr, "bench: interrupted\n");
	give_up();
}

/* -- processes --------------------------------------------------------------------------------- */

void *bench_share(size_t size) {
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	bench_check(p != MAP_FAILED, "mmap");
	return p;
}

pid_t bench_fork(void) {
	pid_t parent = getpid(), pid;

	(void)fflush(NULL);
	pid = fork();
	bench_check(pid >= 0, "fork");
	if (pid > 0)
		return pid;
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_DFL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	return 0;
}

pid_t bench_hold(
	void (*acquire)(const void *what, unsigned number), const void *what, unsigned number) {
	int ends[2];
	char byte;
	pid_t pid;

	bench_check(pipe(ends) == 0, "pipe");
	pid = bench_fork();
	if (pid == 0) {
		acquire(what, number);
		bench_check(write(ends[1], "", 1) == 1, "write to the driver");
		for (;;)
			(void)pause();
	}
	(void)close(ends[1]);
	bench_check(read(ends[0], &byte, 1) == 1, "a holder got no slots");
	(void)close(ends[0]);
	return pid;
}

void bench_kill(pid_t pid) {
	if (pid == 0)
		return;
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void bench_wait(pid_t pid) {
	int status;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	bench_continue();
	if (status != 0)
		errno = ECHILD;
	bench_check(status == 0, "a child failed");
}

static double clock_ns(clockid_t clock) {
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (double)t.tv_sec * NS_OF_S + (double)t.tv_nsec;
}

double bench_now(void) {
	return clock_ns(CLOCK_MONOTONIC);
}

double bench_cpu_now(void) {
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* -- families ---------------------------------------------------------------------------------- */

static const struct family {
	const char *name;
	void (*run)(void);
} families[] = {
	{"fast", works_fast},
	{"forms", works_forms},
	{"shared", works_shared},
	{"ends", works_ends},
	{"limits", works_limits},
	{"checkpoint", works_checkpoint},
	{"scale", works_scale},
	{"ten-million", works_ten_million},
	{"growth", works_growth},
};
static bool chosen[ELEMENTS(families)];

/* Chooses the families that are named, or all of them. False: no family has one of the names. */
static bool families_choose(const char *only) {
	size_t length, i;

	for (i = 0; i < ELEMENTS(families); i++)
		chosen[i] = !only;
	for (; only && *only; only += length + (only[length] == ',')) {
		length = strcspn(only, ",");
		for (i = 0; i < ELEMENTS(families); i++)
			if (strlen(families[i].name) == length &&
				strncmp(families[i].name, only, length) == 0)
				break;
		if (i == ELEMENTS(families)) {
			fprintf(stderr, "bench: there is no family '%.*s'\n", (int)length, only);
			return false;
		}
		chosen[i] = true;
	}
	return true;
}

/* -- main -------------------------------------------------------------------------------------- */

static int usage(void) {
	fprintf(stderr, "usage: bench [--quick] [--only FAMILY[,FAMILY]...] DIRECTORY\nfamilies:");
	for (size_t i = 0; i < ELEMENTS(families); i++)
		fprintf(stderr, " %s", families[i].name);
	fprintf(stderr, "\n");
	return 2;
}

int main(int argc, char **argv) {
	static const struct option options[] = {
		{"quick", no_argument, NULL, 'q'},
		{"only", required_argument, NULL, 'o'},
		{NULL, 0, NULL, 0},
	};
	const struct sigaction action = {.sa_handler = note_interrupt};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return usage();
		if (c == 'o')
			bench.only = optarg;
		else
			bench.quick = true;
	}
	if (argc != optind + 1 || !families_choose(bench.only))
		return usage();
	driver = getpid();
	bench.rounds = bench.quick ? 5 : 25;
	bench.out = argv[optind];
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)atexit(clean_up);
	cpus_init();
	cpus_pin_servers(true);
	(void)snprintf(bench.dir, sizeof(bench.dir), "/dev/shm/berth-bench-XXXXXX");
	bench_check(mkdtemp(bench.dir) != NULL, "mkdtemp in /dev/shm");
	bench_check(mkdir(bench.out, 0777) == 0 || errno == EEXIST, bench.out);
	(void)snprintf(bench.disk, sizeof(bench.disk), "%.400s/disk-XXXXXX", bench.out);
	bench_check(mkdtemp(bench.disk) != NULL, "mkdtemp beside the results");
	report_head(stdout);
	idle_begin();
	for (size_t i = 0; i < ELEMENTS(families); i++)
		if (chosen[i]) {
			families[i].run();
			idle_watch();
		}
	idle_end();
	report_write();
	return EXIT_SUCCESS;
}
