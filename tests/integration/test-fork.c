/* SPDX-License-Identifier: MIT */

/* Tests programs that fork, exec, start threads, close the library's descriptors, or unload it. */

#include <dlfcn.h>
#include <pthread.h>
#include <sys/resource.h>

#include "steps.h"

/* The parent's handle, and a slot that the parent holds. A forked child inherits both. */
struct inherited {
	struct berth *b;
	berth_slot slot;
};

/* The functions for run_forked return the number of the step that failed. If no step failed, they
 * return 0. */

/* -- fork -------------------------------------------------------------------------------------- */

static int child_uses_handle(void *data) {
	const struct inherited *i = data;
	struct berth *b = i->b;
	berth_slot mine;

	if (berth_release(b, i->slot) != BERTH_TOO_MANY_POSTS)
		return 1;
	if (berth_acquire(b, "alice", &mine) != BERTH_SUCCESS)
		return 2;
	if (berth_release(b, i->slot) != BERTH_TOO_MANY_POSTS)
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

static struct inherited inherited_make(void) {
	struct berth *b = open_session();

	set_limit("alice", "2");
	return (struct inherited){b, acquire_slot(b, "alice")};
}

START_TEST(a_forked_child_has_its_own_slots_and_none_of_its_parent) {
	struct inherited i = inherited_make();

	for (int round = 0; round < 5; round++) {
		ck_assert_int_eq(run_forked(child_uses_handle, &i), 0);
		ck_assert_uint_eq(usage_of(i.b, "alice").current, 1);
	}
	expect_code(BERTH_SUCCESS, berth_release(i.b, i.slot));
	ck_assert_uint_eq(usage_of(i.b, "alice").current, 0);
	expect_status_eventually("sessions", 1);
	berth_close(i.b);
}
END_TEST

static int child_closes_handle(void *data) {
	berth_close(((struct inherited *)data)->b);
	return 0;
}

static int child_does_nothing(void *data) {
	(void)data;
	return 0;
}

START_TEST(a_child_that_closes_the_handle_or_exits_releases_no_slot_of_its_parent) {
	struct inherited i = inherited_make();

	ck_assert_int_eq(run_forked(child_closes_handle, &i), 0);
	ck_assert_int_eq(run_forked(child_does_nothing, &i), 0);
	/* The session still has its socket, and uses it to ask berthd for another account. */
	set_limit("bob", "1");
	(void)acquire_slot(i.b, "bob");
	expect_status_eventually("sessions", 1);
	expect_code(BERTH_SUCCESS, berth_release(i.b, i.slot));
	berth_close(i.b);
}
END_TEST

static void child_holds_by_inheritance(struct child *c, void *data) {
	struct inherited *i = data;
	berth_slot slot;

	child_send(c, berth_acquire(i->b, "alice", &slot));
	(void)child_receive(c);
}

START_TEST(the_slot_of_a_forked_child_is_freed_when_the_child_dies) {
	struct inherited i = inherited_make();
	struct child c = child_start(child_holds_by_inheritance, &i);

	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_uint_eq(usage_of(i.b, "alice").current, 2);
	expect_status_eventually("sessions", 2);
	child_kill(&c);
	expect_current_eventually("alice", 1);
	expect_code(BERTH_SUCCESS, berth_release(i.b, i.slot));
	berth_close(i.b);
}
END_TEST

/* In a child that is forked by the system call, the C library runs no fork handler. */
START_TEST(a_child_forked_by_the_bare_system_call_is_noticed_too) {
	struct inherited i = inherited_make();
	pid_t pid;
	int status;

	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(child_uses_handle(&i));
	(void)waitpid(pid, &status, 0);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(usage_of(i.b, "alice").current, 1);
	expect_code(BERTH_SUCCESS, berth_release(i.b, i.slot));
	berth_close(i.b);
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

/* "shared" has a limit of THREADS / 2, so that acquires are often denied. */
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

/* Starts threads that run thread_main, and waits for them. */
static void threads_run(struct threads *t, int count) {
	pthread_t thread[THREADS];

	for (int i = 0; i < count; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, thread_main, t), 0);
	for (int i = 0; i < count; i++)
		(void)pthread_join(thread[i], NULL);
}

START_TEST(threads_that_share_a_handle_keep_to_the_limit) {
	struct threads t = {.b = open_session(), .rounds = 20000};

	set_limits("shared 4", "shared/below 4");
	threads_run(&t, THREADS);
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

START_TEST(forks_in_one_thread_while_others_acquire_do_no_harm) {
	struct threads t = {.b = open_session(), .rounds = 50000};
	pthread_t forker;

	set_limits("shared 4", "shared/below 4", "open unlimited");
	ck_assert_int_eq(pthread_create(&forker, NULL, thread_forks, &t), 0);
	threads_run(&t, 4);
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
	child_send(c, berth_acquire(b, "alice", &slot));
	(void)child_receive(c);
	(void)dup2(c->hear, STDIN_FILENO);
	(void)execlp("cat", "cat", NULL);
	_exit(1);
}

START_TEST(exec_frees_the_slots_although_the_process_lives) {
	struct child c;

	set_limit("alice", "2");
	c = child_start(child_holds_then_execs_cat, NULL);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("alice"), 1);
	child_send(&c, 0);
	expect_current_eventually("alice", 0);
	ck_assert_int_eq(kill(c.pid, 0), 0);
	ck_assert_int_eq(waitpid(c.pid, NULL, WNOHANG), 0);
	child_kill(&c);
}
END_TEST

/* The child's own child keeps the socket open, so berthd sees neither a hang-up nor a death when
 * the child execs. berthd learns of the exec when the new program opens a session. */
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
	child_send(c, 0);
	(void)child_receive(c);
	(void)dup2(c->hear, STDIN_FILENO);
	(void)execl((const char *)data, "berthctl", "run", "--label", "new image", "alice", "--",
		"cat", NULL);
	_exit(1);
}

