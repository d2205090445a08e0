/* SPDX-License-Identifier: MIT */

/*
 * Keeps a thread's caches: finds and makes them, and gives back what they have when the thread ends.
 *
 * Records. A record that the cache owns is named by the entry of the account on which it rests, or is
 * among the spares. The entries that name a record stand in a ring: when it is full, the oldest one gives
 * its record up.
 *
 * Entries stand in an arena, and are all dropped when there are too many. Each has a stamp of its own,
 * and a record bears that of the entry for which it took its slot. So an entry that goes on naming a record
 * which another account has, and a record whose entry is gone, are told by the stamp.
 */

#include <linux/membarrier.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "path-cache.h"
#include "session.h"

#define BITS_MIN   4u
#define ARENA_SIZE 4096u
/* So many entries at most; and of the table of records this part. Other numbers are tests/explore's, whose
 * accounts and records are few. */
#if !defined(ENTRIES_MAX)
#define ENTRIES_MAX 1024u
#define KEPT_PART   2048u
#endif

struct arena {
	struct arena *next;
	_Alignas(8) char bytes[];
};

static struct thread no_thread;
_thread_local_ struct thread *cache_thread = &no_thread;

struct local_slot cache_no_slot = {.token = TOKEN_SPENT};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

/* Where no account was used yet: no account has this name. */
static struct cache_entry no_entry = {.local = &cache_no_slot, .name = "", .stamp = UINT64_MAX};

/* -- records ------------------------------------------------------------------------------------- */

/* The record that the entry names, if it is the cache's and rests at this entry; NULL. Another thread may
 * have released its slot, and have it since; and then it may have come back for another account. */
static struct local_slot *entry_own(const struct cache *c, const struct cache_entry *e) {
	struct local_slot *local = e->local;

	return load_acquire(&local->token) == c->owned && load_relaxed(&local->stamp) == e->stamp
		       ? local
		       : NULL;
}

/* Among the spares, or in the pool, where they are many, or other threads need them. */
static void local_spare(struct cache *c, struct pool *p, struct local_slot *local) {
	if (!c || c->spares >= MIN_OF(c->keeps_most - 1, CACHE_SPARE) ||
		load_relaxed(&p->is_full)) {
		pool_give(p, local);
		return;
	}
	c->spare[c->spares++] = local;
	store_relaxed(&local->stamp, 0);
	store_release(&local->token, TOKEN_SPARE);
}

/* Its record is the caller's. NULL: it had none. */
static struct local_slot *entry_part(struct cache *c, struct cache_entry *e) {
	struct local_slot *local = entry_own(c, e);

	e->local = &cache_no_slot;
	if (local)
		store_release(&local->token, TOKEN_CLAIMED);
	return local;
}

/* The oldest entry of the ring names no record any more. */
static struct local_slot *entry_forget(struct cache *c) {
	struct cache_entry *e = c->keeps[c->first];

	c->first = (c->first + 1) % CACHE_KEPT;
	c->kept--;
	e->is_kept = false;
	return entry_part(c, e);
}

static void entry_keep(
	struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local) {
	struct local_slot *other = !e->is_kept && c->kept >= c->keeps_most ? entry_forget(c) : NULL;

	if (other)
		local_spare(c, p, other);
	if (!e->is_kept)
		c->keeps[(c->first + c->kept++) % CACHE_KEPT] = e;
	e->is_kept = true;
	e->local = local;
}

/* All that the cache has. */
static void records_give(struct cache *c, struct pool *p) {
	while (c->kept > 0) {
		struct local_slot *local = entry_forget(c);

		if (local)
			pool_give(p, local);
	}
	while (c->spares > 0)
		pool_give(p, c->spare[--c->spares]);
}

/* From an entry of another account. */
static struct local_slot *local_steal(struct cache *c) {
	struct local_slot *local = NULL;

	while (c->kept > 0 && !local)
		local = entry_forget(c);
	return local;
}

int cache_take(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot **ret) {
	int r;

	*ret = c && e ? entry_own(c, e) : NULL;
	if (*ret)
		return 0;
	if (c && c->spares > 0) {
		*ret = c->spare[--c->spares];
		store_release(&(*ret)->token, TOKEN_CLAIMED);
		return 0;
	}
	if (c && c->kept >= c->keeps_most && e && !e->is_kept)
		*ret = local_steal(c);
	if (*ret)
		return 0;
	r = pool_take(p, ret);
	if (c && r == -ENOBUFS && load_relaxed(&p->is_full))
		*ret = local_steal(c);
	return *ret ? 0 : r;
}

