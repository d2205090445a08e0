/* SPDX-License-Identifier: MIT */

/*
 * The counter and the directory, by many threads on one mapping: what ThreadSanitizer can see, where
 * it sees nothing between processes. Servers take and give back; one thread is the daemon, which
 * revokes, bumps, finishes, settles, closes and opens records, changes limits and generations; one takes
 * checkpoints' marks; one looks names up. Run it by `make tsan`; in `make check` it judges the counts alone.
 *
 * $TURNS says how often each server takes or gives at least.
 */

#include <pthread.h>

#include "counter-fast.h"
#include "fixture.h"
#include "wake.h"

#define SERVERS    3
#define RECORDS    8u     /* of each server */
#define CHANGES    10000u /* that the daemon makes at least */
#define TIGHT      3      /* limit of the account that nobody revokes */
#define FIRST      16u
#define SAFE_UNTIL 4u /* a server's first records are never closed, so they may hold `tight` */

static struct fixture f;
static unsigned long turns;
static uint32_t tight;           /* that account */
static _Atomic uint32_t inside;  /* who holds `tight`, by weight */
static _Atomic uint32_t at_work; /* servers */
static _Atomic uint32_t changes; /* by the daemon */
static _Atomic bool over;
static _Atomic(const char *) wrong; /* what the first thread saw that mustn't be */
static _Atomic int wrong_code;
static _Atomic uint64_t taken, denied, revoked, stale, taken_fast, given_fast;

static const char *const names[] = {"tight", "acme/alice", "acme/bob", "acme/bob/web", "loose"};

struct server {
	pthread_t thread;
	uint32_t first; /* record */
	uint64_t random;
	struct path known[ELEMENTS(names)]; /* as it was found last; depth 0: not yet */
	struct {
		uint64_t seq;
		uint32_t weight;
		bool held, tight;
		struct path path; /* on which it was taken */
	} slot[RECORDS];
};

static void complain(const char *what, int r) {
	const char *none = NULL;

	if (atomic_compare_exchange_strong(&wrong, &none, what))
		atomic_store(&wrong_code, r);
}

static uint32_t below(uint64_t *state, uint32_t n) {
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % n);
}

/* -- servers ----------------------------------------------------------------------------------- */

/* As the library does it: by memory if it can. */
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

/* Where no level stands above: without a word to the record. */
static bool one_take(struct record_at at, const struct slot_request *request, uint64_t *ret_seq) {
	const struct level *l = &request->path->level[0];
	uint64_t place = place_pack(RECORD_PLACED, 0, request->weight, l->account);
	struct pair now;

	record_unlabel(at.record);
	if (!counter_acquire_one(at, l->cell, request->seen[0], place, request->weight, &now) &&
		!counter_acquire_other(
			f.map, at, l->cell, request->seen[0], place, request->weight, &now))
		return false;
	(void)add_relaxed(&taken_fast, 1);
	wake_changed(f.map, l->dirty);
	cell_note_peak(l->cell, count_of(now.first));
	record_stamp(at.record, &request->stamp);
	*ret_seq = tag_seq(now.second);
	return true;
}

static bool one_give(struct record_at at, const struct level *l, uint32_t weight, uint64_t seq) {
	const _Atomic uint16_t kept = (uint16_t)weight;
	uint64_t tag = tag_pack(at.number, seq);

	if (!counter_release_one(l->cell, &kept, tag) &&
		!counter_release_other(f.map, at, l->cell, weight, tag))
		return false;
	(void)add_relaxed(&given_fast, 1);
	wake_changed(f.map, l->dirty);
	return true;
}

/* By each way there is: mostly as the library does, from what was seen before. */
static int record_take(struct server *s, uint32_t i, const struct slot_request *request) {
	const struct record_at at = {map_record(f.map, s->first + i), s->first + i};
	uint64_t *seq = &s->slot[i].seq;
	uint32_t level;
	int r = 0;

	if (below(&s->random, 4) == 0)
		r = record_acquire(f.map, at.number, request->path, request->weight,
			&request->stamp, seq, &level);
	else if (request->path->depth > 1 || !one_take(at, request, seq))
		r = counter_acquire(f.map, at, request, seq, &level);
	if (r == 0)
		s->slot[i].path = *request->path;
	return r;
}

