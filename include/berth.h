/* SPDX-License-Identifier: MIT */
#ifndef BERTH_H
#define BERTH_H

/*
 * libberth: slots of accounts, counted across every process of a machine.
 *
 * An administrator says how many slots an account may hold at once (`berthctl set alice 5`). A
 * server acquires a slot before it serves a client and releases it afterwards; the one that would
 * pass the limit gets 1238, BERTH_CONNECTION_COUNT_LIMIT. A process that dies, however it dies, has
 * its slots released by berthd.
 *
 *     struct berth *b;
 *     berth_slot slot;
 *     int code;
 *
 *     code = berth_open(NULL, &b);
 *     if (code != BERTH_SUCCESS)
 *             errx(1, "berth: %s", berth_strerror(code));
 *     code = berth_acquire(b, "alice", &slot);
 *     if (code == BERTH_CONNECTION_COUNT_LIMIT)
 *             ...tell alice...
 *     ...
 *     berth_release(b, slot);
 *     berth_close(b);
 *
 * ACCOUNTS. 1 to 255 bytes of UTF-8 without control characters, `*` or `?`. `/` divides levels, at
 * most 8: a slot of "acme/alice" also counts against "acme", all or nothing. A server that builds
 * names from what strangers send must not let them choose the levels: replace each `/` (and `%`) in
 * such a part by %2F (and %25) before joining the parts.
 *
 * BLOCKING. Acquiring, being denied and releasing make no system call and wait for nobody, once the
 * session is open and the account known. berth_open, and the first use of an account, ask berthd
 * and wait for it up to the options' timeout.
 *
 * THREADS. Every function but berth_close may be called from any thread at once, on one handle or
 * several; none from a signal handler. The library starts no thread, installs no signal handler,
 * prints nothing and leaves errno alone. It is not a cancellation point.
 *
 * FORK AND EXEC. After fork the parent keeps its slots. The child may go on using the handle: its
 * first call opens a session of the child's own; releasing a slot of the parent's there is
 * BERTH_TOO_MANY_POSTS. exec ends the process's session and releases its slots.
 *
 * DESCRIPTORS. A handle has three, all CLOEXEC and above 2. A program that closes them (closefrom)
 * ends its session: slots that it held are revoked, and the next call opens a new one.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BERTH_PUBLIC __attribute__((visibility("default")))
#else
#define BERTH_PUBLIC
#endif

/* What functions return. Numbers and sentences are those of Windows system error codes
 * (ERROR_CONNECTION_COUNT_LIMIT is 1238, 0x4D6); NO_SYSTEM_RESOURCES, TOO_MANY_POSTS and
 * CONNECTION_REFUSED have the names that its reference gives as related errors, where winerror.h has
 * those names at other numbers. */
enum berth_code {
	BERTH_SUCCESS = 0,
	BERTH_ACCESS_DENIED = 5,         /* the socket's mode, or policy, forbids it */
	BERTH_NO_SYSTEM_RESOURCES = 8,   /* no account, slot, session, descriptor or memory left */
	BERTH_INVALID_PARAMETER = 87,    /* a bad name, weight, size, flag or pointer */
	BERTH_CONNECTION_ABORTED = 1236, /* the slot was revoked, or its session ended */
	BERTH_TOO_MANY_POSTS = 1237,     /* released twice, or never held */
	BERTH_CONNECTION_COUNT_LIMIT = 1238, /* the limit is reached, and only that */
	BERTH_REVISION_MISMATCH = 1306,      /* library and berthd are of different layouts */
	BERTH_NO_SUCH_USER = 1317,           /* no such account, and no template covers it */
	BERTH_FILE_CORRUPT = 1392,           /* store or segment is damaged */
	BERTH_TIMEOUT = 1460,                /* waited, and the limit was still reached */
	BERTH_CONNECTION_REFUSED = 10061,    /* berthd can't be reached */
};

/* A handle: a session with one berthd. */
struct berth;

/* A slot held. 0 is no slot; the number means nothing outside the process that acquired it: 20 bits of the
 * session's number in this process, 22 of its record, and the lowest 22 of how often that record was used.
 * The library compares it with what it keeps of the slots that this handle holds, so a number from a
 * session that has ended, or from before a restart, never releases another slot. */
typedef uint64_t berth_slot;

/* Zero it, set size, then what you need. */
struct berth_request {
	size_t size;         /* sizeof(struct berth_request) */
	const char *account; /* borrowed for the call */
	uint32_t weight;     /* slots that this one counts for, 1 to 4095; 0 is 1 */
	int32_t timeout_ms;  /* must be 0: take it now or be denied */
	uint32_t flags;      /* must be 0 */
	const char *
		label; /* shown by `berthctl holders`; borrowed, copied, cut at 39 bytes; NULL: none */
};

struct berth_usage {
	size_t size;      /* sizeof(struct berth_usage), set by the caller */
	uint32_t limit;   /* UINT32_MAX: unlimited */
	uint32_t current; /* slots held now, by weight, those of accounts below included */
	uint32_t peak;    /* the most there ever were */
	uint32_t waiting;
	uint64_t denied; /* acquisitions refused because this account was full */
};

struct berth_options {
	size_t size;             /* sizeof(struct berth_options) */
	const char *runtime_dir; /* borrowed; NULL: $BERTH_RUNTIME_DIR (ignored in set-user-ID
	                            programs) or /run/berth */
	int32_t timeout_ms;      /* how long to wait for berthd's answer; 0 is 5000 */
	uint32_t flags;          /* must be 0; unknown flags are 87, here and elsewhere */
};

/* Opens a session. Waits for berthd up to 5 s, so that a restart of it isn't noticed. *ret is owned
 * by the caller, and written on success only.
 * Returns 5, 8, 87, 1306, 1392 or 10061. */
BERTH_PUBLIC int berth_open(const char *runtime_dir, struct berth **ret);
BERTH_PUBLIC int berth_open_options(const struct berth_options *options, struct berth **ret);

/* Releases what the handle holds and frees it; NULL is fine. No other thread may be using it. In a
 * child after fork it releases nothing of the parent's. */
BERTH_PUBLIC void berth_close(struct berth *b);

/* Acquires one slot of the account, at every level of its path or at none. *ret is written on
 * success only.
 * Returns 1238 if a level is full (ask berth_query which), 1317, 8, 87, 1236 (revoked while it was
 * being acquired), 1392, and what berth_open returns where berthd must be asked. */
BERTH_PUBLIC int berth_acquire(struct berth *b, const char *account, berth_slot *ret);
BERTH_PUBLIC int berth_acquire_req(
	struct berth *b, const struct berth_request *req, berth_slot *ret);

/* Releases a slot that this process acquired, from any thread.
 * Returns 1236 if it had been revoked (it is gone all the same), 1237 if it isn't held. */
BERTH_PUBLIC int berth_release(struct berth *b, berth_slot slot);

/* Reads an account's limit and counts. Fields beyond usage->size aren't written. An account that
 * exists only as the ancestor of others has usage too.
 * Returns 87, 1317, and what berth_open returns where berthd must be asked. */
BERTH_PUBLIC int berth_query(struct berth *b, const char *account, struct berth_usage *usage);

/* The sentence for a code, and the name: "ERROR_CONNECTION_COUNT_LIMIT". Static; never NULL. */
BERTH_PUBLIC const char *berth_strerror(int code);
BERTH_PUBLIC const char *berth_errname(int code);

#ifdef __cplusplus
}
#endif

#endif
