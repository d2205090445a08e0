/* SPDX-License-Identifier: MIT */

/* Tests acquire, denial, release, revoke and query, as a server's author uses them. */

#include "steps.h"

START_TEST(a_full_account_denies_until_a_slot_is_released) {
	struct berth *b = open_session();
	berth_slot slot[3], more = 77;

	set_limit("alice", "3");
	acquire_slots(b, "alice", 3, slot);
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &more));
	ck_assert_uint_eq(more, 77);
	expect_code(BERTH_SUCCESS, berth_release(b, slot[1]));
	slot[1] = acquire_slot(b, "alice");
	expect_denied(b, "alice");
	ck_assert_uint_eq(usage_of(b, "alice").denied, 2);
	ck_assert_uint_eq(usage_of(b, "alice").current, 3);
	release_slots(b, slot, 3);
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	ck_assert_uint_eq(usage_of(b, "alice").peak, 3);
	berth_close(b);
}
END_TEST

START_TEST(two_handles_and_two_processes_share_one_count) {
	struct berth *a = open_session(), *b = open_session();
	struct child c;

	set_limit("alice", "3");
	(void)acquire_slot(a, "alice");
	(void)acquire_slot(b, "alice");
	c = holder_start("alice");
	expect_denied(a, "alice");
	child_send(&c, 0);
	ck_assert_int_eq(child_end(&c), 0);
	(void)acquire_slot(a, "alice");
	berth_close(a);
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	berth_close(b);
}
END_TEST

START_TEST(a_slot_counts_with_its_weight) {
	struct berth *b = open_session();
	berth_slot slot, heavy;

	set_limit("alice", "5000");
	expect_code(BERTH_SUCCESS, acquire_weight(b, "alice", 4095, &heavy));
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, acquire_weight(b, "alice", 906, &slot));
	expect_code(BERTH_SUCCESS, acquire_weight(b, "alice", 905, &slot));
	expect_denied(b, "alice");
	expect_code(BERTH_SUCCESS, berth_release(b, heavy));
	ck_assert_uint_eq(usage_of(b, "alice").current, 905);
	ck_assert_uint_eq(usage_of(b, "alice").peak, 5000);
	berth_close(b);
}
END_TEST

START_TEST(holders_shows_weight_process_and_label) {
	static const char long_label[] = "0123456789012345678901234567890123456\xC3\xA4\xC3\xA4";
	struct berth *b = open_session();
	struct berth_request req = {
		.size = sizeof(req), .account = "alice", .weight = 3, .label = "imap \"10.0.0.1\""};
	const char *output;
	berth_slot slot;

	set_limit("alice", "10");
	expect_code(BERTH_SUCCESS, berth_acquire_req(b, &req, &slot));
	output = expect_ctl(0, "\"label\":\"imap \\\"10.0.0.1\\\"\"", "holders", "alice", "--json");
	ck_assert_int_eq(json_number_in(output, "weight"), 3);
	ck_assert_int_eq(json_number_in(output, "pid"), getpid());
	ck_assert_int_eq(json_number_in(output, "uid"), getuid());
	ck_assert_msg(strstr(output, "\"account\":\"alice\""), "%s", output);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	expect_ctl(0, "{\"holders\":[]}", "holders", "alice", "--json");

	/* The label has 41 bytes. berth keeps 39, since 40 would cut an a-umlaut in two. */
	req.label = long_label;
	expect_code(BERTH_SUCCESS, berth_acquire_req(b, &req, &slot));
	expect_ctl(0, "\"label\":\"0123456789012345678901234567890123456\xC3\xA4\"", "holders",
		"alice", "--json");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "\"label\":null", "holders", "alice", "--json");
	berth_close(b);
}
END_TEST

START_TEST(a_slot_also_counts_against_the_ancestors) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limits("acme/alice 5", "acme/bob 5", "acme 3");
	slot = acquire_slot(b, "acme/alice");
	(void)acquire_slot(b, "acme/alice");
	(void)acquire_slot(b, "acme/bob");
	ck_assert_uint_eq(usage_of(b, "acme").current, 3);
	ck_assert_uint_eq(usage_of(b, "acme/alice").current, 2);
	expect_denied(b, "acme/bob");
	expect_denied(b, "acme");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert_uint_eq(usage_of(b, "acme").current, 2);
	(void)acquire_slot(b, "acme/bob");
	expect_ctl(0, "acme/bob", "holders", "acme", "--json");
	berth_close(b);
	ck_assert_int_eq(current_of("acme"), 0);
}
END_TEST

