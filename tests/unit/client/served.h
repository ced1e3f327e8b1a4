// SPDX-License-Identifier: MIT
// served: a Unix socket whose other end says given bytes: what the client's tests talk to.  One
// child process a script; the request it read can be looked at afterwards.
#pragma once
#include "client/address.h"

#include <stddef.h>
#include <sys/types.h>

struct served {
    char folder[64];
    struct address address;
    int listen_fd;
    int request_fd; // the child writes the request's bytes here
    pid_t pid;
};

// served_open makes the socket.  Ends the test if it cannot.
void served_open(struct served *served);

// served_script starts a child that takes one connection, reads a request (to its end by
// Content-Length; read_request false: not at all), sends the bytes in steps of `step` bytes
// (0: at once), and closes.
void served_script(struct served *served, const char *bytes, size_t len, size_t step,
                   int read_request);

// served_request waits for the child and returns the request it read, NUL-terminated, in buf.
const char *served_request(struct served *served, char *buf, size_t buf_bytes);

void served_close(struct served *served);
