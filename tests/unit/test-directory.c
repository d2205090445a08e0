/* SPDX-License-Identifier: MIT */

/* Tests the directory, which berthd writes and other processes read: names, templates, full tables,
 * adoption after a death in the middle of a change, and indices that are used again. */

#include "counter-fast.h"
#include "fixture.h"
#include "name.h"
#include "run.h"

static struct capacities want;

static void create(uint32_t accounts) {
	want = (struct capacities){accounts, 64, 4};
	fixture_new(&want);
	records_open(16, 16);
}

static void setup(void) {
	create(200);
}

static void recreate_with_capacity(uint32_t accounts) {
	fixture_free();
	create(accounts);
}

static void reopen(void) {
	fixture_close();
	fixture_open(&want);
	ck_assert(f.segment->adopted);
}

static const char *numbered(const char *what, uint32_t n) {
	static char name[32];

	(void)snprintf(name, sizeof(name), "%s-%u", what, n);
	return name;
}

static uint32_t limit_of(const char *name) {
	uint32_t account = account_of(name);

	ck_assert_msg(account != 0, "the account '%s' doesn't exist", name);
	return entry_limit(account_word(account));
}

static uint32_t flags_of(const char *name) {
	uint32_t account = account_of(name);

	return account ? entry_flags(account_word(account)) : 0;
}

static void configure_many(uint32_t from, uint32_t to) {
	for (uint32_t i = from; i < to; i++)
		limit_set(numbered("account", i), i);
}

static void check_many(uint32_t from, uint32_t to) {
	for (uint32_t i = from; i < to; i++)
		ck_assert_uint_eq(limit_of(numbered("account", i)), i);
}

START_TEST(names_are_found_while_the_table_grows_and_shrinks) {
	recreate_with_capacity(5000);
	configure_many(0, 4000);
	check_many(0, 4000);
	for (uint32_t i = 0; i < 4000; i += 2) {
		account_delete(numbered("account", i));
		ck_assert_uint_eq(account_of(numbered("account", i)), 0);
	}
	for (uint32_t i = 1; i < 4000; i += 2)
		ck_assert_uint_eq(limit_of(numbered("account", i)), i);
	ck_assert_uint_eq(directory_live(accounts_directory(f.accounts)), 2000);
	configure_many(4000, 6000);
	check_many(4000, 6000);
}
END_TEST

/* If an entry is damaged, or if a process reads it while berthd writes it, it may have a long name
 * but no block for the name. Then the name must not be read from the entries behind this entry. */
START_TEST(a_long_name_without_a_block_is_not_found) {
	char text[256], read[256];
	uint32_t account;
	struct entry *e;
	struct name name;
	uint64_t word;

	memset(text, 'n', 255);
	text[255] = 0;
	limit_set(text, 1);
	account = account_of(text);
	e = map_entry(f.map, account);
	store_relaxed(&e->shape, shape_pack(shape_length(load_relaxed(&e->shape)), 0));
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
		limit_set(name, 7);
		account = account_of(name);
		ck_assert_int_eq(directory_name(f.map, account, shown), 0);
		ck_assert_str_eq(shown, name);
		account_delete(name);
	}
	ck_assert_uint_eq(load_relaxed(&f.segment->names->blocks), 1);
}
END_TEST

START_TEST(ancestors_exist_as_long_as_they_have_children) {
	limit_set("acme/alice/web", 3);
	limit_set("acme/bob", 4);
	ck_assert_uint_eq(limit_of("acme"), BERTH_LIMIT_NONE);
	ck_assert_uint_eq(flags_of("acme/alice"), ENTRY_LIVE);
	account_delete("acme/alice/web");
	ck_assert_uint_eq(account_of("acme/alice"), 0);
	ck_assert_uint_ne(account_of("acme"), 0);
	account_delete("acme/bob");
	ck_assert_uint_eq(directory_live(accounts_directory(f.accounts)), 0);
}
END_TEST