START_TEST(all_levels_of_a_path_are_charged_or_none) {
	struct berth *b = open_session();

	set_limits("acme/sales/alice 9", "acme/sales 9", "acme 1");
	(void)acquire_slot(b, "acme");
	for (int i = 0; i < 100; i++)
		expect_denied(b, "acme/sales/alice");
	ck_assert_uint_eq(usage_of(b, "acme/sales/alice").current, 0);
	ck_assert_uint_eq(usage_of(b, "acme/sales").current, 0);
	ck_assert_uint_eq(usage_of(b, "acme").current, 1);
	ck_assert_uint_eq(usage_of(b, "acme").denied, 100);
	ck_assert_uint_eq(usage_of(b, "acme/sales/alice").denied, 0);
	berth_close(b);
}
END_TEST

START_TEST(a_limit_set_on_an_ancestor_later_counts_slots_held_before) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("acme/alice", "5");
	(void)acquire_slot(b, "acme/alice");
	(void)acquire_slot(b, "acme/alice");
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "acme", &slot));
	ck_assert_uint_eq(usage_of(b, "acme").current, 2);
	ck_assert_uint_eq(usage_of(b, "acme").limit, UINT32_MAX);
	set_limit("acme", "2");
	expect_denied(b, "acme/alice");
	set_limit("acme", "3");
	(void)acquire_slot(b, "acme/alice");
	berth_close(b);
}
END_TEST

START_TEST(a_limit_of_0_denies_all_and_unlimited_admits_all) {
	struct berth *b = open_session();

	set_limit("closed", "0");
	expect_denied(b, "closed");
	ck_assert_uint_eq(usage_of(b, "closed").limit, 0);
	set_limit("open", "unlimited");
	acquire_slots(b, "open", 5000, NULL);
	ck_assert_uint_eq(usage_of(b, "open").limit, UINT32_MAX);
	ck_assert_uint_eq(usage_of(b, "open").current, 5000);
	berth_close(b);
	ck_assert_int_eq(current_of("open"), 0);
	ck_assert_int_eq(status_number("slots_held"), 0);
}
END_TEST

START_TEST(more_than_1048575_is_refused_with_8_and_never_wraps) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("acme/open", "unlimited");
	for (int i = 0; i < 256; i++)
		expect_code(BERTH_SUCCESS, acquire_weight(b, "acme/open", 4095, &slot));
	expect_code(BERTH_NO_SYSTEM_RESOURCES, acquire_weight(b, "acme/open", 256, &slot));
	expect_code(BERTH_SUCCESS, acquire_weight(b, "acme/open", 255, &slot));
	ck_assert_uint_eq(usage_of(b, "acme/open").current, 1048575);
	ck_assert_uint_eq(usage_of(b, "acme").current, 1048575);
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "acme/open", &slot));
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	(void)acquire_slot(b, "acme/open");
	berth_close(b);
	ck_assert_int_eq(current_of("acme"), 0);
}
END_TEST

START_TEST(a_lowered_limit_denies_until_the_count_is_below_it) {
	struct berth *b = open_session();
	berth_slot slot[4];

	set_limit("alice", "4");
	acquire_slots(b, "alice", 4, slot);
	set_limit("alice", "2");
	for (int i = 0; i < 2; i++) {
		expect_code(BERTH_SUCCESS, berth_release(b, slot[i]));
		expect_denied(b, "alice");
	}
	expect_code(BERTH_SUCCESS, berth_release(b, slot[2]));
	(void)acquire_slot(b, "alice");
	expect_denied(b, "alice");
	berth_close(b);
}
END_TEST

