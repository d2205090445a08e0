/* SPDX-License-Identifier: MIT */

/* Tests the pool, with the records of the fixture's segment. No daemon runs. */

#include <sched.h>

#include "counter-fast.h"
#include "fixture.h"
#include "pool.h"
#include "run.h"
#include "threads.h"

#define SLOTS   131072u /* more than one window of records */
#define RANGES  3u
#define FIRST   BERTH_RANGE                  /* the pool's first record */
#define END     ((RANGES + 1) * BERTH_RANGE) /* the record after the pool's last record */
#define RECORDS (RANGES * BERTH_RANGE)
#define THREADS 8
#define ROUNDS  20000
#define NUMBERS (UINT64_C(0x12345) << 44) /* the highest bits of the pool's slots */

/* The mapping of the pool's process. Some tests close its files. f.map is berthd's mapping. */
static struct map *map;
static struct pool *pool;

/* path1 and path2 have one level each, path3 has three, path8 has eight. path3 is the upper part of
 * path8. */
static struct path path1, path2, path3, path8;
static const struct path *const paths[] = {&path1, &path3, &path8, &path2};

/* A slot that the test holds. */
struct held {
	struct local_slot *local;
	uint32_t record;
	uint64_t seq;
};

static void range_grant(uint32_t number) {
	records_open(number * BERTH_RANGE, BERTH_RANGE);
	ck_assert_int_eq(pool_add_range(pool, number), 0);
}

static void set_up(void) {
	const struct capacities want = {64, SLOTS, 4};

	fixture_new(&want);
	fixture_grow_slots(SLOTS);
	limit_set("1", BERTH_LIMIT_NONE);
	limit_set("2", BERTH_LIMIT_NONE);
	limit_set("a/b/c/d/e/f/g/h", BERTH_LIMIT_NONE);
	map = fixture_map();
	path1 = path_in(map, "1");
	path2 = path_in(map, "2");
	path3 = path_in(map, "a/b/c");
	path8 = path_in(map, "a/b/c/d/e/f/g/h");
	ck_assert_uint_eq(path8.depth, BERTH_LEVELS_MAX);
	ck_assert_int_eq(pool_new(map, NUMBERS, &pool), 0);
	for (uint32_t n = 1; n <= RANGES; n++)
		range_grant(n);
}

static void tear_down(void) {
	pool_free(pool);
	map_free(map);
	fixture_free();
}

/* Acquires a slot with a claimed record. If that fails, the record stays claimed. */
static int acquire_with(
	struct local_slot *local, const struct path *path, uint32_t weight, struct held *ret) {
	struct slot_request request = {.path = path, .weight = weight, .stamp = {.since = 1}};
	uint64_t seq = 0;
	int r = counter_check(map, path, weight, request.seen);

	if (r == 0)
		r = local_acquire(pool, local, &request, &seq);
	*ret = (struct held){local, local->number, seq};
	if (r == 0)
		store_release(&local->token, tag_pack(local->number, seq));
	return r;
}

/* Acquires a slot as the library does for a thread without a cache. Records that can't be used go
 * back to the stack at the end. */
static int acquire_on(const struct path *path, uint32_t weight, struct held *ret) {
	struct local_slot *local, *unusable[64];
	size_t n = 0;
	int r;

	*ret = (struct held){0};
	for (;;) {
		r = pool_claim(pool, &local);
		if (r < 0)
			break;
		r = acquire_with(local, path, weight, ret);
		if (r != -EAGAIN && r != -ERANGE)
			break;
		if (r == -EAGAIN)
			unusable[n++] = local;
		if (n == ELEMENTS(unusable))
			break;
	}
	while (n > 0)
		pool_return(pool, unusable[--n]);
	if (r < 0 && r != -EAGAIN && ret->local &&
		load_relaxed(&ret->local->token) == TOKEN_CLAIMED)
		pool_return(pool, ret->local);
	if (r < 0)
		*ret = (struct held){0};
	return r;
}

static struct held hold(const struct path *path, uint32_t weight) {
	struct held slot;

	ck_assert_int_eq(acquire_on(path, weight, &slot), 0);
	return slot;
}

static int acquire(struct held *ret) {
	return acquire_on(&path1, 1, ret);
}

/* Releases the slot. If local_release() leaves the record CLAIMED, the record stays so. */
static int release_unpooled(const struct held *slot) {
	struct local_slot *local = pool_local(pool, slot->record);

	return local ? local_release(pool, local, slot_cycle_of_seq(slot->seq)) : -ENOENT;
}

/* Releases the slot, and puts its record into the stack. */
static int release(const struct held *slot) {
	int r = release_unpooled(slot);

	if ((r == 0 || r == -EUCLEAN || r == -ECANCELED) &&
		load_relaxed(&slot->local->token) == TOKEN_CLAIMED)
		pool_return(pool, slot->local);
	return r;
}

/* Acquires slots on path1. */
static void hold_all(struct held *slots, size_t count) {
	for (size_t i = 0; i < count; i++)
		slots[i] = hold(&path1, 1);
}

static void release_all(const struct held *slots, size_t count) {
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(release(&slots[i]), 0);
}

/* Acquires and releases a slot. */
static struct held use(const struct path *path) {
	struct held slot = hold(path, 1);

	ck_assert_int_eq(release(&slot), 0);
	return slot;
}

static int forget(const struct held *slot) {
	return pool_release_ended(pool, slot->record, slot_cycle_of_seq(slot->seq));
}

static uint64_t token_of(uint32_t record) {
	return load_relaxed(&pool_local(pool, record)->token);
}

static uint64_t tag_of(const struct held *slot) {
	return tag_pack(slot->record, slot->seq);
}

static uint32_t locals_with(uint64_t token) {
	uint32_t n = 0;

	for (uint32_t record = FIRST; record < END; record++)
		n += token_of(record) == token;
	return n;
}

/* Calls pool_close(), and puts the records that this call took back into the stack. Returns what
 * pool_close() returned. */
static bool pool_is_idle(void) {
	bool was_pooled[END], quiet;

	for (uint32_t n = FIRST; n < END; n++)
		was_pooled[n] = pool_local(pool, n) && token_of(n) == TOKEN_POOLED;
	quiet = pool_close(pool);
	for (uint32_t n = FIRST; n < END; n++)
		if (was_pooled[n]) {
			ck_assert_uint_eq(token_of(n), TOKEN_RETIRED);
			pool_return(pool, pool_local(pool, n));
		}
	return quiet;
}

/* Checks that the stack has this number of different records, and that no other record is POOLED.
 * To find out, takes all records out of the stack and puts them back. */
static void check_stack(uint32_t want) {
	static struct local_slot *all[SLOTS];
	static bool seen[SLOTS];
	uint32_t n = 0;

	ck_assert_uint_eq(locals_with(TOKEN_POOLED), want);
	while (pool_claim(pool, &all[n]) == 0) {
		ck_assert_msg(
			!seen[all[n]->number], "record %u is in the stack twice", all[n]->number);
		seen[all[n++]->number] = true;
	}
	ck_assert_uint_eq(n, want);
	ck_assert_uint_eq(locals_with(TOKEN_POOLED), 0);
	while (n > 0) {
		seen[all[--n]->number] = false;
		pool_return(pool, all[n]);
	}
}

/* Revokes as berthctl does. Returns -EAGAIN if the record holds no slot. */
static int revoke_record(uint32_t record) {
	struct snapshot seen;
	int r = counter_record(map, record, &seen);

	if (r == 0)
		r = snapshot_is_held(seen) ? counter_revoke(map, record, seen) : -EAGAIN;
	return r;
}

static uint32_t charged_by(uint32_t record) {
	struct snapshot s = newest_of(record);

	return place_state(s.place) == RECORD_FREE ? 0 : seq_charged(s.seq);
}

