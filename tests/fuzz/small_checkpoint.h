// SPDX-License-Identifier: MIT
// small_checkpoint: a directory with the smallest DeepSeek-V3 there is (one MoE layer, two experts,
// an MTP layer, FP8), for targets that replace one of its files by any bytes.
#pragma once
#include "model/checkpoint.h"
#include "tests/check.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char small_config[] =
    "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"model_type\": \"deepseek_v3\","
    " \"vocab_size\": 4, \"hidden_size\": 4, \"intermediate_size\": 4,"
    " \"moe_intermediate_size\": 4, \"num_hidden_layers\": 1, \"num_nextn_predict_layers\": 1,"
    " \"num_attention_heads\": 1, \"n_routed_experts\": 2, \"n_shared_experts\": 1,"
    " \"num_experts_per_tok\": 1, \"first_k_dense_replace\": 0, \"n_group\": 1, \"topk_group\": 1,"
    " \"norm_topk_prob\": true, \"routed_scaling_factor\": 1.0, \"q_lora_rank\": null,"
    " \"kv_lora_rank\": 4, \"qk_nope_head_dim\": 2, \"qk_rope_head_dim\": 2, \"v_head_dim\": 2,"
    " \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000, \"max_position_embeddings\": 64,"
    " \"eos_token_id\": 1, \"quantization_config\": {\"quant_method\": \"fp8\","
    " \"weight_block_size\": [128, 128]}}";

static char small_dir[] = "/tmp/fuzz.XXXXXX";

static inline void small_write(const char *name, const void *data, size_t len)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", small_dir, name);
    // Not O_TRUNC: some file systems write a file that was emptied out to the drive on close.
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, data, len) == (ssize_t)len);
    CHECK(ftruncate(fd, (off_t)len) == 0);
    close(fd);
}

static inline void small_unlink(const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", small_dir, name);
    unlink(path);
}

static inline int small_use_one(const struct tensor_spec *spec, void *user)
{
    const struct checkpoint *ck = user;
    const struct tensor *tensor, *scale;
    unsigned char bytes[256];

    CHECK(checkpoint_get(ck, spec->role, spec->layer, spec->expert, NULL, &tensor, &scale) == 0);
    CHECK(tensor->bytes == (uint64_t)spec->rows * spec->cols * dtype_bytes[tensor->dtype]);
    CHECK(tensor->bytes <= sizeof(bytes));
    CHECK(checkpoint_read(ck, tensor, 0, bytes, tensor->bytes, NULL) == 0);
    CHECK(!scale || checkpoint_read(ck, scale, 0, bytes, scale->bytes, NULL) == 0);
    return 0;
}

// small_open opens the directory; what opens has every tensor of its config, and all bytes of it
// can be read; what does not has a sentence.
static inline int small_open(void)
{
    struct checkpoint *ck = NULL;
    struct fault fault = {0};
    int err = checkpoint_open(small_dir, &ck, &fault);

    if (err < 0) {
        CHECK(!ck && fault.err == -err && fault.text[0]);
        return err;
    }
    CHECK(tensor_spec_each(checkpoint_config(ck), small_use_one, ck) == 0);
    err = checkpoint_verify(ck, NULL, NULL, &fault);
    CHECK(err == 0 || fault.text[0]);
    checkpoint_close(&ck);
    return 0;
}
