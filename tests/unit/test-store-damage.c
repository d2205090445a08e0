/* SPDX-License-Identifier: MIT */

/* The store with a byte of its file changed, at one place after another, and cut short. The process
 * that opens the store neither crashes nor hangs. It refuses the limits and says where they are
 * damaged, or it serves only limits that were acknowledged at some time: an older state of an entry
 * or of a whole transaction can't be told from a newer one. Counts are begun afresh, or right.
 * Whether a change succeeds isn't tested: only a change reads the pages' free space. A sample of
 * the places, unless $FAULTS is "all". */

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "run.h"
#include "store-new.h"
#include "util.h"

#define LIMITS 400
#define PAGE   4096
#define SAMPLE 300 /* places, in a sample */
#define METAS  2

#define HANG_SECONDS 100

enum outcome { REFUSED, LATER, RIGHT, OLDER, WRONG, BROKEN };

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

/* How many jobs were answered, and how many of them failed. */
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

/* Puts limits in one transaction, as an import does, from one name to another by a step. */
static bool put_many(struct store *s, const char *format, uint32_t from, uint32_t to, uint32_t step,
	bool delete) {
	struct store_limit *limits = calloc(to, sizeof(*limits));
	char(*names)[64] = calloc(to, sizeof(*names));
	struct answers a = {0};
	size_t count = 0;
	bool done;

	for (uint32_t i = from; i < to; i += step, count++) {
		(void)snprintf(names[count], sizeof(*names), format, i);
		limits[count] = (struct store_limit){names[count], delete ? STORE_DELETE : i};
	}
	done = store_put_limits(s, limits, count, answer_take, &a) == 0;
	if (done)
		await(s, &a, 1);
	free(names);
	free(limits);
	return done && a.failed == 0;
}

#define CUSTOMER "customer%u@example.com"

/* An import and some limits. The older of the last transactions is 4, which with a bit more is
 * 6. */
static void fill_fresh(struct store *s) {
	ck_assert(put_many(s, CUSTOMER, 0, 60, 1, false));
	ck_assert(put_limit(s, "first", 1));
	ck_assert(put_limit(s, "first", 2));
}

/* Several pages of either, some used twice and some free again. */
static void fill_history(struct store *s) {
	char name[32];

	ck_assert(put_many(s, CUSTOMER, 0, LIMITS, 1, false));
	for (uint32_t i = 0; i < LIMITS; i += 3) {
		(void)snprintf(name, sizeof(name), CUSTOMER, i);
		ck_assert(put_limit(s, name, i % 2 ? STORE_DELETE : i + 1));
	}
	ck_assert(put_many(s, CUSTOMER, 90, 250, 1, true));
	ck_assert(put_many(s, CUSTOMER, 200, 230, 2, false));
	put_counts(s);
}

/* So many free pages that a list of them has pages of its own, and trees of three levels. */
static void fill_large(struct store *s) {
	ck_assert(put_many(s, "a-customer-with-a-long-name-%06u@example.com", 0, 30000, 1, false));
	ck_assert(put_many(s, "a-customer-with-a-long-name-%06u@example.com", 500, 29000, 1, true));
}

static void store_fill(void (*fill)(struct store *s)) {
	struct store *s = NULL;

	ck_assert_int_eq(store_new(state, &s), 0);
	fill(s);
	ck_assert(put_limit(s, "last", 1));
	store_free(s);
}

struct text {
	size_t used;
	char text[131072];
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

/* Whether a line says a limit, or counts, that were stored at some time: of customer N, N and N +
 * 1. */
static bool line_was_acknowledged(const char *line) {
	unsigned customer, limit, peak, denied;

	if (sscanf(line, "customer%u@example.com=%u/%u/%u", &customer, &limit, &peak, &denied) == 4)
		return limit == customer && peak == customer + 1 && denied == customer;
	if (sscanf(line, "customer%u@example.com=%u", &customer, &limit) == 2 ||
		sscanf(line, "a-customer-with-a-long-name-%u@example.com=%u", &customer, &limit) ==
			2)
		return limit == customer || limit == customer + 1;
	return strncmp(line, "first=1\n", 8) == 0 || strncmp(line, "first=2\n", 8) == 0 ||
	       strncmp(line, "last=1\n", 7) == 0;
}

static enum outcome judge(const struct text *t) {
	if (strcmp(t->text, expected.text) == 0)
		return RIGHT;
	for (const char *line = t->text; *line; line = strchr(line, '\n') + 1)
		if (!line_was_acknowledged(line))
			return WRONG;
	return OLDER;
}

/* The log of the process that looks, which says what is damaged. */
static void log_path(char to[128]) {
	(void)snprintf(to, 128, "%s/log", state);
}

static bool log_names_the_damage(void) {
	char path[128], line[4096] = "", file[128];
	FILE *f;

	log_path(path);
	path_of("limits", file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && !strstr(line, "is damaged"))
		;
	if (f)
		(void)fclose(f);
	return strstr(line, file) && strstr(line, "--restore") &&
	       (strstr(line, "after the entry '") || strstr(line, "damaged, in "));
}

/* What a start finds. */
static enum outcome limits_look(void) {
	struct text *t = calloc(1, sizeof(*t));
	struct store *s = NULL;
	int r = store_new(state, &s);

