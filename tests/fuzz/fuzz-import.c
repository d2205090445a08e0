/* SPDX-License-Identifier: MIT */

/*
 * The input is a file for `berthctl import`. Each entry that is read must be valid and unique, and
 * the text that export would write must give the same entries. After the import, berthd must have
 * put all of the limits in force, or none of them.
 */

#include <stdio.h>
#include <string.h>

#include "import-format.h"
#include "berth.h"
#include "daemon.h"
#include "message.h"
#include "name.h"

#define SENT_MAX 64

static void judge_entry(const struct lines *l, size_t i) {
	const struct lines_entry *e = &l->entry[i];

	must_for(name_check_any(e->name, e->length) == NULL, e->name, e->length);
	must(e->limit <= BERTH_COUNT_MAX || e->limit == MESSAGE_UNLIMITED);
	for (size_t k = 0; k < i; k++)
		must_for(l->entry[k].length != e->length ||
				 memcmp(l->entry[k].name, e->name, e->length) != 0,
			e->name, e->length);
}

/* Exports the entries and parses the text. */
static void judge_export(const struct lines *l) {
	struct lines again = {0};
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	must(f);
	for (size_t i = 0; i < l->count; i++) {
		char name[256] = "";

		memcpy(name, l->entry[i].name, l->entry[i].length);
		line_write(f, name, l->entry[i].limit);
	}
	must(fclose(f) == 0);
	must(lines_parse(&again, text, size) == 0);
	must_for(again.error_count == 0 && again.count == l->count, text, size);
	for (size_t i = 0; i < l->count; i++)
		must_for(again.entry[i].length == l->entry[i].length &&
				 again.entry[i].limit == l->entry[i].limit &&
				 memcmp(again.entry[i].name, l->entry[i].name,
					 l->entry[i].length) == 0,
			text, size);
	lines_deinit(&again);
	free(text);
}

/* -- the import to berthd ---------------------------------------------------------------------- */

static struct peer peer;

static uint32_t code_of_answer(const void *packet, size_t length) {
	const struct message_header *header;
	const void *answer;

	must(peer_ask(&peer, packet, length, 0, false, &answer) >= sizeof(*header));
	header = answer;
	return header->code;
}

static uint32_t lines_send(const struct lines *l) {
	static _Alignas(16) uint8_t packet[MESSAGE_SIZE_MAX];
	struct message_import_lines *m = (struct message_import_lines *)packet;
	uint8_t *to = packet + sizeof(*m);

	for (size_t i = 0; i < l->count; i++) {
		memcpy(to, &l->entry[i].limit, 4);
		to[4] = (uint8_t)l->entry[i].length;
		memcpy(to + 5, l->entry[i].name, l->entry[i].length);
		to += 5 + l->entry[i].length;
	}
	m->count = (uint32_t)l->count;
	m->bytes = (uint32_t)(to - packet - (long)sizeof(*m));
	m->header = message_header_make(MESSAGE_IMPORT_LINES, (uint32_t)(to - packet), 0);
	return code_of_answer(packet, (size_t)(to - packet));
}

static bool is_in_force(const struct lines_entry *e) {
	struct accounts *a = daemon_get()->context.accounts;
	uint32_t want = e->limit == MESSAGE_UNLIMITED ? BERTH_LIMIT_NONE : e->limit, limit;
	char name[256] = "";
	uint64_t word;

	memcpy(name, e->name, e->length);
	for (size_t i = 0; i < templates_count(accounts_templates(a)); i++)
		if (strcmp(templates_at(accounts_templates(a), i, &limit), name) == 0)
			return limit == want;
	word = accounts_word(a, accounts_find(a, name));
	return entry_limit(word) == want && (entry_flags(word) & ENTRY_CONFIGURED);
}

static void import(const struct lines *l) {
	struct message_import begin = {MESSAGE_HEADER(MESSAGE_IMPORT_BEGIN, begin)};
	struct message_import commit = {MESSAGE_HEADER(MESSAGE_IMPORT_COMMIT, commit)};
	struct accounts *a = daemon_get()->context.accounts;
	uint32_t code;

	daemon_begin();
	peer.fd = -1;
	peer_connect(&peer, SOCKET_ADMIN);
	must(code_of_answer(&begin, sizeof(begin)) == 0);
	must(lines_send(l) == 0);
	code = code_of_answer(&commit, sizeof(commit));
	/* The second code is allowed, since this berthd has the capacity for few accounts only. */
	must(code == 0 || code == BERTH_NO_SYSTEM_RESOURCES);
	for (size_t i = 0; code == 0 && i < l->count; i++)
		must_for(is_in_force(&l->entry[i]), l->entry[i].name, l->entry[i].length);
	if (code == 0)
		must(accounts_totals(a).configured + templates_count(accounts_templates(a)) ==
			l->count);
	else
		must(accounts_totals(a).configured + templates_count(accounts_templates(a)) == 0);
	daemon_reset(&peer, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct lines l = {0};

	must(lines_parse(&l, (const char *)data, size) == 0);
	for (size_t i = 0; i < l.count; i++)
		judge_entry(&l, i);
	for (size_t i = 0; i < MIN_OF(l.error_count, (size_t)LINES_ERRORS_SHOWN); i++)
		must_for(reference_is_printable(l.error[i].text, strlen(l.error[i].text)),
			l.error[i].text, strlen(l.error[i].text));
	judge_export(&l);
	if (l.error_count == 0 && l.count > 0 && l.count <= SENT_MAX)
		import(&l);
	lines_deinit(&l);
	return 0;
}
