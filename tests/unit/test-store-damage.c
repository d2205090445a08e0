/* SPDX-License-Identifier: MIT */

/* Changes a byte of the store's file, at one place after another, and cuts the file short. The
 * process that opens the store must neither crash nor hang. It must either refuse the limits and
 * say where they are damaged, or serve only limits that were acknowledged at some time. The limits
 * needn't be the newest ones: the process can't tell an older state of an entry, or of a whole
 * transaction, from a newer state. If the counts are damaged, it must read only right ones, or
 * begin the counts afresh. The test doesn't change limits in a damaged store, so it doesn't cover
 * damage that only a change would read: the free space in pages. If $FAULTS isn't "all", only a
 * sample of the places is tried. */

#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"
#include "random.h"
#include "run.h"
#include "store-jobs.h"
#include "util.h"

#define LIMITS 400
#define PAGE   4096
#define SAMPLE 300 /* places, in a sample */
#define METAS  2

#define HANG_SECONDS 100

enum outcome { REFUSED, LATER, RIGHT, OLDER, WRONG, BROKEN };

static void setup(void) {
	random_init();
	dir_make();
	strcpy(state, dir_path("state").text);
}

/* -- what is stored ---------------------------------------------------------------------------- */

#define CUSTOMER "customer%u@example.com"

static void put_all_counts(struct store *s) {
	struct store_count *counts = calloc(LIMITS, sizeof(*counts));
	char *names = calloc(LIMITS, 32);
	size_t used = 0;

	for (uint32_t i = 0; i < LIMITS; i++) {
		counts[i] = (struct store_count){i, i + 1, i, used};
		used += (size_t)sprintf(names + used, CUSTOMER, i) + 1;
	}
	ck_assert_int_eq(put_counts(s, counts, LIMITS, names), 0);
}

/* Names with every `step`-th number from `from` to `to` - 1. */
struct bulk {
	const char *format;
	uint32_t from, to, step;
	bool delete;
};

/* Puts or deletes the limits in one transaction, as an import does. */
static void put_many(struct store *s, struct bulk b) {
	struct store_limit *limits = calloc(b.to, sizeof(*limits));
	char(*names)[64] = calloc(b.to, sizeof(*names));
	size_t count = 0;

	for (uint32_t i = b.from; i < b.to; i += b.step, count++) {
		(void)snprintf(names[count], sizeof(*names), b.format, i);
		limits[count] = (struct store_limit){names[count], b.delete ? STORE_DELETE : i};
	}
	ck_assert_int_eq(put(s, limits, count), 0);
	free(names);
	free(limits);
}

/* Makes an import and sets some limits. The older of the last two transactions has the number 4. If
 * one more bit is set in this number, it is 6, and this transaction seems to be the newer one. */
static void fill_fresh(struct store *s) {
	put_many(s, (struct bulk){CUSTOMER, 0, 60, 1});
	ck_assert_int_eq(put_one(s, "first", 1), 0);
	ck_assert_int_eq(put_one(s, "first", 2), 0);
}

/* Leaves several pages of limits and of counts. Some of these pages were used twice, and some are
 * free. */
static void fill_history(struct store *s) {
	char name[32];

	put_many(s, (struct bulk){CUSTOMER, 0, LIMITS, 1});
	for (uint32_t i = 0; i < LIMITS; i += 3) {
		(void)snprintf(name, sizeof(name), CUSTOMER, i);
		ck_assert_int_eq(put_one(s, name, i % 2 ? STORE_DELETE : i + 1), 0);
	}
	put_many(s, (struct bulk){CUSTOMER, 90, 250, 1, true});
	put_many(s, (struct bulk){CUSTOMER, 200, 230, 2});
	put_all_counts(s);
}

#define LONG_NAME "a-customer-with-a-long-name-%06u@example.com"

/* Leaves so many free pages that their list fills pages of its own, and a tree of three levels. */
static void fill_large(struct store *s) {
	put_many(s, (struct bulk){LONG_NAME, 0, 30000, 1});
	put_many(s, (struct bulk){LONG_NAME, 500, 29000, 1, true});
}

static void store_fill(void (*fill)(struct store *s)) {
	struct store *s = store_open();

	fill(s);
	ck_assert_int_eq(put_one(s, "last", 1), 0);
	store_free(s);
}