START_TEST(every_record_is_handed_out_once_before_the_pool_is_empty) {
	static bool seen[SLOTS];
	struct held slot;

	for (uint32_t n = 0; n < RECORDS; n++) {
		slot = hold(&path1, 1);
		ck_assert_uint_lt(slot.record, END);
		ck_assert_uint_ge(slot.record, BERTH_RANGE);
		ck_assert_msg(!seen[slot.record], "record %u was handed out twice", slot.record);
		seen[slot.record] = true;
	}
	ck_assert_int_eq(acquire(&slot), -ENOBUFS);
	ck_assert_uint_eq(counter_count(map, path1.level[0].account), RECORDS);
}
END_TEST

START_TEST(the_record_that_was_put_back_last_is_taken_next) {
	struct held slots[4], again;

	hold_all(slots, ELEMENTS(slots));
	release_all(slots, ELEMENTS(slots));
	for (size_t i = ELEMENTS(slots); i-- > 0;) {
		again = hold(&path1, 1);
		ck_assert_uint_eq(again.record, slots[i].record);
	}
}
END_TEST

/* An acquire and a release write only cells, not the record. */
START_TEST(a_record_is_used_again_without_being_written) {
	const struct path *path = paths[_i];
	struct held first, again;
	struct snapshot was;

	first = use(path);
	was = words_of(first.record);
	for (int i = 0; i < 100; i++) {
		again = hold(path, 1);
		ck_assert_uint_eq(again.record, first.record);
		ck_assert_ptr_eq(again.local, first.local);
		ck_assert_int_eq(release(&again), 0);
		ck_assert(same_words(words_of(first.record), was));
	}
}
END_TEST

START_TEST(a_held_record_is_not_handed_out_again) {
	struct held held = hold(&path1, 1), other = hold(&path1, 1);

	ck_assert_uint_ne(other.record, held.record);
	ck_assert_ptr_ne(other.local, held.local);
	ck_assert_uint_eq(counter_count(map, path1.level[0].account), 2);
}
END_TEST

/* -- records without seqs left ----------------------------------------------------------------- */

/* Returns the `noted` with which a record has this number of cycles left after it is placed. */
static uint64_t noted_with_left(uint64_t cycles) {
	return seq_base(BERTH_SEQ_LAST) - cycles * BERTH_CYCLE;
}

static void set_cycles_left(uint32_t record, uint64_t cycles) {
	ck_assert(place_state(words_of(record).place) == RECORD_FREE);
	store_total(&map_record(map, record)->noted, noted_with_left(cycles));
}

/* Uses up the seqs of the record, wherever it rests. */
static void use_up_seqs(uint32_t record) {
	ck_assert_uint_eq(charged_by(record), 0);
	store_total(&map_record(map, record)->noted, noted_with_left(0) + BERTH_CYCLE);
}

START_TEST(a_record_that_has_used_up_its_seqs_is_passed_over) {
	struct held slot, other;
	struct range *range;
	struct local_slot *local;
	uint32_t n;

	ck_assert_int_eq(pool_claim(pool, &local), 0);
	set_cycles_left(local->number, 2);
	pool_return(pool, local);
	range = load_relaxed(&pool->by_number[local->number / BERTH_RANGE]);
	for (int i = 0; i < 2; i++) {
		slot = hold(paths[_i], 1);
		ck_assert_ptr_eq(slot.local, local);
		ck_assert_int_eq(release(&slot), 0);
		ck_assert_uint_eq(token_of(local->number), TOKEN_POOLED);
	}
	slot = hold(paths[_i], 1);
	ck_assert_ptr_ne(slot.local, local);
	ck_assert_uint_eq(token_of(local->number), TOKEN_RETIRED);
	ck_assert_uint_eq(load_relaxed(&range->retired), 1);
	ck_assert_uint_eq(pool_usable_ranges(pool, UINT32_MAX), RANGES);
	for (n = 1; acquire_on(paths[_i], 1, &other) == 0; n++)
		ck_assert_uint_ne(other.record, local->number);
	ck_assert_uint_eq(n, RECORDS - 1);
	ck_assert_int_eq(acquire(&other), -ENOBUFS);
	ck_assert_int_eq(local_release(pool, local, 0), -ENOENT);
	ck_assert_int_eq(pool_release_ended(pool, local->number, 0), -ENOENT);
	pool_release_all(pool);
	ck_assert_uint_eq(token_of(local->number), TOKEN_RETIRED);
	check_no_counts();
	check_stack(RECORDS - 1);
}
END_TEST

START_TEST(a_pool_whose_records_have_all_used_up_their_seqs_is_empty) {
	struct held slot;

	/* The range that was added last is used first. */
	for (uint32_t range = RANGES; range > 0; range--) {
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			use_up_seqs(range * BERTH_RANGE + i);
		/* When the pool takes these records, it notices that their seqs are used up. */
		for (uint32_t n = 0; n < RECORDS; n++)
			if (acquire(&slot) == 0)
				ck_assert_int_eq(release(&slot), 0);
		ck_assert_uint_eq(pool_usable_ranges(pool, UINT32_MAX), range - 1);
	}
	ck_assert_int_eq(acquire(&slot), -ENOBUFS);
	ck_assert_uint_eq(slot.record, 0);
	ck_assert_uint_eq(pool_range_count(pool), RANGES);
	/* A new range has usable records. */
	range_grant(RANGES + 1);
	ck_assert_uint_eq(pool_usable_ranges(pool, UINT32_MAX), 1);
	slot = hold(&path1, 1);
	ck_assert_uint_eq(slot.record / BERTH_RANGE, RANGES + 1);
}
END_TEST

/* A slot in the last cycle can be released or revoked, or its session can end. If it is revoked or
 * the session ends, the record needs one more cycle. */
START_TEST(the_last_cycle_of_a_record_can_end_in_every_way) {
	for (int variant = 0; variant < 3; variant++) {
		struct held slot;
		uint32_t record;

		slot = use(paths[_i]);
		record = slot.record;
		store_total(&map_record(map, record)->noted, noted_with_left(0));
		slot = hold(paths[_i], 1);
		ck_assert_uint_eq(slot.record, record);
		if (variant > 0)
			ck_assert_int_eq(
				variant == 1 ? revoke_record(record) : counter_close(map, record),
				0);
		ck_assert_int_eq(release(&slot), variant == 0 ? 0 : -ECANCELED);
		check_no_counts();
		ck_assert_uint_le(newest_of(record).seq, BERTH_SEQ_MASK);
		if (variant == 2)
			ck_assert_int_eq(counter_open(map, record), 0);
		ck_assert(counter_is_retired(map, record));
		slot = hold(paths[_i], 1);
		ck_assert_uint_ne(slot.record, record);
		ck_assert_uint_eq(token_of(record), TOKEN_RETIRED);
		ck_assert_int_eq(release(&slot), 0);
	}
}
END_TEST

START_TEST(a_record_without_seqs_stays_unusable_however_often_it_is_granted) {
	struct held slot;
	uint64_t noted = 0;

	for (int i = 0; i < 1000; i++) {
		if (i == 0)
			set_cycles_left(BERTH_RANGE, 0);
		ck_assert_int_eq(counter_close(map, BERTH_RANGE), 0);
		ck_assert_int_eq(counter_open(map, BERTH_RANGE), 0);
		ck_assert(counter_is_retired(map, BERTH_RANGE));
		ck_assert_uint_gt(words_of(BERTH_RANGE).seq, BERTH_SEQ_LAST);
		ck_assert(i == 0 || words_of(BERTH_RANGE).seq == noted);
		noted = words_of(BERTH_RANGE).seq;
	}
	while (acquire(&slot) == 0)
		ck_assert_uint_ne(slot.record, BERTH_RANGE);
}
END_TEST

