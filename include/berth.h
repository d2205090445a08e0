/* SPDX-License-Identifier: MIT */
#ifndef BERTH_H
#define BERTH_H

/*
 * libberth: slots of accounts, counted exactly across every process of a machine.
 *
 * An administrator sets how many slots an account may hold at once, for instance by
 * `berthctl set alice 5`. A server acquires a slot before it serves a client, and releases
 * it afterwards. An acquire that would pass the limit returns
 * BERTH_CONNECTION_COUNT_LIMIT. If a process dies, in whatever way, berthd releases its
 * slots.
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
 * ACCOUNTS
 *
 * The name of an account is 1 to 255 bytes of UTF-8. It has no control characters, no `*`
 * and no `?`. `/` divides the name into levels, at most 8. A slot of "acme/alice" also
 * counts against "acme": an acquire gets a slot at every level or at none.
 *
 * A server that builds a name from text that a stranger sent must not let the stranger
 * choose the levels. The server replaces each `/` in that text by %2F, and each `%` by %25,
 * before it joins the parts.
 *
 * RETURN VALUES
 *
 * A function that returns an int returns BERTH_SUCCESS, which is 0, or another code of enum
 * berth_code. A pointer to a result is written on success only. No function changes errno.
 *
 * BLOCKING
 *
 * Once the session is open and this process knows the account, an acquire, a denial and a
 * release wait for nothing. They make no system call, except at most one that wakes an idle
 * berthd.
 *
 * berth_open(), berth_open_options() and the first use of an account ask berthd. So does an
 * acquire for which this process has no free record, and any call that needs a new session.
 * Each of them waits for berthd up to the timeout of struct berth_options. If the
 * connection to berthd is lost, calls that need no berthd still succeed, and the library
 * reconnects when a call needs berthd.
 *
 * THREADS
 *
 * Any thread may call any function at any time, on the same handle or on others. The
 * exception is berth_close(): no other thread may use the handle then. Any thread of the
 * process may release a slot, whichever thread acquired it. The library starts no thread
 * and prints nothing. Its functions are not cancellation points.
 *
 * SIGNALS
 *
 * A signal handler must not call any of these functions. The library installs no signal
 * handler. A signal that interrupts a call changes neither its result nor its timeout.
 *
 * FORK AND EXEC
 *
 * After fork(), the parent keeps its slots. The child may use the handle: its first call
 * opens a session of its own. In the child, berth_release() of a slot of the parent returns
 * BERTH_TOO_MANY_POSTS, and berth_close() releases no slot of the parent. After exec(),
 * berthd releases the slots that the process held.
 *
 * DESCRIPTORS
 *
 * A handle has three file descriptors. They are close-on-exec, and 3 or above. A program
 * that closes them, by closefrom() for instance, ends its session: berthd revokes its
 * slots, and the next call opens a new session.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The functions that libberth exports. */
#if defined(__GNUC__)
#define BERTH_PUBLIC __attribute__((visibility("default")))
#else
#define BERTH_PUBLIC
#endif

/*
 * The codes that functions return.
 *
 * The numbers and the sentences of berth_strerror() are those of the Windows system error
 * codes; so BERTH_CONNECTION_COUNT_LIMIT is ERROR_CONNECTION_COUNT_LIMIT, 1238 (0x4D6).
 * Three names differ from winerror.h: the reference of ERROR_CONNECTION_COUNT_LIMIT lists
 * NO_SYSTEM_RESOURCES (8), TOO_MANY_POSTS (1237) and CONNECTION_REFUSED (10061) as its
 * related errors, while winerror.h has these names at other numbers. berth uses the names
 * and numbers of that reference.
 */
enum berth_code {
	/* The call has succeeded. */
	BERTH_SUCCESS = 0,

	/* This process may not use berthd: it isn't in the group of berth.sock, or berthd
	 * can't see it because of pid namespaces. */
	BERTH_ACCESS_DENIED = 5,

	/* No account, slot, session, file descriptor or memory is left. This says nothing
	 * about the account's limit. berthd's log tells which table is full. */
	BERTH_NO_SYSTEM_RESOURCES = 8,

	/* A name, weight, size, timeout, flag or pointer is not valid. */
	BERTH_INVALID_PARAMETER = 87,

	/* An administrator revoked the slot, or its session ended. The slot is gone. */
	BERTH_CONNECTION_ABORTED = 1236,

	/* The handle doesn't hold this slot: it was released before, or never acquired
	 * here. */
	BERTH_TOO_MANY_POSTS = 1237,

	/* The limit of the account, or of a level above it, is reached. No other reason has
	 * this code. */
	BERTH_CONNECTION_COUNT_LIMIT = 1238,

	/* Library and berthd are of different releases that can't work together. Install both
	 * from the same release. Then restart the server, which keeps the library that it
	 * has loaded, or restart berthd; berthd(8) describes such an upgrade. */
	BERTH_REVISION_MISMATCH = 1306,

