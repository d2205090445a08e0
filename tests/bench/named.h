/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A hash table in shared memory, with open addressing and a counter for each name. People may write
 * such a table to count by name without berth. Either each counter is changed atomically, or one
 * mutex, plain or robust, protects the whole table. Names are added before counting begins, and
 * stay.
 *
 * The functions are inline, as they would be in the program that uses the table. A slot is released
 * through its entry, without another search.
 */

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define NAMED_NAME_MAX 44

/* A cache line. */
struct named_entry {
	_Alignas(64) uint64_t hash; /* 0: the entry is free */
	_Atomic uint32_t count;
	uint32_t limit;
	uint32_t length;
	char name[NAMED_NAME_MAX];
};
_Static_assert(sizeof(struct named_entry) == 64, "an entry is one cache line");

struct named {
	pthread_mutex_t mutex;
	uint64_t mask;
	struct named_entry entry[];
};

enum named_lock { NAMED_ATOMIC, NAMED_PLAIN, NAMED_ROBUST };

/* Makes a table that processes forked later share. Half of the table stays free. */
struct named *named_new(unsigned names, enum named_lock lock);
void named_free(struct named *n);
void named_add(struct named *n, const char *name, uint32_t limit);

/* Returns the entry of the name, or the free entry where the name belongs. */
static inline struct named_entry *named_find(struct named *n, const char *name) {
	size_t length = strlen(name);
	uint64_t hash = XXH3_64bits(name, length) | 1;

	for (uint64_t i = hash >> 1;; i++) {
		struct named_entry *e = &n->entry[i & n->mask];

		if (!e->hash || (e->hash == hash && e->length == length &&
					memcmp(e->name, name, length) == 0))
			return e;
	}
}

/* -- a semaphore by name ----------------------------------------------------------------------- */

/* Acquires a slot. NULL: the limit is reached. */
static inline struct named_entry *named_take(struct named *n, const char *name) {
	struct named_entry *e = named_find(n, name);
	uint32_t seen = atomic_load_explicit(&e->count, memory_order_relaxed);

	do
		if (seen >= e->limit)
			return NULL;
	while (!atomic_compare_exchange_weak_explicit(
		&e->count, &seen, seen + 1, memory_order_acquire, memory_order_relaxed));
	return e;
}

static inline void named_give(struct named_entry *e) {
	(void)atomic_fetch_sub_explicit(&e->count, 1, memory_order_release);
}

/* -- all under one mutex ----------------------------------------------------------------------- */

static inline void named_lock(struct named *n) {
	if (pthread_mutex_lock(&n->mutex) == EOWNERDEAD)
		(void)pthread_mutex_consistent(&n->mutex);
}

static inline void named_count(struct named_entry *e, uint32_t change) {
	uint32_t count = atomic_load_explicit(&e->count, memory_order_relaxed);

	atomic_store_explicit(&e->count, count + change, memory_order_relaxed);
}

static inline struct named_entry *named_take_locked(struct named *n, const char *name) {
	struct named_entry *e;

	named_lock(n);
	e = named_find(n, name);
	if (atomic_load_explicit(&e->count, memory_order_relaxed) < e->limit)
		named_count(e, 1);
	else
		e = NULL;
	(void)pthread_mutex_unlock(&n->mutex);
	return e;
}

static inline void named_give_locked(struct named *n, struct named_entry *e) {
	named_lock(n);
	named_count(e, UINT32_MAX);
	(void)pthread_mutex_unlock(&n->mutex);
}
