/* SPDX-License-Identifier: MIT */

/* Tests recounts: of tables so large that a recount takes several time slices, with changes between
 * two slices; of operations that were begun and not finished; of noise in cells and records; and of
 * a peak that is noise and was stored by a checkpoint. */

#include <sys/syscall.h>

#include "fixture.h"
#include "event-loop.h"
#include "run.h"

/* More accounts than a recount reads in one time slice. */
#define MANY 70000u

static struct path web; /* of acme/alice/web */
static uint32_t record; /* the first record of this process's session */

static void setup(void) {
	static const struct capacities want = {.accounts = 300000, .slots = 4096, .sessions = 256};
	struct session_claim claim = {
		.pid = getpid(), .pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0)};
	struct session *s;
	uint32_t range;
	bool resumed;

	fixture_new(&want);
	web = path_with("acme/alice/web", 10);
	loop_begin();
	ck_assert_int_ge(claim.pidfd, 0);
	ck_assert_int_eq(sessions_open(sessions, &claim, &s, &resumed), 0);
	ck_assert_int_eq(session_grant(s, &range), 0);
	record = range * BERTH_RANGE;
}

static void teardown(void) {
	loop_end();
	fixture_free();
}

/* Creates accounts until the table is full, so that the next account makes the table grow. Returns
 * the name of the last account. */
static void accounts_create(char last[32]) {
	for (uint32_t i = 1; i < MANY || directory_live(accounts_directory(f.accounts)) + 1 <
						 directory_end(accounts_directory(f.accounts));
		i++) {
		(void)snprintf(last, 32, "account%u", i);
		limit_set(last, 10);
	}
}

/* Runs a whole recount, with a new object, since the old object would pause first. */
static void recount_all(void) {
	recount_free(recount);
	ck_assert_int_ge(recount_new(event, accounts_directory(f.accounts), sessions, &recount), 0);
	recount_request(recount);
	loop_run_until_idle();
	ck_assert(!recount_is_running(recount));
}

START_TEST(a_slot_of_an_account_made_during_the_recount_counts_at_its_ancestors) {
	char parent[32], child[64];
	struct path path;
	uint32_t end;

	accounts_create(parent);
	end = directory_end(accounts_directory(f.accounts));
	recount_request(recount);
	/* A later slice reads the parent, which has been charged by then. */
	ck_assert_int_gt(sd_event_run(event, 0), 0);
	(void)snprintf(child, sizeof(child), "%s/child", parent);
	path = path_with(child, 10);
	ck_assert_uint_ge(path.level[0].account, end);
	(void)record_hold(record, &path, 1);
	loop_run_until_idle();
	check_path(&path, 1);
}
END_TEST

START_TEST(a_count_that_is_noise_is_repaired_in_the_last_slice_too) {
	char name[32];
	struct path path;
	struct cell *cell;
	struct pair seen;

	accounts_create(name);
	path = path_with(name, 10);
	(void)record_hold(record, &path, 1);
	cell = path.level[0].cell;
	seen = cell_load(cell);
	store_total(&cell->count, count_pack(7, count_bumps(seen.first)));
	recount_all();
	ck_assert_uint_eq(counter_count(f.map, path.level[0].account), 1);
	/* Both words of the cell have changed, and the old tag is noted. */
	ck_assert_uint_eq(tag_record(load_acquire(&cell->tag)), 0);
	ck_assert_uint_eq(load_acquire(&map_record(f.map, record)->noted), tag_seq(seen.second));
	ck_assert_uint_eq(count_bumps(load_acquire(&cell->count)), count_bumps(seen.first) + 1);
}
END_TEST

START_TEST(a_cell_without_bumps_gets_new_ones_and_keeps_its_other_words) {
	const struct path path = path_with("acme/alice", 10);
	struct cell *cell = path.level[1].cell;
	uint64_t seq = record_hold(record, &path, 1);

	recount_all();
	store_relaxed(&cell->denied, 7);
	store_relaxed(&cell->peak, 5);
	store_total(&cell->count, count_pack(1, BERTH_BUMPS_LAST));
	recount_all();
	ck_assert(counter_has_bumps(f.map, path.level[1].account, 1000));
	ck_assert_uint_eq(load_relaxed(&cell->denied), 7);
	ck_assert_uint_eq(load_relaxed(&cell->peak), 5);
	check_path(&path, 1);
	record_release(record, seq);
	check_path(&path, 0);
}
END_TEST

