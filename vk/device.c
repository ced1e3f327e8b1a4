// SPDX-License-Identifier: MIT
#include "vk/internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICES_MAX     32u
#define CACHE_BYTES_MAX (256u << 20) // a larger pipeline cache file is not ours
#define ARRAY_LEN(a)    (sizeof(a) / sizeof((a)[0]))

const char *const vk_path_name[VK_PATH_COUNT] = {
    [VK_PATH_TEXEL] = "texel buffers",
    [VK_PATH_ADDRESS] = "buffer addresses",
};

static const struct {
    VkResult result;
    int err;
    const char *words;
} vk_results[] = {
    {VK_ERROR_OUT_OF_HOST_MEMORY, ENOMEM, "out of host memory"},
    {VK_ERROR_OUT_OF_DEVICE_MEMORY, ENOMEM, "out of device memory"},
    {VK_ERROR_INITIALIZATION_FAILED, ENODEV, "initialization failed"},
    {VK_ERROR_DEVICE_LOST, EIO, "device lost"},
    {VK_ERROR_LAYER_NOT_PRESENT, ENOTSUP, "layer not present (install vulkan-validationlayers)"},
    {VK_ERROR_EXTENSION_NOT_PRESENT, ENOTSUP, "extension not present"},
    {VK_ERROR_FEATURE_NOT_PRESENT, ENOTSUP, "feature not present"},
    {VK_ERROR_INCOMPATIBLE_DRIVER, ENODEV, "no Vulkan driver (install mesa-vulkan-drivers)"},
    {VK_ERROR_TOO_MANY_OBJECTS, ENOMEM, "too many objects"},
};

int vk_result_fault(VkResult result, const char *call, struct fault *fault)
{
    int call_len = (int)strcspn(call, "(");
    for (size_t i = 0; i < ARRAY_LEN(vk_results); i++)
        if (vk_results[i].result == result)
            return fault_set(fault, vk_results[i].err, "Vulkan: %.*s: %s", call_len, call,
                             vk_results[i].words);
    return fault_set(fault, EIO, "Vulkan: %.*s: error %d", call_len, call, (int)result);
}

void vk_name(struct vk_device *dev, VkObjectType type, uint64_t handle, const char *name)
{
    if (!dev->set_name || !name)
        return;
    dev->set_name(dev->handle, &(VkDebugUtilsObjectNameInfoEXT){
                                   .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
                                   .objectType = type,
                                   .objectHandle = handle,
                                   .pObjectName = name});
}

/* ------------------------------------------------------------- instance */

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *user)
{
    (void)types;
    struct vk_device *dev = user;
    if (severity >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT) {
        atomic_fetch_add_explicit(&dev->messages, 1, memory_order_relaxed);
        fprintf(stderr, "vulkan validation: %s\n", data->pMessage);
    }
    return VK_FALSE;
}

static int instance_create(struct vk_device *dev, bool validate, struct fault *fault)
{
    int err = 0;
    static const char *const layers[] = {"VK_LAYER_KHRONOS_validation"};
    static const char *const extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME};
    static const VkValidationFeatureEnableEXT enables[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                        .enabledValidationFeatureCount = ARRAY_LEN(enables),
                                        .pEnabledValidationFeatures = enables};
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .pApplicationName = "expertd",
                             .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pNext = validate ? &features : NULL,
                                 .pApplicationInfo = &app,
                                 .enabledLayerCount = validate ? 1 : 0,
                                 .ppEnabledLayerNames = layers,
                                 .enabledExtensionCount = validate ? 1 : 0,
                                 .ppEnabledExtensionNames = extensions};
    VK_TRY(vkCreateInstance(&info, NULL, &dev->instance));
    if (!validate)
        return 0;

    PFN_vkCreateDebugUtilsMessengerEXT create = (PFN_vkCreateDebugUtilsMessengerEXT)(void (*)(
        void))vkGetInstanceProcAddr(dev->instance, "vkCreateDebugUtilsMessengerEXT");
    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = dev};
    if (create)
        VK_TRY(create(dev->instance, &messenger, NULL, &dev->messenger));
    return 0;
fail:
    return err;
}

/* --------------------------------------------------------------- limits */

static uint64_t host_memory_kib(const char *key)
{
    FILE *f = fopen("/proc/meminfo", "re");
    if (!f)
        return 0;
    char line[128];
    uint64_t kib = 0;
    size_t key_len = strlen(key);
    while (fgets(line, sizeof(line), f))
        if (!strncmp(line, key, key_len) && line[key_len] == ':')
            kib = strtoull(line + key_len + 1, NULL, 10);
    fclose(f);
    return kib;
}

