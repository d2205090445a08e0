/* SPDX-License-Identifier: MIT */

/*
 * Many threads use the counter and the directory on one mapping, so that ThreadSanitizer can see
 * races, which it can't see between processes. Server threads acquire and release slots. One thread
 * acts as berthd: it revokes, finishes, closes and opens records, bumps cells, and changes limits
 * and generations. One thread clears the marks of checkpoints, and one thread reads. `make tsan`
 * runs this test under ThreadSanitizer. In `make check`, the test checks only the counts.
 *
 * Each server thread acquires or releases at least $TURNS times.
 */

#include "counter-fast.h"
#include "fixture.h"
#include "random.h"
#include "run.h"
#include "threads.h"
#include "wake.h"

#define SERVERS    3
#define RECORDS    8u     /* of each server */
#define CHANGES    10000u /* by berthd, at least */
#define TIGHT      3      /* the limit of `tight`, whose slots are never revoked */
#define FIRST      16u
#define SAFE_UNTIL 4u /* a server's first records are never closed; only they may hold `tight` */

static unsigned long turns;
static uint32_t tight;           /* the account `tight` */
static _Atomic uint32_t inside;  /* the weight that `tight` holds, added up by the servers */
static _Atomic uint32_t at_work; /* servers that run */
static _Atomic uint32_t changes; /* by berthd */
static _Atomic bool over;
static _Atomic(const char *) failure; /* the first error that a thread found; NULL: none */
static _Atomic int failure_code;
static _Atomic uint64_t acquired, denied, revoked, stale, acquired_fast, released_fast;

static const char *const names[] = {"tight", "acme/alice", "acme/bob", "acme/bob/web", "loose"};

struct server {
	pthread_t thread;
	uint32_t first; /* record */
	uint64_t random;
	struct path known[ELEMENTS(names)]; /* as each was looked up last; if not yet, depth 0 */
	struct {
		uint64_t seq;
		uint32_t weight;
		bool held, tight;
		struct path path; /* of the slot's account */
	} slot[RECORDS];
};

static void complain(const char *what, int r) {
	const char *none = NULL;

	if (atomic_compare_exchange_strong(&failure, &none, what))
		atomic_store(&failure_code, r);
}

/* -- servers ----------------------------------------------------------------------------------- */

/* Finds the path as the library does: uses the known path if there is one. */
static bool path_find(struct server *s, size_t name, struct path *ret) {
	struct name text;
	uint32_t account;
	uint64_t word;
	int r;

	*ret = s->known[name];
	if (ret->depth > 0)
		return true;
	(void)name_load(names[name], &text);
	r = directory_find(f.map, &text, &account, &word);
	if (r == 0)
		r = directory_path(f.map, account, entry_generation(word), ret);
	if (r == 0)
		s->known[name] = *ret;
	else if (r != -ENOENT && r != -ESTALE)
		complain("a name can't be looked up", r);
	return r == 0;
}

/* Acquires on one level by the fast path, which places no record. False if the fast path can't
 * acquire a slot. */
static bool acquire_one_level(
	struct record_at at, const struct slot_request *request, uint64_t *ret_seq) {
	const struct level *l = &request->path->level[0];
	uint64_t place = place_pack(RECORD_PLACED, 0, request->weight, l->account);
	struct pair now;

	record_unlabel(at.record);
	if (!counter_acquire_one(at, l->cell, request->seen[0], place, request->weight, &now) &&
		!counter_acquire_other(
			f.map, at, l->cell, request->seen[0], place, request->weight, &now))
		return false;
	(void)add_relaxed(&acquired_fast, 1);
	wake_changed(f.map, l->dirty);
	cell_note_peak(l->cell, count_of(now.first));
	record_stamp(at.record, &request->stamp);
	*ret_seq = tag_seq(now.second);
	return true;
}

static bool release_one_level(
	struct record_at at, const struct level *l, uint32_t weight, uint64_t seq) {
	const _Atomic uint16_t kept = (uint16_t)weight;
	uint64_t tag = tag_pack(at.number, seq);

	if (!counter_release_one(l->cell, &kept, tag) &&
		!counter_release_other(f.map, at, l->cell, weight, tag))
		return false;
	(void)add_relaxed(&released_fast, 1);
	wake_changed(f.map, l->dirty);
	return true;
}

/* Acquires in one of three ways. In two of these ways, as in the library, the acquire uses the
 * words of the cells that it read before. */
static int acquire_with(struct server *s, uint32_t i, const struct slot_request *request) {
	const struct record_at at = {map_record(f.map, s->first + i), s->first + i};
	uint64_t *seq = &s->slot[i].seq;
	int r = 0;

	if (random_of(&s->random, 4) == 0)
		r = record_acquire(
			f.map, at.number, request->path, request->weight, &request->stamp, seq);
	else if (request->path->depth > 1 || !acquire_one_level(at, request, seq))
		r = counter_acquire(f.map, at, request, seq);
	if (r == 0)
		s->slot[i].path = *request->path;
	return r;
}

