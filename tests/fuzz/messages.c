/* SPDX-License-Identifier: MIT */

/*
 * An input is a list of acts. Each begins with a byte that chooses a connection and the act; the
 * arguments of the act follow:
 *
 *   REQUEST    opcode; flags (enum flags); if the request has a name, the name (length, bytes); the
 *              rest of the message (length, bytes). If no flag damages the header, it is right.
 *   PACKET     length (2 bytes), bytes, which are sent as they are
 *   LINES      number of lines of an import; for each its limit (1 byte) and name (length, bytes);
 *              how many bytes are cut off at the end; what is XORed into the two counts
 *   ACQUIRE    record, weight, name: acquires in shared memory, as libberth does
 *   RELEASE    record
 *   OVERWRITE  part, index, 8 bytes: writes to the segment, as a hostile member of the group may
 *   MUTE       the connection reads no answers from now on
 *   HANG_UP    the connection is closed
 *
 * berthd must answer or hang up. berthd's answers must be well-formed and safe to print on a
 * terminal. A change that berthd acknowledges must be in force. If the segment wasn't overwritten,
 * the counts at the end must be the sums of the records. In any case everything can be removed.
 */

#include <string.h>

#include "acquire.h"
#include "berth.h"
#include "counter.h"
#include "message.h"
#include "messages.h"

enum act { REQUEST, PACKET, LINES, ACQUIRE, RELEASE, OVERWRITE, MUTE, HANG_UP };

