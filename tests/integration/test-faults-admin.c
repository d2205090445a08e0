/* SPDX-License-Identifier: MIT */

/* Each call that a running berthd makes while it handles a request fails in turn. If berthd
 * acknowledges the change, it must be durable. If berthd refuses it with "nothing has changed", it
 * must not be made. In either case berthd must keep running. */

#include "faults.h"
#include "steps.h"

#define LINES      200
#define TIMEOUT_MS 3000

/* The exit status and output of berthctl for the last request that was made during a fault. */
static int status;
static char output[65536];
static int number; /* a new limit for each request */

/* Runs berthctl while the fault is armed. */
#define ask_with_fault(...)                                          \
	do {                                                         \
		const char *text_;                                   \
		fault_arm();                                         \
		status = ctl(&text_, __VA_ARGS__, NULL);             \
		fault_disarm();                                      \
		(void)snprintf(output, sizeof(output), "%s", text_); \
	} while (0)

static bool is_acknowledged(void) {
	return status == 0;
}

/* True if the request failed, but its change may have been made, because berthd may have stored the
 * change before the error. */
static bool may_be_done(void) {
	return !is_acknowledged() && !strstr(output, "nothing has changed") &&
	       !strstr(output, "nothing was imported");
}

/* If berthd can't make the change, it must refuse with 8 and a reason. If it can't allocate or send
 * an answer, it must hang up. */
static void expect_answer(void) {
	const char *text;

	fault_check(!process_has_ended(&here.berthd), "berthd has ended\n");
	fault_check(
		is_acknowledged() || fault_hits > 0, "%d without a fault: %s\n", status, output);
	if (!is_acknowledged())
		fault_check((status == 1 && strstr(output, "(8)")) ||
				    (status == 69 && !fault_is_of_the_disk()),
			"%d: %s\n", status, output);
	status_number("pid");
	fault_check(ctl(&text, "status", NULL) == 0, "%s\n", text);
}

/* Returns the account's limit. Returns -1 if the account doesn't exist. */
static long long limit_of(const char *account) {
	const char *text;

	if (ctl(&text, "get", account, "--json", NULL) != 0)
		return -1;
	return json_number_in(text, "limit");
}

/* If berthd acknowledged the change, the account must have the new limit. If it didn't, but the
 * change may have been made, the account must have the old or the new limit; otherwise the old
 * limit. Checks this now, and again after a kill. */
static void expect_limit(const char *account, long long old, long long new) {
	long long now = limit_of(account), then;

	fault_check(is_acknowledged() ? now == new : now == old || (may_be_done() && now == new),
		"%s has %lld (old %lld, new %lld): %s\n", account, now, old, new, output);
	faults_restart_after(SIGKILL);
	then = limit_of(account);
	fault_check(is_acknowledged() ? then == new : then == old || (may_be_done() && then == new),
		"%s has %lld after kill -9 (old %lld, new %lld): %s\n", account, then, old, new,
		output);
}

/* -- limits ------------------------------------------------------------------------------------ */

static void set_next_limit(const char *account) {
	long long old = limit_of(account);

	ask_with_fault("set", account, text_of("%d", ++number));
	expect_answer();
	expect_limit(account, old, number);
}

static void set_step(void) {
	set_next_limit("acme/alice");
}

static void set_new_step(void) {
	/* berthd allocates a long name separately. */
	const char *name = text_of("n%0150d/m", ++number);

	ask_with_fault("set", name, "5");
	expect_answer();
	expect_limit(name, -1, 5);
	(void)ctl(NULL, "delete", name, NULL);
}

static void template_step(void) {
	set_next_limit("*@example.com");
}

static void delete_step(void) {
	set_limit("bob", "5");
	ask_with_fault("delete", "bob");
	expect_answer();
	expect_limit("bob", 5, -1);
}

START_TEST(a_set_of_a_limit_is_durable_or_gets_8) {
	faults_sweep("set", set_step);
	faults_sweep("set of a new account", set_new_step);
}
END_TEST

START_TEST(a_set_of_a_template_is_durable_or_gets_8) {
	set_limit("*@example.com", "1");
	faults_sweep("set of a template", template_step);
}
END_TEST

START_TEST(a_deletion_is_durable_or_undone) {
	faults_sweep("delete", delete_step);
}
END_TEST

/* -- import and export ------------------------------------------------------------------------- */

static const char *write_import(int limit) {
	const char *path = text_of("%s/lines", here.dir);
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	for (int i = 0; i < LINES; i++)
		fprintf(f, "group%d/customer%d %d\n", i % 10, i, limit);
	ck_assert_int_eq(fclose(f), 0);
	return path;
}

