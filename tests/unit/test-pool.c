/* SPDX-License-Identifier: MIT */

/* The pool over a segment and a directory made by hand, without a daemon. */

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "acquire.h"
#include "counter-fast.h"
#include "pool.h"

#define SLOTS   131072 /* more than one window of records */
#define RANGES  3
#define THREADS 8
#define TURNS   20000
#define NUMBERS (UINT64_C(0x12345) << 44) /* the highest bits of the pool's slots */

static struct map *map;
static struct map *daemons; /* the same files once more, so that they stay within its reach */
static struct pool *pool;

/* Accounts 1 … THREADS, unlimited, without ancestors; and eight of which each is the next one's parent. */
#define TREE         (THREADS + 1)
#define ACCOUNTS_END (TREE + BERTH_LEVELS_MAX)
/* Of one level; of one, of another account; of three; of as many as there may be. */
static struct path path1, path2, path3, path8;
static const struct path *const paths[] = {&path1, &path3, &path8, &path2};

/* A slot that the test holds. */
struct held {
	struct local_slot *local;
	uint32_t record;
	uint64_t seq;
};

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
	ck_assert_int_eq(map_new(dup(segment), dup(directory), PROT_READ, &daemons), 0);
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
	ck_assert_int_eq(pool_new(map, NUMBERS, &pool), 0);
	for (uint32_t n = 1; n <= RANGES; n++)
		range_give(n);
}

static void tear_down(void) {
	pool_free(pool);
	map_free(map);
	map_free(daemons);
}

/* Takes a slot with a record that is the caller's; on failure it stays that. */
static int hold(
	struct local_slot *local, const struct path *path, uint32_t weight, struct held *ret) {
	struct slot_request request = {.path = path, .weight = weight, .stamp = {.since = 1}};
	uint64_t seq = 0;
	uint32_t level;
	int r = counter_check(map, path, weight, request.seen, &level);

	if (r == 0)
		r = local_acquire(pool, local, &request, &seq);
	*ret = (struct held){local, local->number, seq};
	if (r == 0)
		store_release(&local->token, tag_pack(local->number, seq));
	return r;
}

/* As the library does it for a thread without a cache: those that are of no use go back at the end. */
static int take_on(const struct path *path, uint32_t weight, struct held *ret) {
	struct local_slot *local, *useless[64];
	size_t n = 0;
	int r;

	*ret = (struct held){0};
	for (;;) {
		r = pool_take(pool, &local);
		if (r < 0)
			break;
		r = hold(local, path, weight, ret);
		if (r != -EAGAIN && r != -ERANGE)
			break;
		if (r == -EAGAIN)
			useless[n++] = local;
		if (n == ELEMENTS(useless))
			break;
	}
	while (n > 0)
		pool_give(pool, useless[--n]);
	if (r < 0 && r != -EAGAIN && ret->local &&
		load_relaxed(&ret->local->token) == TOKEN_CLAIMED)
		pool_give(pool, ret->local);
	if (r < 0)
		*ret = (struct held){0};
	return r;
}

static int take(struct held *ret) {
	return take_on(&path1, 1, ret);
}

/* The record stays the caller's if the release says that it is. */
static int let_go(const struct held *slot) {
	struct local_slot *local = pool_local(pool, slot->record);

	return local ? local_release(pool, local, pool_cycle(slot->seq)) : -ENOENT;
}

static int give(const struct held *slot) {
	int r = let_go(slot);

	if ((r == 0 || r == -EUCLEAN || r == -ECANCELED) &&
		load_relaxed(&slot->local->token) == TOKEN_CLAIMED)
		pool_give(pool, slot->local);
	return r;
}

static int forget(const struct held *slot) {
	return pool_forget(pool, slot->record, pool_cycle(slot->seq));
}

static uint64_t token_of(uint32_t record) {
	return load_relaxed(&pool_local(pool, record)->token);
}

static uint64_t tag_of(const struct held *slot) {
	return tag_pack(slot->record, slot->seq);
}

static uint32_t locals_with(uint64_t token) {
	uint32_t n = 0;

	for (uint32_t range = 1; range <= RANGES; range++)
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			n += token_of(range * BERTH_RANGE + i) == token;
	return n;
}

/* As for a session that ends; and then as if it went on. */
static bool is_quiet(void) {
	bool was_pooled[(RANGES + 1) * BERTH_RANGE], quiet;

	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
		was_pooled[n] = pool_local(pool, n) && token_of(n) == TOKEN_POOLED;
	quiet = pool_close(pool);
	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
		if (was_pooled[n]) {
			ck_assert_uint_eq(token_of(n), TOKEN_SPENT);
			pool_give(pool, pool_local(pool, n));
		}
	return quiet;
}

/* Takes all that the stack has, and puts it back: each once, and no other is POOLED. */
static void check_stack(uint32_t want) {
	static struct local_slot *all[SLOTS];
	static bool seen[SLOTS];
	uint32_t n = 0;

	ck_assert_uint_eq(locals_with(TOKEN_POOLED), want);
	while (pool_take(pool, &all[n]) == 0) {
		ck_assert_msg(!seen[all[n]->number], "record %u twice", all[n]->number);
		seen[all[n++]->number] = true;
	}
	ck_assert_uint_eq(n, want);
	ck_assert_uint_eq(locals_with(TOKEN_POOLED), 0);
	while (n > 0) {
		seen[all[--n]->number] = false;
		pool_give(pool, all[n]);
	}
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
	struct held slot;

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

START_TEST(the_record_that_was_given_back_last_is_the_next_one) {
	struct held slots[4], again;

	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(take(&slots[i]), 0);
	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(give(&slots[i]), 0);
	for (size_t i = ELEMENTS(slots); i-- > 0;) {
		ck_assert_int_eq(take(&again), 0);
		ck_assert_uint_eq(again.record, slots[i].record);
	}
}
END_TEST

/* One CAS for each level: the record isn't written. */
START_TEST(the_record_that_was_last_is_used_again_and_stays_as_it_is) {
	const struct path *path = paths[_i];
	struct held first, again;
	struct pair was, is;

	ck_assert_int_eq(take_on(path, 1, &first), 0);
	ck_assert_int_eq(give(&first), 0);
	was = raw_of(first.record);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(take_on(path, 1, &again), 0);
		ck_assert_uint_eq(again.record, first.record);
		ck_assert_ptr_eq(again.local, first.local);
		ck_assert_int_eq(give(&again), 0);
		is = raw_of(first.record);
		ck_assert(is.first == was.first && is.second == was.second);
	}
}
END_TEST

