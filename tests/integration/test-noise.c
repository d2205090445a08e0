/* SPDX-License-Identifier: MIT */

/* A member of group berth overwrites parts of the segment with any values (noise). Even so, berthd
 * and the other servers stay alive, limits keep their values, and other instances are not affected.
 * When the noise stops, berthd repairs the counts from the records. */

#include "counter.h"
#include "steps.h"

static struct map *map;
static const char *const small_args[] = {
	"--max-accounts", "4096", "--max-slots", "4096", "--max-sessions", "256", NULL};

static void noise_start(void) {
	repairs_are_expected = true;
	instance_start(&here, small_args);
	set_limits("alice 5", "acme 10", "acme/bob 3");
	/* Maps the segment and the directory, so that a test can access what the library hides. */
	ck_assert_int_eq(map_new(shared_open("segment", O_RDWR), shared_open("directory", O_RDONLY),
				 PROT_READ, &map),
		0);
}

static uint32_t account_of(const char *name) {
	struct name n;
	uint64_t word;
	uint32_t account;

	ck_assert_int_eq(name_load(name, &n), 0);
	ck_assert_msg(directory_find(map, &n, &account, &word) == 0, "no account %s", name);
	return account;
}

static struct cell *cell_of(const char *name) {
	return map_cell(map, account_of(name));
}

/* Writes a count and keeps the tag. */
static void overwrite_count(const char *name, uint32_t count) {
	struct cell *cell = cell_of(name);

	store_total(&cell->count, count_pack(count, count_bumps(load_acquire(&cell->count))));
}

static struct snapshot snapshot_of(uint32_t number) {
	struct snapshot s;

	ck_assert_int_eq(counter_record(map, number, &s), 0);
	return s;
}

/* Returns the first record that holds a slot of the account. Returns 0 if there is none. */
static uint32_t held_record_of(const char *name) {
	for (uint32_t n = 1; n < load_acquire(&map->names->slots); n++) {
		struct snapshot s = snapshot_of(n);

		if (snapshot_is_held(s) && place_account(s.place) == account_of(name))
			return n;
	}
	return 0;
}

/* Returns a free record of the range that has held_record_of(). */
static uint32_t free_record_of(const char *name) {
	uint32_t number = held_record_of(name);

	ck_assert_uint_ne(number, 0);
	number = number % BERTH_RANGE < BERTH_RANGE / 2 ? number + 5 : number - 5;
	ck_assert_uint_eq(place_state(snapshot_of(number).place), RECORD_FREE);
	return number;
}

static void overwrite_record(uint32_t number, uint64_t place, uint64_t noted) {
	store_total(&map_record(map, number)->noted, noted);
	store_total(&map_record(map, number)->place, place);
}

/* Returns the seq of this step in the cycle after the record's next cycle. If the record were used
 * further, it would reach this seq. */
static uint64_t step_of_later_cycle(uint32_t number, uint32_t step) {
	return seq_rest(snapshot_of(number).seq) + (uint64_t)2 * BERTH_CYCLE + step;
}

static bool record_is_unused(void *data) {
	struct snapshot s;

	(void)ctl(&(const char *){NULL}, "status", NULL);
	s = snapshot_of(*(uint32_t *)data);
	/* A value above BERTH_SEQ_MASK is noise, even if it looks like the end of a cycle. */
	if (load_acquire(&map_record(map, *(uint32_t *)data)->noted) > BERTH_SEQ_MASK)
		return false;
	return place_state(s.place) == RECORD_FREE ||
	       (place_state(s.place) == RECORD_PLACED && seq_charged(s.seq) == 0);
}

static void expect_unused_eventually(uint32_t number) {
	ck_assert_msg(eventually(record_is_unused, &number),
		"record %u is %#llx, %#llx; berthd's log:\n%s", number,
		(unsigned long long)load_acquire(&map_record(map, number)->place),
		(unsigned long long)load_acquire(&map_record(map, number)->noted),
		instance_log(&here));
}

static bool is_armed(void *data) {
	(void)data;
	return load_total(&map->header->armed) != 0;
}

/* Returns once berthd sleeps. Then berthd checks nothing until a process wakes it. */
static void wait_until_berthd_sleeps(void) {
	ck_assert_msg(eventually(is_armed, NULL), "berthd never sleeps");
}

