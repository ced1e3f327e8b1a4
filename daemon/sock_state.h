// SPDX-License-Identifier: MIT
// sock_state: what the sock thread owns; shared by its three files and by nobody else:
// sock_thread.c (connections, HTTP, time-outs), endpoint.c (requests -> work or an answer),
// generation.c (events of step -> bytes).
#pragma once
#include "daemon/topology.h"

#define REQ_NONE UINT32_MAX

struct connection {
    struct http_reader reader;
    bool open;
    bool local;        // a Unix socket
    bool ended;        // the client sends no more
    uint32_t req;      // the request that is being answered, or REQ_NONE
    uint64_t sent;     // sock_sent when it was last looked at
    uint64_t moved_us; // when that last grew
};

struct sock_state {
    struct topology *t;
    struct sock *sock;
    struct connection *conns; // [connections_max]
    uint32_t *free_reqs;      // [reqs_n], a stack
    uint32_t free_reqs_n;
    struct buf out; // scratch: every answer is made here and handed to sock at once
};

// conn_send hands s->out to the connection; on any failure the connection is closed.
void conn_send(struct sock_state *s, uint32_t conn);

// conn_error answers with an error object in s->out form; see conn_answered next.
void conn_error(struct sock_state *s, uint32_t conn, const struct http_form *form,
                const struct api_error *error);

// conn_answered: the answer to the current request is out; goes on with the next one, or closes.
void conn_answered(struct sock_state *s, uint32_t conn, bool keep_alive);

// conn_deadline arms the time-out that fits what the connection is doing.
void conn_deadline(struct sock_state *s, uint32_t conn);

// endpoint_judge looks at a request whose head is complete and refuses what needs no body to be
// refused: unknown paths, methods, and generations while the model loads or the daemon stops.
void endpoint_judge(struct sock_state *s, uint32_t conn);

// endpoint_serve takes a complete request: answers it, or hands it to tok.
void endpoint_serve(struct sock_state *s, uint32_t conn);

// generation_replies takes what tok answered itself: errors, /tokenize and the like.
uint32_t generation_replies(struct sock_state *s);
// generation_events turns step's events into bytes.
uint32_t generation_events(struct sock_state *s);
// generation_keep_alive: nothing was sent for a while.
void generation_keep_alive(struct sock_state *s, uint32_t conn);
// generation_drop: the client is gone.
void generation_drop(struct sock_state *s, uint32_t req);
