/* SPDX-License-Identifier: MIT */
#ifndef BERTH_H
#define BERTH_H

/*
 * libberth counts the slots of accounts exactly, across all processes of a machine.
 *
 * An administrator sets how many slots an account may hold at once, for instance by
 * `berthctl set alice 5`. A server acquires a slot before it serves a client, and releases
 * the slot afterwards. An acquire that would pass the limit returns
 * BERTH_CONNECTION_COUNT_LIMIT. If a process dies, in whatever way, berthd releases the
 * slots of the process.
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
 * berth_code. A function writes its result through a pointer only on success. No function
 * changes errno.
 *
 * BLOCKING
 *
 * Except in the cases of the next paragraph, berth_acquire() and berth_release() don't
 * block, even if the acquire is denied. Each call then makes at most one system call, which
 * wakes an idle berthd.
 *
 * These calls send a request to berthd: berth_open(), berth_open_options(), the first use
 * of an account, an acquire that needs more slots than berthd has given to the session, a
 * release while memory is short, and any call that needs a new session. Each of these calls
 * waits for the reply, but not longer than the timeout of struct berth_options. If the
 * connection to berthd is lost, calls that send no request still succeed. The library
 * reconnects in the next call that sends a request.
 *
 * THREADS
 *
 * Any thread may call any function at any time, on the same handle or on others. The
 * exception is berth_close(): no other thread may use the handle during this call or after
 * it. Any thread of the process may release a slot, whichever thread acquired it. The
 * library starts no thread and prints nothing. Its functions are not cancellation points.
 *
 * SIGNALS
 *
 * A signal handler must not call any of these functions. The library installs no signal
 * handler. A signal that interrupts a call changes neither the result nor the timeout of
 * that call.
 *
 * FORK AND EXEC
 *
 * After fork(), the parent keeps its slots. The child may use the handle: the first call
 * opens another session, for the child. In the child, berth_release() of a slot of the
 * parent returns BERTH_TOO_MANY_POSTS, and berth_close() releases no slot of the parent.
 * After exec(), berthd releases the slots that the process held.
 *
 * DESCRIPTORS
 *
 * A handle has three file descriptors. They are close-on-exec, and their numbers are 3 or
 * above. If a program closes these descriptors, by closefrom() for instance, the session
 * ends: berthd revokes the slots of the session, and the next call opens a new session.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Marks the functions that libberth exports. */
#if defined(__GNUC__)
#define BERTH_PUBLIC __attribute__((visibility("default")))
#else
#define BERTH_PUBLIC
#endif

/*
 * The codes that functions return.
 *
 * The numbers and the sentences of berth_strerror() are those of the Windows system error
 * codes: for instance, BERTH_CONNECTION_COUNT_LIMIT is ERROR_CONNECTION_COUNT_LIMIT, 1238
 * (0x4D6). Three numbers differ from winerror.h: here, NO_SYSTEM_RESOURCES is 8,
 * TOO_MANY_POSTS is 1237, and CONNECTION_REFUSED is 10061. berth takes these names and
 * numbers from the reference of ERROR_CONNECTION_COUNT_LIMIT, which lists them as related
 * errors.
 */
enum berth_code {
	/* The call has succeeded. */
	BERTH_SUCCESS = 0,

	/* This process isn't in the group of berth.sock, or berthd can't see the process
	 * because of pid namespaces. */
	BERTH_ACCESS_DENIED = 5,

	/* No account, slot, session, file descriptor or memory is left. The code
	 * doesn't mean that the account's limit is reached. berthd's log tells which table is
	 * full. */
	BERTH_NO_SYSTEM_RESOURCES = 8,

	/* A name, weight, size, timeout, flag or pointer is not valid. */
	BERTH_INVALID_PARAMETER = 87,

	/* An administrator revoked the slot, or the slot's session ended. The process no
	 * longer holds the slot. */
	BERTH_CONNECTION_ABORTED = 1236,

	/* The handle doesn't hold this slot: the slot was released before, or was never
	 * acquired through this handle. */
	BERTH_TOO_MANY_POSTS = 1237,

	/* The limit of the account, or of a level above it, is reached. No function returns
	 * this code for another reason. */
	BERTH_CONNECTION_COUNT_LIMIT = 1238,

