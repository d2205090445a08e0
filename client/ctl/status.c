/* SPDX-License-Identifier: MIT */

/* The verb status. */

#include <inttypes.h>

#include "call.h"
#include "clock.h"
#include "exit-status.h"
#include "json.h"
#include "message.h"
#include "show.h"
#include "verbs.h"

/* The time since `since`, in its two largest units: "0.4 s", "12 min 5 s", "3 d 4 h". */
static const char *show_age(struct shown *to, uint64_t since) {
	uint64_t now = clock_wall_ms();
	uint64_t ms = now > since ? now - since : 0;
	uint64_t s = ms / 1000;
	char *text = to->text; /* cppcheck-suppress ctuuninitvar; only its address is used */

	if (s < 10)
		(void)snprintf(text, SHOWN_SIZE, "%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
	else if (s < 60)
		(void)snprintf(text, SHOWN_SIZE, "%" PRIu64 " s", s);
	else if (s < 3600)
		(void)snprintf(text, SHOWN_SIZE, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(
			text, SHOWN_SIZE, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(text, SHOWN_SIZE, "%" PRIu64 " d %" PRIu64 " h", s / 86400,
			s % 86400 / 3600);
	return text;
}

static int status_print_json(const struct message_status_reply *s) {
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_string(&j, "version", s->version);
	json_number(&j, "pid", s->pid);
	json_time(&j, "started", s->started);
	json_number(&j, "accounts", s->accounts);
	json_number(&j, "accounts_by_template", s->accounts_by_template);
	json_number(&j, "accounts_max", s->accounts_max);
	json_number(&j, "configured", s->configured);
	json_number(&j, "templates", s->templates);
	json_number(&j, "slots_held", s->slots_held);
	json_number(&j, "slots_granted", s->slots_granted);
	json_number(&j, "slots_max", s->slots_max);
	json_number(&j, "slots_retired", s->slots_retired);
	json_number(&j, "sessions", s->sessions);
	json_number(&j, "sessions_max", s->sessions_max);
	json_number(&j, "denied", s->denied);
	json_time(&j, "checkpointed", s->checkpointed);
	json_string(&j, "runtime_dir", s->runtime_dir);
	json_string(&j, "state_dir", s->state_dir);
	json_close(&j, '}');
	return CTL_OK;
}

static int show_status(char **operands) {
	struct message_status request = {MESSAGE_HEADER(MESSAGE_STATUS, request)};
	struct message_status_reply s;
	struct shown shown, age;
	int r;

	(void)operands;
	r = call_berthd(NULL, &request, &s, sizeof(s));
	if (r != CTL_OK)
		return r;
	s.version[sizeof(s.version) - 1] = '\0';
	s.runtime_dir[sizeof(s.runtime_dir) - 1] = '\0';
	s.state_dir[sizeof(s.state_dir) - 1] = '\0';
	if (globals.json)
		return status_print_json(&s);
	printf("berthd       %s, pid %" PRIu32 "\n", show_text(&shown, s.version), s.pid);
	printf("up           %s, since %s\n", show_age(&age, s.started),
		show_time(&shown, s.started));
	printf("accounts     %" PRIu32 " of %" PRIu32 ": %" PRIu32 " configured, %" PRIu32
	       " by templates\n",
		s.accounts, s.accounts_max, s.configured, s.accounts_by_template);
	printf("templates    %" PRIu32 "\n", s.templates);
	printf("slots        %" PRIu32 " held, %" PRIu32 " granted to sessions, of %" PRIu32 "\n",
		s.slots_held, s.slots_granted, s.slots_max);
	if (s.slots_retired > 0)
		printf("retired      %" PRIu32 " slots, whose sequence numbers are used up\n",
			s.slots_retired);
	printf("sessions     %" PRIu32 " of %" PRIu32 "\n", s.sessions, s.sessions_max);
	printf("denied       %" PRIu64 "\n", s.denied);
	if (s.checkpointed)
		printf("checkpoint   %s ago\n", show_age(&age, s.checkpointed));
	else
		printf("checkpoint   none yet\n");
	printf("runtime dir  %s\n", show_text(&shown, s.runtime_dir));
	printf("state dir    %s\n", show_text(&shown, s.state_dir));
	return CTL_OK;
}

const struct verb verb_status = {
	.name = "status",
	.operands = "",
	.takes_json = true,
	.line = "Show the state of berthd",
	.text = "Shows berthd's version, process and age; how many accounts, slots and sessions\n"
		"there are and may be; how many slots are retired, because their sequence\n"
		"numbers are used up; how many acquires were denied; when the counts were last\n"
		"written to disk; and berthd's directories.\n",
	.examples = "  berthctl status\n"
		    "  berthctl --runtime-dir /run/berth@mail status\n",
	.call = show_status,
};
