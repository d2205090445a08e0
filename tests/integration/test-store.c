/* SPDX-License-Identifier: MIT */

/* Tests that limits, peaks and denials survive a kill, a stop and a reboot. */

#include <lmdb.h>

#include "steps.h"

/* -- acknowledged limits ----------------------------------------------------------------------- */

struct setter {
	const char *account;
	int from;
	_Atomic bool *stop;
};

/* Sets one limit after another until berthctl fails or `stop` is set. Sends each acknowledged
 * limit, and -1 at the end. */
static void child_set_limits(struct child *c, void *data) {
	const struct setter *s = data;

	for (int n = s->from; !*s->stop; n++) {
		if (ctl(NULL, "set", s->account, text_of("%d", n), NULL) != 0)
			break;
		child_send(c, n);
	}
	child_send(c, -1);
	_exit(0);
}

/* The account must have the acknowledged limit or the next limit, which berthd may have stored
 * before it could answer. Returns the account's limit. */
static int expect_acknowledged(const char *account, int acknowledged) {
	long long limit = 0;
	const char *output;

	if (ctl(&output, "get", account, "--json", NULL) == 0)
		limit = json_number_in(output, "limit");
	ck_assert_msg(limit == acknowledged || limit == acknowledged + 1,
		"%s has %lld, but %d was acknowledged", account, limit, acknowledged);
	return (int)limit;
}

START_TEST(an_acknowledged_limit_survives_a_kill_of_berthd) {
	static const char *const accounts[] = {"alice", "acme/bob", "*@example.com"};
	int acknowledged[COUNT_OF(accounts)] = {0};
	_Atomic bool *stop = shared_memory(sizeof(*stop));

	random_init();
	for (int round = 0; round < 60; round++) {
		struct setter s[COUNT_OF(accounts)];
		struct child c[COUNT_OF(accounts)];

		*stop = false;
		for (size_t i = 0; i < COUNT_OF(accounts); i++) {
			s[i] = (struct setter){accounts[i], acknowledged[i] + 1, stop};
			c[i] = child_start(child_set_limits, &s[i]);
		}
		(void)usleep(random_below(20000));
		(void)instance_kill(&here, SIGKILL);
		*stop = true;
		instance_restart(&here);
		for (size_t i = 0; i < COUNT_OF(accounts); i++) {
			for (int n; (n = child_report(&c[i])) >= 0;)
				acknowledged[i] = n;
			(void)child_end(&c[i]);
		}
		for (size_t i = 0; i < COUNT_OF(accounts); i++)
			acknowledged[i] = expect_acknowledged(accounts[i], acknowledged[i]);
	}
	printf("%d, %d and %d limits were set; berthd was killed 60 times\n", acknowledged[0],
		acknowledged[1], acknowledged[2]);
	ck_assert_int_gt(acknowledged[0], 0);
}
END_TEST

START_TEST(a_deleted_limit_stays_deleted) {
	set_limits("alice 5", "*x 5");
	expect_ctl(0, "", "delete", "alice");
	expect_ctl(0, "", "delete", "*x");
	restart_after(SIGKILL);
	expect_ctl(1, "no account", "get", "alice");
	expect_ctl(0, "{\"accounts\":[]}", "list", "--json");
}
END_TEST

/* -- import ------------------------------------------------------------------------------------ */

START_TEST(an_import_with_a_bad_line_changes_nothing_and_names_each_line) {
	const char *output;

	set_limit("alice", "5");
	output = expect_ctl(1, ":2: ", "import",
		file_write("limits", "alice 7\nbob x\nfine 3\na//b 4\nmore 9\nalice 8\n"));
	ck_assert_msg(strstr(output, ":4: ") && strstr(output, ":6: ") && !strstr(output, ":3: "),
		"%s", output);
	ck_assert_ptr_nonnull(strstr(output, "nothing was imported"));
	ck_assert_int_eq(account_number("alice", "limit"), 5);
	expect_ctl(1, "", "get", "fine");
	ck_assert_int_eq(status_number("configured"), 1);
}
END_TEST

START_TEST(an_import_is_in_force_when_it_returns) {
	struct berth *b = open_session();

	set_limits("alice 5", "kept 3");
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "imported 4 limits", "import",
		file_write("limits",
			"# a comment\n\nalice 1\nacme/bob unlimited\r\n*@example.com 2\n"
			"two words  0\n"));
	expect_denied(b, "alice");
	(void)acquire_slot(b, "acme/bob");
	(void)acquire_slot(b, "x@example.com");
	expect_denied(b, "two words");
	ck_assert_uint_eq(usage_of(b, "kept").limit, 3);
	berth_close(b);
}
END_TEST

