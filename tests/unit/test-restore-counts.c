/* SPDX-License-Identifier: MIT */

/* After a reboot, berthd loads the earlier peaks and denials from the store in slices, while it
 * serves clients. Tests that these numbers stay exact whatever happens between two slices: denials,
 * queries, a deletion, a stop, or a death. */

#include "checkpoint.h"
#include "disk.h"
#include "event-loop.h"
#include "fixture.h"
#include "run.h"
#include "store-jobs.h"

/* Restoring this number of accounts takes three slices. */
#define MANY 20000u
#define LAST (MANY - 1)

static struct store *store;
static struct checkpoint *checkpoint;

static const char *name_of(uint32_t i) {
	static char name[32];

	(void)snprintf(name, sizeof(name), "account%05u", i);
	return name;
}

static struct cell *cell_of(uint32_t i) {
	struct cell *cell = map_cell(f.map, account_of(name_of(i)));

	ck_assert_ptr_nonnull(cell);
	return cell;
}

/* -- lives of berthd --------------------------------------------------------------------------- */

/* Starts the parts of berthd with this number of accounts, ready to serve clients. */
static void start_with(uint32_t accounts) {
	static const struct capacities want = {.accounts = 32768, .slots = 4096, .sessions = 256};

	fixture_open(&want);
	for (uint32_t i = 0; i < accounts; i++)
		ck_assert_int_eq(accounts_load(f.accounts, name_of(i), 10), 0);
	loop_begin();
	store = store_open();
	ck_assert_int_eq(checkpoint_new(event, f.accounts, store, recount, &checkpoint), 0);
	ck_assert_int_eq(checkpoint_restore(checkpoint, f.segment->adopted), 0);
	ck_assert_int_ge(checkpoint_start(checkpoint), 0);
}

static void start(void) {
	start_with(MANY);
}

/* Ends berthd as a kill does: nothing more is stored. */
static void kill_berthd(void) {
	store_free(store);
	checkpoint_free(checkpoint);
	loop_end();
	fixture_close();
}

static void stop(void) {
	checkpoint_final(checkpoint);
	kill_berthd();
}

static void reboot(void) {
	ck_assert_int_eq(remove(dir_path("segment").text), 0);
	ck_assert_int_eq(remove(dir_path("directory").text), 0);
}

/* Stops berthd in order, reboots, and starts a berthd that loads everything. */
static void restart_after_reboot(void) {
	stop();
	reboot();
	start();
	loop_run_until_idle();
}

/* -- numbers of an account --------------------------------------------------------------------- */

static uint32_t peak_stored(uint32_t i) {
	return i % 9 + 1;
}

static uint64_t denied_stored(uint32_t i) {
	return i + 1;
}

static bool is_restored(uint32_t i) {
	return load_relaxed(&cell_of(i)->peak) == peak_stored(i) &&
	       load_relaxed(&cell_of(i)->denied) == denied_stored(i);
}

/* Checks that the first `accounts` accounts, except for `except`, have the stored numbers. */
static void expect_restored_of(uint32_t accounts, uint32_t except) {
	for (uint32_t i = 0; i < accounts; i++)
		if (i != except && !is_restored(i))
			ck_abort_msg("%s has peak %u and %lu denied", name_of(i),
				load_relaxed(&cell_of(i)->peak),
				(unsigned long)load_relaxed(&cell_of(i)->denied));
}

static void expect_restored(uint32_t except) {
	expect_restored_of(MANY, except);
}

/* One berthd stores peaks and denials. Then the machine reboots, and the next berthd loads its
 * first slice. */
static void setup(void) {
	dir_make();
	strcpy(state, dir_path("state").text);
	start();
	for (uint32_t i = 0; i < MANY; i++) {
		store_relaxed(&cell_of(i)->peak, peak_stored(i));
		store_relaxed(&cell_of(i)->denied, denied_stored(i));
	}
	stop();
	reboot();
	start();
	ck_assert(is_restored(0));
	ck_assert(!is_restored(LAST));
}

static void teardown(void) {
	kill_berthd();
	dir_remove();
}

/* -- tests ------------------------------------------------------------------------------------- */

START_TEST(the_other_slices_are_loaded_by_the_event_loop) {
	loop_run_until_idle();
	expect_restored(MANY);
}
END_TEST

