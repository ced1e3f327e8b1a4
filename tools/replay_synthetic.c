// SPDX-License-Identifier: MIT
// Routing that looks like a large model's, for shapes of which we have no recorded trace.  It is no
// evidence: real routing hits less often than invented routing (doc/residency.md).
#include "tools/replay_uses.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS        61u
#define LAYERS_DENSE  3u
#define EXPERTS       256u
#define K             8u
#define REQUESTS      16u
#define PROMPT_TOKENS 64u
#define DECODE_TOKENS 128u

// An expert's weight is rank^-LASTING (its rank in the layer, for ever) times rank^-TOPIC (another
// rank, of the request's topic); each of the last token's experts stays with chance KEEP.  Together
// they give some 35 % of experts again from token to token, and loads of a layer within about 3
// times the mean over all requests.
#define LASTING     0.15
#define TOPIC       0.6
#define KEEP        0.32
#define WEIGHT_UNIT 1e6

struct source {
    uint64_t random;
    double lasting[LAYERS][EXPERTS];
    uint32_t sums[LAYERS][EXPERTS]; // of the weights up to an expert, in this request
    uint32_t last[LAYERS][K];
};

static uint32_t source_random(struct source *s, uint32_t below)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((s->random >> 32) * below) >> 32);
}

// ranks_make fills in rank^-power for ranks in random order.
static void ranks_make(struct source *s, double power, double *ret)
{
    for (uint32_t i = 0; i < EXPERTS; i++)
        ret[i] = pow(i + 1, -power);
    for (uint32_t i = EXPERTS; i-- > 1;) {
        uint32_t other = source_random(s, i + 1);
        double kept = ret[i];
        ret[i] = ret[other];
        ret[other] = kept;
    }
}

static void topic_begin(struct source *s)
{
    double topic[EXPERTS];
    for (uint32_t layer = LAYERS_DENSE; layer < LAYERS; layer++) {
        uint32_t sum = 0;
        ranks_make(s, TOPIC, topic);
        for (uint32_t e = 0; e < EXPERTS; e++) {
            sum += 1 + (uint32_t)(WEIGHT_UNIT * s->lasting[layer][e] * topic[e]);
            s->sums[layer][e] = sum;
        }
    }
}

static uint32_t expert_pick(struct source *s, uint32_t layer)
{
    uint32_t at = source_random(s, s->sums[layer][EXPERTS - 1]), low = 0, high = EXPERTS - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (s->sums[layer][middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

// row_make chooses the experts of the next token.
static void row_make(struct source *s, uint32_t layer, uint32_t *ret)
{
    bool chosen[EXPERTS] = {false};
    uint32_t n = 0;
    for (uint32_t i = 0; i < K; i++)
        if (source_random(s, 1000) < (uint32_t)(1000 * KEEP) && !chosen[s->last[layer][i]]) {
            ret[n++] = s->last[layer][i];
            chosen[ret[n - 1]] = true;
        }
    while (n < K) {
        uint32_t expert = expert_pick(s, layer);
        if (!chosen[expert])
            ret[n++] = expert;
        chosen[expert] = true;
    }
    memcpy(s->last[layer], ret, sizeof(s->last[layer]));
}

static size_t step_make(struct source *s, struct routing_trace_writer *writer, uint64_t step,
                        uint32_t rows, uint8_t *ret)
{
    uint32_t ids[PROMPT_TOKENS * K];
    size_t n = 0;
    for (uint32_t layer = LAYERS_DENSE; layer < LAYERS; layer++) {
        for (uint32_t row = 0; row < rows; row++)
            row_make(s, layer, &ids[row * K]);
        n += routing_trace_write(
            writer, &(struct routing_trace_layer){.step = step, .layer = layer, .rows = rows}, ids,
            ret + n);
    }
    return n;
}

int replay_synthetic(uint64_t seed, uint8_t **ret_bytes, size_t *ret_n)
{
    static const struct routing_trace_shape shape = {LAYERS, EXPERTS, K};
    struct routing_trace_writer writer;
    size_t max =
        ROUTING_TRACE_HEAD_BYTES + (size_t)REQUESTS * (LAYERS - LAYERS_DENSE) *
                                       (routing_trace_layer_bytes(&shape, PROMPT_TOKENS) +
                                        DECODE_TOKENS * routing_trace_layer_bytes(&shape, 1));
    struct source *s = calloc(1, sizeof(*s));
    uint8_t *bytes = malloc(max);
    if (!s || !bytes || routing_trace_writer_init(&writer, &shape, bytes)) {
        free(s);
        free(bytes);
        return -ENOMEM;
    }
    size_t n = ROUTING_TRACE_HEAD_BYTES;
    uint64_t step = 0;
    s->random = seed;
    for (uint32_t layer = LAYERS_DENSE; layer < LAYERS; layer++)
        ranks_make(s, LASTING, s->lasting[layer]);
    for (uint32_t request = 0; request < REQUESTS; request++) {
        topic_begin(s);
        n += step_make(s, &writer, step++, PROMPT_TOKENS, bytes + n);
        for (uint32_t token = 0; token < DECODE_TOKENS; token++)
            n += step_make(s, &writer, step++, 1, bytes + n);
    }
    free(s);
    *ret_bytes = bytes;
    *ret_n = n;
    return 0;
}
