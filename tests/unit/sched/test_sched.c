// SPDX-License-Identifier: MIT
// sched: batches by hand, then a simulation of many random jobs with the invariants that matter:
// no row twice or out of order, no job starved, no sequence leaked.
#include "sched/sched.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

#define ROWS_MAX 64u

static struct sched *sched_of(uint32_t jobs, uint32_t seqs, uint32_t rows, uint32_t prefill)
{
    struct sched *s = NULL;
    CHECK(sched_create(&(struct sched_params){.jobs_max = jobs,
                                              .groups_max = jobs,
                                              .sequences_max = seqs,
                                              .batch_rows_max = rows,
                                              .prefill_rows_max = prefill,
                                              .logits_rows_max = 2 * seqs},
                       &s) == 0);
    return s;
}

static int job_add(struct sched *s, uint32_t group, uint32_t prompt_n, bool logits_all,
                   uint32_t *ret_job)
{
    return sched_job_add(
        s, &(struct sched_job){.group = group, .prompt_n = prompt_n, .logits_all = logits_all},
        ret_job);
}

static uint32_t job_started(struct sched *s, uint32_t prompt_n)
{
    uint32_t job, head, seq;
    CHECK(job_add(s, 0, prompt_n, false, &job) == 0);
    CHECK(sched_waiting(s, &head, &seq) && head == job);
    sched_admit(s);
    return job;
}

static void test_params(void)
{
    static const struct sched_params bad[] = {
        {0, 1, 1, 4, 1, 2},      {1, 1, 0, 4, 1, 2},
        {1, 1, 513, 4, 1, 1026}, {1, 1, 1, 3, 1, 2},
        {1, 1, 1, 2049, 1, 2},   {1, 1, 1, 4, 0, 2},
        {1, 1, 1, 4, 5, 2},      {(1u << 20) + 1, 1, 1, 4, 1, 2},
        {1, 1, 4, 4, 1, 7},      {1, 0, 1, 4, 1, 2},
        {1, 2, 1, 4, 1, 2},
    };
    struct sched *s = NULL;
    for (uint32_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(sched_create(&bad[i], &s) == -EINVAL && s == NULL);
    sched_destroy(&s);
}

static void test_queue(void)
{
    struct sched *s = sched_of(3, 2, 8, 4);
    uint32_t job[3], extra, head, seq;
    CHECK(job_add(s, 0, 0, false, &extra) == -EINVAL);
    CHECK(!sched_waiting(s, &head, &seq));
    for (uint32_t i = 0; i < 3; i++)
        CHECK(job_add(s, 0, 5, false, &job[i]) == 0);
    CHECK(job_add(s, 0, 5, false, &extra) == -ENOSPC);

    CHECK(sched_waiting(s, &head, &seq) && head == job[0] && seq == 0);
    sched_admit(s);
    CHECK(sched_waiting(s, &head, &seq) && head == job[1] && seq == 1);
    sched_admit(s);
    CHECK(!sched_waiting(s, &head, &seq)); // no sequence
    sched_job_end(s, job[0]);
    CHECK(sched_waiting(s, &head, &seq) && head == job[2] && seq == 0);
    sched_job_end(s, job[2]); // out of the queue
    CHECK(!sched_waiting(s, &head, &seq));
    CHECK(sched_running_n(s) == 1 && sched_running_job(s, 0) == job[1]);
    sched_destroy(&s);
}

// A request of many choices leaves room for one that comes later, and is not starved by those.
static void test_groups(void)
{
    struct sched *s = sched_of(16, 3, 8, 4);
    uint32_t many[5], late, later, job, seq;
    for (uint32_t i = 0; i < 5; i++)
        CHECK(job_add(s, 7, 1, false, &many[i]) == 0);
    CHECK(job_add(s, 16, 1, false, &late) == -EINVAL); // no such group
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(sched_waiting(s, &job, &seq) && job == many[i]);
        sched_admit(s);
    }
    CHECK(job_add(s, 1, 1, false, &late) == 0);
    CHECK(job_add(s, 2, 1, false, &later) == 0);
    sched_job_end(s, many[0]);
    CHECK(sched_waiting(s, &job, &seq) && job == late);
    sched_admit(s);
    sched_job_end(s, many[1]);
    CHECK(sched_waiting(s, &job, &seq) && job == later);
    sched_admit(s);
    sched_job_end(s, many[2]); // now it has none either, and is the oldest
    CHECK(job_add(s, 3, 1, false, &later) == 0);
    CHECK(sched_waiting(s, &job, &seq) && job == many[3]);
    sched_destroy(&s);
}

