/* SPDX-License-Identifier: MIT */

/* The pool over a segment and a directory made by hand, without a daemon. */

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
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

/* Accounts 1 … THREADS, unlimited, without ancestors; and eight of which each is the next one's parent. */
#define TREE         (THREADS + 1)
#define ACCOUNTS_END (TREE + BERTH_LEVELS_MAX)
/* Of one level; of one, of another account; of three; of more than the pool remembers. */
static struct path path1, path2, path3, path8;
static const struct path *const paths[] = {&path1, &path3, &path8, &path2};

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
		.accounts = ACCOUNTS_END,
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
	for (uint32_t account = 1; account < ACCOUNTS_END; account++) {
		uint32_t above = account > TREE ? account - TREE : 0;
		struct entry e = {
			.word = entry_pack(BERTH_LIMIT_NONE, ENTRY_LIVE | ENTRY_USABLE, 1),
			.ancestry = ancestry_pack(above > 0 ? account - 1 : 0, above + 1),
			.shape = shape_pack(1, 0),
		};

		file_put(directory, &e, sizeof(e), l.entries + account * sizeof(e));
	}
	ck_assert_int_eq(map_new(segment, directory, PROT_READ | PROT_WRITE, &map), 0);
	ck_assert_int_eq(directory_path(map, 1, 1, &path1), 0);
	ck_assert_int_eq(directory_path(map, 2, 1, &path2), 0);
	ck_assert_int_eq(directory_path(map, TREE + 2, 1, &path3), 0);
	ck_assert_int_eq(directory_path(map, ACCOUNTS_END - 1, 1, &path8), 0);
	ck_assert_uint_eq(path8.depth, BERTH_LEVELS_MAX);
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

/* As the library does it: first with the spot that was last there; NULL: any. */
static int take_with(
	struct spot *last, const struct path *path, uint32_t weight, struct pool_slot *ret) {
	struct slot_request request = {.path = path, .weight = weight, .stamp = {.since = 1}};
	uint32_t level;
	int r = counter_check(map, path, weight, request.seen, &level);

	*ret = (struct pool_slot){.spot = last};
	return r == 0 ? pool_acquire(pool, &request, ret) : r;
}

static int take_on(const struct path *path, uint32_t weight, struct pool_slot *ret) {
	return take_with(NULL, path, weight, ret);
}

static int take(struct pool_slot *ret) {
	return take_on(&path1, 1, ret);
}

static int give(const struct pool_slot *slot) {
	return pool_release(pool, slot->record, pool_cycle(slot->seq));
}

static int forget(const struct pool_slot *slot) {
	return pool_forget(pool, slot->record, pool_cycle(slot->seq));
}

static struct snapshot look(uint32_t record) {
	struct snapshot s;

	ck_assert_int_eq(counter_record(map, record, &s), 0);
	return s;
}

/* As a berthctl does; -EAGAIN: it isn't held. */
static int take_back(uint32_t record) {
	struct snapshot seen;
	int r = counter_record(map, record, &seen);

	if (r == 0)
		r = snapshot_is_held(seen) ? counter_revoke(map, record, seen) : -EAGAIN;
	return r;
}

/* What the record itself says. */
static struct pair raw_of(uint32_t record) {
	const struct record *r = map_record(map, record);

	return (struct pair){load_relaxed(&r->place), load_relaxed(&r->noted)};
}

static uint32_t charged_by(uint32_t record) {
	struct snapshot s = look(record);

	return place_state(s.place) == RECORD_FREE ? 0 : seq_charged(s.seq);
}

static void check_counts(uint32_t want) {
	for (uint32_t account = 1; account < ACCOUNTS_END; account++)
		ck_assert_uint_eq(counter_count(map, account), want);
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

START_TEST(records_are_used_in_turn_where_none_is_known) {
	struct pool_slot first, second;

	ck_assert_int_eq(take(&first), 0);
	ck_assert_int_eq(give(&first), 0);
	ck_assert_int_eq(take(&second), 0);
	ck_assert_uint_eq(second.record, first.record + 1);
}
END_TEST

/* One CAS for each level: the record isn't written. */
START_TEST(the_record_that_was_last_is_used_again_and_stays_as_it_is) {
	const struct path *path = paths[_i];
	struct pool_slot first, again;
	struct pair was, is;

	ck_assert_int_eq(take_on(path, 1, &first), 0);
	ck_assert_int_eq(give(&first), 0);
	was = raw_of(first.record);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(take_with(first.spot, path, 1, &again), 0);
		ck_assert_uint_eq(again.record, first.record);
		ck_assert_ptr_eq(again.spot, first.spot);
		ck_assert_int_eq(give(&again), 0);
		is = raw_of(first.record);
		ck_assert(is.first == was.first && is.second == was.second);
	}
}
END_TEST