static int record_give(struct server *s, uint32_t i) {
	const struct record_at at = {map_record(f.map, s->first + i), s->first + i};
	const struct path *path = &s->slot[i].path;
	uint64_t seq = s->slot[i].seq;
	uint32_t given;

	if (below(&s->random, 2) == 0)
		return counter_release(f.map, at.number, seq);
	if (path->depth == 1 && one_give(at, &path->level[0], s->slot[i].weight, seq))
		return 0;
	given = counter_release_fast(f.map, at, path, seq);
	if (given == path->depth)
		return 0;
	return given > 0 ? counter_release_continue(f.map, at, path, given, seq)
			 : counter_release(f.map, at.number, seq);
}

static void slot_take(struct server *s, uint32_t i) {
	bool is_tight = i < SAFE_UNTIL && below(&s->random, 3) == 0;
	size_t name = is_tight ? 0 : 1 + below(&s->random, ELEMENTS(names) - 1);
	const struct stamp stamp = {.since = 1, .label = i & 1 ? "thread" : NULL};
	uint32_t weight = 1 + below(&s->random, 2), level;
	struct slot_request request = {.weight = weight, .stamp = stamp};
	struct path path;
	int r;

	if (!path_find(s, name, &path))
		return;
	request.path = &path;
	r = counter_check(f.map, &path, weight, request.seen, &level);
	if (r == 0)
		r = record_take(s, i, &request);
	s->slot[i].held = r == 0;
	s->slot[i].tight = is_tight;
	s->slot[i].weight = weight;
	(void)add_relaxed(&stale, r == -ESTALE);
	if (r == 0)
		(void)add_relaxed(&taken, 1);
	else if (r == -EDQUOT)
		(void)add_relaxed(&denied, 1);
	else if (r == -ECANCELED || r == -ESHUTDOWN || r == -EAGAIN)
		(void)add_relaxed(&revoked, 1);
	else if (r == -ESTALE)
		s->known[name].depth = 0;
	else
		complain("an acquire returned what it mustn't", r);
	if (r == 0 && is_tight && add_relaxed(&inside, weight) + weight > TIGHT)
		complain("more than the limit were let in", r);
}

static void slot_give(struct server *s, uint32_t i) {
	int r;

	if (s->slot[i].tight)
		(void)add_relaxed(&inside, -s->slot[i].weight);
	r = record_give(s, i);
	s->slot[i].held = false;
	if (r != 0 && (r != -ENOENT || s->slot[i].tight))
		complain("a release returned what it mustn't", r);
}

static void *server_main(void *data) {
	struct server *s = data;

	for (unsigned long n = 0; n < turns || load_relaxed(&changes) < CHANGES; n++) {
		uint32_t i = below(&s->random, RECORDS);

		if (load_relaxed(&wrong))
			break;
		if (s->slot[i].held)
			slot_give(s, i);
		else
			slot_take(s, i);
	}
	for (uint32_t i = 0; i < RECORDS; i++)
		if (s->slot[i].held)
			slot_give(s, i);
	(void)add_relaxed(&at_work, -1u);
	return NULL;
}

/* -- the daemon -------------------------------------------------------------------------------- */

/* Any record but those of `tight`. */
static void revoke_any(uint64_t *random) {
	uint32_t record = FIRST + below(random, SERVERS * RECORDS);
	struct snapshot seen;
	int r = counter_record(f.map, record, &seen);

	if (r == 0 && place_account(seen.place) == tight)
		return;
	if (r == 0)
		r = counter_revoke(f.map, record, seen);
	if (r != 0 && r != -EAGAIN)
		complain("a revoke returned what it mustn't", r);
}

static void close_and_open_any(uint64_t *random) {
	uint32_t record = FIRST + below(random, SERVERS) * RECORDS + SAFE_UNTIL +
			  below(random, RECORDS - SAFE_UNTIL);
	int r = counter_close(f.map, record);

	if (r == 0)
		r = counter_open(f.map, record);
	if (r != 0 && r != -EAGAIN)
		complain("a record can't be closed and opened", r);
}

/* New generations, new limits (that of `tight` is set again and again), deletion and return. */
static void change_any(uint64_t *random) {
	const char *name = names[1 + below(random, ELEMENTS(names) - 1)];
	int r = 0;

	switch (below(random, 4)) {
	case 0:
		r = accounts_unconfigure(f.accounts, name);
		accounts_tidy(f.accounts);
		break;
	case 1:
		r = fixture_configure(f.accounts, "tight", TIGHT);
		break;
	default:
		r = fixture_configure(f.accounts, name, 1 + below(random, 12));
		break;
	}
	if (r != 0 && r != -ENOENT)
		complain("a limit can't be changed", r);
}

