// SPDX-License-Identifier: MIT
// make_model_weights: random weights that keep activations finite, quantised as a real quantiser
// would: every FP8 block uses the whole range (its largest magnitude is 448), no NaN codes, scales
// finite and positive.  The bytes of a tensor depend on the seed and the tensor's name only.  The
// head's rows of the three specials are zero: a model that says random things does not say
// end-of-sentence.  Routers spread over all experts, and choose alike for tokens of one topic
// (WEIGHTS_TOPIC neighbouring ids).
// As fast as a drive: 3 GB/s of codes a core; a table look-up replaces the normal distribution.
#pragma once
#include "model/safetensors.h"
#include "model/tensors.h"

#define WEIGHTS_TOPIC 16u // ids n * 16 .. n * 16 + 15 have embeddings alike, in models with experts

struct weights; // tables; one thread

// weights_create: scale_fmt ue8m0 in the config makes every scale a power of two.  Returns 0 or
// -ENOMEM.
int weights_create(uint64_t seed, const struct model_config *config, struct weights **ret);
// weights_copy makes tables for another thread.  0 or -ENOMEM.
int weights_copy(const struct weights *weights, struct weights **ret);
void weights_destroy(struct weights **weights);

#define WEIGHTS_STRIP_ROWS 128u // rows of one FP8 block

// weights_dtype returns how a released checkpoint of this config stores the tensor.
enum dtype weights_dtype(const struct model_config *config, const struct tensor_spec *spec);

// weights_strip writes rows first .. first + n - 1 of a tensor.
//
// spec:  its name seeds the numbers.
// first: a multiple of WEIGHTS_STRIP_ROWS; n <= WEIGHTS_STRIP_ROWS.
// dst:   n * spec->cols values of dtype.
void weights_strip(struct weights *weights, const struct tensor_spec *spec, enum dtype dtype,
                   uint32_t first, uint32_t n, void *dst);

// weights_scales writes all block scales of an FP8 matrix: [ceil(rows/128), ceil(cols/128)] f32.
void weights_scales(const struct weights *weights, const struct tensor_spec *spec, float *dst);

// weights_codes writes n E4M3 codes that belong to no tensor; `number` (and the seed) choose them.
void weights_codes(const struct weights *weights, uint64_t number, void *dst, size_t n);

// weights_number returns a random number; `number` (and the seed) choose it.
uint64_t weights_number(const struct weights *weights, uint64_t number);
