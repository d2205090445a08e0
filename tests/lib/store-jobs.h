/* SPDX-License-Identifier: MIT */
#pragma once

/* Stores limits and counts in the test's state directory, and reads them. store.h explains jobs and
 * their answers. */

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "store-new.h"

static char state[80]; /* the state directory */

static inline struct store *store_open(void) {
	struct store *s = NULL;

	ck_assert_int_eq(store_new(state, &s), 0);
	return s;
}

/* -- jobs -------------------------------------------------------------------------------------- */

struct answer {
	bool done;
	int error;
	unsigned place; /* the number of this answer in the test, from 1 */
};

static unsigned answers;

static inline void answer_take(void *data, int error) {
	struct answer *a = data;

	ck_assert(!a->done);
	*a = (struct answer){true, error, ++answers};
}

/* Waits for the answer, and returns its error. */
static inline int answer_await(struct store *s, const struct answer *a) {
	struct pollfd p = {.fd = store_fd(s), .events = POLLIN};

	while (!a->done) {
		ck_assert_int_ge(poll(&p, 1, -1), 0);
		store_dispatch(s);
	}
	return a->error;
}

static inline int put(struct store *s, const struct store_limit *limits, size_t count) {
	struct answer a = {0};

	ck_assert_int_eq(store_put_limits(s, limits, count, answer_take, &a), 0);
	return answer_await(s, &a);
}

static inline int put_one(struct store *s, const char *name, uint32_t limit) {
	return put(s, &(struct store_limit){name, limit}, 1);
}

/* The store frees both arrays. */
static inline int put_counts(
	struct store *s, struct store_count *counts, size_t count, char *names) {
	struct answer a = {0};

	ck_assert(counts && names);
	ck_assert_int_eq(store_put_counts(s, counts, count, names, answer_take, &a), 0);
	return answer_await(s, &a);
}

/* -- what is stored ---------------------------------------------------------------------------- */

/* `text` has "NAME=LIMIT " for each limit, or "NAME=COUNT/PEAK/DENIED " for each count. */
struct text {
	size_t used;
	char text[131072];
};

static inline int limit_print(void *data, const char *name, uint32_t limit) {
	struct text *t = data;

	t->used += (size_t)snprintf(
		t->text + t->used, sizeof(t->text) - t->used, "%s=%u ", name, limit);
	return t->used < sizeof(t->text) ? 0 : -ENOSPC;
}

static inline int count_print(
	void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied) {
	struct text *t = data;

	t->used += (size_t)snprintf(t->text + t->used, sizeof(t->text) - t->used, "%s=%u/%u/%llu ",
		name, count, peak, (unsigned long long)denied);
	return t->used < sizeof(t->text) ? 0 : -ENOSPC;
}

/* Opens the store again, and returns its limits as text in a static buffer. */
static inline const char *limits_stored(void) {
	static struct text t;
	struct store *s = store_open();

	t = (struct text){0};
	ck_assert_int_eq(store_read_limits(s, limit_print, &t), 0);
	store_free(s);
	return t.text;
}

static inline const char *counts_stored(void) {
	static struct text t;
	struct store *s = store_open();

	t = (struct text){0};
	ck_assert_int_eq(store_read_counts(s, SIZE_MAX, count_print, &t), 0);
	store_free(s);
	return t.text;
}
