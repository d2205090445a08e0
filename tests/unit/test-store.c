/* SPDX-License-Identifier: MIT */

/* Tests what the store promises. What it has acknowledged stays, and a job is stored whole or not
 * at all, even after a kill, after damage to the store's files, and on a full disk. */

#include <fcntl.h>
#include <lmdb.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "disk.h"
#include "layout.h"
#include "random.h"
#include "run.h"
#include "store-jobs.h"
#include "util.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static void setup(void) {
	dir_make();
	strcpy(state, dir_path("state").text);
}

static int put_count(
	struct store *s, const char *name, uint32_t count, uint32_t peak, uint64_t denied) {
	struct store_count *c = calloc(1, sizeof(*c));

	ck_assert_ptr_nonnull(c);
	*c = (struct store_count){.count = count, .peak = peak, .denied = denied};
	return put_counts(s, c, 1, strdup(name));
}

/* -- putting and reading ----------------------------------------------------------------------- */

START_TEST(limits_are_there_after_reopening_in_the_order_of_their_bytes) {
	static const struct store_limit limits[] = {
		{"b", 2}, {"*", 7}, {"a/b", 0}, {"a", BERTH_LIMIT_NONE}, {"\xC3\xBC", 1048575}};
	struct store *s = store_open();

	ck_assert_int_eq(put(s, limits, ELEMENTS(limits)), 0);
	store_free(s);

	ck_assert_str_eq(limits_stored(), "*=7 a=16777215 a/b=0 b=2 \xC3\xBC=1048575 ");
}
END_TEST

START_TEST(a_deleted_limit_is_gone_and_deleting_it_again_is_fine) {
	struct store *s = store_open();

	ck_assert_int_eq(put_one(s, "a", 1), 0);
	ck_assert_int_eq(put_one(s, "b", 2), 0);
	ck_assert_int_eq(put_one(s, "a", STORE_DELETE), 0);
	ck_assert_int_eq(put_one(s, "a", STORE_DELETE), 0);
	store_free(s);

	ck_assert_str_eq(limits_stored(), "b=2 ");
}
END_TEST

START_TEST(a_job_is_stored_whole_or_not_at_all) {
	static const struct store_limit bad[] = {{"a", 9}, {"", 1}, {"z", 9}};
	struct store *s = store_open();

	ck_assert_int_eq(put_one(s, "a", 1), 0);
	ck_assert_int_eq(put(s, bad, ELEMENTS(bad)), -EINVAL);
	ck_assert_int_eq(put_one(s, "b", 2), 0);
	store_free(s);

	ck_assert_str_eq(limits_stored(), "a=1 b=2 ");
}
END_TEST

/* Keeps the store's thread busy, so that the next jobs wait and share a commit. */
static void keep_busy(struct store *s, struct answer *a) {
	static struct store_limit many[50000];

	for (size_t i = 0; i < ELEMENTS(many); i++)
		many[i] = (struct store_limit){"busy", STORE_DELETE};
	ck_assert_int_eq(store_put_limits(s, many, ELEMENTS(many), answer_take, a), 0);
}

START_TEST(a_bad_job_does_not_fail_those_that_share_its_commit) {
	static const struct store_limit limits[] = {{"a", 1}, {"", 2}, {"c", 3}};
	struct store *s = store_open();
	struct answer busy = {0}, a[3] = {{0}};

	keep_busy(s, &busy);
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(store_put_limits(s, &limits[i], 1, answer_take, &a[i]), 0);
	(void)answer_await(s, &a[2]);
	ck_assert_int_eq(a[0].error, 0);
	ck_assert_int_eq(a[1].error, -EINVAL);
	ck_assert_int_eq(a[2].error, 0);
	store_free(s);

	ck_assert_str_eq(limits_stored(), "a=1 c=3 ");
}
END_TEST

