// SPDX-License-Identifier: MIT
#include "model/experts.h"

#include <assert.h>

void experts_make(const struct model_config *config, struct experts *ret)
{
    *ret = (struct experts){.per_layer = config->n_routed_experts};
    for (uint32_t layer = 0; layer < model_config_layers(config); layer++)
        if (model_config_layer_is_moe(config, layer)) {
            assert(ret->layers_n < EXPERTS_LAYERS_MAX);
            ret->layers[ret->layers_n++] = layer;
        }
}

uint32_t experts_n(const struct experts *experts)
{
    return experts->layers_n * experts->per_layer;
}

uint32_t experts_index(const struct experts *experts, uint32_t layer, uint32_t expert)
{
    if (expert >= experts->per_layer)
        return UINT32_MAX;
    for (uint32_t i = 0; i < experts->layers_n; i++)
        if (experts->layers[i] == layer)
            return i * experts->per_layer + expert;
    return UINT32_MAX;
}

void experts_name(const struct experts *experts, uint32_t index, uint32_t *ret_layer,
                  uint32_t *ret_expert)
{
    assert(index < experts_n(experts));
    *ret_layer = experts->layers[index / experts->per_layer];
    *ret_expert = index % experts->per_layer;
}
