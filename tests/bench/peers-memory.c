/* SPDX-License-Identifier: MIT */

/* Peers in shared memory that know no names and make no system call as long as no process has to
 * wait: bare compare-and-swaps, a semaphore, a robust mutex with a counter. */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>

#include "bench.h"
#include "peer.h"

static struct line {
	_Alignas(64) _Atomic uint64_t count;
	_Atomic uint64_t changes;
} * lines;

static struct { _Alignas(64) sem_t semaphore; } * semaphores;

static struct counter {
	_Alignas(64) pthread_mutex_t mutex;
	unsigned count, limit;
} * counters;

/* -- two compare-and-swaps --------------------------------------------------------------------- */

static const char *floor_start(void) {
	if (!lines)
		lines = bench_share(OBJECTS * sizeof(*lines));
	return NULL;
}

static inline void narrow_add(unsigned object, uint64_t change) {
	struct line *l = &lines[object];
	uint64_t seen = atomic_load_explicit(&l->count, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(
		&l->count, &seen, seen + change, memory_order_acq_rel, memory_order_relaxed))
		;
}

static void narrow_pairs(unsigned object, unsigned long n) {
	while (n-- > 0) {
		narrow_add(object, 1);
		narrow_add(object, UINT64_MAX);
	}
}

struct peer peer_floor_narrow = {
	.name = "two 8-byte compare-and-swaps",
	.operations = "+1, -1, no limit, no name",
	.loses = "its slots, for good; the floor, no way to count",
	.start = floor_start,
	.pairs = narrow_pairs,
};

#if defined(__x86_64__)
/* Changes both words of a line with one instruction. */
static inline bool wide_swap(
	struct line *l, uint64_t *count, uint64_t *changes, uint64_t new_count) {
	bool done;

	__asm__ volatile(
		"lock cmpxchg16b %1"
		: "=@ccz"(done), "+m"(*(unsigned __int128 *)(void *)l), "+a"(*count), "+d"(*changes)
		: "b"(new_count), "c"(*changes + 1)
		: "memory");
	return done;
}

static inline void wide_add(unsigned object, uint64_t change) {
	struct line *l = &lines[object];
	uint64_t count = atomic_load_explicit(&l->count, memory_order_relaxed);
	uint64_t changes = atomic_load_explicit(&l->changes, memory_order_relaxed);

	while (!wide_swap(l, &count, &changes, count + change))
		;
}

static void wide_pairs(unsigned object, unsigned long n) {
	while (n-- > 0) {
		wide_add(object, 1);
		wide_add(object, UINT64_MAX);
	}
}
#define wide_start floor_start
#else
#define wide_pairs NULL
static const char *wide_start(void) {
	return "written for x86-64 only";
}
#endif

struct peer peer_floor = {
	.name = "two 16-byte compare-and-swaps",
	.operations = "+1 and a change more, -1 and a change more, no limit, no name",
	.loses = "its slots, for good; the floor, no way to count",
	.start = wide_start,
	.pairs = wide_pairs,
};

/* -- sem_t ------------------------------------------------------------------------------------- */

static const char *sem_start(void) {
	semaphores = bench_share(OBJECTS * sizeof(*semaphores));
	for (unsigned i = 0; i < OBJECTS; i++)
		bench_check(
			sem_init(&semaphores[i].semaphore, 1, object_limit(i)) == 0, "sem_init");
	return NULL;
}

static inline bool sem_take(unsigned object) {
	if (sem_trywait(&semaphores[object].semaphore) == 0)
		return true;
	bench_check(errno == EAGAIN, "sem_trywait");
	return false;
}

static inline void sem_give(unsigned object) {
	bench_check(sem_post(&semaphores[object].semaphore) == 0, "sem_post");
}

PEER_LOOPS(sem)

struct peer peer_sem = {
	.name = "sem_t",
	.operations = "sem_trywait + sem_post",
	.loses = "its slots, for good",
	PEER_FUNCTIONS(sem),
};

/* -- a robust mutex ---------------------------------------------------------------------------- */

static const char *mutex_start(void) {
	counters = bench_share(OBJECTS * sizeof(*counters));
	for (unsigned i = 0; i < OBJECTS; i++) {
		mutex_init(&counters[i].mutex, true);
		counters[i].limit = object_limit(i);
	}
	return NULL;
}

static inline void counter_lock(struct counter *c) {
	int r = pthread_mutex_lock(&c->mutex);

	if (r == EOWNERDEAD)
		r = pthread_mutex_consistent(&c->mutex);
	bench_check(r == 0, "pthread_mutex_lock");
}

static inline bool mutex_take(unsigned object) {
	struct counter *c = &counters[object];
	bool is_free;

	counter_lock(c);
	is_free = c->count < c->limit;
	c->count += is_free;
	(void)pthread_mutex_unlock(&c->mutex);
	return is_free;
}

static inline void mutex_give(unsigned object) {
	struct counter *c = &counters[object];

	counter_lock(c);
	c->count--;
	(void)pthread_mutex_unlock(&c->mutex);
}

PEER_LOOPS(mutex)

struct peer peer_mutex = {
	.name = "robust mutex",
	.operations = "lock, count, unlock, twice",
	.loses = "its slots, for good",
	PEER_FUNCTIONS(mutex),
};
