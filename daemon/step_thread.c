// SPDX-License-Identifier: MIT
// step_thread: the plot.  Requests come in as token ids; each choice of each becomes a job of the
// scheduler; a loop takes requests, admits jobs, picks a batch, computes it, draws a token for
// every row that wants one, and sends events to sock.  Nothing here waits for a client.
//
// Speculative decoding (model.md 5.2, 5.3; k = 1): after a step the MTP layer guesses the token
// after the newest; the guess is computed as a second row of the next step.  Its logits count only
// if the token that was drawn is the guess, so the text is the same with and without.
// With experts on drives that second row costs reads of its own; sched/draft_gate.h then finds out
// whether drafting pays.  A row whose experts cannot be read fails alone: its answer ends with the
// reason, the others go on.
// Owner of: engine, stream, scheduler, sampler, the token histories.  See daemon/topology.h.
#include "base/clock.h"
#include "base/last_words.h"
#include "base/log.h"
#include "daemon/streaming.h"
#include "daemon/topology.h"
#include "model/engine.h"
#include "model/sampler.h"
#include "sched/draft_gate.h"
#include "sched/sched.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENTS_FULL_WAIT_US 1000u // sock is behind; it never waits for us, so this ends

// [model] mtp = auto: with more sequences the second row of each costs as much as it gains.  On
// lavapipe, 2 cores, demo model (tokens/s without and with): one sequence 205 and 353, four 823 and
// 873, eight 753 and 723.
#define DRAFT_SEQUENCES_AUTO 2u

#define MTP_LOST        UINT32_MAX // mtp_n of a sequence that can have no drafts any more
#define FAILURE_LINES   30u        // a minute: a drive that fails, fails every answer
#define IDLE_PUBLISH_MS 1000       // drives recover, or fail their probes, while nobody asks

// One choice of a request: a job of the scheduler, by the job's number.
struct gen {
    uint32_t req, choice;
    uint32_t seq;       // once admitted
    uint32_t *history;  // [context_max] prompt and answer; the place of seq.  NULL: not admitted
    uint32_t history_n; // tokens that are certain
    uint32_t prompt_n;
    uint32_t limit_n; // history_n never passes it
    uint32_t mtp_n;   // items that the MTP layer has seen, 0..mtp_n-1: it drafts without gaps only;
                      // MTP_LOST: never again
    bool drafted;     // history[history_n] is a guess
    bool echo;        // log-probabilities of the prompt are wanted
};

struct step {
    struct topology *t;
    struct engine *engine;
    struct streaming streaming;
    struct sched *sched;
    struct sampler *sampler;
    const struct model_config *config;
    uint32_t draft_max; // draft while at most this many sequences run; 0: never
    bool gated;         // and only while it pays
    struct draft_gate gates[DRAFT_SEQUENCES_AUTO /* sequences that run - 1 */];
    uint32_t gate_running;    // sequences of the last step that a gate was told of
    uint64_t feed_us;         // of this step: what only fed the MTP layer
    struct gen *gens;         // [jobs_max]
    uint32_t *choices_left;   // [reqs_n] choices that have not ended
    uint32_t *histories;      // [sequences_max][context_max]
    struct sched_row *picked; // [batch_rows_max], of which [picked_n] are computed now
    uint32_t picked_n;
    struct engine_row *rows;         // [batch_rows_max]
    struct engine_row *items;        // [batch_rows_max] for the MTP layer
    uint32_t *item_jobs;             // [batch_rows_max] whose draft an item with logits is
    struct engine_counters counters; // as of the last step
};

static void event_push(struct step *st, const struct step_event *event)
{
    const struct front_lines *front = &st->t->fronts[st->t->reqs[event->req].front];
    while (!ring_push(front->events, event)) {
        if (atomic_load_explicit(&st->t->stopping, memory_order_relaxed))
            return;
        wake_signal(front->wake);
        usleep(EVENTS_FULL_WAIT_US);
    }
}

