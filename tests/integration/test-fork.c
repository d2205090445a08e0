/* SPDX-License-Identifier: MIT */

/* What programs do to a library that they have loaded: fork, exec, closing descriptors that aren't
 * theirs, threads, dlclose. */

#include <dlfcn.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "suite.h"

/* A child made by fork(3) alone, that goes on with the parent's handle: runs in it, reports what it
 * returns. -1: it died. */
static int in_forked_child(
	int (*run)(struct berth *b, berth_slot slot), struct berth *b, berth_slot slot) {
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(run(b, slot));
	while (waitpid(pid, &status, 0) < 0)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* -- fork -------------------------------------------------------------------------------------- */

/* Steps that fail are reported by their number. */
static int child_uses_handle(struct berth *b, berth_slot parents) {
	berth_slot mine;

	if (berth_release(b, parents) != BERTH_TOO_MANY_POSTS)
		return 1;
	if (berth_acquire(b, "alice", &mine) != BERTH_SUCCESS)
		return 2;
	if (berth_release(b, parents) != BERTH_TOO_MANY_POSTS)
		return 3;
	if (berth_release(b, mine) != BERTH_SUCCESS)
		return 4;
	if (berth_release(b, mine) != BERTH_TOO_MANY_POSTS)
		return 5;
	if (berth_acquire(b, "alice", &mine) != BERTH_SUCCESS)
		return 6;
	berth_close(b);
	return 0;
}

START_TEST(a_child_has_slots_of_its_own_and_none_of_its_parents) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("alice", "2");
	slot = take(b, "alice");
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(in_forked_child(child_uses_handle, b, slot), 0);
		ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	}
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	expect_status_eventually("sessions", 1);
	berth_close(b);
}
END_TEST

static int child_closes_at_once(struct berth *b, berth_slot slot) {
	(void)slot;
	berth_close(b);
	return 0;
}

static int child_does_nothing(struct berth *b, berth_slot slot) {
	(void)b, (void)slot;
	return 0;
}

START_TEST(a_child_that_closes_the_handle_or_exits_releases_nothing_of_its_parents) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("alice", "2");
	slot = take(b, "alice");
	ck_assert_int_eq(in_forked_child(child_closes_at_once, b, slot), 0);
	ck_assert_int_eq(in_forked_child(child_does_nothing, b, slot), 0);
	/* The session still has its socket: an account that it must ask for. */
	set_limit("bob", "1");
	(void)take(b, "bob");
	expect_status_eventually("sessions", 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

struct inherited {
	struct berth *b;
};

static void child_holds_by_inheritance(struct child *c, void *data) {
	struct inherited *i = data;
	berth_slot slot;

	child_say(c, berth_acquire(i->b, "alice", &slot));
	(void)child_listen(c);
}

START_TEST(a_childs_slot_is_the_childs_and_goes_with_it) {
	struct inherited i = {open_session()};
	struct child c;
	berth_slot slot;

	set_limit("alice", "2");
	slot = take(i.b, "alice");
	c = child_start(child_holds_by_inheritance, &i);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_uint_eq(usage_of(i.b, "alice").current, 2);
	expect_status_eventually("sessions", 2);
	child_kill(&c);
	expect_current_eventually("alice", 1);
	expect_code(BERTH_SUCCESS, berth_release(i.b, slot));
	berth_close(i.b);
}
END_TEST

/* The kernel's fork, which no handler of the C library sees. */
START_TEST(a_child_of_the_bare_system_call_is_noticed_too) {
	struct berth *b = open_session();
	berth_slot slot;
	pid_t pid;
	int status;

	set_limit("alice", "2");
	slot = take(b, "alice");
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(child_uses_handle(b, slot));
	(void)waitpid(pid, &status, 0);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

/* -- threads ----------------------------------------------------------------------------------- */

#define THREADS 8

struct threads {
	struct berth *b;
	int rounds;
	_Atomic int held, over, wrong;
	_Atomic bool stop;
};

/* "shared" has a limit of THREADS / 2, so half of them are denied at any time. */
static void *thread_main(void *data) {
	struct threads *t = data;
	berth_slot slot;

	for (int i = 0; i < t->rounds; i++) {
		int code = berth_acquire(t->b, i % 2 ? "shared" : "shared/below", &slot);

		if (code == BERTH_CONNECTION_COUNT_LIMIT)
			continue;
		if (code != BERTH_SUCCESS) {
			t->wrong = code;
			return NULL;
		}
		if (++t->held > THREADS / 2)
			t->over = 1;
		t->held--;
		code = berth_release(t->b, slot);
		if (code != BERTH_SUCCESS)
			t->wrong = code;
	}
	return NULL;
}

START_TEST(threads_share_a_handle_and_no_more_than_the_limit_get_in) {
	struct threads t = {.b = open_session(), .rounds = 20000};
	pthread_t thread[THREADS];

	set_limit("shared", "4");
	set_limit("shared/below", "4");
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, thread_main, &t), 0);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(thread[i], NULL);
	ck_assert_int_eq(t.wrong, 0);
	ck_assert_int_eq(t.over, 0);
	ck_assert_uint_eq(usage_of(t.b, "shared").current, 0);
	ck_assert_uint_eq(usage_of(t.b, "shared/below").current, 0);
	ck_assert_uint_le(usage_of(t.b, "shared").peak, 4);
	berth_close(t.b);
}
END_TEST