static bool has_extension(VkPhysicalDevice physical, const char *name)
{
    uint32_t n = 0;
    if (vkEnumerateDeviceExtensionProperties(physical, NULL, &n, NULL) < 0 || n == 0)
        return false;
    VkExtensionProperties *list = calloc(n, sizeof(*list));
    bool found = false;
    if (list && vkEnumerateDeviceExtensionProperties(physical, NULL, &n, list) >= 0)
        for (uint32_t i = 0; i < n && !found; i++)
            found = !strcmp(list[i].extensionName, name);
    free(list);
    return found;
}

static void limits_memory(VkPhysicalDevice physical, struct vk_limits *limits)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    bool has_budget = has_extension(physical, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = has_budget ? &budget : NULL};
    vkGetPhysicalDeviceMemoryProperties2(physical, &memory);

    for (uint32_t i = 0; i < memory.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &memory.memoryProperties.memoryHeaps[i];
        if (!(heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) || heap->size <= limits->memory_bytes)
            continue;
        limits->memory_bytes = heap->size;
        limits->memory_available = has_budget && budget.heapBudget[i] > budget.heapUsage[i]
                                       ? budget.heapBudget[i] - budget.heapUsage[i]
                                       : heap->size;
    }
    limits->host_available = host_memory_kib("MemAvailable") << 10;
    // lavapipe reports a heap of 2 GiB whatever the machine has; its memory is the host's.
    if (limits->is_cpu) {
        limits->memory_bytes = host_memory_kib("MemTotal") << 10;
        limits->memory_available = limits->host_available;
    }
}

static void uuid_text(const uint8_t *uuid, char *ret)
{
    static const uint8_t dash_before[16] = {[4] = 1, [6] = 1, [8] = 1, [10] = 1};
    for (int i = 0; i < 16; i++) {
        if (dash_before[i])
            *ret++ = '-';
        *ret++ = "0123456789abcdef"[uuid[i] >> 4];
        *ret++ = "0123456789abcdef"[uuid[i] & 15];
    }
    *ret = '\0';
}

static void limits_read(VkPhysicalDevice physical, struct vk_limits *limits)
{
    bool has_import = has_extension(physical, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT import = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
        .pNext = has_import ? &import : NULL};
    VkPhysicalDeviceMaintenance3Properties maintenance = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &subgroup};
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES, .pNext = &maintenance};
    VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
                                       .pNext = &driver};
    VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                         .pNext = &id};
    vkGetPhysicalDeviceProperties2(physical, &props);
    const VkPhysicalDeviceProperties *p = &props.properties;

    *limits = (struct vk_limits){
        .vendor_id = p->vendorID,
        .device_id = p->deviceID,
        .driver_version = p->driverVersion,
        .is_cpu = p->deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU,
        .is_integrated = p->deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU,
        .subgroup = subgroup.subgroupSize,
        .workgroup_max = p->limits.maxComputeWorkGroupInvocations,
        .storage_range_max = p->limits.maxStorageBufferRange,
        .texel_elements_max = p->limits.maxTexelBufferElements,
        .allocation_max = maintenance.maxMemoryAllocationSize,
        .allocations_max = p->limits.maxMemoryAllocationCount,
        .import_align = import.minImportedHostPointerAlignment,
        .cooperative_matrix = has_extension(physical, "VK_KHR_cooperative_matrix"),
    };
    snprintf(limits->name, sizeof(limits->name), "%s", p->deviceName);
    snprintf(limits->driver, sizeof(limits->driver), "%.120s %.120s", driver.driverName,
             driver.driverInfo);
    uuid_text(id.deviceUUID, limits->uuid);
    limits_memory(physical, limits);
}

/* ------------------------------------------------------------ selection */

static int physical_list(VkInstance instance, VkPhysicalDevice *devices, uint32_t *n)
{
    *n = DEVICES_MAX;
    VkResult result = vkEnumeratePhysicalDevices(instance, n, devices);
    return result < 0 ? -ENODEV : 0;
}

static const char *type_name(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return "CPU";
    default:
        return "other";
    }
}

static int type_rank(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 4;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return 3;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return 1;
    default:
        return 0;
    }
}

static void list_text(const VkPhysicalDevice *devices, uint32_t n, char *buf, size_t buf_bytes,
                      const char *separator)
{
    size_t used = 0;
    buf[0] = '\0';
    for (uint32_t i = 0; i < n && used < buf_bytes; i++) {
        VkPhysicalDeviceProperties p;
        vkGetPhysicalDeviceProperties(devices[i], &p);
        used += (size_t)snprintf(buf + used, buf_bytes - used, "%s%u: %s (%s)", i ? separator : "",
                                 i, p.deviceName, type_name(p.deviceType));
    }
}

