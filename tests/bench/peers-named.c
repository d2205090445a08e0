/* SPDX-License-Identifier: MIT */

/* Peers in shared memory that find names by their hash: semaphores, and a hash table under one
 * mutex, plain or robust. */

#include <sys/mman.h>

#include "bench.h"
#include "named.h"
#include "peer.h"

/* -- the table --------------------------------------------------------------------------------- */

void mutex_init(pthread_mutex_t *mutex, bool robust) {
	pthread_mutexattr_t attributes;

	(void)pthread_mutexattr_init(&attributes);
	(void)pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (robust)
		(void)pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	bench_check(pthread_mutex_init(mutex, &attributes) == 0, "pthread_mutex_init");
	(void)pthread_mutexattr_destroy(&attributes);
}

static size_t table_size(uint64_t mask) {
	return sizeof(struct named) + (mask + 1) * sizeof(struct named_entry);
}

struct named *named_new(unsigned names, enum named_lock lock) {
	struct named *n;
	uint64_t mask = 63;

	while (mask < 2ul * names)
		mask = 2 * mask + 1;
	n = bench_share(table_size(mask));
	n->mask = mask;
	mutex_init(&n->mutex, lock == NAMED_ROBUST);
	return n;
}

void named_free(struct named *n) {
	(void)munmap(n, table_size(n->mask));
}

void named_add(struct named *n, const char *name, uint32_t limit) {
	struct named_entry *e = named_find(n, name);
	size_t length = strlen(name);

	bench_check(length <= NAMED_NAME_MAX, "a name is too long for a peer");
	e->hash = XXH3_64bits(name, length) | 1;
	e->limit = limit;
	e->length = (uint32_t)length;
	memcpy(e->name, name, length);
}

static struct named *objects_new(enum named_lock lock) {
	struct named *n = named_new(OBJECTS, lock);

	for (unsigned i = 0; i < OBJECTS; i++)
		named_add(n, object_name(i), object_limit(i));
	return n;
}

/* -- a semaphore by name ----------------------------------------------------------------------- */

static struct named *semaphores;
static struct named_entry *taken;

static const char *semaphore_start(void) {
	semaphores = objects_new(NAMED_ATOMIC);
	return NULL;
}

static inline bool semaphore_take(unsigned object) {
	taken = named_take(semaphores, object_name(object));
	return taken;
}

static inline void semaphore_give(unsigned object) {
	(void)object;
	named_give(taken);
}

PEER_LOOPS(semaphore)

struct peer peer_named = {
	.name = "semaphore by name",
	.operations = "hash, compare, +1, -1",
	.loses = "its slots, for good",
	PEER_FUNCTIONS(semaphore),
};

/* -- a hash table under one mutex -------------------------------------------------------------- */

/* Defines the functions of a peer with a table of its own. */
#define TABLE_FUNCTIONS(peer, lock)                                   \
	static struct named *peer;                                    \
	static const char *peer##_start(void) {                       \
		peer = objects_new(lock);                             \
		return NULL;                                          \
	}                                                             \
	static inline bool peer##_take(unsigned object) {             \
		taken = named_take_locked(peer, object_name(object)); \
		return taken;                                         \
	}                                                             \
	static inline void peer##_give(unsigned object) {             \
		(void)object;                                         \
		named_give_locked(peer, taken);                       \
	}                                                             \
	PEER_LOOPS(peer)

TABLE_FUNCTIONS(plain, NAMED_PLAIN)

struct peer peer_table = {
	.name = "table under a mutex",
	.operations = "lock, hash, compare, count, unlock; lock, count, unlock",
	.loses = "its slots, for good; in the middle of it, the mutex",
	PEER_FUNCTIONS(plain),
};

TABLE_FUNCTIONS(robust, NAMED_ROBUST)

struct peer peer_table_robust = {
	.name = "table under a robust mutex",
	.operations = "the same with a mutex that tells of a death",
	.loses = "its slots, for good",
	PEER_FUNCTIONS(robust),
};
