// SPDX-License-Identifier: MIT
// front: a thread that clients are connected to, and what it owns: sock (sock_thread.c) or net
// (net_thread.c).  front.c has connections, HTTP and time-outs, endpoint.c makes requests into work
// or an answer, generation.c events of step into bytes.
#pragma once
#include "daemon/topology.h"
#include "io/net/conns.h"

#define REQ_NONE UINT32_MAX

// What clients can have us log, lines a minute.  A line of a request (0.2 KB) is worth having: ten
// a second is more than a model of any size answers for long.
#define REQUEST_LINES 600u
#define CLIENT_LINES  30u

struct connection {
    struct http_reader reader;
    struct conns_peer peer;
    bool open;
    bool ended;            // the client sends no more
    const struct key *key; // of its request, for the log; NULL: none
    bool rated;            // rate_take counted its request, in rate_slot
    uint32_t rate_slot;
    uint32_t req;      // the request that is being answered, or REQ_NONE
    uint64_t sent;     // conns_sent when it was last looked at
    uint64_t moved_us; // when that last grew
};

struct front {
    struct topology *t;
    enum front_id id;
    struct front_lines *lines;
    struct conns *conns;
    void (*turn)(struct front *f); // once a loop; NULL: nothing
    struct connection *places;     // [connections_max]
    uint32_t reqs_n;               // requests that came from here and are not answered yet
    struct buf out;                // scratch: every answer is made here and handed on at once
};

// front_init makes the places of connections and fills in what a module of connections needs.
int front_init(struct front *f, struct topology *t, enum front_id id,
               struct conns_params *ret_params, struct fault *fault);
// front_run loops until the daemon stops.  f->conns is set.
void front_run(struct front *f);
// front_failed tells ctl that the thread cannot start, and logs why.
void front_failed(struct front *f, const struct fault *fault);
void front_fini(struct front *f); // after its connections

// conn_send hands f->out to the connection; on any failure the connection is closed.
void conn_send(struct front *f, uint32_t conn);

// conn_error answers with an error object in its form; see conn_answered next.
void conn_error(struct front *f, uint32_t conn, const struct http_form *form,
                const struct api_error *error);

// conn_answered: the answer to the current request is out; goes on with the next one, or closes.
void conn_answered(struct front *f, uint32_t conn, bool keep_alive);

// conn_deadline arms the time-out that fits what the connection is doing.
void conn_deadline(struct front *f, uint32_t conn);

#define CLIENT_TEXT_MAX (CONNS_ADDRESS_TEXT + KEYS_NAME_MAX + 16)
// conn_client_text writes who is connected, for the log: "uid 1000", "10.0.0.7, key alice".
const char *conn_client_text(const struct connection *c, char ret[CLIENT_TEXT_MAX]);

// endpoint_judge looks at a request whose head is complete and refuses what needs no body to be
// refused: unknown paths, methods, and generations while the model loads or the daemon stops.
void endpoint_judge(struct front *f, uint32_t conn);

// endpoint_serve takes a complete request: answers it, or hands it to tok.
void endpoint_serve(struct front *f, uint32_t conn);

// generation_replies takes what tok answered itself: errors, /tokenize and the like.
uint32_t generation_replies(struct front *f);
// generation_events turns step's events into bytes.
uint32_t generation_events(struct front *f);
// generation_keep_alive: nothing was sent for a while.
void generation_keep_alive(struct front *f, uint32_t conn);
// generation_drop: the client is gone.
void generation_drop(struct front *f, uint32_t req);