START_TEST(a_deleted_account_with_a_slot_is_removed_after_the_release) {
	struct path path = path_with("alice", 5);
	uint64_t seq;

	seq = record_hold(16, &path, 1);
	account_delete("alice");
	ck_assert_uint_eq(flags_of("alice"), ENTRY_LIVE);
	ck_assert_int_eq(record_try(17, &path, 1), -ESTALE);
	accounts_tidy(f.accounts);
	ck_assert_uint_ne(account_of("alice"), 0);
	record_release(16, seq);
	accounts_tidy(f.accounts);
	ck_assert_uint_eq(account_of("alice"), 0);
}
END_TEST

START_TEST(an_index_used_again_has_another_generation_and_no_old_counts) {
	struct path old = path_with("alice", 5), new;

	store_relaxed(&old.level[0].cell->denied, 9);
	store_relaxed(&old.level[0].cell->peak, 9);
	account_delete("alice");
	new = path_with("bob", 5);
	ck_assert_uint_eq(new.level[0].account, old.level[0].account);
	ck_assert_uint_eq(load_relaxed(&new.level[0].cell->denied), 0);
	ck_assert_uint_eq(load_relaxed(&new.level[0].cell->peak), 0);
	ck_assert_int_eq(record_try(16, &old, 1), -ESTALE);
	ck_assert_uint_eq(counter_count(f.map, new.level[0].account), 0);
}
END_TEST

static uint64_t bumps_of(uint32_t account) {
	return count_bumps(load_relaxed(&map_cell(f.map, account)->count));
}

START_TEST(setting_the_same_limit_again_bumps_the_cell) {
	struct path path = path_with("alice", 5);
	uint64_t before = bumps_of(path.level[0].account);

	limit_set("alice", 5);
	ck_assert_uint_gt(bumps_of(path.level[0].account), before);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 2), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "me@x", &path.level[0].account), 0);
	before = bumps_of(path.level[0].account);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 2), 0);
	ck_assert_uint_gt(bumps_of(path.level[0].account), before);
}
END_TEST

START_TEST(a_template_covers_accounts_that_are_not_configured) {
	uint32_t account;

	ck_assert_int_eq(accounts_resolve(f.accounts, "bob@x", &account), -ENOENT);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 2), 0);
	limit_set("eve@x", 9);
	ck_assert_int_eq(accounts_resolve(f.accounts, "bob@x", &account), 0);
	ck_assert_uint_eq(limit_of("bob@x"), 2);
	ck_assert_uint_eq(limit_of("eve@x"), 9);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*@x", 3), 0);
	ck_assert_uint_eq(limit_of("bob@x"), 3);
	ck_assert_uint_eq(limit_of("eve@x"), 9);
	account_delete("eve@x");
	ck_assert_uint_eq(accounts_totals(f.accounts).configured, 0);
	ck_assert_int_eq(accounts_delete_template(f.accounts, "*@x"), 0);
	ck_assert_uint_eq(account_of("bob@x"), 0);
	ck_assert_uint_eq(accounts_totals(f.accounts).by_template, 0);
}
END_TEST

START_TEST(an_ancestor_without_a_limit_is_usable_once_a_template_covers_it) {
	uint32_t account;

	limit_set("acme/alice", 5);
	ck_assert_int_eq(accounts_resolve(f.accounts, "acme", &account), -ENOENT);
	ck_assert_int_eq(accounts_set_template(f.accounts, "ac*", 4), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "acme", &account), 0);
	ck_assert_uint_eq(limit_of("acme"), 4);
}
END_TEST