START_TEST(an_account_without_a_limit_gets_1317) {
	struct berth *b = open_session();
	struct berth_usage usage = {.size = sizeof(usage)};
	berth_slot slot = 5;

	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "nobody", &slot));
	expect_code(BERTH_NO_SUCH_USER, berth_query(b, "nobody", &usage));
	ck_assert_uint_eq(slot, 5);
	set_limit("nobody", "1");
	slot = acquire_slot(b, "nobody");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	expect_ctl(0, "", "delete", "nobody");
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "nobody", &slot));
	berth_close(b);
}
END_TEST

START_TEST(query_writes_no_more_than_the_size_of_the_struct) {
	struct berth *b = open_session();
	struct berth_usage usage;

	set_limit("alice", "7");
	(void)acquire_slot(b, "alice");
	memset(&usage, 0xAA, sizeof(usage));
	usage.size = offsetof(struct berth_usage, peak);
	expect_code(BERTH_SUCCESS, berth_query(b, "alice", &usage));
	ck_assert_uint_eq(usage.limit, 7);
	ck_assert_uint_eq(usage.current, 1);
	ck_assert_uint_eq(usage.peak, 0xAAAAAAAA);
	ck_assert_uint_eq(usage.denied, UINT64_C(0xAAAAAAAAAAAAAAAA));
	usage.size = 4;
	expect_code(BERTH_INVALID_PARAMETER, berth_query(b, "alice", &usage));
	berth_close(b);
}
END_TEST

START_TEST(a_slot_is_released_once) {
	struct berth *a = open_session(), *b = open_session();
	berth_slot slot, second;

	set_limit("alice", "5");
	slot = acquire_slot(a, "alice");
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(b, slot));
	expect_code(BERTH_SUCCESS, berth_release(a, slot));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(a, slot));
	/* The record may be used again, but for another slot. */
	for (int i = 0; i < 64; i++) {
		second = acquire_slot(a, "alice");
		ck_assert_uint_ne(second, slot);
		expect_code(BERTH_TOO_MANY_POSTS, berth_release(a, slot));
		ck_assert_uint_eq(usage_of(a, "alice").current, 1);
		expect_code(BERTH_SUCCESS, berth_release(a, second));
	}
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(a, 0));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(a, UINT64_MAX));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(a, UINT64_C(0x123456789)));
	berth_close(a);
	berth_close(b);
}
END_TEST

/* The n-th slot, from 0, that `berthctl holders` shows. */
static const char *listed_slot(const char *account, int n) {
	static char slot[32];
	const char *at = expect_ctl(0, "", "holders", account, "--json");

	for (; n >= 0; n--) {
		at = strstr(at, "\"slot\":\"");
		ck_assert_ptr_nonnull(at);
		at += strlen("\"slot\":\"");
	}
	(void)snprintf(slot, sizeof(slot), "%.*s", (int)strcspn(at, "\""), at);
	return slot;
}

START_TEST(a_revoked_slot_is_free_at_once_and_its_release_gets_1236) {
	struct berth *b = open_session();
	struct child c;
	berth_slot mine;
	const char *pid;

	set_limit("alice", "2");
	mine = acquire_slot(b, "alice");
	expect_ctl(0, "revoked 1 slot", "revoke", "--slot", listed_slot("alice", 0));
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, mine));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(b, mine));

	mine = acquire_slot(b, "alice");
	c = holder_start("alice");
	pid = text_of("%d", (int)c.pid);
	expect_ctl(0, "revoked 1 slot", "revoke", "--pid", pid);
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	expect_ctl(1, "holds no slot", "revoke", "--pid", pid);
	expect_code(BERTH_SUCCESS, berth_release(b, mine));
	child_send(&c, 0);
	ck_assert_int_eq(child_end(&c), 0);

	mine = acquire_slot(b, "alice");
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "revoked 2 slots", "revoke", "alice", "--all");
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, mine));
	/* The session can still acquire. */
	(void)acquire_slot(b, "alice");
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "revoked 2 slots", "revoke", "--all");
	expect_ctl(0, "revoked 0 slots", "revoke", "--all");
	berth_close(b);
}
END_TEST

