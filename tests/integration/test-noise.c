/* SPDX-License-Identifier: MIT */

/* A member of group berth writes over the segment: whatever it writes and wherever, berthd and the
 * other servers live, limits stay what they are, other instances don't notice, and when the noise
 * stops the counts become what the records prove. */

#include <sys/mman.h>

#include "counter.h"
#include "suite.h"

static struct map *map;
static const char *const small[] = {
	"--max-accounts", "4096", "--max-slots", "4096", "--max-sessions", "256", NULL};

static int shared_open(const char *name, int flags) {
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%.80s/%s", here.runtime_dir, name);
	fd = open(path, flags | O_CLOEXEC);
	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

/* Behind the library's back. */
static void look_inside(void) {
	ck_assert_int_eq(map_new(shared_open("segment", O_RDWR), shared_open("directory", O_RDONLY),
				 PROT_READ, &map),
		0);
}

static void noise_start(void) {
	repairs_are_meant = true;
	instance_start(&here, small);
	set_limit("alice", "5");
	set_limit("acme", "10");
	set_limit("acme/bob", "3");
	look_inside();
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

/* Another count with the tag that stands there. */
static void scribble_count(const char *name, uint32_t count) {
	struct cell *cell = cell_of(name);

	store_total(&cell->count, count_pack(count, count_bumps(load_acquire(&cell->count))));
}

static struct snapshot snapshot_of(uint32_t number) {
	struct snapshot s;

	ck_assert_int_eq(counter_record(map, number, &s), 0);
	return s;
}

/* The first record that holds a slot of the account; 0: none. */
static uint32_t record_of(const char *name) {
	for (uint32_t n = 1; n < load_acquire(&map->names->slots); n++) {
		struct snapshot s = snapshot_of(n);

		if (snapshot_is_held(s) && place_account(s.place) == account_of(name))
			return n;
	}
	return 0;
}

/* One of the same session's that nobody uses. */
static uint32_t free_record_of(const char *name) {
	uint32_t number = record_of(name);

	ck_assert_uint_ne(number, 0);
	number = number % BERTH_RANGE < BERTH_RANGE / 2 ? number + 5 : number - 5;
	ck_assert_uint_eq(place_state(snapshot_of(number).place), RECORD_FREE);
	return number;
}

static void scribble_record(uint32_t number, uint64_t place, uint64_t noted) {
	store_total(&map_record(map, number)->noted, noted);
	store_total(&map_record(map, number)->place, place);
}

/* A step of the cycle after the next, as noise would hit it by chance. */
static uint64_t step_after(uint32_t number, uint32_t step) {
	return seq_rest(snapshot_of(number).seq) + (uint64_t)2 * BERTH_CYCLE + step;
}

static bool record_rests(void *data) {
	struct snapshot s;

	(void)ctl(&(const char *){NULL}, "status", NULL);
	s = snapshot_of(*(uint32_t *)data);
	/* Noise may look like the end of a cycle, too. */
	if (load_acquire(&map_record(map, *(uint32_t *)data)->noted) > BERTH_SEQ_MASK)
		return false;
	return place_state(s.place) == RECORD_FREE ||
	       (place_state(s.place) == RECORD_PLACED && seq_charged(s.seq) == 0);
}

static void expect_rest_eventually(uint32_t number) {
	ck_assert_msg(eventually(record_rests, &number),
		"record %u is %#llx, %#llx; berthd's log:\n%s", number,
		(unsigned long long)load_acquire(&map_record(map, number)->place),
		(unsigned long long)load_acquire(&map_record(map, number)->noted),
		instance_log(&here));
}

static uint32_t armed(void) {
	return load_total(&map->header->armed);
}

static bool is_armed(void *data) {
	(void)data;
	return armed() != 0;
}

/* After that it looks at nothing until it is woken. */
static void wait_until_berthd_sleeps(void) {
	ck_assert_msg(eventually(is_armed, NULL), "it never sleeps");
}

static bool says_repaired(void *data) {
	(void)data;
	return logged_times("differed from what the slots prove") > 0;
}

static void expect_repaired(void) {
	ck_assert_msg(eventually(says_repaired, NULL), "nothing was repaired; berthd's log:\n%s",
		instance_log(&here));
}

/* -- one word ---------------------------------------------------------------------------------- */

START_TEST(a_count_written_too_high_denies_until_it_is_repaired) {
	struct berth *b = open_session();
	berth_slot slot = take(b, "alice"), more;

	wait_until_berthd_sleeps();
	scribble_count("alice", 1000);
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &more));
	/* The denial alone makes berthd look. */
	expect_repaired();
	expect_logged("'alice' counted 1000 instead of 1");
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	for (int i = 0; i < 4; i++)
		(void)take(b, "alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &more));
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

START_TEST(a_count_written_too_low_admits_until_it_is_repaired) {
	struct berth *b = open_session();
	berth_slot slot[6], more;

	for (int i = 0; i < 5; i++)
		slot[i] = take(b, "alice");
	wait_until_berthd_sleeps();
	scribble_count("alice", 0);
	slot[5] = take(b, "alice");
	expect_repaired();
	ck_assert_uint_eq(usage_of(b, "alice").current, 6);
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &more));
	for (int i = 0; i < 6; i++)
		expect_code(BERTH_SUCCESS, berth_release(b, slot[i]));
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	berth_close(b);
}
END_TEST

