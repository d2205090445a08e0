/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sessions: which process holds records, and what happens when it is gone.
 *
 * A session ends when its process is dead (its pidfd says so), when its connection hangs up, when
 * its process opens one from a newer exec image, or when it says goodbye. Then every record of it is
 * revoked and closed. Its ranges go to others only once the process is dead or has said goodbye.
 */

#include <systemd/sd-event.h>

#include "ranges.h"

/* What its entry in the segment says, which a client could write over. */
struct session_who {
	uint32_t serial;
	pid_t pid;
	uid_t uid;
	uint32_t reserved;   /* 0: what is compared byte by byte has no padding */
	uint64_t start_time; /* 0: not known, counts as alive */
	uint64_t image;
	uint64_t comm[2];
	uint64_t opened;
};

struct session {
	struct sessions *all;
	uint32_t index;
	struct session_who who;
	int pidfd; /* -1: none to be had yet; tried again */
	sd_event_source *death;
	uint32_t range_head;
	bool dead; /* or has said goodbye: its ranges may go to others */
	bool connected;
	enum session_state state;
};

struct sessions {
	sd_event *event;
	struct segment *segment;
	struct ranges *ranges;
	struct session **session; /* by index */
	uint32_t size;
	uint32_t count;
	sd_event_source *retry; /* for what can't be finished at once */
	bool said_full;
	/* Told when one is gone for good or can't be used any more, so that connections forget it. */
	void (*ended)(void *data, struct session *s);
	void *ended_data;
};

/* Finds what is in the segment: sessions of the living go on, those of the dead are ended, and what
 * a dead daemon had begun is finished. */
int sessions_new(sd_event *event, struct segment *segment, struct sessions **ret);
void sessions_free(struct sessions *all); /* NULL is fine; nobody's session ends */

/* What a process says of itself, checked by the caller against its credentials. */
struct session_claim {
	pid_t pid;
	uid_t uid;
	int pidfd; /* taken, whatever is returned */
	uint64_t image;
	uint32_t resume_session, resume_serial;
};

/* A session for a process, a new one or (*ret_resumed) the one that it asks for. -ENOSPC: as many as
 * there may be; -ENOMEM, -ESRCH: the process is dead already. */
int sessions_open(
	struct sessions *all, struct session_claim *claim, struct session **ret, bool *ret_resumed);

/* Its connection is gone, `goodbye` or not. */
void session_disconnected(struct session *s, bool goodbye);

/* One more range of records. -ENOSPC, -ENOMEM. */
int session_grant(struct session *s, uint32_t *ret_range);

/* Writes entries of the table that aren't what was written there once more; how many. */
uint32_t sessions_rewrite(struct sessions *all);

/* Whose record this is; NULL: nobody's. */
struct session *sessions_owner(struct sessions *all, uint32_t record);