START_TEST(revoking_an_account_revokes_its_descendants_and_no_others) {
	struct berth *b = open_session();
	berth_slot alice, bob;

	set_limits("acme/alice 5", "acme2 5");
	alice = acquire_slot(b, "acme/alice");
	bob = acquire_slot(b, "acme2");
	expect_ctl(0, "revoked 1 slot", "revoke", "acme", "--all");
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, alice));
	expect_code(BERTH_SUCCESS, berth_release(b, bob));
	berth_close(b);
}
END_TEST

START_TEST(invalid_arguments_get_87) {
	struct berth *b = open_session(), *other = NULL;
	struct berth_request good = {.size = sizeof(good), .account = "alice"}, req;
	struct berth_options options = {.size = sizeof(options)};
	struct {
		struct berth_request req;
		char more[16];
	} longer = {.req = {.account = "alice"}};
	struct berth_usage usage = {.size = sizeof(usage)};
	berth_slot slot = 9;

	set_limit("alice", "5");
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire(NULL, "alice", &slot));
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire(b, NULL, &slot));
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire(b, "alice", NULL));
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire_req(b, NULL, &slot));
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire_req(b, &good, NULL));
	expect_code(BERTH_INVALID_PARAMETER, berth_release(NULL, 1));
	expect_code(BERTH_INVALID_PARAMETER, berth_query(NULL, "alice", &usage));
	expect_code(BERTH_INVALID_PARAMETER, berth_query(b, NULL, &usage));
	expect_code(BERTH_INVALID_PARAMETER, berth_query(b, "alice", NULL));
	expect_code(BERTH_INVALID_PARAMETER, berth_open(NULL, NULL));
	expect_code(BERTH_INVALID_PARAMETER, berth_open_options(NULL, &other));

#define expect_refused(field, value)                                          \
	do {                                                                  \
		req = good;                                                   \
		req.field = (value);                                          \
		expect_code_for(#field " = " #value, BERTH_INVALID_PARAMETER, \
			berth_acquire_req(b, &req, &slot));                   \
	} while (0)
	expect_refused(size, 0);
	expect_refused(size, sizeof(req) - 1);
	expect_refused(size, SIZE_MAX);
	expect_refused(account, NULL);
	expect_refused(weight, 4096);
	expect_refused(weight, UINT32_MAX);
	expect_refused(timeout_ms, 1);
	expect_refused(timeout_ms, -1);
	expect_refused(flags, 1);
	expect_refused(flags, UINT32_C(1) << 31);

	/* The library accepts the longer struct of a newer program if the unknown members are 0. */
	longer.req.size = sizeof(longer);
	expect_code(BERTH_SUCCESS, berth_acquire_req(b, &longer.req, &slot));
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	longer.more[3] = 1;
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire_req(b, &longer.req, &slot));

	options.flags = 1;
	expect_code(BERTH_INVALID_PARAMETER, berth_open_options(&options, &other));
	options = (struct berth_options){.size = 3};
	expect_code(BERTH_INVALID_PARAMETER, berth_open_options(&options, &other));
	options = (struct berth_options){.size = sizeof(options), .timeout_ms = -1};
	expect_code(BERTH_INVALID_PARAMETER, berth_open_options(&options, &other));
	ck_assert_ptr_null(other);
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	berth_close(b);
	berth_close(NULL);
}
END_TEST

