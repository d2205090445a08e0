/* SPDX-License-Identifier: MIT */
#pragma once

/* A segment and a directory of accounts, as files in the test's private directory (disk.h), without
 * a daemon. The words of records, cells and directory entries are defined in layout.h; the terms
 * and labels of the steps, such as R1, at the top of counter.c. */

#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "acquire.h"
#include "accounts.h"
#include "counter.h"
#include "disk.h"
#include "segment.h"

/* What the test that runs has open. */
static struct fixture {
	struct segment *segment;
	struct accounts *accounts;
	struct map *map; /* berthd's mapping */
} f;

static inline void fixture_open(const struct capacities *want) {
	ck_assert_int_eq(segment_open(dir, want, &f.segment), 0);
	ck_assert_int_eq(accounts_new(f.segment, &f.accounts), 0);
	f.map = f.segment->map;
}

static inline void fixture_new(const struct capacities *want) {
	dir_make();
	fixture_open(want);
}

static inline void fixture_close(void) {
	accounts_free(f.accounts);
	segment_close(f.segment);
}

static inline void fixture_free(void) {
	fixture_close();
	(void)unlink(dir_path("segment").text);
	(void)unlink(dir_path("directory").text);
	ck_assert_int_eq(rmdir(dir), 0);
}

/* Maps the segment and the directory as a client does. */
static inline struct map *fixture_map(void) {
	int segment = open(dir_path("segment").text, O_RDWR | O_CLOEXEC);
	int directory = open(dir_path("directory").text, O_RDONLY | O_CLOEXEC);
	struct map *map;

	ck_assert_int_eq(map_new(segment, directory, PROT_READ, &map), 0);
	return map;
}

/* Enlarges the segment until it has at least this number of records. */
static inline void fixture_grow_slots(uint32_t count) {
	while (load_relaxed(&f.segment->names->slots) < count)
		ck_assert_int_eq(segment_grow_slots(f.segment), 0);
}

/* -- accounts ---------------------------------------------------------------------------------- */

/* Sets a limit as berthd does after the store has committed it. */
static inline int fixture_configure(const char *name, uint32_t limit) {
	uint32_t account;
	int r = accounts_reserve(f.accounts, name, &account);

	if (r < 0)
		return r;
	r = accounts_configure(f.accounts, account, limit);
	accounts_unreserve(f.accounts, account);
	return r;
}

static inline void limit_set(const char *name, uint32_t limit) {
	ck_assert_int_eq(fixture_configure(name, limit), 0);
}

static inline void account_delete(const char *name) {
	ck_assert_int_eq(accounts_unconfigure(f.accounts, name), 0);
}

/* Returns the index of the account. Returns 0 if there is no such account. */
static inline uint32_t account_of(const char *name) {
	return accounts_find(f.accounts, name);
}

static inline uint64_t account_word(uint32_t account) {
	return directory_word(accounts_directory(f.accounts), account);
}

/* Returns the path, in this mapping, of an account that exists. */
static inline struct path path_in(struct map *map, const char *name) {
	uint32_t account = account_of(name);
	struct path path;

	ck_assert_uint_ne(account, 0);
	ck_assert_int_eq(
		directory_path(map, account, entry_generation(account_word(account)), &path), 0);
	return path;
}

static inline struct path path_of(const char *name) {
	return path_in(f.map, name);
}

/* Sets the account's limit and returns its path. */
static inline struct path path_with(const char *name, uint32_t limit) {
	limit_set(name, limit);
	return path_of(name);
}

/* Checks that each level of the path has this count. */
static inline void check_path(const struct path *path, uint32_t count) {
	for (uint32_t k = 0; k < path->depth; k++)
		ck_assert_uint_eq(counter_count(f.map, path->level[k].account), count);
}

static inline void check_no_counts(void) {
	for (uint32_t a = 1; a < directory_end(accounts_directory(f.accounts)); a++)
		ck_assert_msg(counter_count(f.map, a) == 0, "account %u holds %u", a,
			counter_count(f.map, a));
}

