/* SPDX-License-Identifier: MIT */

/* Starts berthds, sets limits through berthctl or the admin socket, acquires slots, and names
 * accounts by number. */

#include <berth.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "message.h"

#define BERTHDS_MAX 8
#define CALL_MS     60000

/* The berthds that run; clients connect to the last. */
static struct berthd *berthds[BERTHDS_MAX];
static unsigned berthd_count;

void berthd_start(struct berthd *d, unsigned accounts, unsigned slots) {
	static unsigned number;
	const char *args[] = {"--state-dir", d->state_dir, "--max-accounts", d->accounts,
		"--max-slots", d->slots, NULL};

	bench_check(berthd_count < BERTHDS_MAX, "too many berthds");
	(void)snprintf(d->state_dir, sizeof(d->state_dir), "%.500s/state%u", bench.disk, number++);
	(void)snprintf(d->accounts, sizeof(d->accounts), "%u", accounts);
	(void)snprintf(d->slots, sizeof(d->slots), "%u", slots);
	instance_start(&d->instance, args);
	berthds[berthd_count++] = d;
	bench_continue();
}

void berthd_end(struct berthd *d) {
	unsigned kept = 0;

	for (unsigned i = 0; i < berthd_count; i++)
		if (berthds[i] != d)
			berthds[kept++] = berthds[i];
	if (kept == berthd_count)
		return;
	berthd_count = kept;
	instance_end(&d->instance);
	bench_remove(d->state_dir);
	if (kept > 0)
		(void)setenv("BERTH_RUNTIME_DIR", berthds[kept - 1]->instance.runtime_dir, 1);
}

static void berthctl_run(const char *verb, const char *argument, const char *limit) {
	const char *output;

	if (ctl(&output, verb, argument, limit, NULL) == 0)
		return;
	bench_continue();
	fprintf(stderr, "bench: berthctl %s %s: %s", verb, argument, output);
	exit(EXIT_FAILURE);
}

void berthd_set(const char *account, const char *limit) {
	berthctl_run("set", account, limit);
}

double berthd_import(const char *file) {
	double start = bench_now();

	berthctl_run("import", file, NULL);
	return bench_now() - start;
}

/* -- the admin socket -------------------------------------------------------------------------- */

static int connection = -1;

void admin_open(const struct berthd *d) {
	bench_check(message_connect(d->instance.runtime_dir, "admin.sock",
			    clock_monotonic_ms() + CALL_MS, &connection) == 0,
		"connecting to admin.sock");
}

void admin_close(void) {
	(void)close(connection);
	connection = -1;
}

/* Ends the bench if berthd replies with an error. */
static void admin_call(const void *request, void *reply, size_t size) {
	struct message_header *header = reply;
	size_t got = size;

	bench_check(
		message_call(connection, request, reply, &got, clock_monotonic_ms() + CALL_MS) == 0,
		"calling berthd");
	bench_must((int)header->code, "calling berthd");
}

void admin_set(const char *account, uint32_t limit) {
	struct message_set request = {
		.header = MESSAGE_HEADER(MESSAGE_SET, struct message_set), .limit = limit};
	union {
		struct message_done done;
		struct message_failed failed;
	} reply;

	message_name_set(&request.name, account);
	admin_call(&request, &reply, sizeof(reply));
}

uint64_t admin_checkpointed(void) {
	struct message_status request = {
		.header = MESSAGE_HEADER(MESSAGE_STATUS, struct message_status)};
	union {
		struct message_status_reply status;
		struct message_failed failed;
	} reply;

	admin_call(&request, &reply, sizeof(reply));
	return reply.status.checkpointed;
}

/* -- slots ------------------------------------------------------------------------------------- */

struct berth *handle;

void handle_open(unsigned unused) {
	(void)unused;
	bench_must(berth_open(NULL, &handle), "berth_open");
}

void handle_pairs(const char *account, unsigned long n) {
	berth_slot slot;

	while (n-- > 0) {
		bench_must(berth_acquire(handle, account, &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static void acquire_all(const void *account, unsigned slots) {
	char name[ACCOUNT_NAME_SIZE];
	berth_slot slot;

	handle_open(0);
	for (unsigned i = 0; i < slots; i++) {
		account_name(i, name);
		bench_must(berth_acquire(handle, account ? account : name, &slot),
			"berth_acquire of a holder");
	}
}

pid_t holder_start(const char *account, unsigned slots) {
	return bench_hold(acquire_all, account, slots);
}

/* -- accounts by number ------------------------------------------------------------------------ */

void account_name(unsigned number, char to[ACCOUNT_NAME_SIZE]) {
	memcpy(to, "u00000000@example.com", 22);
	for (char *digit = to + 8; number > 0; number /= 10)
		*digit-- = (char)('0' + number % 10);
}

const char *accounts_file(unsigned count, unsigned limit) {
	static char path[600];
	char name[ACCOUNT_NAME_SIZE];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%.500s/limits-%u", bench.disk, count);
	f = fopen(path, "we");
	bench_check(f != NULL, path);
	for (unsigned i = 0; i < count; i++) {
		account_name(i, name);
		fprintf(f, "%s %u\n", name, limit);
	}
	bench_check(fclose(f) == 0, path);
	return path;
}
