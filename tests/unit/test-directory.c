/* SPDX-License-Identifier: MIT */

/* The directory, written and read: names found, moved and gone; what a death leaves; accounts made,
 * covered by templates, and making room. */

#include "fixture.h"
#include "name.h"

static struct fixture f;
static struct capacities want = {200, 64, 4};

static void setup(void) {
	want = (struct capacities){200, 64, 4};
	fixture_new(&f, &want);
}

static void teardown(void) {
	fixture_free(&f);
}

static void resize(uint32_t accounts) {
	fixture_free(&f);
	want.accounts = accounts;
	fixture_new(&f, &want);
}

static void reopen(void) {
	fixture_close(&f);
	fixture_open(&f, &want);
	ck_assert(f.segment->adopted);
}

static uint32_t limit_of(const char *name) {
	uint32_t account = accounts_find(f.accounts, name);

	ck_assert_msg(account != 0, "'%s' isn't there", name);
	return entry_limit(directory_word(f.accounts->directory, account));
}

static uint32_t flags_of(const char *name) {
	uint32_t account = accounts_find(f.accounts, name);

	return account ? entry_flags(directory_word(f.accounts->directory, account)) : 0;
}

static void configure_many(uint32_t from, uint32_t to) {
	char name[32];

	for (uint32_t i = from; i < to; i++) {
		(void)snprintf(name, sizeof(name), "account-%u", i);
		ck_assert_int_eq(fixture_configure(f.accounts, name, i), 0);
	}
}

static void check_many(uint32_t from, uint32_t to) {
	char name[32];

	for (uint32_t i = from; i < to; i++) {
		(void)snprintf(name, sizeof(name), "account-%u", i);
		ck_assert_uint_eq(limit_of(name), i);
	}
}

START_TEST(names_are_found_while_the_table_grows_and_shrinks) {
	char name[32];

	resize(5000);
	configure_many(0, 4000);
	check_many(0, 4000);
	for (uint32_t i = 0; i < 4000; i += 2) {
		(void)snprintf(name, sizeof(name), "account-%u", i);
		ck_assert_int_eq(accounts_unconfigure(f.accounts, name), 0);
		ck_assert_uint_eq(accounts_find(f.accounts, name), 0);
	}
	for (uint32_t i = 1; i < 4000; i += 2) {
		(void)snprintf(name, sizeof(name), "account-%u", i);
		ck_assert_uint_eq(limit_of(name), i);
	}
	ck_assert_uint_eq(f.accounts->directory->live, 2000);
	configure_many(4000, 6000);
	check_many(4000, 6000);
}
END_TEST

/* Damage, or half rewritten: what is read must not be the entries that follow. */
START_TEST(a_long_name_without_a_block_is_none) {
	char text[256], read[256];
	uint32_t account;
	struct name name;
	uint64_t word;

	memset(text, 'n', 255);
	text[255] = 0;
	ck_assert_int_eq(fixture_configure(f.accounts, text, 1), 0);
	account = accounts_find(f.accounts, text);
	store_relaxed(&map_entry(f.map, account)->block, 0);
	ck_assert_int_eq(directory_name(f.map, account, read), -EUCLEAN);
	ck_assert_int_eq(name_load(text, &name), 0);
	ck_assert_int_eq(directory_find(f.map, &name, &account, &word), -ENOENT);
}
END_TEST

START_TEST(a_name_of_255_bytes_is_kept_and_its_block_used_again) {
	char name[256], shown[256];
	uint32_t account;

	for (int round = 0; round < 500; round++) {
		memset(name, 'a' + round % 26, 255);
		name[255] = 0;
		ck_assert_int_eq(fixture_configure(f.accounts, name, 7), 0);
		account = accounts_find(f.accounts, name);
		ck_assert_int_eq(directory_name(f.map, account, shown), 0);
		ck_assert_str_eq(shown, name);
		ck_assert_int_eq(accounts_unconfigure(f.accounts, name), 0);
	}
	ck_assert_uint_eq(load_relaxed(&f.segment->names->blocks), 1);
}
END_TEST