START_TEST(of_two_changes_of_one_name_the_later_one_counts) {
	static const struct store_limit twice[] = {
		{"a", 1}, {"b", 1}, {"a", STORE_DELETE}, {"b", STORE_DELETE}, {"b", 2}};
	static const struct store_limit first = {"c", 1}, second = {"c", 2};
	struct store *s = store_open();
	struct answer busy = {0}, a[2] = {{0}};

	ck_assert_int_eq(put(s, twice, ELEMENTS(twice)), 0);
	keep_busy(s, &busy);
	ck_assert_int_eq(store_put_limits(s, &first, 1, answer_take, &a[0]), 0);
	ck_assert_int_eq(store_put_limits(s, &second, 1, answer_take, &a[1]), 0);
	(void)answer_await(s, &a[1]);
	store_free(s);

	ck_assert_str_eq(limits_stored(), "b=2 c=2 ");
}
END_TEST

START_TEST(jobs_are_answered_in_the_order_handed_over) {
	static const struct store_limit limit = {"a", 1};
	struct store *s = store_open();
	struct answer a[30] = {{0}};

	for (size_t i = 0; i < ELEMENTS(a); i++)
		if (i % 3 == 2)
			ck_assert_int_eq(store_put_counts(s, calloc(1, sizeof(struct store_count)),
						 1, strdup("a"), answer_take, &a[i]),
				0);
		else
			ck_assert_int_eq(store_put_limits(s, &limit, 1, answer_take, &a[i]), 0);
	(void)answer_await(s, &a[29]);
	for (size_t i = 0; i < ELEMENTS(a); i++)
		ck_assert_uint_eq(a[i].place, i + 1);
	store_free(s);
}
END_TEST

START_TEST(freeing_does_the_jobs_that_wait_and_answers_them) {
	static const struct store_limit limit = {"a", 1};
	struct store *s = store_open();
	struct answer busy = {0}, a[2] = {{0}};
	struct store_count *c = calloc(1, sizeof(*c));

	c->count = 5;
	keep_busy(s, &busy);
	ck_assert_int_eq(store_put_limits(s, &limit, 1, answer_take, &a[0]), 0);
	ck_assert_int_eq(store_put_counts(s, c, 1, strdup("a"), answer_take, &a[1]), 0);
	store_free(s);

	ck_assert(busy.done && a[0].done && a[1].done);
	ck_assert_str_eq(limits_stored(), "a=1 ");
	ck_assert_str_eq(counts_stored(), "a=5/0/0 ");
	store_free(NULL);
}
END_TEST

static int stop_at_once(void *data, const char *name, uint32_t limit) {
	(void)name, (void)limit;
	++*(int *)data;
	return -ECANCELED;
}

START_TEST(reading_stops_where_the_reader_says_so) {
	static const struct store_limit limits[] = {{"a", 1}, {"b", 2}};
	struct store *s = store_open();
	int calls = 0;

	ck_assert_int_eq(put(s, limits, 2), 0);
	store_free(s);
	s = store_open();
	ck_assert_int_eq(store_read_limits(s, stop_at_once, &calls), -ECANCELED);
	ck_assert_int_eq(calls, 1);
	store_free(s);
}
END_TEST

/* -- against a model --------------------------------------------------------------------------- */

#define MODEL_NAMES 600

struct model {
	uint32_t limit[MODEL_NAMES]; /* STORE_DELETE if the name has no limit */
	char name[MODEL_NAMES][64];
	unsigned seen;
};

static int model_compare(void *data, const char *name, uint32_t limit) {
	struct model *m = data;
	unsigned i = (unsigned)strtoul(name + 1, NULL, 10);

	ck_assert_msg(m->limit[i] == limit, "%s is %u instead of %u", name, limit, m->limit[i]);
	m->seen++;
	return 0;
}

START_TEST(random_puts_and_deletes_agree_with_a_model) {
	struct model *m = calloc(1, sizeof(*m));
	unsigned expected;

	random_init();
	for (unsigned i = 0; i < MODEL_NAMES; i++) {
		m->limit[i] = STORE_DELETE;
		(void)snprintf(m->name[i], sizeof(m->name[i]), "n%u-%0*d", i, (int)(i % 50), 0);
	}
	for (int round = 0; round < 20; round++) {
		struct store *s = store_open();

		for (int job = 0; job < 20; job++) {
			struct store_limit limits[64];

			for (size_t i = 0; i < ELEMENTS(limits); i++) {
				uint32_t n = random_below(MODEL_NAMES), v = random_below(100);

				m->limit[n] = v < 50 ? STORE_DELETE : v;
				limits[i] = (struct store_limit){m->name[n], m->limit[n]};
			}
			ck_assert_int_eq(put(s, limits, ELEMENTS(limits)), 0);
		}
		store_free(s);
		expected = m->seen = 0;
		for (unsigned i = 0; i < MODEL_NAMES; i++)
			expected += m->limit[i] != STORE_DELETE;
		s = store_open();
		ck_assert_int_eq(store_read_limits(s, model_compare, m), 0);
		ck_assert_uint_eq(m->seen, expected);
		store_free(s);
	}
	free(m);
}
END_TEST

