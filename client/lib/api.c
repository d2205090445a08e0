/* SPDX-License-Identifier: MIT */

/* The public functions that open and close handles, and those that describe codes of berth.h. */

#include "ask.h"
#include "fork.h"
#include "clock.h"
#include "acquire-general.h"
#include "runtime-dir.h"

#define TIMEOUT_MS 5000

/* -- handles ----------------------------------------------------------------------------------- */

int berth_open_options(const struct berth_options *options, struct berth **ret) {
	int r, timeout_ms, error = errno;
	struct session *s;
	struct berth *b;

	if (!options || !ret || !sized_is_known(options, options->size, sizeof(*options)) ||
		options->timeout_ms < 0 || options->flags != 0)
		return BERTH_INVALID_PARAMETER;
	if (!cas16_is_there())
		return BERTH_NO_SYSTEM_RESOURCES;
	fork_watch();
	fork_check();
	timeout_ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_MS;
	r = handle_new(runtime_dir_choose(options->runtime_dir), timeout_ms, &b);
	if (r == 0) {
		r = ask_session(b, clock_monotonic_ms() + timeout_ms, &s);
		if (r == 0) {
			*ret = b;
		} else {
			handle_unlink(b);
			handle_free(b);
		}
	}
	errno = error;
	return general_code(r);
}

int berth_open(const char *runtime_dir, struct berth **ret) {
	struct berth_options options = {.size = sizeof(options), .runtime_dir = runtime_dir};

	return berth_open_options(&options, ret);
}

void berth_close(struct berth *b) {
	int cancel_state, error = errno;
	struct session *s;

	if (!b)
		return;
	fork_check();
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	s = load_acquire(&b->current);
	if (s)
		pool_release_all(s->pool);
	/* The handle is unlinked before the goodbye, so that a thread which ends meanwhile doesn't
	 * touch a record of the session. */
	handle_unlink(b);
	ask_goodbye(b);
	handle_free(b);
	(void)pthread_setcancelstate(cancel_state, NULL);
	errno = error;
}

/* -- codes ------------------------------------------------------------------------------------- */

struct error {
	int code;
	const char *name;
	const char *sentence;
};

static const struct error errors[] = {
	{BERTH_SUCCESS, "ERROR_SUCCESS", "The operation completed successfully."},
	{BERTH_ACCESS_DENIED, "ERROR_ACCESS_DENIED", "Access is denied."},
	{BERTH_NO_SYSTEM_RESOURCES, "ERROR_NO_SYSTEM_RESOURCES",
		"Insufficient system resources exist to complete the requested service."},
	{BERTH_INVALID_PARAMETER, "ERROR_INVALID_PARAMETER", "The parameter is incorrect."},
	{BERTH_CONNECTION_ABORTED, "ERROR_CONNECTION_ABORTED",
		"The network connection was aborted by the local system."},
	{BERTH_TOO_MANY_POSTS, "ERROR_TOO_MANY_POSTS", "Too many posts were made to a semaphore."},
	{BERTH_CONNECTION_COUNT_LIMIT, "ERROR_CONNECTION_COUNT_LIMIT",
		"A connection to the server could not be made because the limit on the number of "
		"concurrent connections for this account has been reached."},
	{BERTH_REVISION_MISMATCH, "ERROR_REVISION_MISMATCH",
		"Indicates two revision levels are incompatible."},
	{BERTH_NO_SUCH_USER, "ERROR_NO_SUCH_USER", "The specified account does not exist."},
	{BERTH_FILE_CORRUPT, "ERROR_FILE_CORRUPT",
		"The file or directory is corrupted and unreadable."},
	{BERTH_TIMEOUT, "ERROR_TIMEOUT",
		"This operation returned because the timeout period expired."},
	{BERTH_CONNECTION_REFUSED, "ERROR_CONNECTION_REFUSED",
		"No connection could be made because the target machine actively refused it."},
};

static const struct error unknown = {-1, "ERROR_UNKNOWN", "The error code is not one of berth's."};

static const struct error *error_find(int code) {
	for (size_t i = 0; i < ELEMENTS(errors); i++)
		if (errors[i].code == code)
			return &errors[i];
	return &unknown;
}

const char *berth_strerror(int code) {
	return error_find(code)->sentence;
}

const char *berth_errname(int code) {
	return error_find(code)->name;
}