START_TEST(ancestors_are_there_for_their_children_and_go_with_the_last_one) {
	ck_assert_int_eq(fixture_configure(f.accounts, "acme/alice/web", 3), 0);
	ck_assert_int_eq(fixture_configure(f.accounts, "acme/bob", 4), 0);
	ck_assert_uint_eq(limit_of("acme"), BERTH_LIMIT_NONE);
	ck_assert_uint_eq(flags_of("acme/alice"), ENTRY_LIVE);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "acme/alice/web"), 0);
	ck_assert_uint_eq(accounts_find(f.accounts, "acme/alice"), 0);
	ck_assert_uint_ne(accounts_find(f.accounts, "acme"), 0);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "acme/bob"), 0);
	ck_assert_uint_eq(f.accounts->directory->live, 0);
}
END_TEST

START_TEST(a_deleted_account_that_is_held_goes_when_it_is_released) {
	struct path path = fixture_path(&f, "alice", 5);
	const struct stamp stamp = {0};
	uint32_t seq, level;

	fixture_open_records(&f, 16, 16);
	ck_assert_int_eq(counter_acquire(f.map, 16, &path, 1, &stamp, &seq, &level), 0);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), 0);
	ck_assert_uint_eq(flags_of("alice"), ENTRY_LIVE);
	ck_assert_int_eq(counter_acquire(f.map, 17, &path, 1, &stamp, &seq, &level), -ESTALE);
	accounts_tidy(f.accounts);
	ck_assert_uint_ne(accounts_find(f.accounts, "alice"), 0);
	ck_assert_int_eq(counter_release(f.map, 16, record_seq(counter_record(f.map, 16))), 0);
	accounts_tidy(f.accounts);
	ck_assert_uint_eq(accounts_find(f.accounts, "alice"), 0);
}
END_TEST

START_TEST(an_index_used_again_has_another_generation_and_no_past) {
	struct path old = fixture_path(&f, "alice", 5), new;
	const struct stamp stamp = {0};
	uint32_t seq, level;

	fixture_open_records(&f, 16, 16);
	store_relaxed(&old.level[0].cell->denied, 9);
	store_relaxed(&old.level[0].cell->peak, 9);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), 0);
	new = fixture_path(&f, "bob", 5);
	ck_assert_uint_eq(new.level[0].account, old.level[0].account);
	ck_assert_uint_eq(load_relaxed(&new.level[0].cell->denied), 0);
	ck_assert_uint_eq(load_relaxed(&new.level[0].cell->peak), 0);
	ck_assert_int_eq(counter_acquire(f.map, 16, &old, 1, &stamp, &seq, &level), -ESTALE);
	ck_assert_uint_eq(counter_count(f.map, new.level[0].account), 0);
}
END_TEST

START_TEST(setting_the_same_limit_again_bumps_all_the_same) {
	struct path path = fixture_path(&f, "alice", 5);
	uint64_t before = load_relaxed(&path.level[0].cell->word);

	ck_assert_int_eq(fixture_configure(f.accounts, "alice", 5), 0);
	ck_assert(load_relaxed(&path.level[0].cell->word) != before);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 2), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "me@x", &path.level[0].account), 0);
	before = load_relaxed(&map_cell(f.map, path.level[0].account)->word);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 2), 0);
	ck_assert(load_relaxed(&map_cell(f.map, path.level[0].account)->word) != before);
}
END_TEST

