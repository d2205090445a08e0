/* SPDX-License-Identifier: MIT */

/* Records accounts, limits and slots, independently of the code under test. */

#include <string.h>

#include "hooks.h"
#include "parties.h"
#include "truth.h"
#include "verdict.h"

const struct name_known names[NAMES] = {
	{"a", -1},
	{"b", -1},
	{"p", -1},
	{"q", -1},
	{"p/x", 2},
	{"q/x", 3},
	{"p/y", 2},
	{"q/x/z", 5},
	{"p/x/z", 4},
	{"q/x/z/w", 7},
	{"p/x/z/w", 8},
	{"many", -1},
};

/* Of each account: the limit that was written last, and the highest limit in force. */
static uint32_t newest[CELLS], highest[CELLS];

struct truth truth;

void truth_reset(void) {
	memset(&truth, 0, sizeof(truth));
	memset(newest, 0, sizeof(newest));
	memset(highest, 0, sizeof(highest));
}

uint32_t truth_path(uint32_t name, uint32_t ret[BERTH_LEVELS_MAX]) {
	uint32_t depth = 0;

	for (int n = (int)name; n >= 0; n = names[n].parent) {
		ret[depth] = truth.account[n];
		if (ret[depth++] == 0)
			return 0;
	}
	return depth;
}

/* -- slots ------------------------------------------------------------------------------------- */

static void held_add(const struct holding *h, uint32_t weight) {
	for (uint32_t k = 0; k < h->depth; k++)
		truth.held[h->level[k]] += weight;
}

void truth_drop(struct holding *h) {
	if (h->certain)
		held_add(h, -h->weight);
	h->certain = false;
}

bool truth_is_untouched(const struct holding *h, uint64_t since) {
	const struct session_entry *e = (void *)((char *)world.header + world.layout.sessions);

	return !truth.revoking[h->record] && truth.doubted[h->record] < since &&
	       load_relaxed(&e[h->session].state) == SESSION_OPEN &&
	       load_relaxed(&e[h->session].serial) == h->serial && truth.ended[h->session] < since;
}

void truth_hold(struct holding *h, uint64_t began) {
	h->used = true;
	h->certain = truth_is_untouched(h, began);
	if (!h->certain)
		return;
	h->depth = truth_path(h->name, h->level);
	if (h->depth == 0)
		verdict_fault("an acquire of '%s' succeeded, though the account is removed",
			names[h->name].text);
	held_add(h, h->weight);
}

static void drop_where(bool (*matches)(const struct holding *h, uint32_t number), uint32_t number) {
	for (uint32_t p = 0; p < PROCESSES; p++)
		for (uint32_t i = 0; i < HOLDINGS; i++) {
			struct holding *h = &processes[p].holding[i];

			if (h->used && h->certain && matches(h, number))
				truth_drop(h);
		}
}

static bool is_of_record(const struct holding *h, uint32_t record) {
	return h->record == record;
}

void truth_doubt(uint32_t record, bool begins) {
	truth.revoking[record] = begins;
	truth.doubted[record] = accesses;
	drop_where(is_of_record, record);
}

static bool is_of_session(const struct holding *h, uint32_t session) {
	return h->session == session;
}

void truth_session_written(uint32_t session) {
	const struct session_entry *e = (void *)((char *)world.header + world.layout.sessions);

	if (load_relaxed(&e[session].state) != SESSION_OPEN)
		truth_session_ended(session);
}

void truth_session_ending(uint32_t session) {
	truth_session_ended(session);
	truth.ended[session] = UINT64_MAX;
}

void truth_session_ended(uint32_t session) {
	truth.ended[session] = accesses;
	drop_where(is_of_session, session);
}

/* -- limits ------------------------------------------------------------------------------------ */

static void name_find(uint32_t account) {
	const char *text = (const char *)world.entry[account].name;

	for (uint32_t n = 0; n < NAMES; n++)
		if (strcmp(names[n].text, text) == 0)
			truth.account[n] = account;
	truth.removed[account] = false;
}

void truth_entry_written(uint32_t account) {
	uint64_t word = load_relaxed(&world.entry[account].word);

	if (entry_flags(word) & ENTRY_LIVE)
		name_find(account);
	newest[account] = entry_limit(word);
	highest[account] = MAX_OF(highest[account], newest[account]);
}

void truth_limit_acknowledged(uint32_t account) {
	highest[account] = newest[account];
}

uint32_t truth_limit(uint32_t account) {
	return highest[account];
}
