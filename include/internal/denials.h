/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Counts denials where nobody else writes.
 *
 * A cell's line is written by everybody who acquires and releases; a flood of denied acquires that
 * wrote there, too, would slow them down, and each other. So a process counts its denials in words of
 * its session's entry, each of which is for one account at a time, and the daemon collects them into
 * `denied` of the cells whenever it is asked for that, and before it stores it. A word that another
 * account needs is emptied into its cell first.
 *
 * Death between taking a word's count and adding it to the cell loses that count: denials are history,
 * nothing is decided by them.
 */

#include "map.h"

/* One more, of an account whose cell is at hand. The daemon hears of it, as of a change: a count that is
 * wrong may do nothing else than deny. */
void denials_add(struct map *m, uint32_t account, struct cell *cell, _Atomic uint8_t *dirty);

/* Of an account, as far as they aren't in its cell. */
uint64_t denials_pending(struct map *m, uint32_t account);

/* Adds them all to the cells, and marks those as changed (wake.h). */
void denials_collect(struct map *m);
