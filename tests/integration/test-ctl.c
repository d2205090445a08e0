/* SPDX-License-Identifier: MIT */

/* Tests what scripts and administrators get from berthctl: exit statuses, JSON, and messages that
 * say what to do. */

#include <grp.h>

#include "steps.h"

/* -- a checker of JSON ------------------------------------------------------------------------- */

/* Each of these functions returns the end of the text that it has checked, or NULL if the text is
 * wrong. */
static const char *json_value(const char *p);

static const char *blanks(const char *p) {
	return p + strspn(p, " \t\r\n");
}

static const char *json_text(const char *p) {
	if (*p++ != '"')
		return NULL;
	for (; *p != '"'; p++) {
		if ((unsigned char)*p < 0x20)
			return NULL;
		if (*p != '\\')
			continue;
		p++;
		if (*p == 'u' && strspn(p + 1, "0123456789abcdefABCDEF") >= 4)
			p += 4;
		else if (!*p || !strchr("\"\\/bfnrt", *p))
			return NULL;
	}
	return p + 1;
}

/* Checks the members of an object if `keys`, otherwise those of an array. Then checks the closing
 * bracket. */
static const char *json_members(const char *p, char end, bool keys) {
	p = blanks(p);
	if (*p == end)
		return p + 1;
	for (;;) {
		if (keys) {
			p = json_text(blanks(p));
			if (!p || *(p = blanks(p)) != ':')
				return NULL;
			p++;
		}
		p = json_value(p);
		if (!p)
			return NULL;
		p = blanks(p);
		if (*p == end)
			return p + 1;
		if (*p++ != ',')
			return NULL;
	}
}

static const char *json_value(const char *p) {
	size_t n;

	p = blanks(p);
	if (*p == '{')
		return json_members(p + 1, '}', true);
	if (*p == '[')
		return json_members(p + 1, ']', false);
	if (*p == '"')
		return json_text(p);
	if (strncmp(p, "null", 4) == 0 || strncmp(p, "true", 4) == 0)
		return p + 4;
	if (strncmp(p, "false", 5) == 0)
		return p + 5;
	n = strspn(p, "0123456789");
	return n > 0 && (n == 1 || *p != '0') ? p + n : NULL;
}

static bool json_is_valid(const char *text) {
	const char *end = json_value(text);

	return end && *blanks(end) == '\0';
}

#define expect_json(want, ...)                                                \
	do {                                                                  \
		const char *json_ = expect_ctl(0, (want), __VA_ARGS__);       \
		ck_assert_msg(json_is_valid(json_), "wrong JSON: %s", json_); \
	} while (0)

START_TEST(the_check_of_json_can_fail) {
	static const char *const wrong[] = {"", "{", "{\"a\":}", "[1,]", "{a:1}", "01", "\"\\x\"",
		"\"\n\"", "{} {}", "{\"a\":1,}", "nul"};

	for (size_t i = 0; i < COUNT_OF(wrong); i++)
		ck_assert_msg(!json_is_valid(wrong[i]), "%s", wrong[i]);
	ck_assert(json_is_valid("{\"a\":[1,null,\"\\u00e9\\n\",{}],\"b\":true}\n"));
}
END_TEST

/* -- usage ------------------------------------------------------------------------------------- */

START_TEST(wrong_usage_gets_2_and_a_hint) {
	expect_ctl(2, "a verb is missing", "--");
	expect_ctl(2, "no verb 'frobnicate'", "frobnicate");
	expect_ctl(2, "berthctl help", "frobnicate");
	expect_ctl(2, "an operand is missing", "set", "alice");
	expect_ctl(2, "one operand too many", "set", "alice", "5", "6");
	expect_ctl(2, "an operand is missing", "get");
	expect_ctl(2, "set has no option --force", "set", "alice", "5", "--force");
	expect_ctl(2, "get has no option --force", "--force", "get", "alice");
	expect_ctl(2, "export has no option --json", "export", "--json");
	expect_ctl(2, "'--force=1' takes no argument", "delete", "alice", "--force=1");
	expect_ctl(2, "'--help=1' takes no argument", "--help=1");
	expect_ctl(2, "--runtime-dir is empty", "status", "--runtime-dir", "");
	expect_ctl(2, "no option '--nonsense'", "get", "alice", "--nonsense");
	expect_ctl(2, "no option '-x'", "get", "-x");
	expect_ctl(2, "needs an argument", "revoke", "--slot");
	expect_ctl(2, "which slots", "revoke");
	expect_ctl(2, "which slots of alice", "revoke", "alice");
	expect_ctl(2, "only one of", "revoke", "--all", "--pid", "1");
	expect_ctl(2, "RECORD:SEQ", "revoke", "--slot", "5");
	expect_ctl(2, "--pid", "revoke", "--pid", "0");
	expect_ctl(2, "an operand is missing", "run", "alice");
	expect_ctl(2, "--weight", "run", "--weight", "4096", "alice", "--", "true");
	expect_ctl(2, "-E", "run", "-E", "256", "alice", "--", "true");
	expect_ctl(2, "no verb 'nothing'", "help", "nothing");
}
END_TEST

