/* SPDX-License-Identifier: MIT */

/*
 * What a pair costs one process where it isn't as short as can be: with labels, with long names,
 * beside other threads, where several slots are held and one goes while another comes, and with many
 * accounts in turn. Beside it table, and what counts by name (named.h).
 */

#include <berth.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "contest.h"
#include "named.h"
#include "report.h"
#include "util.h"
#include "works.h"

static struct berth *handle, *second_handle;

static void berth_begin(unsigned object) {
	(void)object;
	bench_must(berth_open(NULL, &handle), "berth_open");
}

/* -- names and labels -------------------------------------------------------------------------- */

static char long_name[256]; /* 255 bytes */

static const struct form {
	const char *account, *label;
} forms[] = {
	{"alice@example.com", NULL},
	{"alice@example.com", "192.0.2.1:993"},
	{"alice@example.com", "[2001:db8:85a3::8a2e:370:7334]:993, imap"},
	{"alice.liddell@students.example.com", NULL},
	{long_name, NULL},
};

static void accounts_set(void) {
	memset(long_name, 'x', sizeof(long_name) - 1);
	for (size_t i = 0; i < ELEMENTS(forms); i++)
		berthd_set(forms[i].account, "100");
	berthd_set("u*@example.com", "10");
}

static void form_pairs(unsigned form, unsigned long n) {
	const char *account = forms[form].account;
	berth_slot slot;

	while (n-- > 0) {
		bench_must(berth_acquire(handle, account, &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static void form_pairs_labelled(unsigned form, unsigned long n) {
	struct berth_request request = {.size = sizeof(request),
		.account = forms[form].account,
		.weight = 1,
		.label = forms[form].label};
	berth_slot slot;

	while (n-- > 0) {
		bench_must(berth_acquire_req(handle, &request, &slot), "berth_acquire_req");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static struct named *table;

static void semaphores_begin(unsigned form) {
	table = named_new(1, NAMED_ATOMIC);
	named_add(table, forms[form].account, 10);
}

static void semaphores_pairs(unsigned form, unsigned long n) {
	while (n-- > 0) {
		struct named_entry *e = named_take(table, forms[form].account);

		bench_check(e != NULL, "a semaphore is full");
		named_give(e);
	}
}

/* -- threads ----------------------------------------------------------------------------------- */

static void *sleep_on(void *nothing) {
	for (;;)
		(void)pause();
	return nothing;
}

static void sleeper_begin(unsigned object) {
	pthread_t thread;

	berth_begin(object);
	bench_check(pthread_create(&thread, NULL, sleep_on, NULL) == 0, "pthread_create");
}

/* -- several slots are held: the oldest goes, one comes ---------------------------------------- */

#define HELD 5

static struct held {
	struct berth *handle;
	berth_slot slot;
} held[HELD];

static void held_take(struct held *h) {
	bench_must(berth_acquire(h->handle, forms[0].account, &h->slot), "berth_acquire");
}

static void held_begin(unsigned object) {
	if (!handle)
		berth_begin(object);
	for (unsigned i = 0; i < HELD; i++) {
		held[i].handle = i % 2 && second_handle ? second_handle : handle;
		held_take(&held[i]);
	}
}

static void held_by_two_begin(unsigned object) {
	berth_begin(object);
	bench_must(berth_open(NULL, &second_handle), "berth_open");
	held_begin(object);
}

/* If there are two sessions, what one has released the other one acquires. */
static void one_goes_one_comes(unsigned object, unsigned long n) {
	static unsigned oldest;

	(void)object;
	while (n-- > 0) {
		struct held *h = &held[oldest++ % HELD];

		bench_must(berth_release(h->handle, h->slot), "berth_release");
		if (second_handle)
			h->handle = h->handle == handle ? second_handle : handle;
		held_take(h);
	}
}

/* -- these, beside a semaphore ----------------------------------------------------------------- */

static void work_forms(void) {
	struct contender c[] = {
		{.name = "sem_t", .peer = &peer_sem, .run = peer_sem.pairs},
		{.name = "name of 17 bytes", .open = berth_begin, .run = form_pairs},
		{.name = "and a label of 13 bytes",
			.object = 1,
			.open = berth_begin,
			.run = form_pairs_labelled},
		{.name = "and a label of 39 bytes",
			.object = 2,
			.open = berth_begin,
			.run = form_pairs_labelled},
		{.name = "name of 34 bytes", .object = 3, .open = berth_begin, .run = form_pairs},
		{.name = "name of 255 bytes", .object = 4, .open = berth_begin, .run = form_pairs},
		{.name = "beside a thread that sleeps", .open = sleeper_begin, .run = form_pairs},
		{.name = "5 held, one goes, one comes",
			.open = held_begin,
			.run = one_goes_one_comes},
		{.name = "the same, by 2 sessions",
			.open = held_by_two_begin,
			.run = one_goes_one_comes},
		{.name = "semaphore by name, 17 bytes",
			.open = semaphores_begin,
			.run = semaphores_pairs},
		{.name = "semaphore by name, 34 bytes",
			.object = 3,
			.open = semaphores_begin,
			.run = semaphores_pairs},
	};
	struct work *w = work_new("forms", "Acquire and release: names, labels, threads, holders",
		"one process; accounts of one level; where 5 slots are held, the oldest goes and a "
		"new one comes each time");

	contest(c, ELEMENTS(c), bench.rounds);
	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		struct row *r = work_row(w, c[i].name, "ns", &c[i].ns);

		if (i > 0)
			row_versus(r, "sem_t", &c[0].ns, BOUND_NONE, 0);
	}
	report_show(w);
}

/* -- two threads ------------------------------------------------------------------------------- */

static void own_pairs(unsigned object, unsigned long n) {
	const char *account = object_name(object);
	berth_slot slot;

	while (n-- > 0) {
		bench_must(berth_acquire(handle, account, &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static struct contender threads_contender(bool berth, unsigned threads) {
	return (struct contender){.name = berth ? "berth" : "sem_t",
		.peer = berth ? NULL : &peer_sem,
		.processes = threads,
		.threads = true,
		.object = OBJECT_OWN,
		.apart = true,
		.open = berth ? berth_begin : NULL,
		.run = berth ? own_pairs : peer_sem.pairs};
}

static void work_threads(void) {
	struct contender c[4];
	struct work *w = work_new("threads", "2 threads of a process, different accounts",
		"pairs a second, both together, each thread on a CPU of its own");

	if (cpus_count() < 2) {
		work_missing(w, "all", "there is one CPU only");
		report_show(w);
		return;
	}
	for (unsigned i = 0; i < ELEMENTS(c); i++)
		c[i] = threads_contender(i < 2, 1 + i % 2);
	contest(c, ELEMENTS(c), bench.rounds);
	for (unsigned i = 0; i < ELEMENTS(c); i += 2) {
		struct series one = series_scale(&c[i].rate, 1e-6);
		struct series two = series_scale(&c[i + 1].rate, 1e-6);
		char name[64];

		(void)snprintf(name, sizeof(name), "%s, 1 thread", c[i].name);
		(void)work_row(w, name, "M/s", &one);
		(void)snprintf(name, sizeof(name), "%s, 2 threads", c[i].name);
		row_versus(work_row(w, name, "M/s", &two), "one", &one, BOUND_NONE, 0);
	}
	report_show(w);
}

/* -- accounts in turn -------------------------------------------------------------------------- */

#define IN_TURN_MAX 10000u

static char names[IN_TURN_MAX][ACCOUNT_NAME_SIZE];
static unsigned at;

static const char *name_next(unsigned count) {
	at = at + 1 < count ? at + 1 : 0;
	return names[at];
}

static void names_make(unsigned count) {
	for (unsigned i = 0; i < count; i++)
		account_name(i, names[i]);
}

static void berth_pairs_in_turn(unsigned count, unsigned long n) {
	berth_slot slot;

	while (n-- > 0) {
		bench_must(berth_acquire(handle, name_next(count), &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static void berth_begin_in_turn(unsigned count) {
	berth_begin(count);
	names_make(count);
	berth_pairs_in_turn(count, count);
}

static void table_begin_in_turn(unsigned count, enum named_lock lock) {
	names_make(count);
	table = named_new(count, lock);
	for (unsigned i = 0; i < count; i++)
		named_add(table, names[i], 10);
}

static void semaphores_begin_in_turn(unsigned count) {
	table_begin_in_turn(count, NAMED_ATOMIC);
}

static void semaphores_pairs_in_turn(unsigned count, unsigned long n) {
	while (n-- > 0) {
		struct named_entry *e = named_take(table, name_next(count));

		bench_check(e != NULL, "a semaphore is full");
		named_give(e);
	}
}

static void robust_begin_in_turn(unsigned count) {
	table_begin_in_turn(count, NAMED_ROBUST);
}

static void robust_pairs_in_turn(unsigned count, unsigned long n) {
	while (n-- > 0) {
		struct named_entry *e = named_take_locked(table, name_next(count));

		bench_check(e != NULL, "an entry is full");
		named_give_locked(table, e);
	}
}

static const struct contender in_turn[] = {
	{.name = "berth", .open = berth_begin_in_turn, .run = berth_pairs_in_turn},
	{.name = "semaphore by name",
		.open = semaphores_begin_in_turn,
		.run = semaphores_pairs_in_turn},
	{.name = "table under a robust mutex",
		.open = robust_begin_in_turn,
		.run = robust_pairs_in_turn},
};
static const unsigned in_turn_counts[] = {16, 100, 1000, 10000};
#define COUNTS ELEMENTS(in_turn_counts)

static void work_in_turn(void) {
	struct contender c[ELEMENTS(in_turn) * COUNTS];
	struct work *w = work_new("in-turn", "16 to 10,000 accounts in turn, by one session",
		"names of 21 bytes, made before; every account was used before");

	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		c[i] = in_turn[i / COUNTS];
		c[i].object = in_turn_counts[i % COUNTS];
	}
	contest(c, ELEMENTS(c), bench.rounds);
	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		char name[64], number[NUMBER_SIZE];
		struct row *r;

		(void)snprintf(name, sizeof(name), "%s, of %s", c[i].name,
			count_text(c[i].object, number));
		r = work_row(w, name, "ns", &c[i].ns);
		if (i % COUNTS > 0)
			row_versus(r, "of 16", &c[i - i % COUNTS].ns, BOUND_NONE, 0);
	}
	report_show(w);
}

void works_forms(void) {
	peers_start();
	accounts_set();
	work_forms();
	work_threads();
	work_in_turn();
}
