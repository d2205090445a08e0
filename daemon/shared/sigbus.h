/* SPDX-License-Identifier: MIT */
#pragma once

/* A client that truncates the segment, or punches a hole into it on a full tmpfs, can't kill berthd:
 * an anonymous page takes the place of each one that is gone. */

#include <systemd/sd-event.h>

#include "map.h"

/* From now on, for one map. What happened is said in the log by the event loop. */
int sigbus_guard(sd_event *event, struct map *m);
