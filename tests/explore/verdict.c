/* SPDX-License-Identifier: MIT */

/* Records the first fault of a run and, when the run is repeated, the events that led to it. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hooks.h"
#include "verdict.h"
#include "view.h"

struct verdict verdict;

/* An event of the trace. */
struct event {
	uint64_t access;
	enum trace_kind kind;
	char party[8];
	uint32_t word;
	uint64_t before, after;
	char *text;
};

bool tracing;
static struct event *events;
static size_t event_count, event_size;

void verdict_begin(const char *format, ...) {
	va_list arguments;

	verdict = (struct verdict){0};
	va_start(arguments, format);
	(void)vsnprintf(verdict.run, sizeof(verdict.run), format, arguments);
	va_end(arguments);
	for (size_t i = 0; i < event_count; i++)
		free(events[i].text);
	event_count = 0;
}

void verdict_about(uint32_t account, uint32_t record) {
	if (verdict.failed)
		return;
	verdict.account = account;
	verdict.record = record;
}

void verdict_fault(const char *format, ...) {
	va_list arguments;
	int used;

	if (!run_is_over()) {
		verdict.failed = true;
		verdict.access = accesses;
		va_start(arguments, format);
		used = snprintf(verdict.text, sizeof(verdict.text),
			"%s: ", running ? running->name : "end");
		(void)vsnprintf(verdict.text + used, sizeof(verdict.text) - (size_t)used, format,
			arguments);
		va_end(arguments);
	}
	if (running)
		coroutine_pause();
}

/* -- the trace --------------------------------------------------------------------------------- */

static struct event *event_new(enum trace_kind kind) {
	struct event *e;

	if (event_count == event_size) {
		event_size = event_size ? 2 * event_size : 4096;
		events = realloc(events, event_size * sizeof(*events));
		if (!events)
			abort();
	}
	e = &events[event_count++];
	*e = (struct event){.access = accesses, .kind = kind};
	(void)snprintf(e->party, sizeof(e->party), "%s", running ? running->name : "");
	return e;
}

void trace_word(enum trace_kind kind, uint32_t word, uint64_t before, uint64_t after) {
	struct event *e;

	if (!view_counts(word))
		return;
	e = event_new(kind);
	e->word = word;
	e->before = before;
	e->after = after;
}

void trace_text(const char *format, ...) {
	va_list arguments;

	if (!tracing)
		return;
	va_start(arguments, format);
	if (vasprintf(&event_new(TRACE_TEXT)->text, format, arguments) < 0)
		abort();
	va_end(arguments);
}

/* -- printing ---------------------------------------------------------------------------------- */

static void event_print(const struct event *e) {
	char before[80], after[80], where[16];

	if (e->kind == TRACE_TEXT) {
		(void)printf("  %8llu %-6s %s\n", (unsigned long long)e->access, e->party, e->text);
		return;
	}
	if (e->word < RECORD_WORDS)
		(void)snprintf(where, sizeof(where), "cell %u", e->word / 8);
	else
		(void)snprintf(where, sizeof(where), "r%u", (e->word - RECORD_WORDS) / 8);
	view_describe(e->word, e->before, before);
	view_describe(e->word, e->after, after);
	(void)printf("  %8llu %-6s ", (unsigned long long)e->access, e->party);
	if (e->kind == TRACE_LOAD)
		(void)printf("    reads %s: %s\n", where, after);
	else if (e->kind == TRACE_FAILED)
		(void)printf("    compare-and-swap of %s fails, expected: %s\n", where, before);
	else
		(void)printf("  %s: %s  ->  %s\n", where, before, after);
}

/* True if the event is a write, or an event of the scheduler, or an event of `last`, the party that
 * wrote last. An event about a word must also be about the verdict's account or record. */
static bool matters(const struct event *e, const char *last) {
	uint32_t record = (e->word - RECORD_WORDS) / 8;

	if (e->kind != TRACE_TEXT && e->word < RECORD_WORDS && e->word / 8 != verdict.account)
		return false;
	if (e->kind != TRACE_TEXT && e->word >= RECORD_WORDS && record != verdict.record)
		return false;
	return e->kind == TRACE_WRITE || strcmp(e->party, last) == 0 || e->party[0] == 0;
}

#define SHOWN 120

void trace_print(bool all) {
	const char *last = "";
	size_t shown = 0, from = event_count;

	for (size_t i = event_count; i-- > 0 && !*last;)
		if (events[i].kind == TRACE_WRITE)
			last = events[i].party;
	while (from > 0 && (all || shown < SHOWN))
		shown += matters(&events[--from], last);
	for (size_t i = from; i < event_count; i++)
		if (all || matters(&events[i], last))
			event_print(&events[i]);
}
