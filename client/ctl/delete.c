/* SPDX-License-Identifier: MIT */

/* The verb delete. */

#include "call.h"
#include "exit-status.h"
#include "json.h"
#include "message.h"
#include "show.h"
#include "verbs.h"

static struct { bool force; } options;

static const struct option_row option_table[] = {
	{
		.name = "--force",
		.help = "revoke the account's slots first",
		.flag = &options.force,
	},
	{0},
};

static int delete_account(char **operands) {
	struct message_delete request = {
		.header = MESSAGE_HEADER(MESSAGE_DELETE, request),
		.flags = options.force ? MESSAGE_DELETE_FORCE : 0,
	};
	struct json j = {.out = stdout};
	struct message_done done;
	struct shown shown;
	int r;

	message_name_set(&request.name, operands[0]);
	r = call_berthd(operands[0], &request, &done, sizeof(done));
	if (r != CTL_OK)
		return r;
	if (globals.json) {
		json_open(&j, NULL, '{');
		json_string(&j, "account", operands[0]);
		json_close(&j, '}');
	} else if (show_is_terminal()) {
		printf("%s: deleted\n", show_text(&shown, operands[0]));
	}
	return CTL_OK;
}

const struct verb verb_delete = {
	.name = "delete",
	.operands = "ACCOUNT",
	.operands_min = 1,
	.operands_max = 1,
	.first = OPERAND_ACCOUNT_OR_TEMPLATE,
	.takes_json = true,
	.options = option_table,
	.line = "Delete an account or template",
	.text = "Deletes an account or template with its limit and its counts. Without --force\n"
		"it refuses to delete an account of which slots are held.\n",
	.examples = "  berthctl delete alice\n"
		    "  berthctl delete --force alice\n"
		    "  berthctl delete '*@example.com'\n",
	.call = delete_account,
};