START_TEST(a_template_covers_whom_nobody_configured) {
	uint32_t account;

	ck_assert_int_eq(accounts_resolve(f.accounts, "bob@x", &account), -ENOENT);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 2), 0);
	ck_assert_int_eq(fixture_configure(f.accounts, "eve@x", 9), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "bob@x", &account), 0);
	ck_assert_uint_eq(limit_of("bob@x"), 2);
	ck_assert_uint_eq(limit_of("eve@x"), 9);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 3), 0);
	ck_assert_uint_eq(limit_of("bob@x"), 3);
	ck_assert_uint_eq(limit_of("eve@x"), 9);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "eve@x"), 0);
	ck_assert_uint_eq(f.accounts->configured, 0);
	ck_assert_int_eq(accounts_delete_template(f.accounts, "*@x"), 0);
	ck_assert_uint_eq(accounts_find(f.accounts, "bob@x"), 0);
	ck_assert_uint_eq(f.accounts->by_template, 0);
}
END_TEST

START_TEST(an_ancestor_that_nobody_may_acquire_is_usable_once_a_template_covers_it) {
	uint32_t account;

	ck_assert_int_eq(fixture_configure(f.accounts, "acme/alice", 5), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "acme", &account), -ENOENT);
	ck_assert_int_eq(accounts_set_template(f.accounts, "ac*", 4), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "acme", &account), 0);
	ck_assert_uint_eq(limit_of("acme"), 4);
}
END_TEST

START_TEST(idle_accounts_of_templates_make_room_and_those_in_use_stay) {
	const struct stamp stamp = {0};
	uint32_t account, seq, level;
	struct path held;
	char name[32];

	resize(20);
	fixture_open_records(&f, 16, 16);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*", 2), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "held", &account), 0);
	ck_assert_int_eq(
		directory_path(f.map, account,
			entry_generation(directory_word(f.accounts->directory, account)), &held),
		0);
	ck_assert_int_eq(counter_acquire(f.map, 16, &held, 1, &stamp, &seq, &level), 0);
	for (int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof(name), "stranger-%d", i);
		ck_assert_int_eq(accounts_resolve(f.accounts, name, &account), 0);
	}
	ck_assert_uint_ne(accounts_find(f.accounts, "held"), 0);
	ck_assert_uint_ne(accounts_find(f.accounts, "stranger-499"), 0);
	ck_assert_uint_le(f.accounts->directory->live, 15);
	/* A quarter of the table, and what idle strangers have, is left for the configured. */
	for (int i = 0; i < 19; i++) {
		(void)snprintf(name, sizeof(name), "mine-%d", i);
		ck_assert_int_eq(fixture_configure(f.accounts, name, 1), 0);
	}
	ck_assert_int_eq(fixture_configure(f.accounts, "one-too-many", 1), -ENOSPC);
	ck_assert_int_eq(accounts_resolve(f.accounts, "late", &account), -ENOSPC);
	ck_assert_uint_ne(accounts_find(f.accounts, "held"), 0);
	ck_assert_uint_eq(accounts_find(f.accounts, "one-too-many"), 0);
}
END_TEST

START_TEST(a_full_table_takes_no_half_of_a_path) {
	resize(4);
	configure_many(0, 2);
	ck_assert_int_eq(fixture_configure(f.accounts, "a/b/c", 1), -ENOSPC);
	ck_assert_uint_eq(accounts_find(f.accounts, "a"), 0);
	ck_assert_uint_eq(f.accounts->directory->live, 2);
	check_many(0, 2);
}
END_TEST

START_TEST(an_adopted_directory_is_as_it_was) {
	resize(5000);
	configure_many(0, 3000);
	ck_assert_int_eq(fixture_configure(f.accounts, "acme/alice", 5), 0);
	reopen();
	check_many(0, 3000);
	ck_assert_uint_eq(f.accounts->directory->live, 3002);
	ck_assert_uint_eq(f.accounts->configured, 3001);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "acme/alice"), 0);
	ck_assert_uint_eq(accounts_find(f.accounts, "acme"), 0);
	configure_many(3000, 4990);
	check_many(0, 4990);
}
END_TEST