static bool repair_is_logged(void *data) {
	(void)data;
	return logged_times("differed from the held slots") > 0;
}

static void expect_repaired(void) {
	ck_assert_msg(eventually(repair_is_logged, NULL), "nothing was repaired; berthd's log:\n%s",
		instance_log(&here));
}

/* -- single words of cells --------------------------------------------------------------------- */

START_TEST(a_count_written_too_high_denies_until_it_is_repaired) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "alice");

	wait_until_berthd_sleeps();
	overwrite_count("alice", 1000);
	expect_denied(b, "alice");
	/* The denial wakes berthd, without any request. */
	expect_repaired();
	expect_logged("'alice' counted 1000 instead of 1");
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	acquire_slots(b, "alice", 4, NULL);
	expect_denied(b, "alice");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

START_TEST(a_count_written_too_low_admits_until_it_is_repaired) {
	struct berth *b = open_session();
	berth_slot slot[6];

	acquire_slots(b, "alice", 5, slot);
	wait_until_berthd_sleeps();
	overwrite_count("alice", 0);
	slot[5] = acquire_slot(b, "alice");
	expect_repaired();
	ck_assert_uint_eq(usage_of(b, "alice").current, 6);
	expect_denied(b, "alice");
	release_slots(b, slot, 6);
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	berth_close(b);
}
END_TEST

START_TEST(a_release_from_a_count_written_too_low_is_1392_and_leaves_no_debt) {
	struct berth *b = open_session();
	berth_slot first = acquire_slot(b, "alice"), second = acquire_slot(b, "alice");

	overwrite_count("alice", 0);
	expect_code(BERTH_FILE_CORRUPT, berth_release(b, first));
	expect_current_eventually("alice", 1);
	expect_code(BERTH_SUCCESS, berth_release(b, second));
	expect_current_eventually("alice", 0);
	berth_close(b);
}
END_TEST

START_TEST(ancestors_are_repaired_from_the_records_of_those_below) {
	struct berth *b = open_session();
	berth_slot slot = 0;

	expect_code(BERTH_SUCCESS, acquire_weight(b, "acme/bob", 3, &slot));
	overwrite_count("acme", 9);
	overwrite_count("acme/bob", 1);
	/* The request of berthctl makes berthd check the counts. */
	expect_current_eventually("acme", 3);
	expect_current_eventually("acme/bob", 3);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert_uint_eq(usage_of(b, "acme").current, 0);
	berth_close(b);
}
END_TEST

START_TEST(a_peak_that_is_noise_is_restored_from_the_checkpoint) {
	struct berth *b = open_session();

	(void)acquire_slot(b, "alice");
	(void)acquire_slot(b, "alice");
	overwrite_count("alice", BERTH_COUNT_MAX);
	store_relaxed(&cell_of("alice")->peak, 1000);
	expect_current_eventually("alice", 2);
	ck_assert_uint_le(usage_of(b, "alice").peak, 5);
	berth_close(b);
}
END_TEST

/* Only the tag shows the newest step on the cell. The step before the newest is noted in its own
 * record. */
START_TEST(noise_over_a_tag_costs_the_newest_slot_only) {
	struct berth *b = open_session();
	berth_slot first = acquire_slot(b, "alice"), second = acquire_slot(b, "alice");

	store_total(&cell_of("alice")->tag, UINT64_MAX);
	store_total(&cell_of("alice")->count, UINT64_MAX);
	expect_current_eventually("alice", 1);
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, second));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(b, second));
	expect_code(BERTH_SUCCESS, berth_release(b, first));
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	acquire_slots(b, "alice", 5, NULL);
	ck_assert_uint_eq(usage_of(b, "alice").current, 5);
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- records ----------------------------------------------------------------------------------- */

START_TEST(a_slot_in_a_range_without_a_session_is_closed) {
	struct berth *b = open_session();
	uint32_t unowned = load_acquire(&map->names->slots) - 1;

	(void)acquire_slot(b, "alice");
	overwrite_record(unowned, place_pack(RECORD_PLACED, 0, 4, account_of("alice")),
		step_of_later_cycle(unowned, 1));
	expect_ctl(0, "", "get", "alice");
	expect_repaired();
	expect_current_eventually("alice", 1);
	ck_assert_uint_eq(place_state(snapshot_of(unowned).place), RECORD_CLOSED);
	berth_close(b);
}
END_TEST

