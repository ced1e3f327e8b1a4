// SPDX-License-Identifier: MIT
#include "daemon/served.h"

#include "base/clock.h"
#include "model/card.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const enum template_style style_of[CONF_TEMPLATE_COUNT] = {
    [CONF_TEMPLATE_V3] = TEMPLATE_V3,           [CONF_TEMPLATE_R1] = TEMPLATE_R1,
    [CONF_TEMPLATE_V3_0324] = TEMPLATE_V3_0324, [CONF_TEMPLATE_R1_0528] = TEMPLATE_V3_0324,
    [CONF_TEMPLATE_V31] = TEMPLATE_V31,         [CONF_TEMPLATE_DISTILL] = TEMPLATE_DISTILL,
    [CONF_TEMPLATE_KIMI_K2] = TEMPLATE_KIMI_K2,
};

// name_of_path takes the last part of the directory's path.
static void name_of_path(const char *path, char *out, size_t out_bytes)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t start = len;
    while (start > 0 && path[start - 1] != '/')
        start--;
    snprintf(out, out_bytes, "%.*s", (int)(len - start), path + start);
    if (out[0] == '\0' || strcmp(out, ".") == 0 || strcmp(out, "..") == 0 || strcmp(out, "/") == 0)
        snprintf(out, out_bytes, "model");
}

static int info_fill(struct served *s, const struct model_config *config, struct fault *fault)
{
    struct model_card card;
    int err = model_card_make(s->checkpoint, &card);
    if (err != 0)
        return fault_set(fault, -err, "%s: %s", checkpoint_dir(s->checkpoint), strerror(-err));
    s->info = (struct model_info){.name = s->name,
                                  .created = clock_unix_s(),
                                  .vocab_size = config->vocab_size,
                                  .context_train = config->max_position_embeddings,
                                  .context_max = s->context_max,
                                  .hidden_size = config->hidden_size,
                                  .parameters = card.params,
                                  .bytes = card.total.bytes};
    return 0;
}

static void limits_fill(struct served *s, const struct model_config *config)
{
    s->limits = (struct api_limits){
        .model = s->name,
        .vocab_size = config->vocab_size,
        .context_max = s->context_max,
        .choices_max = SAMPLING_CHOICES_MAX,
        .temperature = isnan(config->temperature) ? 1.0f : config->temperature,
        .top_p = isnan(config->top_p) ? 1.0f : config->top_p,
        .top_k = config->top_k,
        .min_p = 0.0f,
        .repetition_penalty = 1.0f,
    };
}

static int template_choose(struct served *s, const struct conf *conf, struct fault *fault)
{
    if (conf->model_template == CONF_TEMPLATE_AUTO)
        return template_detect(s->tokenizer, &s->template_style, fault);
    s->template_style = style_of[conf->model_template];
    return 0;
}

int served_open(const struct conf *conf, struct served *ret, struct fault *fault)
{
    struct served s = {0};
    int err = checkpoint_open(conf->model_path, &s.checkpoint, fault);
    if (err == 0)
        err = tokenizer_open(conf->model_path, &s.tokenizer, fault);
    if (err == 0)
        err = template_choose(&s, conf, fault);
    if (err != 0)
        goto fail;

    const struct model_config *config = checkpoint_config(s.checkpoint);
    if (tokenizer_vocab(s.tokenizer) > config->vocab_size) {
        err = fault_set(fault, EINVAL, "%s: tokenizer.json has %u tokens, config.json %u",
                        conf->model_path, tokenizer_vocab(s.tokenizer), config->vocab_size);
        goto fail;
    }
    if (conf->model_name[0])
        snprintf(s.name, sizeof(s.name), "%s", conf->model_name);
    else
        name_of_path(conf->model_path, s.name, sizeof(s.name));
    s.context_max = conf->model_context_max < config->max_position_embeddings
                        ? conf->model_context_max
                        : config->max_position_embeddings;
    s.think_open = tokenizer_id(s.tokenizer, "<think>");
    s.think_close = tokenizer_id(s.tokenizer, "</think>");
    s.fim_begin = tokenizer_id(s.tokenizer, "<｜fim▁begin｜>");
    s.fim_hole = tokenizer_id(s.tokenizer, "<｜fim▁hole｜>");
    s.fim_end = tokenizer_id(s.tokenizer, "<｜fim▁end｜>");

    *ret = s;
    ret->info.name = ret->name; // pointers into the caller's copy
    err = info_fill(ret, config, fault);
    limits_fill(ret, config);
    if (err != 0)
        served_close(ret);
    return err;

fail:
    served_close(&s);
    return err;
}

void served_close(struct served *s)
{
    tokenizer_close(&s->tokenizer);
    checkpoint_close(&s->checkpoint);
    memset(s, 0, sizeof(*s));
}
