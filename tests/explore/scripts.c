/* SPDX-License-Identifier: MIT */

/* Plays scripts, with their parties stopped at each place in turn. */

#include <stdio.h>
#include <string.h>

#include "hooks.h"
#include "schedule.h"
#include "scripts.h"
#include "verdict.h"
#include "view.h"

/* -- parties that do one thing at a time ------------------------------------------------------- */

struct assignment {
	task do_it;
	uint32_t name;
};

static struct assignment assignments[COROUTINES];
static struct holding *held[PROCESSES][THREADS]; /* the slot of each thread's last task_acquire() */

static void script_body(struct coroutine *c) {
	const struct assignment *a = &assignments[c - coroutines];

	a->do_it(c->process == DAEMON ? NULL : &processes[c->process], a->name);
	c->parked = true;
	for (;;)
		coroutine_pause();
}

static struct coroutine *assign(uint32_t process, uint32_t thread, task do_it, uint32_t name) {
	struct coroutine *c = party_start(process, thread, script_body);

	assignments[c - coroutines] = (struct assignment){do_it, name};
	c->began = accesses;
	return c;
}

/* Runs it up to a place. Even numbers are the places after its loads from cells and records, odd
 * numbers those in front of its writes. True: it ended before. */
static bool advance(struct coroutine *c, int64_t place, bool every_access) {
	accesses_left = writes_left = loads_left = NO_END;
	if (every_access)
		accesses_left = place;
	else if (place != NO_END && place % 2 == 0)
		loads_left = place / 2;
	else if (place != NO_END)
		writes_left = place / 2;
	if (!run_is_over())
		coroutine_resume(c);
	accesses_left = writes_left = loads_left = NO_END;
	return c->parked || run_is_over();
}

void finish(struct coroutine *c) {
	for (int i = 0; i < 1000 && !advance(c, NO_END, false); i++)
		if (c->process != DAEMON)
			(void)daemon_serve();
	if (!c->parked && !run_is_over())
		verdict_fault("a party of the script doesn't end");
}

struct coroutine *begin_and_stop(
	struct stops *s, uint32_t process, uint32_t thread, task do_it, uint32_t name) {
	struct coroutine *c = assign(process, thread, do_it, name);
	uint32_t which = s->begun++;

	/* A party that waits for berthd's answer can't go on to its place either. */
	s->ended[which] = advance(c, s->at[which], s->every_access) || c->ready;
	return c;
}

void warm_up(const struct stops *s, uint32_t process, uint32_t thread, uint32_t name) {
	if (s->warm)
		perform(process, thread, task_pair, name);
}

void perform(uint32_t process, uint32_t thread, task do_it, uint32_t name) {
	finish(assign(process, thread, do_it, name));
}

/* A task has two parameters, of which it may need none. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* -- tasks ------------------------------------------------------------------------------------- */

void task_acquire(struct process *p, uint32_t name) {
	struct holding **h = &held[p->index][running->thread];

	*h = NULL;
	(void)thread_acquire(p, name, 1, h);
}

void task_release(struct process *p, uint32_t name) {
	struct holding *h = held[p->index][running->thread];

	if (h)
		(void)thread_release(p, h);
	held[p->index][running->thread] = NULL;
}

void task_release_other(struct process *p, uint32_t thread) {
	struct holding *h = held[p->index][thread];

	if (h && h->used)
		(void)thread_release(p, h);
}

void task_pair(struct process *p, uint32_t name) {
	struct holding *h;

	if (thread_acquire(p, name, 1, &h) == 0)
		(void)thread_release(p, h);
}

void task_end(struct process *p, uint32_t unused) {
	seam_thread_end();
}

void task_close(struct process *p, uint32_t unused) {
	process_close(p);
}

bool task_held(uint32_t process, uint32_t thread) {
	return held[process][thread] != NULL;
}

void task_occupy(struct process *p, uint32_t free) {
	plan.free_records = free;
	process_occupy(p);
}

void task_many_pairs(struct process *p, uint32_t name) {
	for (uint32_t i = 0; i < 1u << MANY_PAIRS_BITS; i++)
		task_pair(p, name);
}

