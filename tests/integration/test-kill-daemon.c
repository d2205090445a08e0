/* SPDX-License-Identifier: MIT */

/*
 * berthd dies at every point: at every system call of any of its threads, and at every instruction
 * of the functions that write shared memory, while it starts, takes over, frees a dead process's
 * slots, revokes, sets, deletes, imports, opens a session, takes a checkpoint and stops.
 *
 * Two processes have sessions. The lodger (this one) holds slots through it all, and in half of the
 * runs takes and gives back others on the same accounts while berthd stands still in the middle, and
 * while it is dead. The guest is what the operation is about. After each death a new berthd is
 * started on the same directories, and then all must be as if there had been none: counts are what
 * the records say, slots of the living are theirs and of the dead free, and each limit is the new
 * one if that was acknowledged, else the old or the new one; in the store as in force.
 *
 * $STRIDE looks at every so many points (1: at all); without it, at a few, another offset for each
 * $SEED. $OPERATION (a part of a name) looks at some operations only.
 */

#include <sys/mman.h>
#include <sys/un.h>

#include "kill-operations.h"

#define SAMPLE       10 /* points of each operation, without $STRIDE */
#define GUEST_SLOTS  3
#define BUSY_ROUNDS  10
#define GUEST_WEIGHT 3

/* -- the world before and after ----------------------------------------------------------------- */

/* Where a failure happened: the operation and the point. */
static char where[256];

#define must(what, ...)                                   \
	do {                                              \
		if (!(what))                              \
			must_fail(__LINE__, __VA_ARGS__); \
	} while (0)

__attribute__((noreturn, format(printf, 2, 3))) static void must_fail(
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
	(void)setenv("NOTIFY_SOCKET", w.notify_path, 1);
	trace_me();
}

static void lodger_take(int i) {
	static const char *const account[LODGED] = {"acme/bob", "acme/bob", "carol"};
	int code = acquire_weight(w.lodger, account[i], (uint32_t)i + 1 - (i == 2), &w.slot[i]);

	must(code == 0, "the lodger gets %d for %s", code, account[i]);
}

/* In a child: holds three slots until told, releases them and reports each code. */
static void guest_main(struct child *c, void *data) {
	static const char *const account[GUEST_SLOTS] = {"acme/alice", "acme/alice", "acme"};
	struct berth *b = NULL;
	berth_slot slot[GUEST_SLOTS];
	int code = berth_open(NULL, &b);

	(void)data;
	for (int i = 0; code == BERTH_SUCCESS && i < GUEST_SLOTS; i++)
		code = acquire_weight(b, account[i], GUEST_WEIGHT, &slot[i]);
	child_send(c, code);
	(void)child_receive(c);
	for (int i = 0; i < GUEST_SLOTS; i++)
		child_send(c, berth_release(b, slot[i]));
	(void)child_receive(c);
	_exit(0);
}

static void guest_arrive(const struct operation *o) {
	int code;

	if (!o->has_guest)
		return;
	w.guest = child_start(guest_main, NULL);
	w.guest_lives = true;
	code = child_report(&w.guest);
	must(code == 0, "the guest gets %d", code);
	if (o->halfway != KILL_NOTHING)
		must(kill_leave_halfway(w.map, w.guest.pid, "acme/alice", o->halfway),
			"the guest has no free record");
}

/* The same accounts, and nobody to wait for. */
static void lodger_works(const char *when) {
	static const char *const account[] = {"acme/bob", "carol"};

	for (int i = 0; w.lodger && i < BUSY_ROUNDS; i++) {
		berth_slot slot;
		int code = berth_acquire(w.lodger, account[i % 2], &slot);

		must(code == 0, "the lodger, %s, gets %d from acquire", when, code);
		code = berth_release(w.lodger, slot);
		must(code == 0, "the lodger, %s, gets %d from release", when, code);
	}
}

static void audit(const char *when) {
	char why[512];

	must(audit_counts(w.map, why), "%s: %s", when, why);
}

static void map_again(void) {
	map_free(w.map);
	w.map = kill_map(here.runtime_dir);
	must(w.map, "there is no segment");
}

