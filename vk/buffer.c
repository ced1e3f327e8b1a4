// SPDX-License-Identifier: MIT
#include "vk/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STAGING_BYTES    (16u << 20) // one copy a submission; larger brings nothing over PCIe
#define UNDUMP_BYTES_MIN (1u << 20)  // smaller buffers may be worth a look
#define WAIT_NS          60000000000ull

// Memory property flags in order of preference for each use; the first type that has them all is
// taken.
static const VkMemoryPropertyFlags memory_wishes[][3] = {
    [VK_MEMORY_DEVICE] = {VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0, 0},
    [VK_MEMORY_UPLOAD] =
        {
            VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        },
    [VK_MEMORY_READBACK] =
        {
            // Without HOST_CACHED a read-back runs at tens of MB/s on a discrete GPU.
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        },
};

static int memory_type_find(const struct vk_device *dev, uint32_t allowed, enum vk_memory use,
                            uint32_t *ret)
{
    for (int wish = 0; wish < 3; wish++)
        for (uint32_t i = 0; i < dev->memory.memoryTypeCount; i++) {
            VkMemoryPropertyFlags flags = memory_wishes[use][wish];
            if ((allowed & 1u << i) &&
                (dev->memory.memoryTypes[i].propertyFlags & flags) == flags) {
                *ret = i;
                return 0;
            }
        }
    return -ENOTSUP;
}

static int buffer_zero(struct vk_buffer *buf, struct fault *fault)
{
    if (buf->map) {
        memset(buf->map, 0, buf->bytes);
        return 0;
    }
    struct vk_cmd *cmd = NULL;
    uint64_t value;
    int err = vk_cmd_create(buf->dev, &cmd, fault);
    if (!err && vk_cmd_begin(cmd))
        err = fault_set(fault, EIO, "Vulkan: cannot record zeros");
    if (!err) {
        vk_cmd_fill(cmd, buf);
        err = vk_cmd_submit(cmd, &value, fault);
    }
    if (!err)
        err = vk_wait(buf->dev, value, WAIT_NS, fault);
    vk_cmd_destroy(&cmd);
    return err;
}

// Memory of one of the allowed types for the buffer, bound to it; host: it is imported, not NULL.
static int buffer_bind(struct vk_buffer *buf, enum vk_memory use, uint64_t bytes, uint32_t allowed,
                       void *host, uint32_t *ret_type, struct fault *fault)
{
    int err = 0;
    struct vk_device *dev = buf->dev;
    if (memory_type_find(dev, allowed, use, ret_type))
        return fault_set(fault, ENOTSUP, "the Vulkan device has no memory type for this use");
    if (dev->allocations >= dev->limits.allocations_max)
        return fault_set(fault, ENOMEM, "the Vulkan device allows %u allocations, all are used",
                         dev->limits.allocations_max);

    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
        .pHostPointer = host};
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                       .pNext = host ? &import : NULL,
                                       .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VK_TRY(vkAllocateMemory(dev->handle,
                            &(VkMemoryAllocateInfo){.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                                    .pNext = &flags,
                                                    .allocationSize = bytes,
                                                    .memoryTypeIndex = *ret_type},
                            NULL, &buf->memory));
    dev->allocations++;
    VK_TRY(vkBindBufferMemory(dev->handle, buf->handle, buf->memory, 0));
    buf->address = vkGetBufferDeviceAddress(
        dev->handle,
        &(VkBufferDeviceAddressInfo){.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                     .buffer = buf->handle});
    return 0;
fail:
    return err;
}

// buffer_undump leaves the memory of a CPU device, which is the process's own, out of a core:
// hundreds of gigabytes of weights would tell nothing.  That of GPUs never is in one.
static void buffer_undump(const struct vk_buffer *buf, uint64_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)buf->map;
    uintptr_t first = (begin + page - 1) / page * page, end = (begin + bytes) / page * page;
    if (buf->dev->limits.is_cpu && bytes >= UNDUMP_BYTES_MIN && first < end)
        madvise((void *)first, end - first, MADV_DONTDUMP);
}

static int buffer_allocate(struct vk_buffer *buf, enum vk_memory use, struct fault *fault)
{
    struct vk_device *dev = buf->dev;
    VkMemoryRequirements needs;
    uint32_t type;
    vkGetBufferMemoryRequirements(dev->handle, buf->handle, &needs);
    int err = buffer_bind(buf, use, needs.size, needs.memoryTypeBits, NULL, &type, fault);
    if (err)
        return err;
    VkMemoryPropertyFlags properties = dev->memory.memoryTypes[type].propertyFlags;
    if ((properties & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) &&
        (properties & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT))
        VK_TRY(vkMapMemory(dev->handle, buf->memory, 0, VK_WHOLE_SIZE, 0, &buf->map));
    if (buf->map)
        buffer_undump(buf, needs.size);
    return 0;
fail:
    return err;
}

