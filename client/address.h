// SPDX-License-Identifier: MIT
// address: where the daemon listens: a Unix socket, http://HOST:PORT or https://HOST:PORT.
#pragma once
#include "base/fault.h"

#include <stdbool.h>

#define ADDRESS_SOCKET_DEFAULT "/run/expertd/api.sock"

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP };

struct address {
    enum address_kind kind;
    char path[108]; // ADDRESS_UNIX: as sockaddr_un holds it, NUL included
    char host[256]; // ADDRESS_TCP: name or literal, an IPv6 one without brackets
    char port[6];
    bool tls;       // ADDRESS_TCP: https
    const char *ca; // a file of authorities for it; NULL: the system's
    char text[272]; // as a user would type it, for messages
};

// address_unix takes the path of a socket.  -EINVAL: empty, or longer than a socket's name may be.
int address_unix(const char *path, struct address *ret, struct fault *fault);

// address_url takes http[s]://HOST[:PORT][/].  -EINVAL: anything else.
int address_url(const char *url, struct address *ret, struct fault *fault);

// address_is_local says whether bytes sent there stay on this machine: a Unix socket, `localhost`
// or a loopback literal.
bool address_is_local(const struct address *address);

// address_connect opens a non-blocking, close-on-exec stream there and waits until it is connected.
//
// interrupt_fd: gives up with -EINTR once this is readable; -1 for none.
// Errors: -errno of connect, -ETIMEDOUT after ten seconds; the sentence names the address and says
// how to start the daemon.
int address_connect(const struct address *address, int interrupt_fd, int *ret_fd,
                    struct fault *fault);
