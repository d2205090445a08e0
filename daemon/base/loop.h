/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Timers, and long work in time slices.
 *
 * A time slice is an event that does a few milliseconds of the work and requests the next slice.
 * Between two slices berthd handles messages. The event is a timer that elapses at once, because
 * sd-event first handles the messages that have arrived already. A defer source would run before
 * all messages; a source of idle priority would not run while messages keep arriving.
 */

#include <systemd/sd-event.h>

/* A timer may elapse this much late, so that the kernel can let several timers elapse together. */
#define TIMER_ACCURACY_USEC 10000

/* Makes a timer that isn't set. When the timer elapses, it calls `call`, which may set it again. */
static inline int timer_new(
	sd_event *event, sd_event_time_handler_t call, void *data, sd_event_source **ret) {
	int r = sd_event_add_time(event, ret, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_USEC, call, data);

	return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

/* Makes the timer elapse once, `usec` microseconds from now. */
static inline void timer_set(sd_event_source *timer, uint64_t usec) {
	uint64_t now = 0;

	(void)sd_event_now(sd_event_source_get_event(timer), CLOCK_MONOTONIC, &now);
	(void)sd_event_source_set_time(timer, now + usec);
	(void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* Makes a time slice that is not requested yet. `work` does one slice of the work. */
static inline int slice_new(
	sd_event *event, sd_event_time_handler_t work, void *data, sd_event_source **ret) {
	int r = sd_event_add_time(event, ret, CLOCK_MONOTONIC, 0, 1, work, data);

	return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

/* Requests one slice; `work` itself requests the next one. */
static inline int slice_request(sd_event_source *slice) {
	return sd_event_source_set_enabled(slice, SD_EVENT_ONESHOT);
}