START_TEST(a_full_pool_finds_the_one_record_that_was_released) {
	struct held slots[RECORDS], again;

	hold_all(slots, ELEMENTS(slots));
	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		ck_assert_int_eq(acquire(&again), -ENOBUFS);
		ck_assert_int_eq(release(&slots[i]), 0);
		again = hold(&path1, 1);
		ck_assert_uint_eq(again.record, slots[i].record);
	}
}
END_TEST

START_TEST(a_pool_uses_a_range_that_is_added) {
	struct held slot;

	while (acquire(&slot) == 0)
		;
	range_grant(RANGES + 1);
	slot = hold(&path1, 1);
	ck_assert_uint_eq(slot.record / BERTH_RANGE, RANGES + 1);
	ck_assert_uint_eq(pool_range_count(pool), RANGES + 1);
}
END_TEST

START_TEST(an_invalid_or_known_range_is_refused) {
	ck_assert_int_eq(pool_add_range(pool, 0), -ERANGE);
	ck_assert_int_eq(pool_add_range(pool, SLOTS / BERTH_RANGE + 1), -ERANGE);
	ck_assert_int_eq(pool_add_range(pool, UINT32_MAX), -ERANGE);
	ck_assert_int_eq(pool_add_range(pool, 1), -EEXIST);
}
END_TEST

START_TEST(a_range_that_can_t_be_mapped_is_reported_as_a_lack_of_memory) {
	const uint32_t far = SLOTS / BERTH_RANGE - 1;
	struct held slots[RECORDS], slot;
	struct local_slot *local;

	ck_assert_int_eq(pool_add_range(pool, far), 0);
	map_close_files(map);
	/* The other ranges are used first, although the unmapped range was added last. */
	hold_all(slots, ELEMENTS(slots));
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(acquire(&slot), -ENOMEM);
		ck_assert_ptr_null(slot.local);
		ck_assert_int_eq(pool_claim(pool, &local), -ENOMEM);
		ck_assert_ptr_null(local);
	}
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		ck_assert_uint_eq(token_of(far * BERTH_RANGE + i), TOKEN_POOLED);
	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		ck_assert_int_eq(release(&slots[i]), 0);
		slot = hold(&path1, 1);
		ck_assert_uint_eq(slot.record, slots[i].record);
		ck_assert_int_eq(acquire(&slots[i]), -ENOMEM);
		slots[i] = slot;
	}
	release_all(slots, ELEMENTS(slots));
	check_no_counts();
}
END_TEST

/* -- tokens ------------------------------------------------------------------------------------ */

START_TEST(a_token_is_a_slot_or_one_of_the_other_values) {
	const uint64_t owned = (uint64_t)UINT32_MAX << 4 | TOKEN_OWNED;
	const uint64_t others[] = {
		TOKEN_POOLED, TOKEN_OWNED, owned, TOKEN_CLAIMED, TOKEN_RETIRED, TOKEN_SPARE};
	const uint64_t base = UINT64_C(5) << 30;

	for (uint32_t step = 0; step < BERTH_CYCLE; step++) {
		uint64_t tag = tag_pack(77, base + step);

		ck_assert(token_is_slot(tag) == (step >= 1 && step <= BERTH_LEVELS_MAX));
		ck_assert(token_is_slot_of(tag, slot_cycle_of_seq(base)) == token_is_slot(tag));
		ck_assert(!token_is_slot_of(tag, slot_cycle_of_seq(base) + 1));
	}
	for (size_t i = 0; i < ELEMENTS(others); i++) {
		ck_assert(!token_is_slot(others[i]));
		ck_assert(!token_is_slot_of(others[i], slot_cycle_of_seq(others[i])));
		/* A cell that was never used has the tag 0, which is TOKEN_POOLED. No cell has one
		 * of the other tokens as its tag: only repairs write tags of record 0, and the seqs
		 * of these tags are bases. */
		ck_assert(i == 0 || tag_seq(others[i]) % BERTH_CYCLE != 0);
		ck_assert_uint_eq(tag_record(others[i]), 0);
	}
	ck_assert_uint_eq(slot_cycle_of_seq(base + BERTH_CYCLE), slot_cycle_of_seq(base) + 1);
	ck_assert_uint_eq(slot_cycle_of_seq((UINT64_C(1) << (SLOT_CYCLE_BITS + 4)) - 1),
		(1u << SLOT_CYCLE_BITS) - 1);
	ck_assert_uint_eq(slot_cycle_of_seq(UINT64_C(1) << (SLOT_CYCLE_BITS + 4)), 0);
}
END_TEST