/* -- judging --------------------------------------------------------------------------------------- */

static bool name_is_changed(const struct operation *o, const char *name) {
	for (int i = 0; i < CHANGES_MAX && o->change[i].name; i++)
		if (strcmp(o->change[i].name, name) == 0)
			return true;
	return false;
}

static void judge_limit(const char *name, int64_t want) {
	int64_t stored = kill_stored(here.state_dir, "limits", name);

	must(stored == want, "the store has %lld for '%s', not %lld", (long long)stored, name,
		(long long)want);
	if (!strchr(name, '*'))
		must(kill_limit_in_force(w.map, name) == want,
			"'%s' has %lld in force, but %lld in the store", name,
			(long long)kill_limit_in_force(w.map, name), (long long)want);
}

/* All of the changes were made, or none of them; all, if it was acknowledged. True: made. */
static bool judge_limits(const struct operation *o, bool acknowledged) {
	const struct change *c = o->change;
	bool made = false;

	if (c->name)
		made = kill_stored(here.state_dir, "limits", c->name) == c->new;
	must(made || !acknowledged || !c->name, "'%s' was acknowledged, and is not stored",
		c->name);
	for (int i = 0; i < CHANGES_MAX && c[i].name; i++)
		judge_limit(c[i].name, made ? c[i].new : c[i].old);
	for (size_t i = 0; i < COUNT_OF(base_limits); i++)
		if (!name_is_changed(o, base_limits[i].name))
			judge_limit(base_limits[i].name, base_limits[i].limit);
	return made;
}

static void judge_guest(const struct operation *o, bool acknowledged, bool made) {
	bool all_revoked = o->fate == REVOKED_IF_ACKNOWLEDGED && acknowledged;

	child_send(&w.guest, 1);
	for (int i = 0; o->has_guest && i < GUEST_SLOTS; i++) {
		int code = child_report(&w.guest);
		/* A deletion takes those of the account alone. */
		bool concerned = !(o->change[0].name && i == 2);

		must(code == 0 || (code == BERTH_CONNECTION_ABORTED &&
					  o->fate == REVOKED_IF_ACKNOWLEDGED && concerned),
			"the guest gets %d for slot %d%s", code, i, made ? ", changed" : "");
		must(code != 0 || !all_revoked || !concerned,
			"the guest's slot %d was revoked, and is still held", i);
	}
	if (!o->has_guest) {
		int code = child_report(&w.guest);

		must(code == 0, "the visitor gets %d when it releases", code);
	}
	audit("the guest has released");
	guest_kill();
}

static bool guest_is_gone(void *data) {
	(void)data;
	return kill_sessions(w.map, w.guest.pid) == 0;
}

static void judge_lodger(void) {
	must(kill_count(w.map, "acme") == 3 && kill_count(w.map, "acme/bob") == 3 &&
			kill_count(w.map, "acme/alice") == 0,
		"without the guest, acme counts %u, acme/bob %u, acme/alice %u",
		kill_count(w.map, "acme"), kill_count(w.map, "acme/bob"),
		kill_count(w.map, "acme/alice"));
	for (int i = 0; i < LODGED; i++) {
		int code = berth_release(w.lodger, w.slot[i]);

		must(code == 0, "the lodger gets %d for its slot %d", code, i);
	}
	must(kill_count(w.map, "acme") == 0 && kill_count(w.map, "carol") == 0,
		"with all released, acme counts %u and carol %u", kill_count(w.map, "acme"),
		kill_count(w.map, "carol"));
	for (int i = 0; i < LODGED; i++)
		lodger_take(i);
	must(usage_of(w.lodger, "visitor/a").limit ==
			kill_stored(here.state_dir, "limits", "visitor/*"),
		"the template's limit is %lld, and not in force",
		(long long)kill_stored(here.state_dir, "limits", "visitor/*"));
}

