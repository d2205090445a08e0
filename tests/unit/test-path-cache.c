/* SPDX-License-Identifier: MIT */

/*
 * Tests the path caches of threads. The fast path and the general path of the library use these
 * caches, and are tested, too. No daemon runs: the test makes the sessions and grants the ranges
 * itself.
 *
 * Most tests end with check_records(): whatever the threads did, each record of the session must be
 * in exactly one place (pool.h).
 */

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "berth.h"
#include "fixture.h"
#include "fork.h"
#include "handle.h"
#include "message.h"
#include "random.h"
#include "run.h"
#include "thread.h"
#include "threads.h"

#define RANGES    40u /* of the session of `b` */
#define RECORDS   (RANGES * BERTH_RANGE)
#define PUBLISHED 4096u /* records in the segment, at least */
#define ENTRIES   1024u /* in a cache, at most */
#define ACCOUNTS  1300u

/* The table is so large that a thread keeps CACHE_KEPT records. */
static const struct capacities want = {8000, 262144, 16};
static struct berth *b; /* the handle of most tests */
static uint32_t next_range, next_session;

static struct session *session_of(const struct berth *h) {
	return load_relaxed(&h->current);
}

static void range_grant(struct session *s) {
	records_open(next_range * BERTH_RANGE, BERTH_RANGE);
	ck_assert_int_eq(pool_add_range(s->pool, next_range++), 0);
}

/* Makes a handle with an open session and this number of ranges, as if berthd had granted them. */
static struct berth *handle_make(uint32_t ranges) {
	static uint64_t numbers = 1 << 20;
	struct session *s = calloc(1, sizeof(*s));
	const uint32_t opened[2] = {SESSION_OPEN, next_session + 1};
	uint64_t open_word;
	struct berth *h;

	ck_assert_ptr_nonnull(s);
	fork_watch();
	fork_check();
	ck_assert_int_eq(handle_new("/nonexistent", 20, &h), 0);
	s->map = fixture_map();
	s->index = next_session++;
	s->serial = opened[1];
	s->number = ++numbers;
	s->slot_bits = s->number << SLOT_SESSION_SHIFT;
	s->entry = map_session(s->map, s->index);
	s->map->session = s->entry;
	store_relaxed(&map_session(f.map, s->index)->serial, s->serial);
	store_relaxed(&map_session(f.map, s->index)->state, SESSION_OPEN);
	memcpy(&open_word, opened, sizeof(open_word));
	store_relaxed(&s->open, open_word);
	ck_assert_int_eq(pool_new(s->map, s->slot_bits, &s->pool), 0);
	while (ranges-- > 0)
		range_grant(s);
	s->handle = h;
	store_release(&h->current, s);
	store_release(&h->fast, s);
	return h;
}

static void set_up(void) {
	fixture_new(&want);
	while (load_relaxed(&f.segment->names->sessions) < want.sessions)
		ck_assert_int_eq(segment_grow_sessions(f.segment), 0);
	fixture_grow_slots(PUBLISHED);
	next_range = 1;
	next_session = 0;
	b = handle_make(RANGES);
}

/* Closes the handle, and makes another one. */
static void handle_replace(uint32_t ranges) {
	berth_close(b);
	b = handle_make(ranges);
}

static void tear_down(void) {
	berth_close(b);
	fixture_free();
}

/* -- accounts ---------------------------------------------------------------------------------- */

static void account_create(const char *name) {
	limit_set(name, BERTH_LIMIT_NONE);
}

static const char *numbered(uint32_t n) {
	static _Thread_local char name[32];

	(void)snprintf(name, sizeof(name), "number-%u", n);
	return name;
}

static void accounts_create(uint32_t n) {
	while (n-- > 0)
		account_create(numbered(n));
}

static void accounts_create_all(const char *const *names, size_t count) {
	for (size_t i = 0; i < count; i++)
		account_create(names[i]);
}

static uint32_t count_at(const char *name) {
	return counter_count(f.map, account_of(name));
}

/* -- places of the records --------------------------------------------------------------------- */

/* Marks the records that the session's caches have. In `named` it marks those that an entry names,
 * in `spare` the spares. */
static void caches_mark_records(const struct session *s, uint8_t *named, uint8_t *spare) {
	for (struct cache *c = load_relaxed(&s->caches); c; c = c->next) {
		ck_assert_uint_le(c->ring_count, c->capacity);
		ck_assert_uint_le(c->spare_count, MIN_OF(c->capacity - 1, CACHE_SPARE));
		for (uint32_t i = 0; i < c->ring_count; i++) {
			const struct cache_entry *e = c->ring[(c->ring_first + i) % CACHE_KEPT];
			const struct local_slot *local = e->local;

			if (load_relaxed(&local->token) == c->owned_token &&
				load_relaxed(&local->stamp) == e->stamp)
				named[local->number] = 1;
		}
		for (uint32_t i = 0; i < c->spare_count; i++)
			spare[c->spare[i]->number]++;
		/* A cache that no thread uses has no records. */
		ck_assert(load_relaxed(&c->thread) || c->ring_count + c->spare_count == 0);
	}
}

struct record_places {
	uint32_t slots, named, spare, pooled, spent;
};

/* Counts the records by place. No thread may be in a call meanwhile. */
static struct record_places records_count(const struct berth *h) {
	static uint8_t named[PUBLISHED], spare[PUBLISHED], pooled[PUBLISHED];
	static struct local_slot *all[PUBLISHED];
	const struct session *s = session_of(h);
	struct record_places n = {0};
	uint32_t stacked = 0;

	memset(named, 0, sizeof(named));
	memset(spare, 0, sizeof(spare));
	memset(pooled, 0, sizeof(pooled));
	/* Take all records out of the pool's stack, and put them back. */
	while (pool_claim(s->pool, &all[stacked]) == 0)
		stacked++;
	while (stacked-- > 0) {
		pooled[all[stacked]->number]++;
		pool_return(s->pool, all[stacked]);
	}
	caches_mark_records(s, named, spare);
	for (struct range *r = load_acquire(&s->pool->newest); r; r = load_acquire(&r->next))
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			const struct local_slot *local = &r->local[i];
			uint64_t token = load_relaxed(&local->token);
			uint32_t k = local->number;
			int where[] = {named[k], spare[k], pooled[k]}, is[3] = {0};

			if (token_is_slot(token))
				n.slots++;
			else if (token == TOKEN_RETIRED)
				n.spent++;
			else if (token == TOKEN_POOLED)
				n.pooled += is[2] = 1;
			else if (token == TOKEN_SPARE)
				n.spare += is[1] = 1;
			else
				n.named += is[0] = 1;
			ck_assert_msg(memcmp(where, is, sizeof(is)) == 0,
				"record %u, token %llx: named %d, spare %d, in the stack %d", k,
				(unsigned long long)token, where[0], where[1], where[2]);
		}
	return n;
}

/* Checks that no record is lost or retired, and that `slots` records hold a slot. */
static struct record_places check_records(const struct berth *h, uint32_t slots) {
	struct record_places n = records_count(h);

	ck_assert_uint_eq(n.slots, slots);
	ck_assert_uint_eq(n.slots + n.named + n.spare + n.pooled + n.spent,
		pool_range_count(session_of(h)->pool) * BERTH_RANGE);
	ck_assert_uint_eq(n.spent, 0);
	return n;
}

/* Checks that no slot is held, and no record is lost. */
static void check_idle(const struct berth *h) {
	check_no_counts();
	(void)check_records(h, 0);
}

/* -- calls ------------------------------------------------------------------------------------- */

static berth_slot acquire(struct berth *h, const char *account) {
	berth_slot slot = 0;
	int code = berth_acquire(h, account, &slot);

	ck_assert_msg(code == 0, "%s: %d", account, code);
	return slot;
}

static void release(struct berth *h, berth_slot slot) {
	int code = berth_release(h, slot);

	ck_assert_msg(code == 0, "slot %llx: %d", (unsigned long long)slot, code);
	ck_assert_int_eq(berth_release(h, slot), BERTH_TOO_MANY_POSTS);
}

static void release_all(const berth_slot *slots, size_t count) {
	for (size_t i = 0; i < count; i++)
		release(b, slots[i]);
}

static void use(struct berth *h, const char *account) {
	release(h, acquire(h, account));
}

static int acquire_with(
	struct berth *h, const char *account, uint32_t weight, const char *label, berth_slot *ret) {
	const struct berth_request request = {
		.size = sizeof(request), .account = account, .weight = weight, .label = label};

	return berth_acquire_req(h, &request, ret);
}

static void check_refused(const char *account, int code) {
	berth_slot slot = 0;

	ck_assert_int_eq(berth_acquire(b, account, &slot), code);
	ck_assert_uint_eq(slot, 0);
}

static struct local_slot *local_of(const struct berth *h, berth_slot slot) {
	return pool_local(session_of(h)->pool, slot_record(slot));
}

static struct cache *cache_of(const struct berth *h) {
	struct cache *c = thread_find_cache(session_of(h)->number);

	ck_assert_ptr_nonnull(c);
	return c;
}

/* Revokes the slot as berthd does. */
static void revoke_slot(berth_slot slot) {
	uint32_t record = slot >> SLOT_CYCLE_BITS & 0x3FFFFF;

	ck_assert_int_eq(counter_revoke(f.map, record, newest_of(record)), 0);
}

/* -- other threads ----------------------------------------------------------------------------- */

/* A thread that runs the jobs of worker_do(), one after the other. */
struct worker {
	pthread_t thread;
	sem_t go, done;
	void (*job)(void *data);
	void *data;
};

static void *worker_main(void *arg) {
	struct worker *w = arg;

	for (;;) {
		semaphore_wait(&w->go);
		if (!w->job)
			return NULL;
		w->job(w->data);
		(void)sem_post(&w->done);
	}
}

static void worker_start(struct worker *w) {
	(void)sem_init(&w->go, 0, 0);
	(void)sem_init(&w->done, 0, 0);
	thread_start(&w->thread, worker_main, w);
}

static void worker_do(struct worker *w, void (*job)(void *data), void *data) {
	w->job = job;
	w->data = data;
	(void)sem_post(&w->go);
	semaphore_wait(&w->done);
}

/* Makes the thread exit, and joins it. */
static void worker_end(struct worker *w) {
	w->job = NULL;
	(void)sem_post(&w->go);
	threads_join(&w->thread, 1);
	(void)sem_destroy(&w->go);
	(void)sem_destroy(&w->done);
}

struct call {
	struct berth *h;
	const char *account;
	berth_slot slot;
	int code;
};

static void job_acquire(void *data) {
	struct call *c = data;

	c->code = berth_acquire(c->h, c->account, &c->slot);
}

static void job_release(void *data) {
	struct call *c = data;

	c->code = berth_release(c->h, c->slot);
}

static berth_slot acquire_by(struct worker *w, struct berth *h, const char *account) {
	struct call c = {.h = h, .account = account};

	worker_do(w, job_acquire, &c);
	ck_assert_msg(c.code == 0, "%s: %d", account, c.code);
	return c.slot;
}