START_TEST(a_record_has_a_token_for_each_place) {
	const struct path *path = paths[_i];
	struct local_slot *local;
	struct held slot;

	ck_assert_int_eq(pool_claim(pool, &local), 0);
	ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_CLAIMED);
	ck_assert_uint_eq(load_relaxed(&local->slot) >> SLOT_CYCLE_BITS << SLOT_CYCLE_BITS,
		NUMBERS | (uint64_t)local->number << SLOT_CYCLE_BITS);
	ck_assert_ptr_eq(load_relaxed(&local->record), map_record(map, local->number));
	pool_return(pool, local);
	ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_POOLED);
	slot = hold(path, 3);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert_uint_eq(seq_step(slot.seq), path->depth);
	ck_assert_uint_eq(load_relaxed(&slot.local->weight), 3);
	ck_assert_int_eq(release_unpooled(&slot), 0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	/* A record that a cache owns takes slots in the same way. */
	store_release(&slot.local->token, UINT64_C(5) << 4 | TOKEN_OWNED);
	ck_assert_int_eq(acquire_with(slot.local, path, 3, &slot), 0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert_int_eq(revoke_record(slot.record), 0);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert_int_eq(release_unpooled(&slot), -ECANCELED);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	pool_return(pool, slot.local);
	check_stack(RECORDS);
}
END_TEST

/* -- the stack --------------------------------------------------------------------------------- */

/* One thread reads the top of the stack. Before its compare-and-swap, other threads take two
 * records, and put the first of them back (the ABA problem). */
START_TEST(a_stack_top_that_comes_back_is_not_taken_for_the_old_one) {
	struct local_slot *first, *second;
	struct pair seen;

	seen.second = load_relaxed(&pool->stack.change_count);
	seen.first = load_relaxed(&pool->stack.top);
	ck_assert_int_eq(pool_claim(pool, &first), 0);
	ck_assert_int_eq(pool_claim(pool, &second), 0);
	pool_return(pool, first);
	ck_assert_uint_eq(load_relaxed(&pool->stack.top), seen.first);
	ck_assert_uint_eq(load_relaxed(&pool->stack.change_count), seen.second + 3);
	ck_assert(!cas16(&pool->stack.top, seen, (struct pair){second->number, seen.second + 1}));
	pool_return(pool, second);
	check_stack(RECORDS);
}
END_TEST

/* -- levels ------------------------------------------------------------------------------------ */

static void path_of_depth(uint32_t depth, struct path *ret) {
	char name[] = "a/b/c/d/e/f/g/h";

	name[2 * depth - 1] = '\0';
	*ret = path_in(map, name);
	ck_assert_uint_eq(ret->depth, depth);
}

static void check_charged(const struct path *path, uint32_t levels, uint32_t weight) {
	for (uint32_t k = 0; k < path->depth; k++)
		ck_assert_uint_eq(
			counter_count(map, path->level[k].account), k < levels ? weight : 0);
}

START_TEST(a_slot_of_any_depth_is_charged_and_discharged_at_every_level) {
	static const uint32_t weights[] = {1, 2, BERTH_WEIGHT_MAX};
	struct path path;
	struct held slot;

	for (uint32_t i = 0; i < 3 * BERTH_LEVELS_MAX; i++) {
		uint32_t depth = _i ? BERTH_LEVELS_MAX - i / 3 : 1 + i / 3, weight = weights[i % 3];

		path_of_depth(depth, &path);
		slot = hold(&path, weight);
		check_charged(&path, depth, weight);
		ck_assert_int_eq(release(&slot), 0);
		check_no_counts();
		ck_assert_int_eq(release(&slot), -ENOENT);
	}
	check_stack(RECORDS);
}
END_TEST

/* The fast path has discharged some levels; local_release_continue() discharges the others. */
START_TEST(a_release_goes_on_from_any_level) {
	struct path path;
	struct held slot;

	for (uint32_t depth = 2; depth <= BERTH_LEVELS_MAX; depth++)
		for (uint32_t given = 1; given < depth; given++) {
			path_of_depth(depth, &path);
			slot = hold(&path, 2);
			for (uint32_t k = depth; k-- > depth - given;) {
				struct level *l = &path.level[k];

				ck_assert(level_discharge(map, l->cell, l->dirty,
					cell_load(l->cell), UINT64_C(2) << BERTH_COUNT_SHIFT,
					tag_pack(slot.record, seq_down(seq_base(slot.seq), k))));
			}
			check_charged(&path, depth - given, 2);
			/* Before the first release goes on, a second release is refused. */
			ck_assert_int_eq(release(&slot), -ENOENT);
			ck_assert_int_eq(
				local_release_continue(pool, slot.local, &path, given, slot.seq),
				0);
			ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
			pool_return(pool, slot.local);
			check_no_counts();
		}
}
END_TEST

/* In three variants, the slot is revoked, its session ends, or its handle is closed before the
 * release. In a fourth variant nothing happens. */
START_TEST(a_slot_is_discharged_once_whatever_ends_it_first) {
	struct held slot;

	for (int variant = 0; variant < 4; variant++) {
		slot = hold(paths[_i], 2);
		if (variant == 1)
			ck_assert_int_eq(revoke_record(slot.record), 0);
		else if (variant == 2)
			ck_assert_int_eq(counter_close(map, slot.record), 0);
		else if (variant == 3)
			pool_release_all(pool);
		ck_assert_int_eq(release(&slot), variant == 0   ? 0
						 : variant == 3 ? -ENOENT
								: -ECANCELED);
		ck_assert_int_eq(release(&slot), -ENOENT);
		check_no_counts();
	}
}
END_TEST

/* -- release ----------------------------------------------------------------------------------- */

START_TEST(a_second_release_is_refused) {
	struct held slot, other = {.record = 5 * BERTH_RANGE}, never;

	ck_assert_ptr_null(pool_local(pool, other.record));

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		slot = use(paths[i]);
		ck_assert_int_eq(release(&slot), -ENOENT);
		ck_assert_int_eq(release(&other), -ENOENT);
		/* A release with a later seq of the record is refused, too. */
		for (uint32_t n = 1; n < 20 * BERTH_CYCLE; n++) {
			never = (struct held){slot.local, slot.record, slot.seq + n};
			ck_assert_int_eq(release(&never), -ENOENT);
		}
	}
	check_no_counts();
}
END_TEST

/* The account is removed, and an account without ancestors gets its index. */
START_TEST(a_second_release_is_refused_after_the_account_was_removed) {
	struct held slot = use(&path3);

	store_relaxed(&map_entry(f.map, path3.level[0].account)->ancestry, ancestry_pack(0, 1));
	ck_assert_int_eq(release(&slot), -ENOENT);
}
END_TEST

START_TEST(a_released_slot_does_not_release_the_next_slot_of_its_record) {
	struct held first = use(&path1), later;

	do
		later = hold(&path1, 1);
	while (later.record != first.record);
	ck_assert_int_eq(release(&first), -ENOENT);
	ck_assert_int_eq(release(&later), 0);
}
END_TEST

START_TEST(a_revocation_is_reported_once) {
	struct held slot;

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		slot = hold(paths[i], 2);
		ck_assert_int_eq(revoke_record(slot.record), 0);
		check_no_counts();
		ck_assert_int_eq(release(&slot), -ECANCELED);
		ck_assert_int_eq(release(&slot), -ENOENT);
		check_no_counts();
	}
	check_stack(RECORDS);
}
END_TEST

/* berthd seizes the slot: at the end of the session, at berthd's start, or in a recount. After that
 * the process doesn't use the record again, because a thread that released the slot just before the
 * seizure may still have to store the record's token. */
START_TEST(a_seized_slot_is_reported_as_revoked_once) {
	struct held slot;

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (int variant = 0; variant < 3; variant++) {
			slot = hold(paths[i], 2);
			if (variant != 0)
				counter_seize(map, slot.record);
			ck_assert_int_eq(variant == 0   ? counter_close(map, slot.record)
					 : variant == 1 ? counter_finish_seized(map, slot.record)
							: counter_finish(map, slot.record),
				0);
			check_no_counts();
			ck_assert_int_eq(release(&slot), -ECANCELED);
			ck_assert_int_eq(release(&slot), -ENOENT);
			ck_assert_uint_eq(token_of(slot.record), TOKEN_RETIRED);
			if (variant == 0)
				ck_assert_int_eq(counter_open(map, slot.record), 0);
		}
	check_stack(RECORDS - 3 * ELEMENTS(paths));
	ck_assert(pool_is_idle());
}
END_TEST

/* Neither the thread that began the release, nor a thread that releases the slot again, is told
 * that the slot was revoked. */
START_TEST(a_release_that_berthd_finishes_is_not_reported_as_a_revocation) {
	const struct path *path = paths[1 + _i];
	struct held slot = hold(path, 1), next;

	discharge_top(slot.record, path, slot.seq, 0);
	ck_assert_int_eq(release(&slot), -ENOENT);
	ck_assert_int_eq(revoke_record(slot.record), -EAGAIN);
	ck_assert_int_eq(counter_finish(map, slot.record), 0);
	check_no_counts();
	ck_assert_int_eq(release(&slot), -ENOENT);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	/* No other thread uses the record before the first thread's release has returned. */
	next = hold(path, 1);
	ck_assert_uint_ne(next.record, slot.record);
	ck_assert_int_eq(release(&next), 0);
	ck_assert_int_eq(local_release_continue(pool, slot.local, path, 1, slot.seq), 0);
	check_no_counts();
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	pool_return(pool, slot.local);
	ck_assert_int_eq(release(&slot), -ENOENT);
	next = hold(path, 1);
	ck_assert_uint_eq(next.record, slot.record);
	ck_assert_int_eq(release(&next), 0);
	check_no_counts();
}
END_TEST

/* Makes an acquire that is refused at the top of the path, after its record was placed on the path.
 * Afterwards the limit is as before. */
static void acquire_refused(const struct path *path) {
	const struct level *top = &path->level[path->depth - 1];
	struct entry *entry = map_entry(f.map, top->account);
	struct slot_request request = {.path = path, .weight = 1};
	struct local_slot *local;
	uint64_t seq;

	ck_assert_int_eq(pool_claim(pool, &local), 0);
	ck_assert_int_eq(counter_check(map, path, 1, request.seen), 0);
	limit_write(entry, 0);
	ck_assert_int_eq(counter_bump(map, top->account), 0);
	ck_assert_int_eq(local_acquire(pool, local, &request, &seq), -EDQUOT);
	ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_CLAIMED);
	limit_write(entry, BERTH_LIMIT_NONE);
	ck_assert_int_eq(counter_bump(map, top->account), 0);
	ck_assert_uint_eq(place_account(newest_of(local->number).place), path->level[0].account);
	pool_return(pool, local);
}