START_TEST(a_release_from_a_count_written_too_low_is_1392_and_leaves_no_debt) {
	struct berth *b = open_session();
	berth_slot first = take(b, "alice"), second = take(b, "alice");

	scribble_count("alice", 0);
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
	scribble_count("acme", 9);
	scribble_count("acme/bob", 1);
	/* berthctl looks, and so does berthd. */
	expect_current_eventually("acme", 3);
	expect_current_eventually("acme/bob", 3);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert_uint_eq(usage_of(b, "acme").current, 0);
	berth_close(b);
}
END_TEST

START_TEST(a_peak_that_is_noise_comes_back_from_the_checkpoint) {
	struct berth *b = open_session();

	(void)take(b, "alice");
	(void)take(b, "alice");
	scribble_count("alice", BERTH_COUNT_MAX);
	store_relaxed(&cell_of("alice")->peak, 1000);
	expect_current_eventually("alice", 2);
	ck_assert_uint_le(usage_of(b, "alice").peak, 5);
	berth_close(b);
}
END_TEST

/* The tag is the only one to tell of the newest step; the record of the slot before was told. */
START_TEST(noise_over_a_tag_costs_the_newest_slot_and_none_else) {
	struct berth *b = open_session();
	berth_slot first = take(b, "alice"), second = take(b, "alice");

	store_total(&cell_of("alice")->tag, UINT64_MAX);
	store_total(&cell_of("alice")->count, UINT64_MAX);
	expect_current_eventually("alice", 1);
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, second));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(b, second));
	expect_code(BERTH_SUCCESS, berth_release(b, first));
	ck_assert_uint_eq(usage_of(b, "alice").current, 0);
	for (int i = 0; i < 5; i++)
		(void)take(b, "alice");
	ck_assert_uint_eq(usage_of(b, "alice").current, 5);
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- records ----------------------------------------------------------------------------------- */

START_TEST(a_slot_in_nobodys_range_is_closed) {
	struct berth *b = open_session();
	uint32_t nobodys = load_acquire(&map->names->slots) - 1;

	(void)take(b, "alice");
	scribble_record(nobodys, place_pack(RECORD_PLACED, 0, 4, account_of("alice")),
		step_after(nobodys, 1));
	expect_ctl(0, "", "get", "alice");
	expect_repaired();
	expect_current_eventually("alice", 1);
	ck_assert_uint_eq(place_state(snapshot_of(nobodys).place), RECORD_CLOSED);
	berth_close(b);
}
END_TEST