/* -- one damage -------------------------------------------------------------------------------- */

static char *content;
static size_t content_size;
static char *expected; /* what was stored last */

/* The path of the file that is damaged: `which` is "limits" or "counts". */
static struct dir_path data_path(const char *which) {
	struct dir_path p;

	(void)snprintf(p.text, sizeof(p.text), "%s/%s/data.mdb", state, which);
	return p;
}

/* True if the limit or counts were stored at some time. Customer N had the limits N and N + 1. */
static bool was_acknowledged(const char *entry) {
	unsigned customer, limit, peak, denied;

	if (sscanf(entry, CUSTOMER "=%u/%u/%u", &customer, &limit, &peak, &denied) == 4)
		return limit == customer && peak == customer + 1 && denied == customer;
	if (sscanf(entry, CUSTOMER "=%u", &customer, &limit) == 2 ||
		sscanf(entry, LONG_NAME "=%u", &customer, &limit) == 2)
		return limit == customer || limit == customer + 1;
	return strncmp(entry, "first=1 ", 8) == 0 || strncmp(entry, "first=2 ", 8) == 0 ||
	       strncmp(entry, "last=1 ", 7) == 0;
}

static enum outcome judge(const struct text *t) {
	if (strcmp(t->text, expected) == 0)
		return RIGHT;
	for (const char *entry = t->text; *entry; entry = strchr(entry, ' ') + 1)
		if (!was_acknowledged(entry))
			return WRONG;
	return OLDER;
}

/* True if the log of the process that opens the damaged store says what is damaged. */
static bool log_names_the_damage(void) {
	FILE *f = fopen(dir_path("log").text, "re");
	char line[4096] = "";

	while (f && fgets(line, sizeof(line), f) && !strstr(line, "is damaged"))
		;
	if (f)
		(void)fclose(f);
	return strstr(line, data_path("limits").text) && strstr(line, "--restore") &&
	       (strstr(line, "after the entry '") || strstr(line, "damaged, in "));
}

/* Opens the store and reads the limits, as a starting berthd does. */
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
		return BROKEN; /* berthd must start in spite of damaged counts */
	if (store_read_counts(s, SIZE_MAX, count_print, &t) < 0)
		return BROKEN;
	store_free(s);
	return t.used == 0 ? REFUSED : judge(&t);
}

/* Runs the function in a child, since it may crash or hang. */
static enum outcome look(enum outcome (*looks)(void)) {
	int status = 0;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)!freopen(dir_path("log").text, "w", stderr);
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

/* How a byte is changed: all of its bits are set, all are cleared, or one of the 8 is flipped. */
#define PATTERNS 10

static char changed(char byte, unsigned pattern) {
	return (char)(pattern == 0 ? 0xFF : pattern == 1 ? 0 : byte ^ (1 << (pattern - 2)));
}