/* The record has held a slot on one path, and then an acquire with it was refused on a second path.
 * After that, the slot is acquired. Each of the two paths may be the slot's own path. */
START_TEST(a_slot_is_released_at_its_own_path_wherever_its_record_rested_before) {
	const size_t n = ELEMENTS(paths);
	struct held slot = use(&path1);

	for (size_t i = 0; i < n * n * n; i++) {
		struct local_slot *local = slot.local;
		int variant = (int)(i / 2 % 3);

		slot = hold(paths[i % n], 1);
		ck_assert_int_eq(release(&slot), 0);
		acquire_refused(paths[i / n % n]);
		check_no_counts();
		slot = hold(paths[i / n / n], 1);
		ck_assert_ptr_eq(slot.local, local);
		if (variant == 1)
			ck_assert_int_eq(revoke_record(slot.record), 0);
		ck_assert_int_eq(release(&slot), variant == 1 ? -ECANCELED : 0);
		ck_assert_int_eq(release(&slot), -ENOENT);
		check_no_counts();
	}
}
END_TEST

START_TEST(a_revoked_record_is_used_again_only_after_its_holder_was_told) {
	struct held revoked = hold(&path1, 1), slot;

	ck_assert_int_eq(revoke_record(revoked.record), 0);
	while (acquire(&slot) == 0)
		ck_assert_uint_ne(slot.record, revoked.record);
	ck_assert_int_eq(release(&revoked), -ECANCELED);
	slot = hold(&path1, 1);
	ck_assert_uint_eq(slot.record, revoked.record);
}
END_TEST

/* -- lack of memory ---------------------------------------------------------------------------- */

/* Overwrites the cell's tag as another process does whose records this process can't map. */
static void overwrite_tag_from_far(const struct level *l) {
	const uint32_t far = SLOTS - 5;
	struct pair seen = cell_load(l->cell);

	ck_assert_int_eq(counter_note(f.map, seen.second), 0);
	ck_assert(cas16(&l->cell->count, seen, (struct pair){seen.first, tag_pack(far, 64)}));
}

START_TEST(a_release_without_memory_is_finished_by_berthd_and_reported_once) {
	const struct path *path = paths[_i / 3];
	struct held slot;
	int variant = _i % 3;

	map_close_files(map);
	slot = hold(path, 2);
	overwrite_tag_from_far(&path->level[path->depth - 1]);
	ck_assert(!local_claim_finished(slot.local));
	ck_assert_int_eq(release_unpooled(&slot), -ENOMEM);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), tag_of(&slot));
	ck_assert(place_state(words_of(slot.record).place) == RECORD_SEIZED);
	check_charged(path, path->depth, 2);
	/* The release was begun. Until berthd has finished it, each call that releases the slot
	 * fails. */
	ck_assert_int_eq(release_unpooled(&slot), -ENOMEM);
	ck_assert(!pool_is_idle());
	ck_assert_int_eq(variant == 1 ? counter_finish(f.map, slot.record)
				      : counter_finish_seized(f.map, slot.record),
		0);
	check_no_counts();
	if (variant == 0) {
		ck_assert(local_claim_finished(slot.local));
	} else {
		ck_assert_int_eq(release_unpooled(&slot), 0);
	}
	ck_assert(!local_claim_finished(slot.local));
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	ck_assert_int_eq(release_unpooled(&slot), -ENOENT);
	pool_return(pool, slot.local);
	/* If the record's next slot is revoked, its release reports the revocation as usual. */
	slot = hold(&path2, 1);
	ck_assert(!local_claim_finished(slot.local));
	ck_assert_int_eq(revoke_record(slot.record), 0);
	ck_assert_int_eq(release(&slot), -ECANCELED);
	check_stack(RECORDS);
}
END_TEST

/* After the release has discharged the top level, it lacks the memory for the next level. */
START_TEST(a_release_that_lacks_memory_halfway_is_finished_by_berthd) {
	struct held slot;

	map_close_files(map);
	slot = hold(&path3, 2);
	overwrite_tag_from_far(&path3.level[1]);
	ck_assert_int_eq(release_unpooled(&slot), -ENOMEM);
	check_charged(&path3, 2, 2);
	ck_assert_int_eq(release_unpooled(&slot), -ENOMEM);
	ck_assert_int_eq(counter_finish_seized(f.map, slot.record), 0);
	check_no_counts();
	ck_assert(local_claim_finished(slot.local));
	ck_assert_int_eq(release_unpooled(&slot), -ENOENT);
	pool_return(pool, slot.local);
	check_stack(RECORDS);
}
END_TEST

START_TEST(a_release_of_more_than_the_count_is_reported_and_loses_no_record) {
	const struct path *path = paths[_i];
	struct held slot = hold(path, 3);

	for (uint32_t k = 0; k < path->depth; k++) {
		struct pair seen = cell_load(path->level[k].cell);

		ck_assert_int_eq(counter_repair(map, path->level[k].account, seen, 2), 0);
	}
	ck_assert_int_eq(release_unpooled(&slot), -EUCLEAN);
	ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
	pool_return(pool, slot.local);
	ck_assert_int_eq(release(&slot), -ENOENT);
	check_charged(path, path->depth, 2);
	ck_assert_uint_eq(seq_step(newest_of(slot.record).seq), 0);
	check_stack(RECORDS);
}
END_TEST

START_TEST(the_records_of_a_closed_session_take_no_slots) {
	struct held slot;

	for (uint32_t n = FIRST; n < END; n++)
		ck_assert_int_eq(counter_close(map, n), 0);
	ck_assert_int_eq(acquire(&slot), -ESHUTDOWN);
	check_stack(RECORDS);
	check_no_counts();
}
END_TEST

/* The record holds a slot, is seized, or is overwritten with noise. */
START_TEST(an_unusable_record_stays_claimed_by_the_caller) {
	struct held slot, again;

	for (int variant = 0; variant < 3; variant++) {
		slot = hold(&path3, 1);
		store_release(&slot.local->token, TOKEN_CLAIMED);
		if (variant == 1)
			counter_seize(map, slot.record);
		else if (variant == 2)
			store_relaxed(&map_record(map, slot.record)->noted, BERTH_SEQ_MASK + 1);
		for (size_t i = 0; i < ELEMENTS(paths); i++) {
			ck_assert_int_eq(acquire_with(slot.local, paths[i], 1, &again), -EAGAIN);
			ck_assert_uint_eq(load_relaxed(&slot.local->token), TOKEN_CLAIMED);
		}
		check_charged(&path3, 3, (uint32_t)variant + 1);
	}
}
END_TEST

START_TEST(forgetting_a_slot_reports_it_once_and_changes_no_count) {
	struct held slot = hold(&path1, 1);

	ck_assert_int_eq(forget(&slot), -ECANCELED);
	ck_assert_int_eq(forget(&slot), -ENOENT);
	ck_assert_int_eq(release(&slot), -ENOENT);
	ck_assert_uint_eq(counter_count(map, path1.level[0].account), 1);
	slot.record = 5 * BERTH_RANGE;
	ck_assert_int_eq(forget(&slot), -ENOENT);
}
END_TEST

START_TEST(releasing_all_slots_discharges_every_level) {
	struct held slot;

	for (int i = 0; i < 20; i++)
		slot = hold(paths[i % 3], 1);
	ck_assert_int_eq(release(&slot), 0);
	pool_release_all(pool);
	check_no_counts();
	for (uint32_t n = FIRST; n < END; n++)
		ck_assert_uint_eq(charged_by(n), 0);
	ck_assert_int_eq(release(&slot), -ENOENT);
	check_stack(RECORDS);
}
END_TEST

/* -- the session's end ------------------------------------------------------------------------- */