START_TEST(a_request_for_all_numbers_loads_the_other_slices) {
	checkpoint_restore_rest(checkpoint);
	expect_restored(MANY);
}
END_TEST

START_TEST(numbers_that_change_meanwhile_are_combined_with_the_stored_ones) {
	(void)add_relaxed(&cell_of(LAST)->denied, 3);
	store_relaxed(&cell_of(LAST)->peak, 10);
	store_relaxed(&cell_of(LAST - 1)->peak, 1);
	loop_run_until_idle();
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->denied), denied_stored(LAST) + 3);
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->peak), 10);
	expect_restored(LAST);
}
END_TEST

START_TEST(a_death_between_two_slices_neither_loses_nor_doubles_numbers) {
	ck_assert_int_gt(sd_event_run(event, 0), 0);
	kill_berthd();
	start();
	ck_assert(f.segment->adopted);
	loop_run_until_idle();
	expect_restored(MANY);
}
END_TEST

START_TEST(numbers_that_are_restored_are_adopted_unchanged) {
	loop_run_until_idle();
	store_relaxed(&cell_of(7)->denied, 0);
	kill_berthd();
	start();
	loop_run_until_idle();
	ck_assert_uint_eq(load_relaxed(&cell_of(7)->denied), 0);
	expect_restored(7);
}
END_TEST

START_TEST(stopping_before_all_slices_are_loaded_stores_all_numbers) {
	(void)add_relaxed(&cell_of(LAST)->denied, 1);
	restart_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->denied), denied_stored(LAST) + 1);
	expect_restored(LAST);
}
END_TEST

START_TEST(an_account_deleted_and_set_again_meanwhile_starts_from_zero) {
	account_delete(name_of(LAST));
	ck_assert_uint_eq(account_of(name_of(LAST)), 0);
	limit_set(name_of(LAST), 10);
	loop_run_until_idle();
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->denied), 0);
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->peak), 0);
	expect_restored(LAST);
	restart_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->denied), 0);
	expect_restored(LAST);
}
END_TEST

START_TEST(numbers_are_stored_during_a_flood_of_messages) {
	struct pollfd done = {.fd = store_fd(store), .events = POLLIN};
	sd_event_source *flood;
	unsigned messages = 0;

	loop_run_until_idle();
	(void)add_relaxed(&cell_of(3)->denied, 1);
	flood = flood_new(&messages);
	/* If nothing is stored, Check ends the test after its timeout. */
	while (checkpoint_last(checkpoint) == 0) {
		ck_assert_int_gt(sd_event_run(event, 0), 0);
		if (poll(&done, 1, 0) > 0)
			store_dispatch(store);
	}
	ck_assert_uint_gt(messages, 0);
	(void)sd_event_source_disable_unref(flood);
	kill_berthd();
	reboot();
	start();
	checkpoint_restore_rest(checkpoint);
	ck_assert_uint_eq(load_relaxed(&cell_of(3)->denied), denied_stored(3) + 1);
}
END_TEST

START_TEST(an_account_set_after_the_start_gets_no_stored_numbers) {
	kill_berthd();
	reboot();
	start_with(LAST);
	limit_set(name_of(LAST), 10);
	loop_run_until_idle();
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->denied), 0);
	restart_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->denied), 0);
	expect_restored(LAST);
}
END_TEST

/* -- a store that is closed, damaged, or can't be read ----------------------------------------- */

static bool counts_are_open(void) {
	char link[32], path[80];

	for (int fd = 0; fd < 256; fd++) {
		ssize_t n;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, path, sizeof(path) - 1);
		path[MAX_OF(n, 0)] = '\0';
		if (strstr(path, "counts/data.mdb"))
			return true;
	}
	return false;
}

/* Stores the same counts again. This is so large a change that the store then closes LMDB
 * (lmdb.h). */
static void counts_write_and_close(void) {
	struct store_count *counts = calloc(MANY, sizeof(*counts));
	char *names = calloc(MANY, 32);
	size_t used = 0;

	for (uint32_t i = 0; i < MANY; i++) {
		counts[i] = (struct store_count){0, peak_stored(i), denied_stored(i), used};
		used += strlen(strcpy(names + used, name_of(i))) + 1;
	}
	ck_assert_int_eq(put_counts(store, counts, MANY, names), 0);
	ck_assert(!counts_are_open());
}