enum flags {
	FLAG_FDS = 3,          /* the number of additional descriptors, modulo 4 */
	FLAG_DAMAGED = 1 << 2, /* a byte of the header is wrong */
	FLAG_LONGER = 1 << 3,
	FLAG_SHORTER = 1 << 4,
	FLAG_UNTERMINATED = 1 << 5, /* the name has no terminating NUL */
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
static bool segment_overwritten;
/* The packet that is prepared or was sent last. */
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

static void judge_held(const struct message_held *h) {
	must(h->count <= MESSAGE_HOLDERS_MAX);
	for (uint32_t i = 0; i < h->count; i++) {
		judge_text(h->holder[i].account.text, sizeof(h->holder[i].account.text));
		must(memchr(h->holder[i].label, 0, sizeof(h->holder[i].label)));
		must(memchr(h->holder[i].comm, 0, sizeof(h->holder[i].comm)));
	}
}

/* A limit that was acknowledged must be in force. */
static void judge_set(const struct message_set *request) {
	struct accounts *a = daemon_get()->context.accounts;
	uint32_t want = request->limit == MESSAGE_UNLIMITED ? BERTH_LIMIT_NONE : request->limit,
		 limit;
	uint64_t word;

	if (!strpbrk(request->name.text, "*?")) {
		word = accounts_word(a, accounts_find(a, request->name.text));
		must(entry_limit(word) == want && (entry_flags(word) & ENTRY_CONFIGURED) &&
			(entry_flags(word) & ENTRY_USABLE));
		return;
	}
	for (size_t i = 0; i < templates_count(accounts_templates(a)); i++)
		if (strcmp(templates_at(accounts_templates(a), i, &limit), request->name.text) ==
			0) {
			must(limit == want);
			return;
		}
	must(!"the template isn't set");
}

static void judge_success(struct peer *p, const struct request *r, const void *answer) {
	const struct message_welcome *w = answer;
	const struct message_listed *l = answer;
	struct accounts *a = daemon_get()->context.accounts;
	uint32_t account;

	switch (r->opcode) {
	case MESSAGE_HELLO:
		p->session = w->session;
		p->serial = w->serial;
		p->range = w->range[0];
		p->range_count = w->range_count;
		must(w->range_count <= 1 && w->resumed <= 1);
		break;
	case MESSAGE_SET:
		judge_set((const void *)packet);
		break;
	case MESSAGE_DELETE:
		account = accounts_find(a, ((const struct message_delete *)packet)->name.text);
		must(account == 0 || !(entry_flags(accounts_word(a, account)) & ENTRY_CONFIGURED));
		break;
	case MESSAGE_GET:
		judge_rows(&((const struct message_got *)answer)->row, 1);
		break;
	case MESSAGE_LIST:
		must(l->count <= MESSAGE_ROWS_MAX);
		judge_rows(l->row, l->count);
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

/* `sent` is the true length of the packet. */
static void judge(struct peer *p, size_t sent, const void *answer, size_t length) {
	struct message_header request, got;
	const struct request *r;

	memcpy(&request, packet, sizeof(request));
	memcpy(&got, answer, sizeof(got));
	must(request.magic == MESSAGE_MAGIC && request.length == sent);
	must(got.opcode == request.opcode && got.length == length &&
		got.version == request.version);
	must(request.version == MESSAGE_VERSION || got.code == BERTH_REVISION_MISMATCH);
	r = request_of(request.opcode);
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

static void body_fill(struct input *in, size_t at, size_t size) {
	uint8_t bytes[256];
	size_t n = input_bytes(in, bytes, input_byte(in));

	for (size_t i = 0; i < n && at + i < size; i++)
		packet[at + i] ^= bytes[i];
}

static void name_fill(struct input *in, uint8_t flags) {
	struct message_name *name = (struct message_name *)(packet + sizeof(struct message_header));
	char text[256];

	(void)input_text(in, text);
	memcpy(name->text, text, strlen(text));
	if (flags & FLAG_UNTERMINATED)
		memset(name->text + strlen(text), 'x', sizeof(name->text) - strlen(text));
}

static void act_request(struct peer *p, struct input *in) {
	const struct request *r = &requests[input_byte(in) % ELEMENTS(requests)];
	struct message_hello *hello = (struct message_hello *)packet;
	uint8_t flags = input_byte(in);
	unsigned usual = r->opcode == MESSAGE_HELLO, fds = (usual + flags) % 4;
	uint32_t size = r->size;
	struct message_header header;

	memset(packet, 0, size + 256);
	if (r->opcode == MESSAGE_HELLO) {
		hello->fingerprint = BERTH_FINGERPRINT;
		hello->resume_session = p->session;
		hello->resume_serial = p->serial;
	}
	if (r->named)
		name_fill(in, flags);
	body_fill(in, sizeof(header) + (r->named ? MESSAGE_NAME_SIZE : 0), size);
	size += flags & FLAG_LONGER ? input_byte(in) : 0;
	if (flags & FLAG_SHORTER)
		size -= MIN_OF(size - (uint32_t)sizeof(header), input_byte(in));
	header = message_header_make(r->opcode, size, 0);
	memcpy(packet, &header, sizeof(header));
	if (flags & FLAG_DAMAGED)
		packet[input_byte(in) % sizeof(header)] ^= input_byte(in);
	ask(p, size, fds, usual);
}

static void act_packet(struct peer *p, struct input *in) {
	size_t length = input_bytes(in, packet, input_number(in, 2));

	/* berthd would take an empty packet for a hang-up. */
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

static void act_acquire(struct peer *p, struct input *in) {
	struct map *m = daemon_get()->context.segment->map;
	const struct stamp stamp = {.since = 1, .label = "fuzz \x1b[31m"};
	uint32_t record = p->range * BERTH_RANGE + input_byte(in) % BERTH_RANGE;
	uint32_t weight = 1 + input_byte(in), account;
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
		r = record_acquire(m, record, &path, weight, &stamp, &seq);
	must(segment_overwritten || r == 0 || r == -ENOENT || r == -EDQUOT || r == -EAGAIN ||
		r == -ESHUTDOWN || r == -EOVERFLOW);
}

static void act_release(struct peer *p, struct input *in) {
	struct map *m = daemon_get()->context.segment->map;
	uint32_t record = p->range * BERTH_RANGE + input_byte(in) % BERTH_RANGE;
	struct snapshot s;
	int r = counter_record(m, record, &s);

	if (r == 0)
		r = counter_release(m, record, s.seq);
	must(segment_overwritten || p->range_count == 0 || r == 0 || r == -ENOENT);
}

static void act_overwrite(struct input *in) {
	struct map *m = daemon_get()->context.segment->map;
	uint8_t part = input_byte(in);
	uint16_t index = (uint16_t)input_number(in, 2);
	uint64_t value = input_number(in, 8);
	struct record *record = map_record(m, index);
	struct cell *cell = map_cell(m, index);
	struct session_entry *entry = map_session(m, index);

	segment_overwritten = true;
	if (part % 4 == 0 && record)
		store_relaxed(part & 4 ? &record->noted : &record->place, value);
	else if (part % 4 == 1 && cell)
		store_relaxed(part & 4 ? &cell->tag : &cell->count, value);
	else if (part % 4 == 2 && entry)
		store_relaxed(&entry->image, value);
	else if (part % 4 == 3 && record)
		store_relaxed(&record->label[index % ELEMENTS(record->label)], value);
}

/* After an input that has overwritten the segment: sets counts, tags, places and seqs to 0, so that
 * the input doesn't affect the next one. No process may be in the middle of an operation. */
static void overwritten_clear(void) {
	struct map *m = daemon_get()->context.segment->map;

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
	segment_overwritten = false;
}

static void act(enum server_socket kind, struct input *in) {
	uint8_t choice = input_byte(in);
	struct peer *p = &peers[choice >> 3 & 3];
	enum act what = choice & 7;

	/* The last connection is on the other socket. */
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
	case ACQUIRE:
		act_acquire(p, in);
		break;
	case RELEASE:
		act_release(p, in);
		break;
	case OVERWRITE:
		act_overwrite(in);
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
	if (segment_overwritten)
		overwritten_clear();
	daemon_check_counts();
	daemon_reset(peers, PEERS);
	daemon_check_counts();
}