static void *thread_forks(void *data) {
	struct threads *t = data;

	while (!t->stop) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			berth_slot slot;

			_exit(berth_acquire(t->b, "open", &slot) == BERTH_SUCCESS ? 0 : 1);
		}
		if (pid > 0 && waitpid(pid, &status, 0) == pid && status != 0)
			t->wrong = 1000 + status;
	}
	return NULL;
}

START_TEST(forks_of_one_thread_while_others_acquire_do_no_harm) {
	struct threads t = {.b = open_session(), .rounds = 50000};
	pthread_t thread[4], forker;

	set_limit("shared", "4");
	set_limit("shared/below", "4");
	set_limit("open", "unlimited");
	ck_assert_int_eq(pthread_create(&forker, NULL, thread_forks, &t), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, thread_main, &t), 0);
	for (int i = 0; i < 4; i++)
		(void)pthread_join(thread[i], NULL);
	t.stop = true;
	(void)pthread_join(forker, NULL);
	ck_assert_int_eq(t.wrong, 0);
	expect_current_eventually("open", 0);
	ck_assert_uint_eq(usage_of(t.b, "shared").current, 0);
	berth_close(t.b);
}
END_TEST

/* -- exec -------------------------------------------------------------------------------------- */

static void child_holds_then_execs_cat(struct child *c, void *data) {
	struct berth *b = NULL;
	berth_slot slot;

	(void)data;
	(void)berth_open(NULL, &b);
	child_say(c, berth_acquire(b, "alice", &slot));
	(void)child_listen(c);
	(void)dup2(c->hear, STDIN_FILENO);
	(void)execlp("cat", "cat", NULL);
	_exit(1);
}

START_TEST(exec_frees_the_slots_though_the_process_lives_on) {
	struct child c;

	set_limit("alice", "2");
	c = child_start(child_holds_then_execs_cat, NULL);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("alice"), 1);
	child_say(&c, 0);
	expect_current_eventually("alice", 0);
	ck_assert_int_eq(kill(c.pid, 0), 0);
	ck_assert_int_eq(waitpid(c.pid, NULL, WNOHANG), 0);
	child_kill(&c);
}
END_TEST

/* A copy of the socket in a process that the library knows nothing of: neither a hang-up nor a death
 * tells berthd of the exec. The new image's own session does. */