/* A record holds one slot when the recount reads the tags, and another slot when the recount reads
 * them again. After slice _i, the first slot is released, and a million cycles follow. If these
 * cycles led to the same tag, the recount would subtract the second slot from the count. */
START_TEST(no_number_of_steps_between_two_slices_makes_a_changed_cell_look_unchanged) {
	struct path path = path_with("alice", 10);
	char name[32];
	uint64_t seq;

	accounts_create(name);
	seq = record_hold(record, &path, 1);
	recount_request(recount);
	for (int i = 0; i < _i; i++)
		ck_assert_int_gt(sd_event_run(event, 0), 0);
	record_release(record, seq);
	ck_assert_int_gt(sd_event_run(event, 0), 0);
	for (int i = 1; i < 1 << 20; i++)
		record_use(record, &path, 1);
	ck_assert_uint_eq(record_hold(record, &path, 1), seq + (UINT64_C(16) << 20));
	loop_run_until_idle();
	check_path(&path, 1);
}
END_TEST

START_TEST(a_half_done_release_or_revocation_is_finished) {
	for (uint64_t cycles = 0; cycles < 2; cycles++) {
		uint64_t seq = record_hold(record, &web, 1);

		discharge_top(record, &web, seq, cycles);
		ck_assert_uint_eq(counter_count(f.map, web.level[0].account), 1);
		recount_all();
		check_path(&web, 0);
		ck_assert(newest_of(record).seq == seq_rest(seq) + cycles * BERTH_CYCLE);
		ck_assert_int_eq(counter_release(f.map, record, seq), -ENOENT);
		record_use(record, &web, 1);
		check_path(&web, 0);
	}
}
END_TEST

START_TEST(a_slot_seized_by_its_owner_is_discharged) {
	(void)record_hold(record, &web, 1);
	counter_seize(f.map, record);
	recount_all();
	check_path(&web, 0);
	ck_assert(newest_of(record).place == place_pack(RECORD_FREE, 0, 0, 0));
	record_use(record, &web, 1);
}
END_TEST

/* Values that only noise can leave in `noted`: a seq has at most 42 bits. */
static const uint64_t noise[] = {UINT64_MAX, UINT64_C(1) << 42, UINT64_C(3) << 50, UINT64_MAX - 200,
	UINT64_C(0xA5A5A5A5A5A5A5A5)};

/* Overwrites `noted` in four records: one free or at rest, one at rest, one held, one closed. */
static void check_noise_is_discarded(const struct path *path, uint64_t word) {
	record_use(record + 1, path, 1);
	(void)record_hold(record + 2, path, 1);
	ck_assert_int_eq(counter_close(f.map, record + 3), 0);
	for (uint32_t n = record; n < record + 4; n++)
		store_total(&map_record(f.map, n)->noted, word);
	recount_all();
	check_path(path, 0);
	for (uint32_t n = record; n < record + 4; n++) {
		ck_assert(place_state(newest_of(n).place) == RECORD_FREE);
		ck_assert_uint_le(newest_of(n).seq, BERTH_SEQ_MASK / 2 + 99 * BERTH_CYCLE);
		ck_assert(!counter_is_retired(f.map, n));
		record_use(n, path, 1);
	}
	check_path(path, 0);
}

START_TEST(noise_in_noted_is_discarded_and_retires_no_record) {
	check_noise_is_discarded(&web, noise[_i]);
}
END_TEST

START_TEST(repeated_noise_in_noted_is_discarded_again) {
	for (size_t i = 0; i < ELEMENTS(noise); i++)
		check_noise_is_discarded(&web, noise[i]);
}
END_TEST

/* The noise is a step of an acquire or a release at a level that the path doesn't have. */
START_TEST(noise_in_noted_that_charges_missing_levels_is_discarded) {
	static const char *const names[] = {"alice", "acme/alice", "acme/alice/web"};

	for (uint64_t step = 1; step < BERTH_CYCLE; step++) {
		struct path path = path_with(names[_i], 10);

		if (seq_charged(step) <= path.depth)
			continue;
		record_use(record, &path, 1);
		store_total(
			&map_record(f.map, record)->noted, seq_rest(newest_of(record).seq) + step);
		recount_all();
		check_path(&path, 0);
		record_use(record, &path, 1);
		check_path(&path, 0);
	}
}
END_TEST