static void release_by(struct worker *w, struct berth *h, berth_slot slot) {
	struct call c = {.h = h, .slot = slot};

	worker_do(w, job_release, &c);
	ck_assert_msg(c.code == 0, "slot %llx: %d", (unsigned long long)slot, c.code);
	worker_do(w, job_release, &c);
	ck_assert_int_eq(c.code, BERTH_TOO_MANY_POSTS);
}

static void use_by(struct worker *w, struct berth *h, const char *account) {
	release_by(w, h, acquire_by(w, h, account));
}

/* -- names ------------------------------------------------------------------------------------- */

/* The path as the session finds it. */
static struct path path_in_session(const char *name) {
	return path_in(session_of(b)->map, name);
}

/* Checks that the entry has this name and path, and the place that follows from the path. */
static void check_entry(const struct cache_entry *e, const char *name, const struct path *path) {
	ck_assert_ptr_nonnull(e);
	ck_assert_str_eq(e->name, name);
	ck_assert_uint_eq(e->length, strlen(name));
	ck_assert_uint_eq(path->depth, e->path.depth);
	for (uint32_t k = 0; k < path->depth; k++) {
		ck_assert_uint_eq(path->level[k].account, e->path.level[k].account);
		ck_assert_uint_eq(path->level[k].generation, e->path.level[k].generation);
		ck_assert_ptr_eq(path->level[k].entry, e->path.level[k].entry);
		ck_assert_ptr_eq(path->level[k].cell, e->path.level[k].cell);
		ck_assert_ptr_eq(path->level[k].dirty, e->path.level[k].dirty);
	}
	ck_assert_uint_eq(
		e->place, place_pack(RECORD_PLACED, path->depth - 1, 1, path->level[0].account));
}

/* Each name ends where its allocation ends, so that valgrind and the sanitizers see an overrun. */
START_TEST(names_that_differ_in_one_byte_are_told_apart_at_every_length) {
	struct cache *c = thread_get_cache(session_of(b));
	struct path path;

	account_create("alice");
	path = path_in_session("alice");
	for (size_t length = 1; length <= BERTH_NAME_MAX; length++) {
		char *text = malloc(length + 1);
		struct cache_entry *e;

		memset(text, 'a', length);
		text[length] = '\0';
		ck_assert_ptr_null(cache_find(c, text));
		e = cache_add(c, session_of(b)->pool, text, &path);
		check_entry(e, text, &path);
		ck_assert_ptr_eq(cache_find(c, text), e);
		ck_assert_ptr_eq(c->last, e);
		for (size_t i = 0; i < length; i++) {
			text[i] = 'b';
			ck_assert_msg(
				!cache_find(c, text), "byte %zu of %zu isn't compared", i, length);
			text[i] = 'a';
		}
		ck_assert_ptr_eq(cache_find(c, text), e);
		free(text);
	}
	ck_assert_uint_eq(c->entry_count, BERTH_NAME_MAX);
}
END_TEST

/* An acquire compares its name with the name of the account that the thread used last. If the names
 * differ, the acquire searches the cache's table. */
START_TEST(names_of_every_length_acquire_slots_of_their_own_accounts) {
	char text[BERTH_NAME_MAX + 1] = "";

	for (size_t length = 1; length <= BERTH_NAME_MAX; length++)
		account_create(memset(text, 'n', length));
	for (int round = 0; round < 3; round++)
		for (size_t length = 1; length <= BERTH_NAME_MAX; length++) {
			berth_slot slot;

			memset(text, 'n', length);
			text[length] = '\0';
			slot = acquire(b, text);
			ck_assert_uint_eq(count_at(text), 1);
			release(b, slot);
			text[length - 1] = 'm';
			ck_assert_int_ne(berth_acquire(b, text, &slot), 0);
			if (round == 0 && length % 64 != 0)
				continue;
			break;
		}
	check_idle(b);
}
END_TEST

START_TEST(invalid_arguments_are_refused_and_acquire_nothing) {
	char text[BERTH_NAME_MAX + 2] = "";
	struct berth_request request = {.size = sizeof(request), .account = "alice"};
	berth_slot slot = 7;

	account_create("alice");
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(berth_acquire(b, "", &slot), BERTH_INVALID_PARAMETER);
		memset(text, 'a', BERTH_NAME_MAX + 1);
		ck_assert_int_eq(berth_acquire(b, text, &slot), BERTH_INVALID_PARAMETER);
		ck_assert_int_eq(berth_acquire(b, NULL, &slot), BERTH_INVALID_PARAMETER);
		ck_assert_int_eq(berth_acquire(NULL, "alice", &slot), BERTH_INVALID_PARAMETER);
		ck_assert_int_eq(berth_acquire(b, "alice", NULL), BERTH_INVALID_PARAMETER);
		ck_assert_int_eq(berth_acquire_req(b, NULL, &slot), BERTH_INVALID_PARAMETER);
		request.weight = BERTH_WEIGHT_MAX + 1;
		ck_assert_int_eq(berth_acquire_req(b, &request, &slot), BERTH_INVALID_PARAMETER);
		request.weight = 1;
		ck_assert_int_eq(berth_acquire_req(b, &request, NULL), BERTH_INVALID_PARAMETER);
		ck_assert_uint_eq(slot, 7);
		for (berth_slot none = 0; none < 70000; none += 999)
			ck_assert_int_eq(berth_release(b, none), BERTH_TOO_MANY_POSTS);
		ck_assert_int_eq(berth_release(NULL, 7), BERTH_INVALID_PARAMETER);
		check_no_counts();
		/* This makes a cache for the second round. */
		use(b, "alice");
	}
	ck_assert_int_eq(acquire_with(b, "alice", 0, NULL, &slot), 0);
	ck_assert_uint_eq(count_at("alice"), 1);
	release(b, slot);
}
END_TEST

static struct cache_entry **table_place_of(struct cache *c, const struct cache_entry *e) {
	uint32_t i = 0;

	while (c->table[i] != e)
		i++;
	return &c->table[i];
}

/* Gives `first` the key of `e`. Puts `first` where the look-up begins, and `e` behind `first`. */
static void key_copy(struct cache *c, struct cache_entry *first, struct cache_entry *e) {
	uint32_t mask = (1u << c->table_bits) - 1, i;

	*table_place_of(c, first) = NULL;
	*table_place_of(c, e) = NULL;
	first->hash = e->hash;
	for (i = (uint32_t)(e->hash >> 32) & mask; c->table[i]; i = (i + 1) & mask)
		;
	c->table[i] = first;
	while (c->table[i])
		i = (i + 1) & mask;
	c->table[i] = e;
}

START_TEST(names_whose_keys_are_the_same_are_told_apart) {
	struct cache *c = thread_get_cache(session_of(b));
	static const char *const names[] = {"alice", "malice", "clive", "alice@example.com"};
	struct cache_entry *entry[ELEMENTS(names)];

	for (size_t k = 0; k < ELEMENTS(names); k++) {
		struct path path;

		account_create(names[k]);
		path = path_in_session(names[k]);
		entry[k] = cache_add(c, session_of(b)->pool, names[k], &path);
		ck_assert_ptr_eq(cache_find(c, names[k]), entry[k]);
	}
	/* First a longer name gets the key of names[0]. Then a name of the same length gets it. */
	key_copy(c, entry[1], entry[0]);
	ck_assert_ptr_eq(cache_find(c, names[0]), entry[0]);
	key_copy(c, entry[2], entry[0]);
	ck_assert_ptr_eq(cache_find(c, names[0]), entry[0]);
	ck_assert_ptr_null(cache_find(c, names[2]));
	for (int i = 0; i < 3; i++) {
		berth_slot slot = acquire(b, names[0]);

		ck_assert_uint_eq(count_at(names[0]), 1);
		ck_assert_uint_eq(count_at(names[1]) + count_at(names[2]), 0);
		release(b, slot);
	}
}
END_TEST

START_TEST(names_that_differ_in_the_middle_are_told_apart) {
	char name[60][60];

	for (size_t i = 0; i < ELEMENTS(name); i++) {
		(void)snprintf(
			name[i], sizeof(name[i]), "a-prefix-of-16-b%08zx-a-suffix-of-16-", i);
		account_create(name[i]);
	}
	for (size_t i = 0; i < 3 * ELEMENTS(name); i++) {
		size_t n = i * 7 % ELEMENTS(name);
		berth_slot slot = acquire(b, name[n]);
		const struct path path = path_in_session(name[n]);

		check_entry(cache_find(cache_of(b), name[n]), name[n], &path);
		for (size_t k = 0; k < ELEMENTS(name); k++)
			ck_assert_uint_eq(count_at(name[k]), k == n);
		release(b, slot);
	}
}
END_TEST

START_TEST(names_that_share_a_prefix_or_a_suffix_are_told_apart) {
	static const char *const names[] = {"a", "ab", "abc", "abcdefg", "abcdefgh", "abcdefghi",
		"bc", "c", "cdefgh", "alice@example.com", "alice@example.org", "malice@example.com",
		"acme", "acme/alice", "acme/alice/10.0.0.1", "acme/alice/10.0.0.10",
		"acme/bob/10.0.0.1", "acme-and-sons/alice-in-wonderland/x",
		"acme-and-sons/alicia-in-wonderland/x"};

	accounts_create_all(names, ELEMENTS(names));
	for (size_t i = 0; i < ELEMENTS(names) * ELEMENTS(names); i++) {
		size_t n = i % 2 ? i / 2 % ELEMENTS(names) : i / ELEMENTS(names);
		berth_slot slot = acquire(b, names[n]);
		const struct path path = path_in_session(names[n]);

		check_entry(cache_find(cache_of(b), names[n]), names[n], &path);
		for (uint32_t k = 0; k < path.depth; k++)
			ck_assert_uint_eq(counter_count(f.map, path.level[k].account), 1);
		release(b, slot);
		check_no_counts();
	}
}
END_TEST

/* -- changes of the directory ------------------------------------------------------------------ */

/* Raises the account's generation, as berthd does when it makes the account usable or unusable. */
static void generation_raise(const char *name) {
	struct entry *e = map_entry(f.map, account_of(name));

	generation_write(e, entry_generation(load_relaxed(&e->word)) + 1);
	ck_assert_int_eq(counter_bump(f.map, account_of(name)), 0);
}

START_TEST(an_entry_is_rebuilt_when_the_generation_of_any_level_changes) {
	static const char *const level[] = {"a/b/c", "a/b", "a"};
	const char *name = level[0];
	struct path path;

	account_create(name);
	for (int i = 0; i < 30; i++) {
		struct cache_entry *old, *new;
		berth_slot held = 0;

		use(b, name);
		old = cache_find(cache_of(b), name);
		if (i % 2)
			held = acquire(b, name);
		generation_raise(level[i % 3]);
		use(b, name);
		new = cache_find(cache_of(b), name);
		ck_assert_ptr_ne(new, old);
		path = path_in_session(name);
		check_entry(new, name, &path);
		/* Another acquire uses the same entry. */
		use(b, name);
		ck_assert_ptr_eq(cache_find(cache_of(b), name), new);
		if (held)
			release(b, held);
		check_idle(b);
	}
}
END_TEST

