/* SPDX-License-Identifier: MIT */

/* Gives each code of berth.h a name for programs and a sentence for people. */

#include "berth.h"
#include "util.h"

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