	/* The library and berthd are of different versions that can't work together.
	 * Install the same version of both. Then restart the one that still runs the other
	 * version: berthd, or the server, which keeps the library that it has loaded.
	 * berthd(8) describes such an upgrade. */
	BERTH_REVISION_MISMATCH = 1306,

	/* The account has no limit, and no template matches it. */
	BERTH_NO_SUCH_USER = 1317,

	/* The shared memory or berthd's store is damaged. */
	BERTH_FILE_CORRUPT = 1392,

	/* The call has waited for a slot, and the limit was still reached when the call's
	 * timeout expired. No function of this version waits for a slot, so none returns
	 * this code. */
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
 * The number of a slot that a handle holds; 0 is no slot. The number is valid until the slot
 * is released, even if berthd is restarted. It means nothing in another process.
 *
 * From the highest bit down, the number consists of 20 bits of the session's number in this
 * process, 22 bits of the number of the slot's record in shared memory, and the lowest 22
 * bits of the number of times that this record was used. The library compares the number
 * with its own list of the slots that the handle holds. So a number from a session that has
 * ended never releases another slot.
 */
typedef uint64_t berth_slot;

/*
 * The structs below have their size first, so that later versions can add fields. A program
 * zeroes the struct, sets `size` to its sizeof, and then sets other fields. A program that
 * was compiled for a later version passes a larger struct. The library accepts this struct
 * if the fields that this version doesn't know are zero; otherwise the call returns
 * BERTH_INVALID_PARAMETER.
 */

/* A request for a slot: berth_acquire_req(). */
struct berth_request {
	/* sizeof(struct berth_request). */
	size_t size;

	/* The name of the account. The string is used during the call only. */
	const char *account;

	/* How many slots this slot counts as, at every level: 1 to 4095. 0 stands for 1. */
	uint32_t weight;

	/* Must be 0: no call waits for a slot. */
	int32_t timeout_ms;

	/* Must be 0. */
	uint32_t flags;

	/* A text that `berthctl holders` shows beside the slot. NULL means no label. The
	 * library copies at most 39 bytes of the text, and cuts it only between two
	 * characters of UTF-8. */
	const char *label;
};

/* The limit and the counts of an account: berth_query(). */
struct berth_usage {
	/* sizeof(struct berth_usage), set by the caller. The function doesn't write fields
	 * beyond this size. The size must include at least `limit` and `current`. */
	size_t size;

	/* How many slots the account may hold at once: 0 to 1048575. UINT32_MAX means
	 * unlimited. */
	uint32_t limit;

	/* How many slots are held now, by weight. Slots of the accounts below this one are
	 * included. */
	uint32_t current;

	/* The highest value of `current` since the account was made. */
	uint32_t peak;

	/* How many acquires wait for a slot. This number is 0, because no acquire of this
	 * version waits. */
	uint32_t waiting;

	/* How many acquires were denied, since the account was made, because the limit of
	 * this account was reached. Acquires that were denied at another level don't
	 * count. */
	uint64_t denied;
};

/* Options of a session: berth_open_options(). */
struct berth_options {
	/* sizeof(struct berth_options). */
	size_t size;

	/* The runtime directory of berthd, which contains berth.sock. NULL means the
	 * directory in the environment variable BERTH_RUNTIME_DIR. If the variable is unset
	 * or empty, NULL means /run/berth. Set-user-ID and set-group-ID programs ignore the
	 * variable. The string is used during the call only. */
	const char *runtime_dir;

	/* How long this call, and each later call on the handle, waits for berthd, in
	 * milliseconds. 0 stands for 5000. Must not be negative. */
	int32_t timeout_ms;