START_TEST(a_slot_that_is_noise_is_taken_from_its_holder_and_counts_no_more) {
	struct berth *b = open_session();
	berth_slot slot = take(b, "alice"), other = take(b, "alice");
	/* Among it: no weight; another depth than the account's; an account that there isn't. */
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
		uint32_t number = record_of("alice");

		scribble_record(number, noise[i].place,
			noise[i].step == UINT32_MAX ? UINT64_MAX
						    : step_after(number, noise[i].step));
		expect_rest_eventually(number);
		expect_current_eventually("alice", 1);
		expect_code(BERTH_CONNECTION_ABORTED, berth_release(b, i % 2 ? other : slot));
		*(i % 2 ? &other : &slot) = take(b, "alice");
		ck_assert_uint_eq(usage_of(b, "alice").current, 2);
	}
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

/* What noise leaves may look like a slot; then it counts as one, until its session's end. */
START_TEST(a_slot_that_noise_made_counts_until_its_sessions_end) {
	struct berth *b = open_session();
	berth_slot slot = take(b, "alice");
	uint32_t free_one = free_record_of("alice");

	scribble_record(free_one, place_pack(RECORD_PLACED, 0, 2, account_of("alice")),
		step_after(free_one, 1));
	expect_current_eventually("alice", 3);
	expect_ctl(0, "\"weight\":2", "holders", "alice", "--json");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_current_eventually("alice", 0);
}
END_TEST

START_TEST(what_nobody_has_begun_to_take_back_is_finished) {
	struct berth *b = open_session();
	uint32_t free_one;

	(void)take(b, "alice");
	free_one = free_record_of("alice");
	scribble_record(free_one, place_pack(RECORD_SEIZED, 0, 1, account_of("alice")),
		step_after(free_one, 0));
	scribble_record(free_one + 1, place_pack(RECORD_SEIZED, 0, 1, account_of("alice")),
		step_after(free_one + 1, 1));
	expect_current_eventually("alice", 1);
	expect_rest_eventually(free_one);
	expect_rest_eventually(free_one + 1);
	expect_current_eventually("alice", 1);
	berth_close(b);
}
END_TEST

START_TEST(a_slot_half_given_back_by_nobody_is_finished) {
	struct berth *b = open_session();
	berth_slot slot = take(b, "acme/bob");
	uint32_t free_one = free_record_of("acme/bob");

	/* One level is charged still, or so it looks. */
	scribble_record(free_one, place_pack(RECORD_PLACED, 1, 1, account_of("acme/bob")),
		step_after(free_one, BERTH_CYCLE - 1));
	scribble_record(free_one + 1, place_pack(RECORD_SEIZED, 1, 1, account_of("acme/bob")),
		step_after(free_one + 1, 2));
	scribble_count("acme", 7);
	expect_current_eventually("acme", 1);
	expect_rest_eventually(free_one);
	expect_rest_eventually(free_one + 1);
	expect_current_eventually("acme/bob", 1);
	expect_current_eventually("acme", 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_current_eventually("acme", 0);
}
END_TEST

/* -- seqs -------------------------------------------------------------------------------------- */

static void expect_all_rest(uint32_t first) {
	for (uint32_t n = first; n < first + BERTH_RANGE; n++)
		expect_rest_eventually(n);
}

/* Seqs that no record comes to, with any step; and some that it may come to. */
static uint64_t noise_of_seq(uint32_t i) {
	static const uint64_t first[] = {UINT64_MAX, UINT64_C(1) << 42, UINT64_C(1) << 63,
		UINT64_MAX - BERTH_CYCLE + 1, (UINT64_C(1) << 42) + 5, (UINT64_C(3) << 41) + 8};

	if (i < COUNT_OF(first))
		return first[i];
	return ((uint64_t)random_below(UINT32_MAX) + 1) << 42 | random_below(UINT32_MAX);
}

/* In one range, which is all that the session has; its server goes on trying meanwhile. */
START_TEST(seqs_that_are_noise_use_no_record_up) {
	struct berth *b = open_session();
	uint32_t first = 0;
	berth_slot slot[BERTH_RANGE];

	random_init();
	set_limit("many", "1000");
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		slot[i] = take(b, "many");
	first = record_of("many") / BERTH_RANGE * BERTH_RANGE;
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		expect_code(BERTH_SUCCESS, berth_release(b, slot[i]));
	for (int round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < BERTH_RANGE; i++)
			store_total(&map_record(map, first + i)->noted, noise_of_seq(i));
		/* It finds a slot elsewhere, or none. */
		for (uint32_t i = 0; round % 2 == 1 && i < BERTH_RANGE; i++)
			if (berth_acquire(b, "many", &slot[0]) == BERTH_SUCCESS)
				(void)berth_release(b, slot[0]);
		expect_current_eventually("many", 0);
		expect_all_rest(first);
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			struct snapshot s = snapshot_of(first + i);

			ck_assert_msg(s.seq <= BERTH_SEQ_MASK / 2 + 2 * BERTH_CYCLE,
				"record %u is left at %#llx", first + i, (unsigned long long)s.seq);
		}
		ck_assert_int_eq(status_number("slots_retired"), 0);
	}
	/* A session that comes gets the same range, and uses all of it. */
	berth_close(b);
	expect_status_eventually("slots_granted", 0);
	b = open_session();
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		slot[i] = take(b, "many");
	ck_assert_int_eq(status_number("slots_granted"), BERTH_RANGE);
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		expect_code(BERTH_SUCCESS, berth_release(b, slot[i]));
	berth_close(b);
	expect_current_eventually("many", 0);
}
END_TEST