/* Who is served finds what is stored: an account that was deleted is unknown. */
static void judge_service(const struct operation *o, struct berth *b, bool made) {
	for (int i = 0; i < CHANGES_MAX && o->change[i].name; i++) {
		const struct change *c = &o->change[i];
		int64_t limit = made ? c->new : c->old;
		int code, want = limit == KILL_ABSENT ? BERTH_NO_SUCH_USER : BERTH_SUCCESS;
		berth_slot slot;

		if (strchr(c->name, '*'))
			continue;
		code = berth_acquire(b, c->name, &slot);
		must(code == want, "an acquire of '%s' gives %d, not %d", c->name, code, want);
		if (code == BERTH_SUCCESS)
			code = berth_release(b, slot);
		must(code == 0 || code == want, "a release of '%s' gives %d", c->name, code);
	}
}

static void judge_newcomer(void) {
	struct berth *b = open_session();

	for (size_t i = 0; i < COUNT_OF(base_limits); i++)
		if (!strchr(base_limits[i].name, '*'))
			expect_code_for(where, BERTH_SUCCESS,
				berth_release(b, acquire_slot(b, base_limits[i].name)));
	berth_close(b);
}

/* A dead process's slots are free before anybody is served; a living one's are its own. */
static void judge(const struct operation *o) {
	bool acknowledged = w.awaited > 0 && w.replies >= w.awaited, made;

	must(w.code == 0, "the request was answered with %u", w.code);
	/* A visitor goes on as soon as there is a berthd; then everybody stands still. */
	if (w.guest_lives && !o->has_guest)
		must(child_report(&w.guest) == 0, "the visitor was refused");
	audit("berthd is back");
	must(kill_unfinished(w.map) == 0, "%u records are left halfway by a berthd that died",
		kill_unfinished(w.map));
	made = judge_limits(o, acknowledged);
	if (o->fate == DIED)
		must(kill_sessions(w.map, w.guest.pid) == 0, "the dead guest has a session");
	if (w.guest_lives) {
		judge_guest(o, acknowledged, made);
		must(eventually(guest_is_gone, NULL), "the guest's session doesn't end");
	}
	if (w.lodger) {
		judge_lodger();
		judge_service(o, w.lodger, made);
	} else {
		judge_newcomer();
	}
	audit("the guest is gone");
	must(kill_stray_ranges(w.map) == 0, "%u ranges are nobody's, and not free",
		kill_stray_ranges(w.map));
}

/* -- one run ----------------------------------------------------------------------------------------- */

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
		must(kill_replies_wait(fd, 1) == 0, "can't undo '%s'", c->name);
		asked++;
	}
	(void)close(fd);
	if (asked > 0)
		audit("the limits are as before");
}

/* Traced, and on its way to the point. */
static void trace_start(const struct operation *o, const char *const functions[]) {
	pid_t pid;

	if (!o->starts) {
		if (o->prepare)
			o->prepare();
		trace_begin_running(&w.trace, here.berthd, functions);
		return;
	}
	(void)instance_kill(&here, SIGKILL);
	if (o->prepare)
		o->prepare();
	if (o->anew)
		files_remove();
	here.before_exec = before_exec_traced;
	pid = instance_spawn(&here);
	here.before_exec = before_exec;
	trace_begin_exec(&w.trace, pid, functions);
}

/* True if it came to the point. */
static bool run_once(const struct operation *o, const char *const functions[], bool busy) {
	enum trace_end end;

	w.admin = -1;
	w.awaited = w.replies = w.code = 0;
	w.turn++;
	log_clear();
	guest_arrive(o);
	trace_start(o, functions);
	if (o->begin)
		o->begin();
	end = trace_run(&w.trace, o->finished, NULL);
	if (busy && end == TRACE_REACHED)
		lodger_works("berthd standing still");
	if (end != TRACE_ENDED)
		trace_kill(&w.trace);
	here.berthd = 0;
	if (w.admin >= 0)
		(void)reply_is_there(NULL);
	(void)close(w.admin);
	if (busy)
		lodger_works("berthd dead");
	instance_restart(&here);
	if (o->anew)
		map_again();
	judge(o);
	limits_restore(o);
	return end == TRACE_REACHED;
}

