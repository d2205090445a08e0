/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The operations on words that several processes or threads change at once.
 *
 * Every shared word is an _Atomic member, and the code touches it through the names below only.
 * Three kinds of order exist:
 *   relaxed            the operation is atomic, and orders nothing else
 *   acquire, release   a load_acquire() that reads the value of a store_release() also sees
 *                      everything that the storing thread wrote before. A comment at each such
 *                      place names its partner
 *   total              sequentially consistent: all threads see all these operations in one order
 * cas(), cas16() and exchange_total() have total order, for the reason that wake.h gives.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#define load_relaxed(p)      atomic_load_explicit((p), memory_order_relaxed)
#define load_acquire(p)      atomic_load_explicit((p), memory_order_acquire)
#define load_total(p)        atomic_load_explicit((p), memory_order_seq_cst)
#define store_relaxed(p, v)  atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_release(p, v)  atomic_store_explicit((p), (v), memory_order_release)
#define store_total(p, v)    atomic_store_explicit((p), (v), memory_order_seq_cst)
#define exchange_total(p, v) atomic_exchange_explicit((p), (v), memory_order_seq_cst)
#define add_relaxed(p, v)    atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define add_total(p, v)      atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define fence_acquire()      atomic_thread_fence(memory_order_acquire)
/* The compiler moves no access across this fence. That suffices between a thread and its signal
 * handler, before a fork, and where membarrier(2) orders the processor's accesses. */
#define fence_compiler() atomic_signal_fence(memory_order_seq_cst)

/* Compare-and-swap of 8 bytes, and of 4. True: *p was `old`, and is now `new`. */
static inline bool cas(_Atomic uint64_t *p, uint64_t old, uint64_t new) {
	return atomic_compare_exchange_strong_explicit(
		p, &old, new, memory_order_seq_cst, memory_order_relaxed);
}

static inline bool cas32(_Atomic uint32_t *p, uint32_t old, uint32_t new) {
	return atomic_compare_exchange_strong_explicit(
		p, &old, new, memory_order_seq_cst, memory_order_relaxed);
}

/* Compare-and-swap of a pointer. */
#define cas_pointer(p, old, new)                                                           \
	({                                                                                 \
		__typeof__(new) cas_old = (old);                                           \
		atomic_compare_exchange_strong_explicit(                                   \
			(p), &cas_old, (new), memory_order_seq_cst, memory_order_relaxed); \
	})

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "berth needs lock-free 64-bit atomics");

/* Pauses after a compare-and-swap has failed, so that other processes make progress. n: how many
 * failures came before. The pause doubles with n, up to about 1 µs. */
static inline void back_off(int n) {
	for (int i = 0; i < 1 << (n < 4 ? n : 4); i++) {
#if defined(__x86_64__)
		__builtin_ia32_pause();
#elif defined(__aarch64__)
		__asm__ volatile("isb");
#endif
	}
}

/* Two words that one compare-and-swap changes together. They are aligned to 16 bytes. */
struct pair {
	uint64_t first, second;
};

/* Compare-and-swap of 16 bytes. True: the two words at p were `old`, and are now `new`. False
 * doesn't prove that the words differed from `old`: on some machines the swap may fail without
 * cause. On amd64 and arm64 the function is written in assembly, because a compiler would call
 * libatomic, which may use a lock. */
static inline bool cas16_bare(_Atomic uint64_t *p, struct pair old, struct pair new) {
#if defined(__x86_64__)
	bool done;

	__asm__ volatile(
		"lock cmpxchg16b %1"
		: "=@ccz"(done), "+m"(*(struct pair *)(void *)p), "+a"(old.first), "+d"(old.second)
		: "b"(new.first), "c"(new.second)
		: "memory");
	return done;
#elif defined(__aarch64__)
	uint64_t first, second;
	uint32_t failed, done;

	__asm__ volatile("1:	ldaxp	%0, %1, %4\n"
			 "	cmp	%0, %5\n"
			 "	ccmp	%1, %6, #0, eq\n"
			 "	b.ne	2f\n"
			 "	stlxp	%w2, %7, %8, %4\n"
			 "	cbnz	%w2, 1b\n"
			 "2:	cset	%w3, eq\n"
			 : "=&r"(first), "=&r"(second), "=&r"(failed), "=&r"(done),
			 "+Q"(*(struct pair *)(void *)p)
			 : "r"(old.first), "r"(old.second), "r"(new.first), "r"(new.second)
			 : "cc", "memory");
	return done;
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
	return __sync_bool_compare_and_swap((unsigned __int128 *)(void *)p,
		(unsigned __int128)old.second << 64 | old.first,
		(unsigned __int128)new.second << 64 | new.first);
#else
#error "berth needs a lock-free 16-byte compare-and-swap: amd64, arm64 or ppc64el"
#endif
}

static inline bool cas16(_Atomic uint64_t *p, struct pair old, struct pair new) {
#if defined(BERTH_EXPLORED)
	/* The compiler makes this a call to the sanitizer's runtime, which tests/explore
	 * replaces. */
	unsigned __int128 was = (unsigned __int128)old.second << 64 | old.first;

	return __atomic_compare_exchange_n((unsigned __int128 *)(void *)p, &was,
		(unsigned __int128)new.second << 64 | new.first, false, __ATOMIC_SEQ_CST,
		__ATOMIC_SEQ_CST);
#elif defined(__SANITIZE_THREAD__)
	bool done;

	/* The sanitizer doesn't see what assembly does. Its own 16-byte operations take a lock of
	 * this process, which other processes don't respect. */
	__tsan_release(p);
	__tsan_release(p + 1);
	done = cas16_bare(p, old, new);
	__tsan_acquire(p);
	__tsan_acquire(p + 1);
	return done;
#else
	return cas16_bare(p, old, new);
#endif
}

/* False on the few amd64 machines, of 2005 and before, that have no compare-and-swap of 16
 * bytes. */
static inline bool cas16_is_there(void) {
#if defined(__x86_64__)
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_CMPXCHG16B);
#else
	return true;
#endif
}
