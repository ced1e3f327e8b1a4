// SPDX-License-Identifier: MIT
// Any bytes as model.safetensors of a small checkpoint: it opens with every tensor readable, or one
// sentence says why not.
#include "tests/fuzz/small_checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stop(void)
{
    small_unlink("model.safetensors");
    small_unlink("config.json");
    rmdir(small_dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    if (!started) {
        started = true;
        CHECK(mkdtemp(small_dir));
        atexit(stop);
        small_write("config.json", small_config, sizeof(small_config) - 1);
    }
    small_write("model.safetensors", data, size);
    small_open();
    return 0;
}
