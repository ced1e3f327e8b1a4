// SPDX-License-Identifier: MIT
#include "tests/alloc_fail.h"

#include "tests/check.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
char *__real_strdup(const char *text);
char *__real_realpath(const char *path, char *ret);
void __real_free(void *memory);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);
char *__wrap_strdup(const char *text);
char *__wrap_realpath(const char *path, char *ret);
void __wrap_free(void *memory);

// All below `lock`.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned left = UINT32_MAX; // allocations until one fails; UINT32_MAX: none does
static bool alone;                 // those after it do not fail
static bool failed, paused;
static long live; // allocated and not freed

bool alloc_fail_hit(void)
{
    pthread_mutex_lock(&lock);
    bool now = false;
    if (left != UINT32_MAX && !paused) {
        now = left > 0 ? --left == 0 : !alone;
        failed |= now;
    }
    pthread_mutex_unlock(&lock);
    return now;
}

static void *took(void *memory)
{
    pthread_mutex_lock(&lock);
    live += memory != NULL;
    pthread_mutex_unlock(&lock);
    return memory;
}

void *__wrap_malloc(size_t bytes)
{
    return alloc_fail_hit() ? NULL : took(__real_malloc(bytes));
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return alloc_fail_hit() ? NULL : took(__real_calloc(n, bytes));
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    if (alloc_fail_hit())
        return NULL;
    return memory ? __real_realloc(memory, bytes) : took(__real_realloc(NULL, bytes));
}

void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
    return alloc_fail_hit() ? NULL : took(__real_aligned_alloc(align, bytes));
}

char *__wrap_strdup(const char *text)
{
    return alloc_fail_hit() ? NULL : took(__real_strdup(text));
}

char *__wrap_realpath(const char *path, char *ret)
{
    if (ret)
        return __real_realpath(path, ret);
    errno = ENOMEM;
    return alloc_fail_hit() ? NULL : took(__real_realpath(path, NULL));
}

void __wrap_free(void *memory)
{
    pthread_mutex_lock(&lock);
    live -= memory != NULL;
    pthread_mutex_unlock(&lock);
    __real_free(memory);
}

void *alloc_fail_malloc(size_t bytes)
{
    return __wrap_malloc(bytes);
}

void alloc_fail_free(void *memory)
{
    __wrap_free(memory);
}

void alloc_fail_pause(bool pause)
{
    pthread_mutex_lock(&lock);
    paused = pause;
    pthread_mutex_unlock(&lock);
}

static void arm(unsigned n, bool once)
{
    pthread_mutex_lock(&lock);
    left = n;
    alone = once;
    failed = false;
    pthread_mutex_unlock(&lock);
}

static bool answer_good(const struct alloc_fail_job *job, int err, const struct fault *fault)
{
    if (err == 0)
        return job->optional;
    bool told = err == -ENOMEM || (job->json && err == -EBADMSG && strstr(fault->text, "not JSON"));
    return told && fault->err == -err && fault->text[0];
}

unsigned alloc_fail_each(const struct alloc_fail_job *job)
{
    for (unsigned n = 1;; n++) {
        struct fault fault = {0};
        long before = live;
        arm(n, job->once);
        int err = job->run(job->user, &fault);
        bool one = failed;
        arm(UINT32_MAX, false);
        bool good = one ? answer_good(job, err, &fault) : err == 0;
        if (!good || live != before)
            fprintf(stderr, "allocation %u%s: %d, \"%s\", %ld not freed\n", n,
                    job->once ? " alone" : "", err, fault.text, live - before);
        CHECK(good);
        CHECK(live == before);
        if (!one)
            return n - 1;
    }
}
