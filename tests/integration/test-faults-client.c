/* SPDX-License-Identifier: MIT */

/* libberth with every call failing that can: the right code, never a hang, what was held stays
 * held, and nothing is left behind in the process or in berthd. */

#include <dirent.h>
#include <pthread.h>

#include "faults.h"

#define TIMEOUT_MS 3000

/* -- what must hold ---------------------------------------------------------------------------- */

static int descriptors_open(void) {
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

static bool closing, resuming;

/* Whether a connection may be believed to be lost, and with it the session and what it holds.
 * One that goes on with a new berthd is so if that one's welcome can't be received for all the
 * timeout. */
static bool fault_is_a_hangup(void) {
	return fault->error == ECONNRESET || (closing && fault->what == INJECT_SEND) ||
	       (resuming && fault->what == INJECT_RECEIVE && fault->sticky);
}

/* What is worth a second try inside the library. */
static bool fault_is_nothing(void) {
	return fault->error == EINTR || fault->error == EAGAIN || fault->what == INJECT_CLOCK;
}

static void code_check(int code) {
	if (code == BERTH_SUCCESS)
		return;
	fault_check(fault_hits > 0, "%d without a fault\n", code);
	fault_check(!fault_is_nothing(), "%d\n", code);
	fault_check(code == BERTH_NO_SYSTEM_RESOURCES || fault_is_a_hangup(), "%d\n", code);
	fault_check(code == BERTH_NO_SYSTEM_RESOURCES || code == BERTH_CONNECTION_REFUSED ||
			    code == BERTH_CONNECTION_ABORTED,
		"%d\n", code);
}

/* A session whose connection ended without a goodbye keeps its place until this process has
 * ended. */
static long long sessions_lost;

static bool nothing_is_left(void *data) {
	const char *said;

	(void)data;
	return ctl(&said, "status", "--json", NULL) == 0 &&
	       (fault_is_a_hangup() || json_number_in(said, "sessions") == sessions_lost) &&
	       json_number_in(said, "slots_held") == 0;
}

static void expect_nothing_left(int descriptors) {
	const char *said;

	if (!eventually(nothing_is_left, NULL)) {
		(void)ctl(&said, "status", NULL);
		fault_check(false, "left behind in berthd: %s\n", said);
	}
	sessions_lost = status_number("sessions");
	fault_check(current_of("kept") == 0, "a slot of 'kept' is left\n");
	fault_check(descriptors_open() == descriptors, "%d descriptors, not %d\n",
		descriptors_open(), descriptors);
}

static struct berth *open_patiently(void) {
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
	fault_check((code == BERTH_SUCCESS) == (b != NULL), "a handle with an error\n");
	if (b)
		expect_code_for(
			fault_text(), BERTH_SUCCESS, berth_release(b, acquire_slot(b, "kept")));
	berth_close(b);
	expect_nothing_left(descriptors);
}

START_TEST(berth_open_works_or_is_8_and_leaves_nothing) {
	faults_sweep("berth_open", open_step);
}
END_TEST

/* -- with a session ---------------------------------------------------------------------------- */

/* With one slot held: what is called with the fault; afterwards the session is closed. */
struct scene {
	void (*before)(struct berth *b);
	int (*call)(struct berth *b);
};

static const struct scene *scene;
static berth_slot kept, taken;
static unsigned strangers;

/* The slot that was held before is so still, and a call works again. */
static void expect_kept(struct berth *b) {
	berth_slot more = 0;
	char name[64];
	int code;

	fault_check(current_of("kept") == 1 || fault_is_a_hangup(), "the slot of 'kept' is lost\n");
	/* One for which berthd must be asked: after its restart that is what connects again. */
	(void)snprintf(name, sizeof(name), "next/%u@example.com", strangers);
	code = berth_acquire(b, name, &more);
	fault_check(code == BERTH_SUCCESS, "the next call: %d\n", code);
	expect_code_for(fault_text(), BERTH_SUCCESS, berth_release(b, more));
	code = berth_release(b, kept);
	fault_check(
		code == BERTH_SUCCESS || (fault_is_a_hangup() && code == BERTH_CONNECTION_ABORTED),
		"releasing what was held: %d\n", code);
}

static void scene_step(void) {
	int descriptors = descriptors_open(), code;
	struct berth *b = open_patiently();

	kept = acquire_slot(b, "kept");
	taken = 0;
	strangers++;
	if (scene->before)
		scene->before(b);
	fault_arm();
	code = scene->call(b);
	fault_disarm();
	code_check(code);
	expect_kept(b);
	berth_close(b);
	expect_nothing_left(descriptors);
}

static int call_acquire(struct berth *b) {
	return berth_acquire(b, "alice", &taken);
}

/* A name that berthd must be asked for. */
static int call_acquire_stranger(struct berth *b) {
	char name[64];

	(void)snprintf(name, sizeof(name), "stranger/%u@example.com", strangers);
	return berth_acquire(b, name, &taken);
}

/* As many slots as the session has records for. */
static void before_full(struct berth *b) {
	for (int i = 1; i < 16; i++)
		(void)acquire_slot(b, "alice");
}

static void before_taken(struct berth *b) {
	taken = acquire_slot(b, "alice");
}

static int call_release(struct berth *b) {
	return berth_release(b, taken);
}

static int call_query(struct berth *b) {
	struct berth_usage usage = {.size = sizeof(usage)};

	return berth_query(b, "kept", &usage);
}

static void before_restart(struct berth *b) {
	(void)b;
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
}

static const struct scene scene_acquire = {NULL, call_acquire};
static const struct scene scene_stranger = {NULL, call_acquire_stranger};
static const struct scene scene_grow = {before_full, call_acquire};
static const struct scene scene_release = {before_taken, call_release};
static const struct scene scene_query = {NULL, call_query};
static const struct scene scene_resume = {before_restart, call_acquire_stranger};

START_TEST(berth_acquire_works_or_is_8) {
	scene = &scene_acquire;
	faults_sweep("berth_acquire", scene_step);
}
END_TEST

START_TEST(berth_acquire_of_a_name_that_berthd_must_be_asked_for_works_or_is_8) {
	scene = &scene_stranger;
	faults_sweep("berth_acquire of a new name", scene_step);
}
END_TEST

START_TEST(berth_acquire_beyond_the_records_at_hand_works_or_is_8) {
	scene = &scene_grow;
	faults_sweep("berth_acquire of the 17th", scene_step);
}
END_TEST

START_TEST(berth_release_and_berth_query_work_or_are_8) {
	scene = &scene_release;
	faults_sweep("berth_release", scene_step);
	scene = &scene_query;
	faults_sweep("berth_query", scene_step);
}
END_TEST

START_TEST(a_session_goes_on_with_a_new_berthd_or_the_call_is_8) {
	scene = &scene_resume;
	resuming = true;
	faults_sweep("berth_acquire after a restart", scene_step);
}
END_TEST

/* -- closing ----------------------------------------------------------------------------------- */

static void close_step(void) {
	int descriptors = descriptors_open();
	struct berth *b = open_patiently();

	(void)acquire_slot(b, "kept");
	(void)acquire_slot(b, "alice");
	fault_arm();
	berth_close(b);
	fault_disarm();
	expect_nothing_left(descriptors);
}

START_TEST(berth_close_gives_everything_back) {
	closing = true;
	faults_sweep("berth_close", close_step);
}
END_TEST

/* -- the clock --------------------------------------------------------------------------------- */

struct asker {
	struct berth *b;
	const char *account;
	_Atomic bool done;
	int code;
};

static void *asker_run(void *data) {
	struct asker *a = data;
	berth_slot slot;

	a->code = berth_acquire(a->b, a->account, &slot);
	a->done = true;
	return NULL;
}

static bool somebody_waits(void *data) {
	(void)data;
	return inject->calls > 0;
}

/* Long enough for one that doesn't wait to return; one that waits isn't concerned. */
static bool is_done_or_late(void *data) {
	const struct asker *a = data;
	static int looks;

	return a->done || ++looks % 20 == 0;
}

/* Two threads ask; the second waits for the first with a deadline. */
static void clock_try(int jump, const char *first, const char *second) {
	struct fault f = {"the clock jumps", INJECT_POLL, 0, false};
	struct asker a[2] = {{open_session(), first, false, -1}, {.code = -1}};
	pthread_t thread[2];

	a[1] = (struct asker){a[0].b, second, false, -1};
	(void)instance_kill(&here, SIGSTOP);
	fault = &f;
	fault_about = "two threads ask";
	fault_nth = 0;
	fault_arm();
	ck_assert_int_eq(pthread_create(&thread[0], NULL, asker_run, &a[0]), 0);
	ck_assert(eventually(somebody_waits, NULL));
	f.what = INJECT_CLOCK;
	f.error = jump;
	f.sticky = true;
	fault_nth = 1;
	fault_arm();
	ck_assert_int_eq(pthread_create(&thread[1], NULL, asker_run, &a[1]), 0);
	(void)eventually(is_done_or_late, &a[1]);
	(void)instance_kill(&here, SIGCONT);
	for (int i = 0; i < 2; i++) {
		(void)pthread_join(thread[i], NULL);
		fault_check(a[i].code == BERTH_SUCCESS, "thread %d: %d\n", i, a[i].code);
	}
	fault_disarm();
	berth_close(a[0].b);
}

START_TEST(a_thread_that_waits_for_another_is_not_misled_by_the_clock) {
	clock_try(1 << 30, "a@example.com", "b@example.com");
	clock_try(-(1 << 30), "c@example.com", "d@example.com");
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

static void setup(void) {
	faults_init();
	inject->only = getpid();
	inject_use(inject);
	here_start();
	set_limit("kept", "5");
	set_limit("alice", "100");
	set_limit("*@example.com", "5");
	set_limit("stranger/*@example.com", "5");
	set_limit("next/*@example.com", "5");
}

int main(void) {
	const TTest *const tests[] = {
		berth_open_works_or_is_8_and_leaves_nothing,
		berth_acquire_works_or_is_8,
		berth_acquire_of_a_name_that_berthd_must_be_asked_for_works_or_is_8,
		berth_acquire_beyond_the_records_at_hand_works_or_is_8,
		berth_release_and_berth_query_work_or_are_8,
		a_session_goes_on_with_a_new_berthd_or_the_call_is_8,
		berth_close_gives_everything_back,
		a_thread_that_waits_for_another_is_not_misled_by_the_clock,
		NULL,
	};

	return suite_run("faults in a client", setup, tests);
}
