/* SPDX-License-Identifier: MIT */

/*
 * Caches of threads, with the library's fast and general path over them, and without a daemon: the test
 * makes the sessions, and plays the daemon.
 *
 * Wherever slots, threads and records have been: each record is in one place.
 */

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "berth.h"
#include "fixture.h"
#include "message.h"
#include "session.h"

#define RANGES    40u /* of a session, unless the test wants others */
#define RECORDS   (RANGES * BERTH_RANGE)
#define PUBLISHED 4096u /* records, at least */
#define ENTRIES   1024u /* that a cache has at most */
#define ACCOUNTS  1300u

/* Of so many slots that a thread keeps as many records as it ever does. */
static const struct capacities want = {8000, 262144, 16};
static struct fixture f;
static struct berth *b; /* of most tests */
static uint32_t next_range, next_session;

static void set_up(void) {
	fixture_new(&f, &want);
	while (load_relaxed(&f.segment->names->sessions) < want.sessions)
		ck_assert_int_eq(segment_grow_sessions(f.segment), 0);
	while (load_relaxed(&f.segment->names->slots) < PUBLISHED)
		ck_assert_int_eq(segment_grow_slots(f.segment), 0);
	next_range = 1;
	next_session = 0;
	b = NULL;
}

static struct session *session_of(const struct berth *h) {
	return load_relaxed(&h->current);
}

static struct map *map_again(void) {
	char path[64];
	struct map *map;
	int segment, directory;

	(void)snprintf(path, sizeof(path), "%s/segment", f.dir);
	segment = open(path, O_RDWR | O_CLOEXEC);
	(void)snprintf(path, sizeof(path), "%s/directory", f.dir);
	directory = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(map_new(segment, directory, PROT_READ, &map), 0);
	return map;
}

static void range_give(struct session *s) {
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		ck_assert_int_eq(counter_open(f.map, next_range * BERTH_RANGE + i), 0);
	ck_assert_int_eq(pool_add_range(s->pool, next_range++), 0);
}

/* As if a daemon had granted it. */
static struct berth *handle_new(uint32_t ranges) {
	static uint64_t numbers = 1 << 20;
	struct session *s = calloc(1, sizeof(*s));
	const uint32_t said[2] = {SESSION_OPEN, next_session + 1};
	uint64_t open_word;
	struct berth *h;

	ck_assert_ptr_nonnull(s);
	ck_assert_int_eq(session_handle_new("/nonexistent", 20, &h), 0);
	s->map = map_again();
	s->index = next_session++;
	s->serial = said[1];
	s->number = ++numbers;
	s->slots = s->number << SESSION_SHIFT;
	s->entry = map_session(s->map, s->index);
	s->map->session = s->entry;
	store_relaxed(&map_session(f.map, s->index)->serial, s->serial);
	store_relaxed(&map_session(f.map, s->index)->state, SESSION_OPEN);
	memcpy(&open_word, said, sizeof(open_word));
	store_relaxed(&s->open, open_word);
	ck_assert_int_eq(pool_new(s->map, s->slots, &s->pool), 0);
	while (ranges-- > 0)
		range_give(s);
	s->handle = h;
	store_release(&h->current, s);
	store_release(&h->fast, s);
	return h;
}

static void set_up_with_handle(void) {
	set_up();
	b = handle_new(RANGES);
}

static void tear_down(void) {
	berth_close(b);
	fixture_free(&f);
}

/* -- accounts -------------------------------------------------------------------------------------- */

static void limit_set(const char *name, uint32_t limit) {
	ck_assert_int_eq(fixture_configure(f.accounts, name, limit), 0);
}

static void account_make(const char *name) {
	limit_set(name, BERTH_LIMIT_NONE);
}

static const char *numbered(uint32_t n) {
	static _Thread_local char name[32];

	(void)snprintf(name, sizeof(name), "number-%u", n);
	return name;
}

static void accounts_make(uint32_t n) {
	while (n-- > 0)
		account_make(numbered(n));
}

static struct entry *entry_of(const char *name) {
	return map_entry(f.map, accounts_find(f.accounts, name));
}

static uint32_t count_at(const char *name) {
	return counter_count(f.map, accounts_find(f.accounts, name));
}

static void check_no_counts(void) {
	for (uint32_t a = 1; a < directory_end(accounts_directory(f.accounts)); a++)
		ck_assert_msg(counter_count(f.map, a) == 0, "account %u holds %u", a,
			counter_count(f.map, a));
}

/* -- where the records are ------------------------------------------------------------------------- */

/* The caches' own: each is named by the entry of its account, or among the spares, once. */
static void caches_look(const struct session *s, uint8_t *named, uint8_t *spare) {
	for (struct cache *c = load_relaxed(&s->caches); c; c = c->next) {
		ck_assert_uint_le(c->kept, c->keeps_most);
		ck_assert_uint_le(c->spares, MIN_OF(c->keeps_most - 1, CACHE_SPARE));
		for (uint32_t i = 0; i < c->kept; i++) {
			const struct cache_entry *e = c->keeps[(c->first + i) % CACHE_KEPT];
			const struct local_slot *local = e->local;

			if (load_relaxed(&local->token) == c->owned &&
				load_relaxed(&local->stamp) == e->stamp)
				named[local->number] = 1;
		}
		for (uint32_t i = 0; i < c->spares; i++)
			spare[c->spare[i]->number]++;
		/* One that its thread has left has none. */
		ck_assert(load_relaxed(&c->thread) || c->kept + c->spares == 0);
	}
}

static void stack_look(struct pool *p, uint8_t *pooled) {
	static struct local_slot *all[PUBLISHED];
	uint32_t n = 0;

	while (pool_take(p, &all[n]) == 0)
		n++;
	while (n-- > 0) {
		pooled[all[n]->number]++;
		pool_give(p, all[n]);
	}
}

struct places {
	uint32_t slots, named, spare, pooled, spent;
};

/* No thread is in a call. */
static struct places places_of(const struct berth *h) {
	static uint8_t named[PUBLISHED], spare[PUBLISHED], pooled[PUBLISHED];
	const struct session *s = session_of(h);
	struct places n = {0};

	memset(named, 0, sizeof(named));
	memset(spare, 0, sizeof(spare));
	memset(pooled, 0, sizeof(pooled));
	stack_look(s->pool, pooled);
	caches_look(s, named, spare);
	for (struct range *r = load_acquire(&s->pool->added); r; r = load_acquire(&r->next))
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			const struct local_slot *local = &r->local[i];
			uint64_t token = load_relaxed(&local->token);
			uint32_t k = local->number;
			int where[] = {named[k], spare[k], pooled[k]}, is[3] = {0};

			if (token_is_slot(token))
				n.slots++;
			else if (token == TOKEN_SPENT)
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

static struct places check_records(const struct berth *h, uint32_t slots) {
	struct places n = places_of(h);

	ck_assert_uint_eq(n.slots, slots);
	ck_assert_uint_eq(n.slots + n.named + n.spare + n.pooled + n.spent,
		pool_ranges(session_of(h)->pool) * BERTH_RANGE);
	ck_assert_uint_eq(n.spent, 0);
	return n;
}

/* -- calls ----------------------------------------------------------------------------------------- */

static berth_slot take(struct berth *h, const char *account) {
	berth_slot slot = 0;
	int code = berth_acquire(h, account, &slot);

	ck_assert_msg(code == 0, "%s: %d", account, code);
	return slot;
}

static void give(struct berth *h, berth_slot slot) {
	int code = berth_release(h, slot);

	ck_assert_msg(code == 0, "slot %llx: %d", (unsigned long long)slot, code);
	ck_assert_int_eq(berth_release(h, slot), BERTH_TOO_MANY_POSTS);
}

static int acquire_with(
	struct berth *h, const char *account, uint32_t weight, const char *label, berth_slot *ret) {
	const struct berth_request request = {
		.size = sizeof(request), .account = account, .weight = weight, .label = label};

	return berth_acquire_req(h, &request, ret);
}

static struct local_slot *local_of(const struct berth *h, berth_slot slot) {
	return pool_local(session_of(h)->pool, slot >> POOL_CYCLE_BITS & 0x3FFFFF);
}

static struct cache *cache_of(const struct berth *h) {
	struct cache *c = cache_switch(session_of(h)->number);

	ck_assert_ptr_nonnull(c);
	return c;
}

/* As the daemon revokes it. */
static void take_back(berth_slot slot) {
	uint32_t record = slot >> POOL_CYCLE_BITS & 0x3FFFFF;
	struct snapshot seen;

	ck_assert_int_eq(counter_record(f.map, record, &seen), 0);
	ck_assert_int_eq(counter_revoke(f.map, record, seen), 0);
}

/* -- other threads --------------------------------------------------------------------------------- */

/* A thread that does one thing after the other, as it is told. */
struct worker {
	pthread_t thread;
	sem_t go, done;
	void (*job)(void *data);
	void *data;
};

static void *worker_main(void *arg) {
	struct worker *w = arg;

	for (;;) {
		while (sem_wait(&w->go) != 0)
			;
		if (!w->job)
			return NULL;
		w->job(w->data);
		(void)sem_post(&w->done);
	}
}

static void worker_start(struct worker *w) {
	(void)sem_init(&w->go, 0, 0);
	(void)sem_init(&w->done, 0, 0);
	ck_assert_int_eq(pthread_create(&w->thread, NULL, worker_main, w), 0);
}

static void worker_do(struct worker *w, void (*job)(void *data), void *data) {
	w->job = job;
	w->data = data;
	(void)sem_post(&w->go);
	while (sem_wait(&w->done) != 0)
		;
}

/* The thread exits. */
static void worker_end(struct worker *w) {
	w->job = NULL;
	(void)sem_post(&w->go);
	(void)pthread_join(w->thread, NULL);
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

static berth_slot take_by(struct worker *w, struct berth *h, const char *account) {
	struct call c = {.h = h, .account = account};

	worker_do(w, job_acquire, &c);
	ck_assert_msg(c.code == 0, "%s: %d", account, c.code);
	return c.slot;
}

static void give_by(struct worker *w, struct berth *h, berth_slot slot) {
	struct call c = {.h = h, .slot = slot};

	worker_do(w, job_release, &c);
	ck_assert_msg(c.code == 0, "slot %llx: %d", (unsigned long long)slot, c.code);
	worker_do(w, job_release, &c);
	ck_assert_int_eq(c.code, BERTH_TOO_MANY_POSTS);
}

/* -- names ----------------------------------------------------------------------------------------- */

static void check_same(const struct path *a, const struct path *p) {
	ck_assert_uint_eq(a->depth, p->depth);
	for (uint32_t k = 0; k < a->depth; k++) {
		ck_assert_uint_eq(a->level[k].account, p->level[k].account);
		ck_assert_uint_eq(a->level[k].generation, p->level[k].generation);
		ck_assert_ptr_eq(a->level[k].entry, p->level[k].entry);
		ck_assert_ptr_eq(a->level[k].cell, p->level[k].cell);
		ck_assert_ptr_eq(a->level[k].dirty, p->level[k].dirty);
	}
}

static struct path path_of(const char *name) {
	struct session *s = session_of(b);
	struct path path;
	uint32_t account = accounts_find(f.accounts, name);

	ck_assert_int_eq(directory_path(s->map, account,
				 entry_generation(load_relaxed(&entry_of(name)->word)), &path),
		0);
	return path;
}

/* What follows from the name and the path. */
static void check_entry(const struct cache_entry *e, const char *name, const struct path *path) {
	ck_assert_ptr_nonnull(e);
	ck_assert_str_eq(e->name, name);
	ck_assert_uint_eq(e->length, strlen(name));
	check_same(&e->path, path);
	ck_assert_uint_eq(
		e->place, place_pack(RECORD_PLACED, path->depth - 1, 1, path->level[0].account));
}

/* Each name stands at the end of its memory, so that a tool that watches it sees reads beyond. */
START_TEST(a_name_of_any_length_is_told_from_one_that_differs_in_a_byte) {
	struct cache *c = cache_get(session_of(b));
	struct path path;

	account_make("alice");
	path = path_of("alice");
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
			ck_assert_msg(!cache_find(c, text), "%zu of %zu", i, length);
			text[i] = 'a';
		}
		ck_assert_ptr_eq(cache_find(c, text), e);
		free(text);
	}
	ck_assert_uint_eq(c->made, BERTH_NAME_MAX);
}
END_TEST