START_TEST(a_record_that_is_held_is_left_for_another) {
	struct held held, other;

	ck_assert_int_eq(take(&held), 0);
	ck_assert_int_eq(take(&other), 0);
	ck_assert_uint_ne(other.record, held.record);
	ck_assert_ptr_ne(other.local, held.local);
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
	struct held slot, other;
	struct range *range;
	struct local_slot *local;
	uint32_t n;

	ck_assert_int_eq(pool_take(pool, &local), 0);
	leave_cycles(local->number, 2);
	pool_give(pool, local);
	range = load_relaxed(&pool->by_number[local->number / BERTH_RANGE]);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
		ck_assert_ptr_eq(slot.local, local);
		ck_assert_int_eq(give(&slot), 0);
		ck_assert_uint_eq(token_of(local->number), TOKEN_POOLED);
	}
	ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
	ck_assert_ptr_ne(slot.local, local);
	ck_assert_uint_eq(token_of(local->number), TOKEN_SPENT);
	ck_assert_uint_eq(load_relaxed(&range->spent), 1);
	ck_assert_uint_eq(pool_ranges_usable(pool, UINT32_MAX), RANGES);
	for (n = 1; take_on(paths[_i], 1, &other) == 0; n++)
		ck_assert_uint_ne(other.record, local->number);
	ck_assert_uint_eq(n, all - 1);
	ck_assert_int_eq(take(&other), -ENOBUFS);
	ck_assert_int_eq(local_release(pool, local, 0), -ENOENT);
	ck_assert_int_eq(pool_forget(pool, local->number, 0), -ENOENT);
	pool_release_all(pool);
	ck_assert_uint_eq(token_of(local->number), TOKEN_SPENT);
	check_counts(0);
	check_stack(all - 1);
}
END_TEST

START_TEST(a_pool_whose_records_have_all_used_up_their_seqs_has_none_left) {
	struct held slot;

	/* Those that came last are used first. */
	for (uint32_t range = RANGES; range > 0; range--) {
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			use_up(range * BERTH_RANGE + i);
		/* The pool knows of it once it has met them. */
		for (uint32_t n = 0; n < RANGES * BERTH_RANGE; n++)
			if (take(&slot) == 0)
				ck_assert_int_eq(give(&slot), 0);
		ck_assert_uint_eq(pool_ranges_usable(pool, UINT32_MAX), range - 1);
	}
	ck_assert_int_eq(take(&slot), -ENOBUFS);
	ck_assert_uint_eq(slot.record, 0);
	ck_assert_uint_eq(pool_ranges(pool), RANGES);
	/* Another range helps. */
	range_give(RANGES + 1);
	ck_assert_uint_eq(pool_ranges_usable(pool, UINT32_MAX), 1);
	ck_assert_int_eq(take(&slot), 0);
	ck_assert_uint_eq(slot.record / BERTH_RANGE, RANGES + 1);
}
END_TEST

/* A release, a revocation, one after the other, and the session's end, which begins a cycle more. */
START_TEST(the_last_cycle_of_a_record_can_be_ended_in_every_way) {
	for (int how = 0; how < 3; how++) {
		struct held slot;
		uint32_t record;

		ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
		record = slot.record;
		store_total(&map_record(map, record)->noted, noted_with_left(0));
		ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
		ck_assert_uint_eq(slot.record, record);
		if (how > 0)
			ck_assert_int_eq(
				how == 1 ? take_back(record) : counter_close(map, record), 0);
		ck_assert_int_eq(give(&slot), how == 0 ? 0 : -ECANCELED);
		check_counts(0);
		ck_assert_uint_le(look(record).seq, BERTH_SEQ_MASK);
		if (how == 2)
			ck_assert_int_eq(counter_open(map, record), 0);
		ck_assert(counter_is_retired(map, record));
		ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
		ck_assert_uint_ne(slot.record, record);
		ck_assert_uint_eq(token_of(record), TOKEN_SPENT);
		ck_assert_int_eq(give(&slot), 0);
	}
}
END_TEST

START_TEST(a_record_that_has_used_up_its_seqs_stays_so_however_often_it_is_granted) {
	struct held slot;
	uint64_t noted = 0;

	for (int i = 0; i < 1000; i++) {
		if (i == 0)
			leave_cycles(BERTH_RANGE, 0);
		ck_assert_int_eq(counter_close(map, BERTH_RANGE), 0);
		ck_assert_int_eq(counter_open(map, BERTH_RANGE), 0);
		ck_assert(counter_is_retired(map, BERTH_RANGE));
		ck_assert_uint_gt(raw_of(BERTH_RANGE).second, BERTH_SEQ_LAST);
		ck_assert(i == 0 || raw_of(BERTH_RANGE).second == noted);
		noted = raw_of(BERTH_RANGE).second;
	}
	while (take(&slot) == 0)
		ck_assert_uint_ne(slot.record, BERTH_RANGE);
}
END_TEST