START_TEST(a_pool_without_held_or_claimed_records_is_idle) {
	struct held slot;
	struct local_slot *spent, *owned;

	ck_assert(pool_is_idle());
	for (uint32_t i = 0; i < 20; i++) {
		slot = hold(paths[i % 4], 1);
		ck_assert_int_eq(release(&slot), 0);
		ck_assert(pool_is_idle());
	}
	/* No thread uses a record that is retired. */
	spent = slot.local;
	use_up_seqs(spent->number);
	slot = use(&path1);
	ck_assert_uint_eq(load_relaxed(&spent->token), TOKEN_RETIRED);
	ck_assert(pool_is_idle());
	/* pool_close() ignores records that a cache has, since threads_keep_out() checks them. */
	ck_assert_int_eq(pool_claim(pool, &owned), 0);
	store_release(&owned->token, UINT64_C(3) << 4 | TOKEN_OWNED);
	ck_assert(pool_is_idle());
	store_release(&owned->token, TOKEN_SPARE);
	ck_assert(pool_is_idle());
	check_no_counts();
}
END_TEST

START_TEST(a_pool_with_a_slot_or_a_claim_is_not_idle) {
	struct held slot;
	struct local_slot *local;

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		slot = hold(paths[i], 1);
		ck_assert(!pool_is_idle());
		ck_assert_int_eq(release_unpooled(&slot), 0);
		ck_assert(!pool_is_idle());
		pool_return(pool, slot.local);
		ck_assert(pool_is_idle());
	}
	ck_assert_int_eq(pool_claim(pool, &local), 0);
	ck_assert(!pool_is_idle());
	pool_return(pool, local);
	ck_assert(pool_is_idle());
	/* The slot is revoked, and its holder doesn't know it yet. */
	slot = hold(&path3, 1);
	ck_assert_int_eq(revoke_record(slot.record), 0);
	ck_assert(!pool_is_idle());
	ck_assert_int_eq(release(&slot), -ECANCELED);
	ck_assert(pool_is_idle());
}
END_TEST

/* A thread wants a slot on a path. It claims a record that is free, or rests on this path, or rests
 * on another path. It reads the record and the cells, and is stopped. Then its session ends, and
 * the next session gets the range. With the record the next session holds a slot, perhaps on the
 * same path. */
START_TEST(a_thread_of_an_ended_session_changes_no_record_of_the_next_session) {
	const struct path *before = _i % 3 == 0 ? NULL : paths[_i % 3];
	const struct path *path = paths[1], *theirs = paths[_i / 3];
	struct slot_request request = {.path = path, .weight = 1};
	const struct record_at at = {map_record(map, 20), 20};
	struct snapshot words;
	struct pair record, cell;
	uint64_t base, seq, mine;

	if (before) {
		record_use(20, before, 1);
	}
	ck_assert_int_eq(counter_check(map, path, 1, request.seen), 0);
	words = words_of(20);
	record = (struct pair){words.place, words.seq};
	cell = cell_load(path->level[0].cell);
	base = newest_of(20).seq;

	record_renew(20);
	record_use(20, theirs, 1);
	seq = record_hold(20, theirs, 1);

	/* The thread's next step fails. The step is A1 if the record rested at the path, else
	 * P1. */
	ck_assert(!cas16(&at.record->place, record,
		(struct pair){place_pack(RECORD_PLACED, path->depth - 1, 1, path->level[0].account),
			base + BERTH_CYCLE}));
	if (before == path)
		ck_assert(!level_charge(
			map, &path->level[0], cell, 1, tag_pack(20, seq_up(base, 0))));
	ck_assert_int_eq(counter_acquire(map, at, &request, &mine), -EAGAIN);
	ck_assert_int_lt(counter_acquire_continue(map, at, &request, 1, seq_up(base, 2)), 0);
	ck_assert(snapshot_is_held(newest_of(20)));
	ck_assert_uint_eq(newest_of(20).seq, seq);
	for (uint32_t k = 0; k < path->depth; k++)
		ck_assert_uint_eq(counter_count(map, path->level[k].account),
			theirs == &path8 ? 1 : theirs == path);
	record_release(20, seq);
	check_no_counts();
}
END_TEST

/* -- threads ----------------------------------------------------------------------------------- */

static pthread_barrier_t barrier;

/* Runs the function in THREADS threads at once. Each thread may store an error in its int. */
static void threads_run(void *(*function)(void *failed)) {
	pthread_t thread[THREADS];
	int failed[THREADS] = {0};

	(void)pthread_barrier_init(&barrier, NULL, THREADS);
	for (size_t i = 0; i < THREADS; i++)
		thread_start(&thread[i], function, &failed[i]);
	for (size_t i = 0; i < THREADS; i++) {
		(void)pthread_join(thread[i], NULL);
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	}
}

/* Acquires a slot. The path and the weight change every few turns, so that threads place records
 * while other threads use the same cells. */
static int acquire_any(int turn, struct held *ret) {
	return acquire_on(paths[turn / 7 % (int)ELEMENTS(paths)], 1 + turn / 50 % 2, ret);
}

/* The threads want more slots than there are records, so that the stack is empty at times. */
static void *churn_main(void *arg) {
	struct held held[10];
	int *failed = arg;
	size_t n = 0;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < ROUNDS; i++) {
		int r = n < ELEMENTS(held) ? acquire_any(i, &held[n]) : -ENOBUFS;

		if (r == 0)
			n++;
		else if (r != -ENOBUFS)
			*failed = r;
		else if (n > 0 && release(&held[--n]) != 0)
			*failed = -1;
	}
	while (n > 0)
		if (release(&held[--n]) != 0)
			*failed = -1;
	return NULL;
}

START_TEST(no_record_is_lost_while_threads_empty_and_fill_the_pool) {
	threads_run(churn_main);
	check_no_counts();
	check_stack(RECORDS);
}
END_TEST

/* For each record: 1 while a thread has the record, otherwise 0. */
static _Atomic int record_users[END];

/* Takes records from the stack and puts them back, without slots. */
static void *shuffle_main(void *arg) {
	struct local_slot *mine[12];
	int *failed = arg;
	size_t n = 0;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20 * ROUNDS && *failed == 0; i++) {
		bool takes = i % 25 < 12 ? n < ELEMENTS(mine) : false;
		int none = 0, r = takes ? pool_claim(pool, &mine[n]) : 0;

		if (takes && r == 0) {
			if (!atomic_compare_exchange_strong(
				    &record_users[mine[n]->number], &none, 1) ||
				load_relaxed(&mine[n]->token) != TOKEN_CLAIMED)
				*failed = 1;
			n++;
		} else if (r != 0 && r != -ENOBUFS) {
			*failed = r;
		} else if (n > 0) {
			/* Put records back in another order. */
			struct local_slot *local = mine[(size_t)i % n];

			mine[(size_t)i % n] = mine[n - 1];
			n--;
			if (atomic_exchange(&record_users[local->number], 0) != 1)
				*failed = 2;
			pool_return(pool, local);
		}
	}
	while (n > 0) {
		if (atomic_exchange(&record_users[mine[--n]->number], 0) != 1)
			*failed = 3;
		pool_return(pool, mine[n]);
	}
	return NULL;
}

START_TEST(threads_take_no_record_from_the_stack_twice_and_lose_none) {
	threads_run(shuffle_main);
	check_stack(RECORDS);
}
END_TEST

/* All records but four hold slots. The threads use these four in turn. So a thread overwrites tags
 * that tell another thread which levels its record has charged. */
static void *acquire_and_release_main(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20 * ROUNDS && *failed == 0; i++) {
		struct held slot;
		int r = acquire_on(i / 5000 % 3 ? &path1 : &path3, 1, &slot);

		if (r == 0)
			r = release(&slot);
		if (r != -ENOBUFS && r != -EAGAIN)
			*failed = r;
	}
	return NULL;
}