static int buffer_handle_make(struct vk_buffer *buf, const void *next, const char *name,
                              struct fault *fault)
{
    int err = 0;
    const struct vk_device *dev = buf->dev;
    bool concurrent = buf->copied && dev->copy_family != dev->queue_family;
    VK_TRY(vkCreateBuffer(
        dev->handle,
        &(VkBufferCreateInfo){
            .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
            .pNext = next,
            .size = buf->bytes,
            .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
                     VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                     VK_BUFFER_USAGE_TRANSFER_DST_BIT,
            .sharingMode = concurrent ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
            .queueFamilyIndexCount = concurrent ? 2 : 0,
            .pQueueFamilyIndices = (uint32_t[]){dev->queue_family, dev->copy_family}},
        NULL, &buf->handle));
    vk_name(buf->dev, VK_OBJECT_TYPE_BUFFER, (uint64_t)buf->handle, name);
fail:
    return err;
}

int vk_buffer_create(struct vk_device *dev, const struct vk_buffer_params *params,
                     struct vk_buffer **ret, struct fault *fault)
{
    int err = 0;
    struct vk_buffer *buf = calloc(1, sizeof(*buf));
    if (!buf)
        return fault_set(fault, ENOMEM, "out of memory");
    buf->dev = dev;
    buf->bytes = (params->bytes + 15) & ~15ull;
    buf->copied = params->copied;
    if (params->bytes == 0 || buf->bytes > dev->limits.allocation_max) {
        err = fault_set(fault, E2BIG, "%s: %llu bytes: one allocation of this device holds 1..%llu",
                        params->name, (unsigned long long)params->bytes,
                        (unsigned long long)dev->limits.allocation_max);
        goto fail;
    }
    err = buffer_handle_make(buf, NULL, params->name, fault);
    if (!err)
        err = buffer_allocate(buf, params->memory, fault);
    if (!err)
        err = buffer_zero(buf, fault);
    if (err)
        goto fail;
    *ret = buf;
    return 0;
fail:
    fault_prefix(fault, "%s (%.1f MB)", params->name, (double)params->bytes / 1e6);
    vk_buffer_destroy(&buf);
    return err;
}

static int import_check(const struct vk_limits *limits, const void *host, uint64_t bytes,
                        struct fault *fault)
{
    if (!limits->import_align)
        return fault_set(fault, ENOTSUP, "the Vulkan device lacks %s",
                         VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    if ((uintptr_t)host % limits->import_align || bytes % limits->import_align || bytes == 0)
        return fault_set(fault, EINVAL, "host memory must be aligned to %llu bytes for an import",
                         (unsigned long long)limits->import_align);
    if (bytes > limits->allocation_max)
        return fault_set(fault, E2BIG, "one allocation of this device holds at most %llu bytes",
                         (unsigned long long)limits->allocation_max);
    return 0;
}

int vk_buffer_import(struct vk_device *dev, void *host, uint64_t bytes, const char *name,
                     struct vk_buffer **ret, struct fault *fault)
{
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    VkMemoryHostPointerPropertiesEXT properties = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkMemoryRequirements needs;
    uint32_t type;
    struct vk_buffer *buf = calloc(1, sizeof(*buf));
    if (!buf)
        return fault_set(fault, ENOMEM, "out of memory");
    buf->dev = dev;
    buf->bytes = bytes;
    buf->map = host;
    buf->copied = true;
    int err = import_check(&dev->limits, host, bytes, fault);
    if (err)
        goto fail;
    err = buffer_handle_make(buf, &external, name, fault);
    if (err)
        goto fail;
    VK_TRY(dev->host_pointer_properties(
        dev->handle, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, host, &properties));
    vkGetBufferMemoryRequirements(dev->handle, buf->handle, &needs);
    if (needs.size > bytes) {
        err = fault_set(fault, ENOTSUP, "the Vulkan device wants %llu bytes behind the buffer",
                        (unsigned long long)(needs.size - bytes));
        goto fail;
    }
    // As for read-backs: the types that the host sees without flushing.
    err = buffer_bind(buf, VK_MEMORY_READBACK, bytes,
                      needs.memoryTypeBits & properties.memoryTypeBits, host, &type, fault);
    if (err)
        goto fail;
    *ret = buf;
    return 0;
fail:
    fault_prefix(fault, "%s (%.1f MB of host memory)", name, (double)bytes / 1e6);
    vk_buffer_destroy(&buf);
    return err;
}

void vk_buffer_destroy(struct vk_buffer **bufp)
{
    struct vk_buffer *buf = *bufp;
    *bufp = NULL;
    if (!buf)
        return;
    VkDevice device = buf->dev->handle;
    for (int i = 0; i < BIND_KIND_COUNT; i++)
        vkDestroyBufferView(device, buf->views[i], NULL);
    vkDestroyBuffer(device, buf->handle, NULL);
    if (buf->memory) {
        vkFreeMemory(device, buf->memory, NULL);
        buf->dev->allocations--;
    }
    free(buf);
}

static const VkFormat view_format[BIND_KIND_COUNT] = {
    [BIND_TEXEL_U32X4] = VK_FORMAT_R32G32B32A32_UINT,
    [BIND_TEXEL_F32X4] = VK_FORMAT_R32G32B32A32_SFLOAT,
};

// Returns VK_NULL_HANDLE if the view cannot be made; views of a buffer span all of it, cut to the
// limit.
VkBufferView vk_buffer_view(struct vk_buffer *buf, enum bind_kind kind)
{
    if (buf->views[kind])
        return buf->views[kind];
    uint64_t range_max = buf->dev->limits.texel_elements_max * 16;
    VkBufferViewCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                   .buffer = buf->handle,
                                   .format = view_format[kind],
                                   .range = buf->bytes < range_max ? buf->bytes : range_max};
    if (vkCreateBufferView(buf->dev->handle, &info, NULL, &buf->views[kind]) < 0)
        return VK_NULL_HANDLE;
    return buf->views[kind];
}

