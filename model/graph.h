// SPDX-License-Identifier: MIT
// graph: the forward pass of one step as Vulkan dispatches, over paged KV.
//
// One submission runs up to each router; there the expert ids come to the host, which names the
// matrices and goes on: all at once where experts are resident, in the order in which a source
// brings them where they are streamed (graph_experts.c).  The host touches no activation except
// logits. A row's results depend on its own sequence only: every kernel sums in an order that is
// fixed by positions and columns, and experts are summed in ascending number, so any batch,
// chunking or slot order gives the same bits.  Attention is absorbed for prompts too: the expanded
// form would be another order of summation. Owner: the step thread.  Source: model.md section
// 3, 5.1, 10.3.
#pragma once
#include "model/engine.h"
#include "model/kv.h"
#include "model/weights.h"
#include "vk/cmd.h"

struct graph_params {
    struct vk_device *dev;
    const struct weights *weights;
    const struct model_config *config;
    enum numerics numerics;
    enum kv_type kv_type;
    uint32_t rows_max;        // of a step
    uint32_t logits_rows_max; // of them with logits
    uint32_t sequences, pages_per_sequence, pages;
    struct slots *slots; // in which a source puts routed experts; NULL: they are resident
};

struct graph_item { // one line of the memory plan
    const char *name;
    uint64_t count, bytes; // count buffers of bytes each
};
#define GRAPH_ITEMS_MAX 32u

// graph_rows_fit returns the largest rows_max <= wanted whose buffers respect the device's limits;
// 0: none.
uint32_t graph_rows_fit(const struct graph_params *params, uint32_t wanted);

// graph_plan lists the buffers that graph_create will make.  Returns how many items it wrote.
uint32_t graph_plan(const struct graph_params *params, struct graph_item ret[GRAPH_ITEMS_MAX]);

struct graph; // opaque

// graph_create makes the buffers and loads the RoPE table.  Weights must be planned, not yet
// loaded. -ENOTSUP if a dimension of the config cannot be served (named).
int graph_create(const struct graph_params *params, struct graph **ret, struct fault *fault);
void graph_destroy(struct graph **graph);

// graph_step runs rows through all layers; see engine_step for rules and results.
int graph_step(struct graph *graph, const struct kv *kv, const struct engine_row *rows, uint32_t n,
               const float **ret_logits, struct fault *fault);
// graph_mtp_step runs MTP items; see engine_mtp_step.
int graph_mtp_step(struct graph *graph, const struct kv *kv, const struct engine_row *rows,
                   uint32_t n, const float **ret_logits, struct fault *fault);

// graph_kv_read copies the KV entry of a token, widened to f32, to ret: [entry values].
int graph_kv_read(struct graph *graph, const struct kv *kv, uint32_t layer, uint32_t seq,
                  uint32_t position, float *ret, struct fault *fault);
uint32_t graph_kv_entry(const struct graph *graph); // values of an entry

// graph_source_set sets who brings experts into slots (params.slots).
void graph_source_set(struct graph *graph, const struct expert_source *source);
// graph_row_fault returns why row i of the last step has no result, or NULL.
const struct fault *graph_row_fault(const struct graph *graph, uint32_t row);
void graph_routing_set(struct graph *graph,
                       void (*fn)(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows,
                                  uint32_t k),
                       void *user);

void graph_tap_set(struct graph *graph, engine_tap_fn fn, void *user);
void graph_counters_get(const struct graph *graph, struct engine_counters *ret);