START_TEST(a_changed_limit_takes_effect_at_once_at_every_level) {
	static const char *const level[] = {"a/b/c", "a/b", "a"};
	berth_slot slot[3];

	account_create(level[0]);
	use(b, level[0]);
	for (size_t i = 0; i < ELEMENTS(level); i++) {
		limit_set(level[i], 2);
		slot[0] = acquire(b, level[0]);
		slot[1] = acquire(b, level[0]);
		check_refused(level[0], BERTH_CONNECTION_COUNT_LIMIT);
		limit_set(level[i], 3);
		slot[2] = acquire(b, level[0]);
		limit_set(level[i], 0);
		for (size_t k = 0; k < ELEMENTS(slot); k++) {
			release(b, slot[k]);
			check_refused(level[0], BERTH_CONNECTION_COUNT_LIMIT);
		}
		limit_set(level[i], BERTH_LIMIT_NONE);
	}
	check_idle(b);
}
END_TEST

/* No daemon answers, so an acquire that has to ask berthd for the account is refused. */
START_TEST(an_account_that_is_no_longer_usable_is_refused) {
	berth_slot slot;

	account_create("acme");
	use(b, "acme");
	account_create("acme/alice");
	account_delete("acme");
	check_refused("acme", BERTH_CONNECTION_REFUSED);
	slot = acquire(b, "acme/alice");
	ck_assert_uint_eq(count_at("acme"), 1);
	release(b, slot);
	account_create("acme");
	use(b, "acme");
}
END_TEST

START_TEST(a_deleted_account_is_refused_even_when_its_index_is_used_again) {
	struct cache_entry *old;
	uint32_t index;
	berth_slot slot;

	account_create("alice");
	use(b, "alice");
	old = cache_find(cache_of(b), "alice");
	index = old->path.level[0].account;
	account_delete("alice");
	check_refused("alice", BERTH_CONNECTION_REFUSED);
	/* Another account gets the index. */
	account_create("mallory");
	ck_assert_uint_eq(account_of("mallory"), index);
	check_refused("alice", BERTH_CONNECTION_REFUSED);
	ck_assert_uint_eq(count_at("mallory"), 0);
	slot = acquire(b, "mallory");
	ck_assert_uint_eq(count_at("mallory"), 1);
	check_refused("alice", BERTH_CONNECTION_REFUSED);
	account_create("alice");
	use(b, "alice");
	ck_assert_uint_eq(count_at("mallory"), 1);
	release(b, slot);
	ck_assert_ptr_ne(cache_find(cache_of(b), "alice"), old);
	check_idle(b);
}
END_TEST

/* The slot is revoked, and its account is removed. Then an account below another parent gets the
 * index of the removed account. */
START_TEST(a_revoked_slot_of_a_removed_account_is_reported_and_changes_no_other_count) {
	for (int i = 0; i < 2; i++) {
		berth_slot slot, other;

		account_create("old/alice");
		if (i == 1)
			use(b, "old/alice");
		slot = acquire(b, "old/alice");
		revoke_slot(slot);
		account_delete("old/alice");
		account_create("new");
		account_create("new/mallory");
		other = acquire(b, "new/mallory");
		ck_assert_int_eq(berth_release(b, slot), BERTH_CONNECTION_ABORTED);
		ck_assert_int_eq(berth_release(b, slot), BERTH_TOO_MANY_POSTS);
		ck_assert_uint_eq(count_at("new/mallory"), 1);
		ck_assert_uint_eq(count_at("new"), 1);
		release(b, other);
		check_idle(b);
		account_delete("new/mallory");
	}
}
END_TEST

/* A record is used for a second account, above or below the first, while the first account's entry
 * still names the record. */
START_TEST(a_slot_is_released_at_its_own_account_whatever_entry_names_its_record) {
	static const char *const names[] = {"1", "1/2", "1/2/3"};
	const size_t n = ELEMENTS(names);

	for (size_t i = 0; i < n; i++)
		account_create(names[i]);
	for (size_t i = 0; i < n * n; i++) {
		const char *first = names[i / n], *second = names[i % n];
		struct local_slot *local;
		struct worker w;
		berth_slot slot;

		handle_replace(1);
		slot = acquire(b, first);
		local = local_of(b, slot);
		/* Another thread releases the slot and ends, so that the record goes to the
		 * stack. */
		worker_start(&w);
		release_by(&w, b, slot);
		worker_end(&w);
		slot = acquire(b, second);
		ck_assert_ptr_eq(local_of(b, slot), local);
		/* Makes the first account's entry the one that was used last, as a refused acquire
		 * would. */
		ck_assert_ptr_nonnull(cache_find(cache_of(b), first));
		release(b, slot);
		check_no_counts();
		ck_assert_int_eq(berth_release(b, slot), BERTH_TOO_MANY_POSTS);
		(void)check_records(b, 0);
	}
}
END_TEST

/* A repair's tag is neither a record's step nor one of the tokens of pool.h. */
START_TEST(a_second_release_is_refused_whatever_tag_a_repair_has_left) {
	berth_slot slot;
	uint32_t account;

	account_create("alice");
	account = account_of("alice");
	slot = acquire(b, "alice");
	release(b, slot);
	for (int i = 0; i < 100; i++) {
		struct pair seen = cell_load(map_cell(f.map, account));

		/* The repair counts a slot of another process. */
		ck_assert_int_eq(counter_repair(f.map, account, seen, 1), 0);
		ck_assert_int_eq(berth_release(b, slot), BERTH_TOO_MANY_POSTS);
		ck_assert_uint_eq(count_at("alice"), 1);
	}
}
END_TEST

/* -- records ----------------------------------------------------------------------------------- */

START_TEST(an_account_reuses_its_own_record_and_leaves_it_unchanged) {
	static const char *const names[] = {"alice", "acme/alice", "1/2/3/4/5/6/7/8"};
	struct local_slot *own[ELEMENTS(names)];
	struct pair was[ELEMENTS(names)];

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		berth_slot slot;
		struct record *r;

		account_create(names[i]);
		slot = acquire(b, names[i]);
		own[i] = local_of(b, slot);
		release(b, slot);
		r = load_relaxed(&own[i]->record);
		was[i] = (struct pair){load_relaxed(&r->place), load_relaxed(&r->noted)};
	}
	for (size_t i = 0; i < 100 * ELEMENTS(names); i++) {
		size_t n = i % 2 ? i / 7 % ELEMENTS(names) : i % ELEMENTS(names);
		const struct record *r = load_relaxed(&own[n]->record);
		berth_slot slot = acquire(b, names[n]);

		ck_assert_ptr_eq(local_of(b, slot), own[n]);
		release(b, slot);
		ck_assert_uint_eq(load_relaxed(&r->place), was[n].first);
		ck_assert_uint_eq(load_relaxed(&r->noted), was[n].second);
	}
	ck_assert_uint_eq(check_records(b, 0).named, ELEMENTS(names));
}
END_TEST

START_TEST(after_many_slots_of_one_account_a_thread_keeps_one_record_and_its_spares) {
	berth_slot slot[100];
	struct record_places n;

	account_create("alice");
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ELEMENTS(slot); i++) {
			slot[i] = acquire(b, "alice");
			for (size_t k = 0; k < i; k++)
				ck_assert_uint_ne(slot[i], slot[k]);
		}
		ck_assert_uint_eq(count_at("alice"), ELEMENTS(slot));
		(void)check_records(b, ELEMENTS(slot));
		for (size_t i = 0; i < ELEMENTS(slot); i++)
			release(b, slot[round % 2 ? i : ELEMENTS(slot) - 1 - i]);
		n = check_records(b, 0);
		ck_assert_uint_eq(n.named, 1);
		ck_assert_uint_eq(n.spare, CACHE_SPARE);
	}
	check_no_counts();
}
END_TEST

START_TEST(a_cache_that_keeps_its_most_records_takes_that_of_the_oldest_account) {
	struct local_slot *first;
	berth_slot slot;

	accounts_create(3 * CACHE_KEPT);
	slot = acquire(b, numbered(0));
	first = local_of(b, slot);
	release(b, slot);
	for (uint32_t i = 1; i < CACHE_KEPT; i++)
		use(b, numbered(i));
	ck_assert_ptr_eq(cache_find(cache_of(b), numbered(0))->local, first);
	ck_assert_uint_eq(check_records(b, 0).named, CACHE_KEPT);
	/* The next account gets the record of the account that was used first. */
	for (uint32_t i = 0; i < 2 * CACHE_KEPT; i++) {
		struct cache_entry *oldest = cache_find(cache_of(b), numbered(i));
		struct local_slot *local = oldest->local;
		struct record_places n;

		ck_assert_ptr_ne(local, &cache_no_slot);
		slot = acquire(b, numbered(CACHE_KEPT + i));
		ck_assert_ptr_eq(local_of(b, slot), local);
		ck_assert_ptr_eq(oldest->local, &cache_no_slot);
		release(b, slot);
		n = check_records(b, 0);
		ck_assert_uint_eq(n.named, CACHE_KEPT);
		ck_assert_uint_eq(n.spare, 0);
	}
	check_no_counts();
}
END_TEST

START_TEST(a_thread_keeps_few_records_if_few_are_allowed) {
	static const uint32_t most[] = {1, 2, 3, 20};
	berth_slot slot[40];

	accounts_create(40);
	ck_assert_uint_eq(thread_get_cache(session_of(b))->capacity, CACHE_KEPT);
	for (size_t m = 0; m < ELEMENTS(most); m++) {
		struct record_places n;

		handle_replace(RANGES / 8);
		thread_get_cache(session_of(b))->capacity = most[m];
		for (uint32_t round = 0; round < 3; round++) {
			for (uint32_t i = 0; i < 40; i++)
				slot[i] = acquire(b, numbered(round == 1 ? i % 4 : i));
			(void)check_records(b, 40);
			release_all(slot, 40);
			n = check_records(b, 0);
			ck_assert_uint_le(n.named, most[m]);
			ck_assert_uint_ge(n.named + n.spare, most[m]);
		}
		for (uint32_t i = 0; i < 100; i++)
			use(b, numbered(i * 7 % 40));
		(void)check_records(b, 0);
	}
	check_no_counts();
}
END_TEST

START_TEST(the_number_of_records_a_thread_keeps_depends_on_the_table_size) {
	static const uint32_t slots[] = {16, 2048, 8192, 262144, 524288};
	static const uint32_t most[] = {1, 1, 4, 128, 128};

	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		struct berth *h = handle_make(0);

		session_of(h)->map->layout.max_slots = slots[i];
		ck_assert_uint_eq(thread_get_cache(session_of(h))->capacity, most[i]);
		berth_close(h);
	}
}
END_TEST

