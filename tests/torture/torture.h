/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The torture test: the functions and the memory that its processes share.
 *
 *   main.c          starts, kills, stops and restarts berthd and the other processes
 *   client.c        a server: its threads acquire and release, fork, exec, and close descriptors
 *   admin.c         the administrator: changes limits, revokes, deletes accounts, sets them again
 *   observer.c      compares counts with limits all the time
 *   stop.c          stops all processes
 *   ../lib/audit.c  then compares the counts with the sums of the records
 *   end.c           checks what is left at the end
 *   soak.c          in a long run: checks that nothing grows. Its own client is the probe
 *
 * All processes map one struct torture. It is a file in the instance's directory, so that a client
 * can map it again after exec.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "map.h"

#define TORTURE_CLIENTS_MAX 64
#define TORTURE_HISTORY     8192 /* a power of 2 */

/* The first TORTURE_WATCHED accounts always have a limit, and the observer watches them. The others
 * are deleted and set again. */
#define TORTURE_WATCHED 16
#define TORTURE_NAMES   18
extern const char *const torture_name[TORTURE_NAMES];

/* How many measurements of the probe are kept: one for each of its last batches. */
#define TORTURE_BATCHES 1024

/* The totals that a soak (a long run) must reach if it is planned for SOAK_S seconds (main.c) or
 * more. */
#define TORTURE_SOAK_OPERATIONS UINT64_C(1000000000)
#define TORTURE_SOAK_KILLS      10000

/* How many samples the observer takes between two pauses. */
#define TORTURE_ROUND 8000u

#define TORTURE_LIMIT_MAX  40
#define TORTURE_WEIGHT_MAX 5

/* The limits of one account, in the order of the requests. Only the administrator writes here.
 * Before it sends limit n, it writes the limit, and n + 1 to `begun`. When berthd has acknowledged
 * the limit, the administrator writes n + 1 to `acked`. It sends one limit at a time, and sends the
 * limit again if berthd dies before the answer. */
struct history {
	_Atomic uint32_t begun, acked;
	_Atomic uint32_t limit[TORTURE_HISTORY];
};

struct figures {
	/* `revoked` counts the calls that returned BERTH_CONNECTION_ABORTED. */
	_Atomic uint64_t operations, denials, revoked;
	_Atomic uint64_t client_kills, berthd_kills, stops;
	_Atomic uint64_t revokes, limits, deletes;
	_Atomic uint64_t forks, execs, closefroms, reopens;
	_Atomic uint64_t samples, audits;
};

struct torture {
	char runtime_dir[80];
	char path[128]; /* of the file with this struct */
	uint64_t seed;
	uint32_t clients;
	_Atomic uint32_t finish; /* 1: clients and administrator exit; 2: the observer, too */
	_Atomic uint32_t failed; /* 0: no failure; 1: it is being written; 2: see `failure` */
	/* While all clients are stopped, 1 tells the administrator to act. The administrator writes
	 * 2 when it has acted. */
	_Atomic uint32_t freeze;
	char failure[1024];
	struct figures figures;
	_Atomic int client[TORTURE_CLIENTS_MAX]; /* pids; 0: none */
	/* How many revocations and forced deletions were sent, and answered. They are sent one at a
	 * time. */
	_Atomic uint32_t revokes_begun, revokes_done;
	struct history history[TORTURE_WATCHED];
	_Atomic int probe; /* pid */
	/* The batches that the probe has done, and the mean time in ps that a pair (an acquire and
	 * its release) took in each of the last batches. */
	_Atomic uint32_t probe_batches, probe_ps[TORTURE_BATCHES];
};

/* Records the first failure; the test ends soon after. */
__attribute__((format(printf, 2, 3))) void torture_fail(struct torture *t, const char *format, ...);

static inline bool torture_failed(struct torture *t) {
	return load_acquire(&t->failed) != 0;
}

/* Returns the next number of the generator splitmix64, for which every seed is good. */
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

/* Prints the text and errno and exits, after a failure of the test itself. */
void torture_die(const char *what) __attribute__((noreturn));
int torture_open(const char *dir, const char *name, int flags);
void torture_print_figures(struct torture *t);

int64_t torture_now_us(void);
void torture_sleep_us(int64_t us);

/* Maps the struct torture in the file, which is made if necessary; exits on failure. */
struct torture *torture_attach(const char *path);

/* Maps the segment, writable, and the directory; exits on failure. */
struct map *torture_map(struct torture *t);

/* Returns the account's index; 0: the directory doesn't have the name now. */
uint32_t torture_account(struct map *m, const char *name);

/* The main functions of the processes. `place` is the client's index in t->client. */
void torture_client(struct torture *t, unsigned place, uint64_t seed) __attribute__((noreturn));
void torture_admin(struct torture *t, uint64_t seed) __attribute__((noreturn));
void torture_observer(struct torture *t) __attribute__((noreturn));
void torture_probe(struct torture *t) __attribute__((noreturn));

/* The process group of all clients and their children, and the pid of berthd; 0: berthd doesn't
 * run. */
struct processes {
	pid_t group, berthd;
};
void torture_signal(const struct processes *p, int signal);
/* Stops all threads of the processes. Returns false if they don't stop. */
bool torture_stop(const struct processes *p);

/* Called when all counts are 0. Stops berthd, and checks the files, peaks, store and log. */
struct instance;
void torture_judge_end(struct torture *t, struct map *m, struct instance *i);

/* Called again and again. Every 2 s records memory, descriptors, the files' sizes, and the probe's
 * times. */
void torture_soak_sample(struct torture *t, struct map *m, const struct instance *i, int64_t now);
/* True until a soak has reached its totals. */
bool torture_soak_wants_more(struct torture *t);
/* Prints the medians of the first and the last quarter of the run, and compares them. */
void torture_soak_judge(struct torture *t);