START_TEST(what_the_store_does_not_name_at_start_is_configured_no_more) {
	configure_many(0, 3);
	reopen();
	configure_many(0, 2);
	accounts_configured_all(f.accounts);
	check_many(0, 2);
	ck_assert_uint_eq(accounts_find(f.accounts, "account-2"), 0);
}
END_TEST

static _Atomic uint32_t *first_slot_of(uint32_t account) {
	uint32_t bits = load_relaxed(&f.segment->names->table_bits);

	for (uint32_t i = 0; i < 1u << bits; i++) {
		_Atomic uint32_t *slot = map_at(
			f.map, &f.map->directory, f.map->layout.tables + ((1ull << bits) + i) * 4);

		if ((load_relaxed(slot) & 0xFFFFFF) == account)
			return slot;
	}
	return NULL;
}

START_TEST(a_death_before_the_slot_was_written_is_mended) {
	configure_many(0, 50);
	store_relaxed(first_slot_of(accounts_find(f.accounts, "account-7")), 0); /* C2 | C3 */
	reopen();
	check_many(0, 50);
}
END_TEST

START_TEST(a_death_between_word_and_slot_of_a_removal_is_mended) {
	uint32_t account;
	struct entry *e;

	configure_many(0, 50);
	account = accounts_find(f.accounts, "account-7");
	e = map_entry(f.map, account); /* R1 | R3 */
	store_relaxed(&e->word, entry_pack(0, 0, entry_generation(load_relaxed(&e->word)) + 1));
	reopen();
	ck_assert_uint_eq(accounts_find(f.accounts, "account-7"), 0);
	ck_assert_ptr_null(first_slot_of(account));
	check_many(8, 50);
	ck_assert_uint_eq(f.accounts->directory->live, 49);
}
END_TEST

START_TEST(a_death_in_a_removal_that_was_to_be_taken_back_loses_no_count) {
	struct path path = fixture_path(&f, "alice", 5);
	const struct stamp stamp = {0};
	struct entry *e = path.level[0].entry;
	uint64_t word[BERTH_LEVELS_MAX];
	uint32_t seq, level;

	fixture_open_records(&f, 16, 16);
	ck_assert_int_eq(counter_acquire(f.map, 16, &path, 3, &stamp, &seq, &level), 0);
	/* R1, and then death: the charge had come before the bump. */
	store_relaxed(&e->word, entry_pack(0, 0, entry_generation(load_relaxed(&e->word)) + 1));
	reopen();
	ck_assert_uint_eq(accounts_find(f.accounts, "alice"), path.level[0].account);
	ck_assert_int_eq(accounts_load_template(f.accounts, "*", 3), 0);
	accounts_configured_all(f.accounts);
	accounts_cover_all(f.accounts);
	path = fixture_path(&f, "alice", 3);
	ck_assert_int_eq(counter_check(f.map, &path, 1, word, &level), -EDQUOT);
	ck_assert_int_eq(counter_release(f.map, 16, seq), 0);
	ck_assert_uint_eq(counter_count(f.map, path.level[0].account), 0);
}
END_TEST

/* An account that nobody configured any more goes, and its index is the next one's. */
static uint32_t replace(const char *name, const char *by) {
	uint32_t index = accounts_find(f.accounts, name);

	ck_assert_int_eq(accounts_unconfigure(f.accounts, name), 0);
	accounts_tidy(f.accounts);
	ck_assert_uint_eq(accounts_find(f.accounts, name), 0);
	ck_assert_int_eq(fixture_configure(f.accounts, by, 5), 0);
	ck_assert_uint_eq(accounts_find(f.accounts, by), index);
	return index;
}

static uint64_t record_at_rest(uint32_t number, const struct path *path) {
	const struct stamp stamp = {0};
	uint32_t seq, level;

	ck_assert_int_eq(counter_acquire(f.map, number, path, 1, &stamp, &seq, &level), 0);
	ck_assert_int_eq(counter_release(f.map, number, seq), 0);
	return counter_record(f.map, number);
}

