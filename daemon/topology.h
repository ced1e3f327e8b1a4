// SPDX-License-Identifier: MIT
// topology: the threads of the daemon, what each owns, and the rings between them.  Read this file,
// then daemon/step_thread.c, and you have the plot.
//
//   thread  sole writer of                                                  waits by
//   ctl     conf, live options, signals, readiness, watchdog (main)         poll
//   sock    connections, HTTP parsers, requests while parsed, answers       epoll
//   tok     encoder scratch; requests while tokens are made                 eventfd
//   step    engine, KV, scheduler, sampler, stream                          eventfd
//
//   ring        from  to    entry              depth
//   sock_tok    sock  tok   request number     requests_max
//   tok_sock    tok   sock  request number     requests_max (no steps needed, or an error)
//   tok_step    tok   step  request number     requests_max
//   step_sock   step  sock  struct step_event  64 steps of rows, at least 4096
//
// Everything here is made before the threads start and outlives them.
#pragma once
#include "base/ring.h"
#include "base/wake.h"
#include "daemon/live.h"
#include "daemon/metrics.h"
#include "daemon/req.h"
#include "daemon/routing_file.h"
#include "daemon/served.h"
#include "io/net/sock.h"
#include "model/engine.h"

#include <stdatomic.h>

#define SOCK_NONE UINT32_MAX // no connection

enum model_state { // of the engine; written by step
    MODEL_LOADING,
    MODEL_READY,
    MODEL_FAILED // `fault` says why; the daemon stops
};

struct topology {
    // Read only once the threads run.
    struct conf conf; // as it was at start; ctl has its own for SIGHUP
    struct served served;
    struct req *reqs; // [reqs_n]
    uint32_t reqs_n;
    uint32_t *req_ids; // [reqs_n][prompt_tokens_max]
    uint32_t prompt_tokens_max;
    char pipeline_cache[256];       // "": none
    uint64_t memory_max;            // bytes of device memory; 0: all
    uint64_t slots_ram, slots_vram; // bytes of expert slots; 0: what is free
    struct routing_file *trace;     // --trace-routing; NULL: none.  Step's while threads run
    struct listener listeners[SOCK_LISTENERS_MAX];
    uint32_t listeners_n;

    struct ring *sock_tok, *tok_sock, *tok_step, *step_sock;
    int wake_ctl, wake_sock, wake_tok, wake_step; // eventfds: base/wake.h

    struct live live;            // ctl writes
    struct metrics_page metrics; // see daemon/metrics.h

    // ctl -> all
    atomic_bool draining; // take no new requests
    atomic_bool stopping; // leave your loop
    atomic_bool summary;  // SIGUSR1: sock logs its part (and clears it)
    // step -> ctl, sock
    atomic_int model_state; // enum model_state; release, so that what follows is visible
    struct fault fault;     // why it is MODEL_FAILED
    char plan[8192];        // memory plan, for the log
    char drives[8192];      // how experts are read, for the log; "": they are resident
    char device_name[256];
    uint32_t kv_tokens;                     // tokens of KV memory in all
    bool mtp;                               // the MTP layer is there to draft
    _Atomic uint64_t load_done, load_total; // bytes
    atomic_uint step_beat;                  // counts loops
    atomic_bool step_idle;                  // waits for requests, so no beat is due
    // tok, sock -> ctl
    atomic_bool tok_failed, sock_failed; // the thread could not start; it said why
    // sock -> ctl
    atomic_bool drained; // draining and no request or unsent byte is left
};

// topology_create makes pools, rings and eventfds for the config.  served, listeners and what
// main.c resolves are filled in by the caller.
int topology_create(const struct conf *conf, struct topology **ret, struct fault *fault);
void topology_destroy(struct topology **topology);

// topology_plan_text writes the host memory that was taken, one line an item, as
// engine_plan_text does for the device.
int topology_plan_text(struct topology *t, char *buf, size_t buf_bytes);

// The threads' bodies; arg is the struct topology.
void *sock_thread(void *arg);
void *tok_thread(void *arg);
void *step_thread(void *arg);
