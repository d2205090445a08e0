/* SPDX-License-Identifier: MIT */

/* berthctl, the administrator's command: reads the command line, and calls the verb that it
 * names. */

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "exit-status.h"
#include "help.h"
#include "name.h"
#include "options.h"
#include "runtime-dir.h"
#include "show.h"
#include "verbs.h"

static int command_line_run(int argc, char **argv) {
	const struct verb *v = NULL;
	char **operands = NULL;
	struct synopsis synopsis;
	struct shown shown;
	const char *wrong = NULL;
	int first, count = 0, r;

	r = options_read_globals(argc, argv, &first);
	if (r == CTL_OK && !globals.version && first < argc) {
		v = verb_find(argv[first]);
		if (!v)
			return report_usage(
				"there is no verb '%s'", show_text(&shown, argv[first]));
		report_verb(v->name);
		r = options_read(v, argc, argv, first, &operands);
	}
	if (r != CTL_OK)
		return r;
	if (globals.version) {
		puts("berthctl " BERTH_VERSION);
		return CTL_OK;
	}
	if (globals.help)
		return v ? help_print_verb(v) : help_print();
	if (!v)
		return report_usage("a verb is missing");
	if (globals.json && !v->takes_json)
		return report_usage("%s has no option --json", v->name);
	while (count <= v->operands_max && operands[count])
		count++;
	if (count < v->operands_min)
		return report_usage("an operand is missing: %s", help_synopsis(v, &synopsis));
	if (count > v->operands_max)
		return report_usage("'%s' is one operand too many: %s",
			show_text(&shown, operands[v->operands_max]), help_synopsis(v, &synopsis));
	if (count > 0 && v->first == OPERAND_ACCOUNT)
		wrong = name_check(operands[0], strlen(operands[0]));
	if (count > 0 && v->first == OPERAND_ACCOUNT_OR_TEMPLATE)
		wrong = name_check_any(operands[0], strlen(operands[0]));
	if (wrong)
		return report_usage("'%s': %s", show_text(&shown, operands[0]), wrong);
	return v->call(operands);
}

int main(int argc, char **argv) {
	int status;

	/* Names are UTF-8 in every locale. A job of cron runs in the C locale, and the tables that
	 * it prints must still have whole names. */
	(void)setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		(void)setlocale(LC_CTYPE, "C.UTF-8");
	globals.runtime_dir = runtime_dir_choose(NULL);
	status = command_line_run(argc, argv);
	/* Output that couldn't be written, to a full disk for instance, must not look like
	 * success. */
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	report_error("standard output can't be written: %s", strerror(errno));
	return status == CTL_OK ? CTL_FAILED : status;
}
