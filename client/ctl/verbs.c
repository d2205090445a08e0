/* SPDX-License-Identifier: MIT */

/* The list of verbs. */

#include <stddef.h>
#include <string.h>

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
