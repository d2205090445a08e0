/* SPDX-License-Identifier: MIT */

/* Tests real faults, without injection: a full file system, a read-only one, and little address
 * space. The mounts are in a mount namespace of the test's own. */

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "steps.h"

/* Makes a namespace whose mounts vanish when the test ends. If the test may not make a namespace,
 * returns false. Then such errors are tested only by test-faults-admin.c and test-faults-start.c,
 * which inject them. */
static bool unshare_mounts(void) {
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return true;
	printf("not allowed to mount: %s\n", strerror(errno));
	return false;
}

/* Fills the disk with a file. Returns its path. */
static const char *fill_disk(void) {
	static char path[128];
	char block[4096] = {1};
	int fd;

	(void)snprintf(path, sizeof(path), "%s/filler", here.state_dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	ck_assert_int_eq(errno, ENOSPC);
	(void)close(fd);
	return path;
}

START_TEST(on_a_full_disk_a_set_gets_8_and_slots_are_served) {
	const char *filler, *output;
	char *name;
	struct berth *b;
	int stored = 0, r;

	if (!unshare_mounts())
		return;
	(void)instance_kill(&here, SIGTERM);
	ck_assert_int_eq(mount("berth-test", here.state_dir, "tmpfs", 0, "size=512k"), 0);
	instance_restart(&here);
	set_limit("alice", "3");
	b = open_session();
	filler = fill_disk();
	do {
		name = text_of("n%0200d", stored);
		r = ctl(&output, "set", name, "7", NULL);
		stored += r == 0;
	} while (r == 0 && stored < 10000);
	ck_assert_msg(
		r == 1 && strstr(output, "No space left") && strstr(output, "(8)"), "%s", output);
	expect_logged("make room on that file system");
	expect_ctl(1, "(8)", "set", name, "7");
	/* Slots don't need the disk. */
	(void)acquire_slot(b, "alice");
	ck_assert_int_eq(current_of("alice"), 1);
	restart_after(SIGKILL);
	ck_assert_int_eq(status_number("configured"), stored + 1);
	ck_assert_int_eq(current_of("alice"), 1);
	expect_ctl(1, "(8)", "set", name, "7");
	ck_assert_int_eq(unlink(filler), 0);
	set_limit(name, "7");
	berth_close(b);
	(void)instance_kill(&here, SIGTERM);
	(void)umount2(here.state_dir, MNT_DETACH);
}
END_TEST

static void set_read_only(const char *dir, bool on) {
	ck_assert_int_eq(
		mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | (on ? MS_RDONLY : 0), NULL), 0);
}

/* If one of the two directories is read-only, berthd logs the directory's name and the reason. It
 * starts once the directory is writable again. */
START_TEST(a_read_only_directory_is_named_in_the_log) {
	const char *const dirs[] = {here.state_dir, here.runtime_dir};

	if (!unshare_mounts())
		return;
	set_limit("alice", "3");
	for (size_t i = 0; i < COUNT_OF(dirs); i++) {
		(void)instance_kill(&here, SIGTERM);
		ck_assert_int_eq(mount(dirs[i], dirs[i], NULL, MS_BIND, NULL), 0);
		set_read_only(dirs[i], true);
		ck_assert_int_eq(start_refused(&here), 1);
		expect_logged("Read-only file system");
		expect_logged(dirs[i]);
		set_read_only(dirs[i], false);
		instance_restart(&here);
		ck_assert_int_eq(account_number("alice", "limit"), 3);
	}
}
END_TEST

/* With each size berthd either serves or logs that it has no memory. */
START_TEST(with_little_address_space_berthd_serves_or_logs_the_error) {
	struct rlimit was, little;
	int served = 0, refused = 0, status;

	(void)instance_kill(&here, SIGTERM);
	ck_assert_int_eq(getrlimit(RLIMIT_AS, &was), 0);
	for (rlim_t size = 64; size <= 1024; size *= 2) {
		little = (struct rlimit){size << 20, was.rlim_max};
		ck_assert_int_eq(setrlimit(RLIMIT_AS, &little), 0);
		(void)instance_spawn(&here);
		ck_assert_int_eq(setrlimit(RLIMIT_AS, &was), 0);
		if (ctl(NULL, "status", NULL) == 0) {
			served++;
			set_limit("alice", "3");
			(void)instance_kill(&here, SIGKILL);
			continue;
		}
		refused++;
		status = berthd_exit_status();
		ck_assert_msg(status == 1, "%d with %d MiB", status, (int)size);
		expect_logged("Cannot allocate memory");
	}
	printf("served with %d sizes, refused with %d\n", served, refused);
	ck_assert_int_gt(served, 0);
	ck_assert_int_gt(refused, 0);
	instance_restart(&here);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{on_a_full_disk_a_set_gets_8_and_slots_are_served},
		{a_read_only_directory_is_named_in_the_log},
		{with_little_address_space_berthd_serves_or_logs_the_error},
		{NULL},
	};

	return run_berthd_suites(
		{"faults of the disk", tests, .setup = here_start, .teardown = here_end});
}
