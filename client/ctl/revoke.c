/* SPDX-License-Identifier: MIT */

/* The verb revoke. */

#include <inttypes.h>
#include <string.h>

#include "call.h"
#include "exit-status.h"
#include "json.h"
#include "message.h"
#include "number.h"
#include "show.h"
#include "verbs.h"

static struct {
	uint64_t slot; /* as messages have it; 0: not given */
	uint32_t pid;  /* 0: not given */
	bool all;
} options;

/* Reads "RECORD:SEQ", as the verb holders shows it. */
static int slot_parse(const char *argument) {
	const char *colon = strchr(argument, ':');
	size_t length = colon ? (size_t)(colon - argument) : 0;
	struct shown shown;
	char first[16] = "";
	uint64_t record, seq;

	if (length < sizeof(first))
		memcpy(first, argument, length);
	if (!colon || number_parse(first, MESSAGE_RECORD_MAX, &record) < 0 || record == 0 ||
		number_parse(colon + 1, MESSAGE_SEQ_MAX, &seq) < 0)
		return report_usage("--slot '%s': a slot is two numbers, RECORD:SEQ, as 'berthctl "
				    "holders' shows it",
			show_text(&shown, argument));
	options.slot = message_slot(record, seq);
	return CTL_OK;
}

static const struct option_row option_table[] = {
	{
		.name = "--slot",
		.argument = "S",
		.help = "the slot that 'berthctl holders' shows as S",
		.parse = slot_parse,
	},
	{
		.name = "--pid",
		.argument = "P",
		.help = "all slots of process P",
		.number = &options.pid,
		.min = 1,
		.max = INT32_MAX,
	},
	{
		.name = "--all",
		.help = "all slots of ACCOUNT; without ACCOUNT, all slots there are",
		.flag = &options.all,
	},
	{0},
};

static int revoke_slots(char **operands) {
	struct message_revoke request = {
		.header = MESSAGE_HEADER(MESSAGE_REVOKE, request),
		.slot = options.slot,
		.pid = options.pid,
		.flags = options.all ? MESSAGE_REVOKE_ALL : 0,
	};
	int given = (options.slot != 0) + (options.pid != 0) + options.all;
	const char *account = operands[0];
	struct json j = {.out = stdout};
	struct shown slot, shown;
	const char *of = account ? " of " : "";
	const char *name = account ? show_text(&shown, account) : "";
	struct message_revoked done;
	bool matched;
	int r;

	if (given > 1)
		return report_usage("give only one of --slot, --pid and --all");
	if (given == 0 && account)
		return report_usage(
			"which slots of %s? Add --slot S or --pid P, or --all for all of them",
			name);
	if (given == 0)
		return report_usage("which slots? Give --slot S, --pid P or ACCOUNT --all");
	message_name_set(&request.name, account ? account : "");
	r = call_berthd(account, &request, &done, sizeof(done));
	if (r != CTL_OK)
		return r;
	if (globals.json) {
		json_open(&j, NULL, '{');
		json_number(&j, "revoked", done.revoked);
		json_number(&j, "finished", done.finished);
		json_close(&j, '}');
	}
	matched = done.revoked > 0 || done.finished > 0 || options.all;
	if (!matched && options.slot)
		return report_error(
			"slot %s%s%s isn't held any more; see: berthctl holders ACCOUNT",
			show_slot(&slot, options.slot), of, name);
	if (!matched)
		return report_error("process %" PRIu32 " holds no slot%s%s", options.pid, of, name);
	if (!globals.json && (done.revoked > 0 || done.finished == 0))
		printf("revoked %" PRIu64 " %s\n", done.revoked,
			done.revoked == 1 ? "slot" : "slots");
	if (!globals.json && done.finished > 0)
		printf("finished %" PRIu64 " %s\n", done.finished,
			done.finished == 1 ? "release that its server had begun"
					   : "releases that their servers had begun");
	return CTL_OK;
}

const struct verb verb_revoke = {
	.name = "revoke",
	.operands = "[ACCOUNT]",
	.operands_max = 1,
	.first = OPERAND_ACCOUNT,
	.takes_json = true,
	.takes_one = true,
	.options = option_table,
	.line = "Take slots away from their holders",
	.text = "Takes slots away from their holders. Other processes can acquire them at once.\n"
		"The holder isn't stopped: its release of the slot returns CONNECTION_ABORTED\n"
		"(1236).\n"
		"\n"
		"With ACCOUNT, only slots of that account and of the accounts below it are\n"
		"revoked.\n"
		"\n"
		"It fails if the slot isn't held, or if the process holds none; with --all it\n"
		"doesn't. If a server has begun a release and stopped in the middle, berthd\n"
		"finishes the release.\n",
	.examples = "  berthctl revoke --slot 17:33\n"
		    "  berthctl revoke alice --pid 4711\n"
		    "  berthctl revoke alice --all\n",
	.call = revoke_slots,
};
