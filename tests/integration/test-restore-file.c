/* SPDX-License-Identifier: MIT */

/* Tests the export that berthd keeps beside its store, and berthd --restore, which makes a store
 * from an export. */

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "steps.h"

/* -- files ------------------------------------------------------------------------------------- */

static const char *path_of(const char *name) {
	return text_of("%s/%s", here.state_dir, name);
}

/* Returns the content of a file. If the file doesn't exist, returns "". The caller frees the
 * result. */
static char *file_read(const char *path) {
	FILE *f = fopen(path, "re");
	char *text = calloc(1, 1 << 16);

	ck_assert_ptr_nonnull(text);
	if (f)
		(void)!fread(text, 1, (1 << 16) - 1, f);
	if (f)
		(void)fclose(f);
	return text;
}

/* Removes the comments from the text, in place, and returns it. */
static char *without_comments(char *text) {
	char *to = text;

	for (char *line = text, *next; *line; line = next) {
		next = strchr(line, '\n') ? strchr(line, '\n') + 1 : strchr(line, '\0');
		if (*line == '#')
			continue;
		memmove(to, line, (size_t)(next - line));
		to += next - line;
	}
	*to = '\0';
	return text;
}

static bool file_has(const char *path, const char *text) {
	char *content = file_read(path);
	bool has = strstr(content, text);

	free(content);
	return has;
}

static bool export_has(void *data) {
	return file_has(path_of("limits.export"), data);
}

static void expect_exported_eventually(const char *text) {
	ck_assert(eventually(export_has, (void *)(uintptr_t)text));
}

/* -- berthd --restore -------------------------------------------------------------------------- */

static char said[65536]; /* the output of the last command */

/* Starts berthd with the arguments. Its output goes to a file. */
static pid_t command_begin(const char *const args[]) {
	const char *argv[8] = {program_path(NULL, "berthd")};
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		int fd = open(text_of("%s/said", here.dir), O_WRONLY | O_CREAT | O_TRUNC, 0600);

		for (int i = 0; args[i]; i++)
			argv[i + 1] = args[i];
		(void)dup2(fd, STDOUT_FILENO);
		(void)dup2(fd, STDERR_FILENO);
		(void)execv(argv[0], (char **)argv);
		_exit(99);
	}
	return pid;
}

