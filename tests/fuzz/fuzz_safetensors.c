// SPDX-License-Identifier: MIT
// Any bytes as a safetensors file: refused with a sentence, or its tensors tile the data, are found
// by name and can be read to the last byte.
#include "model/safetensors.h"
#include "tests/check.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct safetensors *st, const uint8_t *data, size_t size)
{
    uint64_t at = safetensors_count(st) ? safetensors_at(st, 0)->file_off : size;
    for (uint32_t i = 0; i < safetensors_count(st); i++) {
        const struct tensor *tensor = safetensors_at(st, i);
        uint8_t bytes[64];
        uint64_t n = tensor->bytes < sizeof(bytes) ? tensor->bytes : sizeof(bytes);
        CHECK(tensor->file_off == at);
        at += tensor->bytes;
        CHECK(at <= size);
        CHECK(safetensors_find(st, tensor->name) == tensor);
        CHECK(safetensors_read(st, tensor, tensor->bytes - n, bytes, n, NULL) == 0);
        CHECK(memcmp(bytes, data + at - n, n) == 0);
    }
    CHECK(at == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *st = NULL;
    struct fault fault = {0};
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    CHECK(fd >= 0);
    CHECK(write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int err = safetensors_open(path, &st, &fault);
    CHECK((err == 0) == (st != NULL));
    CHECK(err == 0 || (fault.err == -err && fault.text[0]));
    if (st)
        use(st, data, size);
    safetensors_close(&st);
    close(fd);
    return 0;
}
