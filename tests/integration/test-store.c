/* SPDX-License-Identifier: MIT */

/* What outlives what: limits everything, counts and peaks a reboot. */

#include <dirent.h>
#include <lmdb.h>
#include <sys/mman.h>

#include "suite.h"

/* -- acknowledged limits ----------------------------------------------------------------------- */

struct setter {
	const char *account;
	int from;
	_Atomic bool *stop;
};

/* Sets limit after limit until berthctl fails, or it is to stop; reports each that was
 * acknowledged. */
static void child_set(struct child *c, void *data) {
	const struct setter *s = data;
	char limit[16];

	for (int n = s->from; !*s->stop; n++) {
		const char *said;

		(void)snprintf(limit, sizeof(limit), "%d", n);
		if (ctl(&said, "set", s->account, limit, NULL) != 0)
			break;
		child_send(c, n);
	}
	child_send(c, -1);
	_exit(0);
}

/* The last limit that was acknowledged. */
static int last_acknowledged(const struct child *c, int before) {
	int n;

	while ((n = child_report(c)) >= 0)
		before = n;
	return before;
}

START_TEST(an_acknowledged_limit_is_there_after_sigkill_of_berthd) {
	static const char *const accounts[] = {"alice", "acme/bob", "*@example.com"};
	int acknowledged[COUNT_OF(accounts)] = {0};
	_Atomic bool *stop =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	random_init();
	for (int round = 0; round < 60; round++) {
		struct setter s[COUNT_OF(accounts)];
		struct child c[COUNT_OF(accounts)];

		*stop = false;
		for (size_t i = 0; i < COUNT_OF(accounts); i++) {
			s[i] = (struct setter){accounts[i], acknowledged[i] + 1, stop};
			c[i] = child_start(child_set, &s[i]);
		}
		(void)usleep(random_below(20000));
		(void)instance_kill(&here, SIGKILL);
		*stop = true;
		instance_restart(&here);
		for (size_t i = 0; i < COUNT_OF(accounts); i++) {
			acknowledged[i] = last_acknowledged(&c[i], acknowledged[i]);
			(void)child_end(&c[i]);
		}
		for (size_t i = 0; i < COUNT_OF(accounts); i++) {
			const char *said;
			long long now = 0;

			if (ctl(&said, "get", accounts[i], "--json", NULL) == 0)
				now = json_number_in(said, "limit");
			/* One that was on its way may have been stored unanswered. */
			ck_assert_msg(now == acknowledged[i] || now == acknowledged[i] + 1,
				"round %d: %s has %lld, but %d was acknowledged", round,
				accounts[i], now, acknowledged[i]);
			acknowledged[i] = (int)now;
		}
	}
	printf("%d, %d and %d limits were set in 60 lives of berthd\n", acknowledged[0],
		acknowledged[1], acknowledged[2]);
	ck_assert_int_gt(acknowledged[0], 0);
}
END_TEST

START_TEST(a_deleted_limit_stays_deleted) {
	set_limit("alice", "5");
	set_limit("*x", "5");
	expect_ctl(0, "", "delete", "alice");
	expect_ctl(0, "", "delete", "*x");
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	expect_ctl(1, "no account", "get", "alice");
	expect_ctl(0, "{\"accounts\":[]}", "list", "--json");
}
END_TEST

/* -- import ------------------------------------------------------------------------------------ */

static const char *file_path(const char *name) {
	static char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", here.dir, name);
	return path;
}

static const char *file_write(const char *name, const char *text) {
	FILE *f = fopen(file_path(name), "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	return file_path(name);
}

START_TEST(an_import_with_a_bad_line_changes_nothing_and_names_each_line) {
	const char *said;

	set_limit("alice", "5");
	said = expect_ctl(1, ":2: ", "import",
		file_write("limits", "alice 7\nbob x\nfine 3\na//b 4\nmore 9\nalice 8\n"));
	ck_assert_msg(
		strstr(said, ":4: ") && strstr(said, ":6: ") && !strstr(said, ":3: "), "%s", said);
	ck_assert_ptr_nonnull(strstr(said, "nothing was imported"));
	ck_assert_int_eq(json_number_in(expect_ctl(0, "", "get", "alice", "--json"), "limit"), 5);
	expect_ctl(1, "", "get", "fine");
	ck_assert_int_eq(status_number("configured"), 1);
}
END_TEST

START_TEST(an_import_is_in_force_when_it_returns) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("alice", "5");
	set_limit("kept", "3");
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "imported 4 limits", "import",
		file_write("limits",
			"# a comment\n\nalice 1\nacme/bob unlimited\r\n*@example.com 2\n"
			"two words  0\n"));
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	(void)acquire_slot(b, "acme/bob");
	(void)acquire_slot(b, "x@example.com");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "two words", &slot));
	ck_assert_uint_eq(usage_of(b, "kept").limit, 3);
	berth_close(b);
}
END_TEST