/* Through the library, whose first look is at the account that was used last. */
START_TEST(names_of_every_length_take_slots_of_their_own_accounts) {
	char text[BERTH_NAME_MAX + 2];

	for (size_t length = 1; length <= BERTH_NAME_MAX; length++) {
		memset(text, 'n', length);
		text[length] = '\0';
		account_make(text);
	}
	for (int round = 0; round < 3; round++)
		for (size_t length = 1; length <= BERTH_NAME_MAX; length++) {
			berth_slot slot;

			memset(text, 'n', length);
			text[length] = '\0';
			slot = take(b, text);
			ck_assert_uint_eq(count_at(text), 1);
			give(b, slot);
			text[length - 1] = 'm';
			ck_assert_int_ne(berth_acquire(b, text, &slot), 0);
			if (round == 0 && length % 64 != 0)
				continue;
			break;
		}
	check_no_counts();
	(void)check_records(b, 0);
}
END_TEST

START_TEST(what_is_no_name_is_refused_and_takes_nothing) {
	char text[BERTH_NAME_MAX + 2] = "";
	struct berth_request request = {.size = sizeof(request), .account = "alice"};
	berth_slot slot = 7;

	account_make("alice");
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
		/* And so once the thread has a cache. */
		give(b, take(b, "alice"));
	}
	ck_assert_int_eq(acquire_with(b, "alice", 0, NULL, &slot), 0);
	ck_assert_uint_eq(count_at("alice"), 1);
	give(b, slot);
}
END_TEST

static struct cache_entry **place_of(struct cache *c, const struct cache_entry *e) {
	uint32_t i = 0;

	while (c->table[i] != e)
		i++;
	return &c->table[i];
}

/* As if it had come first: it stands where the other one would be found, which stands behind it. */
static void keys_make_the_same(struct cache *c, struct cache_entry *first, struct cache_entry *e) {
	uint32_t mask = (1u << c->bits) - 1, i;

	*place_of(c, first) = NULL;
	*place_of(c, e) = NULL;
	first->key = e->key;
	for (i = (uint32_t)(e->key >> 32) & mask; c->table[i]; i = (i + 1) & mask)
		;
	c->table[i] = first;
	while (c->table[i])
		i = (i + 1) & mask;
	c->table[i] = e;
}

START_TEST(names_whose_keys_are_the_same_are_told_apart) {
	struct cache *c = cache_get(session_of(b));
	static const char *const names[] = {"alice", "malice", "clive", "alice@example.com"};
	struct cache_entry *entry[ELEMENTS(names)];

	for (size_t k = 0; k < ELEMENTS(names); k++) {
		struct path path;

		account_make(names[k]);
		path = path_of(names[k]);
		entry[k] = cache_add(c, session_of(b)->pool, names[k], &path);
		ck_assert_ptr_eq(cache_find(c, names[k]), entry[k]);
	}
	/* Of another length, and of the same. */
	keys_make_the_same(c, entry[1], entry[0]);
	ck_assert_ptr_eq(cache_find(c, names[0]), entry[0]);
	keys_make_the_same(c, entry[2], entry[0]);
	ck_assert_ptr_eq(cache_find(c, names[0]), entry[0]);
	ck_assert_ptr_null(cache_find(c, names[2]));
	for (int i = 0; i < 3; i++) {
		berth_slot slot = take(b, names[0]);

		ck_assert_uint_eq(count_at(names[0]), 1);
		ck_assert_uint_eq(count_at(names[1]) + count_at(names[2]), 0);
		give(b, slot);
	}
}
END_TEST

START_TEST(names_that_differ_in_the_middle_are_told_apart) {
	char name[60][60];

	for (size_t i = 0; i < ELEMENTS(name); i++) {
		(void)snprintf(
			name[i], sizeof(name[i]), "a-prefix-of-16-b%08zx-a-suffix-of-16-", i);
		account_make(name[i]);
	}
	for (size_t i = 0; i < 3 * ELEMENTS(name); i++) {
		size_t n = i * 7 % ELEMENTS(name);
		berth_slot slot = take(b, name[n]);
		const struct path path = path_of(name[n]);

		check_entry(cache_find(cache_of(b), name[n]), name[n], &path);
		for (size_t k = 0; k < ELEMENTS(name); k++)
			ck_assert_uint_eq(count_at(name[k]), k == n);
		give(b, slot);
	}
}
END_TEST

START_TEST(names_that_share_a_prefix_or_a_suffix_or_are_one_of_another_are_told_apart) {
	static const char *const names[] = {"a", "ab", "abc", "abcdefg", "abcdefgh", "abcdefghi",
		"bc", "c", "cdefgh", "alice@example.com", "alice@example.org", "malice@example.com",
		"acme", "acme/alice", "acme/alice/10.0.0.1", "acme/alice/10.0.0.10",
		"acme/bob/10.0.0.1", "acme-and-sons/alice-in-wonderland/x",
		"acme-and-sons/alicia-in-wonderland/x"};

	for (size_t i = 0; i < ELEMENTS(names); i++)
		account_make(names[i]);
	for (size_t i = 0; i < ELEMENTS(names) * ELEMENTS(names); i++) {
		size_t n = i % 2 ? i / 2 % ELEMENTS(names) : i / ELEMENTS(names);
		berth_slot slot = take(b, names[n]);
		const struct path path = path_of(names[n]);

		check_entry(cache_find(cache_of(b), names[n]), names[n], &path);
		for (uint32_t k = 0; k < path.depth; k++)
			ck_assert_uint_eq(counter_count(f.map, path.level[k].account), 1);
		give(b, slot);
		check_no_counts();
	}
}
END_TEST

/* -- what a name means ----------------------------------------------------------------------------- */

/* As the daemon does when an entry begins or ceases to be what the name says. */
static void generation_raise(const char *name) {
	struct entry *e = entry_of(name);
	uint64_t word = load_relaxed(&e->word);

	store_release(&e->word,
		entry_pack(entry_limit(word), entry_flags(word), entry_generation(word) + 1));
	ck_assert_int_eq(counter_bump(f.map, accounts_find(f.accounts, name)), 0);
}

START_TEST(an_entry_is_made_anew_when_any_level_s_generation_changes) {
	static const char *const level[] = {"a/b/c", "a/b", "a"};
	const char *name = level[0];
	struct path path;

	account_make(name);
	for (int i = 0; i < 30; i++) {
		struct cache_entry *old, *new;
		berth_slot held = 0;

		give(b, take(b, name));
		old = cache_find(cache_of(b), name);
		if (i % 2)
			held = take(b, name);
		generation_raise(level[i % 3]);
		give(b, take(b, name));
		new = cache_find(cache_of(b), name);
		ck_assert_ptr_ne(new, old);
		path = path_of(name);
		check_entry(new, name, &path);
		/* The same again is the same. */
		give(b, take(b, name));
		ck_assert_ptr_eq(cache_find(cache_of(b), name), new);
		if (held)
			give(b, held);
		check_no_counts();
		(void)check_records(b, 0);
	}
}
END_TEST

START_TEST(a_limit_that_was_changed_counts_at_once_at_every_level) {
	static const char *const level[] = {"a/b/c", "a/b", "a"};
	berth_slot slot[3];

	account_make(level[0]);
	give(b, take(b, level[0]));
	for (size_t i = 0; i < ELEMENTS(level); i++) {
		limit_set(level[i], 2);
		slot[0] = take(b, level[0]);
		slot[1] = take(b, level[0]);
		ck_assert_int_eq(
			berth_acquire(b, level[0], &slot[2]), BERTH_CONNECTION_COUNT_LIMIT);
		limit_set(level[i], 3);
		slot[2] = take(b, level[0]);
		limit_set(level[i], 0);
		for (size_t k = 0; k < ELEMENTS(slot); k++) {
			berth_slot none;

			give(b, slot[k]);
			ck_assert_int_eq(
				berth_acquire(b, level[0], &none), BERTH_CONNECTION_COUNT_LIMIT);
		}
		limit_set(level[i], BERTH_LIMIT_NONE);
	}
	check_no_counts();
	(void)check_records(b, 0);
}
END_TEST

/* No daemon is there to ask, so the answer is none of a slot. */
START_TEST(an_account_that_ceased_to_be_usable_is_not_used) {
	berth_slot slot;

	account_make("acme");
	give(b, take(b, "acme"));
	account_make("acme/alice");
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "acme"), 0);
	ck_assert_int_eq(berth_acquire(b, "acme", &slot), BERTH_CONNECTION_REFUSED);
	slot = take(b, "acme/alice");
	ck_assert_uint_eq(count_at("acme"), 1);
	give(b, slot);
	account_make("acme");
	give(b, take(b, "acme"));
}
END_TEST

