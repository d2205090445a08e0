/* SPDX-License-Identifier: MIT */

/* A berthd that runs, with every call failing that can while it does what it is asked: what it says
 * is done is done for good, what it says has not changed has not, and it goes on. */

#include "faults.h"

#define LINES   200
#define PATIENT 3000

/* What berthctl said of the request with the fault. */
static int status;
static char said[65536];
static int number; /* a new limit for each request */

/* Runs berthctl with the fault. */
#define ask(...)                                                 \
	do {                                                     \
		const char *text_;                               \
		fault_arm();                                     \
		status = ctl(&text_, __VA_ARGS__, NULL);         \
		fault_disarm();                                  \
		(void)snprintf(said, sizeof(said), "%s", text_); \
	} while (0)

static bool is_done(void) {
	return status == 0;
}

/* Whether the request may have been done all the same: it was stored and not answered, or answered
 * with that. */
static bool is_open(void) {
	return !is_done() && !strstr(said, "nothing has changed") &&
	       !strstr(said, "nothing was imported");
}

/* A refusal is 8 and says why; without memory or messages berthd may only be able to hang up. */
static void expect_answer(void) {
	const char *text;

	fault_check(!process_has_ended(&here.berthd), "berthd has ended\n");
	fault_check(is_done() || fault_hits > 0, "%d without a fault: %s\n", status, said);
	if (!is_done())
		fault_check((status == 1 && strstr(said, "(8)")) ||
				    (status == 69 && !fault_is_of_the_disk()),
			"%d: %s\n", status, said);
	status_number("pid");
	fault_check(ctl(&text, "status", NULL) == 0, "%s\n", text);
}

static void berthd_again(void) {
	(void)instance_kill(&here, SIGKILL);
	faults_preload(true);
	instance_restart(&here);
	faults_preload(false);
}

/* -1: there is no such account. */
static long long limit_of(const char *account) {
	const char *text;

	if (ctl(&text, "get", account, "--json", NULL) != 0)
		return -1;
	return json_number_in(text, "limit");
}

/* Now and after kill -9: the new one if that was acknowledged, else the old one or either. */
static void expect_limit(const char *account, long long old, long long new) {
	long long now = limit_of(account), then;

	fault_check(is_done() ? now == new : now == old || (is_open() && now == new),
		"%s has %lld (old %lld, new %lld): %s\n", account, now, old, new, said);
	berthd_again();
	then = limit_of(account);
	fault_check(is_done() ? then == new : then == old || (is_open() && then == new),
		"%s has %lld after kill -9 (old %lld, new %lld): %s\n", account, then, old, new,
		said);
}

/* -- limits ------------------------------------------------------------------------------------ */

static void set_step(void) {
	long long old = limit_of("acme/alice");
	char limit[16];

	(void)snprintf(limit, sizeof(limit), "%d", ++number);
	ask("set", "acme/alice", limit);
	expect_answer();
	expect_limit("acme/alice", old, number);
}

static void set_new_step(void) {
	char name[300];

	/* A long name has a block of its own. */
	(void)snprintf(name, sizeof(name), "n%0150d/m", ++number);
	ask("set", name, "5");
	expect_answer();
	expect_limit(name, -1, 5);
	(void)ctl(NULL, "delete", name, NULL);
}

static void template_step(void) {
	long long old = limit_of("*@example.com");
	char limit[16];

	(void)snprintf(limit, sizeof(limit), "%d", ++number);
	ask("set", "*@example.com", limit);
	expect_answer();
	expect_limit("*@example.com", old, number);
}

static void delete_step(void) {

	set_limit("bob", "5");
	ask("delete", "bob");
	expect_answer();
	expect_limit("bob", 5, -1);
}

START_TEST(a_limit_that_is_set_is_there_for_good_or_refused_with_8) {
	faults_sweep("set", set_step);
	faults_sweep("set of a new account", set_new_step);
}
END_TEST

START_TEST(a_template_that_is_set_is_there_for_good_or_refused_with_8) {
	set_limit("*@example.com", "1");
	faults_sweep("set of a template", template_step);
}
END_TEST

