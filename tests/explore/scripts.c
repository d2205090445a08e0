/* SPDX-License-Identifier: MIT */

/* Plays scripts, with their parties stopped at each place in turn. */

#include <stdio.h>
#include <string.h>

#include "hooks.h"
#include "schedule.h"
#include "scripts.h"
#include "verdict.h"

/* -- parties that do one thing at a time ------------------------------------------------------- */

struct assignment {
	task do_it;
	uint32_t name;
};

static struct assignment assignments[COROUTINES];

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

void perform(uint32_t process, uint32_t thread, task do_it, uint32_t name) {
	finish(assign(process, thread, do_it, name));
}

/* -- sweeps ------------------------------------------------------------------------------------ */

static void script_play(const struct script *script, struct stops *s) {
	verdict_begin("script %s, stops %lld and %lld", script->name, (long long)s->at[0],
		(long long)s->at[1]);
	s->begun = 0;
	memset(s->ended, 0, sizeof(s->ended));
	script_prepare(s->kept_records);
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