static int release_with(struct server *s, uint32_t i) {
	const struct record_at at = {map_record(f.map, s->first + i), s->first + i};
	const struct path *path = &s->slot[i].path;
	uint64_t seq = s->slot[i].seq;
	uint32_t given;

	if (random_of(&s->random, 2) == 0)
		return counter_release(f.map, at.number, seq);
	if (path->depth == 1 && release_one_level(at, &path->level[0], s->slot[i].weight, seq))
		return 0;
	given = counter_release_fast(f.map, at, path, seq);
	if (given == path->depth)
		return 0;
	return given > 0 ? counter_release_continue(f.map, at, path, given, seq)
			 : counter_release(f.map, at.number, seq);
}

static void server_acquire(struct server *s, uint32_t i) {
	bool is_tight = i < SAFE_UNTIL && random_of(&s->random, 3) == 0;
	size_t name = is_tight ? 0 : 1 + random_of(&s->random, ELEMENTS(names) - 1);
	const struct stamp stamp = {.since = 1, .label = i & 1 ? "thread" : NULL};
	uint32_t weight = 1 + random_of(&s->random, 2);
	struct slot_request request = {.weight = weight, .stamp = stamp};
	struct path path;
	int r;

	if (!path_find(s, name, &path))
		return;
	request.path = &path;
	r = counter_check(f.map, &path, weight, request.seen);
	if (r == 0)
		r = acquire_with(s, i, &request);
	s->slot[i].held = r == 0;
	s->slot[i].tight = is_tight;
	s->slot[i].weight = weight;
	(void)add_relaxed(&stale, r == -ESTALE);
	if (r == 0)
		(void)add_relaxed(&acquired, 1);
	else if (r == -EDQUOT)
		(void)add_relaxed(&denied, 1);
	else if (r == -ECANCELED || r == -ESHUTDOWN || r == -EAGAIN)
		(void)add_relaxed(&revoked, 1);
	else if (r == -ESTALE)
		s->known[name].depth = 0;
	else
		complain("an acquire returned an error that it must not return", r);
	if (r == 0 && is_tight && add_relaxed(&inside, weight) + weight > TIGHT)
		complain("more slots than the limit were acquired", r);
}

static void server_release(struct server *s, uint32_t i) {
	int r;

	if (s->slot[i].tight)
		(void)add_relaxed(&inside, -s->slot[i].weight);
	r = release_with(s, i);
	s->slot[i].held = false;
	if (r != 0 && (r != -ENOENT || s->slot[i].tight))
		complain("a release returned an error that it must not return", r);
}

static void *server_main(void *data) {
	struct server *s = data;

	for (unsigned long n = 0; n < turns || load_relaxed(&changes) < CHANGES; n++) {
		uint32_t i = random_of(&s->random, RECORDS);

		if (load_relaxed(&failure))
			break;
		if (s->slot[i].held)
			server_release(s, i);
		else
			server_acquire(s, i);
	}
	for (uint32_t i = 0; i < RECORDS; i++)
		if (s->slot[i].held)
			server_release(s, i);
	(void)add_relaxed(&at_work, -1u);
	return NULL;
}

/* -- berthd ------------------------------------------------------------------------------------ */

/* Revokes the slot of any record, except slots of `tight`. */
static void revoke_any(uint64_t *random) {
	uint32_t record = FIRST + random_of(random, SERVERS * RECORDS);
	struct snapshot seen;
	int r = counter_record(f.map, record, &seen);

	if (r == 0 && place_account(seen.place) == tight)
		return;
	if (r == 0)
		r = counter_revoke(f.map, record, seen);
	if (r != 0 && r != -EAGAIN)
		complain("a revoke returned an error that it must not return", r);
}

static void close_and_open_any(uint64_t *random) {
	uint32_t record = FIRST + random_of(random, SERVERS) * RECORDS + SAFE_UNTIL +
			  random_of(random, RECORDS - SAFE_UNTIL);
	int r = counter_close(f.map, record);

	if (r == 0)
		r = counter_open(f.map, record);
	if (r != 0 && r != -EAGAIN)
		complain("a record can't be closed and opened", r);
}

/* Makes one of three changes: deletes an account, sets the limit of `tight` to the same number, or
 * sets the limit of another account. */
static void change_any(uint64_t *random) {
	const char *name = names[1 + random_of(random, ELEMENTS(names) - 1)];
	int r = 0;

	switch (random_of(random, 4)) {
	case 0:
		r = accounts_unconfigure(f.accounts, name);
		accounts_tidy(f.accounts);
		break;
	case 1:
		r = fixture_configure("tight", TIGHT);
		break;
	default:
		r = fixture_configure(name, 1 + random_of(random, 12));
		break;
	}
	if (r != 0 && r != -ENOENT)
		complain("a limit can't be changed", r);
}

