/* SPDX-License-Identifier: MIT */

/* Wakes the daemon after a count has changed, and lets the daemon sleep. The step numbers are those
 * of wake.h. */

#include <linux/futex.h>
#include <limits.h>
#include <sys/syscall.h>

#include "wake.h"

static void futex_wake(_Atomic uint32_t *word) {
	int saved = errno;

	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	errno = saved;
}

void wake_daemon(struct map *m) {
	uint32_t arming = load_total(&m->header->armed);

	if (arming == 0)
		return;
	(void)add_total(&m->header->wakes, 1);     /* C4 */
	futex_wake(&m->header->wakes);             /* C5 */
	(void)cas32(&m->header->armed, arming, 0); /* C6 */
}

uint32_t wake_arm(struct map *m) {
	uint32_t seen = load_total(&m->header->wakes); /* D1 */

	store_total(&m->header->armed, seen << 1 | 1); /* D2 */
	return seen;
}

void wake_disarm(struct map *m) {
	store_total(&m->header->armed, 0);
}

void wake_wait(struct map *m, uint32_t seen) {
	(void)syscall(SYS_futex, &m->header->wakes, FUTEX_WAIT, seen, NULL, NULL, 0); /* D4 */
}

void wake_cancel(struct map *m) {
	(void)add_total(&m->header->wakes, 1);
	futex_wake(&m->header->wakes);
}

bool wake_clear_dirty(struct map *m, uint32_t account) {
	_Atomic uint8_t *dirty = map_dirty(m, account);

	/* The load avoids writes while the daemon scans clean groups. */
	return dirty && load_total(dirty) != 0 && exchange_total(dirty, 0) != 0;
}
