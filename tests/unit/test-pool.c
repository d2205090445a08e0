/* SPDX-License-Identifier: MIT */

/* The pool over a segment and a directory made by hand, without a daemon. */

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "pool.h"

#define SLOTS   131072 /* more than one window of records */
#define RANGES  3
#define THREADS 8
#define TURNS   20000

static struct map *map;
static struct pool *pool;

/* Accounts 1 … THREADS, unlimited, without ancestors. */
static struct path path1;

static void file_put(int fd, const void *bytes, size_t size, uint64_t at) {
	ck_assert_int_eq(pwrite(fd, bytes, size, (off_t)at), (ssize_t)size);
}

static void headers_put(int segment, int directory) {
	struct directory_header names = {
		.magic = BERTH_DIRECTORY_MAGIC,
		.version = BERTH_LAYOUT_VERSION,
		.fingerprint = BERTH_FINGERPRINT,
		.max_accounts = 64,
		.max_slots = SLOTS,
		.max_sessions = 4,
		.accounts = THREADS + 1,
		.slots = SLOTS,
		.sessions = 4,
		.table_bits = BERTH_TABLE_BITS_MIN,
	};
	struct segment_header header = {
		.magic = BERTH_SEGMENT_MAGIC,
		.version = BERTH_LAYOUT_VERSION,
		.fingerprint = BERTH_FINGERPRINT,
	};

	struct stat st;

	ck_assert_int_eq(fstat(segment, &st), 0);
	names.segment_ino = st.st_ino;
	file_put(directory, &names, sizeof(names), 0);
	file_put(segment, &header, sizeof(header), 0);
}

static void map_make(void) {
	int segment = memfd_create("segment", MFD_CLOEXEC);
	int directory = memfd_create("directory", MFD_CLOEXEC);
	struct layout l;

	ck_assert(layout_init(&l, 64, SLOTS, 4));
	ck_assert_int_eq(ftruncate(segment, (off_t)l.segment_size), 0);
	ck_assert_int_eq(ftruncate(directory, (off_t)l.directory_size), 0);
	headers_put(segment, directory);
	for (uint32_t account = 1; account <= THREADS; account++) {
		struct entry e = {
			.word = entry_pack(BERTH_LIMIT_NONE, ENTRY_LIVE | ENTRY_USABLE, 1),
			.shape = shape_pack(1, 1),
		};

		file_put(directory, &e, sizeof(e), l.entries + account * sizeof(e));
	}
	ck_assert_int_eq(map_new(segment, directory, PROT_READ | PROT_WRITE, &map), 0);
	ck_assert_int_eq(directory_path(map, 1, 1, &path1), 0);
}

static void range_give(uint32_t number) {
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		ck_assert_int_eq(counter_open(map, number * BERTH_RANGE + i), 0);
	ck_assert_int_eq(pool_add_range(pool, number), 0);
}

static void set_up(void) {
	map_make();
	ck_assert_int_eq(pool_new(map, &pool), 0);
	for (uint32_t n = 1; n <= RANGES; n++)
		range_give(n);
}

static void tear_down(void) {
	pool_free(pool);
	map_free(map);
}

static int take(struct pool_slot *ret) {
	struct slot_request request = {.path = &path1, .weight = 1};

	return pool_acquire(pool, &request, ret);
}

static int give(const struct pool_slot *slot) {
	return pool_release(pool, slot->record, slot->seq);
}

static enum record_state state_of(uint32_t record) {
	return record_state(load_relaxed(&map_record(map, record)->word));
}

START_TEST(every_record_is_handed_out_once_and_then_none_is_left) {
	static bool seen[SLOTS];
	struct pool_slot slot;

	for (uint32_t n = 0; n < RANGES * BERTH_RANGE; n++) {
		ck_assert_int_eq(take(&slot), 0);
		ck_assert_uint_lt(slot.record, (RANGES + 1) * BERTH_RANGE);
		ck_assert_uint_ge(slot.record, BERTH_RANGE);
		ck_assert_msg(!seen[slot.record], "record %u twice", slot.record);
		seen[slot.record] = true;
	}
	ck_assert_int_eq(take(&slot), -ENOBUFS);
	ck_assert_uint_eq(counter_count(map, 1), RANGES * BERTH_RANGE);
}
END_TEST

