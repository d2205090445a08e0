/* SPDX-License-Identifier: MIT */

/*
 * A server that runs while berthd is stopped, killed and replaced. It is built in the container
 * against the installed libberth-dev, with the flags of pkg-config.
 *
 *     workload ACCOUNT N LABEL
 *
 * Holds N slots of ACCOUNT. A thread acquires and releases another slot again and again; a second
 * thread does so, too, with a new session each time. So the account's limit must be N + 2. No
 * operation may fail: the first failure is printed at once, as a line "FAILED ...". On SIGTERM the
 * program releases its slots, prints "CYCLES n SESSIONS n FAILURES n", and exits with 0 if there
 * was no failure.
 */

#include <berth.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HELD_MAX 64

static const char *account, *label;
static struct berth *session;
static atomic_bool ending;
static atomic_uint_fast64_t cycles, sessions, failures;

/* A long timeout, for slow machines. */
static const struct berth_options patient = {
	.size = sizeof(patient),
	.timeout_ms = 120000,
};

static void check(int code, const char *what) {
	if (code == BERTH_SUCCESS)
		return;
	if (atomic_fetch_add(&failures, 1) == 0) {
		printf("FAILED to %s %s: %d, %s\n", what, account, code, berth_strerror(code));
		(void)fflush(stdout);
	}
}

static int acquire(struct berth *b, berth_slot *ret) {
	const struct berth_request request = {
		.size = sizeof(request),
		.account = account,
		.label = label,
	};
	int code = berth_acquire_req(b, &request, ret);

	check(code, "acquire");
	return code;
}

/* Pauses, so that berthd gets CPU time. */
static void *cycle(void *unused) {
	const struct timespec pause = {.tv_nsec = 200000};
	berth_slot slot;

	(void)unused;
	while (!atomic_load(&ending)) {
		if (acquire(session, &slot) == BERTH_SUCCESS)
			check(berth_release(session, slot), "release");
		atomic_fetch_add(&cycles, 1);
		(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

/* Does what a server does that has just been started. */
static void session_use(void) {
	struct berth *b;
	berth_slot slot;
	int code = berth_open_options(&patient, &b);

	check(code, "open another session for");
	if (code != BERTH_SUCCESS)
		return;
	if (acquire(b, &slot) == BERTH_SUCCESS)
		check(berth_release(b, slot), "release in another session");
	berth_close(b);
	atomic_fetch_add(&sessions, 1);
}

static void *sessions_cycle(void *unused) {
	const struct timespec pause = {.tv_nsec = 20000000};

	(void)unused;
	while (!atomic_load(&ending)) {
		session_use();
		(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

static void wait_for_end(const sigset_t *set) {
	int signal;

	while (sigwait(set, &signal) != 0)
		;
	atomic_store(&ending, true);
}

int main(int argc, char **argv) {
	long count = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
	berth_slot held[HELD_MAX];
	pthread_t threads[2];
	sigset_t set;

	if (count < 1 || count > HELD_MAX) {
		fprintf(stderr, "usage: workload ACCOUNT N LABEL\n");
		return 2;
	}
	account = argv[1];
	label = argv[3];
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	check(berth_open_options(&patient, &session), "open a session for");
	if (failures != 0)
		return 1;
	for (long i = 0; i < count; i++)
		(void)acquire(session, &held[i]);
	printf("HOLDING %ld\n", count);
	(void)fflush(stdout);
	if (pthread_create(&threads[0], NULL, cycle, NULL) != 0 ||
		pthread_create(&threads[1], NULL, sessions_cycle, NULL) != 0)
		return 1;
	wait_for_end(&set);
	for (int i = 0; i < 2; i++)
		(void)pthread_join(threads[i], NULL);
	for (long i = 0; i < count; i++)
		check(berth_release(session, held[i]), "release a held slot of");
	berth_close(session);
	printf("CYCLES %" PRIuFAST64 " SESSIONS %" PRIuFAST64 " FAILURES %" PRIuFAST64 "\n", cycles,
		sessions, failures);
	return failures == 0 ? 0 : 1;
}
