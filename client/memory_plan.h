// SPDX-License-Identifier: MIT
// memory_plan: how a checkpoint would lie in this machine's memory: what inspect shows, setup
// offers and doctor judges.
#pragma once
#include "daemon/conf.h"
#include "model/card.h"
#include "model/device_info.h"

// memory_context is how many tokens of a sequence a configuration serves of a model.
uint32_t memory_context(const struct conf *conf, const struct checkpoint *ck);

// memory_plan_try makes the plan that the daemon would start with: without the MTP layer where mtp
// = auto and it does not fit.
//
// whole: as if nobody else had memory of the device: a daemon that runs may be the one that has it.
// Errors: -ENOMEM it does not fit, and others of engine_fits.
int memory_plan_try(const struct conf *conf, const struct checkpoint *ck,
                    const struct device_info *device, bool whole, struct engine_room *ret,
                    struct fault *fault);

// memory_plan_make divides device and host memory as expertd does.
//
// wish: kv_tokens, kv_value_bytes and mtp; device_bytes and host_bytes as upper limits, 0: none.
void memory_plan_make(const struct model_card *card, const struct device_info *device,
                      const struct model_plan_params *wish, struct model_plan *ret);
