/* SPDX-License-Identifier: MIT */
#pragma once

/* The bounds of names, counts and tables. Messages and berthctl use them, and the layout of the
 * shared files follows from them (client/core/layout.h). */

#define BERTH_LEVELS_MAX   8         /* levels of a name */
#define BERTH_NAME_MAX     255       /* bytes of a name, without a NUL */
#define BERTH_LABEL_SIZE   40        /* bytes of a slot's label, with its NUL */
#define BERTH_COUNT_MAX    1048575u  /* slots of an account, by weight; also the highest limit */
#define BERTH_LIMIT_NONE   0xFFFFFFu /* instead of a limit: unlimited */
#define BERTH_WEIGHT_MAX   4095u     /* weight of a slot */
#define BERTH_ACCOUNTS_MAX 16777215u /* --max-accounts */
#define BERTH_SLOTS_MAX    4194288u  /* --max-slots */
#define BERTH_SESSIONS_MAX 65536u    /* --max-sessions */
