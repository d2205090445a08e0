/* SPDX-License-Identifier: MIT */
#pragma once

/* Event loops in tests: keeps a loop from being idle, or runs a loop until it is idle. */

#include <check.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>

static int flood_on_message(sd_event_source *source, int fd, uint32_t events, void *data) {
	(void)source, (void)fd, (void)events;
	++*(unsigned *)data;
	return 0;
}

/* An event source that is always ready. `messages` counts how often it was dispatched. */
static inline sd_event_source *flood_new(sd_event *event, unsigned *messages) {
	sd_event_source *flood;
	int fd = eventfd(1, EFD_CLOEXEC);

	ck_assert_int_ge(
		sd_event_add_io(event, &flood, fd, EPOLLIN, flood_on_message, messages), 0);
	ck_assert_int_ge(sd_event_source_set_io_fd_own(flood, true), 0);
	return flood;
}

/* Runs the loop until it has nothing left to do. */
static inline void event_run_until_idle(sd_event *event) {
	int r;

	do
		r = sd_event_run(event, 0);
	while (r > 0);
	ck_assert_int_eq(r, 0);
}