static void change_try(
	const char *which, size_t at, unsigned pattern, enum outcome (*looks)(void)) {
	char before = content[at];
	enum outcome found;
	char text[200];

	content[at] = changed(before, pattern);
	if (content[at] == before)
		return;
	file_write(data_path(which).text, content, content_size);
	found = look(looks);
	seen[found]++;
	tried++;
	if (found > OLDER) {
		(void)snprintf(text, sizeof(text), "%s: byte %zu of page %zu, %02x for %02x: %s",
			which, at % PAGE, at / PAGE, (unsigned char)content[at],
			(unsigned char)before,
			found == BROKEN ? "it breaks" : "a wrong value is served");
		if (!getenv("SHOW"))
			ck_abort_msg("%s", text);
		puts(text);
	}
	content[at] = before;
	(void)snprintf(text, sizeof(text), "%s/%s/lock.mdb", state, which);
	(void)unlink(text);
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

/* Changes bytes of the meta pages: all bytes that LMDB uses there. In a sample, changes only the
 * trees' roots and the transactions' numbers. */
static void metas_try(const char *which, enum outcome (*looks)(void)) {
	for (size_t at = 0; at < METAS * PAGE; at += PAGE) {
		range_try(which, at + (is_all() ? 0 : 80), at + 88, looks);
		range_try(which, at + (is_all() ? 88 : 128), at + (is_all() ? 272 : 152), looks);
	}
}

/* Changes every byte in four ways: all bits are set, all are cleared, the lowest bit is flipped, or
 * the highest bit is flipped. */
static void all_try(const char *which, const char *what, enum outcome (*looks)(void)) {
	static const unsigned patterns[] = {0, 1, 2, PATTERNS - 1};

	content = file_read(data_path(which).text, &content_size);
	metas_try(which, looks);
	for (size_t at = 0; at < content_size; at++)
		for (size_t i = 0; i < ELEMENTS(patterns); i++)
			change_try(which, at, patterns[i], looks);
	report(what, which);
	free(content);
}

static void sample_try(
	const char *which, const char *what, int sample, enum outcome (*looks)(void)) {
	content = file_read(data_path(which).text, &content_size);
	metas_try(which, looks);
	for (int i = 0; i < sample; i++) {
		size_t page = random_below((uint32_t)(content_size / PAGE));
		/* Most places are in the pages' headers. */
		size_t at = page * PAGE + random_below(random_below(3) ? 16 : PAGE);

		change_try(which, at, random_below(PATTERNS), looks);
	}
	report(what, which);
	free(content);
}

/* Under slow tools, $SCALE makes the sample smaller. */
static int sample(void) {
	const char *scale = getenv("SCALE");

	return scale && atoi(scale) > 0 ? SAMPLE / atoi(scale) : SAMPLE;
}

static void limits_fill(void (*fill)(struct store *s)) {
	store_fill(fill);
	expected = strdup(limits_stored());
}

/* Tries every place if $FAULTS is "all", otherwise a sample. */
static void limits_try(void (*fill)(struct store *s), const char *what) {
	limits_fill(fill);
	if (is_all())
		all_try("limits", what, limits_look);
	else
		sample_try("limits", what, sample(), limits_look);
}

START_TEST(fresh_limits_with_a_changed_byte_are_refused_or_right) {
	limits_try(fill_fresh, "a changed byte in a fresh file");
}
END_TEST

START_TEST(limits_with_a_history_and_a_changed_byte_are_refused_or_right) {
	limits_try(fill_history, "a changed byte in one with a history");
}
END_TEST

START_TEST(many_limits_with_a_changed_byte_are_refused_or_right) {
	limits_fill(fill_large);
	sample_try("limits", "a changed byte in a large one", is_all() ? 40 * SAMPLE : sample() / 4,
		limits_look);
}
END_TEST

/* The page size is in bytes 40 to 43 of each meta page. */
START_TEST(limits_with_an_impossible_page_size_are_refused) {
	limits_fill(fill_fresh);
	content = file_read(data_path("limits").text, &content_size);
	for (size_t at = 40; at < 44; at++)
		for (unsigned pattern = 0; pattern < PATTERNS; pattern++)
			change_try("limits", at, pattern, limits_look);
	report("a changed page size", "limits");
	free(content);
}
END_TEST

START_TEST(counts_with_a_changed_byte_are_begun_afresh_or_right) {
	store_fill(fill_history);
	expected = strdup(counts_stored());
	sample_try("counts", "a changed byte", is_all() ? 100 * SAMPLE : sample(), counts_look);
}
END_TEST

static void cut_try(size_t size) {
	enum outcome found;

	file_write(data_path("limits").text, content, size);
	found = look(limits_look);
	ck_assert_msg(found <= OLDER, "cut to %zu bytes: %d", size, (int)found);
	seen[found]++;
	tried++;
}

/* Cuts the file at each page boundary, near the boundary, and in the middle of the page. */
static void cuts_try(void (*fill)(struct store *s), const char *what) {
	static const int beside[] = {-1, 0, 1, 16, 100, 511, 512, 2048};

	limits_fill(fill);
	content = file_read(data_path("limits").text, &content_size);
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
		{limits_with_an_impossible_page_size_are_refused},
		{counts_with_a_changed_byte_are_begun_afresh_or_right},
		{fresh_limits_that_were_cut_short_are_refused_or_right},
		{limits_with_a_history_that_were_cut_short_are_refused_or_right},
		{NULL},
	};

	return run_suites({"store damage", tests, .setup = setup, .teardown = dir_remove});
}