void cache_part(struct cache *c, struct cache_entry *e, struct local_slot *local) {
	if (c && e && e->local == local)
		(void)entry_part(c, e);
}

void cache_keep(struct cache *c, struct pool *p, struct local_slot *local) {
	if (load_relaxed(&local->token) == TOKEN_CLAIMED)
		local_spare(c, p, local);
}

void cache_hold(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local,
	uint64_t tag, uint64_t slot) {
	/* A thread that releases the slot's predecessor a second time looks at the stamp before and after the
	 * entry (fast.c). */
	store_release(&local->stamp, 0);
	store_release(&local->entry, e);
	store_release(&local->stamp, c && e ? e->stamp : 0);
	store_relaxed(&local->slot, slot);
	if (c && e)
		entry_keep(c, p, e, local);
	/* Pairs with the load by the thread that releases the slot. */
	store_release(&local->token, tag);
}

void cache_name(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local) {
	struct local_slot *other = e->local != local ? entry_part(c, e) : NULL;

	if (other)
		local_spare(c, p, other);
	entry_keep(c, p, e, local);
	store_release(&local->token, c->owned);
}

void cache_give(struct cache *c, struct pool *p, struct local_slot *local) {
	if (c && cache_took(c, local))
		cache_name(c, p, load_relaxed(&local->entry), local);
	else
		local_spare(c, p, local);
}

/* -- entries ------------------------------------------------------------------------------------- */

/* Its records are the pool's before. Forgets before it frees: a child may be forked in between. */
static void entries_drop(struct cache *c) {
	static _Atomic uint64_t stamps;
	struct cache_entry **table = c->table;
	struct arena *arena = c->arena;

	c->last = &no_entry;
	c->table = NULL;
	c->arena = NULL;
	c->bits = 0;
	c->made = 0;
	c->arena_used = ARENA_SIZE;
	c->stamp = add_relaxed(&stamps, ENTRIES_MAX) + 1;
	/* Pairs with nothing but the fork's copy of this memory. */
	atomic_signal_fence(memory_order_seq_cst);
	free(table);
	while (arena) {
		struct arena *next = arena->next;

		free(arena);
		arena = next;
	}
}

static void *arena_take(struct cache *c, size_t size) {
	void *p;

	size = ROUND_UP(size, 8);
	if (!c->arena || c->arena_used + size > ARENA_SIZE) {
		struct arena *new = malloc(sizeof(*new) + MAX_OF(ARENA_SIZE, size));

		if (!new)
			return NULL;
		new->next = c->arena;
		c->arena = new;
		c->arena_used = 0;
	}
	p = c->arena->bytes + c->arena_used;
	c->arena_used += size;
	return p;
}

/* Keyed, since names come from strangers. */
static uint64_t name_key(const struct cache *c, const char *name, size_t length) {
	return XXH3_64bits_withSeed(name, length, c->seed);
}

/* The place of the name, or the one where it would be. */
static struct cache_entry **table_place(
	struct cache *c, uint64_t key_of, const char *name, size_t length) {
	uint32_t mask = (1u << c->bits) - 1, i = (uint32_t)(key_of >> 32) & mask;

	for (; c->table[i]; i = (i + 1) & mask) {
		const struct cache_entry *e = c->table[i];

		if (e->key == key_of && e->length == length && memcmp(e->name, name, length) == 0)
			break;
	}
	return &c->table[i];
}

struct cache_entry *cache_find(struct cache *c, const char *name) {
	size_t length = strlen(name);
	struct cache_entry *e;

	if (unlikely(!c->table || length == 0))
		return NULL;
	e = *table_place(c, name_key(c, name, length), name, length);
	if (likely(e))
		c->last = e;
	return e;
}

/* Twice as many places as entries. */
static bool table_grow(struct cache *c) {
	uint32_t bits = c->bits ? c->bits + 1 : BITS_MIN, old = c->bits ? 1u << c->bits : 0;
	struct cache_entry **table = calloc((size_t)1 << bits, sizeof(struct cache_entry *));
	struct cache_entry **from = c->table;

	if (!table)
		return false;
	c->table = table;
	c->bits = bits;
	for (uint32_t i = 0; i < old; i++)
		if (from[i])
			*table_place(c, from[i]->key, from[i]->name, from[i]->length) = from[i];
	free(from);
	return true;
}