START_TEST(idle_accounts_of_templates_make_room_and_used_ones_stay) {
	uint32_t account;
	struct path held;

	recreate_with_capacity(20);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*", 2), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "held", &account), 0);
	held = path_of("held");
	(void)record_hold(16, &held, 1);
	for (uint32_t i = 0; i < 500; i++)
		ck_assert_int_eq(
			accounts_resolve(f.accounts, numbered("stranger", i), &account), 0);
	ck_assert_uint_ne(account_of("held"), 0);
	ck_assert_uint_ne(account_of("stranger-499"), 0);
	ck_assert_uint_le(directory_live(accounts_directory(f.accounts)), 15);
	/* Configured accounts also get the last quarter of the table, and the places of idle
	 * accounts of templates. */
	for (uint32_t i = 0; i < 19; i++)
		limit_set(numbered("mine", i), 1);
	ck_assert_int_eq(fixture_configure("one-too-many", 1), -ENOSPC);
	ck_assert_int_eq(accounts_resolve(f.accounts, "late", &account), -ENOSPC);
	ck_assert_uint_ne(account_of("held"), 0);
	ck_assert_uint_eq(account_of("one-too-many"), 0);
}
END_TEST

START_TEST(a_full_table_takes_no_part_of_a_path) {
	recreate_with_capacity(4);
	configure_many(0, 2);
	ck_assert_int_eq(fixture_configure("a/b/c", 1), -ENOSPC);
	ck_assert_uint_eq(account_of("a"), 0);
	ck_assert_uint_eq(directory_live(accounts_directory(f.accounts)), 2);
	check_many(0, 2);
}
END_TEST

START_TEST(an_adopted_directory_is_unchanged) {
	recreate_with_capacity(5000);
	configure_many(0, 3000);
	limit_set("acme/alice", 5);
	reopen();
	check_many(0, 3000);
	ck_assert_uint_eq(directory_live(accounts_directory(f.accounts)), 3002);
	ck_assert_uint_eq(accounts_totals(f.accounts).configured, 3001);
	account_delete("acme/alice");
	ck_assert_uint_eq(account_of("acme"), 0);
	configure_many(3000, 4990);
	check_many(0, 4990);
}
END_TEST

START_TEST(accounts_that_the_store_does_not_name_at_start_are_removed) {
	configure_many(0, 3);
	reopen();
	configure_many(0, 2);
	accounts_loaded(f.accounts);
	check_many(0, 2);
	ck_assert_uint_eq(account_of("account-2"), 0);
}
END_TEST

/* Makes the first step of a removal, which directory-write.c calls R1. The test then acts as if
 * berthd had died. */
static void removal_begin(struct entry *e) {
	store_relaxed(&e->word, entry_pack(0, 0, entry_generation(load_relaxed(&e->word)) + 1));
}

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

START_TEST(a_death_before_the_table_slot_was_written_is_repaired) {
	configure_many(0, 50);
	store_relaxed(first_slot_of(account_of("account-7")), 0); /* C2 | C3 */
	reopen();
	check_many(0, 50);
}
END_TEST

START_TEST(a_death_between_word_and_table_slot_of_a_removal_is_repaired) {
	uint32_t account;

	configure_many(0, 50);
	account = account_of("account-7");
	removal_begin(map_entry(f.map, account)); /* R1 | R3 */
	reopen();
	ck_assert_uint_eq(account_of("account-7"), 0);
	ck_assert_ptr_null(first_slot_of(account));
	check_many(8, 50);
	ck_assert_uint_eq(directory_live(accounts_directory(f.accounts)), 49);
}
END_TEST

START_TEST(a_death_in_a_removal_that_would_have_been_undone_loses_no_count) {
	struct path path = path_with("alice", 5);
	struct entry *e = path.level[0].entry;
	struct pair seen[BERTH_LEVELS_MAX];
	uint64_t seq;

	seq = record_hold(16, &path, 3);
	/* The slot was acquired before the removal's bump. */
	removal_begin(e);
	reopen();
	ck_assert_uint_eq(account_of("alice"), path.level[0].account);
	ck_assert_int_eq(accounts_load_template(f.accounts, "*", 3), 0);
	accounts_loaded(f.accounts);
	ck_assert_int_eq(accounts_apply_templates(f.accounts), 0);
	path = path_with("alice", 3);
	ck_assert_int_eq(counter_check(f.map, &path, 1, seen), -EDQUOT);
	record_release(16, seq);
	ck_assert_uint_eq(counter_count(f.map, path.level[0].account), 0);
}
END_TEST

