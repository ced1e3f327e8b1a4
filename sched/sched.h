// SPDX-License-Identifier: MIT
// sched: which rows the next step computes.  A job is one answer in the making: a prompt that is
// computed in chunks, then tokens one (or, with a draft, two) at a time.  Jobs wait in a queue in
// turn, run in one of a few sequences, and leave.
//
// Pure: no I/O, no clock, no model; the same calls give the same batches.  What it does not do: own
// KV pages (the caller reserves them before it admits), know tokens (it counts positions).
// Owner: one thread (step).  All memory is taken at create.  Read next: daemon/step_thread.c.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define SCHED_NONE UINT32_MAX

struct sched_params {
    uint32_t jobs_max;         // jobs that wait or run, 1..1 << 20
    uint32_t groups_max;       // requests whose jobs those are, 1..jobs_max
    uint32_t sequences_max;    // jobs that run, 1..512
    uint32_t batch_rows_max;   // rows of one step, 4..2048
    uint32_t prefill_rows_max; // rows of prompts in a step that also decodes, 1..batch_rows_max
    uint32_t logits_rows_max;  // rows of one step that may want logits, >= 2 * sequences_max
};

// One row of a batch, in the order the model wants them: rows of one job are neighbours and rise.
struct sched_row {
    uint32_t job;
    uint32_t seq;
    uint32_t position;
    bool want_logits; // the row's successor is not known yet, or is only a draft
};

struct sched; // opaque

int sched_create(const struct sched_params *params, struct sched **ret); // -EINVAL, -ENOMEM
void sched_destroy(struct sched **sched);

struct sched_job {
    uint32_t group;    // whose it is, 0..groups_max-1
    uint32_t prompt_n; // tokens of its prompt, >= 1
    bool logits_all;   // every row of the prompt wants logits, not only the last
};

// sched_job_add puts a job at the end of the queue.
// Returns 0, -EINVAL, or -ENOSPC if jobs_max are there.
int sched_job_add(struct sched *sched, const struct sched_job *job, uint32_t *ret_job);

// sched_waiting returns the job that is to be admitted next and a sequence that is free for it;
// false if nobody waits or no sequence is free.  The group with the fewest running jobs is next,
// the oldest of equals: a request of a hundred choices leaves room for others.  Who is next and
// does not fit keeps its turn, so that small jobs never starve a large one.
bool sched_waiting(const struct sched *sched, uint32_t *ret_job, uint32_t *ret_seq);

// sched_admit starts the job that sched_waiting named, in the sequence that it named.
void sched_admit(struct sched *sched);

// sched_pick writes the rows of the next step and takes them as computed.
//
// ret_rows: [batch_rows_max].  Returns how many rows; 0 if no job has anything to compute.
// Decode rows come first, round robin when not all fit; then prompts, oldest job first, in what is
// left.  While prompts wait, at least a quarter of the rows is theirs; while decoding, at most
// prefill_rows_max are.  A job's decode rows (known, not computed) go into one batch together.
uint32_t sched_pick(struct sched *sched, struct sched_row *ret_rows);

// sched_known tells that the tokens of a job are known (perhaps guessed) up to position known_n -
// 1, of which 0..computed_n-1 keep what was computed for them (fewer after a wrong draft).
void sched_known(struct sched *sched, uint32_t job, uint32_t known_n, uint32_t computed_n);

// sched_job_end takes a job out, whatever it was doing, and frees its sequence.
void sched_job_end(struct sched *sched, uint32_t job);

uint32_t sched_waiting_n(const struct sched *sched);
uint32_t sched_running_n(const struct sched *sched);
// sched_running_job returns the i-th running job, oldest first; i < sched_running_n.
uint32_t sched_running_job(const struct sched *sched, uint32_t i);
// sched_waiting_job returns the i-th job of the queue; i < sched_waiting_n.
uint32_t sched_waiting_job(const struct sched *sched, uint32_t i);
