/* SPDX-License-Identifier: MIT */

/*
 * A server of the torture test. Its threads share a handle, and use it in every way a program may.
 *
 * Every return code is checked. A release may return BERTH_CONNECTION_ABORTED only if the slot
 * may have been revoked. There are three such cases: a revocation was under way when the slot was
 * acquired, a revocation has begun since, or this process has lost its session by closefrom. In
 * these cases BERTH_TOO_MANY_POSTS is allowed, too (see pool.c).
 */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "berth.h"
#include "torture.h"

#define THREADS_MAX 4
#define HELD_MAX    6

#define TIMEOUT_MS 60000

struct client {
	struct torture *t;
	unsigned place;
	struct berth *b;
	pthread_rwlock_t lock;   /* write-locked while the handle is closed and opened */
	_Atomic uint64_t handle; /* the number of the present handle */
	_Atomic uint32_t closefroms_begun, closefroms_done;
};

struct held {
	berth_slot slot;
	uint64_t handle;
	uint32_t revokes_done; /* before the acquire */
	uint32_t account;
};

struct worker {
	struct client *c;
	uint64_t random;
	uint32_t favourite, phase; /* the phase's account, and its remaining acquires */
	bool is_child;
	pid_t child;
	uint32_t held_count;
	struct held held[HELD_MAX];
};

static void count(_Atomic uint64_t *figure) {
	(void)add_relaxed(figure, 1);
}

/* -- judging ----------------------------------------------------------------------------------- */

static void unexpected(struct worker *w, const char *op, const char *account, int code) {
	torture_fail(w->c->t, "%s %d, %s of '%s': %d (%s), after %u closefroms",
		w->is_child ? "forked child" : "client", (int)getpid(), op, account, code,
		berth_errname(code), load_total(&w->c->closefroms_begun));
}

static bool may_be_revoked(struct worker *w, uint32_t revokes_done) {
	return load_total(&w->c->t->revokes_begun) != revokes_done ||
	       load_total(&w->c->closefroms_begun) != 0;
}

/* True if a closefrom may have closed the library's descriptors during an operation, which may then
 * return any code. `closefroms_done` is the number of closefroms before the operation. */
static bool closefrom_may_interfere(struct client *c, uint32_t closefroms_done) {
	return load_total(&c->closefroms_begun) != closefroms_done;
}

/* The administrator deletes these accounts and sets them again. */
static bool may_be_unknown(uint32_t account) {
	return account >= TORTURE_WATCHED;
}

/* -- acquire, release, query ------------------------------------------------------------------- */

/* Accounts with a low index are used more often. */
static uint32_t any_account(struct worker *w) {
	uint32_t a = torture_below(&w->random, TORTURE_NAMES);
	uint32_t b = torture_below(&w->random, TORTURE_NAMES);

	return MIN_OF(a, b);
}

/* For a phase of 1 to 16384 acquires a thread uses one account, or all accounts. So some cells
 * don't change for a while. These cells keep the tags of records that are used elsewhere, and still
 * have the words that a stopped thread has read. */
static uint32_t pick_account(struct worker *w) {
	if (w->phase == 0) {
		w->phase = 1u << torture_below(&w->random, 15);
		w->favourite = torture_once_in(&w->random, 4) ? TORTURE_NAMES : any_account(w);
	}
	w->phase--;
	return w->favourite < TORTURE_NAMES ? w->favourite : any_account(w);
}

static void do_acquire(struct worker *w, struct berth *b) {
	struct torture *t = w->c->t;
	struct held h = {.account = pick_account(w)};
	uint32_t closing = load_total(&w->c->closefroms_done);
	int code;
	struct berth_request request = {
		.size = sizeof(request),
		.account = torture_name[h.account],
		.weight = torture_once_in(&w->random, 4)
				  ? 1 + torture_below(&w->random, TORTURE_WEIGHT_MAX)
				  : 1,
		.label = torture_once_in(&w->random, 8) ? "torture" : NULL,
	};

	h.handle = load_relaxed(&w->c->handle);
	h.revokes_done = load_total(&t->revokes_done);
	code = berth_acquire_req(b, &request, &h.slot);
	if (code == BERTH_SUCCESS)
		w->held[w->held_count++] = h;
	else if (code == BERTH_CONNECTION_COUNT_LIMIT)
		count(&t->figures.denials);
	else if (code == BERTH_CONNECTION_ABORTED && may_be_revoked(w, h.revokes_done))
		count(&t->figures.revoked);
	else if (!(code == BERTH_NO_SUCH_USER && may_be_unknown(h.account)) &&
		 !closefrom_may_interfere(w->c, closing))
		unexpected(w, "acquire", torture_name[h.account], code);
}