START_TEST(a_deleted_account_is_not_used_nor_its_successor_by_its_entry) {
	struct cache_entry *old;
	uint32_t index;
	berth_slot slot;

	account_make("alice");
	give(b, take(b, "alice"));
	old = cache_find(cache_of(b), "alice");
	index = old->path.level[0].account;
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), 0);
	ck_assert_int_eq(berth_acquire(b, "alice", &slot), BERTH_CONNECTION_REFUSED);
	/* The index is another name's. */
	account_make("mallory");
	ck_assert_uint_eq(accounts_find(f.accounts, "mallory"), index);
	ck_assert_int_eq(berth_acquire(b, "alice", &slot), BERTH_CONNECTION_REFUSED);
	ck_assert_uint_eq(count_at("mallory"), 0);
	slot = take(b, "mallory");
	ck_assert_uint_eq(count_at("mallory"), 1);
	ck_assert_int_eq(berth_acquire(b, "alice", &(berth_slot){0}), BERTH_CONNECTION_REFUSED);
	account_make("alice");
	give(b, take(b, "alice"));
	ck_assert_uint_eq(count_at("mallory"), 1);
	give(b, slot);
	ck_assert_ptr_ne(cache_find(cache_of(b), "alice"), old);
	check_no_counts();
	(void)check_records(b, 0);
}
END_TEST

/* The index stands below another parent; a slot held there meanwhile was revoked. */
START_TEST(a_slot_of_an_account_that_was_removed_is_told_and_harms_no_other) {
	for (int i = 0; i < 2; i++) {
		berth_slot slot, other;

		account_make("old/alice");
		if (i == 1)
			give(b, take(b, "old/alice"));
		slot = take(b, "old/alice");
		take_back(slot);
		ck_assert_int_eq(accounts_unconfigure(f.accounts, "old/alice"), 0);
		account_make("new");
		account_make("new/mallory");
		other = take(b, "new/mallory");
		ck_assert_int_eq(berth_release(b, slot), BERTH_CONNECTION_ABORTED);
		ck_assert_int_eq(berth_release(b, slot), BERTH_TOO_MANY_POSTS);
		ck_assert_uint_eq(count_at("new/mallory"), 1);
		ck_assert_uint_eq(count_at("new"), 1);
		give(b, other);
		check_no_counts();
		(void)check_records(b, 0);
		ck_assert_int_eq(accounts_unconfigure(f.accounts, "new/mallory"), 0);
	}
}
END_TEST

/* An entry goes on naming a record that took a slot for another account, above or below its own. */
START_TEST(a_slot_is_given_back_where_it_was_taken_whatever_entry_names_its_record) {
	static const char *const names[] = {"1", "1/2", "1/2/3"};
	const size_t n = ELEMENTS(names);

	for (size_t i = 0; i < n; i++)
		account_make(names[i]);
	for (size_t i = 0; i < n * n; i++) {
		const char *first = names[i / n], *second = names[i % n];
		struct local_slot *local;
		struct worker w;
		berth_slot slot;

		berth_close(b);
		b = handle_new(1);
		slot = take(b, first);
		local = local_of(b, slot);
		/* By a thread that ends, so that its record is in the stack. */
		worker_start(&w);
		give_by(&w, b, slot);
		worker_end(&w);
		slot = take(b, second);
		ck_assert_ptr_eq(local_of(b, slot), local);
		/* As an acquire that is refused. */
		ck_assert_ptr_nonnull(cache_find(cache_of(b), first));
		give(b, slot);
		check_no_counts();
		ck_assert_int_eq(berth_release(b, slot), BERTH_TOO_MANY_POSTS);
		(void)check_records(b, 0);
	}
}
END_TEST

/* The tags of repairs are no record's, and no state of one in a process's memory. */
START_TEST(a_slot_released_twice_is_refused_whatever_tag_a_repair_has_left) {
	berth_slot slot;
	uint32_t account;

	account_make("alice");
	account = accounts_find(f.accounts, "alice");
	slot = take(b, "alice");
	give(b, slot);
	for (int i = 0; i < 100; i++) {
		struct pair seen = cell_load(map_cell(f.map, account));

		/* Another process has one. */
		ck_assert_int_eq(counter_repair(f.map, account, seen, 1), 0);
		ck_assert_int_eq(berth_release(b, slot), BERTH_TOO_MANY_POSTS);
		ck_assert_uint_eq(count_at("alice"), 1);
	}
}
END_TEST

/* -- records --------------------------------------------------------------------------------------- */

START_TEST(an_account_s_own_record_is_used_again_and_stays_as_it_is) {
	static const char *const names[] = {"alice", "acme/alice", "1/2/3/4/5/6/7/8"};
	struct local_slot *own[ELEMENTS(names)];
	struct pair was[ELEMENTS(names)];

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		berth_slot slot;
		struct record *r;

		account_make(names[i]);
		slot = take(b, names[i]);
		own[i] = local_of(b, slot);
		give(b, slot);
		r = load_relaxed(&own[i]->record);
		was[i] = (struct pair){load_relaxed(&r->place), load_relaxed(&r->noted)};
	}
	for (size_t i = 0; i < 100 * ELEMENTS(names); i++) {
		size_t n = i % 2 ? i / 7 % ELEMENTS(names) : i % ELEMENTS(names);
		const struct record *r = load_relaxed(&own[n]->record);
		berth_slot slot = take(b, names[n]);

		ck_assert_ptr_eq(local_of(b, slot), own[n]);
		give(b, slot);
		ck_assert_uint_eq(load_relaxed(&r->place), was[n].first);
		ck_assert_uint_eq(load_relaxed(&r->noted), was[n].second);
	}
	ck_assert_uint_eq(check_records(b, 0).named, ELEMENTS(names));
}
END_TEST

START_TEST(slots_of_one_account_have_records_that_rest_there_afterwards) {
	berth_slot slot[100];
	struct places n;

	account_make("alice");
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ELEMENTS(slot); i++) {
			slot[i] = take(b, "alice");
			for (size_t k = 0; k < i; k++)
				ck_assert_uint_ne(slot[i], slot[k]);
		}
		ck_assert_uint_eq(count_at("alice"), ELEMENTS(slot));
		(void)check_records(b, ELEMENTS(slot));
		for (size_t i = 0; i < ELEMENTS(slot); i++)
			give(b, slot[round % 2 ? i : ELEMENTS(slot) - 1 - i]);
		n = check_records(b, 0);
		ck_assert_uint_eq(n.named, 1);
		ck_assert_uint_eq(n.spare, CACHE_SPARE);
	}
	check_no_counts();
}
END_TEST

START_TEST(so_many_accounts_keep_a_record_and_the_oldest_gives_it_up) {
	struct local_slot *first;
	berth_slot slot;

	accounts_make(3 * CACHE_KEPT);
	slot = take(b, numbered(0));
	first = local_of(b, slot);
	give(b, slot);
	for (uint32_t i = 1; i < CACHE_KEPT; i++)
		give(b, take(b, numbered(i)));
	ck_assert_ptr_eq(cache_find(cache_of(b), numbered(0))->local, first);
	ck_assert_uint_eq(check_records(b, 0).named, CACHE_KEPT);
	/* And that is the one that the next account has. */
	for (uint32_t i = 0; i < 2 * CACHE_KEPT; i++) {
		struct cache_entry *oldest = cache_find(cache_of(b), numbered(i));
		struct local_slot *local = oldest->local;
		struct places n;

		ck_assert_ptr_ne(local, &cache_no_slot);
		slot = take(b, numbered(CACHE_KEPT + i));
		ck_assert_ptr_eq(local_of(b, slot), local);
		ck_assert_ptr_eq(oldest->local, &cache_no_slot);
		give(b, slot);
		n = check_records(b, 0);
		ck_assert_uint_eq(n.named, CACHE_KEPT);
		ck_assert_uint_eq(n.spare, 0);
	}
	check_no_counts();
}
END_TEST

START_TEST(where_there_are_few_slots_a_thread_keeps_few_records) {
	static const uint32_t most[] = {1, 2, 3, 20};
	berth_slot slot[40];

	accounts_make(40);
	ck_assert_uint_eq(cache_get(session_of(b))->keeps_most, CACHE_KEPT);
	for (size_t m = 0; m < ELEMENTS(most); m++) {
		struct places n;

		berth_close(b);
		b = handle_new(RANGES / 8);
		cache_get(session_of(b))->keeps_most = most[m];
		for (uint32_t round = 0; round < 3; round++) {
			for (uint32_t i = 0; i < 40; i++)
				slot[i] = take(b, numbered(round == 1 ? i % 4 : i));
			(void)check_records(b, 40);
			for (uint32_t i = 0; i < 40; i++)
				give(b, slot[i]);
			n = check_records(b, 0);
			ck_assert_uint_le(n.named, most[m]);
			ck_assert_uint_ge(n.named + n.spare, most[m]);
		}
		for (uint32_t i = 0; i < 100; i++)
			give(b, take(b, numbered(i * 7 % 40)));
		(void)check_records(b, 0);
	}
	check_no_counts();
}
END_TEST

START_TEST(how_many_records_a_thread_keeps_depends_on_the_table) {
	static const uint32_t slots[] = {16, 2048, 8192, 262144, 524288};
	static const uint32_t most[] = {1, 1, 4, 128, 128};

	for (size_t i = 0; i < ELEMENTS(slots); i++) {
		struct berth *h = handle_new(0);

		session_of(h)->map->layout.max_slots = slots[i];
		ck_assert_uint_eq(cache_get(session_of(h))->keeps_most, most[i]);
		berth_close(h);
	}
}
END_TEST

