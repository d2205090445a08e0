/* SPDX-License-Identifier: MIT */

/*
 * The stall explorer looks for schedules in which the counter goes wrong. It runs the real code of
 * library and daemon in one process, as coroutines, and switches between them at any access to
 * shared memory.
 *
 *     explore                               a sample: scripts, then random runs from $SEED on
 *     explore --script[=NAME] [--stride N]  scripts: all, or those whose names begin with NAME
 *     explore --seconds N [--first SEED] [--runs N] [--all]
 *                                           random runs, for N seconds of CPU; --all: goes on after
 *                                           a fault
 *     explore --seed N [--trace]            the run of that seed; --trace: prints all its events
 *
 * Exit status: 0, no fault was found; 1, a fault was found; 2, a wrong command line.
 *
 * How it works:
 *
 *   The world (world.h) is a very small segment and directory, mapped once for each process and
 *     once for berthd, in the explorer's own address space.
 *   The parties (parties.h) use the world: up to three processes with up to three threads each, and
 *     berthd. Each thread, and berthd, is a coroutine (coroutine.h). process.c replaces libberth's
 *     connection to berthd. thread.c acquires and releases through libberth. daemon.c runs berthd's
 *     sessions, directory and recount.
 *   The hooks (hooks.h) make the coroutines switch. The sources under test are compiled with
 *     -fsanitize=thread but linked without libtsan, so their code calls a function of the explorer
 *     at each access. This function may pause the running coroutine.
 *   The seam (seam.h) replaces what those sources call in libc and libsystemd: memory, system
 *     calls, threads, the event loop. So a run depends on nothing but its seed.
 *   A schedule says which coroutine runs when, for how long, and which one is stalled or killed. A
 *     random schedule (schedule.c) follows a plan (parties.h), which is drawn from the seed and
 *     says how often things happen. A script (scripts.h, cases.c) is written by hand, and is
 *     repeated with its parties stopped at each place.
 *   The truth (truth.h) is the explorer's own record of accounts, limits and held slots, which it
 *     keeps beside the code under test.
 *   The audit (audit.h) runs after each write to a cell or record. It compares cells and records
 *     with each other and with the truth. The view (view.h) decodes cells and records without the
 *     counter's own functions.
 *   The verdict (verdict.h) of a run is the first fault that was found, or none. A run with a fault
 *     is repeated with a trace, which is printed.
 */

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "audit.h"
#include "hooks.h"
#include "schedule.h"
#include "scripts.h"
#include "verdict.h"

#define SAMPLE_SECONDS 12
#define SAMPLE_STRIDE  9

struct options {
	double seconds;
	uint64_t runs, first;
	uint32_t stride; /* of scripts (scripts.h); odd */
	bool trace, scripts, all;
	const char *script;
};

/* Returns CPU time, so that other programs on the machine don't make the exploration shorter. */
static double now(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A crash of the code under test is a fault, too. This fault ends the explorer. */
static void on_crash(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	(void)printf("explore: %s: %s accesses %p, where no memory is mapped\n", verdict.run,
		running ? running->name : "the explorer", info->si_addr);
	if (tracing)
		trace_print(true);
	(void)fflush(stdout);
	_exit(1);
}

static void crashes_catch(void) {
	static char stack[256 * 1024];
	const stack_t own = {.ss_sp = stack, .ss_size = sizeof(stack)};
	const struct sigaction action = {
		.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	(void)sigaltstack(&own, NULL);
	(void)sigaction(SIGSEGV, &action, NULL);
	(void)sigaction(SIGBUS, &action, NULL);
}

static bool explore(const struct options *o) {
	double begun = now();
	uint64_t seed = o->first;

	(void)printf("explore: runs with seeds from %llu on\n", (unsigned long long)seed);
	for (uint64_t n = 0; n < o->runs; n++, seed++) {
		tracing = o->trace;
		run(seed);
		tracing = false;
		if (verdict.failed)
			(void)printf("explore: %s, after %.0f s of CPU: %s\n", verdict.run,
				now() - begun, verdict.text);
		if (verdict.failed && !o->all)
			break;
		if (n % 64 == 0 && now() - begun > o->seconds)
			break;
	}
	(void)printf("explore: %llu runs in %.0f s of CPU: %llu operations, %llu accesses, %llu "
		     "switches, %llu stalls (up to %llu operations), %llu processes and %llu "
		     "daemons killed, %llu writes audited, %llu compare-and-swaps lost\n",
		(unsigned long long)tally.runs, now() - begun, (unsigned long long)tally.operations,
		(unsigned long long)accesses, (unsigned long long)tally.switches,
		(unsigned long long)tally.stalls, (unsigned long long)tally.longest_stall,
		(unsigned long long)tally.kills, (unsigned long long)tally.daemon_kills,
		(unsigned long long)audits, (unsigned long long)failures);
	if (verdict.failed) {
		tracing = true;
		run(seed);
		trace_print(o->trace);
		tracing = false;
	}
	return tally.faults == 0;
}

/* -- options ----------------------------------------------------------------------------------- */

static bool options_take(struct options *o, int argc, char **argv) {
	static const struct option known[] = {{"seconds", 1, NULL, 's'}, {"runs", 1, NULL, 'n'},
		{"seed", 1, NULL, 'S'}, {"first", 1, NULL, 'f'}, {"script", 2, NULL, 'p'},
		{"stride", 1, NULL, 'd'}, {"all", 0, NULL, 'a'}, {"trace", 0, NULL, 't'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (option) {
		case 's':
			o->seconds = strtod(optarg, NULL);
			break;
		case 'n':
			o->runs = strtoull(optarg, NULL, 0);
			break;
		case 'S':
			o->runs = 1;
			o->first = strtoull(optarg, NULL, 0);
			break;
		case 'f':
			o->first = strtoull(optarg, NULL, 0);
			break;
		case 'p':
			o->scripts = true;
			o->script = optarg;
			break;
		case 'd':
			o->stride = (uint32_t)strtoul(optarg, NULL, 0) | 1;
			break;
		case 'a':
			o->all = true;
			break;
		case 't':
			o->trace = true;
			break;
		default:
			return false;
		}
	return optind == argc;
}

int main(int argc, char **argv) {
	struct options o = {
		.seconds = SAMPLE_SECONDS,
		.runs = UINT64_MAX,
		.stride = 1,
	};
	const char *seed = getenv("SEED");
	bool sound;

	o.first = seed ? strtoull(seed, NULL, 0) : 0;
	if (o.first == 0)
		o.first = (uint64_t)time(NULL) << 24;
	if (!options_take(&o, argc, argv)) {
		(void)fprintf(stderr,
			"explore: wrong command line; see the top of tests/explore/main.c\n");
		return 2;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	world_make();
	statics_keep();
	crashes_catch();
	if (o.scripts)
		sound = scripts_run(o.script, o.stride);
	else
		sound = (argc > 1 || scripts_run(NULL, SAMPLE_STRIDE)) && explore(&o);
	return sound ? 0 : 1;
}