START_TEST(a_full_cache_drops_all_entries_and_loses_no_record) {
	berth_slot held[300];
	struct cache *c;
	uint64_t stamp;
	size_t n = 0;

	accounts_create(ACCOUNTS);
	use(b, numbered(0));
	c = cache_of(b);
	stamp = c->stamp;
	for (uint32_t i = 1; i < ENTRIES; i++) {
		berth_slot slot = acquire(b, numbered(i));

		if (i % 4 == 0)
			held[n++] = slot;
		else
			release(b, slot);
	}
	ck_assert_uint_eq(c->entry_count, ENTRIES);
	ck_assert_uint_eq(c->stamp, stamp);
	(void)check_records(b, (uint32_t)n);
	held[n++] = acquire(b, numbered(ENTRIES));
	ck_assert_uint_eq(c->entry_count, 1);
	ck_assert_uint_ne(c->stamp, stamp);
	ck_assert_uint_eq(check_records(b, (uint32_t)n).pooled, RECORDS - n);
	for (uint32_t i = 0; i < ENTRIES; i++)
		ck_assert_ptr_null(cache_find(c, numbered(i)));
	/* The entries of these slots are gone, and new entries have taken their memory. */
	for (uint32_t i = 0; i < ENTRIES / 2; i++)
		use(b, numbered(i));
	while (n > 0)
		release(b, held[--n]);
	check_idle(b);
}
END_TEST

START_TEST(a_thread_uses_more_accounts_than_its_cache_can_hold) {
	berth_slot held[100] = {0};

	accounts_create(ACCOUNTS);
	for (uint32_t i = 0; i < 6 * ACCOUNTS; i++) {
		berth_slot *at = &held[i * 31 % ELEMENTS(held)];

		if (*at)
			release(b, *at);
		*at = acquire(b, numbered(i * 7 % ACCOUNTS));
	}
	(void)check_records(b, ELEMENTS(held));
	release_all(held, ELEMENTS(held));
	check_idle(b);
}
END_TEST

START_TEST(a_held_slot_has_the_weight_and_label_of_its_request) {
	static const uint32_t weights[] = {1, 1, 2, BERTH_WEIGHT_MAX, 1, 2, 2};
	static const char *const names[] = {"alice", "acme/alice"};
	const char text[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	accounts_create_all(names, ELEMENTS(names));
	for (size_t i = 0; i < 4 * sizeof(text); i++) {
		size_t length = i / 4 % 2 ? sizeof(text) - i / 4 : i / 4;
		uint32_t weight = weights[i % ELEMENTS(weights)];
		const char *name = names[i % 2];
		char *label = i % 5 == 4 ? NULL : malloc(length + 1),
		     shown[BERTH_LABEL_SIZE + 1] = "";
		const struct record *r;
		berth_slot slot;

		if (label) {
			memcpy(label, text, length);
			label[length] = '\0';
		}
		ck_assert_int_eq(acquire_with(b, name, weight, label, &slot), 0);
		ck_assert_uint_eq(count_at(name), weight);
		r = load_relaxed(&local_of(b, slot)->record);
		memcpy(shown, (const void *)r->label, BERTH_LABEL_SIZE);
		ck_assert_uint_eq(
			strlen(shown), label ? MIN_OF(length, (size_t)BERTH_LABEL_SIZE - 1) : 0);
		ck_assert(!label || strncmp(shown, label, strlen(shown)) == 0);
		ck_assert_uint_ne(load_relaxed(&r->since), 0);
		free(label);
		release(b, slot);
		check_no_counts();
	}
	(void)check_records(b, 0);
}
END_TEST

/* Every third record is seized if it was placed, and otherwise overwritten with noise. */
START_TEST(unusable_records_are_passed_over_and_not_lost) {
	berth_slot slot[40], more;

	account_create("alice");
	account_create("bob");
	/* One record is alice's own. */
	use(b, "alice");
	for (uint32_t i = 0; i < 40; i++)
		slot[i] = acquire(b, "bob");
	release_all(slot, 40);
	for (struct range *r = load_acquire(&session_of(b)->pool->newest); r;
		r = load_acquire(&r->next))
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			if (r->local[i].number % 3 == 0) {
				struct record *record = map_record(f.map, r->local[i].number);

				if (place_state(load_relaxed(&record->place)) == RECORD_PLACED)
					counter_seize(f.map, r->local[i].number);
				else
					store_relaxed(&record->noted, BERTH_SEQ_MASK + 1);
			}
	for (uint32_t i = 0; i < 100; i++) {
		const char *name = i % 2 ? "alice" : "bob";

		more = acquire(b, name);
		ck_assert_uint_ne(local_of(b, more)->number % 3, 0);
		release(b, more);
		(void)check_records(b, 0);
	}
	/* Once these records are usable again, acquires use all of them. */
	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++) {
		struct record *record = map_record(f.map, n);

		if (load_relaxed(&record->noted) > BERTH_SEQ_MASK)
			store_relaxed(&record->noted, 0);
		ck_assert_int_eq(counter_finish_seized(f.map, n), 0);
	}
	for (uint32_t i = 0; i < RECORDS; i++)
		(void)acquire(b, i % 2 ? "alice" : "bob");
	(void)check_records(b, RECORDS);
}
END_TEST

START_TEST(a_record_that_has_used_up_its_seqs_is_retired) {
	struct record_places n;
	berth_slot slot;

	account_create("alice");
	for (uint32_t i = 1; i <= 20; i++) {
		struct local_slot *local;

		slot = acquire(b, "alice");
		local = local_of(b, slot);
		release(b, slot);
		store_relaxed(&load_relaxed(&local->record)->noted,
			BERTH_SEQ_LAST + (i % 2 ? 1 : 2) * BERTH_CYCLE);
		slot = acquire(b, "alice");
		ck_assert_ptr_ne(local_of(b, slot), local);
		ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_RETIRED);
		release(b, slot);
		n = records_count(b);
		ck_assert_uint_eq(n.spent, i);
		ck_assert_uint_eq(n.named + n.spare + n.pooled, RECORDS - i);
	}
	check_no_counts();
}
END_TEST

/* The records lie beyond the published part of the segment. */
START_TEST(records_that_can_t_be_mapped_hold_no_slots_and_are_not_lost) {
	const uint32_t far = want.slots / BERTH_RANGE;
	struct session *s;
	berth_slot slot = 0;

	account_create("alice");
	handle_replace(0);
	s = session_of(b);
	ck_assert_int_eq(pool_add_range(s->pool, far), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_ne(berth_acquire(b, "alice", &slot), 0);
		ck_assert_int_eq(
			acquire_with(b, "alice", 2, "label", &slot), BERTH_NO_SYSTEM_RESOURCES);
	}
	ck_assert_uint_eq(slot, 0);
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		ck_assert_uint_eq(load_relaxed(&pool_local(s->pool, far * BERTH_RANGE + i)->token),
			TOKEN_POOLED);
	range_grant(s);
	for (int i = 0; i < 3; i++)
		use(b, "alice");
	check_no_counts();
}
END_TEST

/* -- threads ----------------------------------------------------------------------------------- */

START_TEST(any_thread_releases_a_slot_and_keeps_its_record) {
	struct worker w;
	berth_slot slot[20];

	account_create("alice");
	account_create("acme/alice");
	worker_start(&w);
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < ELEMENTS(slot); i++) {
			const char *name = i % 3 ? "alice" : "acme/alice";

			slot[i] = (i + (size_t)round) % 2 ? acquire(b, name)
							  : acquire_by(&w, b, name);
		}
		(void)check_records(b, ELEMENTS(slot));
		for (size_t i = 0; i < ELEMENTS(slot); i++)
			if ((i / 2 + (size_t)round) % 2)
				release(b, slot[i]);
			else
				release_by(&w, b, slot[i]);
		check_idle(b);
	}
	worker_end(&w);
	(void)check_records(b, 0);
}
END_TEST

START_TEST(a_revocation_is_reported_once_to_the_thread_that_releases) {
	static const char *const names[] = {"alice", "acme/alice"};
	struct worker w;

	worker_start(&w);
	for (int i = 0; i < 40; i++) {
		const char *name = names[i / 2 % 2];
		struct call c = {.h = b, .account = name};

		account_create(name);
		c.slot = i % 2 ? acquire(b, name) : acquire_by(&w, b, name);
		revoke_slot(c.slot);
		check_no_counts();
		worker_do(&w, job_release, &c);
		ck_assert_int_eq(c.code, BERTH_CONNECTION_ABORTED);
		ck_assert_int_eq(berth_release(b, c.slot), BERTH_TOO_MANY_POSTS);
		worker_do(&w, job_release, &c);
		ck_assert_int_eq(c.code, BERTH_TOO_MANY_POSTS);
		(void)check_records(b, 0);
	}
	worker_end(&w);
}
END_TEST

START_TEST(a_thread_that_ends_leaves_its_records_and_its_cache_to_others) {
	struct cache *its;
	struct worker w;
	berth_slot held[30];

	accounts_create(CACHE_KEPT + 20);
	for (int round = 0; round < 5; round++) {
		worker_start(&w);
		for (uint32_t i = 0; i < CACHE_KEPT + 20; i++)
			use_by(&w, b, numbered(i));
		for (uint32_t i = 0; i < ELEMENTS(held); i++)
			held[i] = acquire_by(&w, b, numbered(i % 7));
		for (uint32_t i = 0; i < ELEMENTS(held); i += 2)
			release_by(&w, b, held[i]);
		its = load_relaxed(&session_of(b)->caches);
		/* A session needs only as many caches as it has had threads at one time. */
		ck_assert_ptr_null(its->next);
		ck_assert(load_relaxed(&its->thread) != NULL);
		worker_end(&w);
		ck_assert(load_relaxed(&its->thread) == NULL);
		ck_assert_uint_eq(
			check_records(b, ELEMENTS(held) / 2).pooled, RECORDS - ELEMENTS(held) / 2);
		/* The next thread gets the same cache. All held slots stay held. */
		worker_start(&w);
		for (uint32_t i = 0; i < ELEMENTS(held); i++)
			use_by(&w, b, numbered(i % 7));
		ck_assert_ptr_eq(load_relaxed(&session_of(b)->caches), its);
		ck_assert(load_relaxed(&its->thread) != NULL);
		for (uint32_t i = 1; i < ELEMENTS(held); i += 2)
			release_by(&w, b, held[i]);
		check_no_counts();
		worker_end(&w);
		ck_assert_uint_eq(check_records(b, 0).pooled, RECORDS);
	}
}
END_TEST

/* Another thread releases a slot, so that the slot's record leaves the first thread's cache. Later
 * the first thread gets this record for a second account, while the first account's entry still
 * names the record. */
START_TEST(a_record_that_moved_to_another_account_no_longer_serves_the_first) {
	static const char *const names[][3] = {
		{"one", "two", "three"}, {"a/one", "a/two", "a/three"}, {"one", "b/two", "three"}};
	const char *const *name = names[_i % 3];
	berth_slot s1, s2, other, s3;
	struct local_slot *away;
	struct worker w;

	accounts_create_all(name, 3);
	s1 = acquire(b, name[0]);
	away = local_of(b, s1);
	worker_start(&w);
	release_by(&w, b, s1);
	worker_end(&w); /* the thread's records go to the pool */
	s2 = acquire(b, name[1]);
	ck_assert_ptr_eq(local_of(b, s2), away);
	if (_i / 3 == 0) {
		/* The record becomes a spare. */
		other = acquire(b, name[1]);
		release(b, s2);
		release(b, other);
	} else {
		release(b, s2);
	}
	s1 = acquire(b, name[0]);
	s2 = acquire(b, name[2]);
	s3 = acquire(b, name[1]);
	ck_assert_uint_eq(count_at(name[0]), 1);
	ck_assert_uint_eq(count_at(name[1]), 1);
	ck_assert_uint_eq(count_at(name[2]), 1);
	(void)check_records(b, 3);
	release(b, s2);
	release(b, s1);
	release(b, s3);
	check_idle(b);
	/* Afterwards, each slot is still released at its own account. */
	for (int i = 0; i < 60; i++) {
		s1 = acquire(b, name[i % 3]);
		s2 = acquire(b, name[i / 3 % 3]);
		release(b, i / 9 % 2 ? s1 : s2);
		release(b, i / 9 % 2 ? s2 : s1);
		check_idle(b);
	}
}
END_TEST