/* -- all runs of an operation -------------------------------------------------------------------------- */

/* Of all tests, each of which is a process. */
struct totals {
	size_t killed, points;
};
static struct totals *totals;

static size_t stride_of(size_t count) {
	const char *text = getenv("STRIDE");
	size_t n = text ? strtoul(text, NULL, 10) : 0;

	return n > 0 ? n : count / SAMPLE + 1;
}

static void run_points(
	const struct operation *o, const char *const functions[], struct trace_points *points) {
	size_t stride = stride_of(points->count), ran = 0, reached = 0;
	const char *kind = functions ? "instructions" : "system calls";
	int64_t begin = now_us();

	for (size_t i = random_below((uint32_t)stride); i < points->count; i += stride) {
		const struct trace_point *p = &points->all[i];

		w.trace.target = *p;
		(void)snprintf(where, sizeof(where), "%s, %s, %zu of %zu%s", o->name, kind, i,
			points->count, p->other ? ", of another thread" : "");
		reached += run_once(o, functions, ran++ % 2);
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
	w.trace.record = &points;
	(void)run_once(o, functions, false);
	w.trace.record = NULL;
	must(points.count > 0, "there is nothing to kill at");
	run_points(o, functions, &points);
	free(points.all);
}

/* All is released, everybody gone: nothing is left. */
static void judge_end(void) {
	char why[512];

	/* Has the library connect to the berthd that there is now, so that it can say goodbye. */
	if (w.lodger)
		expect_code(BERTH_SUCCESS,
			berth_release(w.lodger, acquire_slot(w.lodger, "visitor/last")));
	berth_close(w.lodger);
	expect_status_eventually("sessions", 0);
	must(audit_is_empty(w.map, why), "at the end, %s", why);
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

static void notify_open(void) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(w.notify_path, sizeof(w.notify_path), "%s/ready", here.dir);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", w.notify_path);
	w.notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(w.notify, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void setup(void) {
	const char *const args[] = {
		"--max-accounts", "60", "--max-slots", "96", "--max-sessions", "8", NULL};
	int fd;

	trace_pin();
	random_init();
	instance_start(&here, args);
	notify_open();
	fd = kill_connect(here.runtime_dir);
	for (size_t i = 0; i < COUNT_OF(base_limits); i++)
		kill_send_set(fd, base_limits[i].name, base_limits[i].limit);
	ck_assert_uint_eq(kill_replies_wait(fd, COUNT_OF(base_limits)), 0);
	(void)close(fd);
	/* From now on in a process group of its own. */
	here.before_exec = before_exec;
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	w = (struct world){.notify = w.notify, .admin = -1};
	(void)snprintf(w.notify_path, sizeof(w.notify_path), "%s/ready", here.dir);
	map_again();
}

static void setup_lodger(void) {
	setup();
	expect_code(BERTH_SUCCESS, berth_open(NULL, &w.lodger));
	for (int i = 0; i < LODGED; i++)
		lodger_take(i);
	expect_code(BERTH_SUCCESS, berth_release(w.lodger, acquire_slot(w.lodger, "visitor/a")));
}

static TCase *tcase_of(const char *name, void (*begin)(void), int first, int end) {
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 7200);
	tcase_add_checked_fixture(tc, begin, here_end);
	tcase_add_loop_test(tc, berthd_dies_at_any_system_call_and_nothing_is_lost, first, end);
	tcase_add_loop_test(tc, berthd_dies_at_any_instruction_and_nothing_is_lost, first, end);
	return tc;
}

int main(void) {
	Suite *suite = suite_create("kill-daemon");
	SRunner *runner = srunner_create(suite);
	int failed;

	totals = mmap(
		NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED)
		return EXIT_FAILURE;
	/* The first operation has no segment to begin with, so there is no lodger. */
	suite_add_tcase(suite, tcase_of("anew", setup, 0, 1));
	suite_add_tcase(suite, tcase_of("going on", setup_lodger, 1, COUNT_OF(operations)));
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	printf("berthd was killed at %zu of %zu points\n", totals->killed, totals->points);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
