/* SPDX-License-Identifier: MIT */

/* Turns codes of <berth.h> into exit statuses. */

#include "berth.h"
#include "exit-status.h"

int exit_status_of(uint32_t code) {
	switch (code) {
	case BERTH_SUCCESS:
		return CTL_OK;
	case BERTH_ACCESS_DENIED:
		return CTL_NOT_ALLOWED;
	case BERTH_CONNECTION_REFUSED:
		return CTL_UNREACHABLE;
	case BERTH_CONNECTION_COUNT_LIMIT:
		return CTL_DENIED;
	default:
		return CTL_FAILED;
	}
}