START_TEST(a_full_pool_finds_the_one_record_that_was_released) {
	struct held slots[RANGES * BERTH_RANGE], again;

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
	struct held slot;

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
	const uint32_t far = SLOTS / BERTH_RANGE - 1;
	struct held slots[RANGES * BERTH_RANGE], slot;
	struct local_slot *local;

	ck_assert_int_eq(pool_add_range(pool, far), 0);
	map_close_files(map);
	/* The others are had before, though it came last. */
	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(take(&slots[i]), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(take(&slot), -ENOMEM);
		ck_assert_ptr_null(slot.local);
		ck_assert_int_eq(pool_take(pool, &local), -ENOMEM);
		ck_assert_ptr_null(local);
	}
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		ck_assert_uint_eq(token_of(far * BERTH_RANGE + i), TOKEN_POOLED);
	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		ck_assert_int_eq(give(&slots[i]), 0);
		ck_assert_int_eq(take(&slot), 0);
		ck_assert_uint_eq(slot.record, slots[i].record);
		ck_assert_int_eq(take(&slots[i]), -ENOMEM);
		slots[i] = slot;
	}
	for (size_t i = 0; i < ELEMENTS(slots); i++)
		ck_assert_int_eq(give(&slots[i]), 0);
	check_counts(0);
}
END_TEST

/* -- tokens --------------------------------------------------------------------------------------- */

START_TEST(a_token_is_a_slot_s_or_one_of_the_others) {
	const uint64_t owned = (uint64_t)UINT32_MAX << 4 | TOKEN_OWNED;
	const uint64_t others[] = {
		TOKEN_POOLED, TOKEN_OWNED, owned, TOKEN_CLAIMED, TOKEN_SPENT, TOKEN_SPARE};
	const uint64_t base = UINT64_C(5) << 30;

	for (uint32_t step = 0; step < BERTH_CYCLE; step++) {
		uint64_t tag = tag_pack(77, base + step);

		ck_assert(token_is_slot(tag) == (step >= 1 && step <= BERTH_LEVELS_MAX));
		ck_assert(token_names(tag, pool_cycle(base)) == token_is_slot(tag));
		ck_assert(!token_names(tag, pool_cycle(base) + 1));
	}
	for (size_t i = 0; i < ELEMENTS(others); i++) {
		ck_assert(!token_is_slot(others[i]));
		ck_assert(!token_names(others[i], pool_cycle(others[i])));
		/* And no cell bears it, not even one that was never used. */
		ck_assert(i == 0 || tag_seq(others[i]) % BERTH_CYCLE != 0);
		ck_assert_uint_eq(tag_record(others[i]), 0);
	}
	ck_assert_uint_eq(pool_cycle(base + BERTH_CYCLE), pool_cycle(base) + 1);
	ck_assert_uint_eq(pool_cycle((UINT64_C(1) << (POOL_CYCLE_BITS + 4)) - 1),
		(1u << POOL_CYCLE_BITS) - 1);
	ck_assert_uint_eq(pool_cycle(UINT64_C(1) << (POOL_CYCLE_BITS + 4)), 0);
}
END_TEST

