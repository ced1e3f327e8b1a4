// SPDX-License-Identifier: MIT
// warm: a source of experts (model/expert_source.h) that reads nothing: each is where its bytes
// would land, all zeros.  What runs with it compiles the kernels and pipelines that real experts
// need, at their offsets, without the gigabytes that a step of a large model reads.
// Owner: the step thread.
#pragma once
#include "model/expert_source.h"
#include "model/slots.h"

struct warm; // opaque

// warm_create: slots are loaded and nobody else fills them.  Errors: -ENOMEM.
int warm_create(struct slots *slots, struct warm **ret);
void warm_destroy(struct warm **warm);
const struct expert_source *warm_source(const struct warm *warm);
