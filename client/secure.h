// SPDX-License-Identifier: MIT
// secure: TLS of a client over a connected socket: 1.2 or 1.3, the server's certificate and name
// checked.  Never blocks but for the handshake.
#pragma once
#include "base/fault.h"
#include "client/address.h"

#include <stddef.h>
#include <sys/types.h>

struct secure; // opaque

// secure_open shakes hands.
//
// fd: connected, non-blocking; stays the caller's.
// address->ca: the authorities that the certificate may be signed by; NULL: the system's.
// interrupt_fd: gives up with -EINTR once this is readable; -1 for none.
// Errors: -EINVAL address->ca cannot be used, -EACCES the certificate is not trusted or not for
// this name, -EPROTO no TLS is spoken there, -ETIMEDOUT after ten seconds, -ECONNRESET, -ENOMEM.
int secure_open(const struct address *address, int fd, int interrupt_fd, struct secure **ret,
                struct fault *fault);
void secure_close(struct secure **secure); // without a word to the peer; NULL is fine

// secure_send and secure_recv are send(2) and recv(2) with errno as a negative result.  -EAGAIN:
// call again with the same bytes when the socket is writable, or readable (the records that TLS
// itself exchanges after the handshake are small enough for the socket to take).
// What secure_recv could give without the socket becoming readable it gives at once.
ssize_t secure_send(struct secure *secure, const void *bytes, size_t n);
ssize_t secure_recv(struct secure *secure, void *bytes, size_t n); // 0: the peer ended
