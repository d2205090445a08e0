/* SPDX-License-Identifier: MIT */

/* What the store has of before: loaded a slice at a time, while servers are served, and exact whoever
 * asks, denies, deletes, stops or dies meanwhile. */

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "checkpoint.h"
#include "fixture.h"
#include "flood.h"

/* Three slices. */
#define MANY 20000u

static struct fixture f;
static char state[sizeof(f.dir) + 8];
static sd_event *event;
static struct sessions *sessions;
static struct recount *recount;
static struct store *store;
static struct checkpoint *checkpoint;

static const char *name_of(uint32_t i) {
	static char name[32];

	(void)snprintf(name, sizeof(name), "account%05u", i);
	return name;
}

static struct cell *cell_of(uint32_t i) {
	struct cell *cell = map_cell(f.map, accounts_find(f.accounts, name_of(i)));

	ck_assert_ptr_nonnull(cell);
	return cell;
}

/* -- lives of berthd --------------------------------------------------------------------------- */

/* Up to where servers are served, with so many accounts. */
static void life_begin_with(uint32_t accounts) {
	static const struct capacities want = {.accounts = 32768, .slots = 4096, .sessions = 256};

	fixture_open(&f, &want);
	for (uint32_t i = 0; i < accounts; i++)
		ck_assert_int_eq(fixture_load(&f, name_of(i), 10), 0);
	ck_assert_int_ge(sd_event_new(&event), 0);
	ck_assert_int_eq(sessions_new(event, f.segment, &sessions), 0);
	ck_assert_int_eq(store_new(state, &store), 0);
	ck_assert_int_ge(recount_new(event, accounts_directory(f.accounts), sessions, &recount), 0);
	ck_assert_int_eq(checkpoint_new(event, f.accounts, store, recount, &checkpoint), 0);
	ck_assert_int_eq(checkpoint_restore(checkpoint, f.segment->adopted), 0);
	ck_assert_int_ge(checkpoint_start(checkpoint), 0);
}

static void life_begin(void) {
	life_begin_with(MANY);
}

/* Killed: nothing is stored any more. */
static void life_cut(void) {
	store_free(store);
	checkpoint_free(checkpoint);
	recount_free(recount);
	sessions_free(sessions);
	fixture_close(&f);
	(void)sd_event_unref(event);
}

static void life_end(void) {
	checkpoint_final(checkpoint);
	life_cut();
}

static void turns_finish(void) {
	int r;

	do
		r = sd_event_run(event, 0);
	while (r > 0);
	ck_assert_int_eq(r, 0);
}

static void file_remove(const char *name) {
	char path[80];

	(void)snprintf(path, sizeof(path), "%s/%s", f.dir, name);
	ck_assert_int_eq(remove(path), 0);
}

static void reboot(void) {
	file_remove("segment");
	file_remove("directory");
}

/* Stopped in order, and all loaded in the next life. */
static void life_after_reboot(void) {
	life_end();
	reboot();
	life_begin();
	turns_finish();
}

/* -- what is known of an account ---------------------------------------------------------------- */

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

/* The first ones. */
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

/* A life that left peaks and denials, a reboot, and a life whose first slice is loaded. */
static void setup(void) {
	strcpy(f.dir, "/dev/shm/berth-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f.dir));
	(void)snprintf(state, sizeof(state), "%s/state", f.dir);
	life_begin();
	for (uint32_t i = 0; i < MANY; i++) {
		store_relaxed(&cell_of(i)->peak, peak_stored(i));
		store_relaxed(&cell_of(i)->denied, denied_stored(i));
	}
	life_end();
	reboot();
	life_begin();
	ck_assert(is_restored(0));
	ck_assert(!is_restored(MANY - 1));
}

static void teardown(void) {
	static const char *const files[] = {"state/limits/data.mdb", "state/limits/lock.mdb",
		"state/counts/data.mdb", "state/counts/lock.mdb", "state/limits", "state/counts",
		"state"};

	life_cut();
	reboot();
	for (size_t i = 0; i < ELEMENTS(files); i++)
		file_remove(files[i]);
	ck_assert_int_eq(rmdir(f.dir), 0);
}

/* -- tests --------------------------------------------------------------------------------------- */

START_TEST(the_rest_comes_in_turns_of_the_loop) {
	turns_finish();
	expect_restored(MANY);
}
END_TEST

START_TEST(who_asks_has_all_of_it) {
	checkpoint_restore_rest(checkpoint);
	expect_restored(MANY);
}
END_TEST

START_TEST(what_happens_meanwhile_is_added) {
	const uint32_t last = MANY - 1;

	(void)add_relaxed(&cell_of(last)->denied, 3);
	store_relaxed(&cell_of(last)->peak, 10);
	store_relaxed(&cell_of(last - 1)->peak, 1);
	turns_finish();
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->denied), denied_stored(last) + 3);
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->peak), 10);
	expect_restored(last);
}
END_TEST

