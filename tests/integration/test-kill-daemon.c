/* SPDX-License-Identifier: MIT */

/*
 * Kills berthd at every point: at every system call of any of its threads, and at every instruction
 * of the functions that write shared memory. Meanwhile berthd starts, adopts sessions, frees the
 * slots of a dead process, revokes, sets, deletes, imports, opens a session, writes a checkpoint or
 * stops.
 *
 * Two processes have sessions. The holder (this process) holds slots all the time. In half of the
 * runs the holder also acquires and releases slots of the same accounts while berthd is stopped at
 * the point, and while berthd is dead. The client is the process that the operation affects. After
 * each death a new berthd is started on the same directories. Then the counts must be the sums of
 * the records, living processes must have their slots, and the slots of dead processes must be
 * free. Each limit must be the same in the store and in force. If berthd acknowledged the new
 * limit, this must be the new limit; otherwise, the old or the new limit.
 *
 * If $STRIDE is n, the test tries every n-th point. If it isn't set, the test tries a few points,
 * which depend on $SEED. If $OPERATION is set, only the operations whose names contain its value
 * are tried.
 */

#include "kill-operations.h"

#define SAMPLE        10 /* points of each operation, without $STRIDE */
#define CLIENT_SLOTS  3
#define BUSY_ROUNDS   10
#define CLIENT_WEIGHT 3

/* -- the processes with sessions --------------------------------------------------------------- */

/* The operation and the point of the present run, for the messages of failures. */
static char where[256];

#define check(what, ...)                                     \
	do {                                                 \
		if (!(what))                                 \
			check_failed(__LINE__, __VA_ARGS__); \
	} while (0)

__attribute__((noreturn, format(printf, 2, 3))) static void check_failed(
	int line, const char *format, ...) {
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ck_abort_msg("line %d, %s: %s\nberthd's log:\n%s", line, where, text, instance_log(&here));
	abort();
}

static void before_exec(void) {
	(void)setpgid(0, 0);
}

static void before_exec_traced(void) {
	(void)setpgid(0, 0);
	(void)setenv("NOTIFY_SOCKET", state.notify_path, 1);
	trace_me();
}

static void holder_acquire(int i) {
	static const char *const account[HELD_SLOTS] = {"acme/bob", "acme/bob", "carol"};
	int code = acquire_weight(
		state.holder, account[i], (uint32_t)i + 1 - (i == 2), &state.slot[i]);

	check(code == 0, "the holder gets %d for %s", code, account[i]);
}

/* In the child: acquires three slots and sends the code. When the child receives a number, releases
 * the slots and sends the code of each release. */
static void client_main(struct child *c, void *data) {
	static const char *const account[CLIENT_SLOTS] = {"acme/alice", "acme/alice", "acme"};
	struct berth *b = NULL;
	berth_slot slot[CLIENT_SLOTS];
	int code = berth_open(NULL, &b);

	(void)data;
	for (int i = 0; code == BERTH_SUCCESS && i < CLIENT_SLOTS; i++)
		code = acquire_weight(b, account[i], CLIENT_WEIGHT, &slot[i]);
	child_send(c, code);
	(void)child_receive(c);
	for (int i = 0; i < CLIENT_SLOTS; i++)
		child_send(c, berth_release(b, slot[i]));
	(void)child_receive(c);
	_exit(0);
}

static void client_start(const struct operation *o) {
	int code;

	if (o->fate == NO_CLIENT)
		return;
	state.client = child_start(client_main, NULL);
	state.client_lives = true;
	code = child_report(&state.client);
	check(code == 0, "the client gets %d", code);
	if (o->halfway != KILL_NOTHING)
		check(kill_leave_halfway(state.map, state.client.pid, "acme/alice", o->halfway),
			"the client has no free record");
}

/* The session knows these accounts, so the calls don't need berthd. */
static void holder_acquires_and_releases(const char *when) {
	static const char *const account[] = {"acme/bob", "carol"};

	for (int i = 0; state.holder && i < BUSY_ROUNDS; i++) {
		berth_slot slot;
		int code = berth_acquire(state.holder, account[i % 2], &slot);

		check(code == 0, "%s, the holder gets %d from acquire", when, code);
		code = berth_release(state.holder, slot);
		check(code == 0, "%s, the holder gets %d from release", when, code);
	}
}

static void audit(const char *when) {
	char why[512];

	check(audit_counts(state.map, why), "%s: %s", when, why);
}

static void map_files(void) {
	map_free(state.map);
	state.map = kill_map(here.runtime_dir);
	check(state.map, "there is no segment");
}

/* -- judging ----------------------------------------------------------------------------------- */

