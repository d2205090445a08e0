/* SPDX-License-Identifier: MIT */

/*
 * The explorer's own versions of functions that the sources under test call: for memory, system
 * calls, threads, the event loop and the log. The functions that grow the two files fail or do
 * nothing, since the files have their full size from the start.
 *
 * The event loop has only what sessions.c and recount.c need: a list of sources, enabled or not.
 * daemon.c calls the handlers of the sources.
 */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <pthread.h>

#include "log.h"
#include "hooks.h"
#include "parties.h"
#include "procfs.h"
#include "protocol.h"
#include "segment.h"
#include "verdict.h"

/* Included last, so that its macros don't change the headers above. */
#include "seam.h"

/* Many of these functions ignore their parameters. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* -- memory ------------------------------------------------------------------------------------ */

/* In front of each block is a header, which begins with the block's size. */
#define HEADER 128u

void *seam_new(size_t size) {
	char *p = arena_take(size + HEADER);

	memcpy(p, &size, sizeof(size));
	return p + HEADER;
}

void *seam_grow(void *p, size_t size) {
	void *new = seam_new(size);
	size_t old_size = 0;

	if (p) {
		memcpy(&old_size, (char *)p - HEADER, sizeof(old_size));
		memcpy(new, p, MIN_OF(old_size, size));
	}
	return new;
}

uint32_t seam_entries_max(void) {
	return plan.entries;
}

/* Returns the number by which path-cache.c divides the number of records. */
uint32_t seam_kept_part(void) {
	return world.names->max_slots / plan.kept_records;
}

/* Freed memory isn't used again in this run. It is overwritten, so that code which still uses it
 * fails. */
void seam_free(void *p) {
	size_t size = 0;

	if (!p)
		return;
	memcpy(&size, (char *)p - HEADER, sizeof(size));
	memset(p, 0xDD, size);
}

/* -- system calls ------------------------------------------------------------------------------ */

long seam_syscall(long number, ...) {
	va_list arguments;
	long r = 0;

	va_start(arguments, number);
	/* A process's pidfd is the same number as its pid. */
	if (number == SYS_pidfd_open)
		r = va_arg(arguments, int);
	va_end(arguments);
	return r;
}

/* -- threads ----------------------------------------------------------------------------------- */

static void (*key_at_end)(void *);
static void *specific_of_scheduler;

int seam_key(pthread_key_t *ret, void (*at_end)(void *)) {
	*ret = 0;
	key_at_end = at_end;
	return 0;
}

static void **specific(void) {
	return running ? &running->specific : &specific_of_scheduler;
}

int seam_specific(const void *p) {
	*specific() = (void *)(uintptr_t)p;
	return 0;
}

void seam_thread_forget(void) {
	specific_of_scheduler = NULL;
}

void seam_thread_end(void) {
	void *p = *specific();

	*specific() = NULL;
	if (p)
		key_at_end(p);
}

void process_comm(pid_t pid, char ret[16]) {
	memset(ret, 0, 16);
}

int process_start_time(pid_t pid, uint64_t *ret) {
	if (!process_lives((uint32_t)pid))
		return -ESRCH;
	*ret = (uint64_t)pid;
	return 0;
}

/* All windows are mapped from the start. */
void *map_window(struct map *m, struct map_file *file, uint32_t window) {
	return NULL;
}

bool map_files_are_ours(struct map *m) {
	return true;
}

int segment_allocate_directory(struct segment *s, uint64_t offset, uint64_t length) {
	return offset + length <= world.layout.tables + (8u << BERTH_TABLE_BITS_MIN) ? 0 : -ENOSPC;
}

int segment_grow_accounts(struct segment *s) {
	return -ENOSPC;
}

int segment_grow_slots(struct segment *s) {
	return -ENOSPC;
}

int segment_grow_sessions(struct segment *s) {
	return -ENOSPC;
}

/* -- the log ----------------------------------------------------------------------------------- */

void log_event(
	int level, const char *message_id, const char *const fields[], const char *format, ...) {
	char text[300];
	va_list arguments;

	if (!message_id && level > LOG_WARNING)
		return;
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	/* No process writes noise into the segment here, so berthd must find nothing wrong in it.
	 * When something is wrong, sessions.c, ranges.c and recount.c log one of these words. */
	if (strstr(text, "contradict") || strstr(text, "epaired") || strstr(text, "Can't"))
		verdict_fault("berthd's log: %s", text);
}

/* -- the event loop ---------------------------------------------------------------------------- */

static sd_event_source *source_add(sd_event *loop, void *data, int enabled) {
	sd_event_source *s = arena_take(sizeof(*s));

	s->data = data;
	s->enabled = enabled;
	s->next = loop->sources;
	loop->sources = s;
	return s;
}

int sd_event_add_io(sd_event *loop, sd_event_source **ret, int fd, uint32_t events,
	sd_event_io_handler_t handler, void *data) {
	*ret = source_add(loop, data, SD_EVENT_ON);
	(*ret)->fd = fd;
	(*ret)->on_io = handler;
	return 0;
}

int sd_event_add_time(sd_event *loop, sd_event_source **ret, clockid_t clock, uint64_t usec,
	uint64_t accuracy, sd_event_time_handler_t handler, void *data) {
	*ret = source_add(loop, data, SD_EVENT_ONESHOT);
	(*ret)->on_time = handler;
	return 0;
}

int sd_event_source_set_enabled(sd_event_source *s, int enabled) {
	s->enabled = enabled;
	return 0;
}

int sd_event_source_set_time(sd_event_source *s, uint64_t usec) {
	return 0;
}

sd_event *sd_event_source_get_event(sd_event_source *s) {
	return NULL;
}

int sd_event_now(sd_event *loop, clockid_t clock, uint64_t *usec) {
	*usec = 1;
	return 0;
}

sd_event_source *sd_event_source_disable_unref(sd_event_source *s) {
	if (s)
		s->enabled = SD_EVENT_OFF;
	return NULL;
}
