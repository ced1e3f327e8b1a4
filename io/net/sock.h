// SPDX-License-Identifier: MIT
// sock: connections of stream sockets (io/net/conns.h) on one epoll.  A connection's input buffer
// has a fixed size; behind it the kernel's fills up.
//
// A peer that only stops sending (half-close) can still be answered; one that is gone is closed at
// once on a Unix socket, and within a moment on loopback TCP (io/net/peer.h).
//
// Owner: the thread that calls conns_poll.
#pragma once
#include "io/net/conns.h"
#include "io/net/listener.h"

#define SOCK_LISTENERS_MAX 4u

struct sock; // opaque

// sock_create starts to accept on the listeners, which stay the caller's.
int sock_create(const struct conns_params *params, const struct listener *listeners,
                uint32_t listeners_n, struct sock **ret, struct fault *fault);
// sock_destroy closes everything, without callbacks.
void sock_destroy(struct sock **sock);
struct conns *sock_conns(struct sock *sock);
