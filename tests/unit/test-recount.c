/* SPDX-License-Identifier: MIT */

/* Recounts: of tables so large that they take several turns of the event loop, with what may happen
 * between two of them; of what was begun and not ended, of noise in records, and of what a checkpoint has
 * kept of the noise. */

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
	ck_assert_int_ge(recount_new(event, accounts_directory(f.accounts), sessions, &recount), 0);
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
	for (uint32_t i = 1; i < MANY || directory_live(accounts_directory(f.accounts)) + 1 <
						 directory_end(accounts_directory(f.accounts));
		i++) {
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

static uint64_t take(const struct path *path, uint32_t number) {
	const struct stamp stamp = {0};
	uint32_t level;
	uint64_t seq;

	ck_assert_int_eq(record_acquire(f.map, number, path, 1, &stamp, &seq, &level), 0);
	return seq;
}

static void give(uint32_t number, uint64_t seq) {
	ck_assert_int_eq(counter_release(f.map, number, seq), 0);
}

/* A new one, since one that has run pauses. */
static void recount_all(void) {
	recount_free(recount);
	ck_assert_int_ge(recount_new(event, accounts_directory(f.accounts), sessions, &recount), 0);
	recount_request(recount);
	turns_finish();
	ck_assert(!recount_is_running(recount));
}

static void check_counts(const struct path *path, uint32_t want) {
	for (uint32_t k = 0; k < path->depth; k++)
		ck_assert_uint_eq(counter_count(f.map, path->level[k].account), want);
}

static struct snapshot look(uint32_t number) {
	struct snapshot s;

	ck_assert_int_eq(counter_record(f.map, number, &s), 0);
	return s;
}

START_TEST(a_slot_of_an_account_made_meanwhile_counts_for_its_ancestors) {
	char parent[32], child[64];
	struct path path;
	uint32_t end;

	accounts_make(parent);
	end = directory_end(accounts_directory(f.accounts));
	recount_request(recount);
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
	struct cell *cell;
	struct pair seen;

	accounts_make(name);
	path = fixture_path(&f, name, 10);
	take(&path, record);
	cell = path.level[0].cell;
	seen = cell_load(cell);
	store_total(&cell->count, count_pack(7, count_bumps(seen.first)));
	recount_all();
	ck_assert_uint_eq(counter_count(f.map, path.level[0].account), 1);
	/* Neither word is what it was; what the old tag told is noted. */
	ck_assert_uint_eq(tag_record(load_acquire(&cell->tag)), 0);
	ck_assert_uint_eq(load_acquire(&map_record(f.map, record)->noted), tag_seq(seen.second));
	ck_assert_uint_eq(count_bumps(load_acquire(&cell->count)), count_bumps(seen.first) + 1);
}
END_TEST

START_TEST(a_cell_whose_bumps_are_used_up_gets_new_ones_and_keeps_the_rest) {
	const struct path path = fixture_path(&f, "acme/alice", 10);
	struct cell *cell = path.level[1].cell;
	uint64_t seq = take(&path, record);

	recount_all();
	store_relaxed(&cell->denied, 7);
	store_relaxed(&cell->peak, 5);
	store_total(&cell->count, count_pack(1, BERTH_BUMPS_LAST));
	recount_all();
	ck_assert(counter_has_bumps(f.map, path.level[1].account, 1000));
	ck_assert_uint_eq(load_relaxed(&cell->denied), 7);
	ck_assert_uint_eq(load_relaxed(&cell->peak), 5);
	check_counts(&path, 1);
	give(record, seq);
	check_counts(&path, 0);
}
END_TEST

/* Held when the tags are read, and when they are compared, but not in turn _i: where the tag came again
 * after that many steps, the recount would take a count away from the slot. */
START_TEST(no_number_of_steps_between_two_turns_makes_a_changed_cell_look_as_it_was) {
	struct path path = fixture_path(&f, "alice", 10);
	char name[32];
	uint64_t seq;

	accounts_make(name);
	seq = take(&path, record);
	recount_request(recount);
	for (int i = 0; i < _i; i++)
		ck_assert_int_gt(sd_event_run(event, 0), 0);
	give(record, seq);
	ck_assert_int_gt(sd_event_run(event, 0), 0);
	for (int i = 1; i < 1 << 20; i++)
		give(record, take(&path, record));
	ck_assert_uint_eq(take(&path, record), seq + (UINT64_C(16) << 20));
	turns_finish();
	check_counts(&path, 1);
}
END_TEST

/* R1 at the top: of the slot's own cycle, or of the next, if it is a revocation. */
static void release_begin(const struct path *path, uint64_t seq, uint64_t cycles) {
	uint32_t top = path->depth - 1;
	struct pair seen = cell_load(path->level[top].cell);

	ck_assert(seen.second == tag_pack(record, seq));
	ck_assert(cas16(&path->level[top].cell->count, seen,
		(struct pair){seen.first - (UINT64_C(1) << BERTH_COUNT_SHIFT),
			tag_pack(record, seq_down(seq_base(seq) + cycles * BERTH_CYCLE, top))}));
}

START_TEST(a_release_or_a_revocation_that_was_begun_and_not_ended_is_finished) {
	for (uint64_t cycles = 0; cycles < 2; cycles++) {
		struct path path = fixture_path(&f, "acme/alice/web", 10);
		uint64_t seq = take(&path, record);

		release_begin(&path, seq, cycles);
		ck_assert_uint_eq(counter_count(f.map, path.level[0].account), 1);
		recount_all();
		check_counts(&path, 0);
		ck_assert(look(record).seq == seq_rest(seq) + cycles * BERTH_CYCLE);
		ck_assert_int_eq(counter_release(f.map, record, seq), -ENOENT);
		give(record, take(&path, record));
		check_counts(&path, 0);
	}
}
END_TEST

START_TEST(a_slot_that_its_owner_left_for_lack_of_memory_is_taken_back) {
	struct path path = fixture_path(&f, "acme/alice/web", 10);

	(void)take(&path, record);
	counter_seize(f.map, record);
	recount_all();
	check_counts(&path, 0);
	ck_assert(look(record).place == place_pack(RECORD_FREE, 0, 0, 0));
	give(record, take(&path, record));
}
END_TEST

/* No code of ours writes more than 42 bits. */
static const uint64_t noise[] = {UINT64_MAX, UINT64_C(1) << 42, UINT64_C(3) << 50, UINT64_MAX - 200,
	UINT64_C(0xA5A5A5A5A5A5A5A5)};

/* Over records that are free, at rest, held and closed. */
static void noise_write_and_recount(const struct path *path, uint64_t word) {
	give(record + 1, take(path, record + 1));
	(void)take(path, record + 2);
	ck_assert_int_eq(counter_close(f.map, record + 3), 0);
	for (uint32_t n = record; n < record + 4; n++)
		store_total(&map_record(f.map, n)->noted, word);
	recount_all();
	check_counts(path, 0);
	for (uint32_t n = record; n < record + 4; n++) {
		ck_assert(place_state(look(n).place) == RECORD_FREE);
		ck_assert_uint_le(look(n).seq, BERTH_SEQ_MASK / 2 + 99 * BERTH_CYCLE);
		ck_assert(!counter_is_retired(f.map, n));
		give(n, take(path, n));
	}
	check_counts(path, 0);
}

START_TEST(noise_in_noted_is_discarded_and_uses_no_record_up) {
	struct path path = fixture_path(&f, "acme/alice/web", 10);

	noise_write_and_recount(&path, noise[_i]);
}
END_TEST

START_TEST(noise_in_noted_that_comes_again_is_discarded_again) {
	struct path path = fixture_path(&f, "acme/alice/web", 10);

	for (size_t i = 0; i < ELEMENTS(noise); i++)
		noise_write_and_recount(&path, noise[i]);
}
END_TEST

/* More levels than the path has, going up or down. */
START_TEST(noise_in_noted_that_charges_more_levels_than_there_are_is_discarded) {
	static const char *const names[] = {"alice", "acme/alice", "acme/alice/web"};

	for (uint64_t step = 1; step < BERTH_CYCLE; step++) {
		struct path path = fixture_path(&f, names[_i], 10);

		if (seq_charged(step) <= path.depth)
			continue;
		give(record, take(&path, record));
		store_total(&map_record(f.map, record)->noted, seq_rest(look(record).seq) + step);
		recount_all();
		check_counts(&path, 0);
		give(record, take(&path, record));
		check_counts(&path, 0);
	}
}
END_TEST

/* In a record that is free; in one that is placed, as if a release had come so far. */
START_TEST(noise_in_noted_where_nothing_is_charged_leaves_the_record_of_use) {
	struct path path = fixture_path(&f, "acme/alice/web", 10);
	struct record *r = map_record(f.map, record);

	for (uint64_t step = _i == 0 ? 1 : 14; step < BERTH_CYCLE; step++) {
		give(record, take(&path, record));
		if (_i == 0)
			store_total(&r->place, place_pack(RECORD_FREE, 0, 0, 0));
		store_total(&r->noted, seq_rest(look(record).seq) + step);
		recount_all();
		check_counts(&path, 0);
		give(record, take(&path, record));
		check_counts(&path, 0);
	}
}
END_TEST

/* Zeros, say. The cell still bears a tag of the record, newer than all that it would write next. */
START_TEST(a_record_that_was_written_over_takes_no_step_a_second_time) {
	struct path path = fixture_path(&f, "acme/alice/web", 10);
	struct path other = fixture_path(&f, "bob", 10);
	struct record *r = map_record(f.map, record);
	uint64_t seq = 0, next;

	for (int i = 0; i < 100; i++) {
		seq = take(&path, record);
		if (i < 99)
			give(record, seq);
	}
	store_total(&r->place, _i == 0 ? 0 : place_pack(RECORD_FREE, 0, 0, 0));
	store_total(&r->noted, 0);
	recount_all();
	check_counts(&path, 0);
	next = take(&other, record);
	/* Overwrites that tag, and notes it first. */
	give(record + 1, take(&path, record + 1));
	ck_assert(snapshot_is_held(look(record)));
	ck_assert_uint_gt(next, seq);
	give(record, next);
	check_counts(&other, 0);
	check_counts(&path, 0);
}
END_TEST

START_TEST(a_recount_ends_in_a_flood_of_messages) {
	unsigned messages = 0;
	sd_event_source *flood = flood_new(event, &messages);
	char name[32];

	accounts_make(name);
	recount_request(recount);
	while (recount_is_running(recount) && messages < 1000)
		ck_assert_int_gt(sd_event_run(event, 0), 0);
	ck_assert_uint_gt(messages, 0);
	ck_assert(!recount_is_running(recount));
	(void)sd_event_source_disable_unref(flood);
}
END_TEST

/* A checkpoint may come between the noise and the recount, which pauses now and then. */
START_TEST(a_peak_that_was_stored_as_noise_ends_with_the_next_recount) {
	struct path path = fixture_path(&f, "alice", 10);
	struct account *kept =
		directory_account(accounts_directory(f.accounts), path.level[0].account);

	take(&path, record);
	store_relaxed(&path.level[0].cell->peak, UINT32_MAX - 1);
	*kept = (struct account){.saved_count = 1, .saved_peak = UINT32_MAX - 1};
	recount_request(recount);
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
	tcase_add_test(t, a_cell_whose_bumps_are_used_up_gets_new_ones_and_keeps_the_rest);
	tcase_add_loop_test(
		t, no_number_of_steps_between_two_turns_makes_a_changed_cell_look_as_it_was, 0, 5);
	tcase_add_test(t, a_release_or_a_revocation_that_was_begun_and_not_ended_is_finished);
	tcase_add_test(t, a_slot_that_its_owner_left_for_lack_of_memory_is_taken_back);
	tcase_add_loop_test(
		t, noise_in_noted_is_discarded_and_uses_no_record_up, 0, (int)ELEMENTS(noise));
	tcase_add_test(t, noise_in_noted_that_comes_again_is_discarded_again);
	tcase_add_loop_test(
		t, noise_in_noted_that_charges_more_levels_than_there_are_is_discarded, 0, 3);
	tcase_add_loop_test(
		t, noise_in_noted_where_nothing_is_charged_leaves_the_record_of_use, 0, 2);
	tcase_add_loop_test(t, a_record_that_was_written_over_takes_no_step_a_second_time, 0, 2);
	tcase_add_test(t, a_recount_ends_in_a_flood_of_messages);
	tcase_add_test(t, a_peak_that_was_stored_as_noise_ends_with_the_next_recount);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
