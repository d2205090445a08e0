/* SPDX-License-Identifier: MIT */

/* Tests the names and messages of the library's codes. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "berth.h"
#include "run.h"
#include "util.h"

static const int codes[] = {
	BERTH_SUCCESS,
	BERTH_ACCESS_DENIED,
	BERTH_NO_SYSTEM_RESOURCES,
	BERTH_INVALID_PARAMETER,
	BERTH_CONNECTION_ABORTED,
	BERTH_TOO_MANY_POSTS,
	BERTH_CONNECTION_COUNT_LIMIT,
	BERTH_REVISION_MISMATCH,
	BERTH_NO_SUCH_USER,
	BERTH_FILE_CORRUPT,
	BERTH_TIMEOUT,
	BERTH_CONNECTION_REFUSED,
};

START_TEST(code_1238_has_the_message_and_name_of_the_reference) {
	ck_assert_str_eq(berth_strerror(1238),
		"A connection to the server could not be made because the limit on the number of "
		"concurrent connections for this account has been reached.");
	ck_assert_str_eq(berth_errname(1238), "ERROR_CONNECTION_COUNT_LIMIT");
}
END_TEST

START_TEST(every_code_has_its_own_name_and_message) {
	for (size_t i = 0; i < ELEMENTS(codes); i++) {
		const char *name = berth_errname(codes[i]), *message = berth_strerror(codes[i]);

		ck_assert_msg(
			strncmp(name, "ERROR_", 6) == 0, "the name of %d is %s", codes[i], name);
		ck_assert_msg(strcmp(name, "ERROR_UNKNOWN") != 0, "%d is unknown", codes[i]);
		ck_assert_msg(message[strlen(message) - 1] == '.',
			"the message of %d doesn't end with '.': %s", codes[i], message);
		for (size_t k = 0; k < i; k++) {
			ck_assert_str_ne(name, berth_errname(codes[k]));
			ck_assert_str_ne(message, berth_strerror(codes[k]));
		}
	}
}
END_TEST

START_TEST(an_unknown_code_is_called_unknown) {
	static const int unknown[] = {-1, 1, 1239, 2147483647, -2147483647 - 1};

	for (size_t i = 0; i < ELEMENTS(unknown); i++) {
		ck_assert_str_eq(berth_errname(unknown[i]), "ERROR_UNKNOWN");
		ck_assert_uint_gt(strlen(berth_strerror(unknown[i])), 0);
	}
}
END_TEST

START_TEST(asking_for_a_name_does_not_change_errno) {
	errno = EXFULL;
	(void)berth_strerror(1238);
	(void)berth_errname(7);
	ck_assert_int_eq(errno, EXFULL);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{code_1238_has_the_message_and_name_of_the_reference},
		{every_code_has_its_own_name_and_message},
		{an_unknown_code_is_called_unknown},
		{asking_for_a_name_does_not_change_errno},
		{NULL},
	};

	return run_suites({"errors", tests});
}