#define LINES 20000

static const char *lines_path(void) {
	return text_of("%s/lines", here.dir);
}

/* Writes a file of `count` lines with the limit. */
static void write_lines(int count, int limit) {
	FILE *f = fopen(lines_path(), "we");

	for (int i = 0; i < count; i++)
		fprintf(f, "customer%d@example.com %d\n", i, limit);
	ck_assert_int_eq(fclose(f), 0);
}

static void child_import(struct child *c, void *data) {
	(void)data;
	child_send(c, ctl(NULL, "import", lines_path(), NULL));
	_exit(0);
}

/* The number of accounts that have the limit. */
static int accounts_with_limit(int limit) {
	const char *p = expect_ctl(0, "", "export"), *end = text_of(" %d\n", limit);
	int n = 0;

	for (; (p = strstr(p, end)); p += strlen(end))
		n++;
	return n;
}

START_TEST(an_import_during_which_berthd_dies_is_complete_or_undone) {
	const int lines = scale_count(LINES);
	int before = 1, done = 0, unanswered = 0;
	int64_t begin, duration;

	random_init();
	write_lines(lines, 1);
	begin = now_us();
	expect_ctl(0, "imported", "import", lines_path());
	duration = now_us() - begin;
	for (int round = 2; round < 17; round++) {
		struct child c;
		int status, with_old, with_new;

		write_lines(lines, round);
		c = child_start(child_import, NULL);
		(void)usleep(random_below((uint32_t)duration * 5 / 4));
		restart_after(SIGKILL);
		status = child_report(&c);
		(void)child_end(&c);
		with_new = accounts_with_limit(round);
		with_old = accounts_with_limit(before);
		ck_assert_msg(with_new == lines || (with_new == 0 && with_old == lines),
			"round %d: %d new, %d old", round, with_new, with_old);
		ck_assert_msg(status != 0 || with_new == lines,
			"round %d: the import was acknowledged, but is not stored", round);
		done += with_new == lines;
		unanswered += with_new == lines && status != 0;
		before = with_new == lines ? round : before;
	}
	printf("of 15 interrupted imports %d were done, %d of them unanswered\n", done, unanswered);
}
END_TEST

static bool set_fails(void *data) {
	return ctl(data, "set", "alice", "5", NULL) != 0;
}

START_TEST(while_the_limits_are_moved_away_a_set_gets_8) {
	char *path = text_of("%s/limits", here.state_dir);
	char *away = text_of("%s/away", here.state_dir);
	const char *output;

	write_lines(LINES, 1);
	expect_ctl(0, "imported", "import", lines_path());
	ck_assert_int_eq(rename(path, away), 0);
	/* After a large import, an idle berthd closes the store, and opens it again for the next
	 * set. */
	ck_assert(eventually(set_fails, &output));
	ck_assert_msg(strstr(output, "No such file") && strstr(output, "(8)"), "%s", output);
	expect_ctl(0, "", "get", "customer1@example.com");
	ck_assert_int_eq(rename(away, path), 0);
	expect_ctl(0, "", "set", "alice", "6");
	ck_assert_int_eq(status_number("configured"), LINES + 1);
	expect_logged("put it back");
}
END_TEST

/* -- export ------------------------------------------------------------------------------------ */

