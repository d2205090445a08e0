/* SPDX-License-Identifier: MIT */

/*
 * An input is a list of acts, each a byte that says who does what, and then what that needs:
 *
 * REQUEST   opcode, how (enum how), the name (length and bytes) where the request has one, and the
 * rest of the message (length and bytes), with the right header, or a damaged one PACKET    length
 * (2 bytes), bytes: sent as they are LINES     how many: lines of an import, each limit (1 byte),
 * length, name; how many bytes of the end are missing; how the counts lie TAKE      a slot by
 * shared memory, as libberth does: record, weight, name GIVE      it back: record SCRIBBLE  what a
 * hostile member of the group may: part, index, 8 bytes MUTE      reads no answers from now on
 * HANG_UP
 *
 * Judged: berthd answers or hangs up, its answers are well formed and say nothing that a terminal
 * would obey, what it says was done is in force, and afterwards the counts are what records say
 * (unless somebody scribbled) and everything can be cleared away.
 */

#include <string.h>

#include "acquire.h"
#include "berth.h"
#include "counter.h"
#include "message.h"
#include "messages.h"

enum act { REQUEST, PACKET, LINES, TAKE, GIVE, SCRIBBLE, MUTE, HANG_UP };

enum how {
	HOW_FDS = 3,          /* so many descriptors more or less than usual */
	HOW_DAMAGED = 1 << 2, /* one byte of the header */
	HOW_LONGER = 1 << 3,
	HOW_SHORTER = 1 << 4,
	HOW_ENDLESS = 1 << 5, /* the name isn't terminated */
};

static const struct request {
	uint16_t opcode;
	uint32_t size, reply_size;
	bool named;
} requests[] = {
	{MESSAGE_HELLO, sizeof(struct message_hello), sizeof(struct message_welcome), false},
	{MESSAGE_RESOLVE, sizeof(struct message_resolve), sizeof(struct message_resolved), true},
	{MESSAGE_RANGES, sizeof(struct message_ranges), sizeof(struct message_ranges_granted),
		false},
	{MESSAGE_FINISH_RELEASE, sizeof(struct message_finish_release), sizeof(struct message_done),
		false},
	{MESSAGE_BYE, sizeof(struct message_bye), 0, false},
	{MESSAGE_SET, sizeof(struct message_set), sizeof(struct message_done), true},
	{MESSAGE_GET, sizeof(struct message_get), sizeof(struct message_got), true},
	{MESSAGE_LIST, sizeof(struct message_list), sizeof(struct message_listed), true},
	{MESSAGE_DELETE, sizeof(struct message_delete), sizeof(struct message_done), true},
	{MESSAGE_HOLDERS, sizeof(struct message_holders), sizeof(struct message_held), true},
	{MESSAGE_REVOKE, sizeof(struct message_revoke), sizeof(struct message_revoked), true},
	{MESSAGE_STATUS, sizeof(struct message_status), sizeof(struct message_status_reply), false},
	{MESSAGE_IMPORT_BEGIN, sizeof(struct message_import), sizeof(struct message_done), false},
	{MESSAGE_IMPORT_COMMIT, sizeof(struct message_import), sizeof(struct message_done), false},
};

static const struct request lines_request = {
	MESSAGE_IMPORT_LINES, 0, sizeof(struct message_done), false};

static struct peer peers[PEERS];
static bool scribbled;
/* The packet being made. */
static _Alignas(16) uint8_t packet[MESSAGE_SIZE_MAX];

/* -- judging answers --------------------------------------------------------------------------- */

static void judge_text(const char *text, size_t size) {
	size_t length = strnlen(text, size);

	must_for(length < size && reference_is_printable(text, length), text, length);
}

static void judge_rows(const struct message_row *row, uint32_t count) {
	for (uint32_t i = 0; i < count; i++) {
		judge_text(row[i].name.text, sizeof(row[i].name.text));
		must(row[i].limit <= BERTH_COUNT_MAX || row[i].limit == MESSAGE_UNLIMITED);
	}
}

static void judge_list(const struct message_listed *l) {
	must(l->count <= MESSAGE_ROWS_MAX);
	judge_rows(l->row, l->count);
}