/* Removes the account, and gives its index to a new account. */
static void replace(const char *name, const char *by) {
	uint32_t index = account_of(name);

	account_delete(name);
	accounts_tidy(f.accounts);
	ck_assert_uint_eq(account_of(name), 0);
	limit_set(by, 5);
	ck_assert_uint_eq(account_of(by), index);
}

/* Leaves record 16 at rest at the path, while its `noted` still tells of a slot: when record 17
 * charged the level above, it noted the step by which record 16 took the slot. Returns the snapshot
 * of record 16 while it held the slot. */
static struct snapshot rest_noted_as_held(const struct path *path, const struct path *beside) {
	uint64_t seq = record_hold(16, path, 1);
	struct snapshot seen = newest_of(16);

	ck_assert(snapshot_is_held(seen) && seen.seq == seq);
	record_use(17, beside, 1);
	ck_assert_uint_eq(words_of(16).seq, seq);
	record_release(16, seq);
	ck_assert_uint_eq(words_of(16).seq, seq);
	return seen;
}

/* `seen` shows a slot that was released since then. Checks that a late release by the slot's owner
 * and a late revocation by berthd don't discharge cells that another record has charged
 * meanwhile. */
static void check_is_released(struct snapshot seen, const struct path *now) {
	const struct record_at at = {map_record(f.map, 16), 16};
	const struct path beside = path_with("new/stays", 5);
	uint64_t seq = record_hold(18, &beside, 1);

	ck_assert_ptr_eq(now->level[1].cell, beside.level[1].cell);
	ck_assert_int_eq(counter_revoke(f.map, 16, seen), -EAGAIN);
	ck_assert_int_eq(counter_release(f.map, 16, seen.seq), -ENOENT);
	ck_assert_uint_eq(counter_release_fast(f.map, at, now, seen.seq), 0);
	check_path(&beside, 1);
	record_release(18, seq);
	check_path(now, 0);
}

/* Checks that record 16 has charged nothing on the path where it is placed, and can be used
 * again. */
static void check_rests(const struct path *now) {
	struct snapshot s = newest_of(16);

	ck_assert_uint_eq(seq_charged(s.seq), 0);
	for (uint32_t k = 0; k < now->depth; k++)
		ck_assert(!counter_has_charged(s, 16, k, load_relaxed(&now->level[k].cell->tag)));
	ck_assert_int_eq(counter_finish(f.map, 16), 0);
	ck_assert_int_eq(counter_finish_seized(f.map, 16), 0);
	check_path(now, 0);
	record_use(16, now, 1);
	check_path(now, 0);
}

/* Ends the session of record 16 while another record holds a slot on the path. */
static void check_closes(const struct path *now) {
	(void)record_hold(18, now, 1);
	ck_assert_int_eq(counter_close(f.map, 16), 0);
	check_path(now, 1);
	ck_assert_int_eq(counter_close(f.map, 18), 0);
	check_path(now, 0);
	ck_assert_int_eq(counter_open(f.map, 16), 0);
	ck_assert_int_eq(counter_open(f.map, 18), 0);
}

static void (*const check_record[])(const struct path *now) = {check_rests, check_closes};