static bool select_matches(const char *select, uint32_t idx, VkPhysicalDevice physical)
{
    char *end;
    unsigned long number = strtoul(select, &end, 10);
    if (*select && isdigit((unsigned char)*select) && !*end)
        return number == idx;

    struct vk_limits limits;
    limits_read(physical, &limits);
    return !strcasecmp(select, limits.uuid) || strcasestr(limits.name, select);
}

static int physical_select(VkInstance instance, const char *select, VkPhysicalDevice *ret,
                           struct fault *fault)
{
    VkPhysicalDevice devices[DEVICES_MAX];
    uint32_t n;
    if (physical_list(instance, devices, &n) < 0 || n == 0)
        return fault_set(fault, ENODEV,
                         "no Vulkan device: install a driver (Debian: mesa-vulkan-drivers)");

    bool automatic = !select || !*select || !strcmp(select, "auto");
    int best = -1, best_rank = -1;
    for (uint32_t i = 0; i < n; i++) {
        VkPhysicalDeviceProperties p;
        vkGetPhysicalDeviceProperties(devices[i], &p);
        if (automatic ? type_rank(p.deviceType) > best_rank
                      : best < 0 && select_matches(select, i, devices[i])) {
            best = (int)i;
            best_rank = type_rank(p.deviceType);
        }
    }
    if (best < 0) {
        char list[FAULT_TEXT_MAX];
        list_text(devices, n, list, sizeof(list), "; ");
        return fault_set(fault, ENODEV, "no Vulkan device matches \"%s\"; there is %s", select,
                         list);
    }
    *ret = devices[best];
    return 0;
}

static void instance_only_fini(struct vk_device *dev)
{
    if (dev->instance)
        vkDestroyInstance(dev->instance, NULL);
}

int vk_device_probe(const char *select, struct vk_limits *ret, struct fault *fault)
{
    struct vk_device dev = {0};
    VkPhysicalDevice physical;
    int err = instance_create(&dev, false, fault);
    if (!err)
        err = physical_select(dev.instance, select, &physical, fault);
    if (!err)
        limits_read(physical, ret);
    instance_only_fini(&dev);
    return err;
}

/* --------------------------------------------------------------- device */

// Every feature a kernel uses, by the name a user can look up.
static int features_check(VkPhysicalDevice physical, struct fault *fault)
{
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDeviceVulkan11Features f11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &f12};
    VkPhysicalDeviceFeatures2 f2 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                    .pNext = &f11};
    vkGetPhysicalDeviceFeatures2(physical, &f2);
    const struct {
        const char *name;
        VkBool32 present;
    } needed[] = {
        {"timelineSemaphore", f12.timelineSemaphore},
        {"bufferDeviceAddress", f12.bufferDeviceAddress},
        {"storageBuffer16BitAccess", f11.storageBuffer16BitAccess},
        {"shaderInt64", f2.features.shaderInt64},
    };
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (!needed[i].present)
            return fault_set(fault, ENOTSUP, "the Vulkan device lacks %s", needed[i].name);
    if (!has_extension(physical, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME))
        return fault_set(fault, ENOTSUP, "the Vulkan device lacks %s",
                         VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME);
    return 0;
}

// How well a family serves for copies beside kernels of family `kernels`; 0: not at all.  One for
// nothing but transfers is a DMA engine.
static int copy_rank(const VkQueueFamilyProperties *family, bool kernels)
{
    const VkQueueFlags any = VK_QUEUE_TRANSFER_BIT | VK_QUEUE_COMPUTE_BIT | VK_QUEUE_GRAPHICS_BIT;
    if ((family->queueFlags & any) == VK_QUEUE_TRANSFER_BIT)
        return 3;
    if (kernels)
        return family->queueCount > 1 ? 2 : 0;
    return family->queueFlags & any ? 1 : 0;
}

// The family of the kernels' queue, and the queue for copies: number *ret_copy_queue of its family.
static int queues_find(struct vk_device *dev, uint32_t *ret_copy_queue, struct fault *fault)
{
    VkQueueFamilyProperties families[32];
    uint32_t n = ARRAY_LEN(families), i = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(dev->physical, &n, families);
    while (i < n && !(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT))
        i++;
    if (i == n)
        return fault_set(fault, ENOTSUP, "the Vulkan device has no compute queue");
    dev->queue_family = dev->copy_family = i;
    int best = 0;
    for (i = 0; i < n; i++)
        if (copy_rank(&families[i], i == dev->queue_family) > best) {
            best = copy_rank(&families[i], i == dev->queue_family);
            dev->copy_family = i;
        }
    *ret_copy_queue = best > 0 && dev->copy_family == dev->queue_family ? 1 : 0;
    return 0;
}

