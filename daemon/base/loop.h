/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Long work, a piece at a time: each turn of it is an event beside the messages.
 *
 * A turn is a timer that has elapsed. So it waits behind the messages that were there before, and not,
 * as what is done when there is nothing else, for as long as somebody sends more; nor, as what is to be
 * done at once, before all of them.
 */

#include <systemd/sd-event.h>

/* Not begun yet. */
static inline int slice_new(
	sd_event *event, sd_event_time_handler_t take, void *data, sd_event_source **ret) {
	int r = sd_event_add_time(event, ret, CLOCK_MONOTONIC, 0, 1, take, data);

	return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

/* One turn; from within it, one more. */
static inline int slice_request(sd_event_source *turn) {
	return sd_event_source_set_enabled(turn, SD_EVENT_ONESHOT);
}
