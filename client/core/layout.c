/* SPDX-License-Identifier: MIT */

/* Computes the offsets of the parts of the two shared files. */

#include "layout.h"
#include "util.h"

/* Each part begins at a multiple of PAGE, which the size of each element divides. So no element is
 * in two windows of map.c. */
#define PAGE 4096

static uint64_t part(uint64_t *end, uint64_t count, uint64_t size) {
	uint64_t begin = *end;

	*end = ROUND_UP(begin + count * size, PAGE);
	return begin;
}

bool layout_init(struct layout *l, uint32_t accounts, uint32_t slots, uint32_t sessions) {
	uint64_t end = sizeof(struct segment_header);

	if (accounts == 0 || accounts > BERTH_ACCOUNTS_MAX || slots == 0 ||
		slots > BERTH_SLOTS_MAX || sessions == 0 || sessions > BERTH_SESSIONS_MAX)
		return false;
	*l = (struct layout){
		.max_accounts = accounts, .max_slots = slots, .max_sessions = sessions};
	l->accounts_end = accounts + 1;
	/* Record 0 is no record, so no session gets the range that contains it. */
	l->records_end = ROUND_UP(slots, BERTH_RANGE) + BERTH_RANGE;

	l->sessions = part(&end, sessions, sizeof(struct session_entry));
	l->owners = part(&end, l->records_end / BERTH_RANGE, sizeof(uint32_t));
	l->dirty = part(&end, l->accounts_end / BERTH_DIRTY_GROUP + 1, 1);
	l->cells = part(&end, l->accounts_end, sizeof(struct cell));
	l->records = part(&end, l->records_end, sizeof(struct record));
	l->waits = part(&end, l->records_end, sizeof(uint64_t));
	l->calls = part(&end, l->records_end / BERTH_RANGE, 1);
	l->refusals = part(&end, sessions, BERTH_REFUSALS * sizeof(struct refusal));
	l->segment_size = end;

	end = sizeof(struct directory_header);
	l->entries = part(&end, l->accounts_end, sizeof(struct entry));
	l->tables = part(&end, UINT64_C(2) << BERTH_TABLE_BITS_MAX, sizeof(uint32_t));
	/* Blocks of 256 bytes begin on multiples of 256. */
	l->names = part(&end, accounts, 256);
	l->directory_size = end;
	return true;
}
