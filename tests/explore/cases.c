/* SPDX-License-Identifier: MIT */

/* The scripts. Each script finds a fault that the counter, or a design of the counter, once had. */

#include "scripts.h"
#include "util.h"

const struct script scripts[] = {
	/* A thread reads the cell of p. Another thread leaves a tag of their only free record in
	 * that cell, then makes many pairs elsewhere with the record. Then the first thread places
	 * the record on p, and uses the values that it read before. */
	{"stale-look", 1, false,
		"A2 pair p, A2 end, B1 pair p, warm A1 p, stop A1 acquire p, A2 pair p/x, "
		"A2 many-pairs a, A2 end, finish A1, A1 release p, again p"},
	/* Like stale-look, but the other thread uses the record on p. So the first thread's
	 * compare-and-swap fails, and the first thread must choose new seqs. */
	{"stale-base", 1, false,
		"A2 pair p/x, A2 end, B1 pair p, warm A1 p/x, stop A1 acquire p/x, A2 pair p/x, "
		"A2 pair p/x, A2 end, B1 acquire p, finish A1, B1 pair p/x, A1 release p/x, "
		"B1 release p, again p/x"},
	/* A thread has found the path of p/x. Then p/x is removed, and q/x gets the index of p/x.
	 * Another thread leaves a tag of the threads' only record in q, and makes many pairs with
	 * this record. Then the first thread places the record on the path that it found. */
	{"stale-path", 1, false,
		"A2 pair p/x, A2 end, warm A1 p/x, stop A1 acquire p/x, berthd remove p/x, "
		"berthd create q/x, A2 pair q/x, A2 many-pairs a, A2 end, finish A1, "
		"A1 release p/x, again q/x"},
	/* A thread is stopped between the steps of a release. The next berthd finishes the release,
	 * and is stopped meanwhile. The thread continues, and makes many pairs with the record. */
	{"finished-twice", 2, false,
		"A1 acquire p/x, stop A1 release p/x, kill berthd, stop berthd start, finish A1, "
		"A1 many-pairs p/x, A1 acquire p/x, finish berthd, A1 release p/x, again p/x"},
	/* A slot of p/x was released, but the words of its record still say that it is held: only
	 * tags in the cells show the release. p/x is removed, and q/x gets the index of p/x. The
	 * cells of q/x's path have no such tags. Then the record's session ends. */
	{"rests-where-another-is", 1, false,
		"A1 acquire p/x, B1 pair p/x, stop A1 release p/x, finish A1, berthd remove p/x, "
		"berthd create q/x, B1 acquire q/x, kill A, berthd serve, B1 release q/x"},
	/* A slot is revoked while a thread releases it. Then the slot's account is removed, and
	 * another account may get the index. The thread must be told that the slot was revoked. */
	{"released-after-removal", 1, false,
		"A1 acquire p/x, stop A1 release p/x, berthd revoke, berthd remove p/x, "
		"berthd remove p/y, berthd remove p, finish A1, berthd create p, again p"},
	/* Like released-after-removal, but the release begins when another account already has the
	 * index. */
	{"released-long-after", 1, false,
		"A1 acquire p/x, berthd revoke, berthd remove p/x, berthd create q/x, "
		"stop A1 release p/x, B1 acquire q/x, finish A1, B1 release q/x, again q/x"},
	/* An acquire of p is refused after its record was placed on p. The next acquire finds
	 * the record on p, but in the process's memory the record still belongs to the path of
	 * a. */
	{"remembered-path", 1, false,
		"berthd fill p, A1 pair a, B1 pair p, warm A1 p, stop A1 acquire p, B1 acquire p, "
		"finish A1, B1 release p, A1 release p, A1 acquire p, A1 release p, again p, "
		"again a"},
	/* A second thread releases the first thread's slot of p, and ends. So the slot's record
	 * returns to the first thread, which acquires a slot of p/x with this record. Then the
	 * first thread is denied a slot of p, while its path cache still has this record for p. */
	{"remembered-record", 0, false,
		"A1 acquire p, A2 release-other, A2 end, A1 acquire p/x, berthd fill p, A1 pair p, "
		"A1 release p/x, again p/x"},
	/* Like remembered-path, but with two levels, of which the upper one is full. */
	{"refused-above", 1, false,
		"berthd fill p, A1 pair p/y, B1 pair p/x, warm A1 p/x, stop A1 acquire p/x, "
		"B1 acquire p/y, finish A1, B1 release p/y, A1 release p/x, A1 acquire p/x, "
		"A1 release p/x, again p/x"},
	/* berthd is killed in the middle of a revocation. Another process overwrites the tag of the
	 * revocation's first step. The end of the session must finish the revocation. */
	{"revoked-halfway", 2, false,
		"A1 acquire p/x, B1 pair p/x, stop berthd revoke, B1 pair p, kill berthd, kill A, "
		"stop berthd start, B1 pair p/y, finish berthd, berthd serve, B1 pair p/x"},
	/* Like revoked-halfway, but the session's records are closed before the next berthd can
	 * finish the revocation. */
	{"revoked-halfway-and-closed", 2, false,
		"B1 pair p, A1 acquire p/x, stop berthd revoke, kill berthd, kill A, "
		"stop berthd close-records, B1 pair p, finish berthd, berthd start, berthd serve, "
		"B1 pair p/x"},
	/* A slot is revoked while a thread acquires it; in the next script, while the thread
	 * releases it. */
	{"revoked-while-taking", 2, false,
		"A2 pair p/x, A2 end, warm A1 p/x, stop A1 acquire p/x, stop berthd revoke, "
		"B1 pair p, finish A1, finish berthd, A1 release p/x, again p/x"},
	{"revoked-while-giving-back", 2, false,
		"A1 acquire p/x, stop A1 release p/x, stop berthd revoke, B1 pair p, finish A1, "
		"A1 pair p/x, finish berthd, again p/x"},
	/* A limit is lowered while a thread that has read the old limit acquires a slot. */
	{"limit-lowered", 2, false,
		"B1 acquire p/x, warm A1 p/y, stop A1 acquire p/y, stop berthd fill p, "
		"finish berthd, finish A1, A1 release p/y, B1 release p/x, again p/x"},
	/* An account is removed while a thread that has read its entry acquires a slot. */
	{"removed-while-taking", 2, false,
		"warm A1 p/x, stop A1 acquire p/x, stop berthd remove p/x, B1 pair p, "
		"finish berthd, berthd create q/x, finish A1, A1 release p/x, again q/x"},
	/* berthd sets a limit, but is killed before it replies. The next berthd starts. */
	{"limit-cut-short", 2, false,
		"B1 acquire p, warm A1 p, stop A1 acquire p, stop berthd fill p, kill berthd, "
		"berthd start, finish A1, A1 release p, B1 release p"},
	/* A handle is closed while a thread is inside an acquire; in the next script, inside a
	 * release. Another process gets the records at once. */
	{"closed-while-taking", 1, false,
		"A2 pair p/x, A2 end, warm A1 p/x, stop A1 acquire p/x, A2 close, berthd serve, "
		"16 B1 acquire many, B2 acquire p/x, finish A1, B1 pair p, A1 release p/x, "
		"B2 release p/x, again p/x"},
	{"closed-while-giving-back", 1, false,
		"A1 acquire p/x, stop A1 release p/x, A2 close, berthd serve, B2 acquire p/x, "
		"finish A1, B1 pair p, B2 release p/x, again p/x"},
	/* Two threads release the same slot at the same time, while its record is placed on a
	 * longer path. */
	{"released-twice", 2, true,
		"A1 acquire a, stop A2 release-other, A1 release a, stop A1 acquire p/x, "
		"finish A2, finish A1, A1 release p/x, again p/x"},
	/* Records with noise (impossible values) are used like others. Records that have used up
	 * their seqs aren't used, so a session that has only such records gets another range. */
	{"noise-and-used-up", 0, false,
		"berthd wear-records, B1 pair p, B1 pairs-in-turn, 8 B1 acquire many, B1 "
		"check-held"},
};

const size_t scripts_end = ELEMENTS(scripts);
