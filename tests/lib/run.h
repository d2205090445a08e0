/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The main function of every test program is a table of its tests and a call of run_suites:
 *
 *     int main(void) {
 *             const struct test tests[] = {
 *                     {a_slot_is_released_once},
 *                     {a_record_has_a_token_for_each_place, 0, 4},
 *                     {NULL},
 *             };
 *
 *             return run_suites({"pool", tests, .setup = set_up, .teardown = tear_down});
 *     }
 *
 * `make test T=test-pool:a_slot_is_released_once` runs only the first of these tests.
 */

#include <check.h>
#include <stdbool.h>

/* Tables leave out the members that are 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* If `end` is above `begin`, the test runs once for each value of its parameter _i from `begin` to
 * `end` - 1. Otherwise the test runs once, with _i = 0. */
struct test {
	const TTest *test;
	int begin, end;
};

struct suite {
	const char *name;
	const struct test *tests; /* ends with a test whose `test` is NULL */
	void (*setup)(
		void); /* Check runs it before each test, in the test's process; may be NULL */
	void (*teardown)(void);
	int seconds; /* Check ends a test after this time; if 0, after TEST_SECONDS */
};

/* No test depends on speed: this time only ends a test that hangs. $CK_TIMEOUT_MULTIPLIER makes the
 * time longer. */
#define TEST_SECONDS 300

/* Runs the suites one after the other and prints one summary. Returns the exit status of main: 1 if
 * a test failed, 2 if no test has the name in $CK_RUN_CASE, otherwise 0. Leaves out the tests named
 * in $WITHOUT. */
#define run_suites(...) run_all_suites((const struct suite[]){__VA_ARGS__, {0}})
int run_all_suites(const struct suite *suites);