#define LINES 20000

static void lines_write_many(int count, int limit) {
	FILE *f = fopen(file_path("lines"), "we");

	for (int i = 0; i < count; i++)
		fprintf(f, "customer%d@example.com %d\n", i, limit);
	ck_assert_int_eq(fclose(f), 0);
}

static void lines_write(int limit) {
	lines_write_many(scale_count(LINES), limit);
}

static void child_import(struct child *c, void *data) {
	(void)data;
	child_send(c, ctl(NULL, "import", file_path("lines"), NULL));
	_exit(0);
}

/* How many accounts have the limit. */
static int accounts_with_limit(int limit) {
	char end[32];
	int n = 0;
	const char *said = expect_ctl(0, "", "export");

	(void)snprintf(end, sizeof(end), " %d\n", limit);
	for (const char *p = said; (p = strstr(p, end)); p += strlen(end))
		n++;
	return n;
}

START_TEST(an_import_that_berthd_dies_in_is_done_whole_or_not_at_all) {
	int before = 0, done = 0, unanswered = 0;
	int64_t begin, takes;

	random_init();
	lines_write(1);
	begin = now_us();
	expect_ctl(0, "imported", "import", file_path("lines"));
	takes = now_us() - begin;
	before = 1;
	for (int round = 2; round < 17; round++) {
		struct child c;
		int status, with_old, with_new;

		lines_write(round);
		c = child_start(child_import, NULL);
		(void)usleep(random_below((uint32_t)takes * 5 / 4));
		(void)instance_kill(&here, SIGKILL);
		instance_restart(&here);
		status = child_report(&c);
		(void)child_end(&c);
		with_new = accounts_with_limit(round);
		with_old = accounts_with_limit(before);
		ck_assert_msg(with_new == scale_count(LINES) ||
				      (with_new == 0 && with_old == scale_count(LINES)),
			"round %d: %d new, %d old", round, with_new, with_old);
		ck_assert_msg(status != 0 || with_new == scale_count(LINES),
			"round %d: it was acknowledged and isn't there", round);
		done += with_new == scale_count(LINES);
		unanswered += with_new == scale_count(LINES) && status != 0;
		before = with_new == scale_count(LINES) ? round : before;
	}
	printf("of 15 interrupted imports %d were done, %d of them unanswered\n", done, unanswered);
}
END_TEST

static bool a_set_is_refused(void *data) {
	return ctl(data, "set", "alice", "5", NULL) != 0;
}

START_TEST(limits_that_were_moved_away_are_8_and_found_when_they_are_back) {
	char path[128], away[128];
	const char *said;

	(void)snprintf(path, sizeof(path), "%s/limits", here.state_dir);
	(void)snprintf(away, sizeof(away), "%s/away", here.state_dir);
	lines_write_many(LINES, 1);
	expect_ctl(0, "imported", "import", file_path("lines"));
	ck_assert_int_eq(rename(path, away), 0);
	/* Once it has come to rest after so many, berthd opens them again. */
	ck_assert(eventually(a_set_is_refused, &said));
	ck_assert_msg(strstr(said, "No such file") && strstr(said, "(8)"), "%s", said);
	expect_ctl(0, "", "get", "customer1@example.com");
	ck_assert_int_eq(rename(away, path), 0);
	expect_ctl(0, "", "set", "alice", "6");
	ck_assert_int_eq(status_number("configured"), LINES + 1);
	expect_logged("put it back");
}
END_TEST

/* -- export ------------------------------------------------------------------------------------ */

START_TEST(what_is_exported_can_be_imported_and_is_the_same_again) {
	static const char *const names[] = {"alice", "#comment", " blanks ", "two words",
		"J\xC3\xBCrgen", "acme/\xE6\x97\xA5", "*@example.com", "a?c", "5", "quote'\"\\",
		"-"};
	char *first;

	for (size_t i = 0; i < COUNT_OF(names); i++)
		expect_ctl(0, "", "set", "--", names[i], i % 3 ? "17" : "unlimited");
	first = strdup(expect_ctl(0, "alice", "export"));
	for (size_t i = 0; i < COUNT_OF(names); i++)
		expect_ctl(0, "", "delete", "--", names[i]);
	ck_assert_int_eq(accounts_with_limit(17), 0);
	expect_ctl(0, "imported 11", "import", file_write("exported", first));
	ck_assert_str_eq(expect_ctl(0, "", "export"), first);
	free(first);
}
END_TEST

