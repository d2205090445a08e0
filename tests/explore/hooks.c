/* SPDX-License-Identifier: MIT */

/*
 * Code that is compiled with -fsanitize=thread calls these functions, which replace those of
 * libtsan. Each function may first pause the coroutine. The access comes after the pause, and sees
 * what other coroutines did meanwhile. All accesses are made one after the other, so the effects of
 * weak memory ordering aren't explored.
 *
 * The functions report all writes to cells and records to audit.c. They also report a
 * compare-and-swap that succeeds although its word has changed, and changed back, since the
 * coroutine loaded the word.
 */

#include <string.h>

#include "audit.h"
#include "hooks.h"
#include "verdict.h"

int64_t accesses_left = NO_END, writes_left = NO_END, loads_left = NO_END;
uint64_t accesses, writes, failures;
uint32_t version[WORDS];

typedef unsigned __int128 u128;

/* No header declares the hooks: the compiler generates the calls. Most hooks ignore some
 * parameters. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wunused-parameter"

void hooks_reset(void) {
	memset(version, 0, sizeof(version));
	accesses_left = writes_left = loads_left = NO_END;
}

/* -- pausing ----------------------------------------------------------------------------------- */

static __attribute__((noinline)) void pause_here(void) {
	if (running)
		coroutine_pause();
	else
		accesses_left = writes_left = loads_left = NO_END;
}

static inline void point(void) {
	accesses++;
	if (__builtin_expect(--accesses_left < 0, 0))
		pause_here();
}

static inline void point_plain(const volatile void *p) {
	if (__builtin_expect(world_has(p), 0))
		point();
}

static inline uint32_t word_at(const volatile void *p) {
	return __builtin_expect(world_has(p), 1) ? world_word(p) : NO_WORD;
}

static inline uint32_t point_write(const volatile void *p) {
	uint32_t word = word_at(p);

	if (word != NO_WORD && __builtin_expect(--writes_left < 0, 0))
		pause_here();
	point();
	return word;
}

/* -- loads and stores -------------------------------------------------------------------------- */

static inline void loaded(const volatile void *p, size_t size) {
	uint32_t word = size == 8 ? word_at(p) : NO_WORD;

	if (word == NO_WORD)
		return;
	if (--loads_left < 0)
		accesses_left = 0;
	if (running)
		running->seen[word] = version[word];
	if (__builtin_expect(tracing, 0))
		trace_word(TRACE_LOAD, word, 0, *(const volatile uint64_t *)p);
}

static void changed(uint32_t word, uint64_t before, uint64_t after) {
	version[word] += before != after;
	if (running)
		running->seen[word] = version[word];
	if (tracing)
		trace_word(TRACE_WRITE, word, before, after);
}

/* Called after a write of up to eight bytes. */
static inline void stored(const volatile void *p, uint32_t word, uint64_t before, uint64_t after) {
	if (word != NO_WORD) {
		writes++;
		changed(word, before, after);
		audit_write(word);
	} else if (world_has(p)) {
		audit_other_write(p);
	}
}

static void swap_failed(uint32_t word, uint64_t wanted) {
	failures++;
	if (tracing)
		trace_word(TRACE_FAILED, word, wanted, 0);
}

/* Called for each word of a compare-and-swap that succeeds. */
static inline void swap_check(uint32_t word, bool alone) {
	if (running && running->seen[word] != version[word])
		audit_returned(word, alone);
}

/* -- plain accesses ---------------------------------------------------------------------------- */

#define PLAIN(name)                   \
	void __tsan_##name(void *p) { \
		point_plain(p);       \
	}
