/* SPDX-License-Identifier: MIT */

/*
 * The threads of processes. They acquire and release slots through libberth, singly or in bursts of
 * pairs, and check the codes that libberth returns. A slot that is certainly held must be released
 * with success, by one thread only. A slot that berthd may have revoked may also be released with
 * BERTH_CONNECTION_ABORTED. An acquire may fail only with the codes of refusal_is_right().
 */

#include "hooks.h"
#include "parties.h"
#include "process.h"
#include "verdict.h"
#include "view.h"

/* -- acquiring --------------------------------------------------------------------------------- */

static bool refusal_is_right(int code) {
	switch (code) {
	case BERTH_CONNECTION_COUNT_LIMIT:
	case BERTH_NO_SUCH_USER:
	case BERTH_CONNECTION_ABORTED:
	case BERTH_NO_SYSTEM_RESOURCES:
	case BERTH_CONNECTION_REFUSED:
		return true;
	default:
		return false;
	}
}

int thread_acquire(struct process *p, uint32_t name, uint32_t weight, struct holding **ret) {
	struct berth_request request = {
		.size = sizeof(request), .account = names[name].text, .weight = weight};
	struct holding *h = p->holding, *end = h + HOLDINGS;
	uint64_t began = accesses;
	const struct session *s;
	berth_slot slot;
	int code;

	while (h < end && h->used)
		h++;
	if (h == end)
		return BERTH_NO_SYSTEM_RESOURCES;
	/* Reserves the struct, so that no other thread of the process uses it meanwhile. */
	*h = (struct holding){.used = true};
	if (running)
		running->began = began;
	trace_text("acquires %s", request.account);
	code = berth_acquire_req(p->berth, &request, &slot);
	trace_text("acquired %s: %d", request.account, code);
	if (code != BERTH_SUCCESS) {
		h->used = false;
		if (!refusal_is_right(code))
			verdict_fault("an acquire of '%s' ended with %d", request.account, code);
		return code;
	}
	s = process_session(p);
	if (!s || !session_gave_slot(s, slot))
		s = handle_find_retired(p->berth, slot);
	*h = (struct holding){.slot = slot,
		.session = s->index,
		.serial = s->serial,
		.record = view_slot_record(slot),
		.weight = weight,
		.name = name};
	truth_hold(h, began);
	*ret = h;
	return 0;
}

/* -- releasing --------------------------------------------------------------------------------- */

static void release_check(const struct holding *h, bool was_certain, int code) {
	if (code == BERTH_SUCCESS || (code == BERTH_CONNECTION_ABORTED && !was_certain))
		return;
	verdict_about(truth.account[h->name], h->record);
	verdict_fault("a slot of '%s' (record %u), %s, was released with %d", names[h->name].text,
		h->record, was_certain ? "certainly held" : "perhaps revoked", code);
}

int thread_release(struct process *p, struct holding *h) {
	struct holding was = *h;
	uint64_t began = accesses;
	bool last;
	int code;

	truth_drop(h);
	h->releasing++;
	if (running)
		running->began = began;
	trace_text("releases a slot of record %u", h->record);
	code = berth_release(p->berth, h->slot);
	trace_text("released a slot of record %u: %d", was.record, code);
	last = --h->releasing == 0;
	if (code == BERTH_TOO_MANY_POSTS && (h->told || !last || p->closed >> h->serial % 64 & 1))
		; /* another thread is releasing the slot, or has released it */
	else if (code == BERTH_SUCCESS && h->succeeded)
		verdict_fault("a slot of record %u was released twice", h->record);
	else
		release_check(h, was.certain && truth_is_untouched(h, began), code);
	h->told = h->told || code != BERTH_TOO_MANY_POSTS;
	h->succeeded = h->succeeded || code == BERTH_SUCCESS;
	if (last)
		h->used = false;
	return code;
}

/* -- what a thread does ------------------------------------------------------------------------ */

/* Returns a random slot of the process; NULL: it has none. If `also_releasing`, another thread may
 * be releasing this slot. */
static struct holding *holding_any(struct process *p, bool also_releasing) {
	uint32_t first = below(HOLDINGS);

	for (uint32_t i = 0; i < HOLDINGS; i++) {
		struct holding *h = &p->holding[(first + i) % HOLDINGS];

		if (h->used && h->slot != 0 && h->name != NAMES - 1 &&
			(also_releasing || h->releasing == 0))
			return h;
	}
	return NULL;
}

static uint32_t name_any(void) {
	for (int i = 0; i < 32; i++) {
		uint32_t name = below(NAMES - 1), levels = 0;

		for (int n = (int)name; n >= 0; n = names[n].parent)
			levels++;
		if (plan.names >> name & 1 && levels <= plan.levels)
			return name;
	}
	return 0;
}

/* Makes pairs of one account. Most bursts use plan.burst_name, so that old tags stay in the cells
 * of the other accounts. */
static void burst(struct process *p) {
	uint32_t name = one_in(4) ? name_any() : plan.burst_name, weight = 1 + one_in(4);

	for (uint64_t n = below_size(plan.burst); n > 0 && !winding_up; n--) {
		struct holding *h;

		if (thread_acquire(p, name, weight, &h) == 0)
			(void)thread_release(p, h);
		operations += n > 1;
	}
}

static void thread_operate(struct process *p) {
	struct holding *h = holding_any(p, one_in(8));
	bool in_bursts = below(16) < plan.bursts;

	if (plan.hang_up != 0 && one_in(plan.hang_up) && !p->lock) {
		p->connected = p->goodbye = false;
		p->hung_up = true;
	} else if (plan.thread_end != 0 && one_in(plan.thread_end))
		seam_thread_end();
	else if (plan.close != 0 && one_in(plan.close))
		process_close(p);
	else if (in_bursts)
		burst(p);
	else if (h && one_in(2))
		(void)thread_release(p, h);
	else
		(void)thread_acquire(p, name_any(), 1 + one_in(4), &h);
}

void process_release_all(struct process *p) {
	for (uint32_t i = 0; i < HOLDINGS; i++)
		if (p->holding[i].used && p->holding[i].slot != 0 && p->holding[i].releasing == 0)
			(void)thread_release(p, &p->holding[i]);
}

void process_occupy(struct process *p) {
	struct holding *h;

	for (uint32_t i = plan.free_records; i < BERTH_RANGE; i++)
		(void)thread_acquire(p, NAMES - 1, 1, &h);
}

void thread_body(struct coroutine *c) {
	struct process *p = &processes[c->process];

	if (c->thread == 0)
		process_occupy(p);
	while (!winding_up) {
		thread_operate(p);
		operations++;
	}
	c->parked = true;
	for (;;)
		coroutine_pause();
}