START_TEST(each_verb_has_help_with_examples) {
	static const char *const verbs[] = {"set", "get", "list", "delete", "holders", "revoke",
		"import", "export", "status", "run", "help"};

	expect_ctl(0, "Exit status", "help");
	expect_ctl(0, "Exit status", "--help");
	expect_ctl(0, "berthctl 0.", "--version");
	for (size_t i = 0; i < COUNT_OF(verbs); i++) {
		const char *usage = text_of("Usage: berthctl %s", verbs[i]);

		expect_ctl(0, usage, "help", verbs[i]);
		expect_ctl(0, "Example", "help", verbs[i]);
		expect_ctl(0, usage, verbs[i], "--help");
		expect_ctl(0, verbs[i], "help");
	}
}
END_TEST

START_TEST(verbs_that_do_not_exist_yet_are_not_in_the_help) {
	static const char *const later[] = {
		"top", "watch", "explain", "diagnose", "backup", "metrics", "exec", "lease"};

	for (size_t i = 0; i < COUNT_OF(later); i++) {
		ck_assert_msg(!strstr(expect_ctl(0, "", "help"), text_of("\n  %s ", later[i])),
			"%s", later[i]);
		expect_ctl(2, "no verb", later[i]);
	}
}
END_TEST

/* -- reports ----------------------------------------------------------------------------------- */

START_TEST(reports_are_json_on_request) {
	struct berth *b = open_session();
	struct berth_request req = {.size = sizeof(req),
		.account = "quote\"back\\slash",
		.label = "\x1B[2J\xFF \"label\" \\"};
	berth_slot slot;

	expect_json("{\"accounts\":[]}", "list", "--json");
	expect_json("\"limit\":3", "set", "quote\"back\\slash", "3", "--json");
	expect_json("\"limit\":null", "set", "acme/alice", "unlimited", "--json");
	expect_json("", "set", "*@example.com", "7", "--json");
	expect_code(BERTH_SUCCESS, berth_acquire_req(b, &req, &slot));
	(void)acquire_slot(b, "acme/alice");
	expect_json("\"limit\":3,\"current\":1,\"peak\":1,\"denied\":0", "get",
		"quote\"back\\slash", "--json");
	expect_json("\"source\":\"account\"", "get", "acme/alice", "--json");
	expect_json("\"source\":\"none\"", "get", "acme", "--json");
	expect_json("\"template\":true", "get", "*@example.com", "--json");
	expect_json("{\"accounts\":[", "list", "--json");
	expect_json("\"account\":\"quote\\\"back\\\\slash\"", "list", "--json");
	expect_json("\"label\":\"\\u001b[2J\\ufffd \\\"label\\\" \\\\\"", "holders",
		"quote\"back\\slash", "--json");
	expect_json("\"slots_held\":2", "status", "--json");
	expect_json("{\"revoked\":1,\"finished\":0}", "revoke", "acme", "--all", "--json");
	expect_json("{\"revoked\":1,\"finished\":0}", "revoke", "--all", "--json");
	expect_json("", "delete", "acme/alice", "--json");
	expect_json("{\"holders\":[]}", "holders", "quote\"back\\slash", "--json");
	berth_close(b);
}
END_TEST

START_TEST(tables_have_a_line_for_each_row) {
	struct berth *b = open_session();
	const char *output;

	set_limits("alice 5", "acme/bob unlimited", "* 2");
	(void)acquire_slot(b, "acme/bob");
	output = expect_ctl(0, "ACCOUNT", "list");
	ck_assert_msg(strstr(output, "alice") && strstr(output, "acme/bob") &&
			      strstr(output, "unlimited") && strstr(output, "SOURCE"),
		"%s", output);
	output = expect_ctl(0, "acme/bob", "list", "acme/*");
	ck_assert_msg(!strstr(output, "alice"), "%s", output);
	expect_ctl(0, "SLOT", "holders", "acme");
	expect_ctl(0, "limit    5", "get", "alice");
	expect_ctl(0, "sessions     1 of", "status");
	berth_close(b);
}
END_TEST