/* The server that met the noise isn't worse off than one that comes. */
START_TEST(a_server_that_met_noise_in_its_seqs_uses_all_its_records_again) {
	struct berth *b = open_session();
	berth_slot slot[8 * BERTH_RANGE];
	uint32_t first;
	long long granted;

	set_limit("many", "1000");
	slot[0] = take(b, "many");
	first = record_of("many") / BERTH_RANGE * BERTH_RANGE;
	expect_code(BERTH_SUCCESS, berth_release(b, slot[0]));
	/* All of them at the end of a cycle, where the next one may begin. */
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		store_total(&map_record(map, first + i)->noted,
			UINT64_MAX - BERTH_CYCLE * i - (BERTH_CYCLE - 1));
	for (uint32_t i = 0; i < 2 * BERTH_RANGE; i++)
		if (berth_acquire(b, "many", &slot[0]) == BERTH_SUCCESS)
			(void)berth_release(b, slot[0]);
	expect_all_rest(first);
	expect_current_eventually("many", 0);
	granted = status_number("slots_granted");
	ck_assert_int_le(granted, COUNT_OF(slot));
	for (long long i = 0; i < granted; i++)
		slot[i] = take(b, "many");
	ck_assert_int_eq(status_number("slots_granted"), granted);
	berth_close(b);
	expect_current_eventually("many", 0);
}
END_TEST

