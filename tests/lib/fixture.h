/* SPDX-License-Identifier: MIT */
#pragma once

/* A segment and a directory in a private directory, without a daemon. */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "acquire.h"
#include "accounts.h"
#include "counter.h"
#include "segment.h"

struct fixture {
	char dir[40];
	struct segment *segment;
	struct accounts *accounts;
	struct map *map;
};

static inline void fixture_open(struct fixture *f, const struct capacities *want) {
	ck_assert_int_eq(segment_open(f->dir, want, &f->segment), 0);
	ck_assert_int_eq(accounts_new(f->segment, &f->accounts), 0);
	f->map = f->segment->map;
}

static inline void fixture_new(struct fixture *f, const struct capacities *want) {
	strcpy(f->dir, "/dev/shm/berth-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	fixture_open(f, want);
}

static inline void fixture_close(struct fixture *f) {
	accounts_free(f->accounts);
	segment_close(f->segment);
}

static inline void fixture_free(struct fixture *f) {
	char path[64];

	fixture_close(f);
	(void)snprintf(path, sizeof(path), "%s/segment", f->dir);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/directory", f->dir);
	(void)unlink(path);
	ck_assert_int_eq(rmdir(f->dir), 0);
}

/* Sets a limit, as after a commit of the store. */
static inline int fixture_configure(struct accounts *a, const char *name, uint32_t limit) {
	uint32_t account;
	int r = accounts_reserve(a, name, &account);

	if (r < 0)
		return r;
	r = accounts_configure(a, account, limit);
	accounts_unreserve(a, account);
	return r;
}

/* Loads a limit, as at the start of berthd. */
static inline int fixture_load(struct fixture *f, const char *text, uint32_t limit) {
	return accounts_load(f->accounts, text, limit);
}

/* Sets the account's limit and returns its path. */
static inline struct path fixture_path(struct fixture *f, const char *name, uint32_t limit) {
	struct path path;
	uint32_t account;

	ck_assert_int_eq(fixture_configure(f->accounts, name, limit), 0);
	account = accounts_find(f->accounts, name);
	ck_assert_uint_ne(account, 0);
	ck_assert_int_eq(
		directory_path(f->map, account,
			entry_generation(directory_word(accounts_directory(f->accounts), account)),
			&path),
		0);
	return path;
}

/* Opens `count` records from `first` on, as berthd does for a range that it grants. */
static inline void fixture_open_records(struct fixture *f, uint32_t first, uint32_t count) {
	if (load_relaxed(&f->segment->names->slots) == 0)
		ck_assert_int_eq(segment_grow_slots(f->segment), 0);
	for (uint32_t n = first; n < first + count; n++)
		ck_assert_int_eq(counter_open(f->map, n), 0);
}

/* Acquires a slot with the record, and returns its seq. */
static inline uint64_t fixture_acquire(
	struct fixture *f, uint32_t record, const struct path *path, uint32_t weight) {
	const struct stamp stamp = {0};
	uint64_t seq;

	ck_assert_int_eq(record_acquire(f->map, record, path, weight, &stamp, &seq), 0);
	return seq;
}

static inline void fixture_release(struct fixture *f, uint32_t record, uint64_t seq) {
	ck_assert_int_eq(counter_release(f->map, record, seq), 0);
}

/* Each level of the path has this count. */
static inline void fixture_check_counts(
	struct fixture *f, const struct path *path, uint32_t count) {
	for (uint32_t k = 0; k < path->depth; k++)
		ck_assert_uint_eq(counter_count(f->map, path->level[k].account), count);
}
