// SPDX-License-Identifier: MIT
// topology: the threads of the daemon, what each owns, and the rings between them.  Read this file,
// then daemon/step_thread.c, and you have the plot.
//
//   thread  sole writer of                                                  waits by
//   ctl     conf, live options, signals, readiness, watchdog (main)         poll
//   sock    connections of Unix socket and loopback, HTTP parsers, requests while epoll
//           parsed, answers: a front
//   net     the same for the port, with its NIC, lwIP and TLS: a front      NIC, eventfd
//   tok     encoder scratch; requests while tokens are made                 eventfd
//   step    engine, KV, scheduler, sampler, stream                          eventfd
//
//   ring        from  to    entry              depth
//   requests    front tok   request number     requests_max
//   replies     tok   front request number     requests_max (no steps needed, or an error)
//   tok_step    tok   step  request number     requests_max
//   events      step  front struct step_event  64 steps of rows, at least 4096
//
// Each front has rings of its own (struct front_lines); the places for requests are shared.
//
// Everything here is made before the threads start and outlives them.
#pragma once
#include "api/cors.h"
#include "api/keys.h"
#include "base/ring.h"
#include "base/wake.h"
#include "daemon/live.h"
#include "daemon/metrics.h"
#include "daemon/net_page.h"
#include "daemon/rate.h"
#include "daemon/req.h"
#include "daemon/req_pool.h"
#include "daemon/routing_file.h"
#include "daemon/served.h"
#include "io/net/sock.h"
#include "model/engine.h"

#include <stdatomic.h>

#define CONN_NONE UINT32_MAX // no connection

enum front_id { FRONT_SOCK, FRONT_NET, FRONT_COUNT };
extern const char *const front_name[FRONT_COUNT];

// What one front shares with the others.
struct front_lines {
    bool used;                      // there is such a thread
    struct ring *requests;          // front -> tok
    struct ring *replies;           // tok -> front
    struct ring *events;            // step -> front
    int wake;                       // eventfd: something is in replies or events
    atomic_bool reload;             // ctl -> net: read the certificate again (and clear it)
    atomic_bool summary;            // ctl -> front: SIGUSR1, log your part (and clear it)
    atomic_bool started;            // front -> ctl: it serves
    atomic_bool failed;             // front -> ctl: it could not start; it said why
    atomic_bool drained;            // front -> ctl: no request or unsent byte is left
    atomic_bool over;               // net -> ctl: the port is closed, its peers were told
    _Atomic uint32_t connections_n; // front -> all: open connections
};

enum model_state { // of the engine; written by step
    MODEL_LOADING,
    MODEL_LOADED, // ctl has yet to close the sandbox
    MODEL_READY,  // set by ctl
    MODEL_FAILED  // `fault` says why; the daemon stops
};

struct topology {
    // Read only once the threads run.
    struct conf conf; // as it was at start; ctl has its own for SIGHUP
    struct served served;
    struct req *reqs; // [reqs_n]
    uint32_t reqs_n;
    struct req_pool req_pool; // which of them are free
    uint32_t *req_ids;        // [reqs_n][prompt_tokens_max]
    uint32_t prompt_tokens_max;
    char pipeline_cache[256];             // "": none
    uint64_t machine_bytes, device_bytes; // of memory, of which the configuration takes percentages
    struct routing_file *trace;           // --trace-routing; NULL: none.  Step's while threads run
    struct listener listeners[SOCK_LISTENERS_MAX];
    uint32_t listeners_n;

    struct front_lines fronts[FRONT_COUNT];
    struct ring *tok_step;
    int wake_ctl, wake_tok, wake_step; // eventfds: base/wake.h

    struct keys_store keys;      // of the port; ctl puts
    struct rate rate;            // what they used; fronts
    struct cors cors;            // read only
    struct net_page net_page;    // net writes
    struct live live;            // ctl writes
    struct metrics_page metrics; // see daemon/metrics.h

    // ctl -> all
    atomic_bool draining; // take no new requests
    atomic_bool stopping; // leave your loop
    // step -> ctl, fronts
    atomic_int model_state; // enum model_state; release, so that what follows is visible
    struct fault fault;     // why it is MODEL_FAILED
    char plan[8192];        // memory plan, for the log
    char drives[8192];      // how experts are read, for the log; "": they are resident
    char device_name[256];
    bool device_makes_code;                 // as engine_device_makes_code
    uint32_t kv_tokens;                     // tokens of KV memory in all
    bool mtp;                               // the MTP layer is there to draft
    _Atomic uint64_t load_done, load_total; // bytes
    atomic_uint step_beat;                  // counts loops
    atomic_bool step_idle;                  // waits for requests, so no beat is due
    // tok -> ctl
    atomic_bool tok_failed; // the thread could not start; it said why
};

// topology_create makes pools, rings and eventfds for the config.  served, listeners and what
// main.c resolves are filled in by the caller.
int topology_create(const struct conf *conf, struct topology **ret, struct fault *fault);
void topology_destroy(struct topology **topology);

// topology_plan_text writes the host memory that was taken, one line an item, as
// engine_plan_text does for the device.
int topology_plan_text(struct topology *t, char *buf, size_t buf_bytes);

// topology_keys_read reads the keys of the port, for topology_keys_put.
// starting: having none is -EACCES, unless [net] allow_anonymous is yes; later it is a warning, and
// then nobody gets in.  Else errors as keys_load.  Thread: main before the threads, then ctl.
int topology_keys_read(struct topology *t, bool starting, struct keys **ret, struct fault *fault);
// topology_keys_put puts them in force, and takes ownership.
void topology_keys_put(struct topology *t, struct keys *keys);

// topology_fronts_wake wakes every front thread.
void topology_fronts_wake(struct topology *t);
uint32_t topology_connections_n(const struct topology *t); // of all fronts

// The threads' bodies; arg is the struct topology.
void *sock_thread(void *arg);
void *net_thread(void *arg); // only where HAVE_PORT
void *tok_thread(void *arg);
void *step_thread(void *arg);
