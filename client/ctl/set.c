/* SPDX-License-Identifier: MIT */

/* The verb set. */

#include "call.h"
#include "exit-status.h"
#include "json.h"
#include "message.h"
#include "number.h"
#include "show.h"
#include "verbs.h"

static int set_limit(char **operands) {
	struct message_set request = {.header = MESSAGE_HEADER(MESSAGE_SET, request)};
	struct json j = {.out = stdout};
	struct message_done done;
	struct shown name, shown;
	uint32_t limit;
	int r;

	if (limit_parse(operands[1], &limit) < 0)
		return report_usage("the limit '%s': " LIMIT_FORMS, show_text(&shown, operands[1]));
	message_name_set(&request.name, operands[0]);
	request.limit = message_limit(limit);
	r = call_berthd(operands[0], &request, &done, sizeof(done));
	if (r != CTL_OK)
		return r;
	if (globals.json) {
		json_open(&j, NULL, '{');
		json_string(&j, "account", operands[0]);
		json_limit(&j, "limit", request.limit);
		json_close(&j, '}');
	} else if (show_is_terminal()) {
		printf("%s: limit %s\n", show_text(&name, operands[0]),
			show_limit(&shown, request.limit));
	}
	return CTL_OK;
}

const struct verb verb_set = {
	.name = "set",
	.operands = "ACCOUNT LIMIT",
	.operands_min = 2,
	.operands_max = 2,
	.first = OPERAND_ACCOUNT_OR_TEMPLATE,
	.takes_json = true,
	.line = "Set how many slots an account may hold at once",
	.text = "Sets the limit of an account or a template. When the command returns, the new\n"
		"limit applies to every acquire. Slots that are already held stay held.\n"
		"\n"
		"The name of an ACCOUNT has 1 to 255 bytes of UTF-8 without control characters.\n"
		"'/' divides it into levels, at most 8: a slot of acme/alice also counts\n"
		"against acme.\n"
		"\n"
		"A name with '*' or '?' in it is a template. Its limit applies to each account\n"
		"that it matches and that has no limit of its own. '*' matches any number of\n"
		"characters, and '?' one; neither matches '/'. If several templates match, the\n"
		"most specific one applies.\n"
		"\n"
		"LIMIT is a whole number from 0 (every acquire is denied) to 1048575, or\n"
		"'unlimited'.\n",
	.examples = "  berthctl set alice 5\n"
		    "  berthctl set '*@example.com' 100\n"
		    "  berthctl set acme/alice unlimited\n",
	.call = set_limit,
};
