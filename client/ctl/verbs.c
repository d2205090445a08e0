/* SPDX-License-Identifier: MIT */

/* The list of verbs, and the table of the options that every verb takes. */

#include <stdlib.h>
#include <string.h>

#include "exit-status.h"
#include "runtime-dir.h"
#include "verbs.h"

const struct verb *const verbs[] = {
	&verb_set,
	&verb_get,
	&verb_list,
	&verb_delete,
	&verb_holders,
	&verb_revoke,
	&verb_import,
	&verb_export,
	&verb_status,
	&verb_run,
	&verb_help,
	NULL,
};

const struct verb *verb_find(const char *name) {
	for (size_t i = 0; verbs[i]; i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

struct globals globals;

static int runtime_dir_parse(const char *argument) {
	if (!*argument)
		return report_usage("--runtime-dir is empty");
	globals.runtime_dir = argument;
	return CTL_OK;
}

const struct option_row global_options[] = {
	{
		.name = "--runtime-dir",
		.argument = "DIR",
		.help = "where berthd's sockets are; otherwise $BERTH_RUNTIME_DIR "
			"or\n" DEFAULT_RUNTIME_DIR,
		.parse = runtime_dir_parse,
	},
	{
		.name = "--json",
		.help = "show JSON instead of text",
		.flag = &globals.json,
	},
	{
		.name = "--help",
		.letter = 'h',
		.help = "explain",
		.flag = &globals.help,
	},
	{
		.name = "--version",
		.help = "show berthctl's version",
		.flag = &globals.version,
	},
	{0},
};
