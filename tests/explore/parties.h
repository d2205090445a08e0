/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The parties: processes with threads that acquire and release through the real library, and berthd.
 * A message is a struct in the process, which berthd looks at when it is its turn.
 */

#include <systemd/sd-event.h>

#include "truth.h"

/* -- chance ------------------------------------------------------------------------------------- */

/* The same numbers from the same seed. */
void chance_seed(uint64_t seed);
uint64_t chance(void);
static inline uint32_t below(uint32_t n) {
	return (uint32_t)((chance() >> 32) * n >> 32);
}
static inline bool one_in(uint32_t n) {
	return below(n) == 0;
}
/* From 1 to 2^bits, each order of magnitude as often as another. */
static inline uint64_t below_log(uint32_t bits) {
	return 1 + (chance() >> 1) % (UINT64_C(1) << below(bits + 1));
}
/* The same, but every second time each number as often as another. */
static inline uint64_t below_size(uint32_t bits) {
	return one_in(2) ? below_log(bits) : 1 + below(UINT32_C(1) << bits);
}

/* -- how often what happens ------------------------------------------------------------------------ */

/* Drawn for each run; one in so many, 0: never. */
struct plan {
	uint32_t processes, threads;
	uint32_t names;      /* a bit for each that is there at first, or may be made */
	uint32_t limit;      /* highest */
	uint32_t free;       /* records of a process that aren't held all the time */
	uint32_t kept;       /* records that a thread keeps at most */
	uint32_t entries;    /* of accounts that it does */
	bool one_range;      /* a session isn't granted more */
	uint32_t levels;     /* acquires are of names with so many levels at most */
	uint32_t burst;      /* bits of the length of a burst of pairs */
	uint32_t bursts;     /* of 16 operations */
	uint32_t burst_name; /* of which three in four are */
	uint64_t length;     /* accesses */
	uint32_t preempt;    /* accesses between two switches, about */
	uint32_t stall;      /* one switch in so many stalls the one that was left */
	uint32_t stalled;    /* so many at once at most */
	uint32_t stall_bits; /* for up to 2^bits operations */
	uint32_t kill, daemon_kill, hang_up, close, thread_end;
	uint32_t used_up; /* one record in so many has few seqs left */
	uint32_t pause;   /* bits of the operations between two acts of berthd's administrator */
	uint32_t revoke, limits, removal, recount; /* weights among these acts */
};

extern struct plan plan;

/* Whole operations, by all, in this run. */
extern uint64_t operations;

/* -- processes ------------------------------------------------------------------------------------- */

#define HOLDINGS 64u

enum mail_kind { MAIL_HELLO, MAIL_RANGES, MAIL_RESOLVE, MAIL_SETTLE };

/* A message, and its answer. */
struct mail {
	enum mail_kind kind;
	bool posted, answered;
	int code;
	uint32_t count, name, record; /* asked */
	uint32_t resume_session, resume_serial;
	bool resumed; /* answered */
	uint32_t session, serial, ranges, range[4];
};

struct process {
	uint32_t index, pid;
	bool alive;
	bool connected;
	bool hung_up, goodbye; /* berthd is to be told */
	uint64_t closed;       /* a bit for each serial, modulo 64, of a session that was closed */
	struct berth *berth;
	struct coroutine *lock; /* has the session's lock */
	struct mail mail;
	struct holding holding[HOLDINGS];
};

extern struct process processes[PROCESSES];

void processes_reset(void);
/* A new process takes the place of a dead one. */
void process_start(uint32_t index);
/* None of its threads is gone on with. */
void process_kill(uint32_t index);
bool process_lives(uint32_t pid);
/* As berth_close() does, while other threads are inside; they go on with a new session. */
void process_close(struct process *p);

/* As a thread's end does: the next call is that of a new one. */
void seam_thread_end(void);
/* The scheduler itself is a thread that libberth doesn't know. */
void seam_thread_forget(void);

/* What a thread does for as long as the run goes on. */
void thread_body(struct coroutine *c);
/* One operation of a thread's, chosen by chance. */
void thread_operate(struct process *p);
/* 0, or a code of berth.h. */
int thread_acquire(struct process *p, uint32_t name, uint32_t weight, struct holding **ret);
int thread_release(struct process *p, struct holding *h);
/* Keeps all but plan.free of its records. */
void process_occupy(struct process *p);
void process_release_all(struct process *p);

/* -- berthd ---------------------------------------------------------------------------------------- */

struct sd_event_source {
	struct sd_event_source *next;
	int fd, enabled;
	sd_event_io_handler_t on_io;
	sd_event_time_handler_t on_time;
	void *data;
};

struct sd_event {
	struct sd_event_source *sources;
};

/* The start, with what is found in the segment; the first one makes the accounts of the plan, too. */
void daemon_start(void);
/* It isn't gone on with. */
void daemon_kill(void);
void daemon_body(struct coroutine *c);
/* Whatever there is to be done: messages, deaths, retries; true if there was something. */
bool daemon_serve(void);
/* For scripts. */
int daemon_revoke(uint32_t record);
int daemon_limit(uint32_t name, uint32_t limit);
int daemon_remove(uint32_t name);
int daemon_create(uint32_t name, uint32_t limit);
void daemon_recount(void);
/* As at the end of the process's session, but by itself: no berthd needs to be there. */
void daemon_close_records(uint32_t process);

/* The coroutines: those of process p begin at p * THREADS; the last is berthd's. */
#define COROUTINES (PROCESSES * THREADS + 1)
extern struct coroutine coroutines[COROUTINES];

static inline struct coroutine *coroutine_of(uint32_t process, uint32_t thread) {
	return &coroutines[process * THREADS + thread];
}

/* True once the parties are to end what they do. */
extern bool winding_up;
