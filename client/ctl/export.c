/* SPDX-License-Identifier: MIT */

/* The verb export: the limits in the text format of import-format.h, which import reads. */

#include "exit-status.h"
#include "import-format.h"
#include "protocol.h"
#include "rows.h"
#include "verbs.h"

static int export_limits(char **operands) {
	struct rows rows;
	int r;

	(void)operands;
	r = rows_fetch("", MESSAGE_LIST_CONFIGURED, &rows);
	if (r != CTL_OK)
		return r;
	printf("# berth limits, %zu accounts and templates\n", rows.count);
	for (size_t i = 0; i < rows.count; i++)
		line_write(stdout, rows.row[i].name, rows.row[i].limit);
	rows_deinit(&rows);
	return CTL_OK;
}

const struct verb verb_export = {
	.name = "export",
	.operands = "",
	.line = "Write all limits, for import",
	.text = "Writes every limit that was set, of accounts and templates, in the format that\n"
		"'berthctl import' reads. Limits that accounts have from templates aren't\n"
		"written; 'berthctl list --json' has those, and the counts.\n",
	.examples = "  berthctl export > limits.txt\n"
		    "  berthctl export | ssh other berthctl import -\n",
	.call = export_limits,
};