START_TEST(records_are_used_in_turn_and_not_the_last_one_again) {
	struct pool_slot first, second;

	ck_assert_int_eq(take(&first), 0);
	ck_assert_int_eq(give(&first), 0);
	ck_assert_int_eq(take(&second), 0);
	ck_assert_uint_eq(second.record, first.record + 1);
}
END_TEST

START_TEST(a_full_pool_finds_the_one_record_that_was_released) {
	struct pool_slot slots[RANGES * BERTH_RANGE], again;

	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(take(&slots[i]), 0);
	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		ck_assert_int_eq(take(&again), -ENOBUFS);
		ck_assert_int_eq(give(&slots[i]), 0);
		ck_assert_int_eq(take(&again), 0);
		ck_assert_uint_eq(again.record, slots[i].record);
	}
}
END_TEST

START_TEST(a_pool_that_grew_goes_on_with_the_new_range) {
	struct pool_slot slot;

	while (take(&slot) == 0)
		;
	range_give(RANGES + 1);
	ck_assert_int_eq(take(&slot), 0);
	ck_assert_uint_eq(slot.record / BERTH_RANGE, RANGES + 1);
	ck_assert_uint_eq(pool_ranges(pool), RANGES + 1);
}
END_TEST

START_TEST(a_range_that_is_none_or_there_already_is_refused) {
	ck_assert_int_eq(pool_add_range(pool, 0), -ERANGE);
	ck_assert_int_eq(pool_add_range(pool, SLOTS / BERTH_RANGE + 1), -ERANGE);
	ck_assert_int_eq(pool_add_range(pool, UINT32_MAX), -ERANGE);
	ck_assert_int_eq(pool_add_range(pool, 1), -EEXIST);
}
END_TEST

START_TEST(a_range_that_can_t_be_mapped_is_no_reason_to_ask_for_more) {
	struct pool_slot slot;

	ck_assert_int_eq(pool_add_range(pool, SLOTS / BERTH_RANGE - 1), 0);
	map_close_files(map);
	for (int n = 0; n < RANGES * (int)BERTH_RANGE; n++)
		ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(take(&slot), -ENOMEM);
	ck_assert_uint_eq(slot.record, 0);
}
END_TEST

START_TEST(a_slot_released_twice_is_not_held) {
	struct pool_slot slot, other = {.record = 5 * BERTH_RANGE};

	ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_int_eq(give(&other), -ENOENT);
	ck_assert_uint_eq(counter_count(map, 1), 0);
}
END_TEST

START_TEST(a_stale_slot_does_not_release_the_one_that_follows_in_its_record) {
	struct pool_slot first, later;

	ck_assert_int_eq(take(&first), 0);
	ck_assert_int_eq(give(&first), 0);
	do
		ck_assert_int_eq(take(&later), 0);
	while (later.record != first.record);
	ck_assert_int_eq(give(&first), -ENOENT);
	ck_assert_int_eq(give(&later), 0);
}
END_TEST

START_TEST(a_revoked_slot_is_told_to_its_holder_once) {
	struct pool_slot slot;

	ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(counter_revoke(map, slot.record, counter_record(map, slot.record)), 0);
	ck_assert_int_eq(give(&slot), -ECANCELED);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_uint_eq(counter_count(map, 1), 0);
}
END_TEST

START_TEST(a_revoked_record_is_used_again_only_when_its_holder_knows) {
	struct pool_slot revoked, slot;

	ck_assert_int_eq(take(&revoked), 0);
	ck_assert_int_eq(
		counter_revoke(map, revoked.record, counter_record(map, revoked.record)), 0);
	while (take(&slot) == 0)
		ck_assert_uint_ne(slot.record, revoked.record);
	ck_assert_int_eq(give(&revoked), -ECANCELED);
	ck_assert_int_eq(take(&slot), 0);
	ck_assert_uint_eq(slot.record, revoked.record);
}
END_TEST

/* As threads lose one, rarely (pool.c). */
START_TEST(a_record_whose_token_was_lost_is_found_again_after_a_revoke) {
	struct pool_slot slots[RANGES * BERTH_RANGE], slot;

	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(take(&slots[i]), 0);
	ck_assert_int_eq(take(&slot), -ENOBUFS);
	ck_assert_int_eq(pool_forget(pool, slots[7].record, slots[7].seq), -ECANCELED);
	ck_assert_int_eq(
		counter_revoke(map, slots[7].record, counter_record(map, slots[7].record)), 0);
	ck_assert_int_eq(give(&slots[7]), -ENOENT);
	ck_assert_int_eq(take(&slot), 0);
	ck_assert_uint_eq(slot.record, slots[7].record);
}
END_TEST