static void child_execs_while_another_keeps_the_socket(struct child *c, void *data) {
	struct berth *b = NULL;
	berth_slot slot;

	(void)berth_open(NULL, &b);
	if (berth_acquire(b, "alice", &slot) != BERTH_SUCCESS)
		_exit(1);
	if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(c->hear, STDIN_FILENO);
		for (;;)
			(void)pause();
	}
	child_say(c, 0);
	(void)child_listen(c);
	(void)dup2(c->hear, STDIN_FILENO);
	(void)execl((const char *)data, "berthctl", "run", "--label", "new image", "alice", "--",
		"cat", NULL);
	_exit(1);
}

static bool new_image_holds(void *data) {
	const char *said;

	(void)data;
	return ctl(&said, "holders", "alice", "--json", NULL) == 0 && strstr(said, "new image");
}

START_TEST(the_session_of_a_new_image_ends_that_of_the_old_one) {
	char path[4096], *end;
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 20);
	struct child c;

	ck_assert_int_gt(n, 0);
	path[n] = '\0';
	for (int i = 0; i < 3; i++) {
		end = strrchr(path, '/');
		*end = '\0';
	}
	strcat(path, "/berthctl");
	set_limit("alice", "1");
	c = child_start(child_execs_while_another_keeps_the_socket, path);
	ck_assert_int_eq(child_report(&c), 0);
	ck_assert_int_eq(current_of("alice"), 1);
	child_say(&c, 0);
	ck_assert(eventually(new_image_holds, NULL));
	ck_assert_int_eq(current_of("alice"), 1);
	/* Nothing of the old one waits for the process's death. */
	ck_assert_int_eq(status_number("sessions"), 1);
	child_kill(&c);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- descriptors ------------------------------------------------------------------------------- */

START_TEST(descriptors_are_closed_on_exec_and_none_is_below_3) {
	for (int missing = 0; missing < 3; missing++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			struct berth *b = NULL;

			for (int fd = 0; fd <= missing; fd++)
				(void)close(fd);
			if (berth_open(NULL, &b) != BERTH_SUCCESS)
				_exit(50);
			for (int fd = 0; fd <= missing; fd++)
				if (fcntl(fd, F_GETFD) >= 0)
					_exit(51);
			berth_close(b);
			_exit(0);
		}
		(void)waitpid(pid, &status, 0);
		ck_assert_msg(status == 0, "without descriptors 0 to %d: %d", missing,
			WEXITSTATUS(status));
	}
	{
		bool was[256];
		struct berth *b;
		int ours = 0;

		for (int fd = 0; fd < 256; fd++)
			was[fd] = fcntl(fd, F_GETFD) >= 0;
		b = open_session();
		for (int fd = 0; fd < 256; fd++)
			if (!was[fd] && fcntl(fd, F_GETFD) >= 0) {
				ours++;
				ck_assert_msg(
					fcntl(fd, F_GETFD) & FD_CLOEXEC, "%d isn't CLOEXEC", fd);
			}
		ck_assert_int_eq(ours, 3);
		berth_close(b);
		for (int fd = 0; fd < 256; fd++)
			ck_assert_msg(was[fd] == (fcntl(fd, F_GETFD) >= 0), "%d leaked", fd);
	}
}
END_TEST

static void child_closes_from_3(struct child *c, void *data) {
	struct berth *b = NULL;
	berth_slot old, more;
	int tell = fcntl(c->tell, F_DUPFD, 900), hear = fcntl(c->hear, F_DUPFD, 900);
	struct child far = {0, tell, hear};

	(void)data;
	(void)berth_open(NULL, &b);
	child_say(&far, berth_acquire(b, "alice", &old));
	(void)child_listen(&far);
	(void)close_range(3, 899, 0);
	child_say(&far, 0);
	(void)child_listen(&far); /* until berthd has ended the session */
	child_say(&far, berth_acquire(b, "alice", &more));
	child_say(&far, berth_release(b, old));
	child_say(&far, berth_release(b, old));
	child_say(&far, berth_release(b, more));
	child_say(&far, berth_acquire(b, "bob", &more));
	(void)child_listen(&far);
	berth_close(b);
	child_say(&far, 0);
	(void)child_listen(&far);
}

