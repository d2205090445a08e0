/* SPDX-License-Identifier: MIT */

/*
 * The servers of tests/install/demo.sh, written as a user of libberth would write them.
 *
 *     demo-server ACCOUNT LABEL        acquires a slot, prints the result, and holds the slot until it
 *                                      is killed
 *     demo-server ACCOUNT LABEL PID    waits until process PID is dead, acquires a slot, and goes on
 *                                      while berthd is dead
 *
 * With PID it prints a line for each step: "watching"; the ms until it got the slot; then, after a
 * line on standard input, how many million times it got a slot in a second; and the result of
 * acquiring one more. A second line on standard input ends it.
 */

#include <berth.h>

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 10000

static uint64_t now_ns(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void print_result(int code) {
	if (code == BERTH_SUCCESS)
		printf("has a slot\n");
	else
		printf("%d, %s: %s\n", code, berth_errname(code), berth_strerror(code));
	(void)fflush(stdout);
}

static void must(int code, const char *what) {
	if (code != BERTH_SUCCESS)
		errx(EXIT_FAILURE, "%s: %s (%d)", what, berth_strerror(code), code);
}

static void wait_for_line(void) {
	int c;

	do {
		c = getchar();
	} while (c != '\n' && c != EOF);
	if (c == EOF)
		exit(EXIT_FAILURE); /* the script has ended */
}

/* Returns when the kernel reports that the process is dead. */
static void wait_for_death(pid_t pid) {
	struct pollfd dead = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

	if (dead.fd < 0)
		err(EXIT_FAILURE, "pidfd_open(%d)", (int)pid);
	printf("watching\n");
	(void)fflush(stdout);
	while (poll(&dead, 1, -1) < 0 && errno == EINTR)
		;
	(void)close(dead.fd);
}

/* Tries again and again while it is denied. Returns how long that took, in ns. */
static uint64_t acquire_soon(
	struct berth *b, const struct berth_request *request, berth_slot *ret) {
	uint64_t start = now_ns(), end = start + TIMEOUT_MS * UINT64_C(1000000);
	int code;

	do {
		code = berth_acquire_req(b, request, ret);
		if (code != BERTH_SUCCESS)
			(void)sched_yield(); /* berthd needs the CPU, if there is only one */
	} while (code == BERTH_CONNECTION_COUNT_LIMIT && now_ns() < end);
	must(code, "acquire");
	return now_ns() - start;
}

/* Releases the slot and acquires another one, for a second. Returns how often. */
static uint64_t go_on(struct berth *b, const struct berth_request *request, berth_slot *slot) {
	uint64_t end = now_ns() + 1000000000, times = 0;

	do {
		for (int i = 0; i < 1000; i++, times++) {
			must(berth_release(b, *slot), "release");
			must(berth_acquire_req(b, request, slot), "acquire");
		}
	} while (now_ns() < end);
	return times;
}

static void take_over(struct berth *b, const struct berth_request *request, pid_t pid) {
	berth_slot slot, another;

	wait_for_death(pid);
	printf("%.3f\n", (double)acquire_soon(b, request, &slot) / 1e6);
	(void)fflush(stdout);
	wait_for_line(); /* berthd is dead now */
	printf("%.1f\n", (double)go_on(b, request, &slot) / 1e6);
	print_result(berth_acquire_req(b, request, &another));
	wait_for_line(); /* berthd is back */
	must(berth_release(b, slot), "release");
}

static int hold(struct berth *b, const struct berth_request *request) {
	berth_slot slot;
	int code = berth_acquire_req(b, request, &slot);

	print_result(code);
	while (code == BERTH_SUCCESS)
		(void)pause();
	return code == BERTH_CONNECTION_COUNT_LIMIT ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
	struct berth_request request = {.size = sizeof(request)};
	int status = EXIT_SUCCESS;
	struct berth *b;

	if (argc != 3 && argc != 4)
		errx(2, "usage: demo-server ACCOUNT LABEL [PID]");
	request.account = argv[1];
	request.label = argv[2];
	must(berth_open(NULL, &b), "berth_open");
	if (argc == 4)
		take_over(b, &request, (pid_t)strtol(argv[3], NULL, 10));
	else
		status = hold(b, &request);
	berth_close(b);
	return status;
}