static void do_release(struct worker *w) {
	uint32_t i = torture_below(&w->random, w->held_count);
	struct held h = w->held[i];
	int code;

	w->held[i] = w->held[--w->held_count];
	if (h.handle != load_relaxed(&w->c->handle))
		return; /* released by berth_close */
	code = berth_release(w->c->b, h.slot);
	if (code == BERTH_CONNECTION_ABORTED && may_be_revoked(w, h.revokes_done))
		count(&w->c->t->figures.revoked);
	else if (code != BERTH_SUCCESS &&
		 !(code == BERTH_TOO_MANY_POSTS && may_be_revoked(w, h.revokes_done)))
		unexpected(w, "release", torture_name[h.account], code);
	if (!torture_once_in(&w->random, 32))
		return;
	code = berth_release(w->c->b, h.slot);
	if (code != BERTH_TOO_MANY_POSTS)
		unexpected(w, "second release", torture_name[h.account], code);
}

static void do_query(struct worker *w) {
	struct berth_usage usage = {.size = sizeof(usage)};
	uint32_t closing = load_total(&w->c->closefroms_done);
	uint32_t account = any_account(w);
	int code = berth_query(w->c->b, torture_name[account], &usage);

	if (code == BERTH_SUCCESS && usage.peak >= usage.current)
		return;
	if (!(code == BERTH_NO_SUCH_USER && may_be_unknown(account)) &&
		!closefrom_may_interfere(w->c, closing))
		unexpected(w, "query", torture_name[account], code);
}

/* -- fork -------------------------------------------------------------------------------------- */

/* Runs in the child, which can't release its parent's slots. The library opens a new session. */
static void child_run(struct worker *w) __attribute__((noreturn));
static void child_run(struct worker *w) {
	struct berth *b = w->c->b;
	uint32_t parents = w->held_count, end = torture_below(&w->random, 4);

	w->is_child = true;
	/* The parent's closefroms don't affect the child's session. */
	store_total(&w->c->closefroms_begun, 0);
	store_total(&w->c->closefroms_done, 0);
	for (uint32_t i = 0; i < parents; i++) {
		int code = berth_release(b, w->held[i].slot);

		if (code != BERTH_TOO_MANY_POSTS)
			unexpected(w, "release of a parent's slot",
				torture_name[w->held[i].account], code);
	}
	w->held_count = 0;
	for (uint32_t i = 0; i < 200 && end != 3; i++) {
		if (w->held_count < HELD_MAX && torture_once_in(&w->random, 2))
			do_acquire(w, b);
		else if (w->held_count > 0)
			do_release(w);
		count(&w->c->t->figures.operations);
	}
	if (end == 0)
		berth_close(b);
	if (end == 1)
		(void)kill(getpid(), SIGKILL);
	_exit(0);
}

static bool child_reap(struct worker *w, int flags) {
	int status;
	pid_t pid;

	if (w->child <= 0)
		return true;
	do
		pid = waitpid(w->child, &status, flags);
	while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return false;
	if (pid > 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0) &&
		!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		torture_fail(w->c->t, "forked child %d ended with status 0x%x", (int)pid, status);
	w->child = 0;
	return true;
}

static void do_fork(struct worker *w) {
	if (!child_reap(w, WNOHANG))
		return;
	w->child = fork();
	if (w->child == 0)
		child_run(w);
	if (w->child > 0)
		count(&w->c->t->figures.forks);
}

/* -- closefrom, exec, reopen ------------------------------------------------------------------- */

static void do_closefrom(struct worker *w) {
	(void)add_total(&w->c->closefroms_begun, 1);
	closefrom(3);
	(void)add_total(&w->c->closefroms_done, 1);
	count(&w->c->t->figures.closefroms);
}

/* Calls exec. This thread and the others may hold slots. A program of another architecture must
 * call exec with its emulator (tests/install/portable.sh). */