START_TEST(after_closefrom_old_slots_are_revoked_and_new_ones_can_be_had) {
	struct child c;

	set_limit("alice", "1");
	set_limit("bob", "1");
	c = child_start(child_closes_from_3, NULL);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("alice"), 1);
	child_say(&c, 0);
	ck_assert_int_eq(child_report(&c), 0);
	expect_current_eventually("alice", 0);
	child_say(&c, 0);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(child_report(&c), BERTH_CONNECTION_ABORTED);
	ck_assert_int_eq(child_report(&c), BERTH_TOO_MANY_POSTS);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("bob"), 1);
	child_say(&c, 0);
	ck_assert_int_eq(child_report(&c), 0);
	ck_assert_int_eq(current_of("bob"), 0);
	child_kill(&c);
}
END_TEST

/* Right after closefrom, before berthd can have noticed: whatever the library answers must be one of
 * its codes, and nothing may stay behind. */
START_TEST(acquiring_at_once_after_closefrom_leaves_no_count_behind) {
	set_limit("alice", "1000");
	for (int i = 0; i < 50; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			struct berth *b = NULL;
			berth_slot slot[8];

			(void)berth_open(NULL, &b);
			(void)berth_acquire(b, "alice", &slot[0]);
			(void)close_range(3, ~0U, 0);
			for (int k = 1; k < 8; k++)
				if (berth_acquire(b, "alice", &slot[k]) != BERTH_SUCCESS)
					_exit(k);
			for (int k = 0; k < 8; k++) {
				int code = berth_release(b, slot[k]);

				if (code != BERTH_SUCCESS && code != BERTH_CONNECTION_ABORTED)
					_exit(20 + k);
			}
			berth_close(b);
			_exit(0);
		}
		(void)waitpid(pid, &status, 0);
		ck_assert_msg(status == 0, "round %d: step %d", i, WEXITSTATUS(status));
	}
	expect_current_eventually("alice", 0);
}
END_TEST

#define PAIRS 20

/* The application closes everything and gets the numbers for sockets of its own: whatever the library
 * did to one of them would show at the other end. */
static int app_reuses_numbers(void) {
	struct berth *b = NULL;
	int mine[PAIRS], theirs[PAIRS];
	berth_slot slot, more;
	char byte;

	if (berth_open(NULL, &b) != BERTH_SUCCESS ||
		berth_acquire(b, "alice", &slot) != BERTH_SUCCESS)
		return 1;
	(void)close_range(3, ~0U, 0);
	for (int i = 0; i < PAIRS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
			return 2;
		mine[i] = pair[0];
		theirs[i] = pair[1];
	}
	if (berth_acquire(b, "bob", &more) != BERTH_SUCCESS)
		return 3;
	(void)berth_release(b, slot);
	(void)berth_release(b, more);
	berth_close(b);
	for (int i = 0; i < PAIRS; i++) {
		if (write(mine[i], "x", 1) != 1 || read(theirs[i], &byte, 1) != 1)
			return 4;
		if (write(theirs[i], "x", 1) != 1 || read(mine[i], &byte, 1) != 1)
			return 5;
		if (read(theirs[i], &byte, 1) != -1 || read(mine[i], &byte, 1) != -1)
			return 6;
	}
	return 0;
}