START_TEST(the_removal_of_an_account_notes_the_step_that_only_its_cell_had) {
	struct path path = path_with("old/leaf", 5), beside, now;
	struct snapshot seen;
	uint64_t tag;

	beside = path_with("old/stays", 5);
	limit_set("new/stays", 5);
	for (int round = 0; round < 4; round++) {
		seen = rest_noted_as_held(&path, &beside);
		tag = load_relaxed(&path.level[0].cell->tag);
		ck_assert_uint_eq(tag_record(tag), 16);
		replace("old/leaf", "new/leaf");
		ck_assert_uint_ge(words_of(16).seq, tag_seq(tag));
		now = path_with("new/leaf", 5);
		check_is_released(seen, &now);
		check_record[round % 2](&now);
		replace("new/leaf", "old/leaf");
		path = path_with("old/leaf", 5);
	}
}
END_TEST

/* berthd dies after R1 or R2 of the removal, and the next berthd finds the index free. */
START_TEST(after_a_death_in_a_removal_the_step_that_only_its_cell_had_is_noted) {
	struct path path = path_with("old/leaf", 5), beside, now;
	struct entry *e = path.level[0].entry;
	struct snapshot seen;

	beside = path_with("old/stays", 5);
	limit_set("new/stays", 5);
	seen = rest_noted_as_held(&path, &beside);
	removal_begin(e);
	if (_i % 2 == 1)
		ck_assert_int_eq(counter_bump(f.map, path.level[0].account), 0);
	reopen();
	now = path_with("new/leaf", 5);
	ck_assert_uint_eq(now.level[0].account, path.level[0].account);
	check_is_released(seen, &now);
	check_record[_i / 2](&now);
}
END_TEST

/* Before its account was removed, the record held and released a slot below the same top level. The
 * tag in this level's cell tells of the first step of the release, after which two levels were
 * still charged. */
START_TEST(a_record_resting_at_a_removed_account_has_charged_nothing_of_the_next_one) {
	struct path path = path_with("old/leaf", 5), deep, now;

	deep = path_with("new/way/down", 5);
	limit_set("old/stays", 5);
	for (int round = 0; round < 4; round++) {
		record_use(16, &deep, 1);
		ck_assert_uint_eq(seq_charged(tag_seq(load_relaxed(&deep.level[2].cell->tag))), 2);
		record_use(16, &path, 1);
		replace("old/leaf", "new/leaf");
		now = path_with("new/leaf", 5);
		ck_assert_ptr_eq(now.level[1].cell, deep.level[2].cell);
		check_record[round % 2](&now);
		replace("new/leaf", "old/leaf");
		path = path_with("old/leaf", 5);
	}
}
END_TEST

START_TEST(a_record_resting_at_a_removed_account_is_closed_without_damage) {
	static const char *const next[] = {"shallow", "much/deeper/leaf"};

	for (size_t i = 0; i < ELEMENTS(next); i++) {
		struct path path = path_with("old/leaf", 5);

		record_use(16, &path, 1);
		account_delete("old/leaf");
		accounts_tidy(f.accounts);
		limit_set(next[i], 5);
		ck_assert_int_eq(counter_finish(f.map, 16), 0);
		record_renew(16);
	}
}
END_TEST

START_TEST(ancestors_that_form_a_circle_cause_no_endless_loop) {
	struct path a = path_with("a", 5), b = path_with("b", 5);

	limit_set("gone", 5);
	store_relaxed(&a.level[0].entry->ancestry, ancestry_pack(b.level[0].account, 2));
	store_relaxed(&b.level[0].entry->ancestry, ancestry_pack(a.level[0].account, 2));
	replace("gone", "a/leaf");
}
END_TEST

/* -- bumps and generations that are used up ---------------------------------------------------- */

static void bumps_leave(const struct path *path, uint64_t left) {
	struct cell *cell = path->level[0].cell;

	store_total(&cell->count,
		count_pack(count_of(load_relaxed(&cell->count)), BERTH_BUMPS_LAST - left));
}