/* -- sudden death ------------------------------------------------------------------------------ */

static void die_when_done(void *data, int error) {
	(void)data;
	(void)kill(getpid(), error == 0 ? SIGKILL : SIGTERM);
}

/* Runs in a child, which dies by SIGKILL only if the limit was stored. */
static void child_put_and_die(const char *name, uint32_t limit) {
	struct store_limit l = {name, limit};
	struct answer never = {0};
	struct store *s;

	if (store_new(state, &s) < 0 || store_put_limits(s, &l, 1, die_when_done, NULL) < 0)
		_exit(1);
	(void)answer_await(s, &never);
	_exit(2);
}

START_TEST(what_was_acknowledged_survives_a_kill_at_that_instant) {
	const uint32_t rounds = SANITIZED ? 20 : 100;
	static struct text expected;

	for (uint32_t i = 0; i < rounds; i++) {
		char name[32];
		int status;
		pid_t pid;

		(void)snprintf(name, sizeof(name), "n%03u", i);
		pid = fork();
		if (pid == 0)
			child_put_and_die(name, i);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(
			WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
		(void)limit_print(&expected, name, i);
		ck_assert_str_eq(limits_stored(), expected.text);
	}
}
END_TEST

static void note_acknowledged(void *data, int error) {
	_Atomic uint32_t *acknowledged = data;

	if (error == 0)
		atomic_fetch_add(acknowledged, 1);
}

/* Hands over jobs, each of which raises both limits by one. Several jobs may wait at a time. */
static void child_put_for_ever(_Atomic uint32_t *acknowledged) {
	struct pollfd p = {.events = POLLIN};
	struct store *s;

	if (store_new(state, &s) < 0)
		_exit(1);
	p.fd = store_fd(s);
	for (uint32_t n = atomic_load(acknowledged) + 1;; n++) {
		struct store_limit *l = calloc(2, sizeof(*l)); /* the kill frees it */

		l[0] = (struct store_limit){"left", n};
		l[1] = (struct store_limit){"right", n};
		if (store_put_limits(s, l, 2, note_acknowledged, acknowledged) < 0)
			_exit(2);
		if (n % 4 == 0)
			(void)poll(&p, 1, -1);
		store_dispatch(s);
	}
}

struct two_limits {
	uint32_t left, right;
};

static int pair_read(void *data, const char *name, uint32_t limit) {
	struct two_limits *p = data;

	*(name[0] == 'l' ? &p->left : &p->right) = limit;
	return 0;
}

START_TEST(a_kill_at_any_instant_loses_nothing_acknowledged_and_divides_no_job) {
	const int rounds = SANITIZED ? 10 : 60;
	_Atomic uint32_t *acknowledged =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(acknowledged, MAP_FAILED);
	for (int i = 0; i < rounds; i++) {
		uint32_t before = atomic_load(acknowledged);
		struct two_limits p = {0};
		struct store *s;
		pid_t pid = fork();

		if (pid == 0)
			child_put_for_ever(acknowledged);
		/* The number of acknowledged jobs decides when the kill happens, not a clock. */
		while (atomic_load(acknowledged) < before + 1 + (uint32_t)i * 7)
			(void)sched_yield();
		(void)kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);

		s = store_open();
		ck_assert_int_eq(store_read_limits(s, pair_read, &p), 0);
		store_free(s);
		ck_assert_uint_eq(p.left, p.right);
		ck_assert_msg(p.left >= atomic_load(acknowledged), "%u stored, %u acknowledged",
			p.left, atomic_load(acknowledged));
		atomic_store(acknowledged, p.left);
	}
}
END_TEST

