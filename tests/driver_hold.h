// SPDX-License-Identifier: MIT
// driver_hold: for tests that open and close the Vulkan device many times under a leak checker: an
// instance that stays to the end keeps the driver loaded, so that its own leaks have its name, by
// which they are passed over.  Include it in one file of a test.
#pragma once
#include <stdint.h>
#include <vulkan/vulkan.h>

const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libvulkan_lvp\n";
}

static inline void driver_hold(void)
{
    static VkInstance held;
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &app};
    uint32_t n = 0;
    if (vkCreateInstance(&info, NULL, &held) == VK_SUCCESS)
        vkEnumeratePhysicalDevices(held, &n, NULL);
}