START_TEST(an_import_between_two_slices_loses_no_numbers) {
	static char names[MANY][32];
	static struct store_limit limits[MANY];

	for (uint32_t i = 0; i < MANY; i++)
		limits[i] = (struct store_limit){strcpy(names[i], name_of(i)), 5};
	ck_assert_int_eq(put(store, limits, MANY), 0);
	counts_write_and_close();
	loop_run_until_idle();
	expect_restored(MANY);
}
END_TEST

/* If `away`, moves the folder of counts away and puts a file in its place. Else moves it back. */
static void counts_folder_move(bool away) {
	struct dir_path here = dir_path("state/counts"), there = dir_path("state/counts.away");

	if (away) {
		ck_assert_int_eq(rename(here.text, there.text), 0);
		ck_assert_int_eq(close(creat(here.text, 0600)), 0);
	} else {
		ck_assert_int_eq(remove(here.text), 0);
		ck_assert_int_eq(rename(there.text, here.text), 0);
	}
}

START_TEST(stored_numbers_that_could_not_be_read_stay_in_the_store) {
	counts_write_and_close();
	counts_folder_move(true);
	loop_run_until_idle();
	ck_assert(checkpoint_is_restoring(checkpoint));
	(void)add_relaxed(&cell_of(1)->denied, 1);
	stop();
	counts_folder_move(false);
	reboot();
	start();
	loop_run_until_idle();
	expect_restored(MANY);
}
END_TEST

START_TEST(stored_numbers_are_loaded_once_they_can_be_read_again) {
	counts_write_and_close();
	counts_folder_move(true);
	loop_run_until_idle();
	counts_folder_move(false);
	checkpoint_restore_rest(checkpoint);
	ck_assert(!checkpoint_is_restoring(checkpoint));
	expect_restored(MANY);
}
END_TEST

START_TEST(adopted_cells_do_not_need_the_stored_numbers) {
	loop_run_until_idle();
	kill_berthd();
	start();
	counts_write_and_close();
	counts_folder_move(true);
	loop_run_until_idle();
	ck_assert(!checkpoint_is_restoring(checkpoint));
	counts_folder_move(false);
	(void)add_relaxed(&cell_of(LAST)->denied, 1);
	restart_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(LAST)->denied), denied_stored(LAST) + 1);
	expect_restored(LAST);
}
END_TEST

/* Changes a byte behind each copy of the account's name in the file of counts. */
static void damage(uint32_t i) {
	struct dir_path path = dir_path("state/counts/data.mdb");
	const size_t length = strlen(name_of(i));
	size_t size;
	char *content = file_read(path.text, &size), *at = content;
	int fd = open(path.text, O_WRONLY | O_CLOEXEC);

	while ((at = memmem(at, size - (size_t)(at - content), name_of(i), length))) {
		at += length;
		*at ^= 0x40;
	}
	ck_assert_int_eq(pwrite(fd, content, size, 0), (ssize_t)size);
	(void)close(fd);
	free(content);
}

START_TEST(damage_loses_no_numbers_that_were_loaded_before) {
	damage(LAST);
	loop_run_until_idle();
	ck_assert(!checkpoint_is_restoring(checkpoint));
	restart_after_reboot();
	expect_restored_of(MANY - 1, MANY);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{the_other_slices_are_loaded_by_the_event_loop},
		{a_request_for_all_numbers_loads_the_other_slices},
		{numbers_that_change_meanwhile_are_combined_with_the_stored_ones},
		{a_death_between_two_slices_neither_loses_nor_doubles_numbers},
		{numbers_that_are_restored_are_adopted_unchanged},
		{stopping_before_all_slices_are_loaded_stores_all_numbers},
		{an_account_deleted_and_set_again_meanwhile_starts_from_zero},
		{an_account_set_after_the_start_gets_no_stored_numbers},
		{numbers_are_stored_during_a_flood_of_messages},
		{an_import_between_two_slices_loses_no_numbers},
		{stored_numbers_that_could_not_be_read_stay_in_the_store},
		{stored_numbers_are_loaded_once_they_can_be_read_again},
		{adopted_cells_do_not_need_the_stored_numbers},
		{damage_loses_no_numbers_that_were_loaded_before},
		{NULL},
	};

	return run_suites({"checkpoint", tests, .setup = setup, .teardown = teardown});
}