static int descriptors(void) {
	int n = 0;

	for (int fd = 3; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* One handle gets the numbers that the other had for the same files. */
static int handles_share_numbers(void) {
	struct berth *one = NULL, *other = NULL;
	berth_slot slot[4];
	int before;

	(void)close_range(3, ~0U, 0); /* so that the numbers begin anew below */
	if (berth_open(NULL, &other) != BERTH_SUCCESS || berth_open(NULL, &one) != BERTH_SUCCESS ||
		berth_acquire(one, "alice", &slot[0]) != BERTH_SUCCESS ||
		berth_acquire(other, "alice", &slot[1]) != BERTH_SUCCESS)
		return 1;
	(void)close_range(3, ~0U, 0);
	/* A name that it must ask for. */
	if (berth_acquire(one, "stranger", &slot[2]) != BERTH_SUCCESS)
		return 2;
	before = descriptors();
	berth_close(other);
	if (descriptors() != before)
		return 3;
	if (berth_release(one, slot[2]) != BERTH_SUCCESS)
		return 4;
	berth_close(one);
	return descriptors() == 0 ? 0 : 5;
}

START_TEST(after_closefrom_a_handle_leaves_the_numbers_of_another_alone) {
	pid_t pid;
	int status;

	set_limit("alice", "10");
	set_limit("*", "10");
	pid = fork();
	if (pid == 0)
		_exit(handles_share_numbers());
	(void)waitpid(pid, &status, 0);
	ck_assert_msg(status == 0, "step %d", WEXITSTATUS(status));
	expect_current_eventually("alice", 0);
	expect_current_eventually("stranger", 0);
}
END_TEST

START_TEST(a_number_that_the_application_uses_again_is_left_alone) {
	set_limit("alice", "10");
	set_limit("bob", "10");
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(app_reuses_numbers());
		(void)waitpid(pid, &status, 0);
		ck_assert_msg(status == 0, "round %d: step %d", i, WEXITSTATUS(status));
	}
	expect_current_eventually("alice", 0);
	expect_current_eventually("bob", 0);
}
END_TEST

START_TEST(a_process_without_descriptors_left_gets_8_and_goes_on_later) {
	struct rlimit was, none;
	struct berth *b = NULL;

	set_limit("alice", "1");
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	for (rlim_t n = 3; n < 40; n++) {
		int code;

		none = (struct rlimit){n, was.rlim_max};
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
		code = berth_open(NULL, &b);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
		ck_assert_msg(code == BERTH_NO_SYSTEM_RESOURCES || code == BERTH_SUCCESS,
			"with %d descriptors: %d", (int)n, code);
		if (code == BERTH_SUCCESS) {
			(void)take(b, "alice");
			berth_close(b);
			b = NULL;
		}
	}
	b = open_session();
	(void)take(b, "alice");
	berth_close(b);
}
END_TEST

/* -- dlopen ------------------------------------------------------------------------------------ */

/* As a module's loader may: the copy prefers its own symbols to ours. A sanitizer ends a program that
 * asks for that, since its own would be passed by, as would what valgrind needs (pidfd.c). */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PREFER_ITS_OWN 0
#else
#define PREFER_ITS_OWN (getenv("PIDFD_SERVER") ? 0 : RTLD_DEEPBIND)
#endif

/* A copy, so that the library that this program is linked with isn't found in its place. */
static void library_copy(const char *to) {
	char command[4600], path[4096], *end;
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	ck_assert_int_gt(n, 0);
	path[n] = '\0';
	for (int i = 0; i < 3; i++) {
		end = strrchr(path, '/');
		*end = '\0';
	}
	(void)snprintf(command, sizeof(command), "cp '%s/libberth.so' '%s'", path, to);
	ck_assert_int_eq(system(command), 0);
}

static bool is_mapped(const char *path) {
	char line[4096];
	bool found = false;
	FILE *f = fopen("/proc/self/maps", "re");

	while (fgets(line, sizeof(line), f))
		found = found || strstr(line, path);
	(void)fclose(f);
	return found;
}

struct copy {
	void *library;
	int (*open)(const char *, struct berth **);
	int (*acquire)(struct berth *, const char *, berth_slot *);
	int (*release)(struct berth *, berth_slot);
	void (*close)(struct berth *);
};

static struct copy copy_load(const char *path, int flags) {
	struct copy c;

	library_copy(path);
	c.library = dlopen(path, RTLD_NOW | RTLD_LOCAL | flags);
	ck_assert_msg(c.library, "%s", dlerror());
	*(void **)&c.open = dlsym(c.library, "berth_open");
	*(void **)&c.acquire = dlsym(c.library, "berth_acquire");
	*(void **)&c.release = dlsym(c.library, "berth_release");
	*(void **)&c.close = dlsym(c.library, "berth_close");
	ck_assert_ptr_ne((void *)c.open, (void *)berth_open);
	return c;
}

/* Runs the library's handlers of fork. */
static int fork_status(void) {
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(0);
	(void)waitpid(pid, &status, 0);
	return status;
}

START_TEST(a_module_that_is_unloaded_leaves_a_library_that_works) {
	struct berth *b = NULL;
	char path[128];
	berth_slot slot;
	struct copy c;

	set_limit("alice", "1");
	(void)snprintf(path, sizeof(path), "%s/copy.so", here.dir);
	c = copy_load(path, PREFER_ITS_OWN);
	expect_code(BERTH_SUCCESS, c.open(NULL, &b));
	expect_code(BERTH_SUCCESS, c.acquire(b, "alice", &slot));
	ck_assert_int_eq(dlclose(c.library), 0);
	ck_assert_msg(is_mapped(path), "%s is unmapped", path);
	ck_assert_int_eq(fork_status(), 0);
	expect_code(BERTH_SUCCESS, c.release(b, slot));
	c.close(b);
	ck_assert_int_eq(fork_status(), 0);
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

/* A server that is linked with one libberth and loads a module (of PAM, say) that brings another:
 * functions of the one must not call those of the other. */
START_TEST(two_copies_in_one_process_keep_to_themselves) {
	struct berth *b = NULL, *own;
	char path[128];
	berth_slot slot;
	struct copy c;

	set_limit("alice", "2");
	(void)snprintf(path, sizeof(path), "%s/copy.so", here.dir);
	c = copy_load(path, 0);
	expect_code(BERTH_SUCCESS, c.open(NULL, &b));
	own = open_session();
	expect_code(BERTH_SUCCESS, c.acquire(b, "alice", &slot));
	(void)take(own, "alice");
	c.close(b);
	ck_assert_int_eq(fork_status(), 0);
	ck_assert_uint_eq(usage_of(own, "alice").current, 1);
	berth_close(own);
	ck_assert_int_eq(fork_status(), 0);
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const TTest *const tests[] = {
		a_child_has_slots_of_its_own_and_none_of_its_parents,
		a_child_that_closes_the_handle_or_exits_releases_nothing_of_its_parents,
		a_childs_slot_is_the_childs_and_goes_with_it,
		a_child_of_the_bare_system_call_is_noticed_too,
		threads_share_a_handle_and_no_more_than_the_limit_get_in,
		forks_of_one_thread_while_others_acquire_do_no_harm,
		exec_frees_the_slots_though_the_process_lives_on,
		the_session_of_a_new_image_ends_that_of_the_old_one,
		descriptors_are_closed_on_exec_and_none_is_below_3,
		after_closefrom_old_slots_are_revoked_and_new_ones_can_be_had,
		acquiring_at_once_after_closefrom_leaves_no_count_behind,
		after_closefrom_a_handle_leaves_the_numbers_of_another_alone,
		a_number_that_the_application_uses_again_is_left_alone,
		a_process_without_descriptors_left_gets_8_and_goes_on_later,
		a_module_that_is_unloaded_leaves_a_library_that_works,
		two_copies_in_one_process_keep_to_themselves,
		NULL,
	};

	return suite_run("fork, exec, descriptors, threads", here_start, tests);
}