START_TEST(a_death_between_two_slices_neither_loses_nor_doubles) {
	ck_assert_int_gt(sd_event_run(event, 0), 0);
	life_cut();
	life_begin();
	ck_assert(f.segment->adopted);
	turns_finish();
	expect_restored(MANY);
}
END_TEST

START_TEST(what_was_restored_is_adopted_as_it_is) {
	turns_finish();
	store_relaxed(&cell_of(7)->denied, 0);
	life_cut();
	life_begin();
	turns_finish();
	ck_assert_uint_eq(load_relaxed(&cell_of(7)->denied), 0);
	expect_restored(7);
}
END_TEST

START_TEST(stopping_before_the_rest_is_loaded_stores_all_of_it) {
	const uint32_t last = MANY - 1;

	(void)add_relaxed(&cell_of(last)->denied, 1);
	life_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->denied), denied_stored(last) + 1);
	expect_restored(last);
}
END_TEST

START_TEST(an_account_made_anew_meanwhile_begins_with_nothing) {
	const uint32_t last = MANY - 1;

	ck_assert_int_eq(accounts_unconfigure(f.accounts, name_of(last)), 0);
	ck_assert_uint_eq(accounts_find(f.accounts, name_of(last)), 0);
	ck_assert_int_eq(fixture_configure(f.accounts, name_of(last), 10), 0);
	turns_finish();
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->denied), 0);
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->peak), 0);
	expect_restored(last);
	life_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->denied), 0);
	expect_restored(last);
}
END_TEST

START_TEST(counts_are_stored_in_a_flood_of_messages) {
	struct pollfd done = {.fd = store_fd(store), .events = POLLIN};
	sd_event_source *flood;
	unsigned messages = 0;

	turns_finish();
	(void)add_relaxed(&cell_of(3)->denied, 1);
	flood = flood_new(event, &messages);
	/* At the latest when the test's time is over. */
	while (checkpoint_last(checkpoint) == 0) {
		ck_assert_int_gt(sd_event_run(event, 0), 0);
		if (poll(&done, 1, 0) > 0)
			store_dispatch(store);
	}
	ck_assert_uint_gt(messages, 0);
	(void)sd_event_source_disable_unref(flood);
	life_cut();
	reboot();
	life_begin();
	checkpoint_restore_rest(checkpoint);
	ck_assert_uint_eq(load_relaxed(&cell_of(3)->denied), denied_stored(3) + 1);
}
END_TEST

START_TEST(nor_is_it_given_what_was_stored_when_it_was_not_there_yet) {
	const uint32_t last = MANY - 1;

	life_cut();
	reboot();
	life_begin_with(last);
	ck_assert_int_eq(fixture_configure(f.accounts, name_of(last), 10), 0);
	turns_finish();
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->denied), 0);
	life_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(last)->denied), 0);
	expect_restored(last);
}
END_TEST

/* -- a store that is closed, damaged, or can't be read ------------------------------------------- */

static void note_done(void *data, int error) {
	ck_assert_int_eq(error, 0);
	*(bool *)data = true;
}

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

/* After so many the worker closes what it has open (store.c). */
static void import_until_closed(void) {
	static char names[MANY][32];
	static struct store_limit limits[MANY];
	bool done = false;

	for (uint32_t i = 0; i < MANY; i++)
		limits[i] = (struct store_limit){strcpy(names[i], name_of(i)), 5};
	ck_assert_int_eq(store_put_limits(store, limits, MANY, note_done, &done), 0);
	while (!done) {
		struct pollfd p = {.fd = store_fd(store), .events = POLLIN};

		(void)poll(&p, 1, -1);
		store_dispatch(store);
	}
	while (counts_are_open())
		(void)usleep(1000);
}