START_TEST(an_acquire_is_not_reported_as_revoked_because_of_other_threads) {
	struct held held[RECORDS - 4];
	for (size_t i = 0; i < ELEMENTS(held); i++)
		ck_assert_int_eq(acquire_on(&path2, 1, &held[i]), 0);
	threads_run(acquire_and_release_main);
	pool_release_all(pool);
	check_no_counts();
}
END_TEST

/* All records but one hold slots, and every thread tries to claim the free one. */
#define CONTESTS 100000

static _Atomic int claims;

static void *contest_main(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < CONTESTS && *failed == 0; i++) {
		struct held slot;
		int r = acquire_any(i, &slot);

		if (r == -ENOBUFS)
			continue;
		if (r != 0 || atomic_fetch_add(&claims, 1) != 0)
			*failed = r != 0 ? r : 1;
		(void)atomic_fetch_sub(&claims, 1);
		if (release(&slot) != 0)
			*failed = 2;
	}
	return NULL;
}

START_TEST(the_last_record_is_claimed_by_one_thread_at_a_time) {
	struct held held[RECORDS - 1];
	hold_all(held, ELEMENTS(held));
	threads_run(contest_main);
	release_all(held, ELEMENTS(held));
	check_no_counts();
}
END_TEST

#define POOLS 40

static _Atomic bool grown;

static void *acquire_until_grown_main(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (bool last = false; !last;) {
		struct held slot;
		int r;

		last = atomic_load(&grown);
		r = acquire(&slot);
		if (r == 0)
			r = release(&slot);
		if (r != 0 && r != -ENOBUFS && r != -EAGAIN)
			*failed = r;
	}
	return NULL;
}

/* The pool begins without ranges, so that the threads use the stack, the table and the ranges while
 * these are made. If two accesses lack an order, ThreadSanitizer reports them even on a processor
 * that would never reorder them. */
static void pool_grow_under_threads(uint32_t first) {
	pthread_t thread[THREADS];
	int failed[THREADS] = {0};

	pool_free(pool);
	ck_assert_int_eq(pool_new(map, NUMBERS, &pool), 0);
	atomic_store(&grown, false);
	for (size_t i = 0; i < THREADS; i++)
		thread_start(&thread[i], acquire_until_grown_main, &failed[i]);
	(void)pthread_barrier_wait(&barrier);
	for (uint32_t n = 0; n < 3; n++) {
		range_grant(first + n);
		sched_yield();
	}
	atomic_store(&grown, true);
	for (size_t i = 0; i < THREADS; i++) {
		(void)pthread_join(thread[i], NULL);
		ck_assert_msg(failed[i] == 0, "thread %zu: %d", i, failed[i]);
	}
}

START_TEST(threads_use_the_pool_while_ranges_are_added) {
	(void)pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (uint32_t i = 0; i < POOLS; i++)
		pool_grow_under_threads(RANGES + 1 + 3 * i);
	ck_assert_uint_eq(counter_count(map, path1.level[0].account), 0);
	ck_assert(pool_is_idle());
}
END_TEST

/* Two threads release the same slot at the same time. */
#define DUELS 20000

static struct held duel_slot;
static _Atomic int duel_number, duels_ended;

/* Waits for a time that depends on n, so that sometimes this thread is first, and sometimes the
 * rival. */
static void delay(int n) {
	for (int i = 0; i < n % 512; i++)
		(void)atomic_load(&duels_ended);
}

static void *duel_main(void *arg) {
	int *result = arg;

	for (int n = 1; n <= DUELS; n++) {
		for (int i = 0; atomic_load(&duel_number) < n; i++)
			if (i % 10000 == 9999)
				sched_yield();
		delay(n * 37);
		result[n] = release(&duel_slot);
		atomic_store(&duels_ended, n);
	}
	return NULL;
}

/* Releases the slot at the same time as the rival, and returns this thread's result. */
static int duel_fight(int n) {
	int mine;

	delay(n * 101);
	mine = release(&duel_slot);
	while (atomic_load(&duels_ended) < n)
		sched_yield();
	return mine;
}

START_TEST(of_two_concurrent_releases_of_a_slot_one_succeeds_and_the_other_is_refused) {
	static int theirs[DUELS + 1];
	pthread_t thread;

	thread_start(&thread, duel_main, theirs);
	for (int n = 1; n <= DUELS; n++) {
		int mine;

		duel_slot = hold(paths[_i], 1);
		atomic_store(&duel_number, n);
		mine = duel_fight(n);
		/* One release returns 0, the other -ENOENT. */
		ck_assert_msg(mine + theirs[n] == -ENOENT && mine * theirs[n] == 0,
			"duel %d: the releases return %d and %d", n, mine, theirs[n]);
	}
	threads_join(&thread, 1);
	check_no_counts();
}
END_TEST

/* Calls counter_finish(), as a recount may do at any moment of an acquire or a release. */
static void *finish_until_stopped(void *arg) {
	const uint32_t *record = arg;

	while (!atomic_load(&grown)) {
		int r = counter_finish(map, *record);

		if (r < 0 && r != -EAGAIN)
			return arg;
	}
	return NULL;
}

/* A release that counter_finish() finished isn't reported as a revocation. */
START_TEST(finishing_a_record_again_and_again_changes_no_acquire_and_no_release) {
	pthread_t thread;
	void *failed;

	duel_slot = use(paths[_i]);
	atomic_store(&grown, false);
	thread_start(&thread, finish_until_stopped, &duel_slot.record);
	for (int n = 0; n < 20 * DUELS; n++)
		(void)use(paths[_i]);
	atomic_store(&grown, true);
	(void)pthread_join(thread, &failed);
	ck_assert_ptr_null(failed);
	check_no_counts();
}
END_TEST

static int revoke_result[DUELS + 1];
static _Atomic int revokes_asked, revokes_ended;

static void *revoke_main(void *arg) {
	(void)arg;
	for (int n = 1; n <= DUELS; n++) {
		for (int i = 0; atomic_load(&revokes_asked) < n; i++)
			if (i % 10000 == 9999)
				sched_yield();
		/* This thread has the CPU now, so this thread begins the duel. A thread that had to
		 * be woken first would be too late each time. */
		atomic_store(&duel_number, n);
		if (n % 2)
			sched_yield();
		delay(n * 53);
		revoke_result[n] = revoke_record(duel_slot.record);
		atomic_store(&revokes_ended, n);
	}
	return NULL;
}

/* Two threads release a slot while berthd revokes it. One of the three discharges the slot. If
 * berthd discharges it, exactly one release returns -ECANCELED; otherwise exactly one release
 * returns 0. */
START_TEST(two_concurrent_releases_and_a_revocation_discharge_a_slot_once) {
	static int theirs[DUELS + 1];
	int revoked = 0;
	pthread_t rival, daemon;

	thread_start(&rival, duel_main, theirs);
	thread_start(&daemon, revoke_main, NULL);
	for (int n = 1; n <= DUELS; n++) {
		int mine, expected;

		duel_slot = hold(paths[_i], 1);
		atomic_store(&revokes_asked, n);
		while (atomic_load(&duel_number) < n)
			sched_yield();
		mine = duel_fight(n);
		while (atomic_load(&revokes_ended) < n)
			sched_yield();
		expected = revoke_result[n] == 0 ? -ECANCELED : 0;
		revoked += revoke_result[n] == 0;
		ck_assert_msg(revoke_result[n] == 0 || revoke_result[n] == -EAGAIN,
			"duel %d: the revoke returns %d", n, revoke_result[n]);
		ck_assert_msg((mine == expected && theirs[n] == -ENOENT) ||
				      (mine == -ENOENT && theirs[n] == expected),
			"duel %d: the releases return %d and %d, the revoke %d", n, mine, theirs[n],
			revoke_result[n]);
	}
	threads_join(&rival, 1);
	threads_join(&daemon, 1);
	check_no_counts();
	printf("%d of %d revoked\n", revoked, DUELS);
}
END_TEST

