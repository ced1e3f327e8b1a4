// SPDX-License-Identifier: MIT
#include "sched/sched.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_MAX      (1u << 20)
#define SEQUENCES_MAX 512u
#define ROWS_MIN      4u
#define ROWS_MAX      2048u

enum job_state {
    JOB_FREE,    // in the free list
    JOB_WAITING, // in the queue
    JOB_RUNNING, // in a sequence
};

struct job {
    enum job_state state;
    bool logits_all;
    uint32_t group;
    uint32_t seq; // JOB_RUNNING only
    uint32_t prompt_n;
    uint32_t known_n;    // tokens that are known, prompt included
    uint32_t computed_n; // positions whose KV is there or in the batch that was picked
};

struct sched {
    struct sched_params params;
    struct job *jobs;    // [jobs_max]
    uint32_t *free_jobs; // [jobs_max], a stack
    uint32_t *waiting;   // [jobs_max], oldest first
    uint32_t *running;   // [sequences_max], oldest first
    uint32_t *seq_job;   // [sequences_max] job, or SCHED_NONE
    uint32_t *group_n;   // [groups_max] running jobs
    uint32_t free_n, waiting_n, running_n;
    uint32_t turn; // job whose decode rows come first in the next batch, or SCHED_NONE
};

static bool params_ok(const struct sched_params *p)
{
    return p->jobs_max >= 1 && p->jobs_max <= JOBS_MAX && p->groups_max >= 1 &&
           p->groups_max <= p->jobs_max && p->sequences_max >= 1 &&
           p->sequences_max <= SEQUENCES_MAX && p->batch_rows_max >= ROWS_MIN &&
           p->batch_rows_max <= ROWS_MAX && p->prefill_rows_max >= 1 &&
           p->prefill_rows_max <= p->batch_rows_max && p->logits_rows_max >= 2 * p->sequences_max;
}

int sched_create(const struct sched_params *params, struct sched **ret)
{
    if (!params_ok(params))
        return -EINVAL;

    struct sched *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->params = *params;
    s->turn = SCHED_NONE;
    s->jobs = calloc(params->jobs_max, sizeof(*s->jobs));
    s->free_jobs = calloc(params->jobs_max, sizeof(*s->free_jobs));
    s->waiting = calloc(params->jobs_max, sizeof(*s->waiting));
    s->running = calloc(params->sequences_max, sizeof(*s->running));
    s->seq_job = calloc(params->sequences_max, sizeof(*s->seq_job));
    s->group_n = calloc(params->groups_max, sizeof(*s->group_n));
    if (!s->jobs || !s->free_jobs || !s->waiting || !s->running || !s->seq_job || !s->group_n) {
        sched_destroy(&s);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < params->jobs_max; i++)
        s->free_jobs[i] = params->jobs_max - 1 - i; // job 0 is taken first
    s->free_n = params->jobs_max;
    for (uint32_t i = 0; i < params->sequences_max; i++)
        s->seq_job[i] = SCHED_NONE;
    *ret = s;
    return 0;
}

void sched_destroy(struct sched **sched)
{
    struct sched *s = *sched;
    if (!s)
        return;
    free(s->jobs);
    free(s->free_jobs);
    free(s->waiting);
    free(s->running);
    free(s->seq_job);
    free(s->group_n);
    free(s);
    *sched = NULL;
}

int sched_job_add(struct sched *s, const struct sched_job *from, uint32_t *ret_job)
{
    if (from->prompt_n == 0 || from->group >= s->params.groups_max)
        return -EINVAL;
    if (s->free_n == 0)
        return -ENOSPC;

    uint32_t job = s->free_jobs[--s->free_n];
    s->jobs[job] = (struct job){.state = JOB_WAITING,
                                .logits_all = from->logits_all,
                                .group = from->group,
                                .seq = SCHED_NONE,
                                .prompt_n = from->prompt_n,
                                .known_n = from->prompt_n};
    s->waiting[s->waiting_n++] = job;
    *ret_job = job;
    return 0;
}

// next_waiting returns the oldest job of the group with the fewest running ones.
static uint32_t next_waiting(const struct sched *s)
{
    uint32_t best = s->waiting[0];
    for (uint32_t i = 1; i < s->waiting_n && s->group_n[s->jobs[best].group] > 0; i++)
        if (s->group_n[s->jobs[s->waiting[i]].group] < s->group_n[s->jobs[best].group])
            best = s->waiting[i];
    return best;
}

bool sched_waiting(const struct sched *s, uint32_t *ret_job, uint32_t *ret_seq)
{
    if (s->waiting_n == 0 || s->running_n == s->params.sequences_max)
        return false;
    uint32_t seq = 0;
    while (s->seq_job[seq] != SCHED_NONE)
        seq++;
    *ret_job = next_waiting(s);
    *ret_seq = seq;
    return true;
}

// list_remove takes the entry out and keeps the order of the others.
static void list_remove(uint32_t *list, uint32_t *n, uint32_t job)
{
    uint32_t i = 0;
    while (i < *n && list[i] != job)
        i++;
    assert(i < *n);
    memmove(&list[i], &list[i + 1], (*n - i - 1) * sizeof(*list));
    (*n)--;
}

void sched_admit(struct sched *s)
{
    uint32_t job, seq;
    bool can = sched_waiting(s, &job, &seq);
    assert(can);
    (void)can;

    list_remove(s->waiting, &s->waiting_n, job);
    s->running[s->running_n++] = job;
    s->seq_job[seq] = job;
    s->group_n[s->jobs[job].group]++;
    s->jobs[job].state = JOB_RUNNING;
    s->jobs[job].seq = seq;
}