struct cache_entry *cache_add(
	struct cache *c, struct pool *p, const char *name, const struct path *path) {
	size_t length = strlen(name);
	size_t levels = offsetof(struct path, level) + path->depth * sizeof(path->level[0]);
	struct cache_entry *e;
	char *text;

	if (c->made >= ENTRIES_MAX) {
		records_give(c, p);
		entries_drop(c);
	}
	if (c->made * 2 >= (c->bits ? 1u << c->bits : 0) && !table_grow(c))
		return NULL;
	e = arena_take(c, offsetof(struct cache_entry, path) + levels + length + 1);
	if (!e)
		return NULL;
	text = (char *)&e->path + levels;
	memcpy(text, name, length + 1);
	memcpy(&e->path, path, levels);
	e->local = &cache_no_slot;
	e->is_kept = false;
	e->name = text;
	e->stamp = c->stamp + c->made;
	e->key = name_key(c, name, length);
	e->length = (uint32_t)length;
	e->place = place_pack(RECORD_PLACED, path->depth - 1, 1, path->level[0].account);
	e->said = path->level[0].generation | (ENTRY_LIVE | ENTRY_USABLE) << 28;
	/* In the place of one that the name no longer means. */
	*table_place(c, e->key, name, length) = e;
	c->made++;
	c->last = e;
	return e;
}

/* -- blocks of threads ---------------------------------------------------------------------------- */

/* In pages that the kernel makes zeros in a child: so its threads find no cache there, and ask the general
 * path, even if the child was made by the bare system call. */
struct thread_page {
	struct thread *blocks;
	_Atomic uint64_t used; /* a bit for each */
	struct thread_page *next;
};

#define BLOCKS_SIZE 4096u
#define PAGE_BLOCKS 64u

_Static_assert(PAGE_BLOCKS * sizeof(struct thread) <= BLOCKS_SIZE, "so many fit");

static _Atomic(struct thread_page *) thread_pages;

static struct thread_page *page_make(void) {
	struct thread_page *page = calloc(1, sizeof(*page)), *first;
	void *blocks =
		mmap(NULL, BLOCKS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!page || blocks == MAP_FAILED) {
		free(page);
		if (blocks != MAP_FAILED)
			(void)munmap(blocks, BLOCKS_SIZE);
		return NULL;
	}
	/* Where the kernel can't, the handlers of fork(3) alone notice a child. */
	(void)madvise(blocks, BLOCKS_SIZE, MADV_WIPEONFORK);
	page->blocks = blocks;
	first = load_relaxed(&thread_pages);
	do
		page->next = first;
	while (!atomic_compare_exchange_weak(&thread_pages, &first, page));
	return page;
}

static struct thread *block_take(void) {
	struct thread_page *page = load_acquire(&thread_pages);

	for (;; page = page->next) {
		if (!page)
			page = page_make();
		if (!page)
			return NULL;
		for (uint64_t used = load_relaxed(&page->used); ~used != 0;) {
			uint32_t i = (uint32_t)__builtin_ctzll(~used);

			if (atomic_compare_exchange_weak(
				    &page->used, &used, used | UINT64_C(1) << i)) {
				memset(&page->blocks[i], 0, sizeof(page->blocks[i]));
				return &page->blocks[i];
			}
		}
	}
}

static void block_give(struct thread *t) {
	for (struct thread_page *page = load_acquire(&thread_pages); page; page = page->next)
		if (t >= page->blocks && t < page->blocks + PAGE_BLOCKS)
			(void)atomic_fetch_and(
				&page->used, ~(UINT64_C(1) << (uint32_t)(t - page->blocks)));
}

/* -- threads and sessions ------------------------------------------------------------------------ */

/* Gives back all that the thread has of a session, so that other threads, and the cache's next one, have
 * it. */
static void session_leave(struct session *s, void *t) {
	for (struct cache *c = load_acquire(&s->caches); c; c = c->next) {
		if (load_relaxed(&c->thread) != t)
			continue;
		records_give(c, s->pool);
		entries_drop(c);
		if (c->counts_denials)
			store_release(&s->counts_denials, false);
		c->counts_denials = false;
		/* Pairs with cache_adopt(). */
		store_release(&c->thread, NULL);
	}
}

