// SPDX-License-Identifier: MIT
// experts: the one numbering of a checkpoint's routed experts, in packs, hash lists and slots:
// (number of the MoE layer among MoE layers, MTP layer last) * n_routed_experts + expert.
// Read-only after experts_make; allocates nothing.
#pragma once
#include "model/config.h"

#define EXPERTS_LAYERS_MAX 1025u // as config.h bounds them, and the MTP layer

struct experts {
    uint32_t layers[EXPERTS_LAYERS_MAX]; // ascending; num_hidden_layers is the MTP layer's
    uint32_t layers_n;
    uint32_t per_layer; // n_routed_experts
};

void experts_make(const struct model_config *config, struct experts *ret);

// experts_n returns how many there are: at most 1025 * 4096; 0 for a dense model.
uint32_t experts_n(const struct experts *experts);

// experts_index returns the number of an expert, or UINT32_MAX.
uint32_t experts_index(const struct experts *experts, uint32_t layer, uint32_t expert);

// experts_name writes layer and expert of a number below experts_n.
void experts_name(const struct experts *experts, uint32_t index, uint32_t *ret_layer,
                  uint32_t *ret_expert);