START_TEST(a_closed_session_s_records_are_not_handed_out) {
	struct pool_slot slot;

	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
		ck_assert_int_eq(counter_close(map, n), 0);
	ck_assert_int_lt(take(&slot), 0);
}
END_TEST

START_TEST(forgetting_tells_what_was_held_and_touches_no_count) {
	struct pool_slot slot;

	ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(pool_forget(pool, slot.record, slot.seq), -ECANCELED);
	ck_assert_int_eq(pool_forget(pool, slot.record, slot.seq), -ENOENT);
	ck_assert_uint_eq(counter_count(map, 1), 1);
}
END_TEST

START_TEST(releasing_all_leaves_nothing_behind) {
	struct pool_slot slot;

	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	pool_release_all(pool);
	ck_assert_uint_eq(counter_count(map, 1), 0);
	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
		ck_assert_int_eq(state_of(n), RECORD_FREE);
	ck_assert_int_eq(give(&slot), -ENOENT);
}
END_TEST

/* -- threads ---------------------------------------------------------------------------------- */

static pthread_barrier_t barrier;

static int run(void *(*work)(void *), void *results, size_t size) {
	pthread_t thread[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, work, (char *)results + i * size) != 0)
			return -1;
	for (size_t i = 0; i < THREADS; i++)
		(void)pthread_join(thread[i], NULL);
	return 0;
}

/* More slots wanted than there are records, so that hints are cleared and set all the time. */
static void *churn(void *arg) {
	struct pool_slot held[10];
	int *failed = arg;
	size_t n = 0;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < TURNS; i++) {
		int r = n < ELEMENTS(held) ? take(&held[n]) : -ENOBUFS;

		if (r == 0)
			n++;
		else if (r != -ENOBUFS && r != -EAGAIN)
			*failed = r;
		else if (n > 0 && give(&held[--n]) != 0)
			*failed = -1;
	}
	while (n > 0)
		if (give(&held[--n]) != 0)
			*failed = -1;
	return NULL;
}

START_TEST(no_record_is_lost_while_threads_empty_and_fill_the_pool) {
	int failed[THREADS] = {0};
	struct pool_slot slot;
	uint32_t n = 0;

	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	ck_assert_int_eq(run(churn, failed, sizeof(failed[0])), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	ck_assert_uint_eq(counter_count(map, 1), 0);
	while (take(&slot) == 0)
		n++;
	ck_assert_uint_eq(n, RANGES * BERTH_RANGE);
}
END_TEST

#define POOLS 40

static _Atomic bool grown;

static void *take_and_give(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (bool last = false; !last;) {
		struct pool_slot slot;
		int r;

		last = atomic_load(&grown);
		r = take(&slot);
		if (r == 0)
			r = give(&slot);
		if (r != 0 && r != -ENOBUFS && r != -EAGAIN)
			*failed = r;
	}
	return NULL;
}

/* Begins with no range at all, so that threads meet table, lanes and ranges as they are made. What
 * they may see too early on other machines, ThreadSanitizer sees on this. */
static void pool_grow_under_threads(uint32_t first) {
	pthread_t thread[THREADS];
	int failed[THREADS] = {0};

	pool_free(pool);
	ck_assert_int_eq(pool_new(map, &pool), 0);
	atomic_store(&grown, false);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, take_and_give, &failed[i]), 0);
	(void)pthread_barrier_wait(&barrier);
	for (uint32_t n = 0; n < 3; n++) {
		range_give(first + n);
		sched_yield();
	}
	atomic_store(&grown, true);
	for (size_t i = 0; i < THREADS; i++) {
		(void)pthread_join(thread[i], NULL);
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	}
}

START_TEST(threads_go_on_while_ranges_are_added) {
	(void)pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (uint32_t i = 0; i < POOLS; i++)
		pool_grow_under_threads(RANGES + 1 + 3 * i);
	ck_assert_uint_eq(counter_count(map, 1), 0);
}
END_TEST

/* A rival that waits until there is a slot for both to release. */
#define DUELS 20000

static struct pool_slot duel_slot;
static _Atomic int duel_number, duels_ended;