static int device_create(struct vk_device *dev, struct fault *fault)
{
    int err = features_check(dev->physical, fault);
    if (err)
        return err;
    uint32_t copy_queue = 0;
    err = queues_find(dev, &copy_queue, fault);
    if (err)
        return err;

    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .timelineSemaphore = VK_TRUE,
        .bufferDeviceAddress = VK_TRUE};
    VkPhysicalDeviceVulkan11Features f11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &f12,
        .storageBuffer16BitAccess = VK_TRUE};
    VkPhysicalDeviceFeatures2 f2 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                    .pNext = &f11,
                                    .features = {.shaderInt64 = VK_TRUE}};
    static const char *const extensions[] = {VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME,
                                             VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME};
    VkDeviceQueueCreateInfo queues[] = {{.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                         .queueFamilyIndex = dev->queue_family,
                                         .queueCount = copy_queue + 1,
                                         .pQueuePriorities = (float[]){1.0f, 1.0f}},
                                        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                         .queueFamilyIndex = dev->copy_family,
                                         .queueCount = 1,
                                         .pQueuePriorities = (float[]){1.0f}}};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &f2,
                               .queueCreateInfoCount =
                                   dev->copy_family == dev->queue_family ? 1 : 2,
                               .pQueueCreateInfos = queues,
                               .enabledExtensionCount = dev->limits.import_align ? 2 : 1,
                               .ppEnabledExtensionNames = extensions};
    VK_TRY(vkCreateDevice(dev->physical, &info, NULL, &dev->handle));
    vkGetDeviceQueue(dev->handle, dev->queue_family, 0, &dev->queue);
    vkGetDeviceQueue(dev->handle, dev->copy_family, copy_queue, &dev->copy_queue);
    vkGetPhysicalDeviceMemoryProperties(dev->physical, &dev->memory);
    dev->push_descriptor_set = (PFN_vkCmdPushDescriptorSetKHR)(void (*)(void))vkGetDeviceProcAddr(
        dev->handle, "vkCmdPushDescriptorSetKHR");
    if (dev->limits.import_align)
        dev->host_pointer_properties = (PFN_vkGetMemoryHostPointerPropertiesEXT)(void (*)(
            void))vkGetDeviceProcAddr(dev->handle, "vkGetMemoryHostPointerPropertiesEXT");
    if (dev->messenger)
        dev->set_name = (PFN_vkSetDebugUtilsObjectNameEXT)(void (*)(void))vkGetDeviceProcAddr(
            dev->handle, "vkSetDebugUtilsObjectNameEXT");

    VK_TRY(vkCreateCommandPool(
        dev->handle,
        &(VkCommandPoolCreateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                   .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                   .queueFamilyIndex = dev->queue_family},
        NULL, &dev->pool));
    err = vk_timeline_init(dev, &dev->compute, fault);
    if (!err)
        err = vk_timeline_init(dev, &dev->copies, fault);
fail:
    return err;
}

/* ------------------------------------------------------- pipeline cache */

// The header that Vulkan puts in front of cache data, plus nothing of ours: a file of another
// device or driver is left alone and written anew later.
static bool cache_header_fits(const struct vk_device *dev, const void *data, size_t bytes)
{
    VkPhysicalDeviceProperties p;
    vkGetPhysicalDeviceProperties(dev->physical, &p);
    VkPipelineCacheHeaderVersionOne header;
    if (bytes < sizeof(header))
        return false;
    memcpy(&header, data, sizeof(header));
    return header.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           header.vendorID == p.vendorID && header.deviceID == p.deviceID &&
           !memcmp(header.pipelineCacheUUID, p.pipelineCacheUUID, VK_UUID_SIZE);
}

static void *cache_file_read(const char *path, size_t *ret_bytes)
{
    struct stat st;
    void *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        st.st_size <= (off_t)CACHE_BYTES_MAX) {
        data = malloc((size_t)st.st_size);
        if (data && read(fd, data, (size_t)st.st_size) != st.st_size) {
            free(data);
            data = NULL;
        }
        *ret_bytes = (size_t)st.st_size;
    }
    close(fd);
    return data;
}