static void judge_held(const struct message_held *h) {
	must(h->count <= MESSAGE_HOLDERS_MAX);
	for (uint32_t i = 0; i < h->count; i++) {
		judge_text(h->holder[i].account.text, sizeof(h->holder[i].account.text));
		must(memchr(h->holder[i].label, 0, sizeof(h->holder[i].label)));
		must(memchr(h->holder[i].comm, 0, sizeof(h->holder[i].comm)));
	}
}

/* Whoever has the answer has a limit that is in force. */
static void judge_set(const struct message_set *asked) {
	struct accounts *a = daemon_get()->context.accounts;
	uint32_t want = asked->limit == MESSAGE_UNLIMITED ? BERTH_LIMIT_NONE : asked->limit, limit;
	uint64_t word;

	if (!strpbrk(asked->name.text, "*?")) {
		word = accounts_word(a, accounts_find(a, asked->name.text));
		must(entry_limit(word) == want && (entry_flags(word) & ENTRY_CONFIGURED) &&
			(entry_flags(word) & ENTRY_USABLE));
		return;
	}
	for (size_t i = 0; i < templates_count(accounts_templates(a)); i++)
		if (strcmp(templates_at(accounts_templates(a), i, &limit), asked->name.text) == 0) {
			must(limit == want);
			return;
		}
	must(!"the template is set");
}

static void judge_delete(const struct message_delete *asked) {
	struct accounts *a = daemon_get()->context.accounts;
	uint32_t account = accounts_find(a, asked->name.text);

	must(account == 0 || !(entry_flags(accounts_word(a, account)) & ENTRY_CONFIGURED));
}

static void note_welcome(struct peer *p, const struct message_welcome *w) {
	p->session = w->session;
	p->serial = w->serial;
	p->range = w->range[0];
	p->range_count = w->range_count;
	must(w->range_count <= 1 && w->resumed <= 1);
}

static void judge_success(struct peer *p, const struct request *r, const void *answer) {
	switch (r->opcode) {
	case MESSAGE_HELLO:
		note_welcome(p, answer);
		break;
	case MESSAGE_SET:
		judge_set((const void *)packet);
		break;
	case MESSAGE_DELETE:
		judge_delete((const void *)packet);
		break;
	case MESSAGE_GET:
		judge_rows(&((const struct message_got *)answer)->row, 1);
		break;
	case MESSAGE_LIST:
		judge_list(answer);
		break;
	case MESSAGE_HOLDERS:
		judge_held(answer);
		break;
	default:
		break;
	}
}

static const struct request *request_of(uint16_t opcode) {
	for (size_t i = 0; i < ELEMENTS(requests); i++)
		if (requests[i].opcode == opcode)
			return &requests[i];
	return opcode == MESSAGE_IMPORT_LINES ? &lines_request : NULL;
}

/* `sent` is how long the packet really was. */
static void judge(struct peer *p, size_t sent, const void *answer, size_t length) {
	struct message_header asked, got;
	const struct request *r;

	memcpy(&asked, packet, sizeof(asked));
	memcpy(&got, answer, sizeof(got));
	must(asked.magic == MESSAGE_MAGIC && asked.length == sent);
	must(got.opcode == asked.opcode && got.length == length && got.version == asked.version);
	must(asked.version == MESSAGE_VERSION || got.code == BERTH_REVISION_MISMATCH);
	r = request_of(asked.opcode);
	if (got.code != 0) {
		const struct message_failed *failed = answer;

		must(length == sizeof(*failed));
		judge_text(failed->text, sizeof(failed->text));
		must(failed->text[0]);
		must(strcmp(berth_errname((int)got.code), berth_errname(-1)) != 0);
		return;
	}
	must(r && length == r->reply_size);
	must(sent == r->size || r == &lines_request);
	judge_success(p, r, answer);
}

static void ask(struct peer *p, size_t length, unsigned fds, bool pidfd) {
	const void *answer;
	size_t n = peer_ask(p, packet, length, fds, pidfd, &answer);

	if (n > 0)
		judge(p, length, answer, n);
}