START_TEST(missing_accounts_slots_and_files_get_1) {
	expect_ctl(1, "no account 'nobody'", "get", "nobody");
	expect_ctl(1, "no account 'nobody'", "delete", "nobody");
	expect_ctl(1, "no account 'nobody'", "holders", "nobody");
	expect_ctl(1, "no account 'nobody'", "revoke", "nobody", "--all");
	expect_ctl(1, "isn't held any more", "revoke", "--slot", "17:4");
	expect_ctl(1, "holds no slot", "revoke", "--pid", "999999");
	expect_ctl(1, "No such file", "import", "/nonexistent/limits");
	expect_ctl(1, "no account '*'", "get", "*");
}
END_TEST

START_TEST(delete_is_refused_while_slots_are_held_unless_forced) {
	struct berth *b = open_session();
	berth_slot slot, below;

	set_limits("acme 5", "acme/alice 5");
	slot = acquire_slot(b, "acme");
	expect_ctl(1, "--force", "delete", "acme");
	ck_assert_uint_eq(usage_of(b, "acme").limit, 5);
	expect_ctl(0, "", "delete", "--force", "acme");
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, slot));
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "acme", &slot));

	/* A slot of a descendant counts at its ancestors. */
	set_limit("acme", "5");
	below = acquire_slot(b, "acme/alice");
	expect_ctl(1, "1 slot", "delete", "acme");
	expect_ctl(0, "", "delete", "acme", "--force");
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, below));
	/* The descendant stays. So the account stays, too, but it has no limit any more. */
	(void)acquire_slot(b, "acme/alice");
	ck_assert_uint_eq(usage_of(b, "acme").limit, UINT32_MAX);
	berth_close(b);
}
END_TEST

START_TEST(a_deleted_and_remade_account_begins_at_0) {
	struct berth *b = open_session();

	set_limit("alice", "5");
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "", "delete", "--force", "alice");
	set_limit("alice", "1");
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	ck_assert_uint_eq(usage_of(b, "alice").peak, 0);
	(void)acquire_slot(b, "alice");
	expect_denied(b, "alice");
	berth_close(b);
}
END_TEST

/* -- run --------------------------------------------------------------------------------------- */

#define SENTENCE                                                                           \
	"A connection to the server could not be made because the limit on the number of " \
	"concurrent connections for this account has been reached. (1238, 0x4D6)"

START_TEST(a_denied_run_names_the_full_level) {
	struct berth *b = open_session();

	set_limits("alice 5", "alice/10.0.0.1 9");
	acquire_slots(b, "alice", 5, NULL);
	ck_assert_str_eq(expect_ctl(75, "", "run", "alice/10.0.0.1", "--", "echo", "ran"),
		"alice/10.0.0.1: " SENTENCE " — alice holds 5 of 5\n");
	set_limit("alice/10.0.0.1", "0");
	ck_assert_str_eq(expect_ctl(75, "", "run", "alice/10.0.0.1", "--", "echo", "ran"),
		"alice/10.0.0.1: " SENTENCE " — alice/10.0.0.1 holds 0 of 0\n");
	ck_assert_str_eq(expect_ctl(75, "", "run", "alice", "--", "echo", "ran"),
		"alice: " SENTENCE " — alice holds 5 of 5\n");
	expect_ctl(3, SENTENCE, "run", "-E", "3", "alice", "--", "echo", "ran");
	expect_ctl(0, SENTENCE, "run", "-E", "0", "alice", "--", "echo", "ran");
	/* If a level has less left than the weight of an acquire, the acquire is denied. */
	set_limit("alice", "7");
	expect_ctl(75, "alice holds 5 of 7", "run", "--weight", "3", "alice", "--", "true");
	berth_close(b);
}
END_TEST

START_TEST(run_exits_with_the_status_of_its_command) {
	set_limit("alice", "1");
	ck_assert_str_eq(expect_ctl(0, "", "run", "alice", "--", "echo", "-n", "ran"), "ran");
	expect_ctl(0, "", "run", "alice", "true");
	expect_ctl(7, "", "run", "alice", "--", "sh", "-c", "exit 7");
	expect_ctl(128 + SIGTERM, "", "run", "alice", "--", "sh", "-c", "kill -TERM $$");
	expect_ctl(127, "no-such-command", "run", "alice", "--", "no-such-command");
	expect_ctl(126, "/dev/null", "run", "alice", "--", "/dev/null");
	expect_ctl(75, "", "run", "-E", "0", "alice", "--", "sh", "-c", "exit 75");
	ck_assert_int_eq(current_of("alice"), 0);
	expect_ctl(1, "berthctl set stranger LIMIT", "run", "stranger", "--", "true");
}
END_TEST

