/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The parties of a run are berthd, and processes whose threads acquire and release slots through
 * the real libberth. To send a message, a process fills in a struct, which berthd reads when
 * berthd's coroutine runs.
 */

#include <systemd/sd-event.h>

#include "truth.h"

/* -- chance ------------------------------------------------------------------------------------ */

/* Begins a new sequence of random numbers. The same seed gives the same sequence. */
void chance_seed(uint64_t seed);
uint64_t chance(void);
static inline uint32_t below(uint32_t n) {
	return (uint32_t)((chance() >> 32) * n >> 32);
}
static inline bool one_in(uint32_t n) {
	return below(n) == 0;
}
/* Returns a number from 1 to 2^k, where k is random, from 0 to `bits`. */
static inline uint64_t below_log(uint32_t bits) {
	return 1 + (chance() >> 1) % (UINT64_C(1) << below(bits + 1));
}
/* Half of the calls return what below_log() returns, the other half a number from 1 to 2^bits. */
static inline uint64_t below_size(uint32_t bits) {
	return one_in(2) ? below_log(bits) : 1 + below(UINT32_C(1) << bits);
}

/* -- the plan ---------------------------------------------------------------------------------- */

/* A plan says how large a run is, and how often things happen in it. A random run draws its plan
 * from the seed. All scripts have the same plan, except for kept_records. */
struct plan {
	uint32_t processes, threads;
	uint32_t names; /* a bit for each account (truth.h) that exists at first */
	uint32_t limit; /* the highest limit of new accounts; changed limits may be 2 higher */
	/* In a process's first range, this many records stay free. Slots of "many" (truth.h) use
	 * the others. */
	uint32_t free_records;
	uint32_t kept_records; /* the most free records that a thread keeps for itself */
	uint32_t entries;      /* the most accounts in a thread's path cache */
	bool one_range;        /* a session is granted one range of records only */
	uint32_t levels;       /* the most levels of the accounts that threads acquire */
	uint64_t length;       /* accesses (hooks.h), after which the run winds up */
	uint32_t preempt;      /* the accesses between two switches of coroutines, roughly */

	/* A burst is up to 2^burst pairs (an acquire and its release) of one account. Three bursts
	 * in four use the account burst_name. */
	uint32_t burst, burst_name;
	uint32_t bursts; /* the number of bursts in 16 operations */

	/* After one switch in `stall`, the coroutine that has paused is stalled for up to
	 * 2^stall_bits operations. At most `stalled` coroutines are stalled at the same time. */
	uint32_t stall, stalled, stall_bits;

	/* Each of these events happens in one of so many cases; 0: never. */
	uint32_t kill, daemon_kill;          /* the cases are switches */
	uint32_t hang_up, close, thread_end; /* the cases are operations */
	uint32_t used_up;                    /* the cases are records: few of the seqs are left */

	/* berthd's administrator acts after up to 2^pause operations. The other numbers say how
	 * often each kind of act is chosen, relative to the other kinds. */
	uint32_t pause, revoke, limits, removal, recount;
};

extern struct plan plan;

/* How many operations all parties together have done in this run. A pair counts as one. */
extern uint64_t operations;

/* -- processes --------------------------------------------------------------------------------- */

#define HOLDINGS 64u

enum mail_kind { MAIL_HELLO, MAIL_RANGES, MAIL_RESOLVE, MAIL_SETTLE };

/* A message to berthd, and its answer. */
struct mail {
	enum mail_kind kind;
	bool posted, answered;
	int code;
	/* The question: */
	uint32_t count, name, record;
	uint32_t resume_session, resume_serial;
	/* The answer: */
	bool resumed;
	uint32_t session, serial, ranges, range[4];
};

struct process {
	uint32_t index, pid;
	bool alive;
	bool connected;
	/* The connection has ended, and berthd hasn't seen this yet. `goodbye`: the process has
	 * closed its handle, and no thread was in a call. */
	bool hung_up, goodbye;
	uint64_t closed; /* bit (serial % 64) is set for each session that the process closed */
	struct berth *berth;
	struct coroutine *lock; /* the thread that has the session's lock; NULL: none */
	struct mail mail;
	struct holding holding[HOLDINGS];
};

extern struct process processes[PROCESSES];

void processes_reset(void);
/* Starts a new process with this index, in place of a dead one. */
void process_start(uint32_t index);
/* Kills a process. The caller must not resume its threads any more. */
void process_kill(uint32_t index);
bool process_lives(uint32_t pid);
/* Does what berth_close() does. Other threads may be in calls of libberth meanwhile; afterwards
 * they get a new session. */
void process_close(struct process *p);

/* Does what libberth does at the end of a thread. The coroutine continues as a new thread. */
void seam_thread_end(void);
/* Forgets the pointer that libberth has stored for the scheduler's thread with
 * pthread_setspecific(). */
void seam_thread_forget(void);

/* The body of a thread in a random run. */
void thread_body(struct coroutine *c);
/* Both return 0 or a code of berth.h. */
int thread_acquire(struct process *p, uint32_t name, uint32_t weight, struct holding **ret);
int thread_release(struct process *p, struct holding *h);
/* Acquires so many slots of the account "many" (truth.h) that only plan.free_records records of the
 * process's first range stay free. */
void process_occupy(struct process *p);
void process_release_all(struct process *p);

/* -- berthd ------------------------------------------------------------------------------------ */

/* berthd's event loop. seam.c defines its functions in place of libsystemd's. */
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

/* Starts berthd. The first berthd of a run creates the plan's accounts; later ones find the two
 * shared files as the last berthd left them. */
void daemon_start(void);
/* Kills berthd. The caller must not resume berthd's coroutine any more. */
void daemon_kill(void);
/* The body of berthd in a random run. */
void daemon_body(struct coroutine *c);
/* Does one thing that berthd has to do: answers a message, or handles a death or a timer. Returns
 * false if there is nothing to do. */
bool daemon_serve(void);
/* The acts of the administrator. They return 0 or a negative errno. */
int daemon_revoke(uint32_t record);
int daemon_limit(uint32_t name, uint32_t limit);
int daemon_remove(uint32_t name);
int daemon_create(uint32_t name, uint32_t limit);
/* Closes the process's records, as berthd does at the end of a session. Works even while berthd
 * doesn't run. */
void daemon_close_records(uint32_t process);

/* The coroutines of process p begin at p * THREADS; the last coroutine is berthd. */
#define COROUTINES (PROCESSES * THREADS + 1)
extern struct coroutine coroutines[COROUTINES];

static inline struct coroutine *coroutine_of(uint32_t process, uint32_t thread) {
	return &coroutines[process * THREADS + thread];
}

/* True at the end of a run, when the parties finish what they are doing and begin nothing new. */
extern bool winding_up;