/* -- acts -------------------------------------------------------------------------------------- */

static void hello_fill(const struct peer *p) {
	struct message_hello *h = (struct message_hello *)packet;

	h->fingerprint = BERTH_FINGERPRINT;
	h->resume_session = p->session;
	h->resume_serial = p->serial;
}

/* Over what is there already, bit by bit. */
static void rest_fill(struct input *in, size_t at, size_t size) {
	uint8_t rest[256];
	size_t n = input_bytes(in, rest, input_byte(in));

	for (size_t i = 0; i < n && at + i < size; i++)
		packet[at + i] ^= rest[i];
}

static void name_fill(struct input *in, uint8_t how) {
	struct message_name *name = (struct message_name *)(packet + sizeof(struct message_header));
	char text[256];

	(void)input_text(in, text);
	memcpy(name->text, text, strlen(text));
	if (how & HOW_ENDLESS)
		memset(name->text + strlen(text), 'x', sizeof(name->text) - strlen(text));
}

static void act_request(struct peer *p, struct input *in) {
	const struct request *r = &requests[input_byte(in) % ELEMENTS(requests)];
	uint8_t how = input_byte(in);
	unsigned usual = r->opcode == MESSAGE_HELLO, fds = (usual + how) % 4;
	uint32_t size = r->size;
	struct message_header header;

	memset(packet, 0, size + 256);
	if (r->opcode == MESSAGE_HELLO)
		hello_fill(p);
	if (r->named)
		name_fill(in, how);
	rest_fill(in, sizeof(header) + (r->named ? MESSAGE_NAME_SIZE : 0), size);
	size += how & HOW_LONGER ? input_byte(in) : 0;
	if (how & HOW_SHORTER)
		size -= MIN_OF(size - (uint32_t)sizeof(header), input_byte(in));
	header = message_header_make(r->opcode, size, 0);
	memcpy(packet, &header, sizeof(header));
	if (how & HOW_DAMAGED)
		packet[input_byte(in) % sizeof(header)] ^= input_byte(in);
	ask(p, size, fds, usual);
}

static void act_packet(struct peer *p, struct input *in) {
	size_t length = input_bytes(in, packet, input_number(in, 2));

	/* A packet of nothing is a hang-up. */
	if (length > 0)
		ask(p, length, length & 3, length & 4);
}

static void act_lines(struct peer *p, struct input *in) {
	struct message_import_lines *lines = (struct message_import_lines *)packet;
	uint8_t count = input_byte(in);
	uint8_t *to = packet + sizeof(*lines);

	for (uint8_t i = 0; i < count && !input_is_over(in); i++) {
		uint32_t limit = input_byte(in);
		char name[256];
		size_t length = input_text(in, name);

		limit = limit == 255   ? MESSAGE_UNLIMITED
			: limit == 254 ? BERTH_COUNT_MAX + 1
				       : limit;
		if (to + length + 5 > packet + sizeof(packet))
			break;
		memcpy(to, &limit, 4);
		to[4] = (uint8_t)length;
		memcpy(to + 5, name, length);
		to += 5 + length;
	}
	to -= MIN_OF((size_t)(to - packet) - sizeof(*lines), input_byte(in));
	lines->header = message_header_make(MESSAGE_IMPORT_LINES, (uint32_t)(to - packet), 0);
	lines->count = count ^ input_byte(in);
	lines->bytes = (uint32_t)(to - packet - (long)sizeof(*lines)) ^ input_byte(in);
	ask(p, (size_t)(to - packet), 0, false);
}

static void act_take(struct peer *p, struct input *in) {
	struct map *m = daemon_get()->context.segment->map;
	const struct stamp stamp = {.since = 1, .label = "fuzz \x1b[31m"};
	uint32_t record = p->range * BERTH_RANGE + input_byte(in) % BERTH_RANGE;
	uint32_t weight = 1 + input_byte(in), account, level;
	uint64_t seq;
	struct path path;
	struct name name;
	char text[256];
	uint64_t word;
	int r;

	if (name_load_length(text, input_text(in, text), &name) < 0 || p->range_count == 0)
		return;
	r = directory_find(m, &name, &account, &word);
	if (r == 0)
		r = directory_path(m, account, entry_generation(word), &path);
	if (r == 0 && (entry_flags(word) & ENTRY_USABLE))
		r = record_acquire(m, record, &path, weight, &stamp, &seq, &level);
	must(scribbled || r == 0 || r == -ENOENT || r == -EDQUOT || r == -EAGAIN ||
		r == -ESHUTDOWN || r == -EOVERFLOW);
}