static void *duel(void *arg) {
	int *result = arg;

	for (int n = 1; n <= DUELS; n++) {
		for (int i = 0; atomic_load(&duel_number) < n; i++)
			if (i % 10000 == 9999)
				sched_yield();
		result[n] = give(&duel_slot);
		atomic_store(&duels_ended, n);
	}
	return NULL;
}

START_TEST(of_two_threads_that_release_one_slot_at_once_one_does_and_the_other_hears_not_held) {
	static int theirs[DUELS + 1];
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, duel, theirs), 0);
	for (int n = 1; n <= DUELS; n++) {
		int mine;

		ck_assert_int_eq(take(&duel_slot), 0);
		atomic_store(&duel_number, n);
		/* The rival hears of it a little later; now one is first, now the other. */
		for (int i = 0; i < n % 256; i++)
			(void)atomic_load(&duels_ended);
		mine = give(&duel_slot);
		while (atomic_load(&duels_ended) < n)
			sched_yield();
		/* 0 for one and -ENOENT for the other. */
		ck_assert_msg(mine + theirs[n] == -ENOENT && mine * theirs[n] == 0,
			"duel %d: %d and %d", n, mine, theirs[n]);
	}
	(void)pthread_join(thread, NULL);
	ck_assert_uint_eq(counter_count(map, 1), 0);
}
END_TEST

static _Atomic bool stop;

static void *revoke_all(void *arg) {
	(void)arg;
	while (!atomic_load(&stop))
		for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
			(void)counter_revoke(map, n, counter_record(map, n));
	return NULL;
}

/* Each slot acquired must be told exactly once: released, or revoked. */
static void *churn_revoked(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < TURNS; i++) {
		struct pool_slot slot;
		int r = take(&slot);

		if (r == 0)
			r = give(&slot);
		if (r != 0 && r != -ECANCELED && r != -ENOBUFS && r != -EAGAIN && r != -ENOENT)
			*failed = r;
	}
	return NULL;
}

START_TEST(revoking_under_threads_loses_neither_counts_nor_records) {
	int failed[THREADS] = {0};
	pthread_t daemon;
	struct pool_slot slot;
	uint32_t n = 0;

	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	ck_assert_int_eq(pthread_create(&daemon, NULL, revoke_all, NULL), 0);
	ck_assert_int_eq(run(churn_revoked, failed, sizeof(failed[0])), 0);
	atomic_store(&stop, true);
	(void)pthread_join(daemon, NULL);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	ck_assert_uint_eq(counter_count(map, 1), 0);
	while (take(&slot) == 0)
		n++;
	ck_assert_uint_eq(n, RANGES * BERTH_RANGE);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("pool");
	TCase *cases = tcase_create("pool");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(cases, set_up, tear_down);
	tcase_set_timeout(cases, 120);
	tcase_add_test(cases, every_record_is_handed_out_once_and_then_none_is_left);
	tcase_add_test(cases, records_are_used_in_turn_and_not_the_last_one_again);
	tcase_add_test(cases, a_full_pool_finds_the_one_record_that_was_released);
	tcase_add_test(cases, a_pool_that_grew_goes_on_with_the_new_range);
	tcase_add_test(cases, a_range_that_is_none_or_there_already_is_refused);
	tcase_add_test(cases, a_range_that_can_t_be_mapped_is_no_reason_to_ask_for_more);
	tcase_add_test(cases, a_slot_released_twice_is_not_held);
	tcase_add_test(cases, a_stale_slot_does_not_release_the_one_that_follows_in_its_record);
	tcase_add_test(cases, a_revoked_slot_is_told_to_its_holder_once);
	tcase_add_test(cases, a_revoked_record_is_used_again_only_when_its_holder_knows);
	tcase_add_test(cases, a_record_whose_token_was_lost_is_found_again_after_a_revoke);
	tcase_add_test(cases, a_closed_session_s_records_are_not_handed_out);
	tcase_add_test(cases, forgetting_tells_what_was_held_and_touches_no_count);
	tcase_add_test(cases, releasing_all_leaves_nothing_behind);
	tcase_add_test(cases, no_record_is_lost_while_threads_empty_and_fill_the_pool);
	tcase_add_test(cases, threads_go_on_while_ranges_are_added);
	tcase_add_test(cases,
		of_two_threads_that_release_one_slot_at_once_one_does_and_the_other_hears_not_held);
	tcase_add_test(cases, revoking_under_threads_loses_neither_counts_nor_records);
	suite_add_tcase(suite, cases);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
