/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sends and receives the messages of protocol.h, and connects to berthd.
 *
 * The functions return 0, or a negative errno. They may be called from any thread, but only one
 * thread at a time may use a socket for a request and its reply. No function raises SIGPIPE, and a
 * signal that interrupts a system call changes no result.
 */

#include <sys/types.h>

#include "protocol.h"

struct message_header message_header_make(
	enum message_opcode opcode, uint32_t length, uint32_t code);

/* The header of a request that is a struct of this type. */
#define MESSAGE_HEADER(opcode, type) message_header_make((opcode), sizeof(type), 0)

/* Copies a name into a message, cut at MESSAGE_NAME_SIZE - 1 bytes. */
void message_name_set(struct message_name *n, const char *text);

/* The length of a name that was received. -EINVAL: no NUL terminates it within its size. */
int message_name_length(const struct message_name *n);

/* -- one packet: both sides -------------------------------------------------------------------- */

/* Sends one packet, with up to MESSAGE_FDS_MAX descriptors, which stay the caller's. Never blocks.
 * -EAGAIN: the socket's buffer is full, because the peer doesn't read. */
int message_send(int fd, const void *message, size_t length, const int *fds, size_t fd_count);

/* Receives one packet of at most `size` bytes. Never blocks. Returns its length; 0: the peer has
 * hung up. ret_fds gets MESSAGE_FDS_MAX descriptors, -1 for each that didn't come; they are CLOEXEC
 * and 3 or above, and the caller owns them. Further descriptors are closed. If ret_fds is NULL, or
 * the packet is not accepted, all descriptors are closed. -EAGAIN: no packet is there; -EMSGSIZE:
 * the packet is longer than `size`; -EBADMSG: the magic number is wrong, or the length in the
 * header is not the packet's. */
ssize_t message_receive(int fd, void *buffer, size_t size, int *ret_fds);

/* -- requests and replies: the client's side --------------------------------------------------- */

/* All deadlines are points in time of CLOCK_MONOTONIC, in ms (clock_monotonic_ms()). The functions
 * block until the deadline at most, and then return -ETIMEDOUT. */

/* Connects to a socket of the runtime directory. Retries until the deadline as long as no process
 * listens there, then returns -ECONNREFUSED. Other errors (-EACCES, …) come at once. The descriptor
 * is 3 or above, CLOEXEC and non-blocking, and the caller owns it. */
int message_connect(const char *runtime_dir, const char *name, int64_t deadline, int *ret_fd);

/* Sends a request, whose header says how long it is, and receives its reply. *ret_size: first the
 * size of the buffer `reply`, then the length of the reply. A reply is either the one that belongs
 * to the request or a struct message_failed. -ECONNRESET: berthd has hung up; -EBADMSG: the packet
 * is no reply to the request; -EPROTONOSUPPORT: the reply is of another version. */
int message_call(int fd, const void *request, void *reply, size_t *ret_size, int64_t deadline);

/* The two halves of message_call(). If message_ask() returns 0 or -ECONNRESET, a reply is
 * outstanding until message_answer() or message_skip() has received it, or the connection is
 * closed. After -ECONNRESET that reply may say why berthd hung up. pass_fd: a descriptor to send,
 * which stays the caller's; -1: none. ret_fds: as in message_receive(). */
int message_ask(int fd, const void *request, int pass_fd, int64_t deadline);
int message_answer(
	int fd, const void *request, void *reply, size_t *ret_size, int *ret_fds, int64_t deadline);

/* Receives a reply for which the caller had stopped waiting, whatever its request was. */
int message_skip(int fd, void *buffer, size_t size, int64_t deadline);
