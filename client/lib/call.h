/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One call of the API on the general path: makes an attempt, has berthd mend what was in its way,
 * and makes another.
 */

#include "directory.h"
#include "session.h"

struct call {
	struct berth *b;
	struct session *session; /* of the attempt */
	const char *account;
	struct name name;     /* of the account */
	int64_t deadline;     /* 0: berthd wasn't needed so far */
	uint32_t range_count; /* how many ranges the pool had at the attempt */
	uint32_t record;      /* with which the attempt was made; 0: none */
	bool was_remapped;    /* the call has retried because a window couldn't be mapped */
	bool was_refused;     /* berthd has no more ranges: records of other accounts must do */
};

/* -EINVAL: no account can have this name. */
int call_init(struct call *c, struct berth *b, const char *account);

/* Makes attempts until one is final, and returns its code of berth.h. An attempt returns 0 or a
 * negative errno. These have the call mended and another attempt made:
 *   -EAGAIN           nothing is to be mended
 *   -ENOENT, -ESTALE  berthd must enter the name in the directory
 *   -ENOBUFS          the pool has no record
 *   -ESHUTDOWN        the session has ended
 *   -ENOMEM           a window can't be mapped */
int call_run(struct call *c, int (*attempt)(struct call *c, void *data), void *data);

/* The code of berth.h for an internal result; a positive one is a code that berthd answered. */
int call_code(int r);