START_TEST(entries_are_dropped_when_they_are_too_many_and_no_record_is_lost) {
	berth_slot held[300];
	struct cache *c;
	uint64_t stamp;
	size_t n = 0;

	accounts_make(ACCOUNTS);
	give(b, take(b, numbered(0)));
	c = cache_of(b);
	stamp = c->stamp;
	for (uint32_t i = 1; i < ENTRIES; i++) {
		berth_slot slot = take(b, numbered(i));

		if (i % 4 == 0)
			held[n++] = slot;
		else
			give(b, slot);
	}
	ck_assert_uint_eq(c->made, ENTRIES);
	ck_assert_uint_eq(c->stamp, stamp);
	(void)check_records(b, (uint32_t)n);
	held[n++] = take(b, numbered(ENTRIES));
	ck_assert_uint_eq(c->made, 1);
	ck_assert_uint_ne(c->stamp, stamp);
	ck_assert_uint_eq(check_records(b, (uint32_t)n).pooled, RECORDS - n);
	for (uint32_t i = 0; i < ENTRIES; i++)
		ck_assert_ptr_null(cache_find(c, numbered(i)));
	/* Slots that were taken for entries which are gone, and for others that stand in their place. */
	for (uint32_t i = 0; i < ENTRIES / 2; i++)
		give(b, take(b, numbered(i)));
	while (n > 0)
		give(b, held[--n]);
	check_no_counts();
	(void)check_records(b, 0);
}
END_TEST

START_TEST(more_accounts_than_a_cache_can_hold_are_used_in_turn) {
	berth_slot held[100] = {0};

	accounts_make(ACCOUNTS);
	for (uint32_t i = 0; i < 6 * ACCOUNTS; i++) {
		berth_slot *at = &held[i * 31 % ELEMENTS(held)];

		if (*at)
			give(b, *at);
		*at = take(b, numbered(i * 7 % ACCOUNTS));
	}
	(void)check_records(b, ELEMENTS(held));
	for (size_t i = 0; i < ELEMENTS(held); i++)
		give(b, held[i]);
	check_no_counts();
	(void)check_records(b, 0);
}
END_TEST

START_TEST(a_weight_and_a_label_are_those_of_the_slot_that_is_held) {
	static const uint32_t weights[] = {1, 1, 2, BERTH_WEIGHT_MAX, 1, 2, 2};
	static const char *const names[] = {"alice", "acme/alice"};
	const char text[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	for (size_t i = 0; i < ELEMENTS(names); i++)
		account_make(names[i]);
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
		give(b, slot);
		check_no_counts();
	}
	(void)check_records(b, 0);
}
END_TEST

/* The daemon takes them back, or noise lies over them. */
START_TEST(records_that_are_of_no_use_are_passed_over_and_not_lost) {
	berth_slot slot[40], more;

	account_make("alice");
	account_make("bob");
	/* One is the account's own. */
	give(b, take(b, "alice"));
	for (uint32_t i = 0; i < 40; i++)
		slot[i] = take(b, "bob");
	for (uint32_t i = 0; i < 40; i++)
		give(b, slot[i]);
	for (struct range *r = load_acquire(&session_of(b)->pool->added); r;
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

		more = take(b, name);
		ck_assert_uint_ne(local_of(b, more)->number % 3, 0);
		give(b, more);
		(void)check_records(b, 0);
	}
	/* And used again once they are of use. */
	for (uint32_t n = BERTH_RANGE; n < (RANGES + 1) * BERTH_RANGE; n++) {
		struct record *record = map_record(f.map, n);

		if (load_relaxed(&record->noted) > BERTH_SEQ_MASK)
			store_relaxed(&record->noted, 0);
		ck_assert_int_eq(counter_finish_seized(f.map, n), 0);
	}
	for (uint32_t i = 0; i < RECORDS; i++)
		(void)take(b, i % 2 ? "alice" : "bob");
	(void)check_records(b, RECORDS);
}
END_TEST

START_TEST(a_record_that_has_used_up_its_seqs_is_named_no_more) {
	struct places n;
	berth_slot slot;

	account_make("alice");
	for (uint32_t i = 1; i <= 20; i++) {
		struct local_slot *local;

		slot = take(b, "alice");
		local = local_of(b, slot);
		give(b, slot);
		store_relaxed(&load_relaxed(&local->record)->noted,
			BERTH_SEQ_LAST + (i % 2 ? 1 : 2) * BERTH_CYCLE);
		slot = take(b, "alice");
		ck_assert_ptr_ne(local_of(b, slot), local);
		ck_assert_uint_eq(load_relaxed(&local->token), TOKEN_SPENT);
		give(b, slot);
		n = places_of(b);
		ck_assert_uint_eq(n.spent, i);
		ck_assert_uint_eq(n.named + n.spare + n.pooled, RECORDS - i);
	}
	check_no_counts();
}
END_TEST

/* The application has closed the files, and berthd can't be asked. */
START_TEST(records_that_can_t_be_mapped_are_no_slots_and_not_lost) {
	const uint32_t far = want.slots / BERTH_RANGE;
	struct session *s;
	berth_slot slot = 0;

	account_make("alice");
	berth_close(b);
	b = handle_new(0);
	s = session_of(b);
	/* Beyond what is published. */
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
	range_give(s);
	for (int i = 0; i < 3; i++)
		give(b, take(b, "alice"));
	check_no_counts();
}
END_TEST

/* -- threads --------------------------------------------------------------------------------------- */

START_TEST(a_slot_is_released_by_any_thread_and_its_record_goes_on_there) {
	struct worker w;
	berth_slot slot[20];

	account_make("alice");
	account_make("acme/alice");
	worker_start(&w);
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < ELEMENTS(slot); i++) {
			const char *name = i % 3 ? "alice" : "acme/alice";

			slot[i] = (i + (size_t)round) % 2 ? take(b, name) : take_by(&w, b, name);
		}
		(void)check_records(b, ELEMENTS(slot));
		for (size_t i = 0; i < ELEMENTS(slot); i++)
			if ((i / 2 + (size_t)round) % 2)
				give(b, slot[i]);
			else
				give_by(&w, b, slot[i]);
		check_no_counts();
		(void)check_records(b, 0);
	}
	worker_end(&w);
	(void)check_records(b, 0);
}
END_TEST