/* -- damage ------------------------------------------------------------------------------------ */

/* Damages the file in one of seven ways. Returns its new content, which the caller frees. */
static char *file_damage(const char *path, size_t *ret_size, int how) {
	size_t size;
	char *content = file_read(path, &size);
	const size_t sizes[] = {size, size, size, 8192, size / 2 / 4096 * 4096, 100, 0};

	/* The first 8192 bytes are the meta pages. */
	if (how == 0)
		memset(content, 'x', 8192);
	else if (how <= 2)
		memset(content + 8192, how == 1 ? 0xFF : 0, size - 8192);
	*ret_size = sizes[how];
	file_write(path, content, *ret_size);
	return content;
}

static void put_many(struct store *s) {
	static char names[2000][40];
	static struct store_limit limits[2000];

	for (uint32_t i = 0; i < ELEMENTS(limits); i++) {
		(void)snprintf(names[i], sizeof(names[i]), "customer-%07u@example.com", i);
		limits[i] = (struct store_limit){names[i], i};
	}
	ck_assert_int_eq(put(s, limits, ELEMENTS(limits)), 0);
}

START_TEST(damaged_limits_are_refused_and_left_alone) {
	struct dir_path path = dir_path("state/limits/data.mdb");
	struct store *s = store_open();
	size_t size, size_after;
	char *file, *after;

	put_many(s);
	store_free(s);
	file = file_damage(path.text, &size, _i);

	s = NULL;
	ck_assert_int_eq(store_new(state, &s), -EUCLEAN);
	ck_assert_ptr_null(s);
	after = file_read(path.text, &size_after);
	ck_assert_uint_eq(size_after, size);
	ck_assert_mem_eq(after, file, size);
	free(file);
	free(after);
}
END_TEST

