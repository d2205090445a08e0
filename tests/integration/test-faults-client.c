/* SPDX-License-Identifier: MIT */

/* Each call that libberth makes fails in turn. The library returns the right code and doesn't hang,
 * held slots stay held, and neither the process nor berthd keeps resources. */

#include <pthread.h>

#include "faults.h"
#include "steps.h"

#define TIMEOUT_MS 3000

/* -- what every call must keep to -------------------------------------------------------------- */

static int descriptors_open(void) {
	return names_in("/proc/self/fd", "");
}

static bool in_close, in_resume;

/* True if the fault may cost the connection, and with it the session and its slots. The library
 * also hangs up if it asks a new berthd to resume the session, but gets no reply before the
 * deadline. */
static bool fault_closes_connection(void) {
	return fault->error == ECONNRESET || (in_close && fault->what == INJECT_SEND) ||
	       (in_resume && fault->what == INJECT_RECEIVE && fault->sticky);
}

static void code_check(int code) {
	if (code == BERTH_SUCCESS)
		return;
	fault_check(fault_hits > 0, "%d without a fault\n", code);
	/* The library retries after these faults, so the caller must not notice them. */
	fault_check(fault->error != EINTR && fault->error != EAGAIN && fault->what != INJECT_CLOCK,
		"%d\n", code);
	fault_check(code == BERTH_NO_SYSTEM_RESOURCES || fault_closes_connection(), "%d\n", code);
	fault_check(code == BERTH_NO_SYSTEM_RESOURCES || code == BERTH_CONNECTION_REFUSED ||
			    code == BERTH_CONNECTION_ABORTED,
		"%d\n", code);
}

/* The number of sessions whose connection ended without a goodbye. berthd keeps these sessions
 * until this process ends. */
static long long sessions_lost;

static bool nothing_is_left(void *data) {
	const char *output;

	(void)data;
	return ctl(&output, "status", "--json", NULL) == 0 &&
	       (fault_closes_connection() || json_number_in(output, "sessions") == sessions_lost) &&
	       json_number_in(output, "slots_held") == 0;
}

static void expect_nothing_left(int descriptors) {
	const char *output;

	if (!eventually(nothing_is_left, NULL)) {
		(void)ctl(&output, "status", NULL);
		fault_check(false, "left behind in berthd: %s\n", output);
	}
	sessions_lost = status_number("sessions");
	fault_check(current_of("kept") == 0, "a slot of 'kept' is left\n");
	fault_check(descriptors_open() == descriptors, "%d descriptors, not %d\n",
		descriptors_open(), descriptors);
}

static struct berth *open_with_timeout(void) {
	const struct berth_options options = {.size = sizeof(options), .timeout_ms = TIMEOUT_MS};
	struct berth *b = NULL;

	expect_code_for(fault_text(), BERTH_SUCCESS, berth_open_options(&options, &b));
	return b;
}

/* -- opening ----------------------------------------------------------------------------------- */

static void open_step(void) {
	const struct berth_options options = {.size = sizeof(options), .timeout_ms = TIMEOUT_MS};
	int descriptors = descriptors_open(), code;
	struct berth *b = NULL;

	fault_arm();
	code = berth_open_options(&options, &b);
	fault_disarm();
	code_check(code);
	fault_check((code == BERTH_SUCCESS) == (b != NULL),
		"berth_open returns %d, and %s handle\n", code, b ? "a" : "no");
	if (b)
		expect_code_for(
			fault_text(), BERTH_SUCCESS, berth_release(b, acquire_slot(b, "kept")));
	berth_close(b);
	expect_nothing_left(descriptors);
}

START_TEST(berth_open_succeeds_or_gets_8_and_leaves_nothing) {
	faults_sweep("berth_open", open_step);
}
END_TEST

/* -- with a session ---------------------------------------------------------------------------- */

/* A call of a session that holds a slot of 'kept'. */
struct scenario {
	void (*before)(struct berth *b); /* called before the fault is armed; may be NULL */
	int (*call)(struct berth *b);
};

static const struct scenario *scenario;
static berth_slot kept_slot, other_slot;
static unsigned names; /* the number of the name that call_acquire_new_name() acquires */

/* The session still holds its slot, and the next call succeeds. */
static void expect_kept(struct berth *b) {
	berth_slot more = 0;
	int code;

	fault_check(current_of("kept") == 1 || fault_closes_connection(),
		"the slot of 'kept' is lost\n");
	/* The name is new, so the library must ask berthd, and connects again if necessary. */
	code = berth_acquire(b, text_of("next/%u@example.com", names), &more);
	fault_check(code == BERTH_SUCCESS, "the next call: %d\n", code);
	expect_code_for(fault_text(), BERTH_SUCCESS, berth_release(b, more));
	code = berth_release(b, kept_slot);
	fault_check(code == BERTH_SUCCESS ||
			    (fault_closes_connection() && code == BERTH_CONNECTION_ABORTED),
		"release of the slot of 'kept': %d\n", code);
}

static void scenario_step(void) {
	int descriptors = descriptors_open(), code;
	struct berth *b = open_with_timeout();

	kept_slot = acquire_slot(b, "kept");
	other_slot = 0;
	names++;
	if (scenario->before)
		scenario->before(b);
	fault_arm();
	code = scenario->call(b);
	fault_disarm();
	code_check(code);
	expect_kept(b);
	berth_close(b);
	expect_nothing_left(descriptors);
}

static int call_acquire(struct berth *b) {
	return berth_acquire(b, "alice", &other_slot);
}

/* For a new name the library must ask berthd. */
static int call_acquire_new_name(struct berth *b) {
	return berth_acquire(b, text_of("stranger/%u@example.com", names), &other_slot);
}

