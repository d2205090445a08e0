/* SPDX-License-Identifier: MIT */

/*
 * Runs the tests of a program with Check. Each test is a test case of its own, named like the
 * function, because $CK_RUN_CASE can select a test case by its name, but not a single test.
 */

#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* $WITHOUT lists the tests that a tool can't run, separated by spaces. */
static bool is_excluded(const char *name) {
	const char *without = getenv("WITHOUT"), *at = without;
	size_t n = strlen(name);

	for (; at && (at = strstr(at, name)); at += n)
		if ((at == without || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
			return true;
	return false;
}

/* True if there is a test of this name. If there is none, Check itself would report success. */
static bool is_known(const struct suite *suites, const char *name) {
	for (const struct suite *s = suites; s->name; s++)
		for (const struct test *t = s->tests; t->test; t++)
			if (strcmp(t->test->name, name) == 0 && !is_excluded(name))
				return true;
	return false;
}

static TCase *case_of(const struct suite *s, const struct test *t) {
	TCase *c = tcase_create(t->test->name);

	tcase_set_timeout(c, s->seconds ? s->seconds : TEST_SECONDS);
	if (s->setup || s->teardown)
		tcase_add_checked_fixture(c, s->setup, s->teardown);
	if (t->end > t->begin)
		tcase_add_loop_test(c, t->test, t->begin, t->end);
	else
		tcase_add_test(c, t->test);
	return c;
}

int run_all_suites(const struct suite *suites) {
	const char *only = getenv("CK_RUN_CASE");
	SRunner *runner = srunner_create(NULL);
	int failed;
	bool known = !only || is_known(suites, only);

	if (!known)
		(void)fprintf(stderr, "There is no test '%s' here. There are:\n", only);
	for (const struct suite *s = suites; s->name; s++) {
		Suite *made = suite_create(s->name);

		for (const struct test *t = s->tests; t->test; t++)
			if (!is_excluded(t->test->name) && known)
				suite_add_tcase(made, case_of(s, t));
			else if (!is_excluded(t->test->name))
				(void)fprintf(stderr, "    %s\n", t->test->name);
		srunner_add_suite(runner, made);
	}
	if (known)
		srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return !known ? 2 : failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