START_TEST(a_record_that_is_noise_is_revoked_and_not_counted) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "alice"), other = acquire_slot(b, "alice");
	/* What is written into the record. In some of these values of `place`, the weight is 0, the
	 * depth is wrong, or the account doesn't exist. */
	const struct {
		uint64_t place;
		uint32_t step; /* UINT32_MAX: all ones */
	} noise[] = {
		{UINT64_MAX, UINT32_MAX},
		{(uint64_t)RECORD_PLACED << 61, 0},
		{(uint64_t)RECORD_CLOSED << 61 | 99, 1},
		{(uint64_t)(RECORD_SEIZED + 1) << 61 | 99, 1},
		{place_pack(RECORD_PLACED, 1, 1, account_of("alice")), 2},
		{place_pack(RECORD_SEIZED, 7, 1, account_of("alice")), 8},
		{place_pack(RECORD_PLACED, 0, 1, 4000), 1},
		{place_pack(RECORD_PLACED, 0, 1, account_of("alice")), UINT32_MAX},
	};

	for (size_t i = 0; i < COUNT_OF(noise); i++) {
		uint32_t number = held_record_of("alice");

		overwrite_record(number, noise[i].place,
			noise[i].step == UINT32_MAX ? UINT64_MAX
						    : step_of_later_cycle(number, noise[i].step));
		expect_unused_eventually(number);
		expect_current_eventually("alice", 1);
		expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, i % 2 ? other : slot));
		*(i % 2 ? &other : &slot) = acquire_slot(b, "alice");
		ck_assert_uint_eq(usage_of(b, "alice").current, 2);
	}
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

/* berthd can't tell noise that looks like a slot from a real slot. */
START_TEST(noise_that_looks_like_a_slot_counts_until_the_session_ends) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "alice");
	uint32_t unused = free_record_of("alice");

	overwrite_record(unused, place_pack(RECORD_PLACED, 0, 2, account_of("alice")),
		step_of_later_cycle(unused, 1));
	expect_current_eventually("alice", 3);
	expect_ctl(0, "\"weight\":2", "holders", "alice", "--json");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

START_TEST(noise_that_looks_like_a_seized_record_is_discharged) {
	struct berth *b = open_session();
	uint32_t unused;

	(void)acquire_slot(b, "alice");
	unused = free_record_of("alice");
	overwrite_record(unused, place_pack(RECORD_SEIZED, 0, 1, account_of("alice")),
		step_of_later_cycle(unused, 0));
	overwrite_record(unused + 1, place_pack(RECORD_SEIZED, 0, 1, account_of("alice")),
		step_of_later_cycle(unused + 1, 1));
	expect_current_eventually("alice", 1);
	expect_unused_eventually(unused);
	expect_unused_eventually(unused + 1);
	expect_current_eventually("alice", 1);
	berth_close(b);
}
END_TEST

START_TEST(noise_that_looks_like_half_a_release_is_discharged) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "acme/bob");
	uint32_t unused = free_record_of("acme/bob");

	/* Both records look as if one level was still charged. */
	overwrite_record(unused, place_pack(RECORD_PLACED, 1, 1, account_of("acme/bob")),
		step_of_later_cycle(unused, BERTH_CYCLE - 1));
	overwrite_record(unused + 1, place_pack(RECORD_SEIZED, 1, 1, account_of("acme/bob")),
		step_of_later_cycle(unused + 1, 2));
	overwrite_count("acme", 7);
	expect_current_eventually("acme", 1);
	expect_unused_eventually(unused);
	expect_unused_eventually(unused + 1);
	expect_current_eventually("acme/bob", 1);
	expect_current_eventually("acme", 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_current_eventually("acme", 0);
}
END_TEST

/* -- seqs -------------------------------------------------------------------------------------- */

static void expect_all_unused_eventually(uint32_t first) {
	for (uint32_t n = first; n < first + BERTH_RANGE; n++)
		expect_unused_eventually(n);
}

/* Returns a seq at one of various steps. For most i no record can reach this seq. */
static uint64_t noise_seq(uint32_t i) {
	static const uint64_t first[] = {UINT64_MAX, UINT64_C(1) << 42, UINT64_C(1) << 63,
		UINT64_MAX - BERTH_CYCLE + 1, (UINT64_C(1) << 42) + 5, (UINT64_C(3) << 41) + 8};

	if (i < COUNT_OF(first))
		return first[i];
	return ((uint64_t)random_below(UINT32_MAX) + 1) << 42 | random_below(UINT32_MAX);
}