/* Writes the format's version as a later berthd would. If `version` is NULL, deletes it. */
static void format_change(const char *name, const uint32_t *version) {
	struct dir_path path = dir_path(name);
	MDB_val key = {6, (char *)"format"}, value = {4, (void *)version};
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi meta;

	ck_assert_int_eq(mdb_env_create(&env), 0);
	ck_assert_int_eq(mdb_env_set_maxdbs(env, 4), 0);
	ck_assert_int_eq(mdb_env_open(env, path.text, 0, 0600), 0);
	ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
	ck_assert_int_eq(mdb_dbi_open(txn, "meta", 0, &meta), 0);
	ck_assert_int_eq(
		version ? mdb_put(txn, meta, &key, &value, 0) : mdb_del(txn, meta, &key, NULL), 0);
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

START_TEST(limits_of_a_later_format_are_refused) {
	const uint32_t later = 2;
	struct store *s = store_open();

	store_free(s);
	format_change("state/limits", &later);
	ck_assert_int_eq(store_new(state, &s), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(limits_without_a_format_are_refused) {
	struct store *s = store_open();

	store_free(s);
	format_change("state/limits", NULL);
	ck_assert_int_eq(store_new(state, &s), -EUCLEAN);
}
END_TEST

START_TEST(a_birth_that_was_interrupted_is_begun_again) {
	struct dir_path path = dir_path("state/limits/data.mdb.new");

	ck_assert_int_eq(mkdir(state, 0700), 0);
	ck_assert_int_eq(mkdir(dir_path("state/limits").text, 0700), 0);
	file_write(path.text, "half a file", 11);
	ck_assert_str_eq(limits_stored(), "");
	ck_assert_int_ne(access(path.text, F_OK), 0);
}
END_TEST

/* -- counts ------------------------------------------------------------------------------------ */

START_TEST(counts_are_there_after_reopening_and_zeroes_are_not) {
	struct dir_path boot = dir_path("state/counts/boot");
	struct store *s = store_open();

	ck_assert_int_eq(put_count(s, "b", 1, 2, UINT64_C(1) << 40), 0);
	ck_assert_int_eq(put_count(s, "a", 3, 4, 5), 0);
	ck_assert_int_eq(put_count(s, "c", 3, 4, 5), 0);
	ck_assert_int_eq(put_count(s, "c", 0, 0, 0), 0);
	ck_assert_int_eq(access(boot.text, F_OK), 0);
	store_free(s);

	ck_assert_int_ne(access(boot.text, F_OK), 0);
	ck_assert_str_eq(counts_stored(), "a=3/4/5 b=1/2/1099511627776 ");
}
END_TEST

/* Stores counts and a limit in a child, which is then killed. */
static void killed_with_counts(void) {
	pid_t pid = fork();

	if (pid == 0) {
		struct store *s = store_open();

		if (put_count(s, "a", 1, 2, 3) == 0 && put_one(s, "a", 9) == 0)
			(void)kill(getpid(), SIGKILL);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(counts_survive_a_kill_within_the_same_boot) {

	killed_with_counts();
	ck_assert_str_eq(counts_stored(), "a=1/2/3 ");
	ck_assert_str_eq(counts_stored(), "a=1/2/3 ");
}
END_TEST

/* Checks that the limit is there, that the counts are gone, and that new counts can be stored. */
static void check_counts_begun_afresh(void) {
	struct store *s;

	ck_assert_str_eq(counts_stored(), "");
	ck_assert_str_eq(limits_stored(), "a=9 ");
	s = store_open();
	ck_assert_int_eq(put_count(s, "b", 1, 1, 1), 0);
	store_free(s);
	ck_assert_str_eq(counts_stored(), "b=1/1/1 ");
}

START_TEST(counts_that_another_boot_left_unsynced_are_begun_afresh) {
	static const char *const boots[] = {"b1c2d3e4-0000-4000-8000-000000000000\n", "", "\n"};

	killed_with_counts();
	file_write(dir_path("state/counts/boot").text, boots[_i], strlen(boots[_i]));
	check_counts_begun_afresh();
}
END_TEST

START_TEST(damaged_counts_are_begun_afresh) {
	struct store *s = store_open();
	size_t size;

	ck_assert_int_eq(put_count(s, "a", 1, 2, 3), 0);
	ck_assert_int_eq(put_one(s, "a", 9), 0);
	store_free(s);
	free(file_damage(dir_path("state/counts/data.mdb").text, &size, _i));
	check_counts_begun_afresh();
}
END_TEST

START_TEST(counts_of_a_later_format_are_begun_afresh) {
	const uint32_t later = 2;
	struct store *s = store_open();

	ck_assert_int_eq(put_count(s, "a", 1, 2, 3), 0);
	store_free(s);
	format_change("state/counts", &later);
	ck_assert_str_eq(counts_stored(), "");
}
END_TEST

START_TEST(counts_that_cannot_be_opened_do_not_stop_the_service_and_are_tried_again) {
	struct dir_path counts = dir_path("state/counts");
	struct store *s;

	ck_assert_int_eq(mkdir(state, 0700), 0);
	file_write(counts.text, "in the way", 10);
	s = store_open();
	ck_assert_int_eq(put_one(s, "a", 1), 0);
	ck_assert_int_lt(put_count(s, "a", 1, 2, 3), 0);
	ck_assert_int_eq(unlink(counts.text), 0);
	ck_assert_int_eq(put_count(s, "a", 1, 2, 3), 0);
	store_free(s);
	ck_assert_str_eq(counts_stored(), "a=1/2/3 ");
}
END_TEST

/* -- the system's limits ----------------------------------------------------------------------- */

START_TEST(a_directory_of_somebody_else_is_refused) {
	struct store *s;

	if (geteuid() != 0) {
		printf("not root: not testing a directory of somebody else\n");
		return;
	}
	store_free(store_open());
	ck_assert_int_eq(seteuid(65534), 0);
	ck_assert_int_eq(store_new(state, &s), -EACCES);
	ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

START_TEST(little_address_space_is_enough) {
	const struct rlimit little = {UINT64_C(3) << 30, UINT64_C(3) << 30};

	if (SANITIZED) {
		printf("sanitizers need address space: not testing with little\n");
		return;
	}
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &little), 0);
	ck_assert_int_eq(put_one(store_open(), "a", 1), 0);
}
END_TEST

static void fill_disk(const char *path) {
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char block[4096] = {1};

	ck_assert_int_ge(fd, 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	ck_assert_int_eq(errno, ENOSPC);
	ck_assert_int_eq(close(fd), 0);
}

static int limit_count(void *data, const char *name, uint32_t limit) {
	(void)name, (void)limit;
	++*(uint32_t *)data;
	return 0;
}

static uint32_t limits_count(void) {
	struct store *s = store_open();
	uint32_t stored = 0;

	ck_assert_int_eq(store_read_limits(s, limit_count, &stored), 0);
	store_free(s);
	return stored;
}

/* Puts one limit after another until the disk is full; returns how many were acknowledged. */
static uint32_t put_until_full(struct store *s, int *ret_error) {
	for (uint32_t n = 0;; n++) {
		char name[200];

		(void)snprintf(name, sizeof(name), "n%0*u", 180, n);
		*ret_error = put_one(s, name, n);
		if (*ret_error < 0)
			return n;
	}
}

START_TEST(a_full_disk_refuses_and_loses_nothing_and_room_mends_it) {
	struct dir_path filler;
	uint32_t acknowledged;
	struct store *s;
	int error;

	ck_assert_int_eq(mkdir(state, 0700), 0);
	/* The test's process gets a mount namespace, which disappears with the process. */
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", state, "tmpfs", 0, "size=512k") < 0) {
		printf("may not mount: not testing a full disk\n");
		return;
	}
	filler = dir_path("state/filler");
	s = store_open();
	ck_assert_int_eq(put_count(s, "a", 1, 1, 1), 0);
	fill_disk(filler.text);

	acknowledged = put_until_full(s, &error);
	ck_assert_int_eq(error, -ENOSPC);
	ck_assert_int_eq(put_one(s, "another", 1), -ENOSPC);
	store_free(s);

	/* The store can be opened although the disk is full. */
	ck_assert_uint_eq(limits_count(), acknowledged);
	s = store_open();
	ck_assert_int_eq(put_one(s, "another", 1), -ENOSPC);

	ck_assert_int_eq(unlink(filler.text), 0);
	ck_assert_int_eq(put_one(s, "another", 1), 0);
	ck_assert_int_eq(put_count(s, "a", 2, 2, 2), 0);
	store_free(s);

	ck_assert_uint_eq(limits_count(), acknowledged + 1);
	ck_assert_str_eq(counts_stored(), "a=2/2/2 ");
	ck_assert_int_eq(umount(state), 0);
}
END_TEST

/* -- large changes, after which LMDB is closed ------------------------------------------------- */

static _Atomic time_t clock_ahead; /* seconds */
static _Atomic bool disk_fails;

#define EVERYWHERE __attribute__((visibility("default")))

/* Replaces libc's function, also for the store and LMDB. */
EVERYWHERE int clock_gettime(clockid_t clock, struct timespec *t) {
	int r = (int)syscall(SYS_clock_gettime, clock, t);

	t->tv_sec += clock_ahead;
	return r;
}

EVERYWHERE int fdatasync(int fd) {
	if (!disk_fails)
		return (int)syscall(SYS_fdatasync, fd);
	errno = EIO;
	return -1;
}

#define MANY 20000

/* Puts so many counts, and changes so many limits, that LMDB is closed afterwards. */
static void put_many_of_both(struct store *s) {
	struct store_count *c = calloc(MANY, sizeof(*c));
	char *names = malloc((size_t)MANY * 8);
	struct answer busy = {0};

	ck_assert(c && names);
	for (uint32_t i = 0; i < MANY; i++) {
		c[i] = (struct store_count){.count = 1, .peak = 2, .name_offset = (uint64_t)i * 8};
		(void)snprintf(names + (size_t)i * 8, 8, "%07u", i);
	}
	keep_busy(s, &busy);
	(void)put_counts(s, c, MANY, names);
}

static int count_count(
	void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied) {
	(void)name, (void)count, (void)peak, (void)denied;
	++*(uint32_t *)data;
	return 0;
}

static void descriptors_allow(rlim_t n) {
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = MIN_OF(n, limit.rlim_max);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

START_TEST(without_descriptors_changes_are_refused_and_no_count_is_lost) {
	struct store *s = store_open();
	uint32_t stored = 0;

	put_many_of_both(s);
	/* The counts must be synced now, but their file can't be opened. */
	clock_ahead = 60;
	descriptors_allow(3);
	ck_assert_int_eq(put_one(s, "a", 1), -EMFILE);
	ck_assert_int_eq(put_count(s, "a", 1, 2, 3), -EMFILE);
	descriptors_allow(1024);
	ck_assert_int_eq(put_one(s, "a", 1), 0);
	ck_assert_int_eq(put_count(s, "a", 1, 2, 3), 0);
	store_free(s);
	s = store_open();
	ck_assert_int_eq(store_read_counts(s, SIZE_MAX, count_count, &stored), 0);
	store_free(s);
	ck_assert_uint_eq(stored, MANY + 1);
	ck_assert_str_eq(limits_stored(), "a=1 ");
}
END_TEST

START_TEST(a_file_that_went_while_it_was_closed_is_missed_and_not_begun_again) {
	struct dir_path path = dir_path("state/limits/data.mdb"), away = dir_path("state/away");
	struct store *s = store_open();

	ck_assert_int_eq(put_one(s, "a", 1), 0);
	put_many_of_both(s);
	ck_assert_int_eq(rename(path.text, away.text), 0);
	ck_assert_int_eq(put_one(s, "b", 1), -ENOENT);
	ck_assert_int_lt(access(path.text, F_OK), 0);
	ck_assert_int_eq(rename(away.text, path.text), 0);
	ck_assert_int_eq(put_one(s, "b", 1), 0);
	store_free(s);
	ck_assert_str_eq(limits_stored(), "a=1 b=1 ");
}
END_TEST

START_TEST(counts_that_couldnt_be_synced_are_not_believed_because_a_later_sync_succeeds) {
	struct dir_path boot = dir_path("state/counts/boot");
	struct store *s = store_open();

	ck_assert_int_eq(put_count(s, "a", 1, 2, 3), 0);
	clock_ahead = 60;
	disk_fails = true;
	ck_assert_int_eq(put_one(s, "a", 1), -ENOTRECOVERABLE);
	disk_fails = false;
	ck_assert_int_eq(put_one(s, "a", 1), 0);
	store_free(s);
	ck_assert_int_eq(access(boot.text, F_OK), 0);
}
END_TEST

/* -- all of them ------------------------------------------------------------------------------- */

int main(void) {
	const struct test tests[] = {
		{limits_are_there_after_reopening_in_the_order_of_their_bytes},
		{a_deleted_limit_is_gone_and_deleting_it_again_is_fine},
		{a_job_is_stored_whole_or_not_at_all},
		{a_bad_job_does_not_fail_those_that_share_its_commit},
		{of_two_changes_of_one_name_the_later_one_counts},
		{jobs_are_answered_in_the_order_handed_over},
		{freeing_does_the_jobs_that_wait_and_answers_them},
		{reading_stops_where_the_reader_says_so},
		{random_puts_and_deletes_agree_with_a_model},
		{what_was_acknowledged_survives_a_kill_at_that_instant},
		{a_kill_at_any_instant_loses_nothing_acknowledged_and_divides_no_job},
		{damaged_limits_are_refused_and_left_alone, 0, 7},
		{limits_of_a_later_format_are_refused},
		{limits_without_a_format_are_refused},
		{a_birth_that_was_interrupted_is_begun_again},
		{counts_are_there_after_reopening_and_zeroes_are_not},
		{counts_survive_a_kill_within_the_same_boot},
		{counts_that_another_boot_left_unsynced_are_begun_afresh, 0, 3},
		{damaged_counts_are_begun_afresh, 0, 7},
		{counts_of_a_later_format_are_begun_afresh},
		{counts_that_cannot_be_opened_do_not_stop_the_service_and_are_tried_again},
		{a_directory_of_somebody_else_is_refused},
		{little_address_space_is_enough},
		{a_full_disk_refuses_and_loses_nothing_and_room_mends_it},
		{without_descriptors_changes_are_refused_and_no_count_is_lost},
		{a_file_that_went_while_it_was_closed_is_missed_and_not_begun_again},
		{counts_that_couldnt_be_synced_are_not_believed_because_a_later_sync_succeeds},
		{NULL},
	};

	return run_suites({"store", tests, .setup = setup, .teardown = dir_remove});
}
