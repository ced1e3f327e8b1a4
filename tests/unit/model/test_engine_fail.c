// SPDX-License-Identifier: MIT
// engine_fail: opening an engine and running a step while the n-th allocation fails, then while the
// n-th Vulkan call fails, for every n: an error with a sentence, nothing leaked (with ASan), and
// the next engine opens and computes. The linker sends the library's malloc, calloc, realloc and
// strdup here, and its Vulkan calls.
#include "model/engine.h"
#include "tests/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <vulkan/vulkan.h>

static unsigned allocations_left = UINT32_MAX, calls_left = UINT32_MAX; // until one fails
static VkResult result;                                                 // of the call that fails

static bool falls(unsigned *left)
{
    return *left != UINT32_MAX && *left != 0 && --*left == 0;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t bytes)
{
    return falls(&allocations_left) ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return falls(&allocations_left) ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return falls(&allocations_left) ? NULL : __real_realloc(old, bytes);
}

char *__wrap_strdup(const char *text)
{
    return falls(&allocations_left) ? NULL : __real_strdup(text);
}

// X(call, parameters, arguments): those whose result the library has to look at.
#define CALLS(X)                                                                                   \
    X(vkCreateInstance,                                                                            \
      (const VkInstanceCreateInfo *a, const VkAllocationCallbacks *b, VkInstance *c), (a, b, c))   \
    X(vkEnumeratePhysicalDevices, (VkInstance a, uint32_t * b, VkPhysicalDevice * c), (a, b, c))   \
    X(vkCreateDevice,                                                                              \
      (VkPhysicalDevice a, const VkDeviceCreateInfo *b, const VkAllocationCallbacks *c,            \
       VkDevice *d),                                                                               \
      (a, b, c, d))                                                                                \
    X(vkCreateCommandPool,                                                                         \
      (VkDevice a, const VkCommandPoolCreateInfo *b, const VkAllocationCallbacks *c,               \
       VkCommandPool *d),                                                                          \
      (a, b, c, d))                                                                                \
    X(vkCreateSemaphore,                                                                           \
      (VkDevice a, const VkSemaphoreCreateInfo *b, const VkAllocationCallbacks *c,                 \
       VkSemaphore *d),                                                                            \
      (a, b, c, d))                                                                                \
    X(vkCreatePipelineCache,                                                                       \
      (VkDevice a, const VkPipelineCacheCreateInfo *b, const VkAllocationCallbacks *c,             \
       VkPipelineCache *d),                                                                        \
      (a, b, c, d))                                                                                \
    X(vkCreateDescriptorSetLayout,                                                                 \
      (VkDevice a, const VkDescriptorSetLayoutCreateInfo *b, const VkAllocationCallbacks *c,       \
       VkDescriptorSetLayout *d),                                                                  \
      (a, b, c, d))                                                                                \
    X(vkCreatePipelineLayout,                                                                      \
      (VkDevice a, const VkPipelineLayoutCreateInfo *b, const VkAllocationCallbacks *c,            \
       VkPipelineLayout *d),                                                                       \
      (a, b, c, d))                                                                                \
    X(vkCreateShaderModule,                                                                        \
      (VkDevice a, const VkShaderModuleCreateInfo *b, const VkAllocationCallbacks *c,              \
       VkShaderModule *d),                                                                         \
      (a, b, c, d))                                                                                \
    X(vkCreateComputePipelines,                                                                    \
      (VkDevice a, VkPipelineCache b, uint32_t c, const VkComputePipelineCreateInfo *d,            \
       const VkAllocationCallbacks *e, VkPipeline *f),                                             \
      (a, b, c, d, e, f))                                                                          \
    X(vkAllocateCommandBuffers,                                                                    \
      (VkDevice a, const VkCommandBufferAllocateInfo *b, VkCommandBuffer *c), (a, b, c))           \
    X(vkBeginCommandBuffer, (VkCommandBuffer a, const VkCommandBufferBeginInfo *b), (a, b))        \
    X(vkEndCommandBuffer, (VkCommandBuffer a), (a))                                                \
    X(vkQueueSubmit, (VkQueue a, uint32_t b, const VkSubmitInfo *c, VkFence d), (a, b, c, d))      \
    X(vkWaitSemaphores, (VkDevice a, const VkSemaphoreWaitInfo *b, uint64_t c), (a, b, c))         \
    X(vkCreateBuffer,                                                                              \
      (VkDevice a, const VkBufferCreateInfo *b, const VkAllocationCallbacks *c, VkBuffer *d),      \
      (a, b, c, d))                                                                                \
    X(vkCreateBufferView,                                                                          \
      (VkDevice a, const VkBufferViewCreateInfo *b, const VkAllocationCallbacks *c,                \
       VkBufferView *d),                                                                           \
      (a, b, c, d))                                                                                \
    X(vkAllocateMemory,                                                                            \
      (VkDevice a, const VkMemoryAllocateInfo *b, const VkAllocationCallbacks *c,                  \
       VkDeviceMemory *d),                                                                         \
      (a, b, c, d))                                                                                \
    X(vkBindBufferMemory, (VkDevice a, VkBuffer b, VkDeviceMemory c, VkDeviceSize d),              \
      (a, b, c, d))                                                                                \
    X(vkMapMemory,                                                                                 \
      (VkDevice a, VkDeviceMemory b, VkDeviceSize c, VkDeviceSize d, VkMemoryMapFlags e,           \
       void **f),                                                                                  \
      (a, b, c, d, e, f))

