// SPDX-License-Identifier: MIT
#include "tools/replay_uses.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NO_LAYER UINT32_MAX

struct maker {
    struct replay_uses uses;
    uint64_t groups_max, keys_n, keys_max;
    uint32_t layer_idx[ROUTING_TRACE_LAYERS_MAX]; // among those with records
    bool *wanted;                                 // [experts] of one record
    uint32_t *ids;                                // [rows, k] of one record
    uint32_t *before;                             // [layers, k] of the last record with one row
    bool before_there[ROUTING_TRACE_LAYERS_MAX];
    uint64_t again_n, again_of;
};

// grow makes room for n more entries of `bytes` each.
static int grow(void **array, uint64_t used, uint64_t *max, uint64_t n, size_t bytes)
{
    if (used + n <= *max)
        return 0;
    uint64_t more = 2 * (used + n);
    void *grown = realloc(*array, more * bytes);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *max = more;
    return 0;
}

// count_again compares a record of one row with the one before in its layer.
static void count_again(struct maker *m, const struct routing_trace_layer *layer)
{
    uint32_t k = m->uses.shape.k;
    uint32_t *before = &m->before[(size_t)layer->layer * k];
    bool compare = m->before_there[layer->layer] && layer->rows == 1;

    m->before_there[layer->layer] = layer->rows == 1;
    for (uint32_t i = 0; compare && i < k; i++)
        for (uint32_t j = 0; j < k; j++)
            m->again_n += m->ids[i] == before[j];
    m->again_of += compare ? k : 0;
    memcpy(before, m->ids, k * sizeof(*before));
}

static int add(struct maker *m, const struct routing_trace_layer *layer)
{
    struct replay_uses *u = &m->uses;
    uint32_t experts = u->shape.experts, *idx = &m->layer_idx[layer->layer];

    // One more than groups: `first` has an end too.
    if (grow((void **)&u->first, u->groups_n + 1, &m->groups_max, 1, sizeof(*u->first)) ||
        grow((void **)&u->keys, m->keys_n, &m->keys_max, experts, sizeof(*u->keys)))
        return -ENOMEM;
    if (*idx == NO_LAYER)
        *idx = u->layers_n++;
    memset(m->wanted, 0, experts * sizeof(*m->wanted));
    for (size_t i = 0; i < (size_t)layer->rows * u->shape.k; i++)
        m->wanted[m->ids[i]] = true;
    u->first[u->groups_n++] = m->keys_n;
    for (uint32_t expert = 0; expert < experts; expert++)
        if (m->wanted[expert])
            u->keys[m->keys_n++] = *idx * experts + expert;
    u->first[u->groups_n] = m->keys_n;
    count_again(m, layer);
    return 0;
}

static int read_all(struct maker *m, struct routing_trace_reader *reader, struct fault *fault)
{
    struct routing_trace_layer layer;
    uint64_t step = UINT64_MAX;
    int got;

    while ((got = routing_trace_read(reader, &layer, m->ids, fault)) == 1) {
        if (add(m, &layer))
            return fault_set(fault, ENOMEM, "not enough memory for the trace");
        if (layer.step != step) {
            m->uses.steps_n++;
            m->uses.rows_n += layer.rows;
        }
        step = layer.step;
    }
    if (got == -EBADMSG)
        return got;
    if (m->keys_n == 0)
        return fault_set(fault, ENODATA, "the trace has no whole record");
    m->uses.keys_n = m->uses.layers_n * m->uses.shape.experts;
    m->uses.again = m->again_of ? (double)m->again_n / (double)m->again_of : 0;
    return 0;
}

int replay_uses_make(const uint8_t *bytes, size_t n, struct replay_uses *ret, struct fault *fault)
{
    struct routing_trace_reader reader;
    struct maker m = {0};
    int err = routing_trace_reader_init(&reader, bytes, n, fault);
    if (err)
        return err;

    m.uses.shape = reader.shape;
    memset(m.layer_idx, 0xff, sizeof(m.layer_idx));
    m.wanted = malloc(reader.shape.experts * sizeof(*m.wanted));
    m.ids = malloc((size_t)ROUTING_TRACE_ROWS_MAX * reader.shape.k * sizeof(*m.ids));
    m.before = malloc((size_t)reader.shape.layers * reader.shape.k * sizeof(*m.before));
    if (m.wanted && m.ids && m.before)
        err = read_all(&m, &reader, fault);
    else
        err = fault_set(fault, ENOMEM, "not enough memory for the trace");
    free(m.wanted);
    free(m.ids);
    free(m.before);
    if (err)
        replay_uses_free(&m.uses);
    else
        *ret = m.uses;
    return err;
}

void replay_uses_free(struct replay_uses *uses)
{
    free(uses->first);
    free(uses->keys);
    *uses = (struct replay_uses){0};
}
