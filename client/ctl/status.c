/* SPDX-License-Identifier: MIT */

/* The verb status: how the daemon is. */

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "ctl.h"
#include "clock.h"
#include "message.h"
#include "util.h"

/* "3 days 4 h", "12 min 5 s", "0.4 s": the two units that matter. */
#define AGE_SIZE 40
static const char *age_text(uint64_t since, char to[AGE_SIZE]) {
	uint64_t now = clock_wall_ms();
	uint64_t ms = now > since ? now - since : 0;
	uint64_t s = ms / 1000;

	if (s < 10)
		(void)snprintf(to, AGE_SIZE, "%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
	else if (s < 60)
		(void)snprintf(to, AGE_SIZE, "%" PRIu64 " s", s);
	else if (s < 3600)
		(void)snprintf(to, AGE_SIZE, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(
			to, AGE_SIZE, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(
			to, AGE_SIZE, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s % 86400 / 3600);
	return to;
}

static void status_print(const struct message_status_reply *s) {
	char started[TIME_TEXT_SIZE], age[AGE_SIZE];
	struct ctl_shown shown;

	printf("berthd       %s, pid %" PRIu32 "\n", ctl_show(&shown, s->version), s->pid);
	printf("up           %s, since %s\n", age_text(s->started, age),
		time_text(s->started, started));
	printf("accounts     %" PRIu32 " of %" PRIu32 ": %" PRIu32 " configured, %" PRIu32
	       " by templates\n",
		s->accounts, s->accounts_max, s->configured, s->accounts_by_template);
	printf("templates    %" PRIu32 "\n", s->templates);
	printf("slots        %" PRIu32 " held, %" PRIu32 " granted to sessions, of %" PRIu32 "\n",
		s->slots_held, s->slots_granted, s->slots_max);
	if (s->slots_retired > 0)
		printf("retired      %" PRIu32 " slots, whose sequence numbers are used up\n",
			s->slots_retired);
	printf("sessions     %" PRIu32 " of %" PRIu32 "\n", s->sessions, s->sessions_max);
	printf("denied       %" PRIu64 "\n", s->denied);
	if (s->checkpointed)
		printf("checkpoint   %s ago\n", age_text(s->checkpointed, age));
	else
		printf("checkpoint   none yet\n");
	printf("runtime dir  %s\n", ctl_show(&shown, s->runtime_dir));
	printf("state dir    %s\n", ctl_show(&shown, s->state_dir));
}

static void status_json(const struct message_status_reply *s) {
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
}

int verb_status(struct ctl *c, int argc, char **argv) {
	struct message_status request = {MESSAGE_HEADER(MESSAGE_STATUS, request)};
	struct message_status_reply s;
	int r;

	(void)argc;
	(void)argv;
	r = admin_call(c, NULL, &request, &s, sizeof(s));
	if (r != CTL_OK)
		return r;
	s.version[sizeof(s.version) - 1] = '\0';
	s.runtime_dir[sizeof(s.runtime_dir) - 1] = '\0';
	s.state_dir[sizeof(s.state_dir) - 1] = '\0';
	if (c->json)
		status_json(&s);
	else
		status_print(&s);
	return CTL_OK;
}
