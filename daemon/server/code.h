/* SPDX-License-Identifier: MIT */
#pragma once

/* Codes of <berth.h> for the negative errnos that functions of berthd return. */

#include <stdint.h>

/* An error that concerns an account: -ENOENT is BERTH_NO_SUCH_USER. */
uint32_t code_of(int error);
/* An error of the store, where -ENOENT concerns a file and not an account. */
uint32_t code_of_store(int error);