/* The number of lines of an export that have the limit. */
static int lines_with(int limit) {
	const char *text, *end = text_of(" %d\n", limit);
	int n = 0, r = ctl(&text, "export", NULL);

	fault_check(r == 0, "%s\n", text);
	for (const char *p = text; (p = strstr(p, end)); p += strlen(end))
		n++;
	return n;
}

static int imported; /* the limit that all lines have; 0 if no line was imported yet */

static void expect_lines(int new) {
	int with_old = imported ? lines_with(imported) : 0, with_new = lines_with(new);

	fault_check((with_old == LINES || !imported || with_new == LINES) &&
			    (with_new == 0 || with_new == LINES),
		"%d have the old limit, %d the new one: %s\n", with_old, with_new, output);
	fault_check(is_acknowledged() ? with_new == LINES : with_new == 0 || may_be_done(),
		"%d new: %s\n", with_new, output);
}

static void import_step(void) {
	const char *path = write_import(++number);

	ask_with_fault("import", path);
	expect_answer();
	expect_lines(number);
	faults_restart_after(SIGKILL);
	expect_lines(number);
	if (lines_with(number) == LINES)
		imported = number;
}

START_TEST(an_import_is_complete_and_durable_or_undone) {
	number = 1000;
	faults_sweep("import", import_step);
}
END_TEST

/* Requests that change nothing. Whenever such a request succeeds, its output is the same. */
static const char *const queries[][4] = {
	{"get", "acme/alice", "--json"},
	{"list", "--json"},
	{"export"},
	{"holders", "acme/alice", "--json"},
};
static const char *const *query;
static char *query_expected;

static void query_step(void) {
	ask_with_fault(query[0], query[1], query[1] ? query[2] : NULL);
	if (is_acknowledged() && query_expected)
		fault_check(strcmp(output, query_expected) == 0, "%s\nnot\n%s\n", output,
			query_expected);
	if (is_acknowledged() && !query_expected)
		query_expected = strdup(output);
	expect_answer();
}

START_TEST(queries_are_answered_correctly_or_refused) {
	struct berth *b = open_session();

	(void)acquire_slot(b, "acme/alice");
	set_limit("*@example.com", "3");
	for (size_t i = 0; i < COUNT_OF(queries); i++) {
		query = queries[i];
		query_expected = NULL;
		faults_sweep(query[0], query_step);
		free(query_expected);
	}
	berth_close(b);
}
END_TEST

/* -- sessions and slots ------------------------------------------------------------------------ */

static void revoke_step(void) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "acme/alice");
	int code;

	ask_with_fault("revoke", "acme/alice", "--all");
	expect_answer();
	code = berth_release(b, slot);
	fault_check(
		code == BERTH_CONNECTION_ABORTED || (!is_acknowledged() && code == BERTH_SUCCESS),
		"%d after: %s\n", code, output);
	fault_check(current_of("acme/alice") == 0, "the slot is still counted\n");
	berth_close(b);
}

START_TEST(a_revoked_slot_is_free) {
	faults_sweep("revoke", revoke_step);
}
END_TEST

static bool no_session_is_left(void *data) {
	(void)data;
	return status_number("sessions") == 0;
}

/* Opens a session in a process of its own. If the fault leaves the session half open, the death of
 * this process ends the session. */
static void child_open(struct child *c, void *data) {
	const struct berth_options options = {.size = sizeof(options), .timeout_ms = TIMEOUT_MS};
	struct berth *b = NULL;
	berth_slot slot;
	int code = berth_open_options(&options, &b);

	(void)data;
	for (int i = 0; i < 17 && code == BERTH_SUCCESS; i++)
		code = berth_acquire(b, "someone@example.com", &slot);
	child_send(c, code);
	(void)child_receive(c);
}

static void open_step(void) {
	struct child c;
	int code;

	fault_arm();
	c = child_start(child_open, NULL);
	code = child_report(&c);
	fault_disarm();
	fault_check(!process_has_ended(&here.berthd), "berthd has ended\n");
	fault_check(code == BERTH_SUCCESS || fault_hits > 0, "%d without a fault\n", code);
	fault_check(code == BERTH_SUCCESS || code == BERTH_NO_SYSTEM_RESOURCES ||
			    code == BERTH_CONNECTION_REFUSED ||
			    /* berthd can't tell a dropped descriptor from a missing one. */
			    (code == BERTH_ACCESS_DENIED && fault->what == INJECT_DROPPED),
		"%d\n", code);
	fault_check(code != BERTH_CONNECTION_REFUSED || !fault_is_of_the_disk(), "%d\n", code);
	child_kill(&c);
	fault_check(eventually(no_session_is_left, NULL), "a session is left\n");
	fault_check(status_number("slots_held") == 0, "slots are left\n");
}