/* Acts as a berthd without free ranges: answers each request with BERTH_NO_SYSTEM_RESOURCES, until
 * the client hangs up. */
static void *refuse_main(void *arg) {
	int fd = *(int *)arg;
	union {
		struct message_header header;
		char bytes[4096];
	} asked;

	while (recv(fd, &asked, sizeof(asked), 0) > 0) {
		struct message_failed failed = {.text = "no more"};

		if (asked.header.opcode == MESSAGE_BYE)
			continue;
		failed.header = message_header_make(
			asked.header.opcode, sizeof(failed), BERTH_NO_SYSTEM_RESOURCES);
		(void)send(fd, &failed, sizeof(failed), MSG_NOSIGNAL);
	}
	(void)close(fd);
	return NULL;
}

/* Connects the handle to one end of a new socket pair. Returns the other end, which is berthd's. */
static int socket_connect(struct berth *h) {
	struct stat st;
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	ck_assert_int_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(fstat(fd[0], &st), 0);
	h->socket = (struct descriptor){fd[0], st.st_dev, st.st_ino};
	h->timeout_ms = 100000;
	return fd[1];
}

static pthread_t refusing_berthd;

static void refusing_start(void) {
	static int fd;

	fd = socket_connect(b);
	thread_start(&refusing_berthd, refuse_main, &fd);
}

static void refusing_end(void) {
	berth_close(b);
	b = NULL;
	threads_join(&refusing_berthd, 1);
}

#define THREADS 6
#define MAILBOX 64
#define TIGHT   5

/* These ranges suffice for each thread to keep as many records as it may. */
#define THREADS_RANGES \
	((THREADS * (CACHE_KEPT + CACHE_SPARE + 1) + MAILBOX + BERTH_RANGE - 1) / BERTH_RANGE)

static _Atomic uint64_t mailbox[MAILBOX]; /* held slots, which any thread may release */
static _Atomic uint32_t tight_now, failures;
static bool may_run_out; /* true if the session has so few records that an acquire may find none */
static _Atomic int last_failure;

static const char *const stressed[] = {"acme/alice", "acme/bob", "loose", "a/b/c/d"};

static void failed_with(int what) {
	(void)add_relaxed(&failures, 1);
	store_relaxed(&last_failure, what);
}

struct stress_thread {
	pthread_t thread;
	uint64_t random;
	uint32_t rounds;
};

/* In the mailbox, this bit marks a slot of the account `tight`. It is the highest bit of the
 * record's number, which is 0 in every slot of this test. */
#define TIGHT_BIT (UINT64_C(1) << 43)

/* Acquires a slot, puts it into the mailbox, and releases the slot that was at this place. */
static void stress_step(struct stress_thread *m) {
	static const char *const few[] = {"tight", "acme/alice", "acme/bob", "loose", "a/b/c/d"};
	uint32_t n = random_of(&m->random, 8), weight = random_of(&m->random, 8) ? 1 : 2;
	bool is_tight = n == 0;
	const char *name = n < ELEMENTS(few) ? few[n] : numbered(random_of(&m->random, 200));
	const char *label = random_of(&m->random, 3) ? NULL : "a label of a stress thread";
	uint64_t slot = 0;
	int code = is_tight || random_of(&m->random, 2)
			   ? berth_acquire(b, name, &slot)
			   : acquire_with(b, name, weight, label, &slot);

	if (code == BERTH_NO_SYSTEM_RESOURCES && may_run_out)
		return;
	if (code == BERTH_CONNECTION_COUNT_LIMIT && is_tight)
		return;
	if (code != BERTH_SUCCESS) {
		failed_with(code);
		return;
	}
	if (is_tight && add_relaxed(&tight_now, 1) + 1 > TIGHT)
		failed_with(-1);
	slot |= is_tight ? TIGHT_BIT : 0;
	slot = atomic_exchange(&mailbox[random_of(&m->random, MAILBOX)], slot);
	if (slot & TIGHT_BIT)
		(void)add_relaxed(&tight_now, -1u);
	code = slot ? berth_release(b, slot & ~TIGHT_BIT) : 0;
	if (code != BERTH_SUCCESS)
		failed_with(code);
	/* A second release is refused, whatever the record is used for by now. */
	if (slot && random_of(&m->random, 4) == 0 &&
		berth_release(b, slot & ~TIGHT_BIT) != BERTH_TOO_MANY_POSTS)
		failed_with(-2);
}

static void *stress_main(void *arg) {
	struct stress_thread *m = arg;

	for (uint32_t i = 0; i < m->rounds; i++)
		stress_step(m);
	return NULL;
}

static uint32_t mailbox_release_all(void) {
	uint32_t n = 0;

	for (size_t i = 0; i < MAILBOX; i++) {
		uint64_t slot = atomic_exchange(&mailbox[i], 0);

		if (!slot)
			continue;
		n++;
		if (slot & TIGHT_BIT)
			(void)add_relaxed(&tight_now, -1u);
		release(b, slot & ~TIGHT_BIT);
	}
	return n;
}

/* Runs several generations of threads. Each generation ends before the next one starts. */
static void stress_run(void *(*run)(void *thread), uint32_t generations, uint32_t rounds) {
	struct stress_thread thread[THREADS];
	uint64_t random = random_seed();

	for (uint32_t g = 0; g < generations; g++) {
		for (size_t i = 0; i < THREADS; i++) {
			thread[i].random = random + g * 100 + i;
			thread[i].rounds = rounds / (1 + (uint32_t)i % 3);
			thread_start(&thread[i].thread, run, &thread[i]);
		}
		for (size_t i = 0; i < THREADS; i++)
			(void)pthread_join(thread[i].thread, NULL);
		ck_assert_msg(
			failures == 0, "%u failures, the last with %d", failures, last_failure);
	}
}

static void stress_create_accounts(void) {
	accounts_create(200);
	limit_set("tight", TIGHT);
	accounts_create_all(stressed, ELEMENTS(stressed));
}

START_TEST(threads_that_release_each_other_s_slots_lose_no_slot_and_no_record) {
	uint32_t held;

	stress_create_accounts();
	handle_replace(THREADS_RANGES);
	stress_run(stress_main, 10, 20000);
	held = records_count(b).slots;
	ck_assert_uint_le(held, MAILBOX);
	(void)check_records(b, held);
	ck_assert_uint_eq(mailbox_release_all(), held);
	check_no_counts();
	ck_assert_uint_eq(tight_now, 0);
	(void)check_records(b, 0);
	ck_assert(threads_keep_out(session_of(b)));
	ck_assert(pool_close(session_of(b)->pool));
}
END_TEST

/* There are so few records that a thread, to acquire a slot of one account, also needs records that
 * it keeps for other accounts. */
START_TEST(threads_that_need_more_records_than_exist_lose_none) {
	stress_create_accounts();
	handle_replace((MAILBOX + THREADS) / BERTH_RANGE + 1);
	refusing_start();
	may_run_out = true;
	stress_run(stress_main, 6, 10000);
	ck_assert(load_relaxed(&session_of(b)->pool->is_full));
	(void)mailbox_release_all();
	check_idle(b);
	refusing_end();
}
END_TEST

static _Atomic bool is_over;

static void *revoke_main(void *arg) {
	uint64_t random = 1;

	(void)arg;
	while (!load_relaxed(&is_over)) {
		uint32_t n = BERTH_RANGE + random_of(&random, RECORDS);
		struct snapshot seen;

		if (counter_record(f.map, n, &seen) == 0 && snapshot_is_held(seen))
			(void)counter_revoke(f.map, n, seen);
		(void)sched_yield();
	}
	return NULL;
}

static void *stress_revoked_main(void *arg) {
	struct stress_thread *m = arg;

	for (uint32_t i = 0; i < m->rounds; i++) {
		berth_slot slot[4];
		size_t n = 0;

		while (n < 1 + random_of(&m->random, 4)) {
			int code = berth_acquire(b, stressed[random_of(&m->random, 4)], &slot[n]);

			n += code == 0;
			if (code != 0 && code != BERTH_CONNECTION_ABORTED)
				failed_with(code);
			if (code != 0)
				break;
		}
		while (n > 0) {
			int code = berth_release(b, slot[--n]);

			if (code != 0 && code != BERTH_CONNECTION_ABORTED)
				failed_with(code);
			if (berth_release(b, slot[n]) != BERTH_TOO_MANY_POSTS)
				failed_with(-2);
		}
	}
	return NULL;
}

START_TEST(slots_revoked_while_threads_run_are_reported_once_and_no_record_is_lost) {
	struct record_places n;
	pthread_t daemon;

	stress_create_accounts();
	thread_start(&daemon, revoke_main, NULL);
	stress_run(stress_revoked_main, 1, 30000);
	is_over = true;
	threads_join(&daemon, 1);
	check_no_counts();
	n = records_count(b);
	ck_assert_uint_eq(n.slots, 0);
	ck_assert_uint_eq(n.pooled + n.spent, RECORDS);
}
END_TEST

/* -- denials ----------------------------------------------------------------------------------- */

struct denied {
	struct berth *h;
	const char *account;
	int times, failures;
};

static void job_be_denied(void *data) {
	struct denied *d = data;
	berth_slot slot;

	for (int i = 0; i < d->times; i++)
		d->failures +=
			berth_acquire(d->h, d->account, &slot) != BERTH_CONNECTION_COUNT_LIMIT;
}

static uint64_t denied_in_cell(const char *name) {
	return load_relaxed(&map_cell(f.map, account_of(name))->denied);
}

static uint64_t denied_in_session(const char *name) {
	return denials_pending(f.map, account_of(name));
}

static void check_denied(uint64_t in_cell, uint64_t in_session) {
	ck_assert_uint_eq(denied_in_cell("full"), in_cell);
	ck_assert_uint_eq(denied_in_session("full"), in_session);
}