/* At the thread's end. */
static void thread_end(void *data) {
	cache_thread = &no_thread;
	sessions_each(session_leave, data);
	block_give(data);
}

static void key_make(void) {
	has_key = pthread_key_create(&key, thread_end) == 0;
}

/* Where libberth is a part of an object that is unloaded, as a module may be, no thread may call it then. */
static __attribute__((destructor)) void key_drop(void) {
	if (has_key)
		(void)pthread_key_delete(key);
	has_key = false;
}

static struct thread *thread_get(void) {
	struct thread *t = cache_thread;

	if (t != &no_thread)
		return t;
	(void)pthread_once(&key_once, key_make);
	t = has_key ? block_take() : NULL;
	if (!t)
		return NULL;
	if (pthread_setspecific(key, t) != 0) {
		block_give(t);
		return NULL;
	}
	cache_thread = t;
	return t;
}

/* The thread's own; or one that its thread has left. */
static struct cache *cache_adopt(struct session *s, struct thread *t) {
	struct cache *c;

	for (c = load_acquire(&s->caches); c; c = c->next)
		if (load_relaxed(&c->thread) == t)
			return c;
	for (c = load_acquire(&s->caches); c; c = c->next) {
		struct thread *none = NULL;

		if (!load_relaxed(&c->thread) &&
			atomic_compare_exchange_strong(&c->thread, &none, t))
			return c;
	}
	return NULL;
}

static struct cache *cache_make(struct session *s, struct thread *t) {
	static _Atomic uint32_t numbers;
	struct cache *c = cache_adopt(s, t), *first;

	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->owned = (uint64_t)(add_relaxed(&numbers, 1) + 1) << 4 | TOKEN_OWNED;
	c->armed = &s->map->header->armed;
	c->seed = s->map->names->hash_seed;
	c->keeps_most = MAX_OF(MIN_OF(s->map->layout.max_slots / KEPT_PART, CACHE_KEPT), 1);
	store_relaxed(&c->thread, t);
	entries_drop(c);
	first = load_relaxed(&s->caches);
	do
		c->next = first;
	while (!atomic_compare_exchange_weak(&s->caches, &first, c));
	return c;
}

/* Makes a cache the one that was used last. */
static void thread_put(struct thread *t, uint64_t session, struct cache *c, size_t from) {
	for (size_t i = from; i > 0; i--) {
		t->session[i] = t->session[i - 1];
		t->cache[i] = t->cache[i - 1];
	}
	t->session[0] = session;
	t->cache[0] = c;
}

struct cache *cache_switch(uint64_t session) {
	struct thread *t = cache_thread;

	for (size_t i = 0; i < THREAD_CACHES; i++)
		if (t->session[i] == session) {
			thread_put(t, session, t->cache[i], i);
			return t->cache[0];
		}
	return NULL;
}

struct cache *cache_get(struct session *s) {
	struct thread *t = thread_get();
	struct cache *c = t ? cache_switch(s->number) : NULL;
	bool no = false;

	if (t && !c) {
		c = cache_make(s, t);
		/* In the place of the one that wasn't used for longest: cache_adopt() finds that again. */
		if (c)
			thread_put(t, s->number, c, THREAD_CACHES - 1);
	}
	if (c && !c->counts_denials)
		c->counts_denials = atomic_compare_exchange_strong(&s->counts_denials, &no, true);
	return c;
}

/* A fence in every thread of the process; or, where the kernel has none, each other thread has ended. */
static bool threads_fence(const struct session *s) {
	bool alone = true;

	for (const struct cache *c = load_acquire(&s->caches); c; c = c->next)
		if (load_acquire(&c->thread) && load_relaxed(&c->thread) != cache_thread)
			alone = false;
	return alone ||
	       (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
		       syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
}

/* Pairs with cache_enter(): a thread that entered before the fence is seen inside, one that enters later
 * finds no open session. */
bool cache_close(struct session *s) {
	store_relaxed(&s->open, UINT64_MAX);
	if (!threads_fence(s))
		return false;
	for (const struct cache *c = load_acquire(&s->caches); c; c = c->next)
		if (load_acquire(&c->inside))
			return false;
	return true;
}

void cache_free_all(struct session *s) {
	struct cache *c, *next;

	for (c = load_relaxed(&s->caches); c; c = next) {
		next = c->next;
		entries_drop(c);
		free(c);
	}
	store_relaxed(&s->caches, NULL);
}
