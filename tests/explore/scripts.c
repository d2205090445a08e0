/* SPDX-License-Identifier: MIT */

/* Plays the steps of scripts (scripts.h), with their parties stopped at each place in turn. */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hooks.h"
#include "schedule.h"
#include "scripts.h"
#include "verdict.h"
#include "view.h"

/* A task has two parameters, and may ignore both. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* How a script is played, and where it stops its parties. */
struct stops {
	int64_t at[2];     /* the places at which it stops the first and the second party */
	uint32_t begun;    /* how many of these parties have begun their task */
	bool ended[2];     /* the party ended before it came to its place */
	bool every_access; /* places are accesses, not only loads and writes of cells and records */
	bool warm;         /* the step `warm` makes a pair */
	uint32_t kept_records; /* of the plan (parties.h) */
};

/* What a party is to do. p: the party's process, or NULL if the party is berthd. */
typedef void (*task)(struct process *p, uint32_t name);

/* The accounts of truth.c, by their index in names[]. */
enum { A, B, P, Q, P_X, Q_X, P_Y, MANY = NAMES - 1 };

/* -- tasks ------------------------------------------------------------------------------------- */

/* The slot of each thread's last task_acquire(); NULL: none. */
static struct holding *held[PROCESSES][THREADS];

static void task_acquire(struct process *p, uint32_t name) {
	struct holding **h = &held[p->index][running->thread];

	*h = NULL;
	(void)thread_acquire(p, name, 1, h);
}

/* Releases the slot of the same thread's last task_acquire(). */
static void task_release(struct process *p, uint32_t name) {
	struct holding *h = held[p->index][running->thread];

	if (h)
		(void)thread_release(p, h);
	held[p->index][running->thread] = NULL;
}

/* Releases the slot that another thread of the process acquired. */
static void task_release_other(struct process *p, uint32_t thread) {
	struct holding *h = held[p->index][thread];

	if (h && h->used)
		(void)thread_release(p, h);
}

static void task_pair(struct process *p, uint32_t name) {
	struct holding *h;

	if (thread_acquire(p, name, 1, &h) == 0)
		(void)thread_release(p, h);
}

/* The thread ends. The coroutine's next task belongs to a new thread. */
static void task_end(struct process *p, uint32_t unused) {
	seam_thread_end();
}

static void task_close(struct process *p, uint32_t unused) {
	process_close(p);
}

/* The thread's last task_acquire() must have got a slot. */
static void task_check_held(struct process *p, uint32_t unused) {
	if (!held[p->index][running->thread])
		verdict_fault("none of 16 records can be used, though 8 have noise in them and the "
			      "others few seqs");
}

/* Acquires slots of MANY until only one record of the process's first range is free. */
static void task_occupy(struct process *p, uint32_t unused) {
	process_occupy(p);
}

/* Makes so many pairs that the record's seqs become far larger than those in its old tags. */
static void task_many_pairs(struct process *p, uint32_t name) {
	for (uint32_t i = 0; i < 1u << MANY_PAIRS_BITS; i++)
		task_pair(p, name);
}

static void task_pairs_in_turn(struct process *p, uint32_t unused) {
	for (uint32_t i = 0; i < 2 * BERTH_RANGE; i++)
		task_pair(p, i % 2 == 0 ? P : P_X);
}

static void task_start(struct process *p, uint32_t unused) {
	daemon_start();
}

static void task_close_records(struct process *p, uint32_t process) {
	daemon_close_records(process);
}

static void task_serve(struct process *p, uint32_t unused) {
	while (daemon_serve())
		;
}

/* Writes noise into half of the records that aren't used yet, and leaves the others few cycles. */
static void task_wear_records(struct process *p, uint32_t unused) {
	for (uint32_t n = 2 * BERTH_RANGE; n < RECORDS; n++)
		view_use_up(n, n % 2 == 0 ? UINT64_MAX : n % 4 == 1 ? 1 : 8);
}

/* Revokes all slots but those of MANY. */
static void task_revoke(struct process *p, uint32_t unused) {
	for (uint32_t n = BERTH_RANGE; n < RECORDS; n++) {
		struct record_view r = view_record(n);

		if (view_stands(&r) && r.account != truth.account[MANY])
			(void)daemon_revoke(n);
	}
}

static void task_remove(struct process *p, uint32_t name) {
	(void)daemon_remove(name);
}

static void task_create(struct process *p, uint32_t name) {
	(void)daemon_create(name, 3);
}

/* Sets a limit of 1, which a single slot fills. */
static void task_fill(struct process *p, uint32_t name) {
	(void)daemon_limit(name, 1);
}

/* Sets the limit with which the scripts begin. */
static void task_raise(struct process *p, uint32_t name) {
	(void)daemon_limit(name, 3);
}

static const struct {
	const char *name;
	task do_it;
} tasks[] = {
	{"acquire", task_acquire},
	{"release", task_release},
	{"release-other", task_release_other},
	{"pair", task_pair},
	{"end", task_end},
	{"close", task_close},
	{"check-held", task_check_held},
	{"occupy", task_occupy},
	{"many-pairs", task_many_pairs},
	{"pairs-in-turn", task_pairs_in_turn},
	{"start", task_start},
	{"close-records", task_close_records},
	{"serve", task_serve},
	{"wear-records", task_wear_records},
	{"revoke", task_revoke},
	{"remove", task_remove},
	{"create", task_create},
	{"fill", task_fill},
	{"raise", task_raise},
};