/* The noise is in the only range of the session, whose server continues to acquire slots. */
START_TEST(noise_in_seqs_retires_no_record) {
	struct berth *b = open_session();
	uint32_t first = 0;
	berth_slot slot[BERTH_RANGE];

	random_init();
	set_limit("many", "1000");
	acquire_slots(b, "many", BERTH_RANGE, slot);
	first = held_record_of("many") / BERTH_RANGE * BERTH_RANGE;
	release_slots(b, slot, BERTH_RANGE);
	for (int round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			store_total(&map_record(map, first + i)->noted, noise_seq(i));
		/* Each acquire finds a record of another range, or fails. */
		for (uint32_t i = 0; round % 2 == 1 && i < BERTH_RANGE; i++)
			if (berth_acquire(b, "many", &slot[0]) == BERTH_SUCCESS)
				(void)berth_release(b, slot[0]);
		expect_current_eventually("many", 0);
		expect_all_unused_eventually(first);
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			struct snapshot s = snapshot_of(first + i);

			ck_assert_msg(s.seq <= BERTH_SEQ_MASK / 2 + 2 * BERTH_CYCLE,
				"record %u is left at %#llx", first + i, (unsigned long long)s.seq);
		}
		ck_assert_int_eq(status_number("slots_retired"), 0);
	}
	/* The next session gets the same range and can use all records of it. */
	berth_close(b);
	expect_status_eventually("slots_granted", 0);
	b = open_session();
	acquire_slots(b, "many", BERTH_RANGE, slot);
	ck_assert_int_eq(status_number("slots_granted"), BERTH_RANGE);
	release_slots(b, slot, BERTH_RANGE);
	berth_close(b);
	expect_current_eventually("many", 0);
}
END_TEST

/* A server whose records had noise in their seqs can use as many records as a new server. */
START_TEST(a_server_that_met_noise_in_its_seqs_uses_all_its_records_again) {
	struct berth *b = open_session();
	berth_slot slot[8 * BERTH_RANGE];
	uint32_t first;
	long long granted;

	set_limit("many", "1000");
	slot[0] = acquire_slot(b, "many");
	first = held_record_of("many") / BERTH_RANGE * BERTH_RANGE;
	expect_code(BERTH_SUCCESS, berth_release(b, slot[0]));
	/* All records are at the end of a cycle, where the next cycle may begin. */
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		store_total(&map_record(map, first + i)->noted,
			UINT64_MAX - BERTH_CYCLE * i - (BERTH_CYCLE - 1));
	for (uint32_t i = 0; i < 2 * BERTH_RANGE; i++)
		if (berth_acquire(b, "many", &slot[0]) == BERTH_SUCCESS)
			(void)berth_release(b, slot[0]);
	expect_all_unused_eventually(first);
	expect_current_eventually("many", 0);
	granted = status_number("slots_granted");
	ck_assert_int_le(granted, COUNT_OF(slot));
	for (long long i = 0; i < granted; i++)
		slot[i] = acquire_slot(b, "many");
	ck_assert_int_eq(status_number("slots_granted"), granted);
	berth_close(b);
	expect_current_eventually("many", 0);
}
END_TEST

/* The cell has the tag of the slot's record, so a release doesn't read the record. */
START_TEST(a_slot_that_a_recount_revoked_is_not_discharged_again) {
	struct berth *b = open_session(), *other = open_session();
	berth_slot slot, others = acquire_slot(other, "alice");
	uint32_t number;

	expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "alice")));
	slot = acquire_slot(b, "alice");
	number = slot >> 22 & 0x3FFFFF;
	expect_current_eventually("alice", 2);
	overwrite_record(number, UINT64_MAX, snapshot_of(number).seq);
	expect_current_eventually("alice", 1);
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, slot));
	ck_assert_int_eq(current_of("alice"), 1);
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(b, slot));
	expect_code(BERTH_SUCCESS, berth_release(other, others));
	ck_assert_int_eq(current_of("alice"), 0);
	berth_close(b);
	berth_close(other);
}
END_TEST