static void child_runs_sleep(struct child *c, void *data) {
	(void)data;
	child_send(c, ctl(NULL, "run", "--weight", "2", "--label", "nightly", "alice", "--",
			      "sleep", "60", NULL));
	_exit(0);
}

static bool nightly_holds(void *data) {
	const char *output;

	(void)data;
	return ctl(&output, "holders", "alice", "--json", NULL) == 0 &&
	       strstr(output, "\"label\":\"nightly\"");
}

START_TEST(run_holds_its_slot_with_weight_and_label_while_the_command_runs) {
	struct child c;
	const char *output;
	pid_t run;

	set_limit("alice", "3");
	c = child_start(child_runs_sleep, NULL);
	ck_assert(eventually(nightly_holds, NULL));
	output = expect_ctl(0, "\"weight\":2", "holders", "alice", "--json");
	ck_assert_msg(strstr(output, "\"comm\":\"berthctl\""), "%s", output);
	run = (pid_t)json_number_in(output, "pid");
	expect_ctl(75, "alice holds 2 of 3", "run", "--weight", "2", "alice", "--", "true");
	/* berthctl passes a signal on, and returns the status of the command. */
	ck_assert_int_eq(kill(run, SIGTERM), 0);
	ck_assert_int_eq(child_report(&c), 128 + SIGTERM);
	(void)child_end(&c);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- reaching berthd --------------------------------------------------------------------------- */

START_TEST(without_berthd_berthctl_exits_with_69) {
	(void)instance_kill(&here, SIGKILL);
	expect_ctl(69, "is berthd running?", "status");
	expect_ctl(69, "is berthd running?", "set", "alice", "5");
	expect_ctl(69, "", "--runtime-dir", "/nonexistent", "list");
	/* berthctl reports a wrong name without asking berthd. */
	expect_ctl(2, "'//'", "set", "a//b", "5");
}
END_TEST

START_TEST(run_without_berthd_exits_with_69) {
	(void)instance_kill(&here, SIGKILL);
	expect_ctl(69, "is berthd running?", "run", "alice", "--", "echo", "ran");
}
END_TEST

/* Runs berthctl as the user nobody, who isn't in the groups of the sockets. */
static int ctl_as_nobody(void *data) {
	const char *const *argv = data;
	gid_t none = 65534;

	if (setgroups(1, &none) < 0 || setgid(none) < 0 || setuid(65534) < 0)
		return 200;
	return ctl(NULL, argv[0], argv[1], argv[2], argv[3], NULL);
}

START_TEST(a_user_outside_the_group_gets_77) {
	const char *status[] = {"status", NULL, NULL, NULL};
	const char *run[] = {"run", "alice", "--", "true"};
	int got;

	if (getuid() != 0) {
		printf("not root, so the access of other users isn't tested\n");
		return;
	}
	set_limit("alice", "5");
	got = run_forked(ctl_as_nobody, status);
	if (got == EXIT_FAILURE || got == 200) {
		printf("the user nobody can't reach the build directory, so this isn't tested\n");
		return;
	}
	ck_assert_int_eq(got, 77);
	ck_assert_int_eq(run_forked(ctl_as_nobody, run), 77);
}
END_TEST

START_TEST(a_full_disk_is_an_error) {
	const char *command = text_of(
		"'%s' export > /dev/full 2>/dev/null", program_path("BERTHCTL", "berthctl"));

	set_limit("alice", "5");
	ck_assert_int_eq(WEXITSTATUS(system(command)), 1);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test tests[] = {
		{the_check_of_json_can_fail},
		{wrong_usage_gets_2_and_a_hint},
		{each_verb_has_help_with_examples},
		{verbs_that_do_not_exist_yet_are_not_in_the_help},
		{reports_are_json_on_request},
		{tables_have_a_line_for_each_row},
		{missing_accounts_slots_and_files_get_1},
		{delete_is_refused_while_slots_are_held_unless_forced},
		{a_deleted_and_remade_account_begins_at_0},
		{a_denied_run_names_the_full_level},
		{run_exits_with_the_status_of_its_command},
		{run_holds_its_slot_with_weight_and_label_while_the_command_runs},
		{without_berthd_berthctl_exits_with_69},
		{run_without_berthd_exits_with_69},
		{a_user_outside_the_group_gets_77},
		{a_full_disk_is_an_error},
		{NULL},
	};

	return run_berthd_suites({"berthctl", tests, .setup = here_start, .teardown = here_end});
}
