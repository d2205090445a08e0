/* SPDX-License-Identifier: MIT */

/* The store with a byte of its file changed, at one place after another, and cut short: the limits are
 * refused or right, the counts begun afresh or right, and nobody dies of it. A sample of the places,
 * unless $FAULTS is "all". */

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "store.h"
#include "util.h"

#define LIMITS 400
#define PAGE   4096
#define SAMPLE 300 /* places, in a sample */
#define METAS  2

enum outcome { REFUSED, RIGHT, OLDER, WRONG, BROKEN };

static char state[] = "/dev/shm/berth-test-damage-XXXXXX";
static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 33) % n);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void state_make(void) {
	const char *seed = getenv("SEED");
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	random_state =
		seed && strtoull(seed, NULL, 0) ? strtoull(seed, NULL, 0) : (uint64_t)now.tv_nsec;
	printf("SEED=%llu\n", (unsigned long long)random_state);
	ck_assert_ptr_nonnull(mkdtemp(state));
}

static void state_remove(void) {
	(void)nftw(state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* -- what is stored ---------------------------------------------------------------------------- */

/* So much was answered, and how. */
struct answers {
	int count, failed;
};

static void answer_take(void *data, int error) {
	struct answers *a = data;

	a->count++;
	a->failed += error < 0;
}

static void await(struct store *s, const struct answers *a, int count) {
	struct pollfd p = {.fd = store_fd(s), .events = POLLIN};

	while (a->count < count) {
		(void)poll(&p, 1, -1);
		store_dispatch(s);
	}
}

static bool put_limit(struct store *s, const char *name, uint32_t limit) {
	struct store_limit l = {name, limit};
	struct answers a = {0};

	if (store_put_limits(s, &l, 1, answer_take, &a) < 0)
		return false;
	await(s, &a, 1);
	return a.failed == 0;
}

static void put_counts(struct store *s) {
	struct store_count *counts = calloc(LIMITS, sizeof(*counts));
	char *names = calloc(LIMITS, 32);
	struct answers a = {0};
	size_t used = 0;

	for (uint32_t i = 0; i < LIMITS; i++) {
		counts[i] = (struct store_count){i, i + 1, i, used};
		used += (size_t)sprintf(names + used, "customer%u@example.com", i) + 1;
	}
	ck_assert_int_eq(store_put_counts(s, counts, LIMITS, names, answer_take, &a), 0);
	await(s, &a, 1);
	ck_assert_int_eq(a.failed, 0);
}

/* Several pages of either, some used twice and some free again. */
static void store_fill(void) {
	struct store *s = NULL;
	char name[32];

	ck_assert_int_eq(store_new(state, &s), 0);
	for (uint32_t i = 0; i < LIMITS; i++) {
		(void)sprintf(name, "customer%u@example.com", i);
		ck_assert(put_limit(s, name, i));
	}
	for (uint32_t i = 0; i < LIMITS; i += 3) {
		(void)sprintf(name, "customer%u@example.com", i);
		ck_assert(put_limit(s, name, STORE_DELETE));
	}
	put_counts(s);
	ck_assert(put_limit(s, "last", 1));
	store_free(s);
}

struct text {
	size_t used;
	char text[65536];
};

static int limit_print(void *data, const char *name, uint32_t limit) {
	struct text *t = data;

	t->used += (size_t)snprintf(
		t->text + t->used, sizeof(t->text) - t->used, "%s=%u\n", name, limit);
	return t->used < sizeof(t->text) ? 0 : -ENOSPC;
}

static int count_print(
	void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied) {
	struct text *t = data;

	t->used += (size_t)snprintf(t->text + t->used, sizeof(t->text) - t->used, "%s=%u/%u/%llu\n",
		name, count, peak, (unsigned long long)denied);
	return t->used < sizeof(t->text) ? 0 : -ENOSPC;
}

/* -- one damage -------------------------------------------------------------------------------- */

static char *content;
static size_t content_size;
static struct text expected;

static void path_of(const char *which, char to[128]) {
	(void)snprintf(to, 128, "%s/%s/data.mdb", state, which);
}

static void content_read(const char *which) {
	struct stat st;
	char path[128];
	FILE *f;

	path_of(which, path);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fstat(fileno(f), &st), 0);
	content_size = (size_t)st.st_size;
	content = malloc(content_size);
	ck_assert_uint_eq(fread(content, 1, content_size, f), content_size);
	(void)fclose(f);
}

static void content_write(const char *which, size_t size) {
	char path[128];
	FILE *f;

	path_of(which, path);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(content, 1, size, f), size);
	ck_assert_int_eq(fclose(f), 0);
}

static enum outcome judge(const struct text *t) {
	const char *without = strstr(expected.text, "last=1\n");

	if (strcmp(t->text, expected.text) == 0)
		return RIGHT;
	/* As before the last commit. */
	return without && strlen(t->text) == (size_t)(without - expected.text) &&
			       strncmp(t->text, expected.text, strlen(t->text)) == 0
		       ? OLDER
		       : WRONG;
}

/* What a start finds, and, once a limit has been added, another. */
static enum outcome limits_look(void) {
	struct text t = {0};
	struct store *s = NULL;
	enum outcome found;
	int r = store_new(state, &s);