/* Uses all records of the session's range. */
static void before_full(struct berth *b) {
	for (int i = 1; i < 16; i++)
		(void)acquire_slot(b, "alice");
}

static void before_release(struct berth *b) {
	other_slot = acquire_slot(b, "alice");
}

static int call_release(struct berth *b) {
	return berth_release(b, other_slot);
}

static int call_query(struct berth *b) {
	struct berth_usage usage = {.size = sizeof(usage)};

	return berth_query(b, "kept", &usage);
}

static void before_restart(struct berth *b) {
	(void)b;
	restart_after(SIGKILL);
}

static void sweep(const char *about, struct scenario s) {
	scenario = &s;
	faults_sweep(about, scenario_step);
}

START_TEST(berth_acquire_succeeds_or_gets_8) {
	sweep("berth_acquire", (struct scenario){NULL, call_acquire});
}
END_TEST

START_TEST(berth_acquire_of_a_new_name_succeeds_or_gets_8) {
	sweep("berth_acquire of a new name", (struct scenario){NULL, call_acquire_new_name});
}
END_TEST

START_TEST(berth_acquire_that_needs_another_range_succeeds_or_gets_8) {
	sweep("berth_acquire of the 17th", (struct scenario){before_full, call_acquire});
}
END_TEST

START_TEST(berth_release_and_berth_query_succeed_or_get_8) {
	sweep("berth_release", (struct scenario){before_release, call_release});
	sweep("berth_query", (struct scenario){NULL, call_query});
}
END_TEST

START_TEST(a_session_continues_with_a_new_berthd_or_the_call_gets_8) {
	in_resume = true;
	sweep("berth_acquire after a restart",
		(struct scenario){before_restart, call_acquire_new_name});
}
END_TEST

/* -- closing ----------------------------------------------------------------------------------- */

static void close_step(void) {
	int descriptors = descriptors_open();
	struct berth *b = open_with_timeout();

	(void)acquire_slot(b, "kept");
	(void)acquire_slot(b, "alice");
	fault_arm();
	berth_close(b);
	fault_disarm();
	expect_nothing_left(descriptors);
}

START_TEST(berth_close_frees_all_resources) {
	in_close = true;
	faults_sweep("berth_close", close_step);
}
END_TEST

/* -- the clock --------------------------------------------------------------------------------- */

struct acquirer {
	struct berth *b;
	const char *account;
	_Atomic bool done;
	int code;
};

static void *acquirer_run(void *data) {
	struct acquirer *a = data;
	berth_slot slot;

	a->code = berth_acquire(a->b, a->account, &slot);
	a->done = true;
	return NULL;
}

static bool acquirer_waits(void *data) {
	(void)data;
	return inject->calls > 0;
}

/* True when the call has returned, or after 20 polls. A call that doesn't wait returns within 20
 * polls. */
static bool has_returned_or_waits(void *data) {
	const struct acquirer *a = data;
	static int looks;

	return a->done || ++looks % 20 == 0;
}

/* Two threads acquire new names. The first one asks berthd, which is stopped, and the second one
 * waits for the first with a deadline. Then the clock jumps. */
static void acquire_with_clock_jump(int jump, const char *first, const char *second) {
	struct fault f = {"the clock jumps", INJECT_POLL, 0, false};
	struct acquirer a[2] = {{open_session(), first, false, -1}, {.code = -1}};
	pthread_t thread[2];

	a[1] = (struct acquirer){a[0].b, second, false, -1};
	(void)instance_kill(&here, SIGSTOP);
	fault = &f;
	fault_about = "two threads that ask berthd";
	fault_nth = 0;
	fault_arm();
	ck_assert_int_eq(pthread_create(&thread[0], NULL, acquirer_run, &a[0]), 0);
	ck_assert(eventually(acquirer_waits, NULL));
	f.what = INJECT_CLOCK;
	f.error = jump;
	f.sticky = true;
	fault_nth = 1;
	fault_arm();
	ck_assert_int_eq(pthread_create(&thread[1], NULL, acquirer_run, &a[1]), 0);
	(void)eventually(has_returned_or_waits, &a[1]);
	(void)instance_kill(&here, SIGCONT);
	for (int i = 0; i < 2; i++) {
		(void)pthread_join(thread[i], NULL);
		fault_check(a[i].code == BERTH_SUCCESS, "thread %d: %d\n", i, a[i].code);
	}
	fault_disarm();
	berth_close(a[0].b);
}

START_TEST(jumps_of_the_clock_do_not_affect_a_waiting_thread) {
	acquire_with_clock_jump(1 << 30, "a@example.com", "b@example.com");
	acquire_with_clock_jump(-(1 << 30), "c@example.com", "d@example.com");
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

static void setup(void) {
	faults_init();
	inject->only = getpid();
	inject_use(inject);
	here_start();
	set_limits("kept 5", "alice 100", "*@example.com 5", "stranger/*@example.com 5",
		"next/*@example.com 5");
}

int main(void) {
	const struct test tests[] = {
		{berth_open_succeeds_or_gets_8_and_leaves_nothing},
		{berth_acquire_succeeds_or_gets_8},
		{berth_acquire_of_a_new_name_succeeds_or_gets_8},
		{berth_acquire_that_needs_another_range_succeeds_or_gets_8},
		{berth_release_and_berth_query_succeed_or_get_8},
		{a_session_continues_with_a_new_berthd_or_the_call_gets_8},
		{berth_close_frees_all_resources},
		{jumps_of_the_clock_do_not_affect_a_waiting_thread},
		{NULL},
	};

	return run_berthd_suites(
		{"faults in a client", tests, .setup = setup, .teardown = here_end});
}
