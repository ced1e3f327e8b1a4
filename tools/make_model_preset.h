// SPDX-License-Identifier: MIT
// make_model_preset: the shapes that make-model knows, as the config.json that it writes.
#pragma once
#include "base/fault.h"

#include <jansson.h>
#include <stdbool.h>

struct preset {
    const char *name;
    const char *what; // for --list
    const char *base; // config.json that `changes` alter
    const char *changes;
};

extern const struct preset presets[]; // ends with a row whose name is NULL

const struct preset *preset_find(const char *name);

// preset_config makes config.json; with_mtp adds the MTP layer.  A new reference, or NULL without
// memory.
json_t *preset_config(const struct preset *preset, bool with_mtp);

// preset_generation_config makes generation_config.json for it.
json_t *preset_generation_config(const json_t *config);
