/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The vocabulary for words that several processes change at once.
 *
 * Everything shared is an _Atomic member that is touched through these few names and no others. A
 * load that must see what a partner wrote before its store is load_acquire, the partner's store is
 * store_release; a comment at each such place names the partner. cas and exchange are sequentially
 * consistent, because the change of a count is followed by a load of a flag that the daemon stores
 * before it reads the counts (wake.h): each side must see the other's store or be seen.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

/* True if *p was old and is now new. */
static inline bool cas(_Atomic uint64_t *p, uint64_t old, uint64_t new) {
	return atomic_compare_exchange_strong_explicit(
		p, &old, new, memory_order_seq_cst, memory_order_relaxed);
}

static inline bool cas32(_Atomic uint32_t *p, uint32_t old, uint32_t new) {
	return atomic_compare_exchange_strong_explicit(
		p, &old, new, memory_order_seq_cst, memory_order_relaxed);
}

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "berth needs lock-free 64-bit atomics");
