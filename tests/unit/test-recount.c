/* SPDX-License-Identifier: MIT */

/* Recounts: of tables so large that they take several turns of the event loop, with what may happen
 * between two of them; and of what a checkpoint has kept of the noise. */

#include <sys/syscall.h>

#include "fixture.h"
#include "flood.h"
#include "recount.h"

/* More than one turn reads. */
#define MANY 70000u

static struct fixture f;
static sd_event *event;
static struct sessions *sessions;
static struct recount *recount;
static uint32_t record; /* the first one of a session of ours */

static void session_begin(void) {
	struct session_claim claim = {
		.pid = getpid(), .pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0)};
	struct session *s;
	uint32_t range;
	bool resumed;

	ck_assert_int_ge(claim.pidfd, 0);
	ck_assert_int_eq(sessions_open(sessions, &claim, &s, &resumed), 0);
	ck_assert_int_eq(session_grant(s, &range), 0);
	record = range * BERTH_RANGE;
}

static void setup(void) {
	static const struct capacities want = {.accounts = 300000, .slots = 4096, .sessions = 256};

	fixture_new(&f, &want);
	ck_assert_int_ge(sd_event_new(&event), 0);
	ck_assert_int_eq(sessions_new(event, f.segment, &sessions), 0);
	ck_assert_int_ge(recount_new(event, f.accounts, sessions, &recount), 0);
	session_begin();
}

static void teardown(void) {
	recount_free(recount);
	sessions_free(sessions);
	(void)sd_event_unref(event);
	fixture_free(&f);
}

/* Until the table is full, so that the next account makes it grow; the last one's name. */
static void accounts_make(char last[32]) {
	for (uint32_t i = 1; i < MANY || f.accounts->directory->free_count > 0; i++) {
		(void)snprintf(last, 32, "account%u", i);
		ck_assert_int_eq(fixture_configure(f.accounts, last, 10), 0);
	}
}

static void turns_finish(void) {
	int r;

	do
		r = sd_event_run(event, 0);
	while (r > 0);
	ck_assert_int_eq(r, 0);
}

static void take(const struct path *path, uint32_t number) {
	const struct stamp stamp = {0};
	uint32_t seq, level;

	ck_assert_int_eq(counter_acquire(f.map, number, path, 1, &stamp, &seq, &level), 0);
}

START_TEST(a_slot_of_an_account_made_meanwhile_counts_for_its_ancestors) {
	char parent[32], child[64];
	struct path path;
	uint32_t end;

	accounts_make(parent);
	end = directory_end(f.accounts->directory);
	recount_want(recount);
	/* The parent is read in a later turn, and by then it has been charged. */
	ck_assert_int_gt(sd_event_run(event, 0), 0);
	(void)snprintf(child, sizeof(child), "%s/child", parent);
	path = fixture_path(&f, child, 10);
	ck_assert_uint_ge(path.level[0].account, end);
	take(&path, record);
	turns_finish();
	ck_assert_uint_eq(counter_count(f.map, path.level[0].account), 1);
	ck_assert_uint_eq(counter_count(f.map, path.level[1].account), 1);
}
END_TEST

START_TEST(a_count_that_is_noise_is_repaired_in_the_last_turn_too) {
	char name[32];
	struct path path;
	uint64_t word;

	accounts_make(name);
	path = fixture_path(&f, name, 10);
	take(&path, record);
	word = load_acquire(&path.level[0].cell->word);
	store_total(&path.level[0].cell->word, cell_pack(7, cell_record(word), cell_seq(word)));
	recount_want(recount);
	turns_finish();
	ck_assert_uint_eq(counter_count(f.map, path.level[0].account), 1);
}
END_TEST

START_TEST(a_recount_ends_in_a_flood_of_messages) {
	unsigned messages = 0;
	sd_event_source *flood = flood_new(event, &messages);
	char name[32];

	accounts_make(name);
	recount_want(recount);
	while (recount_runs(recount) && messages < 1000)
		ck_assert_int_gt(sd_event_run(event, 0), 0);
	ck_assert_uint_gt(messages, 0);
	ck_assert(!recount_runs(recount));
	(void)sd_event_source_disable_unref(flood);
}
END_TEST

/* A checkpoint may come between the noise and the recount, which pauses now and then. */
START_TEST(a_peak_that_was_stored_as_noise_ends_with_the_next_recount) {
	struct path path = fixture_path(&f, "alice", 10);
	struct account *kept = &f.accounts->directory->account[path.level[0].account];

	take(&path, record);
	store_relaxed(&path.level[0].cell->peak, UINT32_MAX - 1);
	*kept = (struct account){.saved_count = 1, .saved_peak = UINT32_MAX - 1};
	recount_want(recount);
	turns_finish();
	ck_assert_uint_eq(load_relaxed(&path.level[0].cell->peak), 1);
}
END_TEST

int main(void) {
	Suite *s = suite_create("recount");
	TCase *t = tcase_create("recount");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_slot_of_an_account_made_meanwhile_counts_for_its_ancestors);
	tcase_add_test(t, a_count_that_is_noise_is_repaired_in_the_last_turn_too);
	tcase_add_test(t, a_recount_ends_in_a_flood_of_messages);
	tcase_add_test(t, a_peak_that_was_stored_as_noise_ends_with_the_next_recount);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