static void event_token(struct step *st, const struct gen *gen, enum step_event_kind kind,
                        const struct sampler_result *result, bool has_logprob)
{
    struct step_event event = {.req = gen->req,
                               .choice = (uint16_t)gen->choice,
                               .kind = (uint8_t)kind,
                               .token = result->id,
                               .has_logprob = has_logprob,
                               .logprob = result->logprob};
    if (has_logprob) {
        event.top_n = (uint8_t)result->top_n;
        memcpy(event.top, result->top, result->top_n * sizeof(event.top[0]));
    }
    event_push(st, &event);
}

// job_end takes the job out, frees what it held and tells sock.
static void job_end(struct step *st, uint32_t job, enum step_event_kind kind)
{
    struct gen *gen = &st->gens[job];
    if (gen->history)
        engine_seq_truncate(st->engine, gen->seq, 0);
    sched_job_end(st->sched, job);
    uint32_t left = --st->choices_left[gen->req];
    event_push(st, &(struct step_event){.req = gen->req,
                                        .choice = (uint16_t)gen->choice,
                                        .kind = (uint8_t)kind,
                                        .last = left == 0});
}

// job_fail ends an answer whose experts could not be had: the client is told why.
static void job_fail(struct step *st, uint32_t job, const struct fault *fault)
{
    struct req *req = &st->t->reqs[st->gens[job].req];
    if (!req->failure[0]) { // sock may be reading an earlier one
        log_limited(LOG_LEVEL_WARNING, FAILURE_LINES, "an answer fails: %s", fault->text);
        memcpy(req->failure, fault->text, sizeof(req->failure));
    }
    job_end(st, job, STEP_EVENT_FAILED);
}

static void job_add(struct step *st, uint32_t number, uint32_t choice)
{
    const struct req *req = &st->t->reqs[number];
    const struct req_prompt *prompt = &req->prompts[req_prompt_of(req, choice)];
    uint32_t context = st->t->served.context_max;
    uint32_t room = context - prompt->n; // prompt_make saw to it that there is some
    uint32_t answer = req->sampling->max_tokens < room ? req->sampling->max_tokens : room;

    bool echo = req->completion && req->completion->echo && req->sampling->logprobs;

    struct sched_job params = {.group = number, .prompt_n = prompt->n, .logits_all = echo};
    uint32_t job;
    int err = sched_job_add(st->sched, &params, &job);
    assert(err == 0); // there are places for every choice of every request
    (void)err;
    st->gens[job] = (struct gen){.req = number,
                                 .choice = choice,
                                 .prompt_n = prompt->n,
                                 .history_n = prompt->n,
                                 .limit_n = prompt->n + answer,
                                 .echo = echo};
}

static uint32_t take_requests(struct step *st)
{
    uint32_t number, n = 0;
    while (ring_pop(st->t->tok_step, &number)) {
        const struct req *req = &st->t->reqs[number];
        assert(req->state == REQ_STEPS);
        st->choices_left[number] = req->choices_n;
        for (uint32_t choice = 0; choice < req->choices_n; choice++)
            job_add(st, number, choice);
        n++;
    }
    return n;
}

static bool job_cancelled(const struct step *st, uint32_t job)
{
    const struct gen *gen = &st->gens[job];
    const struct req *req = &st->t->reqs[gen->req];
    return atomic_load_explicit(&req->cancelled, memory_order_relaxed) ||
           atomic_load_explicit(&req->choice_cancelled[gen->choice], memory_order_relaxed);
}

// drop_cancelled frees the places of clients that went away.
static uint32_t drop_cancelled(struct step *st)
{
    uint32_t n = 0;
    for (uint32_t i = sched_running_n(st->sched); i-- > 0;) {
        uint32_t job = sched_running_job(st->sched, i);
        if (job_cancelled(st, job)) {
            job_end(st, job, STEP_EVENT_CANCELLED);
            n++;
        }
    }
    for (uint32_t i = sched_waiting_n(st->sched); i-- > 0;) {
        uint32_t job = sched_waiting_job(st->sched, i);
        if (job_cancelled(st, job)) {
            job_end(st, job, STEP_EVENT_CANCELLED);
            n++;
        }
    }
    return n;
}