START_TEST(an_import_meanwhile_does_no_harm) {
	import_until_closed();
	turns_finish();
	expect_restored(MANY);
}
END_TEST

/* Something else is where the counts were. */
static void counts_move(bool away) {
	char here[80], there[80];

	(void)snprintf(here, sizeof(here), "%s/counts", state);
	(void)snprintf(there, sizeof(there), "%s/counts.away", state);
	if (away) {
		ck_assert_int_eq(rename(here, there), 0);
		ck_assert_int_eq(close(creat(here, 0600)), 0);
	} else {
		ck_assert_int_eq(remove(here), 0);
		ck_assert_int_eq(rename(there, here), 0);
	}
}

START_TEST(what_could_not_be_read_after_a_reboot_stays_as_it_is) {
	import_until_closed();
	counts_move(true);
	turns_finish();
	ck_assert(checkpoint_is_restoring(checkpoint));
	(void)add_relaxed(&cell_of(1)->denied, 1);
	life_end();
	counts_move(false);
	reboot();
	life_begin();
	turns_finish();
	expect_restored(MANY);
}
END_TEST

START_TEST(what_can_be_read_again_is_loaded) {
	import_until_closed();
	counts_move(true);
	turns_finish();
	counts_move(false);
	checkpoint_restore_rest(checkpoint);
	ck_assert(!checkpoint_is_restoring(checkpoint));
	expect_restored(MANY);
}
END_TEST

START_TEST(cells_that_were_adopted_need_nothing_that_could_not_be_read) {
	turns_finish();
	life_cut();
	life_begin();
	import_until_closed();
	counts_move(true);
	turns_finish();
	ck_assert(!checkpoint_is_restoring(checkpoint));
	counts_move(false);
	(void)add_relaxed(&cell_of(MANY - 1)->denied, 1);
	life_after_reboot();
	ck_assert_uint_eq(load_relaxed(&cell_of(MANY - 1)->denied), denied_stored(MANY - 1) + 1);
	expect_restored(MANY - 1);
}
END_TEST

static void damage(uint32_t i) {
	const size_t length = strlen(name_of(i));
	char path[80], *p, *at;
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/counts/data.mdb", state);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	at = p;
	while ((at = memmem(at, (size_t)(p + st.st_size - at), name_of(i), length))) {
		at += length;
		*at ^= 0x40;
	}
	ck_assert_int_eq(munmap(p, (size_t)st.st_size), 0);
	(void)close(fd);
}

START_TEST(damage_loses_nothing_that_was_loaded_before) {
	damage(MANY - 1);
	turns_finish();
	ck_assert(!checkpoint_is_restoring(checkpoint));
	life_after_reboot();
	expect_restored_of(MANY - 1, MANY);
}
END_TEST

int main(void) {
	Suite *s = suite_create("checkpoint");
	TCase *t = tcase_create("loading");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_rest_comes_in_turns_of_the_loop);
	tcase_add_test(t, who_asks_has_all_of_it);
	tcase_add_test(t, what_happens_meanwhile_is_added);
	tcase_add_test(t, a_death_between_two_slices_neither_loses_nor_doubles);
	tcase_add_test(t, what_was_restored_is_adopted_as_it_is);
	tcase_add_test(t, stopping_before_the_rest_is_loaded_stores_all_of_it);
	tcase_add_test(t, an_account_made_anew_meanwhile_begins_with_nothing);
	tcase_add_test(t, nor_is_it_given_what_was_stored_when_it_was_not_there_yet);
	tcase_add_test(t, counts_are_stored_in_a_flood_of_messages);
	tcase_add_test(t, an_import_meanwhile_does_no_harm);
	tcase_add_test(t, what_could_not_be_read_after_a_reboot_stays_as_it_is);
	tcase_add_test(t, what_can_be_read_again_is_loaded);
	tcase_add_test(t, cells_that_were_adopted_need_nothing_that_could_not_be_read);
	tcase_add_test(t, damage_loses_nothing_that_was_loaded_before);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
