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
	h->depth = 0;
	for (int n = (int)h->name; n >= 0; n = names[n].parent) {
		h->level[h->depth++] = truth.account[n];
		if (truth.account[n] == 0)
			verdict_fault("an acquire of '%s' succeeded, though the account is removed",
				names[h->name].text);
	}
	held_add(h, h->weight);
}

/* Drops all held slots of the record or, if `record` is 0, of the session. */
static void drop_all(uint32_t record, uint32_t session) {
	for (uint32_t p = 0; p < PROCESSES; p++)
		for (uint32_t i = 0; i < HOLDINGS; i++) {
			struct holding *h = &processes[p].holding[i];

			if (h->used && (record ? h->record == record : h->session == session))
				truth_drop(h);
		}
}

void truth_doubt(uint32_t record, bool begins) {
	truth.revoking[record] = begins;
	truth.doubted[record] = accesses;
	drop_all(record, 0);
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
	drop_all(0, session);
}

/* -- limits ------------------------------------------------------------------------------------ */

void truth_entry_written(uint32_t account) {
	uint64_t word = load_relaxed(&world.entry[account].word);

	if (entry_flags(word) & ENTRY_LIVE) {
		for (uint32_t n = 0; n < NAMES; n++)
			if (strcmp(names[n].text, (const char *)world.entry[account].name) == 0)
				truth.account[n] = account;
		truth.removed[account] = false;
	}
	newest[account] = entry_limit(word);
	highest[account] = MAX_OF(highest[account], newest[account]);
}

void truth_limit_acknowledged(uint32_t account) {
	highest[account] = newest[account];
}

uint32_t truth_limit(uint32_t account) {
	return highest[account];
}
