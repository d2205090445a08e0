/* SPDX-License-Identifier: MIT */
#pragma once

/* A client can truncate the segment, or punch a hole into it on a full tmpfs. berthd survives the
 * SIGBUS that follows: it maps an anonymous page in place of each page that is gone. */

#include <systemd/sd-event.h>

#include "map.h"

/* Guards one map from now on. The event loop logs how many pages were lost. */
int sigbus_guard(sd_event *event, struct map *m);