/* The record's old tag in the cell above looks newer than where it rests, as if it held a slot there:
 * it wasn't looked at when the record was placed, for it was no cell of its path. */
START_TEST(a_record_that_rests_where_an_account_was_has_nothing_of_the_next_one_s) {
	struct path path = fixture_path(&f, "old/leaf", 5), above;
	uint64_t rec;

	(void)fixture_path(&f, "old/stays", 5);
	above = fixture_path(&f, "new", 5);
	fixture_open_records(&f, 16, 16);
	for (uint32_t ahead = 1; ahead <= 16; ahead++) {
		rec = record_at_rest(16, &path);
		store_total(&above.level[0].cell->word,
			cell_pack(3, 16, (record_seq(rec) + ahead) & BERTH_SEQ_MASK));
		(void)replace("old/leaf", "new/leaf");
		ck_assert_uint_eq(record_charged(counter_record(f.map, 16)), 0);
		ck_assert_int_eq(counter_bump(f.map, above.level[0].account), 0);
		ck_assert_uint_eq(record_charged(counter_record(f.map, 16)), 0);
		ck_assert_int_eq(counter_close(f.map, 16), 0);
		ck_assert_uint_eq(counter_count(f.map, above.level[0].account), 3);
		ck_assert_int_eq(counter_open(f.map, 16), 0);
		(void)replace("new/leaf", "old/leaf");
		path = fixture_path(&f, "old/leaf", 5);
	}
}
END_TEST

START_TEST(a_record_that_rests_where_an_account_was_is_closed_without_damage) {
	static const char *const next[] = {"shallow", "much/deeper/leaf"};

	fixture_open_records(&f, 16, 16);
	for (size_t i = 0; i < ELEMENTS(next); i++) {
		struct path path = fixture_path(&f, "old/leaf", 5);

		(void)record_at_rest(16, &path);
		ck_assert_int_eq(accounts_unconfigure(f.accounts, "old/leaf"), 0);
		accounts_tidy(f.accounts);
		ck_assert_int_eq(fixture_configure(f.accounts, next[i], 5), 0);
		ck_assert_int_eq(counter_resume(f.map, 16), 0);
		ck_assert_int_eq(counter_close(f.map, 16), 0);
		ck_assert_int_eq(counter_open(f.map, 16), 0);
	}
}
END_TEST

START_TEST(ancestors_that_go_round_keep_nobody_for_ever) {
	struct path a = fixture_path(&f, "a", 5), b = fixture_path(&f, "b", 5);

	(void)fixture_path(&f, "gone", 5);
	store_relaxed(&a.level[0].entry->parent, b.level[0].account);
	store_relaxed(&b.level[0].entry->parent, a.level[0].account);
	(void)replace("gone", "a/leaf");
}
END_TEST

START_TEST(a_death_while_the_table_grew_is_mended) {
	uint32_t bits;

	resize(5000);
	configure_many(0, 400);
	bits = load_relaxed(&f.segment->names->table_bits);
	/* Published before it was full, as noise would have it. */
	ck_assert_int_eq(segment_allocate_directory(f.segment,
				 f.map->layout.tables + (4ull << (bits + 1)), 4ull << (bits + 1)),
		0);
	store_relaxed(&f.segment->names->table_bits, bits + 1);
	reopen();
	check_many(0, 400);
}
END_TEST