START_TEST(a_record_has_a_token_for_each_place_where_it_is) {
	const struct path *path = paths[_i];
	struct local_slot *local;
	struct held slot;

	ck_assert_int_eq(pool_take(pool, &local), 0);
	ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_CLAIMED);
	ck_assert_uint_eq(load_relaxed(&local->slot) >> POOL_CYCLE_BITS << POOL_CYCLE_BITS,
		NUMBERS | (uint64_t)local->number << POOL_CYCLE_BITS);
	ck_assert_ptr_eq(load_relaxed(&local->record), map_record(map, local->number));
	pool_give(pool, local);
	ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_POOLED);
	ck_assert_int_eq(take_on(path, 3, &slot), 0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert_uint_eq(seq_step(slot.seq), path->depth);
	ck_assert_uint_eq(load_relaxed(&slot.local->weight), 3);
	ck_assert_int_eq(let_go(&slot), 0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	/* A cache's record takes slots just so. */
	store_release(&slot.local->token, UINT64_C(5) << 4 | TOKEN_OWNED);
	ck_assert_int_eq(hold(slot.local, path, 3, &slot), 0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert_int_eq(take_back(slot.record), 0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert_int_eq(let_go(&slot), -ECANCELED);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	pool_give(pool, slot.local);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

/* -- the stack ------------------------------------------------------------------------------------ */

/* Between one thread's look and its compare-and-swap others take two, and put the first one back. */
START_TEST(a_top_that_comes_back_is_not_the_one_that_was_seen) {
	struct local_slot *first, *second;
	struct pair seen;

	seen.second = load_relaxed(&pool->stack.changes);
	seen.first = load_relaxed(&pool->stack.top);
	ck_assert_int_eq(pool_take(pool, &first), 0);
	ck_assert_int_eq(pool_take(pool, &second), 0);
	pool_give(pool, first);
	ck_assert_uint_eq(load_relaxed(&pool->stack.top), seen.first);
	ck_assert_uint_eq(load_relaxed(&pool->stack.changes), seen.second + 3);
	ck_assert(!cas16(&pool->stack.top, seen, (struct pair){second->number, seen.second + 1}));
	pool_give(pool, second);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

/* -- levels --------------------------------------------------------------------------------------- */

static void path_with(uint32_t depth, struct path *ret) {
	ck_assert_int_eq(directory_path(map, TREE + depth - 1, 1, ret), 0);
	ck_assert_uint_eq(ret->depth, depth);
}

static void check_charged(const struct path *path, uint32_t levels, uint32_t weight) {
	for (uint32_t k = 0; k < path->depth; k++)
		ck_assert_uint_eq(
			counter_count(map, path->level[k].account), k < levels ? weight : 0);
}

START_TEST(a_slot_of_any_depth_is_charged_and_given_back_at_every_level) {
	static const uint32_t weights[] = {1, 2, BERTH_WEIGHT_MAX};
	struct path path;
	struct held slot;

	for (uint32_t i = 0; i < 3 * BERTH_LEVELS_MAX; i++) {
		uint32_t depth = _i ? BERTH_LEVELS_MAX - i / 3 : 1 + i / 3, weight = weights[i % 3];

		path_with(depth, &path);
		ck_assert_int_eq(take_on(&path, weight, &slot), 0);
		check_charged(&path, depth, weight);
		ck_assert_int_eq(give(&slot), 0);
		check_counts(0);
		ck_assert_int_eq(give(&slot), -ENOENT);
	}
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

/* A thread that could give back some levels at once has the rest given back. */
START_TEST(the_rest_of_a_release_is_made_from_any_level) {
	struct path path;
	struct held slot;

	for (uint32_t depth = 2; depth <= BERTH_LEVELS_MAX; depth++)
		for (uint32_t given = 1; given < depth; given++) {
			path_with(depth, &path);
			ck_assert_int_eq(take_on(&path, 2, &slot), 0);
			for (uint32_t k = depth; k-- > depth - given;) {
				struct level *l = &path.level[k];

				ck_assert(level_discharge(map, l->cell, l->dirty,
					cell_load(l->cell), UINT64_C(2) << BERTH_COUNT_SHIFT,
					tag_pack(slot.record, seq_down(seq_base(slot.seq), k))));
			}
			check_charged(&path, depth - given, 2);
			/* Meanwhile a second release is none. */
			ck_assert_int_eq(give(&slot), -ENOENT);
			ck_assert_int_eq(
				local_release_rest(pool, slot.local, &path, given, slot.seq), 0);
			ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
			pool_give(pool, slot.local);
			check_counts(0);
		}
}
END_TEST

/* By its holder, or else by an administrator, the session's end, or the handle's. */
START_TEST(a_slot_is_given_back_once_by_whatever_party_comes_first) {
	struct held slot;

	for (int how = 0; how < 4; how++) {
		ck_assert_int_eq(take_on(paths[_i], 2, &slot), 0);
		if (how == 1)
			ck_assert_int_eq(take_back(slot.record), 0);
		else if (how == 2)
			ck_assert_int_eq(counter_close(map, slot.record), 0);
		else if (how == 3)
			pool_release_all(pool);
		ck_assert_int_eq(give(&slot), how == 0 ? 0 : how == 3 ? -ENOENT : -ECANCELED);
		ck_assert_int_eq(give(&slot), -ENOENT);
		check_counts(0);
	}
}
END_TEST

/* -- giving back ---------------------------------------------------------------------------------- */

START_TEST(a_slot_released_twice_is_not_held) {
	struct held slot, other = {.record = 5 * BERTH_RANGE}, never;

	ck_assert_ptr_null(pool_local(pool, other.record));

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		ck_assert_int_eq(take_on(paths[i], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
		ck_assert_int_eq(give(&slot), -ENOENT);
		ck_assert_int_eq(give(&other), -ENOENT);
		/* What the record has come to since is no slot. */
		for (uint32_t n = 1; n < 20 * BERTH_CYCLE; n++) {
			never = (struct held){slot.local, slot.record, slot.seq + n};
			ck_assert_int_eq(give(&never), -ENOENT);
		}
	}
	check_counts(0);
}
END_TEST

/* The account was removed, and its index given to one without ancestors. */
START_TEST(a_slot_released_twice_is_not_held_whatever_has_become_of_its_account) {
	struct held slot;

	ck_assert_int_eq(take_on(&path3, 1, &slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	store_relaxed(&map_entry(map, path3.level[0].account)->ancestry, ancestry_pack(0, 1));
	ck_assert_int_eq(give(&slot), -ENOENT);
}
END_TEST

START_TEST(a_stale_slot_does_not_release_the_one_that_follows_in_its_record) {
	struct held first, later;

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
	struct held slot;

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		ck_assert_int_eq(take_on(paths[i], 2, &slot), 0);
		ck_assert_int_eq(take_back(slot.record), 0);
		check_counts(0);
		ck_assert_int_eq(give(&slot), -ECANCELED);
		ck_assert_int_eq(give(&slot), -ENOENT);
		check_counts(0);
	}
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

/* Whatever takes it back: a session's end, a new daemon, a recount. Its record isn't used again: a thread
 * that had released the slot just before may yet store its token. */
START_TEST(a_slot_that_was_seized_is_told_to_its_holder_once) {
	struct held slot;

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (int how = 0; how < 3; how++) {
			ck_assert_int_eq(take_on(paths[i], 2, &slot), 0);
			if (how != 0)
				counter_seize(map, slot.record);
			ck_assert_int_eq(how == 0   ? counter_close(map, slot.record)
					 : how == 1 ? counter_finish_seized(map, slot.record)
						    : counter_finish(map, slot.record),
				0);
			check_counts(0);
			ck_assert_int_eq(give(&slot), -ECANCELED);
			ck_assert_int_eq(give(&slot), -ENOENT);
			ck_assert_uint_eq(token_of(slot.record), TOKEN_SPENT);
			if (how == 0)
				ck_assert_int_eq(counter_open(map, slot.record), 0);
		}
	check_stack((RANGES * BERTH_RANGE) - 3 * ELEMENTS(paths));
	ck_assert(is_quiet());
}
END_TEST

/* R1 at the top, as by a thread that is then stopped. */
static void release_begin(const struct held *slot, const struct path *path) {
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
	struct held slot, next;

	ck_assert_int_eq(take_on(path, 1, &slot), 0);
	release_begin(&slot, path);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_int_eq(take_back(slot.record), -EAGAIN);
	ck_assert_int_eq(counter_finish(map, slot.record), 0);
	check_counts(0);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	/* No other thread takes a slot with it before that one has told the holder. */
	ck_assert_int_eq(take_on(path, 1, &next), 0);
	ck_assert_uint_ne(next.record, slot.record);
	ck_assert_int_eq(give(&next), 0);
	ck_assert_int_eq(local_release_rest(pool, slot.local, path, 1, slot.seq), 0);
	check_counts(0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	pool_give(pool, slot.local);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_int_eq(take_on(path, 1, &next), 0);
	ck_assert_uint_eq(next.record, slot.record);
	ck_assert_int_eq(give(&next), 0);
	check_counts(0);
}
END_TEST

/* The path's outermost account is full by now; then it isn't any more. The record is placed there. */
static void be_refused(const struct path *path) {
	struct level top = path->level[path->depth - 1];
	struct slot_request request = {.path = path, .weight = 1};
	uint64_t word = load_relaxed(&top.entry->word), seq;
	struct local_slot *local;
	uint32_t level;

	ck_assert_int_eq(pool_take(pool, &local), 0);
	ck_assert_int_eq(counter_check(map, path, 1, request.seen, &level), 0);
	store_relaxed(&top.entry->word, entry_pack(0, entry_flags(word), entry_generation(word)));
	ck_assert_int_eq(counter_bump(map, top.account), 0);
	ck_assert_int_eq(local_acquire(pool, local, &request, &seq), -EDQUOT);
	ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_CLAIMED);
	store_relaxed(&top.entry->word, word);
	ck_assert_int_eq(counter_bump(map, top.account), 0);
	ck_assert_uint_eq(place_account(look(local->number).place), path->level[0].account);
	pool_give(pool, local);
}

/* Also after an acquire that came to nothing. */
START_TEST(a_slot_is_given_back_where_it_was_taken_wherever_its_record_stood_before) {
	const size_t n = ELEMENTS(paths);
	struct held slot;

	ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	for (size_t i = 0; i < n * n * n; i++) {
		struct local_slot *local = slot.local;
		int how = (int)(i / 2 % 3);

		ck_assert_int_eq(take_on(paths[i % n], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
		be_refused(paths[i / n % n]);
		check_counts(0);
		ck_assert_int_eq(take_on(paths[i / n / n], 1, &slot), 0);
		ck_assert_ptr_eq(slot.local, local);
		if (how == 1)
			ck_assert_int_eq(take_back(slot.record), 0);
		ck_assert_int_eq(give(&slot), how == 1 ? -ECANCELED : 0);
		ck_assert_int_eq(give(&slot), -ENOENT);
		check_counts(0);
	}
}
END_TEST

START_TEST(a_revoked_record_is_used_again_only_when_its_holder_knows) {
	struct held revoked, slot;

	ck_assert_int_eq(take(&revoked), 0);
	ck_assert_int_eq(take_back(revoked.record), 0);
	while (take(&slot) == 0)
		ck_assert_uint_ne(slot.record, revoked.record);
	ck_assert_int_eq(give(&revoked), -ECANCELED);
	ck_assert_int_eq(take(&slot), 0);
	ck_assert_uint_eq(slot.record, revoked.record);
}
END_TEST

/* -- lack of memory ------------------------------------------------------------------------------- */

/* Another process, whose records this one can't map, took and gave back a slot there since. */
static void overwrite_by_far(const struct level *l) {
	const uint32_t far = SLOTS - 5;
	struct pair seen = cell_load(l->cell);

	ck_assert_int_eq(counter_note(daemons, seen.second), 0);
	ck_assert(cas16(&l->cell->count, seen, (struct pair){seen.first, tag_pack(far, 64)}));
}

START_TEST(a_release_without_memory_is_the_daemon_s_to_end_and_told_once) {
	const struct path *path = paths[_i / 3];
	struct held slot;
	int how = _i % 3;

	map_close_files(map);
	ck_assert_int_eq(take_on(path, 2, &slot), 0);
	overwrite_by_far(&path->level[path->depth - 1]);
	ck_assert(!local_settled(slot.local));
	ck_assert_int_eq(let_go(&slot), -ENOMEM);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert(place_state(raw_of(slot.record).first) == RECORD_SEIZED);
	check_charged(path, path->depth, 2);
	/* As long as the daemon hasn't. */
	ck_assert_int_eq(let_go(&slot), -ENOMEM);
	ck_assert(!is_quiet());
	ck_assert_int_eq(how == 1 ? counter_finish(daemons, slot.record)
				  : counter_finish_seized(daemons, slot.record),
		0);
	check_counts(0);
	if (how == 0) {
		ck_assert(local_settled(slot.local));
	} else {
		ck_assert_int_eq(let_go(&slot), 0);
	}
	ck_assert(!local_settled(slot.local));
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	ck_assert_int_eq(let_go(&slot), -ENOENT);
	pool_give(pool, slot.local);
	/* The next slot of the record is one like any other. */
	ck_assert_int_eq(take_on(&path2, 1, &slot), 0);
	ck_assert(!local_settled(slot.local));
	ck_assert_int_eq(take_back(slot.record), 0);
	ck_assert_int_eq(give(&slot), -ECANCELED);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

/* The top is given back, and then memory is short. */
START_TEST(a_release_that_memory_stops_halfway_is_no_holder_s_any_more) {
	struct held slot;

	map_close_files(map);
	ck_assert_int_eq(take_on(&path3, 2, &slot), 0);
	overwrite_by_far(&path3.level[1]);
	ck_assert_int_eq(let_go(&slot), -ENOMEM);
	check_charged(&path3, 2, 2);
	ck_assert_int_eq(let_go(&slot), -ENOMEM);
	ck_assert_int_eq(counter_finish_seized(daemons, slot.record), 0);
	check_counts(0);
	ck_assert(local_settled(slot.local));
	ck_assert_int_eq(let_go(&slot), -ENOENT);
	pool_give(pool, slot.local);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

START_TEST(a_count_that_is_less_than_what_is_given_back_is_told_and_loses_no_record) {
	const struct path *path = paths[_i];
	struct held slot;

	ck_assert_int_eq(take_on(path, 3, &slot), 0);
	for (uint32_t k = 0; k < path->depth; k++) {
		struct pair seen = cell_load(path->level[k].cell);

		ck_assert_int_eq(counter_repair(map, path->level[k].account, seen, 2), 0);
	}
	ck_assert_int_eq(let_go(&slot), -EUCLEAN);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	pool_give(pool, slot.local);
	ck_assert_int_eq(give(&slot), -ENOENT);
	check_charged(path, path->depth, 2);
	ck_assert_uint_eq(seq_step(look(slot.record).seq), 0);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

START_TEST(a_closed_session_s_records_are_not_handed_out) {
	struct held slot;

	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
		ck_assert_int_eq(counter_close(map, n), 0);
	ck_assert_int_eq(take(&slot), -ESHUTDOWN);
	check_stack(RANGES * BERTH_RANGE);
	check_counts(0);
}
END_TEST

/* That one is taken by the daemon, or noise lies over it. */
START_TEST(a_record_that_is_of_no_use_stays_the_caller_s) {
	struct held slot, again;

	for (int how = 0; how < 3; how++) {
		ck_assert_int_eq(take_on(&path3, 1, &slot), 0);
		store_release(&slot.local->token, TOKEN_CLAIMED);
		if (how == 1)
			counter_seize(map, slot.record);
		else if (how == 2)
			store_relaxed(&map_record(map, slot.record)->noted, BERTH_SEQ_MASK + 1);
		for (size_t i = 0; i < ELEMENTS(paths); i++) {
			ck_assert_int_eq(hold(slot.local, paths[i], 1, &again), -EAGAIN);
			ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
		}
		check_charged(&path3, 3, (uint32_t)how + 1);
	}
}
END_TEST

START_TEST(forgetting_tells_what_was_held_and_touches_no_count) {
	struct held slot;

	ck_assert_int_eq(take(&slot), 0);
	ck_assert_int_eq(forget(&slot), -ECANCELED);
	ck_assert_int_eq(forget(&slot), -ENOENT);
	ck_assert_int_eq(give(&slot), -ENOENT);
	ck_assert_uint_eq(counter_count(map, 1), 1);
	slot.record = 5 * BERTH_RANGE;
	ck_assert_int_eq(forget(&slot), -ENOENT);
}
END_TEST

START_TEST(releasing_all_leaves_nothing_behind) {
	struct held slot;

	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(take_on(paths[i % 3], 1, &slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	pool_release_all(pool);
	check_counts(0);
	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
		ck_assert_uint_eq(charged_by(n), 0);
	ck_assert_int_eq(give(&slot), -ENOENT);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

/* -- the session's end ------------------------------------------------------------------------- */

START_TEST(a_pool_is_quiet_where_nothing_is_held) {
	struct held slot;
	struct local_slot *spent, *owned;

	ck_assert(is_quiet());
	for (uint32_t i = 0; i < 20; i++) {
		ck_assert_int_eq(take_on(paths[i % 4], 1, &slot), 0);
		ck_assert_int_eq(give(&slot), 0);
		ck_assert(is_quiet());
	}
	/* Those that are used up are no thread's. */
	spent = slot.local;
	use_up(spent->number);
	ck_assert_int_eq(take_on(&path1, 1, &slot), 0);
	ck_assert_int_eq(give(&slot), 0);
	ck_assert_uint_eq(load_relaxed(&spent->token), TOKEN_SPENT);
	ck_assert(is_quiet());
	/* Of these the cache tells. */
	ck_assert_int_eq(pool_take(pool, &owned), 0);
	store_release(&owned->token, UINT64_C(3) << 4 | TOKEN_OWNED);
	ck_assert(is_quiet());
	store_release(&owned->token, TOKEN_SPARE);
	ck_assert(is_quiet());
	check_counts(0);
}
END_TEST

START_TEST(a_slot_or_a_claim_keeps_a_pool_from_being_quiet) {
	struct held slot;
	struct local_slot *local;

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		ck_assert_int_eq(take_on(paths[i], 1, &slot), 0);
		ck_assert(!is_quiet());
		ck_assert_int_eq(let_go(&slot), 0);
		ck_assert(!is_quiet());
		pool_give(pool, slot.local);
		ck_assert(is_quiet());
	}
	ck_assert_int_eq(pool_take(pool, &local), 0);
	ck_assert(!is_quiet());
	pool_give(pool, local);
	ck_assert(is_quiet());
	/* Revoked, and its holder doesn't know. */
	ck_assert_int_eq(take_on(&path3, 1, &slot), 0);
	ck_assert_int_eq(take_back(slot.record), 0);
	ck_assert(!is_quiet());
	ck_assert_int_eq(give(&slot), -ECANCELED);
	ck_assert(is_quiet());
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
		ck_assert_int_eq(record_acquire(map, 20, before, 1, &stamp, &seq, &level), 0);
		ck_assert_int_eq(counter_release(map, 20, seq), 0);
	}
	ck_assert_int_eq(counter_check(map, path, 1, request.seen, &level), 0);
	record = raw_of(20);
	cell = cell_load(path->level[0].cell);
	base = look(20).seq;

	ck_assert_int_eq(counter_close(map, 20), 0);
	ck_assert_int_eq(counter_open(map, 20), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(record_acquire(map, 20, theirs, 1, &stamp, &seq, &level), 0);
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
	ck_assert_int_eq(counter_acquire(map, at, &request, &mine, &level), -EAGAIN);
	ck_assert_int_lt(
		counter_acquire_continue(map, at, &request, 1, seq_up(base, 2), &level), 0);
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

/* Now here, now there, so that records are placed anew under others' eyes. */
static int take_any(int turn, struct held *ret) {
	return take_on(paths[turn / 7 % (int)ELEMENTS(paths)], 1 + turn / 50 % 2, ret);
}

/* More slots wanted than there are records, so that the stack is empty now and then. */
static void *churn(void *arg) {
	struct held held[10];
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

	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	ck_assert_int_eq(run(churn, failed, sizeof(failed[0])), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	check_counts(0);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

static _Atomic int
	user[(RANGES + 1) * BERTH_RANGE]; /* of each record: which thread, from 1; 0: none */

/* Nothing but the stack. */
static void *shuffle(void *arg) {
	struct local_slot *mine[12];
	int *failed = arg;
	size_t n = 0;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20 * TURNS && *failed == 0; i++) {
		bool takes = i % 25 < 12 ? n < ELEMENTS(mine) : false;
		int none = 0, r = takes ? pool_take(pool, &mine[n]) : 0;

		if (takes && r == 0) {
			if (!atomic_compare_exchange_strong(&user[mine[n]->number], &none, 1) ||
				load_relaxed(&mine[n]->token) != TOKEN_CLAIMED)
				*failed = 1;
			n++;
		} else if (r != 0 && r != -ENOBUFS) {
			*failed = r;
		} else if (n > 0) {
			/* Not in the order in which they came. */
			struct local_slot *local = mine[(size_t)i % n];

			mine[(size_t)i % n] = mine[n - 1];
			n--;
			if (atomic_exchange(&user[local->number], 0) != 1)
				*failed = 2;
			pool_give(pool, local);
		}
	}
	while (n > 0) {
		if (atomic_exchange(&user[mine[--n]->number], 0) != 1)
			*failed = 3;
		pool_give(pool, mine[n]);
	}
	return NULL;
}

START_TEST(threads_take_from_the_stack_nothing_twice_and_lose_nothing) {
	int failed[THREADS] = {0};

	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	ck_assert_int_eq(run(shuffle, failed, sizeof(failed[0])), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	check_stack(RANGES * BERTH_RANGE);
}
END_TEST

/* All but a few are held: threads hand these to each other, and overwrite each other's tags, while one
 * looks from where its record rests. */
static void *crowd(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20 * TURNS && *failed == 0; i++) {
		struct held slot;
		int r = take_on(i / 5000 % 3 ? &path1 : &path3, 1, &slot);

		if (r == 0)
			r = give(&slot);
		if (r != -ENOBUFS && r != -EAGAIN)
			*failed = r;
	}
	return NULL;
}

START_TEST(an_acquire_is_not_revoked_for_what_other_threads_do) {
	struct held held[RANGES * BERTH_RANGE - 4];
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
		struct held slot;
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
	struct held held[RANGES * BERTH_RANGE - 1];
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
		struct held slot;
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

/* Begins with no range at all, so that threads meet stack, table and ranges as they are made. What
 * they may see too early on other machines, ThreadSanitizer sees on this. */
static void pool_grow_under_threads(uint32_t first) {
	pthread_t thread[THREADS];
	int failed[THREADS] = {0};

	pool_free(pool);
	ck_assert_int_eq(pool_new(map, NUMBERS, &pool), 0);
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
	ck_assert(is_quiet());
}
END_TEST

/* A rival that waits until there is a slot for both to release. */
#define DUELS 20000

static struct held duel_slot;
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

		ck_assert_int_eq(take_on(paths[_i], 1, &duel_slot), 0);
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
		struct held slot;

		ck_assert_int_eq(take_on(paths[_i], 1, &slot), 0);
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

		ck_assert_int_eq(take_on(paths[_i], 1, &duel_slot), 0);
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

/* -- more than two that release -------------------------------------------------------------------- */

#define CROWDS 3000

static pthread_barrier_t crowd_begins, crowd_ends;

struct crowd_member {
	int result[CROWDS];
};

static void *crowd_release(void *arg) {
	struct crowd_member *me = arg;

	for (int n = 0; n < CROWDS; n++) {
		(void)pthread_barrier_wait(&crowd_begins);
		me->result[n] = let_go(&duel_slot);
		(void)pthread_barrier_wait(&crowd_ends);
	}
	return NULL;
}

static int times(const struct crowd_member *all, int n, int result) {
	int found = 0;

	for (int i = 0; i < THREADS; i++)
		found += all[i].result[n] == result;
	return found;
}

/* Now it is revoked before, now its session is over, now neither. */
START_TEST(of_many_threads_that_release_one_slot_at_once_one_is_told_what_became_of_it) {
	static struct crowd_member all[THREADS];
	pthread_t thread[THREADS];

	(void)pthread_barrier_init(&crowd_begins, NULL, THREADS + 1);
	(void)pthread_barrier_init(&crowd_ends, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, crowd_release, &all[i]), 0);
	for (int n = 0; n < CROWDS; n++) {
		int how = n % 64 == 63 && n < 64 * 20 ? 2 : n % 2;

		ck_assert_int_eq(take_on(paths[_i], 1, &duel_slot), 0);
		if (how == 1)
			ck_assert_int_eq(take_back(duel_slot.record), 0);
		else if (how == 2)
			ck_assert_int_eq(counter_close(map, duel_slot.record), 0);
		(void)pthread_barrier_wait(&crowd_begins);
		(void)pthread_barrier_wait(&crowd_ends);
		ck_assert_int_eq(times(all, n, how > 0 ? -ECANCELED : 0), 1);
		ck_assert_int_eq(times(all, n, -ENOENT), THREADS - 1);
		ck_assert_uint_eq(
			token_of(duel_slot.record), how == 2 ? TOKEN_SPENT : TOKEN_CLAIMED);
		if (how == 2)
			ck_assert_int_eq(counter_open(map, duel_slot.record), 0);
		else
			pool_give(pool, duel_slot.local);
	}
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(thread[i], NULL);
	check_counts(0);
	check_stack(RANGES * BERTH_RANGE - 20);
}
END_TEST

static _Atomic bool stop;

/* As berthctl has it, what is held or being taken; or whatever there is, which needs more luck not to
 * meet a slot in the instant after it was taken. */
static void *revoke_all(void *arg) {
	struct snapshot seen;

	while (!atomic_load(&stop))
		for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++)
			if (counter_record(map, n, &seen) == 0 && (arg || seq_step(seen.seq) != 0))
				(void)counter_revoke(map, n, seen);
	return NULL;
}

/* Each slot acquired must be told exactly once: released, or revoked. An acquire may be taken back in
 * its middle, and records at rest, on their way up or down are seized, too. */
static void *churn_revoked(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < TURNS; i++) {
		struct held slot;
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

	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	ck_assert_int_eq(pthread_create(&daemon, NULL, revoke_all, _i ? &stop : NULL), 0);
	ck_assert_int_eq(run(churn_revoked, failed, sizeof(failed[0])), 0);
	atomic_store(&stop, true);
	(void)pthread_join(daemon, NULL);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	check_counts(0);
	/* One that is seized just as its slot was taken is retired (a_slot_that_was_seized_…). */
	printf("%u retired\n", locals_with(TOKEN_SPENT));
	check_stack(RANGES * BERTH_RANGE - locals_with(TOKEN_SPENT));
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
	tcase_add_test(cases, the_record_that_was_given_back_last_is_the_next_one);
	tcase_add_loop_test(cases, the_record_that_was_last_is_used_again_and_stays_as_it_is, 0, 4);
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
	tcase_add_test(cases, a_token_is_a_slot_s_or_one_of_the_others);
	tcase_add_loop_test(cases, a_record_has_a_token_for_each_place_where_it_is, 0, 4);
	tcase_add_test(cases, a_top_that_comes_back_is_not_the_one_that_was_seen);
	tcase_add_loop_test(
		cases, a_slot_of_any_depth_is_charged_and_given_back_at_every_level, 0, 2);
	tcase_add_test(cases, the_rest_of_a_release_is_made_from_any_level);
	tcase_add_loop_test(cases, a_slot_is_given_back_once_by_whatever_party_comes_first, 0, 4);
	tcase_add_test(cases, a_slot_released_twice_is_not_held);
	tcase_add_test(cases, a_slot_released_twice_is_not_held_whatever_has_become_of_its_account);
	tcase_add_test(cases, a_stale_slot_does_not_release_the_one_that_follows_in_its_record);
	tcase_add_test(cases, a_revoked_slot_is_told_to_its_holder_once);
	tcase_add_test(cases, a_slot_that_was_seized_is_told_to_its_holder_once);
	tcase_add_loop_test(cases, a_release_that_a_daemon_finished_was_no_revocation, 0, 2);
	tcase_add_test(
		cases, a_slot_is_given_back_where_it_was_taken_wherever_its_record_stood_before);
	tcase_add_test(cases, a_revoked_record_is_used_again_only_when_its_holder_knows);
	tcase_add_loop_test(
		cases, a_release_without_memory_is_the_daemon_s_to_end_and_told_once, 0, 12);
	tcase_add_test(cases, a_release_that_memory_stops_halfway_is_no_holder_s_any_more);
	tcase_add_loop_test(cases,
		a_count_that_is_less_than_what_is_given_back_is_told_and_loses_no_record, 0, 4);
	tcase_add_test(cases, a_record_that_is_of_no_use_stays_the_caller_s);
	tcase_add_test(cases, a_closed_session_s_records_are_not_handed_out);
	tcase_add_test(cases, forgetting_tells_what_was_held_and_touches_no_count);
	tcase_add_test(cases, releasing_all_leaves_nothing_behind);
	tcase_add_test(cases, a_pool_is_quiet_where_nothing_is_held);
	tcase_add_test(cases, a_slot_or_a_claim_keeps_a_pool_from_being_quiet);
	tcase_add_loop_test(
		cases, a_thread_of_a_session_that_ended_takes_nothing_of_the_next_one_s, 0, 9);
	tcase_add_test(cases, no_record_is_lost_while_threads_empty_and_fill_the_pool);
	tcase_add_test(cases, threads_take_from_the_stack_nothing_twice_and_lose_nothing);
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
	tcase_add_loop_test(cases,
		of_many_threads_that_release_one_slot_at_once_one_is_told_what_became_of_it, 0, 3);
	tcase_add_loop_test(cases, revoking_under_threads_loses_neither_counts_nor_records, 0, 2);
	suite_add_tcase(suite, cases);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