#define PLAIN_SIZES(name) \
	PLAIN(name##1) PLAIN(name##2) PLAIN(name##4) PLAIN(name##8) PLAIN(name##16)

PLAIN_SIZES(read)
PLAIN_SIZES(write)
PLAIN_SIZES(unaligned_read)
PLAIN_SIZES(unaligned_write)
PLAIN_SIZES(volatile_read)
PLAIN_SIZES(volatile_write)
PLAIN_SIZES(unaligned_volatile_read)
PLAIN_SIZES(unaligned_volatile_write)

void __tsan_init(void) {}
void __tsan_func_entry(void *p) {}
void __tsan_func_exit(void) {}
void __tsan_read_range(void *p, size_t size) {
	point_plain(p);
}
void __tsan_write_range(void *p, size_t size) {
	point_plain(p);
}
void __tsan_atomic_thread_fence(int order) {}
void __tsan_atomic_signal_fence(int order) {}

/* -- atomic accesses of up to eight bytes ------------------------------------------------------ */

#define FETCH(bits, type, name, expression)                                      \
	type __tsan_atomic##bits##_##name(volatile type *p, type v, int order) { \
		uint32_t word = point_write(p);                                  \
		type before = *p;                                                \
                                                                                 \
		*p = (type)(expression);                                         \
		stored(p, word, before, *p);                                     \
		return before;                                                   \
	}

/* Returns the former value. */
#define SWAP(bits, type)                                                       \
	static inline type swap##bits(volatile type *p, type wanted, type v) { \
		uint32_t word = point_write(p);                                \
		type before = *p;                                              \
                                                                               \
		if (before != wanted && word != NO_WORD)                       \
			swap_failed(word, wanted);                             \
		if (before != wanted)                                          \
			return before;                                         \
		if (word != NO_WORD)                                           \
			swap_check(word, true);                                \
		*p = v;                                                        \
		stored(p, word, before, v);                                    \
		return before;                                                 \
	}

#define COMPARE(bits, type, name)                                                \
	int __tsan_atomic##bits##_compare_exchange_##name(                       \
		volatile type *p, type *wanted, type v, int order, int failed) { \
		type before = swap##bits(p, *wanted, v);                         \
		int r = before == *wanted;                                       \
                                                                                 \
		*wanted = before;                                                \
		return r;                                                        \
	}

#define COMPARES(bits, type)                                                    \
	COMPARE(bits, type, strong)                                             \
	COMPARE(bits, type, weak)                                               \
	type __tsan_atomic##bits##_compare_exchange_val(                        \
		volatile type *p, type wanted, type v, int order, int failed) { \
		return swap##bits(p, wanted, v);                                \
	}

#define ATOMIC(bits, type)                                                      \
	type __tsan_atomic##bits##_load(const volatile type *p, int order) {    \
		point();                                                        \
		loaded(p, sizeof(type));                                        \
		return *p;                                                      \
	}                                                                       \
	void __tsan_atomic##bits##_store(volatile type *p, type v, int order) { \
		uint32_t word = point_write(p);                                 \
		type before = *p;                                               \
                                                                                \
		*p = v;                                                         \
		stored(p, word, before, v);                                     \
	}                                                                       \
	FETCH(bits, type, exchange, v)                                          \
	FETCH(bits, type, fetch_add, before + v)                                \
	FETCH(bits, type, fetch_sub, before - v)                                \
	FETCH(bits, type, fetch_and, (before & v))                              \
	FETCH(bits, type, fetch_or, before | v)                                 \
	FETCH(bits, type, fetch_xor, before ^ v)                                \
	FETCH(bits, type, fetch_nand, ~(before & v))                            \
	SWAP(bits, type)                                                        \
	COMPARES(bits, type)

ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

/* -- atomic accesses of sixteen bytes: two words ----------------------------------------------- */

static u128 swap128(volatile u128 *p, u128 wanted, u128 v) {
	uint32_t word = point_write(p);
	u128 before = *p;

	if (before != wanted && word != NO_WORD)
		swap_failed(word, (uint64_t)wanted);
	if (before != wanted)
		return before;
	if (word != NO_WORD) {
		swap_check(word, false);
		swap_check(word + 1, false);
	}
	*p = v;
	if (word != NO_WORD) {
		writes++;
		changed(word, (uint64_t)before, (uint64_t)v);
		changed(word + 1, (uint64_t)(before >> 64), (uint64_t)(v >> 64));
		audit_write(word);
	}
	return before;
}

COMPARES(128, u128)