START_TEST(a_limit_that_is_deleted_is_gone_for_good_or_stays) {
	faults_sweep("delete", delete_step);
}
END_TEST

/* -- import and export ------------------------------------------------------------------------- */

static const char *lines_write(int limit) {
	static char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/lines", here.dir);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	for (int i = 0; i < LINES; i++)
		fprintf(f, "group%d/customer%d %d\n", i % 10, i, limit);
	ck_assert_int_eq(fclose(f), 0);
	return path;
}

/* How many of the lines have the limit. */
static int lines_with(int limit) {
	const char *text;
	char end[32];
	int n = 0, r = ctl(&text, "export", NULL);

	fault_check(r == 0, "%s\n", text);
	(void)snprintf(end, sizeof(end), " %d\n", limit);
	for (const char *p = text; (p = strstr(p, end)); p += strlen(end))
		n++;
	return n;
}

static int imported; /* the limit that the lines have; 0: none have any */

static void expect_lines(int new) {
	int with_old = imported ? lines_with(imported) : 0, with_new = lines_with(new);

	fault_check((with_old == LINES || !imported || with_new == LINES) &&
			    (with_new == 0 || with_new == LINES),
		"%d have the old limit, %d the new one: %s\n", with_old, with_new, said);
	fault_check(is_done() ? with_new == LINES : with_new == 0 || is_open(), "%d new: %s\n",
		with_new, said);
}

static void import_step(void) {
	const char *path = lines_write(++number);

	ask("import", path);
	expect_answer();
	expect_lines(number);
	berthd_again();
	expect_lines(number);
	if (lines_with(number) == LINES)
		imported = number;
}

START_TEST(an_import_is_done_whole_and_for_good_or_not_at_all) {
	number = 1000;
	faults_sweep("import", import_step);
}
END_TEST

/* What only looks; the output is the same whenever there is one. */
static const char *const looks[][4] = {
	{"get", "acme/alice", "--json"},
	{"list", "--json"},
	{"export"},
	{"holders", "acme/alice", "--json"},
};
static const char *const *look;
static char *look_expected;

static void look_step(void) {
	ask(look[0], look[1], look[1] ? look[2] : NULL);
	if (is_done() && look_expected)
		fault_check(strcmp(said, look_expected) == 0, "%s\nnot\n%s\n", said, look_expected);
	if (is_done() && !look_expected)
		look_expected = strdup(said);
	expect_answer();
}

START_TEST(what_is_listed_is_right_or_refused) {
	struct berth *b = open_session();

	(void)acquire_slot(b, "acme/alice");
	set_limit("*@example.com", "3");
	for (size_t i = 0; i < COUNT_OF(looks); i++) {
		look = looks[i];
		look_expected = NULL;
		faults_sweep(look[0], look_step);
		free(look_expected);
	}
	berth_close(b);
}
END_TEST

/* -- sessions and slots ------------------------------------------------------------------------ */

static void revoke_step(void) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "acme/alice");
	int code;

	ask("revoke", "acme/alice", "--all");
	expect_answer();
	code = berth_release(b, slot);
	fault_check(code == BERTH_CONNECTION_ABORTED || (!is_done() && code == BERTH_SUCCESS),
		"%d after: %s\n", code, said);
	fault_check(current_of("acme/alice") == 0, "it is still counted\n");
	berth_close(b);
}

START_TEST(what_is_revoked_is_free) {
	faults_sweep("revoke", revoke_step);
}
END_TEST

static bool no_session_is_left(void *data) {
	(void)data;
	return status_number("sessions") == 0;
}