static bool name_is_changed(const struct operation *o, const char *name) {
	for (int i = 0; i < CHANGES_MAX && o->change[i].name; i++)
		if (strcmp(o->change[i].name, name) == 0)
			return true;
	return false;
}

static void judge_limit(const char *name, int64_t want) {
	int64_t stored = kill_stored(here.state_dir, "limits", name);

	check(stored == want, "the store has %lld for '%s', not %lld", (long long)stored, name,
		(long long)want);
	if (!strchr(name, '*'))
		check(kill_limit_in_force(state.map, name) == want,
			"'%s' has %lld in force, but %lld in the store", name,
			(long long)kill_limit_in_force(state.map, name), (long long)want);
}

/* If berthd acknowledged the operation, it must have made all changes of the operation; otherwise,
 * all or none of them. Returns true if the changes were made. */
static bool judge_limits(const struct operation *o, bool acknowledged) {
	const struct change *c = o->change;
	bool made = false;

	if (c->name)
		made = kill_stored(here.state_dir, "limits", c->name) == c->new;
	check(made || !acknowledged || !c->name, "'%s' was acknowledged, and is not stored",
		c->name);
	for (int i = 0; i < CHANGES_MAX && c[i].name; i++)
		judge_limit(c[i].name, made ? c[i].new : c[i].old);
	for (size_t i = 0; i < COUNT_OF(base_limits); i++)
		if (!name_is_changed(o, base_limits[i].name))
			judge_limit(base_limits[i].name, base_limits[i].limit);
	return made;
}

static void judge_client(const struct operation *o, bool acknowledged, bool made) {
	bool all_revoked = o->fate == REVOKED_IF_ACKNOWLEDGED && acknowledged;

	child_send(&state.client, 1);
	for (int i = 0; o->fate != NO_CLIENT && i < CLIENT_SLOTS; i++) {
		int code = child_report(&state.client);
		/* Slot 2 is of the parent account, whose slots a deletion doesn't revoke. */
		bool affected = !(o->change[0].name && i == 2);

		check(code == 0 || (code == BERTH_CONNECTION_ABORTED &&
					   o->fate == REVOKED_IF_ACKNOWLEDGED && affected),
			"the client gets %d for slot %d%s", code, i,
			made ? "; the change was made" : "");
		check(code != 0 || !all_revoked || !affected,
			"slot %d of the client was revoked, but is still held", i);
	}
	if (o->fate == NO_CLIENT) {
		int code = child_report(&state.client);

		check(code == 0, "the visitor gets %d when it releases", code);
	}
	audit("after the client's releases");
	client_kill(o);
}

static void judge_holder(void) {
	check(kill_count(state.map, "acme") == 3 && kill_count(state.map, "acme/bob") == 3 &&
			kill_count(state.map, "acme/alice") == 0,
		"without the client, acme counts %u, acme/bob %u, acme/alice %u",
		kill_count(state.map, "acme"), kill_count(state.map, "acme/bob"),
		kill_count(state.map, "acme/alice"));
	for (int i = 0; i < HELD_SLOTS; i++) {
		int code = berth_release(state.holder, state.slot[i]);

		check(code == 0, "the holder gets %d for its slot %d", code, i);
	}
	check(kill_count(state.map, "acme") == 0 && kill_count(state.map, "carol") == 0,
		"without any slot, acme counts %u and carol %u", kill_count(state.map, "acme"),
		kill_count(state.map, "carol"));
	for (int i = 0; i < HELD_SLOTS; i++)
		holder_acquire(i);
	check(usage_of(state.holder, "visitor/a").limit ==
			kill_stored(here.state_dir, "limits", "visitor/*"),
		"the limit of the template, %lld, isn't in force",
		(long long)kill_stored(here.state_dir, "limits", "visitor/*"));
}

/* Acquires must succeed for accounts that are stored. A deleted account must be unknown. */
static void judge_service(const struct operation *o, struct berth *b, bool made) {
	for (int i = 0; i < CHANGES_MAX && o->change[i].name; i++) {
		const struct change *c = &o->change[i];
		int64_t limit = made ? c->new : c->old;
		int code, want = limit == KILL_ABSENT ? BERTH_NO_SUCH_USER : BERTH_SUCCESS;
		berth_slot slot;

		if (strchr(c->name, '*'))
			continue;
		code = berth_acquire(b, c->name, &slot);
		check(code == want, "an acquire of '%s' gives %d, not %d", c->name, code, want);
		if (code == BERTH_SUCCESS)
			code = berth_release(b, slot);
		check(code == 0 || code == want, "a release of '%s' gives %d", c->name, code);
	}
}

