/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Helpers of the integration tests: a berthd for each test (`here`), checks (`expect_…`) whose
 * messages show the input, and child processes that exchange numbers with the test.
 *
 * All functions are static in this header, since a test program consists of one file and the
 * harness.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "random.h"
#include "run.h"
#include "berth.h"

#define COUNT_OF(a)   (sizeof(a) / sizeof((a)[0]))
#define UNUSED        __attribute__((unused))
#define CHILD_WAIT_MS 60000

/* The instance of the test that runs. */
static struct instance here;

/* If the environment variable has a positive number, returns this number, else `otherwise`. */
UNUSED static size_t environment_number(const char *name, size_t otherwise) {
	const char *text = getenv(name);
	size_t n = text ? strtoul(text, NULL, 10) : 0;

	return n > 0 ? n : otherwise;
}

/* -- expectations ------------------------------------------------------------------------------ */

#define expect_code(want, call) expect_code_of(__FILE__, __LINE__, #call, (want), (call), "")
/* Like expect_code, with a text that names the input. */
#define expect_code_for(text, want, call) \
	expect_code_of(__FILE__, __LINE__, #call, (want), (call), (text))

static inline void expect_code_of(
	const char *file, int line, const char *call, int want, int got, const char *text) {
	if (got == want)
		return;
	ck_abort_msg("%s:%d: %s%s%s is %d (%s), not %d (%s)\nberthd's log:\n%s", file, line, call,
		*text ? " for " : "", text, got, berth_errname(got), want, berth_errname(want),
		instance_log(&here));
}

/* Runs berthctl. It must exit with `want`, and its output must contain `text`. */
#define expect_ctl(want, text, ...) \
	expect_ctl_of(__FILE__, __LINE__, (want), (text), __VA_ARGS__, NULL)

static const char *expect_ctl_of(const char *file, int line, int want, const char *text, ...)
	__attribute__((sentinel, unused));

static const char *expect_ctl_of(const char *file, int line, int want, const char *text, ...) {
	const char *a[10] = {NULL}, *output;
	char all[2048] = "";
	va_list args;
	int got;

	va_start(args, text);
	for (size_t i = 0; i < COUNT_OF(a) && (a[i] = va_arg(args, const char *)); i++)
		(void)snprintf(all + strlen(all), sizeof(all) - strlen(all), " '%s'", a[i]);
	va_end(args);
	ck_assert_msg(!a[9], "too many arguments");
	got = ctl(&output, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], NULL);
	if (got != want || !strstr(output, text))
		ck_abort_msg("%s:%d: berthctl%s exits with %d (wanted %d) and prints (wanted '%s' "
			     "in it):\n%s\nberthd's log:\n%s",
			file, line, all, got, want, text, output, instance_log(&here));
	return output;
}

#define set_limit(account, limit) ((void)expect_ctl(0, "", "set", (account), (limit)))

UNUSED static struct berth *open_session(void) {
	struct berth *b = NULL;

	expect_code(BERTH_SUCCESS, berth_open(NULL, &b));
	return b;
}

UNUSED static berth_slot acquire_slot(struct berth *b, const char *account) {
	berth_slot slot = 0;

	expect_code_for(account, BERTH_SUCCESS, berth_acquire(b, account, &slot));
	return slot;
}

/* These functions are for handles with a short timeout: if the machine is busy, berthd may answer
 * too late. They try again until berthd answers in time. If all tries fail, they return
 * BERTH_CONNECTION_REFUSED. */
#define RETRIES 300

UNUSED static int open_retrying(const struct berth_options *options, struct berth **ret) {
	int code = BERTH_CONNECTION_REFUSED;

	for (int i = 0; i < RETRIES && code == BERTH_CONNECTION_REFUSED; i++)
		code = berth_open_options(options, ret);
	return code;
}

UNUSED static int acquire_retrying(struct berth *b, const char *account, berth_slot *slot) {
	int code = BERTH_CONNECTION_REFUSED;

	for (int i = 0; i < RETRIES && code == BERTH_CONNECTION_REFUSED; i++)
		code = berth_acquire(b, account, slot);
	return code;
}

UNUSED static int acquire_weight(
	struct berth *b, const char *account, uint32_t weight, berth_slot *slot) {
	struct berth_request req = {.size = sizeof(req), .account = account, .weight = weight};

	return berth_acquire_req(b, &req, slot);
}