static bool bumps_are_reset(void *data) {
	return count_bumps(load_acquire(&((struct cell *)data)->count)) < 1000;
}

/* A cell whose bumps have their last value can't be bumped until a recount resets the bumps. */
START_TEST(noise_in_bumps_stops_neither_the_end_of_a_session_nor_a_start) {
	for (int round = 0; round < 2; round++) {
		struct child c = holder_start("alice");

		store_total(&cell_of("alice")->count, count_pack(1, BERTH_BUMPS_LAST));
		if (round == 1)
			restart_after(SIGKILL);
		child_kill(&c);
		expect_current_eventually("alice", 0);
		ck_assert(eventually(bumps_are_reset, cell_of("alice")));
		set_limit("alice", "7");
		expect_status_eventually("slots_granted", 0);
	}
}
END_TEST

/* Writes the noise and revokes. False if a recount has repaired the noise before the revocation. */
static bool revoke_fails(void *data) {
	uint32_t number = *(uint32_t *)data;
	const char *output;

	store_total(&cell_of("acme")->count, count_pack(0, BERTH_BUMPS_LAST));
	overwrite_count("acme/bob", 1);
	overwrite_record(number, place_pack(RECORD_PLACED, 1, 1, account_of("acme/bob")),
		step_of_later_cycle(number, 1));
	if (ctl(&output, "revoke", "acme/bob", "--all", NULL) == 0)
		return false;
	ck_assert_msg(
		strstr(output,
			"slots revoked: 0; records that could not be looked at or changed: 1"),
		"%s", output);
	return true;
}

/* The noise in a record looks like an unfinished acquire, on a path whose upper level can't be
 * sealed. */
START_TEST(a_record_that_cannot_be_discharged_is_not_reported_as_revoked) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "acme/bob");
	uint32_t number = free_record_of("acme/bob");

	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert(eventually(revoke_fails, &number));
	/* After the repair no slot is left to revoke. */
	overwrite_count("acme", 3);
	expect_current_eventually("acme", 0);
	expect_ctl(0, "revoked 0 slots", "revoke", "acme/bob", "--all");
	berth_close(b);
}
END_TEST

/* A berthd that dies between the steps G1 and G2 of a grant (ranges.c) leaves a closed record in
 * the range of a session. That isn't noise, so no repair is logged. */
START_TEST(a_range_left_by_a_berthd_that_died_granting_it_is_not_noise) {
	struct berth *b = open_session();
	uint32_t unused;

	(void)acquire_slot(b, "alice");
	unused = free_record_of("alice");
	(void)instance_kill(&here, SIGKILL);
	overwrite_record(unused, place_pack(RECORD_CLOSED, 0, 0, 0), snapshot_of(unused).seq);
	instance_restart(&here);
	expect_unused_eventually(unused);
	expect_current_eventually("alice", 1);
	ck_assert_msg(!repair_is_logged(NULL), "%s", instance_log(&here));
	berth_close(b);
}
END_TEST

/* -- sessions ---------------------------------------------------------------------------------- */

static bool session_entry_is_restored(void *data) {
	struct session_entry *e = map_session(map, *(uint32_t *)data);

	(void)ctl(&(const char *){NULL}, "get", "alice", NULL);
	return load_relaxed(&e->state) == SESSION_OPEN && load_relaxed(&e->uid) == getuid() &&
	       load_relaxed(map_owner(map, 1)) == *(uint32_t *)data + 1;
}

START_TEST(the_session_table_is_restored_and_survives_a_restart) {
	struct child c = holder_start("alice");
	uint32_t index = 0;

	memset(map_session(map, 0), 0xA5, 64 * sizeof(struct session_entry));
	memset(map_owner(map, 0), 0x5A, 64 * sizeof(uint32_t));
	ck_assert_msg(eventually(session_entry_is_restored, &index), "the entry isn't as it was");
	expect_repaired();
	ck_assert_int_eq(
		json_number_in(expect_ctl(0, "", "holders", "alice", "--json"), "pid"), c.pid);
	restart_after(SIGKILL);
	ck_assert_int_eq(current_of("alice"), 1);
	ck_assert_int_eq(status_number("sessions"), 1);
	child_kill(&c);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- what wakes the daemon --------------------------------------------------------------------- */

START_TEST(after_noise_in_armed_berthd_is_woken_again_from_the_next_request_on) {
	struct berth *b = open_session();

	wait_until_berthd_sleeps();
	store_total(&map->header->armed, 0);
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "", "status");
	ck_assert_msg(eventually(is_armed, NULL), "berthd sleeps with armed at 0");
	overwrite_count("alice", 5);
	expect_current_eventually("alice", 1);
	berth_close(b);
}
END_TEST