static void judge_new_session(void) {
	struct berth *b = open_session();

	for (size_t i = 0; i < COUNT_OF(base_limits); i++)
		if (!strchr(base_limits[i].name, '*'))
			expect_code_for(where, BERTH_SUCCESS,
				berth_release(b, acquire_slot(b, base_limits[i].name)));
	berth_close(b);
}

/* Called when berthd is ready again, and so has freed the slots of dead processes. */
static void judge(const struct operation *o) {
	bool acknowledged = state.replies_wanted > 0 && state.replies >= state.replies_wanted, made;

	check(state.code == 0, "the request was answered with %u", state.code);
	/* Once a visitor has acquired, no process changes a count. */
	if (state.client_lives && o->fate == NO_CLIENT)
		check(child_report(&state.client) == 0, "the visitor was refused");
	audit("when berthd is ready again");
	check(kill_unfinished(state.map) == 0, "the dead berthd left %u records halfway",
		kill_unfinished(state.map));
	made = judge_limits(o, acknowledged);
	if (o->fate == DIED)
		check(kill_sessions(state.map, state.client.pid) == 0,
			"the dead client has a session");
	if (state.client_lives) {
		judge_client(o, acknowledged, made);
		check(eventually(client_session_has_ended, NULL),
			"the client's session doesn't end");
	}
	if (state.holder) {
		judge_holder();
		judge_service(o, state.holder, made);
	} else {
		judge_new_session();
	}
	audit("after the client's end");
	check(kill_stray_ranges(state.map) == 0, "%u ranges have no owner, but aren't free",
		kill_stray_ranges(state.map));
}

/* -- one run ----------------------------------------------------------------------------------- */

static void limits_restore(const struct operation *o) {
	int fd = kill_connect(here.runtime_dir);
	uint32_t asked = 0;

	for (int i = 0; i < CHANGES_MAX && o->change[i].name; i++) {
		const struct change *c = &o->change[i];

		if (kill_stored(here.state_dir, "limits", c->name) == c->old)
			continue;
		if (c->old == KILL_ABSENT)
			kill_send_delete(fd, c->name);
		else
			kill_send_set(fd, c->name, (uint32_t)c->old);
		check(kill_replies_wait(fd, 1) == 0, "can't undo '%s'", c->name);
		asked++;
	}
	(void)close(fd);
	if (asked > 0)
		audit("after the limits were restored");
}

/* Begins to trace the berthd that is to die. */
static void trace_start(const struct operation *o, const char *const functions[]) {
	pid_t pid;

	if (o->start == RUNNING) {
		if (o->prepare)
			o->prepare(o);
		trace_begin_running(&state.trace, here.berthd, functions);
		return;
	}
	(void)instance_kill(&here, SIGKILL);
	if (o->prepare)
		o->prepare(o);
	if (o->start == STARTED_WITHOUT_SEGMENT) {
		(void)unlink(text_of("%s/segment", here.runtime_dir));
		(void)unlink(text_of("%s/directory", here.runtime_dir));
	}
	here.before_exec = before_exec_traced;
	pid = instance_spawn(&here);
	here.before_exec = before_exec;
	trace_begin_exec(&state.trace, pid, functions);
}

/* Runs the operation, kills berthd at the point, and judges the result. True if berthd came to the
 * point. */
static bool run_to_point(const struct operation *o, const char *const functions[], bool busy) {
	enum trace_end end;

	state.admin = -1;
	state.replies_wanted = state.replies = state.code = 0;
	state.run++;
	log_clear();
	client_start(o);
	trace_start(o, functions);
	if (o->begin)
		o->begin(o);
	end = trace_run(&state.trace, o->finished, NULL);
	if (busy && end == TRACE_REACHED)
		holder_acquires_and_releases("while berthd is stopped");
	if (end != TRACE_ENDED)
		trace_kill(&state.trace);
	here.berthd = 0;
	if (state.admin >= 0)
		(void)reply_is_there(NULL);
	(void)close(state.admin);
	if (busy)
		holder_acquires_and_releases("while berthd is dead");
	instance_restart(&here);
	if (o->start == STARTED_WITHOUT_SEGMENT)
		map_files();
	judge(o);
	limits_restore(o);
	return end == TRACE_REACHED;
}

/* -- all runs of an operation ------------------------------------------------------------------ */

/* Shared by all tests, since each test is a process. */
struct totals {
	size_t killed, points;
};
static struct totals *totals;