static void do_exec(struct worker *w) {
	const char *emulator = getenv("BERTH_TEST_EMULATOR"), *path = w->c->t->path;
	char place[16], seed[32], self[4096] = "";

	(void)snprintf(place, sizeof(place), "%u", w->c->place);
	(void)snprintf(seed, sizeof(seed), "%llu", (unsigned long long)torture_random(&w->random));
	count(&w->c->t->figures.execs);
	if (!emulator)
		(void)execl(
			"/proc/self/exe", "torture", "--client", path, place, seed, (char *)NULL);
	else if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0)
		(void)execl(emulator, emulator, self, "--client", path, place, seed, (char *)NULL);
	torture_fail(w->c->t, "exec: %s", strerror(errno));
}

static void open_handle(struct client *c) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = TIMEOUT_MS};
	int code = berth_open_options(&options, &c->b);

	if (code != BERTH_SUCCESS) {
		torture_fail(
			c->t, "client %d, open: %d (%s)", (int)getpid(), code, berth_errname(code));
		_exit(1);
	}
}

/* Called without the lock. */
static void do_reopen(struct worker *w) {
	struct client *c = w->c;
	struct berth *old;

	(void)pthread_rwlock_wrlock(&c->lock);
	old = c->b;
	if (torture_once_in(&w->random, 2)) {
		berth_close(old);
		open_handle(c);
	} else { /* the process has two handles for a moment */
		open_handle(c);
		berth_close(old);
	}
	(void)add_relaxed(&c->handle, 1);
	(void)pthread_rwlock_unlock(&c->lock);
	w->held_count = 0;
	count(&c->t->figures.reopens);
}

/* -- threads ----------------------------------------------------------------------------------- */

static void rare_step(struct worker *w) {
	int code;

	switch (torture_below(&w->random, 40)) {
	case 0:
		do_closefrom(w);
		break;
	case 1:
		do_exec(w);
		break;
	case 2 ... 9:
		do_fork(w);
		break;
	case 10 ... 19:
		do_query(w);
		break;
	case 20 ... 24:
		/* Releases a slot that was never acquired. */
		code = berth_release(w->c->b, torture_random(&w->random) >> 44);
		if (code != BERTH_TOO_MANY_POSTS)
			unexpected(w, "release of a random slot", "", code);
		break;
	default:
		(void)sched_yield();
	}
}

static void step(struct worker *w) {
	struct client *c = w->c;

	if (torture_once_in(&w->random, 20000)) {
		do_reopen(w);
		return;
	}
	(void)pthread_rwlock_rdlock(&c->lock);
	if (torture_once_in(&w->random, 400))
		rare_step(w);
	else if (w->held_count == 0 || (w->held_count < HELD_MAX && torture_once_in(&w->random, 2)))
		do_acquire(w, c->b);
	else
		do_release(w);
	(void)pthread_rwlock_unlock(&c->lock);
	count(&c->t->figures.operations);
}

static void *worker_run(void *data) {
	struct worker *w = data;

	while (load_relaxed(&w->c->t->finish) == 0 && !torture_failed(w->c->t))
		step(w);
	(void)child_reap(w, 0);
	/* Releases half of the thread's slots. berth_close releases the other half. */
	(void)pthread_rwlock_rdlock(&w->c->lock);
	for (uint32_t n = w->held_count / 2; n > 0; n--)
		do_release(w);
	(void)pthread_rwlock_unlock(&w->c->lock);
	return NULL;
}

/* While another thread calls exec, pthread_create returns EAGAIN. */
static void thread_start(pthread_t *thread, struct worker *w) {
	int r = EAGAIN;

	for (int i = 0; i < 1000 && r == EAGAIN; i++) {
		r = pthread_create(thread, NULL, worker_run, w);
		if (r == EAGAIN)
			torture_sleep_us(1000);
	}
	if (r == 0)
		return;
	torture_fail(w->c->t, "client %d gets no thread: %s", (int)getpid(), strerror(r));
	_exit(1);
}

void torture_client(struct torture *t, unsigned place, uint64_t seed) {
	struct client c = {.t = t, .place = place, .lock = PTHREAD_RWLOCK_INITIALIZER};
	struct worker worker[THREADS_MAX] = {{0}};
	pthread_t thread[THREADS_MAX];
	uint32_t threads = 2 + torture_below(&seed, THREADS_MAX - 1);

	open_handle(&c);
	for (uint32_t i = 0; i < threads; i++) {
		worker[i].c = &c;
		worker[i].random = torture_random(&seed);
		if (i > 0)
			thread_start(&thread[i], &worker[i]);
	}
	(void)worker_run(&worker[0]);
	for (uint32_t i = 1; i < threads; i++)
		(void)pthread_join(thread[i], NULL);
	berth_close(c.b);
	_exit(0);
}
