/* SPDX-License-Identifier: MIT */
#pragma once

/* How large names, counts and tables can be. berthctl and the messages know these bounds, and the
 * shared files are laid out by them. */

#define BERTH_LEVELS_MAX   8         /* levels of a name */
#define BERTH_NAME_MAX     255       /* bytes of a name */
#define BERTH_LABEL_SIZE   40        /* bytes of a slot's label, with its NUL */
#define BERTH_COUNT_MAX    1048575u  /* slots of an account that are held; also the highest limit */
#define BERTH_LIMIT_NONE   0xFFFFFFu /* instead of a limit: unlimited */
#define BERTH_WEIGHT_MAX   4095u
#define BERTH_ACCOUNTS_MAX 16777215u
#define BERTH_SLOTS_MAX    4194288u
#define BERTH_SESSIONS_MAX 65536u