void *vk_buffer_map(struct vk_buffer *buf)
{
    return buf->map;
}

uint64_t vk_buffer_address(const struct vk_buffer *buf)
{
    return buf->address;
}

static int staging_get(struct vk_device *dev, struct fault *fault)
{
    if (dev->staging)
        return 0;
    int err = dev->transfer ? 0 : vk_cmd_create(dev, &dev->transfer, fault);
    if (err)
        return err;
    return vk_buffer_create(dev,
                            &(struct vk_buffer_params){.bytes = STAGING_BYTES,
                                                       .memory = VK_MEMORY_READBACK,
                                                       .name = "staging"},
                            &dev->staging, fault);
}

static int staged_copy(struct vk_buffer *dst, uint64_t dst_off, struct vk_buffer *src,
                       uint64_t src_off, uint64_t bytes, struct fault *fault)
{
    struct vk_device *dev = dst->dev;
    uint64_t value;
    int err = vk_cmd_begin(dev->transfer);
    if (err)
        return fault_set(fault, -err, "Vulkan: cannot record a copy");
    vk_cmd_barrier(dev->transfer);
    vk_cmd_copy(dev->transfer, dst, dst_off, src, src_off, bytes);
    vk_cmd_barrier(dev->transfer);
    err = vk_cmd_submit(dev->transfer, &value, fault);
    if (!err) {
        err = vk_wait(dev, value, WAIT_NS, fault);
        if (err) // the caller may destroy the buffer next
            vkDeviceWaitIdle(dev->handle);
    }
    return err;
}

int vk_buffer_write(struct vk_buffer *buf, uint64_t off, const void *src, uint64_t bytes,
                    struct fault *fault)
{
    if (off > buf->bytes || bytes > buf->bytes - off)
        return fault_set(fault, EINVAL, "write beyond the end of a buffer");
    if (buf->map) {
        memcpy((char *)buf->map + off, src, bytes);
        return 0;
    }
    int err = staging_get(buf->dev, fault);
    for (uint64_t done = 0; !err && done < bytes;) {
        uint64_t part = bytes - done < STAGING_BYTES ? bytes - done : STAGING_BYTES;
        memcpy(buf->dev->staging->map, (const char *)src + done, part);
        err = staged_copy(buf, off + done, buf->dev->staging, 0, part, fault);
        done += part;
    }
    return err;
}

int vk_buffer_read(struct vk_buffer *buf, uint64_t off, void *dst, uint64_t bytes,
                   struct fault *fault)
{
    if (off > buf->bytes || bytes > buf->bytes - off)
        return fault_set(fault, EINVAL, "read beyond the end of a buffer");
    if (buf->map) {
        memcpy(dst, (const char *)buf->map + off, bytes);
        return 0;
    }
    int err = staging_get(buf->dev, fault);
    for (uint64_t done = 0; !err && done < bytes;) {
        uint64_t part = bytes - done < STAGING_BYTES ? bytes - done : STAGING_BYTES;
        err = staged_copy(buf->dev->staging, 0, buf, off + done, part, fault);
        if (!err)
            memcpy((char *)dst + done, buf->dev->staging->map, part);
        done += part;
    }
    return err;
}
