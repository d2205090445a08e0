/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The torture test: what its processes share.
 *
 *   torture.c           starts everything, kills, stops and restarts it
 *   torture-client.c    a server: threads that acquire and release, fork, exec, closefrom
 *   torture-admin.c     the administrator: changes limits, revokes, deletes and sets again
 *   torture-observer.c  watches counts against limits while it all happens
 *   torture-stop.c      makes all of it stand still
 *   audit.c             then adds up the records and compares the sums with the counts
 *   torture-end.c       judges what is left when all is over
 *   torture-soak.c      in a long run: judges that nothing grows meanwhile
 *
 * All of them map one struct torture, a file in the instance's directory, so that a client still
 * has it after exec.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "map.h"

#define TORTURE_CLIENTS_MAX 64
#define TORTURE_HISTORY     8192 /* a power of 2 */

/* Accounts that have a limit all the time, and so are watched; then those that come and go. */
#define TORTURE_WATCHED 16
#define TORTURE_NAMES   18
extern const char *const torture_name[TORTURE_NAMES];

/* Of the probe's measurements, those that are kept. */
#define TORTURE_BATCHES 1024

/* What a soak of some length must come to. */
#define TORTURE_SOAK_OPERATIONS UINT64_C(1000000000)
#define TORTURE_SOAK_KILLS      10000

/* Samples that the observer takes in a row. */
#define TORTURE_ROUND 8000u

#define TORTURE_LIMIT_MAX  40
#define TORTURE_WEIGHT_MAX 5

/* The limits of one account, in the order in which they were asked for. Written by the
 * administrator alone: limit n and `begun` = n + 1 before it is sent, `acked` = n + 1 when berthd
 * said yes. There is never more than one on its way: one that berthd's death cut off is sent again
 * until it is answered. */
struct history {
	_Atomic uint32_t begun, acked;
	_Atomic uint32_t limit[TORTURE_HISTORY];
};

struct figures {
	_Atomic uint64_t operations, denials, revoked; /* revoked: releases that were told 1236 */
	_Atomic uint64_t client_kills, berthd_kills, stops;
	_Atomic uint64_t revokes, limits, deletes;
	_Atomic uint64_t forks, execs, closefroms, reopens;
	_Atomic uint64_t samples, audits;
};

struct torture {
	char runtime_dir[80];
	char path[128]; /* of this very struct */
	uint64_t seed;
	uint32_t clients;
	_Atomic uint32_t finish; /* 1: clients and administrator leave; 2: the observer, too */
	_Atomic uint32_t failed;
	_Atomic uint32_t
		freeze; /* clients stand still; 1: the administrator is to act; 2: it has */
	char failure[1024];
	struct figures figures;
	_Atomic int client[TORTURE_CLIENTS_MAX]; /* pids; 0: none */
	/* Revokes (and forced deletions) sent and answered; one at a time. */
	_Atomic uint32_t revokes_begun, revokes_done;
	struct history history[TORTURE_WATCHED];
	/* What a pair of acquire and release cost the probe, in picoseconds: batch by batch. */
	_Atomic int probe; /* pid */
	_Atomic uint32_t probe_batches, probe_ps[TORTURE_BATCHES];
};

/* Notes the first failure; the test ends soon after. */
__attribute__((format(printf, 2, 3))) void torture_fail(struct torture *t, const char *format, ...);

static inline bool torture_failed(struct torture *t) {
	return load_acquire(&t->failed) != 0;
}

/* splitmix64: every seed is a good one. */
static inline uint64_t torture_random(uint64_t *state) {
	uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}
static inline uint32_t torture_below(uint64_t *state, uint32_t n) {
	return (uint32_t)(torture_random(state) % n);
}
static inline bool torture_once_in(uint64_t *state, uint32_t n) {
	return torture_below(state, n) == 0;
}

/* Ends the calling program, for want of something that the test itself needs; says errno. */
void torture_die(const char *what) __attribute__((noreturn));
int torture_open(const char *dir, const char *name, int flags);
void torture_say_figures(struct torture *t);

int64_t torture_now_us(void);
void torture_sleep_us(int64_t us);

/* Maps the struct made by another process; ends the program if it can't. */
struct torture *torture_attach(const char *path);

/* The two shared files, opened by their paths as only their owner can. */
struct map *torture_map(struct torture *t);

/* The account's index, 0 if the name isn't there just now. */
uint32_t torture_account(struct map *m, const char *name);

/* Never return. `place` is the client's index in t->client. */
void torture_client(struct torture *t, unsigned place, uint64_t seed) __attribute__((noreturn));
void torture_admin(struct torture *t, uint64_t seed) __attribute__((noreturn));
void torture_observer(struct torture *t) __attribute__((noreturn));
void torture_probe(struct torture *t) __attribute__((noreturn));

/* The process group of all clients and their children, and berthd (0: it doesn't run). */
struct all {
	pid_t group, berthd;
};
void torture_signal(const struct all *a, int signal);
/* Returns when nobody of them runs any more; false: they don't stop. */
bool torture_stop(const struct all *a);

/* With counts and records empty: files, peaks, the store, the log. Stops berthd. */
struct instance;
void torture_judge_end(struct torture *t, struct map *m, struct instance *i);

/* Every 2 s: memory, descriptors, files, and what the probe measured. */
void torture_soak_sample(struct torture *t, struct map *m, const struct instance *i, int64_t now);
bool torture_soak_wants_more(struct torture *t);
/* Compares the first quarter with the last; says both. */
void torture_soak_judge(struct torture *t);