static int command_end(pid_t pid) {
	int status = 0;
	char *text;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	text = file_read(text_of("%s/said", here.dir));
	(void)snprintf(said, sizeof(said), "%s", text);
	free(text);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int berthd(const char *a, const char *b, const char *c) {
	const char *const args[] = {a, b, c, NULL};

	return command_end(command_begin(args));
}

#define expect_said(text) ck_assert_msg(strstr(said, (text)), "'%s' isn't in: %s", (text), said)

static void expect_restored(const char *file, const char *option) {
	ck_assert_msg(berthd("--restore", file, option) == 0, "%s", said);
}

/* berthd must refuse to restore from the file, and must leave the store in its place. */
static void expect_refused(const char *file, const char *text) {
	ck_assert_msg(berthd("--restore", file, NULL) == 1, "%s", said);
	expect_said(text);
	ck_assert_int_eq(names_in(here.state_dir, "limits."),
		1 + (access(path_of("limits.export.1"), F_OK) == 0));
}

static void expect_limits(const char *want) {
	char *now = without_comments(strdup(expect_ctl(0, "", "export")));

	ck_assert_str_eq(now, want);
	free(now);
}

#define LIMITS "\t c \t3\na 1\nb unlimited\n*@example.com 2\n"

static void limits_set(void) {
	set_limits("a 1", "b unlimited", " c  3", "*@example.com 2");
}

/* Sets limits, stops berthd, and copies its export. Returns the path of the copy. */
static const char *export_saved(void) {
	static char path[128];
	char *text;

	limits_set();
	(void)instance_kill(&here, SIGTERM);
	text = file_read(path_of("limits.export"));
	strcpy(path, file_write("saved", text));
	free(text);
	return path;
}

static void store_remove(void) {
	ck_assert_int_eq(unlink(path_of("limits/data.mdb")), 0);
	(void)unlink(path_of("limits/lock.mdb"));
	ck_assert_int_eq(rmdir(path_of("limits")), 0);
}

/* -- the export -------------------------------------------------------------------------------- */

START_TEST(the_export_is_what_berthctl_exports) {
	char *kept;

	limits_set();
	expect_exported_eventually("*@example.com 2\n");
	expect_limits(LIMITS);
	kept = without_comments(file_read(path_of("limits.export")));
	/* The lines are in the order of their bytes. */
	ck_assert_str_eq(kept, "\t c \t3\n*@example.com 2\na 1\nb unlimited\n");
	free(kept);
	expect_ctl(0, "imported 4", "import", path_of("limits.export"));
}
END_TEST

START_TEST(the_export_before_is_kept_and_a_restart_without_a_change_writes_none) {
	char *first, *second;

	set_limit("a", "1");
	expect_exported_eventually("a 1\n");
	set_limit("a", "2");
	expect_exported_eventually("a 2\n");
	ck_assert(file_has(path_of("limits.export.1"), "a 1\n"));
	(void)instance_kill(&here, SIGTERM);
	first = file_read(path_of("limits.export.1"));
	instance_restart(&here);
	(void)instance_kill(&here, SIGTERM);
	second = file_read(path_of("limits.export.1"));
	ck_assert_str_eq(first, second);
	free(first);
	free(second);
}
END_TEST

START_TEST(a_stop_writes_an_export_that_lacks_a_change) {
	set_limit("a", "7");
	(void)instance_kill(&here, SIGTERM);
	ck_assert(export_has((void *)"a 7\n"));
	instance_restart(&here);
	set_limit("a", "8");
	expect_ctl(0, "", "delete", "a");
	(void)instance_kill(&here, SIGTERM);
	ck_assert(!export_has((void *)"\na "));
}
END_TEST

START_TEST(an_export_that_lacks_what_the_store_holds_is_written_after_the_start) {
	set_limit("a", "7");
	(void)instance_kill(&here, SIGKILL);
	ck_assert(!export_has((void *)"a 7\n"));
	instance_restart(&here);
	expect_exported_eventually("a 7\n");
}
END_TEST

/* A directory has the name of the new file, so berthd can't write the file. test-faults-disk.c
 * tests a full disk. */
START_TEST(an_export_that_cannot_be_written_costs_no_change_and_is_logged_once) {
	ck_assert_int_eq(mkdir(path_of("limits.export.new"), 0700), 0);
	set_limit("a", "7");
	ck_assert(eventually(is_logged, (void *)"can't write the export"));
	set_limit("a", "8");
	(void)instance_kill(&here, SIGTERM);
	ck_assert_int_eq(logged_times("can't write the export"), 1);
	ck_assert_int_eq(rmdir(path_of("limits.export.new")), 0);
	instance_restart(&here);
	expect_exported_eventually("a 8\n");
}
END_TEST

/* -- restoring --------------------------------------------------------------------------------- */

START_TEST(an_export_is_restored_where_there_is_no_store) {
	const char *file = export_saved();

	store_remove();
	expect_restored(file, NULL);
	expect_said("Restored 4 limits from ");
	instance_restart(&here);
	expect_limits(LIMITS);
}
END_TEST

START_TEST(berthd_does_not_begin_an_empty_store_beside_an_export) {
	const char *file = export_saved();

	store_remove();
	ck_assert_int_eq(start_refused(&here), 1);
	expect_logged("limits/data.mdb is missing, but there is an export");
	expect_logged("--restore");
	ck_assert_int_ne(access(path_of("limits"), F_OK), 0);
	expect_restored(path_of("limits.export"), NULL);
	instance_restart(&here);
	expect_limits(LIMITS);
	/* If there is no export, berthd begins an empty store. */
	(void)instance_kill(&here, SIGTERM);
	store_remove();
	ck_assert_int_eq(unlink(path_of("limits.export")), 0);
	(void)unlink(path_of("limits.export.1"));
	instance_restart(&here);
	expect_limits("");
	ck_assert_int_eq(access(file, F_OK), 0);
}
END_TEST

START_TEST(a_damaged_store_is_moved_aside) {
	const char *file = export_saved();

	file_damage(path_of("limits/data.mdb"));
	ck_assert_int_eq(start_refused(&here), 1);
	expect_logged("limits/data.mdb is damaged");
	expect_logged("--restore");
	expect_logged(path_of("limits.export"));
	expect_restored(file, NULL);
	expect_said("Moved the damaged store aside, to ");
	ck_assert_int_eq(names_in(here.state_dir, "limits.20"), 1);
	instance_restart(&here);
	expect_limits(LIMITS);
}
END_TEST

START_TEST(a_sound_store_is_moved_aside_only_by_force) {
	const char *file = export_saved();

	instance_restart(&here);
	set_limit("new", "9");
	(void)instance_kill(&here, SIGTERM);
	expect_refused(file, "is sound and has 5 limits");
	instance_restart(&here);
	ck_assert_int_eq(status_number("configured"), 4);
	(void)instance_kill(&here, SIGTERM);
	expect_restored(file, "--force");
	ck_assert_int_eq(names_in(here.state_dir, "limits.20"), 1);
	instance_restart(&here);
	expect_limits(LIMITS);
	(void)instance_kill(&here, SIGTERM);
	/* The second restore may run in the same second as the first. */
	expect_restored(file, "--force");
	ck_assert_int_eq(names_in(here.state_dir, "limits.20"), 2);
}
END_TEST

START_TEST(force_without_restore_is_wrong_usage) {
	ck_assert_int_eq(berthd("--force", NULL, NULL), 2);
	expect_said("--restore");
}
END_TEST

START_TEST(a_berthd_that_runs_keeps_its_store) {
	const char *file = export_saved();

	instance_restart(&here);
	ck_assert_int_eq(berthd("--restore", file, "--force"), 1);
	expect_said("Another berthd uses ");
	set_limit("a", "5");
}
END_TEST

START_TEST(a_file_that_is_no_whole_export_is_refused) {
	const char *file = export_saved();
	char *text = file_read(file), *cut;

	file_damage(path_of("limits/data.mdb"));
	expect_refused(path_of("none"), "No such file");
	expect_refused(file_write("bad", ""), "bad:1: the file is empty");
	/* The export is cut off at each small size, and at some larger sizes. */
	for (size_t size = 1; size < strlen(text); size += 1 + size / 7) {
		cut = strndup(text, size);
		expect_refused(file_write("bad", cut), "Nothing was changed");
		free(cut);
	}
	strstr(text, "a 1\n")[2] = '5';
	expect_refused(file_write("bad", text), ":8: the checksum is wrong");
	free(text);
}
END_TEST

/* A program other than berthd could write such an export. */
START_TEST(an_invalid_line_with_a_right_checksum_is_refused_by_its_number) {
	static const char lines[] = "a 1\na//b 2\nc x\n";
	XXH128_hash_t sum = XXH3_128bits(lines, strlen(lines));

	(void)export_saved();
	file_damage(path_of("limits/data.mdb"));
	expect_refused(
		file_write("bad", text_of("%s# end: 3 limits and templates, checksum %016" PRIx64
					  "%016" PRIx64 "\n",
					  lines, sum.high64, sum.low64)),
		"bad:2: ");
	expect_said("bad:3: ");
	expect_said("nothing was changed");
}
END_TEST

/* Kills the command again and again, after a different time in each run. Then berthd must have the
 * old store or the new store. If it has neither, the command must succeed when it is repeated. The
 * old store must still exist, under some name. */
START_TEST(a_kill_at_any_instant_can_be_repaired_by_repeating) {
	const char *file = export_saved();
	const char *const args[] = {"--restore", file, "--force", NULL};
	int done = 0, aside = 0;

	random_init();
	for (int round = 0; round < 40; round++) {
		pid_t pid = command_begin(args);
		int now;

		(void)usleep(random_below(30000));
		(void)kill(pid, SIGKILL);
		done += command_end(pid) == 0;
		now = names_in(here.state_dir, "limits.20");
		ck_assert_int_ge(now, aside);
		aside = now;
		instance_restart(&here);
		expect_limits(LIMITS);
		(void)instance_kill(&here, SIGKILL);
	}
	expect_restored(file, "--force");
	instance_restart(&here);
	expect_limits(LIMITS);
	printf("%d of 40 were done before they were killed\n", done);
}
END_TEST

/* -- another version --------------------------------------------------------------------------- */

/* Makes the file like one of version 0.1.0, which wrote two numbers after each meta page: a
 * checksum of the page and the number of its transaction. */
START_TEST(a_store_with_the_seals_of_release_0_1_0_opens_unchanged) {
	static const unsigned char seal[16] = {0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0, 4};
	unsigned char found[16];
	int fd;

	limits_set();
	(void)instance_kill(&here, SIGTERM);
	fd = open(path_of("limits/data.mdb"), O_RDWR | O_CLOEXEC);
	for (off_t page = 0; page < 2; page++)
		ck_assert_int_eq(
			pwrite(fd, seal, sizeof(seal), page * sysconf(_SC_PAGESIZE) + 256), 16);
	instance_restart(&here);
	expect_limits(LIMITS);
	set_limits("a 1", "a 1");
	for (off_t page = 0; page < 2; page++) {
		ck_assert_int_eq(
			pread(fd, found, sizeof(found), page * sysconf(_SC_PAGESIZE) + 256), 16);
		ck_assert_mem_eq(found, seal, sizeof(seal));
	}
	(void)close(fd);
	restart_after(SIGKILL);
	expect_limits(LIMITS);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test tests[] = {
		{the_export_is_what_berthctl_exports},
		{the_export_before_is_kept_and_a_restart_without_a_change_writes_none},
		{a_stop_writes_an_export_that_lacks_a_change},
		{an_export_that_lacks_what_the_store_holds_is_written_after_the_start},
		{an_export_that_cannot_be_written_costs_no_change_and_is_logged_once},
		{an_export_is_restored_where_there_is_no_store},
		{berthd_does_not_begin_an_empty_store_beside_an_export},
		{a_damaged_store_is_moved_aside},
		{a_sound_store_is_moved_aside_only_by_force},
		{force_without_restore_is_wrong_usage},
		{a_berthd_that_runs_keeps_its_store},
		{a_file_that_is_no_whole_export_is_refused},
		{an_invalid_line_with_a_right_checksum_is_refused_by_its_number},
		{a_kill_at_any_instant_can_be_repaired_by_repeating},
		{a_store_with_the_seals_of_release_0_1_0_opens_unchanged},
		{NULL},
	};

	return run_berthd_suites({"restore", tests, .setup = here_start, .teardown = here_end});
}
