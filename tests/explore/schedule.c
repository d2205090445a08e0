/* SPDX-License-Identifier: MIT */

/*
 * Random runs. A run draws a plan from its seed. Then it chooses a coroutine again and again, and
 * resumes it for a time slice: for some accesses, or until one of its next loads or writes. Then
 * the coroutine may be stalled until the others have done a number of operations, or its process
 * may be killed. At the end all coroutines finish what they are doing, all slots are released, the
 * processes are killed, every count must be 0, and every record must be closed.
 */

#include <stdio.h>
#include <string.h>

#include "audit.h"
#include "hooks.h"
#include "schedule.h"
#include "verdict.h"
#include "view.h"

/* If the end of a run takes more accesses than this, an operation is in an endless loop. */
#define ACCESSES_MAX 20000000u

struct tally tally;
struct plan plan;
uint64_t operations;
bool winding_up;
struct coroutine coroutines[COROUTINES];

/* The values of `operations` at which killed processes, and a killed berthd, start again. */
static uint64_t process_starts[PROCESSES], daemon_starts;

/* -- chance ------------------------------------------------------------------------------------ */

static uint64_t chance_state;

void chance_seed(uint64_t seed) {
	chance_state = seed;
}

uint64_t chance(void) {
	uint64_t z = chance_state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* -- the plan ---------------------------------------------------------------------------------- */

static uint32_t name_and_parents(uint32_t name) {
	uint32_t bits = 0;

	for (int i = (int)name; i >= 0; i = names[i].parent)
		bits |= UINT32_C(1) << i;
	return bits;
}

/* Chooses the accounts of a run: always the first and "many", and others with their parents. */
static uint32_t names_draw(void) {
	uint32_t drawn = UINT32_C(1) << (NAMES - 1) | 1;

	for (uint32_t n = 1; n < NAMES - 1; n++)
		if (one_in(2))
			drawn |= name_and_parents(n);
	return drawn;
}

static uint32_t maybe(uint32_t often, uint32_t n) {
	return one_in(often) ? n : 0;
}

/* Draws a plan in which everything may happen now and then. */
static struct plan plan_of_everything(void) {
	return (struct plan){
		.processes = 1 + below(PROCESSES),
		.threads = 1 + below(THREADS),
		.names = names_draw(),
		.limit = 1 + below(4),
		.free_records = one_in(3) ? BERTH_RANGE : 1 + below(4),
		.kept_records = one_in(2) ? 1 : 2 + below(7),
		.entries = one_in(4) ? 2 + below(4) : NAMES,
		.one_range = one_in(2),
		.levels = one_in(2) ? 1 + below(2) : 4,
		.burst = below(8),
		.bursts = 1 + below(4),
		.length = 1000 + 4 * below_log(14),
		.preempt = 2 + below(60),
		.stall = 2 + below(20),
		.stalled = one_in(2) ? 1 + below(3) : COROUTINES,
		.stall_bits = 3 + below(15),
		.kill = maybe(3, 20 + below(200)),
		.daemon_kill = maybe(3, 20 + below(200)),
		.hang_up = maybe(4, 30 + below(200)),
		.close = maybe(4, 10 + below(100)),
		.thread_end = maybe(2, 10 + below(100)),
		.used_up = maybe(8, 1 + below(4)),
		.pause = 1 + below(8),
		.revoke = below(4),
		.limits = below(4),
		.removal = below(4),
		.recount = 1 + below(3),
	};
}

/* Draws a plan in which threads make many pairs with few records and few accounts, and stalls are
 * long. */
static struct plan plan_of_many_pairs(void) {
	struct plan p = plan_of_everything();

	p.processes = 1 + one_in(2);
	p.threads = 2 + one_in(3);
	p.names = UINT32_C(1) << (NAMES - 1) | 1;
	for (uint32_t i = 1 + below(2); i > 0; i--) {
		uint32_t name = 1 + below(NAMES - 2);

		p.names |= name_and_parents(name);
		p.burst_name = one_in(3) ? name : 0;
	}
	p.levels = one_in(2) ? 2 : 4;
	p.free_records = 1 + below(2);
	p.one_range = !one_in(4);
	p.burst = MANY_PAIRS_BITS - 1 + below(2);
	p.bursts = 4 + below(8);
	p.length = (50 + below(500)) << MANY_PAIRS_BITS;
	p.preempt = 10 + below(200);
	p.stall = 2 + below(4);
	p.stalled = 1 + below(3);
	p.stall_bits = MANY_PAIRS_BITS + below(3);
	p.kill = maybe(8, 300);
	p.daemon_kill = maybe(2, 1 + below(50));
	p.hang_up = 0;
	p.close = 0;
	p.pause = 2 + below(MANY_PAIRS_BITS);
	p.limits++;
	return p;
}

/* -- coroutines -------------------------------------------------------------------------------- */

struct coroutine *party_start(
	uint32_t process, uint32_t thread, void (*body)(struct coroutine *c)) {
	struct coroutine *c = coroutine_of(process, thread);

	c->process = process;
	c->thread = thread;
	if (process == DAEMON)
		strcpy(c->name, "berthd");
	else
		(void)snprintf(c->name, sizeof(c->name), "%c%u", 'A' + (int)process, thread + 1);
	coroutine_start(c, body);
	return c;
}

static void process_begin(uint32_t index) {
	process_start(index);
	for (uint32_t t = 0; t < plan.threads; t++) {
		struct coroutine *c = coroutine_of(index, t);

		c->thread_self = c->specific = NULL;
		(void)party_start(index, t, thread_body);
	}
}

static void process_end(uint32_t index) {
	trace_text("process %c is killed", 'A' + (int)index);
	process_kill(index);
	for (uint32_t t = 0; t < THREADS; t++)
		coroutine_of(index, t)->alive = false;
	process_starts[index] = operations + below_log(6);
	tally.kills++;
}

static void daemon_end(void) {
	trace_text("berthd is killed");
	daemon_kill();
	coroutine_of(DAEMON, 0)->alive = false;
	daemon_starts = operations + below_log(6);
	tally.daemon_kills++;
}

/* Restarts killed processes, and berthd if it was killed, when it is time. If `all`, restarts all
 * of them now, since no coroutine can run. */
static void restart(bool all) {
	if (!coroutine_of(DAEMON, 0)->alive && (all || operations >= daemon_starts))
		(void)party_start(DAEMON, 0, daemon_body);
	for (uint32_t p = 0; p < plan.processes && !winding_up; p++)
		if (!processes[p].alive && (all || operations >= process_starts[p]))
			process_begin(p);
}

static bool may_run(const struct coroutine *c) {
	return c->alive && !c->parked && c->sleeps_until <= operations &&
	       (!c->ready || c->ready(c->ready_data));
}

static struct coroutine *coroutine_pick(void) {
	struct coroutine *may[COROUTINES], *next = NULL;
	uint32_t n = 0;

	for (uint32_t i = 0; i < COROUTINES; i++)
		if (may_run(&coroutines[i]))
			may[n++] = &coroutines[i];
	if (n > 0)
		return may[below(n)];
	/* No coroutine can run now. If some are stalled, the one whose stall ends first
	 * continues. */
	for (uint32_t i = 0; i < COROUTINES; i++) {
		struct coroutine *c = &coroutines[i];

		if (c->alive && !c->parked && c->sleeps_until > operations &&
			(!next || c->sleeps_until < next->sleeps_until))
			next = c;
	}
	if (next)
		next->sleeps_until = operations;
	return next && may_run(next) ? next : NULL;
}

/* -- the schedule ------------------------------------------------------------------------------ */

static void slice_draw(void) {
	accesses_left = writes_left = loads_left = NO_END;
	switch (below(8)) {
	case 0:
	case 1:
		accesses_left = below(4);
		break;
	case 2:
	case 3:
		loads_left = below(8);
		accesses_left = 20 * plan.preempt;
		break;
	case 4:
		writes_left = below(3);
		accesses_left = 20 * plan.preempt;
		break;
	case 5:
		accesses_left = below(50 * plan.preempt);
		break;
	default:
		accesses_left = below(2 * plan.preempt);
	}
}

/* Called after the time slice of c. */
static void stall_or_kill(struct coroutine *c) {
	uint32_t stalled = 0;

	for (uint32_t i = 0; i < COROUTINES; i++)
		stalled += coroutines[i].alive && coroutines[i].sleeps_until > operations;
	if (one_in(plan.stall) && stalled < plan.stalled) {
		uint64_t length = below_size(plan.stall_bits);

		c->sleeps_until = operations + length;
		tally.stalls++;
		tally.longest_stall = MAX_OF(tally.longest_stall, length);
		trace_text(
			"%s is stalled for %llu operations", c->name, (unsigned long long)length);
	}
	if (c->process == DAEMON) {
		if (plan.daemon_kill != 0 && one_in(plan.daemon_kill))
			daemon_end();
	} else if (plan.kill != 0 && one_in(plan.kill * THREADS)) {
		process_end(c->process);
	}
}

/* Runs one coroutine for a time slice. Returns false if no coroutine can run. */
static bool slice_run(void) {
	struct coroutine *c = coroutine_pick();

	if (!c)
		return false;
	slice_draw();
	tally.switches++;
	coroutine_resume(c);
	accesses_left = writes_left = loads_left = NO_END;
	if (!run_is_over() && c->alive && !winding_up)
		stall_or_kill(c);
	return true;
}

/* -- one run ----------------------------------------------------------------------------------- */

void run_prepare(const struct plan *p) {
	plan = *p;
	operations = 0;
	winding_up = false;
	statics_reset();
	world_reset();
	coroutines_prepare();
	truth_reset();
	audit_reset();
	hooks_reset();
	processes_reset();
	memset(process_starts, 0, sizeof(process_starts));
	daemon_starts = 0;
	for (uint32_t i = 0; i < COROUTINES; i++) {
		coroutines[i].alive = false;
		coroutines[i].thread_self = coroutines[i].specific = NULL;
	}
	for (uint32_t n = BERTH_RANGE; n < RECORDS && plan.used_up != 0; n++)
		if (one_in(plan.used_up))
			view_use_up(n, 2 + below(64));
	daemon_start();
}

static bool all_parked(void) {
	for (uint32_t i = 0; i < COROUTINES; i++) {
		const struct coroutine *c = &coroutines[i];

		if (c->alive && !c->parked && (c->process != DAEMON || may_run(c) || !c->ready))
			return false;
	}
	return coroutine_of(DAEMON, 0)->alive;
}

/* Runs the coroutines until all of them are parked. */
static void run_to_the_end(void) {
	uint64_t begun = accesses;

	for (uint32_t i = 0; i < COROUTINES; i++)
		coroutines[i].sleeps_until = 0;
	while (!run_is_over() && !all_parked()) {
		if (!coroutine_of(DAEMON, 0)->alive)
			(void)party_start(DAEMON, 0, daemon_body);
		if (!slice_run() && !all_parked())
			verdict_fault("no coroutine can run, though not all have finished");
		if (accesses - begun > ACCESSES_MAX)
			verdict_fault("an operation doesn't end");
	}
}

void run_wind_up(void) {
	winding_up = true;
	run_to_the_end();
	for (uint32_t p = 0; p < PROCESSES && !run_is_over(); p++)
		if (processes[p].alive)
			process_release_all(&processes[p]);
	/* No slot is held now, with one exception. If a handle was closed, and berthd was killed
	 * before it saw the close, a thread in a call may hold a slot until its process dies. */
	if (plan.close == 0)
		audit_end();
	for (uint32_t p = 0; p < PROCESSES && !run_is_over(); p++)
		if (processes[p].alive)
			process_end(p);
	run_to_the_end();
	audit_end();
	for (uint32_t n = BERTH_RANGE; n < RECORDS && !run_is_over(); n++) {
		struct record_view r = view_record(n);

		if (r.state == RECORD_CLOSED)
			continue;
		verdict_about(r.account, n);
		verdict_fault("record %u is in state %u when all processes are dead", n, r.state);
	}
}

void run(uint64_t seed) {
	struct plan drawn;
	uint64_t end;

	verdict_begin("seed %llu", (unsigned long long)seed);
	chance_seed(seed);
	drawn = one_in(2) ? plan_of_everything() : plan_of_many_pairs();
	run_prepare(&drawn);
	for (uint32_t p = 0; p < plan.processes; p++)
		process_begin(p);
	(void)party_start(DAEMON, 0, daemon_body);
	end = accesses + plan.length;
	while (!run_is_over() && accesses < end) {
		restart(false);
		if (!slice_run())
			restart(true);
	}
	if (!run_is_over())
		run_wind_up();
	tally.runs++;
	tally.faults += verdict.failed;
	tally.operations += operations;
}
