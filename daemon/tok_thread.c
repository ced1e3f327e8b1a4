// SPDX-License-Identifier: MIT
// tok_thread: requests whose body was parsed -> token ids.  Encoding a long prompt takes a while,
// so it happens beside connections and steps.
#include "base/last_words.h"
#include "base/log.h"
#include "daemon/prompt.h"
#include "daemon/topology.h"

#include <assert.h>
#include <string.h>

#define REQUESTS_A_TURN 8u // of one front, then comes the next

// pass_on gives the request to who comes next.  The rings have room for every request there is.
static void pass_on(struct topology *t, uint32_t number, bool steps)
{
    struct front_lines *front = &t->fronts[t->reqs[number].front];
    req_state_set(&t->reqs[number], steps ? REQ_STEPS : REQ_ANSWER);
    if (steps) // pairs with stream_may_begin
        atomic_store_explicit(&t->reqs[number].accepted, true, memory_order_release);
    bool pushed = ring_push(steps ? t->tok_step : front->replies, &number);
    assert(pushed);
    (void)pushed;
    wake_signal(steps ? t->wake_step : front->wake);
}

static uint32_t take_requests(struct topology *t, struct ring *requests, struct prompt_maker *maker)
{
    uint32_t number, n = 0;
    while (!atomic_load_explicit(&t->stopping, memory_order_relaxed) && n < REQUESTS_A_TURN &&
           ring_pop(requests, &number)) {
        struct req *req = &t->reqs[number];
        bool cancelled = atomic_load_explicit(&req->cancelled, memory_order_relaxed);
        pass_on(t, number, !cancelled && prompt_make(maker, req));
        n++;
    }
    return n;
}

// take_all lets every front have its turn.
static uint32_t take_all(struct topology *t, struct prompt_maker *maker)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < FRONT_COUNT; i++)
        if (t->fronts[i].used)
            n += take_requests(t, t->fronts[i].requests, maker);
    return n;
}

void *tok_thread(void *arg)
{
    struct topology *t = arg;
    struct prompt_maker *maker = NULL;
    last_words_thread();
    int err = prompt_maker_create(&t->served, t->prompt_tokens_max, &maker);
    if (err != 0) {
        // Cannot happen after tokenizer_open but for memory; without tokens nothing can be served.
        log_error("tokenizer: %s", strerror(-err));
        atomic_store_explicit(&t->tok_failed, true, memory_order_release);
        wake_signal(t->wake_ctl);
        return NULL;
    }
    while (!atomic_load_explicit(&t->stopping, memory_order_acquire))
        if (take_all(t, maker) == 0)
            wake_wait(t->wake_tok, -1);
    prompt_maker_destroy(&maker);
    return NULL;
}