/* -- parties that do one thing at a time ------------------------------------------------------- */

static struct assignment {
	task do_it;
	uint32_t name;
} assignments[COROUTINES];

static void script_body(struct coroutine *c) {
	const struct assignment *a = &assignments[c - coroutines];

	a->do_it(c->process == DAEMON ? NULL : &processes[c->process], a->name);
	c->parked = true;
	for (;;)
		coroutine_pause();
}

static void unknown(const char *word) {
	(void)fprintf(stderr, "explore: a script has an unknown word: %s\n", word);
	exit(2);
}

static struct coroutine *party_find(const char *word) {
	if (strcmp(word, "berthd") == 0)
		return coroutine_of(DAEMON, 0);
	if (word[0] < 'A' || word[0] > 'B' || word[1] < '1' || word[1] > '2')
		unknown(word);
	return coroutine_of((uint32_t)(word[0] - 'A'), (uint32_t)(word[1] - '1'));
}

/* Starts the party, and gives it the task. */
static struct coroutine *begin(const char *party, const char *what, const char *account) {
	struct coroutine *c = party_find(party);
	uint32_t i = 0, name = 0, index = (uint32_t)(c - coroutines);

	while (i < ELEMENTS(tasks) && strcmp(tasks[i].name, what) != 0)
		i++;
	while (name < NAMES && *account && strcmp(names[name].text, account) != 0)
		name++;
	if (i == ELEMENTS(tasks) || name == NAMES)
		unknown(i == ELEMENTS(tasks) ? what : account);
	assignments[index] = (struct assignment){tasks[i].do_it, name};
	(void)party_start(index / THREADS, index % THREADS, script_body);
	c->began = accesses;
	return c;
}

/* Runs the coroutine up to a place. If `every_access`, place n is after n accesses. Otherwise even
 * numbers are the places after loads from cells and records, and odd numbers are the places in
 * front of writes. Returns true if the coroutine ended before the place, or a fault was found. */
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

/* Runs the coroutine to its end. berthd answers its messages. */
static void finish(struct coroutine *c) {
	for (int i = 0; i < 1000 && !advance(c, NO_END, false); i++)
		if (c->process != DAEMON)
			(void)daemon_serve();
	if (!c->parked && !run_is_over())
		verdict_fault("a party of the script doesn't end");
}

/* -- steps ------------------------------------------------------------------------------------- */

static void step_play(struct stops *s, const char *step) {
	char word[5][20] = {""};
	struct coroutine *c;
	uint32_t first, which;

	(void)sscanf(step, "%19s %19s %19s %19s", word[0], word[1], word[2], word[3]);
	if (strcmp(word[0], "stop") == 0) {
		c = begin(word[1], word[2], word[3]);
		which = s->begun++;
		/* A party that waits for berthd's answer doesn't come to its place: it counts as
		 * ended. */
		s->ended[which] = advance(c, s->at[which], s->every_access) || c->ready;
	} else if (strcmp(word[0], "finish") == 0) {
		finish(party_find(word[1]));
	} else if (strcmp(step, "kill berthd") == 0) {
		daemon_kill();
	} else if (strcmp(step, "kill A") == 0) {
		process_kill(0);
	} else if (strcmp(word[0], "warm") == 0) {
		if (s->warm)
			finish(begin(word[1], "pair", word[2]));
	} else if (strcmp(word[0], "again") == 0) {
		for (int i = 0; i < 6; i++)
			finish(begin(i % 2 == 0 ? "A2" : "B1", "pair", word[1]));
	} else {
		first = isdigit((unsigned char)word[0][0]) ? 1 : 0;
		for (long n = first ? strtol(word[0], NULL, 10) : 1; n > 0; n--)
			finish(begin(word[first], word[first + 1], word[first + 2]));
	}
}

static void steps_play(struct stops *s, const char *steps) {
	char step[80];

	while (*steps) {
		size_t length = strcspn(steps, ",");

		(void)snprintf(step, sizeof(step), "%.*s", (int)length, steps);
		step_play(s, step);
		steps += length + strspn(steps + length, ", ");
	}
}

/* -- sweeps ------------------------------------------------------------------------------------ */

/* Prepares two processes with two threads each, and accounts of one and of two levels. All accounts
 * have a limit of 3, except `many`, which has none. */
static void script_prepare(struct stops *s) {
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
	steps_play(s, "berthd raise a, berthd raise b, berthd raise p, berthd raise q, "
		      "berthd raise p/x, berthd raise p/y, A2 occupy");
}

static void script_play(const struct script *script, struct stops *s) {
	verdict_begin("script %s, stops %lld and %lld", script->name, (long long)s->at[0],
		(long long)s->at[1]);
	s->begun = 0;
	memset(s->ended, 0, sizeof(s->ended));
	script_prepare(s);
	steps_play(s, script->steps);
	/* Makes run_wind_up() start a new coroutine for berthd. */
	coroutine_of(DAEMON, 0)->alive = false;
	if (!run_is_over())
		run_wind_up();
}

/* Plays the script with its parties stopped at every place. Returns false if there was a fault. */
static bool script_sweep(
	const struct script *script, struct stops *s, uint32_t stride, uint64_t *plays) {
	/* Of each party: in how many plays in a row it ended before its place. If a party did so at
	 * two places in a row, an even and an odd one, it has no places left. */
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