START_TEST(one_thread_counts_denials_in_the_session_and_the_others_in_the_cell) {
	struct denied mine = {b, "full/alice", 10, 0}, theirs = {b, "full/alice", 100, 0};
	struct berth_usage usage = {.size = sizeof(usage)};
	struct worker w, x;

	account_create("full");
	account_create("full/alice");
	/* Each thread gets an entry of the account, so that the fast path denies. */
	use(b, "full/alice");
	worker_start(&w);
	worker_start(&x);
	use_by(&w, b, "full/alice");
	limit_set("full", 0);
	job_be_denied(&mine);
	check_denied(0, 10);
	worker_do(&w, job_be_denied, &theirs);
	check_denied(100, 10);
	ck_assert_int_eq(berth_query(b, "full", &usage), 0);
	ck_assert_uint_eq(usage.denied, 110);
	ck_assert_uint_eq(denied_in_session("full/alice") + denied_in_cell("full/alice"), 0);
	ck_assert_int_eq(mine.failures + theirs.failures, 0);
	/* In a new session, another thread counts in the words, until that thread ends. */
	limit_set("full", BERTH_LIMIT_NONE);
	handle_replace(4);
	mine.h = theirs.h = b;
	use_by(&w, b, "full/alice");
	use_by(&x, b, "full/alice");
	limit_set("full", 0);
	denials_collect(f.map);
	check_denied(110, 0);
	worker_do(&w, job_be_denied, &mine);
	worker_do(&x, job_be_denied, &theirs);
	check_denied(210, 10);
	worker_end(&w);
	/* An acquire on the general path makes the thread claim the session's words. */
	worker_do(&x, job_be_denied, &mine);
	limit_set("full", BERTH_LIMIT_NONE);
	generation_raise("full");
	use_by(&x, b, "full/alice");
	limit_set("full", 0);
	worker_do(&x, job_be_denied, &theirs);
	check_denied(220, 110);
	worker_end(&x);
	denials_collect(f.map);
	check_denied(330, 0);
	ck_assert_int_eq(mine.failures + theirs.failures, 0);
}
END_TEST

static void *deny_main(void *arg) {
	struct denied *d = arg;

	job_be_denied(d);
	(void)add_relaxed(&failures, (uint32_t)d->failures);
	return NULL;
}

START_TEST(denials_of_threads_that_start_and_end_are_all_counted) {
	static const char *const names[] = {"full", "full/1", "full/2", "full/3", "full/4"};
	struct denied d[5 * THREADS];
	pthread_t thread[THREADS];
	uint64_t sum = 0;

	for (size_t i = 0; i < ELEMENTS(names); i++)
		limit_set(names[i], 0);
	for (uint32_t g = 0; g < 5; g++) {
		for (size_t i = 0; i < THREADS; i++) {
			d[i] = (struct denied){b, names[(i + g) % ELEMENTS(names)], 5000, 0};
			thread_start(&thread[i], deny_main, &d[i]);
		}
		for (int i = 0; i < 200; i++) {
			denials_collect(f.map);
			(void)sched_yield();
		}
		threads_join(thread, THREADS);
	}
	for (size_t i = 0; i < ELEMENTS(names); i++)
		sum += denied_in_cell(names[i]) + denied_in_session(names[i]);
	ck_assert_uint_eq(sum, 5 * THREADS * 5000);
	denials_collect(f.map);
	sum = 0;
	for (size_t i = 0; i < ELEMENTS(names); i++)
		sum += denied_in_cell(names[i]);
	ck_assert_uint_eq(sum, 5 * THREADS * 5000);
	ck_assert_uint_eq(failures, 0);
	(void)check_records(b, 0);
}
END_TEST

/* -- no record left ---------------------------------------------------------------------------- */

START_TEST(a_thread_uses_records_kept_for_other_accounts_before_it_is_refused) {
	berth_slot slot[BERTH_RANGE];
	accounts_create(2 * BERTH_RANGE);
	handle_replace(1);
	refusing_start();
	for (int round = 0; round < 3; round++) {
		/* Now the thread keeps every record: each for an account, or as a spare. */
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			use(b, numbered(i));
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			slot[i] = acquire(b, numbered(BERTH_RANGE + (round % 2 ? 0 : i)));
		(void)check_records(b, BERTH_RANGE);
		for (int i = 0; i < 3; i++)
			check_refused(numbered((uint32_t)i), BERTH_NO_SYSTEM_RESOURCES);
		ck_assert(load_relaxed(&session_of(b)->pool->is_full));
		/* A record whose slot is released serves any account. */
		release(b, slot[5]);
		slot[5] = acquire(b, numbered(3));
		(void)check_records(b, BERTH_RANGE);
		release_all(slot, BERTH_RANGE);
		check_idle(b);
	}
	/* While the pool is empty, a thread keeps no spares. */
	ck_assert_uint_eq(check_records(b, 0).spare, 0);
	refusing_end();
}
END_TEST

/* -- handles ----------------------------------------------------------------------------------- */

START_TEST(a_thread_may_use_more_handles_than_it_has_caches) {
	struct berth *h[THREAD_CACHES + 3];
	berth_slot held[ELEMENTS(h)][3] = {{0}};

	accounts_create(5);
	for (size_t i = 0; i < ELEMENTS(h); i++)
		h[i] = handle_make(2);
	for (uint32_t i = 0; i < 600; i++) {
		size_t n = i < 300 ? i % ELEMENTS(h) : i * i / 3 % ELEMENTS(h);
		berth_slot *at = &held[n][i / ELEMENTS(h) % 3];

		if (*at)
			release(h[n], *at);
		*at = acquire(h[n], numbered(i % 5));
		use(h[n], numbered(i % 3));
		/* A handle refuses the slot of another handle. */
		ck_assert_int_eq(
			berth_release(h[(n + 1) % ELEMENTS(h)], *at), BERTH_TOO_MANY_POSTS);
	}
	for (size_t i = 0; i < ELEMENTS(h); i++) {
		uint32_t slots = 0, caches = 0;

		for (size_t k = 0; k < 3; k++)
			slots += held[i][k] != 0;
		(void)check_records(h[i], slots);
		for (struct cache *c = load_relaxed(&session_of(h[i])->caches); c; c = c->next)
			caches++;
		ck_assert_uint_eq(caches, 1);
	}
	for (size_t i = 0; i < ELEMENTS(h); i++) {
		for (size_t k = 0; k < 3; k++)
			if (held[i][k])
				release(h[i], held[i][k]);
		(void)check_records(h[i], 0);
		berth_close(h[i]);
	}
	check_no_counts();
}
END_TEST

struct user {
	struct berth *h;
	sem_t *used, *closed;
	struct berth *next; /* if not NULL, used after `h` is closed */
};

static void *use_and_stay_main(void *arg) {
	struct user *u = arg;

	for (uint32_t i = 0; i < 16; i++)
		use(u->h, numbered(i));
	(void)sem_post(u->used);
	semaphore_wait(u->closed);
	for (uint32_t i = 0; u->next && i < 16; i++)
		use(u->next, numbered(i));
	return NULL;
}

/* If a thread accesses freed memory, the sanitizers report it. */
START_TEST(a_handle_is_closed_before_the_threads_that_have_caches_of_it_end) {
	pthread_t thread[THREADS];
	struct user u[THREADS];
	sem_t used, closed;

	accounts_create(16);
	for (int round = 0; round < 4; round++) {
		struct berth *h = handle_make(RANGES / 4),
			     *next = round % 2 ? handle_make(RANGES / 4) : NULL;

		(void)sem_init(&used, 0, 0);
		(void)sem_init(&closed, 0, 0);
		for (size_t i = 0; i < THREADS; i++) {
			u[i] = (struct user){h, &used, &closed, next};
			thread_start(&thread[i], use_and_stay_main, &u[i]);
		}
		for (size_t i = 0; i < THREADS; i++)
			semaphore_wait(&used);
		(void)check_records(h, 0);
		berth_close(h);
		for (size_t i = 0; i < THREADS; i++)
			(void)sem_post(&closed);
		threads_join(thread, THREADS);
		if (next)
			(void)check_records(next, 0);
		berth_close(next);
	}
	check_no_counts();
}
END_TEST

static void *use_main(void *arg) {
	struct user *u = arg;

	for (uint32_t i = 0; i < 200; i++)
		use(u->h, numbered(i % 16));
	(void)sem_post(u->used);
	return NULL;
}

/* The threads end while their handle is being closed. */
START_TEST(a_handle_is_closed_while_threads_end) {
	accounts_create(16);
	for (int round = 0; round < 100; round++) {
		struct berth *h = handle_make(0);
		pthread_t thread[THREADS];
		sem_t used;
		struct user u = {h, &used, NULL, NULL};

		/* Use the session entry and the ranges of the previous round again. */
		next_session = 1;
		next_range = RANGES + 1;
		for (uint32_t n = 0; n < 8; n++) {
			for (uint32_t i = 0; i < BERTH_RANGE && round > 0; i++)
				ck_assert_int_eq(
					counter_close(f.map, (next_range + n) * BERTH_RANGE + i),
					0);
		}
		for (uint32_t n = 0; n < 8; n++)
			range_grant(session_of(h));
		(void)sem_init(&used, 0, 0);
		for (size_t i = 0; i < THREADS; i++)
			thread_start(&thread[i], use_main, &u);
		for (size_t i = 0; i < THREADS; i++)
			semaphore_wait(&used);
		berth_close(h);
		threads_join(thread, THREADS);
	}
	check_no_counts();
}
END_TEST

/* -- the session's end ------------------------------------------------------------------------- */

/* True if a handle that was closed sent a goodbye before it hung up. */
static bool has_said_goodbye(int fd) {
	struct message_bye bye;
	ssize_t n = recv(fd, &bye, sizeof(bye), 0);

	if (n > 0) {
		ck_assert_int_eq(n, (ssize_t)sizeof(bye));
		ck_assert_uint_eq(bye.header.opcode, MESSAGE_BYE);
		ck_assert_int_eq(recv(fd, &bye, sizeof(bye), 0), 0);
	}
	(void)close(fd);
	return n > 0;
}

START_TEST(a_session_says_goodbye_if_no_thread_is_in_a_call) {
	struct worker w;

	accounts_create(9);
	worker_start(&w);
	for (int how = 0; how < 7; how++) {
		struct berth *h = handle_make(2);
		int fd = socket_connect(h);
		struct local_slot *local;
		berth_slot slot;

		use_by(&w, h, numbered(0));
		for (uint32_t i = 0; i < 9; i++)
			use(h, numbered(i));
		switch (how) {
		case 1: /* slots are held: the close releases them */
			(void)acquire(h, numbered(1));
			(void)acquire_by(&w, h, numbered(2));
			break;
		case 2: /* a thread is stopped in an acquire */
			store_relaxed(&cache_of(h)->is_inside, true);
			break;
		case 3: /* another thread is stopped in a call */
			for (struct cache *c = load_relaxed(&session_of(h)->caches); c; c = c->next)
				if (c != cache_of(h))
					store_relaxed(&c->is_inside, true);
			break;
		case 4: /* a thread without a cache has claimed a record */
			ck_assert_int_eq(pool_claim(session_of(h)->pool, &local), 0);
			break;
		case 5: /* berthd has revoked a slot: that doesn't prevent the goodbye */
			slot = acquire(h, numbered(1));
			revoke_slot(slot);
			break;
		case 6: /* a slot can't be released: that prevents the goodbye */
			slot = acquire(h, numbered(1));
			store_relaxed(&local_of(h, slot)->is_seized, true);
			counter_seize(f.map, local_of(h, slot)->number);
			break;
		default:
			break;
		}
		ck_assert(threads_keep_out(session_of(h)) == (how != 2 && how != 3));
		berth_close(h);
		ck_assert_msg(has_said_goodbye(fd) == (how < 2 || how == 5), "case %d", how);
		for (uint32_t n = BERTH_RANGE; n < next_range * BERTH_RANGE; n++)
			(void)counter_finish_seized(f.map, n);
		check_no_counts();
	}
	worker_end(&w);
}
END_TEST