#define X(call, parameters, arguments)                                                             \
    VkResult __real_##call parameters;                                                             \
    VkResult __wrap_##call parameters;                                                             \
    VkResult __wrap_##call parameters                                                              \
    {                                                                                              \
        return falls(&calls_left) ? result : __real_##call arguments;                              \
    }
CALLS(X)
#undef X

// An instance that stays to the end keeps the driver loaded, so that its own leaks have its name.
static VkInstance held;

const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libvulkan_lvp\n";
}

static void driver_hold(void)
{
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &app};
    uint32_t n = 0;
    if (vkCreateInstance(&info, NULL, &held) == VK_SUCCESS)
        vkEnumeratePhysicalDevices(held, &n, NULL);
}

// run opens an engine and computes one step of two rows and one MTP item.
static int run(const struct checkpoint *ck, const char *cache, enum engine_loads loads,
               struct fault *fault)
{
    struct engine *engine = NULL;
    const float *logits;
    struct engine_params params = {.pipeline_cache = cache,
                                   .loads = loads,
                                   .sequences_max = 2,
                                   .context_max = 64,
                                   .batch_rows_max = 4,
                                   .mtp = true};
    struct engine_row rows[] = {{.token = 5, .position = 0},
                                {.token = 6, .position = 1, .want_logits = true}};
    int err = engine_open(ck, &params, &engine, fault);
    CHECK((err == 0) == (engine != NULL));
    if (!err)
        err = engine_seq_reserve(engine, 0, 2);
    if (!err)
        err = engine_step(engine, rows, 2, &logits, fault);
    if (!err && engine_mtp(engine))
        err = engine_mtp_step(engine, &rows[1], 1, &logits, fault);
    if (err && engine) // no step after a failed one
        CHECK(engine_step(engine, rows, 2, &logits, &(struct fault){0}) == -EIO);
    engine_close(&engine);
    return err;
}

// Fails the first, the step-th after it and so on; returns how many there are.
static unsigned fail_each(const struct checkpoint *ck, const char *cache, enum engine_loads loads,
                          unsigned *left, unsigned stride)
{
    for (unsigned n = 1;; n += stride) {
        struct fault fault = {0};
        *left = n;
        int err = run(ck, cache, loads, &fault);
        bool failed = *left == 0;
        *left = UINT32_MAX;
        if (!failed) {
            CHECK(err == 0);
            return n - 1;
        }
        if (err == 0) // what is done as far as possible: the pipeline cache
            continue;
        if (fault.err != -err || !fault.text[0])
            fprintf(stderr, "failure %u: %d, fault %d \"%s\"\n", n, err, fault.err, fault.text);
        CHECK(fault.err == -err && fault.text[0]);
    }
}

int main(int argc, char **argv)
{
    char cache[] = "/tmp/expertd-engine-fail-XXXXXX";
    struct fault fault = {0};
    struct checkpoint *ck;
    unsigned stride = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    CHECK(checkpoint_open(GOLDEN_DIR "/models/v3-fp8", &ck, &fault) == 0);
    driver_hold();
    int fd = mkstemp(cache);
    CHECK(fd >= 0);
    close(fd);
    if (run(ck, cache, ENGINE_LOADS_TEXEL, &fault) == -ENODEV) {
        unlink(cache);
        printf("skipped: %s\n", fault.text);
        return TEST_SKIPPED;
    }
    unsigned n = fail_each(ck, cache, ENGINE_LOADS_TEXEL, &allocations_left, stride);
    printf("%u allocations\n", n);
    CHECK(n > 50); // the hooks are in place
    static const VkResult results[] = {VK_ERROR_OUT_OF_DEVICE_MEMORY, VK_ERROR_DEVICE_LOST};
    static const enum engine_loads loads[] = {ENGINE_LOADS_TEXEL, ENGINE_LOADS_ADDRESS};
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        result = results[i];
        n = fail_each(ck, cache, loads[i], &calls_left, stride);
        printf("%u Vulkan calls\n", n);
        CHECK(n > 200);
    }
    CHECK(run(ck, cache, ENGINE_LOADS_TEXEL, &fault) == 0);
    checkpoint_close(&ck);
    unlink(cache);
    return 0;
}