/* Overwrites the entry's limit and generation. Doesn't bump the account's cell (B1) as berthd
 * would. */
static inline void word_write(struct entry *e, uint32_t limit, uint32_t generation) {
	store_release(&e->word, entry_pack(limit, entry_flags(load_relaxed(&e->word)), generation));
}

static inline void limit_write(struct entry *e, uint32_t limit) {
	word_write(e, limit, entry_generation(load_relaxed(&e->word)));
}

static inline void generation_write(struct entry *e, uint32_t generation) {
	word_write(e, entry_limit(load_relaxed(&e->word)), generation);
}

/* -- records ----------------------------------------------------------------------------------- */

/* Opens `count` records from `first` on, as berthd opens the records of a range that it grants. */
static inline void records_open(uint32_t first, uint32_t count) {
	fixture_grow_slots(1);
	for (uint32_t n = first; n < first + count; n++)
		ck_assert_int_eq(counter_open(f.map, n), 0);
}

/* Closes the record, as at the end of its session, and opens it for another session. */
static inline void record_renew(uint32_t record) {
	ck_assert_int_eq(counter_close(f.map, record), 0);
	ck_assert_int_eq(counter_open(f.map, record), 0);
}

/* Acquires a slot with the record, and returns the slot's seq. */
static inline uint64_t record_hold(uint32_t record, const struct path *path, uint32_t weight) {
	const struct stamp stamp = {.since = 1, .label = "test"};
	uint64_t seq;

	ck_assert_int_eq(record_acquire(f.map, record, path, weight, &stamp, &seq), 0);
	return seq;
}

/* Tries to acquire a slot. Returns 0 on success, otherwise a negative errno. */
static inline int record_try(uint32_t record, const struct path *path, uint32_t weight) {
	const struct stamp stamp = {.since = 1};
	uint64_t seq;

	return record_acquire(f.map, record, path, weight, &stamp, &seq);
}

static inline void record_release(uint32_t record, uint64_t seq) {
	ck_assert_int_eq(counter_release(f.map, record, seq), 0);
}

/* Acquires and releases a slot. */
static inline void record_use(uint32_t record, const struct path *path, uint32_t weight) {
	record_release(record, record_hold(record, path, weight));
}

/* Returns the record's place and the seq of its newest step, even if only a cell's tag has this
 * seq. Some tests call this function a million times. So it doesn't use ck_assert(), which makes a
 * system call even if it succeeds. */
static inline struct snapshot newest_of(uint32_t record) {
	struct snapshot s;

	if (counter_record(f.map, record, &s) != 0)
		ck_abort_msg("record %u can't be read", record);
	return s;
}

/* Returns the record's own words, `place` and `noted`. Doesn't read the tags of cells. */
static inline struct snapshot words_of(uint32_t record) {
	const struct record *r = map_record(f.map, record);

	if (!r)
		ck_abort_msg("record %u can't be mapped", record);
	return (struct snapshot){load_total(&r->place), load_total(&r->noted)};
}

static inline bool same_words(struct snapshot a, struct snapshot b) {
	return a.place == b.place && a.seq == b.seq;
}

static inline void words_write(uint32_t record, struct snapshot s) {
	store_total(&map_record(f.map, record)->place, s.place);
	store_total(&map_record(f.map, record)->noted, s.seq);
}

/* Makes the first step of a release or a revocation of a slot of weight 1: discharges the top level
 * (R1). `cycles` must be 0 for a release. It must be 1 for a revocation, because the steps of a
 * revocation are in the next cycle. */
static inline void discharge_top(
	uint32_t record, const struct path *path, uint64_t seq, uint64_t cycles) {
	uint32_t top = path->depth - 1;
	struct pair seen = cell_load(path->level[top].cell);

	ck_assert(seen.second == tag_pack(record, seq));
	ck_assert(cas16(&path->level[top].cell->count, seen,
		(struct pair){seen.first - (UINT64_C(1) << BERTH_COUNT_SHIFT),
			tag_pack(record, seq_down(seq_base(seq) + cycles * BERTH_CYCLE, top))}));
}
