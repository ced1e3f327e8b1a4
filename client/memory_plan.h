// SPDX-License-Identifier: MIT
// memory_plan: how a checkpoint would lie in this machine's memory: what inspect shows, setup
// offers and doctor judges.
#pragma once
#include "daemon/conf.h"
#include "model/card.h"
#include "model/device_info.h"

// memory_plan_wish is what a configuration asks of the plan for a model.
void memory_plan_wish(const struct conf *conf, const struct model_config *config,
                      const struct device_info *device, struct model_plan_params *ret);

// memory_plan_make divides device and host memory as expertd does.
//
// wish: kv_tokens, kv_value_bytes and mtp; device_bytes and host_bytes as upper limits, 0: none.
void memory_plan_make(const struct model_card *card, const struct device_info *device,
                      const struct model_plan_params *wish, struct model_plan *ret);