static int cache_create(struct vk_device *dev, const char *path, struct fault *fault)
{
    int err = 0;
    size_t bytes = 0;
    void *data = NULL;
    if (path) {
        dev->cache_path = strdup(path);
        if (!dev->cache_path)
            return fault_set(fault, ENOMEM, "out of memory");
        data = cache_file_read(path, &bytes);
        if (data && !cache_header_fits(dev, data, bytes))
            bytes = 0;
    }
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = data ? bytes : 0,
                                      .pInitialData = data};
    VK_TRY(vkCreatePipelineCache(dev->handle, &info, NULL, &dev->cache));
fail:
    free(data);
    return err;
}

int vk_device_cache_save(struct vk_device *dev)
{
    struct stat st;
    if (!dev->cache_path)
        return 0;
    if (lstat(dev->cache_path, &st) == 0 && !S_ISREG(st.st_mode))
        return -EINVAL; // a device, a link: not ours to replace
    size_t bytes = 0;
    if (vkGetPipelineCacheData(dev->handle, dev->cache, &bytes, NULL) < 0 || bytes == 0)
        return -EIO;
    void *data = malloc(bytes);
    char temp[4096];
    int err = -ENOMEM, fd = -1;
    if (!data ||
        snprintf(temp, sizeof(temp), "%s.%d", dev->cache_path, (int)getpid()) >= (int)sizeof(temp))
        goto out;
    err = -EIO;
    if (vkGetPipelineCacheData(dev->handle, dev->cache, &bytes, data) < 0)
        goto out;
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        err = -errno;
        goto out;
    }
    if (write(fd, data, bytes) != (ssize_t)bytes || rename(temp, dev->cache_path) < 0) {
        err = errno ? -errno : -EIO;
        unlink(temp);
        goto out;
    }
    err = 0;
out:
    if (fd >= 0)
        close(fd);
    free(data);
    return err;
}

/* --------------------------------------------------------- open, close */

int vk_device_open(const struct vk_device_params *params, struct vk_device **ret,
                   struct fault *fault)
{
    struct vk_device *dev = calloc(1, sizeof(*dev));
    if (!dev)
        return fault_set(fault, ENOMEM, "out of memory");

    int err = instance_create(dev, params->validate, fault);
    if (!err)
        err = physical_select(dev->instance, params->select, &dev->physical, fault);
    if (err)
        goto fail;
    limits_read(dev->physical, &dev->limits);
    dev->path = dev->limits.is_cpu ? VK_PATH_TEXEL : VK_PATH_ADDRESS;
    if (params->path >= 0)
        dev->path = (enum vk_path)params->path;
    err = device_create(dev, fault);
    if (!err)
        err = cache_create(dev, params->pipeline_cache, fault);
    if (!err)
        err = vk_buffer_create(
            dev,
            &(struct vk_buffer_params){.bytes = 256, .memory = VK_MEMORY_DEVICE, .name = "dummy"},
            &dev->dummy, fault);
    if (!err)
        err = vk_device_selftest(dev, fault);
    if (err)
        goto fail;
    *ret = dev;
    return 0;
fail:
    vk_device_close(&dev);
    return err;
}

void vk_device_close(struct vk_device **devp)
{
    struct vk_device *dev = *devp;
    *devp = NULL;
    if (!dev)
        return;
    if (dev->handle) {
        vkDeviceWaitIdle(dev->handle);
        vk_cmd_destroy(&dev->transfer);
        vk_buffer_destroy(&dev->staging);
        vk_buffer_destroy(&dev->dummy);
        vk_pipelines_destroy(dev);
        vkDestroyPipelineCache(dev->handle, dev->cache, NULL);
        vkDestroySemaphore(dev->handle, dev->compute.semaphore, NULL);
        vkDestroySemaphore(dev->handle, dev->copies.semaphore, NULL);
        vkDestroyCommandPool(dev->handle, dev->pool, NULL);
        vkDestroyDevice(dev->handle, NULL);
    }
    if (dev->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy =
            (PFN_vkDestroyDebugUtilsMessengerEXT)(void (*)(void))vkGetInstanceProcAddr(
                dev->instance, "vkDestroyDebugUtilsMessengerEXT");
        if (destroy)
            destroy(dev->instance, dev->messenger, NULL);
    }
    if (dev->instance)
        vkDestroyInstance(dev->instance, NULL);
    free(dev->cache_path);
    free(dev);
}

const struct vk_limits *vk_device_limits(const struct vk_device *dev)
{
    return &dev->limits;
}

enum vk_path vk_device_path(const struct vk_device *dev)
{
    return dev->path;
}

uint32_t vk_device_messages(const struct vk_device *dev)
{
    return atomic_load_explicit(&dev->messages, memory_order_relaxed);
}