/* -- everything -------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopping;

static void on_term(int number) {
	(void)number;
	stopping = 1;
}

/* While there is noise in the segment, these codes are correct answers. */
static bool code_is_expected(int code) {
	static const int expected[] = {BERTH_SUCCESS, BERTH_NO_SYSTEM_RESOURCES,
		BERTH_CONNECTION_ABORTED, BERTH_TOO_MANY_POSTS, BERTH_CONNECTION_COUNT_LIMIT,
		BERTH_NO_SUCH_USER, BERTH_FILE_CORRUPT, BERTH_CONNECTION_REFUSED};

	for (size_t i = 0; i < COUNT_OF(expected); i++)
		if (code == expected[i])
			return true;
	return false;
}

/* A server that acquires and releases until SIGTERM. At the end it sends a code that wasn't
 * expected. If all codes were expected, it sends 0. */
static void child_serve(struct child *c, void *data) {
	const char *const names[] = {"alice", "acme/bob", "acme"};
	struct berth *b = NULL;
	int unexpected = 0;

	(void)data;
	(void)signal(SIGTERM, on_term);
	if (berth_open(NULL, &b) != BERTH_SUCCESS)
		_exit(1);
	child_send(c, 0);
	for (unsigned i = 0; !stopping && unexpected == 0; i++) {
		berth_slot slot;
		int code = berth_acquire(b, names[i % COUNT_OF(names)], &slot);

		if (!code_is_expected(code))
			unexpected = code;
		code = code == BERTH_SUCCESS ? berth_release(b, slot) : BERTH_SUCCESS;
		if (!code_is_expected(code))
			unexpected = code;
	}
	berth_close(b);
	child_send(c, unexpected);
}

/* Overwrites every byte of the segment, again and again, until it is killed. */
static void child_overwrite_segment(struct child *c, void *data) {
	int fd = shared_open("segment", O_RDWR);
	size_t words = map->layout.segment_size / 8;
	_Atomic uint64_t *word = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (word == MAP_FAILED)
		_exit(1);
	random_state = *(uint64_t *)data;
	child_send(c, 0);
	for (;;)
		for (size_t i = 0; i < words; i++) {
			uint64_t high = random_below(UINT32_MAX);

			store_relaxed(&word[i], high << 32 | random_below(UINT32_MAX));
		}
}

static struct instance other_instance;

/* Starts another instance with a server of its own; the environment still names the first
 * instance. */
static struct child other_instance_start(void) {
	struct child c;

	instance_start(&other_instance, small_args);
	set_limit("alice", "2");
	c = holder_start("alice");
	(void)setenv("BERTH_RUNTIME_DIR", here.runtime_dir, 1);
	(void)setenv("BERTH_STATE_DIR", here.state_dir, 1);
	return c;
}

static void other_instance_end(struct child *c) {
	(void)setenv("BERTH_RUNTIME_DIR", other_instance.runtime_dir, 1);
	ck_assert_int_eq(current_of("alice"), 1);
	ck_assert_ptr_null(strstr(instance_log(&other_instance), "differed from the held slots"));
	child_kill(c);
	expect_current_eventually("alice", 0);
	instance_end(&other_instance);
	(void)setenv("BERTH_RUNTIME_DIR", here.runtime_dir, 1);
}

static void expect_limits_and_exact_counts(void) {
	struct berth *b;
	berth_slot slot[5], more;

	expect_current_eventually("alice", 0);
	expect_current_eventually("acme", 0);
	b = open_session();
	acquire_slots(b, "alice", 5, slot);
	expect_denied(b, "alice");
	expect_code(BERTH_SUCCESS, acquire_weight(b, "acme/bob", 3, &more));
	expect_denied(b, "acme/bob");
	ck_assert_uint_eq(usage_of(b, "acme").current, 3);
	ck_assert_uint_eq(usage_of(b, "acme").limit, 10);
	release_slots(b, slot, 5);
	berth_close(b);
	expect_current_eventually("acme", 0);
}

