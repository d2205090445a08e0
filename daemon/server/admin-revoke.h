/* SPDX-License-Identifier: MIT */
#pragma once

/* Revokes slots: takes them away from the processes that hold them. */

#include "context.h"

/* A slot must match every field that isn't 0. */
struct revoke_filter {
	uint32_t account; /* this one, or one below it */
	uint64_t slot;    /* as message_slot() packs it */
	uint32_t pid;
};

struct revoked {
	uint32_t slots;    /* slots that were held, or just being acquired */
	uint32_t releases; /* releases that their owners had begun, and berthd has finished */
	uint32_t failed;   /* records that berthd couldn't read or change; they may hold slots */
	int error;         /* the error of the last of these records */
};

struct revoked revoke_slots(struct context *context, const struct revoke_filter *filter);