START_TEST(an_export_can_be_imported_and_exports_the_same) {
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

/* -- a large import ---------------------------------------------------------------------------- */

#define MILLION 1000000

START_TEST(a_million_imported_limits_survive_a_restart) {
	const int lines = scale_count(MILLION);
	const char *path = text_of("%s/million", here.dir);
	const char *last = text_of("customer%07d@example.com", lines - 1);
	FILE *f = fopen(path, "we");
	int64_t begin;

	for (int i = 0; i < lines; i++)
		fprintf(f, "customer%07d@example.com %d\n", i, i % 1000);
	ck_assert_int_eq(fclose(f), 0);
	begin = now_us();
	expect_ctl(0, text_of("imported %d limits", lines), "import", path);
	printf("%d lines were imported in %.1f s", lines, (double)(now_us() - begin) / 1e6);
	(void)instance_kill(&here, SIGKILL);
	begin = now_us();
	instance_restart(&here);
	printf("; berthd started with them in %.1f s", (double)(now_us() - begin) / 1e6);
	ck_assert_int_eq(status_number("configured"), lines);
	ck_assert_int_eq(account_number(last, "limit"), 999);
	begin = now_us();
	(void)expect_ctl(0, text_of("\n%s 999\n", last), "export");
	printf(" and exported them in %.1f s\n", (double)(now_us() - begin) / 1e6);
	(void)instance_kill(&here, SIGTERM);
}
END_TEST

/* -- counts ------------------------------------------------------------------------------------ */

struct count {
	uint32_t count, peak;
	uint64_t denied;
};

/* Reads the stored count of an account while no berthd runs. Returns false if no count is
 * stored. */
static bool stored_count(const char *account, struct count *ret) {
	MDB_val key = {strlen(account), (char *)account}, value;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	bool found;

	ck_assert_int_eq(mdb_env_create(&env), 0);
	ck_assert_int_eq(mdb_env_set_maxdbs(env, 4), 0);
	ck_assert_int_eq(
		mdb_env_open(env, text_of("%s/counts", here.state_dir), MDB_RDONLY, 0600), 0);
	ck_assert_int_eq(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
	ck_assert_int_eq(mdb_dbi_open(txn, "counts", 0, &dbi), 0);
	found = mdb_get(txn, dbi, &key, &value) == 0;
	if (found) {
		/* A checksum follows the count. */
		ck_assert_uint_eq(value.mv_size, sizeof(*ret) + sizeof(uint64_t));
		memcpy(ret, value.mv_data, sizeof(*ret));
	}
	mdb_txn_abort(txn);
	mdb_env_close(env);
	return found;
}

START_TEST(counts_are_stored_within_seconds_of_a_change) {
	struct berth *b = open_session();
	struct count count = {0};
	char before[64];
	berth_slot slot;

	checkpoint_time(before);
	set_limit("acme/alice", "3");
	for (int i = 0; i < 3; i++)
		slot = acquire_slot(b, "acme/alice");
	expect_denied(b, "acme/alice");
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

START_TEST(a_stop_stores_the_counts) {
	struct berth *b = open_session();
	struct count count = {0};

	set_limit("alice", "9");
	acquire_slots(b, "alice", 4, NULL);
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

START_TEST(peaks_and_denials_survive_a_reboot_and_counts_do_not) {
	struct berth *b = open_session();
	struct berth_usage usage;

	set_limit("alice", "3");
	acquire_slots(b, "alice", 3, NULL);
	expect_denied(b, "alice");
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	berth_close(b);
	directory_empty(here.runtime_dir); /* as a reboot does */
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

START_TEST(peaks_survive_a_kill_and_a_restart) {
	struct berth *b = open_session();

	set_limit("alice", "3");
	acquire_slots(b, "alice", 3, NULL);
	berth_close(b);
	restart_after(SIGKILL);
	b = open_session();
	ck_assert_uint_eq(usage_of(b, "alice").peak, 3);
	berth_close(b);
}
END_TEST

START_TEST(a_damaged_store_of_limits_keeps_berthd_from_starting_and_is_left_alone) {
	const char *path = text_of("%s/limits/data.mdb", here.state_dir);
	char byte;
	int fd;

	set_limit("alice", "3");
	(void)instance_kill(&here, SIGTERM);
	file_damage(path);
	ck_assert_int_eq(start_refused(&here), 1);
	expect_logged("limits");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(read(fd, &byte, 1), 1);
	ck_assert_int_eq(byte, 0x5A);
	(void)close(fd);
}
END_TEST

START_TEST(damaged_counts_cost_the_history_only) {
	set_limit("alice", "3");
	(void)instance_kill(&here, SIGTERM);
	file_damage(text_of("%s/counts/data.mdb", here.state_dir));
	instance_restart(&here);
	expect_logged("beginning afresh");
	ck_assert_int_eq(account_number("alice", "limit"), 3);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test tests[] = {
		{an_acknowledged_limit_survives_a_kill_of_berthd},
		{a_deleted_limit_stays_deleted},
		{an_import_with_a_bad_line_changes_nothing_and_names_each_line},
		{an_import_is_in_force_when_it_returns},
		{an_import_during_which_berthd_dies_is_complete_or_undone},
		{while_the_limits_are_moved_away_a_set_gets_8},
		{an_export_can_be_imported_and_exports_the_same},
		{limits_that_come_from_templates_are_not_exported},
		{a_million_imported_limits_survive_a_restart},
		{counts_are_stored_within_seconds_of_a_change},
		{a_stop_stores_the_counts},
		{peaks_and_denials_survive_a_reboot_and_counts_do_not},
		{peaks_survive_a_kill_and_a_restart},
		{a_damaged_store_of_limits_keeps_berthd_from_starting_and_is_left_alone},
		{damaged_counts_cost_the_history_only},
		{NULL},
	};

	return run_berthd_suites({"store", tests, .setup = here_start, .teardown = here_end});
}