static bool new_image_holds(void *data) {
	const char *output;

	(void)data;
	return ctl(&output, "holders", "alice", "--json", NULL) == 0 && strstr(output, "new image");
}

START_TEST(the_session_of_a_new_image_ends_the_session_of_the_old_one) {
	struct child c;

	set_limit("alice", "1");
	c = child_start(child_execs_while_another_keeps_the_socket,
		(void *)program_path("BERTHCTL", "berthctl"));
	ck_assert_int_eq(child_report(&c), 0);
	ck_assert_int_eq(current_of("alice"), 1);
	child_send(&c, 0);
	ck_assert(eventually(new_image_holds, NULL));
	ck_assert_int_eq(current_of("alice"), 1);
	/* The session of the old program has ended, although the process lives. */
	ck_assert_int_eq(status_number("sessions"), 1);
	child_kill(&c);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- descriptors ------------------------------------------------------------------------------- */

/* Opens a session while descriptors 0 to *data are closed. */
static int open_without_standard_descriptors(void *data) {
	int last = *(int *)data;
	struct berth *b = NULL;

	for (int fd = 0; fd <= last; fd++)
		(void)close(fd);
	if (berth_open(NULL, &b) != BERTH_SUCCESS)
		return 50;
	for (int fd = 0; fd <= last; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			return 51;
	berth_close(b);
	return 0;
}

START_TEST(the_library_uses_no_descriptor_below_3) {
	for (int last = 0; last < 3; last++) {
		int step = run_forked(open_without_standard_descriptors, &last);

		ck_assert_msg(step == 0, "without descriptors 0 to %d: step %d", last, step);
	}
}
END_TEST

START_TEST(descriptors_are_closed_on_exec_and_by_close) {
	bool was_open[256];
	struct berth *b;
	int ours = 0;

	for (int fd = 0; fd < 256; fd++)
		was_open[fd] = fcntl(fd, F_GETFD) >= 0;
	b = open_session();
	for (int fd = 0; fd < 256; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (was_open[fd] || flags < 0)
			continue;
		ours++;
		ck_assert_msg(flags & FD_CLOEXEC, "descriptor %d isn't CLOEXEC", fd);
	}
	ck_assert_int_eq(ours, 3);
	berth_close(b);
	for (int fd = 0; fd < 256; fd++)
		ck_assert_msg(
			was_open[fd] == (fcntl(fd, F_GETFD) >= 0), "descriptor %d leaked", fd);
}
END_TEST

static void child_closes_from_3(struct child *c, void *data) {
	struct berth *b = NULL;
	berth_slot old, more;
	int tell = fcntl(c->tell, F_DUPFD, 900), hear = fcntl(c->hear, F_DUPFD, 900);
	struct child far = {0, tell, hear};

	(void)data;
	(void)berth_open(NULL, &b);
	child_send(&far, berth_acquire(b, "alice", &old));
	(void)child_receive(&far);
	(void)close_range(3, 899, 0);
	child_send(&far, 0);
	(void)child_receive(&far); /* waits until berthd has ended the session */
	child_send(&far, berth_acquire(b, "alice", &more));
	child_send(&far, berth_release(b, old));
	child_send(&far, berth_release(b, old));
	child_send(&far, berth_release(b, more));
	child_send(&far, berth_acquire(b, "bob", &more));
	(void)child_receive(&far);
	berth_close(b);
	child_send(&far, 0);
	(void)child_receive(&far);
}

START_TEST(after_closefrom_old_slots_are_revoked_and_new_slots_can_be_acquired) {
	struct child c;

	set_limits("alice 1", "bob 1");
	c = child_start(child_closes_from_3, NULL);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("alice"), 1);
	child_send(&c, 0);
	ck_assert_int_eq(child_report(&c), 0);
	expect_current_eventually("alice", 0);
	child_send(&c, 0);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(child_report(&c), BERTH_CONNECTION_ABORTED);
	ck_assert_int_eq(child_report(&c), BERTH_TOO_MANY_POSTS);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("bob"), 1);
	child_send(&c, 0);
	ck_assert_int_eq(child_report(&c), 0);
	ck_assert_int_eq(current_of("bob"), 0);
	child_kill(&c);
}
END_TEST