	if (r == -EUCLEAN)
		return log_names_the_damage() ? REFUSED : BROKEN;
	if (r < 0)
		return r == -EPROTONOSUPPORT ? LATER : r == -ENOMEM ? REFUSED : BROKEN;
	if (store_read_limits(s, limit_print, t) < 0)
		return BROKEN;
	store_free(s);
	return judge(t);
}

static enum outcome counts_look(void) {
	struct text t = {0};
	struct store *s = NULL;

	if (store_new(state, &s) < 0)
		return BROKEN; /* they are no reason not to start */
	if (store_read_counts(s, SIZE_MAX, count_print, &t) < 0)
		return BROKEN;
	store_free(s);
	return t.used == 0 ? REFUSED : judge(&t);
}

/* In a child, since a failure may be its death. */
static enum outcome look(enum outcome (*looks)(void)) {
	int status = 0;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		char path[128];

		log_path(path);
		(void)!freopen(path, "w", stderr);
		(void)alarm(HANG_SECONDS);
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
static unsigned tried;

/* What a byte may become: all of its bits set, none, or one changed. */
#define PATTERNS 10

static char changed(char byte, unsigned pattern) {
	return (char)(pattern == 0 ? 0xFF : pattern == 1 ? 0 : byte ^ (1 << (pattern - 2)));
}

static void change_try(
	const char *which, size_t at, unsigned pattern, enum outcome (*looks)(void)) {
	char before = content[at];
	enum outcome found;
	char path[128];

	content[at] = changed(before, pattern);
	if (content[at] == before)
		return;
	content_write(which, content_size);
	found = look(looks);
	seen[found]++;
	tried++;
	if (getenv("SHOW") && found > OLDER)
		printf("%s: byte %zu of page %zu, %02x for %02x: %s\n", which, at % PAGE, at / PAGE,
			(unsigned char)content[at], (unsigned char)before,
			found == BROKEN ? "it breaks" : "a wrong value is served");
	else if (found > OLDER)
		ck_abort_msg("%s: byte %zu of page %zu, %02x for %02x: %s", which, at % PAGE,
			at / PAGE, (unsigned char)content[at], (unsigned char)before,
			found == BROKEN ? "it breaks" : "a wrong value is served");
	content[at] = before;
	(void)snprintf(path, sizeof(path), "%s/%s/lock.mdb", state, which);
	(void)unlink(path);
}

/* Most of a sample are pages' headers. */
static size_t place_choose(void) {
	size_t page = random_below((uint32_t)(content_size / PAGE));

	return page * PAGE + random_below(random_below(3) ? 16 : PAGE);
}

static void report(const char *what, const char *which) {
	printf("%6u injected: %s; %s: %u found, %u taken for a later berthd's, %u harmless, %u "
	       "older states\n",
		tried, what, which, seen[REFUSED], seen[LATER], seen[RIGHT], seen[OLDER]);
	ck_assert_uint_gt(seen[REFUSED], 0);
}

static void range_try(const char *which, size_t from, size_t to, enum outcome (*looks)(void)) {
	for (size_t at = from; at < to; at++)
		for (unsigned pattern = 0; pattern < PATTERNS; pattern++)
			if (is_all() || random_below(4) == 0)
				change_try(which, at, pattern, looks);
}

/* The roots and numbers in the meta pages, in a sample; otherwise all that LMDB has there. */
static void metas_try(const char *which, enum outcome (*looks)(void)) {
	for (size_t at = 0; at < METAS * PAGE; at += PAGE) {
		range_try(which, at + (is_all() ? 0 : 80), at + 88, looks);
		range_try(which, at + (is_all() ? 88 : 128), at + (is_all() ? 272 : 152), looks);
	}
}

/* Every place of it: all set, none, the lowest and the highest bit. */
static void all_try(const char *which, const char *what, enum outcome (*looks)(void)) {
	static const unsigned patterns[] = {0, 1, 2, PATTERNS - 1};

	content_read(which);
	metas_try(which, looks);
	for (size_t at = 0; at < content_size; at++)
		for (size_t i = 0; i < ELEMENTS(patterns); i++)
			change_try(which, at, patterns[i], looks);
	report(what, which);
	free(content);
}

static void sample_try(
	const char *which, const char *what, int sample, enum outcome (*looks)(void)) {
	content_read(which);
	metas_try(which, looks);
	for (int i = 0; i < sample; i++)
		change_try(which, place_choose(), random_below(PATTERNS), looks);
	report(what, which);
	free(content);
}

/* Divided by $SCALE, where everything is slow. */
static int sample(void) {
	const char *scale = getenv("SCALE");

	return scale && atoi(scale) > 0 ? SAMPLE / atoi(scale) : SAMPLE;
}

static void limits_fill(void (*fill)(struct store *s)) {
	struct store *s = NULL;

	store_fill(fill);
	ck_assert_int_eq(store_new(state, &s), 0);
	ck_assert_int_eq(store_read_limits(s, limit_print, &expected), 0);
	store_free(s);
}

START_TEST(fresh_limits_with_a_changed_byte_are_refused_or_right) {
	limits_fill(fill_fresh);
	if (is_all())
		all_try("limits", "a changed byte in a fresh file", limits_look);
	else
		sample_try("limits", "a changed byte in a fresh file", sample(), limits_look);
}
END_TEST

START_TEST(limits_with_a_history_and_a_changed_byte_are_refused_or_right) {
	limits_fill(fill_history);
	if (is_all())
		all_try("limits", "a changed byte in one with a history", limits_look);
	else
		sample_try("limits", "a changed byte in one with a history", sample(), limits_look);
}
END_TEST

START_TEST(many_limits_with_a_changed_byte_are_refused_or_right) {
	limits_fill(fill_large);
	sample_try("limits", "a changed byte in a large one", is_all() ? 40 * SAMPLE : sample() / 4,
		limits_look);
}
END_TEST

START_TEST(counts_with_a_changed_byte_are_begun_afresh_or_right) {
	struct store *s = NULL;

	store_fill(fill_history);
	ck_assert_int_eq(store_new(state, &s), 0);
	ck_assert_int_eq(store_read_counts(s, SIZE_MAX, count_print, &expected), 0);
	store_free(s);
	sample_try("counts", "a changed byte", is_all() ? 100 * SAMPLE : sample(), counts_look);
}
END_TEST

static void cut_try(size_t size) {
	enum outcome found;

	content_write("limits", size);
	found = look(limits_look);
	ck_assert_msg(found <= OLDER, "cut to %zu bytes: %d", size, (int)found);
	seen[found]++;
	tried++;
}

/* At each boundary of pages, and beside it, and in between. */
static void cuts_try(void (*fill)(struct store *s), const char *what) {
	static const int beside[] = {-1, 0, 1, 16, 100, 511, 512, 2048};

	limits_fill(fill);
	content_read("limits");
	for (size_t page = 0; page < content_size; page += PAGE)
		for (size_t i = page == 0; i < ELEMENTS(beside); i++)
			if (is_all() || beside[i] == 0 || random_below(8) == 0)
				cut_try(page + (size_t)beside[i]);
	report(what, "limits");
	free(content);
}

START_TEST(fresh_limits_that_were_cut_short_are_refused_or_right) {
	cuts_try(fill_fresh, "a fresh file cut short");
}
END_TEST

START_TEST(limits_with_a_history_that_were_cut_short_are_refused_or_right) {
	cuts_try(fill_history, "one with a history cut short");
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{fresh_limits_with_a_changed_byte_are_refused_or_right},
		{limits_with_a_history_and_a_changed_byte_are_refused_or_right},
		{many_limits_with_a_changed_byte_are_refused_or_right},
		{counts_with_a_changed_byte_are_begun_afresh_or_right},
		{fresh_limits_that_were_cut_short_are_refused_or_right},
		{limits_with_a_history_that_were_cut_short_are_refused_or_right},
		{NULL},
	};

	return run_suites({"store damage", tests, .setup = state_make, .teardown = state_remove});
}
