/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Everything that a step of the counter needs beside its own compare-and-swap: the request for a
 * slot; the note of the tag that the step overwrites (N1 of counter.c); and the slot's time and
 * label, and the cell's peak. Lists of holders and of accounts show these last three values. No
 * decision depends on them.
 */

#include <endian.h>
#include <string.h>

#include "directory.h"
#include "wake.h"

/* A record: its address in this process, and its number. */
struct record_at {
	struct record *record;
	uint32_t number;
};

/* What the list of holders shows of a slot, beside its account and process. */
struct stamp {
	uint64_t since;    /* ms since 1970 */
	const char *label; /* borrowed; NULL: none; cut at 39 bytes, between characters of UTF-8 */
};

/* A slot that is to be acquired. */
struct slot_request {
	const struct path *path;
	uint32_t weight;
	struct pair seen[BERTH_LEVELS_MAX]; /* each level's cell, as counter_check() read it */
	struct stamp stamp;
};

/* The place of the record that holds the requested slot. */
static _always_inline_ uint64_t request_place(const struct slot_request *request) {
	return place_pack(RECORD_PLACED, request->path->depth - 1, request->weight,
		request->path->level[0].account);
}

/* -- notes: N1 --------------------------------------------------------------------------------- */

#define RETRIES_MAX (1 << 20) /* of a step; see "Loops" in counter.c */

/* The seq from which a record continues if its `noted` may be noise. */
uint64_t noted_sane(uint64_t noted);

/* N1: raises the record's `noted` to `seq`. -EUCLEAN: the word changes all the time. */
int record_note(struct record *record, uint64_t seq);

/* N1 for a tag: raises `noted` of the record that the tag names. A tag that names no record is
 * ignored. -ENOMEM: the record can't be mapped, so its tag must not be overwritten. */
int counter_note(struct map *m, uint64_t tag);

/* The seq of the record's newest step at a level. `tag`: of the level's cell, read before
 * `noted`. */
static _always_inline_ uint64_t step_newest(uint32_t number, uint64_t noted, uint64_t tag) {
	return tag_record(tag) == number && tag_seq(tag) > noted ? tag_seq(tag) : noted;
}

/* Order 4: notes a tag (N1) before a step of record `at` overwrites the tag. A tag of the same
 * record needs no note, since the record's next step is newer. The records of a range belong to one
 * process, and lie beside each other in one window. So if the tag's record is in the same range,
 * its address follows from `at`. */
static _always_inline_ int step_note(struct map *m, struct record_at at, uint64_t tag) {
	uint32_t number = tag_record(tag);

	if (likely(number == at.number))
		return 0;
	if ((number ^ at.number) < BERTH_RANGE && number != 0 &&
		load_acquire(&at.record[(int32_t)(number - at.number)].noted) >= tag_seq(tag))
		return 0;
	return counter_note(m, tag);
}

/* -- what lists show --------------------------------------------------------------------------- */

/* Stores the label of a slot that is being acquired. */
void counter_label(struct record *record, const char *label, size_t length);
/* Raises the cell's peak to `count`, if the peak is lower. */
void counter_note_peak(struct cell *cell, uint32_t count);

/* Only the thread that has claimed a record writes the record's time and label. The thread clears
 * the label before it takes the slot, and afterwards stores the new label, the first word last. So
 * a list of holders never shows a slot with the label of an earlier one. */
static _always_inline_ void record_unlabel(struct record *record) {
	store_relaxed(&record->label[0], 0);
}

/* Stores a label of 9 to 15 bytes without a call, since many labels are an address and a port. The
 * second word is made of the label's last eight bytes: a shift removes the bytes that the first
 * word contains already. */
static _always_inline_ void record_label(struct record *record, const char *label, size_t n) {
	uint64_t first, last;

	if (unlikely(n - 9 > 15 - 9)) {
		counter_label(record, label, n);
		return;
	}
	memcpy(&first, label, 8);
	memcpy(&last, label + n - 8, 8);
	store_relaxed(&record->label[1], htole64(le64toh(last) >> 8 * (16 - n)));
	store_release(&record->label[0], first);
}

static _always_inline_ void record_stamp(struct record *record, const struct stamp *stamp) {
	store_relaxed(&record->since, stamp->since);
	if (unlikely(stamp->label))
		record_label(record, stamp->label, strlen(stamp->label));
}

static _always_inline_ void cell_note_peak(struct cell *cell, uint32_t count) {
	if (unlikely(load_relaxed(&cell->peak) < count))
		counter_note_peak(cell, count);
}
