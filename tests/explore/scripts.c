/* SPDX-License-Identifier: MIT */

/* Plays scripts: has their parties begin, stop and end, at each place in turn where they may stop. */

#include <stdio.h>
#include <string.h>

#include "hooks.h"
#include "schedule.h"
#include "scripts.h"
#include "verdict.h"
#include "view.h"

/* -- parties that do one thing at a time ---------------------------------------------------------- */

struct assignment {
	task do_it;
	uint32_t name;
};

static struct assignment assignments[COROUTINES];
static struct holding *held[PROCESSES][THREADS]; /* by the latest acquire of each */

static void script_body(struct coroutine *c) {
	const struct assignment *a = &assignments[c - coroutines];

	a->do_it(c->process == DAEMON ? NULL : &processes[c->process], a->name);
	c->parked = true;
	for (;;)
		coroutine_pause();
}

static struct coroutine *assign(uint32_t process, uint32_t thread, task do_it, uint32_t name) {
	struct coroutine *c = coroutine_of(process, thread);

	c->process = process;
	c->thread = thread;
	if (process == DAEMON)
		strcpy(c->name, "berthd");
	else
		(void)snprintf(c->name, sizeof(c->name), "%c%u", 'A' + (int)process, thread + 1);
	assignments[c - coroutines] = (struct assignment){do_it, name};
	coroutine_start(c, script_body);
	c->began = accesses;
	return c;
}

/* True if it has done what it had to. Stopped after so many looks at cells and records or, by half a
 * step more, in front of its next write. */
static bool advance(struct coroutine *c, int64_t stop, bool every_access) {
	accesses_left = writes_left = loads_left = NO_END;
	if (every_access)
		accesses_left = stop;
	else if (stop != NO_END && stop % 2 == 0)
		loads_left = stop / 2;
	else if (stop != NO_END)
		writes_left = stop / 2;
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
		verdict_fault("a script's party doesn't end");
}

struct coroutine *begin_and_stop(
	struct stops *s, int which, uint32_t process, uint32_t thread, task do_it, uint32_t name) {
	struct coroutine *c = assign(process, thread, do_it, name);

	/* One that asks berthd goes no further by itself. */
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

/* -- tasks ---------------------------------------------------------------------------------------- */

void task_acquire(struct process *p, uint32_t name) {
	struct holding **h = &held[p->index][running->thread];

	*h = NULL;
	(void)thread_acquire(p, name, 1, h);
}

void task_release(struct process *p, uint32_t name) {
	struct holding *h = held[p->index][running->thread];

	(void)name;
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
	(void)p, (void)unused;
	seam_thread_end();
}

void task_close(struct process *p, uint32_t unused) {
	(void)unused;
	process_close(p);
}

bool task_held(uint32_t process, uint32_t thread) {
	return held[process][thread] != NULL;
}

void task_occupy(struct process *p, uint32_t free) {
	plan.free = free;
	process_occupy(p);
}

void task_go_far(struct process *p, uint32_t name) {
	for (uint32_t i = 0; i < 1u << VIEW_FAR_BITS; i++)
		task_pair(p, name);
}

void task_start(struct process *p, uint32_t unused) {
	(void)p, (void)unused;
	daemon_start();
}

void task_close_records(struct process *p, uint32_t process) {
	(void)p;
	daemon_close_records(process);
}

void task_serve(struct process *p, uint32_t unused) {
	(void)p, (void)unused;
	while (daemon_serve())
		;
}

void task_revoke(struct process *p, uint32_t unused) {
	(void)p, (void)unused;
	for (uint32_t n = BERTH_RANGE; n < RECORDS; n++) {
		struct record_view r = view_record(n);

		if (view_stands(&r) && r.account != truth.account[MANY])
			(void)daemon_revoke(n);
	}
}

void task_remove(struct process *p, uint32_t name) {
	(void)p;
	(void)daemon_remove(name);
}

void task_create(struct process *p, uint32_t name) {
	(void)p;
	(void)daemon_create(name, 3);
}

void task_fill(struct process *p, uint32_t name) {
	(void)p;
	(void)daemon_limit(name, 1);
}

void task_raise(struct process *p, uint32_t name) {
	(void)p;
	(void)daemon_limit(name, 3);
}

/* -- sweeps ---------------------------------------------------------------------------------------- */

static void script_play(const struct script *script, struct stops *s) {
	verdict_begin("script %s, stops %lld and %lld", script->name, (long long)s->at[0],
		(long long)s->at[1]);
	script->play(s);
	/* Whatever berthd does from here on is not the script's. */
	coroutine_of(DAEMON, 0)->alive = false;
	if (!run_is_over())
		run_wind_up();
}

static void script_say(const struct script *script, const struct stops *s) {
	struct stops again;

	(void)printf("explore: %s: %s\n", verdict.run, verdict.text);
	tracing = true;
	again = *s;
	memset(again.ended, 0, sizeof(again.ended));
	script_play(script, &again);
	trace_print(false);
	tracing = false;
}

/* False: a fault, at some stops. */
static bool script_sweep(
	const struct script *script, bool warm, uint32_t kept, uint32_t stride, uint64_t *plays) {
	struct stops s = {.every_access = script->every_access, .warm = warm, .kept = kept};
	/* With neither a look nor a write left to be stopped at. */
	uint32_t ended[2] = {0};

	for (s.at[0] = 0; ended[0] < 2; s.at[0]++) {
		ended[1] = 0;
		for (s.at[1] = s.at[0] % stride; ended[1] < 2; s.at[1] += stride) {
			memset(s.ended, 0, sizeof(s.ended));
			script_play(script, &s);
			++*plays;
			if (verdict.failed)
				script_say(script, &s);
			if (verdict.failed)
				return false;
			ended[1] = script->stops < 2 ? 2 : s.ended[1] ? ended[1] + 1 : 0;
		}
		ended[0] = script->stops == 0 ? 2 : s.ended[0] ? ended[0] + 1 : 0;
	}
	return true;
}

static bool script_run(const struct script *script, uint32_t stride) {
	uint64_t plays = 0;
	bool sound = script_sweep(script, false, 1, stride, &plays) &&
		     script_sweep(script, true, 1, stride, &plays) &&
		     script_sweep(script, false, 4, stride, &plays) &&
		     script_sweep(script, true, 4, stride, &plays);

	if (sound)
		(void)printf("explore: script %s: %llu times, nothing found\n", script->name,
			(unsigned long long)plays);
	return sound;
}

bool scripts_run(const char *name, uint32_t stride) {
	bool sound = true;

	for (size_t i = 0; i < scripts_end; i++)
		if (!name || strncmp(scripts[i].name, name, strlen(name)) == 0)
			sound = script_run(&scripts[i], stride) && sound;
	return sound;
}