/* Finishes the operation of a record, as a starting berthd or a recount does. Meanwhile the
 * record's owner may go on with the operation. */
static void finish_any(uint64_t *random) {
	uint32_t record = FIRST + random_of(random, SERVERS * RECORDS);
	int r = random_of(random, 2) ? counter_finish(f.map, record)
				     : counter_finish_seized(f.map, record);

	if (r != 0 && r != -EAGAIN)
		complain("a record can't be finished", r);
}

static void *daemon_main(void *data) {
	uint64_t *random = data;
	int r;

	while (load_relaxed(&at_work) > 0) {
		switch (random_of(random, 8)) {
		case 0:
			close_and_open_any(random);
			break;
		case 1:
			change_any(random);
			break;
		case 2:
			r = counter_bump(f.map, tight);
			if (r != 0)
				complain("a cell can't be bumped", r);
			break;
		case 3:
			finish_any(random);
			break;
		default:
			revoke_any(random);
			break;
		}
		(void)add_relaxed(&changes, 1);
	}
	return NULL;
}

/* -- readers ----------------------------------------------------------------------------------- */

/* Sleeps until a count changes, and clears the marks of changed cells, as berthd's checkpoint
 * thread does. */
static void *checkpoint_main(void *data) {
	(void)data;
	while (!atomic_load(&over)) {
		uint32_t seen = wake_arm(f.map);
		bool dirty = false;

		for (uint32_t a = 1; a < directory_end(accounts_directory(f.accounts));
			a += BERTH_DIRTY_GROUP)
			dirty |= wake_clear_dirty(f.map, a);
		if (dirty)
			wake_disarm(f.map);
		else if (!atomic_load(&over))
			wake_wait(f.map, seen);
	}
	return NULL;
}

static void *reader_main(void *data) {
	uint64_t *random = data;

	while (load_relaxed(&at_work) > 0) {
		const struct record *record = map_record(f.map, FIRST + random_of(random, RECORDS));
		char text[256];

		/* berthd reads these members for the list of holders. */
		(void)load_relaxed(&record->since);
		(void)load_relaxed(&record->label[0]);
		(void)directory_name(f.map, 1 + random_of(random, 8), text);
		if (counter_count(f.map, tight) > TIGHT)
			complain("a count was over its limit", 0);
		(void)sched_yield();
	}
	return NULL;
}

/* -- the tests --------------------------------------------------------------------------------- */

static void setup(void) {
	const struct capacities want = {64, 64, 4};

	fixture_new(&want);
	for (size_t i = 0; i < ELEMENTS(names); i++)
		limit_set(names[i], i == 0 ? TIGHT : 8);
	tight = account_of(names[0]);
	records_open(FIRST, SERVERS * RECORDS);
}

static void run_all(struct server *server, uint64_t seed) {
	uint64_t random[2] = {seed ^ 1, seed ^ 2};
	pthread_t daemon, checkpoint, reader;

	atomic_store(&at_work, SERVERS);
	for (uint32_t i = 0; i < SERVERS; i++) {
		server[i].first = FIRST + i * RECORDS;
		server[i].random = seed + i;
		thread_start(&server[i].thread, server_main, &server[i]);
	}
	thread_start(&daemon, daemon_main, &random[0]);
	thread_start(&reader, reader_main, &random[1]);
	thread_start(&checkpoint, checkpoint_main, NULL);
	for (uint32_t i = 0; i < SERVERS; i++)
		threads_join(&server[i].thread, 1);
	threads_join(&daemon, 1);
	threads_join(&reader, 1);
	atomic_store(&over, true);
	wake_cancel(f.map);
	threads_join(&checkpoint, 1);
}

START_TEST(servers_and_berthd_on_one_mapping_count_right) {
	static struct server server[SERVERS];

	run_all(server, random_seed());
	printf("%llu acquired, %llu denied, %llu revoked, %llu stale; on the fast path %llu "
	       "acquired, %llu released\n",
		(unsigned long long)acquired, (unsigned long long)denied,
		(unsigned long long)revoked, (unsigned long long)stale,
		(unsigned long long)acquired_fast, (unsigned long long)released_fast);
	ck_assert_msg(!failure, "%s: %d (%s)", failure, failure_code, strerror(-failure_code));
	ck_assert_uint_gt(acquired, 0);
	ck_assert_uint_gt(acquired_fast, 0);
	ck_assert_uint_gt(released_fast, 0);
	ck_assert_uint_gt(stale, 0);
	for (uint32_t n = FIRST; n < FIRST + SERVERS * RECORDS; n++)
		ck_assert_int_eq(counter_close(f.map, n), 0);
	check_no_counts();
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{servers_and_berthd_on_one_mapping_count_right},
		{NULL},
	};
	const char *given = getenv("TURNS");

	turns = given ? strtoul(given, NULL, 10) : 4000000;
	return run_suites({"threads on one mapping", tests, .setup = setup,
		.teardown = fixture_free, .seconds = 600});
}