UNUSED static struct berth_usage usage_of(struct berth *b, const char *account) {
	struct berth_usage usage = {.size = sizeof(usage)};

	expect_code_for(account, BERTH_SUCCESS, berth_query(b, account, &usage));
	return usage;
}

/* Returns the number after "key": in JSON that berthctl printed. */
UNUSED static long long json_number_in(const char *json, const char *key) {
	char quoted[64];
	const char *at;

	(void)snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(json, quoted);
	ck_assert_msg(at, "no %s in: %s", quoted, json);
	return atoll(at + strlen(quoted));
}

/* Returns the number after "key": that berthctl prints for an account. */
UNUSED static long long account_number(const char *account, const char *key) {
	return json_number_in(expect_ctl(0, "", "get", account, "--json"), key);
}

/* Returns the account's count, which berthctl gets from berthd. So the test needs no session. */
UNUSED static long long current_of(const char *account) {
	return account_number(account, "current");
}

UNUSED static long long status_number(const char *key) {
	return json_number_in(expect_ctl(0, "", "status", "--json"), key);
}

/* A number of an account, or of berthd's status, that is expected to become `number`. */
struct awaited {
	long long (*read)(const char *key);
	const char *key;
	long long number;
};

UNUSED static bool awaited_is_there(void *data) {
	const struct awaited *a = data;

	return a->read(a->key) == a->number;
}

UNUSED static void expect_eventually_of(const char *file, int line, struct awaited a) {
	if (!eventually(awaited_is_there, &a))
		ck_abort_msg("%s:%d: %s is at %lld, not %lld\nberthd's log:\n%s", file, line, a.key,
			a.read(a.key), a.number, instance_log(&here));
}

#define expect_current_eventually(account, count) \
	expect_eventually_of(__FILE__, __LINE__, (struct awaited){current_of, (account), (count)})

/* For numbers that change later. For example, berth_close() sends a goodbye, and the session ends a
 * moment later, when berthd has read the goodbye. */
#define expect_status_eventually(key, number) \
	expect_eventually_of(__FILE__, __LINE__, (struct awaited){status_number, (key), (number)})

/* Copies the time of the last checkpoint from berthd's status, as text. */
UNUSED static void checkpoint_time(char to[64]) {
	const char *at = strstr(expect_ctl(0, "", "status", "--json"), "\"checkpointed\":");

	(void)snprintf(to, 64, "%.38s", at);
}

/* True if berthd has taken a checkpoint since checkpoint_time() copied the time to `data`. */
UNUSED static bool is_checkpointed_since(void *data) {
	char now[64];

	checkpoint_time(now);
	return strcmp(now, data) != 0 && !strstr(now, "null");
}