	/* Must be 0. */
	uint32_t flags;
};

/*
 * Opens a session with the berthd of a runtime directory (as in struct berth_options), with
 * a timeout of 5000 milliseconds.
 *
 * While no berthd answers, the call retries until the timeout. So the call succeeds even if
 * berthd is being restarted. *ret is the handle. The caller owns the handle, and closes it
 * by berth_close().
 *
 * Returns
 *   BERTH_SUCCESS
 *   BERTH_ACCESS_DENIED        the process may not use berthd
 *   BERTH_NO_SYSTEM_RESOURCES  no session, file descriptor or memory is left; the kernel gives no
 *                              pidfd; or the processor has no 16-byte compare-and-swap
 *   BERTH_INVALID_PARAMETER    `ret` is NULL
 *   BERTH_REVISION_MISMATCH    berthd is of another version, which can't work with this library
 *   BERTH_FILE_CORRUPT         the shared memory is damaged
 *   BERTH_CONNECTION_REFUSED   no berthd answered before the timeout
 */
BERTH_PUBLIC int berth_open(const char *runtime_dir, struct berth **ret);

/*
 * Opens a session with options. The struct is used during the call only.
 *
 * Returns what berth_open() returns; BERTH_INVALID_PARAMETER also if `options` is NULL or
 * one of its fields is not valid.
 */
BERTH_PUBLIC int berth_open_options(const struct berth_options *options, struct berth **ret);

/*
 * Releases all slots that the handle holds, ends the session, and frees the handle. NULL is
 * allowed.
 *
 * No other thread may use the handle during the call or after it. In a child after fork(),
 * the call releases no slot of the parent.
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
 *   BERTH_NO_SUCH_USER            the account has no limit, and no template matches it
 *   BERTH_NO_SYSTEM_RESOURCES     no account, slot, file descriptor or memory is left; or a level
 *                                 would hold more than 1048575 slots
 *   BERTH_INVALID_PARAMETER       a pointer is NULL, or the name is not valid
 *   BERTH_CONNECTION_ABORTED      the slot was revoked while it was being acquired
 *   BERTH_FILE_CORRUPT            the shared memory is damaged
 * and, if the call sends a request to berthd, also these codes of berth_open()
 *   BERTH_ACCESS_DENIED, BERTH_REVISION_MISMATCH, BERTH_CONNECTION_REFUSED
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
 * The call blocks only if memory is short: then it sends berthd a request to release the
 * slot.
 *
 * Returns
 *   BERTH_SUCCESS
 *   BERTH_CONNECTION_ABORTED   the slot was revoked before, so the process no longer holds it
 *   BERTH_TOO_MANY_POSTS       the handle doesn't hold the slot: the slot was released before,
 *                              belongs to the parent of this process, or was never acquired
 *   BERTH_INVALID_PARAMETER    `b` is NULL
 *   BERTH_FILE_CORRUPT         the shared memory is damaged; the process no longer holds the slot
 *   BERTH_NO_SYSTEM_RESOURCES  memory is short, and the library couldn't send berthd the request;
 *                              call berth_release() again later
 */
BERTH_PUBLIC int berth_release(struct berth *b, berth_slot slot);

/*
 * Reads the limit and the counts of an account. A count may already have changed when the
 * call returns. To find out whether a slot is free, acquire a slot. An account that exists
 * only as the ancestor of others has counts, too; its limit is UINT32_MAX.
 *
 * Returns
 *   BERTH_SUCCESS
 *   BERTH_NO_SUCH_USER         the account doesn't exist, and no template matches it
 *   BERTH_INVALID_PARAMETER    a pointer is NULL, or the name or `size` is not valid
 *   BERTH_FILE_CORRUPT         the shared memory is damaged
 *   BERTH_NO_SYSTEM_RESOURCES  no account, file descriptor or memory is left
 * and, if the call sends a request to berthd, also these codes of berth_open()
 *   BERTH_ACCESS_DENIED, BERTH_REVISION_MISMATCH, BERTH_CONNECTION_REFUSED
 */
BERTH_PUBLIC int berth_query(struct berth *b, const char *account, struct berth_usage *usage);

/*
 * Returns the sentence for a code, in English; for BERTH_CONNECTION_COUNT_LIMIT: "A
 * connection to the server could not be made because the limit on the number of concurrent
 * connections for this account has been reached." The string is static, and never NULL.
 * The function needs no handle.
 */
BERTH_PUBLIC const char *berth_strerror(int code);

/*
 * Returns the name of a code, for instance "ERROR_CONNECTION_COUNT_LIMIT", or
 * "ERROR_UNKNOWN" if the code isn't one of enum berth_code. The string is static, and never
 * NULL. The function needs no handle.
 */
BERTH_PUBLIC const char *berth_errname(int code);

#ifdef __cplusplus
}
#endif

#endif