static bool job_decodes(const struct job *job)
{
    return job->computed_n >= job->prompt_n;
}

static uint32_t job_rows_n(const struct job *job)
{
    return job->known_n - job->computed_n;
}

// job_take_rows writes the job's next n rows and takes them as computed.
static void job_take_rows(struct sched *s, uint32_t job_idx, uint32_t n, struct sched_row *rows)
{
    struct job *job = &s->jobs[job_idx];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t position = job->computed_n + i;
        rows[i] =
            (struct sched_row){.job = job_idx,
                               .seq = job->seq,
                               .position = position,
                               .want_logits = job->logits_all || position + 1 >= job->prompt_n};
    }
    job->computed_n += n;
}

static bool prompts_wait(const struct sched *s)
{
    for (uint32_t i = 0; i < s->running_n; i++)
        if (!job_decodes(&s->jobs[s->running[i]]))
            return true;
    return false;
}

// turn_index returns where in running[] the round begins.
static uint32_t turn_index(const struct sched *s)
{
    for (uint32_t i = 0; i < s->running_n; i++)
        if (s->running[i] == s->turn)
            return i;
    return 0;
}

// pick_decode takes the decode rows of as many jobs as fit into rows_max; the first that did not
// fit begins the next round.
static uint32_t pick_decode(struct sched *s, uint32_t rows_max, struct sched_row *rows)
{
    uint32_t n = 0;
    uint32_t first = turn_index(s);
    s->turn = SCHED_NONE;
    for (uint32_t i = 0; i < s->running_n; i++) {
        uint32_t idx = s->running[(first + i) % s->running_n];
        const struct job *job = &s->jobs[idx];
        if (!job_decodes(job) || job_rows_n(job) == 0)
            continue;
        if (n + job_rows_n(job) > rows_max) {
            s->turn = idx;
            break;
        }
        uint32_t taken = job_rows_n(job);
        job_take_rows(s, idx, taken, &rows[n]);
        n += taken;
    }
    return n;
}

// prefill_rows_n returns how many rows of a prompt fit into rows_max and *logits_left, which it
// takes from.
static uint32_t prefill_rows_n(const struct job *job, uint32_t rows_max, uint32_t *logits_left)
{
    uint32_t n = job_rows_n(job);
    bool whole = n <= rows_max;
    if (!whole)
        n = rows_max;
    if (job->logits_all) {
        n = n < *logits_left ? n : *logits_left;
        *logits_left -= n;
    } else if (whole && *logits_left > 0) {
        (*logits_left)--;
    } else if (whole) {
        n--; // its last row wants logits: next time
    }
    return n;
}

static uint32_t pick_prefill(struct sched *s, uint32_t rows_max, uint32_t logits_left,
                             struct sched_row *rows)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->running_n && n < rows_max; i++) {
        uint32_t idx = s->running[i];
        const struct job *job = &s->jobs[idx];
        if (job_decodes(job))
            continue;
        uint32_t taken = prefill_rows_n(job, rows_max - n, &logits_left);
        job_take_rows(s, idx, taken, &rows[n]);
        n += taken;
    }
    return n;
}

uint32_t sched_pick(struct sched *s, struct sched_row *ret_rows)
{
    uint32_t all = s->params.batch_rows_max;
    // A job that finishes its prompt in this batch must not count as decoding in it, and a batch of
    // decode rows alone must not hold prompts back for ever: hence prompts' share is set aside
    // first.
    bool prefill = prompts_wait(s);
    uint32_t n = pick_decode(s, prefill ? all - all / 4 : all, ret_rows);
    if (!prefill)
        return n;

    uint32_t left = all - n;
    if (n > 0 && left > s->params.prefill_rows_max)
        left = s->params.prefill_rows_max;
    // Decode rows, at most two a sequence, all want logits; what is left of those is for prompts.
    return n + pick_prefill(s, left, s->params.logits_rows_max - n, &ret_rows[n]);
}

void sched_known(struct sched *s, uint32_t job_idx, uint32_t known_n, uint32_t computed_n)
{
    struct job *job = &s->jobs[job_idx];
    assert(job->state == JOB_RUNNING);
    assert(computed_n <= job->computed_n);
    assert(computed_n >= job->prompt_n);
    assert(known_n >= computed_n);
    assert(known_n - computed_n <= 2);
    job->known_n = known_n;
    job->computed_n = computed_n;
}

void sched_job_end(struct sched *s, uint32_t job_idx)
{
    struct job *job = &s->jobs[job_idx];
    assert(job->state != JOB_FREE);
    if (job->state == JOB_WAITING) {
        list_remove(s->waiting, &s->waiting_n, job_idx);
    } else {
        list_remove(s->running, &s->running_n, job_idx);
        s->group_n[job->group]--;
        s->seq_job[job->seq] = SCHED_NONE;
    }
    job->state = JOB_FREE;
    s->free_jobs[s->free_n++] = job_idx;
}

uint32_t sched_waiting_n(const struct sched *s)
{
    return s->waiting_n;
}

uint32_t sched_running_n(const struct sched *s)
{
    return s->running_n;
}

uint32_t sched_running_job(const struct sched *s, uint32_t i)
{
    assert(i < s->running_n);
    return s->running[i];
}

uint32_t sched_waiting_job(const struct sched *s, uint32_t i)
{
    assert(i < s->waiting_n);
    return s->waiting[i];
}
