/* SPDX-License-Identifier: MIT */

/*
 * Measures what an acquire and a release cost one process in other cases than the simplest: with
 * labels, with long names, beside other threads, while it holds several slots, and with many
 * accounts in turn. Compares berth with sem_t and with the hash tables of named.h.
 */

#include <berth.h>

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "contest.h"
#include "named.h"
#include "report.h"
#include "util.h"
#include "works.h"

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

static void form_pairs(unsigned form, unsigned long n) {
	handle_pairs(forms[form].account, n);
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

static void semaphores_open(unsigned form) {
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

/* -- a second thread --------------------------------------------------------------------------- */

static void *sleep_on(void *nothing) {
	for (;;)
		(void)pause();
	return nothing;
}

static void threaded_open(unsigned unused) {
	pthread_t thread;

	handle_open(unused);
	bench_check(pthread_create(&thread, NULL, sleep_on, NULL) == 0, "pthread_create");
}

/* -- several held slots ------------------------------------------------------------------------ */

#define HELD 5

static struct berth *second_handle; /* NULL: the process has one session only */
static struct held {
	struct berth *handle;
	berth_slot slot;
} held[HELD];

static void held_acquire(struct held *h) {
	bench_must(berth_acquire(h->handle, forms[0].account, &h->slot), "berth_acquire");
}

static void held_open(unsigned unused) {
	handle_open(unused);
	for (unsigned i = 0; i < HELD; i++) {
		held[i].handle = i % 2 && second_handle ? second_handle : handle;
		held_acquire(&held[i]);
	}
}

static void held_by_two_open(unsigned unused) {
	bench_must(berth_open(NULL, &second_handle), "berth_open");
	held_open(unused);
}

/* Releases the oldest slot, then acquires one. If there are two sessions, the session that didn't
 * release acquires. */
static void held_pairs(unsigned object, unsigned long n) {
	static unsigned oldest;

	(void)object;
	while (n-- > 0) {
		struct held *h = &held[oldest++ % HELD];

		bench_must(berth_release(h->handle, h->slot), "berth_release");
		if (second_handle)
			h->handle = h->handle == handle ? second_handle : handle;
		held_acquire(h);
	}
}

#define FORM(title, form, opens, runs) \
	{ .name = (title), .object = (form), .open = (opens), .run = (runs) }

static void work_forms(void) {
	struct contender c[] = {
		contender_of(&peer_sem, 1, OBJECT_FREE),
		FORM("name of 17 bytes", 0, handle_open, form_pairs),
		FORM("and a label of 13 bytes", 1, handle_open, form_pairs_labelled),
		FORM("and a label of 39 bytes", 2, handle_open, form_pairs_labelled),
		FORM("name of 34 bytes", 3, handle_open, form_pairs),
		FORM("name of 255 bytes", 4, handle_open, form_pairs),
		FORM("beside a thread that sleeps", 0, threaded_open, form_pairs),
		FORM("5 held, one goes, one comes", 0, held_open, held_pairs),
		FORM("the same, by 2 sessions", 0, held_by_two_open, held_pairs),
		FORM("semaphore by name, 17 bytes", 0, semaphores_open, semaphores_pairs),
		FORM("semaphore by name, 34 bytes", 3, semaphores_open, semaphores_pairs),
	};
	struct work *w = work_new("forms", "Acquire and release: names, labels, threads, holders",
		"one process; accounts of one level; where 5 slots are held, the oldest is "
		"released "
		"and a new one acquired each time");

	contest(c, ELEMENTS(c), bench.rounds);
	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		struct row *r = work_row(w, "ns", &c[i].ns, "%s", c[i].name);

		if (i > 0)
			row_versus(r, "sem_t", &c[0].ns);
	}
	report_show(w);
}

/* -- two threads ------------------------------------------------------------------------------- */

static void work_threads(void) {
	struct contender c[4];
	const char *key = "threads", *title = "2 threads of a process, different accounts";
	struct work *w;

	if (cpus_count() < 2) {
		work_skip(key, title, "there is one CPU only");
		return;
	}
	w = work_new(key, title, "pairs a second, both together, each thread on a CPU of its own");
	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		c[i] = contender_of(i < 2 ? &peer_berth : &peer_sem, 1 + i % 2, OBJECT_OWN);
		c[i].threads = true;
	}
	contest(c, ELEMENTS(c), bench.rounds);
	for (unsigned i = 0; i < ELEMENTS(c); i += 2) {
		struct row *r;

		(void)work_row(w, "M/s", &c[i].rate, "%s, 1 thread", c[i].name);
		r = work_row(w, "M/s", &c[i + 1].rate, "%s, 2 threads", c[i].name);
		row_versus(r, "one", &c[i].rate);
	}
	report_show(w);
}

/* -- accounts in turn -------------------------------------------------------------------------- */

#define IN_TURN_MAX 10000u

static char names[IN_TURN_MAX][ACCOUNT_NAME_SIZE];

static const char *name_next(unsigned count) {
	static unsigned at;

	at = at + 1 < count ? at + 1 : 0;
	return names[at];
}

static void names_make(unsigned count) {
	for (unsigned i = 0; i < count; i++)
		account_name(i, names[i]);
}

static void berth_pairs(unsigned count, unsigned long n) {
	berth_slot slot;

	while (n-- > 0) {
		bench_must(berth_acquire(handle, name_next(count), &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static void berth_prepare(unsigned count) {
	handle_open(count);
	names_make(count);
	berth_pairs(count, count);
}

static void table_open(unsigned count, enum named_lock lock) {
	names_make(count);
	table = named_new(count, lock);
	for (unsigned i = 0; i < count; i++)
		named_add(table, names[i], 10);
}

static void atomic_open(unsigned count) {
	table_open(count, NAMED_ATOMIC);
}

static void atomic_pairs(unsigned count, unsigned long n) {
	while (n-- > 0) {
		struct named_entry *e = named_take(table, name_next(count));

		bench_check(e != NULL, "a semaphore is full");
		named_give(e);
	}
}

static void robust_open(unsigned count) {
	table_open(count, NAMED_ROBUST);
}

static void robust_pairs(unsigned count, unsigned long n) {
	while (n-- > 0) {
		struct named_entry *e = named_take_locked(table, name_next(count));

		bench_check(e != NULL, "an entry is full");
		named_give_locked(table, e);
	}
}

static void work_in_turn(void) {
	static const struct contender kinds[] = {
		{.name = "berth", .open = berth_prepare, .run = berth_pairs},
		{.name = "semaphore by name", .open = atomic_open, .run = atomic_pairs},
		{.name = "table under a robust mutex", .open = robust_open, .run = robust_pairs},
	};
	static const unsigned counts[] = {16, 100, 1000, 10000};
	struct contender c[ELEMENTS(kinds) * ELEMENTS(counts)];
	struct work *w = work_new("in-turn", "16 to 10,000 accounts in turn, by one session",
		"names of 21 bytes, made before; every account was used before");

	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		c[i] = kinds[i / ELEMENTS(counts)];
		c[i].object = counts[i % ELEMENTS(counts)];
	}
	contest(c, ELEMENTS(c), bench.rounds);
	contest_rows(w, c, ELEMENTS(c), "of 16");
	report_show(w);
}

void works_forms(void) {
	peers_start();
	memset(long_name, 'x', sizeof(long_name) - 1);
	for (size_t i = 0; i < ELEMENTS(forms); i++)
		berthd_set(forms[i].account, "100");
	berthd_set("u*@example.com", "10");
	work_forms();
	work_threads();
	work_in_turn();
}
