/* SPDX-License-Identifier: MIT */

/*
 * The stall explorer: the real counter, pool, library and daemon code in one process, as coroutines that
 * switch at every shared access, in schedules drawn from seeds.
 *
 *     explore                               a sample, for `make check`: both of the next; $SEED
 *     explore --script[=NAME] [--stride N]  schedules written by hand
 *     explore --seconds N [--first SEED] [--runs N] [--all]
 *     explore --seed N [--trace]            one run, exactly as it was made then
 *
 * Exit status: 0, nothing wrong was found; 1, something was. --all goes on after a fault.
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
	uint64_t runs, seed, first;
	uint32_t stride; /* odd */
	bool one, trace, scripts, all;
	const char *script;
};

/* Of CPU: how much is explored shouldn't depend on what else the machine does. */
static double now(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void say_tally(double seconds) {
	(void)printf("explore: %llu runs in %.0f s of CPU: %llu operations, %llu accesses, %llu "
		     "switches, %llu stalls (up to %llu operations), %llu processes and %llu "
		     "daemons killed, %llu writes audited, %llu compare-and-swaps lost\n",
		(unsigned long long)tally.runs, seconds, (unsigned long long)tally.operations,
		(unsigned long long)accesses, (unsigned long long)tally.switches,
		(unsigned long long)tally.stalls, (unsigned long long)tally.longest,
		(unsigned long long)tally.kills, (unsigned long long)tally.daemon_kills,
		(unsigned long long)audits, (unsigned long long)failures);
}

static void say_short(double seconds) {
	(void)printf("explore: %s, after %.0f s of CPU: %s\n", verdict.run, seconds, verdict.text);
}

/* The code under test has crashed, and the explorer with it: which is a fault as well. */
static void on_crash(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	(void)printf("explore: %s: %s accesses %p, where nothing is\n", verdict.run,
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

/* Once more, with a trace. */
static void say_fault(uint64_t seed, bool all) {
	tracing = true;
	run(seed);
	trace_print(all);
	tracing = false;
}

static bool explore(const struct options *o) {
	double begun = now();
	uint64_t seed = o->first;

	(void)printf("explore: seeds from %llu on\n", (unsigned long long)seed);
	for (uint64_t n = 0; n < o->runs; n++, seed++) {
		run(seed);
		if (verdict.failed)
			say_short(now() - begun);
		if (verdict.failed && !o->all)
			break;
		if (n % 64 == 0 && now() - begun > o->seconds)
			break;
	}
	say_tally(now() - begun);
	if (verdict.failed)
		say_fault(seed, false);
	return tally.faults == 0;
}

static bool explore_one(const struct options *o) {
	tracing = o->trace;
	run(o->seed);
	tracing = false;
	if (!verdict.failed) {
		say_tally(now());
		return true;
	}
	say_short(now());
	say_fault(o->seed, o->trace);
	return false;
}

/* -- options -------------------------------------------------------------------------------------- */

static uint64_t seed_default(void) {
	const char *seed = getenv("SEED");
	uint64_t n = seed ? strtoull(seed, NULL, 0) : 0;

	return n != 0 ? n : (uint64_t)time(NULL) << 24;
}

static bool option_take(struct options *o, int option) {
	switch (option) {
	case 's':
		o->seconds = strtod(optarg, NULL);
		return true;
	case 'n':
		o->runs = strtoull(optarg, NULL, 0);
		return true;
	case 'S':
		o->seed = strtoull(optarg, NULL, 0);
		return o->one = true;
	case 'f':
		o->first = strtoull(optarg, NULL, 0);
		return true;
	case 'p':
		o->script = optarg;
		return o->scripts = true;
	case 'd':
		o->stride = (uint32_t)strtoul(optarg, NULL, 0) | 1;
		return true;
	case 'a':
		return o->all = true;
	case 't':
		return o->trace = true;
	default:
		return false;
	}
}

static bool options_take(struct options *o, int argc, char **argv) {
	static const struct option known[] = {{"seconds", 1, NULL, 's'}, {"runs", 1, NULL, 'n'},
		{"seed", 1, NULL, 'S'}, {"first", 1, NULL, 'f'}, {"script", 2, NULL, 'p'},
		{"stride", 1, NULL, 'd'}, {"all", 0, NULL, 'a'}, {"trace", 0, NULL, 't'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
		if (!option_take(o, option))
			return false;
	return optind == argc;
}

int main(int argc, char **argv) {
	struct options o = {
		.seconds = SAMPLE_SECONDS,
		.runs = UINT64_MAX,
		.stride = 1,
		.first = seed_default(),
	};
	bool sound;

	if (!options_take(&o, argc, argv)) {
		(void)fprintf(stderr, "explore: see the top of tests/explore/main.c\n");
		return 2;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	world_make();
	statics_keep();
	crashes_catch();
	if (o.one)
		sound = explore_one(&o);
	else if (o.scripts)
		sound = scripts_run(o.script, o.stride);
	else
		sound = (argc > 1 || scripts_run(NULL, SAMPLE_STRIDE)) && explore(&o);
	return sound ? 0 : 1;
}