static void admit(struct step *st, uint32_t job, uint32_t seq)
{
    struct gen *gen = &st->gens[job];
    const struct req *req = &st->t->reqs[gen->req];
    const struct req_prompt *prompt = &req->prompts[req_prompt_of(req, gen->choice)];

    gen->seq = seq;
    gen->history = st->histories + (size_t)seq * st->t->served.context_max;
    memcpy(gen->history, req->ids + prompt->first, prompt->n * sizeof(*gen->history));
    sched_admit(st->sched);
    if (gen->echo) // nothing comes before the first token, so it has no probability
        event_token(st, gen, STEP_EVENT_ECHO, &(struct sampler_result){.id = gen->history[0]},
                    false);
}

// admit_jobs starts those who wait, in their order, as long as KV memory for their whole length is
// there: a job that runs never has to stop for want of memory.
static uint32_t admit_jobs(struct step *st)
{
    uint32_t job, seq, n = 0;
    while (sched_waiting(st->sched, &job, &seq)) {
        int err = engine_seq_reserve(st->engine, seq, st->gens[job].limit_n);
        if (err == -ENOSPC && sched_running_n(st->sched) > 0)
            break; // somebody's end will make room
        if (err != 0) {
            log_limited(LOG_LEVEL_ERROR, FAILURE_LINES, "KV memory for %u tokens: %s",
                        st->gens[job].limit_n, strerror(-err));
            job_end(st, job, STEP_EVENT_FAILED);
        } else {
            admit(st, job, seq);
        }
        n++;
    }
    return n;
}

static int choose(struct step *st, const struct gen *gen, const float *logits,
                  struct sampler_result *ret)
{
    const struct req *req = &st->t->reqs[gen->req];
    const struct sampling *sampling = req->sampling;
    return sampler_choose(st->sampler, &req->sampler, logits, gen->history, gen->history_n,
                          gen->prompt_n, gen->choice % sampling->n, sampling->logprobs,
                          sampling->top_logprobs, sampling->logprobs_sampled, ret);
}

