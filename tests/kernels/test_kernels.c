// SPDX-License-Identifier: MIT
// test_kernels texel|address [SUITE]: every row of the kernel table against C, on one path, under
// the validation layers with synchronisation checks, which must stay silent.
#include "tests/kernels/suites.h"

static const struct suite {
    const char *name;
    void (*run)(struct rig *rig);
} suites[] = {
    {"device", test_device},       {"matmul", test_matmul}, {"mlp", test_mlp},
    {"rows", test_rows},           {"router", test_router}, {"prep", test_prep},
    {"attention", test_attention}, {"copy", test_copy},
};

int main(int argc, char **argv)
{
    struct rig rig;
    bool validate = true;
    size_t known = 0;
    CHECK(argc >= 2);
    rig_open(&rig, strcmp(argv[1], "address") ? VK_PATH_TEXEL : VK_PATH_ADDRESS, validate);
    for (size_t i = 0; i < ARRAY_LEN(suites); i++)
        if (argc < 3 || !strcmp(argv[2], suites[i].name)) {
            printf("%s\n", suites[i].name);
            fflush(stdout);
            suites[i].run(&rig);
            known++;
        }
    CHECK(known);
    for (uint32_t i = 0; i < KERNEL_COUNT && argc < 3; i++)
        if (!rig.ran[i]) {
            fprintf(stderr, "no test runs kernel %s\n", kernel_rows[i].name);
            CHECK(rig.ran[i]);
        }
    rig_close(&rig);
    return 0;
}
