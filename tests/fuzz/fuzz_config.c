// SPDX-License-Identifier: MIT
// Any bytes as config.json, and behind the first NUL as generation_config.json: refused with a
// sentence, or every number is within its bounds and the list of tensors can be walked.
#include "model/card.h"
#include "tests/check.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int spec_check(const struct tensor_spec *spec, void *user)
{
    uint32_t *left = user;
    CHECK(spec->rows > 0 && spec->rows <= 1u << 24);
    CHECK(spec->cols > 0 && spec->cols <= 1u << 24);
    CHECK(strlen(spec->name) < TENSOR_NAME_MAX - 12);
    return --*left == 0; // a config may ask for millions
}

static void use(const struct model_config *config)
{
    uint32_t left = 5000;

    CHECK(config->arch < MODEL_ARCH_COUNT && config->num_nextn_predict_layers <= 1);
    CHECK(config->rms_norm_eps > 0 && config->rope.theta > 1 && config->rope.factor >= 1);
    CHECK(isnan(config->temperature) || config->temperature >= 0);
    CHECK(config->eos_n <= MODEL_EOS_MAX);
    for (uint32_t i = 0; i < config->eos_n; i++)
        CHECK(config->eos_token_ids[i] < config->vocab_size);
    CHECK(!config->n_routed_experts || config->n_routed_experts % config->n_group == 0);
    tensor_spec_each(config, spec_check, &left);
    if (left == 0)
        return;
    struct model_card card;
    struct model_plan plan;
    model_card_from_config(config, &card);
    model_plan_make(&card, &(struct model_plan_params){.device_bytes = 1ull << 34}, &plan);
    CHECK(card.params_active <= card.params && card.params <= card.total.params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_config config;
    struct fault fault = {0};
    const char *text = (const char *)data;
    const char *cut = size ? memchr(data, 0, size) : NULL;
    size_t len = cut ? (size_t)(cut - text) : size;

    int err = model_config_parse(text ? text : "", len, cut ? cut + 1 : NULL,
                                 cut ? size - len - 1 : 0, &config, &fault);
    if (err == 0)
        use(&config);
    else
        CHECK(fault.err == -err && strstr(fault.text, "config.json"));
    return 0;
}