/* Acquires after a closefrom, perhaps before berthd has noticed that the socket is closed. */
static int acquire_after_closefrom(void *data) {
	struct berth *b = NULL;
	berth_slot slot[8];

	(void)data;
	(void)berth_open(NULL, &b);
	(void)berth_acquire(b, "alice", &slot[0]);
	(void)close_range(3, ~0U, 0);
	for (int k = 1; k < 8; k++)
		if (berth_acquire(b, "alice", &slot[k]) != BERTH_SUCCESS)
			return k;
	for (int k = 0; k < 8; k++) {
		int code = berth_release(b, slot[k]);

		if (code != BERTH_SUCCESS && code != BERTH_CONNECTION_ABORTED)
			return 20 + k;
	}
	berth_close(b);
	return 0;
}

/* Calls `run` `rounds` times, each time in a forked process. */
static void expect_forked_success(int (*run)(void *data), int rounds) {
	for (int i = 0; i < rounds; i++) {
		int step = run_forked(run, NULL);

		ck_assert_msg(step == 0, "round %d: step %d", i, step);
	}
}

START_TEST(acquiring_at_once_after_closefrom_leaves_no_count_behind) {
	set_limit("alice", "1000");
	expect_forked_success(acquire_after_closefrom, 50);
	expect_current_eventually("alice", 0);
}
END_TEST

#define PAIRS 20

/* The application closes all descriptors, and opens sockets, which get the same numbers. If the
 * library uses one of these sockets, the other end of the socket shows this. */
