// SPDX-License-Identifier: MIT
// engine: the model as the daemon sees it: a checkpoint on a Vulkan device that computes steps.
// A step is a batch of rows (sequence, position, token), any mix of sequences, decode rows and
// prompt chunks alike; its results are logits of the rows that ask for them.
// Owner: the thread that calls it (step); nothing here is shared.
// What it does not do: choose batches, sample, own requests.  See model/graph.h for what a step
// runs.
#pragma once
#include "base/fault.h"
#include "model/checkpoint.h"
#include "model/expert_source.h"

#include <stdbool.h>
#include <stdint.h>

enum numerics {
    NUMERICS_FP8_WEIGHTS,  // activations f32
    NUMERICS_OFFICIAL_FP8, // activations of FP8 linears quantised to E4M3 per token per 128
                           // channels
    NUMERICS_COUNT
};
extern const char *const numerics_name[NUMERICS_COUNT]; // "fp8-weights", "official-fp8"

enum kv_type { KV_F16, KV_F32, KV_TYPE_COUNT };
extern const char *const kv_type_name[KV_TYPE_COUNT]; // "f16", "f32"

// How kernels load weights and activations; the results of the two differ in the order of
// summation.
enum engine_loads {
    ENGINE_LOADS_AUTO,    // what measures best on the kind of device: texel on a CPU, else address
    ENGINE_LOADS_TEXEL,   // texel buffers, a lane owns matrix rows
    ENGINE_LOADS_ADDRESS, // 64-bit addresses and storage buffers, lanes run along K
    ENGINE_LOADS_COUNT
};
extern const char *const engine_loads_name[ENGINE_LOADS_COUNT]; // "auto", "texel", "address"

enum engine_experts {
    ENGINE_EXPERTS_AUTO,     // resident if they fit and neither a pack nor a smaller slots_ram was
                             // asked for, else in slots
    ENGINE_EXPERTS_RESIDENT, // all in memory, or -ENOMEM
    ENGINE_EXPERTS_SLOTS,    // in slots, filled by a struct expert_source
};

enum slots_path {
    SLOTS_PATH_AUTO,    // imported where the device shares the host's memory, else staged
    SLOTS_PATH_IMPORT,  // host memory that kernels read (VK_EXT_external_memory_host)
    SLOTS_PATH_STAGING, // host memory, then a transfer queue into device memory
    SLOTS_PATH_COUNT
};
extern const char *const slots_path_name[SLOTS_PATH_COUNT]; // "auto", "import", "staging"

struct engine_params {
    const char *device_select;  // "auto", an index, a UUID or part of the device's name
    const char *pipeline_cache; // file of the VkPipelineCache, or NULL for none
    enum engine_loads loads;
    enum numerics numerics;
    enum kv_type kv_type;
    uint32_t sequences_max;   // how many sequences may have KV at once, 1..512
    uint32_t context_max;     // tokens of one sequence; <= config.max_position_embeddings
    uint32_t kv_tokens;       // tokens of KV over all sequences; 0: sequences_max * context_max
    uint32_t batch_rows_max;  // rows of one step, 1..2048
    uint32_t logits_rows_max; // rows of a step that may want logits; 0: max(2 * sequences_max, 16)
    uint64_t memory_max;      // bytes of device memory this may take; 0: what the device reports
    uint64_t heap_max; // bytes of one weight heap; 0: what the device allows (tests lower it)
    bool mtp;          // load the MTP layer if the checkpoint has one
    enum engine_experts experts; // where routed experts are
    uint64_t slots_ram;          // bytes of expert slots in host memory; 0: what is free
    uint64_t slots_vram;        // bytes of expert slots in the device's own memory; 0: what is free
    enum slots_path slots_path; // how they reach the kernels
    const char *pack; // directory of a pack whose records fill the slots; NULL: the shards
    bool validate;    // Vulkan validation layers with synchronisation checks (tests)
    // progress is told bytes loaded and bytes in all, on the calling thread; may be NULL.
    void (*progress)(void *user, uint64_t bytes_done, uint64_t bytes_total);
    void *progress_user;
};

// One row of a step.
struct engine_row {
    uint32_t token;    // id
    uint32_t seq;      // 0..sequences_max-1
    uint32_t position; // 0-based; rows of one sequence come in rising order without gaps
    bool want_logits;
};

struct engine; // opaque
struct slots;  // model/slots.h

// engine_open opens the device, checks the memory plan, uploads the weights, builds every pipeline
// and runs each once.  Takes no ownership of ck, which must outlive the engine. Errors: -ENODEV no
// such device; -ENOMEM the plan does not fit (the sentence has the figures);
//         -EBADMSG an FP8 NaN code or a bad scale (file and tensor named).
int engine_open(const struct checkpoint *ck, const struct engine_params *params,
                struct engine **ret, struct fault *fault);
void engine_close(struct engine **engine);

// What engine_open would take, were it called now.
struct engine_room {
    uint64_t need_bytes;     // dense weights, KV memory and activations; experts too, without slots
    uint64_t have_bytes;     // of the device, that may be taken
    uint64_t experts_n;      // routed ones, MTP's included if it is loaded; 0: a dense model
    uint64_t experts_held_n; // of them, in memory at once
};

// engine_fits makes the memory plan that engine_open begins with, and nothing else: it reads no
// weights and takes no memory.
//
// whole: as if nobody else had memory of the device.  Errors: those of engine_open until then.
int engine_fits(const struct checkpoint *ck, const struct engine_params *params, bool whole,
                struct engine_room *ret, struct fault *fault);

