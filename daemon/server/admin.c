/* SPDX-License-Identifier: MIT */

/* Lists the requests on admin.sock, and has the replies that several of them share. */

#include <string.h>

#include "admin.h"
#include "berth.h"
#include "checkpoint.h"
#include "denials.h"
#include "name.h"
#include "recount.h"
#include "segment.h"
#include "store.h"

const char *admin_check_name(const struct message_name *n, bool template_allowed) {
	int length = message_name_length(n);

	if (length < 0)
		return "the name doesn't end";
	return template_allowed ? name_check_any(n->text, (size_t)length)
				: name_check(n->text, (size_t)length);
}

int admin_refuse_parameter(struct connection *c, uint16_t opcode, const char *why) {
	return connection_refuse(c, opcode, BERTH_INVALID_PARAMETER, "%s", why);
}

int admin_refuse_unknown(struct connection *c, uint16_t opcode, const char *name) {
	char shown[1024];

	return connection_refuse(c, opcode, BERTH_NO_SUCH_USER, "there is no account '%s'",
		name_escape(name, strlen(name), shown, 300));
}

int admin_refuse_unstored(
	struct connection *c, uint16_t opcode, int error, const char *what, const char *unchanged) {
	uint32_t code = code_of(error);
	char why[256];

	if (error == -ENOENT) /* a file is missing, not an account */
		code = BERTH_NO_SYSTEM_RESOURCES;
	else if (error == -ESTALE)
		code = BERTH_FILE_CORRUPT;
	return connection_refuse(c, opcode, code, "can't store %s: %s; %s", what,
		store_explain(connection_context(c)->store, error, why, sizeof(why)),
		store_is_unsure(error) ? STORE_UNSURE : unchanged);
}

void admin_complete_numbers(struct context *context) {
	checkpoint_restore_rest(context->checkpoint);
	denials_collect(context->segment->map);
}

/* An administrator has looked at the counts, so berthd recounts soon. It doesn't recount while it
 * restores stored numbers: a repaired cell gets the stored peak and denials, which berthd may not
 * have read yet. */
static void admin_handled(struct connection *c) {
	struct context *context = connection_context(c);

	if (!checkpoint_is_restoring(context->checkpoint))
		recount_request(context->recount);
}

static void admin_ended(struct connection *c, bool stops) {
	struct admin *admin = connection_state(c);

	(void)stops;
	/* The store doesn't have this import yet, so no answer will end the wait. */
	if (import_is_preparing(admin->import))
		connection_stop_waiting(c);
	import_free(admin->import);
	admin->import = NULL;
}

static const struct message_type types[] = {
	{MESSAGE_SET, sizeof(struct message_set), false, handle_set},
	{MESSAGE_GET, sizeof(struct message_get), false, handle_get},
	{MESSAGE_LIST, sizeof(struct message_list), false, handle_list},
	{MESSAGE_DELETE, sizeof(struct message_delete), false, handle_delete},
	{MESSAGE_HOLDERS, sizeof(struct message_holders), false, handle_holders},
	{MESSAGE_REVOKE, sizeof(struct message_revoke), false, handle_revoke},
	{MESSAGE_STATUS, sizeof(struct message_status), false, handle_status},
	{MESSAGE_IMPORT_BEGIN, sizeof(struct message_import), false, handle_import_begin},
	{MESSAGE_IMPORT_LINES, sizeof(struct message_import_lines), true, handle_import_lines},
	{MESSAGE_IMPORT_COMMIT, sizeof(struct message_import), false, handle_import_commit},
	{0, 0, false, NULL},
};

const struct protocol admin_protocol = {
	.socket = "admin.sock",
	.types = types,
	.state_size = sizeof(struct admin),
	.handled = admin_handled,
	.ended = admin_ended,
};
