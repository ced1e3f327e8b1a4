// SPDX-License-Identifier: MIT
// sock_thread: the front of the Unix socket and the loopback port.
#include "base/last_words.h"
#include "daemon/front.h"
#include "io/net/sock.h"

void *sock_thread(void *arg)
{
    struct topology *t = arg;
    struct sock *sock = NULL;
    struct conns_params params;
    struct front f;
    struct fault fault = {0};
    last_words_thread();
    int err = front_init(&f, t, FRONT_SOCK, &params, &fault);
    if (err == 0)
        err = sock_create(&params, t->listeners, t->listeners_n, &sock, &fault);
    if (err == 0) {
        f.conns = sock_conns(sock);
        front_run(&f);
    } else {
        front_failed(&f, &fault);
    }
    sock_destroy(&sock);
    front_fini(&f);
    return NULL;
}