START_TEST(an_account_without_a_bump_left_is_not_changed) {
	struct path path = path_with("alice", 5);
	uint64_t word = load_relaxed(&path.level[0].entry->word);
	struct directory *d = accounts_directory(f.accounts);
	uint32_t account = path.level[0].account, flags = entry_flags(word);

	bumps_leave(&path, 0);
	ck_assert_int_eq(directory_set(d, account, 7, flags), -EOVERFLOW);
	ck_assert_int_eq(directory_renew(d, account, 7, flags), -EOVERFLOW);
	ck_assert_int_eq(directory_remove(d, account), -EOVERFLOW);
	ck_assert_uint_eq(load_relaxed(&path.level[0].entry->word), word);
	ck_assert_uint_eq(account_of("alice"), account);
	/* Slots are still acquired and released. */
	record_use(16, &path, 1);
	check_path(&path, 0);
}
END_TEST

START_TEST(a_refused_change_leaves_the_numbers_of_accounts_right) {
	struct path path = path_with("alice", 5);
	uint64_t word = load_relaxed(&path.level[0].entry->word);

	bumps_leave(&path, 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(fixture_configure("alice", 7), -EOVERFLOW);
		ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), -EOVERFLOW);
		ck_assert_uint_eq(load_relaxed(&path.level[0].entry->word), word);
		ck_assert_uint_eq(accounts_totals(f.accounts).configured, 1);
		ck_assert_uint_eq(accounts_totals(f.accounts).by_template, 0);
	}
}
END_TEST

/* The template's change is refused for one account, but is made for all other accounts. */
START_TEST(a_template_that_an_account_cannot_take_is_an_error) {
	struct path path;
	uint32_t account;

	ck_assert_int_eq(accounts_set_template(f.accounts, "*", 5), 0);
	ck_assert_int_eq(accounts_resolve(f.accounts, "alice", &account), 0);
	path = path_of("alice");
	ck_assert_int_eq(accounts_resolve(f.accounts, "bob", &account), 0);
	bumps_leave(&path, 0);
	ck_assert_int_eq(accounts_set_template(f.accounts, "*", 7), -EOVERFLOW);
	ck_assert_uint_eq(limit_of("alice"), 5);
	ck_assert_uint_eq(limit_of("bob"), 7);
	ck_assert_int_eq(accounts_load_template(f.accounts, "*", 9), 0);
	ck_assert_int_eq(accounts_apply_templates(f.accounts), -EOVERFLOW);
	ck_assert_uint_eq(limit_of("bob"), 9);
	ck_assert_int_eq(accounts_delete_template(f.accounts, "*"), -EOVERFLOW);
	ck_assert_uint_eq(account_of("bob"), 0);
}
END_TEST

START_TEST(the_last_bump_is_made_and_the_next_one_refused) {
	struct path path = path_with("alice", 5);

	bumps_leave(&path, 1);
	limit_set("alice", 7);
	ck_assert_uint_eq(limit_of("alice"), 7);
	ck_assert_int_eq(fixture_configure("alice", 8), -EOVERFLOW);
	ck_assert_uint_eq(limit_of("alice"), 7);
}
END_TEST

/* If a removal has to be undone, it needs a second bump. */
START_TEST(a_removal_with_the_last_bump_is_refused_and_changes_nothing) {
	struct path path = path_with("alice", 5);
	uint64_t word = load_relaxed(&path.level[0].entry->word);

	bumps_leave(&path, 1);
	ck_assert_int_eq(directory_remove(accounts_directory(f.accounts), path.level[0].account),
		-EOVERFLOW);
	ck_assert_uint_eq(load_relaxed(&path.level[0].entry->word), word);
}
END_TEST

/* If the index were used again, the limit of the next account there could never be changed. */
START_TEST(an_index_whose_cell_has_no_bump_left_is_not_used_again) {
	struct path path = path_with("alice", 5), next;

	/* One bump unconfigures the account, one removes it, and one would undo the removal. */
	bumps_leave(&path, 3);
	account_delete("alice");
	ck_assert_uint_eq(account_of("alice"), 0);
	if (_i == 1)
		reopen();
	next = path_with("bob", 5);
	ck_assert_uint_ne(next.level[0].account, path.level[0].account);
}
END_TEST

