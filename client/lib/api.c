/* SPDX-License-Identifier: MIT */

/* The public functions that open and close handles, and the one that queries an account. */

#include <string.h>

#include "berth.h"
#include "call.h"
#include "clock.h"
#include "denials.h"
#include "fork.h"
#include "hello.h"
#include "pool.h"
#include "sized.h"

#define RUNTIME_DIR "/run/berth"
#define TIMEOUT_MS  5000

/* -- queries ----------------------------------------------------------------------------------- */

static int query_attempt(struct call *c, void *data) {
	struct map *m = c->session->map;
	struct berth_usage *usage = data;
	uint32_t account, limit, peak;
	struct cell *cell;
	uint64_t word;
	int r;

	r = directory_find(m, &c->name, &account, &word);
	if (r < 0)
		return r;
	if (!session_is_open(c->session))
		return -ESHUTDOWN;
	cell = map_cell(m, account);
	if (!cell)
		return map_account_error(m, account);
	limit = entry_limit(word);
	usage->limit = limit == BERTH_LIMIT_NONE ? UINT32_MAX : limit;
	usage->current = counter_count(m, account);
	/* A process that has just raised the count may not have updated the peak yet. */
	peak = load_relaxed(&cell->peak);
	usage->peak = MAX_OF(peak, usage->current);
	usage->waiting = load_relaxed(&cell->waiting);
	usage->denied = load_relaxed(&cell->denied) + denials_pending(m, account);
	return 0;
}

int berth_query(struct berth *b, const char *account, struct berth_usage *usage) {
	struct berth_usage found = {0};
	struct call c;
	int code;

	/* The struct must have the limit and the count at least. */
	if (!b || !account || !usage || usage->size < offsetof(struct berth_usage, peak))
		return BERTH_INVALID_PARAMETER;
	fork_check();
	if (call_init(&c, b, account) < 0)
		return BERTH_INVALID_PARAMETER;
	code = call_run(&c, query_attempt, &found);
	if (code != BERTH_SUCCESS)
		return code;
	found.size = usage->size;
	memcpy(usage, &found, MIN_OF(usage->size, sizeof(found)));
	return BERTH_SUCCESS;
}

/* -- handles ----------------------------------------------------------------------------------- */

static const char *options_runtime_dir(const struct berth_options *options) {
	const char *dir = options->runtime_dir;

	if (!dir)
		dir = secure_getenv("BERTH_RUNTIME_DIR");
	return dir && *dir ? dir : RUNTIME_DIR;
}

static bool options_are_valid(const struct berth_options *options) {
	return sized_is_known(options, options->size, sizeof(*options)) &&
	       options->timeout_ms >= 0 && options->flags == 0;
}

static int handle_open(const char *runtime_dir, int timeout_ms, struct berth **ret) {
	struct session *s;
	struct berth *b;
	int r;

	fork_watch();
	fork_check();
	r = handle_new(runtime_dir, timeout_ms, &b);
	if (r < 0)
		return r;
	r = hello_get_session(b, clock_monotonic_ms() + timeout_ms, &s);
	if (r != 0) {
		handle_unlink(b);
		handle_free(b);
		return r;
	}
	*ret = b;
	return 0;
}

int berth_open_options(const struct berth_options *options, struct berth **ret) {
	int r, error = errno;

	if (!options || !ret || !options_are_valid(options))
		return BERTH_INVALID_PARAMETER;
	if (!cas16_is_there())
		return BERTH_NO_SYSTEM_RESOURCES;
	r = handle_open(options_runtime_dir(options),
		options->timeout_ms ? options->timeout_ms : TIMEOUT_MS, ret);
	errno = error;
	return call_code(r);
}

int berth_open(const char *runtime_dir, struct berth **ret) {
	struct berth_options options = {.size = sizeof(options), .runtime_dir = runtime_dir};

	return berth_open_options(&options, ret);
}

void berth_close(struct berth *b) {
	int cancel_state, error = errno;
	struct session *s;

	if (!b)
		return;
	fork_check();
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	s = load_acquire(&b->current);
	if (s)
		pool_release_all(s->pool);
	/* First, so that no thread that ends has a record of the session while it says goodbye. */
	handle_unlink(b);
	hello_say_goodbye(b);
	handle_free(b);
	(void)pthread_setcancelstate(cancel_state, NULL);
	errno = error;
}