START_TEST(a_slot_that_one_thread_took_is_revoked_and_another_is_told_so_once) {
	static const char *const names[] = {"alice", "acme/alice"};
	struct worker w;

	worker_start(&w);
	for (int i = 0; i < 40; i++) {
		const char *name = names[i / 2 % 2];
		struct call c = {.h = b, .account = name};

		account_make(name);
		c.slot = i % 2 ? take(b, name) : take_by(&w, b, name);
		take_back(c.slot);
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

START_TEST(what_a_thread_has_goes_to_others_when_it_ends_and_so_does_its_cache) {
	struct cache *its;
	struct worker w;
	berth_slot held[30];

	accounts_make(CACHE_KEPT + 20);
	for (int round = 0; round < 5; round++) {
		worker_start(&w);
		for (uint32_t i = 0; i < CACHE_KEPT + 20; i++)
			give_by(&w, b, take_by(&w, b, numbered(i)));
		for (uint32_t i = 0; i < ELEMENTS(held); i++)
			held[i] = take_by(&w, b, numbered(i % 7));
		for (uint32_t i = 0; i < ELEMENTS(held); i += 2)
			give_by(&w, b, held[i]);
		its = load_relaxed(&session_of(b)->caches);
		/* One for every thread that is there at once. */
		ck_assert_ptr_null(its->next);
		ck_assert(load_relaxed(&its->thread) != NULL);
		worker_end(&w);
		ck_assert(load_relaxed(&its->thread) == NULL);
		ck_assert_uint_eq(
			check_records(b, ELEMENTS(held) / 2).pooled, RECORDS - ELEMENTS(held) / 2);
		/* The slots are still there; the next thread, with the same cache, hasn't taken them. */
		worker_start(&w);
		for (uint32_t i = 0; i < ELEMENTS(held); i++)
			give_by(&w, b, take_by(&w, b, numbered(i % 7)));
		ck_assert_ptr_eq(load_relaxed(&session_of(b)->caches), its);
		ck_assert(load_relaxed(&its->thread) != NULL);
		for (uint32_t i = 1; i < ELEMENTS(held); i += 2)
			give_by(&w, b, held[i]);
		check_no_counts();
		worker_end(&w);
		ck_assert_uint_eq(check_records(b, 0).pooled, RECORDS);
	}
}
END_TEST

/* A record that went away by another thread's release, and came back for another account: the entry of
 * the first account names it still. */
START_TEST(a_record_that_was_away_is_the_account_s_that_has_it_now) {
	static const char *const names[][3] = {
		{"one", "two", "three"}, {"a/one", "a/two", "a/three"}, {"one", "b/two", "three"}};
	const char *const *name = names[_i % 3];
	berth_slot s1, s2, other, s3;
	struct local_slot *away;
	struct worker w;

	for (int i = 0; i < 3; i++)
		account_make(name[i]);
	s1 = take(b, name[0]);
	away = local_of(b, s1);
	worker_start(&w);
	give_by(&w, b, s1);
	worker_end(&w); /* its records are the pool's */
	s2 = take(b, name[1]);
	ck_assert_ptr_eq(local_of(b, s2), away);
	if (_i / 3 == 0) {
		/* It becomes a spare here. */
		other = take(b, name[1]);
		give(b, s2);
		give(b, other);
	} else {
		give(b, s2);
	}
	s1 = take(b, name[0]);
	s2 = take(b, name[2]);
	s3 = take(b, name[1]);
	ck_assert_uint_eq(count_at(name[0]), 1);
	ck_assert_uint_eq(count_at(name[1]), 1);
	ck_assert_uint_eq(count_at(name[2]), 1);
	(void)check_records(b, 3);
	give(b, s2);
	give(b, s1);
	give(b, s3);
	check_no_counts();
	(void)check_records(b, 0);
	/* Slots and their records are told apart afterwards, too. */
	for (int i = 0; i < 60; i++) {
		s1 = take(b, name[i % 3]);
		s2 = take(b, name[i / 3 % 3]);
		give(b, i / 9 % 2 ? s1 : s2);
		give(b, i / 9 % 2 ? s2 : s1);
		check_no_counts();
		(void)check_records(b, 0);
	}
}
END_TEST

/* A berthd that has no more: answers each question by 8, until the other end hangs up. */
static void *refuse(void *arg) {
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

/* The handle's end of a socket; returns the daemon's. */
static int socket_give(struct berth *h) {
	struct stat st;
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	ck_assert_int_eq(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(fstat(fd[0], &st), 0);
	h->fd = fd[0];
	h->dev = st.st_dev;
	h->ino = st.st_ino;
	h->timeout_ms = 20000;
	return fd[1];
}

#define CROWD   6
#define MAILBOX 64
#define TIGHT   5

/* Ranges enough for each member to keep all that it may. */
#define CROWD_RANGES \
	((CROWD * (CACHE_KEPT + CACHE_SPARE + 1) + MAILBOX + BERTH_RANGE - 1) / BERTH_RANGE)

static _Atomic uint64_t mailbox[MAILBOX]; /* slots held, for any thread to release */
static _Atomic uint32_t tight_now, wrongs;
static bool is_small; /* the session: there may be no record left */
static _Atomic int last_wrong;

static void wrong(int what) {
	(void)add_relaxed(&wrongs, 1);
	store_relaxed(&last_wrong, what);
}

struct member {
	pthread_t thread;
	uint64_t random;
	uint32_t turns;
};

static uint32_t below(uint64_t *state, uint32_t n) {
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % n);
}

/* The lowest bit says that it is a slot of `tight`: no slot's number uses the highest of the record. */
#define TIGHT_BIT (UINT64_C(1) << 43)

static void post(struct member *m) {
	static const char *const few[] = {"tight", "acme/alice", "acme/bob", "loose", "a/b/c/d"};
	uint32_t n = below(&m->random, 8), weight = below(&m->random, 8) ? 1 : 2;
	bool is_tight = n == 0;
	const char *name = n < ELEMENTS(few) ? few[n] : numbered(below(&m->random, 200));
	const char *label = below(&m->random, 3) ? NULL : "a label of a crowd's member";
	uint64_t slot = 0;
	int code = is_tight || below(&m->random, 2) ? berth_acquire(b, name, &slot)
						    : acquire_with(b, name, weight, label, &slot);

	if (code == BERTH_NO_SYSTEM_RESOURCES && is_small)
		return;
	if (code == BERTH_CONNECTION_COUNT_LIMIT && is_tight)
		return;
	if (code != BERTH_SUCCESS) {
		wrong(code);
		return;
	}
	if (is_tight && add_relaxed(&tight_now, 1) + 1 > TIGHT)
		wrong(-1);
	slot |= is_tight ? TIGHT_BIT : 0;
	slot = atomic_exchange(&mailbox[below(&m->random, MAILBOX)], slot);
	if (slot & TIGHT_BIT)
		(void)add_relaxed(&tight_now, -1u);
	code = slot ? berth_release(b, slot & ~TIGHT_BIT) : 0;
	if (code != BERTH_SUCCESS)
		wrong(code);
	/* A second time: nothing, whatever has become of its record. */
	if (slot && below(&m->random, 4) == 0 &&
		berth_release(b, slot & ~TIGHT_BIT) != BERTH_TOO_MANY_POSTS)
		wrong(-2);
}

static void *member_main(void *arg) {
	struct member *m = arg;

	for (uint32_t i = 0; i < m->turns; i++)
		post(m);
	return NULL;
}

static uint32_t mailbox_empty(void) {
	uint32_t n = 0;

	for (size_t i = 0; i < MAILBOX; i++) {
		uint64_t slot = atomic_exchange(&mailbox[i], 0);

		if (!slot)
			continue;
		n++;
		if (slot & TIGHT_BIT)
			(void)add_relaxed(&tight_now, -1u);
		give(b, slot & ~TIGHT_BIT);
	}
	return n;
}

/* Threads come and go meanwhile. */
static void crowd_run(uint32_t generations, uint32_t turns) {
	struct member member[CROWD];
	uint64_t random = (uint64_t)getpid();

	printf("SEED=%llu\n", (unsigned long long)random);
	for (uint32_t g = 0; g < generations; g++) {
		for (size_t i = 0; i < CROWD; i++) {
			member[i].random = random + g * 100 + i;
			member[i].turns = turns / (1 + (uint32_t)i % 3);
			ck_assert_int_eq(
				pthread_create(&member[i].thread, NULL, member_main, &member[i]),
				0);
		}
		for (size_t i = 0; i < CROWD; i++)
			(void)pthread_join(member[i].thread, NULL);
		ck_assert_msg(wrongs == 0, "%u wrong, the last: %d", wrongs, last_wrong);
	}
}

static void crowd_accounts(void) {
	accounts_make(200);
	limit_set("tight", TIGHT);
	account_make("acme/alice");
	account_make("acme/bob");
	account_make("loose");
	account_make("a/b/c/d");
}

START_TEST(threads_that_take_and_release_each_other_s_slots_lose_none_and_no_record) {
	uint32_t held;

	crowd_accounts();
	berth_close(b);
	b = handle_new(CROWD_RANGES);
	crowd_run(10, 20000);
	held = places_of(b).slots;
	ck_assert_uint_le(held, MAILBOX);
	(void)check_records(b, held);
	ck_assert_uint_eq(mailbox_empty(), held);
	check_no_counts();
	ck_assert_uint_eq(tight_now, 0);
	(void)check_records(b, 0);
	ck_assert(cache_close(session_of(b)));
	ck_assert(pool_close(session_of(b)->pool));
}
END_TEST

/* So few that threads are told 8, unless they use what they keep for other accounts. */
START_TEST(threads_that_want_more_records_than_there_are_lose_none) {
	pthread_t daemon;
	int fd;

	crowd_accounts();
	berth_close(b);
	b = handle_new((MAILBOX + CROWD) / BERTH_RANGE + 1);
	fd = socket_give(b);
	ck_assert_int_eq(pthread_create(&daemon, NULL, refuse, &fd), 0);
	is_small = true;
	crowd_run(6, 10000);
	ck_assert(load_relaxed(&session_of(b)->pool->is_full));
	(void)mailbox_empty();
	check_no_counts();
	(void)check_records(b, 0);
	berth_close(b);
	b = NULL;
	(void)pthread_join(daemon, NULL);
}
END_TEST

static _Atomic bool over;

static void *revoke_now_and_then(void *arg) {
	uint64_t random = 1;

	(void)arg;
	while (!load_relaxed(&over)) {
		uint32_t n = BERTH_RANGE + below(&random, RECORDS);
		struct snapshot seen;

		if (counter_record(f.map, n, &seen) == 0 && snapshot_is_held(seen))
			(void)counter_revoke(f.map, n, seen);
		(void)sched_yield();
	}
	return NULL;
}

static void *churn_revoked(void *arg) {
	struct member *m = arg;

	for (uint32_t i = 0; i < m->turns; i++) {
		static const char *const few[] = {"acme/alice", "acme/bob", "loose", "a/b/c/d"};
		berth_slot slot[4];
		size_t n = 0;

		while (n < 1 + below(&m->random, 4)) {
			int code = berth_acquire(b, few[below(&m->random, 4)], &slot[n]);

			n += code == 0;
			if (code != 0 && code != BERTH_CONNECTION_ABORTED)
				wrong(code);
			if (code != 0)
				break;
		}
		while (n > 0) {
			int code = berth_release(b, slot[--n]);

			if (code != 0 && code != BERTH_CONNECTION_ABORTED)
				wrong(code);
			if (berth_release(b, slot[n]) != BERTH_TOO_MANY_POSTS)
				wrong(-2);
		}
	}
	return NULL;
}

START_TEST(slots_that_are_revoked_under_threads_are_told_once_and_no_record_is_lost) {
	struct member member[CROWD];
	pthread_t daemon;
	struct places n;

	crowd_accounts();
	ck_assert_int_eq(pthread_create(&daemon, NULL, revoke_now_and_then, NULL), 0);
	for (size_t i = 0; i < CROWD; i++) {
		member[i].random = i + 1;
		member[i].turns = 20000;
		ck_assert_int_eq(
			pthread_create(&member[i].thread, NULL, churn_revoked, &member[i]), 0);
	}
	for (size_t i = 0; i < CROWD; i++)
		(void)pthread_join(member[i].thread, NULL);
	over = true;
	(void)pthread_join(daemon, NULL);
	ck_assert_msg(wrongs == 0, "%u wrong, the last: %d", wrongs, last_wrong);
	check_no_counts();
	n = places_of(b);
	ck_assert_uint_eq(n.slots, 0);
	ck_assert_uint_eq(n.pooled + n.spent, RECORDS);
}
END_TEST

/* -- denials --------------------------------------------------------------------------------------- */

struct denied {
	struct berth *h;
	const char *account;
	int times, wrong;
};

static void job_be_denied(void *data) {
	struct denied *d = data;
	berth_slot slot;

	for (int i = 0; i < d->times; i++)
		d->wrong += berth_acquire(d->h, d->account, &slot) != BERTH_CONNECTION_COUNT_LIMIT;
}

static uint64_t denied_in_cell(const char *name) {
	return load_relaxed(&map_cell(f.map, accounts_find(f.accounts, name))->denied);
}

static uint64_t denied_in_words(const char *name) {
	return denials_pending(f.map, accounts_find(f.accounts, name));
}

/* Each thread has met the account, so that it is denied on the fast path. */
static void denied_warm(struct worker *w, const char *name) {
	if (w)
		give_by(w, b, take_by(w, b, name));
	else
		give(b, take(b, name));
}

START_TEST(one_thread_of_a_session_counts_denials_in_its_words_and_the_others_in_the_cell) {
	struct denied mine = {b, "full/alice", 10, 0}, theirs = {b, "full/alice", 100, 0};
	struct berth_usage usage = {.size = sizeof(usage)};
	struct worker w, x;

	account_make("full");
	account_make("full/alice");
	denied_warm(NULL, "full/alice");
	worker_start(&w);
	worker_start(&x);
	denied_warm(&w, "full/alice");
	limit_set("full", 0);
	job_be_denied(&mine);
	ck_assert_uint_eq(denied_in_cell("full"), 0);
	ck_assert_uint_eq(denied_in_words("full"), 10);
	worker_do(&w, job_be_denied, &theirs);
	ck_assert_uint_eq(denied_in_cell("full"), 100);
	ck_assert_uint_eq(denied_in_words("full"), 10);
	ck_assert_int_eq(berth_query(b, "full", &usage), 0);
	ck_assert_uint_eq(usage.denied, 110);
	ck_assert_uint_eq(denied_in_words("full/alice") + denied_in_cell("full/alice"), 0);
	ck_assert_int_eq(mine.wrong + theirs.wrong, 0);
	/* Until that one ends. */
	limit_set("full", BERTH_LIMIT_NONE);
	berth_close(b);
	b = handle_new(4);
	mine.h = theirs.h = b;
	denied_warm(&w, "full/alice");
	denied_warm(&x, "full/alice");
	limit_set("full", 0);
	denials_collect(f.map);
	ck_assert_uint_eq(denied_in_cell("full"), 110);
	worker_do(&w, job_be_denied, &mine);
	worker_do(&x, job_be_denied, &theirs);
	ck_assert_uint_eq(denied_in_words("full"), 10);
	ck_assert_uint_eq(denied_in_cell("full"), 210);
	worker_end(&w);
	/* The general path has the thread ask for the words. */
	worker_do(&x, job_be_denied, &mine);
	limit_set("full", BERTH_LIMIT_NONE);
	generation_raise("full");
	denied_warm(&x, "full/alice");
	limit_set("full", 0);
	worker_do(&x, job_be_denied, &theirs);
	ck_assert_uint_eq(denied_in_words("full"), 110);
	ck_assert_uint_eq(denied_in_cell("full"), 220);
	worker_end(&x);
	denials_collect(f.map);
	ck_assert_uint_eq(denied_in_cell("full"), 330);
	ck_assert_int_eq(mine.wrong + theirs.wrong, 0);
}
END_TEST

static void *deny_until_over(void *arg) {
	struct denied *d = arg;

	job_be_denied(d);
	(void)add_relaxed(&wrongs, (uint32_t)d->wrong);
	return NULL;
}

START_TEST(denials_of_threads_that_come_and_go_are_all_counted) {
	static const char *const names[] = {"full", "full/1", "full/2", "full/3", "full/4"};
	struct denied d[5 * CROWD];
	pthread_t thread[CROWD], daemon;
	uint64_t sum = 0;

	(void)daemon;
	for (size_t i = 0; i < ELEMENTS(names); i++)
		limit_set(names[i], 0);
	for (uint32_t g = 0; g < 5; g++) {
		for (size_t i = 0; i < CROWD; i++) {
			d[i] = (struct denied){b, names[(i + g) % ELEMENTS(names)], 5000, 0};
			ck_assert_int_eq(
				pthread_create(&thread[i], NULL, deny_until_over, &d[i]), 0);
		}
		for (int i = 0; i < 200; i++) {
			denials_collect(f.map);
			(void)sched_yield();
		}
		for (size_t i = 0; i < CROWD; i++)
			(void)pthread_join(thread[i], NULL);
	}
	for (size_t i = 0; i < ELEMENTS(names); i++)
		sum += denied_in_cell(names[i]) + denied_in_words(names[i]);
	ck_assert_uint_eq(sum, 5 * CROWD * 5000);
	denials_collect(f.map);
	sum = 0;
	for (size_t i = 0; i < ELEMENTS(names); i++)
		sum += denied_in_cell(names[i]);
	ck_assert_uint_eq(sum, 5 * CROWD * 5000);
	ck_assert_uint_eq(wrongs, 0);
	(void)check_records(b, 0);
}
END_TEST

/* -- when there are no more records ---------------------------------------------------------------- */

START_TEST(a_thread_uses_what_it_keeps_for_other_accounts_before_it_is_told_8) {
	berth_slot slot[BERTH_RANGE], more;
	pthread_t daemon;
	int fd;

	accounts_make(2 * BERTH_RANGE);
	berth_close(b);
	b = handle_new(1);
	fd = socket_give(b);
	ck_assert_int_eq(pthread_create(&daemon, NULL, refuse, &fd), 0);
	for (int round = 0; round < 3; round++) {
		/* Every record is kept for one account, or a spare. */
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			give(b, take(b, numbered(i)));
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			slot[i] = take(b, numbered(BERTH_RANGE + (round % 2 ? 0 : i)));
		(void)check_records(b, BERTH_RANGE);
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(berth_acquire(b, numbered((uint32_t)i), &more),
				BERTH_NO_SYSTEM_RESOURCES);
		ck_assert(load_relaxed(&session_of(b)->pool->is_full));
		/* One that is released is there for any account, by any thread. */
		give(b, slot[5]);
		slot[5] = take(b, numbered(3));
		(void)check_records(b, BERTH_RANGE);
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			give(b, slot[i]);
		check_no_counts();
		(void)check_records(b, 0);
	}
	/* No thread gathers spares then. */
	ck_assert_uint_eq(check_records(b, 0).spare, 0);
	berth_close(b);
	b = NULL;
	(void)pthread_join(daemon, NULL);
}
END_TEST

/* -- handles --------------------------------------------------------------------------------------- */

START_TEST(a_thread_may_use_more_handles_than_it_has_caches) {
	struct berth *h[THREAD_CACHES + 3];
	berth_slot held[ELEMENTS(h)][3] = {{0}};

	accounts_make(5);
	for (size_t i = 0; i < ELEMENTS(h); i++)
		h[i] = handle_new(2);
	for (uint32_t i = 0; i < 600; i++) {
		size_t n = i < 300 ? i % ELEMENTS(h) : i * i / 3 % ELEMENTS(h);
		berth_slot *at = &held[n][i / ELEMENTS(h) % 3];

		if (*at)
			give(h[n], *at);
		*at = take(h[n], numbered(i % 5));
		give(h[n], take(h[n], numbered(i % 3)));
		/* Another handle's slot is none of this one's. */
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
				give(h[i], held[i][k]);
		(void)check_records(h[i], 0);
		berth_close(h[i]);
	}
	check_no_counts();
}
END_TEST

struct user {
	struct berth *h;
	sem_t *used, *closed;
	struct berth *next; /* used after that; or NULL */
};

static void *use_and_stay(void *arg) {
	struct user *u = arg;

	for (uint32_t i = 0; i < 16; i++)
		give(u->h, take(u->h, numbered(i)));
	(void)sem_post(u->used);
	while (sem_wait(u->closed) != 0)
		;
	for (uint32_t i = 0; u->next && i < 16; i++)
		give(u->next, take(u->next, numbered(i)));
	return NULL;
}

/* What is touched after it was freed, the sanitizers see. */
START_TEST(a_handle_is_closed_while_threads_have_caches_of_it_that_end_later) {
	pthread_t thread[CROWD];
	struct user u[CROWD];
	sem_t used, closed;

	accounts_make(16);
	for (int round = 0; round < 4; round++) {
		struct berth *h = handle_new(RANGES / 4),
			     *next = round % 2 ? handle_new(RANGES / 4) : NULL;

		(void)sem_init(&used, 0, 0);
		(void)sem_init(&closed, 0, 0);
		for (size_t i = 0; i < CROWD; i++) {
			u[i] = (struct user){h, &used, &closed, next};
			ck_assert_int_eq(pthread_create(&thread[i], NULL, use_and_stay, &u[i]), 0);
		}
		for (size_t i = 0; i < CROWD; i++)
			while (sem_wait(&used) != 0)
				;
		(void)check_records(h, 0);
		berth_close(h);
		for (size_t i = 0; i < CROWD; i++)
			(void)sem_post(&closed);
		for (size_t i = 0; i < CROWD; i++)
			(void)pthread_join(thread[i], NULL);
		if (next)
			(void)check_records(next, 0);
		berth_close(next);
	}
	check_no_counts();
}
END_TEST

static void *open_use_and_close(void *arg) {
	struct user *u = arg;

	for (uint32_t i = 0; i < 200; i++)
		give(u->h, take(u->h, numbered(i % 16)));
	(void)sem_post(u->used);
	return NULL;
}

/* Threads end just as their handle is closed. */
START_TEST(a_handle_is_closed_while_threads_end) {
	accounts_make(16);
	for (int round = 0; round < 100; round++) {
		struct berth *h = handle_new(0);
		pthread_t thread[CROWD];
		sem_t used;
		struct user u = {h, &used, NULL, NULL};

		/* The places, and ranges, of the rounds before. */
		next_session = 1;
		next_range = RANGES + 1;
		for (uint32_t n = 0; n < 8; n++) {
			for (uint32_t i = 0; i < BERTH_RANGE && round > 0; i++)
				ck_assert_int_eq(
					counter_close(f.map, (next_range + n) * BERTH_RANGE + i),
					0);
		}
		for (uint32_t n = 0; n < 8; n++)
			range_give(session_of(h));
		(void)sem_init(&used, 0, 0);
		for (size_t i = 0; i < CROWD; i++)
			ck_assert_int_eq(
				pthread_create(&thread[i], NULL, open_use_and_close, &u), 0);
		for (size_t i = 0; i < CROWD; i++)
			while (sem_wait(&used) != 0)
				;
		berth_close(h);
		for (size_t i = 0; i < CROWD; i++)
			(void)pthread_join(thread[i], NULL);
	}
	check_no_counts();
}
END_TEST

/* -- the session's end ----------------------------------------------------------------------------- */

/* What a closed handle has said at the other end. */
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

	accounts_make(9);
	worker_start(&w);
	for (int how = 0; how < 7; how++) {
		struct berth *h = handle_new(2);
		int fd = socket_give(h);
		struct local_slot *local;
		berth_slot slot;

		give_by(&w, h, take_by(&w, h, numbered(0)));
		for (uint32_t i = 0; i < 9; i++)
			give(h, take(h, numbered(i)));
		switch (how) {
		case 1: /* what is held is released */
			(void)take(h, numbered(1));
			(void)take_by(&w, h, numbered(2));
			break;
		case 2: /* a thread is stopped in an acquire */
			store_relaxed(&cache_of(h)->inside, true);
			break;
		case 3: /* another one is */
			for (struct cache *c = load_relaxed(&session_of(h)->caches); c; c = c->next)
				if (c != cache_of(h))
					store_relaxed(&c->inside, true);
			break;
		case 4: /* one without a cache has a record */
			ck_assert_int_eq(pool_take(session_of(h)->pool, &local), 0);
			break;
		case 5: /* a slot that the daemon took is no reason to stay */
			slot = take(h, numbered(1));
			take_back(slot);
			break;
		case 6: /* a slot that can't be released is */
			slot = take(h, numbered(1));
			store_relaxed(&local_of(h, slot)->unsettled, true);
			counter_seize(f.map, local_of(h, slot)->number);
			break;
		default:
			break;
		}
		ck_assert(cache_close(session_of(h)) == (how != 2 && how != 3));
		berth_close(h);
		ck_assert_msg(has_said_goodbye(fd) == (how < 2 || how == 5), "case %d", how);
		for (uint32_t n = BERTH_RANGE; n < next_range * BERTH_RANGE; n++)
			(void)counter_finish_seized(f.map, n);
		check_no_counts();
	}
	worker_end(&w);
}
END_TEST

/* -- fork ------------------------------------------------------------------------------------------ */

static int child_status(pid_t pid) {
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		;
	return status;
}

static pid_t fork_by(bool bare) {
	return bare ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
}

/* qemu-user takes the advice, and does nothing. */
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

/* Steps that fail are reported by their number. There is no daemon to give the child a session. */
static int child_uses(struct berth *h, const berth_slot *held, size_t n, bool wiped) {
	berth_slot slot;

	/* What a fast path looks at. */
	for (size_t i = 0; i < THREAD_CACHES; i++)
		if (wiped && cache_thread->session[i] != 0)
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
	pid_t pid = fork_by(x->bare);

	if (pid == 0)
		_exit(child_uses(x->h, x->held, x->n, x->wiped));
	x->status = child_status(pid);
}

/* A child that was made by the bare system call is noticed by what the kernel has wiped alone. */
START_TEST(a_child_finds_no_cache_of_its_parent_s) {
	bool wiped = kernel_wipes_on_fork();
	berth_slot held[6];
	struct worker w;

	accounts_make(5);
	worker_start(&w);
	for (uint32_t i = 0; i < 5; i++) {
		give(b, take(b, numbered(i)));
		give_by(&w, b, take_by(&w, b, numbered(i)));
	}
	for (uint32_t i = 0; i < ELEMENTS(held); i++)
		held[i] = i % 2 ? take(b, numbered(i % 3)) : take_by(&w, b, numbered(i % 3));
	for (int i = 0; i < 8; i++) {
		struct forked x = {b, held, ELEMENTS(held), wiped && i % 2, wiped, -1};
		struct places before = check_records(b, ELEMENTS(held)), after;

		if (i / 2 % 2)
			worker_do(&w, job_fork, &x);
		else
			job_fork(&x);
		ck_assert_msg(x.status == 0, "fork %d: step %d", i, WEXITSTATUS(x.status));
		after = check_records(b, ELEMENTS(held));
		ck_assert_mem_eq(&before, &after, sizeof(before));
		give(b, take(b, numbered(4)));
	}
	for (uint32_t i = 0; i < ELEMENTS(held); i++)
		give(b, held[i]);
	check_no_counts();
	worker_end(&w);
}
END_TEST

/* -- a thread that is stopped at any instruction ---------------------------------------------------- */

/* The thread is stepped through a call. At one of its instructions, in this program's own code, something
 * else is done, to its end; then the call goes on. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define STEPS 1

extern const char __executable_start[], etext[];

static volatile long steps, stop_at;
static long stride; /* not every instruction, where they are many; $STRIDE says otherwise */
static void (*at_stop)(void);

static void on_step(int number, siginfo_t *info, void *data) {
	const ucontext_t *context = data;
	const char *pc = (const char *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];

	(void)number, (void)info;
	if (pc >= __executable_start && pc < etext && steps++ == stop_at)
		at_stop();
}

/* Below the stack's end the compiler may keep something. */
#define FLAGS_CHANGE(how)                                                           \
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\t" how "\n\tpopfq\n\t" \
			 "lea 128(%%rsp), %%rsp" ::                                 \
				 : "memory", "cc")

/* Again and again, each time stopped one instruction later; and once not at all. */
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
}

static const char *const stepped[] = {"alice", "acme/alice", "a/b/c"};
static int variant;
static struct worker rival;
static struct {
	const char *name;
	berth_slot slot, extra, theirs[2];
	int code, rivals;
	bool quiet, revoked;
	uint32_t charged;
} at;

static int by_rival(void (*job)(void *), berth_slot *slot) {
	struct call c = {.h = b, .account = at.name, .slot = *slot};

	worker_do(&rival, job, &c);
	*slot = c.slot;
	return c.code;
}

static void rival_takes(berth_slot *ret) {
	int code = by_rival(job_acquire, ret);

	ck_assert_msg(code == 0, "the rival's acquire: %d", code);
}

static void rival_gives(berth_slot slot) {
	int code = by_rival(job_release, &slot);

	ck_assert_msg(code == 0, "the rival's release: %d", code);
}

static void call_release(void) {
	at.code = berth_release(b, at.slot);
}

static void call_acquire(void) {
	at.code = berth_acquire(b, at.name, &at.slot);
}

static void steps_set_up(int i) {
	variant = i;
	stride = i % 3 ? 5 : 1;
	memset(&at, 0, sizeof(at));
	at.name = stepped[i % 3];
	account_make(at.name);
	account_make("bob");
	worker_start(&rival);
}

/* It is the one that was taken last, or not. */
static void prepare_held(void) {
	at.theirs[0] = at.theirs[1] = 0;
	at.slot = take(b, at.name);
	at.extra = variant / 3 % 2 ? take(b, "bob") : 0;
	store_relaxed(&session_of(b)->pool->is_full, variant / 6 % 2);
}

/* If it is that thread which releases the slot, it has the record for its own slots at once. */
static void meanwhile_released_twice(void) {
	at.rivals = by_rival(job_release, &at.slot);
	if (at.rivals != 0)
		return;
	rival_takes(&at.theirs[0]);
	rival_takes(&at.theirs[1]);
}

static void check_released_once(void) {
	int no = at.rivals == 0 ? at.code : at.rivals;

	ck_assert_msg((at.rivals == 0) != (at.code == 0) && no == BERTH_TOO_MANY_POSTS,
		"stopped at %ld: %d, the rival: %d", stop_at, at.code, at.rivals);
	ck_assert_uint_eq(count_at(at.name), at.rivals == 0 ? 2 : 0);
	for (int i = 0; i < 2; i++)
		if (at.theirs[i])
			rival_gives(at.theirs[i]);
	if (at.extra)
		give(b, at.extra);
	check_no_counts();
	(void)check_records(b, 0);
}

START_TEST(a_slot_released_by_a_thread_that_is_stopped_and_by_another_is_released_once) {
	steps_set_up(_i);
	explore(prepare_held, call_release, meanwhile_released_twice, check_released_once);
	worker_end(&rival);
}
END_TEST

/* On a path that the thread knows, or not. */
static void prepare_acquire(void) {
	at.extra = take(b, at.name);
	give(b, take(b, at.name));
	if (variant / 3 % 2)
		generation_raise(at.name);
	else
		give(b, take(b, at.name));
}

/* The cells change, and the record that the thread used before goes to another one. */
static void meanwhile_used(void) {
	berth_slot slot = 0;

	rival_takes(&at.theirs[0]);
	rival_gives(at.extra);
	rival_takes(&slot);
	rival_gives(slot);
}

static void check_acquired(void) {
	ck_assert_msg(at.code == 0, "stopped at %ld: %d", stop_at, at.code);
	ck_assert_uint_eq(count_at(at.name), 2);
	(void)check_records(b, 2);
	rival_gives(at.theirs[0]);
	give(b, at.slot);
	check_no_counts();
	(void)check_records(b, 0);
}

START_TEST(a_slot_is_taken_whatever_other_threads_do_while_its_thread_is_stopped) {
	steps_set_up(_i);
	stride = _i / 3 % 2 ? 31 : stride;
	explore(prepare_acquire, call_acquire, meanwhile_used, check_acquired);
	worker_end(&rival);
}
END_TEST

static const char *limited(void) {
	return variant / 6 % 2 && variant % 3 ? variant % 3 == 1 ? "acme" : "a" : at.name;
}

static void prepare_limit(void) {
	prepare_acquire();
	give(b, at.extra);
}

/* What is acknowledged then, no slot passes that wasn't counted before. */
static void meanwhile_limited(void) {
	limit_set(limited(), 0);
	at.charged = count_at(limited());
}

static void check_limited(void) {
	ck_assert_msg(at.code == (at.charged ? 0 : BERTH_CONNECTION_COUNT_LIMIT),
		"stopped at %ld: %d, where %u were charged", stop_at, at.code, at.charged);
	if (at.code == 0)
		give(b, at.slot);
	check_no_counts();
	limit_set(limited(), BERTH_LIMIT_NONE);
	(void)check_records(b, 0);
}

START_TEST(a_limit_that_is_acknowledged_while_a_thread_is_stopped_holds) {
	steps_set_up(_i);
	stride = _i / 3 % 2 ? 61 : stride;
	explore(prepare_limit, call_acquire, meanwhile_limited, check_limited);
	worker_end(&rival);
}
END_TEST

/* As berthctl does. Another slot is taken there, too. */
static void meanwhile_revoked(void) {
	uint32_t record = local_of(b, at.slot)->number;
	struct snapshot seen;

	if (variant / 6 % 2)
		rival_takes(&at.theirs[0]);
	ck_assert_int_eq(counter_record(f.map, record, &seen), 0);
	at.revoked = snapshot_is_held(seen) && counter_revoke(f.map, record, seen) == 0;
	if (!at.revoked)
		ck_assert_int_eq(counter_finish(f.map, record), 0);
	ck_assert_uint_eq(count_at(at.name), variant / 6 % 2);
}

static void prepare_revoked(void) {
	prepare_held();
	store_relaxed(&session_of(b)->pool->is_full, false);
}

static void check_revoked(void) {
	ck_assert_msg(at.code == (at.revoked && steps > stop_at ? BERTH_CONNECTION_ABORTED : 0),
		"stopped at %ld: %d, revoked: %d", stop_at, at.code, at.revoked);
	ck_assert_int_eq(berth_release(b, at.slot), BERTH_TOO_MANY_POSTS);
	if (at.theirs[0])
		rival_gives(at.theirs[0]);
	if (at.extra)
		give(b, at.extra);
	check_no_counts();
	(void)check_records(b, 0);
}

START_TEST(a_slot_revoked_while_its_release_is_stopped_is_given_back_once_and_told_right) {
	steps_set_up(_i);
	explore(prepare_revoked, call_release, meanwhile_revoked, check_revoked);
	worker_end(&rival);
}
END_TEST

static uint32_t goodbyes, taken;

/* Another session's records, that were this one's: each rests at the account, or holds a slot there. */
static uint64_t next_one_s[BERTH_RANGE];

static void range_close(uint32_t range) {
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		ck_assert_int_eq(counter_close(f.map, range * BERTH_RANGE + i), 0);
}

/* A handle for each time, in the place of the one before. */
static void prepare_goodbye(void) {
	next_session = 1;
	next_range = RANGES + 1;
	range_close(next_range);
	b = handle_new(1);
	b->timeout_ms = 1;
	at.quiet = false;
	give(b, take(b, at.name));
	if (variant / 3 % 2)
		generation_raise(at.name);
}

/* As berth_close() does; if it says goodbye now, the daemon gives its records to the next session. */
static void meanwhile_goodbye(void) {
	struct session *s = session_of(b);
	const struct stamp stamp = {0};
	struct path path = path_of(at.name);
	uint32_t level;

	at.quiet = cache_close(s) && pool_close(s->pool);
	if (!at.quiet)
		return;
	store_release(&map_session(f.map, s->index)->state, SESSION_ENDED);
	range_close(RANGES + 1);
	for (uint32_t i = 0; i < BERTH_RANGE; i++) {
		uint32_t n = (RANGES + 1) * BERTH_RANGE + i;

		ck_assert_int_eq(counter_open(f.map, n), 0);
		ck_assert_int_eq(
			record_acquire(f.map, n, &path, 1, &stamp, &next_one_s[i], &level), 0);
		if (i % 2)
			ck_assert_int_eq(counter_release(f.map, n, next_one_s[i]), 0);
	}
}

static void check_goodbye(void) {
	if (at.quiet) {
		ck_assert_msg(
			at.code != 0, "stopped at %ld: a slot of the next session's", stop_at);
		ck_assert_uint_eq(count_at(at.name), BERTH_RANGE / 2);
		for (uint32_t i = 0; i < BERTH_RANGE; i += 2)
			ck_assert_int_eq(counter_release(f.map, (RANGES + 1) * BERTH_RANGE + i,
						 next_one_s[i]),
				0);
	}
	/* Otherwise it may have entered, and have looked at the session afterwards. */
	if (at.code == 0)
		give(b, at.slot);
	goodbyes += at.quiet;
	taken += at.code == 0;
	check_no_counts();
	berth_close(b);
	b = NULL;
}

START_TEST(a_session_that_said_goodbye_while_a_thread_was_stopped_takes_nothing_of_the_next) {
	struct berth *mine = b;

	variant = _i;
	stride = _i / 3 ? 31 : _i % 3 ? 3 : 1;
	at.name = stepped[_i % 3];
	account_make(at.name);
	explore(prepare_goodbye, call_acquire, meanwhile_goodbye, check_goodbye);
	ck_assert_uint_gt(goodbyes, 0);
	ck_assert_uint_gt(taken, 0);
	b = mine;
}
END_TEST

static struct path alices;

/* Its entries are too many: they are all dropped. */
static void prepare_dropped(void) {
	char name[BERTH_NAME_MAX + 1];

	alices = path_of("alice");
	give(b, take(b, "alice"));
	for (uint32_t i = 0; i < 25; i++) {
		memset(name, 'a', BERTH_NAME_MAX);
		(void)snprintf(name + BERTH_NAME_MAX - 4, 5, "%u", 1000 + i);
		ck_assert_ptr_nonnull(cache_add(cache_of(b), session_of(b)->pool, name, &alices));
	}
	cache_of(b)->made = ENTRIES;
}

static void call_add(void) {
	at.code = !cache_add(cache_thread->cache[0], session_of(b)->pool, "new", &alices);
}

static void meanwhile_forked(void) {
	struct forked x = {b, NULL, 0, false, true, -1};

	worker_do(&rival, job_fork, &x);
	ck_assert_msg(x.status == 0, "stopped at %ld: %x", stop_at, (unsigned)x.status);
}

static void check_dropped(void) {
	ck_assert_int_eq(at.code, 0);
	ck_assert_uint_eq(cache_of(b)->made, 1);
	(void)check_records(b, 0);
}

START_TEST(a_child_is_forked_whatever_another_thread_does_with_its_cache) {
	steps_set_up(0);
	accounts_make(3);
	explore(prepare_dropped, call_add, meanwhile_forked, check_dropped);
	worker_end(&rival);
}
END_TEST

/* -- lack of memory -------------------------------------------------------------------------------- */

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

START_TEST(a_thread_without_memory_for_a_cache_takes_slots_all_the_same) {
	struct berth_usage usage = {.size = sizeof(usage)};
	struct call c = {.h = b, .account = "alice"};
	struct worker w;

	account_make("alice");
	/* What is there before: the files' windows. */
	ck_assert_int_eq(berth_query(b, "alice", &usage), 0);
	for (uint32_t n = 1; n <= RANGES; n++)
		ck_assert_ptr_nonnull(map_record(session_of(b)->map, n * BERTH_RANGE));
	worker_start(&w);
	worker_do(&w, job_without_memory, &c);
	ck_assert_int_eq(c.code, 0);
	ck_assert_uint_eq(check_records(b, 0).pooled, RECORDS);
	ck_assert_ptr_null(load_relaxed(&session_of(b)->caches));
	/* And has one as soon as there is some. */
	give_by(&w, b, take_by(&w, b, "alice"));
	ck_assert_uint_eq(check_records(b, 0).named, 1);
	worker_end(&w);
	check_no_counts();
}
END_TEST

#else
#define STEPS 0
#endif

START_TEST(no_call_touches_errno) {
	berth_slot slot[3];

	limit_set("full", 0);
	account_make("acme/alice");
	for (int round = 0; round < 3; round++) {
		errno = EEXIST;
		slot[0] = take(b, "acme/alice");
		slot[1] = take(b, "acme/alice");
		ck_assert_int_eq(berth_acquire(b, "full", &slot[2]), BERTH_CONNECTION_COUNT_LIMIT);
		ck_assert_int_eq(berth_acquire(b, "unknown", &slot[2]), BERTH_CONNECTION_REFUSED);
		give(b, slot[0]);
		give(b, slot[1]);
		ck_assert_int_eq(errno, EEXIST);
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("cache");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, set_up_with_handle, tear_down);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_name_of_any_length_is_told_from_one_that_differs_in_a_byte);
	tcase_add_test(tc, names_of_every_length_take_slots_of_their_own_accounts);
	tcase_add_test(tc, what_is_no_name_is_refused_and_takes_nothing);
	tcase_add_test(tc, names_whose_keys_are_the_same_are_told_apart);
	tcase_add_test(tc, names_that_differ_in_the_middle_are_told_apart);
	tcase_add_test(
		tc, names_that_share_a_prefix_or_a_suffix_or_are_one_of_another_are_told_apart);
	tcase_add_test(tc, an_entry_is_made_anew_when_any_level_s_generation_changes);
	tcase_add_test(tc, a_limit_that_was_changed_counts_at_once_at_every_level);
	tcase_add_test(tc, an_account_that_ceased_to_be_usable_is_not_used);
	tcase_add_test(tc, a_deleted_account_is_not_used_nor_its_successor_by_its_entry);
	tcase_add_test(tc, a_slot_of_an_account_that_was_removed_is_told_and_harms_no_other);
	tcase_add_test(tc, a_slot_is_given_back_where_it_was_taken_whatever_entry_names_its_record);
	tcase_add_test(tc, a_slot_released_twice_is_refused_whatever_tag_a_repair_has_left);
	tcase_add_test(tc, an_account_s_own_record_is_used_again_and_stays_as_it_is);
	tcase_add_test(tc, slots_of_one_account_have_records_that_rest_there_afterwards);
	tcase_add_test(tc, so_many_accounts_keep_a_record_and_the_oldest_gives_it_up);
	tcase_add_test(tc, where_there_are_few_slots_a_thread_keeps_few_records);
	tcase_add_test(tc, how_many_records_a_thread_keeps_depends_on_the_table);
	tcase_add_test(tc, entries_are_dropped_when_they_are_too_many_and_no_record_is_lost);
	tcase_add_test(tc, more_accounts_than_a_cache_can_hold_are_used_in_turn);
	tcase_add_test(tc, a_weight_and_a_label_are_those_of_the_slot_that_is_held);
	tcase_add_test(tc, records_that_are_of_no_use_are_passed_over_and_not_lost);
	tcase_add_test(tc, a_record_that_has_used_up_its_seqs_is_named_no_more);
	tcase_add_test(tc, records_that_can_t_be_mapped_are_no_slots_and_not_lost);
	tcase_add_test(tc, a_slot_is_released_by_any_thread_and_its_record_goes_on_there);
	tcase_add_test(tc, a_slot_that_one_thread_took_is_revoked_and_another_is_told_so_once);
	tcase_add_test(tc, what_a_thread_has_goes_to_others_when_it_ends_and_so_does_its_cache);
	tcase_add_loop_test(tc, a_record_that_was_away_is_the_account_s_that_has_it_now, 0, 6);
	tcase_add_test(
		tc, threads_that_take_and_release_each_other_s_slots_lose_none_and_no_record);
	tcase_add_test(tc, threads_that_want_more_records_than_there_are_lose_none);
	tcase_add_test(
		tc, slots_that_are_revoked_under_threads_are_told_once_and_no_record_is_lost);
	tcase_add_test(
		tc, one_thread_of_a_session_counts_denials_in_its_words_and_the_others_in_the_cell);
	tcase_add_test(tc, denials_of_threads_that_come_and_go_are_all_counted);
	tcase_add_test(tc, a_thread_uses_what_it_keeps_for_other_accounts_before_it_is_told_8);
	tcase_add_test(tc, a_thread_may_use_more_handles_than_it_has_caches);
	tcase_add_test(tc, a_handle_is_closed_while_threads_have_caches_of_it_that_end_later);
	tcase_add_test(tc, a_handle_is_closed_while_threads_end);
	tcase_add_test(tc, a_session_says_goodbye_if_no_thread_is_in_a_call);
	tcase_add_test(tc, a_child_finds_no_cache_of_its_parent_s);
	tcase_add_test(tc, no_call_touches_errno);
#if STEPS
	tcase_add_loop_test(tc,
		a_slot_released_by_a_thread_that_is_stopped_and_by_another_is_released_once, 0, 12);
	tcase_add_loop_test(
		tc, a_slot_is_taken_whatever_other_threads_do_while_its_thread_is_stopped, 0, 6);
	tcase_add_loop_test(
		tc, a_limit_that_is_acknowledged_while_a_thread_is_stopped_holds, 0, 12);
	tcase_add_loop_test(tc,
		a_slot_revoked_while_its_release_is_stopped_is_given_back_once_and_told_right, 0,
		12);
	tcase_add_loop_test(tc,
		a_session_that_said_goodbye_while_a_thread_was_stopped_takes_nothing_of_the_next, 0,
		6);
	tcase_add_test(tc, a_child_is_forked_whatever_another_thread_does_with_its_cache);
	tcase_add_test(tc, a_thread_without_memory_for_a_cache_takes_slots_all_the_same);
#endif
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