START_TEST(a_record_that_is_held_is_left_for_another) {
	struct pool_slot held, other;

	ck_assert_int_eq(take(&held), 0);
	ck_assert_int_eq(take_with(held.spot, &path1, 1, &other), 0);
	ck_assert_uint_ne(other.record, held.record);
	ck_assert_ptr_ne(other.spot, held.spot);
	ck_assert_uint_eq(counter_count(map, 1), 2);
}
END_TEST

/* -- seqs that are used up ----------------------------------------------------------------------- */

/* Where a record must rest so as to have so many cycles left, once it is placed. */
static uint64_t noted_with_left(uint64_t cycles) {
	return seq_base(BERTH_SEQ_LAST) - cycles * BERTH_CYCLE;
}

static void leave_cycles(uint32_t record, uint64_t cycles) {
	ck_assert(place_state(raw_of(record).first) == RECORD_FREE);
	store_total(&map_record(map, record)->noted, noted_with_left(cycles));
}

/* Wherever it stands. */
static void use_up(uint32_t record) {
	ck_assert_uint_eq(charged_by(record), 0);
	store_total(&map_record(map, record)->noted, noted_with_left(0) + BERTH_CYCLE);
}

START_TEST(a_record_that_has_used_up_its_seqs_is_passed_over) {
	const uint32_t all = RANGES * BERTH_RANGE;
	struct pool_slot slot, other;
	struct spot *spot;
	uint32_t n;

	ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
	ck_assert_int_eq(counter_close(map, slot.record), 0);
	ck_assert_int_eq(give(&slot), -ECANCELED);
	ck_assert_int_eq(counter_open(map, slot.record), 0);
	spot = slot.spot;
	leave_cycles(spot->number, 2);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(take_with(spot, paths[_i], 1, &slot), 0);
		ck_assert_ptr_eq(slot.spot, spot);
		ck_assert_int_eq(give(&slot), 0);
		ck_assert_uint_eq(load_relaxed(&spot->token), 0);
	}
	ck_assert_int_eq(take_with(spot, paths[_i], 1, &slot), 0);
	ck_assert_ptr_ne(slot.spot, spot);
	ck_assert_uint_eq(load_relaxed(&spot->token), TOKEN_SPENT);
	ck_assert_uint_eq(load_relaxed(&spot->range->spent), 1);
	ck_assert_uint_eq(pool_ranges_usable(pool), RANGES);
	for (n = 1; take_with(spot, paths[_i], 1, &other) == 0; n++)
		ck_assert_uint_ne(other.record, spot->number);
	ck_assert_uint_eq(n, all - 1);
	ck_assert_int_eq(take(&other), -ENOBUFS);
	ck_assert_int_eq(pool_release(pool, spot->number, 0), -ENOENT);
	ck_assert_int_eq(forget(&(struct pool_slot){.record = spot->number}), -ENOENT);
	pool_release_all(pool);
	ck_assert_uint_eq(load_relaxed(&spot->token), TOKEN_SPENT);
	check_counts(0);
}
END_TEST

START_TEST(a_pool_whose_records_have_all_used_up_their_seqs_has_none_left) {
	struct pool_slot slot;

	for (uint32_t range = 1; range <= RANGES; range++) {
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			use_up(range * BERTH_RANGE + i);
		/* The pool knows of it once it has met them. */
		for (uint32_t n = 0; n < RANGES * BERTH_RANGE; n++)
			if (take(&slot) == 0)
				ck_assert_int_eq(give(&slot), 0);
		ck_assert_uint_eq(pool_ranges_usable(pool), RANGES - range);
	}
	ck_assert_int_eq(take(&slot), -ENOBUFS);
	ck_assert_uint_eq(slot.record, 0);
	ck_assert_uint_eq(pool_ranges(pool), RANGES);
	/* Another range helps. */
	range_give(RANGES + 1);
	ck_assert_uint_eq(pool_ranges_usable(pool), 1);
	ck_assert_int_eq(take(&slot), 0);
	ck_assert_uint_eq(slot.record / BERTH_RANGE, RANGES + 1);
}
END_TEST