const struct model_config *engine_config(const struct engine *engine);
const char *engine_device_name(const struct engine *engine);

// engine_device_makes_code: its driver writes code for the CPU and runs it, also later: lavapipe
// all kernels, NVIDIA's parts of itself.
bool engine_device_makes_code(const struct engine *engine);

// engine_plan_text writes the memory plan, one line an item (name, count x size, heap), for the
// log. Returns the bytes it would need, as snprintf.
int engine_plan_text(const struct engine *engine, char *buf, size_t buf_bytes);

// engine_seq_reserve makes sure that sequence seq has KV pages for positions 0..tokens-1.
// -ENOSPC if the pages are used up (nothing changed then), -EINVAL beyond context_max.
int engine_seq_reserve(struct engine *engine, uint32_t seq, uint32_t tokens);
// engine_seq_truncate keeps positions 0..tokens-1 and frees the pages behind; 0 frees all.
void engine_seq_truncate(struct engine *engine, uint32_t seq, uint32_t tokens);
// engine_kv_tokens_free returns how many tokens of KV are not reserved.
uint32_t engine_kv_tokens_free(const struct engine *engine);

// engine_step runs one batch through all layers and blocks until its logits are on the host.
//
// rows: [n], n in 1..batch_rows_max; every position was reserved; not kept.
// ret_logits: set to [rows with want_logits, vocab_size] f32, in row order; ids without a token
// have no
//             special value here (the sampler masks them).  Owned by the engine, valid until the
//             next step.
// Errors: -EINVAL rows break the rules; -EIO device lost (every later call fails too).
// The bits of a row's logits depend on its sequence's tokens only, not on batch, chunking or slots.
int engine_step(struct engine *engine, const struct engine_row *rows, uint32_t n,
                const float **ret_logits, struct fault *fault);

// With slots, engine_open leaves the routed experts to a source, and no step can run before one is
// set.  engine_slots returns NULL if all experts are resident.
struct slots *engine_slots(struct engine *engine);
// engine_source_set sets who brings experts (the source must outlive the engine's last step); NULL
// takes it away.
void engine_source_set(struct engine *engine, const struct expert_source *source);

// engine_row_fault returns why row i of the last engine_step or engine_mtp_step has no result (an
// expert that it needs could not be read), or NULL.  Its logits are then zeros, the KV of its
// position is void, and so are later rows of its sequence.
const struct fault *engine_row_fault(const struct engine *engine, uint32_t row);

// engine_routing_set: fn is told what routers chose: ids [rows, k] of a layer.  NULL: nobody is.
void engine_routing_set(struct engine *engine,
                        void (*fn)(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows,
                                   uint32_t k),
                        void *user);

// engine_mtp says whether the MTP layer is loaded.
bool engine_mtp(const struct engine *engine);

// engine_mtp_step runs MTP items for rows of the last engine_step: item i of a sequence takes the
// post-norm hidden state of position i and the token at i + 1, and predicts the token at i + 2.
//
// rows: [n]; row.position = i names an item whose hidden state the last engine_step computed for
// that
//       sequence, row.token = x_{i+1}.  Items of a sequence come in rising order.
// ret_logits: as engine_step.
int engine_mtp_step(struct engine *engine, const struct engine_row *rows, uint32_t n,
                    const float **ret_logits, struct fault *fault);

// What a tap is shown; for tests and tools.  With a tap set a step is submitted piece by piece.
enum engine_tap_kind {
    ENGINE_TAP_RESIDUAL, // [rows, hidden_size] before layer `layer`; layer = number of layers:
                         // after the last. May be changed: return true and the step goes on with
                         // the new values.
    ENGINE_TAP_SCORES,   // [rows, n_routed_experts] sigmoid without bias
    ENGINE_TAP_EXPERTS,  // [rows, k] ids as float values, by falling p + bias
    ENGINE_TAP_WEIGHTS,  // [rows, k] final routing weights, same order
    ENGINE_TAP_NORM,     // [rows with logits, hidden_size] what the head takes
};
struct engine_tap {
    enum engine_tap_kind kind;
    uint32_t layer; // the MTP layer is number num_hidden_layers
    uint32_t rows, cols;
    float *data; // [rows, cols], valid during the call
};
typedef bool (*engine_tap_fn)(void *user, const struct engine_tap *tap);
void engine_tap_set(struct engine *engine, engine_tap_fn fn, void *user);

// engine_kv_read copies the KV entry of one token, as f32: [c | k_pe] (MLA) or [k heads | v heads].
// ret: [engine_kv_entry] f32.  -EINVAL for a position without a page.
int engine_kv_read(struct engine *engine, uint32_t layer, uint32_t seq, uint32_t position,
                   float *ret, struct fault *fault);
uint32_t engine_kv_entry(const struct engine *engine);

// engine_batch_rows_max returns what batch_rows_max became: the device's limits may lower it.
uint32_t engine_batch_rows_max(const struct engine *engine);

// engine_validation_messages returns how many validation messages have come (params.validate).
uint32_t engine_validation_messages(const struct engine *engine);

struct engine_counters {
    uint64_t steps, rows;
    uint64_t host_ns;      // time of engine_step outside waits for the device
    uint64_t wait_ns;      // time waiting for the device
    uint64_t expert_loads; // routed (row, expert) pairs computed
};
void engine_counters_get(const struct engine *engine, struct engine_counters *ret);
