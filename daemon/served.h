// SPDX-License-Identifier: MIT
// served: the model that this daemon serves, as far as no device is needed for it: checkpoint,
// tokenizer, chat template, names and limits.  Read-only once opened, so every thread may read it.
#pragma once
#include "api/models.h"
#include "api/sampling.h"
#include "daemon/conf.h"
#include "model/checkpoint.h"
#include "model/template.h"
#include "model/tokenizer.h"

struct served {
    struct checkpoint *checkpoint;
    struct tokenizer *tokenizer;
    enum template_style template_style;
    char name[CONF_TEXT_MAX];
    uint32_t context_max;                  // tokens of prompt and answer of one sequence
    uint32_t think_open, think_close;      // token ids, or TOKEN_NONE
    uint32_t fim_begin, fim_hole, fim_end; // token ids, or TOKEN_NONE: no fill in the middle
    struct model_info info;                // for /v1/models
    struct api_limits limits;              // for the parsers
};

// served_open reads the checkpoint's headers, its tokenizer and its template.
// Errors: those of checkpoint_open, tokenizer_open and template_detect; the sentence names the
// file.
int served_open(const struct conf *conf, struct served *ret, struct fault *fault);
void served_close(struct served *served); // accepts a zeroed one