START_TEST(limits_that_come_from_templates_are_not_exported) {
	struct berth *b = open_session();

	set_limit("*", "4");
	(void)acquire_slot(b, "alice");
	ck_assert_ptr_null(strstr(expect_ctl(0, "* 4", "export"), "alice"));
	berth_close(b);
}
END_TEST

/* -- a million --------------------------------------------------------------------------------- */

#define MILLION 1000000

START_TEST(a_million_lines_are_imported_and_there_after_a_restart) {
	FILE *f = fopen(file_path("million"), "we");
	const int lines = scale_count(MILLION);
	char last[32], says[64];
	int64_t begin;
	const char *said;

	for (int i = 0; i < lines; i++)
		fprintf(f, "customer%07d@example.com %d\n", i, i % 1000);
	ck_assert_int_eq(fclose(f), 0);
	begin = now_us();
	(void)snprintf(says, sizeof(says), "imported %d limits", lines);
	expect_ctl(0, says, "import", file_path("million"));
	printf("%d lines were imported in %.1f s", lines, (double)(now_us() - begin) / 1e6);
	(void)instance_kill(&here, SIGKILL);
	begin = now_us();
	instance_restart(&here);
	printf("; berthd started with them in %.1f s", (double)(now_us() - begin) / 1e6);
	ck_assert_int_eq(status_number("configured"), lines);
	(void)snprintf(last, sizeof(last), "customer%07d@example.com", lines - 1);
	said = expect_ctl(0, "", "get", last, "--json");
	ck_assert_int_eq(json_number_in(said, "limit"), 999);
	begin = now_us();
	(void)snprintf(says, sizeof(says), "\n%s 999\n", last);
	(void)expect_ctl(0, says, "export");
	printf(" and exported them in %.1f s\n", (double)(now_us() - begin) / 1e6);
	(void)instance_kill(&here, SIGTERM);
}
END_TEST

/* -- counts ------------------------------------------------------------------------------------ */

struct count {
	uint32_t count, peak;
	uint64_t denied;
};