START_TEST(an_account_near_its_last_generation_is_not_renewed) {
	struct path path = path_with("alice", 5);
	struct directory *d = accounts_directory(f.accounts);
	uint32_t account = path.level[0].account;
	const uint32_t flags = ENTRY_USABLE | ENTRY_CONFIGURED;
	uint64_t word;

	generation_write(path.level[0].entry, BERTH_GENERATION_LAST - 2);
	ck_assert_int_eq(directory_renew(d, account, 6, flags), 0);
	word = directory_word(d, account);
	ck_assert_uint_eq(entry_generation(word), BERTH_GENERATION_LAST - 1);
	ck_assert_int_eq(directory_renew(d, account, 7, flags), -EOVERFLOW);
	ck_assert_uint_eq(directory_word(d, account), word);
	/* A new limit needs no new generation. The last generation is left for the removal. */
	ck_assert_int_eq(directory_set(d, account, 7, flags), 0);
	ck_assert_uint_eq(limit_of("alice"), 7);
	ck_assert_int_eq(directory_remove(d, account), 0);
	ck_assert_uint_eq(directory_word(d, account), BERTH_GENERATION_LAST);
	ck_assert_uint_eq(account_of("alice"), 0);
}
END_TEST

/* The last generation is kept for a removal. Here a removal that was undone has used it. */
START_TEST(an_account_of_the_last_generation_is_not_removed) {
	struct path path = path_with("alice", 5);
	struct directory *d = accounts_directory(f.accounts);
	uint32_t account = path.level[0].account;
	uint64_t word;

	generation_write(path.level[0].entry, BERTH_GENERATION_LAST);
	word = directory_word(d, account);
	ck_assert_int_eq(directory_remove(d, account), -EOVERFLOW);
	ck_assert_uint_eq(directory_word(d, account), word);
	ck_assert_uint_eq(account_of("alice"), account);
}
END_TEST

/* One account after another gets the index, until the index has no generation left. In one run of
 * the test berthd lives all the time; in the other run a new berthd starts for each account. */
START_TEST(an_index_near_its_last_generation_is_not_used_again) {
	struct path first = path_with("account-0", 5);
	uint32_t index = first.level[0].account, before = BERTH_GENERATION_LAST - 40, now;
	const char *name = "account-0";
	uint32_t lives = 0;

	generation_write(first.level[0].entry, before);
	do {
		account_delete(name);
		if (_i == 1)
			reopen();
		now = entry_generation(account_word(index));
		ck_assert_uint_gt(now, before);
		before = now;
		name = numbered("account", ++lives);
		limit_set(name, 5);
	} while (account_of(name) == index);
	ck_assert_uint_gt(lives, 1);
	ck_assert_uint_eq(account_word(index), before);
	ck_assert_uint_le(before, BERTH_GENERATION_LAST);
}
END_TEST

START_TEST(a_death_while_the_table_grows_is_repaired) {
	uint32_t bits;

	recreate_with_capacity(5000);
	configure_many(0, 400);
	bits = load_relaxed(&f.segment->names->table_bits);
	/* The larger table is published before it is filled. */
	ck_assert_int_eq(segment_allocate_directory(f.segment,
				 f.map->layout.tables + (4ull << (bits + 1)), 4ull << (bits + 1)),
		0);
	store_relaxed(&f.segment->names->table_bits, bits + 1);
	reopen();
	check_many(0, 400);
}
END_TEST