/* -- fork -------------------------------------------------------------------------------------- */

static int child_status(pid_t pid) {
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		;
	return status;
}

/* True if MADV_WIPEONFORK works: qemu-user accepts the advice and ignores it. */
static bool kernel_wipes_on_fork(void) {
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	ck_assert_ptr_ne(page, MAP_FAILED);
	page[0] = 1;
	(void)madvise(page, 4096, MADV_WIPEONFORK);
	pid = fork();
	if (pid == 0)
		_exit(page[0]);
	status = child_status(pid);
	(void)munmap(page, 4096);
	return status == 0;
}

/* Runs in the child. Returns 0 if every step succeeds, otherwise the number of the step that
 * failed. No daemon gives the child a session, so its acquires are refused. */
static int child_uses(struct berth *h, const berth_slot *held, size_t n, bool wiped) {
	berth_slot slot;

	/* The fast path looks for the session here. */
	for (size_t i = 0; i < THREAD_CACHES; i++)
		if (wiped && thread_self->session[i] != 0)
			return 1;
	for (size_t i = 0; i < n; i++)
		if (berth_release(h, held[i]) != BERTH_TOO_MANY_POSTS)
			return 2;
	for (uint32_t i = 0; i < 3; i++)
		if (berth_acquire(h, numbered(i), &slot) != BERTH_CONNECTION_REFUSED)
			return 3;
	if (load_relaxed(&h->current) || load_relaxed(&h->fast) != &session_none)
		return 4;
	for (size_t i = 0; i < n; i++)
		if (berth_release(h, held[i]) != BERTH_TOO_MANY_POSTS)
			return 5;
	berth_close(h);
	return 0;
}

struct forked {
	struct berth *h;
	const berth_slot *held;
	size_t n;
	bool bare, wiped;
	int status;
};

static void job_fork(void *data) {
	struct forked *x = data;
	pid_t pid = x->bare ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();

	if (pid == 0)
		_exit(child_uses(x->h, x->held, x->n, x->wiped));
	x->status = child_status(pid);
}

/* If the clone system call makes a child, no fork handlers run in the child. Then the library
 * notices only by the memory that the kernel wiped that it is in a child. */
START_TEST(a_child_uses_no_cache_of_its_parent) {
	bool wiped = kernel_wipes_on_fork();
	berth_slot held[6];
	struct worker w;

	accounts_create(5);
	worker_start(&w);
	for (uint32_t i = 0; i < 5; i++) {
		use(b, numbered(i));
		use_by(&w, b, numbered(i));
	}
	for (uint32_t i = 0; i < ELEMENTS(held); i++)
		held[i] = i % 2 ? acquire(b, numbered(i % 3)) : acquire_by(&w, b, numbered(i % 3));
	for (int i = 0; i < 8; i++) {
		struct forked x = {b, held, ELEMENTS(held), wiped && i % 2, wiped, -1};
		struct record_places before = check_records(b, ELEMENTS(held)), after;

		if (i / 2 % 2)
			worker_do(&w, job_fork, &x);
		else
			job_fork(&x);
		ck_assert_msg(x.status == 0, "fork %d: step %d failed in the child", i,
			WEXITSTATUS(x.status));
		after = check_records(b, ELEMENTS(held));
		ck_assert_mem_eq(&before, &after, sizeof(before));
		use(b, numbered(4));
	}
	release_all(held, ELEMENTS(held));
	check_no_counts();
	worker_end(&w);
}
END_TEST

/* -- a thread stopped at any instruction ------------------------------------------------------- */

/* A thread is single-stepped through a call. At one instruction of this program's own code, the
 * thread is stopped while other threads act. Then the call goes on. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define STEPS 1

extern const char __executable_start[], etext[];

static volatile long steps, stop_at;
static long stride; /* the call is stopped at every stride-th instruction; $STRIDE, if set, wins */
static void (*at_stop)(void);
static struct worker rival;

static void on_step(int number, siginfo_t *info, void *data) {
	const ucontext_t *context = data;
	const char *pc = (const char *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];

	(void)number, (void)info;
	if (pc >= __executable_start && pc < etext && steps++ == stop_at)
		at_stop();
}

/* Sets or clears the trap flag. The code skips the 128 bytes below the stack pointer (the red
 * zone), in which the compiler may keep values. */
#define FLAGS_CHANGE(how)                                                           \
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\t" how "\n\tpopfq\n\t" \
			 "lea 128(%%rsp), %%rsp" ::                                 \
				 : "memory", "cc")

/* Repeats the call, until it has been stopped once at each stride-th instruction. At each stop,
 * meanwhile() runs. In the last repetition the call isn't stopped, and meanwhile() runs after
 * it. */
static void explore(
	void (*prepare)(void), void (*call)(void), void (*meanwhile)(void), void (*check)(void)) {
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	const char *given = getenv("STRIDE");
	bool stopped = true;
	long all;

	if (given && atol(given) > 0)
		stride = atol(given);
	(void)sigaction(SIGTRAP, &action, NULL);
	at_stop = meanwhile;
	for (all = getpid() % stride; stopped; all += stride) {
		prepare();
		steps = 0;
		stop_at = all;
		FLAGS_CHANGE("orq $0x100, (%%rsp)");
		call();
		FLAGS_CHANGE("andq $~0x100, (%%rsp)");
		stopped = steps > all;
		if (!stopped)
			meanwhile();
		check();
	}
	printf("stopped at %ld of %ld instructions\n", all / stride, steps);
	worker_end(&rival);
}

static const char *const stepped[] = {"alice", "acme/alice", "a/b/c"};
static int variant;
/* One call that is stopped, and what the rival thread does meanwhile. */
static struct {
	const char *name;
	berth_slot slot, extra, theirs[2];
	int code, rivals;
	bool goodbye, revoked;
	uint32_t charged;
} trial;

static void call_release(void) {
	trial.code = berth_release(b, trial.slot);
}

static void call_acquire(void) {
	trial.code = berth_acquire(b, trial.name, &trial.slot);
}

static void steps_set_up(int i) {
	variant = i;
	stride = i % 3 ? 5 : 1;
	memset(&trial, 0, sizeof(trial));
	trial.name = stepped[i % 3];
	account_create(trial.name);
	account_create("bob");
	worker_start(&rival);
}

/* Acquires trial.slot, which will be released. In some variants, then acquires one more slot. */
static void prepare_held(void) {
	trial.theirs[0] = trial.theirs[1] = 0;
	trial.slot = acquire(b, trial.name);
	trial.extra = variant / 3 % 2 ? acquire(b, "bob") : 0;
	store_relaxed(&session_of(b)->pool->is_full, variant / 6 % 2);
}

/* If the rival's release succeeds, the rival uses the record for slots of its own at once. */
static void meanwhile_released_twice(void) {
	struct call c = {.h = b, .slot = trial.slot};

	worker_do(&rival, job_release, &c);
	trial.rivals = c.code;
	for (int i = 0; i < 2 && c.code == 0; i++)
		trial.theirs[i] = acquire_by(&rival, b, trial.name);
}

/* Releases all other slots of the trial, and checks that then no slot is held. */
static void check_after_release(void) {
	for (int i = 0; i < 2; i++)
		if (trial.theirs[i])
			release_by(&rival, b, trial.theirs[i]);
	if (trial.extra)
		release(b, trial.extra);
	check_idle(b);
}

static void check_released_once(void) {
	int no = trial.rivals == 0 ? trial.code : trial.rivals;

	ck_assert_msg((trial.rivals == 0) != (trial.code == 0) && no == BERTH_TOO_MANY_POSTS,
		"stopped at %ld: release %d, the rival's release %d", stop_at, trial.code,
		trial.rivals);
	ck_assert_uint_eq(count_at(trial.name), trial.rivals == 0 ? 2 : 0);
	check_after_release();
}

START_TEST(a_slot_that_a_stopped_thread_and_another_release_is_released_once) {
	steps_set_up(_i);
	explore(prepare_held, call_release, meanwhile_released_twice, check_released_once);
}
END_TEST

/* The thread has the path in its cache, or has to look it up again. */
static void prepare_acquire(void) {
	trial.extra = acquire(b, trial.name);
	use(b, trial.name);
	if (variant / 3 % 2)
		generation_raise(trial.name);
	else
		use(b, trial.name);
}

/* The cells change, and the rival gets the record that the thread used before. */
static void meanwhile_used(void) {
	trial.theirs[0] = acquire_by(&rival, b, trial.name);
	release_by(&rival, b, trial.extra);
	use_by(&rival, b, trial.name);
}

static void check_acquired(void) {
	ck_assert_msg(trial.code == 0, "stopped at %ld: acquire returned %d", stop_at, trial.code);
	ck_assert_uint_eq(count_at(trial.name), 2);
	(void)check_records(b, 2);
	release_by(&rival, b, trial.theirs[0]);
	release(b, trial.slot);
	check_idle(b);
}

START_TEST(an_acquire_succeeds_whatever_others_do_while_its_thread_is_stopped) {
	steps_set_up(_i);
	stride = _i / 3 % 2 ? 31 : stride;
	explore(prepare_acquire, call_acquire, meanwhile_used, check_acquired);
}
END_TEST

static const char *limited(void) {
	return variant / 6 % 2 && variant % 3 ? variant % 3 == 1 ? "acme" : "a" : trial.name;
}

static void prepare_limit(void) {
	prepare_acquire();
	release(b, trial.extra);
}

/* Sets the limit to 0. The stopped acquire may succeed only if it has charged the account
 * before. */
static void meanwhile_limited(void) {
	limit_set(limited(), 0);
	trial.charged = count_at(limited());
}

static void check_limited(void) {
	ck_assert_msg(trial.code == (trial.charged ? 0 : BERTH_CONNECTION_COUNT_LIMIT),
		"stopped at %ld: acquire returned %d, and %u were charged before the limit",
		stop_at, trial.code, trial.charged);
	if (trial.code == 0)
		release(b, trial.slot);
	check_no_counts();
	limit_set(limited(), BERTH_LIMIT_NONE);
	(void)check_records(b, 0);
}

START_TEST(a_limit_acknowledged_while_a_thread_is_stopped_holds) {
	steps_set_up(_i);
	stride = _i / 3 % 2 ? 61 : stride;
	explore(prepare_limit, call_acquire, meanwhile_limited, check_limited);
}
END_TEST

/* Revokes the slot as berthd does. In half of the variants, the rival first acquires a slot. */
static void meanwhile_revoked(void) {
	uint32_t record = local_of(b, trial.slot)->number;
	struct snapshot seen;

	if (variant / 6 % 2)
		trial.theirs[0] = acquire_by(&rival, b, trial.name);
	seen = newest_of(record);
	trial.revoked = snapshot_is_held(seen) && counter_revoke(f.map, record, seen) == 0;
	if (!trial.revoked)
		ck_assert_int_eq(counter_finish(f.map, record), 0);
	ck_assert_uint_eq(count_at(trial.name), variant / 6 % 2);
}