/* -- more than two releases -------------------------------------------------------------------- */

#define CONTESTS_OF_ALL 3000

static pthread_barrier_t release_begins, release_ends;

struct release_results {
	int result[CONTESTS_OF_ALL];
};

static void *release_main(void *arg) {
	struct release_results *me = arg;

	for (int n = 0; n < CONTESTS_OF_ALL; n++) {
		(void)pthread_barrier_wait(&release_begins);
		me->result[n] = release_unpooled(&duel_slot);
		(void)pthread_barrier_wait(&release_ends);
	}
	return NULL;
}

static int results_count(const struct release_results *all, int n, int result) {
	int found = 0;

	for (int i = 0; i < THREADS; i++)
		found += all[i].result[n] == result;
	return found;
}

/* Before the releases, the slot is sometimes revoked, and sometimes its session ends. */
START_TEST(of_many_concurrent_releases_of_a_slot_one_reports_what_happened_to_it) {
	static struct release_results all[THREADS];
	pthread_t thread[THREADS];

	(void)pthread_barrier_init(&release_begins, NULL, THREADS + 1);
	(void)pthread_barrier_init(&release_ends, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		thread_start(&thread[i], release_main, &all[i]);
	for (int n = 0; n < CONTESTS_OF_ALL; n++) {
		int variant = n % 64 == 63 && n < 64 * 20 ? 2 : n % 2;

		duel_slot = hold(paths[_i], 1);
		if (variant == 1)
			ck_assert_int_eq(revoke_record(duel_slot.record), 0);
		else if (variant == 2)
			ck_assert_int_eq(counter_close(map, duel_slot.record), 0);
		(void)pthread_barrier_wait(&release_begins);
		(void)pthread_barrier_wait(&release_ends);
		ck_assert_int_eq(results_count(all, n, variant > 0 ? -ECANCELED : 0), 1);
		ck_assert_int_eq(results_count(all, n, -ENOENT), THREADS - 1);
		ck_assert_uint_eq(
			token_of(duel_slot.record), variant == 2 ? TOKEN_RETIRED : TOKEN_CLAIMED);
		if (variant == 2)
			ck_assert_int_eq(counter_open(map, duel_slot.record), 0);
		else
			pool_return(pool, duel_slot.local);
	}
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(thread[i], NULL);
	check_no_counts();
	check_stack(RECORDS - 20);
}
END_TEST

static _Atomic bool stop;

/* If `arg` is NULL, revokes the slots that berthctl would revoke: those that are held or being
 * acquired. If it isn't NULL, tries to revoke the slot of every record, whatever its state is. */
static void *revoke_all_main(void *arg) {
	struct snapshot seen;

	while (!atomic_load(&stop))
		for (uint32_t n = FIRST; n < END; n++)
			if (counter_record(map, n, &seen) == 0 && (arg || seq_step(seen.seq) != 0))
				(void)counter_revoke(map, n, seen);
	return NULL;
}

/* Each acquired slot is reported exactly once, as released or as revoked. berthd also revokes in
 * the middle of an acquire or a release, and tries to revoke records at rest. */
static void *churn_revoked_main(void *arg) {
	int *failed = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < ROUNDS; i++) {
		struct held slot;
		int r = acquire_any(i, &slot);

		if (r == 0)
			r = release(&slot);
		else if (r == -ENOBUFS || r == -EAGAIN)
			continue;
		if (r != 0 && r != -ECANCELED)
			*failed = r;
	}
	return NULL;
}

START_TEST(revoking_while_threads_run_loses_neither_counts_nor_records) {
	pthread_t daemon;

	thread_start(&daemon, revoke_all_main, _i ? &stop : NULL);
	threads_run(churn_revoked_main);
	atomic_store(&stop, true);
	threads_join(&daemon, 1);
	check_no_counts();
	/* If a record is seized right after its slot was acquired, it is retired (see the test
	 * a_seized_slot_is_reported_as_revoked_once). */
	printf("%u retired\n", locals_with(TOKEN_RETIRED));
	check_stack(RECORDS - locals_with(TOKEN_RETIRED));
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{every_record_is_handed_out_once_before_the_pool_is_empty},
		{the_record_that_was_put_back_last_is_taken_next},
		{a_record_is_used_again_without_being_written, 0, 4},
		{a_held_record_is_not_handed_out_again},
		{a_record_that_has_used_up_its_seqs_is_passed_over, 0, 3},
		{a_pool_whose_records_have_all_used_up_their_seqs_is_empty},
		{the_last_cycle_of_a_record_can_end_in_every_way, 0, 3},
		{a_record_without_seqs_stays_unusable_however_often_it_is_granted},
		{a_full_pool_finds_the_one_record_that_was_released},
		{a_pool_uses_a_range_that_is_added},
		{an_invalid_or_known_range_is_refused},
		{a_range_that_can_t_be_mapped_is_reported_as_a_lack_of_memory},
		{a_token_is_a_slot_or_one_of_the_other_values},
		{a_record_has_a_token_for_each_place, 0, 4},
		{a_stack_top_that_comes_back_is_not_taken_for_the_old_one},
		{a_slot_of_any_depth_is_charged_and_discharged_at_every_level, 0, 2},
		{a_release_goes_on_from_any_level},
		{a_slot_is_discharged_once_whatever_ends_it_first, 0, 4},
		{a_second_release_is_refused},
		{a_second_release_is_refused_after_the_account_was_removed},
		{a_released_slot_does_not_release_the_next_slot_of_its_record},
		{a_revocation_is_reported_once},
		{a_seized_slot_is_reported_as_revoked_once},
		{a_release_that_berthd_finishes_is_not_reported_as_a_revocation, 0, 2},
		{a_slot_is_released_at_its_own_path_wherever_its_record_rested_before},
		{a_revoked_record_is_used_again_only_after_its_holder_was_told},
		{a_release_without_memory_is_finished_by_berthd_and_reported_once, 0, 12},
		{a_release_that_lacks_memory_halfway_is_finished_by_berthd},
		{a_release_of_more_than_the_count_is_reported_and_loses_no_record, 0, 4},
		{an_unusable_record_stays_claimed_by_the_caller},
		{the_records_of_a_closed_session_take_no_slots},
		{forgetting_a_slot_reports_it_once_and_changes_no_count},
		{releasing_all_slots_discharges_every_level},
		{a_pool_without_held_or_claimed_records_is_idle},
		{a_pool_with_a_slot_or_a_claim_is_not_idle},
		{a_thread_of_an_ended_session_changes_no_record_of_the_next_session, 0, 9},
		{no_record_is_lost_while_threads_empty_and_fill_the_pool},
		{threads_take_no_record_from_the_stack_twice_and_lose_none},
		{an_acquire_is_not_reported_as_revoked_because_of_other_threads},
		{the_last_record_is_claimed_by_one_thread_at_a_time},
		{threads_use_the_pool_while_ranges_are_added},
		{of_two_concurrent_releases_of_a_slot_one_succeeds_and_the_other_is_refused, 0, 3},
		{finishing_a_record_again_and_again_changes_no_acquire_and_no_release, 1, 3},
		{two_concurrent_releases_and_a_revocation_discharge_a_slot_once, 0, 3},
		{of_many_concurrent_releases_of_a_slot_one_reports_what_happened_to_it, 0, 3},
		{revoking_while_threads_run_loses_neither_counts_nor_records, 0, 2},
		{NULL},
	};

	return run_suites({"pool", tests, .setup = set_up, .teardown = tear_down});
}