START_TEST(a_segment_of_another_layout_is_refused_and_not_changed) {
	struct directory_header before, after;
	const ssize_t size = sizeof(before);
	int fd = open(dir_path("directory").text, O_RDWR | O_CLOEXEC);

	fixture_close();
	ck_assert_int_eq(pread(fd, &before, sizeof(before), 0), size);
	before.fingerprint++;
	ck_assert_int_eq(pwrite(fd, &before, sizeof(before), 0), size);
	ck_assert_int_eq(segment_open(dir, &want, &f.segment), -EPROTONOSUPPORT);
	ck_assert_int_eq(pread(fd, &after, sizeof(after), 0), size);
	ck_assert_mem_eq(&before, &after, sizeof(before));
	before.fingerprint--;
	ck_assert_int_eq(pwrite(fd, &before, sizeof(before), 0), size);
	(void)close(fd);
	fixture_open(&want);
}
END_TEST

START_TEST(a_segment_that_does_not_belong_to_its_directory_is_replaced) {
	configure_many(0, 3);
	f.segment->names->segment_ino++;
	fixture_close();
	fixture_open(&want);
	ck_assert(!f.segment->adopted);
	ck_assert_uint_eq(directory_live(accounts_directory(f.accounts)), 0);
}
END_TEST

START_TEST(noise_in_the_header_of_the_segment_loses_no_count) {
	struct path path = path_with("alice", 5);
	uint64_t seq;

	seq = record_hold(16, &path, 3);
	memset(f.map->header, 0xA5, sizeof(*f.map->header));
	reopen();
	ck_assert_uint_eq(counter_count(f.map, account_of("alice")), 3);
	record_release(16, seq);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{names_are_found_while_the_table_grows_and_shrinks},
		{a_long_name_without_a_block_is_not_found},
		{a_name_of_255_bytes_is_kept_and_its_block_used_again},
		{ancestors_exist_as_long_as_they_have_children},
		{a_deleted_account_with_a_slot_is_removed_after_the_release},
		{an_index_used_again_has_another_generation_and_no_old_counts},
		{setting_the_same_limit_again_bumps_the_cell},
		{a_template_covers_accounts_that_are_not_configured},
		{an_ancestor_without_a_limit_is_usable_once_a_template_covers_it},
		{idle_accounts_of_templates_make_room_and_used_ones_stay},
		{a_full_table_takes_no_part_of_a_path},
		{an_adopted_directory_is_unchanged},
		{accounts_that_the_store_does_not_name_at_start_are_removed},
		{a_death_before_the_table_slot_was_written_is_repaired},
		{a_death_between_word_and_table_slot_of_a_removal_is_repaired},
		{a_death_in_a_removal_that_would_have_been_undone_loses_no_count},
		{the_removal_of_an_account_notes_the_step_that_only_its_cell_had},
		{after_a_death_in_a_removal_the_step_that_only_its_cell_had_is_noted, 0, 4},
		{a_record_resting_at_a_removed_account_has_charged_nothing_of_the_next_one},
		{a_record_resting_at_a_removed_account_is_closed_without_damage},
		{ancestors_that_form_a_circle_cause_no_endless_loop},
		{an_account_without_a_bump_left_is_not_changed},
		{a_refused_change_leaves_the_numbers_of_accounts_right},
		{a_template_that_an_account_cannot_take_is_an_error},
		{the_last_bump_is_made_and_the_next_one_refused},
		{a_removal_with_the_last_bump_is_refused_and_changes_nothing},
		{an_index_whose_cell_has_no_bump_left_is_not_used_again, 0, 2},
		{an_account_near_its_last_generation_is_not_renewed},
		{an_account_of_the_last_generation_is_not_removed},
		{an_index_near_its_last_generation_is_not_used_again, 0, 2},
		{a_death_while_the_table_grows_is_repaired},
		{a_segment_of_another_layout_is_refused_and_not_changed},
		{a_segment_that_does_not_belong_to_its_directory_is_replaced},
		{noise_in_the_header_of_the_segment_loses_no_count},
		{NULL},
	};

	return run_suites({"directory", tests, .setup = setup, .teardown = fixture_free});
}
