// SPDX-License-Identifier: MIT
// listener: a listening stream socket: a Unix path, a port of the loopback interface, or one that
// systemd opened for us.  Nothing else: a port that the network can reach is another module's.
// Owner: whoever opened it; hand it to sock_create, close it after sock_destroy.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

struct listener {
    int fd;     // -1: not open
    bool local; // a Unix socket: the file's permissions say who may connect
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; // to be removed at close; "": none
    dev_t dev; // of path when it was made, so that another daemon's file is left alone
    ino_t ino;
    char name[128]; // for the log: the path or ADDRESS:PORT
};

// listener_open_unix makes the socket file and listens.  A file that a dead process left behind is
// replaced; one that is answered is not.
//
// mode: permissions of the file; it never exists with wider ones.  Changes the umask for a moment,
//       so call it while there is one thread.
// Errors: -EADDRINUSE somebody answers there; -EEXIST the path is no socket; -EACCES, -ENOENT ...
int listener_open_unix(const char *path, mode_t mode, struct listener *ret, struct fault *fault);

// listener_open_loopback listens on "127.0.0.1:8080" or "[::1]:8080".  Port 0 takes a free one
// (name tells which).  -EINVAL if it is no numeric loopback address with a port.
int listener_open_loopback(const char *text, struct listener *ret, struct fault *fault);

// listener_loopback_check says whether listener_open_loopback would understand the text.
int listener_loopback_check(const char *text, struct fault *fault);

// listener_adopt takes a listening fd from systemd (sd_listen_fds(3)); -EINVAL if it is not a
// listening stream socket of Unix or loopback.  On success the fd belongs to the listener.
int listener_adopt(int fd, struct listener *ret, struct fault *fault);

// listener_close closes, and removes the socket file if it is still ours.  Accepts {.fd = -1}.
void listener_close(struct listener *listener);
