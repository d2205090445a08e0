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

/* The state of a connection: the import that its client has begun, until the store gets it. */
struct admin {
	struct import *import;
};

void import_free(struct import *i); /* NULL is fine */
/* True while berthd reserves the accounts of the import, after the client has sent all lines. */
bool import_is_preparing(const struct import *i);

/* Checks the name of an account; if template_allowed, the name may be that of a template. NULL: the
 * name is valid. Otherwise returns a sentence that says what is wrong. */
const char *admin_check_name(const struct message_name *n, bool template_allowed);

/* The first replies that a field is wrong, the second that no account has this name. */
int admin_refuse_parameter(struct connection *c, uint16_t opcode, const char *why);
int admin_refuse_unknown(struct connection *c, uint16_t opcode, const char *name);
/* Replies that the store failed. `what` is what the store didn't store. The reply ends with
 * `unchanged` (nothing was stored), or, if store_is_unsure(error), with STORE_UNSURE. */
int admin_refuse_unstored(
	struct connection *c, uint16_t opcode, int error, const char *what, const char *unchanged);

/* Completes the peaks and denials in the cells: adds those from before the boot, and the denials
 * that sessions have counted in their entries. */
void admin_complete_numbers(struct context *context);

/* For one page of a reply berthd reads at most this many accounts or records. */
#define ADMIN_PAGE_LOOKS 65536u

/* A slot must match every field that isn't 0. */
struct revoke_filter {
	uint32_t account; /* this account, or one below it */
	uint64_t slot;    /* as message_slot() packs it */
	uint32_t pid;
};

struct revoked {
	uint32_t slots;    /* slots that were held, or just being acquired */
	uint32_t releases; /* releases that their owners had begun, and berthd has finished */
	uint32_t failed;   /* records that berthd couldn't read or change; they may hold slots */
	int error;         /* the error of the last of these records */
};

/* Revokes the slots that match the filter. admin-revoke.c */
struct revoked revoke_slots(struct context *context, const struct revoke_filter *filter);