static void run_under_noise(int requests) {
	struct child servers[3], writer;
	uint64_t seed;

	random_init();
	seed = random_state;
	for (size_t i = 0; i < COUNT_OF(servers); i++) {
		servers[i] = child_start(child_serve, NULL);
		ck_assert_int_eq(child_report(&servers[i]), 0);
	}
	writer = child_start(child_overwrite_segment, &seed);
	ck_assert_int_eq(child_report(&writer), 0);
	for (int i = 0; i < requests; i++) {
		const char *output;

		/* Noise may make these commands fail, but berthctl must always get an answer. */
		(void)ctl(&output, "set", "other", i % 2 ? "7" : "8", NULL);
		(void)ctl(&output, "holders", "alice", NULL);
		(void)ctl(&output, "revoke", "--account", "alice", NULL);
		expect_ctl(0, "alice", "list");
	}
	child_kill(&writer);
	for (size_t i = 0; i < COUNT_OF(servers); i++) {
		(void)kill(servers[i].pid, SIGTERM);
		ck_assert_int_eq(child_report(&servers[i]), 0);
		ck_assert_int_eq(child_end(&servers[i]), 0);
	}
}

START_TEST(random_bytes_everywhere_cause_wrong_answers_only) {
	struct child other = other_instance_start();

	run_under_noise(40);
	ck_assert_msg(waitpid(here.berthd, NULL, WNOHANG) == 0, "berthd died; its log:\n%s",
		instance_log(&here));
	expect_limits_and_exact_counts();
	expect_repaired();
	other_instance_end(&other);
}
END_TEST

/* The new berthd finds noise in the segment, and must rely on the directory only. */
START_TEST(a_berthd_started_after_the_noise_has_limits_and_exact_counts) {
	run_under_noise(5);
	restart_after(SIGKILL);
	expect_limits_and_exact_counts();
}
END_TEST

START_TEST(zeros_everywhere_are_repaired_too) {
	static const char zeros[4096];
	struct child c = holder_start("alice");
	int fd = shared_open("segment", O_RDWR);
	struct berth *b;

	for (off_t at = 0; at < (off_t)map->layout.segment_size; at += sizeof(zeros))
		ck_assert_int_eq(pwrite(fd, zeros, sizeof(zeros), at), sizeof(zeros));
	(void)close(fd);
	b = open_session();
	(void)acquire_slot(b, "alice");
	expect_repaired();
	expect_current_eventually("alice", 1);
	berth_close(b);
	child_kill(&c);
	expect_limits_and_exact_counts();
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_count_written_too_high_denies_until_it_is_repaired},
		{a_count_written_too_low_admits_until_it_is_repaired},
		{a_release_from_a_count_written_too_low_is_1392_and_leaves_no_debt},
		{ancestors_are_repaired_from_the_records_of_those_below},
		{a_peak_that_is_noise_is_restored_from_the_checkpoint},
		{noise_over_a_tag_costs_the_newest_slot_only},
		{a_slot_in_a_range_without_a_session_is_closed},
		{a_record_that_is_noise_is_revoked_and_not_counted},
		{noise_that_looks_like_a_slot_counts_until_the_session_ends},
		{noise_that_looks_like_a_seized_record_is_discharged},
		{noise_that_looks_like_half_a_release_is_discharged},
		{noise_in_seqs_retires_no_record},
		{a_server_that_met_noise_in_its_seqs_uses_all_its_records_again},
		{a_slot_that_a_recount_revoked_is_not_discharged_again},
		{noise_in_bumps_stops_neither_the_end_of_a_session_nor_a_start},
		{a_record_that_cannot_be_discharged_is_not_reported_as_revoked},
		{a_range_left_by_a_berthd_that_died_granting_it_is_not_noise},
		{the_session_table_is_restored_and_survives_a_restart},
		{after_noise_in_armed_berthd_is_woken_again_from_the_next_request_on},
		{random_bytes_everywhere_cause_wrong_answers_only},
		{a_berthd_started_after_the_noise_has_limits_and_exact_counts},
		{zeros_everywhere_are_repaired_too},
		{NULL},
	};

	return run_berthd_suites({"noise", tests, .setup = noise_start, .teardown = here_end});
}