static void prepare_revoked(void) {
	prepare_held();
	store_relaxed(&session_of(b)->pool->is_full, false);
}

static void check_revoked(void) {
	ck_assert_msg(
		trial.code == (trial.revoked && steps > stop_at ? BERTH_CONNECTION_ABORTED : 0),
		"stopped at %ld: release returned %d, revoked: %d", stop_at, trial.code,
		trial.revoked);
	ck_assert_int_eq(berth_release(b, trial.slot), BERTH_TOO_MANY_POSTS);
	check_after_release();
}

START_TEST(a_slot_revoked_while_its_release_is_stopped_is_released_once_and_reported) {
	steps_set_up(_i);
	explore(prepare_revoked, call_release, meanwhile_revoked, check_revoked);
}
END_TEST

static uint32_t goodbyes, acquired;

/* For each record: the seq of the slot that the next session acquires with the record. Half of the
 * records still hold this slot; the other half rest at the account. */
static uint64_t next_session_seq[BERTH_RANGE];

static void range_close(uint32_t range) {
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		ck_assert_int_eq(counter_close(f.map, range * BERTH_RANGE + i), 0);
}

/* Makes a new handle, which uses the session entry and the range of the previous handle. */
static void prepare_goodbye(void) {
	next_session = 1;
	next_range = RANGES + 1;
	range_close(next_range);
	b = handle_make(1);
	b->timeout_ms = 1;
	trial.goodbye = false;
	use(b, trial.name);
	if (variant / 3 % 2)
		generation_raise(trial.name);
}

/* Closes the pool as berth_close() does. If the session may say goodbye, acts as berthd, which
 * gives the session's records to the next session. */
static void meanwhile_goodbye(void) {
	struct session *s = session_of(b);
	const struct stamp stamp = {0};
	struct path path = path_in_session(trial.name);

	trial.goodbye = threads_keep_out(s) && pool_close(s->pool);
	if (!trial.goodbye)
		return;
	store_release(&map_session(f.map, s->index)->state, SESSION_ENDED);
	range_close(RANGES + 1);
	for (uint32_t i = 0; i < BERTH_RANGE; i++) {
		uint32_t n = (RANGES + 1) * BERTH_RANGE + i;

		ck_assert_int_eq(counter_open(f.map, n), 0);
		ck_assert_int_eq(
			record_acquire(f.map, n, &path, 1, &stamp, &next_session_seq[i]), 0);
		if (i % 2)
			record_release(n, next_session_seq[i]);
	}
}

static void check_goodbye(void) {
	if (trial.goodbye) {
		ck_assert_msg(trial.code != 0,
			"stopped at %ld: it acquired a slot of the next session", stop_at);
		ck_assert_uint_eq(count_at(trial.name), BERTH_RANGE / 2);
		for (uint32_t i = 0; i < BERTH_RANGE; i += 2)
			ck_assert_int_eq(counter_release(f.map, (RANGES + 1) * BERTH_RANGE + i,
						 next_session_seq[i]),
				0);
	}
	/* If there was no goodbye, a call that entered the cache before the close may succeed. */
	if (trial.code == 0)
		release(b, trial.slot);
	goodbyes += trial.goodbye;
	acquired += trial.code == 0;
	check_no_counts();
	berth_close(b);
	b = NULL;
}

START_TEST(after_a_goodbye_a_stopped_thread_acquires_no_record_of_the_next_session) {
	struct berth *mine = b;

	steps_set_up(_i);
	stride = _i / 3 ? 31 : _i % 3 ? 3 : 1;
	explore(prepare_goodbye, call_acquire, meanwhile_goodbye, check_goodbye);
	ck_assert_uint_gt(goodbyes, 0);
	ck_assert_uint_gt(acquired, 0);
	b = mine;
}
END_TEST

static struct path alices;

/* Fills the cache, so that it drops all entries when it makes the next one. The names are so long
 * that they fill more than one block of the cache's memory. */
static void prepare_dropped(void) {
	char name[BERTH_NAME_MAX + 1];

	alices = path_in_session("alice");
	use(b, "alice");
	for (uint32_t i = 0; i < 25; i++) {
		memset(name, 'a', BERTH_NAME_MAX);
		(void)snprintf(name + BERTH_NAME_MAX - 4, 5, "%u", 1000 + i);
		ck_assert_ptr_nonnull(cache_add(cache_of(b), session_of(b)->pool, name, &alices));
	}
	cache_of(b)->entry_count = ENTRIES;
}

static void call_add(void) {
	trial.code = !cache_add(thread_self->cache[0], session_of(b)->pool, "new", &alices);
}

static void meanwhile_forked(void) {
	struct forked x = {b, NULL, 0, false, true, -1};

	worker_do(&rival, job_fork, &x);
	ck_assert_msg(x.status == 0, "stopped at %ld: the child's wait status is %x", stop_at,
		(unsigned)x.status);
}

static void check_dropped(void) {
	ck_assert_int_eq(trial.code, 0);
	ck_assert_uint_eq(cache_of(b)->entry_count, 1);
	(void)check_records(b, 0);
}

START_TEST(a_fork_succeeds_whatever_another_thread_does_with_its_cache) {
	steps_set_up(0);
	accounts_create(3);
	explore(prepare_dropped, call_add, meanwhile_forked, check_dropped);
}
END_TEST

/* -- lack of memory ---------------------------------------------------------------------------- */

static void memory_limit(rlim_t bytes) {
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

static void job_without_memory(void *data) {
	struct call *c = data;

	memory_limit(1 << 20);
	errno = EEXIST;
	for (int i = 0; i < 50 && c->code == 0; i++) {
		c->code = berth_acquire(c->h, c->account, &c->slot);
		if (c->code == 0)
			c->code = berth_release(c->h, c->slot);
	}
	c->code = c->code != 0 ? c->code : errno == EEXIST ? 0 : -1;
	memory_limit(RLIM_INFINITY);
}

START_TEST(a_thread_without_memory_for_a_cache_still_acquires_slots) {
	struct berth_usage usage = {.size = sizeof(usage)};
	struct call c = {.h = b, .account = "alice"};
	struct worker w;

	account_create("alice");
	/* Map the windows of both files before memory is limited. */
	ck_assert_int_eq(berth_query(b, "alice", &usage), 0);
	for (uint32_t n = 1; n <= RANGES; n++)
		ck_assert_ptr_nonnull(map_record(session_of(b)->map, n * BERTH_RANGE));
	worker_start(&w);
	worker_do(&w, job_without_memory, &c);
	ck_assert_int_eq(c.code, 0);
	ck_assert_uint_eq(check_records(b, 0).pooled, RECORDS);
	ck_assert_ptr_null(load_relaxed(&session_of(b)->caches));
	/* As soon as there is memory, the thread gets a cache. */
	use_by(&w, b, "alice");
	ck_assert_uint_eq(check_records(b, 0).named, 1);
	worker_end(&w);
	check_no_counts();
}
END_TEST

#else
#define STEPS 0
#endif

START_TEST(no_call_changes_errno) {
	berth_slot slot[3];

	limit_set("full", 0);
	account_create("acme/alice");
	for (int round = 0; round < 3; round++) {
		errno = EEXIST;
		slot[0] = acquire(b, "acme/alice");
		slot[1] = acquire(b, "acme/alice");
		check_refused("full", BERTH_CONNECTION_COUNT_LIMIT);
		check_refused("unknown", BERTH_CONNECTION_REFUSED);
		release(b, slot[0]);
		release(b, slot[1]);
		ck_assert_int_eq(errno, EEXIST);
	}
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{names_that_differ_in_one_byte_are_told_apart_at_every_length},
		{names_of_every_length_acquire_slots_of_their_own_accounts},
		{invalid_arguments_are_refused_and_acquire_nothing},
		{names_whose_keys_are_the_same_are_told_apart},
		{names_that_differ_in_the_middle_are_told_apart},
		{names_that_share_a_prefix_or_a_suffix_are_told_apart},
		{an_entry_is_rebuilt_when_the_generation_of_any_level_changes},
		{a_changed_limit_takes_effect_at_once_at_every_level},
		{an_account_that_is_no_longer_usable_is_refused},
		{a_deleted_account_is_refused_even_when_its_index_is_used_again},
		{a_revoked_slot_of_a_removed_account_is_reported_and_changes_no_other_count},
		{a_slot_is_released_at_its_own_account_whatever_entry_names_its_record},
		{a_second_release_is_refused_whatever_tag_a_repair_has_left},
		{an_account_reuses_its_own_record_and_leaves_it_unchanged},
		{after_many_slots_of_one_account_a_thread_keeps_one_record_and_its_spares},
		{a_cache_that_keeps_its_most_records_takes_that_of_the_oldest_account},
		{a_thread_keeps_few_records_if_few_are_allowed},
		{the_number_of_records_a_thread_keeps_depends_on_the_table_size},
		{a_full_cache_drops_all_entries_and_loses_no_record},
		{a_thread_uses_more_accounts_than_its_cache_can_hold},
		{a_held_slot_has_the_weight_and_label_of_its_request},
		{unusable_records_are_passed_over_and_not_lost},
		{a_record_that_has_used_up_its_seqs_is_retired},
		{records_that_can_t_be_mapped_hold_no_slots_and_are_not_lost},
		{any_thread_releases_a_slot_and_keeps_its_record},
		{a_revocation_is_reported_once_to_the_thread_that_releases},
		{a_thread_that_ends_leaves_its_records_and_its_cache_to_others},
		{a_record_that_moved_to_another_account_no_longer_serves_the_first, 0, 6},
		{threads_that_release_each_other_s_slots_lose_no_slot_and_no_record},
		{threads_that_need_more_records_than_exist_lose_none},
		{slots_revoked_while_threads_run_are_reported_once_and_no_record_is_lost},
		{one_thread_counts_denials_in_the_session_and_the_others_in_the_cell},
		{denials_of_threads_that_start_and_end_are_all_counted},
		{a_thread_uses_records_kept_for_other_accounts_before_it_is_refused},
		{a_thread_may_use_more_handles_than_it_has_caches},
		{a_handle_is_closed_before_the_threads_that_have_caches_of_it_end},
		{a_handle_is_closed_while_threads_end},
		{a_session_says_goodbye_if_no_thread_is_in_a_call},
		{a_child_uses_no_cache_of_its_parent},
		{no_call_changes_errno},
#if STEPS
		{a_slot_that_a_stopped_thread_and_another_release_is_released_once, 0, 12},
		{an_acquire_succeeds_whatever_others_do_while_its_thread_is_stopped, 0, 6},
		{a_limit_acknowledged_while_a_thread_is_stopped_holds, 0, 12},
		{a_slot_revoked_while_its_release_is_stopped_is_released_once_and_reported, 0, 12},
		{after_a_goodbye_a_stopped_thread_acquires_no_record_of_the_next_session, 0, 6},
		{a_fork_succeeds_whatever_another_thread_does_with_its_cache},
		{a_thread_without_memory_for_a_cache_still_acquires_slots},
#endif
		{NULL},
	};

	return run_suites({"path-cache", tests, .setup = set_up, .teardown = tear_down});
}