	/* The account has no limit, and no template covers it. */
	BERTH_NO_SUCH_USER = 1317,

	/* The shared memory or berthd's store is damaged. */
	BERTH_FILE_CORRUPT = 1392,

	/* The call has waited for a slot, and the limit was still reached when its
	 * timeout expired. No function of this version waits for a slot, so none
	 * returns this code. */
	BERTH_TIMEOUT = 1460,

	/* berthd can't be reached, or didn't answer before the timeout. */
	BERTH_CONNECTION_REFUSED = 10061,
};

/*
 * A handle: this process's session with one berthd. berth_open() makes it, and the caller
 * owns it until berth_close(). One handle is enough for a process and all its threads.
 * Several handles are several sessions, each with slots of its own.
 *
 * The struct is private to libberth.
 */
struct berth;

/*
 * The number of a slot that a handle holds; 0 is no slot. It is valid until the slot is
 * released, also across restarts of berthd. It means nothing in another process.
 *
 * From the highest bit down, the number consists of 20 bits of the session's number in this
 * process, 22 bits of the record's number, and the lowest 22 bits of the number of times
 * that this record was used. The library compares the number with its own list of the slots
 * that the handle holds. So a number from a session that has ended never releases another
 * slot.
 */
typedef uint64_t berth_slot;

/*
 * The structs below have their size first, so that later versions can add fields. A program
 * zeroes the struct, sets `size` to its sizeof, and then the fields that it needs. A
 * program that was compiled for a later version passes a larger struct. The library accepts
 * it if the fields that this version doesn't know are zero; otherwise the call returns
 * BERTH_INVALID_PARAMETER.
 */

/* A request for a slot: berth_acquire_req(). */
struct berth_request {
	/* sizeof(struct berth_request). */
	size_t size;

	/* The account. The string is the caller's, and used during the call only. */
	const char *account;

	/* How many slots this one counts as, at every level: 1 to 4095. 0 stands for 1. */
	uint32_t weight;

	/* Must be 0: the call takes a slot now or is denied. Otherwise
	 * BERTH_INVALID_PARAMETER. */
	int32_t timeout_ms;

	/* Must be 0. An unknown flag is BERTH_INVALID_PARAMETER. */
	uint32_t flags;

	/* A text that `berthctl holders` shows beside the slot; NULL: none. The library
	 * copies it, and cuts it at 39 bytes, between two characters of UTF-8. */
	const char *label;
};

/* The limit and the counts of an account: berth_query(). */
struct berth_usage {
	/* sizeof(struct berth_usage), set by the caller. Fields beyond it aren't written.
	 * It must include at least `limit` and `current`. */
	size_t size;

	/* How many slots the account may hold at once: 0 to 1048575; UINT32_MAX:
	 * unlimited. */
	uint32_t limit;

	/* How many slots are held now, by weight. Slots of the accounts below this one are
	 * included. */
	uint32_t current;

	/* The highest value of `current` since the account was made. */
	uint32_t peak;

	/* How many acquires wait for a slot. 0 in this version, which has no acquire that
	 * waits. */
	uint32_t waiting;

	/* How many acquires were denied since the account was made, because this account
	 * itself, and not another level, was full. */
	uint64_t denied;
};

/* Options of a session: berth_open_options(). */
struct berth_options {
	/* sizeof(struct berth_options). */
	size_t size;

	/* The runtime directory of berthd, which contains berth.sock. NULL: the environment
	 * variable BERTH_RUNTIME_DIR, which set-user-ID and set-group-ID programs ignore;
	 * or else /run/berth. The string is the caller's, and used during the call only. */
	const char *runtime_dir;

	/* How long this call, and each later call on the handle, waits for berthd, in
	 * milliseconds. 0 stands for 5000. A negative value is BERTH_INVALID_PARAMETER. */
	int32_t timeout_ms;

	/* Must be 0. An unknown flag is BERTH_INVALID_PARAMETER. */
	uint32_t flags;
};

/*
 * Opens a session with the berthd of a runtime directory (as in struct berth_options), with
 * a timeout of 5000 milliseconds.
 *
 * While no berthd answers, the call retries until the timeout, so a restart of berthd goes
 * unnoticed. *ret is the handle. The caller owns it, and closes it by berth_close().
 *
 * Returns
 *   BERTH_SUCCESS
 *   BERTH_ACCESS_DENIED        the process may not use berthd
 *   BERTH_NO_SYSTEM_RESOURCES  no session, file descriptor or memory is left; the kernel gives no
 *                              pidfd; or the processor has no 16-byte compare-and-swap
 *   BERTH_INVALID_PARAMETER    `ret` is NULL
 *   BERTH_REVISION_MISMATCH    berthd is of another release
 *   BERTH_FILE_CORRUPT         the shared memory is damaged
 *   BERTH_CONNECTION_REFUSED   no berthd answered before the timeout
 */