static int application_reuses_numbers(void *data) {
	struct berth *b = NULL;
	int mine[PAIRS], theirs[PAIRS];
	berth_slot slot, more;
	char byte;

	(void)data;
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

static int open_descriptors(void) {
	int n = 0;

	for (int fd = 3; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Closes the files of two handles. Then one handle opens its files again, and they get the numbers
 * that the files of the other handle had. */
static int handles_share_numbers(void *data) {
	struct berth *one = NULL, *other = NULL;
	berth_slot slot[4];
	int before;

	(void)data;
	(void)close_range(3, ~0U, 0); /* so that the handles get the numbers from 3 on */
	if (berth_open(NULL, &other) != BERTH_SUCCESS || berth_open(NULL, &one) != BERTH_SUCCESS ||
		berth_acquire(one, "alice", &slot[0]) != BERTH_SUCCESS ||
		berth_acquire(other, "alice", &slot[1]) != BERTH_SUCCESS)
		return 1;
	(void)close_range(3, ~0U, 0);
	/* The name is new, so the handle must ask berthd, and connects again. */
	if (berth_acquire(one, "stranger", &slot[2]) != BERTH_SUCCESS)
		return 2;
	before = open_descriptors();
	berth_close(other);
	if (open_descriptors() != before)
		return 3;
	if (berth_release(one, slot[2]) != BERTH_SUCCESS)
		return 4;
	berth_close(one);
	return open_descriptors() == 0 ? 0 : 5;
}

START_TEST(after_closefrom_a_handle_leaves_the_descriptors_of_another_alone) {
	set_limits("alice 10", "* 10");
	expect_forked_success(handles_share_numbers, 1);
	expect_current_eventually("alice", 0);
	expect_current_eventually("stranger", 0);
}
END_TEST

START_TEST(the_library_leaves_descriptors_alone_that_the_application_has_reused) {
	set_limits("alice 10", "bob 10");
	expect_forked_success(application_reuses_numbers, 20);
	expect_current_eventually("alice", 0);
	expect_current_eventually("bob", 0);
}
END_TEST

START_TEST(a_process_without_free_descriptors_gets_8_and_can_open_later) {
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
			(void)acquire_slot(b, "alice");
			berth_close(b);
			b = NULL;
		}
	}
	b = open_session();
	(void)acquire_slot(b, "alice");
	berth_close(b);
}
END_TEST

/* -- dlopen ------------------------------------------------------------------------------------ */

/* If a copy of the library is loaded with RTLD_DEEPBIND, it prefers its own symbols to those of
 * this program. Programs that load modules may use this flag. Sanitizers refuse the flag, since the
 * copy would bypass their functions. The copy would also bypass the functions of
 * valgrind/pidfd.c. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PREFER_ITS_OWN 0
#else
#define PREFER_ITS_OWN (getenv("PIDFD_SERVER") ? 0 : RTLD_DEEPBIND)
#endif

static bool is_mapped(const char *path) {
	char line[4096];
	bool found = false;
	FILE *f = fopen("/proc/self/maps", "re");

	while (fgets(line, sizeof(line), f))
		found = found || strstr(line, path);
	(void)fclose(f);
	return found;
}

struct library_copy {
	const char *path;
	void *library;
	int (*open)(const char *, struct berth **);
	int (*acquire)(struct berth *, const char *, berth_slot *);
	int (*release)(struct berth *, berth_slot);
	void (*close)(struct berth *);
};

/* Loads a copy of the library. If it loaded the library itself, dlopen would find the library with
 * which this program is linked. */
static struct library_copy library_copy_load(int flags) {
	struct library_copy c = {.path = text_of("%s/copy.so", here.dir)};

	ck_assert_int_eq(
		system(text_of("cp '%s' '%s'", program_path(NULL, "libberth.so"), c.path)), 0);
	c.library = dlopen(c.path, RTLD_NOW | RTLD_LOCAL | flags);
	ck_assert_msg(c.library, "%s", dlerror());
	*(void **)&c.open = dlsym(c.library, "berth_open");
	*(void **)&c.acquire = dlsym(c.library, "berth_acquire");
	*(void **)&c.release = dlsym(c.library, "berth_release");
	*(void **)&c.close = dlsym(c.library, "berth_close");
	ck_assert_ptr_ne((void *)c.open, (void *)berth_open);
	return c;
}

/* Forks, which calls the library's fork handlers. */
static void expect_fork_works(void) {
	ck_assert_int_eq(run_forked(child_does_nothing, NULL), 0);
}

START_TEST(a_module_that_is_unloaded_leaves_a_library_that_works) {
	struct library_copy c = library_copy_load(PREFER_ITS_OWN);
	struct berth *b = NULL;
	berth_slot slot;

	set_limit("alice", "1");
	expect_code(BERTH_SUCCESS, c.open(NULL, &b));
	expect_code(BERTH_SUCCESS, c.acquire(b, "alice", &slot));
	ck_assert_int_eq(dlclose(c.library), 0);
	ck_assert_msg(is_mapped(c.path), "%s is unmapped", c.path);
	expect_fork_works();
	expect_code(BERTH_SUCCESS, c.release(b, slot));
	c.close(b);
	expect_fork_works();
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

/* A server is linked with libberth and loads a module, of PAM for example, that has another
 * libberth. The functions of one library must not call those of the other. */
START_TEST(two_copies_of_the_library_in_one_process_stay_apart) {
	struct library_copy c = library_copy_load(0);
	struct berth *b = NULL, *own;
	berth_slot slot;

	set_limit("alice", "2");
	expect_code(BERTH_SUCCESS, c.open(NULL, &b));
	own = open_session();
	expect_code(BERTH_SUCCESS, c.acquire(b, "alice", &slot));
	(void)acquire_slot(own, "alice");
	c.close(b);
	expect_fork_works();
	ck_assert_uint_eq(usage_of(own, "alice").current, 1);
	berth_close(own);
	expect_fork_works();
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test tests[] = {
		{a_forked_child_has_its_own_slots_and_none_of_its_parent},
		{a_child_that_closes_the_handle_or_exits_releases_no_slot_of_its_parent},
		{the_slot_of_a_forked_child_is_freed_when_the_child_dies},
		{a_child_forked_by_the_bare_system_call_is_noticed_too},
		{threads_that_share_a_handle_keep_to_the_limit},
		{forks_in_one_thread_while_others_acquire_do_no_harm},
		{exec_frees_the_slots_although_the_process_lives},
		{the_session_of_a_new_image_ends_the_session_of_the_old_one},
		{the_library_uses_no_descriptor_below_3},
		{descriptors_are_closed_on_exec_and_by_close},
		{after_closefrom_old_slots_are_revoked_and_new_slots_can_be_acquired},
		{acquiring_at_once_after_closefrom_leaves_no_count_behind},
		{after_closefrom_a_handle_leaves_the_descriptors_of_another_alone},
		{the_library_leaves_descriptors_alone_that_the_application_has_reused},
		{a_process_without_free_descriptors_gets_8_and_can_open_later},
		{a_module_that_is_unloaded_leaves_a_library_that_works},
		{two_copies_of_the_library_in_one_process_stay_apart},
		{NULL},
	};

	return run_berthd_suites({"fork, exec, descriptors, threads", tests, .setup = here_start,
		.teardown = here_end});
}