/* The cell bore the tag of its slot, so that a release needs no look at the record. */
START_TEST(what_a_recount_took_back_is_not_given_back_again) {
	struct berth *b = open_session(), *other = open_session();
	berth_slot slot, others = take(other, "alice");
	uint32_t number;

	expect_code(BERTH_SUCCESS, berth_release(b, take(b, "alice")));
	slot = take(b, "alice");
	number = slot >> 22 & 0x3FFFFF;
	expect_current_eventually("alice", 2);
	scribble_record(number, UINT64_MAX, snapshot_of(number).seq);
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

static bool bumps_begin_anew(void *data) {
	return count_bumps(load_acquire(&((struct cell *)data)->count)) < 1000;
}

/* Nothing that the daemon does with the account then is possible, until a recount. */
START_TEST(bumps_that_are_noise_stop_neither_a_session_s_end_nor_a_start) {
	struct cell *cell;

	for (int round = 0; round < 2; round++) {
		struct child c = child_start(child_hold_one, (void *)"alice");

		ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
		cell = cell_of("alice");
		store_total(&cell->count, count_pack(1, BERTH_BUMPS_LAST));
		if (round == 1) {
			(void)instance_kill(&here, SIGKILL);
			instance_restart(&here);
		}
		child_kill(&c);
		expect_current_eventually("alice", 0);
		ck_assert(eventually(bumps_begin_anew, cell_of("alice")));
		set_limit("alice", "7");
		expect_status_eventually("slots_granted", 0);
	}
}
END_TEST

/* Perhaps a recount has dealt with the noise before. */
static bool revoke_fails(void *data) {
	uint32_t number = *(uint32_t *)data;
	const char *said;

	store_total(&cell_of("acme")->count, count_pack(0, BERTH_BUMPS_LAST));
	scribble_count("acme/bob", 1);
	scribble_record(number, place_pack(RECORD_PLACED, 1, 1, account_of("acme/bob")),
		step_after(number, 1));
	if (ctl(&said, "revoke", "acme/bob", "--all", NULL) == 0)
		return false;
	ck_assert_msg(
		strstr(said, "slots revoked: 0; records that could not be looked at or changed: 1"),
		"%s", said);
	return true;
}

/* A record that looks as if it was taking a slot, on a path where the level above can't be sealed. */
START_TEST(what_cannot_be_taken_back_is_not_said_to_be_revoked) {
	struct berth *b = open_session();
	berth_slot slot = take(b, "acme/bob");
	uint32_t number = free_record_of("acme/bob");

	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert(eventually(revoke_fails, &number));
	/* So it is when berthd has dealt with the noise. */
	scribble_count("acme", 3);
	expect_current_eventually("acme", 0);
	expect_ctl(0, "revoked 0 slots", "revoke", "acme/bob", "--all");
	berth_close(b);
}
END_TEST

/* Its death between the steps of a grant (ranges.c, G1 and G2) leaves this, and nobody wrote there. */
START_TEST(a_range_that_a_dead_berthd_was_granting_is_no_noise) {
	struct berth *b = open_session();
	uint32_t free_one;

	(void)take(b, "alice");
	free_one = free_record_of("alice");
	(void)instance_kill(&here, SIGKILL);
	scribble_record(free_one, place_pack(RECORD_CLOSED, 0, 0, 0), snapshot_of(free_one).seq);
	instance_restart(&here);
	expect_rest_eventually(free_one);
	expect_current_eventually("alice", 1);
	ck_assert_msg(!says_repaired(NULL), "%s", instance_log(&here));
	berth_close(b);
}
END_TEST

/* -- sessions ---------------------------------------------------------------------------------- */

static bool table_is_right(void *data) {
	struct session_entry *e = map_session(map, *(uint32_t *)data);

	(void)ctl(&(const char *){NULL}, "get", "alice", NULL);
	return load_relaxed(&e->state) == SESSION_OPEN && load_relaxed(&e->uid) == getuid() &&
	       load_relaxed(map_owner(map, 1)) == *(uint32_t *)data + 1;
}

START_TEST(the_session_table_is_written_again_and_survives_a_restart_then) {
	struct child c = child_start(child_hold_one, (void *)"alice");
	uint32_t index = 0;

	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	memset(map_session(map, 0), 0xA5, 64 * sizeof(struct session_entry));
	memset(map_owner(map, 0), 0x5A, 64 * sizeof(uint32_t));
	ck_assert_msg(eventually(table_is_right, &index), "the entry isn't as it was");
	expect_repaired();
	ck_assert_int_eq(
		json_number_in(expect_ctl(0, "", "holders", "alice", "--json"), "pid"), c.pid);
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 1);
	ck_assert_int_eq(status_number("sessions"), 1);
	child_kill(&c);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- what wakes the daemon --------------------------------------------------------------------- */

START_TEST(a_daemon_whose_bell_was_torn_off_hears_again_after_the_next_request) {
	struct berth *b = open_session();

	wait_until_berthd_sleeps();
	store_total(&map->header->armed, 0);
	(void)take(b, "alice");
	expect_ctl(0, "", "status");
	ck_assert_msg(eventually(is_armed, NULL), "it waits for a bell that nobody rings");
	scribble_count("alice", 5);
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

static bool code_is_an_answer(int code) {
	switch (code) {
	case BERTH_SUCCESS:
	case BERTH_NO_SYSTEM_RESOURCES:
	case BERTH_CONNECTION_ABORTED:
	case BERTH_TOO_MANY_POSTS:
	case BERTH_CONNECTION_COUNT_LIMIT:
	case BERTH_NO_SUCH_USER:
	case BERTH_FILE_CORRUPT:
	case BERTH_CONNECTION_REFUSED:
		return true;
	default:
		return false;
	}
}

/* A server that goes on as well as it can. It ends when told to; a code that no answer is reported. */
static void child_serve(struct child *c, void *data) {
	const char *const names[] = {"alice", "acme/bob", "acme"};
	struct berth *b = NULL;
	int strange = 0;

	(void)data;
	(void)signal(SIGTERM, on_term);
	if (berth_open(NULL, &b) != BERTH_SUCCESS)
		_exit(1);
	child_say(c, 0);
	for (unsigned i = 0; !stopping && strange == 0; i++) {
		berth_slot slot;
		int code = berth_acquire(b, names[i % COUNT_OF(names)], &slot);

		if (!code_is_an_answer(code))
			strange = code;
		code = code == BERTH_SUCCESS ? berth_release(b, slot) : BERTH_SUCCESS;
		if (!code_is_an_answer(code))
			strange = code;
	}
	berth_close(b);
	child_say(c, strange);
}

/* Every byte of the file, again and again, for as long as it lives. */
static void child_scribble(struct child *c, void *data) {
	int fd = shared_open("segment", O_RDWR);
	size_t words = map->layout.segment_size / 8;
	_Atomic uint64_t *word = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (word == MAP_FAILED)
		_exit(1);
	random_state = *(uint64_t *)data;
	child_say(c, 0);
	for (;;)
		for (size_t i = 0; i < words; i++) {
			uint64_t high = random_below(UINT32_MAX);

			store_relaxed(&word[i], high << 32 | random_below(UINT32_MAX));
		}
}

static struct instance elsewhere;

/* Another instance with a server of its own. Leaves the environment as it was. */
static struct child elsewhere_start(void) {
	struct child c;

	instance_start(&elsewhere, small);
	expect_ctl(0, "", "set", "alice", "2");
	c = child_start(child_hold_one, (void *)"alice");
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	(void)setenv("BERTH_RUNTIME_DIR", here.runtime_dir, 1);
	(void)setenv("BERTH_STATE_DIR", here.state_dir, 1);
	return c;
}

static void elsewhere_end(struct child *c) {
	(void)setenv("BERTH_RUNTIME_DIR", elsewhere.runtime_dir, 1);
	ck_assert_int_eq(current_of("alice"), 1);
	ck_assert_ptr_null(strstr(instance_log(&elsewhere), "differed from what the slots prove"));
	child_kill(c);
	expect_current_eventually("alice", 0);
	instance_end(&elsewhere);
	(void)setenv("BERTH_RUNTIME_DIR", here.runtime_dir, 1);
}

static void expect_limits_and_exact_counts(void) {
	struct berth *b;
	berth_slot slot[5], more;

	expect_current_eventually("alice", 0);
	expect_current_eventually("acme", 0);
	b = open_session();
	for (int i = 0; i < 5; i++)
		slot[i] = take(b, "alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &more));
	expect_code(BERTH_SUCCESS, acquire_weight(b, "acme/bob", 3, &more));
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "acme/bob", &more));
	ck_assert_uint_eq(usage_of(b, "acme").current, 3);
	ck_assert_uint_eq(usage_of(b, "acme").limit, 10);
	for (int i = 0; i < 5; i++)
		expect_code(BERTH_SUCCESS, berth_release(b, slot[i]));
	berth_close(b);
	expect_current_eventually("acme", 0);
}

static void run_under_noise(int requests) {
	struct child servers[3], scribbler;
	uint64_t seed;

	random_init();
	seed = random_state;
	for (size_t i = 0; i < COUNT_OF(servers); i++) {
		servers[i] = child_start(child_serve, NULL);
		ck_assert_int_eq(child_report(&servers[i]), 0);
	}
	scribbler = child_start(child_scribble, &seed);
	ck_assert_int_eq(child_report(&scribbler), 0);
	for (int i = 0; i < requests; i++) {
		const char *said;

		/* Whatever they answer, they answer. */
		(void)ctl(&said, "set", "other", i % 2 ? "7" : "8", NULL);
		(void)ctl(&said, "holders", "alice", NULL);
		(void)ctl(&said, "revoke", "--account", "alice", NULL);
		expect_ctl(0, "alice", "list");
	}
	child_kill(&scribbler);
	for (size_t i = 0; i < COUNT_OF(servers); i++) {
		(void)kill(servers[i].pid, SIGTERM);
		ck_assert_int_eq(child_report(&servers[i]), 0);
		ck_assert_int_eq(child_end(&servers[i]), 0);
	}
}

START_TEST(random_bytes_all_over_cost_wrong_answers_and_nothing_else) {
	struct child other = elsewhere_start();

	run_under_noise(40);
	ck_assert_msg(waitpid(here.berthd, NULL, WNOHANG) == 0, "berthd died; its log:\n%s",
		instance_log(&here));
	expect_limits_and_exact_counts();
	expect_repaired();
	elsewhere_end(&other);
}
END_TEST

/* What it finds is noise, and it believes the directory alone. */
START_TEST(a_daemon_started_after_the_noise_finds_its_way) {
	run_under_noise(5);
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	expect_limits_and_exact_counts();
}
END_TEST

START_TEST(zeros_all_over_are_survived_too) {
	struct child c = child_start(child_hold_one, (void *)"alice");
	int fd = shared_open("segment", O_RDWR);
	struct berth *b;

	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	for (off_t at = 0; at < (off_t)map->layout.segment_size; at += 4096) {
		static const char zeros[4096];

		ck_assert_int_eq(pwrite(fd, zeros, sizeof(zeros), at), sizeof(zeros));
	}
	(void)close(fd);
	b = open_session();
	(void)take(b, "alice");
	expect_repaired();
	expect_current_eventually("alice", 1);
	berth_close(b);
	child_kill(&c);
	expect_limits_and_exact_counts();
}
END_TEST

int main(void) {
	const TTest *const tests[] = {
		a_count_written_too_high_denies_until_it_is_repaired,
		a_count_written_too_low_admits_until_it_is_repaired,
		a_release_from_a_count_written_too_low_is_1392_and_leaves_no_debt,
		ancestors_are_repaired_from_the_records_of_those_below,
		a_peak_that_is_noise_comes_back_from_the_checkpoint,
		noise_over_a_tag_costs_the_newest_slot_and_none_else,
		a_slot_in_nobodys_range_is_closed,
		a_slot_that_is_noise_is_taken_from_its_holder_and_counts_no_more,
		a_slot_that_noise_made_counts_until_its_sessions_end,
		what_nobody_has_begun_to_take_back_is_finished,
		a_slot_half_given_back_by_nobody_is_finished,
		seqs_that_are_noise_use_no_record_up,
		a_server_that_met_noise_in_its_seqs_uses_all_its_records_again,
		what_a_recount_took_back_is_not_given_back_again,
		bumps_that_are_noise_stop_neither_a_session_s_end_nor_a_start,
		what_cannot_be_taken_back_is_not_said_to_be_revoked,
		a_range_that_a_dead_berthd_was_granting_is_no_noise,
		the_session_table_is_written_again_and_survives_a_restart_then,
		a_daemon_whose_bell_was_torn_off_hears_again_after_the_next_request,
		random_bytes_all_over_cost_wrong_answers_and_nothing_else,
		a_daemon_started_after_the_noise_finds_its_way,
		zeros_all_over_are_survived_too,
		NULL,
	};

	return suite_run("noise", noise_start, tests);
}