BERTH_PUBLIC int berth_open(const char *runtime_dir, struct berth **ret);

/*
 * Opens a session with options, which are the caller's and used during the call only.
 *
 * Returns what berth_open() returns; BERTH_INVALID_PARAMETER also if `options` is NULL or
 * one of its fields is not valid.
 */
BERTH_PUBLIC int berth_open_options(const struct berth_options *options, struct berth **ret);

/*
 * Releases all slots that the handle holds, ends the session, and frees the handle. NULL is
 * allowed.
 *
 * No other thread may use the handle during the call or after it. In a child after fork()
 * it releases no slot of the parent.
 */
BERTH_PUBLIC void berth_close(struct berth *b);

/*
 * Acquires a slot of the account, of weight 1: at every level of the account's path, or at
 * none.
 *
 * *ret is the slot. It stays held until berth_release(), berth_close(), the death of the
 * process, or a revocation.
 *
 * Returns
 *   BERTH_SUCCESS
 *   BERTH_CONNECTION_COUNT_LIMIT  a level is full; berth_query() of each level tells which
 *   BERTH_NO_SUCH_USER            the account has no limit, and no template covers it
 *   BERTH_NO_SYSTEM_RESOURCES     no account, slot, file descriptor or memory is left; or a level
 *                                 would hold more than 1048575 slots
 *   BERTH_INVALID_PARAMETER       a pointer is NULL, or the name is not valid
 *   BERTH_CONNECTION_ABORTED      the slot was revoked while it was being acquired
 *   BERTH_FILE_CORRUPT            the shared memory is damaged
 * and, if the call has to ask berthd, also
 *   BERTH_ACCESS_DENIED, BERTH_REVISION_MISMATCH, BERTH_CONNECTION_REFUSED  as berth_open()
 */
BERTH_PUBLIC int berth_acquire(struct berth *b, const char *account, berth_slot *ret);

/*
 * Acquires a slot as the request describes it: with a weight and a label.
 *
 * Returns what berth_acquire() returns; BERTH_INVALID_PARAMETER also if `req` is NULL or
 * one of its fields is not valid.
 */
BERTH_PUBLIC int berth_acquire_req(
	struct berth *b, const struct berth_request *req, berth_slot *ret);

/*
 * Releases a slot that was acquired through this handle by this process. Any thread may
 * release it. If several threads release the same slot at once, exactly one of them
 * succeeds.
 *
 * It normally doesn't block. Only if memory is short does it ask berthd to complete the
 * release.
 *
 * Returns
 *   BERTH_SUCCESS
 *   BERTH_CONNECTION_ABORTED   the slot had been revoked. It is gone
 *   BERTH_TOO_MANY_POSTS       the handle doesn't hold the slot: it was released before, belongs to
 *                              the parent of this process, or was never acquired
 *   BERTH_INVALID_PARAMETER    `b` is NULL
 *   BERTH_FILE_CORRUPT         the shared memory is damaged. The slot is gone
 *   BERTH_NO_SYSTEM_RESOURCES  memory is short, and berthd couldn't be asked to release the slot.
 *                              Release it again later
 */
BERTH_PUBLIC int berth_release(struct berth *b, berth_slot slot);

/*
 * Reads the limit and the counts of an account, which may have changed when the call
 * returns. To know whether a slot is free, acquire it. An account that exists only as the
 * ancestor of others has counts, too; its limit is UINT32_MAX.
 *
 * Returns
 *   BERTH_SUCCESS
 *   BERTH_NO_SUCH_USER         there is no such account, and no template covers it
 *   BERTH_INVALID_PARAMETER    a pointer is NULL, or the name or `size` is not valid
 *   BERTH_FILE_CORRUPT         the shared memory is damaged
 *   BERTH_NO_SYSTEM_RESOURCES  no account, file descriptor or memory is left
 * and, if the call has to ask berthd, also
 *   BERTH_ACCESS_DENIED, BERTH_REVISION_MISMATCH, BERTH_CONNECTION_REFUSED  as berth_open()
 */
BERTH_PUBLIC int berth_query(struct berth *b, const char *account, struct berth_usage *usage);

/*
 * The sentence for a code, in English; for BERTH_CONNECTION_COUNT_LIMIT: "A connection to
 * the server could not be made because the limit on the number of concurrent connections
 * for this account has been reached." The string is static, and never NULL. Needs no
 * handle.
 */
BERTH_PUBLIC const char *berth_strerror(int code);

/*
 * The name of a code: "ERROR_CONNECTION_COUNT_LIMIT". "ERROR_UNKNOWN": the code isn't one
 * of enum berth_code. The string is static, and never NULL. Needs no handle.
 */
BERTH_PUBLIC const char *berth_errname(int code);

#ifdef __cplusplus
}
#endif

#endif
