/* SPDX-License-Identifier: MIT */

/*
 * After each write, adds up the weights that the records have charged to each account. The sum must
 * equal the account's count. Because this is checked after every write, two errors can't cancel
 * each other out. The count must also be at least what is certainly held (truth.h), and a process
 * may raise the count only within the limit.
 */

#include <string.h>

#include "audit.h"
#include "hooks.h"
#include "truth.h"
#include "verdict.h"
#include "view.h"

uint64_t audits;

static struct cell_view cells[CELLS]; /* each cell after the last write to it */
static uint64_t noted[RECORDS];
static uint64_t tagged[RECORDS]; /* of each record: the newest seq that was written to a cell */

/* -- counts against records -------------------------------------------------------------------- */

static void record_add(uint32_t number, const struct record_view *r, uint32_t sum[CELLS]) {
	uint32_t account = r->account;

	for (uint32_t k = 0; k <= r->top && account != 0; k++) {
		if (account >= CELLS) {
			verdict_fault("record %u is placed on account %u, which can't exist",
				number, account);
			return;
		}
		if (view_has_charged(r, number, k, &cells[account]))
			sum[account] += r->weight;
		account = view_parent(account);
	}
}

static const char *name_of(uint32_t account) {
	for (uint32_t n = 0; n < NAMES; n++)
		if (truth.account[n] == account)
			return names[n].text;
	return "removed";
}

static void cell_check(uint32_t account, uint32_t sum, uint32_t record) {
	const struct cell_view *c = &cells[account];

	verdict_about(account, record != 0 ? record : c->record);
	if (c->count != sum)
		verdict_fault("account %u (%s) counts %u, but its records come to %u", account,
			name_of(account), c->count, sum);
	else if (truth.held[account] > c->count)
		verdict_fault("account %u (%s) counts %u, but %u are held", account,
			name_of(account), c->count, truth.held[account]);
	else if (truth.removed[account] && c->count > 0)
		verdict_fault("account %u is removed, and counts %u", account, c->count);
}

/* `record` is the record that was written; 0: no record was written. */
static void audit(uint32_t record) {
	uint32_t sum[CELLS] = {0};

	audits++;
	for (uint32_t n = BERTH_RANGE; n < RECORDS; n++) {
		struct record_view r = view_record(n);

		if (view_stands(&r))
			record_add(n, &r, sum);
	}
	for (uint32_t a = 1; a < CELLS; a++)
		cell_check(a, sum[a], record);
}

/* -- seqs -------------------------------------------------------------------------------------- */

/* Each tag that is written must be newer than all earlier tags of the same record. */
static void tag_check(uint32_t account) {
	const struct cell_view *c = &cells[account];

	if (c->record == 0 || c->record >= RECORDS || c->seq > tagged[c->record]) {
		tagged[c->record % RECORDS] = c->seq;
		return;
	}
	verdict_about(account, c->record);
	verdict_fault("account %u (%s) bears a tag of record %u that isn't newer than the last one",
		account, name_of(account), c->record);
}

/* -- counts against limits --------------------------------------------------------------------- */

static void cell_written(uint32_t account) {
	struct cell_view before = cells[account];
	const struct cell_view *now = &cells[account];
	uint32_t limit = truth_limit(account);

	cells[account] = view_cell(account);
	if (now->record != before.record || now->seq != before.seq)
		tag_check(account);
	/* If a process has raised the count, one of the limits in force must permit the new
	 * count. */
	if (running && running->process != DAEMON && now->count > before.count &&
		now->count > limit) {
		verdict_about(account, now->record);
		verdict_fault("account %u (%s) counts %u at a limit of %u", account,
			name_of(account), now->count, limit);
	}
}

static void record_written(uint32_t number) {
	struct record_view now = view_record(number);

	if (now.noted < noted[number]) {
		verdict_about(now.account, number);
		verdict_fault("record %u has noted less than before", number);
	}
	noted[number] = now.noted;
}

void audit_write(uint32_t word) {
	uint32_t record = word < RECORD_WORDS ? 0 : (word - RECORD_WORDS) / 8;

	if (!view_counts(word) || run_is_over())
		return;
	if (word < RECORD_WORDS)
		cell_written(word / 8);
	else
		record_written(record);
	audit(record);
}

/* -- other writes ------------------------------------------------------------------------------ */

void audit_other_write(const volatile void *p) {
	uint32_t account = world_entry_word(p);
	uint32_t session = world_session_state(p);

	if (account != 0) {
		truth_entry_written(account);
		audit(0);
	}
	if (session != SESSIONS)
		truth_session_written(session);
}

void audit_returned(uint32_t word, bool alone) {
	if (!view_counts(word) || (alone && view_may_return(word)))
		return;
	verdict_about(word < RECORD_WORDS ? word / 8 : 0,
		word < RECORD_WORDS ? 0 : (word - RECORD_WORDS) / 8);
	verdict_fault("a compare-and-swap succeeded on a word that had changed and come back to "
		      "the same value");
}

void audit_reset(void) {
	memset(cells, 0, sizeof(cells));
	memset(noted, 0, sizeof(noted));
	memset(tagged, 0, sizeof(tagged));
}

void audit_end(void) {
	for (uint32_t a = 1; a < CELLS && !run_is_over(); a++)
		if (view_cell(a).count != 0) {
			verdict_about(a, view_cell(a).record);
			verdict_fault("account %u (%s) counts %u at the end, when nothing is held",
				a, name_of(a), view_cell(a).count);
		}
}