/* As one that starts, or a recount; owners go on meanwhile. */
static void finish_any(uint64_t *random) {
	uint32_t record = FIRST + below(random, SERVERS * RECORDS);
	int r = below(random, 2) ? counter_finish(f.map, record)
				 : counter_finish_seized(f.map, record);

	if (r != 0 && r != -EAGAIN)
		complain("a record can't be finished", r);
}

static void *daemon_main(void *data) {
	uint64_t *random = data;
	int r;

	while (load_relaxed(&at_work) > 0) {
		switch (below(random, 8)) {
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

/* -- those who look ---------------------------------------------------------------------------- */

/* The daemon's own waiting thread: sleeps until a count changes, takes the marks off. */
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
		const struct record *record = map_record(f.map, FIRST + below(random, RECORDS));
		char text[256];

		/* What the list of holders shows. */
		(void)load_relaxed(&record->since);
		(void)load_relaxed(&record->label[0]);
		(void)directory_name(f.map, 1 + below(random, 8), text);
		if (counter_count(f.map, tight) > TIGHT)
			complain("a count was over its limit", 0);
		(void)sched_yield();
	}
	return NULL;
}

/* -- the tests --------------------------------------------------------------------------------- */

static void setup(void) {
	const struct capacities want = {64, 64, 4};

	fixture_new(&f, &want);
	for (size_t i = 0; i < ELEMENTS(names); i++)
		(void)fixture_path(&f, names[i], i == 0 ? TIGHT : 8);
	tight = accounts_find(f.accounts, names[0]);
	fixture_open_records(&f, FIRST, SERVERS * RECORDS);
}

static void teardown(void) {
	fixture_free(&f);
}

static void start(pthread_t *thread, void *(*run)(void *), void *data) {
	ck_assert_int_eq(pthread_create(thread, NULL, run, data), 0);
}

static void all_run(struct server *server, uint64_t seed) {
	uint64_t random[2] = {seed ^ 1, seed ^ 2};
	pthread_t daemon, checkpoint, reader;

	atomic_store(&at_work, SERVERS);
	for (uint32_t i = 0; i < SERVERS; i++) {
		server[i].first = FIRST + i * RECORDS;
		server[i].random = seed + i;
		start(&server[i].thread, server_main, &server[i]);
	}
	start(&daemon, daemon_main, &random[0]);
	start(&reader, reader_main, &random[1]);
	start(&checkpoint, checkpoint_main, NULL);
	for (uint32_t i = 0; i < SERVERS; i++)
		(void)pthread_join(server[i].thread, NULL);
	(void)pthread_join(daemon, NULL);
	(void)pthread_join(reader, NULL);
	atomic_store(&over, true);
	wake_cancel(f.map);
	(void)pthread_join(checkpoint, NULL);
}

static uint64_t seed_choose(void) {
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 0;

	if (seed == 0)
		seed = (uint64_t)getpid();
	printf("SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

START_TEST(servers_and_the_daemon_on_one_mapping_count_right) {
	static struct server server[SERVERS];

	all_run(server, seed_choose());
	printf("%llu taken, %llu denied, %llu revoked, %llu stale; %llu taken and %llu given in "
	       "one "
	       "step\n",
		(unsigned long long)taken, (unsigned long long)denied, (unsigned long long)revoked,
		(unsigned long long)stale, (unsigned long long)taken_fast,
		(unsigned long long)given_fast);
	ck_assert_msg(!wrong, "%s: %d (%s)", wrong, wrong_code, strerror(-wrong_code));
	ck_assert_uint_gt(taken, 0);
	ck_assert_uint_gt(taken_fast, 0);
	ck_assert_uint_gt(given_fast, 0);
	ck_assert_uint_gt(stale, 0);
	for (uint32_t n = FIRST; n < FIRST + SERVERS * RECORDS; n++)
		ck_assert_int_eq(counter_close(f.map, n), 0);
	for (uint32_t a = 1; a < directory_end(accounts_directory(f.accounts)); a++)
		ck_assert_msg(counter_count(f.map, a) == 0, "account %u holds %u", a,
			counter_count(f.map, a));
}
END_TEST

int main(void) {
	Suite *suite = suite_create("threads on one mapping");
	TCase *all = tcase_create("all");
	const char *given = getenv("TURNS");
	SRunner *runner;
	int failed;

	turns = given ? strtoul(given, NULL, 10) : 4000000;
	tcase_set_timeout(all, 600);
	tcase_add_checked_fixture(all, setup, teardown);
	tcase_add_test(all, servers_and_the_daemon_on_one_mapping_count_right);
	suite_add_tcase(suite, all);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