/* Opens a file of the runtime directory. */
UNUSED static int shared_open(const char *name, int flags) {
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%.80s/%s", here.runtime_dir, name);
	fd = open(path, flags | O_CLOEXEC);
	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

#define expect_logged(text)                                                                   \
	ck_assert_msg(strstr(instance_log(&here), (text)), "'%s' isn't in berthd's log:\n%s", \
		(text), instance_log(&here))

/* Returns how often berthd's log has the text. */
UNUSED static int logged_times(const char *text) {
	int n = 0;

	for (const char *p = instance_log(&here); (p = strstr(p, text)); p += strlen(text))
		n++;
	return n;
}

/* For eventually(): true if berthd's log has the text `data`. */
UNUSED static bool is_logged(void *data) {
	return logged_times(data) > 0;
}

static bool process_has_ended(void *data) {
	siginfo_t info = {0};

	return waitid(P_PID, (id_t) * (pid_t *)data, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid != 0;
}

/* Waits for a berthd that ends by itself. Returns its exit status. */
UNUSED static int instance_exit_status(struct instance *i) {
	int status = 0;

	ck_assert_msg(eventually(process_has_ended, &i->berthd), "berthd goes on; its log:\n%s",
		instance_log(i));
	(void)waitpid(i->berthd, &status, 0);
	i->berthd = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Starts a berthd that must refuse to start. Returns its exit status. */
UNUSED static int start_refused(struct instance *i) {
	(void)instance_spawn(i);
	return instance_exit_status(i);
}

/* -- children ---------------------------------------------------------------------------------- */

/* A process that the test starts (the child). It dies if the test ends. The test and the child send
 * each other numbers through two pipes. */
struct child {
	pid_t pid;
	int tell, hear; /* the ends of the pipes that the process writes to and reads from */
};

typedef void (*child_main)(struct child *c, void *data);

UNUSED static void child_send(const struct child *c, int number) {
	if (write(c->tell, &number, sizeof(number)) != (ssize_t)sizeof(number))
		_exit(99);
}

/* The child calls this to wait for a number. If the test ends instead, the child exits. */
UNUSED static int child_receive(const struct child *c) {
	int number;

	if (read(c->hear, &number, sizeof(number)) != (ssize_t)sizeof(number))
		_exit(98);
	return number;
}

UNUSED static struct child child_start(child_main run, void *data) {
	struct child c, inside;
	int up[2], down[2];
	pid_t parent = getpid();

	ck_assert_int_eq(pipe2(up, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(down, O_CLOEXEC), 0);
	(void)fflush(NULL);
	c.pid = fork();
	ck_assert_int_ge(c.pid, 0);
	if (c.pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(97);
		/* Check's handlers would end the test together with the child. */
		(void)signal(SIGTERM, SIG_DFL);
		(void)signal(SIGINT, SIG_DFL);
		(void)close(up[0]);
		(void)close(down[1]);
		inside = (struct child){0, up[1], down[0]};
		run(&inside, data);
		_exit(0);
	}
	(void)close(up[1]);
	(void)close(down[0]);
	c.tell = down[1];
	c.hear = up[0];
	return c;
}

/* The test calls this to wait for the child's next number. */
UNUSED static int child_report(const struct child *c) {
	struct pollfd p = {.fd = c->hear, .events = POLLIN};
	int number = -1, n;

	do
		n = poll(&p, 1, CHILD_WAIT_MS);
	while (n < 0 && errno == EINTR);
	ck_assert_msg(n > 0, "the child sent no number within %d s; berthd's log:\n%s",
		CHILD_WAIT_MS / 1000, instance_log(&here));
	n = (int)read(c->hear, &number, sizeof(number));
	ck_assert_msg(n == (int)sizeof(number), "the child ended early; berthd's log:\n%s",
		instance_log(&here));
	return number;
}

/* Waits until the child has ended. Returns its wait status. */
UNUSED static int child_end(struct child *c) {
	int status;

	(void)close(c->tell);
	while (waitpid(c->pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
	(void)close(c->hear);
	return status;
}

UNUSED static void child_kill(struct child *c) {
	(void)kill(c->pid, SIGKILL);
	(void)child_end(c);
}

/* Acquires a slot of the account `data`, sends the code, and holds the slot until it receives a
 * number. */
UNUSED static void child_hold_one(struct child *c, void *data) {
	struct berth *b = NULL;
	berth_slot slot = 0;
	int code = berth_open(NULL, &b);

	if (code == BERTH_SUCCESS)
		code = berth_acquire(b, data, &slot);
	child_send(c, code);
	(void)child_receive(c);
	(void)berth_release(b, slot);
	berth_close(b);
}

/* -- time -------------------------------------------------------------------------------------- */

UNUSED static int64_t now_us(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* -- running ----------------------------------------------------------------------------------- */

UNUSED static void here_start(void) {
	instance_start(&here, NULL);
}

/* A test sets this if it overwrites counts, which berthd then has to repair. */
UNUSED static bool repairs_are_expected;

/* berthd soon repairs a wrong count, which would hide the error that made the count wrong. So the
 * test fails if berthd's log tells of a repair. */
UNUSED static void here_end(void) {
	const char *found = strstr(instance_log(&here), "differed from the held slots");
	char repair[512];

	(void)snprintf(repair, sizeof(repair), "%s", found ?: "");
	instance_end(&here);
	ck_assert_msg(repairs_are_expected || !*repair,
		"berthd had something to repair: shared counts %s", repair);
}

/* If tests run under a slow tool, $SCALE is the factor by which they do less and wait longer. */
static int scale_factor(void) {
	return (int)environment_number("SCALE", 1);
}

UNUSED static int scale_count(int n) {
	return n / scale_factor();
}

UNUSED static int scale_timeout(int ms) {
	return ms * scale_factor();
}

/* Like run_suites (run.h), but messages may be long enough for berthd's whole log. At each
 * assertion Check moves a buffer of the size that is set here. Unit tests make many assertions, so
 * they use run_suites. */
#define run_berthd_suites(...) (check_set_max_msg_size(1 << 20), run_suites(__VA_ARGS__))