static void test_batches(void)
{
    struct sched *s = sched_of(4, 4, 8, 3);
    struct sched_row rows[8];
    CHECK(sched_pick(s, rows) == 0);

    // A prompt alone gets the whole batch, its last row asks for logits.
    uint32_t a = job_started(s, 11);
    CHECK(sched_pick(s, rows) == 8);
    CHECK(rows[0].position == 0 && rows[7].position == 7 && !rows[7].want_logits);
    CHECK(sched_pick(s, rows) == 3);
    CHECK(rows[2].position == 10 && rows[2].want_logits && !rows[1].want_logits);
    CHECK(sched_pick(s, rows) == 0); // its next token is not known yet

    // Decoding beside a prompt: one row, and no more of the prompt than prefill_rows_max.
    sched_known(s, a, 12, 11);
    uint32_t b = job_started(s, 5);
    CHECK(sched_pick(s, rows) == 4);
    CHECK(rows[0].job == a && rows[0].position == 11 && rows[0].want_logits);
    CHECK(rows[1].job == b && rows[1].position == 0 && rows[3].position == 2);

    // A draft: two rows together; wrong, so the second is computed again.
    sched_known(s, a, 14, 12);
    CHECK(sched_pick(s, rows) == 4);
    CHECK(rows[0].position == 12 && rows[1].position == 13 && rows[1].want_logits);
    CHECK(rows[2].job == b && rows[3].want_logits);
    sched_known(s, a, 14, 13);
    sched_known(s, b, 6, 5);
    CHECK(sched_pick(s, rows) == 2);
    CHECK(rows[0].job == a && rows[0].position == 13 && rows[1].job == b);
    sched_destroy(&s);
}

// A prompt whose rows all want logits takes as many of them as are left, and no more.
static void test_logits(void)
{
    struct sched *s = sched_of(4, 3, 16, 16); // six rows with logits
    struct sched_row rows[16];
    uint32_t a, b, job, seq;
    CHECK(job_add(s, 0, 10, true, &a) == 0);
    CHECK(job_add(s, 0, 3, false, &b) == 0);
    while (sched_waiting(s, &job, &seq))
        sched_admit(s);
    CHECK(sched_pick(s, rows) == 6 + 2); // b's last row has to wait
    for (uint32_t i = 0; i < 6; i++)
        CHECK(rows[i].job == a && rows[i].position == i && rows[i].want_logits);
    CHECK(rows[6].job == b && rows[7].position == 1 && !rows[7].want_logits);
    CHECK(sched_pick(s, rows) == 4 + 1);
    CHECK(rows[3].job == a && rows[3].position == 9 && rows[3].want_logits);
    CHECK(rows[4].job == b && rows[4].position == 2 && rows[4].want_logits);
    sched_destroy(&s);
}

static void test_turns(void)
{
    // Nine decoding jobs in batches of four: each is served equally often.
    struct sched *s = sched_of(16, 16, 4, 4);
    struct sched_row rows[4];
    uint32_t known[16] = {0}, served[16] = {0};
    for (uint32_t i = 0; i < 9; i++) {
        uint32_t job = job_started(s, 1);
        CHECK(job == i);
    }
    for (uint32_t step = 0; step < 9 * 100; step++) {
        uint32_t n = sched_pick(s, rows);
        CHECK(n == 4 || step < 3);
        for (uint32_t r = 0; r < n; r++) {
            uint32_t job = rows[r].job;
            CHECK(rows[r].position == known[job]);
            known[job]++;
            served[job]++;
            sched_known(s, job, known[job] + 1, known[job]);
        }
    }
    for (uint32_t i = 1; i < 9; i++)
        CHECK(served[i] + 8 >= served[0] && served[i] <= served[0] + 2); // the head start
    sched_destroy(&s);
}

#define SIM_SEQS 12u

// The simulation's own idea of a job.
struct sim_job {
    bool live;
    uint32_t prompt_n, answer_n;
    uint32_t computed_n, known_n;
    uint32_t admitted_step, progress_step;
    bool logits_all;
    uint32_t order; // number in the order of arrival
};

static void sim_check_batch(struct sim_job *jobs, const struct sched_row *rows, uint32_t n,
                            uint32_t step)
{
    bool seen[ROWS_MAX] = {false}; // by sequence
    uint32_t logits_n = 0;
    for (uint32_t r = 0; r < n; r++) {
        struct sim_job *job = &jobs[rows[r].job];
        CHECK(job->live);
        CHECK(rows[r].position == job->computed_n);
        CHECK(job->computed_n < job->known_n);
        CHECK(rows[r].want_logits == (job->logits_all || rows[r].position + 1 >= job->prompt_n));
        logits_n += rows[r].want_logits;
        if (r == 0 || rows[r - 1].job != rows[r].job) {
            CHECK(!seen[rows[r].seq]); // rows of a job are neighbours
            seen[rows[r].seq] = true;
        } else {
            CHECK(rows[r - 1].seq == rows[r].seq);
        }
        job->computed_n++;
        job->progress_step = step;
    }
    CHECK(logits_n <= 2 * SIM_SEQS);
}