START_TEST(a_segment_of_another_layout_is_refused_and_left_alone) {
	struct directory_header before, after;
	char path[64];
	FILE *file;

	fixture_close(&f);
	(void)snprintf(path, sizeof(path), "%s/directory", f.dir);
	file = fopen(path, "r+");
	ck_assert_uint_eq(fread(&before, sizeof(before), 1, file), 1);
	before.fingerprint++;
	rewind(file);
	ck_assert_uint_eq(fwrite(&before, sizeof(before), 1, file), 1);
	ck_assert_int_eq(fclose(file), 0);

	ck_assert_int_eq(segment_open(f.dir, &want, &f.segment), -EPROTONOSUPPORT);

	file = fopen(path, "r+");
	ck_assert_uint_eq(fread(&after, sizeof(after), 1, file), 1);
	ck_assert_mem_eq(&before, &after, sizeof(before));
	before.fingerprint--;
	rewind(file);
	ck_assert_uint_eq(fwrite(&before, sizeof(before), 1, file), 1);
	ck_assert_int_eq(fclose(file), 0);
	fixture_open(&f, &want);
}
END_TEST

START_TEST(a_segment_that_does_not_belong_to_its_directory_is_made_anew) {
	configure_many(0, 3);
	f.segment->names->segment_ino++;
	fixture_close(&f);
	fixture_open(&f, &want);
	ck_assert(!f.segment->adopted);
	ck_assert_uint_eq(f.accounts->directory->live, 0);
}
END_TEST

START_TEST(noise_over_the_segments_header_costs_nobody_a_count) {
	struct path path = fixture_path(&f, "alice", 5);
	const struct stamp stamp = {0};
	uint32_t seq, level;

	fixture_open_records(&f, 16, 16);
	ck_assert_int_eq(counter_acquire(f.map, 16, &path, 3, &stamp, &seq, &level), 0);
	memset(f.map->header, 0xA5, sizeof(*f.map->header));
	reopen();
	ck_assert_uint_eq(counter_count(f.map, accounts_find(f.accounts, "alice")), 3);
	ck_assert_int_eq(counter_release(f.map, 16, seq), 0);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("directory");
	TCase *tc = tcase_create("directory");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, names_are_found_while_the_table_grows_and_shrinks);
	tcase_add_test(tc, a_long_name_without_a_block_is_none);
	tcase_add_test(tc, a_name_of_255_bytes_is_kept_and_its_block_used_again);
	tcase_add_test(tc, ancestors_are_there_for_their_children_and_go_with_the_last_one);
	tcase_add_test(tc, a_deleted_account_that_is_held_goes_when_it_is_released);
	tcase_add_test(tc, an_index_used_again_has_another_generation_and_no_past);
	tcase_add_test(tc, setting_the_same_limit_again_bumps_all_the_same);
	tcase_add_test(tc, a_template_covers_whom_nobody_configured);
	tcase_add_test(tc, an_ancestor_that_nobody_may_acquire_is_usable_once_a_template_covers_it);
	tcase_add_test(tc, idle_accounts_of_templates_make_room_and_those_in_use_stay);
	tcase_add_test(tc, a_full_table_takes_no_half_of_a_path);
	tcase_add_test(tc, an_adopted_directory_is_as_it_was);
	tcase_add_test(tc, what_the_store_does_not_name_at_start_is_configured_no_more);
	tcase_add_test(tc, a_death_before_the_slot_was_written_is_mended);
	tcase_add_test(tc, a_death_between_word_and_slot_of_a_removal_is_mended);
	tcase_add_test(tc, a_death_in_a_removal_that_was_to_be_taken_back_loses_no_count);
	tcase_add_test(tc, a_record_that_rests_where_an_account_was_has_nothing_of_the_next_one_s);
	tcase_add_test(tc, a_record_that_rests_where_an_account_was_is_closed_without_damage);
	tcase_add_test(tc, ancestors_that_go_round_keep_nobody_for_ever);
	tcase_add_test(tc, a_death_while_the_table_grew_is_mended);
	tcase_add_test(tc, a_segment_of_another_layout_is_refused_and_left_alone);
	tcase_add_test(tc, a_segment_that_does_not_belong_to_its_directory_is_made_anew);
	tcase_add_test(tc, noise_over_the_segments_header_costs_nobody_a_count);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