static void run_points(
	const struct operation *o, const char *const functions[], struct trace_points *points) {
	size_t stride = environment_number("STRIDE", points->count / SAMPLE + 1), ran = 0,
	       reached = 0;
	const char *kind = functions ? "instructions" : "system calls";
	int64_t begin = now_us();

	for (size_t i = random_below((uint32_t)stride); i < points->count; i += stride) {
		const struct trace_point *p = &points->all[i];

		state.trace.target = *p;
		(void)snprintf(where, sizeof(where), "%s, %s, %zu of %zu%s", o->name, kind, i,
			points->count, p->other ? ", of another thread" : "");
		reached += run_to_point(o, functions, ran++ % 2);
		if (ran % 1000 == 0) {
			printf("    %s, %s: at %zu of %zu\n", o->name, kind, i, points->count);
			(void)fflush(stdout);
		}
	}
	printf("%s: killed at %zu of %zu %s, %zu after the end; %.0f a second\n", o->name, reached,
		points->count, kind, ran - reached,
		(double)ran / ((double)(now_us() - begin + 1) / 1e6));
	(void)fflush(stdout);
	totals->killed += reached;
	totals->points += points->count;
}

static void run_operation(const struct operation *o, const char *const functions[]) {
	const char *only = getenv("OPERATION");
	struct trace_points points = {0};

	if (only && !strstr(o->name, only))
		return;
	(void)snprintf(where, sizeof(where), "%s, recording", o->name);
	state.trace.record = &points;
	(void)run_to_point(o, functions, false);
	state.trace.record = NULL;
	check(points.count > 0, "the operation has no points");
	run_points(o, functions, &points);
	free(points.all);
}

/* After all sessions have ended, no slot, count or range may be left. */
static void judge_end(void) {
	char why[512];

	/* A new account makes the library connect to the present berthd, so that the library can
	 * send a goodbye. */
	if (state.holder)
		expect_code(BERTH_SUCCESS,
			berth_release(state.holder, acquire_slot(state.holder, "visitor/last")));
	berth_close(state.holder);
	expect_status_eventually("sessions", 0);
	check(audit_is_empty(state.map, why), "at the end, %s", why);
	ck_assert_int_eq(status_number("slots_granted"), 0);
}

START_TEST(berthd_dies_at_any_system_call_and_nothing_is_lost) {
	run_operation(&operations[_i], NULL);
	judge_end();
}
END_TEST

START_TEST(berthd_dies_at_any_instruction_and_nothing_is_lost) {
	if (trace_knows_functions())
		run_operation(&operations[_i], writers);
	judge_end();
}
END_TEST

static void setup(void) {
	const char *const args[] = {
		"--max-accounts", "60", "--max-slots", "96", "--max-sessions", "8", NULL};
	int fd;

	trace_pin();
	random_init();
	instance_start(&here, args);
	fd = kill_connect(here.runtime_dir);
	for (size_t i = 0; i < COUNT_OF(base_limits); i++)
		kill_send_set(fd, base_limits[i].name, base_limits[i].limit);
	ck_assert_uint_eq(kill_replies_wait(fd, COUNT_OF(base_limits)), 0);
	(void)close(fd);
	/* Restarts berthd, so that before_exec() gives it a process group of its own. */
	here.before_exec = before_exec;
	restart_after(SIGKILL);
	state = (struct state){.admin = -1};
	(void)snprintf(state.notify_path, sizeof(state.notify_path), "%s/ready", here.dir);
	state.notify = socket_bind(SOCK_DGRAM, state.notify_path);
	map_files();
}

static void setup_with_holder(void) {
	setup();
	expect_code(BERTH_SUCCESS, berth_open(NULL, &state.holder));
	for (int i = 0; i < HELD_SLOTS; i++)
		holder_acquire(i);
	expect_code(BERTH_SUCCESS,
		berth_release(state.holder, acquire_slot(state.holder, "visitor/a")));
}

int main(void) {
	/* The first operation begins without a segment, so there can't be a holder. */
	const struct test first[] = {
		{berthd_dies_at_any_system_call_and_nothing_is_lost, 0, 1},
		{berthd_dies_at_any_instruction_and_nothing_is_lost, 0, 1},
		{NULL},
	};
	const struct test others[] = {
		{berthd_dies_at_any_system_call_and_nothing_is_lost, 1, COUNT_OF(operations)},
		{berthd_dies_at_any_instruction_and_nothing_is_lost, 1, COUNT_OF(operations)},
		{NULL},
	};
	int status;

	totals = shared_memory(sizeof(*totals));
	status = run_suites(
		{"first start", first, .setup = setup, .teardown = here_end, .seconds = 7200},
		{"with sessions", others, .setup = setup_with_holder, .teardown = here_end,
			.seconds = 7200});
	printf("berthd was killed at %zu of %zu points\n", totals->killed, totals->points);
	return status;
}