/* A release, a revocation, one after the other, and the session's end, which begins a cycle more. */
START_TEST(the_last_cycle_of_a_record_can_be_ended_in_every_way) {
	for (int how = 0; how < 3; how++) {
		struct pool_slot slot;
		uint32_t record;

		ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
		record = slot.record;
		store_total(&map_record(map, record)->noted, noted_with_left(0));
		ck_assert_int_eq(take_with(slot.spot, paths[_i], 1, &slot), 0);
		ck_assert_uint_eq(slot.record, record);
		if (how > 0)
			ck_assert_int_eq(
				how == 1 ? take_back(record) : counter_close(map, record), 0);
		ck_assert_int_eq(give(&slot), how == 0 ? 0 : -ECANCELED);
		check_counts(0);
		ck_assert_uint_le(look(record).seq, BERTH_SEQ_MASK);
		if (how == 2)
			ck_assert_int_eq(counter_open(map, record), 0);
		ck_assert(counter_is_spent(map, record));
		ck_assert_int_eq(take_with(slot.spot, paths[_i], 1, &slot), 0);
		ck_assert_uint_ne(slot.record, record);
		ck_assert_int_eq(give(&slot), 0);
	}
}
END_TEST

START_TEST(a_record_that_has_used_up_its_seqs_stays_so_however_often_it_is_granted) {
	struct pool_slot slot;
	uint64_t noted = 0;

	for (int i = 0; i < 1000; i++) {
		if (i == 0)
			leave_cycles(BERTH_RANGE, 0);
		ck_assert_int_eq(counter_close(map, BERTH_RANGE), 0);
		ck_assert_int_eq(counter_open(map, BERTH_RANGE), 0);
		ck_assert(counter_is_spent(map, BERTH_RANGE));
		ck_assert_uint_gt(raw_of(BERTH_RANGE).second, BERTH_SEQ_LAST);
		ck_assert(i == 0 || raw_of(BERTH_RANGE).second == noted);
		noted = raw_of(BERTH_RANGE).second;
	}
	while (take(&slot) == 0)
		ck_assert_uint_ne(slot.record, BERTH_RANGE);
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
	struct pool_slot slot, other = {.record = 5 * BERTH_RANGE}, never;

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		ck_assert_int_eq(take_on(paths[i], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
		ck_assert_int_eq(give(&slot), -ENOENT);
		ck_assert_int_eq(give(&other), -ENOENT);
		/* What the record has come to since is no slot. */
		for (uint32_t n = 1; n < 20 * BERTH_CYCLE; n++) {
			never = (struct pool_slot){slot.record, slot.seq + n, NULL};
			ck_assert_int_eq(give(&never), -ENOENT);
		}
	}
	check_counts(0);
}
END_TEST

/* The account was removed, and its index given to one without ancestors. */
START_TEST(a_slot_released_twice_is_not_held_whatever_has_become_of_its_account) {
	struct pool_slot slot;

	ck_assert_int_eq(take_on(&path3, 1, &slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	store_relaxed(&map_entry(map, path3.level[0].account)->ancestry, ancestry_pack(0, 1));
	ck_assert_int_eq(give(&slot), -ENOENT);
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

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		ck_assert_int_eq(take_on(paths[i], 2, &slot), 0);
		ck_assert_int_eq(take_back(slot.record), 0);
		check_counts(0);
		ck_assert_int_eq(give(&slot), -ECANCELED);
		ck_assert_int_eq(give(&slot), -ENOENT);
		check_counts(0);
	}
}
END_TEST

/* Whatever takes it back: a session's end, a new daemon, a recount. */
START_TEST(a_slot_that_was_seized_is_told_to_its_holder_once) {
	struct pool_slot slot;

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (int how = 0; how < 3; how++) {
			ck_assert_int_eq(take_on(paths[i], 2, &slot), 0);
			if (how != 0)
				counter_abandon(map, slot.record);
			ck_assert_int_eq(how == 0   ? counter_close(map, slot.record)
					 : how == 1 ? counter_settle(map, slot.record)
						    : counter_finish(map, slot.record),
				0);
			check_counts(0);
			ck_assert_int_eq(give(&slot), -ECANCELED);
			ck_assert_int_eq(give(&slot), -ENOENT);
			if (how == 0)
				ck_assert_int_eq(counter_open(map, slot.record), 0);
		}
}
END_TEST

/* R1 at the top, as by a thread that is then stopped. */
static void release_begin(const struct pool_slot *slot, const struct path *path) {
	uint32_t top = path->depth - 1;
	struct pair seen = cell_load(path->level[top].cell);

	ck_assert(seen.second == tag_pack(slot->record, slot->seq));
	ck_assert(cas16(&path->level[top].cell->count, seen,
		(struct pair){seen.first - (UINT64_C(1) << BERTH_COUNT_SHIFT),
			tag_pack(slot->record, seq_down(seq_base(slot->seq), top))}));
}

/* Neither to the thread that had begun it nor to one that releases a second time. */
START_TEST(a_release_that_a_daemon_finished_was_no_revocation) {
	const struct path *path = paths[1 + _i];
	struct pool_slot slot, next;

	ck_assert_int_eq(take_on(path, 1, &slot), 0);
	release_begin(&slot, path);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_int_eq(take_back(slot.record), -EAGAIN);
	ck_assert_int_eq(counter_finish(map, slot.record), 0);
	check_counts(0);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_uint_eq(load_relaxed(&slot.spot->token), slot.seq);
	ck_assert_int_eq(counter_release_rest(map, spot_record(slot.spot), path, 1, slot.seq), 0);
	check_counts(0);
	/* No other thread takes a slot with it before that one has told the holder. */
	ck_assert_int_eq(take_with(slot.spot, path, 1, &next), 0);
	ck_assert_uint_ne(next.record, slot.record);
	ck_assert_int_eq(give(&next), 0);
	spot_free(slot.spot);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_int_eq(take_with(slot.spot, path, 1, &next), 0);
	ck_assert_uint_eq(next.record, slot.record);
	ck_assert_int_eq(give(&next), 0);
	check_counts(0);
}
END_TEST

/* The path's outermost account is full by now; then it isn't any more. The record is placed there. */
static void be_refused(struct spot *spot, const struct path *path) {
	struct level top = path->level[path->depth - 1];
	struct slot_request request = {.path = path, .weight = 1};
	struct pool_slot slot = {.spot = spot};
	uint64_t word = load_relaxed(&top.entry->word);
	uint32_t level;

	ck_assert_int_eq(counter_check(map, path, 1, request.seen, &level), 0);
	store_relaxed(&top.entry->word, entry_pack(0, entry_flags(word), entry_generation(word)));
	ck_assert_int_eq(counter_bump(map, top.account), 0);
	ck_assert_int_eq(pool_acquire(pool, &request, &slot), -EDQUOT);
	ck_assert_uint_eq(slot.record, spot->number);
	store_relaxed(&top.entry->word, word);
	ck_assert_int_eq(counter_bump(map, top.account), 0);
	ck_assert_uint_eq(place_account(look(spot->number).place), path->level[0].account);
}

/* The pool remembers the path of the slot, and none of an acquire that came to nothing. */
START_TEST(a_slot_is_given_back_where_it_was_taken_wherever_its_record_stood_before) {
	const size_t n = ELEMENTS(paths);
	struct pool_slot slot;

	ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	for (size_t i = 0; i < n * n * n; i++) {
		struct spot *spot = slot.spot;
		int how = (int)(i / 2 % 3);

		ck_assert_int_eq(take_with(spot, paths[i % n], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
		be_refused(spot, paths[i / n % n]);
		check_counts(0);
		ck_assert_int_eq(take_with(spot, paths[i / n / n], 1, &slot), 0);
		ck_assert_ptr_eq(slot.spot, spot);
		if (how == 1)
			ck_assert_int_eq(take_back(slot.record), 0);
		ck_assert_int_eq(give(&slot), how == 1 ? -ECANCELED : 0);
		ck_assert_int_eq(give(&slot), -ENOENT);
		check_counts(0);
	}
}
END_TEST

START_TEST(a_revoked_record_is_used_again_only_when_its_holder_knows) {
	struct pool_slot revoked, slot;

	ck_assert_int_eq(take(&revoked), 0);
	ck_assert_int_eq(take_back(revoked.record), 0);
	while (take(&slot) == 0)
		ck_assert_uint_ne(slot.record, revoked.record);
	ck_assert_int_eq(give(&revoked), -ECANCELED);
	ck_assert_int_eq(take(&slot), 0);
	ck_assert_uint_eq(slot.record, revoked.record);
}
END_TEST

/* Nobody's, and no hint says so: as when one thread clears it while another sets it. */
START_TEST(a_hint_that_was_missed_is_found_again_before_the_pool_has_nothing_left) {
	struct pool_slot slots[RANGES * BERTH_RANGE], slot;

	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(take(&slots[i]), 0);
	/* Looks at all, and clears what hints there were. */
	ck_assert_int_eq(take(&slot), -ENOBUFS);
	for (size_t i = 0; i < ELEMENTS(slots); i += 5) {
		ck_assert_int_eq(take_back(slots[i].record), 0);
		ck_assert_int_eq(take(&slot), -ENOBUFS);
		ck_assert_int_eq(forget(&slots[i]), -ECANCELED);
		ck_assert_int_eq(take(&slot), 0);
		ck_assert_uint_eq(slot.record, slots[i].record);
		ck_assert_int_eq(give(&slots[i]), -ENOENT);
		ck_assert_int_eq(take(&slots[i]), -ENOBUFS);
		slots[i] = slot;
	}
	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(give(&slots[i]), 0);
	check_counts(0);
}
END_TEST

/* Those that are nobody's here, and hold a slot all the same, or are seized, are passed over: a whole
 * range, and single ones of the next. */
START_TEST(records_that_are_of_no_use_are_no_reason_to_give_up) {
	struct pool_slot slots[RANGES * BERTH_RANGE / 2], slot;

	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(take_on(paths[i % 3], 1, &slots[i]), 0);
	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		ck_assert_int_eq(forget(&slots[i]), -ECANCELED);
		if (i % 3 == 0)
			counter_abandon(map, slots[i].record);
	}
	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		ck_assert_int_eq(take(&slot), 0);
		for (size_t k = 0; k < ELEMENTS(slots); k++)
			ck_assert_uint_ne(slot.record, slots[k].record);
	}
	/* More ranges are of help. */
	ck_assert_int_eq(take(&slot), -ENOBUFS);
	for (size_t i = 0; i < ELEMENTS(slots); i += 3)
		ck_assert_int_eq(counter_settle(map, slots[i].record), 0);
	for (size_t i = 0; i < ELEMENTS(slots); i += 3)
		ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(take(&slot), -ENOBUFS);
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
	ck_assert_int_eq(forget(&slot), -ECANCELED);
	ck_assert_int_eq(forget(&slot), -ENOENT);
	ck_assert_uint_eq(counter_count(map, 1), 1);
}
END_TEST

START_TEST(releasing_all_leaves_nothing_behind) {
	struct pool_slot slot;

	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(take_on(paths[i % 3], 1, &slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	pool_release_all(pool);
	check_counts(0);
	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
		ck_assert_uint_eq(charged_by(n), 0);
	ck_assert_int_eq(give(&slot), -ENOENT);
}
END_TEST

/* -- the session's end ------------------------------------------------------------------------- */

START_TEST(all_records_are_claimed_where_nothing_is_held) {
	struct pool_slot slot;
	struct spot *spent;

	for (uint32_t i = 0; i < 20; i++) {
		ck_assert_int_eq(take_on(paths[i % 4], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
	}
	/* Those that are used up are no thread's. */
	spent = slot.spot;
	use_up(spent->number);
	ck_assert_int_eq(take_with(spent, &path1, 1, &slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	ck_assert_uint_eq(load_relaxed(&spent->token), TOKEN_SPENT);
	ck_assert(pool_claim_all(pool));
	ck_assert_int_eq(take(&slot), -ENOBUFS);
	ck_assert_int_eq(take_with(slot.spot, &path3, 1, &slot), -ENOBUFS);
	check_counts(0);
}
END_TEST

START_TEST(a_slot_or_a_claim_keeps_a_pool_from_being_claimed) {
	struct pool_slot slot, other;

	ck_assert_int_eq(take_on(&path3, 1, &slot), 0);
	ck_assert(!pool_claim_all(pool));
	/* All the others are claimed, for good, and the slot can still be released. */
	ck_assert_int_eq(take(&other), -ENOBUFS);
	ck_assert_int_eq(give(&slot), 0);
	check_counts(0);

	pool_free(pool);
	ck_assert_int_eq(pool_new(map, &pool), 0);
	for (uint32_t n = 1; n <= RANGES; n++)
		ck_assert_int_eq(pool_add_range(pool, n), 0);
	store_total(&pool_spot(pool, 20)->token, TOKEN_CLAIMED);
	ck_assert(!pool_claim_all(pool));

	pool_free(pool);
	ck_assert_int_eq(pool_new(map, &pool), 0);
	for (uint32_t n = 1; n <= RANGES; n++)
		ck_assert_int_eq(pool_add_range(pool, n), 0);
	/* Revoked, and its holder doesn't know. */
	ck_assert_int_eq(take_on(&path3, 1, &slot), 0);
	ck_assert_int_eq(take_back(slot.record), 0);
	ck_assert(!pool_claim_all(pool));
	ck_assert_int_eq(give(&slot), -ECANCELED);
}
END_TEST

/* A thread has claimed a record that was free, or that rested on the path which it wants or on another,
 * and has looked at all; and then it is stopped. Its session ends, the range is the next one's, and that
 * one holds a slot with the record, perhaps on the same path. */
START_TEST(a_thread_of_a_session_that_ended_takes_nothing_of_the_next_one_s) {
	const struct path *before = _i % 3 == 0 ? NULL : paths[_i % 3];
	const struct path *path = paths[1], *theirs = paths[_i / 3];
	struct slot_request request = {.path = path, .weight = 1};
	const struct stamp stamp = {0};
	const struct record_at at = {map_record(map, 20), 20};
	struct pair record, cell;
	uint32_t level;
	uint64_t base, seq, mine;

	if (before) {
		ck_assert_int_eq(counter_acquire(map, 20, before, 1, &stamp, &seq, &level), 0);
		ck_assert_int_eq(counter_release(map, 20, seq), 0);
	}
	ck_assert_int_eq(counter_check(map, path, 1, request.seen, &level), 0);
	record = raw_of(20);
	cell = cell_load(path->level[0].cell);
	base = look(20).seq;

	ck_assert_int_eq(counter_close(map, 20), 0);
	ck_assert_int_eq(counter_open(map, 20), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(counter_acquire(map, 20, theirs, 1, &stamp, &seq, &level), 0);
		if (i == 0)
			ck_assert_int_eq(counter_release(map, 20, seq), 0);
	}

	/* P1, and A1 where the record rested on the path: whichever came next. */
	ck_assert(!cas16(&at.record->place, record,
		(struct pair){place_pack(RECORD_PLACED, path->depth - 1, 1, path->level[0].account),
			base + BERTH_CYCLE}));
	if (before == path)
		ck_assert(!level_charge(
			map, &path->level[0], cell, 1, tag_pack(20, seq_up(base, 0))));
	ck_assert_int_eq(counter_acquire_at(map, at, &request, &mine, &level), -EAGAIN);
	ck_assert_int_lt(counter_acquire_rest(map, at, &request, 1, seq_up(base, 2), &level), 0);
	ck_assert(snapshot_is_held(look(20)));
	ck_assert_uint_eq(look(20).seq, seq);
	for (uint32_t k = 0; k < path->depth; k++)
		ck_assert_uint_eq(counter_count(map, path->level[k].account),
			theirs == &path8 ? 1 : theirs == path);
	ck_assert_int_eq(counter_release(map, 20, seq), 0);
	check_counts(0);
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

/* Now here, now there, so that records are placed anew under others' eyes. What was used last on each
 * path is known to all threads, as it is recalled in the library. */
static int take_any(int turn, struct pool_slot *ret) {
	static _Atomic(struct spot *) last[ELEMENTS(paths)];
	int n = turn / 7 % (int)ELEMENTS(paths);
	int r = take_with(load_acquire(&last[n]), paths[n], 1 + turn / 50 % 2, ret);

	if (r == 0)
		store_release(&last[n], ret->spot);
	return r;
}

/* More slots wanted than there are records, so that hints are cleared and set all the time. */
static void *churn(void *arg) {
	struct pool_slot held[10];
	int *failed = arg;
	size_t n = 0;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < TURNS; i++) {
		int r = n < ELEMENTS(held) ? take_any(i, &held[n]) : -ENOBUFS;

		if (r == 0)
			n++;
		else if (r != -ENOBUFS)
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
	check_counts(0);
	while (take(&slot) == 0)
		n++;
	ck_assert_uint_eq(n, RANGES * BERTH_RANGE);
}
END_TEST

/* All but a few are held: threads hand these to each other, and overwrite each other's tags, while one
 * looks from where its record rests. */
static void *crowd(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20 * TURNS && *failed == 0; i++) {
		struct pool_slot slot;
		int r = take_on(i / 5000 % 3 ? &path1 : &path3, 1, &slot);

		if (r == 0)
			r = give(&slot);
		if (r != -ENOBUFS && r != -EAGAIN)
			*failed = r;
	}
	return NULL;
}

START_TEST(an_acquire_is_not_revoked_for_what_other_threads_do) {
	struct pool_slot held[RANGES * BERTH_RANGE - 4];
	int failed[THREADS] = {0};

	for (size_t i = 0; i < ELEMENTS(held); i++)
		ck_assert_int_eq(take_on(&path2, 1, &held[i]), 0);
	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	ck_assert_int_eq(run(crowd, failed, sizeof(failed[0])), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	pool_release_all(pool);
	check_counts(0);
}
END_TEST

/* All but one are held: that one is what everybody tries to claim. */
#define CONTESTS 100000

static _Atomic int users;

static void *contest(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < CONTESTS && *failed == 0; i++) {
		struct pool_slot slot;
		int r = take_any(i, &slot);

		if (r == -ENOBUFS)
			continue;
		if (r != 0 || atomic_fetch_add(&users, 1) != 0)
			*failed = r != 0 ? r : 1;
		(void)atomic_fetch_sub(&users, 1);
		if (give(&slot) != 0)
			*failed = 2;
	}
	return NULL;
}

START_TEST(the_last_record_is_claimed_by_one_thread_at_a_time) {
	struct pool_slot held[RANGES * BERTH_RANGE - 1];
	int failed[THREADS] = {0};

	for (size_t i = 0; i < ELEMENTS(held); i++)
		ck_assert_int_eq(take(&held[i]), 0);
	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	ck_assert_int_eq(run(contest, failed, sizeof(failed[0])), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	for (size_t i = 0; i < ELEMENTS(held); i++)
		ck_assert_int_eq(give(&held[i]), 0);
	check_counts(0);
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

/* Now one is first, now another. */
static void delay(int n) {
	for (int i = 0; i < n % 512; i++)
		(void)atomic_load(&duels_ended);
}

static void *duel(void *arg) {
	int *result = arg;

	for (int n = 1; n <= DUELS; n++) {
		for (int i = 0; atomic_load(&duel_number) < n; i++)
			if (i % 10000 == 9999)
				sched_yield();
		delay(n * 37);
		result[n] = give(&duel_slot);
		atomic_store(&duels_ended, n);
	}
	return NULL;
}

/* Returns the own result. */
static int duel_fight(int n) {
	int mine;

	delay(n * 101);
	mine = give(&duel_slot);
	while (atomic_load(&duels_ended) < n)
		sched_yield();
	return mine;
}

START_TEST(of_two_threads_that_release_one_slot_at_once_one_does_and_the_other_hears_not_held) {
	static int theirs[DUELS + 1];
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, duel, theirs), 0);
	for (int n = 1; n <= DUELS; n++) {
		int mine;

		ck_assert_int_eq(take_with(duel_slot.spot, paths[_i], 1, &duel_slot), 0);
		atomic_store(&duel_number, n);
		mine = duel_fight(n);
		/* 0 for one and -ENOENT for the other. */
		ck_assert_msg(mine + theirs[n] == -ENOENT && mine * theirs[n] == 0,
			"duel %d: %d and %d", n, mine, theirs[n]);
	}
	(void)pthread_join(thread, NULL);
	check_counts(0);
}
END_TEST

/* As a recount does, of which nobody knows who takes and gives. */
static void *finish_again_and_again(void *arg) {
	const uint32_t *record = arg;

	while (!atomic_load(&grown)) {
		int r = counter_finish(map, *record);

		if (r < 0 && r != -EAGAIN)
			return arg;
	}
	return NULL;
}

/* And a release that it has finished was no revocation. */
START_TEST(what_a_daemon_goes_on_with_is_never_a_slot_that_is_taken_or_held) {
	pthread_t thread;
	void *failed;

	ck_assert_int_eq(take_on(paths[_i], 1, &duel_slot), 0);
	ck_assert_int_eq(give(&duel_slot), 0);
	atomic_store(&grown, false);
	ck_assert_int_eq(
		pthread_create(&thread, NULL, finish_again_and_again, &duel_slot.record), 0);
	for (int n = 0; n < 20 * DUELS; n++) {
		struct pool_slot slot;

		ck_assert_int_eq(take_with(duel_slot.spot, paths[_i], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
	}
	atomic_store(&grown, true);
	(void)pthread_join(thread, &failed);
	ck_assert_ptr_null(failed);
	check_counts(0);
}
END_TEST

static int revoke_result[DUELS + 1];
static _Atomic int revokes_asked, revokes_ended;

static void *duel_revoke(void *arg) {
	(void)arg;
	for (int n = 1; n <= DUELS; n++) {
		for (int i = 0; atomic_load(&revokes_asked) < n; i++)
			if (i % 10000 == 9999)
				sched_yield();
		/* The one that has the CPU begins, lest it come too late each time. */
		atomic_store(&duel_number, n);
		if (n % 2)
			sched_yield();
		delay(n * 53);
		revoke_result[n] = take_back(duel_slot.record);
		atomic_store(&revokes_ended, n);
	}
	return NULL;
}

/* And a daemon that revokes it: of the three one takes it back; if that is the daemon, one of the
 * two hears so. */
START_TEST(a_slot_released_by_two_and_revoked_at_once_is_given_back_once_and_told_right) {
	static int theirs[DUELS + 1];
	int revoked = 0;
	pthread_t rival, daemon;

	ck_assert_int_eq(pthread_create(&rival, NULL, duel, theirs), 0);
	ck_assert_int_eq(pthread_create(&daemon, NULL, duel_revoke, NULL), 0);
	for (int n = 1; n <= DUELS; n++) {
		int mine, told;

		ck_assert_int_eq(take_with(duel_slot.spot, paths[_i], 1, &duel_slot), 0);
		atomic_store(&revokes_asked, n);
		while (atomic_load(&duel_number) < n)
			sched_yield();
		mine = duel_fight(n);
		while (atomic_load(&revokes_ended) < n)
			sched_yield();
		told = revoke_result[n] == 0 ? -ECANCELED : 0;
		revoked += revoke_result[n] == 0;
		ck_assert_msg(revoke_result[n] == 0 || revoke_result[n] == -EAGAIN,
			"duel %d: a revoke gives %d", n, revoke_result[n]);
		ck_assert_msg((mine == told && theirs[n] == -ENOENT) ||
				      (mine == -ENOENT && theirs[n] == told),
			"duel %d: %d and %d, and the revoke %d", n, mine, theirs[n],
			revoke_result[n]);
	}
	(void)pthread_join(rival, NULL);
	(void)pthread_join(daemon, NULL);
	check_counts(0);
	printf("%d of %d revoked\n", revoked, DUELS);
}
END_TEST

static _Atomic bool stop;

static void *revoke_all(void *arg) {
	struct snapshot seen;

	(void)arg;
	while (!atomic_load(&stop))
		for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
			if (counter_record(map, n, &seen) == 0)
				(void)counter_revoke(map, n, seen);
	return NULL;
}

/* Each slot acquired must be told exactly once: released, or revoked. An acquire may be taken back in
 * its middle, and records at rest, on their way up or down are seized, too. */
static void *churn_revoked(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < TURNS; i++) {
		struct pool_slot slot;
		int r = take_any(i, &slot);

		if (r == 0)
			r = give(&slot);
		else if (r == -ENOBUFS || r == -EAGAIN)
			continue;
		if (r != 0 && r != -ECANCELED)
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
	check_counts(0);
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
	tcase_add_test(cases, records_are_used_in_turn_where_none_is_known);
	tcase_add_loop_test(cases, the_record_that_was_last_is_used_again_and_stays_as_it_is, 0, 3);
	tcase_add_test(cases, a_record_that_is_held_is_left_for_another);
	tcase_add_loop_test(cases, a_record_that_has_used_up_its_seqs_is_passed_over, 0, 3);
	tcase_add_test(cases, a_pool_whose_records_have_all_used_up_their_seqs_has_none_left);
	tcase_add_loop_test(cases, the_last_cycle_of_a_record_can_be_ended_in_every_way, 0, 3);
	tcase_add_test(
		cases, a_record_that_has_used_up_its_seqs_stays_so_however_often_it_is_granted);
	tcase_add_test(cases, a_full_pool_finds_the_one_record_that_was_released);
	tcase_add_test(cases, a_pool_that_grew_goes_on_with_the_new_range);
	tcase_add_test(cases, a_range_that_is_none_or_there_already_is_refused);
	tcase_add_test(cases, a_range_that_can_t_be_mapped_is_no_reason_to_ask_for_more);
	tcase_add_test(cases, a_slot_released_twice_is_not_held);
	tcase_add_test(cases, a_slot_released_twice_is_not_held_whatever_has_become_of_its_account);
	tcase_add_test(cases, a_stale_slot_does_not_release_the_one_that_follows_in_its_record);
	tcase_add_test(cases, a_revoked_slot_is_told_to_its_holder_once);
	tcase_add_test(cases, a_slot_that_was_seized_is_told_to_its_holder_once);
	tcase_add_loop_test(cases, a_release_that_a_daemon_finished_was_no_revocation, 0, 2);
	tcase_add_test(
		cases, a_slot_is_given_back_where_it_was_taken_wherever_its_record_stood_before);
	tcase_add_test(cases, a_revoked_record_is_used_again_only_when_its_holder_knows);
	tcase_add_test(
		cases, a_hint_that_was_missed_is_found_again_before_the_pool_has_nothing_left);
	tcase_add_test(cases, records_that_are_of_no_use_are_no_reason_to_give_up);
	tcase_add_test(cases, a_closed_session_s_records_are_not_handed_out);
	tcase_add_test(cases, forgetting_tells_what_was_held_and_touches_no_count);
	tcase_add_test(cases, releasing_all_leaves_nothing_behind);
	tcase_add_test(cases, all_records_are_claimed_where_nothing_is_held);
	tcase_add_test(cases, a_slot_or_a_claim_keeps_a_pool_from_being_claimed);
	tcase_add_loop_test(
		cases, a_thread_of_a_session_that_ended_takes_nothing_of_the_next_one_s, 0, 9);
	tcase_add_test(cases, no_record_is_lost_while_threads_empty_and_fill_the_pool);
	tcase_add_test(cases, an_acquire_is_not_revoked_for_what_other_threads_do);
	tcase_add_test(cases, the_last_record_is_claimed_by_one_thread_at_a_time);
	tcase_add_test(cases, threads_go_on_while_ranges_are_added);
	tcase_add_loop_test(cases,
		of_two_threads_that_release_one_slot_at_once_one_does_and_the_other_hears_not_held,
		0, 3);
	tcase_add_loop_test(
		cases, what_a_daemon_goes_on_with_is_never_a_slot_that_is_taken_or_held, 1, 3);
	tcase_add_loop_test(cases,
		a_slot_released_by_two_and_revoked_at_once_is_given_back_once_and_told_right, 0, 3);
	tcase_add_test(cases, revoking_under_threads_loses_neither_counts_nor_records);
	suite_add_tcase(suite, cases);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
