/* SPDX-License-Identifier: MIT */

/* Notes steps (N1 of counter.c), and stores labels and peaks. */

#include "counter-step.h"

/* `noted` may hold noise that is above all seqs. Then the record can't be used until a recount
 * frees it. noted_sane() returns the seq from which the record continues. This seq is at least a
 * quarter of all seqs, and less than three eighths, so enough seqs are left above it. If a tag tells
 * of a newer step, record_note() continues from that step. Otherwise a record that has used more
 * than a quarter of its seqs may use some of them again: noise has overwritten the word that told
 * how many it has used. The bit NOISE keeps `noted` above all seqs until the recount. */
#define NOISE (UINT64_C(1) << 63)

uint64_t noted_sane(uint64_t noted) {
	const uint64_t high = (BERTH_SEQ_MASK >> 2) + 1;

	if (noted <= BERTH_SEQ_MASK || (noted & ~BERTH_SEQ_MASK) == NOISE)
		return noted & BERTH_SEQ_MASK;
	return high | (noted & (high / 2 - 1));
}

int record_note(struct record *record, uint64_t seq) {
	for (int i = 0; i < RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&record->noted);
		uint64_t next = MAX_OF(noted_sane(noted), seq);

		if (unlikely(noted > BERTH_SEQ_MASK))
			next |= NOISE;
		if (next == noted || cas(&record->noted, noted, next)) /* N1 */
			return 0;
	}
	return -EUCLEAN;
}

int counter_note(struct map *m, uint64_t tag) {
	struct record *record = map_record(m, tag_record(tag));

	if (unlikely(!record))
		return map_has_record(m, tag_record(tag)) ? -ENOMEM : 0;
	return record_note(record, tag_seq(tag));
}

void counter_label(struct record *record, const char *label, size_t length) {
	uint64_t word[BERTH_LABEL_SIZE / 8] = {0};

	/* Cuts the label between two characters of UTF-8. */
	if (length >= BERTH_LABEL_SIZE)
		for (length = BERTH_LABEL_SIZE - 1; length > 0 && (label[length] & 0xC0) == 0x80;)
			length--;
	memcpy(word, label, length);
	for (size_t i = 1; i < ELEMENTS(word); i++)
		store_relaxed(&record->label[i], word[i]);
	store_release(&record->label[0], word[0]);
}

void counter_note_peak(struct cell *cell, uint32_t count) {
	uint32_t peak = load_relaxed(&cell->peak);

	for (int i = 0; i < 64 && peak < count; i++) {
		if (cas32(&cell->peak, peak, count))
			return;
		peak = load_relaxed(&cell->peak);
	}
}