static void test_simulation(uint64_t seed, uint32_t *ret_hash)
{
    enum { JOBS = 40, SEQS = SIM_SEQS, ROWS = 16, STEPS = 20000 };
    struct sched *s = sched_of(JOBS, SEQS, ROWS, 6);
    struct sim_job jobs[JOBS] = {{0}};
    struct sched_row rows[ROWS];
    uint32_t arrived = 0, admitted = 0, last_order = 0, hash = 0;

    for (uint32_t step = 0; step < STEPS; step++) {
        while (check_random(&seed) % 4 == 0) {
            uint32_t job, prompt_n = 1 + (uint32_t)(check_random(&seed) % 60);
            bool logits_all = check_random(&seed) % 8 == 0;
            if (job_add(s, arrived % 40, prompt_n, logits_all, &job) != 0)
                break;
            CHECK(!jobs[job].live);
            jobs[job] = (struct sim_job){.live = true,
                                         .prompt_n = prompt_n,
                                         .known_n = prompt_n,
                                         .answer_n = (uint32_t)(check_random(&seed) % 40),
                                         .logits_all = logits_all,
                                         .order = arrived++};
        }
        uint32_t job, seq;
        while (sched_waiting(s, &job, &seq)) {
            CHECK(seq < SEQS);
            last_order = jobs[job].order > last_order ? jobs[job].order : last_order;
            // Nobody is overtaken by more than all that can be there.
            CHECK(last_order - jobs[job].order <= 2 * JOBS);
            admitted++;
            sched_admit(s);
            jobs[job].admitted_step = jobs[job].progress_step = step;
        }
        uint32_t n = sched_pick(s, rows);
        CHECK(n <= ROWS);
        CHECK((n > 0) == (sched_running_n(s) > 0)); // never idle while somebody runs
        sim_check_batch(jobs, rows, n, step);
        for (uint32_t r = 0; r < n; r++) {
            hash = hash * 31 + rows[r].job * 7 + rows[r].position;
            struct sim_job *j = &jobs[rows[r].job];
            bool last = r + 1 == n || rows[r + 1].job != rows[r].job;
            if (!last || j->computed_n < j->prompt_n || !j->live)
                continue;
            if (j->computed_n - j->prompt_n >= j->answer_n) {
                sched_job_end(s, rows[r].job);
                j->live = false;
                continue;
            }
            if (j->computed_n > j->prompt_n && check_random(&seed) % 3 == 0)
                j->computed_n--; // the draft was wrong
            j->known_n = j->computed_n + 1 + (uint32_t)(check_random(&seed) % 2);
            sched_known(s, rows[r].job, j->known_n, j->computed_n);
        }
        for (uint32_t i = 0; i < sched_running_n(s); i++) {
            uint32_t running = sched_running_job(s, i);
            // 12 sequences of up to 60 rows in batches of 16, a quarter of them for prompts.
            CHECK(step - jobs[running].progress_step <= 12 * 60 / 4);
        }
        if (check_random(&seed) % 50 == 0) { // a client goes away
            uint32_t victim = (uint32_t)(check_random(&seed) % JOBS);
            if (jobs[victim].live) {
                sched_job_end(s, victim);
                jobs[victim].live = false;
            }
        }
    }
    for (uint32_t i = 0; i < JOBS; i++)
        if (jobs[i].live)
            sched_job_end(s, i);
    CHECK(sched_running_n(s) == 0 && sched_waiting_n(s) == 0);
    CHECK(arrived > 1000 && admitted > 900);
    // Everything is back: all jobs and all sequences can be had again.
    uint32_t job, seq;
    for (uint32_t i = 0; i < JOBS; i++)
        CHECK(job_add(s, i, 1, false, &job) == 0);
    for (uint32_t i = 0; i < SEQS; i++) {
        CHECK(sched_waiting(s, &job, &seq) && seq == i);
        sched_admit(s);
    }
    CHECK(!sched_waiting(s, &job, &seq));
    sched_destroy(&s);
    *ret_hash = hash;
}

int main(void)
{
    test_params();
    test_queue();
    test_groups();
    test_batches();
    test_logits();
    test_turns();
    for (uint64_t seed = 1; seed <= 5; seed++) {
        uint32_t first, second;
        test_simulation(seed, &first);
        test_simulation(seed, &second);
        CHECK(first == second); // the same calls give the same batches
    }
    return 0;
}
