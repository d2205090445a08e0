/* SPDX-License-Identifier: MIT */
#pragma once

/* The requests of berthctl on admin.sock. Each admin-*.c handles those of one subject. */

#include "connection.h"

extern const struct protocol admin_protocol;

int handle_set(struct connection *c, const struct packet *p);           /* admin-limits.c */
int handle_delete(struct connection *c, const struct packet *p);        /* admin-limits.c */
int handle_get(struct connection *c, const struct packet *p);           /* admin-list.c */
int handle_list(struct connection *c, const struct packet *p);          /* admin-list.c */
int handle_holders(struct connection *c, const struct packet *p);       /* admin-holders.c */
int handle_revoke(struct connection *c, const struct packet *p);        /* admin-revoke.c */
int handle_status(struct connection *c, const struct packet *p);        /* admin-status.c */
int handle_import_begin(struct connection *c, const struct packet *p);  /* admin-import.c */
int handle_import_lines(struct connection *c, const struct packet *p);  /* admin-import.c */
int handle_import_commit(struct connection *c, const struct packet *p); /* admin-import.c */

/* -- for these files --------------------------------------------------------------------------- */

/* The state of a connection: the import that its client has begun, until the store has it. */
struct admin {
	struct import *import;
};

void import_free(struct import *i); /* NULL is fine */
/* The client has sent everything, and berthd makes room for the accounts. */
bool import_is_preparing(const struct import *i);

/* NULL: the request names an account (or a template, if that is allowed). Else: a sentence that
 * says what is wrong. */
const char *admin_check_name(const struct message_name *n, bool template_allowed);

/* Replies to a request with a bad name, or another bad field. */
int admin_refuse_parameter(struct connection *c, uint16_t opcode, const char *why);
int admin_refuse_unknown(struct connection *c, uint16_t opcode, const char *name);
/* Replies that the store failed. `what` is what it couldn't store. The reply ends with `unchanged`,
 * which says that nothing was stored, unless store_is_unsure(error). */
int admin_refuse_unstored(
	struct connection *c, uint16_t opcode, int error, const char *what, const char *unchanged);

/* Completes the peaks and denials in the cells: adds those from before the boot, and the denials
 * that sessions have counted for themselves. */
void admin_complete_numbers(struct context *context);

/* berthd looks at no more than this many entries for one page of a list. */
#define ADMIN_PAGE_LOOKS 65536u

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

/* Takes slots away from the processes that hold them. admin-revoke.c */
struct revoked revoke_slots(struct context *context, const struct revoke_filter *filter);
