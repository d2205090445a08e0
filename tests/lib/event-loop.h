/* SPDX-License-Identifier: MIT */
#pragma once

/* An event loop with the sessions and the recount of the segment in fixture.h. A test runs the loop
 * until the loop has nothing left to do, or keeps the loop busy with flood_new(). */

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>

#include "fixture.h"
#include "recount.h"
#include "sessions.h"

static sd_event *event;
static struct sessions *sessions;
static struct recount *recount;

static inline void loop_begin(void) {
	ck_assert_int_ge(sd_event_new(&event), 0);
	ck_assert_int_eq(sessions_new(event, f.segment, &sessions), 0);
	ck_assert_int_ge(recount_new(event, accounts_directory(f.accounts), sessions, &recount), 0);
}

static inline void loop_end(void) {
	recount_free(recount);
	sessions_free(sessions);
	(void)sd_event_unref(event);
}

static int flood_on_message(sd_event_source *source, int fd, uint32_t events, void *data) {
	(void)source, (void)fd, (void)events;
	++*(unsigned *)data;
	return 0;
}

/* Adds an event source that is always ready. Each time that the loop handles the event source,
 * *messages grows by one. */
static inline sd_event_source *flood_new(unsigned *messages) {
	sd_event_source *flood;
	int fd = eventfd(1, EFD_CLOEXEC);

	ck_assert_int_ge(
		sd_event_add_io(event, &flood, fd, EPOLLIN, flood_on_message, messages), 0);
	ck_assert_int_ge(sd_event_source_set_io_fd_own(flood, true), 0);
	return flood;
}

/* Runs the loop until it has nothing left to do. */
static inline void loop_run_until_idle(void) {
	int r;

	do
		r = sd_event_run(event, 0);
	while (r > 0);
	ck_assert_int_eq(r, 0);
}