// echo_token tells the log-probability that the model gave to a token of the prompt.
static int echo_token(struct step *st, const struct gen *gen, uint32_t position,
                      const float *logits)
{
    const struct req *req = &st->t->reqs[gen->req];
    struct sampler_params greedy = {.temperature = 0.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
    struct sampler_result result;
    int err = sampler_choose(st->sampler, &greedy, logits, gen->history, position + 1, position + 1,
                             0, true, req->sampling->top_logprobs, false, &result);
    if (err != 0)
        return err;
    // The same normaliser as that of the token that was chosen.
    uint32_t token = gen->history[position + 1];
    result.logprob += logits[token] - logits[result.id];
    result.id = token;
    event_token(st, gen, STEP_EVENT_ECHO, &result, true);
    return 0;
}

// token_take draws from one row.  Returns false if the job has ended.
static bool token_take(struct step *st, uint32_t job, const float *logits)
{
    struct gen *gen = &st->gens[job];
    struct sampler_result result;
    int err = choose(st, gen, logits, &result);
    if (err != 0) {
        log_limited(LOG_LEVEL_ERROR, FAILURE_LINES, "sampling: %s; this answer fails",
                    strerror(-err));
        job_end(st, job, STEP_EVENT_FAILED);
        return false;
    }
    if (model_config_is_eos(st->config, result.id)) {
        job_end(st, job, STEP_EVENT_STOP);
        return false;
    }
    gen->history[gen->history_n++] = result.id;
    metrics_add(&st->t->metrics, METRIC_ID_GENERATED_TOKEN, 1);
    event_token(st, gen, STEP_EVENT_TOKEN, &result, st->t->reqs[gen->req].sampling->logprobs);
    if (gen->history_n >= gen->limit_n) {
        job_end(st, job, STEP_EVENT_LENGTH);
        return false;
    }
    return true;
}

// job_rows_done looks at the rows [n] that a job had in the step: logits [rows that want them,
// vocab].  Returns false if the job has ended.
static bool job_rows_done(struct step *st, const struct engine_row *rows, uint32_t job, uint32_t n,
                          const float *logits)
{
    struct gen *gen = &st->gens[job];
    uint32_t last = rows[n - 1].position;
    uint32_t vocab = st->config->vocab_size;
    for (uint32_t i = 0; gen->echo && i < n && rows[i].position + 1 < gen->prompt_n; i++) {
        if (echo_token(st, gen, rows[i].position, logits) != 0) {
            job_end(st, job, STEP_EVENT_FAILED);
            return false;
        }
        logits += vocab;
    }
    if (last + 1 < gen->prompt_n) {
        metrics_add(&st->t->metrics, METRIC_ID_PROMPT_TOKEN, n);
        return true; // the prompt goes on
    }
    if (rows[0].position < gen->prompt_n)
        metrics_add(&st->t->metrics, METRIC_ID_PROMPT_TOKEN, gen->prompt_n - rows[0].position);

    bool drafted = gen->drafted;
    gen->drafted = false;
    uint32_t guess = drafted ? gen->history[gen->history_n] : TOKEN_NONE;
    uint32_t computed = gen->history_n;
    if (!token_take(st, job, logits))
        return false;
    if (drafted)
        metrics_add(&st->t->metrics, METRIC_ID_DRAFT_TOKEN, 1);
    if (drafted && gen->history[gen->history_n - 1] == guess) {
        metrics_add(&st->t->metrics, METRIC_ID_DRAFT_ACCEPTED, 1);
        computed++;
        if (!token_take(st, job, logits + vocab))
            return false;
    }
    sched_known(st->sched, job, gen->history_n, computed);
    return true;
}

// mtp_items lists what the MTP layer has to see of a job's rows: item i takes the hidden state of
// position i and token i + 1, which must be certain.  Only the newest asks for a guess, if drafts
// are wanted.
static uint32_t mtp_items(struct step *st, uint32_t job, const struct engine_row *rows, uint32_t n,
                          bool drafts, struct engine_row *items)
{
    struct gen *gen = &st->gens[job];
    uint32_t count = 0;
    if (gen->mtp_n != rows[0].position)
        return 0; // it missed rows while too many sequences ran
    for (uint32_t i = 0; i < n && rows[i].position + 1 < gen->history_n; i++) {
        uint32_t position = rows[i].position;
        gen->mtp_n = position + 1;
        // The guess is for the token after the newest, and only once the prompt is through.
        bool guess = drafts && position + 2 == gen->history_n && position + 1 >= gen->prompt_n &&
                     gen->history_n + 1 < gen->limit_n;
        items[count++] = (struct engine_row){.token = gen->history[position + 1],
                                             .seq = gen->seq,
                                             .position = position,
                                             .want_logits = guess};
    }
    return count;
}

static uint32_t argmax(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

// draft lets the MTP layer guess one token for each job whose newest token is certain.
static int draft(struct step *st, uint32_t items_n, struct fault *fault)
{
    const float *logits;
    if (items_n == 0)
        return 0;
    topology_fronts_wake(st->t); // the step's tokens do not wait for guesses
    uint64_t start_us = clock_us();
    int err = engine_mtp_step(st->engine, st->items, items_n, &logits, fault);
    if (err != 0)
        return err;
    bool guessed = false;
    for (uint32_t i = 0; i < items_n; i++) {
        struct gen *gen = &st->gens[st->item_jobs[i]];
        bool failed = engine_row_fault(st->engine, i) != NULL;
        if (failed) // an expert could not be read: no drafts, no harm
            gen->mtp_n = MTP_LOST;
        if (!st->items[i].want_logits)
            continue;
        guessed = true;
        if (!failed) {
            gen->history[gen->history_n] = argmax(logits, st->config->vocab_size);
            gen->drafted = true;
            sched_known(st->sched, st->item_jobs[i], gen->history_n + 1, gen->history_n - 1);
        }
        logits += st->config->vocab_size;
    }
    if (!guessed)
        st->feed_us = clock_us() - start_us;
    return 0;
}

// gate returns who judges drafting with as many sequences as run now; NULL: nobody.
static struct draft_gate *gate(struct step *st)
{
    uint32_t running = sched_running_n(st->sched);
    return st->gated && running >= 1 && running <= st->draft_max ? &st->gates[running - 1] : NULL;
}

// rows_fault returns the first fault of a job's rows [n] and where it is, or NULL.
static const struct fault *rows_fault(const struct step *st, uint32_t first, uint32_t n,
                                      uint32_t *ret_at)
{
    for (*ret_at = 0; *ret_at < n; (*ret_at)++) {
        const struct fault *fault = engine_row_fault(st->engine, first + *ret_at);
        if (fault)
            return fault;
    }
    return NULL;
}

// job_rows_judge is job_rows_done for rows of which some may have failed.  *n loses a draft that
// failed: the token that was drawn before it stands.
static bool job_rows_judge(struct step *st, uint32_t job, uint32_t first, uint32_t *n,
                           const float *logits)
{
    struct gen *gen = &st->gens[job];
    uint32_t at;
    const struct fault *fault = rows_fault(st, first, *n, &at);
    if (fault && job_cancelled(st, job)) { // perhaps that is why
        job_end(st, job, STEP_EVENT_CANCELLED);
        return false;
    }
    if (fault && (!gen->drafted || at + 1 < *n)) {
        job_fail(st, job, fault);
        return false;
    }
    if (fault) {
        gen->drafted = false;
        (*n)--;
    }
    return job_rows_done(st, &st->rows[first], job, *n, logits);
}

// rows_done goes through the batch job by job.
static int rows_done(struct step *st, uint32_t n, const float *logits, struct fault *fault)
{
    uint32_t items_n = 0;
    topology_fronts_wake(st->t); // waking up takes as long as sampling: let it overlap
    for (uint32_t first = 0, rows_n; first < n; first += rows_n) {
        uint32_t job = st->picked[first].job;
        uint32_t wanted = 0;
        for (rows_n = 0; first + rows_n < n && st->picked[first + rows_n].job == job; rows_n++)
            wanted += st->rows[first + rows_n].want_logits;
        uint32_t good_n = rows_n;
        bool goes_on = job_rows_judge(st, job, first, &good_n, logits);
        logits += (size_t)wanted * st->config->vocab_size;
        const struct draft_gate *judge = gate(st);
        if (!goes_on || sched_running_n(st->sched) > st->draft_max ||
            (judge && !draft_gate_feeds(judge)))
            continue;
        uint32_t more = mtp_items(st, job, &st->rows[first], good_n,
                                  !judge || draft_gate_drafts(judge), &st->items[items_n]);
        for (uint32_t i = 0; i < more; i++)
            st->item_jobs[items_n + i] = job;
        items_n += more;
    }
    st->picked_n = 0; // jobs that have ended may be others by now
    return draft(st, items_n, fault);
}

// batch_decodes says whether the step had no rows of a prompt.
static bool batch_decodes(const struct step *st, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (st->rows[i].position < st->gens[st->picked[i].job].prompt_n)
            return false;
    return true;
}

// all_draftable says whether every sequence that runs could have had a draft in this step.
static bool all_draftable(const struct step *st)
{
    for (uint32_t i = 0; i < sched_running_n(st->sched); i++) {
        const struct gen *gen = &st->gens[sched_running_job(st->sched, i)];
        if (gen->mtp_n != gen->history_n - 1)
            return false;
    }
    return true;
}

// gate_tell tells who judges drafting what a step came to: it compares like with like only.
static void gate_tell(struct step *st, bool decodes, uint32_t running, uint64_t tokens,
                      uint64_t step_us)
{
    struct draft_gate *judge = gate(st);
    bool alike = decodes && running == sched_running_n(st->sched) && running == st->gate_running;
    st->gate_running = decodes ? running : 0;
    if (!judge)
        return;
    if (!alike) {
        draft_gate_break(judge);
        return;
    }
    bool first = draft_gate_rate(judge, false) == 0.0, paid = draft_gate_pays(judge);
    if (!draft_gate_step(judge, (uint32_t)tokens, step_us - st->feed_us, all_draftable(st)))
        return;
    bool pays = draft_gate_pays(judge);
    log_write(first || pays != paid ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG,
              "drafting is %s while %u sequence%s: %.2f tokens/s with it, %.2f without",
              pays ? "on" : "off", running, running == 1 ? " runs" : "s run",
              draft_gate_rate(judge, true), draft_gate_rate(judge, false));
}

static void counters_publish(struct step *st, uint64_t step_us)
{
    struct engine_counters now;
    struct metrics_page *page = &st->t->metrics;
    engine_counters_get(st->engine, &now);
    metrics_add(page, METRIC_ID_STEP, now.steps - st->counters.steps);
    metrics_add(page, METRIC_ID_STEP_ROW, now.rows - st->counters.rows);
    // Microseconds of the sums, so that no rounding adds up.
    metrics_add(page, METRIC_ID_STEP_HOST_US, now.host_ns / 1000 - st->counters.host_ns / 1000);
    metrics_add(page, METRIC_ID_STEP_WAIT_US, now.wait_ns / 1000 - st->counters.wait_ns / 1000);
    st->counters = now;
    histogram_observe(&page->step, step_us);
}

static void gauges_publish(struct step *st)
{
    struct metrics_page *page = &st->t->metrics;
    metrics_set(page, METRIC_ID_SEQUENCE_RUNNING, sched_running_n(st->sched));
    metrics_set(page, METRIC_ID_SEQUENCE_WAITING, sched_waiting_n(st->sched));
    metrics_set(page, METRIC_ID_KV_TOKEN_FREE, engine_kv_tokens_free(st->engine));
}

// device_failed ends every answer with an error; ctl ends the daemon.
static void device_failed(struct step *st, const struct fault *fault)
{
    while (sched_running_n(st->sched) > 0)
        job_end(st, sched_running_job(st->sched, 0), STEP_EVENT_FAILED);
    while (sched_waiting_n(st->sched) > 0)
        job_end(st, sched_waiting_job(st->sched, 0), STEP_EVENT_FAILED);
    if (atomic_load_explicit(&st->t->model_state, memory_order_relaxed) != MODEL_FAILED)
        st->t->fault = *fault;
    atomic_store_explicit(&st->t->model_state, MODEL_FAILED, memory_order_release);
    topology_fronts_wake(st->t);
    wake_signal(st->t->wake_ctl);
}

// compute runs one step.  Returns how many rows it had.
static uint32_t compute(struct step *st)
{
    uint32_t n = sched_pick(st->sched, st->picked);
    if (n == 0)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct sched_row *row = &st->picked[i];
        const struct gen *gen = &st->gens[row->job];
        st->rows[i] = (struct engine_row){.token = gen->history[row->position],
                                          .seq = row->seq,
                                          .position = row->position,
                                          .want_logits = row->want_logits};
    }
    struct fault fault = {0};
    const float *logits = NULL;
    uint64_t start_us = clock_us();
    uint64_t tokens = metrics_get(&st->t->metrics, METRIC_ID_GENERATED_TOKEN);
    uint32_t running = sched_running_n(st->sched);
    bool decodes = batch_decodes(st, n);
    st->picked_n = n;
    st->feed_us = 0;
    if (st->t->trace)
        routing_file_step(st->t->trace);
    streaming_step_begin(&st->streaming);
    int err = engine_step(st->engine, st->rows, n, &logits, &fault);
    if (err == 0)
        err = rows_done(st, n, logits, &fault);
    if (err != 0)
        device_failed(st, &fault);
    streaming_step_end(&st->streaming);
    uint64_t step_us = clock_us() - start_us;
    tokens = metrics_get(&st->t->metrics, METRIC_ID_GENERATED_TOKEN) - tokens;
    gate_tell(st, decodes, running, tokens, step_us);
    counters_publish(st, step_us);
    topology_fronts_wake(st->t);
    return n;
}

static void loop_once(struct step *st)
{
    uint32_t work = 0;
    work += take_requests(st);  // tok -> us
    work += drop_cancelled(st); // sock's flags
    work += admit_jobs(st);
    work += compute(st); // -> sock
    gauges_publish(st);
    atomic_fetch_add_explicit(&st->t->step_beat, 1, memory_order_relaxed);
    if (work > 0)
        return;
    topology_fronts_wake(st->t);
    streaming_publish(&st->streaming);
    if (st->t->trace)
        routing_file_flush(st->t->trace);
    atomic_store_explicit(&st->t->step_idle, true, memory_order_relaxed);
    wake_wait(st->t->wake_step, st->streaming.stream ? IDLE_PUBLISH_MS : -1);
    atomic_store_explicit(&st->t->step_idle, false, memory_order_relaxed);
}

static void load_progress(void *user, uint64_t done, uint64_t total)
{
    struct topology *t = user;
    atomic_store_explicit(&t->load_total, total, memory_order_relaxed);
    atomic_store_explicit(&t->load_done, done, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->step_beat, 1, memory_order_relaxed);
}

// stream_idle is called while a step waits for drives.  Nobody need wait for an answer that nobody
// reads, and nobody can once the daemon stops.
static bool stream_idle(void *user)
{
    struct step *st = user;
    atomic_fetch_add_explicit(&st->t->step_beat, 1, memory_order_relaxed);
    streaming_publish(&st->streaming);
    if (atomic_load_explicit(&st->t->stopping, memory_order_relaxed))
        return true;
    uint32_t gone = 0;
    while (gone < st->picked_n && job_cancelled(st, st->picked[gone].job))
        gone++;
    return st->picked_n > 0 && gone == st->picked_n;
}

// Two rows a sequence (its newest token and a draft); a few more for prompts that want all of them.
static uint32_t logits_rows_max(const struct conf *conf)
{
    return 2 * conf->limits_sequences_max < 16 ? 16 : 2 * conf->limits_sequences_max;
}

static int arrays_create(struct step *st)
{
    const struct conf *conf = &st->t->conf;
    uint32_t jobs_max = st->t->reqs_n * SAMPLING_CHOICES_MAX;
    uint32_t rows_max = conf->limits_batch_rows_max;
    uint32_t prefill = conf->limits_prefill_rows_max;
    struct sched_params params = {.jobs_max = jobs_max,
                                  .groups_max = st->t->reqs_n,
                                  .sequences_max = conf->limits_sequences_max,
                                  .batch_rows_max = rows_max,
                                  .prefill_rows_max = prefill < rows_max ? prefill : rows_max,
                                  .logits_rows_max = logits_rows_max(conf)};
    int err = sched_create(&params, &st->sched);
    if (err != 0)
        return err;
    st->gens = calloc(jobs_max, sizeof(*st->gens));
    st->choices_left = calloc(st->t->reqs_n, sizeof(*st->choices_left));
    st->histories = calloc((size_t)conf->limits_sequences_max * st->t->served.context_max,
                           sizeof(*st->histories));
    st->picked = calloc(rows_max, sizeof(*st->picked));
    st->rows = calloc(rows_max, sizeof(*st->rows));
    st->items = calloc(rows_max, sizeof(*st->items));
    st->item_jobs = calloc(rows_max, sizeof(*st->item_jobs));
    if (!st->gens || !st->choices_left || !st->histories || !st->picked || !st->rows ||
        !st->items || !st->item_jobs)
        return -ENOMEM;
    return sampler_create(st->config->vocab_size, st->t->served.tokenizer, &st->sampler);
}

static void step_fini(struct step *st)
{
    streaming_close(&st->streaming);
    engine_close(&st->engine);
    sched_destroy(&st->sched);
    sampler_destroy(&st->sampler);
    free(st->gens);
    free(st->choices_left);
    free(st->histories);
    free(st->picked);
    free(st->rows);
    free(st->items);
    free(st->item_jobs);
}

static int step_init(struct step *st, struct fault *fault)
{
    struct topology *t = st->t;
    const struct conf *conf = &t->conf;
    st->config = checkpoint_config(t->served.checkpoint);
    int err = arrays_create(st);
    if (err != 0)
        return fault_set(fault, -err, "memory for %u sequences of %u tokens: %s",
                         conf->limits_sequences_max, t->served.context_max, strerror(-err));

    struct engine_params params;
    conf_engine(conf, t->served.context_max, t->machine_bytes, t->device_bytes, &params);
    params.pipeline_cache = t->pipeline_cache[0] ? t->pipeline_cache : NULL;
    params.progress = load_progress;
    params.progress_user = t;
    streaming_init(&st->streaming, t, stream_idle, st);
    params.pack = st->streaming.params.packs_n > 0 ? st->streaming.params.packs[0] : NULL;
    if (!params.pipeline_cache)
        log_info("compiling the kernels, as at every start without a cache");
    else if (access(params.pipeline_cache, F_OK) != 0)
        log_info("compiling the kernels, which later starts find in %s", params.pipeline_cache);
    err = engine_open(t->served.checkpoint, &params, &st->engine, fault);
    if (err == -ENOMEM && params.mtp && conf->model_mtp == CONF_MTP_AUTO) {
        log_info("without the MTP layer: %s", fault->text);
        params.mtp = false;
        err = engine_open(t->served.checkpoint, &params, &st->engine, fault);
    }
    if (err != 0)
        return err;
    t->mtp = engine_mtp(st->engine);
    if (t->mtp)
        st->draft_max = conf->model_mtp == CONF_MTP_AUTO ? DRAFT_SEQUENCES_AUTO : UINT32_MAX;
    st->gated = t->mtp && conf->model_mtp == CONF_MTP_AUTO && engine_slots(st->engine);
    for (uint32_t i = 0; i < DRAFT_SEQUENCES_AUTO; i++)
        draft_gate_init(&st->gates[i]);
    engine_plan_text(st->engine, t->plan, sizeof(t->plan));
    snprintf(t->device_name, sizeof(t->device_name), "%s", engine_device_name(st->engine));
    t->device_makes_code = engine_device_makes_code(st->engine);
    t->kv_tokens = engine_kv_tokens_free(st->engine);
    err = streaming_open(&st->streaming, st->engine, fault);
    if (err != 0)
        return err;
    engine_counters_get(st->engine, &st->counters);
    if (t->trace) // from here on: what ran before was no text
        engine_routing_set(st->engine, routing_file_layer, t->trace);
    return 0;
}

void *step_thread(void *arg)
{
    struct topology *t = arg;
    struct step st = {.t = t};
    struct fault fault = {0};
    last_words_thread();
    if (step_init(&st, &fault) != 0) {
        t->fault = fault;
        atomic_store_explicit(&t->model_state, MODEL_FAILED, memory_order_release);
        wake_signal(t->wake_ctl);
        step_fini(&st);
        return NULL;
    }
    atomic_store_explicit(&t->model_state, MODEL_LOADED, memory_order_release);
    wake_signal(t->wake_ctl);
    while (!atomic_load_explicit(&t->stopping, memory_order_acquire))
        loop_once(&st);
    step_fini(&st);
    return NULL;
}