/* In a process of its own, whose death ends what the fault may have left half open. */
static void child_open(struct child *c, void *data) {
	const struct berth_options options = {.size = sizeof(options), .timeout_ms = PATIENT};
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
			    /* As if the server had sent none: there are descriptors to be had. */
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

static bool fault_has_struck(void *data) {
	int *patience = data;

	return inject->hits > 0 || --*patience == 0;
}

static void reap_step(void) {
	struct child c = child_start(child_hold_one, (void *)"acme/alice");
	int patience = 8;

	fault_check(child_report(&c) == BERTH_SUCCESS, "one that is to die\n");
	fault_arm();
	child_kill(&c);
	if (fault_nth > 0)
		(void)eventually(fault_has_struck, &patience);
	else
		expect_current_eventually("acme/alice", 0);
	fault_disarm();
	fault_check(!process_has_ended(&here.berthd), "berthd has ended\n");
	expect_current_eventually("acme/alice", 0);
	fault_check(eventually(no_session_is_left, NULL), "a session is left\n");
}

START_TEST(the_slots_of_the_dead_come_back) {
	faults_sweep("reaping", reap_step);
}
END_TEST

/* -- checkpoints ------------------------------------------------------------------------------- */

static bool is_checkpointed_after(void *data) {
	const char *text, *at;

	ck_assert_int_eq(ctl(&text, "status", "--json", NULL), 0);
	at = strstr(text, "\"checkpointed\":");
	return at && strncmp(at, data, strcspn(data, ",}")) != 0;
}

static void checkpoint_note(char to[64]) {
	const char *text;

	ck_assert_int_eq(ctl(&text, "status", "--json", NULL), 0);
	(void)snprintf(to, 64, "%s", strstr(text, "\"checkpointed\":"));
}

static unsigned peak;

/* The peak grows by one, berthd has trouble storing it, and has it all the same in the end. */
static void checkpoint_step(void) {
	struct berth *b = open_session();
	char before[64];

	checkpoint_note(before);
	peak++;
	fault_arm();
	for (unsigned i = 0; i < peak; i++)
		(void)acquire_slot(b, "alice");
	if (fault_nth == 0)
		fault_check(eventually(is_checkpointed_after, before), "no checkpoint\n");
	else
		for (int patience = 60; patience > 0 && inject->hits == 0; patience--)
			(void)usleep(20000);
	fault_disarm();
	fault_check(eventually(is_checkpointed_after, before), "no checkpoint\n");
	berth_close(b);
	berthd_again();
	fault_check(json_number_in(expect_ctl(0, "", "get", "alice", "--json"), "peak") == peak,
		"the peak isn't %u\n", peak);
}

START_TEST(a_checkpoint_that_fails_is_taken_again) {
	set_limit("alice", "unlimited");
	faults_sweep_of(INJECT_SPACE | INJECT_WRITE | INJECT_SYNC | INJECT_MEMORY | INJECT_CLOCK,
		"checkpoint", checkpoint_step);
}
END_TEST

/* -- a full map -------------------------------------------------------------------------------- */

START_TEST(a_full_map_refuses_with_8_and_loses_nothing) {
	char name[300];
	int stored = 0, r;
	const char *text;

	(void)instance_kill(&here, SIGTERM);
	inject->map_size = 128 * 1024;
	faults_preload(true);
	instance_restart(&here);
	faults_preload(false);
	do {
		(void)snprintf(name, sizeof(name), "n%0200d", stored);
		r = ctl(&text, "set", name, "7", NULL);
		stored += r == 0;
	} while (r == 0 && stored < 10000);
	ck_assert_int_gt(stored, 10);
	ck_assert_msg(r == 1 && strstr(text, "(8)") && strstr(text, "nothing has changed"),
		"%d: %s", r, text);
	expect_logged("can't store limits");
	expect_ctl(1, "(8)", "set", name, "1");
	/* Nothing of it is in force either, and the rest is served. */
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
	const TTest *const tests[] = {
		a_limit_that_is_set_is_there_for_good_or_refused_with_8,
		a_template_that_is_set_is_there_for_good_or_refused_with_8,
		a_limit_that_is_deleted_is_gone_for_good_or_stays,
		an_import_is_done_whole_and_for_good_or_not_at_all,
		what_is_listed_is_right_or_refused,
		what_is_revoked_is_free,
		a_session_is_opened_or_refused_and_leaves_nothing,
		the_slots_of_the_dead_come_back,
		a_checkpoint_that_fails_is_taken_again,
		a_full_map_refuses_with_8_and_loses_nothing,
		NULL,
	};

	return suite_run("faults in berthd", setup, tests);
}