/* As a stopped berthd left it; false if there is none. */
static bool stored_count(const char *account, struct count *ret) {
	MDB_val key = {strlen(account), (char *)account}, value;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	char path[128];
	bool found;

	(void)snprintf(path, sizeof(path), "%s/counts", here.state_dir);
	ck_assert_int_eq(mdb_env_create(&env), 0);
	ck_assert_int_eq(mdb_env_set_maxdbs(env, 4), 0);
	ck_assert_int_eq(mdb_env_open(env, path, MDB_RDONLY, 0600), 0);
	ck_assert_int_eq(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
	ck_assert_int_eq(mdb_dbi_open(txn, "counts", 0, &dbi), 0);
	found = mdb_get(txn, dbi, &key, &value) == 0;
	if (found) {
		ck_assert_uint_eq(value.mv_size, sizeof(*ret) + sizeof(uint64_t)); /* and a sum */
		memcpy(ret, value.mv_data, sizeof(*ret));
	}
	mdb_txn_abort(txn);
	mdb_env_close(env);
	return found;
}

static bool is_checkpointed_since(void *data) {
	char now[64];
	const char *at = strstr(expect_ctl(0, "", "status", "--json"), "\"checkpointed\":");

	(void)snprintf(now, sizeof(now), "%.38s", at);
	return strcmp(now, data) != 0 && !strstr(now, "null");
}

static void checkpoint_note(char to[64]) {
	const char *at = strstr(expect_ctl(0, "", "status", "--json"), "\"checkpointed\":");

	(void)snprintf(to, 64, "%.38s", at);
}

START_TEST(counts_are_stored_within_seconds_of_a_change) {
	struct berth *b = open_session();
	struct count count = {0};
	char before[64];
	berth_slot slot;

	checkpoint_note(before);
	set_limit("acme/alice", "3");
	for (int i = 0; i < 3; i++)
		slot = acquire_slot(b, "acme/alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "acme/alice", &(berth_slot){0}));
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert(eventually(is_checkpointed_since, before));
	(void)instance_kill(&here, SIGKILL);
	ck_assert(stored_count("acme/alice", &count));
	ck_assert_uint_eq(count.count, 2);
	ck_assert_uint_eq(count.peak, 3);
	ck_assert_uint_eq(count.denied, 1);
	ck_assert(stored_count("acme", &count));
	ck_assert_uint_eq(count.count, 2);
	instance_restart(&here);
	berth_close(b);
}
END_TEST

START_TEST(stopping_stores_the_counts_as_they_are) {
	struct berth *b = open_session();
	struct count count = {0};

	set_limit("alice", "9");
	for (int i = 0; i < 4; i++)
		(void)acquire_slot(b, "alice");
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	ck_assert(stored_count("alice", &count));
	ck_assert_uint_eq(count.count, 4);
	instance_restart(&here);
	berth_close(b);
	(void)instance_kill(&here, SIGTERM);
	ck_assert(stored_count("alice", &count));
	ck_assert_uint_eq(count.count, 0);
	ck_assert_uint_eq(count.peak, 4);
}
END_TEST

/* What a reboot does to the runtime directory. */
static void runtime_dir_empty(void) {
	DIR *d = opendir(here.runtime_dir);
	struct dirent *e;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			ck_assert_int_eq(unlinkat(dirfd(d), e->d_name, 0), 0);
	(void)closedir(d);
}

START_TEST(peaks_and_denials_outlive_a_reboot_and_counts_dont) {
	struct berth *b = open_session();
	struct berth_usage usage;

	set_limit("alice", "3");
	for (int i = 0; i < 3; i++)
		(void)acquire_slot(b, "alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &(berth_slot){0}));
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	berth_close(b);
	runtime_dir_empty();
	instance_restart(&here);
	b = open_session();
	usage = usage_of(b, "alice");
	ck_assert_uint_eq(usage.current, 0);
	ck_assert_uint_eq(usage.peak, 3);
	ck_assert_uint_eq(usage.denied, 1);
	ck_assert_uint_eq(usage.limit, 3);
	(void)acquire_slot(b, "alice");
	berth_close(b);
}
END_TEST

START_TEST(peaks_outlive_sigkill_and_restart) {
	struct berth *b = open_session();
	char before[64];

	checkpoint_note(before);
	set_limit("alice", "3");
	for (int i = 0; i < 3; i++)
		(void)acquire_slot(b, "alice");
	berth_close(b);
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	b = open_session();
	ck_assert_uint_eq(usage_of(b, "alice").peak, 3);
	berth_close(b);
}
END_TEST

START_TEST(a_damaged_store_of_limits_keeps_berthd_from_starting_and_is_left_alone) {
	char path[128];
	char noise[8192];
	struct stat st;
	int fd;

	set_limit("alice", "3");
	(void)instance_kill(&here, SIGTERM);
	(void)snprintf(path, sizeof(path), "%s/limits/data.mdb", here.state_dir);
	memset(noise, 0x5A, sizeof(noise));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, noise, sizeof(noise), 0), sizeof(noise));
	ck_assert_int_eq(fstat(fd, &st), 0);
	(void)close(fd);
	ck_assert_int_eq(start_refused(&here), 1);
	expect_logged("limits");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(read(fd, noise, 1), 1);
	ck_assert_int_eq(noise[0], 0x5A);
	(void)close(fd);
}
END_TEST

START_TEST(damaged_counts_only_cost_the_history) {
	char path[128];
	char noise[8192];
	int fd;

	set_limit("alice", "3");
	(void)instance_kill(&here, SIGTERM);
	(void)snprintf(path, sizeof(path), "%s/counts/data.mdb", here.state_dir);
	memset(noise, 0x5A, sizeof(noise));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, noise, sizeof(noise), 0), sizeof(noise));
	(void)close(fd);
	instance_restart(&here);
	expect_logged("beginning afresh");
	ck_assert_int_eq(json_number_in(expect_ctl(0, "", "get", "alice", "--json"), "limit"), 3);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const TTest *const tests[] = {
		an_acknowledged_limit_is_there_after_sigkill_of_berthd,
		a_deleted_limit_stays_deleted,
		an_import_with_a_bad_line_changes_nothing_and_names_each_line,
		an_import_is_in_force_when_it_returns,
		an_import_that_berthd_dies_in_is_done_whole_or_not_at_all,
		limits_that_were_moved_away_are_8_and_found_when_they_are_back,
		what_is_exported_can_be_imported_and_is_the_same_again,
		limits_that_come_from_templates_are_not_exported,
		a_million_lines_are_imported_and_there_after_a_restart,
		counts_are_stored_within_seconds_of_a_change,
		stopping_stores_the_counts_as_they_are,
		peaks_and_denials_outlive_a_reboot_and_counts_dont,
		peaks_outlive_sigkill_and_restart,
		a_damaged_store_of_limits_keeps_berthd_from_starting_and_is_left_alone,
		damaged_counts_only_cost_the_history,
		NULL,
	};

	return suite_run("store", here_start, tests);
}