START_TEST(the_library_keeps_errno) {
	struct berth_options nowhere = {
		.size = sizeof(nowhere), .runtime_dir = "/nonexistent", .timeout_ms = 1};
	struct berth *b = NULL, *none = NULL;
	struct berth_usage usage = {.size = sizeof(usage)};
	berth_slot slot;

	set_limit("alice", "1");
#define expect_errno_kept(call)                                                       \
	do {                                                                          \
		errno = 4242;                                                         \
		(void)(call);                                                         \
		ck_assert_msg(errno == 4242, "%s changed errno to %d", #call, errno); \
	} while (0)
	expect_errno_kept(berth_open(NULL, &b));
	expect_errno_kept(berth_open_options(&nowhere, &none));
	expect_errno_kept(berth_acquire(b, "alice", &slot));
	expect_errno_kept(berth_acquire(b, "alice", &slot));
	expect_errno_kept(berth_acquire(b, "stranger", &slot));
	expect_errno_kept(berth_query(b, "alice", &usage));
	expect_errno_kept(berth_query(b, "stranger", &usage));
	expect_errno_kept(berth_release(b, slot));
	expect_errno_kept(berth_release(b, slot));
	ck_assert_int_eq(instance_kill(&here, SIGKILL) & 0x7F, SIGKILL);
	expect_errno_kept(berth_acquire(b, "alice", &slot));
	expect_errno_kept(berth_close(b));
}
END_TEST

START_TEST(without_a_berthd_open_gets_10061_after_its_timeout) {
	struct berth_options nowhere = {
		.size = sizeof(nowhere), .runtime_dir = "/nonexistent/berth", .timeout_ms = 50};
	struct berth *b = NULL;

	expect_code(BERTH_CONNECTION_REFUSED, berth_open_options(&nowhere, &b));
	ck_assert_ptr_null(b);
	nowhere.runtime_dir = here.state_dir;
	expect_code(BERTH_CONNECTION_REFUSED, berth_open_options(&nowhere, &b));
}
END_TEST

START_TEST(every_code_has_a_name_and_a_text) {
	static const struct {
		int code;
		const char *name;
	} codes[] = {
		{BERTH_SUCCESS, "ERROR_SUCCESS"},
		{BERTH_ACCESS_DENIED, "ERROR_ACCESS_DENIED"},
		{BERTH_NO_SYSTEM_RESOURCES, "ERROR_NO_SYSTEM_RESOURCES"},
		{BERTH_INVALID_PARAMETER, "ERROR_INVALID_PARAMETER"},
		{BERTH_CONNECTION_ABORTED, "ERROR_CONNECTION_ABORTED"},
		{BERTH_TOO_MANY_POSTS, "ERROR_TOO_MANY_POSTS"},
		{BERTH_CONNECTION_COUNT_LIMIT, "ERROR_CONNECTION_COUNT_LIMIT"},
		{BERTH_REVISION_MISMATCH, "ERROR_REVISION_MISMATCH"},
		{BERTH_NO_SUCH_USER, "ERROR_NO_SUCH_USER"},
		{BERTH_FILE_CORRUPT, "ERROR_FILE_CORRUPT"},
		{BERTH_TIMEOUT, "ERROR_TIMEOUT"},
	};

	for (size_t i = 0; i < COUNT_OF(codes); i++) {
		ck_assert_str_eq(berth_errname(codes[i].code), codes[i].name);
		ck_assert_uint_gt(strlen(berth_strerror(codes[i].code)), 5);
	}
	ck_assert_ptr_nonnull(
		strstr(berth_errname(BERTH_CONNECTION_REFUSED), "CONNECTION_REFUSED"));
	ck_assert_str_eq(berth_strerror(1238),
		"A connection to the server could not be made because the limit on the number of "
		"concurrent connections for this account has been reached.");
	ck_assert_ptr_nonnull(berth_strerror(-1));
	ck_assert_ptr_nonnull(berth_errname(424242));
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_full_account_denies_until_a_slot_is_released},
		{two_handles_and_two_processes_share_one_count},
		{a_slot_counts_with_its_weight},
		{holders_shows_weight_process_and_label},
		{a_slot_also_counts_against_the_ancestors},
		{all_levels_of_a_path_are_charged_or_none},
		{a_limit_set_on_an_ancestor_later_counts_slots_held_before},
		{a_limit_of_0_denies_all_and_unlimited_admits_all},
		{more_than_1048575_is_refused_with_8_and_never_wraps},
		{a_lowered_limit_denies_until_the_count_is_below_it},
		{an_account_without_a_limit_gets_1317},
		{query_writes_no_more_than_the_size_of_the_struct},
		{a_slot_is_released_once},
		{a_revoked_slot_is_free_at_once_and_its_release_gets_1236},
		{revoking_an_account_revokes_its_descendants_and_no_others},
		{invalid_arguments_get_87},
		{the_library_keeps_errno},
		{without_a_berthd_open_gets_10061_after_its_timeout},
		{every_code_has_a_name_and_a_text},
		{NULL},
	};

	return run_berthd_suites({"slots", tests, .setup = here_start, .teardown = here_end});
}
