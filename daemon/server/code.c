/* SPDX-License-Identifier: MIT */

/* Maps errnos to the codes that berthd answers with. */

#include <errno.h>

#include "berth.h"
#include "code.h"

uint32_t code_of(int error) {
	switch (-error) {
	case 0:
		return BERTH_SUCCESS;
	case ENOENT:
		return BERTH_NO_SUCH_USER;
	case EUCLEAN:
		return BERTH_FILE_CORRUPT;
	case EINVAL:
	case EBADMSG:
		return BERTH_INVALID_PARAMETER;
	case EACCES:
	case EPERM:
		return BERTH_ACCESS_DENIED;
	default:
		return BERTH_NO_SYSTEM_RESOURCES;
	}
}

uint32_t code_of_store(int error) {
	switch (-error) {
	case ENOENT:
		return BERTH_NO_SYSTEM_RESOURCES;
	case ESTALE:
		return BERTH_FILE_CORRUPT;
	default:
		return code_of(error);
	}
}