static void act_give(struct peer *p, struct input *in) {
	struct map *m = daemon_get()->context.segment->map;
	uint32_t record = p->range * BERTH_RANGE + input_byte(in) % BERTH_RANGE;
	struct snapshot s;
	int r = counter_record(m, record, &s);

	if (r == 0)
		r = counter_release(m, record, s.seq);
	must(scribbled || p->range_count == 0 || r == 0 || r == -ENOENT);
}

static void act_scribble(struct input *in) {
	struct map *m = daemon_get()->context.segment->map;
	uint8_t part = input_byte(in);
	uint16_t index = (uint16_t)input_number(in, 2);
	uint64_t value = input_number(in, 8);
	struct record *record = map_record(m, index);
	struct cell *cell = map_cell(m, index);
	struct session_entry *entry = map_session(m, index);

	scribbled = true;
	if (part % 4 == 0 && record)
		store_relaxed(part & 4 ? &record->noted : &record->place, value);
	else if (part % 4 == 1 && cell)
		store_relaxed(part & 4 ? &cell->tag : &cell->count, value);
	else if (part % 4 == 2 && entry)
		store_relaxed(&entry->image, value);
	else if (part % 4 == 3 && record)
		store_relaxed(&record->label[index % ELEMENTS(record->label)], value);
}

/* What was scribbled is taken back, so that the next input finds zeros in every count. */
static void scribbles_clear(void) {
	struct map *m = daemon_get()->context.segment->map;

	/* Of noted and bumps too, so that no input uses them up for those that come after it: no
	 * party is between a look and its step. */
	for (uint32_t a = 1; a < load_relaxed(&m->names->accounts); a++) {
		store_relaxed(&map_cell(m, a)->count, 0);
		store_relaxed(&map_cell(m, a)->tag, 0);
	}
	for (uint32_t n = 1; n < load_relaxed(&m->names->slots); n++) {
		bool granted = ranges_owner(sessions_ranges(daemon_get()->context.sessions),
				       n / BERTH_RANGE) != RANGE_NONE;

		store_relaxed(&map_record(m, n)->noted, 0);
		store_relaxed(&map_record(m, n)->place,
			place_pack(granted ? RECORD_FREE : RECORD_CLOSED, 0, 0, 0));
	}
	scribbled = false;
}

static void act(enum server_socket kind, struct input *in) {
	uint8_t who = input_byte(in);
	struct peer *p = &peers[who >> 3 & 3];
	enum act what = who & 7;

	/* The last one is on the other socket. */
	peer_connect(p, p == &peers[PEERS - 1] ? (enum server_socket) !kind : kind);
	switch (what) {
	case REQUEST:
		act_request(p, in);
		break;
	case PACKET:
		act_packet(p, in);
		break;
	case LINES:
		act_lines(p, in);
		break;
	case TAKE:
		act_take(p, in);
		break;
	case GIVE:
		act_give(p, in);
		break;
	case SCRIBBLE:
		act_scribble(in);
		break;
	case MUTE:
		p->mute = true;
		break;
	case HANG_UP:
		peer_hang_up(p);
		break;
	}
}

void messages_play(enum server_socket kind, const uint8_t *data, size_t size) {
	struct input in = {data, data + size};

	daemon_begin();
	for (size_t i = 0; i < PEERS; i++)
		peers[i] = (struct peer){.fd = -1};
	for (int acts = 0; acts < 64 && !input_is_over(&in); acts++)
		act(kind, &in);
	if (scribbled)
		scribbles_clear();
	daemon_check_counts();
	daemon_reset(peers, PEERS);
	daemon_check_counts();
}