void task_start(struct process *p, uint32_t unused) {
	daemon_start();
}

void task_close_records(struct process *p, uint32_t process) {
	daemon_close_records(process);
}

void task_serve(struct process *p, uint32_t unused) {
	while (daemon_serve())
		;
}

void task_revoke(struct process *p, uint32_t unused) {
	for (uint32_t n = BERTH_RANGE; n < RECORDS; n++) {
		struct record_view r = view_record(n);

		if (view_stands(&r) && r.account != truth.account[MANY])
			(void)daemon_revoke(n);
	}
}

void task_remove(struct process *p, uint32_t name) {
	(void)daemon_remove(name);
}

void task_create(struct process *p, uint32_t name) {
	(void)daemon_create(name, 3);
}

void task_fill(struct process *p, uint32_t name) {
	(void)daemon_limit(name, 1);
}

void task_raise(struct process *p, uint32_t name) {
	(void)daemon_limit(name, 3);
}

/* -- sweeps ------------------------------------------------------------------------------------ */

/* Two processes with two threads, and accounts of one and of two levels, all with a limit of 3. */
static void prepare(const struct stops *s) {
	const struct plan plan_of_scripts = {
		.processes = 2,
		.threads = 2,
		.names = 1u << A | 1u << B | 1u << P | 1u << Q | 1u << P_X | 1u << P_Y | 1u << MANY,
		.limit = 1,
		.free_records = 1,
		.kept_records = s->kept_records,
		.entries = NAMES,
		.one_range = true,
		.stall = 1,
	};

	chance_seed(1);
	run_prepare(&plan_of_scripts);
	process_start(0);
	process_start(1);
	for (uint32_t name = A; name <= P_Y; name++)
		perform(DAEMON, 0, task_raise, name);
	perform(0, 1, task_occupy, 1);
}

static void script_play(const struct script *script, struct stops *s) {
	verdict_begin("script %s, stops %lld and %lld", script->name, (long long)s->at[0],
		(long long)s->at[1]);
	s->begun = 0;
	memset(s->ended, 0, sizeof(s->ended));
	prepare(s);
	script->play(s);
	/* The end of the run starts a new coroutine for berthd. */
	coroutine_of(DAEMON, 0)->alive = false;
	if (!run_is_over())
		run_wind_up();
}

/* Plays the script with its parties stopped at every place. False: there was a fault. */
static bool script_sweep(
	const struct script *script, struct stops *s, uint32_t stride, uint64_t *plays) {
	/* How often, one after the other, a party ended before its place. A party that did so at an
	 * even place and at an odd one has no places left. */
	uint32_t ended[2] = {0};

	for (s->at[0] = 0; ended[0] < 2; s->at[0]++) {
		ended[1] = 0;
		for (s->at[1] = s->at[0] % stride; ended[1] < 2; s->at[1] += stride) {
			script_play(script, s);
			++*plays;
			if (verdict.failed)
				return false;
			ended[1] = script->stops < 2 ? 2 : s->ended[1] ? ended[1] + 1 : 0;
		}
		ended[0] = script->stops == 0 ? 2 : s->ended[0] ? ended[0] + 1 : 0;
	}
	return true;
}

static bool script_run(const struct script *script, uint32_t stride) {
	uint64_t plays = 0;

	for (uint32_t i = 0; i < 4; i++) {
		struct stops s = {.every_access = script->every_access,
			.warm = i % 2,
			.kept_records = i < 2 ? 1 : 4};

		if (script_sweep(script, &s, stride, &plays))
			continue;
		(void)printf("explore: %s: %s\n", verdict.run, verdict.text);
		/* Plays the script with the same stops again, to print a trace. */
		tracing = true;
		script_play(script, &s);
		trace_print(false);
		tracing = false;
		return false;
	}
	(void)printf("explore: script %s: played %llu times, no fault found\n", script->name,
		(unsigned long long)plays);
	return true;
}

bool scripts_run(const char *name, uint32_t stride) {
	bool sound = true;

	for (size_t i = 0; i < scripts_end; i++)
		if (!name || strncmp(scripts[i].name, name, strlen(name)) == 0)
			sound = script_run(&scripts[i], stride) && sound;
	return sound;
}
