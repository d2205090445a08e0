/* SPDX-License-Identifier: MIT */

/*
 * Gives each thread a block that names its path caches. When the thread ends, takes back its block
 * and caches.
 *
 * The blocks lie in pages that the kernel fills with zeros in a forked child. So the child's
 * threads find no cache of the parent there, and take the general path, even if the child was made
 * by the bare system call.
 */

#include <linux/membarrier.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "handle.h"
#include "thread.h"

#define BLOCKS_SIZE 4096u
#define PAGE_BLOCKS 64u

_Static_assert(PAGE_BLOCKS * sizeof(struct thread) <= BLOCKS_SIZE, "a page has the blocks");

struct thread_page {
	struct thread *blocks;
	_Atomic uint64_t used; /* a bit for each block */
	struct thread_page *next;
};

static _Atomic(struct thread_page *) thread_pages;

/* Stands for the block of a thread that has none. */
static struct thread no_thread;
_thread_local_ struct thread *thread_self = &no_thread;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

/* -- blocks ------------------------------------------------------------------------------------ */

static struct thread_page *page_new(void) {
	struct thread_page *page = calloc(1, sizeof(*page)), *first;

	if (!page)
		return NULL;
	page->blocks =
		mmap(NULL, BLOCKS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page->blocks == MAP_FAILED) {
		free(page);
		return NULL;
	}
	/* If the kernel can't wipe pages, only the handlers of fork(3) notice a child (fork.c). */
	(void)madvise(page->blocks, BLOCKS_SIZE, MADV_WIPEONFORK);
	do {
		first = load_relaxed(&thread_pages);
		page->next = first;
	} while (!cas_pointer(&thread_pages, first, page));
	return page;
}

/* An unused block of the page; NULL: there is none. */
static struct thread *page_claim_block(struct thread_page *page) {
	uint64_t used;
	uint32_t i;

	do {
		used = load_relaxed(&page->used);
		if (~used == 0)
			return NULL;
		i = (uint32_t)__builtin_ctzll(~used);
	} while (!cas(&page->used, used, used | UINT64_C(1) << i));
	memset(&page->blocks[i], 0, sizeof(page->blocks[i]));
	return &page->blocks[i];
}

static void block_free(const struct thread *t) {
	struct thread_page *page = load_acquire(&thread_pages);

	while (t < page->blocks || t >= page->blocks + PAGE_BLOCKS)
		page = page->next;
	/* The bit is set, so the addition clears this bit and changes no other. */
	(void)add_total(&page->used, -(UINT64_C(1) << (t - page->blocks)));
}

/* -- the end of a thread ----------------------------------------------------------------------- */

/* Gives up the thread's cache of a session. Another thread may take it over. */
static void session_give_up(struct session *s, void *t) {
	for (struct cache *c = load_acquire(&s->caches); c; c = c->next) {
		if (load_relaxed(&c->thread) != t)
			continue;
		cache_clear(c, s->pool);
		if (c->counts_denials)
			store_release(&s->counts_denials, false);
		c->counts_denials = false;
		store_release(&c->thread, NULL); /* pairs with session_get_cache() */
	}
}

static void thread_end(void *data) {
	thread_self = &no_thread;
	handles_each_session(session_give_up, data);
	block_free(data);
}

static void key_make(void) {
	has_key = pthread_key_create(&key, thread_end) == 0;
}

/* Runs when an object that contains libberth is unloaded, such as a module. No thread may call
 * libberth from then on. */
static __attribute__((destructor)) void key_drop(void) {
	if (has_key)
		(void)pthread_key_delete(key);
	has_key = false;
}

/* -- caches ------------------------------------------------------------------------------------ */

/* The thread's block, which is made if there is none. NULL: no memory, or no key. */
static struct thread *thread_get(void) {
	struct thread_page *page;
	struct thread *t = NULL;

	if (thread_self != &no_thread)
		return thread_self;
	(void)pthread_once(&key_once, key_make);
	if (!has_key)
		return NULL;
	for (page = load_acquire(&thread_pages); page && !t; page = page->next)
		t = page_claim_block(page);
	/* Other threads may use up a new page before this thread has its block. */
	while (!t && (page = page_new()) != NULL)
		t = page_claim_block(page);
	if (!t)
		return NULL;
	if (pthread_setspecific(key, t) != 0) {
		block_free(t);
		return NULL;
	}
	thread_self = t;
	return t;
}

/* The thread's cache of the session, or one whose thread has ended, or a new one. NULL: no
 * memory. */
static struct cache *session_get_cache(struct session *s, struct thread *t) {
	struct cache *c, *first;

	for (c = load_acquire(&s->caches); c; c = c->next)
		if (load_relaxed(&c->thread) == t)
			return c;
	for (c = load_acquire(&s->caches); c; c = c->next)
		if (!load_relaxed(&c->thread) && cas_pointer(&c->thread, (struct thread *)NULL, t))
			return c;
	if (cache_new(s->map, t, &c) < 0)
		return NULL;
	do {
		first = load_relaxed(&s->caches);
		c->next = first;
	} while (!cas_pointer(&s->caches, first, c));
	return c;
}

/* Puts a cache at the head of the block. `from`: the index that the cache has there; if it has
 * none, the index of the cache that leaves the block. */
static void block_put_first(struct thread *t, uint64_t session, struct cache *c, size_t from) {
	for (size_t i = from; i > 0; i--) {
		t->session[i] = t->session[i - 1];
		t->cache[i] = t->cache[i - 1];
	}
	t->session[0] = session;
	t->cache[0] = c;
}

struct cache *thread_find_cache(uint64_t session) {
	struct thread *t = thread_self;

	for (size_t i = 0; i < THREAD_CACHES; i++)
		if (t->session[i] == session) {
			block_put_first(t, session, t->cache[i], i);
			return t->cache[0];
		}
	return NULL;
}

struct cache *thread_get_cache(struct session *s) {
	struct thread *t = thread_get();
	struct cache *c = t ? thread_find_cache(s->number) : NULL;

	if (t && !c) {
		c = session_get_cache(s, t);
		/* The cache that leaves the block stays in its session, where session_get_cache()
		 * finds it again. */
		if (c)
			block_put_first(t, s->number, c, THREAD_CACHES - 1);
	}
	if (c && !c->counts_denials && !load_relaxed(&s->counts_denials))
		c->counts_denials = !exchange_total(&s->counts_denials, true);
	return c;
}

/* -- the end of a session ---------------------------------------------------------------------- */

/* Pairs with thread_enter(). If a thread entered before the fence, this function sees that the
 * thread is inside. A thread that enters after the fence sees that the session isn't open. */
bool threads_keep_out(struct session *s) {
	bool is_alone = true;

	store_relaxed(&s->open, UINT64_MAX);
	for (const struct cache *c = load_acquire(&s->caches); c; c = c->next)
		if (load_acquire(&c->thread) && load_relaxed(&c->thread) != thread_self)
			is_alone = false;
	/* Has every thread of the process execute a memory fence, if the kernel can. */
	if (!is_alone &&
		(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0 ||
			syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0))
		return false;
	for (const struct cache *c = load_acquire(&s->caches); c; c = c->next)
		if (load_acquire(&c->is_inside))
			return false;
	return true;
}