/* In the first run, the record is free. In the second run it rests, and the noise is a step of a
 * release that never happened. */
START_TEST(noise_in_noted_of_a_record_that_charges_nothing_leaves_it_usable) {
	struct record *r = map_record(f.map, record);

	for (uint64_t step = _i == 0 ? 1 : 14; step < BERTH_CYCLE; step++) {
		record_use(record, &web, 1);
		if (_i == 0)
			store_total(&r->place, place_pack(RECORD_FREE, 0, 0, 0));
		store_total(&r->noted, seq_rest(newest_of(record).seq) + step);
		recount_all();
		check_path(&web, 0);
		record_use(record, &web, 1);
		check_path(&web, 0);
	}
}
END_TEST

/* The record is overwritten with zeros, but the cell still has a tag of the record. If the record's
 * seqs began at 0 again, its next steps would be older than this tag. */
START_TEST(an_overwritten_record_repeats_no_step) {
	struct path other = path_with("bob", 10);
	struct record *r = map_record(f.map, record);
	uint64_t seq = 0, next;

	for (int i = 0; i < 100; i++) {
		seq = record_hold(record, &web, 1);
		if (i < 99)
			record_release(record, seq);
	}
	store_total(&r->place, _i == 0 ? 0 : place_pack(RECORD_FREE, 0, 0, 0));
	store_total(&r->noted, 0);
	recount_all();
	check_path(&web, 0);
	next = record_hold(record, &other, 1);
	/* Another record notes the old tag and overwrites it. */
	record_use(record + 1, &web, 1);
	ck_assert(snapshot_is_held(newest_of(record)));
	ck_assert_uint_gt(next, seq);
	record_release(record, next);
	check_path(&other, 0);
	check_path(&web, 0);
}
END_TEST

START_TEST(a_recount_ends_during_a_flood_of_messages) {
	unsigned messages = 0;
	sd_event_source *flood = flood_new(&messages);
	char name[32];

	accounts_create(name);
	recount_request(recount);
	while (recount_is_running(recount) && messages < 1000)
		ck_assert_int_gt(sd_event_run(event, 0), 0);
	ck_assert_uint_gt(messages, 0);
	ck_assert(!recount_is_running(recount));
	(void)sd_event_source_disable_unref(flood);
}
END_TEST

/* A checkpoint stored the noise before the recount ran. */
START_TEST(a_peak_that_was_stored_as_noise_is_repaired_by_the_next_recount) {
	struct path path = path_with("alice", 10);
	struct account *kept =
		directory_account(accounts_directory(f.accounts), path.level[0].account);

	(void)record_hold(record, &path, 1);
	store_relaxed(&path.level[0].cell->peak, UINT32_MAX - 1);
	*kept = (struct account){.saved_count = 1, .saved_peak = UINT32_MAX - 1};
	recount_request(recount);
	loop_run_until_idle();
	ck_assert_uint_eq(load_relaxed(&path.level[0].cell->peak), 1);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_slot_of_an_account_made_during_the_recount_counts_at_its_ancestors},
		{a_count_that_is_noise_is_repaired_in_the_last_slice_too},
		{a_cell_without_bumps_gets_new_ones_and_keeps_its_other_words},
		{no_number_of_steps_between_two_slices_makes_a_changed_cell_look_unchanged, 0, 5},
		{a_half_done_release_or_revocation_is_finished},
		{a_slot_seized_by_its_owner_is_discharged},
		{noise_in_noted_is_discarded_and_retires_no_record, 0, (int)ELEMENTS(noise)},
		{repeated_noise_in_noted_is_discarded_again},
		{noise_in_noted_that_charges_missing_levels_is_discarded, 0, 3},
		{noise_in_noted_of_a_record_that_charges_nothing_leaves_it_usable, 0, 2},
		{an_overwritten_record_repeats_no_step, 0, 2},
		{a_recount_ends_during_a_flood_of_messages},
		{a_peak_that_was_stored_as_noise_is_repaired_by_the_next_recount},
		{NULL},
	};

	return run_suites({"recount", tests, .setup = setup, .teardown = teardown});
}