	if (r < 0)
		return r == -EUCLEAN || r == -EPROTONOSUPPORT ? REFUSED : BROKEN;
	if (store_read_limits(s, limit_print, &t) < 0)
		return REFUSED;
	found = judge(&t);
	if (found == WRONG || !put_limit(s, "zz", 5)) {
		store_free(s);
		return found;
	}
	store_free(s);
	t = (struct text){0};
	r = store_new(state, &s);
	if (r < 0)
		return r == -EUCLEAN ? REFUSED : BROKEN;
	(void)store_read_limits(s, limit_print, &t);
	store_free(s);
	if (!strstr(t.text, "zz=5\n"))
		return WRONG;
	*strstr(t.text, "zz=5\n") = '\0';
	return judge(&t);
}

static enum outcome counts_look(void) {
	struct text t = {0};
	struct store *s = NULL;

	if (store_new(state, &s) < 0)
		return BROKEN; /* they are no reason not to start */
	if (store_read_counts(s, count_print, &t) < 0)
		return BROKEN;
	store_free(s);
	return t.used == 0 ? REFUSED : judge(&t);
}

/* In a child, since what is looked for may be its death. */
static enum outcome look(enum outcome (*looks)(void)) {
	int status = 0;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)!freopen("/dev/null", "w", stderr);
		_exit((int)looks());
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? (enum outcome)WEXITSTATUS(status) : BROKEN;
}

/* -- all places -------------------------------------------------------------------------------- */

static bool is_all(void) {
	const char *want = getenv("FAULTS");

	return want && strcmp(want, "all") == 0;
}

static unsigned seen[BROKEN + 1];

static void flip_try(const char *which, size_t at, enum outcome (*looks)(void)) {
	char before = content[at];
	enum outcome found;
	char path[128];

	content[at] = (char)(content[at] ^ (1 << random_below(8)));
	content_write(which, content_size);
	found = look(looks);
	seen[found]++;
	/* A meta page that isn't believed leaves the one before it, which is whole. */
	if (found == WRONG || found == BROKEN || (found == OLDER && at >= METAS * PAGE))
		ck_abort_msg("%s: byte %zu of page %zu, %02x for %02x: %s", which, at % PAGE,
			at / PAGE, (unsigned char)content[at], (unsigned char)before,
			found == BROKEN ? "it dies of it" : "a wrong value is served");
	content[at] = before;
	(void)snprintf(path, sizeof(path), "%s/%s/lock.mdb", state, which);
	(void)unlink(path);
}

/* Half of a sample are pages' headers. */
static size_t place_choose(void) {
	size_t page = random_below((uint32_t)(content_size / PAGE));

	return page * PAGE + random_below(random_below(2) ? 16 : PAGE);
}

static void flips_try(const char *which, enum outcome (*looks)(void)) {
	content_read(which);
	memset(seen, 0, sizeof(seen));
	if (is_all())
		for (size_t at = 0; at < content_size; at++)
			flip_try(which, at, looks);
	else
		for (int i = 0; i < SAMPLE; i++)
			flip_try(which, place_choose(), looks);
	printf("%6u injected: a changed byte; %s: %u found, %u harmless, %u took the last commit "
	       "back\n",
		seen[REFUSED] + seen[RIGHT] + seen[OLDER], which, seen[REFUSED], seen[RIGHT],
		seen[OLDER]);
	ck_assert_uint_gt(seen[REFUSED], 0);
	free(content);
}

START_TEST(limits_with_a_changed_byte_are_refused_or_right) {
	struct store *s = NULL;

	store_fill();
	ck_assert_int_eq(store_new(state, &s), 0);
	ck_assert_int_eq(store_read_limits(s, limit_print, &expected), 0);
	store_free(s);
	flips_try("limits", limits_look);
}
END_TEST

START_TEST(counts_with_a_changed_byte_are_begun_afresh_or_right) {
	struct store *s = NULL;

	store_fill();
	ck_assert_int_eq(store_new(state, &s), 0);
	ck_assert_int_eq(store_read_counts(s, count_print, &expected), 0);
	store_free(s);
	flips_try("counts", counts_look);
}
END_TEST

START_TEST(limits_that_were_cut_short_are_refused_or_right) {
	struct store *s = NULL;
	size_t step = is_all() ? 512 : PAGE + 512;

	store_fill();
	ck_assert_int_eq(store_new(state, &s), 0);
	ck_assert_int_eq(store_read_limits(s, limit_print, &expected), 0);
	store_free(s);
	content_read("limits");
	for (size_t size = 0; size < content_size; size += step) {
		enum outcome found;

		content_write("limits", size);
		found = look(limits_look);
		ck_assert_msg(found == REFUSED || found == RIGHT, "cut to %zu bytes: %d", size,
			(int)found);
		seen[found]++;
	}
	printf("%6u injected: a file cut short; limits: %u found, %u harmless\n",
		seen[REFUSED] + seen[RIGHT], seen[REFUSED], seen[RIGHT]);
	ck_assert_uint_gt(seen[REFUSED], 0);
	free(content);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("store damage");
	TCase *t = tcase_create("store damage");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, state_make, state_remove);
	tcase_add_test(t, limits_with_a_changed_byte_are_refused_or_right);
	tcase_add_test(t, counts_with_a_changed_byte_are_begun_afresh_or_right);
	tcase_add_test(t, limits_that_were_cut_short_are_refused_or_right);
	tcase_set_timeout(t, 120);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