START_TEST(a_session_is_opened_or_refused_and_leaves_nothing) {
	set_limit("*@example.com", "unlimited");
	faults_sweep("opening a session, and 17 slots", open_step);
}
END_TEST

static bool fault_has_hit_or_patience_ended(void *data) {
	int *patience = data;

	return inject->hits > 0 || --*patience == 0;
}

static void reap_step(void) {
	struct child c = child_start(child_hold_one, (void *)"acme/alice");
	int patience = 8;

	fault_check(child_report(&c) == BERTH_SUCCESS, "the process that is to die has no slot\n");
	fault_arm();
	child_kill(&c);
	if (fault_nth > 0)
		(void)eventually(fault_has_hit_or_patience_ended, &patience);
	else
		expect_current_eventually("acme/alice", 0);
	fault_disarm();
	fault_check(!process_has_ended(&here.berthd), "berthd has ended\n");
	expect_current_eventually("acme/alice", 0);
	fault_check(eventually(no_session_is_left, NULL), "a session is left\n");
}

START_TEST(the_slots_of_a_dead_process_are_freed) {
	faults_sweep("reaping", reap_step);
}
END_TEST

/* -- checkpoints ------------------------------------------------------------------------------- */

static unsigned peak;

/* The peak grows by one while a fault hits the checkpoint. After a kill berthd still has the new
 * peak. */
static void checkpoint_step(void) {
	struct berth *b = open_session();
	char before[64];

	checkpoint_time(before);
	peak++;
	fault_arm();
	for (unsigned i = 0; i < peak; i++)
		(void)acquire_slot(b, "alice");
	if (fault_nth == 0)
		fault_check(eventually(is_checkpointed_since, before), "no checkpoint\n");
	else
		for (int patience = 60; patience > 0 && inject->hits == 0; patience--)
			(void)usleep(20000);
	fault_disarm();
	fault_check(eventually(is_checkpointed_since, before), "no checkpoint\n");
	berth_close(b);
	faults_restart_after(SIGKILL);
	fault_check(
		account_number("alice", "peak") == (long long)peak, "the peak isn't %u\n", peak);
}

START_TEST(a_failed_checkpoint_is_repeated) {
	set_limit("alice", "unlimited");
	faults_sweep_of(INJECT_SPACE | INJECT_WRITE | INJECT_SYNC | INJECT_MEMORY | INJECT_CLOCK,
		"checkpoint", checkpoint_step);
}
END_TEST

/* -- a full map -------------------------------------------------------------------------------- */

START_TEST(with_a_full_map_a_set_gets_8_and_no_limit_is_lost) {
	int stored = 0, r;
	const char *text;
	char *name;

	inject->map_size = 128 * 1024;
	faults_restart_after(SIGTERM);
	do {
		name = text_of("n%0200d", stored);
		r = ctl(&text, "set", name, "7", NULL);
		stored += r == 0;
	} while (r == 0 && stored < 10000);
	ck_assert_int_gt(stored, 10);
	ck_assert_msg(r == 1 && strstr(text, "(8)") && strstr(text, "nothing has changed"),
		"%d: %s", r, text);
	expect_logged("can't store limits");
	expect_ctl(1, "(8)", "set", name, "1");
	/* The refused limit isn't in force, and berthd serves other requests. */
	expect_ctl(1, "", "get", name);
	ck_assert_int_eq(status_number("configured"), stored + 1);
	berth_close(open_session());
	(void)instance_kill(&here, SIGKILL);
	inject->map_size = 0;
	instance_restart(&here);
	ck_assert_int_eq(status_number("configured"), stored + 1);
	set_limit(name, "1");
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

static void setup(void) {
	faults_init();
	faults_preload(true);
	here_start();
	faults_preload(false);
	set_limit("acme/alice", "3");
}

int main(void) {
	const struct test tests[] = {
		{a_set_of_a_limit_is_durable_or_gets_8},
		{a_set_of_a_template_is_durable_or_gets_8},
		{a_deletion_is_durable_or_undone},
		{an_import_is_complete_and_durable_or_undone},
		{queries_are_answered_correctly_or_refused},
		{a_revoked_slot_is_free},
		{a_session_is_opened_or_refused_and_leaves_nothing},
		{the_slots_of_a_dead_process_are_freed},
		{a_failed_checkpoint_is_repeated},
		{with_a_full_map_a_set_gets_8_and_no_limit_is_lost},
		{NULL},
	};

	return run_berthd_suites({"faults in berthd", tests, .setup = setup, .teardown = here_end});
}
